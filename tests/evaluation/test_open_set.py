"""Searches for people who are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reidlib.data.table import ImageTable
from reidlib.errors import ReIDError
from reidlib.evaluation import (
    cosine_distance,
    evaluate,
    expected_alarms,
    identification,
    ranking,
    take_people_out,
)

# Tables of these tests are made at random, also without cameras.
pytestmark = pytest.mark.filterwarnings("ignore:.* have no camera")


def table(pids, camids):
    return ImageTable(Path("data"), ("x",) * len(pids), pids, camids)


def case(seed, levels=None, num_queries=40, num_gallery=90, dim=6):
    rng = np.random.default_rng(seed)
    if levels is None:
        features = [rng.normal(size=(n, dim)) for n in (num_queries, num_gallery)]
    else:
        features = [
            np.eye(dim)[rng.integers(levels, size=n)]
            for n in (num_queries, num_gallery)
        ]
    return (
        *(torch.tensor(f, dtype=torch.float32) for f in features),
        table(rng.integers(-2, 12, num_queries), rng.integers(-1, 3, num_queries)),
        table(rng.integers(-2, 8, num_gallery), rng.integers(-1, 3, num_gallery)),
    )


def naive(distance, query, gallery, threshold):
    """FPIR and DIR, one search at a time."""
    false, right = [], []
    for q in range(len(query)):
        if query.pids[q] <= 0:
            continue
        left = []
        for g in range(len(gallery)):
            same = query.pids[q] == gallery.pids[g]
            one_camera = query.camids[q] == gallery.camids[g] != -1
            if gallery.pids[g] in (-1, -2) or (same and one_camera):
                continue
            left.append((float(distance[q, g]), bool(same)))
        nearest, hit = min(left)  # of equal distances, another person comes first
        if any(same for _, same in left):
            right.append(hit and nearest <= threshold)
        else:
            false.append(nearest <= threshold)
    return np.mean(false), np.mean(right)


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("block", [1, 1 << 22])
@pytest.mark.parametrize("seed", range(4))
def test_rates_equal_a_loop_over_searches(monkeypatch, seed, block, levels):
    monkeypatch.setattr(ranking, "_BLOCK_CPU", block)
    features = case(seed, levels)
    searches = identification(*features)
    distance = cosine_distance(*features[:2])
    for threshold in (-1.0, 0.0, 0.05, 0.2, 0.5, 1.0, 3.0):
        expected = naive(distance, *features[2:], threshold)
        assert searches.rates(threshold) == pytest.approx(expected)


def test_the_rate_of_detection_ends_at_rank_one():
    query_features, gallery_features, query, gallery = case(0)
    searches = identification(query_features, gallery_features, query, gallery)
    known = query.pids > 0
    result = evaluate(query_features[known], gallery_features, query[known], gallery)
    assert searches.tpr_at(1.0) == pytest.approx(result.cmc[1])
    assert searches.num_negatives == result.num_unmatched
    assert searches.num_positives + searches.num_negatives == known.sum()


def test_people_are_taken_out_of_the_gallery_at_random():
    query, gallery = table([1, 2, 3, 4, 9, 0], [0] * 6), table(
        [1, 1, 2, 3, 4, 5, 0, -1], [1] * 8
    )  # fmt: skip
    kept = take_people_out(query, gallery, 0.5, seed=1)
    gone = set(gallery.pids[~kept].tolist())
    assert len(gone) == 2
    assert gone < {1, 2, 3, 4}
    assert not gone & set(gallery.pids[kept].tolist())
    assert kept[5:].all()  # nobody asks for them
    again = take_people_out(query, gallery, 0.5, seed=1)
    assert (again == kept).all()
    others = [take_people_out(query, gallery, 0.5, seed=seed) for seed in range(9)]
    assert len({mask.tobytes() for mask in others}) > 2


@pytest.mark.parametrize("share", [0.0, 1.0, 0.1, float("nan")])
def test_a_share_that_takes_nobody_or_everybody_is_refused(share):
    four = table([1, 2, 3, 4], [0] * 4)
    with pytest.raises(ReIDError, match="some stay and some go"):
        take_people_out(four, four, share)


def test_a_closed_set_is_refused():
    query, gallery = table([1, 2], [0, 0]), table([1, 2], [1, 1])
    with pytest.raises(ReIDError, match="2 of 2 searches have a match"):
        identification(torch.eye(2), torch.eye(2), query, gallery)
    with pytest.raises(ReIDError, match="0 of 1 searches have a match"):
        identification(torch.eye(2)[:1], torch.eye(2), table([7], [0]), gallery)


def test_base_rate():
    alarms = expected_alarms(0.001, 0.8, num_others=10_000, num_matches=2.5)
    assert alarms == pytest.approx((10.0, 2.0, 1 / 6))
    assert expected_alarms(0.001, 0.8, 1000, 0) == pytest.approx((1.0, 0.0, 0.0))
    assert np.isnan(expected_alarms(0.0, 0.0, 10, 1).precision)


def test_the_base_rate_is_the_mean_over_searches():
    # Counted in a gallery where every search has as many others and matches.
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(1, 9), 3)
    features = torch.tensor(rng.normal(size=(24, 4)), dtype=torch.float32)
    distance = cosine_distance(features, features).numpy()
    same = pids[:, None] == pids
    positives = distance[same & ~np.eye(24, dtype=bool)]
    fpr, tpr = (distance[~same] <= 0.4).mean(), (positives <= 0.4).mean()
    alarms = expected_alarms(fpr, tpr, num_others=21, num_matches=2)
    assert alarms.false == pytest.approx((~same & (distance <= 0.4)).sum() / 24)
    assert alarms.true == pytest.approx((positives <= 0.4).sum() / 24)


@pytest.mark.parametrize("bad", [(-0.1, 0, 1, 1), (0, 1.1, 1, 1), (0, 0, -1, 1)])
def test_impossible_rates_are_refused(bad):
    with pytest.raises(ReIDError, match=r"is -0\.1|is 1\.1|is -1"):
        expected_alarms(*bad)
