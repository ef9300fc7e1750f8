"""Refinement: which images are drawn and framed, and the numbers behind the lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from reidlib.clustering import cluster_quality
from reidlib.errors import ReIDError
from reidlib.labels import discard_probability, refine_labels
from reidlib.plotting import (
    COLOURS,
    plot_cluster_figures,
    plot_dose_response,
    plot_refined_cluster,
    plot_refinement_epochs,
    plot_schedules,
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


def lines(ax) -> list[list[float]]:
    return [np.asarray(line.get_ydata(), dtype=float).tolist() for line in ax.lines]


# Cluster 4: rows 1 to 6 and 8. Row 5 is the pivot, of camera 2 and local cluster 7.
CLUSTERS = np.array([0, 4, 4, 4, 4, 4, 4, -1, 4])
LOCAL = np.array([7, 3, 7, 5, 7, 7, 6, 7, 9])
CAMIDS = np.array([2, 0, 2, 2, 2, 2, 2, 2, 1])
PIDS = np.array([1, 1, 1, 2, 1, 1, 3, 1, 1])
GONE = refine_labels(CLUSTERS, LOCAL, CAMIDS, torch.tensor([5])).discarded


def refined(**changes):
    options = {
        "images": images(9),
        "pivot": 5,
        "pseudo_labels": CLUSTERS,
        "local_labels": LOCAL,
        "pids": PIDS,
        "camids": CAMIDS,
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
    refined_labels = refine_labels(CLUSTERS, LOCAL, CAMIDS, torch.tensor([5])).labels
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
    gone = refine_labels(CLUSTERS, local, CAMIDS, torch.tensor([5])).discarded
    ax = refined(images=Reader(), local_labels=local, discarded=gone)
    assert drawn(ax) == read == [5, 2, 3, 4, 6, 1, 8, 5, 5, 1, 8]


def test_bars_are_the_figures_of_each_set_at_each_place():
    def quality(labels):
        return cluster_quality(labels, PIDS, CAMIDS)

    sets = {
        "global": [quality(CLUSTERS), quality(LOCAL)],
        "local": [quality(LOCAL), {"pairwise_f": float("nan"), "expansion": 3.0}],
    }
    panels = plot_cluster_figures(
        sets, ["cam 0", "cam 1"], measures=["pairwise_f", "expansion"], title="F4"
    )
    heights = [
        [[bar.get_height() for bar in bars] for bars in ax.containers] for ax in panels
    ]
    f, expansion = quality(LOCAL).pairwise_f, quality(LOCAL).expansion
    assert heights[0][0] == [quality(CLUSTERS).pairwise_f, f]
    assert heights[0][1][0] == f
    assert np.isnan(heights[0][1][1])
    assert heights[1] == [[quality(CLUSTERS).expansion, expansion], [expansion, 3.0]]
    ticks = [text.get_text() for text in panels[0].get_xticklabels()]
    assert ticks == ["cam 0", "cam 1"]
    assert panels[0].get_title("left") == "pair F"
    (names,) = panels[0].figure.legends
    assert [text.get_text() for text in names.get_texts()] == ["global", "local"]
    assert panels[0].figure.get_suptitle() == "F4"
    # Told apart without colour, and side by side.
    first, second = (bars[0] for bars in panels[0].containers)
    assert first.get_hatch() != second.get_hatch()
    assert first.get_x() + first.get_width() < second.get_x()


def test_bars_into_given_axes_have_their_legend_inside():
    _, given = plt.subplots(1, 2)
    row = [{"purity": 0.5, "clusters": 3}]
    panels = plot_cluster_figures(
        {"a": row, "b": row}, ["all"], measures=["purity", "clusters"], axes=given
    )
    assert panels[1] is given[1]
    assert legend(given[0]) == ["a", "b"]


def test_schedules_are_drawn_epoch_by_epoch_and_told_apart_without_colour():
    curves = {
        name: [discard_probability(e, 6, name) for e in range(6)]
        for name in ("none", "linear", "cosine")
    }
    ax = plot_schedules(curves)
    assert lines(ax) == list(curves.values())
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert legend(ax) == ["none", "linear", "cosine"]
    assert len({line.get_linestyle() for line in ax.lines}) == 3


def test_epochs_have_a_panel_a_measure_and_a_line_for_mean_and_seeds():
    runs = {
        "CALR": {
            "discard_ratio": torch.tensor([[0.5, 0.2], [0.3, 0.4]]),
            "clusters": [[10, 12], [14, 12]],
        },
        "baseline": {"clusters": [20, 22], "mAP": [0.1, float("nan")]},
    }
    discards, clusters, score = plot_refinement_epochs(runs, num_pids=15)
    assert np.allclose(lines(discards), [[40, 30], [50, 20], [30, 40]])
    assert lines(clusters)[:4] == [[12, 12], [10, 12], [14, 12], [20, 22]]
    assert set(lines(clusters)[4]) == {15}
    assert lines(score)[0][0] == 10
    assert np.isnan(lines(score)[0][1])
    assert score.lines[0].get_xdata().tolist() == [1, 2]
    # A run keeps its colour from panel to panel.
    assert to_hex(clusters.lines[3].get_color()).upper() == COLOURS[1]
    assert to_hex(score.lines[0].get_color()).upper() == COLOURS[1]
    (names,) = score.figure.legends
    labels = [text.get_text() for text in names.get_texts()]
    assert labels == ["CALR", "baseline", "people"]


def test_runs_are_named_in_their_order_whatever_they_measure():
    runs = {"baseline": {"clusters": [3]}, "CALR": {"discard_ratio": [0.1]}}
    axes = plot_refinement_epochs(runs)
    (names,) = axes[0].figure.legends
    assert [text.get_text() for text in names.get_texts()] == ["baseline", "CALR"]


def test_a_measure_that_nobody_has_gets_no_panel():
    axes = plot_refinement_epochs({"tiny": {"clusters": [3, 4]}})
    assert [ax.get_ylabel() for ax in axes] == ["number of clusters"]
    assert axes[0].figure.legends == []


@pytest.mark.filterwarnings("error")
def test_dose_response_pairs_the_seeds_and_skips_what_was_not_measured():
    nan = float("nan")
    plain = np.array([[30.0, 20.0, nan], [34.0, nan, nan]])
    refined = np.array([[31.0, 26.0, 9.0], [33.0, 25.0, nan]])
    left, right = plot_dose_response(
        [0, 0.5, 1],
        {"baseline": plain, "refined": refined},
        difference=("refined", "baseline"),
        title="dose",
    )
    means = [lines(left)[0], lines(left)[3]]
    assert means[0][:2] == [32, 20]
    assert np.isnan(means[0][2])
    assert means[1] == [32, 25.5, 9]
    assert left.lines[0].get_xdata().tolist() == [0, 0.5, 1]
    assert set(lines(right)[0]) == {0}
    gain = lines(right)[1:]
    assert gain[0][:2] == [0, 6]  # the second seed has no pair at 0.5
    assert gain[1][:2] == [1, 6]
    assert gain[2][0] == -1
    assert np.isnan([gain[0][2], gain[1][2], *gain[2][1:]]).all()
    assert right.get_title("left") == "refined minus baseline, seed by seed"
    assert legend(left) == ["baseline", "refined"]
    assert left.figure.get_suptitle() == "dose"


def test_dose_response_without_a_difference_is_one_panel():
    (ax,) = plot_dose_response([0, 1], {"local": [0.4, 0.5], "global": [0.4, 0.2]})
    assert lines(ax) == [[0.4, 0.5], [0.4, 0.2]]


ONE = {"expansion": 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: refined(camids=CAMIDS[:3]), "camids: got shape"),
        (lambda: refined(discarded=GONE.long()), "the last one as bool"),
        (lambda: refined(pivot=9), "pivot is 9 of 9"),
        (lambda: refined(pivot=7), "row 7, is no member"),
        (lambda: refined(pivot=3), "row 3, is discarded"),
        (lambda: refined(columns=1), "two columns or more"),
        (lambda: plot_cluster_figures({}, ["a"]), "got 0 sets"),
        (lambda: plot_cluster_figures({"a": [ONE]}, ["x", "y"]), "1 qualities for 2"),
        (lambda: plot_cluster_figures({"a": [ONE]}, ["x"]), "has no pairwise_prec"),
        (lambda: plot_cluster_figures({"a": [ONE]}, ["x"], measures=["expansion"],
                                      axes=[]), "axes: got 0 for 1"),
        (lambda: plot_schedules({}), "schedules: got 0"),
        (lambda: plot_schedules({"a": [0.5, 1.5]}), r"in \[0, 1\]"),
        (lambda: plot_schedules({"a": []}), "schedule 'a'"),
        (lambda: plot_refinement_epochs({}), "runs: got 0"),
        (lambda: plot_refinement_epochs({"a": {"loss": [1.0]}}), "with a measure of"),
        (lambda: plot_refinement_epochs({"a": {"mAP": [28.0]}}), "not percent"),
        (lambda: plot_refinement_epochs({"a": {"mAP": []}}), "got shape"),
        (lambda: plot_dose_response([0, 0], {"a": [1, 2]}), "ascending"),
        (lambda: plot_dose_response([0], {}), "treatments: got 0"),
        (lambda: plot_dose_response([0, 1], {"a": [1, 2, 3]}), "for 2 doses"),
        (lambda: plot_dose_response([0], {"a": [1]}, difference=("b", "a")),
         "difference: b and a"),
        (lambda: plot_dose_response([0], {"a": [1], "b": [[1], [2]]},
                                    difference=("b", "a")), "the same seeds"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_an_error(call, message):
    with pytest.raises(ReIDError, match=message):
        call()
