"""Clusters in the plane: which point has which colour."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import to_hex

from figures.clusters import (
    arc_and_heap,
    choices,
    final_inertia,
    nine_heaps,
    pair_errors,
    plot_changes,
    plot_choices,
    plot_cluster_map,
    plot_dbscan,
    plot_measures,
    plot_seeds,
    without_identities,
)
from reidlib.clustering import cluster_quality, kmeans_plus_plus
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


def test_seeds_fall_into_heaps_and_the_start_lowers_the_objective():
    toy = nine_heaps()
    rows = kmeans_plus_plus(toy, 9, torch.Generator().manual_seed(1)).tolist()
    figure = plot_seeds(toy, rows, (1, 9))
    hit = len({row // 20 for row in rows})
    assert figure.axes[1].get_title(loc="left") == f"drawn: 9, heaps hit: {hit}"
    ends = final_inertia(toy, k=9, times=20)
    assert ends["K-Means++"].mean() < ends["random start"].mean()


def test_circles_stand_around_a_point_of_each_kind():
    plane = arc_and_heap()
    labels = np.where(np.arange(53) < 30, 0, np.where(np.arange(53) < 44, 1, -1))
    core = labels >= 0
    core[3] = False
    ax = plot_dbscan(plane, labels, core, 0.08)
    assert [text.get_text() for text in ax.texts] == ["core", "border", "outlier"]
    assert ax.patches[1].center == tuple(plane[3])


def test_pairs_are_found_split_or_lost():
    labels = [0, 0, 1, -1, 1]
    errors = pair_errors(labels, [7, 7, 7, 7, 9], [0, 1, 0, 0, 0])
    assert errors["found"] == 1 / 6
    assert errors["split"] == 2 / 6
    assert errors["lost to outliers"] == 3 / 6
    assert errors["of split: across cameras"] == 1 / 2
    assert errors["wrong pairs: same camera"] == 1
    assert errors["clusters of one camera"] == 1 / 2


def test_choices_are_shares_of_the_best():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 1, 16, generator=generator)
    images = centres + 0.7 * torch.randn(12, 8, 16, generator=generator)
    features = torch.nn.functional.normalize(images.reshape(96, 16))
    pids, camids = np.repeat(np.arange(12), 8), np.arange(96) % 3

    def quality_of(labels):
        return cluster_quality(labels, pids, camids)

    radii = [0.3, 0.35, 0.4, 0.45, 0.5]
    table = without_identities(features, 8, radii, quality_of)
    assert set(table.index) <= set(radii)
    chosen = choices({"direct": features}, [8], radii, quality_of)
    assert chosen["share"].between(0, 1).all()
    best = table["pair F"].max()
    by_clusters = table["pair F"][table["clusters"].idxmax()]
    row = chosen[chosen["measure"] == "clusters"].iloc[0]
    assert row["share"] == by_clusters / best
    heights = [bar.get_height() for bar in plot_choices(chosen).patches]
    assert row["share"] in heights
    quality = {"a": quality_of(pids)}
    assert plot_measures(quality, ["pairwise_f"]).patches[0].get_height() == 1
    assert len(plot_changes(quality, quality, ["pairwise_f", "nmi_cam"]).axes) == 2
