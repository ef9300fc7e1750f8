from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from reidlib.errors import ReIDError
from reidlib.losses import check_classes, cosine_logits, info_nce


def at_angles(*degrees):
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def contrast(seed=0):
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(12, 5, generator=generator)
    keys = torch.randn(4, 5, generator=generator)
    return queries, keys, torch.randint(4, (12,), generator=generator)


def naive(queries, keys, positives, temperature, weights=None):
    """Return the terms of the sum, and the weights of their positives."""
    terms, mass = [], []
    q, k = F.normalize(queries, dim=1).double(), F.normalize(keys, dim=1).double()
    for query, positive in zip(q, positives.tolist(), strict=True):
        scores = [math.exp(float(query @ key) / temperature) for key in k]
        mass.append(1.0 if weights is None else float(weights[positive]))
        terms.append(-mass[-1] * math.log(scores[positive] / sum(scores)))
    return terms, mass


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_the_contrast_is_that_of_a_loop(temperature):
    queries, keys, positives = contrast()
    terms, _ = naive(queries, keys, positives, temperature)
    loss = info_nce(queries, keys, positives, temperature)
    assert float(loss) == pytest.approx(sum(terms) / 12, rel=1e-5)


def test_the_contrast_is_smallest_at_the_positive_and_grows_with_the_angle():
    keys = at_angles(0, 120, 240)
    zero = torch.tensor([0])
    losses = [info_nce(at_angles(a), keys, zero, 0.1).item() for a in (0, 20, 40, 60)]
    assert losses == sorted(losses)
    assert losses[3] == pytest.approx(math.log(2 + math.exp(-15)), rel=1e-3)


def test_logits_are_cosines_over_the_temperature_in_float32():
    logits = cosine_logits(3 * at_angles(0, 60), at_angles(0, 90).bfloat16(), 0.5)
    wanted = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)]]) / 0.5
    torch.testing.assert_close(logits, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("normalise", ["batch", "weights"])
def test_the_weighted_contrast_is_that_of_a_loop(normalise):
    queries, keys, positives = contrast()
    weights = torch.tensor([0.0, 0.5, 1.3, 0.2])
    terms, mass = naive(queries, keys, positives, 0.2, weights)
    wanted = sum(terms) / (12 if normalise == "batch" else sum(mass))
    loss = info_nce(queries, keys, positives, 0.2, weights, normalise)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("normalise", ["batch", "weights"])
def test_equal_weights_are_no_weights(normalise):
    queries, keys, positives = contrast()
    loss = info_nce(queries, keys, positives, 0.05, torch.ones(4), normalise)
    assert float(loss) == pytest.approx(float(info_nce(queries, keys, positives)))


def test_only_the_ratios_count_where_the_weights_are_normalised():
    queries, keys, positives = contrast()
    weights = torch.tensor([0.1, 0.5, 1.3, 0.2])
    for normalise, ratio in (("batch", 3.0), ("weights", 1.0)):
        once, thrice = (
            float(info_nce(queries, keys, positives, 0.1, w, normalise))
            for w in (weights, 3 * weights)
        )
        assert thrice == pytest.approx(ratio * once, rel=1e-5)


@pytest.mark.parametrize("normalise", ["batch", "weights"])
def test_a_batch_of_single_camera_clusters_has_a_finite_loss(normalise):
    queries, keys, positives = contrast()
    queries.requires_grad_()
    loss = info_nce(queries, keys, positives, 0.05, torch.zeros(4), normalise)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(queries.grad, torch.zeros_like(queries))


def test_bad_input_is_named():
    queries, keys, positives = contrast()
    with pytest.raises(ReIDError, match="normalise is 'sum'; choose from batch, weigh"):
        info_nce(queries, keys, positives, normalise="sum")
    with pytest.raises(ReIDError, match="with the same D"):
        info_nce(queries[:, :3], keys, positives)
    with pytest.raises(ReIDError, match="temperature is 0"):
        info_nce(queries, keys, positives, 0)
    with pytest.raises(ReIDError, match=r"shape \(3,\) for 4 keys; give one weight"):
        info_nce(queries, keys, positives, weights=torch.ones(3))
    with pytest.raises(ReIDError, match=r"labels of shape \(11,\)"):
        info_nce(queries, keys, positives[1:])


@pytest.mark.parametrize("weights", [None, torch.ones(4)])
@pytest.mark.parametrize("wrong", [-1, 4])
def test_a_positive_out_of_range_is_named(weights, wrong):
    queries, keys, positives = contrast()
    positives[3] = wrong
    with pytest.raises(ReIDError, match=r"labels go from .* in 0 to 3: leave outliers"):
        info_nce(queries, keys, positives, weights=weights)


def test_labels_can_be_checked_before_an_epoch():
    labels = torch.tensor([0, 2, 1, 2])
    check_classes(labels, 3)
    check_classes(labels[:0], 3)
    with pytest.raises(ReIDError, match="labels go from 0 to 2; they must be in 0"):
        check_classes(labels, 2)
    with pytest.raises(ReIDError, match=r"labels go from -1 to 1.* leave outliers"):
        check_classes(labels - 1, 3)
