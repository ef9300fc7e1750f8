"""Open-set searches and camera pairs: the numbers behind the artists."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb

from figures.verification import plot_camera_pairs, plot_identification


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_identification_leaves_room_above_rank_one():
    ax = plot_identification({"a": ([0.1, 1.0], [0.2, 0.4])})
    assert ax.lines[0].get_ydata().tolist() == [20, 40]
    assert 40 < ax.get_ylim()[1] < 60
    assert "FPIR" in ax.get_xlabel()
    assert "DIR" in ax.get_ylabel()


def test_camera_pairs_write_every_number_once():
    values = np.array([[1.0, 2.0, np.nan], [2.0, 3.0, 0.04], [np.nan, 0.04, 5.0]])
    ax = plot_camera_pairs(values, [2, 5, 7], label="FPR (%)", limits=(0, 7))
    written = {text.get_position()[::-1]: text.get_text() for text in ax.texts}
    lower = {(0, 0): "1.0", (1, 0): "2.0", (1, 1): "3.0", (2, 1): "0.0", (2, 2): "5.0"}
    assert written == {(y + 0.5, x + 0.5): word for (y, x), word in lower.items()}
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "5", "7"]
    drawn = ax.collections[0].get_array()
    assert drawn[1, 0] == 2.0
    assert drawn.mask[np.triu_indices(3, k=1)].all()
    assert ax.figure.axes[1].get_ylabel() == "FPR (%)"


def test_numbers_stand_out_on_their_cells_and_limits_fix_the_colours():
    values = np.diag([0.0, 4.0, 10.0])
    ax = plot_camera_pairs(values, label="%", limits=(0, 10))
    light = {text.get_text(): sum(to_rgb(text.get_color())) for text in ax.texts}
    assert light["10.0"] < 1 < 2 < light["4.0"] == light["0.0"]
    assert ax.collections[0].get_clim() == (0, 10)
