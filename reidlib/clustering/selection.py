"""How many clusters? Curves that can be drawn without identities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from reidlib.checks import Array, check_count, check_features, check_num_clusters
from reidlib.clustering.kmeans import kmeans
from reidlib.errors import ReIDError


class ClusterCurve(NamedTuple):
    """Two figures of K-Means for each number of clusters.

    Attributes:
        num_clusters: Numbers of clusters, k.
        inertia: The objective J of each, which falls with k; an elbow is looked for.
        silhouette: Mean silhouette of each, in [-1, 1]; the highest is looked for. NaN
            for k = 1 and for as many clusters as images.
    """

    num_clusters: list[int]
    inertia: list[float]
    silhouette: list[float]


def cluster_curve(
    features: Array,
    num_clusters: Sequence[int | float],
    generator: torch.Generator,
    *,
    sample: int = 5000,
) -> ClusterCurve:
    """Run K-Means for several k, and say how compact and how separate the clusters are.

    CALS does not give k (CALS-E2), and it cannot be measured without identities. These
    two curves are what a user can look at instead. Neither has to have its elbow or its
    maximum at the number of people.

    Args:
        features: ``(N, D)``, normalised or not.
        num_clusters: Each as for `kmeans`: a number, or a share of N as a float.
        generator: Source of the seedings.
        sample: Most images that the silhouette, which compares all pairs, is taken of.

    Returns:
        The curves, in the order that was given.

    Raises:
        ReIDError: As `kmeans`, or if no number is given.

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1], [9.0], [9.1]])
        >>> curve = cluster_curve(points, [2, 3], torch.Generator().manual_seed(0))
        >>> curve.inertia[0] > curve.inertia[1], curve.silhouette[0] < 0.9
        (True, True)
    """
    from sklearn.metrics import silhouette_score

    where = "cluster_curve"
    matrix = check_features(features, where, normalised=False)
    check_count(sample, "sample", where, least=2)
    if not isinstance(num_clusters, Sequence | np.ndarray) or not len(num_clusters):
        raise ReIDError(f"{where}: no number of clusters; give one or more")
    rows = torch.randperm(len(matrix), generator=generator)[:sample]
    seen = matrix[rows].cpu().numpy()
    curve = ClusterCurve([], [], [])
    for number in num_clusters:
        count = check_num_clusters(number, len(matrix), where)
        labels, _, inertia = kmeans(matrix, count, generator)
        found = labels[rows].numpy()
        separate = 1 < len(set(found.tolist())) < len(found)
        silhouette = float(silhouette_score(seen, found)) if separate else float("nan")
        curve.num_clusters.append(count)
        curve.inertia.append(inertia)
        curve.silhouette.append(silhouette)
    return curve
