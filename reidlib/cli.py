"""The command line: ``reidlib data | train | evaluate | reproduce | report``."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reidlib import __version__
from reidlib.errors import ReIDError
from reidlib.paths import check_utf8

if TYPE_CHECKING:
    from reidlib.data.table import ReIDDataset

# Slow imports (torch, timm) are inside the commands, so that --help answers at once.

_KINDS = ("synthcity", "market1501", "msmt17", "veri776", "market-style", "csv")
_SIZES = ("tiny", "course", "market")
# Repeated here, because importing the recipes takes seconds.
_RECIPES = ("direct", "baseline", "calr_local", "calr", "aff_scl", "supervised")
_PRESETS = ("quick", "ablation", "course", "paper", "ibn", "veri", "code")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after ``reidlib``; by default those of the process.

    Returns:
        Exit status: 0, or 2 for invalid input (one line on standard error says why),
        or 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        for word in words:
            check_utf8(word)
        options, rest = _parser().parse_known_args(words)
        if rest and options.command is not _train:
            raise ReIDError(f"unknown option {rest[0]!r}; see reidlib --help")
        options.command(options, rest)
    except (ReIDError, OSError) as error:
        print(f"reidlib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("reidlib: stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--workers", type=int, help="processes (default: one per core)")
    make.set_defaults(command=_data_make)
    check = data_commands.add_parser("check", help="report problems of a data set")
    check.add_argument("path", type=Path, help="folder, or CSV file")
    check.add_argument("--kind", choices=_KINDS, default=None, help="default: detected")
    check.add_argument("--sheet", type=Path, help="file for the contact sheet")
    check.set_defaults(command=_data_check)

    train = commands.add_parser(
        "train",
        help="train a method",
        add_help=False,
        allow_abbrev=False,  # --k must not be taken for an option that begins with k
        description="Every field of the recipe's configuration is an option too: "
        "reidlib train baseline --help lists them.",
    )
    train.add_argument("recipe", choices=_RECIPES, nargs="?")
    train.add_argument("--preset", choices=_PRESETS, default="course")
    train.add_argument(
        "--out", type=Path, help="folder of the run (default: a new one)"
    )
    train.add_argument("--resume", action="store_true", help="resume the run in --out")
    train.add_argument(
        "--source-root", type=Path, help="folder of labelled data to adapt from"
    )
    train.add_argument("--source-data", choices=_KINDS, default="auto", help="its kind")
    train.add_argument("-h", "--help", action="store_true")
    train.set_defaults(command=_train)

    evaluate = commands.add_parser("evaluate", help="score a trained model")
    evaluate.add_argument("run", type=Path, help="folder of a run, or its checkpoint")
    evaluate.add_argument(
        "--rerank", action="store_true", help="k-reciprocal re-ranking"
    )
    evaluate.add_argument("--figure", type=Path, help="draw retrievals to this file")
    evaluate.add_argument(
        "--json", type=Path, help="write the scores to this JSON file"
    )
    evaluate.set_defaults(command=_evaluate)

    reproduce = commands.add_parser("reproduce", help="train the runs of a table")
    reproduce.add_argument("--seeds", type=int, default=3, help="number of seeds")
    reproduce.add_argument("--device", default="auto", help="auto, cpu or cuda")
    reproduce.add_argument(
        "--processes",
        type=int,
        help="runs at once (default: one per GPU or, without a GPU, one per core)",
    )
    reproduce.add_argument(
        "--verify",
        action="store_true",
        help="repeat the first epoch of one published run of each recipe and compare; "
        "TABLE is then the name of one recipe, or is omitted",
    )
    reproduce.set_defaults(command=_reproduce)
    report = commands.add_parser("report", help="print a table from its result files")
    report.add_argument("--html", type=Path, help="write it as HTML to this file")
    report.set_defaults(command=_report)
    for command in (reproduce, report):
        command.add_argument(
            "table",
            help="identifier, for instance baseline or AFF-F4",
            nargs="?" if command is reproduce else None,
        )
        command.add_argument("--preset", choices=_PRESETS, default="ablation")
        command.add_argument("--size", choices=_SIZES, default="course")
        command.add_argument("--data", choices=_KINDS[1:], help="kind of real data")
        command.add_argument("--root", type=Path, help="its folder")

    for command in (train, evaluate):
        command.add_argument(
            "--data", choices=_KINDS, help="kind of data (default: synthcity)"
        )
        command.add_argument(
            "--root", type=Path, help="its folder; the kind is then detected"
        )
        command.add_argument("--size", choices=_SIZES, help="size of SynthCity")
        command.add_argument("--device", default="auto", help="auto, cpu or cuda")
        command.add_argument(
            "--unreadable",
            choices=("refuse", "skip", "trust"),
            default="refuse",
            help="images that cannot be decoded: stop, leave out, or do not check",
        )
    return parser


def _open(options: argparse.Namespace, default_size: str) -> ReIDDataset:
    from reidlib.data import open_dataset
    from reidlib.synthcity import ensure_synthcity

    kind = options.data or ("auto" if options.root else "synthcity")
    if options.root is not None and options.size is not None:
        raise ReIDError("--size draws SynthCity and --root reads a folder: omit one")
    if options.root is not None:
        return open_dataset(kind, options.root, unreadable=options.unreadable)
    if kind != "synthcity":
        raise ReIDError(f"--data {kind} needs --root, the folder that holds the data")
    return open_dataset("synthcity", ensure_synthcity(options.size or default_size))


def _data_make(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.synthcity import make_synthcity

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


def _train(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.engine.run import Run
    from reidlib.recipes import RECIPES

    if options.recipe is None:
        if not options.help:
            raise ReIDError(f"no recipe is given; name one of {', '.join(_RECIPES)}")
        print(_train_usage("reidlib train RECIPE"))
        print(
            f"RECIPE is one of {', '.join(_RECIPES)}; its settings are listed by\n"
            "reidlib train RECIPE --help"
        )
        return
    recipe = RECIPES[options.recipe]
    if options.help:
        rest = [*rest, "--help"]
    if options.preset not in recipe.PRESETS:
        raise ReIDError(
            f"{options.recipe} has no preset {options.preset!r}; choose from "
            f"{', '.join(recipe.PRESETS)}"
        )
    default = recipe.PRESETS[options.preset]
    program = f"reidlib train {options.recipe}"
    if options.help:
        # The options of argparse; tyro then prints those of the recipe and exits.
        print(_train_usage(program))
    config = _configure(default, rest, program, options.preset)
    if options.resume and options.out is None:
        raise ReIDError("--resume needs --out, the folder of the run to resume")
    if options.source_root is not None and options.recipe != "aff_scl":
        raise ReIDError(f"{options.recipe} does not adapt from a source; aff_scl does")
    if options.source_root is None and options.source_data != "auto":
        raise ReIDError("--source-data needs --source-root, the folder of the source")
    if options.source_root is not None and config.adaptation == "none":
        raise ReIDError(
            "--source-root is given and adaptation is 'none', so the source would not "
            "be used; add --adaptation joint, pretrain or source"
        )
    dataset = _open(options, "tiny" if options.preset == "quick" else "course")
    if options.source_root is not None:
        dataset = _with_source(options, dataset)
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = f"{options.recipe}-{options.preset}-{dataset.name}-s{config.seed}"
    out = options.out or Path("runs") / f"{name}-{now}"
    with Run(
        out,
        recipe=options.recipe,
        version=recipe.VERSION,
        config=config,
        dataset=dataset,
        resume=options.resume,
        device=options.device,
    ) as run:
        if source := getattr(dataset, "source", None):
            told = {"name": source.name, "sha256": source.fingerprint()}
            run.manifest["source"] = told
        result = run.result() or recipe.train(config, dataset, run)
    print(_table(result["metrics"]))
    print(f"result: {out / 'result.json'}")


def _with_source(options: argparse.Namespace, target: ReIDDataset) -> ReIDDataset:
    from reidlib.data import open_dataset, with_source

    kind, root = options.source_data, options.source_root
    source = open_dataset(kind, root, unreadable=options.unreadable)
    return with_source(target, source)


def _configure(default: Any, words: list[str], program: str, preset: str) -> Any:
    """Return the configuration with the fields that ``words`` set."""
    import tyro

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
        if error is not None:
            raise error from None
        sys.stderr.write(told.getvalue())
        raise


def _train_usage(program: str) -> str:
    return (
        f"usage: {program} [--preset {{{','.join(_PRESETS)}}}] "
        f"[--data {{{','.join(_KINDS)}}}]\n"
        "         [--root FOLDER] [--size {tiny,course,market}] [--out FOLDER] "
        "[--resume]\n         [--source-root FOLDER] [--source-data KIND] "
        "[--device {auto,cpu,cuda}] [SETTINGS]\n"
    )


def _evaluate(options: argparse.Namespace, rest: list[str]) -> None:
    import torch

    from reidlib.engine.checkpoint import write_atomically
    from reidlib.engine.run import open_fabric
    from reidlib.evaluation import evaluate
    from reidlib.recipes.steps import check_test_split, extract_test, load_model

    model, config = load_model(options.run)
    dataset = _open(options, "course")
    _check_same_data(options, dataset)
    device = open_fabric(options.device).device
    if not len(dataset.query) or not len(dataset.gallery):
        raise ReIDError(f"{dataset.root} has no query or no gallery images to score")
    unscored = ""
    try:
        check_test_split(dataset)
    except ReIDError as error:
        if options.figure is None:
            raise
        unscored = str(error)  # whoever only looks for a person needs no identity
    print(
        f"{dataset.name} at {dataset.root}: {len(dataset.query)} queries, "
        f"{len(dataset.gallery)} gallery images"
    )
    model = model.to(device)
    query, gallery = extract_test(model, dataset, config, device)
    rerank = {"k1": 20, "k2": 6, "lambda_value": 0.3} if options.rerank else None
    if not unscored:
        with torch.inference_mode():
            scores = evaluate(
                query, gallery, dataset.query, dataset.gallery, rerank=rerank
            ).as_dict()
        print(_table(scores))
        if options.json is not None:
            data = json.dumps({"dataset": dataset.name, **scores}, indent=1)
            write_atomically(options.json, data.encode())
    if options.figure is not None:
        import matplotlib.pyplot as plt

        from reidlib.plotting import plot_retrievals, use_style

        use_style()
        plot_retrievals(query, gallery, dataset)
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


def _check_same_data(options: argparse.Namespace, dataset: ReIDDataset) -> None:
    """Raise if no data are named and the default data are not those of the training."""
    from reidlib.engine.manifest import read_manifest

    folder = options.run if options.run.is_dir() else options.run.parent
    manifest = folder / "manifest.json"
    chosen = options.data or options.root or options.size
    if chosen or not manifest.is_file():
        return
    way_out = "name the data to score on with --size or --root"
    trained = read_manifest(manifest, way_out)["dataset"]
    if trained["sha256"] != dataset.fingerprint():
        raise ReIDError(
            f"{options.run} was trained on {trained['name']} with "
            f"{trained['images']['train']} training images, which are not those of "
            "SynthCity course; name the data to score it on with --size or --root"
        )


def _reproduce(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.experiments import Data, report, reproduce

    if (options.data is None) != (options.root is None):
        raise ReIDError("--data and --root belong together: give both or neither")
    if options.verify:
        return _verify(options)
    if options.table is None:
        raise ReIDError("no table is given; name a table, or give --verify")
    if options.seeds < 1:
        raise ReIDError(f"--seeds is {options.seeds}; a table needs one seed or more")
    data = Data(options.size, options.data or "auto", options.root)
    outcomes = reproduce(
        options.table,
        preset=options.preset,
        seeds=range(options.seeds),
        data=data,
        device=options.device,
        processes=options.processes,
    )
    print(report(options.table, preset=options.preset, data=data))
    missing = [outcome for outcome in outcomes if outcome.status == "missing"]
    if missing:
        raise ReIDError(
            f"{len(missing)} of {len(outcomes)} runs have no result "
            f"({missing[0].job.row.name}: {missing[0].message})"
        )


def _verify(options: argparse.Namespace) -> None:
    from reidlib.experiments import Data, verify
    from reidlib.recipes import RECIPES

    if options.table is not None and options.table not in RECIPES:
        raise ReIDError(
            f"no recipe {options.table!r}; choose from {', '.join(RECIPES)}"
        )
    recipes = tuple(RECIPES) if options.table is None else (options.table,)
    data = Data(options.size, options.data or "auto", options.root)
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


def _report(options: argparse.Namespace, rest: list[str]) -> None:
    from reidlib.engine.checkpoint import write_atomically
    from reidlib.experiments import Data, report

    # Only result files are read: without --root, any folder name will do.
    root = options.root or (Path("PATH") if options.data else None)
    data = Data(options.size, options.data or "auto", root)
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
