"""Sliders and their static form: real widgets, in this process and in a real kernel."""

from __future__ import annotations

import math
import time
from pathlib import Path
from queue import Empty

import nbformat
import numpy as np
import pytest
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from matplotlib import pyplot as plt
from traitlets import Type

from figures.interactive import explore, is_live, make_explorer
from own_sockets import with_own_sockets

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CONTROLS = {"k1": [8, 15, 30], "eps": [0.4, 0.5, 0.6]}


class Recorder:
    """A draw function that remembers its settings and what it drew."""

    def __init__(self) -> None:
        self.calls: list[dict] = []
        self.heights: list[list[float]] = []

    def __call__(self, k1, eps):
        self.calls.append({"k1": k1, "eps": eps})
        plt.close("all")
        _, ax = plt.subplots()
        ax.plot([0, 1], [k1, eps])
        self.heights.append(ax.lines[0].get_ydata().tolist())
        print(f"sum {k1 + eps:.1f}")


def test_a_slider_that_is_set_draws_again_with_its_value(capsys):
    draw = Recorder()
    explorer = make_explorer(draw, CONTROLS, start={"k1": 15, "eps": 0.5})
    k1, eps, _ = explorer.children
    assert draw.calls == [{"k1": 15, "eps": 0.5}]
    eps.value = 0.6
    k1.value = 30
    k1.value = 30  # no change, no drawing
    assert draw.calls[1:] == [{"k1": 15, "eps": 0.6}, {"k1": 30, "eps": 0.6}]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "k1 = 30, eps = 0.6",
        "sum 30.6",
    ]


def test_sliders_offer_the_values_in_their_order_and_wait_until_let_go():
    explorer = make_explorer(Recorder(), CONTROLS, start={"k1": 8, "eps": 0.4})
    for slider, (name, values) in zip(explorer.children, CONTROLS.items()):
        assert slider.description == name
        assert [value for _, value in slider.options] == values
        assert slider.continuous_update is False


def test_the_static_form_draws_and_prints_what_the_live_one_does(capsys):
    settings = [{"k1": 15, "eps": 0.5}, {"k1": 8, "eps": 0.5}, {"k1": 8, "eps": 0.6}]
    static, live = Recorder(), Recorder()
    explore(static, CONTROLS, static=settings, live=False)
    printed = capsys.readouterr().out
    explorer = make_explorer(live, CONTROLS, start=settings[0])
    k1, eps, _ = explorer.children
    k1.value, eps.value = 8, 0.6
    assert static.calls == live.calls == settings
    assert static.heights == live.heights
    # Without a kernel, clearing the output writes the code that erases a line.
    assert capsys.readouterr().out.replace("\x1b[2K\r", "") == printed


def test_a_page_shows_a_figure_that_needs_no_kernel(capsys):
    draw, static = Recorder(), [{"k1": 15, "eps": 0.5}]
    explore(draw, CONTROLS, static=static, page=lambda: "figure", live=False)
    assert draw.calls == []
    assert capsys.readouterr().out == "figure\n"


def test_an_error_in_draw_is_not_swallowed():
    def draw(eps):
        if eps > 0.4:
            raise ValueError(f"eps is {eps}")

    explorer = make_explorer(draw, {"eps": [0.4, 0.5]}, start={"eps": 0.4})
    with pytest.raises(ValueError, match=r"eps is 0\.5"):
        explorer.children[0].value = 0.5
    with pytest.raises(ValueError, match=r"eps is 0\.5"):
        explore(draw, {"eps": [0.5]}, static=[{"eps": 0.5}], live=False)


SETUP = """
%matplotlib inline
from matplotlib import pyplot as plt
from figures.interactive import explore, is_live, make_explorer

def draw(eps):
    plt.subplots(figsize=(1, 1))[1].plot([0, eps])
    print("half of it", eps / 2)
    if eps > 0.6:
        raise ValueError("too wide")

controls = {"eps": [0.4, 0.5, 0.8]}
print("live:", is_live())
"""
LIVE = """
explorer = make_explorer(draw, controls, start={"eps": 0.4})
explorer.children[0].value = %s
print("model", explorer.children[-1].model_id)
"""
DISPLAYED = "explore(draw, controls, static=[{'eps': 0.4}])"
TOLD = f"import os; os.environ['REIDLIB_STATIC'] = '1'\n{DISPLAYED}"
FIXED = "explore(draw, controls, static=[{'eps': 0.5}], live=False)"
TWO = "explore(draw, controls, static=[{'eps': 0.4}, {'eps': 0.5}], live=False)"


class InSlices(AsyncZMQSocketChannel):
    """A channel that looks again each second while it waits.

    nbclient answers an Output widget through the very channel on which it waits for the
    end of the cell. If that end arrives during the answer, nothing wakes it, and it
    finds the message when its time is over: it waited for all of the 120 seconds.
    """

    async def get_msg(self, timeout: float | None = None) -> dict:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return await super().get_msg(min(1.0, left))
            except Empty:
                if left == 0:
                    raise


class Client(AsyncKernelClient):
    shell_channel_class = Type(InSlices)


def execute(cells: list[str]) -> nbformat.NotebookNode:
    from nbclient import NotebookClient

    class Manager(with_own_sockets(AsyncKernelManager)):
        client_factory = Type(Client)

    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    # A chapter runs in its own folder, where it finds the figures.
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    options = {"resources": resources, "kernel_manager_class": Manager}
    NotebookClient(notebook, timeout=120, **options).execute()
    return notebook


def said(outputs: list) -> tuple[str, list[str], list[str]]:
    """Text, pictures and errors of outputs."""
    texts = [
        o["text"] if o["output_type"] == "stream" else o["data"]["text/plain"] + "\n"
        for o in outputs
        if o["output_type"] == "stream" or set(o.get("data", {})) == {"text/plain"}
    ]
    text = "".join(texts)
    pictures = [
        o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})
    ]
    errors = [o["evalue"] for o in outputs if o["output_type"] == "error"]
    return text, pictures, errors


@pytest.fixture(scope="module")
def kernel():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REIDLIB_STATIC", raising=False)
        patch.delenv("MPLBACKEND", raising=False)
        return execute([SETUP, LIVE % 0.5, LIVE % 0.8, DISPLAYED, FIXED, TOLD, TWO])


def output_of(notebook: nbformat.NotebookNode, cell: int) -> list:
    """What the Output widget shows whose id the cell prints."""
    model = said(notebook.cells[cell].outputs)[0].split("model ")[1].strip()
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]
    return states["state"][model]["state"]["outputs"]


def test_a_kernel_shows_the_same_text_and_picture_in_both_forms(kernel):
    live, fixed = output_of(kernel, 1), kernel.cells[4].outputs
    assert said(live) == said(fixed)
    text, pictures, errors = said(fixed)
    assert text == "eps = 0.5\nhalf of it 0.25\n"
    assert len(pictures) == 1
    assert errors == []


def test_a_kernel_shows_the_traceback_of_an_error_in_the_output(kernel):
    text, _, errors = said(output_of(kernel, 2))
    assert errors == ["too wide"]
    assert text.startswith("eps = 0.8\nhalf of it 0.4\n")


def test_a_kernel_shows_sliders_and_only_there(kernel):
    assert "live: True" in said(kernel.cells[0].outputs)[0]
    view = "application/vnd.jupyter.widget-view+json"
    assert [view in o.get("data", {}) for o in kernel.cells[3].outputs] == [True]
    assert not any(view in o.get("data", {}) for o in kernel.cells[4].outputs)
    # In this process there is no kernel.
    assert is_live() is False


def test_the_variable_makes_a_kernel_static(kernel):
    text, pictures, errors = said(kernel.cells[5].outputs)
    assert (text, len(pictures), errors) == ("eps = 0.4\nhalf of it 0.2\n", 1, [])


def test_the_static_form_keeps_each_text_beside_its_figure(kernel):
    """As streams they would be one text above all figures, once stored."""
    outputs = kernel.cells[6].outputs
    told = ["image" if "image/png" in o["data"] else o["data"] for o in outputs]
    assert told == [
        {"text/plain": "eps = 0.4\nhalf of it 0.2"},
        "image",
        {"text/plain": "eps = 0.5\nhalf of it 0.25"},
        "image",
    ]


def test_a_setting_that_no_slider_could_have_is_an_error():
    with pytest.raises(ValueError, match=r"'k1': 9.* is no choice"):
        explore(Recorder(), CONTROLS, static=[{"k1": 9, "eps": 0.4}], live=False)


def test_arrays_are_values_to_choose_from():
    drawn = []
    explorer = make_explorer(
        lambda eps: drawn.append(eps),
        {"eps": np.array([0.25, 0.5])},
        start={"eps": 0.5},
    )
    explorer.children[0].value = 0.25
    assert drawn == [0.5, 0.25]
