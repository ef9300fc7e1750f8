"""Image transforms of the papers, on whole batches and on the batch's device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import check_choice, check_count, check_number
from reidlib.errors import ReIDError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's channels, red, green, blue, in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's channels, red, green, blue."""


def normalise(images: Tensor) -> Tensor:
    """Subtract ImageNet's mean and divide by its standard deviation.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].

    Returns:
        ``(B, 3, H, W)``, of the same type.

    Example:
        >>> round(normalise(torch.zeros(1, 3, 2, 2))[0, 0, 0, 0].item(), 3)
        -2.118
    """
    mean = images.new_tensor(IMAGENET_MEAN)[:, None, None]
    std = images.new_tensor(IMAGENET_STD)[:, None, None]
    return (images - mean) / std


def pad_and_crop(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Pad each image with black and crop a random window of the original size.

    Args:
        images: ``(B, 3, H, W)``.
        pad: Pixels added on each of the four sides.
        generator: Source of the ``2 * B`` offsets.

    Returns:
        ``(B, 3, H, W)``; offset ``pad`` in both directions leaves an image unchanged.

    Example:
        >>> images = torch.ones(2, 3, 8, 4)
        >>> pad_and_crop(images, 3, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 8, 4])
    """
    height, width = images.shape[-2:]
    offsets = torch.randint(
        2 * pad + 1, (2, len(images)), generator=generator, device=generator.device
    ).to(images.device)
    windows = F.pad(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    batch = torch.arange(len(images), device=images.device)
    return windows[batch, :, offsets[0], offsets[1]]


def jitter_colours(
    images: Tensor, strength: float, generator: torch.Generator
) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image at random.

    Brightness, contrast and saturation are multiplied by factors drawn from
    ``[1 - strength, 1 + strength]`` and the hue is turned by up to a quarter of
    ``strength`` (1 is the whole circle), the proportions of SimCLR (ICML 2020).

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        strength: From 0 (nothing) to 1.
        generator: Source of the ``4 * B`` factors.

    Returns:
        ``(B, 3, H, W)`` in [0, 1].

    Example:
        >>> images = torch.rand(2, 3, 8, 4)
        >>> jitter_colours(images, 0.4, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 8, 4])
    """
    from kornia import enhance

    draws = _uniform((4, len(images)), generator, images.device) * 2 - 1
    brightness, contrast, saturation = 1 + strength * draws[:3]
    images = enhance.adjust_brightness_accumulative(images, brightness)
    images = enhance.adjust_contrast_with_mean_subtraction(images, contrast)
    images = enhance.adjust_saturation_with_gray_subtraction(images, saturation)
    # kornia measures the hue in radians.
    return enhance.adjust_hue(images, draws[3] * strength / 4 * 2 * torch.pi)


def erase_rectangles(
    images: Tensor,
    probability: float,
    fill: Tensor,
    generator: torch.Generator,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 3.33),
) -> Tensor:
    """Erase a random rectangle of some of the images (random erasing, AAAI 2020).

    Area and aspect are drawn uniformly, up to 100 times until the rectangle is
    smaller than the image in both directions; if none is, the image is unchanged.

    Args:
        images: ``(B, 3, H, W)``.
        probability: Probability of erasing, for each image.
        fill: ``(3,)`` value of the rectangle, in the units of ``images``.
        generator: Source of all draws.
        area: Least and largest share of the image's area.
        aspect: Least and largest height divided by width.

    Returns:
        ``(B, 3, H, W)``.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> whole = torch.ones(1, 3, 16, 8)
        >>> erased = erase_rectangles(whole, 1.0, torch.zeros(3), generator)
        >>> bool(0.0 < erased.mean() < 1.0)
        True
    """
    count, _channels, height, width = images.shape
    draws = _uniform((2, count, 100), generator, images.device)
    areas = (area[0] + (area[1] - area[0]) * draws[0]) * height * width
    aspects = aspect[0] + (aspect[1] - aspect[0]) * draws[1]
    heights = (areas * aspects).sqrt().round()
    widths = (areas / aspects).sqrt().round()
    fits = (heights < height) & (widths < width)
    first = fits.int().argmax(dim=1, keepdim=True)
    heights, widths = heights.gather(1, first), widths.gather(1, first)  # (B, 1)

    chance, top, left = _uniform((3, count, 1), generator, images.device)
    top = (top * (height - heights + 1)).floor()
    left = (left * (width - widths + 1)).floor()
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    inside_rows = (rows >= top) & (rows < top + heights)  # (B, H)
    inside_columns = (columns >= left) & (columns < left + widths)  # (B, W)
    inside_rows &= (chance < probability) & fits.any(dim=1, keepdim=True)
    mask = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return torch.where(mask, fill.to(images)[:, None, None], images)


@dataclass(frozen=True)
class TrainTransform:
    """Augmentation of training images, in the order of the papers (CALR, AFF_SCL).

    Horizontal flip, black padding and random crop, colour jitter, ImageNet
    normalisation, random erasing. Images must be resized before (`open_images`). Every
    random number comes from the generator that is passed to the call and is drawn
    on its device, so that a CPU generator gives the same augmentation on a GPU.

    Args:
        size: Height and width of the images.
        flip: Probability of a horizontal flip.
        pad: Pixels of padding on each side before the crop; 0 for none.
        erasing: Probability of random erasing.
        jitter: Strength of the colour jitter, 0 for none (`jitter_colours`).
        erasing_fill: ``"mean"`` fills the normalised image with ImageNet's mean in
            [0, 1], as the papers' code does (about 0.45 standard deviations above the
            mean colour); ``"zero"`` fills it with 0, the mean colour.

    Example:
        >>> transform = TrainTransform((8, 4), pad=1)
        >>> images = torch.zeros(2, 3, 8, 4, dtype=torch.uint8)
        >>> transform(images, torch.Generator().manual_seed(0)).dtype
        torch.float32
    """

    size: tuple[int, int] = (128, 64)
    flip: float = 0.5
    pad: int = 10
    erasing: float = 0.5
    jitter: float = 0.0
    erasing_fill: Literal["mean", "zero"] = "mean"

    def __post_init__(self) -> None:
        where = "TrainTransform"
        for name in ("flip", "erasing", "jitter"):
            check_number(getattr(self, name), name, where, 0, 1)
        check_count(self.pad, "pad", where, least=0)
        check_choice(self.erasing_fill, "erasing_fill", where, ("mean", "zero"))

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Args:
            images: ``(B, 3, H, W)`` uint8.
            generator: Source of all random numbers.

        Returns:
            ``(B, 3, H, W)`` float32, normalised.

        Raises:
            ReIDError: If the images are not uint8 or have another size.
        """
        _check_batch(images)
        if tuple(images.shape[-2:]) != tuple(self.size):
            raise ReIDError(
                f"images of {tuple(images.shape[-2:])} pixels for a transform of "
                f"{tuple(self.size)}: open them with size={tuple(self.size)}"
            )
        chance = _uniform((len(images), 1, 1, 1), generator, images.device)
        images = torch.where(chance < self.flip, images.flip(-1), images)
        if self.pad:
            images = pad_and_crop(images, self.pad, generator)
        floats = images.float() / 255
        if self.jitter:
            floats = jitter_colours(floats, self.jitter, generator)
        floats = normalise(floats)
        if self.erasing:
            level = IMAGENET_MEAN if self.erasing_fill == "mean" else (0.0, 0.0, 0.0)
            fill = torch.tensor(level)
            floats = erase_rectangles(floats, self.erasing, fill, generator)
        return floats


@dataclass(frozen=True)
class TestTransform:
    """Preparation of images for feature extraction: normalisation only.

    Example:
        >>> TestTransform()(torch.zeros(2, 3, 8, 4, dtype=torch.uint8)).shape
        torch.Size([2, 3, 8, 4])
    """

    # The name begins with Test: keep pytest from collecting the class.
    __test__ = False

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise a batch, ``(B, 3, H, W)`` uint8 to float32."""
        _check_batch(images)
        return normalise(images.float() / 255)


def _check_batch(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ReIDError(
            f"got {images.dtype} images of shape {tuple(images.shape)}: expected "
            "uint8 of shape (B, 3, H, W), as open_images gives them"
        )


def _uniform(
    shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draw on the generator's device, so that every device gets the same numbers."""
    return torch.rand(shape, generator=generator, device=generator.device).to(device)
