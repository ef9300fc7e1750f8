"""Figures of thresholds: trade-offs between two errors, and rates by camera pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter, LogLocator

from reidlib.errors import ReIDError
from reidlib.plotting.charts import _axes, _finite
from reidlib.plotting.style import COLOURS, INK, MARKERS, PAPER, QUIET
from reidlib.plotting.tiles import _as_numpy

LINES = ("-", "--", "-.", ":")


def plot_trade_off(
    curves: Mapping[str, tuple[Any, Any]],
    *,
    points: Mapping[str, tuple[float, float]] | None = None,
    xlabel: str = "false-match rate: pairs of different people accepted (%)",
    ylabel: str = "true matches found (%)",
    title: str = "True against false matches",
    ax: Axes | None = None,
) -> Axes:
    """Draw the share that is found against the share of false alarms, on a log axis.

    What matters lies at low rates, which a linear axis presses into its first
    millimetre.

    Args:
        curves: For each name the false-match rates, ascending, and the true-match
            rates, both in [0, 1]; the first two arrays of ``TradeOff.curve()``. A rate
            of 0 has no place on the axis and is left out.
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
    ax = _axes(ax)
    for i, (name, curve) in enumerate(curves.items()):
        fpr, tpr = (_finite(values, f"curve {name!r}") for values in curve)
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
        x, y = (_finite(value, f"point {name!r}") for value in point)
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


def plot_identification(
    curves: Mapping[str, tuple[Any, Any]],
    *,
    points: Mapping[str, tuple[float, float]] | None = None,
    title: str = "Searches, some for people who are not there",
    ax: Axes | None = None,
) -> Axes:
    """Draw the rate of right alarms against that of false alarms, over searches.

    A curve ends, at the right, at its Rank-1: with a threshold that lets everything
    pass, every search raises an alarm.

    Args:
        curves: For each name the FPIR and the DIR, see
            ``reidlib.evaluation.identification``.
        points: For each name a pair of rates to mark.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, as those of :func:`plot_trade_off`.

    Raises:
        ReIDError: As :func:`plot_trade_off`.

    Example:
        >>> ax = plot_identification({"model": ([0.1, 1.0], [0.2, 0.4])})
        >>> ax.lines[0].get_ydata().tolist()
        [20.0, 40.0]
    """
    ax = plot_trade_off(
        curves,
        points=points,
        xlabel="FPIR: searches for absent people that raise an alarm (%)",
        ylabel="DIR: right person first, and near (%)",
        title=title,
        ax=ax,
    )
    top = max(100 * float(_as_numpy(tpr).max()) for _, tpr in curves.values())
    ax.set_ylim(0, min(102, max(10, 1.3 * top)))
    return ax


def plot_camera_pairs(
    values: Any,
    cameras: Any = None,
    *,
    label: str = "%",
    digits: int = 1,
    limits: tuple[float, float] | None = None,
    marked: Any = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a number for each pair of cameras, the number written in its cell.

    Args:
        values: ``(C, C)``; NaN where there is none. A symmetric matrix is drawn without
            its upper half, which says the same.
        cameras: ``(C,)`` camera ids; by default 0 to C - 1.
        label: What the numbers are.
        digits: Decimals of the numbers.
        limits: Values of the darkest and the lightest colour, to compare two figures by
            colour; by default the smallest and the largest number.
        marked: ``(C, C)`` bool, cells whose number gets an asterisk.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, whose ``texts`` are the numbers, row by row.

    Raises:
        ReIDError: If the shapes do not fit or if there is no number.

    Example:
        >>> ax = plot_camera_pairs([[6.5, 0.2], [0.2, float("nan")]])
        >>> [text.get_text() for text in ax.texts]
        ['6.5', '0.2', '–']
    """
    array = _as_numpy(values).astype(np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
        raise ReIDError(f"values: got shape {array.shape}; give (cameras, cameras)")
    size = len(array)
    ids = np.arange(size) if cameras is None else _as_numpy(cameras)
    star = np.zeros_like(array, dtype=bool) if marked is None else _as_numpy(marked)
    if ids.shape != (size,) or star.shape != array.shape:
        raise ReIDError(
            f"values of shape {array.shape} with cameras of shape {ids.shape} and "
            f"marked of shape {star.shape}; give one id per camera and one mark per "
            "pair"
        )
    if not np.isfinite(array).any():
        raise ReIDError("values: no cell has a finite number; nothing to draw")
    shown = np.ones_like(array, dtype=bool)
    if np.array_equal(array, array.T, equal_nan=True):
        shown = np.tril(shown)
    low, high = limits or (float(np.nanmin(array)), float(np.nanmax(array)))
    norm, colours = Normalize(low, high, clip=True), colormaps["cividis"]
    ax = _axes(ax, (4.4, 3.9))
    picture = np.ma.masked_invalid(np.where(shown, array, np.nan))
    image = ax.imshow(picture, cmap=colours, norm=norm)
    for row, column in zip(*np.nonzero(shown), strict=True):
        value = array[row, column]
        if not np.isfinite(value):
            text, ink = "–", QUIET
        else:
            red, green, blue, _ = colours(norm(value))
            light = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
            text, ink = f"{value:.{digits}f}", INK if light else PAPER
            text += "*" if star[row, column] else ""
        ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    ticks = np.arange(size)
    ax.set_xticks(ticks, [str(camid) for camid in ids])
    ax.set_yticks(ticks, [str(camid) for camid in ids])
    ax.set(title=title or "", xlabel="camera", ylabel="camera")
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85)
    bar.set_label(label)
    bar.outline.set_visible(False)
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
