"""Clusters: who is drawn where, in which frame, and the numbers of a sweep."""

from __future__ import annotations

from dataclasses import make_dataclass

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from reidlib.clustering import cluster_quality
from reidlib.errors import ReIDError
from reidlib.labels import refine_labels
from reidlib.plotting import (
    plot_clusters,
    plot_health,
    plot_refined_cluster,
    plot_sweep,
)
from reidlib.plotting.style import HIT, INK, MISS


def images(number: int) -> np.ndarray:
    """Images whose grey value is their row."""
    return np.tile(np.arange(number, dtype=np.uint8)[:, None, None, None], (1, 4, 2, 3))


def drawn(ax) -> list[int]:
    return [int(tile.get_array()[0, 0, 0]) for tile in ax.images]


def marks(ax) -> list[str]:
    return [t.get_text() for t in ax.texts if t.get_text() in "★✓✗"]


def frames(ax) -> list[str]:
    return [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches]


def words(ax) -> list[str]:
    return [t.get_text() for t in ax.texts if t.get_text() not in "★✓✗"]


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


def test_sweep_draws_each_measure_sorted_with_people_as_a_level():
    qualities = {
        eps: cluster_quality(labels, PIDS, CAMIDS)
        for eps, labels in ((0.6, np.zeros(7, int)), (0.4, LABELS))
    }
    axes = plot_sweep(
        {"k1 = 15": qualities, "k1 = 30": {0.5: qualities[0.4]}},
        measures=["clusters", "pairwise_f", "outlier_share"],
        num_pids=4,
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
    assert len(clusters.figure.axes) == 3  # no spare panel


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


QUALITY = [
    {"clusters": 40, "pairwise_precision": 0.4, "pairwise_recall": 0.2,
     "outlier_share": 0.6, "nmi_cam": 0.3, "nmi_pid": 0.7},
    {"clusters": 90, "pairwise_precision": 0.5, "pairwise_recall": 0.4,
     "outlier_share": 0.3, "nmi_cam": 0.1, "nmi_pid": 0.8},
]  # fmt: skip


def test_health_draws_clusters_and_shares_of_each_epoch():
    first, second = plot_health(QUALITY, num_pids=100)
    assert first.lines[0].get_xdata().tolist() == [1, 2]
    assert first.lines[0].get_ydata().tolist() == [40, 90]
    assert set(first.lines[1].get_ydata()) == {100}
    drawn = {line.get_label(): line.get_ydata().tolist() for line in second.lines}
    assert drawn == {
        "pair precision": [0.4, 0.5],
        "pair recall": [0.2, 0.4],
        "outlier share": [0.6, 0.3],
        "NMI with camera": [0.3, 0.1],
    }


def test_health_takes_dataclasses_numbered_epochs_and_other_measures():
    entry = make_dataclass("Quality", QUALITY[0].keys())
    _, second = plot_health([entry(**row) for row in QUALITY], measures=["nmi_pid"])
    assert second.lines[0].get_label() == "NMI with identity"
    first, _ = plot_health([{"epoch": e, **QUALITY[0]} for e in (0, 10)])
    assert first.lines[0].get_xdata().tolist() == [0, 10]


# Cluster 4: rows 1 to 6 and 8. Row 5 is the pivot, of camera 2 and local cluster 7.
GLOBAL = np.array([0, 4, 4, 4, 4, 4, 4, -1, 4])
LOCAL = np.array([7, 3, 7, 5, 7, 7, 6, 7, 9])
REFINED_CAMIDS = np.array([2, 0, 2, 2, 2, 2, 2, 2, 1])
REFINED_PIDS = np.array([1, 1, 1, 2, 1, 1, 3, 1, 1])
GONE = refine_labels(GLOBAL, LOCAL, REFINED_CAMIDS, torch.tensor([5])).discarded


def refined(**changes):
    options = {
        "images": images(9),
        "pivot": 5,
        "pseudo_labels": GLOBAL,
        "local_labels": LOCAL,
        "pids": REFINED_PIDS,
        "camids": REFINED_CAMIDS,
        "discarded": GONE,
    }
    return plot_refined_cluster(**{**options, **changes})


def test_a_pivot_has_its_global_local_and_refined_cluster_in_three_rows():
    ax = refined()
    first, second, third = [5, 2, 4, 3, 6, 1, 8], [5, 0, 2, 4, 7], [5, 2, 4, 1, 8]
    assert drawn(ax) == first + second + third
    # Own camera: 2 and 4 stay, 3 and 6 go; cameras 0 and 1 are not judged.
    assert marks(ax) == list("★✓✓✗✗★★")
    assert frames(ax) == [INK.upper(), HIT, HIT, MISS, MISS, INK.upper(), INK.upper()]
    assert words(ax)[0] == "global cluster\nall 7"
    assert words(ax)[1] == "id 1\ncam 2"
    assert [w for w in words(ax) if "cluster" in w][1:] == [
        "local cluster\nall 5",
        "refined cluster\nall 5",
    ]
    assert ax.get_title("left").startswith("★ pivot, ✓ stays, ✗ goes")


def test_what_is_drawn_as_refined_is_what_refine_labels_keeps():
    ax = refined(title="one")
    refined_labels = refine_labels(
        GLOBAL, LOCAL, REFINED_CAMIDS, torch.tensor([5])
    ).labels
    kept = np.flatnonzero(refined_labels == refined_labels[5])
    assert sorted(drawn(ax)[-5:]) == kept.tolist()
    assert ax.get_title("left").startswith("one (★")


def test_what_other_pivots_take_from_other_cameras_is_marked_as_well():
    gone = GONE.numpy().copy()
    gone[8] = True
    assert marks(refined(discarded=gone)) == list("★✓✓✗✗✗★★")


def test_a_long_row_is_cut_evenly_and_still_begins_with_its_pivot():
    number = 40
    labels, camids = np.zeros(number, int), np.arange(number) % 2
    local = np.where(np.arange(number) % 4 == 0, 0, 1 + np.arange(number))
    gone = refine_labels(labels, local, camids, torch.tensor([20])).discarded
    ax = plot_refined_cluster(
        images(number), 20, labels, local, None, camids, gone, columns=8
    )
    # 20 images of the own camera, half of them stay, and 20 of the other camera.
    assert marks(ax) == list("★✓✗✗★★")
    assert drawn(ax)[0] == drawn(ax)[8] == drawn(ax)[16] == 20
    assert "global cluster\n40 images" in words(ax)
    assert "cam 0" in words(ax)  # no identity: the camera alone


def test_only_the_images_drawn_are_read_and_an_outlier_of_stage_1_is_alone():
    read = []

    class Reader:
        def __getitem__(self, row):
            read.append(row)
            return torch.full((3, 4, 2), row, dtype=torch.uint8)

    local = np.full(9, -1)
    gone = refine_labels(GLOBAL, local, REFINED_CAMIDS, torch.tensor([5])).discarded
    ax = refined(images=Reader(), local_labels=local, discarded=gone)
    assert drawn(ax) == read == [5, 2, 3, 4, 6, 1, 8, 5, 5, 1, 8]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_clusters(images(7), LABELS, PIDS[:3], CAMIDS), "pids: got shape"),
        (lambda: plot_clusters(images(7), LABELS, PIDS, None), "give pids, camids"),
        (lambda: plot_clusters(images(7), LABELS, PIDS, CAMIDS, clusters=[5]),
         r"\[5\] without an image"),
        (lambda: plot_clusters(images(2), [-1, -1], [1, 1], [0, 0]), "got 0 of them"),
        (lambda: plot_clusters(images(1), [0.5], [1], [0]), "whole number"),
        (lambda: refined(camids=REFINED_CAMIDS[:3]), "camids: got shape"),
        (lambda: refined(discarded=GONE.long()), "the last one as bool"),
        (lambda: refined(pivot=9), "pivot is 9 of 9"),
        (lambda: refined(pivot=7), "row 7, is in no global cluster"),
        (lambda: refined(pivot=3), "row 3, is discarded"),
        (lambda: refined(columns=1), "two columns or more"),
        (lambda: plot_health([]), "epochs: got none"),
        (lambda: plot_health([{"clusters": 3}]), r"epochs\[0\]: has no pairwise_prec"),
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
