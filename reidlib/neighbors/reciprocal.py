"""k-reciprocal neighbours (Zhong et al., CVPR 2017): from a ranking to distances.

The steps, each a function of arrays:

1. a ranking ``(N, K)``: each image, then its K - 1 nearest others;
2. its k-reciprocal sets, expanded;
3. one row of weights for each image, a softmax over its set;
4. local query expansion: the mean of the rows of the nearest images;
5. the overlap ``S`` of two rows, and the distance ``1 - S / (2 - S)``.

Clustering (`jaccard_distance`) and re-ranking (`k_reciprocal_rerank`) both take them,
each with the conventions of its published code, which are arguments here:

- Columns of the ranking, K. Clustering: k1, because its code asks a search for k1
  images, the first of which is the image itself. Re-ranking: k1 + 1, because its code
  sorts all images and keeps the first k1 + 1.
- ``half``. In both it is `half_size` of k1: k1 / 2 others and the image itself.
- ``scale``. Clustering: none, the softmax is of squared Euclidean distances as they
  are. Re-ranking: the largest distance of each row, because its distances are mixed
  with the Jaccard distance afterwards, and both are to be in [0, 1].
- Distances. Clustering: of all pairs, sparse (`sparse_jaccard`), as few pairs overlap.
  Re-ranking: of queries and gallery, dense (`overlaps`), as all pairs have a distance
  to mix in.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from reidlib.neighbors import kernels
from reidlib.neighbors.search import pair_similarities, search_others

# Terms of the overlap sum that are held at once (some 32 bytes each).
_TERMS = 1 << 21
# Elements of the dense overlaps of one block of rows: 32 MiB of float64.
_ACCUMULATOR = 1 << 22


def half_size(k1: int) -> int:
    """Return the size of the smaller neighbourhood, the image itself counted.

    Halves are rounded to the even number, as in the published code.

    Example:
        >>> half_size(30), half_size(15), half_size(5)
        (16, 9, 3)
    """
    return round(k1 / 2) + 1


def ranking_with_self(features: Tensor, size: int, backend: str = "auto") -> np.ndarray:
    """Return each image followed by its nearest others.

    Args:
        features: ``(N, D)`` float32, L2-normalised, on any device.
        size: K, the image itself counted, from 1 to N.
        backend: As for `nearest_neighbors`.

    Returns:
        ``(N, K)`` int64 rows.

    Example:
        >>> import torch
        >>> points = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> ranking_with_self(points, 2).tolist()
        [[0, 1], [1, 2], [2, 1]]
    """
    own = np.arange(len(features))[:, None]
    if size == 1:
        return own
    others = search_others(features, features, size - 1, backend)
    return np.hstack([own, others.cpu().numpy()])


def expanded_sets(ranking: np.ndarray, half: int) -> sp.csr_matrix:
    """Return the expanded k-reciprocal set of each image.

    ``R(i, k)`` holds the j among the first k of row i whose own first k hold i. The set
    of i is ``R(i, K)``, and for each candidate c in it the whole of ``R(c, half)`` if
    more than two thirds of that are in ``R(i, K)``.

    Args:
        ranking: ``(N, K)`` int64 from `ranking_with_self`.
        half: Columns of the ranking that a candidate's set is made of.

    Returns:
        ``(N, N)`` CSR matrix with an entry at (i, j) where j is in the set of i.

    Example:
        >>> expanded_sets(np.array([[0, 1], [1, 0], [2, 1]]), half=2).toarray() > 0
        array([[ True,  True, False],
               [ True,  True, False],
               [False, False,  True]])
    """
    if kernels.is_wanted(len(ranking)):
        return _compiled_sets(ranking, half)
    sets, candidates = _reciprocal(ranking), _reciprocal(ranking[:, :half])
    sizes = candidates.getnnz(axis=1)
    # (i, c): how many of R(c, half) are in R(i, K), for each c in R(i, K)
    shared = (sets @ candidates.T).multiply(sets).tocoo()
    joins = 3 * shared.data > 2 * sizes[shared.col]
    joined = sp.csr_matrix(
        (np.ones(joins.sum(), np.float32), (shared.row[joins], shared.col[joins])),
        shape=sets.shape,
    )
    sets = (sets + joined @ candidates).tocsr()
    sets.sort_indices()
    return sets


def squared_distances(
    features: Tensor, rows: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Return the squared Euclidean distance of some pairs, 2 - 2 cos.

    Equal features have equal distances on every machine, whatever the number of threads
    and the place of a pair in the list.

    Args:
        features: ``(N, D)`` float32, L2-normalised, on any device.
        rows: ``(P,)`` rows of the first images.
        others: ``(P,)`` rows of the second images.

    Returns:
        ``(P,)`` float64, with the rounding of a float32 cosine.

    Example:
        >>> import torch
        >>> squared_distances(torch.eye(2), np.array([0, 0]), np.array([0, 1]))
        array([0., 2.])
    """
    similarity = pair_similarities(features, features, rows, others)
    return 2 - 2 * similarity.astype(np.float64)


def reciprocal_weights(
    features: Tensor,
    ranking: np.ndarray,
    half: int,
    k2: int,
    scale: np.ndarray | None = None,
) -> sp.csr_matrix:
    """Return the weights of the images in each image's neighbourhood.

    Row i is the softmax of the negative squared distance over the set of i
    (`expanded_sets`), averaged over the rows of the first k2 of its ranking.

    Args:
        features: ``(N, D)`` float32, L2-normalised, on any device.
        ranking: ``(N, K)`` int64 from `ranking_with_self`.
        half: As for `expanded_sets`.
        k2: Rows that are averaged over, the image's own counted, from 1 to K.
        scale: ``(N,)`` what the distances of each row are divided by: its largest one.
            None: distances as they are.

    Returns:
        ``(N, N)`` float64 CSR matrix with sorted indices whose rows sum to 1.

    Example:
        >>> import torch
        >>> points = torch.eye(2)[[0, 0, 1]]
        >>> ranking = ranking_with_self(points, 2)
        >>> reciprocal_weights(points, ranking, half=2, k2=1).toarray()
        array([[0.5, 0.5, 0. ],
               [0.5, 0.5, 0. ],
               [0. , 0. , 1. ]])
    """
    sets = expanded_sets(ranking, half)
    if kernels.is_wanted(len(features)) and features.device.type == "cpu":
        similarity = _set_similarities(features, sets)
    else:
        row = np.repeat(np.arange(len(features)), np.diff(sets.indptr))
        similarity = pair_similarities(features, features, row, sets.indices)
    return weights_of_sets(sets, similarity, ranking[:, :k2], scale)


def weights_of_sets(
    sets: sp.csr_matrix,
    similarity: np.ndarray,
    nearest: np.ndarray,
    scale: np.ndarray | None = None,
) -> sp.csr_matrix:
    """`reciprocal_weights` from the sets and the similarities within them.

    Args:
        sets: ``(N, N)`` from `expanded_sets`.
        similarity: float32, the cosine of each entry.
        nearest: ``(N, k2)`` int64, each image and its nearest others.
        scale: As for `reciprocal_weights`.
    """
    num_images, k2 = nearest.shape
    row = np.repeat(np.arange(num_images, dtype=np.int32), np.diff(sets.indptr))
    weights = 2 - 2 * similarity.astype(np.float64)  # the squared distance
    if scale is not None:
        # Rounding must not push a distance out of the range that its row spans.
        weights = np.clip(weights / scale[row], 0, 1)
    np.exp(np.negative(weights, out=weights), out=weights)
    weights /= np.bincount(row, weights, minlength=num_images)[row]
    if k2 == 1:
        return sp.csr_matrix((weights, sets.indices, sets.indptr), shape=sets.shape)
    if kernels.is_wanted(num_images):
        from reidlib.neighbors import compiled

        starts, cols, means = kernels.by_rows(
            compiled.mean_rows,
            num_images,
            np.ascontiguousarray(nearest, dtype=np.int32),
            sets.indptr.astype(np.int64),
            sets.indices,
            weights,
        )
        return sp.csr_matrix((means, cols, starts), shape=sets.shape)
    softmax = sp.csr_matrix((weights, sets.indices, sets.indptr), shape=sets.shape)
    expanded = (_indicator(nearest, 1 / k2) @ softmax).tocsr()
    expanded.sort_indices()
    return expanded


def overlaps(
    rows: sp.csr_matrix, columns: sp.csc_matrix, begin: np.ndarray | None = None
) -> np.ndarray:
    """Return the overlap of each of some rows with each of others.

    ``S_ij = sum_k min(v_ik, w_jk)``. A column k of w lists the rows that have a weight
    there; only with those does an entry (i, k) of v make a term. An example::

        v_0 = [0.6  0.4   0 ]     column 0 lists 0.6 of row 0 and 0.5 of row 1
        v_1 = [0.5  0.5   0 ]     column 1 lists 0.4 of row 0 and 0.5 of row 1
        v_2 = [ 0    0   1.0]     column 2 lists 1.0 of row 2

    Entry (0, 0) of row 0 makes the terms 0.6 with row 0 and 0.5 with row 1, entry
    (0, 1) the terms 0.4 and 0.4: S_00 = 1, S_01 = 0.9, and no term is written for S_02.
    All terms are written into one list, beside the cell (i, j) that each belongs to,
    and summed by cell.

    Args:
        rows: ``(B, N)`` CSR float64 v.
        columns: ``(M, N)`` CSC float64 w.
        begin: ``(N,)`` int64 entry of ``columns`` where each column is read from on;
            None: from its beginning.

    Returns:
        ``(B, M)`` float64.

    Example:
        >>> v = sp.csr_matrix([[0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
        >>> overlaps(v[:1], v.tocsc())
        array([[1. , 0.9, 0. ]])
    """
    shape = rows.shape[0], columns.shape[0]
    if begin is None and kernels.is_wanted(columns.shape[0]):
        from reidlib.neighbors import compiled

        overlap = np.zeros(shape)
        sparse = (
            part
            for matrix in (rows, columns)
            for part in (matrix.indptr.astype(np.int64), matrix.indices, matrix.data)
        )
        kernels.in_threads(compiled.add_overlaps, shape[0], *sparse, overlap)
        return overlap
    if begin is None:
        begin = columns.indptr[:-1].astype(np.int64)
    first = begin[rows.indices]
    counts = columns.indptr[1:][rows.indices] - first  # terms of each entry
    place = np.repeat(first - (np.cumsum(counts) - counts), counts)
    place += np.arange(len(place))
    smaller = np.minimum(np.repeat(rows.data, counts), columns.data[place])
    row = np.repeat(np.arange(shape[0]), np.diff(rows.indptr))
    cell = np.repeat(row * shape[1], counts) + columns.indices[place]
    return np.bincount(cell, smaller, minlength=shape[0] * shape[1]).reshape(shape)


def jaccard_from_overlap(overlap: np.ndarray) -> np.ndarray:
    """Return ``1 - S / (2 - S)``, the Jaccard distance of rows that sum to 1.

    Their minima sum to S and their maxima to 2 - S.

    Args:
        overlap: float64, any shape.

    Returns:
        float32 in [0, 1], same shape.

    Example:
        >>> jaccard_from_overlap(np.array([1.0, 0.5, 0.0]))
        array([0.       , 0.6666667, 1.       ], dtype=float32)
    """
    return np.maximum(1 - overlap / (2 - overlap), 0).astype(np.float32)


def sparse_jaccard(weights: sp.csr_matrix, max_distance: float = 1.0) -> sp.csr_matrix:
    """Return the Jaccard distance of all pairs of rows that overlap.

    Args:
        weights: ``(N, N)`` from `reciprocal_weights`.
        max_distance: Largest distance that is stored, compared in float32.

    Returns:
        ``(N, N)`` float32 CSR matrix with sorted indices that stores each distance
        below 1 and up to ``max_distance``: an absent entry is 1, or more than
        ``max_distance``, and a stored 0 is 0. Symmetric, 0 on the diagonal.

    Example:
        >>> v = sp.csr_matrix([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> sparse_jaccard(v).toarray()
        array([[0.       , 0.6666667, 0.       ],
               [0.6666667, 0.       , 0.       ],
               [0.       , 0.       , 0.       ]], dtype=float32)
    """
    num_images, limit = weights.shape[0], np.float32(max_distance)
    if kernels.is_wanted(num_images):
        return _compiled_jaccard(weights, limit)
    columns = weights.tocsc()
    lengths = np.diff(columns.indptr)
    # Terms of all rows before each one, were every column read from its beginning.
    terms = np.concatenate([[0], np.cumsum(lengths[weights.indices])])[weights.indptr]
    # The upper triangle is computed: a block of rows reads the columns from its own
    # first row on.
    begin = columns.indptr[:-1].astype(np.int64)
    parts, start = [], 0
    while start < num_images:
        stop = int(np.searchsorted(terms, terms[start] + _TERMS, side="right")) - 1
        stop = max(start + 1, min(stop, start + _ACCUMULATOR // num_images, num_images))
        block = weights[start:stop]
        overlap = overlaps(block, columns, begin).ravel()
        cell = np.flatnonzero(overlap)
        distance = jaccard_from_overlap(overlap[cell])
        below = (distance < 1) & (distance <= limit)
        row, col = np.divmod(cell[below], num_images)
        row += start
        distance = distance[below]
        distance[row == col] = 0  # exactly: the overlap of a row with itself is rounded
        row, col = row.astype(np.int32), col.astype(np.int32)
        later = col >= stop  # no other block computes these
        parts.append((row, col, distance))
        parts.append((col[later], row[later], distance[later]))
        begin += np.bincount(block.indices, minlength=num_images)
        start = stop
    rows, cols, distances = map(np.concatenate, zip(*parts, strict=True))
    return sp.csr_matrix((distances, (rows, cols)), shape=weights.shape)


def _compiled_sets(ranking: np.ndarray, half: int) -> sp.csr_matrix:
    """`expanded_sets` by compiled kernels."""
    from reidlib.neighbors import compiled

    num_images, size = ranking.shape
    ranking = np.ascontiguousarray(ranking, dtype=np.int32)
    places = np.empty(ranking.shape, np.int16 if size < 1 << 15 else np.int32)
    kernels.in_threads(compiled.own_places, num_images, ranking, places)
    starts, members = kernels.by_rows(
        compiled.sets, num_images, ranking, places, min(half, size)
    )
    ones = np.ones(len(members), np.float32)
    return sp.csr_matrix((ones, members, starts), shape=(num_images, num_images))


def _set_similarities(features: Tensor, sets: sp.csr_matrix) -> np.ndarray:
    """Return the similarity of each image with the members of its set, by kernels."""
    from reidlib.neighbors import compiled

    similarity = np.empty(sets.nnz, np.float32)
    starts = sets.indptr.astype(np.int64)
    for kernel, inputs in (
        (compiled.set_similarities, [features.contiguous().numpy()]),
        (compiled.copy_similarities, []),
    ):
        kernels.in_threads(
            kernel, len(features), *inputs, starts, sets.indices, similarity
        )
    return similarity


def _compiled_jaccard(weights: sp.csr_matrix, limit: np.float32) -> sp.csr_matrix:
    """`sparse_jaccard` by compiled kernels."""
    from reidlib.neighbors import compiled

    num_images, starts = weights.shape[0], weights.indptr.astype(np.int64)
    number = np.arange(weights.nnz, dtype=np.int32)
    columns = sp.csr_matrix(
        (number, weights.indices, weights.indptr), shape=weights.shape
    ).tocsc()
    order = columns.data  # entries of the weights, column by column
    places = np.empty_like(order)
    places[order] = number
    upper = kernels.by_rows(
        compiled.near_pairs,
        num_images,
        starts,
        weights.indices,
        weights.data,
        places,
        columns.indptr.astype(np.int64),
        columns.indices,
        weights.data[order],
        limit,
    )
    ends, cols, distances = compiled.both_triangles(*upper)
    return sp.csr_matrix((distances, cols, ends), shape=weights.shape)


def _indicator(ranking: np.ndarray, value: float | np.float32) -> sp.csr_matrix:
    """Return the ``(N, N)`` matrix with ``value`` at (i, ranking[i, j])."""
    rows, size = ranking.shape
    data, starts = np.full(rows * size, value), np.arange(rows + 1) * size
    return sp.csr_matrix((data, ranking.ravel(), starts), shape=(rows, rows))


def _reciprocal(ranking: np.ndarray) -> sp.csr_matrix:
    """Return 1.0 at (i, j) where each is in the other's row of the ranking."""
    forward = _indicator(ranking, np.float32(1))
    return forward.multiply(forward.T).tocsr()
