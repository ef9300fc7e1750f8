"""A gallery of many people: time to add and search, recall, memory and disk.

    python benchmarks/gallery.py                       # 20,000 people
    python benchmarks/gallery.py --sizes 100000 1000000

Features are drawn: 20 crops of each person. The exact search must find what a product
with all features finds; the index, which looks at a part, is scored by its recall. Rows
are kept in ``results/gallery_speed.json``, a size each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sheet import _memory
from torch.nn.functional import normalize

from reidlib.data.table import ImageTable
from reidlib.deploy import Embeddings, Gallery
from reidlib.engine.manifest import environment
from reidlib.evaluation import nearest_features

K, QUERIES, PART = 10, 50, 50_000


def drawn(start: int, stop: int, dim: int, seed: int = 0) -> Embeddings:
    """Return features of crops ``start`` to ``stop``, 20 of each person."""
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + start)
    people = np.arange(start, stop) // 20
    centre = torch.randn(
        people[-1] - people[0] + 1, dim, generator=torch.Generator().manual_seed(start)
    )
    features = centre[torch.from_numpy(people - people[0])]
    features = features + torch.randn(features.shape, generator=generator)
    names = tuple(f"{seed}_{number}.png" for number in range(start, stop))
    table = ImageTable(Path("crops"), names, people + 1, np.arange(start, stop) % 6)
    return Embeddings(normalize(features), table, "f" * 64)


def measure(folder: Path, size: int, dim: int) -> dict[str, Any]:
    """Add and search so many people."""
    gallery = Gallery.create(folder, drawn(0, 20, dim), exact_up_to=max(256, size - 1))
    before = _memory("VmRSS")
    spent, parts = 0.0, []
    for start in range(0, size, PART):
        some = drawn(start, min(start + PART, size), dim)
        parts.append(some.features)
        clock = time.perf_counter()
        gallery.add(some, crops=False)  # the last part makes the index
        spent += time.perf_counter() - clock
        print(f"  {start + len(some.table):,} added in {spent:.0f} s", flush=True)
    asked = drawn(0, min(PART, size), dim, seed=1).features[:: max(1, size // 1000)]
    asked = asked[:QUERIES]
    row = {"people": size, "dim": dim, "add_seconds": spent}
    gallery.search(asked[:1], K)
    found = {}
    for name, exact in (("exact", True), ("index", False)):
        clock = time.perf_counter()
        answers = gallery.search(asked, K, exact=exact)
        row[f"{name}_seconds"] = (time.perf_counter() - clock) / len(asked)
        found[name] = [set(ids) for _, ids in answers.groupby("query")["id"]]
        if exact:
            distance = answers["distance"].to_numpy().reshape(len(asked), -1)
    row["mib"] = _memory("VmHWM") - before - size * dim * 4 / 2**20  # beside features
    wanted = nearest_features(asked, torch.cat(parts), K)[1]
    if np.abs(distance - wanted).max() > 1e-4:
        raise SystemExit("the exact search found others than a product does")
    pairs = zip(found["exact"], found["index"], strict=True)
    row["index_recall"] = float(np.mean([len(a & b) / len(a) for a, b in pairs]))
    row["disk_mib"] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    row["disk_mib"] /= 2**20
    return row


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument(
        "--output", type=Path, default=Path("results/gallery_speed.json")
    )
    given = parser.parse_args()
    rows = {}
    if given.output.exists():
        kept = json.loads(given.output.read_text(encoding="utf-8"))["rows"]
        rows = {row["people"]: row for row in kept}
    for size in given.sizes:
        work = Path(tempfile.mkdtemp())
        try:
            rows[size] = row = measure(work / "gallery", size, given.dim)
        finally:
            shutil.rmtree(work)
        for name, value in row.items():
            print(f"{name:18s} {value:,.4g}")
        report = {
            "experiment": "gallery_speed",
            "rows": [rows[n] for n in sorted(rows)],
        }
        text = json.dumps({**report, **environment()}, indent=2) + "\n"
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
