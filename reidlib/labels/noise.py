"""Wrong labels, planted on purpose, to see what a method does with them."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import (
    Array,
    check_camids,
    check_choice,
    check_ids,
    check_number,
    check_same_length,
)
from reidlib.errors import ReIDError

Noise = Literal["random", "camera"]
"""How `plant_noise` chooses what gets a wrong label."""


def plant_noise(
    labels: Array,
    rate: float,
    generator: torch.Generator,
    *,
    kind: Noise = "random",
    camids: Array | None = None,
) -> Tensor:
    """Give a share of the images the label of another class.

    - ``"random"``: single images, each with another class drawn evenly.
    - ``"camera"``: all images of a class under one camera get one other class that the
      same camera shows, as clusters merge two people who look alike to a camera. Such
      errors agree with each other, and so a classifier can learn them.

    Args:
        labels: ``(N,)`` classes from 0 without a gap.
        rate: Share of the images that get a wrong label, in [0, 1]. With ``"camera"``
            whole groups are drawn as long as they fit, so that it is reached from
            below.
        generator: Source of the draws.
        kind: See above.
        camids: ``(N,)`` cameras, for ``"camera"``.

    Returns:
        ``(N,)`` int64 labels.

    Raises:
        ReIDError: If the rate is outside [0, 1], there is only one class, cameras are
            missing or show one class each, or the columns differ in length.

    Example:
        >>> labels = torch.arange(10) % 5
        >>> noisy = plant_noise(labels, 0.3, torch.Generator().manual_seed(0))
        >>> int((noisy != labels).sum())
        3
    """
    where = "plant_noise"
    check_choice(kind, "kind", where, get_args(Noise))
    rate = check_number(rate, "rate", where, 0, 1)
    clean = check_ids(labels, "labels", where)
    num_classes = len(np.unique(clean))
    if num_classes < 2 or clean.min() != 0 or clean.max() != num_classes - 1:
        raise ReIDError(
            f"{where}: {num_classes} classes in {len(clean)} labels; give two or more, "
            "numbered from 0 without a gap"
        )
    budget = int(rate * len(clean) + 1e-9)
    noisy = clean.copy()
    if kind == "random":
        rows = torch.randperm(len(clean), generator=generator)[:budget].numpy()
        step = torch.randint(1, num_classes, (budget,), generator=generator).numpy()
        noisy[rows] = (clean[rows] + step) % num_classes
        return torch.from_numpy(noisy)
    if camids is None:
        raise ReIDError(f"{where}: kind is 'camera'; give the camera of each image")
    cameras = check_camids(camids, where)
    check_same_length(where, labels=clean, camids=cameras)
    groups = np.unique(np.stack([clean, cameras], axis=1), axis=0)
    if budget and np.unique(groups[:, 1]).size == len(groups):
        raise ReIDError(
            f"{where}: every camera shows one class, so that no image can get another "
            "of its camera; use kind 'random'"
        )
    for place in torch.randperm(len(groups), generator=generator).tolist():
        label, camera = groups[place]
        rows = np.flatnonzero((clean == label) & (cameras == camera))
        others = groups[(groups[:, 1] == camera) & (groups[:, 0] != label), 0]
        if len(rows) <= budget and len(others):
            draw = int(torch.randint(len(others), (1,), generator=generator))
            noisy[rows] = others[draw]
            budget -= len(rows)
    return torch.from_numpy(noisy)
