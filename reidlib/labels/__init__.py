"""Pseudo labels made better: refined by camera, and weighted by how cameras mix.

All functions take and return pseudo labels as `reidlib.clustering` makes them: int64 on
the CPU, contiguous from 0, -1 for an image that sits the epoch out.
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
