"""Figures of camera alignment: toy domains, the camera loss, the sweep over beta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from reidlib.errors import ReIDError
from reidlib.plotting.charts import _axes, _finite
from reidlib.plotting.style import COLOURS, INK, MARKERS
from reidlib.plotting.tiles import _as_numpy

LINES = ("-", "--", ":", "-.")


def plot_domains(
    points: Any,
    people: Any,
    camids: Any,
    *,
    legend: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw features in the plane: the colour is the camera, the marker the person.

    Args:
        points: ``(N, 2)``.
        people: ``(N,)`` person of each point, drawn as A, B, C in the order of the ids.
        camids: ``(N,)`` camera of each point.
        legend: Say what colours and markers mean.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, one collection per person and camera that occur together, person by
        person; both axes have one scale.

    Raises:
        ReIDError: If the shapes do not fit, or there are more people or cameras than
            markers or colours.

    Example:
        >>> ax = plot_domains([[0, 0], [1, 0], [0, 1]], [7, 7, 9], [0, 1, 1])
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['camera 0', 'camera 1', 'person A', 'person B']
    """
    array = _finite(points, "points")
    persons, cameras = _as_numpy(people), _as_numpy(camids)
    if (
        array.ndim != 2
        or array.shape[1] != 2
        or not (persons.shape == cameras.shape == array.shape[:1])
    ):
        raise ReIDError(
            f"points: got shape {array.shape}, people of shape {persons.shape} and "
            f"camids of shape {cameras.shape}; give (N, 2), (N,) and (N,)"
        )
    names, places = np.unique(persons), np.unique(cameras)
    if len(names) > len(MARKERS) or len(places) > len(COLOURS):
        raise ReIDError(
            f"people: got {len(names)} under {len(places)} cameras; there are "
            f"{len(MARKERS)} markers and {len(COLOURS)} colours"
        )
    ax = _axes(ax, (4.8, 3.6))
    for name, marker in zip(names, MARKERS):
        for place, colour in zip(places, COLOURS):
            here = (persons == name) & (cameras == place)
            if here.any():
                ax.scatter(
                    array[here, 0],
                    array[here, 1],
                    s=22,
                    marker=marker,
                    color=colour,
                    alpha=0.65,
                    linewidth=0,
                )
    if legend:
        dots = [
            Line2D([], [], ls="", marker="o", color=colour, label=f"camera {place}")
            for place, colour in zip(places, COLOURS)
        ]
        shapes = [
            Line2D([], [], ls="", marker=m, color=INK, label=f"person {chr(65 + i)}")
            for i, m in enumerate(MARKERS[: len(names)])
        ]
        ax.legend(handles=dots + shapes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    # One scale for both axes: a distance is what the reader is to see.
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xticks=[], yticks=[], title=title or "")
    return ax


def plot_camera_losses(
    margins: Any,
    losses: Mapping[str, Any],
    gradients: Mapping[str, Any],
    *,
    chance: float | None = None,
    title: str | None = None,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draw losses, and how hard they pull, against the lead of the right camera.

    Args:
        margins: ``(M,)`` logit of the right camera minus that of the others.
        losses: For each form of the loss its ``(M,)`` values.
        gradients: For the same forms the ``(M,)`` sizes of the gradient.
        chance: Loss of a classifier that knows nothing, drawn as a level.
        title: Title of the figure.
        axes: Two axes to draw into.

    Returns:
        ``(2,)`` axes: losses and gradients, a line per form.

    Raises:
        ReIDError: If there is no form, if the two mappings have different ones, or if a
            curve is not as long as the margins.

    Example:
        >>> axes = plot_camera_losses([-1, 1], {"plain": [2, 1]}, {"plain": [0.8, 0.2]})
        >>> axes[1].lines[0].get_ydata().tolist()
        [0.8, 0.2]
    """
    x = _finite(margins, "margins")
    if not losses or list(losses) != list(gradients) or len(losses) > len(LINES):
        raise ReIDError(
            f"losses: got {', '.join(losses) or 'none'}, and gradients of "
            f"{', '.join(gradients) or 'none'}; give the same forms, from 1 to "
            f"{len(LINES)}, in the same order"
        )
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")[1]
    for ax, curves in zip(axes, (losses, gradients), strict=True):
        for i, (name, values) in enumerate(curves.items()):
            curve = _finite(values, name)
            if x.ndim != 1 or curve.shape != x.shape:
                raise ReIDError(
                    f"{name}: got shape {curve.shape} for margins of shape {x.shape}; "
                    "give one value per margin"
                )
            ax.plot(x, curve, LINES[i], color=COLOURS[i], label=name)
        ax.set(xlabel="logit of the right camera minus the others'")
        ax.set_ylim(bottom=0)
    first, second = axes
    if chance is not None:
        first.axhline(chance, color=INK, ls=":", lw=1.2, label="knows nothing")
    first.set(title=title or "Loss of the camera classifier", ylabel="loss")
    second.set(title="Its pull on the logits", ylabel="size of the gradient")
    first.legend()
    return np.array([first, second], dtype=object)


def plot_beta_sweep(
    sweeps: Mapping[str, Mapping[float, Any]],
    *,
    measure: str = "mAP",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what each weight of the camera loss is worth, against no camera loss.

    Sweeps of different heights (a paper's photographs, our drawn city) share one scale
    this way. With several seeds the difference is taken seed by seed, since a seed's
    city or draw moves all weights together.

    Args:
        sweeps: For each name the figures at each beta: one number, or ``(S,)`` over
            seeds in the same order everywhere, nan where a run is missing. Beta 0 must
            be among them.
        measure: What the figures are, in percent.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes: for each name a line through the mean differences, with bars of one
        standard deviation where there are several seeds.

    Raises:
        ReIDError: If there is no sweep, or one lacks beta 0 or has figures of different
            numbers of seeds.

    Example:
        >>> ax = plot_beta_sweep({"ours": {0.0: [30, 40], 1.0: [31, 43]}})
        >>> ax.containers[0].lines[0].get_ydata().tolist()
        [0.0, 2.0]
    """
    if not sweeps or len(sweeps) > len(COLOURS):
        raise ReIDError(
            f"sweeps: got {len(sweeps)}; give from 1 to {len(COLOURS)} of them"
        )
    ax = _axes(ax)
    for i, (name, sweep) in enumerate(sweeps.items()):
        figures = {
            float(beta): np.atleast_1d(_as_numpy(values)).astype(np.float64)
            for beta, values in sweep.items()
        }
        shapes = {values.shape for values in figures.values()}
        if 0.0 not in figures or len(shapes) > 1:
            raise ReIDError(
                f"sweep {name!r}: got beta {', '.join(f'{b:g}' for b in figures)} with "
                f"figures of shape {' or '.join(map(str, sorted(shapes)))}; give beta "
                "0, and as many seeds everywhere, nan for a missing run"
            )
        gains = {beta: values - figures[0.0] for beta, values in figures.items()}
        gains = {beta: gain[np.isfinite(gain)] for beta, gain in gains.items()}
        betas = [beta for beta in sorted(gains) if len(gains[beta])]
        several = any(len(gains[beta]) > 1 for beta in betas)
        ax.errorbar(
            betas,
            [float(gains[beta].mean()) for beta in betas],
            [gains[beta].std(ddof=1) if len(gains[beta]) > 1 else 0 for beta in betas]
            if several
            else None,
            color=COLOURS[i],
            marker=MARKERS[i],
            ls=LINES[i % len(LINES)],
            capsize=3,
            label=name,
        )
    ax.axhline(0, color=INK, lw=1)
    ax.set(
        xlabel="weight β of the camera loss",
        ylabel=f"{measure} minus {measure} at β = 0 (points)",
        title=title or "",
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax
