"""Two descriptors weighted by the quality of the image, and the loss of the weight.

Worked example: the appearance branch has a loss of 3 and the attribute branch of 1. The
target of E2 is alpha = 3 / (3 + 1) = 0.75. As the paper prints E3, alpha weighs the
*appearance*, and so the worse branch gets three quarters. In the rows of the paper's
Table 4 (``apn_only_alpha_0``) alpha weighs the *attributes*, and the better branch gets
them. The second is the default.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reidlib.checks import check_choice, check_count
from reidlib.errors import ReIDError
from reidlib.quality.identifiability import ScoreNormalisation

AlphaWeighs = Literal["attributes", "appearance"]
"""What alpha weighs; 1 - alpha weighs the other."""


def target_weight(appearance_loss: Tensor, attribute_loss: Tensor) -> Tensor:
    """Return the weight that the losses of the two branches ask for, QAFM-E2.

    ``L_apn / (L_apn + L_apan)``: high where the appearance branch is the worse one. It
    is 0.5 where both losses are 0.

    Args:
        appearance_loss: ``(B,)`` loss of each image in the appearance branch, >= 0.
        attribute_loss: ``(B,)`` the same in the attribute branch.

    Returns:
        ``(B,)`` in [0, 1], detached.

    Raises:
        ReIDError: If the shapes differ.

    Example:
        >>> target_weight(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor([0.7500, 0.5000])
    """
    _same_rows("target_weight", appearance_loss, attribute_loss)
    one, other = appearance_loss.detach(), attribute_loss.detach()
    total = one + other
    return torch.where(total > 0, one / total.clamp(min=1e-30), 0.5)


def weigh(
    appearance: Tensor,
    attributes: Tensor,
    alpha: Tensor | float,
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
        ``(B, D + E)``.

    Raises:
        ReIDError: If alpha is a number outside [0, 1], or the shapes do not fit.

    Example:
        >>> weigh(torch.ones(1, 2), torch.ones(1, 1), 0.25)
        tensor([[0.7500, 0.7500, 0.2500]])
    """
    where = "weigh"
    check_choice(alpha_weighs, "alpha_weighs", where, get_args(AlphaWeighs))
    if not isinstance(alpha, Tensor):
        if not 0 <= alpha <= 1:
            raise ReIDError(f"{where}: alpha is {alpha}; give a number in [0, 1]")
        alpha = appearance.new_full((len(appearance),), alpha)
    _same_rows(where, appearance, attributes, alpha)
    of_appearance = 1 - alpha if alpha_weighs == "attributes" else alpha
    share = of_appearance[:, None]
    return torch.cat([share * appearance, (1 - share) * attributes], dim=1)


def weight_loss(
    alpha: Tensor,
    appearance_loss: Tensor,
    attribute_loss: Tensor,
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
        Scalar.

    Raises:
        ReIDError: If the shapes differ or the kind is unknown.

    Example:
        >>> half = torch.tensor([0.5])
        >>> weight_loss(half, torch.tensor([3.0]), torch.tensor([1.0]), "linear")
        tensor(2.)
    """
    check_choice(kind, "kind", "weight_loss", ("ratio", "linear"))
    _same_rows("weight_loss", alpha, appearance_loss, attribute_loss)
    if kind == "linear":
        one, other = appearance_loss.detach(), attribute_loss.detach()
        return torch.lerp(one, other, alpha).mean()
    target = target_weight(appearance_loss, attribute_loss)
    return F.binary_cross_entropy(alpha, target.to(alpha.dtype))


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

    def forward(self, scores: Tensor) -> Tensor:
        """Return ``(B,)`` alpha in (0, 1) of ``(B,)`` scores as they were measured."""
        return self.layers(self.normalise(scores)[:, None])[:, 0].float().sigmoid()


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
        return self.layers(weighted)


class WeightedFusion(nn.Module):
    """What QAFM puts on its two branches: alpha, the weighted pair, the last layer.

    Args:
        in_features: D + E, the lengths of both descriptors together.
        out_features: See `FusionLayer`.
        activation: See `FusionLayer`.
        hidden: See `QualityWeight`.
        alpha_weighs: See `weigh`.
        fixed_alpha: One alpha for all images, instead of the learned one.

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
        self.alpha_weighs = alpha_weighs
        self.fixed_alpha = fixed_alpha

    def alpha(self, scores: Tensor) -> Tensor:
        """Return the ``(B,)`` weights for ``(B,)`` scores of identifiability."""
        if self.fixed_alpha is not None:
            return torch.full_like(scores, self.fixed_alpha)
        weights: Tensor = self.weight(scores)
        return weights

    def forward(
        self,
        appearance: Tensor,
        attributes: Tensor,
        alpha: Tensor | float,
        detached: bool = False,
    ) -> Tensor:
        """Return the ``(B, out_features)`` descriptor, not L2-normalised.

        Args:
            appearance: ``(B, D)`` v_a.
            attributes: ``(B, E)`` v_s.
            alpha: ``(B,)``, or one number for all.
            detached: Let no gradient into the weights of the last layer.
        """
        weighted = weigh(appearance, attributes, alpha, self.alpha_weighs)
        if not detached:
            fused: Tensor = self.layer(weighted)
            return fused
        fixed = {name: p.detach() for name, p in self.layer.named_parameters()}
        fused = functional_call(self.layer, fixed, (weighted,))
        return fused


def _same_rows(where: str, *tensors: Tensor) -> None:
    lengths = [len(tensor) if tensor.ndim else 0 for tensor in tensors]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ReIDError(
            f"{where}: {' and '.join(str(tuple(x.shape)) for x in tensors)} do not "
            "belong together; give one row for each image"
        )
