"""DBSCAN's radius and neighbourhood on real images, its largest clusters in sight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from IPython.display import HTML
from torch import Tensor

from figures.page import page_figure, sheet, table
from reidlib.clustering import cluster_quality, dbscan, jaccard_distance
from reidlib.data import ImageTable

LARGEST, SHOWN = 5, 12
"""How many clusters are shown, and how many images of each."""
MEASURES = ("pair precision", "pair recall", "pair F")


def radius_figure(
    features: Tensor,
    images: ImageTable,
    pixels: Sequence[Any],
    neighbourhoods: Sequence[int],
    radii: Sequence[float],
    start: tuple[int, float],
    *,
    caption: str,
    k2: int = 4,
) -> HTML:
    """Return the largest clusters for every radius and size of neighbourhood.

    Args:
        features: ``(N, D)``, of length 1.
        images: Identities and cameras of the images.
        pixels: Each image, uint8, as tall as twice its width.
        neighbourhoods: Values of ``k1``.
        radii: Values of ``eps``.
        start: ``k1`` and ``eps`` to start from.
        caption: What the figure shows.
        k2: Of the Jaccard distance.
    """
    settings: list[list[dict[str, Any]]] = []
    rows = {}
    for k1 in neighbourhoods:
        distance = jaccard_distance(features, k1=k1, k2=k2)
        settings.append([])
        for eps in radii:
            labels = dbscan(distance, eps).numpy()
            quality = cluster_quality(labels, images.pids, images.camids)
            measures = [
                None if np.isnan(value) else round(float(value), 3)
                for value in (
                    quality.pairwise_precision,
                    quality.pairwise_recall,
                    quality.pairwise_f,
                )
            ]
            settings[-1].append(
                {
                    "clusters": quality.clusters,
                    "outside": round(float(quality.outlier_share), 3),
                    "values": measures,
                    "largest": largest_of(labels, images.pids),
                }
            )
            if k1 == start[0]:
                rows[f"{eps:g}"] = [
                    str(quality.clusters),
                    f"{100 * quality.outlier_share:.0f} %",
                    *("–" if value is None else f"{value:.2f}" for value in measures),
                ]
    begin = settings[list(neighbourhoods).index(start[0])]
    first = begin[list(radii).index(start[1])]
    # The sheet begins with the clusters that the static form tells of.
    order = [i for cluster in first["largest"] for i in cluster["shown"]]
    every = [one["largest"] for line in settings for one in line]
    rest = {i for largest in every for cluster in largest for i in cluster["shown"]}
    order += sorted(rest - set(order))
    place = {image: at for at, image in enumerate(order)}
    for largest in every:
        for cluster in largest:
            cluster["shown"] = [place[i] for i in cluster["shown"]]
    data = {
        "k1": {
            "values": [str(k1) for k1 in neighbourhoods],
            "start": list(neighbourhoods).index(start[0]),
        },
        "eps": {
            "values": [f"{eps:.2f}" for eps in radii],
            "start": list(radii).index(start[1]),
        },
        "measures": MEASURES,
        "people": images.pids[order].tolist(),
        "cameras": images.camids[order].tolist(),
        "settings": settings,
    }
    picture = sheet(
        [pixels[i] for i in order],
        f"Images; the first are of the largest clusters at k1 = {start[0]}, "
        f"eps = {start[1]:g}",
        columns=24,
        quality=55,
    )
    head = [f"eps, at k1 = {start[0]}", "clusters", "outliers", *MEASURES]
    return page_figure("radius", data, picture + table(head, rows), caption)


def largest_of(labels: np.ndarray, pids: np.ndarray) -> list[dict[str, Any]]:
    """Return the largest clusters, and some images of each.

    Args:
        labels: ``(N,)`` clusters, -1 for an outlier.
        pids: ``(N,)`` person ids.

    Returns:
        For each of up to five clusters its ``size``, its number of ``people``, the most
        frequent person (``most``), and rows of up to twelve images, evenly ``shown``.

    Example:
        >>> largest_of(np.array([0, 0, 1, -1]), np.array([4, 5, 5, 5]))[0]
        {'size': 2, 'people': 2, 'most': 4, 'shown': [0, 1]}
    """
    sizes = np.bincount(labels[labels >= 0])
    found = []
    for cluster in np.argsort(-sizes, kind="stable")[:LARGEST]:
        members = np.flatnonzero(labels == cluster)
        people, counts = np.unique(pids[members], return_counts=True)
        some = np.linspace(0, len(members) - 1, min(SHOWN, len(members))).astype(int)
        found.append(
            {
                "size": len(members),
                "people": len(people),
                "most": int(people[counts.argmax()]),
                "shown": members[some].tolist(),
            }
        )
    return found
