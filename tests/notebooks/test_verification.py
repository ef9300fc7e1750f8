"""Open-set searches and camera pairs: the numbers behind the artists."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from figures.verification import (
    compare_thresholds,
    plot_camera_pairs,
    plot_identification,
    plot_mistakes,
    plot_pair_distances,
    plot_splits,
    plot_two_maps,
)
from reidlib.data import open_dataset
from reidlib.evaluation import pair_distances, trade_off


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_identification_leaves_room_above_rank_one():
    ax = plot_identification({"a": ([0.1, 1.0], [0.2, 0.4])})
    assert ax.lines[0].get_ydata().tolist() == [20, 40]
    assert 40 < ax.get_ylim()[1] < 60
    assert "FPIR" in ax.get_xlabel()
    assert "DIR" in ax.get_ylabel()


def test_camera_pairs_write_every_number_once():
    values = np.array([[1.0, 2.0, np.nan], [2.0, 3.0, 0.04], [np.nan, 0.04, 5.0]])
    ax = plot_camera_pairs(values, [2, 5, 7], label="FPR (%)", limits=(0, 7))
    written = {text.get_position()[::-1]: text.get_text() for text in ax.texts}
    lower = {(0, 0): "1.0", (1, 0): "2.0", (1, 1): "3.0", (2, 1): "0.0", (2, 2): "5.0"}
    assert written == {(y + 0.5, x + 0.5): word for (y, x), word in lower.items()}
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "5", "7"]
    drawn = ax.collections[0].get_array()
    assert drawn[1, 0] == 2.0
    assert drawn.mask[np.triu_indices(3, k=1)].all()
    assert ax.figure.axes[1].get_ylabel() == "FPR (%)"


def test_numbers_stand_out_on_their_cells_and_limits_fix_the_colours():
    values = np.diag([0.0, 4.0, 10.0])
    ax = plot_camera_pairs(values, label="%", limits=(0, 10))
    light = {text.get_text(): sum(to_rgb(text.get_color())) for text in ax.texts}
    assert light["10.0"] < 1 < 2 < light["4.0"] == light["0.0"]
    assert ax.collections[0].get_clim() == (0, 10)


@pytest.fixture(scope="module")
def pairs():
    dataset = open_dataset("synthcity", size="tiny")
    generator = torch.Generator().manual_seed(0)
    people = torch.randn(2000, 32, generator=generator)
    features = []
    for table in (dataset.query, dataset.gallery):
        noise = torch.randn(len(table), 32, generator=generator)
        mixed = people[torch.from_numpy(table.pids)] + 1.2 * noise
        features.append(torch.nn.functional.normalize(mixed))
    return pair_distances(*features, dataset.query, dataset.gallery), dataset


def test_medians_are_those_of_three_kinds_of_pairs(pairs):
    table, _ = pairs
    same, two, one = plot_pair_distances({"before": table})["before"]
    assert same == np.median(table.positives)
    assert two == np.median(table.distance[~table.positive & ~table.same_camera])
    assert one == np.median(table.distance[table.same_camera])


def test_the_band_of_independent_pairs_is_that_of_a_binomial():
    assert plot_splits([1.0], 0.5, 100) == pytest.approx(5)
    assert plt.gca().lines[0].get_xdata().tolist() == [1.0]


def test_maps_share_one_scale():
    figure = plot_two_maps({"before": [[0.05]], "any": [[0.01]]})
    maps = [ax for ax in figure.axes if ax.collections and ax.texts]
    assert [ax.get_title(loc="left") for ax in maps] == ["before training", "any"]
    assert {ax.collections[0].get_clim() for ax in maps} == {(0, 7)}


def test_thresholds_are_chosen_on_one_half_and_measured_on_the_other(pairs):
    table, _ = pairs
    means, maps = compare_thresholds(table, 0.05, splits=2)
    expected = []
    for seed in range(2):
        some, others = table.split(seed=seed)
        limit = trade_off(some.positives, some.negatives).threshold_at(0.05)
        expected.append(100 * (others.negatives <= limit).mean())
    assert means["FPR"]["one threshold"] == pytest.approx(np.mean(expected))
    assert {m.shape for m in maps.values()} == {(6, 6)}


def test_mistakes_show_two_people_once(pairs):
    table, dataset = pairs
    order = np.argsort(np.where(table.positive, np.inf, table.distance))
    ax = plot_mistakes(table, order, dataset.query, dataset.gallery, number=3)
    assert ax.figure is plt.gcf()
