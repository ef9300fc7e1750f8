"""Executing chapters: what was done is kept, what fails is named, the rest goes on."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parents[2]
FINE = "print(6 * 7)"


@pytest.fixture
def execute(tmp_path, monkeypatch, capsys):
    """The program, with its memory in a folder of the test; returns (status, told)."""
    file = ROOT / "notebooks" / "execute.py"
    spec = importlib.util.spec_from_file_location("execute", file)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program, "EXECUTED", tmp_path / "executed")
    monkeypatch.setattr(program, "TIMES", tmp_path / "times.json")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["execute.py", *map(str, words)])
        status = program.main()
        return status, "".join(capsys.readouterr())

    return run


def write(path, source):
    title = new_markdown_cell("# A chapter", id="title")
    old = [new_output("stream", name="stdout", text="what was stored\n")]
    cell = new_code_cell(source, id="answer", outputs=old, execution_count=3)
    notebook = new_notebook(cells=[title, cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)
    return path


def output(path):
    cell = next(c for c in nbformat.read(path, 4).cells if c.cell_type == "code")
    return cell.outputs[0].text


def test_a_failure_is_named_and_a_second_call_goes_on(execute, tmp_path):
    fine = write(tmp_path / "01_fine.ipynb", FINE)
    broken = write(tmp_path / "02_broken.ipynb", "1 / 0")

    status, told = execute(fine, broken)
    assert status == 1
    assert "02_broken.ipynb: failed in cell 'answer'" in told
    assert "ZeroDivisionError" in told
    assert output(fine) == "42\n"
    assert output(broken) == "what was stored\n"

    write(broken, "print('mended')")
    status, told = execute(fine, broken)
    assert status == 0
    assert "01_fine.ipynb: as executed before" in told
    assert "02_broken.ipynb: done in" in told
    assert output(broken) == "mended\n"


def test_changed_code_is_executed_again_and_changed_text_is_not(execute, tmp_path):
    chapter = write(tmp_path / "01_chapter.ipynb", FINE)
    execute(chapter)
    notebook = nbformat.read(chapter, 4)
    notebook.cells[0].source = "# A chapter with another title"
    notebook.cells[1].outputs = []
    nbformat.write(notebook, chapter)

    _, told = execute(chapter)
    assert "as executed before" in told
    assert nbformat.read(chapter, 4).cells[0].source.endswith("another title")
    assert output(chapter) == "42\n"

    write(chapter, "print(7 * 7)")
    _, told = execute(chapter)
    assert "done in" in told
    assert output(chapter) == "49\n"


def test_copies_say_where_they_were_executed_and_the_original_stays(execute, tmp_path):
    chapter = write(tmp_path / "01_chapter.ipynb", FINE)
    before = chapter.read_bytes()
    status, _ = execute("--to", tmp_path / "live", chapter)
    assert status == 0
    assert chapter.read_bytes() == before
    copy = nbformat.read(tmp_path / "live" / chapter.name, 4)
    nbformat.validate(copy)
    assert "Executed on this machine" in copy.cells[1].source
    assert output(tmp_path / "live" / chapter.name) == "42\n"
    assert "reidlib" not in copy.metadata


def test_times_are_measured_for_what_is_named_and_others_are_kept(execute, tmp_path):
    short = write(tmp_path / "01_short.ipynb", FINE)
    busy = (
        "from time import process_time as now\nend = now() + 1.5\nwhile now() < end: 0"
    )
    long = write(tmp_path / "02_long.ipynb", busy)
    status, _ = execute("--times", long)
    assert status == 0
    status, told = execute("--times", short)
    assert status == 0
    assert "01_short.ipynb: 0 s" not in told
    known = json.loads((tmp_path / "times.json").read_text(encoding="utf-8"))
    (measured,) = known.values()
    assert measured["hardware"]["cpu_cores"] == os.cpu_count()
    seconds = measured["seconds"]
    assert seconds["02_long"] >= 1.5
    assert 0 < seconds["01_short"] < seconds["02_long"]
