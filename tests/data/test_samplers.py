"""P x K batches: always P labels with K images, and positives from other cameras."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidlib.data import PKSampler, sequential_batches
from reidlib.errors import ReIDError


def runs(batch, num_instances):
    return batch.reshape(-1, num_instances)


def make(labels, p=2, k=4, batches=20, camids=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PKSampler(np.asarray(labels), p, k, batches, generator, camids)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(-1, 6), min_size=1, max_size=40).filter(
        lambda labels: max(labels) >= 0
    ),
    p=st.integers(1, 5),
    k=st.integers(1, 6),
    cross=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_batch_is_p_runs_of_k_of_one_label(labels, p, k, cross, seed):
    labels = np.array(labels)
    camids = np.random.default_rng(seed).integers(0, 3, len(labels))
    sampler = make(labels, p, k, 7, camids if cross else None, seed)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 7
    clusters = len(set(labels[labels >= 0].tolist()))
    for batch in batches:
        assert batch.shape == (p * k,)
        assert batch.dtype == torch.int64
        drawn = labels[runs(batch, k).numpy()]
        assert (drawn >= 0).all()
        assert (drawn == drawn[:, :1]).all()
        assert len(set(drawn[:, 0].tolist())) == min(p, clusters)
        for run in runs(batch, k):
            rows, label = run.tolist(), labels[run[0]]
            size = int((labels == label).sum())
            if not cross:
                assert size < k or len(set(rows)) == k
                continue
            pool = np.flatnonzero((labels == label) & (camids != camids[rows[0]]))
            if len(pool) == 0:
                pool = np.flatnonzero(labels == label)
                pool = pool[pool != rows[0]] if len(pool) > 1 else pool
            assert set(rows[1:]) <= set(pool.tolist())
            assert len(pool) < k - 1 or len(set(rows[1:])) == k - 1


def test_a_pass_visits_every_label_once():
    labels = np.repeat(np.arange(10), 5)
    batches = list(make(labels, p=5, k=2, batches=8))
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        visited = labels[torch.cat([first, second]).reshape(-1, 2)[:, 0].numpy()]
        assert sorted(visited.tolist()) == list(range(10))


def test_draws_are_uniform_over_labels_anchors_and_pool():
    # Label 0: images 0-3, camera 0 holds three of them; label 1: images 4-5.
    labels, camids = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 0, 1])
    sampler = make(labels, p=1, k=2, batches=6000, camids=camids)
    drawn = torch.stack(list(sampler))
    of_first = drawn[drawn[:, 0] < 4]
    assert abs(len(of_first) / 6000 - 0.5) < 0.03
    anchors = torch.bincount(of_first[:, 0]) / len(of_first)
    assert (anchors - 0.25).abs().max() < 0.05
    positives = of_first[of_first[:, 0] == 3, 1]
    assert (torch.bincount(positives) / len(positives) - 1 / 3).abs().max() < 0.05
    assert set(of_first[of_first[:, 0] < 3, 1].tolist()) == {3}


def test_the_generator_is_the_only_state():
    labels = np.repeat(np.arange(6), 3)
    sampler = make(labels)
    first = torch.stack(list(sampler))
    second = torch.stack(list(sampler))
    assert not torch.equal(first, second)
    assert torch.equal(torch.stack(list(make(labels))), first)


@pytest.mark.parametrize("rule", ["scarce", "published"])
@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("mates", range(1, 7))
def test_mates_are_repeated_as_the_rule_says(rule, cross, mates):
    """A label with ``mates`` images besides the first, as its pool of positives."""
    k, num_images = 4, mates + 1
    # Every image has its own camera, so all others are in the pool.
    camids = np.arange(num_images) if cross else None
    generator = torch.Generator().manual_seed(0)
    sampler = PKSampler(
        np.zeros(num_images, int), 1, k, 300, generator, camids, replacement=rule
    )
    drawn = [set(batch.tolist()) for batch in sampler]
    repeats = any(len(images) < k for images in drawn)
    # The published code requires a pool of K although it draws K - 1.
    wanted = k if rule == "published" and cross else k - 1
    assert repeats == (mates < wanted)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ReIDError, match="replacement is 'never'; choose from"):
        PKSampler(
            np.zeros(4, int),
            1,
            2,
            3,
            torch.Generator(),
            replacement="never",  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("name", ["num_labels", "num_instances", "num_batches"])
def test_numbers_below_one_are_refused(name):
    numbers = {"num_labels": 2, "num_instances": 2, "num_batches": 2, name: 0}
    with pytest.raises(ReIDError, match=f"{name} is 0"):
        PKSampler(np.zeros(4, int), generator=torch.Generator(), **numbers)


def test_only_outliers_are_refused():
    with pytest.raises(ReIDError, match="none of the 3 labels is 0 or above"):
        make([-1, -1, -1])


def test_cameras_of_another_length_are_refused():
    with pytest.raises(ReIDError, match="3 labels and 2 camids; give one of each"):
        make([0, 0, 1], camids=np.array([0, 1]))


def test_sequential_batches_cover_everything_once():
    batches = list(sequential_batches(10, 4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.cat(batches).tolist() == list(range(10))
    assert list(sequential_batches(0, 4)) == []
    with pytest.raises(ReIDError, match="batch_size is 0"):
        list(sequential_batches(10, 0))


def test_labels_are_taken_as_people_have_them():
    def drawn(labels, camids):
        generator = torch.Generator().manual_seed(0)
        sampler = PKSampler(labels, 2, 2, 3, generator, camids=camids)
        return torch.stack(list(sampler)).tolist()

    labels, camids = np.array([0, 0, 1, 1, 2, -1]), np.array([0, 1, 0, 1, 0, 1])
    expected = drawn(torch.from_numpy(labels), torch.from_numpy(camids))
    reverse = labels[::-1].copy()[::-1], camids[::-1].copy()[::-1]
    for pair in ((labels[:, None], camids.astype(">f8")), reverse):
        assert drawn(*pair) == expected
    with pytest.raises(ReIDError, match="3 of 6 labels are not whole"):
        drawn(labels / 2, camids)
