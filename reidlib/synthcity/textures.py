"""Clothes as textures: small images wrapped around the parts of a body.

Every part of a body is drawn as a tube (see :mod:`reidlib.synthcity.body`), and its
clothes are an image wrapped around that tube. A column of the image is a longitude (the
middle column faces forward, the edges meet at the back) and a row is a height (row 0 on
top). A painted detail, such as a print on the chest, an open jacket or the straps of a
backpack, is then visible from the correct directions without further code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from reidlib.synthcity.identities import Colour, Garment, Identity

FloatArray = np.ndarray


@dataclass(frozen=True)
class Texture:
    """An image to wrap around a tube.

    Attributes:
        flat: ``(3, height * width)`` float32 colours from 0 to 255, one plane per
            channel, which is the order that the renderer reads fastest.
        height: Number of rows, from top to bottom of the part.
        width: Number of columns, around the part from the back to the front and back.
    """

    flat: FloatArray
    height: int
    width: int

    @classmethod
    def from_image(cls, image: FloatArray) -> Texture:
        """Return the texture of an ``(H, W, 3)`` image."""
        height, width = image.shape[:2]
        planes = np.clip(image, 0.0, 255.0).reshape(-1, 3).T
        return cls(np.ascontiguousarray(planes, dtype=np.float32), height, width)


@dataclass(frozen=True)
class Wardrobe:
    """The textures of one person, by part of the body."""

    torso: Texture
    arm: Texture
    leg: Texture
    skirt: Texture
    head: Texture
    hair: Texture
    neck: Texture
    shoe: Texture
    hat: Texture
    brim: Texture
    hood: Texture
    backpack: Texture
    bag: Texture
    handbag: Texture
    strap: Texture


def _rgb(colour: Colour) -> FloatArray:
    return np.asarray(colour, dtype=np.float32)


def _enlarge(cells: FloatArray, height: int, width: int) -> FloatArray:
    """Return a small pattern of cells enlarged without smoothing."""
    rows = np.arange(height) * cells.shape[0] // height
    columns = np.arange(width) * cells.shape[1] // width
    return cells[rows][:, columns]


def _grid(height: int, width: int, metres: tuple[float, float]) -> tuple:
    """Return rows and columns in metres, and longitude in radians (0 is front)."""
    down = np.linspace(0.0, metres[0], height, dtype=np.float32)[:, None]
    around = np.linspace(0.0, metres[1], width, dtype=np.float32)[None, :]
    longitude = np.linspace(-np.pi, np.pi, width, dtype=np.float32)[None, :]
    return down, around, longitude


def _noise(
    rng: np.random.Generator, height: int, width: int, smooth: float | tuple
) -> FloatArray:
    """Return smooth noise of zero mean and unit deviation, seamless around."""
    field = ndimage.gaussian_filter(
        rng.standard_normal((height, width)).astype(np.float32),
        smooth,
        mode=("nearest", "wrap"),
    )
    return (field - field.mean()) / (field.std() + 1e-6)


def _fill(image: FloatArray, mask: FloatArray, colour: Colour) -> None:
    """Paint the pixels of the mask; a mask of one column or row is broadcast."""
    image[np.broadcast_to(mask, image.shape[:2])] = colour


def paint_cloth(
    garment: Garment, height: int, width: int, metres: tuple[float, float]
) -> FloatArray:
    """Return a garment's cloth.

    Args:
        garment: Colours and pattern.
        height: Rows of the texture.
        width: Columns of the texture.
        metres: Height and girth of the part, which give the pattern its true size.

    Returns:
        ``(height, width, 3)`` float32 image, 0 to 255.

    Example:
        >>> shirt = Garment("red", ((200, 0, 0),) * 3, "plain", 1.0, 0)
        >>> paint_cloth(shirt, 8, 12, (0.6, 1.0)).shape
        (8, 12, 3)
    """
    rng = np.random.default_rng(garment.seed)
    first, second, third = garment.colours
    y, x, _ = _grid(height, width, metres)
    image = np.empty((height, width, 3), np.float32)
    image[:] = first
    size = garment.scale
    pattern = garment.pattern
    if pattern == "stripes":
        period = 0.085 * size
        share = rng.uniform(0.25, 0.6)
        _fill(image, (y % period) < share * period, second)
        if rng.random() < 0.4:
            _fill(image, (y % (2 * period)) < 0.25 * period, third)
    elif pattern == "pinstripes":
        period = 0.075 * size
        _fill(image, (x % period) < rng.uniform(0.3, 0.55) * period, second)
    elif pattern == "plaid":
        period = 0.13 * size
        across = ((x % period) < 0.45 * period).astype(np.float32)
        down = ((y % period) < 0.45 * period).astype(np.float32)
        weight = (0.5 * (across + down))[..., None]
        image = image * (1 - weight) + _rgb(second) * weight
        thin = ((x + 0.3 * period) % period < 0.1 * period) | (
            (y + 0.3 * period) % period < 0.1 * period
        )
        _fill(image, thin, third)
    elif pattern == "dots":
        period = 0.10 * size
        row = np.floor(y / period)
        dx = (x + 0.5 * period * (row % 2)) % period - 0.5 * period
        dy = y % period - 0.5 * period
        _fill(image, dx**2 + dy**2 < (rng.uniform(0.24, 0.36) * period) ** 2, second)
    elif pattern == "blocks":
        edge = rng.uniform(0.25, 0.7) * metres[0]
        _fill(image, y > edge, second)
        if rng.random() < 0.5:
            _fill(image, np.abs(y - edge) < 0.03, third)
    elif pattern == "raglan":
        _fill(image, y < 0.2 * metres[0] * size, second)
    elif pattern == "band":
        centre = rng.uniform(0.3, 0.55) * metres[0]
        _fill(image, np.abs(y - centre) < 0.055 * size, second)
        if rng.random() < 0.5:
            _fill(image, np.abs(y - centre) < 0.02 * size, third)
    elif pattern in ("flowers", "camouflage"):
        grain = (3.2 if pattern == "flowers" else 5.0) * size
        _fill(image, _noise(rng, height, width, grain) > 0.75, second)
        _fill(image, _noise(rng, height, width, grain) > 1.0, third)
    elif pattern == "diagonal":
        period = 0.16 * size
        slope = rng.choice((-1.0, 1.0)) * 0.8
        _fill(image, ((x + slope * y) % period) < 0.4 * period, second)
    elif pattern == "panels":
        quarter = metres[1] / 4
        side = (np.abs(x - quarter) < 0.3 * quarter) | (
            np.abs(x - 3 * quarter) < 0.3 * quarter
        )
        _fill(image, side, second)
    elif pattern == "zigzag":
        period = 0.12 * size
        wave = np.abs((x % period) / period - 0.5) * period
        _fill(image, ((y + wave) % period) < 0.42 * period, second)
    elif pattern == "print":
        _fill(image, _noise(rng, height, width, 7.0 * size) > 0.3, second)
    # Folds: light and shade that run mostly down the cloth.
    folds = _noise(rng, height, width, (7.0, 2.5))
    weave = rng.standard_normal((height, width)).astype(np.float32)
    image *= (1.0 + 0.055 * folds + 0.02 * weave)[..., None]
    image += (3.0 * folds)[..., None]
    return image


def _paint_print(
    image: FloatArray, kind: str, colour: Colour, column: float, seed: int
) -> None:
    """Paint a print on chest or back, centred at a share of the width."""
    if kind == "none":
        return
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    half = int(width * rng.uniform(0.06, 0.12))
    top = int(height * rng.uniform(0.24, 0.34))
    tall = int(height * rng.uniform(0.14, 0.36))
    y = np.linspace(-1, 1, tall)[:, None]
    x = np.linspace(-1, 1, 2 * half)[None, :]
    if kind == "badge":
        mask = (np.abs(x) < 0.5) & (np.abs(y) < 0.5)
    elif kind == "letters":
        cells = rng.random((3, 9)) < 0.62
        mask = _enlarge(cells, tall, 2 * half)
        mask &= np.abs((y * 1.5) % 1 - 0.5) < 0.32
    elif kind == "disc":
        radius = x**2 + y**2
        mask = (radius < 1.0) & ((radius > 0.45) | (radius < rng.uniform(0.0, 0.25)))
    elif kind == "bars":
        mask = ((y * rng.integers(2, 4) + x * rng.uniform(-1, 1)) % 1 < 0.5) & (x > -2)
    elif kind == "sprite":
        cells = rng.random((6, 3)) < 0.55
        mask = _enlarge(np.hstack([cells, cells[:, ::-1]]), tall, 2 * half)
    else:  # a photograph
        mask = np.broadcast_to(True, (tall, 2 * half))
    columns = (int(column * width) - half + np.arange(2 * half)) % width
    rows = np.arange(top, min(top + tall, height))
    mask = np.broadcast_to(mask, (tall, 2 * half))[: len(rows)]
    patch = np.empty((len(rows), 2 * half, 3), np.float32)
    patch[:] = colour
    if kind == "photo":
        for channel in range(3):
            patch[..., channel] = 128 + 60 * _noise(rng, len(rows), 2 * half, 2.5)
    old = image[rows[:, None], columns[None, :]]
    image[rows[:, None], columns[None, :]] = np.where(mask[..., None], patch, old)


def _torso(person: Identity) -> FloatArray:
    height, width = 96, 160
    metres = (0.62, 1.05)
    image = paint_cloth(person.upper, height, width, metres)
    y, _, longitude = _grid(height, width, metres)
    share = y / metres[0]
    dark = _rgb(person.upper.colours[0]) * 0.45
    _paint_print(
        image, person.front_print, person.print_colour, 0.5, person.upper.seed + 1
    )
    _paint_print(
        image, person.back_print, person.print_colour, 0.0, person.upper.seed + 2
    )
    if person.inner is not None:
        shirt = paint_cloth(person.inner, height, width, metres)
        half = person.opening * (0.55 + 0.75 * share)
        inside = np.broadcast_to(np.abs(longitude) < half, image.shape[:2])
        image[inside] = shirt[inside]
        edge = np.abs(np.abs(longitude) - half) < 0.05
        _fill(image, edge, (dark[0], dark[1], dark[2]))
    elif person.sleeve > 0.7:
        zip_line = np.abs(longitude) < 0.025
        _fill(image, zip_line, (dark[0], dark[1], dark[2]))
    # Neckline: skin in front, a collar behind.
    neck = share < 0.10 * np.exp(-((longitude / 0.5) ** 2)) + 0.035
    _fill(image, neck, person.skin)
    if person.tucked:
        _fill(image, share > 0.955, (40.0, 32.0, 28.0))
    if person.backpack is not None:
        strap = (np.abs(np.abs(longitude) - 0.62) < 0.13) & (share < 0.62)
        strap |= (np.abs(longitude) > 2.2) & (share < 0.1) & (share > 0.02)
        red, green, blue = person.backpack[0]
        _fill(image, strap, (0.75 * red, 0.75 * green, 0.75 * blue))
    if person.bag is not None:
        # The strap runs from one shoulder down to the other hip, before and behind.
        side = person.bag_side
        middle = (share - 0.5) * 2.1
        front = np.abs(longitude * side - middle) < 0.15
        behind = (np.pi - np.abs(longitude)) * np.sign(longitude) * side
        back = (np.abs(behind - middle) < 0.15) & (np.abs(longitude) > np.pi / 2)
        red, green, blue = person.bag
        strap = (front & (np.abs(longitude) <= np.pi / 2)) | back
        _fill(image, strap, (0.8 * red, 0.8 * green, 0.8 * blue))
    return image


def _arm(person: Identity) -> FloatArray:
    """Return shoulder to finger tips: sleeve, skin."""
    height, width = 64, 48
    if person.upper.pattern in ("raglan", "blocks"):
        garment = Garment(
            person.upper.name,
            (person.upper.colours[1],) * 3
            if person.upper.pattern == "raglan"
            else person.upper.colours,
            "plain",
            1.0,
            person.upper.seed,
        )
    elif person.upper.pattern in ("stripes", "plaid", "dots", "flowers", "camouflage"):
        garment = person.upper
    else:
        garment = Garment(
            person.upper.name, person.upper.colours, "plain", 1.0, person.upper.seed
        )
    image = paint_cloth(garment, height, width, (0.75, 0.36))
    share = np.linspace(0, 1, height)
    bare = share > min(0.86, 0.10 + 0.76 * person.sleeve)
    image[bare] = person.skin
    cuff = np.flatnonzero(bare)[0]
    image[cuff - 2 : cuff] *= 0.72
    return image


def _leg(person: Identity) -> FloatArray:
    """Return hip to ankle: trousers, skin, sock."""
    height, width = 64, 48
    image = paint_cloth(person.lower, height, width, (0.85, 0.5))
    share = np.linspace(0, 1, height)
    if person.side_stripe:
        # The legs share one texture, so that the stripe is on both sides of each.
        for column in (width // 4, 3 * width // 4):
            image[:, column - 3 : column + 3] = person.lower.colours[1]
    bare = share > (0.0 if person.skirt else person.lower_length)
    image[bare] = person.skin
    if bare.any() and not person.skirt and person.lower_length < 0.9:
        edge = np.flatnonzero(bare)[0]
        image[max(edge - 2, 0) : edge] *= 0.7
    image[(share > 0.93) & bare] = person.socks
    return image


def _head(person: Identity) -> FloatArray:
    """Return crown to chin with hair, eyes, mouth, ears, glasses and beard."""
    height, width = 64, 96
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    longitude = np.linspace(-np.pi, np.pi, width, dtype=np.float32)[None, :]
    side = np.abs(longitude)
    rng = np.random.default_rng(person.upper.seed + 3)
    image = np.empty((height, width, 3), np.float32)
    image[:] = person.skin
    image *= (1.0 - 0.12 * (y > 0.88))[..., None]
    image *= (1.0 + 0.02 * rng.standard_normal((height, width)))[..., None]
    hair = np.broadcast_to(_rgb(person.hair_colour), image.shape).copy()
    hair *= (1.0 + 0.10 * _noise(rng, height, width, (4.0, 1.0)))[..., None]
    edge = {
        "bald": np.where(side > 1.4, 0.0, -1.0) + 0.0 * y,
        "crop": np.where(side > 1.25, 0.52, 0.17) + 0.0 * y,
    }.get(person.hair)
    if edge is None:
        fringe = rng.uniform(0.2, 0.36)
        behind = 0.74 if person.hair in ("short", "curly") else 1.0
        edge = np.where(side > 1.15, behind, fringe - 0.06 * np.cos(2 * longitude))
        edge = edge + 0.0 * y
    if person.hair == "bald":
        mask = (side > 1.5) & (y > 0.42) & (y < 0.7)
    else:
        mask = y < edge
    mask = np.broadcast_to(mask, (height, width))
    image[mask] = hair[mask]
    eyes = (np.abs(side - 0.36) < 0.13) & (np.abs(y - 0.52) < 0.035)
    _fill(image, eyes, (38.0, 30.0, 28.0))
    brows = (np.abs(side - 0.36) < 0.18) & (np.abs(y - 0.45) < 0.018)
    dark = _rgb(person.hair_colour) * 0.6
    _fill(image, brows, (dark[0], dark[1], dark[2]))
    red, green, blue = person.skin
    nose = (side < 0.09) & (np.abs(y - 0.62) < 0.07)
    _fill(image, nose, (red * 0.86, green * 0.80, blue * 0.78))
    mouth = (side < 0.24) & (np.abs(y - 0.78) < 0.025)
    _fill(image, mouth, (red * 0.72, green * 0.48, blue * 0.46))
    ears = (np.abs(side - np.pi / 2) < 0.13) & (np.abs(y - 0.56) < 0.09)
    if person.hair in ("short", "bald", "crop", "bun", "ponytail"):
        _fill(image, ears, (red * 0.88, green * 0.80, blue * 0.78))
    if person.beard:
        beard = (side < 1.25) & (y > 0.70) & ~((side < 0.2) & (np.abs(y - 0.78) < 0.02))
        _fill(image, beard, (dark[0], dark[1], dark[2]))
    if person.glasses:
        ring = (np.abs(side - 0.37) < 0.25) & (np.abs(y - 0.52) < 0.075)
        if person.glasses == 1:
            ring &= ~((np.abs(side - 0.37) < 0.17) & (np.abs(y - 0.52) < 0.04))
        temple = (np.abs(y - 0.50) < 0.02) & (side < 1.5)
        _fill(image, ring | temple, (24.0, 22.0, 26.0))
    return image


def _plain(colour: Colour, height: int, width: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    image = np.empty((height, width, 3), np.float32)
    image[:] = colour
    image *= (1.0 + 0.05 * _noise(rng, height, width, (3.0, 1.0)))[..., None]
    return image


def _backpack(person: Identity) -> FloatArray:
    height, width = 48, 64
    main, pocket = person.backpack or ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    image = _plain(main, height, width, person.pid)
    y = np.linspace(0, 1, height)[:, None]
    around = np.abs(np.linspace(-np.pi, np.pi, width))[None, :]
    _fill(image, (y > 0.5) & (y < 0.9) & (around > 2.25), pocket)
    red, green, blue = main
    zips = (np.abs(y - 0.47) < 0.03) & (around > 1.7)
    _fill(image, zips, (0.4 * red + 40, 0.4 * green + 40, 0.4 * blue + 40))
    return image


def make_wardrobe(person: Identity) -> Wardrobe:
    """Paint all textures of a person.

    Args:
        person: The identity.

    Returns:
        One texture per part of the body.

    Example:
        >>> from reidlib.synthcity import Dials
        >>> from reidlib.synthcity.identities import draw_identity
        >>> someone = draw_identity(3, np.random.default_rng(3), Dials())
        >>> make_wardrobe(someone).torso.height
        96
    """
    seed = person.upper.seed
    sole = _plain(person.shoes, 12, 16, seed)
    sole[-4:] = person.soles
    handbag = _plain(person.handbag or (0.0, 0.0, 0.0), 24, 32, seed + 5)
    handbag[5:7] *= 0.6
    bag = _plain(person.bag or (0.0, 0.0, 0.0), 24, 32, seed + 6)
    bag[9:11] *= 0.6
    red, green, blue = person.skin
    hood = Garment(person.upper.name, person.upper.colours, "plain", 1.0, seed)
    dark = (35.0, 30.0, 30.0)
    images = {
        "torso": _torso(person),
        "arm": _arm(person),
        "leg": _leg(person),
        "skirt": paint_cloth(person.lower, 64, 160, (0.6, 1.2)),
        "head": _head(person),
        "hair": _plain(person.hair_colour, 48, 64, seed + 4),
        "neck": _plain((red * 0.86, green * 0.84, blue * 0.83), 8, 16, seed),
        "shoe": sole,
        "hat": _plain(person.hat_colour, 24, 32, seed + 7),
        "brim": _plain(person.hat_colour, 6, 16, seed + 8) * 0.8,
        "hood": paint_cloth(hood, 24, 48, (0.2, 0.4)) * 0.92,
        "backpack": _backpack(person),
        "bag": bag,
        "handbag": handbag,
        "strap": _plain(person.handbag or dark, 4, 8, seed),
    }
    return Wardrobe(**{name: Texture.from_image(part) for name, part in images.items()})
