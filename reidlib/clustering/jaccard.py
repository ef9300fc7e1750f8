"""k-reciprocal Jaccard distance, sparse."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from reidlib.checks import (
    Array,
    check_count,
    check_features,
    check_memory,
    check_number,
)
from reidlib.errors import ReIDError
from reidlib.neighbors.device import device_jaccard
from reidlib.neighbors.reciprocal import (
    expanded_sets,
    half_size,
    ranking_with_self,
    reciprocal_weights,
    sparse_jaccard,
    weights_of_sets,
)
from reidlib.neighbors.sharded import (
    first_rows,
    sharded_ranking,
    sharded_similarities,
)


def jaccard_distance(
    features: Array,
    k1: int = 30,
    k2: int = 6,
    *,
    max_distance: float = 1.0,
    backend: str = "auto",
) -> sp.csr_matrix:
    """Return the k-reciprocal Jaccard distance between all images, sparse.

    The re-ranking of Zhong et al. (CVPR 2017, without its mixing with the original
    distance) as clustering methods from SpCL to ClusterContrast and CALR use it, with
    the counts of their published code:

    1. ``N(i, k)`` is image i and its k - 1 nearest others: k counts the image itself.
    2. ``R(i, k)`` holds the j of ``N(i, k)`` whose ``N(j, k)`` holds i.
    3. ``R*(i)`` starts as ``R(i, k1)``. For every candidate c in it, the whole of
       ``R(c, h)`` joins if more than two thirds of it are in ``R(i, k1)``, with
       ``h = round(k1 / 2) + 1``, halves rounded to the even number (k1 = 30: 16,
       k1 = 15: 9).
    4. ``v_i`` is the softmax of the negative squared Euclidean distance over
       ``R*(i)``, 0 elsewhere.
    5. ``v_i`` becomes the mean of the v of ``N(i, k2)`` (local query expansion).
    6. ``d(i, j) = 1 - S / (2 - S)`` with ``S = sum_k min(v_ik, v_jk)``.

    The distance is symmetric, 0 from an image to itself, and in [0, 1]. It does not
    depend on the number of threads. Time and memory grow with the number of pairs that
    share a neighbour, a small part of N x N. The steps are functions of
    `reidlib.neighbors`, which `k_reciprocal_rerank` uses with other counts.

    Args:
        features: ``(N, D)`` L2-normalised features, on any device.
        k1: Neighbourhood in which images must find each other, the image itself
            counted: 30 means 29 others. Larger joins more images of a person and more
            people. Above N it acts as N.
        k2: Neighbourhood that is averaged over, the image itself counted; 1 switches
            the expansion off. At most k1.
        max_distance: Largest distance that is stored, in (0, 1]: `dbscan` needs those
            up to its eps, a small part of all.
        backend: Passed to `nearest_neighbors`.

    Returns:
        ``(N, N)`` float32 CSR matrix with sorted indices that stores each distance
        below 1; **an absent entry is a distance of 1** (of more than ``max_distance``
        where that is below 1), and a stored 0 (the diagonal, at least) is a distance
        of 0. Do not call ``eliminate_zeros`` on it.

    Raises:
        ReIDError: If the features are not normalised and finite, k1 or k2 is below 1,
            k2 is above k1, max_distance is outside (0, 1], or memory is too small.

    Example:
        >>> import torch
        >>> points = torch.eye(2)[[0, 0, 1, 1]]
        >>> dense_distance(jaccard_distance(points, k1=2, k2=1))
        array([[0., 0., 1., 1.],
               [0., 0., 1., 1.],
               [1., 1., 0., 0.],
               [1., 1., 0., 0.]], dtype=float32)
    """
    where = "jaccard_distance"
    features = check_features(features, where, normalised=True)
    size, k2 = _check_counts(where, k1, k2, max_distance, len(features))
    ranking = ranking_with_self(features, size, backend)
    if features.device.type != "cpu":
        neighbors = torch.from_numpy(ranking).to(features.device)
        return device_jaccard(features, neighbors, half_size(k1), k2, max_distance)
    weights = reciprocal_weights(features, ranking, half_size(k1), k2)
    return sparse_jaccard(weights, max_distance)


def sharded_jaccard_distance(
    features: Array, k1: int = 30, k2: int = 6, *, max_distance: float = 1.0
) -> sp.csr_matrix:
    """Return the `jaccard_distance` of images that lie on several machines.

    To be called in every process of a `torch.distributed` group, which holds the
    features of some of the images: those of rank 0 come first. Features and their
    products stay divided, what is sparse is everywhere; the steps are in
    `reidlib.neighbors.sharded`.

    Args:
        features: ``(n, D)`` L2-normalised features of this process, on the device that
            the group sends from.
        k1: As for `jaccard_distance`.
        k2: As for `jaccard_distance`.
        max_distance: As for `jaccard_distance`.

    Returns:
        ``(N, N)`` as `jaccard_distance` returns it for all images, in every process.

    Raises:
        ReIDError: As `jaccard_distance`; or if there is no process group.
    """
    where = "sharded_jaccard_distance"
    features = check_features(features, where, normalised=True)
    size, k2 = _check_counts(where, k1, k2, max_distance, first_rows(features)[-1])
    ranking = sharded_ranking(features, size)
    sets = expanded_sets(ranking, half_size(k1))
    similarity = sharded_similarities(features, sets)
    weights = weights_of_sets(sets, similarity, ranking[:, :k2])
    return sparse_jaccard(weights, max_distance)


def _check_counts(
    where: str, k1: int, k2: int, max_distance: float, num_images: int
) -> tuple[int, int]:
    """Return k1 and k2, N at most, or raise `ReIDError`."""
    k1, k2 = check_count(k1, "k1", where), check_count(k2, "k2", where)
    if k2 > k1:
        raise ReIDError(
            f"{where}: k2 is {k2} and k1 is {k1}; the neighbours averaged over are "
            f"among the k1, so give k2 <= k1"
        )
    check_number(max_distance, "max_distance", where, 0, 1, closed="right")
    size = min(k1, num_images)
    # Lists of neighbours, and some 4 K weights an image, of which there are two copies.
    check_memory(
        num_images * size * (24 + 4 * 40),
        f"the neighbourhoods of {num_images} images",
        where,
        "give a smaller k1 or fewer images",
    )
    return size, min(k2, size)


def dense_distance(distance: sp.csr_matrix) -> np.ndarray:
    """Return the full matrix of a sparse distance whose absent entries are 1.

    ``distance.toarray()`` would make them 0. Takes 4 N^2 bytes.

    Args:
        distance: ``(N, N)`` as `jaccard_distance` returns it.

    Returns:
        ``(N, N)`` float32 array.

    Example:
        >>> dense_distance(sp.csr_matrix((2, 2)))
        array([[1., 1.],
               [1., 1.]], dtype=float32)
    """
    pairs = sp.coo_matrix(distance)
    check_memory(
        4 * pairs.shape[0] * pairs.shape[1],
        "all pairs",
        "dense_distance",
        "keep the distance sparse, or give fewer images",
    )
    full = np.ones(pairs.shape, dtype=np.float32)
    full[pairs.row, pairs.col] = pairs.data
    return full


def check_sparse_distance(distance: object, where: str) -> sp.csr_matrix:
    """Return a sparse distance as CSR, or raise `ReIDError`."""
    if not sp.issparse(distance):
        raise ReIDError(
            f"{where}: distance is a {type(distance).__name__}; give the sparse matrix "
            f"that jaccard_distance returns"
        )
    matrix = sp.csr_matrix(distance)
    if matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ReIDError(
            f"{where}: distance has shape {matrix.shape}; give (N, N) for at least one "
            f"image"
        )
    if not (np.isfinite(matrix.data).all() and (matrix.data >= 0).all()):
        raise ReIDError(
            f"{where}: distance holds NaN, inf or negative values; give distances in "
            f"[0, 1]"
        )
    return matrix
