"""Person re-identification, taught and implemented.

Sub-packages, from the lowest level: ``data`` and ``synthcity`` provide images with
identities and cameras; ``models``, ``neighbors``, ``clustering``, ``labels``,
``losses`` and ``evaluation`` are the building blocks; ``engine`` runs, records and
resumes the training; ``recipes`` are the methods, one file each. A trained network is
used in three lines, see `load`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reidlib.trained import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: `import reidlib` stays instant.
    if name == "load":
        from reidlib.trained import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
