from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from reidlib.errors import ReIDError
from reidlib.labels import uniform_targets
from reidlib.losses import smoothed_cross_entropy, soft_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_equals_a_loop(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        norm = math.log(sum(math.exp(value) for value in row))
        for index, value in enumerate(row):
            target = smoothing / 4 + (1 - smoothing) * (index == label)
            total -= target * (value - norm) / 6
    loss = smoothed_cross_entropy(logits, labels, smoothing)
    assert loss.item() == pytest.approx(total, rel=1e-5)


def test_best_logits_are_those_of_the_target():
    """At the optimum softmax is the target and the gradient is 0."""
    target = torch.tensor([[0.925, 0.025, 0.025, 0.025]])
    logits = target.log().requires_grad_()
    smoothed_cross_entropy(logits, torch.tensor([0])).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 4), atol=1e-6, rtol=0)


def test_no_smoothing_is_cross_entropy_and_half_precision_is_float32_inside():
    logits, labels = torch.randn(5, 3).bfloat16(), torch.tensor([0, 1, 2, 0, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = smoothed_cross_entropy(logits, labels, smoothing=0.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), labels))


def test_bad_input_is_refused():
    with pytest.raises(ReIDError, match="smoothing is 1"):
        smoothed_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), 1.0)
    with pytest.raises(ReIDError, match="labels go from 0 to 3"):
        smoothed_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3]))


@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 4)])
def test_soft_cross_entropy_equals_a_loop(shape):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(*shape, generator=generator)
    targets = torch.rand(6, 4, generator=generator).softmax(dim=1)
    wide = targets if len(shape) == 2 else targets[:, None]
    total, rows = 0.0, 0
    for index, row in enumerate(logits.view(6, -1, 4).tolist()):
        for values in row:
            norm = math.log(sum(math.exp(value) for value in values))
            for value, target in zip(values, targets[index].tolist(), strict=True):
                total -= target * (value - norm)
            rows += 1
    loss = soft_cross_entropy(logits, wide)
    assert loss.item() == pytest.approx(total / rows, rel=1e-5)


def test_soft_cross_entropy_of_even_smoothing_is_that_of_pytorch():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    soft = soft_cross_entropy(logits, uniform_targets(labels, 3, 0.2))
    torch.testing.assert_close(soft, smoothed_cross_entropy(logits, labels, 0.2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = soft_cross_entropy(logits.bfloat16(), uniform_targets(labels, 3, 0.2))
    assert half.dtype == torch.float32


def test_soft_cross_entropy_refuses_shapes_that_do_not_fit():
    for logits, targets in (
        (torch.zeros(2, 3), torch.zeros(2, 4)),
        (torch.zeros(2, 3), torch.zeros(2, 2, 3)),
        (torch.zeros(0, 3), torch.zeros(0, 3)),
    ):
        with pytest.raises(ReIDError, match=r"give \(\.\.\., C\) of both"):
            soft_cross_entropy(logits, targets)
