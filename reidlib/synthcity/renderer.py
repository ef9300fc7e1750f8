"""The renderer: paint the tubes of a pose, then apply the camera's response.

The picture is drawn at twice its size and then reduced, and the edges of a tube are
blended by the covered share of each pixel. This gives smooth outlines. A tube is
painted inside its own bounding box only, from tables: a pixel's place along the axis
determines the texture's row and the tube's width, and its place across the axis
determines the column and the shade.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from reidlib.synthcity.body import KNOTS, Tube
from reidlib.synthcity.cameras import (
    SCENE,
    Camera,
    pixels_per_metre,
)

SUPERSAMPLING = 2
_ACROSS = 96
_V = np.linspace(-1.0, 1.0, _ACROSS)
_BETA = np.arcsin(_V)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Figure:
    """A person in a pose, somewhere in a scene.

    Attributes:
        tubes: The parts, from back to front, in metres from the foot point.
        column: Foot point in the scene, pixels.
        row: Foot point in the scene, pixels.
    """

    tubes: list[Tube]
    column: float
    row: float

    @property
    def scale(self) -> float:
        """Scene pixels per metre."""
        return pixels_per_metre(self.row)


@dataclass(frozen=True)
class Light:
    """The light of one track (one walk past a camera).

    Attributes:
        gamma: Exponent of each channel.
        gain: Factor of each channel.
        slope: Change of brightness across the picture, in two directions.
        edge: Place of a shadow's edge across the picture, -1 to 1; no shadow beyond.
        angle: Direction of that edge, radians.
    """

    gamma: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    slope: tuple[float, float] = (0.0, 0.0)
    edge: float = 9.0
    angle: float = 0.0


def shade_across(light: float) -> np.ndarray:
    """Return the brightness across a round body lit from the side.

    Args:
        light: Direction of the light, -1 left to 1 right.

    Returns:
        ``(96,)`` float32 factors from the left edge to the right one.

    Example:
        >>> shade = shade_across(0.5)
        >>> bool(shade[70] > shade[25])
        True
    """
    lambert = np.cos(_BETA - 0.9 * light)
    rim = 1.0 - 0.28 * np.abs(_V) ** 7
    return ((0.66 + 0.42 * np.clip(lambert, 0.0, 1.0)) * rim).astype(np.float32)


def extent(tubes: list[Tube]) -> Box:
    """Return left, lower, right and upper bound of the parts, in metres (``y`` up)."""
    bounds = []
    for tube in tubes:
        (x0, y0), (x1, y1) = tube.start, tube.end
        dx, dy = x1 - x0, y1 - y0
        length = max(float(np.hypot(dx, dy)), 1e-6)
        across_x = tube.widths * abs(dy) / length
        across_y = tube.widths * abs(dx) / length
        share = np.linspace(0.0, 1.0, len(tube.widths))
        x, y = x0 + share * dx, y0 + share * dy
        bounds.append(
            (
                (x - across_x).min(),
                (y - across_y).min(),
                (x + across_x).max(),
                (y + across_y).max(),
            )
        )
    array = np.array(bounds)
    low, high = array.min(axis=0), array.max(axis=0)
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])


def paint_tube(
    canvas: np.ndarray,
    tube: Tube,
    origin: tuple[float, float],
    scale: float,
    shade: np.ndarray,
) -> None:
    """Paint one part onto a canvas, in place.

    Args:
        canvas: ``(3, H, W)`` float32.
        tube: The part.
        origin: Column and row of the tube's ``(0, 0)``.
        scale: Pixels per metre.
        shade: ``(96,)`` brightness across the tube.
    """
    ax = origin[0] + scale * tube.start[0]
    ay = origin[1] - scale * tube.start[1]
    dx = scale * (tube.end[0] - tube.start[0])
    dy = -scale * (tube.end[1] - tube.start[1])
    length = max((dx * dx + dy * dy) ** 0.5, 1e-3)
    widths = tube.widths * scale
    widest = float(widths.max())
    reach_x = widest * abs(dy) / length + 1.0
    reach_y = widest * abs(dx) / length + 1.0
    height, width = canvas.shape[1:]
    left = max(int(min(ax, ax + dx) - reach_x), 0)
    right = min(int(max(ax, ax + dx) + reach_x) + 2, width)
    top = max(int(min(ay, ay + dy) - reach_y), 0)
    bottom = min(int(max(ay, ay + dy) + reach_y) + 2, height)
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right, dtype=np.float32) - ax
    y = np.arange(top, bottom, dtype=np.float32) - ay
    # Place along the axis (0 to KNOTS) and across it (pixels): linear in x and y.
    along = (x * (dx * KNOTS / length**2) + 1.0) + (y * (dy * KNOTS / length**2))[
        :, None
    ]
    across = x * (dy / length) - (y * (dx / length))[:, None]
    knot = along.astype(np.intp)
    width_table = np.full(KNOTS + 2, -9.0, np.float32)
    width_table[1:-1] = widths
    half = width_table.take(knot, mode="clip")
    cover = np.minimum(half - np.abs(across) + 0.5, 1.0)
    np.maximum(cover, 0.0, out=cover)

    texture = tube.texture
    first, last = tube.rows
    row_table = np.empty(KNOTS + 2, np.intp)
    share = first + (last - first) * np.arange(KNOTS) / (KNOTS - 1)
    row_table[1:-1] = (share * (texture.height - 1) + 0.5).astype(np.intp)
    row_table[0], row_table[-1] = row_table[1], row_table[-2]
    row_table *= texture.width
    longitude = (_BETA + tube.turn) / (2.0 * np.pi) + 0.5
    column_table = ((longitude % 1.0) * texture.width).astype(np.intp) % texture.width

    np.maximum(half, 0.5, out=half)
    across /= half
    across *= 0.5 * (_ACROSS - 1)
    across += 0.5 * _ACROSS
    place = across.astype(np.intp)
    texel = row_table.take(knot, mode="clip")
    texel += column_table.take(place, mode="clip")
    colour = texture.flat.take(texel, axis=1, mode="clip")
    colour *= shade.take(place, mode="clip")
    region = canvas[:, top:bottom, left:right]
    colour -= region
    colour *= cover
    region += colour


def paint_figure(
    canvas: np.ndarray,
    tubes: list[Tube],
    origin: tuple[float, float],
    scale: float,
    light: float,
) -> None:
    """Paint a person and its shadow on the ground, in place.

    Args:
        canvas: ``(3, H, W)`` float32.
        tubes: Parts from back to front.
        origin: Column and row of the foot point.
        scale: Pixels per metre.
        light: Direction of the light, -1 left to 1 right.
    """
    column = origin[0] - 0.16 * light * scale
    paint_shadow(canvas, (column, origin[1]), 0.36 * scale, 0.085 * scale)
    shade = shade_across(light)
    for tube in tubes:
        paint_tube(canvas, tube, origin, scale, shade)


def paint_shadow(
    canvas: np.ndarray, centre: tuple[float, float], wide: float, tall: float
) -> None:
    """Darken a soft ellipse of the ground, in place."""
    height, width = canvas.shape[1:]
    top, bottom = max(int(centre[1] - tall), 0), min(int(centre[1] + tall) + 1, height)
    left, right = max(int(centre[0] - wide), 0), min(int(centre[0] + wide) + 1, width)
    if top >= bottom or left >= right:
        return
    y = ((np.arange(top, bottom, dtype=np.float32) - centre[1]) / tall)[:, None]
    x = (np.arange(left, right, dtype=np.float32) - centre[0]) / wide
    depth = np.maximum(1.0 - x * x - y * y, 0.0)
    canvas[:, top:bottom, left:right] *= 1.0 - 0.55 * np.minimum(1.6 * depth, 1.0)


def paint_occluder(canvas: np.ndarray, kind: str, rng: np.random.Generator) -> None:
    """Paint an occluder between camera and person, in place.

    Args:
        canvas: ``(3, H, W)`` float32, the whole crop.
        kind: ``"pole"``, ``"box"``, ``"bicycle"``, ``"bush"`` or ``"sign"``.
        rng: Source of randomness.
    """
    height, width = canvas.shape[1:]
    x = np.arange(width, dtype=np.float32)[None, :] / width
    y = 2.0 * np.arange(height, dtype=np.float32)[:, None] / height
    colour = rng.uniform(25, 225, 3).astype(np.float32)
    soft = 0.5 * width
    centre = rng.uniform(0.0, 1.0)
    shade = 1.0
    if kind == "pole":
        radius = rng.uniform(0.03, 0.09)
        inside = radius - np.abs(x - centre) + 0.0 * y
        shade = 0.65 + 0.5 * np.clip((x - centre) / radius * 0.5 + 0.5, 0, 1)
    elif kind == "box":
        top = rng.uniform(1.25, 1.7)
        half = rng.uniform(0.2, 0.5)
        inside = np.minimum(y - top, half - np.abs(x - centre))
        shade = 0.8 + 0.35 * np.exp(-(((y - top) / 0.03) ** 2)) + 0.0 * x
        shade = shade * (0.92 + 0.08 * np.sign(np.sin(30 * x)))
    elif kind == "sign":
        top, left = rng.uniform(0.1, 1.2), rng.choice((-0.3, 0.75))
        inside = np.minimum(
            np.minimum(y - top, top + 0.35 - y), np.minimum(x - left, left + 0.5 - x)
        )
    elif kind == "bush":
        noise = ndimage.gaussian_filter(
            rng.standard_normal((height // 4 + 1, width // 4 + 1)).astype(np.float32),
            1.3,
        )
        leaves = ndimage.zoom(noise / noise.std(), 4, order=1)[:height, :width]
        inside = y - rng.uniform(1.35, 1.65) - 0.25 * (x - centre) ** 2 + 0.05 * leaves
        colour = np.array([56, 92, 44], np.float32) * rng.uniform(0.7, 1.4)
        shade = 1.0 + 0.25 * leaves
    else:
        low, radius = rng.uniform(1.6, 1.85), rng.uniform(0.2, 0.27)
        wheels = [(centre - 0.33, low), (centre + 0.33, low)]
        inside = np.full((height, width), -1.0, np.float32)
        for wx, wy in wheels:
            ring = 0.018 - np.abs(np.hypot(x - wx, y - wy) - radius)
            inside = np.maximum(inside, ring)
        frame = (
            (wheels[0], (centre - 0.05, low)),
            ((centre - 0.05, low), (centre - 0.12, low - 0.34)),
            ((centre - 0.05, low), (centre + 0.22, low - 0.32)),
            ((centre - 0.12, low - 0.34), (centre + 0.22, low - 0.32)),
            (wheels[1], (centre + 0.2, low - 0.45)),
        )
        for (ax, ay), (bx, by) in frame:
            t = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / (
                (bx - ax) ** 2 + (by - ay) ** 2
            )
            t = np.clip(t, 0.0, 1.0)
            distance = np.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay))
            inside = np.maximum(inside, 0.016 - distance)
    cover = np.clip(inside * soft + 0.5, 0.0, 1.0)
    painted = colour[:, None, None] * np.broadcast_to(shade, (height, width))
    canvas += (painted - canvas) * cover


OCCLUDERS = ("pole", "box", "bicycle", "bush", "sign")

_NOISE = np.random.default_rng(20150301).standard_normal(1 << 18).astype(np.float32)


def develop(
    picture: np.ndarray,
    camera: Camera,
    light: Light,
    noise_start: int,
    blur: float = 0.0,
    sharpness: float = 1.0,
) -> np.ndarray:
    """Apply motion blur, light, and the camera's colours, resolution and noise.

    Args:
        picture: ``(3, H, W)`` float32 colours from 0 to 255.
        camera: Camera whose curves, saturation, resolution and noise are applied.
        light: The track's light.
        noise_start: First index of the noise table.
        blur: Length of the motion blur in pixels, 0 for none.
        sharpness: Further factor on the resolution.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    height, width = picture.shape[1:]
    if blur >= 2.0:
        picture = ndimage.uniform_filter1d(picture, round(blur), axis=2)
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    if light.slope != (0.0, 0.0) or light.edge < 2.0:
        field = 1.0 + light.slope[0] * x + light.slope[1] * y
        if light.edge < 2.0:
            side = np.cos(light.angle) * x + np.sin(light.angle) * y - light.edge
            field = field * (1.0 - 0.5 * np.clip(side * 4.0 + 0.5, 0.0, 1.0))
        picture = picture * field
    grey = picture.mean(axis=0)
    picture = grey + camera.saturation * (picture - grey)
    level = np.linspace(0.0, 1.0, 256)
    curve = camera.curve()
    table = np.empty((3, 256), np.float32)
    for channel in range(3):
        lit = np.clip(light.gain[channel] * level ** light.gamma[channel], 0.0, 1.0)
        table[channel] = 255.0 * np.interp(lit, level, curve[channel])
    index = np.clip(picture, 0.0, 255.0).astype(np.intp)
    index += (np.arange(3) * 256)[:, None, None]
    picture = table.ravel().take(index)
    pixels = np.clip(picture.transpose(1, 2, 0) + 0.5, 0, 255).astype(np.uint8)
    resolution = camera.resolution * sharpness
    if resolution < 0.98:
        small = (max(int(width * resolution), 4), max(int(height * resolution), 8))
        image = Image.fromarray(pixels).resize(small, Image.Resampling.BILINEAR)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    if camera.noise > 0.0:
        count = pixels.size
        start = noise_start % (_NOISE.size - count) if count < _NOISE.size else 0
        grain = np.resize(_NOISE[start:], count).reshape(pixels.shape)
        pixels = np.clip(pixels + camera.noise * grain, 0, 255).astype(np.uint8)
    return pixels


def encode(pixels: np.ndarray, quality: int) -> bytes:
    """Return the JPEG file of an ``(H, W, 3)`` uint8 picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def cut_scene(camera: Camera, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Cut a box out of the empty scene and scale it.

    Args:
        camera: Camera of the scene.
        box: Left, top, right, bottom in scene pixels; it may extend beyond the scene.
        size: Height and width of the result.

    Returns:
        ``(3, H, W)`` float32.
    """
    left, top, right, bottom = box
    high, wide = SCENE
    # A box that extends beyond a side of the scene is shifted back inside.
    left, right = (
        left - min(left, 0.0) - max(right - wide, 0.0),
        right - min(left, 0.0) - max(right - wide, 0.0),
    )
    top, bottom = max(top, 0.0), min(bottom, float(high))
    cut = camera.scene_image.resize(
        (size[1], size[0]),
        Image.Resampling.BILINEAR,
        box=(max(left, 0.0), top, min(right, float(wide)), bottom),
    )
    return np.ascontiguousarray(np.asarray(cut).transpose(2, 0, 1), dtype=np.float32)


def reduce(canvas: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a large canvas down to the picture's size, averaging over areas.

    Args:
        canvas: ``(3, H, W)`` float32 colours from 0 to 255.
        size: Height and width of the result, not above those of the canvas.

    Returns:
        ``(3, *size)`` float32.

    Example:
        >>> reduce(np.ones((3, 8, 6), np.float32), (4, 3)).shape
        (3, 4, 3)
    """
    pixels = np.clip(canvas.transpose(1, 2, 0) + 0.5, 0.0, 255.0).astype(np.uint8)
    image = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BOX)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1), dtype=np.float32)
