"""Samplers: the images of each batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import check_choice, check_count, check_ids, check_same_length
from reidlib.errors import ReIDError

Replacement = Literal["scarce", "published"]
"""When `PKSampler` draws images of a label with replacement."""


def sequential_batches(count: int, batch_size: int) -> Iterator[Tensor]:
    """Yield the row numbers 0 to ``count - 1`` in order, in batches.

    Args:
        count: Number of rows.
        batch_size: Rows in a batch; the last one may be smaller.

    Yields:
        ``(B,)`` int64 row numbers.

    Example:
        >>> [batch.tolist() for batch in sequential_batches(5, 2)]
        [[0, 1], [2, 3], [4]]
    """
    check_count(batch_size, "batch_size", "sequential_batches")
    yield from torch.arange(count).split(batch_size) if count else ()


class PKSampler:
    """Batches of P labels with K images each.

    Each pass goes through the labels in random order, P at a time. It drops the labels
    that are left over, so that a batch never holds a label twice. If there are fewer
    than P labels, labels are repeated to fill a batch.

    The K images of a label are drawn without replacement if it has at least K, else
    with replacement (see ``replacement``). With ``camids``, positives come from other
    cameras (ClusterContrast, CALR and AFF_SCL): the first of the K is any image of the
    label, and the others are drawn from its images under other cameras. If there are
    none, they are drawn from its other images. If there are none of these either, the
    first image is repeated. A label always has exactly K images in a batch.

    Args:
        labels: ``(N,)`` integers; rows labelled -1 are never drawn.
        num_labels: P, labels in a batch.
        num_instances: K, images of each label.
        num_batches: Batches per iteration, whatever the number of labels.
        generator: Source of all draws, and the sampler's only state.
        camids: ``(N,)`` camera ids, for positives across cameras.
        replacement: When the K - 1 other images are drawn with replacement:
            ``"scarce"``, if their pool has fewer than K - 1 images; ``"published"``, if
            it has fewer than K, as in the public code of ClusterContrast and CALR. From
            a pool of exactly K - 1 the published rule may thus repeat an image without
            need. Without cameras both rules are the same.

    Raises:
        ReIDError: If a number is below 1, if no label is 0 or above, or if the columns
            differ in length or are not whole numbers.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 2, -1])
        >>> generator = torch.Generator().manual_seed(0)
        >>> sampler = PKSampler(labels, 2, 2, 10, generator)
        >>> batch = next(iter(sampler))
        >>> bool(labels[batch[0]] == labels[batch[1]] != labels[batch[2]]), len(sampler)
        (True, 10)
    """

    def __init__(
        self,
        labels: Tensor | np.ndarray,
        num_labels: int,
        num_instances: int,
        num_batches: int,
        generator: torch.Generator,
        camids: Tensor | np.ndarray | None = None,
        replacement: Replacement = "scarce",
    ) -> None:
        for name, number in (
            ("num_labels", num_labels),
            ("num_instances", num_instances),
            ("num_batches", num_batches),
        ):
            check_count(number, name, "PKSampler")
        check_choice(replacement, "replacement", "PKSampler", get_args(Replacement))
        labels = torch.from_numpy(check_ids(labels, "labels", "PKSampler"))
        if camids is not None:
            check_same_length("PKSampler", labels=labels, camids=camids)
        rows = torch.nonzero(labels >= 0).flatten()
        if len(rows) == 0:
            raise ReIDError(
                f"none of the {len(labels)} labels is 0 or above, so there is nothing "
                "to draw: every image is an outlier; loosen the clustering"
            )
        order = labels[rows].argsort(stable=True)
        self._rows = rows[order]
        counts = torch.unique_consecutive(labels[self._rows], return_counts=True)[1]
        self._counts = counts
        self._starts = counts.cumsum(0) - counts
        if camids is not None:
            camids = torch.from_numpy(check_ids(camids, "camids", "PKSampler"))
        self._camids = None if camids is None else camids[self._rows]
        self._num_labels = num_labels
        self._num_instances = num_instances
        self._num_batches = num_batches
        self._generator = generator
        self._spare = int(replacement == "published")

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[Tensor]:
        waiting: list[Tensor] = []
        for _ in range(self._num_batches):
            if not waiting:
                waiting = self._one_pass()
            yield self._rows[self._draw(waiting.pop())].flatten()

    def _one_pass(self) -> list[Tensor]:
        """Return the labels of the coming batches, ``(P,)`` each."""
        clusters, size = len(self._counts), self._num_labels
        turns = -(-size // clusters)
        order = torch.cat(
            [torch.randperm(clusters, generator=self._generator) for _ in range(turns)]
        )
        return list(order[: len(order) // size * size].split(size))

    def _draw(self, clusters: Tensor) -> Tensor:
        """Return ``(P, K)`` positions in the rows sorted by label."""
        counts, starts = self._counts[clusters, None], self._starts[clusters, None]
        position = torch.arange(int(counts.max()))  # (M,) within the label
        member = position < counts  # (P, M)
        if self._camids is None:
            return starts + self._choose(member, self._num_instances, spare=0)
        anchor = (self._rand(len(clusters), 1) * counts).long()  # (P, 1)
        camids = self._camids[starts + position.minimum(counts - 1)]
        other_camera = member & (camids != camids.gather(1, anchor))
        other_image = member & (position != anchor)
        pool = torch.where(other_camera.any(1, keepdim=True), other_camera, other_image)
        pool = torch.where(pool.any(1, keepdim=True), pool, member)
        others = self._choose(pool, self._num_instances - 1, self._spare)
        return starts + torch.cat([anchor, others], dim=1)

    def _choose(self, pool: Tensor, number: int, spare: int) -> Tensor:
        """Choose from each row's pool, with replacement below ``number + spare``."""
        size = pool.sum(1, keepdim=True)
        # Each row is shuffled, the members of its pool first. A pool that is too small
        # for a draw without replacement lies entirely in the first `number` places.
        keys = self._rand(*pool.shape).masked_fill(~pool, -1.0)
        order = keys.topk(min(number, pool.shape[1]), dim=1).indices
        repeated = (self._rand(len(pool), number) * size).long()
        place = torch.where(size >= number + spare, torch.arange(number), repeated)
        return order.gather(1, place.clamp(max=max(order.shape[1] - 1, 0)))

    def _rand(self, *shape: int) -> Tensor:
        # A float32 product with a count could round up to the count itself.
        return torch.rand(shape, generator=self._generator, dtype=torch.float64)
