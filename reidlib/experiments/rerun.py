"""One result made again on this machine, and how far it comes out differently.

Not the question of `reidlib.experiments.verify`, which asks whether the *code* still
does what it did: here the whole run is made again, for instance on a GPU what a CPU has
made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reidlib.data.adaptation import with_source
from reidlib.data.table import ReIDDataset
from reidlib.engine.cache import runs_kept_in
from reidlib.engine.manifest import read_files, read_result
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.experiments.results import Data
from reidlib.experiments.verify import differences, figures
from reidlib.paths import user_path
from reidlib.recipes import RECIPES
from reidlib.recipes.settings import restore
from reidlib.synthcity import DRAWING, Dials


@dataclass(frozen=True)
class Rerun:
    """A result beside the same run made again.

    Attributes:
        then: The result.
        now: The result of the run that was made again.
    """

    then: dict[str, Any]
    now: dict[str, Any]

    def differences(self) -> pd.DataFrame:
        """Return each figure of each epoch and of the end, then and now.

        Returns:
            Columns ``part`` (``"epoch 1"``, ..., ``"end"``), ``figure``, ``then``,
            ``now`` (NaN if it is gone), and ``difference``, relative to the figure
            where it is above 1.
        """
        rows = []
        for part, then, now in self._parts():
            values, again = dict(figures(then)), dict(figures(now))
            for name, apart in differences(then, now).items():
                figure = (part, name, values[name], again.get(name, math.nan), apart)
                rows.append(figure)
        names = ["part", "figure", "then", "now", "difference"]
        return pd.DataFrame(rows, columns=names)

    def _parts(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        before, after = self.then["epochs"], self.now["epochs"]
        for number, epoch in enumerate(before):
            again = after[number] if number < len(after) else {}
            yield f"epoch {number + 1}", _numbers(epoch), _numbers(again)
        yield "end", self.then.get("metrics", {}), self.now["metrics"]

    def __str__(self) -> str:
        """Return the figure that differs most in each epoch and at the end."""
        lines = [f"{'part':10} {'differs by':>10}  most"]
        for part, rows in self.differences().groupby("part", sort=False):
            worst = rows.iloc[int(rows["difference"].argmax())]
            told = f"{worst['figure']}: {worst['then']:.6g} then, {worst['now']:.6g}"
            lines.append(f"{part:10} {worst['difference']:10.2g}  {told} now")
        lines += [f"then: {_told(self.then)}", f"now:  {_told(self.now)}"]
        return "\n".join(lines)


def rerun(
    file: str | Path,
    out: str | Path,
    *,
    dataset: ReIDDataset | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Rerun:
    """Make the run of a result again, with its settings and its data.

    Args:
        file: A result file of the book, or ``result.json`` of a run.
        out: Folder of the new run; one that was interrupted there is continued.
        dataset: The data of the run, if they are not the cities of the book.
        device: As for `reidlib.engine.Run`.
        progress: Show the lines and bars of the run.

    Returns:
        Both results.

    Raises:
        ReIDError: If the file is no result of a run that was complete, its method has
            another version now, or the data are not the same.

    Example:
        Compare a published run with one of this machine::

            print(rerun("results/baseline/course-s0-01c63ecebc.json", "runs/again"))
    """
    file = user_path(file)
    then = result_to_repeat(file)
    recipe = RECIPES[then["recipe"]]
    config = restore(recipe.Config, then["config"])
    if dataset is None:
        dataset = cities_of(then, file)
    require_same_data(then, dataset, file)
    now = read_files(config, dataset)
    changed = [
        name
        for name, sha256 in then.get("files", {}).items()
        if not name.endswith("(made)") and now.get(name) != sha256
    ]
    if changed:
        raise ReIDError(
            f"{file} was made with {', '.join(changed)} of other content than those of "
            "now; restore the files, or the difference would be theirs"
        )
    out = user_path(out)
    if (out / "result.json").exists():
        raise ReIDError(f"{out} holds a complete run; give another folder (--out)")
    run = Run(
        out,
        recipe=then["recipe"],
        version=recipe.VERSION,
        config=config,
        dataset=dataset,
        resume=True,
        device=device,
        progress=progress,
    )
    # What another device or version of torch has made is not taken from the cache.
    with run, runs_kept_in(run.directory / "cache"):
        return Rerun(then, recipe.train(config, dataset, run))


def result_to_repeat(file: Path) -> dict[str, Any]:
    """Read a result of a recipe that still makes such results.

    Raises:
        ReIDError: If it is none.
    """
    way_out = "give a file of the folder results, or result.json of a run"
    then = read_result(file, way_out)
    recipe = RECIPES.get(then["recipe"])
    if missing := [name for name in ("dataset", "epochs") if name not in then]:
        raise ReIDError(f"{file} has no {missing[0]!r}; {way_out}")
    if recipe is None or "metrics" not in then:
        what = "no recipe now" if recipe is None else "a run that broke down"
        raise ReIDError(f"{file} is of {then['recipe']}, {what}; {way_out}")
    if then["version"] != recipe.VERSION:
        raise ReIDError(
            f"{file} was made by version {then['version']} of {then['recipe']}, and "
            f"this is version {recipe.VERSION}, whose numbers are meant to be others; "
            f"repeat it with its commit, {str(then.get('commit'))[:10]}"
        )
    return then


def require_same_data(then: dict[str, Any], dataset: ReIDDataset, file: Path) -> None:
    """Raise if a data set is not the one that a result was made from.

    Args:
        then: The result.
        dataset: The data.
        file: File of the result, for the message.
    """
    if dataset.fingerprint() != then["dataset"]["sha256"]:
        raise ReIDError(
            f"{file} was made from {then['dataset']['name']}, and the images in "
            f"{dataset.root}, read as {dataset.name}, are others; name the folder that "
            "has them (--root), and its kind (--data)"
        )


def cities_of(then: dict[str, Any], file: Path) -> ReIDDataset:
    """Return the cities that a published result was made on.

    Args:
        then: The result.
        file: Its file, for the message.

    Raises:
        ReIDError: If it does not say so, or cities are drawn otherwise now.
    """
    data = then.get("data", {})
    if not {"size", "seed", "drawing", "dials"} <= data.keys():
        raise ReIDError(f"{file} does not say where its data are; name them (--root)")
    cities = []
    for city in [data, *([data["labelled"]] if "labelled" in data else [])]:
        if city["drawing"] != DRAWING:
            raise ReIDError(
                f"the city of {file} is of drawing {city['drawing']}, and this version "
                f"draws {DRAWING}; repeat it with its commit, "
                f"{str(then.get('commit'))[:10]}"
            )
        of_size = Data(city["size"], dials=Dials(**city["dials"]))
        cities.append(of_size.open(city["seed"]))
    return with_source(*cities) if len(cities) > 1 else cities[0]


def _numbers(epoch: dict[str, Any]) -> dict[str, Any]:
    """Return the record of an epoch without what no two runs share."""
    return {k: v for k, v in epoch.items() if k not in ("epoch", "seconds")}


def _told(result: dict[str, Any]) -> str:
    """Say where a result was made."""
    hardware, device = result.get("hardware", {}), result.get("device", "unknown")
    parts = [f"{device}, {hardware.get('threads', 'unknown')} threads"]
    if device != "cpu" and hardware.get("gpus"):
        parts = [f"{device}, {hardware['gpus'][0]}"]
    if "processes" in result:
        parts.append(f"{result['processes']} processes")
    parts.append(f"torch {result.get('versions', {}).get('torch', 'unknown')}")
    return ", ".join([*parts, f"{result.get('seconds', math.nan):.0f} s"])
