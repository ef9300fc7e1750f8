from __future__ import annotations

import math

import pytest
import torch

from reidlib.errors import ReIDError
from reidlib.models import (
    AFF,
    BACKBONES,
    ChannelAttention,
    ChannelSpatialAttention,
    ReIDNet,
    SpatialAttention,
    add_attention,
)

# Settings have the abbreviations of the paper.
KINDS = {
    "none": torch.nn.Identity,
    "cam": ChannelAttention,
    "casam": ChannelSpatialAttention,
}


def feature_map(batch=2, channels=32, height=9, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, height, width, generator=generator)


def sigmoid(value):
    return 1 / (1 + math.exp(-float(value)))


def perceptron(layers, vector):
    first, second = (layers[i].weight[:, :, 0, 0] for i in (0, 2))
    return second @ (first @ vector).clamp(min=0)


@torch.no_grad()
def test_channel_attention_is_equations_5_and_6_channel_by_channel():
    torch.manual_seed(0)
    attention, x = ChannelAttention(32, reduction=4), feature_map()
    y = attention(x)
    for image in range(2):
        squeezed = torch.stack([x[image, c].mean() for c in range(32)])
        excited = perceptron(attention.perceptron, squeezed)
        for c in range(32):
            wanted = x[image, c] * sigmoid(excited[c])
            assert torch.allclose(y[image, c], wanted, atol=1e-6)


@torch.no_grad()
def test_channel_and_spatial_attention_are_equations_1_to_4_place_by_place():
    torch.manual_seed(0)
    attention, x = ChannelSpatialAttention(16, reduction=4), feature_map(channels=16)
    y, kernel = attention(x), attention.spatial.conv.weight[0]
    layers = attention.channel.perceptron
    for image in range(2):
        largest = torch.stack([x[image, c].max() for c in range(16)])
        mean = torch.stack([x[image, c].mean() for c in range(16)])
        both = perceptron(layers, largest) + perceptron(layers, mean)
        first = x[image] * both.sigmoid()[:, None, None]  # F'
        maps = torch.stack([first.amax(0), first.mean(0)])
        for i in range(9):
            for j in range(5):
                total = 0.0
                for a in range(-3, 4):
                    for b in range(-3, 4):
                        if 0 <= i + a < 9 and 0 <= j + b < 5:
                            seen = maps[:, i + a, j + b]
                            total += float(kernel[:, a + 3, b + 3] @ seen)
                wanted = first[:, i, j] * sigmoid(total)
                assert torch.allclose(y[image, :, i, j], wanted, atol=1e-5)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("local", ["none", "cam", "casam"])
@pytest.mark.parametrize("whole", ["none", "cam", "casam"])
def test_aff_is_its_parts(whole, local, residual):
    torch.manual_seed(0)
    aff = AFF(32, 2, 4, whole, local, residual)
    x = feature_map()
    assert type(aff.whole) is KINDS[whole]
    assert [type(part) for part in aff.parts] == 2 * [KINDS[local]]
    # Without a global branch there is nothing that the map could be added to.
    shared = aff.whole(x) + x if residual and whole != "none" else aff.whole(x)
    wanted = [aff.parts[0](shared[:, :16]), aff.parts[1](shared[:, 16:])]
    assert torch.allclose(aff(x), torch.cat(wanted, 1))


def test_the_paper_has_both_over_the_whole_and_channels_in_two_groups():
    aff = AFF(64)
    assert aff.residual
    assert type(aff.whole) is ChannelSpatialAttention
    assert [type(part) for part in aff.parts] == 2 * [ChannelAttention]


def test_groups_do_not_look_at_each_other():
    torch.manual_seed(0)
    aff = AFF(32, reduction=4, global_attention="none")
    x = feature_map()
    other = x.clone()
    other[:, 16:] += 1
    assert torch.equal(aff(x)[:, :16], aff(other)[:, :16])
    assert not torch.allclose(aff(x)[:, 16:], aff(other)[:, 16:])


@pytest.mark.parametrize("kind", [ChannelAttention, ChannelSpatialAttention, AFF])
def test_shape_and_gradient_flow(kind):
    torch.manual_seed(0)
    module = kind(32, reduction=2)  # wide enough that not all hidden units are silent
    x = feature_map().requires_grad_()
    y = module(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert bool((x.grad != 0).all())
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_map_without_places_stays_without_places():
    """On a constant map all places look the same, except at the border."""
    torch.manual_seed(0)
    flat = torch.randn(1, 32, 1, 1).expand(1, 32, 12, 11).contiguous()
    weighted = ChannelAttention(32)(flat)
    assert torch.allclose(weighted, weighted[:, :, :1, :1].expand_as(weighted))
    channel = ChannelAttention(32, maxima=True)
    twice = (2 * channel.perceptron(flat[:, :, :1, :1])).sigmoid()
    assert torch.allclose(channel.weights(flat), twice)
    inside = SpatialAttention().weights(flat)[:, :, 3:-3, 3:-3]
    assert torch.allclose(inside, inside[:, :, :1, :1].expand_as(inside))
    inside = AFF(32)(flat)[:, :, 3:-3, 3:-3]
    assert torch.allclose(inside, inside[:, :, :1, :1].expand_as(inside), atol=1e-6)


@torch.no_grad()
def test_weights_are_shares_and_attention_only_weakens():
    x = feature_map()
    for weights in (
        ChannelAttention(32).weights(x),
        ChannelAttention(32, maxima=True).weights(x),
        SpatialAttention().weights(x),
    ):
        assert float(weights.min()) > 0
        assert float(weights.max()) < 1
    assert bool((ChannelSpatialAttention(32)(x).abs() <= x.abs()).all())


def test_parameters_of_the_head_on_a_resnet():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    group, whole = ChannelAttention(1024), ChannelSpatialAttention(2048)
    assert count(group) == 2 * 1024 * 64
    assert count(whole) == 2 * 2048 * 128 + 2 * 49
    assert count(AFF(2048)) == count(whole) + 2 * count(group)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ChannelAttention(8), "8 channels with reduction 16"),
        (lambda: ChannelSpatialAttention(32, kernel=4), "kernel is 4"),
        (lambda: AFF(33), "33 channels cannot be cut into 2"),
        (lambda: AFF(32, global_attention="se"), "attention 'se' is unknown"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ReIDError, match=message):
        make()


def network(**options):
    return ReIDNet("efficientnet_lite0", pretrained=False, **options)


def test_attention_is_put_before_the_pooling_of_the_shared_network():
    torch.manual_seed(0)
    plain = network().eval()
    net = add_attention(network()).eval()
    missing = net.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(name.startswith("pool.attention.") for name in missing)
    x = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        raw, _ = net.embed(x)
        wanted = plain.pool(net.pool.attention(plain.backbone(x)))
        assert torch.allclose(raw, wanted, atol=1e-5)
        assert torch.allclose(net(x).norm(dim=1), torch.ones(2))
    same = network()
    assert add_attention(same, global_attention="none", local_attention="none") is same
    assert same.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("name", BACKBONES)
def test_attention_goes_on_any_backbone(name):
    with torch.device("meta"):
        net = add_attention(ReIDNet(name, pretrained=False)).eval()
        features = net(torch.empty(2, 3, 64, 32))
    assert features.shape == (2, net.num_features)


def test_frozen_stages_leave_the_attention_free():
    net = add_attention(network(frozen_stages=4)).train()
    assert all(p.requires_grad for p in net.pool.attention.parameters())
    assert not any(p.requires_grad for p in net.backbone.stages[:4].parameters())
