"""Block diagrams: what they say, that it is legible, and that they are one set."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.transforms import Bbox

import diagrams as module
from diagrams import (
    COLUMNS,
    DIAGRAMS,
    KINDS,
    STYLES,
    Arrow,
    Box,
    Diagram,
    plot_diagram,
    plot_sightings,
)
from reidlib.papers import coverage_items
from reidlib.plotting import use_style
from reidlib.plotting.style import INK

FILE = Path(module.__file__).with_suffix(".toml")
NAMES = tuple(DIAGRAMS)
both = pytest.mark.parametrize("stacked", [False, True], ids=["wide", "stacked"])
every = pytest.mark.parametrize("name", NAMES)

# What each paper is, in words that a box must hold.
WORDS = {
    "baseline": ("DBSCAN", "Jaccard", "pseudo label", "memory", "contrast"),
    "calr": ("one camera", "Infomap", "pivots", "reversal", "camera classifier"),
    "aff_scl": ("CASAM", "CAM", "two groups", "mean memory", "hard memory", "balance"),
    "cals": ("YOLO", "EfficientNet-B0", "K-Means++", "soft attention", "four bands"),
    "qafm": ("APN", "APAN", "27 attributes", "12 attribute", "34 damaged", "ConvLSTM"),
}
EQUATIONS = {
    "baseline": {"CALR-E1", "CALR-E2", "AFF-E7"},
    # Equation 1 of CALR is the baseline's own loss.
    "calr": {f"CALR-E{n}" for n in range(2, 10)},
    "aff_scl": {f"AFF-E{n}" for n in range(1, 15)},
    "cals": {f"CALS-E{n}" for n in range(1, 7)} | {"CALS-D1"},
    "qafm": {f"QAFM-E{n}" for n in range(1, 8)},
}


@pytest.fixture(autouse=True, scope="module")
def _figures():
    mpl.use("Agg")
    with mpl.rc_context():
        use_style()
        yield
        plt.close("all")


@pytest.fixture(scope="module")
def axes(_figures):
    """Each diagram, drawn once."""
    return cache(plot_diagram)


def layout_of(name: str, stacked: bool):
    return module._Layout(DIAGRAMS[name], stacked)


def overlap(one, other) -> bool:
    return min(one.u1, other.u1) > max(one.u0, other.u0) and min(
        one.v1, other.v1
    ) > max(one.v0, other.v0)


def drawn(ax, prefix: str) -> list[tuple[str, Bbox]]:
    """Texts with a gid and their boxes in the axes' points."""
    renderer = ax.figure.canvas.get_renderer()
    inverse = ax.transData.inverted()
    return [
        (text.get_gid(), inverse.transform_bbox(text.get_window_extent(renderer)))
        for text in ax.texts
        if (text.get_gid() or "").startswith(prefix)
    ]


@every
def test_every_part_is_of_the_vocabulary(name):
    diagram = DIAGRAMS[name]
    ends = set(diagram.boxes) | set(diagram.groups)
    for box in diagram.boxes.values():
        assert box.column in COLUMNS
        assert box.kind in KINDS
    for arrow in diagram.arrows:
        assert {arrow.start, arrow.end} <= ends
        assert arrow.style in STYLES
        assert arrow.route in ("", "corner", "side", "back")
        assert arrow.row < diagram.rows
    for members in diagram.groups.values():
        assert set(members) <= set(diagram.boxes)
    assert len(set(diagram.arrows)) == len(diagram.arrows)


def test_every_box_of_the_file_is_in_its_diagram():
    methods = tomllib.loads(FILE.read_text(encoding="utf-8"))
    told = {
        name: sum(len(method.get(part, {})) for part in module.PARTS)
        for name, method in methods.items()
    }
    assert {name: len(diagram.boxes) for name, diagram in DIAGRAMS.items()} == told
    ways = {"lanes", "flow", "corner", "side", "update", "gradient", "back", "groups"}
    known = ways | {"chapters"} | set(module.PARTS)
    assert [k for method in methods.values() for k in method if k not in known] == []


@every
def test_every_box_takes_part_and_every_loss_sends_a_gradient(name):
    diagram = DIAGRAMS[name]
    touched = Counter(end for a in diagram.arrows for end in (a.start, a.end))
    assert [box for box in diagram.boxes if not touched[box]] == []
    losses = {n for n, box in diagram.boxes.items() if box.kind == "loss"}
    assert losses == {a.start for a in diagram.arrows if a.style == "gradient"}
    fed = {a.end for a in diagram.arrows if a.style == "flow"}
    assert {n for n in diagram.boxes if n not in fed} <= {
        n for n, box in diagram.boxes.items() if box.column == "images"
    }


@every
def test_a_diagram_has_the_parts_and_equations_of_its_paper(name):
    diagram = DIAGRAMS[name]
    text = " | ".join(box.text for box in diagram.boxes.values())
    assert [words for words in WORDS[name] if words not in text] == []
    assert diagram.equations() == EQUATIONS[name]
    assert diagram.equations() <= {item.id for item in coverage_items()}
    assert any(box.new for box in diagram.boxes.values()) == (name != "baseline")


def test_only_the_detector_may_be_left_out():
    optional = [n for d in DIAGRAMS.values() for n, b in d.boxes.items() if b.optional]
    assert optional == ["detector"]


@every
def test_rows_that_run_together_are_framed_once(name):
    diagram = DIAGRAMS[name]
    rows = [r for lane in diagram.lanes for r in range(lane.first, lane.last + 1)]
    assert rows == list(range(diagram.rows))


@both
@every
def test_no_two_boxes_overlap(name, stacked):
    rects = layout_of(name, stacked).rects
    boxes = {n: rect for n, rect in rects.items() if n in DIAGRAMS[name].boxes}
    assert [
        p for p in combinations(boxes, 2) if overlap(boxes[p[0]], boxes[p[1]])
    ] == []


@both
@every
def test_no_arrow_runs_through_a_box(name, stacked):
    layout, diagram = layout_of(name, stacked), DIAGRAMS[name]
    crossed = []
    for arrow in diagram.arrows:
        own = {arrow.start, arrow.end}
        for group, members in diagram.groups.items():
            own |= set(members) if group in own else set()
        for (u0, v0), (u1, v1) in pairwise(layout.route(arrow)):
            assert u0 == pytest.approx(u1) or v0 == pytest.approx(v1)
            for box in set(diagram.boxes) - own:
                rect = layout.rects[box]
                if (
                    min(u0, u1) < rect.u1
                    and max(u0, u1) > rect.u0
                    and min(v0, v1) < rect.v1
                    and max(v0, v1) > rect.v0
                ):
                    crossed.append((arrow.start, arrow.end, box))
    assert crossed == []


@both
@every
def test_no_text_leaves_its_box(name, stacked, axes):
    ax = axes(name, stacked=stacked)
    layout = layout_of(name, stacked)
    texts = drawn(ax, "text:")
    assert {gid for gid, _ in texts} == {f"text:{n}" for n in DIAGRAMS[name].boxes}
    out = []
    for gid, box in texts:
        rect = layout.rects[gid.removeprefix("text:")]
        x, y = zip(
            layout.xy(rect.u0, rect.v0), layout.xy(rect.u1, rect.v1), strict=True
        )
        if box.x0 < x[0] or box.x1 > x[1] or box.ymin < y[0] or box.ymax > y[1]:
            out.append(gid)
    assert out == []


@both
@every
def test_titles_of_frames_and_columns_are_free_of_boxes_and_of_each_other(
    name, stacked, axes
):
    ax = axes(name, stacked=stacked)
    layout = layout_of(name, stacked)
    boxes = []
    for rect in layout.rects.values():
        x0, y0 = layout.xy(rect.u0, rect.v0)
        x1, y1 = layout.xy(rect.u1, rect.v1)
        boxes.append(Bbox([[x0, y0], [x1, y1]]))
    titles = [box for gid in ("lane", "column", "legend") for _, box in drawn(ax, gid)]
    assert len(titles) > len(COLUMNS) + len(DIAGRAMS[name].lanes)
    assert [t for t in titles for box in boxes if t.overlaps(box)] == []
    # matplotlib gives letters a little air, which may touch.
    padded = [t.padded(-0.5) for t in titles]
    assert [p for p in combinations(padded, 2) if p[0].overlaps(p[1])] == []
    width, height = ax.get_xlim()[1], ax.get_ylim()[0]
    assert all(t.x0 > 0 and t.x1 < width for t in titles)
    assert all(t.ymin > 0 and t.ymax < height for t in titles)


@both
def test_the_set_has_equal_columns_and_equal_letters(stacked, axes):
    layouts = [layout_of(name, stacked) for name in NAMES]
    if stacked:  # equal width, for a telephone's page
        assert {round(layout.end_v) for layout in layouts} == {round(module.TALL_WIDTH)}
    else:
        assert len({tuple(layout.columns) for layout in layouts}) == 1
    sizes = set()
    for name in NAMES:
        ax = axes(name, stacked=stacked)
        points = ax.figure.get_size_inches() * 72
        assert points == pytest.approx([ax.get_xlim()[1], ax.get_ylim()[0]])
        texts = [t for t in ax.texts if (t.get_gid() or "").startswith("text:")]
        sizes |= {text.get_fontsize() for text in texts}
    assert sizes == {module.SIZE, module.TAG}


@both
@every
def test_what_a_paper_adds_stands_out_by_more_than_colour(name, stacked, axes):
    ax = axes(name, stacked=stacked)
    patches = {p.get_gid(): p for p in ax.patches if p.get_gid()}
    for box_name, box in DIAGRAMS[name].boxes.items():
        patch = patches[f"box:{box_name}"]
        assert (patch.get_linewidth() > 1.5) == box.new
        assert (patch.get_edgecolor()[:3] == to_rgb(INK)) == box.new
        assert (patch.get_linestyle() in ("-", "solid")) != box.optional
    looks = {(s["linestyle"], s["color"]) for s in STYLES.values()}
    assert len({style for style, _ in looks}) == len(STYLES)


CHAPTERS = [(n, chapter) for n, d in DIAGRAMS.items() for chapter in d.chapters]


@pytest.mark.parametrize(("name", "chapter"), CHAPTERS)
def test_what_a_chapter_is_about_is_in_colour_and_the_rest_grey(name, chapter):
    diagram = DIAGRAMS[name]
    lit = diagram.chapters[chapter]
    assert (FILE.parents[2] / "notebooks" / f"{chapter}.ipynb").is_file()
    assert set(lit) < set(diagram.boxes)
    assert len(lit) == len(set(lit)) > 0
    ax = plot_diagram(name, chapter=chapter)
    plt.close(ax.figure)
    inks: dict[str, set[str]] = {}
    for text in ax.texts:
        gid = text.get_gid() or ""
        if gid.startswith("text:"):
            inks.setdefault(gid.removeprefix("text:"), set()).add(text.get_color())
    grey = {box for box, colours in inks.items() if colours == {module.GREY_INK}}
    assert grey == set(diagram.boxes) - set(lit)
    edges = {
        patch.get_gid(): patch.get_edgecolor()[:3]
        for patch in ax.patches
        if (patch.get_gid() or "").startswith("arrow:")
    }
    for arrow in diagram.arrows:
        ends = {m for e in (arrow.start, arrow.end) for m in diagram.groups.get(e, [e])}
        colour = edges[f"arrow:{arrow.start}:{arrow.end}:{arrow.style}"]
        if not ends & set(lit):
            assert colour == to_rgb(module.GREY_EDGE)
        if ends <= set(lit):
            assert colour == to_rgb(STYLES[arrow.style]["color"])


def test_a_gradient_in_colour_goes_all_the_way_back_alone():
    lit = DIAGRAMS["calr"].chapters["camera_alignment"]
    layout = module._Layout(DIAGRAMS["calr"], stacked=False, lit=lit)
    ways = {a.start: layout.route(a) for a in DIAGRAMS["calr"].arrows if a.route}
    network = layout.rects["network"]
    assert ways["domain"][-1] == (network.u, network.v1)
    # The grey one of the line above ends where the colour begins.
    assert ways["inter"][-1] == ways["domain"][1]


@every
def test_every_arrow_is_drawn(name, axes):
    ax = axes(name, stacked=False)
    drawn_arrows = Counter(
        p.get_gid() for p in ax.patches if (p.get_gid() or "").startswith("arrow:")
    )
    wanted = Counter(
        f"arrow:{a.start}:{a.end}:{a.style}" for a in DIAGRAMS[name].arrows
    )
    assert drawn_arrows == wanted


def test_gradients_that_share_a_way_back_draw_it_once():
    layout = layout_of("aff_scl", False)
    back = [a for a in DIAGRAMS["aff_scl"].arrows if a.route == "back"]
    assert sorted(len(layout.route(arrow)) for arrow in back) == [2, 2, 5]


def test_equations_are_listed_shortly():
    assert module._tag("") == ""
    assert module._tag("AFF-E5 AFF-E6") == "AFF-E5, E6"
    assert module._tag("AFF-E7 CALR-E1") == "AFF-E7, CALR-E1"
    assert module._tag("AFF-E1 AFF-E2 AFF-E3 AFF-E4") == "AFF-E1 to E4"


def test_a_word_that_cannot_fit_is_named():
    box = Box("images", "images", 0, "incomprehensibilities")
    with pytest.raises(ValueError, match=r"'incomprehensibilities' is .* shorter word"):
        module._Layout(Diagram({"all": box}, (), (), {}), stacked=False)


def test_arrows_between_the_same_boxes_stand_beside_each_other():
    layout = layout_of("baseline", False)
    flow = layout.route(Arrow("labels", "memory"))
    update = layout.route(Arrow("labels", "memory", "update"))
    assert update[0][1] - flow[0][1] == pytest.approx(7.0)


# Sightings


PLACES = [(0.0, 1.0), (0.5, 0.0), (1.0, 0.5)]
PICTURES = np.arange(3, dtype=np.uint8).repeat(16 * 8 * 3).reshape(3, 16, 8, 3)


def test_sightings_are_drawn_in_order_and_joined_by_one_way():
    ax = plot_sightings(PICTURES, PLACES, ["a\nb", "c", "d"], "xyz")
    assert [int(np.asarray(i.get_array()).max()) for i in ax.images] == [0, 1, 2]
    lefts = [image.get_extent()[0] for image in ax.images]
    assert lefts == sorted(lefts)
    discs = [line.get_xydata()[0] for line in ax.lines if line.get_marker() == "o"]
    on_map = np.array(discs[::2])
    (way,) = [p for p in ax.patches if p.get_gid() == "way"]
    corners = way.get_path().vertices
    assert corners[0] == pytest.approx(on_map[0])
    assert corners[-1] == pytest.approx(on_map[-1])
    assert np.abs(corners - on_map[1]).sum(axis=1).min() < 1e-9
    assert (np.diff(on_map[:, 0]) > 0).all()
    captions = [t.get_text() for t in ax.texts if t.get_gid() == "caption"]
    assert captions == ["a\nb", "c", "d"]
    assert [t.get_text() for t in ax.texts if t.get_gid() == "place"] == ["x", "y", "z"]
    numbers = [t.get_text() for t in ax.texts if re.fullmatch(r"\d", t.get_text())]
    assert numbers == ["1", "1", "2", "2", "3", "3"]


def test_sightings_stay_inside_the_figure():
    ax = plot_sightings(PICTURES, PLACES, ["a\nb", "c", "d"], "xyz")
    width, height = ax.get_xlim()[1], ax.get_ylim()[0]
    for prefix in ("caption", "place"):
        for _, box in drawn(ax, prefix):
            assert min(box.x0, box.ymin, width - box.x1, height - box.ymax) > 0
