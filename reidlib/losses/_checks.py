"""What all losses ask of their input."""

from __future__ import annotations

from torch import Tensor

from reidlib.errors import ReIDError


def check_batch(rows: Tensor, labels: Tensor, num_labels: int | None = None) -> None:
    """Raise unless there is one label for each row, in range.

    Args:
        rows: ``(B, D)``.
        labels: ``(B,)`` int64.
        num_labels: Labels must be below this; None: any label will do.
    """
    if rows.ndim != 2 or labels.ndim != 1 or len(rows) != len(labels) or not len(rows):
        raise ReIDError(
            f"got a batch of shape {tuple(rows.shape)} with labels of shape "
            f"{tuple(labels.shape)}; give (B, D) and (B,) with B > 0"
        )
    if num_labels is None:
        return
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= num_labels:
        raise ReIDError(
            f"labels go from {low} to {high}; they must be in 0 to {num_labels - 1}: "
            "leave outliers (-1) out of the batch"
        )


def check_positive(name: str, value: float) -> None:
    """Raise unless a setting is above 0."""
    if not value > 0:
        raise ReIDError(f"{name} is {value}; it must be positive")
