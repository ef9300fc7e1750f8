from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import replace
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from reidlib.papers import (
    CHECKS,
    PAPERS,
    Item,
    coverage,
    coverage_items,
    coverage_markdown,
    coverage_problems,
    load_table,
)

ROOT = Path(__file__).parents[2]

COUNTS = {
    "CALR": {"equation": 9, "algorithm": 1, "table": 5, "figure": 7},
    "AFF_SCL": {"equation": 14, "component": 2, "table": 8, "figure": 4},
    "CALS": {"equation": 6, "component": 3, "table": 5, "figure": 9},
    "QAFM": {"equation": 7, "component": 4, "table": 4, "figure": 10},
}
LETTERS = {
    "E": "equation",
    "T": "table",
    "F": "figure",
    "D": "component",
    "A": "algorithm",
}


def test_every_item_of_the_papers_is_listed_once() -> None:
    items = coverage_items()
    assert len({item.id for item in items}) == len(items) == 98
    for paper, counts in COUNTS.items():
        assert Counter(i.kind for i in items if i.paper == paper) == counts
    assert list(dict.fromkeys(item.paper for item in items)) == list(PAPERS)


def test_items_are_numbered_from_one() -> None:
    series: dict[str, list[int]] = {}
    for item in coverage_items():
        name = item.id.rstrip("0123456789")
        assert LETTERS[name[-1]] == item.kind
        series.setdefault(name, []).append(int(item.id.removeprefix(name)))
    for name, numbers in series.items():
        assert numbers == list(range(1, len(numbers) + 1)), name


def test_the_file_has_no_table_beyond_its_list() -> None:
    raw = tomllib.loads((ROOT / "reidlib/papers/coverage.toml").read_text())
    assert list(raw) == ["ids", *raw["ids"]]
    assert all("|" not in raw[i]["what"] and raw[i]["what"] for i in raw["ids"])


def test_every_item_has_a_claim_in_ten_words() -> None:
    claims = [item.claim for item in coverage_items()]
    assert len(set(claims)) == len(claims)
    for claim in claims:
        assert 3 <= len(claim.split()) <= 10, claim
        assert claim.endswith("."), claim


def test_an_item_is_judged_by_a_row_or_checked_in_another_way() -> None:
    for item in coverage_items():
        assert bool(item.check) != bool(item.row), item.id
        assert item.check in ("", *CHECKS), item.id
    used = {item.check for item in coverage_items()}
    assert set(CHECKS) < used


def test_contradictions_are_one_sentence_and_have_both_places() -> None:
    told = {item.id: item.contradiction for item in coverage_items()}
    found = {name: words for name, words in told.items() if words}
    for name, words in found.items():
        assert re.fullmatch(r"[A-Z].*[^.]\.", words), name
        assert not re.search(r"[a-z]\. [A-Z]", words), name
    # Where the stored tables hold both figures, they differ as the sentence says.
    tables = {name: load_table(name).to_frame() for name in ("AFF-T4", "AFF-T5")}
    for loss, weights in (("mean", (0.0, 1.0)), ("hard", (1.0, 0.0))):
        for name, row in (("AFF-T4", loss), ("AFF-T5", weights)):
            value = str(tables[name].loc[row, "mAP"])
            assert value in found["AFF-T4"]
            assert value in found["AFF-T5"]
    rank = {
        "CALR-T3": load_table("CALR-T3").to_frame().loc["Label refinement"],
        "CALR-T5": load_table("CALR-T5").to_frame().loc[0.0],
    }
    values = {name: str(row["DukeMTMC-reID", "Rank-1"]) for name, row in rank.items()}
    assert values["CALR-T3"] != values["CALR-T5"]
    for name in rank:
        assert all(value in found[name] for value in values.values())
    adapted = load_table("CALR-T1").to_frame().loc["domain adaptation"]
    best = load_table("CALR-T1").to_frame().loc["unsupervised, camera labels"]
    for measure in ("mAP", "Rank-1"):
        ahead = (
            adapted["Market-1501", measure]
            > best.loc["CALR (IBN + GeM)", ("Market-1501", measure)]
        )
        assert set(ahead.index[ahead]) == {"DARC", "CaCL"}
    assert "DARC and CaCL" in found["CALR-T1"]


def test_every_reference_leads_somewhere() -> None:
    assert coverage_problems(ROOT) == []


def test_measured_figures_and_tables_name_their_result() -> None:
    # What only lists, draws or counts, and measures no training, has no result file.
    drawn = {
        *("CALR-F2", "AFF-F2", "AFF-F3", "CALS-F1", "CALS-F2"),
        *("QAFM-F1", "QAFM-F2", "QAFM-F3", "AFF-T1", "CALS-T1", "CALS-T3"),
        *("QAFM-T1", "QAFM-T2", "QAFM-T3", "CALR-F1", "CALR-F3", "CALR-F5", "CALS-F6"),
        *(
            "AFF-F1",
            "AFF-T8",
            "CALR-F7",
            "CALS-F9",
            "QAFM-F4",
            "QAFM-F8",
            "QAFM-F9",
            "QAFM-F10",
        ),
    }
    assert drawn <= {item.id for item in coverage_items()}
    for item in coverage_items():
        needs = item.kind in ("figure", "table") and item.id not in drawn
        if item.status == "closed" and needs:
            assert item.result, f"{item.id} is closed without a result"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    cell = {"cell_type": "markdown", "source": ["# A title: one\n", "(calr-e1)=\n"]}
    code = {"cell_type": "code", "source": ["(calr-e2)="]}
    for name, text in {
        "tests/test_a.py": "def test_one(): 0\nclass TestB:\n def test_two(self): 0\n",
        "notebooks/01.ipynb": json.dumps({"cells": [cell, code]}),
        "book/page.md": "$$\na = b\n$$ (AFF-E7)\n\n```{math}\n:label: aff-e8\n```\n"
        ":::{prf:algorithm} Two stages\n:label: CALR-A1\n:::\n",
        "book/figures/a.py": "def draw(): 0\n",
        "results/a.json": "{}",
        "reidlib/a.md": "(here)=\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


GOOD = Item(
    id="CALR-E1",
    kind="equation",
    what="an equation",
    status="closed",
    code="reidlib.papers.tables:PaperTable.to_frame",
    test="tests/test_a.py::test_one",
    page="notebooks/01.ipynb#calr-e1",
    result="results/a.json",
)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"test": "tests/test_a.py::TestB::test_two"},
        {"code": "book/figures/a.py::draw"},
        {"page": "notebooks/01.ipynb#CALR-E1"},
        {"page": "notebooks/01.ipynb#a-title-one"},
        {"page": "book/page.md"},
        {"page": "book/page.md#AFF-E7"},
        {"page": "book/page.md#AFF-E8"},
        {"result": ""},
        {"status": "open", "code": "", "test": "", "page": "", "result": ""},
    ],
)
def test_good_references_pass(repository: Path, change: dict[str, str]) -> None:
    assert coverage_problems(repository, [replace(GOOD, **change)]) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": ""}, "closed without code"),
        ({"test": "", "page": ""}, "closed without test, page"),
        ({"status": "done"}, "status 'done'"),
        ({"code": "reidlib.papers:no_such"}, "cannot be imported"),
        ({"code": "reidlib.no_such:a"}, "cannot be imported"),
        ({"code": "reidlib.papers"}, "cannot be imported"),
        ({"code": "book/figures/b.py::draw"}, "no file book/figures/b.py"),
        ({"code": "book/figures/a.py::paint"}, "a.py defines no 'paint'"),
        ({"test": "tests/test_z.py::test_one"}, "no file tests/test_z.py"),
        ({"test": "tests/test_a.py::test_nine"}, "no 'test_nine'"),
        ({"test": "tests/test_a.py::TestB::test_one"}, "no 'test_one'"),
        ({"test": "tests/test_a.py"}, "names no test"),
        ({"page": "notebooks/02.ipynb#calr-e1"}, "no file notebooks/02.ipynb"),
        ({"page": "notebooks/01.ipynb#calr-e2"}, "no anchor 'calr-e2'"),
        ({"page": "notebooks/01.ipynb"}, "needs an #anchor"),
        ({"page": "book/page.md#aff-e9"}, "no anchor 'aff-e9'"),
        ({"page": "reidlib/a.md#here"}, "in book/ or notebooks/"),
        ({"result": "results/b.json"}, "no such file under results/"),
        ({"result": "tests/test_a.py"}, "no such file under results/"),
    ],
)
def test_bad_references_are_named(
    repository: Path, change: dict[str, str], words: str
) -> None:
    (problem,) = coverage_problems(repository, [replace(GOOD, **change)])
    assert problem.startswith("CALR-E1: ")
    assert words in problem


def test_open_items_are_checked_where_they_name_something(repository: Path) -> None:
    item = replace(GOOD, status="open", page="", test="tests/test_a.py::test_nine")
    (problem,) = coverage_problems(repository, [item])
    assert "test_nine" in problem


def test_frame_has_every_item() -> None:
    frame = coverage()
    assert frame.shape == (98, 14)
    assert list(frame["paper"].unique()) == list(PAPERS)
    assert frame.loc["QAFM-F10", "kind"] == "figure"


@pytest.mark.parametrize(
    "item",
    [
        item
        for item in coverage_items()
        if item.status == "closed"
        and item.kind in ("equation", "algorithm", "component")
    ],
    ids=lambda item: item.id,
)
def test_a_search_for_an_equation_leads_to_the_code_that_computes_it(item: Item):
    module, _, name = item.code.partition(":")
    code = attrgetter(name)(import_module(module))
    assert re.search(rf"\b{item.id}\b", code.__doc__), item.code


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("notebooks/01.ipynb#CALR-E1", "../notebooks/01.html#calr-e1"),
        ("notebooks/01.ipynb#a-title-one", "../notebooks/01.html#a-title-one"),
        ("book/page.md#AFF-E7", "../book/page.html#equation-aff-e7"),
        ("book/page.md#aff-e8", "../book/page.html#equation-aff-e8"),
        ("book/page.md#calr-a1", "../book/page.html#CALR-A1"),
        ("book/page.md", "../book/page.html"),
    ],
)
def test_markdown_links_to_the_rendered_page(
    repository: Path, page: str, link: str
) -> None:
    text = coverage_markdown([replace(GOOD, page=page)], repository)
    (row,) = [line for line in text.splitlines() if line.startswith("| CALR-E1 |")]
    assert f'<a href="{link}">' in row
    assert "`reidlib.papers.tables.PaperTable.to_frame`" in row


def test_markdown_has_the_share_and_every_item(repository: Path) -> None:
    items = tuple(
        replace(GOOD, id=i.id) if i.id == "AFF-E7" else replace(i, status="open")
        for i in coverage_items()
    )
    lines = coverage_markdown(items, repository).splitlines()
    assert "| AFF_SCL | 28 | 1 | 4 % |" in lines
    assert "| All | 98 | 1 | 1 % |" in lines
    rows = {row.split(" | ")[0][2:]: row for row in lines if row.count("|") == 7}
    ids = [item.id for item in items]
    assert [name for name in rows if name in ids] == ids
    assert [name for name in ids if rows[name].endswith("| yes |")] == ["AFF-E7"]


def test_the_page_of_the_book_is_up_to_date() -> None:
    command = [sys.executable, "-m", "reidlib.papers"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode() == coverage_markdown()
    page = ROOT / "book" / "coverage.md"
    if not page.is_file():
        pytest.skip("book/coverage.md: python -m reidlib.papers > book/coverage.md")
    assert page.read_text(encoding="utf-8") == coverage_markdown(), (
        "write it again: python -m reidlib.papers > book/coverage.md"
    )
