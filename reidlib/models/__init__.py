"""Backbones, pooling, and the network that the recipes share."""

from reidlib.models.appearance import (
    AppearanceBranch,
    FeaturePyramid,
    HierarchicalDecoder,
    LocalAttention,
    stripe_loss,
)
from reidlib.models.attention import (
    AFF,
    ChannelAttention,
    ChannelSpatialAttention,
    SpatialAttention,
    add_attention,
)
from reidlib.models.attributes import (
    AttributeBranch,
    ConvLSTM,
    PyramidAttention,
    attribute_loss,
    head_loss,
)
from reidlib.models.backbones import BACKBONES, IBN, Backbone, build_backbone
from reidlib.models.batch_norm import split_batch_norm, untracked_statistics
from reidlib.models.cost import Cost, network_cost
from reidlib.models.dual_branch import (
    DualBranchNet,
    LocalSoftAttention,
    PartClassifiers,
    branch_predictions,
    split_descriptors,
)
from reidlib.models.fused import (
    Branches,
    FusedNet,
    QualityEncoder,
    denormalise,
)
from reidlib.models.grad_cam import grad_cam
from reidlib.models.pooling import GeM, GlobalAveragePool
from reidlib.models.reid_net import ReIDNet, extract_features

__all__ = [
    "AFF",
    "BACKBONES",
    "IBN",
    "AppearanceBranch",
    "AttributeBranch",
    "Backbone",
    "Branches",
    "ChannelAttention",
    "ChannelSpatialAttention",
    "ConvLSTM",
    "Cost",
    "DualBranchNet",
    "FeaturePyramid",
    "FusedNet",
    "GeM",
    "GlobalAveragePool",
    "HierarchicalDecoder",
    "LocalAttention",
    "LocalSoftAttention",
    "PartClassifiers",
    "PyramidAttention",
    "QualityEncoder",
    "ReIDNet",
    "SpatialAttention",
    "add_attention",
    "attribute_loss",
    "branch_predictions",
    "build_backbone",
    "denormalise",
    "extract_features",
    "grad_cam",
    "head_loss",
    "network_cost",
    "split_batch_norm",
    "split_descriptors",
    "stripe_loss",
    "untracked_statistics",
]
