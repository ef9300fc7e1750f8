"""A walking figure in pseudo-3-D: joints in space, tubes on the picture.

Three steps turn a person into something that can be drawn.

1. **Skeleton.** Joints are points in metres, in the person's own frame: ``x`` to
   the person's left, ``y`` forward, ``z`` up. The walking phase swings thighs and upper
   arms against each other like pendulums and bends knees and elbows.
2. **Camera.** The frame is turned about the vertical by the viewpoint ``yaw`` (0: the
   person walks towards the camera, 180 degrees: away from it) and seen from above at
   ``pitch``, in parallel projection: a point nearer to the camera lands lower.
3. **Tubes.** Each part (limb, trunk, head, bag) is a tube around a straight axis
   between two projected joints. Its cross-sections are ellipses, so that its half-width
   in the picture is ``sqrt((a cos yaw)^2 + (b sin yaw)^2)``: people are narrower
   from the side. Tubes are painted from back to front.

Turning needs no triangles and no depth buffer, because every point on a tube's surface
has a longitude: a texture wrapped around the tube shows the part that faces the camera
(:mod:`reidlib.synthcity.textures`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reidlib.synthcity.identities import Identity
from reidlib.synthcity.textures import Texture, Wardrobe

KNOTS = 64
"""Points at which a tube's width is sampled along its axis."""


@dataclass(frozen=True)
class Tube:
    """One part of a figure, ready to be painted.

    Attributes:
        start: ``(x, y)`` of the axis' upper end, metres, ``y`` up.
        end: ``(x, y)`` of its lower end.
        widths: ``(KNOTS,)`` float32 half-widths along the axis, metres.
        texture: What is wrapped around it.
        rows: First and last row of the texture used, as shares of its height.
        turn: Longitude of the texture that faces the camera, radians.
        order: Nearness to the camera; tubes are painted in ascending order.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    widths: np.ndarray
    texture: Texture
    rows: tuple[float, float]
    turn: float
    order: float


@dataclass(frozen=True)
class View:
    """How a figure is seen.

    Attributes:
        yaw: Direction of walking, radians: 0 towards the camera, positive to the right.
        pitch: Angle at which the camera looks down, radians.
        phase: Walking phase, radians.
        stride: 0 standing to 1 walking.
    """

    yaw: float
    pitch: float = 0.15
    phase: float = 0.0
    stride: float = 1.0


_SHARE = np.linspace(0.0, 1.0, KNOTS)


def _at(x: float, y: float, z: float) -> np.ndarray:
    return np.array([x, y, z])


def _profile(shares: tuple[float, ...], widths: tuple[float, ...]) -> np.ndarray:
    return np.interp(_SHARE, shares, widths)


def _rounded(length: float, radius: float) -> np.ndarray:
    """Return width factors that round both ends of a tube like those of a capsule."""
    cap = min(0.5, radius / max(length, 1e-3))
    distance = np.clip(np.minimum(_SHARE, 1.0 - _SHARE) / cap, 0.0, 1.0)
    return np.sqrt(1.0 - (1.0 - distance) ** 2)


# Trunk from the neck to the hem: half-widths sideways and front to back, metres.
_TRUNK_AT = (0.0, 0.035, 0.10, 0.17, 0.30, 0.48, 0.66, 0.84, 1.0)
_TRUNK_SIDE = (0.055, 0.085, 0.165, 0.190, 0.185, 0.165, 0.152, 0.168, 0.172)
_TRUNK_DEEP = (0.055, 0.070, 0.088, 0.102, 0.122, 0.118, 0.106, 0.118, 0.122)
_HEAD_AT = (0.0, 0.04, 0.12, 0.28, 0.5, 0.68, 0.84, 0.95, 1.0)
_HEAD_SIDE = (0.0, 0.036, 0.058, 0.074, 0.079, 0.074, 0.060, 0.042, 0.026)
_HEAD_DEEP = (0.0, 0.044, 0.072, 0.094, 0.100, 0.092, 0.076, 0.056, 0.036)


class _Figure:
    """Collects the tubes of one person under one view."""

    def __init__(self, view: View) -> None:
        self.cos, self.sin = np.cos(view.yaw), np.sin(view.yaw)
        self.up, self.lower = np.cos(view.pitch), np.sin(view.pitch)
        self.yaw = view.yaw
        self.tubes: list[Tube] = []

    def project(self, joint: np.ndarray) -> tuple[float, float, float]:
        """Return picture x, picture y (up) and nearness of a joint."""
        x, y, z = joint
        right = x * self.cos + y * self.sin
        near = y * self.cos - x * self.sin
        return right, z * self.up - near * self.lower, near

    def add(
        self,
        start: np.ndarray,
        end: np.ndarray,
        side: np.ndarray,
        deep: np.ndarray,
        texture: Texture,
        *,
        rows: tuple[float, float] = (0.0, 1.0),
        order: float | None = None,
        bias: float = 0.0,
    ) -> None:
        x0, y0, near0 = self.project(start)
        x1, y1, near1 = self.project(end)
        widths = np.sqrt((side * self.cos) ** 2 + (deep * self.sin) ** 2)
        nearness = 0.5 * (near0 + near1) if order is None else order
        self.tubes.append(
            Tube(
                (x0, y0),
                (x1, y1),
                widths.astype(np.float32),
                texture,
                rows,
                -self.yaw,
                nearness + bias,
            )
        )

    def limb(
        self,
        start: np.ndarray,
        end: np.ndarray,
        radii: tuple[float, ...],
        texture: Texture,
        **options: object,
    ) -> None:
        """Add a round tube whose ends extend beyond its joints."""
        axis = end - start
        length = float(np.linalg.norm(axis)) + 1e-6
        first, last = radii[0], radii[-1]
        a = start - axis * (first / length)
        b = end + axis * (last / length)
        x0, y0, _ = self.project(a)
        x1, y1, _ = self.project(b)
        seen = float(np.hypot(x1 - x0, y1 - y0))
        total = length + first + last
        inner = np.linspace(first / total, 1.0 - last / total, len(radii))
        widths = np.interp(_SHARE, inner, radii)
        # A limb that points at the camera is drawn at least as long as it is thick.
        short = 2.0 * max(radii) - seen
        if short > 0.0:
            middle = _at(0.0, 0.0, 0.5 * short)
            a, b = a + middle, b - middle
            seen = 2.0 * max(radii)
        widths = widths * _rounded(seen, max(first, last))
        self.add(a, b, widths, widths, texture, **options)  # type: ignore[arg-type]


def pose(person: Identity, wardrobe: Wardrobe, view: View) -> list[Tube]:
    """Return the parts of a person, sorted from back to front.

    Args:
        person: The person's traits.
        wardrobe: The person's textures.
        view: Viewpoint and walking phase.

    Returns:
        The tubes to paint, in this order. The origin is the ground below the person.

    Example:
        >>> from reidlib.synthcity import Dials
        >>> from reidlib.synthcity.identities import draw_identity
        >>> from reidlib.synthcity.textures import make_wardrobe
        >>> someone = draw_identity(3, np.random.default_rng(3), Dials())
        >>> len(pose(someone, make_wardrobe(someone), View(yaw=0.0))) > 10
        True
    """
    figure = _Figure(view)
    tall = person.height
    wide = person.build * (0.75 + 0.25 * tall / 1.7)
    leg = 0.475 * tall * person.legs
    thigh, shank = 0.52 * leg, 0.48 * leg
    swing = 0.46 * person.pace * view.stride

    # Legs are pendulums in opposite phase; the knee bends while a leg swings forward.
    hips = np.array([0.0, 0.0, leg])
    legs = []
    for side, phase in ((1.0, view.phase), (-1.0, view.phase + np.pi)):
        angle = swing * np.sin(phase) + 0.05 * view.stride
        bend = 0.06 + view.stride * (0.12 + 0.75 * max(0.0, np.cos(phase)))
        hip = hips + _at(side * 0.088 * wide * person.hips, 0.0, 0.0)
        knee = hip + thigh * np.array([0.0, np.sin(angle), -np.cos(angle)])
        lower = angle - bend
        ankle = knee + shank * np.array([0.0, np.sin(lower), -np.cos(lower)])
        foot = min(0.25, 0.5 * lower) if lower < 0 else 0.3 * lower
        toe = ankle + 0.105 * tall * np.array([0.04 * side, np.cos(foot), np.sin(foot)])
        heel = ankle - 0.03 * tall * np.array([0.0, np.cos(foot), np.sin(foot)])
        legs.append([hip, knee, ankle, heel, toe])
    drop = 0.05 - min(float(joint[2]) for chain in legs for joint in chain[2:])
    for chain in legs:
        for i, joint in enumerate(chain):
            chain[i] = joint + _at(0.0, 0.0, drop)
    hips = hips + _at(0.0, 0.0, drop)

    lean = np.array([0.0, np.sin(person.stoop), np.cos(person.stoop)])
    trunk = 0.335 * tall
    neck = hips + lean * trunk
    head_tall = 0.118 * tall + 0.035
    head_low = neck + lean * (0.018 * tall) + _at(0.0, 0.015, 0.0)
    head_top = head_low + head_tall * np.array([0.0, 0.04, 1.0])

    trouser = 0.0 if person.skirt else 0.012
    thick = 0.082 * wide * person.hips
    ends = 0.047 * wide + (0.016 * (person.flare - 0.75) + trouser) * 1.2
    if person.skirt or person.lower_length < 0.8:
        ends = 0.042 * wide
    knee_radius = 0.056 * wide + (
        trouser if person.lower_length > 0.5 else 0.4 * trouser
    )
    for chain in legs:
        hip, knee, ankle, heel, toe = chain
        near = figure.project(knee)[2]
        figure.limb(
            heel,
            toe,
            (0.036, 0.042, 0.034),
            wardrobe.shoe,
            order=-3.0 + 0.3 * near - 0.01,
        )
        figure.limb(
            knee,
            ankle,
            (knee_radius, 0.5 * (knee_radius + ends) + 0.004, ends),
            wardrobe.leg,
            rows=(0.5, 1.0),
            order=-3.0 + 0.3 * near,
        )
        figure.limb(
            hip,
            knee,
            (thick + trouser, 0.5 * (thick + knee_radius) + trouser, knee_radius),
            wardrobe.leg,
            rows=(0.0, 0.52),
            order=-3.0 + 0.3 * near + 0.005,
        )

    # Trunk and skirt: elliptic tubes.
    broad = wide * np.interp(
        _SHARE, (0.0, 0.1, 0.3, 0.65, 1.0), (1.0, *2 * (person.shoulders,), 1.0, 1.0)
    )
    broad = broad * np.interp(_SHARE, (0.6, 1.0), (1.0, person.hips))
    cloth = person.loose * np.interp(_SHARE, (0.06, 0.2), (0.0, 1.0))
    sides = _profile(_TRUNK_AT, _TRUNK_SIDE) * broad * tall / 1.7 + cloth
    deep = _profile(_TRUNK_AT, _TRUNK_DEEP) * wide * tall / 1.7 + cloth
    hem = hips - lean * (0.02 + (0.0 if person.tucked else person.hem))
    collar = neck + lean * 0.01
    if person.skirt:
        low = hips - _at(0.0, 0.0, leg * person.lower_length)
        waist = hips + lean * (0.09 * tall)
        wider = 0.05 * person.flare + 0.06 * person.flare * person.lower_length
        skirt = _profile((0.0, 0.25, 1.0), (0.0, 0.35, 1.0)) * wider
        figure.add(
            waist,
            low,
            0.155 * wide * person.hips + 0.012 + skirt,
            0.110 * wide * person.hips + 0.012 + skirt,
            wardrobe.skirt,
            order=-1.0,
        )
    figure.add(collar, hem, sides, deep, wardrobe.torso, order=0.0)
    figure.limb(
        head_low + _at(0.0, 0.0, 0.05),
        neck - _at(0.0, 0.0, 0.02),
        (0.048, 0.055),
        wardrobe.neck,
        order=-0.002,
    )

    # Arms swing against the legs.
    upper_arm, forearm = 0.17 * tall, 0.225 * tall
    out = 0.09 + 0.05 * person.build
    sleeve = 0.5 * person.loose + 0.006
    for sign, phase in ((1.0, view.phase + np.pi), (-1.0, view.phase)):
        carries = person.handbag is not None and sign == person.bag_side
        amount = 0.9 * swing * (0.35 if carries else 1.0)
        angle = amount * np.sin(phase) + person.stoop
        shoulder = neck - lean * (0.058 * tall)
        shoulder = shoulder + _at(
            sign * 0.165 * wide * person.shoulders * tall / 1.7, 0.0, 0.0
        )
        elbow = shoulder + upper_arm * np.array(
            [sign * out, np.sin(angle), -np.cos(angle)]
        )
        bend = angle + 0.12 + (0.0 if carries else 0.5 * max(0.0, np.sin(phase)))
        hand = elbow + forearm * np.array(
            [sign * 0.02, np.sin(bend), -np.cos(bend)]
        ) * (0.92)
        near = figure.project(0.5 * (shoulder + hand))[2]
        place = 0.02 + near if near > -0.04 else near - 0.02
        covered = sleeve if person.sleeve > 0.55 else 0.0
        figure.limb(
            elbow,
            hand,
            (
                0.039 * wide + covered,
                0.036 * wide + covered,
                0.031 + covered,
                0.034,
                0.026,
            ),
            wardrobe.arm,
            rows=(0.46, 1.0),
            order=place,
        )
        figure.limb(
            shoulder,
            elbow,
            (0.047 * wide + sleeve, 0.044 * wide + sleeve, 0.039 * wide + covered),
            wardrobe.arm,
            rows=(0.0, 0.5),
            order=place + 0.001,
        )
        if carries:
            grip = hand - _at(0.0, 0.0, 0.02)
            top = grip - _at(0.0, 0.0, 0.10)
            box = np.full(KNOTS, 1.0) * _profile((0, 0.06, 1), (0.8, 0.92, 1.0))
            for offset in (-0.06, 0.06):
                figure.limb(
                    grip,
                    top + _at(0.0, offset, -0.01),
                    (0.007, 0.007),
                    wardrobe.strap,
                    order=place - 0.001,
                )
            figure.add(
                top,
                top - _at(0.0, 0.0, 0.21),
                0.055 * box,
                0.15 * box,
                wardrobe.handbag,
                order=place + 0.002,
            )

    # Head, hair and hat.
    head_side = _profile(_HEAD_AT, _HEAD_SIDE) * (0.6 + 0.4 * tall / 1.7)
    head_deep = _profile(_HEAD_AT, _HEAD_DEEP) * (0.6 + 0.4 * tall / 1.7)
    if person.hair in ("curly", "bob"):
        puff = 0.016 * _profile((0, 0.1, 0.6, 0.75), (1, 1, 1, 0)) + 0.0
        head_side, head_deep = head_side + puff, head_deep + puff
    figure.add(head_top, head_low, head_side, head_deep, wardrobe.head, order=0.05)
    up = np.array([0.0, 0.0, 1.0])
    back = np.array([0.0, -1.0, 0.0])
    if person.hair in ("long", "bob"):
        length = 0.40 if person.hair == "long" else 0.25
        start = head_top + 0.055 * back - 0.035 * up
        shape = _profile((0, 0.15, 0.5, 0.9, 1.0), (0.5, 0.92, 1.0, 0.85, 0.5))
        figure.add(
            start,
            start - length * up + 0.05 * back,
            0.098 * shape,
            0.058 * shape,
            wardrobe.hair,
            bias=-0.005,
        )
    elif person.hair == "ponytail":
        start = head_top + 0.10 * back - 0.09 * up
        figure.limb(
            start,
            start - 0.24 * up + 0.05 * back,
            (0.026, 0.034, 0.012),
            wardrobe.hair,
            bias=0.06 * figure.cos * -1.0,
        )
    elif person.hair == "bun":
        start = head_top + 0.085 * back - 0.02 * up
        figure.limb(start, start - 0.03 * up, (0.042, 0.042), wardrobe.hair)
    if person.hat != "none":
        crown = head_top + 0.016 * up
        bottom = head_top - 0.085 * up
        dome = _profile((0, 0.06, 0.2, 0.5, 1.0), (0.2, 0.5, 0.8, 0.97, 1.0))
        figure.add(
            crown, bottom, 0.086 * dome, 0.106 * dome, wardrobe.hat, order=0.0525
        )
        if person.hat == "cap":
            visor = bottom + _at(0.0, 0.05, 0.012)
            figure.limb(
                visor,
                visor + _at(0.0, 0.11, -0.012),
                (0.03, 0.045, 0.03) if figure.cos < 0.5 else (0.03, 0.055, 0.05),
                wardrobe.brim,
                order=0.054 if figure.cos > -0.3 else 0.045,
            )
        elif person.hat == "brimmed":
            flat = np.ones(KNOTS) * _rounded(1.0, 0.4)
            figure.add(
                bottom + 0.014 * up,
                bottom - 0.016 * up,
                0.155 * flat,
                0.165 * flat,
                wardrobe.brim,
                order=0.054,
            )
    if person.hood:
        start = neck + 0.06 * back + 0.05 * up
        shape = _profile((0, 0.3, 0.8, 1.0), (0.6, 1.0, 0.8, 0.2))
        figure.add(
            start,
            start - 0.17 * up + 0.02 * back,
            0.115 * shape,
            0.055 * shape,
            wardrobe.hood,
            bias=0.001,
        )
    if person.backpack is not None:
        start = neck - lean * 0.03 + 0.185 * back
        shape = _profile((0, 0.04, 0.16, 0.9, 1.0), (0.45, 0.7, 0.95, 1.0, 0.85))
        figure.add(
            start,
            start - 0.44 * up - 0.01 * back,
            0.150 * shape,
            0.092 * shape,
            wardrobe.backpack,
        )
    if person.bag is not None:
        start = hips + _at(person.bag_side * (0.19 * wide + person.loose), 0.03, 0.10)
        shape = _profile((0, 0.05, 1.0), (0.9, 1.0, 1.0))
        figure.add(
            start,
            start - 0.24 * up,
            0.060 * shape,
            0.150 * shape,
            wardrobe.bag,
            bias=0.06,
        )
    return sorted(figure.tubes, key=lambda tube: tube.order)
