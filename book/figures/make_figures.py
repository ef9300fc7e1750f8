"""Make the pictures and tables of the SynthCity page, and the README's picture, again.

    python book/figures/make_figures.py [--tables]

takes about twenty seconds, and one for the tables alone. Pictures are drawn from plans,
so no data set is needed; tables come from the library and from result files, so that no
number is typed by hand.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from reidlib.errors import ReIDError
from reidlib.plotting import plot_images, use_style
from reidlib.report import load_results
from reidlib.reproduce import Data, results_dir
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
LIMIT = 300_000  # bytes: the pictures are part of the repository
ACCEPTANCE = results_dir() / "synthcity_acceptance.json"
MEASURES = ("rank1", "mAP")
ACCEPTANCE_COMMAND = "python benchmarks/synthcity_acceptance.py"
TRAINED_COMMAND = "reidlib reproduce baseline --preset ablation"
BIAS = ("nmi_cam", "nmi_pid", "same_camera_share")


def save(figure: Figure, name: str, dpi: int = 100) -> Path:
    """Write a figure as a PNG with a palette, a third of the size of full colour."""
    file = FOLDER / f"{name}.png"
    figure.savefig(file, dpi=dpi)
    plt.close(figure)
    with Image.open(file) as image:
        small = image.convert("RGB").quantize(160, dither=Image.Dither.NONE)
    small.save(file, optimize=True)
    if file.stat().st_size > LIMIT:
        raise SystemExit(f"{file} has {file.stat().st_size} bytes, more than {LIMIT}")
    return file


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
        for ax, value in zip(line, (0.0, usual, 1.0)):
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


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a table whose columns after the first are numbers or text as given."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


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


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Return the mean over the seeds, with the deviation where there are several."""
    array = np.array(list(values))
    text = f"{array.mean():.{digits}f}"
    return text if len(array) < 2 else f"{text} ± {array.std(ddof=1):.{digits}f}"


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


TABLES = {
    "synthcity_dials": dial_table,
    "synthcity_sizes": size_table,
    "synthcity_acceptance": acceptance_table,
}


def main() -> None:
    """Make all of them, or with ``--tables`` the tables alone."""
    for name, make in TABLES.items():
        (FOLDER / f"{name}.txt").write_text(make(), encoding="utf-8")
    if "--tables" in sys.argv:
        return
    use_style()
    for draw, name in (
        (people, "synthcity_people"),
        (turning, "synthcity_turning"),
        (cameras, "synthcity_cameras"),
        (dials, "synthcity_dials"),
    ):
        file = save(draw(), name)
        print(f"{file.name}: {np.round(file.stat().st_size / 1000):.0f} kB")


if __name__ == "__main__":
    main()
