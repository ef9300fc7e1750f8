"""Speed and memory of distance + evaluation, against the compiled ranking of the field.

    python benchmarks/evaluation.py            # 1,000 queries x 6,000 images
    python benchmarks/evaluation.py --full     # Market-1501's size; goes on if stopped

The peer is fastreid 1.4.0 (``pip install --no-deps fastreid`` and ``Cython``): its
matrix of cosine distances and its compiled ranking, that of torchreid. ``sort`` is
what other evaluators do, one ``argsort`` of all distances and a loop over the
queries. All get the same features and must give the same figures. ``product`` is the
product of queries and gallery, by torch: what an exact evaluation cannot do without.
Features: ``easy`` and ``hard`` people under six cameras. Writes
``results/evaluation_speed.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sheet import Sheet, line, measured, options, peer

from reidlib.data.table import ImageTable
from reidlib.evaluation import evaluate, top_matches

Data = tuple[torch.Tensor, torch.Tensor, ImageTable, ImageTable]
WARM = (200, 2000)


def make(kind: str, num_queries: int, num_gallery: int, dim: int) -> Data:
    """Draw features of 751 people under 6 cameras, one gallery image in 6 nobody's."""
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    people = torch.randn(752, dim, generator=generator)
    noise = {"easy": 1.0, "hard": 4.0}[kind]

    def split(num: int, pids: np.ndarray) -> tuple[torch.Tensor, ImageTable]:
        features = torch.randn(num, dim, generator=generator).mul_(noise)
        for start in range(0, num, 1000):
            part = slice(start, start + 1000)
            features[part] += people[torch.from_numpy(pids[part])]
        paths = tuple(str(i) for i in range(num))
        return features, ImageTable(Path(), paths, pids, rng.integers(0, 6, num))

    query_features, query = split(num_queries, rng.integers(1, 752, num_queries))
    pids = rng.integers(1, 752, num_gallery)
    pids[rng.random(num_gallery) < 1 / 6] = 0
    gallery_features, gallery = split(num_gallery, pids)
    return query_features, gallery_features, query, gallery


def reidlib(data: Data) -> dict[str, float]:
    """Evaluate with the library."""
    result = evaluate(*data)
    return {"mAP": result.mAP, "mINP": result.mINP, "rank1": result.cmc[1]}


def top10(data: Data) -> dict[str, float]:
    """Look for the ten nearest images of each query with the library."""
    hits = top_matches(*data)[1]
    return {"hits": float(hits.mean())}


def rerank(data: Data) -> dict[str, float]:
    """Evaluate with the library after re-ranking."""
    return {"mAP": evaluate(*data, rerank={}).mAP}


def _cosine(data: Data) -> np.ndarray:
    query, gallery = (torch.nn.functional.normalize(part) for part in data[:2])
    return 1 - (query @ gallery.T).numpy()


def fastreid(data: Data) -> dict[str, float]:
    """Evaluate with the peer."""
    distance = peer("utils.compute_dist").compute_cosine_distance(*data[:2])
    ranking = peer("evaluation.rank")
    query, gallery = data[2:]
    columns = query.pids, gallery.pids, query.camids, gallery.camids
    cmc, precision, penalty = ranking.evaluate_rank(distance, *columns)
    return {
        "mAP": float(np.mean(precision)),
        "mINP": float(np.mean(penalty)),
        "rank1": float(cmc[0]),
        "compiled": bool(ranking.IS_CYTHON_AVAI),
    }


def sort(data: Data) -> dict[str, float]:
    """Evaluate with one sort of everything and a loop over the queries."""
    query, gallery = data[2:]
    order = np.argsort(_cosine(data), axis=1)
    same = gallery.pids[order] == query.pids[:, None]
    keep = ~(same & (gallery.camids[order] == query.camids[:, None]))
    first, precisions, penalties = [], [], []
    for hits, kept in zip(same, keep, strict=True):
        hits = hits[kept]
        if hits.any():
            places = np.flatnonzero(hits) + 1
            first.append(places[0] == 1)
            precisions.append((np.arange(1, len(places) + 1) / places).mean())
            penalties.append(len(places) / places[-1])
    names = ("mAP", "mINP", "rank1")
    means = (float(np.mean(part)) for part in (precisions, penalties, first))
    return dict(zip(names, means, strict=True))


def product(data: Data) -> dict[str, Any]:
    """Multiply all pairs."""
    for block in data[0].split(256):
        block @ data[1].T
    return {}


def main() -> None:
    """Print and write the measurements."""
    parser = options(__doc__.split("\n")[0], "results/evaluation_speed.json")
    given = parser.parse_args()
    sheet = Sheet(given.output, "evaluation_speed")
    size, dims = ((3368, 15913), (512, 2048)) if given.full else ((1000, 6000), (512,))
    base = fastreid if peer("utils.compute_dist") else sort
    methods = list(dict.fromkeys((base, sort, reidlib, top10, rerank, product)))
    for dim in dims:
        for kind in ("easy", "hard"):
            print(f"{kind}: {size[0]:,} x {size[1]:,}, D = {dim}", flush=True)
            shape = (kind, *size, dim)
            names = ("features", "num_queries", "num_gallery", "dim")
            key = dict(zip(names, shape, strict=True))
            rows = {
                method: sheet.best(
                    {"method": method.__name__, **key},
                    given.threads,
                    lambda threads, method=method, shape=shape: measured(
                        method, make, shape, (shape[0], *WARM, shape[3]), threads
                    ),
                )
                for method in methods
            }
            for method, row in rows.items():
                shown = line(method.__name__, row, rows[base], rows[product])
                print(f"{shown}  {row.get('mAP', '')}", flush=True)
            # Others break ties by the place in the gallery, and divide in float32.
            for name in ("mAP", "mINP", "rank1"):
                if abs(rows[base][name] - rows[reidlib][name]) > 1e-5:
                    raise SystemExit(f"{name} differs")


if __name__ == "__main__":
    main()
