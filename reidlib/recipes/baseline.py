"""The baseline: cluster contrast, unsupervised (Dai et al., ACCV 2022).

Four steps an epoch: extract the features of all training images; cluster them, and
take the clusters for identities; fill a memory with one centroid per cluster; pull each
image towards the centroid of its cluster and away from all others. CALR and AFF_SCL
both grow out of this loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reidlib.clustering.agglomerative import agglomerative
from reidlib.clustering.infomap import infomap
from reidlib.clustering.jaccard import jaccard_distance
from reidlib.clustering.kmeans import kmeans
from reidlib.data.table import ReIDDataset
from reidlib.engine.processes import once
from reidlib.engine.run import Run
from reidlib.losses.memory import ClusterMemory, Update
from reidlib.recipes.diagnosis import health
from reidlib.recipes.settings import (
    PAPER,
    SMALL_CLUSTERS,
    ClusteringConfig,
    ContrastConfig,
    check_at_least,
    small_presets,
)
from reidlib.recipes.steps import (
    batches,
    check_requirements,
    end_epoch,
    extract,
    filled,
    final_metrics,
    jaccard_dbscan,
    open_training_images,
    reid_network,
    require_two_clusters,
    start,
)

VERSION = 1
"""1: the first."""


@dataclass(frozen=True)
class Config(ContrastConfig, ClusteringConfig):
    """Settings of the unsupervised baseline."""

    clustering: Literal["dbscan", "infomap", "kmeans", "agglomerative"] = "dbscan"
    """How features become clusters; ``k1`` is also the neighbours of Infomap."""
    min_samples: int = 4
    """DBSCAN and Infomap: smaller groups are outliers."""
    num_clusters: int = 0
    """K-means and agglomerative: number of clusters; 0: one per eight images."""
    update: Update = "sequential"
    """How a batch moves the centroids."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, min_samples=1, num_clusters=0)


PRESETS = {
    **small_presets(Config, SMALL_CLUSTERS),
    "paper": Config(**PAPER, replacement="published"),
}

network = reid_network


def cluster(features: Tensor, config: Config) -> Tensor:
    """Return pseudo labels of features by the method of the configuration.

    Args:
        features: ``(N, D)`` L2-normalised features.
        config: Settings.

    Returns:
        ``(N,)`` int64 clusters from 0, -1 for an outlier.

    Raises:
        CollapseError: If fewer than two clusters come out: nothing to contrast.
    """
    k1 = min(config.k1, len(features) - 1)
    num_clusters = config.num_clusters or max(2, len(features) // 8)
    if config.clustering == "dbscan":
        labels = jaccard_dbscan(features, config, config.min_samples)
    elif config.clustering == "infomap":
        labels = infomap(features, k=k1, min_cluster_size=config.min_samples)
    elif config.clustering == "kmeans":
        generator = torch.Generator().manual_seed(config.seed)
        labels = kmeans(features, num_clusters, generator).labels
    else:
        distance = jaccard_distance(features, k1=k1, k2=min(config.k2, k1))
        labels = agglomerative(distance, num_clusters)
    require_two_clusters(labels, config.clustering)
    return labels


def train(config: Config, dataset: ReIDDataset, run: Run) -> dict[str, Any]:
    """Train without identities.

    Args:
        config: Settings.
        dataset: Data; identities of the training split are used for the log alone.
        run: The run that keeps log, checkpoints and results.

    Returns:
        The content of the result file.
    """
    check_requirements(config)
    images = open_training_images(dataset, config, run.device)
    across = config.cross_camera and dataset.train.has_cameras
    camids = torch.from_numpy(dataset.train.camids) if across else None
    augment = config.augmentation()
    model, _, optimizer, schedule = start(config, run, network(config))

    for _ in run.epochs(config.epochs):
        # 1. What does the network see in each image?
        features = extract(model, images, config)  # (N, D)

        # 2. Images that look alike are taken for one person.
        pseudo_labels = once(cluster, features, config)  # (N,)
        run.record(**health(pseudo_labels, dataset.train))

        # 3. One centroid for each cluster.
        memory = filled(
            ClusterMemory,
            features,
            pseudo_labels,
            run,
            temperature=config.temperature,
            momentum=config.momentum,
            update=config.update,
            num_instances=config.num_instances,
        )

        # 4. Pull each image to its own centroid, away from the others.
        model.train()
        epoch = batches(images, pseudo_labels, config, run, camids)
        for index, batch in run.progress(epoch, "contrast", config.iterations):
            queries = model(augment(batch, run.generator))  # (P K, D)
            positives = pseudo_labels[index].to(run.device)
            run.step(memory(queries, positives), optimizer)  # CALR-E1
            memory.update(queries.detach(), positives)  # CALR-E2

        kept = {"pseudo_labels": pseudo_labels, "memory": memory.bank}
        end_epoch(config, run, model, dataset, schedule, kept)

    return run.finish(final_metrics(model, images, dataset, config, run))
