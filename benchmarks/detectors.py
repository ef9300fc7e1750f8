"""How well detectors find drawn people, and how fast: NanoDet, and a YOLO from scratch.

    python benchmarks/detectors.py                   # needs ultralytics and onnxruntime
    python benchmarks/detectors.py --epochs 2 --frames 20      # a trial

Draws frames of the city ``tiny`` with their boxes, trains a small YOLO on some of them
from random weights (no file is downloaded), exports it to ONNX, and scores all three
through `reidlib.deploy.open_detector` on frames of other people: average precision at
an overlap of 0.5, and processor seconds a frame. The same network must find the
same boxes from both files. Writes ``results/detectors.json``; the two files of the YOLO
stay in ``--work``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reidlib.deploy import Detections, open_detector
from reidlib.engine.manifest import environment
from reidlib.evaluation import box_average_precision
from reidlib.synthcity import draw_frame, plan_world

SIZE = 320


def draw(number: int, split: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return frames of one to five people, and boxes (left, top, right, bottom)."""
    world = plan_world("tiny")
    people = world.train_pids if split == "train" else world.test_pids
    rng = np.random.default_rng([0, split == "train"])
    frames, boxes = [], []
    for frame in range(number):
        chosen = rng.choice(people, rng.integers(1, 6), replace=False)
        camera = world.cameras[frame % len(world.cameras)]
        pixels, found = draw_frame(
            camera, [world.identity(int(pid)) for pid in chosen], seed=frame
        )
        frames.append(pixels)
        corner, size = found[:, :2], found[:, 2:4]
        boxes.append(np.concatenate([corner, corner + size], axis=1).astype(float))
    return frames, boxes


def write_yolo(root: Path, frames: list[np.ndarray], boxes: list[np.ndarray]) -> Path:
    """Write frames and boxes as ultralytics reads them, and return the description."""
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for number, (frame, found) in enumerate(zip(frames, boxes, strict=True)):
        Image.fromarray(frame).save(root / "images" / f"{number}.jpg", quality=95)
        high, wide = frame.shape[:2]
        centre, size = (found[:, :2] + found[:, 2:]) / 2, found[:, 2:] - found[:, :2]
        rows = np.concatenate([centre, size], axis=1) / [wide, high, wide, high]
        lines = ["0 " + " ".join(f"{value:.6f}" for value in row) for row in rows]
        (root / "labels" / f"{number}.txt").write_text("\n".join(lines))
    told = {"path": str(root), "train": "images", "val": "images"}
    description = root / "data.yaml"
    description.write_text(json.dumps({**told, "names": {"0": "person"}}))
    return description


def train(work: Path, frames: int, epochs: int) -> tuple[Path, Path]:
    """Train a YOLO from random weights, and return its two files."""
    from ultralytics import YOLO

    data = write_yolo(work / "data", *draw(frames, "train"))
    model = YOLO("yolov8n.yaml")
    model.train(
        data=str(data),
        **{"epochs": epochs, "imgsz": SIZE, "batch": 16, "device": "cpu"},
        **{"workers": 0, "project": str(work), "name": "run", "exist_ok": True},
        **{"plots": False, "val": False, "verbose": False, "seed": 0, "amp": False},
    )
    weights = work / "run" / "weights" / "last.pt"
    exported = YOLO(str(weights)).export(
        format="onnx", imgsz=SIZE, dynamic=True, nms=False, simplify=False
    )
    return weights, Path(exported)


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=160, help="to train on")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--work", type=Path, help="folder for data and files")
    parser.add_argument("--output", type=Path, default=Path("results/detectors.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = given.work or Path(tempfile.mkdtemp())
    weights, exported = (
        work / "run" / "weights" / name for name in ("last.pt", "last.onnx")
    )
    asked = {"frames": given.frames, "epochs": given.epochs}
    done = work / "trained.json"
    if not done.exists():
        weights, exported = train(work, **asked)
        done.write_text(json.dumps(asked))
    elif json.loads(done.read_text()) != asked:
        raise SystemExit(f"{work} holds another training; give another --work")
    frames, truth = draw(60, "test")
    rows, found = [], {}
    for name, which in (
        ("NanoDet-g, trained on COCO", "nanodet"),
        ("YOLOv8n from scratch, .pt", weights),
        ("YOLOv8n from scratch, .onnx", exported),
    ):
        longest = None if which == "nanodet" else SIZE
        detect = open_detector(which, min_score=0.05, longest=longest)
        detect(frames[0])
        start = time.process_time()
        found[name] = [detect(frame) for frame in frames]
        seconds = (time.process_time() - start) / len(frames)
        precision = box_average_precision(found[name], truth)
        row = {"detector": name, "average precision": precision, "cpu": seconds}
        print(f"{name:30s} AP {precision:.3f}, {seconds:.3f} CPU seconds a frame")
        rows.append(row)
    one, two = list(found.values())[1:]
    apart = max(*map(distance, one, two), *map(distance, two, one))
    print(f"boxes of .pt and .onnx differ by {apart:.2f} pixels at most")
    if apart > 1:
        raise SystemExit("the two files do not find the same people")
    report = {
        **{"experiment": "detectors", "frames": given.frames, "epochs": given.epochs},
        **{"rows": rows, "pt_to_onnx_pixels": apart, **environment()},
    }
    given.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def distance(one: Detections, two: Detections) -> float:
    """Return how far the sure boxes of one lie from the nearest of the other."""
    sure = one.boxes[one.scores > 0.25]
    if not len(sure) or not len(two.boxes):
        return float(len(sure) > 0) * 1e3
    return float(np.abs(sure[:, None] - two.boxes[None]).max(2).min(1).max())


if __name__ == "__main__":
    main()
