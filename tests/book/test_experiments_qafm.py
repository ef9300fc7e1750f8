"""The page on QAFM: its tables hold the paper's figures and their footnotes."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from support import cells, invent_results

import experiments_qafm as page
from reidlib.experiments import plan
from reidlib.papers import load_table
from reidlib.recipes.alphas import ALPHAS, RIVALS

SEEDS = (0, 1, 2)


def metrics_of(place: int, seed: int) -> dict:
    """Figures that are different in each row and city."""
    score = (30 + place + 3 * seed) / 100
    fixed = {f"{a:.1f}": score - abs(a - 0.4) / 10 for a in ALPHAS}
    alpha = {"mean": 0.4, "std": 0.01, "correlation": -0.1}
    alpha |= {"oracle_mAP": score + 0.05, "held_out_gain": -0.01}
    rival = {"mAP": score, "rank_1": 0.4, **alpha, "fixed_mAP": fixed}
    return {
        "cmc": {"1": 0.4, "5": 0.5, "10": 0.6},
        "mAP": score,
        "alpha": alpha,
        "fixed_alpha": {
            a: {"mAP": value, "rank_1": value / 2, "rank_5": value * 2}
            for a, value in fixed.items()
        },
        "attributes": {"balanced_accuracy": 0.5},
        "failure": {
            "share": 0.6,
            "areas": {
                name: [0.5 + n / 20, 0.4, 0.9]
                for n, name in enumerate(
                    ("pairs", "anchor", "sharpness", "contrast", "shuffled", "random")
                )
            }
            | {"distance": [0.9, 0.8, 1.0]},
        },
        "rivals": {
            one.name: {
                **rival,
                "mAP": score + n / 100,
                "correlation": None if one.loss == "none" else -0.1,
            }
            for n, one in enumerate(RIVALS)
        },
    }


@pytest.fixture
def results(monkeypatch):
    """Results of every row of the plans of QAFM."""

    def line(place, seed):
        metrics = metrics_of(place, seed)
        return {"mAP": 100 * metrics["mAP"], "result": {"metrics": metrics}}

    invent_results(monkeypatch, page, line)


@pytest.fixture
def no_results(monkeypatch, tmp_path):
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path))


def test_each_reading_changes_what_it_says_and_is_compared_city_by_city(results):
    rows = {row.name: row for row in plan("QAFM-READINGS").rows}
    base = asdict(rows["QAFM"].config("ablation", 0))
    for name, row in rows.items():
        config = asdict(row.config("ablation", 0))
        differs = {x for x in base if x != "rivals" and base[x] != config[x]}
        assert len(differs) == {"QAFM": 0, "the published code": 6}.get(name, 1), name
    lines = {line[0]: line[1:] for line in cells(page.qafm_readings_table())[2:]}
    assert set(lines) == set(rows)
    assert lines["one encoder"][0] == "35.0 ± 3.0"
    assert lines["one encoder"][1] == "+2.0 / +2.0 / +2.0"


def test_the_rivals_are_set_against_the_best_fixed_weight(results):
    lines = cells(page.qafm_alpha_table())[2:]
    cities = len(plan("QAFM-QUALITY").rows)
    assert len(lines) == cities * len(RIVALS)
    # The n-th rival is n points above its best fixed weight, in each kind of city.
    assert {line[-1] for line in lines[:-cities]} == {"-0.10 ± 0.00"}
    assert {line[-1] for line in lines[-cities:]} == {
        "–"
    }  # a constant has no correlation
    gains = [float(line[5].split(" ")[0]) for line in lines]
    assert gains == [float(n) for n in range(len(RIVALS)) for _ in range(cities)]


def test_areas_and_gains_are_those_of_the_runs(results):
    areas = {line[0]: line[1:] for line in cells(page.qafm_failure_table())[2:]}
    assert areas["poor"][:3] == ["60 ± 0", "0.50 ± 0.00", "0.55 ± 0.00"]
    assert areas["sharp"][-1] == "0.90 ± 0.00"
    gains = {line[0]: line[1:] for line in cells(page.qafm_gains_table())[2:]}
    assert gains["usual"] == [*("34.0 ± 3.0", "0.0 ± 0.0", "5.0 ± 0.0", "-1.0 ± 0.0")]


def test_what_was_not_made_is_missing(no_results):
    for make in (
        *(page.qafm_readings_table, page.qafm_alpha_table),
        *(page.qafm_failure_table, page.qafm_gains_table),
    ):
        assert "missing" in make()


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
