"""Write a world to disk in Market-1501's layout, completely or not at all.

All files are drawn into a hidden folder beside the target, which one rename moves there
at the end. Until then the split folders have the ending ``.unfinished``. If the run is
stopped, by a killed process or a full disk, no reader finds an incomplete data set. One
that was damaged later is found out by the counts and the hash in its manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from filelock import FileLock
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from scipy.io import savemat
from tqdm import tqdm

from reidlib.errors import DamagedError, ReIDError
from reidlib.files import file_sha256, partial, read_json, remove_partials
from reidlib.paths import cache_dir, make_cache_folder, user_path
from reidlib.synthcity.dials import Dials
from reidlib.synthcity.identities import ATTRIBUTES, DOWN_COLOURS, UP_COLOURS
from reidlib.synthcity.renderer import encode
from reidlib.synthcity.world import (
    GALLERY,
    QUERY,
    TRAIN,
    Shot,
    Size,
    World,
    draw_shot,
    plan_world,
    shot_camera,
)
from reidlib.terminal import watched

DRAWING = 1
"""Version of the drawing, increased when pictures are meant to change."""

MANIFEST = "manifest.json"
ATTRIBUTE_FILE = "market_attribute.mat"
_FOLDERS = (TRAIN, QUERY, GALLERY)
_UNFINISHED = ".unfinished"
_LITTER = (".", "Thumbs.db", "desktop.ini")  # what file managers leave
# The real file lists the colours of the test part in another order and place than
# those of the training part, and readers that use positions depend on it.
_TEST_COLUMNS = (
    "age",
    "backpack",
    "bag",
    "handbag",
    "clothes",
    "down",
    "up",
    "hair",
    "hat",
    "gender",
    *(f"up{colour}" for colour in UP_COLOURS),
    *(f"down{colour}" for colour in DOWN_COLOURS),
)


def _size_name(size: str | Size) -> str:
    return size if isinstance(size, str) else "custom"


def write_attributes(world: World, path: Path) -> None:
    """Write ``market_attribute.mat`` in the structure of the real file.

    Args:
        world: The planned world.
        path: The file to write.
    """
    parts = {}
    for name, pids, columns in (
        ("test", world.test_pids, _TEST_COLUMNS),
        ("train", world.train_pids, ATTRIBUTES),
    ):
        rows = [world.identity(pid).attributes for pid in pids]
        part: dict[str, np.ndarray] = {
            column: np.array([[row[column] for row in rows]], dtype=np.float64)
            for column in columns
        }
        index = np.empty((1, len(pids)), dtype=object)
        index[0] = [f"{pid:04d}" for pid in pids]
        part["image_index"] = index
        parts[name] = part
    savemat(path, {"market_attribute": parts})


def _draw_chunk(
    folder: str, size: str | Size, seed: int, dials: Dials, shots: list[Shot]
) -> list[tuple[str, str]]:
    """Draw and write some pictures; return their names and hashes."""
    world = plan_world(size, seed, dials)
    written = []
    for shot in shots:
        data = encode(draw_shot(world, shot), shot_camera(world, shot).jpeg)
        (Path(folder) / (shot.folder + _UNFINISHED) / shot.name).write_bytes(data)
        written.append((f"{shot.folder}/{shot.name}", hashlib.sha256(data).hexdigest()))
    return written


def _chunks(shots: Iterable[Shot], length: int = 32) -> Iterator[list[Shot]]:
    """Group pictures so that a worker paints each person's clothes once."""
    chunk: list[Shot] = []
    ordered = sorted(shots, key=lambda shot: (shot.identity, shot.name))
    for _, group in groupby(ordered, key=lambda shot: shot.identity):
        for shot in group:
            chunk.append(shot)
        if len(chunk) >= length:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _draw_all(
    target: Path,
    size: str | Size,
    seed: int,
    dials: Dials,
    workers: int,
    progress: bool,
) -> None:
    """Draw a whole world into an existing empty folder."""
    world = plan_world(size, seed, dials)
    for name in _FOLDERS:
        (target / (name + _UNFINISHED)).mkdir()
    chunks = list(_chunks(world.shots))
    hashes: list[tuple[str, str]] = []
    call = (str(target), size, seed, dials)
    with tqdm(
        total=len(world.shots),
        desc=f"SynthCity {_size_name(size)}",
        unit="image",
        disable=not (progress and watched()),
    ) as bar:
        if workers == 1:
            results: Iterable = (_draw_chunk(*call, chunk) for chunk in chunks)
        else:
            pool = Parallel(n_jobs=workers, return_as="generator_unordered")
            results = pool(delayed(_draw_chunk)(*call, chunk) for chunk in chunks)
        for written in results:
            hashes += written
            bar.update(len(written))
    write_attributes(world, target / ATTRIBUTE_FILE)
    counts = {
        name: sum(shot.folder == name for shot in world.shots) for name in _FOLDERS
    }
    counts["junk"] = sum(shot.pid == -1 for shot in world.shots)
    counts["distractors"] = sum(shot.pid == 0 for shot in world.shots)
    manifest = {
        "name": "SynthCity",
        "size": _size_name(size),
        **_identity(world.size, seed, dials),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "images": counts,
        "sha256": _total(target, hashes),
    }
    text = json.dumps(manifest, indent=2) + "\n"
    (target / MANIFEST).write_text(text, encoding="utf-8")
    for name in _FOLDERS:
        (target / (name + _UNFINISHED)).rename(target / name)


def _identity(counts: Size, seed: int, dials: Dials) -> dict[str, Any]:
    """Return the part of the manifest that determines the pictures."""
    known = {"size_counts": asdict(counts), "seed": seed}
    return {**known, "dials": dials.as_key(), "drawing": DRAWING}


def _total(folder: Path, hashes: Iterable[tuple[str, str]]) -> str:
    """Return the hash of a manifest: over the names and hashes of all files."""
    data = (folder / ATTRIBUTE_FILE).read_bytes()
    # The header of a .mat file holds the time of writing: hash what follows it.
    attributes = (ATTRIBUTE_FILE, hashlib.sha256(data[128:]).hexdigest())
    total = hashlib.sha256()
    for name, digest in sorted([*hashes, attributes]):
        total.update(f"{name} {digest}\n".encode())
    return total.hexdigest()


def check_city(folder: Path) -> dict[str, Any]:
    """Compare the files of a city with the counts and the hash of its manifest.

    Hidden files and others that file managers leave are not looked at.

    Args:
        folder: What :func:`make_synthcity` wrote.

    Returns:
        The manifest.

    Raises:
        DamagedError: If a file is missing, was added or has another content.
    """
    way_out = (
        "draw it again (reidlib data make synthcity FOLDER), or open it as "
        "'market-style' if you changed it on purpose"
    )
    file = folder / MANIFEST
    shape = {"images": {"*": int}, "sha256": str}
    manifest = read_json(file, way_out, shape, shape)
    hashes, wrong = [], []
    try:
        for name in _FOLDERS:
            names = sorted(os.listdir(folder / name))
            names = [n for n in names if not n.startswith(_LITTER)]
            hashes += [(f"{name}/{n}", file_sha256(folder / name / n)) for n in names]
            if len(names) != manifest["images"].get(name):
                wrong.append(
                    f"{name} has {len(names)} of {manifest['images'].get(name)} images"
                )
        if not wrong and _total(folder, hashes) != manifest["sha256"]:
            wrong.append("a file is not the one that was drawn")
    except (OSError, ReIDError) as error:
        wrong.append(str(error).partition(";")[0])
    if wrong:
        raise DamagedError(
            f"the SynthCity in {folder} is damaged ({', '.join(wrong)}); {way_out}",
            folder,
        )
    return manifest


def make_synthcity(
    path: str | os.PathLike[str],
    size: str | Size = "course",
    seed: int = 0,
    dials: Dials | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Draw a synthetic data set in Market-1501's layout.

    The folder gets ``bounding_box_train``, ``bounding_box_test``, ``query``,
    ``market_attribute.mat`` and ``manifest.json``. It appears whole or not at all.

    Args:
        path: Folder to write; it must be empty or not exist.
        size: A name of :data:`SIZES`, or counts of your own.
        seed: Seed of everything. The same seed, size and dials give the same bytes,
            whatever the number of workers.
        dials: The difficulty; the default :class:`Dials` if not given.
        workers: Worker processes; all usable cores if not given.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The folder.

    Raises:
        ReIDError: If the folder is not empty or cannot be written, or if size, seed or
            workers are wrong.

    Example:
        >>> import tempfile
        >>> small = Size(2, 2, 2, 4, 4, 4, 4, 1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     city = f"{folder}/city"
        ...     root = make_synthcity(city, small, workers=1, progress=False)
        ...     sorted(entry.name for entry in root.iterdir())[:2]
        ['bounding_box_test', 'bounding_box_train']
    """
    dials = dials or Dials()
    target = user_path(path).absolute()
    if workers is None:
        workers = _usable_cores()
    whole = isinstance(workers, int) and not isinstance(workers, bool)
    if not whole or not 1 <= workers <= 1024:
        raise ReIDError(
            f"workers {workers!r}: give an integer from 1 to 1024, or nothing"
        )
    plan_world(size, seed, dials)  # raises its errors before anything is written
    if target.exists() and not target.is_dir():
        raise ReIDError(f"{target} is a file: name a folder that does not exist yet")
    if target.is_dir() and any(target.iterdir()):
        raise ReIDError(
            f"{target} is not empty: name a folder that does not exist yet, or delete "
            "this one"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial(target, folder=True) as temporary:
            temporary.chmod(0o755)
            _draw_all(temporary, size, seed, dials, workers, progress)
            os.replace(temporary, target)
    except OSError as error:
        raise ReIDError(
            f"cannot write SynthCity to {target}: {error.strerror or error}; choose a "
            "folder that is writable and has enough space"
        ) from error
    return target


def ensure_synthcity(
    size: str | Size = "tiny",
    seed: int = 0,
    dials: Dials | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Return a synthetic data set, drawing it into the cache if it is not there.

    The folder's name holds a hash of size, seed, dials and `DRAWING`, so that a change
    of any of them gives another folder. One that is damaged is drawn again. If two
    processes ask at once, the second waits for the first.

    Args:
        size: A name of :data:`SIZES`, or counts of your own.
        seed: Seed of everything.
        dials: The difficulty; the default :class:`Dials` if not given.
        workers: Worker processes; all usable cores if not given.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The folder, in Market-1501's layout.

    Raises:
        ReIDError: If size or seed are wrong or the cache cannot be written.

    Warns:
        UserWarning: If it was damaged.

    Example:
        >>> ensure_synthcity("tiny").name.startswith("tiny-")
        True
    """
    target = synthcity_path(size, seed, dials)
    identity = _identity(plan_world(size, seed, dials).size, seed, dials or Dials())
    remove_partials(target.parent)
    if not _damage(target, identity):
        return target
    make_cache_folder(target.parent)
    try:
        with FileLock(f"{target}.lock"):
            # Another process may have drawn it in the meantime.
            if damage := _damage(target, identity):
                if target.exists():
                    warnings.warn(f"{damage}: drawn again", stacklevel=2)
                    shutil.rmtree(target)
                make_synthcity(target, size, seed, dials, workers, progress)
    except OSError as error:
        raise ReIDError(
            f"cannot write SynthCity to {target}: {error.strerror or error}; set "
            "REIDLIB_CACHE to a folder that is writable and has enough space"
        ) from error
    return target


def _damage(target: Path, identity: dict[str, Any]) -> str:
    """Say what is wrong with a city of the cache; empty if nothing is."""
    try:
        manifest = check_city(target)
    except DamagedError as error:
        return str(error).partition(";")[0]
    # Compared as JSON, in which a tuple is a list.
    other = {name: manifest.get(name) for name in identity} != json.loads(
        json.dumps(identity)
    )
    return f"the SynthCity in {target} is another one" if other else ""


def synthcity_path(
    size: str | Size = "tiny", seed: int = 0, dials: Dials | None = None
) -> Path:
    """Return the folder in which :func:`ensure_synthcity` keeps a data set.

    Args:
        size: A name of :data:`SIZES`, or counts of your own.
        seed: Seed of everything.
        dials: The difficulty; the default :class:`Dials` if not given.

    Returns:
        A folder of the cache, drawn or not; its name is a hash of all that the pictures
        depend on.

    Raises:
        ReIDError: If size or seed are wrong.

    Example:
        >>> synthcity_path("tiny", seed=7).parent.name
        'synthcity'
    """
    dials = dials or Dials()
    counts = plan_world(size, seed, dials).size
    key = json.dumps([asdict(counts), seed, dials.as_key(), DRAWING])
    name = f"{_size_name(size)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return cache_dir() / "synthcity" / name
