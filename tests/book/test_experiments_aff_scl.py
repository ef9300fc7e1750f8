"""The page on AFF_SCL: its tables hold the paper's figures and those of results."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch
from support import cells, invent_results

import experiments_aff_scl as page
from reidlib.experiments import plan
from reidlib.papers import load_table

SEEDS = (0, 1, 2)


@pytest.fixture
def results(monkeypatch):
    """Results of every row of a plan, one point more in each row and city."""

    def line(place, seed):
        epoch = {"clusters": 100, "outlier_share": 0.5}
        epoch |= {"pairwise_precision": 0.9, "pairwise_recall": seed / 10}
        result = {
            "config": {"num_labels": 20, "iterations": 10},
            "dataset": {"images": {"train": 1000}},
            "epochs": [epoch, epoch | {"clusters": 50}],
        }
        return {"result": result, "mAP": 30.0 + place + seed}

    invent_results(monkeypatch, page, line)


def test_every_pair_has_its_rows_and_every_paper_row_exists():
    for table, pairs in page.PAIRS.items():
        rows = {row.name for row in plan(table).rows}
        assert {name for pair in pairs.values() for name in pair} <= rows
    for table, pairs in page.PAPER.items():
        frame = load_table(table).to_frame()
        assert set(pairs) <= set(page.PAIRS[table])
        for pair in pairs.values():
            assert all(np.isfinite(frame.loc[row, "mAP"]) for row in pair)


def test_a_difference_is_taken_city_by_city_beside_the_papers(results):
    lines = {line[0]: line[1:] for line in cells(page.differences_table("AFF-T4"))}
    # The plan has the rows in the paper's order: each is one point above the last.
    assert lines["hard − mean"] == ["+5.7", "+1.0 / +1.0 / +1.0", "+1.0 ± 0.0"]
    assert lines["both − mean"][0] == "–"
    lines = {line[0]: line[1:] for line in cells(page.differences_table("AFF-T7"))}
    assert lines["local, on top of global"][0] == "+0.8"
    assert len(cells(page.differences_table("AFF-HARD"))[2]) == 3


def test_a_missing_run_is_said_to_be_missing(monkeypatch):
    nothing = pd.DataFrame()
    names = ("measured", "report")
    for module in (page, *(import_module(f"reidlib.experiments.{n}") for n in names)):
        monkeypatch.setattr(module, "load_results", lambda *a, **k: nothing)
    assert "| +5.7 | missing | missing |" in page.differences_table("AFF-T4")
    assert "| missing | – |" in page.draws_table()
    assert "| missing | missing | missing |" in page.clusters_table()


def test_the_papers_figures_stand_in_the_tables():
    published = page.published_table()
    assert "| AFF_SCL | 78.8 | 68.6 |" in published
    assert "| ClusterContrast, not in the table (CALR-T1) | 83.0 | 73.6 |" in published
    domains = page.domains_table()
    assert "| MMT | 65.1 | 71.2 | −6.1 |" in domains
    assert "| AFF_SCL without a source (AFF-T2) | 78.8 | 68.6 | +10.2 |" in domains
    for note in load_table("AFF-T3").notes:
        assert note in domains


def test_the_balance_costs_what_two_tables_of_the_paper_differ_by(results):
    lines = {line[0]: line[1:] for line in cells(page.balance_table())}
    assert lines["mean alone, 0 / 1"][:3] == ["70.6", "68.5", "−2.1"]
    assert lines["hard alone, 1 / 0"][:3] == ["76.3", "73.7", "−2.6"]
    names = [row.name for row in plan("AFF-T5").rows]
    gain = names.index("0 / 1") - names.index("0 / 1, no balance")
    assert lines["mean alone, 0 / 1"][4] == f"{gain:+.1f}".replace("-", "−")


def test_draws_and_clusters_are_read_from_the_epochs(results):
    lines = {line[0]: line[1:] for line in cells(page.draws_table())}
    # 200 draws for 100 and for 50 clusters of 5 and of 10 images.
    assert lines["AFF-HARD: clusters, mean"] == ["3.0", "7.5"]
    health = cells(page.clusters_table())[2:]
    assert health[0][:2] == ["A to B, alone", "first epoch"]
    assert health[0][2:] == ["0.90 ± 0.00", "0.10 ± 0.10", "0.50 ± 0.00"]
    assert sum(line[1] == "first epoch" for line in health) == 2


def test_costs_are_those_of_the_network_and_designs_those_of_the_equations():
    lines = {line[0]: line[1:] for line in cells(page.costs_table())}
    assert lines["AFF_SCL, the paper"] == ["26.70", "9.17", "186.26"]
    assert lines["AFF, reduction 16, 384 × 192"][:2] == ["24.30", "9.17"]
    for reduction in (4, 8, 16):
        with torch.device("meta"):
            model = page.ReIDNet("resnet50", pretrained=False)
            model = page.add_attention(model, reduction=reduction)
        counted = sum(weight.numel() for weight in model.parameters())
        assert counted == page.parameters(reduction, reduction, 0, False, 0, 1)
    assert "Of 3,024 designs, none has 26.70 M parameters." in page.designs_text()


def test_charts_draw_each_city_and_the_mean(results, style):
    axes = page.erasing().axes
    assert [ax.get_title("left") or ax.get_title() for ax in axes] == [
        "Trained on clusters of the city",
        "Trained on identity labels",
    ]
    mean = axes[0].lines[len(SEEDS)].get_ydata()
    names = [row.name for row in plan("AFF-HARD").rows]
    ends = names.index("clusters, mean"), names.index("clusters, mean, nothing erased")
    assert list(mean) == pytest.approx([31 + place for place in ends])
    paper = page.weights().axes[0].lines[0].get_ydata()
    assert list(paper) == [68.5, 70.4, 75.7, 78.8, 73.7]
    first = page.sources().axes[0]
    assert len(first.get_xticks()) == 6
    assert len(first.lines) == len(SEEDS)
