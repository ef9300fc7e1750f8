"""Speed of identifiability: all views in one batch, against a loop over views.

    python benchmarks/identifiability.py [--images 8] [--rounds 3] [--device cpu]

Every round measures each way once, one after another, so that a machine that slows down
slows all of them, and the fastest round counts. Images per second belong to one
machine; the ratios within one run are what can be compared. Each way must give the same
scores. The loop perturbs with `perturb_image`, as published code does: one PIL picture,
one pass of the network for each of the 35 views.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reidlib.data import TestTransform
from reidlib.models import build_backbone
from reidlib.quality import (
    PERTURBATIONS,
    identifiability,
    measure_identifiability,
    perturb_image,
)

Encode = Callable[[Tensor], Tensor]
VIEWS = len(PERTURBATIONS) + 1


class Pictures:
    """Random pictures, as an image source."""

    def __init__(self, number: int, size: tuple[int, int], device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(number, 3, 8, 4, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
        self.pixels = (255 * smooth).to(torch.uint8).to(device)
        self.size, self.device = size, torch.device(device)

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, index_batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the pictures of each batch of rows."""
        for index in index_batches:
            yield self.pixels[torch.as_tensor(index).to(self.device)]


def in_batches(encode: Encode, images: Pictures, batch: int) -> Tensor:
    return measure_identifiability(encode, images, batch_size=batch).pairs


@torch.inference_mode()
def loop(encode: Encode, images: Pictures) -> Tensor:
    prepare, scores = TestTransform(), []
    for picture in images.pixels.cpu().permute(0, 2, 3, 1).numpy():
        image = Image.fromarray(picture)
        features = []
        for view in [image, *perturb_image(image)]:
            pixels = torch.from_numpy(np.array(view)).permute(2, 0, 1)[None]
            features.append(encode(prepare(pixels.to(images.device))))
        scores.append(identifiability(torch.cat(features)[None]).cpu())
    return torch.cat(scores)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    # Random weights: speed does not depend on them.
    torch.manual_seed(0)
    network = build_backbone(options.backbone, pretrained=False, last_stride=2)
    network = network.to(options.device).eval()

    def encode(x: Tensor) -> Tensor:
        return network(x).mean(dim=(2, 3))

    size = options.height, options.width
    images = Pictures(options.images, size, options.device)
    ways: dict[str, Callable[[], Tensor]] = {
        "loop over views": lambda: loop(encode, images),
        f"{VIEWS} views at once": lambda: in_batches(encode, images, 1),
        f"{options.batch} x {VIEWS} views at once": lambda: in_batches(
            encode, images, options.batch
        ),
    }
    encode(torch.zeros(2, 3, *size, device=options.device))  # warm up
    best, found = dict.fromkeys(ways, float("inf")), {}
    for _ in range(options.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way()
            best[name] = min(best[name], time.perf_counter() - start)
    slow, first = best["loop over views"], found["loop over views"]
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{options.device}, {options.backbone}, {options.height} x {options.width}"
    )
    for name, seconds in best.items():
        # The two forms of the perturbations agree to one level of 255.
        largest = float(((found[name] - first).abs() / first).max())
        print(
            f"{name:24s} {len(images) / seconds:7.2f} images/s, "
            f"{slow / seconds:5.2f} times the loop; scores differ by {largest:.1e}"
        )


if __name__ == "__main__":
    main()
