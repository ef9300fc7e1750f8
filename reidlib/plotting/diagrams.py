"""Drawings of ideas: training methods as block diagrams, sightings as a way.

A block diagram is plain data: boxes in a grid of six columns, arrows between them,
dashed frames around the rows that run together. All of them share the columns, the
shapes and the colours, so what differs between two of them differs between the methods.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from reidlib.errors import ReIDError
from reidlib.plotting.style import COLOURS, INK, MISS, PAPER
from reidlib.plotting.tiles import _as_images

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

ROUTES = ("", "corner", "side", "below")


@dataclass(frozen=True)
class Box:
    """One box of a diagram.

    Attributes:
        column: One of `COLUMNS`.
        row: First row that it fills, from 0.
        kind: One of `KINDS`; gives shape and colour.
        text: What stands in it, mathematics between dollar signs.
        equations: Equations of the paper that it computes, as ``"CALR-E1"``.
        span: How many rows it fills.
        new: Whether the paper adds it to the method that it starts from.
        optional: Whether the method works without it.
    """

    column: str
    row: int
    kind: str
    text: str
    equations: tuple[str, ...] = ()
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
        route: ``""`` straight, or with a bend in the gap before its end; ``"corner"``
            along the start's column and then across; ``"side"`` around boxes of its
            column; ``"below"`` around the end of the line and back, under row `row`.
        row: Row under which the route ``"below"`` returns.
        text: What stands on the way back of the route ``"below"``.
        equations: Equations that stand there.
    """

    start: str
    end: str
    style: str = "flow"
    route: str = ""
    row: int = 0
    text: str = ""
    equations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lane:
    """Rows that run together, inside a dashed frame.

    Attributes:
        text: How often they run.
        first: First row.
        last: Last row.
    """

    text: str
    first: int
    last: int


@dataclass(frozen=True)
class Diagram:
    """A method as boxes, arrows and frames.

    Attributes:
        title: Name of the method.
        boxes: Boxes by name.
        arrows: What passes between them.
        lanes: Dashed frames over whole rows.
        groups: Boxes that form one part, by its name; arrows may end there.
    """

    title: str
    boxes: dict[str, Box]
    arrows: tuple[Arrow, ...]
    lanes: tuple[Lane, ...]
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return max(box.row + box.span for box in self.boxes.values())

    def equations(self) -> set[str]:
        """Return every equation that stands on a box or an arrow."""
        boxes = {label for box in self.boxes.values() for label in box.equations}
        return boxes | {label for arrow in self.arrows for label in arrow.equations}


def _chain(*names: str) -> tuple[Arrow, ...]:
    return tuple(Arrow(a, b) for a, b in pairwise(names))


BATCH = "batch: $P$ clusters, $K$ images of each"
BACKBONE = "backbone, pooling, BN\u00a0neck"
SOFTENED = r"pseudo label, softened by how alike $\mathbf{l}_j$ and $\mathbf{g}$ are"
ACROSS = "clusters across cameras: Infomap"
HEADS = "memory or heads"

DIAGRAMS = {
    "baseline": Diagram(
        "Cluster contrast, the baseline",
        {
            "all": Box("images", 0, "images", "all images"),
            "batch": Box("images", 1, "images", BATCH),
            "network": Box("network", 0, "network", BACKBONE, span=2),
            "features": Box("features", 0, "features", "features of all images"),
            "query": Box("features", 1, "features", "features of the batch"),
            "clusters": Box("labels", 0, "clustering", "Jaccard distance, DBSCAN"),
            "labels": Box("labels", 1, "label", "pseudo label of each image"),
            "memory": Box(
                HEADS,
                1,
                "memory",
                "cluster memory: one mean per cluster",
                ("CALR-E2",),
            ),
            "loss": Box(
                "loss",
                1,
                "loss",
                "contrast with all clusters",
                ("AFF-E7", "CALR-E1"),
            ),
        },
        (
            *_chain("all", "network", "features", "clusters", "labels"),
            *_chain("batch", "network", "query", "labels", "memory", "loss"),
            Arrow("labels", "memory", "update"),
            Arrow("loss", "network", "gradient", "below", 1, "gradient"),
        ),
        (Lane("once per epoch", 0, 0), Lane("each batch", 1, 1)),
    ),
    "calr": Diagram(
        "CALR",
        {
            "own": Box("images", 0, "images", "images of one camera", new=True),
            "all": Box("images", 1, "images", "all images", span=2),
            "batch": Box("images", 3, "images", "batch from all cameras", span=2),
            "encoder": Box("network", 0, "network", "one encoder per camera", new=True),
            "network": Box("network", 1, "network", BACKBONE, span=4),
            "local": Box("features", 0, "features", "features of one camera", new=True),
            "features": Box("features", 1, "features", "features of all images"),
            "score": Box(
                "features",
                2,
                "features",
                "score: how central each is",
                ("CALR-E4",),
                new=True,
            ),
            "query": Box("features", 3, "features", "features of the batch", span=2),
            "inside": Box(
                "labels", 0, "clustering", "clusters inside one camera", new=True
            ),
            "across": Box(
                "labels", 1, "clustering", "clusters across cameras: Infomap"
            ),
            "refine": Box(
                "labels",
                2,
                "clustering",
                "pivots discard strangers of their camera",
                ("CALR-E5",),
                new=True,
            ),
            "labels": Box("labels", 3, "label", "refined pseudo labels"),
            "camera": Box("labels", 4, "label", "camera number", new=True),
            "camera memory": Box(HEADS, 0, "memory", "memory of one camera", new=True),
            "memory": Box(HEADS, 3, "memory", "cluster memory", ("CALR-E2",)),
            "head": Box(
                HEADS,
                4,
                "network",
                "gradient reversal, camera classifier",
                ("CALR-E7",),
                new=True,
            ),
            "intra": Box(
                "loss", 0, "loss", "contrast in one camera", ("CALR-E3",), new=True
            ),
            "inter": Box(
                "loss",
                3,
                "loss",
                "contrast, a weight per cluster",
                ("CALR-E6",),
                new=True,
            ),
            "domain": Box("loss", 4, "loss", "camera loss", ("CALR-E8",), new=True),
        },
        (
            *_chain("own", "encoder", "local", "inside", "camera memory", "intra"),
            Arrow("inside", "camera memory", "update"),
            Arrow("intra", "encoder", "gradient", "below", 0, "gradient"),
            *_chain("all", "network", "features", "across", "refine", "labels"),
            *_chain("features", "score", "refine"),
            Arrow("inside", "refine", route="side"),
            *_chain("batch", "network", "query", "labels", "memory", "inter"),
            Arrow("labels", "memory", "update"),
            *_chain("query", "camera", "head", "domain"),
            Arrow("inter", "network", "gradient", "below", 4),
            Arrow(
                "domain",
                "network",
                "gradient",
                "below",
                4,
                "gradient of",
                ("CALR-E9",),
            ),
        ),
        (
            Lane("stage 1, for each camera alone", 0, 0),
            Lane("stage 2, once per epoch", 1, 2),
            Lane("stage 2, each batch", 3, 4),
        ),
    ),
    "aff_scl": Diagram(
        "AFF_SCL",
        {
            "all": Box("images", 0, "images", "all images"),
            "batch": Box("images", 1, "images", BATCH, span=3),
            "backbone": Box("network", 0, "network", "ResNet-50, last stride 1"),
            "casam": Box(
                "network",
                1,
                "network",
                "CASAM: channels, then places; added to the map",
                ("AFF-E1", "AFF-E2", "AFF-E3", "AFF-E4"),
                new=True,
            ),
            "split": Box("network", 2, "network", "two groups of channels", new=True),
            "cam": Box(
                "network",
                3,
                "network",
                "CAM on each group; joined again",
                ("AFF-E5", "AFF-E6"),
                new=True,
            ),
            "features": Box("features", 0, "features", "features of all images"),
            "query": Box("features", 1, "features", "features of the batch", span=3),
            "clusters": Box("labels", 0, "clustering", "Jaccard distance, DBSCAN"),
            "labels": Box("labels", 1, "label", "pseudo label of each image", span=3),
            "mean": Box(
                HEADS,
                1,
                "memory",
                "mean memory: mean of the batch",
                ("AFF-E10",),
            ),
            "hard": Box(
                HEADS,
                3,
                "memory",
                "hard memory: the image least like its mean",
                ("AFF-E12", "AFF-E13"),
                new=True,
            ),
            "mean loss": Box(
                "loss", 1, "loss", "contrast with the means", ("AFF-E7", "AFF-E9")
            ),
            "balance": Box(
                "loss", 2, "loss", "balance of the two", ("AFF-E14",), new=True
            ),
            "hard loss": Box(
                "loss",
                3,
                "loss",
                "contrast with the hard ones",
                ("AFF-E11",),
                new=True,
            ),
        },
        (
            *_chain("all", "backbone", "casam", "split", "cam", "query", "labels"),
            *_chain("batch", "backbone"),
            *_chain("cam", "features", "clusters", "labels", "mean", "mean loss"),
            *_chain("labels", "hard", "hard loss"),
            Arrow("labels", "mean", "update"),
            Arrow("labels", "hard", "update"),
            *_chain("mean", "balance"),
            *_chain("hard", "balance"),
            Arrow("mean loss", "network", "gradient", "below", 3),
            Arrow("balance", "network", "gradient", "below", 3),
            Arrow(
                "hard loss",
                "network",
                "gradient",
                "below",
                3,
                "gradient of",
                ("AFF-E8",),
            ),
        ),
        (Lane("once per epoch", 0, 0), Lane("each batch", 1, 3)),
        {"network": ("backbone", "casam", "split", "cam")},
    ),
    "cals": Diagram(
        "CALS",
        {
            "detector": Box(
                "images",
                0,
                "network",
                "YOLO cuts people out of frames",
                ("CALS-D1",),
                optional=True,
            ),
            "all": Box("images", 1, "images", "all images"),
            "batch": Box("images", 2, "images", "batch of images", span=2),
            "network": Box(
                "network",
                1,
                "network",
                "EfficientNet-B0; its map is kept",
                ("CALS-E1",),
                span=3,
                new=True,
            ),
            "features": Box("features", 1, "features", "features of all images"),
            "global": Box(
                "features",
                2,
                "features",
                r"$\mathbf{g}$: the whole map pooled",
                ("CALS-E3",),
            ),
            "local": Box(
                "features",
                3,
                "features",
                r"$\mathbf{l}_1$ to $\mathbf{l}_4$: soft attention, four bands",
                ("CALS-E4",),
                new=True,
            ),
            "clusters": Box(
                "labels", 1, "clustering", "K-Means++", ("CALS-E2",), new=True
            ),
            "labels": Box(
                "labels",
                2,
                "label",
                SOFTENED,
                ("CALS-E5",),
                span=2,
                new=True,
            ),
            "global head": Box(HEADS, 2, "network", "classifier", ("CALS-E3",)),
            "local heads": Box(
                HEADS,
                3,
                "network",
                "a classifier for each band",
                ("CALS-E4",),
            ),
            "global loss": Box(
                "loss", 2, "loss", "cross-entropy, global", ("CALS-E6",)
            ),
            "local loss": Box("loss", 3, "loss", "cross-entropy, local", ("CALS-E6",)),
        },
        (
            Arrow("detector", "all"),
            *_chain("all", "network", "features", "clusters", "labels"),
            *_chain("batch", "network", "global", "labels", "global head"),
            *_chain("network", "local", "labels", "local heads"),
            *_chain("global head", "global loss"),
            *_chain("local heads", "local loss"),
            Arrow("global loss", "network", "gradient", "below", 3),
            Arrow(
                "local loss",
                "network",
                "gradient",
                "below",
                3,
                "gradient of",
                ("CALS-E6",),
            ),
        ),
        (
            Lane("optional, on video", 0, 0),
            Lane("labels", 1, 1),
            Lane("each batch", 2, 3),
        ),
    ),
    "qafm": Diagram(
        "QAFM",
        {
            "crops": Box("images", 0, "images", "batch of images"),
            "batch": Box("images", 2, "images", "batch of images"),
            "copies": Box(
                "images", 3, "images", "each image and 34 damaged copies", new=True
            ),
            "apan": Box("network", 0, "network", "APAN: pyramid attention, ConvLSTM"),
            "apn": Box("network", 2, "network", "APN: feature pyramid, decoder"),
            "judge": Box("network", 3, "network", "ResNet-50, trained before, fixed"),
            "traits": Box(
                "features", 0, "features", r"$\mathbf{v}_s$: describable traits"
            ),
            "looks": Box(
                "features", 2, "features", r"$\mathbf{v}_a$: visual appearance"
            ),
            "quality": Box(
                "features",
                3,
                "features",
                "$I$: how far the 35 features scatter",
                ("QAFM-E1",),
                new=True,
            ),
            "attributes": Box("labels", 0, "label", "27 attributes, by hand"),
            "identities": Box("labels", 2, "label", "identities, by hand"),
            "target": Box(
                "labels",
                3,
                "label",
                r"target $\hat{\alpha}$: ratio of the two losses",
                ("QAFM-E2",),
                new=True,
            ),
            "attribute heads": Box(HEADS, 0, "network", "12 attribute heads"),
            "fusion": Box(
                HEADS,
                1,
                "network",
                "weighted, joined, layer of 1000",
                ("QAFM-E3",),
                new=True,
            ),
            "stripes": Box(HEADS, 2, "network", "classifiers of stripes"),
            "predictor": Box(HEADS, 3, "network", r"$I$ to weight $\alpha$", new=True),
            "attribute loss": Box(
                "loss", 0, "loss", "attribute loss", ("QAFM-E4", "QAFM-E5")
            ),
            "identity loss": Box("loss", 1, "loss", "identity loss"),
            "stripe loss": Box("loss", 2, "loss", "loss of the stripes", ("QAFM-E7",)),
            "weight loss": Box(
                "loss", 3, "loss", "loss of the weight", ("QAFM-E6",), new=True
            ),
        },
        (
            *_chain("crops", "apan", "traits", "attributes", "attribute heads"),
            *_chain("attribute heads", "attribute loss"),
            Arrow("attribute loss", "apan", "gradient", "below", 0, "gradient"),
            Arrow("traits", "fusion", route="corner"),
            Arrow("looks", "fusion", route="corner"),
            *_chain("fusion", "identity loss"),
            Arrow("identity loss", "fusion", "gradient"),
            *_chain("batch", "apn", "looks", "identities", "stripes", "stripe loss"),
            Arrow("stripe loss", "apn", "gradient", "below", 2, "gradient"),
            *_chain("copies", "judge", "quality", "target", "predictor"),
            *_chain("predictor", "weight loss"),
            Arrow("weight loss", "predictor", "gradient"),
            Arrow("predictor", "fusion", route="side"),
        ),
        (
            Lane("stage 1 alone, then with stage 2", 0, 0),
            Lane("stage 2, each batch", 1, 3),
        ),
    ),
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
            raise ReIDError(
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


def _tag(equations: Sequence[str]) -> str:
    """Return ``"AFF-E1 to E4"`` for four equations in a row, else a list of them."""
    if not equations:
        return ""
    short = [equations[0]]
    for last, label in pairwise(equations):
        same = label.split("-")[0] == last.split("-")[0]
        short.append(label.split("-")[1] if same else label)
    if len(short) > 2 and len({label.split("-")[0] for label in equations}) == 1:
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

    def __init__(self, diagram: Diagram, stacked: bool) -> None:
        self.diagram, self.stacked = diagram, stacked
        rows, boxes = diagram.rows, diagram.boxes
        # A frame begins and ends between rows; a channel carries lines back.
        starts = {lane.first for lane in diagram.lanes}
        ends = {lane.last for lane in diagram.lanes}
        back = {a.row for a in diagram.arrows if a.route == "below"}
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
        needs: dict[str, float] = {}
        for name, box in boxes.items():
            last = box.row + box.span
            room = sum(sizes_v[box.row : last]) + sum(after[box.row : last - 1])
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
            titles = [len(self.title(lane)) for lane in self.titled(sizes_v, after)]
            start = 6.0 + LINE * SIZE * max(titles)
        else:
            gap_u, sizes_u, start = WIDE_GAP, [WIDE_BOX] * len(COLUMNS), 8.0
            for span in range(1, rows + 1):
                for name, box in boxes.items():
                    if box.span == span:
                        part = range(box.row, box.row + span)
                        has = sum(sizes_v[r] for r in part)
                        has += sum(after[r] for r in part[:-1])
                        for r in part:
                            sizes_v[r] += max(0.0, needs[name] - has) / span
        self.after = after
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

    def titled(self, sizes: list[float], after: list[float]) -> tuple[Lane, ...]:
        self.lane_widths = {
            lane.text: sum(sizes[lane.first : lane.last + 1])
            + sum(after[lane.first : lane.last])
            + self.low
            + self.high
            for lane in self.diagram.lanes
        }
        return self.diagram.lanes

    def title(self, lane: Lane) -> list[str]:
        return _wrap(lane.text, self.lane_widths[lane.text], SIZE - 0.4, "bold")

    def rect(self, box: Box) -> _Rect:
        u0, u1 = self.columns[COLUMNS.index(box.column)]
        return _Rect(
            u0, u1, self.rows[box.row][0], self.rows[box.row + box.span - 1][1]
        )

    def frame(self, lane: Lane) -> _Rect:
        last = CHANNEL * any(
            a.route == "below" and a.row == lane.last for a in self.diagram.arrows
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
        if arrow.route == "below":
            v = self.rows[arrow.row][1] + CHANNEL
            stub = [(a.u1, a.v), (self.bus, a.v)]
            # Lines that share a way back share its line: dashes must not overlap.
            alike = [o for o in self.diagram.arrows if _same_way(o, arrow)]
            if a.v0 > min(self.rects[other.start].v0 for other in alike):
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
    return one.route == "below" and (one.end, one.row) == (other.end, other.row)


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
) -> Path:
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
        line, curve = Path.LINETO, Path.CURVE3
        codes = [Path.MOVETO, *[line, curve, curve] * 4]
        return Path([*points], codes)
    else:
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return Path([*corners, corners[0]], closed=True)


def _rounded(points: Sequence[tuple[float, float]], radius: float = 4.0) -> Path:
    """Return a line whose corners are rounded."""
    vertices, codes = [np.array(points[0])], [Path.MOVETO]
    for before, here, then in zip(points, points[1:], points[2:]):
        corner = np.array(here)
        for other in (before, then):
            way = np.array(other) - corner
            length = float(np.hypot(*way))
            near = corner + way * min(radius, length / 2) / max(length, 1e-9)
            if other is before:
                vertices += [near, corner]
                codes += [Path.LINETO, Path.CURVE3]
            else:
                vertices += [near]
                codes += [Path.CURVE3]
    vertices.append(np.array(points[-1]))
    codes.append(Path.LINETO)
    return Path(np.array(vertices), codes)


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
        look = {"color": INK if number < 0 else QUIET_INK, "gid": f"text:{name}"}
        _write(ax, (middle, at), line, size, weight=weight, zorder=4, **look)


def _draw_arrow(ax: Axes, layout: _Layout, arrow: Arrow) -> None:
    points = [layout.xy(*point) for point in layout.route(arrow)]
    look = STYLES[arrow.style]
    tip, before = np.array(points[-1]), np.array(points[-2])
    way = (tip - before) / np.hypot(*(tip - before))
    across = np.array([-way[1], way[0]])
    neck = tip - 5.0 * way
    joins = arrow.route == "below" and len(points) == 2  # another arrow goes on
    line = _rounded([*points[:-1], tuple(tip if joins else neck + 0.5 * way)])
    patch = PathPatch(line, fc="none", zorder=2, capstyle="butt", **_edge(look))
    patch.set_gid(f"arrow:{arrow.start}:{arrow.end}:{arrow.style}")
    ax.add_patch(patch)
    head = [tip, neck + 2.5 * across, neck - 2.5 * across]
    if not joins:
        ax.add_patch(Polygon(head, closed=True, color=look["color"], lw=0, zorder=2.2))
    text = " ".join(filter(None, [arrow.text, _tag(arrow.equations)]))
    if text:
        u0, u1 = layout.columns[COLUMNS.index("labels")]
        at = layout.xy((u0 + u1) / 2, layout.rows[arrow.row][1] + CHANNEL)
        look = {"color": "#A04400", "bbox": {"fc": PAPER, "ec": "none", "pad": 1.2}}
        turn = 90 if layout.stacked else 0
        _write(ax, at, text, TAG, weight="bold", zorder=5, rotation=turn, **look)


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
            title, at = "\n".join(layout.title(lane)), layout.xy(rect.u0 - 2.0, rect.v)
            _write(ax, at, title, SIZE - 0.4, va="bottom", **look)
        else:
            at, place = layout.xy(rect.u0 + 7, rect.v0), {"ha": "left", "bbox": ground}
            _write(ax, at, lane.text, SIZE - 0.4, zorder=2.4, **place, **look)
    for name in layout.diagram.groups:
        edge = {"fc": PAPER, "ec": KINDS["network"]}
        _draw_frame(ax, layout, layout.rects[name], zorder=1.5, **edge)


def _draw_legend(ax: Axes, layout: _Layout, top: float) -> float:
    """Draw what the lines mean; returns where it ends."""
    words = {"flow": "data", "gradient": "gradient", "update": "moves a memory"}
    used = {arrow.style for arrow in layout.diagram.arrows}
    entries = [(style, text) for style, text in words.items() if style in used]
    entries += [("new", "what the paper adds")] * any(
        box.new for box in layout.diagram.boxes.values()
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
            line = Path([(x, y), (x + 12, y)])
            ax.add_patch(PathPatch(line, fc="none", **_edge(look)))
            head = [(x + 17, y), (x + 12, y - 2.5), (x + 12, y + 2.5)]
            ax.add_patch(Polygon(head, closed=True, color=look["color"], lw=0))
        _write(ax, (x + 21, y), text, TAG + 0.5, ha="left", gid="legend")
        x += width
    return y + 8.0


def plot_diagram(name: str, *, stacked: bool = False) -> Axes:
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

    Returns:
        The axes, whose unit is the point and whose y axis points down.

    Raises:
        ReIDError: There is no such diagram.

    Example:
        >>> ax = plot_diagram("baseline")
        >>> sorted({text.get_text() for text in ax.texts if text.get_gid() == "lane"})
        ['each batch', 'once per epoch']
    """
    if name not in DIAGRAMS:
        known = ", ".join(DIAGRAMS)
        raise ReIDError(f"no diagram {name!r}; choose one of {known}")
    layout = _Layout(DIAGRAMS[name], stacked)
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
    images: Any, places: Any, captions: Sequence[str], *, names: Sequence[str] = ()
) -> Axes:
    """Draw pictures of one person as a way through a town.

    Streets are drawn through each place, and the way follows them from place to place,
    first across and then up or down.

    Args:
        images: ``(n, H, W, 3)`` images in the order in which they were taken.
        places: ``(n, 2)`` where, from left to right and from top to bottom, in [0, 1].
        captions: n texts below the images, lines between newlines.
        names: n names of the places on the map; none if empty.

    Returns:
        The axes, whose unit is the point and whose y axis points down.

    Raises:
        ReIDError: If there are fewer than two images, the number of places, captions or
            names differs from theirs, or a place lies outside the town.

    Example:
        >>> pictures = np.zeros((3, 8, 4, 3), dtype=np.uint8)
        >>> ax = plot_sightings(pictures, [(0, 0), (1, 0), (1, 1)], ["a", "b", "c"])
        >>> len(ax.images)
        3
    """
    pictures = _as_images(images, 4, "images")
    count, where = len(pictures), np.asarray(places, dtype=float)
    if count < 2 or where.shape != (count, 2) or len(captions) != count:
        raise ReIDError(
            f"got {count} images, places of shape {where.shape} and {len(captions)} "
            "captions; give two images or more, a place (x, y) and a caption for each"
        )
    if len(names) not in (0, count):
        raise ReIDError(f"got {len(names)} names for {count} places; give one for each")
    if not ((where >= 0) & (where <= 1)).all():
        raise ReIDError("a place lies outside the town; give numbers in [0, 1]")

    width, town, margin = TALL_WIDTH, 176.0, 10.0
    tall, wide = 92.0, 92.0 * pictures.shape[2] / pictures.shape[1]
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
        ax.imshow(
            pictures[index], extent=(left, left + wide, top + tall, top), zorder=2
        )
        for at in ((x[index], y[index]), (left, top + 4.0)):
            ax.plot(*at, "o", color=INK, markersize=13, zorder=3)
            look = {"color": PAPER, "weight": "bold", "va": "center_baseline"}
            _write(ax, at, f"{index + 1}", SIZE, zorder=4, **look)
        if names:
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
