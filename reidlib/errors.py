"""The one error type of the library's border."""

from __future__ import annotations


class ReIDError(ValueError):
    """Input that the library cannot work with.

    The message is one line that says what was found, where, and how to mend it. The
    command line prints it and exits with status 2.
    """
