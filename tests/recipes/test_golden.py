"""The methods do today what they did when their version was declared."""

from __future__ import annotations

import functools
import json
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from golden.record import (
    SWITCHES,
    data_of,
    differences,
    golden_file,
    unfolded,
    witness,
)
from host_copies import host_copies
from support import fork, in_copy, open_run

from reidlib.recipes import calr, calr_local

ROOT = Path(__file__).parents[2]
RUNS = [(recipe, switch) for recipe, found in SWITCHES.items() for switch in found]


@functools.cache
def golden_run(recipe: str, switch: str) -> tuple[dict[str, Any], Counter[str]]:
    """Return what a golden run gives, and what its steps copied to the host."""
    copies: Counter[str] = Counter()

    @contextmanager
    def watched():
        with host_copies() as found:
            yield
        copies.update(found)

    return witness(recipe, switch, watched), copies


@pytest.mark.parametrize(("recipe", "switch"), RUNS)
def test_no_training_step_copies_to_the_host(recipe, switch, tiny_root):
    copies = golden_run(recipe, switch)[1]
    assert not copies, copies


@pytest.mark.parametrize(("recipe", "switch"), RUNS)
def test_a_method_gives_the_numbers_of_its_version(recipe, switch, tiny_root):
    then = json.loads(golden_file(recipe).read_text())
    assert set(then) == set(SWITCHES[recipe]), "record the new switch"
    now = golden_run(recipe, switch)[0]
    assert differences(then[switch], now, (recipe, switch)) == []


PLANTED = {
    "a loss": (
        ("losses/info_nce.py", "keys.T / temperature", "keys.T / (1.05 * temperature)"),
        ("baseline", "dbscan, sequential"),
        "losses differ",
    ),
    "a clustering count": (
        ("recipes/steps.py", "min_samples=min_samples)", "min_samples=3)"),
        ("baseline", "dbscan, sequential"),
        "first labels",
    ),
    "a refinement rule": (
        ("labels/refinement.py", "in_cell > in_part", "in_cell > in_part + 1"),
        ("calr", "ordered, weights in the batch"),
        "discarded",
    ),
}
HARMLESS = [
    ("losses/memory.py", "_mark_filled", "_remember_that_it_is_filled"),
    ("recipes/steps.py", "and contrast ", "and the contrast "),  # words of an error
]


def compare_with(
    changes: list[tuple[str, str, str]],
    run: tuple[str, str],
    copy: Path,
    **settings: str,
) -> str:
    """Return what a golden run says of a copy of the library with changes in it."""
    shutil.copytree(ROOT / "reidlib", copy / "reidlib")
    shutil.copytree(ROOT / "tests" / "golden", copy / "golden")
    for file, old, new in changes:
        source = (copy / "reidlib" / file).read_text()
        assert old in source, f"{file} has changed: plant the fault elsewhere"
        (copy / "reidlib" / file).write_text(source.replace(old, new))
    code = (
        "import json, reidlib; from golden.record import *\n"
        f"assert reidlib.__file__.startswith({str(copy)!r})\n"
        f"then = json.loads(golden_file({run[0]!r}).read_text())[{run[1]!r}]\n"
        f"print(differences(then, witness(*{run!r}, **{settings!r})))"
    )
    process = fork(in_copy, copy, code, told=copy / "told")
    process.join()
    told = (copy / "told").read_text()
    assert process.exitcode == 0, told
    return told.strip().splitlines()[-1]


def local_labels(switch: str, folder: Path) -> str:
    """Return the file of stage 1 of CALR, which a changed library would make again."""
    config = calr.Config(**SWITCHES["calr"][switch])
    dataset = data_of("calr", SWITCHES["calr"][switch])
    with unfolded(), open_run(calr, config, dataset, folder) as run:
        calr.make_local_labels(config, dataset, run)
    return str(folder / calr_local.LABELS)


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_fault_fails_the_comparison(what, tmp_path, tiny_root):
    change, run, told = PLANTED[what]
    settings = {}
    if run[0] == "calr":
        settings["local_labels"] = local_labels(run[1], tmp_path / "stage 1")
    assert told in compare_with([change], run, tmp_path / "copy", **settings)


def test_a_change_of_words_passes_it(tmp_path, tiny_root):
    run = ("baseline", "dbscan, sequential")
    assert compare_with(HARMLESS, run, tmp_path) == "[]"


def test_the_recorder_never_overwrites(tmp_path, monkeypatch, capsys):
    from golden import record

    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(record, "SWITCHES", {"direct": SWITCHES["direct"]})
    file = tmp_path / "direct-v1.json"
    file.write_text('{"gap":"kept"}')
    assert record.main() == 0
    assert file.read_text() == '{"gap":"kept"}'
    assert "raise direct.VERSION" in capsys.readouterr().out


def test_the_recorder_adds_a_new_switch_to_those_of_before(tmp_path, monkeypatch):
    from golden import record

    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(record, "SWITCHES", {"direct": SWITCHES["direct"]})
    file = tmp_path / "direct-v1.json"
    file.write_text('{"another":"kept"}')
    assert record.main() == 0
    found = json.loads(file.read_text())
    assert found["another"] == "kept"
    assert differences(found["gap"], golden_run("direct", "gap")[0]) == []
