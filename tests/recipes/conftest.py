"""The people that the recipes are tried on."""

from __future__ import annotations

import numpy as np
import pytest

from reidlib.data.table import ReIDDataset


@pytest.fixture(scope="session")
def people(tiny):
    """Twelve people to learn from, ten to look for."""

    def first(table, count):
        chosen = np.unique(table.pids[table.pids > 0])[:count]
        return table[np.isin(table.pids, chosen)]

    return ReIDDataset(
        "twelve", first(tiny.train, 12), first(tiny.query, 10), first(tiny.gallery, 10)
    )
