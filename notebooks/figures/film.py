"""The game of gradient reversal as a film, for every strength and every toy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from IPython.display import HTML

from figures.alignment import PASSING, make_toy, play, probe
from figures.page import page_figure, table


def encoder_of(points: Any, features: Any, cameras: Any) -> list[list[float]]:
    """Return the matrix and the shift by which each camera's points were moved.

    Args:
        points: ``(N, 2)``.
        features: ``(N, 2)`` the same points, moved.
        cameras: ``(N,)`` 0 or 1.

    Returns:
        For each camera a, b, c, d, e, f: a point (x, y) went to (ax + by + e,
        cx + dy + f).

    Example:
        >>> points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]] * 2)
        >>> encoder_of(points, 2 * points + 1, np.array([0, 0, 0, 1, 1, 1]))[1]
        [2.0, 0.0, 0.0, 2.0, 1.0, 1.0]
    """
    maps = []
    for camera in (0, 1):
        own = np.asarray(cameras) == camera
        ones = np.ones((int(own.sum()), 1))
        before = np.hstack([np.asarray(points, dtype=float)[own], ones])
        after = np.asarray(features, dtype=float)[own]
        (a, c), (b, d), (e, f) = np.linalg.lstsq(before, after, rcond=None)[0]
        maps.append([round(float(x), 3) + 0.0 for x in (a, b, c, d, e, f)])
    return maps


def film_figure(
    strengths: Sequence[float],
    start: tuple[str, float],
    *,
    caption: str,
    frames: int = 41,
) -> HTML:
    """Return the game of `figures.alignment.play` with a slider over its steps.

    Args:
        strengths: Strengths of the reversal.
        start: Toy and strength to start from.
        caption: What the figure shows.
        frames: How many steps of the film are shown.
    """
    toys: list[dict[str, Any]] = []
    films: list[list[dict[str, Any]]] = []
    rows = {}
    steps: list[int] = []
    for passing in PASSING:
        points, people, cameras = make_toy(passing)
        toys.append(
            {
                "points": [[round(x, 2) for x in p] for p in points.tolist()],
                "people": people.tolist(),
                "cameras": cameras.tolist(),
            }
        )
        films.append([])
        for strength in strengths:
            film = play(passing, strength)
            steps = np.linspace(0, len(film) - 1, frames).astype(int).tolist()
            found = [
                [film[i][1], film[i][2], probe(film[i][0], cameras)] for i in steps
            ]
            films[-1].append(
                {
                    "maps": [encoder_of(points, film[i][0], cameras) for i in steps],
                    "found": [[round(x, 3) for x in shares] for shares in found],
                }
            )
            rows[f"{passing}, λ = {strength:g}"] = [f"{x:.0%}" for x in found[-1]]
    data = {
        "names": list(PASSING),
        "strengths": [f"{strength:g}" for strength in strengths],
        "steps": steps,
        "start": [list(PASSING).index(start[0]), list(strengths).index(start[1])],
        "toys": toys,
        "films": films,
    }
    head = [
        f"after {steps[-1]} steps",
        "people found",
        "camera, by the game's classifier",
        "camera, by a fresh probe",
    ]
    return page_figure("film", data, table(head, rows), caption)
