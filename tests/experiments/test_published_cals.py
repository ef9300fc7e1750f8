"""What the page on CALS says about published results, asked of the result files."""

from __future__ import annotations

import pandas as pd
from support import LUCK

import experiments_cals as cals
from reidlib.experiments import by_seed, load_results, paired_differences
from reidlib.recipes import baseline
from reidlib.recipes import cals as cals_recipe

STEP = 0.9  # points: luck in the mean of three cities of a main effect


def cities(table: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of three cities, without mean and deviation."""
    found = table.drop(columns=["mean", "std"])
    assert found.shape[1] == 3
    assert not found.isna().any(axis=None)
    return found


def difference(table: str, row: str, minus: str) -> pd.Series:
    return cities(paired_differences(table, {"it": (row, minus)})).loc["it"]


def test_cals_is_not_ahead_of_its_baseline_and_both_end_below_the_start():
    gain = difference("CALS-T5", "CALS", "Baseline")
    assert abs(gain.mean()) < LUCK
    assert gain.min() < 0 < gain.max()
    direct = by_seed("baseline", ["direct", "baseline"])
    runs = by_seed("CALS-T5", ["CALS", "Baseline"])
    assert (runs.loc["CALS"] < direct.loc["direct"]).all()
    assert (runs.loc["Baseline"] < direct.loc["direct"]).all()
    assert (runs.loc["CALS"] < direct.loc["baseline"] - 20).all()


def test_trainings_are_as_short_as_the_page_says():
    ours, paper = (cals_recipe.PRESETS[name] for name in ("ablation", "paper"))
    assert (ours.epochs, ours.iterations) == (8, 28)
    assert ours.num_labels * ours.num_instances == 32
    steps = paper.epochs * paper.iterations / (ours.epochs * ours.iterations)
    assert 8.5 < steps < 9.5
    contrast = baseline.PRESETS["ablation"]
    assert contrast.epochs * contrast.iterations == ours.epochs * ours.iterations
    assert contrast.num_labels * contrast.num_instances == 64


def test_luck_was_measured_on_trainings_with_three_times_the_score():
    scores = by_seed("CALS-F8", list(cals.CALS_DESIGN)).to_numpy().mean()
    assert 2.5 < by_seed("baseline", ["baseline"]).to_numpy().mean() / scores < 3.5


def test_new_labels_in_each_epoch_ruin_cals_and_not_its_baseline():
    anew = "CALS, clustered anew in each epoch"
    assert (difference("CALS-T5", anew, "CALS") < -7).all()
    anew = "Baseline, clustered anew in each epoch"
    change = difference("CALS-T5", anew, "Baseline")
    assert -LUCK < change.mean() < 0
    frame = load_results("CALS-T5").set_index("row")["result"]
    for result in frame.loc["CALS, clustered anew in each epoch"]:
        assert max(epoch["global_accuracy"] for epoch in result["epochs"]) < 0.01
    for result in frame.loc["Baseline, clustered anew in each epoch"]:
        assert result["epochs"][-1]["purity"] < result["epochs"][0]["purity"]


def test_accuracy_ends_below_the_purity():
    for result in load_results("CALS-T5").set_index("row")["result"].loc["CALS"]:
        last = result["epochs"][-1]
        assert max(last["global_accuracy"], last["local_accuracy"]) < last["purity"]
        assert last["purity"] < 0.5
        assert last["outlier_share"] == 0


def test_each_switch_has_one_sign_in_all_cities():
    effects = cities(cals.cals_effects())
    assert (effects.loc["attention"] > 0).all()
    assert (effects.loc[["K-Means++", "CALS"]] < 0).all(axis=None)
    means = effects.mean(axis=1)
    assert means[["K-Means++", "attention", "CALS"]].abs().max() < 2 * STEP
    crossed = means[means.index.str.contains(" x ")]
    assert len(crossed) == 3
    assert crossed.abs().max() < 2 * STEP


def test_the_best_of_the_eight_has_neither_kmeans_nor_cals():
    rows = list(cals.CALS_DESIGN)
    scores = by_seed("CALS-F8", rows)
    best = "DBSCAN, attention, DCLS"
    assert scores.mean(axis=1).idxmax() == best
    start = by_seed("baseline", ["direct"]).loc["direct"]
    above = (scores > start).all(axis=1)
    assert list(above[above].index) == [best]


def test_dbscan_leaves_images_out_and_is_purer():
    frame = load_results("CALS-F8").set_index("row")["result"]
    for one, two in zip(
        frame.loc["DBSCAN, no attention, DCLS"],
        frame.loc["K-Means++, no attention, DCLS"],
        strict=True,
    ):
        kept, every = one["epochs"][0], two["epochs"][0]
        assert 0.55 < kept["outlier_share"] < 0.7
        assert kept["purity"] > 0.88
        assert every["purity"] < 0.5
        assert every["clusters"] > 1.5 * kept["clusters"]


def test_the_smaller_network_is_ahead_in_the_baseline_of_each_city():
    gain = difference(
        "CALS-F8", "DBSCAN, no attention, DCLS", "Baseline, larger backbone"
    )
    assert (gain > 1).all()


def test_attention_gains_with_either_clustering():
    for clusters in ("K-Means++", "DBSCAN"):
        rows = [f"{clusters}, {name}, DCLS" for name in ("attention", "no attention")]
        assert (difference("CALS-F8", *rows) > 0).all()


def test_the_labels_of_cals_do_what_hard_labels_do_and_dcls_gains():
    rows = ["DCLS", "uniform", "CALS, predictions", "CALS, strength", "CALS, confusion"]
    pairs = {row: (row, "hard labels") for row in (*rows, "CALS, to the letter")}
    gains = cities(paired_differences("CALS-SMOOTHING", pairs))
    assert list(gains[(gains > 0.2).all(axis=1)].index) == ["DCLS"]
    assert 0 < gains.loc["DCLS"].mean() < LUCK
    assert gains.loc[rows[1:]].abs().max(axis=None) < 0.5
    assert (gains.loc["CALS, to the letter"] < -1.9).all()
    frame = load_results("CALS-SMOOTHING").set_index("row")["result"]
    for one, two in zip(
        frame.loc["CALS, to the letter"], frame.loc["hard labels"], strict=True
    ):
        learned = [r["epochs"][-1]["global_accuracy"] for r in (one, two)]
        assert learned[0] < 0.6 * learned[1]


def test_the_number_of_clusters_hardly_matters():
    rows = ["images / 32", "images / 16", "images / 8", "images / 4"]
    scores = by_seed("CALS-K", rows)
    assert scores.shape == (4, 3)
    means = scores.mean(axis=1)
    assert means.max() - means.min() < 1
    frame = load_results("CALS-K").set_index("row")["result"]
    last = {row: [r["epochs"][-1] for r in frame.loc[row]] for row in rows}
    few, many = last["images / 32"], last["images / 4"]
    assert {e["clusters"] for e in few} == {84}
    assert {e["clusters"] for e in many} == {675}
    assert max(e["purity"] for e in few) < 0.26
    assert min(e["purity"] for e in many) > 0.6
    for one, two in zip(few, many, strict=True):
        assert 0.4 < two["pairwise_recall"] / one["pairwise_recall"] < 0.6
