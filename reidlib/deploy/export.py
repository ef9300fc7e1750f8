"""A trained network as a file that other programs run: from crops to features."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reidlib import __version__
from reidlib.data.images import check_size
from reidlib.data.transforms import TestTransform
from reidlib.errors import ReIDError
from reidlib.files import partial
from reidlib.paths import user_path

FORMATS = (".onnx", ".pt2")
"""How a file may end: ONNX, for onnxruntime and what reads ONNX, or `torch.export`."""

TOLERANCE = 1e-5
"""Largest difference of a feature that an exported network may have."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class _FromPixels(nn.Module):
    """A network with its preparation of images, so that pixels go in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.prepare = TestTransform()

    def forward(self, images: Tensor) -> Tensor:
        """Return features of ``(B, 3, H, W)`` uint8 images."""
        features: Tensor = self.network(self.prepare(images))
        return features


def export_network(
    network: nn.Module,
    size: tuple[int, int],
    path: str | os.PathLike[str],
    **about: str,
) -> float:
    """Write a network to a file that takes crops and gives features.

    The file takes RGB crops as ``images``, ``(B, 3, H, W)`` uint8 for any number B, and
    gives ``features``, ``(B, D)`` float32, L2-normalised: what ImageNet's statistics
    ask for is in it, resizing is not. It is read back and compared with the network
    before it gets its name.

    Args:
        network: A network that makes features of normalised images, on the CPU.
        size: Height and width of the crops in pixels.
        path: File to write: ``.onnx``, which needs the extra ``export``, or ``.pt2``
            for `torch.export.load`.
        about: What the file shall say of itself, the fingerprint of the weights for
            instance; strings, by name.

    Returns:
        The largest difference of a feature.

    Raises:
        ReIDError: If the network cannot be exported or differs, the file is there or
            cannot be written, or a package is missing.

    Example::

        reid = reidlib.load("runs/x", device="cpu")
        export_network(reid.network, reid.size, "reid.onnx")
    """
    check_size(size)
    file = user_path(path)
    if file.suffix not in FORMATS:
        raise ReIDError(
            f"{file} ends in none of {', '.join(FORMATS)}; give such a name"
        )
    if file.exists() or file.is_symlink():
        raise ReIDError(f"{file} already exists; give another name")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if file.suffix == ".onnx" and missing:
        raise ReIDError(
            f"ONNX needs the package {missing[0]}: pip install 'reidlib[export]', or "
            "give a name that ends in .pt2"
        )
    whole = _FromPixels(network).eval()
    told = {"height": str(size[0]), "width": str(size[1]), "reidlib": __version__}
    write, read = (_onnx, _read_onnx) if file.suffix == ".onnx" else (_pt2, _read_pt2)
    try:
        with partial(file) as unfinished:
            with _silence():
                write(whole, _crops(2, size), unfinished, {**told, **about})
                again = read(unfinished)
            apart = max(_difference(whole, again, _crops(n, size)) for n in (1, 2, 5))
            if not apart <= TOLERANCE:
                raise ReIDError(
                    f"the exported network differs from this one by {apart:.1e}; "
                    "nothing was written"
                )
            unfinished.replace(file)
    except OSError as error:
        raise ReIDError(
            f"{file} cannot be written ({error.strerror or error}); free some space or "
            "give another place"
        ) from error
    return apart


def _crops(number: int, size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    shape = (number, 3, *size)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def _exported(whole: nn.Module, crops: Tensor) -> torch.export.ExportedProgram:
    try:
        batch = torch.export.Dim("batch")
        return torch.export.export(whole, (crops,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch.export has many, and some of a hundred lines
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ReIDError(
            f"this network cannot be exported ({reason}); use it with reidlib.load"
        ) from error


def _onnx(whole: nn.Module, crops: Tensor, file: Path, about: dict[str, str]) -> None:
    program: Any = torch.onnx.export(
        _exported(whole, crops),
        dynamo=True,
        input_names=["images"],
        output_names=["features"],
        verbose=False,
    )
    program.model.metadata_props.update(about)
    program.save(file, external_data=False)


def _read_onnx(file: Path) -> Callable[[Tensor], np.ndarray]:
    import onnxruntime  # type: ignore[import-untyped]

    onnxruntime.disable_telemetry_events()
    session = onnxruntime.InferenceSession(
        os.fspath(file), providers=["CPUExecutionProvider"]
    )

    def features(images: Tensor) -> np.ndarray:
        made: np.ndarray = session.run(None, {"images": images.numpy()})[0]
        return made

    return features


def _pt2(whole: nn.Module, crops: Tensor, file: Path, about: dict[str, str]) -> None:
    content = io.BytesIO()  # a write that fails would end the process within torch
    extra = {"reidlib.json": json.dumps(about)}
    torch.export.save(_exported(whole, crops), content, extra_files=extra)
    file.write_bytes(content.getbuffer())


def _read_pt2(file: Path) -> Callable[[Tensor], np.ndarray]:
    with file.open("rb") as stream:
        network = torch.export.load(stream).module()

    def features(images: Tensor) -> np.ndarray:
        made: np.ndarray = network(images).detach().numpy()
        return made

    return features


@torch.inference_mode()
def _difference(
    whole: nn.Module, again: Callable[[Tensor], np.ndarray], crops: Tensor
) -> float:
    """Return how far the features of two forms of a network are apart."""
    ours, theirs = whole(crops).numpy(), again(crops)
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours - theirs).max())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Leave out what exporters say of their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        hidden = io.StringIO()  # torch prints a graph of thousands of lines
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(hidden),
            contextlib.redirect_stderr(hidden),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
