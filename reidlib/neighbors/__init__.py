"""Neighbours: exact search, and the k-reciprocal sets that are built on it.

The clustering distance and re-ranking share this package; a faster search or a faster
k-reciprocal core replaces its functions here, and both users have it.
"""

from reidlib.neighbors.reciprocal import (
    expanded_sets,
    half_size,
    jaccard_from_overlap,
    overlaps,
    ranking_with_self,
    reciprocal_weights,
    sparse_jaccard,
    squared_distances,
)
from reidlib.neighbors.search import nearest_neighbors, search_recall

__all__ = [
    "expanded_sets",
    "half_size",
    "jaccard_from_overlap",
    "nearest_neighbors",
    "overlaps",
    "ranking_with_self",
    "reciprocal_weights",
    "search_recall",
    "sparse_jaccard",
    "squared_distances",
]
