"""Figures with sliders over numbers that were computed before: JavaScript and a table.

`figures.interactive.explore` computes anew and needs a kernel. Here every number of the
figure is in the page: a reader without a kernel can move the sliders too.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from IPython.display import HTML

from figures.page import page_figure, table


@dataclass(frozen=True)
class Measure:
    """A figure that is drawn as a row of bars.

    Attributes:
        label: What it is, above its bars.
        max: Value of a full bar.
        unit: Behind each number.
        digits: Decimals of each number.
    """

    label: str
    max: float
    unit: str = ""
    digits: int = 1


def slider_figure(
    values: Callable[..., Mapping[str, Sequence[float]]],
    controls: Mapping[str, tuple[str, Sequence[Any]]],
    measures: Sequence[Measure],
    *,
    caption: str,
    start: Mapping[str, Any],
    show: Callable[[Any], str] = str,
) -> HTML:
    """Return a figure whose sliders choose among numbers that are all in the page.

    Args:
        values: Called once for each combination of the controls, by their names:
            category to one number for each measure, the same categories in each call.
        controls: By name the label of a slider and the values to choose from.
        measures: What the numbers are.
        caption: What the figure shows.
        start: For each control the value where it starts, which the table shows.
        show: Writes a value of a control.

    Raises:
        ValueError: If a start is not among the values, or categories or numbers differ
            between calls.

    Example:
        >>> figure = slider_figure(
        ...     lambda noise: {"hard": [100 - noise]},
        ...     {"noise": ("Wrong labels", [0, 20])},
        ...     [Measure("accuracy", 100, "%")],
        ...     caption="Noise hurts.",
        ...     start={"noise": 20},
        ... )
        >>> "80.0" in figure.data
        True
    """
    for name, (_, choices) in controls.items():
        if start[name] not in choices:
            raise ValueError(f"{name} starts at {start[name]}; choose from {choices}")
    found: dict[tuple[int, ...], Mapping[str, Sequence[float]]] = {}
    places = [range(len(choices)) for _, choices in controls.values()]
    for combination in itertools.product(*places):
        chosen = {
            name: choices[place]
            for place, (name, (_, choices)) in zip(
                combination, controls.items(), strict=True
            )
        }
        found[combination] = values(**chosen)
    begin = tuple(list(choices).index(start[n]) for n, (_, choices) in controls.items())
    categories = list(found[begin])
    if any(list(one) != categories for one in found.values()):
        raise ValueError("categories differ between the settings of the sliders")
    if any(len(row) != len(measures) for one in found.values() for row in one.values()):
        raise ValueError(f"each category needs {len(measures)} numbers, one a measure")

    def nested(prefix: tuple[int, ...]) -> Any:
        if len(prefix) < len(places):
            return [nested((*prefix, place)) for place in places[len(prefix)]]
        return [
            [None if math.isnan(v) else round(float(v), 6) for v in row]
            for row in found[prefix].values()
        ]

    data = {
        "controls": [
            {
                "name": name,
                "label": label,
                "values": [show(choice) for choice in choices],
                "start": place,
            }
            for place, (name, (label, choices)) in zip(
                begin, controls.items(), strict=True
            )
        ],
        "categories": categories,
        "measures": [vars(measure) for measure in measures],
        "values": nested(()),
    }
    static = _table(found[begin], measures, controls, start, show)
    return page_figure("sliders", data, static, caption)


def _shown(value: float, measure: Measure) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.{measure.digits}f} {measure.unit}".rstrip()


def _table(
    values: Mapping[str, Sequence[float]],
    measures: Sequence[Measure],
    controls: Mapping[str, tuple[str, Sequence[Any]]],
    start: Mapping[str, Any],
    show: Callable[[Any], str],
) -> str:
    """Return the static form: the numbers where the sliders start."""
    settings = ", ".join(
        f"{label}: {show(start[name])}" for name, (label, _) in controls.items()
    )
    rows = {
        category: [_shown(value, measure) for value, measure in zip(row, measures)]
        for category, row in values.items()
    }
    head = ["", *(measure.label for measure in measures)]
    return f"<p>{html.escape(settings)}</p>{table(head, rows)}"
