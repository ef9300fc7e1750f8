"""The rendered book, built once for all the tests of this folder."""

from __future__ import annotations

import os
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

    nbval executes the same notebooks in the same run and compares them with these
    outputs, so executing them once more here would prove nothing new. ``REIDLIB_BOOK``
    names a book that is already built; it is then read as it is.
    """
    built = os.environ.get("REIDLIB_BOOK")
    if built:
        return Build(ROOT / built, 0, "")
    folder = ROOT / "_build" / "test"
    folder.mkdir(parents=True, exist_ok=True)
    settings = (ROOT / "_config.yml").read_text(encoding="utf-8")
    executing = "execute_notebooks: cache"
    assert executing in settings
    config = folder / "config.yml"
    config.write_text(
        settings.replace(executing, 'execute_notebooks: "off"'), encoding="utf-8"
    )
    program = str(Path(sys.executable).with_name("jupyter-book"))
    command = [program, "build", ".", "--all"]
    command += ["-W", "-n", "--keep-going"]
    command += ["--config", str(config), "--path-output", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
    )
    return Build(folder / "_build" / "html", done.returncode, done.stdout)
