"""What SynthCity's dial of quality does to identifiability, and to blur and contrast.

    python benchmarks/quality_range.py                         # about ten minutes
    python benchmarks/quality_range.py --images 20 --seeds 0   # a trial

Measures query images of the cities of the table QAFM-QUALITY: identifiability by both
definitions (QAFM-E1) at the size that the small presets measure it at, and at the whole
size of the images; sharpness and contrast beside it. Of each score it keeps the mean,
the standard deviation and the range of the middle nine tenths. Images are taken evenly
from all queries. Writes ``results/quality_range.json``.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed

from reidlib.data import InMemoryImages, open_dataset
from reidlib.engine.manifest import environment
from reidlib.experiments import plan
from reidlib.models import build_backbone
from reidlib.quality import contrast, measure_identifiability, sharpness
from reidlib.recipes import qafm
from reidlib.synthcity import Dials, ensure_synthcity

CONFIG = qafm.PRESETS["ablation"]


def measure(row: str, dials: dict[str, float], seed: int, count: int) -> dict[str, Any]:
    """Return the scores' mean, deviation and range in one city."""
    torch.set_num_threads(1)
    city = ensure_synthcity("course", seed, Dials(**dials), progress=False, workers=1)
    query = open_dataset("synthcity", city).query
    chosen = np.linspace(0, len(query) - 1, min(count, len(query))).round().astype(int)
    images = InMemoryImages(query[chosen], CONFIG.size)
    backbone = build_backbone(CONFIG.quality_backbone, last_stride=2).eval()

    def encode(views: torch.Tensor) -> torch.Tensor:
        return backbone(views).mean(dim=(2, 3))

    pixels = torch.cat(list(images.batches(torch.arange(len(images)).split(64))))
    scores = {"sharpness": sharpness(pixels), "contrast": contrast(pixels)}
    for size in ((CONFIG.quality_height, CONFIG.quality_width), CONFIG.size):
        found = measure_identifiability(encode, images, size=size)
        for definition in ("pairs", "anchor"):
            name = f"{definition}, {size[0]} x {size[1]}"
            scores[name] = getattr(found, definition)
    told = {}
    for name, values in scores.items():
        low, high = np.quantile(values, [0.05, 0.95])
        told[name] = {
            **{"mean": float(values.mean()), "std": float(values.std())},
            **{"low": float(low), "high": float(high)},
        }
    between = {
        name: float(np.corrcoef(values, scores["sharpness"])[0, 1])
        for name, values in scores.items()
        if name != "sharpness"
    }
    return {
        **{"city": row, "seed": seed, "images": len(images)},
        **{"scores": told, "correlation with sharpness": between},
    }


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=300, help="of each city")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--output", type=Path, default=Path("results/quality_range.json")
    )
    given = parser.parse_args()
    cities = [
        (row.name, dict(row.dials), seed)
        for row in plan("QAFM-QUALITY").rows
        for seed in given.seeds
    ]
    rows = Parallel(n_jobs=os.cpu_count())(
        delayed(measure)(*city, given.images) for city in cities
    )
    for row in rows:
        print(row["city"], row["seed"])
        for name, one in row["scores"].items():
            print(
                f"  {name:18s} {one['mean']:8.2f} ± {one['std']:.2f}, "
                f"{one['low']:.2f} to {one['high']:.2f}"
            )
    report = {"experiment": "quality range", "rows": rows, **environment()}
    given.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
