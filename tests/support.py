"""What tests of several folders share."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from reidlib.data import ReIDDataset
from reidlib.engine import Run


def train(
    recipe: ModuleType, config: Any, dataset: ReIDDataset, folder: Path, **options: Any
) -> dict[str, Any]:
    """Train a recipe on the CPU, silently, in a folder of its own."""
    with Run(
        folder,
        recipe=recipe.__name__.rsplit(".", 1)[-1],
        version=recipe.VERSION,
        config=config,
        dataset=dataset,
        device="cpu",
        progress=False,
        tensorboard=False,
        **options,
    ) as run:
        return recipe.train(config, dataset, run)
