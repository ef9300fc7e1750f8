"""Speed and memory of `reidlib.evaluation.evaluate` against sorting the whole gallery.

    python benchmarks/evaluation.py            # 1,000 x 6,000 features against a sort
    python benchmarks/evaluation.py --market   # and 3,368 x 19,732, Market-1501's size

The sort is what the evaluators of the field do, with numpy: one ``argsort`` of all
distances and a loop over the queries. Both get the same features and must give the same
figures. Each is measured in a process of its own, on one core, in processor time;
memory is what it adds, at its peak, to the features. The library multiplies in float64,
so that copies of an image tie: there its time goes, and not into the ranking.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reidlib.data.table import ImageTable
from reidlib.evaluation import evaluate

Data = tuple[torch.Tensor, torch.Tensor, ImageTable, ImageTable]


def make(num_queries: int, num_gallery: int, dim: int) -> Data:
    """Draw features of 751 people under 6 cameras, one gallery image in 6 nobody's."""
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    people = torch.randn(752, dim, generator=generator)

    def split(num: int, pids: np.ndarray) -> tuple[torch.Tensor, ImageTable]:
        features = torch.randn(num, dim, generator=generator).mul_(4)
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


def by_counting(data: Data) -> dict[str, float]:
    """Evaluate with the library."""
    result = evaluate(*data)
    return {"mAP": result.mAP, "Rank-1": result.cmc[1]}


def by_sorting(data: Data) -> dict[str, float]:
    """Evaluate with one sort of everything and a loop over the queries."""
    query_features, gallery_features, query, gallery = data
    query_features = torch.nn.functional.normalize(query_features)
    gallery_features = torch.nn.functional.normalize(gallery_features)
    distance = 1 - (query_features @ gallery_features.T).numpy()
    order = np.argsort(distance, axis=1)
    same = gallery.pids[order] == query.pids[:, None]
    keep = ~(same & (gallery.camids[order] == query.camids[:, None]))
    first, precisions = [], []
    for hits, kept in zip(same, keep, strict=True):
        hits = hits[kept]
        if hits.any():
            places = np.flatnonzero(hits) + 1
            first.append(places[0] == 1)
            precisions.append((np.arange(1, len(places) + 1) / places).mean())
    return {"mAP": float(np.mean(precisions)), "Rank-1": float(np.mean(first))}


def _peak() -> float:
    """Return the largest memory of this process so far, in bytes."""
    # Kilobytes on Linux, bytes on a Mac.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _measure(method: Callable[[Data], dict[str, float]], shape: Any, pipe: Any) -> None:
    # One core and its own clock: what else runs on the machine does not count.
    torch.set_num_threads(1)
    data = make(*shape)
    method(make(200, 2000, shape[2]))
    before = _peak()
    seconds = []
    for _ in range(3 if shape[1] < 10_000 else 1):
        start = time.process_time()
        figures = method(data)
        seconds.append(time.process_time() - start)
    pipe.send({"seconds": min(seconds), "bytes": _peak() - before, **figures})


def measure(
    method: Callable[[Data], dict[str, float]], shape: tuple[int, int, int]
) -> dict[str, float]:
    """Run a method in a process of its own: best of three, and its peak memory."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(method, shape, theirs))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def main() -> None:
    """Print the measurements as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--gallery", type=int, default=6000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--market", action="store_true", help="also 3,368 x 19,732")
    options = parser.parse_args()
    shapes = [(options.queries, options.gallery, options.dim)]
    if options.market:
        shapes.append((3368, 19732, 2048))
    results = []
    for shape in shapes:
        print(f"{shape[0]:,} x {shape[1]:,}, {shape[2]} dimensions")
        counting, sorting = measure(by_counting, shape), measure(by_sorting, shape)
        for name, one in (("counting", counting), ("sorting", sorting)):
            print(
                f"  {name:8}  {one['seconds']:7.2f} s  {one['bytes'] / 1e6:7.0f} MB  "
                f"mAP {one['mAP']:.6f}  Rank-1 {one['Rank-1']:.6f}"
            )
        if abs(counting["mAP"] - sorting["mAP"]) > 1e-6:
            raise SystemExit("the two differ")
        ratio = sorting["seconds"] / counting["seconds"]
        print(f"  sorting takes {ratio:.1f} times as long")
        results.append({"shape": shape, "counting": counting, "sorting": sorting})
    print(json.dumps({"machine": platform.processor() or "?", "results": results}))


if __name__ == "__main__":
    main()
