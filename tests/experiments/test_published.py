"""What the pages say about published results, asked of the result files."""

from __future__ import annotations

from reidlib.experiments import paired_differences


def test_neither_rule_of_the_sampler_is_better_beyond_luck():
    """The page of the results says so; 1.9 points are what luck moves a mean of three.

    Each of the three trainings of a rule is compared city by city.
    """
    trainings = ("first", "second", "third")
    pairs = {name: (f"published, {name}", f"scarce, {name}") for name in trainings}
    differences = paired_differences("sampler", pairs)
    cities = differences.drop(columns=["mean", "std"])
    assert cities.shape == (3, 3)
    assert not cities.isna().any(axis=None)
    assert abs(cities.to_numpy().mean()) < 1.9
