"""The chapter on the cost of an epoch: drawn features, growth, tiles, proofs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from scipy.sparse import csr_matrix
from torch import Tensor

from reidlib.plotting import COLOURS

_RESULTS = Path(__file__).parents[2] / "results"


def drawn_features(
    num_images: int, dim: int = 256, noise: float = 1.6, seed: int = 0
) -> Tensor:
    """Return unit vectors of people with 16 images each, one person after another.

    Args:
        num_images: N, a multiple of 16.
        dim: D.
        noise: Length of what differs between two images of a person, to that of what
            differs between people.
        seed: Of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    people = torch.randn(num_images // 16, dim, generator=generator)
    images = people.repeat_interleave(16, dim=0)
    images += noise * torch.randn(images.shape, generator=generator)
    return torch.nn.functional.normalize(images)


def plot_growth(counts: pd.DataFrame, fast: list[str]) -> None:
    """Draw how numbers grow with the number of images, both axes logarithmic.

    Args:
        counts: A row for each number of images, a column for each kind.
        fast: Columns that grow with its square, drawn dashed.
    """
    _, ax = plt.subplots(figsize=(6.6, 3.4), layout="constrained")
    for number, (name, column) in enumerate(counts.items()):
        style = "--" if name in fast else "-"
        ax.loglog(counts.index, column, style, marker="o", color=COLOURS[number], ms=4)
        ax.annotate(
            str(name),
            (counts.index[-1], column.iloc[-1]),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=COLOURS[number],
        )
    ax.set(xlabel="images", ylabel="how many", xticks=counts.index)
    ax.set_xticklabels([f"{n:,}" for n in counts.index])
    ax.minorticks_off()
    ax.set_xlim(counts.index[0] * 0.9, counts.index[-1] * 2.6)


def plot_distances(distance: csr_matrix, shown: int) -> None:
    """Draw which pairs of the first images have a distance that is stored."""
    part = distance[:shown, :shown].tocoo()
    _, ax = plt.subplots(figsize=(4, 4), layout="constrained")
    ax.scatter(part.col, part.row, s=0.6, c=1 - part.data, cmap="viridis", lw=0)
    ax.set(xlim=(0, shown), ylim=(shown, 0), aspect="equal")
    ax.set(xlabel="image", ylabel="image", facecolor="none")


def plot_tiles(tiles: int = 6) -> None:
    """Draw the products of all images in tiles: those computed, and those reused."""
    _, ax = plt.subplots(figsize=(3.6, 3.6), layout="constrained")
    for row in range(tiles):
        for col in range(tiles):
            computed = col >= row
            face = COLOURS[0] if computed else "none"
            ax.add_patch(
                Rectangle((col, row), 0.94, 0.94, fc=face, ec="0.6", alpha=0.75)
            )
    row, col = 1, 4
    arrow = {"arrowstyle": "->", "color": COLOURS[1], "lw": 2}
    ax.annotate("", (row + 0.5, col + 0.4), (col + 0.45, row + 0.6), arrowprops=arrow)
    ax.set(xlim=(0, tiles), ylim=(tiles, 0), aspect="equal", xticks=[], yticks=[])
    ax.set(xlabel="images", ylabel="images")


def proven_rows(features: Tensor, k: int, extra: list[int]) -> list[float]:
    """Return for how many rows candidates in bfloat16 are proven to hold the nearest.

    Args:
        features: ``(N, D)`` unit vectors.
        k: Neighbours that are wanted.
        extra: Candidates beyond those.

    Returns:
        The share of rows in which the k-th exact similarity exceeds that of the last
        candidate by more than rounding can move it, for each number of ``extra``.
    """
    rounded = features.bfloat16().float()
    lost = (features - rounded).norm(dim=1)
    bound = lost + (1 + lost) * lost.max()
    bound += features.shape[1] * torch.finfo(torch.float32).eps  # of the sum
    about = (rounded @ rounded.T).fill_diagonal_(-1)
    exact = (features @ features.T).fill_diagonal_(-1)
    values, index = about.topk(k + max(extra), dim=1)
    true = exact.gather(1, index)
    shares = []
    for more in extra:
        kth = true[:, : k + more].topk(k, dim=1).values[:, -1]
        sure = kth - bound > values[:, k + more - 1]
        shares.append(float(sure.float().mean()))
    return shares


def plot_proof(bound: float = 0.03) -> None:
    """Draw on one line when candidates are proven to hold the nearest images."""
    _, axes = plt.subplots(2, 1, figsize=(6.6, 2.3), layout="constrained")
    exact = [0.80, 0.77, 0.74, 0.70]
    for ax, last, told in zip(
        axes, (0.65, 0.685), ("a proof", "no proof"), strict=True
    ):
        ax.axvspan(0.6, last + bound, color="0.5", alpha=0.25, lw=0)
        ax.plot(exact, [0] * 4, "o", color=COLOURS[0], label="exact, the 4 best")
        ax.plot([last], [0], "s", color=COLOURS[1], label="last candidate, rounded")
        ax.set(xlim=(0.6, 0.82), ylim=(-1, 1), yticks=[], ylabel=told)
        ax.spines[["left", "top", "right"]].set_visible(False)
    axes[0].set_xticklabels([])
    axes[1].set_xlabel("similarity; grey: where other images may still be")
    axes[0].legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))


def plot_proven(shares: dict[str, list[float]], extra: list[int]) -> None:
    """Draw the share of proven rows over the number of candidates."""
    _, ax = plt.subplots(figsize=(6.2, 2.8), layout="constrained")
    for number, (name, column) in enumerate(shares.items()):
        percent = 100 * np.array(column)
        ax.plot(extra, percent, marker="o", ms=4, color=COLOURS[number], label=name)
    ax.set(xlabel="candidates beyond the 29 that are wanted")
    ax.set(ylabel="rows with a proof (%)", ylim=(0, 103), xticks=extra)
    ax.legend()


def measured(name: str) -> list[dict[str, Any]]:
    """Return the rows of a result file of a benchmark."""
    text = (_RESULTS / f"{name}.json").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads(text)["rows"]
    return rows


def best(rows: list[dict[str, Any]], **of: Any) -> dict[str, float]:
    """Return the least seconds and memory of the rows that have these values."""
    some = [row for row in rows if of.items() <= row.items()]
    if not some:
        return {}
    return {name: min(row[name] for row in some) for name in ("cpu", "wall", "mib")}


def compared(rows: list[dict[str, Any]], keys: list[dict[str, Any]]) -> pd.DataFrame:
    """Return seconds and memory of the library and of the field's code, side by side.

    Args:
        rows: Of a benchmark.
        keys: What each row of the table is about.
    """
    table = []
    for key in keys:
        ours = best(rows, method="reidlib", **key)
        theirs = best(rows, method="fastreid", **key)
        floor = best(rows, method="product", **key)
        row = {"seconds": ours["cpu"], "product / seconds": floor["cpu"] / ours["cpu"]}
        row["MiB"] = ours["mib"]
        if theirs:
            row["field's code, seconds"] = theirs["cpu"]
            row["times faster"] = theirs["cpu"] / ours["cpu"]
            row["field's code, MiB"] = theirs["mib"]
        table.append(row)
    return pd.DataFrame(table)
