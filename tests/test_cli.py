"""The command line: what works, and what one line says where it does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from reidlib.cli import main

QUICK = [
    *("--preset", "quick", "--height", "64", "--width", "32", "--device", "cpu"),
    *("--epochs", "1", "--iterations", "3"),
]


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


def test_data_make_and_check(tmp_path, capsys):
    path = tmp_path / "city"
    words = ["data", "make", "synthcity", str(path), "--size", "tiny", "--seed", "7"]
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


def test_an_unknown_setting_is_an_error(tiny_root, capsys):
    with pytest.raises(SystemExit) as left:
        main(["train", "baseline", "--root", str(tiny_root), "--epsilon", "0.5"])
    assert left.value.code == 2
    assert "epsilon" in capsys.readouterr().err
    assert "unknown option" in failing(["evaluate", "x", "--epsilon", "1"], capsys)


def test_an_unwritable_output_folder(tiny_root, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["train", "direct", *("--preset", "quick"), "--root", tiny_root]
    line = failing([*words, "--out", tmp_path / "file" / "run"], capsys)
    assert "cannot write" in line
    assert "--out" in line


def test_a_finished_run_is_not_overwritten(trained, tiny_root, capsys):
    before = (trained / "result.json").read_bytes()
    words = ["train", "baseline", *QUICK, "--root", tiny_root, "--out", trained]
    assert "holds a run already" in failing(words, capsys)
    assert "another config" in failing([*words, "--resume", "--lr", "0.1"], capsys)
    assert (trained / "result.json").read_bytes() == before


def test_resume_needs_a_folder(tiny_root, capsys):
    words = ["train", "baseline", "--root", tiny_root, "--resume"]
    assert "--resume needs --out" in failing(words, capsys)


def test_a_checkpoint_that_is_none(tmp_path, capsys):
    assert "no checkpoint at" in failing(["evaluate", tmp_path / "none"], capsys)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    assert "damaged" in failing(["evaluate", tmp_path / "x.safetensors"], capsys)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_run_that_can_be_resumed(tiny_root, tmp_path, number):
    words = ["train", "supervised", *QUICK, "--root", str(tiny_root)]
    words += ["--epochs", "50", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "reidlib.cli", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "run" / "last.safetensors").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with --resume" in told
    assert "Traceback" not in told
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"
