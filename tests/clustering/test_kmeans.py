from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import sklearn.cluster
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from reidlib.clustering import kmeans, kmeans_plus_plus
from reidlib.clustering.kmeans import lloyd
from reidlib.errors import ReIDError


def blobs(
    n: int, count: int, spread: float = 0.3, d: int = 6, seed: int = 0
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = 3 * torch.randn(count, d, generator=generator)
    jitter = torch.randn(n, d, generator=generator)
    return centers[torch.arange(n) % count] + spread * jitter


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objective(
    features: torch.Tensor, labels: torch.Tensor, centers: torch.Tensor
) -> float:
    """CALS-E2 as a double sum."""
    total = 0.0
    for k, center in enumerate(centers.double()):
        for feature in features[labels == k].double():
            total += float(((feature - center) ** 2).sum())
    return total


@pytest.mark.parametrize("seed", range(3))
def test_lloyd_equals_sklearn_from_the_same_centers(seed: int) -> None:
    features = blobs(300, 12, spread=2.0, seed=seed)
    start = features[kmeans_plus_plus(features, 10, generator(seed))]
    model = sklearn.cluster.KMeans(
        10, init=start.numpy(), n_init=1, tol=0, max_iter=200, algorithm="lloyd"
    ).fit(features.numpy())
    labels, centers, inertia = lloyd(features, start, max_iter=200, tol=0)
    np.testing.assert_array_equal(labels, model.labels_)
    np.testing.assert_allclose(centers, model.cluster_centers_, atol=1e-5)
    assert inertia == pytest.approx(model.inertia_, rel=1e-5)


def test_is_as_good_as_sklearn_over_many_seeds() -> None:
    features = blobs(400, 20, spread=1.2)
    ours = [kmeans(features, 20, generator(s)).inertia for s in range(20)]
    theirs = [
        sklearn.cluster.KMeans(20, n_init=1, random_state=s).fit(features).inertia_
        for s in range(20)
    ]
    # sklearn's seeding is greedy: best of several draws at each step.
    assert np.mean(ours) < 1.15 * np.mean(theirs)
    best = kmeans(features, 20, generator(), n_init=10).inertia
    assert best < 1.05 * np.min(theirs)


def test_result_is_consistent() -> None:
    features = blobs(200, 8, spread=1.5)
    labels, centers, inertia = kmeans(features, 8, generator(), max_iter=500, tol=0)
    assert labels.dtype == torch.int64
    assert labels.unique().tolist() == list(range(8))
    assert inertia == pytest.approx(objective(features, labels, centers), rel=1e-5)
    nearest = torch.cdist(features, centers).argmin(dim=1)
    assert torch.equal(labels, nearest)
    for k in range(8):
        torch.testing.assert_close(
            centers[k], features[labels == k].mean(dim=0), atol=1e-5, rtol=1e-5
        )


def test_objective_never_rises() -> None:
    features = blobs(300, 15, spread=3.0)
    start = features[:15]
    values = [
        lloyd(features, start, max_iter=steps, tol=0).inertia for steps in range(1, 15)
    ]
    assert all(b <= a * (1 + 1e-6) for a, b in pairwise(values))


def test_finds_blobs_far_from_the_origin() -> None:
    features = blobs(200, 5, spread=0.05) + 1000
    labels = kmeans(features, 5, generator(), n_init=5).labels
    assert adjusted_rand_score(np.arange(200) % 5, labels) == 1


def test_is_repeatable_and_depends_on_the_generator() -> None:
    features = blobs(200, 30, spread=2.0)
    first = kmeans(features, 12, generator(1))
    again = kmeans(features, 12, generator(1))
    other = kmeans(features, 12, generator(2))
    assert torch.equal(first.labels, again.labels)
    assert torch.equal(first.centers, again.centers)
    assert not torch.equal(first.labels, other.labels)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5))
def test_moving_all_features_moves_the_centers(seed: int, shift: float) -> None:
    features = blobs(40, 4, spread=0.2, seed=seed)
    still = kmeans(features, 4, generator(seed))
    moved = kmeans(features + shift, 4, generator(seed))
    assert moved.inertia == pytest.approx(still.inertia, rel=1e-2)
    torch.testing.assert_close(moved.centers, still.centers + shift, atol=1e-3, rtol=0)


def test_seeding_draws_by_squared_distance() -> None:
    # From 0, the points at 1 and 3 are drawn with odds 1 : 9.
    features = torch.tensor([[0.0], [1.0], [3.0]])
    source = generator()
    second = []
    for _ in range(4000):
        rows = kmeans_plus_plus(features, 2, source)
        if rows[0] == 0:
            second.append(int(rows[1]))
    assert len(second) > 1000
    assert np.mean(np.array(second) == 2) == pytest.approx(0.9, abs=0.03)


def test_seeding_never_draws_a_copy() -> None:
    features = torch.eye(6)[torch.arange(60) % 6]
    for seed in range(20):
        rows = kmeans_plus_plus(features, 6, generator(seed))
        assert sorted((rows % 6).tolist()) == [0, 1, 2, 3, 4, 5]


def test_empty_clusters_take_the_farthest_image() -> None:
    features = torch.tensor([[0.0], [0.1], [0.2], [10.0], [11.0], [30.0]])
    # The last two centers get no image at first.
    start = torch.tensor([[0.1], [12.0], [-500.0], [-600.0]])
    labels, centers, _ = lloyd(features, start, max_iter=50, tol=0)
    assert labels.unique().tolist() == [0, 1, 2, 3]
    assert torch.isfinite(centers).all()
    assert (labels == labels[5]).sum() == 1


def test_many_empty_clusters_at_once() -> None:
    features = blobs(30, 3, spread=0.1)
    start = torch.cat(
        [features[:1], torch.full((29, 6), 1e3) + torch.arange(29)[:, None]]
    )
    labels, _, inertia = lloyd(features, start, max_iter=5, tol=0)
    assert sorted(labels.tolist()) == list(range(30))
    assert inertia == pytest.approx(0, abs=1e-6)


def test_degenerate_answers() -> None:
    one = kmeans(torch.tensor([[2.0, 3.0]]), 1, generator())
    assert one.labels.tolist() == [0]
    assert one.inertia == 0
    torch.testing.assert_close(one.centers, torch.tensor([[2.0, 3.0]]))
    features = blobs(20, 4)
    single = kmeans(features, 1, generator())
    torch.testing.assert_close(single.centers[0], features.mean(dim=0))
    each = kmeans(features, 20, generator())
    assert sorted(each.labels.tolist()) == list(range(20))
    assert len(kmeans(features, 0.25, generator()).centers) == 5
    alike = kmeans(torch.ones(9, 2), 1, generator())
    assert alike.inertia == 0


def test_more_clusters_than_different_features() -> None:
    features = torch.eye(3)[torch.arange(30) % 3]
    with pytest.raises(ReIDError, match="only 3 different features; give at most 3"):
        kmeans(features, 4, generator())


@pytest.mark.parametrize("count", [0, -1, 21, 1.5, 0.0, True])
def test_number_is_checked(count: float) -> None:
    with pytest.raises(ReIDError, match="kmeans: num_clusters is"):
        kmeans(blobs(20, 4), count, generator())


def test_input_is_checked() -> None:
    features = blobs(20, 4)
    for name, value in (("n_init", 0), ("max_iter", 0), ("tol", -1.0)):
        with pytest.raises(ReIDError, match=f"{name} is {value}"):
            kmeans(features, 4, generator(), **{name: value})
    with pytest.raises(ReIDError, match="at least one image"):
        kmeans(torch.zeros(0, 3), 1, generator())
    features[3, 2] = float("inf")
    with pytest.raises(ReIDError, match="first in row 3"):
        kmeans(features, 4, generator())
