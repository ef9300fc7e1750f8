"""CALR: camera-aware label refinement (Li et al.), Algorithm 1.

Stage 1 trains an encoder for each camera and keeps its clusters: the *local* labels.
Stage 2 is the baseline's loop over all cameras with three changes: the *global*
clusters of each epoch lose the images that the local labels contradict; clusters that
one camera fills count less; and a classifier behind a gradient reversal takes out of
the features what tells the camera.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

# Not from reidlib.recipes: results would depend on the code of all recipes.
import reidlib.recipes.intra_camera as intra_camera
from reidlib.clustering.dbscan import dbscan
from reidlib.clustering.infomap import infomap
from reidlib.clustering.jaccard import jaccard_distance
from reidlib.clustering.quality import quality_within_cameras
from reidlib.data.samplers import PKSampler
from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.engine.cache import cached_run
from reidlib.engine.checkpoint import (
    load_checkpoint,
    random_states,
    save_checkpoint,
    set_random_states,
)
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.labels.pseudo_labels import contiguous_labels
from reidlib.labels.refinement import (
    Refinement,
    pivot_scores,
    refine_labels,
    select_pivots,
)
from reidlib.labels.schedules import Schedule, discard_probability
from reidlib.labels.weights import camera_entropy_weights
from reidlib.losses.camera import CameraClassifier, camera_loss, reversal_strength
from reidlib.losses.memory import ClusterMemory, cluster_centroids
from reidlib.losses.weighted import weighted_info_nce
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
    """Settings of CALR.

    The defaults follow the paper, and its published code for temperature, momentum and
    whatever the paper does not say; the preset ``paper`` has the paper's figures.
    """

    local_epochs: int = 20
    """Stage 1: epochs of each camera."""
    local_iterations: int = 100
    """Stage 1: steps of the optimiser per epoch."""
    local_num_labels: int = 16
    """Stage 1: clusters in a batch."""
    local_num_instances: int = 4
    """Stage 1: images of each of them."""
    local_clusters: float = 0.2
    """Stage 1: clusters of a camera, a share of its images up to 1, or a number."""
    local_keep: Literal["last", "silhouette"] = "last"
    """Stage 1: keep the last clusters, or those of the best silhouette."""
    local_labels: str | None = None
    """File with the local labels of an earlier run on the same data, instead of
    stage 1."""
    clustering: Literal["infomap", "dbscan"] = "infomap"
    """How features become global clusters."""
    k: int = 15
    """Neighbours of Infomap's graph and of the pivot score, the image counted."""
    min_similarity: float = 0.5
    """Least cosine of a neighbour, in the graph and in the pivot score."""
    min_cluster_size: int = 5
    """Smaller global clusters are outliers; DBSCAN: its min_samples."""
    k1: int = 30
    """DBSCAN: neighbours of the Jaccard distance."""
    k2: int = 6
    """DBSCAN: neighbours over which the Jaccard distance averages."""
    eps: float = 0.6
    """DBSCAN: largest Jaccard distance of neighbours, in (0, 1]."""
    refinement: Literal["none", "ordered", "every", "single", "best"] = "ordered"
    """Which pivots refine the global clusters, see `select_pivots`."""
    schedule: Schedule = "cosine"
    """How the probability to discard falls over the epochs."""
    period: float = 1.0
    """Length of that fall, in trainings."""
    floor: float = 0.0
    """Least probability to discard."""
    weighting: Literal["none", "batch", "weights"] = "batch"
    """Weigh clusters by their camera entropy, normalised as in `weighted_info_nce`."""
    weight_from: int = 0
    """First epoch, from 0, with weights."""
    beta: float = 1.0
    """Weight of the camera loss; 0: no alignment."""
    align_from: int = 0
    """First epoch, from 0, with the camera loss."""
    align_epochs: int = 0
    """Number of epochs with the camera loss; 0: all that are left."""
    reversal: float = 1.0
    """lambda of the gradient reversal (at the end of its ramp)."""
    reversal_gamma: float = 0.0
    """Steepness of lambda's ramp; 0: constant."""
    camera_form: Literal["cross_entropy", "double_softmax"] = "cross_entropy"
    """The camera loss as it should be, or as in the published code."""
    temperature: float = 0.05
    """Temperature of the contrastive losses."""
    momentum: float = 0.1
    """Share of the old centroid that an update keeps."""
    update: Literal["sequential", "batch_mean", "hard"] = "sequential"
    """How a batch moves the centroids."""
    cross_camera: bool = True
    """Draw the images of a cluster from different cameras, where it has several."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, k=2, min_cluster_size=1, k1=1, k2=1)
        check_at_least(self, weight_from=0, align_from=0, align_epochs=0)
        if not 0 <= self.min_similarity <= 1:
            raise ReIDError(f"min_similarity is {self.min_similarity}; give 0 to 1")
        for name in ("beta", "reversal", "reversal_gamma"):
            if not 0 <= getattr(self, name) < math.inf:  # NaN is neither
                raise ReIDError(
                    f"{name} is {getattr(self, name)}; give a number from 0 up"
                )
        if not 0 < self.eps <= 1:
            raise ReIDError(f"eps is {self.eps}; a Jaccard distance is in (0, 1]")
        if not 0 <= self.momentum <= 1:
            raise ReIDError(f"momentum is {self.momentum}; it must be in [0, 1]")
        if not self.temperature > 0:
            raise ReIDError(f"temperature is {self.temperature}; it must be positive")
        self.discard_probability(0)
        self.local()

    def local(self) -> intra_camera.Config:
        """Return the settings of stage 1: all that it depends on, and nothing else."""
        shared = {field.name for field in dataclasses.fields(TrainingConfig)}
        values = {name: getattr(self, name) for name in shared}
        values |= {
            "epochs": self.local_epochs,
            "iterations": self.local_iterations,
            "num_labels": self.local_num_labels,
            "num_instances": self.local_num_instances,
            "bn_splits": 1,
            "eval_every": 0,
        }
        return intra_camera.Config(
            **values,
            num_clusters=self.local_clusters,
            temperature=self.temperature,
            momentum=self.momentum,
            keep=self.local_keep,
        )

    def discard_probability(self, epoch: int) -> float:
        """Return the probability to discard a contradicted image in an epoch."""
        return discard_probability(
            epoch, self.epochs, self.schedule, period=self.period, floor=self.floor
        )

    def aligned(self, epoch: int) -> bool:
        """Return whether an epoch has the camera loss."""
        end = self.align_from + (self.align_epochs or self.epochs)
        return self.beta > 0 and self.align_from <= epoch < end


# Four images of a person in a camera and about fifteen in all, where Market-1501 has
# four and seventeen, but features of a small network: with k = 15 Infomap merges half
# of the people, and few cosines reach 0.5.
_SMALL: dict[str, Any] = {
    "k": 10,
    "min_similarity": 0.2,
    "min_cluster_size": 4,
    "k1": 15,
    "k2": 4,
    "eps": 0.5,
    "frozen_stages": 4,
    "num_instances": 4,
    "pad": 5,
}
# What the paper says of its training; the steps of an epoch are its code's.
_PAPER: dict[str, Any] = {
    "backbone": "resnet50",
    "pooling": "gap",
    "height": 256,
    "width": 128,
    "iterations": 400,
    "temperature": 0.1,
    "momentum": 0.2,
}

PRESETS = {
    "quick": Config(
        **_SMALL,
        epochs=6,
        iterations=18,
        num_labels=8,
        local_epochs=2,
        local_iterations=4,
        local_num_labels=8,
    ),
    "ablation": Config(
        **_SMALL, epochs=8, iterations=28, local_epochs=4, local_iterations=8
    ),
    "course": Config(
        **_SMALL, epochs=20, iterations=60, local_epochs=10, local_iterations=12
    ),
    "paper": Config(**_PAPER),
    "ibn": Config(**{**_PAPER, "backbone": "resnet50_ibn_a", "pooling": "gem"}),
    "veri": Config(**{**_PAPER, "height": 224, "width": 224}),
    "code": Config(
        backbone="resnet50",
        height=256,
        width=128,
        iterations=400,
        bn_splits=4,
        local_keep="silhouette",
        refinement="single",
        schedule="none",
        weighting="weights",
        weight_from=5,
        align_epochs=3,
        camera_form="double_softmax",
    ),
}
"""``paper`` has the paper's settings, ``ibn`` the network of its ablations (Tables III
to V), ``veri`` its size of vehicles, and ``code`` what the published code does where it
differs."""


def check_cameras(dataset: ReIDDataset) -> None:
    """Raise unless there are two cameras or more, and every image has one."""
    table, name = dataset.train, dataset.name
    instead = "train the baseline, which needs no cameras: `reidlib train baseline`"
    if not table.has_cameras:
        raise ReIDError(
            f"{int((table.camids < 0).sum())} of {len(table)} training images of "
            f"{name} have no camera, and CALR works camera by camera; write the "
            f"cameras into the table, or {instead}"
        )
    if table.num_cams < 2:
        raise ReIDError(
            f"all training images of {name} come from one camera: there is no other to "
            f"refine by or to align with; {instead}"
        )


def check_infomap(config: Config) -> None:
    """Raise if Infomap is asked for and missing: better now than after stage 1."""
    if config.clustering == "infomap" and importlib.util.find_spec("infomap") is None:
        raise ReIDError(
            "CALR clusters with infomap, which is not installed; run 'pip install "
            "infomap' (its licence is AGPL-3.0-or-later) or choose --clustering dbscan"
        )


def make_local_labels(config: Config, dataset: ReIDDataset, run: Run) -> Tensor:
    """Stage 1: train an encoder for each camera, and return the clusters of all.

    Each camera is a run of its own, kept in the cache under a hash of the images, the
    settings and the code that it depends on; runs that differ in stage 2 alone share
    it.

    Args:
        config: Settings.
        dataset: Data.
        run: The run of stage 2; its folder gets a copy of the labels, unless the
            settings name a file of them.

    Returns:
        ``(N,)`` int64 local labels, contiguous from 0 over all cameras.

    Raises:
        ReIDError: If labels were made from other data.
    """
    train_split = dataset.train
    only = dataclasses.replace(dataset, query=train_split[:0], gallery=train_split[:0])
    fingerprint = only.fingerprint()
    file = run.directory / intra_camera.LABELS
    if config.local_labels or file.is_file():
        path = Path(config.local_labels or file)
        saved = load_checkpoint(path)
        if saved.get("fingerprint") != fingerprint:
            raise ReIDError(
                f"the local labels in {path} were made from other images than those of "
                f"{dataset.name} ({dataset.root}); leave local_labels out to make them"
            )
        run.log(f"stage 1: local labels from {path}")
        return saved["labels"]

    before = random_states()
    labels = torch.empty(len(train_split), dtype=torch.int64)
    found = 0
    cameras = np.unique(train_split.camids)
    for camera in run.progress(cameras, "stage 1, cameras", len(cameras)):
        rows = np.flatnonzero(train_split.camids == camera)
        name = f"{dataset.name}-camera{camera}"
        own = dataclasses.replace(only, name=name, train=train_split[rows])
        if len(rows) < 2:
            labels[rows] = found
            found += len(rows)
            run.log(f"stage 1: {name} has {len(rows)} image: a cluster of its own")
            continue
        result, folder = cached_run(
            intra_camera.train, config.local(), own, device=str(run.device)
        )
        clusters = load_checkpoint(folder / intra_camera.LABELS)["labels"]
        labels[rows] = clusters + found
        found += int(clusters.max()) + 1
        run.log(
            f"stage 1: {name}: {len(rows)} images, {int(clusters.max()) + 1} clusters, "
            f"silhouette {result['metrics']['silhouette']:.3f}"
        )
    # The numbers of stage 2 must not depend on whether stage 1 was in the cache.
    set_random_states(before)
    save_checkpoint(file, {"labels": labels, "fingerprint": fingerprint})
    return labels


def cluster(features: Tensor, config: Config) -> Tensor:
    """Return global clusters.

    Args:
        features: ``(N, D)`` features of length 1.
        config: Settings.

    Returns:
        ``(N,)`` int64 clusters from 0, -1 for an outlier.
    """
    if config.clustering == "infomap":
        return infomap(
            features, config.k, config.min_similarity, config.min_cluster_size
        )
    k1 = min(config.k1, len(features) - 1)
    distance = jaccard_distance(features, k1=k1, k2=min(config.k2, k1))
    return dbscan(distance, eps=config.eps, min_samples=config.min_cluster_size)


def refine(
    features: Tensor,
    clusters: Tensor,
    local_labels: Tensor,
    camids: Tensor,
    epoch: int,
    config: Config,
    generator: torch.Generator,
) -> Refinement:
    """Refine global clusters by local ones, as Algorithm 1 does once an epoch.

    Args:
        features: ``(N, D)`` features of length 1.
        clusters: ``(N,)`` global clusters.
        local_labels: ``(N,)`` local clusters.
        camids: ``(N,)`` camera ids.
        epoch: Epoch, from 0.
        config: Settings.
        generator: Source of the draws.

    Returns:
        The refined clusters, with what was discarded and by how many pivots.
    """
    scores = pivot_scores(features, config.k, config.min_similarity)  # CALR-E4
    pivots = select_pivots(scores, clusters, camids, config.refinement)  # type: ignore[arg-type]
    probability = config.discard_probability(epoch)
    return refine_labels(  # CALR-E5
        clusters, local_labels, camids, pivots, probability, generator
    )


def train(config: Config, dataset: ReIDDataset, run: Run) -> dict[str, Any]:
    """Train without identities, with the camera of each image.

    Args:
        config: Settings.
        dataset: Data; identities of the training split are used for the log alone.
        run: The run that keeps log, checkpoints and results.

    Returns:
        The content of the result file.

    Raises:
        ReIDError: If an image has no camera, or there is one camera only.
        CollapseError: If an epoch leaves fewer than two clusters.
    """
    check_cameras(dataset)
    check_infomap(config)
    images = open_training_images(dataset, config, run.device)
    cameras, numbers = np.unique(dataset.train.camids, return_inverse=True)
    camids = torch.from_numpy(numbers).long()  # from 0 without gaps
    augment = config.augmentation()

    # Stage 1: people inside each camera.
    local_labels = None
    if config.refinement != "none":
        local_labels = make_local_labels(config, dataset, run)

    # Stage 2: people across cameras.
    model = build_model(config, run)
    split_batch_norm(model, config.bn_splits)
    classifier = CameraClassifier(model.num_features, len(cameras))
    trained = [*model.parameters(), *(classifier.parameters() if config.beta else ())]
    optimizer = torch.optim.Adam(
        [p for p in trained if p.requires_grad],
        lr=config.lr,
        weight_decay=config.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.StepLR(
        optimizer, config.lr_step, config.lr_gamma
    )
    classifier = run.setup(classifier)
    model, optimizer = run.setup(model, optimizer)
    run.track(
        model=model, classifier=classifier, optimizer=optimizer, schedule=schedule
    )

    for epoch in run.epochs(config.epochs):
        # 1. Global clusters.
        features = extract(model, images, config)
        clusters = cluster(features, config)
        pseudo_labels = clusters
        run.record(
            unrefined=health(clusters, dataset.train),
            within=health_within_cameras(clusters, dataset.train),
        )

        # 2. Take out what the local clusters contradict.
        if local_labels is not None:
            refined = refine(
                features, clusters, local_labels, camids, epoch, config, run.generator
            )
            pseudo_labels = refined.labels
            run.record(
                discard_ratio=refined.discard_ratio,
                probability=config.discard_probability(epoch),
                pivots=refined.num_pivots,
                emptied=refined.emptied,
                refined_within=health_within_cameras(pseudo_labels, dataset.train),
            )
        run.record(**health(pseudo_labels, dataset.train))
        num_clusters = int(pseudo_labels.max()) + 1
        if num_clusters < 2:
            raise CollapseError(
                f"{config.clustering} and refinement left {num_clusters} clusters in "
                f"{len(pseudo_labels)} images, and contrast needs two: lower "
                "min_similarity and min_cluster_size if all are outliers, lower k if "
                "all are one"
            )

        # 3. One centroid, and one weight, for each cluster.
        memory = ClusterMemory(
            num_clusters,
            features.shape[1],
            temperature=config.temperature,
            momentum=config.momentum,
            update=config.update,
        ).to(run.device)
        memory.initialise(cluster_centroids(features, pseudo_labels).to(run.device))
        weights = None
        if config.weighting != "none" and epoch >= config.weight_from:
            weights = camera_entropy_weights(pseudo_labels, camids).to(run.device)

        # 4. Contrast across cameras, and make cameras alike.
        sampler = PKSampler(
            pseudo_labels,
            config.num_labels,
            config.num_instances,
            config.iterations,
            run.generator,
            camids=camids if config.cross_camera else None,
        )
        strength = reversal_strength(
            epoch / config.epochs, config.reversal, config.reversal_gamma
        )
        camera_hits = []
        model.train()
        batches = batches_of(images, sampler)
        for index, batch in run.progress(batches, "contrast", config.iterations):
            queries = model(augment(batch, run.generator))  # (P K, D)
            positives = pseudo_labels[index].to(run.device)
            if weights is None:
                loss = memory(queries, positives)  # CALR-E1
            else:
                loss = weighted_info_nce(  # CALR-E6
                    queries,
                    memory.bank,
                    positives,
                    weights,
                    config.temperature,
                    normalise=config.weighting,  # type: ignore[arg-type]
                )
            if config.aligned(epoch):
                seen_by = camids[index].to(run.device)
                logits = classifier(queries, strength)
                camera_hits.append((logits.argmax(dim=1) == seen_by).float().mean())
                domain = camera_loss(logits, seen_by, config.camera_form)  # CALR-E8
                loss = loss + config.beta * domain  # CALR-E9
            run.step(loss, optimizer)
            memory.update(queries.detach(), positives)  # CALR-E2
        schedule.step()

        run.record(loss=run.mean_loss, lr=schedule.get_last_lr()[0])
        if camera_hits:
            run.record(camera_accuracy=float(torch.stack(camera_hits).mean()))
        run.keep(pseudo_labels=pseudo_labels, clusters=clusters, memory=memory.bank)
        if config.eval_every and (epoch + 1) % config.eval_every == 0:
            run.record(test=score(model, dataset, config, run.device))

    metrics = final_metrics(model, images, dataset, config, run.device)
    if local_labels is not None:
        metrics["local"] = health_within_cameras(local_labels, dataset.train)
        of_camera = [np.flatnonzero(dataset.train.camids == c) for c in cameras]
        metrics["local_by_camera"] = [
            health(contiguous_labels(local_labels[rows]), dataset.train[rows])
            for rows in of_camera
        ]
    return run.finish(metrics)


def health_within_cameras(pseudo_labels: Tensor, table: ImageTable) -> dict[str, Any]:
    """Return the quality of clusters as one camera sees it, if the truth is known.

    Args:
        pseudo_labels: ``(N,)`` local or global clusters.
        table: The images that were clustered.
    """
    if not table.has_identities:
        return {}
    return dataclasses.asdict(
        quality_within_cameras(pseudo_labels, table.pids, table.camids)
    )
