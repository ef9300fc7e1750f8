"""Scores of a ranking: CMC, mAP, mINP and others under the cross-camera protocol."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import Array, check_choice, check_count, check_feature_pair
from reidlib.data.table import DISTRACTOR, JUNK, NO_CAMERA, UNKNOWN, ImageTable
from reidlib.errors import ReIDError
from reidlib.evaluation.distances import Distances, Rough
from reidlib.evaluation.rerank import Reranker
from reidlib.neighbors.kernels import in_threads, is_wanted

# Elements of a block of distances; all that is held for one is 4 bytes each, or some 20
# without compiled kernels. Where most pairs are near ties, it is 12 of whole rows.
_BLOCK_CPU, _BLOCK_GPU = 1 << 21, 1 << 26
# Gallery images of a block: a product of few queries with all images is slower by a
# sixth than one of many queries with some.
_TILE = 4096
# Images that are computed exactly beyond those asked for: near ties of the last one.
_SPARE = 8
_DISTANCES = ("cosine", "squared_euclidean")

Rows = tuple[np.ndarray, np.ndarray]


class NoMatchError(ReIDError):
    """No query has a match in the gallery."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` measured; shares are in [0, 1].

    Attributes:
        cmc: For each rank k the share of queries with a match among the first k.
        mAP: Mean over the queries of the average precision.
        mINP: Mean over the queries of the number of matches divided by the rank of the
            last of them.
        precision: Mean share of matches among the first ``at`` images.
        recall: Mean share of a query's matches that are among the first ``at`` images.
        at: Rank of precision and recall.
        ap: ``(Q,)`` average precision of each query, NaN for an unmatched one.
        num_queries: Q, unmatched queries included.
        num_unmatched: Queries that have no match in the gallery; no mean counts them.
        unmatched: Their rows in the query table.
        num_without_camera: Images of people in query and gallery whose camera is
            unknown: matches of one camera may count, which makes the figures too high.
    """

    cmc: dict[int, float]
    mAP: float
    mINP: float
    precision: float
    recall: float
    at: int
    ap: np.ndarray
    num_queries: int
    num_unmatched: int
    unmatched: np.ndarray
    num_without_camera: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for a JSON file, without the arrays.

        Example:
            >>> ap, unmatched = np.array([0.7, 0.1]), np.empty(0)
            >>> one = Evaluation({1: 0.5}, 0.4, 0.2, 0.1, 1.0, 10, ap, 2, 0, unmatched)
            >>> one.as_dict()["cmc"]
            {'1': 0.5}
        """
        return {
            "cmc": {str(rank): value for rank, value in self.cmc.items()},
            "mAP": self.mAP,
            "mINP": self.mINP,
            "precision": self.precision,
            "recall": self.recall,
            "at": self.at,
            "num_queries": self.num_queries,
            "num_unmatched": self.num_unmatched,
            "num_without_camera": self.num_without_camera,
        }


def evaluate(
    query_features: Array,
    gallery_features: Array,
    query: ImageTable,
    gallery: ImageTable,
    *,
    distance: str = "cosine",
    ranks: Sequence[int] = (1, 5, 10),
    at: int = 10,
    rerank: Mapping[str, Any] | None = None,
    other_cameras: bool = False,
) -> Evaluation:
    """Measure how well queries find their people in the gallery.

    The protocol of Market-1501 (Zheng et al., ICCV 2015). For each query the gallery is
    ranked by distance after leaving out

    - images of the same person under the same camera: to find those is too easy;
    - junk (person id -1), and images of unknown identity (-2): finding one is neither
      right nor wrong.

    A match is an image of the same person that is left. Distractors (person id 0) stay
    and are never one. Where a camera is unknown (-1), on either side, the two cameras
    count as different: matches of one camera then count, and a warning says so. A query
    without a match is counted and otherwise ignored.

    Equal distances are defined so that a model that cannot tell images apart gains
    nothing: average precision merges them, as scikit-learn's
    ``average_precision_score`` does; everything else puts other people before matches.

    Junk and images of unknown identity are dropped before anything else: re-ranking,
    which looks at the neighbours of all images, does not see them. The images of the
    same person under the same camera, which differ from query to query, it does see.

    Gallery images nearer than a match are counted, not sorted, for some queries at a
    time: memory does not grow with the number of queries. Distances are computed in
    float32, and exactly, from sums in float64, where a match is so near that float32
    cannot tell which of the two comes first.

    Args:
        query_features: ``(Q, D)`` features; rows belong to ``query``.
        gallery_features: ``(G, D)`` features; rows belong to ``gallery``.
        query: Identities and cameras of the queries.
        gallery: Identities and cameras of the gallery.
        distance: ``"cosine"``, or ``"squared_euclidean"`` for features whose length
            matters.
        ranks: Ranks of the CMC.
        at: Rank of precision and recall; a shorter list counts as if images of other
            people filled it up.
        rerank: Arguments of `k_reciprocal_rerank` (``{}`` for its defaults) to rank by
            its distance; None to leave re-ranking out.
        other_cameras: Leave out all images of the query's own camera, and not only
            those of its person: for sets in which only images of other cameras were
            named, see `reidlib.deploy.naming_page`. Re-ranking sees them.

    Returns:
        The figures, see `Evaluation`.

    Raises:
        ReIDError: If tables and features do not fit each other, a feature is not
            finite, a setting is unknown, or no query has a match.

    Warns:
        UserWarning: If people are seen without a camera.

    Example:
        >>> from pathlib import Path
        >>> query = ImageTable(Path(), ("q",), np.array([7]), np.array([0]))
        >>> gallery = ImageTable(
        ...     Path(), ("a", "b", "c"), np.array([7, 3, 7]), np.array([0, 1, 1])
        ... )
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2]])
        >>> evaluate(features[:1], features, query, gallery).mAP
        0.5
    """
    at = check_count(at, "at", "evaluate")
    ranks = [check_count(rank, "a rank", "evaluate") for rank in ranks]
    if not ranks:
        raise ReIDError("evaluate: there are no ranks; give one or more, from 1 up")
    search = _Search(
        query_features,
        gallery_features,
        query,
        gallery,
        distance,
        rerank,
        other_cameras=other_cameras,
    )
    matched = np.flatnonzero(search.num_matches)
    if not len(matched):
        raise NoMatchError(_why_unmatched(query, gallery))
    num_without_camera = warn_without_camera(query, gallery)

    figures = [
        _figures(search, rows, at).cpu() for rows in search.parts(matched, search.tile)
    ]
    first, ap, inp, precision, recall = torch.cat(figures, dim=1).numpy()

    all_ap = np.full(len(query), np.nan)
    all_ap[matched] = ap
    unmatched = np.flatnonzero(search.num_matches == 0)
    return Evaluation(
        cmc={rank: float((first <= rank).mean()) for rank in ranks},
        mAP=float(ap.mean()),
        mINP=float(inp.mean()),
        precision=float(precision.mean()),
        recall=float(recall.mean()),
        at=at,
        ap=all_ap,
        num_queries=len(query),
        num_unmatched=len(unmatched),
        unmatched=unmatched,
        num_without_camera=num_without_camera,
    )


def warn_without_camera(query: ImageTable, gallery: ImageTable) -> int:
    """Warn if people are seen without a camera, and return in how many images."""
    number = sum(
        int(((table.pids > DISTRACTOR) & (table.camids == NO_CAMERA)).sum())
        for table in (query, gallery)
    )
    if number:
        warnings.warn(camera_remark(number), stacklevel=3)
    return number


def camera_remark(number: int) -> str:
    """Say what unknown cameras mean for a score.

    Args:
        number: Images without a camera.
    """
    return (
        f"{number} images of query and gallery have no camera: matches of one camera "
        "cannot be left out, so the scores may be too high; fill in the cameras"
    )


def check_matches(query: ImageTable, gallery: ImageTable) -> None:
    """Raise `ReIDError` if no query has a match in the gallery."""
    if not _People(query, gallery).num_matches.any():
        raise NoMatchError(_why_unmatched(query, gallery))


def top_matches(
    query_features: Array,
    gallery_features: Array,
    query: ImageTable,
    gallery: ImageTable,
    k: int = 10,
    *,
    distance: str = "cosine",
    rerank: Mapping[str, Any] | None = None,
    other_cameras: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest gallery images of each query, for looking at them.

    What the protocol leaves out of the ranking (see `evaluate`) is left out here. If no
    query has an identity, nothing can be right or wrong, and gallery images of unknown
    identity are shown as well.

    Args:
        query_features: ``(Q, D)`` features; rows belong to ``query``.
        gallery_features: ``(G, D)`` features; rows belong to ``gallery``.
        query: Identities and cameras of the queries.
        gallery: Identities and cameras of the gallery.
        k: Number of images for each query.
        distance: As in `evaluate`.
        rerank: As in `evaluate`.
        other_cameras: As in `evaluate`.

    Returns:
        ``(Q, k)`` int64 rows of the gallery, nearest first, -1 where nothing is left;
        and ``(Q, k)`` bool, whether each is a match.

    Raises:
        ReIDError: As `evaluate`, but for queries without a match; or if k is below 1.

    Example:
        >>> from pathlib import Path
        >>> query = ImageTable(Path(), ("q",), np.array([7]), np.array([0]))
        >>> gallery = ImageTable(
        ...     Path(), ("a", "b", "c"), np.array([7, 3, 7]), np.array([0, 1, 1])
        ... )
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2]])
        >>> top_matches(features[:1], features, query, gallery, k=3)
        (array([[ 1,  2, -1]]), array([[False,  True, False]]))
    """
    check_count(k, "k", "top_matches")
    left_out = (JUNK, UNKNOWN) if (query.pids > DISTRACTOR).any() else (JUNK,)
    search = _Search(
        query_features,
        gallery_features,
        query,
        gallery,
        distance,
        rerank,
        left_out,
        other_cameras,
    )
    index = np.full((len(query), k), -1, dtype=np.int64)
    kept = min(k, len(search.kept))
    for rows in search.parts(np.arange(len(query)), len(search.kept)):
        rough = search.rough(rows)
        values, found = _nearest(rough, rough.tile(slice(None)), kept)
        index[rows, :kept] = np.where(np.isfinite(values), search.kept[found], -1)
    pids = gallery.pids[index]
    hits = (pids == query.pids[:, None]) & (pids > DISTRACTOR) & (index >= 0)
    return index, hits


def nearest_features(
    query_features: Array,
    gallery_features: Array,
    k: int,
    *,
    distance: str = "cosine",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest gallery features of each query, without any protocol.

    Args:
        query_features: ``(Q, D)`` features.
        gallery_features: ``(G, D)`` features.
        k: Features for each query; G at most.
        distance: As in `evaluate`.

    Returns:
        ``(Q, k)`` int64 rows of the gallery, nearest first, equal ones by row; and
        their float32 distances.

    Raises:
        ReIDError: If shapes do not fit, a feature is not finite, or k is below 1.

    Example:
        >>> nearest_features(np.float32([[1, 0]]), np.float32([[0, 1], [2, 0]]), k=1)
        (array([[1]]), array([[0.]], dtype=float32))
    """
    where = "nearest_features"
    check_choice(distance, "distance", where, _DISTANCES)
    queries, others = check_feature_pair(query_features, gallery_features, where)
    count = min(check_count(k, "k", where), len(others))
    pairs = Distances(queries, others, distance)
    index = np.empty((len(queries), count), dtype=np.int64)
    values = np.empty((len(queries), count), dtype=np.float32)
    for rows in torch.arange(len(queries)).split(max(1, _BLOCK_CPU // len(others))):
        rough = pairs.rough(rows)
        values[rows], index[rows] = _nearest(rough, rough.tile(slice(None)), count)
    return index, values


class _Search:
    """The pairs that the protocol compares, and their distances."""

    def __init__(
        self,
        query_features: Array,
        gallery_features: Array,
        query: ImageTable,
        gallery: ImageTable,
        distance: str,
        rerank: Mapping[str, Any] | None,
        left_out: Sequence[int] = (JUNK, UNKNOWN),
        other_cameras: bool = False,
    ) -> None:
        check_choice(distance, "distance", "ranking", _DISTANCES)
        tables = {"query": query, "gallery": gallery}
        for name, table in tables.items():
            if not len(table):
                raise ReIDError(f"the {name} of {table.root} is empty; nothing to rank")
        queries, others = check_feature_pair(
            query_features, gallery_features, "ranking"
        )
        for (name, table), features in zip(
            tables.items(), (queries, others), strict=True
        ):
            if len(features) != len(table):
                raise ReIDError(
                    f"{len(features)} {name} features for {len(table)} images of "
                    f"{table.root}; give one row per image, in the order of the table"
                )
        self.kept = np.flatnonzero(~np.isin(gallery.pids, left_out))
        if not len(self.kept):
            raise NoMatchError(
                f"all {len(gallery)} gallery images of {gallery.root} are junk (-1) or "
                "of unknown identity (-2); ranking needs identities"
            )
        if len(self.kept) < len(others):
            others = others[torch.from_numpy(self.kept).to(others.device)]
        self.distance = _distance(queries, others, distance, rerank)
        gpu = queries.device.type != "cpu"
        self.block = _BLOCK_GPU if gpu else _BLOCK_CPU
        # Re-ranking holds whole rows of its own.
        whole = gpu or rerank is not None
        self.tile = len(others) if whole else min(_TILE, len(others))
        self._people = _People(query, gallery[self.kept])
        self._cameras = None
        if other_cameras:
            self._cameras = query.camids, gallery.camids[self.kept]
        self.num_matches = self._people.num_matches
        # Pairs of one person, under any two cameras.
        self.num_same = int((self._people.last - self._people.first).sum())

    def matches(self, rows: np.ndarray) -> Rows:
        """Return place in ``rows`` (which ascend) and column of each match."""
        return self._people.matches(rows)

    def parts(self, rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
        """Yield as many queries as fit into a block of ``width`` distances each."""
        size = max(1, self.block // max(width, self.num_matches.max(initial=0)))
        for begin in range(0, len(rows), size):
            yield rows[begin : begin + size]

    def blocks(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield some queries and their ``(B, G)`` distances, inf where left out."""
        for part in self.parts(rows, len(self.kept)):
            block = self.distance.exact(torch.from_numpy(part))
            self._leave_out(part, block, self._people.same_camera(part))
            yield part, block

    def rough(self, rows: np.ndarray, *, matches: bool = True) -> Rough:
        """Return the distances of some queries in float32, to be repaired.

        Args:
            rows: Queries.
            matches: False to leave out the matches as well; inf stands there.
        """
        rough = self.distance.rough(torch.from_numpy(rows))
        row, col = self._people.same_camera(rows)
        if not matches:
            more = self.matches(rows)
            row, col = np.append(row, more[0]), np.append(col, more[1])

        def tile(cols: slice) -> Tensor:
            block = rough.tile(cols)
            first, last, _ = cols.indices(len(self.kept))
            inside = (first <= col) & (col < last)
            self._leave_out(rows, block, (row[inside], col[inside] - first), cols)
            return block

        return rough._replace(tile=tile)

    def _leave_out(
        self, rows: np.ndarray, block: Tensor, pairs: Rows, cols: slice = slice(None)
    ) -> None:
        row, col = pairs
        block[torch.from_numpy(row), torch.from_numpy(col)] = torch.inf
        if self._cameras is not None:
            own, theirs = self._cameras[0][rows, None], self._cameras[1][cols]
            same = torch.from_numpy((own == theirs) & (own != NO_CAMERA))
            block[same.to(block.device)] = torch.inf


class _People:
    """The pairs of one person, which are listed for some queries at a time.

    Gallery images are sorted by person and then by camera, so that those of a query's
    person are a range, and those of its camera a range inside::

        person    3  7  7  7  7  7  9
        camera    1  0  0  2  2  5  0
                     first             last       a query of person 7
                           own_first  own_last    under camera 2
    """

    def __init__(self, query: ImageTable, gallery: ImageTable) -> None:
        people, cameras = np.unique(gallery.pids), np.unique(gallery.camids)
        number = max(1, len(cameras))

        def key(table: ImageTable) -> tuple[np.ndarray, np.ndarray]:
            person = np.searchsorted(people, table.pids) * number
            return person, person + np.searchsorted(cameras, table.camids)

        places = key(gallery)[1]
        self.order = np.argsort(places, kind="stable")
        places = places[self.order]
        person, camera = key(query)
        known = (query.pids > DISTRACTOR) & np.isin(query.pids, people)
        self.first = np.searchsorted(places, person)
        self.last = np.searchsorted(places, person + number)
        self.last[~known] = self.first[~known]
        own = known & (query.camids != NO_CAMERA) & np.isin(query.camids, cameras)
        self.own_first = np.searchsorted(places, camera)
        self.own_last = np.searchsorted(places, camera, side="right")
        self.own_first[~own] = self.own_last[~own] = self.first[~own]
        self.num_matches = self.last - self.first - (self.own_last - self.own_first)

    def matches(self, rows: np.ndarray) -> Rows:
        """Return place in ``rows`` and column of each match, ascending."""
        return self._listed(
            (self.first[rows], self.own_first[rows]),
            (self.own_last[rows], self.last[rows]),
        )

    def same_camera(self, rows: np.ndarray) -> Rows:
        """Return the pairs of one camera, which the protocol leaves out."""
        return self._listed((self.own_first[rows], self.own_last[rows]))

    def _listed(self, *ranges: Rows) -> Rows:
        rows, cols = [], []
        for first, last in ranges:
            count = last - first
            row = np.repeat(np.arange(len(count)), count)
            start = np.repeat(first - (count.cumsum() - count), count)
            rows.append(row)
            cols.append(self.order[start + np.arange(len(row))])
        row, col = np.concatenate(rows), np.concatenate(cols)
        order = np.lexsort((col, row))
        return row[order], col[order]


def _distance(
    query: Tensor, gallery: Tensor, distance: str, rerank: Mapping[str, Any] | None
) -> Distances | Reranker:
    """Return what computes the distances of some queries."""
    if rerank is not None:
        settings = {"k1": 20, "k2": 6, "lambda_value": 0.3}
        if not isinstance(rerank, Mapping):
            raise ReIDError(f"ranking: rerank is {rerank!r:.40}; give {settings}")
        for name in rerank:
            check_choice(name, "a setting of rerank", "ranking", settings)
        return Reranker(query, gallery, **{**settings, **rerank})
    return Distances(query, gallery, distance)


def _figures(search: _Search, rows: np.ndarray, at: int) -> Tensor:
    """Return the scores of some queries.

    The rank of a match is the number of other images that are no farther, and of
    matches that are nearer. Counting those takes the place of sorting the gallery. An
    example, with ``*`` at the matches::

        distance   0.1   0.2*  0.3   0.4*  0.5
        nearest    0.2   0.4                     the matches alone, sorted
        others     1     2                       other images up to there
        matches    1     2                       matches up to there
        rank       2     4                       so AP = (1/2 + 2/4) / 2

    Args:
        search: What is compared.
        rows: ``(B,)`` queries that have a match.
        at: Rank of precision and recall.

    Returns:
        ``(5, B)`` float64: rank of the first match, average precision, inverse
        negative penalty, precision and recall.
    """
    rough = search.rough(rows, matches=False)  # they are counted on their own
    row, col = search.matches(rows)
    exact = rough.exact(row, col)
    device = exact.device
    num_matches = torch.from_numpy(search.num_matches[rows]).to(device)
    most = int(num_matches.max())
    place = torch.from_numpy(row).to(device)
    slot = torch.arange(len(row), device=device)
    slot -= (num_matches.cumsum(0) - num_matches)[place]
    nearest = exact.new_full((len(rows), most), torch.inf)
    nearest[place, slot] = exact
    nearest = nearest.sort(dim=1).values  # (B, M) distances of the matches

    number = torch.arange(most, device=device)
    real = number < num_matches[:, None]
    others = torch.zeros_like(nearest, dtype=torch.int64)
    for first in range(0, len(search.kept), search.tile):
        cols = slice(first, min(first + search.tile, len(search.kept)))
        _count_others(rough, cols, nearest, num_matches, others)
    matches = torch.searchsorted(nearest, nearest, right=True)  # up to each match
    # Of equal distances, other people come first.
    rank = others + number + 1
    total = num_matches.double()
    average = (matches / (others + matches).double()).where(real, 0.0).sum(1) / total
    last = rank.gather(1, num_matches[:, None] - 1)[:, 0]
    hits = ((rank <= at) & real).sum(1).double()
    return torch.stack(
        [rank[:, 0].double(), average, total / last, hits / at, hits / total]
    )


def _count_others(
    rough: Rough, cols: slice, nearest: Tensor, num_matches: Tensor, counts: Tensor
) -> None:
    """Count the images that are no farther than each match of a query.

    An image is no farther than match j if at most j matches are nearer than the image:
    a binary search among few matches for each image.

    Args:
        rough: Distances of the queries, inf for what is not counted.
        cols: Images that are counted.
        nearest: ``(B, M)`` exact distances of the matches, rising, filled up with inf.
        num_matches: ``(B,)`` matches of each query.
        counts: ``(B, M)`` int64 that is added to, where there is a match.
    """
    distance, gallery_margin = rough.tile(cols), rough.gallery_margin[cols]
    if distance.device.type == "cpu" and is_wanted(distance.shape[1]):
        from reidlib.evaluation import compiled

        parts = distance, rough.query_margin, gallery_margin
        arrays = [part.numpy() for part in (*parts, nearest, num_matches, counts)]
        found = in_threads(compiled.count_nearer, len(nearest), *arrays)
        pairs = [np.concatenate(part) for part in zip(*found, strict=True)]
        exact = rough.exact(pairs[0], pairs[1] + cols.start)
        compiled.count_pairs(*pairs, exact.numpy(), *arrays)
        return
    num_queries, most = nearest.shape
    margin = rough.query_margin[:, None] + gallery_margin
    nearer = torch.searchsorted(nearest, distance - margin)  # (B, C) from 0 to M
    beyond = torch.searchsorted(nearest, distance + margin, right=True)
    unsure = (nearer != beyond) & distance.isfinite()
    place, col = unsure.nonzero(as_tuple=True)
    exact = rough.exact(place.cpu().numpy(), col.cpu().numpy() + cols.start)
    lists = torch.arange(len(place), device=place.device)
    for part in lists.split(max(1, _BLOCK_CPU // most)):
        rows, at = place[part], col[part]
        nearer[rows, at] = torch.searchsorted(nearest[rows], exact[part][:, None])[:, 0]
    nearer += torch.arange(num_queries, device=place.device)[:, None] * (most + 1)
    number = nearer.flatten().bincount(minlength=num_queries * (most + 1))
    counts += number.view(num_queries, -1).cumsum(1)[:, :most]


def _nearest(rough: Rough, distance: Tensor, k: int) -> Rows:
    """Return exact distances and columns of the nearest images, ties by column.

    Some more than k are computed exactly. A query whose last one may still be nearer
    than its k-th is computed as a whole.
    """
    num_queries, num_gallery = distance.shape
    count = min(k + _SPARE, num_gallery)
    top = distance.topk(count, largest=False)
    col = top.indices.sort(dim=1).values.cpu().numpy()
    left = distance.isinf().cpu().numpy()

    def exact_at(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        row, col = np.repeat(rows, cols.shape[1]), cols.ravel()
        exact = np.where(left[row, col], np.inf, rough.exact(row, col).cpu().numpy())
        return exact.reshape(cols.shape)

    nearest, col = _first(exact_at(np.arange(num_queries), col), col, k)
    if count < num_gallery:
        margin = rough.query_margin + rough.gallery_margin.max()
        least = (top.values[:, -1] - margin).cpu().numpy()  # of all that are left
        for row in np.flatnonzero((least <= nearest[:, -1]) & np.isfinite(least)):
            rows, every = np.array([row]), np.arange(num_gallery)[None]
            found = _first(exact_at(rows, every), every, k)
            nearest[row], col[row] = found[0][0], found[1][0]
    return nearest, col


def _first(
    distance: np.ndarray, col: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k least distances of each row and their columns."""
    order = distance.argsort(axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distance, order, 1), np.take_along_axis(col, order, 1)


def _why_unmatched(query: ImageTable, gallery: ImageTable) -> str:
    """Say why no query has a match."""
    start = f"none of the {len(query)} queries has a match in the gallery"
    known = query.pids > DISTRACTOR
    if not known.any():
        return f"{start}: no query has an identity; ranking needs identities"
    found = np.isin(query.pids, gallery.pids) & known
    if not found.any():
        return (
            f"{start}: no query identity appears in the gallery (for instance "
            f"{query.pids[known][0]} does not); check that both splits show the same "
            "people, with the same person ids"
        )
    row = int(np.flatnonzero(found)[0])
    return (
        f"{start}: the {found.sum()} whose person appears there, for instance "
        f"{query.paths[row]!r} with person {query.pids[row]}, share the camera with "
        "all images of that person, and same person with same camera is left out; "
        "name people in other cameras, check the camera ids, or give "
        f"{NO_CAMERA} to images whose camera is unknown"
    )
