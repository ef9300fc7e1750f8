from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reidlib.errors import ReIDError
from reidlib.losses import (
    CameraClassifier,
    camera_loss,
    reversal_strength,
    reverse_gradient,
)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 4.0])
def test_the_reversal_is_the_identity_with_minus_lambda_on_the_way_back(strength):
    x = numbers(5, 3).requires_grad_()
    y = reverse_gradient(x, strength)
    assert torch.equal(y, x)
    upstream = numbers(5, 3, seed=1)
    y.backward(upstream)
    assert torch.allclose(x.grad, -strength * upstream)


def test_one_backward_pass_is_both_sides_of_the_game():
    """The classifier descends and the encoder ascends the gradient of one loss."""
    torch.manual_seed(0)
    encoder, judge = nn.Linear(4, 3), nn.Linear(3, 2)
    x, camids = numbers(8, 4), torch.arange(8) % 2
    plain = F.cross_entropy(judge(encoder(x)), camids)
    wanted_encoder = torch.autograd.grad(plain, encoder.weight, retain_graph=True)[0]
    wanted_judge = torch.autograd.grad(plain, judge.weight)[0]
    reversed_loss = F.cross_entropy(judge(reverse_gradient(encoder(x), 0.5)), camids)
    reversed_loss.backward()
    assert torch.allclose(judge.weight.grad, wanted_judge)
    assert torch.allclose(encoder.weight.grad, -0.5 * wanted_encoder)


def test_the_reversal_of_a_reversal_is_the_gradient():
    x = numbers(4).requires_grad_()
    reverse_gradient(reverse_gradient(x, 2.0), 0.5).sum().backward()
    assert torch.allclose(x.grad, torch.ones(4))


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ReIDError, match="the layer changes the sign itself"):
        reverse_gradient(torch.ones(1), strength)


def test_the_ramp_starts_at_zero_and_a_constant_does_not():
    assert reversal_strength(0, gamma=10) == 0
    assert reversal_strength(1, 2.0, gamma=10) == pytest.approx(2 * math.tanh(5))
    middle = [reversal_strength(p, gamma=10) for p in (0.1, 0.2, 0.5)]
    assert middle == sorted(middle)
    assert {reversal_strength(p, 0.7) for p in (0, 0.5, 1)} == {0.7}
    with pytest.raises(ReIDError, match=r"progress is 1.5"):
        reversal_strength(1.5)
    with pytest.raises(ReIDError, match="gamma is -1"):
        reversal_strength(0.5, gamma=-1)


def test_the_classifier_learns_to_tell_cameras_and_its_features_unlearn_it():
    torch.manual_seed(0)
    camids = torch.arange(60) % 3
    features = (numbers(60, 8) + 3 * torch.eye(8)[camids]).requires_grad_()
    classifier = CameraClassifier(8, 3, dropout=0.0)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = camera_loss(classifier(features), camids)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 < math.log(3)
    with torch.no_grad():
        step = features - 5 * features.grad / features.grad.norm()
        worse = camera_loss(classifier(step), camids)
    features.grad = None
    before = camera_loss(classifier(features), camids)
    assert worse > before  # down the reversed gradient is up the loss


def test_the_classifier_reverses_by_the_strength_it_is_given():
    torch.manual_seed(0)
    classifier = CameraClassifier(4, 3, dropout=0.0)
    gradients = []
    for strength in (0.0, 1.0, 2.5):
        x = numbers(6, 4).requires_grad_()
        camera_loss(classifier(x, strength), torch.arange(6) % 3).backward()
        gradients.append(x.grad)
    assert torch.equal(gradients[0], torch.zeros(6, 4))
    assert torch.allclose(gradients[2], 2.5 * gradients[1])
    assert gradients[1].abs().max() > 0


def test_the_sizes_are_those_of_the_published_code():
    count = sum(p.numel() for p in CameraClassifier(2048, 6).parameters())
    assert count == 2048 * 100 + 100 + 100 * 100 + 100 + 4 * 100 + 100 * 6 + 6
    assert round(count, -3) == 216_000


@pytest.mark.parametrize("cameras", [2, 6, 15])
def test_the_bounds_of_the_two_losses(cameras):
    camids = torch.arange(cameras)
    flat = torch.zeros(cameras, cameras)
    right, wrong = 1e4 * torch.eye(cameras), 1e4 * torch.eye(cameras).roll(1, 0)
    assert float(camera_loss(flat, camids)) == pytest.approx(
        math.log(cameras), abs=1e-5
    )
    assert float(camera_loss(right, camids)) == pytest.approx(0, abs=1e-5)
    assert float(camera_loss(wrong, camids)) == pytest.approx(1e4, rel=1e-5)
    low = math.log(1 + (cameras - 1) / math.e)
    high = math.log(math.e + cameras - 1)
    twice = [float(camera_loss(x, camids, "double_softmax")) for x in (right, wrong)]
    assert twice == pytest.approx([low, high], abs=1e-5)
    anything = camera_loss(9 * numbers(cameras, cameras), camids, "double_softmax")
    assert low <= float(anything) <= high


def test_the_losses_are_those_of_a_loop():
    logits, camids = numbers(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    plain = twice = 0.0
    for row, camera in zip(logits.double(), camids, strict=True):
        p = row.exp() / row.exp().sum()
        plain -= math.log(float(p[camera]))
        q = p.exp() / p.exp().sum()
        twice -= math.log(float(q[camera]))
    assert float(camera_loss(logits, camids)) == pytest.approx(plain / 6, rel=1e-5)
    published = camera_loss(logits, camids, "double_softmax")
    assert float(published) == pytest.approx(twice / 6, rel=1e-5)


def test_the_published_form_has_a_far_smaller_gradient():
    camids = torch.randint(8, (256,), generator=torch.Generator().manual_seed(1))
    norms = {}
    for form in ("cross_entropy", "double_softmax"):
        logits = numbers(256, 8).requires_grad_()
        camera_loss(logits, camids, form).backward()
        norms[form] = float(logits.grad.norm())
    assert 0.08 < norms["double_softmax"] / norms["cross_entropy"] < 0.18


def test_features_of_another_width_are_named():
    classifier = CameraClassifier(8, 3)
    for wrong in (torch.ones(4, 7), torch.ones(8)):
        with pytest.raises(ReIDError, match=r"this camera classifier takes \(B, 8\)"):
            classifier(wrong)


def test_bad_cameras_are_named():
    with pytest.raises(ReIDError, match="nothing to align"):
        CameraClassifier(8, 1)
    with pytest.raises(ReIDError, match="labels go from 0 to 3"):
        camera_loss(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(ReIDError, match="form is 'sum'"):
        camera_loss(torch.zeros(2, 3), torch.tensor([0, 1]), "sum")
