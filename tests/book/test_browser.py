"""Every page opens in a real browser, without a network, complete and unbroken."""

from __future__ import annotations

import asyncio
import base64
import functools
import http.server
import io
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    Response,
)
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).parents[2]
PAGES = ["index", *sorted(parse_toc_yaml(ROOT / "_toc.yml"))]
# Pages that are open at the same time.
TABS = 2 * (os.cpu_count() or 1)
# Milliseconds after which a page hangs, however slow the machine is.
HANGS = 900_000
# Pictures below the fold would be loaded when they come into view.
ALL_PICTURES = """Promise.all([...document.images].map((image) => {
  image.loading = "eager";
  return image.decode().catch(() => null);
}))"""
# Colours would fade into each other for some time.
AT_ONCE = """const sheet = new CSSStyleSheet();
sheet.replaceSync("* { transition: none !important }");
document.adoptedStyleSheets = [sheet];"""
LEGIBLE = (Path(__file__).parent / "legible.js").read_text(encoding="utf-8")


def picture(*colour: int) -> str:
    """Return an image in HTML that has one colour all over."""
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), colour).save(buffer, "png")
    code = base64.b64encode(buffer.getvalue()).decode()
    return f"<img src='data:image/png;base64,{code}'>"


# Pieces of HTML, and what is wrong with them.
CONTENTS = {
    "<p style='color: #999'>pale</p>": 'contrast 2.8: P. "pale"',
    "<p style='color: #595959'>grey</p>": None,
    "<div style='background: #000'><p>black</p></div>": "contrast 1.0",
    "<p style='color: rgba(0, 0, 0, 0.3)'>thin</p>": "contrast 2.1",
    picture(0, 0, 0, 0): "transparent: data:image/png",
    picture(9, 9, 9, 255): None,
}


ASKING = "data:text/html,<main><img src=https://example.org/picture.png></main>"
"""A page that asks the network."""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log line for each; what pages share is asked for once."""

    protocol_version = "HTTP/1.1"  # one connection for many files

    def do_GET(self) -> None:
        """Answer, also that there is no icon but those which pages name."""
        if self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def end_headers(self) -> None:
        """Say that the files stay as they are."""
        self.send_header("Cache-Control", "max-age=86400")
        super().end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def address(build):
    """Where the book is served, on this machine only."""
    handler = functools.partial(QuietHandler, directory=str(build.html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def open_page(context: BrowserContext, url: str) -> tuple[Page, list[str]]:
    """Open an address; returns what goes wrong on it, too.

    The page is complete when this returns: it is loaded with all of its pictures and
    asks for nothing more.
    """
    problems: list[str] = []
    here = urlsplit(url).netloc

    def asked(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != here:
            problems.append(f"asks the network for {request.url}")

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(f"console: {message.text}")

    def answered(response: Response) -> None:
        if response.status >= 400:
            problems.append(f"{response.status}: {response.url}")

    page = await context.new_page()
    page.on("request", asked)
    page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    page.on("console", said)
    page.on("response", answered)
    response = await page.goto(url, wait_until="commit")
    if response and response.status >= 400:
        return page, problems
    # The start page is empty: it leads on to the first page.
    await page.locator("main").first.wait_for(state="attached")
    await page.wait_for_load_state("load")
    await page.evaluate(ALL_PICTURES)
    await page.wait_for_load_state("networkidle")
    return page, problems


async def look_at(context: BrowserContext, url: str) -> list[str]:
    """Open a page in light, in the dark and on a telephone; list what is wrong."""
    page, problems = await open_page(context, url)
    try:
        if not await page.title():
            problems.append("no title")
        problems += await page.evaluate(
            "[...document.images].filter(i => i.getClientRects().length && "
            "!(i.complete && i.naturalWidth)).map(i => `no picture: ${i.src}`)"
        )
        if await page.locator("article .math").count():
            await page.wait_for_function("window.MathJax?.startup?.promise")
            await page.evaluate("MathJax.startup.promise")
            problems += await page.evaluate(
                "[...document.querySelectorAll('article .math')]"
                ".filter(m => !m.querySelector('mjx-container'))"
                ".map(m => `not typeset: ${m.textContent}`)"
            )
            problems += await page.evaluate(
                "[...document.querySelectorAll('mjx-merror')]"
                ".map(m => `bad mathematics: ${m.textContent}`)"
            )
        for theme in ("light", "dark"):
            await page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            found = await page.evaluate(LEGIBLE)
            problems += [f"{theme}: {line}" for line in found]
        await page.set_viewport_size({"width": 390, "height": 800})
        if await page.evaluate("document.documentElement.scrollWidth") > 390:
            wide = await page.evaluate(
                "[...document.querySelectorAll('article *')]"
                ".filter(e => e.getBoundingClientRect().right > 391)"
                ".map(e => e.outerHTML.slice(0, 120)).slice(0, 5)"
            )
            problems.append(f"wider than a telephone: {wide}")
        return problems
    finally:
        await page.close()


async def search(context: BrowserContext, url: str) -> list[str]:
    """Wait for the results of a search; list what goes wrong on the way."""
    page, problems = await open_page(context, url)
    await page.locator("#search-results li a").first.wait_for()
    return problems


async def asks(context: BrowserContext) -> list[str]:
    """List what goes wrong on a page that asks the network."""
    page, problems = await open_page(context, ASKING)
    await page.close()
    return problems


async def judge(context: BrowserContext, content: str) -> list[str]:
    """List what cannot be read well in a piece of HTML."""
    page = await context.new_page()
    await page.set_content(f"<article>{content}</article>")
    return await page.evaluate(LEGIBLE)


@pytest.fixture(scope="session")
def found(address, browser) -> dict[str, list[str]]:
    """What one browser finds on all pages, some of them open at a time.

    The keys are the names of the pages, ``search``, the pieces of ``CONTENTS``, and
    ``ASKING``.
    """

    async def look_at_all(browser: Browser) -> dict[str, list[str]]:
        tabs, found = asyncio.Semaphore(TABS), {}

        async def note(name: str, looking: Coroutine[Any, Any, list[str]]) -> None:
            async with tabs:
                try:
                    found[name] = await looking
                except Error as error:
                    found[name] = [str(error)]

        # One for all pages: what they share is fetched and compiled once.
        async with await browser.new_context() as context:
            context.set_default_timeout(HANGS)
            await context.add_init_script(AT_ONCE)
            work = {name: look_at(context, f"{address}/{name}.html") for name in PAGES}
            work["search"] = search(context, f"{address}/search.html?q=identification")
            work |= {content: judge(context, content) for content in CONTENTS}
            work[ASKING] = asks(context)
            await asyncio.gather(*(note(*pair) for pair in work.items()))
        return found

    return browser.run(look_at_all)


@pytest.mark.parametrize("name", PAGES)
def test_page_opens_complete_and_without_a_network(found, name):
    assert found[name] == []


def test_search_finds_a_page(found):
    assert found["search"] == []


def test_what_asks_the_network_is_found_and_not_reached(found):
    assert found[ASKING] == [
        "asks the network for https://example.org/picture.png",
        "console: Failed to load resource: net::ERR_NAME_NOT_RESOLVED",
    ]


@pytest.mark.parametrize(("content", "problem"), CONTENTS.items())
def test_what_cannot_be_read_is_found(found, content, problem):
    lines = found[content]
    assert [line for line in lines if not line.startswith(problem or "none")] == []
    assert len(lines) == (problem is not None)
