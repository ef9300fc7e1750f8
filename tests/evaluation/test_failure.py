"""Areas under ROC curves of failed searches, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reidlib.errors import ReIDError
from reidlib.evaluation import auroc


def test_the_area_is_that_of_the_curve_and_people_widen_the_interval():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 4)
    failed = np.repeat(rng.random(30) < 0.5, 4)  # whole people fail
    scores = failed + rng.normal(size=120)
    scores[:9] = 0.5  # ties
    found = auroc(scores, failed, people)
    assert found.value == pytest.approx(roc_auc_score(failed, scores))
    assert 0.5 < found.low < found.value < found.high < 1
    alone = auroc(scores, failed, np.arange(120))
    assert alone.value == found.value
    assert alone.high - alone.low < found.high - found.low
    assert auroc(-scores, failed, people).value == pytest.approx(1 - found.value)
    assert auroc(scores, failed, people) == found  # the draws have a seed
    assert np.isnan(auroc(failed, failed, people).high)
    with pytest.raises(ReIDError, match="0 of 120 failed"):
        auroc(scores, np.zeros(120, bool), people)


def test_an_interval_holds_the_true_area_about_as_often_as_it_says():
    # 40 people of 4 images, half of whose variance is the person's.
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        bad = rng.random(40) < 0.5
        failed = np.repeat(bad, 4)
        scores = np.repeat(rng.normal(size=40), 4) + rng.normal(size=160) + failed
        # Two normal distributions of variance 2, one apart: Phi(1 / 2) = 0.691.
        low, high = auroc(scores, failed, np.repeat(np.arange(40), 4), draws=200)[1:]
        inside += low <= 0.6915 <= high
    assert inside >= 88


@pytest.mark.parametrize(
    ("scores", "failed", "people", "message"),
    [
        ([1.0, np.nan], [0, 1], [1, 2], "finite"),
        ([[1.0], [2.0]], [0, 1], [1, 2], "finite"),
        ([1.0, 2.0, 3.0], [0, 1], [1, 2], "auroc"),
        ([1.0, 2.0], [1, 1], [1, 2], "2 of 2 failed"),
        ([1.0, 2.0], [0, 1], [1.5, 2], "people"),
        ([1.0, 2.0], [np.nan, 1], [1, 2], "failed has .*other than true and false"),
        ([1.0, 2.0], [0.5, 0], [1, 2], "failed has .*other than true and false"),
        ([1.0, 2.0], [-1, 0], [1, 2], "failed has .*other than true and false"),
    ],
)
def test_what_cannot_be_an_area(scores, failed, people, message):
    with pytest.raises(ReIDError, match=message):
        auroc(scores, failed, people)


def test_a_column_is_one_value_for_each_image():
    expected = auroc([1.0, 2.0, 0.5], [0, 1, 1], [1, 2, 3])
    assert auroc([1.0, 2.0, 0.5], [[0], [1], [1]], [1, 2, 3]).value == expected.value


@pytest.mark.parametrize(
    "changes",
    [
        *({"draws": draws} for draws in (-1, 0, 1, 2.5)),
        *({"seed": seed} for seed in (-1, 2.5, "0")),
        *({"confidence": share} for share in (95, 0, 1, "0.9", np.nan)),
    ],
)
def test_settings_of_the_interval_are_checked(changes):
    (name,) = changes
    with pytest.raises(ReIDError, match=f"auroc: {name} is"):
        auroc([1.0, 2.0], [0, 1], [1, 2], **changes)
