"""What tests of several folders share."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from reidlib.data import ReIDDataset
from reidlib.data.table import ImageTable
from reidlib.engine import Run
from reidlib.experiments.plans import plan

SMALL: dict[str, Any] = {
    "backbone": "tiny",
    "height": 64,
    "width": 32,
    "frozen_stages": 1,
    "pad": 3,
    "epochs": 2,
    "iterations": 3,
    "num_labels": 6,
    "num_instances": 4,
    "seed": 3,
}
"""Settings of a training that takes half a second."""

LUCK = 1.9
"""Points of mAP by which seed variance moves a mean of three differences."""


class Interrupted(Run):
    """A run in which Ctrl-C is pressed in a step."""

    def __init__(self, *arguments: Any, before_step: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.left = before_step

    def step(self, *arguments: Any, **options: Any) -> None:
        """Take a step, or be interrupted before it."""
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        super().step(*arguments, **options)


def train(
    recipe: ModuleType,
    config: Any,
    dataset: ReIDDataset,
    folder: Path,
    kind: type[Run] = Run,
    **options: Any,
) -> dict[str, Any]:
    """Train a recipe on the CPU, silently, in a folder of its own."""
    with open_run(recipe, config, dataset, folder, kind, **options) as run:
        return recipe.train(config, dataset, run)


def open_run(
    recipe: ModuleType,
    config: Any,
    dataset: ReIDDataset,
    folder: Path,
    kind: type[Run] = Run,
    **options: Any,
) -> Run:
    """Open a run of a recipe on the CPU."""
    return kind(
        folder,
        recipe=recipe.__name__.rsplit(".", 1)[-1],
        version=recipe.VERSION,
        config=config,
        dataset=dataset,
        device="cpu",
        progress=False,
        tensorboard=False,
        **options,
    )


def losses(result: dict[str, Any]) -> list[float]:
    """Return the mean loss of each epoch that had one."""
    return [epoch["loss"] for epoch in result["epochs"] if "loss" in epoch]


def without_times(epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of epochs without what no two runs share."""
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in epochs]


@contextlib.contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Let no file grow past a size: the kernel refuses the write as a full disk would.

    Args:
        limit: Size in bytes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


# A new process takes seconds to import torch and what stands on it. Here one does so,
# once, and others are forked from it.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("reidlib.cli", "reidlib.experiments"),
        # What a training imports when it is built and at its first step.
        *("timm", "lightning_fabric", "torch._dynamo", "sklearn.cluster", "numba"),
    ]
)


def fork(function: Callable[..., object], *arguments: Any, told: Path) -> BaseProcess:
    """Start a function in a fresh process that has imported the library already.

    Args:
        function: A function that the process can import; what it returns is the
            process's exit status.
        arguments: Its arguments.
        told: File for what it writes on standard output and standard error.
    """
    environment = dict(os.environ)
    process = _FORKS.Process(
        target=_begin, args=(told, environment, function, arguments)
    )
    process.start()
    return process


def _begin(
    told: Path, environment: dict[str, str], function: Any, arguments: Any
) -> None:
    os.setsid()  # so that whatever it starts can be found and ended
    os.environ.update(environment)
    # A job that a script starts with "&" ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with told.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    sys.exit(function(*arguments))


def in_copy(copy: Path, code: str) -> int:
    """Execute code with the library and the golden runs of another folder.

    Args:
        copy: Folder with ``reidlib`` and ``golden``.
        code: What to execute, in a process of its own (see `fork`).
    """
    for name in list(sys.modules):
        if name.partition(".")[0] in ("reidlib", "golden"):
            del sys.modules[name]
    sys.path.insert(0, str(copy))
    exec(code, {})
    return 0


def wait_until(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Wait for a condition; return whether it came true."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return bool(condition())


def few_people(city: ReIDDataset, count: int) -> ReIDDataset:
    """Return some people of a city to learn from, and ten to look for."""

    def first(table: ImageTable, number: int) -> ImageTable:
        chosen = np.unique(table.pids[table.pids > 0])[:number]
        return table[np.isin(table.pids, chosen)]

    return ReIDDataset(
        "few", first(city.train, count), first(city.query, 10), first(city.gallery, 10)
    )


def cells(table: str) -> list[list[str]]:
    """Return the cells of a Markdown table, line by line, with ordinary spaces.

    What stands below the table is left out.
    """
    table = table.replace("\u00a0", " ")
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines]


def invent_results(
    monkeypatch: pytest.MonkeyPatch,
    page: ModuleType,
    line: Callable[[int, int], dict[str, Any]],
) -> None:
    """Give a page of experiments invented results of every row of every plan.

    Args:
        monkeypatch: Of the test.
        page: Module of the page.
        line: From the place of a row and a seed to what `load_results` says of the run.
    """

    def load(table: str, **_: object) -> pd.DataFrame:
        rows = enumerate(plan(table).rows)
        return pd.DataFrame(
            {"row": row.name, "seed": seed, **line(place, seed)}
            for place, row in rows
            for seed in (0, 1, 2)
        )

    names = ("measured", "report")
    others = [import_module(f"reidlib.experiments.{name}") for name in names]
    for module in (page, *others):
        monkeypatch.setattr(module, "load_results", load)
