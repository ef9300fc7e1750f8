"""Several processes: what they compute together is what one computes alone."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import record
from golden.record import data_of, differences, witness
from support import fork, wait_until
from torch import nn

from reidlib.cli import main
from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.engine import Run, cache, load_checkpoint, processes
from reidlib.errors import ToldElsewhereError
from reidlib.models import split_batch_norm

SWITCHES = [
    ("baseline", "dbscan, sequential"),
    ("supervised", "attention"),
    ("calr", "ordered, weights in the batch"),
    ("cals", "DBSCAN, dcls, no attention"),
    ("cals", "literal, clustered again, local descriptors"),
    ("aff_scl", "jointly"),
    ("aff_scl", "classifier"),
    ("qafm", "ratio, isolated"),
    ("qafm", "the published code"),
]
"""One run of each recipe, and those whose step is different."""
SMALL = {"backbone": "tiny", "frozen_stages": 1, "bn_splits": 2}


def together(work: Any, *arguments: Any, folder: Path, count: int = 2) -> list[Path]:
    """Call a function in processes as torchrun starts them; return what they told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = [folder / f"{rank}.txt" for rank in range(count)]
    started = [
        fork(_one_of, rank, count, port, work, arguments, told=told[rank])
        for rank in range(count)
    ]
    for process, file in zip(started, told, strict=True):
        process.join()
        assert process.exitcode == 0, file.read_text()
    return told


def _one_of(rank: int, count: int, port: int, work: Any, arguments: Any) -> int:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    processes.join()
    work(*arguments)
    processes._leave()
    return 0


# -- the recipes -------------------------------------------------------------------


def make_all(folder: str) -> None:
    """Make a golden run of each recipe, and write down what it holds."""
    made = []
    # Stage 1 of CALR must not be read from the cache.
    cache.cache_dir = lambda: Path(folder, f"cache{processes.count()}")
    for recipe, switch in SWITCHES:
        made.append(witness(recipe, switch, **SMALL))
    path = Path(folder, f"{processes.count()}-{processes.rank()}.json")
    path.write_text(json.dumps(made))


def alone(folder: str) -> int:
    """The same in one process."""
    make_all(folder)
    return 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> list[Any]:
    """What one process computes, and each of two."""
    folder = tmp_path_factory.mktemp("processes")
    for recipe, switch in SWITCHES:  # drawn now: a fork waits for those who draw
        data_of(recipe, record.SWITCHES[recipe][switch])
    one = fork(alone, str(folder), told=folder / "alone.txt")
    one.join()
    assert one.exitcode == 0, (folder / "alone.txt").read_text()
    together(make_all, str(folder), folder=folder)
    names = ("1-0", "2-0", "2-1")
    return [json.loads((folder / f"{name}.json").read_text()) for name in names]


@pytest.mark.parametrize("number", range(len(SWITCHES)), ids=map(str, SWITCHES))
def test_two_processes_train_what_one_trains(made: list[Any], number: int) -> None:
    one, first, second = (each[number] for each in made)
    assert first == second  # to the last digit
    assert first["first_labels"] == one["first_labels"]
    assert first["clusters"] == one["clusters"]
    assert not differences(one, first, SWITCHES[number])
    assert first["losses"][0] == pytest.approx(one["losses"][0], rel=1e-3)


# -- the parts ---------------------------------------------------------------------


def learn(folder: str) -> None:
    """Take gradients of a network that is divided, and of a head that is not."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5))
    split_batch_norm(network, processes.own_splits(4))
    head = nn.Linear(5, 3)
    images, labels = torch.randn(8, 3, 2, 2), torch.arange(8) % 3
    network.train()
    features = processes.divided(network, network)(images)
    # Every feature with every other: a loss that no process could compute alone.
    loss = (
        nn.functional.cross_entropy(head(features), labels)
        + torch.cdist(features, features).square().mean().sqrt()
    )
    loss.backward()
    weights = [*network.parameters(), *head.parameters()]
    processes.average_gradients(weights)
    processes.share_buffers([network])
    network.eval()
    whole = processes.divided(network, network)(images)
    made = [loss.detach(), features.detach(), whole, network[2].running_mean]
    made += [weight.grad for weight in weights]
    name = f"{processes.count()}-{processes.rank()}.pt"
    torch.save([one.detach() for one in made], Path(folder, name))


def test_gradients_and_statistics_are_those_of_one_process(tmp_path: Path) -> None:
    learn(str(tmp_path))
    wanted = torch.load(tmp_path / "1-0.pt")
    together(learn, str(tmp_path), folder=tmp_path)
    for rank in range(2):
        found = torch.load(tmp_path / f"2-{rank}.pt")
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def refuse(folder: str) -> None:
    """Meet what is refused, and write down what each process is told."""
    told = []
    for work in (
        lambda: processes.once(int, "one"),
        lambda: processes.require_same_everywhere("data", f"of {processes.rank()}"),
        lambda: processes.check_batches(Settings(num_labels=3, bn_splits=2)),
        lambda: processes.check_batches(Settings(num_labels=4, bn_splits=1)),
        lambda: open_run(folder, bn_splits=1),
        lambda: open_run(folder, bn_splits=2, num_labels=2 + processes.rank() * 2),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            work()
        told.append([type(caught.value).__name__, str(caught.value)])
    told.append(list(processes.shared_out(lambda x: x * x, range(5))))
    with processes.alone():
        told.append([processes.count(), processes.rank()])
    Path(folder, f"{processes.rank()}.json").write_text(json.dumps(told))


@dataclass(frozen=True)
class Settings:
    """What a run looks at."""

    num_labels: int = 2
    bn_splits: int = 2
    seed: int = 0
    precision: str = "32-true"


def open_run(folder: str, **settings: int) -> None:
    """Open a run of no recipe."""
    Path(folder, "a.jpg").write_bytes(b"x")
    table = ImageTable(Path(folder), ("a.jpg",), np.array([1]), np.array([0]))
    data = ReIDDataset("one", table, table[:0], table[:0])
    options: dict[str, Any] = {"device": "cpu", "progress": False, "version": 1}
    config = Settings(**settings)
    Run(f"{folder}/run", recipe="toy", config=config, dataset=data, **options)


def test_all_processes_end_and_the_first_says_why(tmp_path: Path) -> None:
    together(refuse, str(tmp_path), folder=tmp_path)
    first, second = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)
    )
    expected = [
        "invalid literal",
        "process 1 has other data than process 0",
        "3 labels cannot be divided among 2 processes",
        "give --bn-splits 2",
        "give --bn-splits 2",
        "process 1 has other settings or data",
    ]
    for (_, message), words in zip(first, expected, strict=False):
        assert words in message
    assert {kind for kind, _ in second[:6]} == {ToldElsewhereError.__name__}
    assert ToldElsewhereError.__name__ not in {kind for kind, _ in first[:6]}
    assert first[6] == second[6] == [0, 1, 4, 9, 16]
    assert first[7] == second[7] == [1, 0]
    assert not (tmp_path / "run/manifest.json").exists()


# -- torchrun ----------------------------------------------------------------------

COMMAND = "train baseline --preset quick --backbone tiny --frozen-stages 0 --eps 0.7"
COMMAND += " --height 64 --width 32 --iterations 3 --device cpu --bn-splits 2"


def torchrun(words: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command line in two processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    start += ["--master-port", "0", "--rdzv-backend", "c10d"]
    start += ["--rdzv-endpoint", "127.0.0.1:0", "-m", "reidlib", *words.split()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(start, text=True, **pipes, **options)


def test_a_killed_process_ends_the_run_which_one_process_resumes(
    tmp_path: Path, tiny_root: Path
) -> None:
    folder = tmp_path / "run"
    command = f"{COMMAND} --root {tiny_root} --out {folder}"
    process = torchrun(f"{command} --epochs 8")
    log = folder / "log.txt"
    begun = wait_until(lambda: log.exists() and "epoch 2/" in log.read_text(), 400)
    assert begun, "no epoch was complete"
    ranks = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    )
    children = sorted(int(number) for number in ranks.stdout.split())
    os.kill(children[-1], signal.SIGKILL)
    told, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert told.count("run: ") == 1
    (line,) = [one for one in told.splitlines() if one.startswith("reidlib: ")]
    assert re.search("another process of the run has ended; .* are kept|stopped", line)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] in ("failed", "interrupted")
    assert manifest["processes"] == 2
    kept = load_checkpoint(folder / "last.safetensors")["history"]
    assert 2 <= len(kept) < 8
    assert main(["resume", str(folder)]) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["epochs"][: len(kept)] == kept
    assert len(result["epochs"]) == 8
    assert [part["processes"] for part in result["earlier"]] == [2]
    assert "processes" not in result


def test_other_commands_take_one_process(tmp_path: Path) -> None:
    process = torchrun(f"data check {tmp_path}")
    told, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert told.count("train and resume work in several processes") == 1
