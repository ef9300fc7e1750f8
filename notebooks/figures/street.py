"""Drawn streets: the boxes of a detector, crops that are cut badly, who is on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from reidlib.data import ImageTable, read_image
from reidlib.deploy import Detections, Question
from reidlib.evaluation import box_overlaps
from reidlib.plotting import COLOURS
from reidlib.synthcity import World, draw_frame


@dataclass(frozen=True)
class Street:
    """Drawn frames and the people in them.

    Attributes:
        frames: ``(540, 960, 3)`` uint8 each.
        cameras: Camera of each frame.
        boxes: ``(M, 4)`` left, top, right and bottom of each frame's people.
        people: ``(M,)`` their identities.
    """

    frames: list[np.ndarray]
    cameras: list[int]
    boxes: list[np.ndarray]
    people: list[np.ndarray]


def draw_street(
    world: World,
    groups: int,
    size: int = 4,
    moments: int = 2,
    pids: Sequence[int] | None = None,
) -> Street:
    """Draw groups of people, each under every second camera.

    Args:
        world: A city.
        groups: Number of groups.
        size: People in a group.
        moments: Frames of a group under a camera.
        pids: Who walks; the city's test identities if not given.
    """
    pids = world.test_pids if pids is None else pids
    street = Street([], [], [], [])
    for group in range(groups):
        chosen = pids[size * group : size * (group + 1)]
        people = [world.identity(pid) for pid in chosen]
        for camera in world.cameras[group % 2 :: 2]:
            for moment in range(moments):
                seed = moments * group + moment
                frame, boxes = draw_frame(camera, people, seed=seed)
                street.frames.append(frame)
                street.cameras.append(camera.index)
                corners = np.concatenate(
                    [boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], 1
                )
                street.boxes.append(corners.astype(float))
                street.people.append(boxes[:, 4])
    return street


def at_least(found: Detections, score: float) -> Detections:
    """Return the detections with a score or a higher one."""
    kept = found.scores >= score
    return Detections(found.boxes[kept], found.scores[kept])


def matched(found: Detections, truth: np.ndarray, least: float = 0.5) -> np.ndarray:
    """Return ``(M,)`` the detection of each true box, -1 where there is none."""
    if not len(found.boxes):
        return np.full(len(truth), -1)
    shared = box_overlaps(truth, found.boxes)
    best = shared.argmax(axis=1)
    return np.where(shared.max(axis=1) >= least, best, -1)


def jittered(boxes: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Move the sides of boxes at random, by a share of their size (deviation)."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return boxes + amount * sides * rng.standard_normal(boxes.shape)


def cut(frame: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Return the crops of boxes, at least two pixels wide and inside the frame."""
    high, wide = frame.shape[:2]
    crops = []
    for left, top, right, bottom in np.asarray(boxes).round().astype(int):
        left, top = min(max(left, 0), wide - 2), min(max(top, 0), high - 2)
        right, bottom = max(min(right, wide), left + 2), max(min(bottom, high), top + 2)
        crops.append(frame[top:bottom, left:right])
    return crops


def write_street(street: Street, root: Path) -> list[Path]:
    """Write the frames, a folder for each camera, and return the folders."""
    for number, (frame, camera) in enumerate(
        zip(street.frames, street.cameras, strict=True)
    ):
        folder = root / f"camera {camera + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        # PNG would take five times as long.
        Image.fromarray(frame).save(folder / f"{number:06d}.jpg", quality=95)
    return sorted(root.iterdir())


def on_crops(crops: ImageTable, street: Street, folders: Sequence[Path]) -> np.ndarray:
    """Return who is on each crop: the person whose true box overlaps most, or 0.

    Args:
        crops: What `crop_people` cut from the folders of `write_street`.
        street: The frames.
        folders: The folders.
    """
    at = crops.attributes
    files = {folder.name: sorted(folder.iterdir()) for folder in folders}
    corners = np.stack([at["x"], at["y"]], axis=1)
    sizes = np.stack([at["width"], at["height"]], axis=1)
    people = np.zeros(len(crops), np.int64)
    for row, box in enumerate(np.concatenate([corners, corners + sizes], axis=1)):
        frame = int(files[at["source"][row]][at["frame"][row]].stem)
        shared = box_overlaps(box[None], street.boxes[frame])[0]
        if len(shared) and shared.max() >= 0.5:
            people[row] = street.people[frame][shared.argmax()]
    return people


def named_by_truth(
    crops: ImageTable, questions: Sequence[Question], people: np.ndarray
) -> tuple[ImageTable, ImageTable]:
    """Return queries and gallery as the page saves them if all marks are right.

    Crops are joined by marks alone: what no question shows beside a crop of the person
    is somebody else, as it is on the page.

    Args:
        crops: All crops.
        questions: What the page asks.
        people: ``(N,)`` who is on each crop, 0 for nobody: left out as a question.
    """
    asked = [one for one in questions if people[one.query]]
    marks = [
        (one.query, row)
        for one in asked
        for row in one.candidates
        if people[row] == people[one.query]
    ]
    rows, cols = np.array(marks, np.int64).reshape(-1, 2).T
    size = (len(crops), len(crops))
    graph = csr_matrix((np.ones(len(rows)), (rows, cols)), shape=size)
    person = 1 + connected_components(graph, directed=False)[1]
    queries = np.array([one.query for one in asked], np.int64)
    pids = np.zeros(len(crops), np.int64)  # never marked: somebody else
    for marked in (queries, cols):
        pids[marked] = person[marked]
    nobody = [one.query for one in questions if not people[one.query]]
    shown = {row for one in asked for row in (one.query, *one.candidates)}
    named = ImageTable(crops.root, crops.paths, pids, crops.camids)
    return named[queries], named[np.array(sorted(shown - {*nobody}), np.int64)]


def plot_questions(
    crops: ImageTable, questions: Sequence[Question], people: np.ndarray
) -> None:
    """Draw questions of the page: a crop and its candidates, the right ones framed."""
    wide = 1 + max(len(one.candidates) for one in questions)
    _, axes = plt.subplots(
        len(questions), wide, figsize=(0.8 * wide, 1.7 * len(questions)), squeeze=False
    )
    for line, one in zip(axes, questions, strict=True):
        for ax, row in zip(line, [one.query, *one.candidates], strict=False):
            ax.imshow(read_image(crops.file(row), (128, 64)))
            right = row != one.query and people[row] == people[one.query] > 0
            ax.set_title(f"camera {crops.camids[row] + 1}", fontsize=7)
            if right:
                edge = Rectangle((0, 0), 63, 127, fill=False, ec=COLOURS[0], lw=5)
                ax.add_patch(edge)
        for ax in line:
            ax.set_axis_off()


def plot_boxes(
    frames: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    found: Sequence[Detections],
    titles: Sequence[str],
) -> list[Axes]:
    """Draw frames with the true boxes (dashed) and those of a detector, with scores."""
    axes = plt.subplots(1, len(frames), figsize=(9.6, 2.9), layout="constrained")[1]
    for ax, frame, real, one, title in zip(
        np.atleast_1d(axes), frames, truth, found, titles, strict=True
    ):
        ax.imshow(frame)
        ax.set_title(title)
        ax.set_axis_off()
        for box in real:
            ax.add_patch(_box(box, "white", ls="--"))
        for box, score in zip(one.boxes, one.scores, strict=True):
            ax.add_patch(_box(box, COLOURS[1], lw=1.8))
            ax.text(
                *(box[0], box[1] - 6),
                f"{score:.2f}",
                color="white",
                fontsize=8,
                bbox={"facecolor": "black", "pad": 1, "lw": 0},
            )
    return list(np.atleast_1d(axes))


def _box(box: np.ndarray, colour: str, **style: Any) -> Rectangle:
    corner, size = box[:2], box[2:] - box[:2]
    return Rectangle(tuple(corner), *size, fill=False, edgecolor=colour, **style)
