"""Clusters: who is drawn where, in which frame, and the numbers of a sweep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from reidlib.clustering import cluster_quality
from reidlib.errors import ReIDError
from reidlib.plotting import (
    COLOURS,
    plot_cluster_map,
    plot_clusters,
    plot_sweep,
)
from reidlib.plotting.style import HIT, MISS


def images(number: int) -> np.ndarray:
    """Images whose grey value is their row."""
    return np.tile(np.arange(number, dtype=np.uint8)[:, None, None, None], (1, 4, 2, 3))


def drawn(ax) -> list[int]:
    return [int(tile.get_array()[0, 0, 0]) for tile in ax.images]


def marks(ax) -> list[str]:
    return [t.get_text() for t in ax.texts if t.get_text() in "✓✗"]


def frames(ax) -> list[str]:
    return [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches]


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


LABELS = np.array([1, 0, 1, -1, 1, 0, 1])
PIDS = np.array([9, 4, 8, 8, 9, 4, 5])
CAMIDS = np.array([0, 1, 2, 0, 1, 3, 4])


def test_a_cluster_is_a_row_with_its_majority_ticked_and_in_front():
    ax = plot_clusters(images(7), LABELS, PIDS, CAMIDS, clusters=[1, 0])
    assert drawn(ax) == [0, 4, 6, 2, 1, 5]  # persons 9 9 5 8, then 4 4
    assert marks(ax) == list("✓✓✗✗✓✓")
    assert frames(ax) == [HIT, HIT, MISS, MISS, HIT, HIT]
    texts = [t.get_text() for t in ax.texts if t.get_text() not in "✓✗"]
    assert texts[0] == "cluster 1\nall 4"
    assert texts[1:5] == ["id 9\ncam 0", "id 9\ncam 1", "id 5\ncam 4", "id 8\ncam 2"]
    assert "✓ the cluster's most frequent person, ✗ another" in ax.get_title("left")


def test_by_default_the_largest_clusters_are_drawn_and_never_the_outliers():
    labels = torch.tensor([-1] * 9 + [0] + [1] * 3 + [2] * 2 + [3, 4, 5])
    ax = plot_clusters(images(18), labels, np.ones(18, int), np.zeros(18, int))
    rows = [t.get_text().split("\n")[0] for t in ax.texts if "cluster" in t.get_text()]
    assert rows == ["cluster 1", "cluster 2", "cluster 0", "cluster 3", "cluster 4"]


def test_outliers_have_neither_frame_nor_mark():
    ax = plot_clusters(images(7), LABELS, PIDS, CAMIDS, clusters=[-1])
    assert drawn(ax) == [3]
    assert (marks(ax), frames(ax)) == ([], [])


def test_a_row_that_is_cut_keeps_the_proportions_of_its_cluster():
    labels, camids = np.zeros(40, int), np.zeros(40, int)
    pids = np.where(np.arange(40) % 4 == 0, 1, 2)  # a quarter is person 1
    ax = plot_clusters(images(40), labels, pids, camids, columns=8)
    assert marks(ax) == list("✓✓✓✓✓✓✗✗")
    assert "cluster 0\n40 images" in [t.get_text() for t in ax.texts]


def test_equals_go_to_the_lowest_id_and_nobody_known_is_no_majority():
    ax = plot_clusters(images(4), np.zeros(4, int), [7, 3, 3, 7], [0, 0, 0, 0])
    assert drawn(ax) == [1, 2, 0, 3]
    assert marks(ax) == list("✓✓✗✗")
    ax = plot_clusters(images(3), np.zeros(3, int), [0, 0, 6], [0, 0, 0])
    assert drawn(ax) == [2, 0, 1]
    assert marks(ax) == list("✓✗✗")
    ax = plot_clusters(images(2), np.zeros(2, int), [0, -1], [0, 0])
    assert marks(ax) == list("✗✗")


def test_only_the_images_drawn_are_read():
    read = []

    class Reader:
        def __getitem__(self, row):
            read.append(row)
            return torch.full((3, 4, 2), row, dtype=torch.uint8)

    ax = plot_clusters(Reader(), LABELS, PIDS, CAMIDS, clusters=[0])
    assert read == [1, 5]
    assert drawn(ax) == [1, 5]


def test_map_colours_clusters_and_leaves_outliers_hollow():
    points = np.arange(14.0).reshape(7, 2)
    ax = plot_cluster_map(torch.from_numpy(points), LABELS, title="two")
    assert legend(ax) == ["cluster 0", "cluster 1", "outliers (1)"]
    for dots, label in zip(ax.collections, (0, 1, -1)):
        assert (dots.get_offsets() == points[label == LABELS]).all()
    assert len(ax.collections[-1].get_facecolor()) == 0
    assert to_hex(ax.collections[0].get_facecolor()[0]).upper() == COLOURS[0]


def test_map_colours_the_largest_clusters_or_those_asked_for():
    labels = np.repeat(np.arange(10), [1, 1, 5, 5, 5, 5, 5, 5, 5, 5])
    points = np.random.default_rng(0).normal(size=(len(labels), 2))
    ax = plot_cluster_map(points, labels)
    assert legend(ax) == ["other clusters", *(f"cluster {i}" for i in range(2, 10))]
    assert len(ax.collections[0].get_offsets()) == 2
    ax = plot_cluster_map(points, labels, only=[7])
    assert [len(dots.get_offsets()) for dots in ax.collections] == [37, 5]


def test_map_of_outliers_alone_is_a_figure():
    ax = plot_cluster_map(np.zeros((3, 2)), [-1, -1, -1])
    assert legend(ax) == ["outliers (3)"]
    assert len(ax.collections[0].get_offsets()) == 3


def test_sweep_draws_each_measure_sorted_with_people_as_a_level():
    qualities = {
        eps: cluster_quality(labels, PIDS, CAMIDS)
        for eps, labels in ((0.6, np.zeros(7, int)), (0.4, LABELS))
    }
    axes = plot_sweep(
        {"k1 = 15": qualities, "k1 = 30": {0.5: qualities[0.4]}},
        measures=["clusters", "pairwise_f", "outlier_share"],
        num_pids=4,
        title="DBSCAN",
    )
    clusters, pair_f, outliers = axes
    assert clusters.lines[0].get_xdata().tolist() == [0.4, 0.6]
    assert clusters.lines[0].get_ydata().tolist() == [2, 1]
    assert clusters.lines[1].get_xdata().tolist() == [0.5]
    assert set(clusters.lines[2].get_ydata()) == {4}
    assert legend(clusters) == ["k1 = 15", "k1 = 30", "people"]
    assert pair_f.lines[0].get_ydata().tolist() == [
        qualities[0.4].pairwise_f,
        qualities[0.6].pairwise_f,
    ]
    assert outliers.lines[0].get_ydata().tolist() == [1 / 7, 0]
    assert [ax.get_title("left") for ax in axes[1:]] == ["pair F", "outlier share"]
    assert len({line.get_marker() for line in clusters.lines[:2]}) == 2
    # The level is in sight, and heights start at 0.
    assert clusters.get_ylim()[0] == 0
    assert clusters.get_ylim()[1] > 4
    assert clusters.figure.get_suptitle() == "DBSCAN"
    assert len(clusters.figure.axes) == 3  # the spare panel is gone


def test_sweep_draws_into_given_axes_and_leaves_gaps_for_nan():
    _, given = plt.subplots(1, 2)
    sweep = {
        1: {"nmi_cam": float("nan"), "rest": 1.0},
        2: {"nmi_cam": 0.5, "rest": -0.1},
    }
    axes = plot_sweep({"a": sweep}, measures=["nmi_cam", "rest"], axes=given)
    assert axes[0] is given[0]
    assert np.isnan(axes[0].lines[0].get_ydata()[0])
    assert axes[1].get_title("left") == "rest"
    assert axes[1].get_ylim()[0] < -0.1


@pytest.mark.filterwarnings("error")
def test_a_sweep_of_nothing_but_gaps_is_drawn():
    sweep = {0.5: {"nmi_cam": float("nan")}}
    (ax,) = plot_sweep({"a": sweep}, measures=["nmi_cam"])
    assert ax.get_ylim()[0] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_clusters(images(7), LABELS, PIDS[:3], CAMIDS), "pids: got shape"),
        (lambda: plot_clusters(images(7), LABELS, PIDS, None), "give pids, camids"),
        (lambda: plot_clusters(images(7), LABELS, PIDS, CAMIDS, clusters=[5]),
         r"\[5\] without an image"),
        (lambda: plot_clusters(images(2), [-1, -1], [1, 1], [0, 0]), "got 0 of them"),
        (lambda: plot_clusters(images(1), [0.5], [1], [0]), "whole number"),
        (lambda: plot_cluster_map(np.zeros((3, 3)), [0, 0, 0]), r"\(N, 2\)"),
        (lambda: plot_cluster_map(np.zeros((3, 2)), [0, 0]), r"\(N, 2\)"),
        (lambda: plot_cluster_map(np.zeros((9, 2)), range(9), only=range(9)),
         "9 classes for 8 colours"),
        (lambda: plot_cluster_map(np.zeros((3, 2)), [0, 1, -1], only=[1, 7]),
         "no image has the cluster 7"),
        (lambda: plot_cluster_map(np.zeros((3, 2)), [0, 1, -1], only=[-1]),
         "no image has the cluster -1"),
        (lambda: plot_sweep({}), "sweeps: got 0"),
        (lambda: plot_sweep({"a": {}}), "at least one value"),
        (lambda: plot_sweep({"a": {0.5: {"clusters": 3}}}), "has no outlier_share"),
        (lambda: plot_sweep({"a": {0.5: {"clusters": 3}}}, measures=["clusters"],
                            axes=[]), "axes: got 0 for 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_an_error(call, message):
    with pytest.raises(ReIDError, match=message):
        call()
