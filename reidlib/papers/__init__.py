"""The numbers of the four papers, and which of their items are implemented here."""

from reidlib.papers.items import (
    CHECKS,
    Item,
    code_link,
    coverage,
    coverage_items,
    coverage_markdown,
    coverage_problems,
    link_to,
)
from reidlib.papers.tables import PAPERS, Column, PaperTable, list_tables, load_table

__all__ = [
    "CHECKS",
    "PAPERS",
    "Column",
    "Item",
    "PaperTable",
    "code_link",
    "coverage",
    "coverage_items",
    "coverage_markdown",
    "coverage_problems",
    "link_to",
    "list_tables",
    "load_table",
]
