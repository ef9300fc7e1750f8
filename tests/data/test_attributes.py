"""The attribute file of Market-1501 as published."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from reidlib.data import ImageTable, attributes, read_market_attributes
from reidlib.data.attributes import (
    ATTRIBUTE_GROUPS,
    ATTRIBUTE_NAMES,
    attributes_hash,
)
from reidlib.errors import ReIDError


def fields(people, seed, order):
    """One split as in the file: a struct of (1, P) rows and a cell of names."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(1, 3, (1, len(people))) for name in ATTRIBUTE_NAMES}
    columns["age"] = rng.integers(1, 5, (1, len(people)))
    for names in (ATTRIBUTE_NAMES[10:18], ATTRIBUTE_NAMES[18:]):
        worn = rng.integers(0, len(names), len(people))
        for number, name in enumerate(names):
            columns[name] = 1 + (worn == number)[None].astype(int)
    columns["image_index"] = np.array([list(people)], dtype=object)
    return {name: columns[name] for name in order(list(columns))}


@pytest.fixture
def content():
    # As in the published file, the splits store their fields in different orders.
    train = fields(("0002", "0007", "0010"), 0, order=sorted)
    test = fields(("0001", "1501"), 1, order=reversed)
    train["upred"][0, 1] = 1
    for name in ATTRIBUTE_NAMES[10:18]:
        train[name][0, 1] = 1  # nothing marked for 0007
    test["downblack"][0, 1] = test["downblue"][0, 1] = 2  # two marked for 1501
    return {"train": train, "test": test}


def refused(message):
    return pytest.raises(ReIDError, match=message)


def write(tmp_path, content, name="market_attribute"):
    file = tmp_path / "market_attribute.mat"
    savemat(file, {name: content})
    return file


def test_there_are_27_attributes_in_12_groups():
    assert len(ATTRIBUTE_NAMES) == len(set(ATTRIBUTE_NAMES)) == 27
    assert len(ATTRIBUTE_GROUPS) == 12
    # Nine of the groups have two classes.
    sizes = [len(classes) for classes in ATTRIBUTE_GROUPS.values()]
    assert sizes == [2] * 9 + [4, 8, 9]


def test_rows_belong_to_image_index_whatever_the_order_of_fields(tmp_path, content):
    attributes = read_market_attributes(write(tmp_path, content))
    assert list(attributes.train) == [2, 7, 10]
    assert list(attributes.test) == [1, 1501]
    for split, people in (("train", attributes.train), ("test", attributes.test)):
        for row, values in enumerate(people.values()):
            expected = [content[split][name][0, row] for name in ATTRIBUTE_NAMES]
            assert values.tolist() == expected


def test_tables_get_values_and_classes(tmp_path, content):
    attributes = read_market_attributes(write(tmp_path, content).parent)
    pids = np.array([1501, 2, -1, 0, 7, 2])
    table = ImageTable(tmp_path, [f"{i}.jpg" for i in range(6)], pids, np.zeros(6))
    values, classes = attributes.for_table(table)
    assert values.shape == (6, 27)
    assert classes.shape == (6, 12)
    np.testing.assert_array_equal(values[0], attributes.test[1501])
    np.testing.assert_array_equal(values[[1, 5]], [attributes.train[2]] * 2)
    assert (values[2:4] == 0).all()
    assert (classes[2:4] == -1).all()
    groups = list(ATTRIBUTE_GROUPS)
    for row in (0, 1, 4):
        for name in ATTRIBUTE_NAMES[:10]:
            expected = values[row, ATTRIBUTE_NAMES.index(name)] - 1
            assert classes[row, groups.index(name)] == expected
    for group, prefix in (("upcolour", "up"), ("downcolour", "down")):
        colour = ATTRIBUTE_GROUPS[group][classes[1, groups.index(group)]]
        assert values[1, ATTRIBUTE_NAMES.index(prefix + colour)] == 2
    assert classes[4, groups.index("upcolour")] == -1
    assert classes[0, groups.index("downcolour")] == -1
    assert (classes[[0, 1, 4]] >= 0).sum() == 3 * 12 - 2


def test_people_without_one_colour_are_marked(tmp_path, content):
    attributes = read_market_attributes(write(tmp_path, content))
    assert attributes.no_colour["upcolour"] == (7,)
    assert attributes.no_colour["downcolour"] == (1501,)


def test_synthcity_describes_everyone_it_draws(tiny):
    attributes = read_market_attributes(tiny.root)
    _values, classes = attributes.for_table(tiny.train)
    assert set(attributes.train) == set(tiny.train.pids)
    assert set(attributes.test) == set(tiny.query.pids)
    assert (classes[:, :10] >= 0).all()


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_every_image_has_the_attributes_of_its_person_in_the_file(tiny, split):
    table = getattr(tiny, split)
    _values, classes = read_market_attributes(tiny.root).for_table(table)
    raw = loadmat(tiny.root / "market_attribute.mat", simplify_cells=True)
    part = raw["market_attribute"]["train" if split == "train" else "test"]
    column = {int(pid): n for n, pid in enumerate(part["image_index"])}
    assert set(table.pids) - {0, -1} <= set(column)
    for row, pid in enumerate(table.pids):
        if pid not in column:  # junk and distractors
            assert (classes[row] == -1).all()
            continue
        at = column[pid]
        for group, (name, names) in enumerate(ATTRIBUTE_GROUPS.items()):
            if group < 10:
                expected = part[name][at] - 1
            else:
                prefix = name.removesuffix("colour")
                worn = [part[prefix + colour][at] == 2 for colour in names]
                expected = worn.index(True) if sum(worn) == 1 else -1
            assert classes[row, group] == expected, (split, row, name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["train"].pop("hat"), "train has no field hat; expected the 27"),
        (lambda c: c["test"].pop("image_index"), "test has no field image_index"),
        (lambda c: c.pop("test"), "expected the variable market_attribute with the"),
        (
            lambda c: c["train"].update(image_index=np.array(["0002"], dtype=object)),
            "train has 3 rows for the 1 people of image_index",
        ),
        (
            lambda c: c["train"].update(hat=np.ones((1, 2))),
            "fields of train are not numeric columns of equal length",
        ),
        (
            lambda c: c["train"].update(hat=np.array([[1, 0, 2]])),
            "hat of person 7 is 0, expected 1 to 2",
        ),
        (
            lambda c: c["train"].update(
                image_index=np.array(["2", "x", "3"], dtype=object)
            ),
            "fields of train are not numeric columns",
        ),
        (
            lambda c: c["train"].update(
                image_index=np.array(["2", "1_0", "3"], dtype=object)
            ),
            "not all of them are whole numbers",
        ),
        (
            lambda c: c["train"].update(image_index=np.array([2, 2.5, 3])),
            "not all of them are whole numbers",
        ),
        (
            lambda c: c["train"].update(hat=np.array([[1, 1.5, 2]])),
            "not all of them are whole numbers",
        ),
        (lambda c: c.update(train=3.0), "train is a float and no struct of columns"),
        (
            lambda c: c["train"].update(hat=np.ones((2, 3))),
            "fields of train are not numeric columns of equal length",
        ),
        (
            lambda c: c["train"].update({n: np.ones((3, 2)) for n in ATTRIBUTE_NAMES}),
            "a column has several values for each person",
        ),
        (
            lambda c: c.update(
                {s: {key: [] for key in (*ATTRIBUTE_NAMES, "image_index")} for s in c}
            ),
            "describes no person",
        ),
        (
            lambda c: c["train"].update(
                image_index=np.array(["2", "7", "02"], dtype=object)
            ),
            "train names 1 people more than once in image_index",
        ),
        (
            lambda c: c["test"].update(
                image_index=np.array(["7", "1501"], dtype=object)
            ),
            "1 people in train and in test, and not alike .the first is 7",
        ),
    ],
)
def test_files_of_another_layout_are_refused(tmp_path, content, change, message):
    change(content)
    with refused(message) as caught:
        read_market_attributes(write(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_damaged_file_ends_neither_the_process_nor_the_memory(tmp_path, content):
    content["train"]["age"] = np.ones((1, 3))
    file = write(tmp_path, content)
    whole = file.read_bytes()
    tag = whole.index(b"\x09\0\0\0\x18\0\0\0")  # three numbers of double precision
    # A type that there is not, which SciPy looks up beyond the end of its table; and a
    # variable of 2^29 structs, 4 GiB of pointers.
    for place, value in ((tag + 1, 4), (163, 32)):
        file.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        with refused("damaged.* download it again"):
            read_market_attributes(file)


def test_the_hash_of_a_file_leaves_out_when_it_was_written(tmp_path, content):
    file = write(tmp_path, content)
    whole, before = file.read_bytes(), attributes_hash(tmp_path)
    file.write_bytes(b"MATLAB 5.0 MAT-file, another day".ljust(116) + whole[116:])
    assert attributes_hash(file) == before
    content["train"]["hat"][0, 0] = 3 - content["train"]["hat"][0, 0]
    write(tmp_path, content)
    assert attributes_hash(file) != before
    with refused("cannot be read"):
        attributes_hash(tmp_path / "none.mat")


def test_missing_and_foreign_files_are_refused(tmp_path, content):
    with refused("there is no attribute file .*put it there"):
        read_market_attributes(tmp_path)
    with refused("holds duke_attribute: expected the variable"):
        read_market_attributes(write(tmp_path, content, "duke_attribute"))
    (tmp_path / "text.mat").write_text("not a matrix, but long enough to be read" * 9)
    with refused("text.mat is not a MATLAB file of version 5"):
        read_market_attributes(tmp_path / "text.mat")


def test_what_ends_the_reader_is_told_from_damage(tmp_path, content, monkeypatch):
    def error(code=None):
        """What is said of a file, where the reader does something first."""
        if code is not None:
            monkeypatch.setattr(attributes, "_CHILD", f"{code}\n{child}")
        attributes._load.cache_clear()
        with pytest.raises(ReIDError) as raised:
            read_market_attributes(file)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    file, child = write(tmp_path, content), attributes._CHILD
    signals = "import os, signal; os.kill(os.getpid(), signal."
    for name in ("SIGKILL", "SIGSEGV"):
        told = error(f"{signals}{name})")
        assert f"could not be read: {name} ended the process" in told
        assert "memory was short, or the file is damaged" in told
    for code in ("raise SystemExit(0)", "print('<reidlib>\\x80'); raise SystemExit(0)"):
        assert "ended with status 0 and said nothing" in error(code)
    assert "No module named 'nothing'" in (told := error("import nothing"))
    assert "download" not in told
    monkeypatch.setattr(attributes, "_CHILD", f"print('hello')\n{child}\nprint('bye')")
    monkeypatch.setenv("PYTHONHASHSEED", "-5")
    attributes._load.cache_clear()
    assert read_market_attributes(file).train
    for none in (None, ""):
        monkeypatch.setattr(sys, "executable", none)
        assert "Python does not say where it is itself" in error()


def test_files_of_another_version_and_pipes_say_what_to_do(tmp_path):
    file = tmp_path / "market_attribute.mat"
    header = b"MATLAB 7.3 MAT-file, HDF5".ljust(124) + b"\x00\x02IM"
    file.write_bytes(header + bytes(512))
    with refused(r"v7.3 .*; save it in MATLAB with the option -v7"):
        read_market_attributes(file)
    file.unlink()
    os.mkfifo(file)
    with refused("is a pipe or a device and no file; remove it"):
        read_market_attributes(tmp_path)
