"""Does a score know which searches fail? The area under its ROC curve."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit, stdtrit

from reidlib.checks import (
    check_array,
    check_count,
    check_ids,
    check_number,
    check_same_length,
    check_seed,
    check_truth,
)
from reidlib.errors import ReIDError


class Auroc(NamedTuple):
    """How well a score ranks failures first.

    Attributes:
        value: The probability that a failure has a higher score than a success.
        low: Lower limit of its interval, NaN where there is none.
        high: Upper limit.
    """

    value: float
    low: float
    high: float


def auroc(
    scores: Any,
    failed: Any,
    people: Any,
    *,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Auroc:
    """Return the area under the ROC curve, with an interval from draws of people.

    Images of a person fail together, so people are drawn with replacement, and a pair
    of a failure and a success counts as often as both people were drawn. The limits lie
    Student's t deviations of the draws to both sides of the logit.

    Args:
        scores: ``(N,)``, high where a failure is expected.
        failed: ``(N,)`` bool.
        people: ``(N,)`` person of each image.
        confidence: Of the interval, in (0, 1).
        draws: How often people are drawn, 2 at least.
        seed: Of the draws.

    Returns:
        The area with its limits.

    Raises:
        ReIDError: If there is no failure or no success, lengths differ, a score is not
            finite, or a setting is out of range.

    Example:
        >>> auroc([1.0, 2.0, 3.0], [False, True, True], [1, 2, 3]).value
        1.0
    """
    where = "auroc"
    confidence = check_number(confidence, "confidence", where, 0, 1, closed="neither")
    draws = check_count(draws, "draws", where, least=2)
    rng = check_seed(seed, where)
    x = check_array(scores, "scores", where).cpu().double().numpy()
    bad = check_truth(failed, "failed", where)
    ids = check_ids(people, "people", where)
    check_same_length(where, scores=x, failed=bad, people=ids)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ReIDError(f"{where}: scores are {x.shape}; give (N,) finite numbers")
    if bad.all() or not bad.any():
        raise ReIDError(f"{where}: {bad.sum()} of {len(bad)} failed; both must occur")
    who, row = np.unique(ids, return_inverse=True)
    wins = x[bad][:, None] > x[~bad]
    ties = x[bad][:, None] == x[~bad]
    won = wins + 0.5 * ties  # (failures, successes)
    value = float(won.mean())
    drawn = rng.multinomial(len(who), np.full(len(who), 1 / len(who)), draws)
    weights = drawn[:, row].astype(float)
    one, other = weights[:, bad], weights[:, ~bad]
    total = one.sum(axis=1) * other.sum(axis=1)
    found = ((one @ won) * other).sum(axis=1)[total > 0] / total[total > 0]
    edge = 0.5 / won.size
    spread = logit(found.clip(edge, 1 - edge)).std()
    if value in (0, 1) or spread == 0 or len(who) < 2:
        return Auroc(value, np.nan, np.nan)
    reach = float(stdtrit(len(who) - 1, (1 + confidence) / 2)) * spread
    low, high = (float(expit(logit(value) + side * reach)) for side in (-1, 1))
    return Auroc(value, low, high)
