"""Write a world to disk in Market-1501's layout, completely or not at all.

All files are drawn into a hidden folder beside the target, which one rename moves there
at the end. Until then the split folders have the ending ``.unfinished``. If the run is
stopped, by a killed process or a full disk, no reader finds an incomplete data set.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import numpy as np
import PIL
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from scipy.io import savemat
from tqdm import tqdm

from reidlib.errors import ReIDError
from reidlib.paths import cache_dir
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
)

DRAWING = 1
"""Version of the drawing, increased when pictures are meant to change."""

MANIFEST = "manifest.json"
ATTRIBUTE_FILE = "market_attribute.mat"
_UNFINISHED = ".unfinished"
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
        quality = world.cameras[shot.camera].jpeg
        data = encode(draw_shot(world, shot), quality)
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
    folders = (TRAIN, QUERY, GALLERY)
    for name in folders:
        (target / (name + _UNFINISHED)).mkdir()
    chunks = list(_chunks(world.shots))
    hashes: list[tuple[str, str]] = []
    call = (str(target), size, seed, dials)
    with tqdm(
        total=len(world.shots),
        desc=f"SynthCity {_size_name(size)}",
        unit="image",
        disable=not progress,
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
    data = (target / ATTRIBUTE_FILE).read_bytes()
    # The header of a .mat file holds the time of writing: hash what follows it.
    hashes.append((ATTRIBUTE_FILE, hashlib.sha256(data[128:]).hexdigest()))
    total = hashlib.sha256()
    for name, digest in sorted(hashes):
        total.update(f"{name} {digest}\n".encode())
    counts = {
        name: sum(shot.folder == name for shot in world.shots) for name in folders
    }
    counts["junk"] = sum(shot.pid == -1 for shot in world.shots)
    counts["distractors"] = sum(shot.pid == 0 for shot in world.shots)
    manifest = {
        "name": "SynthCity",
        "size": _size_name(size),
        "size_counts": asdict(world.size),
        "seed": seed,
        "dials": asdict(dials),
        "drawing": DRAWING,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "images": counts,
        "sha256": total.hexdigest(),
    }
    text = json.dumps(manifest, indent=2) + "\n"
    (target / MANIFEST).write_text(text, encoding="utf-8")
    for name in folders:
        (target / (name + _UNFINISHED)).rename(target / name)


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
    target = Path(path).absolute()
    if workers is None:
        workers = _usable_cores()
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ReIDError(f"workers {workers!r}: give an integer from 1, or nothing")
    plan_world(size, seed, dials)  # raises its errors before anything is written
    if target.exists() and not target.is_dir():
        raise ReIDError(f"{target} is a file: name a folder that does not exist yet")
    if target.is_dir() and any(target.iterdir()):
        raise ReIDError(
            f"{target} is not empty: name a folder that does not exist yet, or delete "
            "this one"
        )
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(
            tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent)
        )
        temporary.chmod(0o755)
        _draw_all(temporary, size, seed, dials, workers, progress)
        os.replace(temporary, target)
    except OSError as error:
        raise ReIDError(
            f"cannot write SynthCity to {target}: {error.strerror or error}; choose a "
            "folder that is writable and has enough space"
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
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
    of any of them gives another folder. If two processes ask at once, both draw, and
    both use the folder of the one that finishes first.

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

    Example:
        >>> ensure_synthcity("tiny").name.startswith("tiny-")
        True
    """
    target = synthcity_path(size, seed, dials)
    if not (target / MANIFEST).is_file():
        try:
            make_synthcity(target, size, seed, dials, workers, progress)
        except ReIDError:
            # Another process may have written it in the meantime.
            if not (target / MANIFEST).is_file():
                raise
    return target


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
    key = json.dumps([asdict(counts), seed, asdict(dials), DRAWING])
    name = f"{_size_name(size)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return cache_dir() / "synthcity" / name
