"""Heat maps by Grad-CAM: which places of an image make it similar to another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.errors import ReIDError
from reidlib.models._modes import eval_mode
from reidlib.models.pooling import GeM, GlobalAveragePool
from reidlib.models.reid_net import ReIDNet


def grad_cam(
    model: ReIDNet, images: Tensor, references: Tensor, chunk: int = 32
) -> Tensor:
    """Return a heat map of what makes each image similar to its reference.

    The heat maps of AFF-F1: Grad-CAM (Selvaraju et al., ICCV 2017) at the feature map
    that is pooled. A classifier has the score of a class; a network for retrieval has
    the similarity to another feature instead: of a second image, or a centroid. The
    gradient of that similarity, averaged over the places, says how much each channel
    counts. The heat map is the weighted sum of the channels, without its negative part.

    Args:
        model: Network, with or without attention; its mode, weights and gradients stay
            as they are.
        images: ``(B, 3, H, W)`` images, normalised with ImageNet's statistics.
        references: ``(B, D)`` features, one for each image; they are L2-normalised
            here.
        chunk: Images at once.

    Returns:
        ``(B, H, W)`` heat maps on the CPU, the largest value of each 1. A map is 0
        everywhere if no place makes the image more similar, or if the reference is the
        feature of the image itself.

    Raises:
        ReIDError: If there is not one reference for each image.

    Example:
        >>> model = ReIDNet("efficientnet_lite0", pretrained=False)
        >>> images = torch.randn(2, 3, 64, 32)
        >>> grad_cam(model, images, torch.randn(2, 1280)).shape
        torch.Size([2, 64, 32])
    """
    if len(references) != len(images) or references.ndim != 2:
        raise ReIDError(
            f"{len(images)} images and references of shape {tuple(references.shape)}; "
            "give one feature for each image"
        )
    if chunk < 1:
        raise ReIDError(f"chunk is {chunk}; give 1 or more")
    if not len(images):
        return images.new_zeros(0, *images.shape[2:])
    kept: list[Tensor] = []
    pools = [m for m in model.modules() if isinstance(m, GeM | GlobalAveragePool)]

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        # The graph starts here, also if every weight is frozen.
        kept.append(inputs[0].detach().requires_grad_())
        return (kept[-1],)

    handle = pools[-1].register_forward_pre_hook(keep)
    maps = []
    try:
        with eval_mode(model):
            for part, wanted in zip(
                images.split(chunk), references.split(chunk), strict=True
            ):
                with torch.enable_grad():
                    similarity = F.cosine_similarity(
                        model(part), wanted.to(part.device)
                    )
                    features = kept.pop()  # (b, C, h, w)
                    (gradient,) = torch.autograd.grad(similarity.sum(), features)
                weights = gradient.mean(dim=(2, 3), keepdim=True)
                heat = (weights * features.detach()).sum(dim=1, keepdim=True).relu()
                # At the feature itself the gradient is nothing but rounding.
                heat = heat * (similarity.detach() < 1 - 1e-6)[:, None, None, None]
                heat = F.interpolate(
                    heat, part.shape[2:], mode="bilinear", align_corners=False
                )[:, 0]
                largest = heat.amax(dim=(1, 2), keepdim=True)
                maps.append((heat / largest.clamp_min(1e-12)).cpu())
    finally:
        handle.remove()
    return torch.cat(maps)
