"""The index of images in folders."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from PIL import Image

from reidlib.data import NO_CAMERA, UNKNOWN, open_dataset
from reidlib.deploy import index, write_index
from reidlib.errors import ReIDError


def fill(folder, names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8)).save(file)
    return folder


def test_folders_of_people_become_identities(tmp_path):
    names = ("bo/a_c0.png", "bo/b_c10.png", "al/a_c0.png", "al/.hidden.png")
    fill(tmp_path, names)
    index = write_index(tmp_path, "folder-per-person", camera="_c([0-9]+)")
    table = open_dataset("csv", tmp_path).train
    assert index == tmp_path / "index.csv"
    assert table.paths == ("al/a_c0.png", "bo/a_c0.png", "bo/b_c10.png")
    assert table.pids.tolist() == [1, 2, 2]
    assert table.attributes["person"].tolist() == ["al", "bo", "bo"]
    assert table.camids.tolist() == [0, 0, 10]


def test_numbers_of_people_are_kept_and_names_of_cameras_are_numbered(tmp_path):
    fill(tmp_path, ("7/hall.png", "07a/x.png"))
    with pytest.warns(UserWarning, match="numbered in the order of their names"):
        write_index(tmp_path, "folder-per-person", camera="^([a-z]+)")
    table = open_dataset("csv", tmp_path).train
    assert table.pids.tolist() == [1, 2]  # one of them is no number: all by their order
    assert table.camids.tolist() == [1, 0]  # hall, x by name: 07a comes first
    numbered = fill(tmp_path / "numbers", ("7/a.png", "12/a.png"))
    write_index(numbered, "folder-per-person")
    table = open_dataset("csv", numbered).train
    assert dict(zip(table.paths, table.pids, strict=True)) == {
        "12/a.png": 12,
        "7/a.png": 7,
    }


def test_two_spellings_of_one_number_are_two_people(tmp_path):
    fill(tmp_path, ("7/a.png", "07/a.png"))
    with pytest.warns(UserWarning, match="each written once"):
        write_index(tmp_path, "folder-per-person")
    assert open_dataset("csv", tmp_path).train.pids.tolist() == [1, 2]


def test_two_spellings_of_a_camera_are_one_camera(tmp_path):
    fill(tmp_path, ("a_c1.png", "b_c01.png", "c_c2.png"))
    write_index(tmp_path, "flat", camera="_c([0-9]+)")
    assert open_dataset("csv", tmp_path).train.camids.tolist() == [0, 0, 1]


def test_what_is_left_out_or_numbered_anew_is_said(tmp_path):
    fill(tmp_path, ("0002/a.png", "@eaDir/a.png", "__MACOSX/._a.png", "loose.png"))
    with pytest.warns(UserWarning, match="1 files beside the folders .*loose.png"):
        write_index(tmp_path, "folder-per-person")
    assert open_dataset("csv", tmp_path).train.pids.tolist() == [2]
    junk = fill(tmp_path / "junk", ("-1/a.png", "0000/a.png", "0002/a.png"))
    with pytest.warns(UserWarning, match="not all whole numbers from 1 up"):
        write_index(junk, "folder-per-person")


def test_an_index_that_cannot_be_read_is_not_written(tmp_path):
    fill(tmp_path, (" a.png", " bob/b.png"))
    with pytest.warns(UserWarning, match="1 sub-folder"):
        write_index(tmp_path, "flat")
    assert open_dataset("csv", tmp_path).train.paths == (" a.png",)
    spaced = fill(tmp_path / "spaced", ("a.png",))
    (spaced / "index.csv").write_text("pid, path\n3, a.png\n")
    assert open_dataset("csv", spaced).train.paths == ("a.png",)
    people = fill(tmp_path / "people", (" bob/b.png",))
    write_index(people, "folder-per-person")
    assert open_dataset("csv", people).train.paths == (" bob/b.png",)
    pipes = fill(tmp_path / "pipes", ("a.png",))
    os.mkfifo(pipes / "z.png")
    for _ in range(2):
        with pytest.raises(ReIDError, match=r"no index was written: .*index\.csv"):
            write_index(pipes, "flat")


def test_a_flat_folder_knows_neither_people_nor_cameras(tmp_path):
    fill(tmp_path, ("b.png", "a.jpg"))
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match="1 other file"):
        write_index(tmp_path, "flat")
    table = open_dataset("csv", tmp_path).train
    assert table.paths == ("a.jpg", "b.png")
    np.testing.assert_array_equal(table.pids, UNKNOWN)
    np.testing.assert_array_equal(table.camids, NO_CAMERA)
    assert not table.attributes


@pytest.mark.parametrize(
    ("layout", "camera", "words"),
    [
        ("deep", None, "layout"),
        ("flat", "c(", "no regular expression"),
        ("flat", "c[0-9]", "0 groups"),
        ("flat", "c([0-9])", "no camera in 1 of 1 file names, the first is a.png"),
        ("folder-per-person", None, "no sub-folder"),
    ],
)
def test_what_gives_no_index_is_said(tmp_path, layout, camera, words):
    fill(tmp_path, ("a.png",))
    with pytest.raises(ReIDError, match=words):
        write_index(tmp_path, layout, camera=camera)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.png"]


def test_an_index_is_never_replaced(tmp_path):
    fill(tmp_path, ("a.png",))
    index = write_index(tmp_path, "flat")
    before = index.read_bytes()
    with pytest.raises(ReIDError, match="already exists"):
        write_index(tmp_path, "flat")
    assert index.read_bytes() == before
    with pytest.raises(ReIDError, match="no folder"):
        write_index(tmp_path / "gone", "flat")


def test_a_pattern_that_would_take_years_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_PATIENCE", 0.3)
    before = signal.getsignal(signal.SIGALRM)
    name = f"{'a' * 60}.png"
    Image.new("RGB", (4, 8)).save(tmp_path / name)
    with pytest.raises(ReIDError, match=f"for {name}; write it without a repeat"):
        write_index(tmp_path, "flat", camera="^(?:(?:a+)+)+([0-9])$")
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
