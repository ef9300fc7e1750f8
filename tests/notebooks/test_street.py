from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt

from figures.street import at_least, cut, draw_street, jittered, matched, plot_boxes
from reidlib.deploy import Detections
from reidlib.synthcity import plan_world

BOX = np.array([[10.0, 10.0, 20.0, 30.0]])


def detections(*boxes):
    return Detections(np.array(boxes, float), np.linspace(0.9, 0.5, len(boxes)))


def test_a_group_walks_under_every_second_camera():
    world = plan_world("tiny")
    street = draw_street(world, 2, size=2, moments=1)
    assert street.cameras == [0, 2, 4, 1, 3, 5]
    assert [list(people) for people in street.people[:2]] == [
        list(world.test_pids[:2])
    ] * 2
    assert list(street.people[3]) == list(world.test_pids[2:4])
    for frame, boxes in zip(street.frames, street.boxes, strict=True):
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes[:, 2].max() <= frame.shape[1]


def test_a_person_is_matched_by_the_box_that_overlaps_most():
    found = detections((0, 0, 5, 5), (11, 10, 21, 30), (10, 10, 20, 31))
    assert matched(found, BOX).tolist() == [2]
    assert matched(detections((0, 0, 5, 5)), BOX).tolist() == [-1]
    assert matched(Detections(np.zeros((0, 4)), np.zeros(0)), BOX).tolist() == [-1]


def test_who_is_not_sure_enough_is_left_out():
    found = detections((0, 0, 5, 5), (10, 10, 20, 31))  # 0.9 and 0.5
    assert at_least(found, 0.6).boxes.tolist() == [[0, 0, 5, 5]]
    assert len(at_least(found, 0.5)) == 2


def test_jitter_is_a_share_of_the_size():
    many = np.repeat(BOX, 4000, axis=0)
    moved = jittered(many, 0.1, np.random.default_rng(0)) - many
    assert moved.std(axis=0) == pytest.approx([1, 2, 1, 2], rel=0.05)
    assert (jittered(many, 0.0, np.random.default_rng(0)) == many).all()


def test_a_crop_is_inside_the_frame():
    frame = np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)
    (inside,) = cut(frame, BOX)
    assert (inside == frame[10:30, 10:20]).all()
    (outside, beside) = cut(frame, np.array([[-9, -9, 5, 90], [60, 60, 70, 80]]))
    assert outside.shape == (40, 5, 3)
    assert beside.shape == (2, 2, 3)


def test_boxes_are_drawn_with_their_scores():
    frame = np.zeros((40, 50, 3), np.uint8)
    found = detections((11, 10, 21, 30))
    axes = plot_boxes([frame] * 2, [BOX] * 2, [found] * 2, ["a", "b"])
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b"]
    for ax in axes:
        assert len(ax.patches) == 2
        assert [text.get_text() for text in ax.texts] == ["0.90"]
    plt.close("all")
