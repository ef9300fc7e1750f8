"""Camera-aware label refinement: local clusters correct global ones (CALR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import (
    Array,
    check_array,
    check_camids,
    check_choice,
    check_count,
    check_features,
    check_ids,
    check_labels,
    check_number,
    check_same_length,
)
from reidlib.errors import ReIDError
from reidlib.labels.pseudo_labels import OUTLIER, contiguous_labels
from reidlib.neighbors.search import nearest_neighbors

PivotRule = Literal["ordered", "every", "single", "best"]
PIVOT_RULES: tuple[str, ...] = get_args(PivotRule)
"""Rules by which `select_pivots` chooses."""


def pivot_scores(
    features: Array,
    k: int = 15,
    min_similarity: float = 0.5,
    *,
    mean_over: Literal["neighbors", "pairs"] = "neighbors",
    backend: str = "auto",
) -> Tensor:
    """Return how central each image is among its nearest neighbours (CALR-E4).

    ``score(i) = sum_j 1 / (d(i, j) + mean(d))`` over the ``k - 1`` nearest others of i
    whose cosine is at least ``min_similarity``, with ``d = 1 - cosine``: a harmonic
    centrality that the mean distance keeps finite. These are the counts of the
    published code. The paper sums over 15 neighbours without a floor
    (``k=16, min_similarity=-1``).

    Args:
        features: ``(N, D)`` L2-normalised features, on any device.
        k: Neighbourhood of an image, the image itself counted. Above N it acts as N.
        min_similarity: Least cosine of a neighbour that counts, in [-1, 1].
        mean_over: What ``mean(d)`` is the mean of: ``"neighbors"``, the N x k distances
            to the k nearest, the image itself and those below the floor included, as in
            the published code; ``"pairs"``, the distances of all pairs of different
            images, as in the paper. For cosines neither needs an N x N matrix: the mean
            over all pairs follows from the mean feature.
        backend: Passed to `nearest_neighbors`.

    Returns:
        ``(N,)`` float32 scores on the CPU, 0 for an image without such a neighbour.

    Raises:
        ReIDError: If the features are not normalised and finite, or a setting is out of
            its range.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [-1.0, 0.0]])
        >>> pivot_scores(points, k=3).argmax(), pivot_scores(points, k=3)[3]
        (tensor(1), tensor(0.))
    """
    where = "pivot_scores"
    features = check_features(features, where, normalised=True)
    k = check_count(k, "k", where)
    floor = check_number(min_similarity, "min_similarity", where, -1, 1)
    check_choice(mean_over, "mean_over", where, ("neighbors", "pairs"))
    num_images = len(features)
    others = min(k, num_images) - 1
    if others == 0:
        return torch.zeros(num_images)
    similarity, _ = nearest_neighbors(features, others, backend=backend)  # (N, k - 1)
    similarity = similarity.double().cpu()
    distance = (1 - similarity).clamp(min=0)
    if mean_over == "neighbors":
        mean = distance.sum() / (num_images * (others + 1))
    else:
        # The cosines of all pairs sum to the square of the summed features.
        total = features.double().sum(dim=0)
        own = features.double().square().sum()
        pairs = num_images * (num_images - 1)
        mean = (1 - (total @ total - own) / pairs).clamp(min=0).cpu()
    # Copies of one image lie at distance 0 of each other, and so may all of them.
    closeness = 1 / (distance + mean).clamp(min=1e-12)
    return (closeness * (similarity >= floor)).sum(dim=1).float()


def select_pivots(
    scores: Array,
    pseudo_labels: Array,
    camids: Array,
    rule: PivotRule = "ordered",
) -> Tensor:
    """Choose the images by which clusters are refined: scores above the mean (CALR-E4).

    CALR-E5 says what one pivot does to its cluster, not what several do. Two pivots of
    one camera whose local clusters differ would discard each other, and with them all
    that their camera has in the cluster.

    Args:
        scores: ``(N,)`` from `pivot_scores`.
        pseudo_labels: ``(N,)`` global clusters, -1 for an outlier.
        camids: ``(N,)`` camera ids.
        rule: Which of the images that are in a cluster and score above the mean over
            all N are returned:

            - ``"ordered"``: the best of each cluster and camera. At a probability of 1
              this is the same as visiting all by falling score and skipping those that
              an earlier one has discarded: a pivot that is left is in the local cluster
              of the best. At a lower probability a contradicted pivot may be kept, and
              would discard the best pivot and its local cluster; here it does not.
            - ``"every"``: all of them, CALR-E5 to the letter.
            - ``"single"``: the last of each cluster in the order of the table, which is
              what the published code does.
            - ``"best"``: the best of each cluster, whatever its camera.

    Returns:
        Row numbers of the pivots, int64, by falling score; of equal scores the first
        row comes first.

    Raises:
        ReIDError: If the columns differ in length or the rule is unknown.

    Example:
        >>> scores = torch.tensor([5.0, 4.0, 3.0, 0.0])
        >>> clusters, camids = torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 1, 1])
        >>> select_pivots(scores, clusters, camids, "every").tolist()
        [0, 1]
        >>> select_pivots(scores, clusters, camids, "ordered").tolist()
        [0]
    """
    where = "select_pivots"
    check_choice(rule, "rule", where, PIVOT_RULES)
    labels = check_labels(pseudo_labels, where)
    camids = check_camids(camids, where)
    scores = check_array(scores, "scores", where).cpu().double().numpy()
    check_same_length(where, scores=scores, pseudo_labels=labels, camids=camids)
    rows = np.flatnonzero((scores > scores.mean()) & (labels != OUTLIER))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    if rule == "single":
        # np.unique keeps the first of each value: here, the highest row number.
        last = np.sort(rows)[::-1]
        chosen = set(last[np.unique(labels[last], return_index=True)[1]].tolist())
        rows = rows[np.isin(rows, list(chosen))]
    elif rule == "best":
        rows = rows[np.sort(np.unique(labels[rows], return_index=True)[1])]
    elif rule == "ordered":
        cells = _cells(labels[rows], camids[rows])
        rows = rows[np.sort(np.unique(cells, return_index=True)[1])]
    return torch.from_numpy(rows)


@dataclass(frozen=True)
class Refinement:
    """Refined pseudo labels, and what was discarded.

    Attributes:
        labels: ``(N,)`` int64 refined clusters, contiguous from 0, -1 for an outlier.
        discarded: ``(N,)`` bool, images that were in a cluster and are in none now.
        num_pivots: Number of pivots that refined.
        emptied: Number of clusters that lost all images (only ``"every"`` can do so).
    """

    labels: Tensor
    discarded: Tensor
    num_pivots: int
    emptied: int

    @property
    def discard_ratio(self) -> float:
        """Share of all N images that were discarded (CALR-F6)."""
        return float(self.discarded.float().mean())


def refine_labels(
    pseudo_labels: Array,
    local_labels: Array,
    camids: Array,
    pivots: Array,
    probability: float = 1.0,
    generator: torch.Generator | None = None,
) -> Refinement:
    """Discard from global clusters what local clusters contradict (CALR-E5).

    A pivot in camera c looks at the images of camera c in its global cluster G. Those
    that are not in its local cluster L are discarded with a probability p; at p = 1 the
    cluster becomes ``(G_c and L) or (G without G_c)``. Images of other cameras are
    never touched: local clusters say nothing about them.

    Each image has one draw, however many pivots contradict it, so that p stays the
    probability to be discarded and does not grow with the number of pivots.

    Args:
        pseudo_labels: ``(N,)`` global clusters, -1 for an outlier.
        local_labels: ``(N,)`` clusters inside each camera, as `cluster_within_cameras`
            makes them. An image with -1 is a local cluster of its own.
        camids: ``(N,)`` camera ids.
        pivots: Row numbers from `select_pivots`.
        probability: p, from `discard_probability`, in [0, 1].
        generator: Source of the draws; needed where p is neither 0 nor 1.

    Returns:
        The refined labels and what was discarded.

    Raises:
        ReIDError: If columns differ in length, a pivot is not in a cluster, p is out of
            range, or a generator is missing.

    Example:
        >>> clusters = torch.tensor([0, 0, 0, 0, 1])
        >>> local, camids = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1])
        >>> refine_labels(clusters, local, camids, torch.tensor([0])).labels
        tensor([ 0,  0, -1,  0,  1])
    """
    where = "refine_labels"
    labels = check_labels(pseudo_labels, where)
    local, cameras = check_labels(local_labels, where), check_camids(camids, where)
    check_same_length(where, pseudo_labels=labels, local_labels=local, camids=cameras)
    p = check_number(probability, "probability", where, 0, 1)
    rows = check_ids(pivots, "pivots", where)
    if len(rows) and (rows.min() < 0 or rows.max() >= len(labels)):
        raise ReIDError(
            f"{where}: pivots go from {rows.min()} to {rows.max()} in {len(labels)} "
            "images; give row numbers"
        )
    if (labels[rows] == OUTLIER).any():
        raise ReIDError(
            f"{where}: {int((labels[rows] == OUTLIER).sum())} of {len(rows)} pivots "
            "are in no cluster; choose them with select_pivots from the same labels"
        )
    if 0 < p < 1 and generator is None:
        raise ReIDError(f"{where}: probability is {p:g}; give a generator to draw with")

    # An image is contradicted if its cluster and camera hold a pivot that is not in its
    # local cluster: more pivots than its local cluster holds.
    local = np.where(
        local == OUTLIER, local.max(initial=0) + 1 + np.arange(len(local)), local
    )
    cells = _cells(labels, cameras)  # same global cluster, same camera
    parts = _cells(cells, local)  # and the same local cluster, too
    is_pivot = np.bincount(rows, minlength=len(labels)) > 0
    in_cell = np.bincount(cells, weights=is_pivot)[cells]
    in_part = np.bincount(parts, weights=is_pivot)[parts]
    contradicted = (in_cell > in_part) & (labels != OUTLIER)
    discarded = contradicted & (p == 1)
    if generator is not None:
        # float64, and as many draws whatever p and the pivots are, so that what is
        # drawn after this does not depend on them.
        draws = torch.rand(len(labels), generator=generator, dtype=torch.float64)
        discarded = contradicted & (draws.numpy() < p)
    kept = np.where(discarded, OUTLIER, labels)
    before, after = (len(np.unique(x[x != OUTLIER])) for x in (labels, kept))
    return Refinement(
        labels=contiguous_labels(kept),
        discarded=torch.from_numpy(discarded),
        num_pivots=int(is_pivot.sum()),
        emptied=before - after,
    )


def _cells(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return a number from 0 for each different pair of values, ``(N,)``."""
    if not len(first):
        return np.zeros(0, dtype=np.int64)
    one, two = (np.unique(x, return_inverse=True)[1] for x in (first, second))
    pairs = one.astype(np.int64) * (int(two.max()) + 1) + two
    return np.unique(pairs, return_inverse=True)[1].astype(np.int64)
