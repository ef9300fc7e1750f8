"""Fixtures that several test folders share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


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
