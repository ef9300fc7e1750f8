"""Every difference that a paper reports, on one page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import SMALL

from reidlib.cli import main
from reidlib.errors import ReIDError
from reidlib.experiments import (
    SIGNS,
    by_seed,
    plans,
    reproduce_all,
    runner,
    scoreboard,
    verdicts,
)
from reidlib.experiments.plans import Plan, Row
from reidlib.experiments.results import Data
from reidlib.papers import PAPERS, load_table


def test_counts_are_those_of_the_verdicts() -> None:
    counts = scoreboard().counts()
    told = [v for table in plans() for v in verdicts(table) if v.paper]
    rows = {row[0]: row[1:] for row in counts.rows}
    assert list(rows) == [*PAPERS, "all"]
    assert int(rows["all"][0]) == len(told)
    for sign, number in zip(SIGNS, rows["all"][1:], strict=True):
        assert int(number) == sum(verdict.sign == sign for verdict in told)
    for column in zip(*(map(int, rows[paper]) for paper in rows), strict=True):
        assert sum(column[:-1]) == column[-1]


def test_a_line_has_the_differences_of_paper_and_results() -> None:
    line = next(
        row
        for row in scoreboard().of_paper("CALR").rows
        if row[:2] == ("CALR-T3", "label refinement, weights")
    )
    frame = load_table("CALR-T3").to_frame()
    gain = frame.loc["Label refinement"] - frame.loc["Baseline"]
    assert f"MSMT17: {gain['MSMT17', 'mAP']:+.1f}" in line[3]
    values = by_seed("CALR-T3", ["label refinement, weights", "Baseline"])
    apart = values.loc["label refinement, weights"] - values.loc["Baseline"]
    assert line[4] == f"{np.mean(apart):+.1f}"
    assert line[5].split()[0] == f"{apart[0]:+.1f}"


def test_the_page_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "board.html"
    assert main(["report", "--scoreboard", "--html", str(file)]) == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    told = capsys.readouterr().out.splitlines()
    assert text.count("<table") == sum(line.startswith("| --- ") for line in told)
    assert main(["report"]) == 2
    assert main(["report", "CALR-T3", "--scoreboard"]) == 2
    assert "name a table, or give --scoreboard" in capsys.readouterr().err


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables of the papers, one that needs cities, and one of our own."""
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path / "results"))
    tiny = {**SMALL, "seed": 0, "clustering": "kmeans", "num_clusters": 12}
    direct = {"backbone": "tiny", "height": 64, "width": 32}
    base = Row("base", "direct", direct, ("CALR-T3", "Baseline"))
    changed = Row("refined", "baseline", tiny, ("CALR-T3", "Both"), against="base")
    far = {"dials": {"camera_shift": 1.0}, "against": "base"}
    dials = Row("far", "direct", direct, ("CALR-T3", "Both"), **far)
    for name in list(plans()):
        monkeypatch.delitem(plans(), name)
    for name, rows in {
        "CALR-T3": (base, changed),
        "CALR-F6": (base, dials),
        "own": (Row("own", "direct", direct),),
    }.items():
        monkeypatch.setitem(plans(), name, Plan(name, "A trial", rows))


def test_all_tables_are_made_on_a_folder_of_ones_own(
    few: None, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "--all", "--preset", "quick", "--data", "market-style"]
    words += ["--root", str(tiny_root), "--seeds", "2", "--processes", "1"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "1 tables, 4 runs to make; how long one takes is not known" in told.err
    assert "| CALR-T3 | refined | base |" in told.out
    assert main([*words, "--device", "cpu"]) == 0
    assert "1 tables, 0 runs to make" in capsys.readouterr().err


def test_the_estimate_knows_what_such_runs_have_taken(
    few: None, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"preset": "quick", "data": Data("tiny"), "processes": 1}
    reproduce_all(seeds=(0,), progress=False, **options)
    told = runner._estimate(["CALR-T3"], "quick", (0, 1), Data("tiny"))
    assert "2 runs to make, about " in told
    assert main(["reproduce", "CALR-T3", "--all"]) == 2
    assert "--all is every table" in capsys.readouterr().err
    with pytest.raises(ReIDError, match="no plan"):
        runner.reproduce("nothing")
