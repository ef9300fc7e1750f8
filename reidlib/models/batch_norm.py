"""Batch normalisation in chunks, as several GPUs under DataParallel compute it.

Four values, normalised as one batch and then in two chunks:

>>> x = torch.tensor([[0.0], [2.0], [100.0], [102.0]])
>>> nn.BatchNorm1d(1, affine=False)(x).flatten()  # one mean: 51
tensor([-1.0198, -0.9798,  0.9798,  1.0198])
>>> split_batch_norm(nn.BatchNorm1d(1, affine=False), 2)(x).flatten()  # 1 and 101
tensor([-1.0000,  1.0000, -1.0000,  1.0000])
"""

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
        with untracked_statistics(self):  # type: ignore[arg-type]
            outputs += [forward(chunk) for chunk in others]
        return torch.cat(outputs)


@cache
def _split_class(plain: type[nn.Module]) -> type[nn.Module]:
    name = f"Split{plain.__name__}"
    return type(name, (_SplitForward, plain), {"plain": plain})


def split_batch_norm(model: Model, splits: int) -> Model:
    """Make every batch norm of a model normalise the batch in contiguous chunks.

    ``nn.DataParallel`` on n GPUs gives each GPU a contiguous n-th of the batch, and
    each GPU normalises its part by the statistics of that part alone. Where a sampler
    emits identities in runs of K, a part holds few identities, and results published
    from four GPUs are not those of one. With ``splits=4`` one GPU computes what four
    did. The running statistics come from the first chunk, as DataParallel keeps those
    of its first GPU. In eval mode nothing changes, nor do the keys of the state dict.

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
        # The class is replaced and not the module, which keeps names and parameters.
        batch_norm: Any = module
        plain: Any = getattr(batch_norm, "plain", type(batch_norm))
        batch_norm.__class__ = plain if splits == 1 else _split_class(plain)
        batch_norm.splits = splits
    return model


@contextmanager
def untracked_statistics(model: nn.Module) -> Iterator[None]:
    """Leave the running statistics of every batch norm as they are.

    In train mode a batch is still normalised by its own statistics. This is for batches
    of another domain than the one that the network will be used on: they are normalised
    apart, and they do not change the running statistics, as in domain-specific batch
    normalisation (Chang et al., CVPR 2019), but with one scale and shift for both.

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
    # In eval mode, as in frozen stages, a batch norm without tracking would normalise
    # by the batch.
    norms = [norm for norm in norms if norm.training and norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
