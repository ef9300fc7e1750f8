"""The attribute branch of QAFM: pyramid attention, a ConvLSTM, 12 heads.

Worked example of the ConvLSTM, one channel and one place, all weights 0 but the bias of
the candidate, which is 1: the three gates are sigmoid(0) = 0.5. After the first step
c = 0.5 tanh(1) = 0.38 and h = 0.5 tanh(0.38) = 0.18. In the second the forget gate
keeps half of c: c = 0.19 + 0.38 = 0.57.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_count
from reidlib.errors import ReIDError


class PyramidAttention(nn.Module):
    """Weigh a map by what kernels of three sizes see (PAFM), a part of QAFM-D2.

    The map is squeezed to ``hidden`` channels. Three paths of 3 x 3, 5 x 5 and 7 x 7,
    each followed by a 7 x 7, are added up; the context of the whole map is added; a
    1 x 1 convolution and a sigmoid make it weights of the map. The layers are those of
    the authors' code.

    Args:
        channels: C.
        hidden: Channels of the paths.

    Raises:
        ReIDError: If a number is below 1.

    Example:
        >>> PyramidAttention(16, 4)(torch.ones(2, 16, 8, 4)).shape
        torch.Size([2, 16, 8, 4])
    """

    def __init__(self, channels: int, hidden: int = 256) -> None:
        super().__init__()
        check_count(channels, "channels", "PyramidAttention")
        check_count(hidden, "hidden", "PyramidAttention")
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.paths = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(hidden, hidden, side, padding=side // 2),
                nn.Conv2d(hidden, hidden, 7, padding=3),
            )
            for side in (3, 5, 7)
        )
        self.join = nn.Sequential(nn.BatchNorm2d(hidden), nn.ReLU())
        self.context = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Sequential(
            nn.Conv2d(hidden, channels, 1), nn.BatchNorm2d(channels)
        )

    def weights(self, x: Tensor) -> Tensor:
        """Return ``(B, C, H, W)`` weights in (0, 1)."""
        squeezed = self.squeeze(x)
        local = self.join(torch.stack([path(squeezed) for path in self.paths]).sum(0))
        context = self.context(x.mean(dim=(2, 3), keepdim=True))
        return self.expand(local + context).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted ``(B, C, H, W)`` map."""
        return x * self.weights(x)


class ConvLSTM(nn.Module):
    """A long short-term memory whose gates are convolutions, a part of QAFM-D2.

    Of Shi et al. (NeurIPS 2015), without peepholes. From ``[x, h]`` one convolution
    computes the gates i, f, o and the candidate g:
    ``c' = sigmoid(f) c + sigmoid(i) tanh(g)`` and ``h' = sigmoid(o) tanh(c')``.
    States start at 0, and so the forget gate has no influence in the first step.

    Args:
        channels: C of the input.
        hidden: Channels of the states.
        kernel: Side of the convolution; odd.

    Raises:
        ReIDError: If the kernel is even.

    Example:
        >>> ConvLSTM(16, 8)(torch.ones(2, 16, 4, 2), steps=3).shape
        torch.Size([2, 3, 8, 4, 2])
    """

    def __init__(self, channels: int, hidden: int = 256, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ReIDError(f"kernel is {kernel}; give an odd side, such as 3")
        self.hidden = check_count(hidden, "hidden", "ConvLSTM")
        self.gates = nn.Conv2d(
            channels + hidden, 4 * hidden, kernel, padding=kernel // 2
        )

    def forward(self, x: Tensor, steps: int = 1) -> Tensor:
        """Let the same map enter in each step.

        Args:
            x: ``(B, C, H, W)``.
            steps: Number of steps, T.

        Returns:
            ``(B, T, hidden, H, W)``, the state h after each step.
        """
        check_count(steps, "steps", "ConvLSTM")
        gates, pad = self.gates, self.gates.padding
        # A convolution of [x, h] is one of x plus one of h, and x stays the same.
        of_x, of_h = gates.weight.split([x.shape[1], self.hidden], dim=1)
        from_x = F.conv2d(x, of_x, gates.bias, padding=pad)
        h = c = x.new_zeros(len(x), self.hidden, *x.shape[2:])
        states = []
        for _ in range(steps):
            i, f, o, g = (from_x + F.conv2d(h, of_h, padding=pad)).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, dim=1)


class AttributeBranch(nn.Module):
    """From a feature map to a semantic descriptor and 12 predictions (APAN), QAFM-D2.

    `PyramidAttention`, then a `ConvLSTM` with one step for each group of attributes:
    the head of group g reads the g-th state. The same map enters in each step, and no
    prediction is handed on: what a state has of the steps before is its memory. Each
    state is averaged over the map and projected; the descriptor v_s is the mean of the
    projections. With ``steps=1``, as in the authors' code, all heads read one state,
    and the memory has nothing to remember.

    Args:
        channels: C of the map.
        num_classes: Classes of each of the G groups.
        out_features: Length of v_s, 1024 in the paper.
        hidden: Channels inside of attention and memory.
        steps: G, or 1.

    Attributes:
        num_features: Length of v_s.

    Raises:
        ReIDError: If steps is neither 1 nor the number of groups, or a group has fewer
            than two classes.

    Example:
        >>> branch = AttributeBranch(16, [2, 4], out_features=8, hidden=4, steps=2)
        >>> descriptor, logits = branch(torch.ones(3, 16, 4, 2))
        >>> descriptor.shape, [one.shape[1] for one in logits]
        (torch.Size([3, 8]), [2, 4])
    """

    def __init__(
        self,
        channels: int,
        num_classes: Sequence[int],
        out_features: int = 1024,
        hidden: int = 256,
        steps: int = 12,
    ) -> None:
        super().__init__()
        if steps not in (1, len(num_classes)):
            raise ReIDError(
                f"AttributeBranch: {steps} steps for {len(num_classes)} groups of "
                "attributes; give one step for each group, or 1"
            )
        if min(num_classes) < 2:
            raise ReIDError(
                f"AttributeBranch: groups of {list(num_classes)} classes; a head needs "
                "two or more"
            )
        self.steps = steps
        self.num_features = check_count(out_features, "out_features", "AttributeBranch")
        self.attention = PyramidAttention(channels, hidden)
        self.memory = ConvLSTM(channels, hidden)
        self.project = nn.Linear(hidden, out_features)
        self.neck = nn.BatchNorm1d(out_features)
        self.heads = nn.ModuleList(nn.Linear(out_features, n) for n in num_classes)

    def forward(self, feature_map: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the descriptor and the logits of each group.

        Args:
            feature_map: ``(B, C, H, W)``.

        Returns:
            ``(B, out_features)`` v_s, and G tensors ``(B, classes)``.
        """
        states = self.memory(self.attention(feature_map), self.steps)
        pooled = states.float().mean(dim=(3, 4))  # (B, T, hidden)
        rows = pooled.flatten(0, 1).to(self.project.weight.dtype)  # after half()
        flat = self.neck(self.project(rows))
        each = flat.unflatten(0, pooled.shape[:2])  # (B, T, out_features)
        read = each.expand(-1, len(self.heads), -1) if self.steps == 1 else each
        logits = [head(read[:, g]) for g, head in enumerate(self.heads)]
        return each.mean(dim=1), logits


def head_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the cross-entropy of one head for each image, QAFM-E4.

    Args:
        logits: ``(B, classes)``.
        classes: ``(B,)`` int64; -1 (no colour is marked) costs nothing.

    Returns:
        ``(B,)`` float32.

    Example:
        >>> head_loss(torch.zeros(2, 4), torch.tensor([3, -1]))
        tensor([1.3863, 0.0000])
    """
    return F.cross_entropy(logits.float(), classes, ignore_index=-1, reduction="none")


def attribute_loss(logits: Sequence[Tensor], classes: Tensor) -> Tensor:
    """Return the sum of the losses of all heads for each image, QAFM-E5.

    The paper sums over the heads; the authors' code takes the mean, which is a scale.

    Args:
        logits: G tensors ``(B, classes)``.
        classes: ``(B, G)`` int64 classes, -1 where one is unknown.

    Returns:
        ``(B,)`` float32.

    Raises:
        ReIDError: If there is not one column for each head.

    Example:
        >>> attribute_loss([torch.zeros(1, 2)] * 3, torch.tensor([[0, 1, -1]]))
        tensor([1.3863])
    """
    if classes.ndim != 2 or classes.shape[1] != len(logits):
        raise ReIDError(
            f"attribute_loss: classes of shape {tuple(classes.shape)} for "
            f"{len(logits)} heads; give (B, {len(logits)})"
        )
    columns = zip(logits, classes.unbind(dim=1), strict=True)
    return torch.stack([head_loss(one, column) for one, column in columns]).sum(dim=0)
