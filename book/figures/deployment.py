"""Tables of the page on running it: speed, galleries, and a real street."""

from __future__ import annotations

import json
from typing import Any

from page_tables import markdown
from reidlib.experiments import results_dir


def measured(name: str) -> dict[str, Any] | None:
    """Return a result file, or None if there is none."""
    file = results_dir() / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def missing(name: str) -> str:
    """Return what a page says where there is no result file."""
    return f"Not measured yet: `python benchmarks/{name}.py` writes the numbers.\n"


def best(rows: list[dict[str, Any]], **key: Any) -> dict[str, Any] | None:
    """Return the row of a key with the least processor time."""
    found = [row for row in rows if key.items() <= row.items()]
    return min(found, key=lambda row: row["cpu"]) if found else None


def number(value: float) -> str:
    """Return a number with two figures, or all that are before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


SPEED = (
    ("frames, detected", "frames", 540),
    ("crops of 128 × 64, embedded", "crops", 128),
    ("crops of 256 × 128, embedded", "crops", 256),
)


def speed_table() -> str:
    """Pictures per processor second, of the library and of plain loops."""
    found = measured("street_speed")
    if found is None:
        return missing("street")
    rows = []
    for told, what, height in SPEED:
        ways = {
            way: best(found["rows"], method=f"{way}_{what}", height=height)
            for way in ("library", "loop", "batches")
        }
        cells = [
            f"{row['number'] / row['cpu']:.0f}" if row else "–" for row in ways.values()
        ]
        times = ways["loop"]["cpu"] / ways["library"]["cpu"]
        rows.append([told, *cells, f"{times:.1f}"])
    header = ["pictures a processor second", "library", "one by one", "batches of 64"]
    return markdown([*header, "library / one by one"], rows)


METHODS = {
    "loop": "loop, features in memory",
    "exact": "gallery, exact",
    "alone": "gallery, exact, one by one",
    "indexed": "gallery, index",
}


def gallery_table() -> str:
    """What a search costs and finds, for each size of a gallery."""
    found = measured("gallery_speed")
    if found is None:
        return missing("gallery")
    keys = ("features", "people", "dim")
    shapes = dict.fromkeys(tuple(row[key] for key in keys) for row in found["rows"])
    rows = []
    for shape in shapes:
        for method, told in METHODS.items():
            key = dict(zip(keys, shape, strict=True)) | {"method": method}
            of = {r["threads"]: r for r in found["rows"] if key.items() <= r.items()}
            if not of:
                continue
            row = of[min(of)]
            memory = row["mib"]
            if method == "loop":
                memory += shape[1] * shape[2] * 4 / 2**20
            cells = [f"{shape[1]:,}", f"{shape[2]:,}", shape[0], told]
            spent = [
                number(1000 * of[n]["wall"] / of[n]["queries"]) if n in of else "–"
                for n in (1, 2)
            ]
            rows.append([*cells, *spent, f"{row['recall']:.3f}", number(memory)])
    header = ["features", "numbers each", "kind", "search", "ms a query, one thread"]
    return markdown([*header, "two threads", "recall at 10", "memory (MiB)"], rows)


def adding_table() -> str:
    """What it costs to fill a gallery and to make its index, and the space on disk."""
    found = measured("gallery_speed")
    if found is None:
        return missing("gallery")
    rows = []
    for row in found["rows"]:
        if row["method"] not in ("add", "index") or row["threads"] > 1:
            continue
        what = {"add": "add", "index": "make the index"}[row["method"]]
        size = row["people"] * row["dim"] * 4 / 2**20
        cells = [f"{row['people']:,}", f"{row['dim']:,}", row["features"], what]
        spent = [number(row[one]) for one in ("cpu", "mib")]
        rows.append([*cells, *spent, f"{row['disk_mib'] / size:.2f}"])
    header = ["features", "numbers each", "kind", "step", "CPU s"]
    return markdown([*header, "memory (MiB)", "disk, in sizes of the features"], rows)


def street_table() -> str:
    """Each command on the real street, as it was given."""
    found = measured("real_video")
    if found is None:
        return missing("real_video")
    lines = [f"reidlib {row['command']}" for row in found["commands"]]
    return "```\n" + "\n".join(lines) + "\n```\n"


def street_numbers() -> str:
    """What came out on the real street."""
    found = measured("real_video")
    if found is None:
        return missing("real_video")
    named, epochs = found["named"], (found["epochs"][0], found["epochs"][-1])
    groups = [f"{one['clusters']}" for one in epochs]
    outliers = [f"{100 * one['outlier_share']:.0f}" for one in epochs]
    scores = {name: one["mAP"] for name, one in found["scores"].items()}
    rows = [
        ["frames searched", f"{found['found']['frames']}"],
        ["crops found", f"{found['found']['people']}"],
        ["of them cut by the border", f"{found['found']['cut_by_the_border']}"],
        ["clusters in the first and last epoch", " and ".join(groups)],
        ["outliers in them (%)", " and ".join(outliers)],
        ["crops of the second half that were named", f"{named['named crops']}"],
        ["people on them", f"{named['people']}"],
        ["of them seen on both sides", f"{named['people of both sides']}"],
        ["questions with an answer that can be scored", f"{named['scored']}"],
        ["mAP before the training (%)", f"{100 * scores['before']:.0f}"],
        ["mAP after it (%)", f"{100 * scores['after']:.0f}"],
        ["people in the gallery", f"{found['gallery']['people']}"],
    ]
    return markdown(["on the real street", "number"], rows)


TABLES = {
    "deployment_speed": speed_table,
    "deployment_gallery": gallery_table,
    "deployment_adding": adding_table,
    "deployment_commands": street_table,
    "deployment_street": street_numbers,
}
