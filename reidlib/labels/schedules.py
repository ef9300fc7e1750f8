"""Schedules of the probability to discard an image (CALR-T4)."""

from __future__ import annotations

import math
from typing import Literal, get_args

from reidlib.checks import check_choice, check_count, check_number

Schedule = Literal["none", "linear", "polynomial", "exponential", "cosine"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)
"""Shapes of the fall of `discard_probability`."""


def discard_probability(
    epoch: float,
    num_epochs: int,
    schedule: Schedule = "cosine",
    *,
    period: float = 1.0,
    floor: float = 0.0,
    power: float = 2.0,
    rate: float = 5.0,
) -> float:
    """Return the probability to discard a contradicted image in an epoch (CALR-T4).

    It starts at 1 and reaches ``floor`` after ``period`` times the length of the
    training; with a period above 1 the training ends before. CALR names the five shapes
    and gives no formula. A comment in its published code has the cosine with a
    period of 3, which ends at 0.76; the code itself runs without decay. With
    ``t = min(epoch / (period num_epochs), 1)`` the shapes are

    - ``none``: 1, whatever the floor,
    - ``linear``: 1 - t,
    - ``polynomial``: (1 - t)^power,
    - ``exponential``: (exp(-rate t) - exp(-rate)) / (1 - exp(-rate)),
    - ``cosine``: (1 + cos(pi t)) / 2,

    and the probability is ``floor + (1 - floor) shape``.

    Args:
        epoch: Epoch, from 0.
        num_epochs: Length of the training in epochs.
        schedule: Shape of the fall.
        period: Length of the fall, in trainings; above 0.
        floor: Least probability, in [0, 1].
        power: Exponent of the polynomial; above 0.
        rate: Rate of the exponential; above 0.

    Returns:
        Probability in [floor, 1].

    Raises:
        ReIDError: If the schedule is unknown or a number is out of its range.

    Example:
        >>> [round(discard_probability(e, 10, "cosine"), 2) for e in (0, 5, 10)]
        [1.0, 0.5, 0.0]
        >>> round(discard_probability(49, 50, "cosine", period=3), 2)
        0.76
    """
    where = "discard_probability"
    check_choice(schedule, "schedule", where, SCHEDULES)
    check_number(epoch, "epoch", where, 0, math.inf, closed="left")
    check_count(num_epochs, "num_epochs", where)
    check_number(floor, "floor", where, 0, 1)
    for name, value in (("period", period), ("power", power), ("rate", rate)):
        check_number(value, name, where, 0, math.inf, closed="right")
    t = min(epoch / (period * num_epochs), 1.0)
    if schedule == "none":
        return 1.0
    if schedule == "linear":
        shape = 1 - t
    elif schedule == "polynomial":
        shape = (1 - t) ** power
    elif schedule == "exponential":
        # By expm1, because for a small rate both differences are of nearly equal terms.
        shape = math.expm1(-rate * (1 - t)) / math.expm1(-rate) * math.exp(-rate * t)
    else:
        shape = (1 + math.cos(math.pi * t)) / 2
    return floor + (1 - floor) * shape
