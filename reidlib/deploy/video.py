"""Crops of people from videos and pictures: the way from a camera to a data set."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from reidlib.checks import check_count, check_number
from reidlib.data.images import read_image
from reidlib.data.readers import IMAGE_SUFFIXES, image_files
from reidlib.deploy.detection import Detections, Detector, open_detector
from reidlib.errors import DamagedError, ReIDError
from reidlib.files import write_atomically
from reidlib.paths import check_utf8, lock_folder, user_path
from reidlib.terminal import progress

# A header may claim any number of frames.
_MOST_MISSES = 10_000
_MARGIN = 0.04  # of a box's height, on each side: heads and feet stay inside
_COLUMNS = (
    *("path", "camid", "source", "frame", "time", "x", "y", "width", "height"),
    *("border", "score"),
)
_BORDER = 0.005  # of the frame's longer side: who is nearer to its border is cut
_UNFINISHED = "unfinished.jsonl"
_ORIENTATION = 0x0112  # tag of how a phone was held

PathLike: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class _Frame:
    """A frame: number from 0, seconds if they are known, and ``(H, W, 3)`` RGB."""

    number: int
    time: float | None
    pixels: np.ndarray


def crop_people(
    sources: PathLike | Sequence[PathLike],
    folder: PathLike,
    *,
    every: int = 10,
    min_score: float | None = None,
    camid: int | Sequence[int] = 0,
    detector: PathLike | Detector = "nanodet",
    longest: int | None = None,
) -> Path:
    """Cut the people out of videos and pictures, into a folder of crops with an index.

    A search that was stopped goes on where it was when it is started again with the
    same sources and settings: what was found until then is in the folder.

    Args:
        sources: Video files, picture files or folders of pictures; one or several.
        folder: Where the crops and ``index.csv`` are written; created if needed.
        every: Search one frame of a video in every ``every``. Pictures are all
            searched.
        min_score: Lowest score of a detection, from 0 to 1; by default that of the
            detector.
        camid: Camera id of each source, from 0. One number is that of the first source,
            and the others follow.
        detector: As for `reidlib.deploy.open_detector`, or a detector, which has its
            own lowest score and size.
        longest: As for `reidlib.deploy.open_detector`.

    Returns:
        The index file, with the columns ``path``, ``camid`` (from 1, as in file names;
        `open_dataset` counts from 0), ``source`` (a name), ``frame`` (a number),
        ``time`` (seconds from the start, empty where they are unknown), ``x``, ``y``,
        ``width``, ``height`` (pixels of the frame), ``border`` (1 where the border of
        the frame cuts the person, else 0) and ``score``; `open_dataset` reads it as
        kind ``"csv"``.

    Raises:
        ReIDError: If OpenCV or a source is missing, if a source cannot be decoded or is
            given twice, if none shows a person, if the folder is one of the sources,
            holds an index or an unfinished search with other settings, or if a setting
            is out of range.

    Warns:
        UserWarning: If frames or pictures cannot be read; the search goes on behind
            them.

    Example:
        >>> crop_people("gone.avi", "crops")
        Traceback (most recent call last):
            ...
        reidlib.errors.ReIDError: there is no video gone.avi; correct the path
    """
    where = "crop_people"
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    files = [user_path(one) for one in sources]
    folder = user_path(folder)
    index = folder / "index.csv"
    every = check_count(every, "every", where)
    if min_score is not None:
        min_score = check_number(min_score, "min_score", where, 0, 1)
    camids = _camera_ids(camid, len(files), where)
    for path in (*files, folder):
        check_utf8(path)
    for path in files:
        if not path.exists():
            raise ReIDError(f"there is no video {path}; correct the path")
        if not (path.is_file() or path.is_dir()):  # a pipe would be waited for
            raise ReIDError(f"{path} is a pipe or a device; give a file or a folder")
    places = [path.resolve() for path in files]
    if len(set(places)) < len(places):
        raise ReIDError(
            f"{where}: a source is given twice, and its people would be seen by two "
            "cameras; give it once"
        )
    if folder.resolve() in places:
        raise ReIDError(f"{folder} holds the pictures; give another for the crops")
    if index.exists():
        raise ReIDError(f"{index} already exists; give another folder")
    if isinstance(detector, str | os.PathLike):
        detector = open_detector(detector, min_score=min_score, longest=longest)
    elif not (min_score is None and longest is None):
        raise ReIDError(
            f"{where}: the detector has its own min_score and longest; leave them out"
        )
    for path in files:
        _check_source(path)
    settings = {
        "sources": [[os.fspath(path.absolute()), _stamp(path)] for path in files],
        "camids": camids,
        "every": every,
        "detector": detector.name,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReIDError(
            f"the folder {folder} cannot be made ({error}); give another one"
        ) from error
    lock = lock_folder(folder)
    try:
        rows = _searched(files, folder, detector, settings)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(index, text.getvalue().encode())
        (folder / _UNFINISHED).unlink()
    finally:
        lock.release()
    return index


def _searched(
    files: list[Path], folder: Path, detector: Detector, settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """Search all sources, write the crops, and return the rows of the index."""
    journal = folder / _UNFINISHED
    rows, done = _recalled(journal, settings)
    with journal.open("a", encoding="utf-8") as lines:
        if not journal.stat().st_size:
            _write_line(lines, settings)
        for source, path in enumerate(files):
            with closing(_frames_of(path, settings["every"])) as frames:
                for frame in frames:
                    if (source, frame.number) in done:
                        continue
                    place = f"{source:02d}_{frame.number:06d}"
                    found = _cut(frame, detector(frame.pixels), folder, place)
                    for row in found:
                        # From 1: the reader cannot tell ids from 0 that begin
                        # with another one.
                        row["camid"] = settings["camids"][source] + 1
                        row["source"] = path.name
                    line = {"source": source, "frame": frame.number, "rows": found}
                    _write_line(lines, line)
                    done.add((source, frame.number))
                    rows += found
    if not rows:
        journal.unlink()
        told = ", ".join(str(path) for path in files[:3])
        raise ReIDError(
            f"no person was found in {len(done)} frames of {told}; lower min_score or "
            "every, or give a larger longest to find smaller people"
        )
    return sorted(rows, key=lambda row: row["path"])


def _camera_ids(camid: object, count: int, where: str) -> list[int]:
    """Return the camera id of each source."""
    if isinstance(camid, Sequence) and not isinstance(camid, str):
        if len(camid) != count:
            raise ReIDError(
                f"{where}: there are {len(camid)} camera ids for {count} sources; give "
                "one for each, or that of the first"
            )
        return [check_count(one, "camid", where, least=0) for one in camid]
    first = check_count(camid, "camid", where, least=0)
    return [first + number for number in range(count)]


def _stamp(path: Path) -> str:
    """Return what changes when a source is written again."""
    parts = image_files(path) if path.is_dir() else [path]
    about = [(part.name, part.stat()) for part in parts]
    told = [[name, one.st_size, one.st_mtime_ns] for name, one in about]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _write_line(lines: TextIO, content: dict[str, Any]) -> None:
    try:
        lines.write(json.dumps(content) + "\n")
        lines.flush()
    except OSError as error:
        raise _full(lines.name, error) from error


def _full(file: PathLike, error: OSError) -> ReIDError:
    return ReIDError(
        f"{os.fspath(file)} cannot be written ({error.strerror or error}); free some "
        "space and start again: the search goes on where it was"
    )


def _recalled(
    journal: Path, settings: dict[str, Any]
) -> tuple[list[dict[str, Any]], set[tuple[int, int]]]:
    """Return what a search that was stopped had found, and the frames it had done."""
    rows: list[dict[str, Any]] = []
    done: set[tuple[int, int]] = set()
    if not journal.exists():
        return rows, done
    try:
        text = journal.read_text(encoding="utf-8")
        # The last line of a killed process may be cut; its frame is searched again.
        whole, newline, _ = text.rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines()]
        os.truncate(journal, len((whole + newline).encode()))
        if lines and not (
            isinstance(lines[0], dict) and set(lines[0]) == set(settings)
        ):
            raise ValueError("its first line holds no settings")
        for line in lines[1:]:
            done.add((int(line["source"]), int(line["frame"])))
            if any(set(row) != set(_COLUMNS) for row in line["rows"]):
                raise ValueError("a row has other columns")
            rows += line["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{journal} is damaged ({error}); remove the folder and start again",
            journal,
        ) from error
    for name, value in settings.items():
        if lines and lines[0][name] != value:
            raise ReIDError(
                f"{journal.parent} holds an unfinished search with other settings "
                f"({name}: {lines[0][name]!s:.60}); repeat it with these, or give "
                "another folder"
            )
    return rows, done


def _cut(
    frame: _Frame, found: Detections, folder: Path, place: str
) -> list[dict[str, Any]]:
    """Write the crops of a frame; return their rows of the index."""
    high, wide = frame.pixels.shape[:2]
    rows: list[dict[str, Any]] = []
    for number, (box, score) in enumerate(zip(found.boxes, found.scores, strict=True)):
        near = _BORDER * max(high, wide)
        gaps = (box[0], box[1], wide - box[2], high - box[3])
        margin = _MARGIN * (box[3] - box[1])
        left, top = np.floor(box[:2] - margin).clip(0).astype(int).tolist()
        right = min(int(np.ceil(box[2] + margin)), wide)
        bottom = min(int(np.ceil(box[3] + margin)), high)
        name = f"{place}_{number:02d}.jpg"
        try:
            crop = Image.fromarray(frame.pixels[top:bottom, left:right])
            crop.save(folder / name, quality=95)
        except OSError as error:
            raise _full(folder / name, error) from error
        rows.append(
            {
                "path": name,
                "frame": frame.number,
                "time": "" if frame.time is None else round(frame.time, 3),
                "x": left,
                "y": top,
                "width": right - left,
                "height": bottom - top,
                "border": int(min(gaps) < near),
                "score": round(float(score), 3),
            }
        )
    return rows


def _is_pictures(path: Path) -> bool:
    return path.is_dir() or path.name.lower().endswith(IMAGE_SUFFIXES)


def _check_source(path: Path) -> None:
    """Raise `ReIDError` if nothing can be read from a source."""
    if _is_pictures(path):
        return
    capture = _capture(path)
    readable = any(capture.grab() for _ in range(100))
    capture.release()
    if not readable:
        raise ReIDError(f"{path} is not a video that OpenCV can decode; convert it")


def _capture(path: Path) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ReIDError(
            "reading a video needs OpenCV: pip install 'reidlib[video]'"
        ) from error
    return cv2.VideoCapture(str(path))


def _frames_of(path: Path, every: int) -> Generator[_Frame, None, None]:
    """Yield the frames of a source that are to be searched."""
    if _is_pictures(path):
        yield from _pictures(image_files(path) if path.is_dir() else [path], path.name)
        return
    import cv2

    capture = _capture(path)
    try:
        told = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        rate = capture.get(cv2.CAP_PROP_FPS)
        known = bool(np.isfinite(rate)) and rate > 0
        total = -(-min(told, 10**9) // every)
        frames = progress(_frames(capture, every, str(path)), path.name, total)
        for number, pixels in frames:
            time = number / rate if known else None
            yield _Frame(number, time, np.ascontiguousarray(pixels[..., ::-1]))
    finally:
        capture.release()


def _pictures(files: list[Path], name: str) -> Iterator[_Frame]:
    damaged = []
    for number, file in enumerate(progress(files, name, len(files))):
        try:
            pixels = _upright(file)
        except ReIDError as error:
            damaged.append(str(error))
            continue
        yield _Frame(number, None, pixels)
    if len(damaged) == len(files):
        raise ReIDError(f"no picture of {name} can be read; the first: {damaged[0]}")
    if damaged:
        warnings.warn(
            f"{len(damaged)} of {len(files)} pictures of {name} cannot be read and are "
            f"left out; the first: {damaged[0]}",
            stacklevel=2,
        )


def _upright(file: Path) -> np.ndarray:
    """Read a picture, turned as its orientation tag says."""
    pixels = read_image(file)
    with Image.open(file) as picture:
        turned = picture.getexif().get(_ORIENTATION, 1)
    image = Image.fromarray(pixels)
    image.getexif()[_ORIENTATION] = turned
    return np.asarray(ImageOps.exif_transpose(image))


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
