"""Files: hashes that follow the content, damage told in a line, no leftovers."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path

import pytest
from support import fork

from reidlib.errors import DamagedError, ReIDError
from reidlib.files import file_sha256, partial, read_json, remove_partials


def test_a_hash_follows_the_content(tmp_path):
    file = tmp_path / "a"
    seen = set()
    for content in (b"1", b"2", b"3"):  # of one length, within a tick of the clock
        file.write_bytes(content)
        seen.add(file_sha256(file))
    assert len(seen) == 3
    long_ago = time.time() - 100
    os.utime(file, (long_ago, long_ago))
    file_sha256(file)
    file.write_bytes(b"4")
    os.utime(file, (long_ago, long_ago))  # as an archive restores it
    assert file_sha256(file) not in seen


def test_a_hash_of_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("missing.jpg", "pipe.jpg", "."):
        with pytest.raises(ReIDError, match=r"cannot be read .*; restore it"):
            file_sha256(tmp_path / name)


SHAPE = {"seed": int, "images": {"*": int}}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"seed": 1', "delimiter"),
        (b'{"seed": "\xff"}', "codec can't decode"),
        (b"[1]", "it holds a list and no object"),
        (b"{}", "'seed' is missing"),
        (b'{"seed": "1"}', "'seed' is '1'"),
        (b'{"seed": 1, "images": []}', r"'images' is \[\]"),
        (b'{"seed": 1, "images": {"query": null}}', "'query' is None"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_damaged_json_is_one_line_that_names_file_and_way_out(tmp_path, content, why):
    file = tmp_path / "manifest.json"
    file.write_bytes(content)
    with pytest.raises(DamagedError, match=f"is damaged .*{why}.*; draw it") as told:
        read_json(file, "draw it again", SHAPE, ["seed"])
    assert str(told.value).startswith(str(file))
    assert "\n" not in str(told.value)
    assert told.value.file == file


def test_json_that_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for file in (tmp_path, tmp_path / "pipe.json"):
        with pytest.raises(DamagedError, match=r"is damaged .*not a regular file"):
            read_json(file, "draw it again")


def test_json_of_the_right_shape_is_read(tmp_path):
    file = tmp_path / "manifest.json"
    file.write_text('{"seed": 1, "images": {"query": 2}, "more": null}')
    read = read_json(file, "", SHAPE, ["seed"])
    assert read == {"seed": 1, "images": {"query": 2}, "more": None}
    with pytest.raises(DamagedError, match=r"there is no .*none\.json; look"):
        read_json(tmp_path / "none.json", "look elsewhere")


def test_an_error_crosses_processes_whole():
    error = pickle.loads(pickle.dumps(DamagedError("x is damaged", Path("x"))))
    assert (str(error), error.file) == ("x is damaged", Path("x"))


def write_for_ever(target: Path, folder: bool) -> None:
    with partial(target, folder=folder) as path:
        (path / "part" if folder else path).write_bytes(b"x" * 1000)
        (target.parent / "begun").touch()
        time.sleep(600)


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(
    tmp_path, folder
):
    target = tmp_path / "target"
    process = fork(write_for_ever, target, folder, told=tmp_path / "told")
    try:
        while not (tmp_path / "begun").exists():
            assert process.is_alive(), (tmp_path / "told").read_text()
            time.sleep(0.01)
        (left,) = tmp_path.glob(".*")
        remove_partials(tmp_path)
        assert left.exists()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert left.exists()
    mine = tmp_path / ".notes.partial-2"  # of another program
    mine.touch()
    with partial(target) as path:  # the next start
        path.write_bytes(b"whole")
        assert not left.exists()
        path.rename(target)
    assert sorted(p.name for p in tmp_path.glob(".*")) == [mine.name]
    assert target.read_bytes() == b"whole"


def test_what_is_interrupted_is_removed_at_once(tmp_path):
    def write():
        with partial(tmp_path / "a") as path:
            path.write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []
