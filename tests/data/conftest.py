"""Small folders in the layouts of the real data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Writer = Callable[..., Path]


@pytest.fixture
def write_images(tmp_path: Path) -> Writer:
    """Write random JPEGs under a folder, by relative path."""

    def write(names: list[str], root: str = "set", size: tuple[int, int] = (8, 16)):
        folder = tmp_path / root
        rng = np.random.default_rng(len(names))
        for name in names:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file)
        return folder

    return write


MARKET_NAMES = [
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c3s1_000551_01.jpg",
    "bounding_box_train/0007_c2s3_070952_02.jpg",
    "query/0003_c1s1_000001_00.jpg",
    "query/0004_c6s1_000001_00.jpg",
    "bounding_box_test/-1_c1s1_000401_03.jpg",
    "bounding_box_test/-1_c2s1_000401_03.jpg",
    "bounding_box_test/0000_c4s1_000002_01.jpg",
    "bounding_box_test/0003_c5s1_000002_01.jpg",
    "bounding_box_test/0004_c6s2_000002_01.jpg",
]


@pytest.fixture
def market_root(write_images: Writer) -> Path:
    """Ten images in the Market layout: two are junk, one is a distractor."""
    return write_images(MARKET_NAMES)
