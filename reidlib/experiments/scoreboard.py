"""Every item of the papers on one page: what is claimed, and whether it holds here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path, PurePosixPath

from reidlib.experiments.measured import seconds_of_runs
from reidlib.experiments.plans import plan, plans
from reidlib.experiments.report import Report
from reidlib.experiments.results import Data
from reidlib.experiments.runner import possible_tables
from reidlib.experiments.verdicts import (
    SIGNS,
    Verdict,
    each,
    points,
    remarks,
    verdicts,
)
from reidlib.papers import CHECKS, PAPERS, Item, code_link, coverage_items, link_to

CHECKED = "="
CONTRADICTS = "▲"
BOARD_SIGNS = {
    **SIGNS,
    CHECKED: "what it computes or shows was checked; whether its claim holds was not "
    "judged",
    CONTRADICTS: "besides, the paper contradicts itself",
}
"""What a sign says of an item; it has one of them, and perhaps the last."""

SHORT = {
    "●": "agrees",
    "◐": "same sign, within noise",
    "○": "no effect",
    "✕": "opposite",
    "–": "not run, or no figure",
    CHECKED: "checked, not judged",
    CONTRADICTS: "contradicts itself",
}
"""A sign in a word or two."""


@dataclass(frozen=True)
class BoardLine:
    """An item, and what became of its claim.

    Attributes:
        item: The item.
        verdict: The difference that decides; None if there is none, or it was not run.
        rows: For each difference that the paper's table reports its sign.
        here: What was found here, or how the item is checked.
        seconds: What its runs took on one core.
    """

    item: Item
    verdict: Verdict | None
    rows: tuple[str, ...]
    here: str
    seconds: float

    @property
    def sign(self) -> str:
        """One of `BOARD_SIGNS`."""
        if self.verdict is not None:
            return self.verdict.sign
        return CHECKED if self.item.check else "–"

    @property
    def signs(self) -> tuple[str, ...]:
        """The sign, and the one of contradiction if the paper contradicts itself."""
        return (self.sign, CONTRADICTS) if self.item.contradiction else (self.sign,)

    @property
    def beside(self) -> list[str]:
        """What stands below the difference: its cities, the other rows, a remark."""
        told = []
        if self.verdict is not None:
            told += [each(self.verdict.here.values())] if self.verdict.here else []
        if len(self.rows) > 1:
            counts = Counter(self.rows)
            signs = ", ".join(
                f"{counts[sign]} {sign}" for sign in SIGNS if counts[sign]
            )
            told.append(f"{len(self.rows)} rows: {signs}")
        return [*told, self.item.note] if self.item.note else told


@dataclass(frozen=True)
class Scoreboard:
    """Every item with its verdict, and the differences that they were read from.

    Attributes:
        lines: One for each item of the papers.
        found: For each item the comparisons that its paper has figures for.
        seconds: What all runs took on one core, each counted once.
        about: Preset and data, in words.
    """

    lines: tuple[BoardLine, ...]
    found: dict[str, list[Verdict]]
    seconds: float
    about: str

    def counts(self) -> Report:
        """Return how many items of each paper have each sign."""
        header = ("paper", "items", *BOARD_SIGNS)
        rows = []
        for paper in [*PAPERS, "all"]:
            lines = [one for one in self.lines if paper in ("all", one.item.paper)]
            counts = Counter(sign for one in lines for sign in one.signs)
            cells = (str(counts[sign]) for sign in BOARD_SIGNS)
            rows.append((paper, str(len(lines)), *cells))
        every = [one for found in self.found.values() for one in found]
        of_rows = Counter(one.sign for one in every)
        told = ", ".join(f"{of_rows[sign]} {sign}" for sign in SIGNS if of_rows[sign])
        shared = sum(one.shared for one in every)
        notes = (
            "; ".join(f"{sign} {words}" for sign, words in BOARD_SIGNS.items()) + ".",
            "An item with several differences has the sign of the row that decides "
            f"about its claim. All {len(every)} differences of rows: "
            f"{told or 'none'}; {shared} of them compare scores of one training.",
            f"The runs took {self.seconds / 3600:.0f} hours of one core; those on a "
            "GPU are not counted.",
            *remarks(every),
        )
        title = f"What became of the items of the papers ({self.about})"
        return Report(title, header, tuple(rows), notes)

    def of_paper(self, paper: str) -> Report:
        """Return the differences of one paper, row by row."""
        header = (
            "item",
            "row",
            "compared with",
            "the paper",
            "here",
            "cities",
            "verdict",
        )
        rows = []
        for table, found in self.found.items():
            for one in found if _items()[table].paper == paper else ():
                cities = each(one.here.values()) or "–"
                line = (table, one.row, one.against, one.in_paper, one.found, cities)
                rows.append((*line, one.sign))
        return Report(f"{paper}, in points of mAP", header, tuple(rows), ())

    def differences(self) -> list[Report]:
        """Return the differences of each paper that has any, row by row."""
        return [one for one in map(self.of_paper, PAPERS) if one.rows]

    def __str__(self) -> str:
        """Return the counts and all differences as Markdown."""
        return "\n\n".join(map(str, [self.counts(), *self.differences()]))

    def board(self, *, linked: bool = False) -> str:
        """Return counts, filters and all items as HTML, with their style and script.

        Args:
            linked: Link to the pages of the book and of the library, from a page in
                ``book/``; otherwise they are named.
        """
        files = resources.files("reidlib.experiments")
        style, script = (
            files.joinpath(f"scoreboard.{kind}").read_text("utf-8").strip()
            for kind in ("css", "js")
        )
        signs = "|".join(f"{sign} {words}" for sign, words in SHORT.items())
        head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
        bodies = "\n".join(
            f'<tbody>\n<tr><th class="board-paper" scope="rowgroup" '
            f'colspan="{len(_COLUMNS)}">{escape(f"{paper}: {title}")}</th></tr>\n'
            + "\n".join(
                _row(line, linked) for line in self.lines if line.item.paper == paper
            )
            + "\n</tbody>"
            for paper, title in PAPERS.items()
        )
        table = f"<thead><tr>{head}</tr></thead>\n{bodies}"
        # Markdown takes what no blank line parts for one piece of HTML.
        return "\n\n".join(
            [
                f"<style>\n{style}\n</style>",
                f'<div class="board-counts">\n{self.counts().html()}\n</div>',
                f'<div class="board" data-signs="{escape(signs)}">\n'
                f'<table class="board-items">\n{table}\n</table>\n</div>',
                f"<script>\n{script}\n</script>",
            ]
        )

    def html(self) -> str:
        """Return a page that stands alone: all items, below them all differences."""
        below = "\n".join(report.html() for report in self.differences())
        return _PAGE.format(title="Scoreboard", body=f"{self.board()}\n{below}")


def scoreboard(*, preset: str = "ablation", data: Data | None = None) -> Scoreboard:
    """Return what became of every item of the papers.

    Args:
        preset: Preset of the runs.
        data: Data of the runs; the cities of each plan if not given.

    Example:
        >>> board = scoreboard(preset="paper")
        >>> board.counts().rows[-1][:2]
        ('all', '98')
    """
    data = data and data.read()  # once, and not for each table
    told: dict[str, list[Verdict]] = {}
    taken: dict[str, dict[Path, float]] = {}
    found: dict[str, list[Verdict]] = {}
    for table in possible_tables(preset, data):
        told[table] = verdicts(table, preset=preset, data=data)
        taken[table] = seconds_of_runs(table, preset=preset, data=data)
        for one in told[table]:
            if one.paper:
                (row,) = [row for row in plan(table).rows if row.name == one.row]
                # What a paper prints in two places stands in that of the plan.
                item = table if table in _items() else str(row.paper[0])
                found.setdefault(item, []).append(one)
    lines = [_line(item, told, taken, found) for item in coverage_items()]
    every = {file: time for runs in taken.values() for file, time in runs.items()}
    label = data.label if data else "SynthCity"
    about = f"mAP, {label}, preset {preset}"
    return Scoreboard(tuple(lines), found, sum(every.values()), about)


def _line(
    item: Item,
    told: Mapping[str, list[Verdict]],
    taken: Mapping[str, dict[Path, float]],
    found: Mapping[str, list[Verdict]],
) -> BoardLine:
    table = item.plan or item.id
    verdict, here = None, CHECKS.get(item.check, "not run")
    if item.row:
        every = {one.row: one for one in told.get(table, [])}
        verdict = every.get(item.row)
        if verdict is not None:
            here = verdict.found
        elif table in plans() and table not in told:
            here = "not run: its rows ask for cities or settings of their own"
    rows = tuple(one.sign for one in found.get(item.id, []))
    return BoardLine(item, verdict, rows, here, sum(taken.get(table, {}).values()))


def _items() -> dict[str, Item]:
    return {item.id: item for item in coverage_items()}


_COLUMNS = ("item", "claim", "paper", "here", "verdict", "where", "minutes")


def _row(line: BoardLine, linked: bool) -> str:
    """Return an item as a row of the table."""
    item = line.item
    claim = escape(item.claim)
    if item.contradiction:
        claim += f"<small>{CONTRADICTS} {escape(item.contradiction)}</small>"
    paper = line.verdict.paper if line.verdict is not None else {}
    here = escape(line.here)
    here += "".join(f"<small>{escape(text)}</small>" for text in line.beside)
    file = item.page.partition("#")[0]
    name = PurePosixPath(file).stem.replace("_", " ")
    page = link_to(item.page, name) if linked else escape(file)
    cells = {
        "claim": claim,
        "paper": "<br>".join(
            f"{points(value)} {escape(dataset)}".strip()
            for dataset, value in paper.items()
        ),
        "here": here,
        "verdict": f"{line.sign} <small>{escape(SHORT[line.sign])}</small>",
        "where": f"{page}<br>{code_link(item.code, linked=linked)}",
        "minutes": f"{line.seconds / 60:.0f}" if line.seconds else "",
    }
    told = [f'<th scope="row">{item.id} <small>{item.kind}</small></th>']
    for label, text in cells.items():
        kind = "board-number" if label == "minutes" else ""
        if not text:
            text, kind = "–", f"{kind} board-none".strip()
        told.append(
            f'<td data-label="{label}"' + (f' class="{kind}">' if kind else ">")
        )
        told.append(f"{text}</td>")
    return (
        f'<tr id="board-{item.id.lower()}" data-paper="{item.paper}" '
        f'data-kind="{item.kind}" data-signs="{" ".join(line.signs)}">'
        f"{''.join(told)}</tr>"
    )


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1rem auto; padding: 0 1rem;
  max-width: 80em; }}
.report table {{ border-collapse: collapse; margin: 1em 0; }}
.report th, .report td {{ padding: 0.2em 0.8em; text-align: left;
  border-bottom: 1px solid #8884; }}
caption {{ text-align: left; font-weight: bold; }}
</style>
<h1>{title}</h1>
{body}
</html>
"""
