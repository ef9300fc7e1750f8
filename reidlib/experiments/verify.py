"""Published runs made again, one for each recipe, as far as their first epoch.

A result is current while its method's version is, whatever happened to the code since.
This is the proof that the code still does what it did: needed after a change of speed,
of torch, or of anything below a recipe.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reidlib.engine.cache import runs_kept_in
from reidlib.engine.manifest import environment
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.experiments.plans import plans
from reidlib.experiments.results import Data, Job, results_dir
from reidlib.experiments.runner import refuse_changed_code
from reidlib.files import read_json, write_atomically
from reidlib.recipes import RECIPES

FILE = "verified.json"
"""File in the folder of results: for each recipe when and where it was verified."""

TOLERANCE = 0.01
"""Largest difference of a figure, relative to it where it is above 1. Published runs of
four recipes differ by 0.0017 at most."""

TOLERANCES = {"calr": 0.05}
"""The same for recipes that rounding moves farther. Stage 1 of CALR trains and clusters
in each camera before the first epoch, and a cluster that falls otherwise changes what
refinement discards. On the machine where this was measured, today's code and the code
that made the published run differ from it by the same 0.0278; with two threads instead
of one, today's code differs from it by 0.0203."""


@dataclass(frozen=True)
class Verification:
    """A published run beside the same run made now.

    Attributes:
        job: The run.
        differences: For each figure of the first epoch how far the two are apart,
            relative to the figure where it is above 1.
    """

    job: Job
    differences: dict[str, float]

    @property
    def largest(self) -> tuple[str, float]:
        """The figure that differs most, and by how much."""
        return max(self.differences.items(), key=lambda item: item[1])

    @property
    def passed(self) -> bool:
        """Whether no figure differs by more than the recipe's tolerance."""
        return self.largest[1] <= TOLERANCES.get(self.job.row.recipe, TOLERANCE)


def verify(
    recipes: Sequence[str] = tuple(RECIPES),
    *,
    data: Data | None = None,
    preset: str = "ablation",
    device: str = "auto",
    progress: bool = True,
) -> list[Verification]:
    """Make the first epoch of one published run of each recipe again, and compare.

    What passes is recorded beside the results, so that reports can say so.

    Args:
        recipes: Names of recipes; those without a current result are left out.
        data: Data of the published runs; the cities of the plan if not given.
        preset: Preset of the published runs.
        device: As for `reidlib.engine.Run`.
        progress: Show the bars of the runs.

    Returns:
        What was compared, one for each recipe.

    Raises:
        ReIDError: If there is nothing to verify, or if the library's code is in no
            commit.
    """
    refuse_changed_code()
    data = data and data.read()
    jobs = [job for name in recipes if (job := _published(name, preset, data))]
    if not jobs:
        raise ReIDError(f"no current result of {', '.join(recipes)}: nothing to verify")
    found = []
    for job in jobs:
        then, now = job.read() or {}, _first_epoch(job, device, progress)
        found.append(Verification(job, differences(_comparable(then), now)))
        if found[-1].passed:
            _record(found[-1])
    return found


def verified() -> dict[str, Any]:
    """Return the record of what was verified: commit, date and run by recipe."""
    file = results_dir() / FILE
    way_out = "remove it, and verify again with `reidlib reproduce --verify`"
    return read_json(file, way_out, {"*": dict}) if file.exists() else {}


def _published(recipe: str, preset: str, data: Data | None) -> Job | None:
    """Return the current run that changes least of its preset.

    A row of an ablation switches parts of the method off, and would verify the rest.
    """
    found = []
    for plan in plans().values():
        for row in plan.rows:
            job = Job(plan.id, row, preset, data or Data.of(plan.id), 0)
            if row.recipe != recipe or preset not in RECIPES[recipe].PRESETS:
                continue
            result = job.read()
            if result and "metrics" in result and not job.stale(result):
                found.append(job)

    def changes(job: Job) -> int:
        return len([*job.row.changes, *job.row.dials, *job.row.labelled])

    return min(found, key=changes, default=None)


def _first_epoch(job: Job, device: str, progress: bool) -> dict[str, Any]:
    recipe, dataset, result = RECIPES[job.row.recipe], job.open(), None
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            folder,
            recipe=job.row.recipe,
            version=recipe.VERSION,
            config=job.config,
            dataset=dataset,
            device=device,
            progress=progress,
            tensorboard=False,
            stop_after=1,
        )
        with run, runs_kept_in(run.directory / "cache"):
            result = recipe.train(job.config, dataset, run)
    return _comparable(result or {"epochs": run.history})


def _comparable(result: dict[str, Any]) -> dict[str, Any]:
    """Return the first epoch, or the final figures where nothing is trained."""
    epoch = {k: v for k, v in result["epochs"][0].items() if k != "seconds"}
    return epoch if len(epoch) > 1 else result["metrics"]


def differences(then: dict[str, Any], now: dict[str, Any]) -> dict[str, float]:
    """Return how far each figure is from that of another run, infinite if it is gone.

    Args:
        then: Figures of an epoch, or of the end of a run; they may be nested.
        now: The same of the other run.

    Returns:
        By the name of the figure, relative to the figure where it is above 1.

    Example:
        >>> differences({"loss": 2.0, "test": {"mAP": 0.5}}, {"loss": 1.0})
        {'loss': 0.5, 'test.mAP': inf}
    """
    one, two = dict(figures(then)), dict(figures(now))
    return {
        name: abs(value - two.get(name, math.inf)) / max(1.0, abs(value))
        for name, value in one.items()
    }


def figures(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record, nested or not, with their names."""
    for name, value in values.items():
        if isinstance(value, list):
            value = dict(zip(map(str, range(len(value))), value, strict=True))
        if isinstance(value, dict):
            yield from figures(value, f"{prefix}{name}.")
        elif value is not None and not isinstance(value, str):
            yield prefix + name, float(value)


def _record(found: Verification) -> None:
    about = environment()
    entry = {
        "version": RECIPES[found.job.row.recipe].VERSION,
        "commit": about["commit"],
        "versions": about["versions"],
        "date": datetime.now(UTC).date().isoformat(),
        "run": found.job.file.relative_to(results_dir()).as_posix(),
        "largest_difference": dict([found.largest]),
    }
    record = {**verified(), found.job.row.recipe: entry}
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    write_atomically(results_dir() / FILE, text.encode())
