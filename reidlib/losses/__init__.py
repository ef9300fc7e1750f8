"""Losses: cluster memory and contrast, camera alignment, triplet, smoothing."""

from reidlib.losses.camera import (
    CameraClassifier,
    camera_loss,
    reversal_strength,
    reverse_gradient,
)
from reidlib.losses.info_nce import info_nce
from reidlib.losses.memory import ClusterMemory, cluster_centroids
from reidlib.losses.smoothing import smoothed_cross_entropy
from reidlib.losses.symmetric import (
    SymmetricLosses,
    SymmetricMemory,
    balance_loss,
)
from reidlib.losses.triplet import batch_hard_triplet
from reidlib.losses.weighted import weighted_info_nce

__all__ = [
    "CameraClassifier",
    "ClusterMemory",
    "SymmetricLosses",
    "SymmetricMemory",
    "balance_loss",
    "batch_hard_triplet",
    "camera_loss",
    "cluster_centroids",
    "info_nce",
    "reversal_strength",
    "reverse_gradient",
    "smoothed_cross_entropy",
    "weighted_info_nce",
]
