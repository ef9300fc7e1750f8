"""What the page on all methods says of their parts."""

from __future__ import annotations

import math

import pytest

import summary
from reidlib.experiments import paired_differences
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
