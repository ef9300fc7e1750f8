"""Figures of attention: what is weighed, by how much, and where a network looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from reidlib.errors import ReIDError
from reidlib.plotting.charts import _axes
from reidlib.plotting.style import COLOURS, INK, MARKERS, PAPER, QUIET
from reidlib.plotting.tiles import GAP, LINE, _as_images, _as_numpy, _Canvas


def plot_reweighting(
    feature_map: Any,
    weights: Any,
    names: Sequence[str] | None = None,
    *,
    places: Any = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the channels of a map, their weights, and what is left of them.

    All maps share one scale, from 0 to the largest value of the map; below each channel
    stand its weight, as a number and as the filled part of a bar, and the channel as it
    leaves. Weights of places, where given, are drawn beside them on a scale of their
    own.

    Args:
        feature_map: ``(C, h, w)``, from 0 up.
        weights: ``(C,)`` in [0, 1].
        names: Of the channels.
        places: ``(h, w)`` weights of places in [0, 1], multiplied as well.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, whose images are the C channels, the C products, and the places.

    Raises:
        ReIDError: If shapes do not fit, or values are out of their range.

    Example:
        >>> ax = plot_reweighting(np.ones((2, 4, 2)), [1.0, 0.5])
        >>> [float(image.get_array().max()) for image in ax.images]
        [1.0, 1.0, 1.0, 0.5]
    """
    maps, shares = _as_numpy(feature_map), _as_numpy(weights)
    if maps.ndim != 3 or shares.shape != maps.shape[:1]:
        raise ReIDError(
            f"a map of shape {maps.shape} and weights of {shares.shape}; give "
            "(C, h, w) and (C,)"
        )
    where = None if places is None else _as_numpy(places)
    if where is not None and where.shape != maps.shape[1:]:
        raise ReIDError(
            f"places have shape {where.shape} for a map of {maps.shape[1:]}; give one "
            "weight for each place"
        )
    for name, part in (("weights", shares), ("places", where)):
        if part is not None and not ((part >= 0) & (part <= 1)).all():
            raise ReIDError(f"{name} go beyond [0, 1]; give what the sigmoid gave")
    if not np.isfinite(maps).all() or maps.min() < 0:
        raise ReIDError("the map has values below 0 or none at all; give it after ReLU")
    labels = _named(names, len(maps), "channel")
    after = maps * shares[:, None, None] * (1 if where is None else where)
    aspect = maps.shape[1] / maps.shape[2]
    columns = len(maps) + (where is not None)
    gap, bar = 0.62, 0.14  # between the rows, of which a bar
    height = 2 * aspect + gap + 2 * LINE
    if ax is None:
        size = (1.08 * columns + 0.3, 1.08 * height / 1.1)
        ax = plt.figure(figsize=size).add_axes((0.0, 0.0, 1.0, 1.0))
    top = float(maps.max()) or 1.0
    step = 1.25
    for c in range(len(maps)):
        left = c * step
        for low, part in ((0.0, maps[c]), (aspect + gap, after[c])):
            box = (left, left + 1, low + aspect, low)
            ax.imshow(part, extent=box, vmin=0, vmax=top, cmap="viridis")
        ax.text(left + 0.5, -0.08, labels[c], ha="center", va="bottom", fontsize=9)
        row = aspect + gap / 2 + 0.06
        ax.add_patch(Rectangle((left, row), 1, bar, fc=PAPER, ec=INK, lw=0.8))
        ax.add_patch(Rectangle((left, row), shares[c], bar, fc=COLOURS[0], ec="none"))
        ax.text(
            left + 0.5,
            row - 0.05,
            f"× {shares[c]:.2f}",
            ha="center",
            va="bottom",
            fontsize=9,
        )
    if where is not None:
        left = len(maps) * step + 0.15
        box = (left, left + 1, 2 * aspect + gap, aspect + gap)
        span = (float(where.min()), float(where.max()))
        ax.imshow(where, extent=box, vmin=span[0], vmax=span[1], cmap="cividis")
        ax.text(
            left + 0.5,
            aspect + gap - 0.08,
            f"× places\n{span[0]:.2f} to {span[1]:.2f}",
            ha="center",
            va="bottom",
            fontsize=9,
        )
    for low, word in ((0.0, "before"), (aspect + gap, "after")):
        ax.text(
            -0.1,
            low + aspect / 2,
            word,
            ha="right",
            va="center",
            rotation=90,
            fontsize=9,
        )
    ax.set_xlim(-0.35, columns * step + 0.05)
    ax.set_ylim(height - LINE, -2 * LINE)
    ax.set_aspect("equal")
    ax.set_axis_off()
    if title:
        ax.set_title(title)
    return ax


def plot_weight_ranges(
    weights: Mapping[str, Mapping[str, Any]],
    *,
    title: str | None = None,
    xlabel: str = "weight",
    ax: Axes | None = None,
) -> Axes:
    """Draw how far weights of attention spread, in several places and networks.

    A thin line goes from the lowest to the highest weight, a thick one over the middle
    90 % of them, and the marker is their median.

    Args:
        weights: For each network, for each place, its weights, of any shape.
        title: Title of the axes.
        xlabel: Label of the weights.
        ax: Axes to draw into.

    Returns:
        The axes, with a row for each place, from the top in the order of the first
        network.

    Raises:
        ReIDError: If networks have different places, or one has no finite weights.

    Example:
        >>> ax = plot_weight_ranges({"new": {"channels": [0.2, 0.5, 0.6]}})
        >>> float(ax.lines[-1].get_xdata()[0])
        0.5
    """
    places = list(next(iter(weights.values()), {}))
    if not places or any(list(found) != places for found in weights.values()):
        raise ReIDError("give weights of the same places for every network")
    ax = _axes(ax, (6.4, 0.6 * len(places) + 1.3))
    spread = 0.5 / max(len(weights), 2)
    for i, (network, found) in enumerate(weights.items()):
        offset = (i - (len(weights) - 1) / 2) * spread
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        for row, place in enumerate(places):
            values = _as_numpy(found[place]).ravel().astype(float)
            if not values.size or not np.isfinite(values).all():
                raise ReIDError(f"{network}, {place}: give finite weights")
            low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
            y = row + offset
            ax.plot([values.min(), values.max()], [y, y], color=colour, lw=1)
            ax.plot([low, high], [y, y], color=colour, lw=4.5, solid_capstyle="butt")
            ax.plot(
                [middle],
                [y],
                marker,
                color=colour,
                mec=PAPER,
                mew=0.8,
                ms=7.5,
                ls="none",
                label=network if not row else None,
            )
    ax.set_yticks(range(len(places)), places)
    ax.set_ylim(len(places) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(xlabel)
    # Below: within the axes it would lie on a line of some network.
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16 - 0.18 / len(places)),
        ncols=len(weights),
    )
    if title:
        ax.set_title(title)
    return ax


def plot_focus_maps(
    images: Any,
    maps: Mapping[str, Any],
    masks: Any = None,
    names: Sequence[str] | None = None,
    *,
    opacity: float = 0.55,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw where networks look in the same images, a row for each network (AFF-F1).

    The first row has the images. Every map is drawn from 0 to its largest value. The
    outline is that of the mask.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)``, as for `plot_images`.
        maps: For each network ``(N, H, W)``, from 0 up.
        masks: ``(N, H, W)`` bool: what is outlined.
        names: Of the images.
        opacity: 0 shows the image alone, 1 the map alone.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, whose images are in reading order.

    Raises:
        ReIDError: If shapes do not fit, or ``opacity`` is not in [0, 1].

    Example:
        >>> image = np.zeros((1, 8, 4, 3), np.uint8)
        >>> ax = plot_focus_maps(image, {"network": np.ones((1, 8, 4))})
        >>> len(ax.images)
        2
    """
    pictures = _as_images(images, 4, "images")
    shape = pictures.shape[:3]
    heat = {name: _as_numpy(found).astype(float) for name, found in maps.items()}
    outlines = None if masks is None else _as_numpy(masks)
    for name, found in {**heat, "masks": outlines}.items():
        if found is not None and found.shape != shape:
            raise ReIDError(
                f"{name}: got shape {found.shape} for images of {shape}; give a map "
                "(H, W) for each image, as large as it"
            )
    if not 0 <= opacity <= 1:
        raise ReIDError(f"opacity is {opacity}; it must be in [0, 1]")
    if pictures.dtype != np.uint8:
        pictures = np.rint(255 * pictures).astype(np.uint8)
    labels = _named(names, shape[0], "image") if names is not None else [""] * shape[0]
    aspect = shape[1] / shape[2]
    canvas = _Canvas(1 + len(heat), shape[0] + 2, aspect, 0 if names is None else 1, ax)
    rows = {"image": None, **heat}
    for row, (name, found) in enumerate(rows.items()):
        canvas.ax.text(
            2 * canvas.step_x - 0.15,
            row * canvas.step_y + aspect / 2,
            name,
            ha="right",
            va="center",
            fontsize=9,
        )
        for column in range(shape[0]):
            tile = pictures[column]
            if found is not None:
                share = found[column] / max(float(found[column].max()), 1e-12)
                colour = 255 * mpl.colormaps["viridis"](share)[..., :3]
                tile = np.rint((1 - opacity) * tile + opacity * colour).astype(np.uint8)
            caption = labels[column] if row == len(heat) else ""
            canvas.tile(row, column + 2, tile, caption)
            if outlines is not None and outlines[column].any():
                left, top = (column + 2) * canvas.step_x, row * canvas.step_y
                x = left + (np.arange(shape[2]) + 0.5) / shape[2]
                y = top + aspect * (np.arange(shape[1]) + 0.5) / shape[1]
                # Twice, dark below light: visible over every colour of the map.
                for lines, shade in ((1.8, INK), (0.8, PAPER)):
                    canvas.ax.contour(
                        x,
                        y,
                        outlines[column].astype(float),
                        [0.5],
                        colors=[shade],
                        linewidths=lines,
                    )
    # Contours move the limits.
    canvas.ax.set_xlim(-GAP, (shape[0] + 2) * canvas.step_x)
    canvas.ax.set_ylim(len(rows) * canvas.step_y, -GAP)
    return canvas.finish(title)


def plot_focus(
    shares: Mapping[str, Any],
    groups: Any = None,
    *,
    bounds: Mapping[str, float] | None = None,
    title: str | None = None,
    xlabel: str = "share of the map on the person (%)",
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean share of networks with two standard errors, between two bounds.

    Images of one person are not independent of each other: where ``groups`` says which
    belong together, they are averaged first, and the error is that of the groups.

    Args:
        shares: For each network ``(N,)`` shares in [0, 1], nan where there is none.
        groups: ``(N,)`` what an image belongs to, such as its person.
        bounds: Values to compare with, drawn as lines: what chance gives, and what is
            the most that can be had.
        title: Title of the axes.
        xlabel: Label of the shares.
        ax: Axes to draw into.

    Returns:
        The axes, with a row for each network from the top.

    Raises:
        ReIDError: If shapes do not fit, or a network has fewer than two groups.

    Example:
        >>> ax = plot_focus({"a": [0.2, 0.4, 0.5, 0.5]}, [1, 1, 2, 2])
        >>> round(float(ax.lines[-1].get_xdata()[0]), 6)  # the mean of 0.3 and 0.5
        40.0
    """
    ax = _axes(ax, (6.4, 0.36 * len(shares) + 1.3))
    for name, values in shares.items():
        if len(_as_numpy(values)) != len(_as_numpy(next(iter(shares.values())))):
            raise ReIDError(f"{name}: give one share for each image, as for the others")
    for i, (label, bound) in enumerate((bounds or {}).items()):
        ax.axvline(100 * bound, color=INK if i else QUIET, ls="--" if i else "-")
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
    for row, values in enumerate(shares.values()):
        mean, error = _grouped_mean(values, groups)
        colour, marker = COLOURS[row % len(COLOURS)], MARKERS[row % len(MARKERS)]
        ends = [100 * (mean - 2 * error), 100 * (mean + 2 * error)]
        ax.plot(ends, [row, row], color=colour, lw=2.4)
        ax.plot([100 * mean], [row], marker, color=colour, ms=8, mec=PAPER)
    ax.set_yticks(range(len(shares)), list(shares))
    ax.set_ylim(len(shares) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(xlabel)
    if title:
        ax.set_title(title, pad=20 if bounds else None)
    return ax


def _grouped_mean(values: Any, groups: Any = None) -> tuple[float, float]:
    """Return the mean over groups and its standard error.

    Args:
        values: ``(N,)``; nan is left out.
        groups: ``(N,)`` what each value belongs to; each is its own group if not given.

    Returns:
        Mean and standard error of the means of the groups.

    Raises:
        ReIDError: If there are fewer than two groups, or shapes do not fit.

    Example:
        >>> mean, error = _grouped_mean([1.0, 3.0, 4.0, 4.0], [0, 0, 1, 1])
        >>> mean, error
        (3.0, 1.0)
    """
    numbers = _as_numpy(values).astype(float)
    keys = np.arange(len(numbers)) if groups is None else _as_numpy(groups)
    if numbers.ndim != 1 or keys.shape != numbers.shape:
        raise ReIDError(
            f"values of shape {numbers.shape} and groups of {keys.shape}; give (N,) of "
            "both"
        )
    known = np.isfinite(numbers)
    _, index = np.unique(keys[known], return_inverse=True)
    count = np.bincount(index)
    if len(count) < 2:
        raise ReIDError(f"{len(count)} groups; give two or more, they have an error")
    means = np.bincount(index, numbers[known]) / count
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def _named(names: Sequence[str] | None, number: int, kind: str) -> list[str]:
    if names is None:
        return [f"{kind} {i}" for i in range(number)]
    if len(names) != number:
        raise ReIDError(
            f"{len(names)} names for {number} {kind}s; give one for each of them"
        )
    return list(names)
