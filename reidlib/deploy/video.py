"""Crops of people from a video: the shortest way from a camera to a data set."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reidlib.checks import check_count, check_number
from reidlib.errors import ReIDError
from reidlib.paths import check_utf8, user_path

# OpenCV's detector was trained on windows of 64 x 128 pixels with a margin of 16
# around the person (Dalal and Triggs, CVPR 2005); this share of each side remains.
_PERSON_SHARE = np.array([0.75, 0.85])
_WINDOW = (64, 128)  # width and height
# A header may claim any number of frames.
_MOST_MISSES = 10_000
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
        min_score: Lowest score of a detection, from 0, in the detector's own units.
        camid: Camera id of the video, from 0.

    Returns:
        The index file, with the columns ``path, camid, frame, x, y, width, height,
        score``; `open_dataset` reads it as kind ``"csv"``.

    Raises:
        ReIDError: If OpenCV or the video is missing, if the video cannot be decoded,
            is smaller than a person or shows none, if the folder already holds an
            index, or if a setting is out of range.

    Warns:
        UserWarning: If frames cannot be read; the search goes on behind them.

    Example:
        >>> crop_people("gone.avi", "crops")
        Traceback (most recent call last):
            ...
        reidlib.errors.ReIDError: there is no video gone.avi; correct the path
    """
    video, folder = user_path(video), user_path(folder)
    index = folder / "index.csv"
    where = "crop_people"
    every = check_count(every, "every", where)
    camid = check_count(camid, "camid", where, least=0)
    min_score = check_number(min_score, "min_score", where, 0, np.inf)
    check_utf8(video)
    check_utf8(folder)
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
    searched = 0
    try:
        for frame_number, frame in _frames(capture, every, str(video)):
            searched += 1
            size = frame.shape[1::-1]
            if size[0] < _WINDOW[0] or size[1] < _WINDOW[1]:
                # OpenCV writes past its memory there.
                raise ReIDError(
                    f"{video} has frames of {size[0]} x {size[1]} pixels; the detector "
                    f"needs {_WINDOW[0]} x {_WINDOW[1]} at least: enlarge the video"
                )
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
    if not searched:
        raise ReIDError(f"{video} is not a video that OpenCV can decode; convert it")
    if not rows:
        raise ReIDError(
            f"no person was found in {searched} frames of {video}; lower min_score or "
            "every, or use a video of people who are 100 pixels tall or more"
        )
    with index.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    return index


def _frames(capture: Any, every: int, video: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield number and pixels of one frame in ``every``, without damaged ones.

    The end of a video and a damaged frame look alike, so reading goes on for as many
    frames as the header says.
    """
    import cv2

    told = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    number, due, good, misses = -1, 0, 0, 0
    while misses < _MOST_MISSES:
        number += 1
        whole, frame = capture.grab(), None
        if whole and number >= due:
            whole, frame = capture.retrieve()
        if not whole and number >= told:
            break
        misses = 0 if whole else misses + 1
        good += whole
        if whole and frame is not None:
            # The next frame takes the place of a damaged one.
            due = (number // every + 1) * every
            yield number, frame
    if 0 < good < max(told, number):
        warnings.warn(
            f"{good} of the {max(told, number)} frames that the header of {video} "
            "promises can be read; people in the others are missing",
            stacklevel=3,
        )


def _person(box: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Cut the detector's margin off a box ``(x, y, width, height)``."""
    corner, size = box[:2], box[2:]
    margin = size * (1 - _PERSON_SHARE) / 2
    limits = np.array([shape[1], shape[0]])
    low = np.clip((corner + margin).round(), 0, limits - 1).astype(int)
    high = np.clip((corner + size - margin).round(), low + 1, limits).astype(int)
    width, height = high - low
    return int(low[0]), int(low[1]), int(width), int(height)
