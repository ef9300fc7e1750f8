from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image

from reidlib.errors import ReIDError
from reidlib.synthcity import colour_histogram, raw_pixels

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 24, 12, 3), dtype=np.uint8)


def test_histogram_equals_a_loop_over_pixels():
    bins, stripes = (6, 3, 2), 4
    found = colour_histogram(IMAGES[:2], bins, stripes)
    for image, row in zip(IMAGES, found):
        hsv = np.asarray(Image.fromarray(image).convert("HSV"))
        counts = np.zeros((stripes, *bins))
        for y in range(24):
            for x in range(12):
                h, s, v = (int(a) * b // 256 for a, b in zip(hsv[y, x], bins))
                counts[y * stripes // 24, h, s, v] += 1
        expected = np.sqrt(counts.ravel())
        assert np.allclose(row, expected / np.linalg.norm(expected), atol=1e-6)


def test_histogram_of_one_colour_fills_one_bin_per_stripe():
    colour = (200, 40, 40)
    features = colour_histogram(np.full((1, 12, 6, 3), colour, np.uint8), stripes=3)
    assert np.count_nonzero(features) == 3
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
    code = (int(hue * 12) * 4 + int(saturation * 4)) * 4 + int(value * 4)
    assert features[0, code] > 0


def test_histogram_forgets_where_in_a_stripe_a_pixel_is():
    shuffled = IMAGES[:, :, ::-1]
    assert np.allclose(colour_histogram(IMAGES), colour_histogram(shuffled))


def test_raw_pixels_are_centred_per_camera():
    camids = np.array([0, 0, 0, 1, 1])
    offset = np.zeros((5, 1, 1, 1), np.uint8)
    offset[3:] = 90
    dim = IMAGES // 2
    plain = raw_pixels(dim + offset, camids, (4, 2))
    assert np.allclose(plain, raw_pixels(dim, camids, (4, 2)), atol=0.05)
    assert np.allclose(np.linalg.norm(plain, axis=1), 1.0, atol=1e-5)
    assert raw_pixels(IMAGES, size=(4, 2)).shape == (5, 24)


def test_what_is_no_images_is_refused():
    with pytest.raises(ReIDError, match="give an \\(N, H, W, 3\\) array of uint8"):
        colour_histogram(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(ReIDError, match="float64"):
        raw_pixels(np.zeros((3, 8, 8, 3)))
    with pytest.raises(ReIDError, match="camera ids of shape \\(2,\\) for 5 images"):
        raw_pixels(IMAGES, np.zeros(2))
