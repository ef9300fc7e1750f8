"""Every page opens in a real browser, without a network, complete and unbroken."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(parse_toc_yaml(ROOT / "_toc.yml"))
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
LEGIBLE = (Path(__file__).parent / "legible.js").read_text(encoding="utf-8")
MISSING = (
    "no Chromium or Chrome was found to open the book with: install one (Debian and "
    "Ubuntu: apt-get install chromium; macOS: brew install --cask chromium), name one "
    "in REIDLIB_BROWSER, or set REIDLIB_BROWSER=none to go without these tests"
)


def find_browser() -> str | None:
    """The browser to use: the one named by ``REIDLIB_BROWSER``, else the system's."""
    named = os.environ.get("REIDLIB_BROWSER")
    if named:
        return named
    found = [shutil.which(name) for name in NAMES]
    found += [path for path in MACOS if Path(path).is_file()]
    return next((path for path in found if path), None)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log line for each."""

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


@pytest.fixture(scope="session")
def browser():
    """One headless browser for all pages."""
    executable = find_browser()
    if executable == "none":
        pytest.skip("REIDLIB_BROWSER=none")
    if executable is None:
        pytest.fail(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, address: str):
    """Open a page by its name; returns it and the list of what goes wrong on it."""
    contexts = []

    def open_page(name: str, **options: object):
        context = browser.new_context(**options)
        contexts.append(context)
        problems: list[str] = []
        here = urlsplit(address).netloc

        def only_local(route):
            parts = urlsplit(route.request.url)
            if parts.scheme in ("data", "blob") or parts.netloc == here:
                route.continue_()
            else:
                problems.append(f"asks the network for {route.request.url}")
                route.abort()

        context.route("**/*", only_local)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
        page.on(
            "console",
            lambda message: (
                problems.append(f"console: {message.text}")
                if message.type == "error"
                else None
            ),
        )
        page.on(
            "response",
            lambda response: (
                problems.append(f"{response.status}: {response.url}")
                if response.status >= 400
                else None
            ),
        )
        page.goto(f"{address}/{name}.html", wait_until="load")
        return page, problems

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["index", *DOCUMENTS])
def test_page_opens_complete_and_without_a_network(visit, name):
    page, problems = visit(name)
    page.wait_for_load_state("networkidle")
    assert page.title()
    images = page.locator("article img")
    for index in range(images.count()):
        # Images below the fold are loaded when they come into view.
        images.nth(index).scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    problems += page.evaluate(
        "[...document.images].filter(i => i.getClientRects().length && "
        "!(i.complete && i.naturalWidth)).map(i => `no picture: ${i.src}`)"
    )
    if page.locator("article .math").count():
        page.wait_for_function("window.MathJax?.startup?.promise")
        page.evaluate("MathJax.startup.promise")
        problems += page.evaluate(
            "[...document.querySelectorAll('article .math')]"
            ".filter(m => !m.querySelector('mjx-container'))"
            ".map(m => `not typeset: ${m.textContent}`)"
        )
        problems += page.evaluate(
            "[...document.querySelectorAll('mjx-merror')]"
            ".map(m => `bad mathematics: ${m.textContent}`)"
        )
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.wait_for_timeout(400)  # colours fade into each other
        problems += [f"{theme}: {line}" for line in page.evaluate(LEGIBLE)]
    assert problems == []

    page.set_viewport_size({"width": 390, "height": 800})
    wide = page.evaluate(
        "[...document.querySelectorAll('article *')]"
        ".filter(e => e.getBoundingClientRect().right > 391)"
        ".map(e => e.outerHTML.slice(0, 120)).slice(0, 5)"
    )
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, f"wider than a telephone: {wide}"


def test_search_finds_a_page(visit):
    page, problems = visit("search")
    page.goto(page.url + "?q=re-identification")
    page.locator("#search-results li a").first.wait_for(timeout=20_000)
    assert problems == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("<p style='color: #999'>pale</p>", 'contrast 2.8: P. "pale"'),
        ("<p style='color: #595959'>grey</p>", None),
        ("<div style='background: #000'><p>black</p></div>", "contrast 1.0"),
        ("<p style='color: rgba(0, 0, 0, 0.3)'>thin</p>", "contrast 2.1"),
        ("<img src='{transparent}'>", "transparent: data:image/png"),
        ("<img src='{opaque}'>", None),
    ],
)
def test_what_cannot_be_read_is_found(browser, content, problem):
    pictures = {}
    for name, colour in (("transparent", (0, 0, 0, 0)), ("opaque", (9, 9, 9, 255))):
        buffer = io.BytesIO()
        Image.new("RGBA", (8, 8), colour).save(buffer, "png")
        code = base64.b64encode(buffer.getvalue()).decode()
        pictures[name] = f"data:image/png;base64,{code}"
    page = browser.new_page()
    page.set_content(f"<article>{content.format(**pictures)}</article>")
    found = page.evaluate(LEGIBLE)
    page.close()
    assert [line for line in found if not line.startswith(problem or "none")] == []
    assert len(found) == (problem is not None)
