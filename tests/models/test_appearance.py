"""The appearance branch: what each dilation sees, how maps are joined, stripes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reidlib.errors import ReIDError
from reidlib.models import (
    AppearanceBranch,
    FeaturePyramid,
    HierarchicalDecoder,
    LocalAttention,
    PartClassifiers,
    build_backbone,
    stripe_loss,
)


def test_each_path_sees_the_rows_of_its_dilation():
    torch.manual_seed(0)
    pyramid = FeaturePyramid(3, 4).eval()
    for path, rate in zip(pyramid.paths, (0, 2, 3, 4), strict=True):
        x = torch.randn(1, 3, 15, 15, requires_grad=True)
        path[0](x)[0, :, 7, 7].sum().backward()  # before ReLU, which may be 0
        seen = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten().tolist()
        assert seen == sorted({7 - rate, 7, 7 + rate})


@pytest.mark.parametrize("size", [(8, 4), (7, 3), (1, 1)])
def test_the_pyramid_is_the_sum_of_its_five_paths(size):
    torch.manual_seed(0)
    pyramid = FeaturePyramid(3, 4).eval()
    x = torch.randn(2, 3, *size)
    total = sum(path(x) for path in pyramid.paths)
    context = pyramid.context(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *size)
    torch.testing.assert_close(pyramid(x), pyramid.mix(total + context))
    assert len(pyramid.paths) + 1 == 5


@pytest.mark.parametrize(("fine", "coarse"), [((8, 4), (4, 2)), ((7, 5), (4, 3))])
def test_the_decoder_enlarges_adds_and_mixes(fine, coarse):
    torch.manual_seed(0)
    decode = HierarchicalDecoder(3, 4, 5).eval()
    one, other = torch.randn(2, 3, *fine), torch.randn(2, 4, *coarse)
    large = F.interpolate(other, fine, mode="bilinear")
    expected = decode.mix(decode.lateral(one) + large)
    torch.testing.assert_close(decode(one, other), expected)
    assert expected.shape == (2, 5, *fine)


@pytest.mark.parametrize("size", [(6, 4), (5, 3), (2, 2)])
def test_quarters_do_not_see_each_other(size):
    torch.manual_seed(0)
    module = LocalAttention(2, (16, 32)).eval()
    x = torch.randn(1, 2, *size)
    before = module(x)
    assert before.shape == (1, 32, *size)
    changed = x.clone()
    changed[:, :, 0, 0] += 9
    differs = (module(changed) != before).any(dim=1)[0]
    top, left = -(-size[0] // 2), -(-size[1] // 2)
    assert differs[:top, :left].any()
    differs[:top, :left] = False
    assert not differs.any()


@pytest.mark.parametrize("local", [False, True])
def test_stripes_are_means_of_their_part_of_the_map(local):
    torch.manual_seed(0)
    branch = AppearanceBranch(
        (3, 5), 7, width=4, decoder_channels=6, local_attention=local
    ).eval()
    fine, coarse = torch.randn(2, 3, 9, 5), torch.randn(2, 5, 5, 3)
    v_a, stripes = branch(fine, coarse)
    x = branch.local_attention(branch.decoder(fine, branch.pyramid(coarse)))
    rows = torch.tensor([0, 3, 5, 7, 9])  # of 9 rows the first band has one more
    for band in range(4):
        mean = x[:, :, rows[band] : rows[band + 1]].mean(dim=(2, 3))
        torch.testing.assert_close(stripes[:, band], mean)
    torch.testing.assert_close(stripes[:, 4], x[:, :, :, :3].mean(dim=(2, 3)))
    torch.testing.assert_close(stripes[:, 5], x[:, :, :, 3:].mean(dim=(2, 3)))
    projected = branch.neck(branch.project(x.mean(dim=(2, 3))))
    torch.testing.assert_close(v_a, projected)
    assert stripes.shape == (2, branch.num_stripes, branch.stripe_channels)


def test_the_decoder_of_the_code_has_one_channel():
    branch = AppearanceBranch((3, 5), 7, width=4, decoder_channels=1)
    _v_a, stripes = branch(torch.randn(2, 3, 8, 4), torch.randn(2, 5, 4, 2))
    assert stripes.shape == (2, 6, 1)


def test_every_parameter_learns_from_stripes_and_descriptor():
    torch.manual_seed(0)
    branch = AppearanceBranch((3, 5), 7, width=4, decoder_channels=6)
    heads = PartClassifiers(6, 3, branch.num_stripes)
    v_a, stripes = branch(torch.randn(4, 3, 8, 4), torch.randn(4, 5, 4, 2))
    loss = stripe_loss(heads(stripes), torch.tensor([0, 1, 2, 0]))
    assert loss.shape == (4,)
    (loss.mean() + (v_a * torch.randn_like(v_a)).sum()).backward()
    parameters = [*branch.named_parameters(), *heads.named_parameters()]
    # The bias before a batch norm is taken off by it.
    silent = [n for n, p in parameters if p.grad is None and n != "project.bias"]
    assert silent == []


def test_the_stripe_loss_against_a_loop():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 5), torch.tensor([4, 0, 2])
    for image in range(3):
        total = 0.0
        for stripe in range(4):
            log_p = logits[image, stripe].log_softmax(dim=0)
            q = torch.full((5,), 0.1 / 5)
            q[labels[image]] += 0.9
            total -= float((q * log_p).sum())
        assert stripe_loss(logits, labels)[image].item() == pytest.approx(
            total, rel=1e-5
        )


@pytest.mark.parametrize("name", ["tiny", "resnet50", "efficientnet_lite0"])
@pytest.mark.parametrize("last_stride", [1, 2])
def test_backbones_give_the_map_of_stride_16_beside_the_last(name, last_stride):
    backbone = build_backbone(name, pretrained=False, last_stride=last_stride).eval()
    images = torch.randn(1, 3, 64, 32)
    with torch.inference_mode():
        fine, last = backbone.pyramid(images)
        assert last.equal(backbone(images))
    assert fine.shape == (1, backbone.middle_channels, 4, 2)
    side = 16 * last_stride
    assert last.shape == (1, backbone.num_channels, 64 // side, 32 // side)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeaturePyramid(4, 0), "width is 0"),
        (lambda: HierarchicalDecoder(4, 4, 0), "out_channels is 0"),
        (lambda: AppearanceBranch((4, 4), 8, horizontal=0), "horizontal is 0"),
        (
            lambda: LocalAttention(16)(torch.zeros(1, 16, 1, 4)),
            "a map of 1 x 4 places cannot be cut into quarters",
        ),
        (
            lambda: AppearanceBranch((4, 4), 8, width=4)(
                torch.zeros(2, 4, 3, 4), torch.zeros(2, 4, 3, 4)
            ),
            "a map of 3 x 4 places cannot be cut into 4 and 2 stripes",
        ),
        (
            lambda: stripe_loss(torch.zeros(2, 3), torch.zeros(2).long()),
            r"logits of shape \(2, 3\)",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ReIDError, match=message):
        make()
