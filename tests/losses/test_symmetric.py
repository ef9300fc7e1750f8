from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from reidlib.errors import ReIDError
from reidlib.losses import SymmetricMemory, balance_loss

CLUSTERS, D = 5, 6


def batch(num=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(num, D, generator=generator), dim=1)
    labels = torch.randint(CLUSTERS - 1, (num,), generator=generator)  # 4 is absent
    return features, labels


def filled(**settings):
    memory = SymmetricMemory(CLUSTERS, D, **settings)
    generator = torch.Generator().manual_seed(9)
    memory.initialise(torch.randn(CLUSTERS, D, generator=generator))
    memory.hard.initialise(torch.randn(CLUSTERS, D, generator=generator))
    return memory


def naive_balance(x, alpha=0.9, gamma=1.5):
    b = math.exp(gamma / alpha) - 1
    x = abs(x)
    if x < 1:
        value = alpha / b * (b * x + 1) * math.log(b * x + 1) - alpha * x
    else:
        value = gamma * x + gamma / b - alpha
    return value / 4


@pytest.mark.parametrize(("alpha", "gamma"), [(0.9, 1.5), (0.5, 1.5), (1.0, 0.7)])
def test_the_balance_loss_is_that_of_the_equation(alpha, gamma):
    x = torch.linspace(-3, 3, 41)
    wanted = torch.tensor([naive_balance(float(v), alpha, gamma) for v in x])
    assert torch.allclose(balance_loss(x, alpha, gamma), wanted, atol=1e-6)


@pytest.mark.parametrize("end", [0.4, 1.0, 2.5])
def test_the_balance_loss_is_the_area_under_its_slope(end):
    """Its slope in Libra R-CNN: alpha ln(b x + 1) up to 1, gamma from there on."""
    alpha, gamma, b = 0.9, 1.5, 4.294490  # of AFF_SCL; b from its definition, by hand
    steps = 200_000
    slope = [
        alpha * math.log(b * x + 1) if x < 1 else gamma
        for x in ((k + 0.5) * end / steps for k in range(steps))
    ]
    area = sum(slope) * end / steps / 4
    assert float(balance_loss(torch.tensor(end))) == pytest.approx(area, rel=1e-5)


def test_the_balance_loss_is_smooth_at_one():
    eps = 1e-6
    x = torch.tensor([1 - eps, 1 + eps], dtype=torch.float64, requires_grad=True)
    y = balance_loss(x)
    y.sum().backward()
    assert float((y[1] - y[0]).detach()) == pytest.approx(2 * eps * 1.5 / 4, rel=1e-3)
    assert x.grad.tolist() == pytest.approx([0.375, 0.375], abs=1e-5)
    at_zero = torch.zeros(1, requires_grad=True)
    balance_loss(at_zero).backward()
    assert at_zero.grad.item() == 0


@pytest.mark.parametrize(("hard_weight", "mean_weight"), [(0.75, 0.25), (0.3, 0.6)])
def test_the_loss_is_the_sum_of_its_terms(hard_weight, mean_weight):
    weights = {"hard_weight": hard_weight, "mean_weight": mean_weight}
    memory = filled(temperature=0.2, **weights)
    features, labels = batch()
    terms = memory.losses(features, labels)
    hard = mean = total = 0.0
    for query, label in zip(features, labels.tolist(), strict=True):
        two = []
        for bank in (memory.mean.bank, memory.hard.bank):
            scores = [math.exp(float(query @ key) / 0.2) for key in bank]
            two.append([score / sum(scores) for score in scores])
        mean -= math.log(two[0][label])  # AFF-E9
        hard -= math.log(two[1][label])  # AFF-E11
        total += sum(naive_balance(a - b) for a, b in zip(*two, strict=True))
    assert float(terms.mean) == pytest.approx(mean / len(features), rel=1e-4)
    assert float(terms.hard) == pytest.approx(hard / len(features), rel=1e-4)
    assert float(terms.balance) == pytest.approx(total / len(features), rel=1e-4)
    wanted = hard_weight * terms.hard + mean_weight * terms.mean + terms.balance
    assert torch.allclose(memory(features, labels), wanted)


def test_the_weights_of_the_paper_are_the_default():
    memory = SymmetricMemory(2, 2)
    assert (memory.hard_weight, memory.mean_weight) == (0.75, 0.25)


def test_the_balance_of_features_is_between_mean_and_hardest_of_each_class():
    memory = filled(balance="features")
    features, labels = batch()
    total = 0.0
    present = labels.unique().tolist()
    for label in present:
        members = features[labels == label]
        mean = F.normalize(members.mean(dim=0), dim=0)
        hardest = min(members, key=lambda x: float(x @ memory.mean.bank[label]))
        total += sum(naive_balance(float(v)) for v in mean - hardest)
    balance = memory.losses(features, labels).balance
    assert float(balance) == pytest.approx(total / len(present), rel=1e-4)


@pytest.mark.parametrize("balance", ["predictions", "features"])
def test_the_balance_has_a_gradient_and_the_banks_have_none(balance):
    memory = filled(balance=balance)
    features, labels = batch()
    features.requires_grad_()
    memory.losses(features, labels).balance.backward()
    assert features.grad.abs().sum() > 0
    assert list(memory.parameters()) == []
    assert filled(balance="none").losses(features, labels).balance == 0


def test_equal_banks_are_in_balance():
    memory = SymmetricMemory(CLUSTERS, D, temperature=0.3)
    memory.initialise(torch.eye(D)[:CLUSTERS])
    features, labels = batch()
    terms = memory.losses(features, labels)
    assert float(terms.balance) == 0
    assert torch.equal(terms.hard, terms.mean)


def test_the_two_softmaxes_never_mix():
    memory = filled()
    features, labels = batch()
    before = memory.losses(features, labels)
    memory.hard.initialise(-memory.hard.bank)
    after = memory.losses(features, labels)
    assert torch.equal(before.mean, after.mean)
    assert not torch.equal(before.hard, after.hard)
    memory.mean.initialise(-memory.mean.bank)
    last = memory.losses(features, labels)
    assert torch.equal(after.hard, last.hard)
    assert not torch.equal(after.mean, last.mean)


@pytest.mark.parametrize("mine_against", ["mean", "hard"])
def test_an_update_is_equations_10_12_and_13(mine_against):
    memory = filled(momentum=0.3, mine_against=mine_against)
    features, labels = batch()
    mean, hard = memory.mean.bank.clone(), memory.hard.bank.clone()
    wanted_mean, wanted_hard = mean.clone(), hard.clone()
    against = mean if mine_against == "mean" else hard
    for label in labels.unique().tolist():
        members = features[labels == label]
        moved = 0.3 * mean[label] + 0.7 * members.mean(dim=0)
        wanted_mean[label] = moved / moved.norm()
        hardest = min(members, key=lambda x: float(x @ against[label]))
        moved = 0.3 * hard[label] + 0.7 * hardest
        wanted_hard[label] = moved / moved.norm()
    memory.update(features, labels)
    assert torch.allclose(memory.mean.bank, wanted_mean, atol=1e-6)
    assert torch.allclose(memory.hard.bank, wanted_hard, atol=1e-6)
    # The cluster that is not in the batch has not moved by a bit.
    assert torch.equal(memory.mean.bank[4], mean[4])
    assert torch.equal(memory.hard.bank[4], hard[4])


def test_an_update_does_not_depend_on_the_order_of_the_batch():
    features, labels = batch()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    one, two = filled(), filled()
    one.update(features, labels)
    two.update(features[order], labels[order])
    assert torch.allclose(one.mean.bank, two.mean.bank, atol=1e-6)
    assert torch.equal(one.hard.bank, two.hard.bank)
    norms = torch.cat([one.mean.bank, one.hard.bank]).norm(dim=1)
    assert torch.allclose(norms, torch.ones(2 * CLUSTERS))


def test_a_cluster_with_one_image_has_a_mean_that_is_hard():
    memory = SymmetricMemory(2, 2, momentum=0.0, balance="features")
    memory.initialise(torch.eye(2))
    one = torch.tensor([[0.6, 0.8]])
    assert float(memory.losses(one, torch.tensor([0])).balance) == pytest.approx(0)
    memory.update(one, torch.tensor([0]))
    assert torch.allclose(memory.mean.bank[0], one[0])
    assert torch.allclose(memory.hard.bank[0], one[0])


def test_only_update_changes_the_banks():
    memory = filled()
    features, labels = batch()
    before = {name: bank.clone() for name, bank in memory.state_dict().items()}
    features.requires_grad_()
    memory(features, labels).backward()
    for name, bank in memory.state_dict().items():
        assert torch.equal(bank, before[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"balance": "memory"}, "balance is 'memory'"),
        ({"mine_against": "both"}, "mine_against is 'both'"),
        ({"hard_weight": -1.0}, "hard_weight is -1"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"momentum": 2.0}, "momentum is 2"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ReIDError, match=message):
        SymmetricMemory(2, 2, **settings)


def test_bad_input_is_named():
    memory = SymmetricMemory(2, 2)
    with pytest.raises(ReIDError, match="memory is empty"):
        memory(torch.eye(2), torch.tensor([0, 1]))
    memory.initialise(torch.eye(2))
    for act in (memory.update, memory.losses):
        with pytest.raises(ReIDError, match="leave outliers"):
            act(torch.eye(2), torch.tensor([0, -1]))
        with pytest.raises(ReIDError, match=r"labels of shape \(1,\)"):
            act(torch.eye(2), torch.tensor([0]))
        for width in (1, 3):
            with pytest.raises(ReIDError, match=rf"shape \(2, {width}\) .*\(2, 2\)"):
                act(torch.ones(2, width), torch.tensor([0, 1]))
    assert torch.equal(memory.mean.bank, torch.eye(2))
    with pytest.raises(ReIDError, match="both must be positive"):
        balance_loss(torch.zeros(1), alpha=0.0)


def test_a_memory_that_was_filled_in_inference_mode_learns_like_any_other():
    features, labels = batch()
    with torch.inference_mode():
        centroids = torch.eye(CLUSTERS, D)
        inside = SymmetricMemory(CLUSTERS, D)
        inside.initialise(centroids)
        extracted = features * 1
    outside = SymmetricMemory(CLUSTERS, D)
    outside.initialise(torch.eye(CLUSTERS, D))
    for memory, rows in ((inside, extracted), (outside, features)):
        queries = rows.clone().requires_grad_()
        memory(queries, labels).backward()
        assert queries.grad.any()
        memory.update(rows, labels)
    assert torch.equal(inside.mean.bank, outside.mean.bank)
    assert torch.equal(inside.hard.bank, outside.hard.bank)
