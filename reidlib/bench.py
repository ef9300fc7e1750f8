"""How fast a training is on this machine, and what it waits for.

A recipe is run as it is, for a few short epochs. The first warms the device up, the
second is timed as a whole, and in the third the device is waited for after each part of
a step, to say which part takes how long.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from reidlib.checks import check_count
from reidlib.data.table import ReIDDataset
from reidlib.data.transforms import TrainTransform
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.recipes import RECIPES, steps
from reidlib.recipes.steps import CollapseError

PARTS = ("data", "forward", "backward", "optimiser", "loss and memory")
"""The parts of a step: reading and augmenting images, the network and its gradients,
the optimiser, and the rest."""

# Fields that make epochs differ from each other, or take hours before the first.
_PLAIN = {"attribute_epochs": 0, "frozen_epochs": 0, "warmup_epochs": 0}
_EPOCHS = 3


@dataclass(frozen=True)
class Speed:
    """What a benchmark of a training has measured.

    Attributes:
        recipe: Name of the recipe.
        device: What it ran on, in words.
        batch: Images of a step.
        images: N, the images that are extracted and clustered in each epoch.
        steps: Steps of an epoch of the settings, for the time of an epoch.
        extraction: Images per second without gradients.
        training: Images per second of the steps.
        shares: For each of `PARTS` its share of a step.
        labels: Seconds from features to pseudo labels and memories, in each epoch.
        flops: Floating point operations of a step: network, forward and backward.
        peak: Floating point operations per second of a large matrix product, in the
            precision of the run, on the same device.
        warm_up: Seconds that the first extraction took longer than a later one. With
            ``compile`` most of them compile the network.
    """

    recipe: str
    device: str
    batch: int
    images: int
    steps: int
    extraction: float
    training: float
    shares: dict[str, float]
    labels: float
    flops: float
    peak: float
    warm_up: float = 0.0

    @property
    def of_peak(self) -> float:
        """Share of the rate of a matrix product that the steps reach."""
        return self.flops * self.training / self.batch / self.peak

    @property
    def epoch(self) -> dict[str, float]:
        """Seconds of an epoch of the settings, by what they are spent on."""
        return {
            "extraction": self.images / self.extraction if self.extraction else 0.0,
            "labels": self.labels,
            "steps": self.steps * self.batch / self.training,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, the derived ones included, for a JSON file."""
        derived = {"of_peak": self.of_peak, "epoch": self.epoch}
        return {**dataclasses.asdict(self), **derived}

    def __str__(self) -> str:
        """Return the figures in words."""
        shares = ", ".join(f"{n} {100 * s:.0f} %" for n, s in self.shares.items())
        parts = ", ".join(f"{n} {s:.1f} s" for n, s in self.epoch.items() if s)
        lines = [f"{self.recipe} on {self.device}, batches of {self.batch} images"]
        if self.extraction:
            after = f", after a warm-up of {self.warm_up:.1f} s"
            lines.append(f"extraction: {self.extraction:,.1f} images/s{after}")
        lines += [
            f"training: {self.training:,.1f} images/s",
            f"a step: {shares}",
            f"an epoch: {sum(self.epoch.values()):.1f} s ({parts})",
            f"steps reach {100 * self.of_peak:.0f} % of the {self.peak / 1e12:.3g} "
            "Tflop/s of a large matrix product",
        ]
        return "\n".join(lines)


def check_bench(recipe: str, config: Any, num_steps: int) -> None:
    """Raise unless a recipe trains and there are steps enough: before data are read.

    Args:
        recipe: Its name.
        config: Its settings.
        num_steps: Steps of each epoch.
    """
    check_count(num_steps, "num_steps", "bench_train", least=2)
    if not hasattr(config, "iterations"):
        raise ReIDError(f"{recipe} trains nothing; name a recipe that does")
    if recipe == "calr_local":
        raise ReIDError("calr_local is a stage of calr, camera by camera; name calr")
    if getattr(config, "adaptation", "none") != "none":
        raise ReIDError("there is no source to adapt from here; leave --adaptation out")


def bench_train(
    recipe: str,
    config: Any,
    dataset: ReIDDataset,
    *,
    num_steps: int = 20,
    device: str = "auto",
) -> Speed:
    """Measure the speed of a training.

    With ``weights="random"`` the pseudo labels are computed, and the identities are
    trained on: a random network may find no clusters.

    Args:
        recipe: Name of a recipe that trains.
        config: Its settings; the numbers of epochs and steps are replaced.
        dataset: Data, with identities if the weights are random.
        num_steps: Steps of each of the three epochs.
        device: As for `reidlib.engine.Run`.

    Raises:
        ReIDError: If the recipe does not train, or there are too few steps to time.
    """
    check_bench(recipe, config, num_steps)
    module = RECIPES[recipe]
    with tempfile.TemporaryDirectory() as folder:
        run = _TimedRun(
            folder,
            recipe=recipe,
            version=module.VERSION,
            config=_shortened(config, num_steps),
            dataset=dataset,
            device=device,
            progress=False,
            tensorboard=False,
            stop_after=_EPOCHS,
        )
        with _patched(run, module, dataset), run:
            module.train(run.config, dataset, run)
    peak = matrix_rate(run.device, config.precision)
    return run.speed(config.iterations, peak)


def _shortened(config: Any, num_steps: int) -> Any:
    """Return the settings with as many steps in an epoch, and one more epoch."""
    changes = {k: v for k, v in _PLAIN.items() if hasattr(config, k)}
    # The last epoch is not reached: its scores would take as long as all the rest.
    changes |= {"epochs": _EPOCHS + 1, "iterations": num_steps, "eval_every": 0}
    if hasattr(config, "local"):
        stage_1 = dataclasses.replace(config.local, epochs=1, iterations=1)
        changes["local"] = stage_1
    return dataclasses.replace(config, **changes)


@contextlib.contextmanager
def _patched(
    run: _TimedRun, module: ModuleType, dataset: ReIDDataset
) -> Iterator[None]:
    """Time what a run does not see of a recipe: augmentation, extraction, labels."""
    with contextlib.ExitStack() as stack:
        augment, extract = TrainTransform.__call__, steps.extract_features

        def augmented(*arguments: Any) -> Tensor:
            return run.timed("data", augment, *arguments)

        def extracted(*arguments: Any, **options: Any) -> Tensor:
            features = run.timed("extraction", extract, *arguments, **options)
            run.extracted += len(features)
            return features

        stack.enter_context(patch.object(TrainTransform, "__call__", augmented))
        stack.enter_context(patch.object(steps, "extract_features", extracted))
        if getattr(run.config, "weights", None) == "random":
            people = torch.from_numpy(dataset.train.labels)
            if cluster := getattr(module, "cluster", None):
                labels = _at_least_labels(cluster, people)
                stack.enter_context(patch.object(module, "cluster", labels))
        yield


def _at_least_labels(
    cluster: Callable[..., Any], people: Tensor
) -> Callable[..., Tensor]:
    """Return a function that clusters, and returns the identities."""

    def labels(*arguments: Any) -> Tensor:
        with contextlib.suppress(CollapseError):
            cluster(*arguments)
        return people

    return labels


def _of_backward_convolution(
    grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *rest: Any, **_: Any
) -> int:
    """Return the operations of the gradients of a convolution, from shapes.

    Those of images and those of weights take as many as the convolution itself.
    PyTorch's own formula takes each group for a whole convolution, which is C times too
    many for the weights of a depthwise one.
    """
    transposed, needed = rest[4], rest[7]  # behind bias, stride, padding, dilation
    places = math.prod((x if transposed else grad)[2:])
    once = 2 * x[0] * places * math.prod(weight)
    return once * sum(needed[:2])


_FORMULAS = {torch.ops.aten.convolution_backward: _of_backward_convolution}


class _TimedRun(Run):
    """A run that knows how long its parts take."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seconds_of: defaultdict[str, float] = defaultdict(float)
        self.extracted = self.trained = self.num_steps = 0
        self.flops = 0.0
        self._shares: dict[str, float] = {}
        self._whole = 0.0
        backward = partial(self.timed, "backward", self.fabric.backward)
        self.fabric.backward = backward  # type: ignore[method-assign]

    def timed(self, part: str, function: Callable[..., Any], *a: Any, **k: Any) -> Any:
        """Call a function, and add its seconds to a part."""
        self._wait()
        start = time.perf_counter()
        made = function(*a, **k)
        self._wait()
        self.seconds_of[part] += time.perf_counter() - start
        return made

    def _wait(self) -> None:
        """Wait for the device, but for the epoch that is timed as a whole."""
        if self.device.type == "cuda" and self.epoch != 1:
            torch.cuda.synchronize(self.device)

    def setup(self, model: Any, *optimizers: Any) -> Any:
        """Time the methods of a network in training."""
        made = super().setup(model, *optimizers)
        wrapped = made[0] if optimizers else made
        for name in ("forward", *getattr(model, "forward_methods", ())):
            called = wrapped.__dict__[name]

            def forward(*a: Any, _called: Any = called, **k: Any) -> Any:
                if not model.training:
                    return _called(*a, **k)
                if a and isinstance(a[0], Tensor) and a[0].ndim == 4:
                    self.trained += len(a[0])
                return self.timed("forward", _called, *a, **k)

            wrapped.__dict__[name] = forward
        return made

    def step(self, loss: Tensor, *optimizers: Any) -> None:
        """Time the optimiser: what a step takes beside the backward pass."""
        before = self.seconds_of["backward"]
        self.timed("step", super().step, loss, *optimizers)
        backward = self.seconds_of["backward"] - before
        self.seconds_of["optimiser"] -= backward
        self.seconds_of["optimiser"] += self.seconds_of.pop("step")

    def progress(self, items: Iterable[Any], title: str, *_: Any) -> Iterator[Any]:
        """Time each step, and count the operations of the first."""
        if title not in ("contrast", "train"):
            yield from items
            return
        waiting = iter(items)
        if self.epoch == 1 and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        self.num_steps = 0
        with contextlib.suppress(StopIteration):
            while True:
                item = self.timed("data", next, waiting)
                counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
                first = self.epoch == 0 and not self.num_steps
                with counter if first else contextlib.nullcontext():
                    yield item
                if first:
                    self.flops = float(counter.get_total_flops())
                self.num_steps += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds_of["steps"] = time.perf_counter() - start

    def epochs(self, count: int) -> Iterator[int]:
        """Keep the figures of each epoch."""
        for epoch in super().epochs(count):
            self.seconds_of.clear()
            self.extracted = self.trained = 0
            start = time.perf_counter()
            yield epoch
            whole, of = time.perf_counter() - start, self.seconds_of
            if epoch == 1:
                self._whole = of["steps"]
            rest = of["steps"] - sum(of[part] for part in PARTS)
            of["loss and memory"] += max(0.0, rest)
            self._shares = {p: of[p] / max(of["steps"], 1e-9) for p in PARTS}
            self._labels = max(0.0, whole - of["steps"] - of["extraction"])
            self._extraction = self.extracted / max(of["extraction"], 1e-9)
            if epoch == 0:
                self._first = of["extraction"]
            self._warm_up = max(0.0, self._first - of["extraction"])

    def speed(self, num_steps: int, peak: float) -> Speed:
        """Return what was measured."""
        batch = self.trained // self.num_steps
        hardware = self.manifest["hardware"]
        device = f"{hardware['threads']} threads of {hardware['machine']}"
        if self.device.type == "cuda":
            device = torch.cuda.get_device_name(self.device)
        return Speed(
            recipe=self.recipe,
            device=f"{device}, {self.config.precision}",
            batch=batch,
            images=len(self.dataset.train),
            steps=num_steps,
            extraction=self._extraction if self.extracted else 0.0,
            training=self.num_steps * batch / self._whole,
            shares=self._shares,
            labels=self._labels,
            flops=self.flops,
            peak=peak,
            warm_up=self._warm_up,
        )


@torch.inference_mode()
def matrix_rate(device: torch.device, precision: str = "32-true") -> float:
    """Return the floating point operations per second of a large matrix product.

    Args:
        device: Where it is computed.
        precision: ``"32-true"`` or ``"bf16-mixed"``, which multiplies bfloat16.
    """
    size = 8192 if device.type == "cuda" else 1024
    kind = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    one = torch.ones(size, size, device=device, dtype=kind)
    best = float("inf")
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        one @ one
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
