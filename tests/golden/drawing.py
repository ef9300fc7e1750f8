"""A dozen drawn shots, for the version of the drawing.

``python tests/golden/drawing.py`` records them, and never overwrites a record. A file
holds for each shot a hash of its pixels, which is exact with the packages that it was
made with, and its mean colours on a coarse grid, which hold with any.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from reidlib.synthcity import DRAWING, Dials, draw_shot, plan_world

FILE = Path(__file__).parent / f"drawing-v{DRAWING}.json"


def shots() -> dict[str, Any]:
    """Draw twelve shots of two cities and describe them."""
    found = {}
    cities = {"usual": Dials(), "harder": Dials(camera_shift=0.9, occlusion=0.5)}
    for city, dials in cities.items():
        world = plan_world("tiny", 0, dials)
        step = len(world.shots) // 6
        for shot in world.shots[::step][:6]:
            pixels = np.asarray(draw_shot(world, shot))
            rows = np.array_split(pixels.astype(float), 4)
            grid = [[c.mean((0, 1)) for c in np.array_split(r, 2, 1)] for r in rows]
            found[f"{city}/{shot.folder}/{shot.name}"] = {
                "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
                "colours": np.round(grid, 1).tolist(),
            }
    return {"numpy": np.__version__, "pillow": PIL.__version__, "shots": found}


if __name__ == "__main__":
    if FILE.exists():
        sys.exit(f"{FILE.name} is there and is kept: raise DRAWING to record")
    FILE.write_text(json.dumps(shots(), separators=(",", ":")) + "\n")
