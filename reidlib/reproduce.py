"""A table of the book: its rows, their runs, and the result file of each run.

A plan (``plans.toml``) names the rows of a table. ``reproduce`` makes the runs that are
missing or stale, each with its seeds, and writes one result file a run;
`reidlib.report` reads these files and nothing else. A number in the book therefore
always has a file that says which code, data, settings and hardware it came from.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm.auto import tqdm

from reidlib.data.adaptation import with_source
from reidlib.data.readers import open_dataset
from reidlib.data.table import ReIDDataset
from reidlib.engine.cache import cached_run, config_hash, run_folder, run_key
from reidlib.engine.checkpoint import write_atomically
from reidlib.engine.manifest import code_hash
from reidlib.engine.run import DivergedError
from reidlib.errors import ReIDError
from reidlib.recipes import RECIPES
from reidlib.recipes.common import CollapseError
from reidlib.synthcity import Dials, ensure_synthcity, synthcity_path

NUM_SEEDS = 3
"""Seeds of each row, if nothing else is asked for: 0, 1 and 2."""

_MEMORY_PER_RUN = 4 << 30  # bytes that a run with the embedded backbone stays below


@dataclass(frozen=True)
class Row:
    """One row of a table: a recipe and what it changes in the preset.

    Attributes:
        name: What the row is called.
        recipe: One of `reidlib.recipes.RECIPES`.
        changes: Settings that differ from the preset's. ``seed`` is added to the seed
            of the run: the same city, another training.
        paper: A table of `reidlib.papers` and the keys of one of its rows: the figures
            to put beside this row's. Empty if no paper has them.
        dials: Dials of the city that differ from their defaults; such a row needs
            SynthCity.
        labelled: Another city, with identities, to adapt from: its dials, as above,
            and ``seed``, which is added to the seed of the run, so that neither people
            nor cameras are the same. Empty for none.
    """

    name: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    paper: tuple[str | float, ...] = ()
    dials: dict[str, float] = field(default_factory=dict)
    labelled: dict[str, float] = field(default_factory=dict)

    def config(self, preset: str, seed: int) -> Any:
        """Return the configuration of one run of this row.

        Raises:
            ReIDError: If the recipe has no such preset.
        """
        presets = RECIPES[self.recipe].PRESETS
        if preset not in presets:
            raise ReIDError(
                f"no preset {preset!r} of {self.recipe}; there is {', '.join(presets)}"
            )
        changes = {**self.changes, "seed": seed + self.changes.get("seed", 0)}
        return dataclasses.replace(presets[preset], **changes)


@dataclass(frozen=True)
class Plan:
    """A table or figure that is made from runs."""

    id: str
    title: str
    rows: tuple[Row, ...]


@functools.cache
def plans() -> dict[str, Plan]:
    """Return every table and figure that can be made, by its identifier.

    Example:
        >>> plans()["AFF-F4"].rows[0].changes
        {'eps': 0.3}
    """
    text = resources.files("reidlib").joinpath("plans.toml").read_text("utf-8")
    found = {}
    for name, raw in tomllib.loads(text).items():
        rows = tuple(
            Row(**{**row, "paper": tuple(row.get("paper", ()))}) for row in raw["rows"]
        )
        found[name] = Plan(name, raw["title"], rows)
    return found


def plan(table: str) -> Plan:
    """Return the plan of a table.

    Raises:
        ReIDError: If there is no such plan.
    """
    if table not in plans():
        raise ReIDError(f"no plan for {table!r}; there is {', '.join(sorted(plans()))}")
    return plans()[table]


@dataclass(frozen=True)
class Data:
    """The data of a table: SynthCity, one city for each seed, or a folder.

    Attributes:
        size: Size of SynthCity; not looked at if there is a ``root``.
        kind: Kind of the folder, as for `reidlib.data.open_dataset`.
        root: A folder with real data. All seeds then share it.
        dials: Dials of SynthCity.
    """

    size: str = "course"
    kind: str = "auto"
    root: Path | None = None
    dials: Dials = field(default_factory=Dials)

    @property
    def name(self) -> str:
        """What result files call the data."""
        if self.root is not None:
            return self.kind
        usual = dataclasses.asdict(Dials())
        turned = dataclasses.asdict(self.dials).items() - usual.items()
        return "-".join([self.size, *(f"{k}-{v:g}" for k, v in sorted(turned))])

    @property
    def label(self) -> str:
        """What tables call the data."""
        return f"SynthCity {self.size}" if self.root is None else self.kind

    def open(self, seed: int) -> ReIDDataset:
        """Return the data of a seed."""
        if self.root is None:
            folder = ensure_synthcity(self.size, seed, self.dials)
            return open_dataset("synthcity", folder)
        return open_dataset(self.kind, self.root)

    def version(self, seed: int) -> str | None:
        """Return a hash of what a city depends on; None for a folder.

        It is known without drawing the city.
        """
        if self.root is not None:
            return None
        return synthcity_path(self.size, seed, self.dials).name


def results_dir() -> Path:
    """Return where result files are kept.

    ``REIDLIB_RESULTS`` if that is set; else ``results`` of the checkout that holds the
    library, or, where it was installed without one, of the current folder.
    """
    if os.environ.get("REIDLIB_RESULTS"):
        return Path(os.environ["REIDLIB_RESULTS"])
    checkout = Path(__file__).resolve().parent.parent
    return (checkout if (checkout / "pyproject.toml").is_file() else Path()) / "results"


@dataclass(frozen=True)
class Job:
    """One run of a table."""

    table: str
    row: Row
    preset: str
    data: Data
    seed: int

    @property
    def cities(self) -> list[tuple[Data, int]]:
        """The data with the dials of the row, and that to adapt from, with seeds.

        Raises:
            ReIDError: If the row needs cities of its own, and the data is a folder.
        """
        row = self.row
        if (row.dials or row.labelled) and self.data.root is not None:
            raise ReIDError(
                f"row {row.name!r} of {self.table} asks for cities of its own "
                f"({', '.join([*row.dials, *row.labelled])}), and {self.data.kind} is "
                "none; leave --data and --root out"
            )
        found = [(self._city(row.dials), self.seed)]
        if row.labelled:
            dials = {k: v for k, v in row.labelled.items() if k != "seed"}
            found.append((self._city(dials), self.seed + int(row.labelled["seed"])))
        return found

    def _city(self, dials: dict[str, float]) -> Data:
        turned = dataclasses.replace(self.data.dials, **dials)
        return dataclasses.replace(self.data, dials=turned)

    def open(self) -> ReIDDataset:
        """Return the data of the run, drawing what is not there."""
        target, *labelled = (city.open(seed) for city, seed in self.cities)
        return with_source(target, labelled[0]) if labelled else target

    @property
    def file(self) -> Path:
        """Where the result is kept."""
        name = re.sub(r"[^A-Za-z0-9.]+", "-", self.row.name).strip("-")
        name = f"{name}-{self.preset}-{self.data.name}-s{self.seed}.json"
        return results_dir() / self.table / name

    def inputs(self) -> dict[str, str | None]:
        """Return hashes of all that the result depends on."""
        recipe = RECIPES[self.row.recipe]
        return {
            "settings": config_hash(self.row.config(self.preset, self.seed)),
            "code": code_hash(f"{recipe.__name__}.train"),
            "data": self._version(),
        }

    def _version(self) -> str | None:
        versions = [city.version(seed) for city, seed in self.cities]
        return None if None in versions else "+".join(filter(None, versions))

    def read(self) -> dict[str, Any] | None:
        """Return the result file, or None if there is none.

        Raises:
            ReIDError: If it cannot be read.
        """
        try:
            result = json.loads(self.file.read_text(encoding="utf-8"))
            if not {"metrics", "error"} & dict(result).keys():
                raise ValueError("neither metrics nor an error in it")
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError) as error:
            raise ReIDError(
                f"{self.file} is damaged ({error}); remove it and make it again with "
                f"`{self.command}`"
            ) from error
        return result

    def stale(self, result: dict[str, Any]) -> list[str]:
        """Name what a result was made with that is different now.

        Args:
            result: Content of the result file.

        Returns:
            Some of ``"settings"``, ``"code"`` and ``"data"``; empty if it is current.
        """
        then = result.get("inputs", {})
        return [
            name
            for name, now in self.inputs().items()
            # A folder's files are not read again only to print a table.
            if now is not None and then.get(name) != now
        ]

    def is_current(self, result: dict[str, Any]) -> bool:
        """Return whether a result need not be made again."""
        if self.stale(result):
            return False
        if self.data.root is None:
            return True
        config = self.row.config(self.preset, self.seed)
        dataset = self.open()
        train = RECIPES[self.row.recipe].train
        return result.get("key") == run_key(train, config, dataset)

    @property
    def command(self) -> str:
        """The command that makes the result, with those of the seeds before it."""
        words = [f"reidlib reproduce {self.table}"]
        if self.preset != "ablation":
            words.append(f"--preset {self.preset}")
        if self.data.root is not None:
            words.append(f"--data {self.data.kind} --root PATH")
        elif self.data.size != "course":
            words.append(f"--size {self.data.size}")
        if self.seed >= NUM_SEEDS:
            words.append(f"--seeds {self.seed + 1}")
        return " ".join(words)


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

    Runs that exist are kept, interrupted ones are gone on with after their last
    complete epoch, and one that cannot be made does not stop the others.

    Args:
        table: Name of a plan.
        preset: Preset of every row.
        seeds: Seeds of every row. On SynthCity a seed draws the city as well, so that
            the spread is over worlds and over training.
        data: The data; SynthCity ``course`` if not given.
        device: As for `reidlib.engine.Run`.
        processes: Number of runs at once; by default one for each GPU or, without one,
            for each core, as far as there is memory.
        progress: Show a bar with the time to expect.

    Returns:
        What became of each run, seeds first, so that a table that was stopped half-way
        has all of its rows.

    Raises:
        ReIDError: If there is no such plan or preset, the data cannot be read, or the
            process of a run was killed.
    """
    data = data or Data()
    rows = plan(table).rows
    jobs = [Job(table, row, preset, data, seed) for seed in seeds for row in rows]
    results = [job.read() for job in jobs]
    waiting = [
        number
        for number, (job, result) in enumerate(zip(jobs, results, strict=True))
        if result is None or not job.is_current(result)
    ]
    cities = dict.fromkeys(city for number in waiting for city in jobs[number].cities)
    for city, seed in cities:
        city.open(seed)  # drawn here, by all cores, and not by each process
    devices = _devices(device, processes, len(waiting))
    show = progress and bool(waiting)
    outcomes = {number: Outcome(job, "kept") for number, job in enumerate(jobs)}
    made = _make_all([jobs[number] for number in waiting], devices, progress)
    # Closed here, so that Ctrl-C between two runs ends those of other processes too.
    with (
        contextlib.closing(made),
        tqdm(made, desc=table, total=len(waiting), unit="run", disable=not show) as bar,
    ):
        for number, outcome in bar:
            outcomes[waiting[number]] = outcome
            bar.set_postfix_str(f"{outcome.job.row.name}, seed {outcome.job.seed}")
            if outcome.message:
                tqdm.write(f"{outcome.status}: {outcome.message}", file=sys.stderr)
    return [outcomes[number] for number in range(len(jobs))]


def make_result(job: Job, device: str = "auto", progress: bool = False) -> Outcome:
    """Make one run and write its result file.

    Args:
        job: The run.
        device: As for `reidlib.engine.Run`.
        progress: Show the bars of the run.
    """
    train = RECIPES[job.row.recipe].train
    config = job.row.config(job.preset, job.seed)
    dataset = job.open()
    status: Literal["made", "failed"] = "made"
    message = ""
    try:
        result, _ = cached_run(train, config, dataset, device=device, progress=progress)
    except (CollapseError, DivergedError) as error:
        # That a method breaks down with these settings is what the table must show.
        status, message = "failed", str(error)
        # What comes after names a folder of this machine.
        reason = message.partition(";")[0]
        result = {**_record(run_folder(train, config, dataset)), "error": reason}
    except (ReIDError, torch.OutOfMemoryError) as error:
        return Outcome(job, "missing", str(error).partition("\n")[0])
    about: dict[str, Any] = {
        "table": job.table,
        "row": job.row.name,
        "preset": job.preset,
    }
    about |= {"data": job.data.label, "key": run_key(train, config, dataset)}
    if job.data.root is None:
        (city, _), *labelled = job.cities
        about["dials"] = dataclasses.asdict(city.dials)
        for other, seed in labelled:
            about["labelled"] = {"seed": seed, "dials": dataclasses.asdict(other.dials)}
    content = {**about, "inputs": job.inputs(), **result}
    job.file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(job.file, json.dumps(content, indent=1).encode())
    return Outcome(job, status, message)


def _record(folder: Path) -> dict[str, Any]:
    """Return manifest and epochs of a run that broke down."""
    lines = folder / "metrics.jsonl"
    text = lines.read_text(encoding="utf-8") if lines.is_file() else ""
    return {
        **json.loads((folder / "manifest.json").read_text(encoding="utf-8")),
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
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield the number and the outcome of each job as it ends."""
    if len(devices) == 1:
        for number, job in enumerate(jobs):
            yield number, make_result(job, devices[0], progress)
        return
    # A new interpreter for each process: CUDA does not survive a fork.
    context = multiprocessing.get_context("spawn")
    free = context.Queue()
    for device in devices:
        free.put(device)
    threads = max(_cores() // len(devices), 1)
    pool = concurrent.futures.ProcessPoolExecutor(
        len(devices), context, initializer=_start, initargs=(free, threads)
    )
    others = set(multiprocessing.active_children())
    with _terminated_as_interrupted(), pool:
        futures = {pool.submit(_make, job): n for n, job in enumerate(jobs)}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()  # a run keeps its last epoch, as after Ctrl-C
            if isinstance(error, BrokenProcessPool):
                raise ReIDError(
                    "the process of a run was killed, most likely for want of memory; "
                    "complete epochs are kept: start again with --processes 1"
                ) from error
            raise


_device = "auto"


def _start(free: multiprocessing.Queue[str], threads: int) -> None:
    """Set up a process: its device, its share of the cores, no say in Ctrl-C."""
    global _device
    _device = free.get()
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Stop this process when its parent is gone, however that came about.

    It would wait for another run for ever. The first signal stops a run as Ctrl-C does,
    the next one ends the process.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def _make(job: Job) -> Outcome:
    try:
        return make_result(job, _device)
    except KeyboardInterrupt:
        # Raised, it would end this run alone: the process would go on with the next
        # one, which it has taken from the queue already.
        os._exit(128 + signal.SIGTERM)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that no run goes on without its parent."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
