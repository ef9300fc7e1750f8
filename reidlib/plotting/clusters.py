"""Figures of clusters: their images and their quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reidlib.data.table import DISTRACTOR
from reidlib.errors import ReIDError
from reidlib.labels.pseudo_labels import OUTLIER
from reidlib.plotting.charts import draw_lines
from reidlib.plotting.inputs import as_images, as_numpy, per_image
from reidlib.plotting.style import COLOURS, HIT, INK, MISS
from reidlib.plotting.tiles import Canvas, caption_of

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
"""Measures of cluster quality and what a figure calls them."""

HEALTH = ("pairwise_precision", "pairwise_recall", "outlier_share", "nmi_cam")


def measure_name(measure: str) -> str:
    """Return what a figure calls a measure of cluster quality.

    Example:
        >>> measure_name("nmi_cam"), measure_name("same_camera_share")
        ('NMI with camera', 'same camera share')
    """
    return MEASURES.get(measure, measure.replace("_", " "))


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
    """Draw some clusters, one in a row, and mark the images of other people.

    Images of the cluster's most frequent person have green frames with a tick, all
    others have vermillion frames with a cross; of equally frequent people, the one with
    the lowest id counts. Images are grouped by person, the most frequent person first.
    If a cluster is larger than its row, images are taken evenly from that order, so
    that the row keeps the cluster's proportions. Outliers have no frame, because they
    form no cluster.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)`` as for `plot_images`, or anything
            whose ``images[row]`` is such an image: only drawn images are read.
        pseudo_labels: ``(N,)`` clusters, -1 for an outlier.
        pids: ``(N,)`` person ids; ids up to 0 are no known person.
        camids: ``(N,)`` camera ids.
        clusters: Clusters to draw, -1 for the outliers; by default the five largest.
        columns: Most images in a row.
        title: Title of the figure, completed by what the marks mean.
        ax: Axes to draw into.

    Returns:
        The axes; row by row, images in this order.

    Raises:
        ReIDError: If the shapes do not fit, or a cluster has no image.

    Example:
        >>> images = np.zeros((3, 8, 4, 3), np.uint8)
        >>> ax = plot_clusters(images, [0, 0, 0], pids=[5, 7, 7], camids=[0, 1, 2])
        >>> [text.get_text() for text in ax.texts if text.get_text() in "✓✗"]
        ['✓', '✓', '✗']
    """
    labels = _labels(pseudo_labels)
    persons = per_image(pids, labels.shape, "pids")
    cameras = per_image(camids, labels.shape, "camids")
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
    rows, majors = {}, {}
    for name in map(int, clusters):
        text = "outliers" if name == OUTLIER else f"cluster {name}"
        rows[text], majors[text] = _by_person(labels == name, persons)

    def look(row: str, i: int) -> tuple[str | None, str]:
        if row == "outliers":
            return None, ""
        return (HIT, "✓") if persons[i] == majors[row] else (MISS, "✗")

    canvas = _draw_rows(images, rows, columns, 1, persons, cameras, look, ax)
    meaning = "✓ the cluster's most frequent person, ✗ another"
    return canvas.finish(f"{title} ({meaning})" if title else meaning)


def _by_person(
    member: np.ndarray, persons: np.ndarray
) -> tuple[np.ndarray, int | None]:
    """Return a cluster's images, person by person, and its most frequent person."""
    inside = np.flatnonzero(member)
    names, which, counts = np.unique(
        persons[inside], return_inverse=True, return_counts=True
    )
    known = names > DISTRACTOR
    major = int(names[np.argmax(np.where(known, counts, 0))]) if known.any() else None
    # By frequency, then by id, then by row of the table.
    return inside[np.lexsort((names[which], -(counts * known)[which]))], major


def _draw_rows(
    images: Any,
    rows: Mapping[str, np.ndarray],
    columns: int,
    lead: int,
    persons: np.ndarray | None,
    cameras: np.ndarray,
    look: Callable[[str, int], tuple[str | None, str]],
    ax: Axes | None,
) -> Canvas:
    """Draw rows of images beside their names; too long rows are sampled evenly.

    Args:
        images: As for `plot_clusters`.
        rows: For each name the rows of its images.
        columns: Most images in a row.
        lead: Columns that the names take.
        persons: ``(N,)`` person ids, if known.
        cameras: ``(N,)`` camera ids.
        look: Colour of the frame and mark of an image in a row.
        ax: Axes to draw into.
    """
    shown = {name: _evenly(row, columns) for name, row in rows.items()}
    chosen = np.concatenate(list(shown.values()))
    tiles = as_images([as_numpy(images[int(i)]) for i in chosen], 4, "images")
    aspect = tiles.shape[1] / tiles.shape[2]
    width = max(map(len, shown.values()))
    lines = 1 if persons is None else 2
    canvas = Canvas(len(rows), width + lead, aspect, lines, ax)
    tile = iter(tiles)
    for number, (name, row) in enumerate(shown.items()):
        size = len(rows[name])
        some = f"{size} images" if size > len(row) else f"all {size}"
        canvas.ax.text(
            lead * canvas.step_x - 0.2,
            number * canvas.step_y + aspect / 2,
            f"{name}\n{some}",
            ha="right",
            va="center",
            fontsize=7.5,
        )
        for column, i in enumerate(row, lead):
            pid = None if persons is None else persons[i]
            caption = caption_of(pid, cameras[i])
            canvas.tile(number, column, next(tile), caption, *look(name, int(i)))
    return canvas


def _evenly(rows: np.ndarray, number: int) -> np.ndarray:
    """Return this many rows, or all of them if there are fewer, in their order."""
    number = min(number, len(rows))
    return rows[np.linspace(0, len(rows) - 1, number).round().astype(int)]


def plot_refined_cluster(
    images: Any,
    pivot: int,
    pseudo_labels: Any,
    local_labels: Any,
    pids: Any,
    camids: Any,
    discarded: Any,
    *,
    columns: int = 12,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a pivot with its global, its local and its refined cluster (CALR-F3).

    Each row begins with the pivot, in a dark frame with a star. In the first row,
    images of the pivot's camera come next: those that are kept have green frames with a
    tick, those that are discarded have vermillion frames with a cross. Images of other
    cameras follow. Local clusters do not judge them, so they have no frame unless they
    are discarded. If a cluster is larger than its row, images are taken evenly from
    that order.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)`` as for `plot_images`, or anything
            whose ``images[row]`` is such an image: only drawn images are read.
        pivot: Row number of the pivot.
        pseudo_labels: ``(N,)`` global clusters, -1 for an outlier.
        local_labels: ``(N,)`` clusters inside each camera; an image with -1 is alone.
        pids: ``(N,)`` person ids, or None if they are unknown.
        camids: ``(N,)`` camera ids.
        discarded: ``(N,)`` bool, the images that refinement discarded.
        columns: Most images in a row.
        title: Title of the figure, completed by what the marks mean.
        ax: Axes to draw into.

    Returns:
        The axes: the images of the global cluster, then of the local and of the refined
        one, each in this order.

    Raises:
        ReIDError: If shapes do not fit, or the pivot is discarded or in no cluster.

    Example:
        >>> images = np.zeros((4, 8, 4, 3), np.uint8)
        >>> clusters, local, camids = [0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]
        >>> gone = np.array([False, False, True, False])
        >>> ax = plot_refined_cluster(images, 0, clusters, local, None, camids, gone)
        >>> [text.get_text() for text in ax.texts if text.get_text() in "★✓✗"]
        ['★', '✓', '✗', '★', '★']
        >>> len(ax.images)  # 4 in the global cluster, 2 in the local one, 3 stay
        9
    """
    labels = _labels(pseudo_labels)
    shape = labels.shape
    local = per_image(_labels(local_labels), shape, "local_labels")
    persons = per_image(pids, shape, "pids")
    cameras = per_image(camids, shape, "camids")
    gone = per_image(discarded, shape, "discarded")
    if local is None or cameras is None or gone is None or gone.dtype != bool:
        raise ReIDError("give local_labels, camids and discarded, the last one as bool")
    if not 0 <= pivot < len(labels) or columns < 2:
        raise ReIDError(
            f"pivot is {pivot} of {len(labels)} images, and a row has {columns}; give "
            "a row number, and two columns or more"
        )
    if labels[pivot] == OUTLIER or gone[pivot]:
        raise ReIDError(
            f"the pivot, row {pivot}, is "
            f"{'discarded' if gone[pivot] else 'in no global cluster'}; give a pivot "
            "from select_pivots, and the images discarded with it"
        )
    member = labels == labels[pivot]
    own = cameras == cameras[pivot]
    mates = (local == local[pivot]) & own & (local[pivot] != OUTLIER)
    mates[pivot] = True
    rows = {
        "global cluster": _ordered(member, pivot, gone, own, cameras),
        "local cluster": _ordered(mates, pivot, gone, own, cameras),
        "refined cluster": _ordered(member & ~gone, pivot, gone, own, cameras),
    }

    def look(row: str, i: int) -> tuple[str | None, str]:
        if i == pivot:
            return INK, "★"
        if row == "global cluster" and gone[i]:
            return MISS, "✗"
        if row == "global cluster" and own[i]:
            return HIT, "✓"
        return None, ""

    canvas = _draw_rows(images, rows, columns, 2, persons, cameras, look, ax)
    meaning = "★ pivot, ✓ stays, ✗ goes; without a frame: not judged"
    return canvas.finish(f"{title} ({meaning})" if title else meaning)


def _ordered(
    member: np.ndarray,
    pivot: int,
    gone: np.ndarray,
    own: np.ndarray,
    cameras: np.ndarray,
) -> np.ndarray:
    """Return members: the pivot, its camera (kept images first), other cameras."""
    rows = np.flatnonzero(member)
    other = ~own[rows]
    keys = (rows, cameras[rows] * other, gone[rows] & ~other, other, rows != pivot)
    return rows[np.lexsort(keys)]


def plot_health(
    epochs: Sequence[Any],
    *,
    num_pids: int | None = None,
    measures: Sequence[str] = HEALTH,
    title: str = "Health of the pseudo labels",
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draw the quality of the pseudo labels of each epoch.

    Args:
        epochs: One entry per epoch, a ``ClusterQuality`` or a mapping with its fields:
            ``clusters`` and the ``measures``. A mapping may carry its ``epoch``, else
            entries count from 1.
        num_pids: True number of identities, drawn as a dashed line.
        measures: Fields of the second panel, all in [0, 1].
        title: Title of the first panel.
        axes: Two axes to draw into.

    Returns:
        ``(2,)`` axes: the number of clusters, and the measures.

    Raises:
        ReIDError: If there is no epoch or if one lacks a field.

    Example:
        >>> one = {"clusters": 9, "outlier_share": 0.5, "nmi_cam": 0.2}
        >>> axes = plot_health([one], measures=["outlier_share", "nmi_cam"])
        >>> [line.get_label() for line in axes[1].lines]
        ['outlier share', 'NMI with camera']
    """
    if not len(epochs):
        raise ReIDError("epochs: got none; give the cluster quality of each epoch")
    needed = ("clusters", *measures)
    rows = [_fields(entry, needed, f"epochs[{i}]") for i, entry in enumerate(epochs)]
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")[1]
    first, second = axes
    epoch = [row.get("epoch", i + 1) for i, row in enumerate(rows)]
    draw_lines(first, {"clusters": (epoch, [row["clusters"] for row in rows])})
    if num_pids is not None:
        first.axhline(num_pids, color=INK, ls="--", lw=1.2, label="identities")
        first.legend()
    first.set_ylim(bottom=0)
    first.set(title=title, xlabel="epoch", ylabel="number of clusters")
    shares = {measure_name(m): (epoch, [row[m] for row in rows]) for m in measures}
    draw_lines(second, shares, first=1)
    second.set_ylim(-0.02, 1.02)
    second.set(xlabel="epoch", ylabel="share, or NMI")
    second.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for ax in (first, second):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return np.array([first, second], dtype=object)


def plot_sweep(
    sweeps: Mapping[str, Mapping[float, Any]],
    *,
    measures: Sequence[str] = ("clusters", "outlier_share", "pairwise_f", "nmi_cam"),
    xlabel: str = "eps",
    num_pids: int | None = None,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draw how clusters change with a setting: a panel per measure, a line per sweep.

    Args:
        sweeps: For each name (``"k1 = 15"``) the quality at each value of the setting:
            a ``ClusterQuality`` or a mapping with the ``measures``. NaN is a gap.
        measures: Fields to draw, in this order, each on a scale of its own from 0.
        xlabel: What the setting is.
        num_pids: True number of identities, drawn as a line in the panel ``clusters``.
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
    if not 1 <= len(sweeps) <= len(COLOURS) or not measures or not all(sweeps.values()):
        raise ReIDError(
            f"sweeps: got {len(sweeps)} and {len(measures)} measures; give from 1 to "
            f"{len(COLOURS)} sweeps of at least one value each, and a measure"
        )
    lines = {
        name: {x: _fields(q, measures, f"sweep {name!r} at {x:g}") for x, q in sweep}
        for name, sweep in ((n, sorted(s.items())) for n, s in sweeps.items())
    }
    if axes is None:
        columns = min(2, len(measures))
        rows = -(-len(measures) // columns)
        size = (4.2 * columns, 2.7 * rows)
        figure = plt.figure(figsize=size, layout="constrained")
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(len(measures))]
    if len(axes) != len(measures):
        raise ReIDError(f"axes: got {len(axes)} for {len(measures)} measures")
    for ax, measure in zip(axes, measures):
        curves = {
            name: (list(sweep), [quality[measure] for quality in sweep.values()])
            for name, sweep in lines.items()
        }
        draw_lines(ax, curves)
        if measure == "clusters" and num_pids is not None:
            ax.axhline(num_pids, color=INK, ls="--", lw=1.2, label="people")
        # From 0, so that heights are comparable; an adjusted index may be negative.
        lowest = min((y for _, ys in curves.values() for y in ys if y < 0), default=0)
        ax.set_ylim(bottom=ax.get_ylim()[0] if lowest < 0 else 0)
        ax.set(xlabel=xlabel, title=measure_name(measure))
    axes[0].legend()
    return np.array(axes, dtype=object)


def _fields(quality: Any, needed: Sequence[str], where: str) -> Mapping[str, Any]:
    """Return a ``ClusterQuality`` or a mapping as a mapping with the needed fields."""
    row = quality if isinstance(quality, Mapping) else asdict(quality)
    absent = [name for name in needed if row.get(name) is None]
    if absent:
        raise ReIDError(
            f"{where}: has no {', '.join(absent)}; it has {', '.join(sorted(row))}; "
            "name the fields to draw in measures"
        )
    return row


def _labels(pseudo_labels: Any) -> np.ndarray:
    labels = as_numpy(pseudo_labels)
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
