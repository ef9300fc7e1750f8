"""Infomap on the graph of nearest neighbours."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import (
    Array,
    check_count,
    check_features,
    check_number,
)
from reidlib.errors import ReIDError
from reidlib.labels.pseudo_labels import OUTLIER, contiguous_labels
from reidlib.neighbors.search import nearest_neighbors


def require_infomap(where: str) -> None:
    """Raise `ReIDError` if the package is not installed."""
    if importlib.util.find_spec("infomap") is None:
        raise ReIDError(
            f"{where}: the package infomap is not installed; run 'pip install infomap' "
            "(its licence is GPL-3.0-or-later), or cluster with dbscan (--clustering "
            "dbscan)"
        )


def infomap(
    features: Array,
    k: int = 15,
    min_similarity: float = 0.5,
    min_cluster_size: int = 5,
    *,
    seed: int = 123,
    num_trials: int = 1,
    backend: str = "auto",
) -> Tensor:
    """Cluster images by the flow on their neighbour graph (Infomap).

    Rosvall and Bergstrom, PNAS 2008. The global clusters of CALR's second stage and of
    ClusterContrast's better variant (CALR-A1), with the counts of their published code:
    a directed link from each image to those of its ``k - 1`` nearest others whose
    cosine is at least ``min_similarity``, weighted by the cosine, and a two-level
    partition of them. Images without a link, and those in clusters below
    ``min_cluster_size``, are outliers.

    Infomap is an optional package under the GPL-3.0-or-later, stricter than this
    library's own licence.

    Args:
        features: ``(N, D)`` L2-normalised features, on any device.
        k: Neighbourhood of an image, **the image itself counted** as in
            `jaccard_distance`: 15 means 14 others. Above N it acts as N.
        min_similarity: Least cosine of a link, in [0, 1]. A cosine of 0 makes no link.
        min_cluster_size: Smallest cluster that is kept.
        seed: Seed of Infomap's search, from 1 up; 123 is its own default.
        num_trials: Searches that are run; the one of shortest code length counts.
        backend: Passed to `nearest_neighbors`.

    Returns:
        ``(N,)`` int64 labels on the CPU, contiguous from 0 in the order of each
        cluster's first image, -1 for an outlier; all of them -1 where no pair is
        similar enough.

    Raises:
        ReIDError: If the package is missing, the features are not normalised and
            finite, or a number is out of range.

    Example:
        >>> points = torch.eye(3)[[0, 0, 0, 1, 1, 1, 2]]
        >>> infomap(points, k=3, min_cluster_size=3)
        tensor([ 0,  0,  0,  1,  1,  1, -1])
    """
    require_infomap("infomap")
    features = check_features(features, "infomap", normalised=True)
    k = check_count(k, "k", "infomap")
    floor = check_number(min_similarity, "min_similarity", "infomap", 0, 1)
    min_cluster_size = check_count(min_cluster_size, "min_cluster_size", "infomap")
    seed = check_count(seed, "seed", "infomap")
    num_trials = check_count(num_trials, "num_trials", "infomap")
    labels = np.full(len(features), OUTLIER, dtype=np.int64)
    others = min(k, len(features)) - 1
    if others == 0:
        return torch.from_numpy(labels)

    similarity, index = nearest_neighbors(features, others, backend=backend)
    weight, target = similarity.cpu().numpy(), index.cpu().numpy()
    source, place = np.nonzero((weight >= floor) & (weight > 0))
    if len(source) == 0:
        return torch.from_numpy(labels)
    from infomap import Infomap

    graph = Infomap(
        two_level=True, directed=True, silent=True, seed=seed, num_trials=num_trials
    )
    links = [source, target[source, place], weight[source, place]]
    graph.add_links(np.column_stack(links).astype(np.float64))
    # Through a file: result.modules() walks C++ containers with a class that infomap
    # and faiss both register at SWIG, and crashes where faiss was imported last.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "modules.clu"
        graph.run().write_clu(file)
        nodes, modules = np.loadtxt(file, dtype=np.int64, usecols=(0, 1), ndmin=2).T
    labels[nodes] = modules
    return contiguous_labels(labels, min_cluster_size=min_cluster_size)
