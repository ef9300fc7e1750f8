"""The image table and the data set, which every reader returns."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from reidlib.checks import check_ids
from reidlib.errors import ReIDError
from reidlib.files import file_sha256

JUNK = -1
"""Person id of a detection without a whole person; evaluation ignores it."""
DISTRACTOR = 0
"""Person id of a gallery image that shows no query's person: always a wrong match."""
UNKNOWN = -2
"""Person id of an image without an identity label."""
NO_CAMERA = -1
"""Camera id of an image whose camera is unknown."""


@dataclass(frozen=True)
class ImageTable:
    """A list of images with identity and camera, one row per image.

    Attributes:
        root: Folder that ``paths`` are relative to.
        paths: Image files, relative to ``root``, POSIX style.
        pids: ``(N,)`` int64 person ids; ``JUNK``, ``DISTRACTOR`` and ``UNKNOWN`` as
            above.
        camids: ``(N,)`` int64 camera ids from 0; ``NO_CAMERA`` where unknown.
        attributes: Optional further columns, each ``(N,)``.

    Raises:
        ReIDError: If the columns differ in length, or ids are not whole numbers.
    """

    root: Path
    paths: tuple[str, ...]
    pids: np.ndarray
    camids: np.ndarray
    attributes: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        where = f"image table of {self.root}"
        given: object = self.paths
        if not isinstance(given, Iterable) or isinstance(given, str | bytes):
            raise ReIDError(f"{where}: paths hold {given!r:.40}; give a list of texts")
        paths = tuple(given)
        for path in paths:
            if not isinstance(path, str | os.PathLike):
                raise ReIDError(f"{where}: paths hold {path!r:.40}; give a text each")
        object.__setattr__(self, "paths", tuple(map(os.fspath, paths)))
        further = {name: np.asarray(col) for name, col in self.attributes.items()}
        object.__setattr__(self, "attributes", further)
        for name in ("pids", "camids"):
            column = check_ids(getattr(self, name), name, where)
            object.__setattr__(self, name, column)
        columns = {"pids": self.pids, "camids": self.camids, **further}
        for name, column in columns.items():
            if column.shape[:1] != (len(self.paths),):
                raise ReIDError(
                    f"{where}: column {name!r} has {column.size} rows for "
                    f"{len(self.paths)} images; give one value per image"
                )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: np.ndarray | Sequence[int] | slice) -> ImageTable:
        """Return the table of these rows (indices, a mask or a slice)."""
        index = np.arange(len(self))[rows]
        return ImageTable(
            root=self.root,
            paths=tuple(self.paths[i] for i in index),
            pids=self.pids[index],
            camids=self.camids[index],
            attributes={name: col[index] for name, col in self.attributes.items()},
        )

    def file(self, row: int) -> Path:
        """Return the full path of one image."""
        return self.root / self.paths[row]

    def hashes(self) -> list[str]:
        """Return the SHA-256 of each image file."""
        return [file_sha256(self.file(row)) for row in range(len(self))]

    @property
    def num_pids(self) -> int:
        """Number of different known people (junk, distractors, unknown left out)."""
        return len(np.unique(self.pids[self.pids > DISTRACTOR]))

    @property
    def num_cams(self) -> int:
        """Number of different known cameras."""
        return len(np.unique(self.camids[self.camids > NO_CAMERA]))

    @property
    def has_identities(self) -> bool:
        """Whether every image has an identity label."""
        return len(self) > 0 and bool((self.pids != UNKNOWN).all())

    @property
    def has_cameras(self) -> bool:
        """Whether the camera of every image is known."""
        return len(self) > 0 and bool((self.camids != NO_CAMERA).all())

    @property
    def labels(self) -> np.ndarray:
        """``(N,)`` int64 person ids renumbered from 0 in the order of their ids."""
        return np.unique(self.pids, return_inverse=True)[1].astype(np.int64)


def unlabelled(files: Sequence[Path]) -> ImageTable:
    """Return a table of image files of which neither person nor camera is known.

    Example:
        >>> unlabelled([Path("a.jpg")]).pids
        array([-2])
    """
    unknown = np.full(len(files), UNKNOWN), np.full(len(files), NO_CAMERA)
    return ImageTable(Path(), tuple(map(str, files)), *unknown)


def stacked(*tables: ImageTable) -> ImageTable:
    """Return the images of several tables of one folder, one table after the other.

    Args:
        *tables: One table or more; further columns are kept that all of them have.

    Example:
        >>> one = ImageTable(Path(), ("a",), np.array([1]), np.array([0]))
        >>> stacked(one, one).paths
        ('a', 'a')
    """
    first = tables[0]
    common = [
        name
        for name in first.attributes
        if all(name in table.attributes for table in tables)
    ]
    return ImageTable(
        first.root,
        tuple(path for table in tables for path in table.paths),
        np.concatenate([table.pids for table in tables]),
        np.concatenate([table.camids for table in tables]),
        {name: np.concatenate([t.attributes[name] for t in tables]) for name in common},
    )


@dataclass(frozen=True)
class ReIDDataset:
    """A training split and the query and gallery of a test split.

    Attributes:
        name: Short name for logs and tables, for instance ``"market1501"``.
        train: Images to learn from; their identities are used by supervised methods
            and by diagnostics only.
        query: Query images (may be empty).
        gallery: Images that a query is searched in (may be empty).
        num_junk: Junk images that the reader left out, as the protocol demands.
    """

    name: str
    train: ImageTable
    query: ImageTable
    gallery: ImageTable
    num_junk: int = 0

    @property
    def root(self) -> Path:
        """Folder that the data set was read from."""
        return self.train.root

    def images(self) -> ImageTable:
        """Return all images, with the column ``split``: train, query or gallery."""
        splits = ("train", "query", "gallery")
        tables = [getattr(self, split) for split in splits]
        names = np.repeat(splits, [len(table) for table in tables])
        every = stacked(*tables)
        return replace(every, attributes={**every.attributes, "split": names})

    @property
    def num_cams(self) -> int:
        """Number of cameras over all three splits."""
        camids = [split.camids for split in (self.train, self.query, self.gallery)]
        seen = np.unique(np.concatenate(camids))
        return len(seen[seen > NO_CAMERA])

    def fingerprint(self) -> str:
        """Return a hash over file names and contents, identities and cameras.

        What was made from these images, a cached run for instance, is used again if
        the fingerprints are equal. Files are read as `reidlib.files.file_sha256` does.

        Raises:
            ReIDError: If an image cannot be read.
        """
        digest = hashlib.sha256(self.name.encode())
        for split in (self.train, self.query, self.gallery):
            hashes = split.hashes()
            for row, path in enumerate(split.paths):
                line = f"{path}|{hashes[row]}|{split.pids[row]}|{split.camids[row]}\n"
                digest.update(line.encode())
            digest.update(b"--\n")
        return digest.hexdigest()
