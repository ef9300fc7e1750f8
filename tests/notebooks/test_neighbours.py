from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from matplotlib import pyplot as plt

from figures.neighbours import (
    best,
    compared,
    drawn_features,
    measured,
    plot_distances,
    plot_growth,
    plot_proof,
    plot_proven,
    plot_tiles,
    proven_rows,
)


def test_images_of_a_person_are_nearer_to_each_other():
    features = drawn_features(64, noise=1.0)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(64))
    similarity = features @ features.T
    same = torch.arange(64)[:, None] // 16 == torch.arange(64) // 16
    assert similarity[same].mean() > similarity[~same].mean() + 0.3
    assert torch.equal(features, drawn_features(64, noise=1.0))


def test_a_proof_is_never_wrong_and_more_candidates_prove_more():
    features = drawn_features(256, dim=64, noise=2.0)
    extra = [0, 2, 8, 40]
    shares = proven_rows(features, 10, extra)
    assert shares == sorted(shares)
    assert shares[0] < 0.5 < shares[-1]
    # In float64, and one row after the other.
    wide, rounded = features.double(), features.bfloat16().double()
    lost = (wide - rounded).norm(dim=1)
    proven = 0
    for row in range(256):
        about = rounded @ rounded[row]
        about[row] = -1
        order = about.argsort(descending=True)[:18]
        exact = (wide[order] @ wide[row]).sort(descending=True).values[9]
        bound = lost[row] + (1 + lost[row]) * lost.max() + 64 * 2**-23
        if exact - bound > about[order[-1]]:
            proven += 1
            nearest = wide @ wide[row]
            nearest[row] = -1
            assert set(nearest.topk(10).indices.tolist()) <= set(order.tolist())
    assert shares[2] == pytest.approx(proven / 256, abs=2 / 256)


def test_the_tables_compare_the_best_of_each_method():
    rows = [
        {"method": "reidlib", "dim": 4, "cpu": 2.0, "wall": 2.0, "mib": 5.0},
        {"method": "reidlib", "dim": 4, "cpu": 3.0, "wall": 1.0, "mib": 4.0},
        {"method": "fastreid", "dim": 4, "cpu": 8.0, "wall": 8.0, "mib": 80.0},
        {"method": "product", "dim": 4, "cpu": 1.0, "wall": 1.0, "mib": 0.0},
        {"method": "reidlib", "dim": 8, "cpu": 4.0, "wall": 4.0, "mib": 5.0},
        {"method": "product", "dim": 8, "cpu": 1.0, "wall": 1.0, "mib": 0.0},
    ]
    assert best(rows, method="reidlib", dim=4) == {"cpu": 2.0, "wall": 1.0, "mib": 4.0}
    assert best(rows, method="fastreid", dim=8) == {}
    table = compared(rows, [{"dim": 4}, {"dim": 8}])
    assert table["times faster"].iloc[0] == 4
    assert table["product / seconds"].tolist() == [0.5, 0.25]
    assert np.isnan(table["times faster"].iloc[1])


@pytest.mark.parametrize("name", ["clustering_speed", "evaluation_speed"])
def test_the_results_hold_what_the_chapter_shows(name):
    rows = measured(name)
    assert {row["method"] for row in rows} >= {"reidlib", "fastreid", "product"}


def test_pictures_are_drawn():
    counts = pd.DataFrame({"pairs": [4, 16], "images": [2, 4]}, index=[2, 4])
    plot_growth(counts, fast=["pairs"])
    dashed, solid = plt.gca().lines
    assert (dashed.get_linestyle(), solid.get_linestyle()) == ("--", "-")
    plot_distances(sp.csr_matrix(np.eye(8, dtype=np.float32)), shown=4)
    assert len(plt.gca().collections[0].get_offsets()) == 4
    plot_tiles(4)
    filled = [tile.get_facecolor()[3] > 0 for tile in plt.gca().patches]
    assert sum(filled) == 10
    plot_proof(0.03)
    for ax, proven in zip(plt.gcf().axes, (True, False), strict=True):
        grey = ax.patches[0].get_extents().transformed(ax.transData.inverted()).x1
        assert (grey < ax.lines[0].get_xdata().min()) == proven
    plot_proven({"one": [0.5, 1.0]}, [0, 4])
    assert plt.gca().lines[0].get_ydata().tolist() == [50, 100]
    plt.close("all")


def test_on_a_processor_an_epoch_waits_for_the_network():
    file = Path(__file__).parents[2] / "results/epoch_speed.json"
    epoch = json.loads(file.read_text(encoding="utf-8"))["epoch"]
    assert epoch["extraction"] + epoch["steps"] > 200 * epoch["labels"]
