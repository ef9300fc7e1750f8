"""Cross-entropy with soft labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import check_batch, explain_classes
from reidlib.errors import ReIDError


def smoothed_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.1
) -> Tensor:
    """Return the cross-entropy with smoothed labels (Szegedy et al., 2016).

    The target is ``(1 - smoothing) * one_hot + smoothing / C``.

    Args:
        logits: ``(B, C)``.
        labels: ``(B,)`` int64 classes in 0 to C - 1.
        smoothing: Share of the target that is spread over all classes, in [0, 1).

    Returns:
        Scalar float32, the mean over the batch.

    Raises:
        ReIDError: If shapes do not fit, or the share is out of range; on the CPU also
            if a label is.

    Example:
        >>> smoothed_cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))
        tensor(1.3863)
    """
    if not 0 <= smoothing < 1:
        raise ReIDError(f"smoothing is {smoothing}; it must be in [0, 1)")
    check_batch(logits, labels)
    with (
        explain_classes(labels, logits.shape[1]),
        torch.autocast(logits.device.type, enabled=False),
    ):
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy between predictions and soft labels (CALS-E6).

    ``-sum_c p_c log softmax(z)_c``, the mean over the rows. The joint loss of CALS is
    the sum of two of these, one for each branch; the four bands of the local branch
    share one mean.

    Args:
        logits: ``(..., C)``.
        targets: Distributions, of the same shape or of one that broadcasts to it.

    Returns:
        Scalar float32.

    Raises:
        ReIDError: If the shapes do not fit.

    Example:
        >>> soft_cross_entropy(torch.zeros(2, 4), torch.full((2, 4), 0.25))
        tensor(1.3863)
    """
    fits = logits.ndim and targets.ndim and logits.shape[-1] == targets.shape[-1]
    try:
        fits = fits and torch.broadcast_shapes(logits.shape, targets.shape)
    except RuntimeError:
        fits = False
    if fits != logits.shape or not logits.numel():
        raise ReIDError(
            f"logits have shape {tuple(logits.shape)} and targets "
            f"{tuple(targets.shape)}; give (..., C) of both"
        )
    with torch.autocast(logits.device.type, enabled=False):
        return -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1).mean()
