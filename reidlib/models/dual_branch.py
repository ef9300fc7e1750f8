"""A global and a local branch on one feature map: the network of CALS."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_choice, check_count
from reidlib.errors import ReIDError
from reidlib.models.backbones import build_backbone
from reidlib.models.pooling import GlobalAveragePool

SoftAttentionKind = Literal["sigmoid", "softmax", "none"]
Descriptor = Literal["global", "local", "both"]


class LocalSoftAttention(nn.Module):
    """Weigh the places of a map and cut it into horizontal bands, CALS-E4.

    The paper gives no formula. Here a 1 x 1 convolution gives one number for each
    place, a sigmoid or a softmax over all places makes it a weight, and the weighted
    map is cut from top to bottom into bands, each of which is averaged to a local
    descriptor. The convolution starts at 0, and so all places count the same at first.

    Args:
        channels: C.
        bands: Number of bands, 4 in the paper.
        kind: ``"sigmoid"``: weights in (0, 1), each place by itself; ``"softmax"``:
            weights whose mean is 1, places compete; ``"none"``: bands without weights.

    Raises:
        ReIDError: If a number is below 1 or the kind is unknown.

    Example:
        >>> LocalSoftAttention(32)(torch.ones(2, 32, 8, 4)).shape
        torch.Size([2, 4, 32])
    """

    def __init__(
        self, channels: int, bands: int = 4, kind: SoftAttentionKind = "sigmoid"
    ) -> None:
        super().__init__()
        where = "LocalSoftAttention"
        self.bands = check_count(bands, "bands", where)
        check_choice(kind, "kind", where, get_args(SoftAttentionKind))
        self.kind = kind
        if kind != "none":
            self.score = nn.Conv2d(check_count(channels, "channels", where), 1, 1)
            nn.init.zeros_(self.score.weight)
            nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]

    def weights(self, x: Tensor) -> Tensor:
        """Return the ``(B, 1, H, W)`` weights of the places of ``(B, C, H, W)``."""
        if self.kind == "none":
            return torch.ones_like(x[:, :1])
        score = self.score(x)
        if self.kind == "sigmoid":
            return score.sigmoid()
        return score.flatten(1).softmax(dim=1).view_as(score) * score[0].numel()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, bands, C)`` local descriptors of a ``(B, C, H, W)`` map.

        Each row of the map is in exactly one band; where the height cannot be divided,
        the upper bands are one row higher.

        Raises:
            ReIDError: If the map has fewer rows than there are bands.
        """
        if x.shape[2] < self.bands:
            raise ReIDError(
                f"a map of {x.shape[2]} x {x.shape[3]} places cannot be cut into "
                f"{self.bands} bands; give taller images, or last_stride 1"
            )
        attended = x * self.weights(x)
        bands = attended.tensor_split(self.bands, dim=2)
        return torch.stack([band.mean(dim=(2, 3)) for band in bands], dim=1)


class DualBranchNet(nn.Module):
    """Backbone, a global and a local branch, L2-normalised features.

    The map F of the backbone (CALS-E1) is averaged over all places, the global
    descriptor g of CALS-E3, and attended and cut into bands, the local descriptors of
    CALS-E4. The classifiers over pseudo labels are a module of their own,
    `PartClassifiers`, since their number of classes changes with the clusters.

    Args:
        backbone: Name of the backbone, see `build_backbone`.
        attention: Kind of the local soft attention, see `LocalSoftAttention`.
        bands: Number of bands.
        descriptor: What ``forward`` returns for retrieval, which the paper does not
            say: ``"global"``, g; ``"local"``, the bands side by side; ``"both"``, the
            two, each of length 1 before they are put together.
        pretrained: Load ImageNet weights.
        frozen_stages: As for `ReIDNet`.
        last_stride: Stride of the last down-sampling; 1 removes it.
        weights: File with ImageNet weights, instead of the usual source.

    Attributes:
        num_channels: C, the length of one descriptor.
        num_features: D, the length of a feature.

    Raises:
        ReIDError: If a choice is unknown, the weights cannot be loaded, or there are
            fewer stages than are to be frozen.

    Example:
        >>> model = DualBranchNet("tiny", descriptor="both", pretrained=False).eval()
        >>> model(torch.zeros(2, 3, 128, 64)).shape
        torch.Size([2, 320])
    """

    forward_methods = ("descriptors",)
    """What may be called beside ``forward`` when a run has wrapped the network."""

    def __init__(
        self,
        backbone: str = "efficientnet_b0",
        attention: SoftAttentionKind = "sigmoid",
        bands: int = 4,
        descriptor: Descriptor = "global",
        pretrained: bool = True,
        frozen_stages: int = 0,
        last_stride: int = 1,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        check_choice(descriptor, "descriptor", "DualBranchNet", get_args(Descriptor))
        self.descriptor = descriptor
        self.backbone = build_backbone(backbone, pretrained, last_stride, weights)
        self.backbone.freeze(frozen_stages)
        self.num_channels = self.backbone.num_channels
        self.pool = GlobalAveragePool()
        self.attention = LocalSoftAttention(self.num_channels, bands, attention)
        parts = {"global": 1, "local": bands, "both": 1 + bands}
        self.num_features = parts[descriptor] * self.num_channels

    def descriptors(self, images: Tensor) -> Tensor:
        """Return the global and the local descriptors, not L2-normalised.

        Args:
            images: ``(B, 3, H, W)`` images, normalised with ImageNet's statistics.

        Returns:
            ``(B, 1 + bands, C)``: g of CALS-E3 first, then the bands from top to
            bottom, CALS-E4.
        """
        feature_map = self.backbone(images)  # (B, C, h, w), CALS-E1
        whole = self.pool(feature_map)
        return torch.cat([whole[:, None], self.attention(feature_map)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, D)`` L2-normalised features of ``(B, 3, H, W)`` images."""
        whole, local = split_descriptors(self.descriptors(images))
        features = {"global": whole, "local": local}.get(self.descriptor)
        if features is None:
            features = F.normalize(torch.cat([whole, local], dim=1), dim=1)
        return features


def split_descriptors(descriptors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features of the two branches, each L2-normalised.

    Args:
        descriptors: ``(B, 1 + bands, C)`` from `DualBranchNet.descriptors`.

    Returns:
        ``(B, C)`` global and ``(B, bands C)`` local features, float32.

    Example:
        >>> whole, local = split_descriptors(torch.ones(1, 5, 4))
        >>> whole, local.shape
        (tensor([[0.5000, 0.5000, 0.5000, 0.5000]]), torch.Size([1, 16]))
    """
    whole, local = descriptors[:, 0].float(), descriptors[:, 1:].flatten(1).float()
    return F.normalize(whole, dim=1), F.normalize(local, dim=1)


class PartClassifiers(nn.Module):
    """A fully connected layer over the classes for each part of an image.

    In CALS one for the global descriptor (CALS-E3) and one for each band (CALS-E4), in
    QAFM one for each stripe (QAFM-E7), with nothing in common.

    Args:
        num_features: D, the length of a descriptor.
        num_classes: Number of classes.
        num_parts: P.

    Example:
        >>> PartClassifiers(8, 3, 5)(torch.zeros(2, 5, 8)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(self, num_features: int, num_classes: int, num_parts: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(num_features, num_classes) for _ in range(num_parts)
        )

    def forward(self, descriptors: Tensor) -> Tensor:
        """Return ``(B, P, classes)`` logits of ``(B, P, D)`` descriptors."""
        each = zip(self.layers, descriptors.unbind(dim=1), strict=True)
        return torch.stack([layer(one) for layer, one in each], dim=1)


def branch_predictions(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each branch predicts; the local one is the mean of its bands.

    Args:
        logits: ``(B, 1 + bands, classes)`` from `PartClassifiers`.

    Returns:
        Two ``(B, classes)`` distributions, float32: global and local.
    """
    each = logits.float().softmax(dim=-1)
    return each[:, 0], each[:, 1:].mean(dim=1)
