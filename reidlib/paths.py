"""The cache folder of the library."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the folder for generated data and cached runs.

    ``$REIDLIB_CACHE`` if it is set, else ``~/.cache/reidlib``. Its content can be
    deleted at any time: it is drawn or trained again when it is next needed.
    """
    chosen = os.environ.get("REIDLIB_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "reidlib"
