"""Chapter 4: clusters and outliers in the plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from reidlib.plotting import COLOURS, plot_embedding


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
