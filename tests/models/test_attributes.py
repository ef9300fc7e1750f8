"""The attribute branch: gates in a loop, closed forms, what each head knows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reidlib.data.attributes import ATTRIBUTE_GROUPS
from reidlib.errors import ReIDError
from reidlib.models import (
    AttributeBranch,
    ConvLSTM,
    PyramidAttention,
    attribute_loss,
    head_loss,
)

SIZES = [len(values) for values in ATTRIBUTE_GROUPS.values()]


def seeded(seed=0):
    torch.manual_seed(seed)


def test_the_memory_against_a_loop_over_gates_and_places():
    seeded()
    memory = ConvLSTM(2, 3).double()
    x = torch.randn(2, 2, 3, 2, dtype=torch.float64)
    states = memory(x, steps=3)
    weight, bias = memory.gates.weight, memory.gates.bias
    for image in range(2):
        h, c = torch.zeros(2, 3, 3, 2, dtype=torch.float64)
        for step in range(3):
            both = torch.cat([x[image], h])
            new_h, new_c = torch.empty_like(h), torch.empty_like(c)
            for channel in range(3):
                for row in range(3):
                    for column in range(2):
                        gate = []
                        for kind in range(4):  # i, f, o, g
                            out = kind * 3 + channel
                            total = bias[out].clone()
                            for dy in range(-1, 2):
                                for dx in range(-1, 2):
                                    y, z = row + dy, column + dx
                                    if 0 <= y < 3 and 0 <= z < 2:
                                        kernel = weight[out, :, dy + 1, dx + 1]
                                        total += kernel @ both[:, y, z]
                            gate.append(total)
                        i, f, o = (1 / (1 + math.exp(-g.item())) for g in gate[:3])
                        cell = f * c[channel, row, column] + i * math.tanh(
                            gate[3].item()
                        )
                        new_c[channel, row, column] = cell
                        new_h[channel, row, column] = o * torch.tanh(cell)
            h, c = new_h, new_c
            torch.testing.assert_close(states[image, step], h)


def test_the_worked_example_with_zero_weights():
    memory = ConvLSTM(1, 1, kernel=1)
    nn.init.zeros_(memory.gates.weight)
    memory.gates.bias.data = torch.tensor([0.0, 0.0, 0.0, 1.0])
    first, second = memory(torch.ones(1, 1, 1, 1), steps=2).flatten().tolist()
    c = 0.5 * math.tanh(1)
    assert first == pytest.approx(0.5 * math.tanh(c))
    assert second == pytest.approx(0.5 * math.tanh(1.5 * c))


def test_one_step_does_not_depend_on_the_forget_gate_and_two_do():
    seeded()
    memory = ConvLSTM(4, 3)
    x = torch.randn(2, 4, 5, 3)
    one, two = memory(x, 1), memory(x, 2)
    memory.gates.bias.data[3:6] += 5  # i, f, o, g of three channels each
    assert memory(x, 1).equal(one)
    assert memory(x, 2)[:, 0].equal(two[:, 0])
    assert (memory(x, 2)[:, 1] - two[:, 1]).abs().max() > 0.01


@pytest.mark.parametrize("size", [(8, 4), (7, 3), (1, 1)])
def test_attention_weighs_and_keeps_the_size(size):
    seeded()
    module = PyramidAttention(6, 4)
    x = torch.randn(3, 6, *size)
    weights = module.weights(x)
    assert weights.shape == x.shape
    assert ((weights > 0) & (weights < 1)).all()
    module.eval()
    torch.testing.assert_close(module(x), x * module.weights(x))


def test_attention_is_its_layers():
    seeded()
    module = PyramidAttention(6, 4).eval()
    x = torch.randn(2, 6, 8, 4)
    s = F.conv2d(x, module.squeeze.weight, module.squeeze.bias)
    total = 0
    for path, side in zip(module.paths, (3, 5, 7), strict=True):
        assert path[0].kernel_size == (side, side)
        assert path[1].kernel_size == (7, 7)
        total = total + path[1](path[0](s))
    mean = x.mean(dim=(2, 3), keepdim=True)
    joined = F.relu(module.join[0](total)) + module.context(mean)
    expected = torch.sigmoid(module.expand[1](module.expand[0](joined)))
    torch.testing.assert_close(module.weights(x), expected)


def test_the_paths_see_9_11_and_13_rows():
    seeded()
    module = PyramidAttention(2, 2)
    for path, seen in zip(module.paths, (9, 11, 13), strict=True):
        x = torch.randn(1, 2, 31, 31, requires_grad=True)
        path(x)[0, :, 15, 15].sum().backward()
        rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        assert (int(rows.min()), int(rows.max())) == (15 - seen // 2, 15 + seen // 2)


@pytest.mark.parametrize("steps", [1, 12])
def test_twelve_heads_over_27_attributes(steps):
    seeded()
    branch = AttributeBranch(8, SIZES, out_features=16, hidden=4, steps=steps)
    descriptor, logits = branch(torch.randn(5, 8, 7, 3))
    assert descriptor.shape == (5, 16)
    assert [one.shape for one in logits] == [(5, n) for n in SIZES]
    assert len(SIZES) == 12
    # 9 of two values and age are attributes of their own; each colour is one.
    assert 10 + sum(SIZES[10:]) == 27


def test_a_head_reads_the_state_of_its_own_step():
    seeded()
    branch = AttributeBranch(8, SIZES, out_features=16, hidden=4).eval()
    x = torch.randn(2, 8, 4, 2)
    states = branch.memory(branch.attention(x), 12)
    pooled = states.mean(dim=(3, 4))
    _descriptor, logits = branch(x)
    for g, head in enumerate(branch.heads):
        read = branch.neck(branch.project(pooled[:, g]))
        torch.testing.assert_close(head(read), logits[g])
    one = AttributeBranch(8, SIZES, out_features=16, hidden=4, steps=1).eval()
    one.load_state_dict(branch.state_dict())
    torch.testing.assert_close(one(x)[1][0], logits[0])
    assert not torch.allclose(one(x)[1][11], logits[11], atol=1e-5)


def test_every_parameter_learns_from_the_attributes():
    seeded()
    branch = AttributeBranch(8, SIZES, out_features=16, hidden=4)
    classes = torch.stack([torch.randint(n, (6,)) for n in SIZES], dim=1)
    _v, logits = branch(torch.randn(6, 8, 4, 2))
    attribute_loss(logits, classes).mean().backward()
    # Not the biases: a batch norm takes off those before it.
    weights = [(n, p) for n, p in branch.named_parameters() if p.ndim > 1]
    silent = [n for n, p in weights if p.grad.abs().max() == 0]
    assert silent == []


def test_losses_against_a_loop():
    seeded()
    logits = [torch.randn(4, n) for n in (2, 3)]
    classes = torch.tensor([[0, 2], [1, -1], [-1, -1], [1, 0]])
    expected = torch.zeros(4)
    for image in range(4):
        for head, one in enumerate(logits):
            truth = int(classes[image, head])
            if truth >= 0:
                p = one[image].exp() / one[image].exp().sum()
                expected[image] -= p[truth].log()
    torch.testing.assert_close(attribute_loss(logits, classes), expected)
    assert head_loss(logits[0], classes[:, 0])[2] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvLSTM(4, 4, kernel=2), "kernel is 2; give an odd side"),
        (lambda: ConvLSTM(4, 0), "hidden is 0"),
        (lambda: ConvLSTM(4, 4)(torch.zeros(1, 4, 2, 2), 0), "steps is 0"),
        (lambda: PyramidAttention(0), "channels is 0"),
        (lambda: AttributeBranch(4, [2, 2], steps=3), "3 steps for 2 groups"),
        (lambda: AttributeBranch(4, [2, 1], steps=2), "a head needs two or more"),
        (
            lambda: attribute_loss([torch.zeros(1, 2)], torch.zeros(1, 2).long()),
            r"\(1, 2\) for 1 heads",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ReIDError, match=message):
        make()
