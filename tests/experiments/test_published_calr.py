"""What the pages on CALR say about published results, asked of the result files."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
from support import LUCK

import experiments_calr as calr
from reidlib.experiments import paired_differences


def cities(table: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of three cities, without mean and deviation."""
    found = table.drop(columns=["mean", "std"])
    assert found.shape[1] == 3
    assert not found.isna().any(axis=None)
    return found


def test_calr_is_ahead_of_its_baseline_in_one_of_twelve_pairs():
    changes = cities(paired_differences("CALR-T1", calr.CHANGES))
    ours = changes[changes.index.str.startswith("CALR")]
    assert ours.size == 12
    assert (ours > 0).to_numpy().sum() == 1
    assert (ours.loc["CALR, mean pooling"] > 0).sum() == 1
    older = changes[changes.index.str.startswith("baseline")]
    assert (older > 0).all(axis=None)
    assert older.mean(axis=1).min() > LUCK
    means = ours.drop(index="CALR, mean pooling").mean(axis=1)
    assert means.idxmax() == "CALR with the choices of its code, GeM"


def test_refinement_with_weights_gains_and_alignment_costs_in_every_city():
    gains = cities(calr.gains("CALR-T3", "Baseline"))
    ahead = gains[(gains > 0).all(axis=1)].index
    assert list(ahead) == ["label refinement, weights"]
    assert LUCK < gains.loc["label refinement, weights"].mean() < 2 * LUCK
    assert gains.loc["label refinement"].abs().max() < 1
    assert (gains.loc["weights"] > 0).sum() == 2
    assert gains.loc["both, weights"].max() < 0
    aligned = cities(paired_differences("CALR-T3", calr.ALIGNED))
    assert aligned.size == 12
    assert (aligned < 0).all(axis=None)
    # Weights make it worse, in every city.
    assert (aligned.loc["weights"] < aligned.loc["nothing else"]).all()
    assert (aligned.loc["refinement and weights"] < aligned.loc["refinement"]).all()
    better = gains.loc["both, normalised weights"] > gains.loc["both, weights"]
    assert better.sum() == 2
    assert gains.loc["both, normalised weights"].mean() < 0


def test_two_schedules_that_do_opposite_things_are_ahead_in_every_city():
    gains = cities(calr.gains("CALR-T4", "none"))
    ahead = gains[(gains > 0).all(axis=1)].index
    assert set(ahead) == {"exponential", "cosine, period 3"}
    assert gains.mean(axis=1).abs().max() < 2 * LUCK
    last = {
        row: [run["epochs"][-1] for run in calr.runs_of("CALR-T4", row).values()]
        for row in ("none", *ahead)
    }
    assert max(e["discard_ratio"] for e in last["exponential"]) < 0.01
    assert min(e["discard_ratio"] for e in last["cosine, period 3"]) > 0.08
    assert min(e["probability"] for e in last["cosine, period 3"]) >= 0.76


def test_small_weights_of_the_camera_loss_align_and_large_ones_cost():
    gains = cities(calr.gains("CALR-T5", "beta 0.0"))
    assert gains.loc[["beta 0.2", "beta 0.4"]].mean(axis=1).abs().max() < LUCK
    assert gains.loc[["beta 1.0", "beta 1.5"]].to_numpy().max() < -5
    near = calr.same_camera()
    change = near - near.loc["beta 0.0"]
    assert change.loc["beta 0.2"].max() < -2.5
    assert (change.loc["beta 1.0"] > change.loc["beta 0.2"] + 2).all()
    assert change.loc["beta 1.5"].mean() > 0
    assert set(change.idxmin()) <= {"beta 0.2", "beta 0.4"}
    assert change.mean(axis=1).idxmin() == "beta 0.2"


def test_refined_clusters_are_the_purest_and_global_ones_overtake_local_ones():
    first = calr.qualities(0)
    for place in range(3):
        every = {kind: found[place] for kind, found in first.items()}
        precision = {kind: one.pairwise_precision for kind, one in every.items()}
        recall = {kind: one.pairwise_recall for kind, one in every.items()}
        assert precision["global"] < precision["local"] < precision["refined"]
        assert recall["refined"] < recall["global"] < recall["local"]
    runs = calr.runs_of("CALR-T3", "label refinement")
    overtaken = set()
    for run in runs.values():
        local = run["metrics"]["local"]["pairwise_f"]
        scores = [epoch["within"]["pairwise_f"] for epoch in run["epochs"]]
        overtaken.add(next(n for n, f in enumerate(scores, 1) if f > local))
    assert overtaken == {3, 4}


def test_frozen_labels_make_clusters_purer_to_the_end_and_lower_their_f():
    begins = []
    for run in calr.runs_of("CALR-F6", "CALR, no decay").values():
        epochs = run["epochs"]
        before = [e["unrefined"] for e in epochs]
        pairs = list(zip(epochs, before))
        assert all(e["pairwise_precision"] > u["pairwise_precision"] for e, u in pairs)
        ahead = [e["pairwise_f"] > u["pairwise_f"] for e, u in pairs]
        assert all(ahead[:2])
        assert not any(ahead[5:])
        begins.append(ahead.index(False) + 1)
        assert 0.3 < epochs[0]["discard_ratio"] < 0.4
        assert 0.1 < epochs[-1]["discard_ratio"] < 0.15
    assert (min(begins), max(begins)) == (3, 6)
    for row in ("Baseline", "CALR, no decay", "CALR, cosine"):
        scores = [
            [e["test"]["mAP"] for e in run["epochs"]]
            for run in calr.runs_of("CALR-F6", row).values()
        ]
        assert all(one[-1] > one[-2] for one in scores)


def test_the_gap_of_the_judges_grows_with_the_shift_and_the_gain_does_not():
    gap = (calr.local_precision() - calr.precision_within(0)).mean()
    assert all(b > a for a, b in pairwise(gap))
    assert abs(gap[0.0]) < 0.02
    local = calr.local_precision().mean()
    assert local[1.0] > local[0.0] + 0.05
    scores = calr.shift_scores()
    gain = scores["refined"] - scores["baseline"]
    assert (gain > 0).to_numpy().sum() == 11
    assert gain[0.0].mean() > gain[1.0].mean()
    slopes = [
        pd.Series(line.index).cov(line.reset_index(drop=True))
        for _, line in gain.iterrows()
    ]
    assert sorted(slope > 0 for slope in slopes) == [False, True, True]
