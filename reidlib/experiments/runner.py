"""Making the runs of a table that are missing or stale, several at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
from tqdm.auto import tqdm

from reidlib.engine.cache import cached_run, run_folder
from reidlib.engine.manifest import changed_files, git_commit, read_manifest
from reidlib.engine.run import DivergedError, duration, ended_as_by_ctrl_c
from reidlib.errors import ReIDError
from reidlib.experiments.plans import plan, plans
from reidlib.experiments.results import NUM_SEEDS, Data, Job, results_dir
from reidlib.files import write_atomically
from reidlib.recipes import RECIPES
from reidlib.recipes.steps import CollapseError
from reidlib.terminal import say, watched

_MEMORY_PER_RUN = 4 << 30  # bytes that a run with the embedded backbone stays below


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        job: The run.
        status: ``"kept"`` (it was there), ``"made"``, ``"failed"`` (the method broke
            down, which is a result and has a file) or ``"missing"`` (it could not be
            made here, and has none).
        message: Why it failed or is missing.
    """

    job: Job
    status: Literal["kept", "made", "failed", "missing"]
    message: str = ""


def reproduce(
    table: str,
    *,
    preset: str = "ablation",
    seeds: Sequence[int] = range(NUM_SEEDS),
    data: Data | None = None,
    device: str = "auto",
    processes: int | None = None,
    progress: bool = True,
) -> list[Outcome]:
    """Make the runs of a table that are missing or stale, and write their result files.

    Runs that exist are kept, interrupted ones are resumed after their last complete
    epoch, and one that cannot be made does not stop the others.

    Args:
        table: Name of a plan.
        preset: Preset of every row.
        seeds: Seeds of every row. On SynthCity a seed draws the city as well, so that
            the spread is over worlds and over training.
        data: The data; the cities of the plan if not given.
        device: As for `reidlib.engine.Run`.
        processes: Number of runs at once; by default one for each GPU or, without one,
            for each core, as far as there is memory.
        progress: Show a bar with the time to expect.

    Returns:
        What became of each run, seeds first, so that a table that was stopped half-way
        has all of its rows.

    Raises:
        ReIDError: If there is no such plan or preset, the data cannot be read, a result
            would be published from changed code, or the process of a run was killed.
    """
    data = (data or Data.of(table)).read()
    rows = plan(table).rows
    jobs = [Job(table, row, preset, data, seed) for seed in seeds for row in rows]
    # Two rows with equal settings are one run.
    waiting = list({job.file: job for job in jobs if not _is_kept(job)}.values())
    if waiting:
        refuse_changed_code()
    devices = _devices(device, processes, len(waiting))
    for city, seed in dict.fromkeys(city for job in waiting for city in job.cities):
        city.open(seed)  # drawn here, by all cores, and not by each process
    show = progress and bool(waiting) and watched()
    outcomes: dict[Path, Outcome] = {}
    made = _make_all(waiting, devices, progress)
    # Closed here, so that Ctrl-C between two runs ends those of other processes too.
    with (
        contextlib.closing(made),
        tqdm(made, desc=table, total=len(waiting), unit="run", disable=not show) as bar,
    ):
        for outcome in bar:
            outcomes[outcome.job.file] = outcome
            bar.set_postfix_str(f"{outcome.job.row.name}, seed {outcome.job.seed}")
            if outcome.message:
                say(f"{outcome.status}: {outcome.message}")
    return [outcomes.get(job.file, Outcome(job, "kept")) for job in jobs]


def reproduce_all(
    *,
    preset: str = "ablation",
    seeds: Sequence[int] = range(NUM_SEEDS),
    data: Data | None = None,
    **options: Any,
) -> list[Outcome]:
    """Make what is missing of every table that a paper has figures for.

    Says first how many runs these are, and how long they take by those that are there.

    Args:
        preset: Preset of every row.
        seeds: Seeds of every row.
        data: The data; the cities of each plan if not given. Tables whose rows ask for
            cities of their own are left out on a folder.
        options: What else `reproduce` takes.

    Returns:
        What became of each run.

    Raises:
        ReIDError: As `reproduce` does.
    """
    data = data and data.read()
    tables = [
        name
        for name in possible_tables(preset, data)
        if any(row.paper for row in plan(name).rows)
    ]
    say(_estimate(tables, preset, seeds, data))
    return [
        outcome
        for table in tables
        for outcome in reproduce(
            table, preset=preset, seeds=seeds, data=data, **options
        )
    ]


def possible_tables(preset: str, data: Data | None) -> list[str]:
    """Return the tables that can be made with a preset on some data.

    Args:
        preset: All recipes of a table must have it.
        data: On a folder, no row may ask for cities of its own.
    """
    real = data is not None and data.root is not None
    return [
        name
        for name, one in plans().items()
        if all(preset in RECIPES[row.recipe].PRESETS for row in one.rows)
        and not (real and any(row.dials or row.labelled for row in one.rows))
    ]


def _estimate(
    tables: Sequence[str], preset: str, seeds: Sequence[int], data: Data | None
) -> str:
    """Say how many runs are missing, and how long they take one after the other."""
    waiting: dict[Path, str] = {}
    known: dict[str, list[float]] = {}
    for table in tables:
        of_table = data or Data.of(table)
        for seed in seeds:
            for row in plan(table).rows:
                job = Job(table, row, preset, of_table, seed)
                result = job.read()
                if result is None or job.stale(result):
                    waiting[job.file] = row.recipe
                elif seconds := result.get("seconds"):
                    known.setdefault(row.recipe, []).append(float(seconds))
    told = f"{len(tables)} tables, {len(waiting)} runs to make"
    if not waiting:
        return told
    if not known:
        return f"{told}; how long one takes is not known yet"
    every = [seconds for times in known.values() for seconds in times]
    total = sum(
        statistics.median(known.get(recipe, every)) for recipe in waiting.values()
    )
    return f"{told}, about {duration(total)} one after the other"


def _is_kept(job: Job) -> bool:
    result = job.read()
    if result is None or not job.is_current(result):
        return False
    if gone := job.gone(result):
        say(
            f"kept: {job.row.name}, seed {job.seed}, although the file of "
            f"{', '.join(gone)} that it was made from is gone"
        )
    return True


def refuse_changed_code() -> None:
    """Raise if results would be published from code that no commit holds."""
    changed = changed_files() if _is_published() else []
    if changed:
        raise ReIDError(
            f"{len(changed)} files of the library differ from the last commit "
            f"({changed[0]}), and a published result names the commit that made it; "
            "commit first, or set REIDLIB_RESULTS to a folder of your own for a trial"
        )


def make_result(job: Job, device: str = "auto", progress: bool = False) -> Outcome:
    """Make one run and write its result file.

    Args:
        job: The run.
        device: As for `reidlib.engine.Run`.
        progress: Show the bars of the run.
    """
    train = RECIPES[job.row.recipe].train
    dataset = job.open()
    status: Literal["made", "failed"] = "made"
    message = ""
    try:
        result, _ = cached_run(
            train, job.config, dataset, device=device, progress=progress
        )
    except (CollapseError, DivergedError) as error:
        # That a method breaks down with these settings is what the table must show.
        status, message = "failed", str(error)
        # What comes after names a folder of this machine.
        reason = message.partition(";")[0]
        result = {**_record(run_folder(train, job.config, dataset)), "error": reason}
    except (ReIDError, torch.OutOfMemoryError) as error:
        return Outcome(job, "missing", str(error).partition("\n")[0])
    content = {**result, **job.inputs()}
    if _is_published() and any(map(_is_dirty, _parts(content))):
        if changed_files():
            told = "the library was changed while the run was made; commit, and repeat"
            return Outcome(job, "missing", told)
        # From the run cache, which knows a run by the library's bytes: they are
        # committed now.
        for part in filter(_is_dirty, _parts(content)):
            part["commit"] = git_commit()
    job.file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(job.file, json.dumps(content, separators=(",", ":")).encode())
    return Outcome(job, status, message)


def _is_published() -> bool:
    """Return whether results go to the checkout that holds the library."""
    return results_dir().resolve() == Path(__file__).resolve().parents[2] / "results"


def _parts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what tells where each part of a resumed run was made."""
    return [result, *result.get("earlier", [])]


def _is_dirty(part: dict[str, Any]) -> bool:
    return str(part.get("commit")).endswith("-dirty")


def _record(folder: Path) -> dict[str, Any]:
    """Return manifest and epochs of a run that broke down."""
    lines = folder / "metrics.jsonl"
    text = lines.read_text(encoding="utf-8") if lines.is_file() else ""
    return {
        **read_manifest(folder / "manifest.json", "remove this folder"),
        "epochs": [json.loads(line) for line in text.splitlines()],
    }


def _devices(device: str, processes: int | None, runs: int) -> list[str]:
    """Return one device for each run that is made at the same time."""
    if processes is not None and processes < 1:
        raise ReIDError(f"processes is {processes}; give 1 or more")
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if processes is None and device.startswith("cuda:"):
        processes = 1
    elif processes is None:
        processes = gpus or min(_cores(), max(_memory() // _MEMORY_PER_RUN, 1))
    processes = max(1, min(processes, runs))
    if gpus > 1:
        return [f"cuda:{number % gpus}" for number in range(processes)]
    return [device] * processes


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 0


def _make_all(
    jobs: Sequence[Job], devices: Sequence[str], progress: bool
) -> Generator[Outcome, None, None]:
    """Yield the outcome of each job as it ends."""
    if len(devices) == 1:
        for job in jobs:
            yield make_result(job, devices[0], progress)
        return
    with tempfile.TemporaryDirectory() as locks, ended_as_by_ctrl_c():
        with parallel_config(
            "loky",
            inner_max_num_threads=max(_cores() // len(devices), 1),
            initializer=_begin,
            # joblib keeps a pool for the next call with equal arguments. `locks` is
            # another folder each time: an old pool has the old environment and folder.
            initargs=(os.getpid(), locks),
            idle_worker_timeout=10,
        ):
            pool = Parallel(len(devices), return_as="generator_unordered", batch_size=1)
        try:
            # However this is left, the runs that are being made are ended.
            yield from pool(delayed(_make)(job, devices, locks) for job in jobs)
        except BrokenProcessPool as error:
            raise ReIDError(
                "the process of a run was killed, most likely for want of memory; "
                "complete epochs are kept: start again with --processes 1"
            ) from error


def _begin(parent: int, _locks: str) -> None:
    """Set up a process of the pool, whose parent decides when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: it would go on for ever.

    What a run has kept is complete, so that it may be ended at any time.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(128 + signal.SIGTERM)


def _make(job: Job, devices: Sequence[str], locks: str) -> Outcome:
    """Make one run in a process of the pool, on a device that no other run has."""
    while True:
        for number, device in enumerate(devices):
            lock = FileLock(Path(locks) / str(number), timeout=0)
            with contextlib.suppress(Timeout), lock:
                return make_result(job, device)
