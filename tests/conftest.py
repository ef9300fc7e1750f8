"""Fixtures that several test folders share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import pytest
import torch
import tyro  # noqa: F401  before any doctest: see below
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from browser import OneBrowser

torch.set_num_threads(1)

# A doctest leaves its last value in `builtins._`. When tyro is imported, it puts all of
# builtins into a set, which fails after a tuple of lists.


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


@pytest.fixture(scope="session")
def browser() -> Iterator[OneBrowser]:
    """One browser for all tests of a process."""
    from browser import OneBrowser

    with OneBrowser() as one:
        yield one


@pytest.fixture
def style():
    """Draw in the style of the book, and close every figure afterwards."""
    from reidlib.plotting import use_style

    mpl.use("Agg")
    with mpl.rc_context():
        use_style()
        yield
        plt.close("all")
