"""The Jaccard distance with N x N matrices and a loop over the images."""

from __future__ import annotations

import numpy as np
import torch


def jaccard_distance(features: torch.Tensor, k1: int = 30, k2: int = 6) -> np.ndarray:
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
