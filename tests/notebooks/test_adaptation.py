"""Domain adaptation: which image stands where, and the numbers of the bars."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from figures.adaptation import plot_cities, plot_shifts, plot_ways
from reidlib.plotting import COLOURS

RNG = np.random.default_rng(0)


def test_a_city_is_a_row_with_an_image_and_the_mean_of_each_camera():
    images = RNG.integers(0, 256, (6, 8, 4, 3), dtype=np.uint8)
    camids = np.array([1, 0, 1, 0, 1, 0])
    pixels = {"one": images, "other": images[::-1]}
    drawn, means = plot_cities(pixels, {"one": camids, "other": camids}, row=1)
    tiles = [np.asarray(image.get_array()) for image in drawn.images]
    for tile, expected in zip(tiles, (images[3], images[2], images[2], images[3])):
        np.testing.assert_array_equal(tile, expected)
    first = np.asarray(means.images[0].get_array())
    expected = images[camids == 0].mean(axis=0).round()
    np.testing.assert_array_equal(first, expected)


def test_bars_are_medians_and_lines_the_middle_eight_tenths():
    values = np.arange(11) / 10
    ax = plot_shifts({"cities": values, "cameras": values + 1}, cities=1)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.5, 1.5])
    colours = [to_hex(bar.get_facecolor()).upper() for bar in ax.patches]
    assert colours == list(COLOURS[:2])
    (lines,) = (c.lines[2] for c in ax.containers if hasattr(c, "lines"))
    assert lines[0].get_segments()[0][:, 0] == pytest.approx([0.1, 0.9])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cities", "cameras"]
    assert ax.yaxis_inverted()


def test_ways_share_a_scale_and_one_legend():
    values = {"in training": RNG.normal(size=50), "in use": RNG.normal(size=50)}
    axes = plot_ways({"one": values, "two": values})
    assert [ax.get_title("left") or ax.get_title() for ax in axes] == ["one", "two"]
    assert len({ax.get_xlim() for ax in axes}) == 1
    assert [ax.get_legend() is None for ax in axes] == [True, False]
