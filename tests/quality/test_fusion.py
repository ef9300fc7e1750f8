"""Weighted fusion: the direction of alpha, its losses, and what they move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reidlib.errors import ReIDError
from reidlib.quality import (
    FusionLayer,
    QualityWeight,
    WeightedFusion,
    target_weight,
    weigh,
    weight_loss,
)

GOOD, BAD = torch.tensor([0.5, 0.1]), torch.tensor([2.0, 0.4])


def test_the_target_is_the_share_of_the_appearance_loss():
    assert target_weight(BAD, GOOD).tolist() == pytest.approx([0.8, 0.8])
    assert target_weight(GOOD, BAD).tolist() == pytest.approx([0.2, 0.2])
    both = target_weight(GOOD, BAD) + target_weight(BAD, GOOD)
    assert both.tolist() == pytest.approx([1, 1])
    assert target_weight(torch.zeros(1), torch.zeros(1)).tolist() == [0.5]
    assert target_weight(torch.zeros(1), torch.ones(1)).tolist() == [0]


def test_the_better_branch_gets_more_where_alpha_weighs_the_attributes():
    """Planted losses: the appearance branch is the worse one."""
    alpha = target_weight(BAD, GOOD)
    appearance, attributes = torch.ones(2, 3), torch.ones(2, 3)
    default = weigh(appearance, attributes, alpha)
    assert (default[:, :3] < default[:, 3:]).all()
    printed = weigh(appearance, attributes, alpha, "appearance")
    assert (printed[:, :3] > printed[:, 3:]).all()
    torch.testing.assert_close(printed, default.flip(1))


def test_the_ends_are_one_branch_alone():
    v_a, v_s = torch.randn(4, 3), torch.randn(4, 2)
    none = torch.zeros(4, 2)
    assert weigh(v_a, v_s, 0.0).equal(torch.cat([v_a, none], dim=1))
    assert weigh(v_a, v_s, 1.0)[:, 3:].equal(v_s)
    assert weigh(v_a, v_s, 1.0)[:, :3].eq(0).all()
    assert weigh(v_a, v_s, 0.0, "appearance")[:, 3:].equal(v_s)


@pytest.mark.parametrize(("kind", "end"), [("ratio", 0.8), ("linear", 1.0)])
def test_where_each_loss_drives_alpha(kind, end):
    """The ratio has its minimum at the target, the linear form at an end."""
    score = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        weight_loss(score.sigmoid(), BAD, GOOD, kind).backward()
        optimizer.step()
    assert score.sigmoid().tolist() == pytest.approx([end, end], abs=0.02)


def test_losses_against_loops():
    alpha = torch.tensor([0.3, 0.9])
    linear = sum((1 - a) * p + a * s for a, p, s in zip(alpha, BAD, GOOD, strict=True))
    assert weight_loss(alpha, BAD, GOOD, "linear").item() == pytest.approx(linear / 2)
    total = 0.0
    for a, p, s in zip(alpha, BAD, GOOD, strict=True):
        t = p / (p + s)
        total -= t * a.log() + (1 - t) * (1 - a).log()
    assert weight_loss(alpha, BAD, GOOD).item() == pytest.approx(total / 2)


def test_the_loss_of_alpha_moves_alpha_alone():
    alpha, one, other = (torch.full((2,), 0.5, requires_grad=True) for _ in range(3))
    for kind in ("ratio", "linear"):
        weight_loss(alpha, one * 2, other, kind).backward()
        assert alpha.grad is not None
        assert one.grad is None
        assert other.grad is None


def test_the_weight_depends_on_the_normalised_score_and_is_kept_with_it():
    torch.manual_seed(0)
    module = QualityWeight()
    scores = torch.randn(50) * 0.6 + 11
    module.normalise.fit(scores)
    alpha = module(scores)
    assert ((alpha > 0) & (alpha < 1)).all()
    shifted = QualityWeight()
    shifted.load_state_dict(module.state_dict())
    shifted.normalise.fit(scores * 10 - 7)
    torch.testing.assert_close(shifted(scores * 10 - 7), alpha)
    assert sum(p.numel() for p in QualityWeight(0).parameters()) == 2
    assert sum(p.numel() for p in module.parameters()) == 32 * 2 + 33


def test_the_last_layer_of_the_paper_and_of_the_code():
    x = torch.randn(6, 8)
    assert FusionLayer(8)(x).shape == (6, 1000)
    assert FusionLayer(8, 5)(x).min() < 0
    assert FusionLayer(8, 5, activation=True)(x).min() == 0


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_of_its_range(alpha):
    with pytest.raises(ReIDError, match="alpha is"):
        weigh(torch.ones(1, 2), torch.ones(1, 2), alpha)


def test_what_does_not_belong_together():
    with pytest.raises(ReIDError, match="one row for each image"):
        weigh(torch.ones(2, 2), torch.ones(3, 2), 0.5)
    with pytest.raises(ReIDError, match="one row for each image"):
        target_weight(torch.ones(2), torch.ones(3))
    with pytest.raises(ReIDError, match="choose from attributes, appearance"):
        weigh(torch.ones(1, 2), torch.ones(1, 2), 0.5, "apn")
    with pytest.raises(ReIDError, match="choose from ratio, linear"):
        weight_loss(torch.ones(1), torch.ones(1), torch.ones(1), "square")
    with pytest.raises(ReIDError, match="out_features is 0"):
        FusionLayer(4, 0)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_share_of_very_large_and_very_small_losses(kind):
    largest, least = torch.finfo(kind).max, torch.finfo(kind).smallest_normal / 100
    one = torch.tensor([largest, least, least, 0.0, largest, 1e-35], dtype=kind)
    other = torch.tensor([largest, least, 3 * least, least, 0.0, 0.0], dtype=kind)
    found = target_weight(one, other)
    assert found.tolist() == pytest.approx([0.5, 0.5, 0.25, 0, 1, 1], rel=1e-2)


def same_values(values):
    """The same numbers as people have them."""
    yield values.tolist()
    yield values.numpy()
    yield values.numpy().astype(np.float64)
    yield values.numpy().astype(np.float16)
    yield values.half()
    yield values.double()


def test_numbers_as_people_have_them():
    alpha, scores = torch.tensor([0.25, 0.75]), torch.tensor([11.0, 12.5])
    v_a, v_s = torch.ones(2, 3), torch.full((2, 2), 0.5)
    weight, fusion = QualityWeight(), WeightedFusion(5, 4)
    fixed = WeightedFusion(5, 4, fixed_alpha=0.5)
    weight.normalise.fit(scores)
    for given in same_values(alpha):
        assert weigh(v_a, v_s, given).equal(weigh(v_a, v_s, alpha))
        assert weight_loss(given, BAD, GOOD) == pytest.approx(
            weight_loss(alpha, BAD, GOOD).item()
        )
    for one, other in zip(same_values(BAD), same_values(GOOD), strict=True):
        expected = pytest.approx([0.8, 0.8], rel=1e-3)
        assert target_weight(one, other).tolist() == expected
    for given in same_values(scores):
        weight.normalise.fit(given)
        assert weight(given).tolist() == pytest.approx(weight(scores).tolist())
        assert weight(given).dtype == torch.float32
        assert fixed.alpha(given).tolist() == [0.5, 0.5]
    assert fixed.alpha(np.array([11, 12])).tolist() == [0.5, 0.5]
    for given in (v_a.numpy(), v_a.long(), v_a.half(), v_a.double()):
        weighted = weigh(given, v_s, alpha)
        torch.testing.assert_close(weighted, weigh(v_a, v_s, alpha), check_dtype=False)
        assert fusion(given, v_s, alpha).shape == (2, 4)


def test_what_is_no_weight_and_no_loss_is_nan_or_refused():
    """A tensor may be on a GPU, which a training step must not wait for."""
    ones = torch.ones(2, 2)
    for wrong in (-0.1, 1.1, float("nan")):
        pair = torch.tensor([wrong, 0.5], requires_grad=True)
        made = weigh(ones, ones, pair).isnan().all(dim=1)
        assert made.tolist() == [True, False]
        for kind in ("ratio", "linear"):
            assert weight_loss(pair, BAD, GOOD, kind).isnan()
        for given in (pair.tolist(), pair.detach().numpy()):
            with pytest.raises(ReIDError, match=r"alpha is .*; give numbers in \[0, 1"):
                weigh(ones, ones, given)
    for wrong in (-1.0, float("nan")):
        pair = torch.tensor([wrong, 1.0])
        for losses in ((pair, GOOD), (GOOD, pair)):
            assert target_weight(*losses).isnan().tolist() == [True, False]
            for kind in ("ratio", "linear"):
                assert weight_loss(torch.full((2,), 0.5), *losses, kind).isnan()
        with pytest.raises(ReIDError, match=r"appearance losses hold .*give 0 or more"):
            target_weight(pair.tolist(), GOOD)
    assert not weight_loss(torch.tensor([0.0, 1.0]), BAD, GOOD).isnan()


@pytest.mark.parametrize("shape", [(), (2, 1), (1, 2)])
def test_shapes_that_are_not_one_number_for_each_image(shape):
    wrong, right, rows = torch.full(shape, 0.5), torch.full((2,), 0.5), torch.ones(2, 3)
    for call in (
        lambda: target_weight(wrong, wrong),
        lambda: weight_loss(wrong, right, right),
        lambda: weight_loss(right, wrong, wrong, "linear"),
        lambda: weigh(rows, rows, wrong),
        lambda: QualityWeight()(wrong),
        lambda: WeightedFusion(6, 2, fixed_alpha=0.5).alpha(wrong),
    ):
        with pytest.raises(ReIDError, match=r"give (real numbers of shape )?\(B,\)"):
            call()
    for one, other in ((rows[0], rows), (rows, rows[0])):
        with pytest.raises(ReIDError, match=r"shape \(3,\); give .* \(B, D\)"):
            weigh(one, other, right)


def test_a_fusion_that_cannot_be():
    for settings, message in (
        ({"fixed_alpha": 2}, "fixed_alpha is 2"),
        ({"fixed_alpha": float("nan")}, "fixed_alpha is nan"),
        ({"alpha_weighs": "apn"}, "choose from attributes, appearance"),
    ):
        with pytest.raises(ReIDError, match=message):
            WeightedFusion(4, 2, **settings)
