from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from reidlib.data import open_dataset
from reidlib.errors import ReIDError
from reidlib.synthcity import (
    ATTRIBUTES,
    Dials,
    Size,
    ensure_synthcity,
    make_synthcity,
    plan_world,
    synthcity_path,
)

SMALL = Size(4, 4, 3, 10, 20, 10, 20, 2, 3)
ROOT = Path(__file__).parents[2]


def digest(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*.jpg"))
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("city") / "small"
    return make_synthcity(folder, SMALL, seed=1, workers=1, progress=False)


def test_the_layout_is_that_of_market(small):
    assert sorted(entry.name for entry in small.iterdir()) == [
        "bounding_box_test",
        "bounding_box_train",
        "manifest.json",
        "market_attribute.mat",
        "query",
    ]
    assert len(list((small / "bounding_box_train").iterdir())) == 20
    assert len(list((small / "query").iterdir())) == 10
    assert len(list((small / "bounding_box_test").iterdir())) == 25
    with Image.open(next((small / "query").iterdir())) as image:
        assert image.size == (64, 128)
        assert image.format == "JPEG"


def test_the_market_reader_takes_it(small):
    dataset = open_dataset("market-style", small)
    assert (len(dataset.train), len(dataset.query)) == (20, 10)
    assert len(dataset.gallery) == 23  # junk is dropped, distractors stay
    assert set(dataset.train.pids.tolist()) == set(plan_world(SMALL, 1).train_pids)


def test_any_number_of_workers_writes_the_same_bytes(small, tmp_path):
    two = make_synthcity(tmp_path / "two", SMALL, seed=1, workers=2, progress=False)
    assert digest(two) == digest(small)
    hashes = [
        json.loads((folder / "manifest.json").read_text())["sha256"]
        for folder in (two, small)
    ]
    assert hashes[0] == hashes[1]
    other = make_synthcity(tmp_path / "other", SMALL, seed=2, workers=1, progress=False)
    assert digest(other) != digest(small)


def test_the_manifest_says_what_was_drawn(small):
    manifest = json.loads((small / "manifest.json").read_text())
    assert manifest["seed"] == 1
    assert manifest["dials"] == Dials().as_key()
    assert manifest["images"] == {
        "bounding_box_train": 20,
        "query": 10,
        "bounding_box_test": 25,
        "junk": 2,
        "distractors": 3,
    }
    # The manifest's hash is that of the list of names and hashes of all files.
    lines = [f"{name} {value}\n" for name, value in digest(small).items()]
    mat = hashlib.sha256((small / "market_attribute.mat").read_bytes()[128:])
    lines.append(f"market_attribute.mat {mat.hexdigest()}\n")
    whole = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    assert manifest["sha256"] == whole


def test_the_attribute_file_has_the_real_structure(small):
    world = plan_world(SMALL, 1)
    content = loadmat(small / "market_attribute.mat")["market_attribute"]
    assert content.dtype.names == ("test", "train")
    for split, pids in (("train", world.train_pids), ("test", world.test_pids)):
        part = content[split][0, 0]
        assert set(part.dtype.names) == {*ATTRIBUTES, "image_index"}
        index = [str(cell[0]) for cell in part["image_index"][0, 0][0]]
        assert index == [f"{pid:04d}" for pid in pids]
        for row, pid in enumerate(pids):
            expected = world.identity(pid).attributes
            for name in ATTRIBUTES:
                assert part[name][0, 0][0, row] == expected[name]
    assert content["train"][0, 0].dtype.names == (*ATTRIBUTES, "image_index")


def test_a_folder_in_use_is_refused(small, tmp_path):
    before = digest(small)
    with pytest.raises(ReIDError, match="is not empty: name a folder that does not"):
        make_synthcity(small, SMALL, progress=False)
    assert digest(small) == before
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ReIDError, match="is a file: name a folder"):
        make_synthcity(file, SMALL, progress=False)
    with pytest.raises(ReIDError, match="cannot write SynthCity to"):
        make_synthcity(file / "below", SMALL, workers=1, progress=False)
    with pytest.raises(ReIDError, match="workers 0: give an integer from 1"):
        make_synthcity(tmp_path / "new", SMALL, workers=0, progress=False)
    assert not (tmp_path / "new").exists()


def test_an_empty_folder_is_filled(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    make_synthcity(folder, SMALL, workers=1, progress=False)
    assert (folder / "manifest.json").is_file()


def test_an_error_while_drawing_leaves_nothing(tmp_path, monkeypatch):
    import reidlib.synthcity.writer as writer

    calls = []

    def full_disk(pixels, quality):
        calls.append(quality)
        if len(calls) > 9:
            raise OSError(28, "No space left on device")
        return b"x"

    monkeypatch.setattr(writer, "encode", full_disk)
    with pytest.raises(ReIDError, match="No space left on device; choose a folder"):
        make_synthcity(tmp_path / "city", SMALL, workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_nothing_that_a_reader_takes(tmp_path):
    target = tmp_path / "city"
    code = (
        "from reidlib.synthcity import make_synthcity;"
        f"make_synthcity({str(target)!r}, 'course', workers=1, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if len(list(tmp_path.rglob("*.jpg"))) > 20:
                break
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = [Path(folder) for folder, *_ in os.walk(tmp_path)]
    assert any(".partial-" in str(folder) for folder in left)
    assert not target.exists()
    for folder in left:
        with pytest.raises(ReIDError):
            open_dataset("market-style", folder)


def test_two_processes_share_one_cache(tmp_path):
    code = (
        "from reidlib.synthcity import Size, ensure_synthcity;"
        "size = Size(4, 4, 3, 10, 20, 10, 20, 2, 3);"
        "print(ensure_synthcity(size, 5, workers=1, progress=False))"
    )
    environment = {**os.environ, "REIDLIB_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]
    folders = [entry for entry in (tmp_path / "synthcity").iterdir() if entry.is_dir()]
    assert [str(folder) for folder in folders] == [said[0]]


def test_the_cache_tells_worlds_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path))
    options = {"workers": 1, "progress": False}
    first = ensure_synthcity(SMALL, 0, **options)
    stamp = (first / "manifest.json").stat().st_mtime_ns
    assert ensure_synthcity(SMALL, 0, **options) == first
    assert synthcity_path(SMALL, 0) == first
    assert not synthcity_path(SMALL, 1).exists()  # asking draws nothing
    assert (first / "manifest.json").stat().st_mtime_ns == stamp
    assert ensure_synthcity(SMALL, 0, Dials(lighting=0.1), **options) != first
    with pytest.raises(ReIDError, match="no size"):
        ensure_synthcity("none")


def test_a_dial_of_later_leaves_the_names_and_manifests_of_before(small, tmp_path):
    """Those of the cities that were drawn before there was a spread of quality."""
    assert synthcity_path("tiny").name == "tiny-c23ccaf6a7a34503"
    assert (
        "quality_spread"
        not in json.loads((small / "manifest.json").read_text())["dials"]
    )
    mixed = Dials(quality_spread=1.0)
    assert synthcity_path(SMALL, 1, mixed) != synthcity_path(SMALL, 1)
    options = {"workers": 1, "progress": False}
    city = make_synthcity(tmp_path / "mixed", SMALL, 1, mixed, **options)
    dials = json.loads((city / "manifest.json").read_text())["dials"]
    assert dials["quality_spread"] == 1.0
    assert digest(city).keys() == digest(small).keys()
    assert not set(digest(city).values()) & set(digest(small).values())
    # The worst are compressed the most: their tables of quantisation are coarser.
    coarse = [
        [sum(Image.open(file).quantization[0]) for file in sorted(c.rglob("*.jpg"))]
        for c in (small, city)
    ]
    assert max(coarse[1]) > 3 * max(coarse[0])


def first(folder: Path) -> Path:
    return sorted((folder / "query").iterdir())[0]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def edit(folder: Path, **changes) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


DAMAGE = {
    "a picture is gone": (lambda c: first(c).unlink(), "query has 9 of 10 images"),
    "one was added": (
        lambda c: shutil.copy(first(c), c / "query" / "0001_c1_0.jpg"),
        "query has 11 of 10 images",
    ),
    "one has a new name": (
        lambda c: first(c).rename(c / "query" / "0001_c1_0.jpg"),
        "not the one that was drawn",
    ),
    "a byte is flipped": (lambda c: flip(first(c)), "not the one that was drawn"),
    "one is empty": (lambda c: first(c).write_bytes(b""), "not the one that was"),
    "attributes are gone": (lambda c: (c / "market_attribute.mat").unlink(), "mat"),
    "attributes changed": (lambda c: flip(c / "market_attribute.mat"), "not the one"),
    "a folder is gone": (lambda c: shutil.rmtree(c / "query"), "query"),
    "a folder is empty": (
        lambda c: [file.unlink() for file in (c / "query").iterdir()],
        "query has 0 of 10 images",
    ),
    "no manifest": (lambda c: (c / "manifest.json").unlink(), "manifest.json"),
    "cut manifest": (
        lambda c: (c / "manifest.json").write_text('{"name": "SynthCity"'),
        "manifest.json is damaged",
    ),
    "empty manifest": (
        lambda c: (c / "manifest.json").write_bytes(b""),
        "manifest.json is damaged",
    ),
    "manifest of bytes": (
        lambda c: (c / "manifest.json").write_bytes(b"\xff\xfe"),
        "manifest.json is damaged",
    ),
    "manifest of a list": (
        lambda c: (c / "manifest.json").write_text("[]"),
        "manifest.json is damaged",
    ),
    "counts of text": (lambda c: edit(c, images={"query": "10"}), "is '10'"),
}


@pytest.fixture
def cached(small, tmp_path, monkeypatch) -> Path:
    """A city of the cache."""
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path))
    folder = synthcity_path(SMALL, 1)
    shutil.copytree(small, folder)
    return folder


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_city_is_refused_and_one_of_the_cache_is_drawn_again(
    small, cached, how
):
    damage, told = DAMAGE[how]
    damage(cached)
    with pytest.raises(ReIDError, match=told) as error:
        open_dataset("synthcity", cached)
    assert "\n" not in str(error.value)
    assert str(cached) in str(error.value)
    options = {"workers": 1, "progress": False}
    with pytest.warns(UserWarning, match=f"{told}.*: drawn again"):
        assert ensure_synthcity(SMALL, 1, **options) == cached
    assert digest(cached) == digest(small)
    assert len(open_dataset("synthcity", cached).query) == 10


@pytest.mark.parametrize(
    "changes",
    [{"seed": 2}, {"drawing": 0}, {"dials": {}}, {"size_counts": None}],
    ids=str,
)
def test_another_city_in_the_cache_is_drawn_over(small, cached, changes):
    edit(cached, **changes)
    with pytest.warns(UserWarning, match="is another one: drawn again"):
        ensure_synthcity(SMALL, 1, workers=1, progress=False)
    now = json.loads((cached / "manifest.json").read_text())
    assert now == json.loads((small / "manifest.json").read_text())


def test_a_whole_city_is_read_from_a_cache_that_cannot_be_written(cached):
    (cached / "query" / ".DS_Store").touch()  # no damage
    before = sorted(entry.name for entry in cached.parent.iterdir())
    assert ensure_synthcity(SMALL, 1) == cached
    assert sorted(entry.name for entry in cached.parent.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_manifest_does_not_turn_a_city_into_market_style(
    small, tmp_path, content
):
    city = shutil.copytree(small, tmp_path / "city")
    (city / "manifest.json").write_bytes(content)
    with pytest.raises(ReIDError, match=r"manifest.json is damaged .*; draw it again"):
        open_dataset("auto", city)
    (city / "manifest.json").write_text('["of another program"]')
    assert open_dataset("auto", city).name == "market-style"


def test_the_next_start_removes_what_a_killed_one_has_drawn(cached):
    left = cached.parent / f".{cached.name}.partial-abcd1234"
    (left / "query.unfinished").mkdir(parents=True)
    assert ensure_synthcity(SMALL, 1) == cached
    assert not left.exists()


def test_people_keep_their_looks_on_disk(small):
    world = plan_world(SMALL, 1)
    shot = world.shots[0]
    from reidlib.synthcity import draw_shot

    with Image.open(small / shot.folder / shot.name) as image:
        stored = np.asarray(image).astype(float)
    assert np.abs(stored - draw_shot(world, shot)).mean() < 12
