"""CALR, stage 1: an encoder for one camera, and the people it tells apart there.

Algorithm 1 of CALR trains one of these for each camera, with nothing in common but the
start. Inside a camera there is no other camera to confuse a person with, so that its
clusters can be trusted more than those over all cameras. `reidlib.recipes.calr` makes
them and refines its global clusters by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reidlib.clustering.agglomerative import agglomerative
from reidlib.clustering.jaccard import jaccard_distance
from reidlib.clustering.quality import sparse_silhouette
from reidlib.data.table import ReIDDataset
from reidlib.engine.checkpoint import save_checkpoint
from reidlib.engine.processes import leads, once
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.losses.memory import ClusterMemory
from reidlib.recipes.diagnosis import health
from reidlib.recipes.settings import (
    PAPER,
    ContrastConfig,
    check_at_least,
    check_batch,
    check_cluster_number,
    check_types,
    cluster_number,
    small_presets,
)
from reidlib.recipes.steps import (
    batches,
    end_epoch,
    extract,
    filled,
    open_training_images,
    reid_network,
    start,
)

VERSION = 1
"""1: the first."""

LABELS = "local_labels.safetensors"
"""File in the folder of a run with the clusters of its camera."""

Keep = Literal["last", "silhouette"]


@dataclass(frozen=True)
class Stage:
    """What the training inside a camera has of its own when it is a stage of CALR."""

    epochs: int = 20
    """Epochs of each camera."""
    iterations: int = 100
    """Steps of the optimiser per epoch."""
    num_labels: int = 16
    """Clusters in a batch."""
    num_instances: int = 4
    """Images of each of them."""
    num_clusters: float = 0.2
    """Clusters of a camera: a share of its images below 1, or a number from 2 up."""
    keep: Keep = "last"
    """Keep the last clusters, or those of the best silhouette."""

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, epochs=1, iterations=1, num_labels=1, num_instances=1)
        check_batch(self.num_labels, self.num_instances)
        check_cluster_number(self.num_clusters)


@dataclass(frozen=True)
class Config(ContrastConfig):
    """Settings of the training inside one camera."""

    num_clusters: float = 0.2
    """Clusters: a share of the camera's images below 1, or a
    number from 2 up."""
    k1: int = 15
    """Neighbours of the Jaccard distance."""
    k2: int = 4
    """Neighbours over which the Jaccard distance averages."""
    keep: Keep = "last"
    """Clusters to keep: those of the trained encoder, or those of the epoch with the
    best silhouette."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, k1=1, k2=1)
        check_cluster_number(self.num_clusters)


STAGES = {
    "quick": Stage(epochs=1, iterations=4, num_labels=8),
    "ablation": Stage(epochs=4, iterations=8),
    "course": Stage(epochs=10, iterations=12),
    "paper": Stage(),
}
"""The training inside each camera, by the preset of CALR that it is a part of."""

_OWN = {name: vars(stage) for name, stage in STAGES.items()}

PRESETS = {
    **small_presets(Config, **_OWN),
    "paper": Config(**PAPER, **_OWN["paper"]),
}

network = reid_network


class _Kept:
    """The clusters to keep so far; part of the checkpoint."""

    def __init__(self, by_silhouette: bool) -> None:
        self.by_silhouette = by_silhouette
        self.labels = torch.empty(0, dtype=torch.int64)
        self.silhouette = -1.0

    def offer(self, labels: Tensor, silhouette: float) -> None:
        """Keep these clusters, or leave those that are better."""
        first = len(self.labels) == 0
        if first or not self.by_silhouette or silhouette > self.silhouette:
            self.labels, self.silhouette = labels, silhouette

    def state_dict(self) -> dict[str, Any]:
        return {"labels": self.labels, "silhouette": self.silhouette}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.labels, self.silhouette = state["labels"], state["silhouette"]


def cluster(features: Tensor, config: Config) -> tuple[Tensor, float]:
    """Return the clusters of one camera's images, and their silhouette.

    Args:
        features: ``(N, D)`` L2-normalised features.
        config: Settings.

    Returns:
        ``(N,)`` int64 clusters, no outliers, and the mean silhouette on the Jaccard
        distance, -1 where it is not defined.
    """
    k1 = min(config.k1, len(features))
    distance = jaccard_distance(features, k1=k1, k2=min(config.k2, k1))
    count = cluster_number(config.num_clusters)
    if isinstance(count, float):
        labels = agglomerative(distance, count)
    else:
        labels = agglomerative(distance, min(count, len(features)))
    if not 1 < int(labels.max()) + 1 < len(labels):
        return labels, -1.0
    return labels, sparse_silhouette(distance, labels)


def train(config: Config, dataset: ReIDDataset, run: Run) -> dict[str, Any]:
    """Train on the images of one camera, CALR-E3, and keep its clusters.

    Args:
        config: Settings.
        dataset: Training images of one camera; no test split is looked at.
        run: The run; its folder gets ``local_labels.safetensors``.

    Returns:
        The content of the result file: the quality of the clusters, and the epochs.

    Raises:
        ReIDError: If there are images of more than one camera.
    """
    check_one_camera(dataset)
    # A camera may have seen one person.
    images = open_training_images(dataset, config, run.device, least_people=1)
    augment = config.augmentation()
    kept = _Kept(config.keep == "silhouette")
    model, _, optimizer, schedule = start(
        config, run, network(config), track={"kept": kept}
    )

    for _ in run.epochs(config.epochs):
        features = extract(model, images, config)  # (N, D)
        labels, silhouette = once(cluster, features, config)
        run.record(**health(labels, dataset.train), silhouette=silhouette)
        kept.offer(labels, silhouette)
        if int(labels.max()) < 1:
            run.log("one cluster: nothing to contrast, this camera is not trained on")
            continue
        memory = filled(
            ClusterMemory,
            features,
            labels,
            run,
            temperature=config.temperature,
            momentum=config.momentum,
            num_instances=config.num_instances,
        )
        model.train()
        epoch = batches(images, labels, config, run)
        for index, batch in run.progress(epoch, "contrast", config.iterations):
            queries = model(augment(batch, run.generator))  # (P K, D)
            positives = labels[index].to(run.device)
            run.step(memory(queries, positives), optimizer)  # CALR-E3
            memory.update(queries.detach(), positives)  # CALR-E2
        end_epoch(config, run, model, dataset, schedule)

    # Once more, by the encoder that the last epoch left.
    features = extract(model, images, config)
    labels, silhouette = once(cluster, features, config)
    kept.offer(labels, silhouette)
    if leads():
        save_checkpoint(run.directory / LABELS, {"labels": kept.labels})
    final = {**health(kept.labels, dataset.train), "silhouette": kept.silhouette}
    return run.finish(final)


def check_one_camera(dataset: ReIDDataset) -> None:
    """Raise unless all images come from one camera."""
    if dataset.train.num_cams != 1 or not dataset.train.has_cameras:
        raise ReIDError(
            f"intra-camera training on {dataset.train.num_cams} cameras; give the "
            "images of one: reidlib.recipes.calr goes through the cameras by itself"
        )
