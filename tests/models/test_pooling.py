from __future__ import annotations

import pytest
import torch

from reidlib.errors import ReIDError
from reidlib.models import GeM, GlobalAveragePool


@pytest.fixture
def feature_map():
    return torch.rand(2, 5, 4, 3, generator=torch.Generator().manual_seed(0))


def test_gap_is_the_mean(feature_map):
    expected = feature_map.flatten(2).mean(2)
    torch.testing.assert_close(GlobalAveragePool()(feature_map), expected)


def test_gem_from_its_formula(feature_map):
    for row, image in zip(GeM()(feature_map), feature_map, strict=True):
        for value, channel in zip(row, image, strict=True):
            powers = [float(x) ** 3 for x in channel.flatten()]
            expected = (sum(powers) / len(powers)) ** (1 / 3)
            assert value.item() == pytest.approx(expected, rel=1e-5)


def test_gem_goes_from_the_mean_to_the_maximum(feature_map):
    mean, maximum = feature_map.mean((2, 3)), feature_map.amax((2, 3))
    torch.testing.assert_close(GeM(p=1.0)(feature_map), mean)
    torch.testing.assert_close(GeM(p=150.0)(feature_map), maximum, rtol=0.02, atol=0)
    assert (GeM()(feature_map) > mean).all()


def test_gem_learns_its_exponent_and_survives_zeros():
    pool = GeM()
    pool(torch.zeros(2, 3, 4, 4)).sum().backward()
    assert torch.isfinite(pool.p.grad).all()
    assert not GeM(learnable=False).p.requires_grad


@pytest.mark.parametrize("pool", [GeM(), GlobalAveragePool()])
def test_pooling_is_float32_under_autocast(pool, feature_map):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = pool(feature_map.bfloat16())
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, pool(feature_map), rtol=0.01, atol=0)


def test_bad_exponent_is_refused():
    with pytest.raises(ReIDError, match="p is 0"):
        GeM(p=0.0)
