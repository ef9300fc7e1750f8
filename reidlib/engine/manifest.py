"""What a number depends on: code, packages, hardware."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

import reidlib

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "kornia")
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
def code_hash(module: str) -> str:
    """Return a hash of a module's code and of all library code that it imports.

    Layout, comments and docstrings do not count: what is hashed is the syntax tree.
    This module is left out: it describes a run and cannot change a number of it.

    Args:
        module: Full name, for instance ``"reidlib.recipes.baseline"``.

    Returns:
        The hash, as hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(module) - {__name__}):
        digest.update(name.encode())
        digest.update(repr(_plain(_tree(name))).encode())
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


@cache
def _tree(module: str) -> ast.Module:
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))  # type: ignore[union-attr]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0].value = ast.Constant("")
    return tree


def _closure(module: str) -> set[str]:
    """Return the library modules that ``module`` imports, itself included."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        # torchvision.models has a namesake here: models/__init__.py.
        ours = name.split(".")[0] == reidlib.__name__
        if name in seen or not ours or _file(name) is None:
            continue
        seen.add(name)
        for node in ast.walk(_tree(name)):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                waiting.append(node.module)
                waiting += [f"{node.module}.{alias.name}" for alias in node.names]
    return seen
