"""Exact nearest neighbours by cosine similarity."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import Array, check_choice, check_count, check_features
from reidlib.errors import ReIDError
from reidlib.neighbors import kernels
from reidlib.terminal import progress

_BACKENDS = ("auto", "torch", "faiss", "faiss-ivf", "faiss-hnsw")
_APPROXIMATE = ("faiss-ivf", "faiss-hnsw")

# Elements of one block of similarities: 64 MiB of float32.
_BLOCK = 1 << 24
# Rows and columns of a product of which one triangle is computed: 1 MiB of float32.
_TILE = 512
# Elements of the vectors of some pairs that are widened to float64 at once.
_PAIRS = 1 << 20
# Neighbours that are found beyond those asked for: near ties of the last of them.
SPARE = 8
# Candidates beyond those, where they are found in bfloat16.
_MORE = 40
# With shorter features or fewer images, checking candidates takes longer than products
# in float32.
_LONG, _MANY_IMAGES = 1024, 8192
# Share of rows without proof from which on all rows are searched in float32.
_UNSURE = 0.05
# Where two cosines differ by less than this, their order in float32 may depend on the
# library, on the number of threads and on the place in the matrix.
TIE = 2e-6


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
        backend: ``"auto"`` computes half of the products on a CPU with numba, and is
            ``"torch"`` otherwise; of many long features it finds candidates in bfloat16
            where the processor has tiles of it (AMX), and checks them exactly.
            ``"faiss"`` gives the same answers, on the GPU when the features lie there
            and the installed faiss can. ``"faiss-ivf"`` and
            ``"faiss-hnsw"`` are approximate, for sets of which all pairs are too many:
            they miss neighbours (`search_recall` measures how many), and what they find
            depends on the version of faiss and, for HNSW, on the threads.

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


def search_recall(
    features: Array,
    k: int,
    backend: str,
    generator: torch.Generator,
    *,
    sample: int = 1000,
) -> float:
    """Measure which share of the k nearest others a backend finds.

    Args:
        features: ``(N, D)`` L2-normalised features, on any device.
        k: As for `nearest_neighbors`.
        backend: As for `nearest_neighbors`: ``"faiss-ivf"``, for instance.
        generator: Source of the sample.
        sample: Images of which the nearest others are searched exactly, too.

    Returns:
        The mean share, in [0, 1].

    Raises:
        ReIDError: As `nearest_neighbors`.

    Example:
        >>> points = torch.nn.functional.normalize(torch.arange(6.0).view(3, 2))
        >>> search_recall(points, 1, "torch", torch.Generator())
        1.0
    """
    sample = check_count(sample, "sample", "search_recall")
    index = nearest_neighbors(features, k, backend=backend)[1]
    features = check_features(features, "search_recall", normalised=True)
    rows = torch.randperm(len(features), generator=generator)[:sample]
    hits = []
    for part in rows.to(features.device).split(max(1, _BLOCK // (4 * len(features)))):
        exact = _exact_rows(features, features, part)[:, :k]
        hits.append((index[part, :, None] == exact[:, None]).any(dim=2).double())
    return float(torch.cat(hits).mean())


def search_others(
    queries: Tensor, features: Tensor, k: int, backend: str = "auto"
) -> Tensor:
    """Return the k most similar other images of each image, in their exact order.

    The order is that of products in float64, rounded to float32, so that equal features
    are equal, and ties go by index. A product in float32 (or one in bfloat16, whose
    answer is proven row by row) finds the first k and some more. Only where two of
    these are nearly equal are they computed again, and a row is computed again as a
    whole where more may be nearly equal to the k-th.

    Args:
        queries: ``(N, D)`` float32: the features, or their negative for the images that
            are farthest away.
        features: ``(N, D)`` float32. Row i is never found by query i.
        k: From 1 to N - 1.
        backend: As in `nearest_neighbors`.

    Returns:
        ``(N, k)`` int64 rows.
    """
    check_choice(backend, "backend", "nearest_neighbors", _BACKENDS)
    num_images = len(features)
    count = min(k + SPARE, num_images - 1)
    search = _search_torch
    if backend.startswith("faiss"):
        search = partial(_search_faiss, backend=backend)
    elif (
        backend == "auto"
        and features.device.type == "cpu"
        and kernels.is_wanted(num_images)
    ):
        search = _search_compiled
    with full_precision(features.device):
        similarity, found = search(queries, features, count)
        index = found.long()
        near = similarity[:, :-1] - similarity[:, 1:] <= TIE
        unsure = near.any(dim=1).nonzero()[:, 0]
        if len(unsure):
            tied = near[unsure]
            tied = F.pad(tied, (0, 1)) | F.pad(tied, (1, 0))
            index[unsure] = _reorder(
                queries, features, unsure, similarity[unsure], index[unsure], tied
            )
        if count < num_images - 1 and backend not in _APPROXIMATE:
            more = (similarity[:, k - 1] - similarity[:, -1] <= TIE).nonzero()[:, 0]
            for rows in more.split(max(1, _BLOCK // (4 * num_images))):
                if len(rows):
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
    # By the size of the set: all pairs of a set are summed in one order.
    if features.device.type == "cpu" and kernels.is_wanted(len(features)):
        from reidlib.neighbors import compiled

        similarity = np.empty(len(rows), np.float32)
        vectors = queries.contiguous().numpy(), features.contiguous().numpy()
        kernels.in_threads(
            compiled.similarities, len(rows), *vectors, rows, others, similarity
        )
        return similarity
    row, other = (torch.from_numpy(i).to(features.device) for i in (rows, others))
    return similarities_of(queries, features, row, other).cpu().numpy()


def similarities_of(
    queries: Tensor, features: Tensor, rows: Tensor, others: Tensor
) -> Tensor:
    """`pair_similarities` of and as tensors, on the device of the features."""
    similarity = features.new_empty(len(rows))
    for part in torch.arange(len(rows)).split(max(1, _PAIRS // features.shape[1])):
        pairs = slice(int(part[0]), int(part[-1]) + 1) if len(part) else slice(0)
        one = queries[rows[pairs].long()].double()
        similarity[pairs] = one.mul_(features[others[pairs].long()]).sum(dim=1).float()
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
    blocks = rows.split(max(1, _BLOCK // len(features)))
    for block in progress(blocks, "neighbours", len(blocks)):
        product = queries[block] @ features.T  # (B, N) cosine similarity
        product[block - block[0], block] = -torch.inf
        top = product.topk(count, dim=1)
        similarity.append(top.values)
        index.append(top.indices)
    return torch.cat(similarity), torch.cat(index)


def _search_compiled(
    queries: Tensor, features: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Return the most similar others by kernels."""
    num_images, dim = features.shape
    if dim >= _LONG and num_images >= _MANY_IMAGES and _bfloat16_is_fast():
        return _search_candidates(queries, features, count)
    return _search_triangle(queries, features, count)


def _bfloat16_is_fast() -> bool:
    """Return whether the processor multiplies tiles of bfloat16 (AMX)."""
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(told.get("amx_bf16"))


def _search_candidates(
    queries: Tensor, features: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Find candidates by products in bfloat16, and prove that none is missing.

    With x' for x rounded, ``|xy - x'y'| <= |x - x'| |y| + |x'| |y - y'|``. A row has
    lost none where its exact similarities are above that of its last candidate in
    bfloat16 by more than this. The other rows are searched again, exactly.
    """
    num_images, dim = features.shape
    more = min(count + _MORE, num_images - 1)
    queries, features = queries.contiguous(), features.contiguous()
    length = features.norm(dim=1)
    lost = torch.cat([_lost_by_rounding(part) for part in features.split(_TILE)])
    longest = length.max()
    bound = lost * longest + (length + lost) * lost.max()
    bound += dim * torch.finfo(torch.float32).eps * longest**2  # of the sum
    torch.set_float32_matmul_precision("medium")
    about, candidates = _search_triangle(queries, features, more)
    torch.set_float32_matmul_precision("highest")
    candidates = candidates.sort(dim=1).values  # equal ones go by index
    index, similarity = candidates[:, :count].clone(), about[:, :count].clone()
    for rows in torch.arange(num_images).split(_TILE):
        exact = _similarities_at(queries, features, rows, candidates[rows])
        exact, order = exact.sort(dim=1, descending=True, stable=True)
        similarity[rows] = exact[:, :count]
        index[rows] = candidates[rows].gather(1, order[:, :count])
    unsure = (similarity[:, -1] - bound - TIE <= about[:, -1]).nonzero()[:, 0]
    if len(unsure) > _UNSURE * num_images:
        return _search_triangle(queries, features, count)
    if len(unsure):
        for rows in unsure.split(max(1, _BLOCK // (4 * num_images))):
            index[rows] = _exact_rows(queries, features, rows)[:, :count].int()
        similarity[unsure] = _similarities_at(queries, features, unsure, index[unsure])
    return similarity, index


def _similarities_at(
    queries: Tensor, features: Tensor, rows: Tensor, index: Tensor
) -> Tensor:
    """Return the exact similarities of some queries with some images of each."""
    pairs = rows[:, None].expand_as(index).reshape(-1).numpy(), index.numpy().ravel()
    return torch.from_numpy(pair_similarities(queries, features, *pairs)).view(
        index.shape
    )


def _lost_by_rounding(features: Tensor) -> Tensor:
    """Return the norm of what bfloat16 does not hold of each row."""
    return (features - features.bfloat16().float()).norm(dim=1)


def _search_triangle(
    queries: Tensor, features: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Return the most similar others, from the products of one triangle.

    The similarity of i and j is that of j and i: of the blocks of the matrix those
    above the diagonal are computed. Each serves the images of its rows and of its
    columns, and stays in the cache of the processor meanwhile.
    """
    from reidlib.neighbors import compiled

    num_images = len(features)
    similarity = np.full((num_images, count), -np.inf, np.float32)
    index = np.full((num_images, count), num_images, np.int32)
    buffer = torch.empty(_TILE, _TILE)
    tiles = range(0, num_images, _TILE)
    pairs = combinations_with_replacement(tiles, 2)
    total = len(tiles) * (len(tiles) + 1) // 2
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        share = partial(kernels.in_threads, pool=pool)
        for row, col in progress(pairs, "neighbours", total):
            block, others = queries[row : row + _TILE], features[col : col + _TILE]
            product = buffer[: len(block), : len(others)]
            torch.mm(block, others.T, out=product)
            lists = product.numpy(), row, col, similarity, index
            share(compiled.keep_largest_of_rows, len(block), *lists)
            if col > row:
                share(compiled.keep_largest_of_columns, len(others), *lists)
    return torch.from_numpy(similarity), torch.from_numpy(index)


def _search_faiss(
    queries: Tensor, features: Tensor, count: int, backend: str
) -> tuple[Tensor, Tensor]:
    """Return the most similar others by an index of inner products."""
    try:
        import faiss
    except ImportError as error:
        raise ReIDError(
            f"nearest_neighbors: backend is {backend!r}, and faiss is not installed; "
            "run 'pip install faiss-cpu' or give backend='torch'"
        ) from error

    vectors = features.cpu().contiguous().numpy()
    num_images, dim = vectors.shape
    lists = max(1, min(round(4 * num_images**0.5), num_images // 40))
    index: faiss.Index = faiss.IndexFlatIP(dim)
    if backend == "faiss-ivf":  # the lists around the nearest sixteenth of the centers
        index = faiss.IndexIVFFlat(index, dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(8, lists // 16)
    elif backend == "faiss-hnsw":  # 32 links an image
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = max(64, 4 * count)
    elif features.is_cuda and hasattr(faiss, "StandardGpuResources"):
        device = features.device.index or 0
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device, index)
    index.train(vectors)
    index.add(vectors)
    found = index.search(queries.cpu().contiguous().numpy(), count + 1)
    similarity, places = (torch.from_numpy(part) for part in found)
    # Where the image itself is not found, the last one goes instead. Among many copies
    # of an image such a row is a tie, which is computed again.
    own = places == torch.arange(num_images)[:, None]
    own[:, -1] |= ~own.any(dim=1)
    kept = ~own
    shape = (num_images, count)
    similarity = similarity[kept].view(shape).to(features.device)
    places = places[kept].view(shape).to(features.device)
    # An approximate index may find too few.
    for rows in (places < 0).any(dim=1).nonzero()[:, 0].split(_TILE):
        places[rows] = _exact_rows(queries, features, rows)[:, :count]
        similarity[rows] = (queries[rows, None] * features[places[rows]]).sum(dim=2)
    return similarity, places


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
