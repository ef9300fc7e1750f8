"""CMC, mAP and their kin against the protocol written as a loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from reidlib.data.table import DISTRACTOR, JUNK, NO_CAMERA, UNKNOWN, ImageTable
from reidlib.errors import ReIDError
from reidlib.evaluation import evaluate

SCORES = ("mAP", "mINP", "precision", "recall")


def table(pids, camids) -> ImageTable:
    return ImageTable(Path("x"), [f"{i}.jpg" for i in range(len(pids))], pids, camids)


def on_a_line(*places: float) -> np.ndarray:
    """Features whose squared Euclidean distance to 0 is the square of the place."""
    return np.array(places, dtype=np.float32)[:, None]


def random_case(seed, num_query=20, num_gallery=60, num_pids=6, levels=None):
    """Features and tables with junk, distractors, unknown people and cameras.

    ``levels`` draws whole numbers below it: few of them make many ties.
    """
    rng = np.random.default_rng(seed)

    def features(rows):
        if levels is None:
            return rng.normal(size=(rows, 4)).astype(np.float32)
        return rng.integers(0, levels, size=(rows, 2)).astype(np.float32)

    def people(rows):
        return table(
            rng.integers(UNKNOWN, num_pids, rows), rng.integers(NO_CAMERA, 3, rows)
        )

    return (
        features(num_query),
        features(num_gallery),
        people(num_query),
        people(num_gallery),
    )


def naive(query_features, gallery_features, query, gallery, ranks=(1, 5, 10), at=10):
    """The protocol, one query and one gallery image at a time."""
    cmc = {rank: [] for rank in ranks}
    scores = {name: [] for name in SCORES}
    every_ap, unmatched = [], []
    for q in range(len(query)):
        ranked = []
        for g in range(len(gallery)):
            if gallery.pids[g] in (JUNK, UNKNOWN):
                continue
            same_pid = query.pids[q] == gallery.pids[g]
            same_cam = query.camids[q] == gallery.camids[g] != NO_CAMERA
            if same_pid and same_cam and query.pids[q] > DISTRACTOR:
                continue
            match = bool(same_pid) and query.pids[q] > DISTRACTOR
            difference = query_features[q] - gallery_features[g]
            ranked.append((float((difference.astype(np.float64) ** 2).sum()), match))
        ranked.sort()  # False before True: at equal distances, matches last
        matches = [match for _, match in ranked]
        if not any(matches):
            every_ap.append(np.nan)
            unmatched.append(q)
            continue
        places = [place for place, match in enumerate(matches, 1) if match]
        every_ap.append(
            average_precision_score(matches, [-distance for distance, _ in ranked])
        )
        scores["mAP"].append(every_ap[-1])
        scores["mINP"].append(len(places) / places[-1])
        scores["precision"].append(sum(place <= at for place in places) / at)
        scores["recall"].append(sum(place <= at for place in places) / len(places))
        for rank in ranks:
            cmc[rank].append(places[0] <= rank)
    return (
        {rank: np.mean(found) for rank, found in cmc.items()},
        {name: np.mean(values) for name, values in scores.items()},
        np.array(every_ap),
        unmatched,
    )


def assert_same(got, case, **options):
    cmc, scores, every_ap, unmatched = naive(*case, **options)
    assert got.cmc == pytest.approx(cmc)
    for name in SCORES:
        assert getattr(got, name) == pytest.approx(scores[name]), name
    np.testing.assert_allclose(got.ap, every_ap, rtol=1e-12)
    assert got.unmatched.tolist() == unmatched
    assert got.num_unmatched == len(unmatched)
    assert got.num_queries == len(case[2])


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_gallery=st.integers(5, 80),
    num_pids=st.integers(2, 8),
    levels=st.sampled_from([None, 1, 2, 5]),
    at=st.integers(1, 30),
)
def test_evaluate_is_the_protocol_written_as_a_loop(
    seed, num_gallery, num_pids, levels, at
):
    case = random_case(seed, 12, num_gallery, num_pids, levels)
    options = {"ranks": (1, 2, 7), "at": at}
    if len(naive(*case, **options)[3]) == len(case[2]):
        with pytest.raises(ReIDError, match="none of the 12 queries"):
            evaluate(*case, distance="squared_euclidean", **options)
    else:
        got = evaluate(*case, distance="squared_euclidean", **options)
        assert_same(got, case, **options)
