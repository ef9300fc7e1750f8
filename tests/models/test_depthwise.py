"""Depthwise convolutions have the gradients that PyTorch has in double precision."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from reidlib.models import build_backbone
from reidlib.models.depthwise import is_depthwise
from reidlib.models.folding import fold_batch_norms


@pytest.fixture(autouse=True)
def _compiled() -> None:
    pytest.importorskip("numba")


def prepared(conv: nn.Module) -> Any:
    """The convolution as a backbone has it."""
    return fold_batch_norms(nn.Sequential(copy.deepcopy(conv)))[0]


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize("kernel", [5, (5, 7)])
@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("size", [(8, 4), (9, 5), (2, 1), (1, 1)])
def test_gradients_are_those_of_double_precision(
    kind: Any, kernel: Any, stride: Any, size: tuple[int, int], threads: int
) -> None:
    torch.manual_seed(1)
    padding = 0 if kind is Conv2dSame else (2 if kernel == 5 else (2, 3))
    conv = kind(20, 20, kernel, stride, padding, groups=20, bias=False)
    ours, double = prepared(conv), copy.deepcopy(conv).double()
    x = maps(6, 20, *size)
    assert is_depthwise(ours, x)
    made = ours(x)
    torch.testing.assert_close(made, conv(x), rtol=0, atol=0)
    upstream = torch.randn_like(made)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = torch.autograd.grad(made, (x, ours.weight), upstream)
    finally:
        torch.set_num_threads(before)
    wide = x.detach().double().requires_grad_()
    expected = torch.autograd.grad(
        double(wide), (wide, double.weight), upstream.double()
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-5)


def test_number_of_threads_changes_no_bit() -> None:
    torch.manual_seed(1)
    conv = prepared(nn.Conv2d(50, 50, 5, padding=2, groups=50, bias=False))
    made = conv(maps(6, 50, 8, 4))
    upstream = torch.randn_like(made)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found += torch.autograd.grad(made, conv.weight, upstream, retain_graph=True)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("frozen", [False, True])
def test_a_whole_network_learns_the_same(
    frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    net = build_backbone("efficientnet_lite0", pretrained=False).train()
    net.stages[:5].requires_grad_(not frozen)
    torch.manual_seed(2)
    for weight in net.parameters():  # fresh ones hardly pass a gradient on
        nn.init.normal_(weight, std=0.3 if weight.ndim > 1 else 1.0)
    images = torch.randn(8, 3, 64, 32)

    def gradients() -> list[torch.Tensor]:
        learned = [w for w in net.parameters() if w.requires_grad]
        made = net(images)
        return list(torch.autograd.grad(made.square().mean(), learned))

    found = gradients()
    monkeypatch.setattr("reidlib.models.depthwise.is_installed", lambda: False)
    for one, other in zip(found, gradients(), strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_a_traced_network_can_be_saved(tmp_path: Path) -> None:
    net = build_backbone("efficientnet_lite0", pretrained=False).eval()
    traced = torch.jit.trace(net, torch.rand(2, 3, 64, 32), check_trace=False)
    traced.save(str(tmp_path / "net.pt"))


def test_it_is_for_processors_alone() -> None:
    conv, x = prepared(plain()), maps(4, 8, 6, 6)
    assert is_depthwise(conv, x)
    assert not is_depthwise(conv.to("meta"), x.to("meta"))


def test_the_gradient_is_one_block_as_of_any_convolution() -> None:
    conv = prepared(plain())
    (gradient,) = torch.autograd.grad(conv(maps(4, 8, 6, 6)).sum(), conv.weight)
    assert gradient.view(-1).shape == (200,)


def plain() -> nn.Conv2d:
    return nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)


@pytest.mark.parametrize(
    ("conv", "change"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), None),
        (nn.Conv2d(8, 8, 5, padding=2, groups=4, bias=False), None),
        (nn.Conv2d(8, 16, 5, padding=2, groups=8, bias=False), None),
        (nn.Conv2d(8, 8, 5, padding=2, groups=8), None),
        (nn.Conv2d(8, 8, 5, padding="same", groups=8, bias=False), None),
        (nn.Conv2d(8, 8, 5, padding=4, dilation=2, groups=8, bias=False), None),
        (
            nn.Conv2d(
                *(8, 8, 5),
                **{"padding": 2, "groups": 8, "bias": False},
                padding_mode="reflect",
            ),
            None,
        ),
        (plain().requires_grad_(False), None),
        (plain(), "no gradient"),
        (plain(), "autocast"),
        (plain().double(), "double"),
        (plain(), "channels first"),
    ],
)
def test_what_it_leaves_alone(conv: nn.Module, change: str | None) -> None:
    ours, x = prepared(conv), maps(4, 8, 6, 6)
    if change == "double":
        x = x.double()
    if change == "channels first":
        x = x.detach().contiguous().requires_grad_()
    with (
        torch.set_grad_enabled(change != "no gradient"),
        torch.autocast("cpu", enabled=change == "autocast"),
    ):
        assert not is_depthwise(ours, x)
        torch.testing.assert_close(ours(x), conv(x), rtol=0, atol=0)
