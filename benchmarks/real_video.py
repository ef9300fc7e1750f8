"""The how-to "Your cameras in an hour" on a real street, command by command.

    python benchmarks/real_video.py               # vtest.avi of Debian's opencv-doc
    python benchmarks/real_video.py --work FOLDER    # goes on if it was stopped

The street has one camera and eight people, so it stands in for more than it is:
its left and right halves count as two cameras, its first half in time is the day to
train on, its second half the day to score on. ``real_video_names.csv`` says who is on
the crops of the second half, named by eye; what it does not name is nobody. Writes
``results/real_video.json``: what each command printed, and the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
import json
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reidlib.cli import main as reidlib
from reidlib.data.table import ImageTable
from reidlib.deploy import load_embeddings, naming_questions
from reidlib.engine.cache import cached_run
from reidlib.engine.manifest import environment
from reidlib.recipes import baseline

VIDEO = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
NAMES = Path(__file__).with_name("real_video_names.csv")
MIDDLE, NOON = 384, 400  # pixels from the left; frame
NEAR = 12  # pixels between a named box and the same box found again
TRAIN = "--preset quick --lr 3.5e-4 --epochs 6"


def video(folder: Path) -> Path | None:
    """Return the video, unpacked if it must be; None if it is not installed."""
    packed = VIDEO.with_name(f"{VIDEO.name}.gz")
    if packed.exists():
        with gzip.open(packed) as source, (folder / VIDEO.name).open("wb") as target:
            shutil.copyfileobj(source, target)
        return folder / VIDEO.name
    return VIDEO if VIDEO.exists() else None


def halves(index: Path) -> tuple[Path, Path]:
    """Give the halves of the picture a camera each, those of the time an index each."""
    with index.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["camid"] = str(1 + (int(row["x"]) + int(row["width"]) / 2 >= MIDDLE))
    for name, later in (("monday", False), ("tuesday", True)):
        own = [row for row in rows if (int(row["frame"]) >= NOON) == later]
        with index.with_name(f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(own)
    return index.with_name("monday.csv"), index.with_name("tuesday.csv")


def named(table: ImageTable) -> np.ndarray:
    """Return ``(N,)`` who is on each crop, 0 where nobody is named."""
    people = np.zeros(len(table), np.int64)
    at = table.attributes
    with NAMES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            apart = np.hypot(at["x"] - int(row["x"]), at["y"] - int(row["y"]))
            apart[at["frame"] != int(row["frame"])] = np.inf
            if len(apart) and apart.min() < NEAR:
                people[apart.argmin()] = int(row["person"])
    return people


def write_named(files: list[Path], to: Path, people: int, candidates: int) -> Any:
    """Write what the page saves when its questions are answered by the names."""
    found = [load_embeddings(file) for file in files]
    table = found[0].table
    who = named(table)
    questions = naming_questions(found, people=people, candidates=candidates)
    asked = [one for one in questions if who[one.query]]
    shown = {row for one in asked for row in (one.query, *one.candidates)}
    lines = ["path,pid,camid,split"]
    for split, rows in (
        ("query", [one.query for one in asked]),
        ("gallery", sorted(shown)),
    ):
        lines += [
            f"{table.paths[row]},{who[row]},{table.camids[row] + 1},{split}"
            for row in rows
        ]
    to.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "questions": len(questions),
        "answered": len(asked),
        "named crops": int((who > 0).sum()),
        "people": len(np.unique(who[who > 0])),
        "people of both sides": sum(
            len(np.unique(table.camids[who == one])) == 2
            for one in np.unique(who[who > 0])
        ),
    }


class Commands:
    """Runs commands in this folder, each once, and keeps what they say."""

    def __init__(self) -> None:
        self.file = Path("commands.json")
        self.rows: list[dict[str, Any]] = []
        if self.file.exists():
            self.rows = json.loads(self.file.read_text(encoding="utf-8"))

    def __call__(self, text: str) -> str:
        """Run a command that was not run before, and return what it says."""
        for row in self.rows:
            if row["command"] == text:
                return "\n".join(row["said"])
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = reidlib(shlex.split(text))
        told = said.getvalue().replace(f"{Path.cwd()}/", "").strip()
        print(f"$ reidlib {text}\n{told}\n", flush=True)
        if status:
            raise SystemExit(f"reidlib {text} ended with {status}")
        self.rows.append({"command": text, "said": told.splitlines()})
        self.file.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        return told


def read(file: str) -> Any:
    return json.loads(Path(file).read_text(encoding="utf-8"))


def go(run: Commands, elsewhere: Path, train: str, people: int) -> dict[str, Any]:
    """Run what follows the detection in this folder, and return what comes out."""
    monday, tuesday = halves(Path("crops/index.csv"))
    run(f"data check {monday} --sheet monday.png")
    run(
        f"train baseline --init {elsewhere} {train} --data csv --root {monday} "
        "--out mine --device cpu"
    )
    for name, model in (("before", elsewhere), ("after", "mine")):
        run(f"embed {tuesday} --model {model} --out {name}.npz --device cpu")
    run(f"name before.npz after.npz --out name.html --people {people} --candidates 16")
    files = [Path("before.npz"), Path("after.npz")]
    counts = write_named(files, Path("crops/named.csv"), people, 16)
    scores = {}
    for name, model in (("before", elsewhere), ("after", "mine")):
        run(
            f"evaluate {model} --data csv --root crops/named.csv --other-cameras "
            f"--json {name}.json --device cpu"
        )
        told = read(f"{name}.json")
        scores[name] = {one: told[one] for one in ("mAP", "cmc")}
        counts["scored"] = told["num_queries"] - told["num_unmatched"]
    run("gallery add seen after.npz --start 2026-05-01T08:00+02:00 --keep-days 30")
    table = load_embeddings("after.npz").table
    surest = table.paths[int(table.attributes["score"].argmax())]
    run(f"gallery search seen crops/{surest} --model mine --k 6 --sheet answers.png")
    run("gallery info seen --json seen.json")
    run("gallery forget seen --camera 0")
    return {
        "epochs": [
            {name: one[name] for name in ("clusters", "outlier_share")}
            for one in read("mine/result.json")["epochs"]
        ],
        "named": counts,
        "scores": scores,
        "gallery": {n: read("seen.json")[n] for n in ("people", "bytes")},
        "page_mib": Path("name.html").stat().st_size / 2**20,
        "commands": run.rows,
    }


def main() -> None:
    """Print and write what comes out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--people", type=int, default=50, help="questions")
    parser.add_argument("--elsewhere", type=Path, help="run (default: on SynthCity)")
    parser.add_argument(
        "--work", type=Path, help="folder of a run that goes on (default: new)"
    )
    parser.add_argument("--output", type=Path, default=Path("results/real_video.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    output = given.output.absolute()
    work = given.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    source = video(work)
    if source is None:
        print(f"there is no {VIDEO}; Debian's package opencv-doc has it")
        return
    elsewhere = given.elsewhere
    if elsewhere is None:
        from reidlib.data import open_dataset
        from reidlib.synthcity import ensure_synthcity

        city = open_dataset("synthcity", ensure_synthcity("tiny", progress=False))
        elsewhere = cached_run(baseline.train, baseline.PRESETS["quick"], city)[1]
    for name, target in (("elsewhere", elsewhere), (VIDEO.name, source)):
        if not (work / name).exists():
            (work / name).symlink_to(target.absolute())
    before = Path.cwd()
    os.chdir(work)
    try:
        run = Commands()
        every = f"--every {given.every}"
        run(f"detect {VIDEO.name} --out crops {every} --json detect.json")
        found = {"found": read("detect.json")}
        found |= go(run, Path("elsewhere"), TRAIN, given.people)
    finally:
        os.chdir(before)
        if given.work is None:
            shutil.rmtree(work)
    report = {"experiment": "real_video", "every": given.every, **found}
    text = json.dumps({**report, **environment()}, indent=2) + "\n"
    output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
