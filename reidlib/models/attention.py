"""Attention over the channels and the places of a feature map (AFF_SCL)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from reidlib.errors import ReIDError
from reidlib.models.reid_net import ReIDNet

Attention = Literal["none", "cam", "casam"]
"""Settings use the paper's abbreviations: CAM is `ChannelAttention`, CASAM is
`ChannelSpatialAttention`."""


class ChannelAttention(nn.Module):
    """Weigh the channels of a map, AFF-E5 and AFF-E6; AFF-E1 and AFF-E2 with maxima.

    ``G_C = sigmoid(W2 ReLU(W1 AvgPool(G)))`` and ``G' = G * G_C``: the mean value of
    each channel decides how much each channel counts. This is squeeze and excitation
    (Hu et al., CVPR 2018), the CAM of AFF_SCL.

    ``F_C = sigmoid(MLP(MaxPool(F)) + MLP(AvgPool(F)))`` and ``F' = F * F_C``: with
    ``maxima`` the same two layers also see the largest value of each channel. This is
    the first half of `ChannelSpatialAttention`.

    Args:
        channels: C.
        reduction: How many times narrower the hidden layer is.
        bias: Whether the two layers have biases; the paper's equations have none.
        maxima: Pool by the maximum as well.

    Raises:
        ReIDError: If there are fewer channels than the reduction.

    Example:
        >>> ChannelAttention(32)(torch.ones(2, 32, 8, 4)).shape
        torch.Size([2, 32, 8, 4])
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        bias: bool = False,
        maxima: bool = False,
    ) -> None:
        super().__init__()
        if channels < 1 or reduction < 1 or channels < reduction:
            raise ReIDError(
                f"attention over {channels} channels with reduction {reduction}; give "
                "1 or more of both, and no more reduction than there are channels"
            )
        self.maxima = maxima
        hidden = channels // reduction
        # 1 x 1 convolutions take the pooled (B, C, 1, 1) map as it is.
        self.perceptron = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=bias),
        )

    def weights(self, x: Tensor) -> Tensor:
        """Return the weights of AFF-E5, or of AFF-E1 with maxima.

        Args:
            x: ``(B, C, H, W)`` map.

        Returns:
            ``(B, C, 1, 1)`` weights in (0, 1).
        """
        largest = 0
        if self.maxima:
            largest = self.perceptron(x.amax(dim=(2, 3), keepdim=True))
        mean = self.perceptron(x.mean(dim=(2, 3), keepdim=True))
        return (largest + mean).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the ``(B, C, H, W)`` map with weighted channels, AFF-E6 and AFF-E2."""
        return x * self.weights(x)


class SpatialAttention(nn.Module):
    """Weigh the places of a map, AFF-E3 and AFF-E4.

    ``F_S = sigmoid(conv([MaxPool(F'); AvgPool(F')]))`` and ``F'' = F' * F_S``: a
    convolution over the largest and the mean channel decides how much each place
    counts.

    Args:
        kernel: Side of the convolution; odd. Outside of the map it sees zeros.

    Raises:
        ReIDError: If the kernel is even.

    Example:
        >>> SpatialAttention()(torch.ones(2, 32, 8, 4)).shape
        torch.Size([2, 32, 8, 4])
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ReIDError(f"kernel is {kernel}; give an odd side, such as 7")
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """Return ``(B, 1, H, W)`` weights in (0, 1), AFF-E3."""
        largest, mean = x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)
        return self.conv(torch.cat([largest, mean], dim=1)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the ``(B, C, H, W)`` map with weighted places, AFF-E4."""
        return x * self.weights(x)


class ChannelSpatialAttention(nn.Module):
    """Weigh channels, then places: AFF-E1, AFF-E2, AFF-E3 and AFF-E4.

    The convolutional block attention of Woo et al. (ECCV 2018), the CASAM of AFF_SCL:
    a `ChannelAttention` with maxima, then a `SpatialAttention`.

    Args:
        channels: C.
        reduction: How many times narrower the hidden layer of the channels is.
        kernel: Side of the spatial convolution; odd.
        bias: Whether the two layers of the channels have biases.

    Raises:
        ReIDError: If there are fewer channels than the reduction, or an even kernel.

    Example:
        >>> ChannelSpatialAttention(32)(torch.ones(2, 32, 8, 4)).shape
        torch.Size([2, 32, 8, 4])
    """

    def __init__(
        self, channels: int, reduction: int = 16, kernel: int = 7, bias: bool = False
    ) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction, bias, maxima=True)
        self.spatial = SpatialAttention(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return the ``(B, C, H, W)`` map with weighted channels and places."""
        return self.spatial(self.channel(x))


class AFF(nn.Module):
    """The attention-guided fine-grained head of AFF_SCL (its Figure 2, left).

    The component AFF-D1, whose branches AFF-T7 compares. The global branch weighs the
    whole map by a `ChannelSpatialAttention` and adds the map to the result. Then the
    channels are cut into groups. The local branch weighs each group by a
    `ChannelAttention` of its own, and the groups are concatenated.

    Args:
        channels: C of the backbone's feature map.
        groups: Number of channel groups, 2 in the paper.
        reduction: As for `ChannelAttention`.
        global_attention: ``"casam"`` for a `ChannelSpatialAttention`, ``"cam"`` for a
            `ChannelAttention`, or ``"none"``; these are the paper's abbreviations. Its
            Section 3.3 and its figure have CASAM here and CAM in the groups; the text
            beside its Table 7 has them the other way round.
        local_attention: The same for the groups.
        residual: Add the map to the result of the global branch.

    Raises:
        ReIDError: If the channels cannot be cut into equal groups, or an attention is
            unknown.

    Example:
        >>> AFF(64)(torch.ones(2, 64, 8, 4)).shape
        torch.Size([2, 64, 8, 4])
    """

    def __init__(
        self,
        channels: int,
        groups: int = 2,
        reduction: int = 16,
        global_attention: Attention = "casam",
        local_attention: Attention = "cam",
        residual: bool = True,
    ) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ReIDError(
                f"{channels} channels cannot be cut into {groups} equal groups; choose "
                "groups that divide them"
            )
        self.residual = residual and global_attention != "none"
        self.whole = _attention(global_attention, channels, reduction)
        self.parts = nn.ModuleList(
            _attention(local_attention, channels // groups, reduction)
            for _ in range(groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a ``(B, C, H, W)`` map of the same shape."""
        whole = self.whole(x)
        if self.residual:
            whole = x + whole
        groups = whole.chunk(len(self.parts), dim=1)
        parts = [part(group) for part, group in zip(self.parts, groups, strict=True)]
        return torch.cat(parts, dim=1)


def _attention(name: Attention, channels: int, reduction: int) -> nn.Module:
    if name == "none":
        return nn.Identity()
    if name == "cam":
        return ChannelAttention(channels, reduction)
    if name == "casam":
        return ChannelSpatialAttention(channels, reduction)
    raise ReIDError(f"attention {name!r} is unknown; choose from none, cam, casam")


def add_attention(
    model: ReIDNet,
    groups: int = 2,
    reduction: int = 16,
    global_attention: Attention = "casam",
    local_attention: Attention = "cam",
) -> ReIDNet:
    """Put `AFF` between the backbone and the pooling of a network.

    The result is the network of AFF_SCL.

    Args:
        model: Network, changed in place. The attention has random weights.
        groups: As for `AFF`, like the next three.
        reduction: See there.
        global_attention: See there.
        local_attention: See there; with ``"none"`` for both, nothing changes.

    Returns:
        The same network.

    Raises:
        ReIDError: As `AFF`.

    Example:
        >>> model = add_attention(ReIDNet("efficientnet_lite0", pretrained=False))
        >>> model.eval()(torch.zeros(2, 3, 64, 32)).shape
        torch.Size([2, 1280])
    """
    if global_attention == local_attention == "none":
        return model
    attention = AFF(
        model.num_features, groups, reduction, global_attention, local_attention
    )
    model.pool = nn.Sequential(OrderedDict(attention=attention, pooling=model.pool))
    return model
