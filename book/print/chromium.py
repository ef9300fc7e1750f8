"""The browser that prints the book, and that its tests open pages with."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MACOS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
MISSING = (
    "no Chromium or Chrome was found: install one (Debian and Ubuntu: apt-get install "
    "chromium; macOS: brew install --cask chromium) or name one in REIDLIB_BROWSER"
)


def find_browser() -> str | None:
    """The browser named by ``REIDLIB_BROWSER``, else the system's, else none."""
    named = os.environ.get("REIDLIB_BROWSER")
    if named:
        return shutil.which(named)
    found = [shutil.which(name) for name in NAMES]
    found += [path for path in MACOS if Path(path).is_file()]
    return next((path for path in found if path), None)


if __name__ == "__main__":
    sys.exit(None if find_browser() else MISSING)
