"""Batch norms are folded into the convolution before them where nothing is learned.

In eval mode a batch norm multiplies each channel by a number and adds another. A
convolution with other weights does both at once:

>>> x = torch.tensor([[[[3.0]]]])
>>> pair = fold_batch_norms(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))).eval()
>>> _ = nn.init.constant_(pair[0].weight, 2.0), nn.init.zeros_(pair[0].bias)
>>> _ = pair[1].running_mean.fill_(4.0), pair[1].running_var.fill_(1.0)
>>> pair(x).item()  # with gradients: 6, and then (6 - 4) / 1
1.9999...
>>> with torch.no_grad():
...     pair[0](x.expand(8, 1, 1, 1))[0].item()  # the convolution does both
1.9999...

The sweep over every map that a batch norm costs is saved: on a CPU a third of the time
of extraction.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)

FEWEST = 8
"""Images from which on folding costs less than what it saves."""


def fold_batch_norms(model: Model) -> Model:
    """Let each convolution apply the batch norm that follows it, where it can.

    It does so in eval mode, without gradients, for 8 images or more. Weights are folded
    anew in each pass, so they may change in any way. Results are those of before but
    for rounding, and so are the keys of the state dict. A batch norm that is replaced,
    and a convolution that is replaced or has a hook, work as they always do.

    Args:
        model: Network, changed in place, in which a convolution and a batch norm of its
            width that are registered one after the other are also called so.

    Returns:
        The same model.
    """
    for parent in list(model.modules()):
        children = itertools.pairwise(parent.named_children())
        for (_, conv), (name, norm) in children:
            if (
                isinstance(conv, nn.Conv2d)
                and isinstance(norm, nn.BatchNorm2d)
                and conv.out_channels == norm.num_features
                and norm.affine
            ):
                pair: tuple[Any, Any] = conv, norm
                # In a tuple, or the parent would be a module of its child.
                pair[0].followed_by = (parent, name)
                pair[0].__class__ = _with(_FoldingConvolution, type(conv))
                pair[1].__class__ = _with(_FoldedNorm, type(norm))
    return model


class _Picklable:
    """What classes made by `_with` share."""

    mixin: type
    unfolded: type[nn.Module]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _empty, (self.mixin, self.unfolded), self.__dict__


class _FoldingConvolution(_Picklable):
    """Mixed into a convolution: apply the batch norm that follows, where it can."""

    followed_by: tuple[nn.Module, str]
    weight: Tensor
    bias: Tensor | None
    _forward_hooks: dict[int, Any]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and normalise where nothing is learned."""
        parent, name = self.followed_by
        norm: Any = parent._modules.get(name)
        if (
            torch.is_grad_enabled()
            or torch.compiler.is_compiling()  # first: a batch may have no length yet
            or getattr(norm, "mixin", None) is not _FoldedNorm
            or norm.training
            or norm.running_var is None
            or len(x) < FEWEST
            or self._forward_hooks
        ):
            made: Tensor = super().forward(x)  # type: ignore[misc]
            return made
        kind = self.weight.dtype
        precise = torch.promote_types(kind, torch.float32)
        variance = norm.running_var.to(precise)
        scale = norm.weight / (variance + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        weight = self.weight * scale.view(-1, 1, 1, 1)
        # A twin that shares all but the weights: other threads may use the network.
        twin: Any = object.__new__(self.unfolded)
        folded = {"weight": weight.to(kind), "bias": shift.to(kind)}
        twin.__dict__ = {**self.__dict__, "_parameters": folded}
        made = twin(x)
        made.normalised_by = norm  # type: ignore[attr-defined]
        return made


class _FoldedNorm(_Picklable):
    """Mixed into a batch norm: leave alone what its convolution has normalised."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, unless it is done; then the activation of timm's batch norms."""
        if getattr(x, "normalised_by", None) is not self:
            made: Tensor = super().forward(x)  # type: ignore[misc]
            return made
        for name in ("drop", "act"):
            x = getattr(self, name, _same)(x)
        return x


def _same(x: Tensor) -> Tensor:
    return x


def _with(mixin: Any, plain: Any) -> Any:
    return _made(mixin, plain)


@cache
def _made(mixin: Any, plain: Any) -> Any:
    name = f"{mixin.__name__.strip('_')}{plain.__name__}"
    return type(name, (mixin, plain), {"mixin": mixin, "unfolded": plain})


def _empty(mixin: type, plain: type[nn.Module]) -> Any:
    return object.__new__(_with(mixin, plain))
