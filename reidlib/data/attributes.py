"""The 27 attributes that Lin et al. annotated for the people of Market-1501."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reidlib.checks import whole_number
from reidlib.data.table import ImageTable
from reidlib.errors import ReIDError
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
        ReIDError: If the file is missing, is not a MATLAB file, or has another layout.

    Example:
        >>> from reidlib.data import open_dataset
        >>> root = open_dataset("synthcity", size="tiny").root
        >>> len(next(iter(read_market_attributes(root).train.values())))
        27
    """
    from scipy.io import loadmat

    file = user_path(path)
    if file.is_dir():
        file = file / "market_attribute.mat"
    if not file.is_file():
        raise ReIDError(
            f"there is no attribute file {file}; it is distributed separately from the "
            "images: put it there, or give its path"
        )
    try:
        content = loadmat(file, simplify_cells=True)
    except Exception as error:  # SciPy meets a damaged file with many kinds
        raise ReIDError(
            f"{file} is not a MATLAB file of version 5 ({error}); download it again"
        ) from error
    splits = content.get("market_attribute")
    if not isinstance(splits, dict) or not {"train", "test"} <= set(splits):
        names = sorted(name for name in content if not name.startswith("__"))
        raise ReIDError(
            f"{file} holds {', '.join(names) or 'nothing'}: expected the variable "
            "market_attribute with the fields train and test; give Market-1501's file"
        )
    train, test = (_split(file, name, splits[name]) for name in ("train", "test"))
    people = {**train, **test}
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


def _split(file: Path, split: str, fields: Any) -> dict[int, np.ndarray]:
    expected = (*ATTRIBUTE_NAMES, "image_index")
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
        exact = np.stack(columns, axis=1)
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
