"""Features in a file, with the table of their images and the network they are of."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reidlib.checks import Array, check_features
from reidlib.data.table import ImageTable
from reidlib.errors import DamagedError, ReIDError
from reidlib.files import partial
from reidlib.paths import user_path

_FORMAT = 1
_OWN = ("features", "paths", "pids", "camids", "about")
# What NumPy calls arguments of its own.
_TAKEN = (*_OWN, "file", "args", "kwds", "allow_pickle")
_COLUMNS = ("path", "pid", "camid")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Features of images of one network.

    Attributes:
        features: ``(N, D)`` float32, L2-normalised.
        table: The N images.
        fingerprint: SHA-256 of the weights of the network: features of two networks
            cannot be compared.
        model: Where the network came from, in words.
        content: SHA-256 of the image files that the features are of; empty if unknown.
    """

    features: Tensor
    table: ImageTable
    fingerprint: str
    model: str = ""
    content: str = ""

    def require_unchanged(self) -> None:
        """Raise if an image is another than when its features were made.

        Raises:
            ReIDError: If so. Where images are gone, nothing is compared.
        """
        if self.content and _content(self.table) not in ("", self.content):
            raise ReIDError(
                f"images in {self.table.root} were changed since their features were "
                "made; write these again with reidlib embed"
            )


def save_embeddings(
    path: str | os.PathLike[str],
    features: Array,
    table: ImageTable,
    fingerprint: str,
    model: str = "",
) -> Path:
    """Write features and the table of their images to a file.

    Args:
        path: File to write. ``.npz``: NumPy reads it without this library, from the
            arrays ``features``, ``paths``, ``pids``, ``camids`` and those of further
            columns. ``.parquet``: a row for each image, with the columns ``path``,
            ``pid``, ``camid``, ``features`` and further ones, which pandas, DuckDB and
            Spark read.
        features: ``(N, D)`` L2-normalised features.
        table: The N images, in the order of the features.
        fingerprint: That of the network, see `reidlib.trained.TrainedModel`.
        model: Where the network came from, in words.

    Returns:
        The file.

    Raises:
        ReIDError: If features and table do not fit, the name ends in something else,
            or the file is there or cannot be written.
    """
    file = check_target(path, table)
    matrix = check_features(features, "save_embeddings", normalised=True).cpu().numpy()
    if len(matrix) != len(table):
        raise ReIDError(
            f"save_embeddings: there are {len(matrix)} features for {len(table)} images"
        )
    about = {
        "format": _FORMAT,
        "root": os.fspath(table.root.absolute()),
        "fingerprint": fingerprint,
        "model": model,
        "content": _content(table),
    }
    further = {name: _plain(column) for name, column in table.attributes.items()}
    try:
        with partial(file) as whole:
            with whole.open("wb") as stream:
                if file.suffix == ".parquet":
                    _write_parquet(stream, matrix, table, further, about)
                else:
                    arrays: dict[str, Any] = {
                        "features": matrix,
                        "paths": np.array(table.paths, dtype=np.str_),
                        "pids": table.pids,
                        "camids": table.camids,
                        "about": np.array(json.dumps(about)),
                        **further,
                    }
                    np.savez(stream, **arrays)
            whole.replace(file)
    except OSError as error:
        raise ReIDError(
            f"{file} cannot be written ({error.strerror or error}); free some space or "
            "give another place"
        ) from error
    return file


def _content(table: ImageTable) -> str:
    """Return a hash of all image files; empty if one is gone."""
    try:
        return hashlib.sha256(" ".join(table.hashes()).encode()).hexdigest()
    except ReIDError:
        return ""


def check_target(path: str | os.PathLike[str], table: ImageTable) -> Path:
    """Return the file that features are to be written to, before they are extracted.

    Args:
        path: The file.
        table: The images.

    Raises:
        ReIDError: If the name ends in something else, the file is there, its folder is
            not, or a column of the table has a name that the file needs.
    """
    file = user_path(path)
    if file.suffix not in (".npz", ".parquet"):
        raise ReIDError(f"{file} does not end in .npz or .parquet; give such a name")
    if file.suffix == ".parquet":
        _pyarrow(file)
    if file.exists() or file.is_symlink():
        raise ReIDError(f"{file} already exists; give another name")
    if not file.parent.is_dir():
        raise ReIDError(f"there is no folder {file.parent}; make it, or give another")
    if taken := sorted(set(table.attributes) & {*_TAKEN, *_COLUMNS}):
        raise ReIDError(
            f"save_embeddings: the table has a column {taken[0]!r}, a name that the "
            "file needs; rename it"
        )
    return file


def _plain(column: np.ndarray) -> np.ndarray:
    """Return a column that can be read without unpickling."""
    return column.astype(np.str_) if column.dtype.hasobject else column


def _pyarrow(file: Path) -> Any:
    """Return the module that reads and writes Parquet."""
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise ReIDError(
            f"{file} needs pyarrow: pip install pyarrow, or give a .npz file"
        ) from error
    return parquet


def _write_parquet(
    stream: Any,
    matrix: np.ndarray,
    table: ImageTable,
    further: dict[str, np.ndarray],
    about: dict[str, Any],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    vectors = pa.FixedSizeListArray.from_arrays(matrix.ravel(), matrix.shape[1])
    rows = {"path": table.paths, "pid": table.pids, "camid": table.camids, **further}
    columns = {name: pa.array(values) for name, values in rows.items()}
    content = pa.table({**columns, "features": vectors})
    head = {"reidlib": json.dumps(about)}
    content = content.replace_schema_metadata(head)
    parquet.write_table(content, stream, write_page_checksum=True)


def _read_parquet(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays that a ``.npz`` file of the same features would hold."""
    content = _pyarrow(file).read_table(file, page_checksum_verification=True)
    metadata = content.schema.metadata or {}
    if b"reidlib" not in metadata:
        raise ValueError("it was not written by reidlib")
    arrays = {}
    for name in content.column_names:
        column = content[name].combine_chunks()
        if name in (*_COLUMNS, "features") and column.null_count:
            raise ValueError(f"{column.null_count} rows have no {name!r}")
        if name == "features":
            flat = column.flatten().to_numpy()
            arrays[name] = flat.reshape(len(column), -1)
        else:
            values = column.to_numpy(zero_copy_only=False)
            arrays[name] = _plain(values)
    for one, many in zip(_COLUMNS, ("paths", "pids", "camids"), strict=True):
        if one in arrays:
            arrays[many] = arrays.pop(one)
    return {**arrays, "about": np.array(metadata[b"reidlib"].decode())}


def load_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read what `save_embeddings` wrote.

    Args:
        path: The file.

    Raises:
        DamagedError: If it is missing, damaged or of another kind.
    """
    file = user_path(path)
    way_out = "write it again with reidlib embed"
    if file.suffix == ".parquet":
        _pyarrow(file)
    try:
        if not file.is_file():
            raise ValueError("it is no file")
        if file.suffix == ".parquet":
            arrays = _read_parquet(file)
        else:
            with np.load(file, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
        if missing := [name for name in _OWN if name not in arrays]:
            raise ValueError(f"{missing[0]!r} is missing")
        about = json.loads(str(arrays["about"]))
        if about["format"] != _FORMAT:
            raise ValueError(f"its format is {about['format']!r}, not {_FORMAT}")
        further = {name: a for name, a in arrays.items() if name not in _OWN}
        table = ImageTable(
            Path(about["root"]),
            tuple(arrays["paths"].tolist()),
            arrays["pids"],
            arrays["camids"],
            further,
        )
        features = check_features(
            arrays["features"], "load_embeddings", normalised=True
        )
        if len(features) != len(table):
            raise ValueError(f"{len(features)} features for {len(table)} images")
        told = [str(about[name]) for name in ("fingerprint", "model")]
        told += [str(about.get("content", ""))]  # no file of an older version has it
    except (
        *(OSError, ValueError, KeyError, TypeError, EOFError),
        # What a flipped byte makes of the head of a zip file, and of a compressed part.
        *(zipfile.BadZipFile, zlib.error, RuntimeError, ReIDError),
    ) as error:
        reason = str(error).partition("\n")[0]
        raise DamagedError(f"{file} is damaged ({reason}); {way_out}", file) from error
    return Embeddings(torch.clone(features), table, *told)
