"""The network of AFF_SCL: the shared network with attention before pooling."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from reidlib.models.attention import AFF, Attention
from reidlib.models.reid_net import ReIDNet


class AFFNet(ReIDNet):
    """Backbone, attention (`AFF`), pooling, batch norm neck, length 1.

    Args:
        backbone: As for `ReIDNet`, like the next five.
        pooling: See there.
        pretrained: See there; the attention always starts at random.
        frozen_stages: See there.
        last_stride: See there; the paper leaves the last down-sampling out.
        weights: See there.
        groups: Number of channel groups of the local branch.
        reduction: How many times narrower the attentions' hidden layers are.
        global_attention: Attention of the global branch; ``"none"`` leaves it out.
        local_attention: Attention of the local branch; ``"none"`` leaves it out.

    Raises:
        ReIDError: As `ReIDNet` and `AFF`.

    Example:
        >>> import torch
        >>> model = AFFNet("efficientnet_lite0", pretrained=False).eval()
        >>> model(torch.zeros(2, 3, 64, 32)).shape
        torch.Size([2, 1280])
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        pooling: str = "gap",
        pretrained: bool = True,
        frozen_stages: int = 0,
        last_stride: int = 1,
        weights: str | Path | None = None,
        groups: int = 2,
        reduction: int = 16,
        global_attention: Attention = "casam",
        local_attention: Attention = "cam",
    ) -> None:
        super().__init__(
            backbone, pooling, pretrained, frozen_stages, last_stride, weights
        )
        self.attention = AFF(
            self.num_features, groups, reduction, global_attention, local_attention
        )

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(B, D)`` features before and after the neck, as `ReIDNet.embed`."""
        raw = self.pool(self.attention(self.backbone(images)))  # (B, D)
        return raw, self.neck(raw)
