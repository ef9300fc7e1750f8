"""Batch norms are folded into the convolution before them where nothing is learned.

In eval mode a batch norm multiplies each channel by a number and adds another. A
convolution with other weights does both at once:

>>> conv, norm = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0)
>>> pair = fold_batch_norms(nn.Sequential(conv, norm)).eval()
>>> _ = nn.init.constant_(conv.weight, 2.0), norm.running_mean.fill_(4.0)
>>> pair(torch.full((16, 1, 1, 1), 3.0))[0].item()  # 6, and then (6 - 4) / 1
2.0
>>> with torch.no_grad(), folding(pair, torch.zeros(16, 1, 1, 1)):
...     conv(torch.full((16, 1, 1, 1), 3.0))[0].item()  # the convolution does both
2.0

The sweep over every map that a batch norm costs is saved, and so are those of ReLU6 and
of TensorFlow's padding: on a CPU half of the time of extraction with Lite0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.models.depthwise import depthwise, is_depthwise

Model = TypeVar("Model", bound=nn.Module)

FEWEST = 16
"""Images from which on folding costs less than what it saves."""

_CONVOLUTIONS = ("Conv2d", "Conv2dSame")
_NORMS = ("BatchNorm2d", "BatchNormAct2d")
# Convolves and clamps in one sweep, to the same numbers; not in every build of PyTorch.
_CLAMPED: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
_PAIRS: ContextVar[dict[nn.Module, Any]] = ContextVar("pairs", default={})  # noqa: B039


def fold_batch_norms(model: Model) -> Model:
    """Prepare the convolutions and batch norms of a network for `folding`.

    Alone it changes nothing, nor the keys of the state dict.

    Args:
        model: Network, changed in place, in which a convolution and a batch norm of its
            width that are registered one after the other are also called so.

    Returns:
        The same model.
    """
    for module in model.modules():
        kind: Any = type(module)
        if kind.__module__.startswith(("torch.nn.", "timm.layers.")):
            own: Any = module
            if kind.__name__ in _CONVOLUTIONS:
                own.__class__ = _with(_FoldingConvolution, kind)
            elif kind.__name__ in _NORMS:
                own.__class__ = _with(_FoldedNorm, kind)
    return model


@contextmanager
def folding(stage: nn.Module, x: Tensor) -> Iterator[None]:
    """Let convolutions apply the batch norms that follow them, where they can.

    They do where neither the input nor a weight of the stage learns, in eval mode, on a
    CPU, for 16 images or more. Weights are folded anew in each pass, so they may change
    in any way, and no module is changed, so other threads may use the network. Features
    are those of before but for rounding; bfloat16, which would round weights to eight
    bits again, is left alone. So is a pair of which one is replaced or has a hook.

    Args:
        stage: Part of a network that `fold_batch_norms` has prepared.
        x: Its input, ``(B, C, h, w)``.
    """
    learns = torch.is_grad_enabled() and (
        x.requires_grad or any(weight.requires_grad for weight in stage.parameters())
    )
    if (
        torch.compiler.is_compiling()  # first: a batch may have no length yet
        or learns
        or len(x) < FEWEST
        or x.device.type != "cpu"
    ):
        yield
        return
    token = _PAIRS.set(dict(_pairs(stage)))
    try:
        yield
    finally:
        _PAIRS.reset(token)


def _pairs(stage: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    """Yield the convolutions that can apply the batch norm that follows, with it."""
    for parent in stage.modules():
        for conv, norm in itertools.pairwise(parent._modules.values()):
            if (
                isinstance(conv, _FoldingConvolution)
                and isinstance(norm, _FoldedNorm)
                and _is_plain(conv)
                and _is_plain(norm)
                and not norm.training
                and norm.running_var is not None
                and conv.out_channels == norm.num_features
                and conv.weight.dtype is not torch.bfloat16
                and conv.padding_mode == "zeros"
                and (conv.dilation == (1, 1) or conv.unfolded.__name__ == "Conv2d")
            ):
                yield conv, norm


def _is_plain(module: Any) -> bool:
    """Return whether nothing was put around a module or its weight."""
    return not _has_hooks(module) and module._parameters.get("weight") is not None


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


class _Prepared(nn.Module):
    """What classes made by `_with` share."""

    mixin: Any
    unfolded: Any

    def __reduce_ex__(self, protocol: Any) -> Any:
        if type(self) is not _with(self.mixin, self.unfolded):
            return super().__reduce_ex__(protocol)
        return _empty, (self.mixin, self.unfolded), self.__dict__


class _FoldingConvolution(_Prepared):
    """Mixed into a convolution: apply the batch norm that follows, where it may."""

    out_channels: int
    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and normalise if this is a pass in which the norm is folded."""
        norm = _PAIRS.get().get(self)
        if norm is None:
            made: Tensor = (
                depthwise(self, x) if is_depthwise(self, x) else super().forward(x)
            )
            return made
        kind = self.weight.dtype
        precise = torch.promote_types(kind, torch.float32)
        scale = norm.weight / (norm.running_var.to(precise) + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        weight = (self.weight * scale.view(-1, 1, 1, 1)).to(kind)
        made = _normalised(self, norm, x, weight, shift.to(kind))
        made.normalised_by = norm  # type: ignore[attr-defined]
        return made


class _FoldedNorm(_Prepared):
    """Mixed into a batch norm: leave alone what its convolution has normalised."""

    num_features: int
    running_var: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, unless it is done; then the activation of timm's batch norms."""
        if getattr(x, "normalised_by", None) is not self:
            made: Tensor = super().forward(x)
            return made
        del x.normalised_by  # type: ignore[attr-defined]
        return x


def _normalised(
    conv: Any, norm: Any, x: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Convolve with folded weights, and apply what timm's batch norm has behind it."""
    padding = conv.padding
    if conv.unfolded.__name__ == "Conv2dSame":
        weight, padding = _padding_kernel(conv, x, weight)
    behind = (getattr(norm, name, None) for name in ("drop", "act"))
    parts = [p for p in behind if p is not None and not _is_only(p, nn.Identity)]
    clamps = len(parts) == 1 and _is_only(parts[0], nn.ReLU6)
    if (
        clamps
        and _CLAMPED
        and x.dtype is torch.float32
        and not isinstance(padding, str)
    ):
        place = map(list, (padding, conv.stride, conv.dilation))
        made: Tensor = _CLAMPED(
            x, weight, bias, *place, conv.groups, "hardtanh", [0.0, 6.0], ""
        )
        return made
    made = F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)
    for part in parts:
        made = part(made)
    return made


def _is_only(part: nn.Module, kind: type) -> bool:
    return type(part) is kind and not _has_hooks(part)


def _padding_kernel(
    conv: Any, x: Tensor, weight: Tensor
) -> tuple[Tensor, tuple[int, int]]:
    """Return a kernel that needs no padded copy of the map, and its padding.

    Where a map of even size is halved, TensorFlow pads one row more at the end than at
    the start. The same comes of as many rows at both, and a kernel that begins with a
    row of zeros, in a third of the time.
    """
    sizes = zip(x.shape[-2:], weight.shape[-2:], conv.stride, strict=True)
    # What is needed so that all of -(-n // step) windows fit.
    wanted = [max((-(-n // step) - 1) * step + k - n, 0) for n, k, step in sizes]
    height, width = wanted
    if height % 2 or width % 2:
        weight = F.pad(weight, (width % 2, 0, height % 2, 0))
    return weight, ((height + 1) // 2, (width + 1) // 2)


@cache
def _with(mixin: Any, plain: Any) -> Any:
    # The module's name makes it a leaf for torch.fx, as the plain class is.
    about = {"mixin": mixin, "unfolded": plain, "__module__": plain.__module__}
    return type(f"{mixin.__name__.strip('_')}{plain.__name__}", (mixin, plain), about)


def _empty(mixin: Any, plain: Any) -> Any:
    return object.__new__(_with(mixin, plain))
