from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from reidlib.errors import ReIDError
from reidlib.models import ReIDNet, add_attention, extract_features, grad_cam

LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pooling", ["gap", "gem"])
def test_forward_is_the_normalised_neck(pooling, images):
    model = ReIDNet(LITE0, pooling)
    raw, neck = model.embed(images)
    assert raw.shape == neck.shape == (4, model.num_features)
    # A batch norm in training centres each feature and gives it deviation 1.
    torch.testing.assert_close(neck.mean(0), torch.zeros(1280), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        neck, (raw - raw.mean(0)) / (raw.var(0, correction=0) + 1e-5).sqrt()
    )
    torch.testing.assert_close(
        model(images), neck / neck.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5
    )


def test_bias_of_the_neck_stays_zero(images):
    model = ReIDNet(LITE0, frozen_stages=9)
    parameters = [p for p in model.parameters() if p.requires_grad]
    model(images)[:, :9].sum().backward()
    torch.optim.SGD(parameters, lr=1.0).step()
    assert (model.neck.bias == 0).all()
    assert (model.neck.weight != 1).any()


@pytest.mark.parametrize(("name", "frozen"), [(LITE0, 4), ("resnet50", 2), (LITE0, 0)])
def test_frozen_stages_change_neither_weights_nor_statistics(name, frozen, images):
    model = ReIDNet(name, pretrained=name == LITE0, frozen_stages=frozen)
    model.eval().train()
    before = copy.deepcopy(model.state_dict())
    parameters = [p for p in model.parameters() if p.requires_grad]
    (model(images) * torch.randn(4, model.num_features)).sum().backward()
    torch.optim.SGD(parameters, lr=1.0).step()
    changed = {
        int(key.split(".")[2])
        for key, value in model.state_dict().items()
        if key.startswith("backbone.") and not torch.equal(value, before[key])
    }
    assert changed == set(range(frozen, len(model.backbone.stages)))
    for number, stage in enumerate(model.backbone.stages):
        assert all(m.training == (number >= frozen) for m in stage.modules())


def test_four_frozen_stages_are_the_stem_and_three_groups_of_blocks():
    model = ReIDNet(LITE0, frozen_stages=4)
    trained = [name for name, p in model.backbone.named_parameters() if p.requires_grad]
    assert min(int(name.split(".")[1]) for name in trained) == 4
    assert model.backbone.stages[3][0].conv_dw.stride == (2, 2)
    assert len(model.backbone.stages[3]) == 2


def test_channels_last_changes_the_layout_and_not_the_answer(images):
    backbone = ReIDNet(LITE0).eval().backbone
    with torch.inference_mode():
        feature_map = backbone(images)
        expected = images
        for stage in backbone.stages:  # as they come, a plane for each channel
            expected = stage(expected)
    assert expected.is_contiguous()
    assert feature_map.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(feature_map, expected, rtol=1e-3, atol=1e-4)


def test_features_are_float32_under_autocast(images):
    model = ReIDNet(LITE0).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        features = model(images)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("pooling", ["gap", "gem"])
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [(torch.bfloat16, 0.05), (torch.float16, 0.005), (torch.float64, 1e-5)],
)
@pytest.mark.parametrize("attends", [False, True])
def test_a_network_of_another_precision_gives_its_features(
    kind, tolerance, pooling, attends, images
):
    torch.manual_seed(0)
    model = ReIDNet("tiny", pooling).eval()
    if attends:
        add_attention(model).eval()
    expected = extract_features(model, [images])
    model.to(kind)
    assert model.embed(images)[1].dtype == kind
    for batch in (images, images.to(kind), images.double()):
        features = extract_features(model, [batch])
        assert features.dtype == torch.float32
        assert float((features - expected).norm(dim=1).max()) < tolerance
    maps = grad_cam(model, images, expected.flip(0))
    assert maps.dtype == torch.float32
    assert float(maps.max()) == pytest.approx(1)


def test_state_is_restored_by_name(images):
    model = ReIDNet(LITE0, "gem").eval()
    other = ReIDNet(LITE0, "gem", pretrained=False)
    other.load_state_dict(model.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(other.eval()(images), model(images))


def test_extract_features_returns_all_rows_in_order(images):
    model = ReIDNet(LITE0).train()
    features = extract_features(model, iter(images.split(3)))
    assert model.training
    assert features.shape == (4, 1280)
    assert features.requires_grad is False
    assert not features.is_inference()
    with torch.inference_mode():
        torch.testing.assert_close(features, model.eval()(images), rtol=1e-4, atol=1e-5)
    with pytest.raises(ReIDError, match="no batch"):
        extract_features(model, [])


def test_mode_is_restored_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2)).train()
    with pytest.raises(RuntimeError):
        extract_features(model, [torch.zeros(1, 3)])
    assert model.training


def test_bad_settings_are_refused():
    with pytest.raises(ReIDError, match="pooling 'max' is unknown"):
        ReIDNet(LITE0, "max")
    with pytest.raises(ReIDError, match="frozen_stages is 6; resnet50 has 5 stages"):
        ReIDNet("resnet50", pretrained=False, frozen_stages=6)
    with pytest.raises(ReIDError, match="frozen_stages is -1"):
        ReIDNet(LITE0, frozen_stages=-1)
