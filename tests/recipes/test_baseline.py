"""The baseline: an epoch against the equations, and what it does with odd data."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from recipes.naive import STILL, Shadow, centroids, contrast, mean, move, unit
from support import SMALL, losses, train

from reidlib.data.table import NO_CAMERA, UNKNOWN, ReIDDataset
from reidlib.engine.checkpoint import load_checkpoint
from reidlib.errors import ReIDError
from reidlib.recipes import baseline, supervised
from reidlib.recipes.steps import CollapseError


def small(**changes):
    return baseline.Config(**{**SMALL, "k1": 10, "k2": 4, "eps": 0.6, **changes})


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return train(baseline, small(eval_every=1), people, folder), folder


@pytest.mark.parametrize("cross_camera", [True, False])
def test_an_epoch_is_what_the_equations_say(people, tmp_path, cross_camera):
    config = small(**STILL, cross_camera=cross_camera)
    result = train(baseline, config, people, tmp_path / "run")
    shadow = Shadow(baseline, config, people)
    (features,) = shadow.features()
    labels = baseline.cluster(features, config)
    bank = centroids(features, labels)
    camids = torch.from_numpy(people.train.camids) if cross_camera else None
    steps = []
    for ((_, positives, _, neck),) in shadow.steps([labels], [camids]):
        queries = unit(neck)
        pairs = list(zip(queries, positives, strict=True))
        steps.append(mean([contrast(q, bank, y, config.temperature) for q, y in pairs]))
        for query, label in pairs:
            move(bank, label, query, config.momentum)
    assert losses(result) == pytest.approx([mean(steps)], rel=1e-4)
    kept = load_checkpoint(tmp_path / "run" / "last.safetensors")["kept"]
    assert torch.equal(kept["pseudo_labels"], labels)
    torch.testing.assert_close(kept["memory"], torch.stack(bank), atol=1e-4, rtol=1e-3)


def test_it_never_sees_an_identity(whole, people, tmp_path):
    """Shuffled identities change the diagnosis, and no step of the training."""
    pids = np.random.default_rng(0).permutation(people.train.pids)
    shuffled = dataclasses.replace(people.train, pids=pids)
    other = dataclasses.replace(people, train=shuffled)
    one, two = whole[0], train(baseline, small(), other, tmp_path / "run")
    assert losses(one) == losses(two)
    assert one["metrics"]["mAP"] == two["metrics"]["mAP"]
    assert one["epochs"][0]["nmi_pid"] != two["epochs"][0]["nmi_pid"]


def test_an_epoch_can_be_scored_on_the_way(whole):
    result, _ = whole
    assert result["epochs"][-1]["test"]["mAP"] == result["metrics"]["mAP"]
    assert result["epochs"][0]["test"] != result["epochs"][-1]["test"]


def test_it_takes_images_without_identity_and_camera(people, tmp_path):
    table = people.train
    anonymous = dataclasses.replace(
        table,
        pids=np.full(len(table), UNKNOWN),
        camids=np.full(len(table), NO_CAMERA),
    )
    dataset = ReIDDataset("anonymous", anonymous, table[:0], table[:0])
    result = train(baseline, small(epochs=1), dataset, tmp_path / "run")
    assert result["epochs"][0]["clusters"] >= 2
    assert "mAP" not in result["metrics"]
    with pytest.raises(ReIDError, match=r"0 known people.*unsupervised baseline"):
        train(supervised, supervised.Config(**SMALL), dataset, tmp_path / "no")


@pytest.mark.parametrize("clustering", ["dbscan", "kmeans", "agglomerative", "infomap"])
def test_every_clustering_finds_three_heaps(clustering):
    generator = torch.Generator().manual_seed(0)
    points = torch.eye(3).repeat_interleave(8, dim=0)
    points = unit(points + 0.05 * torch.randn(24, 3, generator=generator))
    config = small(clustering=clustering, k1=7, k2=2, eps=0.8)  # and 24 / 8 clusters
    heaps = baseline.cluster(points, config).reshape(3, 8)
    assert (heaps == heaps[:, :1]).all()
    assert heaps[:, 0].sort().values.tolist() == [0, 1, 2]


def test_fewer_than_two_clusters_say_what_to_change(people, tmp_path):
    points = unit(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(CollapseError, match=r"found 0 clusters .* raise eps or lower"):
        baseline.cluster(points, small(eps=0.2, min_samples=90))
    with pytest.raises(CollapseError, match=r"found 1 clusters .* lower eps or k1"):
        train(baseline, small(eps=1.0, k1=400), people, tmp_path / "run")


def test_bf16_trains_and_stores_float32(people, tmp_path):
    config = small(precision="bf16-mixed", epochs=1)
    train(baseline, config, people, tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "last.safetensors")["objects"]["model"]
    floats = {value.dtype for value in state.values() if value.is_floating_point()}
    assert floats == {torch.float32}
