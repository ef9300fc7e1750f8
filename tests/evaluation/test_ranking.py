from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from reidlib.data.table import ImageTable
from reidlib.errors import ReIDError
from reidlib.evaluation import (
    cosine_distance,
    evaluate,
    identification,
    pair_distances,
    ranking,
    squared_euclidean_distance,
    top_matches,
)
from reidlib.evaluation.ranking import check_matches
from reidlib.evaluation.rerank import k_reciprocal_rerank

# Tables of these tests are made at random, also without cameras.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* have no camera"),
    pytest.mark.usefixtures("form"),
]


def table(pids, camids, name="x"):
    paths = tuple(f"{name}{i}" for i in range(len(pids)))
    return ImageTable(Path("data"), paths, np.array(pids), np.array(camids))


def naive(distance, query, gallery, ranks=(1, 5, 10), at=10, other_cameras=False):
    """The protocol, written as it is told, one query and one image at a time."""
    firsts, aps, inps, precisions, recalls = [], [], [], [], []
    for q in range(len(query)):
        left = []  # (distance, 0 for another person and 1 for a match)
        for g in range(len(gallery)):
            if gallery.pids[g] in (-1, -2):
                continue
            same = gallery.pids[g] == query.pids[q] and query.pids[q] > 0
            one_camera = gallery.camids[g] == query.camids[q] != -1
            if one_camera and (same or other_cameras):
                continue
            left.append((float(distance[q, g]), int(same)))
        left.sort()  # equal distances: other people first
        truth = [match for _, match in left]
        total = sum(truth)
        if total == 0:
            aps.append(np.nan)
            continue
        scores = [-value for value, _ in left]
        aps.append(average_precision_score(truth, scores))
        places = [place + 1 for place, match in enumerate(truth) if match]
        firsts.append(places[0])
        inps.append(total / places[-1])
        precisions.append(sum(truth[:at]) / at)
        recalls.append(sum(truth[:at]) / total)
    return {
        "ap": aps,
        "cmc": {k: np.mean([first <= k for first in firsts]) for k in ranks},
        "mAP": np.nanmean(aps),
        "mINP": np.mean(inps),
        "precision": np.mean(precisions),
        "recall": np.mean(recalls),
    }


def assert_equal(evaluation, expected):
    np.testing.assert_allclose(evaluation.ap, expected["ap"], rtol=0, atol=1e-12)
    assert evaluation.cmc == pytest.approx(expected["cmc"], rel=0, abs=1e-12)
    for name in ("mAP", "mINP", "precision", "recall"):
        assert getattr(evaluation, name) == pytest.approx(
            expected[name], rel=0, abs=1e-12
        )
    rows = np.flatnonzero(np.isnan(expected["ap"]))
    assert evaluation.unmatched.tolist() == rows.tolist()
    assert evaluation.num_unmatched == len(rows)


def case(seed, num_queries=12, num_gallery=40, dim=6, levels=None):
    """Random features, people, cameras; few ``levels`` make many ties."""
    rng = np.random.default_rng(seed)
    if levels is None:
        query, gallery = (rng.normal(size=(n, dim)) for n in (num_queries, num_gallery))
    else:
        query, gallery = (
            np.eye(dim)[rng.integers(levels, size=n)]
            for n in (num_queries, num_gallery)
        )
    return (
        torch.tensor(query, dtype=torch.float32),
        torch.tensor(gallery, dtype=torch.float32),
        table(rng.integers(1, 8, num_queries), rng.integers(-1, 3, num_queries), "q"),
        table(rng.integers(-2, 8, num_gallery), rng.integers(-1, 3, num_gallery), "g"),
    )


def line(pids, camids, values):
    """Features of length 1 whose distance from (1, 0) grows with ``values``."""
    angles = torch.tensor(values)
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    return features, table(pids, camids, "g")


QUERY = torch.tensor([[1.0, 0.0]]), table([7], [0], "q")


def test_five_images_by_hand():
    # In order: same person and camera (left out), miss, match, distractor, match, junk.
    features, gallery = line(
        [7, 3, 7, 0, 7, -1], [0, 1, 1, 2, 2, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.05]
    )
    result = evaluate(QUERY[0], features, QUERY[1], gallery, ranks=(1, 2), at=3)
    assert result.cmc == {1: 0.0, 2: 1.0}
    assert result.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert result.mINP == pytest.approx(2 / 4)
    assert result.precision == pytest.approx(1 / 3)
    assert result.recall == pytest.approx(1 / 2)
    assert (result.num_queries, result.num_unmatched, result.at) == (1, 0, 3)


def test_perfect_and_worst_ranking():
    pids, camids = [7, 7, 3, 3, 3], [1, 2, 1, 1, 2]
    features, gallery = line(pids, camids, [0.1, 0.2, 0.3, 0.4, 0.5])
    best = evaluate(QUERY[0], features, QUERY[1], gallery)
    assert (best.cmc[1], best.mAP, best.mINP, best.recall) == (1, 1, 1, 1)
    features, gallery = line(pids, camids, [0.5, 0.4, 0.3, 0.2, 0.1])
    worst = evaluate(QUERY[0], features, QUERY[1], gallery)
    assert worst.cmc == {1: 0, 5: 1, 10: 1}
    assert worst.mAP == pytest.approx((1 / 4 + 2 / 5) / 2)
    assert worst.mINP == pytest.approx(2 / 5)


@pytest.mark.parametrize("distance", ["cosine", "squared_euclidean"])
@pytest.mark.parametrize("noise", [0, 1e-8, 1e-7, 1e-6])
def test_near_ties_are_told_apart_exactly(noise, distance):
    """Among copies of few images, off by about the rounding of a float32 product."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(9, 96))

    def near_copies(num):
        features = images[rng.integers(9, size=num)] + noise * rng.normal(
            size=(num, 96)
        )
        return torch.tensor(features, dtype=torch.float32)

    _, _, query, gallery = case(0, 40, 300)
    features = near_copies(40), near_copies(300)
    measure = {"cosine": cosine_distance}.get(distance, squared_euclidean_distance)
    dense = measure(*features)
    result = evaluate(*features, query, gallery, distance=distance)
    assert_equal(result, naive(dense, query, gallery))
    index, _ = top_matches(*features, query, gallery, k=12, distance=distance)
    for q, row in enumerate(index):
        same = (gallery.pids == query.pids[q]) & (gallery.camids == query.camids[q])
        left = (gallery.pids >= 0) & ~(same & (gallery.camids >= 0))
        order = np.argsort(dense[q].numpy(), kind="stable")
        assert row.tolist() == order[left[order]][:12].tolist()


@pytest.mark.parametrize("levels", [None, 4, 1])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_naive_protocol(seed, levels):
    query_features, gallery_features, query, gallery = case(seed, levels=levels)
    result = evaluate(query_features, gallery_features, query, gallery, at=5)
    distance = cosine_distance(query_features, gallery_features)
    assert_equal(result, naive(distance, query, gallery, at=5))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    num_queries=st.integers(1, 6),
    num_gallery=st.integers(1, 15),
    levels=st.sampled_from([None, 1, 2, 3]),
    block=st.sampled_from([1, 20, 1 << 20]),
    tile=st.sampled_from([1, 4, 4096]),
)
def test_equals_the_naive_protocol_on_any_case(
    form, seed, num_queries, num_gallery, levels, block, tile
):
    query_features, gallery_features, query, gallery = case(
        seed, num_queries, num_gallery, dim=3, levels=levels
    )
    distance = cosine_distance(query_features, gallery_features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_BLOCK_CPU", block)
        patch.setattr(ranking, "_TILE", tile)
        try:
            result = evaluate(query_features, gallery_features, query, gallery)
        except ReIDError:
            # Right only where nobody has a match.
            pairs = (query.pids[:, None] == gallery.pids) & (gallery.pids > 0)
            cameras = (query.camids[:, None] == gallery.camids) & (gallery.camids >= 0)
            assert not (pairs & ~cameras).any()
            return
        assert_equal(result, naive(distance, query, gallery))


@pytest.mark.parametrize("levels", [None, 3])
def test_one_camera_can_be_left_out_as_a_whole(levels):
    queries, others, query, gallery = case(3, levels=levels)
    distance = cosine_distance(queries, others)
    wanted = naive(distance, query, gallery, other_cameras=True)
    found = evaluate(queries, others, query, gallery, other_cameras=True)
    assert_equal(found, wanted)
    assert found.mAP != evaluate(queries, others, query, gallery).mAP
    index = top_matches(queries, others, query, gallery, 40, other_cameras=True)[0]
    for q, row in enumerate(index):
        known = query.camids[q] != -1
        shown = row[row >= 0]
        assert not (known & (gallery.camids[shown] == query.camids[q])).any()
        left = (gallery.pids >= 0) & ~(known & (gallery.camids == query.camids[q]))
        assert len(shown) == left.sum()


@pytest.mark.parametrize("settings", [{}, {"other_cameras": True}, {"rerank": {}}])
def test_blocks_and_tiles_change_nothing(monkeypatch, form, settings):
    data = case(3)
    whole = evaluate(*data, **settings)
    monkeypatch.setattr(ranking, "_BLOCK_CPU", 40 * 5)
    monkeypatch.setattr(ranking, "_TILE", 7)
    parts = evaluate(*data, **settings)
    assert parts.as_dict() == whole.as_dict()
    np.testing.assert_array_equal(parts.ap, whole.ap)


def test_order_and_length_do_not_matter():
    query_features, gallery_features, query, gallery = case(4)
    expected = evaluate(query_features, gallery_features, query, gallery)
    order = np.random.default_rng(0).permutation(len(gallery))
    features = 7 * gallery_features[order]
    other = evaluate(query_features, features, query, gallery[order])
    assert other.as_dict() == expected.as_dict()
    rows = np.arange(len(query))[::-1].copy()
    arrays = query_features[rows].numpy(), gallery_features.numpy()
    other = evaluate(*arrays, query[rows], gallery)
    np.testing.assert_allclose(other.ap[::-1], expected.ap)
    assert other.cmc == expected.cmc


def test_squared_euclidean_ranks_by_length_too():
    query_features, gallery_features, query, gallery = case(5)
    result = evaluate(
        query_features, gallery_features, query, gallery, distance="squared_euclidean"
    )
    distance = torch.cdist(query_features.double(), gallery_features.double())
    assert_equal(result, naive(distance, query, gallery))
    cosine = evaluate(query_features, gallery_features, query, gallery)
    assert result.mAP != cosine.mAP
    unit = [
        torch.nn.functional.normalize(f) for f in (query_features, gallery_features)
    ]
    assert evaluate(
        *unit, query, gallery, distance="squared_euclidean"
    ).mAP == pytest.approx(cosine.mAP)


@pytest.mark.parametrize("dim", [3, 257, 2048])
def test_a_constant_feature_gains_nothing(dim):
    """All images alike: AP is the share of matches, and no match comes early."""
    _, _, query, gallery = case(6, num_queries=37, num_gallery=301)
    feature = torch.randn(1, dim, generator=torch.Generator().manual_seed(0))
    result = evaluate(feature.repeat(37, 1), feature.repeat(301, 1), query, gallery)
    assert result.cmc == {1: 0, 5: 0, 10: 0}
    assert result.precision == result.recall == 0
    valid = (gallery.pids >= 0) & ~(
        (gallery.pids == query.pids[0])
        & (gallery.camids == query.camids[0])
        & (gallery.camids >= 0)
    )
    share = (gallery.pids == query.pids[0])[valid].mean()
    assert result.ap[0] == pytest.approx(share)


def test_more_junk_changes_nothing_and_more_distractors_only_hurt():
    query_features, gallery_features, query, gallery = case(7)
    before = evaluate(query_features, gallery_features, query, gallery)
    extra = query_features[:5] + 0.01
    features = torch.cat([gallery_features, extra])

    def with_extra(pid):
        pids = np.concatenate([gallery.pids, np.full(5, pid)])
        more = table(pids, np.concatenate([gallery.camids, np.zeros(5, int)]))
        return evaluate(query_features, features, query, more)

    assert with_extra(-1).as_dict() == before.as_dict()
    assert with_extra(-2).as_dict() == before.as_dict()
    worse = with_extra(0)
    assert worse.mAP < before.mAP
    assert worse.cmc[1] <= before.cmc[1]


def test_unknown_cameras_count_as_different():
    features, gallery = line([7, 3], [-1, 0], [0.1, 0.2])
    assert evaluate(QUERY[0], features, QUERY[1], gallery).mAP == 1
    no_camera = table([7], [-1])
    features, gallery = line([7, 3], [0, 0], [0.1, 0.2])
    assert evaluate(QUERY[0], features, no_camera, gallery).mAP == 1


def test_unmatched_queries_are_named_and_left_out():
    features, gallery = line([7, 3, 3], [1, 1, 0], [0.1, 0.2, 0.3])
    # Matched; not in the gallery; only under its own camera; junk; distractor; unknown.
    query = table([7, 9, 7, -1, 0, -2], [0, 0, 1, 0, 0, 0])
    result = evaluate(QUERY[0].repeat(6, 1), features, query, gallery)
    assert result.unmatched.tolist() == [1, 2, 3, 4, 5]
    assert (result.num_queries, result.num_unmatched) == (6, 5)
    assert result.mAP == result.cmc[1] == 1
    assert np.isnan(result.ap).tolist() == [False] + [True] * 5


def test_as_dict_is_json():
    written = json.loads(json.dumps(evaluate(*case(8), ranks=(1, 20)).as_dict()))
    assert set(written["cmc"]) == {"1", "20"}
    assert 0 < written["mAP"] < 1
    assert written["num_queries"] == 12


def test_top_matches_are_the_filtered_ranking():
    query_features, gallery_features, query, gallery = case(9)
    index, hits = top_matches(query_features, gallery_features, query, gallery, k=40)
    distance = cosine_distance(query_features, gallery_features).numpy()
    for q in range(len(query)):
        keep = gallery.pids >= 0
        same = gallery.pids == query.pids[q]
        keep &= ~(same & (gallery.camids == query.camids[q]) & (gallery.camids >= 0))
        order = np.argsort(distance[q])
        expected = order[keep[order]]
        assert index[q, : len(expected)].tolist() == expected.tolist()
        assert (index[q, len(expected) :] == -1).all()
        assert hits[q, : len(expected)].tolist() == same[expected].tolist()
        assert not hits[q, len(expected) :].any()
    few, few_hits = top_matches(query_features, gallery_features, query, gallery, k=3)
    np.testing.assert_array_equal(few, index[:, :3])
    np.testing.assert_array_equal(few_hits, hits[:, :3])
    first = evaluate(query_features, gallery_features, query, gallery).cmc[1]
    matched = [i for i in range(len(query)) if hits[i].any()]
    assert few_hits[matched, 0].mean() == pytest.approx(first)


def test_top_matches_show_queries_without_a_match_too():
    features, gallery = line([3, 0], [1, 1], [0.1, 0.2])
    query = table([0], [0])
    index, hits = top_matches(QUERY[0], features, query, gallery, k=3)
    assert index.tolist() == [[0, 1, -1]]
    assert not hits.any()


def test_rerank_is_ranked_by_its_distance():
    query_features, gallery_features, query, gallery = case(10)
    kept = gallery.pids >= 0
    distance = torch.full((12, 40), torch.inf)
    distance[:, kept] = k_reciprocal_rerank(
        query_features, gallery_features[kept], k1=5, k2=2, lambda_value=0.4
    )
    setting = {"k1": 5, "k2": 2, "lambda_value": 0.4}
    result = evaluate(query_features, gallery_features, query, gallery, rerank=setting)
    assert_equal(result, naive(distance, query, gallery))
    plain = evaluate(query_features, gallery_features, query, gallery)
    assert result.mAP != plain.mAP


def refused(message, **changes):
    names = ("query_features", "gallery_features", "query", "gallery")
    arguments = {**dict(zip(names, case(0), strict=True)), **changes}
    with pytest.raises(ReIDError, match=message) as info:
        evaluate(**arguments)
    assert "\n" not in str(info.value)


def test_halves_and_strides_are_taken():
    query_features, gallery_features, query, gallery = case(11, dim=8)
    pair = query_features.half(), gallery_features.half()
    wanted = evaluate(*(part.float() for part in pair), query, gallery)
    wide = torch.zeros(40, 16, dtype=torch.float16)
    wide[:, ::2] = pair[1]
    for same in (pair[1], wide[:, ::2], pair[1].numpy(), pair[1].T.contiguous().T):
        found = evaluate(pair[0], same, query, gallery)
        np.testing.assert_allclose(found.ap, wanted.ap, atol=1e-12)
        index, _ = top_matches(pair[0], same, query, gallery)
        assert index.shape == (12, 10)


def test_bad_features_are_refused():
    query_features, gallery_features, query, gallery = case(0)
    broken = gallery_features.clone()
    broken[3, 1] = torch.nan
    refused("gallery features of 1 of 40 images .* row 3", gallery_features=broken)
    refused(
        "query features of 12 of 12 images", query_features=query_features * torch.inf
    )
    refused(
        "6 dimensions and gallery features 5", gallery_features=gallery_features[:, :5]
    )
    refused("11 query features for 12 images", query_features=query_features[1:])
    refused("39 gallery features for 40 images", gallery_features=gallery_features[1:])
    refused(r"shape \(40, 0\)", gallery_features=gallery_features[:, :0])
    empty = slice(0)
    refused(
        "the query of data is empty",
        query_features=query_features[empty],
        query=query[empty],
    )
    refused(
        "the gallery of data is empty",
        gallery_features=gallery_features[empty],
        gallery=gallery[empty],
    )


def test_bad_settings_are_refused():
    refused("distance is 'hamming'; choose from", distance="hamming")
    refused("a rank is 0; give a whole number from 1 up", ranks=(0, 5))
    refused(r"a rank is .*1\.5.*; give a whole", ranks=np.array([1.5, 5]))
    refused("at is 0; give", at=0)
    refused("there are no ranks", ranks=np.array([]))
    refused("setting of rerank is 'k3'; choose from k1, k2", rerank={"k3": 1})
    refused("rerank is True; give {'k1': 20, 'k2': 6, ", rerank=True)
    refused("k1 is -1", rerank={"k1": -1})
    with pytest.raises(ReIDError, match="k is 0"):
        top_matches(*case(0), k=0)


def test_no_match_at_all_says_why():
    gallery = table(np.arange(1, 41), np.zeros(40, int), "g")
    refused(
        "no query identity appears in the gallery .*instance 91.*same person ids",
        query=table(np.full(12, 91), np.ones(12, int)),
        gallery=gallery,
    )
    refused(
        "the 12 whose person appears there, .* 'q0' with person 1, share the camera",
        query=table(np.arange(1, 13), np.zeros(12, int), "q"),
        gallery=gallery,
    )
    refused("no query has an identity", query=table(np.full(12, -2), np.zeros(12, int)))
    refused("all 40 gallery images", gallery=table(np.full(40, -1), np.zeros(40, int)))


def test_unknown_cameras_are_counted_and_said():
    features, gallery = line(
        [7, 3, 7, 0, -1], [-1, 1, 1, -1, -1], [0.1, 0.2, 0.3, 1, 1]
    )
    other = line([7, 3, 7, 0, -1], [0, 1, 1, -1, -1], [0.1, 0.2, 0.3, 1, 1])[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # junk and distractors are no matches anyway
        known = evaluate(QUERY[0], features, QUERY[1], other)
    assert known.num_without_camera == known.as_dict()["num_without_camera"] == 0
    with pytest.warns(
        UserWarning, match="^1 images of query and gallery have no camera"
    ):
        unknown = evaluate(QUERY[0], features, QUERY[1], gallery)
    assert unknown.as_dict()["num_without_camera"] == 1
    assert unknown.mAP > known.mAP
    searches = torch.cat([QUERY[0]] * 2), features, table([7, 8], [0, 0], "q"), gallery
    for score in (evaluate, pair_distances, identification):
        with pytest.warns(
            UserWarning, match="1 images .* so the scores may be too high"
        ):
            score(*searches)


def test_whoever_has_no_identity_is_shown_what_is_near():
    features, gallery = line([-2, -1, 3, -2], [1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4])
    index, hits = top_matches(QUERY[0], features, table([-2], [0], "q"), gallery, k=4)
    assert index.tolist() == [[0, 2, 3, -1]]
    assert not hits.any()
    # A query with an identity is ranked as the protocol says.
    index, _ = top_matches(QUERY[0], features, QUERY[1], gallery, k=4)
    assert index.tolist() == [[2, -1, -1, -1]]


@pytest.mark.parametrize(
    ("query", "gallery", "reason"),
    [
        (([-2, -2], [0, 1]), ([7, 8], [0, 1]), "no query has an identity"),
        (
            ([7, 8], [0, 1]),
            ([3, -2], [0, 1]),
            "no query identity appears in the gallery",
        ),
        (([7, 8], [0, 1]), ([7, 8], [0, 1]), "share the camera with all images"),
        (([7, 8], [0, 1]), ([7, 8], [0, -1]), ""),
    ],
)
def test_matches_are_looked_for_before_features_are_there(query, gallery, reason):
    if not reason:
        return check_matches(table(*query), table(*gallery))
    with pytest.raises(ReIDError, match=reason):
        check_matches(table(*query), table(*gallery))
