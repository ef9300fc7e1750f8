"""CALS: an epoch against the equations, its switches, resumption, and odd input."""

from __future__ import annotations

import dataclasses
import math
import shutil
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from recipes.naive import STILL, untrained
from support import SMALL, Interrupted, losses, train, without_times

from reidlib.clustering import cluster_quality
from reidlib.data.table import UNKNOWN
from reidlib.engine.checkpoint import load_checkpoint, save_checkpoint
from reidlib.errors import ReIDError
from reidlib.models import PartClassifiers
from reidlib.recipes import cals
from reidlib.recipes.steps import (
    CollapseError,
    batches,
    extract,
    extract_test,
    load_model,
    open_split,
)

CPU = torch.device("cpu")


def small(**changes):
    own = {"num_clusters": 8, "k1": 8, "k2": 4, "eps": 0.6, "dcls_neighbors": 4}
    return cals.Config(**{**SMALL, **own, **changes})


def kept_labels(folder):
    return load_checkpoint(folder / cals.LABELS)["labels"]["labels"]


def softmax(values):
    highest = max(values)
    powers = [math.exp(value - highest) for value in values]
    return [power / sum(powers) for power in powers]


def cross_entropy(logits, target):
    return -sum(
        p * math.log(q)
        for p, q in zip(target, softmax(logits), strict=True)
        if p  # 0 log q is 0
    )


@pytest.mark.parametrize("smoothing", ["hard", "predictions"])
def test_an_epoch_is_what_the_equations_say(smoothing, people, tmp_path):
    """CALS-E3 to CALS-E6 in loops over the images of each batch."""
    config = small(**STILL, classifier_lr=1e-9, smoothing=smoothing, alpha=0.3)
    result = train(cals, config, people, tmp_path / "run")
    labels = kept_labels(tmp_path / "run")

    model = untrained(cals, config)
    heads = PartClassifiers(model.num_channels, 8, 5)
    generator = torch.Generator().manual_seed(config.seed)
    images = open_split(people.train, config, CPU)
    run = SimpleNamespace(generator=generator)
    augment, total, hits = config.augmentation(), [], []
    model.train()
    for index, batch in batches(images, labels, config, run):
        with torch.no_grad():
            feature_map = model.backbone(augment(batch, generator))
        for row, image in zip(feature_map, index.tolist(), strict=True):
            # Attention starts at 0, whose sigmoid is a half at each place. The tiny
            # map has 4 rows: one for each band.
            parts = [row.mean(dim=(1, 2))]
            parts += [row[:, band].mean(dim=1) / 2 for band in range(4)]
            logits = [
                (layer.weight @ part + layer.bias).tolist()
                for layer, part in zip(heads.layers, parts, strict=True)
            ]
            of_global = softmax(logits[0])
            of_local = np.mean([softmax(one) for one in logits[1:]], axis=0)
            label = int(labels[image])
            target = [float(c == label) for c in range(8)]
            if smoothing == "predictions":
                said = (np.array(of_global) + of_local) / 2
                target = [0.7 * y + 0.3 * s for y, s in zip(target, said, strict=True)]
            loss = cross_entropy(logits[0], target)
            loss += sum(cross_entropy(one, target) for one in logits[1:]) / 4
            total.append(loss)
            hits.append([np.argmax(p) == label for p in (of_global, of_local)])
    assert losses(result)[0] == pytest.approx(np.mean(total), rel=1e-4)
    epoch = result["epochs"][0]
    told = [epoch["global_accuracy"], epoch["local_accuracy"]]
    assert told == pytest.approx(np.mean(hits, axis=0))


def test_both_branches_of_dcls_look_at_the_neighbours_of_the_other(people, tmp_path):
    """CALS-D2 from Python sets, for every image."""
    config = small(smoothing="dcls", dcls_neighbors=5)
    model, images = untrained(cals, config), open_split(people.train, config, CPU)
    found = cals.make_labels(model, images, people.train, config)
    each = extract(model, images, config, model.descriptors).double()
    whole, local = each[:, 0], each[:, 1:].flatten(1)
    near = []
    for space in (whole, local):
        unit = space / space.norm(dim=1, keepdim=True)
        cosine = unit @ unit.T
        cosine.fill_diagonal_(-2)
        near.append(cosine.topk(5).indices.tolist())
    logits = torch.zeros(len(images), 5, found.num_classes)
    everything = found.of(torch.arange(len(images)), CPU)
    soft = cals.soft_labels(config, everything, logits, logits, None)
    for branch, others in enumerate((near[1], near[0])):
        for i in range(len(images)):
            one, two = set(near[0][i]), set(near[1][i])
            share = len(one & two) / len(one | two)
            target = np.zeros(found.num_classes)
            target[found.labels[i]] += share
            for j in others[i]:
                target[found.labels[j]] += (1 - share) / 5
            np.testing.assert_allclose(soft[branch][i].numpy(), target, atol=1e-6)


@pytest.fixture(scope="module")
def learned(people, tmp_path_factory):
    """A training with each kind of smoothing that is long enough to learn something."""
    quick = {"iterations": 8, "lr": 3e-3, "classifier_lr": 3e-2}
    return {
        smoothing: train(
            cals,
            small(smoothing=smoothing, **quick),
            people,
            tmp_path_factory.mktemp("learned") / smoothing,
        )["epochs"]
        for smoothing in get_args(cals.Smoothing)
    }


@pytest.mark.parametrize("smoothing", get_args(cals.Smoothing))
def test_every_smoothing_learns_its_labels(smoothing, learned):
    first, last = learned[smoothing]
    assert last["loss"] < first["loss"]
    assert last["global_accuracy"] > first["global_accuracy"]
    assert last["local_accuracy"] > first["local_accuracy"]


def test_every_smoothing_is_another_one(learned):
    last = [epochs[-1]["loss"] for epochs in learned.values()]
    assert len(set(last)) == len(last)


def test_labels_made_once_stay_and_reclustering_makes_them_anew(people, tmp_path):
    config = small(epochs=3, lr=3e-3)
    once = train(cals, config, people, tmp_path / "once")
    labels = kept_labels(tmp_path / "once")
    health = cluster_quality(labels, people.train.pids, people.train.camids)
    assert [e["purity"] for e in once["epochs"]] == [health.purity] * 3
    kept = load_checkpoint(tmp_path / "once" / "last.safetensors")["kept"]
    assert torch.equal(kept["pseudo_labels"], labels)

    again = dataclasses.replace(config, recluster=True)
    train(cals, again, people, tmp_path / "again")
    kept = load_checkpoint(tmp_path / "again" / "last.safetensors")["kept"]
    assert torch.equal(kept_labels(tmp_path / "again"), labels)  # those of epoch 1
    assert not torch.equal(kept["pseudo_labels"], labels)


@pytest.mark.parametrize(
    "changes",
    [
        {"smoothing": "confusion"},
        {"recluster": True, "smoothing": "dcls", "clustering": "dbscan"},
    ],
    ids=str,
)
def test_an_interrupted_run_resumes_to_the_same_numbers(changes, people, tmp_path):
    config = small(epochs=3, min_samples=2, **changes)
    whole = train(cals, config, people, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(cals, config, people, tmp_path / "cut", Interrupted, before_step=7)
    resumed = train(cals, config, people, tmp_path / "cut", resume=True)
    assert without_times(resumed["epochs"]) == without_times(whole["epochs"])
    assert resumed["metrics"] == whole["metrics"]


@pytest.mark.parametrize("descriptor", ["global", "local", "both"])
def test_a_run_is_loaded_with_the_descriptor_it_was_made_for(
    descriptor, people, tmp_path
):
    config = small(descriptor=descriptor, attention="softmax", epochs=1)
    train(cals, config, people, tmp_path / "run")
    model, settings = load_model(tmp_path / "run")
    assert settings == config
    query, _ = extract_test(model, people, config, CPU)
    assert query.shape[1] == {"global": 64, "local": 256, "both": 320}[descriptor]
    torch.testing.assert_close(query.norm(dim=1), torch.ones(len(query)))


def test_planted_noise_is_what_was_asked_for_and_is_measured(people, tmp_path):
    config = small(clustering="identities", noise=0.4, epochs=1)
    result = train(cals, config, people, tmp_path / "run")
    labels = kept_labels(tmp_path / "run").numpy()
    wrong = (labels != people.train.labels).mean()
    assert wrong == pytest.approx(0.4, abs=1 / len(labels))
    told = result["metrics"]["classifier"]
    assert told["wrong_share"] == pytest.approx(wrong)


def test_the_judge_counts_what_a_dictionary_counts(people, tmp_path):
    """Cluster to identity by the majority, and both accuracies, in plain Python."""
    config = small(epochs=2, lr=3e-3, classifier_lr=3e-2)
    result = train(cals, config, people, tmp_path / "run")
    told = result["metrics"]["classifier"]
    objects = load_checkpoint(tmp_path / "run" / "last.safetensors")["objects"]
    labels = kept_labels(tmp_path / "run").tolist()
    model, _ = load_model(tmp_path / "run")
    heads = PartClassifiers(64, 8, 5)
    heads.load_state_dict(objects["heads"])
    images = open_split(people.train, config, CPU)
    each = extract(model, images, config, model.descriptors)
    with torch.no_grad():
        said = heads(each).softmax(dim=-1)
    predicted = (said[:, 0] + said[:, 1:].mean(dim=1)).argmax(dim=1).tolist()
    counts = {}
    for label, pid in zip(labels, people.train.labels.tolist(), strict=True):
        counts.setdefault(label, []).append(pid)
    stands = {c: max(sorted(set(p)), key=p.count) for c, p in counts.items()}
    pids = people.train.labels.tolist()
    pairs = list(zip(predicted, labels, pids, strict=True))
    assert told["accuracy"] == pytest.approx(np.mean([p == y for p, y, _ in pairs]))
    right = [stands.get(p) == pid for p, _, pid in pairs]
    assert told["identity_accuracy"] == pytest.approx(np.mean(right))
    wrong = [stands[y] != pid for _, y, pid in pairs]
    assert told["wrong_share"] == pytest.approx(np.mean(wrong))


def test_more_clusters_than_images_and_one_cluster_are_refused(people, tmp_path):
    with pytest.raises(ReIDError, match="num_clusters is 9999 for"):
        train(cals, small(num_clusters=9999), people, tmp_path / "many")
    config = small(clustering="dbscan", min_samples=999)
    with pytest.raises(CollapseError, match="dbscan found 0 clusters"):
        train(cals, config, people, tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"alpha": 1.1}, "alpha is 1.1"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"num_clusters": 0}, "num_clusters is 0"),
        ({"num_clusters": 1.5}, "num_clusters is 1.5"),
        ({"num_labels": 1}, "num_labels is 1"),
        ({"smoothing": "cals"}, "smoothing is 'cals'"),
        ({"pooling": "gem"}, "pooling is 'gem'"),
        ({"clustering": "identities", "recluster": True}, "set recluster False"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_at_once(changes, told):
    with pytest.raises(ReIDError, match=told):
        small(**changes)


def test_a_map_that_is_lower_than_the_bands_is_refused(people, tmp_path):
    config = small(height=32, last_stride=2)
    with pytest.raises(ReIDError, match="cannot be cut into 4 bands"):
        train(cals, config, people, tmp_path / "run")


@pytest.mark.parametrize("recluster", [False, True])
def test_a_run_that_lost_its_result_judges_the_same_classifiers(
    recluster, people, tmp_path
):
    config = small(recluster=recluster)
    whole = train(cals, config, people, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    again = train(cals, config, people, tmp_path / "run", resume=True)
    assert again["metrics"] == whole["metrics"]


def test_labels_of_another_run_are_refused(people, tmp_path):
    noisy = small(noise=0.9, clustering="identities")
    train(cals, noisy, people, tmp_path / "noisy")
    (tmp_path / "run").mkdir()
    shutil.copy(tmp_path / "noisy" / cals.LABELS, tmp_path / "run")
    with pytest.raises(ReIDError, match="holds the labels of another run; remove it"):
        train(cals, small(), people, tmp_path / "run")
    (tmp_path / "other").mkdir()
    save_checkpoint(tmp_path / "other" / cals.LABELS, {"labels": torch.zeros(3)})
    with pytest.raises(ReIDError, match="of_run"):
        train(cals, small(), people, tmp_path / "other")


def test_a_resumed_run_keeps_the_labels_that_it_began_with(people, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(cals, small(), people, folder, Interrupted, before_step=4)
    saved = load_checkpoint(folder / cals.LABELS)
    saved["labels"]["labels"] = saved["labels"]["labels"].flip(0)
    save_checkpoint(folder / cals.LABELS, saved)
    with pytest.raises(
        ReIDError, match=r"another file of pseudo_labels \(made\); put that back"
    ):
        train(cals, small(), people, folder, resume=True)


def test_identities_are_asked_for_where_they_are_the_labels(people, tmp_path):
    table = people.train
    for number, unknown in enumerate((slice(None), slice(0, 3))):
        pids = table.pids.copy()
        pids[unknown] = UNKNOWN
        blind = dataclasses.replace(people, train=dataclasses.replace(table, pids=pids))
        with pytest.raises(ReIDError, match="supervised training needs"):
            train(cals, small(clustering="identities"), blind, tmp_path / str(number))


@pytest.mark.parametrize("number", [1, 1.0, 0, 2.5, -3])
def test_a_number_of_clusters_that_says_nothing(number):
    with pytest.raises(ReIDError, match="give a share of the images below 1, or a"):
        small(num_clusters=number)


def test_k_means_that_collapses_is_not_told_of_dbscan(people, tmp_path):
    with pytest.raises(CollapseError, match="needs two clusters: raise num_clusters"):
        train(cals, small(num_clusters=0.001), people, tmp_path / "run")
