"""The triplet loss with the hardest positive and negative of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import check_batch
from reidlib.errors import ReIDError


def batch_hard_triplet(
    features: Tensor, labels: Tensor, margin: float | None = 0.3
) -> Tensor:
    """Return the batch-hard triplet loss (Hermans et al., 2017).

    For each anchor the farthest image of its label and the nearest image of another:
    ``max(0, d+ - d- + margin)``, or ``ln(1 + exp(d+ - d-))`` without a margin, with the
    Euclidean distance. The mean is over anchors that have both; if no anchor has, the
    loss is 0.

    Args:
        features: ``(B, D)`` features, raw or L2-normalised.
        labels: ``(B,)`` labels.
        margin: Distance that is wanted between the two; None for the soft margin.

    Returns:
        Scalar float32.

    Raises:
        ReIDError: If shapes do not fit or the margin is negative.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [1.5], [3.0]])
        >>> batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), margin=0.5)
        tensor(0.6250)
    """
    check_batch(features, labels)
    if margin is not None and margin < 0:
        raise ReIDError(f"margin is {margin}; give 0 or more, or None for a soft one")
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        # Differences, not the expanded square: exact for near images.
        distance = torch.cdist(
            features, features, compute_mode="donot_use_mm_for_euclid_dist"
        )
        same = labels[:, None] == labels[None, :]
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = distance.masked_fill(~same | itself, -torch.inf).amax(dim=1)
        negative = distance.masked_fill(same, torch.inf).amin(dim=1)
        valid = positive.isfinite() & negative.isfinite()
        gap = torch.where(valid, positive - negative, 0)
        each = F.softplus(gap) if margin is None else F.relu(gap + margin)
        # A selection, or a branch, would wait for the device to count the anchors.
        return torch.where(valid, each, 0).sum() / valid.sum().clamp(min=1)
