"""Losses: cluster memory and contrast, camera alignment, triplet, smoothing."""

from reidlib.checks import check_classes
from reidlib.losses.camera import (
    CameraClassifier,
    camera_loss,
    reversal_strength,
    reverse_gradient,
)
from reidlib.losses.info_nce import cosine_logits, info_nce
from reidlib.losses.memory import (
    ClusterMemory,
    class_means,
    cluster_centroids,
    hardest_instances,
)
from reidlib.losses.smoothing import smoothed_cross_entropy, soft_cross_entropy
from reidlib.losses.symmetric import (
    SymmetricLosses,
    SymmetricMemory,
    balance_loss,
)
from reidlib.losses.triplet import batch_hard_triplet

__all__ = [
    "CameraClassifier",
    "ClusterMemory",
    "SymmetricLosses",
    "SymmetricMemory",
    "balance_loss",
    "batch_hard_triplet",
    "camera_loss",
    "check_classes",
    "class_means",
    "cluster_centroids",
    "cosine_logits",
    "hardest_instances",
    "info_nce",
    "reversal_strength",
    "reverse_gradient",
    "smoothed_cross_entropy",
    "soft_cross_entropy",
]
