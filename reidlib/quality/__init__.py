"""Quality of an image, measured by its features, and what is weighted by it."""

from reidlib.quality.fusion import (
    AlphaWeighs,
    FusionLayer,
    QualityWeight,
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
    "identifiability",
    "measure_identifiability",
    "perturb",
    "perturb_image",
    "target_weight",
    "weigh",
    "weight_loss",
]
