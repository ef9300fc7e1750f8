from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.cluster
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from torch.nn.functional import normalize

from reidlib.clustering import (
    agglomerative,
    dbscan,
    dense_distance,
    infomap,
    jaccard_distance,
)
from reidlib.errors import ReIDError
from reidlib.labels import contiguous_labels

pytestmark = pytest.mark.usefixtures("form")


def people(n: int, persons: int, noise: float = 0.6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(persons, 24, generator=generator)
    jitter = torch.randn(n, 24, generator=generator)
    return normalize(centers[torch.arange(n) % persons] + noise * jitter, dim=1)


def check_pseudo_labels(labels: torch.Tensor, n: int) -> None:
    assert labels.dtype == torch.int64
    assert labels.device.type == "cpu"
    assert labels.shape == (n,)
    assert set(labels.tolist()) - {-1} == set(range(int(labels.max()) + 1))


# DBSCAN


@pytest.mark.parametrize("eps", [0.05, 0.3, 0.5, 0.6, 0.9])
@pytest.mark.parametrize("min_samples", [1, 2, 4, 8])
def test_dbscan_equals_sklearn_on_the_full_matrix(eps: float, min_samples: int) -> None:
    distance = jaccard_distance(people(150, 11, noise=0.9), k1=10, k2=3)
    full = dense_distance(distance)
    model = sklearn.cluster.DBSCAN(
        eps=float(np.float32(eps)), min_samples=min_samples, metric="precomputed"
    )
    labels = dbscan(distance, eps, min_samples)
    np.testing.assert_array_equal(labels, model.fit(full).labels_)
    check_pseudo_labels(labels, 150)


def test_dbscan_counts_stored_zeros_as_neighbours() -> None:
    # Four copies of one image, and one other: all distances that are stored are 0.
    distance = jaccard_distance(torch.eye(2)[[0, 0, 0, 0, 1]], k1=4, k2=1)
    np.testing.assert_array_equal(distance.data, 0)
    assert dbscan(distance, 0.5, min_samples=4).tolist() == [0, 0, 0, 0, -1]


def test_dbscan_does_not_need_the_diagonal_and_does_not_change_its_input() -> None:
    distance = jaccard_distance(people(80, 9), k1=8, k2=2)
    pairs = distance.tocoo()
    off = pairs.row != pairs.col
    without = sp.csr_matrix(
        (pairs.data[off], (pairs.row[off], pairs.col[off])), shape=distance.shape
    )
    copies = without.data.copy(), without.indices.copy()
    labels = dbscan(without, 0.5)
    assert torch.equal(labels, dbscan(distance, 0.5))
    np.testing.assert_array_equal(without.data, copies[0])
    np.testing.assert_array_equal(without.indices, copies[1])


def test_dbscan_boundary_is_inside() -> None:
    matrix = sp.csr_matrix(np.float32([[0, 0.6], [0.6, 0]]))
    assert dbscan(matrix, 0.6, min_samples=2).tolist() == [0, 0]
    assert dbscan(matrix, 0.59, min_samples=2).tolist() == [-1, -1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_dbscan_moves_with_the_order_of_the_images(seed: int) -> None:
    # With min_samples 2 there are no border images, whose cluster depends on order.
    distance = jaccard_distance(people(40, 6, seed=seed), k1=6, k2=2)
    order = np.random.default_rng(seed).permutation(40)
    labels = dbscan(distance, 0.5, min_samples=2)[order]
    moved = dbscan(distance[order][:, order], 0.5, min_samples=2)
    assert torch.equal(contiguous_labels(labels), contiguous_labels(moved))


def test_dbscan_degenerate_answers() -> None:
    distance = jaccard_distance(people(30, 5), k1=5, k2=2)
    assert (dbscan(distance, 1e-9) == -1).all()
    assert (dbscan(distance, 1.0) == 0).all()
    assert (dbscan(distance, 1.0, min_samples=31) == -1).all()
    assert (dbscan(distance, 0.5, min_samples=31) == -1).all()
    one = jaccard_distance(torch.ones(1, 1))
    assert dbscan(one, 0.5).tolist() == [-1]
    assert dbscan(one, 0.5, min_samples=1).tolist() == [0]
    apart = sp.csr_matrix((5, 5), dtype=np.float32)
    assert dbscan(apart, 0.5, min_samples=2).tolist() == [-1] * 5


@pytest.mark.parametrize("eps", [0, -0.5, 1.01, float("nan"), "0.5", True])
def test_dbscan_eps_is_checked(eps: object) -> None:
    distance = jaccard_distance(people(10, 2), k1=3, k2=1)
    with pytest.raises(ReIDError, match=r"eps is .* give a number in \(0, 1\]"):
        dbscan(distance, eps)


def test_dbscan_input_is_checked() -> None:
    distance = jaccard_distance(people(10, 2), k1=3, k2=1)
    with pytest.raises(ReIDError, match="min_samples is 0"):
        dbscan(distance, 0.5, min_samples=0)
    with pytest.raises(ReIDError, match="distance is a ndarray; give the sparse"):
        dbscan(dense_distance(distance), 0.5)
    with pytest.raises(ReIDError, match=r"shape \(4, 10\)"):
        dbscan(distance[:4], 0.5)
    with pytest.raises(ReIDError, match=r"shape \(0, 0\)"):
        dbscan(distance[:0, :0], 0.5)
    for bad in (np.nan, -0.1, np.inf):
        broken = distance.copy()
        broken.data[3] = bad
        with pytest.raises(ReIDError, match="NaN, inf or negative"):
            dbscan(broken, 0.5)


# Average linkage


def naive_average_linkage(distance: np.ndarray, count: int) -> np.ndarray:
    """Merge the pair of clusters of least mean distance, again and again."""
    clusters = [[i] for i in range(len(distance))]
    while len(clusters) > count:
        _, a, b = min(
            (distance[np.ix_(p, q)].mean(), i, j)
            for i, p in enumerate(clusters)
            for j, q in enumerate(clusters)
            if i < j
        )
        clusters[a] += clusters.pop(b)
    labels = np.empty(len(distance), dtype=np.int64)
    for number, members in enumerate(clusters):
        labels[members] = number
    return labels


@pytest.mark.parametrize("count", [1, 2, 7, 25, 30])
def test_agglomerative_equals_a_loop(count: int) -> None:
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(4))
    full = torch.cdist(points, points).numpy()
    wanted = contiguous_labels(naive_average_linkage(full, count))
    assert torch.equal(agglomerative(full, count), wanted)
    assert torch.equal(agglomerative(points, count, metric="euclidean"), wanted)


def test_agglomerative_sparse_and_full_distance_agree() -> None:
    distance = jaccard_distance(people(60, 8), k1=15, k2=4)
    labels = agglomerative(distance, 8)
    assert torch.equal(labels, agglomerative(dense_distance(distance), 8))
    check_pseudo_labels(labels, 60)
    assert adjusted_rand_score(np.arange(60) % 8, labels) > 0.9


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 60),
    levels=st.sampled_from([1, 2, 4, 1000]),
    share=st.sampled_from([0.05, 0.3, 1.0]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_agglomerative_merges_a_sparse_distance_as_the_full_one(
    form: str, seed: int, n: int, levels: int, share: float
) -> None:
    # Few levels make many ties; pairs that are absent are at a distance of 1.
    rng = np.random.default_rng(seed)
    full = (rng.integers(0, levels, (n, n)) / levels).astype(np.float32)
    full[rng.random((n, n)) > share] = 1
    full = np.triu(full, 1)
    full = full + full.T
    near = (full < 1) | np.eye(n, dtype=bool)
    index = near.nonzero()
    sparse = sp.csr_matrix((full[index], index), shape=(n, n))
    for count in {1, 2, max(1, n // 5), n // 2 + 1, n}:
        wanted = agglomerative(full, count)
        assert torch.equal(agglomerative(sparse, count), wanted)


def test_agglomerative_finds_people_by_cosine() -> None:
    labels = agglomerative(people(60, 6, noise=0.3), 6, metric="cosine")
    assert adjusted_rand_score(np.arange(60) % 6, labels) == 1


@pytest.mark.parametrize(("n", "share", "count"), [(34, 0.2, 6), (35, 0.2, 7)])
def test_agglomerative_share_is_rounded_down(n: int, share: float, count: int) -> None:
    labels = agglomerative(people(n, 5), share, metric="cosine")
    assert len(labels.unique()) == count == n // 5


def test_agglomerative_degenerate_answers() -> None:
    assert agglomerative(torch.ones(1, 4), 1, metric="cosine").tolist() == [0]
    assert agglomerative(torch.zeros(1, 1), 0.2).tolist() == [0]
    assert agglomerative(torch.zeros(4, 4), 2).max() == 1
    assert agglomerative(torch.ones(3, 2), 0.01, metric="cosine").tolist() == [0, 0, 0]


@pytest.mark.parametrize("count", [0, -2, 11, 1.5, 0.0, -0.2, True, float("nan")])
def test_agglomerative_number_is_checked(count: float) -> None:
    with pytest.raises(ReIDError, match="num_clusters is"):
        agglomerative(people(10, 2), count, metric="cosine")


def test_agglomerative_input_is_checked() -> None:
    with pytest.raises(ReIDError, match="metric is 'manhattan'; choose from"):
        agglomerative(people(10, 2), 2, metric="manhattan")
    with pytest.raises(ReIDError, match=r"shape \(10, 24\); give \(N, N\)"):
        agglomerative(people(10, 2), 2)
    with pytest.raises(ReIDError, match="not symmetric"):
        agglomerative(torch.triu(torch.ones(5, 5)), 2)
    with pytest.raises(ReIDError, match="is negative"):
        agglomerative(-torch.ones(5, 5), 2)
    with pytest.raises(ReIDError, match="NaN or inf"):
        agglomerative(torch.full((5, 5), float("nan")), 2)
    with pytest.raises(ReIDError, match="feature of zeros"):
        agglomerative(torch.zeros(5, 3), 2, metric="cosine")
    with pytest.raises(ReIDError, match="at least one image"):
        agglomerative(torch.zeros(0, 3), 2, metric="cosine")


# Infomap


@pytest.fixture(autouse=True)
def _needs_infomap(request: pytest.FixtureRequest) -> None:
    if "infomap" in request.node.name and "missing" not in request.node.name:
        pytest.importorskip("infomap")


def test_infomap_recovers_planted_communities() -> None:
    labels = infomap(people(240, 12, noise=0.5))
    check_pseudo_labels(labels, 240)
    kept = labels >= 0
    assert kept.float().mean() > 0.95
    assert adjusted_rand_score((np.arange(240) % 12)[kept], labels[kept]) == 1


def test_infomap_is_repeatable() -> None:
    features = people(200, 20, noise=0.9)
    assert torch.equal(infomap(features), infomap(features))


def test_infomap_drops_clusters_below_the_least_size() -> None:
    features = torch.eye(4)[[0] * 6 + [1] * 5 + [2] * 4 + [3]]
    wanted = [0] * 6 + [1] * 5
    assert infomap(features, k=4).tolist() == wanted + [-1] * 5
    small = infomap(features, k=4, min_cluster_size=4)
    assert small.tolist() == [*wanted, 2, 2, 2, 2, -1]
    # A single image without a link is never a cluster.
    assert infomap(features, k=4, min_cluster_size=1)[-1] == -1


def test_infomap_floor_is_inclusive_and_cuts() -> None:
    a, b = [1.0, 0.0], [0.5, 0.75**0.5]
    features = torch.tensor([a, b, a, b])
    joined = infomap(features, k=4, min_similarity=0.4, min_cluster_size=4)
    assert joined.tolist() == [0, 0, 0, 0]
    apart = infomap(features, k=4, min_similarity=0.6, min_cluster_size=2)
    assert apart.tolist() == [0, 1, 0, 1]


def test_infomap_degenerate_answers() -> None:
    assert infomap(torch.ones(1, 1)).tolist() == [-1]
    assert infomap(torch.eye(6)).tolist() == [-1] * 6
    assert infomap(torch.eye(6), min_similarity=0).tolist() == [-1] * 6
    assert infomap(people(9, 1, noise=0.1), k=1).tolist() == [-1] * 9
    # Fewer images than k: all others are neighbours.
    assert infomap(people(9, 1, noise=0.1), k=15).tolist() == [0] * 9
    assert infomap(torch.ones(7, 1)).tolist() == [0] * 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": -1}, "k is -1"),
        ({"min_similarity": 1.5}, "min_similarity is 1.5"),
        ({"min_similarity": -0.1}, "min_similarity is -0.1"),
        ({"min_cluster_size": 0}, "min_cluster_size is 0"),
        ({"num_trials": 0}, "num_trials is 0"),
        ({"seed": 0}, "seed is 0"),
    ],
)
def test_infomap_numbers_are_checked(options: dict, message: str) -> None:
    with pytest.raises(ReIDError, match=message):
        infomap(people(20, 2), **options)


def test_infomap_features_are_checked() -> None:
    with pytest.raises(ReIDError, match="not L2-normalised"):
        infomap(people(20, 2) * 3)
    with pytest.raises(ReIDError, match="at least one image"):
        infomap(torch.zeros(0, 3))


@pytest.mark.parametrize("form", ["compiled"], indirect=True)
def test_infomap_survives_a_later_import_of_faiss() -> None:
    pytest.importorskip("faiss")
    script = """
import infomap, faiss, torch
from reidlib.clustering import infomap
from reidlib.neighbors import kernels
kernels.SMALLEST = 0  # a fourth library, numba
points = torch.eye(3)[[0, 0, 0, 1, 1, 1, 2]]
labels = infomap(points, k=3, min_cluster_size=3, backend="faiss")
assert labels.tolist() == [0, 0, 0, 1, 1, 1, -1], labels
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_missing_infomap_names_package_and_licence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "infomap", None)
    with pytest.raises(ReIDError, match=r"pip install infomap.*GPL"):
        infomap(people(20, 2))
