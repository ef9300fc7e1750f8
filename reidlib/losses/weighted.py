"""InfoNCE in which each query has a weight."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import check_batch, check_positive
from reidlib.errors import ReIDError


def weighted_info_nce(
    queries: Tensor,
    keys: Tensor,
    positives: Tensor,
    weights: Tensor,
    temperature: float = 0.05,
    normalise: Literal["batch", "weights"] = "batch",
) -> Tensor:
    """Return the InfoNCE loss with a weight for each key's queries (CALR-E6).

    ``-w log exp(q.k+ / t) / sum_i exp(q.k_i / t)``, where w is the weight of the
    positive. Keys of weight 0 still are negatives of all other queries.

    Args:
        queries: ``(B, D)`` features; their length does not matter.
        keys: ``(K, D)`` candidates, one per class; their length does not matter.
        positives: ``(B,)`` int64 rows of ``keys`` that the queries belong to.
        weights: ``(K,)`` weight of each key, 0 or more.
        temperature: Scale of the similarities.
        normalise: What the sum over the batch is divided by: ``"batch"``, its size, so
            that E6 is taken as printed and a batch of light clusters makes a small
            step; ``"weights"``, the sum of the weights, as in the published code, where
            only their ratios matter.

    Returns:
        Scalar float32; 0, with a gradient of 0, where all weights of a batch are 0.

    Raises:
        ReIDError: If shapes do not fit, a weight is negative or not finite, or a
            setting is out of its range.

    Example:
        >>> keys, positives = torch.eye(2), torch.tensor([0, 1])
        >>> weighted_info_nce(keys, keys, positives, torch.tensor([1.0, 0.0]), 1.0)
        tensor(0.1566)
    """
    check_positive("temperature", temperature)
    if normalise not in ("batch", "weights"):
        raise ReIDError(f"normalise is {normalise!r}; choose from batch, weights")
    if keys.ndim != 2 or queries.shape[-1] != keys.shape[-1]:
        raise ReIDError(
            f"queries have shape {tuple(queries.shape)} and keys {tuple(keys.shape)}; "
            "give (B, D) and (K, D) with the same D"
        )
    check_batch(queries, positives, len(keys))
    if weights.shape != (len(keys),):
        raise ReIDError(
            f"weights have shape {tuple(weights.shape)} for {len(keys)} keys; give one "
            "weight per key"
        )
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ReIDError("a weight is negative or not finite; weights are 0 or more")
    with torch.autocast(queries.device.type, enabled=False):
        queries = F.normalize(queries.float(), dim=1)
        keys = F.normalize(keys.float(), dim=1)
        logits = queries @ keys.T / temperature  # (B, K) cosine logits
        loss = F.cross_entropy(logits, positives, reduction="none")  # (B,)
        weight = weights.to(loss)[positives]
        total = (weight * loss).sum()
        if normalise == "batch":
            return total / len(loss)
        # Where all are 0 the sum is 0 as well, and 0 / tiny stays 0.
        return total / weight.sum().clamp(min=torch.finfo(loss.dtype).tiny)
