"""A gallery of many people: time to add and search, recall, memory and disk.

    python benchmarks/gallery.py                     # 20,000 people
    python benchmarks/gallery.py --full              # 100,000 and 1,000,000

Features are drawn, 20 crops of each person, or each for itself (``random``, the hardest
case of an index). A search is compared with a plain loop over the queries, a product
with all features in memory and a partial sort: the exact search must find the same,
the index, which looks at a part, is scored by its recall. ``mib`` of the loop is
memory beside the features, of which it needs all; a gallery reads them from the disk.

Rows are kept in ``results/gallery_speed.json``.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sheet import Sheet, line, measured, options
from torch.nn.functional import normalize

from reidlib.data.table import ImageTable
from reidlib.deploy import Embeddings, Gallery

K, PART, WARM, ALONE = 10, 50_000, 600, 10
FULL = (
    *(("people", 100_000, 512), ("random", 100_000, 512), ("people", 100_000, 1280)),
    ("people", 1_000_000, 512),
)


class Data(NamedTuple):
    """What a method gets: a gallery, the features in it, and queries."""

    folder: Path
    parts: list[Embeddings]
    asked: np.ndarray


def queries(size: int) -> int:
    """Return how many queries are asked of so many people."""
    return 20 if size > 200_000 else 50


def drawn(kind: str, start: int, stop: int, dim: int, seed: int = 0) -> Embeddings:
    """Return features of crops ``start`` to ``stop``, which begins a part."""
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + start)
    features = torch.randn(stop - start, dim, generator=generator)
    numbers = np.arange(start, stop)
    if kind == "people":
        generator.manual_seed(start)
        people = torch.randn(PART // 20, dim, generator=generator)
        features += people[torch.from_numpy((numbers - start) // 20)]
    names = tuple(f"{seed}_{number}.png" for number in numbers)
    about = {"frame": numbers}
    table = ImageTable(Path("crops"), names, numbers // 20 + 1, numbers % 6, about)
    return Embeddings(normalize(features), table, "f" * 64)


def parts_of(kind: str, size: int, dim: int) -> list[Embeddings]:
    starts = range(0, size, PART)
    return [drawn(kind, start, min(start + PART, size), dim) for start in starts]


def asked_of(kind: str, size: int, dim: int) -> np.ndarray:
    """Return other crops of people who are in it."""
    stop = min(PART, size)
    features = drawn(kind, 0, stop, dim, seed=1).features
    return features[:: stop // queries(size)][: queries(size)].numpy()


@functools.cache
def truth(kind: str, size: int, dim: int) -> list[set[int]]:
    """Return the nearest of each query, a part at a time, in double precision."""
    asked = asked_of(kind, size, dim).astype(np.float64)
    rows, best = (np.empty((len(asked), 0), one) for one in (np.int64, np.float64))
    for start in range(0, size, PART):
        part = drawn(kind, start, min(start + PART, size), dim).features.numpy()
        best = np.concatenate([best, asked @ part.T.astype(np.float64)], 1)
        own = np.tile(np.arange(start, start + len(part)), (len(asked), 1))
        rows = np.concatenate([rows, own], 1)
        near = np.argsort(-best, axis=1)[:, :K]
        best, rows = (np.take_along_axis(one, near, 1) for one in (best, rows))
    return [set(row) for row in rows.tolist()]


def make(work: Path, kind: str, size: int, dim: int, method: str) -> Data:
    """Draw what a method needs, and make the gallery unless the method does."""
    folder = work / f"{kind} {size} {dim}"
    data = Data(folder, [], asked_of(kind, size, dim))
    if method in ("add", "loop"):
        data.parts.extend(parts_of(kind, size, dim))
    if method == "add":
        shutil.rmtree(folder, ignore_errors=True)
    elif method != "loop" and not folder.exists():
        add(data._replace(parts=parts_of(kind, size, dim)))
    if method == "indexed" and "index" not in Gallery(folder).about:
        index(data)
    return data


def add(data: Data) -> dict[str, Any]:
    """Add all people, a part at a time, without their crops."""
    gallery = Gallery.create(data.folder, data.parts[0], exact_up_to=10**9)
    for part in data.parts:
        gallery.add(part, crops=False)
    return {"disk_mib": disk(data.folder)}


def index(data: Data) -> dict[str, Any]:
    """Make the index, and choose how much of it a search looks at."""
    gallery = Gallery(data.folder)
    with gallery._writing():
        gallery._tell({**gallery.about, "exact_up_to": 256})
        gallery._index()
    return {"disk_mib": disk(data.folder), **gallery.about["index"]}


def disk(folder: Path) -> float:
    """Return what the files of a folder hold in MiB."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 2**20


def exact(data: Data) -> dict[str, Any]:
    """Search with the library, all people."""
    answers = Gallery(data.folder).search(data.asked, K, exact=True)
    return {"found": [list(one) for _, one in answers.groupby("query")["frame"]]}


def alone(data: Data) -> dict[str, Any]:
    """Search with the library, all people, for some queries by themselves."""
    gallery, found = Gallery(data.folder), []
    for query in data.asked[:ALONE]:
        answers = gallery.search(query[None], K, exact=True)
        found.append(answers["frame"].tolist())
    return {"found": found}


def indexed(data: Data) -> dict[str, Any]:
    """Search with the library, its index."""
    answers = Gallery(data.folder).search(data.asked, K)
    return {"found": [list(one) for _, one in answers.groupby("query")["frame"]]}


def loop(data: Data) -> dict[str, Any]:
    """Multiply all features with one query after the other, and sort."""
    parts = [part.features.numpy() for part in data.parts]
    found = []
    for query in data.asked:
        distance = np.concatenate([1 - part @ query for part in parts])
        near = np.argpartition(distance, K)[:K]
        found.append(near[np.argsort(distance[near])].tolist())
    return {"found": found}


def scored(method: Any, work: Path, shape: Any, threads: int) -> dict[str, Any]:
    """Measure a method, and compare what it found with what is nearest."""
    # LanceDB has threads of its own.
    os.environ["LANCE_CPU_THREADS"] = str(threads)
    name = method.__name__
    warm = (work / "warm", shape[0], WARM, shape[2], name)
    row = measured(method, make, (work, *shape, name), warm, threads)
    if "found" in row:
        found = row.pop("found")
        pairs = zip(truth(*shape), found, strict=False)
        hits = [len(wanted & {*own}) / K for wanted, own in pairs]
        row |= {"recall": float(np.mean(hits)), "queries": len(found)}
        row["wall_each"] = row["wall"] / row["queries"]
    return row


def main() -> None:
    """Print and write the measurements."""
    parser = options(__doc__.split("\n")[0], "results/gallery_speed.json")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--dims", type=int, nargs="+", default=[512])
    parser.add_argument("--kinds", nargs="+", default=["people"])
    parser.add_argument("--work", type=Path, help="folder for the galleries")
    given = parser.parse_args()
    sheet = Sheet(given.output, "gallery_speed")
    shapes = [
        (kind, size, dim)
        for size in given.sizes or [20_000]
        for dim in given.dims
        for kind in given.kinds
    ]
    if given.full and not given.sizes:
        shapes = list(FULL)
    work = given.work or Path(tempfile.mkdtemp())
    for shape in shapes:
        print("{}: {:,} x {:,}".format(*shape), flush=True)
        rows = {}
        for method in (add, loop, exact, alone, index, indexed):
            key = dict(zip(("features", "people", "dim"), shape, strict=True))
            rows[method] = row = sheet.best(
                {"method": method.__name__, **key},
                given.threads,
                lambda threads, method=method, shape=shape: scored(
                    method, work, shape, threads
                ),
            )
            base = rows[loop] if row.get("queries") == queries(shape[1]) else None
            more = {n: row[n] for n in ("recall", "disk_mib", "lists") if n in row}
            shown = line(method.__name__, row, base, None)
            print(shown, json.dumps(more) if more else "", flush=True)
        if rows[exact]["recall"] < 1:
            raise SystemExit("the exact search found others than a product does")
        shutil.rmtree(work / "{} {} {}".format(*shape), ignore_errors=True)
    if given.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
