"""Chapter 8: toy domains, the camera loss, the sweep over beta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from reidlib.plotting import COLOURS, MARKERS
from reidlib.plotting.style import INK


def plot_domains(
    points: Any,
    people: Any,
    camids: Any,
    *,
    legend: bool = True,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw features in the plane: the colour is the camera, the marker the person.

    Args:
        points: ``(N, 2)``.
        people: ``(N,)`` person of each point, called A, B, C in the order of the ids.
        camids: ``(N,)`` camera of each point.
        legend: Say what colours and markers mean.
        title: Title of the axes.
        ax: Axes to draw into.

    Returns:
        The axes; both have one scale.

    Example:
        >>> ax = plot_domains([[0, 0], [1, 0], [0, 1]], [7, 7, 9], [0, 1, 1])
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['camera 0', 'camera 1', 'person A', 'person B']
    """
    ax = ax or plt.subplots(figsize=(4.8, 3.6))[1]
    cameras, places = np.unique(camids, return_inverse=True)
    names = [f"person {chr(65 + i)}" for i in range(len(np.unique(people)))]
    x, y = np.asarray(points).T
    sns.scatterplot(
        x=x,
        y=y,
        hue=[f"camera {cameras[i]}" for i in places],
        hue_order=[f"camera {camid}" for camid in cameras],
        style=[names[i] for i in np.unique(people, return_inverse=True)[1]],
        style_order=names,
        palette=list(COLOURS[: len(cameras)]),
        markers=list(MARKERS[: len(names)]),
        alpha=0.65,
        linewidth=0,
        legend=legend,
        ax=ax,
    )
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    # One scale for both axes: a distance is what the reader is to see.
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xticks=[], yticks=[], title=title)
    return ax


def plot_camera_losses(
    margins: Any,
    losses: Mapping[str, Any],
    gradients: Mapping[str, Any],
    *,
    chance: float,
) -> np.ndarray:
    """Draw losses and the sizes of their gradients against the right camera's lead.

    Args:
        margins: ``(M,)`` logit of the right camera minus that of the others.
        losses: For each form of the loss its ``(M,)`` values.
        gradients: For the same forms the ``(M,)`` sizes of the gradient.
        chance: Loss of a classifier that knows nothing, drawn as a level.

    Returns:
        ``(2,)`` axes: losses and gradients, a line per form.

    Example:
        >>> both = {"plain": [2, 1]}, {"plain": [0.8, 0.2]}
        >>> axes = plot_camera_losses([-1, 1], *both, chance=1.8)
        >>> axes[1].lines[0].get_ydata().tolist()
        [0.8, 0.2]
    """
    _, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    for ax, curves in zip(axes, (losses, gradients), strict=True):
        frame = pd.DataFrame(curves, index=np.asarray(margins))
        sns.lineplot(frame, legend=ax is axes[0], ax=ax)
        ax.set_xlabel("logit of the right camera minus the others'")
        ax.set_ylim(bottom=0)
    axes[0].axhline(chance, color=INK, ls=":", lw=1.2, label="knows nothing")
    axes[0].set(title="Loss of the camera classifier", ylabel="loss")
    axes[1].set(title="Its pull on the logits", ylabel="size of the gradient")
    axes[0].legend()
    return axes


def plot_beta_sweep(sweeps: Mapping[str, Mapping[float, Any]]) -> Axes:
    """Draw the gain of each weight of the camera loss over no camera loss (CALR-T5).

    Differences let sweeps of different heights share one scale. With several seeds they
    are taken seed by seed, because a seed's city moves all weights together.

    Args:
        sweeps: For each name the mAP in percent at each beta: one number, or ``(S,)``
            over seeds in the same order everywhere, nan where a run is missing. Beta 0
            must be among them.

    Returns:
        The axes: for each name a line through the mean differences, with bars of one
        standard deviation where there are several seeds.

    Example:
        >>> ax = plot_beta_sweep({"ours": {0.0: [30, 40], 1.0: [31, 43]}})
        >>> ax.lines[0].get_ydata().tolist()
        [0.0, 2.0]
    """
    table = pd.DataFrame(
        [
            (name, beta, gain)
            for name, sweep in sweeps.items()
            for beta, values in sweep.items()
            for gain in np.atleast_1d(values) - np.atleast_1d(sweep[0.0])
        ],
        columns=["sweep", "beta", "gain"],
    )
    ax = sns.lineplot(
        table,
        x="beta",
        y="gain",
        hue="sweep",
        style="sweep",
        markers=list(MARKERS[: len(sweeps)]),
        markeredgewidth=0,
        errorbar="sd",
        err_style="bars",
        err_kws={"capsize": 3},
        ax=plt.subplots()[1],
    )
    ax.axhline(0, color=INK, lw=1)
    ax.set(
        xlabel="weight β of the camera loss", ylabel="mAP minus mAP at β = 0 (points)"
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax
