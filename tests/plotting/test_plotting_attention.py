"""Attention: the numbers behind the tiles, ranges and shares that are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from reidlib.errors import ReIDError
from reidlib.models import ChannelSpatialAttention
from reidlib.plotting import (
    COLOURS,
    plot_focus,
    plot_focus_maps,
    plot_reweighting,
    plot_weight_ranges,
)
from reidlib.plotting.attention import _grouped_mean

RNG = np.random.default_rng(0)
MAP = RNG.random((3, 8, 4))


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def tiles(ax) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in ax.images]


def test_reweighting_draws_each_channel_before_and_after_on_one_scale():
    ax = plot_reweighting(MAP, [1.0, 0.25, 0.0], ["a", "b", "c"])
    drawn = tiles(ax)
    for channel, weight in enumerate((1.0, 0.25, 0.0)):
        np.testing.assert_allclose(drawn[2 * channel], MAP[channel])
        np.testing.assert_allclose(drawn[2 * channel + 1], weight * MAP[channel])
    assert {image.get_clim() for image in ax.images} == {(0.0, MAP.max())}
    assert words(ax)[:2] == ["a", "× 1.00"]
    filled = [
        p.get_width() for p in ax.patches if to_hex(p.get_facecolor()) != "#fafaf7"
    ]
    assert filled == [1.0, 0.25, 0.0]
    assert all(
        to_hex(p.get_facecolor()).upper() == COLOURS[0] for p in ax.patches[1::2]
    )


def test_reweighting_with_places_is_what_the_attention_puts_out():
    torch.manual_seed(0)
    attention = ChannelSpatialAttention(3, reduction=1).requires_grad_(False)
    x = torch.from_numpy(MAP[None]).float()
    channels = attention.channel.weights(x)
    places = attention.spatial.weights(x * channels)[0, 0]
    ax = plot_reweighting(x[0], channels.flatten(), places=places)
    drawn = tiles(ax)
    np.testing.assert_allclose(np.stack(drawn[1:6:2]), attention(x)[0], rtol=1e-5)
    np.testing.assert_allclose(drawn[6], places)
    low, high = float(places.min()), float(places.max())
    assert f"× places\n{low:.2f} to {high:.2f}" in words(ax)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [1.0, 0.5]}, r"give \(C, h, w\)"),
        ({"weights": [1.0, 0.5, 1.5]}, "beyond"),
        ({"places": np.ones((4, 8))}, "one weight for each place"),
        ({"places": -np.ones((8, 4))}, "beyond"),
        ({"feature_map": -MAP}, "after ReLU"),
        ({"names": ["a"]}, "1 names for 3 channels"),
    ],
)
def test_reweighting_says_what_does_not_fit(change, message):
    given = {"feature_map": MAP, "weights": [1.0, 0.5, 0.0]}
    with pytest.raises(ReIDError, match=message):
        plot_reweighting(**{**given, **change})


def test_ranges_go_from_lowest_to_highest_over_the_middle_90_percent():
    values = np.arange(101) / 100
    ax = plot_weight_ranges(
        {
            "fresh": {"channels": values, "places": values / 2},
            "trained": {"channels": 1 - values, "places": torch.full((2, 3), 0.3)},
        }
    )
    drawn = [tuple(np.round(line.get_xdata(), 6)) for line in ax.lines]
    assert drawn[:3] == [(0.0, 1.0), (0.05, 0.95), (0.5,)]
    assert drawn[3:6] == [(0.0, 0.5), (0.025, 0.475), (0.25,)]
    assert drawn[9:] == [(0.3, 0.3), (0.3, 0.3), (0.3,)]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "channels",
        "places",
    ]
    legend = ax.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["fresh", "trained"]
    heights = [line.get_ydata()[0] for line in ax.lines]
    assert heights[0] < 0 < heights[6]  # beside each other, around the row
    # Not on colour alone.
    assert ax.lines[2].get_marker() != ax.lines[8].get_marker()


def test_ranges_need_the_same_places_and_finite_weights():
    with pytest.raises(ReIDError, match="same places"):
        plot_weight_ranges({"a": {"x": [1.0]}, "b": {"y": [1.0]}})
    with pytest.raises(ReIDError, match="same places"):
        plot_weight_ranges({})
    with pytest.raises(ReIDError, match="finite"):
        plot_weight_ranges({"a": {"x": [math.nan]}})


def test_focus_maps_blend_each_map_from_0_to_its_largest_value():
    images = RNG.integers(0, 255, (2, 8, 4, 3), dtype=np.uint8)
    maps = {"plain": RNG.random((2, 8, 4)), "none": np.zeros((2, 8, 4))}
    ax = plot_focus_maps(images, maps, names=["one", "two"], opacity=0.0)
    drawn = tiles(ax)
    for row in range(3):  # with opacity 0 all rows are the images
        np.testing.assert_array_equal(np.stack(drawn[2 * row : 2 * row + 2]), images)
    assert [w for w in words(ax) if w] == ["image", "plain", "none", "one", "two"]
    drawn = tiles(plot_focus_maps(images, {"a": 7 * maps["plain"]}, opacity=1.0))
    same = tiles(plot_focus_maps(images, {"a": maps["plain"]}, opacity=1.0))
    np.testing.assert_array_equal(drawn[2], same[2])  # a scale does not matter
    brightest = np.unravel_index(maps["plain"][0].argmax(), (8, 4))
    assert drawn[2][brightest].tolist() == [253, 231, 37]  # the end of viridis


def test_focus_maps_outline_the_mask_where_it_lies():
    images = np.zeros((2, 8, 4, 3), np.uint8)
    masks = np.zeros((2, 8, 4), bool)
    masks[0, 2:6, 1:3] = True
    ax = plot_focus_maps(images, {"a": np.ones((2, 8, 4))}, masks)
    outlines = [c for c in ax.collections if c.get_paths()]
    assert len(outlines) == 4  # dark and light, over the image and over the map
    left, top, right, bottom = ax.images[0].get_extent()[0], 0.0, 0.0, 2.0
    box = outlines[0].get_paths()[0].get_extents()
    right = left + 1
    assert left < box.x0 < left + 0.5 < box.x1 < right
    assert top < box.y0 < 1 < box.y1 < bottom


def test_focus_maps_must_be_as_large_as_the_images():
    images = np.zeros((2, 8, 4, 3), np.uint8)
    with pytest.raises(ReIDError, match="as large as it"):
        plot_focus_maps(images, {"a": np.ones((2, 4, 2))})
    with pytest.raises(ReIDError, match="masks"):
        plot_focus_maps(images, {"a": np.ones((2, 8, 4))}, np.ones((1, 8, 4)))
    with pytest.raises(ReIDError, match="opacity"):
        plot_focus_maps(images, {"a": np.ones((2, 8, 4))}, opacity=2.0)


def test_the_error_is_that_of_the_people_not_of_the_images():
    shares = np.array([0.2, 0.4, 0.6, 0.6, 0.7, np.nan])
    people = np.array([5, 5, 2, 2, 9, 9])
    means = np.array([0.3, 0.6, 0.7])
    expected = means.mean(), means.std(ddof=1) / math.sqrt(3)
    assert _grouped_mean(shares, people) == pytest.approx(expected)
    # Copies of images change nothing.
    twice = _grouped_mean(np.tile(shares, 2), np.tile(people, 2))
    assert twice == pytest.approx(expected)
    alone = _grouped_mean([1.0, 2.0, 4.0])
    assert alone == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1) / math.sqrt(3)))


def test_focus_draws_means_errors_and_bounds_in_percent():
    people = [1, 1, 2, 2]
    ax = plot_focus(
        {"a": [0.2, 0.4, 0.5, 0.5], "b": [0.1, 0.1, 0.3, 0.3]},
        people,
        bounds={"area": 0.33, "exact": 0.66},
    )
    bounds, rest = ax.lines[:2], ax.lines[2:]
    assert [float(line.get_xdata()[0]) for line in bounds] == pytest.approx([33, 66])
    for i, (mean, error) in enumerate(((40, 10), (20, 10))):
        ends, middle = rest[2 * i].get_xdata(), rest[2 * i + 1].get_xdata()
        assert list(ends) == pytest.approx([mean - 2 * error, mean + 2 * error])
        assert list(middle) == pytest.approx([mean])
    assert words(ax) == ["area 33", "exact 66"]


def test_focus_needs_two_groups_and_columns_of_one_length():
    with pytest.raises(ReIDError, match="1 groups"):
        plot_focus({"a": [0.2, 0.4]}, [1, 1])
    with pytest.raises(ReIDError, match="give one share for each image"):
        plot_focus({"a": [0.2, 0.4], "b": [0.2]})
    with pytest.raises(ReIDError, match="groups of"):
        plot_focus({"a": [0.2, 0.4]}, [1, 1, 2])
