"""Cameras: rates and thresholds for each pair of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reidlib.data.table import ImageTable
from reidlib.errors import ReIDError
from reidlib.evaluation import (
    camera_thresholds,
    match_rates,
    rates_by_cameras,
    trade_off,
)
from reidlib.evaluation.calibration import accepted
from reidlib.evaluation.pairs import Pairs

CAMERAS = (2, 5, 7)


def pairs_of(shift, num=4000, seed=0, cameras=CAMERAS, unknown=0):
    """Pairs whose distances are ``shift[a, b]`` and noise, one in ten positive."""
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(len(cameras), size=num) for _ in range(2))
    positive = rng.random(num) < 0.1
    keep = ~(positive & (first == second))
    first, second, positive = first[keep], second[keep], positive[keep]
    shift = np.asarray(shift)
    place, width = shift[..., first, second] if shift.ndim == 3 else (
        shift[first, second], 0.1
    )  # fmt: skip
    distance = place + width * rng.normal(size=len(first)) - 0.3 * positive
    ids = np.array(cameras)
    camids = [ids[first], ids[second]]
    camids[0][:unknown] = -1
    pids = np.arange(len(first)) + 1
    tables = (
        ImageTable(Path("data"), ("x",) * len(pids), pid, camid)
        for pid, camid in zip(
            (pids, np.where(positive, pids, pids + 10**6)), camids, strict=True
        )
    )
    rows = np.arange(len(first), dtype=np.int32)
    return Pairs(distance.astype(np.float32), positive, rows, rows, *tables)


SHIFT = np.array([[0.5, 0.9, 0.8], [0.9, 0.6, 1.0], [0.8, 1.0, 0.7]])


def naive_share(pairs, right, sign, a, b):
    hits = []
    for i in range(len(pairs)):
        cameras = {int(side[i]) for side in pairs.cameras}
        if pairs.positive[i] == sign and cameras == {a, b}:
            hits.append(right[i])
    return np.mean(hits) if hits else np.nan, len(hits)


def test_rates_by_cameras_equal_a_loop():
    pairs = pairs_of(SHIFT, num=600, unknown=50)
    rates = rates_by_cameras(pairs, 0.6)
    assert rates.cameras.tolist() == list(CAMERAS)
    right = pairs.distance <= 0.6
    for i, a in enumerate(CAMERAS):
        for j, b in enumerate(CAMERAS):
            fpr, num_negatives = naive_share(pairs, right, False, a, b)
            tpr, num_positives = naive_share(pairs, right, True, a, b)
            assert rates.fpr[i, j] == pytest.approx(fpr)
            assert rates.tpr[i, j] == pytest.approx(tpr, nan_ok=True)
            assert rates.num_negatives[i, j] == num_negatives
            assert rates.num_positives[i, j] == num_positives
    assert np.isnan(rates.tpr.diagonal()).all()
    total = rates.num_negatives[np.triu_indices(3)].sum()
    assert total == (~pairs.positive[50:]).sum()  # unknown cameras are left out


@pytest.mark.parametrize("method", ["normalise", "quantile"])
def test_thresholds_mend_a_shift_between_cameras(method):
    pairs = pairs_of(SHIFT)
    chosen = camera_thresholds(pairs, 0.05, method=method)
    assert chosen.calibrated.all()
    assert (chosen.threshold == chosen.threshold.T).all()
    assert chosen.default == trade_off(
        pairs.positives, pairs.negatives
    ).threshold_at(0.05)  # fmt: skip
    others = pairs_of(SHIFT, seed=1)
    plain = rates_by_cameras(others, chosen.default)
    mended = rates_by_cameras(others, chosen)
    assert plain.fpr.max() > 0.3
    assert plain.fpr.min() == 0
    assert mended.fpr.max() < 0.12
    assert mended.fpr.min() > 0.01
    assert np.nanmean(mended.tpr) > np.nanmean(plain.tpr) + 0.3


@pytest.mark.parametrize("method", ["normalise", "quantile"])
def test_the_wanted_rate_is_kept_on_the_pairs_it_was_chosen_on(method):
    for seed in range(5):
        pairs = pairs_of(SHIFT, num=3000, seed=seed)
        chosen = camera_thresholds(pairs, 0.05, method=method)
        rate = accepted(pairs, chosen)[~pairs.positive].mean()
        assert 0.04 < rate <= 0.05


def test_normalising_is_undone_by_no_shift_and_scale_of_a_camera_pair():
    # z does not change, so exactly the same pairs are accepted.
    pairs = pairs_of(SHIFT)
    one = accepted(pairs, camera_thresholds(pairs, 0.05))
    low, high = (np.sort(np.stack(pairs.cameras), axis=0) % 3).astype(np.float32)
    moved = Pairs(
        pairs.distance * (1 + low) + 4 * high + low, pairs.positive,
        pairs.query, pairs.gallery, pairs.query_table, pairs.gallery_table,
    )  # fmt: skip
    other = accepted(moved, camera_thresholds(moved, 0.05))
    assert (one != other).mean() < 0.002  # float32 rounding at the edge


def test_each_quantile_is_that_of_its_camera_pair():
    pairs = pairs_of(SHIFT)
    chosen = camera_thresholds(pairs, 0.1, method="quantile")
    first, second = pairs.cameras
    mine = (np.minimum(first, second) == 2) & (np.maximum(first, second) == 7)
    here = trade_off([0.0], pairs.distance[mine & ~pairs.positive])
    assert chosen.threshold[0, 2] == here.threshold_at(0.1)


def test_too_few_pairs_fall_back_visibly():
    pairs = pairs_of(SHIFT, num=3000)
    first, second = pairs.cameras
    pairs = pairs[(np.minimum(first, second) != 2) | (np.arange(len(pairs)) < 150)]
    chosen = camera_thresholds(pairs, 0.05, method="normalise")
    expected = np.ones((3, 3), dtype=bool)
    expected[0, :] = expected[:, 0] = False
    assert (chosen.calibrated == expected).all()
    assert (chosen.threshold[0] == np.float32(chosen.default)).all()
    assert (chosen.num_negatives[0] < 100).all()
    # A quantile needs more: 10 errors at the wanted rate.
    strict = camera_thresholds(pairs, 0.015, method="quantile")
    needed = 10 / 0.015
    assert (strict.calibrated == (strict.num_negatives >= needed)).all()
    assert not strict.calibrated.all()


def test_cameras_that_were_not_seen_get_the_threshold_of_all():
    chosen = camera_thresholds(pairs_of(SHIFT), 0.05)
    others = pairs_of(SHIFT, cameras=(0, 5, 9), unknown=30)
    first, second = others.cameras
    both = (first == 5) & (second == 5)
    thresholds = chosen.of(others)
    assert (thresholds[~both] == np.float32(chosen.default)).all()
    assert (thresholds[both] == chosen.threshold[1, 1]).all()


def test_a_threshold_between_two_float32_numbers_accepts_what_it_says():
    pairs = pairs_of(SHIFT, num=100)
    value = np.float64(pairs.distance[7])
    assert accepted(pairs, value)[7]
    assert not accepted(pairs, np.nextafter(value, 0))[7]
    assert (accepted(pairs, 0.7) == (pairs.distance.astype(float) <= 0.7)).all()


def test_no_positive_pair_is_needed():
    pairs = pairs_of(SHIFT)
    negative = pairs[~pairs.positive]
    one, other = (camera_thresholds(p, 0.05).threshold for p in (pairs, negative))
    assert (one == other).all()


def test_faults_are_refused():
    pairs = pairs_of(SHIFT)
    with pytest.raises(ReIDError, match="negatives: got 0 distances"):
        camera_thresholds(pairs[pairs.positive], 0.05)
    with pytest.raises(ReIDError, match="method is 'other'"):
        camera_thresholds(pairs, 0.05, method="other")
    with pytest.raises(ReIDError, match="min_negatives is 1"):
        camera_thresholds(pairs, 0.05, min_negatives=1)
    with pytest.raises(ReIDError, match="fpr is 0"):
        camera_thresholds(pairs, 0)
    with pytest.raises(ReIDError, match="do not determine a rate"):
        camera_thresholds(pairs, 1e-4)
    for measure in (rates_by_cameras, match_rates):
        with pytest.raises(ReIDError, match="the threshold is nan"):
            measure(pairs, float("nan"))
    with pytest.raises(ReIDError, match="no image of data has a camera"):
        rates_by_cameras(pairs_of(SHIFT, num=50, cameras=(-1, -1, -1)), 0.5)
