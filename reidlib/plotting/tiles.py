"""Figures made of images: grids, rankings, and heat maps over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from reidlib.data.table import DISTRACTOR, JUNK, NO_CAMERA, UNKNOWN
from reidlib.errors import ReIDError
from reidlib.plotting.inputs import as_images, finite, per_image
from reidlib.plotting.style import HIT, INK, MISS

INCHES = 0.74  # width of a tile
GAP = 0.1  # between tiles, in tile widths
LINE = 0.2  # height of a line of text, in tile widths


def caption_of(pid: Any, camid: Any) -> str:
    """Return the caption of an image: identity and camera, None left out."""
    words = {JUNK: "junk", DISTRACTOR: "distractor", UNKNOWN: "id ?"}
    parts = []
    if pid is not None:
        parts.append(words.get(int(pid), f"id {int(pid)}"))
    if camid is not None:
        parts.append("cam ?" if int(camid) == NO_CAMERA else f"cam {int(camid)}")
    return "\n".join(parts)


class Canvas:
    """A grid of tiles on one axes, in units of a tile's width; row 0 is at the top.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        aspect: Height of a tile.
        lines: Lines of text below each tile.
        ax: Axes to draw into; a figure that fits the grid if None.
        lead: Extra space after the first column.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        aspect: float,
        lines: int,
        ax: Axes | None,
        lead: float = 0.0,
    ) -> None:
        self.aspect, self.lead = aspect, lead
        self.step_x = 1 + GAP
        self.step_y = aspect + GAP + LINE * lines
        width, height = columns * self.step_x + lead, rows * self.step_y
        if ax is None:
            size = (width * INCHES, height * INCHES)
            ax = plt.figure(figsize=size).add_axes((0.0, 0.0, 1.0, 1.0))
        ax.set_xlim(-GAP, width)
        ax.set_ylim(height, -GAP)
        ax.set_aspect("equal")
        ax.set_axis_off()
        self.ax = ax

    def tile(
        self,
        row: int,
        column: int,
        image: np.ndarray,
        caption: str,
        frame: str | None = None,
        mark: str = "",
    ) -> None:
        """Draw an image, its caption below it, its frame and the mark in its corner."""
        left = column * self.step_x + (self.lead if column else 0.0)
        top = row * self.step_y
        box = (left, left + 1, top + self.aspect, top)
        self.ax.imshow(image, extent=box, aspect="equal")
        if frame is not None:
            self.ax.add_patch(
                Rectangle((left, top), 1, self.aspect, fill=False, ec=frame, lw=2.6)
            )
        if mark:
            # A white disc keeps the mark readable over any image.
            self.ax.text(
                left + 0.84,
                top + 0.17,
                mark,
                color=frame or INK,
                ha="center",
                va="center",
                fontsize=8.5,
                fontweight="bold",
                bbox={"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "none"},
            )
        if not caption:
            return
        self.ax.text(
            left + 0.5,
            top + self.aspect + 0.07,
            caption,
            ha="center",
            va="top",
            fontsize=6.8,
            linespacing=1.15,
        )

    def finish(self, title: str | None) -> Axes:
        """Fix the limits, write the title and return the axes."""
        # imshow moves the limits to the last image drawn.
        self.ax.autoscale(False)
        if title:
            self.ax.set_title(title)
        return self.ax


def plot_images(
    images: Any,
    titles: Sequence[str] | None = None,
    *,
    pids: Any = None,
    camids: Any = None,
    columns: int = 10,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw images in a grid, each with its identity and camera below it.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)``, uint8 or floats in [0, 1], or a
            list of such images or of PIL images.
        titles: A text for each image, in front of identity and camera.
        pids: ``(N,)`` person ids; -1 is written "junk" and 0 "distractor".
        camids: ``(N,)`` camera ids.
        columns: Images in a row.
        title: Title of the figure.
        ax: Axes to draw into.

    Returns:
        The axes, whose ``images`` and ``texts`` are in the order given.

    Raises:
        ReIDError: If there is no image, if the images have no common size, or if a
            column has not one value per image.

    Example:
        >>> ax = plot_images(np.zeros((2, 8, 4, 3), np.uint8), pids=[7, 0])
        >>> [text.get_text() for text in ax.texts]
        ['id 7', 'distractor']
    """
    array = as_images(images, 4, "images")
    number = len(array)
    if number == 0 or columns < 1:
        raise ReIDError(
            f"images: got {number} of them for {columns} columns; give at least one "
            "image and one column"
        )
    pid, camid = (
        per_image(v, (number,), n) for v, n in ((pids, "pids"), (camids, "camids"))
    )
    texts = None if titles is None else per_image(list(titles), (number,), "titles")
    captions = []
    for i in range(number):
        below = caption_of(
            None if pid is None else pid[i], None if camid is None else camid[i]
        )
        parts = [str(texts[i])] if texts is not None else []
        captions.append("\n".join([*parts, below] if below else parts))
    lines = max(caption.count("\n") + bool(caption) for caption in captions)
    columns = min(columns, number)
    aspect = array.shape[1] / array.shape[2]
    canvas = Canvas(-(-number // columns), columns, aspect, lines, ax)
    for i, caption in enumerate(captions):
        canvas.tile(*divmod(i, columns), array[i], caption)
    return canvas.finish(title)


def plot_ranking(
    query_images: Any,
    gallery_images: Any,
    hits: Any,
    *,
    query_pids: Any = None,
    query_camids: Any = None,
    pids: Any = None,
    camids: Any = None,
    title: str = "Nearest gallery images",
    ax: Axes | None = None,
) -> Axes:
    """Draw queries and, to the right of each, its matches, best match first.

    A match of the same person has a green frame and a tick, a match of another person
    has a vermillion frame and a cross, so that colour is never the only sign.

    Args:
        query_images: ``(Q, H, W, 3)`` or ``(Q, 3, H, W)``, as in :func:`plot_images`.
        gallery_images: ``(Q, K, H, W, 3)`` or ``(Q, K, 3, H, W)``, best match first.
        hits: ``(Q, K)`` bool, whether the match shows the query's person.
        query_pids: ``(Q,)`` person ids of the queries; the matches of a query without
            identity (-2) have no frame and no sign.
        query_camids: ``(Q,)`` camera ids of the queries.
        pids: ``(Q, K)`` person ids of the matches.
        camids: ``(Q, K)`` camera ids of the matches.
        title: Title, completed by the order of the matches.
        ax: Axes to draw into.

    Returns:
        The axes; row by row, a query and then its matches.

    Raises:
        ReIDError: If there is no query or no match, or if shapes do not fit.

    Example:
        >>> query, gallery = np.zeros((1, 8, 4, 3)), np.zeros((1, 2, 8, 4, 3))
        >>> ax = plot_ranking(query, gallery, [[True, False]])
        >>> [text.get_text() for text in ax.texts if text.get_text() in "✓✗"]
        ['✓', '✗']
    """
    queries = as_images(query_images, 4, "query_images")
    matches = as_images(gallery_images, 5, "gallery_images")
    shape = matches.shape[:2]
    if shape[0] != len(queries) or 0 in shape or matches.shape[2:] != queries.shape[1:]:
        raise ReIDError(
            f"gallery_images: got shape {matches.shape} for query_images of shape "
            f"{queries.shape}; give (queries, matches) images of the queries' size"
        )
    hit = per_image(hits, shape, "hits")
    if hit is None or hit.dtype != bool:
        raise ReIDError(f"hits: got {type(hits).__name__}; give a (Q, K) bool array")
    q_pid = per_image(query_pids, shape[:1], "query_pids")
    q_cam = per_image(query_camids, shape[:1], "query_camids")
    pid, cam = per_image(pids, shape, "pids"), per_image(camids, shape, "camids")

    def caption(p: np.ndarray | None, c: np.ndarray | None, at: Any) -> str:
        return caption_of(None if p is None else p[at], None if c is None else c[at])

    aspect = queries.shape[1] / queries.shape[2]
    lines = max((q_pid is not None) + (q_cam is not None) + 1, 2)
    canvas = Canvas(shape[0], shape[1] + 1, aspect, lines, ax, lead=2 * GAP)
    for row in range(shape[0]):
        name = "query\n" + caption(q_pid, q_cam, row)
        canvas.tile(row, 0, queries[row], name.strip())
        for k in range(shape[1]):
            below = caption(pid, cam, (row, k))
            sign: tuple[str, ...] = (HIT, "✓") if hit[row, k] else (MISS, "✗")
            if q_pid is not None and q_pid[row] == UNKNOWN:
                sign = ()  # neither right nor wrong
            canvas.tile(row, k + 1, matches[row, k], below, *sign)
    return canvas.finish(f"{title}, best match first (✓ same person, ✗ another)")


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
    pictures, heat = as_images(images, 4, "images"), finite(maps, "maps")
    if heat.ndim != 3 or len(heat) != len(pictures):
        raise ReIDError(
            f"maps: got shape {heat.shape} for {len(pictures)} images; give one map "
            "(h, w) per image"
        )
    low = heat.min(axis=(1, 2), keepdims=True)
    span = heat.max(axis=(1, 2), keepdims=True) - low
    share = (heat - low) / np.where(span > 0, span, 1.0)  # (N, h, w) in [0, 1]
    height, width = pictures.shape[1:3]
    rows = np.arange(height) * heat.shape[1] // height
    cols = np.arange(width) * heat.shape[2] // width
    share = share[:, rows][:, :, cols]  # (N, H, W): the cell that a pixel lies in
    tiles = overlay(pictures, share, opacity)
    return plot_images(tiles, titles, columns=columns, title=title, ax=ax)


def overlay(images: np.ndarray, shares: np.ndarray, opacity: float) -> np.ndarray:
    """Lay colours over images: dark for a share of 0, bright for a share of 1.

    Args:
        images: ``(..., H, W, 3)``, uint8 or floats in [0, 1].
        shares: ``(..., H, W)`` in [0, 1].
        opacity: 0 shows the image alone, 1 the colours alone.

    Returns:
        ``(..., H, W, 3)`` uint8.

    Raises:
        ReIDError: If ``opacity`` is not in [0, 1].

    Example:
        >>> overlay(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1)), 1.0).tolist()
        [[[253, 231, 37]]]
    """
    if not 0 <= opacity <= 1:
        raise ReIDError(f"opacity is {opacity}; it must be in [0, 1]")
    if images.dtype != np.uint8:
        images = np.rint(255 * images)
    colours = 255 * mpl.colormaps["viridis"](shares)[..., :3]
    return np.rint((1 - opacity) * images + opacity * colours).astype(np.uint8)
