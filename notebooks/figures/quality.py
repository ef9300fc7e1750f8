"""Perturbed images, scores of quality, and the weight made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from reidlib.evaluation import Auroc
from reidlib.models.fused import FusedNet
from reidlib.papers import load_table
from reidlib.plotting import COLOURS, MARKERS
from reidlib.plotting.inputs import as_images
from reidlib.plotting.style import INK, PAPER
from reidlib.plotting.tiles import Canvas
from reidlib.quality import PERTURBATIONS, Perturbation

FAMILIES = tuple(dict.fromkeys(one.family for one in PERTURBATIONS))
"""The five families, in the order of the perturbations."""


# -- pictures ----------------------------------------------------------------------


def caption_of(one: Perturbation) -> str:
    r"""Return two lines for below a perturbed image.

    Example:
        >>> caption_of(PERTURBATIONS[0]), caption_of(PERTURBATIONS[7])
        ('V\n-90', 'top\n5 %')
    """
    amount = f"{one.amount:g}"
    if one.family == "lighting":
        return f"V\n{one.amount:+g}"
    if one.family == "blur":
        return f"sigma\n{amount}"
    if one.family == "occlusion":
        return f"{one.kind}\n{100 * one.amount:.0f} %"
    if one.family == "background":
        return f"{one.kind}\noval {amount}"
    names = {"salt and pepper": "salt, pepper"}
    return f"{names.get(one.kind, one.kind)}\n{amount}"


def plot_perturbations(image: Any, views: Any) -> Axes:
    """Draw an image and its 34 perturbed versions, family by family, QAFM-D3.

    Args:
        image: ``(H, W, 3)`` or ``(3, H, W)``, uint8.
        views: ``(34, H, W, 3)`` or ``(34, 3, H, W)``, as `reidlib.quality.perturb`
            returns them.

    Returns:
        The axes: the image first, then the versions in their order of drawing. Above
        the first image of a family stands its name and how many there are.

    Raises:
        ValueError: If there are not 34 versions.

    Example:
        >>> ax = plot_perturbations(np.zeros((8, 4, 3)), np.zeros((34, 8, 4, 3)))
        >>> len(ax.images)
        35
    """
    tiles = as_images(views, 4, "views")
    if len(tiles) != len(PERTURBATIONS):
        raise ValueError(f"{len(tiles)} views; give {len(PERTURBATIONS)}")
    first = as_images([image], 4, "image")[0]
    of = {
        family: [p for p, one in enumerate(PERTURBATIONS) if one.family == family]
        for family in FAMILIES
    }
    bars = of["occlusion"]
    lines = [
        of["lighting"] + of["blur"] + of["noise"],
        bars[: len(bars) // 2],
        bars[len(bars) // 2 :],
        of["background"],
    ]
    height, width = first.shape[:2]
    canvas = Canvas(len(lines), len(lines[0]) + 1, height / width, 3, None, lead=0.15)
    canvas.tile(0, 0, first, "the image")
    named: set[str] = set()
    for row, places in enumerate(lines):
        for column, place in enumerate(places, 1):
            one = PERTURBATIONS[place]
            canvas.tile(row, column, tiles[place], caption_of(one))
            if one.family not in named:
                named.add(one.family)
                number = len(of[one.family])
                x = column * canvas.step_x + canvas.lead
                canvas.ax.text(
                    x,
                    row * canvas.step_y - 0.06,
                    f"{one.family}: {number}",
                    fontsize=8.5,
                    fontweight="bold",
                    ha="left",
                    va="bottom",
                )
    axes = canvas.finish(None)
    axes.set_ylim(len(lines) * canvas.step_y, -0.35)
    return axes


def plot_probe(
    images: Any, views: Any, features: Any, scores: Sequence[float]
) -> Figure:
    """Draw how images are probed (QAFM-F3): views, and where their features go.

    Args:
        images: ``(N, H, W, 3)`` or ``(N, 3, H, W)``.
        views: ``(N, 34, ...)`` their perturbed versions.
        features: ``(N, 35, D)`` features, the image's own first.
        scores: Score of each image, for its title.

    Returns:
        The figure, two axes for each image: the image with one version of each family,
        and the 35 features seen from the image's own. All plots share two directions,
        those in which all features differ most, and one scale.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> figure = plot_probe(
        ...     np.zeros((1, 8, 4, 3)), np.zeros((1, 34, 8, 4, 3)),
        ...     rng.normal(size=(1, 35, 6)), [2.5],
        ... )
        >>> len(figure.axes[1].collections)  # the image and five families
        6
    """
    pictures = as_images(images, 4, "images")
    moved = np.asarray(features, dtype=float)
    moved = moved[:, 1:] - moved[:, :1]  # (N, 34, D), seen from the image
    directions = np.linalg.svd(moved.reshape(-1, moved.shape[2]), False)[2][:2]
    flat = moved @ directions.T  # (N, 34, 2)
    ends = np.concatenate([flat.reshape(-1, 2), [[0.0, 0.0]]])
    middle = (ends.min(axis=0) + ends.max(axis=0)) / 2
    reach = 1.1 * np.abs(ends - middle).max()
    aspect = pictures.shape[1] / pictures.shape[2]
    fig, axes = plt.subplots(
        len(pictures),
        2,
        figsize=(8.8, 2.55 * len(pictures) + 0.4),
        layout="constrained",
        width_ratios=(1.75, 1),
        squeeze=False,
    )
    # The strongest of each family that does not hide the person altogether.
    places = [
        [p for p, one in enumerate(PERTURBATIONS) if one.family == family][number]
        for family, number in zip(FAMILIES, (3, 2, 3, 5, 0), strict=True)
    ]
    for row, picture in enumerate(pictures):
        tiles = as_images(views[row], 4, "views")
        canvas = Canvas(1, len(FAMILIES) + 1, aspect, 1, axes[row, 0], lead=0.15)
        canvas.tile(0, 0, picture, "the image")
        for column, (family, place) in enumerate(zip(FAMILIES, places), 1):
            canvas.tile(0, column, tiles[place], family)
        canvas.finish(None)
        ax = axes[row, 1]
        look: dict[str, Any] = {"edgecolors": "white", "lw": 0.5}
        for family, colour, marker in zip(FAMILIES, COLOURS, MARKERS):
            mask = [one.family == family for one in PERTURBATIONS]
            x, y = flat[row][mask].T
            ax.scatter(x, y, 34, color=colour, marker=marker, label=family, **look)
        ax.scatter(0, 0, 130, color=INK, marker="*", label="the image", **look)
        ax.set(xlim=(middle[0] - reach, middle[0] + reach), xticks=[])
        ax.set(ylim=(middle[1] - reach, middle[1] + reach), yticks=[])
        ax.set_aspect("equal")
        ax.set_title(f"score {scores[row]:.1f}")
    handles, labels = axes[0, 1].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside right center")
    return fig


# -- scores ------------------------------------------------------------------------


def plot_aurocs(found: Mapping[str, Mapping[str, Auroc]]) -> Axes:
    """Draw areas under ROC curves with their intervals, one line for each score.

    Args:
        found: By the network that failed, by the name of the score.

    Returns:
        The axes; a dashed line at 0.5, which is what a coin reaches.

    Example:
        >>> ax = plot_aurocs({"direct": {"blur": Auroc(0.6, 0.5, 0.7)}})
        >>> [text.get_text() for text in ax.get_yticklabels()]
        ['blur']
    """
    names = list(next(iter(found.values())))
    size = (7.0, 0.42 * len(names) + 1.1)
    ax = plt.subplots(figsize=size, layout="constrained")[1]
    for place, (network, row) in enumerate(found.items()):
        aside = 0.24 * (place - (len(found) - 1) / 2)
        y = np.arange(len(names)) + aside
        value = np.array([row[name].value for name in names])
        low = np.array([row[name].low for name in names])
        high = np.array([row[name].high for name in names])
        ax.errorbar(
            value,
            y,
            xerr=np.nan_to_num(np.stack([value - low, high - value])),
            ls="",
            color=COLOURS[place],
            marker=MARKERS[place],
            elinewidth=1.4,
            capsize=3,
            label=network,
        )
    ax.axvline(0.5, color=INK, ls="--", lw=1.2)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="area under the ROC curve", xlim=(0.2, 1.0))
    ax.grid(visible=False, axis="y")
    ax.legend(title="who failed", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def published_scores() -> tuple[np.ndarray, np.ndarray]:
    """Return lower ends of bins 0.1 wide and counts of the authors' scores."""
    frame = load_table("QAFM-DATA").to_frame().loc["scores from"]
    return frame.index.to_numpy().astype(float), frame["images"].to_numpy(dtype=float)


def plot_published(scores: Mapping[str, Any], label: str = "ours") -> Figure:
    """Draw the authors' scores beside others, QAFM-F5.

    Args:
        scores: By the definition ``(N,)`` scores by any encoder.
        label: Whose they are.

    Returns:
        The figure: all distributions, and all on one axis after division by their
        means, since scores of two encoders have no common unit.

    Example:
        >>> len(plot_published({"pairs": [1.0, 1.1, 1.3]}).axes)
        3
    """
    ours = {name: np.asarray(one, dtype=float) for name, one in scores.items()}
    colours = dict(zip(ours, (COLOURS[5], COLOURS[1])))
    left, count = published_scores()
    whole: Any = load_table("QAFM-DATA").to_frame().loc[("all images", "all")]
    paper = load_table("QAFM-F5").to_frame()["score"]
    fig, axes = plt.subplots(1, 3, figsize=(10.2, 3.1), layout="constrained")
    first, second, both = axes
    first.bar(left, count, 0.1, align="edge", color=COLOURS[0])
    first.axvline(paper["mean"], color=INK, ls="--", lw=1.2, label="mean in the paper")
    for name in ("minimum", "maximum"):
        text = "range in the paper" if name == "minimum" else None
        first.axvline(paper[name], color=INK, ls=":", lw=1.2, label=text)
    first.set_ylim(top=1.32 * count.max())
    box: Any = {
        "frameon": True,
        "facecolor": PAPER,
        "edgecolor": "none",
        "framealpha": 1.0,
    }
    first.legend(loc="upper left", **box)
    first.set(title=f"the authors': {int(count.sum()):,} images", xlabel="score")
    length = len(next(iter(ours.values())))
    for name, values in ours.items():
        second.hist(values, 16, **_filled(colours[name]), label=name)
    second.legend()
    second.set(title=f"{label}: {length} images", xlabel="score")
    middles = (left + 0.05) / whole["mean"]
    density = count / count.sum() / (0.1 / whole["mean"])
    both.plot(middles, density, color=COLOURS[0], label="the authors'")
    for name, values in ours.items():
        share = values / values.mean()
        both.hist(share, 16, **_filled(colours[name]), density=True, label=name)
    both.legend()
    both.set(title="divided by their means", xlabel="score / mean")
    for ax in axes:
        ax.set_yticks([])
        ax.grid(visible=False)
    return fig


def _filled(colour: Any) -> dict[str, Any]:
    """Return how a histogram is drawn through which others can be seen."""
    face = {"facecolor": (colour, 0.3), "edgecolor": colour}
    return {**face, "histtype": "stepfilled"}


# -- alpha -------------------------------------------------------------------------


def plot_planted(
    scores: Any,
    worlds: Mapping[str, tuple[Any, Mapping[str, Any]]],
) -> Figure:
    """Draw what alpha learns of planted losses.

    Args:
        scores: ``(N,)`` normalised scores.
        worlds: By title the ``(N,)`` targets of E2 and, by the name of a loss, the
            ``(N,)`` alpha learned with it.

    Returns:
        The figure, one axes for each title.

    Example:
        >>> figure = plot_planted([0.0, 1.0], {"a": ([0.5, 0.6], {"ratio": [0, 1]})})
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['ratio']
    """
    order = np.argsort(np.asarray(scores))
    x = np.asarray(scores)[order]
    size = (4.2 * len(worlds), 3.2)
    fig, axes = plt.subplots(
        1, len(worlds), figsize=size, layout="constrained", squeeze=False, sharey=True
    )
    for ax, (title, (targets, learned)) in zip(axes[0], worlds.items(), strict=True):
        y = np.asarray(targets)[order]
        ax.scatter(x, y, 9, color=COLOURS[6], alpha=0.5, label="target of an image")
        for place, (name, alpha) in enumerate(learned.items()):
            look: dict[str, Any] = {"color": COLOURS[(0, 5)[place]], "lw": 2.4}
            ls = ("-", "--")[place]
            ax.plot(x, np.asarray(alpha)[order], ls=ls, label=name, **look)
        ax.set(title=title, xlabel="score, normalised", ylim=(-0.04, 1.04))
    axes[0, 0].set_ylabel("alpha")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return fig


def plot_alpha(scores: Any, alpha: Any) -> np.ndarray:
    """Draw the distribution of alpha (QAFM-F6), and alpha against the score (QAFM-F7).

    Args:
        scores: ``(N,)`` identifiability.
        alpha: ``(N,)`` learned weights.

    Returns:
        ``(2,)`` axes. The first has alpha from 0 to 1 with the paper's mean; the
        second a fitted line, and the correlation in its title.

    Example:
        >>> first, second = plot_alpha([1.0, 2.0, 3.0], [0.2, 0.3, 0.4])
        >>> len(second.lines)  # the fitted line
        1
    """
    x, y = np.asarray(scores, dtype=float), np.asarray(alpha, dtype=float)
    paper = load_table("QAFM-F6").to_frame()["alpha"]["mean of the learned weights"]
    first, second = plt.subplots(1, 2, figsize=(8.6, 3.1), layout="constrained")[1]
    first.hist(y, np.linspace(0, 1, 101).tolist(), color=COLOURS[0])
    first.axvline(paper, color=INK, ls="--", lw=1.2, label=f"paper's mean, {paper:g}")
    first.set(xlim=(0, 1), xlabel="alpha", ylabel="queries", title="all queries")
    first.legend()
    second.scatter(x, y, 14, color=COLOURS[0], alpha=0.7)
    r = float(np.corrcoef(x, y)[0, 1])
    slope, start = np.polyfit(x, y, 1)
    ends = np.array([x.min(), x.max()])
    second.plot(ends, start + slope * ends, color=COLOURS[5], lw=1.6)
    second.set(xlabel="identifiability", ylabel="alpha", title=f"r = {r:.2f}")
    return np.array([first, second], dtype=object)


def plot_fixed(fixed: Mapping[float, float], levels: Mapping[str, float]) -> Axes:
    """Draw the mAP of each fixed alpha, and levels to compare it with.

    Args:
        fixed: mAP in percent by alpha.
        levels: Other figures in percent, by name.

    Returns:
        The axes, whose lines are the curve and then the levels.

    Example:
        >>> ax = plot_fixed({0.0: 10, 1.0: 12}, {"learned": 15})
        >>> [line.get_label() for line in ax.lines]
        ['one alpha for all', 'learned']
    """
    ax = plt.subplots(figsize=(6.6, 3.2), layout="constrained")[1]
    ax.plot([*fixed], [*fixed.values()], marker="o", label="one alpha for all")
    styles = ("--", ":", "-.")
    for place, (name, level) in enumerate(levels.items(), 1):
        look: dict[str, Any] = {"color": COLOURS[(0, 5, 2, 3)[place]], "lw": 1.6}
        ax.axhline(level, ls=styles[(place - 1) % 3], label=name, **look)
    ax.set(xlabel="alpha (0: appearance alone, 1: attributes alone)", ylabel="mAP (%)")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


# -- heat maps ---------------------------------------------------------------------


def match_maps(
    model: FusedNet, images: Tensor, references: Tensor, alpha: Tensor | float
) -> dict[str, Tensor]:
    """Return what each place of each branch's map adds to a match (QAFM-F8).

    Behind the map of a branch there are a mean over places, linear layers and batch
    norm: the fused descriptor is a sum over places and a constant. So its cosine
    similarity to a reference is one, too. What a place adds is its channels times the
    gradient of the similarity, with the length of the descriptor held still. With an
    activation behind the last layer this holds to first order only.

    Args:
        model: Trained network, in evaluation mode.
        images: ``(B, 3, H, W)`` normalised.
        references: ``(B, D)`` fused descriptors to be similar to.
        alpha: Weight of each image, or of all.

    Returns:
        ``(B, h, w)`` for ``"appearance"`` and ``"attributes"``: above 0 where a place
        speaks for the match, below where it speaks against it.
    """
    kept: dict[str, Tensor] = {}
    # Tensors made in inference mode take no part in gradients, copies of them do.
    images, references = images.clone(), F.normalize(references.clone(), dim=1)

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> Tensor:
            kept[name] = output.detach().float().requires_grad_()
            return kept[name]

        return hook

    places = {
        "appearance": model.appearance.local_attention,
        "attributes": model.attributes.memory,
    }
    handles = [m.register_forward_hook(keep(name)) for name, m in places.items()]
    try:
        with torch.enable_grad():
            made = model.branches(images)
            fused = model.fuse(made.appearance, made.attributes, alpha)
            length = fused.detach().norm(dim=1)
            similarity = (fused * references).sum(dim=1) / length
            gradients = torch.autograd.grad(similarity.sum(), list(kept.values()))
    finally:
        for handle in handles:
            handle.remove()
    # The memory has a state for each group of attributes: (B, T, C, h, w).
    return {
        name: (found.detach() * gradient).flatten(1, -3).sum(dim=1)
        for (name, found), gradient in zip(kept.items(), gradients, strict=True)
    }
