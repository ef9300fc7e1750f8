"""Test whether a world of SynthCity behaves as real data does, without any training.

For each seed of ``course``: Rank-1 and mAP of a colour histogram, of raw pixels (plain
and centred per camera) and of ImageNet features, and how much the ImageNet features'
clusters and neighbours are about the camera. Run from the repository's root::

    python benchmarks/synthcity_acceptance.py [--seeds 0 1 2]

It writes ``results/synthcity_acceptance.json`` and ends with status 1 if a world is not
accepted.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from reidlib.clustering import cluster_quality, kmeans
from reidlib.data import ImageTable, TestTransform, open_dataset, read_image
from reidlib.engine.manifest import environment
from reidlib.evaluation import evaluate
from reidlib.models import build_backbone
from reidlib.neighbors import nearest_neighbors
from reidlib.synthcity import Dials, colour_histogram, ensure_synthcity, raw_pixels
from reidlib.synthcity.writer import MANIFEST

OUTPUT = Path("results/synthcity_acceptance.json")


def pixels(table: ImageTable) -> np.ndarray:
    return np.stack([read_image(table.file(row)) for row in range(len(table))])


@torch.inference_mode()
def imagenet_features(images: np.ndarray, backbone: torch.nn.Module) -> torch.Tensor:
    transform = TestTransform()
    features = [
        backbone(transform(torch.from_numpy(part).permute(0, 3, 1, 2))).mean((2, 3))
        for part in np.array_split(images, max(1, len(images) // 64))
    ]
    return normalize(torch.cat(features))


def bias(features: torch.Tensor, table: ImageTable, seed: int) -> dict[str, float]:
    """Return how much clusters and neighbours know of the camera, chance beside it."""
    generator = torch.Generator().manual_seed(seed)
    labels = np.asarray(kmeans(features, table.num_pids, generator)[0])
    quality = cluster_quality(labels, table.pids, table.camids)
    shuffled = np.random.default_rng(seed).permutation(labels)
    chance = cluster_quality(shuffled, table.pids, table.camids)
    few = np.asarray(kmeans(features, table.num_cams, generator)[0])
    few_quality = cluster_quality(few, table.pids, table.camids)
    _, neighbors = nearest_neighbors(features, 10)
    camids = torch.from_numpy(table.camids)
    counts = np.bincount(table.camids)
    return {
        "nmi_pid": quality.nmi_pid,
        "nmi_pid_chance": chance.nmi_pid,
        "nmi_cam": quality.nmi_cam,
        "nmi_cam_chance": chance.nmi_cam,
        "nmi_cam_of_as_many_clusters_as_cameras": few_quality.nmi_cam,
        "same_camera_share": float(
            (camids[neighbors] == camids[:, None]).float().mean()
        ),
        "same_camera_share_chance": float(
            (counts * (counts - 1)).sum() / (len(table) * (len(table) - 1))
        ),
    }


def measure(seed: int, dials: Dials, size: str, backbone: torch.nn.Module) -> dict:
    root = ensure_synthcity(size, seed, dials)
    dataset = open_dataset("synthcity", root)
    images = {
        name: pixels(getattr(dataset, name)) for name in ("train", "query", "gallery")
    }
    query, gallery = dataset.query, dataset.gallery
    count = len(query)
    both = np.concatenate([images["query"], images["gallery"]])
    camids = np.concatenate([query.camids, gallery.camids])
    features = {
        "colour histogram": torch.from_numpy(colour_histogram(both)),
        "raw pixels": torch.from_numpy(raw_pixels(both)),
        "raw pixels, centred per camera": torch.from_numpy(raw_pixels(both, camids)),
        "ImageNet features": imagenet_features(both, backbone),
    }
    rows: dict[str, Any] = {}
    for name, array in features.items():
        result = evaluate(array[:count], array[count:], query, gallery)
        rows[name] = {"rank1": result.cmc[1], "mAP": result.mAP}
    train = imagenet_features(images["train"], backbone)
    manifest = json.loads((root / MANIFEST).read_text())
    return {
        "seed": seed,
        "sha256": manifest["sha256"],
        "methods": rows,
        "bias": bias(train, dataset.train, seed),
    }


def accepted(world: dict) -> dict[str, bool]:
    rank1 = {name: row["rank1"] for name, row in world["methods"].items()}
    direct = rank1.pop("ImageNet features")
    found = world["bias"]
    return {
        "guards below ImageNet features": max(rank1.values()) < direct,
        "ImageNet features from 10 to 40 % Rank-1": 0.1 <= direct <= 0.4,
        "clusters know the camera": found["nmi_cam"] > 2.0 * found["nmi_cam_chance"],
        "neighbours share the camera": found["same_camera_share"]
        > 1.5 * found["same_camera_share_chance"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", default="course")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    dials = Dials()
    backbone = build_backbone("efficientnet_lite0").eval()
    start = time.perf_counter()
    worlds = []
    for seed in options.seeds:
        world = measure(seed, dials, options.size, backbone)
        world["accepted"] = accepted(world)
        worlds.append(world)
        for name, row in world["methods"].items():
            print(f"seed {seed}  {name:32s} {row['rank1']:6.3f} {row['mAP']:6.3f}")
        for name, value in world["bias"].items():
            print(f"seed {seed}  {name:40s} {value:6.3f}")
        for name, passed in world["accepted"].items():
            print(f"seed {seed}  {'yes' if passed else 'NO '}  {name}")
    report = {
        "experiment": "synthcity_acceptance",
        "size": options.size,
        "dials": asdict(dials),
        "worlds": worlds,
        "seconds": time.perf_counter() - start,
        **environment(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if not all(all(world["accepted"].values()) for world in worlds):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
