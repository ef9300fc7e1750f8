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
from reidlib.clustering.dbscan import dbscan
from reidlib.clustering.infomap import infomap
from reidlib.clustering.jaccard import jaccard_distance
from reidlib.clustering.kmeans import kmeans
from reidlib.data.samplers import PKSampler
from reidlib.data.table import ReIDDataset
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.losses.memory import ClusterMemory, cluster_centroids
from reidlib.models.batch_norm import split_batch_norm
from reidlib.recipes.common import (
    CollapseError,
    TrainingConfig,
    batches_of,
    build_model,
    check_at_least,
    extract,
    final_metrics,
    health,
    open_training_images,
    score,
)


@dataclass(frozen=True)
class Config(TrainingConfig):
    """Settings of the unsupervised baseline."""

    clustering: Literal["dbscan", "infomap", "kmeans", "agglomerative"] = "dbscan"
    """How features become clusters."""
    k1: int = 30
    """Neighbours of the Jaccard distance, or of Infomap's graph."""
    k2: int = 6
    """Neighbours over which the Jaccard distance averages."""
    eps: float = 0.6
    """DBSCAN: largest Jaccard distance of neighbours, in (0, 1]."""
    min_samples: int = 4
    """DBSCAN and Infomap: smaller groups are outliers."""
    num_clusters: int = 0
    """K-means and agglomerative: number of clusters; 0: one per eight images."""
    temperature: float = 0.05
    """Temperature of the contrastive loss."""
    momentum: float = 0.1
    """Share of the old centroid that an update keeps."""
    update: Literal["sequential", "batch_mean", "hard"] = "sequential"
    """How a batch moves the centroids."""
    cross_camera: bool = True
    """Draw the images of a cluster from different cameras, where it has several."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, k1=1, k2=1, min_samples=1, num_clusters=0)
        if not 0 < self.eps <= 1:
            raise ReIDError(f"eps is {self.eps}; a Jaccard distance is in (0, 1]")
        if not 0 <= self.momentum <= 1:
            raise ReIDError(f"momentum is {self.momentum}; it must be in [0, 1]")
        if self.temperature <= 0:
            raise ReIDError(f"temperature is {self.temperature}; it must be positive")


# SynthCity has about 15 images of a person where Market-1501 has 17, but far fewer
# people: Market's k1 = 30 and eps = 0.6 merge them all.
_SMALL: dict[str, Any] = {
    "k1": 15,
    "k2": 4,
    "eps": 0.5,
    "frozen_stages": 4,
    "num_instances": 4,
    "pad": 5,
}

PRESETS = {
    "quick": Config(**_SMALL, epochs=6, iterations=18, num_labels=8),
    "ablation": Config(**_SMALL, epochs=8, iterations=28),
    "course": Config(**_SMALL, epochs=20, iterations=60),
    "paper": Config(backbone="resnet50", height=256, width=128),
}


def cluster(features: Tensor, config: Config) -> Tensor:
    """Return pseudo labels of features by the method of the configuration.

    Args:
        features: ``(N, D)`` features of length 1.
        config: Settings.

    Returns:
        ``(N,)`` int64 clusters from 0, -1 for an outlier.

    Raises:
        CollapseError: If fewer than two clusters come out: nothing to contrast.
    """
    k1 = min(config.k1, len(features) - 1)
    num_clusters = config.num_clusters or max(2, len(features) // 8)
    if config.clustering == "dbscan":
        distance = jaccard_distance(features, k1=k1, k2=min(config.k2, k1))
        labels = dbscan(distance, eps=config.eps, min_samples=config.min_samples)
    elif config.clustering == "infomap":
        labels = infomap(features, k=k1, min_cluster_size=config.min_samples)
    elif config.clustering == "kmeans":
        generator = torch.Generator().manual_seed(config.seed)
        labels = kmeans(features, num_clusters, generator).labels
    else:
        distance = jaccard_distance(features, k1=k1, k2=min(config.k2, k1))
        labels = agglomerative(distance, num_clusters)
    found, outliers = int(labels.max()) + 1, int((labels < 0).sum())
    if found < 2:
        raise CollapseError(
            f"{config.clustering} found {found} clusters and {outliers} outliers in "
            f"{len(labels)} images, and contrast needs two clusters: raise eps or "
            "lower min_samples if all are outliers, lower eps or k1 if all are one"
        )
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
    images = open_training_images(dataset, config, run.device)
    camids = dataset.train.camids
    cross_camera = config.cross_camera and dataset.train.has_cameras
    augment = config.augmentation()

    model = build_model(config, run)
    split_batch_norm(model, config.bn_splits)
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad],
        lr=config.lr,
        weight_decay=config.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.StepLR(
        optimizer, config.lr_step, config.lr_gamma
    )
    model, optimizer = run.setup(model, optimizer)
    run.track(model=model, optimizer=optimizer, schedule=schedule)

    for epoch in run.epochs(config.epochs):
        # 1. What does the network see in each image?
        features = extract(model, images, config)

        # 2. Images that look alike are taken for one person.
        pseudo_labels = cluster(features, config)
        run.record(**health(pseudo_labels, dataset.train))

        # 3. One centroid for each cluster.
        memory = ClusterMemory(
            num_clusters=int(pseudo_labels.max()) + 1,
            num_features=features.shape[1],
            temperature=config.temperature,
            momentum=config.momentum,
            update=config.update,
            num_instances=config.num_instances,
        ).to(run.device)
        memory.initialise(cluster_centroids(features, pseudo_labels).to(run.device))

        # 4. Pull each image to its own centroid, away from the others.
        sampler = PKSampler(
            pseudo_labels,
            config.num_labels,
            config.num_instances,
            config.iterations,
            run.generator,
            camids=camids if cross_camera else None,
        )
        model.train()
        batches = batches_of(images, sampler)
        for index, batch in run.progress(batches, "contrast", config.iterations):
            queries = model(augment(batch, run.generator))  # (P K, D)
            positives = pseudo_labels[index].to(run.device)
            run.step(memory(queries, positives), optimizer)  # CALR-E1
            memory.update(queries.detach(), positives)  # CALR-E2
        schedule.step()

        run.record(loss=run.mean_loss, lr=schedule.get_last_lr()[0])
        run.keep(pseudo_labels=pseudo_labels, memory=memory.bank)
        if config.eval_every and (epoch + 1) % config.eval_every == 0:
            run.record(test=score(model, dataset, config, run.device))

    return run.finish(final_metrics(model, images, dataset, config, run.device))
