"""Prose has no decimal and no percentage of its own: no number of a run is typed.

What a run gave is glued or read from the result files, so it stands in a role. What is
chosen or follows from an equation stands in code or mathematics. A number of a paper
stands beside its source. Whole numbers and fractions in words are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(ROOT.glob("notebooks/*.ipynb"))
PAGES = sorted(ROOT.glob("book/**/*.md"))

NUMBER = re.compile(r"(?<![\w.-])[-−]?\d+\.\d+(?!\w|\.\d)|\d\s*(?:%|per ?cent\b)")
# A citation, or the item of a paper's table or figure from which the number comes.
SOURCE = re.compile(r"\[cited\]|\b(?:calr|aff|cals|qafm)-[a-z]\d+\b", re.IGNORECASE)
NO_PROSE = ("code", "code-block", "code-cell", "literalinclude", "math", "raw")
# These name something and measure nothing.
NAMES = re.compile(r"\b(?:Python|PyTorch|arXiv|[Ss]ection) \d+\.\d+")
GENERATED = {"coverage.md"}  # written by the library from the papers' items


def blocks(text: str) -> Iterator[list[str]]:
    """Paragraphs as their lines, without code; a directive begins a paragraph."""
    block: list[str] = []
    fences: list[tuple[str, bool]] = []  # the mark of each, and whether it is code
    for line in [*text.split("\n"), ""]:
        mark = re.match(r"\s*(`{3,}|:{3,})\s*(\{[\w:-]+\}|[\w+-]*)", line)
        inside_code = bool(fences) and fences[-1][1]
        if mark and not mark[2] and fences and mark[1] == fences[-1][0]:
            fences.pop()
            line = ""
        elif mark and not inside_code:
            name = mark[2].strip("{}")
            code = not mark[2].startswith("{") or name in NO_PROSE
            fences.append((mark[1], code))
            line = "" if code else line[mark.end() :]
        elif inside_code:
            line = ""
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def bare(text: str) -> str:
    """A text without code, mathematics, roles and the targets of links."""
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"\{cite[:\w]*\}`[^`]*`", "[cited]", text)
    text = re.sub(r"\{[\w:+-]+\}`[^`]*`|(`+).+?\1", "[]", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]+\$", "[]", text)
    return NAMES.sub("", re.sub(r"\]\([^)]*\)|<[^>\n]+>|https?://\S+", "]", text))


def typed(text: str) -> list[str]:
    """Sentences, rows of tables and figures that hold a number without its source."""
    found = []
    for block in blocks(text):
        joined = bare("\n".join(block))
        if block[0].lstrip().startswith("|"):
            # In a table that compares with the paper, each row says whose a number is.
            units = [] if "the paper" in block[0] else joined.split("\n")
        elif block[0].lstrip().startswith((":name:", ":alt:", "../", "figures/")):
            units = [joined]  # the options of a figure; its name is the item
        else:
            units = re.split(r"(?<=[.!?])[\"*)]*\s+(?=[A-Z*\"(\[])", joined)
        found += [u for u in units if NUMBER.search(u) and not SOURCE.search(u)]
    return [" ".join(unit.split()) for unit in found]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_types_no_number(chapter):
    cells = nbformat.read(chapter, as_version=4).cells
    prose = [(cell.id, cell.source) for cell in cells if cell.cell_type == "markdown"]
    found = {name: typed(source) for name, source in prose if typed(source)}
    assert found == {}, "glue it, read it, or give its source; settings are code"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_types_no_number(page):
    if page.name not in GENERATED:
        found = typed(page.read_text(encoding="utf-8"))
        assert found == [], "read it or give its source; settings are code"


@pytest.mark.parametrize(
    "text",
    [
        "It gains 3.4 points. The paper (CALR-T1) gains more.",
        "Half of them, 57 %, share a camera.",
        "```{exercise} One\n:label: one\n\nWhy 31.0?\n```",
        ":::{admonition} What to do\nKeep 5 percent.\n:::",
        "```\ncode\n```\n\nIt falls by −0.4.",
        "| row | mAP |\n| --- | --- |\n| ours | 41.2 |",
        "```{figure} figures/a.png\n:alt: It rises to 4.5.\n```",
    ],
)
def test_a_typed_number_is_found(text):
    assert len(typed(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "It gains {glue:text}`gain` points of {result}`calr-t1-gem size`.",
        "At `0.5`, $\\tau = 0.1$ and $60\\,\\%$ of them.",
        "```python\nlow = 0.5\n```",
        "The paper (AFF-T3) has 78.8 % here.",
        "The 85.9 % of {cite:t}`luo2019bag`.",
        "```{figure} figures/a.png\n:name: fig-aff-t5\n:alt: From 68.5 to 78.8.\n```",
        "| what | the paper |\n| --- | --- |\n| weight | 0.5 |",
        "Python 3.11 and GPL-3.0-or-later, in [a chapter](page_1.2.md).",
    ],
)
def test_a_number_with_its_source_is_not(text):
    assert typed(text) == []
