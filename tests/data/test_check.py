"""The report on a data set: empty without faults, one line for each fault."""

from __future__ import annotations

import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from support import full_disk

from reidlib.data import (
    JUNK,
    NO_CAMERA,
    UNKNOWN,
    ImageTable,
    ReIDDataset,
    check_dataset,
    check_path,
    contact_sheet,
    open_dataset,
)
from reidlib.data.check import overview, training_problem
from reidlib.errors import ReIDError
from reidlib.recipes.baseline import Config
from reidlib.recipes.steps import open_training_images


def in_memory(tmp_path, train=(), query=(), gallery=()):
    """A data set of (pid, camid) pairs whose files do not exist."""
    tables = []
    for name, pairs in (("train", train), ("query", query), ("gallery", gallery)):
        paths = [f"{name}/{number}.jpg" for number in range(len(pairs))]
        pids, camids = np.array(pairs, dtype=int).reshape(-1, 2).T
        tables.append(ImageTable(tmp_path, paths, pids, camids))
    return ReIDDataset("mine", *tables)


def findings(*args, **splits):
    report = check_dataset(in_memory(*args, **splits), read_images=False)
    return report.problems, report.warnings


GOOD = {
    "train": [(1, 0), (1, 1), (2, 0), (2, 2)],
    "query": [(3, 0), (4, 1)],
    "gallery": [(3, 1), (3, 0), (4, 0), (0, 2)],
}


def test_a_good_data_set_has_no_findings(tmp_path):
    assert findings(tmp_path, **GOOD) == ([], [])


def test_synthcity_has_no_problems_and_prints_its_counts(tiny):
    report = check_dataset(tiny)
    assert report.problems == []
    assert report.unreadable == {}
    text = str(report)
    assert text.startswith(f"synthcity in {tiny.root}")
    for split in ("train", "query", "gallery"):
        table = getattr(tiny, split)
        line = next(line for line in text.splitlines() if line.startswith(split))
        cells = [int(cell.replace(",", "")) for cell in line.split()[1:]]
        distractors = int((table.pids == 0).sum())
        assert cells == [len(table), table.num_pids, table.num_cams, distractors]
    assert "no problems" in text
    assert f"{tiny.num_junk} junk images were left out" in text


def test_queries_without_a_match_are_named_and_counted(tmp_path):
    query = [(3, 0), (7, 2), (8, 0), (4, 1)]
    gallery = [(3, 1), (7, 2), (7, 2), (4, 0), (0, 0)]
    dataset = in_memory(tmp_path, GOOD["train"], query, gallery)
    report = check_dataset(dataset, read_images=False)
    assert report.unmatched_queries.tolist() == [1, 2]
    (problem,) = report.problems
    assert problem.startswith(
        "query 0007_c3 (query/1.jpg) has no image of the same person under another "
        "camera; 2 of 4 queries have none: 0007_c3, 0008_c1;"
    )


def test_unmatched_queries_agree_with_a_loop(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(20):
        query = rng.integers([1, -1], [9, 3], (12, 2))
        gallery = rng.integers([0, -1], [9, 3], (15, 2))
        dataset = in_memory(tmp_path, GOOD["train"], query, gallery)
        expected = [
            row
            for row, (pid, camid) in enumerate(query)
            if not any(
                p == pid and (c != camid or camid == NO_CAMERA) for p, c in gallery
            )
        ]
        found = check_dataset(dataset, read_images=False).unmatched_queries
        assert found.tolist() == expected


def test_images_without_camera_or_identity_are_counted(tmp_path):
    splits = {**GOOD, "train": [(1, 0), (1, -1), (UNKNOWN, 0)]}
    problems, warnings = findings(tmp_path, **splits)
    assert problems == []
    assert "1 of 3 images of train have no camera: train/1.jpg;" in warnings[0]
    assert "1 of 3 images of train have no identity: train/2.jpg;" in warnings[1]
    splits = {**GOOD, "gallery": [(3, 1), (3, -1), (4, 0)]}
    (problem,), _warnings = findings(tmp_path, **splits)
    assert "1 of 3 images of gallery have no camera: gallery/1.jpg; same-" in problem


def test_one_identity_is_told(tmp_path):
    splits = {**GOOD, "train": [(7, 0), (7, 1), (7, 2)]}
    (problem,), warnings = findings(tmp_path, **splits)
    assert warnings == []
    assert "has training images of 1 people; two are the least" in problem


def test_people_seen_by_one_camera_are_counted(tmp_path):
    splits = {**GOOD, "train": [(1, 0), (1, 1), (2, 0), (2, 0), (5, 3)]}
    problems, (warning,) = findings(tmp_path, **splits)
    assert problems == []
    assert "2 of 3 people of train are seen by one camera only: 0002, 0005;" in warning


def test_people_in_both_splits_are_a_problem(tmp_path):
    splits = {**GOOD, "train": [(1, 0), (1, 1), (4, 0), (4, 1)]}
    (problem,), _warnings = findings(tmp_path, **splits)
    assert problem.startswith("1 people are in both train and test: 0004;")


def test_nothing_to_evaluate_is_a_warning(tmp_path):
    _problems, (warning,) = findings(tmp_path, train=GOOD["train"])
    assert warning.startswith("0 queries and 0 gallery images: nothing can be")


@pytest.mark.filterwarnings("ignore:market1501 in .* is not the published")
def test_other_counts_than_published_are_a_warning(market_root):
    report = check_dataset(open_dataset("market1501", market_root), read_images=False)
    assert any("train 3 (-12933)" in warning for warning in report.warnings)


def test_unreadable_images_are_named(market_root):
    (market_root / "query" / "0004_c6s1_000001_00.jpg").write_bytes(b"")
    file = market_root / "bounding_box_train" / "0002_c1s1_000451_03.jpg"
    file.write_bytes(file.read_bytes()[:300])
    report = check_dataset(open_dataset("market-style", market_root))
    assert list(report.unreadable) == [
        str(file),
        str(market_root / "query" / "0004_c6s1_000001_00.jpg"),
    ]
    problem = report.problems[0]
    assert problem.startswith("2 of 8 images cannot be read: ")
    assert "0002_c1s1_000451_03.jpg is damaged" in problem
    assert "0004_c6s1_000001_00.jpg is empty (0 bytes)" in problem


def test_copies_are_told_apart(market_root):
    train, query, gallery = (
        market_root / sub
        for sub in ("bounding_box_train", "query", "bounding_box_test")
    )

    def check():
        report = check_dataset(open_dataset("market-style", market_root))
        return [line for line in report.problems + report.warnings if "occur" in line]

    # A copy of the query in the gallery, as in VeRi-776: the protocol ignores it.
    shutil.copy(query / "0003_c1s1_000001_00.jpg", gallery / "0003_c1s9_00.jpg")
    assert check() == []
    shutil.copy(query / "0003_c1s1_000001_00.jpg", gallery / "0003_c2s9_00.jpg")
    assert check()[0].startswith("1 images occur more than once: query/0003_c1s1")
    shutil.copy(train / "0002_c1s1_000451_03.jpg", train / "0007_c1s1_9.jpg")
    assert check()[0].startswith("1 images occur again under another identity: bound")
    (train / "0007_c1s1_9.jpg").unlink()
    shutil.copy(train / "0002_c1s1_000451_03.jpg", gallery / "0002_c1s1_9.jpg")
    assert check()[0].startswith("1 training images occur again in the test set: bou")


def test_check_path_writes_report_and_sheet(market_root, tmp_path):
    market_root = market_root.rename(tmp_path / "market1501")
    report, sheet = check_path(market_root, sheet=tmp_path / "sheet.png")
    assert report.name == "market1501"
    assert "is not the published" in str(report)
    with Image.open(sheet) as image:
        assert image.size == overview(open_dataset("market-style", market_root)).size


def test_the_report_is_kept_where_no_sheet_can_be_written(market_root, tmp_path):
    (tmp_path / "mine.jpg").write_bytes(b"a holiday")
    for name, told in (
        ("gone/sheet.png", "cannot be written to .*gone/sheet.png .No such file"),
        ("sheet.doc", "sheet.doc: give a file that ends in .jpg or .png"),
        ("mine.jpg", "cannot be written to .*mine.jpg .File exists.; give another"),
    ):
        report, sheet = check_path(market_root, sheet=tmp_path / name)
        assert report.counts["train"]["images"] == 3
        assert re.search(told, report.no_sheet)
        assert "\n" not in report.no_sheet
        assert sheet is None
    assert (tmp_path / "mine.jpg").read_bytes() == b"a holiday"


def test_the_usual_sheet_takes_a_name_that_is_free(market_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [check_path(market_root, read_images=False)[1] for _ in range(3)]
    assert [str(name) for name in names] == [
        f"contact_sheet_set{more}.jpg" for more in ("", "_2", "_3")
    ]
    assert all(name.exists() for name in names)


def test_a_full_disk_leaves_no_half_of_a_sheet(market_root, tmp_path):
    with full_disk(1000):
        report, sheet = check_path(market_root, sheet=tmp_path / "sheet.png")
    assert sheet is None
    assert "File too large" in report.no_sheet
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("split", ["query", "gallery"])
def test_one_split_alone_is_drawn(write_images, split, tmp_path):
    root = write_images(["a.jpg", "b.jpg"])
    (root / "index.csv").write_text(
        f"path,pid,camid,split\na.jpg,1,0,{split}\nb.jpg,1,1,{split}\n"
    )
    report, sheet = check_path(root, sheet=tmp_path / "sheet.png")
    assert sheet.exists()
    assert report.no_sheet == ""
    assert "nothing can be evaluated" in report.warnings[0]


def test_what_training_refuses_is_a_problem(tmp_path, write_images):
    for train in ([], [(1, 0)]):
        (problem,) = findings(tmp_path, train=train)[0]
        with pytest.raises(ReIDError, match=re.escape(problem)):
            open_training_images(in_memory(tmp_path, train), Config(), "cpu")
        assert f"has {len(train)} training images; two are" in problem
    # A data set to be scored on needs none.
    problems, warnings = findings(tmp_path, **{**GOOD, "train": []})
    assert problems == []
    assert "has 0 training images" in warnings[0]
    root = write_images(["1.png", "2.png"], size=(1, 1))
    write_images(["3.png"])
    (root / "index.csv").write_text("path,split\n1.png,train\n2.png,train\n")
    found = check_dataset(open_dataset("csv", root)).problems
    assert "2 of 2 images of train are less than 8 pixels high or wide" in found[0]
    (root / "index.csv").write_text("path\n1.png\n3.png\n")
    report = check_dataset(open_dataset("csv", root))
    assert report.problems == []
    assert "1 of 2 images of train are less than 8 pixels" in report.warnings[0]


def test_files_that_are_left_out_are_counted(market_root, write_images, tmp_path):
    ignored = ("._0002_c1.jpg", ".DS_Store", "Thumbs.db", "desktop.ini")
    for name in ignored:
        (market_root / "query" / name).write_bytes(b"")
    (market_root / "query" / "__MACOSX").mkdir()
    report, _ = check_path(market_root, sheet=tmp_path / "1.png")
    assert "left out;" not in str(report)
    write_images([f"query/0003_c{n}.gif" for n in (1, 2)])
    write_images(["query/0003/0003_c1.jpg"])
    told = (
        r"query: 2 other files \(the first is 0003_c1.gif\) and 1 sub-folder \(the "
        r"first is 0003\) left out; read are files that end in .jpg"
    )
    report, _ = check_path(market_root, sheet=tmp_path / "2.png")
    assert re.search(told, report.warnings[0])
    with pytest.warns(UserWarning, match=told):
        dataset = open_dataset("market-style", market_root)
    assert len(dataset.query) == 2
    for file in (market_root / "query").glob("*.jpg"):
        file.unlink()
    with pytest.raises(ReIDError, match=r"query holds no image .* but 2 other files"):
        open_dataset("market-style", market_root)


def test_names_that_are_not_utf8_are_refused(market_root):
    name = os.fsdecode(b"0003_c1_caf\xe9.jpg")
    (market_root / "query" / name).write_bytes(b"")
    with pytest.raises(
        ReIDError, match=r"query/0003_c1_caf\\xe9.jpg' is not UTF-8; ren"
    ):
        open_dataset("market-style", market_root)
    root = market_root.rename(market_root.with_name(os.fsdecode(b"caf\xe9")))
    with pytest.raises(ReIDError, match="is not UTF-8; rename it"):
        open_dataset("market-style", root)


def test_pipes_are_not_waited_for(market_root, write_images, tmp_path):
    os.mkfifo(market_root / "query" / "0003_c2_pipe.jpg")
    os.mkfifo(market_root / "manifest.json")
    with pytest.raises(ReIDError, match="is no file; remove it, or name the kind"):
        check_path(market_root, sheet=tmp_path / "sheet.png")
    (market_root / "manifest.json").unlink()
    report, _ = check_path(market_root, sheet=tmp_path / "sheet.png")
    assert "0003_c2_pipe.jpg is a folder, a pipe or a device" in report.problems[0]
    root = write_images([f"image_{name}/0001_c1.jpg" for name in ("train", "test")])
    write_images(["image_query/0001_c1.jpg"])
    os.mkfifo(root / "name_train.txt")
    with pytest.raises(ReIDError, match=r"name_train.txt is not a file"):
        open_dataset("veri776", root)


def test_the_sheet_shows_each_image_in_its_place(write_images):
    root = write_images([f"{number}.png" for number in range(5)], size=(10, 20))
    table = ImageTable(root, [f"{i}.png" for i in range(5)], [1, 2, 3, 4, 5], [0] * 5)
    sheet = contact_sheet(table, [4, -1, 0], columns=2, tile=(20, 10))
    pixels = np.asarray(sheet)
    for row, x, y in ((4, 4, 4), (0, 4, 44)):
        with Image.open(table.file(row)) as image:
            shown = pixels[y : y + 20, x : x + 10]
            np.testing.assert_array_equal(shown, np.asarray(image))
    assert (pixels[4:24, 18:28] == 255).all()


def test_tiles_carry_person_and_camera(write_images):
    root = write_images(["0.png"], size=(64, 128))
    sheets = []
    for pid, camid in ((7, 2), (7, 3), (8, 2), (JUNK, 2)):
        table = ImageTable(root, ["0.png"], [pid], [camid])
        sheets.append(np.asarray(contact_sheet(table, [0])))
    captions = [sheet[133:].tobytes() for sheet in sheets]
    assert len(set(captions)) == 4
    np.testing.assert_array_equal(sheets[0][:132], sheets[3][:132])
    own = contact_sheet(table, [0], captions=["0007_c3"])
    np.testing.assert_array_equal(np.asarray(own), sheets[0])


def test_a_broken_image_is_crossed_out(write_images):
    root = write_images(["0.png"])
    (root / "1.png").write_bytes(b"")
    table = ImageTable(root, ["0.png", "1.png"], [1, 1], [0, 1])
    pixels = np.asarray(contact_sheet(table))
    assert (pixels[10, 4 + 68 + 30] == (211, 211, 211)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": []}, "contact sheet of 0 images"),
        ({"columns": 0}, "in 0 columns"),
        ({"rows": [0, 3]}, "row 3 of a table of 3 images"),
        ({"rows": [-2]}, "row -2 of a table of 3 images"),
        ({"rows": [0], "captions": ["a", "b"]}, "2 captions for 1 rows"),
    ],
)
def test_sheets_of_nothing_are_refused(tmp_path, arguments, message):
    table = ImageTable(tmp_path, ["a", "b", "c"], [1, 1, 1], [0, 0, 0])
    with pytest.raises(ReIDError, match=message):
        contact_sheet(table, **arguments)
    with pytest.raises(ReIDError, match="there is no image to show"):
        overview(in_memory(tmp_path))


def test_what_cannot_be_told_apart_is_refused_but_in_one_camera(tmp_path):
    one = in_memory(tmp_path, [(7, 0), (7, 1)])
    with pytest.raises(ReIDError, match=r"images of 1 people; two are the least that"):
        open_training_images(one, Config(), "cpu")
    assert training_problem(one, least_people=1) == ""
    assert training_problem(in_memory(tmp_path, [(7, 0), (8, 1)])) == ""
    assert training_problem(in_memory(tmp_path, [(UNKNOWN, 0), (UNKNOWN, 1)])) == ""
