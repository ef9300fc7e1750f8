"""Time of pivot scores and label refinement, against the same written as loops.

    python benchmarks/labels.py [N ...]

Prints ratios of times measured in one run, on synthetic features of 20 images a person
under six cameras, two people in each global cluster.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from clock import timed
from torch.nn.functional import normalize

from reidlib.labels import pivot_scores, refine_labels, select_pivots

CAMERAS = 6


def make_world(num_images: int, dim: int = 1280) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    person = torch.arange(num_images) % (num_images // 20)
    persons = torch.randn(num_images // 20, dim, generator=generator)
    jitter = torch.randn(num_images, dim, generator=generator)
    camids = torch.randint(CAMERAS, (num_images,), generator=generator)
    features = normalize(persons[person] + jitter, dim=1)
    return features, person // 2, person * CAMERAS + camids, camids


def loop_scores(features: torch.Tensor, k: int = 15) -> torch.Tensor:
    """Pivot scores from the full matrix of distances, image by image."""
    distance = (1 - features @ features.T).clamp(min=0)
    distance.fill_diagonal_(0)
    table = distance.topk(k, largest=False)[0]
    mean = table.mean()
    scores = [float((1 / (d[1:] + mean))[d[1:] <= 0.5].sum()) for d in table]
    return torch.tensor(scores)


def loop_refine(
    labels: torch.Tensor, local: torch.Tensor, camids: torch.Tensor, pivots: Any
) -> torch.Tensor:
    """Refinement pivot by pivot, as Algorithm 1 of CALR is printed."""
    labels = labels.clone()
    for pivot in pivots.tolist():
        if labels[pivot] < 0:
            continue
        share = (labels == labels[pivot]) & (camids == camids[pivot])
        labels[share & (local != local[pivot])] = -1
    return labels


def measure(num_images: int) -> None:
    features, labels, local, camids = make_world(num_images)
    scores, ours = timed(lambda: pivot_scores(features), 3)
    naive, slow = timed(lambda: loop_scores(features), 1)
    largest = float((scores - naive).abs().max())
    print(
        f"N {num_images:6d}  pivot scores  {ours:7.3f} s, full matrix and loop "
        f"{slow:7.3f} s: {slow / ours:6.1f} times faster; "
        f"largest difference {largest:.1e}"
    )
    every = select_pivots(scores, labels, camids, "every")
    best, choose = timed(lambda: select_pivots(scores, labels, camids), 3)
    refined, ours = timed(lambda: refine_labels(labels, local, camids, best), 3)
    naive, slow = timed(lambda: loop_refine(labels, local, camids, every), 1)
    same = np.array_equal(refined.labels.numpy() >= 0, naive.numpy() >= 0)
    print(
        f"N {num_images:6d}  refinement    {choose + ours:7.3f} s, loop over "
        f"{len(every)} pivots {slow:7.3f} s: {slow / (choose + ours):6.1f} times "
        f"faster; {'same' if same else 'OTHER'} images discarded"
    )


def main(sizes: list[int]) -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, D = 1280")
    for num_images in sizes:
        measure(num_images)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [3000, 12000])
