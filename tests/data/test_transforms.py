"""Transforms: each step compared with a plain loop, and its statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from reidlib.data import IMAGENET_MEAN, IMAGENET_STD, TestTransform, TrainTransform
from reidlib.data.transforms import (
    erase_rectangles,
    jitter_colours,
    normalise,
    pad_and_crop,
)
from reidlib.errors import ReIDError

SIZE = (32, 16)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_images(count=64, size=SIZE):
    shape = (count, 3, *size)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator(9))


def plain(**changes):
    steps = {"flip": 0.0, "pad": 0, "erasing": 0.0, "jitter": 0.0}
    return TrainTransform(SIZE, **{**steps, **changes})


def test_without_augmentation_it_is_the_test_transform():
    images = some_images()
    expected = tv.normalize(images / 255, IMAGENET_MEAN, IMAGENET_STD)
    torch.testing.assert_close(TestTransform()(images), expected)
    torch.testing.assert_close(plain()(images, generator()), expected)


def test_flip_mirrors_whole_images_at_its_rate():
    images = some_images(2000, (4, 6))
    transform = TrainTransform((4, 6), flip=0.3, pad=0, erasing=0.0)
    result = transform(images, generator())
    mirrored = TestTransform()(images.flip(-1))
    kept = TestTransform()(images)
    is_mirrored = (result == mirrored).flatten(1).all(1)
    is_kept = (result == kept).flatten(1).all(1)
    assert bool((is_mirrored | is_kept).all())
    assert abs(is_mirrored.float().mean().item() - 0.3) < 0.04


def test_pad_and_crop_cuts_a_window_of_the_padded_image():
    images, pad = some_images(500, (6, 4)), 2
    result = pad_and_crop(images, pad, generator())
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    offsets = []
    for image, window in zip(padded, result.numpy(), strict=True):
        fits = [
            (top, left)
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            if (image[:, top : top + 6, left : left + 4] == window).all()
        ]
        assert len(fits) == 1
        offsets += fits
    counts = np.unique(offsets, axis=0, return_counts=True)[1]
    assert len(counts) == 25
    assert counts.min() > 5


def test_jitter_is_torchvisions_with_the_same_factors():
    images = some_images(8).float() / 255
    strength = 0.4
    draws = torch.rand((4, 8), generator=generator()) * 2 - 1
    expected = []
    for image, (b, c, s, h) in zip(images, draws.T.tolist(), strict=True):
        image = tv.adjust_brightness(image, 1 + strength * b)
        image = tv.adjust_contrast(image, 1 + strength * c)
        image = tv.adjust_saturation(image, 1 + strength * s)
        expected.append(tv.adjust_hue(image, strength * h / 4))
    result = jitter_colours(images, strength, generator())
    torch.testing.assert_close(result, torch.stack(expected), atol=0.01, rtol=0)
    assert result.min() >= 0
    assert result.max() <= 1
    torch.testing.assert_close(
        jitter_colours(images, 0.0, generator()), images, atol=1e-5, rtol=0
    )


def test_erasing_covers_one_rectangle_of_the_published_shape():
    images = torch.rand((3000, 3, *SIZE), generator=generator(1)) + 1
    fill = torch.tensor([-1.0, -2.0, -3.0])
    result = erase_rectangles(images, 0.5, fill, generator())
    erased = (result == fill[:, None, None]).all(1)
    assert torch.equal(
        result, torch.where(erased[:, None], fill[:, None, None], images)
    )
    covered = erased.flatten(1).any(1)
    assert abs(covered.float().mean().item() - 0.5) < 0.03
    heights = erased.any(2).sum(1)[covered].double()
    widths = erased.any(1).sum(1)[covered].double()
    areas = erased.flatten(1).sum(1)[covered].double()
    assert torch.equal(heights * widths, areas)
    shares = areas / (SIZE[0] * SIZE[1])
    assert 0.015 < shares.min() < 0.03
    assert 0.35 < shares.max() < 0.45
    assert (heights / widths).min() > 0.2
    assert (heights / widths).max() < 4.5
    for side in (erased[:, 0], erased[:, -1], erased[:, :, 0], erased[:, :, -1]):
        assert side.any()


def test_erasing_has_the_distribution_of_the_rejection_loop():
    height, width = SIZE
    rng = np.random.default_rng(0)
    naive = []
    for _ in range(4000):
        for _attempt in range(100):
            area = rng.uniform(0.02, 0.4) * height * width
            aspect = rng.uniform(0.3, 3.33)
            h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
            if h < height and w < width:
                naive.append((h, w))
                break
    images = torch.ones((4000, 3, *SIZE))
    erased = erase_rectangles(images, 1.0, torch.zeros(3), generator())[:, 0] == 0
    ours = torch.stack([erased.any(2).sum(1), erased.any(1).sum(1)], dim=1)
    expected = torch.tensor(naive).double()
    assert len(expected) == 4000
    torch.testing.assert_close(
        ours.double().mean(0), expected.mean(0), atol=0.4, rtol=0
    )
    torch.testing.assert_close(ours.double().std(0), expected.std(0), atol=0.3, rtol=0)


@pytest.mark.parametrize(
    ("fill", "value"), [("mean", IMAGENET_MEAN), ("zero", (0.0, 0.0, 0.0))]
)
def test_the_fill_is_put_in_after_normalisation(fill, value):
    images = torch.zeros((50, 3, *SIZE), dtype=torch.uint8)
    transform = plain(erasing=1.0, erasing_fill=fill)
    result = transform(images, generator())
    black = normalise(torch.zeros(1, 3, 1, 1))
    erased = result != black
    assert bool(erased.flatten(1).any(1).all())
    for channel in range(3):
        found = result[:, channel][erased[:, channel]]
        torch.testing.assert_close(found, torch.full_like(found, value[channel]))


def test_the_generator_decides_everything():
    images = some_images()
    transform = TrainTransform(SIZE, jitter=0.3)
    first = transform(images, generator(1))
    assert first.shape == images.shape
    assert torch.equal(first, transform(images, generator(1)))
    assert not torch.equal(first, transform(images, generator(2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": 1.5}, r"flip is 1\.5; give a number in \[0, 1\]"),
        ({"erasing": -0.1}, r"erasing is -0\.1"),
        ({"jitter": float("nan")}, "jitter is nan"),
        ({"pad": -1}, "pad is -1; give a whole number from 0 up"),
        ({"erasing_fill": "red"}, "erasing_fill is 'red'; choose from mean, zero"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ReIDError, match=message):
        TrainTransform(SIZE, **changes)


def test_batches_of_another_kind_are_refused():
    with pytest.raises(ReIDError, match=r"got torch.float32 images of shape \(2, 3,"):
        TestTransform()(torch.zeros(2, 3, 8, 4))
    with pytest.raises(ReIDError, match=r"expected uint8 of shape \(B, 3, H, W\)"):
        TestTransform()(torch.zeros(2, 8, 4, dtype=torch.uint8))
    with pytest.raises(ReIDError, match=r"of \(32, 16\) pixels for a transform of"):
        TrainTransform((16, 8))(some_images(), generator())
