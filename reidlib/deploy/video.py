"""Crops of people from a video: the shortest way from a camera to a data set."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from reidlib.errors import ReIDError

# OpenCV's detector was trained on windows of 64 x 128 pixels with a margin of 16
# around the person (Dalal and Triggs, CVPR 2005); this share of each side remains.
_PERSON_SHARE = np.array([0.75, 0.85])
_COLUMNS = ("path", "camid", "frame", "x", "y", "width", "height", "score")


def crop_people(
    video: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    every: int = 10,
    min_score: float = 0.5,
    camid: int = 0,
) -> Path:
    """Cut the people out of a video, into a folder of crops with an index.

    OpenCV's built-in pedestrian detector (histograms of oriented gradients) finds
    people who stand upright and are about 100 pixels tall. It needs no weights and no
    GPU; a modern detector finds more.

    Args:
        video: Video file.
        folder: Where the crops and ``index.csv`` are written; created if needed.
        every: Search one frame in every ``every``.
        min_score: Lowest score of a detection, in the detector's own units.
        camid: Camera id of the video, from 0.

    Returns:
        The index file, with the columns ``path, camid, frame, x, y, width, height,
        score``; `open_dataset` reads it as kind ``"csv"``.

    Raises:
        ReIDError: If OpenCV or the video is missing, if the video cannot be decoded or
            shows no person, or if the folder already holds an index.

    Example:
        >>> crop_people("gone.avi", "crops")
        Traceback (most recent call last):
            ...
        reidlib.errors.ReIDError: there is no video gone.avi; correct the path
    """
    video, folder = Path(video), Path(folder)
    index = folder / "index.csv"
    if every < 1:
        raise ReIDError(f"every={every}: expected a number of frames from 1")
    if not video.is_file():
        raise ReIDError(f"there is no video {video}; correct the path")
    if index.exists():
        raise ReIDError(f"{index} already exists; give another folder")
    try:
        import cv2
    except ImportError as error:
        raise ReIDError(
            "cutting people out of a video needs OpenCV: pip install "
            "opencv-python-headless"
        ) from error

    detector = cv2.HOGDescriptor()
    weights = cv2.HOGDescriptor_getDefaultPeopleDetector()  # type: ignore[attr-defined]
    detector.setSVMDetector(weights)
    capture = cv2.VideoCapture(str(video))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReIDError(
            f"the folder {folder} cannot be made ({error}); give another one"
        ) from error
    rows: list[list[object]] = []
    frame_number = -1
    try:
        while capture.grab():
            frame_number += 1
            if frame_number % every:
                continue
            decoded, frame = capture.retrieve()
            if not decoded:
                continue
            found, scores = detector.detectMultiScale(
                frame, winStride=(8, 8), scale=1.05
            )
            confidence = np.ravel(scores).tolist()
            kept = cv2.dnn.NMSBoxes(found, confidence, min_score, 0.3)
            for number, place in enumerate(sorted(np.ravel(kept).astype(int))):
                x, y, width, height = _person(np.array(found[place]), frame.shape)
                name = f"{frame_number:06d}_{number:02d}.jpg"
                crop = frame[y : y + height, x : x + width]
                if not cv2.imwrite(str(folder / name), crop):
                    raise ReIDError(
                        f"{folder / name} cannot be written; free some space or give "
                        "another folder"
                    )
                score = f"{confidence[place]:.3f}"
                rows.append([name, camid, frame_number, x, y, width, height, score])
    finally:
        capture.release()
    if frame_number < 0:
        raise ReIDError(f"{video} is not a video that OpenCV can decode; convert it")
    if not rows:
        raise ReIDError(
            f"no person was found in {frame_number + 1} frames of {video}; lower "
            "min_score, or use a video of people who are 100 pixels tall or more"
        )
    with index.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    return index


def _person(box: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Cut the detector's margin off a box ``(x, y, width, height)``."""
    corner, size = box[:2], box[2:]
    margin = size * (1 - _PERSON_SHARE) / 2
    limits = np.array([shape[1], shape[0]])
    low = np.clip((corner + margin).round(), 0, limits - 1).astype(int)
    high = np.clip((corner + size - margin).round(), low + 1, limits).astype(int)
    width, height = high - low
    return int(low[0]), int(low[1]), int(width), int(height)
