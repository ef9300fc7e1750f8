"""Searches for people who are not in the gallery, and the number of false alarms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from reidlib.checks import Array, check_number, check_seed
from reidlib.data.table import DISTRACTOR, ImageTable
from reidlib.errors import ReIDError
from reidlib.evaluation.ranking import _Search, warn_without_camera
from reidlib.evaluation.thresholds import TradeOff, trade_off


def take_people_out(
    query: ImageTable,
    gallery: ImageTable,
    share: float = 0.5,
    seed: int | np.random.Generator = 0,
) -> np.ndarray:
    """Take a share of the queries' people out of the gallery.

    Their queries become non-mated searches: the gallery does not show the person.

    Args:
        query: The queries; none is taken out.
        gallery: The gallery.
        share: Share of the people of both tables to take out.
        seed: Seed or generator of the choice.

    Returns:
        ``(G,) bool``, the gallery images that stay; index features and table with it.

    Raises:
        ReIDError: If no person or every person would be taken out.

    Example:
        >>> from pathlib import Path
        >>> query = ImageTable(Path(), ("a", "b"), [1, 2], [0, 0])
        >>> gallery = ImageTable(Path(), ("c", "d", "e"), [1, 2, 0], [1, 1, 1])
        >>> int(take_people_out(query, gallery).sum())
        2
    """
    people = np.intersect1d(query.pids, gallery.pids)
    people = people[people > DISTRACTOR]
    number = round(share * len(people)) if 0 < share < 1 else 0
    if not 0 < number < len(people):
        raise ReIDError(
            f"a share of {share} of the {len(people)} people in both query and gallery "
            f"is {number}; choose it so that some stay and some go"
        )
    removed = check_seed(seed, "take_people_out").choice(people, number, replace=False)
    return ~np.isin(gallery.pids, removed)


def identification(
    query_features: Array,
    gallery_features: Array,
    query: ImageTable,
    gallery: ImageTable,
    *,
    distance: str = "cosine",
) -> TradeOff:
    """Measure searches of which some ask for a person who is not in the gallery.

    A search raises an alarm if its nearest gallery image is at or below a threshold.

    - *Mated* searches have a match in the gallery. The alarm is right if the nearest
      image is one: the share of right alarms is the detection and identification rate
      (DIR; Phillips, Grother and Micheals, Handbook of Face Recognition), the true-
      positive identification rate at rank 1 of ISO/IEC 19795-1.
    - *Non-mated* searches have none. Every alarm is false: their share is the
      false-positive identification rate (FPIR).

    What is compared is as in `evaluate`: a query whose person is in the gallery under
    its own camera alone is non-mated too. Queries without an identity are left
    out. Where another person is as near as a match, the alarm counts as wrong.

    A false-match rate is one of pairs, an FPIR one of searches, and grows with the
    gallery: both belong to a gallery of this size.

    Args:
        query_features: ``(Q, D)`` features; rows belong to ``query``.
        gallery_features: ``(G, D)`` features; rows belong to ``gallery``.
        query: Identities and cameras of the queries.
        gallery: The gallery, some people taken out of it, see `take_people_out`.
        distance: ``"cosine"`` or ``"squared_euclidean"``, as in `evaluate`.

    Returns:
        The trade-off, whose TPR is the DIR and whose FPR is the FPIR: ``positives`` are
        the distances of right first images, ``num_positives`` counts mated searches and
        ``num_negatives`` the others. The DIR ends at Rank-1.

    Raises:
        ReIDError: As `evaluate`; or if no search is mated, or all are.

    Warns:
        UserWarning: As `evaluate`.

    Example:
        >>> from pathlib import Path
        >>> query = ImageTable(Path(), ("a", "b"), [1, 2], [0, 0])
        >>> gallery = ImageTable(Path(), ("c", "d"), [1, 3], [1, 1])
        >>> q = np.array([[1.0, 0.0], [0.6, 0.8]])
        >>> g = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> searches = identification(q, g, query, gallery)
        >>> searches.rates(0.1)  # FPIR, DIR
        (0.0, 1.0)
    """
    search = _Search(query_features, gallery_features, query, gallery, distance, None)
    warn_without_camera(query, gallery)
    asked = np.flatnonzero(query.pids > DISTRACTOR)
    mated = search.num_matches[asked] > 0
    if not mated.any() or mated.all():
        raise ReIDError(
            f"{mated.sum()} of {len(asked)} searches have a match in the gallery; some "
            "must and some must not: take_people_out makes such a gallery"
        )
    nearest, nearest_match = [], []
    for rows, block in search.blocks(asked):
        row, col = (torch.from_numpy(i).to(block.device) for i in search.matches(rows))
        match = block.new_full(block.shape[:1], torch.inf)
        match.scatter_reduce_(0, row, block[row, col], "amin")
        block[row, col] = torch.inf
        nearest.append(block.amin(1).cpu().numpy())
        nearest_match.append(match.cpu().numpy())
    others, matches = np.concatenate(nearest), np.concatenate(nearest_match)
    right = np.where(matches < others, matches, np.inf)
    return trade_off(right[mated], others[~mated])


class Alarms(NamedTuple):
    """What one search raises on average, see `expected_alarms`.

    Attributes:
        false: Gallery images of other people that are accepted.
        true: Gallery images of the person that are accepted.
        precision: Share of the true ones; NaN without any alarm.
    """

    false: float
    true: float
    precision: float


def expected_alarms(
    fpr: float, tpr: float, num_others: float, num_matches: float
) -> Alarms:
    """Return what error rates of pairs mean for one search: the base rate.

    ``num_others * fpr`` images of others are accepted and ``num_matches * tpr`` of the
    person. Expectations add up whether or not pairs depend on each other. Few images
    show the person and thousands show others, so a small rate is not a small number.

    Args:
        fpr: False-match rate of a pair.
        tpr: True-match rate of a pair.
        num_others: Gallery images of other people.
        num_matches: Gallery images of the person; 0 if the person is not there; an
            average over searches may be a fraction.

    Returns:
        False and true alarms, and the share of the latter.

    Raises:
        ReIDError: If a rate is not in [0, 1] or a number is negative.

    Example:
        >>> expected_alarms(0.001, 0.5, num_others=10_000, num_matches=4)
        Alarms(false=10.0, true=2.0, precision=0.16666666666666666)
    """
    where = "expected_alarms"
    check_number(fpr, "fpr", where, 0, 1)
    check_number(tpr, "tpr", where, 0, 1)
    check_number(num_others, "num_others", where, 0, np.inf)
    check_number(num_matches, "num_matches", where, 0, np.inf)
    false, true = fpr * num_others, tpr * num_matches
    precision = true / (false + true) if false + true else float("nan")
    return Alarms(false, true, precision)
