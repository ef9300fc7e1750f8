"""The methods, one readable file each: ``Config``, ``PRESETS`` and ``train``."""

from reidlib.recipes import aff_scl, baseline, calr, calr_local, direct, supervised

RECIPES = {
    "direct": direct,
    "baseline": baseline,
    "calr_local": calr_local,
    "calr": calr,
    "aff_scl": aff_scl,
    "supervised": supervised,
}
"""Every recipe by the name that the command line knows it by."""

__all__ = [
    "RECIPES",
    "aff_scl",
    "baseline",
    "calr",
    "calr_local",
    "direct",
    "supervised",
]
