"""The recipes, run for real on a small part of SynthCity ``tiny``."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from support import train as run

from reidlib.data.table import NO_CAMERA, UNKNOWN, ReIDDataset
from reidlib.engine.checkpoint import load_checkpoint
from reidlib.errors import ReIDError
from reidlib.recipes import RECIPES, baseline, direct, supervised
from reidlib.recipes.steps import (
    CollapseError,
    TrainingConfig,
    load_model,
    result_of,
)

SMALL = {
    "height": 64,
    "width": 32,
    "frozen_stages": 4,
    "pad": 3,
    "epochs": 2,
    "iterations": 4,
    "num_labels": 8,
    "num_instances": 4,
    "seed": 3,
}


def small_baseline(**changes):
    return baseline.Config(**{**SMALL, "k1": 10, "k2": 4, "eps": 0.6, **changes})


def without_times(epochs):
    return [{k: v for k, v in e.items() if k != "seconds"} for e in epochs]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_preset_is_valid_and_every_field_is_documented(name):
    import inspect

    module = RECIPES[name]
    assert {"quick", "ablation", "course", "paper"} <= set(module.PRESETS)
    for preset in module.PRESETS.values():
        assert type(preset) is module.Config
    sources = "".join(
        inspect.getsource(cls)
        for cls in module.Config.__mro__
        if dataclasses.is_dataclass(cls)
    )
    for field in dataclasses.fields(module.Config):
        line = sources.split(f"    {field.name}: ", 1)[1].split("\n")
        assert line[1].strip().startswith('"""'), f"{field.name} has no description"


def test_random_weights_and_the_stride_are_settings_that_a_checkpoint_keeps(
    people, tmp_path
):
    config = direct.Config(height=64, width=32, weights="random", last_stride=2)
    result = run(direct, config, people, tmp_path / "random")
    assert result["weights"] == "none, a random start"
    model, _ = load_model(tmp_path / "random")
    assert model.backbone(torch.zeros(1, 3, 64, 32)).shape[2:] == (2, 1)


def test_direct_scores_without_training(people, tmp_path):
    config = direct.Config(height=64, width=32)
    result = run(direct, config, people, tmp_path / "run")
    metrics = result["metrics"]
    assert 0 < metrics["mAP"] <= 1
    assert metrics["diagnosis"]["kmeans"]["clusters"] == 12
    assert 0 < metrics["diagnosis"]["chance"] < 0.5


def test_supervised_training_learns_its_training_set(people, tmp_path):
    config = supervised.Config(
        **{**SMALL, "epochs": 4, "iterations": 8, "lr": 1e-3, "erasing": 0.0}
    )
    result = run(supervised, config, people, tmp_path / "run")
    accuracy = [epoch["accuracy"] for epoch in result["epochs"]]
    assert accuracy[-1] > accuracy[0] + 0.2
    assert accuracy[-1] > 0.5  # chance is 1/12


def test_a_trained_model_comes_back_from_its_run(people, tmp_path):
    run(supervised, supervised.Config(**SMALL), people, tmp_path / "run")
    model, config = load_model(tmp_path / "run")
    assert config.size == (64, 32)
    assert not model.training
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        features = model(images)
    assert torch.allclose(features.norm(dim=1), torch.ones(2), atol=1e-5)
    assert result_of(tmp_path / "run")["recipe"] == "supervised"
    with pytest.raises(ReIDError, match="no readable result"):
        result_of(tmp_path / "nothing")


def test_the_baseline_never_sees_an_identity(people, tmp_path):
    """Shuffled identities change the diagnosis, and no step of the training."""
    generator = np.random.default_rng(0)
    train = people.train
    shuffled = dataclasses.replace(train, pids=generator.permutation(train.pids))
    other = dataclasses.replace(people, train=shuffled)
    one = run(baseline, small_baseline(), people, tmp_path / "one")
    two = run(baseline, small_baseline(), other, tmp_path / "two")
    assert [e["loss"] for e in one["epochs"]] == [e["loss"] for e in two["epochs"]]
    assert one["metrics"]["mAP"] == two["metrics"]["mAP"]
    assert one["epochs"][0]["nmi_pid"] != two["epochs"][0]["nmi_pid"]


def test_the_baseline_takes_images_without_identity_and_camera(people, tmp_path):
    train = people.train
    anonymous = dataclasses.replace(
        train,
        pids=np.full(len(train), UNKNOWN),
        camids=np.full(len(train), NO_CAMERA),
    )
    nothing = train[:0]
    dataset = ReIDDataset("anonymous", anonymous, nothing, nothing)
    config = small_baseline(epochs=1)
    result = run(baseline, config, dataset, tmp_path / "run")
    assert result["epochs"][0]["clusters"] >= 2
    assert "mAP" not in result["metrics"]
    with pytest.raises(ReIDError, match=r"0 known people.*unsupervised baseline"):
        run(supervised, supervised.Config(**SMALL), dataset, tmp_path / "no")


@pytest.mark.parametrize("clustering", ["kmeans", "agglomerative", "infomap"])
def test_other_clusterings_train_too(people, tmp_path, clustering):
    config = small_baseline(clustering=clustering, epochs=1, iterations=2)
    result = run(baseline, config, people, tmp_path / "run")
    assert result["epochs"][0]["clusters"] >= 2


def test_nothing_but_outliers_says_what_to_change(people, tmp_path):
    with pytest.raises(CollapseError, match=r"found 0 clusters .* raise eps or lower"):
        run(baseline, small_baseline(eps=0.2, min_samples=90), people, tmp_path / "run")


def test_one_cluster_says_what_to_change(people, tmp_path):
    with pytest.raises(CollapseError, match=r"found 1 clusters .* lower eps or k1"):
        run(baseline, small_baseline(eps=1.0, k1=60), people, tmp_path / "run")


def test_one_image_is_too_few(people, tmp_path):
    dataset = ReIDDataset("one", people.train[:1], people.query, people.gallery)
    with pytest.raises(ReIDError, match="has 1 training images; two are the least"):
        run(baseline, small_baseline(), dataset, tmp_path / "run")


def test_a_test_split_that_cannot_be_scored_is_refused_before_training(
    people, tmp_path
):
    nobody = dataclasses.replace(people.query, pids=np.full(len(people.query), UNKNOWN))
    dataset = dataclasses.replace(people, query=nobody)
    with pytest.raises(ReIDError, match=r"none of the \d+ queries .* data check"):
        run(baseline, small_baseline(), dataset, tmp_path / "run")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_bf16_trains_and_stores_float32(people, tmp_path):
    config = small_baseline(precision="bf16-mixed", epochs=1, iterations=2)
    run(baseline, config, people, tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "last.safetensors")["objects"]["model"]
    floats = {value.dtype for value in state.values() if value.is_floating_point()}
    assert floats == {torch.float32}


def test_an_epoch_can_be_scored_on_the_way(people, tmp_path):
    config = small_baseline(eval_every=1)
    result = run(baseline, config, people, tmp_path / "run")
    assert result["epochs"][-1]["test"]["mAP"] == result["metrics"]["mAP"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": 0.0}, "eps is 0.0"),
        ({"eps": 1.5}, "eps is 1.5"),
        ({"k1": 0}, "k1 is 0; it must be at least 1"),
        ({"k1": -3}, "k1 is -3; it must be at least 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"flip": 1.2}, "flip is 1.2"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"momentum": 2.0}, "momentum is 2.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"bn_splits": 3}, "in 3 equal chunks"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"clustering": "optics"}, "clustering is 'optics'; choose from dbscan"),
        ({"lr": float("nan")}, "lr is nan"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(ReIDError, match=message):
        small_baseline(**changes)


def test_augmentation_follows_the_configuration():
    config = TrainingConfig(height=64, width=32, pad=2, flip=0.0)
    transform = config.augmentation()
    images = torch.zeros(2, 3, 64, 32, dtype=torch.uint8)
    assert transform(images, torch.Generator()).shape == (2, 3, 64, 32)


TRAIN = """
import sys
from reidlib.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_run_resumes_to_the_numbers_of_a_whole_one(tiny_root, tmp_path):
    """Killed in the middle of an epoch, by a signal that no program can catch."""
    words = [
        *("train", "baseline", "--preset", "quick", "--root", str(tiny_root)),
        *("--height", "64", "--width", "32", "--epochs", "3", "--iterations", "6"),
        *("--device", "cpu"),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(folder, *more):
        return [sys.executable, "-c", TRAIN, *words, "--out", str(folder), *more]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(whole), env=env, check=True, capture_output=True)

    process = subprocess.Popen(
        command(cut), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not (cut / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # into the second epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it was done before it was killed"
    assert not (cut / "result.json").exists()
    assert json.loads((cut / "manifest.json").read_text())["status"] == "running"

    subprocess.run(command(cut, "--resume"), env=env, check=True, capture_output=True)
    assert "resumed after epoch" in (cut / "log.txt").read_text()
    one, two = result_of(whole), result_of(cut)
    assert one["metrics"] == two["metrics"]
    assert without_times(one["epochs"]) == without_times(two["epochs"])
