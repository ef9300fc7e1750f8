"""Readers: from a folder on disk to a data set of three image tables."""

from __future__ import annotations

import csv
import difflib
import json
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from reidlib.checks import LARGEST_ID, whole_number
from reidlib.data.table import (
    DISTRACTOR,
    JUNK,
    NO_CAMERA,
    UNKNOWN,
    ImageTable,
    ReIDDataset,
)
from reidlib.errors import ReIDError
from reidlib.paths import check_utf8, user_path

if TYPE_CHECKING:
    from reidlib.synthcity import Dials

KINDS = ("market1501", "msmt17", "veri776", "market-style", "csv", "synthcity")
"""Kinds of folders that `open_dataset` reads."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Endings (lower case) of the files that are read as images."""

PUBLISHED_COUNTS = {
    "market1501": (12936, 3368, 15913),
    "msmt17": (32621, 11659, 82161),
    "veri776": (37778, 1678, 11579),
}
"""Published numbers of train, query and gallery images, junk left out."""

_SPLITS = ("train", "query", "gallery")
_MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_VERI_FOLDERS = ("image_train", "image_query", "image_test")
_VERI_LISTS = ("name_train.txt", "name_query.txt", "name_test.txt")
_MSMT_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
_MSMT_LAYOUTS = (
    (*_MSMT_LISTS, "train", "test"),
    (*_MSMT_LISTS, "mask_train_v2", "mask_test_v2"),
    _MARKET_FOLDERS,
)
_CSV_NAME = "index.csv"
_SYNTHCITY_MARK = "manifest.json"
_MARKET_NAME = re.compile(r"^(-?[0-9]+)_c([0-9]+)(?=s[0-9]|[\W_]|$)")
_COLUMNS = {
    "path": (),
    "pid": (
        *("pid", "vid", "person", "personid", "vehicle", "vehicleid", "identity"),
        *("label", "subject", "individual", "pedestrian", "people", "peopleid"),
        *("人物", "人物id", "行人", "行人id"),
    ),
    "camid": (
        *("camid", "cam", "camera", "cameraid", "cameraname", "cameranumber"),
        *("kamera", "kameraid", "sensor", "sensorid", "cctv", "telecamera"),
        *("камера", "カメラ", "カメラid", "摄像头", "摄像头id", "相机", "相机id"),
    ),
    "split": ("split", "set", "subset", "partition"),
}
"""Columns of an index, each with the names that are nearly it (letters alone)."""
_SPLIT_VALUES = {
    *("train", "training", "query", "probe", "gallery", "test", "testing"),
    *("val", "valid", "validation", "trainval"),
}
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,4})?|nan|[+-]?inf")
_LONG_CAMERA = 10_000
"""From here up a camera's number is an address or a date, and is replaced."""
_LITTER = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"),
    *("__macosx", "icon\r", "@eadir"),
)
"""What systems put into folders (lower case); names that begin with a dot, too."""

Records = list[tuple[str, int, int]]
"""Rows as read: path relative to the root, person number, camera number."""


def open_dataset(
    kind: str = "auto",
    root: str | os.PathLike[str] | None = None,
    *,
    size: str = "course",
    seed: int = 0,
    dials: Dials | None = None,
    validation: bool = True,
    keep_junk: bool = False,
    unreadable: Literal["trust", "refuse", "skip"] = "trust",
) -> ReIDDataset:
    """Read a re-identification data set from disk.

    Cameras that a data set numbers from 1 get ids from 0; where a number is 10,000 or
    more (an address, a date), cameras are numbered from 0 in the order of theirs. Junk
    (person -1) is left out and counted in `ReIDDataset.num_junk`; distractors (person
    0) stay in the gallery, where they are always wrong matches. MSMT17 numbers the
    people of its training set and of its test set separately, each from 0. Here 1 is
    added to the training ids, and the test ids follow them, so that every person has a
    unique id and none has the distractor id.

    Args:
        kind: One of `KINDS`, or ``"auto"`` to detect it from the folder's contents.

            - ``"market1501"``, ``"market-style"``, ``"synthcity"``: sub-folders
              ``bounding_box_train``, ``query`` and ``bounding_box_test``, file names
              that begin with ``<person>_c<camera>``.
            - ``"msmt17"``: ``list_*.txt`` with ``train`` and ``test`` (V1) or with
              ``mask_train_v2`` and ``mask_test_v2`` (V2), or the Market layout.
            - ``"veri776"``: ``image_train``, ``image_query`` and ``image_test``; the
              ``name_*.txt`` lists are used where they exist.
            - ``"csv"``: an index file, or a folder with one named ``index.csv``, with
              the columns ``path`` (relative to the file) and, each of them optional,
              ``pid``, ``camid`` and ``split`` (train, query or gallery; train if
              there is no such column). An empty field is an unknown person or
              camera. Further columns become `ImageTable.attributes`. A column that is
              nearly called like one of these (``camera``, ``PID``), or holds splits,
              is refused, where the right one is missing.
        root: The folder or its parent folder, or the index file. None with
            ``"synthcity"`` draws the city into the cache.
        size: SynthCity's size, used when it is drawn.
        seed: SynthCity's seed, used when it is drawn.
        dials: SynthCity's dials, used when it is drawn.
        validation: Whether MSMT17's validation list belongs to the training set, as
            in the published 32,621 images.
        keep_junk: Keep junk in the gallery, with person id -1.
        unreadable: Images that cannot be decoded: ``"trust"`` does not check,
            ``"refuse"`` reads every image now and raises an error that names them,
            ``"skip"`` reads every image and leaves them out with a warning.

    Returns:
        The data set; rows are sorted by path, or in the order of the list or index.

    Raises:
        ReIDError: If the folder, a sub-folder, a list or the index is missing, empty
            or cannot be understood, or if a SynthCity is not as it was drawn.

    Warns:
        UserWarning: If the counts of Market-1501, MSMT17 or VeRi-776 are not the
            published ones, if a folder of images holds other files or folders, which
            are left out, or if images were skipped. Names that begin with a dot are
            ignored.

    Example:
        >>> from reidlib.data import open_dataset
        >>> dataset = open_dataset("synthcity", size="tiny")
        >>> dataset.train.has_identities
        True
    """
    if unreadable not in ("trust", "refuse", "skip"):
        raise ReIDError(
            f"unreadable={unreadable!r}: choose 'trust', 'refuse' or 'skip'"
        )
    if root is None:
        if kind != "synthcity":
            raise ReIDError(f"data set {kind!r} needs a folder: give its path as root")
        root = _draw_synthcity(size, seed, dials)
    folder = _root_path(root)
    check_utf8(folder)
    if kind == "auto":
        kind = detect_kind(folder)
    if kind not in _READERS:
        raise ReIDError(
            f"data set kind {kind!r} is not known: choose one of {', '.join(KINDS)}"
        )
    with _explained(folder):
        dataset = _READERS[kind](folder, keep_junk=keep_junk, validation=validation)
    _check_zero(dataset)
    difference = count_difference(dataset)
    if difference:
        warnings.warn(difference, stacklevel=2)
    if unreadable != "trust":
        dataset = without_unreadable(dataset, refuse=unreadable == "refuse")
    return dataset


def detect_kind(root: str | os.PathLike[str]) -> str:
    """Detect the kind of a data set from its folder's contents.

    Args:
        root: Folder, or index file.

    Returns:
        One of `KINDS`. A Market layout is ``"market1501"`` or ``"msmt17"`` if the path
        contains that name, else ``"market-style"``.

    Raises:
        ReIDError: If no known layout is found.

    Example:
        >>> from reidlib.data import open_dataset
        >>> detect_kind(open_dataset("synthcity", size="tiny").root)
        'synthcity'
    """
    root = _root_path(root)
    with _explained(root):
        return _detect(root)


def _detect(root: Path) -> str:
    if root.is_file():
        return "csv"
    _require_folder(root)
    if (root / _CSV_NAME).is_file():
        return "csv"
    for folder in _candidates(root):
        if all((folder / name).exists() for name in _VERI_FOLDERS):
            return "veri776"
        if any(_holds(folder, layout) for layout in _MSMT_LAYOUTS[:2]):
            return "msmt17"
        if _holds(folder, _MARKET_FOLDERS):
            if _is_synthcity(folder / _SYNTHCITY_MARK):
                return "synthcity"
            name = re.sub("[-_]", "", f"{folder.parent.name}/{folder.name}".lower())
            for known in ("market1501", "msmt17"):
                if known in name:
                    return known
            return "market-style"
    raise ReIDError(
        f"{root} holds no data set: looked for {', '.join(_MARKET_FOLDERS)} (Market "
        f"layout), {_MSMT_LISTS[0]} (MSMT17), {_VERI_FOLDERS[0]} (VeRi-776) and "
        f"{_CSV_NAME}, found {_listing(root)}; give the folder that holds one of these"
    )


def _root_path(root: object) -> Path:
    if not isinstance(root, str | os.PathLike):
        raise ReIDError(f"root is {root!r}; give the path of a folder or of an index")
    return user_path(root)


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turn errors of the file system, a name that is too long, into one line."""
    try:
        yield
    except OSError as error:
        where = root if error.filename is None else error.filename
        raise ReIDError(
            f"{where} cannot be read ({error.strerror or error}); correct the path or "
            "list that leads there, or restore or remove it"
        ) from error


def _is_synthcity(mark: Path) -> bool:
    """Return whether a manifest is SynthCity's, damaged or not."""
    if not mark.is_file():
        if mark.exists() or mark.is_symlink():
            raise ReIDError(f"{mark} is no file; remove it, or name the kind")
        return False
    try:
        content = mark.read_bytes()
        if b'"SynthCity"' not in content:
            json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise ReIDError(
            f"{mark} is damaged ({error}), so that the kind of this data set cannot be "
            "detected; draw it again if it is a SynthCity, or name the kind "
            "(market-style)"
        ) from error
    return b'"SynthCity"' in content


def count_difference(dataset: ReIDDataset) -> str:
    """Describe how a data set's counts differ from the published ones.

    Args:
        dataset: Data set whose name is its kind.

    Returns:
        One line; empty if the counts agree or none were published.

    Example:
        >>> from reidlib.data import open_dataset
        >>> count_difference(open_dataset("synthcity", size="tiny"))
        ''
    """
    if dataset.name not in PUBLISHED_COUNTS:
        return ""
    tables = (dataset.train, dataset.query, dataset.gallery)
    wrong = []
    for split, table, expected in zip(
        _SPLITS, tables, PUBLISHED_COUNTS[dataset.name], strict=True
    ):
        found = len(table) - int((table.pids == JUNK).sum())
        if found != expected:
            wrong.append(f"{split} {found} ({found - expected:+d})")
    if not wrong:
        return ""
    published = "/".join(str(count) for count in PUBLISHED_COUNTS[dataset.name])
    return (
        f"{dataset.name} in {dataset.root} is not the published {published} images "
        f"(train/query/gallery): {', '.join(wrong)}; unpack it again, or open it as "
        "'market-style' or 'csv' if it is your own"
    )


def _read_market(
    root: Path, *, name: str = "market-style", keep_junk: bool = False, **_: Any
) -> ReIDDataset:
    folder, _layout = _locate(root, (_MARKET_FOLDERS,), name)
    records = [_scan(folder, sub, _MARKET_NAME) for sub in _MARKET_FOLDERS]
    return _assemble(name, folder, records, keep_junk)


def _read_market1501(root: Path, **options: Any) -> ReIDDataset:
    return _read_market(root, name="market1501", **options)


def _read_synthcity(root: Path, **options: Any) -> ReIDDataset:
    from reidlib.synthcity import check_city

    check_city(_locate(root, (_MARKET_FOLDERS,), "synthcity")[0])
    return _read_market(root, name="synthcity", **options)


def _read_veri776(root: Path, *, keep_junk: bool = False, **_: Any) -> ReIDDataset:
    folder, _layout = _locate(root, (_VERI_FOLDERS,), "veri776")
    records = []
    for sub, listing in zip(_VERI_FOLDERS, _VERI_LISTS, strict=True):
        names = None
        if (folder / listing).exists():
            lines = _lines(folder / listing)
            names = [f"{sub}/{line}" for line in lines]
            _check_listed(folder, names, listing)
        records.append(_scan(folder, sub, _MARKET_NAME, names))
    return _assemble("veri776", folder, records, keep_junk)


def _read_msmt17(
    root: Path, *, validation: bool = True, keep_junk: bool = False, **_: Any
) -> ReIDDataset:
    folder, layout = _locate(root, _MSMT_LAYOUTS, "msmt17")
    if layout == _MARKET_FOLDERS:
        records = [_scan(folder, sub, _MARKET_NAME) for sub in _MARKET_FOLDERS]
    else:
        train_folder, test_folder = layout[-2:]
        train = _msmt_list(folder, train_folder, _MSMT_LISTS[0])
        if validation:
            train += _msmt_list(folder, train_folder, _MSMT_LISTS[1])
        records = [train]
        records += [_msmt_list(folder, test_folder, name) for name in _MSMT_LISTS[2:]]
        listings = ("list_train.txt with list_val.txt", *_MSMT_LISTS[2:])
        for rows, listing in zip(records, listings, strict=True):
            _check_listed(folder, [row[0] for row in rows], listing)
    people = 1 + max(pid for _path, pid, _cam in records[0])
    last = 1 + people + max(pid for rows in records[1:] for _path, pid, _cam in rows)
    if last > LARGEST_ID:
        raise ReIDError(
            f"{folder}: the people of training and those of test, numbered one after "
            f"the other, go up to {last}, beyond {LARGEST_ID}; number each from 0"
        )
    records = [
        [(path, pid + step if pid >= 0 else pid, cam) for path, pid, cam in rows]
        for rows, step in zip(records, (1, 1 + people, 1 + people), strict=True)
    ]
    return _assemble("msmt17", folder, records, keep_junk)


def _msmt_list(folder: Path, sub: str, listing: str) -> Records:
    records = []
    for number, line in enumerate(_lines(folder / listing), start=1):
        path, _space, pid = line.rpartition(" ")
        fields = path.rsplit("/", 1)[-1].split("_")
        person = whole_number(pid)
        camera = whole_number(fields[2]) if len(fields) > 2 else None
        if (
            person is None
            or camera is None
            or min(person, camera) < 0
            or whole_number("".join(fields[3:4])) is not None  # a camera like 1_0
        ):
            raise ReIDError(
                f"{folder / listing} line {number} reads {line[:60]!r}: expected "
                "'<folder>/<person>_<image>_<camera>_....jpg <person>'; take the list "
                "from the data set's own archive"
            )
        records.append((f"{sub}/{path}", person, camera))
    return records


def _read_csv(root: Path, *, keep_junk: bool = False, **_: Any) -> ReIDDataset:
    index = root
    if not root.is_file():
        _require_folder(root)
        index = root / _CSV_NAME
        if not index.is_file():
            raise ReIDError(
                f"{root} holds no {_CSV_NAME} (found {_listing(root)}); write one with "
                "the columns path[,pid][,camid][,split], or give the index file itself"
            )
    header, rows = _csv_rows(index)
    folder = index.parent
    where = header.index("path")
    splits = np.array(_csv_column(header, rows, "split", "train"))
    for split in np.unique(splits):
        listed = [row[where] for row, own in zip(rows, splits) if own == split]
        _check_listed(folder, listed, index.name)
    places = [_place(folder, row[where]) for row in rows]
    trained = {p for p, split in zip(places, splits) if split == "train"}
    for row, place, split in zip(rows, places, splits):
        if split != "train" and place in trained:
            raise ReIDError(
                f"{index} lists {row[where]} in train and in {split}; a score on "
                "images of the training set says nothing, keep one line"
            )
    pids = _csv_ids(index, header, rows, "pid", UNKNOWN)
    camids = _csv_ids(index, header, rows, "camid", NO_CAMERA)
    unknown = sorted(set(splits.tolist()) - set(_SPLITS))
    if unknown:
        raise ReIDError(
            f"{index}: split {unknown[0]!r} is not known; write train, query or gallery"
        )
    further = [name for name in header if name not in ("path", "pid", "camid", "split")]
    table = ImageTable(
        folder,
        tuple(row[where] for row in rows),
        pids,
        _from_zero([camids])[0],
        {name: _parsed(_csv_column(header, rows, name)) for name in further},
    )
    keep = table.pids != JUNK
    if keep_junk:
        keep |= splits == "gallery"
    train, query, gallery = (table[(splits == split) & keep] for split in _SPLITS)
    return ReIDDataset("csv", train, query, gallery, int((~keep).sum()))


def _csv_rows(index: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
        header = [cell.strip() for cell in rows[0]] if rows else []
        # A name of a file may begin with a blank.
        rows[1:] = [
            [
                cell
                if cell != cell.strip() and _is_named(index, header, n, cell)
                else cell.strip()
                for n, cell in enumerate(row)
            ]
            for row in rows[1:]
        ]
        rows[:1] = [header] if rows else []
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReIDError(
            f"{index} cannot be read as a CSV file in UTF-8 ({error}); save it as one"
        ) from error
    header, body = (rows[0], rows[1:]) if rows else ([], [])
    if "path" not in header:
        line = ",".join(header)
        cells = [cell.strip(" \"'") for cell in re.split("[;\t|]", line)]
        raise ReIDError(
            f"{index} has no column 'path' (its first line reads {line[:80]!r}); "
            "expected path[,pid][,camid][,split]"
            f"{', separated by commas' if 'path' in cells else ''}"
        )
    _check_header(index, header)
    if not body:
        raise ReIDError(f"{index} lists no image; add one line per image")
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise ReIDError(
                f"{index} line {number} has {len(row)} fields for {len(header)} "
                "columns; write one value per column, quoted where it holds a comma"
            )
    for name in header if "split" not in header else ():
        values = set(_csv_column(header, body, name)) - {""}
        if values and {value.lower() for value in values} <= _SPLIT_VALUES:
            raise ReIDError(
                f"{index} has no column 'split', and its column {name!r} holds "
                f"{', '.join(sorted(values)[:3])}, so that all images would be "
                "training images; call it 'split', and write train, query or gallery"
            )
    return header, body


def _is_named(index: Path, header: list[str], column: int, cell: str) -> bool:
    """Return whether a cell with blanks around it is the name of a file as it is."""
    is_path = column < len(header) and header[column] == "path"
    return is_path and (index.parent / cell).is_file()


def _check_header(index: Path, header: list[str]) -> None:
    """Raise if a column is there twice, or is nearly called like one that is missing.

    A camera column by another name would be a further column, and a score would count
    the matches of one camera unseen.
    """
    for name in filter(None, header):
        if header.count(name) > 1:
            raise ReIDError(
                f"{index} has {header.count(name)} columns {name!r}; keep one"
            )
    for column, near in _COLUMNS.items():
        for name in set(header) - set(_COLUMNS) if column not in header else ():
            plain = unicodedata.normalize("NFKD", name.lower())
            plain = re.sub("[\u0300-\u036f]", "", plain)
            words = re.sub(r"[\W\d_]+", " ", plain).split()
            word = "".join(words)
            if difflib.get_close_matches(word, near, n=1, cutoff=0.8) or (
                # Alone, since a track and a frame have identifiers as well.
                (column == "pid" and word == "identifier")
                or (column == "camid" and word == "cid")
                or (column == "camid" and any(part.startswith("cam") for part in words))
            ):
                raise ReIDError(
                    f"{index} has a column {name!r} and no column {column!r}; rename "
                    f"it to {column!r}, or to something else if it holds something else"
                )


def _csv_column(
    header: list[str], rows: list[list[str]], name: str, default: str = ""
) -> list[str]:
    if name not in header:
        return [default] * len(rows)
    column = header.index(name)
    return [row[column] for row in rows]


def _csv_ids(
    index: Path, header: list[str], rows: list[list[str]], name: str, missing: int
) -> np.ndarray:
    ids = np.full(len(rows), missing, dtype=np.int64)
    for number, cell in enumerate(_csv_column(header, rows, name)):
        if not cell:
            continue
        value = whole_number(cell)
        if value is None or value < missing:
            raise ReIDError(
                f"{index} line {number + 2}: {name} {cell[:40]!r} is not a whole "
                f"number from {max(missing, JUNK) if name == 'pid' else 0} to "
                f"{LARGEST_ID}; number the "
                f"{'people from 1' if name == 'pid' else 'cameras'}, and leave the "
                "field empty where it is unknown"
            )
        ids[number] = value
    return ids


def _parsed(column: Sequence[str]) -> np.ndarray:
    """Return a further column as int64, as float64, or as text where it is neither.

    Numbers that are too long stay text: as floats, different ones would be equal.
    """
    cells = [cell.lower() for cell in column]
    whole = [cell for cell in cells if re.fullmatch("[+-]?[0-9]+", cell)]
    fits = all(len(cell) < 20 and abs(int(cell)) < 2**63 for cell in whole)
    if fits and len(whole) == len(cells):
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    exact = all(abs(int(cell)) <= 2**53 for cell in whole) if fits else False
    if exact and all(_FLOAT.fullmatch(cell) for cell in cells):
        numbers = {cell: float(cell) for cell in cells if cell != "nan"}
        if len(set(numbers.values())) == len({Decimal(cell) for cell in numbers}):
            return np.array([float(cell) for cell in cells])
    return np.array(column)


def _scan(
    folder: Path, sub: str, pattern: re.Pattern[str], names: list[str] | None = None
) -> Records:
    if names is None:
        names, left_out = _images_in(folder / sub)
        names = [f"{sub}/{name}" for name in names]
        if not names:
            raise ReIDError(
                f"{folder / sub} holds no image ({', '.join(IMAGE_SUFFIXES)}"
                f"{' but ' + left_out if left_out else ''}); unpack the data set again"
            )
        if left_out:
            warnings.warn(
                f"{folder / sub}: {left_out} left out; read are files that end in "
                f"{', '.join(IMAGE_SUFFIXES)}, not those of sub-folders",
                stacklevel=2,
            )
    records: Records = []
    unmatched = []
    for name in names:
        match = pattern.match(name.rsplit("/", 1)[-1])
        pid, camid = map(whole_number, match.groups()) if match else (None, None)
        if pid is None or camid is None or pid < JUNK:
            unmatched.append(name)
        else:
            records.append((name, pid, camid))
    if unmatched:
        raise ReIDError(
            f"{folder}: {len(unmatched)} of {len(names)} file names in {sub} do not "
            f"begin with <person>_c<camera>, the first is {unmatched[0]}; rename them, "
            f"or write an index and open it as 'csv'; numbers go up to {LARGEST_ID}, "
            f"and people from {JUNK}, which is junk"
        )
    return records


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files of a folder by name, without those of sub-folders.

    Args:
        folder: A folder.

    Raises:
        ReIDError: If there is no such folder, or no image in it.

    Warns:
        UserWarning: If it holds other files or sub-folders.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise ReIDError(f"{folder} is no folder; give one with images")
    names, left_out = _images_in(folder)
    if not names:
        raise ReIDError(
            f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}"
            f"{' but ' + left_out if left_out else ''})"
        )
    if left_out:
        warnings.warn(f"{folder}: {left_out} left out", stacklevel=2)
    return [folder / name for name in names]


def is_litter(name: str) -> bool:
    """Return whether a file or folder is what file managers leave, or hidden."""
    return name.startswith(".") or name.lower() in _LITTER


def _images_in(folder: Path) -> tuple[list[str], str]:
    """Return the image files of a folder, and in words what else it holds.

    Names that begin with a dot are ignored: macOS writes ``._x.jpg`` beside ``x.jpg``.
    """
    with os.scandir(folder) as entries:
        found = {entry.name: entry.is_dir() for entry in entries}
    names: list[str] = []
    others: list[str] = []
    folders: list[str] = []
    for name in sorted(found):
        if is_litter(name):
            continue
        check_utf8(folder / name)
        if name.lower().endswith(IMAGE_SUFFIXES):
            names.append(name)
        else:
            (folders if found[name] else others).append(name)
    left_out = [
        f"{len(kind)} {noun}{'s' if kind[1:] else ''} (the first is {kind[0]})"
        for kind, noun in ((others, "other file"), (folders, "sub-folder"))
        if kind
    ]
    return names, " and ".join(left_out)


def _assemble(
    name: str, folder: Path, records: Sequence[Records], keep_junk: bool
) -> ReIDDataset:
    columns = [np.array([row[1:] for row in rows], dtype=np.int64) for rows in records]
    camids = _from_zero([column[:, 1] for column in columns])
    tables = []
    num_junk = 0
    for split, rows, column, cameras in zip(
        _SPLITS, records, columns, camids, strict=True
    ):
        table = ImageTable(folder, tuple(row[0] for row in rows), column[:, 0], cameras)
        junk = table.pids <= JUNK
        if junk.any() and not (keep_junk and split == "gallery"):
            num_junk += int(junk.sum())
            table = table[~junk]
        tables.append(table)
    train, query, gallery = tables
    return ReIDDataset(name, train, query, gallery, num_junk)


def _from_zero(camids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Number cameras from 0, unless one of them is already numbered 0.

    Long numbers are replaced by their ranks: a table with a place for each number up to
    an IP address does not fit into memory.
    """
    known = np.unique(np.concatenate(camids))
    known = known[known != NO_CAMERA]
    if len(known) and known[-1] >= _LONG_CAMERA:
        ranks = [np.searchsorted(known, column) for column in camids]
        both = zip(camids, ranks, strict=True)
        return [np.where(c == NO_CAMERA, NO_CAMERA, rank) for c, rank in both]
    step = 0 if len(known) == 0 or known[0] == 0 else 1
    return [np.where(column == NO_CAMERA, column, column - step) for column in camids]


def _check_zero(dataset: ReIDDataset) -> None:
    for split, table in (("train", dataset.train), ("query", dataset.query)):
        rows = np.flatnonzero(table.pids == DISTRACTOR)
        if len(rows):
            raise ReIDError(
                f"{table.file(int(rows[0]))} and {len(rows) - 1} more of {split} have "
                "person id 0, which marks a distractor and is allowed in the gallery "
                "only; number the people from 1"
            )


def _check_listed(folder: Path, names: Sequence[str], listing: str) -> None:
    if not names:
        raise ReIDError(f"{folder / listing} lists no image; unpack the data set again")
    places = Counter(_place(folder, name) for name in names)
    twice = [name for name in names if places[_place(folder, name)] > 1]
    twice = list({_place(folder, name): name for name in twice}.values())
    if twice:
        raise ReIDError(
            f"{folder / listing} lists {len(twice)} files twice, the first is "
            f"{twice[0]}; keep one line of each"
        )
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ReIDError(
            f"{folder / listing}: {len(missing)} of {len(names)} listed files do not "
            f"exist, the first is {folder / missing[0]}; unpack the data set again, or "
            "correct the list"
        )


def _place(folder: Path, name: str) -> str:
    """Return a listed file's path in one spelling: ``./x.jpg`` is ``x.jpg``."""
    place = folder / name
    return os.path.realpath(place) if ".." in place.parts else str(place)


def _lines(path: Path) -> list[str]:
    if not path.is_file():  # to read a named pipe would wait for ever
        raise ReIDError(f"{path} is not a file; unpack it again")
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ReIDError(f"{path} is not a text file; unpack it again") from error
    return [line for line in lines if line]


def _require_folder(root: Path) -> None:
    if not root.exists():
        raise ReIDError(f"there is no folder {root}; correct the path")
    if not root.is_dir():
        raise ReIDError(f"{root} is a file; give the folder of the data set")
    if not any(root.iterdir()):
        raise ReIDError(f"the folder {root} is empty; unpack the data set into it")


def _candidates(root: Path) -> Iterable[Path]:
    yield root
    yield from sorted(entry for entry in root.iterdir() if entry.is_dir())


def _holds(folder: Path, layout: Sequence[str]) -> bool:
    return all((folder / name).exists() for name in layout)


def _listing(root: Path) -> str:
    names = sorted(entry.name for entry in root.iterdir())
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _locate(
    root: Path, layouts: Sequence[tuple[str, ...]], kind: str
) -> tuple[Path, tuple[str, ...]]:
    """Find a complete layout in the given folder or in one of its sub-folders."""
    _require_folder(root)
    found = [
        (folder, layout)
        for folder in _candidates(root)
        for layout in layouts
        if _holds(folder, layout)
    ]
    if found and (found[0][0] == root or len(found) == 1):
        return found[0]
    if found:
        names = ", ".join(folder.name for folder, _layout in found)
        raise ReIDError(
            f"{root} holds several data sets ({names}); give the folder of one"
        )
    layout = max(
        layouts, key=lambda names: sum((root / name).exists() for name in names)
    )
    missing = [name for name in layout if not (root / name).exists()]
    raise ReIDError(
        f"{root} is not a {kind} folder: looked for {', '.join(layout)}, missing "
        f"{', '.join(missing)} (found {_listing(root)}); give the folder that holds "
        "them, or another kind"
    )


def _draw_synthcity(size: str, seed: int, dials: Dials | None) -> Path:
    from reidlib.synthcity import Dials, ensure_synthcity

    return ensure_synthcity(size, seed=seed, dials=dials or Dials())


def without_unreadable(dataset: ReIDDataset, *, refuse: bool) -> ReIDDataset:
    """Return a data set without the images that cannot be decoded.

    Args:
        dataset: All of its images are read.
        refuse: Raise instead, and name them.

    Raises:
        ReIDError: If asked to refuse, and there are any.

    Warns:
        UserWarning: If images are left out.
    """
    from reidlib.data.images import unreadable_images

    tables = []
    bad: dict[str, str] = {}
    for table in (dataset.train, dataset.query, dataset.gallery):
        reasons = unreadable_images(table)
        keep = np.full(len(table), True)
        keep[list(reasons)] = False
        tables.append(table[keep])
        bad |= {str(table.file(row)): reason for row, reason in reasons.items()}
    if not bad:
        return dataset
    named = "; ".join(list(bad.values())[:5])
    if len(bad) > 5:
        named += f"; and {len(bad) - 5} more"
    if refuse:
        raise ReIDError(
            f"{len(bad)} images of {dataset.root} cannot be read: {named}; restore "
            "them, or open the data set with unreadable='skip'"
        )
    warnings.warn(
        f"{len(bad)} images of {dataset.root} cannot be read and were left out: "
        f"{named}",
        stacklevel=3,
    )
    train, query, gallery = tables
    return ReIDDataset(dataset.name, train, query, gallery, dataset.num_junk)


_READERS: dict[str, Callable[..., ReIDDataset]] = {
    "market1501": _read_market1501,
    "msmt17": _read_msmt17,
    "veri776": _read_veri776,
    "market-style": _read_market,
    "csv": _read_csv,
    "synthcity": _read_synthcity,
}
