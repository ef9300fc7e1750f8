"""Compiled extraction: what is compiled, what stays as it is, and what is told."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from support import SMALL, few_people
from torch import nn

from reidlib.bench import bench_train
from reidlib.engine import run as engine_run
from reidlib.engine.compiling import compiled_to_extract
from reidlib.errors import ReIDError
from reidlib.models import ReIDNet
from reidlib.recipes import baseline


class Counting:
    """A backend of ``torch.compile`` that counts the graphs it gets."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_only_a_network_that_learns_nothing_is_compiled() -> None:
    network, backend = ReIDNet("tiny", pretrained=False), Counting()
    call = compiled_to_extract(network, network, backend)
    images = torch.rand(4, 3, 64, 32)
    call(images)
    network.eval()
    assert call(images).requires_grad
    assert backend.graphs == 0
    with torch.inference_mode():
        torch.testing.assert_close(call(images), network(images))
        assert backend.graphs == 1  # one, without a break
        for batch in (images[:3], images[:2], images):
            call(batch)
    assert backend.graphs == 2  # of any size, from the second on


def test_a_run_compiles_what_it_extracts_with(tiny, monkeypatch) -> None:
    backend = Counting()
    patched = partial(compiled_to_extract, backend=backend)
    monkeypatch.setattr(engine_run, "compiled_to_extract", patched)
    own = {"weights": "random", "num_labels": 4, "frozen_stages": 0}
    city = few_people(tiny, 12)
    speed = {}
    for way in (None, "extraction"):
        config = baseline.Config(**{**SMALL, **own, "compile": way})
        found = bench_train("baseline", config, city, num_steps=2, device="cpu")
        speed[way] = found
        assert (backend.graphs > 0) == (way is not None)
    assert speed["extraction"].warm_up > 0
    told = f"images/s, after a warm-up of {speed['extraction'].warm_up:.1f} s"
    assert told in str(speed["extraction"])


def test_a_machine_without_a_compiler_says_so_in_one_line() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.GELU()).eval()
    call = compiled_to_extract(network, network)
    nowhere = {"cpp.cxx": (None, "/nowhere/c++"), "fx_graph_cache": False}
    with (
        torch._inductor.config.patch(nowhere),
        torch.no_grad(),
        pytest.raises(ReIDError, match=r"C\+\+ compiler.*leave --compile out") as told,
    ):
        call(torch.ones(5, 3))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("wrong", ["training", True])
def test_another_value_of_the_setting_is_refused(wrong: Any) -> None:
    with pytest.raises(ReIDError, match=r"compile is .*; choose from extraction"):
        baseline.Config(compile=wrong)
