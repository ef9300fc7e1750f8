"""Features and backbones: stage by stage, and what is drawn of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import normalize

from reidlib.data import ImageSource, TestTransform, sequential_batches
from reidlib.evaluation import Evaluation
from reidlib.models.cost import Cost
from reidlib.plotting import (
    plot_bars,
    plot_distributions,
    plot_heat_maps,
    plot_images,
)

_PASSES = {"inference": "forward", "training": "forward and backward"}


@torch.inference_mode()
def walk(
    backbone: nn.Module, source: ImageSource, batch: int = 32
) -> tuple[list[Tensor], Tensor]:
    """Send images through a backbone and keep what each stage says.

    Args:
        backbone: A network with ``stages``, in evaluation mode.
        source: The images.
        batch: Images at a time.

    Returns:
        For each stage the mean over its cells, ``(N, C)``, and the last map,
        ``(N, C, h, w)``.
    """
    steps, maps = [], []
    for images in source.batches(sequential_batches(len(source), batch)):
        x, means = TestTransform()(images), []
        for stage in backbone.stages:  # type: ignore[union-attr]
            x = stage(x)
            means.append(x.mean((2, 3)))
        steps.append(means)
        maps.append(x)
    return [torch.cat(step) for step in zip(*steps, strict=True)], torch.cat(maps)


def gain(before: Evaluation, after: Evaluation) -> tuple[float, float, float]:
    """Return the mean change of AP in points, and its 95 % interval over queries.

    Args:
        before: Scores of the queries.
        after: Other scores of the same queries.

    Returns:
        Mean, lower and upper end, of a bootstrap that draws queries.
    """
    change = 100 * (after.ap - before.ap)
    rows = np.random.default_rng(0).integers(len(change), size=(2000, len(change)))
    low, high = np.percentile(change[rows].mean(axis=1), [2.5, 97.5])
    return float(change.mean()), float(low), float(high)


def plot_scores(results: Mapping[str, Evaluation]) -> Axes:
    """Draw Rank-1 and mAP of several evaluations as bars, and print mAP roughly.

    Args:
        results: For each name its scores.

    Returns:
        The axes.
    """
    bars = {
        "Rank-1": {n: [100 * r.cmc[1]] for n, r in results.items()},
        "mAP": {n: [100 * r.mAP] for n, r in results.items()},
    }
    near = {n: 3 * round(100 * r.mAP / 3) for n, r in results.items()}
    print("mAP about", ", ".join(f"{v} % ({n})" for n, v in near.items()))
    return plot_bars(bars)


def plot_feature_map(images: Any, maps: Tensor, camids: Sequence[int]) -> Figure:
    """Draw images, the length of each cell's vector, and the two liveliest channels.

    Args:
        images: ``(N, H, W, 3)``.
        maps: ``(N, C, h, w)``, their feature map.
        camids: ``(N,)`` their cameras.

    Returns:
        The figure: four axes, one below the other.

    Example:
        >>> figure = plot_feature_map(np.zeros((2, 8, 4, 3)), torch.rand(2, 3, 4, 2),
        ...     [0, 1])
        >>> len(figure.axes)
        4
    """
    spread = maps.flatten(2).var(dim=2).mean(dim=0)
    channels = spread.topk(2).indices.tolist()
    figure, axes = plt.subplots(4, 1, figsize=(6.0, 9.4), layout="constrained")
    names = [f"camera {camid}" for camid in camids]
    plot_images(images, names, title="One person", ax=axes[0])
    plot_heat_maps(
        images, maps.norm(dim=1), title="Length of each cell's vector", ax=axes[1]
    )
    for ax, channel in zip(axes[2:], channels, strict=True):
        plot_heat_maps(images, maps[:, channel], title=f"Channel {channel}", ax=ax)
    return figure


def plot_pair_similarities(
    features: Mapping[str, Tensor], pids: Any
) -> dict[str, tuple[float, float]]:
    """Draw the cosine of pairs of one person and of two, a panel for each features.

    Args:
        features: For each name ``(N, D)``.
        pids: ``(N,)`` who is on the images.

    Returns:
        For each name the medians: of one person, and of two people.

    Example:
        >>> plot_pair_similarities({"a": torch.eye(3)}, [1, 1, 2])
        {'a': (0.0, 0.0)}
    """
    who = np.asarray(pids)
    same = who[:, None] == who
    upper = np.triu(np.ones_like(same), k=1)
    _, axes = plt.subplots(
        len(features),
        1,
        figsize=(6.4, 2.3 * len(features)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    medians = {}
    for ax, (name, vectors) in zip(axes[:, 0], features.items(), strict=True):
        unit = normalize(vectors)
        cosine = (unit @ unit.T).numpy()
        pairs = {
            "one person": cosine[upper & same],
            "two people": cosine[upper & ~same],
        }
        title = f"{name} the neck"
        plot_distributions(pairs, xlabel="cosine similarity", title=title, ax=ax)
        one, two = (float(np.median(values)) for values in pairs.values())
        medians[name] = one, two
    return medians


def plot_costs(
    costs: Mapping[str, Cost], measured: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, list[float]]]:
    """Draw what networks cost relative to EfficientNet-Lite0, at 256 x 128.

    Args:
        costs: For each backbone its counts.
        measured: Rows of ``results/backbones_speed.json``.

    Returns:
        For each kind of cost and each backbone a list of one ratio.
    """
    base = costs["efficientnet_lite0"]
    ratios = {
        "parameters": {n: [c.parameters / base.parameters] for n, c in costs.items()},
        "multiply-accumulates": {n: [c.macs / base.macs] for n, c in costs.items()},
        "memory in training": {n: [c.saved / base.saved] for n, c in costs.items()},
    }
    for name, kind in _PASSES.items():
        times = {
            row["backbone"]: [row["times_lite0"]]
            for row in measured
            if row["height"] == 256 and row["pass"] == kind
        }
        ratios[f"time, {name}"] = {n: times[n] for n in costs}
    _, ax = plt.subplots(figsize=(9.0, 3.6))
    plot_bars(ratios, ylabel="times Lite0", level=1.0, level_name="Lite0", ax=ax)
    return ratios
