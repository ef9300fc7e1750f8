"""The methods, one readable file each: ``Config``, ``PRESETS`` and ``train``."""

from reidlib.recipes import baseline, calr, direct, supervised

RECIPES = {
    "direct": direct,
    "baseline": baseline,
    "calr": calr,
    "supervised": supervised,
}
"""Every recipe by the name that the command line knows it by."""

__all__ = ["RECIPES", "baseline", "calr", "direct", "supervised"]
