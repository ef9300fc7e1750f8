"""The papers' tables, and the numbers that their texts state about figures."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import pandas as pd

from reidlib.errors import ReIDError

PAPERS = {
    "CALR": "Camera-aware label refinement",
    "AFF_SCL": "Attention-guided fine-grained features and symmetric contrast",
    "CALS": "K-Means++, EfficientNet-B0 and context-aware label smoothing",
    "QAFM": "Quality-aware fusion of visual and soft-biometric cues",
}
"""Short names of the papers and what they propose."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: What the paper calls it, in this project's spelling.
        meaning: One line on what it holds.
        unit: Unit of its numbers; ``"1"`` for none, ``"row"`` if the row's ``unit``
            cell gives it, and empty for a column of text.
        dataset: Data set of its numbers; empty if the row gives it.
    """

    name: str
    meaning: str
    unit: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class PaperTable:
    """One table of a paper, or the numbers that its text states about a figure.

    Attributes:
        id: Item of the coverage table (``"CALR-T4"``), or ``<paper>-SETTINGS`` and
            ``<paper>-DATA`` for what a text states outside its tables.
        paper: One of `PAPERS`.
        source: Where in the paper.
        title: What it shows.
        keys: Names of the columns that identify a row.
        columns: As many as a row has cells.
        rows: Text and numbers; nan where the paper gives no number.
        notes: Where the paper contradicts itself, other sources or its code.
    """

    id: str
    paper: str
    source: str
    title: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | float, ...], ...]
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return the table with its keys as index.

        Returns:
            One row per row of the table. The columns are names, or pairs (data set,
            name) where the table has columns of more than one data set.

        Example:
            >>> frame = load_table("CALR-T4").to_frame()
            >>> float(frame.loc["cosine", ("Market-1501", "mAP")])
            84.5
        """
        keys = len(self.keys)
        frame = pd.DataFrame([row[keys:] for row in self.rows])
        columns = self.columns[keys:]
        if len({column.dataset for column in columns if column.dataset}) > 1:
            frame.columns = pd.MultiIndex.from_tuples(
                [(column.dataset, column.name) for column in columns],
                names=["dataset", "measure"],
            )
        else:
            frame.columns = pd.Index([column.name for column in columns])
        frame.index = (
            pd.Index([row[0] for row in self.rows], name=self.keys[0])
            if keys == 1
            else pd.MultiIndex.from_tuples(
                [row[:keys] for row in self.rows], names=self.keys
            )
        )
        return frame


def list_tables() -> list[str]:
    """Return the identifiers that `load_table` knows, sorted.

    Example:
        >>> "QAFM-T4" in list_tables()
        True
    """
    return sorted(file.name.removesuffix(".toml") for file in _files())


def load_table(table_id: str) -> PaperTable:
    """Return one table of the papers.

    Args:
        table_id: One of `list_tables`, as ``"AFF-T5"``.

    Raises:
        ReIDError: If there is no such table; the message lists the known ones.

    Example:
        >>> table = load_table("AFF-T5")
        >>> table.source, len(table.rows)
        ('Table 5', 5)
    """
    for file in _files():
        if file.name == f"{table_id}.toml":
            return _parse(tomllib.loads(file.read_text(encoding="utf-8")))
    known = ", ".join(list_tables())
    raise ReIDError(f"no table {table_id!r} in reidlib.papers; use one of {known}")


def _files() -> list[Traversable]:
    folder = resources.files("reidlib.papers") / "tables"
    return [file for file in folder.iterdir() if file.name.endswith(".toml")]


def _parse(raw: dict[str, Any]) -> PaperTable:
    # A file writes its measured columns once; its rows have them once per data set.
    declared = [Column(**column) for column in raw["columns"]]
    measured = [c for c in declared if c.unit and c.name not in raw["keys"]]
    columns = [c for c in declared if c not in measured] if "datasets" in raw else []
    for dataset in raw.get("datasets", ()):
        columns += [Column(c.name, c.meaning, c.unit, dataset) for c in measured]
    return PaperTable(
        id=raw["id"],
        paper=raw["paper"],
        source=raw["source"],
        title=raw["title"],
        keys=tuple(raw["keys"]),
        columns=tuple(columns or declared),
        rows=tuple(tuple(row) for row in raw["rows"]),
        notes=tuple(raw.get("notes", ())),
    )
