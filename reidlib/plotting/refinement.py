"""Figures of label refinement: what it takes away, when, and what that gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from reidlib.errors import ReIDError
from reidlib.plotting.charts import _axes
from reidlib.plotting.clusters import MEASURES, OUTLIER, _fields, _labels
from reidlib.plotting.style import COLOURS, HIT, INK, MARKERS, MISS, PAPER
from reidlib.plotting.tiles import (
    _as_images,
    _as_numpy,
    _Canvas,
    _caption,
    _column,
)

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)), "-")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++", "oo", "**")
EPOCH = {
    "discard_ratio": "images discarded (%)",
    "clusters": "number of clusters",
    "mAP": "mAP (%)",
}
SHARES = ("discard_ratio", "mAP")


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

    A row begins with the pivot, in a dark frame with a star. In the first row its own
    camera comes next: images that stay have green frames with a tick, and those that go
    vermillion ones with a cross. Then come the other cameras, of which local clusters
    say nothing: no frame, unless they are discarded, too. Of a cluster that is larger
    than its row, images are taken evenly from that order.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)`` as for `plot_images`, or anything
            whose ``images[row]`` is such an image: only those drawn are asked for.
        pivot: Row number of the pivot.
        pseudo_labels: ``(N,)`` global clusters, -1 for an outlier.
        local_labels: ``(N,)`` clusters inside each camera; a -1 is alone.
        pids: ``(N,)`` person ids, or None where nobody knows them.
        camids: ``(N,)`` camera ids.
        discarded: ``(N,)`` bool, what refinement took away.
        columns: Most images in a row.
        title: Title of the figure, completed by what the marks mean.
        ax: Axes to draw into.

    Returns:
        The axes: the images of the global cluster, then of the local and of the refined
        one, each in the order said.

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
    local = _column(_labels(local_labels), shape, "local_labels")
    persons = _column(pids, shape, "pids")
    cameras = _column(camids, shape, "camids")
    gone = _column(discarded, shape, "discarded")
    if local is None or cameras is None or gone is None or gone.dtype != bool:
        raise ReIDError("give local_labels, camids and discarded, the last one as bool")
    if not 0 <= pivot < len(labels) or columns < 2:
        raise ReIDError(
            f"pivot is {pivot} of {len(labels)} images, and a row has {columns}; give "
            "a row number, and two columns or more"
        )
    if labels[pivot] == OUTLIER or gone[pivot]:
        raise ReIDError(
            f"the pivot, row {pivot}, is {'discarded' if gone[pivot] else 'no member'} "
            "of a global cluster; give one of select_pivots, and what it discards"
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
    shown = {name: _evenly(row, columns) for name, row in rows.items()}
    every = np.concatenate(list(shown.values()))
    tiles = _as_images([_as_numpy(images[int(i)]) for i in every], 4, "images")
    aspect = tiles.shape[1] / tiles.shape[2]
    lines = 1 if persons is None else 2
    width = max(len(row) for row in shown.values())
    canvas = _Canvas(len(rows), width + 2, aspect, lines, ax)
    place = 0
    for number, (name, row) in enumerate(shown.items()):
        size = len(rows[name])
        some = f"{size} images" if size > len(row) else f"all {size}"
        canvas.ax.text(
            2 * canvas.step_x - 0.2,
            number * canvas.step_y + aspect / 2,
            f"{name}\n{some}",
            ha="right",
            va="center",
            fontsize=8,
        )
        for column, i in enumerate(row):
            frame, mark = None, ""
            if i == pivot:
                frame, mark = INK, "★"
            elif number == 0 and gone[i]:
                frame, mark = MISS, "✗"
            elif number == 0 and own[i]:
                frame, mark = HIT, "✓"
            pid = None if persons is None else persons[i]
            canvas.tile(
                number,
                column + 2,
                tiles[place],
                _caption(pid, cameras[i]),
                frame,
                mark,
            )
            place += 1
    meaning = "★ pivot, ✓ stays, ✗ goes; without a frame: not judged"
    return canvas.finish(f"{title} ({meaning})" if title else meaning)


def _ordered(
    member: np.ndarray,
    pivot: int,
    gone: np.ndarray,
    own: np.ndarray,
    cameras: np.ndarray,
) -> np.ndarray:
    """Return members: the pivot, its camera (what stays first), other cameras."""
    rows = np.flatnonzero(member)
    other = ~own[rows]
    keys = (rows, cameras[rows] * other, gone[rows] & ~other, other, rows != pivot)
    return rows[np.lexsort(keys)]


def _evenly(rows: np.ndarray, number: int) -> np.ndarray:
    if len(rows) <= number:
        return rows
    return rows[np.linspace(0, len(rows) - 1, number).round().astype(int)]


def plot_cluster_figures(
    qualities: Mapping[str, Sequence[Any]],
    places: Sequence[str],
    *,
    measures: Sequence[str] = (
        "pairwise_precision",
        "pairwise_recall",
        "pairwise_f",
        "expansion",
    ),
    xlabel: str = "camera",
    title: str | None = None,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draw how good several sets of clusters are, place by place (CALR-F4).

    Args:
        qualities: For each name (``"global"``, ``"local"``) the quality at each place:
            a ``ClusterQuality`` or a mapping with the ``measures``. NaN has no bar.
        places: Names of the places, cameras for instance.
        measures: Fields to draw, each in a panel of its own, from 0.
        xlabel: What the places are.
        title: Title of the figure.
        axes: As many axes as measures.

    Returns:
        ``(M,)`` axes, one per measure, each with one container of bars per name.

    Raises:
        ReIDError: If there is nothing to draw, a name has not one quality per place, or
            a quality lacks a field.

    Example:
        >>> one, two = {"purity": 0.5}, {"purity": 0.8}
        >>> clusters = {"global": [one, one], "local": [two, one]}
        >>> (ax,) = plot_cluster_figures(clusters, ["0", "1"], measures=["purity"])
        >>> [float(bar.get_height()) for bar in ax.containers[1]]
        [0.8, 0.5]
    """
    if not 1 <= len(qualities) <= len(COLOURS) or not len(places) or not measures:
        raise ReIDError(
            f"qualities: got {len(qualities)} sets for {len(places)} places and "
            f"{len(measures)} measures; give from 1 to {len(COLOURS)} sets, and at "
            "least one of the others"
        )
    table: dict[str, list[Mapping[str, Any]]] = {}
    for name, row in qualities.items():
        if len(row) != len(places):
            raise ReIDError(
                f"{name!r}: got {len(row)} qualities for {len(places)} places; give "
                "one for each"
            )
        table[name] = [_fields(quality) for quality in row]
        for place, quality in zip(places, table[name]):
            absent = [m for m in measures if quality.get(m) is None]
            if absent:
                raise ReIDError(
                    f"{name!r} at {place}: has no {', '.join(absent)}; it has "
                    f"{', '.join(sorted(quality))}"
                )
    axes = _panels(len(measures), axes, width=4.4, height=2.5)
    step = 0.8 / len(table)
    where = np.arange(len(places))
    for ax, measure in zip(axes, measures):
        for i, (name, row) in enumerate(table.items()):
            ax.bar(
                where + (i - (len(table) - 1) / 2) * step,
                [float(quality[measure]) for quality in row],
                width=0.9 * step,
                color=COLOURS[i],
                hatch=HATCHES[i],
                edgecolor=PAPER,
                lw=0,
                label=name,
            )
        ax.set_xticks(where, list(places))
        ax.grid(visible=False, axis="x")
        ax.set(xlabel=xlabel, title=MEASURES.get(measure, measure.replace("_", " ")))
    _legend(axes)
    _headline(axes, title)
    return np.array(axes, dtype=object)


def plot_schedules(
    schedules: Mapping[str, Any],
    *,
    title: str = "Probability to discard",
    ax: Axes | None = None,
) -> Axes:
    """Draw how the probability to discard falls over the epochs (CALR-T4).

    Args:
        schedules: For each name the probability of each epoch, in [0, 1].
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, one line per schedule, epochs counted from 1.

    Raises:
        ReIDError: If there is no schedule, an empty one, or a value outside [0, 1].

    Example:
        >>> ax = plot_schedules({"linear": [1.0, 0.5, 0.0]})
        >>> ax.lines[0].get_xdata().tolist(), ax.lines[0].get_ydata().tolist()
        ([1, 2, 3], [1.0, 0.5, 0.0])
    """
    if not 1 <= len(schedules) <= len(COLOURS):
        raise ReIDError(
            f"schedules: got {len(schedules)}; give from 1 to {len(COLOURS)}"
        )
    ax = _axes(ax)
    for i, (name, values) in enumerate(schedules.items()):
        array = _as_numpy(values).astype(np.float64)
        if array.ndim != 1 or not len(array) or not ((array >= 0) & (array <= 1)).all():
            raise ReIDError(
                f"schedule {name!r}: got shape {array.shape}; give the probability of "
                "each epoch, in [0, 1]"
            )
        epochs = np.arange(1, len(array) + 1)
        ax.plot(epochs, array, color=COLOURS[i], ls=LINES[i], label=name)
    ax.set(title=title, xlabel="epoch", ylabel="probability", ylim=(-0.03, 1.05))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def plot_refinement_epochs(
    runs: Mapping[str, Mapping[str, Any]],
    *,
    num_pids: int | None = None,
    title: str | None = None,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draw what is discarded, the clusters left, and mAP, over the epochs (CALR-F6).

    Args:
        runs: For each name its measures, of ``discard_ratio`` and ``mAP`` in [0, 1] and
            ``clusters``; each ``(E,)``, or ``(S, E)`` for S seeds, epochs from 1. NaN
            is a gap. A run may lack a measure, and one that all lack has no panel.
        num_pids: True number of identities: a level in the panel of ``clusters``.
        title: Title of the figure.
        axes: As many axes as there are panels.

    Returns:
        ``(M,)`` axes, one per measure. A run has its mean first, and then, where there
        are several seeds, a thin line for each.

    Raises:
        ReIDError: If there is nothing to draw, or a share is outside [0, 1].

    Example:
        >>> axes = plot_refinement_epochs({"CALR": {"discard_ratio": [0.5, 0.25]}})
        >>> [ax.get_ylabel() for ax in axes], axes[0].lines[0].get_ydata().tolist()
        (['images discarded (%)'], [50.0, 25.0])
    """
    measures = [m for m in EPOCH if any(m in run for run in runs.values())]
    if not measures or len(runs) > len(COLOURS):
        raise ReIDError(
            f"runs: got {len(runs)}; give from 1 to {len(COLOURS)}, with a measure of "
            f"{', '.join(EPOCH)}"
        )
    axes = _panels(len(measures), axes, width=3.4, height=3.0, columns=len(measures))
    for ax, measure in zip(axes, measures):
        for i, (name, run) in enumerate(runs.items()):
            if measure not in run:
                continue
            values = _seeds(run[measure], f"{name!r}, {measure}")
            if measure in SHARES:
                if ((values < 0) | (values > 1)).any():
                    raise ReIDError(
                        f"{name!r}, {measure}: a value is outside [0, 1]; give shares, "
                        "not percent"
                    )
                values = 100 * values
            epochs = np.arange(1, values.shape[1] + 1)
            _mean_and_seeds(ax, epochs, values, i, name)
        if measure == "clusters" and num_pids is not None:
            ax.axhline(num_pids, color=INK, ls="--", lw=1.2, label="people")
        ax.set(xlabel="epoch", ylabel=EPOCH[measure])
        ax.set_ylim(bottom=0)
    _legend(axes, first=list(runs))
    _headline(axes, title)
    return np.array(axes, dtype=object)


def plot_dose_response(
    doses: Sequence[float],
    treatments: Mapping[str, Any],
    *,
    difference: tuple[str, str] | None = None,
    xlabel: str = "camera shift",
    ylabel: str = "mAP (%)",
    title: str | None = None,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draw a measure against a dose, and the difference of two treatments (CALR-SHIFT).

    Differences are taken seed by seed, and so they are free of what makes one seed
    easier than another.

    Args:
        doses: ``(K,)`` values of a dial, ascending.
        treatments: For each name its values, ``(S, K)`` for S seeds. NaN has not been
            measured.
        difference: Two of the names: a second panel has the first minus the second.
        xlabel: What the dose is.
        ylabel: What is measured.
        title: Title of the figure.
        axes: One axes, or two where there is a difference.

    Returns:
        ``(1,)`` or ``(2,)`` axes. Each has, per line, the mean over the seeds that
        there are and then the seeds; the second one has a level at 0 before them.

    Raises:
        ReIDError: If shapes do not fit, doses do not ascend, or a name is unknown.

    Example:
        >>> values = {"plain": [[30.0, 20.0]], "refined": [[31.0, 24.0]]}
        >>> axes = plot_dose_response(
        ...     [0, 1], values, difference=("refined", "plain")
        ... )
        >>> axes[1].lines[1].get_ydata().tolist()
        [1.0, 4.0]
    """
    dose = np.asarray(doses, dtype=np.float64)
    if dose.ndim != 1 or not len(dose) or (np.diff(dose) <= 0).any():
        raise ReIDError(f"doses are {list(doses)}; give at least one, ascending")
    if not 1 <= len(treatments) <= len(COLOURS):
        raise ReIDError(
            f"treatments: got {len(treatments)}; give from 1 to {len(COLOURS)}"
        )
    table = {name: _seeds(values, name) for name, values in treatments.items()}
    for name, values in table.items():
        if values.shape[1] != len(dose):
            raise ReIDError(
                f"{name!r}: got shape {values.shape} for {len(dose)} doses; give "
                "(seeds, doses)"
            )
    if difference is not None:
        absent = [name for name in difference if name not in table]
        shapes = {table[name].shape for name in difference if name in table}
        if absent or len(shapes) != 1:
            raise ReIDError(
                f"difference: {' and '.join(difference)}; give two treatments of the "
                f"same seeds, of {', '.join(table)}"
            )
    number = 1 if difference is None else 2
    axes = _panels(number, axes, width=4.4, height=3.3)
    for i, (name, values) in enumerate(table.items()):
        _mean_and_seeds(axes[0], dose, values, i, name)
    axes[0].set(xlabel=xlabel, ylabel=ylabel)
    axes[0].legend()
    if difference is not None:
        first, second = difference
        axes[1].axhline(0, color=INK, lw=1.0)
        gain = table[first] - table[second]
        _mean_and_seeds(axes[1], dose, gain, len(table) % len(COLOURS), "mean")
        axes[1].set(
            xlabel=xlabel,
            ylabel=f"difference of {ylabel}",
            title=f"{first} minus {second}, seed by seed",
        )
    _headline(axes, title)
    return np.array(axes, dtype=object)


def _panels(
    number: int,
    axes: Sequence[Axes] | None,
    *,
    width: float,
    height: float,
    columns: int = 2,
) -> list[Axes]:
    if axes is None:
        columns = min(columns, number)
        rows = -(-number // columns)
        grid = plt.subplots(
            rows,
            columns,
            figsize=(width * columns, height * rows),
            layout="constrained",
            squeeze=False,
        )[1].ravel()
        for spare in grid[number:]:
            spare.remove()
        return list(grid[:number])
    if len(axes) != number:
        raise ReIDError(f"axes: got {len(axes)} for {number} panels")
    return list(axes)


def _seeds(values: Any, name: str) -> np.ndarray:
    """Return ``(S, E)`` float64, one row per seed."""
    array = np.atleast_2d(_as_numpy(values).astype(np.float64))
    if array.ndim != 2 or array.size == 0 or np.isinf(array).any():
        raise ReIDError(
            f"{name}: got shape {array.shape}; give one value per place, or one row of "
            "them per seed, finite or NaN"
        )
    return array


def _mean_and_seeds(
    ax: Axes, x: np.ndarray, values: np.ndarray, i: int, name: str
) -> None:
    """Draw the mean of the seeds that there are, and thinly each of them."""
    there = np.isfinite(values)
    count = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    ax.plot(x, mean, color=COLOURS[i], marker=MARKERS[i], label=name, zorder=3)
    if len(values) > 1:
        for row in values:
            ax.plot(x, row, color=COLOURS[i], lw=0.8, alpha=0.5)


def _legend(axes: Sequence[Axes], first: Sequence[str] = ()) -> None:
    """Name each line or bar once, above all panels; some of them before others."""
    entries: dict[str, Any] = dict.fromkeys(first)
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            entries[label] = entries.get(label) or handle
    entries = {label: handle for label, handle in entries.items() if handle}
    figure = axes[0].get_figure(root=True)
    if len(entries) < 2 or figure is None:
        return
    if figure.get_layout_engine() is None:  # nobody makes room outside the panels
        axes[0].legend(list(entries.values()), list(entries))
        return
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside upper right",
        ncols=len(entries),
    )


def _headline(axes: Sequence[Axes], title: str | None) -> None:
    figure = axes[0].figure
    if title and figure is not None:
        figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
