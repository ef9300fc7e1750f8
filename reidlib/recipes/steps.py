"""What recipes do around their algorithm: start, batches, the end of an epoch, loading.

Plain functions. A method with several networks, optimisers or stages calls the parts of
`start` by itself: `adam`, `step_schedule`, `Run.setup` and `Run.track` take any number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR

from reidlib.clustering.dbscan import dbscan
from reidlib.clustering.infomap import require_infomap
from reidlib.clustering.jaccard import jaccard_distance
from reidlib.data.check import training_problem
from reidlib.data.images import ImageSource, StreamedImages, open_images
from reidlib.data.samplers import PKSampler, sequential_batches
from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.data.transforms import TestTransform
from reidlib.engine import processes
from reidlib.engine.checkpoint import checkpoint_file, load_checkpoint, load_weights
from reidlib.engine.manifest import read_manifest, read_result
from reidlib.engine.memory import is_out_of_memory
from reidlib.engine.run import Run, require_same
from reidlib.errors import DamagedError, ReIDError
from reidlib.evaluation.ranking import check_matches, evaluate
from reidlib.losses.memory import cluster_centroids
from reidlib.models.attention import add_attention
from reidlib.models.backbones import Backbone
from reidlib.models.batch_norm import split_batch_norm
from reidlib.models.reid_net import ReIDNet, extract_features
from reidlib.neighbors.sharded import gathered
from reidlib.paths import user_path
from reidlib.recipes.diagnosis import diagnose
from reidlib.recipes.settings import (
    AttentionConfig,
    ClusteringConfig,
    CommonConfig,
    TrainingConfig,
    restore,
)
from reidlib.terminal import say

T = TypeVar("T", bound=nn.Module)

ADVICE = (
    "raise eps or lower min_samples if all are outliers, lower eps or k1 if all are one"
)
"""What helps DBSCAN against fewer than two clusters."""


class CollapseError(ReIDError):
    """The pseudo labels left nothing to learn from: one cluster, or none."""


# -- networks ----------------------------------------------------------------------


def reid_network(config: CommonConfig, pretrained: bool = True) -> ReIDNet:
    """Return backbone, pooling and neck of a configuration, with its attention.

    Args:
        config: Settings.
        pretrained: Load ImageNet weights; not needed where others are loaded over
            them.
    """
    loads, weights = weights_to_load(config, pretrained)
    model = ReIDNet(
        backbone=config.backbone,
        pooling=config.pooling,
        pretrained=loads,
        frozen_stages=config.frozen_stages,
        last_stride=config.last_stride,
        weights=weights,
    )
    if isinstance(config, AttentionConfig):
        attention = (config.global_attention, config.local_attention)
        add_attention(model, config.groups, config.reduction, *attention)
    if pretrained and config.init is not None:
        start_from(model, config.init)
    return model


def weights_to_load(config: CommonConfig, pretrained: bool) -> tuple[bool, str | None]:
    """Return whether a backbone is to load ImageNet weights, and from which file."""
    loads = pretrained and config.weights != "random" and config.init is None
    return loads, config.weights if loads else None


def start_from(model: nn.Module, path: str | Path) -> None:
    """Load the trained network of a run into a network with the same backbone.

    What the run lacks (an attention, another pooling) keeps its first values, and what
    only the run has is left out; both are said in the backbone's ``source``.

    Args:
        model: Network with a ``backbone``, changed in place.
        path: A run's folder, or a checkpoint file in it.

    Raises:
        ReIDError: If there is no trained network, or it has another backbone or none.
    """
    trained, _ = load_model(path)
    theirs, ours = (getattr(net, "backbone", None) for net in (trained, model))
    if not isinstance(theirs, Backbone) or not isinstance(ours, Backbone):
        raise ReIDError(
            f"init: {path} is a run whose network has no single backbone, such as "
            "those of qafm; start from a run of another recipe"
        )
    if theirs.name != ours.name:
        raise ReIDError(
            f"init: {path} was trained with the backbone {theirs.name}; set --backbone "
            "to it, or start from another run"
        )
    # Where there is an attention, the pooling comes after it.
    state = {n.replace(".pooling.", "."): v for n, v in trained.state_dict().items()}
    own = model.state_dict()
    there = {name: state.get(name.replace(".pooling.", ".")) for name in own}
    fits = {
        name: value
        for name, value in there.items()
        if value is not None and value.shape == own[name].shape
    }
    model.load_state_dict(fits, strict=False)
    ours.source = f"run {path}"
    new, unused = len(own) - len(fits), len(state) - len(fits)
    if new or unused:
        ours.source += f" (not in it: {new} tensors; left out: {unused})"


def load_model(path: str | Path) -> tuple[nn.Module, Any]:
    """Return the trained network of a run, in evaluation mode, and its settings.

    Args:
        path: A run's folder, or a checkpoint file in it.

    Raises:
        ReIDError: If there is no checkpoint, or it is of an unknown recipe, of another
            network or of another run than its folder.
    """
    from reidlib.recipes import RECIPES

    path = user_path(path)
    manifest = path / "manifest.json"
    path = checkpoint_file(path)
    checkpoint = load_checkpoint(path, "recipe", "config", "objects")
    if manifest.exists():
        told = read_manifest(manifest, f"restore it, or give {path} itself")
        require_same(path, checkpoint, told)
    recipe = RECIPES.get(str(checkpoint["recipe"]))
    if recipe is None:
        raise ReIDError(
            f"{path} was written by the recipe {checkpoint['recipe']!r}, and there "
            f"is {', '.join(RECIPES)}; load it with the version that wrote it"
        )
    try:
        config = restore(recipe.Config, checkpoint["config"])
    except (TypeError, ValueError) as error:
        raise DamagedError(
            f"{path} has settings that {checkpoint['recipe']} does not take ({error}); "
            "load it with the version that wrote it",
            path,
        ) from error
    model = recipe.network(config, pretrained=False)
    objects = checkpoint["objects"]
    if "model" not in objects:
        raise ReIDError(
            f"{path} holds {', '.join(objects)} and no model; a recipe tracks its "
            "network under the name 'model'"
        )
    load_weights(model, objects["model"], str(path))
    return model.eval(), config


def result_of(path: str | Path) -> dict[str, Any]:
    """Read a result file, or that of a run's folder."""
    path = user_path(path)
    if path.is_dir():
        path = path / "result.json"
    remove = "remove it and " if path.exists() else ""
    return read_result(path, f"{remove}resume the run, which writes it at its end")


# -- start -------------------------------------------------------------------------


class Started(NamedTuple):
    """A network that is ready to train, with what belongs to it."""

    model: Any
    heads: list[Any]
    optimizer: Optimizer
    schedule: LRScheduler


def start(
    config: TrainingConfig,
    run: Run,
    model: nn.Module,
    *,
    heads: Mapping[str, nn.Module] | None = None,
    rates: Mapping[str, float] | None = None,
    track: Mapping[str, Any] | None = None,
) -> Started:
    """Set up a network, its heads and one optimiser for all, and name what to keep.

    Args:
        config: Settings.
        run: The run; a run that is resumed gets its state here.
        model: The network.
        heads: Further modules that are trained, by the name they are kept under.
        rates: Learning rate of a head, where it differs from the network's.
        track: What else the checkpoint must hold.
    """
    log_weights(run, model)
    split_batch_norm(model, processes.own_splits(config.bn_splits))
    heads, rates = heads or {}, rates or {}
    groups = [(model, config.lr)]
    groups += [(head, rates.get(name, config.lr)) for name, head in heads.items()]
    optimizer = adam(config, groups)
    schedule = step_schedule(config, optimizer)
    ready = {name: run.setup(head) for name, head in heads.items()}
    model, optimizer = run.setup(model, optimizer)
    run.track(
        model=model, optimizer=optimizer, schedule=schedule, **ready, **(track or {})
    )
    return Started(model, list(ready.values()), optimizer, schedule)


def adam(config: TrainingConfig, groups: Sequence[tuple[nn.Module, float]]) -> Adam:
    """Return Adam over the parameters of some modules, each with its learning rate."""
    parameters = [
        {"params": [p for p in module.parameters() if p.requires_grad], "lr": rate}
        for module, rate in groups
    ]
    return Adam(parameters, lr=config.lr, weight_decay=config.weight_decay)


def step_schedule(config: TrainingConfig, optimizer: Optimizer) -> LRScheduler:
    """Return the schedule that lowers all rates every ``lr_step`` epochs."""
    return StepLR(optimizer, config.lr_step, config.lr_gamma)


def log_weights(run: Run, model: nn.Module) -> None:
    """Write down where the weights of each backbone of a network come from."""
    sources = [getattr(module, "source", None) for module in model.modules()]
    told = dict.fromkeys(source for source in sources if isinstance(source, str))
    run.manifest["weights"] = "; ".join(told)
    run.log(f"weights: {run.manifest['weights']}")


def check_requirements(config: CommonConfig) -> None:
    """Raise if a package or a file that the settings name is missing.

    Better now than at the first clustering, or after the data were drawn.
    """
    if getattr(config, "clustering", None) == "infomap":
        require_infomap("clustering")
    local_labels = getattr(config, "local_labels", None)
    if local_labels:
        load_checkpoint(user_path(local_labels), "labels")
    if config.init is not None and not checkpoint_file(config.init).is_file():
        raise ReIDError(
            f"init: there is no checkpoint at {checkpoint_file(config.init)}; give the "
            "folder of a run"
        )


def check_network(network: nn.Module, config: CommonConfig) -> None:
    """Raise if the network does not take images of the size of the configuration.

    One black image is tried: better now than after the data were drawn or read.

    Args:
        network: As the recipe builds it.
        config: For the size of the images.
    """
    with torch.inference_mode():
        try:
            network.eval()(torch.zeros(1, 3, config.height, config.width))
        except (AssertionError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            raise ReIDError(
                f"{config.backbone} does not take images of {config.height} x "
                f"{config.width} ({reason}); set --height and --width, or choose "
                "another --backbone"
            ) from error


def open_training_images(
    dataset: ReIDDataset,
    config: CommonConfig,
    device: torch.device,
    least_people: int = 2,
) -> ImageSource:
    """Open the training split at the size of the configuration.

    Args:
        dataset: Data.
        config: For the size.
        device: Where batches are wanted.
        least_people: How many people there must be, where they are known.

    Raises:
        ReIDError: If there is too little to learn from, or if the test split could not
            be scored in the end: better now than after hours of training.
    """
    if problem := training_problem(dataset, least_people):
        raise ReIDError(problem)
    check_test_split(dataset)
    images = open_split(dataset.train, config, device)
    if isinstance(images, StreamedImages) and processes.leads():
        needed = 3 * config.height * config.width * len(images) / 2**30
        say(
            f"{len(images):,} images take {needed:.2g} GiB, more than memory_budget: "
            "they are read from disk while they are used"
        )
    return images


def open_split(
    table: ImageTable, config: CommonConfig, device: torch.device
) -> ImageSource:
    """Open the images of a table at the size of the configuration."""
    budget = config.memory_budget
    return open_images(table, config.size, device=device, memory_budget=budget)


# -- an epoch ----------------------------------------------------------------------


def jaccard_dbscan(
    features: Tensor, config: ClusteringConfig, min_samples: int
) -> Tensor:
    """Return clusters by DBSCAN on the Jaccard distance.

    Args:
        features: ``(N, D)`` L2-normalised features.
        config: For ``k1``, ``k2`` and ``eps``; a small set lowers ``k1``.
        min_samples: Smaller groups are outliers.

    Returns:
        ``(N,)`` int64 clusters from 0, -1 for an outlier.
    """
    k1 = min(config.k1, len(features) - 1)
    distance = jaccard_distance(
        features, k1=k1, k2=min(config.k2, k1), max_distance=config.eps
    )
    return dbscan(distance, eps=config.eps, min_samples=min_samples)


def require_two_clusters(labels: Tensor, found_by: str, advice: str = ADVICE) -> None:
    """Raise `CollapseError` unless there are two clusters to contrast.

    Args:
        labels: ``(N,)`` clusters.
        found_by: What made them, for the message.
        advice: What helps.
    """
    if int(labels.max()) < 1:
        raise CollapseError(f"{too_few_clusters(labels, found_by)}: {advice}")


def too_few_clusters(labels: Tensor, found_by: str) -> str:
    """Say what a clustering with fewer than two clusters has found."""
    return (
        f"{found_by} found {int(labels.max()) + 1} clusters and "
        f"{int((labels < 0).sum())} outliers in {len(labels)} images, and contrast "
        "needs two clusters"
    )


def filled(
    kind: Callable[..., T],
    features: Tensor,
    labels: Tensor,
    run: Run,
    **settings: Any,
) -> T:
    """Return a memory on the device of the run that holds the cluster centroids.

    Args:
        kind: A memory, such as `ClusterMemory`.
        features: ``(N, D)`` features.
        labels: ``(N,)`` clusters, -1 for an outlier.
        run: The run.
        settings: What else the memory takes.
    """
    centroids = cluster_centroids(features, labels).to(run.device)
    memory = kind(*centroids.shape, **settings).to(run.device)
    memory.initialise(centroids)  # type: ignore[operator]
    return memory


def batches(
    images: ImageSource,
    labels: Tensor,
    config: TrainingConfig,
    run: Run,
    camids: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(index, images)`` of each batch of an epoch: P labels with K images each.

    Args:
        images: N images.
        labels: ``(N,)`` people or clusters, -1 for an image that is left out.
        config: Settings.
        run: For its generator.
        camids: ``(N,)`` cameras, to draw images of a label from different ones.
    """
    sampler = PKSampler(
        labels,
        config.num_labels,
        config.num_instances,
        config.iterations,
        run.generator,
        camids=camids,
        replacement=config.replacement,
    )
    return batches_of(images, sampler)


def batches_of(
    images: ImageSource, index: Iterable[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(index, images)`` for each index batch of a sampler."""
    index = list(index)
    yield from zip(index, images.batches(index), strict=True)


def end_epoch(
    config: TrainingConfig,
    run: Run,
    model: nn.Module,
    dataset: ReIDDataset,
    schedule: LRScheduler | None = None,
    kept: Mapping[str, Tensor] | None = None,
    *,
    falls: bool = True,
) -> None:
    """Lower the rate, record the loss, keep what is asked for, score where it is due.

    Args:
        config: Settings.
        run: The run.
        model: The network.
        dataset: Data with a test split, or without.
        schedule: The schedule of the rate; None where the recipe sets the rates.
        kept: Tensors that the checkpoint shall hold.
        falls: Whether the epoch counts for the schedule.
    """
    run.record(loss=run.mean_loss)
    if schedule is not None:
        if falls:
            schedule.step()
        run.record(lr=schedule.get_last_lr()[0])
    run.keep(**(kept or {}))
    if config.eval_every and (run.epoch + 1) % config.eval_every == 0:
        run.record(test=score(model, dataset, config, run.device))


# -- features and scores -----------------------------------------------------------


def extract(
    model: nn.Module,
    images: ImageSource,
    config: CommonConfig,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the features of all images, without augmentation.

    They are computed in the precision of the configuration, by a network that a run has
    set up and by one that was loaded. Each of several processes computes a part.

    Args:
        model: Network in any mode; it is put into eval mode and back.
        images: N images.
        config: For the number of images at once, and the precision.
        forward: What to call in the place of the network, such as a method of it.

    Returns:
        ``(N, D)`` float32 L2-normalised features, on the CPU; what ``forward`` returns,
        if it is given.
    """
    normalise = TestTransform()
    index = list(sequential_batches(len(images), config.extract_batch))
    several = processes.count() > 1 and len(index) >= processes.count()
    if several:
        share = torch.arange(len(index)).tensor_split(processes.count())
        index = [index[number] for number in share[processes.rank()]]
    batches = (normalise(batch) for batch in images.batches(index))
    mixed = config.precision == "bf16-mixed"

    def compute(batch: Tensor) -> Tensor:
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=mixed):
            return (forward or model)(batch)

    features = extract_features(model, batches, compute)
    if several:
        features = gathered(features)
    return features


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
        ``(Q, D)`` and ``(G, D)`` L2-normalised features.
    """
    query, gallery = (
        extract(model, open_split(split, config, device), config)
        for split in (dataset.query, dataset.gallery)
    )
    return query, gallery


def score(
    model: nn.Module, dataset: ReIDDataset, config: CommonConfig, device: torch.device
) -> dict[str, Any]:
    """Return CMC, mAP and their kin on the test split, if there is one."""
    return _score(_test_features(model, dataset, config, device), dataset)


def final_metrics(
    model: nn.Module,
    train_images: ImageSource,
    dataset: ReIDDataset,
    config: CommonConfig,
    run: Run,
) -> dict[str, Any]:
    """Return the retrieval figures of a model and the diagnosis of its features."""
    features = extract(model, train_images, config)
    test = _test_features(model, dataset, config, run.device)
    run.keep_features({"train": features, **test})
    diagnosis = diagnose_features(features, dataset, config, run)
    return {**_score(test, dataset), "diagnosis": diagnosis}


def diagnose_features(
    features: Tensor, dataset: ReIDDataset, config: CommonConfig, run: Run
) -> dict[str, Any]:
    """Return the diagnosis of the final features; write down what cannot be made."""
    told = processes.once(diagnose, features, dataset.train, config.seed)
    if "error" in told:
        run.log(f"the features cannot be diagnosed: {told['error']}")
    return told


def _test_features(
    model: nn.Module, dataset: ReIDDataset, config: CommonConfig, device: torch.device
) -> dict[str, Tensor]:
    if not len(dataset.query) or not len(dataset.gallery):
        return {}
    features = extract_test(model, dataset, config, device)
    return dict(zip(("query", "gallery"), features, strict=True))


def _score(test: Mapping[str, Tensor], dataset: ReIDDataset) -> dict[str, Any]:
    if not test:
        return {}
    features = test["query"], test["gallery"]
    ranking = processes.once(evaluate, *features, dataset.query, dataset.gallery)
    return ranking.as_dict()


def check_test_split(dataset: ReIDDataset) -> None:
    """Raise if there are queries and none of them has a match in the gallery."""
    query, gallery = dataset.query, dataset.gallery
    if not len(query) or not len(gallery):
        return
    try:
        check_matches(query, gallery)
    except ReIDError as error:
        raise ReIDError(
            f"{dataset.root} cannot be scored: {error}; `reidlib data check` says "
            "more, and without query and gallery it can be trained on"
        ) from error
