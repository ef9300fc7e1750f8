"""A run: its folder, its epochs, and how it ends."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.data.transforms import TestTransform
from reidlib.engine import (
    DivergedError,
    Run,
    load_checkpoint,
    manifest,
    save_checkpoint,
)
from reidlib.engine.cache import cached_features, cached_run, cached_tensors, run_key
from reidlib.engine.manifest import library_hash, read_manifest, read_result
from reidlib.engine.run import open_fabric
from reidlib.errors import DamagedError, ReIDError
from reidlib.models import DualBranchNet, ReIDNet, build_backbone
from reidlib.models.fused import FusedNet, QualityEncoder
from reidlib.recipes.qafm import Classifiers


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
    options = {"progress": False, "device": "cpu", "version": 1, **options}
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
    assert "open it again with resume=True" in (tmp_path / "cut/log.txt").read_text()
    with open_run(tmp_path / "cut", dataset, resume=True) as run:
        cut = fit(run)
    # Equal numbers alone prove nothing: a run from scratch would give them too.
    assert "resumed after epoch 1" in (tmp_path / "cut" / "log.txt").read_text()
    assert cut["metrics"] == whole["metrics"]
    assert without_times(cut["epochs"]) == without_times(whole["epochs"])
    lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    # Both parts are recorded: they may come from two commits or two machines.
    assert [part["started"] for part in cut["earlier"]] == [manifest["started"]]
    assert cut["earlier"][0]["versions"] == cut["versions"]
    assert "earlier" not in whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_leave_by_the_same_door_as_ctrl_c(tmp_path, dataset, number):
    """A batch system ends a job with SIGTERM, a terminal that is closed with SIGHUP."""
    ignored = signal.signal(number, signal.SIG_DFL)  # so it is under nohup
    try:
        _end_by(number, tmp_path, dataset)
    finally:
        signal.signal(number, ignored)


def _end_by(number, tmp_path, dataset):
    before = signal.getsignal(number)

    def terminated(run):
        for epoch in run.epochs(3):
            if epoch:
                signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "run", dataset) as run:
        terminated(run)
    told = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert told["status"] == "interrupted"
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "interrupted in epoch 2; 1 complete epochs are kept" in log
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_ignored(tmp_path, dataset):
    """`nohup` ignores SIGHUP, so that a training survives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with open_run(tmp_path / "run", dataset) as run:
            signal.raise_signal(signal.SIGHUP)
            fit(run)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.result()["status"] == "complete"


def test_two_runs_do_not_work_in_one_folder(tmp_path, dataset):
    with open_run(tmp_path / "run", dataset) as run:
        for resume in (False, True):
            with pytest.raises(
                ReIDError, match=r"another process is working in .*--out"
            ):
                open_run(tmp_path / "run", dataset, resume=resume)
        fit(run)
    # Neither a run that was left nor one that was refused holds the folder.
    with pytest.raises(ReIDError, match="already holds a run"):
        open_run(tmp_path / "run", dataset)
    with open_run(tmp_path / "run", dataset, resume=True) as run:
        assert run.result()


def test_a_complete_run_that_is_resumed_stays_as_it_is(tmp_path, dataset):
    def content():
        files = sorted((tmp_path / "run").iterdir())
        return [(file, file.stat().st_mtime_ns, file.read_bytes()) for file in files]

    with open_run(tmp_path / "run", dataset) as run:
        fit(run)
    before = content()
    with open_run(tmp_path / "run", dataset, resume=True) as run:
        assert run.result()
    with (
        pytest.raises(KeyboardInterrupt),
        open_run(tmp_path / "run", dataset, resume=True),
    ):
        raise KeyboardInterrupt
    assert content() == before


def test_the_time_to_expect_is_told_after_the_first_steps(tmp_path, dataset):
    @dataclass(frozen=True)
    class Longer(Settings):
        iterations: int = 4

    with open_run(tmp_path / "run", dataset, Longer()) as run:
        fit(run)
    log = (tmp_path / "run" / "log.txt").read_text()
    told = re.findall(r"about \d+ s for 3 epochs of 4 steps, by the first 4 steps", log)
    assert len(told) == 1
    assert log.index(told[0]) < log.index("epoch 1/3")


@pytest.mark.parametrize("screen", ["pipe", "closed"])
def test_a_screen_that_is_gone_does_not_end_a_training(
    tmp_path, dataset, screen, monkeypatch
):
    read, write = os.pipe()
    os.close(read)  # the reader, `head` for instance, has left
    with os.fdopen(write, "w", buffering=1) as file, monkeypatch.context() as patch:
        if screen == "closed":
            file.close()
        patch.setattr(sys, "stderr", file)
        with open_run(tmp_path / "run", dataset, progress=True) as run:
            list(run.progress(range(3), "no bar in a pipe"))
            assert fit(run)["status"] == "complete"
        with contextlib.suppress(OSError):
            file.close()


def test_a_step_moves_what_each_of_its_optimisers_holds(tmp_path, dataset):
    body, head, idle = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 1)
    options = {"lr": 0.5}
    with open_run(tmp_path / "run", dataset) as run:
        model = nn.Sequential(body, head)
        parts = [torch.optim.SGD(part.parameters(), **options) for part in (body, head)]
        wrapped, *optimizers = run.setup(model, *parts)
        other, spare = run.setup(idle, torch.optim.SGD(idle.parameters(), **options))
        run.track(model=wrapped, first=optimizers[0], second=optimizers[1], idle=spare)
        for _ in run.epochs(1):
            before = [p.detach().clone() for p in model.parameters()]
            loss = wrapped(torch.ones(4, 2)).square().mean() + 0 * other.weight.sum()
            expected = torch.autograd.grad(loss, model.parameters(), retain_graph=True)
            run.step(loss, *optimizers)
        for old, gradient, new in zip(
            before, expected, model.parameters(), strict=True
        ):
            torch.testing.assert_close(new, old - 0.5 * gradient)
        assert run.mean_loss == pytest.approx(loss.item())
    saved = load_checkpoint(tmp_path / "run" / "last.safetensors")["objects"]
    assert set(saved) == {"model", "first", "second", "idle"}


def test_a_complete_run_has_its_result_and_others_have_none(tmp_path, dataset):
    with open_run(tmp_path / "run", dataset) as run:
        assert run.result() is None
        result = fit(run)
    with open_run(tmp_path / "run", dataset, resume=True) as run:
        assert run.result() == result


@pytest.mark.parametrize(
    "device",
    ["cuda:99", "cuda:-1", "cuda:0,1", "cuda:x", "cuda:", "cpu:0", "tpu", "", "²"],
)
def test_a_device_that_cannot_be_had_is_named(device):
    with pytest.raises(ReIDError, match=f"device '{device}' cannot be used here") as e:
        open_fabric(device)
    assert "\n" not in str(e.value)


def test_a_variable_of_lightning_that_is_in_the_way_is_named(monkeypatch):
    monkeypatch.setenv("LT_PRECISION", "half-hearted")
    with pytest.raises(ReIDError, match="reads LT_PRECISION of the environment"):
        open_fabric("cpu")


def test_what_a_batch_system_counts_is_not_the_business_of_one_process(monkeypatch):
    for name, value in {"NTASKS": "4", "JOB_NAME": "train", "PROCID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert open_fabric("cpu").device == torch.device("cpu")


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
    """In the last batch of an epoch, the loss can be finite and its gradient not."""

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
    """The log is on the full disk as well."""
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
    with pytest.raises(ReIDError, match="already holds a run"):
        open_run(tmp_path / "run", dataset)
    with pytest.raises(ReIDError, match=r"another config \(lr: 0.1 there, 0.2 now\)"):
        open_run(tmp_path / "run", dataset, Settings(lr=0.2), resume=True)
    (tmp_path / "a.jpg").write_bytes(b"xy")
    with pytest.raises(ReIDError, match="another dataset"):
        open_run(tmp_path / "run", dataset, resume=True)
    assert (tmp_path / "run" / "result.json").read_bytes() == before


DAMAGED = [b"", b"{", b"[]", b"3", b"\xff\xfe", b"{}", b'{"recipe": 1}']


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("name", ["manifest.json", "last.safetensors", "result.json"])
def test_a_damaged_file_of_a_run_is_named_in_one_line(tmp_path, dataset, name, content):
    with open_run(tmp_path / "run", dataset, Settings(epochs=1)) as run:
        fit(run)
    file = tmp_path / "run" / name
    file.write_bytes(content)
    with pytest.raises(ReIDError, match=r"; (restore|remove|use another)") as told:
        open_run(tmp_path / "run", dataset, Settings(epochs=1), resume=True).result()
    assert str(file) in str(told.value)
    assert "\n" not in str(told.value)
    assert file.read_bytes() == content


@pytest.mark.parametrize("name", ["manifest.json", "last.safetensors", "result.json"])
@pytest.mark.parametrize("other", ["recipe", "config", "version", "dataset"])
def test_a_file_of_another_run_is_refused(tmp_path, dataset, name, other):
    config, options = Settings(epochs=1), {}
    with open_run(tmp_path / "run", dataset, config) as run:
        fit(run)
    if other == "config":
        config = Settings(epochs=1, lr=0.2)
    elif other == "version":
        options["version"] = 2
    elif other == "dataset":
        (tmp_path / "a.jpg").write_bytes(b"y")
    recipe = "toy" if other != "recipe" else "game"
    options |= {"recipe": recipe, "progress": False, "device": "cpu"}
    options = {"version": 1, **options}
    with Run(tmp_path / "b", config=config, dataset=dataset, **options) as run:
        fit(run)
    shutil.copy(tmp_path / "run" / name, tmp_path / "b" / name)
    with pytest.raises(ReIDError, match=rf"{name} is of a run with another {other}"):
        Run(
            tmp_path / "b", config=config, dataset=dataset, resume=True, **options
        ).result()


def test_a_checkpoint_without_the_state_of_a_part_is_refused(tmp_path, dataset):
    with open_run(tmp_path / "run", dataset, stop_after=1) as run:
        fit(run)
    file = tmp_path / "run" / "last.safetensors"
    state = load_checkpoint(file)
    del state["objects"]["optimizer"]["param_groups"][0]["params"][0]
    for broken in (state, {**state, "objects": {}}):
        save_checkpoint(file, broken)
        with (
            pytest.raises(ReIDError, match=r"has no \w+ that fits .*; remove it"),
            open_run(tmp_path / "run", dataset, resume=True) as run,
        ):
            fit(run)


def test_a_start_removes_what_a_killed_run_was_writing(tmp_path, dataset):
    with open_run(tmp_path / "run", dataset, stop_after=1) as run:
        fit(run)
    (tmp_path / "run" / ".last.safetensors.partial-abcd_123").write_bytes(b"x")
    with open_run(tmp_path / "run", dataset, resume=True):
        assert not list((tmp_path / "run").glob(".*partial*"))


def test_an_unwritable_folder_is_refused_before_any_work(tmp_path, dataset):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ReIDError, match=r"cannot write to .*--out"):
        open_run(tmp_path / "file" / "run", dataset)


def test_what_is_read_beside_the_images_belongs_to_a_run(tmp_path, dataset):
    from reidlib.recipes import baseline, calr, direct

    file = tmp_path / "weights.pth"
    config = direct.Config(weights=str(file))
    assert direct.Config(weights="random").read_files(dataset) == {}
    assert config.read_files(dataset) == {}  # that it is missing is said elsewhere
    keys = [run_key(direct.train, config, dataset)]
    for content in (b"one", b"other"):
        file.write_bytes(content)
        keys.append(run_key(direct.train, config, dataset))
    assert len(set(keys)) == 3
    assert set(baseline.Config(weights=str(file)).read_files(dataset)) == {"weights"}
    both = calr.Config(weights=str(file), local_labels=str(file))
    assert set(both.read_files(dataset)) == {"weights", "local_labels"}

    with open_run(tmp_path / "run", dataset, config) as run:
        run.finish({})
    with open_run(tmp_path / "run", dataset, config, resume=True) as run:
        assert set(run.result()["files"]) == {"weights"}
    file.write_bytes(b"one")
    with pytest.raises(DamagedError, match="read another file of weights; put that"):
        open_run(tmp_path / "run", dataset, config, resume=True)
    file.unlink()  # a complete run does not need it any more
    with open_run(tmp_path / "run", dataset, config, resume=True) as run:
        assert run.result()["metrics"] == {}


def test_tensors_in_the_cache_are_those_of_their_key(tmp_path, monkeypatch):
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path))
    made = []

    def get(key):
        def make():
            made.append(key)
            return {"x": torch.full((2,), float(key))}

        return cached_tensors("numbers", [key], make)["x"].tolist()

    assert [get(1), get(2), get(1)] == [[1, 1], [2, 2], [1, 1]]
    assert made == [1, 2]
    one, other = (tmp_path / "numbers").glob("*.safetensors")
    shutil.copy(one, other)
    assert [get(1), get(2)] == [[1, 1], [2, 2]]
    assert len(made) == 3
    for file in (one, other):  # tensors that another version kept without their key
        save_checkpoint(file, {"x": torch.zeros(2)})
    assert [get(1), get(2)] == [[1, 1], [2, 2]]


def networks():
    """Every module that is called by other methods than forward, and what they take."""
    images, rows = torch.randn(4, 3, 128, 64), torch.randn(4, 8)
    fused = FusedNet(
        "tiny",
        [2, 3],
        QualityEncoder(build_backbone("tiny", pretrained=False)),
        pretrained=False,
        **{"features": 8, "width": 8, "decoder_channels": 8, "attribute_hidden": 4},
        **{"memory_steps": 2, "fused_features": 8},
    )
    scores = 11 + 0.1 * torch.randn(4)
    return [
        (ReIDNet("tiny", pretrained=False), {"embed": (images,)}),
        (DualBranchNet("tiny", pretrained=False), {"descriptors": (images,)}),
        (
            fused,
            {
                "branches": (images,),
                "attribute_logits": (images,),
                "alpha": (scores,),
                "fuse": (rows, rows, 0.5),
            },
        ),
        (
            Classifiers(fused, 3),
            {"of_appearance": (rows, torch.randn(4, 6, 8)), "of_fused": (rows,)},
        ),
    ]


def tensors(made):
    if isinstance(made, torch.Tensor):
        return [made]
    return [tensor for one in made for tensor in tensors(one)]


@pytest.mark.parametrize("which", range(4))
def test_every_forward_method_computes_in_the_precision_of_the_run(
    which, tmp_path, dataset
):
    torch.manual_seed(0)
    module, methods = networks()[which]
    assert set(methods) == set(module.forward_methods)
    module.eval()
    seen = []
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    for precision, inside in {
        "bf16-mixed": torch.bfloat16,
        "32-true": torch.float32,
    }.items():
        run = open_run(tmp_path / precision, dataset, Settings(precision=precision))
        optimizer = torch.optim.Adam(p for p in module.parameters() if p.requires_grad)
        wrapped, _ = run.setup(module, optimizer)
        for name, given in methods.items():
            seen.clear()
            made = tensors(getattr(wrapped, name)(*given))
            assert seen, name
            assert set(seen) == {inside}, name
            assert {tensor.dtype for tensor in made} == {torch.float32}, name
            alone = tensors(getattr(module, name)(*given))
            same = [torch.equal(a, b) for a, b in zip(made, alone, strict=True)]
            assert all(same) is (precision == "32-true"), name
            assert all(torch.allclose(a, b, atol=0.1) for a, b in zip(made, alone))


def test_bf16_measures_the_quality_of_an_image_as_float32_does(tmp_path, dataset):
    model = networks()[2][0].eval()
    seen = []
    model.quality.register_forward_hook(lambda *call: seen.append(call[2]))
    levels = torch.randint(256, (2, 3, 128, 64), dtype=torch.uint8)
    run = open_run(tmp_path / "run", dataset, Settings(precision="bf16-mixed"))
    with torch.no_grad():
        run.setup(model)(TestTransform()(levels))
        assert torch.equal(seen[0], model.quality(levels))


def test_unknown_precision_is_refused(tmp_path, dataset):
    with pytest.raises(ReIDError, match="precision 'fp8' is unknown"):
        open_run(tmp_path / "run", dataset, Settings(precision="fp8"))


def test_the_cache_runs_once_and_knows_config_and_data(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / "cache"))
    toy = types.ModuleType("toy")
    exec("VERSION = 1\ndef train(config, dataset, run): return fit(run)", toy.__dict__)
    toy.fit, train = fit, toy.train
    monkeypatch.setitem(sys.modules, "toy", toy)
    first, folder = cached_run(train, Settings(), dataset, device="cpu")
    log = (folder / "log.txt").read_text()
    second, same = cached_run(train, Settings(), dataset, device="cpu")
    assert first == second
    assert (folder / "log.txt").read_text() == log  # read, not computed again
    assert folder == same
    key = run_key(train, Settings(), dataset)
    assert run_key(train, Settings(seed=1), dataset) != key
    toy.VERSION = 2
    assert run_key(train, Settings(), dataset) != key
    toy.VERSION = 1
    (tmp_path / "a.jpg").write_bytes(b"y")  # of the same length
    assert run_key(train, Settings(), dataset) != key


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    ["result.json", "last.safetensors", "features.safetensors", "entry.json"],
)
@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-20]),
        lambda file: file.write_bytes(b"[1, 2]"),
        lambda file: file.write_bytes(b"\xff\xfe{}"),
        flip,
        lambda file: file.unlink(),
    ],
    ids=["empty", "cut", "other type", "no text", "flipped byte", "gone"],
)
def test_a_damaged_run_of_the_cache_is_made_anew(toy_cache, dataset, name, damage):
    train = toy_cache
    first, folder = cached_run(train, Settings(epochs=1), dataset, device="cpu")
    features = cached_features(folder)
    damage(folder / name)
    again, same = cached_run(train, Settings(epochs=1), dataset, device="cpu")
    assert same == folder
    assert again["metrics"] == first["metrics"]
    assert torch.equal(cached_features(folder)["train"], features["train"])
    assert load_checkpoint(folder / "last.safetensors")["history"]
    log = (folder / "log.txt").read_text()
    cached_run(train, Settings(epochs=1), dataset, device="cpu")
    assert (folder / "log.txt").read_text() == log  # whole again


def test_a_run_of_the_cache_under_another_ones_name_is_made_anew(toy_cache, dataset):
    train = toy_cache
    one, other = Settings(epochs=1), Settings(epochs=1, seed=1)
    expected, folder = cached_run(train, one, dataset, device="cpu")
    different, foreign = cached_run(train, other, dataset, device="cpu")
    assert different["metrics"] != expected["metrics"]
    shutil.rmtree(folder)
    shutil.copytree(foreign, folder)
    result, _ = cached_run(train, one, dataset, device="cpu")
    assert result["metrics"] == expected["metrics"]


@pytest.mark.parametrize("name", ["manifest.json", "last.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_an_interrupted_run_of_the_cache_is_made_anew_if_it_is_damaged(
    toy_cache, dataset, name, content
):
    train = toy_cache
    whole, folder = cached_run(train, Settings(epochs=1), dataset, device="cpu")
    for file in ("entry.json", "result.json"):
        (folder / file).unlink()
    (folder / name).write_bytes(content)
    again, _ = cached_run(train, Settings(epochs=1), dataset, device="cpu")
    assert again["metrics"] == whole["metrics"]


def test_damage_outside_of_the_cache_is_not_taken_for_its_own(toy_cache, dataset):
    def train(config, dataset, run):
        load_checkpoint(dataset.root / "given.safetensors")

    train.__module__ = toy_cache.__module__
    with pytest.raises(ReIDError, match=r"no checkpoint at .*given.safetensors"):
        cached_run(train, Settings(), dataset, device="cpu")


@pytest.fixture
def toy_cache(tmp_path, monkeypatch):
    """A recipe's ``train``, and an empty run cache."""
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / "cache"))
    toy = types.ModuleType("toy")
    code = """
VERSION = 1
def train(config, dataset, run):
    run.keep_features({"train": torch.eye(3)})
    return fit(run)
"""
    exec(code, toy.__dict__)
    toy.fit, toy.torch = fit, torch
    monkeypatch.setitem(sys.modules, "toy", toy)
    return toy.train


def test_a_cached_run_keeps_its_final_features_and_another_run_does_not(
    tmp_path, dataset, monkeypatch
):
    monkeypatch.setenv("REIDLIB_CACHE", str(tmp_path / "cache"))
    features = {"train": torch.eye(3), "query": torch.ones(1, 3)}

    def train(config, dataset, run):
        run.keep_features(features)
        return fit(run)

    monkeypatch.setattr(sys.modules[__name__], "VERSION", 1, raising=False)
    _, folder = cached_run(train, Settings(), dataset, device="cpu")
    kept = cached_features(folder)
    assert kept.keys() == features.keys()
    assert all(torch.equal(kept[name], features[name]) for name in features)
    with open_run(tmp_path / "run", dataset) as run:
        train(Settings(), dataset, run)
    assert not list((tmp_path / "run").glob("features*"))


@pytest.fixture
def hash_with(tmp_path, monkeypatch):
    """Return a function that changes a copy of the library and hashes it."""
    copy = tmp_path / "reidlib"
    shutil.copytree(manifest._PACKAGE_ROOT, copy)
    monkeypatch.setattr(manifest, "_PACKAGE_ROOT", copy)

    def hash_now(file="errors.py", more=""):
        text = (copy / file).read_text()
        (copy / file).write_text(text + more)
        library_hash.cache_clear()
        try:
            return library_hash()
        finally:
            (copy / file).write_text(text)

    yield hash_now
    library_hash.cache_clear()


def test_the_run_cache_goes_by_every_byte_that_could_move_a_number(hash_with):
    now = hash_with()
    for file in ("errors.py", "losses/memory.py", "engine/run.py", "recipes/calr.py"):
        assert hash_with(file, "# a comment\n") != now, file
    for file in ("plotting/style.py", "papers/items.py", "exercises.py", "cli.py"):
        assert hash_with(file, "# a comment\n") == now, file


def test_no_training_reaches_what_the_run_cache_leaves_out():
    code = (
        "import sys, reidlib.recipes, reidlib.engine, reidlib.data, reidlib.synthcity;"
    )
    code += "print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    above = {name.removesuffix(".py") for name in manifest._ABOVE_TRAINING}
    assert {"deploy", "exercises"} < above
    every = set(out.stdout.split())
    loaded = {n.split(".")[1] for n in every if n.startswith("reidlib.")}
    assert "recipes" in loaded
    assert not loaded & above
    # What is slow to import waits until a network or a kernel of its asks for it.
    assert "torch" in every
    assert not every & {"timm", "torchvision", "torch._dynamo", "numba", "matplotlib"}


def test_a_run_stops_after_the_epochs_that_it_was_asked_for(tmp_path, dataset):
    with open_run(tmp_path / "whole", dataset) as run:
        whole = fit(run)
    with open_run(tmp_path / "part", dataset, stop_after=2) as run:
        fit(run)
    assert without_times(run.history) == without_times(whole["epochs"][:2])
    manifest = json.loads((tmp_path / "part" / "manifest.json").read_text())
    assert manifest["status"] == "stopped"
    with open_run(tmp_path / "part", dataset, resume=True) as run:
        assert fit(run)["metrics"] == whole["metrics"]


def test_a_run_of_another_version_is_not_resumed(tmp_path, dataset):
    with open_run(tmp_path / "run", dataset, stop_after=1) as run:
        fit(run)
    with pytest.raises(ReIDError, match=r"another version \(1 there, 2 now\)"):
        open_run(tmp_path / "run", dataset, version=2, resume=True)


def test_the_commit_of_changed_code_says_so(tmp_path, monkeypatch):
    package = tmp_path / "reidlib"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(manifest, "_PACKAGE_ROOT", package)
    assert manifest.git_commit() is None  # an installed package, no checkout
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    commit = manifest.git_commit()
    assert len(commit) == 40
    assert manifest.changed_files() == []
    (package / "new.py").write_text("")
    assert manifest.git_commit() == f"{commit}-dirty"
    assert manifest.changed_files() == ["reidlib/new.py"]


WHOLE = {
    "recipe": "baseline",
    "version": 1,
    "config": {},
    "dataset": {"name": "x", "sha256": "y", "images": {}},
}
SCORES = {"cmc": {"1": 0.5}, "mAP": 0.4, "mINP": 0.1, "num_queries": 2}
SCORES |= {"num_unmatched": 0}


@pytest.mark.parametrize(
    ("read", "content"),
    [
        *((read_manifest, {"options": {"preset": v}}) for v in ([1], {"a": 1}, True)),
        (read_manifest, {"options": {"root": 3}}),
        *(
            (read_result, {"metrics": {k: v for k, v in SCORES.items() if k != gone}})
            for gone in SCORES
            if gone != "mAP"
        ),
        (read_result, {"metrics": {**SCORES, "cmc": {"1": None}}}),
        (read_result, {"metrics": {**SCORES, "num_queries": None}}),
    ],
)
def test_a_part_of_another_kind_is_told_as_damage(read, content, tmp_path):
    file = tmp_path / "file.json"
    file.write_text(json.dumps(WHOLE | {"metrics": SCORES}))
    assert read(file, "restore it")
    file.write_text(json.dumps(WHOLE | content))
    with pytest.raises(DamagedError, match=r"file.json is damaged .*; restore it"):
        read(file, "restore it")


def test_a_result_without_its_manifest_is_not_taken_for_a_new_run(tmp_path, dataset):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "result.json").write_text('{"metrics": {"mAP": 0.99}}')
    for resume in (False, True):
        with pytest.raises(
            ReIDError, match=r"holds result\.json and no manifest\.json"
        ):
            open_run(folder, dataset, resume=resume)


def test_a_pipe_in_the_place_of_the_log(tmp_path, dataset):
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "log.txt")
    with pytest.raises(ReIDError, match=r"log.txt there is no file"):
        open_run(tmp_path / "run", dataset)


def test_a_damaged_run_behind_a_link_is_made_again_and_the_target_stays(
    toy_cache, tmp_path, dataset
):
    train = toy_cache
    first, folder = cached_run(train, Settings(epochs=1), dataset, device="cpu")
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    (elsewhere / "result.json").write_text("{")
    again, _folder = cached_run(train, Settings(epochs=1), dataset, device="cpu")
    assert again["metrics"] == first["metrics"]
    assert not folder.is_symlink()
    assert (elsewhere / "result.json").read_text() == "{"


def test_a_resumed_optimiser_keeps_the_order_of_its_weights(tmp_path, dataset):
    """A fused kernel of a GPU takes no moments in another order than the weights."""

    def setup(run):
        layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(layer.parameters())
        layer, optimizer = run.setup(layer, optimizer)
        run.track(layer=layer, optimizer=optimizer)
        return layer, optimizer

    with open_run(tmp_path / "r", dataset, stop_after=1) as run:
        layer, optimizer = setup(run)
        for _ in run.epochs(3):
            run.step(layer(torch.randn(2, 3, 8, 8)).square().mean(), optimizer)
    moments = load_checkpoint(tmp_path / "r/last.safetensors")["objects"]["optimizer"]
    with open_run(tmp_path / "r", dataset, resume=True) as run:
        layer, optimizer = setup(run)
        weight = layer.weight
        kept = optimizer.optimizer.state[weight]
        assert kept["exp_avg"].stride() == weight.stride()
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(kept["exp_avg"], moments["state"][0]["exp_avg"])
        for _ in run.epochs(3):
            run.step(layer(torch.randn(2, 3, 8, 8)).square().mean(), optimizer)


def test_networks_that_are_gone_are_not_kept(tmp_path, dataset):
    """A recipe may set up a classifier in each epoch."""
    with open_run(tmp_path / "r", dataset) as run:
        made = weakref.ref(run.setup(nn.BatchNorm1d(3)).module)
        gc.collect()
        assert made() is None
