"""What is said where memory is short."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.engine import Run
from reidlib.engine.memory import is_out_of_memory
from reidlib.errors import ReIDError

TOO_MUCH = 1 << 50  # bytes: no machine has them


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    precision: str = "32-true"
    num_labels: int = 4
    num_instances: int = 4
    bn_splits: int = 1
    extract_batch: int = 256
    size: tuple[int, int] = (8, 4)


class Greedy(nn.Module):
    """A network that has memory for six images."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, images):
        if len(images) > 6:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return self.layer(images.mean(dim=(2, 3)))


def extract_features():
    torch.empty(TOO_MUCH, dtype=torch.uint8)


def measure_identifiability():
    torch.empty(TOO_MUCH, dtype=torch.uint8)


def open_images():
    np.empty(TOO_MUCH, dtype=np.uint8).fill(1)


def attempt(folder, work, config):
    table = ImageTable(folder, (), np.empty(0), np.empty(0))
    with Run(
        folder / "run",
        recipe="toy",
        version=1,
        config=config,
        dataset=ReIDDataset("none", table, table, table),
        device="cpu",
        progress=False,
        tensorboard=False,
    ) as run:
        model = run.setup(Greedy())
        run.track(model=model)
        for epoch in run.epochs(2):
            if epoch:
                work(model)


def train(model):
    model(torch.zeros(16, 3, 8, 4))


@pytest.mark.parametrize(
    ("work", "splits", "message"),
    [
        (train, 1, r"--num-labels 2 --num-instances 2 \(tried: it fits\)"),
        (train, 4, r"no batch is small enough: start again with smaller images"),
        (lambda _: extract_features(), 1, "--extract-batch 128"),
        (lambda _: open_images(), 1, "--memory-budget 0"),
        (lambda _: measure_identifiability(), 1, "--quality-height and --quality-w"),
    ],
    ids=["batch", "chunks", "extraction", "images", "quality"],
)
def test_a_run_says_what_would_fit_and_what_is_kept(tmp_path, work, splits, message):
    with pytest.raises(ReIDError, match="out of memory on cpu in epoch 2") as error:
        attempt(tmp_path, work, Settings(bn_splits=splits))
    told = str(error.value)
    assert error.match(message)
    assert (
        f"1 complete epochs are kept in {tmp_path / 'run' / 'last.safetensors'}" in told
    )
    assert "\n" not in told


def test_other_errors_are_not_taken_for_it():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
