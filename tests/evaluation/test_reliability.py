"""Calibration of a classifier: a loop over the bins, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reidlib.errors import ReIDError
from reidlib.evaluation import reliability


def test_equals_a_loop_over_the_bins():
    drawn = np.random.default_rng(0)
    confidence, right = drawn.random(500), drawn.random(500) < 0.6
    found = reliability(confidence, right, num_bins=7)
    error = 0.0
    for place in range(7):
        inside = (confidence > place / 7) & (confidence <= (place + 1) / 7)
        gap = abs(confidence[inside].mean() - right[inside].mean())
        error += inside.sum() / 500 * gap
        assert found.count[place] == inside.sum()
        assert found.accuracy[place] == pytest.approx(right[inside].mean())
    assert found.error == pytest.approx(error)


def test_a_classifier_that_knows_what_it_knows_has_no_error():
    confidence = np.repeat([0.25, 0.5, 0.75, 1.0], 4)
    right = np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1], bool)
    assert reliability(confidence, right, num_bins=4).error == 0
    assert reliability(np.ones(8), np.zeros(8, bool)).error == 1
    assert reliability(np.zeros(8), np.zeros(8, bool)).error == 0


def test_tensors_of_any_precision_are_taken():
    confidence = torch.tensor([0.5, 0.75], dtype=torch.bfloat16)
    assert reliability(confidence, torch.tensor([0, 1])).error == 0.375


def test_bad_input_is_refused():
    right = np.array([True, False])
    for bad in ([0.5, 1.1], [0.5, np.nan], [-0.1, 0.5]):
        with pytest.raises(ReIDError, match=r"probabilities in \[0, 1\]"):
            reliability(np.array(bad), right)
    for bad in (right[None], np.array([0.5, 1.0]), np.array(["0", "1"])):
        with pytest.raises(ReIDError, match=r"correct (has shape|are of type)"):
            reliability(np.array([0.5, 0.5]), bad)
    with pytest.raises(ReIDError, match="2 confidence and 1 correct"):
        reliability(np.array([0.5, 0.5]), right[:1])
    with pytest.raises(ReIDError, match="num_bins is 0"):
        reliability(np.array([0.5, 0.5]), right, num_bins=0)
    with pytest.raises(ReIDError, match=r"confidence of shape \(0,\)"):
        reliability(np.array([]), right[:0])


def test_more_bins_than_memory():
    with pytest.raises(ReIDError, match="give at most 1000000"):
        reliability(np.array([0.5]), np.array([True]), num_bins=10**9)
