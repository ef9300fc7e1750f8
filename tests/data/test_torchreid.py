"""SynthCity read by the Market-1501 loader of another library, torchreid 0.2.5."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest

from reidlib.paths import cache_dir

PACKAGE = "torchreid-0.2.5"

# The loader and its imports are used unchanged. Only the __init__ files of its parent
# packages are skipped: they would import every model of the package.
RUN_LOADER = """
import json, sys, types, warnings
from pathlib import Path

warnings.simplefilter("ignore")
source, root = Path(sys.argv[1]), sys.argv[2]
parts = ["torchreid", "reid", "data", "datasets", "image"]
packages = [parts[:n] for n in range(1, 6)] + [["torchreid", "reid", "utils"]]
for package in packages:
    module = types.ModuleType(".".join(package))
    module.__path__ = [str(source.joinpath(*package))]
    sys.modules[module.__name__] = module

from torchreid.reid.data.datasets.image.market1501 import Market1501

dataset = Market1501(root=root, verbose=False)
splits = ("train", "query", "gallery")
print(json.dumps({
    "module": sys.modules["torchreid.reid.data.datasets.image.market1501"].__file__,
    "cameras": dataset.num_train_cams,
    "people": dataset.num_train_pids,
    **{split: [row[:3] for row in getattr(dataset, split)] for split in splits},
}))
"""


def download() -> Path:
    """Return the unpacked source of torchreid, from the package registry or a cache."""
    target = cache_dir() / "packages" / PACKAGE
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps"]
        command += ["--no-build-isolation", "--no-binary", "torchreid"]
        command += ["--dest", folder, PACKAGE.replace("-", "==")]
        environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=120, env=environment
            )
        except subprocess.TimeoutExpired:
            pytest.skip("the package registry does not answer")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"torchreid 0.2.5 cannot be downloaded: {reason}")
        with tarfile.open(Path(folder) / f"{PACKAGE}.tar.gz") as archive:
            # Python 3.11.3 and older have no filters.
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(folder, **safe)
        (Path(folder) / PACKAGE).rename(target)
    return target


@pytest.fixture(scope="module")
def theirs(tiny_root, tmp_path_factory) -> dict:
    source = download()
    root = tmp_path_factory.mktemp("torchreid")
    (root / "market1501").symlink_to(tiny_root, target_is_directory=True)
    done = subprocess.run(
        [sys.executable, "-c", RUN_LOADER, str(source), str(root)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert Path(result["module"]).is_relative_to(source)
    return result


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_both_libraries_read_the_same(theirs, tiny, split):
    table = getattr(tiny, split)
    rows = sorted((Path(path).name, pid, camid) for path, pid, camid in theirs[split])
    assert len(rows) == len(table)
    names, pids, camids = zip(*rows, strict=True)
    order = np.argsort([Path(path).name for path in table.paths])
    assert [Path(table.paths[row]).name for row in order] == list(names)
    np.testing.assert_array_equal(table.camids[order], camids)
    if split == "train":
        # torchreid renumbers training labels, so only the grouping is compared.
        pairs = set(zip(table.pids[order].tolist(), pids, strict=True))
        assert len(pairs) == table.num_pids == theirs["people"]
        assert table.num_cams == theirs["cameras"]
    else:
        np.testing.assert_array_equal(table.pids[order], pids)
