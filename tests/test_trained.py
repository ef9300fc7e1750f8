"""A trained network in three lines: `reidlib.load`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support import SMALL, few_people, train

import reidlib
from reidlib.cli import main
from reidlib.data import image_files, read_image
from reidlib.engine.run import open_fabric
from reidlib.errors import ReIDError
from reidlib.evaluation import cosine_distance, nearest_features
from reidlib.recipes import baseline
from reidlib.recipes.steps import extract_test, load_model


@pytest.fixture(scope="module")
def city(tiny):
    return few_people(tiny, 6)


@pytest.fixture(scope="module")
def run(tmp_path_factory, city):
    config = replace(
        baseline.PRESETS["quick"],
        backbone="tiny",
        frozen_stages=0,
        epochs=1,
        iterations=2,
        height=64,
        width=32,
    )
    folder = tmp_path_factory.mktemp("run") / "run"
    train(baseline, config, city, folder)
    return folder


@pytest.fixture(scope="module")
def reid(run):
    return reidlib.load(run, device="cpu")


def test_deep_pillow_images_are_read_as_their_files_are(reid, tmp_path):
    ramp = np.linspace(0, 1, 64 * 32).reshape(64, 32)
    for number, values in enumerate(
        (
            (65535 * ramp).astype(np.uint16),
            (16383 * ramp).astype(np.uint16),
            (65535 * ramp).astype(np.int32),
            ramp.astype(np.float32),
        )
    ):
        file = tmp_path / f"{number}.tif"
        Image.fromarray(values).save(file)
        with Image.open(file) as image:
            assert torch.equal(reid.extract([image]), reid.extract([file]))
    wrong = Image.fromarray((65535 * ramp).astype(np.float32))
    with pytest.raises(ReIDError, match="extract: image 0 holds floats from 0 to 6553"):
        reid.extract([wrong])


def test_what_are_no_images_is_said(reid):
    for wrong in (None, 5):
        with pytest.raises(ReIDError, match=f"the images are {wrong}; give a folder"):
            reid.extract(wrong)
    pixels = torch.zeros(2, 8, 4, 3, requires_grad=True)
    with pytest.raises(ReIDError, match=r"image 0 has shape \(8, 4, 3\)"):
        reid.extract(pixels)


def test_a_device_is_a_name_or_torchs_own(run):
    assert reidlib.load(run, device=torch.device("cpu")).device.type == "cpu"


def test_features_are_those_of_the_evaluation(run, reid, city):
    network, config = load_model(run)
    expected, _ = extract_test(network, city, config, open_fabric("cpu").device)
    assert torch.equal(reid.extract(city.query), expected)
    files = [city.query.file(row) for row in range(len(city.query))]
    assert torch.equal(reid.extract(files), expected)
    # Another batch may be summed in another order.
    in_threes = reid.extract(map(str, files), batch_size=3)
    torch.testing.assert_close(in_threes, expected)
    torch.testing.assert_close(reid.extract(files[0]), expected[:1])
    # The same images as arrays of their own sizes, as Pillow images, and all at once.
    arrays = [read_image(file) for file in files]
    assert torch.equal(reid.extract(arrays), expected)
    assert torch.equal(reid.extract([Image.fromarray(a) for a in arrays]), expected)
    stacked = np.stack([read_image(file, (64, 32)) for file in files])
    assert torch.equal(reid.extract(stacked), expected)
    assert torch.equal(reid.extract(torch.from_numpy(stacked)), expected)
    assert torch.equal(reid.extract(stacked[..., ::-1][..., ::-1]), expected)


def test_a_folder_is_read_in_the_order_of_its_names(reid, city, tmp_path):
    for name, row in (("b.jpg", 0), ("a.jpg", 1), ("c.jpg", 2)):
        shutil.copy(city.query.file(row), tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match="1 other file"):
        features = reid.extract(tmp_path)
    expected = reid.extract(city.query[[1, 0, 2]])
    torch.testing.assert_close(features, expected)
    with pytest.warns(UserWarning, match="1 other file"):
        assert [f.name for f in image_files(tmp_path)] == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_gallery_is_ranked_by_cosine_distance_and_ties_by_row(reid, city):
    query, gallery = reid.extract(city.query), reid.extract(city.gallery)
    gallery = torch.cat([gallery, gallery[:5]])  # copies: equal distances
    index, distance = reid.rank(query, gallery, k=None)
    wanted = cosine_distance(query, gallery).numpy()
    order = np.argsort(wanted, axis=1, kind="stable")
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(distance, np.take_along_axis(wanted, order, 1))
    first, _ = reid.rank(query.numpy(), gallery.numpy(), k=3)
    np.testing.assert_array_equal(first, order[:, :3])
    # Images in the place of features.
    again, _ = reid.rank(city.query, city.gallery, k=1)
    assert again.shape == (len(city.query), 1)


def test_the_nearest_features_are_those_of_a_sort():
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(300, 5, generator=generator).round()  # many ties
    gallery[gallery.abs().sum(1) == 0] = 1.0
    query = gallery[:7] + 0.1
    for distance in ("cosine", "squared_euclidean"):
        all_of_them = nearest_features(query, gallery, 300, distance=distance)
        for k in (1, 20, 299):
            found = nearest_features(query, gallery, k, distance=distance)
            for part, whole in zip(found, all_of_them, strict=True):
                np.testing.assert_array_equal(part, whole[:, :k])


def test_what_is_no_image_is_named(reid, tmp_path):
    black = np.zeros((8, 4, 3), np.uint8)
    for images, words in (
        ([], "no images"),
        (tmp_path, "holds no image"),
        (tmp_path / "none.jpg", "none.jpg"),
        (np.zeros((2, 3, 8, 4), np.uint8), r"shape \(2, 3, 8, 4\)"),
        (np.zeros((2, 8, 4, 3)), "image 0 has .* float64"),
        ([black, np.zeros((0, 4, 3), np.uint8)], "image 1 has no pixels"),
        ([black, "a.jpg"], "one kind"),
        ([black, None], "image 1"),
    ):
        with pytest.raises(ReIDError, match=words):
            reid.extract(images)
    with pytest.raises(ReIDError, match="batch_size is 0"):
        reid.extract([black], batch_size=0)
    with pytest.raises(ReIDError, match="k is 0"):
        reid.rank(torch.eye(2), torch.eye(2), k=0)


def test_the_fingerprint_is_of_the_weights(run, reid):
    assert reidlib.load(run / "last.safetensors", device="cpu").fingerprint == (
        reid.fingerprint
    )
    network, _ = load_model(run)
    other = reidlib.trained.weights_hash(network)
    assert other == reid.fingerprint
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert reidlib.trained.weights_hash(network) != other


def test_importing_the_library_imports_nothing_heavy():
    code = "import sys, reidlib; print(sorted({'torch', 'timm'} & set(sys.modules)))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        reidlib.lode  # noqa: B018 - it is the access that fails


def test_features_are_in_the_precision_of_the_run(reid, city):
    mixed = replace(reid, config=replace(reid.config, precision="bf16-mixed"))
    expected, _ = extract_test(mixed.network, city, mixed.config, mixed.device)
    assert torch.equal(mixed.extract(city.query), expected)
    assert not torch.equal(expected, reid.extract(city.query))


def test_a_network_of_timm_is_trained_recorded_and_loaded(tiny, tmp_path):
    own = {"backbone": "timm:resnet10t", "last_stride": 2, "weights": "random"}
    clusters = {"clustering": "kmeans", "num_clusters": 8, "epochs": 1}
    config = baseline.Config(**{**SMALL, **own, **clusters})
    result = train(baseline, config, few_people(tiny, 8), tmp_path / "run")
    assert result["config"]["backbone"] == "timm:resnet10t"
    model = reidlib.load(tmp_path / "run", device="cpu")
    assert model.extract(tiny.query[:3]).shape == (3, 512)


def test_a_network_that_takes_one_size_alone_is_refused_at_once(tiny_root, capsys):
    words = "train baseline --backbone timm:mixer_s32_224 --weights random"
    words += " --frozen-stages 0"
    where = ["--last-stride", "2", "--root", str(tiny_root), "--device", "cpu"]
    assert main([*words.split(), *where]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "timm:mixer_s32_224 does not take images of 128 x 64" in told
