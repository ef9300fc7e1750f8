from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidlib.errors import ReIDError
from reidlib.labels import contiguous_labels


def test_contiguous_labels() -> None:
    labels = contiguous_labels(np.array([9, -1, 4, 4, 9, 2, -1]))
    assert labels.tolist() == [0, -1, 1, 1, 0, 2, -1]
    assert contiguous_labels(np.array([-1, -1])).tolist() == [-1, -1]
    assert contiguous_labels(np.zeros(0, int)).tolist() == []


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(-1, 8), max_size=30), least=st.integers(1, 4))
def test_contiguous_labels_keep_clusters(labels: list[int], least: int) -> None:
    old = np.array(labels, dtype=np.int64)
    new = contiguous_labels(old, min_cluster_size=least).numpy()
    for i in range(len(old)):
        kept = old[i] >= 0 and (old == old[i]).sum() >= least
        assert (new[i] >= 0) == kept
        if kept:
            np.testing.assert_array_equal(new == new[i], old == old[i])
    assert set(new) - {-1} == set(range(new.max(initial=-1) + 1))


def test_contiguous_labels_input_is_checked() -> None:
    with pytest.raises(ReIDError, match="lowest label is -3"):
        contiguous_labels(torch.tensor([0, -3]))
    with pytest.raises(ReIDError, match="give whole numbers"):
        contiguous_labels(torch.tensor([0.0, 1.5]))
    with pytest.raises(ReIDError, match="min_cluster_size is 0"):
        contiguous_labels(torch.tensor([0, 1]), min_cluster_size=0)
