"""Thresholds of a distance, and their error rates.

A pair is accepted where its distance is at or below a threshold. Of pairs of different
people the accepted share is the false-match rate, FPR; of pairs of one person it is the
true-match rate, TPR (ISO/IEC 19795-1 calls them FMR and 1 - FNMR).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from reidlib.checks import check_array, check_number
from reidlib.errors import ReIDError

MIN_ERRORS = 10
"""Errors that a wanted rate must amount to; 10 tell the rate to about a third."""


@dataclass(frozen=True, eq=False)
class TradeOff:
    """True against false matches over all thresholds, see `trade_off`.

    Attributes:
        positives: ``(p,)`` finite distances that should be accepted, ascending.
        negatives: ``(n,)`` finite distances that should not, ascending.
        num_positives: All that should be accepted; more than p where some never can.
        num_negatives: All that should not be accepted.
    """

    positives: np.ndarray
    negatives: np.ndarray
    num_positives: int
    num_negatives: int

    def rates(self, threshold: float) -> tuple[float, float]:
        """Return FPR and TPR of a threshold; a distance equal to it is accepted.

        Raises:
            ReIDError: If the threshold is NaN.
        """
        check_number(threshold, "threshold", "rates", -np.inf, np.inf)
        false = np.searchsorted(self.negatives, threshold, side="right")
        true = np.searchsorted(self.positives, threshold, side="right")
        return float(false / self.num_negatives), float(true / self.num_positives)

    def threshold_at(self, fpr: float, *, min_errors: int = MIN_ERRORS) -> float:
        """Return the largest threshold whose false-match rate is at most ``fpr``.

        It lies just below the first negative distance that is not to be accepted, and
        needs no positive pairs. Equal distances are accepted or rejected together:
        where ``fpr`` would part them they are rejected, and the rate falls short of it.

        Args:
            fpr: Wanted false-match rate in (0, 1].
            min_errors: False matches that it must amount to.

        Returns:
            The threshold, a float32 number if the distances are.

        Raises:
            ReIDError: If ``fpr`` is out of range, or too low to be measured on so few
                negatives.
        """
        check_number(fpr, "fpr", "threshold_at", 0, 1, closed="right")
        if fpr < 1 and fpr * self.num_negatives < min_errors - 1e-9:
            lowest = min(1.0, min_errors / self.num_negatives)
            raise ReIDError(
                f"a false-match rate of {fpr:g} is {fpr * self.num_negatives:.3g} of "
                f"{self.num_negatives} negatives, and fewer than {min_errors} errors "
                f"do not determine a rate; ask for {lowest:.2g} or more, or give more "
                "people"
            )
        allowed = int(fpr * self.num_negatives + 1e-9)  # 0.29 * 100 < 29
        if allowed >= len(self.negatives):
            return float("inf")
        first = self.negatives[allowed]
        return float(np.nextafter(first, first.dtype.type(-np.inf)))

    def tpr_at(self, fpr: float, *, min_errors: int = MIN_ERRORS) -> float:
        """Return the share of true matches at a false-match rate of ``fpr`` or less.

        No point is interpolated: it is the rate of `threshold_at`, with its errors.
        """
        return self.rates(self.threshold_at(fpr, min_errors=min_errors))[1]

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return FPR, TPR and threshold of each distinct distance, ascending.

        The first point accepts nothing. The points are those of scikit-learn's
        ``roc_curve`` without ``drop_intermediate``; the miss rate of a DET curve is
        1 - TPR.
        """
        distances = np.unique(np.concatenate([self.positives, self.negatives]))
        thresholds = np.concatenate([[-np.inf], distances])
        false = np.searchsorted(self.negatives, thresholds, side="right")
        true = np.searchsorted(self.positives, thresholds, side="right")
        return false / self.num_negatives, true / self.num_positives, thresholds

    @property
    def auc(self) -> float:
        """Probability that a positive is nearer than a negative, a tie being half."""
        nearer = np.searchsorted(self.negatives, self.positives, side="left")
        no_farther = np.searchsorted(self.negatives, self.positives, side="right")
        farther = self.num_negatives - (nearer + no_farther) / 2
        # What can never be accepted ties with what can never be accepted.
        never = self.num_positives - len(self.positives)
        ties = never * (self.num_negatives - len(self.negatives)) / 2
        return float((farther.sum() + ties) / self.num_negatives / self.num_positives)

    @property
    def eer(self) -> float:
        """Equal error rate: the least that both errors can be kept to at once.

        The minimum over the thresholds of the larger of FPR and 1 - TPR; nothing is
        interpolated, so it is never better than a threshold that exists.
        """
        fpr, tpr, _ = self.curve()
        return float(np.maximum(fpr, 1 - tpr).min())


def trade_off(positives: ArrayLike | Tensor, negatives: ArrayLike | Tensor) -> TradeOff:
    """Return how true matches trade against false ones.

    Args:
        positives: Distances that should be accepted, of ``pairs.positives`` for
            instance; infinity for what never is.
        negatives: Distances that should not be accepted.

    Returns:
        The curve, see `TradeOff`.

    Raises:
        ReIDError: If either is empty, or holds a NaN or -inf.

    Example:
        >>> curve = trade_off(np.array([0.1, 0.2, 0.6]), np.array([0.3, 0.5, 0.7, 0.9]))
        >>> curve.rates(0.4)
        (0.25, 0.6666666666666666)
        >>> curve.tpr_at(0.5, min_errors=1)
        1.0
    """
    sizes, kept = [], []
    for name, values in (("positives", positives), ("negatives", negatives)):
        tensor = check_array(values, name, "trade_off").cpu().flatten()
        if tensor.dtype not in (torch.float32, torch.float64):
            tensor = tensor.double()
        distances = tensor.numpy()
        bad = int((np.isnan(distances) | (distances == -np.inf)).sum())
        if not len(distances) or bad:
            raise ReIDError(
                f"{name}: got {len(distances)} distances, {bad} of them NaN or -inf; "
                "give one at least, and numbers or inf"
            )
        sizes.append(len(distances))
        kept.append(np.sort(distances[np.isfinite(distances)]))
    return TradeOff(kept[0], kept[1], sizes[0], sizes[1])
