"""Where the library keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the folder for generated data and cached runs.

    ``$REIDLIB_CACHE`` where it is set, else ``~/.cache/reidlib``. Everything below it
    can be deleted at any time: it is drawn or trained again when it is next needed.
    """
    chosen = os.environ.get("REIDLIB_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "reidlib"
