"""CALS: clusters as classes, two branches, soft labels (Reddy et al., 2025).

The images are clustered, and a classifier learns the clusters: one on the whole feature
map, the global branch, and one on each of four attended bands of it, the local branch.
Since clusters are not people, the labels that they learn are softened. The paper makes
the labels once, from the features of the ImageNet network; ``recluster`` makes them
anew in each epoch.

Its baseline differs in four switches: DBSCAN, a ResNet-50, no local soft attention, and
dual cross-neighbour smoothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from reidlib.clustering.kmeans import kmeans
from reidlib.data.images import ImageSource
from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.engine.checkpoint import content_hash, load_checkpoint, save_checkpoint
from reidlib.engine.processes import leads, once
from reidlib.engine.run import Run, same_settings
from reidlib.errors import ReIDError
from reidlib.evaluation.reliability import reliability
from reidlib.labels.noise import Noise, plant_noise
from reidlib.labels.smoothing import (
    ConfusionMatrix,
    descriptor_similarity,
    literal_targets,
    neighbor_agreement,
    neighbor_targets,
    prediction_targets,
    strength_targets,
    uniform_targets,
)
from reidlib.losses.smoothing import soft_cross_entropy
from reidlib.models.dual_branch import (
    Descriptor,
    DualBranchNet,
    PartClassifiers,
    SoftAttentionKind,
    branch_predictions,
    split_descriptors,
)
from reidlib.neighbors.search import nearest_neighbors
from reidlib.recipes.diagnosis import health
from reidlib.recipes.settings import (
    PAPER,
    SMALL_CLUSTERS,
    ClusteringConfig,
    check_at_least,
    check_cluster_number,
    check_positive,
    check_share,
    check_unused,
    cluster_number,
    small_presets,
)
from reidlib.recipes.steps import (
    ADVICE,
    adam,
    batches,
    end_epoch,
    extract,
    final_metrics,
    jaccard_dbscan,
    open_training_images,
    require_two_clusters,
    start,
    start_from,
    weights_to_load,
)
from reidlib.recipes.supervised import check_identities

VERSION = 1
"""1: the first."""

LABELS = "pseudo_labels.safetensors"
"""File in the folder of a run with the labels that it made once."""

Smoothing = Literal[
    "hard", "uniform", "dcls", "predictions", "strength", "literal", "confusion"
]


@dataclass(frozen=True)
class Config(ClusteringConfig):
    """Settings of CALS.

    The defaults are the paper's, whose batch is 32 images; it gives neither the number
    of clusters nor alpha.
    """

    pooling: Literal["gap"] = "gap"
    """Feature map to vector: the mean, as in CALS-E3."""
    epochs: int = 5
    """Number of epochs."""
    iterations: int = 404
    """Steps of the optimiser per epoch; 404 are one pass over Market-1501."""
    num_labels: int = 8
    """P: clusters in a batch."""
    num_instances: int = 4
    """K: images of each of them."""
    lr: float = 1e-4
    """Learning rate of Adam."""
    classifier_lr: float = 1e-4
    """Learning rate of the classifiers, which start at random."""
    cross_camera: bool = False
    """Draw the images of a cluster from different cameras; CALS uses no cameras."""
    clustering: Literal["kmeans", "dbscan", "identities"] = "kmeans"
    """Where labels come from; identities: a supervised control, for planted noise."""
    num_clusters: float = 0.125
    """K-Means: a share of the images below 1, or a number from 2 up."""
    min_samples: int = 4
    """DBSCAN: smaller groups are outliers."""
    recluster: bool = False
    """Make labels and classifiers anew in each epoch."""
    noise: float = 0.0
    """Share of the labels that are made wrong on purpose, in [0, 1]."""
    noise_kind: Noise = "random"
    """How they are chosen, see `plant_noise`."""
    attention: SoftAttentionKind = "sigmoid"
    """Local soft attention: a weight for each place by itself, or all places compete;
    none: bands without weights."""
    bands: int = 4
    """Horizontal bands of the local branch."""
    descriptor: Descriptor = "global"
    """What is compared in retrieval: the global descriptor, the local ones, or both."""
    smoothing: Smoothing = "predictions"
    """Soft labels: none, uniform, those of the baseline (dcls), or one of the readings
    of CALS, see `reidlib.labels`."""
    alpha: float = 0.1
    """Share of a label that is smoothed; dcls has its own."""
    dcls_alpha: float = 1.0
    """The same for dcls: how much of the disagreement of neighbours counts."""
    dcls_neighbors: int = 20
    """Neighbours of an image that dcls compares."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, min_samples=1, bands=1, dcls_neighbors=1, num_labels=2)
        check_positive(self, "classifier_lr")
        check_cluster_number(self.num_clusters)
        check_share(self, "alpha", "dcls_alpha", "noise")
        if not self.noise:
            check_unused(self, "noise_kind", where="where noise is 0")
        if self.recluster and self.clustering == "identities":
            raise ReIDError("identities are never clustered again; set recluster False")


PRESETS = {
    **small_presets(Config, SMALL_CLUSTERS, {"classifier_lr": 3.5e-3}),
    "paper": Config(**{**PAPER, "backbone": "efficientnet_b0"}),
    "paper_baseline": Config(
        **PAPER, clustering="dbscan", attention="none", smoothing="dcls"
    ),
}


PRESET_NOTES = {"paper_baseline": "the paper's baseline, for a GPU with 24 GB"}


def network(config: Config, pretrained: bool = True) -> DualBranchNet:
    """Return the backbone with its two branches, without classifiers.

    Args:
        config: Settings.
        pretrained: Load ImageNet weights; not needed where others are loaded over
            them.
    """
    loads, weights = weights_to_load(config, pretrained)
    model = DualBranchNet(
        backbone=config.backbone,
        attention=config.attention,
        bands=config.bands,
        descriptor=config.descriptor,
        pretrained=loads,
        frozen_stages=config.frozen_stages,
        last_stride=config.last_stride,
        weights=weights,
    )
    if pretrained and config.init is not None:
        start_from(model, config.init)
    return model


def cluster(features: Tensor, config: Config) -> Tensor:
    """Return pseudo labels by K-Means++ (CALS-E2), or by the baseline's DBSCAN.

    Args:
        features: ``(N, D)`` L2-normalised features.
        config: Settings.

    Returns:
        ``(N,)`` int64 clusters from 0, -1 for an outlier.

    Raises:
        CollapseError: If fewer than two clusters come out.
        ReIDError: If more clusters are asked for than there are images.
    """
    if config.clustering == "dbscan":
        labels = jaccard_dbscan(features, config, config.min_samples)
    else:
        generator = torch.Generator().manual_seed(config.seed)
        count = cluster_number(config.num_clusters)
        labels = kmeans(features, count, generator).labels
    advice = ADVICE if config.clustering == "dbscan" else "raise num_clusters"
    require_two_clusters(labels, config.clustering, advice)
    return labels


@dataclass(frozen=True)
class Labels:
    """Pseudo labels, and what dual cross-neighbour smoothing knows of neighbours.

    Attributes:
        labels: ``(N,)`` int64 classes, -1 for an image that is left out.
        agreement: ``(N,)`` how far the two branches agree on its neighbours.
        of_global: ``(N, k)`` labels of the neighbours in the global space.
        of_local: ``(N, k)`` those of the neighbours in the local space.
    """

    labels: Tensor
    agreement: Tensor
    of_global: Tensor
    of_local: Tensor

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return int(self.labels.max()) + 1

    def of(self, index: Tensor, device: torch.device) -> Labels:
        """Return those of a batch, on the device."""
        columns = vars(self).values()
        return Labels(*(column[index].to(device) for column in columns))


def make_labels(
    model: Any, images: ImageSource, table: ImageTable, config: Config
) -> Labels:
    """Return the pseudo labels of all images, as the network sees them now.

    Args:
        model: Network.
        images: N images.
        table: Their table; identities are read only if ``clustering`` asks for them.
        config: Settings.
    """
    known, dcls = config.clustering == "identities", config.smoothing == "dcls"
    if not known or dcls:
        descriptors = extract(model, images, config, model.descriptors)
        whole, local = split_descriptors(descriptors)  # of (N, 1 + bands, C)
    labels = torch.from_numpy(table.labels) if known else once(cluster, whole, config)
    if config.noise:
        generator = torch.Generator().manual_seed(config.seed)
        member = labels >= 0
        camids = table.camids[member.numpy()] if table.has_cameras else None
        labels = labels.clone()
        labels[member] = plant_noise(
            labels[member],
            config.noise,
            generator,
            kind=config.noise_kind,
            camids=camids,
        )
    if not dcls:
        nothing = labels[:, None][:, :0]
        return Labels(labels, torch.zeros(len(labels)), nothing, nothing)
    k = min(config.dcls_neighbors, len(labels) - 1)
    of_global, of_local = (nearest_neighbors(x, k)[1].cpu() for x in (whole, local))
    agreement = neighbor_agreement(of_global, of_local)
    return Labels(labels, agreement, labels[of_global], labels[of_local])


def first_labels(
    model: Any, images: ImageSource, table: ImageTable, config: Config, run: Run
) -> Labels:
    """Return the labels of the first epoch: those of the file of a resumed run.

    Raises:
        ReIDError: If the file belongs to another run.
    """
    file = run.directory / LABELS
    of_run = {"version": VERSION, "config": json.loads(json.dumps(asdict(config)))}
    of_run["dataset"] = run.manifest["dataset"]["sha256"]
    if not once(file.is_file):
        labels = make_labels(model, images, table, config)
        if leads():
            save_checkpoint(file, {"of_run": of_run, "labels": vars(labels)})
    saved = once(load_checkpoint, file, "of_run", "labels")
    if not same_settings(saved["of_run"], of_run):
        raise ReIDError(
            f"{file} holds the labels of another run; remove it, or choose another "
            "folder (--out)"
        )
    run.made_from(pseudo_labels=content_hash(saved["labels"]))
    return Labels(**saved["labels"])


def classifiers(
    model: DualBranchNet, labels: Labels, config: Config, run: Run
) -> tuple[Any, Any, Any]:
    """Return classifiers over the labels, their optimiser, and their confusions."""
    parts = 1 + config.bands
    heads = PartClassifiers(model.num_channels, labels.num_classes, parts)
    optimizer = adam(config, [(heads, config.classifier_lr)])
    confusion = ConfusionMatrix(labels.num_classes).to(run.device)
    return *run.setup(heads, optimizer), confusion


def soft_labels(
    config: Config, batch: Labels, logits: Tensor, descriptors: Tensor, confusion: Any
) -> tuple[Tensor, Tensor]:
    """Return the soft labels of a batch, for the global and for the local branch.

    Args:
        config: For the kind of smoothing.
        batch: B labels.
        logits: ``(B, 1 + bands, C)``.
        descriptors: ``(B, 1 + bands, D)``.
        confusion: The confusions of the last epoch.

    Returns:
        Two ``(B, C)`` distributions; only dcls has two that differ.
    """
    labels, alpha, num_classes = batch.labels, config.alpha, logits.shape[-1]
    if config.smoothing == "dcls":  # CALS-D2
        one, two = (
            neighbor_targets(
                labels, batch.agreement, others, num_classes, config.dcls_alpha
            )
            for others in (batch.of_local, batch.of_global)
        )
        return one, two
    if config.smoothing in ("strength", "literal"):  # CALS-E5
        s = descriptor_similarity(descriptors[:, 0], descriptors[:, 1:])
        reading = literal_targets
        if config.smoothing == "strength":
            reading = strength_targets
        soft = reading(labels, s, num_classes, alpha)
    elif config.smoothing == "predictions":  # CALS-E5
        soft = prediction_targets(labels, *branch_predictions(logits), alpha)
    elif config.smoothing == "confusion":  # CALS-D3
        soft = confusion.targets(labels, alpha)
    else:
        share = alpha if config.smoothing == "uniform" else 0.0
        soft = uniform_targets(labels, num_classes, share)
    return soft, soft


def train(config: Config, dataset: ReIDDataset, run: Run) -> dict[str, Any]:
    """Train without identities.

    Args:
        config: Settings.
        dataset: Data; identities of the training split are used for the log alone,
            unless ``clustering`` is ``"identities"``.
        run: The run that keeps log, checkpoints and results.

    Returns:
        The content of the result file.

    Raises:
        CollapseError: If there are fewer than two clusters.
        ReIDError: If identities are asked for and one is missing.
    """
    if config.clustering == "identities":
        check_identities(dataset)
    images, table = open_training_images(dataset, config, run.device), dataset.train
    augment = config.augmentation()
    model = network(config).to(run.device)

    # 1. Clusters of what the ImageNet network sees: the classes.
    labels = first_labels(model, images, table, config, run)
    heads, of_heads, confusion = classifiers(model, labels, config, run)
    kept = {"heads": heads, "of_heads": of_heads, "confusion": confusion}
    track = {} if config.recluster else kept
    model, _, optimizer, schedule = start(config, run, model, track=track)

    for epoch in run.epochs(config.epochs):
        if epoch and config.recluster:
            labels = make_labels(model, images, table, config)
            heads, of_heads, confusion = classifiers(model, labels, config, run)
        run.record(**health(labels.labels, table))

        model.train()
        hits = []
        camids = torch.from_numpy(table.camids) if config.cross_camera else None
        drawn = batches(images, labels.labels, config, run, camids)
        for index, batch in run.progress(drawn, "train", config.iterations):
            positives = labels.of(index, run.device)
            # 2. One descriptor of the whole map and one of each band, and a classifier
            # for each of them.
            descriptors = model.descriptors(augment(batch, run.generator))
            logits = heads(descriptors)  # (B, 1 + bands, C), CALS-E3 and CALS-E4

            # 3. What shall they predict?
            soft = soft_labels(config, positives, logits, descriptors, confusion)
            of_global = soft_cross_entropy(logits[:, 0], soft[0])
            of_local = soft_cross_entropy(logits[:, 1:], soft[1][:, None])
            run.step(of_global + of_local, optimizer, of_heads)  # CALS-E6

            predicted = [p.argmax(dim=1) for p in branch_predictions(logits)]
            confusion.update(predicted[0], positives.labels)
            right = torch.stack([p == positives.labels for p in predicted])
            hits.append(right.float().mean(dim=1))
        confusion.end_epoch()
        accuracy = torch.stack(hits).mean(dim=0).tolist()
        run.record(global_accuracy=accuracy[0], local_accuracy=accuracy[1])
        if epoch + 1 == config.epochs:  # these classifiers are gone after the epoch
            told = judge(model, heads, images, labels.labels, table, config)
            run.record(classifier=told)
        end_epoch(
            config, run, model, dataset, schedule, {"pseudo_labels": labels.labels}
        )

    metrics = final_metrics(model, images, dataset, config, run)
    told = run.history[-1]["classifier"]
    return run.finish({**metrics, "classifier": told})


def judge(
    model: Any,
    heads: Any,
    images: ImageSource,
    labels: Tensor,
    table: ImageTable,
    config: Config,
) -> dict[str, float]:
    """Return how often the classifiers are right, and how often they think so.

    Accuracy and expected calibration error over the training images without
    augmentation, by the mean of both branches: against the labels that were learned,
    and against identities. A cluster stands for the identity of most of its images.
    Images whose label stands for another identity are *wrong*.

    Args:
        model: Network.
        heads: Classifiers.
        images: N images.
        labels: ``(N,)`` what was learned.
        table: Their table.
        config: Settings.
    """

    def forward(batch: Tensor) -> Tensor:
        one, two = branch_predictions(heads(model.descriptors(batch)))
        return torch.stack(((one + two) / 2).max(dim=1), dim=1)

    found = extract(model, images, config, forward).numpy()  # (N, 2)
    confident, predicted = found[:, 0].clip(0, 1), found[:, 1].astype(np.int64)
    classes = labels.numpy()
    member = classes >= 0
    right = predicted == classes
    told = {
        "accuracy": float(right[member].mean()),
        "calibration_error": reliability(confident[member], right[member]).error,
    }
    if not table.has_identities:
        return told
    people = table.labels
    if config.clustering == "identities":
        stands_for = np.arange(max(classes.max(), predicted.max()) + 1)
    else:
        counts = np.zeros((predicted.max(initial=classes.max()) + 1, people.max() + 1))
        np.add.at(counts, (classes[member], people[member]), 1)
        stands_for = counts.argmax(axis=1)
    right = stands_for[predicted] == people
    wrong = member & (stands_for[classes] != people)
    told["identity_accuracy"] = float(right.mean())
    told["identity_calibration_error"] = reliability(confident, right).error
    told["wrong_share"] = float(wrong[member].mean())
    if wrong.any():
        told["wrong_identity_accuracy"] = float(right[wrong].mean())
    return told
