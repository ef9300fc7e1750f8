"""Error rates over all thresholds, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from reidlib.errors import ReIDError
from reidlib.evaluation import trade_off


def case(seed, levels=None, num_positives=40, num_negatives=90):
    """Overlapping distances; few ``levels`` make many ties."""
    rng = np.random.default_rng(seed)
    positives = rng.normal(0.4, 0.2, num_positives).astype(np.float32)
    negatives = rng.normal(0.7, 0.2, num_negatives).astype(np.float32)
    if levels:
        positives, negatives = (
            np.round(values * levels) / levels for values in (positives, negatives)
        )
    return positives, negatives


def scikit(positives, negatives):
    truth = np.repeat([1, 0], [len(positives), len(negatives)])
    scores = -np.concatenate([positives, negatives])
    return truth, scores, roc_curve(truth, scores, drop_intermediate=False)


@pytest.mark.parametrize("levels", [None, 8, 2])
@pytest.mark.parametrize("seed", range(4))
def test_curve_and_area_equal_scikit_learns(seed, levels):
    positives, negatives = case(seed, levels)
    truth, scores, (fpr, tpr, thresholds) = scikit(positives, negatives)
    result = trade_off(positives, negatives)
    ours = result.curve()
    np.testing.assert_allclose(ours[0], fpr)
    np.testing.assert_allclose(ours[1], tpr)
    np.testing.assert_allclose(ours[2][1:], -thresholds[1:])
    assert ours[2][0] == -np.inf
    assert result.auc == pytest.approx(roc_auc_score(truth, scores))
    assert result.eer == pytest.approx(np.maximum(fpr, 1 - tpr).min())


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    levels=st.sampled_from([None, 1, 3, 10]),
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    fpr=st.floats(0.001, 1.0),
)
def test_a_wanted_rate_is_kept_and_no_larger_threshold_keeps_it(
    seed, levels, sizes, fpr
):
    positives, negatives = case(seed, levels, *sizes)
    result = trade_off(positives, negatives)
    least = max(1, int(fpr * len(negatives)))
    if fpr < 1 and fpr * len(negatives) < least - 1e-9:
        with pytest.raises(ReIDError, match="do not determine a rate"):
            result.threshold_at(fpr, min_errors=least)
        return
    threshold = result.threshold_at(fpr, min_errors=least)
    got = result.rates(threshold)
    assert got[0] == (negatives <= threshold).mean() <= fpr + 1e-9
    assert got[1] == (positives <= threshold).mean()
    assert result.tpr_at(fpr, min_errors=least) == got[1]
    # The best that scikit-learn's points offer, without interpolating between them.
    _, _, (points, tpr, _) = scikit(positives, negatives)
    assert got[1] == pytest.approx(tpr[points <= fpr + 1e-9].max())
    if threshold < np.inf:
        next_up = np.nextafter(np.float32(threshold), np.float32(np.inf))
        assert (negatives <= next_up).mean() > fpr


def test_ten_numbers_by_hand():
    negatives = np.array([0.3, 0.4, 0.5, 0.6, 0.7])
    positives = np.array([0.1, 0.2, 0.35, 0.45, 0.9])
    result = trade_off(positives, negatives)
    assert result.rates(0.35) == (0.2, 0.6)
    assert result.tpr_at(0.2, min_errors=1) == 0.6  # up to, not including, 0.4
    assert result.tpr_at(0.4, min_errors=1) == 0.8
    assert result.tpr_at(1.0) == 1.0
    # Below 0.35 two of five are false or missed; no threshold does better.
    assert result.eer == pytest.approx(0.4)
    assert result.auc == pytest.approx((5 + 5 + 4 + 3 + 0) / 25)


def test_equal_distances_stand_and_fall_together():
    result = trade_off(np.array([0.5, 0.5]), np.array([0.5, 0.5, 0.5, 0.9]))
    # Two of four wrong would be allowed, and three share the distance of the positives.
    assert result.tpr_at(0.5, min_errors=1) == 0
    assert result.rates(result.threshold_at(0.5, min_errors=1)) == (0, 0)
    assert result.tpr_at(0.75, min_errors=1) == 1
    assert result.auc == pytest.approx((0.5 * 3 + 1) / 4)


def test_a_rate_of_one_negative_is_not_lost_to_rounding():
    negatives = np.arange(100.0)
    result = trade_off([0.0], negatives)
    for errors in range(1, 100):
        threshold = result.threshold_at(errors / 100, min_errors=1)
        assert (negatives <= threshold).sum() == errors


def test_separate_and_equal_distributions():
    apart = trade_off(np.linspace(0, 1, 50), np.linspace(2, 3, 50))
    assert (apart.auc, apart.eer, apart.tpr_at(0.2)) == (1, 0, 1)
    same = np.linspace(0, 1, 101)
    alike = trade_off(same, same)
    assert alike.auc == pytest.approx(0.5)
    assert alike.eer == pytest.approx(0.5, abs=0.01)
    assert alike.tpr_at(0.2) == pytest.approx(0.2, abs=0.01)


def test_the_threshold_is_one_of_float32():
    positives, negatives = case(0)
    threshold = trade_off(positives, negatives).threshold_at(0.2)
    assert float(np.float32(threshold)) == threshold
    assert (negatives <= np.float32(threshold)).mean() <= 0.2


def test_what_is_infinitely_far_is_never_accepted():
    result = trade_off([0.1, np.inf], [0.2, np.inf])
    assert result.rates(np.inf) == (0.5, 0.5)
    assert result.threshold_at(1.0) == np.inf
    assert result.tpr_at(1.0) == 0.5
    assert [points.tolist() for points in result.curve()[:2]] == [
        [0, 0, 0.5],
        [0, 0.5, 0.5],
    ]


def test_rates_that_cannot_be_resolved_are_refused():
    result = trade_off([0.1], np.linspace(0, 1, 10_000))
    assert result.threshold_at(0.001) == pytest.approx(0.001, abs=1e-4)
    with pytest.raises(ReIDError, match=r"1e-06 is 0\.01 of 10000 .* ask for 0\.001"):
        result.threshold_at(1e-6)
    with pytest.raises(ReIDError, match="is 9 of 10000 negatives, and fewer than"):
        result.tpr_at(0.0009)
    assert result.tpr_at(0.0009, min_errors=5) == 0
    few = trade_off([0.1], [0.2, 0.3])
    with pytest.raises(ReIDError, match="ask for 1 or more"):
        few.tpr_at(0.5)
    assert few.tpr_at(1.0) == 1


@pytest.mark.parametrize("fpr", [0, -0.1, 1.1, float("nan")])
def test_a_rate_outside_zero_to_one_is_refused(fpr):
    with pytest.raises(ReIDError, match="fpr is"):
        trade_off([0.1], [0.2]).threshold_at(fpr)


@pytest.mark.parametrize(
    ("positives", "negatives", "message"),
    [
        ([], [0.1], "positives: got 0 distances"),
        ([0.1], [0.1, np.nan], "negatives: got 2 distances, 1 of them NaN"),
    ],
)
def test_missing_distances_are_refused(positives, negatives, message):
    with pytest.raises(ReIDError, match=message):
        trade_off(positives, negatives)


@pytest.mark.parametrize(
    ("positives", "negatives"),
    [
        ([0.1, np.inf], [0.2, np.inf]),
        ([np.inf], [np.inf, np.inf]),
        ([0.3, 0.1, np.inf, np.inf], [0.1, 0.2]),
        ([0.3, 0.1], [0.1, 0.2, np.inf]),
    ],
)
def test_the_area_counts_every_pair_once_and_ties_half(positives, negatives):
    wins = [(p < n) + (p == n) / 2 for p in positives for n in negatives]
    assert trade_off(positives, negatives).auc == pytest.approx(np.mean(wins))


def test_distances_come_as_tensors_too_and_none_is_below_all_others():
    distances = torch.tensor([0.25, 0.5, 0.75], requires_grad=True)
    expected = trade_off([0.25, 0.5, 0.75], [0.5]).auc
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        assert trade_off(distances.to(kind), [0.5]).auc == expected
    assert trade_off(np.array([0.75, 0.5, 0.25])[::-1], [0.5]).auc == expected
    with pytest.raises(ReIDError, match="threshold is nan"):
        trade_off(distances, [0.5]).rates(np.nan)
    with pytest.raises(ReIDError, match="2 distances, 1 of them NaN or -inf"):
        trade_off([0.1, -np.inf], [0.5])
