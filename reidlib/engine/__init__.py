"""A run: device, precision, seeds, checkpoints, logs, and the run cache."""

from reidlib.engine.checkpoint import (
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from reidlib.engine.manifest import environment
from reidlib.engine.run import DivergedError, Run, RunConfig, open_fabric

__all__ = [
    "DivergedError",
    "Run",
    "RunConfig",
    "environment",
    "load_checkpoint",
    "load_weights",
    "open_fabric",
    "save_checkpoint",
]
