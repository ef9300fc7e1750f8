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

from reidlib.data.samplers import PKSampler
from reidlib.data.table import ReIDDataset
from reidlib.engine.run import Run
from reidlib.errors import ReIDError
from reidlib.losses.smoothing import smoothed_cross_entropy
from reidlib.losses.triplet import batch_hard_triplet
from reidlib.models.batch_norm import split_batch_norm
from reidlib.recipes.common import (
    AttentionConfig,
    batches_of,
    build_attentive_model,
    final_metrics,
    open_training_images,
    score,
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
        if not 0 <= self.smoothing < 1:
            raise ReIDError(f"smoothing is {self.smoothing}; it must be in [0, 1)")
        if self.classifier_lr <= 0:
            raise ReIDError(
                f"classifier_lr is {self.classifier_lr}; it must be positive"
            )


_SMALL: dict[str, Any] = {"frozen_stages": 4, "num_instances": 4, "pad": 5}

# As many steps on as many images as the baseline's, so that the two can be compared.
PRESETS = {
    "quick": Config(**_SMALL, epochs=6, iterations=18, num_labels=8),
    "ablation": Config(**_SMALL, epochs=8, iterations=28),
    "course": Config(**_SMALL, epochs=20, iterations=60),
    "paper": Config(backbone="resnet50", height=256, width=128, epochs=120, lr_step=40),
}


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
    if not dataset.train.has_identities or dataset.train.num_pids < 2:
        raise ReIDError(
            f"{dataset.root} has {dataset.train.num_pids} known people in its training "
            "split and supervised training needs two or more, with an identity for "
            "every image; train the unsupervised baseline instead"
        )
    images = open_training_images(dataset, config, run.device)
    identities = dataset.train.labels
    labels = torch.from_numpy(identities)
    augment = config.augmentation()

    model = build_attentive_model(config, run)
    split_batch_norm(model, config.bn_splits)
    classifier = nn.Linear(model.num_features, int(labels.max()) + 1, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.requires_grad]},
        {"params": list(classifier.parameters()), "lr": config.classifier_lr},
    ]
    optimizer = torch.optim.Adam(groups, lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.StepLR(
        optimizer, config.lr_step, config.lr_gamma
    )
    model, optimizer = run.setup(model, optimizer)
    model.mark_forward_method("embed")
    classifier = run.setup(classifier)
    run.track(
        model=model, classifier=classifier, optimizer=optimizer, schedule=schedule
    )

    for epoch in run.epochs(config.epochs):
        sampler = PKSampler(
            identities,
            config.num_labels,
            config.num_instances,
            config.iterations,
            run.generator,
        )
        model.train()
        correct = 0
        batches = batches_of(images, sampler)
        for index, batch in run.progress(batches, "train", config.iterations):
            truth = labels[index].to(run.device)
            raw, neck = model.embed(augment(batch, run.generator))
            logits = classifier(neck)  # (P K, people)
            loss = smoothed_cross_entropy(logits, truth, config.smoothing)
            triplet = batch_hard_triplet(F.normalize(raw), truth, config.margin)
            run.step(loss + config.triplet_weight * triplet, optimizer)
            correct += int((logits.argmax(1) == truth).sum())
        schedule.step()

        seen = config.iterations * config.num_labels * config.num_instances
        run.record(
            loss=run.mean_loss, accuracy=correct / seen, lr=schedule.get_last_lr()[0]
        )
        if config.eval_every and (epoch + 1) % config.eval_every == 0:
            run.record(test=score(model, dataset, config, run.device))

    return run.finish(final_metrics(model, images, dataset, config, run.device))
