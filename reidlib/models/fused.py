"""Appearance, attributes and image quality in one network: that of QAFM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TestTransform,
    TrainTransform,
)
from reidlib.models.appearance import AppearanceBranch
from reidlib.models.attributes import AttributeBranch
from reidlib.models.backbones import Backbone, build_backbone
from reidlib.quality.fusion import AlphaWeighs, WeightedFusion
from reidlib.quality.identifiability import (
    Definition,
    identifiability,
    resize,
    views_at_once,
)
from reidlib.quality.perturbations import PERTURBATIONS, perturb


class Branches(NamedTuple):
    """What the two branches make of a batch.

    Attributes:
        appearance: ``(B, D)`` v_a.
        stripes: ``(B, H + V, channels)`` descriptors of the stripes.
        attributes: ``(B, D)`` v_s.
        logits: Predictions of the attribute heads.
    """

    appearance: Tensor
    stripes: Tensor
    attributes: Tensor
    logits: list[Tensor]


class QualityEncoder(nn.Module):
    """The fixed network that measures identifiability (the IQA branch of QAFM).

    Its weights do not change while the branches are trained.

    Args:
        backbone: Trained network; its map is averaged over all places.
        size: Height and width of what it sees; None leaves the images as they are.
        definition: Of the score, see `identifiability`.
        views: How many views are encoded at once, at most.
        augment: Augmentation that each view passes through, as in the published code;
            its size is ``size``. None normalises alone.

    Example:
        >>> images = torch.zeros(2, 3, 32, 16, dtype=torch.uint8)
        >>> encoder = QualityEncoder(build_backbone("tiny", pretrained=False)).eval()
        >>> encoder(images).shape
        torch.Size([2])
    """

    def __init__(
        self,
        backbone: Backbone,
        size: tuple[int, int] | None = None,
        definition: Definition = "pairs",
        views: int = 560,
        augment: TrainTransform | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.size = size
        self.definition = definition
        self.views = views
        self.augment = augment

    def preparation(self, seed: int = 0) -> Callable[[Tensor], Tensor]:
        """Return what makes the encoder's input of ``(B, 3, H, W)`` uint8 views.

        Args:
            seed: Of the augmentation, which is drawn anew at each call of it.
        """
        if self.augment is None:
            return TestTransform()
        drawn = torch.Generator().manual_seed(seed)
        return partial(self.augment, generator=drawn)

    def encode(self, images: Tensor) -> Tensor:
        """Return ``(B, D)`` raw features of normalised images."""
        return self.backbone(images).float().mean(dim=(2, 3))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the ``(B,)`` scores of ``(B, 3, H, W)`` uint8 images, QAFM-E1."""
        # Scores are compared with those that were measured in float32.
        with torch.autocast(images.device.type, enabled=False):
            fits = min(self.views, views_at_once(images, self.size))
            some = images.split(max(1, fits // (1 + len(PERTURBATIONS))))
            prepare = self.preparation()
            return torch.cat([self._measure(part, fits, prepare) for part in some])

    def _measure(
        self, images: Tensor, fits: int, prepare: Callable[[Tensor], Tensor]
    ) -> Tensor:
        views = torch.cat([images[:, None], perturb(images)], dim=1)
        features = [
            self.encode(prepare(resize(part, self.size)))
            for part in views.flatten(0, 1).split(fits)
        ]
        whole = torch.cat(features).unflatten(0, views.shape[:2])
        return identifiability(whole, self.definition)


class FusedNet(nn.Module):
    """Two branches, and a weight between them that depends on the image's quality.

    The network of QAFM's Figure 2. Encoders (one, or one for each branch), the
    `AppearanceBranch` v_a, the `AttributeBranch` v_s, the `QualityEncoder`, and the
    `WeightedFusion` of alpha, of the weighted pair QAFM-E3 and of the last layer.

    ``forward`` needs nothing but images: it perturbs them, which costs 35 passes of the
    quality encoder. A recipe that knows the scores already calls the parts.

    It may be put to work after ``half()``, ``bfloat16()`` or ``double()``.

    Args:
        backbone: Name of the encoder, see `build_backbone`.
        num_classes: Classes of each group of attributes.
        quality: The measure of quality.
        shared_encoder: One encoder for both branches, as the figure shows; the
            authors' code has two.
        pretrained: Load ImageNet weights.
        frozen_stages: As for `ReIDNet`.
        weights: File with ImageNet weights, instead of the usual source.
        features: D, the length of v_a and of v_s.
        width: Channels of the appearance pyramid.
        decoder_channels: Channels that its decoder keeps.
        local_attention: See `AppearanceBranch`.
        stripes: Horizontal and vertical stripes.
        attribute_hidden: Channels inside of the attribute branch.
        memory_steps: Steps of its ConvLSTM, one for each group or 1.
        fused_features: Length of the descriptor.
        activation: See `FusionLayer`.
        alpha_hidden: Width of the perceptron of alpha.
        alpha_weighs: See `weigh`.
        fixed_alpha: One alpha for all images, instead of the learned one.

    Attributes:
        num_features: Length of the descriptor.

    Raises:
        ReIDError: If a choice is unknown or weights cannot be loaded.
    """

    forward_methods = ("branches", "attribute_logits", "alpha", "fuse")
    """What may be called beside ``forward`` when a run has wrapped the network."""

    def __init__(
        self,
        backbone: str,
        num_classes: Sequence[int],
        quality: QualityEncoder,
        *,
        shared_encoder: bool = False,
        pretrained: bool = True,
        frozen_stages: int = 0,
        weights: str | Path | None = None,
        features: int = 1024,
        width: int = 1024,
        decoder_channels: int = 256,
        local_attention: bool = False,
        stripes: tuple[int, int] = (4, 2),
        attribute_hidden: int = 256,
        memory_steps: int = 12,
        fused_features: int = 1000,
        activation: bool = False,
        alpha_hidden: int = 32,
        alpha_weighs: AlphaWeighs = "attributes",
        fixed_alpha: float | None = None,
    ) -> None:
        super().__init__()
        encoders = [
            build_backbone(backbone, pretrained, last_stride=2, weights=weights)
            for _ in range(1 if shared_encoder else 2)
        ]
        for one in encoders:
            one.freeze(frozen_stages)
        self.encoder = encoder = encoders[0]
        self.attribute_encoder = None if shared_encoder else encoders[1]
        self.appearance = AppearanceBranch(
            (encoder.middle_channels, encoder.num_channels),
            features,
            width,
            decoder_channels,
            local_attention,
            *stripes,
        )
        self.attributes = AttributeBranch(
            encoder.num_channels, num_classes, features, attribute_hidden, memory_steps
        )
        self.quality = quality
        self.fusion = WeightedFusion(
            *(2 * features, fused_features, activation, alpha_hidden),
            *(alpha_weighs, fixed_alpha),
        )
        self.num_features = fused_features
        self.branches_frozen = False

    def train(self, mode: bool = True) -> FusedNet:
        """Set the mode; the quality encoder and frozen branches stay in eval mode."""
        super().train(mode)
        self.quality.eval()
        if self.branches_frozen:
            for name in ("appearance", "attributes"):
                for part in self.parts()[name]:
                    part.eval()
        return self

    def parts(self) -> dict[str, list[nn.Module]]:
        """Return the modules that each of the four optimisers moves, QAFM-D4.

        A shared encoder belongs to the appearance branch.
        """
        own = [] if self.attribute_encoder is None else [self.attribute_encoder]
        return {
            "appearance": [self.encoder, self.appearance],
            "attributes": [*own, self.attributes],
            "fusion": [self.fusion.layer],
            "weight": [self.fusion.weight],
        }

    def image_parts(self) -> list[nn.Module]:
        """Return encoders and branches: what computes on images, not on descriptors."""
        parts = (
            self.encoder,
            self.attribute_encoder,
            self.appearance,
            self.attributes,
        )
        return [part for part in parts if part is not None]

    def branches(self, images: Tensor, isolated: bool = True) -> Branches:
        """Return descriptors and predictions of both branches.

        Args:
            images: ``(B, 3, H, W)`` normalised images.
            isolated: Let no gradient of the attributes into a shared encoder.
        """
        fine, last = self.encoder.pyramid(images)
        v_a, stripes = self.appearance(fine, last)
        if self.attribute_encoder is not None:
            last = self.attribute_encoder(images)
        elif isolated:
            last = last.detach()
        v_s, logits = self.attributes(last)
        return Branches(v_a, stripes, v_s, logits)

    def attribute_logits(self, images: Tensor) -> list[Tensor]:
        """Return the predictions of the attribute heads alone: stage 1 of QAFM-D4."""
        if self.attribute_encoder is not None:
            last = self.attribute_encoder(images)
        else:
            with torch.no_grad():
                last = self.encoder(images)
        logits: list[Tensor] = self.attributes(last)[1]
        return logits

    def alpha(self, scores: Tensor) -> Tensor:
        """Return the ``(B,)`` weights for ``(B,)`` scores of identifiability."""
        return self.fusion.alpha(scores)

    def fuse(
        self,
        appearance: Tensor,
        attributes: Tensor,
        alpha: Tensor | float,
        detached: bool = False,
    ) -> Tensor:
        """Return the descriptor of both branches, see `WeightedFusion`."""
        fused: Tensor = self.fusion(appearance, attributes, alpha, detached)
        return fused

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, fused_features)`` L2-normalised features.

        Args:
            images: ``(B, 3, H, W)`` normalised images, without augmentation.
        """
        made = self.branches(images)
        # In mixed precision, too, what is weighed is float32, as in the recipe.
        appearance, attributes = made.appearance.float(), made.attributes.float()
        if self.fusion.fixed_alpha is None:
            scores = self.quality(denormalise(images))
        else:
            scores = appearance.new_zeros(len(images))
        alpha = self.alpha(scores).float()
        fused = self.fuse(appearance, attributes, alpha)
        return F.normalize(fused.float(), dim=1)


def denormalise(images: Tensor) -> Tensor:
    """Return the uint8 images that were normalised with ImageNet's statistics.

    Args:
        images: ``(B, 3, H, W)`` normalised.

    Example:
        >>> levels = torch.arange(256, dtype=torch.uint8).repeat(3, 1)[None, :, None]
        >>> bool((denormalise(TestTransform()(levels)) == levels).all())
        True
    """
    images = images.float()
    mean = images.new_tensor(IMAGENET_MEAN)[:, None, None]
    std = images.new_tensor(IMAGENET_STD)[:, None, None]
    levels = 255 * (images * std + mean)
    return levels.round_().clamp_(0, 255).to(torch.uint8)
