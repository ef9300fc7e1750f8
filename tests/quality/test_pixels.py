"""Sharpness and contrast of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reidlib.errors import ReIDError
from reidlib.quality import contrast, perturb, sharpness


def test_blur_lowers_sharpness_and_a_grey_picture_has_no_contrast():
    shape = (1, 3, 32, 16)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    blurred = perturb(image)[0][[4, 5, 6]]
    values = sharpness(torch.cat([image, blurred]))
    assert (values.diff() < 0).all()
    x = (image[0].permute(1, 2, 0).numpy() * [0.299, 0.587, 0.114]).sum(axis=2)
    loop = [
        x[r - 1, c] + x[r + 1, c] + x[r, c - 1] + x[r, c + 1] - 4 * x[r, c]
        for r in range(1, 31)
        for c in range(1, 15)
    ]
    assert values[0].item() == pytest.approx(np.var(loop))
    assert contrast(image).item() == pytest.approx(x.std())
    assert contrast(torch.full_like(image, 9)).item() == 0


@pytest.mark.parametrize("shape", [(3, 8, 4), (1, 1, 8, 4), (1, 3, 2, 9)])
def test_images_without_an_inside(shape):
    with pytest.raises(ReIDError, match="sharpness: images are"):
        sharpness(torch.zeros(shape, dtype=torch.uint8))
