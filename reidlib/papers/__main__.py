"""Print the book's page on the coverage of the papers."""

from __future__ import annotations

from reidlib.papers.items import coverage_markdown

if __name__ == "__main__":
    print(coverage_markdown(), end="")
