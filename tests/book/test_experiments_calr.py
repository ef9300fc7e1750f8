"""The page on CALR: bars, lines and tables hold the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from support import cells

import experiments_calr as page
from reidlib.clustering import cluster_quality
from reidlib.papers import load_table
from reidlib.plotting import COLOURS, MARKERS

NAN = float("nan")

pytestmark = pytest.mark.usefixtures("style")


def rows(table: str) -> dict[str, list[str]]:
    """Return the rows of a table by their first cell."""
    return {row[0]: row for row in cells(table)}


def lines(ax) -> list[list[float]]:
    return [np.asarray(line.get_ydata(), dtype=float).tolist() for line in ax.lines]


def curves(ax) -> list:
    """Lines with points; seaborn adds empty ones for its legend."""
    return [line for line in ax.lines if len(line.get_xdata())]


def test_bars_are_the_figures_of_each_set_at_each_place():
    pids, camids = np.array([1, 1, 2, 2, 3]), np.zeros(5, int)
    one, two, three = (
        cluster_quality(np.array(labels), pids, camids)
        for labels in ([0, 0, 1, 1, -1], [0, 0, 0, 1, 1], [0, 1, 2, 2, 2])
    )
    panels = page.plot_cluster_figures(
        {"global": [one, two], "local": [three, one]}, ["city 0", "city 1"]
    )
    heights = [
        [[bar.get_height() for bar in bars] for bars in ax.containers] for ax in panels
    ]
    measures = ("pairwise_precision", "pairwise_recall", "pairwise_f", "expansion")
    for measure, drawn in zip(measures, heights, strict=True):
        values = [getattr(quality, measure) for quality in (one, two, three, one)]
        assert np.ravel(drawn) == pytest.approx(values)
    ticks = [text.get_text() for text in panels[0].get_xticklabels()]
    assert ticks == ["city 0", "city 1"]
    assert panels[2].get_title("left") == "pair F"
    (names,) = panels[0].figure.legends
    assert [text.get_text() for text in names.get_texts()] == ["global", "local"]
    # Told apart without colour, and side by side.
    first, second = (bars[0] for bars in panels[0].containers)
    assert first.get_hatch() != second.get_hatch()
    assert first.get_x() + first.get_width() <= second.get_x() + 1e-9


def test_epochs_have_a_panel_a_measure_and_a_line_for_mean_and_seeds():
    runs = {
        "CALR": {
            "discard_ratio": torch.tensor([[0.5, 0.2], [0.3, 0.4]]),
            "clusters": [[10, 12], [14, 12]],
        },
        "baseline": {"clusters": [20, 22], "mAP": [0.1, 0.2]},
    }
    discards, clusters, score = page.plot_refinement_epochs(runs, num_pids=15)
    assert np.allclose(lines(discards), [[40, 30], [50, 20], [30, 40]])
    assert lines(clusters)[:4] == [[12, 12], [10, 12], [14, 12], [20, 22]]
    assert set(lines(clusters)[4]) == {15}
    assert lines(score) == [[10, 20]]
    assert score.lines[0].get_xdata().tolist() == [1, 2]
    # A run keeps its colour from panel to panel.
    assert to_hex(clusters.lines[3].get_color()).upper() == COLOURS[1]
    assert to_hex(score.lines[0].get_color()).upper() == COLOURS[1]
    (names,) = score.figure.legends
    labels = [text.get_text() for text in names.get_texts()]
    assert labels == ["CALR", "baseline", "people"]


def test_runs_are_named_in_their_order_whatever_they_measure():
    runs = {"baseline": {"clusters": [3]}, "CALR": {"discard_ratio": [0.1]}}
    axes = page.plot_refinement_epochs(runs, num_pids=3)
    (names,) = axes[0].figure.legends
    assert [text.get_text() for text in names.get_texts()] == [
        "baseline",
        "CALR",
        "people",
    ]
    assert [ax.get_ylabel() for ax in axes] == [
        "images discarded (%)",
        "number of clusters",
    ]


def test_beta_is_measured_against_none_seed_by_seed():
    sweep = {1.0: [32, 45, NAN], 0.0: [30, 40, 50], 0.5: [NAN, 42, 51], 2.0: [NAN] * 3}
    ax = page.plot_beta_sweep({"ours": sweep, "theirs": {0: 84.4, 1: 84.5}})
    ours, theirs = (line for line in curves(ax) if line.get_marker() in MARKERS)
    assert ours.get_xdata().tolist() == [0, 0.5, 1]
    assert ours.get_ydata().tolist() == [0, 1.5, 3.5]
    deviation = np.std([2, 5], ddof=1)
    bars, none = (bars.lines[2][0].get_segments() for bars in ax.containers)
    assert bars[2][:, 1] == pytest.approx([3.5 - deviation, 3.5 + deviation])
    assert not any(map(len, none))  # one number has no deviation
    assert theirs.get_ydata() == pytest.approx([0, 0.1])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["ours", "theirs"]
    assert "mAP" in ax.get_ylabel()


def test_seeds_are_thin_lines_below_their_mean_and_may_be_missing():
    ax = page.plt.subplots()[1]
    page._mean_and_seeds(ax, [0, 1], np.array([[1.0, NAN], [3.0, 5.0]]), 1)
    mean, first, second = ax.lines
    assert mean.get_ydata().tolist() == [2, 5]
    assert first.get_ydata()[0] == 1
    assert second.get_ydata().tolist() == [3, 5]
    assert mean.get_linewidth() > first.get_linewidth()


def test_the_tables_hold_the_papers_gains():
    parts = rows(page.calr_parts_table())
    paper = load_table("CALR-T3").to_frame().xs("mAP", axis=1, level="measure")
    gain = paper.loc["Both", "MSMT17"] - paper.loc["Baseline", "MSMT17"]
    assert parts["both, weights"][1].endswith(f"+{gain:.1f}")
    assert parts["weights"][1] == "–"
    groups = rows(page.calr_groups_table())
    assert groups["best of: unsupervised, camera labels"][1:] == [
        "85.0",
        "74.2",
        "50.4",
    ]
    assert groups["PPLR: with cameras minus without"][2] == "–"
    assert groups["CALR minus Baseline"][1] == "+4.1"
    assert "| unsupervised | CALR | 88.7 | 42.9 |" in page.calr_vehicles_table()


def test_a_row_without_runs_says_how_to_make_them():
    line = pd.Series({0: NAN, "mean": NAN, "std": NAN})
    assert page.cells_of(line, "CALR-T3")[1] == "missing: `reidlib reproduce CALR-T3`"
    line = pd.Series({0: 1.0, 1: -2.0, "mean": -0.5, "std": 2.12})
    assert page.cells_of(line, "CALR-T3") == [
        "+1.0\u00a0/\u00a0\u22122.0",
        "\u22120.5 ± 2.1",
    ]
    assert page.slashes([]) == "missing"


def test_no_result_at_all_leaves_tables_that_say_so(monkeypatch):
    monkeypatch.setattr(page, "results_of", lambda table: pd.DataFrame())
    assert rows(page.calr_quality_table())["local (frozen)"][1] == "missing"
    assert page.runs_of("CALR-T3", "Baseline") == {}
