"""CALR, stage 1: the training inside one camera, and which clusters it keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from recipes.naive import STILL, Shadow, centroids, contrast, mean, move, unit
from sklearn.metrics import silhouette_score
from support import SMALL, losses, train

from reidlib.engine.checkpoint import load_checkpoint
from reidlib.errors import ReIDError
from reidlib.recipes import calr_local
from reidlib.recipes.diagnosis import health
from reidlib.recipes.steps import extract, load_model, open_split

CPU = torch.device("cpu")


def small(**changes):
    return calr_local.Config(**{**SMALL, "num_labels": 4, **changes})


@pytest.fixture(scope="module")
def one(people):
    """The images of one camera."""
    table = people.train[people.train.camids == 1]
    return dataclasses.replace(people, train=table, query=table[:0], gallery=table[:0])


def labels_of(folder):
    return load_checkpoint(folder / calr_local.LABELS)["labels"]


def test_an_epoch_is_what_the_equations_say(one, tmp_path):
    config = small(**STILL)
    result = train(calr_local, config, one, tmp_path / "run")
    shadow = Shadow(calr_local, config, one)
    (features,) = shadow.features()
    labels, silhouette = calr_local.cluster(features, config)
    assert int(labels.max()) + 1 == len(labels) // 5
    bank, steps = centroids(features, labels), []
    for ((_, positives, _, neck),) in shadow.steps([labels], [None]):
        pairs = list(zip(unit(neck), positives, strict=True))
        steps.append(mean([contrast(q, bank, y, config.temperature) for q, y in pairs]))
        for query, label in pairs:
            move(bank, label, query, config.momentum)
    assert losses(result) == pytest.approx([mean(steps)], rel=1e-4)
    assert result["epochs"][0]["silhouette"] == pytest.approx(silhouette)


@pytest.mark.parametrize("keep", ["last", "silhouette"])
def test_it_keeps_the_clusters_it_says(one, tmp_path, keep):
    """Those of the trained encoder, or of the epoch that told them apart best."""
    # So high a rate that the second epoch does more harm than good.
    config = small(keep=keep, lr=0.1, num_clusters=0.5, seed=0)
    images = open_split(one.train, config, CPU)

    def now():
        model, _ = load_model(tmp_path / "run")
        return calr_local.cluster(extract(model, images, config), config)

    train(calr_local, config, one, tmp_path / "run", stop_after=1)
    second = now()
    # What was kept before a run was stopped counts afterwards.
    result = train(calr_local, config, one, tmp_path / "run", resume=True)
    last = now()
    seen = [epoch["silhouette"] for epoch in result["epochs"]] + [last[1]]
    assert second[1] == max(seen) > last[1]
    assert not torch.equal(second[0], last[0])
    labels, silhouette = last if keep == "last" else second
    assert torch.equal(labels_of(tmp_path / "run"), labels)
    told = result["metrics"]
    assert told["silhouette"] == pytest.approx(silhouette)
    assert told["pairwise_f"] == health(labels, one.train)["pairwise_f"]


def test_a_silhouette_is_that_of_scikit_learn_on_the_jaccard_distance():
    from reidlib.clustering import jaccard_distance

    points = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    points = unit(points)
    config = small(num_clusters=6, k1=9, k2=3)
    labels, silhouette = calr_local.cluster(points, config)
    distance = jaccard_distance(points, k1=9, k2=3)
    dense = np.ones((30, 30), dtype=np.float64)
    matrix = distance.tocoo()
    dense[matrix.row, matrix.col] = matrix.data
    np.fill_diagonal(dense, 0)
    wanted = silhouette_score(dense, labels.numpy(), metric="precomputed")
    assert silhouette == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("num_clusters", "found"), [(600, 6), (0.2, 1)])
def test_a_camera_without_a_silhouette_keeps_its_clusters(
    one, tmp_path, num_clusters, found
):
    # A cluster for each image, or one for all six: neither has a silhouette.
    few = dataclasses.replace(one, train=one.train[:6])
    config = small(num_clusters=num_clusters, keep="silhouette", epochs=1)
    result = train(calr_local, config, few, tmp_path / "run")
    assert result["metrics"]["clusters"] == found
    assert result["metrics"]["silhouette"] == -1
    assert len(losses(result)) == (found > 1)
    if found == 1:
        told = (tmp_path / "run" / "log.txt").read_text()
        assert "one cluster: nothing to contrast" in told


def test_one_encoder_is_for_one_camera(people, tmp_path):
    with pytest.raises(ReIDError, match="give the images of one"):
        train(calr_local, small(), people, tmp_path / "run")
