"""The methods, one readable file each: ``Config``, ``PRESETS`` and ``train``."""

from reidlib.recipes import baseline, direct, supervised

RECIPES = {"direct": direct, "baseline": baseline, "supervised": supervised}
"""Every recipe by the name that the command line knows it by."""

__all__ = ["RECIPES", "baseline", "direct", "supervised"]
