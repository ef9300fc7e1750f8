"""Figures over all methods: what each part gains, and whether training changes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from page_tables import markdown, spread
from reidlib.experiments import Verdict, plans, verdicts
from reidlib.experiments.measured import by_seed
from reidlib.experiments.verdicts import each, luck, points, seed_noise
from reidlib.plotting import COLOURS
from reidlib.recipes.settings import STEPS
from verdict_charts import HERE, PAPER, plot_dots

PARTS = {
    "CALR": [
        ("CALR-T3", "label refinement, weights", "label refinement with weights"),
        ("CALR-T3", "camera alignment, weights", "camera alignment with weights"),
        ("CALR-T3", "both, weights", "both: CALR"),
    ],
    "AFF_SCL": [
        ("AFF-T4", "mean", "contrast with the mean"),
        ("AFF-T4", "hard", "contrast with the hardest"),
        ("AFF-T4", "total", "both: symmetric contrast"),
        ("AFF-T7", "baseline + AFF", "attention (AFF)"),
    ],
    "CALS": [
        ("CALS-F8", "DBSCAN, no attention, DCLS", "smaller network, DCLS"),
        ("CALS-F8", "K-Means++, no attention, DCLS", "K-Means++"),
        ("CALS-F8", "K-Means++, attention, DCLS", "local soft attention"),
        ("CALS-F8", "K-Means++, attention, CALS", "context-aware smoothing"),
    ],
    "QAFM": [
        ("QAFM-T4", "fixed 0.5", "attributes, equal weights"),
        ("QAFM-T4", "learned", "learned weight"),
    ],
}
"""For each paper table, row and name of a part; the plan says what it is beside."""


@dataclass(frozen=True)
class Part:
    """What one part of a method gains.

    Attributes:
        paper: Method it belongs to.
        name: Its name.
        verdict: The paper's difference in mAP, and that of each city.
    """

    paper: str
    name: str
    verdict: Verdict


def parts() -> list[Part]:
    """Return all parts in the order of the book."""
    found = {
        table: {one.row: one for one in verdicts(table)}
        for rows in PARTS.values()
        for table, _, _ in rows
    }
    return [
        Part(paper, name, found[table][row])
        for paper, rows in PARTS.items()
        for table, row, name in rows
    ]


def draw() -> Figure:
    """Draw the papers' differences, those of the cities, and seed variance."""
    every = parts()
    figure, ax = plt.subplots(figsize=(7, 0.8 + 0.42 * (len(every) + len(PARTS))))
    ax.axvline(0, color="0.5", lw=1)
    level, ticks = 0.0, []
    for paper in PARTS:
        ax.text(0.01, level, paper, transform=ax.get_yaxis_transform(), va="center")
        for part in (part for part in every if part.paper == paper):
            level += 1
            one = part.verdict
            if math.isfinite(one.noise):
                span = dict(color="0.5", alpha=0.25, lw=0)
                ax.barh(level, 2 * one.noise, left=-one.noise, height=0.8, **span)
            plot_dots(ax, level - 0.17, one.paper.values(), PAPER)
            plot_dots(ax, level + 0.17, one.here.values(), HERE)
            ticks.append((level, f"{part.name}  {one.sign}"))
        level += 1.2
    ax.set_yticks(*zip(*ticks, strict=True))
    ax.set_ylim(level - 0.6, -0.7)
    for colour, name in ((PAPER, "the papers"), (HERE, "here")):
        ax.plot([], [], "D", color=colour, ms=7, mec="none", label=name)
    ax.bar(0, 0, color="0.5", alpha=0.25, label="seed variance")
    ax.set_xlabel("difference in mAP, percentage points")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3)
    ax.grid(axis="y", visible=False)
    return figure


def table() -> str:
    """Return the differences as a list that a screen reader can read."""
    rows = [
        [
            part.paper,
            part.name,
            one.against,
            one.in_paper,
            points(one.mean),
            each(one.here.values()),
            one.sign,
        ]
        for part in parts()
        for one in [part.verdict]
    ]
    header = ["paper", "part", "beside", "the paper", "here", "cities", ""]
    return markdown(header, rows)


TRAINING = "training"
"""The plan of rows that are trained for a short and for a longer time."""

LONGER = COLOURS[2]


@dataclass(frozen=True)
class Growth:
    """What a row gains over its baseline after short and after longer training.

    Attributes:
        row: Its name.
        short: For each city the difference in points of mAP, preset ``ablation``; only
            those of `long`, if there are any.
        long: The same with the preset ``course``.
        noise: Points that seed variance moves the mean of `short`, one standard
            deviation; infinite if it is not known.
    """

    row: str
    short: dict[int, float]
    long: dict[int, float]
    noise: float


def growth() -> list[Growth]:
    """Return the rows of the plan that have a baseline."""
    longer = {one.row: one.here for one in verdicts(TRAINING, preset="course")}
    found = []
    for one in verdicts(TRAINING):
        long = longer[one.row]
        short = {
            seed: gain for seed, gain in one.here.items() if seed in long or not long
        }
        # Scores of one training share its luck: only cities tell how far they vary.
        noise = seed_noise(short.values(), math.nan if one.shared else luck())
        found.append(Growth(one.row, short, long, noise))
    return found


def draw_growth() -> Figure:
    """Draw what each row gains after short training and after longer training."""
    found = growth()
    figure, ax = plt.subplots(figsize=(6.4, 0.9 + 0.5 * len(found)))
    ax.axvline(0, color="0.5", lw=1)
    for level, one in enumerate(found):
        if math.isfinite(one.noise):
            span = {"color": "0.5", "alpha": 0.25, "lw": 0}
            ax.barh(level, 2 * one.noise, left=-one.noise, height=0.8, **span)
        plot_dots(ax, level - 0.17, one.short.values(), HERE)
        plot_dots(ax, level + 0.17, one.long.values(), LONGER)
    ax.set_yticks(range(len(found)), [one.row for one in found])
    ax.set_ylim(len(found) - 0.4, -0.6)
    for colour, preset in zip((HERE, LONGER), plans()[TRAINING].presets, strict=True):
        ax.plot(
            [],
            [],
            "D",
            color=colour,
            ms=7,
            mec="none",
            label=f"{steps_of(preset):,} steps",
        )
    ax.bar(0, 0, color="0.5", alpha=0.25, label="seed variance")
    ax.set_xlabel("difference to the baseline in mAP, percentage points")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3)
    ax.grid(axis="y", visible=False)
    return figure


def steps_of(preset: str) -> int:
    """How many steps a preset trains."""
    return int(STEPS[preset]["epochs"] * STEPS[preset]["iterations"])


def growth_table() -> str:
    """Return mAP after short and after longer training, and what is gained."""
    names = [row.name for row in plans()[TRAINING].rows]
    scores = {
        preset: by_seed(TRAINING, names, measure="mAP", preset=preset)
        for preset in plans()[TRAINING].presets
    }
    gains = {one.row: one for one in growth()}
    rows = []
    for name in names:
        short, long = (frame.loc[name].dropna() for frame in scores.values())
        if len(long):
            short = short[long.index]
        cells = [spread(mAP) if len(mAP) else "not run" for mAP in (short, long)]
        if one := gains.get(name):
            cells += [each(one.short.values()), each(one.long.values()) or "not run"]
        else:
            cells += ["baseline", ""]
        rows.append([name, *cells])
    lengths = [f"{steps_of(preset):,} steps" for preset in scores]
    header = ["row", *(f"{what}, {one}" for what in ("mAP", "gain") for one in lengths)]
    return markdown(header, rows)


CHARTS = {"summary_parts": draw, "summary_training": draw_growth}
TABLES = {"summary_parts": table, "summary_training": growth_table}
