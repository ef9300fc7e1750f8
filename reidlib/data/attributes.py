"""The 27 attributes that Lin et al. annotated for the people of Market-1501."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reidlib.checks import whole_number
from reidlib.data.table import ImageTable
from reidlib.errors import ReIDError
from reidlib.files import file_sha256
from reidlib.paths import user_path

_UPPER = ("black", "white", "red", "purple", "yellow", "gray", "blue", "green")
_LOWER = (
    *("black", "white", "pink", "purple", "yellow"),
    *("gray", "blue", "green", "brown"),
)

ATTRIBUTE_GROUPS: dict[str, tuple[str, ...]] = {
    "gender": ("male", "female"),
    "hair": ("short", "long"),
    "up": ("long sleeve", "short sleeve"),
    "down": ("long", "short"),
    "clothes": ("dress", "pants"),
    "hat": ("no", "yes"),
    "backpack": ("no", "yes"),
    "bag": ("no", "yes"),
    "handbag": ("no", "yes"),
    "age": ("young", "teenager", "adult", "old"),
    "upcolour": _UPPER,
    "downcolour": _LOWER,
}
"""The 12 groups, each with its classes in order: what an attribute head predicts."""

ATTRIBUTE_NAMES: tuple[str, ...] = (
    *tuple(ATTRIBUTE_GROUPS)[:10],
    *(f"up{colour}" for colour in _UPPER),
    *(f"down{colour}" for colour in _LOWER),
)
"""The 27 attributes as named in the file; each colour is a yes-or-no attribute."""

ATTRIBUTE_FILE = "market_attribute.mat"
"""What the file is called."""

_COLOUR_COLUMNS = {"upcolour": slice(10, 18), "downcolour": slice(18, 27)}


@dataclass(frozen=True)
class MarketAttributes:
    """The attributes of people, per split.

    Attributes:
        train: Person id to ``(27,)`` values in the order of `ATTRIBUTE_NAMES`, as the
            file has them: 1 is the first class of a group, and of a colour 1 is no
            and 2 is yes.
        test: The same for the people of query and gallery.
        no_colour: For ``"upcolour"`` and ``"downcolour"``, the ids of the people for
            whom no colour, or more than one, is marked.
    """

    train: dict[int, np.ndarray]
    test: dict[int, np.ndarray]
    no_colour: dict[str, tuple[int, ...]]

    def for_table(self, table: ImageTable) -> tuple[np.ndarray, np.ndarray]:
        """Look up the attributes of the person in each image.

        Args:
            table: Images with identities.

        Returns:
            ``(N, 27)`` int64 values as in the file, 0 if the person has no attributes
            (junk, distractors), and ``(N, 12)`` int64 classes of `ATTRIBUTE_GROUPS`
            from 0, -1 if the person has no attributes or no single colour.

        Example:
            >>> from reidlib.data import open_dataset
            >>> dataset = open_dataset("synthcity", size="tiny")
            >>> file = dataset.root / "market_attribute.mat"
            >>> values, classes = read_market_attributes(file).for_table(dataset.train)
            >>> values.shape[1], classes.shape[1]
            (27, 12)
        """
        people, row = np.unique(table.pids, return_inverse=True)
        nothing = np.zeros(len(ATTRIBUTE_NAMES), dtype=np.int64)
        known = {**self.train, **self.test}
        values = np.array([known.get(int(pid), nothing) for pid in people])
        values = values.reshape(len(people), len(ATTRIBUTE_NAMES))
        return values[row], _classes(values)[row]


def read_market_attributes(path: str | os.PathLike[str]) -> MarketAttributes:
    """Read ``market_attribute.mat`` (Lin et al., Pattern Recognition 2019).

    The two splits of the file store their fields in different orders, so fields are
    read by name. Row i belongs to the i-th person of ``image_index``.

    Args:
        path: The file, or the folder that holds it.

    Returns:
        The attributes of the people of both splits.

    Raises:
        ReIDError: If the file is missing, is not a MATLAB file, has another layout, or
            contradicts itself.

    Example:
        >>> from reidlib.data import open_dataset
        >>> root = open_dataset("synthcity", size="tiny").root
        >>> len(next(iter(read_market_attributes(root).train.values())))
        27
    """
    file = _attribute_file(path)
    if file.exists() and not file.is_file():  # to open a pipe would wait for ever
        raise ReIDError(
            f"{file} is a pipe or a device and no file; remove it, and put the "
            "attribute file there"
        )
    if not file.is_file():
        raise ReIDError(
            f"there is no attribute file {file}; it is distributed separately from the "
            "images: put it there"
        )
    content = _load(file, file_sha256(file))
    splits = content.get("market_attribute")
    if not isinstance(splits, dict) or not {"train", "test"} <= set(splits):
        names = sorted(name for name in content if not name.startswith("__"))
        raise ReIDError(
            f"{file} holds {', '.join(names) or 'nothing'}: expected the variable "
            "market_attribute with the fields train and test; give Market-1501's file"
        )
    train, test = (_split(file, name, splits[name]) for name in ("train", "test"))
    people = {**train, **test}
    if not people:
        raise ReIDError(f"{file} describes no person; download it again")
    if unlike := [p for p in train if (train[p] != people[p]).any()]:
        raise ReIDError(
            f"{file} describes {len(unlike)} people in train and in test, and not "
            f"alike (the first is {unlike[0]}); correct one of them"
        )
    classes = _classes(np.array(list(people.values())))
    groups = list(ATTRIBUTE_GROUPS)
    no_colour = {
        group: tuple(
            sorted(
                pid
                for pid, row in zip(people, classes, strict=True)
                if row[groups.index(group)] < 0
            )
        )
        for group in _COLOUR_COLUMNS
    }
    return MarketAttributes(train, test, no_colour)


def attributes_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of an attribute file without its header, which holds a date.

    Args:
        path: The file, or the folder that holds it.
    """
    try:
        content = _attribute_file(path).read_bytes()
    except OSError as error:
        raise ReIDError(
            f"{path} cannot be read ({error.strerror}); restore the attribute file"
        ) from error
    return hashlib.sha256(content[_HEADER:]).hexdigest()


def _attribute_file(path: str | os.PathLike[str]) -> Path:
    file = user_path(path)
    return file / ATTRIBUTE_FILE if file.is_dir() else file


_HEADER = 116
"""Bytes of free text at the beginning of a MATLAB file."""

# SciPy trusts the lengths in a file: a damaged one ends the process, or asks for more
# memory than there is. So another process reads it, with 2 GiB and ten minutes.
_CHILD = """
import pickle, sys
from scipy.io import loadmat
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
except (ImportError, OSError, ValueError):
    pass
try:
    told = loadmat(sys.argv[1], simplify_cells=True)
    told = pickle.dumps({k: v for k, v in told.items() if not k.startswith("__")})
except Exception as error:
    told = pickle.dumps(str(error) or type(error).__name__)
sys.stdout.buffer.write(b"<reidlib>" + told)
"""


@functools.lru_cache(maxsize=4)
def _load(file: Path, sha256: str) -> dict[str, Any]:
    """Return the variables of a MATLAB file, once for each content."""
    if not sys.executable:
        raise ReIDError(
            f"{file} is read by a process of its own, and Python does not say where it "
            "is itself (sys.executable is empty); set that to its program"
        )
    words = [sys.executable, "-P", "-c", _CHILD, str(file.absolute())]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONHASHSEED", None)  # a wrong one ends Python
    try:
        done = subprocess.run(
            words, capture_output=True, env=environment, timeout=600, check=False
        )
        # Python may print before, if it was told to.
        told = pickle.loads(done.stdout.partition(b"<reidlib>")[2])
    except subprocess.TimeoutExpired:
        told = "reading it does not end"
    except (pickle.UnpicklingError, EOFError):  # the process told nothing of the file
        raise ReIDError(f"{file} could not be read: {_ended(done)}") from None
    if isinstance(told, str):
        reason, way_out = " ".join(told.split()), "download it again"
        if "v7.3" in reason:
            way_out = "save it in MATLAB with the option -v7"
        raise ReIDError(
            f"{file} is not a MATLAB file of version 5, or damaged ({reason}); "
            f"{way_out}"
        )
    return told


def _ended(done: subprocess.CompletedProcess[bytes]) -> str:
    """Say how the process ended that was to read a file, and what to do."""
    if done.returncode < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-done.returncode).name
            return (
                f"{name} ended the process that reads it; memory was short, or the "
                "file is damaged: free some, or download it again"
            )
    lines = done.stderr.decode(errors="replace").split("\n")
    said = " ".join(next((line for line in lines[::-1] if line.strip()), "").split())
    return (
        f"the process that reads it ended with status {done.returncode} and "
        f"{said or 'said nothing'}; try that Python and its SciPy by themselves"
    )


def _split(file: Path, split: str, fields: Any) -> dict[int, np.ndarray]:
    expected = (*ATTRIBUTE_NAMES, "image_index")
    if not isinstance(fields, dict):
        raise ReIDError(
            f"{file}: {split} is a {type(fields).__name__} and no struct of columns; "
            "download the file again"
        )
    missing = [name for name in expected if name not in fields]
    if missing:
        raise ReIDError(
            f"{file}: {split} has no field {', '.join(missing)}; expected the "
            "27 attributes and image_index"
        )
    try:
        # Person ids are text in the published file.
        index = [str(pid).removesuffix(".0") for pid in np.ravel(fields["image_index"])]
        pids = [pid for pid in map(whole_number, index) if pid is not None]
        columns = [np.atleast_1d(fields[name]) for name in ATTRIBUTE_NAMES]
        if any(column.ndim != 1 and column.size for column in columns):
            raise ValueError("a column has several values for each person")
        exact = np.stack([column.reshape(-1) for column in columns], axis=1)
        if exact.dtype.kind not in "biuf":
            raise ValueError(f"a column is of type {exact.dtype}")
        with np.errstate(invalid="ignore"):
            values = exact.astype(np.int64)
        if len(pids) < len(index) or (values != exact).any():
            raise ValueError("not all of them are whole numbers")
    except (TypeError, ValueError) as error:
        raise ReIDError(
            f"{file}: the fields of {split} are not numeric columns of equal length "
            f"({error}); download the file again"
        ) from error
    if len(values) != len(pids):
        raise ReIDError(
            f"{file}: {split} has {len(values)} rows for the {len(pids)} people of "
            "image_index; download the file again"
        )
    twice = [pid for pid, times in Counter(pids).items() if times > 1]
    if twice:
        raise ReIDError(
            f"{file}: {split} names {len(twice)} people more than once in image_index "
            f"(the first is {twice[0]}); give each person one row"
        )
    most = [len(ATTRIBUTE_GROUPS.get(name, "ny")) for name in ATTRIBUTE_NAMES]
    wrong = np.argwhere((values < 1) | (values > most))
    if len(wrong):
        row, column = wrong[0]
        raise ReIDError(
            f"{file}: {ATTRIBUTE_NAMES[column]} of person {pids[row]} is "
            f"{values[row, column]}, expected 1 to {most[column]}; download the file "
            "again"
        )
    return dict(zip(pids, values, strict=True))


def _classes(values: np.ndarray) -> np.ndarray:
    """Convert ``(P, 27)`` values of the file to ``(P, 12)`` classes from 0."""
    colours = []
    for columns in _COLOUR_COLUMNS.values():
        marked = values[:, columns] == 2
        colours.append(np.where(marked.sum(1) == 1, marked.argmax(1), -1))
    return np.column_stack([values[:, :10] - 1, *colours]).astype(np.int64)
