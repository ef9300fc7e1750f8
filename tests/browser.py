"""The browser that pages are opened in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

import chromium
from chromium import FLAGS

OWN_FLAGS = [
    # No name is looked up, and no other machine is reached.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # The pages of the book share a process, and with it scripts, styles and pictures.
    "--process-per-site",
]


def find_browser() -> str:
    """The browser to use: the one named by ``REIDLIB_BROWSER``, else the system's.

    Without one the test fails, or is skipped where ``REIDLIB_BROWSER`` is ``none``.
    """
    if os.environ.get("REIDLIB_BROWSER") == "none":
        pytest.skip("REIDLIB_BROWSER=none")
    without = "or set REIDLIB_BROWSER=none to go without these tests"
    return chromium.find_browser() or pytest.fail(f"{chromium.MISSING}, {without}")


class OneBrowser:
    """A browser that is started when it is first used, and then kept.

    Each visit has a context of its own: what one page stores is not there for the next.
    """

    def __enter__(self) -> OneBrowser:
        """Prepare to start it."""
        self._runner, self._open = asyncio.Runner(), AsyncExitStack()
        self._browser: Browser | None = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self._runner.run(self._open.aclose())
        self._runner.close()

    def run(self, look: Callable[[Browser], Awaitable[Any]]) -> Any:
        """What a look finds that opens its pages itself."""
        executable = find_browser()

        async def start_and_look() -> Any:
            if self._browser is None:
                playwright = await self._open.enter_async_context(async_playwright())
                self._browser = await playwright.chromium.launch(
                    executable_path=executable, args=[*FLAGS, *OWN_FLAGS]
                )
                self._open.push_async_callback(self._browser.close)
            return await look(self._browser)

        return self._runner.run(start_and_look())

    def visit(
        self, path: Path, javascript: bool, look: Callable[[Page], Awaitable[Any]]
    ) -> Any:
        """What a look at a page from a file finds, offline; its errors are failures."""
        errors: list[str] = []

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                errors.append(message.text)

        async def open_and_look(browser: Browser) -> Any:
            context = await browser.new_context(
                java_script_enabled=javascript, offline=True
            )
            async with context:
                page = await context.new_page()
                page.on("pageerror", lambda error: errors.append(str(error)))
                page.on("console", said)
                await page.goto(path.as_uri())
                return await look(page)

        found = self.run(open_and_look)
        assert errors == []
        return found
