"""Distances between two sets of features."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import Array, check_feature_pair, check_memory
from reidlib.neighbors.search import full_precision, pair_similarities

# Rows of the gallery that are widened to float64 at a time.
_ROWS = 2048
# Share of the squares of two features that the float32 distance may be off by: some ten
# times what is seen for 2,048 dimensions.
_MARGIN = 2e-6
# Share of the pairs of a block from which on all of them are computed exactly.
_MANY = 1 / 16


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
    return _all_pairs(query, gallery, "cosine")


def _all_pairs(query: Tensor, gallery: Tensor, kind: str) -> Tensor:
    check_all_pairs(query, gallery, f"{kind}_distance")
    return Distances(query, gallery, kind).exact(torch.arange(len(query)))


def check_all_pairs(query: Tensor, gallery: Tensor, where: str) -> None:
    """Raise `ReIDError` if the distances of all pairs do not fit into memory."""
    if query.device.type == "cpu":
        check_memory(
            8 * len(query) * len(gallery),
            f"the distances of {len(query)} x {len(gallery)} images",
            where,
            "give some of the queries at a time",
        )


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
    return _all_pairs(query, gallery, "squared_euclidean")


class Rough(NamedTuple):
    """Distances of some queries in float32, and what is needed to repair them.

    Attributes:
        tile: From a slice of the gallery to the ``(B, C)`` float32 distances of its
            images, each off by less than its margin.
        query_margin: ``(B,)`` float32, the query's part of the margin.
        gallery_margin: ``(G,)`` float32, the gallery image's part of it.
        exact: From places in the block ``(P,)`` and columns ``(P,)`` to exact
            distances ``(P,)``.
    """

    tile: Callable[[slice], Tensor]
    query_margin: Tensor
    gallery_margin: Tensor
    exact: Callable[[np.ndarray, np.ndarray], Tensor]


class Distances:
    """Distances of queries and gallery, some queries at a time.

    Both kinds are ``s_q + s_g - f q.g``: the squares of both and f = 2, or, for the
    cosine of features that are normalised here, 0, 1 and f = 1.

    They are exact, which means that inner products are summed in float64 and rounded:
    a float32 product sums the last rows of a matrix in another order than the others,
    so that copies of an image would differ by rounding, and by their place. A float64
    product takes twice as long, so `rough` gives float32 ones with a margin.
    """

    def __init__(self, query: Tensor, gallery: Tensor, kind: str) -> None:
        if kind == "cosine":
            self.query, self.gallery = F.normalize(query), F.normalize(gallery)
            self.squares = [query.new_zeros(len(query)), gallery.new_ones(len(gallery))]
            self.factor = 1
        else:
            self.query, self.gallery = query, gallery
            self.squares = [x.square().sum(1) for x in (query, gallery)]
            self.factor = 2

    def _of(self, products: Tensor, squares: Tensor) -> Tensor:
        distance = squares.sub_(products, alpha=self.factor)
        return distance if self.factor == 1 else distance.clamp_(min=0)

    def exact(self, rows: Tensor, cols: slice = slice(None)) -> Tensor:
        """Return the ``(B, C)`` distances of some queries to a slice of the gallery."""
        rows = rows.to(self.query.device)
        gallery = self.gallery[cols]
        squares = self.squares[0][rows][:, None] + self.squares[1][cols]
        wide = self.query[rows].double()
        products = torch.empty_like(squares)
        for start in range(0, len(gallery), _ROWS):
            part = slice(start, start + _ROWS)
            products[:, part] = wide @ gallery[part].double().T
        return self._of(products, squares)

    def rough(self, rows: Tensor) -> Rough:
        """Return the distances of some queries in float32, to be repaired."""
        rows = rows.to(self.query.device)
        query, own, other = self.query[rows], self.squares[0][rows], self.squares[1]

        def tile(cols: slice) -> Tensor:
            with full_precision(rows.device):
                part = self.gallery[cols].T
                distance = torch.addmm(other[cols], query, part, alpha=-self.factor)
            if self.factor == 1:  # the cosine: passes over all pairs that change none
                return distance
            return distance.add_(own[:, None]).clamp_(min=0)

        def exact(places: np.ndarray, cols: np.ndarray) -> Tensor:
            first = cols.min(initial=len(self.gallery))
            span = slice(first, cols.max(initial=first) + 1)
            if len(places) > _MANY * len(rows) * (span.stop - first):
                block = self.exact(rows, span)  # a product is faster
                return block[torch.from_numpy(places), torch.from_numpy(cols - first)]
            row = rows.cpu().numpy()[places]
            pairs = pair_similarities(self.query, self.gallery, row, cols)
            squares = [
                part[torch.from_numpy(index).to(part.device)]
                for part, index in zip(self.squares, (row, cols), strict=True)
            ]
            return self._of(torch.from_numpy(pairs).to(own), squares[0] + squares[1])

        return Rough(tile, own * _MARGIN, other * _MARGIN, exact)
