"""The run cache: identical runs, with the same code and data, are trained once."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor

from reidlib.data.table import ReIDDataset
from reidlib.engine import processes
from reidlib.engine.checkpoint import (
    load_checkpoint,
    save_checkpoint,
)
from reidlib.engine.manifest import library_hash, read_files, read_result
from reidlib.engine.run import FEATURES, Run, RunConfig
from reidlib.errors import DamagedError
from reidlib.files import file_sha256, read_json, write_atomically
from reidlib.paths import cache_dir, make_cache_folder

ENTRY = "entry.json"
"""File in the folder of a cached run that says what the others must be."""

TrainFunction = Callable[[Any, ReIDDataset, Run], dict[str, Any]]


_instead: list[Path] = []


@contextlib.contextmanager
def runs_kept_in(folder: Path) -> Iterator[None]:
    """Use a folder in place of the cache of runs and tensors inside this block.

    What is there may be of another device, number of threads or version of torch, which
    keys do not hold: a result that is made again to be compared must not take it.

    Args:
        folder: The folder; drawn cities stay where they are.
    """
    _instead.append(folder)
    try:
        yield
    finally:
        _instead.pop()


def _kept_dir() -> Path:
    return _instead[-1] if _instead else cache_dir()


def run_key(train: TrainFunction, config: RunConfig, dataset: ReIDDataset) -> str:
    """Return a hash of everything that the results of a run may depend on.

    These are the method and its version, the settings, the data, what is read beside
    the images, and the source of the library (see `library_hash`): even a changed
    comment invalidates a cached run.
    """
    method, version = method_of(train)
    parts = {
        "method": [method, version],
        "config": dataclasses.asdict(config),  # type: ignore[call-overload]
        "dataset": dataset.fingerprint(),
        "library": library_hash(),
    }
    if files := read_files(config, dataset):
        parts["files"] = files
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def method_of(train: TrainFunction) -> tuple[str, int]:
    """Return the name of the recipe that ``train`` belongs to, and its version."""
    module = sys.modules[train.__module__]
    return module.__name__.rsplit(".", 1)[-1], module.VERSION


def run_folder(train: TrainFunction, config: RunConfig, dataset: ReIDDataset) -> Path:
    """Return the folder of the cache in which `cached_run` keeps a run."""
    name = f"{method_of(train)[0]}-{run_key(train, config, dataset)[:16]}"
    return _kept_dir() / "runs" / name


def cached_run(
    train: TrainFunction,
    config: RunConfig,
    dataset: ReIDDataset,
    *,
    device: str = "auto",
    progress: bool = False,
) -> tuple[dict[str, Any], Path]:
    """Run a recipe, or return the result of an earlier identical run.

    An interrupted run is resumed, and one whose files are damaged is made anew. If two
    processes ask for the same run, the second waits for the first.

    Args:
        train: The recipe's ``train`` function.
        config: Its configuration.
        dataset: Its data.
        device: As for ``Run``.
        progress: As for ``Run``.

    Returns:
        The content of ``result.json`` and the run's folder in the cache.
    """
    directory = run_folder(train, config, dataset)
    key = run_key(train, config, dataset)
    recipe, version = method_of(train)
    make_cache_folder(directory.parent)

    def make() -> dict[str, Any]:
        with Run(
            directory,
            recipe=recipe,
            version=version,
            config=config,
            dataset=dataset,
            resume=True,
            device=device,
            progress=progress,
            tensorboard=False,
            features=True,
        ) as run:
            result = train(config, dataset, run)
        processes.once(_enter, directory, key)
        return result

    # The first of several processes waits for others that ask for this run.
    leads = processes.leads()
    with FileLock(f"{directory}.lock") if leads else contextlib.nullcontext():
        try:
            if kept := processes.once(_kept, directory, key):
                return kept, directory
            return make(), directory
        except DamagedError as error:
            # A file that the run reads from elsewhere would be damaged still.
            if directory not in error.file.parents or processes.count() > 1:
                raise
        if directory.is_symlink():  # of the cache is the link, not what it leads to
            directory.unlink()
        else:
            shutil.rmtree(directory)
        return make(), directory


def _enter(directory: Path, key: str) -> None:
    """Write down what the files of a run in the cache are."""
    entry = json.dumps({"key": key, "files": _hashes(directory)}, indent=1)
    write_atomically(directory / ENTRY, entry.encode())


def _hashes(directory: Path) -> dict[str, str]:
    """Return the hash of each file of a run that is read later."""
    files = sorted(directory.glob("*.json*")) + sorted(directory.glob("*.safetensors"))
    return {file.name: file_sha256(file) for file in files if file.name != ENTRY}


def _kept(directory: Path, key: str) -> dict[str, Any] | None:
    """Return the result of a run in the cache, if it is complete and as it was made."""
    if not (directory / ENTRY).exists():
        return None
    way_out = "remove its folder, and it is made again"
    entry = read_json(directory / ENTRY, way_out, {"key": str, "files": dict})
    if entry != {"key": key, "files": _hashes(directory)}:
        raise DamagedError(
            f"the run in {directory} is damaged; {way_out}", directory / ENTRY
        )
    return read_result(directory / "result.json", way_out)


def cached_features(directory: Path) -> dict[str, Tensor]:
    """Return the final features of a cached run without extracting them again.

    Args:
        directory: The run's folder, from `cached_run`.

    Returns:
        ``(N, D)`` L2-normalised features of ``train`` and, if the data have them, of
        ``query`` and ``gallery``.
    """
    return load_checkpoint(directory / FEATURES)


def cached_tensors(
    name: str, key: object, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Compute tensors, or return those that were computed earlier with the same key.

    The first of several processes computes them for all.

    Args:
        name: What they are; a folder of the cache.
        key: What they depend on beside the code, as JSON takes it.
        make: Computes them.

    Returns:
        The tensors, on the CPU.
    """
    text = json.dumps([key, library_hash()], sort_keys=True)
    return processes.once(_cached_tensors, name, text, make)


def _cached_tensors(
    name: str, text: str, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    folder = _kept_dir() / name
    file = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"
    make_cache_folder(folder)
    with FileLock(f"{file}.lock"):
        with contextlib.suppress(DamagedError):  # then they are made again
            if file.is_file():
                kept = load_checkpoint(file, "key", "tensors")
                if kept["key"] == text:  # it may be a renamed one
                    return dict(kept["tensors"])
        made = make()
        save_checkpoint(file, {"key": text, "tensors": made})
    return made
