"""The command line: its commands, and the one-line message of each error."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import fork, full_disk, wait_until, without_times

import reidlib
from reidlib.cli import main
from reidlib.data import JUNK, UNKNOWN, open_dataset
from reidlib.deploy import load_embeddings
from reidlib.recipes import RECIPES
from reidlib.recipes.steps import result_of
from reidlib.synthcity import SIZES, Size, ensure_synthcity, make_synthcity

QUICK = [
    *("--preset", "quick", "--height", "64", "--width", "32", "--device", "cpu"),
    *("--backbone", "tiny", "--frozen-stages", "4", "--epochs", "1"),
    *("--iterations", "3"),
]
VILLAGE = Size(20, 10, 6, 80, 160, 40, 60, 2, 4)


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory) -> Path:
    """The folder of a city of 30 people, whose images are few."""
    return make_synthcity(
        tmp_path_factory.mktemp("village") / "city", VILLAGE, workers=1, progress=False
    )


@pytest.fixture(scope="module")
def tiny(tiny_root):
    return open_dataset("synthcity", tiny_root)


@pytest.fixture(scope="module")
def trained(tiny_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ["train", "baseline", *QUICK, "--root", str(tiny_root)]
    assert main([*words, "--out", str(folder)]) == 0
    return folder


def test_train_writes_a_result(trained):
    result = json.loads((trained / "result.json").read_text())
    assert result["status"] == "complete"
    assert result["config"]["height"] == 64
    assert result["metrics"]["num_queries"] > 0


def test_evaluate_repeats_the_figures_of_the_run(trained, tiny_root, tmp_path, capsys):
    out = tmp_path / "figures.json"
    picture = tmp_path / "retrievals.png"
    words = ["evaluate", str(trained), "--root", str(tiny_root), "--device", "cpu"]
    assert main([*words, "--json", str(out), "--figure", str(picture)]) == 0
    told = json.loads(out.read_text())
    result = json.loads((trained / "result.json").read_text())
    assert told["mAP"] == pytest.approx(result["metrics"]["mAP"], abs=1e-6)
    assert f"{100 * told['mAP']:.1f} %" in capsys.readouterr().out
    from PIL import Image

    with Image.open(picture) as image:
        assert image.width > 400
    assert main([*words, "--rerank", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["mAP"] != told["mAP"]


def test_data_make_and_check(tmp_path, monkeypatch, capsys):
    # In this process, which draws it; the plan of this seed is kept there.
    monkeypatch.setitem(SIZES, "tiny", Size(4, 4, 3, 10, 20, 10, 20, 2, 3))
    path = tmp_path / "city"
    words = ["data", "make", "synthcity", str(path), "--size", "tiny", "--seed", "987"]
    words += ["--workers", "1"]
    assert main(words) == 0
    sheet = tmp_path / "sheet.png"
    assert main(["data", "check", str(path), "--sheet", str(sheet)]) == 0
    assert "contact sheet" in capsys.readouterr().out
    assert sheet.stat().st_size > 1000
    assert main(words) == 2  # never over what is there
    assert "reidlib: " in capsys.readouterr().err


def failing(words, capsys):
    """Return the one line of a command that must fail with status 2."""
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    told = [line for line in error if line.startswith("reidlib: ")]
    assert len(told) == 1, error
    return told[0]


def test_a_missing_folder(tmp_path, capsys):
    line = failing(["train", "direct", "--root", tmp_path / "none"], capsys)
    assert str(tmp_path / "none") in line


def test_an_empty_folder(tmp_path, capsys):
    assert "is empty" in failing(["train", "direct", "--root", tmp_path], capsys)


def test_a_folder_of_another_layout(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    words = ["train", "direct", "--data", "market1501", "--root", tmp_path]
    assert "bounding_box_train" in failing(words, capsys)


def test_real_data_needs_a_root(capsys):
    line = failing(["train", "direct", "--data", "msmt17"], capsys)
    assert "--root" in line


def test_a_value_out_of_range(tiny_root, capsys):
    words = ["train", "baseline", "--root", tiny_root, "--eps", "1.5"]
    assert "eps is 1.5" in failing(words, capsys)
    words = ["train", "baseline", "--root", tiny_root, "--k1", "-2"]
    assert "k1 is -2" in failing(words, capsys)


def test_a_source_that_cannot_be_adapted_from(tiny_root, tmp_path, capsys):
    words = ["train", "aff_scl", "--preset", "quick", "--root", tiny_root]
    adapt = [*words, "--adaptation", "joint"]
    line = failing([*adapt, "--source-root", tiny_root], capsys)
    assert "source and target are the same data" in line
    line = failing([*adapt, "--out", tmp_path / "run"], capsys)
    assert "--source-data and --source-root" in line
    # Wrong words are said before any data are opened, let alone drawn.
    nowhere = ["--root", tmp_path / "nowhere"]
    line = failing([*adapt, *nowhere, "--source-data", "market1501"], capsys)
    assert "needs --source-root" in line
    words = ["train", "baseline", *nowhere, "--source-root", tiny_root]
    assert "aff_scl does" in failing(words, capsys)
    words = ["train", "aff_scl", *nowhere, "--source-root", tiny_root]
    assert "adaptation is 'none'" in failing(words, capsys)


def test_an_adapted_run_names_its_source(tiny_root, tmp_path, capsys):
    city, out = ensure_synthcity("tiny", 100, progress=False), tmp_path / "run"
    words = ["train", "aff_scl", *QUICK, "--root", str(tiny_root), "--out", str(out)]
    words += ["--source-root", str(city), "--adaptation", "source"]
    assert main(words) == 0
    result = json.loads((out / "result.json").read_text())
    source = open_dataset("synthcity", city)
    assert result["source"]["sha256"] == source.fingerprint()
    assert result["dataset"]["sha256"] != source.fingerprint()
    # Its source is not needed to score it.
    capsys.readouterr()
    assert main(["evaluate", str(out), "--device", "cpu"]) == 0
    assert f"{100 * result['metrics']['mAP']:.1f} %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("baseline --epsilon 0.5", "Unrecognized options: --epsilon"),
        ("baseline --epochs many", "--epochs: invalid literal"),
        ("baseline --epochs 3.5", "--epochs: invalid literal"),
        ("baseline --clustering optics", "invalid choice 'optics'"),
        ("baseline --preset tiny", "argument --preset: invalid choice: 'tiny'"),
        ("baseline --seed -1", "seed is -1; it must be at least 0"),
        ("baseline --seed 4294967296", "seed is 4294967296; it must be at most"),
        ("baseline --lr-gamma nan", "lr_gamma is nan"),
        ("baseline --num-labels 1 --num-instances 1", "batch norm needs two"),
        ("calr --local.num-labels 1 --local.num-instances 1", "batch norm needs two"),
        ("calr --local.num-clusters inf", "num_clusters is inf"),
        ("baseline --frozen-stages 99", "frozen_stages is 99; tiny has 5 stages"),
        ("baseline --backbone resnet50 --weights none.pth", "no weights at none.pth"),
        ("baseline --seed 1_0", "--seed is '1_0'; write a number without underscores"),
        ("baseline --lr=٣", "--lr is '٣'; write a number without underscores, in"),
        ("baseline --lr=1_0e-3", "--lr is '1_0e-3'; write a number without"),
        ("calr --local.num-clusters 1_0", "--local.num-clusters is '1_0'; write"),
        ("baseline --temperature 1e-320", "temperature is 1e-320; give 0, or 1e-20"),
        ("cals --bands 5", "a map of 4 x 2 places cannot be cut into 5 bands"),
        ("baseline --device cuda:99", "device 'cuda:99' cannot be used here"),
        ("baseline --device cpu:0", "device 'cpu:0' cannot be used here"),
    ],
)
def test_a_wrong_setting_is_one_line_before_any_data_are_opened(
    words, message, tmp_path, capsys
):
    recipe, *rest = words.split()
    nowhere = ["--root", tmp_path / "nowhere", "--out", tmp_path / "run"]
    told = failing(["train", recipe, *QUICK, *nowhere, *rest], capsys)
    assert message in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["reproduce", "baseline", "--device", "cuda:99"],
        ["reproduce", "--verify", "--device", "cuda:99"],
        ["evaluate", "nowhere", "--device", "cuda:99"],
        ["reproduce", "baseline", "--processes", "-1"],
        ["reproduce", "baseline", "--seeds", "1000000000"],
        ["data", "make", "synthcity", "city", "--size", "huge"],
        ["data", "make", "synthcity", "city", "--seed", "-1"],
        ["data", "make", "synthcity", "city", "--workers", "1000000"],
        ["data", "make", "synthcity", "city", "--seed", "1_0"],
        ["reproduce", "baseline", "--seeds", "1_0"],
        ["detect", "v.avi", "--out", "x", "--min-score", "0.1_0"],
        ["gallery", "calibrate", "seen", "x.npz", "--rate", "٠.١"],
        ["evaluate", "nowhere", "--epsilon", "1"],
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_one_line_before_a_city_is_drawn(
    words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path / "results"))
    wrong = [word for word in words if word.startswith("--")][-1]
    assert wrong.lstrip("-") in failing(words, capsys)
    assert not any(tmp_path.iterdir())


def test_an_unwritable_output_folder(tiny_root, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["train", "direct", *("--preset", "quick"), "--root", tiny_root]
    line = failing([*words, "--out", tmp_path / "file" / "run"], capsys)
    assert "cannot write" in line
    assert "--out" in line


def crops(folder, names=("a.jpg", "b.jpg", "c.jpg")):
    from PIL import Image

    folder.mkdir()
    for name in names:
        Image.new("RGB", (32, 64), "grey").save(folder / name)
    return folder


def write_index(folder, text):
    (folder / "index.csv").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"these are words", "not an image"), (b"", "0 bytes"), (None, "damaged")],
    ids=["text", "empty", "truncated"],
)
def test_an_image_that_is_none(tmp_path, capsys, content, reason):
    folder = write_index(crops(tmp_path / "crops"), "path\na.jpg\nb.jpg\nc.jpg\n")
    whole = (folder / "b.jpg").read_bytes()
    (folder / "b.jpg").write_bytes(whole[:-200] if content is None else content)
    line = failing(["train", "direct", "--root", folder], capsys)
    assert reason in line
    assert "b.jpg" in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file\na.jpg\n", "path"),
        ("path,pid\na.jpg,anna\n", "anna"),
        ("path\na.jpg\na.jpg\n", "a.jpg"),
        ("path\na.jpg\n", "1 training images"),
    ],
    ids=["column", "number", "duplicate", "one-image"],
)
def test_an_index_that_cannot_be_read(tmp_path, capsys, text, reason):
    folder = write_index(crops(tmp_path / "crops"), text)
    words = ["train", "baseline", "--root", folder, "--out", tmp_path / "run"]
    assert reason in failing(words, capsys)


def test_a_device_that_is_not_there(tiny_root, tmp_path, capsys):
    words = ["train", "direct", "--root", tiny_root, "--device", "abacus"]
    line = failing([*words, "--out", tmp_path / "run"], capsys)
    assert "device 'abacus' cannot be used here" in line


def test_a_full_disk(tiny_root, tmp_path, capsys):
    words = ["train", "direct", "--preset", "quick", "--root", tiny_root]
    words += ["--backbone", "tiny", "--height", "64", "--width", "32"]
    words += ["--out", tmp_path / "run", "--device", "cpu"]
    with full_disk(100_000):  # the checkpoint is larger
        assert "cannot write" in failing(words, capsys)


def test_a_finished_run_is_not_overwritten(trained, tiny_root, capsys):
    before = (trained / "result.json").read_bytes()
    words = ["train", "baseline", *QUICK, "--root", tiny_root, "--out", trained]
    assert "already holds a run" in failing(words, capsys)
    assert "another config" in failing([*words, "--resume", "--lr", "0.1"], capsys)
    assert (trained / "result.json").read_bytes() == before


def test_a_run_is_scored_on_its_own_data_and_on_no_other_unasked(
    trained, tmp_path, capsys
):
    assert main(["evaluate", str(trained), "--device", "cpu"]) == 0
    result = json.loads((trained / "result.json").read_text())
    assert f"{100 * result['metrics']['mAP']:.1f} %" in capsys.readouterr().out
    moved = shutil.copytree(trained, tmp_path / "moved")
    manifest = json.loads((moved / "manifest.json").read_text())
    other = str(ensure_synthcity("tiny", 100, progress=False))
    for changed in ({"data": "auto", "root": other}, {"root": str(tmp_path / "gone")}):
        options = manifest["options"] | changed
        (moved / "manifest.json").write_text(
            json.dumps(manifest | {"options": options})
        )
        line = failing(["evaluate", moved, "--device", "cpu"], capsys)
        assert str(changed["root"]) in line
    # Written without the command line: nobody knows which data they were.
    del manifest["options"]
    (moved / "manifest.json").write_text(json.dumps(manifest))
    line = failing(["evaluate", moved, "--device", "cpu"], capsys)
    assert "does not say where its data are" in line
    assert "--root" in line


def test_a_recipe_must_be_named(capsys):
    assert "no recipe is given" in failing(["train"], capsys)
    assert main(["train", "--help"]) == 0
    assert "baseline" in capsys.readouterr().out


def test_resume_needs_a_folder_with_a_run(tiny_root, trained, tmp_path, capsys):
    words = ["train", "baseline", "--root", tiny_root, "--resume"]
    assert "--resume needs --out" in failing(words, capsys)
    assert "there is no run in" in failing(["resume", tmp_path / "none"], capsys)
    (file := tmp_path / "notes.txt").write_text("")
    assert f"there is no run in {file};" in failing(["resume", file], capsys)
    words = ["train", "calr", "--resume", "--out", trained]
    assert "another recipe (baseline there, calr now)" in failing(words, capsys)
    words = ["train", "--preset", "course", "--resume", "--out", trained]
    assert "another preset (quick there, course now)" in failing(words, capsys)


def test_a_run_of_python_does_not_say_where_its_data_are(
    trained, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "result.json").unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["options"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr("reidlib.synthcity.ensure_synthcity", None)  # draws no city
    for words in (["resume", run], ["train", "--resume", "--out", run]):
        line = failing([*words, "--device", "cpu"], capsys)
        assert f"{run} does not say where its data are; name them with --root" in line


def test_a_complete_run_that_is_resumed_changes_nothing(trained, capsys):
    def content():
        return [(f, f.stat().st_mtime_ns, f.read_bytes()) for f in trained.iterdir()]

    before = content()
    for words in (["resume", str(trained)], ["train", "--resume", f"--out={trained}"]):
        assert main(words) == 0
        told = capsys.readouterr().out
        assert told.startswith(f"run: {trained} (complete)")
        assert "mAP" in told
    assert content() == before


def test_a_complete_run_is_not_resumed_on_other_data(trained, tmp_path, capsys):
    line = failing(["resume", trained, "--root", tmp_path / "none"], capsys)
    assert f"there is no folder {tmp_path / 'none'}" in line


def test_a_run_of_python_is_scored_on_data_that_are_named(
    trained, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(trained, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["options"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr("reidlib.synthcity.ensure_synthcity", None)  # draws no city
    line = failing(["evaluate", run, "--device", "cpu"], capsys)
    assert f"{run} does not say where its data are; name them with --root" in line


def test_runs_without_a_folder_get_one_each(tiny_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    city = tmp_path / "My city"
    city.symlink_to(tiny_root)
    direct = ["train", "direct", "--preset", "quick", "--backbone", "tiny"]
    direct += ["--height", "32", "--width", "16", "--device", "cpu", "--quiet"]
    for number, root in (("1", str(city)), ("2", "~/My city")):
        assert main([*direct, f"--root={root}"]) == 0
        told = capsys.readouterr()
        folder = f"runs/direct-quick-My-city-s0-{number}"
        assert told.out.startswith(f"run: {folder}\n")
        assert told.err == ""  # --quiet
        assert (tmp_path / folder / "result.json").is_file()
    # The shell leaves ~ alone after =.
    figures = ["--json=~/figures.json", "--device=cpu"]
    assert main(["evaluate", f"~/{folder}", *figures]) == 0
    assert (tmp_path / "figures.json").is_file()
    assert not (tmp_path / "~").exists()


def test_a_checkpoint_that_is_none(tmp_path, capsys):
    assert "no checkpoint at" in failing(["evaluate", tmp_path / "none"], capsys)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    assert "damaged" in failing(["evaluate", tmp_path / "x.safetensors"], capsys)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"recipe": 1}'])
@pytest.mark.parametrize("name", ["last.safetensors", "manifest.json"])
def test_a_run_that_is_damaged(trained, tmp_path, capsys, name, content):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / name).write_bytes(content)
    line = failing(["evaluate", run, "--device", "cpu"], capsys)
    assert str(run / name) in line
    assert "damaged" in line
    assert ";" in line


def test_a_synthcity_that_is_damaged(trained, tiny_root, tmp_path, capsys):
    city = shutil.copytree(tiny_root, tmp_path / "city")
    for file in sorted((city / "query").iterdir())[2:]:
        file.unlink()
    for words in (["evaluate", trained], ["train", "direct", "--preset", "quick"]):
        line = failing([*words, "--root", city], capsys)
        assert f"query has 2 of {VILLAGE.queries} images" in line
        assert "market-style" in line


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_help_of_a_recipe_describes_its_presets(recipe, capsys):
    with pytest.raises(SystemExit) as left:
        main(["train", recipe, "--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    listed = told.partition("presets:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(RECIPES[recipe].PRESETS)
    assert all(len(line.split()) > 5 for line in listed)
    assert "--unreadable" in told
    assert "skip them with a warning" in " ".join(told.split())


def test_a_terminal_that_knows_ascii_alone(monkeypatch):
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", file)
    assert main(["train", "direct", "--root", "/stra\u00dfe"]) == 2
    file.flush()
    assert rb"/stra\xdfe" in file.buffer.getvalue()


def test_a_reader_that_has_read_enough(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert main(["report", "baseline"]) == 141
    assert capfd.readouterr().err == ""


def test_help_that_cannot_be_written(monkeypatch, capsys):
    with Path("/dev/full").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert "No space left" in failing(["--help"], capsys)
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            file.close()


def test_a_current_folder_that_was_removed(tmp_path, monkeypatch, capsys):
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "the current folder is gone" in failing(["evaluate", "x"], capsys)


def test_a_checkpoint_of_another_model(trained, tmp_path, capsys):
    from reidlib.engine import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(trained / "last.safetensors")
    checkpoint["config"]["backbone"] = "resnet50"
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, checkpoint)
    assert "another model" in failing(["evaluate", path], capsys)


def test_settings_are_listed_with_their_meaning(capsys):
    with pytest.raises(SystemExit) as left:
        main(["train", "baseline", "--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    for word in (
        "--preset",
        "--eps",
        "--temperature",
        "Temperature of the contrastive",
    ):
        assert word in told


def test_a_run_that_is_stopped_and_killed_is_resumed_to_the_numbers_of_a_whole_one(
    tiny_root, tmp_path
):
    """By Ctrl-C, and in the middle of an epoch by what no program can catch."""
    words = ["train", "baseline", *QUICK, "--root", str(tiny_root), "--epochs", "20"]
    whole, cut, told = (tmp_path / name for name in ("whole", "cut it", "told"))

    def stopped(number, words):
        process = fork(main, words, told=told)
        before = epochs_in(cut)
        deadline = time.monotonic() + 300
        while epochs_in(cut) <= before:
            assert process.is_alive(), told.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, number)
        process.join()
        assert not (cut / "result.json").exists(), "it was done before it was stopped"
        return process.exitcode, json.loads((cut / "manifest.json").read_text())[
            "status"
        ]

    first = [*words, "--out", str(cut)]
    assert stopped(signal.SIGINT, first) == (130, "interrupted")
    # The way back works as it is printed.
    printed = told.read_text().partition("; continue: ")[2].splitlines()[0]
    program, *back = shlex.split(printed)
    assert program == "reidlib"
    assert stopped(signal.SIGKILL, back) == (-signal.SIGKILL, "running")
    assert "Traceback" not in told.read_text()
    assert main(["train", "--resume", "--out", str(cut)]) == 0
    assert not list(cut.glob(".*partial*"))
    assert (cut / "log.txt").read_text().count("resumed after epoch") == 2
    assert main([*words, "--out", str(whole)]) == 0
    one, two = result_of(whole), result_of(cut)
    assert one["metrics"] == two["metrics"]
    assert without_times(one["epochs"]) == without_times(two["epochs"])


def epochs_in(folder):
    """Return how many epochs of a run are complete."""
    file = folder / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_table_without_results_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path / "results"))
    words = ["baseline", "--preset", "quick", "--size", "tiny"]
    html = tmp_path / "table.html"
    assert main(["report", *words, "--html", str(html)]) == 0
    told = capsys.readouterr().out
    assert "missing: `reidlib reproduce baseline --preset quick --size tiny`" in told
    page = html.read_bytes().decode("utf-8")
    assert page.startswith('<!doctype html>\n<meta charset="utf-8">')
    assert '<div class="report"' in page


def test_tables_refuse_what_cannot_be_meant(tmp_path, capsys):
    told = failing(["reproduce", "baseline", "--seeds", "0"], capsys)
    assert "a table needs one seed or more" in told
    told = failing(["reproduce", "baseline", "--root", tmp_path], capsys)
    assert "--data and --root belong together" in told
    assert "there is" in failing(["report", "T99"], capsys)
    # A drawing: it will never have a plan.
    assert "no plan for 'AFF-F2'" in failing(["reproduce", "AFF-F2"], capsys)


def test_the_names_on_the_command_line_are_those_of_the_library(capsys):
    from reidlib import cli
    from reidlib.recipes import RECIPES

    assert set(cli._RECIPES) == set(RECIPES)
    presets = {name for recipe in RECIPES.values() for name in recipe.PRESETS}
    assert set(cli._PRESETS) == presets
    told = failing(["train", "baseline", "--preset", "veri"], capsys)
    assert "baseline has no preset 'veri'; choose from quick" in told


def index_of(city, folder, columns="path,pid,camid,split", unknown=(), splits=()):
    """Write an index of a data set, with the columns in ``unknown`` left empty."""
    lines = [columns]
    for split in splits or ("query", "gallery"):
        table = getattr(city, split)
        for row in range(len(table)):
            cells = [table.file(row), table.pids[row], table.camids[row], split]
            if split == "query":
                cells = ["" if n in unknown else cells[n] for n in range(4)]
            lines.append(",".join(str(cell) for cell in cells))
    folder.mkdir()
    return write_index(folder, "\n".join(lines))


def test_unknown_cameras_are_said_beside_the_scores(trained, tiny, tmp_path, capsys):
    folder = index_of(tiny, tmp_path / "index", unknown=(2,))
    words = ["--root", str(folder), "--device", "cpu"]
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(trained), *words, "--json", str(out)]) == 0
    told = f"{len(tiny.query)} images of query and gallery have no camera: matches of"
    said = capsys.readouterr()
    assert told in said.out
    assert "camera" not in said.err  # and only there
    assert json.loads(out.read_text())["num_without_camera"] == len(tiny.query)


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line(trained, tiny_root, tmp_path, capsys):
    folder = shutil.copytree(tiny_root, tmp_path / "market")
    (folder / "manifest.json").unlink()
    (folder / "query" / "notes.docx").touch()
    assert main(["evaluate", str(trained), "--root", str(folder)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reidlib: warning: ")
    assert "notes.docx" in line


def test_people_without_identity_are_looked_for(trained, tiny, tmp_path, capsys):
    folder = index_of(tiny, tmp_path / "index", unknown=(1,))
    words = ["evaluate", trained, "--root", folder, "--device", "cpu"]
    assert "no query has an identity" in failing(words, capsys)
    picture = tmp_path / "found.png"
    assert main([str(word) for word in [*words, "--figure", picture]]) == 0
    assert "no query has an identity" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
    words += ["--figure", picture, "--json", tmp_path / "scores.json"]
    assert "no query has an identity" in failing(words, capsys)


def test_a_check_keeps_its_report_and_every_sheet(tiny_root, tmp_path, capsys):
    words = ["data", "check", str(tiny_root), "--sheet"]
    assert main([*words, str(tmp_path / "none" / "sheet.png")]) == 2
    told = capsys.readouterr()
    assert "no problems" in told.out
    assert "the contact sheet cannot be written" in told.err
    for ending in (".psd", ".xbm"):  # is read only; has no colours
        assert main([*words, str(tmp_path / f"sheet{ending}")]) == 2
        told = capsys.readouterr()
        assert "no problems" in told.out
        assert "give a file that ends in .jpg or .png" in told.err
    sheet = tmp_path / "sheet.png"
    sheet.write_text("a holiday")
    assert "File exists" in failing([*words, sheet], capsys)
    assert sheet.read_text() == "a holiday"


def test_names_that_are_not_utf8_are_refused_in_every_option(tiny_root, capsys):
    name = os.fsdecode(b"caf\xe9")
    for words in (
        ["train", "direct", "--root", name],
        ["train", "direct", "--root", tiny_root, "--out", name],
        ["evaluate", name],
        ["data", "check", tiny_root, "--sheet", f"{name}.png"],
    ):
        assert "is not UTF-8; rename it" in failing(words, capsys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["baseline", "--clustering", "infomap"], "infomap is not installed"),
        (["calr", "--local-labels", "/gone/labels"], "no checkpoint at /gone/labels"),
    ],
    ids=["a package", "a file"],
)
def test_what_is_missing_is_said_before_a_city_is_drawn(
    words, told, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path))
    if "infomap" in words:
        monkeypatch.setitem(sys.modules, "infomap", None)  # as if not installed
    assert told in failing(["train", *words, "--preset", "quick"], capsys)
    assert not any(tmp_path.iterdir())


def test_nothing_is_printed_where_the_shell_has_closed_the_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["report", "baseline"]) == 0


def draw_first(words: list[str]) -> int:
    """Run the command line where Matplotlib has not yet looked at its settings."""
    assert "matplotlib" not in sys.modules
    return main(words)


def test_a_figure_is_drawn_whatever_backend_is_set(trained, tmp_path, monkeypatch):
    picture = tmp_path / "found.png"
    words = ["evaluate", str(trained), "--figure", str(picture), "--device", "cpu"]
    monkeypatch.setenv("MPLBACKEND", "bogus")
    process = fork(draw_first, words, told=tmp_path / "told")
    process.join()
    assert process.exitcode == 0, (tmp_path / "told").read_text()
    assert picture.stat().st_size > 1000


def test_settings_that_are_damaged_name_the_file(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    file = run / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["config"]["seed"] = []
    file.write_text(json.dumps(manifest))
    line = failing(["resume", run], capsys)
    assert f"{file} is damaged (seed is []" in line


def group(process):
    """The processes of a group, by number."""
    told = subprocess.run(["pgrep", "-g", str(process)], capture_output=True, text=True)
    return told.stdout.split()


def test_a_drawing_that_is_ended_leaves_no_worker_behind(tmp_path):
    words = [
        "data",
        "make",
        "synthcity",
        tmp_path / "city",
        "--workers",
        "2",
        "--quiet",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "reidlib.cli", *map(str, words)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: len(group(process.pid)) >= 3)
        process.terminate()
        assert process.wait(60) == 130
        assert wait_until(lambda: not group(process.pid))
    finally:
        if group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "city").exists()


def test_images_are_indexed_and_embedded(trained, tiny_root, tmp_path, capsys):
    crops = tmp_path / "crops"
    city = open_dataset("synthcity", tiny_root)
    for row in range(6):
        file = city.query.file(row)
        person = crops / f"{city.query.pids[row]}"
        person.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, person)
    words = ["index", "folder-per-person", str(crops), "--camera", "_c([0-9]+)"]
    assert main(words) == 0
    assert (
        f"6 images of {len(set(city.query.pids[:6]))} people" in capsys.readouterr().out
    )
    out, told = tmp_path / "x.npz", tmp_path / "x.json"
    words = ["embed", str(crops), "--model", str(trained), "--out", str(out)]
    assert main([*words, "--device", "cpu", "--json", str(told)]) == 0
    found = load_embeddings(out)
    assert json.loads(told.read_text())["fingerprint"] == found.fingerprint
    assert sorted(found.table.pids) == sorted(city.query.pids[:6])
    reid = reidlib.load(trained, device="cpu")
    assert torch.equal(found.features, reid.extract(found.table))
    assert "already exists" in failing([*words], capsys)
    # A folder of images and one image, without an index.
    flat = next(folder for folder in crops.iterdir() if folder.is_dir())
    words = ["embed", str(flat), "--model", str(trained), "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "flat.npz")]) == 0
    assert (load_embeddings(tmp_path / "flat.npz").table.pids == UNKNOWN).all()
    (tmp_path / "none").mkdir()
    words = [
        "embed",
        tmp_path / "none",
        "--model",
        trained,
        "--out",
        tmp_path / "y.npz",
    ]
    assert "holds no image" in failing(words, capsys)


def test_where_features_go_is_looked_at_before_they_are_extracted(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("reidlib.trained.TrainedModel.extract", None)
    crops = tmp_path / "crops"
    crops.mkdir()
    Image.new("RGB", (4, 8)).save(crops / "a.png")
    words = ["embed", crops, "--model", trained, "--out"]
    assert "does not end in .npz" in failing([*words, tmp_path / "x.npy"], capsys)
    line = failing([*words, tmp_path / "none/x.npz"], capsys)
    assert f"there is no folder {tmp_path / 'none'}" in line
    (crops / "index.csv").write_text("path,file\na.png,x\n")
    line = failing([*words, tmp_path / "x.npz"], capsys)
    assert "column 'file', a name that the file needs" in line
    line = failing(["embed", tmp_path / "no.png", *words[2:], "x.npz"], capsys)
    assert f"there is no {tmp_path / 'no.png'}; correct the path" in line


@pytest.mark.filterwarnings("default:.* cannot be read and were left out")
def test_images_that_cannot_be_read_are_left_out_when_asked(trained, tmp_path, capsys):
    crops = tmp_path / "crops"
    crops.mkdir()
    Image.new("RGB", (4, 8)).save(crops / "a.png")
    (crops / "b.png").write_bytes(b"no image")
    out = tmp_path / "x.npz"
    words = ["embed", crops, "--model", trained, "--out", out, "--device", "cpu"]
    assert "1 images of" in failing(words, capsys)
    assert main([str(word) for word in [*words, "--unreadable", "skip"]]) == 0
    assert "1 images of" in capsys.readouterr().err
    assert load_embeddings(out).table.paths == (str(crops / "a.png"),)


def test_all_splits_of_a_data_set_are_embedded(trained, tiny_root, tmp_path):
    out = tmp_path / "city.npz"
    words = ["embed", str(tiny_root), "--data", "synthcity", "--model", str(trained)]
    assert main([*words, "--out", str(out), "--device", "cpu"]) == 0
    found = load_embeddings(out)
    city = open_dataset("synthcity", tiny_root, keep_junk=True)
    assert (found.table.pids == JUNK).sum() == VILLAGE.junk
    splits = found.table.attributes["split"]
    assert found.table.paths == city.train.paths + city.query.paths + city.gallery.paths
    assert (splits == "query").sum() == len(city.query)


def test_a_file_of_another_run_is_not_taken_for_that_of_the_run(
    trained, tmp_path, capsys
):
    run = shutil.copytree(trained, tmp_path / "run")
    for name in ("result.json", "manifest.json"):
        own = (run / name).read_text()
        foreign = {"version": 99}, {"config": {**json.loads(own)["config"], "seed": 9}}
        recipe = "direct" if name == "result.json" else "calr"
        for change in ({"recipe": recipe}, *foreign):
            other = json.loads(own) | change
            (run / name).write_text(json.dumps(other))
            line = failing(["resume", run], capsys)
            assert "result.json is of a run with another" in line, line
            assert "remove it and resume the run" in line
        (run / name).write_text(own)
    assert main(["resume", str(run)]) == 0
    (run / "result.json").write_text("{")
    assert "result.json is damaged" in (line := failing(["resume", run], capsys))
    assert "remove it and resume the run" in line


def test_options_are_written_in_full(trained, capsys):
    assert "--seed" in failing(["reproduce", "AFF-F4", "--seed", "3"], capsys)
    assert "--re" in failing(["evaluate", trained, "--re"], capsys)
    assert "--siz" in failing(["data", "make", "synthcity", "x", "--siz=tiny"], capsys)
    assert "--dev" in failing(["resume", trained, "--dev", "cpu"], capsys)
    assert "--iter" in failing(["train", "baseline", "--iter", "3"], capsys)


@pytest.mark.parametrize("recipe", ["direct", "aff_scl", "cals", "qafm"])
def test_a_run_in_mixed_precision_is_scored_in_it(recipe, tiny_root, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "figures.json"
    words = ["train", recipe, "--preset", "quick", "--device", "cpu", "--quiet"]
    words += ["--backbone", "tiny", "--height", "64", "--width", "32"]
    words += ["--root", str(tiny_root), "--precision", "bf16-mixed"]
    if recipe != "direct":
        words += ["--epochs", "1", "--iterations", "2", "--frozen-stages", "1"]
    if recipe == "qafm":
        words += ["--quality-backbone", "tiny", "--attribute-epochs", "0"]
        # See tests/models/test_types.py for why it is no smaller.
        words += ["--quality-height", "128", "--quality-width", "64"]
        words += ["--height", "128", "--width", "64"]
    assert main([*words, "--out", str(run)]) == 0
    words = ["evaluate", str(run), "--device", "cpu", "--json", str(out)]
    assert main(words) == 0
    assert "in bf16-mixed" in capsys.readouterr().out
    told, trained = json.loads(out.read_text()), result_of(run)["metrics"]
    for name in ("mAP", "mINP", "cmc"):
        assert told[name] == pytest.approx(trained[name], abs=1e-9)


def test_people_are_cut_out_of_pictures(tmp_path, capsys):
    from PIL import Image

    from reidlib.synthcity import draw_frame, plan_world

    world = plan_world("tiny")
    for number in (0, 1):
        folder = tmp_path / f"camera{number}"
        folder.mkdir()
        people = [world.identity(3 * number + k) for k in (1, 2, 3)]
        frame, _ = draw_frame(world.cameras[number], people, seed=3)
        Image.fromarray(frame).save(folder / "frame.png")
    words = ["detect", tmp_path / "camera0", tmp_path / "camera1"]
    out = ["--out", tmp_path / "crops"]
    told = tmp_path / "told.json"
    more = ["--camera", 5, 7, "--min-score", 0.2, "--json", told]
    assert main([str(word) for word in (*words, *out, *more)]) == 0
    printed = capsys.readouterr().out
    about = json.loads(told.read_text())
    assert about["people"] >= 4
    assert (about["frames"], about["cameras"]) == (2, 2)
    assert f"{about['people']} crops of people in 2 frames of 2 cameras" in printed
    line = failing([*words, *out], capsys)
    assert "index.csv already exists; give another folder" in line
    line = failing([*words, "--out", tmp_path / "x", "--detector", "yolo9"], capsys)
    assert "there is no detector 'yolo9'" in line


def test_a_gallery_is_filled_searched_and_emptied(trained, tiny_root, tmp_path, capsys):
    pytest.importorskip("lancedb", reason="the extra gallery is not installed")
    features = tmp_path / "seen.npz"
    crops = tmp_path / "crops"
    crops.mkdir()
    city = open_dataset("synthcity", tiny_root)
    for row in range(40):
        shutil.copy(city.query.file(row), crops)
    words = ["index", "flat", str(crops), "--camera", "_c([0-9]+)"]
    assert main(words) == 0
    model = ["--model", str(trained), "--device", "cpu"]
    assert main(["embed", str(crops), *model, "--out", str(features)]) == 0
    gallery = str(tmp_path / "gallery")

    def told(*words):
        capsys.readouterr()
        assert main(["gallery", words[0], gallery, *map(str, words[1:])]) == 0
        return capsys.readouterr().out

    start = ["--start", "2026-05-01T08:00+02:00"]
    assert "40 people added, 40 in all" in told("add", features, *start)
    assert "0 people added, 40 in all" in told("add", features, *start)
    image, sheet, out = crops / city.query.paths[3][6:], tmp_path / "a.png", "a.json"
    out = tmp_path / out
    words = ["search", image, *model, "--k", 5, "--sheet", sheet, "--json", out]
    assert "answers: " in told(*words)
    answers = json.loads(out.read_text())
    assert len(answers) == 5
    assert answers[0]["distance"] < 1e-5
    with Image.open(sheet) as drawn:
        assert drawn.width > 6 * 80
    assert "people: 40" in told("info")
    assert "first: 2026-05-01 06:00:00+00:00" in told("info")
    camera = answers[0]["camera"]
    seen = sum(
        name.endswith(".jpg") and f"_c{camera + 1}" in name
        for name in os.listdir(crops)
    )
    assert f"{seen} people forgotten" in told("forget", "--camera", camera)
    assert f"{40 - seen} people forgotten, 0 are left" in told(
        "forget", "--day", "2026-05-01"
    )
    # Wrong words.
    line = failing(["gallery", "search", gallery, image], capsys)
    assert "--model is needed to search for images" in line
    words = ["gallery", "add", gallery, features, "--start", "yesterday"]
    assert "'yesterday' is no time with a zone" in failing(words, capsys)
    line = failing(["gallery", "forget", gallery], capsys)
    assert "nothing is named that is to be forgotten" in line
    line = failing(["gallery", "info", tmp_path / "none"], capsys)
    assert "there is no gallery in" in line


def test_a_gallery_is_calibrated_by_people_who_are_known(
    trained, tiny_root, tmp_path, capsys
):
    pytest.importorskip("lancedb", reason="the extra gallery is not installed")
    features, gallery = tmp_path / "city.npz", str(tmp_path / "gallery")
    words = ["embed", tiny_root, "--data", "synthcity", "--model", trained]
    words += ["--out", features, "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    assert main(["gallery", "add", gallery, str(features), "--no-crops"]) == 0
    words = ["gallery", "calibrate", gallery, str(features), "--rate", "0.05"]
    assert main(words) == 0
    assert "pairs of cameras have their own" in capsys.readouterr().out
    found = tmp_path / "found.json"
    words = ["gallery", "search", gallery, str(features), "--json", str(found)]
    assert main([*words, "--k", "3"]) == 0
    known = [answer["known"] for answer in json.loads(found.read_text())]
    assert set(known) == {True, False}
