"""Symmetric contrast: a mean and a hard memory, kept in balance (AFF_SCL)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_batch, explain_classes
from reidlib.errors import ReIDError
from reidlib.losses.memory import ClusterMemory, class_means, hardest_instances


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
    """A centroid and a hard feature of each cluster, with the loss of AFF-E8.

    ``forward`` is the loss: the contrast with the hard features (AFF-E11), the contrast
    with the centroids (AFF-E9), and a balance between the two (AFF-E14). The contrasts
    are two softmaxes that share the query and nothing else. As in `ClusterMemory`, the
    banks change in ``update`` alone, nothing is copied to the host in a step, and
    labels are not looked at.

    ``update`` moves each class of a batch by its momentum: the centroid towards the
    mean of its features (AFF-E10), the hard feature towards the feature that is least
    similar (AFF-E12, AFF-E13) to the class's centroid, as it was before the update.

    The paper takes the balance loss of the difference of two memory entries. Memories
    are no parameters, so that such a term trains nothing. What is taken instead is a
    reading, see ``balance``.

    Args:
        num_clusters: C.
        num_features: D.
        temperature: Scale of the similarities.
        momentum: Share of the *old* entry that an update keeps.
        hard_weight: lambda 1 of AFF-E8, varied in AFF-T5.
        mean_weight: lambda 2.
        balance: The difference that the balance loss is taken of: ``"predictions"``,
            of the query's two softmaxes, the mean over the queries; ``"features"``,
            of the mean feature of each class in the batch and its hard feature (see
            ``mine_against``), both L2-normalised and both with a gradient, the mean
            over the classes, however many images each has; ``"none"``. Each is summed
            over its components.
        mine_against: ``"mean"`` as in the paper, or ``"hard"``: the least similar
            feature to the class's hard feature in the memory, as in the public code
            that the method descends from.

    Attributes:
        mean: `ClusterMemory` of the centroids.
        hard: `ClusterMemory` of the hard features.

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
        code starts it from the centroids.

        Args:
            centroids: ``(C, D)``; they are L2-normalised here.

        Raises:
            ReIDError: If the shape is another, or a row is zero or not finite.
        """
        self.mean.initialise(centroids)
        self.hard.initialise(centroids)

    def losses(self, features: Tensor, labels: Tensor) -> SymmetricLosses:
        """Return the loss, AFF-E8, and its terms, AFF-E9, AFF-E11 and AFF-E14.

        Args:
            features: ``(B, D)``; they are L2-normalised here.
            labels: ``(B,)`` int64 clusters in 0 to C - 1.

        Returns:
            Four scalars, float32; their gradient goes to the features alone.

        Raises:
            ReIDError: If shapes do not fit, or the banks were not filled; on the CPU
                also if a label is out of range.
        """
        check_batch(features, labels)
        by_hard, by_mean = self.hard.logits(features), self.mean.logits(features)
        with (
            explain_classes(labels, by_mean.shape[1]),
            torch.autocast(features.device.type, enabled=False),
        ):
            hard = F.cross_entropy(by_hard, labels)  # AFF-E11
            mean = F.cross_entropy(by_mean, labels)  # AFF-E9
            if self.balance == "predictions":  # AFF-E14
                difference = by_mean.softmax(dim=1) - by_hard.softmax(dim=1)
                balance = balance_loss(difference).sum(dim=1).mean()
            elif self.balance == "features":
                queries = F.normalize(features.float(), dim=1)
                means = F.normalize(class_means(queries, labels), dim=1)
                difference = means - queries[self._hardest(features, labels)]
                # One value for each class, which all of its instances share.
                share = 1 / (labels[:, None] == labels).sum(dim=1)
                each = balance_loss(difference).sum(dim=1)
                balance = (share * each).sum() / share.sum()
            else:
                balance = hard.new_zeros(())
        total = self.hard_weight * hard + self.mean_weight * mean + balance
        return SymmetricLosses(hard, mean, balance, total)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the symmetric contrastive loss of a batch, AFF-E8; a scalar."""
        return self.losses(features, labels).total

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move both banks, AFF-E10 and AFF-E13, for the classes in a batch.

        The rows of other classes stay as they are.

        Args:
            features: ``(B, D)``; they are L2-normalised here.
            labels: ``(B,)`` int64 clusters in 0 to C - 1.

        Raises:
            ReIDError: If shapes do not fit, or the banks were not filled; on the CPU
                also if a label is out of range.
        """
        hardest = self._hardest(features, labels)  # before the centroids move
        self.mean.update(features, labels)
        self.hard.update(features[hardest], labels)

    def _hardest(self, features: Tensor, labels: Tensor) -> Tensor:
        memory = self.mean if self.mine_against == "mean" else self.hard
        return hardest_instances(features, labels, memory.bank)
