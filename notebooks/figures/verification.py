"""Chapter 6: searches for people who are not there, and rates of camera pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from reidlib.plotting import plot_trade_off
from reidlib.plotting.style import INK, PAPER


def plot_identification(curves: Mapping[str, tuple[Any, Any]]) -> Axes:
    """Draw the rate of right alarms against that of false alarms, over searches.

    A curve ends, at the right, at its Rank-1: with a threshold that lets everything
    pass, every search raises an alarm.

    Args:
        curves: For each name the FPIR and the DIR, in [0, 1]; see
            ``reidlib.evaluation.identification``.

    Returns:
        The axes, as those of ``reidlib.plotting.plot_trade_off``.

    Example:
        >>> ax = plot_identification({"model": ([0.1, 1.0], [0.2, 0.4])})
        >>> ax.lines[0].get_ydata().tolist()
        [20.0, 40.0]
    """
    ax = plot_trade_off(
        curves,
        xlabel="FPIR: searches for absent people that raise an alarm (%)",
        ylabel="DIR: right person first, and near (%)",
        title="Searches, some for people who are not there",
    )
    highest = max(100 * float(np.max(found)) for _, found in curves.values())
    ax.set_ylim(0, min(102, max(10, 1.3 * highest)))
    return ax


def plot_camera_pairs(
    values: Any,
    cameras: Any = "auto",
    *,
    label: str,
    limits: tuple[float, float],
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the lower half of a table of camera pairs, each number in its cell.

    Args:
        values: ``(C, C)``, symmetric; NaN where there is no number.
        cameras: ``(C,)`` camera ids; by default 0 to C - 1.
        label: What the numbers are.
        limits: Values of the darkest and of the lightest colour.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, whose ``texts`` are the numbers, row by row.

    Example:
        >>> rates = [[6.5, 0.2], [0.2, float("nan")]]
        >>> ax = plot_camera_pairs(rates, label="%", limits=(0, 7))
        >>> [text.get_text() for text in ax.texts]
        ['6.5', '0.2']
    """
    array = np.asarray(values)
    ax = sns.heatmap(
        array,
        mask=np.triu(np.ones_like(array, dtype=bool), k=1),
        vmin=limits[0],
        vmax=limits[1],
        cmap="cividis",
        annot=True,
        fmt=".1f",
        annot_kws={"fontsize": 8},
        square=True,
        xticklabels=cameras,
        yticklabels=cameras,
        cbar_kws={"label": label, "shrink": 0.85},
        ax=ax or plt.subplots(figsize=(4.4, 3.9))[1],
    )
    for text in ax.texts:  # dark on light cells, light on dark ones
        light = float(text.get_text()) > np.mean(limits)
        text.set_color(INK if light else PAPER)
    ax.set(title=title, xlabel="camera", ylabel="camera")
    ax.tick_params(length=0, rotation=0)
    return ax
