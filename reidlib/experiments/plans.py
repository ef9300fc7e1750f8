"""The tables and figures that are made from runs: which rows, which settings."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from reidlib.errors import ReIDError
from reidlib.recipes import RECIPES


@dataclass(frozen=True)
class Row:
    """One row of a table: a recipe and what it changes in the preset.

    Attributes:
        name: What the row is called.
        recipe: One of `reidlib.recipes.RECIPES`.
        changes: Settings that differ from the preset's. ``seed`` is added to the seed
            of the run: the same city, another training.
        paper: A table of `reidlib.papers` and the keys of one of its rows: the figures
            to put beside this row's. Empty if no paper has them.
        dials: Dials of the city that differ from their defaults; such a row needs
            SynthCity.
        labelled: Another city, with identities, to adapt from: its dials, as above,
            and ``seed``, which is added to the seed of the run, so that neither people
            nor cameras are the same. Empty for none.
        against: Name of the row that it is compared with, see
            `reidlib.experiments.verdicts`; empty for none.
        reads: Where the metrics of the run have the scores of this row, key by key:
            rows with equal settings are one run. Empty for those of the run itself.
    """

    name: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    paper: tuple[str | float, ...] = ()
    dials: dict[str, float] = field(default_factory=dict)
    labelled: dict[str, float] = field(default_factory=dict)
    against: str = ""
    reads: tuple[str, ...] = ()

    def shares_run(self, other: Row) -> bool:
        """Return whether one run has the scores of both rows."""
        return dataclasses.replace(
            self, name="", paper=(), against="", reads=()
        ) == dataclasses.replace(other, name="", paper=(), against="", reads=())

    def config(self, preset: str, seed: int) -> Any:
        """Return the configuration of one run of this row.

        Raises:
            ReIDError: If the recipe has no such preset.
        """
        presets = RECIPES[self.recipe].PRESETS
        if preset not in presets:
            raise ReIDError(
                f"no preset {preset!r} of {self.recipe}; there is {', '.join(presets)}"
            )
        if (preset, seed) not in self._configs:
            changes = {**self.changes, "seed": seed + self.changes.get("seed", 0)}
            self._configs[preset, seed] = _replaced(presets[preset], changes)
        return self._configs[preset, seed]

    # Reports ask for the settings of each row many times, and checking them takes long.
    @functools.cached_property
    def _configs(self) -> dict[tuple[str, int], Any]:
        return {}

    @functools.cached_property
    def _names(self) -> dict[tuple[Any, ...], str]:
        """What result files are called, for `reidlib.experiments.results.Job`."""
        return {}


def _replaced(settings: Any, changes: dict[str, Any]) -> Any:
    """Return a dataclass with other values; a dict changes a dataclass inside it."""
    values = {
        name: _replaced(getattr(settings, name), value)
        if dataclasses.is_dataclass(getattr(settings, name, None))
        else value
        for name, value in changes.items()
    }
    return dataclasses.replace(settings, **values)


@dataclass(frozen=True)
class Plan:
    """A table or figure that is made from runs.

    Attributes:
        id: Its identifier.
        title: What it shows.
        rows: Its rows.
        size: Size of the cities of SynthCity that it is made on.
        measures: What its report shows of each row, columns of `load_results`.
        presets: Presets of which the book has results.

    In the file a plan may have ``against``, the row that all others are compared with.
    """

    id: str
    title: str
    rows: tuple[Row, ...]
    size: str = "course"
    measures: tuple[str, ...] = ("Rank-1", "mAP", "NMI identity", "NMI camera")
    presets: tuple[str, ...] = ("ablation",)


@functools.cache
def plans() -> dict[str, Plan]:
    """Return every table and figure that can be made, by its identifier.

    Example:
        >>> plans()["AFF-F4"].rows[0].changes
        {'eps': 0.3}
    """
    text = resources.files(__package__).joinpath("plans.toml").read_text("utf-8")
    found = {}
    for name, raw in tomllib.loads(text).items():
        against = raw.pop("against", "")
        rows = tuple(
            Row(
                **{
                    "against": "" if row["name"] == against else against,
                    **row,
                    "paper": tuple(row.get("paper", ())),
                    "reads": tuple(row.get("reads", ())),
                }
            )
            for row in raw.pop("rows")
        )
        for key in {"measures", "presets"} & raw.keys():
            raw[key] = tuple(raw[key])
        found[name] = Plan(name, rows=rows, **raw)
    return found


def plan(table: str) -> Plan:
    """Return the plan of a table.

    Raises:
        ReIDError: If there is no such plan.
    """
    if table not in plans():
        raise ReIDError(f"no plan for {table!r}; there is {', '.join(sorted(plans()))}")
    return plans()[table]
