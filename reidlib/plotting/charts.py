"""Figures made of lines, bars and points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reidlib.errors import ReIDError
from reidlib.plotting.style import COLOURS, INK, MARKERS, QUIET
from reidlib.plotting.tiles import _as_numpy

HEALTH = {
    "pairwise_precision": "pair precision",
    "pairwise_recall": "pair recall",
    "outlier_share": "outlier share",
    "nmi_cam": "NMI with camera",
}


def _axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    return plt.subplots(figsize=size)[1] if ax is None else ax


def _finite(values: Any, name: str) -> np.ndarray:
    array = _as_numpy(values).astype(np.float64)
    bad = int((~np.isfinite(array)).sum())
    if array.size == 0 or bad:
        raise ReIDError(
            f"{name}: got {array.size} values, {bad} of them not finite; give at least "
            "one value and only finite ones"
        )
    return array


def plot_cmc(
    curves: Mapping[str, Mapping[int, float]],
    *,
    title: str = "Cumulative match characteristic",
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of queries whose person is found within the first k ranks.

    Args:
        curves: For each name the values of ``Evaluation.cmc``: rank to share in [0, 1].
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, one line per curve, in percent.

    Raises:
        ReIDError: If there is no curve, an empty one, or a share outside [0, 1].

    Example:
        >>> ax = plot_cmc({"direct": {1: 0.25, 5: 0.5}})
        >>> ax.lines[0].get_ydata().tolist()
        [25.0, 50.0]
    """
    if not curves:
        raise ReIDError("curves: got none; give a name and its {rank: share}")
    ax = _axes(ax)
    for i, (name, curve) in enumerate(curves.items()):
        ranks = sorted(curve)
        shares = _finite([curve[rank] for rank in ranks], f"curve {name!r}")
        if shares.min() < 0 or shares.max() > 1:
            raise ReIDError(
                f"curve {name!r}: shares from {shares.min():g} to {shares.max():g}; "
                "give shares in [0, 1], not percent"
            )
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        ax.plot(ranks, 100 * shares, color=colour, marker=marker, label=name)
    every = sorted({rank for curve in curves.values() for rank in curve})
    # Rank 1 is the number that everybody looks for, so it has its tick.
    ax.set_xticks(every if len(every) <= 10 else [1, *range(5, every[-1] + 1, 5)])
    ax.set(title=title, xlabel="rank k", ylabel="queries found by rank k (%)")
    ax.set_ylim(0, 102)
    ax.legend(loc="lower right")
    return ax


def plot_health(
    epochs: Sequence[Any],
    *,
    num_pids: int | None = None,
    measures: Sequence[str] = tuple(HEALTH),
    title: str = "Health of the pseudo labels",
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draw how good the pseudo labels of each epoch were.

    Args:
        epochs: One entry per epoch, a ``ClusterQuality`` or a mapping with its fields:
            ``clusters`` and the ``measures``. A mapping may carry its ``epoch``, else
            entries count from 1.
        num_pids: True number of identities, drawn as the line to reach.
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
    rows = [
        asdict(entry) if is_dataclass(entry) and not isinstance(entry, type) else entry
        for entry in epochs
    ]
    if not rows:
        raise ReIDError("epochs: got none; give the cluster quality of each epoch")
    for i, row in enumerate(rows):
        absent = [name for name in ("clusters", *measures) if row.get(name) is None]
        if absent:
            raise ReIDError(
                f"epochs[{i}]: has no {', '.join(absent)}; it has "
                f"{', '.join(sorted(row))}; name the fields to draw in measures"
            )
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")[1]
    first, second = axes
    epoch = [row.get("epoch", i + 1) for i, row in enumerate(rows)]
    clusters = [row["clusters"] for row in rows]
    first.plot(epoch, clusters, color=COLOURS[0], marker=MARKERS[0], label="clusters")
    if num_pids is not None:
        first.axhline(num_pids, color=INK, ls="--", lw=1.2, label="identities")
        first.legend()
    first.set_ylim(bottom=0)
    first.set(title=title, xlabel="epoch", ylabel="number of clusters")
    for i, name in enumerate(measures):
        second.plot(
            epoch,
            [row[name] for row in rows],
            color=COLOURS[(i + 1) % len(COLOURS)],
            marker=MARKERS[(i + 1) % len(MARKERS)],
            label=HEALTH.get(name, name.replace("_", " ")),
        )
    second.set_ylim(-0.02, 1.02)
    second.set(xlabel="epoch", ylabel="share, or NMI")
    second.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for ax in (first, second):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return np.array([first, second], dtype=object)


def plot_embedding(
    points: Any,
    by: Any,
    *,
    name: str = "camera",
    only: Sequence[Any] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw points of the plane (a t-SNE, say), coloured and marked by a class.

    Args:
        points: ``(N, 2)``.
        by: ``(N,)`` class of each point.
        name: What a class is called in the legend.
        only: Classes to colour; the other points are small and grey. Needed where there
            are more classes than the 8 pairs of colour and marker.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, one collection per coloured class, a grey one before them where there
        are other points.

    Raises:
        ReIDError: If the shapes do not fit, or if there are too many classes.

    Example:
        >>> ax = plot_embedding([[0, 0], [1, 1], [2, 0]], [4, 4, 5])
        >>> [len(dots.get_offsets()) for dots in ax.collections]
        [2, 1]
    """
    array, classes = _finite(points, "points"), _as_numpy(by)
    if array.ndim != 2 or array.shape[1] != 2 or classes.shape != array.shape[:1]:
        raise ReIDError(
            f"points: got shape {array.shape} and by of shape {classes.shape}; give "
            "(N, 2) and (N,)"
        )
    shown = np.unique(classes) if only is None else np.asarray(list(only))
    if len(shown) > len(COLOURS):
        raise ReIDError(
            f"by: {len(shown)} classes for {len(COLOURS)} colours; name those to "
            "colour in only"
        )
    ax = _axes(ax, (4.8, 4.2))
    rest = ~np.isin(classes, shown)
    if rest.any():
        ax.scatter(
            array[rest, 0], array[rest, 1], s=5, color=QUIET, lw=0, label="others"
        )
    for i, value in enumerate(shown):
        here = array[classes == value]
        ax.scatter(
            here[:, 0],
            here[:, 1],
            s=30 if rest.any() else 16,
            alpha=0.85,
            lw=0,
            color=COLOURS[i],
            marker=MARKERS[i],
            label=f"{name} {value}",
        )
    ax.set(xticks=[], yticks=[], title=title or "")
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=1.3)
    return ax


def plot_bars(
    values: Mapping[str, Mapping[str, Any]],
    *,
    ylabel: str = "%",
    level: float | None = None,
    level_name: str = "chance",
    digits: int = 1,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw means over seeds as bars, with a standard deviation and a number on each.

    Args:
        values: For each group on the horizontal axis, for each series, the values of
            the seeds: ``{"Rank-1": {"direct": [33.9], "baseline": [66.2, 64.8]}}``.
        ylabel: What the values are.
        level: Height of a dashed line to compare with.
        level_name: Its name.
        digits: Decimals of the numbers.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, one container of bars per series.

    Raises:
        ReIDError: If nothing is given or a value is not finite.

    Example:
        >>> ax = plot_bars({"mAP": {"direct": [10.0], "baseline": [40.0, 44.0]}})
        >>> [text.get_text() for text in ax.texts]
        ['10.0', '42.0 ± 2.8']
    """
    table = pd.DataFrame(
        [
            (group, series, value)
            for group, members in values.items()
            for series, seeds in members.items()
            for value in _finite(seeds, f"{group}, {series}").ravel()
        ],
        columns=["group", "series", "value"],
    )
    if table.empty:
        raise ReIDError("values: got none; give {group: {series: values of the seeds}}")
    groups, order = list(values), list(dict.fromkeys(table["series"]))
    if len(order) > len(COLOURS):
        raise ReIDError(f"values: {len(order)} series for {len(COLOURS)} colours")
    ax = _axes(ax)
    sns.barplot(
        table,
        x="group",
        y="value",
        hue="series",
        order=groups,
        hue_order=order,
        palette=list(COLOURS[: len(order)]),
        saturation=1.0,
        errorbar="sd",
        err_kws={"color": INK, "linewidth": 1.2},
        capsize=0.15,
        gap=0.08,
        legend=len(order) > 1,
        ax=ax,
    )
    grouped = table.groupby(["series", "group"])["value"]
    means, deviations = grouped.mean(), grouped.std()
    for series, bars in zip(order, ax.containers):
        present = [group for group in groups if (series, group) in means.index]
        for group, bar in zip(present, bars):
            deviation = deviations[series, group]
            text = f"{means[series, group]:.{digits}f}"
            if np.isfinite(deviation):
                text += f" ± {deviation:.{digits}f}"
            top = means[series, group] + np.nan_to_num(deviation)
            middle = bar.get_x() + bar.get_width() / 2
            ax.annotate(
                text,
                (middle, max(top, 0.0)),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7.5,
            )
    if level is not None:
        ax.axhline(level, color=INK, ls="--", lw=1.2, label=level_name)
    if len(order) > 1 or level is not None:
        ax.legend(title=None, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.grid(visible=False, axis="x")
    ax.margins(y=0.12)
    ax.set(xlabel="", ylabel=ylabel, title=title or "")
    return ax


def plot_distributions(
    samples: Mapping[str, Any],
    *,
    xlabel: str,
    bins: int = 40,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw histograms over each other, each with an area of one.

    All share their bins, so that heights compare between groups of any size; the median
    of each is a dashed line.

    Args:
        samples: For each name its values.
        xlabel: What the values are.
        bins: Number of bins from the smallest to the largest value.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, one outline (a ``patch``) and one median (a line) per group.

    Raises:
        ReIDError: If a group is empty or not finite, or if there is none.

    Example:
        >>> samples = {"same": [0.8, 0.9], "other": [0.1]}
        >>> ax = plot_distributions(samples, xlabel="cosine")
        >>> [round(float(line.get_xdata()[0]), 2) for line in ax.lines]
        [0.85, 0.1]
    """
    if not samples or len(samples) > len(COLOURS):
        raise ReIDError(
            f"samples: got {len(samples)} groups; give from 1 to {len(COLOURS)} of them"
        )
    arrays = {
        name: _finite(v, f"sample {name!r}").ravel() for name, v in samples.items()
    }
    everything = np.concatenate(list(arrays.values()))
    edges = np.histogram_bin_edges(everything, bins=bins).tolist()
    ax = _axes(ax)
    for (name, array), colour in zip(arrays.items(), COLOURS):
        ax.hist(
            array,
            edges,
            density=True,
            histtype="stepfilled",
            facecolor=(colour, 0.25),
            edgecolor=colour,
            lw=1.6,
            label=f"{name} ({len(array):,})",
        )
        ax.axvline(float(np.median(array)), color=colour, ls="--", lw=1.2)
    ax.set(xlabel=xlabel, ylabel="density", title=title or "")
    ax.legend(title="dashed: median", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax
