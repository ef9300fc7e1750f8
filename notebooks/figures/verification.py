"""Distances of pairs, rates of camera pairs, and searches for absent people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reidlib.data import ImageTable, read_image
from reidlib.evaluation import (
    Pairs,
    camera_thresholds,
    rates_by_cameras,
    trade_off,
)
from reidlib.plotting import plot_distributions, plot_images, plot_trade_off
from reidlib.plotting.style import COLOURS, INK, PAPER


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


def plot_pair_distances(pairs: Mapping[str, Pairs]) -> dict[str, tuple[float, ...]]:
    """Draw the distances of three kinds of pairs, a panel for each model.

    Args:
        pairs: For each name the pairs.

    Returns:
        For each name the medians: of one person, of two people under two cameras, and
        of two people under one camera.
    """
    _, axes = plt.subplots(
        len(pairs), 1, figsize=(7.2, 2.8 * len(pairs)), layout="constrained"
    )
    medians = {}
    for ax, (name, table) in zip(np.atleast_1d(axes), pairs.items(), strict=True):
        groups = {
            "same person": table.positives,
            "others, two cameras": table.distance[~table.positive & ~table.same_camera],
            "others, one camera": table.distance[table.same_camera],
        }
        title = f"{name} training"
        plot_distributions(groups, xlabel="cosine distance", title=title, ax=ax)
        medians[name] = tuple(float(np.median(v)) for v in groups.values())
    return medians


def plot_splits(rates: Sequence[float], wanted: float, num_pairs: int) -> float:
    """Draw the rates of several splits, and how far independent pairs would spread.

    Args:
        rates: False-match rates in percent.
        wanted: The rate that was wanted, in [0, 1].
        num_pairs: Negative pairs of a split.

    Returns:
        The deviation that independent pairs would have, in percent.

    Example:
        >>> round(plot_splits([0.8, 1.2], 0.01, 10_000), 3)
        0.099
    """
    deviation = 100 * float(np.sqrt(wanted * (1 - wanted) / num_pairs))
    low, high = 100 * wanted - 1.96 * deviation, 100 * wanted + 1.96 * deviation
    _, ax = plt.subplots(figsize=(6.4, 1.9))
    style: dict[str, Any] = {"ms": 20, "mew": 1.8, "color": COLOURS[0]}
    ax.plot(rates, np.zeros(len(rates)), "|", label="other people", **style)
    ax.axvline(100 * wanted, ls="--", lw=1.2, color=INK, label="wanted")
    ax.axvspan(
        low, high, alpha=0.3, color=COLOURS[1], label="if pairs were independent"
    )
    ax.set(xlabel="false-match rate (%)", yticks=[], ylim=(-1, 1), xlim=(0, None))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return deviation


def plot_two_maps(rates: Mapping[str, Any]) -> Figure:
    """Draw false-match rates of camera pairs, one map below the other on one scale.

    Args:
        rates: For each name ``(C, C)`` in [0, 1].

    Returns:
        The figure.

    Example:
        >>> figure = plot_two_maps({"a": [[0.06, 0.01], [0.01, 0.02]]})
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['6.0', '1.0', '2.0']
    """
    figure, axes = plt.subplots(
        len(rates), 1, figsize=(4.8, 3.9 * len(rates)), layout="constrained"
    )
    for ax, (name, values) in zip(np.atleast_1d(axes), rates.items(), strict=True):
        title = f"{name} training" if name in ("before", "after") else name
        plot_camera_pairs(
            100 * np.asarray(values),
            label="false-match rate (%)",
            limits=(0, 7),
            title=title,
            ax=ax,
        )
    return figure


def compare_thresholds(
    table: Pairs, wanted: float, splits: int = 20
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Choose one threshold, and one for each camera pair, and measure other people.

    Args:
        table: Pairs, whose people are divided into halves.
        wanted: The false-match rate for which thresholds are chosen, in [0, 1].
        splits: How often.

    Returns:
        Means over the splits in percent, a row for each kind of threshold, and for each
        kind the mean false-match rate of every two cameras, ``(C, C)`` in [0, 1].
    """
    lines = []
    maps: dict[str, list[Any]] = {"one threshold": [], "one for each camera pair": []}
    for seed in range(splits):
        some, others = table.split(seed=seed)
        plain = trade_off(some.positives, some.negatives).threshold_at(wanted)
        own = camera_thresholds(some, wanted)
        chosen: dict[str, tuple[Any, Any, Any]] = {
            "one threshold": (plain, others.distance, others.distance <= plain),
            "one for each camera pair": (
                own,
                others.distance - own.of(others),
                others.distance <= own.of(others),
            ),
        }
        for name, (limit, score, accepted) in chosen.items():
            maps[name].append(rates_by_cameras(others, limit).fpr)
            fair = trade_off(score[others.positive], score[~others.positive])
            line = {
                "": name,
                "FPR": accepted[~others.positive].mean(),
                "FPR, one camera": accepted[others.same_camera].mean(),
                "TPR": accepted[others.positive].mean(),
                "TPR at a true 1 %": fair.tpr_at(wanted),
            }
            lines.append(line)
    means = 100 * pd.DataFrame(lines).groupby("", sort=False).mean()
    return means, {name: np.mean(fprs, axis=0) for name, fprs in maps.items()}


def plot_mistakes(
    table: Pairs, order: Any, query: ImageTable, gallery: ImageTable, number: int = 9
) -> Axes:
    """Draw pairs in an order, each pair of people once, query above gallery image.

    Args:
        table: The pairs.
        order: Rows of the table, the first pairs first.
        query: Images of the queries.
        gallery: Images of the gallery.
        number: How many pairs.

    Returns:
        The axes.
    """
    chosen: list[int] = []
    seen = set()
    first, second = table.people
    for row in order:
        key = frozenset((int(first[row]), int(second[row])))
        if key not in seen:
            seen.add(key)
            chosen.append(int(row))
        if len(chosen) == number:
            break
    some = table[np.array(chosen)]
    upper, lower = query[some.query], gallery[some.gallery]
    files = [side.file(i) for side in (upper, lower) for i in range(len(chosen))]
    return plot_images(
        [read_image(file, (128, 64)) for file in files],
        ["query"] * len(chosen) + [f"at {d:.2f}" for d in some.distance],
        pids=np.concatenate([upper.pids, lower.pids]),
        camids=np.concatenate([upper.camids, lower.camids]),
        columns=number,
    )
