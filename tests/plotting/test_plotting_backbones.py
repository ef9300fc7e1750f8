"""Curves and heat maps: the data behind them."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from reidlib.errors import ReIDError
from reidlib.plotting import plot_curves, plot_heat_maps


def test_each_curve_is_a_line_with_its_name_colour_and_marker():
    curves = {"Rank-1": [1.0, 3.0, 2.0], "camera": [9.0, 8.0, 7.0]}
    ax = plot_curves(["stem", "2", "3"], curves, xlabel="stage", ylabel="%")
    assert [line.get_ydata().tolist() for line in ax.lines] == list(curves.values())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(curves)
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == 2
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("stage", "%")


def test_one_curve_needs_no_legend():
    ax = plot_curves([1, 2], {"mAP": [0.0, 1.0]}, xlabel="p", ylabel="mAP")
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "got 0"),
        ({f"{i}": [1.0, 2.0] for i in range(9)}, "got 9"),
        ({"a": [1.0]}, "2 places"),
        ({"a": [1.0, np.nan]}, "not finite"),
    ],
)
def test_curves_that_cannot_be_drawn_are_an_error(curves, message):
    with pytest.raises(ReIDError, match=message):
        plot_curves([1, 2], curves, xlabel="p", ylabel="%")


def test_a_heat_map_colours_the_pixels_of_its_cells():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    ax = plot_heat_maps(image, [[[0.0, 2.0], [2.0, 6.0]]], opacity=1.0)
    drawn = np.asarray(ax.images[0].get_array())
    viridis = mpl.colormaps["viridis"]
    for row, column, share in ((0, 0, 0.0), (0, 3, 1 / 3), (3, 0, 1 / 3), (3, 3, 1.0)):
        cell = drawn[2 * (row // 2) :, 2 * (column // 2) :][:2, :2].reshape(-1, 3)
        expected = np.rint(255 * np.array(viridis(share)[:3]))
        assert np.abs(cell - expected).max() <= 1


def test_every_map_has_its_own_scale_and_a_flat_one_is_dark():
    images = np.zeros((3, 2, 1, 3), np.uint8)
    maps = np.array([[[0.0], [1.0]], [[10.0], [50.0]], [[7.0], [7.0]]])
    ax = plot_heat_maps(images, maps, opacity=1.0)
    first, second, flat = (np.asarray(drawn.get_array()) for drawn in ax.images)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(flat[1], first[0])


def test_without_opacity_the_image_is_as_it_was_whatever_its_layout():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 4, 3), np.uint8)
    maps = np.arange(4.0).reshape(2, 2, 1)
    for given in (images, np.moveaxis(images, -1, 1), images / 255):
        ax = plot_heat_maps(given, maps, opacity=0.0)
        np.testing.assert_array_equal(
            [np.asarray(drawn.get_array()) for drawn in ax.images], images
        )


def test_maps_that_do_not_fit_are_an_error():
    image = np.zeros((2, 8, 4, 3), np.uint8)
    with pytest.raises(ReIDError, match="one map"):
        plot_heat_maps(image, np.zeros((1, 2, 2)))
    with pytest.raises(ReIDError, match="opacity"):
        plot_heat_maps(image, np.zeros((2, 2, 2)), opacity=1.5)
