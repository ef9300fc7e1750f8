"""The branches of CALS: sizes, lessons, weights in bands, and where people are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from figures.branches import person_masks, plot_band_weights, plot_lessons, plot_sizes
from reidlib.models import LocalSoftAttention
from reidlib.plotting import COLOURS
from reidlib.plotting.tiles import overlay
from reidlib.synthcity import draw_shot, plan_world

EPOCHS = [
    {
        "epoch": epoch,
        "global_accuracy": 0.3 * epoch,
        "local_accuracy": 0.25 * epoch,
        "purity": 0.5,
        "loss": 8.0 / epoch,
    }
    for epoch in (1, 2, 3)
]


def xy(line) -> tuple[list, list]:
    return list(line.get_xdata()), list(line.get_ydata())


def test_sizes_are_sorted_and_outliers_counted_apart():
    labels = {"K-Means++": torch.tensor([0, 1, 1, 2, 2, 2]), "DBSCAN": [-1, 0, 0, -1]}
    ax = plot_sizes(labels, level=2, level_name="images of a person")
    first, second, level = ax.lines
    assert xy(first) == ([1, 2, 3], [3, 2, 1])
    assert xy(second) == ([1], [2])
    assert list(level.get_ydata()) == [2, 2]
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [
        "K-Means++: 3 clusters, no outliers",
        "DBSCAN: 1 clusters, 2 images in none",
        "images of a person",
    ]


def test_lessons_have_both_branches_the_papers_and_the_purity():
    printed = [[1, 98.21, 97.84], [2, 99.1, 98.92]]
    accuracy, loss = plot_lessons(
        EPOCHS, paper=printed, paper_loss=[[1, 1.48], [5, 0.6]], start=7.0
    )
    lines = {line.get_label(): line for line in accuracy.lines}
    assert xy(lines["global, ours"])[1] == pytest.approx([30, 60, 90])
    assert xy(lines["local, ours"])[1] == pytest.approx([25, 50, 75])
    assert xy(lines["global, CALS-T2"]) == ([1, 2], [98.21, 99.1])
    assert xy(lines["local, CALS-T2"])[1] == [97.84, 98.92]
    assert xy(lines["purity of our labels"])[1] == [50, 50, 50]
    for branch, colour in zip(("global", "local"), COLOURS):
        for whose in ("ours", "CALS-T2"):
            assert lines[f"{branch}, {whose}"].get_color() == colour
    ours, paper, start = loss.lines
    assert xy(ours) == ([1, 2, 3], pytest.approx([8, 4, 8 / 3]))
    assert xy(paper) == ([1, 5], [1.48, 0.6])
    assert list(start.get_ydata()) == [7, 7]
    assert accuracy.get_ylim()[1] > 100 > accuracy.get_ylim()[0] == 0


def test_weights_share_one_scale_and_bands_are_cut_where_the_map_is():
    images = np.full((2, 32, 16, 3), 100, np.uint8)
    maps = np.stack([np.full((10, 4), 0.25), np.full((10, 4), 0.75)])
    maps[1, 0, 0] = 0.5
    ax = plot_band_weights(images, {"sigmoid": maps}, names=["a", "b"])
    words = [text.get_text() for text in ax.texts]
    assert words == ["image", "sigmoid\n0.25 to 0.75", "a", "b"]
    drawn = [np.asarray(image.get_array()) for image in ax.images]
    assert len(drawn) == 4
    assert (drawn[0] == images[0]).all()
    low, high, middle = (
        overlay(images[0], np.full((32, 16), share), 0.6)[0, 0]
        for share in (0.0, 1.0, 0.5)
    )
    assert (drawn[2] == low).all()
    assert (drawn[3][-1] == high).all()
    assert (drawn[3][0, 0] == middle).all()
    # Ten rows are cut as the library cuts them: 3, 3, 2, 2.
    library = torch.arange(10).tensor_split(LocalSoftAttention(1).bands)
    cuts = [int(part[0]) / 10 for part in library[1:]]
    top = [line.get_ydata()[0] for line in ax.lines[:6:2]]
    assert top == pytest.approx([2 * cut for cut in cuts])  # a tile is 2 high
    with pytest.raises(ValueError, match="1 maps for 2 images"):
        plot_band_weights(images, {"sigmoid": maps[:1]})


def test_equal_weights_have_no_scale():
    ax = plot_band_weights(np.zeros((1, 8, 4, 3)), {"none": np.ones((1, 8, 4))})
    assert ax.texts[1].get_text() == "none\n1.00 to 1.00"
    assert len(ax.texts) == 2


def test_a_mask_is_where_the_street_does_not_shine_through():
    world = plan_world("tiny", 0)
    shots = world.shots[:3]
    masks = person_masks(world, shots)
    assert masks.shape == (3, *draw_shot(world, shots[0]).shape[:2])
    share = masks.mean(axis=(1, 2))
    assert (share > 0.1).all()
    assert (share < 0.8).all()
    # A person stands in the middle, not in the corners.
    assert masks[:, 40:90, 20:44].mean() > 0.5 > masks[:, :8, :8].mean()
