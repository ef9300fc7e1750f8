"""What the two benchmarks of speed and memory share: a process, a peer, a sheet.

A method is a function of data that returns a dict of what it found. It runs in a
process of its own, on a given number of threads, after a warm-up on little data; the
sheet gets its processor and wall seconds, and the memory that it adds, at its peak, to
the data. A sheet is a file that is written after every method, so that a run which is
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import resource
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from reidlib.engine.manifest import environment

Row = dict[str, Any]
NOTE = (
    "seconds belong to the machine of this run; compare the ratios of rows within it. "
    "cpu and wall are seconds, mib the memory beside the data"
)


def peer(module: str) -> Any:
    """Return a module of fastreid 1.4.0, or None where it is not installed.

    ``fastreid.evaluation`` as a whole needs more packages than its ranking does, so its
    ``__init__`` is left out. The ranking is compiled where Cython is installed.
    """
    if importlib.util.find_spec("fastreid") is None:
        return None
    import fastreid

    package = types.ModuleType("fastreid.evaluation")
    package.__path__ = [str(Path(fastreid.__file__).parent / "evaluation")]
    sys.modules.setdefault("fastreid.evaluation", package)
    if importlib.util.find_spec("Cython") is not None:
        import numpy as np
        import pyximport

        include = {"include_dirs": np.get_include()}
        pyximport.install(language_level=3, setup_args=include)
    return importlib.import_module(f"fastreid.{module}")


def _memory(field: str) -> float:
    """Return what this process holds (VmRSS), or held at its peak (VmHWM), in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":") for line in status.read_text().splitlines())
        return int(lines[field].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def _run(
    method: Any, make: Any, shape: Any, warm: Any, threads: int, pipe: Any
) -> None:
    torch.set_num_threads(threads)
    method(make(*warm))
    data = make(*shape)
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")  # the peak so far is forgotten
    before = _memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    found = method(data)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    mib = max(0.0, _memory("VmHWM") - before)
    pipe.send({"cpu": cpu, "wall": wall, "mib": mib, **found})


def measured(
    method: Callable[[Any], Row],
    make: Callable[..., Any],
    shape: Sequence[Any],
    warm: Sequence[Any],
    threads: int,
) -> Row:
    """Run a method on the data of a shape, in a process of its own."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = method, make, shape, warm, threads, theirs
    process = context.Process(target=_run, args=arguments)
    process.start()
    theirs.close()
    try:
        return dict(ours.recv())
    except EOFError:
        raise SystemExit(f"{method.__name__} failed on {shape}") from None
    finally:
        process.join()


class Sheet:
    """Rows of a results file, each measured once."""

    def __init__(self, path: Path, experiment: str) -> None:
        self.path, self.rows = path, []
        self.head = {"experiment": experiment, "note": NOTE}
        if path.exists():
            self.rows = json.loads(path.read_text(encoding="utf-8"))["rows"]

    def row(self, key: Row, measure: Callable[[], Row]) -> Row:
        """Return the row of a key, measured now if the file has none."""
        for row in self.rows:
            if key.items() <= row.items():
                return row
        self.rows.append({**key, **measure()})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        report = {**self.head, "rows": self.rows, **environment()}
        text = json.dumps(report, indent=2) + "\n"
        self.path.write_text(text, encoding="utf-8")
        return self.rows[-1]

    def best(
        self, key: Row, threads: Sequence[int], measure: Callable[[int], Row]
    ) -> Row:
        """Return the least seconds and memory of a method over numbers of threads."""
        rows = [
            self.row({**key, "threads": number}, lambda number=number: measure(number))
            for number in threads
        ]
        least = {
            name: min(row[name] for row in rows) for name in ("cpu", "wall", "mib")
        }
        return {**rows[0], **least}


def options(description: str, output: str) -> argparse.ArgumentParser:
    """Return the options that both benchmarks have."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--full", action="store_true", help="the sizes of the book")
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=sorted({1, os.cpu_count() or 1}),
        help="each method is measured with each, and its best counts",
    )
    parser.add_argument("--output", type=Path, default=Path(output))
    return parser


def line(name: str, row: Row, base: Row | None, floor: Row | None) -> str:
    """Return a row as text: seconds, memory, and how they compare."""
    text = f"  {name:9s} {row['cpu']:8.2f} s cpu {row['wall']:8.2f} s"
    text += f" {row['mib']:7.0f} MiB"
    if base is not None and base is not row:
        cpu, wall = (base[c] / max(row[c], 1e-3) for c in ("cpu", "wall"))
        less = base["mib"] / max(row["mib"], 1)
        text += f"  {cpu:5.1f}x cpu, {wall:5.1f}x wall, 1/{less:.0f} memory"
        text += f" of {base['method']}"
    if floor is not None and floor is not row:
        text += f"  product {100 * floor['cpu'] / row['cpu']:.0f} %"
    return text
