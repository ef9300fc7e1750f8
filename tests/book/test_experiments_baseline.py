"""The page on the baseline: counts of the library, and labels of the last epoch."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from support import cells as lines_of

import experiments_baseline as page
from reidlib.experiments import plans
from reidlib.papers import load_table


def cells(table: str) -> dict[str, list[str]]:
    """Rows of a table by their first cell."""
    return {line[0]: line[1:] for line in lines_of(table)}


def test_costs_are_those_of_the_library():
    found = cells(page.cost_table())
    cost = page.cost_of("resnet50", (256, 128))
    assert found["resnet50"][1] == f"{cost.macs / 1e9:.2f}"
    assert found["resnet50"][2] == f"{2 * cost.macs / 1e9:.2f}"


def test_aff_t8_is_printed_as_published_and_resnet50_fits_384_x_192():
    found = cells(page.aff_t8_table())
    published = load_table("AFF-T8").to_frame()
    assert found["AFF_SCL"] == [f"{v:.2f}" for v in published.loc["AFF_SCL"]]
    ours = [float(v) for v in found["ours: ResNet-50 at 384 × 192"]]
    beyond = [p - o for p, o in zip(published.loc["AFF_SCL"], ours)]
    assert 0 < beyond[1] < 0.1
    assert 0 < beyond[2] < 3
    small = [float(v) for v in found["ours: ResNet-50 at 256 × 128"]]
    assert small[1] < published.loc["AFF_SCL"].iloc[1] / 2


def test_speed_is_read_from_the_benchmark(monkeypatch, tmp_path):
    rows = [
        {"backbone": name, "height": 256, "width": 128, "pass": "forward"}
        | {"images_per_second": 10.4, "times_lite0": 2.0}
        for name in page.BACKBONES
    ]
    file = tmp_path / "speed.json"
    file.write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(page, "SPEED", file)
    assert "| 256 × 128, inference | 10 (2.0) |" in page.speed_table()
    monkeypatch.setattr(page, "SPEED", tmp_path / "none.json")
    assert page.SPEED_COMMAND in page.speed_table()


@pytest.mark.parametrize("table", ["clustering", "AFF-F4"])
def test_labels_are_those_of_the_last_epoch(monkeypatch, table):
    rows = [row.name for row in plans()[table].rows]
    first, last = dict.fromkeys(page.LABELS, 0.1), dict.fromkeys(page.LABELS, 0.5)
    result = {"epochs": [first, last]}
    frame = pd.DataFrame({"row": rows[:1], "result": [result]})
    monkeypatch.setattr(page, "load_results", lambda *args, **kwargs: frame)
    found = cells(page.labels_table(table))
    assert found[rows[0]] == ["0", *["0.50"] * (len(page.LABELS) - 1)]
    assert set(found[rows[1]]) == {"missing"}


def test_the_radius_is_drawn_with_or_without_results(monkeypatch, style):
    names = [f"eps {eps}" for eps in (0.3, 0.5)]
    frame = pd.DataFrame(
        {"row": names * 2, "mAP": [20.0, 30, 24, 34], "Rank-1": [40.0, 50, 44, 54]}
    )
    monkeypatch.setattr(page, "load_results", lambda *args, **kwargs: frame)
    ax = page.radius_chart().axes[0]
    assert ax.lines[0].get_ydata().tolist() == [22, 32]
    nothing = pd.DataFrame()
    monkeypatch.setattr(page, "load_results", lambda *args, **kwargs: nothing)
    assert "no results" in page.radius_chart().axes[0].texts[0].get_text()
    plt.close("all")


def test_resnet50_takes_three_to_seven_times_as_long():
    rows = json.loads(page.SPEED.read_text(encoding="utf-8"))["rows"]
    ratios = [r["times_lite0"] for r in rows if r["backbone"] == "resnet50"]
    assert len(ratios) == 4
    assert 3 < min(ratios) < 4
    assert 6 < max(ratios) < 7
