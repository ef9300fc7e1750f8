"""Weights of clusters, by the entropy of their cameras."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import Array, check_camids, check_labels, check_same_length
from reidlib.errors import ReIDError
from reidlib.labels.pseudo_labels import OUTLIER


def camera_entropy_weights(pseudo_labels: Array, camids: Array) -> Tensor:
    """Return the weight of each cluster: ``ln(1 + H)``, H its camera entropy (CALR-E6).

    A cluster of one camera teaches nothing about other cameras and has weight 0; one
    that is spread evenly over C cameras has ``ln(1 + ln C)``. CALR takes the weight
    from another paper and does not print it; this is the formula of its published code.

    Args:
        pseudo_labels: ``(N,)`` clusters, contiguous from 0, -1 for an outlier.
        camids: ``(N,)`` camera ids.

    Returns:
        ``(C,)`` float32 weights on the CPU, one for each cluster.

    Raises:
        ReIDError: If the columns differ in length, a camera is unknown, or a cluster
            between 0 and the highest is empty.

    Example:
        >>> clusters, camids = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
        >>> camera_entropy_weights(clusters, camids)
        tensor([0.0000, 0.5266])
    """
    where = "camera_entropy_weights"
    labels = check_labels(pseudo_labels, where)
    cameras = check_camids(camids, where)
    check_same_length(where, pseudo_labels=labels, camids=cameras)
    member = labels != OUTLIER
    if not member.any():
        return torch.zeros(0)
    labels, cameras = labels[member], np.unique(cameras[member], return_inverse=True)[1]
    found = np.unique(labels)
    num_clusters, num_cams = len(found), int(cameras.max()) + 1
    if found[-1] >= num_clusters:
        empty = int((found == np.arange(num_clusters)).sum())
        raise ReIDError(
            f"{where}: cluster {empty} is empty; number clusters with "
            "contiguous_labels first"
        )
    counts = np.bincount(labels * num_cams + cameras, minlength=num_clusters * num_cams)
    counts = counts.reshape(num_clusters, num_cams)
    sizes = counts.sum(axis=1, keepdims=True)
    share = counts / sizes
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return torch.from_numpy(np.log1p(entropy.clip(min=0))).float()
