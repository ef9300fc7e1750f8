"""Losses: cluster memory and contrast, triplet, smoothed cross-entropy."""

from reidlib.losses.info_nce import info_nce
from reidlib.losses.memory import ClusterMemory, cluster_centroids
from reidlib.losses.smoothing import smoothed_cross_entropy
from reidlib.losses.triplet import batch_hard_triplet

__all__ = [
    "ClusterMemory",
    "batch_hard_triplet",
    "cluster_centroids",
    "info_nce",
    "smoothed_cross_entropy",
]
