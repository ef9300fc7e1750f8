"""CALR, both stages, run for real on a small part of SynthCity ``tiny``."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support import train

from reidlib.clustering import quality_within_cameras
from reidlib.data.table import NO_CAMERA
from reidlib.engine.cache import run_key
from reidlib.engine.checkpoint import load_checkpoint, save_checkpoint
from reidlib.errors import ReIDError
from reidlib.labels import pivot_scores, refine_labels, select_pivots
from reidlib.recipes import baseline, calr, intra_camera
from reidlib.recipes.steps import CollapseError

SMALL = {
    "height": 64,
    "width": 32,
    "frozen_stages": 4,
    "pad": 3,
    "epochs": 2,
    "iterations": 3,
    "num_labels": 6,
    "num_instances": 4,
    "local_epochs": 1,
    "local_iterations": 2,
    "local_num_labels": 4,
    "k": 6,
    "min_similarity": 0.2,
    "min_cluster_size": 3,
    "seed": 3,
}
PLAIN = {"refinement": "none", "weighting": "none", "beta": 0.0}


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    """Stage 1 is cached: these tests must find what they made, and nothing else."""
    patch = pytest.MonkeyPatch()
    patch.setenv("REIDLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def small(**changes):
    return calr.Config(**{**SMALL, **changes})


def run(config, dataset, folder, module=calr, **options):
    return train(module, config, dataset, folder, **options)


def losses(result):
    return [epoch["loss"] for epoch in result["epochs"]]


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory, _own_cache):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run(small(), people, folder), folder


def test_both_stages_leave_what_the_chapters_need(whole, people):
    result, folder = whole
    first = result["epochs"][0]
    assert first["probability"] == 1
    assert 0 < first["discard_ratio"] < 1
    assert first["outlier_share"] == pytest.approx(
        first["unrefined"]["outlier_share"] + first["discard_ratio"]
    )
    assert first["pairwise_precision"] >= first["unrefined"]["pairwise_precision"]
    assert 0 <= first["camera_accuracy"] <= 1
    local = load_checkpoint(folder / intra_camera.LABELS)["labels"]
    train = people.train
    within = quality_within_cameras(local, train.pids, train.camids)
    assert result["metrics"]["local"]["pairwise_f"] == pytest.approx(within.pairwise_f)
    by_camera = result["metrics"]["local_by_camera"]
    assert len(by_camera) == train.num_cams
    # A fifth of its images, in each camera; and no cluster is in two cameras.
    sizes = np.bincount(train.camids)
    clusters = [quality["clusters"] for quality in by_camera]
    assert clusters == [max(1, size // 5) for size in sizes[sizes > 0]]
    for label in local.unique():
        assert len(np.unique(train.camids[(local == label).numpy()])) == 1
    kept = load_checkpoint(folder / "last.safetensors")["kept"]
    assert len(kept["clusters"]) == len(kept["pseudo_labels"]) == len(train)


def test_without_its_parts_it_is_the_baseline(people, tmp_path):
    """The same loop, step by step: equal losses, not just equal figures."""
    shared = {
        k: v for k, v in SMALL.items() if k in baseline.Config.__dataclass_fields__
    }
    plain = baseline.Config(
        **shared, clustering="infomap", k1=6, min_samples=3, update="sequential"
    )
    one = run(small(**PLAIN, min_similarity=0.5), people, tmp_path / "calr")
    two = run(plain, people, tmp_path / "baseline", baseline)
    assert losses(one) == losses(two)
    assert one["metrics"]["mAP"] == two["metrics"]["mAP"]
    assert "discard_ratio" not in one["epochs"][0]
    assert "camera_accuracy" not in one["epochs"][0]


def test_beta_weighs_the_camera_loss_once(people, tmp_path):
    """CALR-E9, on the first loss, that of the untrained network."""
    none, half, one = (
        losses(
            run(
                small(**{**PLAIN, "beta": beta, "epochs": 1, "iterations": 1}),
                people,
                tmp_path / str(beta),
            )
        )[0]
        for beta in (0.0, 0.5, 1.0)
    )
    # A new classifier is about as good as chance.
    assert one - none == pytest.approx(np.log(people.train.num_cams), rel=0.3)
    assert half - none == pytest.approx((one - none) / 2, rel=1e-4)


def test_it_never_sees_an_identity(whole, people, tmp_path):
    generator = np.random.default_rng(0)
    train = people.train
    shuffled = dataclasses.replace(train, pids=generator.permutation(train.pids))
    other = run(small(), dataclasses.replace(people, train=shuffled), tmp_path / "run")
    assert losses(other) == losses(whole[0])
    assert other["metrics"]["mAP"] == whole[0]["metrics"]["mAP"]


def test_stage_one_is_made_once_and_does_not_change_stage_two(
    whole, people, tmp_path, monkeypatch
):
    made = []
    train = intra_camera.train
    monkeypatch.setattr(
        intra_camera, "train", lambda *args: made.append(args) or train(*args)
    )
    intra_camera.train.__module__ = train.__module__
    intra_camera.train.__qualname__ = train.__qualname__
    again = run(small(), people, tmp_path / "cached")
    assert made == []  # from the cache
    assert losses(again) == losses(whole[0])
    run(small(schedule="none", beta=0.5, epochs=1), people, tmp_path / "other")
    assert made == []  # stage 2 alone is different
    # A cold cache: all cameras are trained again, and the numbers stay.
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / "cold"))
    cold = run(small(), people, tmp_path / "cold-run")
    assert len(made) == people.train.num_cams
    assert losses(cold) == losses(whole[0])


def test_stage_one_depends_on_its_inputs_and_on_nothing_else(people):
    one = dataclasses.replace(people, train=people.train[people.train.camids == 0])

    def key(config, dataset=one):
        return run_key(intra_camera.train, config.local(), dataset)

    before = key(small())
    for changes in (
        {"beta": 0.0},
        {"refinement": "single"},
        {"iterations": 9},
        {"schedule": "none"},
        {"min_similarity": 0.4},
    ):
        assert key(small(**changes)) == before, changes
    for changes in (
        {"seed": 4},
        {"local_epochs": 2},
        {"local_clusters": 0.3},
        {"local_keep": "silhouette"},
        {"pooling": "gap"},
        {"temperature": 0.1},
    ):
        assert key(small(**changes)) != before, changes
    fewer = dataclasses.replace(one, train=one.train[1:])
    assert key(small(), fewer) != before


def test_an_interrupted_run_resumes_to_the_numbers_of_a_whole_one(
    whole, people, tmp_path, monkeypatch
):
    cluster, calls = calr.cluster, []

    def stop(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return cluster(*args)

    monkeypatch.setattr(calr, "cluster", stop)
    with pytest.raises(KeyboardInterrupt):
        run(small(), people, tmp_path / "run")
    monkeypatch.setattr(calr, "cluster", cluster)
    resumed = run(small(), people, tmp_path / "run", resume=True)
    assert losses(resumed) == losses(whole[0])
    assert resumed["metrics"]["mAP"] == whole[0]["metrics"]["mAP"]


def test_an_interrupted_stage_one_goes_on_at_its_camera(people, tmp_path, monkeypatch):
    cluster, calls = intra_camera.cluster, []

    def stop(*args):
        calls.append(args)
        if len(calls) == 3:  # the second camera: two calls an epoch and at the end
            raise KeyboardInterrupt
        return cluster(*args)

    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(intra_camera, "cluster", stop)
    with pytest.raises(KeyboardInterrupt):
        run(small(epochs=1), people, tmp_path / "run")
    run(small(epochs=1), people, tmp_path / "run", resume=True)
    cameras = people.train.num_cams
    assert len(calls) == 3 + 2 * (cameras - 1)  # the first camera is not made again


def test_labels_of_an_earlier_run_are_taken_and_those_of_other_data_refused(
    whole, people, tmp_path
):
    file = whole[1] / intra_camera.LABELS
    again = run(small(local_labels=str(file)), people, tmp_path / "run")
    assert losses(again) == losses(whole[0])
    fewer = dataclasses.replace(people, train=people.train[1:])
    with pytest.raises(ReIDError, match="made from other images than those of twelve"):
        run(small(local_labels=str(file)), fewer, tmp_path / "other")
    save_checkpoint(tmp_path / "no_labels.safetensors", {"x": torch.ones(1)})
    other = small(local_labels=str(tmp_path / "no_labels.safetensors"))
    with pytest.raises(ReIDError, match="made from other images"):
        run(other, people, tmp_path / "none")
    with pytest.raises(ReIDError, match="no checkpoint at"):
        run(small(local_labels="nowhere"), people, tmp_path / "nowhere")


def test_each_setting_of_stage_two_does_what_it_says(whole, people, tmp_path):
    """From one seed: what is switched changes, and from the epoch it is switched."""

    def of(name, **changes):
        return run(small(**changes), people, tmp_path / name)

    whole = whole[0]
    no_weights = of("no-weights", weighting="none")
    late = of("late", weight_from=1)
    assert losses(late)[0] == losses(no_weights)[0]
    assert losses(late)[1] != losses(no_weights)[1]
    assert losses(whole)[0] != losses(no_weights)[0]
    others = {
        "beta": of("beta", beta=0.5),
        "lambda": of("lambda", reversal=0.0),
        "form": of("form", camera_form="double_softmax"),
        "normalise": of("normalise", weighting="weights"),
        "window": of("window", align_epochs=1),
        "whole": whole,
    }
    told = {name: tuple(losses(result)) for name, result in others.items()}
    assert len(set(told.values())) == len(told), told
    assert told["window"][0] == told["whole"][0]
    # Probabilities for logits: with six cameras never below 1.04 nor above 2.04.
    contrast = losses(of("contrast", beta=0.0))[0]
    assert 1.04 < told["form"][0] - contrast < 2.04
    every, single = of("every", refinement="every"), of("single", refinement="single")
    pivots = [r["epochs"][0]["pivots"] for r in (every, whole, single)]
    assert pivots[0] > pivots[1] > pivots[2] > 0


@pytest.mark.parametrize(("beta", "moves"), [(0.0, False), (1.0, True)])
def test_the_camera_classifier_is_trained_where_it_is_used(
    people, tmp_path, beta, moves
):
    config = small(beta=beta, refinement="none")
    states = []
    for epochs in (1, 2):
        folder = tmp_path / str(epochs)
        run(dataclasses.replace(config, epochs=epochs), people, folder)
        checkpoint = load_checkpoint(folder / "last.safetensors")
        states.append(checkpoint["objects"]["classifier"])
    same = [torch.equal(states[0][name], states[1][name]) for name in states[0]]
    assert not any(same) if moves else all(same)


def test_refinement_uses_the_neighbourhood_of_the_graph():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 8, generator=generator)
    features = torch.nn.functional.normalize(features + features[:1], dim=1)
    labels, camids = torch.arange(60) % 4, torch.arange(60) % 3
    local = torch.randint(9, (60,), generator=generator) * 3 + camids
    for config in (small(), small(k=12), small(min_similarity=0.6)):
        scores = pivot_scores(features, config.k, config.min_similarity)
        pivots = select_pivots(scores, labels, camids, "ordered")
        wanted = refine_labels(labels, local, camids, pivots)
        found = calr.refine(features, labels, local, camids, 0, config, generator)
        assert torch.equal(found.labels, wanted.labels)
        assert found.num_pivots == wanted.num_pivots


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_the_chance_to_discard_follows_the_schedule(epoch):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(400, 8, generator=generator)
    features = torch.nn.functional.normalize(features + features[:1], dim=1)
    labels, camids = torch.arange(400) % 8, torch.arange(400) % 3
    local = torch.randint(9, (400,), generator=generator) * 3 + camids
    config = small(epochs=4, schedule="cosine")
    pivots = select_pivots(
        pivot_scores(features, config.k, config.min_similarity), labels, camids
    )
    chance = (1 + np.cos(np.pi * epoch / 4)) / 2  # half a cosine, from 1
    wanted = refine_labels(
        labels, local, camids, pivots, chance, torch.Generator().manual_seed(7)
    )
    found = calr.refine(
        features,
        labels,
        local,
        camids,
        epoch,
        config,
        torch.Generator().manual_seed(7),
    )
    assert torch.equal(found.labels, wanted.labels)
    contradicted = refine_labels(labels, local, camids, pivots).discarded.sum()
    assert float(found.discarded.sum() / contradicted) == pytest.approx(chance, abs=0.1)


def test_each_cluster_has_the_weight_of_its_own_cameras(people, tmp_path, monkeypatch):
    """CALR-E6 inside the loop: weights of the refined clusters, each at its place."""
    refined, passed = [], []
    refine, contrast = calr.refine, calr.weighted_info_nce

    def seen_refine(*arguments):
        refined.append(refine(*arguments))
        return refined[-1]

    def seen_contrast(queries, bank, positives, weights, *rest, **options):
        passed.append((len(refined) - 1, weights.clone()))
        return contrast(queries, bank, positives, weights, *rest, **options)

    monkeypatch.setattr(calr, "refine", seen_refine)
    monkeypatch.setattr(calr, "weighted_info_nce", seen_contrast)
    run(small(), people, tmp_path / "run")
    assert [epoch for epoch, _ in passed] == [0] * 3 + [1] * 3
    camids = people.train.camids
    for epoch, weights in passed:
        labels = refined[epoch].labels.numpy()
        wanted = []
        for cluster in range(labels.max() + 1):
            counts = np.unique(camids[labels == cluster], return_counts=True)[1]
            entropy = sum(-n / counts.sum() * np.log(n / counts.sum()) for n in counts)
            wanted.append(np.log(1 + entropy))
        assert len(set(wanted)) > 2
        assert weights.tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_reversal_grows_with_the_epochs(people, tmp_path):
    """Its ramp starts at 0: a first epoch in which only the classifier learns."""
    without = losses(run(small(reversal=0.0), people, tmp_path / "without"))
    ramp = losses(run(small(reversal_gamma=10.0), people, tmp_path / "ramp"))
    assert ramp[0] == without[0]
    assert ramp[1] != without[1]


def test_pivots_that_contradict_each_other_empty_clusters(people, tmp_path):
    """Nobody has a local mate: each pivot wants all others of its camera gone."""
    made = tmp_path / "made"
    made.mkdir()
    file = made / intra_camera.LABELS
    no_tests = people.train[:0]
    only = dataclasses.replace(people, query=no_tests, gallery=no_tests)
    alone = torch.arange(len(people.train))
    save_checkpoint(file, {"labels": alone, "fingerprint": only.fingerprint()})
    every = small(refinement="every", local_labels=str(file), epochs=1)
    emptied = run(every, people, tmp_path / "every")["epochs"][0]
    assert emptied["emptied"] > 0
    assert emptied["clusters"] == emptied["unrefined"]["clusters"] - emptied["emptied"]
    ordered = dataclasses.replace(every, refinement="ordered")
    assert run(ordered, people, tmp_path / "ordered")["epochs"][0]["emptied"] == 0


def test_stage_one_contrasts_an_image_with_its_own_cluster(
    people, tmp_path, monkeypatch
):
    """CALR-E3, on the first loss of a camera, against a loop."""
    seen = {}

    class Memory(intra_camera.ClusterMemory):
        def forward(self, queries, positives):
            seen["queries"] = queries.detach().clone()
            return super().forward(queries, positives)

    class Sampler(intra_camera.PKSampler):
        def __iter__(self):
            for index in super().__iter__():
                seen["index"] = torch.as_tensor(index)
                yield index

    cluster = intra_camera.cluster

    def seen_cluster(features, config):
        labels, silhouette = cluster(features, config)
        seen.setdefault("features", features)
        seen.setdefault("labels", labels)
        return labels, silhouette

    monkeypatch.setattr(intra_camera, "ClusterMemory", Memory)
    monkeypatch.setattr(intra_camera, "PKSampler", Sampler)
    monkeypatch.setattr(intra_camera, "cluster", seen_cluster)
    one = dataclasses.replace(people, train=people.train[people.train.camids == 0])
    config = dataclasses.replace(small().local(), epochs=1, iterations=1)
    result = run(config, one, tmp_path / "run", intra_camera)
    labels = seen["labels"]
    centroids = []
    for label in range(int(labels.max()) + 1):
        mean = seen["features"][labels == label].mean(dim=0)
        centroids.append(mean / mean.norm())
    terms = []
    for query, row in zip(seen["queries"], seen["index"], strict=True):
        query = query / query.norm()
        parts = [torch.exp(query @ c / config.temperature) for c in centroids]
        terms.append(-torch.log(parts[int(labels[row])] / sum(parts)))
    wanted = float(torch.stack(terms).mean())
    assert losses(result)[0] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("keep", ["last", "silhouette"])
def test_stage_one_keeps_the_clusters_it_says(people, tmp_path, monkeypatch, keep):
    made = []
    cluster = intra_camera.cluster

    def seen_cluster(features, config):
        # The first clusters are called the best: those of the end must not win by it.
        labels, silhouette = cluster(features, config)
        made.append((labels, silhouette if made else 1.0))
        return made[-1]

    monkeypatch.setattr(intra_camera, "cluster", seen_cluster)
    one = dataclasses.replace(people, train=people.train[people.train.camids == 0])
    config = dataclasses.replace(small().local(), epochs=2, iterations=8, keep=keep)
    run(config, one, tmp_path / "run", intra_camera)
    kept = load_checkpoint(tmp_path / "run" / intra_camera.LABELS)["labels"]
    first, last = made[0][0], made[-1][0]
    assert not torch.equal(first, last)
    assert torch.equal(kept, last if keep == "last" else first)


def test_stage_one_moves_its_memory_and_keeps_the_best_silhouette(people, tmp_path):
    one = dataclasses.replace(people, train=people.train[people.train.camids == 0])
    config = dataclasses.replace(
        small().local(), epochs=2, keep="silhouette", num_clusters=0.3
    )
    moving = run(config, one, tmp_path / "moving", intra_camera)
    still = run(
        dataclasses.replace(config, momentum=1.0), one, tmp_path / "still", intra_camera
    )
    assert losses(moving)[0] != losses(still)[0]
    seen = [epoch["silhouette"] for epoch in moving["epochs"]]
    assert moving["metrics"]["silhouette"] >= max(seen)


@pytest.mark.parametrize("local_clusters", [600, 0.2])
def test_a_camera_without_a_silhouette_keeps_its_clusters(
    people, tmp_path, local_clusters
):
    # A cluster for each image, or one for all six: neither has a silhouette.
    one = dataclasses.replace(people, train=people.train[people.train.camids == 0][:6])
    config = small(local_clusters=local_clusters, local_keep="silhouette").local()
    result = run(config, one, tmp_path / "run", intra_camera)
    assert result["metrics"]["clusters"] == (6 if local_clusters == 600 else 1)
    assert result["metrics"]["silhouette"] == -1


def test_counts_per_camera_are_right_without_identities(people, tmp_path):
    from reidlib.data.table import UNKNOWN

    pids = np.full_like(people.train.pids, UNKNOWN)
    unnamed = dataclasses.replace(
        people, train=dataclasses.replace(people.train, pids=pids)
    )
    result = run(small(epochs=1), unnamed, tmp_path / "run")
    sizes = np.bincount(people.train.camids)
    found = [quality["clusters"] for quality in result["metrics"]["local_by_camera"]]
    assert found == [max(1, size // 5) for size in sizes[sizes > 0]]


def test_its_results_do_not_depend_on_the_code_of_other_recipes():
    from reidlib.engine.manifest import _reached

    used = {module for module, _ in _reached("reidlib.recipes.calr.train")}
    assert "reidlib.recipes.calr_local" in used
    assert not {"reidlib.recipes", "reidlib.recipes.baseline"} & used


@pytest.mark.parametrize(
    "changes",
    [
        {
            "refinement": "single",
            "schedule": "none",
            "weighting": "weights",
            "weight_from": 1,
            "align_epochs": 1,
            "camera_form": "double_softmax",
            "local_keep": "silhouette",
            "local_epochs": 2,
        },
        {"clustering": "dbscan", "k1": 8, "k2": 3, "eps": 0.7, "refinement": "every"},
        {"local_clusters": 600, "reversal_gamma": 10.0, "cross_camera": False},
    ],
    ids=["published code", "dbscan", "600 clusters a camera"],
)
def test_the_alternatives_train(people, tmp_path, changes):
    result = run(small(**changes), people, tmp_path / "run")
    assert all(np.isfinite(losses(result)))
    aligned = ["camera_accuracy" in epoch for epoch in result["epochs"]]
    assert aligned == ([True, False] if "align_epochs" in changes else [True, True])
    if changes.get("local_clusters") == 600:  # a cluster for each image
        assert result["metrics"]["local"]["clusters"] == len(people.train)


def test_a_camera_with_one_image_is_a_cluster_of_its_own(people, tmp_path):
    camids = people.train.camids.copy()
    camids[0] = 9  # and the numbers of cameras have gaps now
    odd = dataclasses.replace(
        people, train=dataclasses.replace(people.train, camids=camids)
    )
    result = run(small(epochs=1), odd, tmp_path / "run")
    local = load_checkpoint(tmp_path / "run" / intra_camera.LABELS)["labels"]
    assert int((local == local[0]).sum()) == 1
    assert np.isfinite(losses(result)).all()
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "twelve-camera9 has 1 image: a cluster of its own" in log


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
    train = people.train
    blind = dataclasses.replace(
        people, train=dataclasses.replace(train, camids=camids(train.camids))
    )
    with pytest.raises(ReIDError, match=f"{message}.*reidlib train baseline"):
        run(small(), blind, tmp_path / "run")


def test_a_missing_infomap_is_said_before_stage_one(people, tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "infomap" else find(name),
    )
    with pytest.raises(ReIDError, match="choose --clustering dbscan"):
        run(small(), people, tmp_path / "run")
    assert "stage 1" not in (tmp_path / "run" / "log.txt").read_text()


def test_one_encoder_is_for_one_camera(people, tmp_path):
    with pytest.raises(ReIDError, match="give the images of one"):
        run(small().local(), people, tmp_path / "run", intra_camera)


def test_an_epoch_without_two_clusters_says_what_to_change(people, tmp_path):
    with pytest.raises(CollapseError, match=r"left 0 clusters.*lower min_similarity"):
        run(small(min_similarity=1.0), people, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refinement": "all"}, "refinement is 'all'; choose from none, ordered"),
        ({"schedule": "step"}, "schedule is 'step'; choose from none, linear"),
        ({"period": 0.0}, "period is 0"),
        ({"floor": 1.5}, "floor is 1.5"),
        ({"beta": -1.0}, "beta is -1"),
        ({"local_epochs": 0}, "epochs is 0"),
        ({"local_clusters": 0.0}, "num_clusters is 0"),
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
        calr.Config(**changes)


def test_presets_have_the_settings_of_paper_and_code():
    paper, code, veri = (calr.PRESETS[name] for name in ("paper", "code", "veri"))
    assert (paper.temperature, paper.momentum, paper.pooling) == (0.1, 0.2, "gap")
    assert (paper.epochs, paper.local_epochs, paper.local_clusters) == (50, 20, 0.2)
    assert (code.temperature, code.momentum, code.pooling) == (0.05, 0.1, "gem")
    assert [code.aligned(e) for e in (0, 2, 3, 49)] == [True, True, False, False]
    assert all(paper.aligned(e) for e in range(50))
    assert {code.discard_probability(e) for e in range(50)} == {1.0}
    assert paper.discard_probability(25) == pytest.approx(0.5)
    assert veri.size == (224, 224)
    assert dataclasses.replace(veri, height=256, width=128) == paper
    ibn = dataclasses.replace(calr.PRESETS["ibn"], backbone="resnet50", pooling="gap")
    assert ibn == paper
