"""What all losses ask of their input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from reidlib.errors import ReIDError


def check_batch(rows: Tensor, labels: Tensor) -> None:
    """Raise unless there is one label for each row; a look at the shapes alone.

    Args:
        rows: ``(B, D)``.
        labels: ``(B,)``.
    """
    if rows.ndim != 2 or labels.ndim != 1 or len(rows) != len(labels) or not len(rows):
        raise ReIDError(
            f"got a batch of shape {tuple(rows.shape)} with labels of shape "
            f"{tuple(labels.shape)}; give (B, D) and (B,) with B > 0"
        )


def check_labels(labels: Tensor, num_labels: int) -> None:
    """Raise unless all labels are in range; copies two numbers to the host.

    A loss does not call this in each step, because a GPU would have to be waited for.
    Call it once an epoch, on the labels that the batches are drawn from, if they come
    from elsewhere than `cluster_centroids`, which checks its own.

    Args:
        labels: ``(N,)`` int64.
        num_labels: Labels must be from 0 to one less than this.

    Raises:
        ReIDError: If a label is negative or too large.

    Example:
        >>> check_labels(Tensor([0, 2, 1]).long(), 3)
    """
    if not len(labels):
        return
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= num_labels:
        raise ReIDError(
            f"labels go from {low} to {high}; they must be in 0 to {num_labels - 1}: "
            "leave outliers (-1) out of the batch"
        )


@contextmanager
def explain_labels(labels: Tensor, num_labels: int) -> Iterator[None]:
    """Explain PyTorch's error about a label that is out of range, at no cost.

    PyTorch stops at such a label by itself: on the CPU with an `IndexError`, which is
    explained here, on a GPU with a failed assertion.
    """
    try:
        yield
    except IndexError:
        check_labels(labels, num_labels)
        raise


def check_positive(name: str, value: float) -> None:
    """Raise unless a setting is above 0."""
    if not value > 0:
        raise ReIDError(f"{name} is {value}; it must be positive")
