"""What all recipes share: the settings of network and images, extraction, scoring."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from reidlib.clustering.dbscan import dbscan
from reidlib.clustering.jaccard import jaccard_distance
from reidlib.clustering.kmeans import kmeans
from reidlib.clustering.quality import cluster_quality
from reidlib.data.images import ImageSource, open_images
from reidlib.data.samplers import sequential_batches
from reidlib.data.table import DISTRACTOR, NO_CAMERA, ImageTable, ReIDDataset
from reidlib.data.transforms import TestTransform, TrainTransform
from reidlib.engine.checkpoint import load_checkpoint, load_weights
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.evaluation.ranking import evaluate
from reidlib.models.attention import Attention, add_attention
from reidlib.models.reid_net import ReIDNet, extract_features
from reidlib.neighbors.search import nearest_neighbors

Backbone = Literal[
    "resnet50", "resnet50_ibn_a", "efficientnet_b0", "efficientnet_lite0"
]


class CollapseError(ReIDError):
    """The pseudo labels left nothing to learn from: one cluster, or none."""


@dataclass(frozen=True)
class CommonConfig:
    """Settings of network and images that every recipe has."""

    seed: int = 0
    """Seed of every random number of the run."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Arithmetic: float32, or bfloat16 where it is safe (on a GPU)."""
    backbone: Backbone = "efficientnet_lite0"
    """Network that makes the feature map."""
    pooling: Literal["gap", "gem"] = "gem"
    """Feature map to vector: mean, or generalised mean."""
    weights: str | None = None
    """File with the backbone's ImageNet weights; None: their usual source; "random":
    none at all, as a control."""
    last_stride: int = 1
    """Stride of the backbone's last down-sampling; 1 leaves it out."""
    frozen_stages: int = 0
    """Number of leading stages, the stem included, that keep their ImageNet weights."""
    bn_splits: int = 1
    """Normalise a batch in this many chunks, as that many GPUs would."""
    height: int = 128
    """Height of an image in pixels."""
    width: int = 64
    """Width of an image in pixels."""
    extract_batch: int = 256
    """Images at once when features are extracted."""
    memory_budget: int = 4 << 30
    """Bytes of decoded images to keep in memory; beyond that they are streamed."""

    def __post_init__(self) -> None:
        check_choices(self)
        at_least = {"height": 16, "width": 8, "extract_batch": 1, "bn_splits": 1}
        check_at_least(self, **at_least, frozen_stages=0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self.height, self.width


@dataclass(frozen=True)
class TrainingConfig(CommonConfig):
    """Settings of batches, optimiser and augmentation that trained recipes have."""

    epochs: int = 50
    """Number of epochs."""
    iterations: int = 200
    """Steps of the optimiser per epoch."""
    num_labels: int = 16
    """P: people, or clusters, in a batch."""
    num_instances: int = 16
    """K: images of each of them."""
    lr: float = 3.5e-4
    """Learning rate of Adam."""
    weight_decay: float = 5e-4
    """Weight decay of Adam."""
    lr_step: int = 20
    """Epochs after which the learning rate is multiplied by ``lr_gamma``."""
    lr_gamma: float = 0.1
    """Factor of the learning rate at each ``lr_step``."""
    flip: float = 0.5
    """Probability of a mirrored image."""
    pad: int = 10
    """Zero pixels put around an image before it is cropped back to its size."""
    erasing: float = 0.5
    """Probability that a rectangle of the image is erased."""
    jitter: float = 0.0
    """Strength of random brightness, contrast and saturation."""
    eval_every: int = 0
    """Score the test split every so many epochs; 0: only at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(
            self, epochs=1, iterations=1, num_labels=1, num_instances=1, lr_step=1
        )
        check_at_least(self, weight_decay=0, pad=0, jitter=0, eval_every=0)
        for name in ("flip", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ReIDError(
                    f"{name} is {getattr(self, name)}; a probability is in [0, 1]"
                )
        if not self.lr > 0:  # NaN is not, either
            raise ReIDError(f"lr is {self.lr}; a learning rate is positive")
        if self.num_labels * self.num_instances % self.bn_splits:
            raise ReIDError(
                f"a batch of {self.num_labels} x {self.num_instances} images cannot be "
                f"normalised in {self.bn_splits} equal chunks; choose bn_splits that "
                "divides it"
            )

    def augmentation(self) -> TrainTransform:
        """Return the transform of training images."""
        return TrainTransform(
            self.size,
            flip=self.flip,
            pad=self.pad,
            erasing=self.erasing,
            jitter=self.jitter,
        )


@dataclass(frozen=True)
class AttentionConfig(TrainingConfig):
    """Settings of recipes whose network may attend, AFF-D1."""

    global_attention: Attention = "none"
    """Attention over the whole feature map, before it is cut."""
    local_attention: Attention = "none"
    """Attention over each group of channels."""
    groups: int = 2
    """Number of channel groups."""
    reduction: int = 16
    """How many times narrower the hidden layers of the attentions are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, groups=1, reduction=1)


def check_choices(config: object) -> None:
    """Raise where a setting with named choices has another value."""
    for name, kind in get_type_hints(type(config)).items():
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        if choices and getattr(config, name) not in choices:
            raise ReIDError(
                f"{name} is {getattr(config, name)!r}; choose from {', '.join(choices)}"
            )


def check_at_least(config: object, **lowest: float) -> None:
    """Raise where a setting is below its lowest sensible value."""
    for name, low in lowest.items():
        if getattr(config, name) < low:
            raise ReIDError(
                f"{name} is {getattr(config, name)}; it must be at least {low}"
            )


def build_model(config: CommonConfig, run: Run) -> ReIDNet:
    """Return the network of a configuration, and log where its weights come from.

    Args:
        config: Settings.
        run: The run whose log and manifest name the source of the weights.
    """
    pretrained = config.weights != "random"
    model = ReIDNet(
        backbone=config.backbone,
        pooling=config.pooling,
        pretrained=pretrained,
        frozen_stages=config.frozen_stages,
        last_stride=config.last_stride,
        weights=config.weights if pretrained else None,
    )
    run.manifest["weights"] = model.backbone.source
    run.log(f"{config.backbone}: weights: {model.backbone.source}")
    # Convolutions on a CPU are about 1.4 times as fast in this layout.
    return model.to(memory_format=torch.channels_last)


def build_attentive_model(config: AttentionConfig, run: Run) -> ReIDNet:
    """Return the network of `build_model` with the attention of a configuration.

    Args:
        config: Settings.
        run: As for `build_model`.
    """
    model = build_model(config, run)
    if config.global_attention == config.local_attention == "none":
        return model
    run.log(
        f"attention: {config.global_attention} on the whole map, "
        f"{config.local_attention} on each of {config.groups} groups of channels"
    )
    return _attend(model, config).to(memory_format=torch.channels_last)


def _attend(model: ReIDNet, config: AttentionConfig) -> ReIDNet:
    return add_attention(
        model,
        config.groups,
        config.reduction,
        config.global_attention,
        config.local_attention,
    )


def open_training_images(
    dataset: ReIDDataset, config: CommonConfig, device: torch.device
) -> ImageSource:
    """Open the training split at the size of the configuration.

    Raises:
        ReIDError: If there is too little to learn from, or if the test split could not
            be scored in the end: better now than after hours of training.
    """
    if len(dataset.train) < 2:
        raise ReIDError(
            f"{dataset.root} has {len(dataset.train)} training images; two are the "
            "least from which anything can be learned"
        )
    check_test_split(dataset)
    budget = config.memory_budget
    return open_images(dataset.train, config.size, device=device, memory_budget=budget)


def check_test_split(dataset: ReIDDataset) -> None:
    """Raise if there are queries and none of them has a match in the gallery."""
    query, gallery = dataset.query, dataset.gallery
    if not len(query) or not len(gallery):
        return
    people = gallery.pids > DISTRACTOR
    views = set(zip(gallery.pids[people], gallery.camids[people], strict=True))
    seen: dict[int, set[int]] = {}
    for pid, camid in views:
        seen.setdefault(int(pid), set()).add(int(camid))
    for pid, camid in zip(query.pids.tolist(), query.camids.tolist(), strict=True):
        cameras = seen.get(pid, set()) if pid > DISTRACTOR else set()
        if cameras - {camid} or (cameras and camid == NO_CAMERA):
            return
    raise ReIDError(
        f"none of the {len(query)} queries of {dataset.root} shows a person whom the "
        "gallery shows under another camera, so nothing could be scored; run `reidlib "
        "data check` on it, or leave query and gallery out"
    )


def extract(model: nn.Module, images: ImageSource, config: CommonConfig) -> Tensor:
    """Return the features of all images, without augmentation.

    Args:
        model: Network in any mode; it is put into eval mode and back.
        images: N images.
        config: For the number of images at once.

    Returns:
        ``(N, D)`` float32 features of length 1, on the CPU.
    """
    normalise = TestTransform()
    index = sequential_batches(len(images), config.extract_batch)
    return extract_features(model, (normalise(b) for b in images.batches(index)))


def extract_test(
    model: nn.Module, dataset: ReIDDataset, config: CommonConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the features of all queries and of the gallery, on the CPU.

    Args:
        model: Network on ``device``.
        dataset: Data with a test split.
        config: For the size of images.
        device: Where the network is.

    Returns:
        ``(Q, D)`` and ``(G, D)`` features of length 1.
    """
    options = {"device": device, "memory_budget": config.memory_budget}
    query, gallery = (
        extract(model, open_images(split, config.size, **options), config)  # type: ignore[arg-type]
        for split in (dataset.query, dataset.gallery)
    )
    return query, gallery


def score(
    model: nn.Module, dataset: ReIDDataset, config: CommonConfig, device: torch.device
) -> dict[str, Any]:
    """Return CMC, mAP and their kin on the test split, if there is one."""
    if not len(dataset.query) or not len(dataset.gallery):
        return {}
    features = extract_test(model, dataset, config, device)
    return evaluate(*features, dataset.query, dataset.gallery).as_dict()


def health(pseudo_labels: Tensor, table: ImageTable) -> dict[str, Any]:
    """Return the pseudo-label health of an epoch, as far as the truth is known.

    Args:
        pseudo_labels: ``(N,)`` clusters, -1 for an outlier.
        table: The images that were clustered.

    Returns:
        Numbers of clusters and outliers and, with identities and cameras, how well the
        clusters agree with either.
    """
    if not (table.has_identities and table.has_cameras):
        return {
            "clusters": int(pseudo_labels.max()) + 1,
            "outlier_share": float((pseudo_labels < 0).float().mean()),
        }
    return asdict(cluster_quality(pseudo_labels, table.pids, table.camids))


def diagnose(features: Tensor, table: ImageTable, seed: int = 0) -> dict[str, Any]:
    """Measure how far features are about the camera instead of the person.

    The same two clusterings for every method, so that their figures can be compared:
    k-means with as many clusters as there are people, which leaves nobody out, and
    DBSCAN with the settings of the baseline. They look at identities, so they are a
    diagnosis and never part of a method.

    Args:
        features: ``(N, D)`` features.
        table: Their images, with identities and cameras.
        seed: Seed of k-means.

    Returns:
        ``same_camera_share`` of the ten nearest neighbours with ``chance`` beside it,
        and the cluster quality of ``kmeans`` and ``dbscan``.
    """
    if not (table.has_identities and table.has_cameras) or len(table) < 32:
        return {}
    _, neighbors = nearest_neighbors(features, 10)
    camids = torch.from_numpy(table.camids)
    same = (camids[neighbors] == camids[:, None]).float().mean()
    counts = np.bincount(table.camids)
    chance = float((counts * (counts - 1)).sum() / (len(table) * (len(table) - 1)))
    generator = torch.Generator().manual_seed(seed)
    by_kmeans = kmeans(features, table.num_pids, generator).labels
    by_dbscan = dbscan(jaccard_distance(features, k1=15, k2=4), eps=0.5)
    return {
        "same_camera_share": float(same),
        "chance": chance,
        "kmeans": health(by_kmeans, table),
        "dbscan": health(by_dbscan, table),
    }


def final_metrics(
    model: nn.Module,
    train_images: ImageSource,
    dataset: ReIDDataset,
    config: CommonConfig,
    device: torch.device,
) -> dict[str, Any]:
    """Return the retrieval figures of a model and the diagnosis of its features."""
    features = extract(model, train_images, config)
    return {
        **score(model, dataset, config, device),
        "diagnosis": diagnose(features, dataset.train, config.seed),
    }


def batches_of(images: ImageSource, index: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(index, images)`` for each index batch of a sampler."""
    index = list(index)
    yield from zip(index, images.batches(index), strict=True)


def load_model(path: str | Path) -> tuple[ReIDNet, CommonConfig]:
    """Return the trained network of a run and its settings.

    Args:
        path: A run's folder, or a checkpoint file in it.

    Raises:
        ReIDError: If there is no checkpoint, or it belongs to another model.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "last.safetensors"
    checkpoint = load_checkpoint(path)
    saved = checkpoint["config"]
    attends = "global_attention" in saved
    kind = AttentionConfig if attends else CommonConfig
    known = {field.name for field in fields(kind)}
    config = kind(**{k: v for k, v in saved.items() if k in known})
    model = ReIDNet(
        config.backbone,
        config.pooling,
        pretrained=False,
        last_stride=config.last_stride,
    )
    if isinstance(config, AttentionConfig):
        model = _attend(model, config)
    load_weights(model, checkpoint["objects"]["model"], str(path))
    return model.to(memory_format=torch.channels_last).eval(), config


def result_of(path: str | Path) -> dict[str, Any]:
    """Read a result file."""
    path = Path(path)
    if path.is_dir():
        path = path / "result.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ReIDError(f"no readable result at {path}: {error}") from error
