"""Speed of a training epoch, against the plain way of public code.

    python benchmarks/train_throughput.py [--preset quick] [--size tiny] [--steps 10]

Both train the baseline on the same images, with the same network, batches and numbers
of images and steps. The plain way is what public code does: a DataLoader whose workers
decode and augment with Pillow, float32, a memory that is updated sample by sample, and
clustering with N x N matrices on the host. It is written here, from what such code has
in common. Ours is `reidlib bench train`. Seconds belong to one machine; the ratio of
the two is what can be compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from dense import jaccard_distance as dense_jaccard
from PIL import Image
from sklearn.cluster import DBSCAN
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from reidlib.bench import bench_train
from reidlib.data import PKSampler, open_dataset
from reidlib.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from reidlib.engine import open_fabric
from reidlib.engine.manifest import environment
from reidlib.files import write_atomically
from reidlib.recipes import RECIPES
from reidlib.synthcity import ensure_synthcity

FULL = {"backbone": "resnet50", "height": 256, "width": 128, "frozen_stages": 0}


class Pictures(Dataset[Any]):
    """Images of a table, decoded when they are asked for."""

    def __init__(self, table: Any, transform: Any) -> None:
        self.table, self.transform = table, transform

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(self.table.file(row)) as image:
            return self.transform(image.convert("RGB")), row


def plain_epoch(
    config: Any, dataset: Any, steps: int, device: torch.device, workers: int
) -> dict[str, float]:
    """Return the seconds of the parts of an epoch of the plain way."""
    resize = transforms.Resize(config.size, transforms.InterpolationMode.BICUBIC)
    normalise = transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    test = transforms.Compose([resize, transforms.ToTensor(), normalise])
    train = transforms.Compose(
        [
            resize,
            transforms.RandomHorizontalFlip(config.flip),
            transforms.Pad(config.pad),
            transforms.RandomCrop(config.size),
            transforms.ToTensor(),
            normalise,
            transforms.RandomErasing(config.erasing),
        ]
    )
    pinned = device.type == "cuda"
    options: dict[str, Any] = {"num_workers": workers, "pin_memory": pinned}
    model = RECIPES["baseline"].network(config).to(device)
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad],
        lr=config.lr,
        weight_decay=config.weight_decay,
    )

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    start = now()
    loader: Any = DataLoader(Pictures(dataset.train, test), 64, **options)
    model.eval()
    with torch.no_grad():
        parts = [model(images.to(device)).cpu() for images, _ in loader]
    features = torch.cat(parts)
    extracted = now()

    k1 = min(config.k1, len(features) - 1)
    distance = dense_jaccard(features, k1, min(config.k2, k1))
    found = DBSCAN(eps=config.eps, min_samples=4, metric="precomputed")
    labels = torch.from_numpy(found.fit(distance.clip(0)).labels_).long()
    if config.weights == "random":  # as in ours: a random network may find none
        labels = torch.from_numpy(dataset.train.labels)
    centroids = [features[labels == c].mean(0) for c in range(int(labels.max()) + 1)]
    bank = torch.nn.functional.normalize(torch.stack(centroids), dim=1).to(device)
    clustered = now()

    generator = torch.Generator().manual_seed(0)
    shape = config.num_labels, config.num_instances
    drawn = list(PKSampler(labels, *shape, steps, generator))
    loader = DataLoader(
        Pictures(dataset.train, train),
        batch_sampler=[batch.tolist() for batch in drawn],
        **options,
    )
    model.train()
    for images, rows in loader:
        queries = model(images.to(device))
        positives = labels[rows].to(device)
        logits = queries @ bank.T / config.temperature
        loss = torch.nn.functional.cross_entropy(logits, positives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for query, label in zip(queries, positives, strict=True):
                moved = config.momentum * bank[label] + (1 - config.momentum) * query
                bank[label] = moved / moved.norm()
        loss.item()  # for the log
    return {
        "extraction": extracted - start,
        "labels": clustered - extracted,
        "steps": now() - clustered,
    }


def measure(
    config: Any, dataset: Any, steps: int, device: str, workers: int
) -> dict[str, Any]:
    """Return the seconds of an epoch, ours and the plain way."""
    where = open_fabric(device).device
    plain_config = dataclasses.replace(config, precision="32-true")
    plain = plain_epoch(plain_config, dataset, steps, where, workers)
    ours = bench_train("baseline", config, dataset, num_steps=steps, device=device)
    # An epoch has more steps than were timed.
    plain["steps"] *= config.iterations / steps
    ratio = sum(plain.values()) / sum(ours.epoch.values())
    rates = {
        "plain_extraction": len(dataset.train) / plain["extraction"],
        "plain_training": config.iterations * ours.batch / plain["steps"],
    }
    return {"plain_epoch": plain, **rates, **ours.as_dict(), "times_faster": ratio}


def report(found: dict[str, Any]) -> str:
    """Return the figures of `measure` in words."""
    lines = [f"{found['device']}, {found['images']:,} images, {found['steps']} steps"]
    for name, seconds in found["plain_epoch"].items():
        ours = found["epoch"][name]
        lines.append(
            f"  {name:12s} plain {seconds:8.2f} s, ours {ours:8.2f} s: "
            f"{seconds / max(ours, 1e-9):6.1f} times faster"
        )
    lines.append(f"  an epoch is {found['times_faster']:.1f} times faster")
    return "\n".join(lines)


def main() -> None:
    """Print the measurements, and write them where --output says."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--full", action="store_true", help="ResNet-50 at 256 x 128")
    parser.add_argument("--size", default="tiny", help="of SynthCity")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2, help="of the plain way")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    config = RECIPES["baseline"].PRESETS[given.preset]
    if given.full:
        config = dataclasses.replace(config, weights="random", **FULL)
    torch.manual_seed(0)
    dataset = open_dataset("synthcity", ensure_synthcity(given.size))
    found = measure(config, dataset, given.steps, given.device, given.workers)
    print(report(found))
    if given.output:
        content = json.dumps({**found, **environment()}, indent=1)
        write_atomically(given.output, content.encode())


if __name__ == "__main__":
    main()
