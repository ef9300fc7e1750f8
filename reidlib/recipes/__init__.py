"""The methods, one page each: ``Config``, ``PRESETS``, ``network`` and ``train``.

`settings` holds what configurations share, `steps` what trainings share, `diagnosis`
what is measured with the identities that no method sees.
"""

from types import ModuleType

from reidlib.recipes import (
    aff_scl,
    baseline,
    calr,
    calr_local,
    cals,
    direct,
    qafm,
    supervised,
)

RECIPES: dict[str, ModuleType] = {
    "direct": direct,
    "baseline": baseline,
    "calr_local": calr_local,
    "calr": calr,
    "aff_scl": aff_scl,
    "cals": cals,
    "supervised": supervised,
    "qafm": qafm,
}
"""Every recipe by the name that the command line knows it by."""

__all__ = [
    "RECIPES",
    "aff_scl",
    "baseline",
    "calr",
    "calr_local",
    "cals",
    "direct",
    "qafm",
    "supervised",
]
