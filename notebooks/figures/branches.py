"""What the branches of CALS learn, and what their bands look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reidlib.plotting import COLOURS, MARKERS
from reidlib.plotting.inputs import as_images
from reidlib.plotting.style import INK
from reidlib.plotting.tiles import Canvas, overlay
from reidlib.synthcity import Camera, Shot, World, draw_shot

BRANCHES = ("global", "local")


def plot_sizes(
    labels: Mapping[str, Any], *, level: float, level_name: str, title: str = ""
) -> Axes:
    """Draw the sizes of clusters from the largest to the smallest.

    Args:
        labels: For each clustering ``(N,)`` clusters, -1 for an outlier.
        level: Height of a dashed line.
        level_name: Its name.
        title: Title of the axes.

    Returns:
        The axes: a line for each clustering, whose name tells its outliers, and the
        dashed one.

    Example:
        >>> ax = plot_sizes({"a": [0, 1, 1, -1]}, level=2, level_name="a person")
        >>> [line.get_label() for line in ax.lines]
        ['a: 2 clusters, 1 image in none', 'a person']
    """
    ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")[1]
    for (name, found), colour, marker in zip(labels.items(), COLOURS, MARKERS):
        array = np.asarray(found)
        sizes = np.sort(np.bincount(array[array >= 0]))[::-1]
        left = int((array < 0).sum())
        text = f"{left} image{'s' * (left != 1)} in none" if left else "no outliers"
        ax.plot(
            np.arange(1, len(sizes) + 1),
            sizes,
            color=colour,
            marker=marker,
            ms=3.5,
            lw=1.2,
            label=f"{name}: {len(sizes)} clusters, {text}",
        )
    ax.axhline(level, color=INK, ls="--", lw=1.2, label=level_name)
    ax.set_ylim(bottom=0)
    ax.set(title=title, xlabel="clusters, largest first", ylabel="images")
    ax.legend()
    return ax


def plot_lessons(
    epochs: Sequence[Mapping[str, float]],
    *,
    paper: Any = None,
    paper_loss: Any = None,
    start: float | None = None,
) -> np.ndarray:
    """Draw what is learned of the pseudo labels, beside what they are worth.

    Args:
        epochs: What a run of CALS recorded of each epoch: ``epoch``, the accuracies
            ``global_accuracy`` and ``local_accuracy``, ``purity`` and ``loss``.
        paper: ``(E, 3)`` epoch and the accuracy of both branches in percent, as printed
            in CALS-T2.
        paper_loss: ``(E, 2)`` epoch and loss, as printed in CALS-F7.
        start: Loss of classifiers that know nothing, drawn as a dashed line.

    Returns:
        ``(2,)`` axes. Accuracies: ours, the paper's, the purity. Losses: ours, the
        paper's.

    Example:
        >>> one = {"epoch": 1, "global_accuracy": 0.1, "local_accuracy": 0.2}
        >>> axes = plot_lessons([{**one, "purity": 0.5, "loss": 8.0}])
        >>> [line.get_label() for line in axes[0].lines]
        ['global, ours', 'local, ours', 'purity of our labels']
    """
    accuracy, loss = plt.subplots(
        1, 2, figsize=(9.4, 3.4), layout="constrained", width_ratios=(1.25, 1)
    )[1]
    place = [row["epoch"] for row in epochs]
    for branch, colour, marker in zip(BRANCHES, COLOURS, MARKERS):
        ours = [100 * row[f"{branch}_accuracy"] for row in epochs]
        look = {"color": colour, "marker": marker}
        accuracy.plot(place, ours, label=f"{branch}, ours", **look)
    if paper is not None:
        printed = np.asarray(paper, dtype=float)
        for column, branch in enumerate(BRANCHES, 1):
            look = {"color": COLOURS[column - 1], "marker": MARKERS[column - 1]}
            label = f"{branch}, CALS-T2"
            x, y = printed[:, 0], printed[:, column]
            accuracy.plot(x, y, ls=":", mfc="none", label=label, **look)
    purity = [100 * row["purity"] for row in epochs]
    label = "purity of our labels"
    accuracy.plot(place, purity, color=COLOURS[5], ls="--", lw=2.2, label=label)
    accuracy.set_ylim(0, 103)
    accuracy.set(xlabel="epoch", ylabel="%", title="Right about the pseudo labels")
    accuracy.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    look = {"color": COLOURS[3], "marker": MARKERS[3]}
    loss.plot(place, [row["loss"] for row in epochs], label="ours", **look)
    if paper_loss is not None:
        x, y = np.asarray(paper_loss, dtype=float).T
        loss.plot(x, y, ls=":", mfc="none", label="CALS-F7", **look)
    if start is not None:
        loss.axhline(start, color=INK, ls="--", lw=1.2, label="knowing nothing")
    loss.set_ylim(bottom=0)
    loss.set(xlabel="epoch", title="Loss of both branches")
    loss.legend()
    for ax in (accuracy, loss):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return np.array([accuracy, loss], dtype=object)


def plot_band_weights(
    images: Any,
    weights: Mapping[str, Any],
    *,
    bands: int = 4,
    names: Sequence[str] = (),
    opacity: float = 0.6,
) -> Axes:
    """Draw images cut into bands, and below them the weights of attentions (CALS-E4).

    All maps of one attention share a scale, from its lowest to its highest weight,
    which stand beside its row: dark is low, bright is high. A band boundary lies where
    the map is cut.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)``, uint8 or floats in [0, 1].
        weights: For each attention ``(N, h, w)`` weights of the places of the map.
        bands: Number of bands.
        names: Of the images.
        opacity: 0 shows the image alone, 1 the weights alone.

    Returns:
        The axes, whose images are in reading order.

    Raises:
        ValueError: If images and weights are not as many.

    Example:
        >>> images, maps = np.zeros((2, 8, 4, 3)), np.ones((2, 8, 4))
        >>> ax = plot_band_weights(images, {"sigmoid": maps})
        >>> len(ax.images), ax.texts[0].get_text()
        (4, 'image')
    """
    pictures = as_images(images, 4, "images")
    number, height, width = pictures.shape[:3]
    rows = {"image": pictures}
    cuts = np.arange(1, bands) / bands
    for name, given in weights.items():
        found = np.asarray(given, dtype=float)
        if len(found) != number:
            raise ValueError(f"{name}: {len(found)} maps for {number} images")
        low, high = found.min(), found.max()
        share = (found - low) / (high - low if high > low else 1.0)
        row = np.arange(height) * found.shape[1] // height
        column = np.arange(width) * found.shape[2] // width
        tiles = overlay(pictures, share[:, row][:, :, column], opacity)
        rows[f"{name}\n{low:.2f} to {high:.2f}"] = tiles
        parts = np.array_split(np.arange(found.shape[1]), bands)
        cuts = np.array([part[0] for part in parts[1:]]) / found.shape[1]
    aspect, lead = height / width, 2
    canvas = Canvas(len(rows), number + lead, aspect, 1 if len(names) else 0, None)
    for line, (name, tiles) in enumerate(rows.items()):
        top = line * canvas.step_y
        at = lead * canvas.step_x - 0.15, top + aspect / 2
        canvas.ax.text(*at, name, ha="right", va="center", fontsize=8.5)
        for place, tile in enumerate(tiles):
            last = line == len(rows) - 1 and len(names) > 0
            column = place + lead
            canvas.tile(line, column, tile, names[place] if last else "")
            x = column * canvas.step_x
            for cut in cuts:
                y = [top + aspect * cut] * 2
                canvas.ax.plot([x, x + 1], y, color="w", lw=1.4)
                canvas.ax.plot([x, x + 1], y, color=INK, lw=0.7)
    return canvas.finish(None)


def person_masks(world: World, shots: Sequence[Shot]) -> np.ndarray:
    """Return where the person is seen in drawn pictures.

    SynthCity stores no masks. Drawn in front of a black and of a white street, a
    picture differs wherever the street is seen; drawn once more with what stands in
    front of the person, it changes where they are hidden.

    Args:
        world: The city.
        shots: N pictures of it.

    Returns:
        ``(N, H, W)`` bool.
    """

    def bare(camera: Camera, grey: int) -> Camera:
        # The same view, without colour curves, coarse pixels and noise.
        ones, none = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
        camera = replace(camera, gamma=ones, gain=ones, lift=none, contrast=0.0)
        camera = replace(camera, saturation=1.0, resolution=1.0, noise=0.0)
        street = np.full((540, 960, 3), grey, np.uint8)
        object.__setattr__(camera, "scene", street)
        return camera

    def before(grey: int, **dials: float) -> np.ndarray:
        cameras = tuple(bare(camera, grey) for camera in world.cameras)
        dialled = replace(world.dials, **dials)
        plain = replace(world, cameras=cameras, dials=dialled)
        return np.stack([draw_shot(plain, shot) for shot in shots]).astype(int)

    black, white = (before(grey, occlusion=0.0) for grey in (0, 255))
    street = (white - black).sum(axis=3)  # (N, H, W), 0 where the person is
    hidden = np.abs(before(0) - black).max(axis=3) > 12
    return (street < 0.1 * street.max(axis=(1, 2), keepdims=True)) & ~hidden
