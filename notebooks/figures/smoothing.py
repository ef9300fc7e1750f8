"""Soft labels: a toy problem with wrong labels, and what is drawn of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from reidlib.evaluation import Reliability, reliability
from reidlib.experiments import load_results
from reidlib.labels import (
    ConfusionMatrix,
    descriptor_similarity,
    literal_targets,
    neighbor_agreement,
    neighbor_targets,
    plant_noise,
    prediction_targets,
    strength_targets,
    uniform_targets,
)
from reidlib.labels.noise import Noise
from reidlib.losses import soft_cross_entropy
from reidlib.plotting.style import COLOURS, INK, MARKERS

PEOPLE, CAMERAS = 6, 3
SMOOTHINGS = (
    "hard",
    "uniform",
    "dcls",
    "predictions",
    "strength",
    "literal",
    "confusion",
)
"""Kinds of soft labels as the recipe `cals` calls them, in the order of the figures."""
RATES = (0.0, 0.2, 0.4, 0.6)
"""Shares of wrong labels."""
NOISE_MEASURES = {
    "identity_accuracy": "accuracy on identities (%)",
    "mAP": "mAP (%)",
    "identity_calibration_error": "calibration error, identities (%)",
}
"""What is drawn of the plan CALS-NOISE."""
NEIGHBORS = 8
"""Neighbours of an image in each view."""
_UNITS, _STEPS, _EPOCH = 64, 120, 20


@dataclass(frozen=True)
class Toy:
    """Six people in a circle under three cameras, each image seen in two ways.

    Attributes:
        whole: ``(N, 2)`` what the global branch sees.
        part: ``(N, 2)`` what the local branch sees: the same, less sharply.
        people: ``(N,)`` who it is.
        camids: ``(N,)`` the camera.
        labels: ``(N,)`` what the labels say.
    """

    whole: Tensor
    part: Tensor
    people: Tensor
    camids: Tensor
    labels: Tensor

    @property
    def wrong(self) -> Tensor:
        """``(N,)`` bool, which labels are wrong."""
        return self.labels != self.people

    @property
    def neighbors(self) -> list[Tensor]:
        """Row numbers of the nearest images, ``(N, k)`` in each of the two views."""
        found = []
        for view in (self.whole, self.part):
            distance = torch.cdist(view, view).fill_diagonal_(torch.inf)
            found.append(distance.topk(NEIGHBORS, largest=False).indices)
        return found


def make_toy(noise: float = 0.0, kind: Noise = "random", seed: int = 0) -> Toy:
    """Draw the toy problem: ten images of each person under each camera.

    Args:
        noise: Share of wrong labels, in [0, 1].
        kind: How they are chosen, see `reidlib.labels.plant_noise`.
        seed: Seed of images and labels; the images do not depend on the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = torch.cartesian_prod(torch.arange(PEOPLE), torch.arange(CAMERAS))
    people, camids = groups.repeat_interleave(10, dim=0).T
    place = 2.4 * _on_circle(people / PEOPLE) + 0.75 * _on_circle(
        camids / CAMERAS + 0.08
    )
    whole, part = (
        place + spread * torch.randn(place.shape, generator=generator)
        for spread in (0.35, 0.5)
    )
    labels = plant_noise(people, noise, generator, kind=kind, camids=camids)
    return Toy(whole, part, people, camids, labels)


def _on_circle(turn: Tensor) -> Tensor:
    angle = 2 * math.pi * turn
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


@dataclass(frozen=True)
class Learned:
    """Two branches that learned the labels of a toy problem.

    Attributes:
        toy: What they learned.
        weights: ``(2, units, C)`` the last layer of each branch.
    """

    toy: Toy
    weights: Tensor

    def logits(self, whole: Tensor, part: Tensor) -> Tensor:
        """Return ``(2, N, C)`` logits, of each branch for what it sees."""
        return _hidden(torch.stack([whole, part])) @ self.weights

    def predict(self, whole: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(N,)`` confidences and classes of the mean of both branches."""
        mean = self.logits(whole, part).softmax(dim=-1).mean(dim=0)
        confidence, predicted = mean.max(dim=1)
        return confidence.clamp(max=1), predicted


def _hidden(places: Tensor) -> Tensor:
    """Return ``(..., N, units)`` of a hidden layer that stays as it was drawn."""
    generator = torch.Generator().manual_seed(0)
    weights = 3 * torch.randn(2, _UNITS, generator=generator)
    bias = 4 * torch.randn(_UNITS, generator=generator)
    return torch.tanh(places @ weights + bias) / _UNITS**0.5


def soft_labels(
    smoothing: str,
    alpha: float,
    toy: Toy,
    logits: Tensor,
    confusion: ConfusionMatrix,
) -> Tensor:
    """Return the soft labels of all images, as the recipe `cals` makes them.

    Args:
        smoothing: One of `SMOOTHINGS`.
        alpha: Its strength, in [0, 1].
        toy: N images and their labels.
        logits: ``(2, N, C)`` of the global and of the local branch.
        confusion: The confusions of the last epoch.

    Returns:
        ``(2, N, C)`` distributions for the global and for the local branch.
    """
    labels = toy.labels
    if smoothing == "dcls":
        near = toy.neighbors
        agreement = neighbor_agreement(*near)
        return torch.stack(
            [
                neighbor_targets(labels, agreement, labels[other], PEOPLE, alpha)
                for other in reversed(near)
            ]
        )
    if smoothing == "predictions":
        of_whole, of_part = logits.softmax(dim=-1)
        soft = prediction_targets(labels, of_whole, of_part, alpha)
    elif smoothing in ("strength", "literal"):
        s = descriptor_similarity(toy.whole, toy.part[:, None])
        reading = strength_targets if smoothing == "strength" else literal_targets
        soft = reading(labels, s, PEOPLE, alpha)
    elif smoothing == "confusion":
        soft = confusion.targets(labels, alpha)
    else:
        share = alpha if smoothing == "uniform" else 0.0
        soft = uniform_targets(labels, PEOPLE, share)
    return soft.expand(2, -1, -1)


def learn(smoothing: str, alpha: float, toys: Sequence[Toy]) -> list[Learned]:
    """Train both branches on toy problems, all at once and each for itself.

    Only the last layer learns. The loss is convex in it, so that rounding, which
    differs between machines, does not grow.

    Args:
        smoothing: One of `SMOOTHINGS`.
        alpha: Its strength.
        toys: What to learn.
    """
    seen = torch.stack([_hidden(torch.stack([t.whole, t.part])) for t in toys])
    weights = torch.zeros(len(toys), 2, _UNITS, PEOPLE, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=8.0, momentum=0.95)
    confusions = [ConfusionMatrix(PEOPLE) for _ in toys]
    moving = {"predictions": 1, "confusion": _EPOCH}.get(smoothing, _STEPS)
    for step in range(_STEPS):
        logits = seen @ weights  # (toys, 2, N, C)
        if step % moving == 0:
            with torch.no_grad():
                each = zip(toys, logits, confusions, strict=True)
                soft = torch.stack(
                    [soft_labels(smoothing, alpha, *one) for one in each]
                )
        # One loss for each branch of each toy problem, CALS-E6.
        loss = 2 * len(toys) * soft_cross_entropy(logits, soft)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % _EPOCH == _EPOCH - 1:
            for matrix, toy, found in zip(confusions, toys, logits, strict=True):
                matrix.update(found[0].argmax(dim=1), toy.labels)
                matrix.end_epoch()
    return [Learned(t, w) for t, w in zip(toys, weights.detach(), strict=True)]


def sweep(
    smoothings: Sequence[str] = SMOOTHINGS,
    alphas: Sequence[float] = (0.4,),
    kinds: Sequence[Noise] = ("random", "camera"),
    seeds: Sequence[int] = (0, 1, 2),
) -> pd.DataFrame:
    """Train each kind of soft labels with each alpha on each noise of `RATES`.

    Args:
        smoothings: Some of `SMOOTHINGS`.
        alphas: Strengths; hard labels have none, and stand beside each of them.
        kinds: Kinds of noise.
        seeds: One toy problem each.

    Returns:
        One line for each training, with ``smoothing``, ``alpha``, ``kind``, ``noise``,
        ``seed`` and, of the training images and in percent: ``accuracy`` on identities,
        ``calibration_error`` against them, and the mean ``confidence``.
    """
    lines = []
    for kind in kinds:
        settings = [(noise, seed) for noise in RATES for seed in seeds]
        toys = [make_toy(noise, kind, seed) for noise, seed in settings]
        for smoothing in smoothings:
            for alpha in alphas:
                if smoothing != "hard" or alpha == alphas[0]:
                    learned = learn(smoothing, alpha, toys)
                for (noise, seed), one in zip(settings, learned, strict=True):
                    at = {"kind": kind, "noise": noise, "seed": seed}
                    lines.append(
                        {"smoothing": smoothing, "alpha": alpha, **at, **_measured(one)}
                    )
    return pd.DataFrame(lines)


def _measured(learned: Learned) -> dict[str, float]:
    toy = learned.toy
    confidence, predicted = learned.predict(toy.whole, toy.part)
    right = predicted == toy.people
    return {
        "accuracy": 100 * float(right.float().mean()),
        "calibration_error": 100 * reliability(confidence, right).error,
        "confidence": 100 * float(confidence.mean()),
    }


def plot_regions(learned: Mapping[str, Learned]) -> Figure:
    """Draw what classifiers take each place for, the paler the less they are sure.

    Args:
        learned: By title what was learned. Crosses are wrong labels, in the colour of
            what they say; the numbers are where the people are.

    Returns:
        The figure, one axes for each title.
    """
    fig, axes = plt.subplots(
        1,
        len(learned),
        figsize=(3.2 * len(learned), 3.7),
        layout="constrained",
        squeeze=False,
    )
    end, steps = 4.3, 140
    line = torch.linspace(-end, end, steps)
    places = torch.cartesian_prod(line, line)
    colours = np.array([to_rgb(colour) for colour in COLOURS[:PEOPLE]])
    for ax, (title, one) in zip(axes[0], learned.items(), strict=True):
        sure, who = (found.numpy() for found in one.predict(places, places))
        strength = 0.7 * (PEOPLE * sure[:, None] - 1) / (PEOPLE - 1)
        picture = 1 - strength * (1 - colours[who])
        ax.imshow(
            picture.reshape(steps, steps, 3).swapaxes(0, 1).clip(0, 1),
            origin="lower",
            extent=(-end, end, -end, end),
        )
        toy, said = one.toy, colours[one.toy.labels.numpy()]
        for mask, look in (
            (~toy.wrong, {"marker": "o", "s": 14, "edgecolors": "white", "lw": 0.5}),
            (toy.wrong, {"marker": "X", "s": 40, "edgecolors": INK, "lw": 0.8}),
        ):
            rows = mask.numpy()
            ax.scatter(*toy.whole[mask].T, c=said[rows], **look)
        for person, (x, y) in enumerate(
            3.95 * _on_circle(torch.arange(PEOPLE) / PEOPLE)
        ):
            ax.text(x, y, str(person), ha="center", va="center", weight="bold")
        ax.set(title=title, xticks=[], yticks=[])
        ax.grid(False)
    handles = [
        Line2D([], [], ls="", marker=marker, color="0.5", mec=edge, ms=7, label=label)
        for marker, edge, label in (
            ("o", "white", "right label"),
            ("X", INK, "wrong label, in the colour of what it says"),
        )
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def plot_soft_labels(soft: Mapping[str, Tensor], ax: Axes | None = None) -> Axes:
    """Draw one soft label of each kind as a bar whose pieces are the classes.

    Args:
        soft: By kind one ``(C,)`` distribution.
        ax: Where to draw; a new figure if not given.

    Returns:
        The axes, with a legend of the classes. A piece of a tenth or more holds its
        number.
    """
    if ax is None:
        size = (7.2, 0.42 * len(soft) + 1.2)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    left = np.zeros(len(soft))
    values = torch.stack(list(soft.values())).numpy()
    for person, share in enumerate(values.T):
        look: dict[str, Any] = {"color": COLOURS[person], "edgecolor": "white"}
        bars = ax.barh(list(soft), share, left=left, label=f"person {person}", **look)
        texts = [f"{value:.2f}" if value >= 0.1 else "" for value in share]
        ink = "white" if person == 0 else INK  # on blue
        ax.bar_label(bars, texts, label_type="center", fontsize=8.5, color=ink)
        left += share
    ax.invert_yaxis()
    ax.grid(False)
    ax.set(xlabel="share of the soft label", xlim=(0, 1))
    ax.legend(ncols=PEOPLE, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    return ax


def plot_noise(frame: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """Draw measures against the share of wrong labels, one row for each kind of noise.

    Args:
        frame: Columns ``smoothing``, ``kind``, ``noise`` (a share), ``seed`` and the
            measures, one line for each run.
        measures: Columns to draw and their names.

    Returns:
        The figure: one line for each smoothing, the mean over the seeds, with bars of
        one standard deviation. Lines stand a little beside each other.
    """
    kinds = list(dict.fromkeys(frame["kind"]))
    fig, axes = plt.subplots(
        len(kinds),
        len(measures),
        figsize=(3.6 * len(measures), 3.0 * len(kinds) + 0.5),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey="col",
    )
    drawn = [name for name in SMOOTHINGS if name in set(frame["smoothing"])]
    for row, kind in zip(axes, kinds, strict=True):
        part = frame[frame["kind"] == kind]
        for ax, (measure, name) in zip(row, measures.items(), strict=True):
            for place, smoothing in enumerate(drawn):
                runs = part[part["smoothing"] == smoothing].groupby("noise")[measure]
                mean, spread = runs.mean(), runs.std(ddof=1)
                aside = 0.9 * (place - (len(drawn) - 1) / 2)
                ax.errorbar(
                    100 * mean.index.to_numpy(dtype=float) + aside,
                    mean,
                    spread.fillna(0.0),
                    color=COLOURS[SMOOTHINGS.index(smoothing)],
                    marker=MARKERS[SMOOTHINGS.index(smoothing)],
                    label=smoothing,
                    lw=1.3,
                    elinewidth=1.0,
                )
            ax.set_title(f"{kind} noise")
            ax.set_ylabel(name)
    for ax in axes[-1]:
        ax.set_xlabel("wrong labels (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7))
    return fig


def planted_noise(partial: bool = False) -> pd.DataFrame:
    """Read what the runs of the plan CALS-NOISE measured.

    Args:
        partial: Leave rows out that have no result, instead of raising.

    Returns:
        One line for each run, as `plot_noise` wants it, with figures in percent:
        ``identity_accuracy`` and ``identity_calibration_error`` of the classifiers over
        the training images, their ``agreement`` with the labels that were learned,
        ``mAP`` of the features. Runs without noise stand under
        both kinds, runs that broke down are left out.

    Raises:
        ReIDError: If a row has no result; names the command that makes it.
    """
    lines = []
    for run in load_results("CALS-NOISE", partial=partial).to_dict("records"):
        if run["status"] != "complete":
            continue
        result = run["result"]
        config, told = result["config"], result["metrics"]["classifier"]
        measured = {name: 100 * told[name] for name in NOISE_MEASURES if name != "mAP"}
        measured["agreement"] = 100 * told["accuracy"]
        for kind in get_args(Noise):
            if config["noise"] and kind != config["noise_kind"]:
                continue
            lines.append(
                {
                    "smoothing": config["smoothing"],
                    "kind": kind,
                    "noise": config["noise"],
                    "seed": run["seed"],
                    "mAP": run["mAP"],
                    **measured,
                }
            )
    return pd.DataFrame(lines)


def plot_planted_noise(partial: bool = False) -> Figure:
    """Draw accuracy, mAP and calibration of CALS against planted noise.

    Args:
        partial: As for `planted_noise`.

    Returns:
        The figure of `plot_noise`: one row for each kind of noise, three panels each.
    """
    return plot_noise(planted_noise(partial), NOISE_MEASURES)


def plot_reliability(
    found: Mapping[str, Mapping[str, Reliability]],
) -> Figure:
    """Draw reliability diagrams: how often predictions are right that are so sure.

    Args:
        found: By title, and by name of a curve, what `reidlib.evaluation.reliability`
            returned. The area of a marker grows with the number of predictions.

    Returns:
        The figure, one axes for each title. On the diagonal a classifier is right as
        often as it says; below it is too sure of itself.
    """
    fig, axes = plt.subplots(
        1,
        len(found),
        figsize=(3.4 * len(found), 3.7),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for ax, (title, curves) in zip(axes[0], found.items(), strict=True):
        ax.plot([0, 1], [0, 1], ls=":", color=INK, lw=1.2)
        for place, (name, one) in enumerate(curves.items()):
            full = one.count > 0
            at = one.confidence[full], one.accuracy[full]
            colour, marker = COLOURS[(0, 5)[place]], MARKERS[place]
            size = 10 + 240 * one.count[full] / one.count.sum()
            ax.plot(*at, color=colour, lw=1.2)
            ax.scatter(*at, size, color=colour, marker=marker, label=name)
        ax.set(title=title, xlabel="confidence", xlim=(0, 1.03), ylim=(0, 1.03))
        ax.set_aspect("equal")
    axes[0, 0].set_ylabel("share that is right")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    keys = fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    for handle in keys.legend_handles:
        handle.set_sizes([40])  # type: ignore[union-attr]
    return fig
