"""Figures of clusters: what is in them, where they lie, how they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from reidlib.data.table import DISTRACTOR
from reidlib.errors import ReIDError
from reidlib.plotting.charts import _axes, _finite, plot_embedding
from reidlib.plotting.style import COLOURS, HIT, INK, MARKERS, MISS
from reidlib.plotting.tiles import (
    _as_images,
    _as_numpy,
    _Canvas,
    _caption,
    _column,
)

OUTLIER = -1
MEASURES = {
    "clusters": "number of clusters",
    "outlier_share": "outlier share",
    "pairwise_precision": "pair precision",
    "pairwise_recall": "pair recall",
    "pairwise_f": "pair F",
    "bcubed_f": "B-cubed F",
    "nmi_pid": "NMI with identity",
    "nmi_cam": "NMI with camera",
}


def plot_clusters(
    images: Any,
    pseudo_labels: Any,
    pids: Any,
    camids: Any,
    *,
    clusters: Sequence[int] | None = None,
    columns: int = 8,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw some clusters, one a row, and tell who is in the wrong one.

    The person seen most often in a cluster, of equals the one with the lowest id, has
    green frames with a tick, anybody else vermillion ones with a cross. Images of a
    person stand together, the most frequent person first. Of a cluster that is larger
    than its row, images are taken evenly from that order, so that the row keeps the
    cluster's proportions. Outliers have no frame: nobody put them together.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)`` as for `plot_images`, or anything
            whose ``images[row]`` is such an image: only those drawn are asked for.
        pseudo_labels: ``(N,)`` clusters, -1 for an outlier.
        pids: ``(N,)`` person ids; those up to 0 are nobody known.
        camids: ``(N,)`` camera ids.
        clusters: Clusters to draw, -1 for the outliers; by default the five largest.
        columns: Most images in a row.
        title: Title of the figure, completed by what the marks mean.
        ax: Axes to draw into.

    Returns:
        The axes; row by row, images in the order said.

    Raises:
        ReIDError: If the shapes do not fit, or a cluster has no image.

    Example:
        >>> images = np.zeros((3, 8, 4, 3), np.uint8)
        >>> ax = plot_clusters(images, [0, 0, 0], pids=[5, 7, 7], camids=[0, 1, 2])
        >>> [text.get_text() for text in ax.texts if text.get_text() in "✓✗"]
        ['✓', '✓', '✗']
    """
    labels = _labels(pseudo_labels)
    persons = _column(pids, labels.shape, "pids")
    cameras = _column(camids, labels.shape, "camids")
    names, counts = np.unique(labels, return_counts=True)
    size = dict(zip(names.tolist(), counts.tolist()))
    if clusters is None:
        by_size = sorted((-n, name) for name, n in size.items() if name != OUTLIER)
        clusters = [name for _, name in by_size[:5]]
    absent = [int(name) for name in clusters if int(name) not in size]
    if absent or not len(clusters) or columns < 1 or persons is None or cameras is None:
        raise ReIDError(
            f"clusters: got {len(clusters)} of them, {absent or 'none'} without an "
            f"image, for {columns} columns; give pids, camids, at least one column and "
            "labels that occur among the pseudo labels"
        )
    rows = [_row(labels == int(name), persons, columns) for name in clusters]
    shown = np.concatenate([line for line, _ in rows])
    tiles = _as_images([_as_numpy(images[int(i)]) for i in shown], 4, "images")
    aspect = tiles.shape[1] / tiles.shape[2]
    width = max(len(line) for line, _ in rows)
    canvas = _Canvas(len(rows), width + 1, aspect, 2, ax)
    place = 0
    for row, (name, (line, major)) in enumerate(zip(clusters, rows)):
        members = size[int(name)]
        text = "outliers" if int(name) == OUTLIER else f"cluster {int(name)}"
        some = f"{members} images" if members > len(line) else f"all {members}"
        canvas.ax.text(
            0.9,
            row * canvas.step_y + aspect / 2,
            f"{text}\n{some}",
            ha="right",
            va="center",
            fontsize=7.5,
        )
        for column, i in enumerate(line):
            right = persons[i] == major
            framed = int(name) != OUTLIER
            canvas.tile(
                row,
                column + 1,
                tiles[place],
                _caption(persons[i], cameras[i]),
                (HIT if right else MISS) if framed else None,
                ("✓" if right else "✗") if framed else "",
            )
            place += 1
    meaning = "✓ the cluster's most frequent person, ✗ another"
    return canvas.finish(f"{title} ({meaning})" if title else meaning)


def _row(
    member: np.ndarray, persons: np.ndarray, columns: int
) -> tuple[np.ndarray, int | None]:
    """Return the images of a cluster that are drawn, and its most frequent person."""
    inside = np.flatnonzero(member)
    names, which, counts = np.unique(
        persons[inside], return_inverse=True, return_counts=True
    )
    known = names > DISTRACTOR
    major = int(names[np.argmax(np.where(known, counts, 0))]) if known.any() else None
    # The most frequent first, of equals the lowest id, then in the order of the table.
    order = np.lexsort((names[which], -(counts * known)[which]))
    inside = inside[order]
    if len(inside) > columns:
        inside = inside[np.linspace(0, len(inside) - 1, columns).round().astype(int)]
    return inside, major


def plot_cluster_map(
    points: Any,
    pseudo_labels: Any,
    *,
    only: Sequence[int] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw clusters in the plane; outliers are hollow and grey.

    Args:
        points: ``(N, 2)``, a t-SNE of the features, say.
        pseudo_labels: ``(N,)`` clusters, -1 for an outlier.
        only: Clusters to colour, the others are small and grey; by default the largest,
            as many as there are colours.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes: collections of the other clusters (where there are any), of each
        coloured cluster, and last of the outliers (where there are any).

    Raises:
        ReIDError: If the shapes do not fit, or ``only`` names more clusters than there
            are colours or one that has no image.

    Example:
        >>> ax = plot_cluster_map([[0, 0], [0, 1], [5, 5]], [0, 0, -1])
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['cluster 0', 'outliers (1)']
    """
    array, labels = _finite(points, "points"), _labels(pseudo_labels)
    if array.ndim != 2 or array.shape[1] != 2 or labels.shape != array.shape[:1]:
        raise ReIDError(
            f"points: got shape {array.shape} and pseudo_labels of shape "
            f"{labels.shape}; give (N, 2) and (N,)"
        )
    clustered = labels != OUTLIER
    names, counts = np.unique(labels[clustered], return_counts=True)
    if only is None:
        largest = np.argsort(-counts, kind="stable")[: len(COLOURS)]
        only = sorted(names[largest].tolist())
    absent = sorted({int(name) for name in only} - set(names.tolist()))
    if absent:
        raise ReIDError(
            f"only: no image has the cluster {absent[0]}; give clusters that occur "
            "among the pseudo labels; outliers are drawn in any case"
        )
    if clustered.any():
        ax = plot_embedding(
            array[clustered],
            labels[clustered],
            name="cluster",
            only=only,
            title=title,
            ax=ax,
        )
        for artist in ax.collections[:1] if len(names) > len(only) else ():
            artist.set_label("other clusters")
    else:
        ax = _axes(ax, (4.8, 4.2))
        ax.set(xticks=[], yticks=[], title=title or "")
        ax.grid(visible=False)
        ax.spines[["left", "bottom"]].set_visible(False)
    if not clustered.all():
        ax.scatter(
            array[~clustered, 0],
            array[~clustered, 1],
            s=15,
            facecolor="none",
            edgecolor=COLOURS[6],
            lw=0.7,
            label=f"outliers ({(~clustered).sum()})",
            zorder=1,
        )
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=1.3)
    return ax


def plot_sweep(
    sweeps: Mapping[str, Mapping[float, Any]],
    *,
    measures: Sequence[str] = ("clusters", "outlier_share", "pairwise_f", "nmi_cam"),
    xlabel: str = "eps",
    num_pids: int | None = None,
    title: str | None = None,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draw how clusters change with a setting: a panel a measure, a line a sweep.

    Args:
        sweeps: For each name (``"k1 = 15"``) the quality at each value of the setting:
            a ``ClusterQuality`` or a mapping with the ``measures``. NaN is a gap.
        measures: Fields to draw, in this order, each on a scale of its own from 0.
        xlabel: What the setting is.
        num_pids: True number of identities: a level in the panel of ``clusters``.
        title: Title of the figure.
        axes: As many axes as measures.

    Returns:
        ``(M,)`` axes, one per measure, each with one line per sweep.

    Raises:
        ReIDError: If there is no sweep or no measure, or if a quality lacks a field.

    Example:
        >>> sweep = {0.4: {"pairwise_f": 0.2}, 0.5: {"pairwise_f": 0.3}}
        >>> axes = plot_sweep({"k1 = 15": sweep}, measures=["pairwise_f"])
        >>> axes[0].lines[0].get_ydata().tolist()
        [0.2, 0.3]
    """
    lines = {
        name: {float(x): _fields(quality) for x, quality in sweep.items()}
        for name, sweep in sweeps.items()
    }
    if (
        not lines
        or not measures
        or len(lines) > len(COLOURS)
        or not all(lines.values())
    ):
        raise ReIDError(
            f"sweeps: got {len(lines)} and {len(measures)} measures; give from 1 to "
            f"{len(COLOURS)} sweeps of at least one value each, and a measure"
        )
    for name, sweep in lines.items():
        for x, quality in sweep.items():
            absent = [m for m in measures if quality.get(m) is None]
            if absent:
                raise ReIDError(
                    f"sweep {name!r} at {x:g}: has no {', '.join(absent)}; it has "
                    f"{', '.join(sorted(quality))}"
                )
    if axes is None:
        columns = min(2, len(measures))
        grid = plt.subplots(
            -(-len(measures) // columns),
            columns,
            figsize=(4.2 * columns, 2.7 * -(-len(measures) // columns)),
            layout="constrained",
            squeeze=False,
        )[1].ravel()
        for spare in grid[len(measures) :]:
            spare.remove()
        axes = list(grid[: len(measures)])
    if len(axes) != len(measures):
        raise ReIDError(f"axes: got {len(axes)} for {len(measures)} measures")
    for ax, measure in zip(axes, measures):
        for i, (name, sweep) in enumerate(lines.items()):
            xs = sorted(sweep)
            ax.plot(
                xs,
                [sweep[x][measure] for x in xs],
                color=COLOURS[i],
                marker=MARKERS[i],
                label=name,
            )
        if measure == "clusters" and num_pids is not None:
            ax.axhline(num_pids, color=INK, ls="--", lw=1.2, label="people")
        # From 0, so that heights compare; an adjusted index may lie below it.
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]) if _negative(ax) else 0.0)
        ax.set(xlabel=xlabel, title=MEASURES.get(measure, measure.replace("_", " ")))
    axes[0].legend()
    figure = axes[0].figure
    if title and figure is not None:
        figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    return np.array(axes, dtype=object)


def _negative(ax: Axes) -> bool:
    return any((np.asarray(line.get_ydata()) < 0).any() for line in ax.lines)


def _fields(quality: Any) -> Mapping[str, Any]:
    if is_dataclass(quality) and not isinstance(quality, type):
        return asdict(quality)
    return quality


def _labels(pseudo_labels: Any) -> np.ndarray:
    labels = _as_numpy(pseudo_labels)
    if (
        labels.ndim != 1
        or labels.size == 0
        or not np.issubdtype(labels.dtype, np.integer)
    ):
        raise ReIDError(
            f"pseudo_labels: got shape {labels.shape} and type {labels.dtype}; give at "
            f"least one whole number, {OUTLIER} for an outlier"
        )
    return labels
