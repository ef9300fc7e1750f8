"""CALR: camera-aware label refinement (Li et al.), Algorithm 1.

Stage 1 trains an encoder for each camera and keeps its clusters: the *local* labels.
Stage 2 is the baseline's loop over all cameras with three changes: the *global*
clusters of each epoch lose the images that the local labels contradict; clusters that
one camera fills count less; and a classifier behind a gradient reversal removes
camera information from the features.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import check_labels, check_same_length
from reidlib.clustering.infomap import infomap
from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.engine.cache import cached_run
from reidlib.engine.checkpoint import (
    content_hash,
    load_checkpoint,
    random_states,
    save_checkpoint,
    set_random_states,
)
from reidlib.engine.processes import leads, once, shared_out
from reidlib.engine.run import Run, same_settings
from reidlib.errors import ReIDError
from reidlib.labels.refinement import (
    Refinement,
    pivot_scores,
    refine_labels,
    select_pivots,
)
from reidlib.labels.schedules import Schedule, discard_probability
from reidlib.labels.weights import camera_entropy_weights
from reidlib.losses.camera import CameraClassifier, camera_loss, reversal_strength
from reidlib.losses.memory import ClusterMemory, Update
from reidlib.paths import user_path
from reidlib.recipes import calr_local
from reidlib.recipes.diagnosis import (
    health,
    health_by_camera,
    health_within_cameras,
)
from reidlib.recipes.settings import (
    PAPER,
    SMALL_CLUSTERS,
    ClusteringConfig,
    ContrastConfig,
    check_at_least,
    check_not_negative,
    check_share,
    check_unused,
    hashed,
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
"""1: the first; a new version of `calr_local` is a new one of this."""


@dataclass(frozen=True)
class Config(ContrastConfig, ClusteringConfig):
    """Settings of CALR.

    The defaults follow the paper, and its published code for temperature, momentum and
    whatever the paper does not say; the preset ``paper`` has the paper's figures.
    """

    local: calr_local.Stage = field(default_factory=calr_local.Stage)
    """Stage 1: the training inside each camera."""
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
    refinement: Literal["none", "ordered", "every", "single", "best"] = "ordered"
    """Which pivots refine the global clusters, see `select_pivots`."""
    schedule: Schedule = "cosine"
    """How the probability to discard falls over the epochs."""
    period: float = 1.0
    """Length of that fall, in trainings."""
    floor: float = 0.0
    """Least probability to discard."""
    weighting: Literal["none", "batch", "weights"] = "batch"
    """Weigh clusters by their camera entropy, normalised as in `info_nce`."""
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
    update: Update = "sequential"
    """How a batch moves the centroids."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, k=2, min_cluster_size=1)
        check_at_least(self, weight_from=0, align_from=0, align_epochs=0)
        check_share(self, "min_similarity")
        check_not_negative(self, "beta", "reversal", "reversal_gamma")
        if self.refinement == "none":
            check_unused(self, "period", "floor", where="where refinement is none")
        self.discard_probability(0)
        self.stage_1()

    def read_files(self, dataset: ReIDDataset) -> dict[str, str]:
        """Return what a run reads beside the images, see `CommonConfig`."""
        return super().read_files(dataset) | hashed(local_labels=self.local_labels)

    def stage_1(self) -> calr_local.Config:
        """Return the settings of stage 1: all that it depends on, and nothing else."""
        names = [shared.name for shared in dataclasses.fields(ContrastConfig)]
        shared = {name: getattr(self, name) for name in names}
        one_camera = {"bn_splits": 1, "eval_every": 0}
        return calr_local.Config(**{**shared, **one_camera, **vars(self.local)})

    def discard_probability(self, epoch: int) -> float:
        """Return the probability to discard a contradicted image in an epoch."""
        return discard_probability(
            epoch, self.epochs, self.schedule, period=self.period, floor=self.floor
        )

    def aligned(self, epoch: int) -> bool:
        """Return whether an epoch has the camera loss."""
        end = self.align_from + (self.align_epochs or self.epochs)
        return self.beta > 0 and self.align_from <= epoch < end

    def weighted(self, epoch: int) -> bool:
        """Return whether an epoch weighs its clusters."""
        return self.weighting != "none" and epoch >= self.weight_from


# Four images of a person in a camera and about fifteen in all, where Market-1501 has
# four and seventeen, but features of a small network: with k = 15 Infomap merges half
# of the people, and few cosines reach 0.5.
_GRAPH = {"k": 10, "min_similarity": 0.2, "min_cluster_size": 4}
# What the paper says of its training; the steps of an epoch are its code's.
_PAPER: dict[str, Any] = {
    **PAPER,
    "pooling": "gap",
    "iterations": 400,
    "temperature": 0.1,
    "momentum": 0.2,
    "replacement": "published",
}

PRESETS = {
    **small_presets(
        Config,
        SMALL_CLUSTERS,
        _GRAPH,
        **{name: {"local": stage} for name, stage in calr_local.STAGES.items()},
    ),
    "paper": Config(**_PAPER),
    "ibn": Config(**{**_PAPER, "backbone": "resnet50_ibn_a", "pooling": "gem"}),
    "veri": Config(**{**_PAPER, "height": 224, "width": 224}),
    "code": Config(
        **PAPER,
        iterations=400,
        bn_splits=4,
        local=calr_local.Stage(keep="silhouette"),
        refinement="single",
        schedule="none",
        weighting="weights",
        weight_from=5,
        align_epochs=3,
        camera_form="double_softmax",
        replacement="published",
    ),
}
"""``paper`` has the paper's settings, ``ibn`` the network of its ablations (Tables III
to V), ``veri`` its size of vehicles, and ``code`` what the published code does where it
differs."""

PRESET_NOTES = {
    "ibn": "as paper, with the network of its ablations",
    "veri": "as paper, with its size of vehicles",
    "code": "what its published code does, where that differs",
}

network = reid_network


def cluster(features: Tensor, config: Config) -> Tensor:
    """Return global clusters.

    Args:
        features: ``(N, D)`` L2-normalised features.
        config: Settings.

    Returns:
        ``(N,)`` int64 clusters from 0, -1 for an outlier.
    """
    if config.clustering == "dbscan":
        return jaccard_dbscan(features, config, config.min_cluster_size)
    return infomap(features, config.k, config.min_similarity, config.min_cluster_size)


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
        features: ``(N, D)`` L2-normalised features.
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
    """Train without identities, with the camera of each image: CALR-A1, CALR-E9.

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
    check_requirements(config)
    images = open_training_images(dataset, config, run.device)
    cameras, numbers = np.unique(dataset.train.camids, return_inverse=True)
    camids = torch.from_numpy(numbers).long()  # from 0 without gaps
    augment = config.augmentation()

    # Stage 1: people inside each camera.
    refines = config.refinement != "none"
    local_labels = make_local_labels(config, dataset, run) if refines else None

    # Stage 2: people across cameras.
    model = network(config)
    classifier = CameraClassifier(model.num_features, len(cameras))
    model, (classifier,), optimizer, schedule = start(
        config, run, model, heads={"classifier": classifier}
    )

    for number in run.epochs(config.epochs):
        # 1. Global clusters.
        features = extract(model, images, config)  # (N, D)
        clusters = once(cluster, features, config)
        run.record(
            unrefined=health(clusters, dataset.train),
            within=health_within_cameras(clusters, dataset.train),
        )

        # 2. Take out what the local clusters contradict.
        pseudo_labels = clusters
        if local_labels is not None:
            refined = refine(
                features, clusters, local_labels, camids, number, config, run.generator
            )
            pseudo_labels = refined.labels
            run.record(**refinement_health(refined, dataset.train))
            run.record(probability=config.discard_probability(number))
        run.record(**health(pseudo_labels, dataset.train))
        require_two_clusters(pseudo_labels, config.clustering, ADVICE)

        # 3. One centroid, and one weight, for each cluster.
        weights = None
        if config.weighted(number):
            weights = camera_entropy_weights(pseudo_labels, camids)
        memory = filled(
            ClusterMemory,
            features,
            pseudo_labels,
            run,
            temperature=config.temperature,
            momentum=config.momentum,
            update=config.update,
            num_instances=config.num_instances,
            weights=weights,
            normalise="weights" if config.weighting == "weights" else "batch",
        )

        # 4. Contrast across cameras, and make cameras alike.
        model.train()
        hits = []
        strength = reversal_strength(
            number / config.epochs, config.reversal, config.reversal_gamma
        )
        across = camids if config.cross_camera else None
        epoch = batches(images, pseudo_labels, config, run, across)
        for index, batch in run.progress(epoch, "contrast", config.iterations):
            queries = model(augment(batch, run.generator))  # (P K, D)
            positives = pseudo_labels[index].to(run.device)
            loss = memory(queries, positives)  # CALR-E1, CALR-E6 with weights
            if config.aligned(number):
                seen_by = camids[index].to(run.device)
                logits = classifier(queries, strength)  # (P K, cameras), CALR-E7
                hits.append((logits.argmax(dim=1) == seen_by).float().mean())
                domain = camera_loss(logits, seen_by, config.camera_form)  # CALR-E8
                loss = loss + config.beta * domain  # CALR-E9
            run.step(loss, optimizer)
            memory.update(queries.detach(), positives)  # CALR-E2

        if hits:
            run.record(camera_accuracy=float(torch.stack(hits).mean()))
        kept = {"pseudo_labels": pseudo_labels, "memory": memory.bank}
        kept["clusters"] = clusters
        end_epoch(config, run, model, dataset, schedule, kept)

    local = local_health(local_labels, dataset.train)
    return run.finish({**final_metrics(model, images, dataset, config, run), **local})


def refinement_health(refined: Refinement, table: ImageTable) -> dict[str, Any]:
    """Return what a refinement did, for the record of its epoch."""
    return {
        "discard_ratio": refined.discard_ratio,
        "pivots": refined.num_pivots,
        "emptied": refined.emptied,
        "refined_within": health_within_cameras(refined.labels, table),
    }


def local_health(labels: Tensor | None, table: ImageTable) -> dict[str, Any]:
    """Return the quality of the local clusters, over all cameras and in each."""
    if labels is None:
        return {}
    return {
        "local": health_within_cameras(labels, table),
        "local_by_camera": health_by_camera(labels, table),
    }


ADVICE = (
    "lower min_similarity and min_cluster_size if all are outliers, lower k if all are "
    "one"
)
"""What helps CALR against fewer than two clusters."""


def make_local_labels(config: Config, dataset: ReIDDataset, run: Run) -> Tensor:
    """Stage 1: train an encoder for each camera, and return the clusters of all.

    Each camera is a run of its own in the run cache: runs that differ in stage 2 alone
    share it. Each of several processes trains other cameras.

    Args:
        config: Settings.
        dataset: Data.
        run: The run of stage 2; its folder gets a copy of the labels, unless the
            settings name a file of them.

    Returns:
        ``(N,)`` int64 local labels, contiguous from 0 over all cameras.

    Raises:
        ReIDError: If labels were made from other data, or those of this run with other
            settings.
    """
    train_split = dataset.train
    only = dataclasses.replace(dataset, query=train_split[:0], gallery=train_split[:0])
    fingerprint = only.fingerprint()
    settings = json.loads(json.dumps(dataclasses.asdict(config.stage_1())))
    file = run.directory / calr_local.LABELS
    if config.local_labels or once(file.is_file):
        path = user_path(config.local_labels or file)
        saved = once(load_checkpoint, path, "labels")
        if saved.get("fingerprint") != fingerprint:
            raise ReIDError(
                f"the local labels in {path} were made from other images than those of "
                f"{dataset.name} ({dataset.root}); leave local_labels out to make them"
            )
        before = saved.get("settings", settings)
        if not config.local_labels and not same_settings(before, settings):
            raise ReIDError(
                f"the local labels in {path} were made with other settings of stage 1; "
                "remove that file to make them again"
            )
        labels = check_local_labels(saved["labels"], train_split, f"{path}")
        if not config.local_labels:
            run.made_from(local_labels=content_hash({"labels": labels}))
        run.log(f"stage 1: local labels from {path}")
        return labels

    def cluster_camera(camera: int) -> tuple[Tensor, str]:
        """Return the clusters of a camera, and what there is to say."""
        own = train_split[train_split.camids == camera]
        name = f"{dataset.name}-camera{camera}"
        if len(own) < 2:
            alone = f"{name} has {len(own)} image: a cluster of its own"
            return torch.zeros(len(own), dtype=torch.int64), alone
        result, folder = cached_run(
            calr_local.train,
            config.stage_1(),
            dataclasses.replace(only, name=name, train=own),
            device=str(run.device),
        )
        clusters = load_checkpoint(folder / calr_local.LABELS)["labels"]
        return clusters, (
            f"{name}: {len(own)} images, {int(clusters.max()) + 1} clusters, "
            f"silhouette {result['metrics']['silhouette']:.3f}"
        )

    before = random_states(run.device)
    labels = torch.empty(len(train_split), dtype=torch.int64)
    found = 0
    cameras = np.unique(train_split.camids)
    made = shared_out(cluster_camera, cameras)
    of_cameras = zip(cameras, made, strict=True)
    for camera, (clusters, told) in run.progress(
        of_cameras, "stage 1, cameras", len(cameras)
    ):
        labels[torch.from_numpy(train_split.camids == camera)] = clusters + found
        found += int(clusters.max()) + 1
        run.log(f"stage 1: {told}")
    # The numbers of stage 2 must not depend on whether stage 1 was in the cache.
    set_random_states(before, run.device)
    if leads():
        state = {"labels": labels, "fingerprint": fingerprint, "settings": settings}
        save_checkpoint(file, state)
    run.made_from(local_labels=content_hash({"labels": labels}))
    return labels


def check_local_labels(labels: Tensor, table: ImageTable, where: str) -> Tensor:
    """Return local labels, or raise unless they are clusters inside the cameras.

    Args:
        labels: What a file holds.
        table: The training images.
        where: The file, for the message.

    Raises:
        ReIDError: If they are no labels of these images, if all are outliers, or if a
            cluster has images of two cameras.
    """
    array = check_labels(labels, where)
    check_same_length(where, local_labels=array, images=table.paths)
    again = "leave local_labels out to make them"
    member = array >= 0
    if not member.any():
        raise ReIDError(f"{where}: all local labels are outliers; {again}")
    clusters, cameras = np.unique(array[member]), table.camids[member]
    pairs = np.unique(np.stack([array[member], cameras]), axis=1)[0]  # (C or more,)
    if len(pairs) > len(clusters):
        several = int((np.unique(pairs, return_counts=True)[1] > 1).sum())
        raise ReIDError(
            f"{where}: {several} of {len(clusters)} local clusters have images of "
            f"several cameras, and each must be of one; {again}"
        )
    return torch.from_numpy(array)


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
