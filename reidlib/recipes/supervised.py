"""The upper bound: identities are known, cross-entropy and triplet loss.

The strong baseline of Luo et al. (CVPR workshops 2019): the triplet loss looks at the
features before the batch-norm neck, where distances live; the classifier looks at the
features after it, where directions live. Two things differ, because this one must also
train in a few hundred steps: the triplet loss takes features of length 1, so that its
margin means the same for every backbone, and the classifier, which starts from nothing,
has a learning rate of its own.

With ``global_attention`` and ``local_attention`` it is also the test bench of AFF_SCL's
network (its Table 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from reidlib.data.table import ReIDDataset
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.losses.smoothing import smoothed_cross_entropy
from reidlib.losses.triplet import batch_hard_triplet
from reidlib.recipes.settings import (
    PAPER,
    AttentionConfig,
    check_not_negative,
    check_positive,
    small_presets,
)
from reidlib.recipes.steps import (
    batches,
    end_epoch,
    final_metrics,
    open_training_images,
    reid_network,
    start,
)

VERSION = 1
"""1: the first."""


@dataclass(frozen=True)
class Config(AttentionConfig):
    """Settings of supervised training."""

    num_instances: int = 4
    """K: images of each person."""
    smoothing: float = 0.1
    """Share of the label that is spread over all identities."""
    margin: float = 0.3
    """Margin of the triplet loss."""
    classifier_lr: float = 3.5e-3
    """Learning rate of the classifier, ten times that of the network."""
    triplet_weight: float = 1.0
    """Weight of the triplet loss beside the cross-entropy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "classifier_lr")
        check_not_negative(self, "margin", "triplet_weight")
        if not 0 <= self.smoothing < 1:
            raise ReIDError(f"smoothing is {self.smoothing}; it must be in [0, 1)")


PRESETS = {
    **small_presets(Config),
    "paper": Config(**PAPER, epochs=120, lr_step=40),
}

network = reid_network


def train(config: Config, dataset: ReIDDataset, run: Run) -> dict[str, Any]:
    """Train with identities.

    Args:
        config: Settings.
        dataset: Data; every training image needs an identity.
        run: The run that keeps log, checkpoints and results.

    Returns:
        The content of the result file.

    Raises:
        ReIDError: If an identity is missing, or there is only one.
    """
    check_identities(dataset)
    images = open_training_images(dataset, config, run.device)
    identities = torch.from_numpy(dataset.train.labels)
    augment = config.augmentation()
    model = network(config)
    num_people = int(identities.max()) + 1
    classifier = nn.Linear(model.num_features, num_people, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    model, (classifier,), optimizer, schedule = start(
        config,
        run,
        model,
        heads={"classifier": classifier},
        rates={"classifier": config.classifier_lr},
    )

    for _ in run.epochs(config.epochs):
        model.train()
        hits = []
        epoch = batches(images, identities, config, run)
        for index, batch in run.progress(epoch, "train", config.iterations):
            truth = identities[index].to(run.device)
            raw, neck = model.embed(augment(batch, run.generator))  # (P K, D), twice
            logits = classifier(neck)  # (P K, people)
            loss = smoothed_cross_entropy(logits, truth, config.smoothing)
            triplet = batch_hard_triplet(F.normalize(raw), truth, config.margin)
            run.step(loss + config.triplet_weight * triplet, optimizer)
            hits.append((logits.argmax(1) == truth).float().mean())
        run.record(accuracy=float(torch.stack(hits).mean()))
        end_epoch(config, run, model, dataset, schedule)

    return run.finish(final_metrics(model, images, dataset, config, run))


def check_identities(dataset: ReIDDataset) -> None:
    """Raise unless every training image has an identity, and there are two."""
    if not dataset.train.has_identities or dataset.train.num_pids < 2:
        raise ReIDError(
            f"{dataset.root} has {dataset.train.num_pids} known people in its training "
            "split and supervised training needs two or more, with an identity for "
            "every image; train the unsupervised baseline instead"
        )
