"""Published runs made again: what is the same is recorded, what differs is told."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from support import SMALL, fork, in_copy

from reidlib.cli import main
from reidlib.errors import ReIDError
from reidlib.experiments import runner, verified, verify
from reidlib.experiments.plans import Plan, Row, plan, plans
from reidlib.experiments.results import Data, Job
from reidlib.experiments.verify import Verification

ROOT = Path(__file__).parents[2]
TINY = Data("tiny")
TRAINED = {**SMALL, "seed": 0, "frozen_stages": 4}
ROWS = (
    Row("baseline", "baseline", TRAINED),
    Row("direct", "direct", {"backbone": "tiny", "height": 64, "width": 32}),
)
COMMAND = ["reproduce", "--verify", "--preset", "quick", "--size", "tiny"]


@pytest.fixture(scope="module")
def published(tiny_root, tmp_path_factory):
    """A folder of results: one run of two recipes each."""
    from reidlib.paths import cache_dir

    folder = tmp_path_factory.mktemp("published")
    (folder / "cache").mkdir()
    (folder / "cache" / "synthcity").symlink_to(cache_dir() / "synthcity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REIDLIB_CACHE", str(folder / "cache"))
        patch.setenv("REIDLIB_RESULTS", str(folder / "results"))
        patch.setitem(plans(), "trial", Plan("trial", "A trial", ROWS))
        options = {"preset": "quick", "seeds": (0,), "data": TINY, "processes": 1}
        made = runner.reproduce("trial", **options, progress=False)
    assert [outcome.status for outcome in made] == ["made", "made"]
    return folder


@pytest.fixture
def results(published, tmp_path, monkeypatch):
    """A copy of it, to change."""
    folder = tmp_path / "results"
    shutil.copytree(published / "results", folder)
    monkeypatch.setenv("REIDLIB_RESULTS", str(folder))
    monkeypatch.setenv("REIDLIB_CACHE", str(published / "cache"))
    monkeypatch.setitem(plans(), "trial", Plan("trial", "A trial", ROWS))
    return folder


def check(*recipes, **options):
    options = {"data": TINY, "preset": "quick", "progress": False, **options}
    return verify(recipes, **options)


def edit(results, recipe, change):
    (file,) = (results / recipe).glob("*.json")
    result = json.loads(file.read_text())
    change(result)
    file.write_text(json.dumps(result))


def test_an_untouched_run_verifies_and_is_recorded(results):
    baseline, direct = found = check("baseline", "direct")
    assert all(one.passed for one in found)
    # On one machine with as many threads there is not even a rounding between them.
    assert [one.largest[1] for one in found] == [0, 0]
    # Of what is trained the first epoch, of what is not the final figures.
    assert {"loss", "clusters"} <= baseline.differences.keys()
    assert "mAP" not in baseline.differences
    assert {"mAP", "cmc.1", "diagnosis.kmeans.nmi_cam"} <= direct.differences.keys()
    record = verified()
    assert set(record) == {"baseline", "direct"}
    assert record["baseline"]["version"] == 1
    assert (results / record["baseline"]["run"]).is_file()
    assert "torch" in record["baseline"]["versions"]


@pytest.mark.parametrize(
    ("change", "figure", "passes"),
    [
        (lambda epoch: epoch.update(loss=epoch["loss"] * 1.1), "loss", False),
        (lambda epoch: epoch.update(loss=epoch["loss"] * 1.0001), "loss", True),
        (lambda epoch: epoch.update(clusters=epoch["clusters"] + 1), "clusters", False),
        (lambda epoch: epoch.update(gone=0.5), "gone", False),
        (lambda epoch: epoch.update(seconds=1e6, told=None), "", True),
        (lambda epoch: epoch.pop("nmi_pid"), "", True),  # recorded since then
    ],
)
def test_a_published_figure_that_differs_is_told_and_not_recorded(
    results, change, figure, passes
):
    edit(results, "baseline", lambda result: change(result["epochs"][0]))
    (found,) = check("baseline")
    assert found.passed == passes
    if figure:
        assert found.largest[0] == figure
    assert ("baseline" in verified()) == passes


@pytest.mark.parametrize(
    "change",
    [
        lambda result: result.update(version=0),
        lambda result: result["config"].update(lr=1.0),
        lambda result: result.update(error=result.pop("metrics") and "broke down"),
    ],
    ids=["stale method", "stale settings", "broken down"],
)
def test_what_is_not_current_cannot_be_verified(results, change):
    edit(results, "direct", change)
    with pytest.raises(ReIDError, match="no current result of direct: nothing to ver"):
        check("direct")


def test_the_command_tells_what_it_found(results, capsys):
    assert main([*COMMAND[:1], "direct", *COMMAND[1:]]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("direct: as published; largest difference 0 (")
    edit(results, "direct", lambda result: result["metrics"].update(mAP=0.9))
    assert main([*COMMAND[:1], "direct", *COMMAND[1:]]) == 2
    told = capsys.readouterr()
    assert "direct: DIFFERS; largest difference" in told.out
    assert "no longer reproduces the published numbers of direct: correct" in told.err
    assert main([*COMMAND[:1], "trial", *COMMAND[1:]]) == 2
    assert "no recipe 'trial'; choose from direct" in capsys.readouterr().err
    assert main([*COMMAND[:1], "supervised", *COMMAND[1:]]) == 2
    assert "no current result of supervised" in capsys.readouterr().err


def test_a_changed_library_is_found_out(results, tmp_path):
    """Of all recipes that have a result, the one that the change touches is named."""
    shutil.copytree(ROOT / "reidlib", tmp_path / "copy" / "reidlib")
    file = tmp_path / "copy" / "reidlib" / "recipes" / "baseline.py"
    source = file.read_text()
    old = "momentum=config.momentum,"
    assert old in source, "the recipe has changed: plant the fault elsewhere"
    file.write_text(source.replace(old, "momentum=0.9,"))
    code = (
        "import sys, reidlib\n"
        "from reidlib.cli import main\n"
        "from reidlib.experiments.plans import Plan, Row, plans\n"
        f"plans()['trial'] = Plan('trial', 'A trial', {ROWS!r})\n"
        f"sys.exit(main({COMMAND!r}))"
    )
    told = tmp_path / "told"
    process = fork(in_copy, tmp_path / "copy", code, told=told)
    process.join()
    assert process.exitcode == 2, told.read_text()
    assert "baseline: DIFFERS" in told.read_text()
    assert "direct: as published" in told.read_text()
    assert set(verified()) == {"direct"}


@pytest.mark.parametrize(
    ("recipe", "difference", "passes"),
    [("baseline", 0.02, False), ("calr", 0.03, True), ("calr", 0.06, False)],
)
def test_calr_is_allowed_what_rounding_does_to_it(recipe, difference, passes):
    (row,) = (row for row in plan("CALR-T1").rows if row.name == "CALR, GAP")
    job = Job("CALR-T1", dataclasses.replace(row, recipe=recipe), "ablation", Data(), 0)
    assert Verification(job, {"purity": difference}).passed == passes
