"""Whether a classifier is right as often as it says: calibration of its confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reidlib.checks import (
    Array,
    check_array,
    check_count,
    check_same_length,
    check_truth,
)
from reidlib.errors import ReIDError

_MOST_BINS = 10**6


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predictions sorted into bins of equal width by their confidence.

    Attributes:
        confidence: ``(bins,)`` mean confidence of each bin, NaN in an empty one.
        accuracy: ``(bins,)`` share of right predictions, NaN in an empty bin.
        count: ``(bins,)`` int64 predictions in each bin.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap, weighted by the counts."""
        gap = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float((gap * self.count).sum() / self.count.sum())


def reliability(confidence: Array, correct: Array, num_bins: int = 15) -> Reliability:
    """Compare the confidence of predictions with how often they are right.

    The expected calibration error of Guo et al. (ICML 2017), ``error``, is 0 if of all
    predictions with a confidence of 0.8 eight in ten are right.

    Args:
        confidence: ``(N,)`` probability of the predicted class, in [0, 1].
        correct: ``(N,)`` bool, whether the prediction is right.
        num_bins: Bins of equal width over [0, 1]; the upper edge belongs to a bin.

    Returns:
        The bins.

    Raises:
        ReIDError: If there is no prediction, the columns differ in length, or a
            confidence is outside [0, 1].

    Example:
        >>> right = np.array([True, False, True])
        >>> found = reliability(np.array([0.9, 0.9, 0.6]), right)
        >>> round(found.error, 3)  # (2 |0.9 - 0.5| + |0.6 - 1|) / 3
        0.4
    """
    where = "reliability"
    num_bins = check_count(num_bins, "num_bins", where)
    if num_bins > _MOST_BINS:
        raise ReIDError(f"{where}: num_bins is {num_bins}; give at most {_MOST_BINS}")
    value = check_array(confidence, "confidence", where).cpu().double().numpy()
    right = check_truth(correct, "correct", where)
    check_same_length(where, confidence=value, correct=right)
    if value.ndim != 1 or not len(value) or not ((value >= 0) & (value <= 1)).all():
        raise ReIDError(
            f"{where}: confidence of shape {value.shape}; give (N,) probabilities in "
            "[0, 1], N > 0"
        )
    place = (np.ceil(value * num_bins) - 1).clip(min=0).astype(np.int64)
    count = np.bincount(place, minlength=num_bins)
    total = np.bincount(place, value, num_bins)
    hits = np.bincount(place, right.astype(float), num_bins)
    with np.errstate(invalid="ignore"):
        return Reliability(total / count, hits / count, count)
