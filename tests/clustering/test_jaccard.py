from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN
from torch.nn.functional import normalize

from reidlib.clustering import dbscan, dense_distance, jaccard_distance
from reidlib.errors import ReIDError
from reidlib.neighbors import reciprocal, search

pytestmark = pytest.mark.usefixtures("form")


def people(n: int, persons: int, noise: float = 0.6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(persons, 24, generator=generator)
    jitter = torch.randn(n, 24, generator=generator)
    return normalize(centers[torch.arange(n) % persons] + noise * jitter, dim=1)


def naive(features: torch.Tensor, k1: int, k2: int) -> np.ndarray:
    """The distance from its definition: sets, loops and a dense matrix."""
    vectors = features.double().numpy()
    n = len(vectors)
    similarity = (vectors @ vectors.T).astype(np.float32)
    ranking = [
        [i, *sorted((j for j in range(n) if j != i), key=lambda j: (-row[j], j))]
        for i, row in enumerate(similarity)
    ]

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in ranking[i][:k] if i in ranking[j][:k]}

    half = min(k1, round(k1 / 2) + 1)
    v = np.zeros((n, n))
    for i in range(n):
        first = reciprocal(i, k1)
        members = set(first)
        for candidate in first:
            their = reciprocal(candidate, half)
            if len(their & first) / len(their) > 2 / 3:
                members |= their
        cols = sorted(members)
        squared = ((vectors[i] - vectors[cols]) ** 2).sum(axis=1)
        v[i, cols] = np.exp(-squared) / np.exp(-squared).sum()
    v = np.stack([v[ranking[i][:k2]].mean(axis=0) for i in range(n)])
    distance = np.ones((n, n))
    for i in range(n):
        for j in range(n):
            shared = np.minimum(v[i], v[j]).sum()
            distance[i, j] = max(0.0, 1 - shared / (2 - shared))
    return distance


@pytest.mark.parametrize(
    ("k1", "k2"), [(30, 6), (15, 4), (20, 6), (5, 5), (3, 1), (2, 2), (1, 1)]
)
def test_sparse_equals_dense(k1: int, k2: int) -> None:
    features = people(200, 13)
    sparse = jaccard_distance(features, k1, k2)
    np.testing.assert_allclose(
        dense_distance(sparse), naive(features, k1, k2), atol=2e-6
    )


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    copies=st.integers(1, 8),
    noise=st.sampled_from([0.0, 0.3, 0.8, 2.0]),
    eps=st.sampled_from([0.3, 0.5, 0.6, 0.7, 0.95, 1.0]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_labels_are_those_of_the_dense_distance(
    form: str, seed: int, n: int, copies: int, noise: float, eps: float
) -> None:
    k1, k2 = 3 + seed % 9, 1 + seed % 3
    features = people(n, max(1, n // 7), noise, seed)[torch.arange(n) // copies]
    dense = naive(features, min(k1, n), min(k2, n))
    # A distance that is eps but for rounding is compared in float32.
    model = DBSCAN(eps=float(np.float32(eps)), min_samples=3, metric="precomputed")
    wanted = model.fit(dense.astype(np.float32)).labels_
    sparse = jaccard_distance(features, k1, k2, max_distance=eps)
    np.testing.assert_array_equal(dbscan(sparse, eps, 3), wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("copies", [1, 4])
def test_a_gpu_finds_the_labels_of_the_cpu(copies: int) -> None:
    features = people(1500, 90)[torch.arange(1500) // copies]
    ours = jaccard_distance(features, max_distance=0.6)
    theirs = jaccard_distance(features.cuda(), max_distance=0.6)
    np.testing.assert_array_equal(theirs.indices, ours.indices)
    np.testing.assert_allclose(theirs.data, ours.data, atol=1e-6)
    assert torch.equal(dbscan(theirs, 0.6), dbscan(ours, 0.6))


def test_is_a_distance() -> None:
    distance = jaccard_distance(people(200, 13))
    assert isinstance(distance, sp.csr_matrix)
    assert distance.dtype == np.float32
    assert distance.has_sorted_indices
    full = dense_distance(distance)
    np.testing.assert_array_equal(full.diagonal(), 0)
    np.testing.assert_array_equal(full, full.T)
    assert distance.data.min() >= 0
    assert distance.data.max() < 1
    assert 200 < distance.nnz < 200 * 200


def test_does_not_depend_on_threads_or_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    features = people(300, 20)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(jaccard_distance(features))
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(search, "_TILE", 37)
    monkeypatch.setattr(reciprocal, "_TERMS", 500)
    monkeypatch.setattr(reciprocal, "_ACCUMULATOR", 900)
    results.append(jaccard_distance(features))
    for other in results[1:]:
        np.testing.assert_array_equal(other.indptr, results[0].indptr)
        np.testing.assert_array_equal(other.indices, results[0].indices)
        np.testing.assert_array_equal(other.data, results[0].data)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40), k1=st.integers(1, 12))
def test_moves_with_the_order_of_the_images(seed: int, n: int, k1: int) -> None:
    features = people(n, max(1, n // 6), seed=seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    k2 = min(k1, 3)
    full = dense_distance(jaccard_distance(features, k1, k2))
    moved = dense_distance(jaccard_distance(features[order], k1, k2))
    np.testing.assert_allclose(moved, full[np.ix_(order, order)], atol=1e-6)


def test_people_are_closer_to_themselves() -> None:
    n, persons = 160, 10
    full = dense_distance(jaccard_distance(people(n, persons), k1=16, k2=4))
    person = np.arange(n) % persons
    same = person[:, None] == person[None]
    assert full[same].mean() < 0.3
    assert full[~same].mean() > 0.95


def test_copies_keep_their_stored_zero() -> None:
    features = torch.eye(8)[torch.arange(24) % 8]
    distance = jaccard_distance(features, k1=3, k2=1)
    assert distance.nnz == 24 * 3
    np.testing.assert_allclose(distance.data, 0, atol=1e-7)


def test_one_image() -> None:
    distance = jaccard_distance(torch.ones(1, 1))
    assert distance.shape == (1, 1)
    assert distance.nnz == 1
    assert distance[0, 0] == 0


def test_fewer_images_than_k1_use_them_all() -> None:
    features = people(12, 3)
    few = jaccard_distance(features, k1=30, k2=6)
    assert few.shape == (12, 12)
    # All are mutual neighbours, so v is the softmax over everybody.
    assert few.nnz == 144


def test_all_images_alike_is_defined() -> None:
    full = dense_distance(jaccard_distance(torch.eye(3)[[0] * 50], k1=5, k2=2))
    assert np.isfinite(full).all()
    np.testing.assert_array_equal(full.diagonal(), 0)


def test_backends_agree() -> None:
    pytest.importorskip("faiss")
    features = people(150, 11)
    ours = jaccard_distance(features, backend="torch")
    theirs = jaccard_distance(features, backend="faiss")
    np.testing.assert_array_equal(ours.data, theirs.data)
    np.testing.assert_array_equal(ours.indices, theirs.indices)


@pytest.mark.parametrize(
    ("k1", "k2", "message"),
    [
        (0, 1, "k1 is 0"),
        (-30, 6, "k1 is -30"),
        (30, 0, "k2 is 0"),
        (2.5, 1, "k1 is 2.5"),
        (4, 6, "k2 is 6 and k1 is 4"),
    ],
)
def test_counts_are_checked(k1: int, k2: int, message: str) -> None:
    with pytest.raises(ReIDError, match=message):
        jaccard_distance(people(20, 3), k1, k2)


@pytest.mark.parametrize("limit", [0, -1, 1.5, float("nan"), "0.6"])
def test_the_largest_distance_is_checked(limit: object) -> None:
    with pytest.raises(ReIDError, match=r"max_distance is .* give a number in \(0, 1"):
        jaccard_distance(people(20, 3), max_distance=limit)


def test_half_precision_and_strides_change_nothing() -> None:
    features = people(80, 9).half()
    wanted = jaccard_distance(features.float())
    wide = torch.zeros(80, 48, dtype=torch.float16)
    wide[:, ::2] = features
    for same in (features, wide[:, ::2], features.T.contiguous().T, features.numpy()):
        found = jaccard_distance(same)
        np.testing.assert_array_equal(found.indices, wanted.indices)
        np.testing.assert_allclose(found.data, wanted.data, atol=1e-6)


def test_features_are_checked() -> None:
    features = people(20, 3)
    with pytest.raises(ReIDError, match="not L2-normalised"):
        jaccard_distance(features * 2)
    features[4] = float("nan")
    with pytest.raises(ReIDError, match=r"jaccard_distance: .* first in row 4"):
        jaccard_distance(features)
    with pytest.raises(ReIDError, match="at least one image"):
        jaccard_distance(torch.zeros(0, 8))


def test_many_identical_images_are_one_cluster() -> None:
    for k1 in (5, 30, 600):
        distance = jaccard_distance(torch.eye(3)[[1] * 400], k1, 5, max_distance=0.6)
        labels = dbscan(distance, 0.6)
        assert set(labels.tolist()) <= {-1, 0, *range(1, 400)}
        assert np.isfinite(distance.data).all()
        if k1 >= 400:
            assert (labels == 0).all()


def test_one_person_is_one_cluster() -> None:
    features = people(60, 1, noise=0.1)
    assert (dbscan(jaccard_distance(features, 60, 6), 0.6) == 0).all()


def test_k1_above_the_number_of_images_acts_as_it() -> None:
    features = people(40, 4)
    few, many = (jaccard_distance(features, k1, 6) for k1 in (40, 10**9))
    # Halves differ, but every set is complete as it is.
    np.testing.assert_array_equal(few.data, many.data)


def test_two_images() -> None:
    distance = jaccard_distance(torch.eye(2), k1=2, k2=2)
    assert distance.nnz == 4
    assert dbscan(distance, 0.6, 2).tolist() == [0, 0]
