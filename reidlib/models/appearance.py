"""The appearance branch of QAFM: a pyramid of dilations, a decoder, stripes.

Worked example of dilation: a 3 x 3 convolution of rate 3 reads the rows y - 3, y and
y + 3. It sees 7 rows with the 9 weights of an undilated one, which sees 3; what lies
between them it does not see.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_count
from reidlib.errors import ReIDError
from reidlib.models.attention import ChannelSpatialAttention

_DILATIONS = (2, 3, 4)


class FeaturePyramid(nn.Module):
    """Look at a map at five scales at once (MFPM), a part of QAFM-D1.

    A 1 x 1 convolution, three 3 x 3 of dilation 2, 3 and 4, and the mean of the whole
    map, each with batch norm and ReLU, are added up and mixed by a 1 x 1 convolution.

    Args:
        channels: C of the map.
        width: Channels of the paths and of the result.

    Raises:
        ReIDError: If a number is below 1.

    Example:
        >>> FeaturePyramid(16, 8)(torch.ones(2, 16, 8, 4)).shape
        torch.Size([2, 8, 8, 4])
    """

    def __init__(self, channels: int, width: int = 1024) -> None:
        super().__init__()
        check_count(channels, "channels", "FeaturePyramid")
        check_count(width, "width", "FeaturePyramid")
        self.paths = nn.ModuleList(
            [
                _conv(channels, width, 1),
                *(_conv(channels, width, 3, dilation) for dilation in _DILATIONS),
            ]
        )
        self.context = _conv(channels, width, 1)
        self.mix = _conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, width, H, W)`` of ``(B, C, H, W)``."""
        total: Tensor = self.context(x.mean(dim=(2, 3), keepdim=True))  # spread
        for path in self.paths:
            total = total + path(x)
        return self.mix(total)


class HierarchicalDecoder(nn.Module):
    """Bring the pyramid up to the finer map and join them, a part of QAFM-D1.

    The result of the pyramid is enlarged, bilinear, to the size of the finer map; a
    1 x 1 convolution brings that to as many channels; both are added and mixed.

    Args:
        channels: Channels of the finer map.
        width: Channels of the pyramid.
        out_channels: Channels of the result. The authors' code ends with one.

    Example:
        >>> decode = HierarchicalDecoder(4, 8, 6)
        >>> decode(torch.ones(2, 4, 8, 4), torch.ones(2, 8, 4, 2)).shape
        torch.Size([2, 6, 8, 4])
    """

    def __init__(self, channels: int, width: int, out_channels: int = 256) -> None:
        super().__init__()
        check_count(out_channels, "out_channels", "HierarchicalDecoder")
        self.lateral = _conv(channels, width, 1)
        self.mix = nn.Sequential(_conv(width, width, 1), _conv(width, out_channels, 1))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return ``(B, out_channels, H, W)``.

        Args:
            fine: ``(B, channels, H, W)``, the map of stride 16.
            coarse: ``(B, width, h, w)``, the pyramid of the last map.
        """
        size = fine.shape[2:]
        coarse = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
        return self.mix(self.lateral(fine) + coarse)


class LocalAttention(nn.Module):
    """Attention in each quarter of a map (LAM of the authors' code), part of QAFM-D1.

    The map is cut 2 x 2. Each quarter goes through blocks of its own: two 3 x 3
    convolutions and a `ChannelSpatialAttention`, first of ``widths[0]`` channels, then
    of ``widths[1]``. The quarters are then put together again.

    Args:
        channels: C of the map.
        widths: Channels of the two stages.

    Raises:
        ReIDError: From ``forward``, if the map has fewer than two rows or columns.

    Example:
        >>> LocalAttention(4, (16, 32))(torch.ones(2, 4, 5, 3)).shape
        torch.Size([2, 32, 5, 3])
    """

    def __init__(self, channels: int, widths: tuple[int, int] = (128, 512)) -> None:
        super().__init__()
        self.out_channels = widths[1]
        self.quarters = nn.ModuleList(
            nn.Sequential(_block(channels, widths[0]), _block(*widths))
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, widths[1], H, W)`` of ``(B, C, H, W)``."""
        if min(x.shape[2:]) < 2:
            raise ReIDError(
                f"a map of {x.shape[2]} x {x.shape[3]} places cannot be cut into "
                "quarters; give larger images"
            )
        cut = [half.tensor_split(2, dim=3) for half in x.tensor_split(2, dim=2)]
        parts = [part for half in cut for part in half]
        done = [block(part) for block, part in zip(self.quarters, parts, strict=True)]
        rows = [torch.cat(done[:2], dim=3), torch.cat(done[2:], dim=3)]
        return torch.cat(rows, dim=2)


class AppearanceBranch(nn.Module):
    """From two feature maps to a visual descriptor and its stripes (APN), QAFM-D1.

    Args:
        channels: Channels of the map of stride 16 and of the last one.
        out_features: Length of v_a, 1024 in the paper.
        width: Channels of the pyramid.
        decoder_channels: Channels that the decoder keeps.
        local_attention: Put a `LocalAttention` behind the decoder, as the authors' code
            does.
        horizontal: Stripes from top to bottom, H of E7; the paper gives no number.
        vertical: Stripes from left to right, V of E7.

    Attributes:
        num_features: Length of v_a.
        stripe_channels: Length of the descriptor of a stripe.
        num_stripes: H + V.

    Raises:
        ReIDError: If a number is below 1; from ``forward``, if the map has fewer rows
            or columns than there are stripes.

    Example:
        >>> branch = AppearanceBranch((4, 8), 16, width=8, decoder_channels=6)
        >>> v_a, stripes = branch(torch.ones(2, 4, 8, 4), torch.ones(2, 8, 4, 2))
        >>> v_a.shape, stripes.shape
        (torch.Size([2, 16]), torch.Size([2, 6, 6]))
    """

    def __init__(
        self,
        channels: tuple[int, int],
        out_features: int = 1024,
        width: int = 1024,
        decoder_channels: int = 256,
        local_attention: bool = False,
        horizontal: int = 4,
        vertical: int = 2,
    ) -> None:
        super().__init__()
        where = "AppearanceBranch"
        self.horizontal = check_count(horizontal, "horizontal", where)
        self.vertical = check_count(vertical, "vertical", where)
        self.num_stripes = horizontal + vertical
        self.num_features = check_count(out_features, "out_features", where)
        self.pyramid = FeaturePyramid(channels[1], width)
        self.decoder = HierarchicalDecoder(channels[0], width, decoder_channels)
        self.stripe_channels = decoder_channels
        self.local_attention: nn.Module = nn.Identity()
        if local_attention:
            self.local_attention = attention = LocalAttention(decoder_channels)
            self.stripe_channels = attention.out_channels
        self.project = nn.Linear(self.stripe_channels, out_features)
        self.neck = nn.BatchNorm1d(out_features)

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Return the descriptor and those of the stripes.

        Args:
            fine: ``(B, C1, H, W)``, the map of stride 16.
            coarse: ``(B, C2, h, w)``, the last map.

        Returns:
            ``(B, out_features)`` v_a and ``(B, H + V, stripe_channels)``.
        """
        x = self.local_attention(self.decoder(fine, self.pyramid(coarse))).float()
        rows, columns = x.shape[2:]
        if rows < self.horizontal or columns < self.vertical:
            raise ReIDError(
                f"a map of {rows} x {columns} places cannot be cut into "
                f"{self.horizontal} and {self.vertical} stripes; give larger images"
            )
        stripes = [
            *x.tensor_split(self.horizontal, dim=2),
            *x.tensor_split(self.vertical, dim=3),
        ]
        means = torch.stack([stripe.mean(dim=(2, 3)) for stripe in stripes], dim=1)
        whole = x.mean(dim=(2, 3)).to(self.project.weight.dtype)  # after half()
        return self.neck(self.project(whole)), means


def stripe_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """Return the cross-entropy of all stripes for each image, QAFM-E7.

    The sum over the H horizontal and the V vertical stripes.

    Args:
        logits: ``(B, H + V, C)``.
        labels: ``(B,)`` int64 identities.
        smoothing: Share of the label that is spread over all identities.

    Returns:
        ``(B,)`` float32.

    Raises:
        ReIDError: If the shapes do not fit.

    Example:
        >>> stripe_loss(torch.zeros(1, 3, 2), torch.tensor([0]))
        tensor([2.0794])
    """
    if logits.ndim != 3 or labels.shape != logits.shape[:1]:
        raise ReIDError(
            f"stripe_loss: logits of shape {tuple(logits.shape)} and labels of "
            f"{tuple(labels.shape)}; give (B, stripes, C) and (B,)"
        )
    losses = F.cross_entropy(
        logits.float().flatten(0, 1),
        labels.repeat_interleave(logits.shape[1]),
        label_smoothing=smoothing,
        reduction="none",
    )
    return losses.view(logits.shape[:2]).sum(dim=1)


def _conv(inputs: int, outputs: int, side: int, dilation: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and ReLU; the map keeps its size."""
    padding = dilation * (side // 2)
    conv = nn.Conv2d(
        inputs, outputs, side, padding=padding, dilation=dilation, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(inputs, outputs, 3),
        _conv(outputs, outputs, 3),
        ChannelSpatialAttention(outputs),
    )
