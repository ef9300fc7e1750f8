"""Tables of the pages: rows of text to Markdown, and numbers to text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from reidlib.experiments.verdicts import each


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a table of the cells as given; a mean stays with its deviation."""
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    return table.replace(" ± ", "\u00a0±\u00a0")


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Return the mean over the seeds, with the deviation where there are several."""
    array = np.array(list(values))
    text = f"{array.mean():.{digits}f}"
    return text if len(array) < 2 else f"{text} ± {array.std(ddof=1):.{digits}f}"


def each_city(line: pd.Series) -> str:
    """Return the differences of `paired_differences` or an effect, city by city."""
    return each(line.drop(["mean", "std"], errors="ignore")) or "missing"
