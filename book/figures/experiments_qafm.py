"""Tables of the page on the experiments of QAFM."""

from __future__ import annotations

import numpy as np

from page_tables import markdown
from reidlib.papers import load_table

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


TABLES = {
    "qafm_survey": qafm_survey_table,
    "qafm_published": qafm_published_table,
}
