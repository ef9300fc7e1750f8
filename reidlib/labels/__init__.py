"""Pseudo labels: refinement by camera, weights of clusters, smoothing, planted noise.

All functions take and return pseudo labels as `reidlib.clustering` makes them: int64 on
the CPU, contiguous from 0, -1 for an outlier, which the epoch's training leaves out.
Those of `reidlib.labels.smoothing` work on a batch, on any device.
"""

from reidlib.labels.noise import plant_noise
from reidlib.labels.pseudo_labels import OUTLIER, contiguous_labels
from reidlib.labels.refinement import (
    PIVOT_RULES,
    Refinement,
    pivot_scores,
    refine_labels,
    select_pivots,
)
from reidlib.labels.schedules import SCHEDULES, discard_probability
from reidlib.labels.smoothing import (
    ConfusionMatrix,
    descriptor_similarity,
    literal_targets,
    neighbor_agreement,
    neighbor_targets,
    prediction_targets,
    strength_targets,
    uniform_targets,
)
from reidlib.labels.weights import camera_entropy_weights

__all__ = [
    "OUTLIER",
    "PIVOT_RULES",
    "SCHEDULES",
    "ConfusionMatrix",
    "Refinement",
    "camera_entropy_weights",
    "contiguous_labels",
    "descriptor_similarity",
    "discard_probability",
    "literal_targets",
    "neighbor_agreement",
    "neighbor_targets",
    "pivot_scores",
    "plant_noise",
    "prediction_targets",
    "refine_labels",
    "select_pivots",
    "strength_targets",
    "uniform_targets",
]
