"""Grids of pictures that show a world: its people, its cameras, its dials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from reidlib.errors import ReIDError
from reidlib.synthcity.dials import Dials
from reidlib.synthcity.world import (
    IMAGE_SIZE,
    Size,
    World,
    draw_person,
    draw_shot,
    plan_world,
)


def people_grid(
    world: World, pids: Sequence[int], size: tuple[int, int] = IMAGE_SIZE
) -> np.ndarray:
    """Draw people under every camera.

    Args:
        world: The planned world.
        pids: Person ids, one row each.
        size: Height and width of each picture.

    Returns:
        ``(len(pids), cameras, H, W, 3)`` uint8.

    Example:
        >>> people_grid(plan_world("tiny"), [1, 2]).shape
        (2, 6, 128, 64, 3)
    """
    rows = [
        [
            draw_person(
                world.identity(pid),
                camera,
                seed=world.seed,
                dials=world.dials,
                size=size,
            )
            for camera in world.cameras
        ]
        for pid in pids
    ]
    return np.array(rows, dtype=np.uint8).reshape(
        len(pids), len(world.cameras), *size, 3
    )


def turning_grid(
    world: World,
    pids: Sequence[int],
    views: int = 8,
    size: tuple[int, int] = (256, 128),
) -> np.ndarray:
    """Draw people from all sides, in good light and without a camera's colours.

    Args:
        world: The planned world.
        pids: Person ids, one row each.
        views: Number of directions around the person, from the front.
        size: Height and width of each picture.

    Returns:
        ``(len(pids), views, H, W, 3)`` uint8.

    Example:
        >>> turning_grid(plan_world("tiny"), [1], views=4).shape
        (1, 4, 256, 128, 3)
    """
    clean = replace(
        world.dials,
        camera_shift=0.0,
        occlusion=0.0,
        image_quality=1.0,
        misalignment=0.0,
        lighting=0.0,
        quality_spread=0.0,
    )
    camera = plan_world(world.size, world.seed, clean).cameras[0]
    angles = np.linspace(0.0, 2.0 * np.pi, views, endpoint=False)
    rows = [
        [
            draw_person(
                world.identity(pid),
                camera,
                yaw=float(angle),
                phase=0.9 + float(angle),
                dials=clean,
                size=size,
            )
            for angle in angles
        ]
        for pid in pids
    ]
    return np.array(rows, dtype=np.uint8).reshape(len(pids), views, *size, 3)


def dial_grid(
    dial: str,
    values: Sequence[float] | None = None,
    *,
    seed: int = 0,
    people: int = 8,
    size: tuple[int, int] = IMAGE_SIZE,
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Draw the same images of a world at several values of one dial.

    Args:
        dial: Name of a dial.
        values: Values of the dial, one row each; by default lowest, default, highest.
        seed: Seed of the worlds.
        people: Pictures per row, each of another person, over all cameras in turn.
        size: Height and width of each picture.

    Returns:
        ``(len(values), people, H, W, 3)`` uint8 and the values.

    Raises:
        ReIDError: If there is no such dial.

    Example:
        >>> grid, values = dial_grid("misalignment", people=2)
        >>> grid.shape, values[0]
        ((3, 2, 128, 64, 3), 0.0)
    """
    names = [entry.name for entry in fields(Dials)]
    if dial not in names:
        raise ReIDError(f"no dial {dial!r}: choose one of {', '.join(names)}")
    usual = Dials()
    if values is None:
        low, high = (0.25, 8.0) if dial == "images_per_camera" else (0.0, 1.0)
        values = (low, float(getattr(usual, dial)), high)
    # All six cameras see every person, so that the rows differ in the dial only.
    counts = Size(people, 1, 6, 6 * people, 6 * people, 2, 2, 0, 0)
    rows = []
    for value in values:
        world = plan_world(counts, seed, replace(usual, **{dial: value}))
        train = [shot for shot in world.shots if shot.folder == "bounding_box_train"]
        chosen = [
            next(
                shot for shot in train if shot.pid == pid and shot.camera == number % 6
            )
            for number, pid in enumerate(world.train_pids)
        ]
        rows.append([draw_shot(world, shot, size) for shot in chosen])
    grid = np.array(rows, dtype=np.uint8).reshape(len(values), people, *size, 3)
    return grid, tuple(values)
