"""Refinement: the numbers behind bars and lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from figures.refinement import (
    plot_cluster_figures,
    plot_dose_response,
    plot_refinement_epochs,
)
from reidlib.clustering import cluster_quality
from reidlib.plotting import COLOURS


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def lines(ax) -> list[list[float]]:
    return [np.asarray(line.get_ydata(), dtype=float).tolist() for line in ax.lines]


def test_bars_are_the_figures_of_each_set_at_each_camera():
    pids, camids = np.array([1, 1, 2, 2, 3]), np.zeros(5, int)
    one, two, three = (
        cluster_quality(np.array(labels), pids, camids)
        for labels in ([0, 0, 1, 1, -1], [0, 0, 0, 1, 1], [0, 1, 2, 2, 2])
    )
    panels = plot_cluster_figures(
        {"global": [one, two], "local": [three, one]}, ["cam 0", "cam 1"]
    )
    heights = [
        [[bar.get_height() for bar in bars] for bars in ax.containers] for ax in panels
    ]
    measures = ("pairwise_precision", "pairwise_recall", "pairwise_f", "expansion")
    for measure, drawn in zip(measures, heights, strict=True):
        values = [getattr(quality, measure) for quality in (one, two, three, one)]
        assert np.ravel(drawn) == pytest.approx(values)
    ticks = [text.get_text() for text in panels[0].get_xticklabels()]
    assert ticks == ["cam 0", "cam 1"]
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
    discards, clusters, score = plot_refinement_epochs(runs, num_pids=15)
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
    axes = plot_refinement_epochs(runs, num_pids=3)
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


@pytest.mark.filterwarnings("error")
def test_dose_response_pairs_the_seeds_and_skips_what_was_not_measured():
    nan = float("nan")
    plain = np.array([[30.0, 20.0, nan], [34.0, nan, nan]])
    refined = np.array([[31.0, 26.0, 9.0], [33.0, 25.0, nan]])
    left, right = plot_dose_response(
        [0, 0.5, 1],
        {"baseline": plain, "refined": refined},
        difference=("refined", "baseline"),
    )
    means = [lines(left)[0], lines(left)[3]]
    assert means[0][:2] == [32, 20]
    assert np.isnan(means[0][2])
    assert means[1] == [32, 25.5, 9]
    assert left.lines[0].get_xdata().tolist() == [0, 0.5, 1]
    assert set(lines(right)[0]) == {0}
    gain = lines(right)[1:]
    assert gain[0][:2] == [0, 6]  # the second seed has no pair at 0.5
    assert gain[1][:2] == [1, 6]
    assert gain[2][0] == -1
    assert np.isnan([gain[0][2], gain[1][2], *gain[2][1:]]).all()
    assert right.get_title("left") == "refined minus baseline, seed by seed"
    assert legend(left) == ["baseline", "refined"]


def test_dose_response_without_a_difference_is_one_panel():
    (ax,) = plot_dose_response([0, 1], {"local": [[0.4, 0.5]], "global": [[0.4, 0.2]]})
    assert lines(ax) == [[0.4, 0.5], [0.4, 0.2]]
