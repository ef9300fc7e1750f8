"""Every network may be put to work after half(), bfloat16() or double()."""

from __future__ import annotations

import copy

import pytest
import torch

from reidlib.models import DualBranchNet, ReIDNet, add_attention, build_backbone
from reidlib.models.fused import FusedNet, QualityEncoder


def fused(**changes):
    # No map may be two pixels wide where a convolution strides over it: PyTorch 2.15
    # computes that wrongly in bfloat16 on processors with AMX.
    quality = QualityEncoder(build_backbone("tiny", pretrained=False), (64, 32))
    sizes = {"features": 8, "width": 8, "decoder_channels": 8, "fused_features": 8}
    settings = {**sizes, "attribute_hidden": 4, "memory_steps": 2, **changes}
    return FusedNet("tiny", [2, 3], quality, pretrained=False, **settings)


def attended():
    model = ReIDNet("tiny", "gem", pretrained=False)
    add_attention(model, 2, 4, "casam", "cam")
    return model


NETWORKS = {
    "plain": lambda: ReIDNet("tiny", pretrained=False),
    "attention": attended,
    **{
        f"two branches, {descriptor}, {attention}": lambda d=descriptor, a=attention: (
            DualBranchNet("tiny", attention=a, descriptor=d, pretrained=False)
        )
        for descriptor in ("global", "local", "both")
        for attention in ("sigmoid", "softmax", "none")
    },
    "fused": fused,
    "fused, as the published code": lambda: fused(
        local_attention=True, activation=True, shared_encoder=True, memory_steps=1
    ),
    "fused, a neuron": lambda: fused(alpha_hidden=0, alpha_weighs="appearance"),
    "fused, one alpha": lambda: fused(fixed_alpha=0.3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_works_in_every_type(name):
    torch.manual_seed(0)
    model = NETWORKS[name]()
    images = torch.randn(4, 3, 128, 64)
    with torch.no_grad():
        for _ in range(3):  # statistics of a batch norm that are no longer 0 and 1
            model.train()(images)
        if isinstance(model, FusedNet):
            views = (255 * torch.rand(4, 3, 128, 64)).byte()
            model.fusion.weight.normalise.fit(model.quality(views))
        expected = model.eval()(images)
        for kind in (torch.float16, torch.bfloat16, torch.float64):
            other = copy.deepcopy(model).to(kind)
            for given in (images, images.to(kind)):
                found = other(given)
                assert found.dtype == torch.float32
                atol = 1e-3 if kind == torch.float64 and given is images else 0.06
                torch.testing.assert_close(found, expected, atol=atol, rtol=0)
