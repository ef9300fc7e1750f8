"""Speed and memory of Jaccard + DBSCAN, against the code that the field shares.

    python benchmarks/clustering.py             # 2,000 images
    python benchmarks/clustering.py --full      # all sizes; goes on if it was stopped
    python benchmarks/clustering.py --sizes 126441 --dims 2048 --methods reidlib

The peer is the Jaccard distance of fastreid 1.4.0 (``pip install --no-deps fastreid``
and ``faiss-cpu``), the code of ClusterContrast, SpCL, OpenUnReID and CALR, with
scikit-learn's DBSCAN; without it, that of ``benchmarks/dense.py``. Both cluster the
same features and must give the same labels. ``product`` is one triangle of the products
of all images, by torch: what an exact search cannot do without. Features: ``easy`` and
``hard`` people, 20 images each, and a file of ``--features`` (``(N, D)``, ``.npy``), of
a first epoch for instance. Writes ``results/clustering_speed.json``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dense import jaccard_distance as dense_jaccard
from sheet import Sheet, line, measured, options, peer
from sklearn.cluster import DBSCAN
from torch import Tensor
from torch.nn.functional import normalize

from reidlib.clustering import dbscan, jaccard_distance

EPS, WARM = 0.6, 1200


def make(kind: str, num_images: int, dim: int) -> Tensor:
    """Draw features: people and noise, for ``hard`` more of it and six cameras."""
    if kind not in ("easy", "hard"):
        return normalize(torch.from_numpy(np.load(kind)[:num_images]).float())
    generator = torch.Generator().manual_seed(0)
    people = torch.randn(num_images // 20, dim, generator=generator)
    cameras = torch.randn(6, dim, generator=generator)
    noise, shift = (1.0, 0.0) if kind == "easy" else (2.0, 1.0)
    features = torch.randn(num_images, dim, generator=generator).mul_(noise)
    for image in range(num_images):
        features[image] += people[image // 20 % len(people)]
        features[image] += shift * cameras[image % 6]
    norms = features.norm(dim=1, keepdim=True)
    return features.div_(norms)


def figures(labels: np.ndarray) -> dict[str, Any]:
    """Return what is kept of labels."""
    digest = hashlib.sha256(labels.astype(np.int64).tobytes()).hexdigest()[:16]
    clusters, outliers = int(labels.max()) + 1, int((labels < 0).sum())
    return {"clusters": clusters, "outliers": outliers, "labels": digest}


def reidlib(features: Tensor) -> dict[str, Any]:
    """Cluster with the library."""
    distance = jaccard_distance(features, k1=30, k2=6, max_distance=EPS)
    return figures(dbscan(distance, EPS).numpy())


def _full(distance: np.ndarray) -> dict[str, Any]:
    model = DBSCAN(eps=EPS, min_samples=4, metric="precomputed")
    return figures(model.fit(distance).labels_)


def fastreid(features: Tensor) -> dict[str, Any]:
    """Cluster with the peer, on the CPU."""
    found = peer("utils.compute_dist")
    return _full(found.compute_jaccard_distance(features, 30, 6, search_option=3))


def dense(features: Tensor) -> dict[str, Any]:
    """Cluster with N x N matrices and a loop over the images."""
    return _full(dense_jaccard(features))


def product(features: Tensor) -> dict[str, Any]:
    """Multiply one triangle of all pairs."""
    for row in range(0, len(features), 512):
        for col in range(row, len(features), 512):
            features[row : row + 512] @ features[col : col + 512].T
    return {}


def main() -> None:
    """Print and write the measurements."""
    parser = options(__doc__.split("\n")[0], "results/clustering_speed.json")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--dims", type=int, nargs="+")
    parser.add_argument("--kinds", nargs="+", default=["easy", "hard"])
    parser.add_argument("--features", help="a .npy file of features, as another kind")
    parser.add_argument("--methods", nargs="+")
    given = parser.parse_args()
    sheet = Sheet(given.output, "clustering_speed")
    sizes = given.sizes or ([2000, 6000, 12936, 32621] if given.full else [2000])
    dims = given.dims or ([512, 2048] if given.full else [512])
    base = fastreid if peer("utils.compute_dist") else dense
    methods = [base, reidlib, product]
    if given.methods:
        methods = [method for method in methods if method.__name__ in given.methods]
    shapes = [(kind, n, d) for n in sizes for d in dims for kind in given.kinds]
    if given.features:
        shapes.append((given.features, *np.load(given.features, mmap_mode="r").shape))
    for kind, num_images, dim in shapes:
        print(f"{kind}: {num_images:,} x {dim:,}", flush=True)
        rows = {}
        for method in methods:
            key = {"method": method.__name__, "features": Path(kind).stem}
            rows[method] = sheet.best(
                {**key, "num_images": num_images, "dim": dim},
                given.threads,
                lambda threads, method=method, shape=(kind, num_images, dim): measured(
                    method, make, shape, (shape[0], WARM, shape[2]), threads
                ),
            )
        for method, row in rows.items():
            shown = line(method.__name__, row, rows.get(base), rows.get(product))
            print(f"{shown}  {row.get('clusters', '')}", flush=True)
        if len({rows[m]["labels"] for m in (base, reidlib) if m in rows}) > 1:
            raise SystemExit("the labels differ")


if __name__ == "__main__":
    main()
