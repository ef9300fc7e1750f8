"""The library's error type for invalid input."""

from __future__ import annotations


class ReIDError(ValueError):
    """Invalid input.

    The message is one line that says what was found, where, and how to correct it. The
    command line prints it and exits with status 2.
    """
