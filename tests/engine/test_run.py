"""A run: its folder, its epochs, and how it ends."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.engine import DivergedError, Run, load_checkpoint, manifest
from reidlib.engine.cache import cached_run, run_key
from reidlib.engine.manifest import _plain, _reached, code_hash
from reidlib.engine.run import open_fabric
from reidlib.errors import ReIDError


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    precision: str = "32-true"
    epochs: int = 3
    lr: float = 0.1


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    table = ImageTable(tmp_path, ("a.jpg",), np.array([1]), np.array([0]))
    return ReIDDataset("one", table, table[:0], table[:0])


def open_run(folder, dataset, config=None, **options):
    config = config or Settings()
    options = {"progress": False, "device": "cpu", **options}
    return Run(folder, recipe="toy", config=config, dataset=dataset, **options)


def fit(run, stop_after=None, poison=None):
    """Fit a line to noise; every source of randomness is used."""
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=run.config.lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
    layer, optimizer = run.setup(layer, optimizer)
    run.track(layer=layer, optimizer=optimizer, schedule=schedule)
    for epoch in run.epochs(run.config.epochs):
        for batch in range(4):
            x = torch.randn(8, 2, generator=run.generator) + torch.randn(1)
            y = x.sum(1, keepdim=True) + float(np.random.rand())
            loss = (layer(x) - y).square().mean()
            if poison == (epoch, batch):
                loss = loss * float("nan")
            run.step(loss, optimizer)
        schedule.step()
        run.record(loss=run.mean_loss, lr=schedule.get_last_lr()[0])
        if stop_after == epoch:
            raise KeyboardInterrupt
    return run.finish({"w": layer.weight.detach().flatten().tolist()})


def without_times(epochs):
    return [{k: v for k, v in e.items() if k != "seconds"} for e in epochs]


def test_a_resumed_run_gives_the_numbers_of_an_uninterrupted_one(tmp_path, dataset):
    with open_run(tmp_path / "whole", dataset) as run:
        whole = fit(run)
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "cut", dataset) as run:
        fit(run, stop_after=1)  # after the work of epoch 2, before its checkpoint
    manifest = json.loads((tmp_path / "cut" / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"
    assert "go on with --resume" in (tmp_path / "cut" / "log.txt").read_text()
    with open_run(tmp_path / "cut", dataset, resume=True) as run:
        cut = fit(run)
    # A run that began again from nothing would give the same numbers.
    assert "resumed after epoch 1" in (tmp_path / "cut" / "log.txt").read_text()
    assert cut["metrics"] == whole["metrics"]
    assert without_times(cut["epochs"]) == without_times(whole["epochs"])
    lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    # Both parts are on record: they may come from two commits or two machines.
    assert [part["started"] for part in cut["earlier"]] == [manifest["started"]]
    assert cut["earlier"][0]["versions"] == cut["versions"]
    assert "earlier" not in whole


def test_a_complete_run_has_its_result_and_others_have_none(tmp_path, dataset):
    with open_run(tmp_path / "run", dataset) as run:
        assert run.result() is None
        result = fit(run)
    with open_run(tmp_path / "run", dataset, resume=True) as run:
        assert run.result() == result


def test_a_gpu_is_chosen_by_its_number():
    with pytest.raises(ReIDError, match="device 'cuda:99' cannot be used here"):
        open_fabric("cuda:99")


def test_seeds_repeat_and_differ(tmp_path, dataset):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with open_run(tmp_path / name, dataset, Settings(seed=seed)) as run:
            weights.append(fit(run)["metrics"]["w"])
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_the_result_file_says_what_the_numbers_depend_on(tmp_path, dataset):
    with open_run(tmp_path / "run", dataset) as run:
        fit(run)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "complete"
    assert result["config"] == {
        "seed": 0,
        "precision": "32-true",
        "epochs": 3,
        "lr": 0.1,
    }
    assert result["dataset"]["sha256"] == dataset.fingerprint()
    assert result["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert len(result["epochs"]) == 3
    assert result["seconds"] >= 0
    events = [p for p in (tmp_path / "run").iterdir() if "tfevents" in p.name]
    assert events
    assert all(p.stat().st_size > 100 for p in events)


def test_a_nan_loss_names_epoch_batch_and_checkpoint(tmp_path, dataset):
    with (
        pytest.raises(DivergedError, match=r"nan in epoch 2, batch 3; the last") as e,
        open_run(tmp_path / "run", dataset) as run,
    ):
        fit(run, poison=(1, 2))
    assert "last.safetensors" in str(e.value)
    assert "\n" not in str(e.value)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "failed"


def test_weights_that_are_not_finite_never_become_a_checkpoint(tmp_path, dataset):
    """The loss of an epoch's last batch can be finite and its gradient not."""

    def poison(run):
        layer = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        layer, optimizer = run.setup(layer, optimizer)
        run.track(layer=layer)
        for epoch in run.epochs(2):
            factor = 0.0 if epoch == 0 else float("inf")
            run.step((layer(torch.ones(1, 2)) * 0.0).sum(), optimizer)
            layer.weight.data.mul_(1.0 + factor)

    with (
        pytest.raises(
            DivergedError, match=r"weight of 'layer' is not finite in epoch 2"
        ),
        open_run(tmp_path / "run", dataset) as run,
    ):
        poison(run)
    saved = load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert len(saved["history"]) == 1
    assert saved["objects"]["layer"]["weight"].isfinite().all()


def test_a_device_that_is_not_there_is_named(tmp_path, dataset):
    with pytest.raises(ReIDError, match=r"device 'abacus' cannot be used here"):
        open_run(tmp_path / "run", dataset, device="abacus")


def test_a_full_disk_ends_in_the_line_that_says_so(tmp_path, dataset):
    """The log is on the full disk, too."""
    with open_run(tmp_path / "run", dataset) as run:
        (tmp_path / "run" / "log.txt").unlink()
        (tmp_path / "run" / "log.txt").symlink_to("/dev/full")
        run.log("not lost on the screen")
        fit(run)
    assert (tmp_path / "run" / "result.json").exists()


def test_a_folder_with_a_run_is_never_overwritten(tmp_path, dataset):
    with open_run(tmp_path / "run", dataset) as run:
        fit(run)
    before = (tmp_path / "run" / "result.json").read_bytes()
    with pytest.raises(ReIDError, match="holds a run already"):
        open_run(tmp_path / "run", dataset)
    with pytest.raises(ReIDError, match=r"another config \(lr: 0.1 there, 0.2 now\)"):
        open_run(tmp_path / "run", dataset, Settings(lr=0.2), resume=True)
    (tmp_path / "a.jpg").write_bytes(b"xy")
    with pytest.raises(ReIDError, match="another dataset"):
        open_run(tmp_path / "run", dataset, resume=True)
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_an_unwritable_folder_is_refused_before_any_work(tmp_path, dataset):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ReIDError, match=r"cannot write to .*--out"):
        open_run(tmp_path / "file" / "run", dataset)


def test_unknown_precision_is_refused(tmp_path, dataset):
    with pytest.raises(ReIDError, match="precision 'fp8' is unknown"):
        open_run(tmp_path / "run", dataset, Settings(precision="fp8"))


def train(config, dataset, run):
    return fit(run)


def test_the_cache_runs_once_and_knows_config_and_data(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(train, "__module__", "reidlib.engine.run")
    first, folder = cached_run(train, Settings(), dataset, device="cpu")
    log = (folder / "log.txt").read_text()
    second, same = cached_run(train, Settings(), dataset, device="cpu")
    assert first == second
    assert (folder / "log.txt").read_text() == log  # it was read, not run again
    assert folder == same
    key = run_key(train, Settings(), dataset)
    assert run_key(train, Settings(seed=1), dataset) != key
    (tmp_path / "a.jpg").write_bytes(b"xy")
    assert run_key(train, Settings(), dataset) != key


@pytest.fixture
def hash_with(tmp_path, monkeypatch):
    """Return a function that changes a copy of the library and hashes code of it."""
    import shutil

    copy = tmp_path / "reidlib"
    shutil.copytree(manifest._PACKAGE_ROOT, copy)
    monkeypatch.setattr(manifest, "_PACKAGE_ROOT", copy)

    def hash_now(name, file="errors.py", old="", new=""):
        text = (copy / file).read_text()
        assert old in text
        (copy / file).write_text(text.replace(old, new) if old else text + new)
        code_hash.cache_clear()
        manifest._module.cache_clear()
        try:
            return code_hash(name)
        finally:
            (copy / file).write_text(text)

    yield hash_now
    code_hash.cache_clear()
    manifest._module.cache_clear()


def test_the_code_hash_sees_code_and_not_comments(hash_with):
    name = "reidlib.recipes.baseline.train"
    now = hash_with(name)
    changes = {
        "a comment": ("losses/memory.py", "# Classes do not", "# These do not"),
        "a docstring": ("errors.py", "The one error type", "The only kind of error"),
        "what stands beside": ("recipes/common.py", "", "\n\nUNUSED = 1\n"),
        "another recipe": ("recipes/calr.py", "", "\n\nUNUSED = 1\n"),
        "the manifest": ("engine/manifest.py", "", "\n\nUNUSED = 1\n"),
    }
    for what, change in changes.items():
        assert hash_with(name, *change) == now, what


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("recipes/baseline.py", "schedule.step()", "schedule.step(); schedule.step()"),
        ("recipes/baseline.py", "if found < 2:", "if found < 3:"),  # its own helper
        ("recipes/common.py", "DISTRACTOR", "UNKNOWN"),
        ("losses/memory.py", "stable=True", "stable=False"),  # a method of a class
        ("losses/info_nce.py", "cross_entropy", "nll_loss"),  # two modules away
        ("data/table.py", "NO_CAMERA = -1", "NO_CAMERA = -2"),  # a constant
        ("models/pooling.py", "p: float = 3.0", "p: float = 4.0"),  # by way of a dict
        ("engine/run.py", "", "\nprint('executed on import')\n"),
        # The same name for something else, of another package.
        ("recipes/baseline.py", "import Tensor", "import Size as Tensor"),
        ("losses/memory.py", "nn.functional as F", "special as F"),
    ],
)
def test_the_code_hash_sees_all_that_a_recipe_uses(hash_with, file, old, new):
    name = "reidlib.recipes.baseline.train"
    assert hash_with(name, file, old, new) != hash_with(name)


def test_the_code_hash_follows_modules_and_packages():
    # CALR calls intra_camera.train through the module; engine passes on what is in run.
    assert ("reidlib.recipes.intra_camera", "train") in _reached(
        "reidlib.recipes.calr.train"
    )
    assert ("reidlib.engine.run", "Run") in _reached("reidlib.engine.Run")
    # The cache finds a run again; how it does changes none.
    reached = {module for module, _ in _reached("reidlib.recipes.calr.train")}
    assert not reached & {"reidlib.engine.cache", "reidlib.engine.manifest"}


def test_the_code_hash_takes_no_other_package_for_this_one():
    # It once took torchvision.models for reidlib.models, and so every module of models
    # for one that a recipe needs: a new one made all results stale.
    assert {module for module, _ in _reached("reidlib.models.backbones")} == {
        "reidlib.errors",
        "reidlib.models.backbones",
    }
    needed = {module for module, _ in _reached("reidlib.recipes.direct.train")}
    assert {"reidlib.models.pooling", "reidlib.evaluation.ranking"} <= needed
    assert not needed & {"reidlib.models.cost", "reidlib.recipes.supervised"}
    assert code_hash("torch.nn") == code_hash("numpy")  # of nothing


def test_the_code_hash_does_not_see_the_fields_that_only_some_pythons_have():
    # Python 3.12 gave functions type_params, 3.13 no longer shows empty lists.
    tree = ast.parse("def double(x):\n    return x + x\n")
    before = _plain(tree)
    tree.body[0].type_params = []
    tree.body[0]._fields = (*ast.FunctionDef._fields, "type_params")
    assert _plain(tree) == before
    tree.body[0].name = "twice"
    assert _plain(tree) != before
    values = {repr(_plain(ast.parse(code))) for code in ("x = None", "x = 0", "x = ''")}
    assert len(values) == 3
