"""Pseudo labels: int64 on the CPU, contiguous from 0, -1 for an outlier."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import Array, check_count, check_labels

OUTLIER = -1
"""Pseudo label of an image that is in no cluster; the epoch leaves it out."""


def contiguous_labels(labels: Array, *, min_cluster_size: int = 1) -> Tensor:
    """Renumber clusters from 0 without gaps, in the order of their first members.

    Args:
        labels: ``(N,)`` integers, -1 for an outlier.
        min_cluster_size: Clusters with fewer members become outliers.

    Returns:
        ``(N,)`` int64 labels on the CPU.

    Raises:
        ReIDError: If the labels are not whole numbers from -1 up.

    Example:
        >>> contiguous_labels(torch.tensor([7, -1, 3, 7]))
        tensor([ 0, -1,  1,  0])
        >>> contiguous_labels(torch.tensor([7, -1, 3, 7]), min_cluster_size=2)
        tensor([ 0, -1, -1,  0])
    """
    check_count(min_cluster_size, "min_cluster_size", "contiguous_labels")
    old = check_labels(labels, "contiguous_labels")
    clusters, first, rows, sizes = np.unique(
        old, return_index=True, return_inverse=True, return_counts=True
    )
    kept = np.flatnonzero((clusters != OUTLIER) & (sizes >= min_cluster_size))
    numbers = np.full(len(clusters), OUTLIER, dtype=np.int64)
    numbers[kept[np.argsort(first[kept])]] = np.arange(len(kept))
    return torch.from_numpy(numbers[rows])
