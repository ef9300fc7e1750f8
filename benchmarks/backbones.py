"""Speed of the four backbones: images per second, and how many times Lite0's time.

    python benchmarks/backbones.py [--rounds 3] [--device cpu] [--threads 1]

Random weights: speed does not depend on them. Every round measures each network once,
one after another, so that a machine that slows down slows all of them, and the fastest
round counts. One thread of a CPU is measured in processor time, so that what else runs
there counts little. Images per second belong to one machine; the ratios within one run
are what can be compared. It writes ``results/backbones_speed.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reidlib.engine.manifest import environment
from reidlib.models import BACKBONES, ReIDNet, network_cost

OUTPUT = Path("results/backbones_speed.json")
SIZES = {(128, 64): 32, (256, 128): 8}  # images at once, so that calls last alike
NOTE = (
    "images per second belong to the machine of this run; compare the ratios within it"
)


def forward(model: ReIDNet, images: Tensor) -> None:
    with torch.inference_mode():
        model.eval()(images)


def forward_backward(model: ReIDNet, images: Tensor) -> None:
    model.train()(images).sum().backward()
    model.zero_grad()


PASSES = {"forward": forward, "forward and backward": forward_backward}


def clock(images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def seconds(step: Any, model: ReIDNet, images: Tensor) -> float:
    start = clock(images)
    step(model, images)
    return clock(images) - start


def measure(rounds: int, device: str) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    best: dict[tuple[str, tuple[int, int], str], float] = {}
    models = {}
    for name in BACKBONES:
        model = ReIDNet(name, "gap", pretrained=False).to(torch.device(device))
        models[name] = model.to(memory_format=torch.channels_last)
    for size, batch in SIZES.items():
        images = torch.rand(batch, 3, *size, generator=generator).to(device)
        images = images.contiguous(memory_format=torch.channels_last)
        for name, step in PASSES.items():
            for turn in range(rounds + 1):
                for backbone, model in models.items():
                    # The first turn warms up, with few images.
                    part = images if turn else images[:2]
                    took = seconds(step, model, part)
                    key = (backbone, size, name)
                    if turn:
                        best[key] = min(best.get(key, took), took)
    rows = []
    for (backbone, size, name), took in best.items():
        rows.append(
            {
                "backbone": backbone,
                "height": size[0],
                "width": size[1],
                "pass": name,
                "batch": SIZES[size],
                "macs": network_cost(models[backbone], size).macs,
                "images_per_second": SIZES[size] / took,
                "times_lite0": took / best["efficientnet_lite0", size, name],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    start = time.perf_counter()
    rows = measure(options.rounds, options.device)
    for row in rows:
        print(
            f"{row['height']} x {row['width']:3d}  {row['pass']:20s}  "
            f"{row['backbone']:18s}  {row['images_per_second']:7.1f} images/s  "
            f"{row['times_lite0']:5.2f} times the time of Lite0"
        )
    report = {
        "experiment": "backbones_speed",
        "note": NOTE,
        "rounds": options.rounds,
        "device": options.device,
        "rows": rows,
        "seconds": time.perf_counter() - start,
        **environment(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
