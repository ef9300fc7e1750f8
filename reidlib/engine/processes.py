"""Several processes that train one network, as `torchrun` starts them.

Each process has its own GPU, or a part of the CPU. All of them draw the same random
numbers and hold the same network, the same pseudo labels and the same memories. A
recipe is written for one process, and runs in several: each process sees the whole
batch, its network computes a part of it, and the features of all parts come back. The
loss, the memories and the classifiers then see what they would see in one process.

    network takes a part of the images  ->  features of all parts  ->  loss of the batch

A gradient reaches the network through the features of the own part alone, so the
gradients of all processes are added before the optimiser moves. What one process does
for all, clustering for instance, goes through `once`.

Nothing here does anything in a process that `torchrun` has not started.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from reidlib.errors import ReIDError, ToldElsewhereError
from reidlib.terminal import started_together

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

_joined = False
_alone = False


def join() -> None:
    """Join the other processes, if `torchrun` has started several.

    Tensors of the CPU travel by gloo and those of a GPU by NCCL.
    """
    global _joined
    if _joined or not started_together():
        return
    if not dist.is_initialized():
        gpus = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        # Others wait while one clusters, or measures the quality of every image.
        dist.init_process_group(gpus, timeout=timedelta(days=7))
        atexit.register(_leave)
    _joined = True


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """Return the number of processes of this run."""
    return dist.get_world_size() if _joined and not _alone else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if _joined and not _alone else 0


def leads() -> bool:
    """Return whether this process writes files and speaks for all."""
    return rank() == 0


def local_rank() -> int:
    """Return the number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0)) if started_together() else 0


def once(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call a function in the first process, and return what it gives in all.

    Args:
        function: Must not wait for other processes. What it returns must be on the CPU.
        arguments: Its arguments.
        options: Its options.

    Raises:
        Exception: What the function raises, in the first process.
        ToldElsewhereError: In the others.

    Example:
        >>> once(max, 1, 2)
        2
    """
    if count() == 1:
        return function(*arguments, **options)
    told: list[Any] = [None, None]
    failure: BaseException | None = None
    if leads():
        try:
            told = [function(*arguments, **options), None]
        except Exception as error:
            failure, told = error, [None, str(error)]
    dist.broadcast_object_list(told, src=0)
    if failure is not None:
        raise failure
    if told[1] is not None:
        raise ToldElsewhereError(f"the first process ended: {told[1]}")
    result: T = told[0]
    return result


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let this process work for itself, as if there were no others."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def shared_out(work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Yield what a function makes of each item, as many at a time as processes.

    Args:
        work: Called `alone`. What it returns must be on the CPU.
        items: The same in all processes.

    Example:
        >>> list(shared_out(abs, [1, -2]))
        [1, 2]
    """
    if count() == 1:
        yield from map(work, items)
        return
    waiting = list(items)
    while waiting:
        now, waiting = waiting[: count()], waiting[count() :]
        own = None
        if rank() < len(now):
            place = rank()
            with alone():
                own = work(now[place])
        made: list[Any] = [None] * count()
        dist.all_gather_object(made, own)
        yield from made[: len(now)]


def require_same_everywhere(what: str, value: str) -> None:
    """Raise unless all processes have the same value.

    Args:
        what: What it is, for the message.
        value: That of this process.
    """
    if count() == 1:
        return
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    if differing := [n for n, other in enumerate(values) if other != values[0]]:
        message = (
            f"process {differing[0]} has other {what} than process 0; give all "
            "processes the same"
        )
        raise _told_once(message)


def _told_once(message: str) -> ReIDError:
    """Return the error that all processes raise, and the first one tells."""
    return ReIDError(message) if leads() else ToldElsewhereError(message)


def divided(function: Callable[..., Any], module: nn.Module) -> Callable[..., Any]:
    """Return a method of a network of which each process computes a part.

    In training, images are divided: this process computes its part of a batch, and gets
    the outputs for all of it. What is no batch of images, ``(B, C, H, W)``, or comes in
    evaluation, is computed whole.

    Args:
        function: The network, or a method of it.
        module: The network.
    """
    if count() == 1:
        return function

    def call(images: Any, *arguments: Any, **options: Any) -> Any:
        if not (module.training and isinstance(images, Tensor) and images.ndim == 4):
            return function(images, *arguments, **options)
        part = images.chunk(count())[rank()]
        made = function(part, *arguments, **options)
        return pytree.tree_map_only(Tensor, joined, made)

    return call


def joined(part: Tensor) -> Tensor:
    """Return the rows of all processes, of which each has as many, in their order.

    Its gradient goes to the own rows, times the number of processes, so that the *mean*
    gradient over processes (see `average_gradients`) is right for what was computed in
    parts as well as for what each process computes whole.
    """
    rows: Tensor = _Joined.apply(part)
    return rows


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(count())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].chunk(count())[rank()] * count()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes.

    Args:
        parameters: The same in all processes.
    """
    if count() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    for same in _by_type(gradients):
        flat = torch._utils._flatten_dense_tensors(same)
        dist.all_reduce(flat)
        flat /= count()
        parts = torch._utils._unflatten_dense_tensors(flat, same)
        torch._foreach_copy_(same, list(parts))


@torch.no_grad()
def share_buffers(modules: Iterable[nn.Module]) -> None:
    """Give all processes the running statistics of the first.

    They are those of its part of the batch, as `split_batch_norm` keeps those of the
    first chunk.

    Args:
        modules: The same in all processes.
    """
    if count() == 1:
        return
    for same in _by_type([b for module in modules for b in module.buffers()]):
        flat = torch._utils._flatten_dense_tensors(same)
        dist.broadcast(flat, src=0)
        parts = torch._utils._unflatten_dense_tensors(flat, same)
        torch._foreach_copy_(same, list(parts))


@torch.no_grad()
def share_weights(module: nn.Module) -> None:
    """Give all processes the weights and buffers of the first."""
    if count() > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.data, src=0)


def _by_type(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return the tensors in lists of one type each."""
    lists: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        lists.setdefault(tensor.dtype, []).append(tensor)
    return list(lists.values())


def check_batches(config: Any) -> None:
    """Raise unless the batches of a training can be divided among the processes.

    A batch is normalised in as many chunks as there are processes, or in more, and the
    settings must say so: they then give the same numbers in any number of processes.

    Args:
        config: Settings of a training, or of a recipe that trains nothing.
    """
    number = count()
    if number == 1 or not hasattr(config, "num_labels"):
        return
    if config.num_labels % number:
        raise _told_once(
            f"a batch of {config.num_labels} labels cannot be divided among {number} "
            "processes; choose --num-labels so that it can"
        )
    if config.bn_splits % number:
        raise _told_once(
            f"each of {number} processes normalises its part of a batch by itself, and "
            f"bn_splits is {config.bn_splits}; give --bn-splits {number} or a multiple "
            "of it, with which one process gives the same numbers"
        )


def own_splits(bn_splits: int) -> int:
    """Return in how many chunks this process normalises its part of a batch.

    Args:
        bn_splits: The chunks of a whole batch; the number of processes divides it.
    """
    return bn_splits // count()


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error says that another process is gone."""
    if not _joined or not isinstance(error, RuntimeError):
        return False
    named = isinstance(error, dist.DistError)
    words = ("gloo", "NCCL", "Connection", "connection")
    return named or any(word in str(error) for word in words)
