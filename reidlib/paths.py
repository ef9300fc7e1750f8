"""Folders and files of the user: the cache, ``~``, names, and locks."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from filelock import FileLock, Timeout

from reidlib.errors import ReIDError

# No flock: some network file systems, and Google Drive.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as the user means it: ``~`` is the home folder.

    A shell leaves ``~`` alone after ``=``.

    Raises:
        ReIDError: If there is no home folder.

    Example:
        >>> user_path("~/data") == Path.home() / "data"
        True
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ReIDError(
            f"{os.fspath(path)!r} begins with ~ and there is no such home folder; "
            "write the path in full"
        ) from error


def cache_dir() -> Path:
    """Return the folder for generated data and cached runs.

    ``$REIDLIB_CACHE`` if it is set, else ``~/.cache/reidlib``. Its content can be
    deleted at any time: it is drawn or trained again when it is next needed.

    Raises:
        ReIDError: If the variable is not set and there is no home folder.
    """
    if chosen := os.environ.get("REIDLIB_CACHE"):
        return user_path(chosen)
    try:
        return Path.home() / ".cache" / "reidlib"
    except RuntimeError as error:
        raise ReIDError(
            "this user has no home folder to keep drawn data and cached runs in; set "
            "REIDLIB_CACHE to a folder that can be written"
        ) from error


def make_cache_folder(folder: Path) -> None:
    """Create a folder inside the cache.

    Raises:
        ReIDError: If nothing can be written there; names ``REIDLIB_CACHE``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ReIDError(
            f"cannot write to the cache at {folder}: {error.strerror}; set "
            "REIDLIB_CACHE to a folder that can be written"
        ) from error


def new_folder(parent: Path, name: str) -> Path:
    """Create a folder that no other process has: ``name-1``, ``name-2`` and so on.

    Args:
        parent: Where; created if it does not exist.
        name: What the names begin with.

    Raises:
        ReIDError: If nothing can be written there.

    Example:
        >>> import tempfile
        >>> parent = Path(tempfile.mkdtemp())
        >>> [new_folder(parent, "run").name for _ in range(2)]
        ['run-1', 'run-2']
    """
    number = 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                (parent / f"{name}-{number}").mkdir()  # one process alone succeeds
                return parent / f"{name}-{number}"
            except FileExistsError:
                number += 1
    except OSError as error:
        raise ReIDError(
            f"cannot write to {parent}: {error.strerror}; choose another folder (--out)"
        ) from error


def lock_folder(folder: Path) -> FileLock:
    """Reserve a folder for this process until it ends or releases the lock.

    The lock belongs to the process, not to a file: however the process ends, it is
    gone. On a file system without locks the folder is used without one.

    Args:
        folder: An existing folder; it gets the file ``.lock``.

    Returns:
        The lock, to be released.

    Raises:
        ReIDError: If another process has the folder.
        OSError: If the folder cannot be written.
    """
    lock = FileLock(folder / ".lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ReIDError(
            f"another process is working in {folder}; wait until it ends, or choose "
            "another folder (--out)"
        ) from error
    except RuntimeError:  # older versions of filelock, where there are no locks
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return lock


def check_utf8(path: str | os.PathLike[str]) -> None:
    """Raise `ReIDError` if a path is not UTF-8.

    Such a name can be opened, but not printed or written into an index, and OpenCV
    crashes on it.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        with contextlib.suppress(UnicodeDecodeError):
            os.fsencode(path).decode()
            raise ReIDError(
                f"the name {os.fsencode(path)!r} cannot be read in a locale that knows "
                "ASCII alone; set LC_ALL=C.UTF-8, or PYTHONUTF8=1"
            ) from None
        raise ReIDError(
            f"the name {os.fsencode(path)!r} is not UTF-8; rename it, for instance "
            "with convmv"
        ) from None
