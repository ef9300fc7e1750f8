"""Intervals of error rates: resampled people, not pairs."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t as student

from reidlib.data.table import ImageTable
from reidlib.errors import ReIDError
from reidlib.evaluation import camera_thresholds, match_rates, pair_distances
from reidlib.evaluation.intervals import _drawn, _draws, _interval
from reidlib.evaluation.pairs import Pairs


def world(seed, people=30, images=6, person=0.1, noise=0.1):
    """Pairs of people of whom some are easier to mistake than others."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(people), images) + 1
    ease = rng.normal(0, person, people)[pids - 1]
    table = ImageTable(Path("data"), ("x",) * len(pids), pids, np.arange(len(pids)) % 2)
    row, col = np.triu_indices(len(pids), 1)
    positive = pids[row] == pids[col]
    distance = ease[row] + ease[col] + noise * rng.normal(size=len(row))
    distance = np.where(positive, 0.5 + distance, 1 + distance).astype(np.float32)
    return Pairs(distance, positive, row, col, table, table)


def test_rates_are_shares_and_intervals_are_around_them():
    pairs = world(0)
    rates = match_rates(pairs, 0.75)
    assert rates.fpr == (pairs.negatives <= 0.75).mean()
    assert rates.tpr == (pairs.positives <= 0.75).mean()
    assert rates.fpr_interval[0] < rates.fpr < rates.fpr_interval[1]
    assert rates.tpr_interval[0] < rates.tpr < rates.tpr_interval[1]
    assert (rates.num_people, rates.confidence) == (30, 0.95)
    assert rates.num_positives == 30 * 15
    assert rates.num_negatives == len(pairs) - 30 * 15
    narrow = match_rates(pairs, 0.75, confidence=0.5)
    assert np.ptp(narrow.fpr_interval) < np.ptp(rates.fpr_interval)


def test_a_draw_equals_a_loop_over_its_people():
    pairs = world(1, people=6, images=3)
    weights = _draws(np.ones(6, dtype=bool), 4, np.random.default_rng(9))
    a, b = (side - 1 for side in pairs.people)
    for one in (True, False):
        mask, right = pairs.positive == one, pairs.distance <= (0.5 if one else 1)
        drawn = _drawn(a[mask], b[mask], right[mask], weights, one=one)
        for draw, w in zip(drawn, weights, strict=True):
            hits, total = 0.0, 0.0
            for i in np.flatnonzero(mask):
                weight = w[a[i]] if one else w[a[i]] * w[b[i]]
                total += weight
                hits += weight * right[i]
            assert draw == pytest.approx(hits / total)
        assert len(set(drawn)) > 1


def test_the_interval_is_on_the_scale_of_the_logit():
    drawn = expit(np.array([-3.0, -2.0, -1.0, np.nan]))
    low, high = _interval(expit(-2.0), drawn, 1000, 7, 0.9)
    reach = student.ppf(0.95, 6) * np.std([-3, -2, -1])
    assert logit([low, high]) == pytest.approx([-2 - reach, -2 + reach])
    # A draw without an error counts as half a one of a thousand.
    low, high = _interval(0.5, np.array([0.0, 1.0]), 1000, 7, 0.9)
    reach = student.ppf(0.95, 6) * logit(1 - 0.0005)
    assert logit([low, high]) == pytest.approx([-reach, reach])


def test_people_and_distractors_are_drawn_apart():
    real = np.array([False, True, True, False, True])
    weights = _draws(real, 200, np.random.default_rng(0))
    assert (weights[:, real].sum(1) == 3).all()
    assert (weights[:, ~real].sum(1) == 2).all()
    assert weights.mean(0) == pytest.approx(np.ones(5), abs=0.2)
    assert (_draws(real[real], 5, np.random.default_rng(0)).sum(1) == 3).all()


def test_intervals_hold_the_truth_where_independent_pairs_would_not():
    # The rate of all people that could have come: a normal distribution.
    truth = NormalDist(1, np.sqrt(3 * 0.1**2)).cdf(0.75)
    by_people, by_pairs, worlds = 0, 0, 60
    for seed in range(worlds):
        pairs = world(seed)
        rates = match_rates(pairs, 0.75, num_resamples=200)
        low, high = rates.fpr_interval
        by_people += low <= truth <= high
        error = 1.96 * np.sqrt(rates.fpr * (1 - rates.fpr) / rates.num_negatives)
        by_pairs += abs(rates.fpr - truth) <= error
    assert by_people / worlds > 0.88
    assert by_pairs / worlds < 0.4


def test_a_threshold_per_camera_pair_is_measured_too():
    pairs = world(2)
    thresholds = camera_thresholds(pairs, 0.05)
    rates = match_rates(pairs, thresholds)
    assert rates.fpr == (pairs.distance <= thresholds.of(pairs))[~pairs.positive].mean()


def test_a_rate_without_errors_has_no_upper_limit():
    pairs = world(3)
    none, every = match_rates(pairs, -9.0), match_rates(pairs, 9.0)
    for interval in (none.fpr_interval, none.tpr_interval):
        assert interval[0] == 0
        assert np.isnan(interval[1])
    for interval in (every.fpr_interval, every.tpr_interval):
        assert np.isnan(interval[0])
        assert interval[1] == 1


def test_distractors_do_not_make_up_for_few_people():
    few, images = 4, 6
    pairs = world(4, people=few, images=images)
    pids = np.concatenate([pairs.query_table.pids, np.zeros(500, np.int64)])
    camids = np.arange(len(pids)) % 2
    table = ImageTable(Path("data"), ("x",) * len(pids), pids, camids)
    own = len(pairs.query_table)
    query = np.concatenate([pairs.query, np.repeat(np.arange(own), 500)])
    gallery = np.tile(np.arange(own, len(pids)), own)
    gallery = np.concatenate([pairs.gallery, gallery])
    sign = np.zeros(len(query) - len(pairs), dtype=bool)
    distance = np.concatenate([pairs.distance, np.where(sign, 0, 1.0)])
    positive = np.concatenate([pairs.positive, sign])
    crowd = Pairs(distance, positive, query, gallery, table, table)
    alone, among = match_rates(pairs, 0.5), match_rates(crowd, 0.5)
    assert among.num_people == few + 500
    # The draws of the people are the same, and so is what they say about the people.
    assert among.tpr_interval == pytest.approx(alone.tpr_interval)


def test_people_who_are_too_few_for_draws_to_differ_have_no_limits():
    pids = np.array([1, 1, 1, 0, 0, 0])
    table = ImageTable(Path("data"), ("x",) * 6, pids, np.arange(6))
    row, col = np.triu_indices(6, 1)
    shown = (row < 3).nonzero()[0]
    positive = col[shown] < 3
    distance = np.linspace(0, 1, len(shown), dtype=np.float32)
    pairs = Pairs(distance, positive, row[shown], col[shown], table, table)
    rates = match_rates(pairs, float(np.median(pairs.positives)))
    assert 0 < rates.tpr < 1
    assert np.isnan(rates.tpr_interval).all()
    # A draw of two people is of both, or has no pair of two.
    two = match_rates(world(0, people=2), 1.0)
    assert 0 < two.fpr < 1
    assert np.isnan(two.fpr_interval).all()


def test_it_is_repeatable_and_takes_real_tables_with_distractors():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4))
    pids, camids = np.arange(60) // 4, np.arange(60) % 3  # person 0: distractors
    table = ImageTable(Path("data"), ("x",) * 60, pids, camids)
    pairs = pair_distances(features, features, table, table)
    first, second = (match_rates(pairs, 0.5, seed=4) for _ in range(2))
    assert first == second
    assert first.num_people == 14 + 4
    assert match_rates(pairs, 0.5, seed=5) != first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confidence": 1.0}, r"confidence is 1\.0; give a number in \(0, 1\)"),
        ({"confidence": 0}, "confidence is 0"),
        ({"num_resamples": 1}, "num_resamples is 1; give a whole number from 2 up"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ReIDError, match=message):
        match_rates(world(0, people=3), 0.5, **settings)


def test_both_kinds_of_pairs_are_needed():
    pairs = world(0, people=3)
    with pytest.raises(ReIDError, match="match_rates: 0 positive"):
        match_rates(pairs[~pairs.positive], 0.5)
