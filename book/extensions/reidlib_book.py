"""What the settings of Jupyter Book cannot say."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.writers.html5 import HTML5Translator

FIGURES = Path(__file__).parents[1] / "figures"
sys.path.append(str(FIGURES))

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
    app.add_role("result", Result())
    app.add_node(exercise_total, html=(visit_total, None))
    app.add_directive("exercise-total", ExerciseTotal)
    # Before napoleon, whose priority is the default 500.
    app.connect("autodoc-process-docstring", keep_whole_line, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
