"""Tables and pictures of the page on the experiments of CALR."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from page_tables import each_city, markdown, spread
from reidlib.clustering import ClusterQuality
from reidlib.experiments import by_seed, load_results, paired_differences, plan
from reidlib.experiments.verdicts import points
from reidlib.papers import load_table
from reidlib.plotting import COLOURS, MARKERS
from reidlib.plotting.clusters import measure_name
from reidlib.plotting.style import INK
from reidlib.synthcity import SIZES

DATA = ("Market-1501", "DukeMTMC-reID", "MSMT17")
HATCHES = ("", "///", "...")
EPOCH = {
    "discard_ratio": "images discarded (%)",
    "clusters": "number of clusters",
    "mAP": "mAP (%)",
}
"""Measures of an epoch and what a figure calls them."""
PUBLISHED_PARTS = {
    "camera alignment, weights": "Camera alignment",
    "label refinement, weights": "Label refinement",
    "both, weights": "Both",
}
"""Rows of CALR-T3 here, and the rows of the paper that are nearest to them."""
ALIGNED = {
    "nothing else": ("camera alignment", "Baseline"),
    "weights": ("camera alignment, weights", "weights"),
    "refinement": ("both, no weights", "label refinement"),
    "refinement and weights": ("both, weights", "label refinement, weights"),
}
"""What alignment is added to in CALR-T3."""
CHANGES = {
    "CALR, mean pooling": ("CALR, GAP", "Baseline, GAP"),
    "CALR, GeM": ("CALR, GeM", "Baseline, GeM"),
    "CALR with the choices of its code, GeM": (
        "CALR, its code's choices",
        "Baseline, GeM",
    ),
    "CALR, DBSCAN, GeM": ("CALR, DBSCAN", "Baseline, DBSCAN"),
    "baseline: Infomap for DBSCAN": ("Baseline, GeM", "Baseline, DBSCAN"),
    "baseline: GeM for mean pooling": ("Baseline, GeM", "Baseline, GAP"),
}
"""Pairs of rows of CALR-T1 that differ in one thing."""
SHIFTS = (0.0, 0.2, 0.45, 0.7, 1.0)
KINDS = {"global": "within", "local": "local", "refined": "refined_within"}


@functools.cache
def results_of(table: str) -> pd.DataFrame:
    """Return the result files of a table, read once."""
    return load_results(table, partial=True)


def runs_of(table: str, row: str) -> dict[int, dict[str, Any]]:
    """Return the result files of the complete runs of a row, by city."""
    frame = results_of(table)
    if not len(frame):
        return {}
    frame = frame[(frame["row"] == row) & (frame["status"] == "complete")]
    return dict(zip(frame["seed"], frame["result"]))


def cells_of(line: pd.Series, table: str) -> list[str]:
    """Return the differences of each city, and their mean and deviation, with signs."""
    if np.isnan(line["mean"]):
        return ["–", f"missing: `reidlib reproduce {table}`"]
    deviation = "" if np.isnan(line["std"]) else f" ± {line['std']:.1f}"
    return [each_city(line), points(line["mean"]) + deviation]


def gains(table: str, base: str) -> pd.DataFrame:
    """Return what each row of a table has more than one of them, city by city."""
    rows = [row.name for row in plan(table).rows if row.name != base]
    return paired_differences(table, {row: (row, base) for row in rows})


def slashes(values: Sequence[float], form: Callable[[float], str] = points) -> str:
    """Return the values of the cities with slashes between them."""
    return " / ".join(map(form, values)) or "missing"


def published(frame: pd.DataFrame, name: Any, base: Any) -> str:
    """Return the gains in mAP that a paper prints, data set by data set."""
    maps = frame.xs("mAP", axis=1, level="measure")
    return slashes([maps.loc[name, data] - maps.loc[base, data] for data in maps])


def calr_parts_table() -> str:
    """CALR-T3: what each combination of parts gains over the baseline."""
    paper = load_table("CALR-T3").to_frame()
    rows = []
    for name, line in gains("CALR-T3", "Baseline").iterrows():
        theirs = PUBLISHED_PARTS.get(str(name))
        printed = published(paper, theirs, "Baseline") if theirs else "–"
        rows.append([str(name), printed, *cells_of(line, "CALR-T3")])
    header = [f"the paper: {' / '.join(paper.columns.unique('dataset'))}"]
    return markdown(["parts", *header, "ours, city by city", "mean"], rows)


def calr_alignment_table() -> str:
    """CALR-T3: what alignment adds to each combination of the other parts."""
    lines = paired_differences("CALR-T3", ALIGNED).iterrows()
    rows = [[str(name), *cells_of(line, "CALR-T3")] for name, line in lines]
    return markdown(["alignment beside", "mAP, city by city", "mean"], rows)


def calr_decay_table() -> str:
    """CALR-T4: each schedule against none, and what it discards in the last epoch."""
    paper = load_table("CALR-T4").to_frame()
    rows = []
    for name, line in gains("CALR-T4", "none").iterrows():
        printed = published(paper, name, "none") if name in paper.index else "–"
        runs = runs_of("CALR-T4", str(name)).values()
        left = [100 * run["epochs"][-1]["discard_ratio"] for run in runs]
        share = slashes(left, lambda value: f"{value:.0f}")
        rows.append([str(name), printed, *cells_of(line, "CALR-T4"), share])
    header = [f"the paper: {' / '.join(paper.columns.unique('dataset'))}"]
    header += ["ours, city by city", "mean", "discarded in the last epoch (%)"]
    return markdown(["schedule", *header], rows)


def same_camera() -> pd.DataFrame:
    """Return for each beta the neighbours under the image's own camera, in percent."""
    rows = [row.name for row in plan("CALR-T5").rows]
    return 100 * by_seed("CALR-T5", rows, measure="same camera")


def calr_beta_table() -> str:
    """CALR-T5: each weight of the camera loss against none."""
    paper = load_table("CALR-T5").to_frame()
    near = same_camera()
    none = plan("CALR-T5").rows[0].name
    rows = []
    for name, line in gains("CALR-T5", none).iterrows():
        beta = float(str(name).split()[1])
        change = near.loc[name] - near.loc[none]
        rows.append(
            [
                f"{beta:g}",
                published(paper, beta, 0.0),
                *cells_of(line, "CALR-T5"),
                slashes(change.dropna()),
            ]
        )
    header = [f"the paper: {' / '.join(paper.columns.unique('dataset'))}"]
    header += ["ours, city by city", "mean", "neighbours under one camera"]
    return markdown(["β", *header], rows)


def calr_groups_table() -> str:
    """CALR-T1: the best of each group of methods, and what cameras are worth."""
    people = load_table("CALR-T1").to_frame().xs("mAP", axis=1, level="measure")
    people = people.astype(float)
    best = people.groupby(level="setting", sort=False).max()
    rows = [
        [f"best of: {name}", *(f"{line[data]:.1f}" for data in DATA)]
        for name, line in best.iterrows()
    ]
    blind = people.xs("unsupervised, no camera labels")
    told = people.xs("unsupervised, camera labels")
    for name, line in (told - blind).dropna(how="all").iterrows():
        text = f"{name}: with cameras minus without"
        rows.append([text, *(points(line[data]) for data in DATA)])
    for name, base in (("CALR", "Baseline"), ("CALR (IBN + GeM)", "CALR")):
        line = told.loc[name] - told.loc[base]
        rows.append([f"{name} minus {base}", *(points(line[data]) for data in DATA)])
    return markdown(["the paper's mAP (%, points)", *DATA], rows)


def calr_changes_table() -> str:
    """CALR-T1: pairs of our rows that differ in one thing."""
    lines = paired_differences("CALR-T1", CHANGES).iterrows()
    rows = [[str(name), *cells_of(line, "CALR-T1")] for name, line in lines]
    return markdown(["what is added", "mAP, city by city", "mean"], rows)


def calr_vehicles_table() -> str:
    """CALR-T2: the paper's methods on VeRi-776."""
    table = load_table("CALR-T2")
    frame = table.to_frame()
    rows = [
        [*map(str, name), *(f"{line[m]:.1f}" for m in ("Rank-1", "mAP"))]
        for name, line in frame.iterrows()
    ]
    notes = "".join(f"- {note}\n" for note in table.notes)
    header = [*map(str, frame.index.names), "Rank-1", "mAP"]
    return f"{markdown(header, rows)}\n{notes}"


def qualities(epoch: int) -> dict[str, list[ClusterQuality]]:
    """Return how good clusters are under one camera in an epoch, city by city."""
    found: dict[str, list[ClusterQuality]] = {kind: [] for kind in KINDS}
    for run in runs_of("CALR-T3", "label refinement").values():
        for kind, key in KINDS.items():
            place = run["metrics"] if kind == "local" else run["epochs"][epoch]
            found[kind].append(ClusterQuality(**place[key]))
    return found


def calr_quality_table() -> str:
    """CALR-F4: global, local and refined clusters, in the first and the last epoch."""
    measures = {
        "precision": ("pairwise_precision", 2),
        "recall": ("pairwise_recall", 2),
        "F": ("pairwise_f", 2),
        "expansion": ("expansion", 1),
    }
    rows = []
    for when, epoch in (("first epoch", 0), ("last epoch", -1)):
        for kind, found in qualities(epoch).items():
            if kind == "local" and epoch:
                continue  # they do not change
            name = "local (frozen)" if kind == "local" else f"{kind}, {when}"
            cells = [
                spread((getattr(one, field) for one in found), digits)
                if found
                else "missing"
                for field, digits in measures.values()
            ]
            rows.append([name, *cells])
    return markdown(["clusters", *measures], rows)


def calr_judges_table() -> str:
    """CALR-F6: what refinement does to clusters in each epoch, without decay."""
    runs = list(runs_of("CALR-F6", "CALR, no decay").values())
    rows = []
    for place in range(max((len(run["epochs"]) for run in runs), default=0)):
        epochs = [run["epochs"][place] for run in runs]
        pairs = {
            "ahead": [
                (e["within"]["pairwise_f"], run["metrics"]["local"]["pairwise_f"])
                for e, run in zip(epochs, runs)
            ],
            "precision": [
                (e["pairwise_precision"], e["unrefined"]["pairwise_precision"])
                for e in epochs
            ],
            "within": [
                (e["refined_within"]["pairwise_f"], e["within"]["pairwise_f"])
                for e in epochs
            ],
            "f": [(e["pairwise_f"], e["unrefined"]["pairwise_f"]) for e in epochs],
        }
        cells = [slashes([100 * (a - b) for a, b in pair]) for pair in pairs.values()]
        rows.append([str(place + 1), *cells])
    header = [
        "epoch",
        "F under one camera: global minus local",
        "precision: refined minus global",
        "F under one camera: refined minus global",
        "F, all pairs: refined minus global",
    ]
    return markdown(header, rows)


def by_shift(value: Callable[[dict[str, Any]], float]) -> pd.DataFrame:
    """Return a number of each run with refinement: a line a city, a column a shift."""
    found = {
        shift: {
            city: value(run)
            for city, run in runs_of("CALR-SHIFT", f"shift {shift}, refined").items()
        }
        for shift in SHIFTS
    }
    return pd.DataFrame(found).sort_index()


def precision_within(epoch: int) -> pd.DataFrame:
    """Return the precision of global clusters under one camera, see `by_shift`."""
    return by_shift(lambda run: run["epochs"][epoch]["within"]["pairwise_precision"])


def local_precision() -> pd.DataFrame:
    """Return the precision of local clusters, see `by_shift`."""
    return by_shift(lambda run: run["metrics"]["local"]["pairwise_precision"])


def shift_scores() -> dict[str, pd.DataFrame]:
    """Return mAP of both rows: a line for each city, a column for each shift."""
    found = {}
    for kind in ("baseline", "refined"):
        rows = [f"shift {shift}, {kind}" for shift in SHIFTS]
        table = by_seed("CALR-SHIFT", rows).reindex(rows).T
        found[kind] = table.set_axis(list(SHIFTS), axis=1)
    return found


def calr_shift_table() -> str:
    """CALR-SHIFT: what refinement gains at each shift of the cameras."""
    scores = shift_scores()
    gain = scores["refined"] - scores["baseline"]
    gap = 100 * (local_precision() - precision_within(0))
    rows = []
    for shift in SHIFTS:
        found = gain[shift].dropna()
        heights = [spread(table[shift].dropna()) for table in scores.values()]
        mean = points(found.mean()) if len(found) else "missing"
        cells = [*heights, slashes(found), mean, slashes(gap[shift].dropna())]
        rows.append([f"{shift:g}", *cells])
    header = ["camera shift", "baseline, mAP", "refined, mAP", "gain, city by city"]
    header += ["mean", "precision under one camera: local minus global, first epoch"]
    return markdown(header, rows)


def plot_cluster_figures(
    qualities: Mapping[str, Sequence[ClusterQuality]], places: Sequence[str]
) -> np.ndarray:
    """Draw how good several sets of clusters are, place by place (CALR-F4).

    Args:
        qualities: For each name (``"global"``, ``"local"``) the quality at each place.
        places: Names of the cities or cameras.

    Returns:
        ``(4,)`` axes, one per measure, each with one container of bars per name.

    Example:
        >>> from reidlib.clustering import cluster_quality
        >>> good = cluster_quality([0, 0, 1], [5, 5, 7], [0, 0, 0])
        >>> axes = plot_cluster_figures({"global": [good, good]}, ["0", "1"])
        >>> [float(bar.get_height()) for bar in axes[0].containers[0]]
        [1.0, 1.0]
    """
    measures = ("pairwise_precision", "pairwise_recall", "pairwise_f", "expansion")
    table = pd.DataFrame(
        [
            {"": place, "clusters of": name, **asdict(quality)}
            for name, row in qualities.items()
            for place, quality in zip(places, row, strict=True)
        ]
    )
    figure, axes = plt.subplots(2, 2, figsize=(8.8, 5.0), layout="constrained")
    for ax, measure in zip(axes.flat, measures):
        sns.barplot(table, x="", y=measure, hue="clusters of", saturation=1, ax=ax)
        for bars, hatch in zip(ax.containers, HATCHES):
            plt.setp(bars, hatch=hatch, edgecolor="w", linewidth=0)
        ax.grid(visible=False, axis="x")
        ax.set(ylabel="", title=measure_name(measure))
        ax.get_legend().remove()
    legend = axes.flat[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside upper right", ncols=len(qualities))
    return axes.ravel()


def plot_refinement_epochs(
    runs: Mapping[str, Mapping[str, Any]], *, num_pids: int
) -> np.ndarray:
    """Draw what is discarded, the clusters left, and mAP, over the epochs (CALR-F6).

    Args:
        runs: For each name its measures, of ``discard_ratio`` and ``mAP`` in [0, 1] and
            ``clusters``; each ``(E,)``, or ``(S, E)`` for S seeds. A run may lack a
            measure, and one that all lack has no panel.
        num_pids: True number of identities: a level in the panel of ``clusters``.

    Returns:
        ``(M,)`` axes, one per measure. A run has its mean first, and then, where there
        are several seeds, a thin line for each.

    Example:
        >>> runs = {"CALR": {"discard_ratio": [0.5, 0.25]}}
        >>> axes = plot_refinement_epochs(runs, num_pids=40)
        >>> [ax.get_ylabel() for ax in axes], axes[0].lines[0].get_ydata().tolist()
        (['images discarded (%)'], [50.0, 25.0])
    """
    measures = [m for m in EPOCH if any(m in run for run in runs.values())]
    figure, axes = plt.subplots(
        1,
        len(measures),
        figsize=(3.4 * len(measures), 3.0),
        layout="constrained",
        squeeze=False,
    )
    handles = {}
    for ax, measure in zip(axes[0], measures):
        for i, (name, run) in enumerate(runs.items()):
            if measure in run:
                values = np.atleast_2d(run[measure])
                scale = 1 if measure == "clusters" else 100
                epochs = np.arange(1, values.shape[1] + 1)
                handles[name] = _mean_and_seeds(ax, epochs, scale * values, i)
        if measure == "clusters":
            handles["people"] = ax.axhline(num_pids, color=INK, ls="--", lw=1.2)
        ax.set(xlabel="epoch", ylabel=EPOCH[measure])
        ax.set_ylim(bottom=0)
    names = [name for name in (*runs, "people") if name in handles]
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside upper right",
        ncols=len(names),
    )
    return axes[0]


def plot_beta_sweep(
    sweeps: Mapping[str, Mapping[float, Any]], ax: Axes | None = None
) -> Axes:
    """Draw the gain of each weight of the camera loss over no camera loss (CALR-T5).

    Differences let sweeps of different heights share one scale. With several seeds they
    are taken seed by seed, because a seed's city moves all weights together.

    Args:
        sweeps: For each name the mAP in percent at each beta: one number, or ``(S,)``
            over seeds in the same order everywhere, nan where a run is missing. Beta 0
            must be among them.
        ax: Axes to draw into.

    Returns:
        The axes: for each name a line through the mean differences, with bars of one
        standard deviation where there are several seeds.

    Example:
        >>> ax = plot_beta_sweep({"ours": {0.0: [30, 40], 1.0: [31, 43]}})
        >>> ax.lines[0].get_ydata().tolist()
        [0.0, 2.0]
    """
    table = pd.DataFrame(
        [
            (name, beta, gain)
            for name, sweep in sweeps.items()
            for beta, values in sweep.items()
            for gain in np.atleast_1d(values) - np.atleast_1d(sweep[0.0])
        ],
        columns=["sweep", "beta", "gain"],
    )
    ax = sns.lineplot(
        table,
        x="beta",
        y="gain",
        hue="sweep",
        style="sweep",
        markers=list(MARKERS[: len(sweeps)]),
        markersize=6,
        markeredgewidth=0,
        errorbar="sd",
        err_style="bars",
        err_kws={"capsize": 3},
        ax=ax or plt.subplots()[1],
    )
    ax.axhline(0, color=INK, lw=1)
    ax.set(
        xlabel="weight β of the camera loss", ylabel="mAP minus mAP at β = 0 (points)"
    )
    ax.legend(loc="lower left")
    return ax


def _mean_and_seeds(ax: Axes, x: Any, values: np.ndarray, i: int) -> Any:
    """Draw the mean of the seeds that there are, and each of them as a thin line."""
    mean = pd.DataFrame(values).mean()  # leaves nan out, without a warning
    (line,) = ax.plot(x, mean, color=COLOURS[i], marker=MARKERS[i], zorder=3)
    if len(values) > 1:
        ax.plot(x, values.T, color=COLOURS[i], lw=0.8, alpha=0.5)
    return line


def calr_clusters() -> Figure:
    """CALR-F4: global, local and refined clusters in the first epoch."""
    found = qualities(0)
    places = [f"city {place}" for place in range(len(found["local"]))]
    return plot_cluster_figures(found, places)[0].figure


def over_epochs(run: dict[str, Any]) -> dict[str, list[float]]:
    """Return the measures of CALR-F6 that a run has in every epoch."""
    epochs = run["epochs"]
    measures = {
        "discard_ratio": [e.get("discard_ratio") for e in epochs],
        "clusters": [e["clusters"] for e in epochs],
        "mAP": [e.get("test", {}).get("mAP") for e in epochs],
    }
    return {m: values for m, values in measures.items() if None not in values}


def calr_epochs() -> Figure:
    """CALR-F6: discards, clusters and mAP, epoch by epoch."""
    runs = {}
    for row in plan("CALR-F6").rows:
        seeds = [over_epochs(run) for run in runs_of("CALR-F6", row.name).values()]
        if seeds:
            runs[row.name] = {m: [seed[m] for seed in seeds] for m in seeds[0]}
    return plot_refinement_epochs(runs, num_pids=SIZES["course"].train_ids)[0].figure


def calr_shift() -> Figure:
    """CALR-SHIFT: mAP, the gain of refinement, and the purity of the judges."""
    figure, axes = plt.subplots(1, 3, figsize=(10.2, 3.3), layout="constrained")
    scores = shift_scores()
    for i, (name, table) in enumerate(scores.items()):
        _mean_and_seeds(axes[0], SHIFTS, table.to_numpy(), i).set_label(name)
    axes[0].set(title="mAP (%)", ylim=(0, None))
    gain = scores["refined"] - scores["baseline"]
    axes[1].axhline(0, color=INK, lw=1.0)
    _mean_and_seeds(axes[1], SHIFTS, gain.to_numpy(), 2)
    axes[1].set(title="Refined minus baseline")
    judges = {
        "local": local_precision(),
        "global, first epoch": precision_within(0),
        "global, last epoch": precision_within(-1),
    }
    for i, (name, table) in enumerate(judges.items(), 3):
        _mean_and_seeds(axes[2], SHIFTS, table.to_numpy(), i).set_label(name)
    axes[2].set(title="Precision under one camera", ylim=(0, 1.15))
    for ax in axes:
        ax.set(xlabel="camera shift")
    axes[0].legend()
    axes[2].legend(ncols=2, fontsize=8, loc="upper right")
    return figure


def calr_beta() -> Figure:
    """CALR-T5: the gain of each weight, and what is left of the camera."""
    paper = load_table("CALR-T5").to_frame().xs("mAP", axis=1, level="measure")
    sweeps = {f"the paper, {name}": paper[name].to_dict() for name in paper}
    names = [row.name for row in plan("CALR-T5").rows]
    betas = [float(name.split()[1]) for name in names]
    ours = by_seed("CALR-T5", names).loc[names]
    sweeps["SynthCity course"] = dict(zip(betas, ours.to_numpy()))
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.6), layout="constrained")
    plot_beta_sweep(sweeps, ax=axes[0])
    near = same_camera().loc[names]
    axes[1].axhline(0, color=INK, lw=1.0)
    change = (near - near.loc[names[0]]).to_numpy().T
    _mean_and_seeds(axes[1], betas, change, 2)
    axes[1].set(
        xlabel="weight β of the camera loss",
        title="Neighbours under one camera (points)",
    )
    return figure


TABLES = {
    "calr_groups": calr_groups_table,
    "calr_changes": calr_changes_table,
    "calr_vehicles": calr_vehicles_table,
    "calr_parts": calr_parts_table,
    "calr_alignment": calr_alignment_table,
    "calr_decay": calr_decay_table,
    "calr_beta": calr_beta_table,
    "calr_quality": calr_quality_table,
    "calr_judges": calr_judges_table,
    "calr_shift": calr_shift_table,
}
CHARTS = {
    "calr_clusters": calr_clusters,
    "calr_epochs": calr_epochs,
    "calr_shift": calr_shift,
    "calr_beta": calr_beta,
}
"""Pictures of result files, which change when results do."""
