"""The people that the recipes are tried on."""

from __future__ import annotations

import pytest
from support import few_people


@pytest.fixture(scope="session")
def people(tiny):
    """Twelve people to learn from, ten to look for."""
    return few_people(tiny, 12)
