"""What a network costs: parameters, multiply-accumulates, memory.

Four filters over the three colours of an image of 2 x 2 pixels, and a ReLU:

>>> net = nn.Sequential(nn.Conv2d(3, 4, kernel_size=1, bias=False), nn.ReLU())
>>> cost = network_cost(net, size=(2, 2))  # image: 3 x 2 x 2 float32, 48 bytes
>>> cost.parameters, cost.macs  # 4 x 3 weights; each is used at 2 x 2 pixels
(12, 48)
>>> cost.outputs  # two maps of 4 x 2 x 2 float32, 64 bytes each
128
>>> cost.peak  # at the ReLU: the image, and the maps before and after it
176
>>> cost.saved  # for the gradient: the input of the filters, the output of the ReLU
112
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from reidlib.errors import ReIDError
from reidlib.models._modes import check_differentiable, eval_mode


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        parameters: Number of weights, those included that are not trained.
        macs: Multiply-accumulates of all convolutions and matrix products. This is
            what papers on re-identification, AFF-T8 among them, call FLOPs.
        outputs: Bytes of the outputs of all innermost modules, each module once. This
            is the memory of AFF-T8. It is more than what is ever allocated: an
            activation in place and an identity count as if they were copies.
        peak: Largest number of bytes of images and activations that are alive at one
            time during inference, without weights and the scratch memory of
            convolutions.
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


@torch.inference_mode(False)  # where autograd would save nothing
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
        ReIDError: If the size is not that of an image, or if the model was made under
            ``torch.inference_mode()``.

    Example:
        >>> cost = network_cost(nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False))
        >>> cost.parameters, cost.macs == 64 * 128 * 64 * 3 * 7 * 7
        (9408, True)
    """
    check_differentiable(model, "network_cost")
    height, width = size
    if height < 1 or width < 1:
        raise ReIDError(f"size is {size}; give height and width in pixels, both from 1")
    weights = list(model.parameters())
    like = weights[0] if weights else torch.empty(0)
    image = torch.zeros(1, 3, height, width, device=like.device, dtype=like.dtype)
    fixed = {_address(tensor) for tensor in (*weights, *model.buffers())}
    counter, alive = FlopCounterMode(display=False), _Alive(fixed)
    with eval_mode(model), _unfused_attention():
        with torch.no_grad(), _output_bytes(model) as outputs, alive, counter:
            alive.add(image)
            model(image)
        with torch.enable_grad(), _saved_storages(fixed) as saved:
            model(image)
    return Cost(
        parameters=sum(weight.numel() for weight in weights),
        macs=counter.get_total_flops() // 2,
        outputs=sum(outputs.values()),
        peak=alive.peak,
        saved=sum(storage.nbytes() for storage in saved.values()),
    )


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    """Return what views of the same memory have in common."""
    return id(tensor.untyped_storage())


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Let attention run as matrix products: the counter does not know the fused one."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def _output_bytes(model: nn.Module) -> Iterator[dict[nn.Module, int]]:
    """Note the bytes of the last output of every innermost module."""
    found: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        found[module] = sum(tensor.nbytes for tensor in _tensors(output))

    innermost = [module for module in model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note) for module in innermost]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _saved_storages(fixed: set[int]) -> Iterator[dict[int, torch.UntypedStorage]]:
    """Note the memory of the activations that autograd saves."""
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        # A vector holds statistics of channels, which only some devices save.
        if tensor.dim() > 1 and _address(tensor) not in fixed:
            found[_address(tensor)] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


class _Alive(TorchDispatchMode):
    """Count the bytes that are alive, after each operation.

    PyTorch hands each operation to ``__torch_dispatch__``. A result in new memory adds
    its bytes; when that memory is freed, they are taken off again.
    """

    def __init__(self, fixed: set[int]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = set(fixed)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self.add(tensor)
        return result

    def add(self, tensor: Tensor) -> None:
        address, storage = _address(tensor), tensor.untyped_storage()
        # Views and in-place operations return memory that is known already.
        if address in self._known:
            return
        self._known.add(address)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, address, storage.nbytes())

    def _free(self, address: int, num_bytes: int) -> None:
        self._known.discard(address)
        self.now -= num_bytes
