"""Checks of the arrays that figures are drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np

from reidlib.errors import ReIDError


def as_numpy(values: Any) -> np.ndarray:
    """Return a list, an array or a tensor as an array on the host."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # NumPy has no such numbers
            values = values.float()
    return np.asarray(values)


def as_images(images: Any, dimensions: int, name: str) -> np.ndarray:
    """Return images as ``(..., H, W, 3)``, uint8 or floats in [0, 1]."""
    try:
        array = as_numpy(images)
    except (ValueError, TypeError):
        raise ReIDError(
            f"{name}: the images differ in size; resize them to one height and width"
        ) from None
    if array.ndim == dimensions and array.shape[-1] != 3 and array.shape[-3] == 3:
        array = np.moveaxis(array, -3, -1)
    if array.ndim != dimensions or array.shape[-1] != 3:
        raise ReIDError(
            f"{name}: got shape {array.shape}; give RGB images of one size, "
            f"{dimensions - 3} leading dimension(s), channels first or last"
        )
    if array.dtype != np.uint8 and array.size:
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ReIDError(
                f"{name}: values from {low:.2f} to {high:.2f}; give uint8 or floats in "
                "[0, 1] (images before their normalisation)"
            )
    return array


def per_image(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray | None:
    """Return values of this shape, one for each image, or None if there are none."""
    if values is None:
        return None
    column = as_numpy(values)
    if column.shape != shape:
        raise ReIDError(
            f"{name}: got shape {column.shape} for images of shape {shape}; give one "
            "value per image"
        )
    return column


def finite(values: Any, name: str) -> np.ndarray:
    """Return float64 values, at least one and all of them finite."""
    array = as_numpy(values).astype(np.float64)
    bad = int((~np.isfinite(array)).sum())
    if array.size == 0 or bad:
        raise ReIDError(
            f"{name}: got {array.size} values, {bad} of them not finite; give at least "
            "one value and only finite ones"
        )
    return array
