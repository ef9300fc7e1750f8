"""Ticks of exercises: in a real browser, from a file, with and without storage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAPTER, LANDING = "notebooks/camera_alignment.html", "book/intro.html"
# As a browser blocks it, for our script alone: the theme complains of it by itself.
BLOCKED = """const storage = window.localStorage;
Object.defineProperty(window, "localStorage", {
  get() {
    if (!new Error().stack.includes("progress.js")) return storage;
    throw new DOMException("blocked", "SecurityError");
  },
})"""
# As a browser whose storage is full: what is there can be read.
FULL = """const setItem = Storage.prototype.setItem;
Storage.prototype.setItem = function (...item) {
  if (!new Error().stack.includes("progress.js")) return setItem.apply(this, item);
  throw new DOMException("full", "QuotaExceededError");
}"""


def written() -> int:
    """How many exercises the chapters hold."""
    texts = (p.read_text(encoding="utf-8") for p in ROOT.glob("notebooks/*.ipynb"))
    return sum(text.count("{exercise}") for text in texts)


async def numbers(place) -> tuple[int, int]:
    done, of = re.findall(r"\d+", await place.inner_text())
    return int(done), int(of)


def test_ticks_are_counted_and_kept(build, browser):
    async def look(page):
        boxes, count = (
            page.locator(".exercise-tick input"),
            page.locator(".exercise-count"),
        )
        number = await boxes.count()
        found = [await numbers(count)]
        await page.get_by_label("done").nth(1).check()
        await boxes.last.check()
        found.append(await numbers(count))
        await page.reload()
        ticked = [await boxes.nth(place).is_checked() for place in range(number)]
        total = page.locator(".exercise-total")
        await page.goto((build.html / LANDING).as_uri())
        found.append(await numbers(total))
        await page.goto((build.html / CHAPTER).as_uri())
        await boxes.last.uncheck()
        await page.goto((build.html / LANDING).as_uri())
        found.append(await numbers(total))
        return number, found, ticked

    number, found, ticked = browser.visit(build.html / CHAPTER, True, look)
    assert found == [(0, number), (2, number), (2, written()), (1, written())]
    assert ticked == [place in (1, number - 1) for place in range(number)]


def test_what_else_is_stored_under_the_name_does_no_harm(build, browser):
    async def look(page):
        found = []
        for stored in ("{", '{"a": 1}', '["ex-knob", "ex-of-an-older-book"]'):
            await page.evaluate(
                "x => localStorage.setItem('reidlib-exercises', x)", stored
            )
            await page.reload()
            found.append((await numbers(page.locator(".exercise-total")))[0])
        return found

    assert browser.visit(build.html / LANDING, True, look) == [0, 0, 1]


@pytest.mark.parametrize("storage", [BLOCKED, FULL], ids=["blocked", "full"])
def test_where_storage_takes_nothing_ticks_last_as_long_as_the_page(
    build, browser, storage
):
    async def look(page):
        await page.add_init_script(storage)
        await page.reload()
        boxes, count = (
            page.locator(".exercise-tick input"),
            page.locator(".exercise-count"),
        )
        await boxes.nth(0).check()
        await boxes.nth(1).check()
        before = await numbers(count)
        await page.reload()
        return before, await numbers(count)

    before, after = browser.visit(build.html / CHAPTER, True, look)
    assert (before[0], after[0]) == (2, 0)


def test_without_javascript_nothing_is_added(build, browser):
    async def look(page):
        places = page.locator(".exercise-tick, .exercise-count")
        exercises = await page.locator("div.exercise").count()
        added = await places.count()
        await page.goto((build.html / LANDING).as_uri())
        return exercises, added, await page.locator(".exercise-total").is_visible()

    exercises, added, shown = browser.visit(build.html / CHAPTER, False, look)
    assert exercises > 0
    assert (added, shown) == (0, False)
