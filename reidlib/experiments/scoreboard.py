"""All differences that the papers report, and whether they hold here, on one page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape

from reidlib.experiments.plans import plan
from reidlib.experiments.report import Report
from reidlib.experiments.results import Data
from reidlib.experiments.runner import possible_tables
from reidlib.experiments.verdicts import SIGNS, Verdict, each, remarks, verdicts
from reidlib.papers import PAPERS, coverage_items


@dataclass(frozen=True)
class Scoreboard:
    """Verdicts by table, and what they were read from.

    Attributes:
        found: For each table its comparisons that the paper has figures for.
        about: Preset and data, in words.
    """

    found: dict[str, list[Verdict]]
    about: str

    def counts(self) -> Report:
        """Return how many differences of each paper hold, do not, or were not run."""
        header = ("paper", "differences", *SIGNS)
        rows = []
        for paper in [*PAPERS, "all"]:
            told = [
                one.sign
                for table, found in self.found.items()
                for one in found
                if paper in ("all", _paper(table))
            ]
            counts = Counter(told)
            rows.append((paper, str(len(told)), *(str(counts[sign]) for sign in SIGNS)))
        every = [one for found in self.found.values() for one in found]
        signs = "; ".join(f"{sign} {words}" for sign, words in SIGNS.items()) + "."
        notes = (signs, *remarks(every))
        title = "Differences that the papers report, and what became of them"
        title += f" ({self.about})"
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
            for one in found if _paper(table) == paper else ():
                cities = each(one.here.values()) or "–"
                line = (table, one.row, one.against, one.in_paper, one.found, cities)
                rows.append((*line, one.sign))
        return Report(f"{paper}, in points of mAP", header, tuple(rows), ())

    def reports(self) -> list[Report]:
        """Return the counts, and the differences of each paper that has any."""
        of_papers = [self.of_paper(paper) for paper in PAPERS]
        return [self.counts(), *(one for one in of_papers if one.rows)]

    def __str__(self) -> str:
        """Return all tables as Markdown."""
        return "\n\n".join(map(str, self.reports()))

    def html(self) -> str:
        """Return a page that stands alone."""
        body = "\n".join(report.html() for report in self.reports())
        return _PAGE.format(title=escape("Scoreboard"), body=body)


def scoreboard(*, preset: str = "ablation", data: Data | None = None) -> Scoreboard:
    """Return the verdict of every difference that a paper's table reports.

    Args:
        preset: Preset of the runs.
        data: Data of the runs; the cities of each plan if not given.

    Example:
        >>> print(scoreboard().counts().header[:2])
        ('paper', 'differences')
    """
    data = data and data.read()  # once, and not for each table
    found: dict[str, list[Verdict]] = {}
    for table in possible_tables(preset, data):
        for one in verdicts(table, preset=preset, data=data):
            if one.paper:
                (row,) = [row for row in plan(table).rows if row.name == one.row]
                # What a paper prints in two places stands in that of the plan.
                item = table if table in _items() else str(row.paper[0])
                found.setdefault(item, []).append(one)
    label = data.label if data else "SynthCity"
    return Scoreboard(found, f"mAP, {label}, preset {preset}")


def _items() -> dict[str, str]:
    """Return the paper of each item."""
    return {item.id: item.paper for item in coverage_items()}


def _paper(table: str) -> str:
    return _items()[table]


_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; }}
table {{ border-collapse: collapse; margin: 1em 0; }}
th, td {{ padding: 0.2em 0.8em; text-align: left; border-bottom: 1px solid #8884; }}
caption {{ text-align: left; font-weight: bold; }}
</style>
<h1>{title}</h1>
{body}
"""
