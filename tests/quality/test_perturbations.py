"""The 34 perturbations: their count, both forms, strength, seeds, and geometry."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from reidlib.errors import ReIDError
from reidlib.quality import PERTURBATIONS, perturb, perturb_image


def crops(count=3, height=128, width=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, height // 4, width // 4)
    rough = 255 * torch.rand(shape, generator=generator)
    smooth = torch.nn.functional.interpolate(rough, (height, width), mode="bilinear")
    return smooth.to(torch.uint8)


def of(views, family, kind=None):
    """The views of a family by amount."""
    return {
        (p.kind, p.amount): view
        for p, view in zip(PERTURBATIONS, views, strict=True)
        if p.family == family and kind in (None, p.kind)
    }


def test_there_are_34_in_five_families():
    counts = Counter(p.family for p in PERTURBATIONS)
    assert counts == {
        "lighting": 4,
        "blur": 3,
        "occlusion": 16,
        "background": 8,
        "noise": 3,
    }
    assert len({(p.family, p.kind, p.amount) for p in PERTURBATIONS}) == 34


@pytest.mark.parametrize("size", [(128, 64), (37, 23), (10, 10)])
@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_both_forms_agree_to_one_level(size, strength):
    images = crops(2, 4 * size[0], 4 * size[1])[:, :, : size[0], : size[1]]
    images[0, :, 0, 0] = 0  # black has no hue
    views = perturb(images, strength=strength, seed=3)
    for image, tensors in zip(images, views, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        pictures = perturb_image(picture, strength=strength, seed=3)
        for p, one, other in zip(PERTURBATIONS, tensors, pictures, strict=True):
            levels = one.permute(1, 2, 0).numpy().astype(int) - np.asarray(other)
            assert abs(levels).max() <= 1, p


def test_strength_0_is_the_identity():
    images = crops()
    views = perturb(images, strength=0)
    assert (views == images[:, None]).all()
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    for view in perturb_image(picture, strength=0):
        assert (np.asarray(view) == np.asarray(picture)).all()


def test_every_one_changes_an_image_at_strength_1_and_no_two_are_equal():
    image = crops(1)
    every = torch.cat([image, perturb(image)[0]])
    assert len(every.flatten(1).unique(dim=0)) == 35


def test_an_image_gets_the_same_views_in_every_batch_and_order():
    images = crops(4)
    whole = perturb(images, seed=1)
    assert (perturb(images.flip(0), seed=1).flip(0) == whole).all()
    assert (perturb(images[2:3], seed=1) == whole[2:3]).all()
    noise = [p.family == "noise" for p in PERTURBATIONS]
    differs = (perturb(images, seed=2) != whole).flatten(2).any(dim=2)
    assert differs.all(dim=0).tolist() == noise


def test_brightness_is_the_v_of_hsv():
    image = torch.tensor(
        [[200, 100, 50], [0, 0, 0], [250, 250, 250]], dtype=torch.uint8
    )
    image = image.T[None, :, :, None].expand(1, 3, 3, 12).repeat(1, 1, 4, 1)
    views = of(perturb(image)[0], "lighting")
    # 200 + 45 = 245, and the other channels by the same factor.
    assert views["brightness", 45][:, 0, 0].tolist() == [245, 122, 61]
    assert views["brightness", -90][:, 0, 0].tolist() == [110, 55, 28]  # 27.5 to even
    assert views["brightness", 90][:, 1, 0].tolist() == [90, 90, 90]  # black turns grey
    assert views["brightness", 90][:, 2, 0].tolist() == [255, 255, 255]


def test_bars_lie_where_the_worked_example_says():
    views = of(
        perturb(torch.full((1, 3, 100, 50), 9, dtype=torch.uint8))[0], "occlusion"
    )
    rows, columns = np.nonzero((views["top", 0.05][0] == 0).numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 9, 2, 47)
    for (side, share), view in views.items():
        rows, columns = np.nonzero((view[0] == 0).numpy())
        inside = (rows.min() >= 5, rows.max() <= 94, columns.min() >= 2)
        assert all(inside)
        assert columns.max() <= 47
        along, thick = (90, 50) if side in ("left", "right") else (46, 100)
        assert len(rows) == along * int(share * thick + 0.5)
        mirrored = view.flip(1) if side in ("top", "bottom") else view.flip(2)
        other = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
        assert (views[other[side], share] == mirrored).all()


def test_the_smaller_oval_touches_the_borders_and_the_larger_one_cuts_the_corners():
    views = of(
        perturb(torch.full((1, 3, 100, 50), 9, dtype=torch.uint8))[0], "background"
    )
    kept = {key: (view == 9).all(dim=0) for key, view in views.items()}
    assert kept["red", 1.0].float().mean() == pytest.approx(np.pi / 4, abs=0.01)
    assert not kept["red", 1.0][0, 0]
    assert kept["red", 1.0][0].any()
    assert not kept["red", 1.2][0, 0]
    assert kept["red", 1.2][0, 25]
    assert (kept["red", 1.2] >= kept["red", 1.0]).all()
    assert views["yellow", 1.0][:, 0, 0].tolist() == [255, 255, 0]


def test_noises_have_the_strength_that_they_claim():
    grey = torch.full((1, 3, 300, 200), 128, dtype=torch.uint8)
    views = of(perturb(grey)[0], "noise")
    assert views["gaussian", 25.0].float().std() == pytest.approx(25, rel=0.02)
    assert views["speckle", 0.1].float().std() == pytest.approx(12.8, rel=0.02)
    salt = views["salt and pepper", 0.02]
    for level in (0, 255):
        assert (salt == level).float().mean() == pytest.approx(0.01, rel=0.2)
    assert (salt == salt[:1]).all()  # a pixel, not a channel


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 1, 1, dtype=torch.uint8), "images of 1 x 1 pixels"),
        (torch.zeros(1, 3, 64, 9, dtype=torch.uint8), "give at least 10 x 10"),
        (torch.zeros(1, 1, 64, 32, dtype=torch.uint8), r"of shape \(1, 1, 64, 32\)"),
        (torch.zeros(1, 3, 64, 32), "torch.float32 images"),
        (torch.zeros(3, 64, 32, dtype=torch.uint8), r"give uint8 of shape \(B, 3, H"),
    ],
)
def test_images_that_cannot_be_perturbed(images, message):
    with pytest.raises(ReIDError, match=message):
        perturb(images)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_pictures_of_another_mode(mode):
    with pytest.raises(ReIDError, match=f"mode {mode}; give image.convert"):
        perturb_image(Image.new(mode, (16, 32)))
    with pytest.raises(ReIDError, match="at least 10 x 10"):
        perturb_image(Image.new("RGB", (1, 1)))


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), "1"])
def test_strengths_outside_of_their_range(strength):
    with pytest.raises(ReIDError, match="strength is"):
        perturb(crops(1), strength=strength)
