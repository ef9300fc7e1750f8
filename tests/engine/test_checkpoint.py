"""Checkpoints: exact, and written completely or not at all."""

from __future__ import annotations

import json
import os
import random
import threading

import numpy as np
import pytest
import torch
from support import full_disk
from torch import nn

from reidlib.engine.checkpoint import (
    load_checkpoint,
    load_weights,
    random_states,
    save_checkpoint,
    set_random_states,
)
from reidlib.errors import DamagedError, ReIDError
from reidlib.files import write_atomically


def test_nested_state_comes_back_exactly(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    shared = torch.arange(6).reshape(2, 3).t()  # not contiguous, and saved twice
    state = {
        "optimizer": optimizer.state_dict(),
        "a": [shared, shared, {"x": None, 3: True}],
        "b": 1.5,
    }
    save_checkpoint(tmp_path / "c.safetensors", state)
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    again = torch.optim.Adam(model.parameters())
    again.load_state_dict(loaded["optimizer"])
    for key, value in optimizer.state_dict()["state"][0].items():
        assert torch.equal(again.state_dict()["state"][0][key], value)
    assert torch.equal(loaded["a"][1], shared)
    assert loaded["a"][2] == {"x": None, 3: True}
    assert loaded["b"] == 1.5


def test_random_states_continue_every_generator():
    cpu = torch.device("cpu")
    states = random_states(cpu)
    first = [random.random(), np.random.rand(), torch.rand(3).tolist()]
    set_random_states(states, cpu)
    assert [random.random(), np.random.rand(), torch.rand(3).tolist()] == first


def test_missing_damaged_and_foreign_files_say_so(tmp_path):
    with pytest.raises(ReIDError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none.safetensors")
    bad = tmp_path / "bad.safetensors"
    save_checkpoint(bad, {"w": torch.ones(100)})
    bad.write_bytes(bad.read_bytes()[:-50])
    with pytest.raises(ReIDError, match="damaged"):
        load_checkpoint(bad)
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ReIDError, match="not written by reidlib"):
        load_checkpoint(tmp_path / "foreign.safetensors")


def test_no_flipped_byte_goes_unnoticed(tmp_path):
    """Where it changes nothing that is loaded, the file may be accepted."""
    path = tmp_path / "c.safetensors"
    state = {
        "w": torch.arange(4.0),
        "n": torch.tensor(True),
        "history": [{"loss": 1.5}],
    }
    save_checkpoint(path, state)
    whole, told = path.read_bytes(), []
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        try:
            loaded = load_checkpoint(path)
        except ReIDError as error:
            told.append(str(error))
        else:
            assert str(loaded) == str(state)
    assert len(told) > 0.8 * len(whole) > 240
    assert all(str(path) in line and "\n" not in line for line in told)


def test_a_checkpoint_from_before_the_checksum_is_read(tmp_path):
    from safetensors.torch import save_file

    structure = json.dumps({"__dict__": [["w", {"__tensor__": "state.w"}]]})
    metadata = {"format": "reidlib-1", "structure": structure}
    save_file({"state.w": torch.ones(2)}, tmp_path / "old.safetensors", metadata)
    loaded = load_checkpoint(tmp_path / "old.safetensors")
    assert torch.equal(loaded["w"], torch.ones(2))


@pytest.mark.parametrize("structure", ["", "{", "[]", "3", '{"__tensor__": "none"}'])
def test_a_structure_that_is_none_is_damage(tmp_path, structure):
    from safetensors.torch import save_file

    path = tmp_path / "old.safetensors"
    save_file({}, path, {"format": "reidlib-1", "structure": structure})
    with pytest.raises(DamagedError, match=r"old.safetensors is damaged \("):
        load_checkpoint(path)


def test_a_checkpoint_of_another_kind_says_what_it_holds(tmp_path):
    path = tmp_path / "features.safetensors"
    save_checkpoint(path, {"train": torch.ones(2)})
    with pytest.raises(ReIDError, match="holds train and no objects: it is another"):
        load_checkpoint(path, "objects")


def test_keys_with_dots_are_kept_apart(tmp_path):
    state = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}
    save_checkpoint(tmp_path / "c.safetensors", state)
    assert str(load_checkpoint(tmp_path / "c.safetensors")) == str(state)


def test_weights_of_another_model_are_refused():
    with pytest.raises(ReIDError, match=r"another model: 0 .* 0 .* 1 of another shape"):
        load_weights(nn.Linear(3, 2, bias=False), {"weight": torch.ones(2, 4)}, "x")
    with pytest.raises(ReIDError, match=r"1 tensors missing, 1 unknown"):
        load_weights(nn.Linear(3, 2, bias=False), {"w": torch.ones(2, 3)}, "x")


def test_an_unwritable_place_is_one_line(tmp_path):
    with pytest.raises(
        ReIDError, match=r"cannot write .*nothing was written.*another place"
    ):
        write_atomically(tmp_path / "missing" / "file", b"x")


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, {"epoch": 1})
    whole = {"epoch": 2, "w": torch.ones(100_000)}
    with full_disk(50_000), pytest.raises(ReIDError) as told:
        save_checkpoint(path, whole)
    assert "cannot write" in str(told.value)
    assert "the previous file is intact" in str(told.value)
    assert load_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]
    save_checkpoint(path, whole)  # there is room again
    assert load_checkpoint(path)["epoch"] == 2


def test_a_pipe_is_written_to_and_a_link_stays_a_link(tmp_path):
    pipe, link, file = (tmp_path / name for name in ("pipe", "link", "file"))
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"scores")
    reader.join()
    assert read == [b"scores"]
    assert pipe.is_fifo()
    file.write_bytes(b"old")
    link.symlink_to(file)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    link = tmp_path / "result.json"
    link.symlink_to(tmp_path / "gone" / "result.json")
    with pytest.raises(ReIDError, match=r"is a link to it: remove that") as raised:
        write_atomically(link, b"{}")
    assert "free some space" not in str(raised.value)
    assert str(link) in str(raised.value)
