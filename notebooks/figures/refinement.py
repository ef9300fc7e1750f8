"""Label refinement: what is worth a look, and the curves of its controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from reidlib.data import ImageTable, read_image
from reidlib.labels import refine_labels
from reidlib.plotting import COLOURS, MARKERS

Points = Mapping[float, tuple[float, float]]
"""For each setting a point of a curve: recall and precision."""


class Pictures:
    """The images of a table, each read when it is drawn.

    Args:
        table: Table of the images.
        size: Height and width.
    """

    def __init__(self, table: ImageTable, size: tuple[int, int] = (96, 48)) -> None:
        self.table, self.size = table, size

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the image of a row."""
        return read_image(self.table.file(row), self.size)


def pick_clusters(
    clusters: Tensor,
    pids: Tensor,
    camids: Tensor,
    least: int = 10,
    most: int = 24,
) -> list[int]:
    """Return a cluster that is a camera, and one that is a person.

    Args:
        clusters: ``(N,)`` clusters, -1 for an outlier.
        pids: ``(N,)`` person ids.
        camids: ``(N,)`` camera ids.
        least: Least number of images.
        most: Largest number of images.

    Returns:
        The cluster with the most people under its most frequent camera, and of those
        with one or two people the one with the most cameras.

    Example:
        >>> clusters = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> people, cameras = torch.tensor([1, 2, 3, 4, 4, 4]), torch.arange(6) // 3
        >>> pick_clusters(clusters, people, cameras, least=3)
        [0, 1]
    """
    sizes = torch.bincount(clusters[clusters >= 0])
    middling = torch.nonzero((sizes >= least) & (sizes <= most))[:, 0].tolist()

    def people(cluster: int) -> int:
        members = clusters == cluster
        camera = camids[members].mode().values
        return len(pids[members & (camids == camera)].unique())

    few = [c for c in middling if len(pids[clusters == c].unique()) <= 2]
    person = max(few, key=lambda c: len(camids[clusters == c].unique()))
    return [max(middling, key=people), person]


def judge_pivots(
    pivots: Tensor, clusters: Tensor, local: Tensor, pids: Tensor, camids: Tensor
) -> pd.DataFrame:
    """Return what each pivot alone discards, and how often it is right (CALR-E5).

    Args:
        pivots: Rows of the pivots.
        clusters: ``(N,)`` global clusters.
        local: ``(N,)`` local clusters.
        pids: ``(N,)`` person ids.
        camids: ``(N,)`` camera ids.

    Returns:
        A line for each pivot: the images of its ``cluster``, those of its camera that
        are ``judged``, the ``strangers`` among these, how many are ``out``, and how
        many ``rightly``.

    Example:
        >>> zeros = torch.zeros(3, dtype=torch.long)
        >>> two = torch.tensor([0, 0, 1])
        >>> judge_pivots(zeros[:1], zeros, two, two, zeros).loc[0].tolist()
        [3, 2, 1, 1, 1]
    """
    lines = {}
    for pivot in pivots.tolist():
        refined = refine_labels(clusters, local, camids, torch.tensor([pivot]))
        out, strangers = refined.discarded, pids != pids[pivot]
        mates = clusters == clusters[pivot]
        own = mates & (camids == camids[pivot])
        lines[pivot] = {
            "cluster": int(mates.sum()),
            "judged": int(own.sum()) - 1,
            "strangers": int((own & strangers).sum()),
            "out": int(out.sum()),
            "rightly": int((out & strangers).sum()),
        }
    return pd.DataFrame(lines).T


def pick_pivots(cases: pd.DataFrame) -> tuple[int, int]:
    """Return the pivot that does the most good, and the one that does the most harm.

    Args:
        cases: From `judge_pivots`.

    Returns:
        Rows of two pivots whose clusters fit into a figure: most strangers out, less
        those that stay and people of its own that go; most people of its own out.
    """
    small = cases[(cases["cluster"] <= 24) & (cases["judged"] < 14)]
    wrongly = small["out"] - small["rightly"]
    net = small["rightly"] - wrongly - (small["strangers"] - small["rightly"])
    rows = small.index.tolist()
    return rows[int(net.argmax())], rows[int(wrongly.argmax())]


def plot_judges(
    judges: Mapping[str, Points], marks: Mapping[str, tuple[float, float]]
) -> Axes:
    """Draw precision against recall of several judges, at many sizes of clusters.

    Args:
        judges: For each name its points.
        marks: Points with a text.

    Returns:
        The axes, a line for each judge.

    Example:
        >>> ax = plot_judges({"one": {1: (0.5, 0.4), 2: (0.4, 0.6)}}, {})
        >>> ax.lines[0].get_ydata().tolist()
        [0.4, 0.6]
    """
    ax = plt.subplots()[1]
    for (name, points), colour, marker in zip(judges.items(), COLOURS, MARKERS):
        x, y = zip(*points.values())
        ax.plot(x, y, color=colour, marker=marker, label=name)
    for text, at in marks.items():
        ax.annotate(text, at, (8, 6), textcoords="offset points", fontsize=8.5)
    ax.set(xlabel="recall of pairs under one camera", ylabel="precision of these pairs")
    ax.set_ylim(0)
    ax.legend()
    return ax


def plot_arrows(before: Points, after: Points) -> Axes:
    """Draw clusters of several k, and an arrow from each to its refined clusters.

    Args:
        before: The points of each k.
        after: The points of its refined clusters.

    Returns:
        The axes: a line through the first, and markers for the second.

    Example:
        >>> ax = plot_arrows({4: (0.2, 0.5), 6: (0.3, 0.4)}, {4: (0.1, 0.6)})
        >>> ax.lines[1].get_xdata().tolist()
        [0.1]
    """
    ax = plt.subplots()[1]
    for points, name, line, i in (
        (before, "Infomap", "-", 0),
        (after, "refined", "", 1),
    ):
        x, y = zip(*points.values())
        ax.plot(x, y, color=COLOURS[i], marker=MARKERS[i], ls=line, label=name)
    look: dict[str, Any] = {"arrowstyle": "->", "color": COLOURS[6], "lw": 1.0}
    for k, start in before.items():
        if k in after:
            ax.annotate("", after[k], start, arrowprops=look | {"shrinkA": 4})
        ax.annotate(f"k = {k}", start, (7, 3), textcoords="offset points", fontsize=8.5)
    ax.set(xlabel="pair recall, all cameras", ylabel="pair precision, all cameras")
    ax.set(ylim=(0, None), xlim=(None, max(x for x, _ in before.values()) + 0.04))
    ax.legend()
    return ax
