"""A network in a file of another format gives the same features."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SMALL, few_people, full_disk, train
from torch import Tensor, nn

import reidlib
from reidlib.cli import main
from reidlib.data import TestTransform
from reidlib.deploy import export_network
from reidlib.deploy.export import TOLERANCE
from reidlib.errors import ReIDError
from reidlib.models import DualBranchNet, ReIDNet
from reidlib.recipes import baseline

SIZE = (64, 32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return ReIDNet("tiny", pooling="gem", pretrained=False).eval()


def features(network: nn.Module, crops: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(TestTransform()(crops)).numpy()


def crops(number: int) -> Tensor:
    return torch.randint(256, (number, 3, *SIZE), dtype=torch.uint8)


def test_onnxruntime_computes_the_same_features(
    network: nn.Module, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "reid.onnx"
    apart = export_network(network, SIZE, file, fingerprint="abc")
    assert apart <= TOLERANCE
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for number in (1, 7):
        batch = crops(number)
        (found,) = session.run(None, {"images": batch.numpy()})
        np.testing.assert_allclose(found, features(network, batch), atol=TOLERANCE)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert about["fingerprint"] == "abc"
    assert (about["height"], about["width"]) == ("64", "32")
    assert [path.name for path in tmp_path.iterdir()] == ["reid.onnx"]


@pytest.mark.parametrize("kind", [ReIDNet, DualBranchNet])
def test_a_file_of_torch_export_needs_no_library(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    network = kind("tiny", pretrained=False).eval()
    file = tmp_path / "reid.pt2"
    export_network(network, SIZE, file, run="x")
    told = {"reidlib.json": ""}
    loaded = torch.export.load(file, extra_files=told).module()
    batch = crops(3)
    with torch.inference_mode():
        found = loaded(batch).numpy()
    np.testing.assert_allclose(found, features(network, batch), atol=TOLERANCE)
    assert json.loads(told["reidlib.json"])["run"] == "x"


@pytest.mark.parametrize("name", ["a.pt2", "a.onnx"])
def test_a_full_disk_ends_in_a_line(
    network: nn.Module, tmp_path: Path, name: str
) -> None:
    if name == "a.onnx":
        pytest.importorskip("onnxruntime")
    with full_disk(10_000), pytest.raises(ReIDError, match="cannot be written"):
        export_network(network, SIZE, tmp_path / name)
    assert not list(tmp_path.iterdir())


class Undecided(nn.Module):
    """A network that looks at its images before it decides."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) if images.sum() > 0 else images.flatten(1) * 2


class Random(nn.Module):
    """A network that never gives the same features again."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.rand_like(images).flatten(1)


def test_what_cannot_be_exported_leaves_nothing_behind(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(words: str, net: nn.Module = network, name: str = "a.pt2") -> None:
        with pytest.raises(ReIDError, match=words) as caught:
            export_network(net, SIZE, tmp_path / name)
        assert "\n" not in str(caught.value)

    refused("this network cannot be exported", Undecided())
    refused("differs from this one by", Random())
    refused("ends in none of .onnx, .pt2", name="a.txt")
    refused("cannot be written", name="missing/a.pt2")
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.pt2").write_text("mine")
    refused("already exists", name="b.pt2")
    assert (tmp_path / "b.pt2").read_text() == "mine"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused("needs the package onnx: pip install 'reidlib", name="a.onnx")
    with pytest.raises(ReIDError, match="image size"):
        export_network(network, (0, 32), tmp_path / "a.pt2")


def test_the_command_exports_a_run(
    tiny: reidlib.data.ReIDDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = baseline.Config(**{**SMALL, "epochs": 1, "k1": 10})
    train(baseline, config, few_people(tiny, 12), tmp_path / "run")
    words = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "reid.pt2")]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "crops of 64 x 32, uint8 RGB" in told
    reid = reidlib.load(tmp_path / "run", device="cpu")
    loaded = torch.export.load(tmp_path / "reid.pt2").module()
    pixels = np.random.default_rng(0).integers(256, size=(3, 64, 32, 3), dtype=np.uint8)
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(
            loaded(batch.contiguous()), reid.extract(pixels), atol=1e-5, rtol=0
        )
    assert main(words) == 2
