"""What the pages say about published results, asked of the result files."""

from __future__ import annotations

from reidlib.experiments import by_seed, load_results, paired_differences


def test_neither_rule_of_the_sampler_is_better_beyond_luck():
    """The page on the baseline says so; 1.9 points are what luck moves a mean of three.

    Each of the three trainings of a rule is compared city by city.
    """
    trainings = ("first", "second", "third")
    pairs = {name: (f"published, {name}", f"scarce, {name}") for name in trainings}
    differences = paired_differences("sampler", pairs)
    cities = differences.drop(columns=["mean", "std"])
    assert cities.shape == (3, 3)
    assert not cities.isna().any(axis=None)
    assert abs(cities.to_numpy().mean()) < 1.9


def test_a_larger_radius_trains_better_up_to_06_in_every_city():
    radii = [f"eps 0.{digit}" for digit in range(3, 8)]
    scores = by_seed("AFF-F4", radii)
    assert scores.shape == (5, 3)
    steps = scores.diff().iloc[1:]
    assert (steps.iloc[:3] > 0).all(axis=None)
    assert abs(steps.iloc[3].mean()) < 1.9
    runs = load_results("AFF-F4")
    last = {
        eps: [r["epochs"][-1] for r in runs[runs["row"] == eps]["result"]]
        for eps in radii
    }
    assert all(e["pairwise_precision"] < 0.5 for e in last["eps 0.7"])
    assert all(0.45 < e["outlier_share"] < 0.6 for e in last["eps 0.3"])


def test_dbscan_is_ahead_of_other_clusterings_in_every_city():
    rows = ["DBSCAN", "agglomerative", "Infomap", "K-Means++"]
    scores = by_seed("clustering", rows)
    assert scores.shape == (4, 3)
    assert (scores.drop("DBSCAN") < scores.loc["DBSCAN"]).all(axis=None)
    runs = load_results("clustering").set_index("row")["result"]
    last = {row: [r["epochs"][-1] for r in runs.loc[row]] for row in rows}
    assert all(e["pairwise_precision"] < 0.5 for e in last["K-Means++"])
    infomap = [e["outlier_share"] for e in last["Infomap"]]
    assert sum(infomap) / len(infomap) > 0.5
    pairs = {row: [e["pairwise_f"] for e in epochs] for row, epochs in last.items()}
    assert all(a > d for a, d in zip(pairs["agglomerative"], pairs["DBSCAN"]))


def test_larger_images_help_imagenet_features_in_every_city():
    rows = ["Lite0, 64 x 32", "Lite0", "Lite0, 256 x 128, last stride 2"]
    fine = "Lite0, 256 x 128"
    scores = by_seed("features", [*rows, fine])
    assert scores.shape == (4, 3)
    assert (scores.loc[rows].diff().iloc[1:] > 0).all(axis=None)
    assert (scores.loc[fine] < scores.loc[rows[2]] - 1.9).all()


def test_the_baseline_stands_between_no_training_and_supervision_in_every_city():
    rows = ["direct", "baseline", "supervised"]
    scores = by_seed("baseline", rows).loc[rows]
    assert scores.shape == (3, 3)
    assert (scores.loc["baseline"] - scores.loc["direct"] >= 19).all()
    assert (scores.loc["supervised"] > scores.loc["baseline"] + 1.9).all()
    cameras = by_seed("baseline", rows, measure="NMI camera").loc[rows].mean(axis=1)
    assert cameras.is_monotonic_decreasing
