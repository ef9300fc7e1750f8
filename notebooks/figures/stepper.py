"""One pivot after another refines a cluster, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from IPython.display import HTML
from torch import Tensor

from figures.page import page_figure, sheet, table
from reidlib.clustering import cluster_quality
from reidlib.labels import PIVOT_RULES, refine_labels, select_pivots


def steps_of(
    rule: Any,
    members: Tensor,
    clusters: Tensor,
    local: Tensor,
    scores: Tensor,
    pids: Tensor,
    camids: Tensor,
) -> list[dict[str, Any]]:
    """Return what each further pivot leaves of a cluster.

    Args:
        rule: One of ``reidlib.labels.PIVOT_RULES``.
        members: Rows of a cluster's images.
        clusters: ``(N,)`` global clusters.
        local: ``(N,)`` local clusters.
        scores: ``(N,)`` of `pivot_scores`.
        pids: ``(N,)`` person ids.
        camids: ``(N,)`` camera ids.

    Returns:
        The cluster, and then a step for each of its pivots, the best first: places of
        the ``pivot``, of the images that it ``judges``, of those in its local cluster
        (``same``), and of all that are ``gone`` by now, as places in ``members``; and
        ``precision`` and ``recall`` of the pairs that are left, of the pairs of one
        person in the whole cluster.

    Example:
        >>> zeros, two = torch.zeros(3, dtype=torch.long), torch.tensor([0, 0, 1])
        >>> scores = torch.tensor([2.0, 0.0, 0.0])
        >>> pids, members = two + 1, torch.arange(3)
        >>> found = steps_of("ordered", members, zeros, two, scores, pids, zeros)
        >>> [step["gone"] for step in found], found[-1]["precision"]
        ([[], [2]], 1.0)
    """
    rows = members.tolist()
    pivots = [
        pivot
        for pivot in select_pivots(scores, clusters, camids, rule).tolist()
        if pivot in rows
    ]
    steps = []
    for number in range(len(pivots) + 1):
        chosen = torch.tensor(pivots[:number], dtype=torch.long)
        gone = refine_labels(clusters, local, camids, chosen).discarded[members]
        quality = cluster_quality(
            torch.where(gone, -1, 0), pids[members], camids[members]
        )
        step = {
            "gone": torch.nonzero(gone)[:, 0].tolist(),
            # Without a pair, neither is defined.
            "precision": _share(quality.pairwise_precision),
            "recall": _share(quality.pairwise_recall),
        }
        if number:
            pivot = pivots[number - 1]
            judged = camids[members] == camids[pivot]
            same = judged & (local[members] == local[pivot])
            step["pivot"] = rows.index(pivot)
            step["judges"] = torch.nonzero(judged)[:, 0].tolist()
            step["same"] = torch.nonzero(same)[:, 0].tolist()
        steps.append(step)
    return steps


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 3)


def stepper_figure(
    pictures: Any,
    examples: Mapping[str, int],
    clusters: Tensor,
    local: Tensor,
    scores: Tensor,
    pids: Tensor,
    camids: Tensor,
    *,
    caption: str,
) -> HTML:
    """Return clusters that a reader refines pivot by pivot, by each rule.

    Args:
        pictures: ``pictures[row]`` is the image of a row.
        examples: For each name a cluster.
        clusters: ``(N,)`` global clusters.
        local: ``(N,)`` local clusters.
        scores: ``(N,)`` of `pivot_scores`.
        pids: ``(N,)`` person ids.
        camids: ``(N,)`` camera ids.
        caption: What the figure shows.
    """
    columns = clusters, local, scores, pids, camids
    shown: list[Any] = []
    cases: list[dict[str, Any]] = []
    rows = {}
    for name, cluster in examples.items():
        inside = torch.nonzero(clusters == cluster)[:, 0]
        order = np.lexsort((local[inside].numpy(), camids[inside].numpy()))
        members = inside[torch.from_numpy(order)]
        steps = {rule: steps_of(rule, members, *columns) for rule in PIVOT_RULES}
        cases.append(
            {
                "first": len(shown),
                "people": pids[members].tolist(),
                "cameras": camids[members].tolist(),
                "local": _letters(local[members].tolist()),
                "steps": list(steps.values()),
            }
        )
        shown += [pictures[row] for row in members.tolist()]
        for rule, found in steps.items():
            before, after = found[0], found[-1]
            rows[f"{name}, {rule}"] = [
                str(len(found) - 1),
                f"{len(after['gone'])} of {len(members)}",
                *(
                    f"{_text(before[key])} → {_text(after[key])}"
                    for key in ("precision", "recall")
                ),
            ]
    head = ["", "pivots", "discarded", "pair precision", "pair recall"]
    width = max(len(case["people"]) for case in cases)
    picture = sheet(
        shown, f"The images of {len(cases)} clusters, by camera", columns=min(12, width)
    )
    data = {"names": list(examples), "rules": PIVOT_RULES, "cases": cases}
    return page_figure("stepper", data, picture + table(head, rows), caption)


def _text(share: float | None) -> str:
    return "–" if share is None else f"{share:.2f}"


def _letters(labels: list[int]) -> list[str]:
    """Name local clusters by letters, in the order of their first image."""
    names = {label: at for at, label in enumerate(dict.fromkeys(labels))}
    return [chr(97 + names[label] % 26) for label in labels]
