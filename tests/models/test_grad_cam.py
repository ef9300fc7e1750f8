from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reidlib.errors import ReIDError
from reidlib.models import ReIDNet, add_attention, grad_cam


@pytest.fixture(scope="module", params=["gap", "gem", "attention"])
def model(request):
    torch.manual_seed(0)
    attends = request.param == "attention"
    net = ReIDNet("efficientnet_lite0", "gap" if attends else request.param, False)
    return (add_attention(net) if attends else net).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def feature_map(model, image):
    """The map that the pooling sees, cut out of the network."""
    attention = getattr(model.pool, "attention", torch.nn.Identity())
    return attention(model.backbone(image)).detach()


def test_equals_grad_cam_written_out_for_one_image(model, images):
    references = torch.randn(3, model.num_features)
    maps = grad_cam(model, images, references)
    assert maps.shape == (3, 64, 32)
    pooling = getattr(model.pool, "pooling", model.pool)
    for image, reference, found in zip(images, references, maps, strict=True):
        features = feature_map(model, image[None]).requires_grad_()
        neck = model.neck(pooling(features))
        similarity = (F.normalize(neck) * F.normalize(reference, dim=0)).sum()
        similarity.backward()
        total = torch.zeros(features.shape[2:])
        for channel in range(features.shape[1]):
            weight = features.grad[0, channel].mean()
            total += weight * features[0, channel].detach()
        total = total.clamp(min=0)[None, None]
        wanted = F.interpolate(total, (64, 32), mode="bilinear")[0, 0]
        torch.testing.assert_close(found, wanted / wanted.max(), atol=1e-3, rtol=1e-3)


def test_chunks_do_not_matter_and_nothing_is_left_behind(model, images):
    references = torch.randn(3, model.num_features)
    model.zero_grad(set_to_none=True)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = grad_cam(model, images, references)
    torch.testing.assert_close(grad_cam(model, images, references, 2), whole)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        assert not any(m._forward_pre_hooks for m in model.modules())
        torch.testing.assert_close(grad_cam(model, images, references), whole)
    model.eval()


def test_the_length_of_a_reference_does_not_matter(model, images):
    references = torch.randn(3, model.num_features)
    torch.testing.assert_close(
        grad_cam(model, images, references), grad_cam(model, images, 7 * references)
    )


def test_the_own_feature_of_an_image_has_an_empty_map(model, images):
    with torch.no_grad():
        own = model(images)
    assert not grad_cam(model, images, own).any()


def test_every_module_keeps_its_own_mode(images):
    net = ReIDNet("efficientnet_lite0", pretrained=False).train()
    net.neck.eval()
    before = [module.training for module in net.modules()]
    grad_cam(net, images, torch.randn(3, 1280))
    assert [module.training for module in net.modules()] == before


def test_a_frozen_network_has_a_map_too(images):
    net = ReIDNet("efficientnet_lite0", pretrained=False).requires_grad_(False)
    maps = grad_cam(net, images, torch.randn(3, 1280))
    assert float(maps.min()) >= 0
    assert float(maps.max()) == pytest.approx(1)


def test_references_must_fit(model, images):
    with pytest.raises(ReIDError, match="3 images and references of shape"):
        grad_cam(model, images, torch.randn(2, model.num_features))
    with pytest.raises(ReIDError, match="chunk is 0"):
        grad_cam(model, images, torch.randn(3, model.num_features), chunk=0)
    assert grad_cam(model, images[:0], torch.randn(0, 8)).shape == (0, 64, 32)


def test_inference_mode_changes_nothing(model, images):
    references = torch.randn(3, model.num_features)
    expected = grad_cam(model, images, references)
    with torch.inference_mode():
        inside = grad_cam(model, images * 1, references * 1)
    assert torch.equal(inside, expected)
    assert not inside.is_inference()
    # Made inside, used outside.
    with torch.inference_mode():
        made = images * 1, references * 1
    assert torch.equal(grad_cam(model, *made), expected)
    with torch.inference_mode():
        born = ReIDNet("tiny")
    with pytest.raises(
        ReIDError, match=r"the network was made under torch.inference_mode"
    ):
        grad_cam(born, images, torch.randn(3, 64))


def test_values_that_have_no_map_are_refused(model, images):
    references = torch.randn(3, model.num_features)
    with pytest.raises(ReIDError, match=r"references have 5 dim.* of the network 1280"):
        grad_cam(model, images, references[:, :5])
    for value in (torch.nan, torch.inf):
        bad = references.clone()
        bad[1, 0] = value
        with pytest.raises(ReIDError, match=r"references of 1 of 3 .* first in row 1"):
            grad_cam(model, images, bad)
    bad = images.clone()
    bad[2, 0, 0, 0] = torch.nan
    with pytest.raises(ReIDError, match="features of 1 of 3 images hold NaN"):
        grad_cam(model, bad, references)
