"""Every figure is drawn in the style of the book, and closed afterwards."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _figures(style):
    """Ask for the style in each of these tests."""
