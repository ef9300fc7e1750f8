from __future__ import annotations

import math

import pytest
import torch

from reidlib.errors import ReIDError
from reidlib.losses import batch_hard_triplet


def naive(features, labels, margin):
    losses = []
    for i in range(len(labels)):
        distance = [math.dist(features[i].tolist(), f.tolist()) for f in features]
        same = [d for j, d in enumerate(distance) if j != i and labels[j] == labels[i]]
        other = [d for j, d in enumerate(distance) if labels[j] != labels[i]]
        if same and other:
            gap = max(same) - min(other)
            loss = math.log1p(math.exp(gap)) if margin is None else gap + margin
            losses.append(max(0, loss))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [0.0, 0.3, None])
def test_equals_a_loop(margin):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 4, generator=generator)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4])
    loss = batch_hard_triplet(features, labels, margin)
    assert loss.item() == pytest.approx(naive(features, labels, margin), rel=1e-5)
    order = torch.randperm(12, generator=generator)
    torch.testing.assert_close(
        batch_hard_triplet(features[order] + 7, labels[order], margin), loss
    )


def test_well_separated_identities_cost_nothing():
    features = torch.tensor([[0.0], [0.1], [5.0], [5.1]], requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), margin=0.3)
    loss.backward()
    assert loss == 0
    assert (features.grad == 0).all()


def test_identical_features_cost_the_margin_with_a_finite_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), margin=0.3)
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_batch_without_a_triplet_costs_nothing(labels):
    features = torch.randn(3, 2, requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor(labels))
    loss.backward()
    assert loss == 0
    assert (features.grad == 0).all()


def test_arithmetic_is_float32_under_autocast():
    features, labels = torch.randn(8, 4).bfloat16(), torch.arange(8) // 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = batch_hard_triplet(features, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, batch_hard_triplet(features.float(), labels))


def test_bad_input_is_refused():
    with pytest.raises(ReIDError, match=r"margin is -0.1"):
        batch_hard_triplet(torch.zeros(2, 2), torch.arange(2), margin=-0.1)
    with pytest.raises(ReIDError, match=r"labels of shape \(3,\)"):
        batch_hard_triplet(torch.zeros(2, 2), torch.arange(3))
