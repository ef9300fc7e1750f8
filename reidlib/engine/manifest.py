"""What a number depends on: code, packages, hardware."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

import reidlib

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "kornia")
_LEFT_OUT = (__name__, "reidlib.engine.cache")
_PACKAGE_ROOT = Path(reidlib.__file__).parent


def environment() -> dict[str, object]:
    """Return commit, package versions and hardware of this process."""
    versions = {"reidlib": reidlib.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        versions[package] = importlib.metadata.version(package)
    hardware: dict[str, object] = {
        "machine": platform.machine(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        hardware["gpus"] = [
            torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
        ]
    return {"commit": git_commit(), "versions": versions, "hardware": hardware}


def git_commit() -> str | None:
    """Return the commit of the checkout, ``-dirty`` where the library was changed."""
    git = ["git", "-C", str(_PACKAGE_ROOT)]
    try:
        # Installed into an environment inside another project, the library would
        # otherwise report that project's commit.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", "__init__.py"],
            capture_output=True,
            check=True,
        )
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", str(_PACKAGE_ROOT)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # an installed package, no checkout
    return f"{commit}-dirty" if changed else commit


@cache
def code_hash(name: str) -> str:
    """Return a hash of a definition's code and of all library code that it uses.

    What is hashed is the syntax tree of the function, class or constant, of all those
    whose names stand in it, of those that stand in these, and so on. Layout, comments
    and docstrings do not count, nor does a definition beside them that nothing here
    uses. This module and the cache are left out: they describe runs, or find them
    again, and cannot change a number of one.

    Args:
        name: Full name of a definition, such as ``"reidlib.recipes.calr.train"``, or of
            a module, which stands for all of its definitions.

    Returns:
        The hash, as hexadecimal digits.
    """
    digest = hashlib.sha256()
    for module, definition in sorted(_reached(name)):
        digest.update(f"{module}:{definition}".encode())
        # What a name stands for, also where that is another package's.
        digest.update(repr(sorted(_imported(module, definition))).encode())
        for node in _module(module).definitions[definition]:
            digest.update(repr(_plain(node)).encode())
    return digest.hexdigest()


def _plain(node: object) -> object:
    """Return a syntax tree as tuples, the same for every version of Python.

    `ast.dump` is not: versions differ in which empty fields there are and are shown.
    """
    if isinstance(node, ast.AST):
        fields = [
            (name, _plain(value))
            for name, value in ast.iter_fields(node)
            if value is not None and value != []
        ]
        return type(node).__name__, fields
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return repr(node)


def _file(module: str) -> Path | None:
    base = _PACKAGE_ROOT.joinpath(*module.split(".")[1:])
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


@dataclass(frozen=True)
class _Module:
    """The top level of a module.

    Attributes:
        definitions: The statements that define each name; under ``""`` those that
            define none, which are executed whenever anything of the module is used.
        imports: Full name of what each imported name stands for.
    """

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, str]


@cache
def _module(name: str) -> _Module:
    tree = ast.parse(_file(name).read_text(encoding="utf-8"))  # type: ignore[union-attr]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0].value = ast.Constant("")
    definitions: dict[str, list[ast.stmt]] = {"": []}
    for node in tree.body:
        for defined in _defined(node):
            definitions.setdefault(defined, []).append(node)
    return _Module(definitions, _imports(tree.body))


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a module defines, ``""`` for none."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return set()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return set()  # a docstring
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    names = {
        part.id
        for target in targets
        for part in ast.walk(target)
        if isinstance(part, ast.Name)
    }
    return names or {""}


def _imports(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Return the full name of each name that is imported somewhere in statements."""
    found = {}
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def _used(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names, also dotted ones, that stand in some statements."""
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        parts: list[str] = []
        part = node
        while isinstance(part, ast.Attribute):
            parts.append(part.attr)
            part = part.value
        if isinstance(part, ast.Name):
            yield ".".join([part.id, *reversed(parts)])


def _reached(name: str) -> set[tuple[str, str]]:
    """Return module and name of each definition that ``name`` uses, itself included."""
    seen: set[tuple[str, str]] = set()
    waiting = [name]
    while waiting:
        module, definitions = _find(waiting.pop())
        for definition in definitions - {d for m, d in seen if m == module}:
            seen.add((module, definition))
            waiting += [full for _, full in _imported(module, definition)]
            nodes = _module(module).definitions[definition]
            waiting += [f"{module}.{used}" for used in _used(nodes)]
    return seen


def _imported(module: str, definition: str) -> set[tuple[str, str]]:
    """Return the imported names that a definition uses, and their full names."""
    nodes = _module(module).definitions[definition]
    imports = {**_module(module).imports, **_imports(nodes)}
    found = set()
    for used in _used(nodes):
        first, dot, rest = used.partition(".")
        if first in imports:
            found.add((used, f"{imports[first]}{dot}{rest}"))
    return found


def _find(name: str) -> tuple[str, set[str]]:
    """Return the library module that a full name leads to, and its names that count."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        # torchvision.models has a namesake here: models/__init__.py.
        if parts[0] == reidlib.__name__ and _file(module) is not None:
            break
    else:
        return "", set()
    if module in _LEFT_OUT:
        return "", set()
    known = _module(module)
    if length == len(parts):
        return module, set(known.definitions)
    first = parts[length]
    if first in known.definitions:
        return module, {first, ""}
    if first in known.imports:
        return _find(".".join([known.imports[first], *parts[length + 1 :]]))
    return module, set()
