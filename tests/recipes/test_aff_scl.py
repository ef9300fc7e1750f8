"""AFF_SCL, alone and with a source, run for real on a small part of SynthCity."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import train

from reidlib.data import with_source
from reidlib.data.images import open_images
from reidlib.data.table import NO_CAMERA, UNKNOWN, ReIDDataset
from reidlib.engine.checkpoint import load_checkpoint
from reidlib.errors import ReIDError
from reidlib.losses import SymmetricMemory, cluster_centroids
from reidlib.recipes import aff_scl, baseline, supervised
from reidlib.recipes.steps import CollapseError, extract, load_model

SMALL = {
    "height": 64,
    "width": 32,
    "frozen_stages": 4,
    "pad": 3,
    "epochs": 2,
    "iterations": 3,
    "num_labels": 6,
    "num_instances": 4,
    "k1": 10,
    "k2": 4,
    "eps": 0.6,
    "seed": 3,
}
PLAIN = {"global_attention": "none", "local_attention": "none"}


def small(**changes):
    return aff_scl.Config(**{**SMALL, **changes})


def run(config, dataset, folder, module=aff_scl, **options):
    return train(module, config, dataset, folder, **options)


def losses(result):
    return [epoch["loss"] for epoch in result["epochs"]]


def shuffled(dataset):
    pids = np.random.default_rng(0).permutation(dataset.train.pids)
    return dataclasses.replace(
        dataset, train=dataclasses.replace(dataset.train, pids=pids)
    )


@pytest.fixture(scope="session")
def strangers(tiny):
    """Nine other people, under cameras that have other numbers."""
    train = tiny.train
    chosen = train[np.isin(train.pids, np.unique(train.pids)[12:21])]
    chosen = dataclasses.replace(chosen, camids=chosen.camids + 40)
    return ReIDDataset("strangers", chosen, chosen[:0], chosen[:0])


@pytest.fixture(scope="session")
def both(people, strangers):
    return with_source(people, strangers)


@pytest.fixture(scope="module")
def alone(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    return run(small(), people, folder), folder


@pytest.fixture(scope="module")
def joint(both, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint") / "run"
    return run(small(adaptation="joint"), both, folder), folder


def test_it_leaves_what_the_chapters_need(alone, people):
    result, folder = alone
    for epoch in result["epochs"]:
        total = 0.75 * epoch["hard"] + 0.25 * epoch["mean"] + epoch["balance"]
        assert epoch["loss"] == pytest.approx(total, rel=1e-4)
        assert epoch["balance"] > 0
    kept = load_checkpoint(folder / "last.safetensors")["kept"]
    clusters = result["epochs"][-1]["clusters"]
    assert kept["mean_memory"].shape == kept["hard_memory"].shape == (clusters, 1280)
    assert not torch.allclose(kept["mean_memory"], kept["hard_memory"], atol=0.01)
    assert len(kept["pseudo_labels"]) == len(people.train)


def test_with_one_memory_and_no_attention_it_is_the_baseline(people, tmp_path):
    """The same loop, step by step: equal losses, not just equal figures."""
    changes = {"hard_weight": 0.0, "mean_weight": 1.0, "balance": "none"}
    plain = baseline.Config(**SMALL, update="batch_mean")
    one = run(small(**PLAIN, **changes), people, tmp_path / "aff")
    two = run(plain, people, tmp_path / "baseline", baseline)
    assert losses(one) == pytest.approx(losses(two), rel=1e-6)
    assert one["metrics"]["mAP"] == pytest.approx(two["metrics"]["mAP"], abs=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        PLAIN,
        {"global_attention": "cam", "local_attention": "casam"},
        {"hard_weight": 0.25, "mean_weight": 0.75},
        {"balance": "none"},
        {"balance": "features"},
        {"temperature": 0.1},
        {"momentum": 0.5},
        {"loss": "classifier"},
        {"cross_camera": False},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_setting_changes_the_training(changes, alone, people, tmp_path):
    result = run(small(**changes), people, tmp_path / "run")
    assert np.isfinite(losses(result)).all()
    assert losses(result) != losses(alone[0])


def test_the_memory_that_is_mined_against_matters_once_the_two_differ(people, tmp_path):
    longer = {"iterations": 15, "epochs": 1, "momentum": 0.5}
    one, two = (
        run(small(mine_against=which, **longer), people, tmp_path / which)
        for which in ("mean", "hard")
    )
    assert losses(one) != losses(two)


def test_the_classifier_starts_from_the_means_and_learns(people, tmp_path, monkeypatch):
    made = []

    class Linear(torch.nn.Linear):
        def forward(self, x):
            if not made:
                made.append((self, self.weight.detach().clone()))
            return super().forward(x)

    def centroids(features, labels):
        means.append(cluster_centroids(features, labels))
        return means[-1]

    means = []
    monkeypatch.setattr(aff_scl, "cluster_centroids", centroids)
    monkeypatch.setattr(aff_scl.nn, "Linear", Linear)
    config = small(loss="classifier", iterations=4, epochs=1)
    result = run(config, people, tmp_path / "run")
    epoch = result["epochs"][0]
    assert "hard" not in epoch
    classifier, start = made[0]
    assert len(start) == epoch["clusters"]
    assert torch.equal(start, means[0])
    assert not torch.allclose(start, classifier.weight.detach(), atol=1e-4)


def test_the_triplet_loss_stands_beside_the_classifier(people, tmp_path):
    """Its margin is in the loss of the first step, before anything is learned."""
    once = {"loss": "classifier", "iterations": 1, "epochs": 1}
    small_margin, large_margin = (
        losses(run(small(margin=m, **once), people, tmp_path / str(m)))[0]
        for m in (2.5, 3.0)
    )
    # Distances of unit features differ by less than 2: every triplet violates both.
    assert large_margin - small_margin == pytest.approx(0.5, abs=1e-3)


def test_it_never_sees_an_identity_of_the_target(alone, joint, both, people, tmp_path):
    other = run(small(), shuffled(people), tmp_path / "alone")
    assert losses(other) == losses(alone[0])
    config = small(adaptation="joint")
    adapted = run(config, shuffled(both), tmp_path / "joint")
    assert losses(adapted) == losses(joint[0])
    source = dataclasses.replace(both, source=shuffled(both.source))
    assert losses(run(config, source, tmp_path / "source")) != losses(joint[0])


def test_the_target_needs_no_identities(people, both, joint, tmp_path):
    train = people.train
    nameless = dataclasses.replace(train, pids=np.full_like(train.pids, UNKNOWN))
    target = dataclasses.replace(people, train=nameless)
    pair = with_source(target, both.source)
    result = run(small(adaptation="joint"), pair, tmp_path / "run")
    assert losses(result) == losses(joint[0])
    assert "nmi_pid" not in result["epochs"][0]


def test_each_epoch_fills_both_memories_with_the_means_of_both_domains(
    both, tmp_path, monkeypatch
):
    seen, filled = [], []

    def noted(function):
        def call(*args):
            seen.append(function(*args))
            return seen[-1]

        return call

    class Spy(SymmetricMemory):
        def initialise(self, centroids):
            super().initialise(centroids)
            filled.append((self.mean.bank.clone(), self.hard.bank.clone()))

    monkeypatch.setattr(aff_scl, "extract", noted(aff_scl.extract))
    monkeypatch.setattr(aff_scl, "cluster", noted(aff_scl.cluster))
    monkeypatch.setattr(aff_scl, "SymmetricMemory", Spy)
    run(small(adaptation="joint"), both, tmp_path / "run")
    people = torch.from_numpy(both.source.train.labels)
    assert len(filled) == 2
    for epoch, (mean, hard) in enumerate(filled):
        source, target, labels = seen[3 * epoch : 3 * epoch + 3]
        wanted = [source[people == p].mean(0) for p in range(int(people.max()) + 1)]
        wanted += [target[labels == c].mean(0) for c in range(int(labels.max()) + 1)]
        torch.testing.assert_close(mean, F.normalize(torch.stack(wanted), dim=1))
        assert torch.equal(hard, mean)


def test_source_and_target_share_a_memory_and_no_label(
    both, strangers, tmp_path, monkeypatch
):
    seen = []

    class Spy(SymmetricMemory):
        def losses(self, features, labels):
            seen.append((len(self.mean.bank), len(features), labels.clone()))
            return super().losses(features, labels)

    monkeypatch.setattr(aff_scl, "SymmetricMemory", Spy)
    result = run(small(adaptation="joint"), both, tmp_path / "run")
    people = strangers.train.num_pids
    assert people == 9
    for step, (classes, size, labels) in enumerate(seen):
        clusters = result["epochs"][step // 3]["clusters"]
        assert classes == people + clusters
        # As many images of the source as of the target, the source first.
        assert size == 2 * 6 * 4
        assert int(labels[:24].max()) < people <= int(labels[24:].min())


def test_statistics_that_are_kept_are_those_of_the_target(both, tmp_path, monkeypatch):
    """A source as bright as can be must not move them."""

    def white(source):
        images = open_images(source.train, (64, 32))
        images.pixels = torch.full_like(images.pixels, 255)
        return images

    def statistics(folder):
        state = load_checkpoint(folder / "last.safetensors")["objects"]["model"]
        return torch.cat([v.flatten() for k, v in state.items() if "running_m" in k])

    config = small(adaptation="joint", epochs=1, iterations=1, lr=1e-9)
    run(config, both, tmp_path / "one")
    monkeypatch.setattr(
        aff_scl, "open_images", lambda table, size, **rest: white(both.source)
    )
    run(config, both, tmp_path / "two")
    torch.testing.assert_close(
        statistics(tmp_path / "one"), statistics(tmp_path / "two")
    )


def test_the_source_comes_first_or_is_all_there_is(both, strangers, tmp_path):
    config = small(adaptation="pretrain", source_epochs=1)
    result = run(config, both, tmp_path / "pretrain")
    assert ["clusters" in epoch for epoch in result["epochs"]] == [False, True, True]
    result = run(small(adaptation="source"), both, tmp_path / "source")
    assert not any("clusters" in epoch for epoch in result["epochs"])
    kept = load_checkpoint(tmp_path / "source" / "last.safetensors")["kept"]
    assert len(kept["mean_memory"]) == strangers.train.num_pids
    assert 0 < result["metrics"]["mAP"] < 1  # on the target


def test_cameras_may_be_missing_on_either_side(people, strangers, tmp_path):
    def blind(dataset):
        camids = np.full_like(dataset.train.camids, NO_CAMERA)
        return dataclasses.replace(
            dataset, train=dataclasses.replace(dataset.train, camids=camids)
        )

    def trained(name, target, source, **changes):
        config = small(adaptation="joint", epochs=1, **changes)
        return losses(run(config, with_source(target, source), tmp_path / name))

    both = trained("both", blind(people), blind(strangers))
    assert both == trained("unasked", people, strangers, cross_camera=False)
    # What one side lacks, the other still uses.
    for name, pair in {
        "target": (blind(people), strangers),
        "source": (people, blind(strangers)),
    }.items():
        assert trained(name, *pair) != pytest.approx(both, rel=1e-3)


def test_where_some_cameras_are_missing_none_is_looked_at(people, tmp_path):
    camids = people.train.camids.copy()
    camids[::3] = NO_CAMERA
    train = dataclasses.replace(people.train, camids=camids)
    partly = dataclasses.replace(people, train=train)
    one = run(small(epochs=1), partly, tmp_path / "partly")
    two = run(small(epochs=1, cross_camera=False), people, tmp_path / "without")
    assert losses(one) == losses(two)


@pytest.mark.parametrize("loss", ["symmetric", "classifier"])
def test_bf16_and_a_source_go_with_either_loss(loss, both, tmp_path, monkeypatch):
    clusters_of(monkeypatch, 9)
    changes = {"adaptation": "joint", "loss": loss, "epochs": 1}
    half = run(small(**changes, precision="bf16-mixed"), both, tmp_path / "half")
    clusters_of(monkeypatch, 9)
    full = run(small(**changes), both, tmp_path / "full")
    assert losses(half) != losses(full)
    assert losses(half) == pytest.approx(losses(full), rel=0.05)


def test_a_source_that_cannot_teach_is_refused(people, strangers, tmp_path):
    config = small(adaptation="joint")
    with pytest.raises(ReIDError, match="no labelled source beside it"):
        run(config, people, tmp_path / "none")
    train = strangers.train
    unknown = dataclasses.replace(train, pids=np.full_like(train.pids, UNKNOWN))
    with pytest.raises(ReIDError, match="0 known people"):
        with_source(people, dataclasses.replace(strangers, train=unknown))
    alone = train[train.pids == train.pids[0]]
    with pytest.raises(ReIDError, match="1 known people"):
        with_source(people, dataclasses.replace(strangers, train=alone))
    # Under another name, and without its test split, it is the same data still.
    again = ReIDDataset("other", people.train, people.query[:0], people.gallery[:0])
    # Nor does it help to open the target without identities, as one would.
    unknown = dataclasses.replace(
        people.train, pids=np.full_like(people.train.pids, UNKNOWN)
    )
    blind = dataclasses.replace(people, train=unknown)
    with pytest.raises(ReIDError, match="the same data"):
        with_source(blind, people)
    for same in (people, again):
        with pytest.raises(ReIDError, match="the same data"):
            with_source(people, same)


def test_junk_of_the_source_is_no_class(people, strangers):
    pids = strangers.train.pids.copy()
    pids[:5] = 0
    train = dataclasses.replace(strangers.train, pids=pids)
    pair = with_source(people, dataclasses.replace(strangers, train=train))
    assert len(pair.source.train) == len(pids) - 5
    assert pair.fingerprint() not in (people.fingerprint(), strangers.fingerprint())


def test_an_epoch_without_clusters_is_skipped_and_three_end_the_run(people, tmp_path):
    one = {"eps": 1.0, "k1": 400, "min_samples": 1}
    with pytest.raises(CollapseError, match=r"1 clusters and 0 .* 3 epochs in a row"):
        run(small(**one, epochs=5), people, tmp_path / "three")
    told = (tmp_path / "three" / "log.txt").read_text()
    assert "epoch 2 is skipped for the target: DBSCAN found 1 clusters" in told
    assert "nothing is learned and the next epoch finds the same; raise eps" in told
    # What was skipped before an interruption counts.
    with pytest.raises(CollapseError, match="3 epochs in a row"):
        run(small(**one, epochs=5), people, tmp_path / "three", resume=True)


def test_a_run_that_learned_nothing_is_no_result(people, tmp_path):
    config = small(min_samples=500, epochs=2)
    with pytest.raises(CollapseError, match=r"no epoch had clusters .* raise eps"):
        run(config, people, tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


def clusters_of(monkeypatch, *counts):
    """Let each epoch find as many clusters as given, -1 for outliers alone."""
    left = iter(counts)

    def cluster(features, config):
        count = next(left)
        rows = torch.arange(len(features))
        return torch.full_like(rows, -1) if count < 0 else rows % count

    monkeypatch.setattr(aff_scl, "cluster", cluster)


@pytest.mark.parametrize("adaptation", ["none", "joint"])
def test_three_epochs_of_outliers_alone_end_the_run(
    people, both, tmp_path, monkeypatch, adaptation
):
    clusters_of(monkeypatch, 9, -1, -1, 9, -1, -1, -1, 9)
    config = small(adaptation=adaptation, epochs=8, iterations=1)
    data = both if adaptation == "joint" else people
    with pytest.raises(CollapseError, match=r"0 clusters and .* 3 epochs in a row"):
        run(config, data, tmp_path / "run")
    told = (tmp_path / "run" / "log.txt").read_text()
    assert told.count("skipped for the target") == 4  # two, and two before the end
    assert "epoch 2 is skipped for the target" in told


def test_clusters_that_vanish_or_have_one_image_do_no_harm(
    people, tmp_path, monkeypatch
):
    counts = iter((9, 3, len(people.train)))

    def cluster(features, config):
        return torch.arange(len(features)) % next(counts)

    monkeypatch.setattr(aff_scl, "cluster", cluster)
    result = run(small(epochs=3), people, tmp_path / "run")
    assert np.isfinite(losses(result)).all()
    last = result["epochs"][-1]
    assert last["clusters"] == len(people.train)
    kept = load_checkpoint(tmp_path / "run" / "last.safetensors")["kept"]
    for name in ("mean_memory", "hard_memory"):
        assert torch.allclose(kept[name].norm(dim=1), torch.ones(len(people.train)))
    # Four views of one image: the hardest of them is not their mean.
    assert not torch.equal(kept["mean_memory"], kept["hard_memory"])


def test_without_clusters_the_source_still_teaches_and_leaves_the_statistics(
    both, tmp_path, monkeypatch
):
    def statistics(folder):
        state = load_checkpoint(folder / "last.safetensors")["objects"]["model"]
        return torch.cat([v.flatten() for k, v in state.items() if "running_m" in k])

    one, two = tmp_path / "one", tmp_path / "two"
    for folder, counts in ((one, (9,)), (two, (9, -1))):
        clusters_of(monkeypatch, *counts)
        config = small(adaptation="joint", epochs=len(counts))
        result = run(config, both, folder)
    assert [epoch.get("skipped") for epoch in result["epochs"]] == [None, True]
    assert np.isfinite(losses(result)).all()
    assert torch.equal(statistics(one), statistics(two))
    states = [
        load_checkpoint(folder / "last.safetensors")["objects"]["model"]
        for folder in (one, two)
    ]
    assert any(not torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_clusters_may_vanish_between_epochs(people, tmp_path, monkeypatch):
    clusters_of(monkeypatch, 9, 4, -1, 6)
    result = run(small(epochs=4), people, tmp_path / "run")
    assert [e.get("clusters") for e in result["epochs"]] == [9, 4, 0, 6]
    learned = [epoch["loss"] for epoch in result["epochs"] if "loss" in epoch]
    assert len(learned) == 3
    assert np.isfinite(learned).all()
    kept = load_checkpoint(tmp_path / "run" / "last.safetensors")["kept"]
    assert len(kept["mean_memory"]) == len(kept["hard_memory"]) == 6
    # After an epoch that was skipped, labels and memories are of the one before it.
    clusters_of(monkeypatch, 9, 4, -1)
    run(small(epochs=3), people, tmp_path / "skipped")
    kept = load_checkpoint(tmp_path / "skipped" / "last.safetensors")["kept"]
    assert len(kept["mean_memory"]) == int(kept["pseudo_labels"].max()) + 1 == 4


def test_the_rate_falls_with_the_epochs_of_the_adaptation(both, tmp_path):
    config = small(adaptation="pretrain", source_epochs=2, lr_step=1, iterations=1)
    result = run(config, both, tmp_path / "run")
    # Recorded after the step of the schedule.
    rates = [epoch["lr"] / config.lr for epoch in result["epochs"]]
    assert rates == pytest.approx([1, 1, 0.1, 0.01])


def test_a_stopped_run_goes_on_as_if_it_had_not(both, joint, tmp_path, monkeypatch):
    config = small(adaptation="joint")
    extract_all = aff_scl.extract
    calls = []

    def stop(*args):
        calls.append(args)
        if len(calls) == 3:  # source and target of the first epoch, then
            raise KeyboardInterrupt
        return extract_all(*args)

    monkeypatch.setattr(aff_scl, "extract", stop)
    with pytest.raises(KeyboardInterrupt):
        run(config, both, tmp_path / "run")
    monkeypatch.undo()
    result = run(config, both, tmp_path / "run", resume=True)
    assert losses(result) == losses(joint[0])
    assert result["metrics"]["mAP"] == joint[0]["metrics"]["mAP"]


def test_the_trained_network_can_be_loaded_with_its_attention(alone, people):
    _, folder = alone
    model, config = load_model(folder)
    assert config.global_attention == "casam"
    images = open_images(people.query, config.size)
    features = extract(model, images, config)
    state = load_checkpoint(folder / "last.safetensors")["objects"]["model"]
    assert any(name.startswith("pool.attention.whole") for name in state)
    model.pool.attention.whole.spatial.weight.data.fill_(-10)
    assert not torch.allclose(extract(model, images, config), features, atol=1e-3)


def test_the_supervised_recipe_can_attend_too(people, tmp_path):
    shared = {k: v for k, v in SMALL.items() if k not in ("k1", "k2", "eps")}
    plain = supervised.Config(**shared)
    attentive = supervised.Config(**shared, global_attention="casam")
    one = run(plain, people, tmp_path / "plain", supervised)
    two = run(attentive, people, tmp_path / "attentive", supervised)
    assert losses(one) != losses(two)
    model, _ = load_model(tmp_path / "attentive")
    assert model.pool.attention.residual


def test_the_attention_is_trained(people, tmp_path):
    def weights(folder):
        state = load_checkpoint(folder / "last.safetensors")["objects"]["model"]
        return {k: v for k, v in state.items() if k.startswith("pool.attention")}

    for name, lr in (("trained", 3.5e-4), ("still", 1e-9)):
        run(small(epochs=1, lr=lr), people, tmp_path / name)
    trained, still = weights(tmp_path / "trained"), weights(tmp_path / "still")
    assert len(trained) == 3 + 2 * 2  # CASAM, and a CAM for each group
    for name in trained:
        assert not torch.allclose(trained[name], still[name], atol=1e-5), name


@pytest.mark.parametrize("whole", ["none", "casam"])
def test_the_supervised_head_has_the_groups_and_the_width_that_were_asked_for(
    whole, people, tmp_path
):
    shared = {k: v for k, v in SMALL.items() if k not in ("k1", "k2", "eps")}
    once = {**shared, "epochs": 1, "iterations": 1, "groups": 4, "reduction": 8}
    config = supervised.Config(**once, global_attention=whole, local_attention="cam")
    run(config, people, tmp_path / "run", supervised)
    attention = load_model(tmp_path / "run")[0].pool.attention
    assert [part.perceptron[0].out_channels for part in attention.parts] == 4 * [40]
    assert attention.residual == (whole == "casam")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": 0}, "eps is 0"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"margin": 0}, "margin is 0"),
        ({"hard_weight": -1}, "hard_weight is -1"),
        ({"hard_weight": 0, "mean_weight": 0}, "not both 0"),
        ({"balance": "some"}, "balance is 'some'"),
        ({"global_attention": "se"}, "global_attention is 'se'"),
        ({"reduction": 0}, "reduction is 0"),
        ({"source_epochs": 0}, "source_epochs is 0"),
    ],
)
def test_settings_out_of_their_range_are_named(changes, message):
    with pytest.raises(ReIDError, match=message):
        small(**changes)


def test_preset_paper_has_the_settings_that_the_paper_gives():
    paper = aff_scl.PRESETS["paper"]
    assert (paper.backbone, paper.last_stride, paper.size) == (
        "resnet50",
        1,
        (256, 128),
    )
    assert (paper.num_labels, paper.num_instances) == (16, 8)
    assert (paper.epochs, paper.lr, paper.lr_step, paper.lr_gamma) == (
        60,
        3.5e-4,
        20,
        0.1,
    )
    assert paper.weight_decay == 5e-4
    assert (paper.min_samples, paper.k1, paper.k2, paper.eps) == (4, 30, 6, 0.65)
    assert (paper.hard_weight, paper.mean_weight) == (0.75, 0.25)
    assert (paper.global_attention, paper.local_attention) == ("casam", "cam")


def test_what_the_paper_leaves_open_is_read_as_the_book_says():
    paper = aff_scl.PRESETS["paper"]
    assert (paper.balance, paper.mine_against) == ("predictions", "mean")
    assert (paper.loss, paper.adaptation, paper.pooling) == ("symmetric", "none", "gap")
    assert (paper.groups, paper.reduction, paper.bn_splits) == (2, 16, 1)
    memory = SymmetricMemory(2, 2)
    assert (memory.balance, memory.mine_against) == ("predictions", "mean")
    for one in (paper, memory.mean, memory.hard):
        assert (one.temperature, one.momentum) == (0.05, 0.1)
