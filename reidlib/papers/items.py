"""The papers' items, and where each is implemented, tested and explained."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from importlib import import_module, resources
from pathlib import Path, PurePosixPath

import pandas as pd

from reidlib.papers.tables import PAPERS

ROOT = Path(__file__).resolve().parents[2]

CHECKS = {
    "loop": "equal to a loop",
    "known": "known answers",
    "runs": "shown again, from our own networks",
    "drawn": "drawn again",
    "quoted": "the paper's rows, quoted",
    "counted": "counted again",
}
"""How an item is checked that is no difference of two trained rows."""


@dataclass(frozen=True)
class Item:
    """One equation, table, figure, algorithm or component of a paper.

    Attributes:
        id: Paper, kind and number, as ``"CALR-E1"``.
        kind: ``equation``, ``table``, ``figure``, ``algorithm`` or ``component``.
        what: One line on what it is.
        status: ``closed`` if code, test and page exist, else ``open``.
        code: ``module:object`` of the library that implements it, or ``file::function``
            of the book or the notebooks, the file from the repository's root.
        test: ``file::name`` of a test, the file from the repository's root.
        page: Notebook with ``#anchor``, or page of ``book/``, that explains it.
        result: File under ``results/`` with the measurements, if the item needs one.
        claim: What the paper says of it, in at most ten words of ours.
        contradiction: Where the paper contradicts itself, in one sentence.
        check: One of `CHECKS`, unless a row of a plan is compared with another.
        plan: Plan of `reidlib.experiments` whose runs measure it; empty for the one
            that is called as the item, if there is one.
        row: Row of that plan whose difference decides whether the claim holds.
        note: What must be known beside the difference.
    """

    id: str
    kind: str
    what: str
    status: str
    code: str = ""
    test: str = ""
    page: str = ""
    result: str = ""
    claim: str = ""
    contradiction: str = ""
    check: str = ""
    plan: str = ""
    row: str = ""
    note: str = ""

    @property
    def paper(self) -> str:
        """Short name of the paper, one of `reidlib.papers.PAPERS`."""
        return {"AFF": "AFF_SCL"}.get(prefix := self.id.split("-")[0], prefix)


@cache
def coverage_items() -> tuple[Item, ...]:
    """Return every item of the four papers, in the order of the papers.

    Example:
        >>> len(coverage_items())
        98
    """
    file = resources.files("reidlib.papers") / "coverage.toml"
    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    return tuple(Item(id=item_id, **raw[item_id]) for item_id in raw["ids"])


def coverage() -> pd.DataFrame:
    """Return the items as a frame with the identifier as index.

    Returns:
        98 rows; columns paper and the attributes of `Item`.

    Example:
        >>> coverage().loc["AFF-E14", "kind"]
        'equation'
    """
    frame = pd.DataFrame([asdict(item) for item in coverage_items()]).set_index("id")
    frame.insert(0, "paper", [item.paper for item in coverage_items()])
    return frame


def coverage_markdown(items: Iterable[Item] | None = None, root: Path = ROOT) -> str:
    """Return the page ``book/coverage.md``: the share done, and a table per paper.

    ``python -m reidlib.papers > book/coverage.md`` writes it.

    Args:
        items: Items to show; all of them unless given.
        root: Root of the repository, whose pages are linked to.

    Example:
        >>> print(coverage_markdown().splitlines()[0])
        # How much of the papers is here
    """
    items = coverage_items() if items is None else tuple(items)
    groups = {name: [i for i in items if i.paper == name] for name in PAPERS}
    lines = [
        "# How much of the papers is here",
        "",
        "Every equation, table, figure, algorithm and component of the four papers.",
        "An item is done when its code, a test and a page that explains it are there.",
        "",
        "| Paper | Items | Done | Share |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, group in [*groups.items(), ("All", [*items])]:
        done = sum(item.status == "closed" for item in group)
        share = round(100 * done / max(len(group), 1))
        lines.append(f"| {name} | {len(group)} | {done} | {share} % |")
    for name, group in groups.items():
        lines += [
            "",
            f"## {name}: {PAPERS[name]}",
            "",
            "| Item | Kind | What | Code | Page | Done |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [_markdown_row(item, root) for item in group]
    return "\n".join(lines) + "\n"


def coverage_problems(root: Path, items: Iterable[Item] | None = None) -> list[str]:
    """Return one line for each reference that is missing or broken.

    A closed item must name code, test and page. Everything that an item names must
    exist: the object in its module, the test in its file, the anchor on its page, the
    result.

    Args:
        root: Root of the repository, with ``tests``, ``notebooks`` and ``book``.
        items: Items to check; all of them unless given.

    Example:
        >>> coverage_problems(Path("."), [Item("CALR-E1", "equation", "a", "closed")])
        ['CALR-E1: closed without code, test, page']
    """
    problems = []
    for item in coverage_items() if items is None else items:
        missing = [n for n in ("code", "test", "page") if not getattr(item, n)]
        if item.status == "closed" and missing:
            problems.append(f"{item.id}: closed without {', '.join(missing)}")
        elif item.status not in ("closed", "open"):
            problems.append(f"{item.id}: status {item.status!r} is not closed or open")
        found = {
            "code": _code_problem(root, item.code),
            "test": _test_problem(root, item.test),
            "page": _page_problem(root, item.page),
            "result": _result_problem(root, item.result),
        }
        problems += [f"{item.id}: {name} {why}" for name, why in found.items() if why]
    return problems


def _markdown_row(item: Item, root: Path) -> str:
    link = link_to(item.page, PurePosixPath(item.page.partition("#")[0]).stem, root)
    code = item.code if "::" in item.code else item.code.replace(":", ".")
    code = f"`{code}`" if code else ""
    done = "yes" if item.status == "closed" else "no"
    return f"| {item.id} | {item.kind} | {item.what} | {code} | {link} | {done} |"


def link_to(page: str, text: str, root: Path = ROOT) -> str:
    """Return a link from a page of ``book/`` to a place in the rendered book.

    Args:
        page: Page of an item, with or without an anchor; empty for none.
        text: What is shown.
        root: Root of the repository.
    """
    page, _, anchor = page.partition("#")
    if not page:
        return ""
    target = f"../{PurePosixPath(page).with_suffix('.html')}"
    if anchor and (root / page).is_file():
        target += f"#{_anchors(root / page).get(anchor.lower(), '')}"
    # Plain HTML: the target is a page of the rendered book, not a source file.
    return f'<a href="{escape(target)}">{escape(text)}</a>'


def code_link(code: str, *, linked: bool = True) -> str:
    """Return the code of an item as HTML.

    Args:
        code: Code of an item.
        linked: Link from a page of ``book/`` to the library's pages, on which functions
            of the book and of the notebooks are not.

    Example:
        >>> code_link("book/figures/diagrams.py::plot_diagram")
        '<code>book/figures/diagrams.py</code>'
    """
    file, _, function = code.partition("::")
    name = code.replace(":", ".")
    if function or not linked:
        return f"<code>{escape(file if function else name)}</code>"
    text = escape(name.removeprefix("reidlib."))
    page = name.split(".")[1]
    return f'<a href="../book/api/{page}.html#{escape(name)}"><code>{text}</code></a>'


def _code_problem(root: Path, code: str) -> str:
    if not code or "::" in code:
        return _definition_problem(root, code)
    module, _, name = code.partition(":")
    try:
        target = import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError, ValueError):
        return f"{code!r} cannot be imported as module:object"
    return ""


def _test_problem(root: Path, test: str) -> str:
    parts = test.lower().split("::")[1:] or [""]
    if test and not all(part.startswith("test") for part in parts):
        return f"{test!r} names no test"
    return _definition_problem(root, test)


def _definition_problem(root: Path, definition: str) -> str:
    """Describe what is missing of ``file::name`` or ``file::Class::name``."""
    if not definition:
        return ""
    file, _, name = definition.partition("::")
    if not (root / file).is_file():
        return f"{definition!r}: there is no file {file}"
    body: list[ast.stmt] = ast.parse((root / file).read_text(encoding="utf-8")).body
    # file::Class::name goes one level down for each part.
    for part in name.split("::"):
        match = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part
        ]
        if not match:
            return f"{definition!r}: {file} defines no {part!r}"
        body = match[0].body
    return ""


def _page_problem(root: Path, page: str) -> str:
    if not page:
        return ""
    file, _, anchor = page.partition("#")
    path = root / file
    if not path.is_file() or PurePosixPath(file).parts[0] not in ("book", "notebooks"):
        return f"{page!r}: there is no file {file} in book/ or notebooks/"
    if not anchor:
        return f"{page!r} needs an #anchor" if path.suffix == ".ipynb" else ""
    if anchor.lower() not in _anchors(path):
        return f"{page!r}: {file} has no anchor {anchor!r}"
    return ""


def _anchors(path: Path) -> dict[str, str]:
    """Return the anchors of a page in lower case, and their names once rendered."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)

    def found(pattern: str) -> list[str]:
        return [a.lower() for a in re.findall(pattern, text, re.MULTILINE)]

    def rendered(name: str) -> str:
        return re.sub(r"[^a-z0-9]+", "-", name).strip("-")

    headings = found(r"^#+\s+(.+?)\s*$")
    slugs = [re.sub(r"[^\w\- ]", "", h).replace(" ", "-") for h in headings]
    targets = found(r"^\(([^)\s]+)\)=\s*$") + found(r"^:(?:label|name):\s*(\S+)\s*$")
    equations = found(r"\$\$\s*\(([^)\s]+)\)\s*$")
    equations += found(r"\{math\}\s*\n(?::.*\n)*?:label:\s*(\S+)")
    # The label of an algorithm is its anchor as it stands.
    proofs = re.findall(r"\{prf:\w+\}.*\n(?::.*\n)*?:label:\s*(\S+)", text)
    return {
        **{slug: slug for slug in slugs},
        **{name: rendered(name) for name in targets},
        **{name: rendered(f"equation-{name}") for name in equations},
        **{name.lower(): name for name in proofs},
    }


def _result_problem(root: Path, result: str) -> str:
    if not result:
        return ""
    if PurePosixPath(result).parts[0] != "results" or not (root / result).is_file():
        return f"{result!r}: there is no such file under results/"
    return ""
