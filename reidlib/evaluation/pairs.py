"""Distances of pairs, on which a threshold is chosen and measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from reidlib.checks import Array, check_count, check_number, check_seed
from reidlib.data.table import DISTRACTOR, NO_CAMERA, ImageTable
from reidlib.errors import ReIDError
from reidlib.evaluation.ranking import _Search, warn_without_camera


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a query and a gallery image with their distances, see `pair_distances`.

    Attributes:
        distance: ``(P,)`` float32.
        positive: ``(P,)`` bool, whether both images show one person.
        query: ``(P,)`` int32 rows of ``query_table``.
        gallery: ``(P,)`` int32 rows of ``gallery_table``.
        query_table: The queries.
        gallery_table: The gallery.
        kept_share: Share of the negative pairs that are kept, about; 1.0 means all.
    """

    distance: np.ndarray
    positive: np.ndarray
    query: np.ndarray
    gallery: np.ndarray
    query_table: ImageTable
    gallery_table: ImageTable
    kept_share: float = 1.0

    def __len__(self) -> int:
        return len(self.distance)

    def __getitem__(self, rows: np.ndarray | slice) -> Pairs:
        """Return some of the pairs (indices, a mask or a slice)."""
        columns = ("distance", "positive", "query", "gallery")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    @property
    def positives(self) -> np.ndarray:
        """Distances of the pairs of one person."""
        return self.distance[self.positive]

    @property
    def negatives(self) -> np.ndarray:
        """Distances of the pairs of different people."""
        return self.distance[~self.positive]

    @property
    def cameras(self) -> tuple[np.ndarray, np.ndarray]:
        """Camera ids of the query and of the gallery image of each pair, ``(P,)``."""
        return (
            self.query_table.camids[self.query],
            self.gallery_table.camids[self.gallery],
        )

    @property
    def same_camera(self) -> np.ndarray:
        """``(P,)`` bool, whether one camera took both; unknown cameras differ."""
        first, second = self.cameras
        return (first == second) & (first != NO_CAMERA)

    @property
    def people(self) -> tuple[np.ndarray, np.ndarray]:
        """Person on the query and on the gallery image of each pair, ``(P,)``.

        Person ids; each distractor counts as another person, with the negative number
        ``-1 - row`` of its gallery row.
        """
        own = -1 - np.arange(len(self.gallery_table))
        pids = self.gallery_table.pids
        others = np.where(pids > DISTRACTOR, pids, own)
        return self.query_table.pids[self.query], others[self.gallery]

    def split(
        self, share: float = 0.5, seed: int | np.random.Generator = 0
    ) -> tuple[Pairs, Pairs]:
        """Split the *people* at random; pairs across the two parts are left out.

        A threshold that is chosen and measured on the same people looks better than it
        is. Distractors are split like people, image by image.

        Args:
            share: Share of the people in the first part.
            seed: Seed or generator of the choice.

        Returns:
            The pairs within the first part and those within the second.

        Raises:
            ReIDError: If a part has no positive or no negative pair.

        Example:
            >>> from pathlib import Path
            >>> table = ImageTable(Path(), tuple("abcdefgh"), [1, 1, 2, 2, 3, 3, 4, 4],
            ...                    [0, 1, 0, 1, 0, 1, 0, 1])
            >>> features = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
            >>> first, second = pair_distances(features, features, table, table).split()
            >>> np.intersect1d(first.people, second.people).size
            0
        """
        first, second = self.people
        people = np.unique(np.concatenate([np.unique(first), np.unique(second)]))
        check_number(share, "share", "split", 0, 1, closed="neither")
        rng = check_seed(seed, "split")
        chosen = np.zeros(len(people), dtype=bool)
        for group in (people > DISTRACTOR, people < DISTRACTOR):
            rows = rng.permutation(np.flatnonzero(group))
            chosen[rows[: round(share * len(rows))]] = True
        one, other = (chosen[np.searchsorted(people, side)] for side in (first, second))
        parts = self[one & other], self[~one & ~other]
        for part in parts:
            check_both(part, f"one part of a split of {len(people)} people")
        return parts


def pair_distances(
    query_features: Array,
    gallery_features: Array,
    query: ImageTable,
    gallery: ImageTable,
    *,
    distance: str = "cosine",
    max_negatives: int = 10_000_000,
    seed: int | np.random.Generator = 0,
) -> Pairs:
    """Return the distances of all pairs that the protocol of `evaluate` compares.

    Same person and same camera is left out, and so are junk and images of unknown
    identity, here on the side of the queries too; distractors are negatives. Pairs of
    *different* people under one camera stay: in use they are compared as well, and
    they are the nearest of the negatives.

    Distances are computed for some queries at a time. Positive pairs are all kept.
    Negative pairs grow with the product of queries and gallery (54 million on
    Market-1501, about 13 bytes each): beyond ``max_negatives`` each is kept with equal
    probability. A false-match rate is then estimated without bias, but one below about
    ``10 / max_negatives`` is not resolved.

    Args:
        query_features: ``(Q, D)`` features; rows belong to ``query``.
        gallery_features: ``(G, D)`` features; rows belong to ``gallery``.
        query: Identities and cameras of the queries.
        gallery: Identities and cameras of the gallery.
        distance: ``"cosine"`` or ``"squared_euclidean"``, as in `evaluate`.
        max_negatives: Number of negative pairs to keep, about.
        seed: Seed or generator of the choice; the choice does not depend on the size of
            blocks.

    Returns:
        The pairs, in the order of the queries, the positives of a block first.

    Raises:
        ReIDError: As `evaluate`; or if there is no positive or no negative pair.

    Warns:
        UserWarning: As `evaluate`.

    Example:
        >>> from pathlib import Path
        >>> query = ImageTable(Path(), ("q",), [7], [0])
        >>> gallery = ImageTable(Path(), ("a", "b", "c"), [7, 3, 7], [0, 1, 1])
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> pairs = pair_distances(features[:1], features, query, gallery)
        >>> pairs.positives, pairs.negatives
        (array([1.], dtype=float32), array([0.], dtype=float32))
    """
    check_count(max_negatives, "max_negatives", "pair_distances")
    search = _Search(query_features, gallery_features, query, gallery, distance, None)
    warn_without_camera(query, gallery)
    asked = np.flatnonzero(query.pids > DISTRACTOR)
    if not len(asked):
        raise ReIDError(
            f"none of the {len(query)} queries of {query.root} has an identity; "
            "without identities no pair is known to be right or wrong"
        )
    num_negatives = len(asked) * len(search.kept) - search.num_same
    share = min(1.0, max_negatives / max(1, num_negatives))
    rng = check_seed(seed, "pair_distances")
    parts: list[tuple[np.ndarray, ...]] = []
    for rows, block in search.blocks(asked):
        row, col = search.matches(rows)
        matches = torch.from_numpy(row), torch.from_numpy(col)
        parts.append(_part(block[matches].cpu().numpy(), True, rows[row], col))
        block[matches] = torch.inf
        left = block.isfinite()
        if share < 1:
            drawn = torch.from_numpy(rng.random(block.shape, np.float32) < share)
            left &= drawn.to(left.device)
        other = tuple(index.cpu().numpy() for index in left.nonzero(as_tuple=True))
        values = block[left].cpu().numpy()
        parts.append(_part(values, False, rows[other[0]], other[1]))
    values, positive, first, second = map(np.concatenate, zip(*parts, strict=True))
    second = search.kept[second].astype(np.int32)
    pairs = Pairs(values, positive, first, second, query, gallery, share)
    check_both(pairs, f"the queries and the gallery of {gallery.root}")
    return pairs


def _part(
    values: np.ndarray, positive: bool, row: np.ndarray, col: np.ndarray
) -> tuple[np.ndarray, ...]:
    sign = np.full(len(values), positive)
    return values, sign, row.astype(np.int32), col.astype(np.int32)


def check_both(pairs: Pairs, where: str) -> None:
    """Raise unless there are positive and negative pairs."""
    num_positives = int(pairs.positive.sum())
    num_negatives = len(pairs) - num_positives
    if not num_positives or not num_negatives:
        raise ReIDError(
            f"{where}: {num_positives} positive and {num_negatives} negative pairs; "
            "both are needed: give more people, seen by two cameras or more"
        )
