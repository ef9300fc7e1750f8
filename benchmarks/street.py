"""Frames per second of detection and crops per second of embedding, and plain loops.

    python benchmarks/street.py                      # 30 frames, 256 crops
    python benchmarks/street.py --full               # 120 frames, 2,000 crops

A plain loop is what one writes first: open a picture with Pillow, resize it, normalise
it, give it to the network. ``loop`` does so with one picture at a time, ``batches``
with 64 crops. Both ways have the same networks (NanoDet; EfficientNet-Lite0 at 128 x 64
and 256 x 128), and must find the same. Pictures are drawn, JPEG files on the disk.
Rows are kept in ``results/street_speed.json``.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from sheet import Sheet, line, measured, options
from torch.nn.functional import normalize, pad
from torchvision import transforms
from torchvision.ops import nms

from reidlib.data import read_image
from reidlib.deploy import open_detector
from reidlib.deploy.nanodet import load_nanodet
from reidlib.models import ReIDNet
from reidlib.recipes import baseline
from reidlib.synthcity import draw_frame, plan_world
from reidlib.trained import TrainedModel

LONGEST, SURE, OVERLAP = 416, 0.45, 0.6
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Data(NamedTuple):
    """Picture files, and the height and width of the network for crops."""

    files: list[Path]
    size: tuple[int, int]


def make(work: Path, what: str, number: int, height: int) -> Data:
    """Draw frames, or cut drawn people out of them."""
    folder = work / what
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{one:05d}.jpg" for one in range(number)]
    missing = [one for one in files if not one.exists()]
    world = plan_world("tiny")
    rng = np.random.default_rng(0)
    seed = 0
    while missing:
        people = [world.identity(pid) for pid in rng.choice(world.test_pids, 4, False)]
        camera = world.cameras[seed % len(world.cameras)]
        pixels, boxes = draw_frame(camera, people, seed=seed)
        seed += 1
        frame = Image.fromarray(pixels)
        pictures = [frame]
        if what == "crops":
            corners = (
                (left, top, left + wide, top + high)
                for left, top, wide, high, *_ in boxes.tolist()
            )
            pictures = [frame.crop(box) for box in corners]
        for picture in pictures[: len(missing)]:
            picture.save(missing.pop(0), quality=95)
    return Data(files, (height, height // 2))


def network() -> ReIDNet:
    torch.manual_seed(0)
    return ReIDNet("efficientnet_lite0", pretrained=False).eval()


def features(found: torch.Tensor) -> dict[str, Any]:
    return {"found": found.double().sum(0)[:8].tolist(), "pictures": len(found)}


def library_crops(data: Data) -> dict[str, Any]:
    """Extract with the library."""
    height, width = data.size
    config = baseline.Config(height=height, width=width)
    reid = TrainedModel(network(), config, "f" * 64, torch.device("cpu"))
    return features(reid.extract(data.files))


def preparation(size: tuple[int, int]) -> Any:
    return transforms.Compose(
        [
            transforms.Resize(size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, DEVIATION),
        ]
    )


@torch.no_grad()
def loop_crops(data: Data) -> dict[str, Any]:
    """Extract with a loop over the pictures."""
    model, prepare = network(), preparation(data.size)
    rows = []
    for file in data.files:
        with Image.open(file) as image:
            rows.append(normalize(model(prepare(image.convert("RGB"))[None])))
    return features(torch.cat(rows))


@torch.no_grad()
def batches_crops(data: Data) -> dict[str, Any]:
    """Extract with a loop over batches."""
    model, prepare = network(), preparation(data.size)
    rows = []
    for first in range(0, len(data.files), 64):
        part = []
        for file in data.files[first : first + 64]:
            with Image.open(file) as image:
                part.append(prepare(image.convert("RGB")))
        rows.append(normalize(model(torch.stack(part))))
    return features(torch.cat(rows))


def library_frames(data: Data) -> dict[str, Any]:
    """Detect with the library."""
    detect = open_detector()
    found = [len(detect(read_image(file))) for file in data.files]
    return {"found": found, "pictures": len(found)}


@torch.no_grad()
def loop_frames(data: Data) -> dict[str, Any]:
    """Detect with a loop over the pictures."""
    model, found = load_nanodet(), []
    for file in data.files:
        with Image.open(file) as image:
            scale = LONGEST / max(image.size)
            wide, high = (round(side * scale) for side in image.size)
            small = image.convert("RGB").resize((wide, high), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float()
        scores, boxes = model(pad(pixels, (0, -wide % 32, 0, -high % 32), value=114.0))
        kept = scores[0] > SURE
        found.append(len(nms(boxes[0][kept], scores[0][kept], OVERLAP)))
    return {"found": found, "pictures": len(found)}


def agree(what: str, ours: list[float], theirs: list[float]) -> bool:
    """Return whether two ways found the same."""
    if what == "frames":  # resized by other code, so a box at the threshold may differ
        return abs(sum(ours) - sum(theirs)) <= 0.02 * sum(theirs) + 1
    return float(np.abs(np.subtract(ours, theirs)).max()) < 1e-2 * max(map(abs, theirs))


def main() -> None:
    """Print and write the measurements."""
    parser = options(__doc__.split("\n")[0], "results/street_speed.json")
    parser.add_argument("--frames", type=int, help="number of frames")
    parser.add_argument("--crops", type=int, help="number of crops")
    given = parser.parse_args()
    frames = given.frames or (120 if given.full else 30)
    crops = given.crops or (2000 if given.full else 256)
    sheet = Sheet(given.output, "street_speed")
    work = Path(tempfile.mkdtemp())
    shapes = [
        ("frames", frames, 540, (loop_frames, library_frames)),
        ("crops", crops, 128, (loop_crops, batches_crops, library_crops)),
        ("crops", crops, 256, (loop_crops, batches_crops, library_crops)),
    ]
    for what, number, height, methods in shapes:
        print(f"{what}: {number} of height {height}", flush=True)
        rows: dict[Any, Any] = {}
        for method in methods:
            key = {"method": method.__name__, "number": number, "height": height}
            shape = (work, what, number, height)
            warm = (work, what, min(number, 8), height)
            rows[method] = row = sheet.best(
                key,
                given.threads,
                lambda threads, method=method, shape=shape, warm=warm: measured(
                    method, make, shape, warm, threads
                ),
            )
            shown = line(method.__name__, row, rows[methods[0]], None)
            print(f"{shown}  {number / row['wall']:.0f} a second", flush=True)
            if not agree(what, row["found"], rows[methods[0]]["found"]):
                raise SystemExit(f"{method.__name__} finds other than a loop")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
