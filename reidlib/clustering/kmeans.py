"""K-Means with K-Means++ seeding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reidlib.checks import (
    Array,
    check_count,
    check_features,
    check_num_clusters,
    check_number,
)
from reidlib.errors import ReIDError

# Elements of one block of distances: 64 MiB of float32.
_BLOCK = 1 << 24


class KMeans(NamedTuple):
    """What `kmeans` returns.

    Attributes:
        labels: ``(N,)`` int64 on the CPU, contiguous from 0, no outliers.
        centers: ``(num_clusters, D)`` float32 on the device of the features, not
            normalised.
        inertia: The objective J: the sum of squared distances to the own center.
    """

    labels: Tensor
    centers: Tensor
    inertia: float


def kmeans(
    features: Array,
    num_clusters: int | float,
    generator: torch.Generator,
    *,
    n_init: int = 1,
    max_iter: int = 100,
    tol: float = 1e-4,
) -> KMeans:
    """Cluster features into a given number of clusters: K-Means++ and Lloyd (CALS-E2).

    Looks for the centers that minimise ``J = sum_k sum_{i in C_k} |f_i - c_k|^2``.
    A cluster that loses all its members takes over the image farthest from its
    center, so that there are always ``num_clusters`` clusters. The distance is
    Euclidean; for L2-normalised features its order is that of the cosine.

    Args:
        features: ``(N, D)``, on any device, normalised or not.
        num_clusters: Number of clusters, or a share of N as a float in (0, 1]. CALS
            does not give it; N / 8 (``0.125``) is a starting point.
        generator: Source of the seeding.
        n_init: Seedings that are tried; the one of lowest J is returned.
        max_iter: Most Lloyd steps per seeding.
        tol: Stop when the squared movement of all centers together is at most ``tol``
            times the mean variance of a feature dimension.

    Returns:
        ``(labels, centers, inertia)`` as `KMeans`.

    Raises:
        ReIDError: If the features are not finite, num_clusters is outside [1, N] or
            more than there are different features, or another number is out of range.

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> labels, centers, inertia = kmeans(points, 2, torch.Generator())
        >>> bool(labels[0] == labels[1] != labels[2]), round(inertia, 4)
        (True, 0.01)
    """
    features = check_features(features, "kmeans", normalised=False)
    count = check_num_clusters(num_clusters, len(features), "kmeans")
    n_init = check_count(n_init, "n_init", "kmeans")
    max_iter = check_count(max_iter, "max_iter", "kmeans")
    tol = check_number(tol, "tol", "kmeans", 0, float("inf"))
    with torch.no_grad():
        # Distances from the mean of all features lose fewer digits.
        mean = features.mean(dim=0)
        centred = features - mean
        results = []
        for _ in range(n_init):
            seeds = centred[_seed_rows(centred, count, generator)]
            results.append(lloyd(centred, seeds, max_iter=max_iter, tol=tol))
        best = min(results, key=lambda result: result.inertia)
        return best._replace(centers=best.centers + mean)


def kmeans_plus_plus(
    features: Array, num_clusters: int | float, generator: torch.Generator
) -> Tensor:
    """Draw starting centers far apart (Arthur and Vassilvitskii, SODA 2007; CALS-E2).

    The first is drawn evenly; each further one with a probability proportional to the
    squared distance to the nearest center drawn before it.

    Args:
        features: ``(N, D)``, on any device, normalised or not.
        num_clusters: Number of centers, or a share of N as a float in (0, 1].
        generator: Source of the draws.

    Returns:
        ``(num_clusters,)`` int64 rows of the features, all different.

    Raises:
        ReIDError: As `kmeans`.

    Example:
        >>> points = torch.tensor([[0.0], [0.0], [5.0]])
        >>> rows = kmeans_plus_plus(points, 2, torch.Generator())
        >>> points[rows].sum()
        tensor(5.)
    """
    features = check_features(features, "kmeans_plus_plus", normalised=False)
    count = check_num_clusters(num_clusters, len(features), "kmeans_plus_plus")
    with torch.no_grad():
        return _seed_rows(features, count, generator)


def _seed_rows(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return the rows that K-Means++ draws."""
    draws = torch.rand(count, generator=generator, device=generator.device)
    draws = draws.double().to(features.device)
    rows = torch.empty(count, dtype=torch.int64, device=features.device)
    rows[0] = (draws[0] * len(features)).long()
    nearest = torch.full((len(features),), torch.inf, device=features.device)
    for place in range(1, count):
        newest = features[rows[place - 1]]
        # Differences, not products: equal features must be at a distance of exactly 0.
        distance = torch.cdist(
            features,
            newest[None],
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        nearest = torch.minimum(nearest, distance[:, 0].square())
        cumulated = nearest.double().cumsum(dim=0)
        total = cumulated[-1]
        if total == 0:
            raise ReIDError(
                f"kmeans: {count} clusters asked of {len(features)} images with only "
                f"{place} different features; give at most {place}"
            )
        # The first row whose cumulated weight is above the draw has a weight above 0.
        row = torch.searchsorted(cumulated, draws[place] * total, right=True)
        rows[place] = row.clamp(max=len(features) - 1)
    return rows


def lloyd(features: Tensor, centers: Tensor, *, max_iter: int, tol: float) -> KMeans:
    """Alternate between nearest centers and means, from given centers (CALS-E2).

    Args:
        features: ``(N, D)`` float32.
        centers: ``(num_clusters, D)`` to start from, at most as many as there are
            different features.
        max_iter: Most steps.
        tol: As in `kmeans`.

    Returns:
        ``(labels, centers, inertia)`` as `KMeans`.
    """
    threshold = tol * float(features.var(dim=0, unbiased=False).mean())
    count = len(centers)
    labels, distance = _assign(features, centers)
    for _ in range(max_iter):
        previous = centers
        centers = torch.zeros_like(centers).index_add_(0, labels, features)
        sizes = torch.bincount(labels, minlength=count)
        centers = centers / sizes[:, None]
        before = labels
        labels, distance = _assign(features, centers)
        moved = float((centers - previous).square().sum())
        if moved <= threshold or torch.equal(labels, before):
            break
    return KMeans(labels.cpu(), centers, float(distance.double().sum()))


def _assign(features: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image's cluster and squared distance, no cluster left empty."""
    lengths = centers.square().sum(dim=1)
    labels, distance = [], []
    for block in features.split(max(1, _BLOCK // len(centers))):
        # |f - c|^2 - |f|^2, which has the same nearest center
        product = torch.addmm(lengths, block, centers.T, alpha=-2)
        nearest = product.argmin(dim=1)
        labels.append(nearest)
        distance.append((block - centers[nearest]).square().sum(dim=1))
    return _fill_empty(torch.cat(labels), torch.cat(distance), len(centers))


def _fill_empty(labels: Tensor, distance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Give each empty cluster the image that is farthest from its own center.

    A pass may empty the clusters that it takes images from, at most half as many as it
    fills, as it takes from clusters of two and more only.
    """
    sizes = torch.bincount(labels, minlength=count)
    while (sizes == 0).any():
        empty = (sizes == 0).nonzero()[:, 0]
        spare = torch.where(sizes[labels] > 1, distance, -1.0)
        farthest = spare.topk(len(empty)).indices
        farthest = farthest[spare[farthest] >= 0]
        labels, distance = labels.clone(), distance.clone()
        labels[farthest] = empty[: len(farthest)]
        distance[farthest] = 0
        sizes = torch.bincount(labels, minlength=count)
    return labels, distance
