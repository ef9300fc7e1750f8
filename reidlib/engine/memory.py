"""What to do where the memory of a device is not enough."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from reidlib.engine import processes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# How PyTorch and its libraries say so where they have no error of their own for it.
_PHRASES = ("can't allocate memory", "not enough memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is short, on a GPU or without one."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(p in str(error) for p in _PHRASES)


def advice(
    error: BaseException,
    config: Any,
    model: nn.Module | None,
    fabric: Fabric,
    allocated: int,
) -> str:
    """Say which setting needs less memory, and which batch of a training fits.

    Args:
        error: The error. What its frames hold is freed.
        config: Settings of the run.
        model: The network that was trained, to try smaller batches with; None if there
            is none yet.
        fabric: Where it is.
        allocated: Bytes of a GPU that network and images need beside a batch.
    """
    frames = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
    if "open_images" in frames:
        return "the images do not fit: start again with --memory-budget 0"
    if frames & {"measure_identifiability", "encode"}:
        return (
            "the views whose quality is measured do not fit: start again with a lower "
            "--quality-height and --quality-width"
        )
    if "extract_features" in frames:
        fewer = max(1, config.extract_batch // 2)
        return (
            f"{config.extract_batch} images at once are too many to extract: start "
            f"again with --extract-batch {fewer}"
        )
    if not hasattr(config, "num_labels"):
        return "start again with smaller images"
    traceback.clear_frames(error.__traceback__)
    for labels, instances in _smaller(config):
        shape = (labels * instances, 3, *config.size)
        if model is None or _fits(model, shape, fabric, allocated):
            batch = f"--num-labels {labels} --num-instances {instances}"
            found = "" if model is None else " (tried: it fits)"
            return f"start again with a smaller batch, {batch}{found}"
    return "no batch is small enough: start again with smaller images"


def _smaller(config: Any) -> Iterator[tuple[int, int]]:
    """Yield ever smaller batches, P x K, that batch norm can work on."""
    labels, instances = config.num_labels, config.num_instances
    while labels * instances >= 4:
        if labels >= instances:
            labels //= 2
        else:
            instances //= 2
        chunk, rest = divmod(labels * instances, config.bn_splits)
        if chunk >= 2 and not rest and not labels % processes.count():
            yield labels, instances


def _fits(
    model: nn.Module, shape: tuple[int, ...], fabric: Fabric, allocated: int
) -> bool:
    """Try a step with images of a shape, and room for what Adam keeps."""
    model.train()
    model.zero_grad(set_to_none=True)
    room = []
    try:
        if fabric.device.type == "cuda":
            torch.cuda.empty_cache()
            freed = allocated - torch.cuda.memory_allocated(fabric.device)
            room.append(
                torch.empty(max(0, freed), dtype=torch.uint8, device=fabric.device)
            )
        room += [torch.empty_like(p) for p in model.parameters() for _ in range(2)]
        fabric.backward(model(torch.zeros(shape, device=fabric.device)).square().sum())
        return True
    except (RuntimeError, MemoryError):
        return False
    finally:
        room.clear()
