from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pandas as pd
import pytest

from reidlib.errors import ReIDError
from reidlib.papers import (
    PAPERS,
    PaperTable,
    coverage_items,
    list_tables,
    load_table,
)

TABLES = list_tables()
MARKET, DUKE, MSMT = "Market-1501", "DukeMTMC-reID", "MSMT17"
UNITS = {
    "%",
    "points",
    "1",
    "row",
    "count",
    "epochs",
    "px",
    "id",
    "rank",
    "M",
    "G",
    "MB",
}

# Rows, figures, and for each column the sum of its figures times their row's number,
# taken from the papers' texts by a program that knows nothing of the files tested.
CHECKSUMS = {
    "CALR-T1": (
        27,
        274,
        [
            *[30006.7, 34565.6, 35003.2, 35449.7],
            *[21082.7, 25288.4, 26510.6, 27252.9],
            *[13667.6, 24338.7, 27164.3, 28542.1],
        ],
    ),
    "CALR-T2": (12, 48, [3248.2, 6808.8, 7131.3, 7290.0]),
    "CALR-T3": (
        4,
        48,
        [
            *[842.0, 932.9, 973.0, 982.2],
            *[737.0, 854.1, 919.5, 939.5],
            *[474.6, 759.3, 847.0, 876.6],
        ],
    ),
    "CALR-T4": (5, 20, [1258.4, 1398.6, 1106.6, 1285.8]),
    "CALR-T5": (7, 28, [2345.8, 2610.9, 2062.8, 2404.5]),
    "AFF-T1": (2, 14, [2155, 45980, 2154, 59510, 7824, 22, 105550]),
    "AFF-T2": (11, 44, [4171.9, 5529.5, 3694.2, 4896.4]),
    "AFF-T3": (7, 28, [1998.2, 2434.3, 1804.1, 2222.3]),
    "AFF-T4": (4, 8, [741.1, 880.6]),
    "AFF-T5": (5, 10, [1120.1, 1327.2]),
    "AFF-T6": (3, 6, [472.0, 545.0]),
    "AFF-T7": (9, 30, [3851.7, 4243.3, 3239.8, 3263.4]),
    "AFF-T8": (3, 9, [259.22, 75.94, 1104.06]),
    "CALS-T2": (5, 10, [1494.11, 1492.27]),
    "CALS-T4": (3, 18, [493.9, 551.1, 568.2, 444.7, 460.6, 432.0]),
    "CALS-T5": (6, 36, [1810.5, 1973.1, 2018.5, 1653.8, 1709.2, 1620.1]),
    "QAFM-DATA": (63, 78, [6184237, 4588.633, 304.9375]),
    "QAFM-T3": (14, 41, [9484.0, 5839.28, 5319.9, 8250.46]),
    "QAFM-T4": (12, 36, [7000.61, 7508.79, 5876.41]),
}

# Tables without figures of measurement, and what the texts say beside the tables.
COUNTS = {
    "CALS-T1": (10, 13),
    "CALS-T3": (5, 9),
    "QAFM-T1": (5, 0),
    "QAFM-T2": (12, 24),
    "QAFM-D3": (5, 5),
    "CALR-DATA": (4, 12),
    "CALR-F4": (1, 1),
    "CALR-F6": (2, 2),
    "CALR-SETTINGS": (12, 12),
    "AFF-F4": (2, 2),
    "AFF-SETTINGS": (19, 19),
    "CALS-F4": (3, 3),
    "CALS-F5": (3, 3),
    "CALS-F7": (2, 2),
    "CALS-F8": (5, 5),
    "CALS-SETTINGS": (7, 7),
    "QAFM-F5": (4, 4),
    "QAFM-F6": (2, 2),
    "QAFM-F7": (1, 1),
    "QAFM-F9": (1, 2),
    "QAFM-F10": (1, 1),
    "QAFM-SETTINGS": (34, 34),
}


def figures(table: PaperTable) -> list[list[float]]:
    """Return the columns of figures that tell no rows apart."""
    return [
        [float(row[place]) for row in table.rows]
        for place, column in enumerate(table.columns)
        if column.unit and column.name not in table.keys
    ]


@pytest.mark.parametrize("table_id", CHECKSUMS)
def test_figures_are_those_of_the_text(table_id: str) -> None:
    rows, cells, sums = CHECKSUMS[table_id]
    table = load_table(table_id)
    columns = figures(table)
    if table_id == "QAFM-T4":
        columns = columns[1:]  # alpha repeats the names of the rows
    assert len(table.rows) == rows
    assert sum(not math.isnan(x) for values in columns for x in values) == cells
    weighted = [
        sum(i * x for i, x in enumerate(values, start=1) if not math.isnan(x))
        for values in columns
    ]
    assert weighted == pytest.approx(sums, abs=1e-6)


@pytest.mark.parametrize("table_id", COUNTS)
def test_rows_and_figures_are_complete(table_id: str) -> None:
    table = load_table(table_id)
    cells = [x for values in figures(table) for x in values if not math.isnan(x)]
    assert (len(table.rows), len(cells)) == COUNTS[table_id]


def test_every_table_has_a_count() -> None:
    assert {*CHECKSUMS, *COUNTS} == set(TABLES)


def test_every_table_of_the_papers_is_here() -> None:
    items = {item.id: item for item in coverage_items()}
    assert {i for i in items if items[i].kind == "table"} <= set(TABLES)
    others = {
        f"{p}-{n}"
        for p in ("CALR", "AFF", "CALS", "QAFM")
        for n in ("DATA", "SETTINGS")
    }
    assert set(TABLES) <= {*items, *others}


@pytest.mark.parametrize("table_id", TABLES)
def test_table_is_well_formed(table_id: str) -> None:
    table = load_table(table_id)
    assert table.id == table_id
    assert table.paper in PAPERS
    assert table_id.startswith(table.paper.split("_")[0])
    assert table.title
    assert table.source
    names = [(column.dataset, column.name) for column in table.columns]
    assert len(set(names)) == len(names)
    assert tuple(c.name for c in table.columns[: len(table.keys)]) == table.keys
    for place, col in enumerate(table.columns):
        assert col.meaning
        cells = [row[place] for row in table.rows]
        if not col.unit:
            assert all(isinstance(cell, str) for cell in cells), col
            continue
        assert col.unit in UNITS
        assert all(isinstance(x, int | float) for x in cells), col
        assert not all(math.isnan(float(x)) for x in cells), col
        if col.unit == "%":
            assert all(0 <= float(x) <= 100 for x in cells if not math.isnan(float(x)))
    keys = [row[: len(table.keys)] for row in table.rows]
    assert len(set(keys)) == len(keys)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    if any(col.unit == "row" for col in table.columns):
        units = [row[names.index(("", "unit"))] for row in table.rows]
        assert set(units) <= UNITS


@pytest.mark.parametrize("table_id", TABLES)
def test_ranks_are_ordered(table_id: str) -> None:
    table = load_table(table_id)
    places = {(c.dataset, c.name): place for place, c in enumerate(table.columns)}
    for dataset in {c.dataset for c in table.columns}:
        order = [places.get((dataset, f"Rank-{k}")) for k in (1, 5, 10)]
        for row in table.rows:
            ranks = [float(row[place]) for place in order if place is not None]
            ranks = [x for x in ranks if not math.isnan(x)]
            assert ranks == sorted(ranks), row
            average = places.get((dataset, "mAP"))
            if ranks and average is not None and not math.isnan(float(row[average])):
                # No other row reports an mAP above its Rank-1.
                assert float(row[average]) <= ranks[0] or row[0] in ("UECIR", "MSPA")


# What the texts state about their tables.

CALR_OWN = "unsupervised, camera labels"


def series(table_id: str, name: str, dataset: str = "") -> pd.Series:
    frame = load_table(table_id).to_frame()
    return frame[(dataset, name)] if dataset else frame[name]


def setting(paper: str, name: str) -> float:
    return float(series(f"{paper}-SETTINGS", "value")[name])


@pytest.mark.parametrize(
    ("dataset", "gain"), [(MARKET, 1.7), (DUKE, 2.7), (MSMT, 6.2), ("VeRi-776", 1.9)]
)
def test_calr_gains_from_a_better_backbone(dataset: str, gain: float) -> None:
    average = (
        series("CALR-T2", "mAP")["unsupervised"]
        if dataset == "VeRi-776"
        else series("CALR-T1", "mAP", dataset)[CALR_OWN]
    )
    assert average["CALR (IBN + GeM)"] - average["CALR"] == pytest.approx(gain)


def test_calr_best_row_is_the_same_in_four_tables() -> None:
    best = (CALR_OWN, "CALR (IBN + GeM)")
    for dataset in (MARKET, DUKE, MSMT):
        for name in ("mAP", "Rank-1", "Rank-5", "Rank-10"):
            value = series("CALR-T1", name, dataset)[best]
            assert series("CALR-T3", name, dataset)["Both"] == value
            if dataset != MSMT and name in ("mAP", "Rank-1"):
                assert series("CALR-T4", name, dataset)["cosine"] == value
                assert series("CALR-T5", name, dataset)[1.0] == value


@pytest.mark.parametrize(
    ("dataset", "average", "rank"),
    [(MARKET, 84.5, 93.6), (DUKE, 74.2, 86.0), (MSMT, 50.4, 78.1)],
)
def test_calr_best_row_is_the_text_s(dataset: str, average: float, rank: float) -> None:
    row = (CALR_OWN, "CALR (IBN + GeM)")
    assert series("CALR-T1", "mAP", dataset)[row] == average
    assert series("CALR-T1", "Rank-1", dataset)[row] == rank


@pytest.mark.parametrize("dataset", [MARKET, DUKE, MSMT])
def test_calr_ablation_rises_with_each_component(dataset: str) -> None:
    average = series("CALR-T3", "mAP", dataset)
    rising = ["Baseline", "Camera alignment", "Label refinement", "Both"]
    assert list(average[rising]) == sorted(average)


def test_calr_decay_as_the_text_says() -> None:
    market = series("CALR-T4", "mAP", MARKET)
    duke = series("CALR-T4", "mAP", DUKE)
    better = {"linear", "exponential", "cosine"}
    assert set(market.index[market > market["none"]]) == better
    assert list(duke.index[duke > duke["none"]]) == ["cosine"]
    rank = series("CALR-T4", "Rank-1", DUKE)
    assert rank["linear"] > rank["none"]  # the note: true of mAP alone


def test_calr_beta_as_the_text_says() -> None:
    beta = pd.Index([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5])
    assert beta.equals(series("CALR-T5", "mAP", MARKET).index)
    for dataset in (MARKET, DUKE):
        assert series("CALR-T5", "mAP", dataset).idxmax() == 1.0
    assert series("CALR-T5", "Rank-1", MARKET).idxmax() == 1.0
    assert series("CALR-T5", "Rank-1", DUKE).idxmax() == 0.6


def test_calr_contradictions_are_as_noted() -> None:
    theirs = ("unsupervised, no camera labels", "ClusterContrast")
    for name in ("mAP", "Rank-1", "Rank-5", "Rank-10"):
        ours = series("CALR-T3", name, MARKET)["Baseline"]
        assert ours == series("CALR-T1", name, MARKET)[theirs]
    assert series("CALR-T3", "Rank-1", DUKE)["Label refinement"] == 85.2
    assert series("CALR-T5", "Rank-1", DUKE)[0.0] == 85.6
    for name in ("mAP", "Rank-1"):
        alone = series("CALR-T3", name, MARKET)["Label refinement"]
        assert series("CALR-T5", name, MARKET)[0.0] == alone
    fastreid = ("supervised", "Fastreid (IBN-ResNet101)")
    same = series("CALR-T1", "mAP", MSMT)[fastreid]
    assert same == series("CALR-T1", "Rank-1", MSMT)[fastreid]


def test_published_figures_agree_between_papers() -> None:
    pairs = {"BUC": "unsupervised, no camera labels", "IICS": CALR_OWN}
    pairs["MMCL"] = pairs["BUC"]
    for method, group in pairs.items():
        for dataset in (MARKET, DUKE):
            for name in ("mAP", "Rank-1"):
                value = series("AFF-T2", name, dataset)[method]
                assert series("CALR-T1", name, dataset)[(group, method)] == value
    for name in ("mAP", "Rank-1", "Rank-5", "Rank-10"):
        value = series("QAFM-T3", name)["HCM"]
        assert series("CALR-T1", name, MARKET)[(pairs["BUC"], "HCM")] == value


def test_data_sets_agree_between_papers() -> None:
    calr, aff = load_table("CALR-DATA").to_frame(), load_table("AFF-T1").to_frame()
    assert calr.loc[MARKET, "images"] == aff.loc[MARKET, "total images"]
    assert calr.loc[DUKE, "images"] == aff.loc[DUKE, "train images"]
    assert calr.loc[DUKE, "identities"] == aff.loc[DUKE, "train identities"]
    assert list(calr.loc[[MARKET, DUKE], "cameras"]) == list(aff["cameras"])
    people = aff["train identities"] + aff["test identities"]
    assert calr.loc[MARKET, "identities"] == people[MARKET] == 1501


def test_aff_data_sets_add_up_as_noted() -> None:
    frame = load_table("AFF-T1").to_frame()
    total = frame["train images"] + frame["test images"]
    assert total[MARKET] == frame.loc[MARKET, "total images"]
    assert total[DUKE] == 36411 == frame.loc[DUKE, "total images"] - 30
    assert frame.loc[DUKE, "test images"] == 17661 + frame.loc[DUKE, "query images"]
    people = frame["train identities"] + frame["test identities"]
    assert 1812 - people[DUKE] == 408


def test_aff_own_figures_are_the_text_s() -> None:
    table = load_table("AFF-T2").to_frame()
    for dataset, average, rank in ((MARKET, 78.8, 90.9), (DUKE, 68.6, 82.4)):
        assert table[(dataset, "mAP")].idxmax() == "AFF_SCL"
        assert table.loc["AFF_SCL", (dataset, "mAP")] == average
        assert table.loc["AFF_SCL", (dataset, "Rank-1")] == rank
        other = DUKE if dataset == MARKET else MARKET
        adapted = series("AFF-T3", "mAP", f"{other} to {dataset}")["AFF_SCL"]
        assert average > adapted


def test_aff_best_run_is_the_same_in_four_tables() -> None:
    for name in ("mAP", "Rank-1"):
        value = series("AFF-T2", name, MARKET)["AFF_SCL"]
        assert series("AFF-T4", name)["total"] == value
        assert series("AFF-T5", name)[(0.75, 0.25)] == value
        assert series("AFF-T6", name)[(128, 8)] == value
        assert series("AFF-T5", name).idxmax() == (0.75, 0.25)


def test_aff_sweeps_are_what_they_sweep() -> None:
    assert all(a + b == 1 for a, b in load_table("AFF-T5").to_frame().index)
    assert all(b == 16 * k for b, k in load_table("AFF-T6").to_frame().index)
    assert load_table("AFF-T6").to_frame()["mAP"].is_monotonic_increasing
    identities = setting("AFF", "identities in a batch")
    instances = setting("AFF", "instances of an identity")
    assert identities * instances == setting("AFF", "batch size")
    assert setting("AFF", "lambda1, weight of the hard loss") == 0.75


def test_aff_balance_loss_costs_as_noted() -> None:
    alone, weighted = series("AFF-T4", "mAP"), series("AFF-T5", "mAP")
    assert alone["mean"] - weighted[(0.0, 1.0)] == pytest.approx(2.1)
    assert alone["hard"] - weighted[(1.0, 0.0)] == pytest.approx(2.6)
    ratio = setting("AFF", "gamma of the balance loss") / setting(
        "AFF", "alpha of the balance loss"
    )
    assert math.exp(ratio) - 1 == pytest.approx(4.2945, abs=5e-5)


def test_aff_swapped_row_is_as_noted() -> None:
    # Every other method does better towards Market-1501.
    frame = load_table("AFF-T3").to_frame()
    to_market = frame[(f"{DUKE} to {MARKET}", "mAP")]
    to_duke = frame[(f"{MARKET} to {DUKE}", "mAP")]
    assert list(frame.index[to_market < to_duke]) == ["MMT"]


def test_aff_sizes_as_the_text_says() -> None:
    frame = load_table("AFF-T8").to_frame()
    assert frame.loc["MHN-6 (PCB)", "FLOPs"] > 2 * frame.loc["AFF_SCL", "FLOPs"]
    assert frame.loc["MGN", "parameters"] > 2 * frame.loc["AFF_SCL", "parameters"]
    best = load_table("AFF-T7").to_frame()
    assert best["mAP"].idxmax() == "Baseline + AFF"
    assert best["Rank-1"].idxmax() == "MGN"


@pytest.mark.parametrize(
    ("dataset", "rank", "average"),
    [("CASIA", 6.5, 7.2), (MARKET, 5.4, 7.2), (DUKE, 8.2, 9.4)],
)
def test_cals_gains(dataset: str, rank: float, average: float) -> None:
    rows = load_table("CALS-T5").to_frame().loc[dataset]
    gain = rows.loc["CALS"] - rows.loc["Baseline"]
    assert gain["Rank-1"] == pytest.approx(rank)
    assert gain["mAP"] == pytest.approx(average)
    assert (gain > 0).all()


def test_cals_tables_repeat_each_other() -> None:
    frame = load_table("CALS-T5").to_frame()
    baseline = frame.xs("Baseline", level="method")
    assert baseline.equals(load_table("CALS-T4").to_frame())
    ours = load_table("CALS-T3").to_frame().loc["CALS"]
    proposed = frame.xs("CALS", level="method")
    for name in ("Rank-1", "mAP"):
        assert list(ours[name]) == list(proposed[name])
    for figure, name in (("CALS-F4", "Rank-1"), ("CALS-F5", "mAP")):
        assert ((series(figure, name) - proposed[name]).abs() <= 0.5).all()
    steps = series("CALS-F8", "mAP")
    assert steps["baseline"] == baseline.loc[MARKET, "mAP"]
    assert steps["CALS"] == proposed.loc[MARKET, "mAP"]


def test_cals_steps_and_ends() -> None:
    steps = list(series("CALS-F8", "mAP"))
    gains = [round(b - a, 1) for a, b in pairwise(steps)]
    assert gains == [1.8, 1.4, 1.4, 2.6]
    accuracy = load_table("CALS-T2").to_frame()
    assert len(accuracy) == setting("CALS", "epochs")
    assert (accuracy.diff().dropna() > 0).all(axis=None)
    assert (accuracy["global branch"] > accuracy["local branch"]).all()
    assert list(series("CALS-F7", "loss").index) == [1, 5]


def test_qafm_attributes_are_27_in_12_heads() -> None:
    frame = load_table("QAFM-T2").to_frame()
    assert len(frame) == setting("QAFM", "attribute heads") == 12
    assert frame["fields"].sum() == setting("QAFM", "attributes") == 27
    assert list(frame["classes"]) == [2] * 9 + [4, 8, 9]
    for classes, coding in zip(frame["classes"], frame["coding"], strict=True):
        values = coding.count(",") + 1
        assert values == (2 if "each field" in coding else classes)


def test_qafm_perturbations_are_34() -> None:
    total = series("QAFM-D3", "images").sum()
    assert total == setting("QAFM", "perturbed images") == 34
    assert setting("QAFM", "features in the score") == total + 1


def test_qafm_fusion_as_the_text_says() -> None:
    frame = load_table("QAFM-T4").to_frame()
    fixed = frame[frame.index.str.startswith("fixed")]
    assert list(fixed["alpha"]) == [float(name.split()[1]) for name in fixed.index]
    assert list(fixed["mAP"].nlargest(2).index) == ["fixed 0.4", "fixed 0.3"]
    assert frame["mAP"].idxmax() == frame["Rank-1"].idxmax() == "learned"
    assert frame.loc["appearance only", "alpha"] == 0
    assert frame.loc["attributes only", "alpha"] == 1
    learned = series("QAFM-F6", "alpha")["mean of the learned weights"]
    assert 0.3 < learned < 0.4
    for name in ("Rank-1", "Rank-5", "mAP"):
        assert series("QAFM-T3", name)["QAFM"] == frame.loc["learned", name]
    for example in ("QAFM-F9", "QAFM-F10"):
        assert abs(series(example, "alpha").iloc[0] - learned) < 0.0015


def test_qafm_two_means_of_the_score_differ_as_noted() -> None:
    score = series("QAFM-F5", "score")
    assert list(score[["minimum", "mean", "median", "maximum"]]) == sorted(score)
    assert score["mean"] != setting("QAFM", "mean of the score")
    assert setting("QAFM", "dimension before the last layer") == 2 * setting(
        "QAFM", "dimension of each branch"
    )


def test_qafm_scores_of_the_published_code_add_up() -> None:
    frame = load_table("QAFM-DATA").to_frame()
    counts = frame.loc["scores from", "images"]
    cameras = frame.loc["camera"]
    whole = frame.loc[("all images", "all")]
    # Market-1501's training, query and gallery without distractors and junk.
    assert counts.sum() == cameras["images"].sum() == whole["images"]
    assert whole["images"] == 12936 + 3368 + 13115
    middles = counts.index.astype(float) + 0.05
    mean = (middles * counts).sum() / counts.sum()
    assert mean == pytest.approx(whole["mean"], abs=0.01)
    spread = ((middles - mean) ** 2 * counts).sum() / counts.sum()
    assert spread**0.5 == pytest.approx(whole["deviation"], abs=0.01)
    weighted = (cameras["mean"] * cameras["images"]).sum() / whole["images"]
    assert weighted == pytest.approx(whole["mean"], abs=1e-4)
    assert frame.loc[("inside identities", "all"), "deviation"] < whole["deviation"]
    # The paper gives other figures of its queries.
    assert abs(whole["mean"] - setting("QAFM", "mean of the score")) < 0.01


# The functions.


def test_frame_has_every_figure() -> None:
    table = load_table("CALR-T1")
    frame = table.to_frame()
    assert frame.shape == (27, 13)
    assert list(frame.index.names) == ["setting", "method"]
    row = frame.loc[("supervised", "TransReID")]
    assert list(row)[:3] == ["ICCV21", 89.5, 96.2]
    assert math.isnan(row[(MARKET, "Rank-10")])
    one = load_table("AFF-T4").to_frame()
    assert list(one.columns) == ["mAP", "Rank-1"]
    assert one.index.name == "loss"


def test_tables_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_table("CALR-T4").title = "another"  # type: ignore[misc]


@pytest.mark.parametrize("unknown", ["CALR-T9", "", "calr-t4", "../coverage"])
def test_unknown_table_lists_the_known_ones(unknown: str) -> None:
    with pytest.raises(
        ReIDError, match=r"no table .*use one of AFF-F4, .*QAFM-T4"
    ) as e:
        load_table(unknown)
    assert "\n" not in str(e.value)
