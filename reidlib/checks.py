"""Input checks: one function for each kind of input.

Each returns its input in the form that the library uses, or raises a `ReIDError` with a
message of one line: where, what was given, what was expected, what to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sized
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from reidlib.errors import ReIDError

Array: TypeAlias = Tensor | np.ndarray

_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)

# The norms of features computed in bfloat16 deviate from 1 by some thousandths, those
# of features that were L2-normalised in float32 by less than a millionth.
_NORM_TOLERANCE, _NORM_ROUNDING = 0.02, 1e-5

# Elements that are looked at at once for NaN and inf.
_CHECKED = 1 << 18

LARGEST_ID = 2**62 - 1
"""Largest id that is read from text: two of them can be added as int64."""


def check_array(values: object, name: str, where: str) -> Tensor:
    """Return numbers in any layout, byte order and precision as a plain tensor.

    Tensors stay on their device. PyTorch takes no arrays with negative strides, of
    foreign byte order or of extended precision, warns of memory that is read-only, and
    computes little with unsigned integers: such arrays are converted.

    Args:
        values: What the caller gave: a tensor, an array, or a list.
        name: What the caller calls them, for the message.
        where: Calling function, for the message.

    Returns:
        A dense tensor of bool, signed integers, uint8 or floating point numbers,
        without a graph.

    Raises:
        ReIDError: If they are no numbers, or integers of 2^63 or more.
    """
    if isinstance(values, Tensor):
        tensor = values.detach()
        kinds = {
            "nested": tensor.is_nested,
            "quantised": tensor.is_quantized,
            "meta": tensor.is_meta,
        }
        for kind in filter(kinds.get, kinds):
            raise ReIDError(
                f"{where}: {name} are {kind}; give a dense tensor of numbers"
            )
        tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
        if tensor.dtype in _UNSIGNED:
            return check_array(tensor.cpu().numpy(), name, where).to(tensor.device)
        kind = str(tensor.dtype).removeprefix("torch.")
        if not tensor.is_complex():
            return tensor
    else:
        if hidden := int(np.ma.count_masked(values)) if np.ma.isMA(values) else 0:
            raise ReIDError(
                f"{where}: {hidden} of {name} are masked; fill them in (filled()), or "
                "leave those images out"
            )
        try:
            array = np.asarray(values)
            if array.dtype == object:  # a column of pandas, for instance
                array = np.asarray(array.tolist())
        except (TypeError, ValueError):
            array = np.empty(0, dtype=object)  # rows of different lengths
        kind = str(array.dtype)
        if array.dtype.kind == "u" and (array >= 1 << 63).any():
            kind = f"{kind} and go up to {array.max()}"
        elif array.dtype.kind in "biuf":
            wanted = array.dtype.newbyteorder("=")
            if array.dtype.kind == "u" and wanted.itemsize > 1:
                wanted = np.dtype(np.int64)
            elif wanted.itemsize > 8:
                wanted = np.dtype(np.float64)
            array = array.astype(wanted, copy=False)
            strange = any(step < 0 or step % wanted.itemsize for step in array.strides)
            if strange or not array.flags.writeable:
                array = array.copy()
            return torch.from_numpy(array)
    raise ReIDError(
        f"{where}: {name} are of type {kind}; give real numbers below 2^63, as a "
        "tensor or an array"
    )


def check_features(
    features: Array, where: str, *, normalised: bool, name: str = "features"
) -> Tensor:
    """Return the features as a detached float32 tensor ``(N, D)``.

    Args:
        features: What the caller gave.
        where: Calling function, for the message.
        normalised: Whether rows must be L2-normalised.
        name: What the caller calls them, for the message.

    Raises:
        ReIDError: If they are not a finite matrix of at least one row, or are not
            normalised although they must be. Rows whose length is off by the rounding
            of 16-bit numbers are L2-normalised; others stay as they are, bit for bit.
    """
    if not isinstance(features, Tensor | np.ndarray):
        raise ReIDError(
            f"{where}: {name} are a {type(features).__name__}; give a tensor or an "
            f"array of shape (N, D)"
        )
    matrix = check_array(features, name, where)
    if matrix.ndim != 2:
        raise ReIDError(
            f"{where}: {name} have shape {tuple(matrix.shape)}; give (N, D), one row "
            f"per image"
        )
    if 0 in matrix.shape:
        raise ReIDError(
            f"{where}: {name} have shape {tuple(matrix.shape)}; give at least one "
            f"image and one dimension"
        )
    matrix = matrix.float()
    if not all(bool(value.isfinite()) for value in matrix.aminmax()):
        # Some rows at a time: a copy of all features would be the largest in memory.
        parts = matrix.split(max(1, _CHECKED // matrix.shape[1]))
        finite = torch.cat([torch.isfinite(part).all(dim=1) for part in parts])
        bad = (~finite).nonzero()[:, 0]
        raise ReIDError(
            f"{where}: {name} of {len(bad)} of {len(matrix)} images hold NaN or inf, "
            f"first in row {int(bad[0])}; check the loss and the images"
        )
    if normalised:
        norms = matrix.norm(dim=1)
        off = ((norms - 1).abs() > _NORM_TOLERANCE).nonzero()[:, 0]
        if len(off):
            raise ReIDError(
                f"{where}: {len(off)} of {len(matrix)} {name} are not L2-normalised, "
                f"first row {int(off[0])} of length {float(norms[off[0]]):.3g}; give "
                f"torch.nn.functional.normalize(features, dim=1)"
            )
        rounded = (norms - 1).abs() > _NORM_ROUNDING
        if rounded.any():
            norms = torch.where(rounded, norms, 1)
            matrix = matrix / norms[:, None]
    return matrix


def check_feature_pair(
    query: Array, gallery: Array, where: str
) -> tuple[Tensor, Tensor]:
    """Return query and gallery features as float32 tensors on the query's device.

    Raises:
        ReIDError: As `check_features`, or if they differ in their dimensions.
    """
    query = check_features(query, where, normalised=False, name="query features")
    gallery = check_features(gallery, where, normalised=False, name="gallery features")
    if query.shape[1] != gallery.shape[1]:
        raise ReIDError(
            f"{where}: query features have {query.shape[1]} dimensions and gallery "
            f"features {gallery.shape[1]}; extract both with one model"
        )
    return query, gallery.to(query.device)


def free_memory() -> int | None:
    """Return the bytes that the machine, or its container, has free; None: unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":") for line in lines)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{n}").read_text() for n in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def check_memory(needed: int, what: str, where: str, advice: str) -> None:
    """Raise `ReIDError` before so much is allocated, if it would not fit.

    Args:
        needed: Bytes, about.
        what: What needs them, for the message.
        where: Calling function, for the message.
        advice: What to do instead.

    Raises:
        ReIDError: If less memory is free. Where that is unknown, nothing is raised.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise ReIDError(
            f"{where}: {what} take {needed / 2**30:.1f} GiB and {free / 2**30:.1f} are "
            f"free; {advice}"
        )


def whole_number(text: str) -> int | None:
    """Return the whole number that a text is, or None if it is something else.

    Digits, with a minus sign at most: `int` also takes underscores (``0002_1`` is 21)
    and the digits of all scripts.

    Args:
        text: For instance a field of a CSV file.

    Returns:
        The number, None also if it is beyond `LARGEST_ID`.

    Example:
        >>> whole_number("0021"), whole_number("0002_1"), whole_number("9" * 20)
        (21, None, None)
    """
    if not re.fullmatch("-?[0-9]+", text):
        return None
    digits = text.lstrip("-0") or "0"
    # Python refuses to convert thousands of digits.
    if len(digits) > len(str(LARGEST_ID)) or int(digits) > LARGEST_ID:
        return None
    return -int(digits) if text.startswith("-") else int(digits)


def decimal_number(text: str) -> float | None:
    """Return the number that a text is, or None if it is something else.

    `float` also takes underscores (``1_0`` is 10) and the digits of all scripts.

    Example:
        >>> decimal_number("1e-3"), decimal_number("1_0")
        (0.001, None)
    """
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def check_ids(ids: object, name: str, where: str) -> np.ndarray:
    """Return whole numbers, person ids for instance, as int64 ``(N,)``.

    Args:
        ids: ``(N,)`` or ``(N, 1)`` whole numbers, of a floating point type too.
        name: What the caller calls them, for the message.
        where: Calling function, for the message.

    Raises:
        ReIDError: If they have another shape, are no numbers or not whole, or are too
            large for their type to tell them from their neighbours.
    """
    tensor = check_array(ids, name, where).cpu()
    if tensor.ndim == 2 and tensor.shape[1] == 1:
        tensor = tensor[:, 0]
    if tensor.ndim != 1 or tensor.dtype == torch.bool:
        raise ReIDError(
            f"{where}: {name} have shape {tuple(tensor.shape)} and type "
            f"{tensor.dtype}; give whole numbers of shape (N,)"
        )
    if tensor.is_floating_point():
        # From here on a whole number and the next one are the same.
        limit = 2 / torch.finfo(tensor.dtype).eps
        tensor = tensor.double()
        exact = (tensor == tensor.round()) & (tensor.abs() < limit)
        if not exact.all():
            row = int((~exact).nonzero()[0, 0])
            raise ReIDError(
                f"{where}: {int((~exact).sum())} of {len(tensor)} {name} are not whole "
                f"numbers, or too large for their type to tell them apart, first "
                f"{float(tensor[row]):.17g} in row {row}; give whole numbers"
            )
    return tensor.to(torch.int64).numpy()


def check_truth(values: object, name: str, where: str) -> np.ndarray:
    """Return true or false of every image as bool ``(N,)``.

    Args:
        values: ``(N,)`` or ``(N, 1)``, of bool or of the numbers 0 and 1.
        name: What the caller calls them, for the message.
        where: Calling function, for the message.

    Raises:
        ReIDError: If they have another shape or other values.
    """
    told = check_array(values, name, where).cpu()
    if told.ndim == 2 and told.shape[1] == 1:
        told = told[:, 0]
    if told.ndim != 1 or not bool(((told == 0) | (told == 1)).all()):
        raise ReIDError(
            f"{where}: {name} has shape {tuple(told.shape)} or values other than true "
            "and false; give (N,) bool"
        )
    return told.bool().numpy()


def check_seed(seed: object, where: str) -> np.random.Generator:
    """Return the generator of a seed, a whole number from 0 up, or the one given."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(check_count(seed, "seed", where, least=0))


def check_labels(labels: Array, where: str) -> np.ndarray:
    """Return pseudo labels, -1 for an outlier, as int64 ``(N,)``, or raise."""
    array = check_ids(labels, "pseudo labels", where)
    if len(array) and array.min() < -1:
        raise ReIDError(
            f"{where}: the lowest label is {array.min()}; clusters are numbered from 0 "
            "and -1 is an outlier"
        )
    return array


def check_camids(camids: Array, where: str) -> np.ndarray:
    """Return the camera of every image as int64 ``(N,)``, or raise."""
    array = check_ids(camids, "camids", where)
    if len(array) and array.min() < 0:
        raise ReIDError(
            f"{where}: {int((array < 0).sum())} of {len(array)} images have no camera; "
            "write the camera of every image into the table, or choose a method that "
            "needs none, such as the baseline"
        )
    return array


def check_same_length(where: str, **columns: Sized) -> None:
    """Raise `ReIDError` unless all columns have one value per image."""
    if len({len(column) for column in columns.values()}) > 1:
        *first, last = (
            f"{len(column)} {name.replace('_', ' ')}"
            for name, column in columns.items()
        )
        raise ReIDError(
            f"{where}: {', '.join(first)} and {last}; give one of each per image, from "
            "the same table"
        )


def check_count(value: object, name: str, where: str, *, least: int = 1) -> int:
    """Return a whole number of at least ``least``, or raise `ReIDError`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ReIDError(
            f"{where}: {name} is {value!r}; give a whole number from {least} up"
        )
    return int(value)


def check_number(
    value: object,
    name: str,
    where: str,
    low: float,
    high: float,
    *,
    closed: Literal["both", "left", "right", "neither"] = "both",
) -> float:
    """Return a number in an interval, or raise `ReIDError`.

    Args:
        value: What the caller gave.
        name: What the caller calls it, for the message.
        where: Calling function, for the message.
        low: Lower end of the interval.
        high: Upper end of the interval.
        closed: Ends that belong to the interval.
    """
    left, right = closed in ("both", "left"), closed in ("both", "right")
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
    above = number >= low if left else number > low
    below = number <= high if right else number < high
    if not (above and below):
        interval = f"{'[' if left else '('}{low:g}, {high:g}{']' if right else ')'}"
        raise ReIDError(f"{where}: {name} is {value!r}; give a number in {interval}")
    return number


def check_choice(
    value: object, name: str, where: str, choices: Collection[str]
) -> None:
    """Raise `ReIDError` unless the value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ReIDError(
            f"{where}: {name} is {' '.join(repr(value).split()):.60}; choose from "
            f"{', '.join(choices)}"
        )


def check_num_clusters(num_clusters: object, num_images: int, where: str) -> int:
    """Return a number of clusters given as a count or as a share of the images.

    Args:
        num_clusters: Whole number from 1 to ``num_images``, or a float in (0, 1] that
            is multiplied by ``num_images`` and rounded down, but to at least 1.
        num_images: N.
        where: Calling function, for the message.

    Raises:
        ReIDError: If it is neither, or larger than ``num_images``.
    """
    if isinstance(num_clusters, float | np.floating):
        share = check_number(num_clusters, "num_clusters", where, 0, 1, closed="right")
        return max(1, math.floor(num_images * share + 1e-9))
    count = check_count(num_clusters, "num_clusters", where)
    if count > num_images:
        raise ReIDError(
            f"{where}: num_clusters is {count} for {num_images} images; give at most "
            f"{num_images}, or a share of the images such as 0.2"
        )
    return count


def check_batch(rows: Tensor, labels: Tensor) -> None:
    """Raise unless there is one label for each row; values are not looked at.

    Args:
        rows: ``(B, D)``.
        labels: ``(B,)``.
    """
    if rows.ndim != 2 or labels.ndim != 1 or len(rows) != len(labels) or not len(rows):
        raise ReIDError(
            f"got a batch of shape {tuple(rows.shape)} with labels of shape "
            f"{tuple(labels.shape)}; give (B, D) and (B,) with B > 0"
        )
    if labels.dtype != torch.int64:
        raise ReIDError(
            f"got labels of type {labels.dtype}; give whole numbers as torch.int64"
        )


def check_classes(labels: Tensor, num_classes: int) -> None:
    """Raise unless all labels are in range; copies two numbers to the host.

    A loss does not call this in each step, because it would have to wait for the GPU.
    Call it once per epoch on the labels that the batches are drawn from, unless they
    come from `cluster_centroids`, which checks them.

    Args:
        labels: ``(N,)`` int64.
        num_classes: Labels must be from 0 to one less than this.

    Raises:
        ReIDError: If a label is negative or too large.

    Example:
        >>> check_classes(Tensor([0, 2, 1]).long(), 3)
    """
    if not len(labels):
        return
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= num_classes:
        raise ReIDError(
            f"labels go from {low} to {high}; they must be in 0 to {num_classes - 1}: "
            "leave outliers (-1) out of the batch"
        )


@contextmanager
def explain_classes(labels: Tensor, num_classes: int) -> Iterator[None]:
    """Explain PyTorch's error about a label that is out of range, at no cost.

    PyTorch itself refuses such a label: on the CPU with an `IndexError`, which is
    explained here, and on a GPU with a failed assertion.
    """
    try:
        yield
    except IndexError:
        check_classes(labels, num_classes)
        raise


def check_positive(name: str, value: float) -> None:
    """Raise `ReIDError` unless a setting is above 0."""
    if not value > 0:
        raise ReIDError(f"{name} is {value}; it must be positive")
