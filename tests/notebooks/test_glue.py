"""Numbers for the text, as MyST writes them."""

from __future__ import annotations

from pathlib import Path

from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from own_sockets import with_own_sockets

FOLDER = Path(__file__).parents[2] / "notebooks"
OURS = 'from figures.glue import glue\nglue(people="40", share="12.5")'
THEIRS = """from myst_nb import glue
glue("people", "40", display=False)
glue("share", "12.5", display=False)"""


def test_a_number_is_written_as_myst_writes_it():
    notebook = new_notebook(cells=[new_code_cell(OURS), new_code_cell(THEIRS)])
    options = {
        "kernel_name": "python3",
        "kernel_manager_class": with_own_sockets(AsyncKernelManager),
        "resources": {"metadata": {"path": str(FOLDER)}},
    }
    NotebookClient(notebook, **options).execute()
    ours, theirs = (cell.outputs for cell in notebook.cells)
    assert len(ours) == 2
    assert ours == theirs
