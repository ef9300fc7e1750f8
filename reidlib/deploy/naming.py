"""A page on which a person says which crops show the same people."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reidlib.checks import check_count, check_seed
from reidlib.data.images import read_image
from reidlib.data.table import ImageTable
from reidlib.deploy.embeddings import Embeddings
from reidlib.errors import ReIDError
from reidlib.evaluation.ranking import nearest_features
from reidlib.files import write_atomically
from reidlib.paths import user_path
from reidlib.terminal import progress

_SIZE = 192, 96  # height and width of a crop on the page
_MOST = 20_000  # crops of a page: some 100 MB


@dataclass(frozen=True)
class Question:
    """A crop, and those among which its person is to be marked.

    Attributes:
        query: Row of the crop.
        candidates: Rows of the others, in the order in which they are shown.
    """

    query: int
    candidates: list[int]


def naming_questions(
    found: Embeddings | Sequence[Embeddings],
    *,
    people: int = 50,
    candidates: int = 30,
    seed: int = 0,
) -> list[Question]:
    """Choose crops, and those of other cameras that networks find nearest to each.

    Args:
        found: Features of the same crops, of one network or of several.
        people: Number of questions: crops at random, each camera in turn.
        candidates: Crops for each question, an equal share from each network.
        seed: Of the choice.

    Raises:
        ReIDError: If features are of different images, or a camera is unknown or the
            only one.
    """
    found = [found] if isinstance(found, Embeddings) else list(found)
    table = _same_table(found)
    where = "naming_questions"
    people = min(check_count(people, "people", where), len(table))
    count = check_count(candidates, "candidates", where, least=len(found)) // len(found)
    rng = check_seed(seed, where)
    queries = _in_turn(table, people, rng)
    return [
        # In any order: a place must not tell which network found it.
        Question(int(query), rng.permutation(np.unique(rows)).tolist())
        for query, rows in zip(queries, _candidates(found, queries, count), strict=True)
    ]


def naming_page(
    found: Embeddings | Sequence[Embeddings],
    path: str | os.PathLike[str],
    *,
    people: int = 50,
    candidates: int = 30,
    seed: int = 0,
) -> Path:
    """Write a page on which you mark crops of the same people, to score a network.

    It shows the `naming_questions`; you click the crops of the same person. The page is
    one file that needs no server and sends nothing anywhere. It saves ``named.csv``,
    which `open_dataset` reads once it lies in the folder of the crops. Its queries are
    the crops of the questions you answered; its gallery is what was shown, where a crop
    that was never marked counts as another person (person 0).

    Score with ``other_cameras=True``: crops of the query's own camera were not asked
    about, and many show the same person a moment later.

    To compare two networks give features of both: what only one of them finds would
    else never be looked at, and the other would be scored too low. What none of them
    finds is missed: a query without any mark is not scored at all, and these are the
    hardest. So scores are mostly too high, and their difference is what counts.

    Args:
        found: As for `naming_questions`, like the next three.
        path: File to write, ``.html``.
        people: See there.
        candidates: See there.
        seed: See there.

    Returns:
        The file.

    Raises:
        ReIDError: As `naming_questions`; or if a crop was changed since its features
            were made, or the file cannot be written.
    """
    file = user_path(path)
    if file.suffix != ".html":
        raise ReIDError(f"{file} does not end in .html; give such a name")
    questions = naming_questions(found, people=people, candidates=candidates, seed=seed)
    table = (found if isinstance(found, Embeddings) else found[0]).table
    for one in [found] if isinstance(found, Embeddings) else found:
        one.require_unchanged()
    used = sorted({row for one in questions for row in (one.query, *one.candidates)})
    if len(used) > _MOST:
        raise ReIDError(
            f"naming_page: {len(used)} crops are more than a browser shows (at most "
            f"{_MOST}); ask about fewer people, or show fewer candidates"
        )
    place = {row: number for number, row in enumerate(used)}
    images: list[dict[str, Any]] = []
    for row in progress(used, "crops", len(used)):
        images.append(
            {
                "path": table.paths[row],
                "camera": int(table.camids[row]) + 1,  # as `crop_people` writes them
                "picture": _picture(table.file(row)),
            }
        )
    shown = [
        {"query": place[one.query], "candidates": [place[c] for c in one.candidates]}
        for one in questions
    ]
    about = json.dumps([images, shown]).encode()  # marks are of these pictures
    data = {
        "key": hashlib.sha256(about).hexdigest()[:16],
        "folder": str(table.root),
        "images": images,
        "questions": shown,
    }
    # Within a script element, only "<" could end it.
    text = json.dumps(data).replace("<", "\\u003c")
    page = resources.files("reidlib.deploy").joinpath("naming.html").read_text("utf-8")
    write_atomically(file, page.replace("__DATA__", text).encode())
    return file


def _same_table(found: Sequence[Embeddings]) -> ImageTable:
    """Return the table that all features are of, or raise `ReIDError`."""
    if not found:
        raise ReIDError(
            "naming_questions: there are no features; give one file or more"
        )
    table = found[0].table
    for other in found[1:]:
        same = other.table.paths == table.paths and other.table.root == table.root
        if not same or (other.table.camids != table.camids).any():
            raise ReIDError(
                "naming_questions: features are of different images; embed the same "
                "crops with each network"
            )
    if table.num_cams < 2 or not table.has_cameras:
        raise ReIDError(
            "naming_questions: it asks for people of other cameras, so each crop needs "
            "a camera, and there must be two or more; fill in the cameras"
        )
    return table


def _in_turn(table: ImageTable, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return rows at random, of each camera in turn."""
    order = rng.permutation(len(table))
    cameras = table.camids[order]
    turn = np.empty(len(table), np.int64)
    for camera in np.unique(cameras):
        own = np.flatnonzero(cameras == camera)
        turn[own] = np.arange(len(own))
    return order[np.argsort(turn, kind="stable")[:number]]


def _candidates(
    found: Sequence[Embeddings], queries: np.ndarray, count: int
) -> list[np.ndarray]:
    """Return for each query the nearest images of other cameras, of all networks."""
    camids = found[0].table.camids
    rows = [np.empty(0, np.int64) for _ in queries]
    for camera in np.unique(camids[queries]):
        asked = np.flatnonzero(camids[queries] == camera)
        others = np.flatnonzero(camids != camera)
        for one in found:
            index, _ = nearest_features(
                one.features[queries[asked]], one.features[others], count
            )
            for number, near in zip(asked, others[index], strict=True):
                rows[number] = np.concatenate([rows[number], near])
    return rows


def _picture(file: Path) -> str:
    """Return a crop as a small JPEG within a data address."""
    stream = io.BytesIO()
    Image.fromarray(read_image(file, _SIZE)).save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
