"""One threshold for all cameras, and one for each pair of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from reidlib.checks import check_choice, check_count
from reidlib.data.table import NO_CAMERA
from reidlib.errors import ReIDError
from reidlib.evaluation.pairs import Pairs
from reidlib.evaluation.thresholds import MIN_ERRORS, trade_off


@dataclass(frozen=True, eq=False)
class CameraThresholds:
    """A threshold for each pair of cameras, see `camera_thresholds`.

    Attributes:
        cameras: ``(C,)`` camera ids, ascending.
        threshold: ``(C, C)`` float32, symmetric.
        calibrated: ``(C, C)`` bool; where False, pairs were too few for a threshold of
            their own and ``threshold`` holds ``default``.
        num_negatives: ``(C, C)`` negative pairs that were seen.
        default: The threshold of all pairs together, for cameras that are not listed.
    """

    cameras: np.ndarray
    threshold: np.ndarray
    calibrated: np.ndarray
    num_negatives: np.ndarray
    default: float

    def of(self, pairs: Pairs) -> np.ndarray:
        """Return the ``(P,)`` float32 thresholds of pairs."""
        known, low, high = _places(pairs, self.cameras)
        own = self.threshold[low, high]
        return np.where(known, own, np.float32(self.default))


Threshold: TypeAlias = float | CameraThresholds


def camera_thresholds(
    pairs: Pairs,
    fpr: float,
    *,
    method: Literal["normalise", "quantile"] = "normalise",
    min_negatives: int = 100,
) -> CameraThresholds:
    """Choose a threshold for each pair of cameras, for one false-match rate in all.

    A distance means different things between different cameras: two people look more
    alike in one light than in two. The order of the two cameras does not matter. Only
    negative pairs are used, and pairs need not be labelled one by one for it: nearly
    all pairs are negative.

    - ``"normalise"``: distances become ``z = (d - mean) / std`` with mean and standard
      deviation of the negatives of their camera pair (as Z-norm does for speakers), and
      one threshold of z is chosen for all. It assumes that the distributions differ in
      place and width alone, and needs some hundred pairs.
    - ``"quantile"``: each camera pair's own threshold at ``fpr``. It assumes nothing,
      and needs ``MIN_ERRORS / fpr`` negatives for each camera pair.

    A camera pair with too few negatives keeps the threshold of all pairs together, and
    ``calibrated`` says so.

    Args:
        pairs: Pairs to choose on; measure on those of other people, see `Pairs.split`.
        fpr: Wanted false-match rate in (0, 1].
        method: ``"normalise"`` or ``"quantile"``, see above.
        min_negatives: Negatives of a camera pair that its own threshold needs.

    Returns:
        The thresholds.

    Raises:
        ReIDError: If no image has a camera, if there is no negative pair, or as
            `TradeOff.threshold_at`.

    Example:
        >>> from pathlib import Path
        >>> from reidlib.data.table import ImageTable
        >>> from reidlib.evaluation.pairs import pair_distances
        >>> table = ImageTable(Path(), ("x",) * 60, np.arange(60) // 2 + 1,
        ...                    np.arange(60) % 2)
        >>> features = np.random.default_rng(0).normal(size=(60, 8))
        >>> pairs = pair_distances(features, features, table, table)
        >>> camera_thresholds(pairs, 0.05).calibrated
        array([[ True,  True],
               [ True,  True]])
    """
    where = "camera_thresholds"
    check_choice(method, "method", where, ("normalise", "quantile"))
    check_count(min_negatives, "min_negatives", where, least=2)
    cameras = _cameras(pairs)
    negative = pairs[~pairs.positive]
    default = trade_off([np.inf], negative.distance).threshold_at(fpr)

    num_cams = len(cameras)
    known, low, high = _places(negative, cameras)
    cell = np.where(known, low * num_cams + high, num_cams**2)
    distance = negative.distance.astype(np.float64)
    count = np.bincount(cell, minlength=num_cams**2 + 1)
    least = min_negatives
    if method == "quantile":
        least = max(least, int(np.ceil(MIN_ERRORS / fpr)))
    enough = count >= least
    enough[-1] = False  # pairs with an unknown camera

    own = np.full(len(count), default)
    if method == "quantile":
        for k in np.flatnonzero(enough):
            own_pairs = trade_off([np.inf], negative.distance[cell == k])
            own[k] = own_pairs.threshold_at(fpr)
    elif enough.any():
        total = np.maximum(count, 1)
        mean = np.bincount(cell, distance, len(count)) / total
        square = np.bincount(cell, (distance - mean[cell]) ** 2, len(count)) / total
        std = np.sqrt(square).clip(min=1e-12)
        here = enough[cell]
        z = ((distance - mean[cell]) / std[cell])[here]
        # Below the rounding of z, so that what z rejects the distance rejects too.
        cut = trade_off([np.inf], z).threshold_at(fpr) - 1e-9
        own[enough] = (mean + cut * std)[enough]
    threshold = _round_down(own[:-1])
    return CameraThresholds(
        cameras=cameras,
        threshold=_symmetric(threshold, num_cams),
        calibrated=_symmetric(enough[:-1], num_cams),
        num_negatives=_symmetric(count[:-1], num_cams),
        default=default,
    )


@dataclass(frozen=True, eq=False)
class CameraRates:
    """Error rates for each pair of cameras, see `rates_by_cameras`.

    Attributes:
        cameras: ``(C,)`` camera ids, ascending.
        fpr: ``(C, C)`` false-match rate, symmetric, NaN where there is no pair.
        tpr: ``(C, C)`` true-match rate, NaN where there is no pair: always so on the
            diagonal, as same person and same camera is left out.
        num_negatives: ``(C, C)`` negative pairs.
        num_positives: ``(C, C)`` positive pairs.
    """

    cameras: np.ndarray
    fpr: np.ndarray
    tpr: np.ndarray
    num_negatives: np.ndarray
    num_positives: np.ndarray


def rates_by_cameras(pairs: Pairs, threshold: Threshold) -> CameraRates:
    """Return how often each pair of cameras is wrong and right at a threshold.

    Args:
        pairs: Pairs to measure on. The order of the two cameras does not matter; pairs
            with an unknown camera are left out.
        threshold: One for all, or one for each pair of cameras.

    Returns:
        The rates.

    Raises:
        ReIDError: If no image has a camera, or the threshold is NaN.

    Example:
        >>> from pathlib import Path
        >>> from reidlib.data.table import ImageTable
        >>> from reidlib.evaluation.pairs import pair_distances
        >>> table = ImageTable(Path(), ("a", "b", "c", "d"), [1, 1, 2, 2], [0, 1, 0, 1])
        >>> features = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
        >>> pairs = pair_distances(features, features, table, table)
        >>> rates_by_cameras(pairs, 0.1).fpr
        array([[1. , 0.5],
               [0.5, 0. ]])
    """
    cameras = _cameras(pairs)
    num_cams = len(cameras)
    known, low, high = _places(pairs, cameras)
    cell = low * num_cams + high
    right = accepted(pairs, threshold)

    def share(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mask = mask & known
        count = np.bincount(cell[mask], minlength=num_cams**2)
        hits = np.bincount(cell[mask & right], minlength=num_cams**2)
        rate = np.divide(hits, count, out=np.full(len(count), np.nan), where=count > 0)
        return _symmetric(rate, num_cams), _symmetric(count, num_cams)

    fpr, num_negatives = share(~pairs.positive)
    tpr, num_positives = share(pairs.positive)
    return CameraRates(cameras, fpr, tpr, num_negatives, num_positives)


def accepted(pairs: Pairs, threshold: Threshold) -> np.ndarray:
    """Return ``(P,)`` bool, whether each pair is taken for one person.

    Raises:
        ReIDError: If the threshold is NaN, which would reject all pairs unseen.
    """
    if isinstance(threshold, CameraThresholds):
        return pairs.distance <= threshold.of(pairs)
    if np.isnan(threshold):
        raise ReIDError("the threshold is nan; give the largest distance to accept")
    return pairs.distance <= _round_down(np.float64(threshold))


def _cameras(pairs: Pairs) -> np.ndarray:
    tables = pairs.query_table, pairs.gallery_table
    camids = np.unique(np.concatenate([table.camids for table in tables]))
    camids = camids[camids > NO_CAMERA]
    if not len(camids):
        raise ReIDError(
            f"no image of {tables[1].root} has a camera; write cameras into the table, "
            "or use one threshold for all pairs"
        )
    return camids


def _places(
    pairs: Pairs, cameras: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return whether both cameras are known, and their places, the smaller first."""
    places, known = [], np.ones(len(pairs), dtype=bool)
    for camids in pairs.cameras:
        place = np.searchsorted(cameras, camids).clip(max=len(cameras) - 1)
        known &= cameras[place] == camids
        places.append(place)
    return known, np.minimum(*places), np.maximum(*places)


def _symmetric(upper: np.ndarray, size: int) -> np.ndarray:
    """Return a matrix whose lower triangle repeats the upper one."""
    matrix = upper.reshape(size, size)
    low, high = np.sort(np.indices((size, size)), axis=0)
    return matrix[low, high]


def _round_down(values: np.ndarray | np.float64) -> np.ndarray:
    """Return the largest float32 numbers that are not above the values.

    A float32 distance is at or below the one exactly if it is at or below the other.
    """
    rounded = values.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > values, below, rounded)
