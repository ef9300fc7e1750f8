"""How nbval runs the chapters: static figures, cells by their names, own sockets."""

from __future__ import annotations

import os
from collections.abc import Generator

import nbval.kernel
import pytest
from nbval.plugin import IPyNbCell

from own_sockets import with_own_sockets

# What is stored, and compared, holds no widget: neither sliders nor progress bars.
os.environ |= {"REIDLIB_STATIC": "1", "TQDM_DISABLE": "1"}

# nbval has no setting for it.
nbval.kernel.KernelManager = with_own_sockets(nbval.kernel.KernelManager)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put a cell's own name, as stored in the notebook, behind its number."""
    report = yield
    if isinstance(item, IPyNbCell):
        file, line, name = report.location
        report.location = (file, line, f"{name} ({item.cell.id})")
    return report
