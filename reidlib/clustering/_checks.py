"""What the functions of this package ask of their input."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from reidlib.errors import ReIDError

Array: TypeAlias = Tensor | np.ndarray

# A network that ran in bfloat16 gives norms that are off by some thousandths.
_NORM_TOLERANCE = 0.02


def check_features(features: Array, where: str, *, normalised: bool) -> Tensor:
    """Return the features as a detached float32 tensor ``(N, D)``.

    Args:
        features: What the caller gave.
        where: Name of the calling function, for the message.
        normalised: Whether rows must have length 1.

    Raises:
        ReIDError: If they are not a finite matrix of at least one row, or not
            normalised where they must be.
    """
    if not isinstance(features, Tensor | np.ndarray):
        raise ReIDError(
            f"{where}: features are a {type(features).__name__}; give a tensor or an "
            f"array of shape (N, D)"
        )
    matrix = torch.as_tensor(features).detach()
    if matrix.ndim != 2:
        raise ReIDError(
            f"{where}: features have shape {tuple(matrix.shape)}; give (N, D), one row "
            f"an image"
        )
    if matrix.shape[0] == 0 or matrix.shape[1] == 0:
        raise ReIDError(
            f"{where}: features have shape {tuple(matrix.shape)}; give at least one "
            f"image and one dimension"
        )
    matrix = matrix.float()
    finite = torch.isfinite(matrix).all(dim=1)
    if not finite.all():
        bad = (~finite).nonzero()[:, 0]
        raise ReIDError(
            f"{where}: features of {len(bad)} of {len(matrix)} images hold NaN or inf, "
            f"first in row {int(bad[0])}; look at the loss and at the images"
        )
    if normalised:
        norms = matrix.norm(dim=1)
        off = ((norms - 1).abs() > _NORM_TOLERANCE).nonzero()[:, 0]
        if len(off):
            raise ReIDError(
                f"{where}: {len(off)} of {len(matrix)} features do not have length 1, "
                f"first row {int(off[0])} with {float(norms[off[0]]):.3g}; give "
                f"torch.nn.functional.normalize(features, dim=1)"
            )
    return matrix


def check_count(value: object, name: str, where: str) -> int:
    """Return a count that is an integer of at least 1, or raise `ReIDError`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ReIDError(f"{where}: {name} is {value!r}; give a whole number from 1 up")
    return int(value)


def check_number(
    value: object, name: str, where: str, low: float, high: float, *, open_low: bool
) -> float:
    """Return a number inside ``[low, high]``, or ``(low, high]``, or raise."""
    number = (
        float(value)
        if isinstance(value, Real) and not isinstance(value, bool)
        else float("nan")
    )
    if not low <= number <= high or (open_low and number == low):
        bracket = "(" if open_low else "["
        raise ReIDError(
            f"{where}: {name} is {value!r}; give a number in "
            f"{bracket}{low:g}, {high:g}]"
        )
    return number


def resolve_num_clusters(num_clusters: object, num_images: int, where: str) -> int:
    """Return a number of clusters given as a count or as a share of the images.

    Args:
        num_clusters: Whole number from 1 to ``num_images``, or a float in (0, 1] that
            is multiplied by ``num_images`` and rounded down, to 1 at least.
        num_images: N.
        where: Name of the calling function, for the message.

    Raises:
        ReIDError: If it is neither, or more than there are images.
    """
    if isinstance(num_clusters, float | np.floating):
        ratio = check_number(num_clusters, "num_clusters", where, 0, 1, open_low=True)
        return max(1, math.floor(num_images * ratio + 1e-9))
    count = check_count(num_clusters, "num_clusters", where)
    if count > num_images:
        raise ReIDError(
            f"{where}: num_clusters is {count} for {num_images} images; give at most "
            f"{num_images}, or a share of the images such as 0.2"
        )
    return count
