"""The image table and the data set."""

from __future__ import annotations

import numpy as np
import pytest

from reidlib.data.table import DISTRACTOR, JUNK, UNKNOWN, ImageTable, ReIDDataset
from reidlib.errors import ReIDError


def make_table(root, pids, camids):
    paths = [f"{i:03d}.jpg" for i in range(len(pids))]
    for path in paths:
        (root / path).write_bytes(b"x" * 10)
    return ImageTable(root, tuple(paths), np.array(pids), np.array(camids))


def test_counts_leave_out_junk_distractors_and_unknown(tmp_path):
    table = make_table(
        tmp_path, [JUNK, DISTRACTOR, UNKNOWN, 3, 3, 7], [0, 1, -1, 1, 2, 2]
    )
    assert table.num_pids == 2
    assert table.num_cams == 3
    assert not table.has_identities
    assert not table.has_cameras


def test_rows_can_be_chosen_by_mask_index_and_slice(tmp_path):
    table = make_table(tmp_path, [3, 5, 7, 5], [0, 1, 2, 3])
    assert table[table.pids == 5].paths == ("001.jpg", "003.jpg")
    assert table[[2, 0]].pids.tolist() == [7, 3]
    assert table[1:3].camids.tolist() == [1, 2]
    assert table.labels.tolist() == [0, 1, 2, 1]


def test_a_column_of_another_length_is_an_error(tmp_path):
    with pytest.raises(ReIDError, match="'camids' has 1 rows for 2 images"):
        ImageTable(tmp_path, ("a.jpg", "b.jpg"), np.array([1, 2]), np.array([0]))


@pytest.mark.parametrize("paths", ["ab", [1, 2], [b"a", b"b"], [["a"], ["b"]], None])
def test_names_of_images_are_texts(tmp_path, paths):
    with pytest.raises(ReIDError, match=r"image table of .*: paths hold .*; give a"):
        ImageTable(tmp_path, paths, [1, 2], [0, 0])


def test_names_and_columns_become_what_they_are_said_to_be(tmp_path):
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    table = ImageTable(str(tmp_path), paths, [1, 2], [0, 0], {"age": [30, 40]})
    assert table.paths == (str(paths[0]), str(paths[1]))
    assert table[[1]].attributes["age"].tolist() == [40]
    with pytest.raises(ReIDError, match="column 'age' has 1 rows for 2 images"):
        ImageTable(tmp_path, paths, [1, 2], [0, 0], {"age": 30})


def test_ids_are_taken_as_people_have_them(tmp_path):
    paths = ("a.jpg", "b.jpg")
    table = ImageTable(
        tmp_path, paths, np.array([[3.0], [5.0]]), np.array([1, 0])[::-1]
    )
    assert table.pids.tolist() == [3, 5]
    assert table.camids.tolist() == [0, 1]
    for name, columns in (
        ("pids", ([1.5, 2], [0, 1])),
        ("camids", ([1, 2], [0, np.nan])),
    ):
        with pytest.raises(ReIDError, match=f"image table of .* 1 of 2 {name} are not"):
            ImageTable(tmp_path, paths, *columns)


def test_fingerprint_depends_on_identities_names_and_contents(tmp_path):
    table = make_table(tmp_path, [1, 2], [0, 1])
    empty = table[:0]
    dataset = ReIDDataset("x", table, empty, empty)
    first = dataset.fingerprint()
    assert first == ReIDDataset("x", table, empty, empty).fingerprint()
    assert first != ReIDDataset("x", table[[1, 0]], empty, empty).fingerprint()
    assert first != ReIDDataset("x", empty, table, empty).fingerprint()
    (tmp_path / "000.jpg").write_bytes(b"y" * 10)  # of the same length
    assert first != dataset.fingerprint()
    (tmp_path / "000.jpg").write_bytes(b"x" * 10)
    assert first == dataset.fingerprint()
    (tmp_path / "000.jpg").unlink()
    with pytest.raises(ReIDError, match=r"000.jpg cannot be read .*restore it"):
        dataset.fingerprint()


@pytest.mark.parametrize(
    "ids",
    [
        np.array([2**63 + 5], np.uint64),
        *([10**20], [1.5], [float("nan")], [2.0**60], ["0002_1"], [True], [[1, 2]]),
    ],
    ids=str,
)
@pytest.mark.parametrize("column", ["pids", "camids"])
def test_ids_are_whole_numbers_that_fit(tmp_path, ids, column):
    columns = {"pids": [1], "camids": [0], column: ids}
    told = f"image table of .*: .*{column} .*; give (real|whole) numbers"
    with pytest.raises(ReIDError, match=told):
        ImageTable(tmp_path, ("a.jpg",), **columns)


def test_ids_of_other_types_keep_their_values(tmp_path):
    same = [np.array([7.0]), np.array([7], np.uint64), np.array([7], ">i2")]
    for ids in [*same, np.array([7], object), (7,)]:
        table = ImageTable(tmp_path, ("a.jpg",), ids, ids)
        assert table.pids.dtype == table.camids.dtype == np.int64
        assert table.pids.tolist() == table.camids.tolist() == [7]
    assert ImageTable(tmp_path, (), [], []).pids.dtype == np.int64
