from __future__ import annotations

import numpy as np
import pytest
import torch

from reidlib.errors import ReIDError
from reidlib.evaluation import cosine_distance, k_reciprocal_rerank, rerank

pytestmark = pytest.mark.usefixtures("form")


def dense(query, gallery, k1, k2, lambda_value):
    """Zhong et al. with sets, lists and N x N matrices, in float64."""
    x = np.concatenate([query, gallery]).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    num = len(x)
    distance = ((x[:, None] - x[None]) ** 2).sum(-1)
    distance /= distance.max(axis=1, keepdims=True)
    order = [[i, *(j for j in np.argsort(distance[i]) if j != i)] for i in range(num)]

    def mutual(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    v = np.zeros((num, num))
    for i in range(num):
        members = mutual(i, k1)
        for c in mutual(i, k1):
            half = mutual(c, round(k1 / 2))
            if len(half & mutual(i, k1)) > 2 / 3 * len(half):
                members |= half
        index = sorted(members)
        weight = np.exp(-distance[i, index])
        v[i, index] = weight / weight.sum()
    v = np.stack([v[order[i][:k2]].mean(axis=0) for i in range(num)])
    result = np.zeros((len(query), len(gallery)))
    for q in range(len(query)):
        for g in range(len(gallery)):
            shared = np.minimum(v[q], v[len(query) + g]).sum()
            jaccard = 1 - shared / (2 - shared)
            original = distance[q, len(query) + g]
            result[q, g] = (1 - lambda_value) * jaccard + lambda_value * original
    return result


def people(seed=0, num_people=8, each=7, spread=0.5, dim=8):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(num_people, dim, generator=generator).repeat_interleave(
        each, 0
    )
    features = centers + spread * torch.randn(centers.shape, generator=generator)
    pids = torch.arange(num_people).repeat_interleave(each)
    is_query = torch.arange(len(pids)) % each == 0
    return features[is_query], features[~is_query], pids[is_query], pids[~is_query]


@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (7, 3), (5, 1), (1, 1), (500, 6)])
@pytest.mark.parametrize("lambda_value", [0.0, 0.3])
def test_equals_a_dense_loop(k1, k2, lambda_value):
    query, gallery, _, _ = people(seed=k1)
    result = k_reciprocal_rerank(query, gallery, k1, k2, lambda_value)
    expected = dense(query.numpy(), gallery.numpy(), min(k1, 55), k2, lambda_value)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_all_weight_on_the_original_distance_keeps_its_order():
    query, gallery, _, _ = people()
    result = k_reciprocal_rerank(query, gallery, lambda_value=1.0)
    assert torch.equal(result.argsort(1), cosine_distance(query, gallery).argsort(1))


def test_neighbourhoods_help_where_people_overlap():
    query, gallery, query_pids, gallery_pids = people(0, 20, 12, spread=1.2, dim=32)
    same = query_pids[:, None] == gallery_pids

    def precision(distance):
        return same.gather(1, distance.argsort(1)[:, :11]).float().mean()

    plain = precision(cosine_distance(query, gallery))
    assert precision(k_reciprocal_rerank(query, gallery, k1=12, k2=4)) > plain + 0.1


def test_blocks_change_nothing(monkeypatch):
    query, gallery, _, _ = people()
    whole = k_reciprocal_rerank(query, gallery)
    monkeypatch.setattr(rerank, "_BLOCK", 100)
    torch.testing.assert_close(k_reciprocal_rerank(query, gallery), whole)


@pytest.mark.filterwarnings("error")
def test_copies_of_one_image_are_all_as_near():
    features = torch.ones(30, 4)
    distance = k_reciprocal_rerank(features[:2], features[2:], k1=5, k2=2)
    assert torch.isfinite(distance).all()
    one = k_reciprocal_rerank(torch.ones(1, 4), torch.ones(1, 4), k1=1, k2=1)
    torch.testing.assert_close(one, torch.zeros(1, 1))


@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("lambda_value", [0.0, 0.3, 1.0])
def test_distances_are_in_their_range(spread, lambda_value):
    # Also where features differ by little more than rounding.
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 16, generator=generator)
    features = features + spread * torch.randn(60, 16, generator=generator)
    distance = k_reciprocal_rerank(features[:9], features[9:], 8, 3, lambda_value)
    assert distance.min() >= 0
    assert distance.max() <= 1 + 1e-6


def test_bad_settings_are_refused():
    query, gallery, _, _ = people()
    for k1, k2, message in (
        (0, 1, "k1 is 0"),
        (5, 0, "k2 is 0"),
        (5, 6, "k2 is 6 and k1 is 5"),
        (-3, 1, "k1 is -3"),
    ):
        with pytest.raises(ReIDError, match=message):
            k_reciprocal_rerank(query, gallery, k1, k2)
    with pytest.raises(ReIDError, match="lambda_value is 2"):
        k_reciprocal_rerank(query, gallery, lambda_value=2)
