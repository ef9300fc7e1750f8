"""What a network costs: parameters, multiply-accumulates, memory."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from reidlib.errors import ReIDError


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        parameters: Number of weights, those included that are not trained.
        macs: Multiply-accumulates of all convolutions and matrix products. This is
            what papers on re-identification, AFF-T8 among them, call FLOPs.
        outputs: Bytes of what all innermost modules put out, each module once. This is
            the memory of AFF-T8. Nothing ever allocates so much: an activation that
            works in place counts as if it did not, and so does an identity.
        peak: Largest number of bytes of images and activations that are alive at one
            time during inference. Weights and a convolution's scratch memory are not
            in it.
        saved: Bytes of activations that training keeps for the backward pass. A batch
            of B images keeps B times as much.
    """

    parameters: int
    macs: int
    outputs: int
    peak: int
    saved: int

    @property
    def flops(self) -> int:
        """Floating point operations: a multiplication and an addition are two."""
        return 2 * self.macs


def network_cost(model: nn.Module, size: tuple[int, int] = (256, 128)) -> Cost:
    """Count what a network needs for one image.

    Three numbers of AFF-T8, and two that say more. Values do not matter, so random
    weights will do; one image is run twice, in eval mode, where the model is. A model
    on the meta device is counted without computing anything.

    Multiply-accumulates are counted by PyTorch's own counter. Normalisations,
    activations and pooling are left out; counters that add them report about half a
    percent more.

    Args:
        model: Network from ``(1, 3, H, W)`` images.
        size: Height and width of an image in pixels.

    Returns:
        The counts.

    Raises:
        ReIDError: If the size is not that of an image.

    Example:
        >>> cost = network_cost(nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False))
        >>> cost.parameters, cost.macs == 64 * 128 * 64 * 3 * 7 * 7
        (9408, True)
    """
    height, width = size
    if height < 1 or width < 1:
        raise ReIDError(f"size is {size}; give height and width in pixels, both from 1")
    weights = list(model.parameters())
    like = weights[0] if weights else torch.empty(0)
    image = torch.zeros(1, 3, height, width, device=like.device, dtype=like.dtype)
    fixed = [*weights, *model.buffers()]
    training = {module: module.training for module in model.modules()}
    model.eval()
    outputs, counter, alive = _Outputs(model), FlopCounterMode(display=False), _Alive()
    kept, fused = _Kept(fixed), torch.backends.mha.get_fastpath_enabled()
    try:
        with torch.no_grad(), alive, counter:
            alive.skip(fixed)
            alive.track(image)
            # Fused attention is one operation, which the counter does not know.
            torch.backends.mha.set_fastpath_enabled(False)
            model(image)
        outputs.remove()
        with torch.enable_grad(), saved_tensors_hooks(kept.pack, lambda saved: saved):
            model(image)
    finally:
        outputs.remove()
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in training.items():
            module.training = mode
    return Cost(
        parameters=sum(weight.numel() for weight in weights),
        macs=counter.get_total_flops() // 2,
        outputs=sum(outputs.bytes.values()),
        peak=alive.peak,
        saved=sum(storage.nbytes() for storage in kept.storages.values()),
    )


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class _Outputs:
    """Bytes of the last output of every innermost module."""

    def __init__(self, model: nn.Module) -> None:
        self.bytes: dict[nn.Module, int] = {}
        self._hooks = [
            module.register_forward_hook(self._note)
            for module in model.modules()
            if not any(True for _ in module.children())
        ]

    def _note(self, module: nn.Module, _: Any, output: Any) -> None:
        self.bytes[module] = sum(
            math.prod(tensor.shape) * tensor.element_size()
            for tensor in _tensors(output)
        )

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


class _Alive(TorchDispatchMode):
    """Bytes that are allocated at a time, and the most that there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self.track(tensor)
        return result

    def skip(self, tensors: Iterable[Tensor]) -> None:
        self._known |= {id(tensor.untyped_storage()) for tensor in tensors}

    def track(self, tensor: Tensor) -> None:
        # Views and in-place operations return a storage that is known already.
        storage = tensor.untyped_storage()
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, id(storage), storage.nbytes())

    def _free(self, key: int, num_bytes: int) -> None:
        self._known.discard(key)
        self.now -= num_bytes


class _Kept:
    """Storages of the activations that autograd keeps."""

    def __init__(self, fixed: Iterable[Tensor]) -> None:
        self._fixed = {id(tensor.untyped_storage()) for tensor in fixed}
        self.storages: dict[int, torch.UntypedStorage] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # A vector holds statistics of channels, which only some devices keep.
        if tensor.dim() > 1 and id(storage) not in self._fixed:
            self.storages[id(storage)] = storage
        return tensor
