"""Every item of the papers, and every difference that they report, on one page."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from browser import OneBrowser
from bs4 import BeautifulSoup
from playwright.async_api import Page
from support import SMALL

from reidlib.cli import main
from reidlib.errors import ReIDError
from reidlib.experiments import (
    Job,
    Scoreboard,
    by_seed,
    plans,
    runner,
    scoreboard,
    verdicts,
)
from reidlib.experiments.measured import seconds_of_runs
from reidlib.experiments.plans import Plan, Row
from reidlib.experiments.results import Data
from reidlib.experiments.scoreboard import BOARD_SIGNS
from reidlib.experiments.verdicts import paper_difference
from reidlib.papers import PAPERS, coverage_items, load_table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def board() -> Scoreboard:
    """The scoreboard of the published results, read once."""
    return scoreboard()


def test_counts_are_those_of_the_lines(board: Scoreboard) -> None:
    rows = {row[0]: list(map(int, row[1:])) for row in board.counts().rows}
    assert list(rows) == [*PAPERS, "all"]
    assert [line.item for line in board.lines] == list(coverage_items())
    for paper in rows:
        lines = [one for one in board.lines if paper in ("all", one.item.paper)]
        total, *counted = rows[paper]
        assert total == len(lines) == sum(counted[:-1])
        for sign, number in zip(BOARD_SIGNS, counted, strict=True):
            assert number == sum(sign in line.signs for line in lines)
    assert rows["all"][-1] == sum(bool(i.contradiction) for i in coverage_items()) > 20


def test_no_item_as_a_whole_agrees_as_the_page_says(board: Scoreboard) -> None:
    page = (ROOT / "book" / "scoreboard.md").read_text(encoding="utf-8")
    assert "No item as a whole has a ●" in page
    assert "●" not in {line.sign for line in board.lines}
    assert "●" in {sign for line in board.lines for sign in line.rows}


def test_the_differences_are_those_of_the_verdicts(board: Scoreboard) -> None:
    told = Counter(v.sign for table in plans() for v in verdicts(table) if v.paper)
    assert Counter(v.sign for found in board.found.values() for v in found) == told
    assert f"All {told.total()} differences" in str(board.counts())
    # No plan is left out whose rows have a difference in a paper's table.
    compared = {
        row.paper[0]
        for plan in plans().values()
        for row in plan.rows
        for other in plan.rows
        if row.against == other.name and paper_difference(row, other)
    }
    assert compared <= set(board.found)
    assert {"QAFM-T4", "AFF-T3"} < set(board.found)


def test_a_deciding_row_is_one_that_its_plan_compares() -> None:
    for item in coverage_items():
        table = item.plan or item.id
        if item.plan:
            assert item.plan in plans(), item.id
        if item.row:
            (row,) = [row for row in plans()[table].rows if row.name == item.row]
            assert row.against, item.id
        elif item.check != "runs":
            assert table not in plans(), item.id


def test_a_line_has_the_difference_of_the_row_that_decides(board: Scoreboard) -> None:
    line = next(line for line in board.lines if line.item.id == "CALR-T4")
    values = by_seed("CALR-T4", ["cosine", "none"])
    apart = values.loc["cosine"] - values.loc["none"]
    assert line.here == f"{np.mean(apart):+.1f}".replace("-", "\N{MINUS SIGN}")
    assert line.beside[0].split()[0] == f"{apart[0]:+.1f}"
    assert len(line.rows) == 4
    assert line.beside[1].startswith("4 rows: ")
    files = {
        Job("CALR-T4", row, "ablation", Data(), seed).file
        for row in plans()["CALR-T4"].rows
        for seed in range(3)
    }
    seconds = [json.loads(file.read_text())["seconds"] for file in files]
    assert line.seconds == pytest.approx(sum(seconds))
    assert f">{sum(seconds) / 60:.0f}</td>" in board.board()


def test_runs_that_tables_share_are_counted_once(board: Scoreboard) -> None:
    runs = [file for table in plans() for file in seconds_of_runs(table)]
    assert len(runs) > len(set(runs))
    one = {f: s for table in plans() for f, s in seconds_of_runs(table).items()}
    assert board.seconds == pytest.approx(sum(one.values()))
    # All rows of QAFM-T4 are one run in each city.
    assert len(seconds_of_runs("QAFM-T4")) == 3


def test_a_row_of_a_paper_has_its_difference_and_that_of_the_results(
    board: Scoreboard,
) -> None:
    line = next(
        row
        for row in board.of_paper("CALR").rows
        if row[:2] == ("CALR-T3", "label refinement, weights")
    )
    frame = load_table("CALR-T3").to_frame()
    gain = frame.loc["Label refinement"] - frame.loc["Baseline"]
    assert f"MSMT17: {gain['MSMT17', 'mAP']:+.1f}" in line[3]
    values = by_seed("CALR-T3", ["label refinement, weights", "Baseline"])
    apart = values.loc["label refinement, weights"] - values.loc["Baseline"]
    assert line[4] == f"{np.mean(apart):+.1f}"
    assert line[5].split()[0] == f"{apart[0]:+.1f}"


def test_every_item_stands_on_the_page_with_its_links(board: Scoreboard) -> None:
    page = BeautifulSoup(board.board(linked=True), "html.parser")
    rows = page.select("tr[data-paper]")
    assert [row.th.contents[0].strip() for row in rows] == [
        item.id for item in coverage_items()
    ]
    for row, line in zip(rows, board.lines, strict=True):
        item, text = line.item, row.get_text(" ")
        assert item.claim in text
        assert item.contradiction in text
        assert row["data-signs"].split() == list(line.signs)
        found = [link["href"] for link in row.select("a")]
        assert len(found) == 2 - ("::" in item.code)
        assert PurePosixPath(item.page.partition("#")[0]).stem in found[0]
    # Elsewhere there is no book to lead to.
    assert "href" not in board.board()


def look(page: Page) -> Any:
    """What the filters show, one after the other, and what is wider than the page."""
    told = "[...document.querySelectorAll('tr[data-paper]')]"
    told += ".filter(r => r.getClientRects().length).map(r => r.dataset)"

    async def shown() -> list[dict[str, str]]:
        return list(await page.evaluate(told))

    async def see() -> dict[str, Any]:
        await page.set_viewport_size({"width": 390, "height": 800})
        found = {"all": await shown(), "controls": await page.locator("select").count()}
        found["width"] = await page.evaluate("document.documentElement.scrollWidth")
        cut = "[...document.querySelectorAll('.board *, .board-counts *')]"
        cut += ".filter(e => e.getBoundingClientRect().right > 390).length"
        found["clipped"] = await page.evaluate(cut)
        if found["controls"]:
            reached = "document.activeElement.parentElement.firstChild.textContent"
            found["reached"] = []
            for _ in range(6):
                await page.keyboard.press("Tab")
                found["reached"].append(await page.evaluate(reached))
            await page.get_by_label("paper").select_option("QAFM")
            await page.get_by_label("kind").select_option("table")
            found["tables"] = await shown()
            await page.get_by_label("verdict").select_option("▲")
            found["contradicting"] = await shown()
            found["told"] = await page.locator("output").inner_text()
            await page.get_by_role("button").click()
            await page.get_by_label("text").fill("COSINE")
            found["cosine"] = await shown()
        return found

    return see()


@pytest.mark.parametrize("javascript", [True, False])
def test_the_page_opens_from_a_file_and_is_filtered(
    board: Scoreboard, browser: OneBrowser, tmp_path: Path, javascript: bool
) -> None:
    file = tmp_path / "board.html"
    file.write_text(board.html(), encoding="utf-8")
    found = browser.visit(file, javascript, look)
    assert len(found["all"]) == 98
    assert found["width"] == 390
    assert found["clipped"] == 0
    assert found["controls"] == (3 if javascript else 0)
    if javascript:
        wanted = ("paper", "kind", "verdict", "text")
        assert [name for name in found["reached"] if name in wanted] == [*wanted]
        assert len(found["tables"]) == 4
        assert {(r["paper"], r["kind"]) for r in found["tables"]} == {("QAFM", "table")}
        assert all("▲" in row["signs"] for row in found["contradicting"])
        number = len(found["contradicting"])
        assert 0 < number < 4
        assert found["told"] == f"{number} of 98 items"
        assert 0 < len(found["cosine"]) < 10


def test_the_page_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "board.html"
    assert main(["report", "--scoreboard", "--html", str(file)]) == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    told = capsys.readouterr().out.splitlines()
    # Below the items stands each table that is printed.
    printed = sum(line.startswith("| --- ") for line in told)
    assert text.count("<table") == printed + 1
    assert main(["report"]) == 2
    assert main(["report", "CALR-T3", "--scoreboard"]) == 2
    assert "name a table, or give --scoreboard" in capsys.readouterr().err


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables of the papers, one that needs cities, and one of our own."""
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path / "results"))
    tiny = {**SMALL, "seed": 0, "clustering": "kmeans", "num_clusters": 12}
    direct = {"backbone": "tiny", "height": 64, "width": 32}
    base = Row("base", "direct", direct, ("CALR-T3", "Baseline"))
    changed = Row(
        "both, weights", "baseline", tiny, ("CALR-T3", "Both"), against="base"
    )
    far = {"dials": {"camera_shift": 0.9}, "against": "base"}
    dials = Row("far", "direct", direct, ("CALR-T3", "Both"), **far)
    for name in list(plans()):
        monkeypatch.delitem(plans(), name)
    for name, rows in {
        "CALR-T3": (base, changed),
        "CALR-F6": (base, dials),
        "own": (Row("own", "direct", direct),),
    }.items():
        monkeypatch.setitem(plans(), name, Plan(name, "A trial", rows))


def test_all_tables_are_made_on_a_folder_of_ones_own(
    few: None, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "--all", "--preset", "quick", "--data", "market-style"]
    words += ["--root", str(tiny_root), "--seeds", "2", "--processes", "1"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "1 tables, 4 runs to make; how long one takes is not known" in told.err
    assert "| CALR-T3 | both, weights | base |" in told.out
    assert main([*words, "--device", "cpu"]) == 0
    assert "1 tables, 0 runs to make" in capsys.readouterr().err
    file = tmp_path / "board.html"
    words = ["report", "--scoreboard", "--preset", "quick", "--data", "market-style"]
    assert main([*words, "--root", str(tiny_root), "--html", str(file)]) == 0
    page = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
    rows = {row["id"]: row for row in page.select("tr[data-paper]")}
    assert len(rows) == 98
    decided = rows["board-calr-t3"]
    assert set(decided["data-signs"].split()) & set("●◐○✕")
    here, minutes = (
        decided.find(attrs={"data-label": label}).get_text(" ")
        for label in ("here", "minutes")
    )
    assert here.startswith(("+", "\N{MINUS SIGN}"))
    assert minutes.isdigit()
    assert rows["board-aff-t4"]["data-signs"] == "– ▲"
    assert "not run" in rows["board-aff-t4"].get_text()


def test_the_estimate_knows_what_such_runs_have_taken(
    few: None, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"preset": "quick", "data": Data("tiny"), "processes": 1}
    runner.reproduce("CALR-T3", seeds=(0,), progress=False, **options)
    told = runner._estimate(["CALR-T3"], "quick", (0, 1), Data("tiny"))
    assert "2 runs to make, about " in told
    assert main(["reproduce", "CALR-T3", "--all"]) == 2
    assert "--all is every table" in capsys.readouterr().err
    with pytest.raises(ReIDError, match="no plan"):
        runner.reproduce("nothing")
