"""Attention: the numbers behind the tiles, ranges and shares that are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from figures.attention import (
    other_people,
    other_street,
    plot_focus,
    plot_focus_maps,
    plot_reweighting,
    plot_weight_ranges,
)
from reidlib.models import ChannelSpatialAttention
from reidlib.plotting import COLOURS
from reidlib.synthcity import plan_world

RNG = np.random.default_rng(0)
MAP = RNG.random((3, 8, 4))


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def tiles(ax) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in ax.images]


def test_reweighting_draws_each_channel_before_and_after_on_one_scale():
    ax = plot_reweighting(MAP, [1.0, 0.25, 0.0], "abc", title="")
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
    ax = plot_reweighting(x[0], channels.flatten(), "abc", places=places, title="")
    drawn = tiles(ax)
    np.testing.assert_allclose(np.stack(drawn[1:6:2]), attention(x)[0], rtol=1e-5)
    np.testing.assert_allclose(drawn[6], places)
    low, high = float(places.min()), float(places.max())
    assert f"× places\n{low:.2f} to {high:.2f}" in words(ax)


def test_boxes_hold_the_middle_half_and_whiskers_reach_all():
    values = np.arange(101) / 100
    ax = plot_weight_ranges(
        {
            "fresh": {"channels": values, "places": values / 2},
            "trained": {"channels": 1 - values, "places": torch.full((2, 3), 0.3)},
        },
        "Weights",
    )
    boxes = [box.get_path().get_extents() for box in ax.patches[:4]]
    # Box by box of a network: channels, places.
    ends = [(round(box.x0, 6), round(box.x1, 6)) for box in boxes]
    assert ends == [(0.25, 0.75), (0.125, 0.375), (0.25, 0.75), (0.3, 0.3)]
    reached = {tuple(np.round(line.get_xdata(), 6)) for line in ax.lines}
    assert {(0.25, 0.0), (0.75, 1.0), (0.125, 0.0), (0.375, 0.5)} <= reached
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["channels", "places"]
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["fresh", "trained"]
    assert boxes[0].y1 <= 0.01 < boxes[2].y1  # beside each other, around the row


def test_focus_maps_blend_each_map_from_0_to_its_largest_value():
    images = RNG.integers(0, 255, (2, 8, 4, 3), dtype=np.uint8)
    maps = {"plain": RNG.random((2, 8, 4)), "none": np.zeros((2, 8, 4))}
    ax = plot_focus_maps(images, maps, names=["one", "two"], opacity=0.0)
    drawn = tiles(ax)
    for row in range(3):  # with opacity 0 all rows are the images
        np.testing.assert_array_equal(np.stack(drawn[2 * row : 2 * row + 2]), images)
    assert [w for w in words(ax) if w] == ["image", "plain", "none", "one", "two"]
    drawn, same = (
        tiles(plot_focus_maps(images, {"a": heat}, names="xy", opacity=1.0))
        for heat in (7 * maps["plain"], maps["plain"])
    )
    np.testing.assert_array_equal(drawn[2], same[2])  # a scale does not matter
    brightest = np.unravel_index(maps["plain"][0].argmax(), (8, 4))
    assert drawn[2][brightest].tolist() == [253, 231, 37]  # the end of viridis


def test_focus_maps_outline_the_mask_where_it_lies():
    images = np.zeros((2, 8, 4, 3), np.uint8)
    masks = np.zeros((2, 8, 4), bool)
    masks[0, 2:6, 1:3] = True
    ax = plot_focus_maps(images, {"a": np.ones((2, 8, 4))}, masks, "xy")
    outlines = [c for c in ax.collections if c.get_paths()]
    assert len(outlines) == 4  # dark and light, over the image and over the map
    left, top, right, bottom = ax.images[0].get_extent()[0], 0.0, 0.0, 2.0
    box = outlines[0].get_paths()[0].get_extents()
    right = left + 1
    assert left < box.x0 < left + 0.5 < box.x1 < right
    assert top < box.y0 < 1 < box.y1 < bottom


def test_focus_draws_means_of_people_their_errors_and_bounds_in_percent():
    # An image more of a person, or one without a share, is no further evidence.
    ax = plot_focus(
        {
            "a": np.array([0.2, 0.4, 0.3, 0.6, 0.6, 0.7, np.nan]),
            "b": np.array([0.1, 0.1, 0.1, 0.3, 0.3, 0.2, 0.2]),
        },
        np.array([5, 5, 5, 2, 2, 9, 9]),
        bounds={"area": 0.33, "exact": 0.66},
    )
    whole = [x for x in (line.get_xdata() for line in ax.lines) if np.isfinite(x).all()]
    assert np.ravel(whole[:2]) == pytest.approx([33, 33, 66, 66])
    for means, ends in zip(([30, 60, 70], [10, 30, 20]), whole[2:], strict=True):
        error = np.std(means, ddof=1) / math.sqrt(3)
        assert ends == pytest.approx(np.mean(means) + np.array([-2, 2]) * error)
    assert words(ax) == ["area 33", "exact 66"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_another_street_or_another_person_changes_nothing_else():
    world = plan_world("tiny", 0)
    moved, recast = other_street(world), other_people(world)
    for camera, old, following in zip(
        moved.cameras, world.cameras, world.cameras[1:] + world.cameras[:1]
    ):
        assert (camera.ground, camera.wall) == (following.ground, following.wall)
        assert camera.gain == old.gain
        assert camera.noise == old.noise
    first, second = world.test_pids[:2]
    assert moved.identity(first) == world.identity(first)
    assert recast.identity(first) == world.identity(second)
    assert recast.identity(world.train_pids[0]) == world.identity(world.train_pids[0])
    assert recast.cameras == world.cameras
