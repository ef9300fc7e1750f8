"""Time of the neighbour search and of the Jaccard distance, against other ways.

    python benchmarks/clustering.py [N ...]

Prints ratios of times measured in one run, on synthetic features of 20 images a person.
"""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import torch
from clock import timed
from torch.nn.functional import normalize

from reidlib.clustering import dense_distance, jaccard_distance
from reidlib.neighbors import nearest_neighbors


def make_features(num_images: int, dim: int = 1280) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    persons = torch.randn(num_images // 20, dim, generator=generator)
    jitter = torch.randn(num_images, dim, generator=generator)
    return normalize(persons[torch.arange(num_images) % len(persons)] + jitter, dim=1)


def dense_jaccard(features: torch.Tensor, k1: int = 30, k2: int = 6) -> np.ndarray:
    """The same distance with N x N matrices and a loop over the images."""
    num_images = len(features)
    similarity = (features @ features.T).numpy()
    ranked = similarity.copy()
    np.fill_diagonal(ranked, np.inf)
    ranking = np.argsort(-ranked, axis=1)[:, :k1]
    half = round(k1 / 2) + 1

    def reciprocal(image: int, k: int) -> np.ndarray:
        others = ranking[image, :k]
        return others[(ranking[others, :k] == image).any(axis=1)]

    halves = [reciprocal(image, half) for image in range(num_images)]
    weights = np.zeros((num_images, num_images), dtype=np.float32)
    for image in range(num_images):
        first = reciprocal(image, k1)
        joined = [first]
        for candidate in first:
            shared = np.isin(halves[candidate], first).sum()
            if 3 * shared > 2 * len(halves[candidate]):
                joined.append(halves[candidate])
        members = np.unique(np.concatenate(joined))
        weight = np.exp(2 * similarity[image, members] - 2)
        weights[image, members] = weight / weight.sum()
    weights = np.stack([weights[row].mean(axis=0) for row in ranking[:, :k2]])
    distance = np.empty_like(weights)
    for image, row in enumerate(weights):
        members = np.flatnonzero(row)
        shared = np.minimum(row[members], weights[:, members]).sum(axis=1)
        distance[image] = 1 - shared / (2 - shared)
    return distance


def measure(num_images: int) -> None:
    features = make_features(num_images)
    sparse, ours = timed(lambda: jaccard_distance(features), 3)
    dense, slow = timed(lambda: dense_jaccard(features), 1)
    largest = np.abs(dense_distance(sparse) - dense).max()
    stored = (sparse.data.nbytes + sparse.indices.nbytes) / 2**20
    print(
        f"N {num_images:6d}  Jaccard distance   {ours:7.2f} s, dense loop "
        f"{slow:7.2f} s: {slow / ours:5.1f} times faster; stores {stored:.0f} MiB, "
        f"dense {num_images**2 * 4 / 2**20:.0f}; largest difference {largest:.1e}"
    )
    found, ours = timed(lambda: nearest_neighbors(features, 29), 3)
    if importlib.util.find_spec("faiss") is None:
        print(f"N {num_images:6d}  29 neighbours      {ours:7.2f} s; no faiss here")
        return
    other, theirs = timed(lambda: nearest_neighbors(features, 29, backend="faiss"), 3)
    print(
        f"N {num_images:6d}  29 neighbours      {ours:7.2f} s, faiss      "
        f"{theirs:7.2f} s: {theirs / ours:5.1f} times faster; "
        f"{'same' if torch.equal(found[1], other[1]) else 'OTHER'} neighbours"
    )


def main(sizes: list[int]) -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, D = 1280")
    for num_images in sizes:
        measure(num_images)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [2000, 5000])
