"""What each switch of a method is worth, from runs with every setting of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from reidlib.errors import ReIDError
from reidlib.experiments.measured import by_seed
from reidlib.experiments.results import Data


def factorial_effects(
    table: str,
    design: Mapping[str, Collection[str]],
    *,
    measure: str = "mAP",
    preset: str = "ablation",
    data: Data | None = None,
) -> pd.DataFrame:
    """Return main effects and two-way interactions of switches, seed by seed.

    A path that adds one switch after another says what each is worth in one setting of
    the others, and depends on the order. With a run for every setting of all switches,
    the *main effect* of a switch is its gain averaged over all settings of the others.
    The *interaction* of two is how much larger the gain of one is where the other is
    on: the same number for both. It is a difference of two gains, averaged over the
    settings of the remaining switches.

    Runs of one seed share their city. Effects are computed inside each seed, so that
    what makes a city easy or hard cancels, as in `paired_differences`.

    Args:
        table: Name of a plan.
        design: For each of the 2^k rows the names of the switches that are on in it.
        measure: A column of `load_results`.
        preset: Preset of the runs.
        data: Data of the runs; SynthCity ``course`` if not given.

    Returns:
        A frame with a line for each switch, and one for each pair (``"A x B"``): one
        column for each seed that any run of the table has, ``mean`` and ``std`` (n - 1)
        over them. nan where one of the 2^k runs of a seed is missing or broke down.

    Raises:
        ReIDError: If the rows are not every setting of two or more switches once, or as
            `paired_differences`.

    Example:
        >>> design = {"both, no weights": ["camera", "labels"], "Baseline": []}
        >>> design |= {"camera alignment": ["camera"], "label refinement": ["labels"]}
        >>> factorial_effects("CALR-T3", design).index.tolist()
        ['camera', 'labels', 'camera x labels']
    """
    switches = list(dict.fromkeys(name for on in design.values() for name in on))
    given = sorted(tuple(name in on for name in switches) for on in design.values())
    every = sorted(np.ndindex(*(2,) * len(switches)))
    if len(switches) < 2 or given != every:
        raise ReIDError(
            f"factorial_effects: {len(design)} rows for the switches "
            f"{', '.join(switches) or '(none)'}; give two switches or more, and each "
            "of their settings once"
        )
    values = by_seed(table, design, measure=measure, preset=preset, data=data)
    scores = values.loc[list(design)]  # (2^k, seeds)
    signs = {
        name: np.array([1 if name in on else -1 for on in design.values()])
        for name in switches
    }
    pairs = {f"{a} x {b}": signs[a] * signs[b] for a, b in combinations(switches, 2)}
    # A main effect averages so many gains, an interaction half as many differences.
    gains = len(design) / 2
    effects = {name: sign @ scores.to_numpy() / gains for name, sign in signs.items()}
    effects |= {
        name: 2 * (sign @ scores.to_numpy()) / gains for name, sign in pairs.items()
    }
    seeds = pd.DataFrame(effects, index=scores.columns).T
    return seeds.assign(mean=seeds.mean(axis=1), std=seeds.std(axis=1))
