"""AFF_SCL: attention-guided features and symmetric contrast (Wu et al., Sensors 2022).

The loop of the baseline with two things changed. The network attends before it pools:
to the whole feature map, then to each of two groups of its channels. And each cluster
has two representatives, its mean and its hardest image of late, which every image is
contrasted with, one softmax for each.

With a labelled source beside the target (`reidlib.data.with_source`) it also adapts
from one domain to another. How the paper uses its source it does not say. Here the
classes of the source, known, and the clusters of the target, found, share the two
memories, as in SpCL (Ge et al., NeurIPS 2020); or the source is trained on first; or it
is trained on alone, as the control.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.clustering.dbscan import dbscan
from reidlib.clustering.jaccard import jaccard_distance
from reidlib.data.adaptation import AdaptationDataset
from reidlib.data.images import ImageSource, open_images
from reidlib.data.samplers import PKSampler
from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.losses.memory import cluster_centroids
from reidlib.losses.symmetric import SymmetricMemory
from reidlib.losses.triplet import batch_hard_triplet
from reidlib.models.attention import Attention
from reidlib.models.batch_norm import split_batch_norm, untracked_statistics
from reidlib.recipes.common import (
    AttentionConfig,
    CollapseError,
    batches_of,
    build_attentive_model,
    check_at_least,
    extract,
    final_metrics,
    health,
    open_training_images,
    score,
)

VERSION = 1
"""1: the first."""

PATIENCE = 3
"""Epochs in a row without two clusters after which a run stops."""

ADVICE = (
    "raise eps or lower min_samples if all are outliers, lower eps or k1 if all are one"
)
"""What helps against fewer than two clusters."""


@dataclass(frozen=True)
class Config(AttentionConfig):
    """Settings of AFF_SCL.

    The defaults are the paper's, and what its ancestors' public code has for the
    temperature, the momentum and the steps of an epoch, which it does not give.
    """

    num_instances: int = 8
    """K: images of each cluster in a batch."""
    epochs: int = 60
    """Number of epochs."""
    global_attention: Attention = "casam"
    """Attention over the whole feature map, before it is cut."""
    local_attention: Attention = "cam"
    """Attention over each group of channels."""
    k1: int = 30
    """Neighbours of the Jaccard distance."""
    k2: int = 6
    """Neighbours over which the Jaccard distance averages."""
    eps: float = 0.65
    """DBSCAN: largest Jaccard distance of neighbours, in (0, 1]."""
    min_samples: int = 4
    """DBSCAN: smaller groups are outliers."""
    loss: Literal["symmetric", "classifier"] = "symmetric"
    """Symmetric contrast, or what it is compared with: a classifier over the clusters
    and a triplet loss."""
    hard_weight: float = 0.75
    """lambda 1: weight of the contrast with the hard memory."""
    mean_weight: float = 0.25
    """lambda 2: weight of the contrast with the mean memory."""
    balance: Literal["predictions", "features", "none"] = "predictions"
    """What the balance loss compares, see `SymmetricMemory`."""
    mine_against: Literal["mean", "hard"] = "mean"
    """Which memory tells how hard an image is."""
    temperature: float = 0.05
    """Temperature of the contrastive losses."""
    momentum: float = 0.1
    """Share of the old entry that an update of a memory keeps."""
    margin: float = 0.3
    """Margin of the triplet loss beside the classifier."""
    cross_camera: bool = True
    """Draw the images of a cluster from different cameras, where it has several."""
    adaptation: Literal["none", "joint", "pretrain", "source"] = "none"
    """Learn from the target alone; from source and target together; from the source
    first and then from the target; or from the source alone."""
    source_epochs: int = 20
    """Epochs on the source before those on the target, if adaptation is pretrain."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, k1=1, k2=1, min_samples=1, source_epochs=1)
        if not 0 < self.eps <= 1:
            raise ReIDError(f"eps is {self.eps}; a Jaccard distance is in (0, 1]")
        if not 0 <= self.momentum <= 1:
            raise ReIDError(f"momentum is {self.momentum}; it must be in [0, 1]")
        for name in ("temperature", "margin"):
            if not 0 < getattr(self, name) < math.inf:  # NaN is neither
                raise ReIDError(f"{name} is {getattr(self, name)}; it must be positive")
        weights = (self.hard_weight, self.mean_weight)
        if not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
            raise ReIDError(
                f"hard_weight is {self.hard_weight} and mean_weight "
                f"{self.mean_weight}; give two numbers from 0 up, not both 0"
            )

    @property
    def all_epochs(self) -> int:
        """Epochs on the source alone and on the target."""
        before = self.source_epochs if self.adaptation == "pretrain" else 0
        return before + self.epochs

    def domains(self, epoch: int) -> tuple[bool, bool]:
        """Return whether an epoch learns from the source, and from the target."""
        if self.adaptation == "pretrain":
            return epoch < self.source_epochs, epoch >= self.source_epochs
        return self.adaptation in ("joint", "source"), self.adaptation != "source"


# Clusters, steps and images as the baseline's, so that the two can be compared.
_SMALL: dict[str, Any] = {
    "k1": 15,
    "k2": 4,
    "eps": 0.5,
    "frozen_stages": 4,
    "num_instances": 4,
    "pad": 5,
}

PRESETS = {
    "quick": Config(**_SMALL, epochs=6, iterations=18, num_labels=8, source_epochs=3),
    "ablation": Config(**_SMALL, epochs=8, iterations=28, source_epochs=4),
    "course": Config(**_SMALL, epochs=20, iterations=60, source_epochs=10),
    "paper": Config(backbone="resnet50", pooling="gap", height=256, width=128),
}


@dataclass(frozen=True)
class Domain:
    """Images that an epoch learns from.

    Attributes:
        images: N images.
        table: Their table.
        features: ``(N, D)`` features, as the epoch began.
        labels: ``(N,)`` classes in the memory that source and target share, -1 for an
            image that is left out.
    """

    images: ImageSource
    table: ImageTable
    features: Tensor
    labels: Tensor

    def batches(self, config: Config, run: Run) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the classes and the images of each batch of an epoch."""
        across = config.cross_camera and self.table.has_cameras
        sampler = PKSampler(
            self.labels,
            config.num_labels,
            config.num_instances,
            config.iterations,
            run.generator,
            camids=self.table.camids if across else None,
        )
        for index, batch in batches_of(self.images, sampler):
            yield self.labels[index], batch


def source_of(config: Config, dataset: ReIDDataset) -> ReIDDataset | None:
    """Return the labelled source, if the configuration asks for one.

    Raises:
        ReIDError: If it does, and there is none.
    """
    if config.adaptation == "none":
        return None
    source = dataset.source if isinstance(dataset, AdaptationDataset) else None
    if source is None:
        raise ReIDError(
            f"adaptation is {config.adaptation!r} and {dataset.name} has no labelled "
            "source beside it; give one (--source-data and --source-root, or "
            "reidlib.data.with_source), or set adaptation to none"
        )
    return source


def cluster(features: Tensor, config: Config) -> Tensor:
    """Return clusters of the target by DBSCAN on the Jaccard distance.

    Args:
        features: ``(N, D)`` features of length 1.
        config: Settings.

    Returns:
        ``(N,)`` int64 clusters from 0, -1 for an outlier.
    """
    k1 = min(config.k1, len(features) - 1)
    distance = jaccard_distance(features, k1=k1, k2=min(config.k2, k1))
    return dbscan(distance, eps=config.eps, min_samples=config.min_samples)


def train(config: Config, dataset: ReIDDataset, run: Run) -> dict[str, Any]:
    """Train without identities of the target.

    Args:
        config: Settings.
        dataset: The target, with its source if ``adaptation`` asks for it; identities
            of the target's training split are used for the log alone.
        run: The run that keeps log, checkpoints and results.

    Returns:
        The content of the result file.

    Raises:
        ReIDError: If a source is asked for and there is none.
        CollapseError: If three epochs in a row find fewer than two clusters, or no
            epoch had anything to learn from.
    """
    source = source_of(config, dataset)
    images = open_training_images(dataset, config, run.device)
    if source is not None:
        classes = torch.from_numpy(source.train.labels)
        source_images = open_images(
            source.train,
            config.size,
            device=run.device,
            memory_budget=config.memory_budget,
        )
    augment = config.augmentation()

    model = build_attentive_model(config, run)
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
    model.mark_forward_method("embed")
    run.track(model=model, optimizer=optimizer, schedule=schedule)

    for epoch in run.epochs(config.all_epochs):
        domains = []
        on_source, on_target = config.domains(epoch)

        # 1. The people of the source are known.
        if on_source and source is not None:
            features = extract(model, source_images, config)
            domains.append(Domain(source_images, source.train, features, classes))

        # 2. Those of the target are clusters of its features.
        if on_target:
            features = extract(model, images, config)
            pseudo_labels = cluster(features, config)
            run.record(**health(pseudo_labels, dataset.train))
            if int(pseudo_labels.max()) < 1:
                skip(pseudo_labels, run, alone=not domains)
            else:
                known = int(classes.max()) + 1 if domains else 0
                labels = torch.where(pseudo_labels < 0, -1, pseudo_labels + known)
                domains.append(Domain(images, dataset.train, features, labels))
        if not domains:
            continue  # what is kept is of the last epoch that learned something

        # 3. A mean and a hard representative for each of them, the same at first.
        features = torch.cat([domain.features for domain in domains])
        labels = torch.cat([domain.labels for domain in domains])
        centroids = cluster_centroids(features, labels).to(run.device)
        num_classes, num_features = centroids.shape
        memory = SymmetricMemory(
            num_classes,
            num_features,
            temperature=config.temperature,
            momentum=config.momentum,
            hard_weight=config.hard_weight,
            mean_weight=config.mean_weight,
            balance=config.balance,
            mine_against=config.mine_against,
        ).to(run.device)
        memory.initialise(centroids)
        if config.loss == "classifier":
            classifier = nn.Linear(num_features, num_classes, bias=False)
            classifier.weight.data.copy_(centroids)
            classifier = run.setup(classifier)
            of_classifier = torch.optim.Adam(classifier.parameters(), lr=config.lr)

        # 4. Contrast: towards the own two, away from all others.
        model.train()
        terms = []
        missed = len(domains) < on_source + on_target  # the target had no clusters
        steps = zip(*(domain.batches(config, run) for domain in domains), strict=True)
        for step in run.progress(steps, "contrast", config.iterations):
            positives = torch.cat([label for label, _ in step]).to(run.device)
            batches = [augment(batch, run.generator) for _, batch in step]
            raw, neck = embed(model, batches, track_last=not missed)
            if config.loss == "symmetric":
                queries = F.normalize(neck.float(), dim=1)  # (P K, D)
                losses = memory.losses(queries, positives)  # AFF-E9, E11, E14
                run.step(losses.total, optimizer)  # AFF-E8
                memory.update(queries.detach(), positives)  # AFF-E10, E12, E13
                parts = (losses.hard, losses.mean, losses.balance)
                terms.append(torch.stack(parts).detach())
            else:
                loss = F.cross_entropy(classifier(neck), positives)
                triplet = batch_hard_triplet(F.normalize(raw), positives, config.margin)
                run.step(loss + triplet, optimizer)
                of_classifier.step()
                of_classifier.zero_grad()
        # The rate falls with the epochs of the adaptation, not with those before it.
        if epoch >= config.all_epochs - config.epochs:
            schedule.step()

        run.record(loss=run.mean_loss, lr=schedule.get_last_lr()[0])
        if on_target:
            run.keep(pseudo_labels=pseudo_labels)
        if terms:
            means = torch.stack(terms).mean(dim=0).tolist()
            run.record(**dict(zip(("hard", "mean", "balance"), means, strict=True)))
            run.keep(mean_memory=memory.mean.bank, hard_memory=memory.hard.bank)
        if config.eval_every and (epoch + 1) % config.eval_every == 0:
            run.record(test=score(model, dataset, config, run.device))

    if not any("loss" in epoch for epoch in run.history):
        raise CollapseError(f"no epoch had clusters to learn from: {ADVICE}")
    return run.finish(final_metrics(model, images, dataset, config, run.device))


def embed(
    model: Any, batches: list[Tensor], track_last: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the features before and after the neck of a batch of each domain.

    Each domain is normalised by its own statistics. Those that the network keeps are of
    the last one, which is the target if both are there.

    Args:
        model: Network in training mode.
        batches: ``(B, 3, H, W)`` images of each domain.
        track_last: Keep statistics at all.

    Returns:
        Two ``(B, D)`` features, the domains one after the other.
    """
    pairs = []
    for number, batch in enumerate(batches, start=1):
        tracked = track_last and number == len(batches)
        with nullcontext() if tracked else untracked_statistics(model):
            pairs.append(model.embed(batch))
    raw, neck = zip(*pairs, strict=True)
    return torch.cat(raw), torch.cat(neck)


def skip(pseudo_labels: Tensor, run: Run, alone: bool) -> None:
    """Say that an epoch cannot learn from the target, and what would change that.

    Args:
        pseudo_labels: ``(N,)`` fewer than two clusters.
        run: The run.
        alone: There is no source to learn from either.

    Raises:
        CollapseError: If it is the third in a row.
    """
    run.record(skipped=True)
    before = itertools.takewhile(lambda e: e.get("skipped"), reversed(run.history))
    skipped = 1 + sum(1 for _ in before)
    found, outliers = int(pseudo_labels.max()) + 1, int((pseudo_labels < 0).sum())
    told = (
        f"DBSCAN found {found} clusters and {outliers} outliers in "
        f"{len(pseudo_labels)} images, and contrast needs two clusters"
    )
    if skipped >= PATIENCE:
        raise CollapseError(f"{told}, for {skipped} epochs in a row: {ADVICE}")
    if alone:
        told += ", without which nothing is learned and the next epoch finds the same"
    run.log(f"epoch {run.epoch + 1} is skipped for the target: {told}; {ADVICE}")
