"""The SynthCity page's tables are what the library and the result files say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "book" / "figures"


@pytest.fixture(scope="module")
def make_figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", FOLDER / "make_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["synthcity_dials", "synthcity_sizes", "synthcity_acceptance"]
)
def test_a_stored_table_is_the_one_that_would_be_made_now(make_figures, name):
    stored = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert stored == make_figures.TABLES[name](), (
        "run python book/figures/make_figures.py --tables"
    )


def test_the_stored_pictures_are_small_enough_for_a_repository(make_figures):
    sizes = {file.name: file.stat().st_size for file in FOLDER.glob("*.png")}
    assert len(sizes) >= 4
    assert max(sizes.values()) <= make_figures.LIMIT


def test_the_acceptance_table_is_mean_and_deviation_of_the_worlds(
    make_figures, monkeypatch, tmp_path
):
    names = [m + end for m in make_figures.BIAS for end in ("", "_chance")]
    worlds = [
        {
            "methods": {"raw pixels": {"rank1": rank1, "mAP": 0.05}},
            "bias": {name: bias for name in names},
        }
        for rank1, bias in ((0.10, 0.3), (0.12, 0.3), (0.14, 0.6))
    ]
    file = tmp_path / "acceptance.json"
    file.write_text(json.dumps({"size": "none", "worlds": worlds}))
    monkeypatch.setattr(make_figures, "ACCEPTANCE", file)
    table = make_figures.acceptance_table()
    assert "| raw pixels | 12.0 ± 2.0 | 5.0 ± 0.0 |" in table
    assert "| ImageNet features | 0.40 ± 0.17 | 0.40 ± 0.17 | 0.40 ± 0.17 |" in table
    assert make_figures.TRAINED_COMMAND in table
    monkeypatch.setattr(make_figures, "ACCEPTANCE", tmp_path / "none.json")
    assert make_figures.ACCEPTANCE_COMMAND in make_figures.acceptance_table()
