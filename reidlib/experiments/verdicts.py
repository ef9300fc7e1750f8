"""Whether what a paper reports of a part of its method holds here.

A row of a plan may be compared with another row. The difference of the two is measured
seed by seed, since runs of one seed share their city, and the paper's difference is
read from its table. What seed variance alone would do says how large a mean difference
must be before it says anything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reidlib.errors import ReIDError
from reidlib.evaluation.ranking import camera_remark
from reidlib.experiments.measured import by_seed, load_results, paired_differences
from reidlib.experiments.plans import Row, plan
from reidlib.experiments.results import Data
from reidlib.papers import load_table

SIGNS = {
    "●": "as in the paper",
    "◐": "the paper's direction, within seed variance",
    "○": "no effect: the other direction, within seed variance",
    "✕": "the opposite",
    "–": "not run, or the paper has no figure",
}
"""What a sign says of a difference."""

MEASURE = "mAP"
"""What is compared, in percent."""

REPEATS = "repeats"
"""The plan that trains the same rows in the same city again."""


@dataclass(frozen=True)
class Verdict:
    """A row beside the row that it is compared with.

    Attributes:
        row: Name of the row.
        against: Name of the other.
        here: For each seed the difference in points of mAP.
        paper: For each data set of the paper its difference; empty if it has none.
        noise: Points that seed variance moves the mean of as many differences, one
            standard deviation; infinite if it is not known.
        stale: Whether a run of either row was made with other settings, data or another
            version of the method than now.
        failed: Runs of either row that broke down: they have no difference.
        without_camera: Test images without a camera, on which scores may be too high.
        shared: Whether both rows are scores of one training in each city. Its luck is
            theirs, and the noise is the deviation of the difference between cities.
    """

    row: str
    against: str
    here: dict[int, float]
    paper: dict[str, float]
    noise: float
    stale: bool = False
    failed: int = 0
    without_camera: int = 0
    shared: bool = False

    @property
    def found(self) -> str:
        """Mean difference here, in words."""
        if self.here:
            return f"{points(self.mean)}{self.marks}"
        return f"broke down{self.marks}" if self.failed else "not run"

    @property
    def marks(self) -> str:
        """† for stale runs, ‡ for such that broke down."""
        return (" †" if self.stale else "") + (" ‡" if self.failed else "")

    @property
    def mean(self) -> float:
        """Mean difference here, NaN if there is none."""
        return float(np.mean(list(self.here.values()))) if self.here else math.nan

    @property
    def in_paper(self) -> str:
        """The paper's difference on each of its data sets, in words."""
        return "; ".join(
            (f"{dataset}: " if dataset else "") + points(value)
            for dataset, value in self.paper.items()
        )

    @property
    def sign(self) -> str:
        """One of `SIGNS`."""
        if not self.here or not self.paper:
            return "–"
        paper = float(np.mean(list(self.paper.values())))
        within = abs(self.mean) <= self.noise
        if paper == 0:  # so it reports no effect
            return "●" if within else "✕"
        same = self.mean * paper > 0
        if within:
            return "◐" if same else "○"
        return "●" if same else "✕"


def verdicts(
    table: str, *, preset: str = "ablation", data: Data | None = None
) -> list[Verdict]:
    """Return each comparison of a table that its plan names.

    Args:
        table: Name of a plan.
        preset: Preset of the runs.
        data: Data of the runs; the cities of the plan if not given.
    """
    found = plan(table)
    rows = {row.name: row for row in found.rows}
    pairs = {name: against for name, row in rows.items() if (against := row.against)}
    if not pairs:
        return []
    named = {name: (name, against) for name, against in pairs.items()}
    every = paired_differences(table, named, measure=MEASURE, preset=preset, data=data)
    every = every.drop(columns=["mean", "std"])
    # The baseline was trained several times with this preset in these cities alone.
    usual = preset == "ablation" and data in (None, Data()) and found.size == "course"
    spread = luck() if usual else math.nan
    frame = load_results(table, preset=preset, data=data, partial=True)
    told = []
    for name, against in pairs.items():
        apart = every.loc[name].dropna()
        points = np.asarray(apart, float)
        seeds = map(int, apart.index.to_list())
        here = {seed: float(value) for seed, value in zip(seeds, points, strict=True)}
        paper = paper_difference(rows[name], rows[against])
        shared = rows[name].shares_run(rows[against])
        noise = seed_noise(here.values(), math.nan if shared else spread)
        state = _state(frame, (name, against))
        told.append(Verdict(name, against, here, paper, noise, *state, shared))
    return told


def _state(frame: pd.DataFrame, rows: tuple[str, str]) -> tuple[bool, int, int]:
    """Return what must be said beside a difference of two rows, see `Verdict`."""
    part = frame[frame["row"].isin(rows)] if len(frame) else frame
    if not len(part):
        return False, 0, 0
    metrics = [result.get("metrics", {}) for result in part["result"]]
    unknown = max(one.get("num_without_camera", 0) for one in metrics)
    failed = int((part["status"] == "failed").sum())
    return bool((part["stale"] != "").any()), failed, unknown


def remarks(found: Iterable[Verdict]) -> list[str]:
    """Say what the marks of differences mean, and what hangs over all of them."""
    told, found = [], list(found)
    if any(one.stale for one in found):
        told.append(
            "† stale: a run was made with other settings, data or another version of "
            "the method than now; `reidlib reproduce` makes it again."
        )
    if any(one.failed for one in found):
        told.append("‡ runs broke down; the difference is that of the others.")
    if unknown := max((one.without_camera for one in found), default=0):
        told.append(f"{camera_remark(unknown)}.")
    return told


def seed_noise(differences: Iterable[float], spread: float) -> float:
    """Return how far seed variance moves a mean of differences.

    Args:
        differences: One for each seed.
        spread: Deviation of a single run by seed variance, see `luck`; if it is NaN,
            the deviation of the differences is all that is known.

    Returns:
        One standard deviation, infinite if nothing is known.
    """
    values = np.array(list(differences))
    if not len(values):
        return math.inf
    if not math.isnan(spread):
        return spread * math.sqrt(2 / len(values))
    if len(values) < 2:
        return math.inf
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def luck() -> float:
    """Return the deviation of runs that differ in their random numbers alone.

    Over trainings of the baseline in the same city (plan ``repeats``), pooled over
    cities, in points of mAP; NaN if they are not there.
    """
    rows = [row.name for row in plan(REPEATS).rows]
    values = by_seed(REPEATS, rows, measure=MEASURE).to_numpy(float)
    values = values[:, ~np.isnan(values).any(axis=0)]  # cities with all trainings
    if not values.size:
        return math.nan
    return float(np.sqrt(values.var(axis=0, ddof=1).mean()))


def paper_difference(row: Row, against: Row) -> dict[str, float]:
    """Return what a paper reports of a row beside another, in points of mAP.

    Args:
        row: Row of a plan.
        against: Another one.

    Returns:
        One for each data set; empty if the two do not stand in tables of one paper, or
        are the same there. A figure of adaptation ("A to B") is compared with one of
        its target.
    """
    if not row.paper or not against.paper or row.paper == against.paper:
        return {}
    one, two = (load_table(str(found.paper[0])) for found in (row, against))
    if one.paper != two.paper:
        return {}
    here, there = paper_figures(row), paper_figures(against)
    found = {}
    for dataset, figures in here.items():
        same = dataset if one.id == two.id else dataset.rpartition(" to ")[2]
        if MEASURE in figures and MEASURE in there.get(same, {}):
            found[dataset] = round(figures[MEASURE] - there[same][MEASURE], 4)
    return found


def paper_figures(row: Row) -> dict[str, dict[str, Any]]:
    """Return what a paper's table has for a row: by data set, by name of the figure.

    Raises:
        ReIDError: If the plan points to no row of the table, or to several.
    """
    table = load_table(str(row.paper[0]))
    names = [column.name for column in table.columns]
    keys = [names.index(key) for key in table.keys]
    chosen = [
        cells
        for cells in table.rows
        if tuple(cells[key] for key in keys) == row.paper[1:]
    ]
    if len(chosen) != 1:
        raise ReIDError(
            f"row {row.name!r} points to {' / '.join(map(str, row.paper))}, of which "
            f"there are {len(chosen)}; mend plans.toml"
        )
    figures: dict[str, dict[str, Any]] = {}
    for column, value in zip(table.columns, chosen[0], strict=True):
        if value == value:
            figures.setdefault(column.dataset, {})[column.name] = value
    return figures


def counted(found: Iterable[Verdict]) -> str:
    """Say how many differences of a paper hold here, and how many do not."""
    told = Counter(verdict.sign for verdict in found if verdict.paper)
    total = sum(told.values())
    if not total:
        return ""
    parts = [f"{number} {SIGNS[sign]}" for sign in SIGNS if (number := told[sign])]
    return f"Of {total} differences in the paper's table: {'; '.join(parts)}"


def each(values: Iterable[float]) -> str:
    """Return the differences of all cities, with spaces that a line is not broken at.

    Example:
        >>> each([1.0, 2.0]).split()
        ['+1.0', '/', '+2.0']
    """
    return "\N{NO-BREAK SPACE}/\N{NO-BREAK SPACE}".join(map(points, values))


def points(value: float) -> str:
    """Return a difference with its sign, a dash for NaN.

    Example:
        >>> points(1.24), points(-0.01), points(math.nan)
        ('+1.2', '+0.0', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")
