"""Features in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support import full_disk

from reidlib.data import ImageTable
from reidlib.deploy import load_embeddings, save_embeddings
from reidlib.errors import DamagedError, ReIDError


@pytest.fixture
def table():
    columns = {"frame": np.array([3, 9]), "person": np.array(["bo", "al"])}
    ids = np.array([7, -2]), np.array([-1, 2])
    return ImageTable(Path("crops"), ("a b.jpg", "ü.jpg"), *ids, columns)


FEATURES = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])


@pytest.fixture(params=[".npz", ".parquet"])
def suffix(request):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return request.param


def test_what_is_written_is_read(tmp_path, table, suffix):
    path = tmp_path / f"x{suffix}"
    file = save_embeddings(path, FEATURES, table, "f" * 64, "runs/x")
    found = load_embeddings(file)
    assert torch.equal(found.features, FEATURES)
    assert found.table.paths == table.paths
    assert found.table.root == table.root.absolute()
    assert (found.fingerprint, found.model) == ("f" * 64, "runs/x")
    for name in ("pids", "camids"):
        np.testing.assert_array_equal(getattr(found.table, name), getattr(table, name))
    for name, column in table.attributes.items():
        np.testing.assert_array_equal(found.table.attributes[name], column)
        assert found.table.attributes[name].dtype.kind == column.dtype.kind
    # NumPy or pandas alone can read it.
    if suffix == ".npz":
        with np.load(file) as arrays:
            np.testing.assert_array_equal(arrays["features"], FEATURES.numpy())
    else:
        frame = pd.read_parquet(file)
        assert frame["path"].tolist() == list(table.paths)
        np.testing.assert_array_equal(np.stack(frame["features"]), FEATURES.numpy())


def test_other_parquet_files_are_refused(tmp_path):
    pytest.importorskip("pyarrow")
    file = tmp_path / "x.parquet"
    pd.DataFrame({"path": ["a"]}).to_parquet(file)
    with pytest.raises(DamagedError, match="it was not written by reidlib"):
        load_embeddings(file)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DamagedError, match="is damaged"):
        load_embeddings(file)


def test_a_file_is_never_replaced_nor_left_in_parts(tmp_path, table, suffix):
    file = save_embeddings(tmp_path / f"x{suffix}", FEATURES, table, "f")
    with pytest.raises(ReIDError, match="already exists"):
        save_embeddings(file, FEATURES, table, "f")
    with full_disk(100), pytest.raises(ReIDError, match="cannot be written"):
        save_embeddings(tmp_path / f"y{suffix}", FEATURES, table, "f")
    assert [f.name for f in tmp_path.iterdir()] == [f"x{suffix}"]


def test_what_does_not_fit_is_refused(tmp_path, table):
    with pytest.raises(ReIDError, match="1 features for 2 images"):
        save_embeddings(tmp_path / "x.npz", FEATURES[:1], table, "f")
    with pytest.raises(ReIDError, match=r"\.npz"):
        save_embeddings(tmp_path / "x.csv", FEATURES, table, "f")
    own = ImageTable(
        table.root, table.paths, table.pids, table.camids, {"pids": [1, 2]}
    )
    with pytest.raises(ReIDError, match="column 'pids'"):
        save_embeddings(tmp_path / "x.npz", FEATURES, own, "f")
    with pytest.raises(ReIDError, match="length"):
        save_embeddings(tmp_path / "x.npz", 2 * FEATURES, table, "f")


def test_columns_as_pandas_has_them_are_read_again(tmp_path, table):
    columns = {"person": np.array(["bo", "al"], dtype=object)}
    own = ImageTable(table.root, table.paths, table.pids, table.camids, columns)
    found = load_embeddings(save_embeddings(tmp_path / "x.npz", FEATURES, own, "f"))
    assert found.table.attributes["person"].tolist() == ["bo", "al"]
    for name in ("file", "allow_pickle"):  # arguments of NumPy's own
        columns = {name: np.array([1, 2])}
        own = ImageTable(table.root, table.paths, table.pids, table.camids, columns)
        with pytest.raises(ReIDError, match=f"column '{name}', a name that the file"):
            save_embeddings(tmp_path / "y.npz", FEATURES, own, "f")


def test_no_flipped_bit_gives_anything_but_a_line(tmp_path, table, suffix):
    file = save_embeddings(tmp_path / f"x{suffix}", FEATURES, table, "f")
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        try:
            found = load_embeddings(file)
        except DamagedError:
            continue
        assert torch.equal(found.features, FEATURES)
        assert found.table.pids.tolist() == table.pids.tolist()
        assert found.table.camids.tolist() == table.camids.tolist()


def test_a_damaged_file_is_named(tmp_path, table):
    file = save_embeddings(tmp_path / "x.npz", FEATURES, table, "f")
    whole = file.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(DamagedError, match=r"x\.npz is damaged"):
            load_embeddings(file)
    flipped = bytearray(whole)
    flipped[200] ^= 1  # within the features: the archive has a checksum
    file.write_bytes(flipped)
    with pytest.raises(DamagedError, match=r"x\.npz is damaged"):
        load_embeddings(file)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for other in (tmp_path / "other.npz", tmp_path / "gone.npz"):
        with pytest.raises(DamagedError, match=other.name):
            load_embeddings(other)


@pytest.mark.parametrize("paths", [[1, 2], [["a"], ["b"]], [b"a", b"b"]])
def test_names_of_images_are_texts(tmp_path, table, paths):
    file = save_embeddings(tmp_path / "x.npz", FEATURES, table, "f")
    with np.load(file) as arrays:
        np.savez(file, **{**arrays, "paths": np.array(paths)})
    with pytest.raises(DamagedError, match=r"x\.npz is damaged .*paths hold"):
        load_embeddings(file)


def test_empty_cells_are_no_names(tmp_path, table):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    file = save_embeddings(tmp_path / "x.parquet", FEATURES, table, "f")
    names = pa.array(["a b.jpg", None])
    pq.write_table(pq.read_table(file).set_column(0, "path", names), file)
    with pytest.raises(DamagedError, match="1 rows have no 'path'"):
        load_embeddings(file)


def test_a_column_that_is_there_twice_is_told_in_one_line(tmp_path, table):
    pq = pytest.importorskip("pyarrow.parquet")
    file = save_embeddings(tmp_path / "x.parquet", FEATURES, table, "f")
    content = pq.read_table(file)
    pq.write_table(content.append_column("pid", content["pid"]), file)
    with pytest.raises(DamagedError, match=r"x\.parquet is damaged") as caught:
        load_embeddings(file)
    assert "\n" not in str(caught.value)
