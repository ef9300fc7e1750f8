"""A picture for each table of a paper: its differences, and the same ones here."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reidlib.experiments import Data, Job, Verdict, plans, verdicts
from reidlib.experiments.verdicts import paper_difference, points
from reidlib.plotting import COLOURS

PAPER, HERE = COLOURS[1], COLOURS[0]


def told(table: str) -> list[Verdict]:
    """Return the comparisons of a table that have a figure in the paper."""
    return [one for one in verdicts(table) if one.paper]


@functools.cache
def charted() -> list[str]:
    """Return the tables that get a picture: several differences, all of them run."""
    found = []
    for table, plan in plans().items():
        rows = {row.name: row for row in plan.rows}
        pairs = [(row, rows[row.against]) for row in plan.rows if row.against]
        pairs = [pair for pair in pairs if paper_difference(*pair)]
        jobs = [
            Job(table, row, "ablation", Data.of(table), 0)
            for pair in pairs
            for row in pair
        ]
        if len(pairs) > 1 and all(job.file.exists() for job in jobs):
            found.append(table)
    return found


def plot_dots(ax: Axes, level: float, values: Collection[float], colour: str) -> None:
    """Draw a small dot for each value, and a diamond for their mean.

    Args:
        ax: Where to draw.
        level: At which height.
        values: The values; none are drawn as nothing.
        colour: Of all of them.
    """
    if values:
        look = {"color": colour, "mec": "none"}
        ax.plot([*values], [level] * len(values), "o", ms=4, alpha=0.5, **look)
        ax.plot(float(np.mean([*values])), level, "D", ms=7, **look)


def draw(table: str) -> Figure:
    """Draw each difference: the paper's, and that of each city, with their mean."""
    found = told(table)
    figure, ax = plt.subplots(figsize=(7, 0.9 + 0.42 * len(found)))
    noise = np.array([v.noise if math.isfinite(v.noise) else 0.0 for v in found])
    what = "deviation between cities" if found[0].shared else "seed variance"
    band = {"color": "0.5", "alpha": 0.2, "lw": 0, "label": what}
    ax.barh(range(len(found)), 2 * noise, height=1, left=-noise, **band)
    ax.axvline(0, color="0.5", lw=1)
    for place, one in enumerate(found):
        of_paper, cities = list(one.paper.values()), list(one.here.values())
        plot_dots(ax, place - 0.16, of_paper, PAPER)
        plot_dots(ax, place + 0.16, cities, HERE)
    for colour, name in ((PAPER, "the paper"), (HERE, "here")):
        ax.plot([], [], "D", color=colour, ms=7, mec="none", label=name)
    ax.set_yticks(range(len(found)), [f"{one.row}  {one.sign}" for one in found])
    ax.set_ylim(len(found) - 0.5, -0.5)
    ax.set_xlabel("difference in mAP, percentage points")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3)
    ax.grid(axis="y", visible=False)
    return figure


def figure(table: str, title: str) -> str:
    """Return the picture as a page includes it, with caption and alternative text."""
    each = "; ".join(
        f"{one.row}: the paper {points(float(np.mean(list(one.paper.values()))))}, "
        f"here {points(one.mean) if one.here else 'not run'}"
        for one in told(table)
    )
    name = re.sub(r"[^a-z0-9]+", "-", table.lower())
    finding = title.partition(": ")[2].partition(" (")[0]
    return (
        f"```{{figure}} figures/verdict_{table}.png\n"
        f":name: fig-verdict-{name}\n"
        f":alt: Differences in mAP, paper and here. {each}.\n\n"
        f"{finding}. Small dots are the paper's data sets and our cities, diamonds "
        "their means.\n```"
    )


CHARTS = {f"verdict_{table}": functools.partial(draw, table) for table in charted()}
TABLES: dict[str, object] = {}
