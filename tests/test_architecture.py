"""The rules of the house, read from the source."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from reidlib.recipes import RECIPES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "reidlib"
MODULES = sorted(PACKAGE.rglob("*.py"))
BLOCKS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))

# Who may import whom: a module imports from its own floor or from one below it. What is
# not named here is a building block on floor 0.
FLOORS = {
    "errors": -3,
    "paths": -3,
    "files": -3,
    "terminal": -3,
    "checks": -2,
    "neighbors": -1,
    "engine": 1,
    "recipes": 2,
    "papers": 2,
    "experiments": 3,
    "trained": 3,
    "bench": 3,
    "exercises": 3,
    "cli": 4,
    "__init__": 4,
    "__main__": 4,
}

# Components that are one paper's own may carry its name below the recipes.
PAPERS = re.compile(r"(?i)(^|_)(calr|aff_?scl|cals|qafm)(?=_|$|[A-Z])")
OWN_COMPONENTS: set[str] = set()


def part_of(path: Path) -> str:
    """The top-level package or module that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def floor_of(part: str) -> int:
    return FLOORS.get(part, 0)


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path, *, at_import_only: bool) -> list[str]:
    """Dotted names of everything a file imports.

    ``at_import_only`` leaves out what is imported inside functions and under
    ``TYPE_CHECKING``, that is, what importing the module itself does not need.
    """
    names: list[str] = []
    package = dotted(path) if path.name == "__init__.py" else dotted(path.parent)

    def visit(node: ast.AST) -> None:
        if at_import_only:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                return
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                return
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            names.extend(f"{base}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def reidlib_parts(names: list[str]) -> set[str]:
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "reidlib" and len(part) > 1}


def source_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=source_of)
def test_imports_point_downwards(path):
    own = part_of(path)
    upwards = [
        part
        for part in reidlib_parts(imported_names(path, at_import_only=False))
        if floor_of(part) > floor_of(own)
    ]
    assert upwards == [], f"{source_of(path)} imports from a floor above its own"


def test_building_blocks_do_not_import_each_other_in_a_circle():
    needs: dict[str, set[str]] = {}
    for path in MODULES:
        own = part_of(path)
        found = reidlib_parts(imported_names(path, at_import_only=True))
        needs.setdefault(own, set()).update(found - {own, "__version__"})
    while leaves := {part for part, wanted in needs.items() if not wanted & set(needs)}:
        needs = {part: wanted for part, wanted in needs.items() if part not in leaves}
    assert needs == {}


def test_importing_the_library_needs_only_what_it_declares():
    # Optional things (faiss, infomap, cv2) are imported where they are used: the plain
    # installation can import every module.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = {
        re.split(r"[\s<>=!~;\[]", requirement)[0].lower().replace("_", "-")
        for requirement in project["project"]["dependencies"]
    }
    owners = packages_distributions()
    undeclared = set()
    for path in MODULES:
        for name in imported_names(path, at_import_only=True):
            top = name.split(".")[0]
            if top == "reidlib" or top in sys.stdlib_module_names:
                continue
            owned_by = {o.lower().replace("_", "-") for o in owners.get(top, [top])}
            if not owned_by & declared:
                undeclared.add(f"{source_of(path)}: {name}")
    assert undeclared == set()


def test_building_blocks_name_no_paper():
    named = set()
    for path in MODULES:
        if floor_of(part_of(path)) > 0:
            continue
        names = [path.stem]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.append(node.name)
        named |= {f"{source_of(path)}: {name}" for name in names if PAPERS.search(name)}
    assert {
        name for name in named if name.split(": ")[1] not in OWN_COMPONENTS
    } == set()


@pytest.mark.parametrize("path", MODULES, ids=source_of)
def test_the_library_leaves_device_checks_and_randomness_to_its_caller(path):
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert):
            wrong.append(f"line {node.lineno}: an assert vanishes under python -O")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            call = ast.unparse(node.func)
            if node.func.attr == "cuda":
                wrong.append(f"line {node.lineno}: the device comes from the tensors")
            if floor_of(part_of(path)) <= 0 and call in {
                "torch.manual_seed",
                "random.seed",
                "np.random.seed",
            }:
                wrong.append(f"line {node.lineno}: {call} changes the caller's state")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            wrong.append(f"line {node.lineno}: an except that hides every error")
    assert wrong == []


def test_every_part_of_the_library_has_its_tests():
    assert [
        name for name in BLOCKS if not list(ROOT.glob(f"tests/{name}/test_*.py"))
    ] == []


def test_every_figure_of_a_chapter_has_its_tests():
    tests = "".join(path.read_text() for path in ROOT.glob("tests/notebooks/test_*.py"))
    untested = [
        path.stem
        for path in ROOT.glob("notebooks/figures/[a-z]*.py")
        if not re.search(
            rf"from figures(\.{path.stem}\b| import .*\b{path.stem}\b)", tests
        )
    ]
    assert untested == []


def test_no_source_is_left_unfinished_or_tied_to_one_machine():
    left = re.compile(
        r"\b(?:TO"
        r"DO|FIX"
        r"ME|XX"
        r"X)\b|NotImplemented"
        r"Error"
        r"|(?<![\w.])/(?:root|home|Users)/\w"
    )
    found = []
    for folder in ("reidlib", "tests", "book", "notebooks", "benchmarks"):
        for suffix in ("py", "md", "ipynb", "cfg", "yml"):
            for path in sorted(ROOT.glob(f"{folder}/**/*.{suffix}")):
                text = path.read_text(encoding="utf-8")
                for number, line in enumerate(text.split("\n"), 1):
                    if left.search(line):
                        found.append(f"{source_of(path)}:{number}: {line.strip()[:80]}")
    assert found == []


PAGE = {"baseline": 70}
"""Lines of `train` of a recipe that others build on; for the others 100."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_one_page_of_the_same_shape(name):
    recipe = RECIPES[name]
    assert isinstance(recipe.VERSION, int)
    assert dataclasses.is_dataclass(recipe.Config)
    assert all(isinstance(p, recipe.Config) for p in recipe.PRESETS.values())
    assert callable(recipe.network)
    lines = inspect.getsource(recipe.train).splitlines()
    assert len(lines) <= PAGE.get(name, 100)
