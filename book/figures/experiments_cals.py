"""Tables and pictures of the page on the experiments of CALS."""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor

from page_tables import each_city, markdown, spread
from reidlib.data import ReIDDataset, open_dataset
from reidlib.engine.cache import cached_features, cached_run
from reidlib.experiments import (
    by_seed,
    factorial_effects,
    load_results,
    paired_differences,
    plans,
)
from reidlib.experiments.verdicts import points
from reidlib.papers import load_table
from reidlib.plotting import (
    COLOURS,
    MARKERS,
    plot_bars,
    plot_embedding,
    plot_retrievals,
)
from reidlib.recipes import cals
from reidlib.synthcity import ensure_synthcity

CALS_MEASURES = ("Rank-1", "Rank-5", "Rank-10", "mAP", "precision", "recall")
CALS_STEPS = {
    "baseline": "Baseline, larger backbone",
    "EfficientNet-B0": "DBSCAN, no attention, DCLS",
    "K-Means++": "K-Means++, no attention, DCLS",
    "local soft attention": "K-Means++, attention, DCLS",
    "CALS": "K-Means++, attention, CALS",
}
"""The steps of CALS-F8, and the rows of the plan that are the same steps here."""
CALS_DESIGN = {
    "DBSCAN, no attention, DCLS": (),
    "K-Means++, no attention, DCLS": ("K-Means++",),
    "DBSCAN, attention, DCLS": ("attention",),
    "DBSCAN, no attention, CALS": ("CALS",),
    "K-Means++, attention, DCLS": ("K-Means++", "attention"),
    "K-Means++, no attention, CALS": ("K-Means++", "CALS"),
    "DBSCAN, attention, CALS": ("attention", "CALS"),
    "K-Means++, attention, CALS": ("K-Means++", "attention", "CALS"),
}
"""Which switches are on in the eight rows of CALS-F8 that have one backbone."""
CALS_BACKBONES = {
    "smaller backbone, in the baseline": (
        "DBSCAN, no attention, DCLS",
        "Baseline, larger backbone",
    ),
    "smaller backbone, in CALS": (
        "K-Means++, attention, CALS",
        "CALS, larger backbone",
    ),
}
CALS_WHY = {
    "CASIA": "none of ours; not reproducible: data set not identified",
    "Market-1501": "none of ours yet; `reidlib train cals --preset paper_baseline`, "
    "and `--preset paper`, with `--data market1501 --root PATH`",
    "DukeMTMC-reID": "none of ours; not reproducible: withdrawn by its makers",
}
"""Why a data set of CALS has no figures of ours."""


def cals_scores() -> dict[str, pd.DataFrame]:
    """Return six measures of each run of CALS-T5, in percent, a frame for each row."""
    frame = load_results("CALS-T5", partial=True)
    scores = {}
    for row in plans()["CALS-T5"].rows:
        part = frame[frame["row"] == row.name] if len(frame) else frame
        metrics = [found.get("metrics", {}) for found in part.get("result", ())]
        lines = [
            [
                *(m["cmc"][k] for k in ("1", "5", "10")),
                *(m[n] for n in CALS_MEASURES[3:]),
            ]
            for m in metrics
            if m
        ]
        scores[row.name] = 100 * pd.DataFrame(lines, columns=list(CALS_MEASURES))
    return scores


def cals_measures_table() -> str:
    """Six measures of the baseline and of CALS: the paper's, and ours on SynthCity."""
    paper = load_table("CALS-T5").to_frame()
    rows = []
    for (data, method), line in paper.iterrows():
        figures = (f"{line[name]:.1f}" for name in CALS_MEASURES)
        rows.append([f"{data}, the paper", method, *figures])
    scores = cals_scores()
    for name, found in scores.items():
        cells = [spread(found[m]) if len(found) else "missing" for m in CALS_MEASURES]
        rows.append(["SynthCity course, ours", name, *cells])
    cities = sorted({len(found) for found in scores.values()})
    told = "Ours are missing: `reidlib reproduce CALS-T5` makes them."
    if cities[-1]:
        each = " or ".join(map(str, cities))
        told = f"Ours: mean ± standard deviation over {each} cities, last epoch."
    notes = [told, *(f"{data}: {why}." for data, why in CALS_WHY.items())]
    table = markdown(["data", "method", *CALS_MEASURES], rows)
    return table + "\n" + "".join(f"- {note}\n" for note in notes)


def cells_of(line: pd.Series) -> list[str]:
    """Return the differences of each city, and their mean and deviation, with signs."""
    if np.isnan(line["mean"]):
        return [each_city(line), "missing: `reidlib reproduce CALS-F8`"]
    deviation = "" if np.isnan(line["std"]) else f" ± {line['std']:.1f}"
    return [each_city(line), points(line["mean"]) + deviation]


def cals_accuracy_table() -> str:
    """CALS-T2: training accuracy of each epoch, and the purity of the pseudo labels."""
    paper = load_table("CALS-T2").to_frame()
    frame = load_results("CALS-T5", partial=True)
    found = frame[frame["row"] == "CALS"]["result"] if len(frame) else []
    runs = [
        pd.DataFrame(r["epochs"]).set_index("epoch") for r in found if "epochs" in r
    ]
    epochs = sorted({*paper.index, *(epoch for run in runs for epoch in run.index)})
    rows = []
    for epoch in epochs:
        printed = paper.loc[epoch] if epoch in paper.index else ["–"] * 2
        ours = [
            spread(100 * run.loc[epoch, name] for run in runs) if runs else "missing"
            for name in ("global_accuracy", "local_accuracy", "purity")
        ]
        rows.append([str(epoch), *(str(value) for value in printed), *ours])
    header = ["epoch", "global, the paper", "local, the paper"]
    return markdown([*header, "global, ours", "local, ours", "purity, ours"], rows)


def cals_steps_table() -> str:
    """The cumulative path of CALS-F8: the paper's gain of each step, and ours."""
    paper = load_table("CALS-F8").to_frame()["mAP"]
    ours = by_seed("CALS-F8", CALS_STEPS.values())
    names = list(CALS_STEPS)
    pairs = {new: (CALS_STEPS[new], CALS_STEPS[old]) for old, new in pairwise(names)}
    gains = paired_differences("CALS-F8", pairs)
    rows = []
    for place, (name, row) in enumerate(CALS_STEPS.items()):
        gained = points(paper.iloc[place] - paper.iloc[place - 1]) if place else "–"
        found = ours.loc[row].dropna()
        height = spread(found) if len(found) else "missing"
        cells = cells_of(gains.loc[name]) if place else ["–", "–"]
        start = "" if place == 0 else "+ "
        rows.append([start + name, f"{paper[name]:.1f}", gained, height, *cells])
    header = ["step", "the paper's mAP", "its gain", "our mAP"]
    return markdown([*header, "our gain, city by city", "mean"], rows)


def cals_effects() -> pd.DataFrame:
    """Return main effects, interactions and the effect of the backbone on mAP."""
    effects = factorial_effects("CALS-F8", CALS_DESIGN)
    return pd.concat([effects, paired_differences("CALS-F8", CALS_BACKBONES)])


def cals_effects_table() -> str:
    """What each switch of CALS is worth, averaged over the settings of the others."""
    rank1 = factorial_effects("CALS-F8", CALS_DESIGN, measure="Rank-1")
    paired = paired_differences("CALS-F8", CALS_BACKBONES, measure="Rank-1")
    rank1 = pd.concat([rank1, paired])
    rows = [
        [name.replace(" x ", " × "), *cells_of(line), cells_of(rank1.loc[name])[1]]
        for name, line in cals_effects().iterrows()
    ]
    header = ["effect", "mAP, city by city", "mAP, mean", "Rank-1, mean"]
    return markdown(header, rows)


def cals_survey_table() -> str:
    """CALS-T1: what the methods are that CALS surveys, and what they report."""
    table = load_table("CALS-T1")
    rows = []
    for name, line in table.to_frame().iterrows():
        ends = [f"{v:g}" for v in (line["low"], line["high"]) if not np.isnan(v)]
        told = f"{line['measure']}: {' to '.join(ends)}"
        if "(low)" in line["measure"]:
            told = f"gain in Rank-1 {ends[0]}, in mAP {ends[1]}"
        rows.append([name, line["setting"], line["techniques"], line["datasets"], told])
    header = ["method", "labels", "made of", "data", "reported (%, points)"]
    notes = "".join(f"- {note}\n" for note in table.notes)
    return f"{markdown(header, rows)}\n{notes}"


def cals_published_table() -> str:
    """CALS-T3: the published methods beside which CALS puts itself."""
    table = load_table("CALS-T3")
    rows = [
        [*name, line["backbone"] or "not given"]
        + ["–" if np.isnan(line[m]) else f"{line[m]:.1f}" for m in ("Rank-1", "mAP")]
        + [points(line[f"{m} gain"]) for m in ("Rank-1", "mAP")]
        for name, line in table.to_frame().iterrows()
    ]
    header = ["method", "data", "backbone", "Rank-1", "mAP", "gain Rank-1", "gain mAP"]
    notes = "".join(f"- {note}\n" for note in table.notes)
    return f"{markdown(header, rows)}\n{notes}"


def cals_bars() -> Figure:
    """CALS-F4 and CALS-F5: Rank-1 and mAP of both methods, the paper's and ours."""
    paper = load_table("CALS-T5").to_frame()
    ours = cals_scores()
    figure, axes = plt.subplots(2, 1, figsize=(7.6, 5.2), layout="constrained")
    for ax, measure in zip(axes, ("Rank-1", "mAP")):
        bars: dict[str, dict[str, Any]] = {}
        for (data, method), line in paper.iterrows():
            bars.setdefault(f"{data}\n(the paper)", {})[method] = [line[measure]]
        for method in ("Baseline", "CALS"):
            if len(ours[method]):
                place = bars.setdefault("SynthCity course\n(ours)", {})
                place[method] = ours[method][measure]
        plot_bars(bars, ylabel=f"{measure} (%)", ax=ax)
        ax.set_ylim(0, 112)
    return figure


def cals_steps() -> Figure:
    """CALS-F8: the path of the paper and ours, and what each switch is worth."""
    paper = load_table("CALS-F8").to_frame()["mAP"]
    ours = by_seed("CALS-F8", CALS_STEPS.values()).loc[list(CALS_STEPS.values())]
    figure, (path, worth) = plt.subplots(
        2, 1, figsize=(8.4, 6.6), layout="constrained", height_ratios=(1, 1.25)
    )
    steps = [
        ("+ " if place else "")
        + name.replace("tNet", "t-\nNet").replace("soft ", "soft\n")
        for place, name in enumerate(paper.index)
    ]
    # From the baseline up: ours end at other heights.
    paper, ours = paper - paper.iloc[0], ours - ours.iloc[0]
    look = {"ls": ":", "marker": "o", "mfc": "none"}
    path.axhline(0, color="0.4", lw=1)
    path.plot(steps, paper, label="the paper, Market-1501", **look)
    for seed in ours:
        path.plot(steps, ours[seed], color=COLOURS[1], lw=0.8, alpha=0.6)
    if ours.notna().any(axis=None):
        look = {"color": COLOURS[1], "marker": MARKERS[1]}
        path.plot(steps, ours.mean(axis=1), label="ours, mean of the cities", **look)
    path.set(ylabel="points of mAP", title="Step by step, from the baseline")
    path.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    effects = cals_effects()
    names = [name.replace(" x ", " × ") for name in effects.index]
    place = np.arange(len(names))[::-1]
    worth.axvline(0, color="0.4", lw=1)
    seeds = [column for column in effects if column not in ("mean", "std")]
    for seed, colour, marker in zip(seeds, COLOURS[2:], MARKERS[2:]):
        look = {"ls": "", "marker": marker, "color": colour, "alpha": 0.8}
        worth.plot(effects[seed], place, label=f"city {seed}", **look)
    if effects["mean"].notna().any():
        worth.plot(effects["mean"], place, "|", color="k", ms=16, mew=2, label="mean")
        worth.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        worth.set(xlim=(-5, 5))
        worth.text(0.2, place.mean(), "no runs yet", color="0.4")
    worth.set_yticks(place, names)
    worth.set_ylim(-0.6, len(names) - 0.4)
    worth.set(xlabel="points of mAP", title="What a switch is worth; × interaction")
    worth.grid(visible=False, axis="y")
    return figure


@functools.cache
def cals_small_runs() -> tuple[ReIDDataset, dict[str, dict[str, Tensor]]]:
    """Return SynthCity tiny and the features of two small trainings on it.

    That of CALS is the run of the chapter; that of the baseline differs in clustering,
    attention and smoothing, and not in the backbone.
    """
    dataset = open_dataset("synthcity", ensure_synthcity("tiny", progress=False))
    ours = replace(cals.PRESETS["quick"], epochs=5, iterations=15)
    base = replace(ours, clustering="dbscan", attention="none", smoothing="dcls")
    runs = {"baseline": base, "CALS": ours}
    return dataset, {
        name: cached_features(cached_run(cals.train, config, dataset)[1])
        for name, config in runs.items()
    }


def cals_embedding() -> Figure:
    """CALS-F6: t-SNE of the gallery under both networks, eight people coloured."""
    dataset, features = cals_small_runs()
    gallery = dataset.gallery
    people, counts = np.unique(gallery.pids[gallery.pids > 0], return_counts=True)
    some = sorted(people[np.argsort(-counts, kind="stable")[:8]])
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    for ax, (name, found) in zip(axes, features.items()):
        vectors = found["gallery"].numpy()
        places = TSNE(random_state=0, init="pca", perplexity=15).fit_transform(vectors)
        right = same_person_share(vectors, gallery.pids)
        title = f"{name}: {right:.0%} of five neighbours right"
        plot_embedding(
            places, gallery.pids, name="person", only=some, title=title, ax=ax
        )
        if name == "baseline":
            ax.get_legend().remove()
    return figure


def same_person_share(features: np.ndarray, pids: np.ndarray, k: int = 5) -> float:
    """Return the share of the k nearest images that show the same known person."""
    similar = features @ features.T
    np.fill_diagonal(similar, -np.inf)
    nearest = np.argsort(-similar, axis=1)[:, :k]
    known = pids > 0
    return float((pids[nearest] == pids[:, None])[known].mean())


def cals_retrievals() -> Figure:
    """CALS-F9: the first five images that both networks find for the same queries."""
    dataset, features = cals_small_runs()
    rows = np.linspace(0, len(dataset.query) - 1, 5).astype(int)[1:4].tolist()
    figure, axes = plt.subplots(1, 2, figsize=(10.2, 5.6), layout="constrained")
    for ax, (name, found) in zip(axes, features.items()):
        both = found["query"], found["gallery"]
        plot_retrievals(*both, dataset, rows, k=5, title=name, ax=ax)
        ax.set_title(f"{name} (✓ same person, ✗ another)")
    return figure


TABLES = {
    "cals_measures": cals_measures_table,
    "cals_accuracy": cals_accuracy_table,
    "cals_steps": cals_steps_table,
    "cals_effects": cals_effects_table,
    "cals_survey": cals_survey_table,
    "cals_published": cals_published_table,
}
CHARTS = {"cals_bars": cals_bars, "cals_steps": cals_steps}
"""Pictures of result files, which change when results do."""
TRAINED = {"cals_embedding": cals_embedding, "cals_retrievals": cals_retrievals}
"""Pictures of networks, which result files do not hold."""
