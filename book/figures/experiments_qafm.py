"""Tables of the page on the experiments of QAFM."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from page_tables import each_city, markdown, spread
from reidlib.experiments import load_results, paired_differences, plans
from reidlib.experiments.results import results_dir
from reidlib.papers import load_table
from reidlib.recipes.alphas import RIVALS

QAFM_MEASURES = ("Rank-1", "Rank-5", "Rank-10", "mAP")
QAFM_MARKS = {"MSPA": "a", "UECIR": "b", "QAFM": "c"}
"""Rows of QAFM-T3 to which a footnote belongs."""
QAFM_GALLERY = (
    "The published code holds a score for 13,115 gallery images and for none of the "
    "distractors, and evaluates images that have one. So these figures may be on a "
    "gallery without distractors; the full protocol has them."
)


def qafm_survey_table() -> str:
    """QAFM-T1: the methods that QAFM surveys, and what each costs."""
    frame = load_table("QAFM-T1").to_frame()
    columns = ["supervision", "mechanism", "strength", "limit"]
    rows = [[name, *line[columns]] for name, line in frame.iterrows()]
    return markdown(["method", "labels", "how it works", "good at", "limit"], rows)


def printed(value: float) -> str:
    """Return a figure with one decimal, or with two where the paper has two."""
    if np.isnan(value):
        return "–"
    return f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"


def qafm_published_table() -> str:
    """QAFM-T3: the published methods beside which QAFM puts itself."""
    table = load_table("QAFM-T3")
    rows = []
    for name, line in table.to_frame().iterrows():
        mark = QAFM_MARKS.get(name)
        figures = [printed(value) for value in line[[*QAFM_MEASURES]]]
        rows.append([f"{name} <sup>{mark}</sup>" if mark else name, *figures])
    notes = dict(zip(QAFM_MARKS.values(), [*table.notes, QAFM_GALLERY], strict=True))
    told = "".join(f"- <sup>{mark}</sup> {note}\n" for mark, note in notes.items())
    return markdown(["method", *QAFM_MEASURES], rows) + "\n" + told


def qafm_metrics(table: str) -> dict[str, list[dict[str, Any]]]:
    """Return the metrics of each run of a plan, by row, in the order of the plan."""
    frame = load_results(table, partial=True)
    found = {}
    for row in plans()[table].rows:
        part = frame[frame["row"] == row.name]["result"] if len(frame) else []
        found[row.name] = [r["metrics"] for r in part if r.get("metrics")]
    return found


def cell(values: list[float | None], digits: int = 1) -> str:
    """Return mean and deviation, that all is missing, or that there is no such figure.

    A constant alpha has no correlation: result files hold null for it.
    """
    if not values:
        return "missing"
    known = [value for value in values if value is not None and not np.isnan(value)]
    return spread(known, digits) if known else "–"


def percent(values: list[float | None]) -> list[float | None]:
    """Return shares in percent; null stays what it is."""
    return [None if value is None else 100 * value for value in values]


def qafm_readings_table() -> str:
    """What the published code does differently, one at a time and all together."""
    runs = qafm_metrics("QAFM-READINGS")
    names = [name for name in runs if name != "QAFM"]
    gains = paired_differences(
        "QAFM-READINGS", {name: (name, "QAFM") for name in names}
    )
    rows = []
    for name, found in runs.items():
        figures = [cell([100 * m["mAP"] for m in found])]
        figures += [
            cell([100 * m["fixed_alpha"][end]["mAP"] for m in found])
            for end in ("0.0", "1.0")
        ]
        figures += [
            cell([100 * m["attributes"]["balanced_accuracy"] for m in found]),
            cell([m["alpha"]["mean"] for m in found], 2),
        ]
        gain = ["–"] if name == "QAFM" else [each_city(gains.loc[name])]
        rows.append([name, figures[0], *gain, *figures[1:]])
    header = ["reading", "mAP", "against QAFM, city by city", "appearance alone"]
    more = ["attributes alone", "attributes, balanced", "mean alpha"]
    return markdown([*header, *more], rows)


def qafm_alpha_table() -> str:
    """What alpha learns by each loss, in each convention and from each score."""
    runs = qafm_metrics("QAFM-QUALITY")
    rows = []
    for rival in RIVALS:
        for city, found in runs.items():
            each = [m["rivals"][rival.name] for m in found]
            told = [
                cell([100 * one["mAP"] for one in each]),
                cell([100 * (one["mAP"] - best_fixed(one)) for one in each]),
                cell([one["mean"] for one in each], 2),
                cell([one["std"] for one in each], 3),
                cell([one["correlation"] for one in each], 2),
            ]
            rows.append([rival.loss, rival.weighs, rival.score, city, *told])
    header = [
        "loss",
        "alpha weighs",
        "made of",
        "city",
        "mAP",
        "against the best fixed",
    ]
    return markdown([*header, "alpha", "its spread", "r with the score"], rows)


def best_fixed(rival: dict[str, Any]) -> float:
    """Return the highest mAP of one alpha for all."""
    return max(rival["fixed_mAP"].values())


def qafm_failure_table() -> str:
    """How well each score knows which queries fail, and what a perfect alpha gains."""
    runs = qafm_metrics("QAFM-QUALITY")
    scores = ("pairs", "anchor", "sharpness", "contrast", "shuffled", "random")
    rows = []
    for city, found in runs.items():
        areas = [m["failure"].get("areas", {}) for m in found]
        told = [
            cell([one[score][0] for one in areas if score in one], 2)
            for score in (*scores, "distance")
        ]
        fails = cell([100 * m["failure"]["share"] for m in found], 0)
        rows.append([city, fails, *told])
    header = ["identifiability, pairs", "identifiability, anchor", "blur"]
    header += ["low contrast", "score of another image", "chance"]
    return markdown(["city", "fails (%)", *header, "distance to the nearest"], rows)


def qafm_gains_table() -> str:
    """What an alpha of its own is worth for a query: chosen by the answer, and not."""
    runs = qafm_metrics("QAFM-QUALITY")
    rows = []
    for city, found in runs.items():
        best = [max(one["mAP"] for one in m["fixed_alpha"].values()) for m in found]
        oracle = [m["alpha"]["oracle_mAP"] - b for m, b in zip(found, best)]
        told = [
            cell([100 * value for value in best]),
            cell([100 * (m["mAP"] - b) for m, b in zip(found, best)]),
            cell([100 * value for value in oracle]),
            cell(percent([m["alpha"]["held_out_gain"] for m in found])),
        ]
        rows.append([city, *told])
    header = ["mAP of the best alpha for all", "learned", "chosen by the answer"]
    return markdown(["city", *header, "chosen in other cameras"], rows)


def qafm_range_table() -> str:
    """How far each score differs between the images of a city, at each dial."""
    rows = []
    measured = json.loads((results_dir() / "quality_range.json").read_text())["rows"]
    for name in measured[0]["scores"]:
        for city in dict.fromkeys(one["city"] for one in measured):
            found = [one["scores"][name] for one in measured if one["city"] == city]
            told = [
                cell([one["mean"] for one in found]),
                cell([100 * one["std"] / one["mean"] for one in found]),
                cell([one.get("follows") for one in found], 2),
            ]
            rows.append([name, city, *told])
    header = ["score", "city", "mean", "deviation (% of it)"]
    return markdown([*header, "r with the damage"], rows)


TABLES = {
    "qafm_range": qafm_range_table,
    "qafm_readings": qafm_readings_table,
    "qafm_alpha": qafm_alpha_table,
    "qafm_failure": qafm_failure_table,
    "qafm_gains": qafm_gains_table,
    "qafm_survey": qafm_survey_table,
    "qafm_published": qafm_published_table,
}
