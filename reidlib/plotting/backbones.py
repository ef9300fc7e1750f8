"""Figures about what a backbone sees, and how its stages compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from reidlib.errors import ReIDError
from reidlib.plotting.charts import _axes, _finite
from reidlib.plotting.style import COLOURS, MARKERS
from reidlib.plotting.tiles import _as_images, plot_images


def plot_curves(
    x: Sequence[Any],
    curves: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw lines over one axis of numbers or of names.

    Args:
        x: ``(K,)`` numbers, or names in their order.
        curves: For each line its ``(K,)`` values.
        xlabel: What ``x`` is.
        ylabel: What the values are.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, one line per curve.

    Raises:
        ReIDError: If there is no curve, too many of them, a length that is not that of
            ``x``, or a value that is not finite.

    Example:
        >>> ax = plot_curves([1, 2], {"mAP": [0.1, 0.3]}, xlabel="p", ylabel="mAP")
        >>> ax.lines[0].get_ydata().tolist()
        [0.1, 0.3]
    """
    if not 1 <= len(curves) <= len(COLOURS):
        raise ReIDError(
            f"curves: got {len(curves)} of them; give from 1 to {len(COLOURS)}"
        )
    ax = _axes(ax)
    for i, (name, values) in enumerate(curves.items()):
        array = _finite(values, f"curve {name!r}")
        if array.shape != (len(x),):
            raise ReIDError(
                f"curve {name!r}: got shape {array.shape} for {len(x)} places on the "
                "axis; give one value for each"
            )
        ax.plot(x, array, color=COLOURS[i], marker=MARKERS[i], label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title or "")
    if len(curves) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def plot_heat_maps(
    images: Any,
    maps: Any,
    titles: Sequence[str] | None = None,
    *,
    opacity: float = 0.6,
    columns: int = 10,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw images with a map over each, cell by cell, dark for low and bright for high.

    Every map has its own scale, from its lowest to its highest cell.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)``, as for `plot_images`.
        maps: ``(N, h, w)``; the cells of a map share its image evenly.
        titles: A text below each image.
        opacity: 0 shows the image alone, 1 the map alone.
        columns: Images in a row.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, whose ``images`` are in the order given.

    Raises:
        ReIDError: If images and maps do not fit, or ``opacity`` is not in [0, 1].

    Example:
        >>> ax = plot_heat_maps(np.zeros((1, 8, 4, 3), np.uint8), [[[0, 1], [0, 0]]])
        >>> ax.images[0].get_array().shape
        (8, 4, 3)
    """
    pictures, heat = _as_images(images, 4, "images"), _finite(maps, "maps")
    if heat.ndim != 3 or len(heat) != len(pictures):
        raise ReIDError(
            f"maps: got shape {heat.shape} for {len(pictures)} images; give one map "
            "(h, w) per image"
        )
    if not 0 <= opacity <= 1:
        raise ReIDError(f"opacity is {opacity}; it must be in [0, 1]")
    if pictures.dtype != np.uint8:
        pictures = np.rint(255 * pictures)
    low = heat.min(axis=(1, 2), keepdims=True)
    span = heat.max(axis=(1, 2), keepdims=True) - low
    share = (heat - low) / np.where(span > 0, span, 1.0)  # (N, h, w) in [0, 1]
    height, width = pictures.shape[1:3]
    rows = np.arange(height) * heat.shape[1] // height
    cols = np.arange(width) * heat.shape[2] // width
    share = share[:, rows][:, :, cols]  # (N, H, W): the cell that a pixel lies in
    colour = 255 * mpl.colormaps["viridis"](share)[..., :3]
    blend = (1 - opacity) * pictures + opacity * colour
    return plot_images(
        np.rint(blend).astype(np.uint8), titles, columns=columns, title=title, ax=ax
    )
