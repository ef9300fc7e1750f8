"""Execute notebooks in place: ``python notebooks/execute.py notebooks/01_*.ipynb``.

The outputs that are stored this way are committed, and nbval compares a fresh execution
with them. What would differ although the notebook has not changed is left out: times
and the version of Python.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path) -> None:
    """Run every cell in a fresh kernel, from the notebook's folder, and store it.

    Args:
        path: The notebook. It is written only if no cell fails.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails that is not tagged
            ``raises-exception``.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        start = time.monotonic()
        execute(Path(name))
        print(f"{name}: {time.monotonic() - start:.0f} s")
