"""Detectors of people, behind one interface: a frame goes in, boxes come out."""

from __future__ import annotations

import ast
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional
from torchvision.ops import nms

from reidlib.checks import check_count, check_number
from reidlib.errors import ReIDError
from reidlib.files import file_sha256
from reidlib.paths import user_path

_OVERLAP = 0.6  # two boxes of more intersection over union are one person
_MOST = 100  # people in one frame
_LEAST = 2  # pixels of a side


@dataclass(frozen=True, eq=False)
class Detections:
    """The people in a frame, surest first.

    Attributes:
        boxes: ``(N, 4)`` float32: left, top, right and bottom in pixels, inside the
            frame.
        scores: ``(N,)`` float32, from 0 to 1.
    """

    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """What finds people in a frame.

    Attributes:
        name: What it is, with its settings, for the record.
    """

    name: str

    def __call__(self, frame: np.ndarray) -> Detections:
        """Return the people in an ``(H, W, 3)`` uint8 RGB frame."""
        ...


def open_detector(
    which: str | os.PathLike[str] = "nanodet",
    *,
    min_score: float | None = None,
    longest: int | None = None,
) -> Detector:
    """Return a detector of people: the first part of CALS (CALS-D1).

    Args:
        which: ``"nanodet"``, a small network whose weights come with this library; or
            a file: ``.onnx`` for onnxruntime (extra ``export``), or ``.pt`` for YOLO
            (package ``ultralytics``, under the AGPL; it unpickles the file, so take
            ``.pt`` files from people you trust alone).
        min_score: Lowest score of a person, from 0 to 1; by default 0.45 for NanoDet
            and 0.25 for files, whose scores mean other things.
        longest: Pixels of a frame's longer side for the network; by default 416 for
            NanoDet, the size it was trained with, and what the file says for others.
            More finds smaller people and takes longer.

    Raises:
        ReIDError: If there is no such detector, or its file cannot be used.

    Example:
        >>> detect = open_detector()
        >>> len(detect(np.full((96, 128, 3), 127, np.uint8)))
        0
    """
    where = "open_detector"
    if min_score is None:
        min_score = 0.45 if which == "nanodet" else 0.25
    min_score = check_number(min_score, "min_score", where, 0, 1)
    if longest is not None:
        longest = check_count(longest, "longest", where, least=32)
    if which == "nanodet":
        return NanoDetDetector(min_score, longest or 416)
    file = user_path(which)
    if file.suffix not in (".onnx", ".pt"):
        raise ReIDError(
            f"there is no detector {os.fspath(which)!r}; choose nanodet, or give a "
            "file that ends in .onnx or .pt"
        )
    if not file.is_file():
        raise ReIDError(f"there is no file {file}; correct the path")
    if file.suffix == ".pt":
        return YoloDetector(file, min_score, longest)
    return OnnxDetector(file, min_score, longest)


class NanoDetDetector:
    """The embedded network, see `reidlib.deploy.nanodet`."""

    def __init__(self, min_score: float, longest: int) -> None:
        from reidlib.deploy.nanodet import load_nanodet

        self.name = f"nanodet {longest} {min_score:g}"
        self.min_score, self.longest = min_score, longest
        # A quarter less time on a CPU; the boxes move by less than a thousandth.
        self.network = load_nanodet().to(memory_format=torch.channels_last)

    def __call__(self, frame: np.ndarray) -> Detections:
        """Return the people in a frame."""
        from reidlib.deploy.nanodet import fitted

        pixels = _checked(frame)
        picture, scale = fitted(pixels, self.longest)
        picture = picture.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            scores, boxes = self.network(picture)
        return _chosen(boxes[0] / scale, scores[0], self.min_score, pixels)


class OnnxDetector:
    """A detector of the YOLO family as an ONNX file.

    It takes ``(1, 3, H, W)`` RGB images from 0 to 1, and returns either ``(1, 4 + C,
    A)``, centre and size of A boxes with C class scores, or ``(1, N, 6)``, the sides of
    N boxes, their score and class. ``ultralytics`` exports both.
    """

    def __init__(self, file: Path, min_score: float, longest: int | None) -> None:
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError as error:
            raise ReIDError(
                "a detector in an ONNX file needs onnxruntime: pip install onnxruntime"
            ) from error
        onnxruntime.disable_telemetry_events()
        try:
            self.session = onnxruntime.InferenceSession(
                str(file), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises classes of its own
            reason = str(error).partition("\n")[0]
            raise ReIDError(f"{file} is no ONNX model ({reason})") from error
        self.file, self.min_score = file, min_score
        self.name = f"{file.name} {file_sha256(file)[:12]} {longest} {min_score:g}"
        inputs = self.session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (3, "3"):
            raise ReIDError(
                f"{file} takes {[one.shape for one in inputs]}; a detector of people "
                "takes one image of (1, 3, H, W)"
            )
        self.input = inputs[0].name
        fixed = [side for side in shape[2:] if isinstance(side, int)]
        one = not isinstance(shape[0], int) or shape[0] == 1
        if inputs[0].type != "tensor(float)" or not one or len(fixed) == 1:
            raise ReIDError(
                f"{file} takes {inputs[0].type} of {shape}; export it for one image of "
                "float32, with both sides fixed or both free"
            )
        self.size = (fixed[0], fixed[1]) if len(fixed) == 2 else None
        if self.size and longest not in (None, max(self.size)):
            raise ReIDError(
                f"{file} takes images of {self.size[0]} x {self.size[1]} pixels only; "
                "leave longest out"
            )
        self.longest = longest or (max(self.size) if self.size else 640)
        known = self.session.get_modelmeta().custom_metadata_map.get("names", "")
        self.person = _person_class(_class_names(known), file)

    def __call__(self, frame: np.ndarray) -> Detections:
        """Return the people in a frame."""
        pixels = _checked(frame)
        picture, scale, corner = _letterboxed(pixels, self.longest, self.size)
        out = self.session.run(None, {self.input: (picture / 255).numpy()})[0]
        boxes, scores = self._read(torch.from_numpy(np.asarray(out)).float())
        boxes = (boxes - torch.tensor([*corner, *corner])) / scale
        return _chosen(boxes, scores, self.min_score, pixels)

    def _read(self, out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return boxes and scores of people from the network's output."""
        if out.ndim == 3 and out.shape[0] == 1 and out.shape[2] == 6:
            rows = out[0]
            people = rows[:, 5].round() == self.person
            return rows[people, :4], rows[people, 4]
        if out.ndim == 3 and out.shape[0] == 1 and 4 < out.shape[1] < out.shape[2]:
            rows = out[0].T
            if rows.shape[1] > 4 + self.person:
                centre, half = rows[:, :2], rows[:, 2:4] / 2
                boxes = torch.cat([centre - half, centre + half], dim=1)
                return boxes, rows[:, 4 + self.person]
        raise ReIDError(
            f"{self.file} returns an array of {tuple(out.shape)}; a detector returns "
            "(1, 4 + classes, boxes) or (1, boxes, 6)"
        )


class YoloDetector:
    """A file of weights of ``ultralytics``."""

    def __init__(self, file: Path, min_score: float, longest: int | None) -> None:
        try:
            from ultralytics import YOLO  # type: ignore[import-not-found]
        except ImportError as error:
            raise ReIDError(
                "a YOLO detector needs ultralytics, which is under the AGPL: pip "
                "install ultralytics"
            ) from error
        try:
            self.model = YOLO(str(file), task="detect")
            names = dict(self.model.names)
        except Exception as error:  # whatever its pickle and its checks raise
            reason = str(error).partition("\n")[0]
            raise ReIDError(f"{file} is no model of ultralytics ({reason})") from error
        self.name = f"{file.name} {file_sha256(file)[:12]} {longest} {min_score:g}"
        self.min_score, self.longest = min_score, longest
        self.person = _person_class(names, file)

    def __call__(self, frame: np.ndarray) -> Detections:
        """Return the people in a frame."""
        pixels = _checked(frame)
        more = {} if self.longest is None else {"imgsz": self.longest}
        # Its arrays are BGR, as OpenCV's are.
        (found,) = self.model.predict(
            np.ascontiguousarray(frame[..., ::-1]),
            conf=max(self.min_score, 1e-3),
            classes=[self.person],
            verbose=False,
            **more,
        )
        boxes, scores = found.boxes.xyxy.cpu(), found.boxes.conf.cpu()
        return _chosen(boxes, scores, self.min_score, pixels)


def _letterboxed(
    frame: torch.Tensor, longest: int, size: tuple[int, int] | None
) -> tuple[torch.Tensor, float, tuple[int, int]]:
    """Scale a frame and put it into the middle of a grey one, as YOLOs are trained.

    Their training scales without anti-aliasing, and a network is sensitive to that.

    Args:
        frame: ``(3, H, W)`` uint8.
        longest: Pixels of the longer side, if the network takes any size.
        size: Height and width of the only size that it takes, else None.

    Returns:
        ``(1, 3, H', W')`` float frame from 0 to 255, the factor by which it was scaled,
        and where its left and upper sides are.
    """
    high, wide = frame.shape[1:]
    if size is None:
        scale = longest / max(high, wide)
    else:
        scale = min(size[0] / high, size[1] / wide)
    inner = max(1, round(high * scale)), max(1, round(wide * scale))
    outer = size or tuple(math.ceil(side / 32) * 32 for side in inner)
    picture = functional.interpolate(
        frame[None].float(), size=inner, mode="bilinear", align_corners=False
    )
    down, right = (big - small for big, small in zip(outer, inner, strict=True))
    top, left = down // 2, right // 2
    sides = (left, right - left, top, down - top)
    return functional.pad(picture, sides, value=114.0), scale, (left, top)


def _checked(frame: np.ndarray) -> torch.Tensor:
    """Return a frame as ``(3, H, W)``."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ReIDError(
            f"a frame has shape {frame.shape} and type {frame.dtype}; give (H, W, 3) "
            "RGB arrays of uint8"
        )
    if not frame.size:
        raise ReIDError("a frame has no pixels; leave it out")
    # A copy: what Pillow gives cannot be written, and torch warns of that.
    return torch.from_numpy(frame.copy()).permute(2, 0, 1)


def _chosen(
    boxes: torch.Tensor, scores: torch.Tensor, min_score: float, frame: torch.Tensor
) -> Detections:
    """Return what is sure enough, each person once and inside the frame."""
    high, wide = frame.shape[1:]
    limits = torch.tensor([wide, high, wide, high], dtype=boxes.dtype)
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = (scores >= min_score) & (sides >= _LEAST).all(dim=1)
    boxes, scores = boxes[kept], scores[kept]
    order = nms(boxes, scores, _OVERLAP)[:_MOST]
    return Detections(boxes[order].numpy(), scores[order].numpy())


def _class_names(text: str) -> dict[int, str]:
    """Read the names of classes as ``ultralytics`` writes them into a file."""
    try:
        names = ast.literal_eval(text) if text else {}
        return {int(number): str(name) for number, name in dict(names).items()}
    except (ValueError, SyntaxError, TypeError):
        return {}


def _person_class(names: dict[int, str], file: Path) -> int:
    """Return the number of the class of people: the only one, or that of its name."""
    if len(names) <= 1:
        return 0
    for number, name in names.items():
        if name.lower() in ("person", "people", "pedestrian"):
            return number
    told = ", ".join(list(names.values())[:5])
    raise ReIDError(f"{file} has no class person; its classes are {told}, ...")
