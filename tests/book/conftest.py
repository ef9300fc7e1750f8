"""The rendered book, built once for all the tests of this folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Build:
    """Where the pages are, and how their building went."""

    html: Path
    returncode: int
    output: str


@pytest.fixture(scope="session")
def build() -> Build:
    """Build the book from the notebooks' stored outputs, warnings as errors.

    ``REIDLIB_BOOK`` names a book that is already built; it is then read as it is.
    """
    built = os.environ.get("REIDLIB_BOOK")
    if built:
        return Build(ROOT / built, 0, "")
    folder = ROOT / "_build" / "test"
    program = str(Path(sys.executable).with_name("jupyter-book"))
    command = [program, "build", ".", "--path-output", str(folder), "--all"]
    command += ["-W", "-n", "--keep-going"]
    settings = {"REIDLIB_NOTEBOOKS": "stored", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
    )
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    return Build(folder / "_build" / "html", done.returncode, output)
