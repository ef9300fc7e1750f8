"""InfoNCE: a query against one positive and many negatives."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import check_batch, check_positive, explain_classes
from reidlib.errors import ReIDError

Normalise = Literal["batch", "weights"]


def cosine_logits(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return the cosine of each query and each key, divided by the temperature.

    The logits of `info_nce`, in float32, also under autocast.

    Args:
        queries: ``(B, D)`` features; they are L2-normalised here.
        keys: ``(K, D)`` candidates; they are L2-normalised here.
        temperature: Scale of the similarities; smaller is sharper.

    Returns:
        ``(B, K)`` float32.

    Raises:
        ReIDError: If shapes do not fit, or the temperature is not positive.

    Example:
        >>> cosine_logits(torch.eye(2), torch.eye(2), temperature=0.5)
        tensor([[2., 0.],
                [0., 2.]])
    """
    check_positive("temperature", temperature)
    if keys.ndim != 2 or queries.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise ReIDError(
            f"queries have shape {tuple(queries.shape)} and keys {tuple(keys.shape)}; "
            "give (B, D) and (K, D) with the same D"
        )
    with torch.autocast(queries.device.type, enabled=False):
        queries = F.normalize(queries.float(), dim=1)
        keys = F.normalize(keys.float(), dim=1)
        return queries @ keys.T / temperature


def info_nce(
    queries: Tensor,
    keys: Tensor,
    positives: Tensor,
    temperature: float = 0.05,
    weights: Tensor | None = None,
    normalise: Normalise = "batch",
) -> Tensor:
    """Return the InfoNCE loss, AFF-E7; with weights the loss of CALR-E6.

    ``-log exp(q.k+ / t) / sum_i exp(q.k_i / t)``, the mean over the queries: a
    cross-entropy over cosine logits (van den Oord et al., 2018). AFF_SCL prints the
    temperature outside of the exponential, where it would cancel; it belongs inside.

    With weights each query's term is multiplied by the weight of its positive. A key of
    weight 0 still is a negative of all other queries.

    Args:
        queries: ``(B, D)`` features; they are L2-normalised here.
        keys: ``(K, D)`` candidates, one per class; they are L2-normalised here.
        positives: ``(B,)`` int64 rows of ``keys`` that the queries belong to.
        temperature: Scale of the similarities; smaller is sharper.
        weights: ``(K,)`` weight of each key, 0 or more; None: all are 1. The values are
            not checked here, because a GPU would have to be waited for;
            `ClusterMemory` checks its own once.
        normalise: What the weighted sum is divided by: ``"batch"``, the number of
            queries, so that a batch of light clusters makes a small step (CALR-E6 as
            printed); ``"weights"``, the sum of the weights, as in CALR's published
            code, where only their ratios matter.

    Returns:
        Scalar float32; 0, with a gradient of 0, where all weights of a batch are 0.

    Raises:
        ReIDError: If shapes do not fit, or a setting is out of its range; on the CPU
            also if a positive is. A GPU stops with a failed assertion of PyTorch.

    Example:
        >>> keys, positives = torch.eye(2), torch.tensor([0, 1])
        >>> info_nce(keys, keys, positives, temperature=1.0)
        tensor(0.3133)
        >>> info_nce(keys, keys, positives, 1.0, weights=torch.tensor([1.0, 0.0]))
        tensor(0.1566)
    """
    if normalise not in get_args(Normalise):
        raise ReIDError(
            f"normalise is {normalise!r}; choose from {', '.join(get_args(Normalise))}"
        )
    if weights is not None and weights.shape != keys.shape[:1]:
        raise ReIDError(
            f"weights have shape {tuple(weights.shape)} for {len(keys)} keys; give one "
            "weight per key"
        )
    logits = cosine_logits(queries, keys, temperature)  # (B, K)
    check_batch(queries, positives)
    with explain_classes(positives, len(keys)):
        if weights is None:
            return F.cross_entropy(logits, positives)
        loss = F.cross_entropy(logits, positives, reduction="none")  # (B,)
        weight = weights.to(loss)[positives]
    total = (weight * loss).sum()
    if normalise == "batch":
        return total / len(loss)
    # Where all are 0 the sum is 0 as well, and 0 / tiny stays 0.
    return total / weight.sum().clamp(min=torch.finfo(loss.dtype).tiny)
