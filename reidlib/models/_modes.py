"""The mode of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from reidlib.errors import ReIDError


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and every module back into its own mode."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def check_differentiable(model: nn.Module, where: str) -> None:
    """Raise `ReIDError` if the weights of a network can have no gradients."""
    if any(weight.is_inference() for weight in model.parameters()):
        raise ReIDError(
            f"{where}: the network was made under torch.inference_mode(), so it can "
            "never have gradients; make it outside, or under torch.no_grad()"
        )
