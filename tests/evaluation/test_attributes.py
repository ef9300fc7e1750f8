"""Scores of attribute predictions, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
)

from reidlib.errors import ReIDError
from reidlib.evaluation import score_attributes


def drawn(seed=0, count=200):
    rng = np.random.default_rng(seed)
    sizes = (2, 4, 8)
    classes = np.stack([rng.integers(-1, n, count) for n in sizes], axis=1)
    scores = [rng.random((count, n)) for n in sizes]
    for group, one in enumerate(scores):
        known = classes[:, group] >= 0
        one[known, classes[known, group]] += 0.4
    return scores, classes


def test_all_three_agree_with_scikit_learn():
    scores, classes = drawn()
    found = score_attributes(scores, classes)
    for group, one in enumerate(scores):
        known = classes[:, group] >= 0
        truth, predicted = classes[known, group], one[known].argmax(axis=1)
        assert found.accuracy[group] == accuracy_score(truth, predicted)
        balanced = balanced_accuracy_score(truth, predicted)
        assert found.balanced[group] == pytest.approx(balanced)
        one_hot = np.eye(one.shape[1])[truth]
        macro = average_precision_score(one_hot, one[known], average="macro")
        assert found.average_precision[group] == pytest.approx(macro)
        assert found.count[group] == known.sum()
    means = found.means()
    assert means["balanced_accuracy"] == pytest.approx(found.balanced.mean())


def test_the_frequent_class_alone_is_accurate_and_not_balanced():
    classes = np.array([[0]] * 95 + [[1]] * 5)
    always = np.tile([0.9, 0.1], (100, 1))
    found = score_attributes([always], classes)
    assert found.accuracy[0] == 0.95
    assert found.balanced[0] == 0.5
    # Nothing is found first: the precision of each class is its share.
    assert found.average_precision[0] == pytest.approx(0.5)


def test_logits_and_tensors_will_do():
    scores, classes = drawn(1)
    one = score_attributes(scores, classes)
    logits = [torch.from_numpy(np.log(p)) for p in scores]
    other = score_attributes(logits, torch.from_numpy(classes))
    for name in ("accuracy", "balanced", "average_precision"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name))


def test_a_group_that_is_unknown_counts_for_nothing():
    scores, classes = drawn()
    classes[:, 1] = -1
    found = score_attributes(scores, classes)
    assert np.isnan(found.accuracy[1])
    assert found.count[1] == 0
    assert found.means()["accuracy"] == pytest.approx(found.accuracy[[0, 2]].mean())
    assert np.isnan(
        score_attributes(scores, np.full_like(classes, -1)).means()["accuracy"]
    )


@pytest.mark.parametrize(
    ("scores", "classes", "message"),
    [
        ([np.ones((2, 2))], np.zeros((2, 2), int), r"\(2, 2\) for 1 heads"),
        ([], np.zeros((0, 0), int), "at least one image"),
        ([np.ones((3, 2))], np.zeros((2, 1), int), r"probabilities of shape \(3, 2\)"),
        ([np.ones((2, 1))], np.zeros((2, 1), int), "two classes or more"),
        ([np.ones((2, 2))], np.array([[0], [2]]), "goes from 0 to 2"),
        ([np.ones((2, 2))], np.array([[0], [-2]]), "goes from -2 to 0"),
        ([np.full((2, 2), np.nan)], np.zeros((2, 1), int), "NaN or inf"),
    ],
)
def test_bad_input(scores, classes, message):
    with pytest.raises(ReIDError, match=message):
        score_attributes(scores, classes)


def test_classes_of_any_type_that_is_whole():
    scores, classes = drawn()
    expected = score_attributes(scores, classes).means()
    for given in (classes.astype(float), torch.from_numpy(classes).half()):
        assert score_attributes(scores, given).means() == expected
    told = classes[:, :1] == 1
    found = score_attributes(scores[:1], told)
    assert found.means() == score_attributes(scores[:1], told.astype(int)).means()
    for wrong in (float("nan"), 0.5, float("inf")):
        given = classes.astype(float)
        given[3, 1] = wrong
        with pytest.raises(
            ReIDError, match=r"classes of head 1 are not whole .* row 3"
        ):
            score_attributes(scores, given)
