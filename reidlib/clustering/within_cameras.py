"""Clusters inside each camera (CALR, stage 1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import (
    Array,
    check_camids,
    check_count,
    check_features,
    check_same_length,
)
from reidlib.clustering.agglomerative import agglomerative
from reidlib.clustering.jaccard import jaccard_distance


def cluster_within_cameras(
    features: Array,
    camids: Array,
    num_clusters: int | float = 0.2,
    k1: int = 15,
    k2: int = 4,
) -> Tensor:
    """Cluster the images of each camera without those of other cameras (CALR-A1).

    Average linkage on the k-reciprocal Jaccard distance, which is computed among the
    images of one camera alone. A colour cast, for instance, is the same in all of them
    and separates none.

    Args:
        features: ``(N, D)`` L2-normalised features, on any device.
        camids: ``(N,)`` camera ids from 0.
        num_clusters: Clusters of each camera: a share of its images as a float in
            (0, 1], rounded down (0.2 is the paper's n / 5), or a number for all
            cameras (the published labels of Market-1501 and Duke have 600). A camera
            with fewer images gets one cluster for each.
        k1: As for `jaccard_distance`.
        k2: As for `jaccard_distance`.

    Returns:
        ``(N,)`` int64 labels on the CPU, contiguous from 0 over all cameras, camera by
        camera: no label occurs in two cameras, and there are no outliers.

    Raises:
        ReIDError: If the features are not normalised, a camera is unknown, or a number
            is out of range.

    Example:
        >>> points = torch.eye(2)[[0, 0, 1, 1, 0, 1]]
        >>> camids = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> cluster_within_cameras(points, camids, 2, k1=2, k2=1)
        tensor([0, 0, 1, 1, 2, 3])
    """
    where = "cluster_within_cameras"
    features = check_features(features, where, normalised=True)
    cameras = check_camids(camids, where)
    check_same_length(where, features=features, camids=cameras)
    k1, k2 = check_count(k1, "k1", where), check_count(k2, "k2", where)
    labels = torch.empty(len(features), dtype=torch.int64)
    found = 0
    for camera in np.unique(cameras):
        rows = torch.from_numpy(np.flatnonzero(cameras == camera))
        count = num_clusters
        if not isinstance(count, float | np.floating):
            count = min(check_count(count, "num_clusters", where), len(rows))
        neighbors = min(k1, len(rows))
        distance = jaccard_distance(
            features[rows.to(features.device)], neighbors, min(k2, neighbors)
        )
        own = agglomerative(distance, count)
        labels[rows] = own + found
        found += int(own.max()) + 1
    return labels
