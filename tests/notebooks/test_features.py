"""Features and backbones: the numbers behind the figures."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from figures.features import (
    gain,
    plot_costs,
    plot_feature_map,
    plot_pair_similarities,
    plot_scores,
    walk,
)
from reidlib.data import TestTransform


def scored(ap, rank1=0.25):
    array = np.asarray(ap)
    return SimpleNamespace(ap=array, mAP=array.mean(), cmc={1: rank1})


def test_walk_keeps_the_mean_of_each_stage_and_the_last_map():
    images = torch.randint(0, 255, (5, 3, 8, 4), dtype=torch.uint8)

    class Source:
        def __len__(self):
            return len(images)

        def batches(self, batches):
            return (images[torch.as_tensor(rows)] for rows in batches)

    backbone = nn.Module()
    backbone.stages = nn.ModuleList([nn.AvgPool2d(2), nn.Conv2d(3, 2, 1)])
    means, maps = walk(backbone, Source(), batch=2)
    x = TestTransform()(images)
    for stage, mean in zip(backbone.stages, means):
        x = stage(x)
        assert torch.allclose(mean, x.mean((2, 3)), atol=1e-5)
    assert torch.allclose(maps, x, atol=1e-5)


def test_gain_is_paired_and_its_interval_holds_the_mean():
    before = scored(np.linspace(0, 0.5, 40))
    change, low, high = gain(before, scored(before.ap + 0.02))
    assert (change, low, high) == pytest.approx((2, 2, 2))
    noisy = before.ap + np.random.default_rng(0).normal(0, 0.1, 40)
    change, low, high = gain(before, scored(noisy))
    assert low < change < high


def test_scores_are_drawn_in_percent(capsys):
    ax = plot_scores({"a": scored([0.1, 0.3]), "b": scored([0.5, 0.5], 0.5)})
    heights = sorted(round(bar.get_height(), 6) for bar in ax.patches)
    assert [h for h in heights if h > 0] == [20, 25, 50, 50]
    assert "21 % (a), 51 % (b)" in capsys.readouterr().out


def test_the_map_shows_the_two_channels_that_differ_most():
    maps = torch.zeros(2, 4, 3, 2)
    maps[:, 1, 0, 0], maps[:, 3, 0, 0] = 1.0, 2.0
    figure = plot_feature_map(np.zeros((2, 12, 8, 3)), maps, [0, 4])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[2:] == ["Channel 3", "Channel 1"]


def test_medians_are_those_of_pairs():
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    found = plot_pair_similarities({"before": features}, [1, 1, 2])
    assert found == {"before": (1.0, 0.0)}


def test_costs_are_relative_to_lite0():
    cost = SimpleNamespace(parameters=2, macs=4, saved=8)
    twice = SimpleNamespace(parameters=4, macs=4, saved=4)
    rows = [
        {"backbone": name, "height": size, "pass": kind, "times_lite0": time}
        for name, time in (("efficientnet_lite0", 1.0), ("resnet50", 5.0))
        for size in (128, 256)
        for kind in ("forward", "forward and backward")
    ]
    costs = {"efficientnet_lite0": cost, "resnet50": twice}
    ratios = plot_costs(costs, rows)
    found = [values["resnet50"] for values in ratios.values()]
    assert found == [[2], [1], [0.5], [5.0], [5.0]]
