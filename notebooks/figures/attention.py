"""What attention weighs, by how much, and where a network looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from reidlib.plotting import COLOURS, MARKERS
from reidlib.plotting.inputs import as_images
from reidlib.plotting.style import INK, PAPER, QUIET
from reidlib.plotting.tiles import GAP, LINE, Canvas, overlay
from reidlib.synthcity import World
from reidlib.synthcity.identities import Identity


def plot_reweighting(
    feature_map: Any,
    weights: Any,
    names: Sequence[str],
    *,
    places: Any = None,
    title: str,
) -> Axes:
    """Draw the channels of a map, their weights, and their products.

    All maps share one scale, from 0 to the largest value of the map. Below each channel
    stand its weight, as a number and as the filled part of a bar, and the product.
    Weights of places, where given, stand beside the products on a scale of their own.

    Args:
        feature_map: ``(C, h, w)``, from 0 up.
        weights: ``(C,)`` in [0, 1].
        names: Of the channels.
        places: ``(h, w)`` weights of places in [0, 1], multiplied as well.
        title: Title of the figure.

    Returns:
        The axes, whose images are each channel and its product, and the places.

    Example:
        >>> ax = plot_reweighting(np.ones((2, 4, 2)), [1.0, 0.5], "ab", title="CAM")
        >>> [float(image.get_array().max()) for image in ax.images]
        [1.0, 1.0, 1.0, 0.5]
    """
    maps, shares = np.asarray(feature_map), np.asarray(weights)
    where = np.ones(maps.shape[1:]) if places is None else np.asarray(places)
    after = maps * shares[:, None, None] * where
    aspect = maps.shape[1] / maps.shape[2]
    columns = len(maps) + (places is not None)
    gap, bar, step = 0.62, 0.14, 1.25  # between the rows, of which a bar; columns
    height = 2 * aspect + gap + 2 * LINE
    size = (1.08 * columns + 0.3, 1.08 * height / 1.1)
    ax = plt.figure(figsize=size).add_axes((0.0, 0.0, 1.0, 1.0))

    def draw(
        left: float, top: float, values: np.ndarray, low: float, high: float, cmap: str
    ) -> None:
        box = (left, left + 1, top + aspect, top)
        ax.imshow(values, extent=box, vmin=low, vmax=high, cmap=cmap)

    def write(left: float, top: float, text: str) -> None:
        ax.text(left + 0.5, top, text, ha="center", va="bottom", fontsize=9)

    for c in range(len(maps)):
        left = c * step
        for top, values in ((0.0, maps[c]), (aspect + gap, after[c])):
            draw(left, top, values, 0.0, maps.max(), "viridis")
        write(left, -0.08, names[c])
        row = aspect + gap / 2 + 0.06
        ax.add_patch(Rectangle((left, row), 1, bar, fc=PAPER, ec=INK, lw=0.8))
        ax.add_patch(Rectangle((left, row), shares[c], bar, fc=COLOURS[0], ec="none"))
        write(left, row - 0.05, f"× {shares[c]:.2f}")
    if places is not None:
        left, low, high = len(maps) * step + 0.15, where.min(), where.max()
        draw(left, aspect + gap, where, low, high, "cividis")
        write(left, aspect + gap - 0.08, f"× places\n{low:.2f} to {high:.2f}")
    look: dict[str, Any] = {
        "ha": "right",
        "va": "center",
        "rotation": 90,
        "fontsize": 9,
    }
    for top, word in ((0.0, "before"), (aspect + gap, "after")):
        ax.text(-0.1, top + aspect / 2, word, **look)
    ax.set_xlim(-0.35, columns * step + 0.05)
    ax.set_ylim(height - LINE, -2 * LINE)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title(title)
    return ax


def plot_weight_ranges(weights: Mapping[str, Mapping[str, Any]], title: str) -> Axes:
    """Draw how far weights of attention spread, in several places and networks.

    A box holds the middle half of the weights, the line in it is their median, and the
    whiskers reach the lowest and the highest one.

    Args:
        weights: For each network, for each place, its weights, of any shape.
        title: Title of the axes.

    Returns:
        The axes, with a row of boxes for each place, from the top in the given order.

    Example:
        >>> weights = {"new": {"channels": [0.2, 0.5, 0.6]}}
        >>> ax = plot_weight_ranges(weights, "Weights")
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['channels']
    """
    # A box of these five numbers is that of millions of weights.
    five = (0.0, 0.25, 0.5, 0.75, 1.0)
    table = pd.concat(
        pd.DataFrame(
            {"network": n, "place": place, "weight": np.quantile(values, five)}
        )
        for n, found in weights.items()
        for place, values in found.items()
    )
    places = table["place"].nunique()
    ax = plt.subplots(figsize=(6.4, 0.6 * places + 1.3))[1]
    sns.boxplot(
        table,
        x="weight",
        y="place",
        hue="network",
        whis=(0, 100),
        saturation=1,
        gap=0.1,
        ax=ax,
    )
    # Below: within the axes it would lie on a line of some network.
    below = (0.5, -0.16 - 0.18 / places)
    ax.legend(loc="upper center", bbox_to_anchor=below, ncols=len(weights))
    ax.set(title=title, ylabel="")
    return ax


def plot_focus_maps(
    images: Any,
    maps: Mapping[str, Any],
    masks: Any = None,
    names: Sequence[str] = (),
    *,
    opacity: float = 0.55,
) -> Axes:
    """Draw where networks look in the same images, a row for each network (AFF-F1).

    The first row has the images. Every map is drawn from 0 to its largest value. The
    outline is that of the mask.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)``, uint8 or floats in [0, 1].
        maps: For each network ``(N, H, W)``, from 0 up.
        masks: ``(N, H, W)`` bool: what is outlined.
        names: Of the images.
        opacity: 0 shows the image alone, 1 the map alone.

    Returns:
        The axes, whose images are in reading order.

    Example:
        >>> image = np.zeros((1, 8, 4, 3), np.uint8)
        >>> ax = plot_focus_maps(image, {"network": np.ones((1, 8, 4))}, names=["a"])
        >>> len(ax.images)
        2
    """
    pictures = as_images(images, 4, "images")
    number, height, width = pictures.shape[:3]
    aspect = height / width
    rows = {"image": overlay(pictures, np.zeros(pictures.shape[:3]), 0.0)}
    for name, found in maps.items():
        heat = np.asarray(found, dtype=float)
        highest = heat.max(axis=(1, 2), keepdims=True).clip(1e-12)
        rows[name] = overlay(pictures, heat / highest, opacity)
    canvas = Canvas(len(rows), number + 2, aspect, 1, None)
    for row, (name, tiles) in enumerate(rows.items()):
        top = row * canvas.step_y
        at = 2 * canvas.step_x - 0.15, top + aspect / 2
        canvas.ax.text(*at, name, ha="right", va="center", fontsize=9)
        for column, tile in enumerate(tiles):
            last = row == len(rows) - 1
            canvas.tile(row, column + 2, tile, names[column] if last else "")
            if masks is not None and masks[column].any():
                x = (column + 2) * canvas.step_x + (np.arange(width) + 0.5) / width
                y = top + aspect * (np.arange(height) + 0.5) / height
                # Twice, dark below light: visible over every colour of the map.
                for line, shade in ((1.8, INK), (0.8, PAPER)):
                    mask = masks[column].astype(float)
                    canvas.ax.contour(
                        x, y, mask, [0.5], colors=[shade], linewidths=line
                    )
    # Contours move the limits.
    canvas.ax.set_xlim(-GAP, (number + 2) * canvas.step_x)
    canvas.ax.set_ylim(len(rows) * canvas.step_y, -GAP)
    return canvas.finish(None)


def plot_focus(
    shares: Mapping[str, Any], people: Any, *, bounds: Mapping[str, float]
) -> Axes:
    """Draw the mean share of networks with two standard errors, between two bounds.

    Images of one person are not independent of each other: they are averaged first, and
    the error is that of the people.

    Args:
        shares: For each network ``(N,)`` shares in [0, 1], nan where there is none.
        people: ``(N,)`` person of each image.
        bounds: Values to compare with, drawn as lines: what chance gives, and what is
            the most that can be had.

    Returns:
        The axes, with a row for each network from the top.

    Example:
        >>> ax = plot_focus({"a": [0.2, 0.4, 0.5, 0.5]}, [1, 1, 2, 2], bounds={})
        >>> ax.lines[0].get_xdata().round(6).tolist()  # the mean of 0.3 and 0.5
        [40.0]
    """
    table = 100 * pd.DataFrame(shares).groupby(np.asarray(people)).mean()
    ax = plt.subplots(figsize=(6.4, 0.36 * len(shares) + 1.3))[1]
    for (label, bound), colour, style in zip(bounds.items(), (QUIET, INK), ("-", "--")):
        ax.axvline(100 * bound, color=colour, ls=style)
        ax.annotate(
            f"{label} {100 * bound:.0f}",
            (100 * bound, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
        )
    sns.pointplot(
        table,
        orient="h",
        errorbar=("se", 2),
        palette=list(COLOURS[: len(shares)]),
        markers=list(MARKERS[: len(shares)]),
        ax=ax,
    )
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="share of the map on the person (%)", ylabel="")
    return ax


def other_street(world: World) -> World:
    """Return a city in which each camera has the ground and wall of the next one.

    The cameras keep their colours, sharpness and light.

    Example:
        >>> from reidlib.synthcity import plan_world
        >>> world = plan_world("tiny", 0)
        >>> other_street(world).cameras[0].wall == world.cameras[1].wall
        True
    """
    cameras = tuple(
        replace(camera, ground=other.ground, wall=other.wall, seed=other.seed)
        for camera, other in zip(
            world.cameras, world.cameras[1:] + world.cameras[:1], strict=True
        )
    )
    return replace(world, cameras=cameras)


def other_people(world: World) -> World:
    """Return a city in which each person of the test is replaced by the next one.

    Example:
        >>> from reidlib.synthcity import plan_world
        >>> world = plan_world("tiny", 0)
        >>> first, second = world.test_pids[:2]
        >>> other_people(world).identity(first) == world.identity(second)
        True
    """
    following = dict(zip(world.test_pids, world.test_pids[1:] + world.test_pids[:1]))

    class Recast(World):
        def identity(self, number: int) -> Identity:
            return super().identity(following.get(number, number))

    return Recast(**vars(world))
