"""Clusters in the plane, what is wrong with clusters, and choices without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import adjusted_rand_score, silhouette_score
from torch import Tensor

from reidlib.clustering import (
    ClusterQuality,
    dbscan,
    dense_distance,
    jaccard_distance,
    kmeans_plus_plus,
)
from reidlib.clustering.kmeans import lloyd
from reidlib.plotting import (
    COLOURS,
    plot_bars,
    plot_distributions,
    plot_embedding,
    plot_ranking,
)
from reidlib.plotting.style import INK

NAMES = {
    "pairwise_precision": "pair precision",
    "pairwise_recall": "pair recall",
    "pairwise_f": "pair F",
    "bcubed_f": "B-cubed F",
    "outlier_share": "outliers",
    "nmi_cam": "NMI camera",
}
"""Measures of `ClusterQuality` as the figures call them."""


def nine_heaps() -> Tensor:
    """Return the points of nine heaps of twenty in the plane, ``(180, 2)``.

    Example:
        >>> nine_heaps().shape
        torch.Size([180, 2])
    """
    grid = np.array([(x, y) for x in range(3) for y in range(3)])
    noise = np.random.default_rng(4).normal(scale=0.12, size=(180, 2))
    return torch.from_numpy((grid.repeat(20, axis=0) + noise).astype("f4"))


def plot_seeds(points: Tensor, rows: Sequence[int], steps: Sequence[int]) -> Figure:
    """Draw how K-Means++ chooses its centres, one panel for each number of draws.

    Args:
        points: ``(N, 2)``, heaps of twenty as those of `nine_heaps`.
        rows: Rows that are drawn, in their order.
        steps: How many are drawn already.

    Returns:
        The figure. The area of a point is its chance to be drawn next.

    Example:
        >>> len(plot_seeds(nine_heaps(), [0, 30, 70], [1, 3]).axes)
        2
    """
    figure, axes = plt.subplots(
        1, len(steps), figsize=(3 * len(steps), 3.1), layout="constrained"
    )
    for ax, drawn in zip(np.atleast_1d(axes), steps, strict=True):
        centres = points[list(rows[:drawn])]
        chance = torch.cdist(points, centres).square().amin(dim=1)
        area = 1 + 80 * chance / chance.max()
        ax.scatter(*points.T, s=area, color=COLOURS[0], alpha=0.5)
        ax.scatter(*centres.T, marker="*", s=150, color=COLOURS[5], zorder=3)
        hit = len({row // 20 for row in rows[:drawn]})
        ax.set(title=f"drawn: {drawn}, heaps hit: {hit}", xticks=[], yticks=[])
    return figure


def final_inertia(points: Tensor, k: int, times: int) -> dict[str, np.ndarray]:
    """Run Lloyd's algorithm from random images and from K-Means++.

    Args:
        points: ``(N, D)``.
        k: Number of clusters.
        times: How often from each kind of start.

    Returns:
        For each kind of start the final objective J of each run.
    """
    ends = {}
    for name in ("random start", "K-Means++"):
        generator = torch.Generator().manual_seed(0)
        found = []
        for _ in range(times):
            if name == "K-Means++":
                rows = kmeans_plus_plus(points, k, generator)
            else:
                rows = torch.randperm(len(points), generator=generator)[:k]
            end = lloyd(points, points[rows], max_iter=100, tol=1e-4)
            found.append(float(end.inertia))
        ends[name] = np.array(found)
    return ends


def plot_inertia(heaps: Mapping[str, Any], real: Mapping[str, Any]) -> Figure:
    """Draw the final J of both kinds of start, on heaps above and on features below.

    Args:
        heaps: As of `final_inertia`, for the heaps.
        real: The same for features.

    Returns:
        The figure.
    """
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 4.6), layout="constrained")
    plot_distributions(heaps, xlabel="final J", title="Nine heaps, k = 9", ax=axes[0])
    title = "ImageNet features, k = 40"
    plot_distributions(real, xlabel="final J", bins=8, title=title, ax=axes[1])
    return figure


def plot_neighbours(
    pixels: Sequence[Any], near: np.ndarray, rows: Sequence[int], pids: Any, camids: Any
) -> Axes:
    """Draw the nearest images of some, and which of them are mutual.

    Args:
        pixels: ``N`` images.
        near: ``(N, k)`` the nearest others of each.
        rows: Which images to show.
        pids: ``(N,)``.
        camids: ``(N,)``.

    Returns:
        The axes.
    """
    some = np.asarray(rows)
    mutual = np.array([[row in near[j] for j in near[row]] for row in some])
    ax = plot_ranking(
        [pixels[row] for row in some],
        [[pixels[j] for j in near[row]] for row in some],
        mutual,
        query_pids=pids[some],
        query_camids=camids[some],
        pids=pids[near[some]],
        camids=camids[near[some]],
    )
    ax.set_title("Nearest (✓ has the left image among its own nearest, ✗ not)")
    return ax


def arc_and_heap() -> np.ndarray:
    """Return an arc, a heap beside it and stray points, ``(53, 2)``.

    Example:
        >>> arc_and_heap().shape
        (53, 2)
    """
    rng = np.random.default_rng(3)
    angle = np.linspace(0.2, np.pi - 0.2, 30)
    arc = 0.32 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + (0.38, 0.42)
    heap = rng.normal((0.42, 0.36), 0.035, size=(14, 2))
    arc += rng.normal(scale=0.012, size=arc.shape)
    return np.vstack([arc, heap, rng.random((9, 2)) * 0.9])


def plot_dbscan(points: np.ndarray, labels: Any, core: Any, eps: float) -> Axes:
    """Draw clusters in the plane, with circles around one point of each kind.

    Args:
        points: ``(N, 2)``.
        labels: ``(N,)`` clusters, -1 for an outlier.
        core: ``(N,)`` whether a point is a core.
        eps: Radius of the circles.

    Returns:
        The axes of `plot_cluster_map`, with the three circles.
    """
    found, dense = np.asarray(labels), np.asarray(core)
    cores = np.flatnonzero(dense)
    outliers = np.flatnonzero(found < 0)
    chosen = {
        "core": cores[len(cores) // 3],
        "border": np.flatnonzero(~dense & (found >= 0))[0],
        "outlier": outliers[np.argmin(points[outliers, 1])],
    }
    ax = plot_cluster_map(points, found, title=f"eps = {eps}")
    for name, row in chosen.items():
        x, y = points[row]
        ax.add_patch(plt.Circle((x, y), eps, fill=False, ls="--", color=INK))
        ax.text(x, y - eps - 0.01, name, ha="center", va="top", fontsize=8.5)
    ax.set_aspect("equal")
    return ax


def pair_errors(pseudo_labels: Any, pids: Any, camids: Any) -> dict[str, float]:
    """Say how a clustering loses pairs of one person, and what its wrong pairs share.

    Args:
        pseudo_labels: ``(N,)`` clusters, -1 for an outlier.
        pids: ``(N,)`` who it is.
        camids: ``(N,)`` the camera.

    Returns:
        Of the pairs of one person the share that is found, that is lost to outliers and
        that is split; of the split ones the share across cameras; of the wrong pairs
        the share under one camera; of the clusters the share of one camera.

    Example:
        >>> pair_errors([0, 0, 1, -1], [7, 7, 7, 7], [0, 1, 0, 0])["split"].round(2)
        np.float64(0.33)
    """
    labels, who, seen = (np.asarray(a) for a in (pseudo_labels, pids, camids))
    out = (labels < 0)[:, None] | (labels < 0)
    other = ~np.eye(len(labels), dtype=bool)
    together = (labels[:, None] == labels) & ~out & other
    wanted = (who[:, None] == who) & other
    camera = seen[:, None] == seen
    split = wanted & ~together & ~out
    wrong = together & ~wanted
    cameras = [set(seen[labels == k]) for k in range(labels.max() + 1)]
    return {
        "found": (wanted & together).sum() / wanted.sum(),
        "lost to outliers": (wanted & out).sum() / wanted.sum(),
        "split": split.sum() / wanted.sum(),
        "of split: across cameras": (split & ~camera).sum() / max(split.sum(), 1),
        "wrong pairs: same camera": (wrong & camera).sum() / max(wrong.sum(), 1),
        "clusters of one camera": float(np.mean([len(c) == 1 for c in cameras])),
    }


def plot_measures(
    qualities: Mapping[str, ClusterQuality], measures: Sequence[str]
) -> Axes:
    """Draw measures of several clusterings as bars.

    Args:
        qualities: For each clustering its quality.
        measures: Fields of ``ClusterQuality``.

    Returns:
        The axes.
    """
    _, ax = plt.subplots(figsize=(9.2, 3.6))
    bars = {
        NAMES[measure]: {n: [getattr(q, measure)] for n, q in qualities.items()}
        for measure in measures
    }
    return plot_bars(bars, ylabel="share, or NMI", digits=2, ax=ax)


def plot_changes(
    before: Mapping[str, ClusterQuality],
    after: Mapping[str, ClusterQuality],
    measures: Sequence[str],
) -> Figure:
    """Draw measures on direct and on trained features, a panel for each measure.

    Args:
        before: For each clustering its quality on direct features.
        after: The same on trained features.
        measures: Fields of ``ClusterQuality``.

    Returns:
        The figure.
    """
    figure, axes = plt.subplots(
        len(measures), 1, figsize=(6.4, 2.7 * len(measures)), layout="constrained"
    )
    for ax, measure in zip(np.atleast_1d(axes), measures, strict=True):
        bars = {
            name: {
                "direct": [getattr(before[name], measure)],
                "trained": [getattr(after[name], measure)],
            }
            for name in after
        }
        plot_bars(bars, ylabel="", digits=2, title=NAMES[measure], ax=ax)
    return figure


def without_identities(
    features: Tensor,
    k1: int,
    radii: Sequence[float],
    quality_of: Callable[[Any], ClusterQuality],
) -> pd.DataFrame:
    """Measure clusterings by what can be known without identity labels.

    Args:
        features: ``(N, D)``, of length 1.
        k1: Size of the neighbourhood of the Jaccard distance.
        radii: Each ``eps``, 0.05 apart.
        quality_of: The quality of labels; only "pair F" is of identities.

    Returns:
        A row for each radius with at least two clusters. Of every measure a larger
        value looks better.
    """
    distance = jaccard_distance(features, k1=k1, k2=4)
    full = dense_distance(distance)
    np.fill_diagonal(full, 0)
    labels = {eps: dbscan(distance, eps).numpy() for eps in radii}
    lines = {}
    for eps, now in labels.items():
        inside, quality = now >= 0, quality_of(now)
        if quality.clusters < 2:
            continue
        part = full[inside][:, inside]
        mean = silhouette_score(part, now[inside], metric="precomputed")
        stable = []
        for step in (-0.05, 0.05):
            then = labels.get(round(eps + step, 2))
            if then is not None:
                both = inside & (then >= 0)
                stable.append(adjusted_rand_score(now[both], then[both]))
        lines[eps] = {
            "pair F": quality.pairwise_f,
            "clusters": quality.clusters,
            "images clustered": 1 - quality.outlier_share,
            "silhouette": mean,
            "silhouette over all": mean * inside.mean(),
            "stability": np.mean(stable),
            "camera-free (1 - NMI)": 1 - quality.nmi_cam,
        }
    return pd.DataFrame(lines).T


def choices(
    features: Mapping[str, Tensor],
    neighbourhoods: Sequence[int],
    radii: Sequence[float],
    quality_of: Callable[[Any], ClusterQuality],
) -> pd.DataFrame:
    """Choose a radius by each measure that needs no identity labels.

    Args:
        features: For each name ``(N, D)``.
        neighbourhoods: Values of ``k1``.
        radii: As for `without_identities`.
        quality_of: As for `without_identities`.

    Returns:
        For each measure, features and ``k1``: pair F of the radius where the measure is
        largest, as a share of the best.
    """
    lines = []
    for kind, vectors in features.items():
        for k1 in neighbourhoods:
            table = without_identities(vectors, k1, radii, quality_of)
            truth = table.pop("pair F").to_numpy()
            for measure, values in table.items():
                line = {
                    "measure": measure,
                    "features": kind,
                    "k1": k1,
                    "share": truth[np.argmax(values.to_numpy())] / truth.max(),
                }
                lines.append(line)
    return pd.DataFrame(lines)


def plot_choices(chosen: pd.DataFrame) -> Axes:
    """Draw what each measure would have chosen.

    Args:
        chosen: As of `choices`.

    Returns:
        The axes: for each measure mean and deviation of the share of the best F.
    """
    _, ax = plt.subplots(figsize=(9.2, 3.4))
    bars = {
        str(name).replace(" ", "\n", 1): {"F": group["share"].to_numpy()}
        for name, group in chosen.groupby("measure", sort=False)
    }
    return plot_bars(bars, ylabel="share of the best F", digits=2, ax=ax)


def plot_cluster_map(points: Any, pseudo_labels: Any, *, title: str = "") -> Axes:
    """Draw clusters in the plane; outliers are hollow and grey.

    Args:
        points: ``(N, 2)``, a t-SNE of the features, say.
        pseudo_labels: ``(N,)`` clusters, -1 for an outlier; at least one is a cluster.
        title: Title of the figure.

    Returns:
        The axes: collections of the other clusters (where there are more clusters than
        colours), of each of the largest clusters, and of the outliers (where there are
        any).

    Example:
        >>> ax = plot_cluster_map([[0, 0], [0, 1], [5, 5]], [0, 0, -1])
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['cluster 0', 'outliers (1)']
    """
    places, labels = np.asarray(points), np.asarray(pseudo_labels)
    inside = labels >= 0
    names, counts = np.unique(labels[inside], return_counts=True)
    largest = np.sort(names[np.argsort(-counts, kind="stable")[: len(COLOURS)]])
    ax = plot_embedding(
        places[inside], labels[inside], name="cluster", only=list(largest), title=title
    )
    if len(names) > len(largest):
        ax.collections[0].set_label("other clusters")
    if not inside.all():
        ax.scatter(
            places[~inside, 0],
            places[~inside, 1],
            s=15,
            facecolor="none",
            edgecolor=COLOURS[6],
            lw=0.7,
            label=f"outliers ({(~inside).sum()})",
            zorder=1,
        )
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=1.3)
    return ax
