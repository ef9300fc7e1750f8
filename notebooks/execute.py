"""Execute notebooks: ``python notebooks/execute.py notebooks/*.ipynb``.

In place, these are the outputs that are committed, and nbval compares a fresh execution
with them; with ``--to FOLDER`` the executed copies go there and say that they were made
on this machine. What would differ although the notebook has not changed is left out:
times and the version of Python. Pictures are stored with 256 colours, at a third of the
size that matplotlib gives them, so that a notebook stays below a megabyte.

Notebooks run side by side with one thread each, and no cell has a time limit. What was
executed is kept in ``_build/executed``: after a failure, a second call executes only
those whose code, library, results or packages have changed since.

With ``--times`` each is executed once more, alone, and how long it took is written into
``notebooks/times.json``, from which the cards of the chapters take it: the time of one
processor core, which does not depend on what else the machine does, or with a GPU the
time that has passed. The first execution has filled the run cache, so trainings that
the chapters share are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import functools
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

from own_sockets import with_own_sockets

ROOT = Path(__file__).parents[1]
EXECUTED = ROOT / "_build" / "executed"
TIMES = ROOT / "notebooks" / "times.json"

# Neither sliders nor bars are stored: their scripts would come from the network. One
# thread for each kernel, so that notebooks side by side do not slow each other down.
SETTINGS = {"REIDLIB_STATIC": "1", "TQDM_DISABLE": "1"}
SETTINGS |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

BANNER = """\
```{admonition} Executed on this machine
:class: warning

The outputs of this page, and their numbers in the text, were made by `make live` on the
machine that built it. A training differs a little from machine to machine.
```"""


@functools.cache
def surroundings() -> bytes:
    """Return a hash of all that outputs depend on besides a notebook's own code."""
    patterns = ("reidlib/**/*.py", "reidlib/**/*.toml", "notebooks/figures/*.py")
    patterns += ("results/**/*.json", "requirements.lock")
    digest = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(path.read_bytes())
    return digest.digest()


def key_of(notebook: NotebookNode) -> str:
    """Return a hash of all that a notebook's outputs depend on."""
    digest = hashlib.sha256(surroundings())
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(f"{cell.id}\n{cell.source}\n".encode())
    return digest.hexdigest()


def seconds_of(path: Path) -> float:
    """Return how long a notebook took when it was last executed here, if it was."""
    kept = EXECUTED / path.name
    if not kept.is_file():
        return float("inf")
    return nbformat.read(kept, as_version=4).metadata.reidlib.seconds


async def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run every cell in a fresh kernel, without a limit of time.

    Args:
        notebook: What to run; it gets the outputs, as they are stored.
        folder: Where its cells run.

    Raises:
        CellExecutionError: If a cell fails that is not tagged ``raises-exception``.
        DeadKernelError: If the kernel dies.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=None,
        startup_timeout=3600,
        kernel_name="python3",
        kernel_manager_class=with_own_sockets(AsyncKernelManager),
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    await client.async_execute(env={**os.environ, **SETTINGS})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = with_few_colours(output.data["image/png"])
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.validate(notebook)


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


def deliver(path: Path, executed: NotebookNode, folder: Path | None) -> None:
    """Write the outputs of an executed copy to where they were asked for.

    Args:
        path: The notebook; its text may have changed since the copy was made.
        executed: The copy, with the outputs of the same code.
        folder: Where a copy with a banner goes; None: into the notebook itself.
    """
    notebook = nbformat.read(path, as_version=4)
    made = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = made[cell.id].outputs
            cell.execution_count = made[cell.id].execution_count
    notebook.metadata = {**executed.metadata}
    del notebook.metadata["reidlib"]
    if folder is not None:
        banner = nbformat.v4.new_markdown_cell(BANNER, id="executed-here")
        notebook.cells.insert(1, banner)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / path.name
    nbformat.write(notebook, path)


async def execute_all(
    paths: Sequence[Path], processes: int, folder: Path | None
) -> dict[str, str]:
    """Execute notebooks side by side, those that take longest first.

    Args:
        paths: The notebooks.
        processes: How many run at once.
        folder: As for `deliver`.

    Returns:
        What failed: for the name of a notebook its cell and its error.
    """
    EXECUTED.mkdir(parents=True, exist_ok=True)
    # Later chapters train more, so they come first where nothing was measured yet.
    ordered = sorted(sorted(paths, reverse=True), key=seconds_of, reverse=True)
    free = asyncio.Semaphore(processes)
    failures: dict[str, str] = {}

    async def one(path: Path) -> None:
        notebook, kept = nbformat.read(path, as_version=4), EXECUTED / path.name
        key = key_of(notebook)
        if kept.is_file():
            executed = nbformat.read(kept, as_version=4)
            if executed.metadata.reidlib.key == key:
                print(f"{path.name}: as executed before", flush=True)
                deliver(path, executed, folder)
                return
        async with free:
            print(f"{path.name}: running", flush=True)
            start = time.monotonic()
            try:
                await execute(notebook, path.parent)
            except (CellExecutionError, DeadKernelError) as error:
                where = failing_cell(notebook)
                print(f"{path.name}: failed in {where}\n{error}", flush=True)
                failures[path.name] = f"{where}: {last_line(error)}"
                return
            seconds = time.monotonic() - start
        notebook.metadata.reidlib = {"key": key, "seconds": round(seconds, 1)}
        nbformat.write(notebook, kept)
        deliver(path, notebook, folder)
        print(f"{path.name}: done in {seconds:.0f} s", flush=True)

    await asyncio.gather(*(one(path) for path in ordered))
    return failures


async def measure(paths: Sequence[Path]) -> None:
    """Write how long notebooks take whose trainings are in the cache.

    Args:
        paths: The notebooks, which were executed before.
    """
    import torch  # takes seconds, which other uses need not wait

    from reidlib.engine.manifest import environment

    gpu = torch.cuda.is_available()
    kind = "gpu" if gpu else "cpu"
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        start, before = time.monotonic(), os.times()
        await execute(notebook, path.parent)
        after, passed = os.times(), time.monotonic() - start
        used = after.children_user + after.children_system
        used -= before.children_user + before.children_system
        known = json.loads(TIMES.read_text("utf-8")) if TIMES.is_file() else {}
        known[kind] = {
            "hardware": environment()["hardware"],
            "what": "seconds passed" if gpu else "seconds of one processor core",
            "seconds": known.get(kind, {}).get("seconds", {})
            | {path.stem: round(passed if gpu else used, 1)},
        }
        TIMES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        print(f"{path.name}: {passed:.0f} s, {used:.0f} s of a core", flush=True)


def failing_cell(notebook: NotebookNode) -> str:
    """Return the name of the last cell that was started."""
    started = [cell for cell in notebook.cells if cell.get("execution_count")]
    return f"cell {started[-1].id!r}" if started else "its kernel"


def last_line(error: Exception) -> str:
    """Return what an error says in the end."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]


def main() -> int:
    """Execute what the command line names; the exit status is 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], allow_abbrev=False
    )
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, help="folder of the executed copies")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--times", action="store_true", help="measure them as well")
    options = parser.parse_args()
    failures = asyncio.run(
        execute_all(options.notebooks, options.processes, options.to)
    )
    if options.times and not failures:
        asyncio.run(measure(options.notebooks))
    for name, told in sorted(failures.items()):
        print(f"{name} failed in {told}", file=sys.stderr)
    if failures:
        print("The others are kept: the same command goes on.", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
