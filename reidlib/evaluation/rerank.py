"""k-reciprocal re-ranking."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from reidlib.checks import Array, check_count, check_feature_pair, check_number
from reidlib.errors import ReIDError
from reidlib.evaluation.distances import squared_euclidean_block

# Elements of a block of distances, and of the numbers gathered for some pairs.
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

    1. ``d`` is the squared Euclidean distance of features of length 1, each row
       divided by its maximum, as the published code does.
    2. ``R(i, k)`` holds the j among the k nearest others of i, and i itself, that have
       i among theirs. To ``R(i, k1)`` the whole of ``R(c, k1 / 2)`` is added for each
       of its members c of which more than two thirds lie in it.
    3. ``v_i`` is ``exp(-d)`` over that set, made to sum to 1, and then the mean of the
       v of the k2 nearest of i, i itself counted.
    4. ``d_jaccard = 1 - S / (2 - S)`` with S the sum of the minima of two v.

    Time is about that of a full search of all images among all; memory is the result
    and some numbers per image. Re-ranking looks at all queries at once: it helps a
    benchmark and does not apply to a single search.

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
    reranker = Reranker(query, gallery, k1, k2, lambda_value)
    size = max(1, _BLOCK // len(gallery))
    return torch.cat([reranker(rows) for rows in torch.arange(len(query)).split(size)])


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
        self.features = torch.nn.functional.normalize(torch.cat([query, gallery]))
        self.num_queries, self.num_gallery = len(query), len(gallery)
        self.lambda_value = lambda_value
        k1 = min(k1, len(self.features) - 1)
        neighbors, self.scale = self._neighbors(k1)
        encoding = self._encode(neighbors, k1, min(k2, k1))
        self.query_codes = encoding[: self.num_queries]
        self.gallery_codes = encoding[self.num_queries :].tocsc()

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the ``(B, G)`` distances of some queries."""
        device = self.features.device
        rows = rows.to(device)
        distance = squared_euclidean_block(
            self.features[rows], self.features[self.num_queries :]
        )
        distance *= self.lambda_value / self.scale[rows, None]
        jaccard = torch.from_numpy(self._jaccard(rows.cpu().numpy()))
        return distance.add_(jaccard.to(device), alpha=1 - self.lambda_value)

    def _neighbors(self, k1: int) -> tuple[np.ndarray, Tensor]:
        """Return ``(N, k1 + 1)`` neighbours, itself first, and each row's maximum."""
        features, index, scale = self.features, [], []
        for rows in torch.arange(len(features), device=features.device).split(
            max(1, _BLOCK // len(features))
        ):
            distance = squared_euclidean_block(features[rows], features)
            # Two images may be copies of each other: the image itself comes first.
            distance[rows - rows[0], rows] = -1
            scale.append(distance.amax(dim=1))
            index.append(distance.topk(k1 + 1, largest=False).indices)
        # Where all features are one, every distance is 0 and stays so.
        return torch.cat(index).cpu().numpy(), torch.cat(scale).clamp(min=1e-12)

    def _encode(self, neighbors: np.ndarray, k1: int, k2: int) -> sp.csr_matrix:
        """Return the ``(N, N)`` rows v."""
        mutual = _mutual(neighbors)
        half = _mutual(neighbors[:, : round(k1 / 2) + 1])
        sizes = half.sum(axis=1).A1
        overlap = (mutual @ half.T).multiply(mutual).tocoo()
        joins = 3 * overlap.data > 2 * sizes[overlap.col]
        shape = mutual.shape
        chosen = sp.csr_matrix(
            (np.ones(joins.sum()), (overlap.row[joins], overlap.col[joins])), shape
        )
        members = (mutual + chosen @ half).tocoo()
        weights = self._weights(members.row, members.col)
        codes = sp.csr_matrix((weights, (members.row, members.col)), shape)
        codes = sp.diags(1 / codes.sum(axis=1).A1) @ codes
        return (_indicator(neighbors[:, :k2]) / k2) @ codes

    def _weights(self, row: np.ndarray, col: np.ndarray) -> np.ndarray:
        """Return ``exp(-d)`` of some pairs."""
        features, weights = self.features, []
        size = max(1, _BLOCK // features.shape[1])
        pairs = torch.from_numpy(np.stack([row, col]).astype(np.int64))
        for i, j in pairs.to(features.device).split(size, dim=1):
            distance = (features[i] - features[j]).square().sum(dim=1)
            weights.append(torch.exp(-distance / self.scale[i]))
        return torch.cat(weights).double().cpu().numpy()

    def _jaccard(self, rows: np.ndarray) -> np.ndarray:
        """Return the ``(B, G)`` Jaccard distance of some queries."""
        codes = self.query_codes[rows].tocoo()
        gallery = self.gallery_codes
        # Every gallery image that has a neighbour in common with a query, by neighbour.
        counts = np.diff(gallery.indptr)[codes.col]
        starts = gallery.indptr[codes.col] - np.concatenate([[0], counts.cumsum()[:-1]])
        place = np.arange(counts.sum()) + np.repeat(starts, counts)
        minima = np.minimum(np.repeat(codes.data, counts), gallery.data[place])
        cell = np.repeat(codes.row.astype(np.int64) * self.num_gallery, counts)
        cell += gallery.indices[place]
        num_cells = len(rows) * self.num_gallery
        shared = np.bincount(cell, weights=minima, minlength=num_cells)
        shared = shared.reshape(len(rows), self.num_gallery)
        return (1 - shared / (2 - shared)).astype(np.float32)


def _indicator(neighbors: np.ndarray) -> sp.csr_matrix:
    """Return the ``(N, N)`` matrix with a 1 for each neighbour."""
    num_images, k = neighbors.shape
    starts = np.arange(0, num_images * k + 1, k)
    ones = np.ones(num_images * k)
    return sp.csr_matrix((ones, neighbors.ravel(), starts), (num_images, num_images))


def _mutual(neighbors: np.ndarray) -> sp.csr_matrix:
    """Return the ``(N, N)`` matrix with a 1 where both are neighbours of the other."""
    forward = _indicator(neighbors)
    return forward.multiply(forward.T).tocsr()
