from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reidlib.clustering import (
    agglomerative,
    cluster_quality,
    cluster_within_cameras,
    jaccard_distance,
    quality_within_cameras,
)
from reidlib.errors import ReIDError


def city(people=10, cameras=3, images=4, noise=0.15, shift=3.0, seed=0):
    """People under cameras that each push all features into their own direction."""
    generator = torch.Generator().manual_seed(seed)
    person = torch.randn(people, 16, generator=generator)
    camera = shift * torch.randn(cameras, 16, generator=generator)
    pids = torch.arange(people).repeat_interleave(cameras * images) + 1
    camids = torch.arange(cameras).repeat_interleave(images).repeat(people)
    noise = noise * torch.randn(len(pids), 16, generator=generator)
    features = F.normalize(person[pids - 1] + camera[camids] + noise, dim=1)
    return features, pids, camids


def test_each_camera_is_clustered_as_if_it_were_alone():
    features, _, camids = city()
    labels = cluster_within_cameras(features, camids, 0.25, k1=6, k2=2)
    for camera in range(3):
        rows = camids == camera
        alone = agglomerative(jaccard_distance(features[rows], 6, 2), 0.25)
        own = labels[rows]
        assert torch.equal(own - own.min(), alone)
    assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
    used = [set(labels[camids == camera].tolist()) for camera in range(3)]
    assert len(set.union(*used)) == sum(map(len, used))


def test_the_order_of_the_images_does_not_change_the_clusters():
    features, _, camids = city()
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    labels = cluster_within_cameras(features, camids, 0.25, k1=6, k2=2)
    again = cluster_within_cameras(features[order], camids[order], 0.25, k1=6, k2=2)
    pairs = labels[order][:, None] == labels[order]
    assert torch.equal(pairs, again[:, None] == again)


def test_a_camera_that_moves_all_features_does_not_matter_inside_it():
    features, pids, camids = city(noise=0.05, shift=3.0)
    local = cluster_within_cameras(features, camids, 0.25, k1=6, k2=2)
    everywhere = agglomerative(jaccard_distance(features, 6, 2), 10)
    assert quality_within_cameras(local, pids, camids).pairwise_f > 0.9
    # Over all cameras the shift is larger than the people are different.
    assert cluster_quality(everywhere, pids, camids).pairwise_f < 0.5


def test_clusters_per_camera_are_a_share_or_a_number():
    features, _, camids = city(images=4)
    count = lambda n: [  # noqa: E731
        len(cluster_within_cameras(features, camids, n)[camids == c].unique())
        for c in range(3)
    ]
    assert count(0.2) == [8, 8, 8]  # 40 images each
    assert count(7) == [7, 7, 7]
    assert count(600) == [40, 40, 40]  # more than there are images


def test_a_camera_with_one_image_has_one_cluster():
    features, _, camids = city()
    camids = camids.clone()
    camids[0] = 5
    labels = cluster_within_cameras(features, camids, 0.2)
    assert int((labels == labels[0]).sum()) == 1


def test_local_clusters_are_the_same_seen_from_within():
    features, pids, camids = city()
    local = cluster_within_cameras(features, camids, 0.25, k1=6, k2=2)
    within = quality_within_cameras(local, pids, camids)
    assert within.clusters == int(local.max()) + 1
    assert within.purity == pytest.approx(cluster_quality(local, pids, camids).purity)


def test_input_is_checked():
    features, _, camids = city()
    unknown = camids.clone()
    unknown[:3] = -1
    with pytest.raises(ReIDError, match="3 of 120 images have no camera"):
        cluster_within_cameras(features, unknown)
    with pytest.raises(ReIDError, match="120 features and 119 camids"):
        cluster_within_cameras(features, camids[1:])
    with pytest.raises(ReIDError, match="num_clusters is 0"):
        cluster_within_cameras(features, camids, 0)
    with pytest.raises(ReIDError, match=r"num_clusters is 1\.5"):
        cluster_within_cameras(features, camids, 1.5)
