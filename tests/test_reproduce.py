"""Tables of the book: runs made once, and read from their files alone."""

from __future__ import annotations

import json

import pytest

from reidlib import reproduce
from reidlib.errors import ReIDError
from reidlib.reproduce import Row, load_results, report


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reproduce, "results_dir", lambda: tmp_path / "results")
    rows = (Row("small", "direct", {"height": 64, "width": 32}),)
    monkeypatch.setitem(reproduce.PLANS, "trial", rows)
    return tmp_path / "results" / "trial"


def test_a_table_is_made_once_and_read_from_its_files(table, tiny):
    options = {"preset": "quick", "data": lambda seed: tiny, "data_name": "tiny"}
    made = reproduce.reproduce("trial", **options, seeds=(0, 1), progress=False)
    assert [file.name for file in made] == [
        "small-quick-tiny-s0.json",
        "small-quick-tiny-s1.json",
    ]
    before = [file.read_bytes() for file in made]
    reproduce.reproduce("trial", **options, seeds=(0, 1), progress=False)
    assert [file.read_bytes() for file in made] == before

    frame = load_results("trial", preset="quick", data_name="tiny")
    assert frame["seed"].tolist() == [0, 1]
    told = json.loads(before[0])["metrics"]["mAP"]
    assert frame["mAP"][0] == pytest.approx(100 * told)
    assert f"{100 * told:.1f} ± 0.0" in report(
        "trial", preset="quick", data_name="tiny"
    )


def test_a_missing_result_names_the_command_that_makes_it(table):
    with pytest.raises(ReIDError, match="reidlib reproduce trial --preset paper"):
        load_results("trial", preset="paper")


def test_an_unknown_table_names_the_known_ones():
    with pytest.raises(ReIDError, match=r"no table 'T99'; known are .*baseline"):
        load_results("T99", preset="quick")


def test_the_pattern_that_the_city_must_show_holds_in_the_kept_results():
    frame = load_results("baseline", preset="ablation")
    assert frame.groupby("row")["seed"].apply(sorted).tolist() == [[0, 1, 2]] * 3
    scores = frame.pivot(index="seed", columns="row", values="mAP")
    assert (scores["baseline"] - scores["direct"] >= 15).all()
    assert (scores["supervised"] > scores["baseline"]).all()
    bias = frame.groupby("row")["NMI camera"].mean()
    assert bias["baseline"] < bias["direct"]
