"""Counting what a training step copies to the host, for a GPU to be waited for."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# What asks for a value copies it to the host, what has as many rows as values decide
# copies their number. A GPU is waited for in both cases.
_OPERATIONS = {
    "_local_scalar_dense",  # item, int, float, bool, a tensor as an index or a size
    "_unique2",
    "bincount",
    "equal",
    "histc",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
# On the CPU these are no operations.
_METHODS = ("cpu", "numpy", "tolist", "__array__")
# Runs on a CPU alone, which its own tests hold. (So do the step counts of optimisers.)
_ON_THE_HOST = "reidlib/models/depthwise.py"


class _HostCopies(TorchDispatchMode):
    """Count, for each place of the code, the operations that copy to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        masks = args[1] if name in ("index", "index_put", "index_put_") else ()
        if (
            name in _OPERATIONS
            or any(m is not None and m.dtype == torch.bool for m in masks)
            or (name == "repeat_interleave" and kwargs.get("output_size") is None)
        ):
            self.note(name)
        return func(*args, **kwargs)

    def note(self, name: str) -> None:
        last = ""
        frame = sys._getframe(1)
        while frame:
            file = frame.f_code.co_filename
            if file.endswith(_ON_THE_HOST) or "torch/optim/" in file:
                return
            if not last and "/torch/" not in file and file != __file__:
                last = f"{Path(file).name}:{frame.f_lineno}"
            frame = frame.f_back
        self.found[f"{name} at {last}"] += 1


@contextmanager
def host_copies() -> Iterator[Counter[str]]:
    """Count what would copy a number from a GPU to the host, on the CPU.

    >>> with host_copies() as found:
    ...     loss = torch.ones(3).mean()
    >>> assert not found, found
    >>> with host_copies() as found:
    ...     print(f"{loss.item():.1f}")
    1.0
    >>> found.total()
    1
    """
    mode = _HostCopies()

    def noted(name: str) -> Any:
        method = getattr(torch.Tensor, name)

        def call(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            mode.note(name)
            return method(self, *args, **kwargs)

        return patch.object(torch.Tensor, name, call)

    patches = [noted(name) for name in _METHODS]
    try:
        for one in patches:
            one.start()
        with mode:
            yield mode.found
    finally:
        for one in patches:
            one.stop()
