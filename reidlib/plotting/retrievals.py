"""Pictures of what a model retrieves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from reidlib.data.images import read_image
from reidlib.data.table import NO_CAMERA, UNKNOWN, ReIDDataset
from reidlib.evaluation.ranking import top_matches
from reidlib.plotting.tiles import plot_ranking

SIZE = (128, 64)  # height and width of the images that are drawn


def plot_retrievals(
    query_features: Tensor,
    gallery_features: Tensor,
    dataset: ReIDDataset,
    rows: Sequence[int] | None = None,
    *,
    k: int = 8,
    title: str = "Nearest gallery images",
    other_cameras: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw queries with the nearest gallery images that the protocol counts.

    Args:
        query_features: ``(Q, D)`` features of the query split.
        gallery_features: ``(G, D)`` features of the gallery split.
        dataset: The data set of the features.
        rows: Queries to draw; by default six, spread evenly over the split.
        k: Number of gallery images for each query.
        title: Title of the figure.
        other_cameras: Show only images of other cameras.
        ax: Axes to draw into.

    Returns:
        The axes, as those of :func:`plot_ranking`. A white tile stands where the
        protocol leaves fewer than ``k`` gallery images.

    Raises:
        ReIDError: If the features do not fit the data set.

    Example:
        >>> import torch
        >>> from reidlib.data import open_dataset
        >>> from reidlib.synthcity import ensure_synthcity
        >>> city = open_dataset("synthcity", ensure_synthcity("tiny", progress=False))
        >>> features = [torch.eye(2)[t.pids % 2] for t in (city.query, city.gallery)]
        >>> len(plot_retrievals(*features, city, rows=[0], k=3).images)
        4
    """
    query, gallery = dataset.query, dataset.gallery
    if rows is None:
        rows = np.linspace(0, len(query) - 1, min(6, len(query))).astype(int).tolist()
    chosen = query[rows]
    matches, hits = (
        np.asarray(found)
        for found in top_matches(
            query_features[list(rows)],
            gallery_features,
            chosen,
            gallery,
            min(k, len(gallery)),
            other_cameras=other_cameras,
        )
    )
    blank = np.full((*SIZE, 3), 255, dtype=np.uint8)
    there = matches >= 0  # -1 stands where the protocol leaves fewer images than k
    return plot_ranking(
        [read_image(chosen.file(i), SIZE) for i in range(len(chosen))],
        [
            [read_image(gallery.file(j), SIZE) if j >= 0 else blank for j in line]
            for line in matches.tolist()
        ],
        hits,
        query_pids=chosen.pids,
        query_camids=chosen.camids,
        pids=np.where(there, gallery.pids[matches], UNKNOWN),
        camids=np.where(there, gallery.camids[matches], NO_CAMERA),
        title=title,
        ax=ax,
    )
