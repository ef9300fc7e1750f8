"""The figures of a table, read from its result files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from reidlib.errors import ReIDError
from reidlib.experiments.plans import Row, plan
from reidlib.experiments.results import Data, Job, results_dir


def load_results(
    table: str,
    *,
    preset: str = "ablation",
    data: Data | None = None,
    partial: bool = False,
) -> pd.DataFrame:
    """Return the result files of a table, one line a run.

    Args:
        table: Name of a plan.
        preset: Preset of the runs.
        data: Data of the runs; the cities of the plan if not given.
        partial: Leave rows out that have no result, instead of raising.

    Returns:
        A frame with ``row``, ``seed``, ``status`` (``"complete"`` or ``"failed"``),
        ``stale`` (what has changed since, empty if nothing has), ``Rank-1``, ``Rank-5``
        and ``mAP`` in percent, the diagnosis of the features, ``seconds`` and
        ``result``, the whole file as a dict. The figures of a failed run are nan.

    Raises:
        ReIDError: If there is no such plan or preset, a file is damaged, or a row has
            no result file; names the command that makes it.
    """
    data = (data or Data.of(table)).read()
    lines = []
    for row in plan(table).rows:
        row.config(preset, 0)
        jobs = _found(table, row, preset, data)
        if not jobs and not partial:
            job = Job(table, row, preset, data, 0)
            raise ReIDError(
                f"no result of {row.name!r} in {results_dir() / row.recipe}; make it "
                f"with `{job.command}`"
            )
        lines += [_line(job) for job in jobs]
    return pd.DataFrame(lines)


def paired_differences(
    table: str,
    pairs: dict[str, tuple[str, str]],
    *,
    measure: str = "mAP",
    preset: str = "ablation",
    data: Data | None = None,
) -> pd.DataFrame:
    """Return what one row of a table has more than another, seed by seed.

    Runs of one seed share their city and the start of their network. What differs from
    city to city, which is most of a row's deviation, cancels in the difference of two
    such runs, so that it is the thing to judge a part of a method by.

    Args:
        table: Name of a plan.
        pairs: For each name to show, the row, and the row that is subtracted.
        measure: A column of `load_results`.
        preset: Preset of the runs.
        data: Data of the runs; the cities of the plan if not given.

    Returns:
        A frame with a line for each pair: one column for each seed that any run of the
        table has, ``mean`` and ``std`` (n - 1) over them. nan where a run is missing or
        broke down.

    Raises:
        ReIDError: If table, preset, measure or a row are unknown, or a result file is
            damaged.
    """
    named = {row for pair in pairs.values() for row in pair}
    values = by_seed(table, named, measure=measure, preset=preset, data=data)
    each = {
        name: values.loc[row] - values.loc[base] for name, (row, base) in pairs.items()
    }
    seeds = pd.DataFrame(each, index=values.columns).T
    return seeds.assign(mean=seeds.mean(axis=1), std=seeds.std(axis=1))


def by_seed(
    table: str,
    rows: Iterable[str],
    *,
    measure: str = "mAP",
    preset: str = "ablation",
    data: Data | None = None,
) -> pd.DataFrame:
    """Return a measure of some rows of a table: a line for each row, a column a seed.

    Args:
        table: Name of a plan.
        rows: Names of its rows.
        measure: A column of `load_results`.
        preset: Preset of the runs.
        data: Data of the runs; the cities of the plan if not given.

    Returns:
        The frame, its rows in the order of their names, with each seed that any run of
        the table has. nan where a run is missing or broke down.

    Raises:
        ReIDError: If table, preset, measure or a row are unknown, or a result file is
            damaged.
    """
    named = sorted(set(rows))
    known = {row.name for row in plan(table).rows}
    if unknown := [row for row in named if row not in known]:
        raise ReIDError(f"{table} has no row {unknown[0]!r}, but {sorted(known)}")
    frame = load_results(table, preset=preset, data=data, partial=True)
    if not len(frame):
        frame = pd.DataFrame(columns=["row", "seed", measure])
    if measure not in frame:
        raise ReIDError(f"no measure {measure!r} in {sorted(map(str, frame))}")
    values = frame.set_index(["row", "seed"])[measure].astype(float).unstack("seed")
    return values.reindex(named)


def seconds_of_runs(
    table: str, *, preset: str = "ablation", data: Data | None = None
) -> dict[Path, float]:
    """Return what the runs of a table took on one core, by result file.

    Args:
        table: Name of a plan.
        preset: Preset of the runs.
        data: Data of the runs; the cities of the plan if not given.

    Returns:
        Seconds times threads; rows that share a run have one entry, and runs on a GPU
        none.

    Raises:
        ReIDError: If table or preset are unknown, or a result file is damaged.
    """
    data = (data or Data.of(table)).read()
    found: dict[Path, dict[str, Any]] = {}
    for row in plan(table).rows:
        for job in _found(table, row, preset, data):
            result = found.get(job.file) or job.read() or {}
            found[job.file] = result
    return {
        file: float(result.get("seconds") or 0)
        * result.get("hardware", {}).get("threads", 1)
        for file, result in found.items()
        if not str(result.get("device", "cpu")).startswith("cuda")
    }


def _found(table: str, row: Row, preset: str, data: Data) -> list[Job]:
    """Return the runs of a row that have a result file, by seed."""
    first = Job(table, row, preset, data, 0)
    of_data = re.escape(first.cities[0][0].name)
    name = re.compile(rf"{of_data}-s(\d+)-[0-9a-f]{{10}}\.json")
    folder = first.file.parent
    there = set(os.listdir(folder) if folder.is_dir() else ())
    seeds = sorted({int(found[1]) for found in map(name.fullmatch, there) if found})
    jobs = [Job(table, row, preset, data, seed) for seed in seeds]
    return [job for job in jobs if job.file.name in there]


def _matched(metrics: dict[str, Any], k: int) -> float | None:
    found: float | None = metrics.get("cmc", {}).get(str(k))
    return found


def _line(job: Job) -> dict[str, Any]:
    result = job.read() or {}
    line = {
        "row": job.row.name,
        "seed": job.seed,
        "status": "failed" if "error" in result else "complete",
        "stale": ", ".join(job.stale(result)),
    }
    # A run that broke down has no figures, and data without queries no ranking.
    metrics = result.get("metrics", {})
    for name in job.row.reads:
        metrics = metrics.get(name, {})
    diagnosis = metrics.get("diagnosis", {})
    kmeans = diagnosis.get("kmeans", {})
    shares = {
        **{f"Rank-{k}": metrics.get(f"rank_{k}", _matched(metrics, k)) for k in (1, 5)},
        "mAP": metrics.get("mAP"),
    }
    figures = {
        **{n: math.nan if x is None else 100 * x for n, x in shares.items()},
        "NMI identity": kmeans.get("nmi_pid", math.nan),
        "NMI camera": kmeans.get("nmi_cam", math.nan),
        "same camera": diagnosis.get("same_camera_share", math.nan),
    }
    return {**line, **figures, "seconds": result.get("seconds"), "result": result}
