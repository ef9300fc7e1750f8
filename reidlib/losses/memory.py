"""A memory with one centroid for each cluster, and the contrast with it."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_batch, check_positive
from reidlib.errors import ReIDError
from reidlib.losses.info_nce import info_nce

Update = Literal["sequential", "batch_mean", "hard"]


class ClusterMemory(nn.Module):
    """Cluster centroids that features are contrasted with, CALR-E1 and CALR-E2.

    The memory of ClusterContrast (Dai et al., ACCV 2022), from which CALR and AFF_SCL
    descend. ``forward`` is the loss, CALR-E1: `info_nce` of the features against all
    centroids. It changes nothing. ``update`` moves the centroids of the classes in a
    batch, CALR-E2, and is to be called once a step, after the optimiser's; ``backward``
    never moves them, however often it is called.

    The update of a class y is ``c_y <- normalise(m c_y + (1 - m) x)``, where x is

    - ``sequential``: each of its features, one after the other in the order of the
      batch. This is what the published code does, and the order matters: with m = 0.1
      and 16 instances the centroid is almost the last of them.
    - ``batch_mean``: the mean of its features (AFF-E10).
    - ``hard``: the feature that is least similar to ``c_y``, the first one if several
      are (the hard memory of ClusterContrast).

    Args:
        num_clusters: C.
        num_features: D.
        temperature: Scale of the similarities in the loss.
        momentum: m, the share of the *old* centroid that an update keeps.
        update: How a batch moves the centroids.

    Attributes:
        bank: ``(C, D)`` float32 buffer of unit rows.

    Raises:
        ReIDError: If a setting is out of its range.

    Example:
        >>> memory = ClusterMemory(num_clusters=2, num_features=2, temperature=1.0)
        >>> memory.initialise(torch.eye(2))
        >>> memory(torch.eye(2), torch.tensor([0, 1]))
        tensor(0.3133)
        >>> memory.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
        >>> memory.bank[0]
        tensor([0.1104, 0.9939])
    """

    bank: Tensor

    def __init__(
        self,
        num_clusters: int,
        num_features: int,
        temperature: float = 0.05,
        momentum: float = 0.1,
        update: Update = "sequential",
    ) -> None:
        super().__init__()
        if num_clusters < 1 or num_features < 1:
            raise ReIDError(
                f"a memory of {num_clusters} clusters and {num_features} features; "
                "give one or more of both"
            )
        check_positive("temperature", temperature)
        if not 0 <= momentum <= 1:
            raise ReIDError(f"momentum is {momentum}; it must be in [0, 1]")
        if update not in get_args(Update):
            raise ReIDError(
                f"update {update!r} is unknown; choose from {get_args(Update)}"
            )
        self.temperature = temperature
        self.momentum = momentum
        self.update_mode = update
        self.register_buffer("bank", torch.zeros(num_clusters, num_features))
        self._filled = False
        self.register_load_state_dict_post_hook(_mark_filled)

    def initialise(self, centroids: Tensor) -> None:
        """Set the bank, usually to what `cluster_centroids` returns.

        Args:
            centroids: ``(C, D)``; their length does not matter.

        Raises:
            ReIDError: If the shape is another, or a row is zero or not finite.
        """
        if centroids.shape != self.bank.shape:
            raise ReIDError(
                f"centroids have shape {tuple(centroids.shape)}; this memory holds "
                f"{tuple(self.bank.shape)}: one row per cluster, one column per feature"
            )
        norms = centroids.detach().float().norm(dim=1)
        bad = (~(norms.isfinite() & (norms > 0))).nonzero().flatten()
        if len(bad):
            raise ReIDError(
                f"{len(bad)} of {len(centroids)} centroids are zero or not finite, the "
                f"first is row {int(bad[0])}; look for NaN in the features"
            )
        with torch.no_grad():
            self.bank.copy_(F.normalize(centroids.float(), dim=1))
        self._filled = True

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the contrastive loss of a batch.

        Args:
            features: ``(B, D)``; their length does not matter.
            labels: ``(B,)`` int64 clusters in 0 to C - 1.

        Returns:
            Scalar float32; its gradient goes to the features alone.

        Raises:
            ReIDError: If shapes or labels do not fit, or the bank was not filled.
        """
        self._check_filled()
        return info_nce(features, self.bank, labels, self.temperature)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centroids of the classes in a batch; others stay as they are.

        Args:
            features: ``(B, D)``; their length does not matter.
            labels: ``(B,)`` int64 clusters in 0 to C - 1.

        Raises:
            ReIDError: If shapes or labels do not fit, or the bank was not filled.
        """
        self._check_filled()
        if features.shape[1:] != self.bank.shape[1:]:
            raise ReIDError(
                f"features have shape {tuple(features.shape)}; this memory holds "
                f"centroids of {self.bank.shape[1]} features"
            )
        check_batch(features, labels, len(self.bank))
        with torch.autocast(features.device.type, enabled=False):
            features = F.normalize(features.float(), dim=1)
            if self.update_mode == "sequential":
                self._update_sequential(features, labels)
            elif self.update_mode == "batch_mean":
                classes, row = labels.unique(return_inverse=True)
                self._blend(classes, _means(features, row, len(classes)))
            else:
                hardest = self._hardest(features, labels)
                self._blend(labels[hardest], features[hardest])

    def extra_repr(self) -> str:
        """Return the settings, for printing."""
        clusters, features = self.bank.shape
        return (
            f"{clusters} x {features}, temperature={self.temperature}, "
            f"momentum={self.momentum}, update={self.update_mode!r}"
        )

    def _blend(self, classes: Tensor, features: Tensor) -> None:
        """Move one row for each of some different classes."""
        old = self.bank[classes]
        new = self.momentum * old + (1 - self.momentum) * features
        self.bank[classes] = F.normalize(new, dim=1)

    def _update_sequential(self, features: Tensor, labels: Tensor) -> None:
        # Classes do not touch each other: all first instances, then all second ones.
        order = labels.argsort(stable=True)
        counts = labels.unique(return_counts=True)[1]
        starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
        turn = torch.arange(len(labels), device=labels.device) - starts
        for number in range(int(counts.max())):
            rows = order[turn == number]
            self._blend(labels[rows], features[rows])

    def _hardest(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the row of each class that is least similar to its centroid."""
        similarity = (features * self.bank[labels]).sum(dim=1)  # (B,)
        order = similarity.argsort(stable=True)
        order = order[labels[order].argsort(stable=True)]
        classes = labels[order]
        first = torch.ones_like(classes, dtype=torch.bool)
        first[1:] = classes[1:] != classes[:-1]
        return order[first]

    def _check_filled(self) -> None:
        if not self._filled:
            raise ReIDError(
                "the cluster memory is empty; call initialise(cluster_centroids(...)) "
                "first"
            )


def _mark_filled(memory: nn.Module, incompatible_keys: Any) -> None:
    memory._filled = True  # type: ignore[assignment]


def _means(features: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Return the ``(num_rows, D)`` mean of the features of each row."""
    total = features.new_zeros(num_rows, features.shape[1])
    total.index_add_(0, rows, features)
    return total / rows.bincount(minlength=num_rows)[:, None]


def cluster_centroids(features: Tensor, pseudo_labels: Tensor) -> Tensor:
    """Return the mean feature of each cluster, made length 1.

    Args:
        features: ``(N, D)`` features.
        pseudo_labels: ``(N,)`` int64 clusters from 0, -1 for an outlier.

    Returns:
        ``(C, D)`` float32 centroids; outliers have no part in them.

    Raises:
        ReIDError: If there is no cluster, or labels are not contiguous.

    Example:
        >>> cluster_centroids(torch.eye(3), torch.tensor([0, 0, -1]))
        tensor([[0.7071, 0.7071, 0.0000]])
    """
    check_batch(features, pseudo_labels)
    member = pseudo_labels >= 0
    labels = pseudo_labels[member]
    if not len(labels):
        raise ReIDError(
            f"all {len(pseudo_labels)} images are outliers (-1), so there is no "
            "centroid; loosen the clustering (a larger eps, a smaller min_samples)"
        )
    sizes = labels.bincount()
    if int(sizes.min()) == 0:
        raise ReIDError(
            f"pseudo labels go up to {len(sizes) - 1} but {int((sizes == 0).sum())} "
            f"clusters are empty, the first is {int((sizes == 0).nonzero()[0])}; "
            "number the clusters contiguously from 0"
        )
    means = _means(features[member].detach().float(), labels, len(sizes))
    return F.normalize(means, dim=1)
