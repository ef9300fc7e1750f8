"""Clusters inside each camera (CALR, stage 1), and how good they are there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reidlib.clustering._checks import Array, check_count, check_features
from reidlib.clustering.agglomerative import agglomerative
from reidlib.clustering.jaccard import jaccard_distance
from reidlib.clustering.labels import check_labels
from reidlib.clustering.quality import ClusterQuality, cluster_quality
from reidlib.data.table import DISTRACTOR
from reidlib.errors import ReIDError


def cluster_within_cameras(
    features: Array,
    camids: Array,
    num_clusters: int | float = 0.2,
    k1: int = 15,
    k2: int = 4,
) -> Tensor:
    """Cluster the images of each camera apart from all others (CALR-A1).

    Average linkage on the k-reciprocal Jaccard distance, which is computed among the
    images of one camera alone: what a camera does to all of its images alike does not
    part them.

    Args:
        features: ``(N, D)`` L2-normalised features, on any device.
        camids: ``(N,)`` camera ids from 0.
        num_clusters: Clusters of each camera: a share of its images as a float in
            (0, 1], rounded down (0.2 is the paper's n / 5), or a number for all
            cameras (the published labels of Market-1501 and Duke have 600). A camera
            with fewer images gets one cluster for each.
        k1: As for `jaccard_distance`.
        k2: As for `jaccard_distance`.

    Returns:
        ``(N,)`` int64 labels on the CPU, contiguous from 0 over all cameras, camera by
        camera: no label occurs in two cameras, and there are no outliers.

    Raises:
        ReIDError: If the features are not normalised, a camera is unknown, or a number
            is out of range.

    Example:
        >>> points = torch.eye(2)[[0, 0, 1, 1, 0, 1]]
        >>> camids = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> cluster_within_cameras(points, camids, 2, k1=2, k2=1)
        tensor([0, 0, 1, 1, 2, 3])
    """
    where = "cluster_within_cameras"
    features = check_features(features, where, normalised=True)
    cameras = torch.as_tensor(camids).detach().cpu().to(torch.int64).numpy()
    if cameras.shape != (len(features),):
        raise ReIDError(
            f"{where}: camids have shape {cameras.shape} for {len(features)} images; "
            "give one camera id per image"
        )
    if cameras.min() < 0:
        raise ReIDError(
            f"{where}: {int((cameras < 0).sum())} of {len(cameras)} images have no "
            "camera; write the camera of every image into the table"
        )
    k1, k2 = check_count(k1, "k1", where), check_count(k2, "k2", where)
    labels = torch.empty(len(features), dtype=torch.int64)
    found = 0
    for camera in np.unique(cameras):
        rows = torch.from_numpy(np.flatnonzero(cameras == camera))
        count = num_clusters
        if not isinstance(count, float | np.floating):
            count = min(check_count(count, "num_clusters", where), len(rows))
        neighbors = min(k1, len(rows))
        distance = jaccard_distance(
            features[rows.to(features.device)], neighbors, min(k2, neighbors)
        )
        own = agglomerative(distance, count)
        labels[rows] = own + found
        found += int(own.max()) + 1
    return labels


def quality_within_cameras(
    pseudo_labels: Array, pids: Array, camids: Array
) -> ClusterQuality:
    """Compare clusters with identities as far as one camera can see (CALR-F4).

    A person counts as another one in each camera, and so does a cluster: only pairs of
    images of one camera are compared. Local clusters speak about no others, so this is
    the fair way to hold global clusters against them.

    Args:
        pseudo_labels: ``(N,)`` local or global clusters, -1 for an outlier.
        pids: ``(N,)`` person ids; those up to 0 are nobody known.
        camids: ``(N,)`` camera ids from 0.

    Returns:
        The figures of `cluster_quality`; `clusters` counts the parts of clusters.

    Raises:
        ReIDError: If the columns differ in length, or a camera is unknown.

    Example:
        >>> clusters, pids = torch.tensor([0, 0, 0, 0]), torch.tensor([1, 1, 2, 2])
        >>> quality_within_cameras(clusters, pids, torch.tensor([0, 0, 1, 1])).purity
        1.0
    """
    where = "quality_within_cameras"
    labels = check_labels(pseudo_labels, where)
    people, cameras = (
        torch.as_tensor(ids).detach().cpu().to(torch.int64).numpy()
        for ids in (pids, camids)
    )
    if not len(labels) == len(people) == len(cameras):
        raise ReIDError(
            f"{where}: {len(labels)} pseudo labels, {len(people)} pids and "
            f"{len(cameras)} camids; give one of each per image"
        )
    if len(cameras) and cameras.min() < 0:
        raise ReIDError(f"{where}: {int((cameras < 0).sum())} images have no camera")
    num_cams = int(cameras.max(initial=0)) + 1
    return cluster_quality(
        np.where(labels < 0, labels, labels * num_cams + cameras),
        np.where(people > DISTRACTOR, people * num_cams + cameras, people),
        cameras,
    )
