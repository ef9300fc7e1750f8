"""The library's error type for invalid input."""

from __future__ import annotations

from pathlib import Path


class ReIDError(ValueError):
    """Invalid input.

    The message is one line that says what was found, where, and how to correct it. The
    command line prints it and exits with status 2.
    """


class DamagedError(ReIDError):
    """A file that the library wrote is damaged, missing, or belongs to something else.

    Args:
        message: As for `ReIDError`.
        file: The file.
    """

    def __init__(self, message: str, file: Path = Path()) -> None:  # copied by pickle
        super().__init__(message)
        self.file = file


class ToldElsewhereError(ReIDError):
    """The first of several processes has an error, which it tells for all."""
