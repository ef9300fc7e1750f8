"""A network without batch norms gives the features of the network with them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode

from reidlib.models import BACKBONES, build_backbone, split_batch_norm
from reidlib.models.folding import fold_batch_norms, folding

IMAGES = torch.rand(16, 3, 64, 32, generator=torch.Generator().manual_seed(0))


class Called(TorchDispatchMode):
    """The operations that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))

    @property
    def batch_norms(self) -> int:
        """How many batch norms were computed."""
        return sum("batch_norm" in name for name in self.names)


def network(name: str = "tiny", **options) -> nn.Module:
    """A network whose batch norms do something: fresh ones hardly change a map."""
    torch.manual_seed(1)
    made = build_backbone(name, pretrained=False, **options)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return made.eval()


def unfolded(net: nn.Module, images: torch.Tensor = IMAGES) -> torch.Tensor:
    """The map as it is with gradients, where nothing is folded."""
    with Called() as called:
        made = net(images.clone().requires_grad_())
    assert called.batch_norms or isinstance(net, nn.Sequential)
    return made.detach()


def extracted(net: nn.Module, images: torch.Tensor = IMAGES) -> tuple[Any, int]:
    """The map as it is for extraction, and how many batch norms were computed."""
    with torch.no_grad(), Called() as called:
        made = net(images)
    return made, called.batch_norms


def check(net: nn.Module, batch_norms: int, expected: Any = None) -> None:
    """Extraction gives what gradients give, with so many batch norms."""
    expected = unfolded(net) if expected is None else expected
    found, computed = extracted(net)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert computed == batch_norms


@pytest.mark.parametrize("name", [*BACKBONES, "efficientnet_lite2", "tiny"])
def test_maps_are_those_of_the_batch_norms(name):
    net = network(name)
    expected = unfolded(net)
    found, batch_norms = extracted(net)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    # Of a half with instance norm and a half with batch norm, neither is folded.
    assert batch_norms == (26 if name == "resnet50_ibn_a" else 0)


@pytest.mark.parametrize("size", [(64, 32), (65, 33), (50, 31), (36, 18)])
def test_padding_and_clamping_cost_no_sweep_at_any_size(size):
    net = network("efficientnet_lite0")
    images = torch.rand(16, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), Called() as called:
        found = net(images)
    torch.testing.assert_close(found, unfolded(net, images), rtol=1e-4, atol=1e-4)
    assert not [n for n in called.names if "hardtanh" in n or "clamp" in n]
    # Of the four halvings a kernel may be padded, which costs nothing.
    assert sum("pad" in n for n in called.names) <= 4


def test_a_hook_on_an_activation_sees_its_map():
    net, seen = network("efficientnet_lite0"), []
    act = net.stages[1][0].bn1.act
    act.register_forward_hook(lambda _module, _given, made: seen.append(made.max()))
    expected = unfolded(net)
    torch.testing.assert_close(extracted(net)[0], expected, rtol=1e-4, atol=1e-4)
    first, second = seen
    torch.testing.assert_close(second, first.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid", 1])
def test_a_padding_that_is_a_word_is_kept(padding):
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=padding, bias=False)
    pair = nn.Sequential(conv, BatchNormAct2d(4, act_layer=nn.ReLU6)).eval()
    expected = pair(IMAGES).detach()
    prepared = fold_batch_norms(pair)
    with torch.no_grad(), folding(prepared, IMAGES):
        torch.testing.assert_close(prepared(IMAGES), expected)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_tensorflows_padding_is_that_of_timm(stride, kernel, dilation):
    from timm.layers import Conv2dSame

    torch.manual_seed(0)
    conv = Conv2dSame(3, 4, kernel, stride, dilation=dilation, bias=False)
    pair = nn.Sequential(conv, nn.BatchNorm2d(4)).eval()
    for size in ((12, 7), (9, 10), (5, 5)):
        images = torch.rand(16, 3, *size)
        expected = pair(images).detach()
        prepared = fold_batch_norms(copy.deepcopy(pair))
        with torch.no_grad(), folding(prepared, images):
            torch.testing.assert_close(prepared(images), expected)


def test_no_name_of_a_weight_changes():
    from torchvision.models import resnet50

    plain = resnet50()
    names = list(plain.state_dict())
    assert list(fold_batch_norms(plain).state_dict()) == names


def test_weights_that_change_in_any_way_are_the_ones_in_use():
    net = network()
    before = extracted(net)[0]
    norm = net.stages[2][1]
    for change in (
        lambda: norm.weight.data.mul_(2),
        lambda: norm.running_mean.add_(1),
        lambda: net.stages[1][0].weight.data.neg_(),
        lambda: net.load_state_dict(network().state_dict()),
    ):
        change()
        check(net, 0)
    torch.testing.assert_close(extracted(net)[0], before)


def test_a_bias_and_a_batch_norm_without_weights():
    torch.manual_seed(0)
    pair = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    bare = nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5, affine=False))
    net = fold_batch_norms(fold_batch_norms(nn.Sequential(pair, bare)))
    net(torch.rand(16, 3, 9, 9))  # the statistics are no longer 0 and 1
    net.eval()
    expected = unfolded(net)
    with torch.no_grad(), folding(net, IMAGES):
        check(net, 1, expected)
    check(net, 2, expected)  # outside of it, all is as always


class Wrapped(nn.Module):
    """A convolution with an adapter that adds nothing yet."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x):
        """Convolve, and add nothing."""
        return self.base(x) + 0


def own_convolution(stage: nn.Sequential) -> nn.Module:
    """Replace a convolution by one of the user's."""
    own = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
    own.load_state_dict(stage[0].state_dict())
    return nn.Sequential(own, *stage[1:])


def fused(stage: nn.Sequential) -> nn.Module:
    """Fold a batch norm for good, by PyTorch's own function."""
    own = fuse_conv_bn_eval(stage[0], stage[1])
    return nn.Sequential(own, nn.Identity(), *stage[2:])


@pytest.mark.parametrize(
    ("change", "batch_norms"),
    [
        (lambda s: nn.Sequential(Wrapped(s[0]), *s[1:]), 1),
        (lambda s: nn.Sequential(s[0], nn.Identity(), *s[1:]), 1),
        (nn.SyncBatchNorm.convert_sync_batchnorm, 1),
        (own_convolution, 1),
        (fused, 0),
    ],
)
def test_what_is_put_around_or_replaced_works_as_it_always_does(change, batch_norms):
    net = network()
    expected = unfolded(net)
    net.stages[1] = change(net.stages[1]).eval()
    check(net, batch_norms, expected)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook"])
def test_hooks_see_and_change_what_they_always_did(kind, place):
    net, seen = network(), []

    def hook(_module, given, made=None):
        seen.append((given[0] if made is None else made).detach())
        return given[0] * 2 if made is None else made * 2

    getattr(net.stages[3][place], f"register_{kind}")(hook)
    check(net, 1)
    first, second = seen
    torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-4)


def test_a_part_alone_is_what_it_always_was():
    conv = network().stages[0][0]
    with torch.no_grad():
        torch.testing.assert_close(
            conv(IMAGES), nn.functional.conv2d(IMAGES, conv.weight, None, 2, 1)
        )


def test_statistics_are_updated_without_gradients_too():
    net, other = network().train(), network().train()
    made, batch_norms = extracted(net)
    assert batch_norms == 5
    torch.testing.assert_close(made, other(IMAGES).detach())
    torch.testing.assert_close(net.state_dict(), other.state_dict())


def test_what_would_lose_is_left_alone():
    net = network()
    assert extracted(net, IMAGES[:15])[1] == 5
    wide = copy.deepcopy(net).double()
    torch.testing.assert_close(extracted(wide), (unfolded(wide), 0))
    assert extracted(net.to(torch.bfloat16))[1] == 5


def test_a_map_holds_nothing_of_the_network(tmp_path):
    for name in ("tiny", "efficientnet_lite0"):
        made = extracted(network(name))[0]
        assert vars(made) == {}
        torch.save(made, tmp_path / "map.pth")
        torch.testing.assert_close(torch.load(tmp_path / "map.pth"), made)


def pickled(net: nn.Module) -> nn.Module:
    """Write a network, and read it."""
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("again", [copy.deepcopy, pickled])
def test_a_copy_has_convolutions_and_batch_norms_of_its_own(again):
    net = network()
    other = again(net)
    torch.testing.assert_close(extracted(other), extracted(net))
    check(other, 0)
    for weight in net.state_dict().values():
        weight.zero_()
    check(other, 0)
    assert extracted(other)[0].abs().max() > 0


def test_a_batch_norm_in_chunks_is_folded_too_and_stays_in_chunks():
    net = network()
    expected = extracted(net)[0]
    split_batch_norm(net, 2)
    check(net, 0, expected)
    other = copy.deepcopy(net)
    found = extracted(net.train())
    assert found[1] == 10  # five, each in two chunks
    torch.testing.assert_close(extracted(other.train()), found)


def test_frozen_stages_are_folded_in_training_and_gradients_are_the_same():
    def frozen() -> nn.Module:
        net = network()
        net.freeze(3)
        return net.train()

    def gradients(net: nn.Module, made: torch.Tensor) -> list[torch.Tensor]:
        made.square().sum().backward()
        return [w.grad for w in net.parameters() if w.grad is not None]

    net = frozen()
    with Called() as called:
        found = gradients(net, net(IMAGES))
    assert len(found) == 6  # of two stages
    other, x = frozen(), IMAGES
    for stage in other.stages:
        x = stage(x)  # one by one, nothing is folded
    torch.testing.assert_close(found, gradients(other, x), rtol=1e-3, atol=1e-4)
    forward = [name for name in called.names if "backward" not in name]
    assert sum("batch_norm" in name for name in forward) == 2


def test_gradients_reach_images_through_frozen_stages():
    net = network()
    net.freeze(5)
    images = IMAGES.clone().requires_grad_()
    net(images).sum().backward()
    assert images.grad.abs().max() > 0


def test_a_hook_in_a_frozen_stage_may_learn():
    net = network()
    net.freeze(5)
    learned = nn.Parameter(torch.zeros(1))
    net.stages[2].register_forward_hook(lambda _module, _given, made: made + learned)
    net(IMAGES).sum().backward()
    assert learned.grad.abs() > 0
