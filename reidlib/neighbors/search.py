"""Exact nearest neighbours by cosine similarity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from reidlib.checks import Array, check_choice, check_count, check_features
from reidlib.errors import ReIDError

# Elements of one block of similarities: 64 MiB of float32.
_BLOCK = 1 << 24
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
    return search_others(features, features, k, backend)


def search_others(
    queries: Tensor, features: Tensor, k: int, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """`nearest_neighbors` of checked input, with a query of its own for each image.

    Args:
        queries: ``(N, D)`` float32: the features, or their negative for the images that
            are farthest away.
        features: ``(N, D)`` float32. Row i is never found by query i.
        k: From 1 to N - 1.
        backend: As in `nearest_neighbors`.

    Returns:
        ``(N, k)`` float32 inner products, falling, and ``(N, k)`` int64 rows.
    """
    check_choice(backend, "backend", "nearest_neighbors", ("auto", "torch", "faiss"))
    num_images = len(features)
    # One more than asked for shows whether the last place is a tie, too.
    count = min(k + 1, num_images - 1)
    with _full_precision(features.device):
        search = _search_faiss if backend == "faiss" else _search_torch
        similarity, index = search(queries, features, count)
        gaps = similarity[:, :-1] - similarity[:, 1:]
        unsure = (gaps <= _TIE).any(dim=1).nonzero()[:, 0]
        similarity, index = similarity[:, :k], index[:, :k]
        if len(unsure):
            similarity, index = similarity.clone(), index.clone()
            wide = features.double()
            for rows in unsure.split(max(1, _BLOCK // (8 * num_images))):
                exact, order = _exact_rows(queries, wide, rows)
                similarity[rows], index[rows] = exact[:, :k], order[:, :k]
    return similarity.contiguous(), index.contiguous()


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
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


def _exact_rows(queries: Tensor, wide: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return all others of some images in their exact order, ties by index.

    Products in float64 rounded to float32 are equal for equal features.
    """
    product = (queries[rows].double() @ wide.T).float()
    product[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
    return product.sort(dim=1, descending=True, stable=True)
