"""Distances, clusters, and how good they are.

All functions take features ``(N, D)`` or a sparse distance and return pseudo labels:
int64 on the CPU, contiguous from 0, -1 for an outlier.
"""

from reidlib.clustering.agglomerative import agglomerative
from reidlib.clustering.dbscan import dbscan
from reidlib.clustering.infomap import infomap
from reidlib.clustering.jaccard import (
    dense_distance,
    jaccard_distance,
    sharded_jaccard_distance,
)
from reidlib.clustering.kmeans import KMeans, kmeans, kmeans_plus_plus
from reidlib.clustering.quality import (
    ClusterQuality,
    cluster_quality,
    quality_within_cameras,
    sparse_silhouette,
)
from reidlib.clustering.selection import ClusterCurve, cluster_curve
from reidlib.clustering.within_cameras import cluster_within_cameras

__all__ = [
    "ClusterCurve",
    "ClusterQuality",
    "KMeans",
    "agglomerative",
    "cluster_curve",
    "cluster_quality",
    "cluster_within_cameras",
    "dbscan",
    "dense_distance",
    "infomap",
    "jaccard_distance",
    "kmeans",
    "kmeans_plus_plus",
    "quality_within_cameras",
    "sharded_jaccard_distance",
    "sparse_silhouette",
]
