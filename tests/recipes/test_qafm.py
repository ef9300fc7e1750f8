"""QAFM: who moves what, phases, attributes that belong to people, resumption."""

from __future__ import annotations

import dataclasses
import math
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from support import (
    SMALL,
    Interrupted,
    few_people,
    losses,
    open_run,
    train,
    without_times,
)

from reidlib.data import ReIDDataset, open_dataset, read_market_attributes
from reidlib.data.attributes import ATTRIBUTE_NAMES, attributes_hash
from reidlib.data.transforms import TestTransform
from reidlib.engine.cache import cached_run, run_key
from reidlib.engine.checkpoint import load_checkpoint
from reidlib.errors import ReIDError
from reidlib.evaluation import evaluate
from reidlib.losses.smoothing import smoothed_cross_entropy
from reidlib.models.appearance import stripe_loss
from reidlib.models.attributes import attribute_loss
from reidlib.models.backbones import build_backbone
from reidlib.quality import weigh, weight_loss
from reidlib.recipes import qafm, supervised
from reidlib.recipes.alphas import (
    ALPHAS,
    RIVALS,
    failure_areas,
    held_out_gain,
    quality_scores,
    score_alphas,
)
from reidlib.recipes.steps import extract_test, load_model, open_split

CPU = torch.device("cpu")
OWN = {
    "attribute_epochs": 1,
    "epochs": 2,
    "warmup_epochs": 1,
    "frozen_epochs": 1,
    "branch_rate": 1.0,
    "features": 16,
    "fused_features": 12,
    "pyramid_width": 8,
    "decoder_channels": 8,
    "attribute_hidden": 4,
    "quality_backbone": "tiny",
    "quality_height": 32,
    "quality_width": 16,
    "lr": 1e-2,
}


def small(**changes):
    return qafm.Config(**{**SMALL, **OWN, **changes})


@pytest.fixture(scope="module")
def people(tiny):
    """So many people to learn from that no attribute has one value; ten to look for."""
    return few_people(tiny, 26)


@pytest.fixture(scope="module")
def fewer(people):
    """All these people in fewer images: the quality of each takes 35 views."""
    train, query, gallery = people.train[::3], people.query[::2], people.gallery
    assert len(np.unique(train.pids)) == 26
    assert len(np.unique(query.pids)) == 10
    # Of each person one in each camera, so that every query has a match.
    seen = np.stack([gallery.pids, gallery.camids])
    first = np.unique(seen, axis=1, return_index=True)[1]
    return ReIDDataset("fewer", train, query, gallery[first])


@pytest.fixture(scope="module")
def trained(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qafm") / "run"
    return train(qafm, small(), people, folder), folder


def part_of(name):
    """The part of the network that a weight belongs to."""
    first, second = name.split(".")[:2]
    return second if first == "fusion" else first


def batch_of(config, seed=0):
    torch.manual_seed(seed)
    model = qafm.network(config)
    heads = qafm.Classifiers(model, 3)
    model.train()
    view = torch.randn(6, 3, 64, 32)
    who = torch.tensor([0, 0, 1, 1, 2, 2])
    sizes = [head.out_features for head in model.attributes.heads]
    classes = torch.stack([torch.arange(6) % size for size in sizes], dim=1)
    return model, heads, view, who, classes


def moved(parts, names):
    """The names of the parts that have a gradient."""
    return {
        name
        for name in names
        if any(
            p.grad is not None and p.grad.abs().max() > 0
            for module in parts[name]
            for p in module.parameters()
        )
    }


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("gradients", ["isolated", "accumulated"])
def test_what_each_of_the_four_losses_reaches(gradients, shared):
    """Isolated: its own part. Accumulated: all that it depends on."""
    config = small(gradients=gradients, shared_encoder=shared)
    reached = {}
    for which in ("appearance", "attributes", "fusion", "weight"):
        model, heads, view, who, classes = batch_of(config)
        parts = model.parts()
        parts["appearance"] += [heads.appearance, heads.stripes]
        parts["fusion"] += [heads.fused]
        isolated = gradients == "isolated"
        v_a, stripes, v_s, logits = model.branches(view, isolated)
        of_appearance = stripe_loss(heads.of_appearance(v_a, stripes), who)
        of_attributes = attribute_loss(logits, classes)
        if isolated:
            v_a, v_s = v_a.detach(), v_s.detach()
        alpha = model.alpha(torch.randn(6))
        fused = model.fuse(v_a, v_s, alpha.detach() if isolated else alpha)
        losses = {
            "appearance": of_appearance.mean(),
            "attributes": of_attributes.mean(),
            "fusion": smoothed_cross_entropy(heads.of_fused(fused), who),
            "weight": weight_loss(alpha, of_appearance, of_attributes),
        }
        losses[which].backward()
        reached[which] = moved(parts, parts)
    assert reached["weight"] == {"weight"}
    assert reached["appearance"] == {"appearance"}
    if gradients == "isolated":
        assert reached["fusion"] == {"fusion"}
        assert reached["attributes"] == {"attributes"}
    else:
        assert reached["fusion"] == {"fusion", "weight", "appearance", "attributes"}
        own = {"attributes", "appearance"} if shared else {"attributes"}
        assert reached["attributes"] == own


@pytest.mark.parametrize("shared", [False, True])
def test_each_optimiser_moves_its_own_weights_and_all_of_them(shared, people, tmp_path):
    config = small(shared_encoder=shared, fixed_alpha=0.5)
    parts = {
        "appearance": ("encoder", "appearance", "heads.appearance", "heads.stripes"),
        "attributes": ("attribute_encoder", "attributes"),
        "fusion": ("fusion.layer", "heads.fused"),
        "weight": ("fusion.weight",),
    }
    with open_run(qafm, config, people, tmp_path / "run") as run:
        model = qafm.network(config)
        heads = qafm.Classifiers(model, 3)
        model, heads, _, optimizers = qafm.start(config, run, model, heads)
        weights = {n: w for n, w in model.module.named_parameters() if w.requires_grad}
        weights |= {f"heads.{n}": w for n, w in heads.module.named_parameters()}
        left = dict(weights)
        assert list(optimizers) == list(parts)
        for part, optimizer in optimizers.items():
            for weight in weights.values():
                weight.grad = torch.ones_like(weight)
            before = {name: weight.detach().clone() for name, weight in weights.items()}
            optimizer.step()
            for name, weight in weights.items():
                own = name.startswith(tuple(f"{one}." for one in parts[part]))
                assert torch.equal(weight, before[name]) == (not own), (part, name)
                if own:
                    del left[name]
    assert left == {}


@pytest.mark.parametrize("activation", [False, True])
def test_the_identity_loss_of_alpha_moves_alpha_alone(activation):
    config = small(alpha_loss="identity", activation=activation)
    model, heads, view, who, _classes = batch_of(config)
    statistics = {n: b.clone() for n, b in model.fusion.named_buffers()}
    v_a, _stripes, v_s, _logits = model.branches(view)
    alpha = model.alpha(torch.randn(6))
    still = model.fuse(v_a.detach(), v_s.detach(), alpha, detached=True)
    counted = heads.fused.neck.num_batches_tracked.clone()
    told = heads.of_fused(still, detached=True)
    smoothed_cross_entropy(told, who).backward()
    everything = {**dict(model.named_parameters()), **dict(heads.named_parameters())}
    reached = {n for n, p in everything.items() if p.grad is not None}
    assert {part_of(name) for name in reached} == {"weight"}
    assert heads.fused.neck.num_batches_tracked == counted
    for name, value in model.fusion.named_buffers():
        assert torch.equal(value, statistics[name]), name
    # What is detached computes the same.
    same = heads.of_fused(model.fuse(v_a, v_s, alpha))
    torch.testing.assert_close(told, same)


def test_the_rates_warm_up_fall_as_a_cosine_and_are_a_tenth_in_the_branches():
    config = qafm.PRESETS["paper"]
    start = config.attribute_epochs
    assert qafm.rate(config, start - 1, branch=True) == 1
    for epoch in range(config.epochs):
        expected = (epoch + 1) / 10
        if epoch >= 10:
            expected = 0.5 * (1 + math.cos(math.pi * (epoch - 10) / 110))
        assert qafm.rate(config, start + epoch, False) == pytest.approx(expected)
        assert qafm.rate(config, start + epoch, True) == pytest.approx(expected / 10)


def states(folder):
    return load_checkpoint(folder / "last.safetensors")["objects"]["model"]


def test_stage_1_moves_the_attributes_and_frozen_epochs_move_no_branch(
    people, tmp_path, trained
):
    """The three phases of a training, by what differs in their checkpoints."""
    base = small()
    folders = {}
    for name, changes in {
        "frozen": {"epochs": 1, "frozen_epochs": 1, "attribute_epochs": 0},
    }.items():
        folders[name] = tmp_path / name
        train(qafm, dataclasses.replace(base, **changes), people, folders[name])
    frozen = states(folders["frozen"])

    def changed(state, other):
        """Parts in which some weight (not the statistics of a batch norm) differs."""
        counts = ("running", "num_batches")
        return {
            part_of(name)
            for name in state
            if not any(word in name for word in counts)
            and not torch.allclose(state[name], other[name], atol=1e-6)
        }

    # Frozen: no branch moves, nor do the statistics of their batch norms.
    untouched = [n for n in frozen if n.startswith(("encoder", "appearance", "attrib"))]
    fresh = qafm_start(base, people, tmp_path)
    assert all(torch.equal(frozen[name], fresh[name]) for name in untouched)
    assert changed(frozen, fresh) == {"layer", "weight"}
    assert changed(states(trained[1]), fresh) == {
        *("encoder", "attribute_encoder", "appearance", "attributes"),
        *("layer", "weight"),
    }


def qafm_start(config, people, tmp_path):
    """The network of a run before its first step."""
    with open_run(qafm, config, people, tmp_path / "fresh"):
        return {k: v.clone() for k, v in qafm.network(config).state_dict().items()}


def test_stage_1_alone(people, tmp_path):
    config = small()
    first_of_stage_2 = {"before_step": config.iterations}
    with pytest.raises(KeyboardInterrupt):
        train(qafm, config, people, tmp_path / "run", Interrupted, **first_of_stage_2)
    after = states(tmp_path / "run")
    fresh = qafm_start(config, people, tmp_path)
    differs = {part_of(n) for n in after if not torch.equal(after[n], fresh[n])}
    assert differs == {"attribute_encoder", "attributes", "weight"}
    of_weight = [name for name in after if part_of(name) == "weight"]
    scores = [n for n in of_weight if not torch.equal(after[n], fresh[n])]
    normalise = "fusion.weight.normalise"
    assert scores == [f"{normalise}.mean", f"{normalise}.std"]


def test_attributes_belong_to_the_people_after_relabelling(people):
    known = read_market_attributes(people.root).train
    classes = qafm.attribute_classes(people, small())
    table = people.train
    for row in range(0, len(table), 7):
        values = known[int(table.pids[row])]
        assert (classes[row, :10] == values[:10] - 1).all()
    # By the relabelled identity the rows would be those of other people.
    found = [known.get(int(label)) for label in table.labels]
    pairs = zip(found, classes, strict=True)
    wrong = [w is None or (w[:10] - 1 != c[:10]).any() for w, c in pairs]
    assert np.mean(wrong) > 0.5


def test_shuffled_attributes_are_those_of_exactly_one_other_person(people):
    right = qafm.attribute_classes(people, small())
    shuffled = qafm.attribute_classes(people, small(attributes="shuffled"))
    labels = people.train.labels
    first = np.unique(labels, return_index=True)[1]
    for label in np.unique(labels):
        own = shuffled[labels == label]
        assert (own == own[0]).all()
    as_rows = lambda rows: sorted(map(tuple, rows.tolist()))  # noqa: E731
    assert as_rows(shuffled[first]) == as_rows(right[first])
    assert (shuffled[first] != right[first]).any(axis=1).mean() > 0.8
    assert (qafm.attribute_classes(people, small(attributes="none")) == -1).all()


def test_the_result_has_each_fixed_alpha_and_the_learned_one(trained, people):
    metrics = trained[0]["metrics"]
    assert list(metrics["fixed_alpha"]) == [f"{a:.1f}" for a in ALPHAS]
    assert 0 < metrics["alpha"]["mean"] < 1
    best = max(one["mAP"] for one in metrics["fixed_alpha"].values())
    assert metrics["alpha"]["oracle_mAP"] >= best
    assert metrics["attributes"]["split"] == "query"
    assert 0 <= metrics["attributes"]["balanced_accuracy"] <= 1


def test_each_of_the_27_attributes_is_scored(trained, people):
    result, folder = trained
    each = result["metrics"]["attributes"]["each"]
    assert tuple(each) == ATTRIBUTE_NAMES
    # Of a group that is one attribute these are its scores, and their mean is known.
    balanced = result["metrics"]["attributes"]["balanced"]
    for name in ("hat", "age"):
        assert each[name]["balanced_accuracy"] == balanced[name]
    model, config = load_model(folder)
    (batch,) = open_split(people.query, config, CPU).batches(
        [torch.arange(len(people.query))]
    )
    with torch.inference_mode():
        upper = model.branches(TestTransform()(batch)).logits[10]
    values = read_market_attributes(people.root).for_table(people.query)[0]
    colour = ATTRIBUTE_NAMES.index("upwhite")
    truth = values[:, colour] == 2
    said = upper.argmax(dim=1).numpy() == colour - 10
    known = qafm_known(people)
    expected = accuracy_score(truth[known], said[known])
    assert each["upwhite"]["accuracy"] == pytest.approx(expected)
    expected = balanced_accuracy_score(truth[known], said[known])
    assert each["upwhite"]["balanced_accuracy"] == pytest.approx(expected)


def qafm_known(people):
    """Rows of the query whose upper colour is known."""
    classes = read_market_attributes(people.root).for_table(people.query)[1]
    return classes[:, 10] >= 0


def test_distractors_are_left_out_of_a_gallery_of_its_own(trained, people):
    result, folder = trained
    model, config = load_model(folder)
    query, gallery = extract_test(model, people, config, CPU)
    # Among the gallery of these people there are none.
    assert result["metrics"]["without_distractors"] == {
        "mAP": result["metrics"]["mAP"],
        "rank_1": result["metrics"]["cmc"]["1"],
        "rank_5": result["metrics"]["cmc"]["5"],
    }
    # With other people in place of some the others are scored as if these were gone.
    pids = people.gallery.pids.copy()
    pids[::5] = 0
    table = dataclasses.replace(people.gallery, pids=pids)
    dataset = dataclasses.replace(people, gallery=table)
    made = {"query": query.repeat(1, 2), "gallery": gallery.repeat(1, 2)}
    scores = {name: torch.rand(len(one)) for name, one in made.items()}
    whole, told, _ = score_alphas(
        torch.sigmoid, lambda a, b, _: a + b, made, scores, dataset
    )
    left = np.flatnonzero(pids)
    expected = evaluate(query, gallery[left], people.query, people.gallery[left])
    assert told["without_distractors"]["mAP"] == pytest.approx(expected.mAP, abs=1e-6)
    assert told["without_distractors"]["mAP"] > whole.mAP


@pytest.fixture(scope="module")
def learned(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned") / "run"
    return train(qafm, small(quality_learns="identities"), people, folder), folder


def test_the_network_of_the_score_learns_identities_and_no_more(
    learned, trained, people
):
    folder = learned[1]
    own, before = (
        {n: w for n, w in states(one).items() if n.startswith("quality")}
        for one in (folder, trained[1])
    )
    assert own.keys() == before.keys()
    assert not all(torch.equal(own[name], before[name]) for name in own)
    # The branches are those of the other run: they see nothing of the score.
    for name, weight in states(folder).items():
        if not name.startswith(("quality", "fusion")):
            assert torch.equal(weight, states(trained[1])[name]), name
    alone = supervised.Config(
        **{
            **{**SMALL, "lr": 1e-2, "height": 32, "width": 16, "pooling": "gap"},
            **{"epochs": 2, "last_stride": 2, "classifier_lr": 3.5e-4},
        }
    )
    no_test = {"query": people.query[:0], "gallery": people.gallery[:0]}
    _, kept = cached_run(
        supervised.train, alone, dataclasses.replace(people, **no_test), device="cpu"
    )
    expected = load_model(kept)[0].backbone.state_dict()
    for name, weight in expected.items():
        assert torch.equal(weight, own[f"quality.backbone.{name}"]), name
    ours, theirs = (one[0]["metrics"]["failure"] for one in (learned, trained))
    assert ours["areas"]["pairs"] != theirs["areas"]["pairs"]
    assert ours["areas"]["sharpness"] == pytest.approx(
        theirs["areas"]["sharpness"], abs=0.2
    )


def test_with_a_trained_score_it_is_resumed(learned, people, tmp_path):
    config = small(quality_learns="identities")
    with pytest.raises(KeyboardInterrupt):
        train(qafm, config, people, tmp_path, Interrupted, before_step=4)
    result = train(qafm, config, people, tmp_path, resume=True)
    assert losses(result) == losses(learned[0])
    assert result["metrics"] == learned[0]["metrics"]


def test_augmented_views_are_drawn_anew_and_by_the_seed(people, tmp_path):
    plain, augmented = (small(quality_views=v) for v in ("normalised", "augmented"))
    torch.manual_seed(0)
    model, other = qafm.network(plain), qafm.network(augmented)
    other.load_state_dict(model.state_dict())
    table = dataclasses.replace(people, train=people.train[:8])
    for name in ("query", "gallery"):
        table = dataclasses.replace(table, **{name: getattr(people, name)[:0]})

    def scores(network, config):
        return quality_scores(network, table, config)["pairs"]["train"]

    normal = scores(model, plain)
    one, again = scores(other, augmented), scores(other, augmented)
    assert torch.equal(one, again)
    third = scores(other, dataclasses.replace(augmented, seed=augmented.seed + 1))
    assert (one != third).all()
    # Every pair of views differs by luck as well.
    assert one.mean() > 1.05 * normal.mean()
    (batch,) = open_split(table.train, plain, CPU).batches([torch.arange(8)])
    assert (
        other.quality.eval()(batch) > model.quality.eval()(batch)
    ).float().mean() > 0.7
    assert torch.equal(other.quality(batch), other.quality(batch))


def test_the_network_by_itself_gives_what_the_recipe_scored(trained, people):
    """``forward`` measures the quality of an image; the recipe had it in the cache."""
    result, folder = trained
    model, config = load_model(folder)
    query, gallery = extract_test(model, people, config, CPU)
    scores = evaluate(query, gallery, people.query, people.gallery)
    assert scores.mAP == pytest.approx(result["metrics"]["mAP"], abs=1e-6)
    images = open_split(people.query, config, CPU)
    (batch,) = images.batches([torch.arange(4)])
    with torch.inference_mode():
        made = model.branches(TestTransform()(batch))
        alpha = model.alpha(model.quality(batch))
        expected = model.fuse(made.appearance, made.attributes, alpha)
    expected = torch.nn.functional.normalize(expected, dim=1)
    torch.testing.assert_close(query[:4], expected, atol=1e-5, rtol=1e-4)


def test_a_fixed_alpha_at_an_end_is_one_branch(people, tmp_path):
    config = small(alpha_loss="none", fixed_alpha=0.0, epochs=1)
    result = train(qafm, config, people, tmp_path / "run")
    metrics = result["metrics"]
    assert metrics["mAP"] == pytest.approx(metrics["fixed_alpha"]["0.0"]["mAP"])
    model, _config = load_model(tmp_path / "run")
    v_a, v_s = torch.randn(2, 16), torch.randn(2, 16)
    weighted = weigh(v_a, v_s, 0.0, "attributes")
    assert weighted[:, 16:].eq(0).all()
    torch.testing.assert_close(
        model.fuse(v_a, v_s, model.alpha(torch.zeros(2))), model.fusion.layer(weighted)
    )


def test_interrupted_and_resumed_it_is_the_same_training(trained, people, tmp_path):
    whole, _folder = trained
    for steps in (1, 4, 7):  # in stage 1, in a frozen epoch, in the last
        folder = tmp_path / str(steps)
        with pytest.raises(KeyboardInterrupt):
            train(qafm, small(), people, folder, Interrupted, before_step=steps)
        result = train(qafm, small(), people, folder, resume=True)
        assert losses(result) == losses(whole)
        assert result["metrics"] == whole["metrics"]
        assert without_times(result["epochs"]) == without_times(whole["epochs"])


def test_rivals_change_nothing_and_the_one_like_the_network_is_the_network(
    people, trained, tmp_path
):
    alone = trained[0]
    beside = train(qafm, small(rivals=True), people, tmp_path / "run")
    rivals = beside["metrics"].pop("rivals")
    assert beside["metrics"] == alone["metrics"]
    assert list(rivals) == [one.name for one in RIVALS]
    same = rivals["ratio, attributes, pairs"]
    metrics = alone["metrics"]
    assert same["mAP"] == metrics["mAP"]
    assert {name: same[name] for name in metrics["alpha"]} == metrics["alpha"]
    # What another loss, convention or score learns is what a training of its own does.
    for name, changes in {
        "linear, appearance, pairs": {"alpha_loss": "linear"},
        "ratio, attributes, anchor": {"identifiability": "anchor"},
        "none, attributes, pairs": {"alpha_loss": "none"},
    }.items():
        weighs = name.split(", ")[1]
        config = small(alpha_weighs=weighs, **changes)
        other = train(qafm, config, people, tmp_path / name)["metrics"]
        assert rivals[name]["mAP"] == pytest.approx(other["mAP"], abs=1e-6)
        assert rivals[name]["mean"] == pytest.approx(other["alpha"]["mean"], abs=1e-6)
    assert rivals["ratio, attributes, random"]["mean"] != same["mean"]


def test_rivals_are_resumed(people, tmp_path):
    config = small(rivals=True, epochs=2)
    whole = train(qafm, config, people, tmp_path / "whole")["metrics"]
    with pytest.raises(KeyboardInterrupt):
        train(qafm, config, people, tmp_path / "run", Interrupted, before_step=7)
    assert (
        train(qafm, config, people, tmp_path / "run", resume=True)["metrics"] == whole
    )


def test_what_is_gained_in_the_other_half_of_the_cameras(people):
    """Two weights, three queries, of which the last has no match in one half."""
    found = {  # average precision by weight and half
        (0.0, 0): [1.0, 0.2, 0.5],
        (1.0, 0): [0.4, 0.6, 0.5],
        (0.0, 1): [0.5, 0.9, math.nan],
        (1.0, 1): [0.7, 0.3, math.nan],
    }
    camids = people.gallery.camids

    def score(weight, rows):
        (half,) = set(np.unique(camids, return_inverse=True)[1][rows] % 2)
        return SimpleNamespace(ap=np.array(found[weight["alpha"], half]))

    fixed = {a: {"gallery": people.gallery.paths, "alpha": a} for a in (0.0, 1.0)}
    gain = held_out_gain(fixed, score, people.gallery)
    # Chosen in half 0: (0.5 + 0.3) / 2 - (0.5 + 0.9) / 2; in half 1: (0.4 + 0.2) / 2 -
    # (1.0 + 0.2) / 2. One weight for all is 0 in both.
    assert gain == pytest.approx(-0.3)


def test_what_cannot_be_scored_by_alpha_is_refused(people):
    torch.manual_seed(0)
    rows = {name: len(getattr(people, name)) for name in ("query", "gallery")}
    made = {name: torch.randn(count, 4) for name, count in rows.items()}
    scores = {name: torch.rand(count) for name, count in rows.items()}

    def told(made, scores):
        return score_alphas(
            torch.sigmoid, lambda a, b, _: torch.cat([a, b], 1), made, scores, people
        )

    def arrays(tensors):
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    expected = told(made, scores)
    assert told(arrays(made), arrays(scores))[1] == expected[1]
    for wrong, message in (
        ({"query": made["query"][:, :3]}, "3 dimensions; give those of both branches"),
        ({"gallery": made["gallery"][1:]}, "give one for each of its"),
        ({"gallery": made["gallery"] * math.nan}, "hold NaN or inf"),
    ):
        with pytest.raises(ReIDError, match=message):
            told(made | wrong, scores)
    with pytest.raises(ReIDError, match="give those of the gallery, too"):
        told({"query": made["query"]}, scores)
    with pytest.raises(ReIDError, match="scores of the query have shape"):
        told(made, scores | {"query": scores["query"][1:]})

    descriptors, every = expected[2], {"pairs": scores, "contrast": scores}
    areas = failure_areas(descriptors, every, people, expected[0].unmatched)
    assert areas.keys() == {"share", "areas"}
    found = failure_areas(
        arrays(descriptors),
        {name: arrays(one) for name, one in every.items()},
        people,
        expected[0].unmatched,
    )
    assert found == areas

    def score(found, rows):
        gallery = people.gallery[rows]
        return evaluate(found["query"], found["gallery"][rows], people.query, gallery)

    for fixed, message in (
        ({}, "there is no fixed alpha"),
        ({0.5: {**descriptors, "query": descriptors["query"] * math.nan}}, "hold NaN"),
        ({0.5: {**descriptors, "query": descriptors["query"][:, :3]}}, "3 dimensions"),
        ({0.5: {**descriptors, "gallery": torch.ones(999, 4)}}, "999 gallery desc"),
    ):
        with pytest.raises(ReIDError, match=message):
            held_out_gain(fixed, score, people.gallery)


def test_an_alpha_for_each_query_is_chosen_without_the_answer(trained):
    """Chosen in other cameras it cannot gain more than chosen by the answer."""
    alpha = trained[0]["metrics"]["alpha"]
    best = max(one["mAP"] for one in trained[0]["metrics"]["fixed_alpha"].values())
    assert alpha["held_out_gain"] < alpha["oracle_mAP"] - best


def test_the_areas_are_those_of_the_queries_that_failed(trained, people):
    from sklearn.metrics import roc_auc_score

    result, folder = trained
    model, config = load_model(folder)
    told = result["metrics"]["failure"]
    assert told["share"] == pytest.approx(1 - result["metrics"]["cmc"]["1"])
    query, gallery = extract_test(model, people, config, CPU)
    similarity = query @ gallery.T
    failed = []
    for row, (pid, camera) in enumerate(zip(people.query.pids, people.query.camids)):
        same = people.gallery.pids == pid
        left = torch.from_numpy(~(same & (people.gallery.camids == camera)))
        nearest = similarity[row].masked_fill(~left, -2).argmax()
        failed.append(not same[nearest])
    scores = quality_scores(model, people, config)
    for name, sign in {"pairs": 1, "sharpness": -1, "random": 1}.items():
        expected = roc_auc_score(failed, sign * scores[name]["query"])
        assert told["areas"][name][0] == pytest.approx(expected)


def test_a_query_without_a_match_is_no_failure(people):
    wanted = np.unique(people.query.pids)[0]
    gallery = people.gallery[people.gallery.pids != wanted]
    dataset = dataclasses.replace(people, gallery=gallery)
    generator = torch.Generator().manual_seed(0)
    learned = {
        name: torch.nn.functional.normalize(
            torch.randn(len(getattr(dataset, name)), 8, generator=generator)
        )
        for name in ("query", "gallery")
    }
    scores = {"pairs": {"query": torch.rand(len(people.query), generator=generator)}}
    scores |= {"sharpness": scores["pairs"], "contrast": scores["pairs"]}
    whole = evaluate(*learned.values(), people.query, gallery)
    assert whole.num_unmatched > 0
    told = failure_areas(learned, scores, dataset, whole.unmatched)
    assert told["share"] == pytest.approx(1 - whole.cmc[1])
    assert told["areas"]["sharpness"][0] == pytest.approx(1 - told["areas"]["pairs"][0])


def test_scores_are_measured_once_for_all_runs(fewer, monkeypatch, tmp_path):
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path))
    torch.manual_seed(0)
    model = qafm.network(small())
    calls = []
    encode = model.quality.encode
    monkeypatch.setattr(
        model.quality, "encode", lambda x: calls.append(len(x)) or encode(x)
    )
    first = quality_scores(model, fewer, small())
    count = len(fewer.train) + len(fewer.query) + len(fewer.gallery)
    assert sum(calls) == 35 * count
    again = quality_scores(model, fewer, small())
    assert sum(calls) == 35 * count
    for name, splits in first.items():
        assert all(torch.equal(splits[x], again[name][x]) for x in splits)
        assert [len(splits[x]) for x in splits] == [
            *(len(fewer.train), len(fewer.query), len(fewer.gallery))
        ]
    assert not torch.equal(first["anchor"]["train"], first["pairs"]["train"])
    one, other = (first[x]["query"].sort().values for x in ("pairs", "shuffled"))
    assert torch.equal(one, other)
    (file,) = (tmp_path / "identifiability").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-50])  # damaged: measured again
    again = quality_scores(model, fewer, small())
    assert sum(calls) == 70 * count
    assert torch.equal(first["pairs"]["query"], again["pairs"]["query"])


def test_how_long_the_quality_takes_is_said(fewer, monkeypatch, tmp_path):
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path))
    train(qafm, small(epochs=1), fewer, tmp_path / "run")
    count = len(fewer.train) + len(fewer.query) + len(fewer.gallery)
    told = (tmp_path / "run" / "log.txt").read_text()
    assert f"to measure the quality of {count} images" in told
    assert told.index("to measure") < told.index("epoch 1/")


def test_weights_of_the_network_that_measures_the_quality(tmp_path, monkeypatch):
    from urllib.error import URLError

    def unreachable(*_, **__):
        raise URLError("no network")

    file = tmp_path / "tiny.pth"
    torch.save(build_backbone("tiny").stages.state_dict(), file)
    model = qafm.network(small(weights=str(file)))
    for name, weight in model.encoder.state_dict().items():
        assert weight.equal(model.quality.backbone.state_dict()[name])
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    with pytest.raises(ReIDError, match="no ImageNet weights for resnet50") as caught:
        qafm.network(small(quality_backbone="resnet50", weights=str(file)))
    assert "weights=PATH" not in str(caught.value)
    assert "set --quality-backbone to efficientnet_lite0" in str(caught.value)
    with pytest.raises(ReIDError, match="no weights at"):
        qafm.network(small(weights=str(tmp_path / "none.pth")))


@pytest.fixture
def city(tiny_root, tmp_path):
    """A copy of the city whose attributes may be changed."""
    folder = tmp_path / "city"
    shutil.copytree(tiny_root, folder)
    (folder / "manifest.json").unlink()  # it is no SynthCity any more
    return folder


def rewrite(city, change):
    from scipy.io import loadmat, savemat

    file = city / "market_attribute.mat"
    content = loadmat(file, simplify_cells=True)["market_attribute"]
    change(content)
    savemat(file, {"market_attribute": content})


def test_an_identity_without_attributes(city):
    def drop(content):
        content["train"] = {k: v[1:] for k, v in content["train"].items()}

    rewrite(city, drop)
    with pytest.raises(ReIDError, match="1 training identities have no attributes"):
        qafm.attribute_classes(open_dataset("market-style", city), small())


def swap_two(content):
    """Exchange what two people wear."""
    for name, column in content["train"].items():
        if name != "image_index":
            column[[0, 1]] = column[[1, 0]]


def test_another_annotation_is_another_run(city, tmp_path, monkeypatch):
    """Half a training must not learn from one file and half from another."""
    dataset = few_people(open_dataset("market-style", city), 26)
    config = small()
    key = run_key(qafm.train, config, dataset)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(qafm, config, dataset, folder, Interrupted, before_step=4)
    file = city / "market_attribute.mat"
    rewrite(city, lambda content: None)  # written again, on another day
    assert run_key(qafm.train, config, dataset) == key
    with pytest.raises(KeyboardInterrupt):
        train(qafm, config, dataset, folder, Interrupted, before_step=1, resume=True)
    right = file.read_bytes()
    rewrite(city, swap_two)
    assert run_key(qafm.train, config, dataset) != key
    with pytest.raises(ReIDError, match="read another file of attributes; put that"):
        train(qafm, config, dataset, folder, resume=True)
    file.write_bytes(right)
    result = train(qafm, config, dataset, folder, resume=True)
    assert result["files"] == {"attributes": attributes_hash(city)}
    rewrite(city, swap_two)
    with (
        pytest.raises(ReIDError, match="read another file of attributes"),
        open_run(qafm, config, dataset, folder, resume=True) as run,
    ):
        run.result()


def test_no_attributes_need_no_file(city, tmp_path):
    (city / "market_attribute.mat").unlink()
    dataset = few_people(open_dataset("market-style", city), 4)
    config = small(attributes="none", epochs=1)
    metrics = train(qafm, config, dataset, tmp_path / "run")["metrics"]
    assert metrics["mAP"] > 0
    assert "attributes" not in metrics


@pytest.mark.parametrize("kept", [4, 0])
def test_people_of_the_query_without_attributes_are_counted(city, tmp_path, kept):
    dataset = few_people(open_dataset("market-style", city), 26)
    first = np.unique(dataset.query.pids)[:kept]

    def drop(content):
        rows = np.isin(content["test"]["image_index"].astype(int), first)
        content["test"] = {k: v[rows] for k, v in content["test"].items()}

    rewrite(city, drop)
    folder = tmp_path / "run"
    metrics = train(qafm, small(epochs=1), dataset, folder)["metrics"]
    told = (folder / "log.txt").read_text()
    assert f"{10 - kept} of 10 people of the query have no attributes" in told
    assert metrics["attributes"]["split"] == ("query" if kept else "train")
    assert metrics["attributes"]["accuracy"] > 0


def test_one_query(fewer, tmp_path):
    one = dataclasses.replace(fewer, query=fewer.query[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = train(qafm, small(epochs=1), one, tmp_path / "run")["metrics"]
    assert metrics["num_queries"] == 1
    assert metrics["alpha"]["std"] == 0


def test_an_attribute_with_one_value(city):
    def same(content):
        content["train"]["hat"][:] = 1

    rewrite(city, same)
    with pytest.raises(ReIDError, match="all training images have the same 'hat'"):
        qafm.attribute_classes(open_dataset("market-style", city), small())


def test_no_or_damaged_attributes(city, tmp_path):
    (city / "market_attribute.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    dataset = open_dataset("market-style", city)
    with pytest.raises(ReIDError, match="is not a MATLAB file"):
        train(qafm, small(), dataset, tmp_path / "run")
    (city / "market_attribute.mat").unlink()
    with pytest.raises(ReIDError, match="there is no attribute file"):
        train(qafm, small(), dataset, tmp_path / "other")


def test_without_a_test_split_attributes_are_scored_in_training(fewer, tmp_path):
    alone = ReIDDataset("alone", fewer.train, fewer.query[:0], fewer.gallery[:0])
    result = train(qafm, small(epochs=1), alone, tmp_path / "run")
    assert result["metrics"]["attributes"]["split"] == "train"
    assert "mAP" not in result["metrics"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fixed_alpha": 1.1}, "fixed_alpha is 1.1"),
        ({"width": 8}, "images are 64 x 8; the occluders need at least 10"),
        ({"horizontal": 0}, "horizontal is 0"),
        ({"attribute_epochs": -1}, "attribute_epochs is -1"),
        ({"margin": -1}, "margin is -1"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"alpha_loss": "square"}, "alpha_loss is 'square'; choose from ratio"),
        ({"branch_rate": 0}, "branch_rate is 0"),
        ({"pooling": "gap"}, "pooling is 'gap', and it .* leave it at 'gem'"),
        ({"lr_step": 5}, "lr_step is 5"),
        ({"lr_gamma": 0.5}, "lr_gamma is 0.5"),
        ({"rivals": True, "gradients": "accumulated"}, "rivals learn on the same"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ReIDError, match=message):
        small(**changes)
