"""Drawings of ideas: training methods as block diagrams, sightings as a way.

A block diagram is data, in diagrams.toml: boxes in a grid of six columns, arrows
between them, dashed frames around the rows that run together. All of them share the
columns, the shapes and the colours, so what differs between two diagrams differs
between the methods.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

from reidlib.plotting.style import COLOURS, INK, MISS, PAPER

COLUMNS = ("images", "network", "features", "labels", "memory or heads", "loss")
"""Stations of every diagram, in the order in which data passes them."""

KINDS = {
    "images": COLOURS[6],
    "network": COLOURS[0],
    "features": COLOURS[4],
    "clustering": COLOURS[1],
    "label": COLOURS[7],
    "memory": COLOURS[2],
    "loss": COLOURS[3],
}
"""Kinds of boxes and their colours; each has a shape of its own as well."""

STYLES: dict[str, dict[str, Any]] = {
    "flow": {"color": INK, "lw": 1.1, "linestyle": "-"},
    "gradient": {"color": COLOURS[5], "lw": 1.2, "linestyle": (0, (3.4, 1.8))},
    "update": {"color": "#007A59", "lw": 1.4, "linestyle": (0, (1, 1.3))},
}
"""Arrows: data, gradients, and what moves a memory."""

PARTS = {
    "images": ("images", "images"),
    "detector": ("images", "network"),
    "network": ("network", "network"),
    "features": ("features", "features"),
    "clustering": ("labels", "clustering"),
    "label": ("labels", "label"),
    "memory": ("memory or heads", "memory"),
    "head": ("memory or heads", "network"),
    "loss": ("loss", "loss"),
}
"""Parts of a method in diagrams.toml: the column and the kind of their boxes."""


@dataclass(frozen=True)
class Box:
    """One box of a diagram; diagrams.toml says what its fields mean."""

    column: str
    kind: str
    row: int
    text: str
    equations: str = ""
    span: int = 1
    new: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Arrow:
    """One arrow of a diagram.

    Attributes:
        start: Name of the box or group from which it leaves.
        end: Name of the box or group at which it points.
        style: One of `STYLES`.
        route: ``""`` straight, or with a bend in the gap before its end; ``"corner"``,
            ``"side"`` or ``"back"`` as in diagrams.toml.
        row: Row under which the route ``"back"`` returns.
        text: What stands on the route ``"back"``.
    """

    start: str
    end: str
    style: str = "flow"
    route: str = ""
    row: int = 0
    text: str = ""


@dataclass(frozen=True)
class Lane:
    """Rows that run together, inside a dashed frame, from the first to the last."""

    text: str
    first: int
    last: int


@dataclass(frozen=True)
class Diagram:
    """A method: boxes by name, arrows, frames, groups, and the boxes of chapters."""

    boxes: dict[str, Box]
    arrows: tuple[Arrow, ...]
    lanes: tuple[Lane, ...]
    groups: dict[str, list[str]]
    chapters: dict[str, list[str]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return max(box.row + box.span for box in self.boxes.values())

    def equations(self) -> set[str]:
        """Return every equation that stands on a box or an arrow."""
        words = [box.equations for box in self.boxes.values()]
        words += [arrow.text for arrow in self.arrows]
        return set(re.findall(r"[A-Z]+-\w+", " ".join(words)))


def read_diagram(method: dict[str, Any]) -> Diagram:
    """Return a diagram from its table in diagrams.toml.

    Example:
        >>> boxes = {"loss": {"row": 0, "text": "contrast"}}
        >>> method = {"lanes": [], "flow": ["all > net > loss"], "loss": boxes}
        >>> [arrow.end for arrow in read_diagram(method).arrows]
        ['net', 'loss']
    """

    def arrows(key: str, style: str, route: str = "") -> list[Arrow]:
        return [
            Arrow(start, end, style, route)
            for chain in method.get(key, [])
            for start, end in pairwise(chain.split(" > "))
        ]

    back = [
        Arrow(start, end, "gradient", "back", row, text)
        for way, row, text in method.get("back", [])
        for start, end in pairwise(way.split(" > "))
    ]
    return Diagram(
        boxes={
            name: Box(*place, **box)
            for part, place in PARTS.items()
            for name, box in method.get(part, {}).items()
        },
        arrows=(
            *arrows("flow", "flow"),
            *arrows("corner", "flow", "corner"),
            *arrows("side", "flow", "side"),
            *arrows("update", "update"),
            *arrows("gradient", "gradient"),
            *back,
        ),
        lanes=tuple(Lane(*lane) for lane in method["lanes"]),
        groups=method.get("groups", {}),
        chapters=method.get("chapters", {}),
    )


with Path(__file__).with_suffix(".toml").open("rb") as _file:
    DIAGRAMS = {
        name: read_diagram(table) for name, table in tomllib.load(_file).items()
    }
"""The baseline and the four papers of the course."""

# Sizes in points, which are the units of the axes: one unit is 1/72 inch.
SIZE, TAG, LINE = 8.2, 7.0, 1.22  # text, equations, distance of lines
PAD = 4.0  # between text and border
WIDE_BOX, WIDE_GAP = 77.0, 14.5
TALL_WIDTH, TALL_GAP = 356.0, 6.0
ROW_GAP, CHANNEL, FRAME, TITLE = 11.0, 9.0, 6.0, 6.0
TIGHT, BUS = 5.0, 8.0  # a stacked frame; from the last box to the line of gradients
SHEETS = 3.4  # how far a pile of images shows behind the first
QUIET_INK = "#4A4A4A"
# What belongs to other chapters: ground, lines, letters.
GREY, GREY_EDGE, GREY_INK = "#F7F7F3", "#BDBDB7", "#767670"
# What a shape takes from the width of the text.
CUT = {"network": 2.0, "features": 3.0, "memory": 3.5, "loss": 4.0, "label": 1.5}


@cache
def _width(text: str, size: float, weight: str = "normal") -> float:
    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight=weight)
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().x1)


def _wrap(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Break a text at spaces and hyphens; the widest word must fit."""
    lines: list[str] = []
    for word in re.findall(r"[^ ]+?[a-z]-(?=[a-z])|[^ ]+", text):
        if _width(word, size, weight) > width:
            raise ValueError(
                f"{word!r} is {_width(word, size, weight):.0f} points wide in a box "
                f"with room for {width:.0f}; use a shorter word or fewer rows"
            )
        space = "" if lines and lines[-1].endswith("-") else " "
        longer = f"{lines[-1]}{space}{word}" if lines else word
        if lines and _width(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _tag(equations: str) -> str:
    """Return ``"AFF-E1 to E4"`` for four equations in a row, else a list of them."""
    labels = equations.split()
    short = labels[:1]
    for last, label in pairwise(labels):
        paper, number = label.split("-")
        short.append(number if last.startswith(f"{paper}-") else label)
    if len(short) > 2 and len({label.split("-")[0] for label in labels}) == 1:
        return f"{short[0]} to {short[-1]}"
    return ", ".join(short)


@dataclass(frozen=True)
class _Rect:
    """Along the columns from u0 to u1, across the rows from v0 to v1."""

    u0: float
    u1: float
    v0: float
    v1: float

    @property
    def u(self) -> float:
        return (self.u0 + self.u1) / 2

    @property
    def v(self) -> float:
        return (self.v0 + self.v1) / 2


class _Layout:
    """Where everything stands: columns side by side, or stacked for a narrow page."""

    def __init__(
        self, diagram: Diagram, stacked: bool, lit: Collection[str] | None = None
    ) -> None:
        self.diagram, self.stacked = diagram, stacked
        self.lit = set(diagram.boxes if lit is None else lit)
        for name, members in diagram.groups.items():
            self.lit |= {name} if self.lit.intersection(members) else set()
        rows, boxes = diagram.rows, diagram.boxes
        # A frame begins and ends between rows; a channel carries lines back.
        starts = {lane.first for lane in diagram.lanes}
        ends = {lane.last for lane in diagram.lanes}
        back = {a.row for a in diagram.arrows if a.route == "back"}
        step = TALL_GAP if stacked else ROW_GAP
        # Side by side, a frame's title stands on its upper edge.
        self.low = TIGHT if stacked else FRAME
        self.high = TIGHT if stacked else FRAME + TITLE
        after = [
            self.low * (r in ends)
            + CHANNEL * (r in back)
            + step
            + self.high * (r + 1 in starts)
            for r in range(rows)
        ]
        after[-1] -= step
        first = (23.0 if stacked else 22.0) + self.high
        if stacked:
            room = TALL_WIDTH - first - sum(after) - 2.0
            sizes_v = [room / rows] * rows
        else:
            sizes_v = [0.0] * rows
        self.lines: dict[str, tuple[list[str], list[str]]] = {}
        self.titles: dict[str, list[str]] = {}  # of frames, broken into lines
        needs: dict[str, float] = {}
        for name, box in boxes.items():
            room = _extent(sizes_v, after, box.row, box.row + box.span - 1)
            width = (room if stacked else WIDE_BOX) - 2 * PAD
            width -= 2 * CUT.get(box.kind, 0.0)
            words = _wrap(box.text, width, SIZE)
            tags = _wrap(_tag(box.equations), width + 3, TAG, "bold")
            self.lines[name] = words, tags
            needs[name] = LINE * (SIZE * len(words) + TAG * len(tags)) + 2 * PAD
            needs[name] += 2.0 * bool(tags)
        if stacked:
            gap_u = 15.0
            sizes_u = [
                max([30.0, *(needs[n] for n, b in boxes.items() if b.column == c)])
                for c in COLUMNS
            ]
            for lane in diagram.lanes:
                room = _extent(sizes_v, after, lane.first, lane.last)
                room += self.low + self.high
                self.titles[lane.text] = _wrap(lane.text, room, SIZE - 0.4, "bold")
            start = 6.0 + LINE * SIZE * max(map(len, self.titles.values()))
        else:
            gap_u, sizes_u, start = WIDE_GAP, [WIDE_BOX] * len(COLUMNS), 8.0
            for span in range(1, rows + 1):
                for name, box in boxes.items():
                    if box.span == span:
                        last = box.row + span - 1
                        missing = needs[name] - _extent(sizes_v, after, box.row, last)
                        for r in range(box.row, last + 1):
                            sizes_v[r] += max(0.0, missing) / span
        self.columns = _places(start + 7.0, sizes_u, [gap_u] * len(COLUMNS))
        self.rows = _places(first, sizes_v, after)
        self.gap_u = gap_u
        self.bus = self.columns[-1][1] + BUS
        self.end_u = self.bus + FRAME + 1.0
        self.end_v = self.rows[-1][1] + after[-1] + 2.0
        self.rects = {name: self.rect(box) for name, box in boxes.items()}
        for name, members in diagram.groups.items():
            parts = [self.rects[m] for m in members]
            self.rects[name] = _Rect(
                min(p.u0 for p in parts) - 4,
                max(p.u1 for p in parts) + 4,
                min(p.v0 for p in parts) - 4,
                max(p.v1 for p in parts) + 4,
            )

    def rect(self, box: Box) -> _Rect:
        u0, u1 = self.columns[COLUMNS.index(box.column)]
        return _Rect(
            u0, u1, self.rows[box.row][0], self.rows[box.row + box.span - 1][1]
        )

    def frame(self, lane: Lane) -> _Rect:
        last = CHANNEL * any(
            a.route == "back" and a.row == lane.last for a in self.diagram.arrows
        )
        used = {b.column for b in self.diagram.boxes.values() if b.row == lane.first}
        alone = lane.first == lane.last and len(used) == 1
        return _Rect(
            self.columns[0][0] - FRAME,
            (self.columns[0][1] if alone else self.bus) + FRAME,
            self.rows[lane.first][0] - self.high,
            self.rows[lane.last][1] + last + self.low,
        )

    def xy(self, u: float, v: float) -> tuple[float, float]:
        return (v, u) if self.stacked else (u, v)

    def route(self, arrow: Arrow) -> list[tuple[float, float]]:
        """Return the corners of an arrow, from its start to its end."""
        a, b = self.rects[arrow.start], self.rects[arrow.end]
        if arrow.route == "back":
            v = self.rows[arrow.row][1] + CHANNEL
            stub = [(a.u1, a.v), (self.bus, a.v)]
            # Lines that share a way back share its line: dashes must not overlap.
            alike = [o for o in self.diagram.arrows if _same_way(o, arrow)]
            lit = [self.rects[o.start] for o in alike if self.lights(o)]
            if lit and not self.lights(arrow):  # grey as far as the colour
                first = min(lit, key=lambda rect: rect.v0)
                return stub if a.v > first.v else [*stub, (self.bus, first.v)]
            if a.v0 > min(r.v0 for r in lit or [self.rects[o.start] for o in alike]):
                return stub
            return [*stub, (self.bus, v), (b.u, v), (b.u, b.v1)]
        if arrow.route == "side":
            # Off the middle, which belongs to what passes between columns.
            u, way = a.u1 + self.gap_u / 2, 1 if b.v > a.v else -1
            start = a.v + way * 0.29 * (a.v1 - a.v0)
            end = b.v - way * 0.29 * (b.v1 - b.v0)
            return [(a.u1, start), (u, start), (u, end), (b.u1, end)]
        if arrow.route == "corner":
            down = b.v > a.v
            return [(a.u, a.v1 if down else a.v0), (a.u, b.v), (b.u0, b.v)]
        if min(a.u1, b.u1) > max(a.u0, b.u0):  # in one column
            down = b.v > a.v
            pile = self.diagram.boxes[arrow.end].kind == "images" and not self.stacked
            sheets = SHEETS * pile
            ends = (a.v1, b.v0 - sheets) if down else (a.v0, b.v1)
            return [(a.u, ends[0]), (a.u, ends[1])]
        low, high = max(a.v0, b.v0), min(a.v1, b.v1)
        ends = (a.u1, b.u0) if b.u0 > a.u0 else (a.u0, b.u1)
        if high > low:
            v = (low + high) / 2 + self.shift(arrow)
            return [(ends[0], v), (ends[1], v)]
        u = b.u0 - self.gap_u / 2
        return [(ends[0], a.v), (u, a.v), (u, b.v), (ends[1], b.v)]

    def lights(self, arrow: Arrow) -> bool:
        """Whether both ends of an arrow are in colour."""
        return {arrow.start, arrow.end} <= self.lit

    def shift(self, arrow: Arrow) -> float:
        """Return how far an arrow stands beside another one between the same boxes."""
        pair = {arrow.start, arrow.end}
        alike = [
            other
            for other in self.diagram.arrows
            if {other.start, other.end} == pair and other.route == arrow.route == ""
        ]
        return 7.0 * (alike.index(arrow) - (len(alike) - 1) / 2)


def _same_way(one: Arrow, other: Arrow) -> bool:
    return one.route == "back" and (one.end, one.row) == (other.end, other.row)


def _extent(
    sizes: Sequence[float], gaps: Sequence[float], first: int, last: int
) -> float:
    """Return the height from the first to the last row, gaps between them included."""
    return sum(sizes[first : last + 1]) + sum(gaps[first:last])


def _places(
    start: float, sizes: Sequence[float], gaps: Sequence[float]
) -> list[tuple[float, float]]:
    ends = start + np.cumsum(sizes) + np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
    return [(float(e - s), float(e)) for s, e in zip(sizes, ends)]


def _mix(colour: str, share: float) -> tuple[float, ...]:
    return tuple(
        share * np.array(to_rgb(colour)) + (1 - share) * np.array(to_rgb(PAPER))
    )


def _outline(
    kind: str, x0: float, y0: float, x1: float, y1: float, stacked: bool = False
) -> Outline:
    """Return the shape of a kind of box, inside its rectangle."""
    if kind == "network" and stacked:  # narrower where the data leaves
        corners = [(x0, y0), (x1, y0), (x1 - 3, y1), (x0 + 3, y1)]
    elif kind == "network":
        corners = [(x0, y0), (x1, y0 + 3), (x1, y1 - 3), (x0, y1)]
    elif kind == "loss":
        middle = (y0 + y1) / 2
        corners = [(x0, middle), (x0 + 5, y0), (x1 - 5, y0)]
        corners += [(x1, middle), (x1 - 5, y1), (x0 + 5, y1)]
    elif kind == "label":  # a corner folded
        corners = [(x0, y0), (x1 - 6, y0), (x1, y0 + 6), (x1, y1), (x0, y1)]
    elif kind == "clustering":
        r = min(9.0, (y1 - y0) / 2, (x1 - x0) / 2)
        points = [(x0 + r, y0), (x1 - r, y0), (x1, y0), (x1, y0 + r)]
        points += [(x1, y1 - r), (x1, y1), (x1 - r, y1), (x0 + r, y1)]
        points += [(x0, y1), (x0, y1 - r), (x0, y0 + r), (x0, y0), (x0 + r, y0)]
        line, curve = Outline.LINETO, Outline.CURVE3
        codes = [Outline.MOVETO, *[line, curve, curve] * 4]
        return Outline([*points], codes)
    else:
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return Outline([*corners, corners[0]], closed=True)


def _rounded(points: Sequence[tuple[float, float]], radius: float = 4.0) -> Outline:
    """Return a line whose corners are rounded."""
    vertices, codes = [np.array(points[0])], [Outline.MOVETO]
    for before, here, then in zip(points, points[1:], points[2:]):
        corner = np.array(here)
        for other in (before, then):
            way = np.array(other) - corner
            length = float(np.hypot(*way))
            near = corner + way * min(radius, length / 2) / max(length, 1e-9)
            if other is before:
                vertices += [near, corner]
                codes += [Outline.LINETO, Outline.CURVE3]
            else:
                vertices += [near]
                codes += [Outline.CURVE3]
    vertices.append(np.array(points[-1]))
    codes.append(Outline.LINETO)
    return Outline(np.array(vertices), codes)


def _write(
    ax: Axes, at: tuple[float, float], text: str, size: float, **look: Any
) -> None:
    ax.text(*at, text, fontsize=size, **{"ha": "center", "va": "center", **look})


def _draw_box(ax: Axes, layout: _Layout, name: str) -> None:
    box, rect = layout.diagram.boxes[name], layout.rects[name]
    x0, y0 = layout.xy(rect.u0, rect.v0)
    x1, y1 = layout.xy(rect.u1, rect.v1)
    colour = KINDS[box.kind]
    look = {
        "fc": _mix(colour, 0.36 if box.new else 0.15),
        "ec": _mix(colour, 1.0) if not box.new else INK,
        "lw": 1.7 if box.new else 0.9,
        "joinstyle": "round",
        "linestyle": (0, (3, 2)) if box.optional else "-",
    }
    lit = name in layout.lit
    if not lit:
        look |= {"fc": GREY, "ec": GREY_EDGE}
    if box.kind == "images":
        for step in (SHEETS, SHEETS / 2):
            sheet = _outline("", x0 + step, y0 - step, x1 + step, y1 - step)
            ax.add_patch(PathPatch(sheet, zorder=2.5, **look))
    outline = _outline(box.kind, x0, y0, x1, y1, layout.stacked)
    shape = PathPatch(outline, zorder=3, **look)
    shape.set_gid(f"box:{name}")
    ax.add_patch(shape)
    if box.kind in ("memory", "features"):
        # Rows of a table, or the cells of a vector.
        count = max(3, round((y1 - y0) / 7))
        edges = np.linspace(y0, y1, count + 1)
        strip = 5.0
        ax.plot([x0 + strip] * 2, [y0, y1], color=look["ec"], lw=0.7, zorder=3.5)
        if box.kind == "memory":
            for y in edges[1:-1]:
                ax.plot([x0, x0 + strip], [y, y], color=look["ec"], lw=0.7, zorder=3.5)
    words, tags = layout.lines[name]
    height = LINE * (SIZE * len(words) + TAG * len(tags)) + 2.0 * bool(tags)
    middle = (x0 + x1) / 2 + 2.0 * (box.kind in ("memory", "features"))
    top = (y0 + y1) / 2 - height / 2
    for index, line in enumerate([*words, *tags]):
        number = index - len(words)
        at = top + LINE * SIZE * (min(index, len(words)) + 0.5 * (number < 0))
        if number >= 0:
            at += 2.0 + LINE * TAG * (number + 0.5)
        size, weight = (SIZE, "normal") if number < 0 else (TAG, "bold")
        ink = GREY_INK if not lit else INK if number < 0 else QUIET_INK
        look = {"color": ink, "gid": f"text:{name}"}
        _write(ax, (middle, at), line, size, weight=weight, zorder=4, **look)


def _draw_arrow(ax: Axes, layout: _Layout, arrow: Arrow) -> None:
    points = [layout.xy(*point) for point in layout.route(arrow)]
    look = STYLES[arrow.style]
    lit = layout.lights(arrow)
    if not lit:
        look = look | {"color": GREY_EDGE}
    tip, before = np.array(points[-1]), np.array(points[-2])
    way = (tip - before) / np.hypot(*(tip - before))
    across = np.array([-way[1], way[0]])
    neck = tip - 5.0 * way
    joins = arrow.route == "back" and len(points) < 5  # another arrow goes on
    line = _rounded([*points[:-1], tuple(tip if joins else neck + 0.5 * way)])
    order = 2 if lit else 1.8
    patch = PathPatch(line, fc="none", zorder=order, capstyle="butt", **_edge(look))
    patch.set_gid(f"arrow:{arrow.start}:{arrow.end}:{arrow.style}")
    ax.add_patch(patch)
    head = [tip, neck + 2.5 * across, neck - 2.5 * across]
    if not joins:
        look_head = {"color": look["color"], "lw": 0, "zorder": order + 0.2}
        ax.add_patch(Polygon(head, closed=True, **look_head))
    if arrow.text:
        u0, u1 = layout.columns[COLUMNS.index("labels")]
        at = layout.xy((u0 + u1) / 2, layout.rows[arrow.row][1] + CHANNEL)
        shares = (o for o in layout.diagram.arrows if _same_way(o, arrow))
        ink = "#A04400" if any(map(layout.lights, shares)) else GREY_INK
        look = {"color": ink, "bbox": {"fc": PAPER, "ec": "none", "pad": 1.2}}
        turn = 90 if layout.stacked else 0
        _write(ax, at, arrow.text, TAG, weight="bold", zorder=5, rotation=turn, **look)


def _edge(look: dict[str, Any]) -> dict[str, Any]:
    return {"ec": look["color"], "lw": look["lw"], "linestyle": look["linestyle"]}


def _draw_frame(ax: Axes, layout: _Layout, rect: _Rect, **look: Any) -> None:
    corner = layout.xy(rect.u0, rect.v0)
    size = layout.xy(rect.u1 - rect.u0, rect.v1 - rect.v0)
    style = "round,pad=0,rounding_size=4.5"
    ax.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, lw=0.9, **look))


def _draw_lanes(ax: Axes, layout: _Layout) -> None:
    dashes = {"fc": "#F1F1EA", "ec": "#8C8C86", "linestyle": (0, (4, 2.5))}
    ground = {"fc": PAPER, "ec": "none", "pad": 1.0}
    look = {"weight": "bold", "color": QUIET_INK, "gid": "lane"}
    for lane in layout.diagram.lanes:
        rect = layout.frame(lane)
        _draw_frame(ax, layout, rect, zorder=1, **dashes)
        if layout.stacked:
            title, at = (
                "\n".join(layout.titles[lane.text]),
                layout.xy(rect.u0 - 2.0, rect.v),
            )
            _write(ax, at, title, SIZE - 0.4, va="bottom", **look)
        else:
            at, place = layout.xy(rect.u0 + 7, rect.v0), {"ha": "left", "bbox": ground}
            _write(ax, at, lane.text, SIZE - 0.4, zorder=2.4, **place, **look)
    for name in layout.diagram.groups:
        colour = KINDS["network"] if name in layout.lit else GREY_EDGE
        edge = {"fc": PAPER, "ec": colour}
        _draw_frame(ax, layout, layout.rects[name], zorder=1.5, **edge)


def _draw_legend(ax: Axes, layout: _Layout, top: float) -> float:
    """Draw what the lines mean; returns where it ends."""
    words = {"flow": "data", "gradient": "gradient", "update": "moves a memory"}
    used = {arrow.style for arrow in layout.diagram.arrows if layout.lights(arrow)}
    entries = [(style, text) for style, text in words.items() if style in used]
    entries += [("new", "what the paper adds")] * any(
        box.new for name, box in layout.diagram.boxes.items() if name in layout.lit
    )
    x, y = 14.0, top + 9.0
    limit = layout.end_v if layout.stacked else layout.end_u
    for style, text in entries:
        width = 21.0 + _width(text, TAG + 0.5) + 14.0
        if x + width - 14.0 > limit:
            x, y = 14.0, y + 13.0
        if style == "new":
            shape = _outline("", x, y - 4, x + 16, y + 4)
            fill = _mix(KINDS["network"], 0.36)
            ax.add_patch(PathPatch(shape, fc=fill, ec=INK, lw=1.7))
        else:
            look = STYLES[style]
            line = Outline([(x, y), (x + 12, y)])
            ax.add_patch(PathPatch(line, fc="none", **_edge(look)))
            head = [(x + 17, y), (x + 12, y - 2.5), (x + 12, y + 2.5)]
            ax.add_patch(Polygon(head, closed=True, color=look["color"], lw=0))
        _write(ax, (x + 21, y), text, TAG + 0.5, ha="left", gid="legend")
        x += width
    return y + 8.0


def plot_diagram(
    name: str, *, stacked: bool = False, chapter: str | None = None
) -> Axes:
    """Draw a method of the course as a block diagram.

    Data passes from images to losses, through the same six columns in every diagram.
    Dashed frames hold what runs together; a thick dark edge and a fuller colour mark
    what a paper adds to the method that it starts from.

    Text and boxes are measured in points and belong together, so a diagram always has a
    figure of its own.

    Args:
        name: Key of `DIAGRAMS`: ``"baseline"``, ``"calr"``, ``"aff_scl"``, ``"cals"``
            or ``"qafm"``.
        stacked: Put the columns one below the other, for a narrow page.
        chapter: Draw in colour only what this chapter is about, the rest in grey; a key
            of the diagram's ``chapters``.

    Returns:
        The axes, whose unit is the point and whose y axis points down.

    Example:
        >>> ax = plot_diagram("baseline")
        >>> sorted({text.get_text() for text in ax.texts if text.get_gid() == "lane"})
        ['each batch', 'once per epoch']
    """
    diagram = DIAGRAMS[name]
    lit = None if chapter is None else diagram.chapters[chapter]
    layout = _Layout(diagram, stacked, lit)
    width, height = layout.xy(layout.end_u, layout.end_v)
    figure = plt.figure()
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set_axis_off()
    for station, (u0, u1) in zip(COLUMNS, layout.columns):
        title = station.replace("or ", "or\n") if stacked else station
        look = {"weight": "bold", "rotation": 90 if stacked else 0}
        _write(
            ax,
            layout.xy((u0 + u1) / 2, 11.0 if stacked else 9.0),
            title,
            SIZE,
            gid="column",
            **look,
        )
    _draw_lanes(ax, layout)
    for box in layout.diagram.boxes:
        _draw_box(ax, layout, box)
    for arrow in layout.diagram.arrows:
        _draw_arrow(ax, layout, arrow)
    height = _draw_legend(ax, layout, height)
    ax.set(xlim=(0, width), ylim=(height, 0))
    figure.set_size_inches(width / 72, height / 72)
    return ax


def plot_sightings(
    images: np.ndarray, places: Any, captions: Sequence[str], names: Sequence[str]
) -> Axes:
    """Draw pictures of one person as a way through a town.

    Streets are drawn through each place, and the way follows them from place to place,
    first across and then up or down.

    Args:
        images: ``(n, H, W, 3)`` images in the order in which they were taken.
        places: ``(n, 2)`` where, from left to right and from top to bottom, in [0, 1].
        captions: n texts below the images, lines between newlines.
        names: n names of the places on the map.

    Returns:
        The axes, whose unit is the point and whose y axis points down.

    Example:
        >>> pictures = np.zeros((3, 8, 4, 3), dtype=np.uint8)
        >>> ax = plot_sightings(pictures, [(0, 0), (1, 0), (1, 1)], "abc", "xyz")
        >>> len(ax.images)
        3
    """
    count, where = len(images), np.asarray(places, dtype=float)
    width, town, margin = TALL_WIDTH, 176.0, 10.0
    tall, wide = 92.0, 92.0 * images.shape[2] / images.shape[1]
    step = (width - 2 * margin) / count
    lines = max(caption.count("\n") for caption in captions) + 1
    height = town + 2 * margin + 8.0 + tall + LINE * SIZE * lines + margin
    figure = plt.figure(figsize=(width / 72, height / 72))
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set_axis_off()
    ground = _outline("", margin, margin, width - margin, margin + town)
    ax.add_patch(PathPatch(ground, fc="#E4E3DA", ec="none", zorder=1))

    edge = 38.0  # from the town's border to its outermost street
    x = margin + edge + where[:, 0] * (width - 2 * (margin + edge))
    y = margin + 24.0 + where[:, 1] * (town - 48.0)
    for at in sorted(set(x.tolist())):
        ax.plot([at, at], [margin, margin + town], color=PAPER, lw=9, zorder=1.5)
    for at in sorted(set(y.tolist())):
        ax.plot([margin, width - margin], [at, at], color=PAPER, lw=9, zorder=1.5)

    way = [(x[0], y[0])]
    for before, here in zip(range(count - 1), range(1, count)):
        corner = (x[here], y[before])
        way += [p for p in (corner, (x[here], y[here])) if p != way[-1]]
    line = PathPatch(_rounded(way, 6.0), fc="none", ec=MISS, lw=2.4, zorder=2)
    line.set_gid("way")
    ax.add_patch(line)
    for index in range(count):
        left = margin + (index + 0.5) * step - wide / 2
        top = 2 * margin + town + 4.0
        ax.imshow(images[index], extent=(left, left + wide, top + tall, top), zorder=2)
        for at in ((x[index], y[index]), (left, top + 4.0)):
            ax.plot(*at, "o", color=INK, markersize=13, zorder=3)
            look = {"color": PAPER, "weight": "bold", "va": "center_baseline"}
            _write(ax, at, f"{index + 1}", SIZE, zorder=4, **look)
        # On the side of the place on which the way does not pass.
        under = any(p[0] == x[index] and p[1] > y[index] for p in way)
        at = x[index], y[index] + (-15.0 if under else 15.0)
        note = {"fc": PAPER, "ec": "none", "pad": 1.5, "alpha": 0.9}
        _write(ax, at, names[index], SIZE, bbox=note, zorder=2.5, gid="place")
        at = left + wide / 2, top + tall + 3.0
        look = {"va": "top", "gid": "caption"}
        _write(ax, at, captions[index], SIZE, linespacing=LINE, **look)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    return ax
