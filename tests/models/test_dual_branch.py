"""Two branches on one map: bands, attention, descriptors, classifiers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reidlib.errors import ReIDError
from reidlib.models import (
    DualBranchNet,
    LocalSoftAttention,
    PartClassifiers,
    branch_predictions,
    split_descriptors,
)


@pytest.mark.parametrize("height", [4, 5, 6, 7, 8, 11])
def test_bands_cover_each_row_of_a_map_exactly_once(height):
    attention = LocalSoftAttention(height, bands=4, kind="none")
    rows = torch.eye(height)[None, :, :, None]  # channel c is 1 in row c alone
    bands = attention(rows)[0]  # (4, height): where the rows went
    member = bands > 0
    assert torch.equal(member.sum(dim=0), torch.ones(height, dtype=torch.int64))
    sizes = member.sum(dim=1)
    assert int(sizes.max() - sizes.min()) <= 1
    torch.testing.assert_close(bands.sum(dim=1), torch.ones(4))  # means
    assert torch.equal(
        member.float().argmax(dim=1), sizes.cumsum(0) - sizes
    )  # in order


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_attention_starts_even_stays_in_range_and_learns(kind):
    torch.manual_seed(0)
    attention = LocalSoftAttention(6, bands=2, kind=kind)
    x = torch.randn(3, 6, 4, 5)
    even = attention.weights(x)
    assert torch.equal(
        even, torch.full_like(even, {"sigmoid": 0.5, "softmax": 1}[kind])
    )
    attention(x).square().sum().backward()
    assert attention.score.weight.grad.abs().max() > 0
    # Small, since a sigmoid of 17 is 1 to rounding.
    torch.nn.init.normal_(attention.score.weight, std=0.5)
    weights = attention.weights(x)
    assert weights.shape == (3, 1, 4, 5)
    assert (weights > 0).all()
    if kind == "sigmoid":
        assert (weights < 1).all()
    else:
        torch.testing.assert_close(weights.mean(dim=(1, 2, 3)), torch.ones(3))


def test_local_descriptors_equal_a_loop_over_places():
    attention = LocalSoftAttention(3, bands=4, kind="sigmoid")
    torch.nn.init.normal_(attention.score.weight)
    x = torch.randn(2, 3, 8, 2)
    weight = attention.score.weight.flatten()
    for image in range(2):
        for band in range(4):
            total = torch.zeros(3)
            for row in (2 * band, 2 * band + 1):
                for column in range(2):
                    place = x[image, :, row, column]
                    total += place * torch.sigmoid(weight @ place) / 4
            torch.testing.assert_close(attention(x)[image, band], total)


def test_descriptors_are_those_of_the_map_and_features_have_length_1():
    model = DualBranchNet("tiny", descriptor="both", pretrained=False).eval()
    images = torch.randn(2, 3, 128, 64)
    feature_map = model.backbone(images)
    each = model.descriptors(images)
    torch.testing.assert_close(each[:, 0], feature_map.mean(dim=(2, 3)))
    torch.testing.assert_close(each[:, 1:], model.attention(feature_map))
    whole, local = split_descriptors(each)
    both = torch.cat([whole, local], dim=1) / 2**0.5
    torch.testing.assert_close(model(images), both)
    for descriptor, wanted in (("global", whole), ("local", local)):
        model.descriptor = descriptor
        torch.testing.assert_close(model(images), wanted)


def test_classifiers_share_nothing_and_each_sees_its_own_descriptor():
    heads = PartClassifiers(6, 3, 3)
    each = torch.randn(4, 3, 6, requires_grad=True)
    logits = heads(each)
    for place, layer in enumerate(heads.layers):
        wanted = F.linear(each[:, place], layer.weight, layer.bias)
        torch.testing.assert_close(logits[:, place], wanted)
    logits[:, 1].sum().backward()
    assert each.grad[:, 1].abs().min() > 0
    assert not each.grad[:, [0, 2]].any()
    assert heads.layers[0].weight.grad is None or not heads.layers[0].weight.grad.any()
    one, two = branch_predictions(logits)
    torch.testing.assert_close(one, logits[:, 0].softmax(dim=1))
    local = (logits[:, 1].softmax(dim=1) + logits[:, 2].softmax(dim=1)) / 2
    torch.testing.assert_close(two, local)


def test_frozen_stages_keep_their_statistics_in_train_mode():
    model = DualBranchNet("tiny", pretrained=False, frozen_stages=2).train()
    before = {k: v.clone() for k, v in model.backbone.stages[:2].state_dict().items()}
    model.descriptors(torch.randn(4, 3, 128, 64)).sum().backward()
    for name, value in model.backbone.stages[:2].state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.backbone.stages[2].training
    assert all(p.grad is None for p in model.backbone.stages[:2].parameters())


def test_bad_input_is_refused():
    with pytest.raises(ReIDError, match="3 x 5 places cannot be cut into 4 bands"):
        LocalSoftAttention(2)(torch.zeros(1, 2, 3, 5))
    with pytest.raises(ReIDError, match="bands is 0"):
        LocalSoftAttention(2, bands=0)
    with pytest.raises(ReIDError, match="kind is 'hard'"):
        LocalSoftAttention(2, kind="hard")
    with pytest.raises(ReIDError, match="descriptor is 'all'"):
        DualBranchNet("tiny", descriptor="all", pretrained=False)
