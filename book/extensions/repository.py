"""The public address of this repository, and what follows from it.

By hand it is written into ``_config.yml`` alone (``repository: url``). Where it is
given, every chapter has a link that opens it in Colab, and

    python book/extensions/repository.py

writes it into the other places that need it: the first cell of each chapter, which
prepares a Colab runtime, ``README.md`` and ``book/setup.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

ROOT = Path(__file__).parents[2]
COLAB = "https://colab.research.google.com/github"
UNKNOWN = "<address of this repository>"
"""What readers see while there is no address."""

COMMAND = re.compile(r"(git clone (?:-q )?'?)(<[^>]*>|[^\s'<>]+)('? reid-course)")
"""The command in which the address is written."""


def repository(config: Path = ROOT / "_config.yml") -> dict[str, str]:
    """Return the settings of the repository: ``url``, ``branch``, ``path_to_book``."""
    settings: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    found = settings.get("repository") or {}
    known = {"url": "", "branch": "main", "path_to_book": ""}
    return {key: str(found.get(key) or default) for key, default in known.items()}


def colab_link(page: str, place: dict[str, str]) -> str | None:
    """Return the address that opens a chapter in Colab.

    Args:
        page: The chapter's file below the book's folder, ``notebooks/attention.ipynb``.
        place: As `repository` returns it.

    Returns:
        The address, or None where the repository has none, or is not on GitHub: Colab
        opens notebooks of no other host by their path.

    Example:
        >>> place = {"url": "https://github.com/a/b", "branch": "main"}
        >>> colab_link("notebooks/one.ipynb", place)
        'https://colab.research.google.com/github/a/b/blob/main/notebooks/one.ipynb'
    """
    parts = urlsplit(place["url"])
    name = parts.path.strip("/").removesuffix(".git")
    if parts.netloc not in ("github.com", "www.github.com") or name.count("/") != 1:
        return None
    folder = place.get("path_to_book", "").strip("./")
    path = "/".join(filter(None, [folder, page]))
    return f"{COLAB}/{name}/blob/{quote(place['branch'])}/{quote(path)}"


def places() -> Iterator[Path]:
    """Yield the files that tell readers the address."""
    yield ROOT / "README.md"
    yield ROOT / "book" / "setup.md"
    yield from sorted(ROOT.glob("notebooks/*.ipynb"))


def with_address(text: str, address: str) -> str:
    """Return a text whose commands name an address.

    Example:
        >>> with_address("git clone <address> reid-course", "https://github.com/a/b")
        'git clone https://github.com/a/b reid-course'
    """
    return COMMAND.sub(lambda found: f"{found[1]}{address}{found[3]}", text)


def main() -> None:
    """Write the address into all places."""
    address = repository()["url"] or UNKNOWN
    for path in places():
        before = path.read_text(encoding="utf-8")
        after = with_address(before, address)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: {address}")


if __name__ == "__main__":
    main()
