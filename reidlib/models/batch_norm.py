"""Batch normalisation in chunks, as several GPUs under DataParallel compute it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reidlib.errors import ReIDError

Model = TypeVar("Model", bound=nn.Module)


class _SplitForward:
    """Mixed into a batch norm class: normalise each chunk of the batch apart."""

    splits: int
    training: bool
    track_running_stats: bool

    def forward(self, x: Tensor) -> Tensor:
        """Normalise contiguous chunks of the batch, each by its own statistics."""
        forward = super().forward  # type: ignore[misc]
        if not self.training:
            return forward(x)
        if len(x) % self.splits:
            raise ReIDError(
                f"a batch of {len(x)} images cannot be normalised in {self.splits} "
                "equal chunks; choose a batch size that is divisible by splits"
            )
        first, *others = x.chunk(self.splits)
        outputs = [forward(first)]
        tracking = self.track_running_stats
        self.track_running_stats = False
        try:
            outputs += [forward(chunk) for chunk in others]
        finally:
            self.track_running_stats = tracking
        return torch.cat(outputs)


@cache
def _split_class(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Split{kind.__name__}", (_SplitForward, kind), {})


def split_batch_norm(model: Model, splits: int) -> Model:
    """Make every batch norm of a model normalise the batch in contiguous chunks.

    ``nn.DataParallel`` on n GPUs gives each GPU a contiguous n-th of the batch, and
    each GPU normalises its part by the statistics of that part alone. Where a sampler
    emits identities in runs of K, a part holds few identities, and results published
    from four GPUs are not those of one. With ``splits=4`` one GPU computes what four
    did. The running statistics come from the first chunk, as DataParallel keeps those
    of its first GPU. In eval mode nothing changes, nor do the names in the state dict.

    Args:
        model: Network, changed in place.
        splits: Number of chunks; 1 puts ordinary batch norms back.

    Returns:
        The same model.

    Raises:
        ReIDError: If ``splits`` is below 1; later, in training, if a batch cannot be
            divided into equal chunks.

    Example:
        >>> net = split_batch_norm(nn.Sequential(nn.BatchNorm1d(1, affine=False)), 2)
        >>> net(torch.tensor([[0.0], [2.0], [100.0], [102.0]])).round().flatten()
        tensor([-1.,  1., -1.,  1.])
    """
    if splits < 1:
        raise ReIDError(f"splits is {splits}; a batch has at least one chunk")
    for module in model.modules():
        if not isinstance(module, _BatchNorm):
            continue
        kind: Any = type(module)
        if isinstance(module, _SplitForward):
            kind = kind.__mro__[2]
        # The class changes and not the module: names and parameters stay as they are.
        swapped: Any = module
        swapped.__class__ = kind if splits == 1 else _split_class(kind)
        if splits > 1:
            swapped.splits = splits
    return model


@contextmanager
def untracked_statistics(model: nn.Module) -> Iterator[None]:
    """Leave the running statistics of every batch norm as they are.

    In train mode a batch is still normalised by its own statistics. For batches of
    another domain than the one that the network will be used on: normalised apart,
    they neither mix with its batches nor with what it remembers of them, as in
    domain-specific batch normalisation (Chang et al., CVPR 2019), but with one scale
    and shift for both.

    Args:
        model: Network in any mode.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> with untracked_statistics(norm):
        ...     _ = norm(torch.tensor([[10.0], [30.0]]))
        >>> norm.running_mean
        tensor([0.])
    """
    norms: list[Any] = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    # A batch norm in eval mode, as those of frozen stages, would lose its memory.
    norms = [norm for norm in norms if norm.training and norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
