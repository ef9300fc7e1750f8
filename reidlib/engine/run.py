"""A run: everything around a training loop that is not the algorithm.

A recipe contains the paper's algorithm only. Its run provides the device, the epochs,
the step of the optimiser and the log, and keeps every complete epoch when the machine,
the disk or the user stops it. Of several processes (`reidlib.engine.processes`) the
first writes the files of the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import random
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from reidlib.data.table import ReIDDataset
from reidlib.engine import processes
from reidlib.engine.checkpoint import (
    LAST,
    load_checkpoint,
    load_weights,
    random_states,
    save_checkpoint,
    set_random_states,
)
from reidlib.engine.compiling import compiled_to_extract
from reidlib.engine.manifest import (
    environment,
    read_files,
    read_manifest,
    read_result,
)
from reidlib.engine.memory import advice, is_out_of_memory
from reidlib.errors import DamagedError, ReIDError
from reidlib.files import write_atomically
from reidlib.paths import lock_folder, user_path
from reidlib.terminal import say, started_together, watched

if TYPE_CHECKING:
    from filelock import FileLock
    from lightning_fabric import Fabric

T = TypeVar("T")

PRECISIONS = ("32-true", "bf16-mixed")

FEATURES = "features.safetensors"
"""File in the folder of a run that holds the final features."""

_TIMED_STEPS = 5  # after the first, for the time to expect

# Recorded for each part of a resumed run: the parts may come from different machines.
_PROVENANCE = (
    *("commit", "versions", "hardware", "device", "started", "seconds"),
    "processes",
)


class RunConfig(Protocol):
    """The fields that a run needs of a recipe's configuration (a frozen dataclass)."""

    @property
    def seed(self) -> int:
        """Seed of every random number of the run."""
        ...

    @property
    def precision(self) -> str:
        """``"32-true"`` or ``"bf16-mixed"``."""
        ...


class DivergedError(ReIDError):
    """The loss became NaN or infinite."""


class _Stopped(Exception):
    """The run has completed the requested epochs; ``Run`` raises and catches it."""


class Run:
    """One run of a recipe in one folder.

    The folder holds ``manifest.json`` (what the numbers depend on), ``log.txt`` (for
    people), ``metrics.jsonl`` and TensorBoard events (for tools), ``last.safetensors``
    (the checkpoint after the last complete epoch), and, once the run is complete,
    ``result.json``.

    Where `torchrun` has started several processes, each opens the run with the same
    arguments.

    Args:
        directory: The run's folder; created if it does not exist, and locked, so that
            no other process works in it.
        recipe: Name of the recipe, for manifest and messages.
        version: Version of the recipe's method, increased when its results are meant to
            change.
        config: The recipe's configuration, a dataclass with ``seed`` and ``precision``.
        dataset: The data that the run works on.
        resume: Resume after the last complete epoch in this folder, if there is one. A
            resumed run gives the same numbers as a run without interruption.
        device: As for `open_fabric`.
        progress: Show log lines and, on a terminal, progress bars on standard error.
        tensorboard: Write TensorBoard events.
        features: Write the final features to ``features.safetensors``.
        stop_after: Leave the ``with`` block after this many complete epochs, if more
            are left.

    Raises:
        ReIDError: If the folder cannot be written, is in use, already holds a run and
            ``resume`` is not set, or holds a run with another configuration or other
            data. Also if a batch cannot be divided among the processes.

    Example:
        Use in a recipe (see ``reidlib/recipes/baseline.py``)::

            with Run(folder, recipe="baseline", version=1, **options) as run:
                model, optimizer = run.setup(model, optimizer)
                for epoch in run.epochs(config.epochs):
                    for batch in run.progress(batches, "train"):
                        run.step(loss_of(batch), optimizer)
                    run.record(loss=run.mean_loss)
                run.finish(metrics)
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        recipe: str,
        version: int,
        config: RunConfig,
        dataset: ReIDDataset,
        resume: bool = False,
        device: str = "auto",
        progress: bool = True,
        tensorboard: bool = True,
        features: bool = False,
        stop_after: int | None = None,
    ) -> None:
        if config.precision not in PRECISIONS:
            raise ReIDError(
                f"precision {config.precision!r} is unknown; choose one of {PRECISIONS}"
            )
        self.directory = user_path(directory)
        self.recipe = recipe
        self.config = config
        self.dataset = dataset
        self.history: list[dict[str, Any]] = []
        self.epoch = 0
        processes.join()
        processes.check_batches(config)
        self._show = progress and processes.leads()
        self._tracked: dict[str, Any] = {}
        self._record: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        self._losses: list[Tensor] = []
        self._start = time.monotonic()
        self._seconds_before = 0.0
        self._writer: Any = None
        self._tensorboard = tensorboard and processes.leads()
        self._networks: list[nn.Module] = []
        self._features = features
        self._stop_after = stop_after
        self._told_duration = False
        self._allocated = 0  # bytes of the GPU, before the first batch of an epoch

        settings = {
            "recipe": recipe,
            "version": version,
            "config": dataclasses.asdict(config),  # type: ignore[call-overload]
            "dataset": {
                "name": dataset.name,
                "sha256": dataset.fingerprint(),
                "images": {
                    split: len(getattr(dataset, split))
                    for split in ("train", "query", "gallery")
                },
            },
        }
        if files := read_files(config, dataset):
            settings["files"] = files
        told = json.dumps(_plain(settings), sort_keys=True)
        processes.require_same_everywhere("settings or data", told)
        self.fabric = open_fabric(device, config.precision)
        self._lock: FileLock | None = None
        self._checkpoint: dict[str, Any] | None
        earlier, self._checkpoint = processes.once(self._open, settings, resume)
        _seed_everything(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.manifest = {
            **settings,
            **environment(),
            "device": str(self.fabric.device),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "status": "running",
        }
        if processes.count() > 1:
            self.manifest["processes"] = processes.count()
        if earlier:
            self.manifest["earlier"] = earlier

    # -- the folder ---------------------------------------------------------------

    def _make_folder(self) -> None:
        """Create the folder if it does not exist, and lock it."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(self.directory)
            log = self.directory / "log.txt"
            if log.exists() and not log.is_file():  # to open a pipe would wait
                raise OSError(errno.EINVAL, f"{log.name} there is no file", str(log))
            log.open("a").close()
        except OSError as error:
            raise ReIDError(
                f"cannot write to {self.directory}: {error.strerror}; choose another "
                "folder (--out)"
            ) from error

    def _open(
        self, settings: dict[str, Any], resume: bool
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Take the folder, and return what there is of the run, see `_earlier`."""
        self._make_folder()
        try:
            return self._earlier(settings, resume)
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _earlier(
        self, settings: dict[str, Any], resume: bool
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Check that the folder is new, or that the run in it can be resumed.

        Returns:
            The provenance of the earlier parts of the run, oldest first, and the
            checkpoint, if there is one.
        """
        manifest, checkpoint = self.directory / "manifest.json", self.checkpoint_path
        earlier: list[dict[str, Any]] = []
        kept: dict[str, Any] | None = None
        if manifest.exists():
            if not resume:
                raise ReIDError(
                    f"{self.directory} already holds a run; resume it (--resume), or "
                    "choose another folder (--out)"
                )
            way_out = "restore it, or choose another folder (--out)"
            before = read_manifest(manifest, way_out)
            require_same(manifest, before, settings)
            if checkpoint.exists():
                parts = ("objects", "history", "random", "generator", "seconds")
                kept = load_checkpoint(checkpoint, *parts)
                require_same(checkpoint, kept, settings)
                part = {name: before[name] for name in _PROVENANCE if name in before}
                earlier = [*before.get("earlier", []), part]
        elif left := [f for f in (self.result_path, checkpoint) if f.exists()]:
            raise ReIDError(
                f"{self.directory} holds {left[0].name} and no manifest.json of its "
                "run; restore that, or choose another folder (--out)"
            )
        return earlier, kept

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint after the last complete epoch."""
        return self.directory / LAST

    @property
    def result_path(self) -> Path:
        """The result file of a complete run."""
        return self.directory / "result.json"

    @property
    def device(self) -> torch.device:
        """The device of the tensors of this run."""
        return self.fabric.device

    def result(self) -> dict[str, Any] | None:
        """Return the content of the result file, or None if the run is not complete."""
        return processes.once(result_in, self.directory, self.manifest)

    def __enter__(self) -> Run:
        with contextlib.ExitStack() as stack:
            stack.callback(self._release)
            # A complete run is read, and stays as it is.
            self._was_complete = processes.once(self.result_path.exists)
            if not self._was_complete:
                self._write_manifest("running")
                about = f"{self.recipe} on {self.dataset.name}, {self.device}"
                self.log(f"{about}: {self.config}")
            stack.enter_context(ended_as_by_ctrl_c())
            self._at_exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        with self._at_exit:
            if not self._was_complete or self.manifest["status"] == "complete":
                self._end(error)
            if self._writer is not None:
                self._writer.close()
        if error is not None and is_out_of_memory(error):
            raise ReIDError(self._out_of_memory(error)) from error
        if error is not None and processes.is_lost_connection(error):
            raise ReIDError(
                f"another process of the run has ended; {self._way_back()}"
            ) from error
        return kind is _Stopped

    def _end(self, error: BaseException | None) -> None:
        """Write down how the run was left."""
        if error is None or isinstance(error, _Stopped):
            status = "complete" if self.result_path.exists() else "stopped"
        elif isinstance(error, KeyboardInterrupt):
            status = "interrupted"
            self.log(f"interrupted in epoch {self.epoch + 1}; {self._way_back()}")
        else:
            status = "failed"
            self.log(f"failed in epoch {self.epoch + 1}: {error}")
        try:
            self._write_manifest(status)
        except ReIDError:
            if error is None:  # never hide the first error behind a second one
                raise

    def _way_back(self) -> str:
        """Say what is kept, and the command that continues."""
        resume = "open it again with resume=True"
        if "options" in self.manifest:  # written by the command line
            resume = f"reidlib resume {shlex.quote(str(self.directory))}"
        if not self.checkpoint_path.exists():
            return f"no epoch was complete; start it again: {resume}"
        history = self.history or (self._checkpoint or {}).get("history", [])
        return (
            f"{len(history)} complete epochs are kept in {self.checkpoint_path}; "
            f"continue: {resume}"
        )

    def _out_of_memory(self, error: BaseException) -> str:
        where = f"out of memory on {self.device} in epoch {self.epoch + 1}"
        # A trial would wait for processes that have memory enough.
        model = self._tracked.get("model") if processes.count() == 1 else None
        way_out = advice(error, self.config, model, self.fabric, self._allocated)
        return f"{where}; {way_out}; {self._way_back()} (with more memory)"

    def _write_manifest(self, status: str) -> None:
        self.manifest["status"] = status
        self.manifest["seconds"] = round(self.seconds, 1)
        if not processes.leads():
            return
        data = json.dumps(self.manifest, indent=1).encode()
        write_atomically(self.directory / "manifest.json", data)

    @property
    def seconds(self) -> float:
        """Seconds of work so far, over all parts of an interrupted run."""
        return self._seconds_before + time.monotonic() - self._start

    # -- what a recipe calls ------------------------------------------------------

    def setup(self, model: nn.Module, *optimizers: Optimizer) -> Any:
        """Move a model and its optimisers to the device and precision of the run.

        Args:
            model: A network. The methods listed in its ``forward_methods`` may be
                called in training in addition to ``forward``.
            optimizers: Its optimisers, if it is trained.

        Returns:
            The model alone, or the model and its optimisers, wrapped by Lightning
            Fabric.
        """
        if self.device.type == "cuda":
            model.to(memory_format=torch.channels_last)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    if "fused" in group:  # Adam: one kernel for all weights
                        group["fused"] = True
        if optimizers:
            wrapped, *others = self.fabric.setup(model, *optimizers)
        else:
            wrapped, others = self.fabric.setup_module(model, move_to_device=True), []
        for name in getattr(model, "forward_methods", ()):
            wrapped.mark_forward_method(name)
        for name in ("forward", *getattr(model, "forward_methods", ())):
            called = model if name == "forward" else getattr(model, name)
            if getattr(self.config, "compile", None):
                called = compiled_to_extract(called, model)
            called = processes.divided(in_precision(called, self.fabric), model)
            wrapped.__dict__[name] = called
        if processes.count() > 1:
            processes.share_weights(model)
            if any(True for _ in model.buffers()):
                self._networks.append(model)
        return (wrapped, *others) if others else wrapped

    def track(self, **objects: Any) -> None:
        """Register the objects that a checkpoint must hold; each has a ``state_dict``.

        Call it once, before ``epochs``. When the run is resumed, the saved states are
        loaded here.
        """
        self._tracked = objects
        if self._checkpoint is None:
            return
        for name, item in objects.items():
            try:
                state = self._checkpoint["objects"][name]
                if isinstance(item, nn.Module):
                    load_weights(item, state, str(self.checkpoint_path))
                else:
                    item.load_state_dict(state)
                    if hasattr(item, "param_groups"):
                        lay_out_like_weights(getattr(item, "optimizer", item))
            except (KeyError, TypeError, ValueError) as error:
                raise DamagedError(
                    f"{self.checkpoint_path} has no {name} that fits ({error}); "
                    "remove it to begin the run again",
                    self.checkpoint_path,
                ) from error
        self.history = self._checkpoint["history"]
        self.epoch = len(self.history)
        self._seconds_before = self._checkpoint["seconds"]
        self._rewrite_metrics()
        self.log(f"resumed after epoch {self.epoch}")

    def made_from(self, **hashes: str) -> None:
        """Record what the recipe keeps in a file of its own, labels for instance.

        Call it before ``epochs``. A resumed run must find what it began with.

        Args:
            hashes: By what the file holds a hash of it.

        Raises:
            DamagedError: If the run began with other content.
        """
        hashes = {f"{name} (made)": value for name, value in hashes.items()}
        if self._checkpoint is not None:
            now = {**self.manifest, "files": hashes}
            require_same(self.checkpoint_path, self._checkpoint, now)
        self.manifest["files"] = {**self.manifest.get("files", {}), **hashes}

    def epochs(self, count: int) -> Iterator[int]:
        """Yield the remaining epochs; write the log and a checkpoint after each.

        Args:
            count: Number of epochs of the whole run.

        Yields:
            The epoch, from 0, or from where an interrupted run stopped.
        """
        if self._checkpoint is not None:
            # Restored last, because building models and loaders draws random numbers.
            set_random_states(self._checkpoint["random"], self.device)
            self.generator.set_state(self._checkpoint["generator"])
            self._checkpoint = None
        for epoch in range(self.epoch, count):
            self.epoch, self._record, self._losses = epoch, {}, []
            start = self._epoch_began = time.monotonic()
            self._epochs_left = count - epoch
            if self.device.type == "cuda":
                self._allocated = torch.cuda.memory_allocated(self.device)
            yield epoch
            self._record["seconds"] = round(time.monotonic() - start, 2)
            self._end_epoch(count)
            self.epoch = epoch + 1
            if self.epoch == self._stop_after and self.epoch < count:
                raise _Stopped

    def progress(self, items: Iterable[T], title: str, total: int | None = None) -> Any:
        """Iterate over ``items`` with a progress bar on standard error."""
        if not (self._show and watched()):
            return items
        title = f"epoch {self.epoch + 1} {title}"
        return tqdm(items, desc=title, total=total, leave=False, file=sys.stderr)

    def step(self, loss: Tensor, *optimizers: Optimizer) -> None:
        """Take one step down the gradient of ``loss``.

        Nothing is copied to the host: the losses of an epoch are checked to be finite
        at its end, or when `mean_loss` is read.

        Args:
            loss: Scalar.
            optimizers: One or more; their gradients are set to zero first.
        """
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        for optimizer in optimizers:
            groups = optimizer.param_groups
            processes.average_gradients(p for group in groups for p in group["params"])
            optimizer.step()
        processes.share_buffers(self._networks)
        self._losses.append(loss.detach())
        if not self._told_duration:
            self._tell_duration()

    def _tell_duration(self) -> None:
        """Say once how long the training will take, by its first steps."""
        steps, total = len(self._losses), getattr(self.config, "iterations", 0)
        if steps not in (1, min(1 + _TIMED_STEPS, total)):
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.monotonic()
        if steps == 1:  # which takes longer than those that follow
            self._first_step = now
            return
        self._told_duration = True
        step = (now - self._first_step) / (steps - 1)
        epoch = self._first_step - self._epoch_began + (total - 1) * step
        epochs = f"{self._epochs_left} epochs of {total} steps"
        told = duration(self._epochs_left * epoch)
        self.log(f"about {told} for {epochs}, by the first {steps} steps")

    @property
    def mean_loss(self) -> float:
        """Mean loss over the steps of this epoch (NaN before the first).

        Raises:
            DivergedError: If a loss is NaN or infinite; names epoch, batch and the last
                good checkpoint.
        """
        if not self._losses:
            return math.nan
        losses = torch.stack(self._losses).double().cpu().numpy()
        if not np.isfinite(losses).all():
            batch = int(np.flatnonzero(~np.isfinite(losses))[0])
            self._diverged(f"the loss is {losses[batch]}", f", batch {batch + 1}")
        return float(losses.mean())

    def _diverged(self, what: str, where: str = "") -> NoReturn:
        kept = "no epoch was complete before"
        if self.checkpoint_path.exists():
            kept = f"the last good checkpoint is {self.checkpoint_path}"
        raise DivergedError(
            f"{what} in epoch {self.epoch + 1}{where}; {kept}; start again in another "
            "folder (--out) with a lower --lr or with --precision 32-true"
        )

    def record(self, **values: Any) -> None:
        """Add numbers to the record of this epoch."""
        self._record.update(values)

    def keep(self, **values: Any) -> None:
        """Add tensors to the next checkpoint that are not needed to resume the run.

        Pseudo labels and memories, for instance: they are computed again in each epoch,
        but they document what the model was trained on.
        """
        self._kept.update(values)

    def keep_features(self, features: Mapping[str, Tensor]) -> None:
        """Write the final features, if the run was opened with ``features=True``.

        Args:
            features: ``(N, D)`` features by the name of the split.
        """
        if self._features and processes.leads():
            save_checkpoint(self.directory / FEATURES, dict(features))

    def log(self, message: str) -> None:
        """Write a line to ``log.txt`` and to standard error."""
        if not processes.leads():
            return
        if self._show:
            say(message)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        # On a full disk the message itself matters, not a second error about the log.
        with (
            contextlib.suppress(OSError),
            (self.directory / "log.txt").open("a", encoding="utf-8") as file,
        ):
            file.write(f"{now} {message}\n")

    def finish(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Write the result file.

        Args:
            metrics: The final scores (of the last epoch, not of the best).

        Returns:
            The content of ``result.json``: the manifest, ``epochs`` and ``metrics``.
        """
        self._write_manifest("complete")
        result = {**self.manifest, "epochs": self.history, "metrics": metrics}
        data = json.dumps(_plain(result), indent=1).encode()
        if processes.leads():
            write_atomically(self.result_path, data)
        self.log(f"done in {self.seconds:.0f} s: {_short(metrics)}")
        return json.loads(data)

    # -- the end of an epoch ------------------------------------------------------

    def _end_epoch(self, count: int) -> None:
        _ = self.mean_loss  # raises an error if the training has diverged
        for name, item in self._tracked.items():
            if isinstance(item, nn.Module) and not _is_finite(item):
                self._diverged(f"a weight of {name!r} is not finite")
        record = _plain({"epoch": self.epoch + 1, **self._record})
        self.history.append(record)
        state = {
            "objects": {k: v.state_dict() for k, v in self._tracked.items()},
            "kept": self._kept,
            "history": self.history,
            "random": random_states(self.device),
            "generator": self.generator.get_state(),
            "seconds": self.seconds,
            "recipe": self.recipe,
            "version": self.manifest["version"],
            "config": _plain(self.manifest["config"]),
            "dataset": self.manifest["dataset"],
            "files": self.manifest.get("files", {}),
        }
        try:
            processes.once(save_checkpoint, self.checkpoint_path, state)
        except BaseException:
            self.history.pop()  # this epoch is not saved: messages must not count it
            raise
        self._rewrite_metrics()
        self._write_tensorboard(record)
        self.log(f"epoch {self.epoch + 1}/{count}: {_short(record)}")

    def _rewrite_metrics(self) -> None:
        """Write exactly one line for each epoch that the checkpoint holds."""
        if not processes.leads():
            return
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        write_atomically(self.directory / "metrics.jsonl", lines.encode())

    def _write_tensorboard(self, record: dict[str, Any]) -> None:
        if not self._tensorboard:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.directory), purge_step=self.epoch + 1)
        for name, value in _numbers(record):
            self._writer.add_scalar(name, value, self.epoch + 1)
        self._writer.flush()


def open_fabric(device: str, precision: str = "32-true") -> Fabric:
    """Return Lightning Fabric in this process and on one device.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, one GPU such as ``"cuda:1"``, or
            another name that Fabric knows. Each of several processes of a machine takes
            a GPU of its own.
        precision: ``"32-true"`` or ``"bf16-mixed"``.

    Raises:
        ReIDError: If the machine has no such device.
    """
    # Imported here, because it takes a third of the library's import time.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    name, colon, number = device.partition(":")
    if started_together() and name in ("auto", "cuda", "gpu"):
        own = str(processes.local_rank())
        if colon and number != own:
            raise ReIDError(
                f"each process takes a GPU of its own, so device {device!r} cannot be "
                "asked for; give --device cuda"
            )
        if torch.cuda.is_available():
            name, colon, number = "cuda", ":", own
        elif name == "auto":
            name = "cpu"
    try:
        if colon and not (name in ("cuda", "gpu") and re.fullmatch("[0-9]+", number)):
            raise ReIDError("only a GPU has a number, from 0")
        return Fabric(
            accelerator=name,
            devices=[int(number)] if colon else 1,
            precision=precision,  # type: ignore[arg-type]
            # It is one process: the tasks that SLURM or MPI count are not its own, and
            # those of torchrun are joined elsewhere.
            plugins=[LightningEnvironment()],
        )
    except Exception as error:  # Fabric has one of its own for each wrong name
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if told := ", ".join(name for name in os.environ if name.startswith("LT_")):
            reason += f"; Lightning also reads {told} of the environment: unset them"
        raise ReIDError(
            f"device {device!r} cannot be used here ({reason}); choose auto, cpu or "
            "cuda"
        ) from error


def in_precision(function: Callable[..., Any], fabric: Fabric) -> Callable[..., Any]:
    """Return a function that computes in the precision of Fabric.

    On one device Fabric does so for ``forward`` alone, and rounds what goes in: images
    of which a quality is measured, and scores. Here layers round what they take.

    Args:
        function: A network, or a method of one.
        fabric: For its precision.

    Returns:
        The function; what it gives is float32.
    """
    precision = fabric.strategy.precision

    def call(*arguments: Any, **options: Any) -> Any:
        with precision.forward_context():
            made = function(*arguments, **options)
        return precision.convert_output(made)

    return call


def lay_out_like_weights(optimizer: Optimizer) -> None:
    """Give what an optimiser keeps of each weight the weight's order in memory.

    A checkpoint has one order for all, and the kernels of a GPU ask for the same.
    """
    for weight, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                kept[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


@contextlib.contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does.

    A batch system ends a job with SIGTERM, and a terminal that is closed with SIGHUP.
    What the caller ignores (as ``nohup`` does) stays ignored, and so is each signal
    after the first: what is kept must not be stopped half-way.
    """
    import threading

    names = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.getsignal(number) for number in numbers}
    mine = [n for n, old in before.items() if old not in (None, signal.SIG_IGN)]

    def interrupt(number: int, frame: FrameType | None) -> None:
        for one in mine:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in mine:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        # Benchmarking chooses convolutions by their time, which differs between runs.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        # Float32 is meant: its convolutions would have ten bits of a mantissa.
        torch.backends.cudnn.allow_tf32 = False


def _is_finite(module: nn.Module) -> bool:
    tensors = module.state_dict().values()
    return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())


def duration(seconds: float) -> str:
    """Return a time in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _plain(value: Any) -> Any:
    """Return ``value`` with NumPy numbers as Python's and NaN as None (strict JSON)."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | Tensor):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _numbers(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, float(value)


def _short(record: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value:g}"
        for name, value in _numbers(record)
        if name != "epoch"
    )


def result_in(folder: Path, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result in the folder of a run, or None if the run is not complete.

    Args:
        folder: The folder.
        manifest: What the run depends on; the result must be of the same run.
    """
    file = folder / "result.json"
    if not file.exists():
        return None
    result = read_result(file, "remove it and resume the run, which writes it again")
    way_out = (
        "put that of this run back, or remove it and resume the run, which writes it "
        "again"
    )
    require_same(file, result, manifest, way_out)
    return result


def require_same(
    file: Path,
    then: dict[str, Any],
    now: dict[str, Any],
    way_out: str = "resume it unchanged, or choose another folder (--out)",
) -> None:
    """Raise `DamagedError` if a file belongs to a run with other settings or data.

    What one of them did not read is not compared: old runs name no files, and those of
    a complete run may be gone.

    Args:
        file: The file, for the message.
        then: What it says of recipe, version, configuration, data and files.
        now: What it must say.
        way_out: What to do, for the message.
    """
    for name in ("recipe", "version", "config", "dataset"):
        if name not in then:  # an old checkpoint lacks some
            continue
        before, value = _plain(then[name]), _plain(now[name])
        if not same_settings(before, value):
            raise DamagedError(
                f"{file} is of a run with another {name} "
                f"({_difference(before, value)}); {way_out}",
                file,
            )
    for name, sha256 in now.get("files", {}).items():
        if then.get("files", {}).get(name, sha256) != sha256:
            raise DamagedError(
                f"{file} is of a run that read another file of {name}; put that back, "
                "or choose another folder (--out)",
                file,
            )


def same_settings(before: Any, now: Any) -> bool:
    """Return whether settings are equal, where an absent one is as good as None.

    Settings that were added after a run began are None where they change nothing.

    Example:
        >>> same_settings({"lr": 0.1}, {"lr": 0.1, "init": None})
        True
    """
    if not isinstance(before, dict) or not isinstance(now, dict):
        return bool(before == now)
    names = {*before, *now}
    return all(same_settings(before.get(name), now.get(name)) for name in names)


def _difference(before: Any, now: Any) -> str:
    """Name the first field in which two settings differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(set(before) | set(now)):
            if before.get(key) != now.get(key):
                return f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
    return f"{before!r} there, {now!r} now"
