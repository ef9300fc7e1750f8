"""Readers: every published layout, and an error for each fault in it."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from PIL import Image

from reidlib.data import (
    DISTRACTOR,
    JUNK,
    NO_CAMERA,
    UNKNOWN,
    ImageTable,
    ReIDDataset,
    detect_kind,
    open_dataset,
)
from reidlib.data.readers import count_difference
from reidlib.errors import ReIDError


def refused(message: str):
    return pytest.raises(ReIDError, match=message)


def rows(table):
    return list(zip(table.paths, table.pids.tolist(), table.camids.tolist()))


def test_market_layout(market_root):
    dataset = open_dataset("market-style", market_root)
    assert rows(dataset.train) == [
        ("bounding_box_train/0002_c1s1_000451_03.jpg", 2, 0),
        ("bounding_box_train/0002_c3s1_000551_01.jpg", 2, 2),
        ("bounding_box_train/0007_c2s3_070952_02.jpg", 7, 1),
    ]
    assert rows(dataset.query) == [
        ("query/0003_c1s1_000001_00.jpg", 3, 0),
        ("query/0004_c6s1_000001_00.jpg", 4, 5),
    ]
    assert dataset.gallery.pids.tolist() == [DISTRACTOR, 3, 4]
    assert dataset.gallery.camids.tolist() == [3, 4, 5]
    assert dataset.num_junk == 2
    assert all(dataset.train.file(row).exists() for row in range(3))


def test_junk_stays_on_demand(market_root):
    dataset = open_dataset("market-style", market_root, keep_junk=True)
    assert dataset.gallery.pids.tolist() == [JUNK, JUNK, DISTRACTOR, 3, 4]
    assert dataset.num_junk == 0


def test_the_folder_above_will_do(market_root):
    assert open_dataset("market-style", market_root.parent).root == market_root


def test_two_data_sets_in_one_folder_are_refused(write_images, market_root):
    write_images(
        [
            f"{sub}/0001_c1.jpg"
            for sub in ("bounding_box_train", "query", "bounding_box_test")
        ],
        root="other",
    )
    with refused(r"holds several data sets \(other, set\); give the folder of one"):
        open_dataset("market-style", market_root.parent)


def test_cameras_that_count_from_zero_are_left_alone(write_images):
    names = ["bounding_box_train/0001_c0.png", "query/0002_c1_x.JPG"]
    root = write_images([*names, "bounding_box_test/0002_c12-7.jpeg"])
    dataset = open_dataset("market-style", root)
    splits = (dataset.train, dataset.query, dataset.gallery)
    assert [split.camids.tolist() for split in splits] == [[0], [1], [12]]


def test_counts_other_than_the_published_ones_are_named(market_root):
    expected = re.escape(
        "is not the published 12936/3368/15913 images (train/query/gallery): "
        "train 3 (-12933), query 2 (-3366), gallery 3 (-15910)"
    )
    with pytest.warns(UserWarning, match=expected):
        open_dataset("market1501", market_root)


MSMT_LISTS = {
    "list_train.txt": "0000/0000_000_01_0303morning_0015_0.jpg 0\n"
    "0001/0001_000_05_0303noon_0016_0_ex.jpg 1\n",
    "list_val.txt": "0001/0001_001_15_0303morning_0017_0.jpg 1\n",
    "list_query.txt": "0000/0000_000_02_0303morning_0018_0.jpg 0\n",
    "list_gallery.txt": "0000/0000_001_14_0303morning_0018_0.jpg 0\n"
    "0001/0001_000_02_0303morning_0018_0.jpg 1\n",
}


def msmt_root(write_images, train="train", test="test"):
    names = []
    for listing, text in MSMT_LISTS.items():
        folder = train if listing in ("list_train.txt", "list_val.txt") else test
        names += [f"{folder}/{line.split()[0]}" for line in text.splitlines()]
    root = write_images(names, root="MSMT17_V1")
    for listing, text in MSMT_LISTS.items():
        (root / listing).write_text(text)
    return root


@pytest.mark.filterwarnings("ignore:msmt17 in .* is not the published")
@pytest.mark.parametrize(
    "folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")]
)
def test_msmt17_lists(write_images, folders):
    root = msmt_root(write_images, *folders)
    dataset = open_dataset("auto", root)
    assert dataset.name == "msmt17"
    # Numbers 0 and 1 mean different people in training and in test.
    assert dataset.train.pids.tolist() == [1, 2, 2]
    assert dataset.query.pids.tolist() == [3]
    assert dataset.gallery.pids.tolist() == [3, 4]
    assert dataset.train.camids.tolist() == [0, 4, 14]
    assert dataset.gallery.camids.tolist() == [13, 1]
    assert dataset.train.paths[0] == (
        f"{folders[0]}/0000/0000_000_01_0303morning_0015_0.jpg"
    )
    smaller = open_dataset("msmt17", root, validation=False)
    assert smaller.train.paths == dataset.train.paths[:2]


@pytest.mark.filterwarnings("ignore:msmt17 in .* is not the published")
def test_msmt17_in_the_market_layout(write_images):
    root = write_images(
        [
            "bounding_box_train/0000_c1_0000.jpg",
            "bounding_box_train/0003_c15_0001.jpg",
            "query/0000_c2_0000.jpg",
            "bounding_box_test/0000_c3_0001.jpg",
        ],
        root="msmt17",
    )
    dataset = open_dataset("auto", root)
    assert dataset.name == "msmt17"
    assert dataset.train.pids.tolist() == [1, 4]
    assert dataset.train.camids.tolist() == [0, 14]
    assert dataset.query.pids.tolist() == dataset.gallery.pids.tolist() == [5]


@pytest.mark.filterwarnings("ignore:msmt17 in .* is not the published")
def test_msmt17_list_errors(write_images):
    root = msmt_root(write_images)
    listing = root / "list_query.txt"
    listing.write_text("0000/0000_000_02_0303morning_0018_0.jpg\n")
    with refused("list_query.txt line 1 reads .* expected '<folder>/<person>_"):
        open_dataset("msmt17", root)
    for digit in ("²", "٣", "0_0", f"{2**62}"):
        listing.write_text(f"0000/0000_000_02_0303morning_0018_0.jpg {digit}\n")
        with refused("list_query.txt line 1 reads"):
            open_dataset("msmt17", root)
    listing.write_text("0000/0000_000_02_gone.jpg 0\n")
    with refused("list_query.txt: 1 of 1 listed files do not exist, the first is"):
        open_dataset("msmt17", root)
    listing.write_text("\n")
    with refused("list_query.txt lists no image; unpack the data set again"):
        open_dataset("msmt17", root)
    listing.write_text(MSMT_LISTS["list_query.txt"] * 2)
    with refused("list_query.txt lists 1 files twice, the first is test/0000/0000_"):
        open_dataset("msmt17", root)


@pytest.mark.filterwarnings("ignore:msmt17 in .* is not the published")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f"0000/0000_000_02_0303morning_0018_0.jpg {2**62 - 1}\n",
            "go up to .* beyond",
        ),
        ("0000/0000_000_1_0_0303morning_0018_0.jpg 0\n", "list_query.txt line 1 reads"),
    ],
)
def test_msmt17_numbers_that_cannot_be_are_refused(write_images, line, message):
    root = msmt_root(write_images)
    write_images([f"test/{line.split()[0]}"], root="MSMT17_V1")
    (root / "list_query.txt").write_text(line)
    with refused(message):
        open_dataset("msmt17", root)


VERI_NAMES = [
    "image_train/0001_c001_00016450_0.jpg",
    "image_train/0001_c020_00016460_0.jpg",
    "image_query/0002_c002_00030600_0.jpg",
    "image_test/0002_c002_00030600_0.jpg",
    "image_test/0002_c003_00030670_0.jpg",
]


@pytest.mark.filterwarnings("ignore:veri776 in .* is not the published")
def test_veri776_by_file_names_and_by_lists(write_images):
    root = write_images(VERI_NAMES)
    dataset = open_dataset("auto", root)
    assert dataset.name == "veri776"
    assert rows(dataset.train) == [(VERI_NAMES[0], 1, 0), (VERI_NAMES[1], 1, 19)]
    assert rows(dataset.gallery)[1] == (VERI_NAMES[4], 2, 2)
    (root / "name_train.txt").write_text("0001_c020_00016460_0.jpg\n")
    assert open_dataset("veri776", root).train.paths == (VERI_NAMES[1],)
    (root / "name_train.txt").write_text("0001_c020_00016460_0.jpg\n", "utf-8-sig")
    assert open_dataset("veri776", root).train.paths == (VERI_NAMES[1],)
    (root / "name_train.txt").write_text("0009_c020_00016460_0.jpg\n")
    with refused("name_train.txt: 1 of 1 listed files do not exist"):
        open_dataset("veri776", root)


def test_csv_with_all_columns(write_images):
    root = write_images(["a/1.jpg", "2.jpg", "3.jpg", "ä, b.jpg", "5.jpg"])
    (root / "index.csv").write_text(
        "pid,path,camid,split,frame,note\n"
        "7,a/1.jpg,1,train,10,x\n"
        ",2.jpg,,train,20,\n"
        "3,3.jpg,2,query,30,\n"
        '0,"ä, b.jpg",3,gallery,40,\n'
        "-1,5.jpg,3,gallery,50,\n",
        encoding="utf-8",
    )
    dataset = open_dataset("auto", root)
    assert dataset.name == "csv"
    assert rows(dataset.train) == [("a/1.jpg", 7, 0), ("2.jpg", UNKNOWN, NO_CAMERA)]
    assert rows(dataset.query) == [("3.jpg", 3, 1)]
    assert rows(dataset.gallery) == [("ä, b.jpg", DISTRACTOR, 2)]
    assert dataset.num_junk == 1
    assert dataset.train.attributes["frame"].tolist() == [10, 20]
    assert dataset.train.attributes["note"].tolist() == ["x", ""]
    assert not dataset.train.has_identities
    kept = open_dataset("csv", root / "index.csv", keep_junk=True)
    assert kept.gallery.pids.tolist() == [DISTRACTOR, JUNK]


def test_csv_with_nothing_but_paths(write_images):
    root = write_images(["1.jpg", "2.jpg"])
    (root / "list.csv").write_text("path\n2.jpg\n1.jpg\n")
    dataset = open_dataset("csv", root / "list.csv")
    assert dataset.train.paths == ("2.jpg", "1.jpg")
    assert dataset.train.pids.tolist() == [UNKNOWN] * 2
    assert dataset.train.camids.tolist() == [NO_CAMERA] * 2
    assert len(dataset.query) == len(dataset.gallery) == 0


def test_a_csv_may_name_an_image_once_in_each_split(write_images):
    root = write_images(["1.jpg"])
    (root / "index.csv").write_text("path,split\n1.jpg,query\n1.jpg,gallery\n")
    dataset = open_dataset("csv", root)
    assert dataset.query.paths == dataset.gallery.paths == ("1.jpg",)


def test_the_published_counts_are_accepted_in_silence(tmp_path):
    def table(count):
        return ImageTable(tmp_path, ["x"] * count, np.ones(count), np.zeros(count))

    tables = [table(count) for count in (32621, 11659, 82161)]
    assert count_difference(ReIDDataset("msmt17", *tables)) == ""
    assert "train 32620 (-1)" in count_difference(
        ReIDDataset("msmt17", table(32620), *tables[1:])
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'path'"),
        ("name,pid\n1.jpg,1\n", "has no column 'path' .*'name,pid'.* expected path"),
        ("path\n", "lists no image; add one line per image"),
        ("path,pid\n1.jpg,bob\n", "line 2: pid 'bob' is not a whole number from -1"),
        ("path,pid\n1.jpg,2\n2.jpg,1.5\n", "line 3: pid '1.5' is not a whole number"),
        ("path,pid\n1.jpg,-7\n", "line 2: pid '-7' is not a whole number from -1"),
        ("path,camid\n1.jpg,c3\n", "line 2: camid 'c3' is not a whole number from 0"),
        ("path,camid\n1.jpg,-2\n", "line 2: camid '-2' is not a whole number from 0"),
        ("path,pid\n1.jpg\n", "line 2 has 1 fields for 2 columns"),
        ("path\n1.jpg\n1.jpg\n", "lists 1 files twice, the first is 1.jpg; keep one"),
        ("path\n1.jpg\n9.jpg\n", "1 of 2 listed files do not exist, the first is"),
        ("path,pid\n1.jpg,0002_1\n", "line 2: pid '0002_1' is not a whole number from"),
        ("path,camid\n1.jpg,1_0\n", "line 2: camid '1_0' is not a whole number from 0"),
        ("path,pid\n1.jpg,²\n", "line 2: pid '²' is not a whole number"),
        ("path,pid\n1.jpg,٣\n", "line 2: pid '٣' is not a whole number"),
        (f"path,pid\n1.jpg,{10**20}\n", f"pid '{10**20}' is not a whole .* to 46116"),
        (f"path,camid\n1.jpg,{'9' * 5000}\n", "camid '9999.*' is not a whole number"),
        ("path,pid,pid\n1.jpg,1,2\n", "index.csv has 2 columns 'pid'; keep one"),
        ("path,split\n1.jpg,val\n", "split 'val' is not known; write train, query or"),
        ("path\n1.jpg\n./1.jpg\n", "lists 1 files twice, the first is ./1.jpg; keep"),
        (
            "path,split\n1.jpg,train\n../set/1.jpg,query\n",
            "lists ../set/1.jpg in train and in query",
        ),
        ("path;pid\n1.jpg;1\n", r"no column 'path' .*\[,split\], separated by commas"),
        ('"path"\tpid\n1.jpg\t1\n', "no column 'path' .*, separated by commas"),
        ("path,fold\n1.jpg,train\n2.jpg,Test\n", "column 'fold' holds Test, train, so"),
        ("path,x\n1.jpg,query\n2.jpg,\n", "column 'x' holds query, so that all"),
        (f"path\n{'x' * 300}.jpg\n", "xx.jpg cannot be read"),
        ("path,x,y,x\n1.jpg,1,2,3\n", "has 2 columns 'x'; keep one"),
        ("path,pid\n1.jpg,0\n", "have person id 0, which marks a distractor"),
    ],
)
def test_csv_errors(write_images, text, message):
    root = write_images(["1.jpg", "2.jpg"])
    (root / "index.csv").write_text(text)
    with refused(message) as caught:
        open_dataset("csv", root)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (
            "camid",
            "cam CamID camera camera_id Camera-ID cams cmaid camid2 cam_no camnum cid "
            "kamera sensor_id caméra telecamera CCTV камера камера_id カメラ "
            "摄像头 相机ID",
        ),
        (
            "pid",
            "PID id Id person person_id identity vehicleID pids vid label subject "
            "people_id identifier 人物 行人ID",
        ),
        ("split", "Split splits set subset spilt"),
    ],
)
def test_columns_that_are_nearly_called_right_are_refused(write_images, column, names):
    root = write_images(["1.jpg"])
    for name in names.split():
        (root / "index.csv").write_text(f"path,{name}\n1.jpg,1\n")
        told = f"index.csv has a column '{name}' and no column '{column}'; rename it"
        with refused(told):
            open_dataset("csv", root)
        # Beside the right column it is one of the user's own.
        value = "train" if column == "split" else "1"
        (root / "index.csv").write_text(f"path,{name},{column}\n1.jpg,1,{value}\n")
        assert list(open_dataset("csv", root).train.attributes) == [name]


def test_further_columns_keep_what_they_hold(write_images):
    root = write_images(["1.jpg", "2.jpg"])
    columns = {
        "name": (["7_1", "71"], ["7_1", "71"]),
        "track": ([f"{10**20}", f"{10**20 + 1}"], [f"{10**20}", f"{10**20 + 1}"]),
        "mixed": ([f"{2**63}", "0.5"], [f"{2**63}", "0.5"]),
        "uid": ([f"{2**63 - 1}", "-1"], [2**63 - 1, -1]),
        "score": (["1e-3", " .5"], [0.001, 0.5]),
        "gap": ([f"{2**53 + 1}", "nan"], [f"{2**53 + 1}", "nan"]),
        "long": ([f"{2**53}.0", f"{2**53 + 1}.0"], [f"{2**53}.0", f"{2**53 + 1}.0"]),
        "same": (["0.10", "0.1"], [0.1, 0.1]),
        "track_identifier": (["3", "4"], [3, 4]),
        "frame_id": (["5", "6"], [5, 6]),
    }
    lines = [",".join(["path", *columns])]
    for row in range(2):
        cells = [given[row] for given, _ in columns.values()]
        lines.append(",".join([f"{row + 1}.jpg", *cells]))
    (root / "index.csv").write_text("\n".join(lines))
    found = open_dataset("csv", root).train.attributes
    for name, (_, expected) in columns.items():
        assert found[name].tolist() == expected


def test_long_camera_numbers_are_replaced_by_ranks_over_all_splits(write_images):
    root = write_images(["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    (root / "index.csv").write_text(
        "path,camid,split\n1.jpg,192168001010,train\n2.jpg,7,query\n"
        "3.jpg,20240131,gallery\n4.jpg,,gallery\n"
    )
    dataset = open_dataset("csv", root)
    splits = (dataset.train, dataset.query, dataset.gallery)
    assert [s.camids.tolist() for s in splits] == [[2], [0], [1, NO_CAMERA]]
    names = ["bounding_box_train/0001_c9999.jpg", "query/0002_c10000.jpg"]
    root = write_images([*names, "bounding_box_test/0002_c12.jpg"], root="market")
    dataset = open_dataset("auto", root)
    splits = (dataset.train, dataset.query, dataset.gallery)
    assert [s.camids.tolist() for s in splits] == [[1], [2], [0]]


def test_a_csv_that_is_no_text_is_refused(write_images):
    root = write_images(["1.jpg"])
    with refused("cannot be read as a CSV file in UTF-8"):
        open_dataset("csv", root / "1.jpg")


def test_missing_and_empty_folders_are_named(tmp_path):
    for kind in ("auto", "market1501", "msmt17", "veri776", "csv", "synthcity"):
        with refused(f"there is no folder {tmp_path}/gone; correct the path"):
            open_dataset(kind, tmp_path / "gone")
        with refused(f"the folder {tmp_path} is empty; unpack the data set into it"):
            open_dataset(kind, tmp_path)


def test_a_wrong_layout_says_what_was_looked_for(market_root):
    (market_root / "query").rename(market_root / "queries")
    with refused(
        "is not a market1501 folder: looked for bounding_box_train, query, "
        r"bounding_box_test, missing query \(found bounding_box_test, "
        r"bounding_box_train, queries\); give the folder that holds them"
    ):
        open_dataset("market1501", market_root)
    with refused("looked for image_train, image_query, image_test, missing image_"):
        open_dataset("veri776", market_root)
    with refused("holds no index.csv .*; write one with the columns path"):
        open_dataset("csv", market_root)
    with refused("holds no data set: looked for bounding_box_train"):
        open_dataset("auto", market_root)


def test_a_file_for_a_folder_is_refused(write_images):
    root = write_images(["1.jpg"])
    with refused("1.jpg is a file; give the folder of the data set"):
        open_dataset("market1501", root / "1.jpg")


def test_an_empty_sub_folder_is_named(market_root):
    for file in (market_root / "query").iterdir():
        file.unlink()
    (market_root / "query" / "Thumbs.db").write_bytes(b"")
    with refused("set/query holds no image"):
        open_dataset("market-style", market_root)


def test_file_names_without_person_and_camera_are_counted(market_root, write_images):
    write_images(["query/portrait.jpg"])
    with refused(
        "1 of 3 file names in query do not begin with <person>_c<camera>, the first is "
        "query/portrait.jpg; rename them, or write an index and open it as 'csv'"
    ):
        open_dataset("market-style", market_root)


@pytest.mark.parametrize(
    "name", ["0002_c1²_x.jpg", "0002_c1e5.jpg", "0002_c1s.jpg", "-2_c1.jpg"]
)
def test_file_names_of_other_forms_are_refused(market_root, write_images, name):
    write_images([f"bounding_box_test/{name}"])
    with refused(f"1 of 6 file names .* do not begin .* first is .*{name}; rename"):
        open_dataset("market-style", market_root)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("0002_c1s1_000451_03.jpg", (2, 1)),
        ("0001_c2_f0046182.jpg", (1, 2)),
        ("0002_c002_00030600_0.jpg", (2, 2)),
        ("0002_c12-7.jpeg", (2, 12)),
        ("-01_c3.jpg", (JUNK, 3)),
    ],
)
def test_published_file_names_are_read(write_images, name, row):
    names = ["bounding_box_train/0001_c0.png", f"bounding_box_test/{name}"]
    root = write_images([*names, "query/0002_c1_x.jpg"])
    gallery = open_dataset("market-style", root, keep_junk=True).gallery
    assert rows(gallery) == [(names[1], *row)]


def test_litter_is_ignored(market_root, recwarn):
    for name in ("$RECYCLE.BIN", "@eaDir", "Icon\r", "ehthumbs.db"):
        (market_root / "query" / name).mkdir()
    assert len(open_dataset("market-style", market_root).query) == 2
    assert not recwarn.list


def test_errors_of_the_file_system_are_told_in_one_line(market_root):
    with refused("root is 5; give the path of a folder or of an index"):
        open_dataset("csv", 5)
    for kind in ("auto", "csv"):
        with refused("xx cannot be read .*; correct the path"):
            open_dataset(kind, market_root / ("x" * 300))
    loop = market_root / "query" / "0003_c1_loop.jpg"
    loop.symlink_to(loop)
    with refused("0003_c1_loop.jpg cannot be read .*restore or remove it"):
        open_dataset("market-style", market_root)
    (market_root / "query").rename(market_root / "away")
    (market_root / "query").write_text("")
    with refused("query cannot be read .*; correct the path"):
        open_dataset("market-style", market_root)


def test_numbers_in_file_names_that_are_too_long_are_refused(market_root, write_images):
    write_images([f"query/{10**20}_c1.jpg"])
    with refused("1 of 3 file names in query do not begin .*; numbers go up to 46116"):
        open_dataset("market-style", market_root)


def test_person_zero_in_training_is_refused(write_images, market_root):
    write_images(["bounding_box_train/0000_c1.jpg"])
    with refused("0000_c1.jpg and 0 more of train have person id 0, which marks a"):
        open_dataset("market-style", market_root)


def test_unknown_kinds_and_options_are_refused(market_root):
    with refused("kind 'market' is not known: choose one of market1501, msmt17"):
        open_dataset("market", market_root)
    with refused("data set 'market1501' needs a folder"):
        open_dataset("market1501")
    with refused("unreadable='drop': choose 'trust', 'refuse' or 'skip'"):
        open_dataset("csv", market_root, unreadable="drop")


def test_kinds_are_told_from_the_contents(write_images, market_root):
    assert detect_kind(market_root) == "market-style"
    renamed = market_root.rename(market_root.with_name("Market-1501-v15.09.15"))
    assert detect_kind(renamed) == "market1501"
    write_images(["1.jpg"], root="crops")
    (market_root.parent / "crops" / "index.csv").write_text("path\n1.jpg\n")
    assert detect_kind(market_root.parent / "crops") == "csv"
    assert detect_kind(market_root.parent / "crops" / "index.csv") == "csv"


def test_unreadable_images_are_refused_skipped_or_trusted(market_root):
    bad = market_root / "query" / "0003_c1s1_000001_00.jpg"
    bad.write_text("no image")
    assert len(open_dataset("market-style", market_root).query) == 2
    with refused("1 images of .* cannot be read: .*0003_c1s1_000001_00.jpg is not an"):
        open_dataset("market-style", market_root, unreadable="refuse")
    with pytest.warns(UserWarning, match="1 images of .* were left out: .*0003_c1s1"):
        dataset = open_dataset("market-style", market_root, unreadable="skip")
    assert dataset.query.paths == ("query/0004_c6s1_000001_00.jpg",)
    assert dataset.num_junk == 2


def test_synthcity_is_a_market_layout_with_its_own_name(tiny):
    assert tiny.name == "synthcity"
    assert detect_kind(tiny.root) == "synthcity"
    assert tiny.train.has_identities
    assert tiny.train.has_cameras
    assert set(tiny.query.pids) <= set(tiny.gallery.pids)
    assert not set(tiny.train.pids) & set(tiny.query.pids)
    with Image.open(tiny.train.file(0)) as image:
        assert np.asarray(image).ndim == 3


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_manifest_that_is_no_file_is_not_taken_for_none(market_root, kind):
    mark = market_root / "manifest.json"
    if kind == "folder":
        mark.mkdir()
    elif kind == "pipe":
        os.mkfifo(mark)
    else:
        mark.symlink_to("nowhere.json")
    with refused("manifest.json is no file; remove it, or name the kind"):
        open_dataset("auto", market_root)
    assert open_dataset("market-style", market_root).name == "market-style"
