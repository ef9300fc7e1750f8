"""What the settings of Jupyter Book cannot say."""

from __future__ import annotations

import base64
import functools
import gc
import html
import io
import json
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from PIL import Image, ImageOps
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.writers.html5 import HTML5Translator

FIGURES = Path(__file__).parents[1] / "figures"
TIMES = Path(__file__).parents[2] / "notebooks" / "times.json"
"""How long each chapter runs, as ``notebooks/execute.py --times`` measured it."""

WORDS, LINES = 150, 15
"""Words of prose and lines of code that are read in a minute."""
THUMBNAIL = (320, 240)  # pixels, twice the size at which it is shown
sys.path.append(str(FIGURES))

from repository import colab_link, repository  # noqa: E402 - beside this file

from quotes import shown  # noqa: E402 - it lies beside the figures


@functools.cache
def stored_quotes() -> dict[str, dict[str, object]]:
    """Return the numbers that `make_figures.py --tables` has stored."""
    return dict(json.loads((FIGURES / "quotes.json").read_text(encoding="utf-8")))


class Result(SphinxRole):
    """A number of the result files: ``{result}`aff-t2-loss size` ``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return its text, or an error that names what is not there."""
        name, _, how = self.text.partition(" ")
        try:
            text = shown(stored_quotes()[name], how or "mean")
        except KeyError as error:
            message = f"quotes.json has no {error} for {self.text!r}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        return [nodes.inline(text, text, classes=["result"])], []


class exercise_total(nodes.General, nodes.Element):
    """The place where `progress.js` counts the ticks of all exercises."""


class ExerciseTotal(SphinxDirective):
    """The directive ``{exercise-total}``."""

    def run(self) -> list[nodes.Node]:
        """Return the place."""
        return [exercise_total()]


def visit_total(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write an empty paragraph that names all exercises of the book."""
    registry = translator.builder.env.sphinx_exercise_registry
    labels = [k for k, found in registry.items() if found["type"] == "exercise"]
    attributes = {"class": "exercise-total", "hidden": "hidden"}
    attributes["data-exercises"] = " ".join(sorted(labels))
    translator.body.append(translator.starttag(node, "p", "", **attributes) + "</p>")
    raise nodes.SkipNode


class ChapterCard(SphinxDirective):
    """The card at the head of a chapter.

    Its text says what the reader will be able to do and what is needed. The time to
    read is counted, the time to run is read from `TIMES`, and the picture is the
    chapter's first figure, or that of the cell which ``:picture:`` names. A link opens
    the chapter in Colab, where ``_config.yml`` says where the repository is.
    """

    has_content = True
    option_spec = {"picture": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """Return the card."""
        file = Path(self.env.doc2path(self.env.docname))
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        card = nodes.admonition(classes=["tip", "chapter-card"])
        card += nodes.title("", "This chapter")
        picture = thumbnail(cells, self.options.get("picture"))
        if picture:
            card += nodes.raw("", picture, format="html")
        self.state.nested_parse(self.content, self.content_offset, card)
        self.env.note_dependency(str(TIMES))
        told = f": {reading_minutes(cells)} minutes to read{running(file.stem)}."
        card += nodes.paragraph("", "", nodes.strong("", "Time"), nodes.Text(told))
        address = colab_link(f"{self.env.docname}.ipynb", repository())
        if address:
            link = nodes.reference("", "Open in Colab", refuri=address)
            card += nodes.paragraph("", "", link, classes=["colab"])
        return [card]


def thumbnail(cells: list[dict[str, Any]], wanted: str | None = None) -> str:
    """Return the first figure of some cells, small and inside the page, or nothing.

    Args:
        cells: Those of a notebook.
        wanted: Name of the cell that has the figure.
    """
    for cell in cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {}).get("image/png")
            if not data or wanted not in (None, cell["id"]):
                continue
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
            buffer = io.BytesIO()
            with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                # Of a row of panels the first one: all would be too small to see.
                small = ImageOps.fit(image.convert("RGB"), THUMBNAIL, centering=(0, 0))
                small.save(buffer, "jpeg", quality=80, optimize=True)
            source = base64.b64encode(buffer.getvalue()).decode()
            return (
                f'<img class="thumbnail" alt="{html.escape(alt)}" '
                f'src="data:image/jpeg;base64,{source}">'
            )
    return ""


def reading_minutes(cells: list[dict[str, Any]]) -> int:
    """Return minutes to read prose and visible code before the exercises, in fives."""
    words = lines = 0
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            before, exercises, _ = source.partition("## Exercises")
            words += len(before.split())
            if exercises:
                break
        elif not {"hide-input", "remove-cell"} & set(cell["metadata"].get("tags", [])):
            lines += len([line for line in source.split("\n") if line.strip()])
    return max(5, 5 * round((words / WORDS + lines / LINES) / 5))


def running(chapter: str) -> str:
    """Return how long a chapter runs on each kind of machine that was measured."""
    if not TIMES.is_file():
        return ""
    told = ""
    measured = json.loads(TIMES.read_text(encoding="utf-8"))
    for kind, name in (("cpu", "processor core"), ("gpu", "GPU")):
        seconds = measured.get(kind, {}).get("seconds", {}).get(chapter)
        if seconds is not None:
            where = f"{spoken(seconds)}{'' if told else ' to run'} on one {name}"
            told += f" and {where}" if told else f", {where}"
    return told + " once its trainings are stored" if told else ""


def spoken(seconds: float) -> str:
    """Return a time as a reader wants it.

    Example:
        >>> [spoken(s) for s in (12, 31, 70, 130)]
        ['a quarter of a minute', 'half a minute', 'a minute', '2 minutes']
    """
    if seconds < 45:
        return "half a minute" if seconds > 20 else "a quarter of a minute"
    return "a minute" if seconds < 90 else f"{round(seconds / 60)} minutes"


def keep_whole_line(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Keep a field's description whole where it contains a colon.

    Napoleon takes the first line "Momentum: the share that stays" of a field for
    "type: description"; an empty comment (two dots) as first line has no colon.
    """
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect it to Sphinx."""
    # Millions of nodes live until the end: to look for unused ones is in vain.
    gc.freeze()
    gc.disable()
    app.add_role("result", Result())
    app.add_node(exercise_total, html=(visit_total, None))
    app.add_directive("exercise-total", ExerciseTotal)
    app.add_directive("chapter-card", ChapterCard)
    # Before napoleon, whose priority is the default 500.
    app.connect("autodoc-process-docstring", keep_whole_line, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
