"""Camera alignment: two cameras in the plane, the camera loss, and a probe."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from reidlib.losses import CameraClassifier, camera_loss
from reidlib.plotting import COLOURS, MARKERS
from reidlib.plotting.style import INK

PASSING = {
    "all four": ("ABCD", "ABCD"),
    "D at one camera": ("ABC", "ABCD"),
    "two and two": ("AB", "CD"),
}
"""Who passes the left and the right camera."""
HOME = torch.tensor([20.0, 110.0, 170.0, 280.0]).deg2rad()


@functools.cache
def make_toy(passing: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return images of four people under two cameras, as points in the plane.

    Args:
        passing: A name of `PASSING`.

    Returns:
        ``(N, 2)`` points, 20 for each person and camera; people; cameras. The second
        camera sees the same people shifted and turned.

    Example:
        >>> [len(make_toy(passing)[0]) for passing in PASSING]
        [160, 140, 80]
    """
    generator = torch.Generator().manual_seed(0)
    points, people, cameras = [], [], []
    for camera, names in enumerate(PASSING[passing]):
        side = 2 * camera - 1  # -1 on the left, 1 on the right
        turn = math.radians(15 * side)
        for person in map("ABCD".index, names):
            angle = HOME[person] + turn
            place = torch.stack([angle.cos() + 1.5 * side, angle.sin()])
            points.append(place + 0.18 * torch.randn(20, 2, generator=generator))
            people += [person] * 20
            cameras += [camera] * 20
    return torch.cat(points), torch.tensor(people), torch.tensor(cameras)


@functools.cache
def play(
    passing: str,
    strength: float,
    seed: int = 0,
    beta: float = 1.0,
    steps: int = 200,
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
) -> list[tuple[Tensor, float, float]]:
    """Train the encoder of the toy against both classifiers.

    Args:
        passing: A name of `PASSING`.
        strength: Strength of the reversal.
        seed: Seed of the networks.
        beta: Weight of the camera loss.
        steps: Number of steps.
        optimizer: Class of the optimiser.

    Returns:
        For each step, and the start: the features, and the shares of people and of
        cameras that the two classifiers of the training find.
    """
    points, people, cameras = make_toy(passing)
    torch.manual_seed(seed)
    turn = nn.Parameter(torch.eye(2).repeat(2, 1, 1))  # of each camera
    shift = nn.Parameter(torch.zeros(2, 2))
    who = nn.Linear(2, 4)
    where = CameraClassifier(2, 2, hidden=16, dropout=0.0)
    weights = [turn, shift, *who.parameters(), *where.parameters()]
    settings: dict[str, Any] = {"lr": 0.02, "fused": True}
    if optimizer is torch.optim.Adam:
        settings["betas"] = (0.5, 0.999)
    step = optimizer(weights, **settings)
    film = []
    for _ in range(steps + 1):
        features = torch.einsum("nij,nj->ni", turn[cameras], points) + shift[cameras]
        person, camera = who(features), where(features, strength)
        named = (person.argmax(dim=1) == people).float().mean()
        caught = (camera.argmax(dim=1) == cameras).float().mean()
        film.append((features.detach(), float(named), float(caught)))
        loss = F.cross_entropy(person, people) + beta * camera_loss(camera, cameras)
        step.zero_grad()
        loss.backward()
        step.step()
    return film


def probe(features: Tensor, classes: Tensor) -> float:
    """Return what a fresh classifier finds, by nine neighbours, on points unseen to it.

    Args:
        features: ``(N, D)``.
        classes: ``(N,)`` what to find.

    Example:
        >>> round(probe(torch.arange(40.0)[:, None], torch.arange(40) // 20), 1)
        1.0
    """
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    distance = torch.cdist(features.double(), features.double())
    votes = F.one_hot(classes)
    found = []
    for fitted, tested in folds.split(features, classes):
        nearest = distance[tested][:, fitted].topk(9, largest=False).indices
        named = votes[fitted][nearest].sum(dim=1).argmax(dim=1)
        found.append((named == classes[tested]).float().mean())
    return float(torch.stack(found).mean())


def outcome(passing: str, strength: float) -> tuple[float, float]:
    """Return the shares of people and of cameras that are found after training.

    Args:
        passing: A name of `PASSING`.
        strength: Strength of the reversal.

    Returns:
        People, over the last fifty steps of two trainings; cameras, by a fresh probe.
    """
    films = [play(passing, strength, seed) for seed in (0, 1)]
    cameras = make_toy(passing)[2]
    named = np.mean([named for film in films for _, named, _ in film[-50:]])
    told = np.mean([probe(film[-1][0], cameras) for film in films])
    return float(named), float(told)


def draw_game(passing: str, strength: float, step: int) -> None:
    """Draw the features of one step of `play`, and print who and what is found."""
    _, people, cameras = make_toy(passing)
    features, named, caught = play(passing, strength)[step]
    fresh = probe(features, cameras)
    print(f"people found: {named:.0%}")
    print(f"cameras: {caught:.0%} by the game's classifier, {fresh:.0%} by a probe")
    title = f"{passing}, λ = {strength:g}, step {step}"
    plot_domains(features, people, cameras, title=title)


def plot_strengths(found: pd.DataFrame, told: pd.DataFrame) -> np.ndarray:
    """Draw people and cameras found against the strength of the reversal.

    Args:
        found: Shares of people: a line for each strength, a column for each toy.
        told: Shares of cameras, in the same form.

    Returns:
        ``(2,)`` axes.

    Example:
        >>> table = pd.DataFrame({"all four": {0.0: 1.0, 1.0: 0.5}})
        >>> plot_strengths(table, table)[0].lines[0].get_ydata().tolist()
        [100.0, 50.0]
    """
    _, axes = plt.subplots(1, 2, figsize=(9.4, 3.4), layout="constrained", sharey=True)
    titles = ("People found (%)", "Cameras found by a fresh probe (%)")
    for title, table, ax in zip(titles, (found, told), axes):
        for (name, column), style in zip(table.items(), ("o-", "^--", "s:")):
            ax.plot(range(len(table)), 100 * column, style, label=name)
        ax.set_xticks(range(len(table)), [f"{s:g}" for s in table.index])
        ax.set(xlabel="strength λ of the reversal", title=title, ylim=(0, 104))
    axes[1].axhline(50, color="0.3", ls="-.", lw=1, label="a coin")
    axes[1].legend(title="who passes", loc="lower right")
    return axes


def plot_player(
    player: Sequence[float], probes: Mapping[str, float], chance: float
) -> Axes:
    """Draw the game's classifier epoch by epoch, and fresh probes beside it.

    Args:
        player: Accuracy of the classifier of each epoch.
        probes: For each name the accuracy of a probe after training.
        chance: Accuracy of a guess, drawn as a level.

    Returns:
        The axes, in percent.

    Example:
        >>> ax = plot_player([0.2, 0.3], {"CALR": 0.6}, 0.25)
        >>> ax.lines[1].get_ydata().tolist()
        [60.0]
    """
    ax = plt.subplots(figsize=(6.4, 3.4))[1]
    x = np.arange(1, len(player) + 1)
    ax.plot(x, 100 * np.array(player), "o-", label="the game's classifier")
    for i, (name, value) in enumerate(probes.items(), 1):
        look: dict[str, Any] = {"color": COLOURS[i], "marker": MARKERS[i]}
        label = f"a fresh probe, {name}"
        ax.plot([x[-1] + 0.5], [100 * value], ls="", ms=8, label=label, **look)
    ax.axhline(100 * chance, ls="--", color="0.3", lw=1.2, label="chance")
    ax.set_xticks(x)
    ax.set(xlabel="epoch", ylabel="cameras found (%)", ylim=(0, 100))
    ax.legend(loc="upper left", ncols=2)
    return ax


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
