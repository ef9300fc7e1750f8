"""An index of images that lie in folders, as `open_dataset` reads it."""

from __future__ import annotations

import csv
import os
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from reidlib.checks import check_choice, whole_number
from reidlib.data.readers import image_files, is_litter, open_dataset
from reidlib.errors import ReIDError
from reidlib.files import partial
from reidlib.paths import check_utf8, user_path

_LAYOUTS = ("flat", "folder-per-person")
# Seconds that a pattern may take for one file name.
_PATIENCE = 5.0


def write_index(
    folder: str | os.PathLike[str],
    layout: Literal["flat", "folder-per-person"],
    *,
    camera: str | None = None,
) -> Path:
    """Write the index of the images of a folder.

    Args:
        folder: The images themselves, or a folder for each person.
        layout: ``"flat"``: nothing is known of identities. ``"folder-per-person"``:
            images in one sub-folder are of one person. The number of a person is the
            name of the folder if all names are whole numbers from 1; else people are
            numbered from 1 in the order of the names.
        camera: Regular expression that finds the camera in a file name; its group is
            the camera: ``"c([0-9]+)"`` finds 3 in ``0002_c3_17.jpg``. Cameras that are
            whole numbers keep them, others are numbered in the order of their names.
            None: cameras are unknown.

    Returns:
        ``index.csv`` in the folder, with the columns ``path``, ``pid``, ``camid`` and,
        for folders of people, ``person``, the name; `open_dataset` reads it as kind
        ``"csv"``.

    Raises:
        ReIDError: If there is no such folder or no image, if there is an index, or if
            the expression finds no camera in a name.

    Warns:
        UserWarning: If other files or sub-folders are left out, or if some names are
            numbers and others are not.
    """
    check_choice(layout, "layout", "write_index", _LAYOUTS)
    folder = user_path(folder)
    check_utf8(folder)
    index = folder / "index.csv"
    if index.exists() or index.is_symlink():
        raise ReIDError(f"{index} already exists; move it away to write another")
    if layout == "flat":
        files = [(file, "") for file in image_files(folder)]
    else:
        files = list(_of_people(folder))
    people = _numbers([person for _, person in files], 1, "people")
    names = _cameras([file.name for file, _ in files], camera)
    cameras = _numbers(names, 0, "cameras")
    width = 3 if layout == "flat" else 4
    rows: list[list[object]] = [["path", "pid", "camid", "person"]]
    for (file, person), pid, camid in zip(files, people, cameras, strict=True):
        rows.append([file.relative_to(folder).as_posix(), pid, camid, person])
    try:
        with partial(index) as path:
            with path.open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows(row[:width] for row in rows)
            try:
                open_dataset("csv", path)
            except ReIDError as error:
                told = str(error).replace(path.name, index.name)
                raise ReIDError(f"no index was written: {told}") from error
            path.replace(index)
    except OSError as error:
        raise ReIDError(f"{index} cannot be written ({error.strerror})") from error
    return index


def _of_people(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each image in a sub-folder, with the name of the sub-folder."""
    if not folder.is_dir():
        raise ReIDError(
            f"{folder} is no folder; give one with a folder for each person"
        )
    people: list[str] = []
    loose: list[str] = []
    for entry in sorted(folder.iterdir()):
        if is_litter(entry.name):
            continue
        (people if entry.is_dir() else loose).append(entry.name)
    if loose and people:
        warnings.warn(
            f"{folder}: {len(loose)} files beside the folders of people (the first is "
            f"{loose[0]}) left out",
            stacklevel=4,
        )
    if not people:
        raise ReIDError(
            f"{folder} has no sub-folder; give one for each person, or the layout flat"
        )
    for person in people:
        check_utf8(folder / person)
        for file in image_files(folder / person):
            yield file, person


def _cameras(names: list[str], pattern: str | None) -> list[str]:
    """Return the camera in each file name, empty where there is no pattern."""
    if pattern is None:
        return [""] * len(names)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ReIDError(
            f"camera {pattern!r} is no regular expression ({error})"
        ) from None
    if expression.groups != 1:
        raise ReIDError(
            f"camera {pattern!r} has {expression.groups} groups; put the camera, and "
            "nothing else, into parentheses: 'c([0-9]+)'"
        )
    found = _search(expression, names)
    missed = [
        name for name, one in zip(names, found, strict=True) if not (one and one[1])
    ]
    if missed:
        raise ReIDError(
            f"camera {pattern!r} finds no camera in {len(missed)} of {len(names)} file "
            f"names, the first is {missed[0]}"
        )
    return [one[1] for one in found if one]


def _search(expression: re.Pattern[str], names: list[str]) -> list[Any]:
    """Return the match of each name; of a nested repeat it may take years."""
    clock = getattr(signal, "setitimer", None)  # not on Windows
    if clock is None or threading.current_thread() is not threading.main_thread():
        return [expression.search(name) for name in names]

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    found: list[Any] = []
    try:
        for name in names:
            clock(signal.ITIMER_REAL, _PATIENCE)
            found.append(expression.search(name))
    except TimeoutError:
        raise ReIDError(
            f"camera {expression.pattern!r} takes more than {_PATIENCE:.0f} seconds "
            f"for {names[len(found)]}; write it without a repeat inside a repeat"
        ) from None
    finally:
        clock(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return found


def _numbers(names: list[str], least: int, what: str) -> list[int | str]:
    """Return whole numbers for names: their own, or by the order of the names."""
    if not any(names):
        return [""] * len(names)
    own = {name: whole_number(name) for name in set(names)}
    numbers = [number for number in own.values() if number is not None]
    # c1 and c01 are one camera; two folders are two people, whatever they are called.
    clear = what == "cameras" or len(numbers) == len(set(numbers))
    if len(numbers) == len(own) and clear and min(numbers) >= least:
        return [int(name) for name in names]
    if numbers:
        names_told = ", ".join(sorted(own)[:3])
        warnings.warn(
            f"the names of {what} ({names_told}, ...) are not all whole numbers from "
            f"{least} up, each written once, so that they are numbered in the order of "
            "their names; take out what is none, such as junk and distractors",
            stacklevel=3,
        )
    rank = {name: number for number, name in enumerate(sorted(own), start=least)}
    return [rank[name] for name in names]
