"""Soft labels: what a classifier shall predict where a pseudo label may be wrong.

Each function returns ``(B, C)`` distributions, detached, on the device of its input:
``alpha`` 0 gives the hard label. `reidlib.losses.soft_cross_entropy` compares logits
with them.

CALS adds a similarity, a number, to a label, a distribution (CALS-E5), which does not
sum to 1. Three functions read the equation so that it does: `prediction_targets`,
`strength_targets` and `literal_targets`. `ConfusionMatrix` is the mechanism that the
paper's introduction describes, without a formula.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_classes, check_count, check_number
from reidlib.errors import ReIDError


def uniform_targets(labels: Tensor, num_classes: int, alpha: float = 0.1) -> Tensor:
    """Spread a share of each label evenly over all classes (Szegedy et al., 2016).

    ``p = (1 - alpha) y + alpha / C``.

    Args:
        labels: ``(B,)`` int64 classes.
        num_classes: C.
        alpha: Share that is spread, in [0, 1].

    Returns:
        ``(B, C)`` float32, each row sums to 1.

    Raises:
        ReIDError: If alpha is outside [0, 1], or there are no labels.

    Example:
        >>> uniform_targets(torch.tensor([1]), 4, 0.2)
        tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    alpha = _alpha(alpha, "uniform_targets")
    hard = _one_hot(labels, num_classes, "uniform_targets")
    return torch.lerp(hard, torch.full_like(hard, 1 / num_classes), alpha)


def neighbor_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Return how far two feature spaces agree on the neighbours of an image (CALS-D2).

    It is the Jaccard overlap of the two sets: shared neighbours by all neighbours, the
    cross agreement of PPLR (Cho et al., CVPR 2022).

    Args:
        first: ``(N, k)`` int64 row numbers of the neighbours in one space; no row holds
            a number twice.
        second: ``(N, k)`` those in the other.

    Returns:
        ``(N,)`` float32 in [0, 1].

    Raises:
        ReIDError: If the shapes differ.

    Example:
        >>> first, second = torch.tensor([[1, 2, 3]]), torch.tensor([[3, 1, 9]])
        >>> neighbor_agreement(first, second)  # 2 shared of 4
        tensor([0.5000])
    """
    if first.ndim != 2 or first.shape != second.shape or not first.shape[1]:
        raise ReIDError(
            f"neighbor_agreement: neighbours of shape {tuple(first.shape)} and "
            f"{tuple(second.shape)}; give (N, k) of both, with k > 0"
        )
    both = torch.cat([first, second], dim=1).sort(dim=1).values
    shared = (both[:, 1:] == both[:, :-1]).sum(dim=1).float()
    return shared / (2 * first.shape[1] - shared)


def neighbor_targets(
    labels: Tensor,
    agreement: Tensor,
    neighbor_labels: Tensor,
    num_classes: int,
    alpha: float = 1.0,
) -> Tensor:
    """Spread each label over those of its neighbours, where spaces disagree (CALS-D2).

    Dual cross-neighbour label smoothing, of which the paper says one sentence; this is
    our reading. ``p = (1 - w) y + w h`` with ``w = alpha (1 - agreement)``: the label
    counts as much as the global and the local features agree on the neighbours of the
    image, and the rest goes to h, the histogram of the labels of its neighbours in the
    *other* space: local neighbours for the global branch, global ones for the local
    branch.

    Args:
        labels: ``(B,)`` int64 classes.
        agreement: ``(B,)`` from `neighbor_agreement`.
        neighbor_labels: ``(B, k)`` labels of the neighbours in the other space, -1 for
            an outlier, which does not count. If all are outliers the label stays hard.
        num_classes: C.
        alpha: Largest share that is spread, in [0, 1].

    Returns:
        ``(B, C)`` float32, each row sums to 1.

    Raises:
        ReIDError: If alpha is outside [0, 1], or the shapes do not fit.

    Example:
        >>> neighbors = torch.tensor([[0, 0, 1, -1]])
        >>> neighbor_targets(torch.tensor([0]), torch.tensor([0.4]), neighbors, 3)
        tensor([[0.8000, 0.2000, 0.0000]])
    """
    where = "neighbor_targets"
    alpha = _alpha(alpha, where)
    hard = _one_hot(labels, num_classes, where)
    _same_rows(where, labels, agreement=agreement)
    if neighbor_labels.ndim != 2 or len(neighbor_labels) != len(labels):
        raise ReIDError(
            f"{where}: {len(labels)} labels, neighbours of shape "
            f"{tuple(neighbor_labels.shape)}; give (B, k), a row for each image"
        )
    member = (neighbor_labels >= 0).float()
    counts = torch.zeros_like(hard).scatter_add_(1, neighbor_labels.clamp(0), member)
    known = member.sum(dim=1, keepdim=True)
    histogram = torch.where(known > 0, counts / known.clamp(min=1), hard)
    return torch.lerp(hard, histogram, alpha * (1 - agreement.float())[:, None])


def prediction_targets(
    labels: Tensor,
    global_predictions: Tensor,
    local_predictions: Tensor,
    alpha: float = 0.1,
) -> Tensor:
    """Mix each label with what the two branches predict, CALS-E5 as distributions.

    ``p = (1 - alpha) y + alpha s`` where s is the mean of the predictions that the
    classifiers make from the global and from the local descriptors. The equation holds
    as it is printed, with a distribution in the place of the number s.

    Args:
        labels: ``(B,)`` int64 classes.
        global_predictions: ``(B, C)`` softmax of the global branch.
        local_predictions: ``(B, C)`` softmax of the local branch.
        alpha: Share of the predictions, in [0, 1].

    Returns:
        ``(B, C)`` float32, each row sums to 1.

    Raises:
        ReIDError: If alpha is outside [0, 1], or the shapes do not fit.

    Example:
        >>> of_global, of_local = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.2, 0.8]])
        >>> prediction_targets(torch.tensor([0]), of_global, of_local, 0.5)
        tensor([[0.7000, 0.3000]])
    """
    where = "prediction_targets"
    alpha = _alpha(alpha, where)
    hard = _one_hot(labels, global_predictions.shape[-1], where)
    _same_shape(where, hard, global_predictions, "predictions")
    _same_shape(where, hard, local_predictions, "predictions")
    mean = (global_predictions.detach().float() + local_predictions.detach()) / 2
    return torch.lerp(hard, mean, alpha)


def descriptor_similarity(global_features: Tensor, local_features: Tensor) -> Tensor:
    """Return the similarity ``s(l_i, g)`` of local descriptors and the global one.

    It is their cosine (CALS-E5 names no measure), the mean over the bands. A descriptor
    of length 0 has no direction and a cosine of 0.

    Args:
        global_features: ``(B, D)``.
        local_features: ``(B, bands, D)``.

    Returns:
        ``(B,)`` float32 in [-1, 1], detached.

    Raises:
        ReIDError: If the shapes do not fit.

    Example:
        >>> descriptor_similarity(torch.tensor([[1.0, 0.0]]), torch.eye(2)[None])
        tensor([0.5000])
    """
    rows, bands = global_features, local_features
    fits = bands.ndim == 3 and rows.shape == (bands.shape[0], bands.shape[2])
    if not fits or not bands.shape[1]:
        raise ReIDError(
            f"descriptor_similarity: global features of shape {tuple(rows.shape)} and "
            f"local ones of {tuple(bands.shape)}; give (B, D) and (B, bands, D)"
        )
    one = F.normalize(rows.detach().float(), dim=-1)
    each = F.normalize(bands.detach().float(), dim=-1)
    return (each @ one[:, :, None]).squeeze(-1).mean(dim=1)


def strength_targets(
    labels: Tensor, similarity: Tensor, num_classes: int, alpha: float = 0.1
) -> Tensor:
    """Smooth evenly, less where the descriptors agree: CALS-E5 with s as a strength.

    ``p = (1 - w) y + w / C`` with ``w = alpha (1 - s)`` and s in [0, 1]: a similarity
    below 0 counts as 0.

    Args:
        labels: ``(B,)`` int64 classes.
        similarity: ``(B,)`` s, from `descriptor_similarity`.
        num_classes: C.
        alpha: Largest share that is spread, in [0, 1].

    Returns:
        ``(B, C)`` float32, each row sums to 1.

    Raises:
        ReIDError: If alpha is outside [0, 1], or the shapes do not fit.

    Example:
        >>> strength_targets(torch.tensor([0]), torch.tensor([0.5]), 4, 0.4)
        tensor([[0.8500, 0.0500, 0.0500, 0.0500]])
    """
    where = "strength_targets"
    alpha = _alpha(alpha, where)
    hard = _one_hot(labels, num_classes, where)
    _same_rows(where, labels, similarity=similarity)
    share = alpha * (1 - similarity.float().clamp(0, 1))[:, None]
    return torch.lerp(hard, torch.full_like(hard, 1 / num_classes), share)


def literal_targets(
    labels: Tensor, similarity: Tensor, num_classes: int, alpha: float = 0.1
) -> Tensor:
    """Add the similarity to every class, clip and renormalise: CALS-E5 to the letter.

    ``(1 - alpha) y + alpha s`` with a number s has the same s in each class. Entries
    below 0 become 0 and the rest is divided by its sum. The smoothing thus grows with
    the similarity and with the number of classes, and a similarity below 0 leaves the
    label hard.

    Args:
        labels: ``(B,)`` int64 classes.
        similarity: ``(B,)`` s, from `descriptor_similarity`.
        num_classes: C.
        alpha: Weight of the similarity, in [0, 1].

    Returns:
        ``(B, C)`` float32, each row sums to 1.

    Raises:
        ReIDError: If alpha is outside [0, 1], or the shapes do not fit.

    Example:
        >>> literal_targets(torch.tensor([0]), torch.tensor([1.0]), 4, 0.2)
        tensor([[0.6250, 0.1250, 0.1250, 0.1250]])
    """
    where = "literal_targets"
    alpha = _alpha(alpha, where)
    hard = _one_hot(labels, num_classes, where)
    _same_rows(where, labels, similarity=similarity)
    mixed = ((1 - alpha) * hard + alpha * similarity.float()[:, None]).clamp(min=0)
    total = mixed.sum(dim=1, keepdim=True)
    # Nothing is left where s <= 0 and alpha is near 1; the label was hard up to there.
    return torch.where(total > 0, mixed / total.clamp(min=1e-12), hard)


class ConfusionMatrix(nn.Module):
    """What a classifier takes each class for, and labels smoothed by it (CALS-D3).

    The predictions of an epoch are counted, and the targets of the next one use them:
    ``p = (1 - w) y + w q`` with ``w = alpha e``, where e is the error rate of the class
    and q the classes that it was taken for, in the shares of these errors. The paper's
    introduction describes the mechanism without a formula; this is our reading. In the
    first epoch, and for a class without an error, labels are hard.

    Args:
        num_classes: C.

    Attributes:
        counts: ``(C, C)`` float32, the last complete epoch: label by prediction.

    Raises:
        ReIDError: If C is below 1.

    Example:
        >>> matrix = ConfusionMatrix(3)
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 2])
        >>> matrix.update(torch.tensor([0, 0, 1, 2, 1, 2]), labels)
        >>> matrix.end_epoch()
        >>> matrix.targets(torch.tensor([0, 1]), 0.4)
        tensor([[0.8000, 0.1000, 0.1000],
                [0.0000, 1.0000, 0.0000]])
    """

    counts: Tensor
    running: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ReIDError(f"num_classes is {num_classes}; give 1 or more")
        for name in ("counts", "running"):
            self.register_buffer(name, torch.zeros(num_classes, num_classes))

    @torch.no_grad()
    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count predictions.

        Args:
            predicted: ``(B,)`` int64 classes with the highest logits.
            labels: ``(B,)`` int64 classes.

        Raises:
            ReIDError: If they are not of this type; on the CPU also if one is out of
                range.
        """
        where = "ConfusionMatrix.update"
        _check_labels(where, labels)
        hard = _one_hot(predicted, len(self.running), where)
        with _told_range(where, labels, len(self.running)):
            self.running.index_add_(0, labels, hard)

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Use what was counted from now on, and count anew."""
        self.counts.copy_(self.running)
        self.running.zero_()

    @torch.no_grad()
    def targets(self, labels: Tensor, alpha: float = 0.1) -> Tensor:
        """Return ``(B, C)`` float32 distributions for ``(B,)`` labels.

        Args:
            labels: ``(B,)`` int64 classes.
            alpha: Share that a class with errors alone would lose, in [0, 1].

        Raises:
            ReIDError: If alpha is outside [0, 1].
        """
        where = "ConfusionMatrix.targets"
        alpha = _alpha(alpha, where)
        hard = _one_hot(labels, len(self.counts), where)
        seen = self.counts[labels]
        wrong = seen * (1 - hard)
        errors = wrong.sum(dim=1, keepdim=True)
        rate = errors / seen.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.lerp(hard, wrong / errors.clamp(min=1), alpha * rate)


def _one_hot(labels: Tensor, num_classes: int, where: str) -> Tensor:
    """Return the ``(B, C)`` hard labels, or say what is wrong with the labels."""
    check_count(num_classes, "num_classes", where)
    _check_labels(where, labels)
    hard = torch.zeros(len(labels), num_classes, device=labels.device)
    with _told_range(where, labels, num_classes):
        return hard.scatter_(1, labels[:, None], 1.0)


def _check_labels(where: str, labels: Tensor) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise ReIDError(f"{where}: labels are {kind}; give a tensor of torch.int64")
    if labels.ndim != 1 or not len(labels):
        raise ReIDError(
            f"{where}: labels have shape {tuple(labels.shape)}; give (B,) with B > 0"
        )


@contextmanager
def _told_range(where: str, labels: Tensor, num_classes: int) -> Iterator[None]:
    """Explain a label that is out of range, which torch meets on the CPU."""
    try:
        yield
    except (RuntimeError, IndexError) as error:
        try:
            check_classes(labels, num_classes)
        except ReIDError as told:
            raise ReIDError(f"{where}: {told}") from error
        raise


def _alpha(alpha: float, where: str) -> float:
    return check_number(alpha, "alpha", where, 0, 1)


def _same_rows(where: str, labels: Tensor, **columns: Tensor) -> None:
    """Raise unless there is one number of each column for each label."""
    for name, column in columns.items():
        if not isinstance(column, Tensor) or column.shape != labels.shape:
            shape = tuple(getattr(column, "shape", ())) or type(column).__name__
            raise ReIDError(
                f"{where}: labels {tuple(labels.shape)}, {name} {shape}; give a tensor "
                "of one number for each image"
            )


def _same_shape(where: str, hard: Tensor, other: Tensor, name: str) -> None:
    if other.shape != hard.shape:
        raise ReIDError(
            f"{where}: {name} have shape {tuple(other.shape)} for "
            f"{tuple(hard.shape)} labels and classes; give (B, C)"
        )
