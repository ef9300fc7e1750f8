"""Numbers that prose quotes: what they are is described, their values are read.

``quotes.toml`` describes each by a table of the experiments and a row of it, the
difference of two rows, or a share of the variance of one training (luck); `preset` is
``ablation`` if it is not given.
``make_figures.py --tables`` reads the values from the result files into
``quotes.json``, from which the role ``result`` of a page takes them::

    The second memory costs {result}`aff-t2-loss size` points.

Behind the name stands how it is shown, see `shown`.
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from reidlib.experiments import by_seed
from reidlib.experiments.verdicts import luck

FILE = Path(__file__).with_name("quotes.toml")
MINUS = "\N{MINUS SIGN}"


def quotes() -> dict[str, dict[str, Any]]:
    """Return the values of every quoted number: one for each city, and its digits."""
    found = {}
    for name, quote in tomllib.loads(FILE.read_text(encoding="utf-8")).items():
        if "variance" in quote:
            share, of = quote["variance"]
            found[name] = {
                "digits": 1,
                "cities": [round(luck() * math.sqrt(share / of), 6)],
            }
            continue
        rows = [quote["row"], *([quote["minus"]] if "minus" in quote else [])]
        how = {"measure": quote.get("measure", "mAP")}
        how["preset"] = quote.get("preset", "ablation")
        values = by_seed(quote["table"], rows, **how)
        cities = values.loc[rows[0]]
        if len(rows) == 2:
            cities = cities - values.loc[rows[1]]
        found[name] = {
            "digits": quote.get("digits", 1),
            "cities": [None if np.isnan(v) else round(float(v), 6) for v in cities],
        }
    return found


def shown(quote: dict[str, Any], how: str = "mean") -> str:
    """Return a quoted number as text.

    Args:
        quote: A value of `quotes`.
        how: ``mean``, over the cities; ``gain``, the mean with its sign, ``size``, the
            mean without it; ``std`` (n - 1); ``spread``, mean and deviation; ``least``
            and ``most`` of the cities; ``cities``, ``gains`` and ``sizes``, each city.

    Example:
        >>> [shown({"digits": 1, "cities": [1.0, -4.0]}, h) for h in ("gain", "sizes")]
        ['−1.5', '1.0, 4.0']
    """
    known = [value for value in quote["cities"] if value is not None]
    if not known or (how in ("std", "spread") and len(known) < 2):
        return "(not run)"
    values = np.array(known)

    def text(value: float, sign: str = "") -> str:
        return f"{value:{sign}.{quote['digits']}f}".replace("-", MINUS)

    mean, std = values.mean(), values.std(ddof=1) if len(known) > 1 else np.nan
    forms = {
        "mean": lambda: text(mean),
        "gain": lambda: text(mean, "+"),
        "size": lambda: text(abs(mean)),
        "std": lambda: text(std),
        "spread": lambda: f"{text(mean)} ± {text(std)}",
        "least": lambda: text(values.min()),
        "most": lambda: text(values.max()),
        "cities": lambda: ", ".join(map(text, values)),
        "gains": lambda: ", ".join(text(value, "+") for value in values),
        "sizes": lambda: ", ".join(map(text, abs(values))),
    }
    return forms[how]()
