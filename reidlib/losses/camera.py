"""Camera alignment: a loss that removes camera information from features (CALR)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_batch, explain_classes
from reidlib.errors import ReIDError


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """Return ``x``; in the backward pass multiply its gradient by -lambda, CALR-E7.

    The gradient reversal layer (Ganin et al., JMLR 2016). The layers after it learn to
    lower a loss, the layers before it learn to raise the same loss: one backward pass
    trains both sides of a game.

    Args:
        x: Any tensor.
        strength: lambda, 0 or more; 0 lets no gradient through.

    Returns:
        ``x``, value for value.

    Raises:
        ReIDError: If the strength is negative or not finite.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> reverse_gradient(x, 0.5).sum().backward()
        >>> x.grad
        tensor([-0.5000, -0.5000])
    """
    if not (math.isfinite(strength) and strength >= 0):
        raise ReIDError(
            f"reverse_gradient: strength is {strength}; give a number from 0 up: the "
            "layer changes the sign itself"
        )
    return _Reversal.apply(x, strength)


def reversal_strength(
    progress: float, strength: float = 1.0, gamma: float = 0.0
) -> float:
    """Return lambda of the gradient reversal, CALR-E7, at a point of the training.

    ``strength (2 / (1 + exp(-gamma progress)) - 1)``, the ramp of Ganin et al. (their
    gamma is 10), which lets the classifier learn before the features follow it. CALR's
    published code has a constant lambda: ``gamma = 0``.

    Args:
        progress: Share of the training that is over, in [0, 1].
        strength: What lambda rises to. With the gamma of Ganin et al. it is reached at
            the end of the training; with a small gamma it is not.
        gamma: Steepness of the ramp; 0: no ramp.

    Returns:
        lambda, between 0 and ``strength``.

    Raises:
        ReIDError: If the progress is outside [0, 1], or gamma is negative.

    Example:
        >>> [round(reversal_strength(p, gamma=10), 2) for p in (0.0, 0.1, 1.0)]
        [0.0, 0.46, 1.0]
    """
    if not 0 <= progress <= 1:
        raise ReIDError(f"progress is {progress}; a share of the training is in [0, 1]")
    if gamma < 0:
        raise ReIDError(f"gamma is {gamma}; give 0 for no ramp, or a positive number")
    if gamma == 0:
        return strength
    return strength * (2 / (1 + math.exp(-gamma * progress)) - 1)


class CameraClassifier(nn.Module):
    """Predict the camera of a feature, behind a gradient reversal.

    The domain classifier D of CALR-E8: two hidden layers, with the sizes of the
    published code.

    Args:
        num_features: D, the length of a feature.
        num_cams: Number of cameras.
        hidden: Width of the hidden layers.
        dropout: Share of the first hidden layer that is dropped in training.

    Raises:
        ReIDError: If there are fewer than two cameras.

    Example:
        >>> classifier = CameraClassifier(num_features=8, num_cams=3)
        >>> classifier(torch.zeros(4, 8)).shape
        torch.Size([4, 3])
    """

    def __init__(
        self,
        num_features: int,
        num_cams: int,
        hidden: int = 100,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if num_cams < 2:
            raise ReIDError(
                f"a camera classifier for {num_cams} camera; with fewer than two there "
                "is nothing to align: leave it out (beta = 0), or train the baseline"
            )
        self.num_features, self.num_cams = num_features, num_cams
        self.layers = nn.Sequential(
            nn.Linear(num_features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_cams),
        )

    def forward(self, features: Tensor, strength: float = 1.0) -> Tensor:
        """Return the logits of each camera.

        Args:
            features: ``(B, D)``; their gradient is reversed.
            strength: lambda of the reversal.

        Returns:
            ``(B, num_cams)`` logits.

        Raises:
            ReIDError: If the shape does not fit, or the strength is out of range.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise ReIDError(
                f"features have shape {tuple(features.shape)}; this camera classifier "
                f"takes (B, {self.num_features})"
            )
        return self.layers(reverse_gradient(features, strength))


def camera_loss(
    logits: Tensor,
    camids: Tensor,
    form: Literal["cross_entropy", "double_softmax"] = "cross_entropy",
) -> Tensor:
    """Return the classification loss of the camera, CALR-E8, the mean over the batch.

    The paper prints the sum over all images. The mean does not depend on the size of
    the batch, and the published code takes it as well.

    Args:
        logits: ``(B, num_cams)`` from a `CameraClassifier`.
        camids: ``(B,)`` int64 cameras.
        form: ``"cross_entropy"``, or ``"double_softmax"`` as in the published code,
            which applies a second softmax to the probabilities. That loss cannot fall
            below ``ln(1 + (C - 1) / e)`` nor rise above ``ln(e + C - 1)``, and its
            gradient is many times smaller.

    Returns:
        Scalar float32.

    Raises:
        ReIDError: If shapes do not fit, or the form is unknown; on the CPU also if a
            camera is out of range.

    Example:
        >>> camera_loss(torch.zeros(2, 6), torch.tensor([0, 5]))
        tensor(1.7918)
        >>> camera_loss(torch.eye(2) * 99, torch.tensor([0, 1]), "double_softmax")
        tensor(0.3133)
    """
    check_batch(logits, camids)
    if form not in ("cross_entropy", "double_softmax"):
        raise ReIDError(f"form is {form!r}; choose from cross_entropy, double_softmax")
    logits = logits.float()
    if form == "double_softmax":
        logits = logits.softmax(dim=1)
    with explain_classes(camids, logits.shape[1]):
        return F.cross_entropy(logits, camids)
