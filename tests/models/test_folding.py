"""A network without batch norms gives the features of the network with them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from reidlib.models import BACKBONES, build_backbone, split_batch_norm
from reidlib.models.folding import fold_batch_norms

IMAGES = torch.rand(8, 3, 64, 32, generator=torch.Generator().manual_seed(0))


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
    assert called.batch_norms
    return made.detach()


def folded(net: nn.Module, images: torch.Tensor = IMAGES) -> torch.Tensor:
    """The map as it is for extraction."""
    with torch.no_grad(), Called() as called:
        made = net(images)
    folded.batch_norms = called.batch_norms
    return made


@pytest.mark.parametrize("name", [*BACKBONES, "efficientnet_lite2", "tiny"])
def test_maps_are_those_of_the_batch_norms(name):
    net = network(name)
    expected = unfolded(net)
    difference = (folded(net) - expected).abs().max()
    assert difference < 1e-5 * expected.abs().max()
    # Of a half with instance norm and a half with batch norm, neither is folded.
    assert folded.batch_norms == (26 if name == "resnet50_ibn_a" else 0)


def test_no_name_of_a_weight_changes():
    from torchvision.models import resnet50

    plain = resnet50()
    names = list(plain.state_dict())
    assert list(fold_batch_norms(plain).state_dict()) == names


def test_weights_that_change_in_any_way_are_the_ones_in_use():
    net = network()
    before = folded(net)
    norm = net.stages[2][1]
    for change in (
        lambda: norm.weight.data.mul_(2),
        lambda: norm.running_mean.add_(1),
        lambda: net.stages[1][0].weight.data.neg_(),
        lambda: net.load_state_dict(network().state_dict()),
    ):
        change()
        torch.testing.assert_close(folded(net), unfolded(net), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(folded(net), before)


def test_a_bias_and_a_batch_norm_without_weights():
    torch.manual_seed(0)
    pair = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    bare = nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5, affine=False))
    net = fold_batch_norms(nn.Sequential(pair, bare))
    net(torch.rand(16, 3, 9, 9))  # the statistics are no longer 0 and 1
    net.eval()
    torch.testing.assert_close(folded(net), unfolded(net), rtol=1e-4, atol=1e-5)
    assert folded.batch_norms == 1


def test_what_is_replaced_or_watched_works_as_it_always_does():
    net = network()
    seen = []
    hook = net.stages[3][0].register_forward_hook(lambda *a: seen.append(a[2]))
    expected = unfolded(net)
    torch.testing.assert_close(folded(net), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen[1], seen[0].detach(), rtol=1e-4, atol=1e-4)
    assert folded.batch_norms == 1
    hook.remove()
    net.stages[1][1] = nn.SyncBatchNorm.convert_sync_batchnorm(net.stages[1][1])
    own = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
    own.load_state_dict(net.stages[3][0].state_dict())
    net.stages[3][0] = own
    torch.testing.assert_close(folded(net), expected, rtol=1e-4, atol=1e-4)
    assert folded.batch_norms == 2


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_a_copy_has_convolutions_and_batch_norms_of_its_own(again):
    net = network()
    other = again(net)
    torch.testing.assert_close(folded(other), folded(net))
    assert folded.batch_norms == 0
    for weight in net.state_dict().values():
        weight.zero_()
    torch.testing.assert_close(folded(other), unfolded(other), rtol=1e-4, atol=1e-4)
    assert folded(other).abs().max() > 0


def test_a_batch_norm_in_chunks_is_folded_too():
    net = network()
    expected = folded(net)
    split_batch_norm(net, 2)
    torch.testing.assert_close(folded(net), expected)
    assert folded.batch_norms == 0
    with torch.no_grad(), Called() as called:
        net.train()(IMAGES)
    assert called.batch_norms == 10  # five, each in two chunks


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
        x = stage(x)  # with gradients: nothing is folded
    torch.testing.assert_close(found, gradients(other, x), rtol=1e-3, atol=1e-4)
    forward = [name for name in called.names if "backward" not in name]
    assert sum("batch_norm" in name for name in forward) == 2


def test_gradients_reach_images_through_frozen_stages():
    net = network()
    net.freeze(5)
    images = IMAGES.clone().requires_grad_()
    net(images).sum().backward()
    assert images.grad.abs().max() > 0
