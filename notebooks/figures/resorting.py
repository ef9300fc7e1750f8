"""How the weight of two descriptors sorts a ranking again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import HTML
from torch import Tensor

from figures.page import page_figure, sheet, table
from reidlib.data import ReIDDataset, read_image
from reidlib.evaluation import top_matches

SIZE = (80, 40)


def fusion_figure(
    features_at: Callable[[float], tuple[Tensor, Tensor]],
    alphas: Sequence[float],
    ap: Any,
    rows: Mapping[str, int],
    dataset: ReIDDataset,
    *,
    start: float,
    caption: str,
    places: int = 10,
) -> HTML:
    """Return rankings that a slider sorts by a weight.

    Args:
        features_at: For a weight the features of all queries and of the gallery.
        alphas: The weights, the first of the appearance alone.
        ap: ``(A, Q)`` average precision of every query under every weight.
        rows: For each name the row of a query.
        dataset: Whose queries and gallery they are.
        start: The weight to start from.
        caption: What the figure shows.
        places: How many images of a ranking are shown.
    """
    chosen = list(rows.values())
    asked = dataset.query[chosen]
    rankings: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
    for number, alpha in enumerate(alphas):
        query, gallery = features_at(alpha)
        found, hits = top_matches(
            query[chosen], gallery, asked, dataset.gallery, k=places
        )
        for at, (name, row) in enumerate(rows.items()):
            rankings[name].append(
                {
                    "images": found[at].tolist(),
                    "hits": hits[at].tolist(),
                    "ap": round(float(ap[number][row]), 4),
                }
            )
    begin = list(alphas).index(start)
    # The sheet begins with what the static form tells of: each query and its ranking.
    order: list[tuple[str, int]] = []
    for name, row in rows.items():
        order += [("query", row)]
        order += [("gallery", i) for i in rankings[name][begin]["images"]]
    seen = {i for part, i in order if part == "gallery"}
    every = {i for lists in rankings.values() for one in lists for i in one["images"]}
    order += [("gallery", i) for i in sorted(every - seen)]
    files = {
        "query": dataset.query.file,
        "gallery": dataset.gallery.file,
    }
    place = {image: at for at, image in reversed(list(enumerate(order)))}
    queries = [
        {
            "name": name,
            "image": place["query", row],
            "person": int(dataset.query.pids[row]),
            "rankings": [
                one | {"images": [place["gallery", i] for i in one["images"]]}
                for one in rankings[name]
            ],
        }
        for name, row in rows.items()
    ]
    texts = [f"{alpha:g}" for alpha in alphas]
    mean = np.mean(ap, axis=1)
    data = {
        "alphas": texts,
        "start": begin,
        "mean": [round(float(value), 4) for value in mean],
        "queries": queries,
    }
    picture = sheet(
        [read_image(files[part](i), SIZE) for part, i in order],
        f"In each of the first {len(rows)} rows a query and its nearest images at "
        f"alpha = {start:g}; below, other images that a weight brings among these",
        columns=places + 1,
        quality=70,
    )
    lines = {
        f"AP of {name} (%)": [f"{100 * one['ap']:.1f}" for one in rankings[name]]
        for name in rows
    }
    lines["mAP (%)"] = [f"{100 * value:.1f}" for value in mean]
    static = picture + table(["alpha", *texts], lines)
    return page_figure("fusion", data, static, caption)
