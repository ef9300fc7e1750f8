"""The page on CALS: its tables hold the paper's figures and those of result files."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from support import cells, invent_results

import experiments_cals as page
import make_figures
from reidlib.experiments import plan
from reidlib.papers import load_table

SEEDS = (0, 1, 2)
SWITCHES = {
    "K-Means++": ("clustering", "dbscan", "kmeans"),
    "attention": ("attention", "none", "sigmoid"),
    "CALS": ("smoothing", "dcls", "predictions"),
}


@pytest.fixture
def results(monkeypatch):
    """Results of every row of CALS-F8 and CALS-T5, different in each row and city."""

    def line(place, seed):
        score = 30.0 + place + 3 * seed
        metrics = {"cmc": {"1": 0.4, "5": 0.5, "10": 0.6}, "mAP": score / 100}
        metrics |= {"precision": 0.2, "recall": 0.1}
        epoch = {"global_accuracy": 0.5, "local_accuracy": 0.4 + seed / 100}
        epochs = [{"epoch": e, "purity": 0.6, **epoch} for e in range(1, 9)]
        result = {"metrics": metrics, "epochs": epochs}
        return {"mAP": score, "Rank-1": 40.0, "result": result}

    invent_results(monkeypatch, page, line)


def test_the_rows_of_the_factorial_differ_in_their_switches_alone():
    rows = {row.name: row for row in plan("CALS-F8").rows}
    base = asdict(rows["DBSCAN, no attention, DCLS"].config("ablation", 0))
    for name, on in page.CALS_DESIGN.items():
        expected = dict(base)
        for switch, (setting, off, other) in SWITCHES.items():
            assert base[setting] == off
            expected[setting] = other if switch in on else off
        assert asdict(rows[name].config("ablation", 0)) == expected, name
    assert len(page.CALS_DESIGN) == 8


def test_each_step_of_the_path_changes_one_setting():
    rows = {row.name: row for row in plan("CALS-F8").rows}
    configs = [
        asdict(rows[name].config("ablation", 0)) for name in page.CALS_STEPS.values()
    ]
    changed = [
        [name for name in old if old[name] != new[name]]
        for old, new in pairwise(configs)
    ]
    assert changed == [["backbone"], ["clustering"], ["attention"], ["smoothing"]]
    assert list(page.CALS_STEPS) == load_table("CALS-F8").to_frame().index.tolist()
    for new, old in page.CALS_BACKBONES.values():
        one, two = (asdict(rows[name].config("ablation", 0)) for name in (new, old))
        assert [k for k in one if one[k] != two[k]] == ["backbone"]


def test_the_measures_are_the_papers_and_ours(results):
    table = page.cals_measures_table()
    lines = {(line[0], line[1]): line[2:] for line in cells(table) if len(line) > 2}
    paper = lines["Market-1501, the paper", "CALS"]
    assert paper == ["91.8", "96.9", "98.1", "85.7", "87.9", "84.2"]
    ours = lines["SynthCity course, ours", "CALS"]
    assert ours[:3] == ["40.0 ± 0.0", "50.0 ± 0.0", "60.0 ± 0.0"]
    assert ours[3:] == ["34.0 ± 3.0", "20.0 ± 0.0", "10.0 ± 0.0"]
    assert "over 3 cities" in table
    for data in ("CASIA", "DukeMTMC-reID"):
        assert f"- {data}: none of ours; not reproducible: " in table


def test_accuracies_of_each_epoch_stand_beside_the_purity(results):
    lines = cells(page.cals_accuracy_table())
    assert lines[2][:3] == ["1", "98.21", "97.84"]
    assert lines[2][3:] == ["50.0 ± 0.0", "41.0 ± 1.0", "60.0 ± 0.0"]
    # Our runs are longer than the paper's.
    assert [line[0] for line in lines[2:]] == [str(epoch) for epoch in range(1, 9)]
    assert lines[-1][:3] == ["8", "–", "–"]


def test_steps_and_effects_are_differences_city_by_city(results):
    steps = cells(page.cals_steps_table())
    assert steps[2][:4] == ["baseline", "78.5", "–", "33.0 ± 3.0"]
    # Rows of the path follow each other in the plan: each has one point more.
    assert steps[6][:4] == ["+ CALS", "85.7", "+2.6", "37.0 ± 3.0"]
    assert steps[6][4:] == ["+1.0 / +1.0 / +1.0", "+1.0 ± 0.0"]
    effects = {line[0]: line[1:] for line in cells(page.cals_effects_table())[2:]}
    assert set(effects) == {
        *("K-Means++", "attention", "CALS", *page.CALS_BACKBONES),
        *("K-Means++ × attention", "K-Means++ × CALS", "attention × CALS"),
    }
    # 3, 4, 5 and 2 of 8 rows have K-Means++; the plan numbers the others 1, 6, 7, 8.
    rows = [row.name for row in plan("CALS-F8").rows]
    on = [rows.index(r) for r, s in page.CALS_DESIGN.items() if "K-Means++" in s]
    off = [rows.index(r) for r, s in page.CALS_DESIGN.items() if "K-Means++" not in s]
    expected = np.mean(on) - np.mean(off)
    assert effects["K-Means++"][1] == f"{expected:+.1f} ± 0.0".replace("-", "\u2212")
    assert effects["K-Means++"][2] == "+0.0 ± 0.0"


def test_the_related_work_is_complete():
    survey = cells(page.cals_survey_table())
    for name in load_table("CALS-T1").to_frame().index:
        assert sum(line[0] == name for line in survey) == 1
    assert "gain in Rank-1 0.4, in mAP 2.4" in survey[3]
    published = page.cals_published_table()
    assert "| Pro-ReID | MSMT17 | not given | – | – | – | +4.3 |" in published
    for table in ("CALS-T1", "CALS-T3"):
        for note in load_table(table).notes:
            assert note in page.cals_survey_table() + published


def test_bars_and_path_hold_what_the_tables_hold(results, style):
    figure = page.cals_bars()
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert texts[:3] == ["75.3", "78.5", "70.8"]
    assert "34.0 ± 3.0" in texts
    figure = page.cals_steps()
    path, worth = figure.axes
    (level, paper, *cities, mean) = path.lines
    assert set(level.get_ydata()) == {0}
    assert list(paper.get_ydata()) == pytest.approx([0, 1.8, 3.2, 4.6, 7.2])
    assert len(cities) == len(SEEDS)
    assert list(mean.get_ydata()) == pytest.approx([0, 1, 2, 3, 4])
    assert len(worth.get_yticks()) == 8
    labels = worth.get_legend_handles_labels()[1]
    assert labels == ["city 0", "city 1", "city 2", "mean"]


def test_neighbours_of_unknown_people_are_neither_right_nor_asked():
    features = np.eye(3)[[0, 0, 1, 1, 2]] + 0.01 * np.arange(15).reshape(5, 3)
    pids = np.array([1, 1, 2, 3, 0])
    assert page.same_person_share(features, pids, k=1) == 0.5


@pytest.mark.parametrize("name", page.TRAINED)
def test_a_picture_of_networks_is_stored(name):
    with Image.open(make_figures.FOLDER / f"{name}.png") as image:
        assert min(image.size) > 300
