"""Curves over the number of clusters: scikit-learn's figures of the same clusters."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import silhouette_score

from reidlib.clustering import cluster_curve, kmeans
from reidlib.errors import ReIDError


def blobs(groups: int = 5, each: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centers = 10 * torch.randn(groups, 4, generator=generator)
    noise = torch.randn(groups * each, 4, generator=generator)
    return centers.repeat_interleave(each, dim=0) + noise


def test_the_silhouette_is_highest_and_the_elbow_is_at_the_number_of_groups():
    curve = cluster_curve(blobs(), [2, 3, 4, 5, 6, 8], torch.Generator().manual_seed(0))
    assert curve.num_clusters[curve.silhouette.index(max(curve.silhouette))] == 5
    falls = [a / b for a, b in zip(curve.inertia, curve.inertia[1:], strict=False)]
    assert falls.index(max(falls)) == 2  # from 4 to 5 clusters


def test_the_figures_are_those_of_the_clusters():
    points = blobs()
    (count,), (inertia,), (silhouette,) = cluster_curve(
        points, [0.04], torch.Generator().manual_seed(0)
    )
    assert count == 4
    generator = torch.Generator().manual_seed(0)
    torch.randperm(len(points), generator=generator)  # the images that are looked at
    found = kmeans(points, 4, generator)
    assert inertia == pytest.approx(found.inertia)
    assert silhouette == pytest.approx(silhouette_score(points, found.labels), abs=1e-6)


def test_one_cluster_and_a_cluster_for_each_image_have_no_silhouette():
    curve = cluster_curve(blobs(2, 3), [1, 6], torch.Generator().manual_seed(0))
    assert all(math.isnan(value) for value in curve.silhouette)
    assert curve.inertia[1] == pytest.approx(0, abs=1e-6)


def test_bad_input_is_refused():
    with pytest.raises(ReIDError, match="num_clusters is 7 for 6 images"):
        cluster_curve(blobs(2, 3), [7], torch.Generator())
    with pytest.raises(ReIDError, match="no number of clusters"):
        cluster_curve(blobs(), [], torch.Generator())
    with pytest.raises(ReIDError, match="sample is 1"):
        cluster_curve(blobs(), [2], torch.Generator(), sample=1)


def test_a_number_is_no_list_of_numbers():
    with pytest.raises(ReIDError, match="give one or more"):
        cluster_curve(torch.rand(6, 2), 3, torch.Generator())
