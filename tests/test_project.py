"""The files around the code agree with each other and with what is installed."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import yaml

import reidlib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

FREE = re.compile(
    r"\b(?:MIT|BSD|Apache|ISC|PSF|Python Software Foundation|HPND|Unlicense|0BSD|CC0)",
    re.IGNORECASE,
)
STRICT = re.compile(r"GPL|General Public|MPL|Mozilla|Proprietary", re.IGNORECASE)


def licence_of(package: str) -> str:
    """What a package says about its licence; '' where it is not installed here."""
    try:
        stored = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
    said = [stored.get("License-Expression"), (stored.get("License") or "")[:80]]
    said += [c for c in stored.get_all("Classifier") or [] if c.startswith("License")]
    return " | ".join(filter(None, said)) or "unknown"


def lower_bounds(requirements: list[str]) -> dict[str, str]:
    """Name to lowest version, of requirements such as ``numpy>=1.26``."""
    bounds = {}
    for requirement in requirements:
        found = re.match(r"([\w.-]+?)(?:-base)?\s*>=\s*([\d.]+)", requirement)
        if found:
            bounds[found[1]] = found[2]
    return bounds


def test_every_stricter_licence_is_named():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    text = (ROOT / "THIRD_PARTY_LICENSES.md").read_text(encoding="utf-8")
    packages = sorted(set(re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)))
    assert len(packages) > 100
    unnamed = {}
    for package in packages:
        licence = licence_of(package)
        if licence and (STRICT.search(licence) or not FREE.search(licence)):
            family = "nvidia-*" if package.startswith("nvidia-") else package
            if family not in text:
                unnamed[package] = licence
    assert unnamed == {}


def test_the_library_itself_forces_no_copyleft_licence_on_its_users():
    names = [
        re.split(r"[\s<>=!~;\[]", requirement)[0]
        for requirement in PROJECT["project"]["dependencies"]
    ]
    assert [name for name in names if "GPL" in licence_of(name)] == []


def test_conda_asks_for_the_versions_that_the_package_asks_for():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    asked = lower_bounds([entry.replace("pytorch", "torch") for entry in conda])
    declared = lower_bounds(PROJECT["project"]["dependencies"])
    common = set(asked) & set(declared)
    assert len(common) >= 10
    assert {name: asked[name] for name in common} == {
        name: declared[name] for name in common
    }


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    versions = {
        reidlib.__version__,
        citation["version"],
        PROJECT["project"]["version"],
    }
    assert len(versions) == 1


def test_every_target_that_is_written_about_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE))
    for page in ["README.md", "CONTRIBUTING.md", "book/setup.md"]:
        text = (ROOT / page).read_text(encoding="utf-8")
        written = set(re.findall(r"(?:^ {4}|`|^)make ([a-z]+)", text, re.MULTILINE))
        assert written, page
        assert written <= targets, page


def test_an_installed_library_has_all_of_its_files():
    package = ROOT / "reidlib"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["reidlib"]
    packed = {file for pattern in patterns for file in package.glob(pattern)}
    ignored = {".py", ".pyc"}
    files = {f for f in package.rglob("*") if f.is_file() and f.suffix not in ignored}
    assert files
    assert files <= packed
