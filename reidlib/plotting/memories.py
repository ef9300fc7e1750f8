"""Figures of cluster memories: images around a mean and a hard representative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from reidlib.errors import ReIDError
from reidlib.plotting.charts import _axes, _finite
from reidlib.plotting.style import COLOURS, GRID, INK, MARKERS, PAPER, QUIET
from reidlib.plotting.tiles import _as_numpy

MEAN_MARKER, HARD_MARKER = "*", "D"


def plot_memories(
    points: Any,
    pseudo_labels: Any,
    means: Any,
    hards: Any,
    *,
    query: Any = None,
    names: Sequence[str] | None = None,
    legend: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw clusters on the unit circle with a mean and a hard key for each.

    Args:
        points: ``(N, 2)`` features of length 1.
        pseudo_labels: ``(N,)`` clusters from 0.
        means: ``(C, 2)`` mean key of each cluster, a star.
        hards: ``(C, 2)`` hard key of each cluster, a diamond.
        query: ``(2,)`` a feature of its own, a black dot.
        names: Name of each cluster; A, B, C, ... if not given.
        legend: Say what colours and markers mean.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes: for each cluster a collection with its images; a line with its mean
        key and one with its hard key; last the query, if there is one.

    Raises:
        ReIDError: If the shapes do not fit, a label has no key, or there are more
            clusters than colours.

    Example:
        >>> keys = [[1, 0], [0, 1]]
        >>> ax = plot_memories([[1, 0], [0, 1], [0.6, 0.8]], [0, 1, 1], keys, keys)
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['cluster A', 'cluster B', 'mean key', 'hard key']
    """
    array = _finite(points, "points")
    labels = _as_numpy(pseudo_labels)
    keys = _finite(means, "means"), _finite(hards, "hards")
    clusters = len(keys[0])
    if (
        array.ndim != 2
        or array.shape[1] != 2
        or labels.shape != array.shape[:1]
        or keys[0].shape != (clusters, 2)
        or keys[1].shape != (clusters, 2)
    ):
        raise ReIDError(
            f"points: got shape {array.shape} with labels of shape {labels.shape}, "
            f"means of shape {keys[0].shape} and hards of shape {keys[1].shape}; give "
            "(N, 2), (N,), (C, 2) and (C, 2)"
        )
    if labels.min() < 0 or labels.max() >= clusters or clusters > len(COLOURS):
        raise ReIDError(
            f"pseudo_labels: go from {labels.min()} to {labels.max()} with keys of "
            f"{clusters} clusters; give labels from 0, a key for each, and at most "
            f"{len(COLOURS)} clusters"
        )
    ax = _axes(ax, (4.4, 3.4))
    angle = np.linspace(0, 2 * np.pi, 361)
    ax.plot(np.cos(angle), np.sin(angle), color=GRID, lw=1.2, zorder=0)
    for label in range(clusters):
        name = names[label] if names is not None else chr(65 + label)
        own = array[labels == label]
        ax.scatter(
            own[:, 0],
            own[:, 1],
            s=30,
            marker=MARKERS[label],
            color=COLOURS[label],
            alpha=0.55,
            linewidth=0,
            label=f"cluster {name}",
        )
        for bank, marker, size in zip(keys, (MEAN_MARKER, HARD_MARKER), (17, 9)):
            _key(ax, bank[label], marker, size, COLOURS[label])
    everything = [array, *keys]
    if query is not None:
        place = _finite(query, "query").reshape(1, -1)
        _key(ax, place[0], "o", 8, INK, "query")
        everything.append(place)
    if legend:
        for text, marker, size in (
            ("mean key", MEAN_MARKER, 12),
            ("hard key", HARD_MARKER, 7),
        ):
            ax.plot([], [], ls="", marker=marker, ms=size, color=INK, label=text)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    shown = np.concatenate(everything)
    for limit, values in ((ax.set_xlim, shown[:, 0]), (ax.set_ylim, shown[:, 1])):
        limit(values.min() - 0.15, values.max() + 0.15)
    ax.set_aspect("equal")
    ax.set(xticks=[], yticks=[], title=title or "")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return ax


def plot_memory_plane(
    mean: Any,
    hard: Any,
    images: Mapping[str, Any],
    *,
    others: Any = None,
    moved: tuple[Any, Any] | None = None,
    legend: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw images of a cluster in the plane through its mean and its hard key (AFF-F3).

    The plane holds both keys, with the true angle between them: the mean key lies at
    ``(1, 0)``, the hard key above the axis on the unit circle. Images are projected to
    it at right angles, so that the first coordinate of an image is its similarity to
    the mean. How far it lies inside of the circle says how much of it the plane does
    not show.

    Args:
        mean: ``(D,)`` mean key; its length does not matter.
        hard: ``(D,)`` hard key; its length does not matter.
        images: For each name ``(N, D)`` features of length 1.
        others: ``(N, D)`` features of other clusters, drawn in grey.
        moved: Mean and hard key after an update, hollow, with a line from the old ones.
        legend: Say what colours and markers mean.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes: a collection for the others, if given, and for each name in turn; the
        lines are the circle, the two keys, and the two moved ones.

    Raises:
        ReIDError: If shapes do not fit, there is no image, or both keys point the same
            way and span no plane.

    Example:
        >>> ax = plot_memory_plane([1, 0, 0], [0, 1, 0], {"new": [[0.6, 0.0, 0.8]]})
        >>> ax.collections[0].get_offsets().tolist()
        [[0.6, 0.0]]
    """
    first, second = (
        vector / np.linalg.norm(vector).clip(1e-12)
        for vector in (_finite(mean, "mean"), _finite(hard, "hard"))
    )
    groups = {name: _finite(rows, name) for name, rows in images.items()}
    background = None if others is None else _finite(others, "others")
    after = [] if moved is None else [_finite(key, "moved") for key in moved]
    rows = [*groups.values(), *([] if background is None else [background])]
    if (
        first.ndim != 1
        or {first.shape} != {second.shape, *(key.shape for key in after)}
        or any(row.ndim != 2 or row.shape[1:] != first.shape for row in rows)
        or not 1 <= len(groups) <= len(COLOURS)
    ):
        shapes = ", ".join(str(row.shape) for row in rows) or "none"
        raise ReIDError(
            f"images: got shapes {shapes} for keys of shape {first.shape} and "
            f"{second.shape}; give (D,) keys and from 1 to {len(COLOURS)} groups of "
            "(N, D) images"
        )
    across = second - (second @ first) * first
    if np.linalg.norm(across) < 1e-6:
        raise ReIDError(
            "hard: points the same way as mean, and two equal keys span no plane; a "
            "memory that was just filled has such keys"
        )
    plane = np.stack([first, across / np.linalg.norm(across)], axis=1)  # (D, 2)
    ax = _axes(ax, (5.2, 3.8))
    angle = np.linspace(0, 2 * np.pi, 361)
    ax.plot(np.cos(angle), np.sin(angle), color=QUIET, lw=1)
    look: dict[str, Any] = {"linewidth": 0}
    if background is not None:
        x, y = (background @ plane).T
        name = "other clusters"
        ax.scatter(x, y, s=12, color=QUIET, alpha=0.6, label=name, zorder=1, **look)
    for i, (name, group) in enumerate(groups.items()):
        x, y = (group @ plane).T
        look |= {"color": COLOURS[i], "marker": MARKERS[i]}
        ax.scatter(x, y, s=30, alpha=0.75, label=name, zorder=2, **look)
    degrees = np.degrees(np.arctan2(np.linalg.norm(across), second @ first))
    names = ("mean key", f"hard key ({degrees:.0f}° away)")
    kinds = ((MEAN_MARKER, 15), (HARD_MARKER, 8))
    for key, name, (marker, size) in zip((first, second), names, kinds):
        _key(ax, key @ plane, marker, size, INK, name)
    for old, new, name, (marker, size) in zip((first, second), after, names, kinds):
        new = new / np.linalg.norm(new).clip(1e-12)
        x, y = np.stack([old @ plane, new @ plane], axis=1)
        ax.plot(
            x,
            y,
            ":",
            color=INK,
            lw=1,
            marker=marker,
            ms=size,
            mfc=PAPER,
            mec=INK,
            markevery=[1],
            zorder=3,
            label=f"{name.split(' (')[0]} after the update",
        )
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    shown = np.concatenate([row @ plane for row in rows] + [plane.T @ plane])
    ax.set_xlim(min(-0.1, shown[:, 0].min() - 0.05), 1.08)
    ax.set_ylim(min(-0.3, shown[:, 1].min() - 0.05), 1.08)
    ax.set_aspect("equal")
    ax.set(
        xlabel="similarity to the mean key",
        ylabel="towards the hard key",
        title=title or "",
    )
    return ax


def _key(
    ax: Axes, place: Any, marker: str, size: float, colour: str, label: str = ""
) -> None:
    ax.plot(
        *place,
        ls="",
        marker=marker,
        ms=size,
        color=colour,
        mec=PAPER if colour == INK else INK,
        mew=0.9,
        zorder=4,
        label=label or "_key",  # matplotlib leaves names with an underscore out
    )
