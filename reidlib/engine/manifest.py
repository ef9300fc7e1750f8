"""The provenance of a result: code, packages, hardware."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

import reidlib
from reidlib.data.table import ReIDDataset
from reidlib.errors import DamagedError
from reidlib.files import read_json

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "kornia")
_PACKAGE_ROOT = Path(reidlib.__file__).resolve().parent  # notebooks have a link to it

_NUMBER = (int, float, type(None))  # NaN is written as null
_SCORES = ("mAP", "mINP", "num_queries", "num_unmatched")
_MANIFEST: dict[str, Any] = {
    "recipe": str,
    "version": int,
    "config": dict,
    "dataset": {"name": str, "sha256": str, "images": {"*": int}},
    "target": {"sha256": str},
    "files": {"*": str},
    "earlier": list,
    "options": {"*": (str, type(None))},
}
_RESULT: dict[str, Any] = {
    **_MANIFEST,
    "data": dict,
    "error": str,
    "seconds": _NUMBER,
    "epochs": list,
    "metrics": {
        "cmc": {"*": (int, float)},
        **dict.fromkeys(_SCORES, (int, float)),
        "diagnosis": {"kmeans": {"*": _NUMBER}, "same_camera_share": _NUMBER},
    },
}


def read_manifest(file: Path, way_out: str) -> dict[str, Any]:
    """Read the manifest of a run.

    Args:
        file: The file.
        way_out: What to do if it is damaged, for the message.

    Raises:
        DamagedError: If it is missing or damaged, or is another program's.
    """
    return read_json(
        file, way_out, _MANIFEST, ["recipe", "version", "config", "dataset"]
    )


def read_result(file: Path, way_out: str) -> dict[str, Any]:
    """Read the result of a run: its figures, or the error that it broke down with.

    Args:
        file: The file.
        way_out: What to do if it is damaged, for the message.

    Raises:
        DamagedError: If it is missing or damaged, or is another program's.
    """
    result = read_json(file, way_out, _RESULT, ["recipe", "version", "config"])
    if not {"metrics", "error"} & result.keys():
        raise DamagedError(
            f"{file} is damaged (neither metrics nor an error in it); {way_out}", file
        )
    scores = result.get("metrics", {})
    missing = [name for name in ("cmc", *_SCORES) if name not in scores]
    if "mAP" in scores and missing:
        raise DamagedError(f"{file} is damaged (no {missing[0]!r}); {way_out}", file)
    shares = {name: scores[name] for name in ("mAP", "mINP") if name in scores}
    shares |= {f"rank {rank}": value for rank, value in scores.get("cmc", {}).items()}
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise DamagedError(
                f"{file} is damaged ({name} is {value}, and a share is in [0, 1]); "
                f"{way_out}",
                file,
            )
    return result


def read_files(config: object, dataset: ReIDDataset) -> dict[str, str]:
    """Return a hash of each file that a run reads beside the images.

    Args:
        config: Settings; those that read files have a method ``read_files``.
        dataset: Data of the run.
    """
    files: dict[str, str] = getattr(config, "read_files", lambda _: {})(dataset)
    return files


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
    """Return the commit of the checkout, with ``-dirty`` if the library was changed."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}-dirty" if changed_files() else commit


def changed_files() -> list[str]:
    """Return the files of the library that differ from the last commit."""
    status = _git("status", "--porcelain", "--", str(_PACKAGE_ROOT))
    return [line[3:] for line in (status or "").splitlines()]


def _git(*words: str) -> str | None:
    """Return the output of a git command; None for an installed package."""
    git = ["git", "-C", str(_PACKAGE_ROOT)]
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": True}
    try:
        # If the library is installed inside the checkout of another project, git would
        # otherwise report that project's commit.
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], **options)
        return subprocess.run([*git, *words], **options).stdout.rstrip("\n")
    except (OSError, subprocess.CalledProcessError):
        return None


# What uses trained networks and is never used by a training.
_ABOVE_TRAINING = (
    "cli.py",
    "deploy",
    "exercises.py",
    "experiments",
    "papers",
    "plotting",
)


@cache
def library_hash() -> str:
    """Return a hash of the library's source files that a training can reach.

    The run cache uses it. The cache only saves time, so its rule may be stricter than
    that for published results.
    """
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE_ROOT.rglob("*.py")):
        name = file.relative_to(_PACKAGE_ROOT)
        if name.parts[0] not in _ABOVE_TRAINING:
            digest.update(name.as_posix().encode() + file.read_bytes())
    return digest.hexdigest()
