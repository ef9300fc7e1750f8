"""What the settings of Jupyter Book cannot say."""

from __future__ import annotations

from sphinx.application import Sphinx


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
    # Before napoleon, whose priority is the default 500.
    app.connect("autodoc-process-docstring", keep_whole_line, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
