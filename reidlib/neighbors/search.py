"""Exact nearest neighbours by cosine similarity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import Array, check_choice, check_count, check_features
from reidlib.errors import ReIDError
from reidlib.neighbors import compiled

# Elements of one block of similarities: 64 MiB of float32.
_BLOCK = 1 << 24
# Rows and columns of a product of which one triangle is computed: 1 MiB of float32.
_TILE = 512
# Elements of the vectors of some pairs that are widened to float64 at once.
_PAIRS = 1 << 20
# Neighbours that are found beyond those asked for: near ties of the last of them.
_SPARE = 8
# Where two cosines differ by less than this, their order in float32 may depend on the
# library, on the number of threads and on the place in the matrix.
_TIE = 2e-6


def nearest_neighbors(
    features: Array, k: int, *, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Find the k most similar other images of each image, exactly.

    An image is never its own neighbour, even when another image has the same
    features. Neighbours come by falling similarity, equal ones by rising index. Rows in
    which float32 cannot tell the order are computed once more in float64, so that the
    answer depends neither on the backend nor on the number of threads. Memory grows
    with N, not with its square.

    Args:
        features: ``(N, D)`` L2-normalised features, on any device.
        k: Neighbours an image, the image itself not counted, from 1 to N - 1.
        backend: ``"torch"`` or ``"faiss"``, same answers; ``"auto"`` is torch, which is
            as fast. faiss searches on the GPU when the features lie there and the
            installed faiss can.

    Returns:
        Similarities ``(N, k)`` float32 and indices ``(N, k)`` int64, on the device of
        the features.

    Raises:
        ReIDError: If the features are not normalised and finite, k is outside
            [1, N - 1], or faiss is asked for and missing.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> nearest_neighbors(points, k=1)[1]
        tensor([[1],
                [2],
                [1]])
    """
    features = check_features(features, "nearest_neighbors", normalised=True)
    k = check_count(k, "k", "nearest_neighbors")
    num_images = len(features)
    if k >= num_images:
        raise ReIDError(
            f"nearest_neighbors: k is {k} and there are {num_images} images, each with "
            f"{num_images - 1} others; give a smaller k or more images"
        )
    index = search_others(features, features, k, backend)
    rows = np.arange(num_images).repeat(k)
    pairs = rows, index.cpu().numpy().ravel()
    similarity = pair_similarities(features, features, *pairs).reshape(num_images, k)
    return torch.from_numpy(similarity).to(features.device), index


def search_others(
    queries: Tensor, features: Tensor, k: int, backend: str = "auto"
) -> Tensor:
    """Return the k most similar other images of each image, in their exact order.

    The order is that of products in float64, rounded to float32, so that equal features
    are equal, and ties go by index. A float32 product finds the first k and some more.
    Only where two of these are nearly equal are they computed again, and a row is
    computed again as a whole where more may be nearly equal to the k-th.

    Args:
        queries: ``(N, D)`` float32: the features, or their negative for the images that
            are farthest away.
        features: ``(N, D)`` float32. Row i is never found by query i.
        k: From 1 to N - 1.
        backend: As in `nearest_neighbors`.

    Returns:
        ``(N, k)`` int64 rows.
    """
    check_choice(backend, "backend", "nearest_neighbors", ("auto", "torch", "faiss"))
    num_images = len(features)
    count = min(k + _SPARE, num_images - 1)
    search = _search_faiss if backend == "faiss" else _search_torch
    if (
        backend == "auto"
        and features.device.type == "cpu"
        and compiled.is_wanted(num_images)
    ):
        search = _search_compiled
    with full_precision(features.device):
        similarity, found = search(queries, features, count)
        index = found.long()
        near = similarity[:, :-1] - similarity[:, 1:] <= _TIE
        unsure = near.any(dim=1).nonzero()[:, 0]
        if len(unsure):
            tied = near[unsure]
            tied = F.pad(tied, (0, 1)) | F.pad(tied, (1, 0))
            index[unsure] = _reorder(
                queries, features, unsure, similarity[unsure], index[unsure], tied
            )
        if count < num_images - 1:
            more = (similarity[:, k - 1] - similarity[:, -1] <= _TIE).nonzero()[:, 0]
            for rows in more.split(max(1, _BLOCK // (4 * num_images))):
                index[rows, :k] = _exact_rows(queries, features, rows)[:, :k]
    return index[:, :k].contiguous()


def pair_similarities(
    queries: Tensor, features: Tensor, rows: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Return the inner products of some pairs, as exact as float32 can hold them.

    Args:
        queries: ``(Q, D)`` float32, on any device.
        features: ``(N, D)`` float32, on the same device.
        rows: ``(P,)`` rows of the queries.
        others: ``(P,)`` rows of the features.

    Returns:
        ``(P,)`` float32, summed in float64: they depend neither on threads nor on the
        place of a pair, and are equal for equal features.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
        >>> pair_similarities(points, points, np.array([0, 0]), np.array([0, 1]))
        array([1. , 0.6], dtype=float32)
    """
    similarity = np.empty(len(rows), np.float32)
    if features.device.type == "cpu" and compiled.is_wanted(len(rows)):
        vectors = queries.contiguous().numpy(), features.contiguous().numpy()
        compiled.in_threads(
            compiled.similarities, len(rows), *vectors, rows, others, similarity
        )
        return similarity
    block = max(1, _PAIRS // features.shape[1])
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        one, other = (
            vectors[torch.from_numpy(index[part]).long().to(features.device)].double()
            for vectors, index in ((queries, rows), (features, others))
        )
        similarity[part] = one.mul_(other).sum(dim=1).float().cpu().numpy()
    return similarity


def _reorder(
    queries: Tensor,
    features: Tensor,
    rows: Tensor,
    similarity: Tensor,
    index: Tensor,
    tied: Tensor,
) -> Tensor:
    """Return the neighbours of some images with their near ties in exact order."""
    one, other = (
        part[tied].cpu().numpy() for part in (rows[:, None].expand_as(index), index)
    )
    exact = pair_similarities(queries, features, one, other)
    similarity = similarity.clone()
    similarity[tied] = torch.from_numpy(exact).to(similarity)
    # By index, and then by similarity in an order that keeps the first among equals.
    by_index = index.argsort(dim=1)
    order = similarity.gather(1, by_index).argsort(dim=1, descending=True, stable=True)
    return index.gather(1, by_index.gather(1, order))


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep TF32 and autocast, which are right for training, out of the search."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _search_torch(
    queries: Tensor, features: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Return the most similar others, in blocks of rows."""
    similarity, index = [], []
    rows = torch.arange(len(features), device=features.device)
    for block in rows.split(max(1, _BLOCK // len(features))):
        product = queries[block] @ features.T  # (B, N) cosine similarity
        product[block - block[0], block] = -torch.inf
        top = product.topk(count, dim=1)
        similarity.append(top.values)
        index.append(top.indices)
    return torch.cat(similarity), torch.cat(index)


def _search_compiled(
    queries: Tensor, features: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Return the most similar others, from the products of one triangle.

    The similarity of i and j is that of j and i: of the blocks of the matrix those
    above the diagonal are computed. Each serves the images of its rows and of its
    columns, and stays in the cache of the processor meanwhile.
    """
    num_images = len(features)
    similarity = np.full((num_images, count), -np.inf, np.float32)
    index = np.full((num_images, count), num_images, np.int32)
    buffer = torch.empty(_TILE, _TILE)
    for row in range(0, num_images, _TILE):
        block = queries[row : row + _TILE]
        for col in range(row, num_images, _TILE):
            others = features[col : col + _TILE]
            product = buffer[: len(block), : len(others)]
            torch.mm(block, others.T, out=product)
            lists = product.numpy(), row, col, similarity, index
            compiled.in_threads(compiled.keep_largest_of_rows, len(block), *lists)
            if col > row:
                compiled.in_threads(
                    compiled.keep_largest_of_columns, len(others), *lists
                )
    return torch.from_numpy(similarity), torch.from_numpy(index)


def _search_faiss(
    queries: Tensor, features: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Return the most similar others by a flat inner-product index."""
    try:
        import faiss
    except ImportError as error:
        raise ReIDError(
            "nearest_neighbors: backend is 'faiss', which is not installed; run "
            "'pip install faiss-cpu' or give backend='torch'"
        ) from error

    vectors = features.cpu().contiguous().numpy()
    flat: faiss.Index = faiss.IndexFlatIP(vectors.shape[1])
    if features.is_cuda and hasattr(faiss, "StandardGpuResources"):
        device = features.device.index or 0
        flat = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device, flat)
    flat.add(vectors)
    found = flat.search(queries.cpu().contiguous().numpy(), count + 1)
    similarity, index = (torch.from_numpy(part) for part in found)
    # Where the image itself is not found, the last one goes instead. Among many copies
    # of an image such a row is a tie, which is computed again.
    own = index == torch.arange(len(index))[:, None]
    own[:, -1] |= ~own.any(dim=1)
    kept = ~own
    shape = (len(index), count)
    return (
        similarity[kept].view(shape).to(features.device),
        index[kept].view(shape).to(features.device),
    )


def _exact_rows(queries: Tensor, features: Tensor, rows: Tensor) -> Tensor:
    """Return all others of some images in their exact order, ties by index.

    Products in float64 rounded to float32 are equal for equal features.
    """
    wide = queries[rows].double()
    product = queries.new_empty((len(rows), len(features)))
    for start in range(0, len(features), _TILE):
        part = slice(start, start + _TILE)
        product[:, part] = wide @ features[part].double().T
    product[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
    return product.argsort(dim=1, descending=True, stable=True)
