"""People in words, what branches are made of, what a head reacts to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from reidlib.data.attributes import ATTRIBUTE_NAMES, MarketAttributes
from reidlib.data.table import ImageTable
from reidlib.plotting import COLOURS, plot_images
from reidlib.plotting.style import GRID, HIT, INK, MISS, PAPER
from reidlib.synthcity import Camera, Identity, World, draw_person

# -- a person in words -----------------------------------------------------------------


def describe(world: World, pids: Sequence[int]) -> np.ndarray:
    """Return the classes of people of a city, without drawing them.

    Args:
        world: The city.
        pids: P people.

    Returns:
        ``(P, 12)`` int64 classes of `ATTRIBUTE_GROUPS` from 0, -1 where no colour is
        marked.
    """
    names = list(ATTRIBUTE_NAMES)
    rows = [world.identity(pid).attributes for pid in pids]
    values = np.array([[row[name] for name in names] for row in rows])
    known = MarketAttributes(dict(zip(pids, values)), {}, {})
    nowhere = np.zeros(len(pids), dtype=np.int64)
    table = ImageTable(Path(), ("",) * len(pids), np.array(pids), nowhere)
    return known.for_table(table)[1]


def plot_described(
    images: Any, captions: Sequence[str], words: Mapping[str, str], title: str
) -> np.ndarray:
    """Draw pictures of one person, and beside them what is said of the person.

    Args:
        images: ``(N, H, W, 3)`` pictures.
        captions: N texts, one below each picture.
        words: What is said, by what it is said of.
        title: Title of the figure.

    Returns:
        ``(2,)`` axes: pictures and words.

    Example:
        >>> axes = plot_described(np.zeros((1, 8, 4, 3)), ["a"], {"hat": "no"}, "b")
        >>> [text.get_text() for text in axes[1].texts]
        ['hat', 'no']
    """
    number = len(images)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(1.15 * number + 2.9, 2.9), width_ratios=(1.15 * number, 2.7)
    )
    plot_images(images, list(captions), columns=number, title=title, ax=left)
    for text in left.texts:
        text.set_fontsize(9)
    right.set_axis_off()
    for line, (name, value) in enumerate(words.items()):
        y = 0.98 - line / len(words)
        right.text(0.0, y, name, va="top", fontsize=9, color=COLOURS[6])
        right.text(0.55, y, value, va="top", fontsize=9, fontweight="bold")
    figure.subplots_adjust(left=0.01, right=0.99, wspace=0.04)
    return np.array([left, right], dtype=object)


def plot_shares(shares: Mapping[str, Mapping[str, float]]) -> Axes:
    """Draw how often each class of each group occurs, the frequent ones first.

    Args:
        shares: For each group the share of each of its classes; what is missing to 1
            is drawn as "none".

    Returns:
        The axes, one bar of segments for each group, the first at the top.

    Example:
        >>> ax = plot_shares({"hat": {"no": 0.9, "yes": 0.1}})
        >>> [text.get_text() for text in ax.texts]
        ['no 90 %', 'yes 10 %']
    """
    ax = plt.subplots(figsize=(8.4, 4.2), layout="constrained")[1]
    for place, given in enumerate(shares.values()):
        ordered = sorted(given.items(), key=lambda item: -item[1])
        rest = 1 - sum(given.values())
        if rest > 1e-9:
            ordered.append(("none", rest))
        left = 0.0
        for rank, (name, share) in enumerate(ordered):
            tone = min(0.15 + 0.85 * rank / max(len(ordered) - 1, 4), 1.0)
            colour = mpl.colormaps["cividis"](tone)
            ax.barh(place, share, left=left, color=colour, ec=PAPER, lw=1.0)
            text = f"{name} {share:.0%}".replace("%", " %")
            if share > 0.02 + 0.0095 * len(text):
                at = left + share / 2, place
                dark = INK if tone > 0.5 else "white"
                middle: Any = {"ha": "center", "va": "center", "color": dark}
                ax.text(*at, text, fontsize=8, **middle)
            left += share
    ax.set_yticks(range(len(shares)), list(shares))
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the people")
    ax.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
    ax.grid(visible=False)
    return ax


# -- what the branches are made of -----------------------------------------------------


def plot_flow(
    boxes: Mapping[str, tuple[float, float, str]],
    arrows: Sequence[tuple[str, str]],
    *,
    marked: Sequence[str] = (),
    width: float = 1.62,
    height: float = 0.72,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw boxes and the arrows between them.

    Args:
        boxes: By a name the column, the row (0 at the top) and the text of a box.
        arrows: Pairs of names; an arrow leads from the first to the second.
        marked: Names of boxes with a strong frame.
        width: Of a box, in columns of 2.
        height: Of a box, in rows.
        title: Title of the axes.
        ax: Axes to draw into; a figure that fits the boxes if None.

    Returns:
        The axes.

    Example:
        >>> ax = plot_flow({"a": (0, 0, "map"), "b": (1, 0, "mean")}, [("a", "b")])
        >>> [text.get_text() for text in ax.texts if text.get_text()]
        ['map', 'mean']
    """
    columns = 1 + max(column for column, _, _ in boxes.values())
    rows = 1 + max(row for _, row, _ in boxes.values())
    if ax is None:
        size = (1.7 * columns, 0.62 * rows)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    for name, (column, row, text) in boxes.items():
        corner = 2 * column - width / 2, row - height / 2
        strong = name in marked
        face, edge = ("#CFE3EF", COLOURS[0]) if strong else ("#F0EFE6", COLOURS[6])
        ax.add_patch(
            Rectangle(corner, width, height, fc=face, ec=edge, lw=2 if strong else 1)
        )
        ax.text(2 * column, row, text, ha="center", va="center", fontsize=8.2)
    for start, end in arrows:
        (a, b, _), (c, d, _) = boxes[start], boxes[end]
        if a == c:  # above each other
            sign = np.sign(d - b)
            tail, tip = (2 * a, b + sign * height / 2), (2 * c, d - sign * height / 2)
        else:
            tail, tip = (2 * a + width / 2, b), (2 * c - width / 2, d)
        look = {"arrowstyle": "-|>", "color": INK, "lw": 1.0, "shrinkA": 0}
        ax.annotate("", tip, tail, arrowprops={**look, "shrinkB": 0})
    ax.set_xlim(-0.9, 2 * columns - 1.1)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_axis_off()
    ax.set_title(title)
    return ax


def plot_taps(
    size: tuple[int, int], rates: Sequence[int], place: tuple[int, int]
) -> np.ndarray:
    """Draw which cells 3 x 3 convolutions of some dilations read for one cell.

    Args:
        size: Rows and columns of the map.
        rates: Dilations; 0 stands for a 1 x 1 convolution.
        place: Row and column of the cell.

    Returns:
        Axes, one for each rate: the map, a tick in each cell that is read, and a cross
        where a weight meets the border instead.

    Example:
        >>> axes = plot_taps((4, 2), (0, 4), (1, 0))
        >>> [sum(t.get_text() == "✗" for t in ax.texts) for ax in axes]
        [0, 8]
    """
    far = max(rates)
    axes = plt.subplots(
        1, len(rates), figsize=(2.1 * len(rates), 3.6), layout="constrained"
    )[1]
    for ax, rate in zip(np.atleast_1d(axes), rates):
        for row in range(size[0]):
            for column in range(size[1]):
                corner = column - 0.5, row - 0.5
                ax.add_patch(Rectangle(corner, 1, 1, fc="white", ec=GRID, lw=1))
        steps = (-rate, 0, rate) if rate else (0,)
        inside = 0
        for y in (place[0] + step for step in steps):
            for x in (place[1] + step for step in steps):
                read = 0 <= y < size[0] and 0 <= x < size[1]
                inside += read
                colour, mark = (HIT, "✓") if read else (MISS, "✗")
                look = {"ha": "center", "va": "center", "fontsize": 9, "color": colour}
                ax.text(x, y, mark, fontweight="bold", **look)
        corner = place[1] - 0.5, place[0] - 0.5
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, ec=INK, lw=2))
        name = f"3 × 3, dilation {rate}" if rate else "1 × 1"
        ax.set_title(f"{name}\n{inside} of {len(steps) ** 2} weights read", fontsize=9)
        ax.set_xlim(place[1] - far - 0.7, place[1] + far + 0.7)
        ax.set_ylim(size[0] - 0.3, -0.7)
        ax.set_aspect("equal")
        ax.set_axis_off()
    return np.atleast_1d(axes)


# -- what a head reacts to -------------------------------------------------------------


def height_profiles(
    predict: Callable[[Tensor], Sequence[Tensor]], images: Tensor, bands: int = 16
) -> np.ndarray:
    """Return at which height of the pictures each head's decision can be moved.

    The gradient of the logarithm of the largest probability of a head with respect to
    the pixels, without its sign, summed over each band of rows and divided by the sum
    over the picture.

    Args:
        predict: From ``(B, 3, H, W)`` images to the logits of G heads.
        images: ``(B, 3, H, W)`` normalised images.
        bands: How many bands of equal height the picture is cut into.

    Returns:
        ``(G, bands)`` means over the images; each row sums to 1.

    Raises:
        ValueError: If the height cannot be divided into the bands.

    Example:
        >>> def top(x): return [torch.stack([x[:, 0, 0].sum(1), 0 * x[:, 0, 0, 0]], 1)]
        >>> height_profiles(top, torch.ones(2, 3, 8, 4), bands=2).tolist()
        [[1.0, 0.0]]
    """
    if images.shape[2] % bands:
        raise ValueError(f"{images.shape[2]} rows cannot be cut into {bands} bands")
    images = images.detach().clone().requires_grad_()
    profiles = []
    logits = predict(images)
    for head in logits:
        surest = head.log_softmax(dim=1).amax(dim=1).sum()
        (gradient,) = torch.autograd.grad(surest, images, retain_graph=True)
        rows = gradient.abs().sum(dim=(1, 3))  # (B, H)
        band = rows.unflatten(1, (bands, -1)).sum(dim=2)
        share = band / band.sum(dim=1, keepdim=True).clamp_min(1e-30)
        profiles.append(share.mean(dim=0))
    return torch.stack(profiles).double().numpy()


def _coloured(person: Identity, part: str) -> Identity:
    # Red or, for who wears red already, white.
    name, value = "red", (190.0, 40.0, 40.0)
    garment = getattr(person, part)
    if part == "lower":  # there is no red below the waist
        name, value = "green", (60.0, 140.0, 60.0)
    if garment.name == name:
        name, value = "white", (235.0, 235.0, 235.0)
    changed = replace(garment, name=name, colours=(value, *garment.colours[1:]))
    return replace(person, **{part: changed})


_GREY, _BROWN = (90.0, 90.0, 95.0), (110.0, 70.0, 45.0)
CHANGES: dict[str, Callable[[Identity], Identity]] = {
    "hair": lambda p: replace(
        p, hair="long" if p.attributes["hair"] == 1 else "short", hood=False
    ),
    "up": lambda p: replace(p, sleeve=0.3 if p.sleeve > 0.7 else 1.0),
    "down": lambda p: replace(p, lower_length=0.45 if p.lower_length > 0.7 else 0.95),
    "clothes": lambda p: replace(p, skirt=not p.skirt),
    "hat": lambda p: replace(p, hat="brimmed" if p.hat == "none" else "none"),
    "backpack": lambda p: replace(p, backpack=None if p.backpack else (_GREY, _BROWN)),
    "bag": lambda p: replace(p, bag=None if p.bag else _BROWN),
    "handbag": lambda p: replace(p, handbag=None if p.handbag else _BROWN),
    "upcolour": lambda p: _coloured(p, "upper"),
    "downcolour": lambda p: _coloured(p, "lower"),
}
"""For each group of attributes that can be seen alone: a person with another class."""


def change_one(
    world: World, pids: Sequence[int], camera: Camera, yaw: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw people as they are, and again with one attribute changed at a time.

    All else is the same: camera, light, place, step. Only what the attribute itself
    moves is moved, such as the box where a hat makes the person taller.

    Args:
        world: The city.
        pids: N people.
        camera: The camera.
        yaw: Direction of walking, 0 towards the camera.

    Returns:
        ``(N, H, W, 3)`` pictures, and the same for each change of `CHANGES`.
    """
    dials = replace(world.dials, occlusion=0.0, misalignment=0.0)

    def draw(change: Callable[[Identity], Identity]) -> np.ndarray:
        people = [change(world.identity(pid)) for pid in pids]
        look: dict[str, Any] = {
            "yaw": yaw,
            "phase": 0.9,
            "dials": dials,
            "seed": world.seed,
        }
        return np.stack([draw_person(person, camera, **look) for person in people])

    return draw(lambda person: person), {k: draw(c) for k, c in CHANGES.items()}
