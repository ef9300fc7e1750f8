from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from reidlib.errors import ReIDError
from reidlib.models import split_batch_norm, untracked_statistics


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        BatchNormAct2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(4),
    )


@pytest.mark.parametrize("splits", [1, 2, 4])
def test_equals_separate_copies_of_the_network_on_each_chunk(splits):
    model = network()
    copies = [copy.deepcopy(model) for _ in range(splits)]
    split_batch_norm(model, splits)
    images = torch.randn(8, 3, 8, 6) * torch.arange(1, 9).view(-1, 1, 1, 1)
    output = model(images)
    expected = torch.cat(
        [part(chunk) for part, chunk in zip(copies, images.chunk(splits), strict=True)]
    )
    torch.testing.assert_close(output, expected)
    # Running statistics are those of the first device, counters included.
    own, first = model.state_dict(), copies[0].state_dict()
    assert list(own) == list(first)
    for key in own:
        torch.testing.assert_close(own[key], first[key])

    weight = torch.randn_like(output)
    (output * weight).sum().backward()
    (expected * weight).sum().backward()
    for name, parameter in model.named_parameters():
        parts = [dict(part.named_parameters())[name].grad for part in copies]
        torch.testing.assert_close(parameter.grad, sum(parts))


def test_chunks_matter_in_training_and_not_in_eval():
    model = network()
    plain = copy.deepcopy(model)
    split_batch_norm(model, 2)
    images = torch.randn(4, 3, 8, 6) + torch.arange(4).view(-1, 1, 1, 1)
    assert not torch.allclose(model(images), plain(images), atol=0.1)
    model.load_state_dict(plain.state_dict())
    torch.testing.assert_close(model.eval()(images), plain.eval()(images))


def test_one_split_puts_ordinary_batch_norms_back():
    model = split_batch_norm(split_batch_norm(network(), 4), 2)
    assert model[1].splits == 2
    again = split_batch_norm(copy.deepcopy(model), 1)
    assert [type(m) for m in again] == [type(m) for m in network()]
    assert type(model[1]) is not nn.BatchNorm2d


def test_statistics_are_tracked_again_after_an_error():
    model = split_batch_norm(nn.BatchNorm1d(2), 2)
    with pytest.raises(ValueError, match="more than 1 value"):
        model(torch.zeros(2, 2))
    assert model.track_running_stats


def test_bad_numbers_are_refused():
    with pytest.raises(ReIDError, match="splits is 0"):
        split_batch_norm(network(), 0)
    model = split_batch_norm(network(), 3)
    with pytest.raises(ReIDError, match=r"batch of 8 images .* 3 equal chunks"):
        model(torch.zeros(8, 3, 8, 6))


def test_untracked_batches_are_normalised_and_leave_no_trace():
    model = network()
    model[2].eval()  # as in a frozen stage
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(8, 3, 8, 6) + 5
    twin = copy.deepcopy(model)
    with untracked_statistics(model):
        output = model(images)
    torch.testing.assert_close(output, twin(images))  # by its own statistics
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not torch.equal(twin[1].running_mean, before["1.running_mean"])
    model(images)  # from here on it is tracked again
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value)


def test_an_error_does_not_leave_statistics_untracked():
    model = network()
    with pytest.raises(RuntimeError), untracked_statistics(model):
        model(torch.randn(2, 1, 8, 6))
    assert all(getattr(part, "track_running_stats", True) for part in model)
