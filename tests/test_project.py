"""The files around the code agree with each other and with what is installed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from packaging.requirements import Requirement

import reidlib
from reidlib.clustering import infomap
from reidlib.errors import ReIDError
from reidlib.recipes import RECIPES

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


def clone(folder: Path) -> Path:
    """Copy what an installation and the chapters need, as `git clone` would."""
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("reidlib", "notebooks"):
        ignored = shutil.ignore_patterns("__pycache__", "*.ipynb")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    return folder


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Return the last line that a command prints, standing in a folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return done.stdout.strip().split("\n")[-1]


@pytest.fixture(scope="module")
def empty_python(tmp_path_factory):
    """A Python with all packages of this one, but for reidlib."""
    base = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", base], check=True)
    site = next((base / "lib").glob("python*/site-packages"))
    for entry in next(Path(sys.prefix, "lib").glob("python*/site-packages")).iterdir():
        if entry.name == "pip":  # which would otherwise look after its own environment
            shutil.copytree(entry, site / "pip")
        elif not entry.name.startswith(("reidlib", "__editable__", "pip-")):
            (site / entry.name).symlink_to(entry)
    return base / "bin" / "python"


WHERE = "import reidlib.errors; print(reidlib.__file__)"


def test_an_editable_install_is_found_from_the_folder_above_the_clone(tmp_path):
    code = clone(tmp_path / "above" / "reidlib")
    build = "from setuptools import build_meta; print(build_meta.build_editable('..'))"
    wheel = run(sys.executable, "-c", build, folder=code)
    with zipfile.ZipFile(code.parent / wheel) as archive:
        archive.extractall(tmp_path / "site")
    # A path, which static tools follow too, and no code.
    (path,) = (tmp_path / "site").glob("*.pth")
    assert Path(path.read_text(encoding="utf-8").strip()) == code
    start = f"import site; site.addsitedir({str(tmp_path / 'site')!r}); {WHERE}"
    for folder in (code.parent, code, code / "notebooks", tmp_path):
        found = run(sys.executable, "-S", "-c", start, folder=folder)
        assert (folder / found).resolve() == code / "reidlib" / "__init__.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("", ""), ("reidlib", "--editable ")],
    ids=["as documented", "editable, in a folder of the library's name"],
)
def test_the_cell_for_colab_works_at_once_and_after_a_restart(
    name, options, tmp_path, empty_python
):
    page = (ROOT / "book/setup.md").read_text(encoding="utf-8")
    cell = re.search(r"```ipython3\n(.*?)```", page, re.DOTALL)[1]
    cloned = re.search(r"!git clone (?:<[^>]*>|\S+) (\S+)\n", cell)
    # The folder may have the library's own name all the same.
    cell = cell.replace(cloned[0], "").replace(cloned[1], name or cloned[1])
    pip = "%pip install --quiet "
    assert pip in cell
    cell = cell.replace(pip, f"{pip}--no-deps --no-build-isolation {options}")
    content, scripts = tmp_path / "content", tmp_path / "scripts"
    clone(content / (name or cloned[1]))
    scripts.mkdir()
    (scripts / "live.ipy").write_text(f"{cell}\n{WHERE}\n", encoding="utf-8")
    last = cell.strip().split("\n")[-1]
    (scripts / "again.ipy").write_text(f"{last}\n{WHERE}\n", encoding="utf-8")
    # Colab's kernel has the folder in which it starts first in its path.
    environment = {"PYTHONPATH": str(content), "IPYTHONDIR": str(tmp_path)}
    for script in ("live.ipy", "again.ipy"):
        found = run(
            empty_python,
            "-m",
            "IPython",
            scripts / script,
            folder=content,
            **environment,
        )
        assert found.endswith("reidlib/__init__.py"), found
        (content / found).resolve().relative_to(content)


@pytest.mark.slow
def test_the_first_cell_of_a_chapter_prepares_colab_alone(tmp_path, empty_python):
    chapter = nbformat.read(ROOT / "notebooks/task_and_metrics.ipynb", as_version=4)
    cell = next(c.source for c in chapter.cells if c.cell_type == "code")
    lines = cell[: cell.index("\n\n", cell.index("%cd -q reid-course"))]
    content, home = tmp_path / "content", clone(tmp_path / "public")
    content.mkdir()
    for command in ("init -q", "add .", "-c user.name=a -c user.email=b commit -qm c"):
        subprocess.run(["git", *command.split()], cwd=home, check=True)
    lines = re.sub(r"'(<[^>]*>|\S+)' reid-course", f"{home} reid-course", lines)
    lines = lines.replace("cd -q /content", f"cd -q {content}")
    lines = lines.replace("install -q", "install -q --no-deps --no-build-isolation")
    assert str(home) in lines
    assert "no-deps" in lines
    colab = "import sys, types; sys.modules['google.colab'] = types.ModuleType('c')"
    told = "import os; print(os.getcwd(), reidlib.__file__)"
    scripts = {
        "elsewhere.ipy": f"{lines}\nimport os; print(os.getcwd())\n",
        "colab.ipy": f"{colab}\n{lines}\nimport reidlib.errors; {told}\n",
    }
    found = []
    # The last: the runtime was started anew, and the cell is run again.
    for script in ("elsewhere.ipy", "colab.ipy", "colab.ipy"):
        (tmp_path / script).write_text(scripts[script], encoding="utf-8")
        command = (empty_python, "-m", "IPython", tmp_path / script)
        found.append(run(*command, folder=tmp_path, IPYTHONDIR=str(tmp_path / "i")))
        if script == "elsewhere.ipy":
            assert list(content.iterdir()) == []
    notebooks = content / "reid-course" / "notebooks"
    assert found[0] == str(tmp_path)
    for line in found[1:]:
        folder, _, file = line.partition(" ")
        assert Path(folder) == notebooks
        library = notebooks.parent / "reidlib" / "__init__.py"
        assert (notebooks / file).resolve() == library.resolve()


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


def test_infomaps_licence_is_its_own_wherever_it_is_named(monkeypatch):
    pytest.importorskip("infomap")
    licence = licence_of("infomap").split(" | ")[0]
    assert "GPL" in licence
    monkeypatch.setitem(sys.modules, "infomap", None)  # as if it were not installed
    with pytest.raises(ReIDError) as refused:
        infomap(torch.eye(3))
    named = {"the message": str(refused.value), "the docstring": infomap.__doc__}
    pages = ["pyproject.toml", "README.md", "THIRD_PARTY_LICENSES.md", "book/setup.md"]
    named |= {page: (ROOT / page).read_text(encoding="utf-8") for page in pages}
    for place, text in named.items():
        said = [
            found
            for sentence in re.split(r"\n\n|\n\||\n#", text)
            if "infomap" in sentence.lower()
            for found in re.findall(r"A?GPL(?:-\w+(?:\.\d+)*)*", sentence)
        ]
        assert licence in said, place
        assert set(said) <= {licence, "GPL"}, place


def test_no_environment_takes_an_upload_that_was_malicious():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9-]+)==([\w.]+)", lock, re.MULTILINE))
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [e["pip"] for e in environment["dependencies"] if isinstance(e, dict)]
    declared = [Requirement(entry) for entry in PROJECT["project"]["dependencies"]]
    for name in ("lightning", "pytorch-lightning", "lightning-fabric"):
        asked = [entry for entry in declared if entry.name == name]
        asked += [Requirement(entry) for entry in pip if entry.startswith(f"{name}>")]
        assert len(asked) == (2 if name == "lightning-fabric" else 0)
        for version in ("2.6.2", "2.6.3"):
            assert locked.get(name) != version
            assert not any(entry.specifier.contains(version) for entry in asked)
    for entry in declared:
        assert entry.specifier.contains(locked[entry.name]), entry


def test_what_readme_trains_runs_with_what_readme_installs():
    for page in ("README.md", "book/setup.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        trained = set(re.findall(r"reidlib train (\w+)", text))
        assert trained <= set(RECIPES), page
        clusterings = {
            getattr(preset, "clustering", None)
            for name in trained
            for preset in (RECIPES[name].Config(), *RECIPES[name].PRESETS.values())
        }
        (options,) = re.findall(
            r'pip install "?\.(?:\[(.*?)\])?"?`? ?(?:in|\n```)', text
        )
        assert "infomap" not in clusterings or "infomap" in options, page


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


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("/content/drive/My Drive/cache", "/content/drive/My Drive/cache"),
        ("My Drive/cache", f"{ROOT}/My Drive/cache"),
        ("~/My cache", "~/My cache"),
        ("", f"{ROOT}/.cache/reidlib"),
    ],
)
def test_make_takes_the_cache_that_it_is_given(given, used):
    environment = {**os.environ, "REIDLIB_CACHE": given, "MAKEFLAGS": ""}
    words = ["make", "--print-data-base", "--dry-run", "help"]
    told = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert re.findall(r"^REIDLIB_CACHE :?= (.*)$", told, re.MULTILINE) == [used]


def test_an_installed_library_has_all_of_its_files():
    package = ROOT / "reidlib"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["reidlib"]
    packed = {file for pattern in patterns for file in package.glob(pattern)}
    ignored = {".py", ".pyc", ".nbi", ".nbc"}  # the last two: compiled by numba
    files = {f for f in package.rglob("*") if f.is_file() and f.suffix not in ignored}
    assert files
    assert files <= packed
