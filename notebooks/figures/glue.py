"""Numbers that a cell computes and the text of its chapter shows."""

from __future__ import annotations

from IPython.display import display

PREFIX = "application/papermill.record/"
"""Kind of output under which MyST looks for them; a notebook does not show it."""


def glue(**numbers: str) -> None:
    """Keep numbers for the text, which shows ``count`` as ``{glue:text}`count` ``.

    Writes what ``myst_nb.glue`` would write, so that a chapter also runs where the
    library is installed without the book.

    Args:
        numbers: Texts, rounded as they are to be read.

    Example:
        >>> glue(people=f"{40:.0f}")
        {'application/papermill.record/text/plain': "'40'"}
    """
    for name, text in numbers.items():
        record = {"name": name, "mime_prefix": PREFIX}
        data = {f"{PREFIX}text/plain": repr(text)}
        display(data, metadata={"scrapbook": record}, raw=True)
