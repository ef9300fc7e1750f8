"""Effects of switches, against loops over the runs that they are computed from."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from reidlib.errors import ReIDError
from reidlib.experiments import by_seed, factorial_effects
from reidlib.experiments.plans import Plan, Row, plans
from reidlib.experiments.results import Data, Job

TINY = Data("tiny")
ALL = {"preset": "quick", "data": TINY}
SWITCHES = {"A": {"height": 64}, "B": {"width": 32}, "C": {"pooling": "gem"}}
DESIGN = {
    "".join(on) or "none": on
    for setting in product((False, True), repeat=3)
    for on in [sorted(name for name, yes in zip("CBA", setting) if yes)]
}
ROWS = [
    Row(name, "direct", {k: v for s in on for k, v in SWITCHES[s].items()})
    for name, on in DESIGN.items()
]


@pytest.fixture
def factorial(tmp_path, monkeypatch):
    """A plan with all settings; ``factorial(scores)`` writes those of each seed."""
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path))
    monkeypatch.setitem(plans(), "trial", Plan("trial", "A trial", tuple(ROWS)))

    def write(scores: dict[int, dict[str, float]]) -> None:
        for seed, row in product(scores, ROWS):
            if row.name not in scores[seed]:
                continue
            job = Job("trial", row, "quick", TINY, seed)
            metrics = {"cmc": {"1": 0.5}, "mAP": scores[seed][row.name] / 100}
            metrics |= {"mINP": 0.1, "num_queries": 10, "num_unmatched": 0}
            result = {**job.inputs(), "seconds": 1.0, "metrics": metrics}
            job.file.parent.mkdir(parents=True, exist_ok=True)
            job.file.write_text(json.dumps(result))

    return write


def random_scores(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    return dict(zip(DESIGN, rng.uniform(20, 60, len(DESIGN)).tolist()))


def gains(scores, name, where=()) -> list[float]:
    """The gain of a switch in each setting of the others, or where some are on."""
    found = []
    for row, on in DESIGN.items():
        if name not in on and set(where) <= set(on):
            (partner,) = [r for r, o in DESIGN.items() if set(o) == {*on, name}]
            found.append(scores[partner] - scores[row])
    return found


def test_effects_are_those_of_a_loop_over_all_settings(factorial):
    scores = {seed: random_scores(seed) for seed in (0, 1, 2)}
    factorial(scores)
    told = factorial_effects("trial", DESIGN, **ALL)
    assert sorted(told.index) == ["A", "A x B", "A x C", "B", "B x C", "C"]
    for seed in scores:
        for name in "ABC":
            expected = np.mean(gains(scores[seed], name))
            assert told.loc[name, seed] == pytest.approx(expected)
        for name in ("A x B", "A x C", "B x C"):
            a, b = name.split(" x ")
            for one, other in ((a, b), (b, a)):  # the same number for both
                whole = gains(scores[seed], one)
                on = gains(scores[seed], one, where=[other])
                off = (sum(whole) - sum(on)) / len(on)
                assert told.loc[name, seed] == pytest.approx(np.mean(on) - off)
    each = told[[0, 1, 2]]
    assert told["mean"].to_numpy() == pytest.approx(each.mean(axis=1).to_numpy())
    assert told["std"].to_numpy() == pytest.approx(each.std(axis=1, ddof=1).to_numpy())


def test_a_sum_has_no_interaction_and_a_product_has(factorial):
    worth = {"A": 5.0, "B": -2.0, "C": 0.5}
    added = {row: 30 + sum(worth[s] for s in on) for row, on in DESIGN.items()}
    both = {row: 30 + 4.0 * ({"A", "B"} <= set(on)) for row, on in DESIGN.items()}
    factorial({0: added, 1: both})
    told = factorial_effects("trial", DESIGN, **ALL)
    names = ["A", "B", "C", "A x B", "A x C", "B x C"]
    assert told.loc[names, 0].tolist() == pytest.approx([5, -2, 0.5, 0, 0, 0])
    # A gains 4 where B is on and 0 where it is off: 2 on average, 4 more where it is.
    assert told.loc[names, 1].tolist() == pytest.approx([2, 2, 0, 4, 0, 0])


def test_what_makes_a_city_easy_or_the_order_of_rows_changes_nothing(factorial):
    scores = random_scores(3)
    factorial({0: scores, 1: {row: score + 7 for row, score in scores.items()}})
    told = factorial_effects("trial", DESIGN, **ALL)
    assert told[0].to_numpy() == pytest.approx(told[1].to_numpy())
    turned = dict(reversed(list(DESIGN.items())))
    again = factorial_effects("trial", turned, **ALL)
    for name in "ABC":
        assert again.loc[name, 0] == pytest.approx(told.loc[name, 0])


def test_a_seed_without_all_of_its_runs_has_no_effects(factorial):
    short = random_scores(1)
    del short["AB"]
    factorial({0: random_scores(0), 1: short})
    told = factorial_effects("trial", DESIGN, **ALL)
    assert told[1].isna().all()
    assert told["mean"].to_numpy() == pytest.approx(told[0].to_numpy())
    assert told["std"].isna().all()
    assert by_seed("trial", ["AB", "A"], **ALL).isna().loc["AB"].tolist() == [0, 1]


def test_without_runs_there_are_lines_and_no_numbers(factorial):
    told = factorial_effects("trial", DESIGN, **ALL)
    assert told.columns.tolist() == ["mean", "std"]
    assert len(told) == 6
    assert told.isna().all(axis=None)


@pytest.mark.parametrize(
    "design",
    [
        {},
        {"none": (), "A": ("A",)},
        {name: on for name, on in DESIGN.items() if name != "ABC"},
        {**DESIGN, "none": ("A",)},
    ],
    ids=["nothing", "one switch", "a row too few", "a setting twice"],
)
def test_every_setting_is_given_once(design):
    with pytest.raises(ReIDError, match="each of their settings once"):
        factorial_effects("trial", design)


def test_its_rows_must_exist(factorial):
    named = {("all" if name == "ABC" else name): on for name, on in DESIGN.items()}
    with pytest.raises(ReIDError, match="trial has no row 'all'"):
        factorial_effects("trial", named, **ALL)
