"""The gradient of a depthwise kernel of 5 x 5, three to thirty times as fast on a CPU.

oneDNN has a fast path for kernels of 3 x 3 only. Beyond, the gradient of the weights
took twenty times as long as the convolution, and two fifths of the backward pass of
EfficientNet-Lite0. It is one sum for each tap of the kernel:

    gradient[c, i, j] = sum of map[n, c, y + i, x + j] * upstream[n, c, y, x]

numba is optional, see `reidlib.neighbors.kernels`; without it PyTorch computes the
same sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from reidlib.neighbors.kernels import in_threads, is_installed


def is_depthwise(conv: Any, x: Tensor) -> bool:
    """Return whether `depthwise` computes this convolution, and its gradients.

    It does where the weight learns, on a CPU, in float32, with the channels last.

    Args:
        conv: ``nn.Conv2d`` or timm's ``Conv2dSame``.
        x: Its input, ``(B, C, h, w)``.
    """
    return (
        conv.groups > 1
        and conv.groups == conv.in_channels == conv.out_channels
        and min(conv.kernel_size) > 3
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and conv.bias is None
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and torch.is_grad_enabled()
        and conv.weight.requires_grad
        and x.device.type == "cpu"
        and x.dtype is conv.weight.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
        and is_installed()
    )


def depthwise(conv: Any, x: Tensor) -> Tensor:
    """Convolve each channel with a kernel of its own.

    Args:
        conv: A convolution for which `is_depthwise` says yes.
        x: Its input, ``(B, C, h, w)``.

    Returns:
        What the convolution returns, with the same first derivatives but for rounding.
        There are no second ones, nor those of ``torch.func``.
    """
    padding = conv.padding
    if conv.unfolded.__name__ == "Conv2dSame":
        from timm.layers.padding import pad_same

        x, padding = pad_same(x, conv.weight.shape[2:], conv.stride), (0, 0)
    made: Tensor = _Depthwise.apply(x, conv.weight, conv.stride, padding)
    return made


class _Depthwise(torch.autograd.Function):
    """The convolution with another backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: Any, padding: Any
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.place = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        from reidlib.models.compiled import weight_gradient

        x, weight = ctx.saved_tensors
        stride, padding = ctx.place
        of_x = None
        if ctx.needs_input_grad[0]:
            # torch.nn.grad.conv2d_input would forget the order of the map's memory.
            of_x, _, _ = torch.ops.aten.convolution_backward(
                *(upstream, x, weight, None, stride, padding, (1, 1), False, (0, 0)),
                *(len(weight), (True, False, False)),
            )
        # Channels side by side, so that each sum runs over whole vector registers.
        pixels = [
            one.contiguous(memory_format=torch.channels_last)
            .permute(0, 2, 3, 1)
            .numpy()
            for one in (x, upstream)
        ]
        taps = np.zeros((*weight.shape[2:], len(weight)), np.float32)
        in_threads(weight_gradient, len(taps), *pixels, *stride, *padding, taps)
        of_weight = torch.from_numpy(taps).permute(2, 0, 1).contiguous().unsqueeze(1)
        return of_x, of_weight, None, None
