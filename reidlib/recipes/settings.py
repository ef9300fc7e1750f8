"""The settings that recipes share, each with its check, and the steps of the presets.

A recipe's ``Config`` inherits what it needs: `CommonConfig` of every recipe,
`TrainingConfig` of those that train, `ContrastConfig` of those that contrast clusters
with a memory, `ClusteringConfig` of those that may find them by a Jaccard distance, and
`AttentionConfig` of those whose network may attend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from reidlib.data.samplers import Replacement
from reidlib.data.table import ReIDDataset
from reidlib.data.transforms import TrainTransform
from reidlib.engine.checkpoint import checkpoint_file
from reidlib.errors import ReIDError
from reidlib.files import file_sha256
from reidlib.models.attention import Attention
from reidlib.models.backbones import check_backbone
from reidlib.paths import user_path

T = TypeVar("T")


@dataclass(frozen=True)
class CommonConfig:
    """Settings of network and images that every recipe has."""

    seed: int = 0
    """Seed of every random number of the run."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Arithmetic: float32, or bfloat16 where it is safe (on a GPU)."""
    backbone: str = "efficientnet_lite0"
    """Network that makes the feature map: resnet50, resnet50_ibn_a, efficientnet_b0,
    efficientnet_lite0, efficientnet_lite2, any timm:NAME (with last_stride 2 and
    frozen_stages 0), or tiny, without ImageNet weights, for a dry run."""
    pooling: Literal["gap", "gem"] = "gem"
    """Feature map to vector: mean, or generalised mean."""
    weights: str | None = None
    """File with the backbone's ImageNet weights; None: their usual source; "random":
    none at all, as a control."""
    init: str | None = None
    """Folder or checkpoint of a run whose trained network the training starts from,
    instead of ImageNet weights."""
    last_stride: int = 1
    """Stride of the backbone's last down-sampling; 1 leaves it out."""
    frozen_stages: int = 0
    """Number of leading stages, the stem included, that keep their first weights."""
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
    compile: Literal["extraction"] | None = None
    """What ``torch.compile`` compiles: the network where it extracts features, which
    takes time before it saves any; None: nothing."""

    def __post_init__(self) -> None:
        check_types(self)
        check_backbone(self.backbone)
        at_least = {"height": 16, "width": 8, "extract_batch": 1, "bn_splits": 1}
        check_at_least(self, **at_least, seed=0, frozen_stages=0, memory_budget=0)
        if self.last_stride not in (1, 2):
            raise ReIDError(f"last_stride is {self.last_stride}; give 1 or 2")
        if self.init is not None:
            check_unused(self, "weights", where="where init names a trained network")
            # A run is resumed from any folder.
            object.__setattr__(self, "init", str(user_path(self.init).absolute()))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self.height, self.width

    def read_files(self, dataset: ReIDDataset) -> dict[str, str]:
        """Return what a run reads beside the images: its numbers depend on it.

        Args:
            dataset: Data of the run.

        Returns:
            By what a file holds a hash of it; one that is not there is left out.
        """
        named = None if self.weights == "random" else self.weights
        init = None if self.init is None else str(checkpoint_file(self.init))
        return hashed(weights=named, init=init)


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
    replacement: Replacement = "scarce"
    """When images of a label are drawn twice, see `PKSampler`."""
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
        check_at_least(self, weight_decay=0, pad=0, lr_gamma=0, eval_every=0)
        check_positive(self, "lr")
        check_share(self, "flip", "erasing", "jitter")
        check_batch(self.num_labels, self.num_instances, self.bn_splits)

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
class ContrastConfig(TrainingConfig):
    """Settings of recipes that contrast images with a memory of clusters."""

    temperature: float = 0.05
    """Temperature of the contrastive losses."""
    momentum: float = 0.1
    """Share of the old entry that an update of a memory keeps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "temperature")
        check_share(self, "momentum")


@dataclass(frozen=True)
class ClusteringConfig(TrainingConfig):
    """Settings of recipes whose clusters may span cameras."""

    k1: int = 30
    """Neighbours of the Jaccard distance."""
    k2: int = 6
    """Neighbours over which the Jaccard distance averages."""
    eps: float = 0.6
    """DBSCAN: largest Jaccard distance of neighbours, in (0, 1]."""
    cross_camera: bool = True
    """Draw the images of a cluster from different cameras, where it has several."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, k1=1, k2=1)
        if not 0 < self.eps <= 1:
            raise ReIDError(f"eps is {self.eps}; a Jaccard distance is in (0, 1]")


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
        if self.local_attention == "none":
            check_unused(self, "groups", where="where local_attention is none")
            if self.global_attention == "none":
                check_unused(self, "reduction", where="where both attentions are none")


SMALL: Mapping[str, Any] = {"frozen_stages": 4, "num_instances": 4, "pad": 5}
"""What the presets for a CPU change of network and images."""

SMALL_CLUSTERS: Mapping[str, Any] = {"k1": 15, "k2": 4, "eps": 0.5}
"""What they change of the clustering. SynthCity has about 15 images of a person where
Market-1501 has 17, but far fewer people: Market's k1 = 30 and eps = 0.6 merge them
all."""

STEPS: Mapping[str, Mapping[str, float]] = {
    "quick": {
        "epochs": 3,
        "iterations": 10,
        "num_labels": 8,
        "lr": 1e-3,
        "frozen_stages": 6,
    },
    "ablation": {"epochs": 8, "iterations": 28},
    "course": {"epochs": 20, "iterations": 60},
}
"""Epochs and steps of the presets for a CPU: the same for every method, so that methods
are compared at equal compute. ``quick`` is for a loop that a reader sees at work within
a minute: few but large steps, and only the last stages learn."""

PRESET_NOTES: Mapping[str, str] = {
    "quick": "to watch it at work, at most a minute on two CPU cores",
    "ablation": "as the tables of the book, at most three minutes on two CPU cores",
    "course": "for a CPU or a small GPU, about 20 minutes on two CPU cores",
    "paper": "the settings of the paper, for a GPU with 24 GB",
}
"""What each preset is for, in a line; a recipe adds those of its own."""

PAPER: Mapping[str, Any] = {"backbone": "resnet50", "height": 256, "width": 128}
"""Network and images of full-size training on people."""


def small_presets(
    kind: type[T],
    *changes: Mapping[str, Any],
    **more: Mapping[str, Any],
) -> dict[str, T]:
    """Return the presets ``quick``, ``ablation`` and ``course`` of a recipe.

    Args:
        kind: The recipe's configuration.
        changes: What all three change beside `SMALL` and `STEPS`.
        more: By the name of a preset what that one changes.
    """
    return {
        name: kind(**dict(_merged(SMALL, *changes, steps, more.get(name, {}))))
        for name, steps in STEPS.items()
    }


def _merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def restore(kind: type[T], saved: Mapping[str, Any]) -> T:
    """Return a configuration from the dict that a checkpoint or a result holds.

    Args:
        kind: Its dataclass. Fields that are not in ``saved`` have their defaults, and
            what is no field of it is left out.
        saved: As `dataclasses.asdict` made it.
    """
    values = {}
    hints = _hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in saved:
            value, hint = saved[field.name], hints[field.name]
            nested = dataclasses.is_dataclass(hint) and isinstance(value, Mapping)
            values[field.name] = restore(hint, value) if nested else value
    return kind(**values)


def hashed(**files: str | None) -> dict[str, str]:
    """Return the SHA-256 of those files that are there."""
    paths = {name: user_path(file) for name, file in files.items() if file}
    return {name: file_sha256(path) for name, path in paths.items() if path.is_file()}


_LARGEST = {
    "seed": 2**32 - 1,
    "memory_budget": 2**50,
    "height": 4096,
    "width": 4096,
    "pad": 4096,
}
"""Largest value of a setting, where it is not a million: beyond it a training would not
end, or no memory would do."""


_SMALLEST = 1e-20
"""Smallest value of a number that is not 0: 1 over a smaller one may be infinite."""


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a class's settings, which are compiled once."""
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind)
    return _HINTS[kind]


def check_types(config: object) -> None:
    """Raise where a setting is not of its type, or a number is of no use.

    NaN, infinite and huge numbers are of none. Numbers of NumPy become those of Python,
    which can be written to a file.
    """
    for name, kind in _hints(type(config)).items():
        value: Any = getattr(config, name)
        shown = f"{name} is {' '.join(repr(value).split()):.60}"
        optional = [k for k in get_args(kind) if get_origin(k) is Literal]
        if optional and value is None:
            continue
        kind = optional[0] if optional else kind
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            if not isinstance(value, str) or value not in choices:
                raise ReIDError(f"{shown}; choose from {', '.join(choices)}")
        elif kind in (int, float):
            number = _check_number(value, kind, name, shown)
            if number is not value:
                object.__setattr__(config, name, number)
        elif not isinstance(value, get_args(kind) or kind):
            raise ReIDError(f"{shown}; give {_wanted(kind)}")


def _wanted(kind: Any) -> str:
    """Say what a setting takes."""
    told = {bool: "True or False", str: "a text", type(None): "None"}
    parts = get_args(kind) or (kind,)
    return " or ".join(told.get(part, f"a {part.__name__}") for part in parts)


def _check_number(value: Any, kind: type, name: str, shown: str) -> Any:
    """Return a number of Python's, or raise unless it is of use."""
    number = Integral if kind is int else Real
    valid = isinstance(value, number) and not isinstance(value, bool)
    if not valid:
        wanted = "whole number" if kind is int else "number"
        raise ReIDError(f"{shown}; give a {wanted}")
    if value != value:
        raise ReIDError(f"{name} is nan; give a number")
    largest = _LARGEST.get(name, 10**6)
    if not abs(value) <= largest:
        raise ReIDError(f"{name} is {value}; it must be at most {largest}")
    if 0 < abs(value) < _SMALLEST:
        raise ReIDError(f"{name} is {value}; give 0, or {_SMALLEST} or more")
    # A float that is written as 1 stays 1: the names of results depend on it.
    return value if isinstance(value, int | float) else kind(value)


def check_batch(num_labels: int, num_instances: int, bn_splits: int = 1) -> None:
    """Raise unless batch norm can work on a batch of P x K images, or on its chunks.

    The statistics of a channel need two images.
    """
    images = num_labels * num_instances
    if images > 10**6:
        raise ReIDError(
            f"a batch of {num_labels} x {num_instances} images is too large; lower "
            "num_labels or num_instances"
        )
    if images % bn_splits:
        raise ReIDError(
            f"a batch of {num_labels} x {num_instances} images cannot be normalised in "
            f"{bn_splits} equal chunks; choose bn_splits that divides it"
        )
    if images // bn_splits < 2:
        parts = f", in {bn_splits} chunks (bn_splits)," if bn_splits > 1 else ""
        raise ReIDError(
            f"a batch of {num_labels} x {num_instances} images{parts} has one image to "
            "normalise by, and batch norm needs two; raise num_labels or num_instances"
        )


def check_cluster_number(value: float) -> None:
    """Raise unless a number of clusters is a share of the images or a whole number.

    1 would be all images, each a cluster of its own, or one cluster of all.
    """
    if not (0 < value < 1 or (value >= 2 and value == int(value))):
        raise ReIDError(
            f"num_clusters is {value}; give a share of the images below 1, or a whole "
            "number from 2 up"
        )


def cluster_number(value: float) -> int | float:
    """Return a number of clusters as clusterings take it: an int, or a share."""
    return value if value < 1 else int(value)


def check_at_least(config: object, **lowest: float) -> None:
    """Raise where a setting is below its lowest sensible value."""
    for name, low in lowest.items():
        if getattr(config, name) < low:
            raise ReIDError(
                f"{name} is {getattr(config, name)}; it must be at least {low}"
            )


def check_unused(config: object, *names: str, where: str = "in this recipe") -> None:
    """Raise where a setting is changed that has no influence.

    Args:
        config: The configuration.
        names: Settings that it does not read.
        where: Why it does not, for the message: "where alpha is learned".
    """
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if field.name in names and value != field.default:
            raise ReIDError(
                f"{field.name} is {value!r}, and it has no influence {where}; leave it "
                f"at {field.default!r}"
            )


def check_positive(config: object, *names: str) -> None:
    """Raise where a setting is not above 0."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ReIDError(f"{name} is {getattr(config, name)}; it must be positive")


def check_not_negative(config: object, *names: str) -> None:
    """Raise where a setting is negative."""
    for name in names:
        if not getattr(config, name) >= 0:
            raise ReIDError(
                f"{name} is {getattr(config, name)}; give a number from 0 up"
            )


def check_share(config: object, *names: str) -> None:
    """Raise where a setting is not in [0, 1]."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ReIDError(f"{name} is {getattr(config, name)}; it must be in [0, 1]")
