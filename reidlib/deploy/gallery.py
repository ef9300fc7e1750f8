"""A gallery on disk: who was seen where and when, to be searched and to be forgotten.

Rows lie in a table of LanceDB (https://lancedb.com, Apache-2.0), which runs inside this
process and keeps vectors and columns in files. Crops lie beside it, so that a person
who is forgotten is gone from both. Features of two networks cannot be compared, so a
gallery knows the fingerprint of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reidlib.checks import (
    LARGEST_ID,
    Array,
    check_count,
    check_features,
    check_ids,
    check_number,
    decimal_number,
)
from reidlib.data.check import contact_sheet
from reidlib.data.table import NO_CAMERA, ImageTable, unlabelled
from reidlib.deploy.embeddings import Embeddings
from reidlib.errors import DamagedError, ReIDError
from reidlib.evaluation.calibration import CameraThresholds
from reidlib.files import file_sha256, read_json, write_atomically
from reidlib.paths import lock_folder, user_path
from reidlib.terminal import progress

# People of the gallery that are searched for with and without the index; the share of
# their ten nearest others, beside themselves, that it has to find.
_ASKED, _NEAREST, _RECALL = 50, 11, 0.99
# Queries from which on the features are read once for all, and not for each.
_MANY = 4
EXACT_UP_TO = 1_000_000
"""People up to which a search compares with each of them."""

_ABOUT = "gallery.json"
_JOURNAL = "adding.json"
_FORGETTING = "forgetting.json"
_TABLE = "people"
_BATCH = 10_000
_LONGEST = 36500  # days
_DAY = time.min, time.max
_SHAPE = {
    **{"fingerprint": str, "dimensions": int, "model": str, "exact_up_to": int},
    "keep_days": int | None,
    "thresholds": dict | None,
    "index": {"lists": int, "recall": int | float},
}
_NEEDED = ("fingerprint", "dimensions", "model", "exact_up_to")
_COLUMNS = ("id", "person", "camera", "seen", "added", "source", "frame", "crop")


class Gallery:
    """People that cameras saw, by their features.

    Example::

        gallery = Gallery.create("seen", embeddings)
        gallery.add(embeddings, start=datetime(2026, 5, 1, 8, tzinfo=UTC))
        gallery.search(features, k=10, cameras=[2])
        gallery.forget(day=date(2026, 5, 1))
    """

    about: dict[str, Any]
    _table: Any

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open a gallery.

        Args:
            folder: That of `create`.

        Raises:
            ReIDError: If there is none, it is damaged, or LanceDB is missing.
        """
        self.folder = user_path(folder)
        file = self.folder / _ABOUT
        if not file.exists():
            raise ReIDError(
                f"there is no gallery in {self.folder}; make one with reidlib gallery "
                "add"
            )
        self._refresh()
        with _explained(self.folder):
            width = self._table.schema.field("vector").type.list_size
        if width != self.about["dimensions"]:
            raise DamagedError(f"{file} is damaged (another width); restore it", file)

    def _refresh(self) -> None:
        """Look at what other processes have written since."""
        file = self.folder / _ABOUT
        self.about = read_json(file, "restore it", _SHAPE, _NEEDED)
        try:
            days = self.about.get("keep_days")
            if days is not None and not 0 < days <= _LONGEST:
                raise ValueError(f"it keeps {days} days")
            self.about["thresholds"] = _thresholds(self.about.get("thresholds"))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{file} is damaged ({error}); restore it", file) from (
                error
            )
        with _explained(self.folder):
            self._table = _connected(self.folder).open_table(_TABLE)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        like: Embeddings,
        *,
        keep_days: int | None = None,
        exact_up_to: int = EXACT_UP_TO,
    ) -> Gallery:
        """Make an empty gallery.

        Args:
            folder: Where; it must not hold one.
            like: Features of the network that it is for.
            keep_days: Days after which `expire` forgets what was seen.
            exact_up_to: People up to which a search is exact. Beyond, an index of
                LanceDB (inverted lists of whole vectors) looks at a part of them: at
                so many lists that it finds 99 % of the ten nearest others of some who
                are in it; who is not may find less. `info` tells what it found.

        Raises:
            ReIDError: If the folder holds a gallery or cannot be written, or LanceDB is
                missing.
        """
        where = "Gallery.create"
        target = user_path(folder)
        if keep_days is not None and (
            check_count(keep_days, "keep_days", where) > _LONGEST
        ):
            raise ReIDError(
                f"{where}: keep_days is {keep_days}; give {_LONGEST} at most"
            )
        check_count(exact_up_to, "exact_up_to", where, least=256)
        if (target / _ABOUT).exists():
            raise ReIDError(f"{target} already holds a gallery; open it")
        about = {
            "format": 1,
            "fingerprint": like.fingerprint,
            "dimensions": like.features.shape[1],
            "model": like.model,
            "keep_days": keep_days,
            "exact_up_to": exact_up_to,
            "thresholds": None,
        }
        with _explained(target):
            target.mkdir(parents=True, exist_ok=True)
            lock = lock_folder(target)
            try:
                database = _connected(target)
                if (target / f"{_TABLE}.lance").exists() and (
                    database.open_table(_TABLE).count_rows()
                ):
                    raise ReIDError(
                        f"{target} holds people and no {_ABOUT}; restore that file, or "
                        "give another folder"
                    )
                schema = _schema(like.features.shape[1])
                database.create_table(_TABLE, schema=schema, mode="overwrite")
                # Last: a folder without it is no gallery.
                content = json.dumps(about, indent=1).encode()
                write_atomically(target / _ABOUT, content)
            finally:
                lock.release()
        return cls(target)

    def __len__(self) -> int:
        self._refresh()
        return self._count()

    def _count(self) -> int:
        with _explained(self.folder):
            return int(self._table.count_rows())

    def add(
        self,
        embeddings: Embeddings,
        *,
        start: datetime | None = None,
        crops: bool = True,
    ) -> int:
        """Add people; those that are in it already are left out.

        What was added before a process was killed stays, and the same call adds the
        rest.

        Args:
            embeddings: Features with the table of their crops. Its columns ``source``,
                ``frame`` and ``time`` (seconds), as `crop_people` writes them, and
                ``person`` (a name) are kept if they are there.
            start: When the sources began, with a time zone; unknown if not given.
                Whose ``time`` is unknown counts as seen then.
            crops: Copy the crops into the gallery, to show them.

        Returns:
            How many are new.

        Raises:
            ReIDError: If the features are of another network, a crop is missing or was
                changed since, another process is writing, or the disk is full: what was
                added is kept.
        """
        self._require(embeddings.fingerprint, embeddings.features.shape[1])
        if start is not None:
            start = _in_utc(start)
        _check_columns(embeddings.table, start)
        embeddings.require_unchanged()
        with self._writing():
            before = self._count()
            names = _names(embeddings, crops)
            new = self._unknown(names)
            parts = range(0, len(new), _BATCH)
            for first in progress(parts, "adding people", len(parts)):
                rows = new[first : first + _BATCH]
                self._add_batch(embeddings, rows, names, start, crops)
            after = self._count()
            if after > max(before, self.about["exact_up_to"]):
                self._index()
        return after - before

    def _add_batch(
        self,
        embeddings: Embeddings,
        rows: np.ndarray,
        ids: Sequence[str],
        start: datetime | None,
        crops: bool,
    ) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]

        table, names = embeddings.table[rows], [ids[row] for row in rows]
        vectors = embeddings.features[rows].cpu().numpy().astype(np.float32)
        files = [table.file(row) for row in range(len(table))]
        places = [f"{n[:2]}/{n}{f.suffix}" for n, f in zip(names, files, strict=True)]
        if crops:
            write_atomically(self.folder / _JOURNAL, json.dumps(places).encode())
            for place, file in zip(places, files, strict=True):
                target = self.folder / "crops" / place
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
        columns, width = table.attributes, vectors.shape[1]
        unknown = np.full(len(table), "")
        seconds = columns.get("time", unknown).tolist()
        frames = columns.get("frame", np.full(len(table), -1))
        content = pa.table(
            {
                "id": names,
                "person": _people(table),
                "camera": table.camids.astype(np.int64),
                "seen": [_seen(start, one) for one in seconds],
                "added": [datetime.now(UTC)] * len(table),
                "source": columns.get("source", unknown).astype(str).tolist(),
                "frame": frames.astype(np.int64),
                "crop": places if crops else unknown.tolist(),
                "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), width),
            },
            schema=_schema(width),
        )
        with _explained(self.folder):
            self._table.add(content)
        (self.folder / _JOURNAL).unlink(missing_ok=True)

    def _unknown(self, names: Sequence[str]) -> np.ndarray:
        """Return the first row of each id that the table has not."""
        with _explained(self.folder):
            # One look at all ids: to ask for some of them reads all as well.
            ids = self._table.search().select(["id"]).limit(self._count() or 1)
            known = set(ids.to_arrow()["id"].to_pylist())
        new = []
        for row, name in enumerate(names):
            if name not in known:
                known.add(name)
                new.append(row)
        return np.array(new, np.int64)

    def search(
        self,
        features: Array,
        k: int = 10,
        *,
        fingerprint: str | None = None,
        query_cameras: Sequence[int] | None = None,
        cameras: Sequence[int] | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        exact: bool = False,
    ) -> pd.DataFrame:
        """Return the nearest people of each query.

        Args:
            features: ``(Q, D)`` L2-normalised features of the gallery's network.
            k: Most people for each query.
            fingerprint: That of the network that made the features; it is compared.
            query_cameras: Cameras of the queries, for thresholds of camera pairs.
            cameras: Look at these cameras alone.
            after: Look at what was seen at this time or later, with a time zone.
            before: Look at what was seen before this time.
            exact: Compare with everybody, however large the gallery. So does a search
                of some cameras or of some time.

        Returns:
            One line for each answer, nearest first: ``query`` (row of the features),
            ``rank`` from 1, ``distance`` (cosine, 0 to 2), ``known`` (True if it is
            below the threshold, None without one), ``person``, ``camera``, ``seen``,
            ``source``, ``frame``, ``crop`` (a file, or empty) and ``id``.

        Raises:
            ReIDError: If the features do not fit or are of another network.
        """
        where = "Gallery.search"
        k = check_count(k, "k", where)
        matrix = check_features(features, where, normalised=True).cpu().numpy()
        known = fingerprint or self.about["fingerprint"]
        self._require(known, matrix.shape[1])
        if query_cameras is not None and len(query_cameras) != len(matrix):
            raise ReIDError(
                f"{where}: {len(query_cameras)} cameras for {len(matrix)} queries"
            )
        condition = _condition(cameras, after, before)
        people = len(self)
        k = min(k, people or 1)
        # The index knows nothing of conditions: of its lists few may hold such people.
        exact = exact or bool(condition) or people <= self.about["exact_up_to"]
        lists = None if exact else self.about.get("index", {}).get("lists")
        with _explained(self.folder):
            if lists is None and len(matrix) >= _MANY:
                answers = self._scanned(matrix, k, condition)
            else:
                answers = self._looked_up(matrix, k, lists, condition)
        answers["known"] = self._known(answers, query_cameras)
        root = self.folder / "crops"
        answers["crop"] = [
            str(root / place) if place else "" for place in answers["crop"]
        ]
        own = [name for name in _COLUMNS if name not in ("id", "added")]
        return answers[["query", "rank", "distance", "known", *own, "id"]]

    def calibrate(self, thresholds: CameraThresholds | float) -> None:
        """Keep the distances up to which an answer is the same person.

        Args:
            thresholds: Of `reidlib.evaluation.camera_thresholds`, or one for all.
        """
        if isinstance(thresholds, CameraThresholds):
            kept: dict[str, Any] = {
                "default": float(thresholds.default),
                "cameras": thresholds.cameras.tolist(),
                "threshold": thresholds.threshold.tolist(),
            }
        else:
            least = check_number(thresholds, "threshold", "Gallery.calibrate", 0, 2)
            kept = {"default": least, "cameras": [], "threshold": []}
        with self._writing():
            self._tell({**self.about, "thresholds": kept})

    def forget(
        self,
        *,
        person: str | None = None,
        camera: int | None = None,
        day: date | None = None,
        before: datetime | None = None,
    ) -> int:
        """Forget people: their rows and crops are gone from the disk.

        Conditions are combined: a camera and a day are what this camera saw on it.

        Args:
            person: Everybody of this name.
            camera: What a camera saw.
            day: What was seen on a day, in UTC.
            before: What was seen before a time; added, where that is not known.

        Returns:
            How many.

        Raises:
            ReIDError: If no condition is given, or another process is writing.
        """
        conditions = []
        if person is not None:
            if not str(person).strip():
                raise ReIDError("the name of the person is empty; give one")
            conditions.append(f"person = {_quoted(str(person))}")
        if camera is not None:
            conditions.append(f"camera = {_camera(camera, 'Gallery.forget')}")
        if day is not None:
            first, last = (_timestamp(datetime.combine(day, t, UTC)) for t in _DAY)
            conditions.append(f"seen BETWEEN {first} AND {last}")
        if before is not None:
            limit = _timestamp(before)
            conditions.append(f"coalesce(seen, added) < {limit}")
        if not conditions:
            raise ReIDError("nothing is named that is to be forgotten; name it")
        condition = " AND ".join(f"({one})" for one in conditions)
        with self._writing():
            with _explained(self.folder):
                gone = self._table.search().where(condition).select(["id", "crop"])
                gone = gone.limit(self._count() or 1).to_pandas()
            if not len(gone):
                return 0
            # Whoever is killed from here on leaves it, and the next one finishes.
            todo = {"ids": gone["id"].tolist(), "crops": gone["crop"].tolist()}
            write_atomically(self.folder / _FORGETTING, json.dumps(todo).encode())
            self._finish_forgetting()
        return len(gone)

    def _finish_forgetting(self) -> None:
        journal = self.folder / _FORGETTING
        shape = {"ids": list, "crops": list}
        way_out = "remove it, and forget again"
        todo = read_json(journal, way_out, shape, shape)
        named = all(isinstance(one, str) for one in todo["ids"])
        if not named or _own_places(todo["crops"]) != [*filter(None, todo["crops"])]:
            raise DamagedError(
                f"{journal} is damaged (it names other things than people and crops); "
                f"{way_out}",
                journal,
            )
        with _explained(self.folder, "what was to be forgotten is still there"):
            for first in range(0, len(todo["ids"]), 1000):
                some = ", ".join(map(_quoted, todo["ids"][first : first + 1000]))
                self._table.delete(f"id IN ({some})")
            self._rewrite()
        for place in _own_places(todo["crops"]):
            (self.folder / "crops" / place).unlink(missing_ok=True)
        journal.unlink()

    def expire(self, now: datetime | None = None) -> int:
        """Forget what is older than the days that the gallery keeps.

        Args:
            now: The time; that of the clock if not given.

        Returns:
            How many people.
        """
        days = self.about.get("keep_days")
        if days is None:
            raise ReIDError(
                f"the gallery in {self.folder} keeps everything; make one with "
                "keep_days, or forget with a date"
            )
        until = _in_utc(now or datetime.now(UTC))
        return self.forget(before=until - timedelta(days=days))

    def info(self) -> dict[str, Any]:
        """Return what is in it: people, cameras, first and last time, bytes on disk."""
        self._refresh()
        with _explained(self.folder):
            columns = ["camera", "seen", "person"]
            rows = self._table.search().select(columns).limit(self._count() or 1)
            rows = rows.to_pandas()
        seen = rows["seen"].dropna()
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        return {
            "people": len(rows),
            "named": int((rows["person"] != "").sum()),
            "cameras": sorted({int(one) for one in rows["camera"]}),
            "first": str(seen.min()) if len(seen) else None,
            "last": str(seen.max()) if len(seen) else None,
            "bytes": sum(file.stat().st_size for file in files),
            "model": self.about["model"],
            "fingerprint": self.about["fingerprint"],
            "keep_days": self.about.get("keep_days"),
            "calibrated": self.about.get("thresholds") is not None,
            "recall of the index": self.about.get("index", {}).get("recall"),
        }

    def _require(self, fingerprint: str, dimensions: int) -> None:
        if (fingerprint, dimensions) != (
            self.about["fingerprint"],
            self.about["dimensions"],
        ):
            raise ReIDError(
                f"the features are of another network ({fingerprint[:10]}, "
                f"{dimensions} numbers) than those of {self.folder} "
                f"({self.about['fingerprint'][:10]}, {self.about['dimensions']}), and "
                "cannot be compared with them; embed the images again"
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep other processes from writing, and say what goes wrong in one line."""
        with _explained(self.folder):
            lock = lock_folder(self.folder)
        try:
            self._refresh()
            self._repair()
            with _explained(self.folder, errors=(OSError,)):
                yield
        finally:
            lock.release()

    def _repair(self) -> None:
        """Finish what a process that was killed had begun."""
        if (self.folder / _FORGETTING).exists():
            self._finish_forgetting()
        journal = self.folder / _JOURNAL
        if not journal.exists():
            return
        try:
            places = _own_places(json.loads(journal.read_text(encoding="utf-8")))
        except ValueError:
            places = []
        unknown = self._unknown([Path(place).stem for place in places])
        for row in unknown.tolist():
            (self.folder / "crops" / places[row]).unlink(missing_ok=True)
        journal.unlink()

    def _rewrite(self) -> None:
        """Write the table anew, and remove what it was.

        A deleted row stays in its file, marked as deleted, until that is written anew.
        """
        rest = self._table.search().limit(self._count() or 1).to_arrow()
        rest = rest.select([*_COLUMNS, "vector"]).cast(
            _schema(self.about["dimensions"])
        )
        self._table = _connected(self.folder).create_table(
            _TABLE, data=rest, mode="overwrite"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no other process is writing
            self._table.optimize(
                cleanup_older_than=timedelta(0), delete_unverified=True
            )
        if self._count() > self.about["exact_up_to"]:
            self._index()
        elif "index" in self.about:
            self._tell({name: v for name, v in self.about.items() if name != "index"})

    def _index(self) -> None:
        """Make the index anew, and choose how much of it a search must look at."""
        from lancedb.index import IvfFlat

        parts = max(1, math.isqrt(self._count()))
        config = IvfFlat(distance_type="cosine", num_partitions=parts)
        self._table.create_index("vector", config=config, replace=True)
        asked = []
        for row in np.linspace(0, self._count() - 1, _ASKED).astype(int).tolist():
            one = self._table.search().select(["vector"]).offset(row).limit(1)
            asked.append(np.asarray(one.to_arrow()["vector"][0].as_py(), np.float32))
        exact = self._scanned(np.stack(asked), _NEAREST)
        wanted = [set(ids) for _, ids in exact.groupby("query")["id"]]
        recall, lists = 0.0, max(1, parts // 32)
        while True:
            found = [self._ids(vector, lists) for vector in asked]
            # Each finds itself, which says nothing.
            shared = [
                (len(a & b) - 1) / (len(b) - 1)
                for a, b in zip(found, wanted, strict=True)
            ]
            recall = float(np.mean(shared))
            if recall >= _RECALL or lists == parts:
                break
            lists = min(2 * lists, parts)
        self._tell({**self.about, "index": {"lists": lists, "recall": recall}})

    def _tell(self, about: dict[str, Any]) -> None:
        """Write down what the gallery is."""
        content = json.dumps(about, indent=1).encode()
        write_atomically(self.folder / _ABOUT, content)
        self.about = about

    def _nearest(self, vector: np.ndarray, k: int, lists: int | None) -> Any:
        """Return a search for the nearest: in so many lists of the index, or in all."""
        query = self._table.search(vector, vector_column_name="vector")
        query = query.distance_type("cosine").limit(k)
        return query.bypass_vector_index() if lists is None else query.nprobes(lists)

    def _looked_up(
        self, matrix: np.ndarray, k: int, lists: int | None, condition: str = ""
    ) -> pd.DataFrame:
        """Search for one query after the other, see `search`."""
        found = []
        for number, vector in enumerate(matrix):
            query = self._nearest(vector, k, lists)
            if condition:
                query = query.where(condition, prefilter=True)
            rows = query.select([*_COLUMNS, "_distance"]).to_pandas()
            rows.insert(0, "query", number)
            rows.insert(1, "rank", np.arange(1, len(rows) + 1))
            found.append(rows)
        answers = pd.concat(found, ignore_index=True)
        return answers.rename(columns={"_distance": "distance"})

    def _scanned(self, matrix: np.ndarray, k: int, condition: str = "") -> pd.DataFrame:
        """Compare all queries with everybody while the features are read once."""
        scan = self._table.search().select(["vector"]).with_row_id(True)
        scan = scan.limit(self._count() or 1)
        if condition:
            scan = scan.where(condition)
        rows: np.ndarray = np.empty((len(matrix), 0), np.int64)
        distance: np.ndarray = np.empty((len(matrix), 0), np.float32)
        for part in scan.to_batches(_BATCH):
            vectors = part["vector"].flatten().to_numpy(zero_copy_only=False)
            here = part["_rowid"].to_numpy().astype(np.int64)
            near = 1 - matrix @ vectors.reshape(len(here), -1).T
            if len(here) > k:
                best = np.argpartition(near, k - 1, axis=1)[:, :k]
                near = np.take_along_axis(near, best, 1)
                here = here[best]
            rows = np.hstack([rows, np.broadcast_to(here, near.shape)])
            distance = np.hstack([distance, near])
            order = np.lexsort((rows, distance))[:, :k]
            rows = np.take_along_axis(rows, order, 1)
            distance = np.take_along_axis(distance, order, 1)
        taken = self._table.take_row_ids(np.unique(rows).tolist())
        told = taken.select([*_COLUMNS]).with_row_id().to_pandas().set_index("_rowid")
        answers = told.loc[rows.ravel()].reset_index(drop=True)
        answers.insert(0, "query", np.repeat(np.arange(len(rows)), rows.shape[1]))
        answers.insert(1, "rank", np.tile(np.arange(rows.shape[1]) + 1, len(rows)))
        # Rounding puts the same feature a little below 0.
        answers.insert(2, "distance", distance.ravel().clip(0, 2))
        return answers

    def _ids(self, vector: np.ndarray, lists: int) -> set[str]:
        rows = self._nearest(vector, _NEAREST, lists).select(["id", "_distance"])
        return set(rows.to_arrow()["id"].to_pylist())

    def _known(
        self, answers: pd.DataFrame, query_cameras: Sequence[int] | None
    ) -> list[bool | None]:
        kept = self.about.get("thresholds")
        if kept is None:
            return [None] * len(answers)
        place = {camera: number for number, camera in enumerate(kept["cameras"])}
        told: list[bool | None] = []
        for query, camera, distance in zip(
            answers["query"], answers["camera"], answers["distance"], strict=True
        ):
            least = kept["default"]
            own = None if query_cameras is None else query_cameras[query]
            if own in place and camera in place:
                least = kept["threshold"][place[own]][place[camera]]
            told.append(bool(distance <= least))
        return told


def _connected(folder: Path) -> Any:
    # Read when it is imported: what it warns of is that a table is made.
    os.environ.setdefault("LANCEDB_LOG", "error")
    try:
        import lancedb
    except ImportError as error:
        raise ReIDError(
            "a gallery needs LanceDB: pip install 'reidlib[gallery]'"
        ) from error
    return lancedb.connect(folder)


def _schema(width: int) -> Any:
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("person", pa.string()),
            pa.field("camera", pa.int64()),
            pa.field("seen", moment),
            pa.field("added", moment),
            pa.field("source", pa.string()),
            pa.field("frame", pa.int64()),
            pa.field("crop", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), width)),
        ]
    )


@contextlib.contextmanager
def _explained(
    folder: Path,
    kept: str = "what was in it is kept",
    errors: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError),
) -> Iterator[None]:
    """Turn what LanceDB and the disk raise into one line.

    Args:
        folder: That of the gallery.
        kept: What became of its content.
        errors: What is explained.
    """
    try:
        yield
    except ReIDError:
        raise
    except errors as error:
        reason = str(error).strip().partition("\n")[0]
        raise ReIDError(
            f"the gallery in {folder} cannot be read or written ({reason:.200}); "
            f"{kept}: free some space or correct its permissions"
        ) from error


def _thresholds(kept: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return thresholds that were kept, with a row of numbers for each camera."""
    if kept is None:
        return None
    cameras = [int(one) for one in kept["cameras"]]
    rows = [[float(one) for one in row] for row in kept["threshold"]]
    if [len(row) for row in rows] != [len(cameras)] * len(cameras):
        raise ValueError(f"thresholds of {len(cameras)} cameras are no square")
    default = float(kept["default"])
    return {"default": default, "cameras": cameras, "threshold": rows}


def _own_places(told: object) -> list[str]:
    """Return the places of crops in a journal, without what leads elsewhere."""
    listed = told if isinstance(told, list) else []
    return [
        one
        for one in listed
        if isinstance(one, str) and re.fullmatch(r"[^/.]+/[^/]+", one)
    ]


def _in_utc(moment: datetime) -> datetime:
    """Return a time in UTC: sums of local times ignore the change of the clock."""
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ReIDError(f"{moment} has no time zone; give one")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ReIDError(f"{moment} is beyond the years 1 to 9999 in UTC") from None


def _check_columns(table: ImageTable, start: datetime | None) -> None:
    """Raise unless frames are whole numbers and times are seconds, or empty."""
    frames = table.attributes.get("frame", np.zeros(0, np.int64))
    if frames.dtype.kind not in "iu":
        raise ReIDError("the column frame holds other than whole numbers; mend it")
    check_ids(frames, "the numbers in the column frame", "Gallery.add")
    for row, one in enumerate(table.attributes.get("time", ())):
        try:
            _seen(start or datetime.now(UTC), one)
        except (ValueError, OverflowError):
            raise ReIDError(
                f"the column time holds {str(one)!r} in row {row}; give seconds, or "
                "leave it empty"
            ) from None


def _names(embeddings: Embeddings, crops: bool) -> list[str]:
    """Return an id for each row: that of the same crop is the same again."""
    table, vectors = embeddings.table, embeddings.features.cpu().numpy()
    columns, unknown = table.attributes, np.full(len(table), "")
    told = zip(
        table.camids.tolist(),
        columns.get("source", unknown).tolist(),
        columns.get("frame", unknown).tolist(),
        strict=True,
    )
    names = []
    for row, about in enumerate(told):
        file = table.file(row)
        if crops or file.is_file():
            content = file_sha256(file)
        else:  # features alone are kept, and the image may be gone
            content = hashlib.sha256(vectors[row].tobytes()).hexdigest()
        text = f"{content} {' '.join(map(str, about))}"
        names.append(hashlib.sha256(text.encode()).hexdigest()[:24])
    return names


def _people(table: ImageTable) -> list[str]:
    """Return names: of the column ``person``, or the number of a person."""
    if "person" in table.attributes:
        return [str(name) for name in table.attributes["person"]]
    return [str(pid) if pid > 0 else "" for pid in table.pids.tolist()]


def _seen(start: datetime | None, seconds: object) -> datetime | None:
    if start is None:
        return None
    if seconds in ("", None):
        return start
    number = decimal_number(str(seconds))
    if number is None:
        raise ValueError(str(seconds))
    return start + timedelta(seconds=number)


def _timestamp(moment: datetime) -> str:
    text = _in_utc(moment).replace(tzinfo=None).isoformat(" ", "microseconds")
    return f"arrow_cast('{text}', 'Timestamp(Microsecond, Some(\"UTC\"))')"


def _condition(
    cameras: Sequence[int] | None, after: datetime | None, before: datetime | None
) -> str:
    parts = []
    if cameras is not None:
        named = ", ".join(str(_camera(one, "Gallery.search")) for one in cameras)
        parts.append(f"camera IN ({named})" if named else "false")
    if after is not None:
        parts.append(f"seen >= {_timestamp(after)}")
    if before is not None:
        parts.append(f"seen < {_timestamp(before)}")
    return " AND ".join(parts)


def _camera(number: object, where: str) -> int:
    camera = check_count(number, "camera", where, least=NO_CAMERA)
    if camera > LARGEST_ID:
        raise ReIDError(f"{where}: camera is {camera}; numbers go up to {LARGEST_ID}")
    return camera


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def answer_sheet(
    queries: ImageTable,
    answers: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    most: int = 20,
) -> Path:
    """Draw queries with their answers, nearest first, a line for each query.

    Below an answer stand its distance and camera, and ``same`` or ``other`` where both
    identities are known.

    Args:
        queries: The images that were searched with.
        answers: What `Gallery.search` returned for them.
        path: File to write, ``.png`` or ``.jpg``.
        most: Queries to draw, at most.

    Returns:
        The file.

    Raises:
        ReIDError: If there is no answer, or the file cannot be written.
    """
    if not len(answers):
        raise ReIDError("there are no answers to draw")
    if not answers["crop"].any():
        raise ReIDError("the gallery keeps no crops, so there is nothing to draw")
    shown = min(len(queries), most)
    columns = 1 + int(answers["rank"].max())
    names = _people(queries)
    files: list[Path] = []
    rows: list[int] = []
    captions: list[str] = []
    for number in range(shown):
        line: list[tuple[Path | None, str]] = [(queries.file(number), "query")]
        for _, one in answers[answers["query"] == number].iterrows():
            camera = "?" if one["camera"] == NO_CAMERA else one["camera"]
            told = f"{one['distance']:.2f} cam {camera}"
            if names[number] and one["person"]:
                same = names[number] == one["person"]
                told = f"{'same' if same else 'other'} {told}"
            line.append((Path(one["crop"]) if one["crop"] else None, told))
        for file, told in [*line, *[(None, "")] * (columns - len(line))]:
            rows.append(-1 if file is None else len(files))
            captions.append(told)
            files += [] if file is None else [file]
    title = f"{shown} of {len(queries)} queries" if shown < len(queries) else ""
    sheet = contact_sheet(
        unlabelled(files), rows, columns, tile=(160, 80), captions=captions, title=title
    )
    target = user_path(path)
    try:
        sheet.save(target)
    except (OSError, ValueError, KeyError) as error:
        raise ReIDError(
            f"{target} cannot be written ({error}); give a file that ends in .png or "
            ".jpg"
        ) from error
    return target
