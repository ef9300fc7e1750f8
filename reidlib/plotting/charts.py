"""Figures made of lines, bars and points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from reidlib.errors import ReIDError
from reidlib.plotting.inputs import as_numpy, finite
from reidlib.plotting.style import COLOURS, INK, MARKERS, PAPER, QUIET

LINES = ("-", "--", "-.", ":")


def new_axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """Return the given axes, or those of a new figure."""
    return ax or plt.subplots(figsize=size)[1]


def draw_lines(ax: Axes, curves: Mapping[str, tuple[Any, Any]], first: int = 0) -> None:
    """Draw lines, each with its name, its colour and its marker.

    Args:
        ax: Axes to draw into.
        curves: For each name ``x`` and ``y``.
        first: Number of the first colour and marker.
    """
    for i, (name, (x, y)) in enumerate(curves.items(), first):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        ax.plot(x, y, color=colour, marker=marker, label=name)


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
    lines = {}
    for name, curve in curves.items():
        ranks = sorted(curve)
        shares = finite([curve[rank] for rank in ranks], f"curve {name!r}")
        if shares.min() < 0 or shares.max() > 1:
            raise ReIDError(
                f"curve {name!r}: shares from {shares.min():g} to {shares.max():g}; "
                "give shares in [0, 1], not percent"
            )
        lines[name] = ranks, 100 * shares
    ax = new_axes(ax)
    draw_lines(ax, lines)
    every = sorted({rank for curve in curves.values() for rank in curve})
    # Rank 1 is the score that papers report, so it has its own tick.
    ax.set_xticks(every if len(every) <= 10 else [1, *range(5, every[-1] + 1, 5)])
    ax.set(title=title, xlabel="rank k", ylabel="queries found by rank k (%)")
    ax.set_ylim(0, 102)
    ax.legend(loc="lower right")
    return ax


def plot_curves(
    x: Sequence[Any],
    curves: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw lines over one axis of numbers or of names.

    Args:
        x: ``(K,)`` numbers, or names in their order.
        curves: For each line its ``(K,)`` values.
        xlabel: What ``x`` is.
        ylabel: What the values are.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, one line per curve.

    Raises:
        ReIDError: If there is no curve or too many, if a length differs from that of
            ``x``, or if a value is not finite.

    Example:
        >>> ax = plot_curves([1, 2], {"mAP": [0.1, 0.3]}, xlabel="p", ylabel="mAP")
        >>> ax.lines[0].get_ydata().tolist()
        [0.1, 0.3]
    """
    if not 1 <= len(curves) <= len(COLOURS):
        raise ReIDError(
            f"curves: got {len(curves)} of them; give from 1 to {len(COLOURS)}"
        )
    arrays = {name: finite(v, f"curve {name!r}") for name, v in curves.items()}
    for name, array in arrays.items():
        if array.shape != (len(x),):
            raise ReIDError(
                f"curve {name!r}: got shape {array.shape} for {len(x)} places on the "
                "axis; give one value for each"
            )
    ax = new_axes(ax)
    draw_lines(ax, {name: (x, array) for name, array in arrays.items()})
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title or "")
    if len(curves) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def plot_embedding(
    points: Any,
    by: Any,
    *,
    name: str = "camera",
    only: Sequence[Any] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw points of the plane (of a t-SNE, for instance), coloured by class.

    Args:
        points: ``(N, 2)``.
        by: ``(N,)`` class of each point.
        name: What a class is called in the legend.
        only: Classes to colour; the other points are small and grey. Needed if there
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
    array, classes = finite(points, "points"), as_numpy(by)
    if array.ndim != 2 or array.shape[1] != 2 or classes.shape != array.shape[:1]:
        raise ReIDError(
            f"points: got shape {array.shape} and by of shape {classes.shape}; give "
            "(N, 2) and (N,)"
        )
    shown = np.unique(classes) if only is None else np.asarray(list(only))
    if len(shown) > len(COLOURS):
        raise ReIDError(
            f"by: {len(shown)} classes for {len(COLOURS)} colours; give the classes to "
            "colour as only"
        )
    ax = new_axes(ax, (4.8, 4.2))
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
        level: Height of a dashed reference line.
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
            for value in finite(seeds, f"{group}, {series}").ravel()
        ],
        columns=["group", "series", "value"],
    )
    if table.empty:
        raise ReIDError("values: got none; give {group: {series: values of the seeds}}")
    groups, order = list(values), list(dict.fromkeys(table["series"]))
    if len(order) > len(COLOURS):
        raise ReIDError(f"values: {len(order)} series for {len(COLOURS)} colours")
    ax = new_axes(ax)
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

    All share the same bins, so that heights are comparable between groups of any size.
    A dashed line marks the median of each.

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
        name: finite(v, f"sample {name!r}").ravel() for name, v in samples.items()
    }
    everything = np.concatenate(list(arrays.values()))
    edges = np.histogram_bin_edges(everything, bins=bins).tolist()
    ax = new_axes(ax)
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


def plot_trade_off(
    curves: Mapping[str, tuple[Any, Any]],
    *,
    points: Mapping[str, tuple[float, float]] | None = None,
    xlabel: str = "false-match rate: pairs of different people accepted (%)",
    ylabel: str = "true matches found (%)",
    title: str = "True against false matches",
    ax: Axes | None = None,
) -> Axes:
    """Draw the true-match rate against the false-match rate, on a log axis.

    Low false-match rates matter most, and a linear axis does not resolve them.

    Args:
        curves: For each name the false-match rates, ascending, and the true-match
            rates, both in [0, 1]; the first two arrays of ``TradeOff.curve()``. A
            false-match rate of 0 is not on a log axis and is left out.
        points: For each name a pair of rates to mark, a threshold in use for instance.
        xlabel: What the horizontal axis is.
        ylabel: What the vertical axis is.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, one line per curve and then one per point, in percent. Lines are
        steps: between two thresholds nothing is interpolated.

    Raises:
        ReIDError: If there is no curve, if the two arrays do not fit, or if a rate is
            outside [0, 1].

    Example:
        >>> ax = plot_trade_off({"model": ([0.0, 0.01, 1.0], [0.2, 0.5, 1.0])})
        >>> ax.lines[0].get_xdata().tolist(), ax.lines[0].get_ydata().tolist()
        ([1.0, 100.0], [50.0, 100.0])
    """
    if not 0 < len(curves) <= len(COLOURS):
        raise ReIDError(
            f"curves: got {len(curves)}; give from 1 to {len(COLOURS)}, each with its "
            "false-match and true-match rates"
        )
    ax = new_axes(ax)
    for i, (name, curve) in enumerate(curves.items()):
        fpr, tpr = (finite(values, f"curve {name!r}") for values in curve)
        _check_rates(name, fpr, tpr)
        seen = fpr > 0
        ax.step(
            100 * fpr[seen],
            100 * tpr[seen],
            where="post",
            color=COLOURS[i],
            ls=LINES[i % len(LINES)],
            label=name,
        )
    for i, (name, point) in enumerate((points or {}).items()):
        x, y = (finite(value, f"point {name!r}") for value in point)
        _check_rates(name, np.atleast_1d(x), np.atleast_1d(y))
        ax.plot(
            [100 * float(x)],
            [100 * float(y)],
            ls="",
            marker=MARKERS[i % len(MARKERS)],
            ms=8,
            color=INK,
            mec=PAPER,
            label=name,
            zorder=3,
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel, ylim=(0, 102))
    ax.legend(loc="upper left")
    return ax


def _check_rates(name: str, fpr: np.ndarray, tpr: np.ndarray) -> None:
    if fpr.shape != tpr.shape or fpr.ndim != 1 or (np.diff(fpr) < 0).any():
        raise ReIDError(
            f"{name!r}: got false-match rates of shape {fpr.shape} and true-match "
            f"rates of shape {tpr.shape}; give two of one length, the former ascending"
        )
    low, high = min(fpr.min(), tpr.min()), max(fpr.max(), tpr.max())
    if low < 0 or high > 1:
        raise ReIDError(
            f"{name!r}: rates from {low:g} to {high:g}; give shares in [0, 1], not "
            "percent"
        )
