"""How good clusters are: against identity, and against camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from reidlib.checks import (
    Array,
    check_camids,
    check_ids,
    check_labels,
    check_same_length,
)
from reidlib.clustering.jaccard import check_sparse_distance
from reidlib.data.table import DISTRACTOR, NO_CAMERA
from reidlib.errors import ReIDError
from reidlib.labels.pseudo_labels import OUTLIER

NAN = float("nan")


@dataclass(frozen=True)
class ClusterQuality:
    """Health of one set of pseudo labels (CALR-F4), all but the first two in [0, 1].

    Figures about the content of clusters (precision, purity, expansion, NMI, ARI) are
    taken over the clustered images; recall is taken over all images, and an outlier is
    found together with itself alone. A figure that is not defined is NaN: identity
    figures without a known identity, precision without a cluster (or without a pair in
    one), recall of pairs without two images of one identity, a harmonic mean of what is
    not defined, NMI and ARI with fewer than two identities or cameras among the
    clustered images.

    Attributes:
        clusters: Number of clusters.
        expansion: Mean number of clusters over which an identity is spread, 1 at best.
        outlier_share: Share of all images that are in no cluster.
        pairwise_precision: Share of the pairs in one cluster that are of one identity.
        pairwise_recall: Share of the pairs of one identity that are in one cluster.
        pairwise_f: Harmonic mean of the two.
        bcubed_precision: Mean over clustered images of the share of the own cluster
            that has the own identity.
        bcubed_recall: Mean over images of the share of the own identity that is in the
            own cluster, the image itself counted.
        bcubed_f: Harmonic mean of the two.
        purity: Share of the clustered images that have the most frequent identity of
            their cluster.
        nmi_pid: Normalised mutual information (arithmetic mean) with identity.
        ari_pid: Adjusted Rand index with identity; 0 is chance, may be negative.
        nmi_cam: Normalised mutual information with camera: how strongly clusters
            follow cameras.
        ari_cam: Adjusted Rand index with camera.
    """

    clusters: int
    expansion: float
    outlier_share: float
    pairwise_precision: float
    pairwise_recall: float
    pairwise_f: float
    bcubed_precision: float
    bcubed_recall: float
    bcubed_f: float
    purity: float
    nmi_pid: float
    ari_pid: float
    nmi_cam: float
    ari_cam: float


def cluster_quality(pseudo_labels: Array, pids: Array, camids: Array) -> ClusterQuality:
    """Compare pseudo labels with identities and with cameras (CALR-F4).

    Junk, distractors and images of unknown identity are left out of the figures about
    identity, images without a camera of those about cameras. Works on counts of
    (cluster, identity), never on pairs.

    Args:
        pseudo_labels: ``(N,)`` integers, -1 for an outlier.
        pids: ``(N,)`` person ids; those up to 0 are of no known person.
        camids: ``(N,)`` camera ids; those below 0 are no camera.

    Returns:
        The figures; `ClusterQuality` says how each counts outliers.

    Raises:
        ReIDError: If the three differ in length, are empty, or are no whole numbers.

    Example:
        >>> pseudo_labels = np.array([0, 0, 0, 1, -1])
        >>> pids, camids = np.array([1, 1, 2, 2, 2]), np.array([0, 1, 0, 1, 0])
        >>> quality = cluster_quality(pseudo_labels, pids, camids)
        >>> quality.clusters, quality.outlier_share, quality.purity
        (2, 0.2, 0.75)
    """
    where = "cluster_quality"
    labels, persons = check_labels(pseudo_labels, where), check_ids(pids, "pids", where)
    cameras = check_ids(camids, "camids", where)
    check_same_length(where, pseudo_labels=labels, pids=persons, camids=cameras)
    if len(labels) == 0:
        raise ReIDError(f"{where}: there are 0 images; give at least one")
    clustered = labels != OUTLIER
    known = persons > DISTRACTOR
    seen = clustered & (cameras > NO_CAMERA)
    nmi_pid, ari_pid = _agreement(labels, persons, clustered & known)
    nmi_cam, ari_cam = _agreement(labels, cameras, seen)
    return ClusterQuality(
        clusters=len(np.unique(labels[clustered])),
        outlier_share=float((~clustered).mean()),
        nmi_pid=nmi_pid,
        ari_pid=ari_pid,
        nmi_cam=nmi_cam,
        ari_cam=ari_cam,
        **_against_identity(labels[known], persons[known]),
    )


def quality_within_cameras(
    pseudo_labels: Array, pids: Array, camids: Array
) -> ClusterQuality:
    """Compare clusters with identities, counting pairs of one camera only (CALR-F4).

    A person counts as another person in each camera, and a cluster as another cluster.
    Local clusters are made inside one camera and say nothing about pairs across
    cameras: this is the fair comparison of global clusters with them.

    Args:
        pseudo_labels: ``(N,)`` local or global clusters, -1 for an outlier.
        pids: ``(N,)`` person ids; those up to 0 are of no known person.
        camids: ``(N,)`` camera ids from 0.

    Returns:
        The figures of `cluster_quality`; `clusters` counts each cluster once in each
        camera that it has images of.

    Raises:
        ReIDError: If the columns differ in length, or a camera is unknown.

    Example:
        >>> clusters, pids = np.array([0, 0, 0, 0]), np.array([1, 1, 2, 2])
        >>> quality_within_cameras(clusters, pids, np.array([0, 0, 1, 1])).purity
        1.0
    """
    where = "quality_within_cameras"
    labels, persons = check_labels(pseudo_labels, where), check_ids(pids, "pids", where)
    cameras = check_camids(camids, where)
    check_same_length(where, pseudo_labels=labels, pids=persons, camids=cameras)
    # By rank: the product of a long id and a long camera number would overflow.
    ranks = (np.unique(column, return_inverse=True)[1] for column in (labels, persons))
    label, person = (rank.astype(np.int64) for rank in ranks)
    kinds, place = np.unique(cameras, return_inverse=True)
    num_cams = max(len(kinds), 1)
    return cluster_quality(
        np.where(labels < 0, labels, label * num_cams + place),
        np.where(persons > DISTRACTOR, (person + 1) * num_cams + place, persons),
        cameras,
    )


def sparse_silhouette(distance: sp.csr_matrix, pseudo_labels: Array) -> float:
    """Return the mean silhouette of clusters on a sparse distance (Rousseeuw, 1987).

    ``(b - a) / max(a, b)`` of an image: a is its mean distance to the others of its
    cluster, b the least of its mean distances to another cluster; 0 for an image that
    is alone in its cluster. Only stored distances are looked at, as all others are 1.

    Args:
        distance: ``(N, N)`` as `jaccard_distance` returns it: an absent entry is 1.
        pseudo_labels: ``(N,)`` clusters from 0, no outliers.

    Returns:
        The mean, in [-1, 1].

    Raises:
        ReIDError: If distance and labels do not fit, an image is an outlier, or there
            are not from 2 to N - 1 clusters.

    Example:
        >>> distance = sp.csr_matrix(np.float32([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]]))
        >>> round(sparse_silhouette(distance, np.array([0, 0, 1])), 4)
        0.3333
    """
    where = "sparse_silhouette"
    matrix = check_sparse_distance(distance, where).tocoo()
    labels = check_labels(pseudo_labels, where)
    check_same_length(where, distance=np.empty(matrix.shape[0]), pseudo_labels=labels)
    _, labels = np.unique(labels, return_inverse=True)
    sizes = np.bincount(labels)
    if (np.asarray(pseudo_labels) < 0).any() or not 1 < len(sizes) < len(labels):
        raise ReIDError(
            f"{where}: there are {len(sizes)} clusters of {len(labels)} images; a "
            "silhouette needs two clusters, one of two images, and no outliers"
        )
    off = matrix.row != matrix.col
    row, label = matrix.row[off], labels[matrix.col[off]]
    # (N, K) how much nearer than 1 the images of each cluster are, together
    nearness = sp.csr_matrix(
        (1 - matrix.data[off].astype(np.float64), (row, label)),
        shape=(len(labels), len(sizes)),
    ).tocoo()
    own = nearness.col == labels[nearness.row]
    mean = nearness.data / (sizes[nearness.col] - own)
    inner, outer = np.ones(len(labels)), np.ones(len(labels))
    inner[nearness.row[own]] -= mean[own]
    np.minimum.at(outer, nearness.row[~own], 1 - mean[~own])
    alone = sizes[labels] == 1
    larger = np.maximum(np.maximum(inner, outer), np.finfo(float).tiny)
    return float(np.where(alone, 0, (outer - inner) / larger).mean())


def _against_identity(labels: np.ndarray, pids: np.ndarray) -> dict[str, float]:
    """Return the figures that come from counts of (cluster, identity)."""
    clustered = labels != OUTLIER
    _, person, person_sizes = np.unique(pids, return_inverse=True, return_counts=True)
    _, cluster, cluster_sizes = np.unique(
        labels[clustered], return_inverse=True, return_counts=True
    )
    counts = sp.coo_matrix(
        (np.ones(len(cluster), dtype=np.int64), (cluster, person[clustered])),
        shape=(len(cluster_sizes), len(person_sizes)),
    ).tocsr()
    cells = counts.tocoo()
    n = cells.data.astype(np.float64)  # images of one identity in one cluster
    num_clustered = int(clustered.sum())

    pairs_right = (n * (n - 1)).sum()
    pairs_together = (cluster_sizes * (cluster_sizes - 1.0)).sum()
    pairs_wanted = (person_sizes * (person_sizes - 1.0)).sum()
    precision = _share((n * n / cluster_sizes[cells.row]).sum(), num_clustered)
    found = (n * n / person_sizes[cells.col]).sum()
    alone = (1.0 / person_sizes[person[~clustered]]).sum()
    recall = _share(found + alone, len(labels))
    largest = counts.max(axis=1).sum() if num_clustered else 0
    return {
        "expansion": _share(len(n), len(np.unique(cells.col))),
        "pairwise_precision": _share(pairs_right, pairs_together),
        "pairwise_recall": _share(pairs_right, pairs_wanted),
        "pairwise_f": _share(2 * pairs_right, pairs_together + pairs_wanted)
        if pairs_together and pairs_wanted
        else NAN,
        "bcubed_precision": precision,
        "bcubed_recall": recall,
        "bcubed_f": _share(2 * precision * recall, precision + recall),
        "purity": _share(largest, num_clustered),
    }


def _agreement(
    labels: np.ndarray, classes: np.ndarray, rows: np.ndarray
) -> tuple[float, float]:
    """Return NMI and ARI over some rows.

    NMI is the mutual information over the mean entropy of the two (natural logarithm),
    ARI the adjusted Rand index of Hubert and Arabie (1985).
    """
    # Not scikit-learn's: to import it takes longer than a short training's epoch.
    (label, of_label), (kind, of_kind) = (
        np.unique(column[rows], return_inverse=True, return_counts=True)[1:]
        for column in (labels, classes)
    )
    if len(of_kind) < 2:
        return NAN, NAN
    cells = np.unique(label * len(of_kind) + kind, return_counts=True)[1]
    counts = of_label, of_kind, cells
    of_labels, of_classes, of_both = (_entropy(n) for n in counts)
    nmi = 2 * max(of_labels + of_classes - of_both, 0) / (of_labels + of_classes)
    # Pairs of images that are together by the labels, by the classes, and by both.
    joined, same, both = (int((n * (n - 1) // 2).sum()) for n in counts)
    if joined == same == both:
        return nmi, 1.0
    by_chance = 2 * joined * same / (len(label) * (len(label) - 1))
    return nmi, (both - by_chance) / ((joined + same) / 2 - by_chance)


def _entropy(counts: np.ndarray) -> float:
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _share(part: float, whole: float) -> float:
    """Return part / whole, NaN where whole is 0."""
    return float(part / whole) if whole else NAN
