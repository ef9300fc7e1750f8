"""Counts against closed forms, known networks, and a published row."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision.models import resnet50

from reidlib.errors import ReIDError
from reidlib.models import Cost, ReIDNet, add_attention, build_backbone, network_cost
from reidlib.papers import load_table

MIB = 2**20


def on_meta(build, *args, **options):
    with torch.device("meta"):
        return build(*args, **options)


def test_a_convolution_is_what_one_counts_by_hand():
    conv = nn.Conv2d(3, 10, (3, 5), stride=2, padding=(1, 2), groups=1)
    cost = network_cost(conv, (8, 6))
    # 10 x 4 x 3 outputs, each a sum over 3 x 3 x 5 products.
    assert cost.parameters == 10 * 3 * 3 * 5 + 10
    assert cost.macs == 10 * 4 * 3 * 3 * 3 * 5
    assert cost.flops == 2 * cost.macs
    assert cost.outputs == 10 * 4 * 3 * 4
    # The image and the output; a convolution keeps its input for the gradient.
    assert cost.peak == 3 * 8 * 6 * 4 + cost.outputs
    assert cost.saved == 3 * 8 * 6 * 4


def test_groups_and_a_matrix_product_count_their_own_products_only():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.Flatten(), nn.Linear(6 * 4, 5)
    )
    assert network_cost(net, (2, 2)).macs == 6 * 4 * 1 * 9 + 6 * 4 * 5


def test_attention_counts_its_products_although_it_is_fused():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, images):
            tokens = self.patches(images).flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens)[0]

    cost = network_cost(Attention(), (16, 16))
    patches, projections = 16 * 8 * 48, 16 * 8 * (24 + 8)
    assert cost.macs == patches + projections + 2 * 16 * 16 * 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_peak_is_two_maps_of_a_chain_and_three_around_a_residual():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(4)])

        def forward(self, x):
            return x + self.convs(x)

    one = 3 * 8 * 8 * 4
    chain = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(4)])
    # The image is the caller's and stays, so that a chain has three maps at a time.
    assert network_cost(chain, (8, 8)).peak == 3 * one
    two = nn.Sequential(nn.Conv2d(3, 3, 1), Residual())
    # The image, the residual, and input and output of a convolution.
    assert network_cost(two, (8, 8)).peak == 4 * one


def test_in_place_is_free_and_still_counts_as_an_output():
    one = 3 * 8 * 8 * 4
    for inplace in (False, True):
        net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=inplace))
        cost = network_cost(net, (8, 8))
        assert cost.outputs == 2 * one
        assert cost.peak == (2 if inplace else 3) * one


def test_a_frozen_layer_keeps_nothing_for_the_gradient():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    one = 3 * 8 * 8 * 4
    assert network_cost(net, (8, 8)).saved == 2 * one
    net[0].requires_grad_(False)
    cost = network_cost(net, (8, 8))
    assert cost.saved == one
    assert cost.parameters == 2 * (9 + 3)


def test_resnet50_has_its_well_known_figures():
    cost = network_cost(on_meta(resnet50), (224, 224))
    assert cost.parameters == 25_557_032
    assert cost.macs / 1e9 == pytest.approx(4.09, abs=0.005)
    # What torchstat prints for it.
    assert cost.outputs / MIB == pytest.approx(109.69, abs=0.005)


def test_efficientnet_b0_has_its_well_known_figures():
    whole = network_cost(on_meta(timm.create_model, "efficientnet_b0"), (224, 224))
    assert whole.parameters == 5_288_548
    assert whole.macs / 1e9 == pytest.approx(0.39, abs=0.005)
    backbone = on_meta(build_backbone, "efficientnet_b0", False, 2)
    without = network_cost(backbone, (224, 224))
    assert whole.parameters - without.parameters == 1280 * 1000 + 1000
    assert whole.macs - without.macs == 1280 * 1000


def test_without_the_last_stride_resnet50_costs_half_as_much_again():
    costs = [
        network_cost(on_meta(build_backbone, "resnet50", False, stride))
        for stride in (1, 2)
    ]
    assert costs[0].parameters == costs[1].parameters
    assert [cost.macs / 1e9 for cost in costs] == pytest.approx([4.05, 2.67], abs=0.01)


def test_counts_are_the_same_on_the_meta_device_and_grow_with_the_image():
    real = build_backbone("efficientnet_lite0", pretrained=False)
    meta = on_meta(build_backbone, "efficientnet_lite0", False)
    small, large = network_cost(real, (64, 32)), network_cost(real, (128, 64))
    assert network_cost(meta, (64, 32)) == small
    assert large.macs == 4 * small.macs
    assert large.parameters == small.parameters


def test_the_model_is_left_as_it_was():
    model = ReIDNet("efficientnet_lite0", "gem", pretrained=False, frozen_stages=2)
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    first = network_cost(model, (64, 32))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[key], v) for key, v in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert network_cost(model, (64, 32)) == first


class MGN(nn.Module):
    """Wang et al., 2018: three copies of ResNet-50's end, 3 + 5 parts, classifiers."""

    def __init__(self, num_people=751):
        super().__init__()
        net = resnet50(weights=None)
        layers = [net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2]
        self.stem = nn.Sequential(*layers, net.layer3[0])
        wide = copy.deepcopy(net.layer4)
        wide[0].conv2.stride = wide[0].downsample[0].stride = (1, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(*copy.deepcopy(net.layer3[1:]), copy.deepcopy(last))
            for last in (net.layer4, wide, wide)
        )
        pools = [(12, 4), (24, 8), (24, 8), (12, 8), (8, 8)]
        self.pools = nn.ModuleList(nn.MaxPool2d(size) for size in pools)
        self.reductions = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(2048, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()
            )
            for _ in range(8)
        )
        self.classifiers = nn.ModuleList(
            nn.Linear(length, num_people, bias=False)
            for length in [2048] * 3 + [256] * 5
        )

    def forward(self, images):
        x = self.stem(images)
        maps = [branch(x) for branch in self.branches]
        inputs = [maps[0], maps[1], maps[2], maps[1], maps[2]]
        pooled = [pool(one) for pool, one in zip(self.pools, inputs, strict=True)]
        parts = [*pooled[3].split(1, dim=2), *pooled[4].split(1, dim=2)]
        reduced = [
            reduce(one) for reduce, one in zip(self.reductions, pooled[:3] + parts)
        ]
        vectors = [one.flatten(1) for one in pooled[:3] + reduced[3:]]
        return [c(v) for c, v in zip(self.classifiers, vectors, strict=True)]


def test_mgn_at_384_x_128_is_its_published_row():
    """So AFF-T8 counts multiply-accumulates and outputs, and the classifiers, too."""
    cost = network_cost(on_meta(MGN), (384, 128))
    published = load_table("AFF-T8").to_frame().loc["MGN"]
    assert round(cost.parameters / 1e6, 2) == published["parameters"]
    assert round(cost.outputs / MIB, 2) == published["memory"]
    # Its counter has an operation per value of a batch norm, and the like, besides.
    assert cost.macs / 1e9 == pytest.approx(published["FLOPs"], rel=0.005)


def test_a_size_that_no_image_has_is_an_error():
    with pytest.raises(ReIDError, match="size is"):
        network_cost(nn.Conv2d(3, 3, 1), (0, 64))


def test_flops_are_two_per_multiply_accumulate():
    assert Cost(parameters=1, macs=3, outputs=0, peak=0, saved=0).flops == 6


def test_what_the_attention_of_aff_scl_adds_to_resnet50():
    plain = on_meta(ReIDNet, "resnet50", pretrained=False)
    attentive = on_meta(
        lambda: add_attention(ReIDNet("resnet50", pretrained=False), reduction=16)
    )
    size = (384, 192)
    one, two = network_cost(plain, size), network_cost(attentive, size)
    whole, groups = 2 * 2048 * 128, 2 * (2 * 1024 * 64)
    assert two.parameters - one.parameters == whole + groups + 2 * 49
    # The perceptron of the whole map sees maxima and means; the kernel every place
    # of two maps.
    assert two.macs - one.macs == 2 * whole + groups + 2 * 49 * 24 * 12
    # The published figures, of which only the second is met, at this size.
    published = load_table("AFF-T8").to_frame().loc["AFF_SCL"]
    assert round(two.parameters / 1e6, 2) != published["parameters"]
    assert 0.97 < two.macs / 1e9 / published["FLOPs"] < 1  # without normalisations


def test_inference_mode_changes_no_count():
    net = ReIDNet("tiny")
    expected = network_cost(net, (32, 16))
    assert expected.saved > 0
    with torch.inference_mode():
        assert network_cost(net, (32, 16)) == expected
        born = ReIDNet("tiny")
    with pytest.raises(ReIDError, match="network_cost: the network was made under"):
        network_cost(born, (32, 16))
