"""Symmetric contrast: a mean and a hard memory, kept in balance (AFF_SCL)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_batch
from reidlib.errors import ReIDError
from reidlib.losses.memory import ClusterMemory


def balance_loss(x: Tensor, alpha: float = 0.9, gamma: float = 1.5) -> Tensor:
    """Return the balance loss of each difference, AFF-E14.

    The balanced L1 loss of Libra R-CNN (Pang et al., CVPR 2019), a quarter of it: steep
    near 0 and a straight line from 1 on. ``b = exp(gamma / alpha) - 1`` makes its slope
    continuous there.

    Args:
        x: Differences, any shape.
        alpha: Steepness near 0.
        gamma: Slope from 1 on (a quarter of it).

    Returns:
        The loss of each element, in the shape of ``x``.

    Raises:
        ReIDError: If alpha or gamma are not positive.

    Example:
        >>> balance_loss(torch.tensor([0.0, 1.0, 2.0]))
        tensor([0.0000, 0.2373, 0.6123])
    """
    if not (alpha > 0 and gamma > 0):
        raise ReIDError(f"alpha is {alpha} and gamma {gamma}; both must be positive")
    b = math.expm1(gamma / alpha)
    size = x.abs()
    # Cut off at 1, so that the branch that is not taken has a finite gradient.
    inner = b * size.clamp(max=1)
    near = alpha / b * (inner + 1) * inner.log1p() - alpha * size.clamp(max=1)
    far = gamma * size + gamma / b - alpha
    return torch.where(size < 1, near, far) / 4


@dataclass(frozen=True)
class SymmetricLosses:
    """The three terms of AFF-E8 before their weights, and their weighted sum."""

    hard: Tensor
    mean: Tensor
    balance: Tensor
    total: Tensor


class SymmetricMemory(nn.Module):
    """A mean and a hard representative of each cluster, AFF-E8 to AFF-E13.

    ``forward`` is the loss, AFF-E8: the contrast with the hard representatives, the
    contrast with the means, and a balance between the two. The contrasts are two
    softmaxes that share the query and nothing else. As in `ClusterMemory`, the banks
    change in ``update`` alone.

    ``update`` moves each class of a batch by its momentum: the mean bank towards the
    mean of its features (AFF-E10), the hard bank towards the feature that is least
    similar (AFF-E12, AFF-E13) to the class's mean, as it was before the update.

    The paper takes the balance loss of the difference of two memory entries. Memories
    are no parameters, so that such a term trains nothing. What is taken instead is a
    reading, see ``balance``.

    Args:
        num_clusters: C.
        num_features: D.
        temperature: Scale of the similarities.
        momentum: Share of the *old* entry that an update keeps.
        hard_weight: lambda 1.
        mean_weight: lambda 2.
        balance: The difference that the balance loss is taken of: ``"predictions"``,
            of the query's two softmaxes; ``"features"``, of the mean and the hard
            feature of each class in the batch; ``"none"``. Summed over its components,
            averaged over queries or classes.
        mine_against: ``"mean"`` as in the paper, or ``"hard"``: the least similar
            feature to the class's hard entry, as in the public code that the method
            descends from.

    Raises:
        ReIDError: If a setting is out of its range.

    Example:
        >>> memory = SymmetricMemory(num_clusters=2, num_features=2, temperature=1.0)
        >>> memory.initialise(torch.eye(2))
        >>> memory(torch.eye(2), torch.tensor([0, 1]))  # both banks say the same
        tensor(0.3133)
    """

    def __init__(
        self,
        num_clusters: int,
        num_features: int,
        temperature: float = 0.05,
        momentum: float = 0.1,
        hard_weight: float = 0.75,
        mean_weight: float = 0.25,
        balance: Literal["predictions", "features", "none"] = "predictions",
        mine_against: Literal["mean", "hard"] = "mean",
    ) -> None:
        super().__init__()
        if hard_weight < 0 or mean_weight < 0:
            raise ReIDError(
                f"hard_weight is {hard_weight} and mean_weight {mean_weight}; give "
                "0 or more"
            )
        if balance not in ("predictions", "features", "none"):
            raise ReIDError(
                f"balance is {balance!r}; choose from predictions, features, none"
            )
        if mine_against not in ("mean", "hard"):
            raise ReIDError(f"mine_against is {mine_against!r}; choose from mean, hard")
        sizes = (num_clusters, num_features, temperature, momentum)
        self.mean = ClusterMemory(*sizes, update="batch_mean")
        self.hard = ClusterMemory(*sizes, update="hard")
        self.hard_weight, self.mean_weight = hard_weight, mean_weight
        self.balance, self.mine_against = balance, mine_against

    def initialise(self, centroids: Tensor) -> None:
        """Set both banks, usually to what `cluster_centroids` returns.

        The paper does not say what the hard bank starts from; its ancestors' public
        code starts it from the means.

        Args:
            centroids: ``(C, D)``; their length does not matter.
        """
        self.mean.initialise(centroids)
        self.hard.initialise(centroids)

    def losses(self, features: Tensor, labels: Tensor) -> SymmetricLosses:
        """Return the loss, AFF-E8, and its terms.

        Args:
            features: ``(B, D)``; their length does not matter.
            labels: ``(B,)`` int64 clusters in 0 to C - 1.
        """
        hard, mean = self.hard(features, labels), self.mean(features, labels)
        with torch.autocast(features.device.type, enabled=False):
            queries = F.normalize(features.float(), dim=1)
            if self.balance == "predictions":
                by_mean, by_hard = (
                    (queries @ memory.bank.T / memory.temperature).softmax(dim=1)
                    for memory in (self.mean, self.hard)
                )
                balance = balance_loss(by_mean - by_hard).sum(dim=1).mean()
            elif self.balance == "features":
                rows = self._hardest(queries, labels)
                # The rows come by class, as the means do.
                classes, row = labels.unique(return_inverse=True)
                total = queries.new_zeros(len(classes), queries.shape[1])
                means = F.normalize(total.index_add(0, row, queries), dim=1)
                balance = balance_loss(means - queries[rows]).sum(dim=1).mean()
            else:
                balance = hard.new_zeros(())
        total = self.hard_weight * hard + self.mean_weight * mean + balance
        return SymmetricLosses(hard, mean, balance, total)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the symmetric contrastive loss of a batch, AFF-E8; a scalar."""
        return self.losses(features, labels).total

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move both banks for the classes in a batch; others stay as they are.

        Args:
            features: ``(B, D)``; their length does not matter.
            labels: ``(B,)`` int64 clusters in 0 to C - 1.
        """
        check_batch(features, labels, len(self.mean.bank))
        rows = self._hardest(F.normalize(features.float(), dim=1), labels)
        self.mean.update(features, labels)
        self.hard.update(features[rows], labels[rows])

    def _hardest(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the row of each class that is least similar, the first of several."""
        memory = self.mean if self.mine_against == "mean" else self.hard
        with torch.no_grad():
            return memory._hardest(features, labels)
