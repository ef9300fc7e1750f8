"""The k-reciprocal steps on the device of the features, as sorts and sums of tensors.

What `reidlib.neighbors.reciprocal` does row by row, one kernel after another does here
for many rows at once: entry (i, j) of a sparse matrix is the number ``i N + j``, terms
of one entry come together when these numbers are sorted, and their runs are summed. A
stable sort keeps the order of the terms, so that the sums are those of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from reidlib.neighbors.search import similarities_of

# Terms that are held at once, some 40 bytes each, and comparisons of neighbours.
_TERMS = 1 << 24


def device_jaccard(
    features: Tensor, ranking: Tensor, half: int, k2: int, max_distance: float = 1.0
) -> sp.csr_matrix:
    """Return the Jaccard distance of all pairs of images that share a neighbour.

    `sparse_jaccard` of `reciprocal_weights`, computed where the features are.

    Args:
        features: ``(N, D)`` float32, L2-normalised, on any device.
        ranking: ``(N, K)`` int64 of `ranking_with_self`, on the same device.
        half: As for `expanded_sets`.
        k2: As for `reciprocal_weights`.
        max_distance: As for `sparse_jaccard`.

    Returns:
        ``(N, N)`` float32 CSR matrix on the CPU, as `sparse_jaccard` returns it.

    Example:
        >>> points = torch.eye(2)[[0, 0, 1]]
        >>> ranking = torch.tensor([[0, 1], [1, 0], [2, 0]])
        >>> device_jaccard(points, ranking, half=2, k2=1).toarray()
        array([[0., 0., 0.],
               [0., 0., 0.],
               [0., 0., 0.]], dtype=float32)
    """
    num_images = len(ranking)
    entries = _sets(ranking, half)
    row, col = entries // num_images, entries % num_images
    similarity = similarities_of(features, features, row, col)
    weights = (similarity.double() * 2 - 2).exp()
    sizes = row.bincount(minlength=num_images)
    weights /= _sums(weights, sizes)[row]
    if k2 > 1:
        entries, weights = _mean_rows(ranking[:, :k2], col, weights, sizes)
    return _distances(entries, weights, num_images, np.float32(max_distance))


def _sets(ranking: Tensor, half: int) -> Tensor:
    """Return the entries (i, j) of the expanded sets, rising."""
    num_images, size = ranking.shape
    half = min(half, size)
    rows = torch.arange(num_images, device=ranking.device)
    # (N, K) and (N, half): whether the image of that column has i among its first
    within = torch.empty_like(ranking, dtype=torch.bool)
    within_half = within[:, :half].clone()
    for part in rows.split(max(1, _TERMS // size**2)):
        theirs = ranking[ranking[part]] == part[:, None, None]  # (B, K, K)
        within[part] = theirs.any(dim=2)
        within_half[part] = theirs[:, :half, :half].any(dim=2)
    entries = []
    for part in rows.split(max(1, _TERMS // (size**2 * half))):
        candidates, first = ranking[part], within[part]  # (B, K)
        members, inside = ranking[candidates][..., :half], within_half[candidates]
        known = candidates.masked_fill(~first, -1)[:, None, None]
        shared = ((members[..., None] == known).any(dim=3) & inside).sum(dim=2)
        joins = first & (3 * shared > 2 * inside.sum(dim=2))
        start = part * num_images
        entries.append((start[:, None] + candidates)[first])
        joined = inside & joins[..., None]
        entries.append((start[:, None, None] + members)[joined])
        entries = [torch.cat(entries).unique()] if len(entries) > 32 else entries
    return torch.cat(entries).unique()


def _sums(values: Tensor, sizes: Tensor) -> Tensor:
    """Return the sum of each run of values."""
    return torch.segment_reduce(values, "sum", lengths=sizes, unsafe=True)


def _summed(entries: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return each entry once, rising, and the sum of its values in their order."""
    entries, order = entries.sort(stable=True)
    entries, sizes = entries.unique_consecutive(return_counts=True)
    return entries, _sums(values[order], sizes)


def _runs(first: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``first[p], first[p] + 1, ...`` for each p, and the p of each."""
    owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    place = torch.arange(len(owner), device=counts.device)
    return place + (first - counts.cumsum(0) + counts)[owner], owner


def _parts(terms: Tensor) -> Iterator[slice]:
    """Yield slices of rows with about `_TERMS` terms each."""
    total = terms.cumsum(0)
    start = 0
    while start < len(terms):
        before = total[start - 1] if start else 0
        stop = int(torch.searchsorted(total, before + _TERMS, right=True))
        yield slice(start, max(stop, start + 1))
        start = max(stop, start + 1)


def _mean_rows(
    nearest: Tensor, col: Tensor, weights: Tensor, sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return entries and values of the mean of the rows of the nearest images."""
    num_images, k2 = nearest.shape
    starts = sizes.cumsum(0) - sizes
    found = []
    for part in _parts(sizes[nearest].sum(dim=1)):
        others = nearest[part].flatten()
        place, owner = _runs(starts[others], sizes[others])
        row = part.start + owner // k2
        found.append(_summed(row * num_images + col[place], 1 / k2 * weights[place]))
    entries, means = (torch.cat(part) for part in zip(*found, strict=True))
    return entries, means


def _distances(
    entries: Tensor, weights: Tensor, num_images: int, limit: np.float32
) -> sp.csr_matrix:
    """Return the distances of the rows of sparse weights, as `sparse_jaccard`."""
    row, col = entries // num_images, entries % num_images
    order = (col * num_images + row).argsort()  # column by column
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    others, their_weights = row[order], weights[order]
    ends = col.bincount(minlength=num_images).cumsum(0)
    later = ends[col] - place - 1  # terms of each entry with later rows
    terms = torch.zeros_like(ends).index_add_(0, row, later)
    sizes = row.bincount(minlength=num_images)
    last = sizes.cumsum(0)
    found = []
    for part in _parts(terms):
        begin, end = int(last[part.start] - sizes[part.start]), int(last[part.stop - 1])
        index, owner = _runs(place[begin:end] + 1, later[begin:end])
        owner += begin
        smaller = torch.minimum(weights[owner], their_weights[index])
        pairs, shared = _summed(row[owner] * num_images + others[index], smaller)
        distance = (1 - shared / (2 - shared)).clamp(min=0).float()
        near = (distance <= float(limit)) & (distance < 1)
        found.append((pairs[near].cpu().numpy(), distance[near].cpu().numpy()))
    near_pairs, distances = (np.concatenate(part) for part in zip(*found, strict=True))
    one, another = np.divmod(near_pairs, num_images)
    images = np.arange(num_images)
    both = np.r_[one, another, images], np.r_[another, one, images]
    values = np.r_[distances, distances, np.zeros(num_images, np.float32)]
    return sp.csr_matrix((values, both), shape=(num_images, num_images))
