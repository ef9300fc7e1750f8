"""The browser that pages are opened in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright

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


async def visit(path: Path, javascript: bool, look: Any) -> Any:
    """What a look at a page from a file finds, offline; an error in it is a failure."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_browser(), args=FLAGS
        )
        context = await browser.new_context(
            java_script_enabled=javascript, offline=True
        )
        page = await context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text))
        await page.goto(path.as_uri())
        found = await look(page)
        await browser.close()
    assert errors == []
    return found
