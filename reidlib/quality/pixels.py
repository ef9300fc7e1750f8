"""Measures of quality that cost nothing, to compare identifiability with."""

from __future__ import annotations

import torch
from torch import Tensor

from reidlib.checks import Array, check_array
from reidlib.errors import ReIDError


def grey(pixels: Array, where: str = "grey", least: int = 1) -> Tensor:
    """Return ``(N, H, W)`` brightness from 0 to 255 of ``(N, 3, H, W)`` images.

    Args:
        pixels: Images.
        where: Calling function, for the message.
        least: Least height and width.

    Raises:
        ReIDError: If the images have another shape.
    """
    pixels = check_array(pixels, "images", where)
    if pixels.ndim != 4 or pixels.shape[1] != 3 or min(pixels.shape[2:]) < least:
        raise ReIDError(
            f"{where}: images are {tuple(pixels.shape)}; give (N, 3, H, W) of at "
            f"least {least} x {least} pixels"
        )
    shares = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    return torch.einsum("nchw,c->nhw", pixels.double(), shares.to(pixels.device))


def sharpness(pixels: Array) -> Tensor:
    """Return the variance of the Laplacian, a usual measure of blur: low is blurred.

    Args:
        pixels: ``(N, 3, H, W)`` uint8, of at least 3 x 3 pixels.

    Returns:
        ``(N,)`` float64.

    Raises:
        ReIDError: If the images have another shape.

    Example:
        >>> flat = torch.full((1, 3, 8, 4), 7, dtype=torch.uint8)
        >>> sharpness(flat).tolist()
        [0.0]
    """
    x = grey(pixels, "sharpness", least=3)
    middle = x[:, 1:-1, 1:-1]
    around = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
    return (around - 4 * middle).flatten(1).var(dim=1, correction=0)


def contrast(pixels: Array) -> Tensor:
    """Return the standard deviation of the brightness of ``(N, 3, H, W)`` images."""
    return grey(pixels, "contrast").flatten(1).std(dim=1, correction=0)
