"""QAFM: appearance, soft biometrics and image quality (El Arajna et al.).

Identities and attributes are known. The appearance branch learns identities, the
attribute branch 27 attributes, and a small perceptron learns from the quality of an
image how much each of them counts in the descriptor.

Stage 1 trains the attribute branch alone. In stage 2 four optimisers train the two
branches, the last layer and the weight alpha, each by a loss of its own. One training
gives the figures of every fixed alpha as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from reidlib.data.attributes import (
    ATTRIBUTE_FILE,
    ATTRIBUTE_GROUPS,
    ATTRIBUTE_NAMES,
    MarketAttributes,
    attributes_hash,
    read_market_attributes,
)
from reidlib.data.images import ImageSource
from reidlib.data.table import ReIDDataset
from reidlib.engine.cache import cached_run
from reidlib.engine.checkpoint import random_states, set_random_states
from reidlib.engine.processes import own_splits
from reidlib.engine.run import Run, in_precision
from reidlib.errors import ReIDError
from reidlib.evaluation.attributes import score_attributes
from reidlib.models.appearance import stripe_loss
from reidlib.models.attributes import attribute_loss
from reidlib.models.backbones import Backbone, build_backbone, check_backbone
from reidlib.models.batch_norm import split_batch_norm
from reidlib.models.dual_branch import PartClassifiers
from reidlib.models.fused import FusedNet, QualityEncoder
from reidlib.recipes import supervised
from reidlib.recipes.alphas import (
    RIVALS,
    Batch,
    FusedClassifier,
    FusionConfig,
    Rivals,
    Scores,
    failure_areas,
    fusion_losses,
    quality_scores,
    score_alphas,
)
from reidlib.recipes.settings import (
    PAPER,
    check_at_least,
    check_not_negative,
    check_positive,
    check_share,
    check_unused,
    small_presets,
)
from reidlib.recipes.steps import (
    adam,
    batches,
    diagnose_features,
    end_epoch,
    extract,
    load_model,
    log_weights,
    open_split,
    open_training_images,
)
from reidlib.recipes.supervised import check_identities

VERSION = 1
"""1: the first."""


@dataclass(frozen=True)
class Config(FusionConfig):
    """Settings of QAFM.

    The defaults are the paper's; it does not say how long stage 1 takes, nor how many
    stripes there are. ``pooling``, ``lr_step``, ``lr_gamma`` and ``init`` have no
    influence, and so they cannot be changed; ``last_stride`` has none either, since the
    branches read the maps of stride 16 and 32. ``bn_splits`` is for encoders and
    branches.
    """

    epochs: int = 120
    """Number of epochs of stage 2."""
    attribute_epochs: int = 60
    """Number of epochs of stage 1."""
    num_instances: int = 4
    """K: images of each person."""
    warmup_epochs: int = 10
    """Epochs over which the rates of stage 2 rise; then they fall as a cosine."""
    frozen_epochs: int = 10
    """First epochs of stage 2, in which the two branches do not learn."""
    branch_rate: float = 0.1
    """Factor of the branches' rates after that."""
    shared_encoder: bool = False
    """One encoder for both branches."""
    features: int = 1024
    """Length of the descriptor of each branch."""
    pyramid_width: int = 1024
    """Channels of the appearance pyramid."""
    decoder_channels: int = 256
    """Channels that its decoder keeps; 1 in the published code."""
    local_attention: bool = False
    """Attention in each quarter of the map, as in the published code."""
    horizontal: int = 4
    """Stripes from top to bottom."""
    vertical: int = 2
    """Stripes from left to right."""
    attribute_hidden: int = 256
    """Channels inside of the attribute branch."""
    memory: Literal["groups", "one"] = "groups"
    """Steps of the ConvLSTM: one for each group of attributes, or one for all."""
    attributes: Literal["right", "shuffled", "none"] = "right"
    """What the attribute branch learns: the annotation, that of another person, which
    still tells people apart, or nothing."""
    fused_features: int = 1000
    """Length of the final descriptor."""
    activation: bool = False
    """Batch norm and ReLU behind the last layer, as in the published code."""
    rivals: bool = False
    """Train beside it what alpha learns by every loss, in both conventions, and from
    other scores, on the same branches, see `reidlib.recipes.alphas`."""
    quality_backbone: str = "resnet50"
    """Network that measures the quality, with ImageNet weights: those of ``weights`` if
    it is the same network as ``backbone``."""
    quality_learns: Literal["nothing", "identities"] = "nothing"
    """What that network learns first: nothing more than ImageNet, as in the published
    code, or the identities of the training split, as the paper says (a `supervised`
    training with the epochs and steps of stage 2)."""
    quality_views: Literal["normalised", "augmented"] = "normalised"
    """What it sees of an image and of its perturbed versions: each as it is, or
    augmented as for training, drawn anew for each, as in the published code."""
    quality_height: int = 384
    """Height of the images that it sees."""
    quality_width: int = 128
    """Their width."""
    classifier_lr: float = 3.5e-4
    """Learning rate of the classifiers over identities."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "pooling", "lr_step", "lr_gamma", "init")
        check_backbone(self.quality_backbone, "quality_backbone")
        counts = ("horizontal", "vertical", "features", "pyramid_width")
        more = ("decoder_channels", "attribute_hidden", "fused_features")
        check_at_least(self, **dict.fromkeys((*counts, *more), 1), alpha_hidden=0)
        check_at_least(self, quality_height=16, quality_width=8, num_labels=2)
        phases = ("attribute_epochs", "warmup_epochs", "frozen_epochs")
        check_at_least(self, **dict.fromkeys(phases, 0))
        check_share(self, "fixed_alpha")
        if self.alpha_loss != "none":
            check_unused(self, "fixed_alpha", where="where alpha_loss trains alpha")
        check_positive(self, "branch_rate", "classifier_lr")
        check_not_negative(self, "margin")
        if not 0 <= self.smoothing < 1:
            raise ReIDError(f"smoothing is {self.smoothing}; it must be in [0, 1)")
        if self.rivals and self.gradients != "isolated":
            raise ReIDError(
                "rivals learn on the same branches, which accumulated gradients do not "
                'leave alone; set gradients "isolated"'
            )
        if min(self.height, self.width) < 10:
            raise ReIDError(
                f"images are {self.height} x {self.width}; the occluders need at least "
                "10 pixels of each side"
            )

    def read_files(self, dataset: ReIDDataset) -> dict[str, str]:
        """Return what a run reads beside the images, see `CommonConfig`."""
        found = super().read_files(dataset)
        if (dataset.root / ATTRIBUTE_FILE).is_file():
            found["attributes"] = attributes_hash(dataset.root)
        return found


_LARGE = {**PAPER, "height": 384, "width": 128, "jitter": 0.2, "iterations": 187}
_CODE = {
    **{"gradients": "accumulated", "decoder_channels": 1, "local_attention": True},
    **{"memory": "one", "activation": True, "fused_features": 1024},
    **{"alpha_loss": "identity", "quality_views": "augmented"},
}
PRESETS = {
    **small_presets(
        Config,
        {"backbone": "efficientnet_lite0", "quality_backbone": "efficientnet_lite0"},
        {"quality_height": 64, "quality_width": 32, "classifier_lr": 3.5e-3},
        {"pyramid_width": 128, "decoder_channels": 128, "attribute_hidden": 32},
        {"attribute_epochs": 2, "warmup_epochs": 1, "frozen_epochs": 1},
        {"branch_rate": 1.0, "features": 256, "fused_features": 256},
        quick={"attribute_epochs": 1},
    ),
    "paper": Config(**_LARGE),
    "code": Config(**{**_LARGE, **_CODE}),
}
PRESET_NOTES = {"code": "the settings of its published code, where they differ"}


def network(config: Config, pretrained: bool = True) -> FusedNet:
    """Return encoders, branches, quality encoder and last layer of a configuration.

    Args:
        config: Settings.
        pretrained: Load ImageNet weights; not needed where others are loaded over
            them.
    """
    pretrained = pretrained and config.weights != "random"
    size = config.quality_height, config.quality_width
    quality = quality_backbone(config, pretrained)
    augment = None
    if config.quality_views == "augmented":
        augment = replace(config.augmentation(), size=size)
    return FusedNet(
        config.backbone,
        [len(values) for values in ATTRIBUTE_GROUPS.values()],
        QualityEncoder(quality, size, config.identifiability, augment=augment),
        shared_encoder=config.shared_encoder,
        pretrained=pretrained,
        frozen_stages=config.frozen_stages,
        weights=config.weights if pretrained else None,
        features=config.features,
        width=config.pyramid_width,
        decoder_channels=config.decoder_channels,
        local_attention=config.local_attention,
        stripes=(config.horizontal, config.vertical),
        attribute_hidden=config.attribute_hidden,
        memory_steps=len(ATTRIBUTE_GROUPS) if config.memory == "groups" else 1,
        fused_features=config.fused_features,
        activation=config.activation,
        alpha_hidden=config.alpha_hidden,
        alpha_weighs=config.alpha_weighs,
        fixed_alpha=config.fixed_alpha if config.alpha_loss == "none" else None,
    )


def quality_backbone(config: Config, pretrained: bool) -> Backbone:
    """Return the network that measures the quality.

    Raises:
        ReIDError: If its weights cannot be had.
    """
    name = config.quality_backbone
    same = pretrained and name == config.backbone
    weights = config.weights if same else None
    try:
        return build_backbone(name, pretrained, last_stride=2, weights=weights)
    except ReIDError as error:
        if weights is not None:
            raise
        why = str(error).partition("; ")[0].partition(", or give")[0]
        raise ReIDError(
            f"{why}; the quality is measured with {name}: set --quality-backbone to "
            "efficientnet_lite0, whose weights are installed, or set it and --backbone "
            "to one network and give the file of its weights with --weights"
        ) from error


def learn_quality(
    model: FusedNet, dataset: ReIDDataset, config: Config, run: Run
) -> None:
    """Let the network that measures the quality learn the training identities.

    Runs that ask for the same training share it: it is kept in the cache.

    Args:
        model: Network, changed in place.
        dataset: Data with identities.
        config: Settings.
        run: For its device.
    """
    names = [
        *("seed", "precision", "extract_batch", "memory_budget", "bn_splits"),
        *("epochs", "iterations", "num_labels", "num_instances", "replacement"),
        *("lr", "weight_decay", "flip", "pad", "erasing", "jitter"),
        *("smoothing", "margin", "classifier_lr"),
    ]
    if config.quality_backbone == config.backbone:
        names += ["weights", "frozen_stages"]
    settings = supervised.Config(
        **{name: getattr(config, name) for name in names},
        backbone=config.quality_backbone,
        height=config.quality_height,
        width=config.quality_width,
        pooling="gap",
        last_stride=2,
        lr_step=max(20, config.epochs // 3),
    )
    alone = replace(dataset, query=dataset.query[:0], gallery=dataset.gallery[:0])
    run.log("the network that measures the quality learns the identities")
    states = random_states(run.device)  # as if this training were in the cache
    _, folder = cached_run(supervised.train, settings, alone, device=str(run.device))
    set_random_states(states, run.device)
    learned: Any = load_model(folder)[0]
    model.quality.backbone.load_state_dict(learned.backbone.state_dict())


class Classifiers(nn.Module):
    """The classifiers over identities: of v_a, of the stripes, of the descriptor.

    Args:
        model: Network.
        num_people: Number of identities.
    """

    def __init__(self, model: FusedNet, num_people: int) -> None:
        super().__init__()
        branch = model.appearance
        self.appearance = nn.Linear(branch.num_features, num_people)
        self.stripes = PartClassifiers(
            branch.stripe_channels, num_people, branch.num_stripes
        )
        self.fused = FusedClassifier(model.num_features, num_people)

    forward_methods = ("of_appearance", "of_fused")

    def of_appearance(self, v_a: Tensor, stripes: Tensor) -> Tensor:
        """Return ``(B, 1 + stripes, people)`` logits: v_a first."""
        each = self.appearance(v_a)[:, None], self.stripes(stripes)
        return torch.cat(each, dim=1)

    def of_fused(self, fused: Tensor, detached: bool = False) -> Tensor:
        """Return ``(B, people)`` logits, see `FusedClassifier`."""
        logits: Tensor = self.fused(fused, detached)
        return logits


def rate(config: Config, epoch: int, branch: bool) -> float:
    """Return the factor of a learning rate in an epoch of the whole training, QAFM-D4.

    Args:
        config: Settings.
        epoch: From 0, stage 1 included.
        branch: Whether it is that of a branch.
    """
    epoch -= config.attribute_epochs
    if epoch < 0:
        return 1.0
    if epoch < config.warmup_epochs:
        factor = (epoch + 1) / config.warmup_epochs
    else:
        rest = max(1, config.epochs - config.warmup_epochs)
        factor = (1 + math.cos(math.pi * (epoch - config.warmup_epochs) / rest)) / 2
    return factor * (config.branch_rate if branch else 1.0)


def set_rates(config: Config, epoch: int, optimizers: dict[str, Optimizer]) -> None:
    """Set the learning rates of an epoch."""
    for name, optimizer in optimizers.items():
        factor = rate(config, epoch, name in ("appearance", "attributes"))
        for group in optimizer.param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])


def train(config: Config, dataset: ReIDDataset, run: Run) -> dict[str, Any]:
    """Train with identities and attributes.

    Args:
        config: Settings.
        dataset: Data with identities, and ``market_attribute.mat`` in its folder.
        run: The run that keeps log, checkpoints and results.

    Returns:
        The content of the result file.

    Raises:
        ReIDError: If an identity or its attributes are missing.
    """
    check_identities(dataset)
    images = open_training_images(dataset, config, run.device)
    people = torch.from_numpy(dataset.train.labels)
    known = known_attributes(dataset, config)
    truth = torch.from_numpy(attribute_classes(dataset, config))
    say_unknown(known, dataset, run)
    augment = config.augmentation()
    model = network(config)
    heads = Classifiers(model, int(people.max()) + 1)
    if config.quality_learns == "identities":
        learn_quality(model, dataset, config, run)
    every = quality_scores(model.to(run.device), dataset, config, run)
    scores = every[config.identifiability]
    model.fusion.weight.normalise.fit(scores["train"])
    rivals = None
    if config.rivals:
        rivals = Rivals(config, model.fusion, heads.fused, every)
    model, heads, rivals, optimizers = start(config, run, model, heads, rivals)

    for epoch in run.epochs(config.attribute_epochs + config.epochs):
        stage_1 = epoch < config.attribute_epochs
        frozen = epoch < config.attribute_epochs + config.frozen_epochs
        set_rates(config, epoch, optimizers)
        model.branches_frozen = frozen and not stage_1
        model.train()
        alphas = []
        drawn = batches(images, people, config, run)
        for index, batch in run.progress(drawn, "train", config.iterations):
            who, classes = people[index].to(run.device), truth[index].to(run.device)
            view = augment(batch, run.generator)
            if stage_1:
                logits = model.attribute_logits(view)
                loss = attribute_loss(logits, classes).mean()  # QAFM-E5
                run.step(loss, optimizers["attributes"])
                continue

            isolated = config.gradients == "isolated"
            with torch.set_grad_enabled(not frozen):
                v_a, stripes, v_s, logits = model.branches(view, isolated)
            # 1. and 2. Each branch by its own loss.
            told = heads.of_appearance(v_a, stripes)
            of_appearance = stripe_loss(told, who, config.smoothing)  # v_a and QAFM-E7
            of_attributes = attribute_loss(logits, classes)  # QAFM-E5
            if isolated:
                v_a, v_s = v_a.detach(), v_s.detach()
            # 3. The last layer, by the identities in its descriptor, and 4. alpha.
            made = Batch(v_a, v_s, of_appearance, of_attributes, who)
            quality = scores["train"][index].to(run.device)
            of_fused, of_alpha, alpha = fusion_losses(
                config, made, quality, model.alpha, model.fuse, heads.of_fused
            )

            # One backward pass: what is detached keeps the four losses apart.
            losses = [of_appearance.mean(), of_attributes.mean(), of_fused, of_alpha]
            if rivals is not None:
                losses.append(rivals(made, index))
            branches = {"appearance", "attributes"} if frozen else set()
            moved = [one for name, one in optimizers.items() if name not in branches]
            run.step(torch.stack(losses).sum(), *moved)
            alphas.append(alpha.mean())
        if alphas:
            run.record(alpha=float(torch.stack(alphas).mean()))
        end_epoch(config, run, model, dataset)

    return run.finish(judge(model, rivals, images, every, known, dataset, config, run))


def start(
    config: Config,
    run: Run,
    model: FusedNet,
    heads: Classifiers,
    rivals: Rivals | None = None,
) -> tuple[Any, Any, Any, dict[str, Optimizer]]:
    """Set up the network and its four optimisers, QAFM-D4, and that of the rivals.

    Returns:
        Network, classifiers, rivals, and the optimisers by the part that they move.
    """
    log_weights(run, model)
    for part in model.image_parts():
        split_batch_norm(part, own_splits(config.bn_splits))
    own = {"appearance": [heads.appearance, heads.stripes]}
    own["fusion"] = [heads.fused]
    optimizers: dict[str, Optimizer] = {
        name: adam(
            config,
            [(part, config.lr) for part in parts]
            + [(head, config.classifier_lr) for head in own.get(name, [])],
        )
        for name, parts in model.parts().items()
    }
    heads = run.setup(heads)
    wrapped, *ready = run.setup(model, *optimizers.values())
    optimizers = dict(zip(optimizers, ready, strict=True))
    kept = {"model": wrapped, "heads": heads}
    if rivals is not None:
        learn = [
            (rivals.fusions, config.lr),
            (rivals.classifiers, config.classifier_lr),
        ]
        rivals, optimizers["rivals"] = run.setup(rivals, adam(config, learn))
        kept["rivals"] = rivals
    run.track(**kept, **{f"{name}_optimizer": one for name, one in optimizers.items()})
    return wrapped, heads, rivals, optimizers


def known_attributes(dataset: ReIDDataset, config: Config) -> MarketAttributes | None:
    """Return the annotation, which a training without attributes may lack."""
    if config.attributes == "none" and not (dataset.root / ATTRIBUTE_FILE).is_file():
        return None
    return read_market_attributes(dataset.root)


def say_unknown(known: MarketAttributes | None, dataset: ReIDDataset, run: Run) -> None:
    """Write down how many people of the query have no attributes."""
    people = np.unique(dataset.query.pids)
    if known is None or not len(people):
        return
    annotated = {*known.train, *known.test}
    if lacking := sum(int(pid) not in annotated for pid in people):
        scored = "the others" if lacking < len(people) else "the training images"
        run.log(
            f"{lacking} of {len(people)} people of the query have no attributes: their "
            f"prediction is scored on {scored}"
        )


def attribute_classes(dataset: ReIDDataset, config: Config) -> np.ndarray:
    """Return the ``(N, 12)`` classes that the attribute branch learns, -1 for none.

    Args:
        dataset: Data whose folder holds ``market_attribute.mat``.
        config: For ``attributes``.

    Raises:
        ReIDError: If the file is missing, a training identity is not in it, or a group
            has one value in the whole training split. ``"none"`` needs no file.
    """
    table = dataset.train
    known = known_attributes(dataset, config)
    if config.attributes == "none" or known is None:
        return np.full((len(table), len(ATTRIBUTE_GROUPS)), -1)
    missing = sorted(set(table.pids.tolist()) - set(known.train))
    if missing:
        raise ReIDError(
            f"{dataset.root}: {len(missing)} training identities have no attributes "
            f"(the first is {missing[0]}); give a market_attribute.mat of these people"
        )
    classes = known.for_table(table)[1]
    for group, column in zip(ATTRIBUTE_GROUPS, classes.T, strict=True):
        seen = len(np.unique(column[column >= 0]))
        if seen < 2:
            have = "have the same" if seen else "lack the value of"
            raise ReIDError(
                f"{dataset.root}: all training images {have} {group!r}, from "
                "which a head can learn nothing; add people with another value"
            )
    if config.attributes == "shuffled":
        # Each person gets the annotation of another: a code, but a wrong one.
        order = np.random.default_rng(config.seed).permutation(table.num_pids)
        first = np.unique(table.labels, return_index=True)[1]
        other = np.empty(table.num_pids, dtype=np.int64)
        other[order] = np.roll(order, 1)
        classes = classes[first[other[table.labels]]]
    return classes


def judge(
    model: Any,
    rivals: Any,
    images: ImageSource,
    every: dict[str, Scores],
    known: MarketAttributes | None,
    dataset: ReIDDataset,
    config: Config,
    run: Run,
) -> dict[str, Any]:
    """Return the figures of the learned and of each fixed alpha, and of the attributes.

    Args:
        model: Network.
        rivals: `Rivals`, or None.
        images: Training images.
        every: Of `quality_scores`.
        known: Attributes, or None.
        dataset: Data.
        config: Settings.
        run: For its device.
    """
    scores = every[config.identifiability]
    splits = {"train": images}
    testable = len(dataset.query) and len(dataset.gallery)
    if testable:
        splits["query"] = open_split(dataset.query, config, run.device)
        splits["gallery"] = open_split(dataset.gallery, config, run.device)

    def forward(batch: Tensor) -> Tensor:
        made = model.branches(batch)
        return torch.cat([made.appearance, made.attributes, *made.logits], dim=1)

    with torch.inference_mode():
        found = {
            name: extract(model, source, config, forward).to(run.device)
            for name, source in splits.items()
        }
        model.eval()
        made = {name: one[:, : 2 * config.features] for name, one in found.items()}
        logits = {name: one[:, 2 * config.features :] for name, one in found.items()}
        alpha = model.alpha(scores["train"].to(run.device))
        fused = F.normalize(model.fuse(*made["train"].chunk(2, dim=1), alpha), dim=1)
        learned = {"train": fused.cpu()}
        told: dict[str, Any] = {
            "diagnosis": diagnose_features(learned["train"], dataset, config, run),
        }
        if known is not None:
            told["attributes"] = judge_attributes(logits, known, dataset)
        if testable:
            whole, of_alpha, tested = score_alphas(
                model.alpha, model.fuse, made, scores, dataset
            )
            learned |= tested
            told = {**whole.as_dict(), **told, **of_alpha}
            told["failure"] = failure_areas(tested, every, dataset, whole.unmatched)
        if testable and rivals is not None:
            told["rivals"] = judge_rivals(rivals, made, every, dataset, run)
    run.keep_features(learned)
    return told


def judge_rivals(
    rivals: Any,
    made: dict[str, Tensor],
    every: dict[str, Scores],
    dataset: ReIDDataset,
    run: Run,
) -> dict[str, Any]:
    """Return the figures of each rival, by its name.

    Args:
        rivals: `Rivals`.
        made: ``(N, 2D)`` descriptors of both branches of query and gallery.
        every: Of `quality_scores`.
        dataset: Data.
        run: For its precision.

    Returns:
        mAP, Rank-1, what alpha is and could gain, and the mAP of each fixed alpha.
    """
    rivals.eval()
    told = {}
    for one, fusion in zip(RIVALS, rivals.fusions, strict=True):
        whole, of_alpha, _ = score_alphas(
            in_precision(fusion.alpha, run.fabric),
            in_precision(fusion, run.fabric),
            *(made, every[one.score], dataset),
        )
        fixed = {alpha: row["mAP"] for alpha, row in of_alpha["fixed_alpha"].items()}
        told[one.name] = {
            "mAP": whole.mAP,
            "rank_1": whole.cmc[1],
            **of_alpha["alpha"],
            "fixed_mAP": fixed,
        }
    return told


def judge_attributes(
    found: dict[str, Tensor], known: MarketAttributes, dataset: ReIDDataset
) -> dict[str, Any]:
    """Return how well the heads predict the attributes of people they have not seen.

    Args:
        found: Logits of ``query``, or of ``train`` if there is none.
        known: Attributes; ``train`` is scored if they are of no person of ``query``.
        dataset: Data.
    """
    name, truth = "query", known.for_table(dataset.query)[1]
    if "query" not in found or (truth < 0).all():
        name, truth = "train", known.for_table(dataset.train)[1]
    sizes = [len(values) for values in ATTRIBUTE_GROUPS.values()]
    logits = found[name].cpu().split(sizes, dim=1)
    scored = score_attributes(list(logits), truth)
    balanced = dict(zip(ATTRIBUTE_GROUPS, scored.balanced.tolist(), strict=True))
    each = score_each_attribute(list(logits), truth)
    return {**scored.means(), "balanced": balanced, "each": each, "split": name}


def score_each_attribute(
    logits: list[Tensor], classes: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return how well each of the 27 attributes is predicted.

    A colour is an attribute of its own: it is predicted where no other is more likely.

    Args:
        logits: Of the 12 heads, each ``(N, classes of the group)``.
        classes: ``(N, 12)``, -1 where one is unknown.

    Returns:
        By the name of the attribute what `score_attributes` says of it.
    """
    heads: list[Tensor] = []
    columns: list[np.ndarray] = []
    for group, given, truth in zip(ATTRIBUTE_GROUPS, logits, classes.T, strict=True):
        if not group.endswith("colour"):
            heads.append(given)
            columns.append(truth)
            continue
        likely = given.softmax(dim=1)
        for value in range(likely.shape[1]):
            others = likely.index_fill(1, torch.tensor(value), -1.0).amax(dim=1)
            heads.append(torch.stack([others, likely[:, value]], dim=1))
            columns.append(np.where(truth < 0, -1, truth == value))
    scored = score_attributes(heads, np.stack(columns, axis=1))
    scores = scored.accuracy, scored.balanced, scored.average_precision
    names = "accuracy", "balanced_accuracy", "average_precision"
    return {
        attribute: dict(zip(names, map(float, found), strict=True))
        for attribute, *found in zip(ATTRIBUTE_NAMES, *scores, strict=True)
    }
