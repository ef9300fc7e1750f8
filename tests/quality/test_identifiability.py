"""Identifiability against a double loop, and its invariances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from reidlib.data import (
    InMemoryImages,
    TestTransform,
    TrainTransform,
    open_dataset,
    read_image,
)
from reidlib.errors import ReIDError
from reidlib.models import build_backbone
from reidlib.models.fused import QualityEncoder
from reidlib.quality import (
    PERTURBATIONS,
    ScoreNormalisation,
    contrast,
    identifiability,
    measure_identifiability,
    perturb,
    perturb_image,
    sharpness,
)
from reidlib.quality.identifiability import resize

N = len(PERTURBATIONS) + 1


@pytest.fixture(scope="module")
def query(tiny_root):
    return open_dataset("synthcity", tiny_root).query[:5]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.ReLU(), torch.nn.Flatten()
    )
    return net.eval()


def test_a_double_loop():
    x = torch.randn(4, N, 6, generator=torch.Generator().manual_seed(0)).double()
    for row, views in enumerate(x):
        pairs = [(a - b).norm() for a, b in itertools.combinations(views, 2)]
        anchor = [(views[0] - b).norm() for b in views[1:]]
        assert len(pairs) == 595
        expected = torch.stack(pairs).mean(), torch.stack(anchor).mean()
        found = identifiability(x)[row], identifiability(x, "anchor")[row]
        torch.testing.assert_close(torch.stack(found).double(), torch.stack(expected))


def test_nearly_equal_views_far_from_zero_keep_their_distances():
    x = torch.tensor([[[1000.0, 0.0], [1000.0, 0.01]]])
    assert identifiability(x).item() == pytest.approx(0.01, rel=1e-4)


def test_a_constant_encoder_finds_nothing(query):
    images = InMemoryImages(query)
    scores = measure_identifiability(lambda x: x.new_ones(len(x), 3), images)
    assert scores.pairs.eq(0).all()
    assert scores.anchor.eq(0).all()


def test_pairs_do_not_depend_on_the_order_of_views_and_anchors_on_that_of_versions():
    x = torch.randn(3, N, 6, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(identifiability(x[:, order]), identifiability(x))
    kept = torch.cat([torch.tensor([0]), 1 + torch.randperm(N - 1)])
    one, other = (identifiability(v, "anchor") for v in (x[:, kept], x))
    torch.testing.assert_close(one, other)


def test_a_score_is_that_of_single_pictures_whatever_the_batch(query, encoder):
    scores = measure_identifiability(encoder, InMemoryImages(query), batch_size=2)
    alone = measure_identifiability(encoder, InMemoryImages(query), batch_size=5)
    torch.testing.assert_close(scores.pairs, alone.pairs)
    picture = Image.fromarray(read_image(query.file(3), (128, 64)))
    views = [picture, *perturb_image(picture)]
    pixels = torch.from_numpy(np.stack([np.asarray(v) for v in views]))
    with torch.inference_mode():
        features = encoder(TestTransform()(pixels.permute(0, 3, 1, 2)))[None]
    # The two forms of the perturbations may differ by one level of 255.
    assert identifiability(features).item() == pytest.approx(
        scores.pairs[3].item(), rel=1e-3
    )


def test_no_perturbation_no_drift_and_augmentation_alone_has_one(query, encoder):
    images = InMemoryImages(query)
    still = measure_identifiability(encoder, images, strength=0)
    assert still.pairs.eq(0).all()
    generator = torch.Generator().manual_seed(0)
    augment = TrainTransform((128, 64))
    noisy = measure_identifiability(
        encoder, images, strength=0, prepare=lambda x: augment(x, generator)
    )
    assert (noisy.pairs > 0).all()


def test_views_are_resized_after_they_were_perturbed(query):
    seen = []

    def encode(x):
        seen.append(tuple(x.shape))
        return x.mean(dim=(2, 3))

    images = InMemoryImages(query, (64, 32))
    measure_identifiability(encode, images, size=(96, 48), batch_size=5)
    assert seen == [(5 * N, 3, 96, 48)]


def test_large_images_are_taken_in_smaller_parts(query, encoder, monkeypatch):
    images = InMemoryImages(query, (64, 32))
    seen = []

    def encode(views):
        seen.append(len(views))
        return encoder(views)

    whole = measure_identifiability(encode, images, size=(96, 48))
    assert seen == [5 * N]
    network = QualityEncoder(build_backbone("tiny", pretrained=False), (96, 48)).eval()
    monkeypatch.setattr(network, "encode", encode)
    (pixels,) = images.batches([torch.arange(5)])
    for views, expected in {
        2 * N: [2 * N, 2 * N, N],
        10: 5 * [10, 10, 10, 5],
    }.items():
        names = resize.__globals__
        monkeypatch.setitem(names, "_PIXELS", views * 96 * 48)
        seen.clear()
        parts = measure_identifiability(encode, images, size=(96, 48))
        assert seen == expected
        torch.testing.assert_close(parts.pairs, whole.pairs)
        torch.testing.assert_close(parts.anchor, whole.anchor)
        seen.clear()
        torch.testing.assert_close(network(pixels), whole.pairs)
        assert seen == expected


def test_resizing_is_pillows_bicubic(query):
    pixels = read_image(query.file(0), (128, 64))
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    for size in ((384, 128), (64, 32)):
        small = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)
        found = resize(image, size)[0].permute(1, 2, 0).int()
        expected = torch.from_numpy(np.asarray(small).astype(np.int32))
        assert (found - expected).abs().max() <= 2
    assert resize(image, None) is image
    assert interpolate(image.float(), (128, 64)).eq(image).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(2, 1, 4), "at least one perturbed version"),
        (torch.zeros(2, 4), r"shape \(2, 4\)"),
        (torch.full((1, 3, 2), float("nan")), "NaN or inf"),
    ],
)
def test_features_that_give_no_score(features, message):
    with pytest.raises(ReIDError, match=message):
        identifiability(features)


def test_an_unknown_definition_and_no_image(query, encoder):
    with pytest.raises(
        ReIDError, match="definition is 'all'; choose from pairs, anchor"
    ):
        identifiability(torch.zeros(1, 3, 2), "all")
    with pytest.raises(ReIDError, match="there is no image"):
        measure_identifiability(encoder, InMemoryImages(query[:0]))
    with pytest.raises(ReIDError, match="batch_size is 0"):
        measure_identifiability(encoder, InMemoryImages(query), batch_size=0)


@pytest.mark.parametrize("definition", ["pairs", "anchor"])
def test_large_features_and_small_differences(definition):
    views = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = identifiability(views, definition)
    apart = identifiability(views.double() * 1e-3 + 1e6, definition)
    torch.testing.assert_close(apart, 1e-3 * expected, rtol=1e-5, atol=0)
    for factor in (1e30, 1e-30):
        found = identifiability(views.double() * factor, definition)
        torch.testing.assert_close(found, factor * expected, rtol=1e-5, atol=0)
    found = identifiability(views * 1e30, definition)
    torch.testing.assert_close(found, 1e30 * expected, rtol=1e-5, atol=0)
    with pytest.raises(ReIDError, match="too large for float32; scale them"):
        identifiability(views.double() * 1e300, definition)


def test_scores_that_have_no_mean_in_float32_are_refused():
    for bad in ([1e300, 2e300], [1e39, 1.0]):
        with pytest.raises(ReIDError, match=r"too large for torch.float32; scale them"):
            ScoreNormalisation().fit(np.array(bad))
    normalise = ScoreNormalisation()
    normalise.fit(np.array([1.0, 1.0 + 1e-15]) * 1e-40)
    assert torch.isfinite(normalise(torch.ones(1))).all()


def test_normalisation_is_measured_once_and_kept():
    scores = torch.randn(100, generator=torch.Generator().manual_seed(0)) * 3 + 11
    normalise = ScoreNormalisation()
    normalise.fit(scores)
    assert normalise(scores).mean().item() == pytest.approx(0, abs=1e-5)
    assert normalise(scores).std(correction=0).item() == pytest.approx(1, abs=1e-5)
    copy = ScoreNormalisation()
    copy.load_state_dict(normalise.state_dict())
    assert copy(scores).equal(normalise(scores))
    normalise.fit(torch.full((4,), 2.0))  # all alike: shifted, not divided by 0
    assert normalise(torch.tensor([2.0, 3.0])).tolist() == [0, 1]
    for bad in (torch.empty(0), torch.tensor([1.0, float("inf")]), torch.zeros(2, 2)):
        with pytest.raises(ReIDError, match="give \\(N,\\) finite"):
            normalise.fit(bad)


def test_arguments_as_people_have_them(query, encoder):
    images = InMemoryImages(query, (64, 32))
    expected = measure_identifiability(encoder, images, batch_size=2)
    found = measure_identifiability(
        encoder, images, batch_size=np.int64(2), seed=np.int64(0)
    )
    assert found.pairs.equal(expected.pairs)
    pixels = torch.stack(list(next(iter(images.batches([torch.arange(3)])))))
    assert perturb(pixels.numpy()).equal(perturb(pixels))
    assert sharpness(pixels.numpy()).equal(sharpness(pixels))
    assert contrast(pixels.numpy()).equal(contrast(pixels))
    views = torch.randn(2, 3, 4)
    for given in (views.numpy(), views.tolist(), views.double()):
        torch.testing.assert_close(identifiability(given), identifiability(views))
    picture = Image.fromarray(read_image(query.file(0), (64, 32)))
    assert len(perturb_image(picture, seed=np.int32(3))) == N - 1
    for size in (32, (64,), (64, 0), "64"):
        with pytest.raises(ReIDError, match="give height and width in pixels"):
            measure_identifiability(encoder, images, size=size)
    for seed in (-1, 1.5, True, None, 2**63):
        with pytest.raises(ReIDError, match="seed is"):
            measure_identifiability(encoder, images, seed=seed)
        with pytest.raises(ReIDError, match="perturb_image: seed is"):
            perturb_image(picture, seed=seed)
    with pytest.raises(ReIDError, match="the picture is a ndarray of mode None"):
        perturb_image(np.asarray(picture))
    with pytest.raises(ReIDError, match=r"contrast: images are \(3, 64, 32\)"):
        contrast(pixels[0])


def test_scores_as_people_have_them():
    scores = torch.tensor([11.0, 12.0, 14.0])
    expected = ScoreNormalisation()
    expected.fit(scores)
    for given in (scores.numpy(), scores.tolist(), scores.half(), scores.long()):
        normalise = ScoreNormalisation()
        normalise.fit(given)
        assert normalise(given).tolist() == pytest.approx(expected(scores).tolist())
    with pytest.raises(ReIDError, match=r"\(3, 1\) scores; give \(B,\)"):
        expected(scores[:, None])
