"""The card at the head of each chapter: what is counted, measured and shown."""

from __future__ import annotations

import base64
import importlib
import io
import json
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from PIL import Image

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(ROOT.glob("notebooks/*.ipynb"))


@pytest.fixture
def book(monkeypatch):
    """The extension of the book."""
    monkeypatch.syspath_prepend(ROOT / "book" / "extensions")
    return importlib.import_module("reidlib_book")


def code(source, *tags, picture=None):
    outputs = [{"data": {"image/png": picture}}] if picture else []
    metadata = {"tags": list(tags), "mystnb": {"image": {"alt": "two <bars>"}}}
    return {
        "cell_type": "code",
        "id": source[:3],
        "source": [source],
        "metadata": metadata,
        "outputs": outputs,
    }


def text(source):
    return {"cell_type": "markdown", "id": "text", "source": [source], "metadata": {}}


def test_prose_and_visible_code_before_the_exercises_are_counted(book):
    ten = text("word " * 10 * book.WORDS)
    lines = code("a = 1\n\n" * 5 * book.LINES)
    hidden = code("a = 1\n" * 1000, "hide-input")
    later = [text("end\n\n## Exercises\n" + "word " * 9000), text("word " * 9000)]
    assert book.reading_minutes([ten, lines, hidden, *later]) == 15
    assert book.reading_minutes([text("short")]) == 5


def test_only_what_was_measured_is_told(book, monkeypatch, tmp_path):
    times = tmp_path / "times.json"
    monkeypatch.setattr(book, "TIMES", times)
    assert book.running("one") == ""
    measured = {"cpu": {"seconds": {"one": 40.0, "two": 130.0}}}
    times.write_text(json.dumps(measured))
    stored = " once its trainings are stored"
    assert (
        book.running("one") == f", half a minute to run on one processor core{stored}"
    )
    assert book.running("three") == ""
    times.write_text(json.dumps({**measured, "gpu": {"seconds": {"two": 30.0}}}))
    told = ", 2 minutes to run on one processor core and half a minute on one GPU"
    assert book.running("two") == told + stored


def test_the_picture_is_the_first_panel_of_a_figure(book):
    panels = Image.new("RGB", (900, 100), "blue")
    panels.paste("red", (0, 0, 300, 100))
    buffer = io.BytesIO()
    panels.save(buffer, "png")
    picture = base64.b64encode(buffer.getvalue()).decode()
    cells = [code("bare"), code("one", picture=picture)]
    tag = BeautifulSoup(book.thumbnail(cells), "html.parser").img
    assert tag["alt"] == "two <bars>"
    small = Image.open(io.BytesIO(base64.b64decode(tag["src"].partition(",")[2])))
    assert small.size == book.THUMBNAIL
    red, _, blue = small.getpixel((300, 120))
    assert red > 200 > 60 > blue
    assert book.thumbnail(cells, "bar") == ""


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_begins_with_its_title_its_card_and_its_picture(chapter):
    head = nbformat.read(chapter, as_version=4).cells[0].source
    card = head.split(":::{chapter-card}\n")[1].split("\n:::")[0]
    before = head.split(":::{chapter-card}")[0].strip().split("\n")
    assert [line for line in before if line and not line.startswith(("(", "# "))] == []
    for words in ("**You will be able to**", "**You need**"):
        assert words in card
    assert "**Time**" not in head
    drawn = ROOT / "book" / "figures" / f"chapter_{chapter.stem}_wide.png"
    after = head.split("\n:::\n")[1].strip().split("\n")[0] if "\n:::\n" in head else ""
    if drawn.is_file():
        assert after == f"```{{figure}} ../book/figures/{drawn.name}"


def test_what_was_measured_are_chapters():
    file = ROOT / "notebooks" / "times.json"
    measured = json.loads(file.read_text(encoding="utf-8"))
    assert set(measured) <= {"cpu", "gpu"}
    for kind in measured.values():
        assert set(kind["seconds"]) <= {chapter.stem for chapter in CHAPTERS}
        assert kind["hardware"]["machine"]
