"""Every figure of these tests is drawn in the style of the book, and closed after."""

from __future__ import annotations

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from reidlib.plotting import use_style


@pytest.fixture(autouse=True)
def _figures():
    mpl.use("Agg")
    with mpl.rc_context():
        use_style()
        yield
        plt.close("all")
