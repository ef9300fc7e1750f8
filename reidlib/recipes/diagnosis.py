"""How good pseudo labels and features are, where the truth is known: for the log alone.

What is here looks at identities, so it is a diagnosis and never part of a method.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidlib.clustering.dbscan import dbscan
from reidlib.clustering.jaccard import jaccard_distance
from reidlib.clustering.kmeans import kmeans
from reidlib.clustering.quality import cluster_quality, quality_within_cameras
from reidlib.data.table import ImageTable
from reidlib.errors import ReIDError
from reidlib.labels.pseudo_labels import contiguous_labels
from reidlib.neighbors.search import nearest_neighbors


def health(pseudo_labels: Tensor, table: ImageTable) -> dict[str, Any]:
    """Return the pseudo-label health of an epoch, as far as the truth is known.

    Args:
        pseudo_labels: ``(N,)`` clusters, -1 for an outlier.
        table: The images that were clustered.

    Returns:
        Numbers of clusters and outliers and, with identities and cameras, how well the
        clusters agree with either.
    """
    if not (table.has_identities and table.has_cameras):
        return {
            "clusters": int(pseudo_labels.max()) + 1,
            "outlier_share": float((pseudo_labels < 0).float().mean()),
        }
    return asdict(cluster_quality(pseudo_labels, table.pids, table.camids))


def health_within_cameras(pseudo_labels: Tensor, table: ImageTable) -> dict[str, Any]:
    """Return the quality of clusters as one camera sees it, if the truth is known.

    Args:
        pseudo_labels: ``(N,)`` local or global clusters.
        table: The images that were clustered.
    """
    if not table.has_identities:
        return {}
    return asdict(quality_within_cameras(pseudo_labels, table.pids, table.camids))


def health_by_camera(local_labels: Tensor, table: ImageTable) -> list[dict[str, Any]]:
    """Return the health of local clusters, camera by camera.

    Args:
        local_labels: ``(N,)`` clusters of which none is in two cameras.
        table: The images that were clustered.
    """
    rows = [np.flatnonzero(table.camids == c) for c in np.unique(table.camids)]
    return [health(contiguous_labels(local_labels[r]), table[r]) for r in rows]


def diagnose(features: Tensor, table: ImageTable, seed: int = 0) -> dict[str, Any]:
    """Measure how far features are about the camera instead of the person.

    The same two clusterings for every method, so that their figures can be compared:
    k-means with as many clusters as there are people, which has no outliers, and
    DBSCAN with the settings of the baseline.

    Args:
        features: ``(N, D)`` features.
        table: Their images, with identities and cameras.
        seed: Seed of k-means.

    Returns:
        ``same_camera_share`` of the ten nearest neighbours with ``chance`` beside it,
        and the cluster quality of ``kmeans`` and ``dbscan``. Features that have
        collapsed cannot be clustered: ``error`` then says why, and that part is left
        out.
    """
    if not (table.has_identities and table.has_cameras) or len(table) < 32:
        return {}
    _, neighbors = nearest_neighbors(features, 10)
    camids = torch.from_numpy(table.camids)
    same = (camids[neighbors] == camids[:, None]).float().mean()
    counts = np.unique(table.camids, return_counts=True)[1]
    chance = float((counts * (counts - 1)).sum() / (len(table) * (len(table) - 1)))
    told: dict[str, Any] = {"same_camera_share": float(same), "chance": chance}
    generator = torch.Generator().manual_seed(seed)
    for name, cluster in {
        "kmeans": lambda: kmeans(features, table.num_pids, generator).labels,
        "dbscan": lambda: dbscan(jaccard_distance(features, k1=15, k2=4), eps=0.5),
    }.items():
        try:
            told[name] = health(cluster(), table)
        except ReIDError as error:  # what was trained for hours keeps its figures
            told["error"] = str(error)
    return told
