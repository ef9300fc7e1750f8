"""The 34 perturbations that probe how stable the features of an image are, QAFM-D3.

Worked example, a picture 100 pixels high and 50 wide: the smallest bar at the top
covers the rows 5 to 9 (5 % of 100, after a margin of 5 %) and the columns 2 to 47 (a
margin of 5 % of 50, rounded down), black. The smaller oval touches all four borders,
and what lies outside of it is filled with one of four colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from reidlib.checks import Array, check_array, check_count, check_number
from reidlib.errors import ReIDError

Family = Literal["lighting", "blur", "occlusion", "background", "noise"]
"""The five families."""

_COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
}
_MARGIN = 0.05
_LEAST_SIDE = 10
"""Below it the narrowest bar, 5 % of a side, has no pixel."""
_STRONGEST = 2.0
_TRUNCATE = 4.0
"""Standard deviations after which the Gaussian is cut off, as SciPy does."""


@dataclass(frozen=True)
class Perturbation:
    """One of the 34.

    Attributes:
        family: Its family.
        kind: The side of a bar, the colour of a background, the kind of a noise.
        amount: Shift of the brightness (of 255), sigma in pixels, share of the side,
            size of the oval (1 touches the borders), or strength of the noise.
    """

    family: Family
    kind: str
    amount: float

    @property
    def name(self) -> str:
        """What it is called, for a caption."""
        return f"{self.kind} {self.amount:g}".strip()


PERTURBATIONS: tuple[Perturbation, ...] = (
    *(Perturbation("lighting", "brightness", shift) for shift in (-90, -45, 45, 90)),
    *(Perturbation("blur", "blur", sigma) for sigma in (1.0, 1.5, 1.85)),
    *(
        Perturbation("occlusion", side, share)
        for side in ("top", "bottom", "left", "right")
        for share in (0.05, 0.1, 0.15, 0.2)
    ),
    *(
        Perturbation("background", colour, size)
        for size in (1.2, 1.0)
        for colour in _COLOURS
    ),
    Perturbation("noise", "gaussian", 25.0),
    Perturbation("noise", "salt and pepper", 0.02),
    Perturbation("noise", "speckle", 0.1),
)
"""All of them, QAFM-D3: 4 of lighting, 3 of blur, 16 occlusions, 8 backgrounds and 3
noises. Noise is in units of 255 (gaussian), the share of the pixels (salt and pepper,
half each), and a share of the pixel's own value (speckle)."""


def perturb(images: Array, *, strength: float = 1.0, seed: int = 0) -> Tensor:
    """Return the 34 perturbed versions of each image of a batch, QAFM-D3.

    The noise depends on the seed and on the size of the images alone. All images get
    the same noise, so that neither the batch nor the order decides about a score.

    Args:
        images: ``(B, 3, H, W)`` uint8, at least 10 pixels high and wide.
        strength: Factor of every amount, in [0, 2]: 1 as in the paper, 0 leaves the
            images as they are.
        seed: Of the noise.

    Returns:
        ``(B, 34, 3, H, W)`` uint8, in the order of `PERTURBATIONS`.

    Raises:
        ReIDError: If the images are not uint8, too small, or not of three channels, or
            the strength is outside [0, 2].

    Example:
        >>> perturb(torch.zeros(2, 3, 32, 16, dtype=torch.uint8)).shape
        torch.Size([2, 34, 3, 32, 16])
    """
    images = check_array(images, "images", "perturb")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ReIDError(
            f"perturb: {images.dtype} images of shape {tuple(images.shape)}; give "
            "uint8 of shape (B, 3, H, W)"
        )
    height, width = images.shape[-2:]
    _check_size(height, width, "perturb")
    strength = _check_strength(strength, "perturb")
    noise = _noise(height, width, _check_seed(seed, "perturb"))
    fields = {name: field.to(images.device) for name, field in noise.items()}
    floats = images.float()
    views = []
    for p in PERTURBATIONS:
        form = _TENSOR_FORMS[p.family]
        if p.family in ("occlusion", "background"):  # what is not covered stays
            views.append(form(images, p, strength, fields))
        else:
            view = form(floats, p, strength, fields)
            views.append(view.round().clamp_(0, 255).to(torch.uint8))
    return torch.stack(views, dim=1)


def perturb_image(
    image: Image.Image, *, strength: float = 1.0, seed: int = 0
) -> list[Image.Image]:
    """Return the 34 perturbed versions of one picture; see `perturb`.

    Written with SciPy and Matplotlib instead of torch. Both forms agree to one level of
    a pixel.

    Args:
        image: RGB, at least 10 pixels high and wide.
        strength: See `perturb`.
        seed: See `perturb`.

    Raises:
        ReIDError: If the picture is not RGB or too small, or the strength is outside
            [0, 2].

    Example:
        >>> len(perturb_image(Image.new("RGB", (16, 32))))
        34
    """
    if not isinstance(image, Image.Image) or image.mode != "RGB":
        raise ReIDError(
            f"perturb_image: the picture is a {type(image).__name__} of mode "
            f"{getattr(image, 'mode', None)}; give image.convert('RGB') of Pillow"
        )
    _check_size(image.height, image.width, "perturb_image")
    strength = _check_strength(strength, "perturb_image")
    seed = _check_seed(seed, "perturb_image")
    noise = _noise(image.height, image.width, seed)
    fields = {name: np.moveaxis(field.numpy(), 0, -1) for name, field in noise.items()}
    pixels = np.asarray(image).astype(np.float64)
    views = (_array_form(pixels, p, strength, fields) for p in PERTURBATIONS)
    return [Image.fromarray(np.rint(v).clip(0, 255).astype(np.uint8)) for v in views]


# -- geometry and noise, of both forms ---------------------------------------------


def _bar(side: str, share: float, height: int, width: int) -> tuple[slice, slice]:
    """Return rows and columns of a black bar along one side."""
    top, left = int(_MARGIN * height), int(_MARGIN * width)
    high, wide = int(share * height + 0.5), int(share * width + 0.5)
    rows, columns = slice(top, height - top), slice(left, width - left)
    return {
        "top": (slice(top, top + high), columns),
        "bottom": (slice(height - top - high, height - top), columns),
        "left": (rows, slice(left, left + wide)),
        "right": (rows, slice(width - left - wide, width - left)),
    }[side]


@lru_cache(maxsize=32)
def _outside(size: float, height: int, width: int) -> np.ndarray:
    """Return the ``(H, W)`` pixels whose centre is outside of an oval."""
    y = (2 * np.arange(height) + 1 - height) / (size * height)
    x = (2 * np.arange(width) + 1 - width) / (size * width)
    outside: np.ndarray = y[:, None] ** 2 + x**2 > 1
    return outside


def _oval(amount: float, strength: float) -> float:
    """Return the size of the oval: at strength 0 that which holds the corners, too."""
    return math.sqrt(2) + (amount - math.sqrt(2)) * strength


def _noise(height: int, width: int, seed: int) -> dict[str, Tensor]:
    """Return ``(3, H, W)`` or ``(1, H, W)`` random numbers for each kind of noise."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "gaussian": torch.randn(3, height, width, generator=generator),
        "salt and pepper": torch.rand(1, height, width, generator=generator),
        "speckle": torch.randn(3, height, width, generator=generator),
    }


# -- tensors -----------------------------------------------------------------------

Fields = dict[str, Tensor]


def _lighting(x: Tensor, p: Perturbation, strength: float, _: Fields) -> Tensor:
    """Shift V of HSV: hue and saturation stay, so that the colours are scaled."""
    value = x.amax(dim=1, keepdim=True)
    shifted = (value + p.amount * strength).clamp(0, 255)
    return torch.where(value > 0, x * shifted / value.clamp(min=1), shifted)


def _blur(x: Tensor, p: Perturbation, strength: float, _: Fields) -> Tensor:
    sigma = p.amount * strength
    radius = int(_TRUNCATE * sigma + 0.5)
    if radius == 0:
        return x
    steps = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = F.pad(x, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel[:, :, :, None], groups=3)
    return F.conv2d(rows, kernel[:, :, None, :], groups=3)


def _occlude(x: Tensor, p: Perturbation, strength: float, _: Fields) -> Tensor:
    rows, columns = _bar(p.kind, p.amount * strength, *x.shape[-2:])
    x = x.clone()
    x[:, :, rows, columns] = 0
    return x


def _colour_borders(x: Tensor, p: Perturbation, strength: float, _: Fields) -> Tensor:
    mask = _outside(_oval(p.amount, strength), *x.shape[-2:])
    colour = x.new_tensor(_COLOURS[p.kind])[:, None, None]
    return torch.where(torch.from_numpy(mask).to(x.device), colour, x)


def _add_noise(x: Tensor, p: Perturbation, strength: float, fields: Fields) -> Tensor:
    field, amount = fields[p.kind], p.amount * strength
    if p.kind == "gaussian":
        return x + amount * field
    if p.kind == "speckle":
        return x * (1 + amount * field)
    pepper, salt = field < amount / 2, field >= 1 - amount / 2
    return x.masked_fill(pepper, 0).masked_fill(salt, 255)


_TENSOR_FORMS: dict[Family, Callable[[Tensor, Perturbation, float, Fields], Tensor]] = {
    "lighting": _lighting,
    "blur": _blur,
    "occlusion": _occlude,
    "background": _colour_borders,
    "noise": _add_noise,
}


# -- pictures ----------------------------------------------------------------------


def _array_form(
    x: np.ndarray, p: Perturbation, strength: float, fields: dict[str, np.ndarray]
) -> np.ndarray:
    """Perturb ``(H, W, 3)`` values from 0 to 255."""
    amount = p.amount * strength
    if p.family == "lighting":
        from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

        hsv = rgb_to_hsv(x / 255)
        hsv[..., 2] = (hsv[..., 2] + amount / 255).clip(0, 1)
        return 255 * hsv_to_rgb(hsv)
    if p.family == "blur":
        from scipy.ndimage import gaussian_filter

        sigma = (amount, amount, 0)
        blurred: np.ndarray = gaussian_filter(
            x, sigma, mode="nearest", truncate=_TRUNCATE
        )
        return blurred
    x = x.copy()
    if p.family == "occlusion":
        x[_bar(p.kind, amount, *x.shape[:2])] = 0
    elif p.family == "background":
        x[_outside(_oval(p.amount, strength), *x.shape[:2])] = _COLOURS[p.kind]
    elif p.kind == "gaussian":
        x += amount * fields["gaussian"]
    elif p.kind == "speckle":
        x *= 1 + amount * fields["speckle"]
    else:
        field = fields["salt and pepper"][..., 0]
        x[field < amount / 2] = 0
        x[field >= 1 - amount / 2] = 255
    return x


# -- checks ------------------------------------------------------------------------


def _check_size(height: int, width: int, where: str) -> None:
    if min(height, width) < _LEAST_SIDE:
        raise ReIDError(
            f"{where}: images of {height} x {width} pixels; the narrowest bar would "
            f"have no pixel: give at least {_LEAST_SIDE} x {_LEAST_SIDE}"
        )


def _check_seed(seed: int, where: str) -> int:
    if check_count(seed, "seed", where, least=0) >= 2**63:
        raise ReIDError(f"{where}: seed is {seed}; give a number below 2^63")
    return int(seed)


def _check_strength(strength: float, where: str) -> float:
    return check_number(strength, "strength", where, 0, _STRONGEST)
