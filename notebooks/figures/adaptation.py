"""Domain adaptation: cities side by side, shifts of a feature, a normalised channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from reidlib.plotting import COLOURS, plot_distributions, plot_images


def plot_cities(
    pixels: Mapping[str, np.ndarray], camids: Mapping[str, np.ndarray], row: int = 8
) -> tuple[Axes, Axes]:
    """Draw an image of each camera, and the mean image of each camera.

    Args:
        pixels: For each city ``(N, H, W, 3)`` uint8.
        camids: For each city ``(N,)``, the same cameras in each.
        row: Which image of a camera is drawn.

    Returns:
        Two axes, each with a row of tiles for each city.

    Example:
        >>> dark = np.zeros((4, 8, 4, 3), np.uint8)
        >>> axes = plot_cities({"a": dark}, {"a": np.array([0, 0, 1, 1])}, row=0)
        >>> [len(ax.images) for ax in axes]
        [2, 2]
    """
    cameras = np.unique(next(iter(camids.values())))
    one, mean = [], []
    for city, images in pixels.items():
        for camera in cameras:
            found = images[camids[city] == camera]
            one.append(found[row])
            mean.append(found.mean(axis=0).round().astype(np.uint8))
    names = [f"{city} {camera}" for city in pixels for camera in cameras]
    size = (10.4, 2.1 * len(pixels) + 0.3)
    axes = plt.subplots(1, 2, figsize=size, layout="constrained")[1]
    for ax, tiles, title in zip(axes, (one, mean), ("An image", "The mean image")):
        title = f"{title} of each camera"
        plot_images(tiles, names, columns=len(cameras), title=title, ax=ax)
    return axes[0], axes[1]


def plot_shifts(shifts: Mapping[str, Sequence[float]], cities: int) -> Axes:
    """Draw medians as bars, with a line over the middle eight tenths of the values.

    Args:
        shifts: For each comparison its values.
        cities: How many of them, from the first, compare cities; they share a colour,
            and those that compare cameras another.

    Returns:
        The axes, with the first comparison on top.

    Example:
        >>> ax = plot_shifts({"chance": [0.1, 0.1], "cameras": [0.2, 0.4]}, 1)
        >>> [round(float(bar.get_width()), 1) for bar in ax.patches]
        [0.1, 0.3]
    """
    ends = np.array([np.quantile(v, (0.1, 0.5, 0.9)) for v in shifts.values()])
    low, middle, high = ends.T
    places = np.arange(len(shifts))
    colours = [COLOURS[int(place >= cities)] for place in places]
    ax = plt.subplots(figsize=(7.2, 0.38 * len(shifts) + 0.7))[1]
    lines = np.stack([middle - low, high - middle])
    ax.barh(places, middle, xerr=lines, color=colours, height=0.7, ecolor="0.3")
    ax.set_yticks(places, list(shifts))
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlabel="median shift of a channel's mean (standard deviations)")
    return ax


def plot_ways(ways: Mapping[str, Mapping[str, Any]]) -> list[Axes]:
    """Draw what a channel holds after each way to normalise it, on one scale.

    Args:
        ways: For each way, for each name, its values.

    Returns:
        An axes for each way; the last one has the legend.

    Example:
        >>> two = {"in training": [0.0, 0.1, 0.2], "in use": [0.9, 1.0, 1.3]}
        >>> axes = plot_ways({"one batch": two, "two batches": two})
        >>> [ax.get_legend() is None for ax in axes]
        [True, False]
    """
    size = (3.5 * len(ways), 2.8)
    _, axes = plt.subplots(1, len(ways), figsize=size, layout="constrained")
    for (way, samples), ax in zip(ways.items(), axes):
        plot_distributions(samples, xlabel="output of the layer", title=way, ax=ax)
        ax.set(xlim=(-3.5, 5), ylim=(0, 1.1))
        if ax is not axes[-1]:
            ax.get_legend().remove()
    return list(axes)
