"""The cache, the home folder, and folders that one process has for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reidlib.errors import ReIDError
from reidlib.paths import (
    cache_dir,
    check_utf8,
    lock_folder,
    make_cache_folder,
    new_folder,
    user_path,
)

HOLD = """
import sys, time
from pathlib import Path
from reidlib.paths import lock_folder
lock = lock_folder(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(600)
"""


def test_a_lock_ends_with_its_process(tmp_path):
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "locked\n"
            with pytest.raises(ReIDError, match="another process is working in"):
                lock_folder(tmp_path)
        finally:
            process.kill()
    lock_folder(tmp_path).release()


def test_folders_of_their_own(tmp_path):
    made = {new_folder(tmp_path / "runs", "run") for _ in range(9)}
    assert len(made) == 9
    assert all(folder.is_dir() for folder in made)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReIDError, match=r"cannot write to .*--out"):
        new_folder(tmp_path / "file", "run")


def test_a_user_without_a_home(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("REIDLIB_CACHE", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 5)  # as in a container
    with pytest.raises(ReIDError, match=r"no home folder .* set REIDLIB_CACHE"):
        cache_dir()
    with pytest.raises(ReIDError, match="'~/run' begins with ~"):
        user_path("~/run")


def test_the_cache_is_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REIDLIB_CACHE", "~/My Drive/cache")
    assert cache_dir() == tmp_path / "My Drive" / "cache"
    monkeypatch.setenv("REIDLIB_CACHE", "")
    assert cache_dir() == tmp_path / ".cache" / "reidlib"


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "cache", Path("/proc/nope/cache")):
        with pytest.raises(ReIDError, match="set REIDLIB_CACHE"):
            make_cache_folder(folder)


def test_a_name_that_only_the_locale_cannot_read_is_told_from_one_that_is_no_utf8():
    for name, way_out in (
        ("o\udcc3\udcb6", "set LC_ALL=C.UTF-8"),
        ("\udce9", "convmv"),
    ):
        with pytest.raises(ReIDError, match=way_out):
            check_utf8(name)
    check_utf8("ö")
