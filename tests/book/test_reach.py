"""What is wider than a telephone: it scrolls, by the keyboard too, and can be read."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

STATIC = Path(__file__).parents[2] / "book" / "_static"
PHONE, DESK = {"width": 390, "height": 800}, {"width": 1400, "height": 800}


def picture(width: int, style: str = "") -> str:
    """Return an image in HTML."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, 300), "white").save(buffer, "png")
    code = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='{width}' style='{style}' src='data:image/png;base64,{code}'>"


CELLS = "".join(f"<td>a_long_word_{n}</td>" for n in range(20))
PAGE = f"""<!doctype html><meta charset="utf-8"><style>
body {{ margin: 16px }} img {{ max-width: 100% }}
{(STATIC / "reidlib.css").read_text(encoding="utf-8")}</style>
<article class="bd-article">
<div class="cell_output">{picture(1000)}{picture(640)}</div>
<figure class="diagram"><span class="legend">{picture(1001)}</span></figure>
<figure>{picture(1002, "width: 560px")}</figure>
<table id="wide"><tbody><tr>{CELLS}</tr></tbody></table>
<table id="small"><tbody><tr><td>1</td></tr></tbody></table>
<mjx-container display="true" style="display: block"><div style="width: 900px">
an equation</div></mjx-container>
<p><mjx-container id="long" style="display: inline-block"><span
style="display: inline-block; width: 500px">a formula</span></mjx-container> and
<mjx-container id="short" style="display: inline-block">another</mjx-container></p>
</article>
<script>{(STATIC / "reach.js").read_text(encoding="utf-8")}</script>"""
LOOK = """() => ({
  wide: document.documentElement.scrollWidth,
  pictures: Object.fromEntries([...document.images].map((image) =>
    [image.alt, Math.round(image.getBoundingClientRect().width)])),
  reached: [...document.querySelectorAll("[tabindex='0']")].map((box) =>
    box.id || box.querySelector("img")?.alt || box.localName),
})"""


@pytest.fixture(scope="module")
def found(browser):
    """What one browser finds on a telephone, after keys, and on a desk."""

    async def look(browser):
        async with await browser.new_context(viewport=PHONE) as context:
            page = await context.new_page()
            await page.set_content(PAGE)
            phone = await page.evaluate(LOOK)
            await page.keyboard.press("Tab")
            for _ in range(5):
                await page.keyboard.press("ArrowRight")
            await page.wait_for_function("document.activeElement.scrollLeft > 0")
            phone["first"] = await page.evaluate("document.activeElement.className")
            await page.set_viewport_size(DESK)
            # The page hears of its new size a moment later.
            await page.wait_for_function(
                "document.querySelectorAll('[tabindex=\"0\"]').length == 1"
            )
            desk = await page.evaluate(LOOK)
            return phone, desk

    return browser.run(look)


def test_labels_can_be_read_on_a_telephone(found):
    phone, desk = found
    # 8.5 points at 100 dots per inch, in pixels of the page.
    assert 8.5 * 100 / 72 * phone["pictures"]["1000"] / 1000 > 6.45
    assert phone["pictures"]["640"] <= 390 - 32
    assert max(phone["pictures"][name] for name in ("1001", "1002")) <= 390 - 32
    assert desk["pictures"]["1000"] == 1000


def test_nothing_is_cut_off(found):
    assert [place["wide"] for place in found] == [390, 1400]


def test_what_scrolls_is_reached_by_the_keyboard(found):
    phone, desk = found
    assert phone["reached"] == ["1000", "wide", "mjx-container", "long"]
    assert phone["first"] == "wide"
    assert desk["reached"] == ["wide"]
