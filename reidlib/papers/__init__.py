"""The four papers' own numbers as data, and what of the papers is done here."""

from reidlib.papers.items import (
    Item,
    coverage,
    coverage_items,
    coverage_markdown,
    coverage_problems,
)
from reidlib.papers.tables import PAPERS, Column, PaperTable, list_tables, load_table

__all__ = [
    "PAPERS",
    "Column",
    "Item",
    "PaperTable",
    "coverage",
    "coverage_items",
    "coverage_markdown",
    "coverage_problems",
    "list_tables",
    "load_table",
]
