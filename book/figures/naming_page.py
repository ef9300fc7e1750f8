"""Take the picture of the page for naming, with drawn people.

    python book/figures/naming_page.py

It writes the page that `reidlib name` writes, opens it in Chromium, marks the right
crops of its first questions, and keeps what is seen as ``naming_page.png``.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "notebooks"), str(ROOT / "book" / "print")]

from playwright.async_api import async_playwright  # noqa: E402

from chromium import FLAGS, MISSING, find_browser  # noqa: E402
from figures.street import cut, draw_street  # noqa: E402
from reidlib.data import ImageTable  # noqa: E402
from reidlib.deploy import Embeddings, naming_page, naming_questions  # noqa: E402
from reidlib.models import ReIDNet  # noqa: E402
from reidlib.recipes import baseline  # noqa: E402
from reidlib.synthcity import plan_world  # noqa: E402
from reidlib.trained import TrainedModel  # noqa: E402

FILE = Path(__file__).with_suffix(".png")
ASKED = {"people": 12, "candidates": 8}
SEEN = {"width": 820, "height": 840}


def drawn(folder: Path) -> tuple[Embeddings, np.ndarray]:
    """Return features of the true boxes of a drawn street, and who is on each."""
    street = draw_street(plan_world("tiny"), groups=4, moments=1)
    boxes = zip(street.frames, street.boxes, strict=True)
    crops = [crop for frame, found in boxes for crop in cut(frame, found)]
    names = tuple(f"{number:03d}.jpg" for number in range(len(crops)))
    for name, crop in zip(names, crops, strict=True):
        Image.fromarray(crop).save(folder / name, quality=95)
    people = np.concatenate(street.people)
    cameras = np.repeat(street.cameras, [len(one) for one in street.people])
    table = ImageTable(folder, names, np.full(len(crops), -2), cameras)
    network = ReIDNet("efficientnet_lite0").eval()
    config = baseline.PRESETS["quick"]
    reid = TrainedModel(network, config, "f" * 64, torch.device("cpu"))
    return Embeddings(reid.extract(table), table, reid.fingerprint), people


async def taken(page_file: Path, marks: list[list[int]]) -> bytes:
    """Return a picture of the page after its first questions were answered.

    Args:
        page_file: The page.
        marks: For each question that is answered the places of the right crops.
    """
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_browser(), args=FLAGS
        )
        page = await browser.new_page(viewport=SEEN, color_scheme="light")
        await page.goto(page_file.as_uri())
        for number, places in enumerate(marks):
            section = page.locator("section").nth(number)
            for place in places:
                await section.locator(".tiles button").nth(place).click()
        await page.locator("section").first.get_by_role("button", name="Done").click()
        await page.mouse.move(0, 0)
        await page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
        picture = await page.screenshot()
        await browser.close()
    return picture


def main() -> None:
    """Take the picture."""
    if find_browser() is None:
        raise SystemExit(MISSING)
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        folder = Path("tuesday")  # the page names it
        folder.mkdir()
        found, people = drawn(folder)
        questions = naming_questions(found, **ASKED)
        file = naming_page(found, "name.html", **ASKED).absolute()
        marks = [
            [n for n, row in enumerate(q.candidates) if people[row] == people[q.query]]
            for q in questions[:2]
        ]
        picture = asyncio.run(taken(file, marks))
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(128).save(FILE, optimize=True)
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
