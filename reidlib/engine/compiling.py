"""Networks compiled by ``torch.compile`` where nothing is learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from reidlib.errors import ReIDError


def compiled_to_extract(
    function: Callable[..., Any], module: nn.Module, backend: str = "inductor"
) -> Callable[..., Any]:
    """Return a network, or a method of one, that is compiled for extraction.

    Compilation happens at the first call in eval mode without gradients, and once more
    at the first batch of another size. Every other call is computed as before.

    Args:
        function: The network, or a method of it.
        module: The network.
        backend: As for ``torch.compile``.

    Returns:
        The function; what it gives is that of before but for rounding.

    Raises:
        ReIDError: At the first such call, if it cannot be compiled on this machine.

    Example:
        >>> net = nn.Linear(2, 2).eval()
        >>> fast = compiled_to_extract(net, net, backend="eager")
        >>> with torch.no_grad():
        ...     torch.equal(fast(torch.ones(1, 2)), net(torch.ones(1, 2)))
        True
    """
    fast = torch.compile(function, backend=backend)

    def call(*arguments: Any, **options: Any) -> Any:
        if module.training or torch.is_grad_enabled():
            return function(*arguments, **options)
        try:
            return fast(*arguments, **options)
        except torch._dynamo.exc.TorchDynamoException as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[0] if lines else type(error).__name__
            raise ReIDError(
                f"compile: the network cannot be compiled here ({reason:.160}); a CPU "
                "needs a C++ compiler such as g++, a GPU Triton; or leave --compile out"
            ) from error

    return call
