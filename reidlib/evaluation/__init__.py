"""Distances, re-ranking, and the figures of a ranking."""

from reidlib.evaluation.distances import cosine_distance, squared_euclidean_distance
from reidlib.evaluation.ranking import Evaluation, evaluate, top_matches
from reidlib.evaluation.rerank import k_reciprocal_rerank

__all__ = [
    "Evaluation",
    "cosine_distance",
    "evaluate",
    "k_reciprocal_rerank",
    "squared_euclidean_distance",
    "top_matches",
]
