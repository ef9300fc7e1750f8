"""k-reciprocal re-ranking."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reidlib.checks import Array, check_count, check_feature_pair, check_number
from reidlib.errors import ReIDError
from reidlib.evaluation.distances import Distances, Rough, check_all_pairs
from reidlib.neighbors.reciprocal import (
    half_size,
    jaccard_from_overlap,
    overlaps,
    ranking_with_self,
    reciprocal_weights,
    squared_distances,
)
from reidlib.neighbors.search import search_others

# Elements of a block of distances.
_BLOCK = 1 << 22


def k_reciprocal_rerank(
    query_features: Array,
    gallery_features: Array,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Tensor:
    """Return distances after k-reciprocal re-ranking (Zhong et al., CVPR 2017).

    ``(1 - lambda) * d_jaccard + lambda * d``, over queries and gallery together:

    1. ``d`` is the squared Euclidean distance of L2-normalised features, each row
       divided by its maximum, as the published code does.
    2. ``R(i, k)`` holds the j among the k nearest others of i, and i itself, that have
       i among theirs. To ``R(i, k1)`` the whole of ``R(c, k1 / 2)`` is added for each
       of its members c of which more than two thirds lie in it.
    3. ``v_i`` is ``exp(-d)`` over that set, made to sum to 1, and then the mean of the
       v of the k2 nearest of i, i itself counted.
    4. ``d_jaccard = 1 - S / (2 - S)`` with S the sum of the minima of two v.

    Time is about that of a full search of all images among all; memory is the result
    and some numbers per image. Re-ranking looks at all queries at once: it helps a
    benchmark and does not apply to a single search. The steps are functions of
    `reidlib.neighbors`, which `jaccard_distance` uses with other counts.

    Args:
        query_features: ``(Q, D)``; their length does not matter.
        gallery_features: ``(G, D)``; their length does not matter.
        k1: Neighbours that are looked at; above Q + G - 1 it acts as that.
        k2: Neighbours that are averaged over; 1 leaves the average out.
        lambda_value: Weight of the original distance.

    Returns:
        ``(Q, G)`` float32 in [0, 1], on the device of the query features.

    Raises:
        ReIDError: If features do not fit or are not finite, or a setting is out of its
            range.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> k_reciprocal_rerank(features[:1], features[1:], k1=1, k2=1).argsort()
        tensor([[0, 2, 1]])
    """
    query, gallery = check_feature_pair(
        query_features, gallery_features, "k_reciprocal_rerank"
    )
    check_all_pairs(query, gallery, "k_reciprocal_rerank")
    reranker = Reranker(query, gallery, k1, k2, lambda_value)
    size = max(1, _BLOCK // len(gallery))
    rows = torch.arange(len(query)).split(size)
    return torch.cat([reranker.exact(block) for block in rows])


class Reranker:
    """What `k_reciprocal_rerank` prepares once, to give rows of distances."""

    def __init__(
        self, query: Tensor, gallery: Tensor, k1: int, k2: int, lambda_value: float
    ) -> None:
        where = "k_reciprocal_rerank"
        k1, k2 = check_count(k1, "k1", where), check_count(k2, "k2", where)
        if k2 > k1:
            raise ReIDError(f"{where}: k2 is {k2} and k1 is {k1}; give k2 <= k1")
        check_number(lambda_value, "lambda_value", where, 0, 1)
        features = F.normalize(torch.cat([query, gallery]))
        num_queries, k1 = len(query), min(k1, len(features) - 1)
        scale = _largest_distances(features)
        weights = reciprocal_weights(
            features,
            ranking_with_self(features, k1 + 1),
            half_size(k1),
            min(k2, k1),
            scale=scale,
        )
        self.query_weights = weights[:num_queries]
        self.gallery_weights = weights[num_queries:].tocsc()
        self.scale = torch.from_numpy(scale[:num_queries]).to(features)
        self.lambda_value = lambda_value
        self.distances = Distances(
            features[:num_queries], features[num_queries:], "squared_euclidean"
        )

    def _jaccard(self, rows: Tensor) -> Tensor:
        """Return the Jaccard distances of some queries, times their share."""
        overlap = overlaps(self.query_weights[rows.cpu().numpy()], self.gallery_weights)
        jaccard = torch.from_numpy(jaccard_from_overlap(overlap)).to(self.scale.device)
        return jaccard.mul_(1 - self.lambda_value)

    def _mixed(self, distance: Tensor, scale: Tensor, jaccard: Tensor) -> Tensor:
        # Rounding must not push a distance out of the range that its row spans.
        return distance.div_(scale).clamp_(max=1).mul_(self.lambda_value).add_(jaccard)

    def exact(self, rows: Tensor) -> Tensor:
        """Return the ``(B, G)`` distances of some queries."""
        scale = self.scale[rows.to(self.scale.device)][:, None]
        return self._mixed(self.distances.exact(rows), scale, self._jaccard(rows))

    def rough(self, rows: Tensor) -> Rough:
        """Return the distances of some queries in float32, to be repaired."""
        rows = rows.to(self.scale.device)
        rough, jaccard = self.distances.rough(rows), self._jaccard(rows)
        scale = self.scale[rows]

        def exact(places: np.ndarray, cols: np.ndarray) -> Tensor:
            place, col = (torch.from_numpy(i).to(scale.device) for i in (places, cols))
            return self._mixed(
                rough.exact(places, cols), scale[place], jaccard[place, col]
            )

        # The squares of normalised features are 1; and the sum is rounded, too.
        margin = 2 * rough.query_margin * self.lambda_value / scale + 1e-6

        def tile(cols: slice) -> Tensor:
            return self._mixed(rough.tile(cols), scale[:, None], jaccard[:, cols])

        return Rough(tile, margin, torch.zeros_like(rough.gallery_margin), exact)


def _largest_distances(features: Tensor) -> np.ndarray:
    """Return ``(N,)`` the squared distance from each image to the farthest one."""
    farthest = search_others(-features, features, 1)[:, 0].cpu().numpy()
    rows = np.arange(len(features))
    # Where all features are the same, every distance is 0 and stays so.
    return squared_distances(features, rows, farthest).clip(min=1e-12)
