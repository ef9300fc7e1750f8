"""From a feature map to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reidlib.errors import ReIDError


class GlobalAveragePool(nn.Module):
    """Mean over all positions (GAP).

    Example:
        >>> GlobalAveragePool()(torch.ones(2, 3, 8, 4)).shape
        torch.Size([2, 3])
    """

    def forward(self, feature_map: Tensor) -> Tensor:
        """Pool ``(B, C, h, w)`` to float32 ``(B, C)``."""
        return feature_map.float().mean(dim=(2, 3))


class GeM(nn.Module):
    """Generalised mean over all positions (Radenović et al., 2018).

    ``(mean x^p)^(1/p)`` of each channel: p = 1 is the mean, p to infinity the maximum.
    Values below ``eps`` count as ``eps``, because a power needs a positive base. The
    negative values of a network without a final ReLU are therefore lost.

    Args:
        p: Initial exponent.
        learnable: Whether the exponent is trained.
        eps: Smallest value.

    Raises:
        ReIDError: If ``p`` or ``eps`` is not positive.

    Example:
        >>> GeM(p=1.0)(torch.ones(2, 3, 8, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, p: float = 3.0, learnable: bool = True, eps: float = 1e-6
    ) -> None:
        super().__init__()
        if p <= 0 or eps <= 0:
            raise ReIDError(f"GeM: p is {p} and eps is {eps}; both must be positive")
        self.p = nn.Parameter(torch.tensor([p]), requires_grad=learnable)
        self.eps = eps

    def forward(self, feature_map: Tensor) -> Tensor:
        """Pool ``(B, C, h, w)`` to float32 ``(B, C)``."""
        # bfloat16 has eight bits of precision, too few for a third power.
        with torch.autocast(feature_map.device.type, enabled=False):
            p = self.p.float()
            powers = feature_map.float().clamp(min=self.eps).pow(p)
            return powers.mean(dim=(2, 3)).pow(1 / p)

    def extra_repr(self) -> str:
        """Return the exponent, for printing."""
        return f"p={self.p.item():.3g}"
