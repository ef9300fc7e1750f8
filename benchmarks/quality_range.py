"""What SynthCity's dials of quality do to identifiability, and to blur and contrast.

    python benchmarks/quality_range.py                         # about ten minutes
    python benchmarks/quality_range.py --images 20 --seeds 0   # a trial

Measures query images of the cities of the table QAFM-QUALITY: identifiability (QAFM-E1)
at the size that the small presets measure it at, and at the whole size of the images;
sharpness and contrast beside it. Of each score it keeps the mean and the standard
deviation, and where images differ in how much they were degraded the rank correlation
with that. Images are taken evenly from all queries. Writes
``results/quality_range.json``.
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
from scipy.stats import spearmanr

from reidlib.data import InMemoryImages, open_dataset
from reidlib.engine.manifest import environment
from reidlib.experiments import plan
from reidlib.models import build_backbone
from reidlib.models.fused import QualityEncoder
from reidlib.quality import contrast, sharpness
from reidlib.recipes import qafm
from reidlib.synthcity import Dials, ensure_synthcity, plan_world, shot_strength

CONFIG = qafm.PRESETS["ablation"]
SIZES = ((CONFIG.quality_height, CONFIG.quality_width), CONFIG.size)


def measure(row: str, dials: Dials, seed: int, count: int) -> dict[str, Any]:
    """Return what is kept of the scores of one city."""
    torch.set_num_threads(1)
    city = ensure_synthcity("course", seed, dials, progress=False, workers=1)
    query = open_dataset("synthcity", city).query
    chosen = np.linspace(0, len(query) - 1, min(count, len(query))).round().astype(int)
    query = query[chosen]
    images = InMemoryImages(query, CONFIG.size)
    parts = torch.arange(len(images)).split(64)
    pixels = torch.cat(list(images.batches(parts)))
    scores = {"sharpness": sharpness(pixels), "contrast": contrast(pixels)}
    backbone = build_backbone(CONFIG.quality_backbone, last_stride=2)
    for size in SIZES:
        encoder = QualityEncoder(backbone, size).eval()
        scores[f"identifiability, {size[0]} x {size[1]}"] = encoder(pixels)
    world = plan_world("course", seed, dials)
    shots = {f"{shot.folder}/{shot.name}": shot for shot in world.shots}
    worse = [shot_strength(world, shots[path]) for path in query.paths]
    told = {}
    for name, values in scores.items():
        told[name] = {"mean": float(values.mean()), "std": float(values.std())}
        if dials.quality_spread:
            told[name]["follows"] = float(spearmanr(values, worse).statistic)
    return {"city": row, "seed": seed, "images": len(images), "scores": told}


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=300, help="of each city")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument(
        "--output", type=Path, default=Path("results/quality_range.json")
    )
    given = parser.parse_args()
    dials: dict[Dials, str] = {}
    for row in plan("QAFM-QUALITY").rows:
        dials.setdefault(Dials(**row.dials), row.name)
    cities = [(name, d, seed) for d, name in dials.items() for seed in given.seeds]
    rows = Parallel(n_jobs=given.processes)(
        delayed(measure)(*city, given.images) for city in cities
    )
    for row in rows:
        print(row["city"], row["seed"])
        for name, one in row["scores"].items():
            follows = f", r = {one['follows']:.2f}" if "follows" in one else ""
            print(f"  {name:25s} {one['mean']:8.2f} ± {one['std']:.2f}{follows}")
    report = {"experiment": "quality range", "rows": rows, **environment()}
    given.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
