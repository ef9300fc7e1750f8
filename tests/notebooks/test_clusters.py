"""Clusters in the plane: which point has which colour."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import to_hex

from figures.clusters import plot_cluster_map
from reidlib.plotting import COLOURS

LABELS = np.array([1, 0, 1, -1, 1, 0, 1])


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_map_colours_clusters_and_leaves_outliers_hollow():
    points = np.arange(14.0).reshape(7, 2)
    ax = plot_cluster_map(torch.from_numpy(points), LABELS, title="two")
    assert legend(ax) == ["cluster 0", "cluster 1", "outliers (1)"]
    for dots, label in zip(ax.collections, (0, 1, -1)):
        assert (dots.get_offsets() == points[label == LABELS]).all()
    assert len(ax.collections[-1].get_facecolor()) == 0
    assert to_hex(ax.collections[0].get_facecolor()[0]).upper() == COLOURS[0]


def test_map_colours_the_largest_clusters():
    labels = np.repeat(np.arange(10), [1, 1, 5, 5, 5, 5, 5, 5, 5, 5])
    points = np.random.default_rng(0).normal(size=(len(labels), 2))
    ax = plot_cluster_map(points, labels)
    assert legend(ax) == ["other clusters", *(f"cluster {i}" for i in range(2, 10))]
    assert len(ax.collections[0].get_offsets()) == 2
