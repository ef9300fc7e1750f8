"""What the page on all methods says of their parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

import summary
from reidlib.experiments import Data, Job, by_seed, paired_differences, plans
from reidlib.experiments.verdicts import luck, seed_noise


@pytest.fixture(scope="module")
def parts():
    return summary.parts()


def signed(parts, sign):
    return {part.name for part in parts if part.verdict.sign == sign}


def test_the_parts_that_help_and_hurt_are_those_of_the_text(parts):
    assert signed(parts, "●") == {
        "label refinement with weights",
        "contrast with the mean",
        "attributes, equal weights",
    }
    assert signed(parts, "✕") == {
        "camera alignment with weights",
        "both: CALR",
        "contrast with the hardest",
        "learned weight",
    }
    for part in parts:
        if part.verdict.sign == "●":
            assert min(part.verdict.here.values()) > 0, part.name


def test_what_cannot_be_told_lies_within_seed_variance(parts):
    unclear = signed(parts, "◐") | signed(parts, "○")
    assert unclear == {part.name for part in parts} - signed(parts, "●") - signed(
        parts, "✕"
    )
    for part in parts:
        one = part.verdict
        assert math.isfinite(one.noise)
        assert len(one.here) == 3
        assert (part.name in unclear) == (abs(one.mean) <= one.noise)


def test_without_weights_refinement_and_alignment_move_less_than_chance():
    rows = {"label refinement": "Baseline", "camera alignment": "Baseline"}
    named = {name: (name, against) for name, against in rows.items()}
    found = paired_differences("CALR-T3", named, measure="mAP")
    for name in rows:
        cities = found.loc[name].drop(["mean", "std"])
        assert abs(found.loc[name, "mean"]) < seed_noise(cities, luck()), name
    weights = paired_differences("CALR-T3", {"w": ("weights", "Baseline")})
    assert (weights.loc["w"].drop(["mean", "std"]) > 0).sum() == 2


def test_both_memories_lose_what_the_mean_gains(parts):
    found = {part.name: part.verdict for part in parts}
    mean, both = found["contrast with the mean"], found["both: symmetric contrast"]
    assert mean.against == both.against
    assert all(both.here[city] < mean.here[city] for city in mean.here)


def test_the_figure_has_a_line_for_each_part(parts):
    figure = summary.draw()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"{part.name}  {part.verdict.sign}" for part in parts]


def test_longer_training_does_what_the_text_says():
    assert summary.steps_of("course") > 5 * summary.steps_of("ablation")
    short, long = trained("CALR: baseline")
    grown = min(long[seed] - short[seed] for seed in long)
    gains = {one.row: one for one in summary.growth()}
    largest = max(abs(part.verdict.mean) for part in summary.parts())
    assert grown > 2 * largest
    longer = [one for one in gains.values() if one.long]
    for gain in longer:
        assert max(gain.long.values()) < grown / 2, gain.row
    calr, refined = gains["CALR: with alignment"], gains["CALR: label refinement"]
    assert max(calr.short.values()) < 0 < min(calr.long.values())
    moved = [refined.long[seed] - refined.short[seed] for seed in refined.long]
    assert abs(np.mean(moved)) < calr.noise
    assert not gains["AFF_SCL, nothing erased"].long
    assert not gains["CALS"].long


def trained(name):
    """mAP of a row after short and after longer training, for each seed."""
    return [
        by_seed("training", [name], preset=preset).loc[name].dropna().to_dict()
        for preset in plans()["training"].presets
    ]


def test_the_baseline_of_cals_grows_least():
    grown = {}
    for row in plans()["training"].rows:
        short, long = trained(row.name)
        if long:
            grown[row.name] = max(long[seed] - short[seed] for seed in long)
    assert len(grown) > 2
    assert min(grown, key=grown.get) == "CALS: baseline"


def epochs_of(name):
    """The epochs of each longer training of a row."""
    (row,) = (row for row in plans()["training"].rows if row.name == name)
    jobs = [Job("training", row, "course", Data(), seed) for seed in range(3)]
    return [found["epochs"] for job in jobs if (found := job.read())]


def test_labels_change_in_longer_training_as_the_text_says():
    def purer(epochs):
        return epochs[-1]["pairwise_precision"] - epochs[0]["pairwise_precision"]

    names = ("CALR: baseline", "AFF_SCL: baseline", "AFF_SCL", "CALS: baseline")
    of = {name: epochs_of(name) for name in names}
    assert all(of.values())
    for name in ("CALR: baseline", "AFF_SCL: baseline"):
        assert all(purer(one) > 0 for one in of[name])
    assert all(purer(one) < 0 for one in of["AFF_SCL"])
    for epochs in of["CALS: baseline"]:
        assert epochs[0]["outlier_share"] > 0.5
        assert len({epoch["pairwise_recall"] for epoch in epochs}) == 1


def test_the_loss_of_aff_scl_grows():
    name = "AFF_SCL"
    (aff,) = (one for one in summary.growth() if one.row == name)
    assert aff.long
    assert all(aff.long[seed] < aff.short[seed] < 0 for seed in aff.long)


def test_the_figure_of_longer_training_compares_the_same_cities():
    for one in summary.growth():
        assert not one.long or set(one.short) == set(one.long), one.row
    labels = summary.draw_growth().axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == [
        one.row for one in summary.growth()
    ]
