"""Tables of the book: runs made once, skipped, made again when they are stale."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from support import fork, in_copy

from reidlib.cli import main
from reidlib.engine.checkpoint import load_checkpoint
from reidlib.errors import ReIDError
from reidlib.experiments import report, runner
from reidlib.experiments.plans import Plan, Row, plan, plans
from reidlib.experiments.results import Data, Job, changed
from reidlib.papers import load_table
from reidlib.recipes import RECIPES
from reidlib.synthcity import Dials

ROOT = Path(__file__).parents[2]
TINY = Data("tiny")
SMALL = {"backbone": "tiny", "height": 64, "width": 32}
SMALL_AFF = {**SMALL, "frozen_stages": 4, "epochs": 1, "iterations": 2, "num_labels": 4}


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """An empty place for runs and results; the drawn city is shared."""
    from reidlib.paths import cache_dir

    runs = tmp_path / "cache"
    runs.mkdir()
    (runs / "synthcity").symlink_to(cache_dir() / "synthcity")
    monkeypatch.setenv("REIDLIB_CACHE", str(runs))
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def trial(results, tiny_root, monkeypatch):
    """A plan of one's own: ``trial(rows)`` registers it."""

    def register(*rows: Row) -> None:
        monkeypatch.setitem(plans(), "trial", Plan("trial", "A trial", rows))

    return register


def make(**options):
    usual = {"preset": "quick", "seeds": (0,), "data": TINY, "device": "cpu"}
    usual |= {"processes": 1, "progress": False}
    return runner.reproduce("trial", **{**usual, **options})


def test_a_run_is_made_once_and_kept(trial, results):
    trial(Row("a row", "direct", SMALL))
    (outcome,) = make()
    file = outcome.job.file
    assert outcome.status == "made"
    assert file.parent == results / "direct"
    assert file.name.startswith("tiny-s0-")
    result = json.loads(file.read_text())
    assert (result["recipe"], result["version"]) == ("direct", 1)
    assert result["data"]["size"] == "tiny"
    assert outcome.job.stale(result) == []
    before = file.stat().st_mtime_ns
    assert [o.status for o in make()] == ["kept"]
    assert file.stat().st_mtime_ns == before


def test_rows_with_equal_settings_share_one_run(trial, results):
    trial(Row("a row", "direct", SMALL), Row("its copy", "direct", SMALL))
    one, two = make()
    assert one.job.file == two.job.file
    assert (one.status, two.status) == ("made", "made")
    assert len(list(results.rglob("*.json"))) == 1
    assert [o.status for o in make()] == ["kept", "kept"]


def test_another_setting_is_another_run(trial, results):
    trial(Row("a row", "direct", SMALL))
    (first,) = make()
    trial(Row("a row", "direct", {**SMALL, "pooling": "gem"}))
    (second,) = make()
    assert second.status == "made"
    assert first.job.file.is_file()  # other tables may refer to it
    assert json.loads(second.job.file.read_text())["config"]["pooling"] == "gem"


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("method", lambda result: result.update(version=0)),
        ("settings", lambda result: result["config"].update(seed=99)),
        ("data", lambda result: result["data"].update(drawing=0)),
        ("data", lambda result: result["data"]["dials"].update(occlusion=0.9)),
        ("data", lambda result: result["dataset"]["images"].update(query=2)),
    ],
)
def test_a_result_of_other_inputs_is_stale_and_made_again(trial, what, change):
    trial(Row("small", "direct", SMALL))
    (outcome,) = make()
    file = outcome.job.file
    result = json.loads(file.read_text())
    change(result)
    result["metrics"]["mAP"] = 1.0
    file.write_text(json.dumps(result))
    assert outcome.job.stale(result) == [what]
    assert make()[0].status == "made"
    assert json.loads(file.read_text())["metrics"]["mAP"] < 1


def test_a_result_without_a_record_of_its_inputs_is_stale():
    job = Job("trial", Row("small", "direct", SMALL), "quick", TINY, 0)
    assert job.stale({"metrics": {}}) == ["method", "settings", "data"]


def test_a_setting_that_is_new_counts_as_its_default_in_an_old_result():
    row = Row("joint", "aff_scl", {"adaptation": "joint"}, labelled={"seed": 100})
    job = Job("trial", row, "quick", TINY, 0)
    old = json.loads(json.dumps({"metrics": {}, **job.inputs()}))
    assert job.stale(old) == []
    # The preset's number; the default is another.
    source_epochs = old["config"].pop("source_epochs")
    assert job.stale(old) == ["settings"]
    old["config"]["source_epochs"] = source_epochs
    for name in ("pooling", "weights", "bn_splits"):  # at their defaults
        del old["config"][name]
    del old["data"]["dials"]["lighting"]
    del old["data"]["labelled"]["dials"]["lighting"]
    assert job.stale(old) == []


def test_a_new_setting_leaves_the_names_of_files_alone():
    settings = {"seed": 1, "lr": 0.1, "inner": {"eps": 0.5}}
    usual = {"seed": 0, "lr": 0.1, "inner": {"eps": 0.6}}
    now = changed(settings, usual)
    assert now == {"seed": 1, "inner": {"eps": 0.5}}
    settings["new"] = usual["new"] = "as before"
    settings["inner"]["new"] = usual["inner"]["new"] = 3
    assert changed(settings, usual) == now


PUBLISH = """
import json, os, subprocess
from pathlib import Path
from reidlib.errors import ReIDError
from reidlib.experiments import runner
from reidlib.experiments.plans import Plan, Row, plans
from reidlib.experiments.results import Data

copy = Path({copy!r})
plans()["trial"] = Plan("trial", "A trial", (Row("small", "direct", {small!r}),))


def git(*words):
    person = ["-c", "user.name=A", "-c", "user.email=a@b.example"]
    words = ["git", "-C", str(copy), *person, *words]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def make():
    options = dict(preset="quick", seeds=(0,), data=Data("tiny"), device="cpu")
    (one,) = runner.reproduce("trial", **options, processes=1, progress=False)
    assert one.status == "made"
    return json.loads(one.job.file.read_text())


os.environ.pop("REIDLIB_RESULTS")
git("init", "--quiet")
git("add", "reidlib")
git("commit", "--quiet", "--message", "first")
with (copy / "reidlib" / "errors.py").open("a") as file:
    file.write("# changed")
try:
    make()
except ReIDError as error:
    assert "1 files" in str(error) and "errors.py" in str(error), error
else:
    raise AssertionError("published from changed code")
os.environ["REIDLIB_RESULTS"] = str(copy / "trial")
trial = make()
assert trial["commit"].endswith("-dirty")
del os.environ["REIDLIB_RESULTS"]
git("commit", "--quiet", "--all", "--message", "second")
published = make()
assert published["commit"] == git("rev-parse", "HEAD").strip()
assert published["metrics"] == trial["metrics"]
"""


def test_a_published_result_is_made_from_committed_code_alone(results, tmp_path):
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "reidlib", copy / "reidlib")
    shutil.copy(ROOT / "pyproject.toml", copy)
    code = PUBLISH.format(copy=str(copy), small=SMALL)
    process = fork(in_copy, copy, code, told=tmp_path / "told")
    process.join()
    assert process.exitcode == 0, (tmp_path / "told").read_text()


def test_a_folder_is_known_by_its_files(trial, tmp_path, tiny_root):
    root = tmp_path / "copy"
    shutil.copytree(tiny_root, root)
    trial(Row("small", "direct", SMALL))
    data = Data(kind="market-style", root=root)
    (outcome,) = make(data=data)
    assert outcome.status == "made"
    fingerprint = data.open(0).fingerprint()
    assert outcome.job.file.name.startswith(f"market-style-{fingerprint[:10]}-s0-")
    assert make(data=data)[0].status == "kept"
    next((root / "bounding_box_train").glob("*.jpg")).unlink()
    assert make(data=data)[0].status == "made"
    file = next((root / "bounding_box_train").glob("*.jpg"))
    content = bytearray(file.read_bytes())
    content[-3] ^= 1  # its length stays
    file.write_bytes(content)
    assert make(data=data)[0].status == "made"


def test_results_of_two_folders_of_a_kind_stay_apart(
    trial, results, tmp_path, tiny_root, capsys
):
    trial(Row("small", "direct", SMALL))
    one, two = (shutil.copytree(tiny_root, tmp_path / name) for name in "ab")
    for root in (one, two):  # they are no SynthCity any more
        (root / "manifest.json").unlink()
    next((two / "bounding_box_train").glob("*.jpg")).unlink()
    first, second = (Data(kind="market-style", root=root) for root in (one, two))
    (made,) = make(data=first)
    words = ["report", "trial", "--preset", "quick", "--data", "market-style"]
    assert main(words) == 0  # there is one: it needs no images
    alone = capsys.readouterr().out
    assert "missing" not in alone
    assert "†" not in alone
    assert main([*words, "--root", str(two)]) == 0
    assert "missing: `reidlib reproduce trial" in capsys.readouterr().out
    before = made.job.file.read_bytes()
    assert make(data=second)[0].status == "made"
    assert made.job.file.read_bytes() == before
    assert main(words) == 2
    assert "results of 2 data sets of kind market-style" in capsys.readouterr().err
    assert main([*words, "--root", str(one)]) == 0
    assert capsys.readouterr().out == alone
    other = json.loads(before)
    other["dataset"]["sha256"] = "0" * 64
    made.job.file.write_text(json.dumps(other))
    assert main([*words, "--root", str(one)]) == 0
    assert "with other data than here now" in capsys.readouterr().out
    assert main([*words, "--root", str(one), "--size", "tiny"]) == 2
    assert "--size draws SynthCity" in capsys.readouterr().err


def test_a_breakdown_is_a_result_and_is_not_tried_again(trial):
    # No image has that many neighbours.
    strict = {"min_samples": 500, "frozen_stages": 4, **SMALL}
    trial(Row("strict", "baseline", strict))
    (outcome,) = make()
    assert outcome.status == "failed"
    result = json.loads(outcome.job.file.read_text())
    assert "found 0 clusters" in result["error"]
    assert result["config"]["min_samples"] == 500
    assert result["epochs"] == []
    assert make()[0].status == "kept"


def test_a_divergence_is_recorded_without_this_machines_folders(trial, tmp_path):
    wild = {"lr": 1e6, "frozen_stages": 4, "epochs": 2, "iterations": 3, **SMALL}
    trial(Row("wild", "baseline", wild))
    (outcome,) = make()
    assert outcome.status == "failed"
    reason = json.loads(outcome.job.file.read_text())["error"]
    assert "epoch 1" in reason
    assert "--out" in outcome.message
    assert "--out" not in reason
    assert str(tmp_path) not in reason


def test_what_cannot_be_made_here_does_not_stop_the_others(trial, tmp_path, capsys):
    trial(
        Row("lost", "direct", {**SMALL, "weights": str(tmp_path / "none.pth")}),
        Row("small", "direct", SMALL),
    )
    lost, small = make()
    told = capsys.readouterr()
    assert told.out == ""  # a table that is piped into a file stays one
    assert "missing: " in told.err
    assert (lost.status, small.status) == ("missing", "made")
    assert "none.pth" in lost.message
    assert not lost.job.file.exists()


QUICK = (Row("a", "direct", SMALL), Row("b", "direct", {**SMALL, "pooling": "gem"}))
ENDLESS = tuple(
    Row(
        f"rate {lr}",
        "baseline",
        {**SMALL, "frozen_stages": 5, "epochs": 5000, "iterations": 1, "lr": lr},
    )
    for lr in (1e-3, 1e-4, 2e-4, 3e-4)
)


class PressedBetweenRuns(io.StringIO):
    """A screen at which Ctrl-C is pressed when the bar tells of the second run."""

    def isatty(self) -> bool:
        """Return that it is a terminal: nowhere else is there a bar."""
        return True

    def write(self, text: str) -> int:
        """Write, or be interrupted, once."""
        before, whole = self.getvalue(), self.getvalue() + text
        names = ("a, seed 0", "b, seed 0")
        if all(n in whole for n in names) and not all(n in before for n in names):
            super().write(text)
            raise KeyboardInterrupt
        return super().write(text)


def test_several_processes_make_the_numbers_of_one_and_end_with_the_table(
    trial, results, monkeypatch
):
    trial(*QUICK)
    assert [outcome.status for outcome in make(processes=1)] == ["made", "made"]
    of_one = mean_precisions(results)
    # Neither finds the runs of the one before, nor has joblib's pool of it, whose
    # processes would write into the folder before.
    for name in ("ended", "interrupted"):
        monkeypatch.setenv("REIDLIB_RESULTS", str(results.parent / name))
        (results.parent / "cache" / "runs").rename(results.parent / f"before {name}")
        if name == "ended":
            assert [outcome.status for outcome in make(processes=2)] == ["made", "made"]
        else:
            trial(*QUICK, *ENDLESS[:2])
            monkeypatch.setattr(sys, "stderr", PressedBetweenRuns())
            # The traceback, kept by `stopped`, keeps runs going that are not ended.
            with pytest.raises(KeyboardInterrupt) as stopped:
                make(processes=2, progress=True)
            assert multiprocessing.active_children() == [], stopped
        assert mean_precisions(results.parent / name) == pytest.approx(of_one, abs=1e-3)


def mean_precisions(folder: Path) -> list[float]:
    """Return the mAP of each result in a folder."""
    files = sorted(folder.rglob("*.json"))
    return [json.loads(file.read_text())["metrics"]["mAP"] for file in files]


def reproduce_endless_rows() -> int:
    """Make a table that takes for ever, from the command line, with two processes."""
    plans()["trial"] = Plan("trial", "A trial", ENDLESS)
    words = ["reproduce", "trial", "--preset", "quick", "--size", "tiny"]
    return main([*words, "--seeds", "1", "--processes", "2", "--device", "cpu"])


def is_alive(session: int) -> bool:
    """Whether any process of a session is left."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_table_stops_its_processes_and_keeps_their_epochs(
    results, tiny_root, tmp_path, number
):
    told = tmp_path / "told"
    table = fork(reproduce_endless_rows, told=told)
    runs = results.parent / "cache" / "runs"
    deadline = time.monotonic() + 400
    while len(kept := list(runs.glob("*/last.safetensors"))) < 2:
        assert time.monotonic() < deadline, "no epoch was complete"
        assert table.is_alive(), told.read_text()
        time.sleep(0.2)
    os.kill(table.pid, number)
    table.join()
    assert table.exitcode == (130 if number == signal.SIGTERM else -number)
    deadline = time.monotonic() + 60
    while is_alive(table.pid):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.2)
    assert all(load_checkpoint(checkpoint)["history"] for checkpoint in kept)
    # No run that waited was begun (a run makes its folder at once).
    assert len(list(runs.glob("*/manifest.json"))) == 2
    # Of a killed table, the tracker of its processes removes what is left, and says so.
    assert number == signal.SIGKILL or "leaked" not in told.read_text()


def test_an_unknown_plan_or_preset_names_the_known_ones(trial):
    trial(Row("small", "direct", SMALL))
    with pytest.raises(ReIDError, match=r"no plan for 'T99'; there is AFF-F4"):
        plan("T99")
    with pytest.raises(ReIDError, match=r"no preset 'long' of direct; there is quick"):
        make(preset="long")
    with pytest.raises(ReIDError, match="processes is 0"):
        make(processes=0)


def result_with(**changes):
    scores = {"mAP": 0.5, "mINP": 0.5, "num_queries": 2, "num_unmatched": 0, "cmc": {}}
    about = {"recipe": "direct", "version": 1, "config": {}}
    return json.dumps({**about, "metrics": {**scores, **changes}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"3",
        b'[["metrics", {}]]',
        b'{"inputs": {}}',
        b'{"metrics": 3}',
        b'{"metrics": {"mAP": "high"}}',
        b'{"metrics": {"cmc": {"1": []}}}',
        b'{"metrics": {"diagnosis": {"kmeans": 1}}}',
        b'{"metrics": {}, "dataset": []}',
        b'{"metrics": {}, "data": 1}',
        b'{"error": 5}',
        b'{"error": "x"}',
        b'{"error": "x", "recipe": "direct", "version": 1}',
        result_with(mAP=7.0),
        result_with(mINP=-0.1),
        result_with(cmc={"1": 1.5}),
    ],
)
def test_a_damaged_result_is_named(trial, content):
    trial(Row("small", "direct", SMALL))
    job = Job("trial", plan("trial").rows[0], "quick", TINY, 0)
    job.file.parent.mkdir(parents=True)
    job.file.write_bytes(content)
    for read in (make, lambda: report("trial", preset="quick", data=TINY)):
        with pytest.raises(ReIDError, match=r"is damaged .*reidlib reproduce trial"):
            read()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"direct": 1}'])
def test_a_damaged_record_of_verifications_is_named(trial, results, content):
    trial(Row("small", "direct", SMALL))
    make()
    (results / "verified.json").write_text(content)
    with pytest.raises(ReIDError, match=r"verified.json is damaged .*; remove it"):
        report("trial", preset="quick", data=TINY)


def test_the_command_asks_for_as_many_seeds_as_the_run_needs():
    def command(seed: int) -> str:
        return Job("T", Row("small", "direct"), "ablation", Data(), seed).command

    assert command(2) == "reidlib reproduce T"
    assert command(3) == "reidlib reproduce T --seeds 4"


def test_a_plan_may_name_the_size_of_its_cities(trial, monkeypatch):
    small = Plan("trial", "A trial", (Row("small", "direct", SMALL),), size="tiny")
    monkeypatch.setitem(plans(), "trial", small)
    (outcome,) = runner.reproduce(
        "trial", preset="quick", seeds=(0,), processes=1, progress=False
    )
    assert outcome.job.file.name.startswith("tiny-s0-")
    assert outcome.job.command == "reidlib reproduce trial --preset quick"
    assert "SynthCity tiny" in str(report("trial", preset="quick"))
    asked = Job("trial", small.rows[0], "quick", Data("course"), 0)
    assert asked.command.endswith("--size course")


def test_a_chosen_gpu_is_not_shared_unasked():
    assert runner._devices("cuda:1", None, 9) == ["cuda:1"]
    assert runner._devices("cuda:1", 2, 9) == ["cuda:1", "cuda:1"]
    assert runner._devices("cpu", 4, 2) == ["cpu", "cpu"]


def merged(values: dict, changes: dict) -> dict:
    """Return nested values with others in their places."""
    return values | {
        name: merged(values[name], value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }


@pytest.mark.parametrize("table", sorted(plans()))
def test_every_plan_can_be_made_with_every_preset(table):
    rows = plans()[table].rows
    names = [row.name for row in rows]
    assert len(names) == len(set(names))
    for row in rows:
        for preset in RECIPES[row.recipe].PRESETS:
            config = dataclasses.asdict(row.config(preset, 3))
            changes = {**row.changes, "seed": 3 + row.changes.get("seed", 0)}
            assert merged(config, changes) == config
        if row.paper:
            keys = len(load_table(row.paper[0]).keys)
            found = [r[:keys] for r in load_table(row.paper[0]).rows]
            assert found.count(row.paper[1:]) == 1


def test_a_row_turns_the_dials_of_its_city(trial):
    usual = Row("usual", "direct", SMALL)
    turned = Row("turned", "direct", SMALL, dials={"camera_shift": 0.9})
    same = Row("same", "direct", SMALL, dials={"camera_shift": Dials().camera_shift})
    jobs = {
        row.name: Job("trial", row, "quick", TINY, 100) for row in (usual, turned, same)
    }
    versions = {name: job.inputs()["data"] for name, job in jobs.items()}
    assert versions["usual"] == versions["same"] != versions["turned"]
    opened = jobs["turned"].open()
    assert opened.fingerprint() != jobs["usual"].open().fingerprint()
    trial(turned)
    (outcome,) = make(seeds=(100,))
    result = json.loads(outcome.job.file.read_text())
    assert result["data"]["dials"]["camera_shift"] == 0.9
    assert result["dataset"]["sha256"] == opened.fingerprint()


def test_a_row_that_turns_the_number_of_images_has_others_to_expect():
    row = Row("many", "direct", SMALL, dials={"images_per_camera": 2.0})
    job = Job("trial", row, "quick", TINY, 0)
    images = {"train": 960, "query": 160, "gallery": 670}
    result = {"metrics": {}, **job.inputs(), "dataset": {"images": images}}
    assert job.stale(result) == []
    result["dataset"]["images"] = {**images, "gallery": 350}
    assert job.stale(result) == ["data"]


def test_a_result_of_a_folder_depends_on_what_is_read_beside_the_images(
    tiny_root, tmp_path
):
    city = shutil.copytree(tiny_root, tmp_path / "city")
    (city / "manifest.json").unlink()  # it is no SynthCity any more
    data = Data(kind="market-style", root=city)
    job = Job("trial", Row("attributes", "qafm", {}), "quick", data, 0)
    dataset = job.open()
    result = {**job.inputs(), "dataset": {"sha256": dataset.fingerprint()}}
    assert job.is_current(result)  # an old one that names no files
    assert job.is_current(result | {"files": job.config.read_files(dataset)})
    assert not job.is_current(result | {"files": {"attributes": "another"}})


def test_a_kept_result_says_what_it_was_made_from_and_is_gone(
    trial, tiny_root, tmp_path, capsys
):
    city = shutil.copytree(tiny_root, tmp_path / "city")
    (city / "manifest.json").unlink()  # it is no SynthCity any more
    trial(Row("attributes", "qafm", {}))
    data = Data(kind="market-style", root=city)
    job = Job("trial", plan("trial").rows[0], "quick", data, 0)
    dataset = job.open()
    files = {**job.config.read_files(dataset), "pseudo_labels (made)": "1"}
    about = {"dataset": {"sha256": dataset.fingerprint()}, "files": files}
    job.file.parent.mkdir(parents=True)
    content = {**json.loads(result_with()), **job.inputs(), **about}
    job.file.write_text(
        json.dumps(
            {**content, "dataset": {"name": "x", "images": {}, **about["dataset"]}}
        )
    )
    assert make(data=data)[0].status == "kept"
    assert "gone" not in capsys.readouterr().err
    (city / "market_attribute.mat").unlink()
    assert make(data=data)[0].status == "kept"
    told = capsys.readouterr().err
    assert "kept: attributes, seed 0, although the file of attributes that it" in told
    assert "pseudo" not in told


def test_a_row_adapts_from_another_city(trial):
    changes = {**SMALL_AFF, "adaptation": "joint"}
    labelled = {"seed": 100, "camera_shift": 0.9}
    row = Row("adapted", "aff_scl", changes, labelled=labelled)
    job = Job("trial", row, "quick", TINY, 0)
    dataset = job.open()
    city = Data("tiny", dials=Dials(camera_shift=0.9))
    assert dataset.source.fingerprint() == city.open(100).fingerprint()
    alone = Job("trial", Row("alone", "aff_scl", SMALL_AFF), "quick", TINY, 0)
    assert dataset.train.paths == alone.open().train.paths
    data = {**TINY.version(0), "labelled": city.version(100)}
    assert job.inputs()["data"] == data
    assert alone.inputs()["data"] == TINY.version(0)
    trial(row)
    (outcome,) = make(processes=1)
    result = json.loads(outcome.job.file.read_text())
    assert result["data"]["dials"]["camera_shift"] == Dials().camera_shift
    assert result["data"]["labelled"]["seed"] == 100
    assert result["data"]["labelled"]["dials"]["camera_shift"] == 0.9
    assert result["dataset"]["sha256"] == outcome.job.open().fingerprint()


def test_a_row_repeats_a_training_in_the_same_city(trial):
    # Of a city that other tests draw, too.
    first = Job("trial", Row("first", "direct", SMALL), "quick", TINY, 100)
    again = Row("again", "direct", {**SMALL, "seed": 200})
    second = dataclasses.replace(first, row=again)
    assert first.row.config("quick", 100).seed == 100
    assert again.config("quick", 100).seed == 300
    then, now = first.inputs(), second.inputs()
    assert [name for name in now if now[name] != then[name]] == ["config"]
    assert second.open().fingerprint() == first.open().fingerprint()
    assert "-s100-" in second.file.name  # compared with the other rows of its city
    trial(again)
    (outcome,) = make(processes=1)
    result = json.loads(outcome.job.file.read_text())
    assert result["config"]["seed"] == 200


def test_a_row_with_dials_needs_the_city(tmp_path):
    row = Row("turned", "direct", SMALL, dials={"camera_shift": 0.9})
    job = Job("trial", row, "quick", Data(kind="market1501", root=tmp_path), 0)
    with pytest.raises(ReIDError, match="asks for cities of its own \\(camera_shift"):
        job.inputs()


def test_data_with_other_dials_has_other_files():
    assert Data("tiny").name == "tiny"
    other = Data("tiny", dials=Dials(camera_shift=0.9, occlusion=0.0))
    assert other.name == "tiny-camera_shift-0.9-occlusion-0"


def test_rows_of_a_table_are_different_scores():
    """Two rows that read the same of one run would be one row under two names."""
    for table, planned in plans().items():
        seen = {}
        for row in planned.rows:
            score = Job(table, row, "ablation", Data(), 0).file, row.reads
            assert score not in seen, f"{table}: {row.name} is {seen[score]}"
            seen[score] = row.name


def test_every_published_result_is_current_and_belongs_to_a_row():
    known = {}
    for table, planned in plans().items():
        every = itertools.product(planned.rows, planned.presets, range(3))
        for row, preset, seed in every:
            job = Job(table, row, preset, Data.of(table), seed)
            known[job.file] = job
    published = [f for name in RECIPES for f in (ROOT / "results" / name).glob("*")]
    assert len(published) > 250
    stale = {}
    for file in published:
        assert file in known, f"{file.name} belongs to no row: remove it"
        stale[file.name] = known[file].stale(known[file].read())
    assert {name: why for name, why in stale.items() if why} == {}


def test_tables_that_share_a_row_share_its_run():
    def config(table, name):
        (row,) = (row for row in plans()[table].rows if row.name == name)
        assert not row.dials
        return row.config("ablation", 0)

    full = config("CALR-T3", "both, weights")
    assert full == config("CALR-T4", "cosine") == config("CALR-T5", "beta 1.0")
    assert full == config("CALR-T1", "CALR, GeM") == config("CALR-F6", "CALR, cosine")
    plain = config("CALR-T3", "Baseline")
    assert plain == config("CALR-F6", "Baseline") == config("CALR-T1", "Baseline, GeM")
    assert plain == config("CALR-SHIFT", "shift 0.45, baseline")
    refined = config("CALR-T3", "label refinement")
    assert refined == config("CALR-SHIFT", "shift 0.45, refined")
    assert config("CALR-T3", "label refinement, weights") == config(
        "CALR-T5", "beta 0.0"
    )
