"""k-reciprocal Jaccard distance, sparse."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from reidlib.checks import Array, check_count, check_features
from reidlib.errors import ReIDError
from reidlib.neighbors.search import nearest_neighbors

# Terms of the overlap sum that are held at once (some 32 bytes each).
_TERMS = 1 << 21
# Elements of the dense accumulator of one block of rows: 32 MiB of float64.
_ACCUMULATOR = 1 << 22


def jaccard_distance(
    features: Array, k1: int = 30, k2: int = 6, *, backend: str = "auto"
) -> sp.csr_matrix:
    """Return the k-reciprocal Jaccard distance between all images, sparse.

    The re-ranking of Zhong et al. (CVPR 2017, without its mixing with the original
    distance) as clustering methods from SpCL to ClusterContrast and CALR use it, with
    the counts of their published code:

    1. ``N(i, k)`` is image i and its k - 1 nearest others: k counts the image itself.
    2. ``R(i, k)`` holds the j of ``N(i, k)`` whose ``N(j, k)`` holds i.
    3. ``R*(i)`` starts as ``R(i, k1)``. For every candidate c in it, the whole of
       ``R(c, h)`` joins if more than two thirds of it are in ``R(i, k1)``, with
       ``h = round(k1 / 2) + 1`` rounded half to even, at most k1 (k1 = 30: 16,
       k1 = 15: 9).
    4. ``v_i`` is the softmax of the negative squared Euclidean distance over
       ``R*(i)``, 0 elsewhere.
    5. ``v_i`` becomes the mean of the v of ``N(i, k2)`` (local query expansion).
    6. ``d(i, j) = 1 - S / (2 - S)`` with ``S = sum_k min(v_ik, v_jk)``.

    The distance is symmetric, 0 from an image to itself, and in [0, 1]. It does not
    depend on the number of threads. Time and memory grow with the number of pairs that
    share a neighbour, a small part of N x N.

    Args:
        features: ``(N, D)`` L2-normalised features, on any device.
        k1: Neighbourhood in which images must find each other, the image itself
            counted: 30 means 29 others. Larger joins more images of a person and more
            people. Above N it acts as N.
        k2: Neighbourhood that is averaged over, the image itself counted; 1 switches
            the expansion off. At most k1.
        backend: Passed to `nearest_neighbors`.

    Returns:
        ``(N, N)`` float32 CSR matrix with sorted indices that stores each distance
        below 1; **an absent entry is a distance of 1**, and a stored 0 (the diagonal,
        at least) is a distance of 0. Do not call ``eliminate_zeros`` on it.

    Raises:
        ReIDError: If the features are not normalised and finite, k1 or k2 is below 1,
            or k2 is above k1.

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
    k1, k2 = check_count(k1, "k1", where), check_count(k2, "k2", where)
    if k2 > k1:
        raise ReIDError(
            f"{where}: k2 is {k2} and k1 is {k1}; the neighbours averaged over are "
            f"among the k1, so give k2 <= k1"
        )
    num_images = len(features)
    half = min(_half(k1), num_images)
    k1, k2 = min(k1, num_images), min(k2, num_images)
    ranking = np.arange(num_images)[:, None]
    if k1 > 1:
        _, index = nearest_neighbors(features, k1 - 1, backend=backend)
        ranking = np.hstack([ranking, index.cpu().numpy()])  # (N, k1), itself first
    sets = _expanded_sets(ranking, half)
    weights = _softmax_weights(features, sets)
    expansion = _rows_to_matrix(ranking[:, :k2], 1.0 / k2)
    weights = (expansion @ weights).tocsr()
    return _overlap_distance(weights)


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


def _half(k1: int) -> int:
    """Return the size of the smaller neighbourhood, the image itself counted."""
    return min(round(k1 / 2) + 1, k1)  # round() takes halves to the even number


def _rows_to_matrix(ranking: np.ndarray, value: float) -> sp.csr_matrix:
    """Return the sparse matrix with ``value`` at (i, ranking[i, j])."""
    rows, width = ranking.shape
    data = np.full(rows * width, value)
    starts = np.arange(rows + 1) * width
    return sp.csr_matrix((data, ranking.ravel(), starts), shape=(rows, rows))


def _reciprocal_sets(ranking: np.ndarray) -> sp.csr_matrix:
    """Return 1.0 at (i, j) where each is in the other's row of the ranking."""
    forward = _rows_to_matrix(ranking, 1.0)
    return forward.multiply(forward.T).tocsr()


def _expanded_sets(ranking: np.ndarray, half: int) -> sp.csr_matrix:
    """Return a matrix whose pattern is R*(i), row by row."""
    reciprocal = _reciprocal_sets(ranking)
    candidates = _reciprocal_sets(ranking[:, :half])
    sizes = candidates.getnnz(axis=1)
    shared = (reciprocal @ candidates.T).multiply(reciprocal).tocoo()
    joins = 3 * shared.data > 2 * sizes[shared.col]
    accepted = sp.csr_matrix(
        (np.ones(joins.sum()), (shared.row[joins], shared.col[joins])),
        shape=reciprocal.shape,
    )
    return (reciprocal + accepted @ candidates).tocsr()


def _softmax_weights(features: Tensor, sets: sp.csr_matrix) -> sp.csr_matrix:
    """Return the softmax of the negative squared distance over each row's set."""
    pairs = sets.tocoo()
    # numpy on one thread, in blocks that stay in the cache: the order of the sum is
    # fixed, and for products this small threads cost more than they save.
    vectors = features.cpu().numpy()
    block = max(1, (1 << 16) // vectors.shape[1])
    similarity = np.empty(sets.nnz)
    for start in range(0, sets.nnz, block):
        part = slice(start, start + block)
        one, other = vectors[pairs.row[part]], vectors[pairs.col[part]]
        similarity[part] = np.einsum("pd,pd->p", one, other)
    # -|f_i - f_j|^2 = 2 s_ij - 2 for unit vectors
    weights = np.exp(2 * similarity - 2)
    totals = np.bincount(pairs.row, weights, minlength=len(features))
    weights /= totals[pairs.row]
    return sp.csr_matrix((weights, (pairs.row, pairs.col)), shape=sets.shape)


def _overlap_distance(weights: sp.csr_matrix) -> sp.csr_matrix:
    """Return 1 - S / (2 - S) for all pairs of rows that share a column.

    For every stored weight (i, k), the rows j >= i with a weight in column k follow it
    in the column. The terms min(v_ik, v_jk) of a block of rows i are written out, and
    summed at (i, j). The lower half mirrors the upper one.
    """
    num_images = weights.shape[0]
    weights.sort_indices()
    places = sp.csr_matrix(
        (np.arange(weights.nnz), weights.indices, weights.indptr), shape=weights.shape
    ).tocsc()
    places.sort_indices()
    rows, values = places.indices, weights.data[places.data]  # column after column
    column_ends = np.repeat(places.indptr[1:], np.diff(places.indptr))
    following = np.empty(weights.nnz, dtype=np.int64)
    first = np.empty(weights.nnz, dtype=np.int64)
    # From the entry itself on: the diagonal is needed, too.
    following[places.data] = column_ends - np.arange(weights.nnz)
    first[places.data] = np.arange(weights.nnz)

    # Blocks of rows: bounded in terms and in the size of the accumulator.
    terms = np.concatenate([[0], np.cumsum(following)])[weights.indptr]
    out_rows, out_cols, out_distance = [], [], []
    start = 0
    while start < num_images:
        stop = int(np.searchsorted(terms, terms[start] + _TERMS, side="right")) - 1
        stop = max(start + 1, min(stop, start + _ACCUMULATOR // num_images, num_images))
        entries = slice(weights.indptr[start], weights.indptr[stop])
        counts = following[entries]
        ends = np.cumsum(counts)
        offsets = np.repeat(first[entries] - ends + counts, counts)
        offsets += np.arange(len(offsets))
        owners = np.repeat(
            np.arange(stop - start), np.diff(weights.indptr[start : stop + 1])
        )
        cells = np.repeat(owners * num_images, counts) + rows[offsets]
        smaller = np.minimum(np.repeat(weights.data[entries], counts), values[offsets])
        overlap = np.bincount(cells, smaller, minlength=(stop - start) * num_images)
        cell = np.flatnonzero(overlap)
        overlap = overlap[cell]
        distance = np.maximum(1 - overlap / (2 - overlap), 0).astype(np.float32)
        below = distance < 1
        row, col = np.divmod(cell[below], num_images)
        out_rows.append((row + start).astype(np.int32))
        out_cols.append(col.astype(np.int32))
        out_distance.append(distance[below])
        start = stop
    row, col = np.concatenate(out_rows), np.concatenate(out_cols)
    data = np.concatenate(out_distance)
    data[row == col] = 0
    above = row != col
    # Written out, not added: adding sparse matrices drops stored zeros.
    return sp.csr_matrix(
        (
            np.concatenate([data, data[above]]),
            (
                np.concatenate([row, col[above]]),
                np.concatenate([col, row[above]]),
            ),
        ),
        shape=weights.shape,
    )
