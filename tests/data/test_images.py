"""Image sources: equal pixels in memory and streamed, and errors for broken files."""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidlib.data import (
    ImageTable,
    InMemoryImages,
    StreamedImages,
    open_images,
    read_image,
    unreadable_images,
)
from reidlib.errors import ReIDError

SIZE = (12, 6)


@pytest.fixture
def table(write_images):
    names = [f"{number}.png" for number in range(7)]
    root = write_images(names)
    return ImageTable(root, names, np.arange(7) + 1, np.zeros(7))


def test_both_sources_give_the_pixels_of_the_files(table):
    index = [torch.tensor([3, 0]), np.array([6]), torch.tensor([1, 1, 2])]
    expected = np.stack([read_image(table.file(row), SIZE) for row in range(7)])
    for source in (InMemoryImages(table, SIZE), StreamedImages(table, SIZE)):
        assert len(source) == 7
        batches = list(source.batches(index))
        for rows, batch in zip(index, batches, strict=True):
            assert batch.dtype == torch.uint8
            assert batch.shape == (len(rows), 3, *SIZE)
            np.testing.assert_array_equal(
                batch.permute(0, 2, 3, 1), expected[np.asarray(rows)]
            )


def test_resizing_is_bicubic_in_height_by_width(table):
    with Image.open(table.file(0)) as image:
        expected = image.resize((6, 12), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(read_image(table.file(0), (12, 6)), expected)


def test_the_budget_decides(table):
    needed = 7 * 3 * 12 * 6
    assert isinstance(open_images(table, SIZE, memory_budget=needed), InMemoryImages)
    streamed = open_images(table, SIZE, memory_budget=needed - 1)
    assert isinstance(streamed, StreamedImages)


def test_streaming_reads_ahead_but_takes_endless_batches(table):
    asked = []

    def endless():
        for number in itertools.count():
            asked.append(number)
            yield torch.tensor([number % 7])

    batches = StreamedImages(table, SIZE, ahead=3).batches(endless())
    next(batches)
    assert asked == [0, 1, 2, 3]
    next(batches)
    assert asked == [0, 1, 2, 3, 4]
    batches.close()


def test_an_empty_table_has_no_batches(table):
    for source in (InMemoryImages(table[:0], SIZE), StreamedImages(table[:0], SIZE)):
        assert len(source) == 0
        assert list(source.batches([])) == []


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_other_modes_become_rgb(tmp_path, mode):
    grey = Image.linear_gradient("L").resize((16, 16))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    elif mode == "P":
        image = grey.quantize(256)
    else:
        image = grey.convert("RGB").convert(mode)
    file = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(file)
    pixels = read_image(file)
    assert pixels.shape == (16, 16, 3)
    if mode != "1":
        grey_rgb = np.asarray(grey.convert("RGB")).astype(int)
        assert abs(pixels.astype(int) - grey_rgb).max() <= 3


RAMP = np.tile(np.linspace(0, 1, 32), (8, 1))


@pytest.mark.parametrize(
    "values",
    [
        (RAMP * 65535).astype(np.uint16),
        (RAMP * 16383).astype(np.uint16),  # 14 bits in a file of 16
        (RAMP * 4095).astype(np.uint16),
        (RAMP * 255).astype(np.uint16),
        (RAMP * 65535).astype(">u2"),
        (RAMP * 16383).astype(np.int16),
        (RAMP * 255).astype(np.int32),
        (RAMP * 65535).astype(np.int32),
        RAMP.astype(np.float32),
    ],
    ids=lambda values: f"{values.dtype} 0..{values.max():.0f}",
)
def test_deep_grey_images_are_neither_white_nor_dark(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "image.tif")
    pixels = read_image(tmp_path / "image.tif").astype(int)
    assert abs(pixels - 255 * RAMP[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("low", "high", "kind", "told"),
    [
        (20, 40, np.float32, "image.tif holds floats from 20 to 40, of which none is"),
        (-0.1, 1, np.float32, "holds floats from -0.1 to 1"),
        (np.nan, np.nan, np.float32, "holds floats from nan to nan"),
        (0, np.inf, np.float32, "holds floats"),
        (
            -5,
            9,
            np.int32,
            "holds values from -5 to 9, of which none is known to be bla",
        ),
    ],
)
def test_values_of_unknown_meaning_are_refused(tmp_path, low, high, kind, told):
    Image.fromarray(np.array([[low, high]], kind)).save(tmp_path / "image.tif")
    with pytest.raises(ReIDError, match=told) as caught:
        read_image(tmp_path / "image.tif")
    assert "\n" not in str(caught.value)
    assert "damaged" not in str(caught.value)


def write_deep_colours(file: Path, values: np.ndarray, bands: int) -> None:
    """Write 16 bits per channel, as PNG or TIFF; Pillow writes neither."""
    height, width = values.shape
    pixels = np.repeat(values[..., None], bands, axis=2)
    if bands in (2, 4):
        pixels[..., -1] = 65535  # alpha
    if file.suffix == ".png":
        kind = {2: 4, 3: 2, 4: 6}[bands]
        lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
        header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
        file.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(data))
                + name
                + data
                + struct.pack(">I", zlib.crc32(name + data))
                for name, data in chunks
            )
        )
        return
    write_tiff(file, pixels.astype("<u2"), photometric=2, sample_format=1)


def write_tiff(
    file: Path, pixels: np.ndarray, photometric: int, sample_format: int
) -> None:
    """Write an uncompressed TIFF with tags of choice."""
    height, width, bands = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 0),
        (277, bands),
        (278, height),
        (279, pixels.nbytes),
        (338, 2),
        (339, sample_format),
    ]
    tags = [tag for tag in tags if tag[0] != 338 or bands == 4]
    after = 8 + 2 + 12 * len(tags) + 4
    directory = struct.pack("<H", len(tags))
    for tag, value in tags:
        if tag in (258, 339) and bands > 1:
            place = after if tag == 258 else after + 2 * bands
            directory += struct.pack("<HHII", tag, 3, bands, place)
        else:
            value = after + 4 * bands if tag == 273 else value
            directory += struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value)
    file.write_bytes(
        struct.pack("<2sHI", b"II", 42, 8)
        + directory
        + struct.pack("<I", 0)
        + struct.pack(f"<{bands}H", *[bits] * bands)
        + struct.pack(f"<{bands}H", *[sample_format] * bands)
        + pixels.tobytes()
    )


@pytest.mark.parametrize(
    ("name", "bands"),
    [("x.png", 2), ("x.png", 3), ("x.png", 4), ("x.tif", 3), ("x.tif", 4)],
)
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_colours_are_read_right_or_refused(tmp_path, name, bands, bits):
    values = (RAMP * (2**bits - 1)).astype(np.uint16)
    write_deep_colours(tmp_path / name, values, bands)
    if bits == 16:
        pixels = read_image(tmp_path / name).astype(int)
        assert abs(pixels - 255 * RAMP[..., None]).max() <= 1
        return
    with pytest.raises(ReIDError, match=r"colours of 16 bits .*; save it with 8 bits"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("values", "photometric", "sample_format", "told"),
    [
        (RAMP * 65535, 0, 1, "of which 0 is white; save it with 0 as black"),
        (RAMP.astype(np.float32), 0, 3, "of which 0 is white; save it with 0 as black"),
        ((255 * RAMP - 128).astype(np.int8), 1, 2, "holds values from -128 to 127, of"),
        (np.array([[-300, 5]], np.int16), 1, 2, "holds values from -300 to 5, of"),
    ],
)
def test_tiff_tags_that_turn_the_meaning_of_values_are_heeded(
    tmp_path, values, photometric, sample_format, told
):
    if values.dtype == np.float64:
        values = values.astype(np.uint16)
    write_tiff(tmp_path / "x.tif", values[..., None], photometric, sample_format)
    with pytest.raises(ReIDError, match=told):
        read_image(tmp_path / "x.tif")


def test_whole_numbers_with_a_sign_are_read_where_none_is_negative(tmp_path):
    values = np.array([[0, 5, 127]], np.int8)
    write_tiff(tmp_path / "x.tif", values[..., None], 1, 2)
    assert read_image(tmp_path / "x.tif")[0, :, 0].tolist() == [0, 5, 127]


def test_a_sign_takes_a_bit(tmp_path):
    cv2 = pytest.importorskip("cv2")
    ramp = np.linspace(0, 32767, 256).round().astype(np.int16).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "x.tif"), ramp)
    found = read_image(tmp_path / "x.tif")[..., 0].ravel()
    assert np.abs(found.astype(int) - np.arange(256)).max() <= 1
    for kind, white in ((np.int16, 2**15 - 1), (np.int32, 2**31 - 1)):
        values = np.array([[0, white // 2, white]], kind)
        write_tiff(tmp_path / "y.tif", values[..., None], 1, 2)
        assert read_image(tmp_path / "y.tif")[0, :, 0].tolist() == [0, 127, 255]
    values = np.array([[0, 32767]], np.uint16)  # without one they are of 16 bits
    write_tiff(tmp_path / "z.tif", values[..., None], 1, 1)
    assert read_image(tmp_path / "z.tif")[0, :, 0].tolist() == [0, 127]


def test_planes_of_16_bits_are_refused(tmp_path):
    lists = {
        258: [16] * 3,
        273: [158, 160, 162],
        279: [2] * 3,
    }
    single = {256: 1, 257: 1, 259: 1, 262: 2, 277: 3, 278: 1, 284: 2}
    directory, beyond = b"", b""
    for tag in sorted(lists | single):
        if tag in single:
            directory += struct.pack("<HHII", tag, 3, 1, single[tag])
        else:
            directory += struct.pack("<HHII", tag, 3, 3, 134 + len(beyond))
            beyond += struct.pack("<3HH", *lists[tag], 0)
    content = struct.pack("<2sHIH", b"II", 42, 8, 10) + directory + bytes(4) + beyond
    assert len(content) == 158
    pixels = np.array([200 << 8, 100 << 8, 50 << 8], "<u2").tobytes()
    (tmp_path / "x.tif").write_bytes(content + pixels)
    with pytest.raises(ReIDError, match="one channel after the other"):
        read_image(tmp_path / "x.tif")


def test_a_name_that_is_too_long_names_no_file(tmp_path):
    with pytest.raises(ReIDError, match="does not exist; restore it"):
        read_image(tmp_path / f"{'x' * 300}.jpg")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):
        with pytest.raises(ReIDError, match=f"{name} is a folder, a pipe or a device"):
            read_image(tmp_path / name)


def test_an_alpha_channel_is_dropped_not_blended(tmp_path):
    pixels = np.full((4, 4, 4), (200, 100, 50, 0), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert (read_image(tmp_path / "image.png") == (200, 100, 50)).all()


def test_orientation_tags_are_ignored(tmp_path):
    image = Image.new("RGB", (4, 9))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "image.jpg", exif=exif)
    assert read_image(tmp_path / "image.jpg").shape == (9, 4, 3)


def break_file(file: Path, how: str) -> None:
    if how == "text":
        file.write_text("this is a shopping list")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "truncated":
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()


@pytest.mark.parametrize("name", ["x.jpg", "x.png"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("text", r"is not an image of a kind that is read \(it begins with b'this is"),
        ("empty", r"is empty \(0 bytes\); restore or remove it"),
        ("truncated", r"is damaged \(.*\); restore or remove it"),
        ("missing", "does not exist; restore it, or read the data set again"),
    ],
)
def test_broken_files_are_named_in_one_line(write_images, name, how, message):
    root = write_images([name, "good.jpg"], size=(64, 128))
    table = ImageTable(root, ["good.jpg", name], np.array([1, 1]), np.array([0, 0]))
    break_file(root / name, how)
    expected = f"{root / name} {message}"
    with pytest.raises(ReIDError, match=expected) as caught:
        read_image(root / name)
    assert "\n" not in str(caught.value)
    with pytest.raises(ReIDError, match=expected):
        InMemoryImages(table, SIZE)
    with pytest.raises(ReIDError, match=expected):
        list(StreamedImages(table, SIZE).batches([torch.tensor([0, 1])]))
    reasons = unreadable_images(table)
    assert list(reasons) == [1]
    assert str(root / name) in reasons[1]


def test_an_image_of_too_many_pixels_is_not_called_damaged(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "x.png")
    with pytest.raises(ReIDError, match=r"x.png has 178,956,970 pixels or more, too"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("size", [(0, 64), (128,), (-1, 3), (2.5, 3), "ab", 7])
def test_sizes_that_make_no_image_are_refused(table, size):
    with pytest.raises(ReIDError, match=r"^image size .* give height and width"):
        read_image(table.file(0), size)
    for call in (InMemoryImages, StreamedImages, open_images):
        with pytest.raises(ReIDError, match="give height and width in pixels"):
            call(table, size)
