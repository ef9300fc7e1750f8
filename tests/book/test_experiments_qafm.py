"""The page on QAFM: its tables hold the paper's figures and their footnotes."""

from __future__ import annotations

import experiments_qafm as page
from reidlib.papers import load_table


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines]


def test_the_survey_has_every_method_with_its_limit():
    survey = cells(page.qafm_survey_table())
    frame = load_table("QAFM-T1").to_frame()
    assert [line[0] for line in survey[2:]] == frame.index.tolist()
    assert [line[-1] for line in survey[2:]] == frame["limit"].tolist()
    assert {len(line) for line in survey} == {5}


def test_the_published_figures_are_the_papers_and_carry_their_footnotes():
    table = page.qafm_published_table()
    lines = {line[0]: line[1:] for line in cells(table)[2:]}
    assert lines["PCSL"] == ["87.0", "94.8", "96.6", "69.4"]
    assert lines["UPR"] == ["93.0", "–", "–", "82.4"]
    assert lines["QAFM <sup>c</sup>"] == ["93.05", "97.62", "98.6", "83.34"]
    assert len(lines) == len(load_table("QAFM-T3").rows)
    # Each note stands below the row that it names first.
    for (name, mark), note in zip(
        page.QAFM_MARKS.items(), [*load_table("QAFM-T3").notes, "published code"]
    ):
        assert f"| {name} <sup>{mark}</sup> |" in table
        (line,) = [one for one in table.splitlines() if f"- <sup>{mark}</sup>" in one]
        assert note in line
