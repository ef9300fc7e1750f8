"""The network that all recipes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.errors import ReIDError
from reidlib.models._modes import eval_mode
from reidlib.models.backbones import build_backbone
from reidlib.models.pooling import GeM, GlobalAveragePool

_POOLINGS = {"gap": GlobalAveragePool, "gem": GeM}


class ReIDNet(nn.Module):
    """Backbone, pooling, batch norm neck, L2-normalised features.

    The network of ClusterContrast and CALR, and the "bag of tricks" (Luo et al., 2019).
    The neck is a batch norm over the features whose bias stays 0, so that features are
    centred before they are L2-normalised.

    It may be put to work after ``half()``, ``bfloat16()`` or ``double()``: images are
    converted, pooling and L2-normalisation stay in float32. Train it in float32, with
    ``torch.autocast`` for speed.

    Args:
        backbone: Name of the backbone, see `build_backbone`.
        pooling: ``"gap"`` for the mean, ``"gem"`` for the generalised mean.
        pretrained: Load ImageNet weights.
        frozen_stages: Number of leading stages that keep their weights, see
            `Backbone.freeze`.
        last_stride: Stride of the last down-sampling; 1 removes it.
        weights: File with ImageNet weights, instead of the usual source.

    Attributes:
        num_features: D, the length of a feature.

    Raises:
        ReIDError: If a backbone or a pooling is unknown, the weights cannot be loaded,
            or there are fewer stages than are to be frozen.

    Example:
        >>> model = ReIDNet("efficientnet_lite0", pooling="gem").eval()
        >>> features = model(torch.zeros(2, 3, 64, 32))
        >>> features.shape, features.norm(dim=1)
        (torch.Size([2, 1280]), tensor([1., 1.], grad_fn=<LinalgVectorNormBackward0>))
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        pooling: str = "gap",
        pretrained: bool = True,
        frozen_stages: int = 0,
        last_stride: int = 1,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        if pooling not in _POOLINGS:
            raise ReIDError(
                f"pooling {pooling!r} is unknown; choose from {tuple(_POOLINGS)}"
            )
        self.backbone = build_backbone(backbone, pretrained, last_stride, weights)
        self.num_features = self.backbone.num_channels
        self.pool = _POOLINGS[pooling]()
        self.neck = nn.BatchNorm1d(self.num_features)
        self.neck.bias.requires_grad_(False)
        self.backbone.freeze(frozen_stages)

    forward_methods = ("embed",)
    """What may be called beside ``forward`` when a run has wrapped the network."""

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features before and after the neck.

        Args:
            images: ``(B, 3, H, W)`` images, normalised with ImageNet's statistics.

        Returns:
            ``(B, D)`` raw pooled features, for a triplet loss, and ``(B, D)`` features
            after the neck, for a classifier. Neither is L2-normalised.
        """
        raw = self.pool(self.backbone(images))  # (B, D) float32
        # After half() or bfloat16() the neck takes its own type alone.
        return raw, self.neck(raw.to(self.neck.weight.dtype))

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, D)`` L2-normalised features of ``(B, 3, H, W)`` images."""
        return F.normalize(self.embed(images)[1].float(), dim=1)


@torch.inference_mode()
def extract_features(
    model: nn.Module,
    batches: Iterable[Tensor],
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the features of all images.

    Args:
        model: Network in any mode; it is put into eval mode, and back after it.
        batches: Normalised images, ``(B, 3, H, W)`` each, on the device of the model.
        forward: What to call in the place of the model, such as a method of it.

    Returns:
        ``(N, D)`` float32 features on the CPU, without a graph.

    Raises:
        ReIDError: If there is no batch.

    Example:
        >>> extract_features(nn.Flatten(), [torch.zeros(4, 3, 2, 1)] * 2).shape
        torch.Size([8, 6])
    """
    with eval_mode(model):
        features = [(forward or model)(batch).float().cpu() for batch in batches]
    if not features:
        raise ReIDError("no batch of images to extract features from; give one or more")
    with torch.inference_mode(False):
        return torch.cat(features).clone()
