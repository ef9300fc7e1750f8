"""CALR: an epoch against the equations, stage 1 and its cache, what is refused."""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import pytest
import torch
from recipes.naive import (
    STILL,
    Shadow,
    centroids,
    contrast,
    mean,
    move,
    unit,
    untrained,
)
from support import SMALL, Interrupted, losses, open_run, train

from reidlib.clustering import quality_within_cameras
from reidlib.data.table import NO_CAMERA, UNKNOWN
from reidlib.engine.cache import run_folder, run_key
from reidlib.engine.checkpoint import load_checkpoint, save_checkpoint
from reidlib.errors import ReIDError
from reidlib.labels import pivot_scores, refine_labels, select_pivots
from reidlib.losses import CameraClassifier
from reidlib.recipes import baseline, calr, calr_local
from reidlib.recipes.diagnosis import health_by_camera
from reidlib.recipes.steps import CollapseError

PLAIN = {"refinement": "none", "weighting": "none", "beta": 0.0}


def small(local=None, **changes):
    local = {"epochs": 1, "iterations": 2, "num_labels": 4, **(local or {})}
    graph = {"k": 8, "min_similarity": 0.2, "min_cluster_size": 3}
    stage = calr_local.Stage(**local)
    return calr.Config(**{**SMALL, **graph, "local": stage, **changes})


def local_labels(folder):
    return load_checkpoint(folder / calr_local.LABELS)["labels"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Stage 1 is cached: these tests must find what they made, and nothing else."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REIDLIB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return train(calr, small(), people, folder), folder


@pytest.fixture(scope="module")
def made(whole):
    """The file of the local labels."""
    return whole[1] / calr_local.LABELS


@pytest.fixture(scope="module")
def points():
    """Features, global clusters, cameras, and local clusters that contradict them."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(400, 8, generator=generator)
    labels, camids = torch.arange(400) % 8, torch.arange(400) % 3
    local = torch.randint(9, (400,), generator=generator) * 3 + camids
    return unit(features + features[:1]), labels, local, camids


# -- stage 2 -----------------------------------------------------------------------


def test_both_stages_leave_what_the_chapters_need(whole, people):
    result, folder = whole
    first = result["epochs"][0]
    assert first["probability"] == 1
    assert 0 < first["discard_ratio"] < 1
    before = first["unrefined"]
    lost = pytest.approx(before["outlier_share"] + first["discard_ratio"])
    assert first["outlier_share"] == lost
    assert first["pairwise_precision"] >= before["pairwise_precision"]
    assert first["clusters"] == before["clusters"] - first["emptied"]
    assert 0 <= first["camera_accuracy"] <= 1
    table, local = people.train, local_labels(folder)
    within = quality_within_cameras(local, table.pids, table.camids)
    assert result["metrics"]["local"]["pairwise_f"] == pytest.approx(within.pairwise_f)
    # A fifth of its images, in each camera; and no cluster is in two cameras.
    sizes = np.bincount(table.camids)
    by_camera = result["metrics"]["local_by_camera"]
    clusters = [quality["clusters"] for quality in by_camera]
    assert clusters == [max(1, size // 5) for size in sizes[sizes > 0]]
    for label in local.unique():
        assert len(np.unique(table.camids[(local == label).numpy()])) == 1
    kept = load_checkpoint(folder / "last.safetensors")["kept"]
    assert len(kept["clusters"]) == len(kept["pseudo_labels"]) == len(table)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weighting": "weights", "beta": 0.5, "update": "batch_mean"},
        {"weighting": "none", "camera_form": "double_softmax", "refinement": "single"},
        {"refinement": "none", "beta": 0.0, "cross_camera": False},
    ],
    ids=lambda changes: "-".join(changes) or "as it is",
)
def test_an_epoch_is_what_the_equations_say(people, made, tmp_path, changes):
    config = small(**STILL, local_labels=str(made), **changes)
    result = train(calr, config, people, tmp_path / "run")
    cameras = torch.from_numpy(people.train.camids)

    shadow = Shadow(calr, config, people)
    classifier = CameraClassifier(64, people.train.num_cams)
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    (features,) = shadow.features()
    labels = calr.cluster(features, config)
    if config.refinement != "none":
        local = load_checkpoint(made)["labels"]
        given = (features, labels, local, cameras, 0, config, shadow.generator)
        labels = calr.refine(*given).labels
    weights = [entropy_weight(cameras[labels == c]) for c in range(labels.max() + 1)]
    assert len(set(weights)) > 2
    if config.weighting == "none":
        weights = [1.0] * len(weights)

    bank, steps = centroids(features, labels), []
    across = cameras if config.cross_camera else None
    for ((rows, positives, _, neck),) in shadow.steps([labels], [across]):
        queries = unit(neck)
        pairs = list(zip(queries, positives, strict=True))
        terms = [
            weights[y] * contrast(q, bank, y, config.temperature) for q, y in pairs
        ]
        shared = [weights[y] for y in positives]
        loss = sum(terms) / (
            sum(shared) if config.weighting == "weights" else len(terms)
        )
        if config.beta:
            with torch.no_grad():
                logits = classifier(queries)
            told = [
                camera_term(row, int(camera), config.camera_form)
                for row, camera in zip(logits, cameras[rows], strict=True)
            ]
            loss += config.beta * mean(told)
        steps.append(loss)
        remember(bank, pairs, config)

    assert losses(result) == pytest.approx([mean(steps)], rel=1e-4)
    checkpoint = load_checkpoint(tmp_path / "run" / "last.safetensors")
    kept = checkpoint["kept"]
    assert torch.equal(kept["pseudo_labels"], labels)
    torch.testing.assert_close(kept["memory"], torch.stack(bank), atol=1e-4, rtol=1e-3)
    if not config.beta:
        after = checkpoint["objects"]["classifier"]
        assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_camera_classifier_is_trained(whole, people):
    untrained(calr, small())
    before = CameraClassifier(64, people.train.num_cams).state_dict()
    checkpoint = load_checkpoint(whole[1] / "last.safetensors")
    after = checkpoint["objects"]["classifier"]
    assert not any(torch.equal(after[name], before[name]) for name in before)


def entropy_weight(cameras):
    """CALR-E6: ln(1 + H) of a cluster's cameras."""
    shares = np.unique(cameras, return_counts=True)[1] / len(cameras)
    return math.log(1 + sum(-share * math.log(share) for share in shares))


def camera_term(logits, camera, form):
    """CALR-E8 of one image; the published code takes a softmax of a softmax."""
    scores = logits.tolist()
    for _ in range(2 if form == "double_softmax" else 1):
        total = sum(math.exp(score) for score in scores)
        scores = [math.exp(score) / total for score in scores]
    return -math.log(scores[camera])


def remember(bank, pairs, config):
    """CALR-E2: one feature after the other, or the mean of each cluster's."""
    if config.update == "batch_mean":
        positives = torch.stack([label for _, label in pairs])
        queries = torch.stack([query for query, _ in pairs])
        pairs = [(queries[positives == c].mean(dim=0), c) for c in positives.unique()]
    for query, label in pairs:
        move(bank, label, query, config.momentum)


def test_without_its_parts_it_is_the_baseline(people, tmp_path):
    """The same loop, step by step: equal losses, not just equal figures."""
    plain = baseline.Config(
        **SMALL, clustering="infomap", k1=8, min_samples=3, update="sequential"
    )
    one = train(calr, small(**PLAIN, min_similarity=0.5), people, tmp_path / "calr")
    two = train(baseline, plain, people, tmp_path / "baseline")
    assert losses(one) == losses(two)
    assert one["metrics"]["mAP"] == two["metrics"]["mAP"]
    assert "discard_ratio" not in one["epochs"][0]
    assert "camera_accuracy" not in one["epochs"][0]


def test_it_never_sees_an_identity(whole, made, people, tmp_path):
    table = people.train
    pids = np.random.default_rng(0).permutation(table.pids)
    shuffled = dataclasses.replace(table, pids=pids)
    other = dataclasses.replace(people, train=shuffled)
    result = train(calr, small(), other, tmp_path / "run")
    assert losses(result) == losses(whole[0])
    assert result["metrics"]["mAP"] == whole[0]["metrics"]["mAP"]
    assert result["epochs"][0]["nmi_pid"] != whole[0]["epochs"][0]["nmi_pid"]
    assert torch.equal(local_labels(tmp_path / "run"), local_labels(whole[1]))


def test_an_interrupted_run_resumes_to_the_numbers_of_a_whole_one(
    whole, people, tmp_path
):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(calr, small(), people, folder, Interrupted, before_step=4)
    resumed = train(calr, small(), people, folder, resume=True)
    assert "resumed after epoch 1" in (folder / "log.txt").read_text()
    assert losses(resumed) == losses(whole[0])
    assert resumed["metrics"]["mAP"] == whole[0]["metrics"]["mAP"]


def test_weights_and_alignment_begin_at_their_epochs(whole, made, people, tmp_path):
    """From one seed: until an epoch comes, the run is one without its setting."""
    late = small(weight_from=1, align_from=1)
    never = small(weighting="none", beta=0.0)
    one, two = (
        train(calr, config, people, tmp_path / name)
        for name, config in {"late": late, "never": never}.items()
    )
    assert losses(one)[0] == losses(two)[0] != losses(whole[0])[0]
    assert losses(one)[1] != losses(two)[1]
    assert ["camera_accuracy" in epoch for epoch in one["epochs"]] == [False, True]


def test_the_camera_loss_has_its_epochs_and_so_have_the_weights():
    def epochs(asked, **changes):
        return [epoch for epoch in range(6) if asked(small(epochs=6, **changes), epoch)]

    aligned, weighted = calr.Config.aligned, calr.Config.weighted
    assert epochs(aligned) == epochs(weighted) == list(range(6))
    assert epochs(aligned, align_from=2, align_epochs=3) == [2, 3, 4]
    assert epochs(aligned, align_from=4) == [4, 5]
    assert epochs(aligned, beta=0.0) == []
    assert epochs(weighted, weight_from=4) == [4, 5]
    assert epochs(weighted, weighting="none") == []


def test_the_reversal_grows_with_the_epochs(made, people, tmp_path):
    """Its ramp starts at 0: a first epoch in which only the classifier learns."""
    without, ramp = (
        losses(train(calr, small(**changes), people, tmp_path / name))
        for name, changes in {
            "without": {"reversal": 0.0},
            "ramp": {"reversal_gamma": 10.0},
        }.items()
    )
    assert ramp[0] == without[0]
    assert ramp[1] != without[1]


def test_numbers_of_cameras_may_have_gaps(people, tmp_path):
    """And a camera with one image is a cluster of its own."""
    camids = people.train.camids.copy()
    camids[0] = 9
    table = dataclasses.replace(people.train, camids=camids)
    odd = dataclasses.replace(people, train=table)
    result = train(calr, small(epochs=1), odd, tmp_path / "run")
    local = local_labels(tmp_path / "run")
    assert int((local == local[0]).sum()) == 1
    assert np.isfinite(losses(result)).all()
    told = (tmp_path / "run" / "log.txt").read_text()
    assert "few-camera9 has 1 image: a cluster of its own" in told


# -- refinement --------------------------------------------------------------------


def test_refinement_uses_the_neighbourhood_of_the_graph(points):
    features, labels, local, camids = points
    for config in (small(), small(k=12), small(min_similarity=0.6)):
        scores = pivot_scores(features, config.k, config.min_similarity)
        pivots = select_pivots(scores, labels, camids, "ordered")
        wanted = refine_labels(labels, local, camids, pivots)
        generator = torch.Generator()
        found = calr.refine(features, labels, local, camids, 0, config, generator)
        assert torch.equal(found.labels, wanted.labels)
        assert found.num_pivots == wanted.num_pivots


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_the_chance_to_discard_follows_the_schedule(points, epoch):
    features, labels, local, camids = points
    config = small(epochs=4, schedule="cosine")
    pivots = select_pivots(
        pivot_scores(features, config.k, config.min_similarity), labels, camids
    )
    chance = (1 + np.cos(np.pi * epoch / 4)) / 2  # half a cosine, from 1
    one, two = (torch.Generator().manual_seed(7) for _ in range(2))
    wanted = refine_labels(labels, local, camids, pivots, chance, one)
    found = calr.refine(features, labels, local, camids, epoch, config, two)
    assert torch.equal(found.labels, wanted.labels)
    contradicted = refine_labels(labels, local, camids, pivots).discarded.sum()
    assert float(found.discarded.sum() / contradicted) == pytest.approx(chance, abs=0.1)


def test_rules_take_pivots_and_some_may_empty_clusters(points):
    features, labels, _, camids = points
    # No image has a local mate: each pivot wants all others of its camera gone.
    alone = torch.arange(len(labels))

    def refined(rule):
        config, generator = small(refinement=rule), torch.Generator()
        given = (features, labels, alone, camids, 0, config, generator)
        return calr.refine(*given)

    pivots = [refined(rule).num_pivots for rule in ("every", "ordered", "single")]
    assert pivots[0] > pivots[1] > pivots[2] > 0
    few = torch.arange(len(labels)) // 3 % 100  # three or four images, of one camera
    ordered, every = (
        calr.refine(
            features, few, alone, few % 3, 0, small(refinement=rule), torch.Generator()
        )
        for rule in ("ordered", "every")
    )
    assert ordered.emptied == 0
    assert every.emptied > 0
    assert int(every.labels.max()) + 1 == 100 - every.emptied


# -- stage 1 -----------------------------------------------------------------------


def test_stage_one_is_made_once_and_does_not_change_stage_two(
    whole, people, cache, tmp_path, monkeypatch
):
    def times(folder):
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}

    before = times(cache)
    again = train(calr, small(), people, tmp_path / "cached")
    with open_run(calr, small(beta=0.5), people, tmp_path / "other") as run:
        other = calr.make_local_labels(run.config, people, run)
    assert times(cache) == before  # stage 2 alone is different
    assert losses(again) == losses(whole[0])
    assert torch.equal(other, local_labels(whole[1]))
    # A cold cache: all cameras are trained again, and the numbers stay.
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / "cold"))
    cold = train(calr, small(), people, tmp_path / "cold-run")
    made = list(tmp_path.glob("cold/runs/*/result.json"))
    assert len(made) == people.train.num_cams
    assert losses(cold) == losses(whole[0])


def test_an_interrupted_stage_one_goes_on_at_its_camera(people, tmp_path, monkeypatch):
    config = small(local={"epochs": 2})
    labels = []
    for name in ("whole", "cut"):
        monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / name / "cache"))
        if name == "cut":  # in the second epoch of the third camera
            table = people.train[people.train.camids == 2]
            own = dataclasses.replace(
                people,
                name="few-camera2",
                train=table,
                query=table[:0],
                gallery=table[:0],
            )
            folder = run_folder(calr_local.train, config.stage_1(), own)
            stop = {"kind": Interrupted, "before_step": 3}
            with pytest.raises(KeyboardInterrupt):
                train(calr_local, config.stage_1(), own, folder, **stop)
        with open_run(calr, config, people, tmp_path / name / "run") as run:
            labels.append(calr.make_local_labels(config, people, run))
    told = [path.read_text() for path in tmp_path.glob("cut/cache/runs/*/log.txt")]
    assert sorted("resumed after epoch 1" in text for text in told) == 5 * [False] + [
        True
    ]
    assert torch.equal(*labels)


def test_stage_one_depends_on_its_inputs_and_on_nothing_else(people):
    one = dataclasses.replace(people, train=people.train[people.train.camids == 0])

    def key(config, dataset=one):
        return run_key(calr_local.train, config.stage_1(), dataset)

    before = key(small())
    for changes in (
        {"beta": 0.0},
        {"refinement": "single"},
        {"iterations": 9},
        {"schedule": "none"},
        {"min_similarity": 0.4},
        {"eval_every": 1},
        {"bn_splits": 2},
    ):
        assert key(small(**changes)) == before, changes
    for changes in (
        {"seed": 4},
        {"local": {"epochs": 2}},
        {"local": {"num_clusters": 0.3}},
        {"local": {"keep": "silhouette"}},
        {"pooling": "gap"},
        {"temperature": 0.1},
        {"replacement": "published"},
    ):
        assert key(small(**changes)) != before, changes
    fewer = dataclasses.replace(one, train=one.train[1:])
    assert key(small(), fewer) != before


def test_labels_of_an_earlier_run_are_taken_and_those_of_other_data_refused(
    whole, made, people, tmp_path
):
    def taken(name, file, dataset=people):
        config = small(local_labels=str(file))
        with open_run(calr, config, dataset, tmp_path / name) as run:
            return calr.make_local_labels(config, dataset, run)

    assert torch.equal(taken("run", made), local_labels(whole[1]))
    fewer = dataclasses.replace(people, train=people.train[1:])
    with pytest.raises(ReIDError, match="made from other images than those of few"):
        taken("other", made, fewer)
    save_checkpoint(tmp_path / "no_labels.safetensors", {"x": torch.ones(1)})
    with pytest.raises(ReIDError, match="holds x and no labels"):
        taken("none", tmp_path / "no_labels.safetensors")
    with pytest.raises(ReIDError, match="no checkpoint at"):
        taken("nowhere", "nowhere")
    foreign = {**load_checkpoint(made), "settings": {"epochs": 9}}
    (tmp_path / "new").mkdir()
    save_checkpoint(tmp_path / "new" / calr_local.LABELS, foreign)
    with (
        open_run(calr, small(), people, tmp_path / "new") as run,
        pytest.raises(ReIDError, match="with other settings of stage 1; remove"),
    ):
        calr.make_local_labels(small(), people, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels * 0 - 1, "all local labels are outliers"),
        (lambda labels: labels * 0, "1 of 1 local clusters have images of several"),
        (lambda labels: labels[1:], "local labels and .* images; give one of each"),
        (lambda labels: labels - 2, "the lowest label is -2"),
        (lambda labels: labels + 0.5, "not whole numbers"),
    ],
)
def test_labels_that_refine_nothing_are_refused(
    change, message, made, people, tmp_path
):
    saved = load_checkpoint(made)
    file = tmp_path / "labels.safetensors"
    save_checkpoint(file, {**saved, "labels": change(saved["labels"])})
    with pytest.raises(ReIDError, match=message):
        train(calr, small(local_labels=str(file)), people, tmp_path / "run")


def test_a_resumed_run_keeps_the_labels_that_it_began_with(whole, people, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(calr, small(), people, folder, Interrupted, before_step=4)
    file = folder / calr_local.LABELS
    saved = load_checkpoint(file)
    alone = torch.arange(len(saved["labels"]))  # each image a cluster
    save_checkpoint(file, {**saved, "labels": alone})
    with pytest.raises(
        ReIDError, match=r"another file of local_labels \(made\); put that back"
    ):
        train(calr, small(), people, folder, resume=True)
    file.unlink()  # then they are made again
    resumed = train(calr, small(), people, folder, resume=True)
    assert losses(resumed) == losses(whole[0])
    assert set(resumed["files"]) == {"local_labels (made)"}


def test_counts_per_camera_are_right_without_identities(whole, people):
    unknown = np.full_like(people.train.pids, UNKNOWN)
    unnamed = dataclasses.replace(people.train, pids=unknown)
    found = health_by_camera(local_labels(whole[1]), unnamed)
    wanted = [
        {"clusters": quality["clusters"], "outlier_share": 0}
        for quality in whole[0]["metrics"]["local_by_camera"]
    ]
    assert found == wanted


# -- refusals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("camids", "message"),
    [
        (lambda c: np.zeros_like(c), "come from one camera"),
        (lambda c: np.where(c == 0, NO_CAMERA, c), "have no camera"),
    ],
)
def test_data_without_cameras_is_refused_and_the_baseline_offered(
    people, tmp_path, camids, message
):
    table = people.train
    blind = dataclasses.replace(table, camids=camids(table.camids))
    dataset = dataclasses.replace(people, train=blind)
    with pytest.raises(ReIDError, match=f"{message}.*reidlib train baseline"):
        train(calr, small(), dataset, tmp_path / "run")


def test_a_missing_infomap_is_said_before_stage_one(people, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "infomap", None)  # as if it were not installed
    with pytest.raises(ReIDError, match=r"^clustering: .*\(--clustering dbscan\)"):
        train(calr, small(), people, tmp_path / "run")
    assert "stage 1" not in (tmp_path / "run" / "log.txt").read_text()


def test_an_epoch_without_two_clusters_says_what_to_change(made, people, tmp_path):
    with pytest.raises(CollapseError, match=r"found 0 clusters.*lower min_similarity"):
        train(calr, small(min_cluster_size=200), people, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refinement": "all"}, "refinement is 'all'; choose from none, ordered"),
        ({"schedule": "step"}, "schedule is 'step'; choose from none, linear"),
        ({"period": 0.0}, "period is 0"),
        ({"floor": 1.5}, "floor is 1.5"),
        ({"beta": -1.0}, "beta is -1"),
        ({"local": {"epochs": 0}}, "epochs is 0"),
        ({"local": {"num_clusters": 0.0}}, "num_clusters is 0"),
        ({"local": {"keep": "first"}}, "keep is 'first'"),
        ({"min_similarity": -0.1}, "min_similarity is -0.1"),
        ({"min_similarity": 1.5}, "min_similarity is 1.5"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"reversal": float("inf")}, "reversal is inf"),
        ({"momentum": 2.0}, "momentum is 2"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"eps": 0.0}, "eps is 0"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(ReIDError, match=message):
        small(**changes)


def test_presets_have_the_settings_of_paper_and_code():
    paper, code, veri = (calr.PRESETS[name] for name in ("paper", "code", "veri"))
    assert (paper.temperature, paper.momentum, paper.pooling) == (0.1, 0.2, "gap")
    local = paper.local
    assert (paper.epochs, local.epochs, local.num_clusters) == (50, 20, 0.2)
    assert (code.temperature, code.momentum, code.pooling) == (0.05, 0.1, "gem")
    assert [code.aligned(e) for e in (0, 2, 3, 49)] == [True, True, False, False]
    assert all(paper.aligned(e) for e in range(50))
    assert {code.discard_probability(e) for e in range(50)} == {1.0}
    assert paper.discard_probability(25) == pytest.approx(0.5)
    assert veri.size == (224, 224)
    assert dataclasses.replace(veri, height=256, width=128) == paper
    ibn = dataclasses.replace(calr.PRESETS["ibn"], backbone="resnet50", pooling="gap")
    assert ibn == paper
