"""Pictures of what a model retrieves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from reidlib.data.images import read_image
from reidlib.data.table import NO_CAMERA, UNKNOWN, ReIDDataset
from reidlib.evaluation.ranking import top_matches
from reidlib.plotting import plot_ranking


def plot_retrievals(
    query_features: Tensor,
    gallery_features: Tensor,
    dataset: ReIDDataset,
    rows: Sequence[int] | None = None,
    *,
    k: int = 8,
    title: str = "Nearest gallery images",
    ax: Axes | None = None,
) -> Axes:
    """Draw queries with their nearest gallery images, after the protocol's removals.

    Args:
        query_features: ``(Q, D)`` features of the query split.
        gallery_features: ``(G, D)`` features of the gallery split.
        dataset: The data set that the features are of.
        rows: Queries to draw; by default six, spread evenly over the split.
        k: Number of gallery images of each.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes; hits have a green frame and a tick, misses another and a cross.
    """
    query, gallery = dataset.query, dataset.gallery
    if rows is None:
        rows = np.linspace(0, len(query) - 1, min(6, len(query))).astype(int).tolist()
    chosen = query[rows]
    matches, hits = top_matches(
        query_features[list(rows)],
        gallery_features,
        chosen,
        gallery,
        min(k, len(gallery)),
    )
    matches, hits = np.asarray(matches), np.asarray(hits)
    size = (128, 64)
    return plot_ranking(
        [read_image(chosen.file(i), size) for i in range(len(chosen))],
        [
            # -1 stands where the protocol left fewer images than k.
            [
                read_image(gallery.file(j), size) if j >= 0 else _blank(size)
                for j in line
            ]
            for line in matches.tolist()
        ],
        hits,
        query_pids=chosen.pids,
        query_camids=chosen.camids,
        pids=np.where(matches >= 0, gallery.pids[matches], UNKNOWN),
        camids=np.where(matches >= 0, gallery.camids[matches], NO_CAMERA),
        title=title,
        ax=ax,
    )


def _blank(size: tuple[int, int]) -> np.ndarray:
    return np.full((*size, 3), 255, dtype=np.uint8)
