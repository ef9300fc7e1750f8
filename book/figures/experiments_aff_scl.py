"""Tables and pictures of the page on the experiments of AFF_SCL."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from page_tables import each_city, markdown, spread
from reidlib.experiments import by_seed, load_results, paired_differences
from reidlib.experiments.verdicts import points
from reidlib.models import ReIDNet, add_attention, network_cost
from reidlib.models.cost import Cost
from reidlib.papers import load_table
from reidlib.plotting import COLOURS
from reidlib.synthcity import SIZES

BARE = "nothing erased"
TWICE = "source only, twice the images"
WAYS = ("A to B", "B to A")
READINGS = (
    "source only",
    "source first",
    "jointly, half of each",
    TWICE,
    "jointly",
)
"""Rows of AFF-T3 that know the source, in the order of the images in a step."""
SEQUENTIAL = "cluster contrast"
BATCH_MEAN = f"{SEQUENTIAL}, mean of the batch"
SYMMETRIC = "symmetric contrast"
ATTENDED = f"{SYMMETRIC}, AFF"

Pairs = dict[str, tuple[str, str]]


def _steps() -> Pairs:
    steps = {
        "update": (BATCH_MEAN, SEQUENTIAL),
        "second memory": (SYMMETRIC, BATCH_MEAN),
        "attention": (ATTENDED, SYMMETRIC),
        "update and second memory": (SYMMETRIC, SEQUENTIAL),
        "all three": (ATTENDED, SEQUENTIAL),
    }
    bare = {
        f"{name}, {BARE}": (f"{row}, {BARE}", f"{base}, {BARE}")
        for name, (row, base) in steps.items()
    }
    rows = (SEQUENTIAL, BATCH_MEAN, SYMMETRIC, ATTENDED)
    return steps | bare | {f"erase nothing: {r}": (f"{r}, {BARE}", r) for r in rows}


def _sources() -> Pairs:
    controls = [(reading, "source only") for reading in READINGS[1:]]
    controls += [("jointly", TWICE)]
    pairs = {
        f"{way}: {reading} − alone": (f"{way}, {reading}", f"{way[-1]} alone")
        for way in WAYS
        for reading in READINGS
    }
    return pairs | {
        f"{way}: {row} − {control}": (f"{way}, {row}", f"{way}, {control}")
        for way in WAYS
        for row, control in controls
    }


def _contrasts() -> Pairs:
    settings = {
        "clusters": "clusters, {}",
        "identities": "identities, {}",
        "clusters, slow memory": "clusters, {}, slow memory",
        f"clusters, {BARE}": f"clusters, {{}}, {BARE}",
        f"identities, {BARE}": f"identities, {{}}, {BARE}",
    }
    pairs = {
        f"hard − mean, {name}": (row.format("hard"), row.format("mean"))
        for name, row in settings.items()
    }
    for kind in ("mean", "hard"):
        slow = f"clusters, {kind}, slow memory"
        pairs[f"slow − fast memory, {kind}"] = slow, f"clusters, {kind}"
        for who in ("clusters", "identities"):
            row = f"{who}, {kind}"
            pairs[f"erase nothing, {row}"] = f"{row}, {BARE}", row
    return pairs


def _weights() -> Pairs:
    rows = ("0 / 1", "0.25 / 0.75", "0.5 / 0.5", "0.75 / 0.25", "1 / 0")
    pairs = {f"{row} − 0 / 1": (row, "0 / 1") for row in rows[1:]}
    return pairs | {
        f"{row} − 0 / 1, {BARE}": (f"{row}, {BARE}", f"0 / 1, {BARE}")
        for row in rows[1:]
    }


GROWN = {2: "32, 2 of each", 4: "64, 4 of each", 8: "128, 8 of each"}
FIXED = {k: f"64, {k} of each, {BARE}" for k in GROWN}
"""Rows of AFF-T6 by K: the batch grows along, or stays."""


def _sizes() -> Pairs:
    kinds = {"batch of 16 K": GROWN, f"batch of 64, {BARE}": FIXED}
    return {
        f"{name}, K from {a} to {b}": (rows[b], rows[a])
        for name, rows in kinds.items()
        for a, b in ((2, 4), (4, 8), (2, 8))
    }


PAIRS: dict[str, Pairs] = {
    "AFF-T2": _steps(),
    "AFF-T3": _sources(),
    "AFF-T4": {
        "mean − cross-entropy + triplet": ("mean", "cross-entropy + triplet"),
        "hard − mean": ("hard", "mean"),
        "both − mean": ("both", "mean"),
        "both − hard": ("both", "hard"),
        "balance of predictions": ("total", "both"),
        "balance of features": ("total, balance of features", "both"),
        "mined against hard": ("total, mined against the hard memory", "total"),
        "total − hard": ("total", "hard"),
    },
    "AFF-T5": _weights(),
    "AFF-T6": _sizes(),
    "AFF-T7": {
        "local": ("baseline + local", "baseline"),
        "global": ("baseline + global", "baseline"),
        "AFF": ("baseline + AFF", "baseline"),
        "AFF, swapped": ("baseline + AFF, swapped", "baseline"),
        "local, on top of global": ("baseline + AFF", "baseline + global"),
    },
    "AFF-HARD": _contrasts(),
}
"""For each table of differences, what is compared: a row minus another."""
PAPER: dict[str, dict[str, tuple[Any, Any]]] = {
    "AFF-T4": {
        "mean − cross-entropy + triplet": ("mean", "cross-entropy + triplet"),
        "hard − mean": ("hard", "mean"),
        "total − hard": ("total", "hard"),
    },
    "AFF-T5": {
        f"{a:g} / {1 - a:g} − 0 / 1": ((a, 1 - a), (0.0, 1.0))
        for a in (0.25, 0.5, 0.75, 1.0)
    },
    "AFF-T6": {
        "batch of 16 K, K from 2 to 4": ((128, 8), (64, 4)),
        "batch of 16 K, K from 4 to 8": ((256, 16), (128, 8)),
        "batch of 16 K, K from 2 to 8": ((256, 16), (64, 4)),
    },
    "AFF-T7": {
        "local": ("Baseline + local", "Baseline"),
        "global": ("Baseline + global", "Baseline"),
        "AFF": ("Baseline + AFF", "Baseline"),
        "local, on top of global": ("Baseline + AFF", "Baseline + global"),
    },
}
"""The same differences in the paper's tables, where it has both rows."""
BALANCE: Pairs = {
    row: (row, f"{row}, no balance") for row in ("0 / 1", "0.75 / 0.25", "1 / 0")
}
"""Rows of AFF-T5 that differ in the balance loss alone."""


def differences_table(name: str) -> str:
    """Differences of mAP: the paper's, ours in each city, and their mean."""
    found = paired_differences(name, PAIRS[name])
    paper = load_table(name).to_frame()["mAP"] if name in PAPER else {}
    rows = []
    for pair, line in found.iterrows():
        known = PAPER.get(name, {}).get(pair)
        told = [points(paper[known[0]] - paper[known[1]]) if known else "–"]
        mean = "missing"
        if not np.isnan(line["mean"]):
            mean = f"{points(line['mean'])} ± {line['std']:.1f}"
        ours = [each_city(line), mean]
        rows.append([pair, *(told if name in PAPER else []), *ours])
    header = ["difference of mAP", *(["the paper"] if name in PAPER else [])]
    return markdown([*header, "ours, city by city", "mean ± deviation"], rows)


def published_table() -> str:
    """AFF-T2: the unsupervised methods, and the one that the paper leaves out."""
    frame = load_table("AFF-T2").to_frame()
    data = ("Market-1501", "DukeMTMC-reID")
    frame = frame.sort_values((data[0], "mAP"))
    rows = [
        [name, *(f"{line[d, 'mAP']:.1f}" for d in data)]
        for name, line in frame.iterrows()
    ]
    part = load_table("AFF-T4").to_frame()["mAP"]
    other = load_table("CALR-T1").to_frame().loc["unsupervised, no camera labels"]
    mine = other.loc["ClusterContrast"]
    rows += [
        ["AFF_SCL, mean contrast alone (AFF-T4)", f"{part['mean']:.1f}", "–"],
        [
            "ClusterContrast, not in the table (CALR-T1)",
            *(figure_of(mine[d, "mAP"]) for d in data),
        ],
    ]
    return markdown(["method", *(f"{d}, mAP" for d in data)], rows)


def figure_of(value: float) -> str:
    """Return a figure, or a dash where there is none."""
    return "–" if np.isnan(value) else f"{value:.1f}"


def domains_table() -> str:
    """AFF-T3: both directions, their difference, and AFF_SCL without a source."""
    table = load_table("AFF-T3")
    frame = table.to_frame().xs("mAP", axis=1, level="measure").astype(float)
    to_market, to_duke = "DukeMTMC-reID to Market-1501", "Market-1501 to DukeMTMC-reID"
    alone = load_table("AFF-T2").to_frame().loc["AFF_SCL"]
    lines = {name: (line[to_market], line[to_duke]) for name, line in frame.iterrows()}
    without = tuple(alone[d, "mAP"] for d in ("Market-1501", "DukeMTMC-reID"))
    lines["AFF_SCL without a source (AFF-T2)"] = without
    rows = [
        [name, f"{one:.1f}", f"{other:.1f}", points(one - other)]
        for name, (one, other) in lines.items()
    ]
    header = ["method", "to Market-1501", "to DukeMTMC-reID", "difference"]
    notes = "".join(f"- {note}\n" for note in table.notes)
    return f"{markdown(header, rows)}\n{notes}"


def balance_line() -> pd.Series:
    """Return what the balance adds at 0.75 / 0.25 with nothing erased, city by city.

    The two rows stand in two tables, and differ in the balance alone.
    """
    with_it = by_seed("AFF-T3", ["A alone"]).loc["A alone"]
    name = f"{ATTENDED}, {BARE}"
    added = with_it - by_seed("AFF-T2", [name]).loc[name]
    return pd.concat([added, pd.Series({"mean": added.mean(), "std": added.std()})])


def balance_table() -> str:
    """Tables 4 and 5 of the paper with the same single contrast, and ours."""
    by_loss = load_table("AFF-T4").to_frame()["mAP"]
    by_weight = load_table("AFF-T5").to_frame()["mAP"]
    ours = paired_differences("AFF-T5", BALANCE)
    ends = {
        "mean alone, 0 / 1": ("mean", (0.0, 1.0), ours.loc["0 / 1"]),
        "hard alone, 1 / 0": ("hard", (1.0, 0.0), ours.loc["1 / 0"]),
    }
    rows = []
    for name, (loss, weights, line) in ends.items():
        cost = by_weight[weights] - by_loss[loss]
        told = [f"{by_loss[loss]:.1f}", f"{by_weight[weights]:.1f}", points(cost)]
        rows.append([name, *told, each_city(line), points(line["mean"])])
    both = {
        "0.75 / 0.25": ours.loc["0.75 / 0.25"],
        f"0.75 / 0.25, {BARE}": balance_line(),
    }
    for name, line in both.items():
        rows.append([name, "–", "–", "–", each_city(line), points(line["mean"])])
    header = ["weights", "Table 4, no balance", "Table 5, with it", "difference"]
    return markdown([*header, "ours, city by city", "mean"], rows)


def draws_table() -> str:
    """How often an epoch draws a cluster, or a person of the source."""
    people = SIZES["course"].train_ids
    rows = []
    for table, names in {
        "AFF-HARD": ("clusters, mean", "clusters, hard"),
        "AFF-T6": (*GROWN.values(), *FIXED.values()),
        "AFF-T3": ("A alone", f"A to B, {READINGS[2]}", "A to B, source only"),
    }.items():
        frame = load_results(table, partial=True)
        for name in names:
            found = frame[frame["row"] == name]["result"] if len(frame) else ()
            times, sizes = [], []
            for result in found:
                config = result["config"]
                drawn = config["num_labels"] * config["iterations"]
                images = result["dataset"]["images"]["train"]
                epochs = [e for e in result["epochs"] if "clusters" in e]
                times += [drawn / e["clusters"] for e in epochs] or [drawn / people]
                sizes += [
                    (1 - e["outlier_share"]) * images / e["clusters"] for e in epochs
                ]
            told = [
                f"{np.mean(times):.1f}" if times else "missing",
                f"{np.mean(sizes):.1f}" if sizes else "–",
            ]
            rows.append([f"{table}: {name}", *told])
    return markdown(["row", "times drawn in an epoch", "images of a cluster"], rows)


def clusters_table() -> str:
    """AFF-T3: the target's clusters in the first and the last epoch."""
    measures = {
        "pairwise_precision": "pair precision",
        "pairwise_recall": "pair recall",
        "outlier_share": "outlier share",
    }
    rows = []
    for way, name in itertools.product(WAYS, ("alone", READINGS[2], READINGS[4])):
        row = f"{way[-1]} alone" if name == "alone" else f"{way}, {name}"
        found = cluster_health(row)
        for end, place in (("first epoch", 0), ("last epoch", -1)):
            if name == "alone" or place:
                told = [
                    spread(found[key][place], 2) if len(found) else "missing"
                    for key in measures
                ]
                rows.append([f"{way}, {name}", end, *told])
    return markdown(["row", "", *measures.values()], rows)


def cluster_health(row: str) -> Mapping[str, dict[int, list[float]]]:
    """Return measures of the clusters of AFF-T3, of the first and the last epoch."""
    frame = load_results("AFF-T3", partial=True)
    found = (
        frame[frame["row"] == row].sort_values("seed")["result"] if len(frame) else ()
    )
    keys = ("pairwise_precision", "pairwise_recall", "outlier_share")
    return {
        key: {place: [r["epochs"][place][key] for r in found] for place in (0, -1)}
        for key in keys
        if len(found)
    }


def _counter_adds(model: nn.Module, size: tuple[int, int]) -> int:
    # What the counter of MGN's row has besides: two for each value of a batch norm,
    # one for each output of a ReLU module (its last one) and each input of max pooling.
    values: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        batch_norm = isinstance(module, nn.BatchNorm2d)
        values[module] = 2 * output.numel() if batch_norm else inputs[0].numel()

    kinds = nn.BatchNorm2d | nn.ReLU | nn.MaxPool2d
    for module in model.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(note)
    model.eval()(torch.zeros(1, 3, *size, device="meta"))
    return sum(values.values())


@functools.cache
def cost_of(reduction: int | None, size: tuple[int, int]) -> tuple[Cost, int]:
    """Return what ResNet-50 with AFF costs for one image.

    Args:
        reduction: Reduction of both branches; None without AFF.
        size: Height and width of the image in pixels.

    Returns:
        The cost, and the operations that the counter of MGN's row adds.
    """
    with torch.device("meta"):
        model = ReIDNet("resnet50", pretrained=False)
        if reduction:
            model = add_attention(model, reduction=reduction)
    return network_cost(model, size), _counter_adds(model, size)


def costs_table() -> str:
    """AFF-T8: parameters, operations and memory of AFF on ResNet-50, counted."""
    published = load_table("AFF-T8").to_frame().loc["AFF_SCL"]
    rows = [["AFF_SCL, the paper", *(f"{v:.2f}" for v in published)]]
    for size in ((256, 128), (384, 192)):
        for reduction in (None, 16, 4):
            cost, adds = cost_of(reduction, size)
            counts = cost.parameters / 1e6, (cost.macs + adds) / 1e9
            told = (*counts, cost.outputs / 2**20)
            name = f"AFF, reduction {reduction}" if reduction else "ResNet-50 alone"
            rows.append([f"{name}, {size[0]} × {size[1]}", *(f"{v:.2f}" for v in told)])
    header = ["network", "parameters (M)", "FLOPs (G)", "memory (MiB)"]
    return markdown(header, rows)


def parameters(
    whole: int, local: int, bias: int, shared: bool, classifier: int, norms: int
) -> int:
    """Return the parameters of one design of AFF on ResNet-50.

    Args:
        whole: Reduction of the global branch.
        local: Reduction of the local branch.
        bias: 1 with biases, 0 without.
        shared: One channel attention for both groups, or one for each.
        classifier: Parameters of the classifiers of a training.
        norms: Batch norm necks over 2,048 numbers.
    """
    total = 23_508_032 + 98  # ResNet-50 without classifier, the 7 x 7 kernel
    total += 2 * 2048 * 2048 // whole + bias * (2048 // whole + 2048)
    once = 2 * 1024 * 1024 // local + bias * (1024 // local + 1024)
    return total + (once if shared else 2 * once) + classifier + norms * 4096


def designs() -> np.ndarray:
    """Return the parameters of all designs that we tried, in millions."""
    powers = (2, 4, 8, 16, 32, 64)
    # Of Market-1501, DukeMTMC-reID or ImageNet; the whole or both halves, or on all.
    classifiers = [0, *(n * w for n in (751, 702, 1000) for w in (2048, 4096))]
    choices = (powers, powers, (0, 1), (False, True), classifiers, (0, 1, 2))
    return np.array([parameters(*one) for one in itertools.product(*choices)]) / 1e6


def designs_text() -> str:
    """How many designs of AFF have the published number of parameters."""
    published = load_table("AFF-T8").to_frame().loc["AFF_SCL", "parameters"]
    totals = designs()
    hits = int((totals.round(2) == published).sum())
    different = np.unique(totals)
    near = (abs(different - published) < 0.5).sum() / 100
    return (
        f"Of {len(totals):,} designs, {hits or 'none'} "
        f"{'has' if hits < 2 else 'have'} {published:.2f} M parameters. Within half a "
        f"million of it there are {near:.0f} different totals for each 0.01 M, so that "
        "a hit would prove little.\n"
    )


def _dots(ax: Axes, x: Any, values: pd.DataFrame, colour: str, **look: Any) -> None:
    """Draw each city as a dot and the mean of the cities as a line."""
    ax.plot(x, values.to_numpy(), "o", color=colour, alpha=0.35)
    ax.plot(x, values.mean(axis=1), color=colour, lw=2.5, **look)


def erasing() -> Figure:
    """AFF-HARD: both contrasts with and without random erasing."""
    figure, axes = plt.subplots(
        1, 2, figsize=(8.4, 3.8), sharey=True, layout="constrained"
    )
    for who, ax in zip(("clusters", "identities"), axes):
        for kind, colour, style in zip(("mean", "hard"), COLOURS[3:], ("-", "--")):
            rows = [f"{who}, {kind}", f"{who}, {kind}, {BARE}"]
            values = by_seed("AFF-HARD", rows).loc[rows]
            _dots(ax, [0, 1], values, colour, ls=style, label=f"{kind} contrast")
        ax.set_xticks([0, 1], ["half of the views erased", BARE])
        source = "clusters of the city" if who == "clusters" else "identity labels"
        ax.set(xlim=(-0.35, 1.35), title=f"Trained on {source}")
    axes[0].set_ylabel("mAP (%)")
    axes[0].legend(loc="upper left")
    return figure


def weights() -> Figure:
    """AFF-T5: mAP against the weight of the hard contrast, the paper's and ours."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
    paper = load_table("AFF-T5").to_frame()["mAP"]
    shares = [weight for weight, _ in paper.index]
    axes[0].plot(shares, paper, "D-", color=COLOURS[0], label="with balance")
    single = load_table("AFF-T4").to_frame()["mAP"][["mean", "hard"]]
    axes[0].plot([0, 1], single, "s", color=COLOURS[1], label="no balance")
    names = ["0 / 1", "0.25 / 0.75", "0.5 / 0.5", "0.75 / 0.25", "1 / 0"]
    curves = {"with balance": "{}", f"no balance, {BARE}": f"{{}}, {BARE}"}
    for (label, form), colour, style in zip(curves.items(), COLOURS, ("-", "--")):
        rows = [form.format(name) for name in names]
        values = by_seed("AFF-T5", rows).loc[rows]
        _dots(axes[1], shares, values, colour, ls=style, label=label)
    for ax, title in zip(axes, ("The paper, Market-1501", "SynthCity course")):
        ax.set(xlabel="weight λ₁ of the hard contrast", title=title)
        ax.legend()
    axes[0].set_ylabel("mAP (%)")
    return figure


def sources() -> Figure:
    """AFF-T3: mAP on the target for six ways to use a labelled source."""
    figure, axes = plt.subplots(
        1, 2, figsize=(9.6, 3.3), layout="constrained", sharey=True
    )
    ticks = ["alone", "source\nonly", "source\nfirst", "half of\neach"]
    ticks += ["source\nonly, twice", "jointly"]
    for way, ax in zip(WAYS, axes):
        rows = [f"{way[-1]} alone", *(f"{way}, {reading}" for reading in READINGS)]
        values = by_seed("AFF-T3", rows).loc[rows]
        places = np.arange(len(rows))
        ax.plot(places, values.to_numpy(), "o", color="0.5", alpha=0.6)
        means = values.mean(axis=1).to_numpy()
        for name, part, colour in (
            ("64 images in a step", slice(4), 0),
            ("128 images in a step", slice(4, 6), 1),
        ):
            ends = places[part] - 0.3, places[part] + 0.3
            look: dict[str, Any] = {"color": COLOURS[colour], "lw": 2.5}
            ax.hlines(means[part], *ends, label=name, **look)
        ax.set_xticks(places, ticks)
        ax.set_title(f"From {way}")
    axes[0].set(ylabel="mAP (%)", ylim=(0, None))
    axes[0].legend(loc="lower right")
    return figure


TABLES = {
    **{
        f"aff_{name}": functools.partial(differences_table, table)
        for name, table in {
            "steps": "AFF-T2",
            "sources": "AFF-T3",
            "losses": "AFF-T4",
            "weights": "AFF-T5",
            "sizes": "AFF-T6",
            "attention": "AFF-T7",
            "contrasts": "AFF-HARD",
        }.items()
    },
    "aff_published": published_table,
    "aff_domains": domains_table,
    "aff_balance": balance_table,
    "aff_draws": draws_table,
    "aff_clusters": clusters_table,
    "aff_costs": costs_table,
    "aff_designs": designs_text,
}
CHARTS = {"aff_erasing": erasing, "aff_weight": weights, "aff_source": sources}
"""Pictures of result files, which change when results do."""
