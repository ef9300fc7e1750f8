"""Checkpoints: safetensors files, written completely or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from reidlib.errors import DamagedError, ReIDError
from reidlib.files import write_atomically
from reidlib.paths import user_path

_PLAIN = "reidlib-1"  # without a checksum
_FORMAT = "reidlib-2"
LAST = "last.safetensors"
"""The checkpoint in the folder of a run."""
_TENSOR = "__tensor__"
_DICT = "__dict__"


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return ``value`` as JSON, with its tensors moved to ``tensors``."""
    if isinstance(value, Tensor):
        while name in tensors:  # the key "a.b" beside "a" with "b" in it
            name += "'"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, dict):
        # JSON turns integer keys into strings, and an optimiser's state has integer
        # keys. A list of pairs keeps their type.
        items = [[k, _flatten(v, f"{name}.{k}", tensors)] for k, v in value.items()]
        return {_DICT: items}
    if isinstance(value, list | tuple):
        return [_flatten(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]
    if hasattr(value, "item") and not isinstance(value, str):
        return value.item()
    return value


def _restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _restore(item, tensors) for key, item in value[_DICT]}
    if isinstance(value, list):
        return [_restore(item, tensors) for item in value]
    return value


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Save nested dicts and lists of tensors, numbers and strings in one file.

    Args:
        path: The file to write, atomically (see ``write_atomically``).
        state: What to save. Tuples come back as lists.

    Example:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "last.safetensors"
        >>> save_checkpoint(path, {"model": {"w": torch.ones(2)}, "epoch": 3})
        >>> load_checkpoint(path)["epoch"]
        3
    """
    tensors: dict[str, Tensor] = {}
    structure = _flatten(state, "state", tensors)
    text = json.dumps(structure)
    checksum = _checksum(text, tensors)
    metadata = {"format": _FORMAT, "structure": text, "sha256": checksum}
    write_atomically(Path(path), save(tensors, metadata))


def weights_hash(model: nn.Module) -> str:
    """Return a hash of names, types and values of all that a network holds."""
    return content_hash(model.state_dict())


def content_hash(state: dict[str, Any]) -> str:
    """Return a hash of what `save_checkpoint` would save: equal content, equal hash."""
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(state, "", tensors))
    return _checksum(structure, {name: t.cpu() for name, t in tensors.items()})


def _checksum(structure: str, tensors: dict[str, Tensor]) -> str:
    """Return a hash over all that is loaded: structure, names, types and bytes."""
    digest = hashlib.sha256(structure.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def checkpoint_file(path: str | Path) -> Path:
    """Return the checkpoint of a run's folder, or the file itself.

    Args:
        path: A run's folder, or a checkpoint file in it.

    Example:
        >>> checkpoint_file("run/last.safetensors").name
        'last.safetensors'
    """
    path = user_path(path)
    return path / LAST if path.is_dir() else path


def load_checkpoint(path: str | Path, *fields: str) -> dict[str, Any]:
    """Load what ``save_checkpoint`` wrote.

    Args:
        path: The file.
        fields: What must be in it.

    Returns:
        The saved structure, tensors on the CPU.

    Raises:
        DamagedError: If the file is missing, damaged (it holds a checksum), not a
            checkpoint of this library, or without one of the fields.
    """
    path = user_path(path)
    if not path.is_file():
        raise DamagedError(
            f"no checkpoint at {path}; give the file that a run wrote", path
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied out of the mapped file: who writes into it would change them.
            names = list(file.keys())
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedError(
            f"{path} is damaged or not a safetensors file ({error}); use another one, "
            "or remove it and train again",
            path,
        ) from error
    if "structure" not in metadata:
        raise DamagedError(
            f"{path} holds tensors but was not written by reidlib; load a backbone's "
            "weights with the model's `weights` argument",
            path,
        )
    text, known = metadata["structure"], metadata.get("format")
    try:
        if known not in (_PLAIN, _FORMAT):
            raise ValueError(f"its format is {known!r}")
        if known != _PLAIN and metadata.get("sha256") != _checksum(text, tensors):
            raise ValueError("its checksum is that of another content")
        state = _restore(json.loads(text), tensors)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(
            f"{path} is damaged ({error}); use another one, or remove it and train "
            "again",
            path,
        ) from error
    if missing := [name for name in fields if name not in state]:
        raise DamagedError(
            f"{path} holds {', '.join(map(str, state)) or 'nothing'} and no "
            f"{missing[0]}: it is another file of a run; give the right one",
            path,
        )
    return state


def load_weights(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict, or raise an error that says why it does not fit the model.

    Args:
        model: The module to fill.
        state: Its state dict.
        source: Where the state comes from, for the message.

    Raises:
        ReIDError: If names or shapes differ.
    """
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    extra = sorted(set(state) - set(own))
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or extra or shapes:
        example = (missing + extra + shapes)[0]
        raise ReIDError(
            f"{source} is a checkpoint of another model: {len(missing)} tensors "
            f"missing, {len(extra)} unknown, {len(shapes)} of another shape (first: "
            f"{example}); build the model with the backbone and pooling of that run"
        )
    model.load_state_dict(state)


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the state of every global random generator.

    Args:
        device: Of the run; of several GPUs its own alone is looked at.
    """
    import random

    import numpy as np

    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Restore the saved state of every global random generator.

    Args:
        states: Of `random_states`.
        device: Of the run, which may be another one now.
    """
    import random

    import numpy as np

    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"]:
        torch.cuda.set_rng_state(states["cuda"][0], device)
