from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from reidlib.errors import ReIDError
from reidlib.evaluation import cosine_distance, squared_euclidean_distance


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, 5)), rng.normal(size=(9, 5))


def test_equal_scipys(features):
    expected = cdist(*features, metric="cosine")
    np.testing.assert_allclose(cosine_distance(*features), expected, atol=1e-5)
    expected = cdist(*features, metric="sqeuclidean")
    np.testing.assert_allclose(
        squared_euclidean_distance(*features), expected, rtol=1e-4, atol=1e-5
    )


def test_squared_euclidean_is_twice_the_cosine_distance_at_length_one(features):
    unit = [torch.nn.functional.normalize(torch.tensor(f)) for f in features]
    torch.testing.assert_close(
        squared_euclidean_distance(*unit), 2 * cosine_distance(*unit), atol=1e-5, rtol=0
    )


def test_right_angles_and_the_3_4_5_triangle():
    points = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    square = squared_euclidean_distance(points, points)
    torch.testing.assert_close(square, torch.tensor([[0.0, 25.0], [25.0, 0.0]]))
    torch.testing.assert_close(cosine_distance(points, points), 1 - torch.eye(2))
    torch.testing.assert_close(
        cosine_distance(points, -points).diag(), torch.tensor([2.0, 2.0])
    )


def test_autocast_does_not_reach_the_product(features):
    expected = cosine_distance(*features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance = cosine_distance(*features)
    assert distance.dtype == torch.float32
    assert torch.equal(distance, expected)


@pytest.mark.parametrize("distance", [cosine_distance, squared_euclidean_distance])
def test_copies_of_an_image_have_equal_distances_wherever_they_stand(distance):
    # Shapes that leave over a few rows for the other kernels of a float32 product.
    generator = torch.Generator().manual_seed(0)
    for num_queries, num_gallery, dim in (
        (1, 31, 7),
        (6, 51, 64),
        (1, 379, 100),
        (1, 127, 511),
        (1, 2142, 511),
        (3, 2393, 2048),
    ):
        for _ in range(10):
            query = torch.randn(num_queries, dim, generator=generator)
            copies = torch.randn(1, dim, generator=generator).repeat(num_gallery, 1)
            got = distance(query, copies)
            assert torch.equal(got, got[:, :1].expand_as(got))


@pytest.mark.parametrize("distance", [cosine_distance, squared_euclidean_distance])
def test_bad_features_are_refused(distance):
    good = torch.ones(3, 4)
    with pytest.raises(ReIDError, match="4 dimensions and gallery features 2"):
        distance(good, good[:, :2])
    with pytest.raises(ReIDError, match=r"query features have shape \(4,\)"):
        distance(good[0], good)
    with pytest.raises(ReIDError, match="gallery features of 1 of 3 images hold NaN"):
        distance(good, torch.tensor([[1.0], [np.inf], [0.0]]).expand(3, 4))


@pytest.mark.parametrize("length", [1, 1e3, 1e6])
@pytest.mark.parametrize("dim", [2, 128, 2048])
def test_squared_distances_are_exact_to_a_millionth_of_the_squared_lengths(dim, length):
    rng = np.random.default_rng(dim)
    query = rng.normal(size=(30, dim)).astype(np.float32)
    query *= np.float32(length) / np.linalg.norm(query, axis=1, keepdims=True)
    near = query + rng.normal(size=query.shape).astype(np.float32) * 1e-3
    exact = ((query[:, None].astype(np.float64) - near[None]) ** 2).sum(2)
    scale = sum(
        np.square(side, dtype=np.float64).sum(1).max() for side in (query, near)
    )
    error = np.abs(squared_euclidean_distance(query, near).numpy() - exact)
    assert error.max() <= 1e-6 * scale
    # What the docstring advises where that is too little.
    moved = squared_euclidean_distance(query[:1] - query[0], near[:1] - query[0])
    assert float(moved) == pytest.approx(exact[0, 0], rel=1e-5)
