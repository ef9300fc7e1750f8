"""Distances between two sets of features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import Array, check_feature_pair

# Rows of the gallery that are widened to float64 at a time.
_ROWS = 2048


def cosine_distance(query_features: Array, gallery_features: Array) -> Tensor:
    """Return ``1 - cos`` between each query and each gallery feature.

    Args:
        query_features: ``(Q, D)``; their length does not matter.
        gallery_features: ``(G, D)``; their length does not matter.

    Returns:
        ``(Q, G)`` float32 in [0, 2], up to rounding.

    Raises:
        ReIDError: If shapes do not fit or a feature is not finite.

    Example:
        >>> import torch
        >>> cosine_distance(torch.eye(2), torch.tensor([[2.0, 0.0]]))
        tensor([[0.],
                [1.]])
    """
    query, gallery = check_feature_pair(
        query_features, gallery_features, "cosine_distance"
    )
    return cosine_block(F.normalize(query, dim=1), F.normalize(gallery, dim=1))


def squared_euclidean_distance(
    query_features: Array, gallery_features: Array
) -> Tensor:
    """Return the *squared* Euclidean distance between queries and gallery.

    Ranks are those of the Euclidean distance, and for L2-normalised features those of
    the cosine distance too, of which it is twice the value.

    It is computed as ``|q|^2 + |g|^2 - 2 q.g``, and exact to a millionth of
    ``|q|^2 + |g|^2``, not of the distance: that of near copies far from the origin is
    rounding. Subtract a common point, the mean of the gallery for instance, from both
    sets first where that matters. Copies of an image have equal distances in any case.

    Args:
        query_features: ``(Q, D)``.
        gallery_features: ``(G, D)``.

    Returns:
        ``(Q, G)`` float32, not below 0.

    Raises:
        ReIDError: If shapes do not fit or a feature is not finite.

    Example:
        >>> import torch
        >>> squared_euclidean_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        tensor([[25.]])
    """
    query, gallery = check_feature_pair(
        query_features, gallery_features, "squared_euclidean_distance"
    )
    return squared_euclidean_block(query, gallery)


def cosine_block(query: Tensor, gallery: Tensor) -> Tensor:
    """`cosine_distance` of features that are checked and L2-normalised."""
    return _products(query, gallery).neg_().add_(1)


def squared_euclidean_block(query: Tensor, gallery: Tensor) -> Tensor:
    """`squared_euclidean_distance` of features that are checked."""
    squares = query.square().sum(1)[:, None] + gallery.square().sum(1)
    return squares.sub_(_products(query, gallery), alpha=2).clamp_(min=0)


def _products(query: Tensor, gallery: Tensor) -> Tensor:
    """Return ``(Q, G)`` float32 inner products, equal ones for equal features.

    A float32 product sums the last rows of a matrix in another order than the others:
    copies of an image would differ by rounding, and by their place. Rounded from
    float64 they are equal, and do not depend on TF32 or autocast.
    """
    products = query.new_empty((len(query), len(gallery)))
    wide = query.double()
    for start in range(0, len(gallery), _ROWS):
        part = slice(start, start + _ROWS)
        products[:, part] = wide @ gallery[part].double().T
    return products
