"""InfoNCE: a query against one positive and many negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import check_batch, check_positive
from reidlib.errors import ReIDError


def info_nce(
    queries: Tensor, keys: Tensor, positives: Tensor, temperature: float = 0.05
) -> Tensor:
    """Return the InfoNCE loss, AFF-E7 (van den Oord et al., 2018).

    ``-log exp(q.k+ / t) / sum_i exp(q.k_i / t)``, the mean over the queries: a
    cross-entropy over cosine logits. The paper prints the temperature outside of the
    exponential, where it would cancel; it belongs inside.

    Args:
        queries: ``(B, D)`` features; their length does not matter.
        keys: ``(K, D)`` candidates, one per class; their length does not matter.
        positives: ``(B,)`` int64 rows of ``keys`` that the queries belong to.
        temperature: Scale of the similarities; smaller is sharper.

    Returns:
        Scalar float32.

    Raises:
        ReIDError: If shapes do not fit, a positive is out of range, or the temperature
            is not positive.

    Example:
        >>> keys = torch.eye(2)
        >>> info_nce(keys, keys, torch.tensor([0, 1]), temperature=1.0)
        tensor(0.3133)
    """
    check_positive("temperature", temperature)
    if keys.ndim != 2 or queries.shape[-1] != keys.shape[-1]:
        raise ReIDError(
            f"queries have shape {tuple(queries.shape)} and keys {tuple(keys.shape)}; "
            "give (B, D) and (K, D) with the same D"
        )
    check_batch(queries, positives, len(keys))
    with torch.autocast(queries.device.type, enabled=False):
        queries = F.normalize(queries.float(), dim=1)
        keys = F.normalize(keys.float(), dim=1)
        logits = queries @ keys.T / temperature  # (B, K) cosine logits
        return F.cross_entropy(logits, positives)
