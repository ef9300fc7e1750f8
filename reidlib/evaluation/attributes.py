"""How well attributes are predicted: accuracy, balanced accuracy, average precision."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reidlib.checks import Array, check_array, check_ids
from reidlib.errors import ReIDError


@dataclass(frozen=True, eq=False)
class AttributeScores:
    """Scores of each group of attributes, and their means.

    Attributes:
        accuracy: ``(G,)`` share of the images whose class is predicted.
        balanced: ``(G,)`` mean over the classes of that share within the class: 0.5
            for a predictor that always says the frequent one of two classes.
        average_precision: ``(G,)`` mean over the classes of the average precision of
            "is it this class?".
        count: ``(G,)`` int64 images whose class is known.

    A group without a known class has NaN, and is left out of the means.
    """

    accuracy: np.ndarray
    balanced: np.ndarray
    average_precision: np.ndarray
    count: np.ndarray

    def means(self) -> dict[str, float]:
        """Return the mean of each score over the groups."""
        with warnings.catch_warnings():  # of nothing, NaN is right
            warnings.simplefilter("ignore", RuntimeWarning)
            return {
                "accuracy": float(np.nanmean(self.accuracy)),
                "balanced_accuracy": float(np.nanmean(self.balanced)),
                "average_precision": float(np.nanmean(self.average_precision)),
            }


def score_attributes(probabilities: Sequence[Array], classes: Array) -> AttributeScores:
    """Compare the predictions of attribute heads with the truth.

    Accuracy flatters where classes are rare: if 5 % of people wear a hat, "no hat" is
    right for 95 %. Balanced accuracy is the mean of the recall of each class that
    occurs, and average precision asks how well a class is found first.

    Args:
        probabilities: G arrays ``(N, classes of the group)``; logits will do, too,
            since only their order counts.
        classes: ``(N, G)`` true classes from 0, whole numbers of any type, -1 where one
            is unknown.

    Returns:
        The scores.

    Raises:
        ReIDError: If the shapes do not fit, a class is out of range, or a probability
            is not finite.

    Example:
        >>> one = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
        >>> found = score_attributes([one], np.array([[0], [0], [1], [1]]))
        >>> float(found.accuracy[0]), float(found.balanced[0])
        (0.75, 0.75)
    """
    where = "score_attributes"
    truth = check_array(classes, "classes", where).cpu()
    truth = truth.long() if truth.dtype == torch.bool else truth
    if truth.ndim != 2 or truth.shape[1] != len(probabilities) or not truth.numel():
        raise ReIDError(
            f"{where}: classes of shape {tuple(truth.shape)} for {len(probabilities)} "
            f"heads; give (N, {len(probabilities)}) with at least one image"
        )
    columns: list[list[Any]] = []
    for group, given in enumerate(probabilities):
        scores = check_array(given, "probabilities", where).cpu().double().numpy()
        if scores.ndim != 2 or len(scores) != len(truth) or scores.shape[1] < 2:
            raise ReIDError(
                f"{where}: head {group} has probabilities of shape {scores.shape}; "
                f"give ({len(truth)}, classes) with two classes or more"
            )
        column = check_ids(truth[:, group], f"classes of head {group}", where)
        if column.max() >= scores.shape[1] or column.min() < -1:
            raise ReIDError(
                f"{where}: head {group} has {scores.shape[1]} classes, and the truth "
                f"goes from {column.min()} to {column.max()}; give classes from 0, or "
                "-1 where one is unknown"
            )
        if not np.isfinite(scores).all():
            raise ReIDError(f"{where}: head {group} predicts NaN or inf")
        known = column >= 0
        column, scores = column[known], scores[known]
        if not len(column):
            columns.append([np.nan, np.nan, np.nan, 0])
            continue
        right = scores.argmax(axis=1) == column
        present = np.unique(column)
        recall = [right[column == one].mean() for one in present]
        precision = [
            _average_precision(column == one, scores[:, one]) for one in present
        ]
        columns.append([right.mean(), np.mean(recall), np.mean(precision), len(column)])
    accuracy, balanced, precision_, count = np.array(columns, dtype=np.float64).T
    return AttributeScores(accuracy, balanced, precision_, count.astype(np.int64))


def _average_precision(wanted: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean precision at each step of recall; equal scores are one step."""
    order = np.argsort(-scores, kind="stable")
    found, falling = np.cumsum(wanted[order]), np.diff(scores[order], append=-np.inf)
    ends = np.flatnonzero(falling)
    steps = np.diff(found[ends], prepend=0)
    return float((steps * found[ends] / (ends + 1)).sum() / found[-1])
