"""What a reader of the test's output is told when a chapter fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).parents[2]


def run_nbval(folder: Path, *cells: nbformat.NotebookNode) -> str:
    notebook = new_notebook(cells=list(cells))
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "07_broken_chapter.ipynb")
    for file in ("conftest.py", "own_sockets.py"):
        shutil.copy(ROOT / "notebooks" / file, folder)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval"]
    command += [
        "--rootdir",
        str(folder),
        "--color=no",
        "--nbval-current-env",
        "--nbval-sanitize-with",
    ]
    command += [str(ROOT / "tests" / "nbval_sanitize.cfg"), "07_broken_chapter.ipynb"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def cell(name: str, source: str, text: str = "") -> nbformat.NotebookNode:
    outputs = [new_output("stream", name="stdout", text=text)] if text else []
    made = new_code_cell(source, outputs=outputs, execution_count=1)
    made["id"] = name
    return made


def test_a_failing_or_changed_cell_is_named_with_its_chapter(tmp_path):
    told = run_nbval(
        tmp_path,
        cell("fine-sum", "print(1 + 1)", "2\n"),
        cell("changed-sum", "print(1 + 2)", "4\n"),
        cell("broken-division", "1 / 0"),
    )
    for number, name in ((1, "changed-sum"), (2, "broken-division")):
        assert f" 07_broken_chapter.ipynb::Cell {number} ({name}) " in told
        assert f"FAILED 07_broken_chapter.ipynb::Cell {number}" in told
    assert "fine-sum" not in told
    assert "ZeroDivisionError" in told
