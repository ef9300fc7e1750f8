"""What the settings of Jupyter Book cannot say."""

from __future__ import annotations

import os

from sphinx.application import Sphinx
from sphinx.config import Config


def choose_execution(app: Sphinx, config: Config) -> None:
    """Build from stored outputs when ``REIDLIB_NOTEBOOKS`` is ``stored``.

    The tests do: nbval executes the same notebooks in the same run and compares them
    with these outputs, so executing them once more would prove nothing new.
    """
    if os.environ.get("REIDLIB_NOTEBOOKS") == "stored":
        config["nb_execution_mode"] = "off"
    # The kernels inherit both: sliders and bars would fetch scripts from the network.
    os.environ |= {"REIDLIB_STATIC": "1", "TQDM_DISABLE": "1"}


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
    """Connect the two to Sphinx."""
    app.connect("config-inited", choose_execution)
    # Before napoleon, whose priority is the default 500.
    app.connect("autodoc-process-docstring", keep_whole_line, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
