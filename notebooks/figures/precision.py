"""Average precision by clicking hits: one query and the beginning of its ranking."""

from __future__ import annotations

from typing import Any

import numpy as np
from IPython.display import HTML

from figures.page import page_figure, sheet, table
from reidlib.data import ReIDDataset, read_image
from reidlib.evaluation import top_matches

SIZE = (96, 48)


def precision_figure(
    query_features: Any,
    gallery_features: Any,
    dataset: ReIDDataset,
    row: int,
    *,
    caption: str,
    places: int = 12,
) -> HTML:
    """Return a ranking whose hits a reader clicks; the script computes its scores.

    The ranking ends after a few places, as if the gallery held nothing else.

    Args:
        query_features: ``(Q, D)``, of length 1.
        gallery_features: ``(G, D)``, of length 1.
        dataset: Whose queries and gallery they are.
        row: Row of the query.
        caption: What the figure shows.
        places: How many images the ranking has.
    """
    one = slice(row, row + 1)
    nearest, hits = top_matches(
        query_features[one],
        gallery_features,
        dataset.query[one],
        dataset.gallery,
        k=places,
    )
    files = [dataset.query.file(row), *(dataset.gallery.file(i) for i in nearest[0])]
    cameras = dataset.gallery.camids[nearest[0]]
    found = np.cumsum(hits[0])
    data = {
        "hits": hits[0].tolist(),
        "query": f"The query, under camera {dataset.query.camids[row]}",
        "images": [f"an image of camera {camera}" for camera in cameras],
    }
    picture = sheet(
        [read_image(file, SIZE) for file in files],
        f"A query and its {places} nearest gallery images, from left to right",
        columns=len(files),
    )
    ranks = range(1, places + 1)
    rows = {
        "hit": ["✓" if hit else "✗" for hit in hits[0]],
        "precision": [
            f"{found[rank - 1]}/{rank}" if hits[0][rank - 1] else "" for rank in ranks
        ],
    }
    precisions = (found / np.arange(1, places + 1))[hits[0]]
    static = picture + table(["rank", *map(str, ranks)], rows)
    static += f"<p>AP = {precisions.mean():.3f}</p>"
    return page_figure("precision", data, static, caption)
