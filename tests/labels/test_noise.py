"""Planted noise: how much of it, where, and that it is refused where it cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reidlib.errors import ReIDError
from reidlib.labels import plant_noise


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def city():
    """600 images of 30 classes under 4 cameras, at random."""
    drawn = np.random.default_rng(0)
    labels = np.concatenate([np.arange(30), drawn.integers(0, 30, 570)])
    return labels, drawn.integers(0, 4, 600)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_random_noise_is_exactly_as_much_as_was_asked_for(rate, city):
    labels, _ = city
    noisy = plant_noise(labels, rate, generator()).numpy()
    assert (noisy != labels).sum() == int(rate * 600)
    assert set(noisy) <= set(range(30))


def test_random_noise_takes_every_other_class_equally_often():
    labels = np.arange(30_000) % 3
    noisy = plant_noise(labels, 1.0, generator()).numpy()
    shares = [(noisy[labels == 0] == other).mean() for other in (1, 2)]
    assert shares == pytest.approx([0.5, 0.5], abs=0.02)  # 4 standard deviations


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_camera_noise_moves_whole_groups_to_a_class_of_the_same_camera(rate, city):
    labels, camids = city
    noisy = plant_noise(labels, rate, generator(), kind="camera", camids=camids).numpy()
    smallest = min(np.bincount(labels * 4 + camids)[np.unique(labels * 4 + camids)])
    wrong = (noisy != labels).sum()
    assert rate * 600 - smallest < wrong <= rate * 600
    seen = set(zip(labels.tolist(), camids.tolist(), strict=True))
    for label, camera in seen:
        group = noisy[(labels == label) & (camids == camera)]
        assert len(set(group.tolist())) == 1
        assert (group[0], camera) in seen


def test_a_class_that_is_alone_under_its_camera_keeps_its_label():
    labels, camids = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 1])
    noisy = plant_noise(labels, 1.0, generator(), kind="camera", camids=camids)
    assert noisy.tolist() == [0, 0, 2, 2, 1, 1]


def test_bad_input_is_refused(city):
    labels, camids = city
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(ReIDError, match="rate is"):
            plant_noise(labels, rate, generator())
    with pytest.raises(ReIDError, match="1 classes in 3 labels"):
        plant_noise(np.zeros(3, int), 0.5, generator())
    with pytest.raises(ReIDError, match="without a gap"):
        plant_noise(np.array([0, 2]), 0.5, generator())
    with pytest.raises(ReIDError, match="give the camera of each image"):
        plant_noise(labels, 0.5, generator(), kind="camera")
    with pytest.raises(ReIDError, match="have no camera"):
        plant_noise(labels, 0.5, generator(), kind="camera", camids=camids - 1)
    with pytest.raises(ReIDError, match="kind is 'colour'"):
        plant_noise(labels, 0.5, generator(), kind="colour")


def test_cameras_with_one_class_each_can_show_no_wrong_label_of_their_own():
    labels = np.arange(12) % 3
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ReIDError, match="every camera shows one class"):
        plant_noise(labels, 0.5, generator, kind="camera", camids=labels)
    still = plant_noise(labels, 0.0, generator, kind="camera", camids=labels)
    assert still.tolist() == labels.tolist()
