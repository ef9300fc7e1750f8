"""Agglomerative clustering with average linkage."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from reidlib.checks import (
    Array,
    check_choice,
    check_features,
    check_memory,
    check_num_clusters,
)
from reidlib.clustering.jaccard import check_sparse_distance, dense_distance
from reidlib.errors import ReIDError
from reidlib.labels.pseudo_labels import contiguous_labels
from reidlib.neighbors.kernels import is_wanted

_METRICS = ("precomputed", "euclidean", "cosine")


def agglomerative(
    distance: sp.csr_matrix | Array,
    num_clusters: int | float,
    *,
    metric: str = "precomputed",
) -> Tensor:
    """Merge the two clusters of least mean distance until a number is left (CALR-A1).

    CALR's first stage clusters the images of each camera this way: average linkage on
    the Jaccard distance with k1 = 15 and k2 = 4, a fifth as many clusters as images.
    A sparse distance stays sparse (with numba; otherwise, and for features, average
    linkage takes 16 N^2 bytes). Every image is in a cluster; many clusters may hold one
    image.

    Args:
        distance: ``(N, N)`` sparse distance as `jaccard_distance` returns it, or a
            full symmetric matrix; with another ``metric``, ``(N, D)`` features.
        num_clusters: Number of clusters, or a share of N as a float in (0, 1], rounded
            down: 0.2 is CALR's n // 5.
        metric: ``"precomputed"``, ``"euclidean"`` or ``"cosine"``.

    Returns:
        ``(N,)`` int64 labels on the CPU, contiguous from 0 in the order of each
        cluster's first image, no outliers.

    Raises:
        ReIDError: If the distance is not square, symmetric, finite and non-negative,
            the features are not finite, or num_clusters is outside [1, N].

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> agglomerative(points, 2, metric="cosine").tolist()
        [0, 0, 1]
    """
    where = "agglomerative"
    check_choice(metric, "metric", where, _METRICS)
    if metric == "precomputed":
        if sp.issparse(distance) and is_wanted(distance.shape[0]):
            return _sparse_linkage(check_sparse_distance(distance, where), num_clusters)
        matrix = _full_distance(distance)
    else:
        features = check_features(distance, where, normalised=False).cpu()
        if metric == "cosine" and bool((features == 0).all(dim=1).any()):
            raise ReIDError(
                f"{where}: a feature of zeros has no direction; give metric='euclidean'"
            )
        _check_all_pairs(len(features))
        matrix = features.numpy()
    count = check_num_clusters(num_clusters, len(matrix), where)
    if len(matrix) == 1:
        return torch.zeros(1, dtype=torch.int64)
    from sklearn.cluster import AgglomerativeClustering

    model = AgglomerativeClustering(n_clusters=count, metric=metric, linkage="average")
    return contiguous_labels(model.fit(matrix).labels_)


def _sparse_linkage(matrix: sp.csr_matrix, num_clusters: int | float) -> Tensor:
    """`agglomerative` by compiled kernels, on the distances below 1 alone."""
    from reidlib.clustering import compiled

    num_images = matrix.shape[0]
    count = check_num_clusters(num_clusters, num_images, "agglomerative")
    pairs = matrix.tocoo()
    near = (pairs.row != pairs.col) & (pairs.data < 1)
    index = pairs.row[near], pairs.col[near]
    near_pairs = sp.csr_matrix((pairs.data[near], index), shape=matrix.shape)
    near_pairs.sort_indices()
    _check_symmetric(abs(near_pairs - near_pairs.T).max() <= 1e-5)
    merges, heights = compiled.average_linkage(
        near_pairs.indptr.astype(np.int64),
        near_pairs.indices,
        near_pairs.data.astype(np.float64),
    )
    done = merges[heights.argsort(kind="stable")[: num_images - count]]
    graph = sp.csr_matrix((np.ones(len(done)), done.T), shape=matrix.shape)
    return contiguous_labels(connected_components(graph, directed=False)[1])


def _check_all_pairs(num_images: int) -> None:
    check_memory(
        16 * num_images**2,
        "all pairs",
        "agglomerative",
        "give a sparse distance and install numba, or give fewer images",
    )


def _check_symmetric(is_symmetric: bool) -> None:
    if not is_symmetric:
        raise ReIDError(
            "agglomerative: distance is negative somewhere or not symmetric; give "
            "(distance + distance.T) / 2 of distances from 0 up"
        )


def _full_distance(distance: sp.csr_matrix | Array) -> np.ndarray:
    """Return a checked full matrix of a sparse or full distance."""
    where = "agglomerative"
    if sp.issparse(distance):
        _check_all_pairs(distance.shape[0])
        matrix = dense_distance(check_sparse_distance(distance, where))
        np.fill_diagonal(matrix, 0)
    else:
        matrix = check_features(distance, where, normalised=False).cpu().numpy()
    if matrix.shape[0] != matrix.shape[1]:
        raise ReIDError(
            f"{where}: distance has shape {matrix.shape}; give (N, N), or features "
            f"with metric='cosine'"
        )
    is_positive = bool((matrix >= 0).all())
    _check_symmetric(is_positive and np.allclose(matrix, matrix.T, atol=1e-5))
    return matrix
