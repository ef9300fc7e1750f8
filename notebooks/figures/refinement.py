"""Chapter 7: what refinement discards, when, and what that gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from reidlib.clustering import ClusterQuality
from reidlib.plotting import COLOURS, MARKERS
from reidlib.plotting.clusters import measure_name
from reidlib.plotting.style import INK

HATCHES = ("", "///", "...")
EPOCH = {
    "discard_ratio": "images discarded (%)",
    "clusters": "number of clusters",
    "mAP": "mAP (%)",
}
"""Measures of an epoch and what a figure calls them."""


def plot_cluster_figures(
    qualities: Mapping[str, Sequence[ClusterQuality]], places: Sequence[str]
) -> np.ndarray:
    """Draw how good several sets of clusters are, camera by camera (CALR-F4).

    Args:
        qualities: For each name (``"global"``, ``"local"``) the quality at each camera.
        places: Names of the cameras.

    Returns:
        ``(4,)`` axes, one per measure, each with one container of bars per name.

    Example:
        >>> from reidlib.clustering import cluster_quality
        >>> good = cluster_quality([0, 0, 1], [5, 5, 7], [0, 0, 0])
        >>> axes = plot_cluster_figures({"global": [good, good]}, ["0", "1"])
        >>> [float(bar.get_height()) for bar in axes[0].containers[0]]
        [1.0, 1.0]
    """
    measures = ("pairwise_precision", "pairwise_recall", "pairwise_f", "expansion")
    table = pd.DataFrame(
        [
            {"camera": place, "clusters of": name, **asdict(quality)}
            for name, row in qualities.items()
            for place, quality in zip(places, row, strict=True)
        ]
    )
    figure, axes = plt.subplots(2, 2, figsize=(8.8, 5.0), layout="constrained")
    for ax, measure in zip(axes.flat, measures):
        sns.barplot(
            table, x="camera", y=measure, hue="clusters of", saturation=1, ax=ax
        )
        for bars, hatch in zip(ax.containers, HATCHES):
            plt.setp(bars, hatch=hatch, edgecolor="w", linewidth=0)
        ax.grid(visible=False, axis="x")
        ax.set(ylabel="", title=measure_name(measure))
        ax.get_legend().remove()
    legend = axes.flat[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside upper right", ncols=len(qualities))
    return axes.ravel()


def plot_refinement_epochs(
    runs: Mapping[str, Mapping[str, Any]], *, num_pids: int
) -> np.ndarray:
    """Draw what is discarded, the clusters left, and mAP, over the epochs (CALR-F6).

    Args:
        runs: For each name its measures, of ``discard_ratio`` and ``mAP`` in [0, 1] and
            ``clusters``; each ``(E,)``, or ``(S, E)`` for S seeds. A run may lack a
            measure, and one that all lack has no panel.
        num_pids: True number of identities: a level in the panel of ``clusters``.

    Returns:
        ``(M,)`` axes, one per measure. A run has its mean first, and then, where there
        are several seeds, a thin line for each.

    Example:
        >>> runs = {"CALR": {"discard_ratio": [0.5, 0.25]}}
        >>> axes = plot_refinement_epochs(runs, num_pids=40)
        >>> [ax.get_ylabel() for ax in axes], axes[0].lines[0].get_ydata().tolist()
        (['images discarded (%)'], [50.0, 25.0])
    """
    measures = [m for m in EPOCH if any(m in run for run in runs.values())]
    figure, axes = plt.subplots(
        1,
        len(measures),
        figsize=(3.4 * len(measures), 3.0),
        layout="constrained",
        squeeze=False,
    )
    handles = {}
    for ax, measure in zip(axes[0], measures):
        for i, (name, run) in enumerate(runs.items()):
            if measure in run:
                values = np.atleast_2d(run[measure])
                scale = 1 if measure == "clusters" else 100
                epochs = np.arange(1, values.shape[1] + 1)
                handles[name] = _mean_and_seeds(ax, epochs, scale * values, i)
        if measure == "clusters":
            handles["people"] = ax.axhline(num_pids, color=INK, ls="--", lw=1.2)
        ax.set(xlabel="epoch", ylabel=EPOCH[measure])
        ax.set_ylim(bottom=0)
    names = [name for name in (*runs, "people") if name in handles]
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside upper right",
        ncols=len(names),
    )
    return axes[0]


def plot_dose_response(
    doses: Sequence[float],
    treatments: Mapping[str, Any],
    *,
    difference: tuple[str, str] | None = None,
    ylabel: str = "mAP (%)",
) -> np.ndarray:
    """Draw a measure against the camera shift, and the difference of two treatments.

    Differences are taken seed by seed, and so they are free of what makes one seed
    easier than another (CALR-SHIFT).

    Args:
        doses: ``(K,)`` camera shifts, ascending.
        treatments: For each name its values, ``(S, K)`` for S seeds, nan where there is
            none.
        difference: Two of the names: a second panel has the first minus the second.
        ylabel: What is measured.

    Returns:
        ``(1,)`` or ``(2,)`` axes. Each has, per line, the mean over the seeds that
        there are and then the seeds; the second one has a level at 0 before them.

    Example:
        >>> values = {"plain": [[30.0, 20.0]], "refined": [[31.0, 24.0]]}
        >>> pair = ("refined", "plain")
        >>> axes = plot_dose_response([0, 1], values, difference=pair)
        >>> axes[1].lines[1].get_ydata().tolist()
        [1.0, 4.0]
    """
    panels = 1 if difference is None else 2
    _, axes = plt.subplots(
        1, panels, figsize=(4.4 * panels, 3.3), layout="constrained", squeeze=False
    )
    table = {name: np.asarray(values) for name, values in treatments.items()}
    for i, (name, values) in enumerate(table.items()):
        _mean_and_seeds(axes[0, 0], doses, values, i).set_label(name)
    axes[0, 0].set(xlabel="camera shift", ylabel=ylabel)
    axes[0, 0].legend()
    if difference is not None:
        first, second = difference
        axes[0, 1].axhline(0, color=INK, lw=1.0)
        _mean_and_seeds(axes[0, 1], doses, table[first] - table[second], len(table))
        axes[0, 1].set(
            xlabel="camera shift",
            ylabel=f"difference of {ylabel}",
            title=f"{first} minus {second}, seed by seed",
        )
    return axes[0]


def _mean_and_seeds(ax: Axes, x: Any, values: np.ndarray, i: int) -> Any:
    """Draw the mean of the seeds that there are, and each of them as a thin line."""
    mean = pd.DataFrame(values).mean()  # leaves nan out, without a warning
    (line,) = ax.plot(x, mean, color=COLOURS[i], marker=MARKERS[i], zorder=3)
    if len(values) > 1:
        ax.plot(x, values.T, color=COLOURS[i], lw=0.8, alpha=0.5)
    return line
