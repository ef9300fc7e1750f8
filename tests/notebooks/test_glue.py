"""Numbers for the text, as MyST writes them."""

from __future__ import annotations

from pathlib import Path

from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

FOLDER = Path(__file__).parents[2] / "notebooks"
OURS = 'from figures.glue import glue\nglue(people="40", share="12.5")'
THEIRS = """from myst_nb import glue
glue("people", "40", display=False)
glue("share", "12.5", display=False)"""


def test_a_number_is_written_as_myst_writes_it():
    notebook = new_notebook(cells=[new_code_cell(OURS), new_code_cell(THEIRS)])
    where = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, kernel_name="python3", resources=where).execute()
    ours, theirs = (cell.outputs for cell in notebook.cells)
    assert len(ours) == 2
    assert ours == theirs
