"""Figures with sliders, and their static form that shows the same."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib import pyplot as plt

STATIC = "REIDLIB_STATIC"
"""Environment variable: set to anything but 0, figures take their static form."""

Draw = Callable[..., Any]
Controls = Mapping[str, Sequence[Any]]
Settings = Mapping[str, Any]


def is_live() -> bool:
    """Return whether `explore` shows sliders here.

    It does in a Jupyter kernel that has ipywidgets, unless the environment variable
    ``REIDLIB_STATIC`` is set. The book and the tests set it: a stored widget would
    fetch its scripts from the network.

    Example:
        >>> is_live()  # this is no kernel
        False
    """
    if os.environ.get(STATIC, "0") not in ("", "0"):
        return False
    return importlib.util.find_spec("ipywidgets") is not None and _in_kernel()


def _in_kernel() -> bool:
    if importlib.util.find_spec("IPython") is None:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def explore(
    draw: Draw,
    controls: Controls,
    *,
    static: Sequence[Settings],
    page: Callable[[], Any] | None = None,
    live: bool | None = None,
) -> None:
    """Let a reader choose the settings of a figure.

    Where a kernel runs, each control becomes a slider over its values, and ``draw`` is
    called again whenever a slider is released. Elsewhere ``draw`` is called for the
    settings of ``static``, one after the other. Both forms write the settings above
    what ``draw`` prints and draws, so the static form shows what the live one would
    show at these settings.

    Args:
        draw: Called with one value per control, by name. It draws into a new figure
            and prints its numbers.
        controls: For each control the values to choose from, in their order.
        static: Settings of the static form, each with a value for every control; the
            first is where the sliders start.
        page: Makes what is shown instead where there is no kernel, such as a figure of
            `figures.page`, which needs none.
        live: Sliders or not; None: as `is_live` says.

    Raises:
        ValueError: If a static setting is not one that the sliders could be set to.

    Example:
        >>> def draw(eps, k1):
        ...     print("drawn")
        >>> controls = {"k1": [15, 30], "eps": [0.4, 0.5]}
        >>> explore(draw, controls, static=[{"k1": 15, "eps": 0.5}], live=False)
        k1 = 15, eps = 0.5
        drawn
    """
    for setting in static:
        if any(setting[name] not in values for name, values in controls.items()):
            raise ValueError(f"static: {setting} is no choice of {dict(controls)}")
    live = is_live() if live is None else live
    if live or page is not None:
        from IPython.display import display

        if page is not None and not live:
            display(page())
        else:
            display(make_explorer(draw, controls, start=static[0]))
        return
    for setting in static:
        _show(draw, setting)


def make_explorer(draw: Draw, controls: Controls, *, start: Settings) -> Any:
    """Return the live form of `explore`: a slider per control above its output.

    An error in ``draw`` shows its traceback where the figure would be.

    Args:
        draw: As for `explore`.
        controls: As for `explore`.
        start: The settings to start from.

    Returns:
        An ``ipywidgets.VBox`` of the sliders, in the order of the controls, and an
        ``ipywidgets.Output``.

    Example:
        >>> def draw(eps):
        ...     print(f"eps is {eps}")
        >>> explorer = make_explorer(draw, {"eps": [0.4, 0.5]}, start={"eps": 0.4})
        eps = 0.4
        eps is 0.4
        >>> [label for label, value in explorer.children[0].options]
        ['0.4', '0.5']
    """
    import ipywidgets

    sliders = {
        name: ipywidgets.SelectionSlider(
            options=[(str(value), value) for value in values],
            value=start[name],
            description=name,
            continuous_update=False,
        )
        for name, values in controls.items()
    }
    output = ipywidgets.Output()

    def update(change: object = None) -> None:
        if change is not None:
            output.clear_output(wait=True)
        # On an error the output shows the traceback: it is the context manager that
        # turns it into an output, nothing here catches it.
        with output:
            _show(draw, {name: slider.value for name, slider in sliders.items()})

    for slider in sliders.values():
        slider.observe(update, names="value")
    update()
    return ipywidgets.VBox([*sliders.values(), output])


def _show(draw: Draw, settings: Settings) -> None:
    """Write the settings, then call ``draw`` with them and show its figure."""
    with _one_text():
        print(", ".join(f"{name} = {value}" for name, value in settings.items()))
        draw(**settings)
    if plt.get_fignums():
        plt.show()


@contextlib.contextmanager
def _one_text() -> Iterator[None]:
    """Make an output of its own of what is printed, if this is a kernel.

    All streams of a cell become one text when it is stored, above all of its figures;
    an output of its own stays beside its figure.
    """
    if not _in_kernel():
        yield
        return
    from IPython.display import display

    with contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            yield
        finally:  # on an error too
            display({"text/plain": told.getvalue().rstrip("\n")}, raw=True)
