"""Chapter 16: drawn streets, the boxes of a detector, and crops that are cut badly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from reidlib.deploy import Detections
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


def draw_street(world: World, groups: int, size: int = 4, moments: int = 2) -> Street:
    """Draw groups of people, each under every second camera.

    Args:
        world: A city; its test identities walk.
        groups: Number of groups.
        size: People in a group.
        moments: Frames of a group under a camera.
    """
    street = Street([], [], [], [])
    for group in range(groups):
        chosen = world.test_pids[size * group : size * (group + 1)]
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
