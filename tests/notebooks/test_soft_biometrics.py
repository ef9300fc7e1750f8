"""People in words, boxes and arrows, dilations, and what a head reacts to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from figures.soft_biometrics import (
    CHANGES,
    change_one,
    describe,
    height_profiles,
    plot_described,
    plot_flow,
    plot_shares,
    plot_taps,
)
from reidlib.data import read_market_attributes
from reidlib.data.attributes import ATTRIBUTE_GROUPS
from reidlib.models import FeaturePyramid
from reidlib.synthcity import plan_world


def test_people_are_described_as_the_file_of_their_city_describes_them(tiny):
    known = read_market_attributes(tiny.root)
    people = np.unique(tiny.train.pids)
    _, first = np.unique(tiny.train.pids, return_index=True)
    expected = known.for_table(tiny.train)[1][first]
    found = describe(plan_world("tiny", 0), people.tolist())
    assert (found == expected).all()


def test_pictures_and_words_stand_side_by_side():
    words = {"gender": "female", "hat": "no"}
    pictures, told = plot_described(
        np.zeros((3, 16, 8, 3)), ["camera 1", "camera 2", "camera 5"], words, "person 7"
    )
    assert len(pictures.images) == 3
    assert [t.get_text() for t in pictures.texts] == [
        "camera 1",
        "camera 2",
        "camera 5",
    ]
    assert pictures.get_title("left") == "person 7"
    assert [t.get_text() for t in told.texts] == ["gender", "female", "hat", "no"]


def test_the_segments_of_a_bar_are_the_shares_and_what_is_missing():
    shares = {"hat": {"no": 0.1, "yes": 0.9}, "up": {"red": 0.2, "blue": 0.5}}
    ax = plot_shares(shares)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([0.9, 0.1, 0.5, 0.2, 0.3])
    for place in (0, 1):
        bars = [b for b in ax.patches if abs(b.get_y() + 0.4 - place) < 0.1]
        assert sum(b.get_width() for b in bars) == pytest.approx(1)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["hat", "up"]
    assert "none 30 %" in [t.get_text() for t in ax.texts]
    assert ax.yaxis_inverted()


def test_arrows_lead_from_the_edge_of_a_box_to_that_of_another():
    boxes = {"a": (0, 0, "one"), "b": (1, 1, "two"), "c": (1, 2, "three")}
    ax = plot_flow(boxes, [("a", "b"), ("b", "c")], marked=["b"])
    texts = [t.get_text() for t in ax.texts if t.get_text()]
    assert texts == ["one", "two", "three"]
    arrows = [t for t in ax.texts if not t.get_text()]
    assert [a.xy for a in arrows] == [(2 - 0.81, 1), (2, 2 - 0.36)]
    widths = [patch.get_linewidth() for patch in ax.patches]
    assert widths == [1, 2, 1]


@pytest.mark.parametrize("size", [(12, 4), (4, 2)])
def test_ticks_are_the_cells_that_the_librarys_pyramid_reads(size):
    place = size[0] // 2, size[1] // 2
    axes = plot_taps(size, (0, 2, 3, 4), place)
    pyramid = FeaturePyramid(1, 1)
    for ax, path in zip(axes, pyramid.paths, strict=True):
        path[0].weight.data.fill_(1.0)
        x = torch.ones(1, 1, *size, requires_grad=True)
        path[0](x)[0, 0, place[0], place[1]].backward()
        read = {tuple(cell) for cell in x.grad[0, 0].nonzero().tolist()}
        marks = {(t.get_position()[1], t.get_position()[0]): t for t in ax.texts}
        ticks = {cell for cell, t in marks.items() if t.get_text() == "✓"}
        assert ticks == read
        assert f"{len(read)} of {len(marks)} weights read" in ax.get_title("left")


def test_profiles_are_shares_of_the_gradient_at_each_height():
    weight = torch.zeros(3, 8, 4)
    weight[:, 2:4] = 1.0
    weight[:, 6:] = -3.0

    def predict(x):
        first = (x * weight).sum(dim=(1, 2, 3))
        second = x[:, :, :4].mean(dim=(1, 2, 3))
        return [torch.stack([f, 0 * f], dim=1) for f in (first, second)]

    images = torch.randn(3, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    profiles = height_profiles(predict, images, bands=4)
    np.testing.assert_allclose(profiles[0], [0, 0.25, 0, 0.75], atol=1e-5)
    np.testing.assert_allclose(profiles[1], [0.5, 0.5, 0, 0], atol=1e-5)
    with pytest.raises(ValueError, match="8 rows cannot be cut into 3 bands"):
        height_profiles(predict, images, bands=3)


def test_a_change_moves_its_own_group_alone():
    world = plan_world("tiny", 0)
    colours = {"upcolour": "up", "downcolour": "down"}
    for pid in world.train_pids[:20]:
        before = world.identity(pid).attributes
        for name, change in CHANGES.items():
            after = change(world.identity(pid)).attributes
            moved = {key for key in before if before[key] != after[key]}
            if name in colours:  # of some, no colour was marked before
                assert 1 <= len(moved) <= 2
                prefix = colours[name]
                assert all(m.startswith(prefix) and m != prefix for m in moved)
            else:
                assert moved == {name}
    assert set(CHANGES) < set(ATTRIBUTE_GROUPS)


def test_pictures_differ_in_what_was_changed():
    world = plan_world("tiny", 0)
    pids = world.train_pids[:2]
    plain, changed = change_one(world, pids, world.cameras[0], yaw=2.6)
    assert plain.shape == (2, 128, 64, 3)
    assert set(changed) == set(CHANGES)
    for name in ("backpack", "upcolour", "downcolour", "up"):
        different = (changed[name] != plain).any(axis=3)
        assert different.any(axis=(1, 2)).all(), name
    again, _ = change_one(world, pids, world.cameras[0], yaw=2.6)
    assert (again == plain).all()
