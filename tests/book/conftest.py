"""The rendered book, built once for all the tests of this folder."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Build:
    """Where the pages are, and how their building went."""

    html: Path
    returncode: int
    output: str


@pytest.fixture(scope="session")
def build(request, tmp_path_factory) -> Build:
    """Build the book from the notebooks' stored outputs, warnings as errors.

    ``REIDLIB_BOOK`` names a book that is already built; it is then read as it is.
    """
    built = os.environ.get("REIDLIB_BOOK")
    if built:
        return Build(ROOT / built, 0, "")
    if not hasattr(request.config, "workerinput"):
        return build_book()
    # The processes of pytest-xdist share the folder above that of their own: the first
    # one that needs the book builds it, the others wait for it.
    record = tmp_path_factory.getbasetemp().parent / "book.json"
    with FileLock(record.with_suffix(".lock")):
        if not record.is_file():
            done = dataclasses.asdict(build_book())
            record.write_text(json.dumps(done, default=str), encoding="utf-8")
    done = json.loads(record.read_text(encoding="utf-8"))
    return Build(Path(done["html"]), done["returncode"], done["output"])


def build_book() -> Build:
    """Run Jupyter Book."""
    folder = ROOT / "_build" / "test"
    program = str(Path(sys.executable).with_name("jupyter-book"))
    command = [program, "build", ".", "--path-output", str(folder), "--all"]
    command += ["-W", "-n", "--keep-going"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    return Build(folder / "_build" / "html", done.returncode, output)
