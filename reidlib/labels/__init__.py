"""Pseudo labels: their numbers, their refinement by camera, the weights of clusters.

All functions take and return pseudo labels as `reidlib.clustering` makes them: int64 on
the CPU, contiguous from 0, -1 for an outlier, which the epoch's training leaves out.
"""

from reidlib.labels.pseudo_labels import OUTLIER, contiguous_labels
from reidlib.labels.refinement import (
    PIVOT_RULES,
    Refinement,
    pivot_scores,
    refine_labels,
    select_pivots,
)
from reidlib.labels.schedules import SCHEDULES, discard_probability
from reidlib.labels.weights import camera_entropy_weights

__all__ = [
    "OUTLIER",
    "PIVOT_RULES",
    "SCHEDULES",
    "Refinement",
    "camera_entropy_weights",
    "contiguous_labels",
    "discard_probability",
    "pivot_scores",
    "refine_labels",
    "select_pivots",
]
