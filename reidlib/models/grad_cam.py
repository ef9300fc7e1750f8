"""Heat maps by Grad-CAM: which places of an image make it similar to another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_features
from reidlib.errors import ReIDError
from reidlib.models._modes import check_differentiable, eval_mode
from reidlib.models.pooling import GeM, GlobalAveragePool
from reidlib.models.reid_net import ReIDNet


@torch.inference_mode(False)
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
        ReIDError: If there is not one finite reference for each image, of the length of
            the network's features, if features of the images are not finite, or if the
            network was made under ``torch.inference_mode()``.

    Example:
        >>> model = ReIDNet("efficientnet_lite0", pretrained=False)
        >>> images = torch.randn(2, 3, 64, 32)
        >>> grad_cam(model, images, torch.randn(2, 1280)).shape
        torch.Size([2, 64, 32])
    """
    if references.ndim != 2 or len(references) != len(images):
        raise ReIDError(
            f"{len(images)} images and references of shape {tuple(references.shape)}; "
            "give one feature for each image"
        )
    if chunk < 1:
        raise ReIDError(f"chunk is {chunk}; give 1 or more")
    if not len(images):
        return images.new_zeros(0, *images.shape[2:])
    references = check_features(
        references, "grad_cam", normalised=False, name="references"
    )
    if references.shape[1] != model.num_features:
        raise ReIDError(
            f"grad_cam: references have {references.shape[1]} dimensions and features "
            f"of the network {model.num_features}; extract both with one network"
        )
    check_differentiable(model, "grad_cam")
    # Tensors made in inference mode take no part in gradients, copies of them do.
    images, references = (
        tensor.clone() if tensor.is_inference() else tensor
        for tensor in (images, references)
    )
    kept: list[Tensor] = []
    pools = [m for m in model.modules() if isinstance(m, GeM | GlobalAveragePool)]

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        # The graph starts here, also if every weight is frozen; in float32, because
        # gradients this small would vanish in float16.
        kept.append(inputs[0].detach().float().requires_grad_())
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
                bad = (~similarity.isfinite()).nonzero().flatten()
                if len(bad):
                    raise ReIDError(
                        f"grad_cam: the features of {len(bad)} of {len(part)} images "
                        "hold NaN or inf; check the images and the weights"
                    )
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
