"""Checks of a data set: a report of its problems, and a contact sheet."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reidlib.data.images import progress, read_image
from reidlib.data.readers import count_difference, open_dataset
from reidlib.data.table import (
    DISTRACTOR,
    JUNK,
    NO_CAMERA,
    UNKNOWN,
    ImageTable,
    ReIDDataset,
    stacked,
)
from reidlib.errors import ReIDError
from reidlib.paths import user_path

_SPLITS = ("train", "query", "gallery")
_NAMED = 5
_LEAST_PIXELS = 8
"""Height and width below which no person can be seen."""


@dataclass
class Report:
    """What `check_dataset` found; ``str`` formats it for printing.

    Attributes:
        name: Name of the data set.
        root: Its folder.
        counts: For each split, the numbers of images, people, cameras, distractors.
        num_junk: Junk images that the reader left out.
        problems: Faults that make results wrong or impossible, one line each.
        warnings: Findings that do not prevent training, one line each.
        unreadable: Image file to the reason why it cannot be read.
        unmatched_queries: Row numbers of queries without any valid match.
        no_sheet: Why `check_path` wrote no contact sheet; empty if it did.
    """

    name: str
    root: Path
    counts: dict[str, dict[str, int]]
    num_junk: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    unmatched_queries: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    no_sheet: str = ""

    def __str__(self) -> str:
        columns = ("images", "people", "cameras", "distractors")
        lines = [f"{self.name} in {self.root}", ""]
        lines += [" " * 8 + "".join(f"{column:>13}" for column in columns)]
        for split, counts in self.counts.items():
            cells = "".join(f"{counts[column]:>13,}" for column in columns)
            lines.append(f"{split:8}{cells}")
        if self.num_junk:
            lines.append(f"{self.num_junk:,} junk images were left out")
        for title, findings in (
            ("problem", self.problems),
            ("warning", self.warnings),
        ):
            plural = "" if len(findings) == 1 else "s"
            lines += ["", f"{len(findings) or 'no'} {title}{plural}"]
            lines += [f"  - {finding}" for finding in findings]
        return "\n".join(lines)


def check_dataset(
    dataset: ReIDDataset, *, read_images: bool = True, workers: int = 2
) -> Report:
    """Check counts, images, cameras, identities and the protocol of a data set.

    Args:
        dataset: Data set to check.
        read_images: Decode every image, to find broken files and copies; takes
            about a minute for Market-1501 on two cores.
        workers: Number of decoding threads.

    Returns:
        The report; no error is raised for a problem.

    Example:
        >>> from reidlib.data import open_dataset
        >>> check_dataset(open_dataset("synthcity", size="tiny")).problems
        []
    """
    tables = _tables(dataset)
    report = Report(
        dataset.name,
        dataset.root,
        {split: _counts(table) for split, table in tables.items()},
        dataset.num_junk,
    )
    difference = count_difference(dataset)
    if difference:
        report.warnings.append(difference)
    if read_images:
        _check_files(report, tables, workers)
    _check_training(report, dataset)
    _check_columns(report, tables)
    _check_identities(report, tables)
    _check_queries(report, dataset)
    return report


def check_path(
    path: str | os.PathLike[str],
    kind: str | None = None,
    sheet: str | os.PathLike[str] | None = None,
    *,
    read_images: bool = True,
    workers: int = 2,
) -> tuple[Report, Path | None]:
    """Check a folder and write a contact sheet of it (``reidlib data check``).

    Args:
        path: Folder or index file, as for `open_dataset`.
        kind: Kind of data set; None detects it from the contents.
        sheet: Image file for the contact sheet; by default
            ``contact_sheet_<folder>.jpg`` in the current folder, or the first of
            ``contact_sheet_<folder>_2.jpg``, ... that is free. A file is never
            overwritten.
        read_images: See `check_dataset`.
        workers: Number of decoding threads.

    Returns:
        The report, with what `open_dataset` warned of, and the path of the contact
        sheet. None if it could not be written: ``no_sheet`` of the report says why.

    Raises:
        ReIDError: If the folder cannot be read.

    Example:
        >>> import tempfile
        >>> from reidlib.data import open_dataset
        >>> root = open_dataset("synthcity", size="tiny").root
        >>> report, file = check_path(root, sheet=tempfile.mkdtemp() + "/sheet.jpg")
        >>> file.exists()
        True
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        dataset = open_dataset(kind or "auto", path)
    report = check_dataset(dataset, read_images=read_images, workers=workers)
    said = [str(warning.message) for warning in told]
    report.warnings[:0] = [line for line in said if line not in report.warnings]
    try:
        return report, _write_sheet(dataset, sheet, user_path(path).resolve().stem)
    except ReIDError as error:  # minutes of reading are in the report
        report.no_sheet = str(error)
        return report, None


def _write_sheet(
    dataset: ReIDDataset, sheet: str | os.PathLike[str] | None, name: str
) -> Path:
    """Write a contact sheet to a file that is not there yet."""
    file = user_path(sheet or f"contact_sheet_{name}.jpg")
    number = 1
    while sheet is None and file.exists():
        number += 1
        file = Path(f"contact_sheet_{name}_{number}.jpg")
    kind = Image.registered_extensions().get(file.suffix.lower())
    if kind not in Image.SAVE:
        raise ReIDError(f"contact sheet {file}: give a file that ends in .jpg or .png")
    content = io.BytesIO()
    try:
        overview(dataset).save(content, kind)
    except (OSError, ValueError, KeyError) as error:  # of kinds without colours
        raise ReIDError(
            f"contact sheet {file}: {error}; give a file that ends in .jpg or .png"
        ) from error
    try:
        with file.open("xb") as stream:
            stream.write(content.getvalue())
    except OSError as error:
        if not isinstance(error, FileExistsError):
            with contextlib.suppress(OSError):
                file.unlink()  # the part for which there was space
        raise ReIDError(
            f"the contact sheet cannot be written to {file} ({error.strerror}); give "
            "another file with --sheet"
        ) from error
    return file


def short_name(pid: int, camid: int) -> str:
    """Name a person under a camera as Market-1501's file names do.

    Args:
        pid: Person id.
        camid: Camera id from 0; the name counts from 1.

    Returns:
        For instance ``0007_c3``.

    Example:
        >>> short_name(7, 2), short_name(JUNK, 0), short_name(UNKNOWN, NO_CAMERA)
        ('0007_c3', 'junk_c1', '?_c?')
    """
    people = {JUNK: "junk", DISTRACTOR: "distractor", UNKNOWN: "?"}
    camera = "?" if camid == NO_CAMERA else str(camid + 1)
    return f"{people.get(int(pid), f'{pid:04d}')}_c{camera}"


def contact_sheet(
    table: ImageTable,
    rows: Sequence[int] | np.ndarray | None = None,
    columns: int = 8,
    *,
    tile: tuple[int, int] = (128, 64),
    captions: Sequence[str] | None = None,
    title: str = "",
) -> Image.Image:
    """Arrange images on one sheet, each with its person and camera below it.

    Args:
        table: Images to choose from.
        rows: Row numbers to show, -1 for an empty place; by default up to 48 images
            spread evenly over the table.
        columns: Images in a line.
        tile: Height and width of an image in pixels.
        captions: One text per row number instead of person and camera.
        title: Text above the images.

    Returns:
        The sheet, RGB. A file that cannot be read is shown as a crossed-out tile.

    Raises:
        ReIDError: If there is no image to show, a row number is out of range, or the
            captions do not fit the rows.

    Example:
        >>> from reidlib.data import open_dataset
        >>> query = open_dataset("synthcity", size="tiny").query
        >>> contact_sheet(query, [0, 1, 2], columns=2).size
        (140, 300)
    """
    if rows is None:
        shown = min(len(table), 6 * columns)
        rows = np.linspace(0, len(table) - 1, shown).round()
    chosen = np.asarray(rows, dtype=np.int64)
    if len(chosen) == 0 or columns < 1 or min(tile) < 1:
        raise ReIDError(
            f"contact sheet of {len(chosen)} images in {columns} columns of {tile} "
            "pixels: expected at least 1 of each"
        )
    if chosen.min() < -1 or chosen.max() >= len(table):
        raise ReIDError(
            f"contact sheet: row {chosen.min() if chosen.min() < -1 else chosen.max()} "
            f"of a table of {len(table)} images; rows count from 0, -1 leaves a gap"
        )
    if captions is not None and len(captions) != len(chosen):
        raise ReIDError(
            f"contact sheet: {len(captions)} captions for {len(chosen)} rows; give "
            "one per row"
        )
    height, width = tile
    gap, line = 4, 16
    top = gap + (line if title else 0)
    lines = -(-len(chosen) // columns)
    size = (
        columns * (width + gap) + gap,
        top + lines * (height + line + gap),
    )
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    if title:
        draw.text((gap, gap - 2), title, fill="black", font=font)
    for place, row in enumerate(chosen):
        if row < 0:
            continue
        x = gap + place % columns * (width + gap)
        y = top + place // columns * (height + line + gap)
        try:
            pixels = read_image(table.file(int(row)), tile)
            sheet.paste(Image.fromarray(pixels), (x, y))
        except ReIDError:
            box = (x, y, x + width - 1, y + height - 1)
            draw.rectangle(box, fill="lightgrey")
            draw.line(box, fill="black")
            draw.line((x, box[3], box[2], y), fill="black")
        text = (
            short_name(int(table.pids[row]), int(table.camids[row]))
            if captions is None
            else captions[place]
        )
        middle = (x + width / 2, y + height + 2)
        draw.text(middle, text, fill="black", font=font, anchor="ma")
    return sheet


def overview(dataset: ReIDDataset, columns: int = 8, lines: int = 6) -> Image.Image:
    """Show people of a data set, one per line, so that wrong labels are easy to see.

    Args:
        dataset: Data set to show.
        columns: Images in a line.
        lines: Lines for the training people, and as many for the queries. A query's
            line shows the query, then gallery images of the same person.

    Returns:
        The sheet, RGB.

    Raises:
        ReIDError: If the data set has no image to show.

    Example:
        >>> from reidlib.data import open_dataset
        >>> overview(open_dataset("synthcity", size="tiny")).mode
        'RGB'
    """
    parts = []
    train = dataset.train
    if len(train):
        title = "training, a person a line"
        chosen = _people_rows(train, columns, lines)
        parts.append(contact_sheet(train, chosen, columns, title=title))
    people = np.unique(dataset.query.pids)
    if len(people) and len(dataset.gallery):
        chosen = people[np.linspace(0, len(people) - 1, lines).round().astype(int)]
        both = stacked(dataset.query, dataset.gallery)
        rows: list[int] = []
        for pid in dict.fromkeys(chosen.tolist()):
            query = np.flatnonzero(dataset.query.pids == pid)[:1]
            matches = np.flatnonzero(dataset.gallery.pids == pid)
            matches = _across_cameras(dataset.gallery, matches)[: columns - 1]
            line = [*query.tolist(), *(matches + len(dataset.query)).tolist()]
            rows += line + [-1] * (columns - len(line))
        title = "queries, each followed by its person in the gallery"
        parts.append(contact_sheet(both, rows, columns, title=title))
    for title in ("query", "gallery") if not parts else ():
        table: ImageTable = getattr(dataset, title)
        if len(table):
            chosen = _people_rows(table, columns, lines)
            parts.append(contact_sheet(table, chosen, columns, title=title))
    if not parts:
        raise ReIDError(f"{dataset.root}: there is no image to show")
    sheet = Image.new(
        "RGB", (parts[0].width, sum(part.height for part in parts)), "white"
    )
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    return sheet


def _people_rows(table: ImageTable, columns: int, lines: int) -> np.ndarray:
    people = np.unique(table.pids[table.pids > DISTRACTOR])
    if len(people) == 0:
        shown = min(len(table), columns * lines)
        return np.linspace(0, len(table) - 1, shown).round().astype(np.int64)
    chosen = people[np.linspace(0, len(people) - 1, lines).round().astype(int)]
    rows: list[int] = []
    for pid in dict.fromkeys(chosen.tolist()):
        found = _across_cameras(table, np.flatnonzero(table.pids == pid))[:columns]
        rows += found.tolist() + [-1] * (columns - len(found))
    return np.array(rows)


def _across_cameras(table: ImageTable, rows: np.ndarray) -> np.ndarray:
    """Order rows so that each camera's first image comes before any second one."""
    seen: dict[int, int] = defaultdict(int)
    turn = []
    for camid in table.camids[rows].tolist():
        turn.append(seen[camid])
        seen[camid] += 1
    return rows[np.lexsort((table.camids[rows], turn))]


def _tables(dataset: ReIDDataset) -> dict[str, ImageTable]:
    return {split: getattr(dataset, split) for split in _SPLITS}


def _counts(table: ImageTable) -> dict[str, int]:
    return {
        "images": len(table),
        "people": table.num_pids,
        "cameras": table.num_cams,
        "distractors": int((table.pids == DISTRACTOR).sum()),
    }


def _some(names: Sequence[object]) -> str:
    """Name the first few and count the rest."""
    shown = ", ".join(str(name) for name in names[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _check_files(report: Report, tables: dict[str, ImageTable], workers: int) -> None:
    places = [
        (split, row) for split, table in tables.items() for row in range(len(table))
    ]

    def look(place: tuple[str, int]) -> tuple[bytes, str, bool]:
        split, row = place
        file = tables[split].file(row)
        try:
            small = min(read_image(file).shape[:2]) < _LEAST_PIXELS
        except ReIDError as error:
            return b"", str(error), False
        digest = hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
        return digest, "", small

    with ThreadPoolExecutor(workers) as pool:
        results = list(progress(pool.map(look, places), len(places)))
    copies: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    tiny: dict[str, list[str]] = defaultdict(list)
    for place, (digest, reason, small) in zip(places, results, strict=True):
        if small:
            tiny[place[0]].append(tables[place[0]].paths[place[1]])
        if reason:
            split, row = place
            report.unreadable[str(tables[split].file(row))] = reason
        else:
            copies[digest].append(place)
    if report.unreadable:
        named = _some([reason.split(";")[0] for reason in report.unreadable.values()])
        report.problems.append(
            f"{len(report.unreadable)} of {len(places)} images cannot be read: {named}"
            "; restore them, or open the data set with unreadable='skip'"
        )
    for split, names in tiny.items():
        found = report.problems if len(names) == len(tables[split]) else report.warnings
        found.append(
            f"{len(names)} of {len(tables[split])} images of {split} are less than "
            f"{_LEAST_PIXELS} pixels high or wide, too small to show a person: "
            f"{_some(names)}; remove them, or make larger ones"
        )
    _check_copies(report, tables, [group for group in copies.values() if group[1:]])


def _check_copies(
    report: Report,
    tables: dict[str, ImageTable],
    groups: list[list[tuple[str, int]]],
) -> None:
    kinds: dict[str, list[str]] = {
        "contradiction": [],
        "leak": [],
        "copy": [],
    }
    for group in groups:
        pids = {int(tables[split].pids[row]) for split, row in group}
        cameras = {int(tables[split].camids[row]) for split, row in group}
        splits = [split for split, _row in group]
        named = " = ".join(tables[split].paths[row] for split, row in group[:2])
        if len(pids) > 1:
            kinds["contradiction"].append(named)
        elif "train" in splits and set(splits) != {"train"}:
            kinds["leak"].append(named)
        elif len(set(splits)) < len(splits) or len(cameras) > 1 or NO_CAMERA in cameras:
            # A copy of a query in the gallery under the same camera is not reported:
            # VeRi-776 has such copies by design, and the protocol ignores them.
            kinds["copy"].append(named)
    if kinds["contradiction"]:
        report.problems.append(
            f"{len(kinds['contradiction'])} images occur again under another identity: "
            f"{_some(kinds['contradiction'])}; one of the labels is wrong: remove the "
            "image that has it"
        )
    if kinds["leak"]:
        report.problems.append(
            f"{len(kinds['leak'])} training images occur again in the test set: "
            f"{_some(kinds['leak'])}; remove them from one of the two"
        )
    if kinds["copy"]:
        report.warnings.append(
            f"{len(kinds['copy'])} images occur more than once: "
            f"{_some(kinds['copy'])}; remove the copies"
        )


def training_problem(dataset: ReIDDataset, least_people: int = 2) -> str:
    """Say why nothing can be learned from a data set; empty if something can.

    Args:
        dataset: Data set to train on.
        least_people: How many people it must have, where they are known.
    """
    train = dataset.train
    if len(train) < 2:
        return (
            f"{dataset.root} has {len(train)} training images; two are the least from "
            "which anything can be learned"
        )
    if train.has_identities and train.num_pids < least_people:
        return (
            f"{dataset.root} has training images of {train.num_pids} people; two are "
            "the least that can be told apart: add people, or leave pid empty where it "
            "is unknown"
        )
    return ""


def _check_training(report: Report, dataset: ReIDDataset) -> None:
    if not (problem := training_problem(dataset)):
        return
    test_only = not len(dataset.train) and len(dataset.query) and len(dataset.gallery)
    (report.warnings if test_only else report.problems).append(problem)


def _check_columns(report: Report, tables: dict[str, ImageTable]) -> None:
    for column, missing, noun, effect in (
        ("camids", NO_CAMERA, "camera", "same-camera matches cannot be left out"),
        ("pids", UNKNOWN, "identity", "they cannot be evaluated"),
    ):
        for split, table in tables.items():
            rows = np.flatnonzero(getattr(table, column) == missing)
            if len(rows) == 0:
                continue
            line = (
                f"{len(rows)} of {len(table)} images of {split} have no {noun}: "
                f"{_some([table.paths[row] for row in rows[:_NAMED]])}"
                f"{', ...' if len(rows) > _NAMED else ''}; "
            )
            if split == "train":
                remedy = "fill in the column of the index if you know it"
                report.warnings.append(line + remedy)
            else:
                report.problems.append(f"{line}{effect}: fill in the column")


def _check_identities(report: Report, tables: dict[str, ImageTable]) -> None:
    train = tables["train"]
    known = (train.pids > DISTRACTOR) & (train.camids != NO_CAMERA)
    pairs = np.unique(np.stack([train.pids[known], train.camids[known]]), axis=1)
    people, cameras = np.unique(pairs[0], return_counts=True)
    alone = people[cameras == 1]
    if len(alone):
        report.warnings.append(
            f"{len(alone)} of {len(people)} people of train are seen by one camera "
            f"only: {_some([f'{pid:04d}' for pid in alone])}; they give no positive "
            "pairs across cameras"
        )
    test = np.concatenate([tables["query"].pids, tables["gallery"].pids])
    shared = np.intersect1d(train.pids, test)
    shared = shared[shared > DISTRACTOR]
    if len(shared):
        report.problems.append(
            f"{len(shared)} people are in both train and test: "
            f"{_some([f'{pid:04d}' for pid in shared])}; scores would be too high, "
            "give each person one split, or different people different ids"
        )


def _check_queries(report: Report, dataset: ReIDDataset) -> None:
    query, gallery = dataset.query, dataset.gallery
    if len(query) == 0 or len(gallery) == 0:
        report.warnings.append(
            f"{len(query)} queries and {len(gallery)} gallery images: nothing can be "
            "evaluated; give some rows of the index the splits query and gallery"
        )
        return
    asked = np.flatnonzero(query.pids > DISTRACTOR)
    pairs = np.stack([query.pids, query.camids], axis=1)[asked]
    same_pid = _occurrences(pairs[:, :1], gallery.pids[:, None])
    gallery_pairs = np.stack([gallery.pids, gallery.camids], axis=1)
    # A query without a camera cannot share it with an image of the gallery.
    same_both = _occurrences(pairs, gallery_pairs) * (pairs[:, 1] != NO_CAMERA)
    unmatched = asked[same_pid == same_both]
    report.unmatched_queries = unmatched
    if len(unmatched) == 0:
        return
    names = [
        short_name(int(query.pids[row]), int(query.camids[row])) for row in unmatched
    ]
    report.problems.append(
        f"query {names[0]} ({query.paths[unmatched[0]]}) has no image of the same "
        f"person under another camera; {len(unmatched)} of {len(query)} queries have "
        f"none: {_some(names)}; they cannot be scored and are left out of every mean: "
        "add such images to the gallery, or remove these queries"
    )


def _occurrences(wanted: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Count how often each of the wanted rows occurs among the rows."""
    both = np.concatenate([wanted, rows])
    key = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(key[len(wanted) :], minlength=key.max() + 1)
    return counts[key[: len(wanted)]]
