"""Whether a paper's differences hold here."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidlib.experiments import SIGNS, Verdict, by_seed, plans, report, verdicts
from reidlib.experiments.plans import Plan, Row
from reidlib.experiments.results import Data, Job
from reidlib.experiments.verdicts import luck, paper_difference, seed_noise
from reidlib.papers import load_table

verdict_module = import_module("reidlib.experiments.verdicts")

TINY = Data("tiny")
ROWS = (
    Row("Baseline", "direct", {"height": 64}, ("CALR-T3", "Baseline")),
    Row("refined", "direct", {}, ("CALR-T3", "Label refinement"), against="Baseline"),
    Row("other", "direct", {"width": 32}, against="Baseline"),
)


@pytest.mark.parametrize(
    ("here", "paper", "noise", "sign"),
    [
        ([3.0, 2.0], [1.0], 1.0, "●"),
        ([-3.0, -2.0], [-1.0, 0.2], 1.0, "●"),
        ([0.5, 0.3], [1.0], 1.0, "◐"),
        ([-0.5, 0.3], [1.0], 1.0, "○"),
        ([-3.0, -2.0], [1.0], 1.0, "✕"),
        ([0.5], [0.0], 1.0, "●"),
        ([5.0], [0.0], 1.0, "✕"),
        ([5.0], [1.0], math.inf, "◐"),
        ([], [1.0], 1.0, "–"),
        ([5.0], [], 1.0, "–"),
    ],
)
def test_signs(here: list[float], paper: list[float], noise: float, sign: str) -> None:
    told = Verdict("a", "b", dict(enumerate(here)), dict(enumerate(paper)), noise)
    assert told.sign == sign
    assert sign in SIGNS


def test_luck_is_the_deviation_in_a_city_pooled_over_cities() -> None:
    values = by_seed("repeats", ["first", "second", "third"])
    pooled = math.sqrt(np.mean([np.var(values[c], ddof=1) for c in values]))
    assert luck() == pytest.approx(pooled)
    # Two trainings differ by sqrt(2) of it, and a mean of n by 1 / sqrt(n) of that.
    assert seed_noise([1.0, 2.0, 3.0], pooled) == pytest.approx(
        pooled * math.sqrt(2 / 3)
    )


def test_elsewhere_the_differences_themselves_say_how_far_they_vary() -> None:
    values = [1.0, 2.0, 6.0]
    expected = np.std(values, ddof=1) / math.sqrt(3)
    assert seed_noise(values, math.nan) == pytest.approx(expected)
    assert seed_noise([1.0], math.nan) == math.inf


def test_the_papers_difference_is_read_from_its_table() -> None:
    frame = load_table("CALR-T3").to_frame()
    for name, value in paper_difference(ROWS[1], ROWS[0]).items():
        one, two = (
            frame.loc[row, (name, "mAP")] for row in ("Label refinement", "Baseline")
        )
        assert value == pytest.approx(one - two)
    assert paper_difference(ROWS[2], ROWS[0]) == {}
    assert paper_difference(ROWS[0], ROWS[0]) == {}


def test_what_a_source_adds_is_read_from_two_tables_of_the_paper() -> None:
    rows = {row.name: row for row in plans()["AFF-T3"].rows}
    found = paper_difference(rows["A to B, jointly"], rows["B alone"])
    adapted = load_table("AFF-T3").to_frame().loc["AFF_SCL"]
    alone = load_table("AFF-T2").to_frame().loc["AFF_SCL"]
    assert set(found) == set(adapted.index.get_level_values(0)) - {""}
    for name, value in found.items():
        target = name.split(" to ")[1]
        assert value == pytest.approx(adapted[name, "mAP"] - alone[target, "mAP"])
    # Tables of two papers have nothing to do with each other.
    assert paper_difference(rows["A to B, jointly"], ROWS[0]) == {}


def test_every_comparison_names_a_row_of_its_plan() -> None:
    compared = 0
    for plan in plans().values():
        names = [row.name for row in plan.rows]
        for row in plan.rows:
            assert not row.against or row.against in names
            assert row.against != row.name
            compared += bool(row.against)
    assert compared > 60


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second row of a plan gains 10 and 12 points, the third was not run."""
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path))
    monkeypatch.setitem(plans(), "trial", Plan("trial", "A trial", ROWS))
    for row, scores in zip(ROWS, ((0.1, 0.2), (0.2, 0.32)), strict=False):
        for seed, score in enumerate(scores):
            job = Job("trial", row, "quick", TINY, seed)
            metrics = {"cmc": {"1": 0.5}, "mAP": score, "mINP": 0.1}
            metrics |= {"num_queries": 10, "num_unmatched": 0}
            result = {**job.inputs(), "seconds": 1.0, "metrics": metrics}
            job.file.parent.mkdir(parents=True, exist_ok=True)
            job.file.write_text(json.dumps(result))


def test_differences_are_seed_by_seed(trial: None) -> None:
    first, second = verdicts("trial", preset="quick", data=TINY)
    assert first.here == pytest.approx({0: 10.0, 1: 12.0})
    assert first.noise == pytest.approx(1.0)
    assert (first.sign, second.sign, second.here) == ("●", "–", {})


def test_scores_of_one_run_share_its_luck(
    trial: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (
        Row("whole", "direct", {}, reads=("parts", "whole")),
        Row("half", "direct", {}, against="whole", reads=("parts", "half")),
        Row("other", "direct", {"height": 64}, against="whole"),
    )
    monkeypatch.setitem(plans(), "parts", Plan("parts", "A trial", both))
    monkeypatch.setattr(verdict_module, "luck", lambda: 9.0)
    course = Data("course")
    for row, seed, score in ((0, 0, 0.3), (0, 1, 0.4), (2, 0, 0.5), (2, 1, 0.7)):
        job = Job("parts", both[row], "ablation", course, seed)
        assert (job.file == Job("parts", both[1], "ablation", course, seed).file) == (
            row == 0
        )
        parts = {"whole": {"mAP": score, "rank_1": 0.6}}
        parts["half"] = {"mAP": score - 0.02 - seed / 50, "rank_1": 0.5}
        metrics = {"mAP": score, "cmc": {"1": 0.9}, "mINP": 0.1, "parts": parts}
        metrics |= {"num_queries": 10, "num_unmatched": 0}
        job.file.parent.mkdir(parents=True, exist_ok=True)
        job.file.write_text(json.dumps({**job.inputs(), "metrics": metrics}))
    half, other = verdicts("parts")
    assert half.here == pytest.approx({0: -2.0, 1: -4.0})
    assert half.noise == pytest.approx(1.0)
    assert other.here == pytest.approx({0: 20.0, 1: 30.0})
    assert other.noise == pytest.approx(9.0)
    assert by_seed("parts", ["half"], measure="Rank-1").loc["half", 1] == 50.0


def test_a_report_begins_with_what_holds(trial: None) -> None:
    told = report("trial", preset="quick", data=TINY)
    assert told.differences is not None
    assert "Of 1 differences in the paper's table: 1 as in the paper" in str(told)
    one, two = told.differences.rows
    assert one[2:4] == ("+10.0\xa0/\xa0+12.0", "+11.0")
    assert one[4].startswith("Market-1501: +1.4; ")
    assert one[5] == "●"
    assert two[2:] == ("–", "not run", "no figure", "–")
    assert told.html().count("<table") == 2


def changed(seed: int, **content: Any) -> None:
    """Change the second row's result of a seed."""
    file = Job("trial", ROWS[1], "quick", TINY, seed).file
    result = {**json.loads(file.read_text()), **content}
    file.write_text(json.dumps({k: v for k, v in result.items() if v is not None}))


def test_stale_and_broken_runs_are_marked_where_a_verdict_stands(trial: None) -> None:
    changed(0, version=0)
    (one, _) = verdicts("trial", preset="quick", data=TINY)
    assert (one.found, one.sign) == ("+11.0 †", "●")
    changed(1, metrics=None, error="the loss is nan; see")
    (one, _) = verdicts("trial", preset="quick", data=TINY)
    assert one.found == "+10.0 † ‡"
    told = str(report("trial", preset="quick", data=TINY).differences)
    assert "† stale: a run was made with other settings" in told
    assert "‡ runs broke down; the difference is that of the others" in told
    changed(0, metrics=None, error="the loss is nan; see")
    (one, _) = verdicts("trial", preset="quick", data=TINY)
    assert (one.found, one.sign) == ("broke down † ‡", "–")


def test_unknown_cameras_are_said_beside_verdicts(trial: None) -> None:
    file = Job("trial", ROWS[1], "quick", TINY, 0).file
    metrics = json.loads(file.read_text())["metrics"]
    changed(0, metrics={**metrics, "num_without_camera": 7})
    told = str(report("trial", preset="quick", data=TINY).differences)
    assert "7 images of query and gallery have no camera" in told


def test_further_seeds_of_the_baseline_leave_the_luck_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its first training is the baseline's own run, of which there may be more."""
    before = luck()
    values = by_seed("repeats", ["first", "second", "third"])
    values[3] = [40.0, math.nan, math.nan]
    monkeypatch.setattr(verdict_module, "by_seed", lambda *_, **__: values)
    assert luck() == pytest.approx(before)
    values.loc["second"] = math.nan
    assert math.isnan(luck())
