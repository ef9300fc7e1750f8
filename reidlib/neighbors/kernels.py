"""When and how kernels run that numba compiles: the same sums as arrays, in loops.

Each kernel works on the rows ``start`` to ``stop`` of its arrays and holds no lock, so
that `by_rows` can give every thread a part of the rows. No result depends on how the
rows are divided: no two rows write to one place, and each sum has one order.

numba is optional. Without it, and for a set so small that loading the kernels would
take longer than they save, `is_wanted` says no, and the callers use arrays. A module of
kernels imports numba and is imported where they are called.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import torch

SMALLEST = 1000
"""Images from which on the kernels are used."""


@cache
def is_installed() -> bool:
    """Return whether numba can compile the kernels."""
    return importlib.util.find_spec("numba") is not None


def is_wanted(num_images: int) -> bool:
    """Return whether the kernels are to be used for so many images."""
    return num_images >= SMALLEST and is_installed()


def kernel(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a function at its first call, and keep the machine code in a file."""
    if not is_installed():
        return function
    import numba

    compile_it = partial(numba.njit, nogil=True, error_model="numpy", **options)
    compiled: Callable[..., Any]
    try:
        compiled = compile_it(cache=True)(function)
    except RuntimeError:  # there is no folder to write into
        compiled = compile_it()(function)
    return compiled


def in_threads(
    run: Callable[..., Any],
    num_rows: int,
    *arrays: Any,
    pool: ThreadPoolExecutor | None = None,
) -> list[Any]:
    """Return what a kernel returns for each part of the rows, in their order.

    Args:
        run: The kernel.
        num_rows: Rows that it works on.
        *arrays: What it is given beside the first row of a part and the last.
        pool: Threads of a caller who has many short calls to make.
    """
    threads = min(torch.get_num_threads(), num_rows)
    if threads <= 1:
        return [run(0, num_rows, *arrays)]
    if pool is None:
        with ThreadPoolExecutor(threads) as pool:
            return in_threads(run, num_rows, *arrays, pool=pool)
    bounds = np.linspace(0, num_rows, 4 * threads + 1).astype(np.int64)
    return list(pool.map(lambda a, b: run(a, b, *arrays), bounds[:-1], bounds[1:]))


def by_rows(
    run: Callable[..., Any], num_rows: int, *arrays: Any
) -> tuple[np.ndarray, ...]:
    """Return the sparse rows that a kernel computes: starts, columns and values."""
    parts: Iterable[Any] = zip(*in_threads(run, num_rows, *arrays), strict=True)
    sizes, *columns = (np.concatenate(part) for part in parts)
    return np.concatenate([[0], np.cumsum(sizes)]), *columns
