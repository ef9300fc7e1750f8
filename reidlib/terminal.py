"""What is shown beside results: progress bars and lines on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_quiet = False


def started_together() -> bool:
    """Return whether `torchrun` has started this process as one of several."""
    several = os.environ.get("WORLD_SIZE", "1") != "1"
    return several and "TORCHELASTIC_RUN_ID" in os.environ


def speaks() -> bool:
    """Return whether this process is the only or the first one."""
    return not started_together() or os.environ.get("RANK") == "0"


@contextlib.contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Show neither bars nor lines inside this block.

    Args:
        wanted: False changes nothing.

    Example:
        >>> with quiet():
        ...     say("not shown")
    """
    global _quiet
    before, _quiet = _quiet, _quiet or wanted
    try:
        yield
    finally:
        _quiet = before


def watched() -> bool:
    """Return whether a progress bar is seen: on a terminal, or in a notebook.

    In a pipe or a file, each of its thousand states would be a line of its own.
    """
    screen = sys.stderr
    if _quiet or screen is None or screen.closed:
        return False
    return type(screen).__module__.startswith("ipykernel") or screen.isatty()


def progress(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """Return the items with a bar and the time that is left, if they take long.

    Args:
        items: What is gone through.
        what: What is done, in front of the bar.
        total: Number of items.

    Example:
        >>> sum(progress([1, 2], "adding", 2))
        3
    """
    bar: Iterable[T] = tqdm(
        items, what, total, leave=False, delay=5.0, disable=not watched()
    )
    return bar


def say(message: str) -> None:
    """Write a line to standard error, above a progress bar if there is one.

    What cannot be written is lost: a training must survive the terminal that it was
    started in, and the program that read its pipe.
    """
    if not _quiet and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            tqdm.write(message, file=sys.stderr)
