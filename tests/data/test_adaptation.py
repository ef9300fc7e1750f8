"""A target with a source: what counts as the same data."""

from __future__ import annotations

import numpy as np
import pytest

from reidlib.data import ImageTable, ReIDDataset, with_source
from reidlib.errors import ReIDError


def dataset(folder, names, contents):
    folder.mkdir()
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(content)
    table = ImageTable(folder, names, np.arange(len(names)) + 1, np.zeros(len(names)))
    return ReIDDataset(folder.name, table, table[:0], table[:0])


def test_the_same_data_are_known_by_their_images_not_by_their_names(tmp_path):
    target = dataset(tmp_path / "target", ("1.bmp", "2.bmp"), (b"aa", b"bb"))
    renamed = dataset(tmp_path / "renamed", ("x.bmp", "y.bmp"), (b"bb", b"aa"))
    with pytest.raises(ReIDError, match="source and target are the same data"):
        with_source(target, renamed)
    other = dataset(tmp_path / "other", ("1.bmp", "2.bmp"), (b"aa", b"bc"))
    assert with_source(target, other).source is other
