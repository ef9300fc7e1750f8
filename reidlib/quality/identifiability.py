"""Identifiability: how far the features of an image move when it is perturbed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import Array, check_array, check_choice, check_count
from reidlib.data.images import ImageSource, check_size, progress
from reidlib.data.samplers import sequential_batches
from reidlib.data.transforms import TestTransform
from reidlib.errors import ReIDError
from reidlib.quality.perturbations import PERTURBATIONS, perturb

Definition = Literal["pairs", "anchor"]
"""All pairs of views, or the image against each of its perturbed versions."""
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)


def identifiability(features: Array, definition: Definition = "pairs") -> Tensor:
    """Return the identifiability Q(I) of each image, QAFM-E1.

    The mean Euclidean distance between the features of an image and of its perturbed
    versions. *A low value means stable features*, and so an image that can be
    identified well, against what the name suggests. The paper's equation takes all
    pairs of views, its protocol the distances of the image to its versions alone; the
    authors' code does the former.

    Args:
        features: ``(B, N, D)`` features of N views, the image itself first; not
            L2-normalised in the paper.
        definition: ``"pairs"``, the mean over N (N - 1) / 2 pairs, or ``"anchor"``, the
            mean over the N - 1 distances to the first view.

    Returns:
        ``(B,)`` float32.

    Raises:
        ReIDError: If the shape is another, there is no perturbed version, or a feature
            is not finite.

    Example:
        >>> views = torch.tensor([[[0.0], [1.0], [3.0]]])
        >>> identifiability(views), identifiability(views, "anchor")
        (tensor([2.]), tensor([2.]))
    """
    where = "identifiability"
    check_choice(definition, "definition", where, DEFINITIONS)
    x = check_array(features, "features", where)
    if x.ndim != 3 or x.shape[1] < 2 or x.shape[2] < 1:
        raise ReIDError(
            f"{where}: features of shape {tuple(x.shape)}; give (B, N, D) with the "
            "image and at least one perturbed version of it"
        )
    # Before the differences are taken, float32 would round those of large features off.
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if not torch.isfinite(x).all():
        raise ReIDError(f"{where}: features hold NaN or inf; check the encoder")
    score = _mean_distance(x, definition)
    if not torch.isfinite(score).all():  # a square was too large
        scale = x.abs().amax()
        score = _mean_distance(x / scale, definition).double() * scale
    score = score.float()
    if not torch.isfinite(score).all():
        raise ReIDError(
            f"{where}: features go up to {float(x.abs().amax()):.3g}, and their "
            "distances are too large for float32; scale them"
        )
    return score


def _mean_distance(x: Tensor, definition: Definition) -> Tensor:
    """Return the mean distance of ``(B, N, D)`` views for each image."""
    if definition == "anchor":
        return (x[:, 1:] - x[:, :1]).norm(dim=2).mean(dim=1)
    # Not by |a|^2 + |b|^2 - 2 ab, which loses the digits of nearly equal views.
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(x, x, compute_mode=exact)  # (B, N, N)
    n = x.shape[1]
    return distance.sum(dim=(1, 2)) / (n * (n - 1))


@dataclass(frozen=True)
class Identifiability:
    """Q of a set of images by both definitions.

    Attributes:
        pairs: ``(N,)`` float32, the mean over all pairs of views.
        anchor: ``(N,)`` float32, the mean distance to the image itself.
    """

    pairs: Tensor
    anchor: Tensor


@torch.inference_mode()
def measure_identifiability(
    encode: Callable[[Tensor], Tensor],
    images: ImageSource,
    *,
    size: tuple[int, int] | None = None,
    strength: float = 1.0,
    seed: int = 0,
    prepare: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 8,
) -> Identifiability:
    """Measure the identifiability of images, QAFM-E1.

    The 35 views of each image of a batch go through the encoder together, unless they
    are so large that fewer are taken at once.

    Args:
        encode: Normalised images to ``(B, D)`` features, in evaluation mode and on the
            device of the images.
        images: The images, at the size at which they are perturbed.
        size: Height and width to which views are resized afterwards, bicubic; None
            leaves them.
        strength: Of the perturbations, see `perturb`.
        seed: Of the noise.
        prepare: From ``(B, 3, H, W)`` uint8 views to what the encoder takes; by default
            normalisation alone. The authors' code augments each view anew instead,
            which adds the noise of the augmentation to the score.
        batch_size: Images at a time; 35 times as many views are encoded.

    Returns:
        The scores, on the CPU.

    Raises:
        ReIDError: If there is no image, they are too small, or features are not finite.

    Example:
        >>> from reidlib.data import InMemoryImages, open_dataset
        >>> query = open_dataset("synthcity", size="tiny").query
        >>> mean = lambda views: views.mean(dim=(2, 3))
        >>> len(measure_identifiability(mean, InMemoryImages(query[:3])).pairs)
        3
    """
    where = "measure_identifiability"
    batch_size = check_count(batch_size, "batch_size", where)
    if size is not None:
        check_size(size)
    if not len(images):
        raise ReIDError(f"{where}: there is no image; give at least one")
    prepare = TestTransform() if prepare is None else prepare
    parts: dict[Definition, list[Tensor]] = {name: [] for name in DEFINITIONS}
    batches = images.batches(sequential_batches(len(images), batch_size))
    count = -(-len(images) // batch_size)
    for batch in progress(batches, count, "measuring quality"):
        fits = views_at_once(batch, size)
        for some in batch.split(max(1, fits // (1 + len(PERTURBATIONS)))):
            views = torch.cat(
                [some[:, None], perturb(some, strength=strength, seed=seed)], 1
            )
            flat = views.flatten(0, 1).split(fits)
            encoded = [encode(prepare(resize(part, size))) for part in flat]
            features = torch.cat(encoded).unflatten(0, views.shape[:2])
            for name, scores in parts.items():
                scores.append(identifiability(features, name).cpu())
    return Identifiability(*(torch.cat(parts[name]) for name in DEFINITIONS))


_PIXELS = 280 * 384 * 128
"""Pixels of the views that are encoded at once: 8 images at the paper's size, for which
EfficientNet-Lite0 needs 4 GB."""


def views_at_once(images: Tensor, size: tuple[int, int] | None) -> int:
    """Return how many views are encoded at once, so that memory does not run out.

    Args:
        images: ``(B, 3, H, W)``.
        size: Height and width to which views are resized; None leaves them.

    Example:
        >>> views_at_once(torch.zeros(1, 3, 128, 64), (1024, 512))
        26
    """
    pixels = max(math.prod(shape) for shape in (images.shape[-2:], size or (1, 1)))
    return max(1, _PIXELS // pixels)


def resize(images: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Resize ``(B, 3, H, W)`` uint8 images, bicubic with anti-aliasing.

    Args:
        images: Images.
        size: Height and width; None leaves them.
    """
    if size is None:
        return images
    check_size(size)
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    resized = F.interpolate(
        images.float(), size, mode="bicubic", antialias=True, align_corners=False
    )
    return resized.round_().clamp_(0, 255).to(torch.uint8)


class ScoreNormalisation(nn.Module):
    """Mean and standard deviation of a score, measured once and kept in checkpoints.

    The paper normalises by 11.109 and 0.658, which belong to its own encoder and data;
    here they are measured on the training split.

    Attributes:
        mean: Scalar.
        std: Scalar, 1 where all scores are equal.

    Example:
        >>> normalise = ScoreNormalisation()
        >>> normalise.fit(torch.tensor([1.0, 3.0]))
        >>> normalise(torch.tensor([1.0, 2.0]))
        tensor([-1.,  0.])
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    @torch.no_grad()
    def fit(self, scores: Array) -> None:
        """Measure them.

        Args:
            scores: ``(N,)`` of the training images.

        Raises:
            ReIDError: If there is none, or one is not finite.
        """
        given = check_array(scores, "scores", "ScoreNormalisation")
        if given.ndim != 1 or not len(given) or not torch.isfinite(given).all():
            raise ReIDError(
                f"ScoreNormalisation: {tuple(given.shape)} scores; give (N,) finite "
                "numbers, at least one"
            )
        values = given.double()
        mean = values.mean().to(self.mean.dtype)
        spread = values.std(correction=0).to(self.std.dtype)
        if not torch.isfinite(mean + spread):
            raise ReIDError(
                f"ScoreNormalisation: scores go up to {float(values.abs().max()):.3g}, "
                f"too large for {self.mean.dtype}; scale them"
            )
        self.mean.copy_(mean)
        self.std.copy_(spread if spread > 0 else torch.ones(()))

    def forward(self, scores: Array) -> Tensor:
        """Return ``(B,)`` scores with mean 0 and standard deviation 1 in training.

        Of float32 at least.

        Raises:
            ReIDError: If the shape is another.
        """
        given = scores
        if not isinstance(given, Tensor):
            given = check_array(given, "scores", "ScoreNormalisation")
            given = given.to(self.mean.device)
        if given.ndim != 1:
            raise ReIDError(
                f"ScoreNormalisation: {tuple(given.shape)} scores; give (B,) numbers"
            )
        given = given.to(torch.promote_types(given.dtype, torch.float32))
        return (given - self.mean) / self.std
