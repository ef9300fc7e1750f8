"""Tables and pictures of the page on features, pseudo labels and the baseline."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from page_tables import markdown, spread
from reidlib.experiments import load_results, plans, results_dir
from reidlib.models import BACKBONES, build_backbone, network_cost
from reidlib.models.cost import Cost
from reidlib.papers import load_table
from reidlib.plotting import COLOURS, plot_curves

MIB = 2**20
SPEED = results_dir() / "backbones_speed.json"
SPEED_COMMAND = "python benchmarks/backbones.py"
LABELS = {
    "clusters": "clusters",
    "outlier_share": "outliers",
    "pairwise_precision": "pair precision",
    "pairwise_recall": "pair recall",
    "pairwise_f": "pair F",
    "nmi_cam": "NMI camera",
}
"""What is told of the pseudo labels of the last epoch."""
AFF_SIZES = ((256, 128), (384, 128), (384, 192))
"""Sizes at which ResNet-50 is set beside AFF-T8."""


@functools.cache
def cost_of(name: str, size: tuple[int, int]) -> Cost:
    """Return what a backbone with last stride 1 costs for one image."""
    with torch.device("meta"):
        network = build_backbone(name, pretrained=False, last_stride=1)
    return network_cost(network, size)


def cost_table() -> str:
    """Parameters, operations and memory of the backbones for one image of 256 x 128."""
    rows = []
    for name in BACKBONES:
        cost = cost_of(name, (256, 128))
        counts = (cost.parameters / 1e6, cost.macs / 1e9, cost.flops / 1e9)
        memory = (cost.outputs / MIB, cost.peak / MIB, cost.saved / MIB)
        rows.append(
            [name, *(f"{c:.2f}" for c in counts), *(f"{m:.1f}" for m in memory)]
        )
    header = ["backbone", "parameters (M)", "MACs (G)", "FLOPs (G)", "outputs (MiB)"]
    return markdown([*header, "peak (MiB)", "kept in training (MiB)"], rows)


def speed_table() -> str:
    """Images per second and time relative to Lite0, from one run of the benchmark."""
    if not SPEED.is_file():
        return f"Not measured yet: `{SPEED_COMMAND}` writes the numbers.\n"
    found = pd.DataFrame(json.loads(SPEED.read_text(encoding="utf-8"))["rows"])
    rows = []
    for (height, width, kind), part in found.groupby(
        ["height", "width", "pass"], sort=False
    ):
        what = "inference" if kind == "forward" else "training"
        part = part.set_index("backbone")
        cells = [
            f"{line['images_per_second']:.0f} ({line['times_lite0']:.1f})"
            for line in (part.loc[name] for name in BACKBONES)
        ]
        rows.append([f"{height} × {width}, {what}", *cells])
    return markdown(["images a second (time, in Lite0's)", *BACKBONES], rows)


def aff_t8_table() -> str:
    """AFF-T8 as printed, and ResNet-50 with last stride 1 in the same units."""
    published = load_table("AFF-T8").to_frame()
    rows = [[name, *(f"{v:.2f}" for v in line)] for name, line in published.iterrows()]
    for size in AFF_SIZES:
        cost = cost_of("resnet50", size)
        counts = (cost.parameters / 1e6, cost.macs / 1e9, cost.outputs / MIB)
        title = f"ours: ResNet-50 at {size[0]} × {size[1]}"
        rows.append([title, *(f"{v:.2f}" for v in counts)])
    return markdown(["network", *map(str, published.columns)], rows)


def labels_table(table: str) -> str:
    """The pseudo labels of the last epoch of each row of a plan.

    Args:
        table: Name of a plan of recipes that cluster.
    """
    frame = load_results(table, partial=True)
    rows = []
    for row in plans()[table].rows:
        found = frame[frame["row"] == row.name]["result"] if len(frame) else []
        last = [r["epochs"][-1] for r in found if r.get("epochs")]
        cells = ["missing"] * len(LABELS)
        if last:
            digits = {"clusters": 0}
            cells = [
                spread([e[name] for e in last], digits.get(name, 2)) for name in LABELS
            ]
        rows.append([row.name, *cells])
    return markdown(["row", *LABELS.values()], rows)


def radius_chart() -> Figure:
    """AFF-F4: mAP and Rank-1 after training, over the radius of DBSCAN."""
    figure, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    frame: Any = load_results("AFF-F4", partial=True)
    if not len(frame):
        ax.text(0.5, 0.5, "no results yet", ha="center", transform=ax.transAxes)
        return figure
    frame["eps"] = frame["row"].str.removeprefix("eps ").astype(float)
    cities = frame.groupby("eps")[["mAP", "Rank-1"]]
    mean, std = cities.mean(), cities.std().fillna(0)
    lines = {name: mean[name].to_numpy() for name in mean}
    plot_curves(np.array(mean.index), lines, xlabel="eps", ylabel="%", ax=ax)
    for name, colour in zip(mean, COLOURS):
        bars = (mean.index, mean[name], std[name])
        ax.errorbar(*bars, fmt="none", capsize=3, color=colour)
    return figure


TABLES = {
    "baseline_cost": cost_table,
    "baseline_speed": speed_table,
    "baseline_aff_t8": aff_t8_table,
    "baseline_clustering_labels": functools.partial(labels_table, "clustering"),
    "baseline_radius_labels": functools.partial(labels_table, "AFF-F4"),
}
CHARTS = {"baseline_radius": radius_chart}
"""Pictures of result files, which change when results do."""
