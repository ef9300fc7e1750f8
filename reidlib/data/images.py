"""Images as uint8 tensors: all of them in memory, or streamed from disk."""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from numbers import Integral
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from reidlib.data.table import ImageTable
from reidlib.errors import ReIDError
from reidlib.files import file_sha256
from reidlib.terminal import watched

Index = Tensor | np.ndarray


class ImageSource(Protocol):
    """Decoded, resized images of a table, by row number.

    Attributes:
        size: Height and width of every image.
        device: Device of the batches.
    """

    size: tuple[int, int]
    device: torch.device

    def __len__(self) -> int:
        """Return the number of images."""

    def batches(self, index_batches: Iterable[Index]) -> Iterator[Tensor]:
        """Yield ``(B, 3, H, W)`` uint8 images for each batch of row numbers."""


def read_image(
    path: str | os.PathLike[str], size: tuple[int, int] | None = None
) -> np.ndarray:
    """Decode one image, as RGB.

    Grey images are repeated in three channels and an alpha channel is dropped. Grey
    images of more than 8 bits (of thermal and depth cameras) do not say which value is
    white. Whole numbers are read as 8, 10, 12, 14, 16 or more bits: the fewest that
    hold the image's highest value; those with a sign are of 15 where others are of 16,
    and of 31. Floats are read from 0, black, to 1, white, and
    refused beyond. So are such images whose 0 is white, and colours of 16 bits per
    channel that use less than 15 of them. Orientation tags (EXIF) are ignored, because
    the crops of re-identification data sets are stored upright. Resizing is bicubic
    with anti-aliasing, as in the papers.

    Args:
        path: Image file.
        size: Height and width in pixels to resize to; None keeps the image's own.

    Returns:
        ``(H, W, 3)`` uint8.

    Raises:
        ReIDError: If the file is missing, empty, truncated or not an image, if its
            values do not say what is white, or if the size is none.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> file = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (5, 7), 9).save(file)
        >>> read_image(file, size=(4, 2)).shape
        (4, 2, 3)
    """
    if size is not None:
        check_size(size)
    file = Path(path)
    try:
        if not file.is_file():  # to read a named pipe would wait for ever
            raise ReIDError("is no file")
        return decode_image(file.read_bytes(), size)
    except (OSError, ReIDError) as error:
        raise ReIDError(_why(file, error)) from error


def decode_image(content: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode an image's bytes; see `read_image`.

    Args:
        content: The bytes of an image file.
        size: Height and width in pixels to resize to; None keeps the image's own.

    Returns:
        ``(H, W, 3)`` uint8.

    Raises:
        OSError: If the bytes are not an image, or are truncated.
        ReIDError: If its values do not say what is white.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("RGBA", (5, 7)).save(buffer, "png")
        >>> decode_image(buffer.getvalue()).shape
        (7, 5, 3)
    """
    try:
        with Image.open(io.BytesIO(content)) as file:
            return rgb_pixels(file, size)
    except ReIDError:
        raise
    except Image.DecompressionBombError as error:
        raise ReIDError(
            f"has {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels or more, too many for a "
            "crop of a person; save it smaller"
        ) from error
    except (SyntaxError, ValueError) as error:
        # Pillow reports some broken PNG and BMP files with these.
        raise OSError(str(error)) from error


def rgb_pixels(image: Image.Image, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return the pixels of a Pillow image; what is white is found as in `read_image`.

    Args:
        image: Of any mode, of a file or not.
        size: Height and width in pixels to resize to; None keeps the image's own.

    Returns:
        ``(H, W, 3)`` uint8.

    Raises:
        OSError: If it is of a file that is truncated.
        ReIDError: If its values do not say what is white.

    Example:
        >>> rgb_pixels(Image.new("F", (2, 1), 1.0)).tolist()
        [[[255, 255, 255], [255, 255, 255]]]
    """
    deep_colour = bool(re.search(";16[BLN]", str(getattr(image, "tile", ""))))
    white_is_zero, signed, garbled = _tiff_meaning(image)
    if garbled:
        raise ReIDError(
            "holds 16 bits per channel, one channel after the other, which is not "
            "read; save it with 8 bits per channel"
        )
    if image.mode.startswith(("I", "F")):
        if white_is_zero:
            raise ReIDError(
                "holds values of more than 8 bits of which 0 is white; save it with 0 "
                "as black"
            )
        image = Image.fromarray(_eight_bits(np.asarray(image), signed))
    elif signed:  # Pillow reads them modulo 256
        image = Image.fromarray(_eight_bits(np.asarray(image).view(np.int8)))
    elif deep_colour:
        _check_deep_colour(image)
    image = image.convert("RGB")
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image)


def _tiff_meaning(file: Image.Image) -> tuple[bool, bool, bool]:
    """Return whether 0 is white, values have a sign, and Pillow garbles them.

    It reads uncompressed planes of 16 bits as planes of 8.
    """
    if not isinstance(file, TiffImagePlugin.TiffImageFile):
        return False, False, False
    formats = file.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
    white = file.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    bits = file.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    planes = file.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    garbled = planes and len(bits) > 1 and max(bits) > 8 and file.tile[0][0] == "raw"
    return white, 2 in np.atleast_1d(formats), garbled


def _check_deep_colour(file: Image.Image) -> None:
    """Raise if colours of 16 bits hold fewer; Pillow keeps the high byte alone."""
    colours = [file.getchannel(c) for c in file.getbands() if c not in "Aa"]
    if max(np.asarray(colour).max() for colour in colours) < 1 << 6:
        raise ReIDError(
            "holds colours of 16 bits that use 14 of them at most, of which none is "
            "known to be white; save it with 8 bits per channel"
        )


def _eight_bits(values: np.ndarray, signed: bool = False) -> np.ndarray:
    """Return grey values of another depth as uint8; Pillow would clip them.

    Args:
        values: ``(H, W)``.
        signed: Whether the file has room for a sign: of 16 bits 15 are left.
    """
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # so for NaN
            raise ReIDError(
                f"holds floats from {low:g} to {high:g}, of which none is known to be "
                "white; save it with floats from 0 to 1, or with 8 or 16 bits"
            )
        return np.rint(255 * values).astype(np.uint8)
    if low < 0:
        raise ReIDError(
            f"holds values from {low} to {high}, of which none is known to be black; "
            "save it with values from 0 up"
        )
    bits = max(8, int(high).bit_length())
    if not (signed and bits in (15, 31)):
        bits += bits % 2
    return (values >> (bits - 8)).astype(np.uint8)


def _why(file: Path, error: Exception) -> str:
    if not os.path.exists(file):  # no error where the name is too long
        return f"{file} does not exist; restore it, or read the data set again"
    if not file.is_file():
        return f"{file} is a folder, a pipe or a device, not a file; remove it"
    if not os.access(file, os.R_OK):
        return f"{file} cannot be opened ({error}); correct its permissions"
    if file.stat().st_size == 0:
        return f"{file} is empty (0 bytes); restore or remove it"
    if isinstance(error, UnidentifiedImageError):
        with file.open("rb") as stream:
            head = stream.read(12)
        return (
            f"{file} is not an image of a kind that is read (it begins with {head!r}); "
            "restore or remove it, or save it as PNG or JPEG"
        )
    if isinstance(error, ReIDError):
        return f"{file} {error}"
    return f"{file} is damaged ({error}); restore or remove it"


def unreadable_images(table: ImageTable, workers: int = 2) -> dict[int, str]:
    """Find the images that cannot be decoded.

    Args:
        table: Images to read; each is decoded once.
        workers: Number of threads.

    Returns:
        Row number to reason, one line each; empty if all can be read.

    Example:
        >>> from reidlib.data import open_dataset
        >>> unreadable_images(open_dataset("synthcity", size="tiny").query)
        {}
    """

    def reason(row: int) -> str:
        try:
            read_image(table.file(row))
            file_sha256(table.file(row))  # known now, for the fingerprint
        except ReIDError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(workers) as pool:
        reasons = list(progress(pool.map(reason, range(len(table))), len(table)))
    return {row: reason for row, reason in enumerate(reasons) if reason}


class InMemoryImages:
    """Images decoded once and kept as one uint8 tensor on the device.

    Args:
        table: Images to decode.
        size: Height and width in pixels.
        device: Where the tensor is kept.
        workers: Number of decoding threads.

    Raises:
        ReIDError: If an image cannot be read.

    Example:
        >>> from reidlib.data import open_dataset
        >>> table = open_dataset("synthcity", size="tiny").query
        >>> images = InMemoryImages(table, size=(64, 32))
        >>> next(images.batches([torch.tensor([0, 2])])).shape
        torch.Size([2, 3, 64, 32])
    """

    def __init__(
        self,
        table: ImageTable,
        size: tuple[int, int] = (128, 64),
        device: str | torch.device = "cpu",
        workers: int = 2,
    ) -> None:
        check_size(size)
        self.size = size
        self.device = torch.device(device)
        pixels = np.empty((len(table), 3, *size), dtype=np.uint8)

        def load(row: int) -> None:
            pixels[row] = read_image(table.file(row), size).transpose(2, 0, 1)

        with ThreadPoolExecutor(workers) as pool:
            try:
                for _ in progress(pool.map(load, range(len(table))), len(table)):
                    pass
            except ReIDError:
                pool.shutdown(cancel_futures=True)
                raise
        self.pixels = torch.from_numpy(pixels).to(self.device)

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, index_batches: Iterable[Index]) -> Iterator[Tensor]:
        """Yield ``(B, 3, H, W)`` uint8 images for each batch of row numbers."""
        for index in index_batches:
            yield self.pixels[torch.as_tensor(index).to(self.device)]


class StreamedImages:
    """Images decoded on demand, some batches ahead.

    Args:
        table: Images to decode.
        size: Height and width in pixels.
        device: Where the batches are sent.
        workers: Number of decoding threads.
        ahead: Number of batches that are decoded in advance.

    Raises:
        ReIDError: From `batches`, if an image cannot be read.

    Example:
        >>> from reidlib.data import open_dataset
        >>> table = open_dataset("synthcity", size="tiny").query
        >>> images = StreamedImages(table, size=(64, 32))
        >>> next(images.batches([torch.tensor([0, 2])])).shape
        torch.Size([2, 3, 64, 32])
    """

    def __init__(
        self,
        table: ImageTable,
        size: tuple[int, int] = (128, 64),
        device: str | torch.device = "cpu",
        workers: int = 2,
        ahead: int = 2,
    ) -> None:
        check_size(size)
        self.size = size
        self.device = torch.device(device)
        self._table = table
        self._workers = workers
        self._ahead = ahead

    def __len__(self) -> int:
        return len(self._table)

    def batches(self, index_batches: Iterable[Index]) -> Iterator[Tensor]:
        """Yield ``(B, 3, H, W)`` uint8 images for each batch of row numbers."""
        pool = ThreadPoolExecutor(self._workers)
        waiting: deque[list[Future[np.ndarray]]] = deque()
        try:
            for index in index_batches:
                rows = torch.as_tensor(index).tolist()
                waiting.append([pool.submit(self._read, row) for row in rows])
                if len(waiting) > self._ahead:
                    yield self._collect(waiting.popleft())
            while waiting:
                yield self._collect(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, row: int) -> np.ndarray:
        return read_image(self._table.file(row), self.size).transpose(2, 0, 1)

    def _collect(self, futures: list[Future[np.ndarray]]) -> Tensor:
        pixels = np.empty((len(futures), 3, *self.size), dtype=np.uint8)
        for position, future in enumerate(futures):
            pixels[position] = future.result()
        batch = torch.from_numpy(pixels)
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)


def open_images(
    table: ImageTable,
    size: tuple[int, int] = (128, 64),
    device: str | torch.device = "cpu",
    memory_budget: int = 2 << 30,
    workers: int = 2,
) -> InMemoryImages | StreamedImages:
    """Open a table's images: in memory if they fit a budget, else streamed.

    Both give the same batches for the same row numbers.

    Args:
        table: Images to open.
        size: Height and width in pixels.
        device: Device of the batches.
        memory_budget: Bytes that the decoded images may take on the device; an image
            takes ``3 * H * W``.
        workers: Number of decoding threads.

    Returns:
        An `ImageSource`.

    Raises:
        ReIDError: If an image cannot be read.

    Example:
        >>> from reidlib.data import open_dataset
        >>> table = open_dataset("synthcity", size="tiny").query
        >>> type(open_images(table, memory_budget=0)).__name__
        'StreamedImages'
    """
    check_size(size)
    needed = 3 * size[0] * size[1] * len(table)
    if needed <= memory_budget:
        return InMemoryImages(table, size, device, workers)
    return StreamedImages(table, size, device, workers)


def check_size(size: object) -> None:
    """Raise `ReIDError` unless a size is a height and a width."""
    if (
        not isinstance(size, tuple | list)
        or len(size) != 2
        or not all(isinstance(n, Integral) and int(n) > 0 for n in size)
    ):
        raise ReIDError(
            f"image size {size!r}: give height and width in pixels, for instance "
            "(128, 64)"
        )


def progress(results: Iterable, total: int, title: str = "reading images") -> Iterable:
    """Show a bar while images are read, if that takes more than two seconds.

    The bar is plain text: the bar for notebooks ignores ``TQDM_DISABLE``, so on a slow
    machine it would appear in outputs that tests compare with the stored ones.
    """
    if not watched():
        return results
    return tqdm(results, total=total, desc=title, unit="", delay=2.0)
