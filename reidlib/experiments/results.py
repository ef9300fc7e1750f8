"""Published runs: where each is kept, and whether it still says what it would say now.

A result depends on its method's version, its settings and its data, not on the code: a
refactoring leaves it current, and a change that is meant to move numbers raises the
``VERSION`` of its recipe, which makes it stale. Golden runs (``tests/golden``) and
`reidlib.experiments.verify` hold the code to that.

One file is one run. Rows of several tables that ask for the same run share it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import reidlib
from reidlib.data.adaptation import with_source
from reidlib.data.readers import detect_kind, open_dataset
from reidlib.data.table import ReIDDataset
from reidlib.engine.manifest import read_result
from reidlib.errors import ReIDError
from reidlib.experiments.plans import Row, plans
from reidlib.paths import user_path
from reidlib.recipes import RECIPES
from reidlib.synthcity import DRAWING, Dials, ensure_synthcity, split_sizes

NUM_SEEDS = 3
"""Seeds of each row, if nothing else is asked for: 0, 1 and 2."""


def results_dir() -> Path:
    """Return where result files are kept.

    ``REIDLIB_RESULTS`` if that is set; else ``results`` of the checkout that holds the
    library, or, where it was installed without one, of the current folder.
    """
    if os.environ.get("REIDLIB_RESULTS"):
        return user_path(os.environ["REIDLIB_RESULTS"])
    checkout = Path(reidlib.__file__).resolve().parents[1]
    return (checkout if (checkout / "pyproject.toml").is_file() else Path()) / "results"


@dataclass(frozen=True)
class Data:
    """The data of a table: SynthCity, one city for each seed, or a folder.

    Attributes:
        size: Size of SynthCity; not looked at if there is a ``root``.
        kind: Kind of the folder, as for `reidlib.data.open_dataset`.
        root: A folder with real data. All seeds then share it.
        dials: Dials of SynthCity.
        sha256: Fingerprint of the folder, or its beginning; read if it is not given.
    """

    size: str = "course"
    kind: str = "auto"
    root: Path | None = None
    dials: Dials = field(default_factory=Dials)
    sha256: str = ""

    @classmethod
    def of(cls, table: str) -> Data:
        """Return the cities that a table is made on, unless others are asked for."""
        return cls(_size_of(table))

    @classmethod
    def reported(cls, kind: str) -> Data:
        """Return the one folder of a kind of which there are results.

        Raises:
            ReIDError: If there are results of several.
        """
        pattern = re.compile(rf"{re.escape(kind)}-([0-9a-f]{{10}})-s\d+-.*\.json")
        files = results_dir().glob(f"*/{kind}-*.json")
        known = {found[1] for f in files if (found := pattern.fullmatch(f.name))}
        if len(known) > 1:
            raise ReIDError(
                f"{results_dir()} holds results of {len(known)} data sets of kind "
                f"{kind}; say with --root which are meant"
            )
        return cls(kind=kind, root=Path("PATH"), sha256=next(iter(known), 10 * "0"))

    def read(self) -> Data:
        """Return the data with kind and fingerprint of its folder, which take a while.

        Result files are called by the kind of their data.
        """
        if self.root is None or self.sha256:
            return self
        kind = detect_kind(self.root) if self.kind == "auto" else self.kind
        found = dataclasses.replace(self, kind=kind)
        return dataclasses.replace(found, sha256=found.open(0).fingerprint())

    @property
    def name(self) -> str:
        """What result files call the data: those of two folders differ."""
        if self.root is not None:
            return f"{self.kind}-{self.read().sha256[:10]}"
        turned = sorted(changed(asdict(self.dials), asdict(Dials())).items())
        return "-".join([self.size, *(f"{k}-{v:g}" for k, v in turned)])

    @property
    def label(self) -> str:
        """What tables call the data."""
        return f"SynthCity {self.size}" if self.root is None else self.kind

    def open(self, seed: int) -> ReIDDataset:
        """Return the data of a seed."""
        if self.root is None:
            folder = ensure_synthcity(self.size, seed, self.dials)
            return open_dataset("synthcity", folder)
        return open_dataset(self.kind, self.root)

    def version(self, seed: int) -> dict[str, Any]:
        """Return what the images depend on, known without drawing or reading them."""
        if self.root is not None:
            return {"kind": self.kind}
        city = {"size": self.size, "seed": seed, "dials": asdict(self.dials)}
        return {**city, "drawing": DRAWING}

    @property
    def images(self) -> dict[str, int] | None:
        """How many images each split has; None if only the folder tells."""
        return None if self.root else split_sizes(self.size, self.dials)


@dataclass(frozen=True)
class Job:
    """One run of a table."""

    table: str
    row: Row
    preset: str
    data: Data
    seed: int

    @functools.cached_property
    def config(self) -> Any:
        """The configuration of the run."""
        return self.row.config(self.preset, self.seed)

    @property
    def cities(self) -> list[tuple[Data, int]]:
        """The data with the dials of the row, and that to adapt from, with seeds.

        Raises:
            ReIDError: If the row needs cities of its own, and the data is a folder.
        """
        row = self.row
        if (row.dials or row.labelled) and self.data.root is not None:
            raise ReIDError(
                f"row {row.name!r} of {self.table} asks for cities of its own "
                f"({', '.join([*row.dials, *row.labelled])}), and {self.data.kind} is "
                "none; leave --data and --root out"
            )
        found = [(self._city(row.dials), self.seed)]
        if row.labelled:
            dials = {k: v for k, v in row.labelled.items() if k != "seed"}
            found.append((self._city(dials), self.seed + int(row.labelled["seed"])))
        return found

    def _city(self, dials: dict[str, float]) -> Data:
        turned = dataclasses.replace(self.data.dials, **dials)
        return dataclasses.replace(self.data, dials=turned)

    def open(self) -> ReIDDataset:
        """Return the data of the run, drawing what is not there."""
        target, *labelled = (city.open(seed) for city, seed in self.cities)
        return with_source(target, labelled[0]) if labelled else target

    def inputs(self) -> dict[str, Any]:
        """Return all that the result depends on: method, settings and data."""
        target, *labelled = (city.version(seed) for city, seed in self.cities)
        return {
            "recipe": self.row.recipe,
            "version": RECIPES[self.row.recipe].VERSION,
            "config": asdict(self.config),
            "data": {**target, **({"labelled": labelled[0]} if labelled else {})},
        }

    @property
    def file(self) -> Path:
        """Where the result is kept.

        The name is that of the data and a hash of the settings and dials that differ
        from their defaults: it stays when a setting is added, and when a version is
        raised.
        """
        return results_dir() / self.row.recipe / self._name

    @functools.cached_property
    def _name(self) -> str:
        if self.data.root is not None:  # a folder may change
            return self._named()
        key = self.preset, self.data, self.seed
        if key not in self.row._names:
            self.row._names[key] = self._named()
        return self.row._names[key]

    def _named(self) -> str:
        (target, _), *labelled = self.cities
        key: list[Any] = [changed(asdict(self.config), _defaults(self.row.recipe))]
        for city, seed in labelled:
            key += [changed(asdict(city.dials), asdict(Dials())), seed]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return f"{target.name}-s{self.seed}-{digest[:10]}.json"

    def read(self) -> dict[str, Any] | None:
        """Return the result file, or None if there is none.

        Raises:
            ReIDError: If it cannot be read.
        """
        if not self.file.exists():
            return None
        way_out = f"remove it and make it again with `{self.command}`"
        return read_result(self.file, way_out)

    def stale(self, result: dict[str, Any]) -> list[str]:
        """Name what a result was made with that is different now.

        Settings and dials are compared field by field. A field that an old file lacks
        counts as today's default: whoever adds one gives it the old behaviour.

        Args:
            result: Content of the result file.

        Returns:
            Some of ``"method"``, ``"settings"`` and ``"data"``; empty if it is current.
        """
        now = self.inputs()
        found = []
        if any(result.get(name) != now[name] for name in ("recipe", "version")):
            found.append("method")
        # Compared as JSON, in which a tuple is a list.
        settings, data = json.loads(json.dumps([now["config"], now["data"]]))
        if _filled(result.get("config"), _defaults(self.row.recipe)) != settings:
            found.append("settings")
        usual = {"dials": asdict(Dials())} if self.data.root is None else {}
        if "labelled" in data:
            usual["labelled"] = dict(usual)
        # A city that was damaged had fewer images than were drawn.
        drawn = self.cities[0][0].images
        read = result.get("dataset", {}).get("images", drawn)
        other = result.get("dataset", {}).get("sha256", "")
        if (
            (drawn and read != drawn)
            or _filled(result.get("data"), usual) != data
            or (self.data.root and not other.startswith(self.data.sha256))
        ):
            found.append("data")
        return found

    def is_current(self, result: dict[str, Any]) -> bool:
        """Return whether a result need not be made again.

        Of a folder the images and what is read beside them are looked at as well, which
        takes a while.
        """
        if self.stale(result):
            return False
        if self.data.root is None:
            return True
        dataset, read = self.open(), result.get("files", {})
        now = self.config.read_files(dataset)
        same = all(read.get(name, sha256) == sha256 for name, sha256 in now.items())
        # It may have changed since its fingerprint was read.
        return same and result.get("dataset", {}).get("sha256") == dataset.fingerprint()

    def gone(self, result: dict[str, Any]) -> list[str]:
        """Name what a result of a folder was made from that is not there any more."""
        if self.data.root is None:
            return []
        now = self.config.read_files(self.open())
        return [
            name
            for name in result.get("files", {})
            if name not in now and not name.endswith("(made)")
        ]

    @property
    def command(self) -> str:
        """The command that makes the result, with those of the seeds before it."""
        words = [f"reidlib reproduce {self.table}"]
        if self.preset != "ablation":
            words.append(f"--preset {self.preset}")
        if self.data.root is not None:
            words.append(f"--data {self.data.kind} --root PATH")
        elif self.data.size != _size_of(self.table):
            words.append(f"--size {self.data.size}")
        if self.seed >= NUM_SEEDS:
            words.append(f"--seeds {self.seed + 1}")
        return " ".join(words)


def _size_of(table: str) -> str:
    return plans()[table].size if table in plans() else "course"


def changed(settings: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from their defaults, nested as they are.

    Example:
        >>> changed({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}})
        {'b': {'d': 3}}
    """
    found = {}
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(value, dict) and isinstance(default, dict):
            if inner := changed(value, default):
                found[name] = inner
        elif name not in defaults or value != default:
            found[name] = value
    return found


def _filled(settings: Any, defaults: dict[str, Any]) -> Any:
    """Return settings with the default of each field that they lack."""
    if not isinstance(settings, dict):
        return settings
    inner = {
        name: _filled(settings[name], default)
        for name, default in defaults.items()
        if name in settings and isinstance(default, dict)
    }
    return json.loads(json.dumps({**defaults, **settings, **inner}))


@functools.cache
def _defaults(recipe: str) -> dict[str, Any]:
    return asdict(RECIPES[recipe].Config())
