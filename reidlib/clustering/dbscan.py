"""DBSCAN on a sparse distance."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from reidlib.checks import check_count, check_number
from reidlib.clustering.jaccard import check_sparse_distance
from reidlib.labels.pseudo_labels import OUTLIER


def dbscan(distance: sp.csr_matrix, eps: float, min_samples: int = 4) -> Tensor:
    """Cluster images by density (Ester et al., KDD 1996), on a sparse distance.

    Images with at least ``min_samples`` images within ``eps``, themselves counted, are
    cores; cores within ``eps`` of each other share a cluster; other images join the
    first cluster with a core within ``eps``, or are outliers.

    Args:
        distance: ``(N, N)`` distances in [0, 1] as `jaccard_distance` returns them: an
            absent entry is 1 (or beyond its ``max_distance``, which is then at least
            eps), a stored 0 is 0. The diagonal counts as 0, stored or not.
        eps: Largest distance between neighbours, in (0, 1]. ClusterContrast uses 0.6
            on Market-1501, AFF_SCL 0.65. With 1 all images are neighbours.
        min_samples: Neighbours that make a core, the image itself counted.

    Returns:
        ``(N,)`` int64 labels on the CPU, contiguous from 0 in the order of each
        cluster's first core, -1 for an outlier. Every image is an outlier where no
        image is a core, as for a single image and ``min_samples`` 2.

    Raises:
        ReIDError: If distance is not a sparse square matrix of finite distances, eps is
            outside (0, 1], or min_samples is below 1.

    Example:
        >>> from reidlib.clustering import jaccard_distance
        >>> points = torch.eye(3)[[0, 0, 0, 0, 1, 1, 1, 1, 2]]
        >>> dbscan(jaccard_distance(points, k1=4, k2=1), eps=0.5)
        tensor([ 0,  0,  0,  0,  1,  1,  1,  1, -1])
    """
    matrix = check_sparse_distance(distance, "dbscan")
    eps = check_number(eps, "eps", "dbscan", 0, 1, closed="right")
    min_samples = check_count(min_samples, "min_samples", "dbscan")
    num_images = matrix.shape[0]
    if eps == 1:
        label = 0 if num_images >= min_samples else OUTLIER
        return torch.full((num_images,), label)
    row = np.repeat(np.arange(num_images), np.diff(matrix.indptr))
    # Compared in float32, as eps is written, or 0.6 would cut off a stored 0.6.
    near = (matrix.data <= np.float32(eps)) & (row != matrix.indices)
    row, other = row[near], matrix.indices[near]
    core = np.bincount(row, minlength=num_images) + 1 >= min_samples
    pairs = core[row] & core[other]
    graph = sp.csr_matrix(
        (np.ones(pairs.sum(), bool), (row[pairs], other[pairs])), shape=matrix.shape
    )
    component = connected_components(graph, directed=False)[1]
    labels = np.full(num_images, OUTLIER, dtype=np.int64)
    # The first core of each cluster, in their order, gives the numbers of the clusters.
    _, first, cluster = np.unique(
        component[core], return_index=True, return_inverse=True
    )
    labels[core] = first.argsort().argsort()[cluster]
    border = ~core[row] & core[other]
    nearest = np.full(num_images, num_images)
    np.minimum.at(nearest, row[border], labels[other[border]])
    joined = nearest < num_images
    labels[joined] = nearest[joined]
    return torch.from_numpy(labels)
