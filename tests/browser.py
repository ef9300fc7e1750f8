"""The browser that pages are opened in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

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
    "no Chromium or Chrome was found to open the book with: install one (Debian and "
    "Ubuntu: apt-get install chromium; macOS: brew install --cask chromium), name one "
    "in REIDLIB_BROWSER, or set REIDLIB_BROWSER=none to go without these tests"
)


def find_browser() -> str:
    """The browser to use: the one named by ``REIDLIB_BROWSER``, else the system's.

    Without one the test fails, or is skipped where ``REIDLIB_BROWSER`` is ``none``.
    """
    named = os.environ.get("REIDLIB_BROWSER")
    if named == "none":
        pytest.skip("REIDLIB_BROWSER=none")
    if named:
        return named
    found = [shutil.which(name) for name in NAMES]
    found += [path for path in MACOS if Path(path).is_file()]
    browser = next((path for path in found if path), None)
    return browser or pytest.fail(MISSING)
