from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reidlib.errors import ReIDError
from reidlib.labels import (
    PIVOT_RULES,
    camera_entropy_weights,
    discard_probability,
    pivot_scores,
    refine_labels,
    select_pivots,
)


def world(num=120, clusters=8, cameras=3, seed=0):
    """Features in groups, imperfect global clusters, and local clusters."""
    generator = torch.Generator().manual_seed(seed)
    centre = F.normalize(torch.randn(clusters, 6, generator=generator), dim=1)
    person = torch.randint(clusters, (num,), generator=generator)
    noise = 0.4 * torch.randn(num, 6, generator=generator)
    features = F.normalize(centre[person] + noise, dim=1)
    merged = person // 2  # two people in each global cluster
    outlier = torch.rand(num, generator=generator) < 0.1
    labels = torch.where(outlier, -1, merged)
    camids = torch.randint(cameras, (num,), generator=generator)
    swap = torch.rand(num, generator=generator) < 0.2
    seen_as = torch.where(swap, (person + 1) % clusters, person)
    local = camids * clusters + seen_as
    return features, labels, local, camids


def naive_scores(features, k, floor, mean_over="neighbors"):
    """CALR-E4, image by image."""
    features = features.double()
    distance = 1 - features @ features.T
    num = len(features)
    nearest = {}
    for i in range(num):
        others = [j for j in range(num) if j != i]
        nearest[i] = sorted(others, key=lambda j: float(distance[i, j]))[: k - 1]
    if mean_over == "neighbors":
        table = [[0.0] + [float(distance[i, j]) for j in nearest[i]] for i in nearest]
        mean = float(np.mean(table))
    else:
        mean = float(
            np.mean([distance[i, j] for i in range(num) for j in nearest if j != i])
        )
    scores = []
    for i in range(num):
        close = [float(distance[i, j]) for j in nearest[i]]
        scores.append(sum(1 / (d + mean) for d in close if 1 - d >= floor))
    return torch.tensor(scores)


def naive_refine(labels, local, camids, scores):
    """Visit the pivots by falling score; one that was discarded is none any more."""
    kept = [int(label) for label in labels]
    mean = float(scores.double().mean())
    order = sorted(range(len(labels)), key=lambda i: (-float(scores[i]), i))
    for pivot in order:
        if not float(scores[pivot]) > mean or kept[pivot] < 0:
            continue
        for other in range(len(labels)):
            same = labels[other] == labels[pivot] and camids[other] == camids[pivot]
            if same and local[other] != local[pivot]:
                kept[other] = -1
    return torch.tensor(kept)


@pytest.mark.parametrize("mean_over", ["neighbors", "pairs"])
@pytest.mark.parametrize(("k", "floor"), [(5, 0.5), (16, -1.0), (2, 0.99)])
def test_scores_are_those_of_the_equation(k, floor, mean_over):
    features = world(num=40)[0]
    scores = pivot_scores(features, k, floor, mean_over=mean_over)
    naive = naive_scores(features, k, floor, mean_over)
    assert torch.allclose(scores, naive.float(), rtol=1e-4)


def test_scores_follow_the_images_and_not_their_order():
    features = world()[0]
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    shuffled = pivot_scores(features[order], k=10)
    assert torch.allclose(shuffled, pivot_scores(features, k=10)[order], rtol=1e-5)


@pytest.mark.parametrize("rule", ["ordered", "every", "best"])
def test_the_same_images_are_pivots_in_any_order(rule):
    features, labels, _, camids = world()
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(2))
    scores = pivot_scores(features, k=10, min_similarity=0.2)
    pivots = select_pivots(scores, labels, camids, rule)
    again = select_pivots(scores[order], labels[order], camids[order], rule)
    assert set(order[again].tolist()) == set(pivots.tolist())


def test_the_published_rule_depends_on_the_order():
    features, labels, _, camids = world()
    scores = pivot_scores(features, k=10, min_similarity=0.2)
    flipped = select_pivots(scores.flip(0), labels.flip(0), camids.flip(0), "single")
    pivots = select_pivots(scores, labels, camids, "single")
    assert set((len(labels) - 1 - flipped).tolist()) != set(pivots.tolist())


def test_rules_choose_what_they_say():
    features, labels, _, camids = world()
    scores = pivot_scores(features, k=10, min_similarity=0.2)
    mean = scores.double().mean()
    above = [i for i in range(len(labels)) if scores[i] > mean and labels[i] >= 0]
    by_rule = {
        r: select_pivots(scores, labels, camids, r).tolist() for r in PIVOT_RULES
    }
    assert sorted(by_rule["every"]) == above
    falling = [float(scores[i]) for i in by_rule["every"]]
    assert falling == sorted(falling, reverse=True)
    for label in labels[labels >= 0].unique().tolist():
        members = [i for i in above if labels[i] == label]
        if not members:
            continue
        assert max(members) in by_rule["single"]
        assert max(members, key=lambda i: float(scores[i])) in by_rule["best"]
        for camera in {int(camids[i]) for i in members}:
            seen = [i for i in members if camids[i] == camera]
            assert max(seen, key=lambda i: float(scores[i])) in by_rule["ordered"]
    cells = {(int(labels[i]), int(camids[i])) for i in above}
    assert len(by_rule["ordered"]) == len(cells)


def test_isolated_images_are_never_pivots():
    features = torch.cat([world(num=30)[0], torch.eye(6)[:1] * -1])
    far = F.normalize(torch.cat([features, torch.zeros(31, 1)], dim=1), dim=1)
    far = torch.cat([far, torch.eye(7)[6:]])  # orthogonal to all others
    scores = pivot_scores(far, k=5, min_similarity=0.3)
    assert scores[-1] == 0
    labels = torch.zeros(len(far), dtype=torch.int64)
    for rule in PIVOT_RULES:
        assert len(far) - 1 not in select_pivots(scores, labels, labels, rule).tolist()


def test_copies_of_one_image_have_finite_scores():
    same = torch.eye(3)[[0, 0, 0, 0]]
    scores = pivot_scores(same, k=4)
    assert bool(scores.isfinite().all())
    assert pivot_scores(torch.eye(3)[:1]).tolist() == [0]


@pytest.mark.parametrize("seed", range(5))
def test_refinement_is_that_of_visiting_all_pivots_in_order(seed):
    features, labels, local, camids = world(seed=seed)
    scores = pivot_scores(features, k=10, min_similarity=0.2)
    pivots = select_pivots(scores, labels, camids)
    refined = refine_labels(labels, local, camids, pivots)
    naive = naive_refine(labels, local, camids, scores)
    assert torch.equal(refined.labels >= 0, naive >= 0)
    assert torch.equal(refined.discarded, (naive < 0) & (labels >= 0))
    # The same partition, renumbered.
    for old in naive[naive >= 0].unique():
        assert len(refined.labels[naive == old].unique()) == 1
    assert 0 < refined.discard_ratio < 1


def test_below_one_each_contradicted_image_has_one_draw():
    features, labels, local, camids = world()
    pivots = select_pivots(pivot_scores(features, 10, 0.2), labels, camids)
    all_of_them = refine_labels(labels, local, camids, pivots).discarded
    generator = torch.Generator().manual_seed(7)
    discarded = refine_labels(labels, local, camids, pivots, 0.6, generator).discarded
    again = torch.Generator().manual_seed(7)
    draws = torch.rand(len(labels), generator=again, dtype=torch.float64)
    assert torch.equal(discarded, all_of_them & (draws < 0.6))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_what_is_drawn_afterwards_does_not_depend_on_the_probability(p):
    features, labels, local, camids = world()
    pivots = select_pivots(pivot_scores(features, 10, 0.2), labels, camids)
    used, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    refine_labels(labels, local, camids, pivots, p, used)
    torch.rand(len(labels), generator=other, dtype=torch.float64)
    assert torch.equal(used.get_state(), other.get_state())


def test_one_pivot_at_probability_one_is_the_equation():
    _, labels, local, camids = world()
    pivot = int((labels >= 0).nonzero()[5])
    cluster = set((labels == labels[pivot]).nonzero().flatten().tolist())
    seen = {i for i in cluster if camids[i] == camids[pivot]}
    mates = set((local == local[pivot]).nonzero().flatten().tolist())
    wanted = (seen & mates) | (cluster - seen)
    refined = refine_labels(labels, local, camids, torch.tensor([pivot]))
    number = refined.labels[pivot]
    assert set((refined.labels == number).nonzero().flatten().tolist()) == wanted
    elsewhere = [i for i in range(len(labels)) if i not in cluster]
    assert not refined.discarded[elsewhere].any()


@pytest.mark.parametrize("rule", PIVOT_RULES)
def test_refinement_spares_other_cameras_and_the_visiting_pivots(rule):
    features, labels, local, camids = world()
    scores = pivot_scores(features, k=10, min_similarity=0.2)
    pivots = select_pivots(scores, labels, camids, rule)
    refined = refine_labels(labels, local, camids, pivots)
    cells = {(int(labels[i]), int(camids[i])) for i in pivots}
    for i in refined.discarded.nonzero().flatten().tolist():
        assert (int(labels[i]), int(camids[i])) in cells
    if rule != "every":
        assert not refined.discarded[pivots].any()
        assert refined.emptied == 0
    kept = refined.labels[refined.labels >= 0]
    assert sorted(kept.unique().tolist()) == list(range(int(kept.max()) + 1))


def test_every_pivot_at_once_wipes_out_what_they_disagree_about():
    labels = torch.zeros(4, dtype=torch.int64)
    local, camids = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.int64)
    both = refine_labels(labels, local, camids, torch.tensor([0, 2]))
    assert both.labels.tolist() == [-1] * 4
    assert both.emptied == 1
    assert refine_labels(labels, local, camids, torch.tensor([0])).emptied == 0


def test_probability_zero_is_the_identity_and_few_draws_decide_between():
    features, labels, local, camids = world(num=2000)
    pivots = select_pivots(pivot_scores(features, 10, 0.2), labels, camids)
    nothing = refine_labels(labels, local, camids, pivots, 0.0)
    assert nothing.discard_ratio == 0
    assert torch.equal(nothing.labels >= 0, labels >= 0)
    everything = refine_labels(labels, local, camids, pivots, 1.0).discarded
    half = refine_labels(
        labels, local, camids, pivots, 0.5, torch.Generator().manual_seed(0)
    ).discarded
    assert not (half & ~everything).any()
    count = int(everything.sum())
    assert abs(int(half.sum()) / count - 0.5) < 3 * math.sqrt(0.25 / count)


def test_a_higher_probability_discards_what_a_lower_one_does_and_more():
    features, labels, local, camids = world()
    pivots = select_pivots(pivot_scores(features, 10, 0.2), labels, camids)
    before = torch.zeros(len(labels), dtype=torch.bool)
    for p in (0.2, 0.5, 0.9, 1.0):
        generator = torch.Generator().manual_seed(3)
        now = refine_labels(labels, local, camids, pivots, p, generator).discarded
        assert not (before & ~now).any()
        before = now


def test_an_image_without_a_local_cluster_is_nobodys_mate():
    labels, camids = (
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(3, dtype=torch.int64),
    )
    refined = refine_labels(
        labels, torch.tensor([-1, -1, -1]), camids, torch.tensor([1])
    )
    assert refined.labels.tolist() == [-1, 0, -1]


def test_no_pivot_and_no_image():
    empty = torch.zeros(0, dtype=torch.int64)
    labels = torch.tensor([0, 0, 1])
    refined = refine_labels(labels, labels, labels, empty)
    assert torch.equal(refined.labels, labels)
    assert refined.num_pivots == 0
    flat = select_pivots(torch.ones(3), labels, labels)  # nobody above the mean
    assert len(flat) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_labels": torch.zeros(3, dtype=torch.int64)}, "from the same table"),
        ({"camids": torch.tensor([0, 0, -1, 0])}, "1 of 4 images have no camera"),
        ({"pivots": torch.tensor([3])}, "1 of 1 pivots are in no cluster"),
        ({"pivots": torch.tensor([9])}, "give row numbers"),
        ({"probability": 1.5}, "probability is 1.5"),
        ({"probability": 0.5}, "give a generator"),
    ],
)
def test_bad_input_is_named(changes, message):
    given = {
        "pseudo_labels": torch.tensor([0, 0, 0, -1]),
        "local_labels": torch.tensor([0, 0, 1, 1]),
        "camids": torch.zeros(4, dtype=torch.int64),
        "pivots": torch.tensor([0]),
    }
    with pytest.raises(ReIDError, match=message):
        refine_labels(**{**given, **changes})


def test_bad_scores_and_rules_are_named():
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ReIDError, match="rule is 'all'; choose from ordered"):
        select_pivots(torch.ones(3), labels, labels, "all")
    with pytest.raises(ReIDError, match="2 scores, 3 pseudo labels"):
        select_pivots(torch.ones(2), labels, labels)
    with pytest.raises(ReIDError, match="mean_over is 'all'"):
        pivot_scores(torch.eye(3), mean_over="all")
    with pytest.raises(ReIDError, match="not L2-normalised"):
        pivot_scores(2 * torch.eye(3))


# -- schedules ------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["linear", "polynomial", "exponential", "cosine"])
@pytest.mark.parametrize("floor", [0.0, 0.3])
@pytest.mark.parametrize("period", [0.5, 1.0, 3.0])
def test_a_schedule_falls_from_one_to_its_floor(schedule, floor, period):
    options = {"schedule": schedule, "floor": floor, "period": period}
    end = 20 * period
    values = [discard_probability(e, 20, **options) for e in np.linspace(0, end, 50)]
    assert values[0] == pytest.approx(1)
    assert values[-1] == pytest.approx(floor)
    assert all(a >= b for a, b in pairwise(values))
    assert discard_probability(2 * end, 20, **options) == pytest.approx(floor)


def test_schedules_at_half_time():
    half = {
        s: discard_probability(5, 10, s) for s in ("linear", "polynomial", "cosine")
    }
    assert half == pytest.approx({"linear": 0.5, "polynomial": 0.25, "cosine": 0.5})
    rate = 3.0
    wanted = (math.exp(-1.5) - math.exp(-3)) / (1 - math.exp(-3))
    assert discard_probability(5, 10, "exponential", rate=rate) == pytest.approx(wanted)
    flat = discard_probability(5, 10, "exponential", rate=1e-20)
    assert flat == pytest.approx(0.5)  # a line, in the limit
    assert {discard_probability(e, 10, "none", floor=0.1) for e in range(10)} == {1.0}


def test_the_cosine_that_the_published_code_has_in_a_comment():
    wanted = {0: 1.0, 10: 0.989, 25: 0.933, 40: 0.835, 49: 0.759}
    for epoch, value in wanted.items():
        formula = 0.5 * (1 + math.cos(math.pi * epoch / (3 * 50)))
        p = discard_probability(epoch, 50, "cosine", period=3)
        assert p == pytest.approx(formula)
        assert p == pytest.approx(value, abs=5e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, "step"), "choose from none, linear"),
        ((-1, 5), "epoch is -1"),
        ((0, 0), "num_epochs is 0"),
    ],
)
def test_bad_epochs_and_schedules_are_named(arguments, message):
    with pytest.raises(ReIDError, match=message):
        discard_probability(*arguments)


@pytest.mark.parametrize("name", ["period", "power", "rate"])
def test_settings_of_a_schedule_are_positive(name):
    with pytest.raises(ReIDError, match=f"{name} is 0"):
        discard_probability(0, 5, **{name: 0})
    with pytest.raises(ReIDError, match="floor is 2"):
        discard_probability(0, 5, floor=2)


# -- weights --------------------------------------------------------------------------


def test_weights_of_known_mixtures():
    def weight(*counts):
        camids = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
        labels = torch.zeros(len(camids), dtype=torch.int64)
        return float(camera_entropy_weights(labels, camids)[0])

    assert weight(7) == 0
    for cameras in (2, 3, 6, 15):
        even = weight(*[4] * cameras)
        assert even == pytest.approx(math.log(1 + math.log(cameras)), abs=1e-6)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert weight(9, 1) == pytest.approx(math.log1p(entropy), abs=1e-6)
    assert weight(9, 1) == pytest.approx(weight(1, 9), abs=1e-6)
    assert weight(90, 10) == pytest.approx(weight(9, 1), abs=1e-6)


def test_weights_are_those_of_a_loop_and_follow_their_clusters():
    _, labels, _, camids = world()
    weights = camera_entropy_weights(labels, camids)
    for cluster in range(int(labels.max()) + 1):
        seen = camids[labels == cluster]
        entropy = 0.0
        for camera in seen.unique():
            q = float((seen == camera).float().mean())
            entropy -= q * math.log(q)
        assert float(weights[cluster]) == pytest.approx(math.log1p(entropy), abs=1e-6)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    again = camera_entropy_weights(labels[order], camids[order])
    assert torch.allclose(again, weights)


def test_weights_without_clusters_or_cameras():
    outliers = torch.tensor([-1, -1])
    assert camera_entropy_weights(outliers, torch.tensor([0, 1])).shape == (0,)
    with pytest.raises(ReIDError, match="have no camera"):
        camera_entropy_weights(torch.tensor([0, 0]), torch.tensor([0, -1]))
    with pytest.raises(ReIDError, match="cluster 0 is empty"):
        camera_entropy_weights(torch.tensor([1, 1]), torch.tensor([0, 1]))
    with pytest.raises(ReIDError, match="cluster 1 is empty; number"):
        camera_entropy_weights(torch.tensor([0, 2**62]), torch.tensor([0, 1]))
    with pytest.raises(ReIDError, match="2 pseudo labels and 1 camids"):
        camera_entropy_weights(torch.tensor([0, 0]), torch.tensor([0]))
