"""A query on a circle, and what the mean key and the hard key of its cluster pull."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from IPython.display import HTML

from figures.memories import on_circle, query_memory
from figures.page import page_figure, table

TERMS = ("mean contrast", "hard contrast")


def losses_and_pulls(
    degrees: Sequence[float], spread: float, temperature: float
) -> tuple[list[list[float]], list[list[float]]]:
    """Return what both contrasts of a query's memory say, wherever the query is.

    Args:
        degrees: Places of the query, an image of the cluster at 0.
        spread: Place of the cluster's hard key, in degrees.
        temperature: Of both softmaxes.

    Returns:
        For the mean and for the hard contrast the losses; and the pulls: by how much a
        loss falls with the place, per radian, positive towards larger angles.

    Example:
        >>> losses, pulls = losses_and_pulls([0.0], spread=45, temperature=0.2)
        >>> pulls[0][0], pulls[1][0] > 0  # the hard key is to the right
        (0.0, True)
    """
    memory, own = query_memory(spread, temperature), torch.tensor([0])
    losses: list[list[float]] = [[], []]
    pulls: list[list[float]] = [[], []]
    for place in degrees:
        query = on_circle([place]).requires_grad_()
        along = on_circle([place + 90.0])
        found = memory.losses(query, own)
        for term, loss in enumerate((found.mean, found.hard)):
            (slope,) = torch.autograd.grad(loss, query, retain_graph=True)
            losses[term].append(round(loss.item(), 3))
            pulls[term].append(round(-float((slope * along).sum()), 2) + 0.0)
    return losses, pulls


def circle_figure(
    spreads: Sequence[int],
    temperatures: Sequence[float],
    start: tuple[int, int, float],
    table_of: Sequence[tuple[int, int, float]],
    *,
    caption: str,
) -> HTML:
    """Return a circle with sliders for query, spread and temperature.

    Args:
        spreads: Places of the hard key, in degrees.
        temperatures: Of both softmaxes.
        start: Query, spread and temperature to start from.
        table_of: Settings of the static form.
        caption: What the figure shows.
    """
    degrees = list(range(-70, 71, 5))
    found = {
        (spread, temperature): losses_and_pulls(degrees, spread, temperature)
        for spread in spreads
        for temperature in temperatures
    }
    strongest = [
        max(abs(force) for s in spreads for term in found[s, t][1] for force in term)
        for t in temperatures
    ]
    data = {
        "alt": "A half circle with the query, the images and both keys of its cluster, "
        "and two other clusters to the left and to the right",
        "terms": TERMS,
        "degrees": degrees,
        "query": {
            "name": "query",
            "label": "Query",
            "values": [f"{d}°" for d in degrees],
            "start": degrees.index(start[0]),
        },
        "spread": {
            "name": "spread",
            "label": "Spread of the cluster",
            "values": [f"±{s}°" for s in spreads],
            "start": list(spreads).index(start[1]),
        },
        "temperature": {
            "name": "temperature",
            "label": "Temperature",
            "values": [f"{t:g}" for t in temperatures],
            "start": list(temperatures).index(start[2]),
        },
        "hard": list(spreads),
        "images": [torch.linspace(-s, s, 9).round().tolist() for s in spreads],
        "rivals": [
            {"mean": 80 * side, "hard": 74 * side, "images": [77 * side, 83 * side]}
            for side in (-1, 1)
        ],
        "values": [[found[s, t] for s in spreads] for t in temperatures],
        "strongest": strongest,
    }
    rows = {}
    for query, spread, temperature in table_of:
        losses, pulls = losses_and_pulls([query], spread, temperature)
        name = f"query {query}°, spread {spread}°, temperature {temperature:g}"
        rows[name] = [f"{x[0]:.2f}" for x in losses]
        rows[name] += [f"{x[0]:+.1f}" for x in pulls]
    head = ["", *TERMS, *(f"pull of the {term}" for term in TERMS)]
    return page_figure("circle", data, table(head, rows), caption)
