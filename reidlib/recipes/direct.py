"""Direct transfer: ImageNet features as they are, without any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from reidlib.data.table import ReIDDataset
from reidlib.engine.run import Run
from reidlib.recipes.settings import PAPER, STEPS, CommonConfig, check_unused
from reidlib.recipes.steps import (
    final_metrics,
    log_weights,
    open_training_images,
    reid_network,
)

VERSION = 1
"""1: the first."""


@dataclass(frozen=True)
class Config(CommonConfig):
    """Settings of direct transfer.

    ``bn_splits`` and ``frozen_stages`` have no influence, and cannot be changed.
    """

    pooling: Literal["gap", "gem"] = "gap"
    """Feature map to vector. The mean: what the ImageNet classifier was trained on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "bn_splits", "frozen_stages")


PRESETS = {**dict.fromkeys(STEPS, Config()), "paper": Config(**PAPER)}

network = reid_network


def train(config: Config, dataset: ReIDDataset, run: Run) -> dict[str, Any]:
    """Score ImageNet features (the name is that of every recipe; nothing is trained).

    Args:
        config: Settings.
        dataset: Data.
        run: The run that keeps log and results.

    Returns:
        The content of the result file.
    """
    images = open_training_images(dataset, config, run.device, least_people=1)
    model = network(config)
    log_weights(run, model)
    model = run.setup(model)
    run.track(model=model)
    for _ in run.epochs(1):  # one epoch of nothing, for a checkpoint like any other
        pass
    return run.finish(final_metrics(model, images, dataset, config, run))
