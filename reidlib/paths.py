"""The cache folder of the library, and names of files."""

from __future__ import annotations

import os
from pathlib import Path

from reidlib.errors import ReIDError


def cache_dir() -> Path:
    """Return the folder for generated data and cached runs.

    ``$REIDLIB_CACHE`` if it is set, else ``~/.cache/reidlib``. Its content can be
    deleted at any time: it is drawn or trained again when it is next needed.
    """
    chosen = os.environ.get("REIDLIB_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "reidlib"


def check_utf8(path: str | os.PathLike[str]) -> None:
    """Raise `ReIDError` if a path is not UTF-8.

    Such a name can be opened, but not printed or written into an index, and OpenCV
    crashes on it.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise ReIDError(
            f"the name {os.fsencode(path)!r} is not UTF-8; rename it, for instance "
            "with convmv"
        ) from None
