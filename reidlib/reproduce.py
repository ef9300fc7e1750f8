"""A table of the book: its runs, their result files, and the table made from them.

A plan names the rows of a table. ``reproduce`` makes the runs that are missing, each
with its seeds, and writes one result file per run; ``report`` reads these files and
nothing else. A number in the book therefore always has a file that says which code,
data, settings and hardware it came from.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from reidlib.data.readers import open_dataset
from reidlib.data.table import ReIDDataset
from reidlib.engine.cache import cached_run, run_key
from reidlib.engine.checkpoint import write_atomically
from reidlib.errors import ReIDError
from reidlib.recipes import RECIPES
from reidlib.synthcity import ensure_synthcity


def results_dir() -> Path:
    """Return where result files are kept.

    ``results`` of the checkout that holds the library, or, where it was installed
    without one, ``results`` of the current folder.
    """
    checkout = Path(__file__).resolve().parent.parent
    return (checkout if (checkout / "pyproject.toml").is_file() else Path()) / "results"


@dataclass(frozen=True)
class Row:
    """One row of a table: a recipe and what it changes in the preset."""

    name: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)


PLANS: dict[str, tuple[Row, ...]] = {
    "baseline": (
        Row("direct", "direct"),
        Row("baseline", "baseline"),
        Row("supervised", "supervised"),
    ),
}
"""The tables that can be made, by name."""


def plan(table: str) -> tuple[Row, ...]:
    """Return the rows of a table.

    Raises:
        ReIDError: If there is no such table.
    """
    if table not in PLANS:
        raise ReIDError(f"no table {table!r}; known are {', '.join(sorted(PLANS))}")
    return PLANS[table]


def result_file(table: str, row: Row, preset: str, data: str, seed: int) -> Path:
    """Return where the result of one run is kept."""
    return results_dir() / table / f"{row.name}-{preset}-{data}-s{seed}.json"


def _config(row: Row, preset: str, seed: int) -> Any:
    default = RECIPES[row.recipe].PRESETS[preset]
    return dataclasses.replace(default, **row.changes, seed=seed)


def _world(size: str) -> Callable[[int], ReIDDataset]:
    """Return the data of a seed: another seed draws another city, too."""
    return lambda seed: open_dataset("synthcity", ensure_synthcity(size, seed=seed))


def reproduce(
    table: str,
    *,
    preset: str = "ablation",
    seeds: Sequence[int] = (0, 1, 2),
    data: Callable[[int], ReIDDataset] | None = None,
    data_name: str = "course",
    device: str = "auto",
    progress: bool = True,
) -> list[Path]:
    """Make the runs of a table that are not there yet, and write their result files.

    Args:
        table: Name of a plan.
        preset: Preset of every row.
        seeds: Seeds of every row. On SynthCity a seed draws the city as well, so that
            the spread is over worlds and over training.
        data: Function from seed to data set; by default SynthCity ``data_name``.
        data_name: Size of SynthCity, or the name of ``data`` in file names.
        device: As for ``reidlib.engine.Run``.
        progress: Show progress bars.

    Returns:
        The result files, rows first.
    """
    data = data or _world(data_name)
    rows, files = plan(table), []
    jobs = [(row, seed) for seed in seeds for row in rows]
    for row, seed in tqdm(jobs, desc=table, disable=not progress):
        file = result_file(table, row, preset, data_name, seed)
        recipe, config = RECIPES[row.recipe], _config(row, preset, seed)
        dataset = data(seed)
        key = run_key(recipe.train, config, dataset)
        files.append(file)
        if file.is_file() and json.loads(file.read_text()).get("key") == key:
            continue
        result, _ = cached_run(
            recipe.train, config, dataset, device=device, progress=progress
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {"table": table, "row": row.name, "preset": preset, "key": key}
        data_bytes = json.dumps({**content, **result}, indent=1).encode()
        write_atomically(file, data_bytes)
    return files


def load_results(table: str, *, preset: str, data_name: str = "course") -> pd.DataFrame:
    """Return the result files of a table, one line a run.

    Args:
        table: Name of a plan.
        preset: Preset of the runs.
        data_name: Data of the runs.

    Returns:
        A frame with ``row``, ``seed``, ``mAP``, ``Rank-1`` (both in percent), the
        diagnosis of the features and ``result``, the whole file as a dict.

    Raises:
        ReIDError: If a row has no result file; names the command that makes it.
    """
    lines = []
    for row in plan(table):
        pattern = f"{row.name}-{preset}-{data_name}-s*.json"
        found = sorted((results_dir() / table).glob(pattern))
        if not found:
            raise ReIDError(
                f"no result of {row.name!r} in {results_dir() / table}; make it with "
                f"`reidlib reproduce {table} --preset {preset} --size {data_name}`"
            )
        for file in found:
            result = json.loads(file.read_text(encoding="utf-8"))
            metrics = result["metrics"]
            kmeans = metrics["diagnosis"]["kmeans"]
            lines.append(
                {
                    "row": row.name,
                    "seed": result["config"]["seed"],
                    "Rank-1": 100 * metrics["cmc"]["1"],
                    "mAP": 100 * metrics["mAP"],
                    "NMI camera": kmeans["nmi_cam"],
                    "NMI identity": kmeans["nmi_pid"],
                    "same camera": metrics["diagnosis"]["same_camera_share"],
                    "seconds": result["seconds"],
                    "result": result,
                }
            )
    return pd.DataFrame(lines)


def report(table: str, *, preset: str = "ablation", data_name: str = "course") -> str:
    """Return a table of mean ± standard deviation over the seeds, as Markdown."""
    frame = load_results(table, preset=preset, data_name=data_name)
    frame = frame.drop(columns="result")
    digits = {"Rank-1": 1, "mAP": 1, "seconds": 0}
    lines = ["| row | seeds | " + " | ".join(frame.columns[2:]) + " |"]
    lines.append("| --- " * len(frame.columns) + "|")
    for name, group in frame.groupby("row", sort=False):
        cells = []
        for column in frame.columns[2:]:
            n = digits.get(column, 3)
            cell = f"{group[column].mean():.{n}f}"
            if len(group) > 1:
                cell += f" ± {group[column].std(ddof=1):.{n}f}"
            cells.append(cell)
        lines.append(f"| {name} | {len(group)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
