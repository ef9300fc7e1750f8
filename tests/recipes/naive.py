"""An epoch of a method, in loops written from the equations.

With a learning rate of almost nothing the network stays what it was, so that whatever
happens in an epoch (clusters, draws, losses, memories) can be computed once more beside
it, from the parts that the library offers and from the equations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from reidlib.data import ReIDDataset
from reidlib.recipes.steps import batches, extract, open_split

STILL = {"epochs": 1, "lr": 1e-9}


def untrained(recipe: ModuleType, config: Any) -> Any:
    """Return the network that a run of these settings starts from."""
    torch.manual_seed(config.seed)
    return recipe.network(config)


class Shadow:
    """What a run of a recipe sees and draws in its first epoch."""

    def __init__(self, recipe: ModuleType, config: Any, *datasets: ReIDDataset) -> None:
        self.config = config
        self.model = untrained(recipe, config)
        self.generator = torch.Generator().manual_seed(config.seed)
        cpu = torch.device("cpu")
        self.images = [open_split(data.train, config, cpu) for data in datasets]

    def features(self) -> list[Tensor]:
        """The features of the images of each data set."""
        return [extract(self.model, images, self.config) for images in self.images]

    def steps(
        self, labels: Sequence[Tensor], camids: Sequence[Tensor | None]
    ) -> Iterator[list[tuple[Tensor, Tensor, Tensor, Tensor]]]:
        """Yield for each step, for each data set: rows, labels, raw and neck features.

        Only the last data set moves what the batch norms remember.
        """
        drawn = zip(
            *(
                batches(
                    *found, self.config, SimpleNamespace(generator=self.generator), c
                )
                for *found, c in zip(self.images, labels, camids, strict=True)
            ),
            strict=True,
        )
        augment = self.config.augmentation()
        self.model.train()
        for step in drawn:
            views = [augment(batch, self.generator) for _, batch in step]
            seen = []
            for number, ((rows, _), view) in enumerate(zip(step, views, strict=True)):
                before = {k: v.clone() for k, v in self.model.state_dict().items()}
                with torch.no_grad():
                    raw, neck = self.model.embed(view)
                if number + 1 < len(step):
                    self.model.load_state_dict(before)
                seen.append((rows, labels[number][rows], raw, neck))
            yield seen


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def centroids(features: Tensor, labels: Tensor) -> list[Tensor]:
    """The normalised mean of each label, one after the other."""
    return [
        unit(features[labels == label].mean(dim=0))
        for label in range(int(labels.max()) + 1)
    ]


def softmax(query: Tensor, keys: list[Tensor], temperature: float) -> list[float]:
    terms = [math.exp(float(query @ key) / temperature) for key in keys]
    return [term / sum(terms) for term in terms]


def contrast(query: Tensor, keys: list[Tensor], own: Any, temperature: float) -> float:
    """InfoNCE of one query: CALR-E1, CALR-E3, AFF-E9, AFF-E11."""
    return -math.log(softmax(query, keys, temperature)[int(own)])


def move(bank: list[Tensor], own: Any, by: Tensor, momentum: float) -> None:
    """Move one entry of a memory: CALR-E2, AFF-E10, AFF-E13."""
    bank[int(own)] = unit(momentum * bank[int(own)] + (1 - momentum) * by)


def triplet(raw: Tensor, labels: Tensor, margin: float) -> float:
    """The mean batch-hard triplet loss of L2-normalised features."""
    points, terms = unit(raw), []
    for anchor, label in zip(points, labels, strict=True):
        distance = (points - anchor).norm(dim=1)
        hardest = distance[labels == label].max() - distance[labels != label].min()
        terms.append(max(0.0, float(hardest) + margin))
    return mean(terms)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
