"""A result made again: equal on the same machine, and what differs is named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from support import SMALL, few_people, train

from reidlib.cli import main
from reidlib.data import ReIDDataset
from reidlib.engine.cache import cached_tensors, runs_kept_in
from reidlib.errors import ReIDError
from reidlib.experiments import Rerun, rerun
from reidlib.experiments.plans import Row
from reidlib.experiments.results import Data, Job
from reidlib.experiments.runner import make_result
from reidlib.recipes import baseline

OPTIONS: dict[str, Any] = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def city(tiny: ReIDDataset) -> ReIDDataset:
    return few_people(tiny, 12)


@pytest.fixture(scope="module")
def result(city: ReIDDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of a run that was made in Python."""
    folder = tmp_path_factory.mktemp("rerun") / "run"
    train(baseline, baseline.Config(**SMALL, k1=10), city, folder)
    return folder / "result.json"


def test_on_the_same_machine_every_figure_is_equal(
    city: ReIDDataset, result: Path, tmp_path: Path
) -> None:
    found = rerun(result, tmp_path / "again", dataset=city, **OPTIONS)
    table = found.differences()
    assert (table["difference"] == 0).all()
    assert list(table["part"].unique()) == ["epoch 1", "epoch 2", "end"]
    assert {"loss", "clusters"} <= set(table[table["part"] == "epoch 2"]["figure"])
    assert "cmc.1" in set(table[table["part"] == "end"]["figure"])
    assert not set(table["figure"]) & {"seconds", "epoch"}
    # A run that is complete would be compared without being made again.
    for out in (tmp_path / "again", result.parent):
        with pytest.raises(ReIDError, match="holds a complete run; give another"):
            rerun(result, out, dataset=city, **OPTIONS)


def test_what_was_read_beside_the_images_must_be_the_same(
    city: ReIDDataset, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    content = {"files": {"weights": "of before", "pseudo_labels (made)": "of before"}}
    config = baseline.Config(**{**SMALL, "weights": str(weights)}, k1=10)
    made = {"recipe": "baseline", "version": baseline.VERSION, "epochs": []}
    made |= {"config": asdict(config), "dataset": {"sha256": city.fingerprint()}}
    made["dataset"] |= {"name": "synthcity", "images": {}}
    scores = {"cmc": {}, "mAP": 0.5, "mINP": 0.5, "num_queries": 1, "num_unmatched": 0}
    file = tmp_path / "result.json"
    file.write_text(json.dumps({**made, **content, "metrics": scores}))
    with pytest.raises(ReIDError, match="was made with weights of other content"):
        rerun(file, tmp_path / "out", dataset=city, **OPTIONS)


def test_nothing_is_taken_from_the_cache(tmp_path: Path) -> None:
    made = []

    def tensors() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"a": torch.ones(1)}

    for _ in range(2):
        cached_tensors("trial", str(tmp_path), tensors)
    assert len(made) == 1
    with runs_kept_in(tmp_path / "cache"):
        for _ in range(2):
            cached_tensors("trial", str(tmp_path), tensors)
    assert len(made) == 2
    cached_tensors("trial", str(tmp_path), tensors)
    assert len(made) == 2


def test_the_figure_that_differs_most_is_named() -> None:
    then = {"epochs": [{"epoch": 1, "seconds": 3.0, "loss": 4.0, "clusters": 8}]}
    then |= {"metrics": {"mAP": 0.5, "cmc": {"1": 0.25}, "parts": [{"a": 1}]}}
    now = {"epochs": [{"epoch": 1, "seconds": 9.0, "loss": 4.0, "clusters": 6}]}
    now |= {"metrics": {"mAP": 0.5, "cmc": {}, "parts": [{"a": 1}]}}
    now |= {"device": "cuda:0", "hardware": {"gpus": ["H200"]}, "processes": 2}
    told = str(Rerun(then, now)).splitlines()
    assert " ".join(told[1].split()) == "epoch 1 0.25 clusters: 8 then, 6 now"
    assert " ".join(told[2].split()) == "end inf cmc.1: 0.25 then, nan now"
    assert "now:  cuda:0, H200, 2 processes" in told[4]


def test_what_cannot_be_compared_is_refused(
    city: ReIDDataset, result: Path, tiny: ReIDDataset, tmp_path: Path
) -> None:
    content = json.loads(result.read_text())

    def refused(words: str, dataset: ReIDDataset | None = city, **changes: Any) -> None:
        file = tmp_path / "changed.json"
        told = {k: v for k, v in {**content, **changes}.items() if v is not None}
        file.write_text(json.dumps(told))
        with pytest.raises(ReIDError, match=words):
            rerun(file, tmp_path / "refused", dataset=dataset, **OPTIONS)
        assert not (tmp_path / "refused").exists()

    refused("the images in .* are others; name the folder", tiny)
    refused("does not say where its data are", None)
    refused("made by version 7 .* repeat it with its commit", version=7)
    refused("is of magic, no recipe now", recipe="magic")
    refused("has no 'epochs'; give a file of the folder results", epochs=None)
    data = {"size": "tiny", "seed": 0, "drawing": -1, "dials": {}}
    refused("is of drawing -1", None, data=data)


def test_a_published_result_finds_its_city(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path / "results"))
    settings = {"backbone": "tiny", "height": 64, "width": 32}
    job = Job("trial", Row("direct", "direct", settings), "quick", Data("tiny"), 0)
    make_result(job, "cpu")
    found = rerun(job.file, tmp_path / "again", **OPTIONS)
    assert (found.differences()["difference"] == 0).all()


def test_the_command_repeats_a_run_of_the_command_line(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "train direct --preset quick --backbone tiny --height 64 --width 32"
    where = ["--root", str(tiny_root), "--device", "cpu"]
    assert main([*words.split(), *where, "--out", str(tmp_path / "run")]) == 0
    again = ["--out", str(tmp_path / "again"), "--csv", str(tmp_path / "all.csv")]
    file = str(tmp_path / "run/result.json")
    assert main(["rerun", file, *again, "--device", "cpu"]) == 0
    assert "end                 0  " in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "all.csv")
    assert set(table["difference"]) == {0}
    assert len(table) > 10
    assert main(["rerun", str(tmp_path / "run/log.txt")]) == 2
    assert "give a file of the folder results" in capsys.readouterr().err
