"""AFF_SCL, alone and with a source: an epoch against the equations, and odd data."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from recipes.naive import (
    STILL,
    Shadow,
    centroids,
    contrast,
    mean,
    move,
    softmax,
    triplet,
    unit,
    untrained,
)
from support import SMALL, Interrupted, losses, open_run, train

from reidlib.data import with_source
from reidlib.data.table import NO_CAMERA, UNKNOWN, ReIDDataset
from reidlib.engine import Run
from reidlib.engine.checkpoint import load_checkpoint
from reidlib.errors import ReIDError
from reidlib.losses import SymmetricMemory
from reidlib.losses.symmetric import balance_loss
from reidlib.recipes import aff_scl, baseline
from reidlib.recipes.steps import CollapseError, extract, load_model, open_split

CPU = torch.device("cpu")
PLAIN = {"global_attention": "none", "local_attention": "none"}


def small(**changes):
    return aff_scl.Config(**{**SMALL, "k1": 10, "k2": 4, "eps": 0.6, **changes})


def with_column(dataset, **columns):
    table = dataclasses.replace(dataset.train, **columns)
    return dataclasses.replace(dataset, train=table)


def blind(dataset):
    return with_column(dataset, camids=np.full_like(dataset.train.camids, NO_CAMERA))


def nameless(dataset):
    return with_column(dataset, pids=np.full_like(dataset.train.pids, UNKNOWN))


def state_of(folder):
    return load_checkpoint(folder / "last.safetensors")["objects"]["model"]


def kept_in(folder):
    return load_checkpoint(folder / "last.safetensors")["kept"]


def statistics(state):
    return torch.cat([v.flatten() for k, v in state.items() if "running_" in k])


@pytest.fixture(scope="session")
def strangers(tiny):
    """Nine other people, under cameras that have other numbers."""
    table = tiny.train
    chosen = table[np.isin(table.pids, np.unique(table.pids)[12:21])]
    chosen = dataclasses.replace(chosen, camids=chosen.camids + 40)
    return ReIDDataset("strangers", chosen, chosen[:0], chosen[:0])


@pytest.fixture(scope="session")
def both(people, strangers):
    return with_source(people, strangers)


@pytest.fixture(scope="module")
def alone(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    return train(aff_scl, small(), people, folder), folder


@pytest.fixture(scope="module")
def joint(both, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint") / "run"
    return train(aff_scl, small(adaptation="joint"), both, folder), folder


# -- the algorithm -----------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"balance": "features", "hard_weight": 0.2, "mean_weight": 0.7},
        {"mine_against": "hard", "momentum": 0.5, "balance": "none", **PLAIN},
        {"loss": "classifier", "iterations": 1, "margin": 0.4},
        {"adaptation": "joint", "temperature": 0.1},
        {"adaptation": "source", "cross_camera": False},
    ],
    ids=lambda changes: "-".join(changes) or "as it is",
)
def test_an_epoch_is_what_the_equations_say(both, tmp_path, changes):
    config = small(**STILL, **changes)
    result = train(aff_scl, config, both, tmp_path / "run")
    # The classes of the source first, then the clusters of the target.
    data = [both.source] if config.adaptation in ("joint", "source") else []
    data += [both] if config.adaptation != "source" else []
    shadow = Shadow(aff_scl, config, *data)
    features, labels, known = shadow.features(), [], 0
    for number, table in enumerate(dataset.train for dataset in data):
        if data[number] is both:
            found = aff_scl.cluster(features[number], config)
        else:
            found = torch.from_numpy(np.unique(table.pids, return_inverse=True)[1])
        labels.append(torch.where(found < 0, found, found + known))
        known += int(found.max()) + 1
    means = centroids(torch.cat(features), torch.cat(labels))
    hards, steps, terms = list(means), [], []
    across = config.cross_camera
    camids = [torch.from_numpy(d.train.camids) if across else None for d in data]
    for step in shadow.steps(labels, camids):
        assert [len(positives) for _, positives, _, _ in step] == [24] * len(data)
        _, positives, raw, neck = (
            torch.cat(column) for column in zip(*step, strict=True)
        )
        if config.loss == "classifier":
            told = [
                float(torch.nn.functional.cross_entropy(torch.stack(means) @ x, y))
                for x, y in zip(neck, positives, strict=True)
            ]
            steps.append(mean(told) + triplet(raw, positives, config.margin))
            continue
        queries = unit(neck)
        terms.append(naive_losses(queries, positives, means, hards, config))
        hard, center, balance = terms[-1]
        steps.append(
            config.hard_weight * hard + config.mean_weight * center + balance  # AFF-E8
        )
        remember(queries, positives, means, hards, config)
    epoch = result["epochs"][0]
    assert epoch["loss"] == pytest.approx(mean(steps), rel=1e-4)
    assert ("clusters" in epoch) == (config.adaptation != "source")
    if terms:
        told = [epoch[name] for name in ("hard", "mean", "balance")]
        assert told == pytest.approx(np.mean(terms, axis=0).tolist(), rel=1e-4)
        kept = kept_in(tmp_path / "run")
        for name, bank in {"mean_memory": means, "hard_memory": hards}.items():
            torch.testing.assert_close(
                kept[name], torch.stack(bank), atol=1e-4, rtol=1e-3
            )
    # What the batch norms remember is the last domain's: the target's, if it is there.
    torch.testing.assert_close(
        statistics(state_of(tmp_path / "run")), statistics(shadow.model.state_dict())
    )


def naive_losses(queries, positives, means, hards, config):
    """The terms of AFF-E8, the mean over the batch of each."""
    t = config.temperature
    pairs = list(zip(queries, positives, strict=True))
    hard = mean([contrast(q, hards, y, t) for q, y in pairs])  # AFF-E9
    center = mean([contrast(q, means, y, t) for q, y in pairs])  # AFF-E11
    if config.balance == "none":
        return hard, center, 0.0
    if config.balance == "predictions":
        gaps = [
            np.subtract(softmax(q, means, t), softmax(q, hards, t)) for q in queries
        ]
    else:
        gaps = []
        for label in positives.unique():
            own = queries[positives == label]
            hardest = own[hardest_of(own, label, means, hards, config)]
            gaps.append((unit(own.mean(dim=0)) - hardest).numpy())
    told = [float(balance_loss(torch.from_numpy(gap)).sum()) for gap in gaps]  # AFF-E14
    return hard, center, mean(told)


def hardest_of(own, label, means, hards, config):
    bank = means if config.mine_against == "mean" else hards
    return int((own @ bank[int(label)]).argmin())  # AFF-E12


def remember(queries, positives, means, hards, config):
    for label in positives.unique():
        own = queries[positives == label]
        hardest = own[hardest_of(own, label, means, hards, config)]
        move(means, label, own.mean(dim=0), config.momentum)  # AFF-E10
        move(hards, label, hardest, config.momentum)  # AFF-E13


def test_it_leaves_what_the_chapters_need(alone, people):
    result, folder = alone
    for epoch in result["epochs"]:
        total = 0.75 * epoch["hard"] + 0.25 * epoch["mean"] + epoch["balance"]
        assert epoch["loss"] == pytest.approx(total, rel=1e-4)
        assert epoch["balance"] > 0
    kept = kept_in(folder)
    clusters = result["epochs"][-1]["clusters"]
    assert kept["mean_memory"].shape == kept["hard_memory"].shape == (clusters, 64)
    assert not torch.allclose(kept["mean_memory"], kept["hard_memory"], atol=0.01)
    assert len(kept["pseudo_labels"]) == len(people.train)


def test_with_one_memory_and_no_attention_it_is_the_baseline(people, tmp_path):
    """The same loop, step by step: equal losses, not just equal figures."""
    changes = {"hard_weight": 0.0, "mean_weight": 1.0, "balance": "none"}
    plain = baseline.Config(**SMALL, k1=10, k2=4, eps=0.6, update="batch_mean")
    one = train(aff_scl, small(**PLAIN, **changes), people, tmp_path / "aff")
    two = train(baseline, plain, people, tmp_path / "baseline")
    assert losses(one) == pytest.approx(losses(two), rel=1e-6)
    assert one["metrics"]["mAP"] == pytest.approx(two["metrics"]["mAP"], abs=1e-6)


def test_the_classifier_starts_from_the_means_and_learns_by_itself(people, tmp_path):
    config = small(loss="classifier")
    means = torch.eye(4, 8)
    with open_run(aff_scl, config, people, tmp_path / "run") as run:
        classifier, optimizer = aff_scl.classify(means, config, run)
    assert torch.equal(classifier(torch.eye(8)), means.T)
    (group,) = optimizer.param_groups
    assert group["lr"] == config.lr
    assert [id(p) for p in group["params"]] == [id(p) for p in classifier.parameters()]


def test_each_domain_is_normalised_by_itself_and_one_is_remembered(people):
    config = small()
    model = untrained(aff_scl, config).train()
    images = open_split(people.train, config, CPU)
    first, second = (
        batch.float() / 255 for batch in images.batches([range(8), range(8, 24)])
    )
    white = torch.full_like(first, 9.0)  # as bright as can be
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def after(*batches, **options):
        model.load_state_dict(before)
        with torch.no_grad():
            raw, neck = aff_scl.embed(model, list(batches), **options)
        return raw, neck, statistics(model.state_dict())

    raw, neck, moved = after(white, second)
    alone_raw, alone_neck, alone_moved = after(second)
    torch.testing.assert_close(raw[len(first) :], alone_raw)
    torch.testing.assert_close(neck[len(first) :], alone_neck)
    torch.testing.assert_close(moved, alone_moved)
    assert not torch.equal(moved, statistics(before))
    untouched = after(first, second, track_last=False)[2]
    assert torch.equal(untouched, statistics(before))


def test_the_attention_is_trained_and_comes_back_with_the_network(alone, people):
    _, folder = alone
    model, config = load_model(folder)
    assert config.global_attention == "casam"
    images = open_split(people.query, config, CPU)
    features = extract(model, images, config)
    first = untrained(aff_scl, config).state_dict()
    trained = {k: v for k, v in state_of(folder).items() if "attention" in k}
    assert len(trained) == 3 + 2 * 2  # CASAM, and a CAM for each group
    for name, value in trained.items():
        assert not torch.allclose(value, first[name], atol=1e-5), name
    model.pool.attention.whole.spatial.conv.weight.data.fill_(-10)
    assert not torch.allclose(extract(model, images, config), features, atol=1e-3)


# -- a source ----------------------------------------------------------------------


def test_it_needs_no_identity_of_the_target_and_those_of_the_source(
    both, joint, people, tmp_path
):
    config = small(adaptation="joint")
    pair = with_source(nameless(people), both.source)
    result = train(aff_scl, config, pair, tmp_path / "target")
    assert losses(result) == losses(joint[0])
    assert "nmi_pid" not in result["epochs"][0]
    pids = np.random.default_rng(0).permutation(both.source.train.pids)
    pair = dataclasses.replace(both, source=with_column(both.source, pids=pids))
    once = dataclasses.replace(config, epochs=1)
    other = train(aff_scl, once, pair, tmp_path / "source")
    assert losses(other)[0] != losses(joint[0])[0]


def test_the_source_comes_first_and_the_rate_falls_with_the_epochs_after_it(
    both, tmp_path
):
    config = small(adaptation="pretrain", source_epochs=2, lr_step=1, iterations=1)
    result = train(aff_scl, config, both, tmp_path / "run")
    told = ["clusters" in epoch for epoch in result["epochs"]]
    assert told == [False, False, True, True]
    # Recorded after the step of the schedule.
    rates = [epoch["lr"] / config.lr for epoch in result["epochs"]]
    assert rates == pytest.approx([1, 1, 0.1, 0.01])
    assert 0 < result["metrics"]["mAP"] < 1  # on the target


def drawn(config, dataset):
    """Return the images that an epoch draws from a data set."""
    images = open_split(dataset.train, config, CPU)
    labels = torch.arange(len(dataset.train)) % 9
    domain = aff_scl.Domain(images, dataset.train, torch.empty(0), labels)
    run = type("Run", (), {"generator": torch.Generator().manual_seed(0)})
    return torch.cat([batch for _, batch in domain.batches(config, run)])


def test_cameras_are_looked_at_where_a_domain_has_them_all(people, strangers):
    for dataset in (people, strangers):  # each by itself
        asked, unasked = (
            drawn(small(cross_camera=across), dataset) for across in (True, False)
        )
        assert not torch.equal(asked, unasked)
        camids = dataset.train.camids.copy()
        camids[::3] = NO_CAMERA
        for less in (blind(dataset), with_column(dataset, camids=camids)):
            assert torch.equal(drawn(small(), less), unasked)


@pytest.mark.parametrize("loss", ["symmetric", "classifier"])
def test_bf16_and_a_source_go_with_either_loss(loss, both, tmp_path):
    changes = {"adaptation": "source", "loss": loss, "epochs": 1}
    half, full = (
        losses(
            train(
                aff_scl,
                small(**changes, precision=precision),
                both,
                tmp_path / precision,
            )
        )
        for precision in ("bf16-mixed", "32-true")
    )
    assert half != full
    assert half == pytest.approx(full, rel=0.05)


def test_a_source_that_cannot_teach_is_refused(people, strangers, tmp_path):
    config = small(adaptation="joint")
    with pytest.raises(ReIDError, match="no labelled source beside it"):
        train(aff_scl, config, people, tmp_path / "none")
    with pytest.raises(ReIDError, match="0 known people"):
        with_source(people, nameless(strangers))
    table = strangers.train
    one = dataclasses.replace(strangers, train=table[table.pids == table.pids[0]])
    with pytest.raises(ReIDError, match="1 known people"):
        with_source(people, one)
    # Under another name, and without its test split, it is the same data still. Nor
    # does it help to open the target without identities, as one would.
    again = ReIDDataset("other", people.train, people.query[:0], people.gallery[:0])
    for target, same in ((people, people), (people, again), (nameless(people), people)):
        with pytest.raises(ReIDError, match="the same data"):
            with_source(target, same)


def test_junk_of_the_source_is_no_class(people, strangers):
    pids = strangers.train.pids.copy()
    pids[:5] = 0
    pair = with_source(people, with_column(strangers, pids=pids))
    assert len(pair.source.train) == len(pids) - 5
    assert pair.fingerprint() not in (people.fingerprint(), strangers.fingerprint())


# -- epochs without clusters -------------------------------------------------------


def test_three_epochs_without_clusters_end_the_run(people, tmp_path):
    one = small(eps=1.0, k1=400, min_samples=1, epochs=5)
    with pytest.raises(CollapseError, match=r"1 clusters and 0 .* 3 epochs in a row"):
        train(aff_scl, one, people, tmp_path / "run")
    told = (tmp_path / "run" / "log.txt").read_text()
    assert "epoch 2 is skipped for the target: DBSCAN found 1 clusters" in told
    assert "nothing is learned and the next epoch finds the same; raise eps" in told
    # What was skipped before an interruption counts.
    with pytest.raises(CollapseError, match="3 epochs in a row"):
        train(aff_scl, one, people, tmp_path / "run", resume=True)


def test_epochs_that_learn_something_begin_the_count_again(people, tmp_path):
    outliers = torch.full((9,), -1)
    with open_run(aff_scl, small(), people, tmp_path / "run") as run:
        for skipped in ([], [1], [1, 1, 0], [1, 1, 0, 1], [1, 0, 1]):
            run.history = [{"skipped": True} if one else {} for one in skipped]
            aff_scl.skip(outliers, run, alone=False)
        run.history = [{}, {"skipped": True}, {"skipped": True}]
        with pytest.raises(CollapseError, match=r"0 clusters and 9 outliers.*3 epochs"):
            aff_scl.skip(outliers, run, alone=False)


def test_a_run_that_learned_nothing_is_no_result(people, tmp_path):
    config = small(min_samples=500, epochs=2)
    with pytest.raises(CollapseError, match=r"no epoch had clusters .* raise eps"):
        train(aff_scl, config, people, tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


def test_without_clusters_the_source_still_teaches_and_leaves_the_statistics(
    both, tmp_path
):
    config = small(adaptation="joint", epochs=1, min_samples=500)
    result = train(aff_scl, config, both, tmp_path / "run")
    assert result["epochs"][0]["skipped"]
    assert np.isfinite(losses(result)).all()
    first, state = untrained(aff_scl, config).state_dict(), state_of(tmp_path / "run")
    assert torch.equal(statistics(state), statistics(first))
    assert any(not torch.equal(state[name], first[name]) for name in first)
    assert len(kept_in(tmp_path / "run")["mean_memory"]) == both.source.train.num_pids


def test_clusters_may_have_one_image(people, tmp_path):
    config = small(epochs=1, min_samples=1, eps=0.001)
    result = train(aff_scl, config, people, tmp_path / "run")
    assert np.isfinite(losses(result)).all()
    count = result["epochs"][0]["clusters"]
    assert count > 0.95 * len(people.train)
    kept = kept_in(tmp_path / "run")
    for name in ("mean_memory", "hard_memory"):
        assert torch.allclose(kept[name].norm(dim=1), torch.ones(count))
    # Four views of one image: the hardest of them is not their mean.
    assert not torch.equal(kept["mean_memory"], kept["hard_memory"])


class Fading(Run):
    """A run in whose second epoch, and no other, all images are grey."""

    def epochs(self, count):
        """Yield the epochs, each with its images in place, and keep the checkpoints."""
        root = self.dataset.train.root
        for epoch in super().epochs(count):
            for path in self.dataset.train.paths:
                shutil.copy(
                    root / ("grey.jpg" if epoch == 1 else f"kept/{path}"), root / path
                )
            if epoch:
                shutil.copy(self.checkpoint_path, root / f"{epoch}.safetensors")
            yield epoch


def test_clusters_may_vanish_between_epochs(people, tmp_path):
    for path in people.train.paths:
        for file in (tmp_path / path, tmp_path / "kept" / path):
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(people.train.root / path, file)
    Image.new("RGB", (64, 128), "grey").save(tmp_path / "grey.jpg")
    table = dataclasses.replace(people.train, root=tmp_path)
    city = ReIDDataset("fading", table, table[:0], table[:0])
    config = small(epochs=3, memory_budget=0)  # images are read anew in each epoch
    result = train(aff_scl, config, city, tmp_path / "run", Fading)
    epochs = result["epochs"]
    assert [epoch.get("skipped") for epoch in epochs] == [None, True, None]
    assert ["loss" in epoch for epoch in epochs] == [True, False, True]
    assert np.isfinite(losses(result)).all()
    # After the epoch that was skipped, labels and memories are of the one before it.
    for checkpoint, clusters in (
        ("2.safetensors", epochs[0]["clusters"]),
        ("run/last.safetensors", epochs[2]["clusters"]),
    ):
        kept = load_checkpoint(tmp_path / checkpoint)["kept"]
        assert int(kept["pseudo_labels"].max()) + 1 == clusters > 1
        assert len(kept["mean_memory"]) == len(kept["hard_memory"]) == clusters


# -- the rest ----------------------------------------------------------------------


def test_a_stopped_run_goes_on_as_if_it_had_not(both, joint, tmp_path):
    config, folder = small(adaptation="joint"), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(aff_scl, config, both, folder, Interrupted, before_step=4)
    result = train(aff_scl, config, both, folder, resume=True)
    assert "resumed after epoch 1" in (folder / "log.txt").read_text()
    assert losses(result) == losses(joint[0])
    assert result["metrics"]["mAP"] == joint[0]["metrics"]["mAP"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": 0}, "eps is 0"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"margin": 0}, "margin is 0"),
        ({"hard_weight": -1}, "hard_weight is -1"),
        ({"hard_weight": 0, "mean_weight": 0}, "one must be positive"),
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
