from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from figures.street import (
    at_least,
    cut,
    draw_street,
    jittered,
    matched,
    named_by_truth,
    on_crops,
    plot_boxes,
    plot_questions,
    write_street,
)
from reidlib.data import ImageTable
from reidlib.deploy import Detections, Question
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


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Two groups under three cameras each, in files, cut by their true boxes."""
    root = tmp_path_factory.mktemp("walk")
    street = draw_street(plan_world("tiny"), 2, size=2, moments=1)
    folders = write_street(street, root / "videos")
    columns = {name: [] for name in ("source", "frame", "x", "y", "width", "height")}
    paths, cameras, truth = [], [], []
    for number, camera in enumerate(street.cameras):
        for box, person in zip(
            street.boxes[number], street.people[number], strict=True
        ):
            values = (f"camera {camera + 1}", 0, box[0], box[1], *(box[2:] - box[:2]))
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
            crop = cut(street.frames[number], box[None])[0]
            path = root / f"{len(paths)}.png"
            Image.fromarray(crop).save(path)
            paths.append(path.name)
            cameras.append(camera)
            truth.append(person)
    at = {name: np.array(column) for name, column in columns.items()}
    crops = ImageTable(
        root, tuple(paths), np.full(len(paths), -2), np.array(cameras), at
    )
    return street, folders, crops, np.array(truth)


def test_frames_lie_in_a_folder_for_each_camera(walk):
    street, folders, _, _ = walk
    assert [folder.name for folder in folders] == [f"camera {n}" for n in range(1, 7)]
    for number, camera in enumerate(street.cameras):
        file = folders[camera] / f"{number:06d}.jpg"
        with Image.open(file) as stored:
            difference = np.abs(
                np.asarray(stored).astype(int) - street.frames[number].astype(int)
            )
        assert difference.mean() < 4


def test_who_is_on_a_crop_is_told_by_its_box(walk):
    street, folders, crops, truth = walk
    assert (on_crops(crops, street, folders) == truth).all()
    moved = ImageTable(
        crops.root,
        crops.paths,
        crops.pids,
        crops.camids,
        {**crops.attributes, "x": crops.attributes["x"] + 400},
    )
    assert not on_crops(moved, street, folders).any()


def test_right_marks_name_the_crops_that_were_shown(walk):
    _, _, crops, truth = walk
    truth = truth.copy()
    truth[0] = 0  # nobody
    # Crop 1 is shown beside a crop of its person only if that is asked about.
    asked = [Question(0, [2, 3]), Question(2, [0, 1, 4, 5])]
    query, gallery = named_by_truth(crops, asked, truth)
    assert query.paths == (crops.paths[2],)
    assert gallery.paths == tuple(crops.paths[n] for n in (1, 2, 4, 5))
    same = [truth[n] == truth[2] and n != 1 for n in (1, 2, 4, 5)]
    assert (gallery.pids == query.pids[0]).tolist() == same
    assert (gallery.pids[~np.array(same)] == 0).all()
    assert 0 < sum(same) < 4


def test_marks_alone_join_crops(walk):
    _, _, crops, _ = walk
    # One person everywhere, but no question joins 0 and 2 with 4 and 6.
    truth = np.ones(len(crops), np.int64)
    asked = [Question(0, [2]), Question(4, [6])]
    query, gallery = named_by_truth(crops, asked, truth)
    assert query.pids[0] != query.pids[1]
    assert gallery.pids.tolist() == [
        *[query.pids[0]] * 2,
        *[query.pids[1]] * 2,
    ]
    none = named_by_truth(crops, asked, 0 * truth)
    assert [len(part) for part in none] == [0, 0]


def test_the_same_person_is_framed(walk):
    _, _, crops, truth = walk
    plot_questions(crops, [Question(0, [1, 2]), Question(1, [0, 2, 3])], truth)
    framed = [bool(ax.patches) for ax in plt.gcf().axes]
    wanted = [0, truth[1] == truth[0], truth[2] == truth[0], 0]
    wanted += [0, truth[0] == truth[1], truth[2] == truth[1], truth[3] == truth[1]]
    assert framed == [bool(one) for one in wanted]
    plt.close("all")
