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
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.data.adaptation import AdaptationDataset
from reidlib.data.images import ImageSource
from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.engine.processes import once
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.losses.symmetric import SymmetricMemory
from reidlib.losses.triplet import batch_hard_triplet
from reidlib.models.attention import Attention
from reidlib.models.batch_norm import untracked_statistics
from reidlib.recipes.diagnosis import health
from reidlib.recipes.settings import (
    PAPER,
    SMALL_CLUSTERS,
    AttentionConfig,
    ClusteringConfig,
    ContrastConfig,
    check_at_least,
    check_not_negative,
    check_positive,
    check_unused,
    small_presets,
)
from reidlib.recipes.steps import (
    ADVICE,
    CollapseError,
    batches,
    end_epoch,
    extract,
    filled,
    final_metrics,
    jaccard_dbscan,
    open_split,
    open_training_images,
    reid_network,
    start,
    too_few_clusters,
)

VERSION = 1
"""1: the first."""

PATIENCE = 3
"""Epochs in a row without two clusters after which a run stops."""


@dataclass(frozen=True)
class Config(ContrastConfig, ClusteringConfig, AttentionConfig):
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
    margin: float = 0.3
    """Margin of the triplet loss beside the classifier."""
    adaptation: Literal["none", "joint", "pretrain", "source"] = "none"
    """Learn from the target alone; from source and target together; from the source
    first and then from the target; or from the source alone."""
    source_epochs: int = 20
    """Epochs on the source before those on the target, if adaptation is pretrain."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, min_samples=1, source_epochs=1)
        check_positive(self, "margin")
        check_not_negative(self, "hard_weight", "mean_weight")
        if self.loss == "classifier":
            names = ("hard_weight", "mean_weight", "balance", "mine_against")
            check_unused(self, *names, where="where loss is classifier")
        else:
            check_unused(self, "margin", where="unless loss is classifier")
        if not self.hard_weight + self.mean_weight:
            raise ReIDError("hard_weight and mean_weight are 0; one must be positive")

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


PRESETS = {
    **small_presets(
        Config,
        SMALL_CLUSTERS,
        quick={"source_epochs": 2},
        ablation={"source_epochs": 4},
        course={"source_epochs": 10},
    ),
    "paper": Config(**PAPER, pooling="gap", replacement="published"),
}

network = reid_network


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
        camids = torch.from_numpy(self.table.camids) if across else None
        for index, batch in batches(self.images, self.labels, config, run, camids):
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
        features: ``(N, D)`` L2-normalised features.
        config: Settings.

    Returns:
        ``(N,)`` int64 clusters from 0, -1 for an outlier.
    """
    return jaccard_dbscan(features, config, config.min_samples)


def train(config: Config, dataset: ReIDDataset, run: Run) -> dict[str, Any]:
    """Train without identities of the target, AFF-D2.

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
        source_images = open_split(source.train, config, run.device)
    augment = config.augmentation()
    model, _, optimizer, schedule = start(config, run, network(config))

    for number in run.epochs(config.all_epochs):
        domains = []
        on_source, on_target = config.domains(number)

        # 1. The people of the source are known.
        if on_source and source is not None:
            features = extract(model, source_images, config)
            domains.append(Domain(source_images, source.train, features, classes))

        # 2. Those of the target are clusters of its features.
        if on_target:
            features = extract(model, images, config)
            pseudo_labels = once(cluster, features, config)
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
        memory = filled(
            SymmetricMemory,
            torch.cat([domain.features for domain in domains]),
            torch.cat([domain.labels for domain in domains]),
            run,
            temperature=config.temperature,
            momentum=config.momentum,
            hard_weight=config.hard_weight,
            mean_weight=config.mean_weight,
            balance=config.balance,
            mine_against=config.mine_against,
        )
        if config.loss == "classifier":
            classifier, of_classifier = classify(memory.mean.bank, config, run)

        # 4. Contrast: towards the own two, away from all others.
        model.train()
        terms = []
        missed = len(domains) < on_source + on_target  # the target had no clusters
        steps = zip(*(domain.batches(config, run) for domain in domains), strict=True)
        for step in run.progress(steps, "contrast", config.iterations):
            positives = torch.cat([label for label, _ in step]).to(run.device)
            views = [augment(batch, run.generator) for _, batch in step]
            raw, neck = embed(model, views, track_last=not missed)  # (P K, D), twice
            if config.loss == "symmetric":
                queries = F.normalize(neck.float(), dim=1)
                losses = memory.losses(queries, positives)  # AFF-E9, AFF-E11, AFF-E14
                run.step(losses.total, optimizer)  # AFF-E8
                memory.update(queries.detach(), positives)  # AFF-E10, AFF-E12, AFF-E13
                parts = (losses.hard, losses.mean, losses.balance)
                terms.append(torch.stack(parts).detach())
            else:
                loss = F.cross_entropy(classifier(neck), positives)
                triplet = batch_hard_triplet(F.normalize(raw), positives, config.margin)
                run.step(loss + triplet, optimizer, of_classifier)

        if on_target:
            run.keep(pseudo_labels=pseudo_labels)
        if terms:
            means = torch.stack(terms).mean(dim=0).tolist()
            run.record(**dict(zip(("hard", "mean", "balance"), means, strict=True)))
            run.keep(mean_memory=memory.mean.bank, hard_memory=memory.hard.bank)
        # The rate falls with the epochs of the adaptation, not with those before it.
        falls = number >= config.all_epochs - config.epochs
        end_epoch(config, run, model, dataset, schedule, falls=falls)

    if not any("loss" in epoch for epoch in run.history):
        raise CollapseError(f"no epoch had clusters to learn from: {ADVICE}")
    return run.finish(final_metrics(model, images, dataset, config, run))


def classify(centroids: Tensor, config: Config, run: Run) -> tuple[Any, Any]:
    """Return a classifier that starts from the centroids, and its optimiser.

    Args:
        centroids: ``(C, D)`` one for each class.
        config: Settings.
        run: The run.
    """
    num_classes, num_features = centroids.shape
    classifier = nn.Linear(num_features, num_classes, bias=False)
    classifier.weight.data.copy_(centroids)
    return run.setup(classifier, torch.optim.Adam(classifier.parameters(), config.lr))


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
    told = too_few_clusters(pseudo_labels, "DBSCAN")
    if skipped >= PATIENCE:
        raise CollapseError(f"{told}, for {skipped} epochs in a row: {ADVICE}")
    if alone:
        told += ", without which nothing is learned and the next epoch finds the same"
    run.log(f"epoch {run.epoch + 1} is skipped for the target: {told}; {ADVICE}")
