from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    silhouette_score,
)

from reidlib.clustering import (
    ClusterQuality,
    cluster_quality,
    quality_within_cameras,
    sparse_silhouette,
)
from reidlib.errors import ReIDError


def naive(labels: np.ndarray, pids: np.ndarray) -> dict[str, float]:
    """Pairwise and BCubed figures over all pairs; an outlier is with itself only."""
    n = len(labels)

    def together(i: int, j: int) -> bool:
        return i == j or (labels[i] == labels[j] and labels[i] != -1)

    pairs = [(i, j) for i in range(n) for j in range(i)]
    both = sum(together(i, j) and pids[i] == pids[j] for i, j in pairs)
    joined = sum(together(i, j) for i, j in pairs)
    same = sum(pids[i] == pids[j] for i, j in pairs)
    precisions, recalls = [], []
    for i in range(n):
        cluster = [j for j in range(n) if together(i, j)]
        person = [j for j in range(n) if pids[i] == pids[j]]
        hits = len(set(cluster) & set(person))
        recalls.append(hits / len(person))
        if labels[i] != -1:
            precisions.append(hits / len(cluster))
    p, r = float(np.mean(precisions)), float(np.mean(recalls))
    clustered = labels != -1
    spread = [
        len(set(labels[clustered & (pids == pid)])) for pid in set(pids[clustered])
    ]
    majority = [
        np.unique(pids[labels == c], return_counts=True)[1].max()
        for c in set(labels[clustered])
    ]
    return {
        "pairwise_precision": both / joined,
        "pairwise_recall": both / same,
        "pairwise_f": 2 * both / (joined + same),
        "bcubed_precision": p,
        "bcubed_recall": r,
        "bcubed_f": 2 * p * r / (p + r),
        "expansion": float(np.mean(spread)),
        "purity": float(np.sum(majority) / clustered.sum()),
    }


def random_case(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pids = rng.integers(1, 9, n)
    labels = np.where(rng.random(n) < 0.7, pids % 6, rng.integers(0, 6, n))
    labels[rng.random(n) < 0.2] = -1
    return labels, pids, rng.integers(0, 4, n)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_loops_over_pairs(seed: int) -> None:
    labels, pids, camids = random_case(seed)
    quality = dataclasses.asdict(cluster_quality(labels, pids, camids))
    for name, value in naive(labels, pids).items():
        assert quality[name] == pytest.approx(value, abs=1e-12), name
    kept = labels != -1
    assert quality["clusters"] == len(set(labels[kept]))
    assert quality["outlier_share"] == pytest.approx(1 - kept.mean())
    for name, classes in (("pid", pids), ("cam", camids)):
        nmi = normalized_mutual_info_score(classes[kept], labels[kept])
        ari = adjusted_rand_score(classes[kept], labels[kept])
        assert quality[f"nmi_{name}"] == pytest.approx(nmi)
        assert quality[f"ari_{name}"] == pytest.approx(ari)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=25),
    seed=st.integers(0, 10**6),
    num_persons=st.integers(2, 9),
)
def test_agreement_is_that_of_scikit_learn(
    labels: list[int], seed: int, num_persons: int
) -> None:
    """Also where all images are in one cluster, or each is in one of its own."""
    pids = np.random.default_rng(seed).integers(1, num_persons + 1, len(labels))
    pids[:2] = 1, 2
    for clusters in (
        np.array(labels),
        np.zeros(len(labels), int),
        np.arange(len(pids)),
    ):
        quality = cluster_quality(clusters, pids, pids)
        nmi = normalized_mutual_info_score(pids, clusters)
        assert quality.nmi_pid == pytest.approx(nmi, abs=1e-12)
        ari = adjusted_rand_score(pids, clusters)
        assert quality.ari_pid == pytest.approx(ari, abs=1e-12)


def test_perfect_clusters() -> None:
    pids = np.repeat([4, 7, 9], 4)
    quality = cluster_quality(pids - 4, pids, np.tile([0, 1], 6))
    figures = dataclasses.asdict(quality)
    for name in ("outlier_share", "nmi_cam"):
        assert figures.pop(name) == pytest.approx(0, abs=1e-9)
    assert figures.pop("ari_cam") <= 0
    assert figures.pop("clusters") == 3
    for name, value in figures.items():
        assert value == pytest.approx(1), name


def test_clusters_that_are_cameras() -> None:
    camids = np.repeat([0, 1, 2], 4)
    quality = cluster_quality(camids, np.tile([1, 2], 6), camids)
    assert quality.nmi_cam == pytest.approx(1)
    assert quality.ari_cam == pytest.approx(1)
    assert quality.nmi_pid == pytest.approx(0, abs=1e-9)
    assert quality.expansion == 3
    assert quality.purity == 0.5


def test_outliers_lower_recall_and_not_precision() -> None:
    pids = np.repeat([1, 2], 5)
    labels = pids - 1
    with_outliers = labels.copy()
    with_outliers[[0, 5]] = -1
    quality = cluster_quality(with_outliers, pids, pids)
    assert quality.pairwise_precision == quality.bcubed_precision == quality.purity == 1
    assert quality.pairwise_recall == pytest.approx(6 / 10)
    assert quality.bcubed_recall == pytest.approx((4 * 4 / 5 + 1 / 5) / 5)
    assert quality.expansion == 1
    assert quality.outlier_share == pytest.approx(0.2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_names_and_order_do_not_matter(seed: int) -> None:
    labels, pids, camids = random_case(seed, n=40)
    rng = np.random.default_rng(seed)
    order = rng.permutation(40)
    names = np.append(rng.permutation(50)[:6], -1)
    persons = rng.permutation(np.arange(1, 30))
    quality = dataclasses.astuple(cluster_quality(labels, pids, camids))
    other = dataclasses.astuple(
        cluster_quality(names[labels][order], persons[pids][order], camids[order] + 5)
    )
    assert other == pytest.approx(quality, nan_ok=True)


def test_junk_distractors_and_unknown_are_nobody() -> None:
    labels, pids, camids = random_case(1)
    extra = np.array([-1, -2, 0, 0, -1])
    quality = cluster_quality(labels, pids, camids)
    more = cluster_quality(
        np.append(labels, [0, 1, 2, 2, -1]),
        np.append(pids, extra),
        np.append(camids, [-1] * 5),
    )
    for name in (
        "pairwise_f",
        "bcubed_f",
        "expansion",
        "purity",
        "nmi_pid",
        "ari_pid",
        "nmi_cam",
        "ari_cam",
    ):
        assert getattr(more, name) == pytest.approx(getattr(quality, name))
    assert more.clusters == quality.clusters
    assert more.outlier_share == pytest.approx((quality.outlier_share * 60 + 1) / 65)


def undefined(quality: ClusterQuality) -> set[str]:
    return {k for k, v in dataclasses.asdict(quality).items() if math.isnan(v)}


def test_without_identities_and_cameras_only_counts_are_defined() -> None:
    quality = cluster_quality(np.array([0, 0, 1, -1]), np.full(4, -2), np.full(4, -1))
    assert quality.clusters == 2
    assert quality.outlier_share == 0.25
    names = {f.name for f in dataclasses.fields(quality)}
    assert undefined(quality) == names - {"clusters", "outlier_share"}


def test_all_outliers() -> None:
    quality = cluster_quality(np.full(6, -1), np.repeat([1, 2], 3), np.tile([0, 1], 3))
    assert quality.clusters == 0
    assert quality.outlier_share == 1
    assert quality.pairwise_recall == 0
    assert quality.bcubed_recall == pytest.approx(1 / 3)
    assert undefined(quality) == {
        "pairwise_precision",
        "pairwise_f",
        "bcubed_precision",
        "bcubed_f",
        "purity",
        "expansion",
        "nmi_pid",
        "ari_pid",
        "nmi_cam",
        "ari_cam",
    }


def test_one_cluster_of_everything() -> None:
    quality = cluster_quality(np.zeros(8, int), np.repeat([1, 2], 4), np.zeros(8, int))
    assert quality.pairwise_recall == quality.bcubed_recall == 1
    assert quality.bcubed_precision == quality.purity == 0.5
    assert quality.nmi_pid == quality.ari_pid == 0
    assert undefined(quality) == {"nmi_cam", "ari_cam"}


def test_one_image() -> None:
    quality = cluster_quality(torch.tensor([0]), np.array([5]), np.array([0]))
    assert quality.purity == quality.bcubed_recall == 1
    assert math.isnan(quality.pairwise_precision)


def test_input_is_checked() -> None:
    ids = np.arange(4)
    with pytest.raises(ReIDError, match="3 pseudo labels, 4 pids and 4 camids"):
        cluster_quality(ids[:3], ids, ids)
    with pytest.raises(ReIDError, match="there are 0 images"):
        cluster_quality(ids[:0], ids[:0], ids[:0])
    with pytest.raises(ReIDError, match=r"2 of 4 pseudo labels are not whole"):
        cluster_quality(ids / 2, ids, ids)
    with pytest.raises(ReIDError, match="2 of 4 pids are not whole"):
        cluster_quality(ids, ids / 2, ids)
    with pytest.raises(ReIDError, match="lowest label is -2"):
        cluster_quality(ids - 2, ids, ids)
    with pytest.raises(ReIDError, match="1 of 4 images have no camera"):
        quality_within_cameras(ids, ids, ids - 1)
    with pytest.raises(ReIDError, match="4 pseudo labels, 4 pids and 3 camids"):
        quality_within_cameras(ids, ids, ids[1:])


def test_within_cameras_only_pairs_of_one_camera_count():
    generator = np.random.default_rng(0)
    labels = generator.integers(-1, 6, 200)
    pids, camids = generator.integers(-1, 9, 200), generator.integers(0, 3, 200)
    right = together = wanted = 0
    for i in range(200):
        for j in range(200):
            if i == j or camids[i] != camids[j] or pids[i] <= 0 or pids[j] <= 0:
                continue
            same, one = pids[i] == pids[j], labels[i] == labels[j] >= 0
            right, together, wanted = (
                right + (same & one),
                together + one,
                wanted + same,
            )
    quality = quality_within_cameras(labels, pids, camids)
    assert quality.pairwise_precision == pytest.approx(right / together)
    assert quality.pairwise_recall == pytest.approx(right / wanted)
    assert quality.outlier_share == pytest.approx((labels < 0).mean())


@pytest.mark.parametrize(
    ("labels", "pids"),
    [
        ([0, 0, 1, 1], [1, 2, 1, 2]),  # pairs in clusters, none of them right
        ([0, 1, 2, 3], [1, 1, 2, 2]),  # no pair in a cluster
        ([0, 0, 1, 1], [1, 2, 3, 4]),  # no pair of one identity
        ([0, 0, 1, -1], [1, 1, 2, 2]),
    ],
)
def test_pairwise_f_is_the_harmonic_mean_and_undefined_with_it(labels, pids) -> None:
    quality = cluster_quality(np.array(labels), np.array(pids), np.arange(4))
    precision, recall = quality.pairwise_precision, quality.pairwise_recall
    total = precision + recall
    expected = 2 * precision * recall / total if total != 0 else 0.0
    assert quality.pairwise_f == pytest.approx(expected, nan_ok=True)


def test_long_ids_and_camera_numbers_change_nothing():
    rng = np.random.default_rng(0)
    pids, camids = rng.integers(1, 41, 400), rng.integers(0, 6, 400)
    clusters = np.where(rng.random(400) < 0.8, pids, 0)
    expected = quality_within_cameras(clusters, pids, camids)
    for more, cam in ((2**62, 0), (1_700_000_000, 192_168_001_000)):
        found = quality_within_cameras(clusters + more, pids + more, camids + cam)
        assert found == expected


# Silhouette


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 50), count=st.integers(2, 12))
def test_a_sparse_silhouette_is_that_of_scikit_learn(seed, n, count):
    rng = np.random.default_rng(seed)
    full = np.where(rng.random((n, n)) < 0.3, rng.random((n, n)), 1)
    full = np.triu(full, 1) + np.triu(full, 1).T
    labels = rng.integers(0, min(count, n - 1), n)
    index = ((full < 1) | np.eye(n, dtype=bool)).nonzero()
    sparse = sp.csr_matrix((full[index], index), shape=(n, n))
    if not 1 < len(set(labels.tolist())) < n:
        with pytest.raises(ReIDError, match="a silhouette needs two clusters"):
            sparse_silhouette(sparse, labels)
        return
    wanted = silhouette_score(full, labels, metric="precomputed")
    assert sparse_silhouette(sparse, labels) == pytest.approx(wanted, abs=1e-12)


def test_a_silhouette_has_no_outliers():
    with pytest.raises(ReIDError, match="no outliers"):
        sparse_silhouette(sp.csr_matrix(np.ones((3, 3))), np.array([0, 0, -1]))
    with pytest.raises(ReIDError, match="distance"):
        sparse_silhouette(sp.csr_matrix(np.ones((3, 3))), np.array([0, 0]))
