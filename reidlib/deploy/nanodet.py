"""NanoDet-g: a small detector of people whose weights come with this library.

One network finds boxes at three scales (strides 8, 16 and 32). Each cell of a map gives
the probability that a person is there, and for each side of the box a distribution over
eleven distances, whose mean is the distance (Li et al., "Generalized Focal Loss",
NeurIPS 2020). The network was trained by its authors on COCO at 416 x 416 pixels
(https://github.com/RangiLyu/nanodet, Apache-2.0); `reidlib.deploy.convert_nanodet`
makes the file of its weights, of which the 79 classes that are no people are left out.
"""

from __future__ import annotations

import math
from importlib import resources

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
BINS = 11
WEIGHTS = "nanodet.safetensors"
_WIDTH = 128  # channels of the maps that the heads read
# The network saw images as OpenCV reads them: BGR.
_MEAN = (103.53, 116.28, 123.675)
_DEVIATION = (57.375, 57.12, 58.395)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


class _Conv(nn.Sequential):
    """A convolution of 3 x 3 and its leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            _conv(inputs, outputs, 3, stride), nn.LeakyReLU(0.1, inplace=True)
        )


class _Block(nn.Module):
    """Two convolutions of half the width, one behind the other, side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _Conv(width, width // 2)
        self.second = _Conv(width // 2, width // 2)

    def forward(self, maps: Tensor) -> Tensor:
        first = self.first(maps)
        return torch.cat([self.second(first), first], dim=1)


class _Stage(nn.Module):
    """Blocks, with a way around them: the output has twice the width."""

    def __init__(self, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.enter = _Conv(width, width, stride)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))
        self.leave = _Conv(width, width)

    def forward(self, maps: Tensor) -> Tensor:
        around = self.enter(maps)
        return torch.cat([self.leave(self.blocks(around)), around], dim=1)


class NanoDet(nn.Module):
    """The network; made with `load_nanodet` it has its weights.

    Its convolutions are registered in the order in which an image passes them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Conv(3, 32, stride=2), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList(
            _Stage(width, blocks, stride)
            for width, blocks, stride in (
                (32, 1, 1),
                (64, 2, 2),
                (128, 2, 2),
                (256, 3, 2),
            )
        )
        self.lateral = nn.ModuleList(
            _conv(width, _WIDTH, 1) for width in (128, 256, 512)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(_Conv(_WIDTH, _WIDTH), _conv(_WIDTH, 1 + 4 * BINS, 1))
            for _ in STRIDES
        )
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            row = torch.tensor(values).view(1, 3, 1, 1)
            self.register_buffer(name, row, persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is found in each cell.

        Args:
            frames: ``(B, 3, H, W)`` uint8 or float RGB from 0 to 255; height and width
                are multiples of 32.

        Returns:
            ``(B, A)`` probabilities of a person, and ``(B, A, 4)`` boxes ``(left, top,
            right, bottom)`` in pixels, for the A cells of all scales.
        """
        maps = (frames.flip(1).to(self.mean.dtype) - self.mean) / self.deviation
        maps = self.stem(maps)
        levels = []
        for stage in self.stages:
            maps = stage(maps)
            levels.append(maps)
        fine, middle, coarse = (
            one(level) for one, level in zip(self.lateral, levels[1:], strict=True)
        )
        # What coarse maps know goes down to the fine ones, and back up.
        middle = middle + _resized(coarse, middle)
        fine = fine + _resized(middle, fine)
        middle = middle + _resized(fine, middle)
        coarse = coarse + _resized(middle, coarse)
        scores, boxes = [], []
        for head, level, stride in zip(
            self.heads, (fine, middle, coarse), STRIDES, strict=True
        ):
            cells = head(level).flatten(2).transpose(1, 2)
            scores.append(cells[..., 0].sigmoid())
            boxes.append(_boxes(cells[..., 1:], level.shape[3], stride))
        return torch.cat(scores, dim=1), torch.cat(boxes, dim=1)


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(
        maps, size=like.shape[2:], mode="bilinear", align_corners=False
    )


def _boxes(logits: Tensor, width: int, stride: int) -> Tensor:
    """Turn distributions over distances into boxes.

    Args:
        logits: ``(B, A, 4 * BINS)`` of the cells of one scale, row by row.
        width: Cells in a row.
        stride: Pixels from one cell to the next.

    Returns:
        ``(B, A, 4)``: left, top, right, bottom.
    """
    batch, cells, _ = logits.shape
    steps = torch.arange(BINS, dtype=logits.dtype, device=logits.device)
    sides = logits.reshape(batch, cells, 4, BINS).softmax(dim=3) @ steps * stride
    number = torch.arange(cells, device=logits.device)
    column = (number % width + 0.5) * stride
    row = (number.div(width, rounding_mode="floor") + 0.5) * stride
    centre = torch.stack([column, row], dim=1).to(logits.dtype)
    return torch.cat([centre - sides[..., :2], centre + sides[..., 2:]], dim=2)


def load_nanodet() -> NanoDet:
    """Return the network with its weights, in evaluation mode."""
    from safetensors.torch import load

    content = resources.files(__package__).joinpath(WEIGHTS).read_bytes()
    network = NanoDet()
    network.load_state_dict({name: one.float() for name, one in load(content).items()})
    return network.eval()


def fitted(frame: Tensor, longest: int) -> tuple[Tensor, float]:
    """Scale a frame and fill it up to multiples of 32, as the network needs it.

    Args:
        frame: ``(3, H, W)`` uint8.
        longest: Pixels of the longer side afterwards.

    Returns:
        ``(1, 3, H', W')`` float frame from 0 to 255, grey below and to the right of the
        picture; and the factor by which it was scaled.
    """
    scale = longest / max(frame.shape[1:])
    size = [max(1, round(side * scale)) for side in frame.shape[1:]]
    picture = functional.interpolate(
        frame[None].float(),
        size=size,
        mode="bilinear",
        align_corners=False,
        antialias=scale < 1,
    )
    missing = [math.ceil(side / 32) * 32 - side for side in size]
    return functional.pad(picture, (0, missing[1], 0, missing[0]), value=114.0), scale
