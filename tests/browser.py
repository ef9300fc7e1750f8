"""The browser that pages are opened in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import ConsoleMessage, async_playwright

import chromium
from chromium import FLAGS


def find_browser() -> str:
    """The browser to use: the one named by ``REIDLIB_BROWSER``, else the system's.

    Without one the test fails, or is skipped where ``REIDLIB_BROWSER`` is ``none``.
    """
    if os.environ.get("REIDLIB_BROWSER") == "none":
        pytest.skip("REIDLIB_BROWSER=none")
    without = "or set REIDLIB_BROWSER=none to go without these tests"
    return chromium.find_browser() or pytest.fail(f"{chromium.MISSING}, {without}")


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

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                errors.append(message.text)

        page.on("console", said)
        await page.goto(path.as_uri())
        found = await look(page)
        await browser.close()
    assert errors == []
    return found
