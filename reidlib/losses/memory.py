"""A memory with one centroid for each cluster, and the contrast with it."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_batch, check_positive, explain_classes
from reidlib.errors import ReIDError
from reidlib.losses.info_nce import Normalise, cosine_logits, info_nce

Update = Literal["sequential", "batch_mean", "hard"]


class ClusterMemory(nn.Module):
    """Cluster centroids that features are contrasted with, CALR-E1 and CALR-E2.

    The memory of ClusterContrast (Dai et al., ACCV 2022), from which CALR and AFF_SCL
    descend. ``forward`` is the loss: `info_nce` of the features against all centroids,
    CALR-E1, or CALR-E6 if clusters have weights. It changes nothing. ``update`` moves
    the centroids of the classes in a batch, CALR-E2. Call it once a step, after the
    optimiser's; ``backward`` never moves them.

    The update of a class y is ``c_y <- normalise(m c_y + (1 - m) x)``, where x is

    - ``sequential``: each of its features, one after the other in the order of the
      batch. This is what the published code does, and the order matters: with m = 0.1
      and 16 instances the centroid is almost the last of them.
    - ``batch_mean``: the mean of its features (AFF-E10), see `class_means`.
    - ``hard``: its hard feature (AFF-E12), see `hardest_instances`. This is the hard
      memory of ClusterContrast.

    Neither ``forward`` nor ``update`` copies anything to the host, if ``num_instances``
    is given, so that a GPU never waits. Labels are therefore not looked at in each
    step: `cluster_centroids` checks those of the clusters once an epoch. A label out of
    range ends in an error of PyTorch, which on the CPU is explained.

    Args:
        num_clusters: C.
        num_features: D.
        temperature: Scale of the similarities in the loss.
        momentum: m, the share of the *old* centroid that an update keeps.
        update: How a batch moves the centroids.
        num_instances: K, if batches hold runs of K instances of a class, in which fewer
            than P classes take turns, as those of `reidlib.data.PKSampler` do. None: a
            sequential update counts the instances in each batch, for which the host
            waits.
        weights: ``(C,)`` weight of each cluster in the loss, 0 or more; None: all are
            1.
        normalise: What the weighted loss is divided by, see `info_nce`.

    Attributes:
        bank: ``(C, D)`` float32 buffer of L2-normalised centroids.
        weights: ``(C,)`` buffer, or None.

    Raises:
        ReIDError: If a setting is out of its range, or weights do not fit.

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
    weights: Tensor | None

    def __init__(
        self,
        num_clusters: int,
        num_features: int,
        temperature: float = 0.05,
        momentum: float = 0.1,
        update: Update = "sequential",
        num_instances: int | None = None,
        weights: Tensor | None = None,
        normalise: Normalise = "batch",
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
        for name, value, choices in (
            ("update", update, get_args(Update)),
            ("normalise", normalise, get_args(Normalise)),
        ):
            if value not in choices:
                raise ReIDError(f"{name} is {value!r}; choose from {choices}")
        if num_instances is not None and num_instances < 1:
            raise ReIDError(f"num_instances is {num_instances}; give 1 or more")
        if weights is not None:
            _check_weights(weights, num_clusters)
        self.temperature = temperature
        self.momentum = momentum
        self.update_mode = update
        self.num_instances = num_instances
        self.normalise = normalise
        with torch.inference_mode(False):  # or no update could ever change it
            self.register_buffer("bank", torch.zeros(num_clusters, num_features))
        self.register_buffer("weights", weights)
        self._filled = False
        self.register_load_state_dict_post_hook(_mark_filled)

    def initialise(self, centroids: Tensor) -> None:
        """Set the bank, usually to what `cluster_centroids` returns.

        Args:
            centroids: ``(C, D)``; they are L2-normalised here.

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

    def logits(self, features: Tensor) -> Tensor:
        """Return the cosine logits of features and centroids.

        Args:
            features: ``(B, D)``; they are L2-normalised here.

        Returns:
            ``(B, C)`` float32.

        Raises:
            ReIDError: If the shape does not fit, or the bank was not filled.
        """
        self._check_filled()
        return cosine_logits(features, self.bank, self.temperature)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the contrastive loss of a batch, CALR-E1; CALR-E6 with weights.

        Args:
            features: ``(B, D)``; they are L2-normalised here.
            labels: ``(B,)`` int64 clusters in 0 to C - 1.

        Returns:
            Scalar float32; its gradient goes to the features alone.

        Raises:
            ReIDError: If shapes do not fit, or the bank was not filled; on the CPU also
                if a label is out of range.
        """
        self._check_filled()
        return info_nce(
            features,
            self.bank,
            labels,
            self.temperature,
            self.weights,
            self.normalise,
        )

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centroids of the classes in a batch, CALR-E2.

        The centroids of other classes stay as they are.

        Args:
            features: ``(B, D)``; they are L2-normalised here.
            labels: ``(B,)`` int64 clusters in 0 to C - 1.

        Raises:
            ReIDError: If shapes do not fit, the bank was not filled, or the batch has
                no runs of ``num_instances``; on the CPU also if a label is out of
                range.
        """
        self._check_filled()
        check_batch(features, labels)
        _check_width(features, self.bank)
        with (
            explain_classes(labels, len(self.bank)),
            torch.autocast(features.device.type, enabled=False),
        ):
            # What the class of each instance has. `bank[labels]` would take -1 for the
            # last row, index_select refuses it.
            centroids = self.bank.index_select(0, labels)  # (B, D)
            instances = F.normalize(features.float(), dim=1)
            if self.update_mode == "sequential":
                centroids = self._in_turn(centroids, instances, labels)
            elif self.update_mode == "batch_mean":
                means = class_means(instances, labels)
                centroids = self._moved(centroids, means)
            else:
                hardest = hardest_instances(features, labels, self.bank)
                centroids = self._moved(centroids, instances[hardest])
            # All instances of a class write the same row.
            self.bank[labels] = centroids

    def extra_repr(self) -> str:
        """Return the settings, for printing."""
        clusters, features = self.bank.shape
        return (
            f"{clusters} x {features}, temperature={self.temperature}, "
            f"momentum={self.momentum}, update={self.update_mode!r}"
        )

    def _moved(self, centroids: Tensor, features: Tensor) -> Tensor:
        mixed = self.momentum * centroids + (1 - self.momentum) * features
        return F.normalize(mixed, dim=1)

    def _in_turn(self, centroids: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Return the ``(B, D)`` centroids after all instances had their turn.

        Classes do not touch each other: the first instances of all classes move their
        centroids at once, then the second ones, and so on.
        """
        same = labels[:, None] == labels  # (B, B)
        turn = same.tril(diagonal=-1).sum(dim=1)  # (B,) instances before this one
        first = same.int().argmax(dim=1)  # (B,) first instance of the class
        place = (turn == 0).cumsum(dim=0)[first] - 1  # (B,) classes before this one
        # The instance of each class whose turn it is; -1 where it has no more.
        rows = labels.new_full(self._table_size(place, turn), -1)  # (classes, turns)
        try:
            rows[place, turn] = torch.arange(len(labels), device=labels.device)
        except IndexError:
            raise ReIDError(
                f"a batch of {len(labels)} has {int(place.max()) + 1} classes with up "
                f"to {int(turn.max()) + 1} instances, and num_instances is "
                f"{self.num_instances}; give the sampler's num_instances, or None"
            ) from None
        centroids = centroids[rows[:, 0]]
        for row in rows.unbind(dim=1):
            moved = self._moved(centroids, features[row])
            centroids = torch.where(row[:, None] < 0, centroids, moved)
        return centroids[place]

    def _table_size(self, place: Tensor, turn: Tensor) -> tuple[int, int]:
        """Return how many classes a batch can have, and instances of each."""
        if self.num_instances is None:
            return int(place.max()) + 1, int(turn.max()) + 1
        runs, rest = divmod(len(turn), self.num_instances)
        if rest:
            raise ReIDError(
                f"a batch of {len(turn)} has no runs of {self.num_instances} "
                "instances; give the sampler's num_instances, or None"
            )
        return runs, self.num_instances * -(-runs // len(self.bank))

    def _check_filled(self) -> None:
        if not self._filled:
            raise ReIDError(
                "the cluster memory is empty; call initialise(cluster_centroids(...)) "
                "first"
            )


def _mark_filled(memory: nn.Module, incompatible_keys: Any) -> None:
    memory._filled = True  # type: ignore[assignment]


def _check_weights(weights: Tensor, num_clusters: int) -> None:
    if weights.shape != (num_clusters,):
        raise ReIDError(
            f"weights have shape {tuple(weights.shape)} for {num_clusters} clusters; "
            "give one weight per cluster"
        )
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ReIDError("a weight is negative or not finite; weights are 0 or more")


def _check_width(features: Tensor, centroids: Tensor) -> None:
    if centroids.ndim != 2 or features.shape[1] != centroids.shape[1]:
        raise ReIDError(
            f"features have shape {tuple(features.shape)} and centroids "
            f"{tuple(centroids.shape)}; give (B, D) and (C, D) with the same D"
        )


@torch.no_grad()
def hardest_instances(features: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """Return the hard instance of each class in a batch, AFF-E12.

    It is the instance that is least similar to the centroid of its class, the first one
    if several are.

    Args:
        features: ``(B, D)``; they are L2-normalised here.
        labels: ``(B,)`` int64 classes in 0 to C - 1.
        centroids: ``(C, D)`` centroids; their norms do not matter.

    Returns:
        ``(B,)`` int64: for each instance the row of the hard instance of its class.

    Raises:
        ReIDError: If shapes do not fit; on the CPU also if a label is out of range.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> hardest_instances(features, torch.tensor([0, 0, 1]), torch.eye(2))
        tensor([1, 1, 2])
    """
    check_batch(features, labels)
    _check_width(features, centroids)
    features = F.normalize(features.float(), dim=1)
    with explain_classes(labels, len(centroids)):
        centroids = centroids.index_select(0, labels)  # (B, D)
    similarity = (features * centroids).sum(dim=1)  # (B,)
    same = labels[:, None] == labels  # (B, B)
    return torch.where(same, similarity, torch.inf).argmin(dim=1)


def class_means(features: Tensor, labels: Tensor) -> Tensor:
    """Return the mean feature of each class in a batch.

    Args:
        features: ``(B, D)`` features.
        labels: ``(B,)`` classes.

    Returns:
        ``(B, D)``: for each instance the mean feature of its class.

    Raises:
        ReIDError: If shapes do not fit.

    Example:
        >>> class_means(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([7, 3, 3]))
        tensor([[1.],
                [3.],
                [3.]])
    """
    check_batch(features, labels)
    same = labels[:, None] == labels  # (B, B)
    first = same.int().argmax(dim=1)  # (B,) first instance of the class
    total = torch.zeros_like(features).index_add(0, first, features)
    return (total / same.sum(dim=1, keepdim=True))[first]


def cluster_centroids(features: Tensor, pseudo_labels: Tensor) -> Tensor:
    """Return the L2-normalised mean feature of each cluster.

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
    # No place for each number: it may be a long id instead of a cluster.
    clusters, sizes = labels.unique(return_counts=True)
    highest = int(clusters[-1])
    if highest >= len(clusters):
        place = torch.arange(len(clusters), device=clusters.device)
        raise ReIDError(
            f"pseudo labels go up to {highest} but {highest + 1 - len(clusters)} "
            f"clusters are empty, the first is {int((clusters == place).sum())}; "
            "number the clusters contiguously from 0"
        )
    features = features[member].detach().float()
    total = features.new_zeros(len(sizes), features.shape[1])
    return F.normalize(total.index_add_(0, labels, features) / sizes[:, None], dim=1)
