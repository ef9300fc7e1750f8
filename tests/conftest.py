"""Fixtures that several test folders share."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot as plt

torch.set_num_threads(1)


@pytest.fixture(params=["arrays", "compiled"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether array operations or compiled kernels compute, whatever the size."""
    from reidlib.neighbors import kernels

    if request.param == "compiled":
        pytest.importorskip("numba")
    smallest = 10**9 if request.param == "arrays" else 0
    monkeypatch.setattr(kernels, "SMALLEST", smallest)
    return request.param


@pytest.fixture(scope="session")
def tiny_root() -> Path:
    """Folder of SynthCity ``tiny``, drawn once per machine."""
    from reidlib.synthcity import ensure_synthcity

    return ensure_synthcity("tiny")


@pytest.fixture(scope="session")
def tiny(tiny_root: Path):
    """SynthCity ``tiny`` as a data set."""
    from reidlib.data import open_dataset

    return open_dataset("synthcity", tiny_root)


@pytest.fixture
def style():
    """Draw in the style of the book, and close every figure afterwards."""
    from reidlib.plotting import use_style

    mpl.use("Agg")
    with mpl.rc_context():
        use_style()
        yield
        plt.close("all")
