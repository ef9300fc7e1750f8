"""Pairs under the protocol, in blocks, sampled, and parted by people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reidlib.data.table import ImageTable
from reidlib.errors import ReIDError
from reidlib.evaluation import cosine_distance, pair_distances, ranking
from reidlib.evaluation import squared_euclidean_distance as squared

# Tables of these tests are made at random, also without cameras.
pytestmark = pytest.mark.filterwarnings("ignore:.* have no camera")


def table(pids, camids):
    return ImageTable(Path("data"), ("x",) * len(pids), pids, camids)


def case(seed=0, num_queries=20, num_gallery=60, people=6, dim=5):
    """Random features with junk, distractors, unknown people and cameras."""
    rng = np.random.default_rng(seed)
    query, gallery = (
        torch.tensor(rng.normal(size=(n, dim)), dtype=torch.float32)
        for n in (num_queries, num_gallery)
    )
    return (
        query,
        gallery,
        table(rng.integers(-2, people, num_queries), rng.integers(-1, 3, num_queries)),
        table(rng.integers(-2, people, num_gallery), rng.integers(-1, 3, num_gallery)),
    )


def naive(distance, query, gallery):
    """Every pair, one at a time: (query, gallery, positive, distance)."""
    pairs = set()
    for q in range(len(query)):
        for g in range(len(gallery)):
            if query.pids[q] <= 0 or gallery.pids[g] in (-1, -2):
                continue
            same = query.pids[q] == gallery.pids[g]
            one_camera = query.camids[q] == gallery.camids[g] != -1
            if not (same and one_camera):
                pairs.add((q, g, bool(same), float(distance[q, g])))
    return pairs


def as_set(pairs):
    columns = pairs.query, pairs.gallery, pairs.positive, pairs.distance
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    assert len(rows) == len(set(rows)) == len(pairs)
    return set(rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_pairs_equal_the_protocol_written_as_it_is_told(monkeypatch, seed, block):
    monkeypatch.setattr(ranking, "_BLOCK_CPU", block)
    query_features, gallery_features, query, gallery = case(seed)
    pairs = pair_distances(query_features, gallery_features, query, gallery)
    distance = cosine_distance(query_features, gallery_features)
    assert as_set(pairs) == naive(distance, query, gallery)
    assert pairs.distance.dtype == np.float32
    assert pairs.kept_share == 1.0
    assert len(pairs.positives) + len(pairs.negatives) == len(pairs)
    one = query.camids[pairs.query] == gallery.camids[pairs.gallery]
    known = query.camids[pairs.query] >= 0
    assert (pairs.same_camera == (one & known)).all()
    assert not pairs.same_camera[pairs.positive].any()


def test_the_length_of_features_counts_for_the_euclidean_distance_alone():
    query_features, gallery_features, query, gallery = case()
    pairs = pair_distances(
        query_features, gallery_features, query, gallery, distance="squared_euclidean"
    )
    distance = squared(query_features, gallery_features)
    assert as_set(pairs) == naive(distance, query, gallery)


def test_a_sample_keeps_all_positives_and_does_not_depend_on_blocks(monkeypatch):
    features = case(1, num_queries=60, num_gallery=300)
    whole = pair_distances(*features)
    part = pair_distances(*features, max_negatives=2000, seed=3)
    monkeypatch.setattr(ranking, "_BLOCK_CPU", 700)
    assert as_set(pair_distances(*features, max_negatives=2000, seed=3)) == as_set(part)
    assert as_set(part) < as_set(whole)
    assert len(part.positives) == len(whole.positives)
    share = len(part.negatives) / len(whole.negatives)
    spread = np.sqrt(part.kept_share / len(whole.negatives))
    assert part.kept_share < 0.5
    assert abs(share - part.kept_share) < 5 * spread
    other = pair_distances(*features, max_negatives=2000, seed=4)
    assert as_set(other) != as_set(part)
    # The false-match rate of a sample is that of all, within chance.
    limit = np.quantile(whole.negatives, 0.1)
    assert (part.negatives <= limit).mean() == pytest.approx(0.1, abs=0.04)


def test_rows_of_pairs_keep_their_columns():
    pairs = pair_distances(*case())
    near = pairs[pairs.distance < 0.5]
    assert as_set(near) == {row for row in as_set(pairs) if row[3] < 0.5}


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_split_parts_people_and_distractors(share):
    pairs = pair_distances(*case(2, 80, 300, people=20))
    first, second = pairs.split(share, seed=5)
    who = [set(np.concatenate(part.people).tolist()) for part in (first, second)]
    assert not who[0] & who[1]
    everybody = set(np.concatenate(pairs.people).tolist())
    for sign in (1, -1):
        total = sum(person * sign > 0 for person in everybody)
        chosen = sum(person * sign > 0 for person in who[0])
        assert chosen == pytest.approx(share * total, abs=1.01)
    # Nothing within a part is lost.
    for part, people in zip((first, second), who, strict=True):
        a, b = (np.isin(side, list(people)) for side in pairs.people)
        assert as_set(part) == as_set(pairs[a & b])
    again = pairs.split(share, seed=5)[0]
    assert as_set(again) == as_set(first)
    assert as_set(pairs.split(share, seed=6)[0]) != as_set(first)


def test_each_distractor_is_one_of_its_own():
    features = torch.eye(4)
    query, gallery = table([5, 5], [0, 1]), table([5, 0, 0, 5], [1, 0, 1, 0])
    pairs = pair_distances(features[:2], features, query, gallery)
    assert set(pairs.people[1].tolist()) == {5, -2, -3}
    assert set(pairs.people[0].tolist()) == {5}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_negatives": 0}, "max_negatives is 0"),
        ({"distance": "manhattan"}, "distance is 'manhattan'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ReIDError, match=message):
        pair_distances(*case(), **settings)


def test_data_without_labels_or_without_either_kind_of_pair_is_refused():
    features = torch.eye(2)
    ours, others = table([1, 1], [0, 1]), table([2, 2], [0, 1])
    with pytest.raises(ReIDError, match="none of the 2 queries of data has an ident"):
        pair_distances(features, features, table([-2, 0], [0, 1]), ours)
    with pytest.raises(ReIDError, match="0 positive and 4 negative pairs"):
        pair_distances(features, features, ours, others)
    with pytest.raises(ReIDError, match="2 positive and 0 negative pairs"):
        pair_distances(features, features, ours, ours)
    pairs = pair_distances(*case())
    with pytest.raises(ReIDError, match="share is 1"):
        pairs.split(1)
    two = table([1, 1, 2, 2], [0, 1, 0, 1])
    pairs = pair_distances(torch.eye(4), torch.eye(4), two, two)
    with pytest.raises(ReIDError, match=r"one part of a split of .* 0 negative"):
        pairs.split()


def test_nothing_is_sampled_as_long_as_all_negatives_may_be_kept():
    features = case(1, num_queries=60, num_gallery=300)
    whole = pair_distances(*features)
    number = len(whole.negatives)
    assert as_set(pair_distances(*features, max_negatives=number)) == as_set(whole)
    part = pair_distances(*features, max_negatives=number // 2)
    assert part.kept_share == number // 2 / number
