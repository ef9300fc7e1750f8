"""Two descriptors weighted by the quality of the image, and the loss of the weight.

Worked example: the appearance branch has a loss of 3 and the attribute branch of 1. The
target of E2 is alpha = 3 / (3 + 1) = 0.75. As the paper prints E3, alpha weighs the
*appearance*, and so the worse branch gets three quarters. In the rows of the paper's
Table 4 (``apn_only_alpha_0``) alpha weighs the *attributes*, and the better branch gets
them. The second is the default.

What a training step calls does not look at the values of tensors, for which it would
have to wait for a GPU: what is no loss or no weight gives NaN, and a run says that it
diverged. Lists and arrays are looked at.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reidlib.checks import (
    Array,
    check_array,
    check_choice,
    check_count,
    check_number,
)
from reidlib.errors import ReIDError
from reidlib.quality.identifiability import ScoreNormalisation

AlphaWeighs = Literal["attributes", "appearance"]
"""What alpha weighs; 1 - alpha weighs the other."""


def target_weight(appearance_loss: Array, attribute_loss: Array) -> Tensor:
    """Return the weight that the losses of the two branches ask for, QAFM-E2.

    ``L_apn / (L_apn + L_apan)``: high where the appearance branch is the worse one. It
    is 0.5 where both losses are 0.

    Args:
        appearance_loss: ``(B,)`` loss of each image in the appearance branch, >= 0.
        attribute_loss: ``(B,)`` the same in the attribute branch.

    Returns:
        ``(B,)`` in [0, 1], detached, of float32 at least; NaN where a loss is negative
        or NaN.

    Raises:
        ReIDError: If the shapes are others.

    Example:
        >>> target_weight(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor([0.7500, 0.5000])
    """
    where = "target_weight"
    one = _losses(appearance_loss, "appearance losses", where)
    other = _losses(attribute_loss, "attribute losses", where)
    _same_rows(where, one, other)
    total = one + other
    share = one / total.clamp(min=1e-30)
    # What float32 has no sum or no digits of is divided by the larger one first.
    odd = (total < 1e-30) | ((one < math.inf) & (other < math.inf) & total.isinf())
    large = torch.maximum(one, other).double()
    part = one.double() / large
    scaled = torch.where(large > 0, part / (part + other.double() / large), 0.5)
    share = torch.where(odd, scaled.to(share), share)
    return torch.where((one >= 0) & (other >= 0), share, math.nan)


def weigh(
    appearance: Array,
    attributes: Array,
    alpha: Array | float,
    alpha_weighs: AlphaWeighs = "attributes",
) -> Tensor:
    """Concatenate the two descriptors, weighted, QAFM-E3.

    Args:
        appearance: ``(B, D)`` v_a.
        attributes: ``(B, E)`` v_s.
        alpha: ``(B,)`` or a number, in [0, 1].
        alpha_weighs: ``"attributes"``: ``[(1 - alpha) v_a, alpha v_s]``, as in the
            paper's Table 4 and its code; ``"appearance"``: ``[alpha v_a, (1 - alpha)
            v_s]``, as E3 is printed.

    Returns:
        ``(B, D + E)``, of the type of the descriptors; NaN where a tensor of alpha is
        outside [0, 1].

    Raises:
        ReIDError: If another alpha is outside [0, 1], or the shapes do not fit.

    Example:
        >>> weigh(torch.ones(1, 2), torch.ones(1, 1), 0.25)
        tensor([[0.7500, 0.7500, 0.2500]])
    """
    where = "weigh"
    check_choice(alpha_weighs, "alpha_weighs", where, get_args(AlphaWeighs))
    v_a = _floats(appearance, "appearance descriptors", where, ndim=2)
    v_s = _floats(attributes, "attribute descriptors", where, ndim=2).to(v_a.device)
    kind = torch.promote_types(v_a.dtype, v_s.dtype)
    if isinstance(alpha, Tensor | np.ndarray | list):
        each = _weights(alpha, where).to(v_a.device, kind)
    else:
        number = check_number(alpha, "alpha", where, 0, 1)
        each = v_a.new_full((len(v_a),), number, dtype=kind)
    _same_rows(where, v_a, v_s, each)
    of_appearance = 1 - each if alpha_weighs == "attributes" else each
    share = of_appearance[:, None]
    return torch.cat([share * v_a, (1 - share) * v_s], dim=1)


def weight_loss(
    alpha: Array,
    appearance_loss: Array,
    attribute_loss: Array,
    kind: Literal["ratio", "linear"] = "ratio",
) -> Tensor:
    """Return the loss of the predicted weights, QAFM-E6.

    The paper calls it a cross-entropy against the target of E2 and prints a mean that
    is linear in alpha. Its minimum is at 0 or at 1, whichever branch has the smaller
    loss on average, and so it drives alpha to an end.

    Args:
        alpha: ``(B,)`` in (0, 1), with a gradient.
        appearance_loss: ``(B,)``, not followed back.
        attribute_loss: ``(B,)``, not followed back.
        kind: ``"ratio"``: binary cross-entropy against `target_weight`; ``"linear"``:
            ``(1 - alpha) L_apn + alpha L_apan``, to the letter.

    Returns:
        Scalar; NaN if a weight is outside [0, 1], or a loss is negative or NaN.

    Raises:
        ReIDError: If the shapes are others or the kind is unknown.

    Example:
        >>> half = torch.tensor([0.5])
        >>> weight_loss(half, torch.tensor([3.0]), torch.tensor([1.0]), "linear")
        tensor(2.)
    """
    where = "weight_loss"
    check_choice(kind, "kind", where, ("ratio", "linear"))
    weight = _at_least_float32(_weights(alpha, where))
    one = _losses(appearance_loss, "appearance losses", where).to(weight)
    other = _losses(attribute_loss, "attribute losses", where).to(weight)
    _same_rows(where, weight, one, other)
    target = target_weight(one, other)
    sound = ~(weight.detach() + target).isnan()
    if kind == "linear":
        each = torch.lerp(one, other, weight)
    else:  # which PyTorch refuses to compute of NaN
        each = F.binary_cross_entropy(
            torch.where(sound, weight, 0.5),
            torch.where(sound, target, 0.5),
            reduction="none",
        )
    return torch.where(sound, each, math.nan).mean()


class QualityWeight(nn.Module):
    """From the identifiability of an image to alpha: a small perceptron and a sigmoid.

    The paper says "a single perceptron" and "1 -> 32 -> 1"; the second is the default.

    Args:
        hidden: Width of the hidden layer; 0 for none.

    Attributes:
        normalise: The `ScoreNormalisation` of what comes in.

    Example:
        >>> QualityWeight()(torch.zeros(4)).shape
        torch.Size([4])
    """

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.normalise = ScoreNormalisation()
        check_count(hidden, "hidden", "QualityWeight", least=0)
        self.layers = nn.Sequential(nn.Linear(1, hidden or 1))
        if hidden:
            self.layers.extend([nn.ReLU(), nn.Linear(hidden, 1)])

    def forward(self, scores: Array) -> Tensor:
        """Return ``(B,)`` alpha in (0, 1) of ``(B,)`` scores as they were measured."""
        normal = self.normalise(scores)[:, None].to(_type_of(self.layers))
        return self.layers(normal)[:, 0].float().sigmoid()


class FusionLayer(nn.Module):
    """The last layer, from the weighted concatenation to the descriptor.

    Args:
        in_features: D + E, 2048 in the paper.
        out_features: 1000 in the paper; its code has 1024.
        activation: Batch norm and ReLU behind it, as in the code.

    Example:
        >>> FusionLayer(8, 4)(torch.ones(2, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self, in_features: int, out_features: int = 1000, activation: bool = False
    ) -> None:
        super().__init__()
        for name, value in (
            ("in_features", in_features),
            ("out_features", out_features),
        ):
            check_count(value, name, "FusionLayer")
        self.layers = nn.Sequential(nn.Linear(in_features, out_features))
        if activation:
            self.layers.extend([nn.BatchNorm1d(out_features), nn.ReLU()])

    def forward(self, weighted: Tensor) -> Tensor:
        """Return ``(B, out_features)`` of ``(B, in_features)``."""
        return self.layers(weighted.to(_type_of(self.layers)))


class WeightedFusion(nn.Module):
    """What QAFM puts on its two branches: alpha, the weighted pair, the last layer.

    Args:
        in_features: D + E, the lengths of both descriptors together.
        out_features: See `FusionLayer`.
        activation: See `FusionLayer`.
        hidden: See `QualityWeight`.
        alpha_weighs: See `weigh`.
        fixed_alpha: One alpha for all images, instead of the learned one.

    Raises:
        ReIDError: If a number is out of its range, or a choice unknown.

    Example:
        >>> fusion = WeightedFusion(4, 3)
        >>> alpha = fusion.alpha(torch.zeros(2))
        >>> fusion(torch.ones(2, 2), torch.ones(2, 2), alpha).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int = 1000,
        activation: bool = False,
        hidden: int = 32,
        alpha_weighs: AlphaWeighs = "attributes",
        fixed_alpha: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = QualityWeight(hidden)
        self.layer = FusionLayer(in_features, out_features, activation)
        where = "WeightedFusion"
        check_choice(alpha_weighs, "alpha_weighs", where, get_args(AlphaWeighs))
        if fixed_alpha is not None:
            check_number(fixed_alpha, "fixed_alpha", where, 0, 1)
        self.alpha_weighs = alpha_weighs
        self.fixed_alpha = fixed_alpha

    def alpha(self, scores: Array) -> Tensor:
        """Return the ``(B,)`` weights for ``(B,)`` scores of identifiability."""
        if self.fixed_alpha is not None:
            known = self.weight.normalise(scores)
            return torch.full_like(known, self.fixed_alpha)
        weights: Tensor = self.weight(scores)
        return weights

    def forward(
        self,
        appearance: Array,
        attributes: Array,
        alpha: Array | float,
        detached: bool = False,
    ) -> Tensor:
        """Return the ``(B, out_features)`` descriptor, not L2-normalised.

        Args:
            appearance: ``(B, D)`` v_a.
            attributes: ``(B, E)`` v_s.
            alpha: ``(B,)``, or one number for all.
            detached: Let no gradient into the weights of the last layer, nor count the
                batch again in its statistics.
        """
        weighted = weigh(appearance, attributes, alpha, self.alpha_weighs)
        if not detached:
            fused: Tensor = self.layer(weighted)
            return fused
        fixed = {name: p.detach() for name, p in self.layer.named_parameters()}
        fixed |= {name: b.clone() for name, b in self.layer.named_buffers()}
        fused = functional_call(self.layer, fixed, (weighted,))
        return fused


def _floats(
    values: Array | list[float], name: str, where: str, ndim: int = 1
) -> Tensor:
    """Return numbers as a tensor of floating point; that of a tensor has its graph."""
    tensor = values
    if not isinstance(tensor, Tensor):
        tensor = check_array(tensor, name, where)
    if tensor.is_complex() or tensor.ndim != ndim:
        raise ReIDError(
            f"{where}: {name} are of type {tensor.dtype} and shape "
            f"{tuple(tensor.shape)}; give real numbers of shape "
            f"{'(B,)' if ndim == 1 else '(B, D)'}"
        )
    return tensor if tensor.is_floating_point() else tensor.float()


def _losses(values: Array, name: str, where: str) -> Tensor:
    """Return ``(B,)`` losses without a graph, of float32 at least."""
    losses = _at_least_float32(_floats(values, name, where).detach())
    if not isinstance(values, Tensor) and not bool((losses >= 0).all()):
        raise ReIDError(f"{where}: {name} hold {float(losses.min())}; give 0 or more")
    return losses


def _weights(alpha: Array | list[float], where: str) -> Tensor:
    """Return ``(B,)`` weights, NaN for those of a tensor that are outside [0, 1]."""
    weights = _floats(alpha, "alpha", where)
    inside = (weights >= 0) & (weights <= 1)
    if not isinstance(alpha, Tensor) and not bool(inside.all()):
        wrong = float(weights[~inside][0])
        raise ReIDError(f"{where}: alpha is {wrong:g}; give numbers in [0, 1]")
    return torch.where(inside, weights, math.nan)


def _type_of(module: nn.Module) -> torch.dtype:
    """Return the type of the weights, for a network after half() or double()."""
    return next(module.parameters()).dtype


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _same_rows(where: str, *tensors: Tensor) -> None:
    lengths = [len(tensor) if tensor.ndim else 0 for tensor in tensors]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ReIDError(
            f"{where}: {' and '.join(str(tuple(x.shape)) for x in tensors)} do not "
            "belong together; give one row for each image"
        )
