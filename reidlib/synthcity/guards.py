"""Guard baselines: features without any learning.

A synthetic world that a colour histogram solves is too easy for the course. A world is
accepted only if these features score below ImageNet features
(``benchmarks/synthcity_acceptance.py``).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from reidlib.errors import ReIDError


def _checked(images: np.ndarray) -> np.ndarray:
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
        raise ReIDError(
            f"images of shape {array.shape} and type {array.dtype}: give an "
            "(N, H, W, 3) array of uint8"
        )
    return array


def _normalised(features: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(norm, 1e-12)).astype(np.float32)


def colour_histogram(
    images: np.ndarray, bins: tuple[int, int, int] = (12, 4, 4), stripes: int = 6
) -> np.ndarray:
    """Return HSV histograms of horizontal stripes.

    Args:
        images: ``(N, H, W, 3)`` uint8.
        bins: Number of bins for hue, saturation and value.
        stripes: Number of stripes of equal height, from head to feet.

    Returns:
        ``(N, stripes * product of bins)`` float32, the square roots of the shares (so
        that the scalar product is the Bhattacharyya coefficient), L2-normalised.

    Raises:
        ReIDError: If the images are not ``(N, H, W, 3)`` uint8.

    Example:
        >>> colour_histogram(np.zeros((2, 12, 6, 3), np.uint8)).shape
        (2, 1152)
    """
    array = _checked(images)
    count = int(np.prod(bins))
    features = np.zeros((len(array), stripes, count), np.float32)
    levels = [np.arange(256) * number // 256 for number in bins]
    rows = np.arange(array.shape[1]) * stripes // array.shape[1]
    place = (rows[:, None] * count + np.zeros(array.shape[2], np.int64)).ravel()
    for i, image in enumerate(array):
        hsv = np.asarray(Image.fromarray(image).convert("HSV")).reshape(-1, 3)
        code = (levels[0][hsv[:, 0]] * bins[1] + levels[1][hsv[:, 1]]) * bins[2]
        code = place + code + levels[2][hsv[:, 2]]
        features[i].flat[:] = np.bincount(code, minlength=stripes * count)
    return _normalised(np.sqrt(features).reshape(len(array), -1))


def raw_pixels(
    images: np.ndarray,
    camids: np.ndarray | None = None,
    size: tuple[int, int] = (32, 16),
) -> np.ndarray:
    """Return the pixels of small copies of the images.

    Args:
        images: ``(N, H, W, 3)`` uint8.
        camids: ``(N,)`` camera ids; if given, each camera's mean image is subtracted.
        size: Height and width of the copies.

    Returns:
        ``(N, height * width * 3)`` float32, L2-normalised.

    Raises:
        ReIDError: If the images are not ``(N, H, W, 3)`` uint8, or if the number of
            camera ids differs from that of the images.

    Example:
        >>> raw_pixels(np.full((2, 12, 6, 3), 9, np.uint8)).shape
        (2, 1536)
    """
    array = _checked(images)
    small = np.stack(
        [
            np.asarray(
                Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
            )
            for image in array
        ]
    )
    features = small.reshape(len(array), -1).astype(np.float32)
    if camids is not None:
        cameras = np.asarray(camids)
        if cameras.shape != (len(array),):
            raise ReIDError(
                f"camera ids of shape {cameras.shape} for {len(array)} images: give "
                "one per image"
            )
        for camera in np.unique(cameras):
            rows = cameras == camera
            features[rows] -= features[rows].mean(axis=0)
    return _normalised(features)
