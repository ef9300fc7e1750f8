"""Distances, re-ranking, the scores of a ranking, and thresholds of a distance."""

from reidlib.evaluation.attributes import AttributeScores, score_attributes
from reidlib.evaluation.boxes import box_average_precision, box_overlaps
from reidlib.evaluation.calibration import (
    CameraRates,
    CameraThresholds,
    camera_thresholds,
    rates_by_cameras,
)
from reidlib.evaluation.distances import cosine_distance, squared_euclidean_distance
from reidlib.evaluation.failure import Auroc, auroc
from reidlib.evaluation.intervals import MatchRates, match_rates
from reidlib.evaluation.open_set import (
    Alarms,
    expected_alarms,
    identification,
    take_people_out,
)
from reidlib.evaluation.pairs import Pairs, pair_distances
from reidlib.evaluation.ranking import (
    Evaluation,
    evaluate,
    nearest_features,
    top_matches,
)
from reidlib.evaluation.reliability import Reliability, reliability
from reidlib.evaluation.rerank import k_reciprocal_rerank
from reidlib.evaluation.thresholds import TradeOff, trade_off

__all__ = [
    "Alarms",
    "AttributeScores",
    "Auroc",
    "CameraRates",
    "CameraThresholds",
    "Evaluation",
    "MatchRates",
    "Pairs",
    "Reliability",
    "TradeOff",
    "auroc",
    "box_average_precision",
    "box_overlaps",
    "camera_thresholds",
    "cosine_distance",
    "evaluate",
    "expected_alarms",
    "identification",
    "k_reciprocal_rerank",
    "match_rates",
    "nearest_features",
    "pair_distances",
    "rates_by_cameras",
    "reliability",
    "score_attributes",
    "squared_euclidean_distance",
    "take_people_out",
    "top_matches",
    "trade_off",
]
