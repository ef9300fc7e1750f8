from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from support import fork
from torch.nn.functional import normalize

from reidlib.clustering import dbscan, jaccard_distance, sharded_jaccard_distance
from reidlib.errors import ReIDError
from reidlib.neighbors import kernels, sharded

CASES = {"people": 0.6, "many near ties": 1e-7, "copies": 0.0}
SIZES = ((61, 39), (3, 97))


def people(noise: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(9, 24, generator=generator)
    jitter = torch.randn(100, 24, generator=generator)
    return normalize(centers[torch.arange(100) % 9] + noise * jitter, dim=1)


def work(rank: int, folder: str) -> int:
    """What each of two processes does: cluster, and write down what it has."""
    limit = datetime.timedelta(minutes=5)
    dist.init_process_group(
        "gloo", f"file://{folder}/group", timeout=limit, rank=rank, world_size=2
    )
    found = {}
    sharded._BLOCK = 1000
    for smallest in (0, 10**9):
        kernels.SMALLEST = smallest
        for name, noise in CASES.items():
            for sizes in SIZES:
                shard = people(noise).split(list(sizes))[rank]
                distance = sharded_jaccard_distance(shard, 12, 4, max_distance=0.6)
                found[f"{smallest} {name} {sizes}"] = distance.toarray()
                found[f"{smallest} {name} {sizes} labels"] = dbscan(distance, 0.6)
    np.savez(f"{folder}/{rank}.npz", **found)
    dist.destroy_process_group()
    return 0


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    told = [tmp_path / "0.txt", tmp_path / "1.txt"]
    processes = [fork(work, rank, str(tmp_path), told=told[rank]) for rank in range(2)]
    for process, file in zip(processes, told, strict=True):
        process.join()
        assert process.exitcode == 0, file.read_text()
    for rank in range(2):
        found = np.load(tmp_path / f"{rank}.npz")
        for name, noise in CASES.items():
            wanted = jaccard_distance(people(noise), 12, 4, max_distance=0.6)
            labels = dbscan(wanted, 0.6)
            for sizes in SIZES:
                for smallest in (0, 10**9):
                    key = f"{smallest} {name} {sizes}"
                    np.testing.assert_array_equal(found[key], wanted.toarray())
                    np.testing.assert_array_equal(found[f"{key} labels"], labels)


def test_without_a_group_it_says_what_is_missing() -> None:
    with pytest.raises(ReIDError, match="no process group; start with torchrun"):
        sharded_jaccard_distance(people(0.5))
