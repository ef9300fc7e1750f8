"""Files: known by their content, checked when read, never left in parts."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from reidlib.errors import DamagedError, ReIDError
from reidlib.paths import user_path

_PARTIAL = re.compile(r"\..+\.partial-[a-z0-9_]{8}")
# Of files that were read: by what changes with every write, their hash.
_hashes: dict[tuple[int, ...], str] = {}
_REST = 2_000_000_000  # nanoseconds; two writes within a tick have one time


def file_sha256(file: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content.

    A file is read once in a process, and again when it was written since. 13,000 crops
    take less than a second.

    Args:
        file: A regular file.

    Raises:
        ReIDError: If it cannot be read.

    Example:
        >>> with tempfile.NamedTemporaryFile() as empty:
        ...     file_sha256(empty.name)[:8]
        'e3b0c442'
    """
    try:
        about = os.stat(file)
        if not stat.S_ISREG(about.st_mode):
            raise OSError("it is not a regular file")
        times = about.st_mtime_ns, about.st_ctime_ns
        key = (about.st_dev, about.st_ino, about.st_size, *times)
        known = _hashes.get(key)
        if known is None:
            with open(file, "rb", buffering=0) as stream:
                if about.st_size < 1 << 20:
                    known = hashlib.sha256(stream.read()).hexdigest()
                else:
                    known = hashlib.file_digest(stream, "sha256").hexdigest()
            if time.time_ns() - max(times) > _REST:
                _hashes[key] = known
        return known
    except OSError as error:
        raise ReIDError(
            f"{os.fspath(file)} cannot be read ({error.strerror or error}); restore "
            "it, or read the data set again"
        ) from error


def read_json(
    file: Path, way_out: str, shape: Any = dict, needs: Collection[str] = ()
) -> dict[str, Any]:
    """Read an object that the library wrote as JSON.

    Args:
        file: The file.
        way_out: What to do if it is damaged, for the message.
        shape: For the names that may be in it, or for ``"*"``, a type or a further
            dict of this kind.
        needs: Names that must be in it.

    Raises:
        DamagedError: If it is missing, empty, cut, no JSON or of another structure.

    Example:
        >>> file = Path(tempfile.mkdtemp()) / "manifest.json"
        >>> _ = file.write_text('{"seed": 1}')
        >>> read_json(file, "remove it", {"seed": int}, ["seed"])
        {'seed': 1}
    """
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise ValueError("it is not a regular file")
        content = file.read_bytes()
        if not content.strip():
            raise ValueError("it is empty")
        value = json.loads(content.decode("utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__} and no object")
        if missing := [name for name in needs if name not in value]:
            raise ValueError(f"{missing[0]!r} is missing")
        if wrong := _misfit(value, shape, "it"):
            raise ValueError(wrong)
    except FileNotFoundError as error:
        raise DamagedError(f"there is no {file}; {way_out}", file) from error
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise DamagedError(f"{file} is damaged ({why}); {way_out}", file) from error
    return value


def _misfit(value: Any, shape: Any, name: str) -> str:
    """Say which part of a value is not of its shape; empty if all are."""
    if not isinstance(shape, dict):
        return "" if isinstance(value, shape) else f"{name!r} is {value!r:.60}"
    if not isinstance(value, dict):
        return f"{name!r} is {value!r:.60}"
    found = (
        _misfit(item, shape.get(key, shape.get("*", object)), key)
        for key, item in value.items()
    )
    return next(filter(None, found), "")


@contextlib.contextmanager
def partial(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """Make a hidden file or folder beside a target, to be moved there when it is whole.

    What is still there at the end is removed. A process that is killed leaves it, and
    the next one removes it (see `remove_partials`).

    Args:
        target: Where the content will be.
        folder: Make a folder.

    Yields:
        The path, beside the target.
    """
    remove_partials(target.parent)
    prefix, path, lock = f".{target.name}.partial-", None, None
    try:
        # Another process may find the path before it is locked, and remove it.
        while path is None or not path.exists():
            _close(lock)
            if folder:
                path = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
            else:
                handle, name = tempfile.mkstemp(prefix=prefix, dir=target.parent)
                os.close(handle)
                path = Path(name)
                path.chmod(0o644)  # mkstemp's 0600 would hide it from other users
            lock = _lock(path, wait=True)
        yield path
    finally:
        if path is not None:
            _remove(path)
        _close(lock)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part.

    Args:
        path: Target file; its folder must exist.
        data: The whole content.

    Raises:
        ReIDError: If the disk is full or the folder cannot be written. What was at
            ``path`` before is untouched, and no partial file is left behind.
    """
    path = user_path(path)
    link, path = path, path.resolve() if path.is_symlink() else path  # it stays a link
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)  # a pipe or a device: never replaced by a file
            return
        with partial(path) as temporary:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        kept = "the previous file is intact" if path.exists() else "nothing was written"
        way_out = "choose another place"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            way_out = "free some space or choose another place"
        elif link != path:
            way_out = f"{link} is a link to it: remove that, or make the folder"
        raise ReIDError(
            f"cannot write {path}: {error.strerror or error} ({kept}); {way_out}"
        ) from error


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left of files that they were writing.

    Args:
        folder: Where the files would be. What a living process writes there stays.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PARTIAL.fullmatch(entry.name):
                lock = _lock(Path(entry.path))
                if lock is not None:
                    _remove(Path(entry.path))
                _close(lock)


def _lock(path: Path, *, wait: bool = False) -> int | None:
    """Lock a file or folder until it is closed, which the end of a process does too.

    Returns:
        What to close; None if another process has it, or if there are no such locks.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    way = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        handle = os.open(path, way | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    return handle


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
