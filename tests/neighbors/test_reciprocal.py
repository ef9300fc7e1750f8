from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from reidlib.neighbors import (
    device,
    expanded_sets,
    half_size,
    jaccard_from_overlap,
    kernels,
    overlaps,
    ranking_with_self,
    reciprocal_weights,
    sparse_jaccard,
    squared_distances,
)

pytestmark = pytest.mark.usefixtures("form")


def people(n: int = 90, persons: int = 9, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(persons, 16, generator=generator)
    jitter = torch.randn(n, 16, generator=generator)
    return normalize(centers[torch.arange(n) % persons] + 0.7 * jitter, dim=1)


def random_weights(seed: int, rows: int = 23, cols: int = 23) -> sp.csr_matrix:
    """Rows that sum to 1, about a quarter of them filled."""
    rng = np.random.default_rng(seed)
    dense = rng.random((rows, cols)) * (rng.random((rows, cols)) < 0.25)
    dense[np.arange(rows), np.arange(rows) % cols] += 0.1
    return sp.csr_matrix(dense / dense.sum(axis=1, keepdims=True))


def naive_sets(ranking: np.ndarray, half: int) -> list[set[int]]:
    """The expanded sets, from their definition."""

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in ranking[i, :k] if i in ranking[j, :k]}

    result = []
    for i in range(len(ranking)):
        first = reciprocal(i, ranking.shape[1])
        members = set(first)
        for candidate in first:
            theirs = reciprocal(candidate, half)
            if len(theirs & first) / len(theirs) > 2 / 3:
                members |= theirs
        result.append(members)
    return result


@pytest.mark.parametrize(("k1", "k2"), [(12, 4), (5, 1), (1, 1), (90, 6)])
@pytest.mark.parametrize("limit", [0.6, 1.0])
@pytest.mark.parametrize("terms", [1, 1 << 24])
def test_sorts_on_a_device_find_what_rows_find(
    k1: int, k2: int, limit: float, terms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_TERMS", terms)
    features = people(seed=k1)[torch.arange(90) % 83]  # with some copies
    ranking = ranking_with_self(features, k1)
    weights = reciprocal_weights(features, ranking, half_size(k1), k2)
    wanted = sparse_jaccard(weights, limit)
    neighbors = torch.from_numpy(ranking)
    found = device.device_jaccard(features, neighbors, half_size(k1), k2, limit)
    np.testing.assert_array_equal(found.indptr, wanted.indptr)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.data, wanted.data)


def test_halves_are_rounded_to_the_even_number() -> None:
    # As published for k1 = 30 and 15; 2.5 is rounded to 2.
    sizes = {k1: half_size(k1) for k1 in (30, 15, 5, 2, 1)}
    assert sizes == {30: 16, 15: 9, 5: 3, 2: 2, 1: 1}


@pytest.mark.parametrize("size", [1, 2, 7, 90])
def test_a_ranking_begins_with_the_image_itself(size: int) -> None:
    features = people()
    ranking = ranking_with_self(features, size)
    similarity = (features @ features.T).fill_diagonal_(2)
    wanted = similarity.argsort(descending=True)[:, :size]
    np.testing.assert_array_equal(ranking, wanted)


def test_copies_of_an_image_come_after_the_image_itself() -> None:
    ranking = ranking_with_self(torch.eye(3)[[0, 0, 0, 1]], 3)
    assert ranking[:3].tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]


@pytest.mark.parametrize(("size", "half"), [(20, 11), (9, 5), (9, 9), (3, 2), (1, 1)])
def test_sets_are_those_of_a_loop(size: int, half: int) -> None:
    ranking = ranking_with_self(people(), size)
    sets = expanded_sets(ranking, half)
    wanted = naive_sets(ranking, half)
    assert [set(row.indices) for row in sets] == wanted
    assert size == 1 or max(map(len, wanted)) > 1


def test_expansion_needs_more_than_two_thirds() -> None:
    ranking = np.array([[0, 1, 4], [1, 0, 2], [2, 1, 3], [3, 2, 4], [4, 3, 0]])
    # A ring: with three columns each image has both ring neighbours as mutual ones, and
    # the set of each neighbour shares exactly two of its three members: nothing joins.
    ring = expanded_sets(ranking, 3).toarray() > 0
    wanted = np.zeros((5, 5), dtype=bool)
    for i in range(5):
        wanted[i, [i, (i + 1) % 5, (i - 1) % 5]] = True
    np.testing.assert_array_equal(ring, wanted)


def test_distances_of_pairs_do_not_depend_on_their_place() -> None:
    vectors = people(40).numpy()
    rows, others = (np.random.default_rng(s).integers(0, 40, 9000) for s in (0, 1))
    distance = squared_distances(torch.from_numpy(vectors), rows, others)
    exact = ((vectors[rows].astype(float) - vectors[others]) ** 2).sum(axis=1)
    np.testing.assert_allclose(distance, exact, atol=1e-6)
    table = np.full((40, 40), np.nan)
    table[rows, others] = distance
    np.testing.assert_array_equal(table[rows, others], distance)


@pytest.mark.parametrize("relative", [False, True])
def test_weights_are_averaged_softmaxes(relative: bool) -> None:
    features = people()
    ranking = ranking_with_self(features, 9)
    squared = torch.cdist(features.double(), features.double()).square().numpy()
    scale = squared.max(axis=1) if relative else np.ones(90)
    rows = np.zeros((90, 90))
    for i, members in enumerate(naive_sets(ranking, 5)):
        cols = sorted(members)
        exponent = -squared[i, cols] / scale[i]
        rows[i, cols] = np.exp(exponent) / np.exp(exponent).sum()
    wanted = np.stack([rows[ranking[i, :4]].mean(axis=0) for i in range(90)])
    weights = reciprocal_weights(features, ranking, 5, 4, scale if relative else None)
    np.testing.assert_allclose(weights.toarray(), wanted, atol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights.has_sorted_indices


@given(seed=st.integers(0, 10**6), size=st.integers(1, 23))
@settings(max_examples=20, deadline=None)
def test_overlaps_are_sums_of_minima(seed: int, size: int) -> None:
    ours, theirs = random_weights(seed), random_weights(seed + 1, rows=size)
    found = overlaps(ours[:7], theirs.tocsc())
    v, w = ours[:7].toarray(), theirs.toarray()
    wanted = [[sum(map(min, one, other)) for other in w] for one in v]
    np.testing.assert_allclose(found, wanted)


def test_columns_can_be_read_from_a_row_on() -> None:
    rows, columns = random_weights(1), random_weights(0).tocsc()
    before = [(columns[:, [k]].indices < 9).sum() for k in range(23)]
    whole = overlaps(rows, columns)
    part = overlaps(rows, columns, columns.indptr[:-1] + np.array(before))
    assert not part[:, :9].any()
    np.testing.assert_array_equal(part[:, 9:], whole[:, 9:])


def test_the_distance_is_that_of_sets_where_weights_are_equal() -> None:
    # Rows of weight 1/4 on four columns each: 1 - |A and B| / |A or B|.
    sets = [{0, 1, 2, 3}, {2, 3, 4, 5}, {6, 7, 8, 9}]
    v = np.array([[0.25 * (k in s) for k in range(10)] for s in sets])
    overlap = overlaps(sp.csr_matrix(v), sp.csc_matrix(v))
    wanted = [[1 - len(a & b) / len(a | b) for b in sets] for a in sets]
    np.testing.assert_allclose(jaccard_from_overlap(overlap), wanted, atol=1e-7)


def test_the_sparse_distance_is_that_of_all_pairs() -> None:
    weights = random_weights(2)
    v = weights.toarray()
    shared = np.minimum(v[:, None], v[None]).sum(axis=2)
    distance = sparse_jaccard(weights)
    pairs = distance.tocoo()
    stored = np.zeros((23, 23), dtype=bool)
    stored[pairs.row, pairs.col] = True
    np.testing.assert_array_equal(stored, shared > 0)
    full = np.where(stored, distance.toarray(), 1)
    np.testing.assert_allclose(full, 1 - shared / (2 - shared), atol=1e-6)
    np.testing.assert_array_equal(full, full.T)
    assert distance.has_sorted_indices
    assert distance.nnz == stored.sum() < 23 * 23


@pytest.mark.parametrize("limit", [0.3, 0.6, 0.9])
def test_a_largest_distance_leaves_out_what_is_beyond(limit: float) -> None:
    weights = random_weights(3)
    whole, part = sparse_jaccard(weights), sparse_jaccard(weights, limit)
    wanted = np.where(whole.data <= np.float32(limit), whole.data, np.nan)
    kept = ~np.isnan(wanted)
    np.testing.assert_array_equal(part.data, wanted[kept])
    np.testing.assert_array_equal(part.indices, whole.indices[kept])
    assert 0 < part.nnz < whole.nnz


@pytest.mark.parametrize("seed", range(4))
def test_kernels_compute_what_arrays_compute(
    form: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = people(seed=seed)[torch.arange(90) % (80 + seed)]  # with some copies
    ranking = ranking_with_self(features, 12)
    weights = reciprocal_weights(features, ranking, 7, 4)
    distance = sparse_jaccard(weights, 0.7)
    monkeypatch.setattr(kernels, "SMALLEST", 10**9)
    np.testing.assert_array_equal(ranking, ranking_with_self(features, 12))
    others = reciprocal_weights(features, ranking, 7, 4)
    for ours, theirs in ((weights, others), (distance, sparse_jaccard(others, 0.7))):
        np.testing.assert_array_equal(ours.indptr, theirs.indptr)
        np.testing.assert_array_equal(ours.indices, theirs.indices)
        np.testing.assert_array_equal(ours.data, theirs.data)


@pytest.mark.parametrize("form", ["compiled"], indirect=True)
def test_without_numba_arrays_do_the_work() -> None:
    script = """
import sys
sys.modules["numba"] = None  # as if it were not installed
import torch
from reidlib.clustering import dbscan, jaccard_distance
from reidlib.neighbors import kernels
assert not kernels.is_wanted(10**9)
points = torch.eye(300).repeat(4, 1)
assert dbscan(jaccard_distance(points, 4, 2, max_distance=0.6), 0.6).max() == 299
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
