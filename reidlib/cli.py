"""The command line: ``reidlib data | index | train | evaluate | embed | ...``."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

from reidlib import __version__
from reidlib.errors import ReIDError, ToldElsewhereError
from reidlib.files import write_atomically
from reidlib.paths import check_utf8, new_folder, user_path
from reidlib.terminal import quiet, speaks, started_together

if TYPE_CHECKING:
    from reidlib.data.table import ImageTable, ReIDDataset

# Slow imports (torch, timm) are inside the commands, so that --help answers at once.

_KINDS = ("synthcity", "market1501", "msmt17", "veri776", "market-style", "csv")
_SIZES = ("tiny", "course", "market")
# Repeated here, because importing the recipes takes seconds.
_RECIPES = (
    *("direct", "baseline", "calr_local", "calr", "aff_scl", "cals", "supervised"),
    "qafm",
)
_PRESETS = (
    "quick",
    "ablation",
    "course",
    "paper",
    "paper_baseline",
    "ibn",
    "veri",
    "code",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after ``reidlib``; by default those of the process.

    Returns:
        Exit status: 0, or 2 for invalid input (one line on standard error says why),
        or 130 after Ctrl-C, or 141 if the reader of a pipe has ended.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    width = os.environ.get("COLUMNS", "")
    if width.isdigit() and int(width) < 40:  # help in a column of 1 never ends
        os.environ["COLUMNS"] = "40"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may know ASCII alone
            stream.reconfigure(errors="backslashreplace")
    try:
        for word in words:
            check_utf8(word)
        _check_here()
        try:
            _run(words)
        finally:  # after --help, too, which leaves by SystemExit
            if sys.stdout is not None:  # as it is where the shell has closed it
                sys.stdout.flush()
    except BrokenPipeError:
        # `head` has read enough. What is left to flush at the exit would fail again.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ReIDError, OSError) as error:
        if isinstance(error, ToldElsewhereError):
            return 2
        return _refused(str(error), 2)
    except (RuntimeError, MemoryError) as error:
        from reidlib.engine.memory import is_out_of_memory
        from reidlib.engine.processes import is_lost_connection

        if is_lost_connection(error):
            return _refused("another process has ended", 2)
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        return _refused(f"out of memory ({reason}); try --device cpu", 2)
    except KeyboardInterrupt:
        return _refused("stopped", 130) if speaks() else 130  # of many, one says so
    return 0


def _check_here() -> None:
    """Raise if the current folder was removed: torch would end without a reason."""
    try:
        os.getcwd()
    except OSError as error:
        raise ReIDError(
            f"the current folder is gone ({error.strerror}); change to another"
        ) from error


def _run(words: list[str]) -> None:
    options, rest = _parser().parse_known_args(words)
    if rest and options.command not in (_train, _bench):
        raise ReIDError(f"unknown option {rest[0]!r}; see reidlib --help")
    options.given = {name for name, value in vars(options).items() if value is not None}
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, user_path(value))
    if started_together() and options.command is not _train:
        raise ReIDError(
            "train and resume work in several processes; start other commands without "
            "torchrun"
        )
    silent = getattr(options, "quiet", False) or not speaks()
    with quiet(silent), warnings.catch_warnings():
        warnings.showwarning = _warn  # type: ignore[assignment]
        # It stands beside the scores.
        warnings.filterwarnings("ignore", message=".* have no camera: matches of one")
        options.command(options, rest)


def _warn(message: Warning | str, *_: object) -> None:
    print(f"reidlib: warning: {message}", file=sys.stderr)


def _refused(why: str, status: int) -> int:
    if not speaks():
        from reidlib.engine import processes

        if processes.count() == 1:  # not joined yet: all have the same words
            return status
        why = f"process {processes.rank()}: {why}"
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"reidlib: {why}", file=sys.stderr, flush=True)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line like all others.

    Options are written in full: --seed is not --seeds, nor --k an option that begins
    with k.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise ReIDError(f"{message}; see {self.prog} --help")


def _whole(word: str) -> int:
    """Return a whole number, written as one: ``int`` would read 1_0 as 10."""
    from reidlib.checks import whole_number

    number = whole_number(word)
    if number is None:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number")
    return number


def _number(word: str) -> float:
    """Return a number; `argparse` needs an error of its own."""
    from reidlib.checks import decimal_number

    number = decimal_number(word)
    if number is None:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reidlib", description="Person re-identification from the command line."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="make or check a data set")
    data_commands = data.add_subparsers(required=True, metavar="COMMAND")
    make = data_commands.add_parser("make", help="draw a synthetic data set")
    make.add_argument("what", choices=["synthcity"])
    make.add_argument("path", type=Path, help="folder to write; it must not exist yet")
    make.add_argument("--size", choices=_SIZES, default="course")
    make.add_argument("--seed", type=_whole, default=0)
    make.add_argument(
        "--workers", type=_whole, help="processes (default: one per core)"
    )
    make.set_defaults(command=_data_make)
    check = data_commands.add_parser("check", help="report problems of a data set")
    check.add_argument("path", type=Path, help="folder, or CSV file")
    check.add_argument("--kind", choices=_KINDS, default=None, help="default: detected")
    check.add_argument("--sheet", type=Path, help="file for the contact sheet")
    check.set_defaults(command=_data_check)

    detect = commands.add_parser(
        "detect", help="cut the people out of videos and pictures"
    )
    detect.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="video, picture or folder of pictures; one camera each",
    )
    detect.add_argument(
        "--out", type=Path, required=True, help="folder of the crops and their index"
    )
    detect.add_argument(
        "--detector",
        default="nanodet",
        help="nanodet (default), or a file that ends in .onnx or .pt",
    )
    detect.add_argument(
        "--min-score",
        type=_number,
        help="lowest score of a person (default: that of the detector)",
    )
    detect.add_argument(
        "--longest",
        type=_whole,
        help="pixels of a frame's longer side; more finds smaller people",
    )
    detect.add_argument(
        "--every", type=_whole, default=10, help="search one frame in so many"
    )
    detect.add_argument(
        "--camera",
        type=_whole,
        nargs="+",
        default=[0],
        help="camera ids of the sources, or that of the first (default: 0)",
    )
    detect.add_argument("--json", type=Path, help="write what was done to this file")
    detect.set_defaults(command=_detect)

    index = commands.add_parser("index", help="write the index of images in folders")
    index.add_argument(
        "layout",
        choices=("flat", "folder-per-person"),
        help="flat: nothing is known of identities",
    )
    index.add_argument("path", type=Path, help="folder of the images or people")
    index.add_argument(
        "--camera",
        metavar="REGEX",
        help="finds the camera in a file name, for instance 'c([0-9]+)'",
    )
    index.set_defaults(command=_index)

    train = commands.add_parser(
        "train",
        help="train a method",
        add_help=False,
        description="Every setting of the recipe is an option too: reidlib train "
        "RECIPE --help lists them.",
    )
    train.add_argument("recipe", choices=_RECIPES, nargs="?")
    train.add_argument(
        "--preset",
        choices=_PRESETS,
        metavar="PRESET",
        help="group of settings (default: course)",
    )
    train.add_argument(
        "--out", type=Path, help="folder of the run (default: a new one in runs)"
    )
    train.add_argument(
        "--resume",
        action="store_true",
        help="resume the run in --out, with its settings and data",
    )
    train.add_argument(
        "--source-root", type=Path, help="folder of labelled data to adapt from"
    )
    train.add_argument("--source-data", choices=_KINDS, help="its kind")
    train.add_argument("-h", "--help", action="store_true", help="show this help")
    train.set_defaults(command=_train, parser=train)

    resume = commands.add_parser(
        "resume",
        help="continue a run that was stopped, with its settings and data",
    )
    resume.add_argument("out", type=Path, metavar="RUN", help="folder of the run")
    resume.set_defaults(
        command=_train,
        recipe=None,
        preset=None,
        help=False,
        resume=True,
        source_root=None,
        source_data=None,
        parser=resume,
    )

    evaluate = commands.add_parser("evaluate", help="score a trained model")
    evaluate.add_argument("run", type=Path, help="folder of a run, or its checkpoint")
    evaluate.add_argument(
        "--rerank", action="store_true", help="k-reciprocal re-ranking"
    )
    evaluate.add_argument(
        "--other-cameras",
        action="store_true",
        help="leave out all images of the query's own camera",
    )
    evaluate.add_argument("--figure", type=Path, help="draw retrievals to this file")
    evaluate.add_argument(
        "--json", type=Path, help="write the scores to this JSON file"
    )
    evaluate.set_defaults(command=_evaluate)

    embed = commands.add_parser("embed", help="write the features of images to a file")
    embed.add_argument("path", type=Path, help="image, folder of images, or data set")
    embed.add_argument(
        "--model", type=Path, required=True, metavar="RUN", help="folder of a run"
    )
    embed.add_argument(
        "--out", type=Path, required=True, help="file to write, .npz or .parquet"
    )
    embed.add_argument(
        "--data",
        choices=_KINDS,
        help="kind of the data set in PATH (default: csv where it holds an index.csv, "
        "else a folder of images)",
    )
    embed.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    embed.add_argument("--json", type=Path, help="write what was done to this file")
    embed.set_defaults(command=_embed)

    name = commands.add_parser(
        "name", help="write a page on which you say which crops show the same people"
    )
    name.add_argument(
        "features",
        type=Path,
        nargs="+",
        help="files of reidlib embed: the same crops, a file for each network",
    )
    name.add_argument("--out", type=Path, required=True, help="file to write, .html")
    name.add_argument(
        "--people", type=_whole, default=50, help="number of questions (default: 50)"
    )
    name.add_argument(
        "--candidates",
        type=_whole,
        default=30,
        help="crops shown with each, at most (default: 30)",
    )
    name.add_argument("--seed", type=_whole, default=0, help="of the choice of crops")
    name.set_defaults(command=_name)

    _add_gallery(commands)

    export = commands.add_parser(
        "export", help="write a trained network for other programs"
    )
    export.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    export.add_argument(
        "--out", type=Path, required=True, help="file to write, .onnx or .pt2"
    )
    export.set_defaults(command=_export)

    reproduce = commands.add_parser("reproduce", help="train the runs of a table")
    reproduce.add_argument("--seeds", type=_whole, default=3, help="number of seeds")
    reproduce.add_argument("--device", default="auto", help="auto, cpu or cuda")
    reproduce.add_argument(
        "--processes",
        type=_whole,
        help="runs at once (default: one per GPU or, without a GPU, one per core)",
    )
    reproduce.add_argument(
        "--verify",
        action="store_true",
        help="repeat the first epoch of one published run of each recipe and compare; "
        "TABLE is then the name of one recipe, or is omitted",
    )
    reproduce.add_argument(
        "--all", action="store_true", help="every table that a paper has figures for"
    )
    reproduce.set_defaults(command=_reproduce)
    report = commands.add_parser("report", help="print a table from its result files")
    report.add_argument("--html", type=Path, help="write it as HTML to this file")
    report.add_argument(
        "--scoreboard",
        action="store_true",
        help="every item of the papers: its claim, and whether it holds",
    )
    report.set_defaults(command=_report)
    exercise = commands.add_parser(
        "check", help="run the tests of an exercise on a function of yours"
    )
    exercise.add_argument(
        "name", nargs="?", metavar="EXERCISE", help="its name (default: list them)"
    )
    exercise.add_argument("file", nargs="?", type=Path, help="Python file with it")
    exercise.set_defaults(command=_check_exercise)
    bench = commands.add_parser("bench", help="measure the speed of this machine")
    bench_commands = bench.add_subparsers(required=True, metavar="COMMAND")
    speed = bench_commands.add_parser(
        "train",
        help="images per second of a training, and what it waits for",
        epilog="All settings of the recipe can be given, see reidlib train RECIPE "
        "--help.",
    )
    speed.add_argument("recipe", choices=_RECIPES, metavar="RECIPE")
    speed.add_argument("--preset", choices=_PRESETS, default="course")
    speed.add_argument("--steps", type=_whole, default=20, help="of each of 3 epochs")
    speed.add_argument("--data", choices=_KINDS, help="kind of data")
    speed.add_argument("--root", type=Path, help="its folder (default: SynthCity)")
    speed.add_argument("--size", choices=_SIZES, help="of SynthCity (default: tiny)")
    speed.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    speed.add_argument("--json", type=Path, help="write the figures to this file")
    speed.set_defaults(command=_bench, unreadable=None)

    again = commands.add_parser(
        "rerun", help="make a result again on this machine, and print the difference"
    )
    again.add_argument("file", type=Path, metavar="RESULT.json", help="a result file")
    again.add_argument("--out", type=Path, help="folder of the run (default: new)")
    again.add_argument("--root", type=Path, help="its data, if they were moved")
    again.add_argument("--data", choices=_KINDS, help="kind of --root (detected)")
    again.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    again.add_argument(
        "--csv", type=Path, help="write every figure, then and now, to this file"
    )
    again.set_defaults(command=_rerun)
    for command in (reproduce, report):
        command.add_argument(
            "table",
            help="identifier, for instance baseline or AFF-F4",
            nargs="?",
        )
        command.add_argument("--preset", choices=_PRESETS, default="ablation")
        command.add_argument(
            "--size", choices=_SIZES, help="of SynthCity, if not that of the table"
        )
        command.add_argument("--data", choices=_KINDS[1:], help="kind of real data")
        command.add_argument("--root", type=Path, help="its folder")

    for command in (train, resume, evaluate):
        default = "synthcity" if command is train else "those of the run"
        command.add_argument(
            "--data", choices=_KINDS, help=f"kind of data (default: {default})"
        )
        command.add_argument(
            "--root", type=Path, help="its folder; the kind is then detected"
        )
        command.add_argument("--size", choices=_SIZES, help="size of SynthCity")
        command.add_argument("--device", help="auto (default), cpu, cuda or cuda:1")
        command.add_argument(
            "--unreadable",
            choices=("refuse", "skip", "trust"),
            help="images that cannot be decoded: refuse to start and name them "
            "(default), skip them with a warning, or trust that there are none, which "
            "saves reading all images first",
        )
    embed.add_argument(
        "--unreadable",
        choices=("refuse", "skip", "trust"),
        help="images that cannot be decoded, as for train",
    )
    loud = (make, check, detect, index, train, resume, evaluate, embed, name, export)
    for command in (*loud, reproduce, report, speed, again):
        command.add_argument(
            "--quiet", action="store_true", help="neither progress bars nor log lines"
        )
    return parser


def _add_gallery(commands: Any) -> None:
    gallery = commands.add_parser(
        "gallery", help="keep people who were seen, search and forget them"
    )
    parts = gallery.add_subparsers(required=True, metavar="COMMAND")

    def part(name: str, does: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = parts.add_parser(name, help=does)
        parser.add_argument("gallery", type=Path, help="folder of the gallery")
        parser.add_argument("--quiet", action="store_true", help="no progress bars")
        parser.set_defaults(command=_gallery, part=name)
        return parser

    add = part("add", "add people; a gallery that is not there is made")
    add.add_argument("features", type=Path, help="a file of reidlib embed")
    add.add_argument(
        "--start",
        type=_moment,
        metavar="TIME",
        help="when the sources began: 2026-05-01T08:00+02:00 (default: unknown)",
    )
    add.add_argument(
        "--keep-days", type=_whole, help="of a new gallery: days until people expire"
    )
    add.add_argument(
        "--no-crops", action="store_true", help="keep features alone, and no images"
    )
    search = part("search", "find the people of images")
    search.add_argument("query", type=Path, help="a file of reidlib embed, or images")
    search.add_argument(
        "--model", type=Path, metavar="RUN", help="folder of the run, for images"
    )
    search.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    search.add_argument("--k", type=_whole, default=10, help="answers for each image")
    search.add_argument(
        "--camera", type=_whole, nargs="+", help="look at these cameras alone"
    )
    search.add_argument("--after", type=_moment, metavar="TIME", help="seen since")
    search.add_argument("--before", type=_moment, metavar="TIME", help="seen before")
    search.add_argument("--sheet", type=Path, help="draw the answers to this file")
    search.add_argument("--json", type=Path, help="write the answers to this file")
    calibrate = part("calibrate", "choose up to which distance people are the same")
    calibrate.add_argument(
        "features", type=Path, help="a file of reidlib embed, with identities"
    )
    calibrate.add_argument(
        "--rate", type=_number, default=0.01, help="false matches of different people"
    )
    forget = part("forget", "remove people, with their crops, from the disk")
    forget.add_argument("--person", help="everybody of this name")
    forget.add_argument("--camera", type=_whole, help="what a camera saw")
    forget.add_argument(
        "--day", type=_day, help="what was seen on a day (UTC): 2026-05-01"
    )
    forget.add_argument("--before", type=_moment, metavar="TIME", help="seen before")
    forget.add_argument(
        "--expired", action="store_true", help="what is older than the gallery keeps"
    )
    part("info", "what is in it").add_argument(
        "--json", type=Path, help="write it to this file"
    )


def _moment(word: str) -> Any:
    """Return a time with its zone."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{word!r} is no time with a zone, such as 2026-05-01T08:00+02:00"
        )
    return moment


def _day(word: str) -> Any:
    from datetime import date

    try:
        return date.fromisoformat(word)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{word!r} is no day, such as 2026-05-01"
        ) from None


def _check_device(device: str) -> None:
    """Raise if there is no such device: before a city is drawn or data are read."""
    from reidlib.engine.run import open_fabric

    open_fabric(device)


def _open(options: argparse.Namespace, default_size: str) -> ReIDDataset:
    from reidlib.data import open_dataset, with_source
    from reidlib.engine.run import ended_as_by_ctrl_c
    from reidlib.synthcity import ensure_synthcity

    kind = options.data or ("auto" if options.root else "synthcity")
    unreadable: Any = options.unreadable or "refuse"
    if options.root is not None and options.size is not None:
        raise ReIDError("--size draws SynthCity and --root reads a folder: omit one")
    if options.root is None and kind != "synthcity":
        raise ReIDError(f"--data {kind} needs --root, the folder that holds the data")
    if options.root is not None:
        dataset = open_dataset(kind, options.root, unreadable=unreadable)
    else:
        options.size = options.size or default_size
        with ended_as_by_ctrl_c():  # else the workers would be left behind
            city = ensure_synthcity(options.size)
        dataset = open_dataset("synthcity", city)
    if (root := getattr(options, "source_root", None)) is None:
        return dataset
    source = open_dataset(options.source_data or "auto", root, unreadable=unreadable)
    return with_source(dataset, source)


def _data_make(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.engine.run import ended_as_by_ctrl_c
    from reidlib.synthcity import make_synthcity

    with ended_as_by_ctrl_c():  # as above
        path = make_synthcity(
            options.path, size=options.size, seed=options.seed, workers=options.workers
        )
    print(f"SynthCity {options.size} (seed {options.seed}) is at {path}")


def _data_check(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.data import check_path

    report, sheet = check_path(options.path, kind=options.kind, sheet=options.sheet)
    print(report)
    if sheet is not None:
        print(f"contact sheet: {sheet}")
    faults = [report.no_sheet] if report.no_sheet else []
    if report.problems:
        faults.append(
            f"{options.path} has {len(report.problems)} problems (listed above); "
            "correct them before training"
        )
    if faults:
        raise ReIDError("; ".join(faults))


def _detect(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.data import open_dataset
    from reidlib.deploy import crop_people

    cameras = options.camera if len(options.camera) > 1 else options.camera[0]
    file = crop_people(
        options.sources,
        options.out,
        every=options.every,
        min_score=options.min_score,
        camid=cameras,
        detector=options.detector,
        longest=options.longest,
    )
    table = open_dataset("csv", file).train
    places = (table.attributes[name] for name in ("source", "frame"))
    shown = zip(table.camids.tolist(), *places, strict=True)
    told = {
        "index": str(file),
        "people": len(table),
        "frames": len(set(shown)),
        "cameras": table.num_cams,
        "cut_by_the_border": int(table.attributes["border"].sum()),
    }
    if options.json is not None:
        write_atomically(options.json, json.dumps(told, indent=1).encode())
    print(
        f"{file}: {told['people']} crops of people in {told['frames']} frames of "
        f"{told['cameras']} cameras; the border cuts {told['cut_by_the_border']}"
    )


def _index(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.data import open_dataset
    from reidlib.deploy import write_index

    file = write_index(options.path, options.layout, camera=options.camera)
    table = open_dataset("csv", file).train
    people = f"{table.num_pids} people" if table.num_pids else "unknown people"
    cameras = f"{table.num_cams} cameras" if table.num_cams else "unknown cameras"
    print(f"{file}: {len(table)} images of {people} in {cameras}")


def _embed(options: argparse.Namespace, rest: list[str]) -> None:
    import reidlib
    from reidlib.deploy import save_embeddings
    from reidlib.deploy.embeddings import check_target

    _check_device(options.device)
    table = _images_at(options.path, options.data, options.unreadable or "refuse")
    check_target(options.out, table)
    reid = reidlib.load(options.model, device=options.device)
    features = reid.extract(table)
    made = options.out, features, table, reid.fingerprint, str(options.model)
    file = save_embeddings(*made)
    told = {
        "file": str(file),
        "images": len(table),
        "dimensions": features.shape[1],
        "model": str(options.model),
        "fingerprint": reid.fingerprint,
    }
    if options.json is not None:
        write_atomically(options.json, json.dumps(told, indent=1).encode())
    print(f"{file}: {len(table)} images, {features.shape[1]} numbers each")


def _name(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.deploy import load_embeddings, naming_page

    found = [load_embeddings(file) for file in options.features]
    file = naming_page(
        found,
        options.out,
        people=options.people,
        candidates=options.candidates,
        seed=options.seed,
    )
    named = found[0].table.root / "named.csv"
    print(f"{file}: open it in a browser, and save what it makes as {named}")
    print("then score each network:")
    print(f"  reidlib evaluate RUN --data csv --root {named} --other-cameras")


def _gallery(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.deploy import Gallery, load_embeddings
    from reidlib.evaluation import camera_thresholds, pair_distances, trade_off

    if options.part == "add":
        people = load_embeddings(options.features)
        if (options.gallery / "gallery.json").exists():
            if options.keep_days is not None:
                raise ReIDError("--keep-days is of a new gallery; this one is there")
            gallery = Gallery(options.gallery)
        else:
            days = options.keep_days
            gallery = Gallery.create(options.gallery, people, keep_days=days)
        new = gallery.add(people, start=options.start, crops=not options.no_crops)
        print(f"{options.gallery}: {new} people added, {len(gallery)} in all")
        return
    gallery = Gallery(options.gallery)
    if options.part == "search":
        _search(gallery, options)
    elif options.part == "calibrate":
        known = load_embeddings(options.features)
        if known.fingerprint != gallery.about["fingerprint"]:
            raise ReIDError(
                f"{options.features} is of another network than {options.gallery}"
            )
        pairs = pair_distances(known.features, known.features, known.table, known.table)
        if known.table.num_cams:
            chosen = camera_thresholds(pairs, options.rate)
            own = int(chosen.calibrated.sum())
            told = f"{own} of {chosen.calibrated.size} pairs of cameras have their own"
            gallery.calibrate(chosen)
            least = chosen.default
        else:
            negative = pairs[~pairs.positive].distance
            least = trade_off([float("inf")], negative).threshold_at(options.rate)
            told = "cameras are unknown, so it is the same for all"
            gallery.calibrate(least)
        print(f"{options.gallery}: the same person up to a distance of {least:.3f}")
        print(told)
    elif options.part == "forget":
        named = (options.person, options.camera, options.day, options.before)
        if options.expired and any(one is not None for one in named):
            raise ReIDError("--expired goes by age alone; leave the others out")
        if options.expired:
            gone = gallery.expire()
        else:
            gone = gallery.forget(
                person=options.person,
                camera=options.camera,
                day=options.day,
                before=options.before,
            )
        print(f"{options.gallery}: {gone} people forgotten, {len(gallery)} are left")
    else:
        about = gallery.info()
        print("\n".join(f"{name}: {value}" for name, value in about.items()))
        if options.json is not None:
            write_atomically(options.json, json.dumps(about, indent=1).encode())


def _search(gallery: Any, options: argparse.Namespace) -> None:
    import reidlib
    from reidlib.deploy import load_embeddings

    of_features = options.query.suffix in (".npz", ".parquet")
    if of_features and options.model is not None:
        raise ReIDError("--model is for images; features have their own")
    if of_features:
        found = load_embeddings(options.query)
        table, features = found.table, found.features
        fingerprint = found.fingerprint
    elif options.model is None:
        raise ReIDError("--model is needed to search for images: the folder of the run")
    else:
        reid = reidlib.load(options.model, device=options.device)
        table = _images_at(options.query, None, "refuse")
        features, fingerprint = reid.extract(table), reid.fingerprint
    answers = gallery.search(
        features,
        options.k,
        fingerprint=fingerprint,
        query_cameras=table.camids.tolist(),
        cameras=options.camera,
        after=options.after,
        before=options.before,
    )
    shown = answers.drop(columns=["id", "crop"])
    print(shown.to_string(index=False, float_format="%.3f"))
    if options.json is not None:
        text = answers.to_json(orient="records", date_format="iso", indent=1)
        write_atomically(options.json, text.encode())
    if options.sheet is not None:
        from reidlib.deploy.gallery import answer_sheet

        file = answer_sheet(table, answers, options.sheet)
        print(f"answers: {file}")


def _export(options: argparse.Namespace, rest: list[str]) -> None:
    import reidlib
    from reidlib.deploy import export_network

    model = reidlib.load(options.run, device="cpu")
    about = {"fingerprint": model.fingerprint, "run": options.run.name}
    apart = export_network(model.network, model.size, options.out, **about)
    height, width = model.size
    if model.config.precision != "32-true":
        print(
            f"it computes in float32, and the run in {model.config.precision}: its "
            "features differ by more than those of the same precision"
        )
    print(f"{options.out}: crops of {height} x {width}, uint8 RGB (B, 3, H, W)")
    print(f"features differ from this network's by {apart:.1e} at most")


def _images_at(path: Path, kind: str | None, unreadable: Any) -> ImageTable:
    """Return all images of a data set, with their split, or those of a folder."""
    from reidlib.data import ReIDDataset, image_files, open_dataset
    from reidlib.data.readers import without_unreadable
    from reidlib.data.table import unlabelled

    if not path.exists():
        raise ReIDError(f"there is no {path}; correct the path")
    if kind is None and (path.suffix == ".csv" or (path / "index.csv").exists()):
        kind = "csv"
    if kind is not None:
        data = open_dataset(kind, path, unreadable=unreadable, keep_junk=True)
        if data.num_junk:
            warnings.warn(
                f"{data.num_junk} junk images (person -1) are left out", stacklevel=2
            )
        return data.images()
    table = unlabelled(image_files(path) if path.is_dir() else [path])
    data = ReIDDataset(path.name, table, table[:0], table[:0])
    if unreadable != "trust":
        data = without_unreadable(data, refuse=unreadable == "refuse")
    return data.train


def _train(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.data import ReIDDataset
    from reidlib.engine.processes import check_batches, join, leads, once
    from reidlib.engine.run import Run, result_in
    from reidlib.recipes import RECIPES
    from reidlib.recipes.settings import restore
    from reidlib.recipes.steps import check_network, check_requirements

    before = _recall_run(options) if options.resume else None
    if options.recipe is None:
        if not options.help:
            raise ReIDError(f"no recipe is given; name one of {', '.join(_RECIPES)}")
        print(options.parser.format_help())
        print(f"RECIPE is one of {', '.join(_RECIPES)}")
        return
    recipe = RECIPES[options.recipe]
    if options.help:
        rest = [*rest, "--help"]
    preset = options.preset or "course"
    if preset not in recipe.PRESETS:
        raise ReIDError(
            f"{options.recipe} has no preset {preset!r}; choose from "
            f"{', '.join(recipe.PRESETS)}"
        )
    default = recipe.PRESETS[preset]
    if before is not None:
        try:
            default = restore(recipe.Config, before["config"])
        except (TypeError, ValueError) as error:
            raise ReIDError(
                f"{options.out / 'manifest.json'} is damaged ({error}); restore it, or "
                "start the run again in another folder"
            ) from error
    if options.help:
        # The options of argparse; tyro then prints those of the recipe and exits.
        print(f"{options.parser.format_help()}\n{_presets(recipe)}\n")
    config = _configure(default, rest, f"reidlib train {options.recipe}", preset)
    if options.source_root is not None and options.recipe != "aff_scl":
        raise ReIDError(f"{options.recipe} does not adapt from a source; aff_scl does")
    if options.source_root is None and options.source_data is not None:
        raise ReIDError("--source-data needs --source-root, the folder of the source")
    if options.source_root is not None and config.adaptation == "none":
        raise ReIDError(
            "--source-root is given and adaptation is 'none', so the source would not "
            "be used; add --adaptation joint, pretrain or source"
        )
    elsewhere = options.given & {*_DATA, "source_root", "source_data", "device"}
    complete = before and config == default and not elsewhere
    if before and complete and (result := result_in(options.out, before)):
        # Nothing is left to do, and nothing to open.
        if speaks():
            print(f"run: {options.out} (complete)")
            _print_result(options.out, result)
        return
    # What is wrong is said now, and not after the data are drawn or read.
    named = options.data or options.root or options.size
    if before and not named:
        _require_place(options.out, before)
    join()
    check_batches(config)
    _check_device(options.device or "auto")
    check_requirements(config)
    check_network(recipe.network(config), config)
    dataset = _open(options, "tiny" if preset == "quick" else "course")
    out = options.out
    if out is None:
        data = options.root.stem if options.root else f"synthcity-{options.size}"
        name = f"{options.recipe}-{preset}-{_slug(data)}-s{config.seed}"
        out = once(new_folder, Path("runs"), name)
    if leads():
        print(f"run: {out}", flush=True)
    run = Run(
        out,
        recipe=options.recipe,
        version=recipe.VERSION,
        config=config,
        dataset=dataset,
        resume=options.resume,
        device=options.device or "auto",
    )
    chosen = {name: getattr(options, name) for name in _RECALLED} | {"preset": preset}
    run.manifest["options"] = {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in chosen.items()
    }
    if source := getattr(dataset, "source", None):
        told = {"name": source.name, "sha256": source.fingerprint()}
        run.manifest["source"] = told
        # Of the target alone, on which the run is scored without its source.
        run.manifest["target"] = {"sha256": ReIDDataset.fingerprint(dataset)}
    with run:
        result = run.result() or recipe.train(config, dataset, run)
    if leads():
        _print_result(out, result)


def _print_result(folder: Path, result: dict[str, Any]) -> None:
    print(_table(result["metrics"]))
    print(f"result: {folder / 'result.json'}")


def _slug(name: str) -> str:
    """Return the letters and digits of a name, for the name of a folder."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:40] or "data"


_DATA = ("data", "root", "size", "unreadable")
_RECALLED = ("preset", "device", *_DATA, "source_root", "source_data")


def _recall_run(options: argparse.Namespace) -> dict[str, Any] | None:
    """Take what is not given from the run that is to be resumed.

    Returns:
        The manifest of the run, or None if there is no run in the folder yet.
    """
    if options.out is None:
        raise ReIDError("--resume needs --out, the folder of the run to resume")
    given_out = options.out
    if options.out.is_file():  # the checkpoint, as for `evaluate`
        options.out = options.out.parent
    if not (options.out / "manifest.json").is_file():
        if options.recipe is None:
            raise ReIDError(f"there is no run in {given_out}; give the folder of one")
        return None
    before = _manifest_of(options.out)
    given = {"recipe": options.recipe, "preset": options.preset}
    known = {"recipe": before.get("recipe"), **before.get("options", {})}
    for name, value in given.items():
        if value is not None and value != known.get(name, value):
            raise ReIDError(
                f"{options.out} holds a run with another {name} ({known[name]} there, "
                f"{value} now); resume it unchanged, or choose another folder (--out)"
            )
    if known["recipe"] not in _RECIPES:
        raise ReIDError(
            f"{options.out} holds a run of {known['recipe']!r}, which is no recipe of "
            "this version; resume it with the version that started it"
        )
    options.recipe = known["recipe"]
    _recall(options, before, _RECALLED)
    return before


def _manifest_of(folder: Path) -> dict[str, Any]:
    """Return the manifest of the run in a folder."""
    from reidlib.engine.manifest import read_manifest

    way_out = "restore it, or choose another folder"
    return read_manifest(folder / "manifest.json", way_out)


def _require_place(run: Path, manifest: dict[str, Any]) -> None:
    """Raise if a run does not say where its data are, as one made in Python."""
    if not manifest.get("options"):
        raise ReIDError(
            f"{run} does not say where its data are; name them with --root (or --size, "
            "if they are SynthCity)"
        )


def _recall(
    options: argparse.Namespace, manifest: dict[str, Any], names: Sequence[str]
) -> None:
    """Set the options that are not given to those that a run was started with."""
    chosen = options.data or options.root or options.size
    for name in names:
        value = manifest.get("options", {}).get(name)
        given = getattr(options, name, None) is not None
        if given or value is None or (chosen and name in ("data", "root", "size")):
            continue
        setattr(options, name, Path(value) if name.endswith("root") else value)


def _presets(recipe: ModuleType) -> str:
    """Describe the presets of a recipe, a line each."""
    from reidlib.recipes.settings import PRESET_NOTES

    lines = ["presets:"]
    for name, config in recipe.PRESETS.items():
        note = {**PRESET_NOTES, **getattr(recipe, "PRESET_NOTES", {})}[name]
        size = f"{config.backbone}, {config.height} x {config.width}"
        if hasattr(config, "iterations"):
            size += f", {config.epochs} epochs of {config.iterations} steps"
        lines.append(f"  {name:10} {note} ({size})")
    return "\n".join(lines)


def _configure(default: Any, words: list[str], program: str, preset: str) -> Any:
    """Return the configuration with the fields that ``words`` set."""
    import tyro

    _check_written_numbers(type(default), words)
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(
                type(default),
                args=words,
                default=default,
                prog=program,
                description=f"Settings of the recipe (preset {preset}):",
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as leaving:
        # tyro prints the ValueError of a configuration in a box, not as one line.
        error: BaseException | None = leaving
        while error is not None and not isinstance(error, ReIDError):
            error = error.__context__
        if error is None and leaving.code:
            error = ReIDError(f"{_boxed(told.getvalue())}; see {program} --help")
        if error is not None:
            raise error from None
        raise


def _check_written_numbers(kind: type, words: list[str]) -> None:
    """Raise where a number is not written in ASCII digits: Python reads 1_0 as 10."""
    name = ""
    for part in itertools.chain.from_iterable(word.split("=", 1) for word in words):
        held: Any = kind  # by a name such as local.num_clusters: a recipe in another
        for field in name.replace("-", "_").split("."):
            held = get_type_hints(held).get(field) if isinstance(held, type) else None
        if held in (int, float) and ("_" in part or not part.isascii()):
            raise ReIDError(
                f"--{name} is {part!r}; write a number without underscores, in the "
                "digits 0 to 9"
            )
        name = part.removeprefix("--") if part.startswith("--") else ""


def _boxed(text: str) -> str:
    """Return the message in tyro's box, which has a title before and hints after it."""
    lines = [line.strip("│╭╮╰╯─ ") for line in text.splitlines()]
    lines = ["" if set(line) <= {"-"} else line for line in lines]
    message = itertools.dropwhile(lambda line: not line, lines[1:])
    return " ".join(itertools.takewhile(bool, message)).rstrip(".")


def _evaluate(options: argparse.Namespace, rest: list[str]) -> None:
    import torch

    from reidlib.engine.run import open_fabric
    from reidlib.evaluation import evaluate
    from reidlib.recipes.steps import check_test_split, extract_test, load_model

    device = open_fabric(options.device or "auto").device
    model, config = load_model(options.run)
    dataset = _open_for(options)
    if not len(dataset.query) or not len(dataset.gallery):
        raise ReIDError(f"{dataset.root} has no query or no gallery images to score")
    unscored = ""
    try:
        check_test_split(dataset)
    except ReIDError as error:
        if options.figure is None:
            raise
        unscored = str(error)  # a search for a person needs no identity
    print(
        f"{dataset.name} at {dataset.root}: {len(dataset.query)} queries, "
        f"{len(dataset.gallery)} gallery images, in {config.precision}"
    )
    model = model.to(device)
    query, gallery = extract_test(model, dataset, config, device)
    rerank = {"k1": 20, "k2": 6, "lambda_value": 0.3} if options.rerank else None
    if not unscored:
        with torch.inference_mode():
            scores = evaluate(
                query,
                gallery,
                dataset.query,
                dataset.gallery,
                rerank=rerank,
                other_cameras=options.other_cameras,
            ).as_dict()
        print(_table(scores))
        if options.json is not None:
            how = {"rerank": rerank, "other_cameras": options.other_cameras}
            data = json.dumps({"dataset": dataset.name, **scores, **how}, indent=1)
            write_atomically(options.json, data.encode())
    if options.figure is not None:
        os.environ["MPLBACKEND"] = "agg"  # a file is drawn, whatever else is set
        import matplotlib.pyplot as plt

        from reidlib.plotting import plot_retrievals, use_style

        use_style()
        plot_retrievals(query, gallery, dataset, other_cameras=options.other_cameras)
        try:
            plt.savefig(options.figure, dpi=150)
        except (OSError, ValueError) as error:
            raise ReIDError(
                f"cannot write {options.figure}: {str(error).splitlines()[0]}; choose "
                "another place or another file type (.png, .svg, .pdf)"
            ) from error
        print(f"retrievals: {options.figure}")
    if unscored and options.json is not None:
        raise ReIDError(unscored)
    if unscored:
        print(f"no scores: {unscored}")


def _open_for(options: argparse.Namespace) -> ReIDDataset:
    """Open the data that are named or, if none are, those that the run was trained on.

    Raises:
        ReIDError: If none are named, and the data of the run are not where they were.
    """
    folder = options.run if options.run.is_dir() else options.run.parent
    chosen = options.data or options.root or options.size
    if chosen or not (folder / "manifest.json").is_file():
        return _open(options, "course")
    before = _manifest_of(folder)
    _require_place(options.run, before)
    _recall(options, before, _DATA)
    dataset = _open(options, "course")
    trained = before["dataset"]
    known = before.get("target", trained).get("sha256")
    if known != dataset.fingerprint():
        raise ReIDError(
            f"{options.run} was trained on {trained['name']} with "
            f"{trained['images']['train']} training images, which are not those of "
            f"{dataset.root} now; name the data to score it on with --size or --root"
        )
    return dataset


def _reproduce(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.experiments import report, reproduce, reproduce_all, scoreboard

    if (options.data is None) != (options.root is None):
        raise ReIDError("--data and --root belong together: give both or neither")
    _check_device(options.device)
    if options.verify:
        return _verify(options)
    if options.table is None and not options.all:
        raise ReIDError("no table is given; name a table, or give --all or --verify")
    if options.table is not None and options.all:
        raise ReIDError("--all is every table; name none, or leave --all out")
    if not 1 <= options.seeds <= 1000:
        raise ReIDError(
            f"--seeds is {options.seeds}; a table needs one seed or more, at most 1000"
        )
    data = _data_of(options)
    how: dict[str, Any] = {
        "preset": options.preset,
        "seeds": range(options.seeds),
        "data": data,
        "device": options.device,
        "processes": options.processes,
    }
    if options.all:
        outcomes = reproduce_all(**how)
        print(scoreboard(preset=options.preset, data=data))
    else:
        outcomes = reproduce(options.table, **how)
        print(report(options.table, preset=options.preset, data=data))
    missing = [outcome for outcome in outcomes if outcome.status == "missing"]
    if missing:
        raise ReIDError(
            f"{len(missing)} of {len(outcomes)} runs have no result "
            f"({missing[0].job.row.name}: {missing[0].message})"
        )


def _data_of(options: argparse.Namespace) -> Any:
    """Return the data that are asked for; None: those of the table."""
    from reidlib.experiments import Data

    if options.size and (options.data or options.root):
        raise ReIDError("--size draws SynthCity and --root reads a folder: omit one")
    if options.root is not None:
        return Data(kind=options.data or "auto", root=options.root)
    if options.data is not None:  # a report needs no images, if it is clear of which
        return Data.reported(options.data)
    return Data(options.size) if options.size else None


def _verify(options: argparse.Namespace) -> None:
    from reidlib.experiments import verify
    from reidlib.recipes import RECIPES

    if options.table is not None and options.table not in RECIPES:
        raise ReIDError(
            f"no recipe {options.table!r}; choose from {', '.join(RECIPES)}"
        )
    recipes = tuple(RECIPES) if options.table is None else (options.table,)
    data = _data_of(options)
    found = verify(recipes, data=data, preset=options.preset, device=options.device)
    for one in found:
        name, value = one.largest
        said = "as published" if one.passed else "DIFFERS"
        print(f"{one.job.row.recipe}: {said}; largest difference {value:.2g} ({name})")
    if failed := [one.job.row.recipe for one in found if not one.passed]:
        raise ReIDError(
            "the code no longer reproduces the published numbers of "
            f"{', '.join(failed)}: correct it, or raise VERSION and reproduce the "
            "results"
        )


def _check_exercise(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.exercises import EXERCISES, check_file

    if options.name is None:
        for name, exercise in EXERCISES.items():
            print(f"{name} ({exercise.grade}; {exercise.chapter})")
            print(f"    write {exercise.signature}, {exercise.asks}")
        return
    if options.file is None:
        raise ReIDError(f"no file is given; reidlib check {options.name} FILE.py")
    answer = check_file(options.name, options.file)
    print(answer)
    if answer.failed:
        raise ReIDError(f"{len(answer.failed)} of {answer.total} tests fail")


def _bench(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.bench import bench_train, check_bench
    from reidlib.engine.manifest import environment
    from reidlib.recipes import RECIPES
    from reidlib.recipes.steps import check_network, check_requirements

    presets = RECIPES[options.recipe].PRESETS
    if options.preset not in presets:
        raise ReIDError(
            f"{options.recipe} has no preset {options.preset!r}; choose from "
            f"{', '.join(presets)}"
        )
    program = f"reidlib bench train {options.recipe}"
    config = _configure(presets[options.preset], rest, program, options.preset)
    check_bench(options.recipe, config, options.steps)
    _check_device(options.device)
    check_requirements(config)
    check_network(RECIPES[options.recipe].network(config), config)
    dataset = _open(options, "tiny")
    found = bench_train(
        *(options.recipe, config, dataset),
        num_steps=options.steps,
        device=options.device,
    )
    print(found)
    if options.json is not None:
        text = json.dumps({**found.as_dict(), **environment()}, indent=1)
        write_atomically(options.json, text.encode())


def _rerun(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.experiments.rerun import (
        cities_of,
        require_same_data,
        rerun,
        result_to_repeat,
    )

    then = result_to_repeat(options.file)
    _check_device(options.device)
    dataset = None
    if options.data is not None and options.root is None:
        raise ReIDError("--data needs --root, the folder that holds the data")
    if options.root is not None or then.get("options"):  # of the command line
        for name in (*_DATA, "source_root", "source_data"):
            setattr(options, name, getattr(options, name, None))
        _recall(options, then, (*_DATA, "source_root", "source_data"))
        dataset = _open(options, "course")
    if dataset is None:
        dataset = cities_of(then, options.file)
    require_same_data(then, dataset, options.file)
    out = options.out or new_folder(Path("runs"), f"rerun-{_slug(options.file.stem)}")
    print(f"run: {out}", flush=True)
    found = rerun(options.file, out, dataset=dataset, device=options.device)
    print(found)
    if options.csv is not None:
        text = found.differences().to_csv(index=False)
        write_atomically(options.csv, text.encode())


def _report(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.experiments import report, scoreboard

    if (options.table is None) != options.scoreboard:
        raise ReIDError("name a table, or give --scoreboard for all of them")
    data = _data_of(options)
    if options.scoreboard:
        board = scoreboard(preset=options.preset, data=data)
        print(board)
        if options.html is not None:
            write_atomically(options.html, board.html().encode())
        return
    table = report(options.table, preset=options.preset, data=data)
    print(table)
    if options.html is not None:
        # Browsers guess the encoding of a file that does not declare one.
        head = (
            f'<!doctype html>\n<meta charset="utf-8">\n<title>{options.table}</title>'
        )
        write_atomically(options.html, f"{head}\n{table.html()}\n".encode())


def _table(metrics: dict[str, Any]) -> str:
    """Format retrieval scores in percent, one line each."""
    from reidlib.evaluation.ranking import camera_remark

    if "mAP" not in metrics:
        return "no query or no gallery images in this data set: nothing to score"
    cmc = {f"Rank-{rank}": value for rank, value in metrics["cmc"].items()}
    rows = {"mAP": metrics["mAP"], **cmc, "mINP": metrics["mINP"]}
    lines = [f"{name:>8} {100 * value:6.1f} %" for name, value in rows.items()]
    counted = metrics["num_queries"] - metrics["num_unmatched"]
    lines.append(
        f"over {counted} of {metrics['num_queries']} queries that have a match"
    )
    if unknown := metrics.get("num_without_camera"):
        lines.append(camera_remark(unknown))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
