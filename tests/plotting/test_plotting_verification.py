"""Trade-offs and camera pairs: the numbers behind the artists."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from reidlib.errors import ReIDError
from reidlib.evaluation import trade_off
from reidlib.plotting import (
    plot_camera_pairs,
    plot_identification,
    plot_trade_off,
)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_trade_off_is_drawn_in_percent_over_a_log_axis():
    rng = np.random.default_rng(0)
    curve = trade_off(rng.normal(0, 1, 30), rng.normal(1, 1, 200))
    fpr, tpr, _ = curve.curve()
    point = {"in use": curve.rates(curve.threshold_at(0.1))}
    ax = plot_trade_off({"model": (fpr, tpr)}, points=point)
    line, mark = ax.lines
    assert ax.get_xscale() == "log"
    assert line.get_xdata() == pytest.approx(100 * fpr[fpr > 0])
    assert line.get_ydata() == pytest.approx(100 * tpr[fpr > 0])
    assert line.get_drawstyle() == "steps-post"
    assert mark.get_xdata()[0] <= 10
    assert mark.get_ydata()[0] == pytest.approx(100 * curve.tpr_at(0.1))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["model", "in use"]


def test_curves_differ_in_more_than_colour():
    curve = ([0.01, 1.0], [0.5, 1.0])
    ax = plot_trade_off({name: curve for name in "abcd"})
    assert len({line.get_linestyle() for line in ax.lines}) == 4
    assert len({line.get_color() for line in ax.lines}) == 4


def test_it_draws_into_given_axes():
    ax = plt.subplots()[1]
    assert plot_trade_off({"a": ([0.1], [0.5])}, ax=ax) is ax
    ax = plt.subplots()[1]
    assert plot_camera_pairs([[1.0]], ax=ax) is ax


def test_identification_leaves_room_above_rank_one():
    ax = plot_identification({"a": ([0.1, 1.0], [0.2, 0.4])}, points={"p": (0.1, 0.2)})
    assert ax.lines[0].get_ydata().tolist() == [20, 40]
    assert 40 < ax.get_ylim()[1] < 60
    assert "FPIR" in ax.get_xlabel()
    assert "DIR" in ax.get_ylabel()


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "curves: got 0"),
        ({"a": ([0.1], [0.1, 0.2])}, "two of one length"),
        ({"a": ([0.5, 0.1], [0.1, 0.2])}, "the former ascending"),
        ({"a": ([0.1, 50.0], [0.1, 80.0])}, "not percent"),
        ({"a": ([0.1], [np.nan])}, "1 of them not finite"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(curves, message):
    with pytest.raises(ReIDError, match=message):
        plot_trade_off(curves)


def test_points_are_checked_as_curves_are():
    with pytest.raises(ReIDError, match=r"'bad': rates from .* to 20; give shares"):
        plot_trade_off({"a": ([0.1], [0.2])}, points={"bad": (0.5, 20.0)})


def test_camera_pairs_write_every_number_once():
    values = np.array([[1.0, 2.0, np.nan], [2.0, 3.0, 0.04], [np.nan, 0.04, 5.0]])
    marked = np.zeros((3, 3), dtype=bool)
    marked[1, 1] = True
    ax = plot_camera_pairs(values, [2, 5, 7], digits=1, marked=marked, label="FPR (%)")
    assert texts(ax) == ["1.0", "2.0", "3.0*", "–", "0.0", "5.0"]
    where = [(text.get_position()[1], text.get_position()[0]) for text in ax.texts]
    assert where == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "5", "7"]
    drawn = ax.images[0].get_array()
    assert drawn.mask[0, 1]
    assert drawn.mask[0, 2]
    assert drawn[1, 0] == 2.0
    assert ax.figure.axes[1].get_ylabel() == "FPR (%)"


def test_a_matrix_that_is_not_symmetric_is_drawn_whole():
    ax = plot_camera_pairs(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), digits=0)
    assert texts(ax) == ["1", "2", "3", "4"]


def test_numbers_stand_out_on_their_cells_and_limits_fix_the_colours():
    ax = plot_camera_pairs(np.diag([0.0, 5.0, 10.0]), limits=(0, 10))
    colours = {text.get_text(): text.get_color() for text in ax.texts}
    assert sum(to_rgb(colours["10.0"])) < 1 < 2 < sum(to_rgb(colours["0.0"]))
    assert ax.images[0].get_clim() == (0, 10)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (np.zeros((2, 3)), {}, r"got shape \(2, 3\)"),
        (np.full((2, 2), np.nan), {}, "no cell has a finite number"),
        (np.zeros((2, 2)), {"cameras": [1, 2, 3]}, "one id per camera"),
        (np.zeros((2, 2)), {"marked": [True]}, "one mark per"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(values, settings, message):
    with pytest.raises(ReIDError, match=message):
        plot_camera_pairs(values, **settings)
