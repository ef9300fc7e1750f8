"""Execute notebooks in place: ``python notebooks/execute.py notebooks/01_*.ipynb``.

The outputs that are stored this way are committed, and nbval compares a fresh execution
with them. What would differ although the notebook has not changed is left out: times
and the version of Python. Pictures are stored with 256 colours, at a third of the size
that matplotlib gives them, so that a notebook stays below a megabyte.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image


def execute(path: Path) -> None:
    """Run every cell in a fresh kernel, from the notebook's folder, and store it.

    Args:
        path: The notebook. It is written only if no cell fails.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails that is not tagged
            ``raises-exception``.
    """
    # The kernel inherits both. Neither sliders nor bars are stored: their scripts would
    # come from the network.
    os.environ |= {"REIDLIB_STATIC": "1", "TQDM_DISABLE": "1"}
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=1500,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = with_few_colours(output.data["image/png"])
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def with_few_colours(png: str, colours: int = 256) -> str:
    """Return a picture with a palette, where that makes it smaller.

    Args:
        png: The picture, in base 64 as a notebook holds it.
        colours: Size of the palette.
    """
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        buffer = io.BytesIO()
        image.convert("RGB").quantize(colours).save(buffer, "png", optimize=True)
    smaller = base64.b64encode(buffer.getvalue()).decode()
    return smaller if len(smaller) < len(png) else png


if __name__ == "__main__":
    for name in sys.argv[1:]:
        start = time.monotonic()
        execute(Path(name))
        print(f"{name}: {time.monotonic() - start:.0f} s")
