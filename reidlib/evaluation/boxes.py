"""Average precision of detected boxes against true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reidlib.checks import check_number
from reidlib.errors import ReIDError

if TYPE_CHECKING:
    from reidlib.deploy.detection import Detections


def box_average_precision(
    found: Sequence[Detections],
    truth: Sequence[np.ndarray],
    *,
    min_overlap: float = 0.5,
) -> float:
    """Return the area under the precision of a detector against its recall.

    Boxes of all frames are gone through from the surest down. One is right if it
    overlaps with a person that no surer box has taken. As PASCAL VOC (since 2010) has
    it, the precision at a recall is the best at that recall or a higher one.

    Args:
        found: What was found in each frame.
        truth: ``(M, 4)`` boxes of the people in each frame: left, top, right, bottom.
        min_overlap: Intersection over union from which a box shows a person.

    Returns:
        From 0 to 1.

    Raises:
        ReIDError: If the numbers of frames differ or nobody is in them, if boxes have
            another shape, or if ``min_overlap`` is not in (0, 1].

    Example:
        >>> from reidlib.deploy import Detections
        >>> person = np.array([[0.0, 0.0, 10.0, 20.0]])
        >>> box_average_precision([Detections(person, np.array([0.9]))], [person])
        1.0
    """
    where = "box_average_precision"
    least = check_number(min_overlap, "min_overlap", where, 0, 1, closed="right")
    if len(found) != len(truth):
        raise ReIDError(
            f"{where}: {len(found)} frames were searched and {len(truth)} have boxes"
        )
    for number, boxes in enumerate(truth):
        if np.ndim(boxes) != 2 or np.shape(boxes)[1] != 4:
            raise ReIDError(
                f"{where}: the boxes of frame {number} have shape {np.shape(boxes)}; "
                "give (M, 4)"
            )
    people = sum(map(len, truth))
    if not people:
        raise ReIDError(f"{where}: there is no person in {len(truth)} frames")
    scores = np.concatenate([np.asarray(one.scores, float) for one in found])
    frame = np.repeat(np.arange(len(found)), [len(one.scores) for one in found])
    row = np.concatenate([np.arange(len(one.scores)) for one in found])
    overlaps = [box_overlaps(one.boxes, real) for one, real in zip(found, truth)]
    taken = [np.zeros(len(real), bool) for real in truth]
    right = np.zeros(len(scores), bool)
    for place, number in enumerate(np.argsort(-scores, kind="stable")):
        here = frame[number]
        free = np.where(taken[here], -1.0, overlaps[here][row[number]])
        if len(free) and free.max() >= least:
            taken[here][free.argmax()] = right[place] = True
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[right].sum() / people)


def box_overlaps(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each box with each other one.

    Args:
        found: ``(N, 4)`` left, top, right and bottom.
        truth: ``(M, 4)`` other boxes.

    Returns:
        ``(N, M)`` from 0 to 1; 0 for boxes without an area.

    Example:
        >>> box_overlaps(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2]]))
        array([[0.33333333]])
    """
    a, b = np.asarray(found, float)[:, None], np.asarray(truth, float)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.clip(sides, 0, None).prod(axis=2)
    sizes = [(one[..., 2:] - one[..., :2]).prod(axis=2) for one in (a, b)]
    union = sizes[0] + sizes[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
