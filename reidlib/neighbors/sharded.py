"""Neighbours of images whose features lie on several machines.

Each process of a `torch.distributed` group holds the features of some images, in the
order of the ranks: those of rank 0 come first. What is large stays divided, the
features and the product of all with all: in turn each process sends its shard to the
others, which look in it for neighbours of their own images. What is small, lists of
neighbours and sparse rows, every process has.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch
import torch.distributed as dist
from torch import Tensor

from reidlib.errors import ReIDError
from reidlib.neighbors.search import SPARE, TIE, full_precision, pair_similarities

# Elements of one block of similarities.
_BLOCK = 1 << 24
# Images that are compared with a whole shard at once, in float64.
_ROWS = 64


def first_rows(own: Tensor) -> list[int]:
    """Return the number of each process's first image, and that of all images.

    Args:
        own: ``(n, ...)`` rows of this process.

    Raises:
        ReIDError: If there is no process group.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise ReIDError(
            "there is no process group; start with torchrun and call "
            "torch.distributed.init_process_group"
        )
    sizes = [own.new_zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(own)], device=own.device))
    return [0, *torch.cat(sizes).cumsum(0).tolist()]


def shards(own: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of the first row and the rows of each process in turn."""
    starts = first_rows(own)
    for rank, (start, stop) in enumerate(pairwise(starts)):
        shard = own.contiguous()
        if rank != dist.get_rank():
            shard = own.new_empty((stop - start, *own.shape[1:]))
        dist.broadcast(shard, src=rank)
        yield start, shard


def gathered(own: Tensor) -> Tensor:
    """Return the rows of all processes."""
    return torch.cat([shard for _, shard in shards(own)])


def sharded_ranking(features: Tensor, size: int) -> np.ndarray:
    """Return what `ranking_with_self` returns, of the images of all processes.

    Args:
        features: ``(n, D)`` float32, L2-normalised, of this process.
        size: K, the image itself counted, from 1 to N.

    Returns:
        ``(N, K)`` int64 rows, in every process.
    """
    own = torch.arange(len(features), device=features.device)
    own += first_rows(features)[dist.get_rank()]
    similarity = features.new_full((len(features), size - 1), -torch.inf)
    index = own.new_zeros((len(features), size - 1))
    if size > 1:
        for start, shard in shards(features):
            for part in torch.arange(len(own)).split(max(1, _BLOCK // len(shard))):
                rows = part.to(own.device)
                lists = similarity[rows], index[rows]
                similarity[rows], index[rows] = _merged(
                    features[rows], own[rows], shard, start, *lists
                )
    return gathered(torch.cat([own[:, None], index], dim=1)).cpu().numpy()


def _merged(
    queries: Tensor,
    own: Tensor,
    shard: Tensor,
    start: int,
    similarity: Tensor,
    index: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the lists of some images with what a shard has of their neighbours."""
    count = min(index.shape[1] + SPARE, len(shard))
    with full_precision(queries.device):
        product = queries @ shard.T
    itself = own[:, None] == torch.arange(start, start + len(shard), device=own.device)
    top = product.masked_fill_(itself, -torch.inf).topk(count, dim=1)
    places = np.arange(len(own)).repeat(count), top.indices.cpu().numpy().ravel()
    exact = torch.from_numpy(pair_similarities(queries, shard, *places))
    exact = exact.to(product).view(-1, count)
    exact[top.values.isneginf()] = -torch.inf
    found = _first(exact, top.indices + start, similarity, index)
    if count < len(shard):
        # What is left may be nearer than the last one: then all of it is looked at.
        near = top.values[:, -1] + TIE >= found[0][:, -1]
        every = torch.arange(start, start + len(shard), device=own.device)
        for row in near.nonzero()[:, 0].split(_ROWS):
            exact = (queries[row].double() @ shard.double().T).float()
            exact[itself[row]] = -torch.inf
            images = every.expand(len(row), -1)
            merged = _first(exact, images, similarity[row], index[row])
            found[0][row], found[1][row] = merged
    return found


def _first(
    similarity: Tensor, index: Tensor, others: Tensor, their_index: Tensor
) -> tuple[Tensor, Tensor]:
    """Return as many as there are others, the largest first, equal ones by index."""
    values = torch.cat([others, similarity], dim=1)
    images = torch.cat([their_index, index], dim=1)
    by_index = images.argsort(dim=1, stable=True)
    values, images = values.gather(1, by_index), images.gather(1, by_index)
    order = values.argsort(dim=1, descending=True, stable=True)[:, : others.shape[1]]
    return values.gather(1, order), images.gather(1, order)


def sharded_similarities(features: Tensor, sets: sp.csr_matrix) -> np.ndarray:
    """Return the similarity of each image with the members of its set.

    Args:
        features: ``(n, D)`` float32, L2-normalised, of this process.
        sets: ``(N, N)`` CSR, in every process.

    Returns:
        float32, one for each entry, in every process.
    """
    first = first_rows(features)[dist.get_rank()]
    rows = sets[first : first + len(features)]
    row = np.repeat(np.arange(len(features)), np.diff(rows.indptr))
    similarity = np.empty(rows.nnz, np.float32)
    for start, shard in shards(features):
        here = (rows.indices >= start) & (rows.indices < start + len(shard))
        similarity[here] = pair_similarities(
            features, shard, row[here], rows.indices[here] - start
        )
    return gathered(torch.from_numpy(similarity).to(features.device)).cpu().numpy()
