"""Tables of the pages are what the library, its papers and the result files say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

import make_figures
from diagrams import DIAGRAMS
from quotes import shown
from reidlib.errors import ReIDError
from reidlib.experiments import plans
from reidlib.plotting import use_style

FOLDER = make_figures.FOLDER
ROOT = Path(__file__).parents[2]

TABLES = (
    *("synthcity_dials", "synthcity_sizes", "synthcity_acceptance"),
    *("papers_calr", "papers_aff_scl", "papers_cals", "papers_qafm"),
    *("papers_compared", "ethics_chain"),
    *(f"aff_{name}" for name in ("steps", "sources", "losses", "weights", "sizes")),
    *(f"aff_{name}" for name in ("attention", "contrasts", "published", "domains")),
    *(f"aff_{name}" for name in ("balance", "draws", "clusters", "costs", "designs")),
    *(f"baseline_{name}" for name in ("cost", "speed", "aff_t8")),
    *(f"baseline_{name}_labels" for name in ("clustering", "radius")),
    *(f"calr_{name}" for name in ("groups", "changes", "vehicles", "parts", "decay")),
    *(f"calr_{name}" for name in ("alignment", "beta", "quality", "judges", "shift")),
    *(f"cals_{name}" for name in ("measures", "accuracy", "steps", "effects")),
    *("cals_survey", "cals_published", "qafm_survey", "qafm_published"),
    *(f"qafm_{name}" for name in ("readings", "alpha", "range", "gains", "failure")),
    *(f"deployment_{name}" for name in ("speed", "gallery", "adding", "street")),
    *("deployment_commands", "scoreboard", "summary_parts", "summary_training"),
    *(f"report_{name}" for name in plans()),
)


def test_every_table_is_stored():
    assert set(make_figures.TABLES) == set(TABLES)
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_a_stored_table_is_the_one_that_would_be_made_now(name):
    stored = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert stored == make_figures.TABLES[name](), (
        "run python book/figures/make_figures.py --tables"
    )


def test_the_page_on_the_real_street_says_what_came_out():
    found = json.loads((ROOT / "results/real_video.json").read_text(encoding="utf-8"))
    page = (ROOT / "book/deployment.md").read_text(encoding="utf-8")
    assert "Here it did not: the score is no higher after it." in page
    assert found["scores"]["after"]["mAP"] <= found["scores"]["before"]["mAP"]
    assert "Eight people" in page
    assert found["named"]["people"] == found["named"]["people of both sides"] == 8


def test_the_stored_numbers_are_those_of_the_results():
    stored = (FOLDER / "quotes.json").read_text(encoding="utf-8")
    assert stored == make_figures.quoted(), (
        "run python book/figures/make_figures.py --tables"
    )


def test_a_page_quotes_what_is_described_and_all_of_it():
    stored = set(json.loads((FOLDER / "quotes.json").read_text(encoding="utf-8")))
    pages = [*ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert set(re.findall(r"\{result\}`([^ `]+)", text)) == stored


def test_a_quoted_number_is_the_mean_of_the_cities_and_what_they_are():
    quote = {"digits": 1, "cities": [1.0, -4.0, None, 0.16]}
    expected = {
        "mean": "\u22120.9",
        "gain": "\u22120.9",
        "size": "0.9",
        "std": "2.7",
        "spread": "\u22120.9 ± 2.7",
        "least": "\u22124.0",
        "most": "1.0",
        "cities": "1.0, \u22124.0, 0.2",
        "gains": "+1.0, \u22124.0, +0.2",
        "sizes": "1.0, 4.0, 0.2",
    }
    assert {how: shown(quote, how) for how in expected} == expected
    assert shown({"digits": 1, "cities": [None]}) == "(not run)"
    assert shown({"digits": 0, "cities": [2.0]}, "spread") == "(not run)"


def test_the_stored_pictures_are_small_enough_for_a_repository():
    sizes = {file.name: file.stat().st_size for file in FOLDER.glob("*.png")}
    assert len(sizes) >= 4
    assert max(sizes.values()) <= make_figures.LIMIT


def test_every_diagram_is_stored_wide_and_stacked():
    files = [*FOLDER.glob("paper_*.png"), *FOLDER.glob("chapter_*.png")]
    assert {file.stem for file in files} == set(make_figures.DRAWN)
    assert max(file.stat().st_size for file in files) < 100_000
    kinds = {f"paper_{name}" for name in DIAGRAMS}
    kinds |= {f"chapter_{c}" for d in DIAGRAMS.values() for c in d.chapters}
    shapes = ("wide", "stacked")
    assert set(make_figures.DRAWN) == {
        f"{k}_{shape}" for k in kinds for shape in shapes
    }


CHARTS = {
    name: chart
    for page in make_figures.PAGES
    for name, chart in getattr(page, "CHARTS", {}).items()
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_stored_chart_is_the_one_that_would_be_drawn_now(name, tmp_path, monkeypatch):
    stored = FOLDER / f"{name}.png"
    monkeypatch.setattr(make_figures, "FOLDER", tmp_path)
    with mpl.rc_context():
        use_style()
        drawn = make_figures.save(CHARTS[name](), name)
        plt.close("all")
    message = "run python book/figures/make_figures.py --tables"
    with Image.open(stored) as one, Image.open(drawn) as two:
        assert one.size == two.size, message
        pixels = [np.asarray(image.convert("RGB")).astype(int) for image in (one, two)]
    moved = np.abs(pixels[0] - pixels[1]).max(axis=2)
    assert (moved > 64).sum() < 100, message


@pytest.mark.parametrize("file", [f for f in make_figures.DRAWN if "stacked" in f])
def test_a_stored_diagram_is_the_one_that_would_be_drawn_now(file):
    with mpl.rc_context():
        use_style()
        figure = make_figures.draw_method(file)
        figure.set_dpi(make_figures.DRAWN[file][-1])
        figure.canvas.draw()
        drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
        plt.close(figure)
    with Image.open(FOLDER / f"{file}.png") as image:
        stored = np.asarray(image.convert("RGB")).astype(int)
    message = "run python book/figures/make_figures.py"
    assert stored.shape == drawn.shape, message
    # The palette of the stored picture moves colours a little; a letter more is over
    # a hundred pixels of another colour.
    moved = np.abs(stored - drawn).max(axis=2)
    assert (moved > 64).sum() < 100, message


def plain(table: str) -> str:
    """A table with ordinary spaces inside its pairs of figures."""
    return table.replace("\u00a0", " ")


def cells(table: str) -> dict[str, list[str]]:
    """Rows of a Markdown table by their first cell."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {line[0]: line[1:] for line in lines}


def test_the_papers_tables_hold_the_papers_figures():
    calr = plain(make_figures.calr_table()).splitlines()
    assert (
        "| CALR (IBN + GeM) | CALR-T1 | 84.5 / 93.6 | 74.2 / 86.0 | 50.4 / 78.1 |"
        in calr
    )
    assert (
        "| Label refinement | CALR-T3 | 84.4 / 93.2 | 73.8 / 85.2 | 49.6 / 77.5 |"
        in calr
    )
    qafm = cells(plain(make_figures.qafm_table()))
    assert qafm["both, weight learned: QAFM"] == ["QAFM-T4", "83.34 / 93.05"]
    # The best fixed weight is found, not typed.
    assert "both, fixed 0.4 (the best fixed weight)" in qafm
    assert cells(plain(make_figures.cals_table()))["CALS"][2] == "85.7 / 91.8"
    aff_scl = plain(make_figures.aff_scl_table())
    assert "| loss: total | AFF-T4 | 78.8 / 90.9 | – |" in aff_scl


def test_the_comparison_answers_every_question_for_every_method():
    lines = make_figures.comparison_table().splitlines()
    assert lines[0] == "|  | baseline | CALR | AFF_SCL | CALS | QAFM |"
    assert {line.count(" | ") for line in lines[2:]} == {5}
    assert not any("|  |" in line for line in lines[1:])


def test_a_chain_is_right_when_all_of_its_links_are(monkeypatch):
    runs = pd.DataFrame({"row": ["supervised"] * 2, "Rank-1": [40.0, 60.0]})
    monkeypatch.setattr(make_figures, "load_results", lambda *args, **kwargs: runs)
    text = make_figures.chain_text()
    assert "50.0 ± 14.1 %" in text
    assert "about 12 of 100 chains: about 88 of 100" in text

    def nothing(*args: object, **kwargs: object) -> None:
        raise ReIDError("no result")

    monkeypatch.setattr(make_figures, "load_results", nothing)
    assert make_figures.TRAINED_COMMAND in make_figures.chain_text()


def test_the_acceptance_table_is_mean_and_deviation_of_the_worlds(
    monkeypatch, tmp_path
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
    table = make_figures.acceptance_table().replace("\u00a0", " ")
    assert "| raw pixels | 12.0 ± 2.0 | 5.0 ± 0.0 |" in table
    assert "| ImageNet features | 0.40 ± 0.17 | 0.40 ± 0.17 | 0.40 ± 0.17 |" in table
    assert make_figures.TRAINED_COMMAND in table
    monkeypatch.setattr(make_figures, "ACCEPTANCE", tmp_path / "none.json")
    assert make_figures.ACCEPTANCE_COMMAND in make_figures.acceptance_table()
