"""Attention over channels and places of a feature map (AFF_SCL)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from reidlib.errors import ReIDError
from reidlib.models.reid_net import ReIDNet

Attention = Literal["none", "cam", "casam"]


def _perceptron(channels: int, reduction: int, bias: bool) -> nn.Sequential:
    """Return two layers from channels to channels, narrow in the middle.

    They are 1 x 1 convolutions, which take the pooled ``(B, C, 1, 1)`` map as it is.
    """
    if channels < 1 or reduction < 1 or channels < reduction:
        raise ReIDError(
            f"attention over {channels} channels with reduction {reduction}; give 1 or "
            "more of both, and no more reduction than there are channels"
        )
    hidden = channels // reduction
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=bias),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels, 1, bias=bias),
    )


class CAM(nn.Module):
    """Channel attention: squeeze and excitation, AFF-E5 and AFF-E6.

    ``G_C = sigmoid(W2 ReLU(W1 AvgPool(G)))`` and ``G' = G * G_C``: what the map holds
    on the average decides how much each channel counts (Hu et al., CVPR 2018).

    Args:
        channels: C.
        reduction: How many times narrower the hidden layer is.
        bias: Whether the two layers have biases; the papers' equations have none.

    Raises:
        ReIDError: If there are fewer channels than the reduction.

    Example:
        >>> CAM(32)(torch.ones(2, 32, 8, 4)).shape
        torch.Size([2, 32, 8, 4])
    """

    def __init__(self, channels: int, reduction: int = 16, bias: bool = False) -> None:
        super().__init__()
        self.perceptron = _perceptron(channels, reduction, bias)

    def weights(self, x: Tensor) -> Tensor:
        """Return ``(B, C, 1, 1)`` weights in (0, 1) of a ``(B, C, H, W)`` map."""
        return self.perceptron(x.mean(dim=(2, 3), keepdim=True)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the ``(B, C, H, W)`` map with weighted channels."""
        return x * self.weights(x)


class CASAM(nn.Module):
    """Attention over channels, then over places, AFF-E1 to AFF-E4.

    The convolutional block attention of Woo et al. (ECCV 2018). One perceptron looks at
    the largest and at the mean value of each channel and weighs the channels; then a
    7 x 7 convolution over the largest and the mean channel weighs the places.

    Args:
        channels: C.
        reduction: How many times narrower the perceptron's hidden layer is.
        kernel: Side of the spatial convolution; odd. Outside of the map it sees zeros.
        bias: Whether the perceptron has biases.

    Raises:
        ReIDError: If there are fewer channels than the reduction, or an even kernel.

    Example:
        >>> CASAM(32)(torch.ones(2, 32, 8, 4)).shape
        torch.Size([2, 32, 8, 4])
    """

    def __init__(
        self, channels: int, reduction: int = 16, kernel: int = 7, bias: bool = False
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ReIDError(f"kernel is {kernel}; give an odd side, such as 7")
        self.perceptron = _perceptron(channels, reduction, bias)
        self.spatial = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def channel_weights(self, x: Tensor) -> Tensor:
        """Return ``F_C``, ``(B, C, 1, 1)`` weights in (0, 1), AFF-E1."""
        largest = self.perceptron(x.amax(dim=(2, 3), keepdim=True))
        mean = self.perceptron(x.mean(dim=(2, 3), keepdim=True))
        return (largest + mean).sigmoid()

    def spatial_weights(self, x: Tensor) -> Tensor:
        """Return ``F_S``, ``(B, 1, H, W)`` weights in (0, 1), AFF-E3."""
        largest, mean = x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)
        return self.spatial(torch.cat([largest, mean], dim=1)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the ``(B, C, H, W)`` map with weighted channels and places."""
        x = x * self.channel_weights(x)  # AFF-E2
        return x * self.spatial_weights(x)  # AFF-E4


class AFF(nn.Module):
    """The attention-guided fine-grained head of AFF_SCL (its Figure 2, left).

    The whole map is attended to (global branch, CASAM) and added to itself; then its
    channels are cut into groups, each attended to by its own channel attention (local
    branch, CAM), and put together again.

    Args:
        channels: C of the backbone's feature map.
        groups: Number of channel groups, 2 in the paper.
        reduction: As for `CAM` and `CASAM`.
        global_attention: ``"casam"``, ``"cam"`` or ``"none"``. The paper's Section 3.3
            and figure have CASAM here and CAM in the groups; the text beside its Table
            7 has them the other way round.
        local_attention: The same for the groups.
        residual: Add the map to what the global branch makes of it.

    Raises:
        ReIDError: If the channels cannot be cut into equal groups, or a name is
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
        return CAM(channels, reduction)
    if name == "casam":
        return CASAM(channels, reduction)
    raise ReIDError(f"attention {name!r} is unknown; choose from none, cam, casam")


def add_attention(
    model: ReIDNet,
    groups: int = 2,
    reduction: int = 16,
    global_attention: Attention = "casam",
    local_attention: Attention = "cam",
) -> ReIDNet:
    """Put the attention of `AFF` between the backbone and the pooling of a network.

    With it, the shared network is that of AFF_SCL.

    Args:
        model: Network, changed in place. The attention starts at random.
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
