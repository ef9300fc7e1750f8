"""Images of a cluster around its mean key and its hard key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from reidlib.losses import SymmetricMemory
from reidlib.plotting import COLOURS, MARKERS
from reidlib.plotting.style import GRID, INK, PAPER, QUIET

KEYS = {"mean key": "*", "hard key": "D"}
"""Both keys of a cluster and their markers."""


def on_circle(degrees: Any) -> Tensor:
    """Return points of the unit circle, ``(..., 2)``.

    Example:
        >>> on_circle([0.0, 90.0]).round(decimals=2).tolist()
        [[1.0, 0.0], [-0.0, 1.0]]
    """
    angle = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float32))
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def degrees_of(vectors: Tensor) -> Any:
    """Return the angles of ``(..., 2)`` vectors, in degrees, as numbers or lists.

    Example:
        >>> round(degrees_of(torch.tensor([0.0, 2.0])))
        90
    """
    return torch.rad2deg(torch.atan2(vectors[..., 1], vectors[..., 0])).tolist()


def query_memory(spread: float, temperature: float) -> SymmetricMemory:
    """Return a memory of a cluster at 0 degrees and of rivals at 80 and -80 degrees.

    The hard key of the cluster lies ``spread`` degrees from its mean key; those of the
    rivals lie 6 degrees nearer to the cluster than their mean keys.
    """
    memory = SymmetricMemory(3, 2, temperature=temperature)
    memory.initialise(on_circle([0.0, 80.0, -80.0]))
    memory.hard.initialise(on_circle([float(spread), 74.0, -74.0]))
    return memory


def plot_query(query: float, spread: float, temperature: float) -> None:
    """Draw a query among three clusters, and both losses for every place of it.

    Prints the losses at the query's place.

    Args:
        query: Its place, in degrees; it belongs to the cluster at 0.
        spread: How far the images of that cluster reach to either side.
        temperature: Of both softmaxes.
    """
    memory, own = query_memory(spread, temperature), torch.tensor([0])
    at = memory.losses(on_circle([float(query)]), own)
    told = (f"{name} {getattr(at, name):.2f}" for name in ("mean", "hard", "balance"))
    print(f"{', '.join(told)}; total {at.total:.2f}")
    images = [torch.linspace(-spread, spread, 9), torch.linspace(74, 86, 5)]
    images.append(-images[1])
    axes = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained")[1]
    plot_memories(
        on_circle(torch.cat(images)),
        torch.arange(3).repeat_interleave(torch.tensor([9, 5, 5])),
        memory.mean.bank,
        memory.hard.bank,
        query=on_circle(float(query)),
        ax=axes[0],
    )
    places = torch.arange(-90, 91, 2.0)
    curves = [memory.losses(on_circle([float(a)]), own) for a in places]
    for name, colour, style in zip(("mean", "hard"), COLOURS[3:], ("-", "--")):
        loss = [float(getattr(terms, name)) for terms in curves]
        axes[1].plot(places, loss, style, color=colour, label=f"{name} contrast")
    axes[1].axvline(query, color="0.2", lw=1.2, ls=":", label="query")
    axes[1].set(xlabel="place of the query (degrees)", ylabel="loss")
    axes[1].set_ylim(bottom=0)
    axes[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def plot_memories(
    points: Any,
    pseudo_labels: Any,
    means: Any,
    hards: Any,
    *,
    query: Any,
    ax: Axes,
    legend: bool = True,
    title: str = "",
) -> Axes:
    """Draw clusters on the unit circle with a mean and a hard key for each.

    Args:
        points: ``(N, 2)`` L2-normalised features.
        pseudo_labels: ``(N,)`` clusters from 0, called A, B, C.
        means: ``(C, 2)`` mean key of each cluster, a star.
        hards: ``(C, 2)`` hard key of each cluster, a diamond.
        query: ``(2,)`` one more feature, a black dot.
        ax: Axes to draw into.
        legend: Say what colours and markers mean.
        title: Title of the axes.

    Returns:
        The axes: for each cluster a collection with its images; a line with its mean
        key and one with its hard key; last the query.

    Example:
        >>> from matplotlib import pyplot as plt
        >>> ax, keys = plt.subplots()[1], np.eye(2)
        >>> points = [[1, 0], [0, 1], [0.6, 0.8]]
        >>> ax = plot_memories(points, [0, 1, 1], keys, keys, query=[0.8, 0.6], ax=ax)
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['cluster A', 'cluster B', 'query', 'mean key', 'hard key']
    """
    array, labels = np.asarray(points), np.asarray(pseudo_labels)
    _circle(ax, GRID, 1.2)
    for label, (mean, hard) in enumerate(zip(means, hards, strict=True)):
        look: dict[str, Any] = {"marker": MARKERS[label], "color": COLOURS[label]}
        name = f"cluster {chr(65 + label)}"
        _dots(ax, array[labels == label], name, s=30, alpha=0.55, **look)
        for key, marker, size in zip((mean, hard), KEYS.values(), (17, 9)):
            _key(ax, key, marker, size, COLOURS[label])
    _key(ax, query, "o", 8, INK, "query")
    if legend:
        for (name, marker), size in zip(KEYS.items(), (12, 7)):
            ax.plot([], [], ls="", marker=marker, ms=size, color=INK, label=name)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    # The part of the circle that holds something.
    shown = np.concatenate([array, means, hards, [query]])
    (left, low), (right, high) = shown.min(axis=0) - 0.15, shown.max(axis=0) + 0.15
    ax.set(xlim=(left, right), ylim=(low, high))
    ax.set_aspect("equal")
    ax.set(xticks=[], yticks=[], title=title)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return ax


def plot_memory_plane(
    mean: Any,
    hard: Any,
    images: Mapping[str, Any],
    *,
    ax: Axes,
    others: Any = None,
    moved: tuple[Any, Any] | None = None,
    title: str = "",
) -> Axes:
    """Draw images of a cluster in the plane through its mean and its hard key (AFF-F3).

    The plane holds both keys, with the true angle between them: the mean key lies at
    ``(1, 0)``, the hard key above the axis on the unit circle. Images are projected to
    it at right angles, so that the first coordinate of an image is its similarity to
    the mean. The farther an image lies inside the circle, the less of it the plane
    shows.

    Args:
        mean: ``(D,)`` mean key; its length does not matter.
        hard: ``(D,)`` hard key, of another direction; its length does not matter.
        images: For each name ``(N, D)`` L2-normalised features.
        ax: Axes to draw into.
        others: ``(M, D)`` features of other clusters, drawn in grey.
        moved: Mean and hard key after an update, hollow, with a line from the old ones.
        title: Title of the axes.

    Returns:
        The axes: a collection for the others, if given, and for each name in turn; the
        lines are the circle, the two keys, and the two moved ones.

    Example:
        >>> from matplotlib import pyplot as plt
        >>> ax, images = plt.subplots()[1], {"new": [[0.6, 0.0, 0.8]]}
        >>> ax = plot_memory_plane([1, 0, 0], [0, 1, 0], images, ax=ax)
        >>> ax.collections[0].get_offsets().tolist()
        [[0.6, 0.0]]
    """
    first, second = _unit(mean), _unit(hard)
    across = second - (second @ first) * first
    plane = np.stack([first, _unit(across)], axis=1)  # (D, 2)
    groups = {name: np.asarray(rows) @ plane for name, rows in images.items()}
    _circle(ax, QUIET, 1)
    shown = [*groups.values(), np.array([first, second]) @ plane]
    if others is not None:
        shown.append(np.asarray(others) @ plane)
        _dots(ax, shown[-1], "other clusters", s=12, alpha=0.6, color=QUIET, zorder=1)
    for (name, group), colour, marker in zip(groups.items(), COLOURS, MARKERS):
        look = {"color": colour, "marker": marker, "zorder": 2}
        _dots(ax, group, name, s=30, alpha=0.75, **look)
    degrees = np.degrees(np.arctan2(np.linalg.norm(across), second @ first))
    for key, (name, marker), size, note in zip(
        (first, second), KEYS.items(), (15, 8), ("", f" ({degrees:.0f}° away)")
    ):
        _key(ax, key @ plane, marker, size, INK, name + note)
    for old, new, (name, marker), size in zip(
        (first, second), moved or (), KEYS.items(), (15, 8)
    ):
        ax.plot(
            *np.stack([old @ plane, _unit(new) @ plane], axis=1),
            ":",
            color=INK,
            lw=1,
            marker=marker,
            ms=size,
            mfc=PAPER,
            mec=INK,
            markevery=[1],
            zorder=3,
            label=f"{name} after the update",
        )
    left, low = np.concatenate(shown).min(axis=0) - 0.05
    ax.set(xlim=(min(-0.1, left), 1.08), ylim=(min(-0.3, low), 1.08))
    ax.set_aspect("equal")
    ax.set(
        xlabel="similarity to the mean key", ylabel="towards the hard key", title=title
    )
    return ax


def _unit(vector: Any) -> np.ndarray:
    array = np.asarray(vector, dtype=float)
    return array / np.linalg.norm(array)


def _circle(ax: Axes, colour: str, width: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 361)
    ax.plot(np.cos(angle), np.sin(angle), color=colour, lw=width, zorder=0)


def _dots(ax: Axes, points: np.ndarray, label: str, **look: Any) -> None:
    ax.scatter(points[:, 0], points[:, 1], linewidth=0, label=label, **look)


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
