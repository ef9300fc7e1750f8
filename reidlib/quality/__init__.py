"""Quality of an image, measured by its features, and what is weighted by it."""

from reidlib.quality.fusion import (
    AlphaWeighs,
    FusionLayer,
    QualityWeight,
    WeightedFusion,
    target_weight,
    weigh,
    weight_loss,
)
from reidlib.quality.identifiability import (
    DEFINITIONS,
    Definition,
    Identifiability,
    ScoreNormalisation,
    identifiability,
    measure_identifiability,
)
from reidlib.quality.perturbations import (
    PERTURBATIONS,
    Family,
    Perturbation,
    perturb,
    perturb_image,
)
from reidlib.quality.pixels import contrast, sharpness

__all__ = [
    "DEFINITIONS",
    "PERTURBATIONS",
    "AlphaWeighs",
    "Definition",
    "Family",
    "FusionLayer",
    "Identifiability",
    "Perturbation",
    "QualityWeight",
    "ScoreNormalisation",
    "WeightedFusion",
    "contrast",
    "identifiability",
    "measure_identifiability",
    "perturb",
    "perturb_image",
    "sharpness",
    "target_weight",
    "weigh",
    "weight_loss",
]
