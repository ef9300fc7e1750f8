"""Everything that is measured on a GPU, in about eight minutes.

    python benchmarks/card.py --output FOLDER          # on a GPU
    python benchmarks/card.py --output FOLDER --tiny   # on a CPU, to see that it works

Each part writes a file of its own as soon as it is done, so that a run that is cut
short keeps what it has; a part that fails writes its error, and the others go on. A
part that would begin after ``--seconds`` is left out. Networks have random weights:
speed does not depend on them.

- ``extraction``: images per second without gradients, eager and compiled;
- ``train-RECIPE``: `reidlib.bench.bench_train` at the papers' sizes;
- ``clustering``: Jaccard + DBSCAN at the sizes of Market-1501 and of all of MSMT17;
- ``equality``: labels of the GPU beside those of the CPU;
- ``course``: a whole run of the baseline at the preset ``course``;
- ``plain``: an epoch beside the plain way, see ``train_throughput.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clustering
import numpy as np
import torch
import train_throughput

from reidlib.bench import bench_train
from reidlib.clustering import dbscan, jaccard_distance
from reidlib.data import ReIDDataset, TestTransform, open_dataset
from reidlib.engine import Run
from reidlib.engine.manifest import environment
from reidlib.files import write_atomically
from reidlib.models import ReIDNet
from reidlib.recipes import RECIPES
from reidlib.synthcity import ensure_synthcity

RECIPES_HERE = ("baseline", "aff_scl", "calr", "cals", "qafm")


class Sizes:
    """What is measured: on a card, or tiny, to see that the script works."""

    def __init__(self, tiny: bool) -> None:
        self.tiny = tiny
        self.city = "tiny" if tiny else "market"
        self.crops = 64 if tiny else 12936
        self.shape = (64, 32) if tiny else (256, 128)
        self.batch = 32 if tiny else 512
        self.backbone = "tiny" if tiny else "resnet50"
        self.steps = 2 if tiny else 40
        self.clustered = (400,) if tiny else (12936, 126441)
        self.dim = 64 if tiny else 2048
        self.compared = 400 if tiny else 12936
        self.workers = 0 if tiny else 12
        self.people = 26 if tiny else 150  # of qafm, whose quality takes 35 views each

    def config(self, recipe: str) -> Any:
        """Return the settings of a recipe."""
        module = RECIPES[recipe]
        preset = module.PRESETS["quick" if self.tiny else "paper"]
        if not self.tiny:
            return dataclasses.replace(preset, weights="random", precision="bf16-mixed")
        small: dict[str, Any] = {"height": 64, "width": 32, "frozen_stages": 0}
        small |= {"backbone": "tiny", "num_labels": 4, "weights": "random"}
        if recipe == "qafm":
            small |= {"quality_height": 32, "quality_width": 16}
            small |= {"quality_backbone": "tiny", "features": 32, "pyramid_width": 16}
            small |= {"decoder_channels": 16, "attribute_hidden": 8}
        return dataclasses.replace(preset, **small)


def wait(device: torch.device) -> float:
    """Wait for the device, and return the time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def extraction(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Return images per second, eager and compiled, with what compiling takes."""
    model = ReIDNet(sizes.backbone, pretrained=False).to(device).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    shape = (sizes.crops, 3, *sizes.shape)
    crops = torch.randint(256, shape, dtype=torch.uint8, device=device)
    normalise, found = TestTransform(), {}

    def all_features(network: Callable[..., Any]) -> float:
        start = wait(device)
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=not sizes.tiny),
        ):
            for batch in crops.split(sizes.batch):
                if len(batch) == sizes.batch:  # a compiled network likes one size
                    network(normalise(batch))
        return wait(device) - start

    count = sizes.crops // sizes.batch * sizes.batch
    ways = {"eager": model}
    if not sizes.tiny:  # there is no compiler everywhere
        ways["compiled"] = torch.compile(model)  # type: ignore[assignment]
    for name, network in ways.items():
        found[f"{name}_first_seconds"] = all_features(network)
        found[name] = count / min(all_features(network) for _ in range(2))
    return found


def training(recipe: str, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Return the speed of the steps of a recipe."""
    dataset = open_dataset("synthcity", ensure_synthcity(sizes.city))
    if recipe == "qafm":
        chosen = np.unique(dataset.train.pids)[: sizes.people]
        few = dataset.train[np.isin(dataset.train.pids, chosen)]
        dataset = ReIDDataset("few", few, few[:0], few[:0])
    config = sizes.config(recipe)
    steps = sizes.steps
    return bench_train(
        recipe, config, dataset, num_steps=steps, device=str(device)
    ).as_dict()


def clusters(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Return seconds of Jaccard and DBSCAN by the number of images."""
    found = {}
    for number in sizes.clustered:
        features = clustering.make("hard", number, sizes.dim).to(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = wait(device)
        distance = jaccard_distance(features, k1=30, k2=6, max_distance=0.6)
        between = wait(device)
        labels = dbscan(distance, eps=0.6)
        seconds = {"jaccard": between - start, "dbscan": wait(device) - between}
        found[str(number)] = {**seconds, "clusters": int(labels.max()) + 1}
        if device.type == "cuda":
            found[str(number)]["mib"] = torch.cuda.max_memory_allocated() >> 20
    return found


def equality(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Return whether the labels of the device are those of the CPU."""
    features = clustering.make("hard", sizes.compared, sizes.dim)
    labels = [
        dbscan(jaccard_distance(f, k1=30, k2=6, max_distance=0.6), eps=0.6)
        for f in (features.to(device), features)
    ]
    return {"images": sizes.compared, "equal": bool(torch.equal(*labels))}


def plain(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Return the speed of an epoch, ours and the plain way."""
    dataset = open_dataset("synthcity", ensure_synthcity(sizes.city))
    config = sizes.config("baseline")
    return train_throughput.measure(
        config, dataset, sizes.steps, str(device), sizes.workers
    )


def course(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Return seconds and scores of a whole run of the baseline."""
    recipe = RECIPES["baseline"]
    city = "tiny" if sizes.tiny else "course"
    dataset = open_dataset("synthcity", ensure_synthcity(city))
    config = sizes.config("baseline") if sizes.tiny else recipe.PRESETS["course"]
    if sizes.tiny:  # a random network may find no clusters
        config = dataclasses.replace(config, clustering="kmeans", epochs=1)
    options: dict[str, Any] = {"recipe": "baseline", "version": recipe.VERSION}
    options |= {"config": config, "dataset": dataset, "device": str(device)}
    with (
        tempfile.TemporaryDirectory() as folder,
        Run(folder, **options, progress=False, tensorboard=False) as run,
    ):
        result = recipe.train(config, dataset, run)
    return {"training": result["seconds"], "mAP": result["metrics"]["mAP"]}


def main() -> None:
    """Measure each part, and write its file."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="on a CPU, in a minute")
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--parts", nargs="+", help="those to measure (default: all)")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    sizes = Sizes(given.tiny)
    device = torch.device("cpu" if given.tiny else "cuda:0")
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "extraction": lambda: extraction(sizes, device),
        "train-baseline": lambda: training("baseline", sizes, device),
        "clustering": lambda: clusters(sizes, device),
        "equality": lambda: equality(sizes, device),
    }
    for recipe in RECIPES_HERE[1:]:
        parts[f"train-{recipe}"] = lambda r=recipe: training(r, sizes, device)
    parts["course"] = lambda: course(sizes, device)
    parts["plain"] = lambda: plain(sizes, device)  # the longest
    began = time.perf_counter()
    for name in given.parts or parts:
        start = time.perf_counter()
        if start - began > given.seconds:
            print(f"{name}: left out, {given.seconds:.0f} s are over", flush=True)
            continue
        try:
            found = parts[name]()
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        seconds = time.perf_counter() - start
        content = {"part": name, "seconds": seconds, **found, **environment()}
        text = json.dumps(content, indent=1).encode()
        write_atomically(given.output / f"{name}.json", text)
        print(f"{name}: {seconds:.1f} s, {json.dumps(found)[:300]}", flush=True)


if __name__ == "__main__":
    main()
