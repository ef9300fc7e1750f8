"""What recipes share: a start, a trained network that comes back, early refusals."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from recipes.naive import untrained
from support import SMALL, open_run, train

from reidlib.data import open_images
from reidlib.data.table import UNKNOWN, ReIDDataset
from reidlib.engine.cache import cached_features
from reidlib.engine.checkpoint import load_checkpoint, save_checkpoint
from reidlib.errors import ReIDError
from reidlib.recipes import baseline, direct, qafm, supervised
from reidlib.recipes.steps import (
    check_requirements,
    extract,
    load_model,
    open_training_images,
    result_of,
    start,
)


@pytest.fixture(scope="module")
def trained(people, tmp_path_factory):
    """A network whose shape is all of its own: attention, stride, width."""
    attention = {"global_attention": "casam", "local_attention": "cam"}
    config = supervised.Config(
        **{**SMALL, "epochs": 1, "last_stride": 2},
        **attention,
        **{"groups": 4, "reduction": 8},
    )
    folder = tmp_path_factory.mktemp("trained") / "run"
    return train(supervised, config, people, folder, features=True), config, folder


def test_a_trained_network_comes_back_from_its_run(trained, people):
    result, config, folder = trained
    model, again = load_model(folder)
    assert again == config
    assert not model.training
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        assert model.backbone(images).shape[2:] == (2, 1)
        features = model(images)
        first = untrained(supervised, config).eval()(images)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    assert not torch.allclose(features, first, atol=1e-3)
    attention = model.pool.attention
    assert [part.perceptron[0].out_channels for part in attention.parts] == 4 * [2]
    assert attention.residual
    assert result_of(folder)["recipe"] == "supervised"
    assert result["weights"].startswith("none, a random start")


class Collapsed(torch.nn.Module):
    """A network that sees the same in every image."""

    def __init__(self, config):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(8))

    def forward(self, images):
        same = torch.nn.functional.normalize(self.weight, dim=0)
        return same.expand(len(images), -1)


def test_figures_survive_a_diagnosis_that_cannot_be_made(people, tmp_path, monkeypatch):
    monkeypatch.setattr(direct, "network", Collapsed)
    config = direct.Config(height=64, width=32)
    metrics = train(direct, config, people, tmp_path)["metrics"]
    assert 0 < metrics["mAP"] < 0.6
    told = metrics["diagnosis"]
    assert "with only 1 different features" in told["error"]
    assert told["same_camera_share"] > 0
    assert "kmeans" not in told
    assert "the features cannot be diagnosed: kmeans: " in (
        (tmp_path / "log.txt").read_text()
    )


def test_the_kept_features_are_those_of_the_network_that_comes_back(trained, people):
    model, config = load_model(trained[2])
    kept = cached_features(trained[2])
    assert kept.keys() == {"train", "query", "gallery"}
    for name, features in kept.items():
        images = open_images(getattr(people, name), config.size)
        torch.testing.assert_close(
            extract(model, images, config), features, atol=1e-5, rtol=0
        )


def test_what_is_no_run_of_a_known_recipe_is_refused(trained, tmp_path):
    with pytest.raises(ReIDError, match=r"there is no .*nothing; resume the run"):
        result_of(tmp_path / "nothing")
    checkpoint = load_checkpoint(trained[2] / "last.safetensors")
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, {**checkpoint, "recipe": "alchemy"})
    with pytest.raises(
        ReIDError, match=r"by the recipe 'alchemy', and there is direct"
    ):
        load_model(path)
    config = {**checkpoint["config"], "height": "tall"}
    save_checkpoint(path, {**checkpoint, "config": config})
    with pytest.raises(ReIDError, match="settings that supervised does not take"):
        load_model(path)
    with pytest.raises(ReIDError, match="holds train, query, gallery and no recipe"):
        load_model(trained[2] / "features.safetensors")
    config = {**checkpoint["config"], "global_attention": "none"}
    save_checkpoint(path, {**checkpoint, "config": config})
    with pytest.raises(ReIDError, match="checkpoint of another model"):
        load_model(path)
    objects = {"net": checkpoint["objects"]["model"]}
    save_checkpoint(path, {**checkpoint, "objects": objects})
    with pytest.raises(ReIDError, match="holds net and no model"):
        load_model(path)


def test_a_checkpoint_in_the_folder_of_another_run_is_refused(trained, tmp_path):
    folder = shutil.copytree(trained[2], tmp_path / "run")
    checkpoint = load_checkpoint(folder / "last.safetensors")
    config = {**checkpoint["config"], "lr": 0.5}
    save_checkpoint(folder / "last.safetensors", {**checkpoint, "config": config})
    with pytest.raises(ReIDError, match=r"is of a run with another config \(lr: 0.5"):
        load_model(folder)
    load_model(folder / "last.safetensors")  # by itself, it is what it is


def test_random_weights_are_a_setting():
    model = direct.network(direct.Config(weights="random"))
    assert model.backbone.source == "none, a random start"


def test_a_training_starts_from_the_network_of_another_run(trained, people, tmp_path):
    _, config, folder = trained
    images = torch.rand(2, 3, 64, 32)
    theirs = load_model(folder)[0](images)
    same = supervised.Config(**{**vars(config), "init": str(folder)})
    model = supervised.network(same)
    assert torch.equal(model.eval()(images), theirs)
    assert model.backbone.source == f"run {folder}"
    # The network that is built to be loaded over needs no run.
    other = supervised.Config(**{**vars(config), "init": str(tmp_path / "gone")})
    supervised.network(other, pretrained=False)
    # A baseline has no attention: its backbone is that of the run, and this is said.
    plain = baseline.Config(**{**SMALL, "last_stride": 2, "init": str(folder)})
    model = baseline.network(plain).eval()
    assert torch.equal(model.backbone(images), load_model(folder)[0].backbone(images))
    left = sum("attention" in name for name in load_model(folder)[0].state_dict())
    assert model.backbone.source.endswith(f"(not in it: 0 tensors; left out: {left})")
    assert torch.equal(model.pool.p, load_model(folder)[0].pool.pooling.p)
    bare = direct.Config(last_stride=2, backbone="tiny", pooling="gap")
    bare_run = train(direct, bare, people, tmp_path / "bare")
    assert bare_run["weights"].startswith("none")
    start_again = supervised.Config(
        **{**vars(config), "pooling": "gem", "init": str(tmp_path / "bare")}
    )
    source = supervised.network(start_again).backbone.source
    assert re.search(r"\(not in it: \d+ tensors; left out: 0\)$", source)


def test_a_start_from_a_run_that_does_not_fit_is_refused(trained, tmp_path):
    folder = str(trained[2])
    with pytest.raises(ReIDError, match="with the backbone tiny; set --backbone to it"):
        baseline.network(baseline.Config(init=folder))
    with pytest.raises(ReIDError, match="init: there is no checkpoint at"):
        check_requirements(baseline.Config(init=str(tmp_path / "none")))
    with pytest.raises(ReIDError, match="where init names a trained network"):
        baseline.Config(init=folder, weights="random")
    with pytest.raises(ReIDError, match=r"init is .* no influence in this recipe"):
        qafm.Config(init=folder)


def test_settings_that_came_later_do_not_stop_a_resume(people, tmp_path):
    config = supervised.Config(**{**SMALL, "epochs": 1})
    folder = tmp_path / "run"
    wanted = train(supervised, config, people, folder)
    for file in ("manifest.json", "result.json"):
        told = json.loads((folder / file).read_text("utf-8"))
        del told["config"]["init"]  # as runs before this setting wrote it
        (folder / file).write_text(json.dumps(told), "utf-8")
    checkpoint = load_checkpoint(folder / "last.safetensors")
    del checkpoint["config"]["init"]
    save_checkpoint(folder / "last.safetensors", checkpoint)
    again = train(supervised, config, people, folder, resume=True)
    assert again["metrics"] == wanted["metrics"]
    assert load_model(folder)[1] == config


def test_a_run_depends_on_the_network_that_it_starts_from(trained, people, tmp_path):
    copy = shutil.copytree(trained[2], tmp_path / "run")
    config = baseline.Config(**SMALL, init=str(copy))
    before = config.read_files(people)["init"]
    assert before == config.read_files(people)["init"]
    checkpoint = load_checkpoint(copy / "last.safetensors")
    weight = checkpoint["objects"]["model"]["neck.weight"]
    weight += 1
    save_checkpoint(copy / "last.safetensors", checkpoint)
    assert config.read_files(people)["init"] != before


def test_one_optimiser_trains_network_and_heads_at_their_rates(people, tmp_path):
    config = supervised.Config(**{**SMALL, "lr_step": 1})
    model, head = supervised.network(config), torch.nn.Linear(64, 3)
    heads, rates = {"head": head}, {"head": 0.5}
    with open_run(supervised, config, people, tmp_path / "run") as run:
        started = start(config, run, model, heads=heads, rates=rates)
        assert run.manifest["weights"] == model.backbone.source
    of_model, of_head = started.optimizer.param_groups
    assert (of_model["lr"], of_head["lr"]) == (config.lr, 0.5)
    assert {id(p) for p in of_head["params"]} == {id(p) for p in head.parameters()}
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in of_model["params"]} == trained
    started.optimizer.step()
    started.schedule.step()
    assert of_head["lr"] == pytest.approx(0.05)
    assert of_model["lr"] == pytest.approx(config.lr / 10)


def test_one_image_is_too_few(people, tmp_path):
    dataset = ReIDDataset("one", people.train[:1], people.query, people.gallery)
    with pytest.raises(ReIDError, match="has 1 training images; two are the least"):
        train(baseline, baseline.Config(**SMALL), dataset, tmp_path / "run")


def test_a_test_split_that_cannot_be_scored_is_refused_before_training(
    people, tmp_path
):
    unknown = np.full(len(people.query), UNKNOWN)
    dataset = dataclasses.replace(
        people, query=dataclasses.replace(people.query, pids=unknown)
    )
    with pytest.raises(ReIDError, match=r"none of the \d+ queries .* data check"):
        train(baseline, baseline.Config(**SMALL), dataset, tmp_path / "run")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_images_that_are_not_kept_are_said_to_be_read_from_disk(tiny, capsys):
    device = torch.device("cpu")
    images = open_training_images(tiny, baseline.Config(), device)
    assert "read from disk" not in capsys.readouterr().err
    streamed = open_training_images(tiny, baseline.Config(memory_budget=0), device)
    assert len(images) == len(streamed)
    told = capsys.readouterr().err
    assert "480 images take 0.011 GiB, more than memory_budget" in told
