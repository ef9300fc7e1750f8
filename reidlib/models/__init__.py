"""Backbones, pooling, and the network that the recipes share."""

from reidlib.models.aff_net import AFFNet
from reidlib.models.attention import AFF, CAM, CASAM
from reidlib.models.backbones import BACKBONES, IBN, Backbone, build_backbone
from reidlib.models.batch_norm import split_batch_norm
from reidlib.models.cost import Cost, network_cost
from reidlib.models.pooling import GeM, GlobalAveragePool
from reidlib.models.reid_net import ReIDNet, extract_features

__all__ = [
    "AFF",
    "BACKBONES",
    "CAM",
    "CASAM",
    "IBN",
    "AFFNet",
    "Backbone",
    "Cost",
    "GeM",
    "GlobalAveragePool",
    "ReIDNet",
    "build_backbone",
    "extract_features",
    "network_cost",
    "split_batch_norm",
]
