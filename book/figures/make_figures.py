"""Make the pictures and tables of the book's pages, and the README's picture, again.

    python book/figures/make_figures.py [--tables]

takes about half a minute, and a few seconds for the tables alone. Pictures are drawn
from plans and descriptions, so no data set is needed, or from result files; tables come
from the library, the papers' tables in it, and result files, so that no number is typed
by hand. Two pictures need networks, which result files do not hold: two small trainings
of a minute each, from the run cache if they are there.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

import deployment
import experiments_aff_scl
import experiments_baseline
import experiments_calr
import experiments_cals
import experiments_qafm
import summary
import verdict_charts
from diagrams import DIAGRAMS, plot_diagram, plot_sightings
from experiments_cals import TRAINED
from page_tables import markdown, spread
from quotes import quotes
from reidlib.errors import ReIDError
from reidlib.experiments import Data, load_results, plans, results_dir, scoreboard
from reidlib.experiments import report as report_of
from reidlib.papers import load_table
from reidlib.plotting import plot_images, use_style
from reidlib.synthcity import (
    SIZES,
    Dials,
    draw_frame,
    draw_person,
    people_grid,
    plan_world,
    turning_grid,
)

FOLDER = Path(__file__).parent
SEED = 0
PAGES = (
    experiments_baseline,
    experiments_calr,
    experiments_aff_scl,
    experiments_cals,
    experiments_qafm,
    verdict_charts,
    summary,
    deployment,
)
LIMIT = 300_000  # bytes: the pictures are part of the repository
ACCEPTANCE = results_dir() / "synthcity_acceptance.json"
MEASURES = ("rank1", "mAP")
ACCEPTANCE_COMMAND = "python benchmarks/synthcity_acceptance.py"
TRAINED_COMMAND = "reidlib reproduce baseline --preset ablation"
PERSON_DATA = ("Market-1501", "DukeMTMC-reID", "MSMT17")
PAPER_MEASURES = ("mAP", "Rank-1")
REPORTED = "Market-1501, mAP / Rank-1, as reported"
BIAS = ("nmi_cam", "nmi_pid", "same_camera_share")


DRAWN = {
    f"{kind}_{key}_{shape}": (name, chapter, shape == "stacked", dpi)
    for name, diagram in DIAGRAMS.items()
    for kind, key, chapter, dpi in (
        ("paper", name, None, 200),
        *(("chapter", chapter, chapter, 150) for chapter in diagram.chapters),
    )
    for shape in ("wide", "stacked")
}
"""Diagrams by file: method, chapter whose part is in colour, stacked, dots per inch."""


def save(
    figure: Figure, name: str, dpi: int = 100, *, flat: bool = False, **look: Any
) -> Path:
    """Write a figure as a PNG with a palette, a third of the size of full colour.

    Args:
        figure: What to write; it is closed.
        name: Name of the file without its ending.
        dpi: Dots per inch.
        flat: Keep colours of few pixels, as a diagram has them.
        **look: For ``savefig``.
    """
    file = FOLDER / f"{name}.png"
    figure.savefig(file, dpi=dpi, **look)
    plt.close(figure)
    with Image.open(file) as image:
        method = Image.Quantize.FASTOCTREE if flat else Image.Quantize.MEDIANCUT
        rgb = image.convert("RGB")
        small = rgb.quantize(160, method=method, dither=Image.Dither.NONE)
    small.save(file, optimize=True)
    if file.stat().st_size > LIMIT:
        raise SystemExit(f"{file} has {file.stat().st_size} bytes, more than {LIMIT}")
    return file


def draw_method(file: str) -> Figure:
    """A diagram of `DRAWN`."""
    name, chapter, stacked, _ = DRAWN[file]
    return plot_diagram(name, stacked=stacked, chapter=chapter).figure


def people() -> Figure:
    """Eight people under six cameras, two people a row."""
    world = plan_world("course", SEED)
    pids = world.train_pids[:8]
    grid = people_grid(world, pids)
    count = len(world.cameras)
    ax = plot_images(
        grid.reshape(-1, *grid.shape[2:]),
        pids=np.repeat(pids, count),
        camids=np.tile(np.arange(count), len(pids)),
        columns=2 * count,
    )
    return ax.figure


def turning() -> Figure:
    """Two people from all sides, before any camera changes their colours."""
    world = plan_world("course", SEED)
    pids = world.train_pids[0], world.train_pids[3]
    grid = turning_grid(world, pids, size=(160, 80))
    return plot_images(grid.reshape(-1, *grid.shape[2:]), columns=8).figure


def cameras() -> Figure:
    """What each camera looks at, with passers-by."""
    world = plan_world("course", SEED)
    figure, axes = plt.subplots(2, 3, figsize=(9, 3.7), layout="constrained")
    for camera, ax in zip(world.cameras, axes.flat):
        passers = [world.identity(pid) for pid in world.test_pids[camera.index :: 25]]
        image, boxes = draw_frame(camera, passers, seed=SEED)
        ax.imshow(image)
        for left, top, width, height, _ in boxes:
            box = plt.Rectangle((left, top), width, height, fill=False, ec="w", lw=1)
            ax.add_patch(box)
        ax.set(title=f"camera {camera.index}: {camera.ground}, {camera.wall}")
        ax.set_axis_off()
    return figure


def dials() -> Figure:
    """Each dial at its lower end, as it is set, and at its upper end."""
    names = [entry.name for entry in fields(Dials) if entry.name != "images_per_camera"]
    figure, axes = plt.subplots(
        len(names), 3, figsize=(9.4, 1.32 * len(names)), layout="constrained"
    )
    for line, name in zip(axes, names):
        usual = getattr(Dials(), name)
        for ax, value in zip(line, (0.0, usual or 0.5, 1.0)):
            # One dial is turned, the others are where pictures are clean.
            calm = {"occlusion": 0.0, "misalignment": 0.2, "lighting": 0.0}
            world = plan_world("course", SEED, Dials(**{**calm, name: value}))
            pids, views = world.train_pids, world.cameras
            # The camera that tints least, so that what a dial does can be seen.
            plain = min(views, key=lambda c: np.ptp(c.curve()[:, 128]))
            same = name not in ("camera_shift", "identity_similarity")
            shots = [
                draw_person(
                    world.identity(pids[i if name == "identity_similarity" else 1]),
                    views[i] if name == "camera_shift" else plain,
                    seed=10 + i if same else 3,
                    dials=world.dials,
                )
                for i in range(6)
            ]
            usually = " (as set)" if value == usual else ""
            title = f"{name} = {value:g}{usually}"
            plot_images(shots, columns=6, title=title, ax=ax)
    return figure


def sightings() -> Figure:
    """Four pictures of one person in a day, and what they tell together."""
    world = plan_world("course", SEED)
    pid, cameras = world.train_pids[9], (2, 0, 4, 5)
    shots = [
        draw_person(
            world.identity(pid), world.cameras[c], seed=40 + c, dials=world.dials
        )
        for c in cameras
    ]
    # The times, the places and the conclusions are invented, as is the person.
    told = {
        "quiet street": "07:41, camera {}\nlives nearby?",
        "station": "08:03, camera {}\ngoes to work?",
        "clinic": "16:20, camera {}\nunder treatment?",
        "meeting hall": "18:05, camera {}\nbelongs to a group?",
    }
    captions = [text.format(c) for text, c in zip(told.values(), cameras)]
    places = [(0.0, 0.9), (0.42, 0.1), (0.72, 0.55), (1.0, 0.1)]
    return plot_sightings(np.stack(shots), places, captions, list(told)).figure


def dial_table() -> str:
    """The dials with their defaults, in the words of their docstring."""
    text = inspect.cleandoc(Dials.__doc__ or "")
    block = text.split("Attributes:\n")[1].split("\n\n")[0]
    rows = []
    for name, words in re.findall(
        r"^ {4}(\w+): (.+(?:\n {8}.+)*)", block, re.MULTILINE
    ):
        words = re.sub(r":\w+:`([^`]+)`", r"`\1`", " ".join(words.split()))
        rows.append([f"`{name}`", f"{getattr(Dials(), name):g}", words])
    return markdown(["dial", "as set", "range and meaning"], rows)


def size_table() -> str:
    """The counts of the sizes, one size a column."""
    names = [entry.name for entry in fields(next(iter(SIZES.values())))]
    rows = [
        [name.replace("_", " "), *(f"{getattr(c, name):,}" for c in SIZES.values())]
        for name in names
    ]
    return markdown(["", *(f"`{size}`" for size in SIZES)], rows)


def acceptance_table() -> str:
    """What guards and methods reach on ``course``, from result files alone."""
    if not ACCEPTANCE.is_file():
        return f"Not measured yet: `{ACCEPTANCE_COMMAND}` writes the table.\n"
    report = json.loads(ACCEPTANCE.read_text(encoding="utf-8"))
    worlds = report["worlds"]
    rows = [
        [name, *(spread(100 * w["methods"][name][m] for w in worlds) for m in MEASURES)]
        for name in worlds[0]["methods"]
    ]
    bias = {
        "by chance": [[w["bias"][f"{m}_chance"] for w in worlds] for m in BIAS],
        "ImageNet features": [[w["bias"][m] for w in worlds] for m in BIAS],
    }
    try:
        runs = load_results("baseline", data=Data(report["size"]))
    except ReIDError:
        note = f"The trained methods are not measured yet: `{TRAINED_COMMAND}`.\n"
    else:
        note = ""
        for row in ("baseline", "supervised"):
            part = runs[runs["row"] == row]
            name = {"baseline": "baseline, unsupervised"}.get(row, row)
            rows.append([name, spread(part["Rank-1"]), spread(part["mAP"])])
            columns = ("NMI camera", "NMI identity", "same camera")
            bias[name] = [part[column].tolist() for column in columns]
    lines = [
        [name, *(spread(values, 2) for values in found)] for name, found in bias.items()
    ]
    header = ["k-means clusters of", "NMI with camera", "NMI with identity"]
    return "\n".join(
        [
            f"On `{report['size']}`, mean ± standard deviation over {len(worlds)} "
            "seeds, each of which draws another city:\n",
            markdown(["features", "Rank-1 (%)", "mAP (%)"], rows),
            markdown([*header, "same camera among ten neighbours"], lines),
            note,
        ]
    )


def chain_text() -> str:
    """How often a chain of sightings is right, from result files alone."""
    try:
        runs = load_results("baseline", data=Data("course"))
    except ReIDError:
        return f"Not measured yet: `{TRAINED_COMMAND}` writes the numbers.\n"
    rank1 = runs[runs["row"] == "supervised"]["Rank-1"]
    one = rank1.mean() / 100
    return (
        "The best features of this book's first part, trained with identity labels, "
        f"put the right person first for {spread(rank1)} % of the queries (Rank-1, "
        "supervised, SynthCity `course`, three cities). Four pictures are joined by "
        "three links. If their errors are independent, all three are right in about "
        f"{100 * one**3:.0f} of 100 chains: about {100 * (1 - one**3):.0f} of 100 "
        "profiles would hold a place at which the person never was.\n"
    )


def pair(row: Mapping[Any, float], *names: str, digits: int = 1) -> str:
    """Return ``"84.5 / 93.6"``: mAP and Rank-1 of a row, of one data set or all."""
    found = [row[(*names, measure) if names else measure] for measure in PAPER_MEASURES]
    if all(np.isnan(found)):
        return "–"
    return " / ".join(
        "–" if np.isnan(value) else f"{value:.{digits}f}" for value in found
    )


def calr_table() -> str:
    """What CALR reports: its rows, and each part alone."""
    rows = []
    published = load_table("CALR-T1").to_frame().loc["unsupervised, camera labels"]
    parts = load_table("CALR-T3").to_frame()
    for frame, source, names in (
        (published, "CALR-T1", ("Baseline", "CALR", "CALR (IBN + GeM)")),
        (
            parts,
            "CALR-T3",
            ("Baseline", "Camera alignment", "Label refinement", "Both"),
        ),
    ):
        for name in names:
            figures = [pair(frame.loc[name], data) for data in PERSON_DATA]
            rows.append([name, source, *figures])
    return markdown(["method", "from", *PERSON_DATA], rows)


def aff_scl_table() -> str:
    """What AFF_SCL reports: its losses, and its network in a supervised baseline."""
    rows = []
    losses = load_table("AFF-T4").to_frame()
    for name in losses.index:
        rows.append([f"loss: {name}", "AFF-T4", pair(losses.loc[name]), "–"])
    whole = load_table("AFF-T2").to_frame().loc["AFF_SCL"]
    both = [pair(whole, data) for data in PERSON_DATA[:2]]
    rows.append(["AFF_SCL", "AFF-T2", *both])
    network = load_table("AFF-T7").to_frame()
    for name in (n for n in network.index if n.startswith("Baseline")):
        rows.append([f"supervised: {name}", "AFF-T7", pair(network.loc[name]), "–"])
    return markdown(["method", "from", *PERSON_DATA[:2]], rows)


def cals_table() -> str:
    """What CALS reports, beside its own baseline."""
    frame = load_table("CALS-T5").to_frame()
    data = list(dict.fromkeys(frame.index.get_level_values(0)))
    rows = [
        [name, "CALS-T5", *(pair(frame.loc[(part, name)]) for part in data)]
        for name in ("Baseline", "CALS")
    ]
    return markdown(["method", "from", *data], rows)


def qafm_table() -> str:
    """What QAFM reports: its branches, the best fixed weight, the learned one."""
    frame = load_table("QAFM-T4").to_frame()
    fixed = frame[frame.index.str.startswith("fixed")]["mAP"].idxmax()
    words = {
        "appearance only": "appearance branch alone",
        "attributes only": "attribute branch alone",
        fixed: f"both, {fixed} (the best fixed weight)",
        "learned": "both, weight learned: QAFM",
    }
    rows = [
        [text, "QAFM-T4", pair(frame.loc[name], digits=2)]
        for name, text in words.items()
    ]
    published = load_table("QAFM-T3").to_frame()
    rows.append(["MSPA, as published", "QAFM-T3", pair(published.loc["MSPA"])])
    weight = load_table("QAFM-F6").to_frame()["alpha"].iloc[0]
    follows = load_table("QAFM-F7").to_frame()["value"].iloc[0]
    return "\n".join(
        [
            markdown(["method", "from", "Market-1501"], rows),
            f"The learned weight has a mean of {weight:g} (QAFM-F6). Its correlation "
            f"with the identifiability from which it is predicted is "
            f"{follows:.2f} (QAFM-F7).\n".replace("-0", "\u22120"),
        ]
    )


def setting(paper: str, name: str) -> str:
    """Return a setting that a paper states, as a number without unit."""
    return f"{load_table(f'{paper}-SETTINGS').to_frame().loc[name, 'value']:g}"


def comparison_table() -> str:
    """The four papers side by side, with the baseline that three of them build on."""

    def size(paper: str, what: str = "") -> str:
        sides = (setting(paper, f"image {side}{what}") for side in ("height", "width"))
        return " × ".join(sides)

    cross = load_table("CALR-T1").to_frame().loc["unsupervised, no camera labels"]
    own = load_table("CALR-T1").to_frame().loc["unsupervised, camera labels"]
    market = PERSON_DATA[0]
    methods = {
        "baseline": {
            "needs": "images; cameras help the sampler",
            "labels from": "DBSCAN, each epoch",
            "compares with": "one mean per cluster",
            "against camera bias": "positives from other cameras",
            "against wrong labels": "outliers stay out",
            "cost": "the reference",
            "searches with": "the feature",
            REPORTED: pair(cross.loc["ClusterContrast"], market),
        },
        "CALR": {
            "needs": "images and the camera of each",
            "labels from": "Infomap, each epoch, corrected by clusters in each camera",
            "compares with": "one mean per cluster; in stage 1 per camera",
            "against camera bias": "the correction; an adversary for the camera",
            "against wrong labels": "discards strangers; weighs clusters",
            "cost": f"a model for each camera, {setting('CALR', 'epochs of stage 1')} "
            f"epochs; then {setting('CALR', 'epochs of stage 2')} epochs; images of "
            f"{size('CALR', ', persons')}",
            "searches with": "the feature",
            REPORTED: pair(own.loc["CALR (IBN + GeM)"], market),
        },
        "AFF_SCL": {
            "needs": "images",
            "labels from": "DBSCAN, each epoch",
            "compares with": "a mean and a hard image per cluster",
            "against camera bias": "nothing of its own",
            "against wrong labels": "two memories that balance each other",
            "cost": f"attention in the network; {setting('AFF', 'epochs')} epochs of "
            f"batches of {setting('AFF', 'batch size')}; images of {size('AFF')}",
            "searches with": "the feature",
            REPORTED: pair(load_table("AFF-T2").to_frame().loc["AFF_SCL"], market),
        },
        "CALS": {
            "needs": "images, or video and a detector; the number of clusters",
            "labels from": "K-Means++; when is not said",
            "compares with": "classifiers of the whole and of four bands",
            "against camera bias": "nothing of its own",
            "against wrong labels": "labels softened by how alike part and whole are",
            "cost": f"a small network; {setting('CALS', 'epochs')} epochs of batches "
            f"of {setting('CALS', 'batch size')}; images of {size('CALS')}",
            "searches with": "not said",
            REPORTED: pair(
                load_table("CALS-T5").to_frame().loc[("Market-1501", "CALS")]
            ),
        },
        "QAFM": {
            "needs": f"identities and {setting('QAFM', 'attributes')} attributes",
            "labels from": "people",
            "compares with": "classifiers of stripes, of "
            f"{setting('QAFM', 'attribute heads')} attributes and of the whole",
            "against camera bias": "traits that can be said in words; a weight by the "
            "quality of the picture",
            "against wrong labels": "labels are given, and smoothed",
            "cost": f"two networks; {setting('QAFM', 'epochs')} epochs; for each image "
            f"{setting('QAFM', 'perturbed images')} copies more; images of "
            f"{size('QAFM')}",
            "searches with": "the fused feature, of "
            f"{setting('QAFM', 'dimension of the fused feature')} numbers",
            REPORTED: pair(load_table("QAFM-T4").to_frame().loc["learned"], digits=2),
        },
    }
    rows = [
        [f"**{question}**", *(method[question] for method in methods.values())]
        for question in methods["baseline"]
    ]
    return markdown(["", *methods], rows)


def scores() -> str:
    """Return the scoreboard as a page's text, each item with links to its places."""
    return f"{scoreboard().board(linked=True)}\n"


def report_table(name: str) -> str:
    """The report of a plan, from its result files."""
    found = report_of(name)
    if found.differences is None:
        return f"{found}\n"
    parts = [f"{found.differences}"]
    if name in verdict_charts.charted():
        parts.insert(0, verdict_charts.figure(name, found.differences.title))
    absolute = dataclasses.replace(found, differences=None)
    parts.append(f"```{{dropdown}} Absolute values\n{absolute}\n```")
    return "\n\n".join(parts) + "\n"


TABLES = {
    "scoreboard": scores,
    **{f"report_{name}": functools.partial(report_table, name) for name in plans()},
    "ethics_chain": chain_text,
    "papers_calr": calr_table,
    "papers_aff_scl": aff_scl_table,
    "papers_cals": cals_table,
    **{name: make for page in PAGES for name, make in page.TABLES.items()},
    "papers_qafm": qafm_table,
    "papers_compared": comparison_table,
    "synthcity_dials": dial_table,
    "synthcity_sizes": size_table,
    "synthcity_acceptance": acceptance_table,
}


def quoted() -> str:
    """The numbers that prose quotes, as JSON."""
    lines = (f"{json.dumps(n)}: {json.dumps(q)}" for n, q in quotes().items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Make all of them, or with ``--tables`` what comes from result files alone."""
    use_style()
    for name, make in TABLES.items():
        (FOLDER / f"{name}.txt").write_text(make(), encoding="utf-8")
    (FOLDER / "quotes.json").write_text(quoted(), encoding="utf-8")
    for page in PAGES:
        for name, chart in getattr(page, "CHARTS", {}).items():
            report(save(chart(), name))
    if "--tables" in sys.argv:
        return
    for name, chart in TRAINED.items():
        report(save(chart(), name, dpi=110))
    for draw, name in (
        (people, "synthcity_people"),
        (turning, "synthcity_turning"),
        (cameras, "synthcity_cameras"),
        (dials, "synthcity_dials"),
        (sightings, "ethics_sightings"),
    ):
        dpi = {sightings: 200, dials: 95}.get(draw, 100)
        report(save(draw(), name, dpi))
    for file, (*_, dpi) in DRAWN.items():
        figure = draw_method(file)
        whole = {"bbox_inches": figure.bbox_inches, "pad_inches": 0}
        report(save(figure, file, dpi=dpi, flat=True, **whole))


def report(file: Path) -> None:
    """Say how large a picture has become."""
    print(f"{file.name}: {np.round(file.stat().st_size / 1000):.0f} kB")


if __name__ == "__main__":
    main()
