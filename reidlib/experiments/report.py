"""The results of a table, read from its files, with the paper's figures beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from reidlib.errors import ReIDError
from reidlib.evaluation.ranking import camera_remark
from reidlib.experiments.measured import load_results
from reidlib.experiments.plans import Row, plan, plans
from reidlib.experiments.results import Data, Job
from reidlib.experiments.verdicts import (
    SIGNS,
    Verdict,
    counted,
    each,
    paper_figures,
    remarks,
    verdicts,
)
from reidlib.experiments.verify import verified
from reidlib.papers import list_tables, load_table
from reidlib.papers.tables import PaperTable
from reidlib.recipes import RECIPES

PERCENT = ("Rank-1", "Rank-5", "mAP")
"""Measures that are given in percent, as the papers give them."""


@dataclass(frozen=True)
class Report:
    """A table for people; `str` gives Markdown, a notebook shows HTML.

    Attributes:
        title: What it shows, with preset and seeds.
        header: Names of the columns.
        rows: Cells, as many as the header has; none is empty.
        notes: What is stale, missing or failed, and what the paper says of its table.
        differences: What stands before it: each row beside the row that it is compared
            with, here and in the paper, and whether they agree. None if there is none.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    differences: Report | None = None

    def __str__(self) -> str:
        lines = [f"{self.differences}\n"] if self.differences else []
        lines += [f"**{self.title}**", ""]
        lines.append("| " + " | ".join(self.header) + " |")
        lines.append("|" + " --- |" * len(self.header))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines)

    __repr__ = __str__

    def html(self) -> str:
        """Return the table as an HTML fragment."""
        head = "".join(f"<th>{_html(name)}</th>" for name in self.header)
        body = "\n".join(
            f"<tr><th>{_html(row[0])}</th>"
            + "".join(f"<td>{_html(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<li>{_html(note)}</li>" for note in self.notes)
        before = self.differences.html() if self.differences else ""
        return (
            before + '<div class="report" style="overflow-x: auto">\n'
            # The theme leaves the colours of a data frame alone on a dark page.
            '<table class="table dataframe">\n'
            f"<caption>{_html(self.title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}\n</tbody>\n</table>\n"
            + (f"<ul>{notes}</ul>\n" if notes else "")
            + "</div>"
        )

    _repr_html_ = html


def _html(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if n % 2 else p for n, p in enumerate(parts))


def report(table: str, *, preset: str = "ablation", data: Data | None = None) -> Report:
    """Return a table of ours, mean ± standard deviation over the seeds.

    Args:
        table: Name of a plan, or of a table of `reidlib.papers` that has none yet.
        preset: Preset of the runs.
        data: Data of the runs; the cities of the plan if not given.

    Raises:
        ReIDError: If table or preset are unknown, or a result file is damaged.

    Example:
        >>> print(report("CALR-T4").rows[0][0])
        none
    """
    if table not in plans():
        return _paper_report(table)
    data = (data or Data.of(table)).read()
    rows = plan(table).rows
    frame = load_results(table, preset=preset, data=data, partial=True)
    parts = {row.name: _part(frame, row) for row in rows}
    last = int(frame["seed"].max()) if len(frame) else 0
    command = Job(table, rows[0], preset, data, last).command
    with_paper = any(row.paper for row in rows)
    measures = plan(table).measures
    percent = [name for name in measures if name in PERCENT]
    header = ["row"]
    header += [f"{name} (%)" if name in percent else name for name in measures]
    if with_paper:
        header.append(f"the paper's {' / '.join(percent)} (%)")
    cells = []
    for row in rows:
        line = [row.name]
        for name in measures:
            line.append(_ours(parts[row.name], name, command))
        if with_paper:
            line.append(_papers(row, percent))
        cells.append(tuple(line))
    notes = _notes(parts, command)
    if table in list_tables():
        paper = load_table(table)
        if not any(row.paper[:1] == (table,) for row in rows):
            notes += _paper_says(paper)  # it does not stand beside ours
        notes += [f"{paper.paper}: {note}" for note in paper.notes]
    seeds = _seeds(max(parts.values(), key=len)) or "(none yet)"
    where = f"{data.label}, preset {preset}, last epoch"
    title = (
        f"{table}: {plan(table).title} ({where}, mean ± standard deviation over seeds "
        f"{seeds})"
    )
    found = verdicts(table, preset=preset, data=data)
    differences = None
    if found:
        told = counted(found) or f"{plan(table).title}, row by row"
        about = f"{table}: {told} (mAP, {where}, seeds {seeds})"
        differences = _differences(found, about)
    return Report(title, tuple(header), tuple(cells), tuple(notes), differences)


def _differences(found: list[Verdict], title: str) -> Report:
    """Return the comparisons of a table."""
    header = ["row", "compared with", "here, city by city", "mean"]
    in_paper = any(one.paper for one in found)
    if in_paper:
        header += ["the paper", "verdict"]
    cells = []
    for one in found:
        line = [one.row, one.against, each(one.here.values()) or "–", one.found]
        if in_paper:
            line += [one.in_paper or "no figure", one.sign]
        cells.append(tuple(line))
    notes = []
    for shared, what in (
        (False, "Seed variance moves a mean"),
        (
            True,
            "Rows of one training share its luck; the deviation between cities moves "
            "the mean of their differences",
        ),
    ):
        known = [
            v.noise for v in found if v.shared is shared and math.isfinite(v.noise)
        ]
        if known:
            least, most = (f"{limit(known):.1f}" for limit in (min, max))
            moved = most if least == most else f"{least} to {most}"
            notes.append(f"{what} by {moved} points (one standard deviation).")
    notes += remarks(found)
    signs = {one.sign for one in found} if in_paper else set()
    if signs:
        notes.append("; ".join(f"{s} {SIGNS[s]}" for s in SIGNS if s in signs) + ".")
    return Report(title, tuple(header), tuple(cells), tuple(notes))


def _part(frame: pd.DataFrame, row: Row) -> pd.DataFrame:
    return frame[frame["row"] == row.name] if len(frame) else frame


def _seeds(part: pd.DataFrame) -> str:
    return ", ".join(str(seed) for seed in part["seed"]) if len(part) else ""


def _notes(parts: dict[str, pd.DataFrame], command: str) -> list[str]:
    """Say which rows are stale, broke down, or have fewer seeds than others."""
    notes = []
    stale = {
        name: set(", ".join(part["stale"]).split(", ")) - {""}
        for name, part in parts.items()
        if len(part)
    }
    stale = {name: changed for name, changed in stale.items() if changed}
    if stale:
        changed = ", ".join(sorted(set.union(*stale.values())))
        notes.append(
            f"† stale ({'; '.join(stale)}): made with other {changed} than here now; "
            f"`{command}` makes it again."
        )
    most = _seeds(max(parts.values(), key=len))
    fewer: dict[str, list[str]] = {}
    for name, part in parts.items():
        failed = part[part["status"] == "failed"] if len(part) else part
        if len(failed):
            reason = failed["result"].iloc[0]["error"]
            notes.append(
                f"‡ {name}: {len(failed)} of {len(part)} runs broke down ({reason})."
            )
        if len(part) and _seeds(part) != most:
            fewer.setdefault(_seeds(part), []).append(name)
    for seeds, names in fewer.items():
        notes.append(f"only over seeds {seeds}: {'; '.join(names)}.")
    for name, part in parts.items():
        unknown = [
            result.get("metrics", {}).get("num_without_camera", 0)
            for result in (part["result"] if len(part) else ())
        ]
        if number := max(unknown, default=0):
            notes.append(f"{name}: {camera_remark(number)}.")
    times = [part["seconds"] for part in parts.values() if len(part)]
    if times:
        median = pd.concat(times).median()
        notes.append(f"A run took {median:.0f} s in the median.")
    return [*notes, *_provenance(pd.concat(list(parts.values())))]


def _provenance(frame: pd.DataFrame) -> list[str]:
    """Say which commits made the results, and which was verified to make them still."""
    if not len(frame):
        return []
    commits = [str(result.get("commit"))[:7] for result in frame["result"]]
    told = f"Made at commit {', '.join(sorted(set(commits)))}"
    record = verified()
    for recipe in sorted({result["recipe"] for result in frame["result"]}):
        found = record.get(recipe)
        if found and found.get("version") == RECIPES[recipe].VERSION:
            told += f"; {recipe} verified at commit {str(found.get('commit'))[:7]}"
    return [f"{told}."]


def _ours(part: pd.DataFrame, name: str, command: str) -> str:
    if not len(part):
        return f"missing: `{command}`"
    mark = " †" if (part["stale"] != "").any() else ""
    mark += " ‡" if (part["status"] == "failed").any() else ""
    values = part[name].dropna()
    if not len(values):
        return ("broke down" if "‡" in mark else "not measured") + mark
    digits = 1 if name in PERCENT else 2
    text = f"{values.mean():.{digits}f}"
    if len(values) > 1:
        # Spaces that a narrow page does not break at.
        text += f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{values.std(ddof=1):.{digits}f}"
    return f"{text}{mark}"


def _papers(row: Row, percent: list[str]) -> str:
    """Return a paper's figures for each of its data sets, with the source."""
    if not row.paper:
        return "none"
    lines = [
        (f"{dataset}: " if dataset else "")  # else the row's name has it
        + " / ".join(str(found.get(name, "–")) for name in percent)
        for dataset, found in paper_figures(row).items()
        if any(name in found for name in percent)
    ]
    table, *keys = row.paper
    return f"{'; '.join(lines)} ({table}, {' / '.join(map(str, keys))})"


def _paper_says(table: PaperTable) -> list[str]:
    """Return a paper's own table as notes, one for each row."""
    keys = len(table.keys)
    lines = []
    for row in table.rows:
        name = " / ".join(str(cell) for cell in row[:keys])
        cells = ", ".join(
            f"{_column(column)} {value}"
            for column, value in zip(table.columns[keys:], row[keys:], strict=True)
            if value == value
        )
        lines.append(f"{table.paper}, {table.source}: {name}: {cells}.")
    return lines


def _column(column: Any) -> str:
    unit = f" ({column.unit})" if column.unit not in ("", "1", "row") else ""
    dataset = f", {column.dataset}" if column.dataset else ""
    return f"{column.name}{unit}{dataset}"


def _paper_report(table: str) -> Report:
    """Return a paper's table that is not made here yet."""
    if table not in list_tables():
        known = ", ".join(sorted({*plans(), *list_tables()}))
        raise ReIDError(f"no table {table!r}; there is {known}")
    paper = load_table(table)
    cells = tuple(
        tuple("not given" if cell != cell or cell == "" else str(cell) for cell in row)
        for row in paper.rows
    )
    notes = ["Not reproduced here yet: these are the paper's figures alone."]
    return Report(
        f"{table}: {paper.title} ({paper.paper}, {paper.source})",
        tuple(_column(column) for column in paper.columns),
        cells,
        (*notes, *paper.notes),
    )
