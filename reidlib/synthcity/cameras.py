"""The cameras: their scenes, viewpoints and colour response.

A camera of a real data set can often be recognised in its crops without looking at the
person: by the pavement, the tint, the sharpness, the side from which people come. This
is the camera bias that unsupervised re-identification has to overcome. Each
:class:`Camera` has its own scene, drawn once in perspective, from which the background
of every crop is cut; a non-linear colour curve per channel; and a resolution, noise,
viewpoint and JPEG quality.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage

from reidlib.synthcity.dials import Dials
from reidlib.synthcity.identities import Colour

SCENE = (540, 960)
"""Height and width of a scene in pixels."""
HORIZON = -30.0
"""Row of the horizon: above the picture, because the cameras look down."""
GROUND_ROW = 236
"""Row at which the ground meets the wall."""
CAMERA_HEIGHT = 3.7
"""Height of the cameras over the ground, in metres."""

RUINED_RESOLUTION = 1 / 16
"""Factor on the resolution of a ruined image."""
RUINED_NOISE = 45.0
"""Deviation of the noise that a ruined image has in addition, in levels of 255."""
RUINED_JPEG = 8
"""JPEG quality of a ruined image."""

GROUNDS = ("tiles", "grass", "asphalt", "brick", "sand", "planks")
WALLS = ("facade", "hedge", "shops", "bricks", "glass", "concrete")

_GROUND_COLOUR: dict[str, Colour] = {
    "tiles": (172, 166, 156),
    "grass": (104, 128, 66),
    "asphalt": (88, 92, 102),
    "brick": (158, 88, 70),
    "sand": (204, 184, 142),
    "planks": (140, 108, 76),
}
_WALL_COLOUR: dict[str, Colour] = {
    "facade": (186, 172, 150),
    "hedge": (62, 92, 50),
    "shops": (130, 118, 126),
    "bricks": (134, 72, 58),
    "glass": (96, 132, 156),
    "concrete": (148, 150, 148),
}


def pixels_per_metre(row: float) -> float:
    """Return the pixels per metre of the scene at the row of a foot point.

    By similar triangles: for a pinhole camera at height ``h`` with the horizon at row
    ``r0``, a point of the ground at row ``r`` has ``(r - r0) / h`` pixels per metre.

    Example:
        >>> pixels_per_metre(540.0) > pixels_per_metre(300.0)
        True
    """
    return (row - HORIZON) / CAMERA_HEIGHT


@dataclass(frozen=True)
class Camera:
    """One camera of the city.

    Attributes:
        index: Camera id from 0.
        seed: Seed of the scene's details.
        ground: One of ``GROUNDS``.
        wall: One of ``WALLS``.
        pitch: Angle at which the camera looks down, radians.
        yaw: Direction in which most people walk, radians (0: towards the camera).
        yaw_spread: Spread of that direction, radians.
        gamma: Exponent of each channel's curve.
        gain: Factor of each channel.
        lift: Black level of each channel, 0 to 1.
        contrast: Strength of the S-curve, negative for a flat picture.
        saturation: 1 unchanged, 0 grey.
        resolution: Sharpness as a share of the full resolution.
        noise: Deviation of the sensor noise, in levels of 255.
        jpeg: JPEG quality.
        light: Direction of the light across a body, -1 left to 1 right.
    """

    index: int
    seed: int
    ground: str
    wall: str
    pitch: float
    yaw: float
    yaw_spread: float
    gamma: tuple[float, float, float]
    gain: tuple[float, float, float]
    lift: tuple[float, float, float]
    contrast: float
    saturation: float
    resolution: float
    noise: float
    jpeg: int
    light: float

    @cached_property
    def scene(self) -> np.ndarray:
        """The empty scene, ``(540, 960, 3)`` uint8."""
        return draw_scene(self.ground, self.wall, self.seed)

    @cached_property
    def scene_image(self) -> Image.Image:
        """The empty scene as a PIL image, for fast cutting and scaling."""
        return Image.fromarray(self.scene)

    def curve(self) -> np.ndarray:
        """Return the colour curves, ``(3, 256)`` float32 from 0 to 1."""
        level = np.linspace(0.0, 1.0, 256)
        rows = []
        for gamma, gain, lift in zip(self.gamma, self.gain, self.lift):
            value = lift + (1.0 - lift) * gain * level**gamma
            value = np.clip(value, 0.0, 1.0)
            bent = value * value * (3.0 - 2.0 * value)
            rows.append(value + self.contrast * (bent - value))
        return np.clip(np.stack(rows), 0.0, 1.0).astype(np.float32)

    def worse(self, strength: float) -> Camera:
        """Return this camera for an image that is worse than its own.

        Args:
            strength: 0, which changes nothing, to 1, at which hardly anything can be
                seen: a sixteenth of the resolution, heavy noise, strong compression.

        Example:
            >>> camera = draw_cameras(2, np.random.default_rng(0), Dials())[0]
            >>> camera.worse(1.0).jpeg < camera.worse(0.5).jpeg < camera.jpeg
            True
        """
        if not strength:
            return self
        return replace(
            self,
            resolution=self.resolution * RUINED_RESOLUTION**strength,
            noise=self.noise + RUINED_NOISE * strength,
            jpeg=round(self.jpeg + (RUINED_JPEG - self.jpeg) * strength),
        )


def draw_cameras(
    count: int, rng: np.random.Generator, dials: Dials
) -> tuple[Camera, ...]:
    """Draw the random cameras of a world.

    Args:
        count: Number of cameras.
        rng: Source of randomness.
        dials: ``camera_shift`` scales how far each camera is from the neutral one,
            ``image_quality`` sets resolution, noise and compression.

    Returns:
        The cameras, in the order of their ids.

    Example:
        >>> cameras = draw_cameras(6, np.random.default_rng(0), Dials())
        >>> len({camera.ground for camera in cameras})
        6
    """
    shift = dials.camera_shift
    poor = 1.0 - dials.image_quality
    grounds = rng.permutation(len(GROUNDS))
    walls = rng.permutation(len(WALLS))
    # Colour casts are spread evenly around the colour circle, so that no two are equal.
    circle = rng.permutation(count) + rng.uniform(0.0, 1.0)
    spread = np.linspace(-1.0, 1.0, max(count, 2))
    order = {
        name: rng.permutation(max(count, 2))
        for name in ("bright", "contrast", "saturation", "sharp", "yaw")
    }
    cameras = []
    for index in range(count):
        angle = 2.0 * np.pi * circle[index] / count
        cast = np.array([np.cos(angle + k * 2.0 * np.pi / 3.0) for k in range(3)])
        bright = spread[order["bright"][index]]
        gamma = np.exp(shift * (-0.50 * bright - 0.30 * cast))
        gain = 1.0 + shift * (0.05 * bright + 0.16 * cast)
        lift = np.clip(shift * (0.05 + 0.05 * rng.normal(size=3)), 0.0, 0.2)
        sharp = 0.5 + 0.5 * spread[order["sharp"][index]]
        yaw = 2.0 * np.pi * order["yaw"][index] / max(count, 2) + rng.normal(0.0, 0.2)
        cameras.append(
            Camera(
                index=index,
                seed=int(rng.integers(2**31)),
                ground=GROUNDS[grounds[index % len(GROUNDS)]],
                wall=WALLS[walls[index % len(WALLS)]],
                pitch=0.12 + shift * float(rng.uniform(-0.06, 0.2)),
                yaw=float(yaw),
                yaw_spread=0.6 + 1.2 * (1.0 - shift),
                gamma=(float(gamma[0]), float(gamma[1]), float(gamma[2])),
                gain=(float(gain[0]), float(gain[1]), float(gain[2])),
                lift=(float(lift[0]), float(lift[1]), float(lift[2])),
                contrast=0.15 + shift * 0.45 * float(spread[order["contrast"][index]]),
                saturation=0.9
                + shift * 0.35 * float(spread[order["saturation"][index]]),
                resolution=float(
                    np.clip(1.0 - poor * (0.2 + 0.6 * shift * (1.0 - sharp)), 0.3, 1)
                ),
                noise=float(poor * (4.0 + 6.0 * shift * rng.random())),
                jpeg=int(95 - poor * (15 + 40 * shift * rng.random())),
                light=float(rng.uniform(-0.7, 0.7)),
            )
        )
    return tuple(cameras)


def _rgb(colour: Colour | np.ndarray) -> np.ndarray:
    return np.asarray(colour, dtype=np.float32)


def _noise(
    rng: np.random.Generator, shape: tuple[int, int], smooth: tuple[float, float]
) -> np.ndarray:
    """Return smooth noise of zero mean and unit deviation."""
    # Smooth noise needs few pixels: draw it small and enlarge it.
    steps = [max(1, int(width / 1.5)) for width in smooth]
    small = tuple(-(-length // step) + 1 for length, step in zip(shape, steps))
    widths = [width / step for width, step in zip(smooth, steps)]
    field = ndimage.gaussian_filter(
        rng.standard_normal(small).astype(np.float32), widths, mode="wrap"
    )
    if steps != [1, 1]:
        image = Image.fromarray(field).resize(
            (small[1] * steps[1], small[0] * steps[0]), Image.Resampling.BICUBIC
        )
        field = np.asarray(image)
    field = field[: shape[0], : shape[1]]
    return (field - field.mean()) / (field.std() + 1e-6)


def _paint(image: np.ndarray, mask: np.ndarray, colour: Colour | np.ndarray) -> None:
    image[np.broadcast_to(mask, image.shape[:2])] = colour


def _ground(kind: str, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Return the ground, ``(rows, width, 3)``, from patterns laid on the plane."""
    width = SCENE[1]
    metre = (rows[:, None] - HORIZON) / CAMERA_HEIGHT
    x = (np.arange(width)[None, :] - 0.5 * width) / metre
    far = 14.0 / metre * CAMERA_HEIGHT + 0.0 * x
    base = _rgb(_GROUND_COLOUR[kind]) * rng.uniform(0.88, 1.12)
    image = np.broadcast_to(base, (*x.shape, 3)).astype(np.float32).copy()
    shape = (len(rows), width)
    coarse = _noise(rng, shape, (6, 22))
    fine = _noise(rng, shape, (0.6, 0.9))
    image *= (1.0 + 0.05 * coarse + 0.035 * fine)[..., None]
    line = base * 0.68
    if kind == "tiles":
        size = rng.uniform(0.45, 0.8)
        cell = (np.floor(x / size) * 7 + np.floor(far / size) * 13) % 5
        image *= (0.94 + 0.03 * cell)[..., None]
        _paint(image, (x % size < 0.035) | (far % size < 0.035), line)
    elif kind == "brick":
        row = np.floor(far / 0.16)
        joint = ((x + 0.16 * (row % 2)) % 0.32 < 0.03) | (far % 0.16 < 0.03)
        cell = (np.floor((x + 0.16 * (row % 2)) / 0.32) * 5 + row * 3) % 7
        image *= (0.88 + 0.04 * cell)[..., None]
        _paint(image, joint, line)
    elif kind == "planks":
        size = 0.26
        board = np.floor(far / size) % 4
        image *= (0.86 + 0.08 * board)[..., None]
        image *= (1.0 + 0.06 * _noise(rng, shape, (0.5, 18)))[..., None]
        _paint(image, far % size < 0.03, line)
    elif kind == "grass":
        image *= (1.0 + 0.16 * fine + 0.08 * _noise(rng, shape, (2, 2)))[..., None]
        image[..., 0] *= 1.0 + 0.12 * coarse
    elif kind == "sand":
        image *= (1.0 + 0.07 * _noise(rng, shape, (1.2, 5)))[..., None]
    else:  # asphalt with markings
        image *= (1.0 + 0.06 * fine)[..., None]
        lane = rng.uniform(-2.5, 2.5)
        mark = (np.abs(x - lane - 0.2 * far) < 0.07) & (far % 2.0 < 1.3)
        _paint(image, mark, (206, 204, 192))
        if rng.random() < 0.6:
            band = (np.abs(far - 6.2) < 0.9) & (x % 0.9 < 0.45)
            _paint(image, band, (200, 200, 194))
    return image


def _wall(kind: str, rng: np.random.Generator, rows: int) -> np.ndarray:
    """Return the wall behind the ground, ``(rows, width, 3)``."""
    width = SCENE[1]
    metre = pixels_per_metre(GROUND_ROW)
    x = np.arange(width)[None, :] / metre
    y = (rows - np.arange(rows))[:, None] / metre + 0.0 * x  # height over the ground
    base = _rgb(_WALL_COLOUR[kind]) * rng.uniform(0.85, 1.15)
    image = np.broadcast_to(base, (rows, width, 3)).astype(np.float32).copy()
    image *= (1.0 + 0.04 * _noise(rng, (rows, width), (8, 25)))[..., None]
    if kind == "facade":
        pitch = rng.uniform(1.1, 1.6)
        glass = ((x % pitch) > 0.3 * pitch) & (y % 1.7 > 0.7) & (y % 1.7 < 1.55)
        frame = ((x % pitch) > 0.25 * pitch) & (y % 1.7 > 0.62) & (y % 1.7 < 1.62)
        _paint(image, frame, base * 1.2)
        _paint(image, glass, (62, 78, 96))
        _paint(image, y < 0.35, base * 0.62)
    elif kind == "shops":
        left = 0.0
        while left < x.max():
            wide = rng.uniform(1.3, 2.6)
            inside = (x >= left) & (x < left + wide)
            sign = rng.uniform(30, 235, 3)
            _paint(image, inside & (y > 1.75), sign)
            pane = inside & (y < 1.65) & (y > 0.3) & (x - left > 0.1)
            _paint(image, pane, rng.uniform(40, 150, 3))
            goods = np.floor(x * 5) * 31 + np.floor(y * 4) * 17
            bright = pane & (goods % 7 < 2)
            _paint(image, bright, rng.uniform(60, 240, 3))
            left += wide
    elif kind == "hedge":
        leaves = _noise(rng, (rows, width), (2.2, 2.2))
        image *= (1.0 + 0.22 * leaves)[..., None]
        dark = _noise(rng, (rows, width), (9, 9)) > 0.7
        image[dark] *= 0.6
        _paint(image, y > 2.0 + 0.25 * np.sin(1.7 * x), (176, 196, 214))
    elif kind == "bricks":
        row = np.floor(y / 0.13)
        joint = ((x + 0.14 * (row % 2)) % 0.28 < 0.025) | (y % 0.13 < 0.025)
        cell = (np.floor((x + 0.14 * (row % 2)) / 0.28) * 5 + row * 3) % 7
        image *= (0.87 + 0.04 * cell)[..., None]
        _paint(image, joint, (166, 152, 140))
    elif kind == "glass":
        panel = rng.uniform(0.8, 1.3)
        cell = np.floor(x / panel) * 3 + np.floor(y / 1.2) * 5
        image *= (0.75 + 0.09 * (cell % 6))[..., None]
        gleam = ((x + 0.6 * y) % 3.1) < 0.8
        image[gleam] = image[gleam] * 0.6 + _rgb((200, 214, 224)) * 0.4
        frame = (x % panel < 0.06) | (y % 1.2 < 0.05)
        _paint(image, frame, (52, 58, 66))
    else:  # concrete with posters and paint
        for _ in range(9):
            left, low = rng.uniform(0, x.max()), rng.uniform(0.2, 1.4)
            wide, high = rng.uniform(0.3, 1.1), rng.uniform(0.3, 0.9)
            poster = (x > left) & (x < left + wide) & (y > low) & (y < low + high)
            _paint(image, poster, rng.uniform(30, 230, 3))
            text = poster & ((y - low) % 0.2 < 0.07) & (x > left + 0.08)
            _paint(image, text, rng.uniform(30, 230, 3))
        _paint(image, (x % 2.4) < 0.03, base * 0.7)
    return image


def _furniture(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw objects along the wall: trunks, poles, boxes, parked cars."""
    rows = np.arange(SCENE[0])[:, None].astype(np.float32)
    columns = np.arange(SCENE[1])[None, :].astype(np.float32)
    for _ in range(int(rng.integers(7, 11))):
        foot = rng.uniform(GROUND_ROW + 2, GROUND_ROW + 36)
        left = rng.uniform(0, SCENE[1])
        metre = pixels_per_metre(foot)
        kind = rng.choice(("trunk", "pole", "box", "car", "bench", "bush"))
        x = (columns - left) / metre
        y = (foot - rows) / metre
        if kind == "trunk":
            mask = (np.abs(x) < 0.14 + 0.02 * np.sin(7 * y)) & (y > 0)
            colour = _rgb((92, 70, 52)) * rng.uniform(0.7, 1.2)
        elif kind == "pole":
            mask = (np.abs(x) < 0.05) & (y > 0)
            colour = rng.uniform(30, 210, 3)
        elif kind == "box":
            mask = (np.abs(x) < rng.uniform(0.2, 0.5)) & (y > 0)
            mask &= y < rng.uniform(0.6, 1.3)
            colour = rng.uniform(30, 220, 3)
        elif kind == "bench":
            mask = (np.abs(x) < 0.8) & (np.abs(y - 0.45) < 0.06)
            mask |= (np.abs(x) < 0.8) & (np.abs(y - 0.8) < 0.09)
            mask |= (np.abs(np.abs(x) - 0.7) < 0.05) & (y > 0) & (y < 0.8)
            colour = _rgb((126, 84, 52))
        elif kind == "bush":
            radius = 0.55 + 0.05 * np.sin(9 * np.arctan2(y - 0.35, x))
            mask = (x**2 + (1.3 * (y - 0.35)) ** 2) < radius**2
            colour = _rgb((58, 96, 46)) * rng.uniform(0.8, 1.3)
        else:
            colour = rng.uniform(30, 230, 3)
            body = (np.abs(x) < 1.7) & (y > 0.25) & (y < 0.85)
            cabin = (np.abs(x) < 1.05 - 0.5 * (y - 0.85)) & (y >= 0.85) & (y < 1.4)
            glass = (np.abs(x) < 0.95 - 0.5 * (y - 0.85)) & (y > 0.9) & (y < 1.3)
            image[body | cabin] = colour
            image[glass & (np.abs(x) > 0.04)] = (58, 70, 84)
            mask = (np.abs(np.abs(x) - 1.05) ** 2 + (y - 0.28) ** 2) < 0.3**2
            colour = _rgb((28, 28, 30))
        shade = 1.0 - 0.25 * np.clip(np.abs(x) / 0.6, 0.0, 1.0)
        shade = np.broadcast_to(shade, mask.shape)
        image[mask] = _rgb(colour) * shade[mask][:, None]
        contact = ((x / 0.6) ** 2 + ((y + 0.02) / 0.1) ** 2) < 1.0
        image[contact & (rows > foot)] *= 0.7


@lru_cache(maxsize=32)
def draw_scene(ground: str, wall: str, seed: int) -> np.ndarray:
    """Draw the scene of a camera without people.

    The ground is a plane in perspective: each pixel is traced back to a point in
    metres, where the pattern of tiles, bricks or planks gives its colour.

    Args:
        ground: One of ``GROUNDS``.
        wall: One of ``WALLS``.
        seed: Seed of colours and objects.

    Returns:
        ``(540, 960, 3)`` uint8, read only: cities of one seed share their scenes,
        whatever their dials and size.

    Example:
        >>> draw_scene("grass", "hedge", 0).shape
        (540, 960, 3)
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(GROUND_ROW, SCENE[0], dtype=np.float32)
    image = np.concatenate(
        [_wall(wall, rng, GROUND_ROW), _ground(ground, rng, rows)], axis=0
    )
    contact = np.exp(-np.abs(np.arange(SCENE[0]) - GROUND_ROW) / 9.0)
    image *= (1.0 - 0.25 * contact)[:, None, None]
    _furniture(image, rng)
    # Broad shadows, and the blur of a lens that is focused on the people.
    broad = _noise(rng, SCENE, (50, 100))
    image *= (1.0 + 0.10 * np.clip(broad, -1.5, 1.0))[..., None]
    image = ndimage.gaussian_filter(image, (2.6, 2.6, 0), truncate=2.5)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels
