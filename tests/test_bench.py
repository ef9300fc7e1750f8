"""The speed of a training: what is measured, and that it adds up."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SMALL, few_people, fork

from reidlib.bench import PARTS, Speed, bench_train, matrix_rate
from reidlib.cli import main
from reidlib.data import ReIDDataset
from reidlib.errors import ReIDError
from reidlib.models import network_cost
from reidlib.recipes import RECIPES, calr_local

OPTIONS: dict[str, Any] = {"num_steps": 2, "device": "cpu"}
TINY: dict[str, Any] = {**SMALL, "frozen_stages": 0, "num_labels": 4}
OWN: dict[str, dict[str, Any]] = {
    "supervised": {},
    "baseline": {"weights": "random"},
    "calr": {"weights": "random", "local": calr_local.Stage(num_labels=2)},
    "aff_scl": {"weights": "random"},
    "cals": {"weights": "random", "num_clusters": 8},
}


@pytest.fixture(scope="module")
def city(tiny: ReIDDataset) -> ReIDDataset:
    return few_people(tiny, 12)


@pytest.mark.parametrize("recipe", OWN)
def test_the_parts_of_a_step_add_up(recipe: str, city: ReIDDataset) -> None:
    config = RECIPES[recipe].Config(**{**TINY, **OWN[recipe]})
    found = bench_train(recipe, config, city, **OPTIONS)
    assert found.batch == 16
    assert found.images == len(city.train)
    assert list(found.shares) == list(PARTS)
    assert sum(found.shares.values()) == pytest.approx(1, abs=0.02)
    assert min(found.shares[p] for p in ("data", "forward", "backward")) > 0
    assert found.training > 0
    assert (found.extraction > 0) == (recipe not in ("supervised", "cals"))
    assert found.epoch["steps"] == pytest.approx(3 * 16 / found.training)


@pytest.mark.parametrize("backbone", ["tiny", "efficientnet_lite0"])
def test_operations_are_those_of_the_network_three_times(
    backbone: str, city: ReIDDataset
) -> None:
    """Forward, and the gradients of weights and of images: the first layer has none.

    PyTorch's own counter finds 20 times as many where convolutions are depthwise.
    """
    config = RECIPES["supervised"].Config(**{**TINY, "backbone": backbone})
    found = bench_train("supervised", config, city, **OPTIONS)
    network = RECIPES["supervised"].network(config)
    forward = 16 * network_cost(network, config.size).flops
    assert 2 * forward < found.flops < 3.1 * forward


def test_the_share_of_the_peak_has_its_closed_form() -> None:
    shares = dict.fromkeys(PARTS, 0.2)
    speed = Speed("toy", "a card", 100, 1000, 50, 500.0, 200.0, shares, 3.0, 1e9, 4e9)
    assert speed.of_peak == pytest.approx(0.5)  # two steps a second of 1e9 each
    assert speed.epoch == {"extraction": 2.0, "labels": 3.0, "steps": 25.0}
    assert "50 % of the 0.004 Tflop/s" in str(speed)
    assert "an epoch: 30.0 s (extraction 2.0 s, labels 3.0 s, steps 25.0 s)" in str(
        speed
    )


def test_a_matrix_product_has_a_rate() -> None:
    assert 1e8 < matrix_rate(torch.device("cpu")) < 1e14


def test_what_cannot_be_timed_is_refused(city: ReIDDataset) -> None:
    direct = RECIPES["direct"]
    with pytest.raises(ReIDError, match="direct trains nothing"):
        bench_train("direct", direct.PRESETS["quick"], city)
    with pytest.raises(ReIDError, match="num_steps"):
        bench_train("baseline", RECIPES["baseline"].Config(), city, num_steps=1)


def test_the_command_writes_what_it_prints(
    tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "bench train baseline --preset quick --backbone tiny --weights random"
    words += " --frozen-stages 0 --height 64 --width 32 --steps 2 --device cpu"
    file = tmp_path / "speed.json"
    assert main([*words.split(), "--root", str(tiny_root), "--json", str(file)]) == 0
    assert "training: " in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["batch"] == 32
    assert set(written["epoch"]) == {"extraction", "labels", "steps"}
    assert {"commit", "versions"} <= set(written)  # who reads it knows what was run
    assert main(["bench", "train", "baseline", "--preset", "ibn"]) == 2
    assert "has no preset 'ibn'" in capsys.readouterr().err


def run_script(words: list[str]) -> None:
    """Run a script of the benchmarks as the command ``python`` does."""
    script = Path(__file__).parents[1] / "benchmarks" / words[0]
    sys.path.insert(0, str(script.parent))
    sys.argv = words
    runpy.run_path(str(script), run_name="__main__")


def test_the_script_for_a_card_works_where_there_is_none(tmp_path: Path) -> None:
    parts = ["extraction", "clustering", "equality", "train-baseline", "plain"]
    words = ["card.py", "--tiny", "--output", str(tmp_path), "--parts", *parts]
    process = fork(run_script, words, told=tmp_path / "told")
    process.join()
    assert process.exitcode == 0, (tmp_path / "told").read_text()
    found = {
        part: json.loads((tmp_path / f"{part}.json").read_text()) for part in parts
    }
    assert not [part for part, content in found.items() if "error" in content]
    assert found["equality"]["equal"] is True
    assert found["extraction"]["eager"] > 0
    assert found["plain"]["times_faster"] > 0


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script of the benchmarks."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module


@pytest.mark.parametrize("kind", ["people", "random"])
def test_the_searches_of_a_gallery_are_measured_on_the_same_features(
    kind: str, tmp_path: Path, script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lancedb", reason="the extra gallery is not installed")
    bench = script("gallery")
    monkeypatch.setattr(bench, "PART", 400)  # three parts
    shape = (kind, 1000, 16)
    wanted = bench.truth(*shape)
    features = torch.cat([part.features for part in bench.parts_of(*shape)])
    nearest = (torch.from_numpy(bench.asked_of(*shape)) @ features.T).topk(bench.K)[1]
    assert [set(row) for row in nearest.tolist()] == wanted
    found = {}
    searches = (bench.loop, bench.exact, bench.alone, bench.index, bench.indexed)
    for method in (bench.add, *searches):
        data = bench.make(tmp_path, *shape, method.__name__)
        found[method.__name__] = method(data)
    for name in ("loop", "exact"):
        assert [set(one) for one in found[name]["found"]] == wanted
    assert [set(one) for one in found["alone"]["found"]] == wanted[: bench.ALONE]
    assert found["index"]["disk_mib"] > found["add"]["disk_mib"] > 1000 * 16 * 4 / 2**20
    assert found["index"]["recall"] >= 0.99
    shared = [
        len(wanted[n] & {*one}) for n, one in enumerate(found["indexed"]["found"])
    ]
    assert sum(shared) / len(shared) > 9


def test_pictures_are_found_alike_one_by_one_and_by_the_library(
    tmp_path: Path, script: Any
) -> None:
    bench = script("street")
    data = bench.make(tmp_path, "frames", 3, 540)
    found = [way(data)["found"] for way in (bench.loop_frames, bench.library_frames)]
    assert sum(found[1]) >= 9  # of twelve people
    assert bench.agree("frames", *found)
    data = bench.make(tmp_path, "crops", 18, 128)
    ways = (bench.loop_crops, bench.batches_crops, bench.library_crops)
    found = [way(data)["found"] for way in ways]
    assert bench.agree("crops", found[0], found[1])
    assert bench.agree("crops", found[0], found[2])
    assert not bench.agree("crops", found[0], found[0][::-1])
