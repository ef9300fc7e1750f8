"""A step copies nothing to the host, so that a GPU is never waited for."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from host_copies import host_copies
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from reidlib.losses import (
    CameraClassifier,
    ClusterMemory,
    SymmetricMemory,
    batch_hard_triplet,
    camera_loss,
    check_classes,
    cluster_centroids,
    smoothed_cross_entropy,
)

C, D, P, K = 6, 8, 4, 3


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(P * K, D, generator=generator)
    labels = torch.randperm(C, generator=generator)[:P].repeat_interleave(K)
    return features.requires_grad_(), labels


def filled(kind, **settings):
    memory = kind(C, D, **settings)
    memory.initialise(torch.eye(D)[:C])
    return memory


def step_of(memory, features, labels):
    memory(features, labels).backward()
    memory.update(features.detach(), labels)


def with_memory(kind, **settings):
    return lambda: functools.partial(step_of, filled(kind, **settings))


def with_loss(loss, **settings):
    return lambda: lambda x, labels: loss(x, labels, **settings).backward()


def alignment():
    classifier = CameraClassifier(D, C)

    def step(features, labels):
        for form in ("cross_entropy", "double_softmax"):
            camera_loss(classifier(features, 0.5), labels, form).backward()

    return step


WEIGHTS = torch.linspace(0, 1, C)
STEPS = {
    **{
        f"memory, {update}": with_memory(ClusterMemory, update=update, num_instances=K)
        for update in ("sequential", "batch_mean", "hard")
    },
    **{
        f"memory, weighted, {normalise}": with_memory(
            ClusterMemory, weights=WEIGHTS, normalise=normalise, num_instances=K
        )
        for normalise in ("batch", "weights")
    },
    **{
        f"symmetric, {balance}, {against}": with_memory(
            SymmetricMemory, balance=balance, mine_against=against
        )
        for balance in ("predictions", "features", "none")
        for against in ("mean", "hard")
    },
    "alignment": alignment,
    "smoothing": with_loss(smoothed_cross_entropy),
    "triplet": with_loss(batch_hard_triplet),
    "triplet, soft": with_loss(batch_hard_triplet, margin=None),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_copies_nothing_to_the_host(name, batch):
    step = STEPS[name]()
    with host_copies() as found:
        step(*batch)
    assert not found
    assert batch[0].grad.abs().sum() > 0


@pytest.mark.parametrize("name", STEPS)
def test_a_step_needs_no_value(name, batch):
    """Fake tensors have shapes and no values: whoever asks for one gets an error."""
    step, fake = STEPS[name](), FakeTensorMode(allow_non_fake_inputs=True)
    features, labels = (fake.from_tensor(tensor.detach()) for tensor in batch)
    features.requires_grad_()
    unknown = filled(ClusterMemory)  # how many instances of a class it will get
    with fake:
        step(features, labels)
        with pytest.raises(DataDependentOutputException):
            unknown.update(features.detach(), labels)
    assert features.grad.shape == features.shape


@pytest.mark.parametrize(
    "act",
    [
        lambda x, y: x.sum().item(),
        lambda x, y: int(y[0]),
        lambda x, y: float(x.detach()[0, 0]),
        lambda x, y: bool((y >= 0).all()),
        lambda x, y: torch.ones(5)[y[0]].tolist(),
        lambda x, y: range(y[0]),
        lambda x, y: x.cpu(),
        lambda x, y: y.numpy(),
        lambda x, y: y.nonzero(),
        lambda x, y: x[y > 1],
        lambda x, y: x.masked_select(x > 0),
        lambda x, y: y.unique(),
        lambda x, y: y.bincount(minlength=C),
        lambda x, y: x.repeat_interleave(y, dim=0),
        lambda x, y: torch.equal(x, x),
        lambda x, y: check_classes(y, C),
        lambda x, y: cluster_centroids(x, y - y),
        lambda x, y: step_of(filled(ClusterMemory), x, y),  # number of turns unknown
    ],
)
def test_the_count_sees_what_copies(act, batch):
    with host_copies() as found:
        act(batch[0].detach().requires_grad_(), batch[1])
    assert found


def test_the_count_leaves_the_host_alone(batch):
    """Shapes, lists, optimisers: nothing of this is on a device."""
    features, labels = batch
    optimizer = torch.optim.Adam([features])
    with host_copies() as found:
        F.cross_entropy(features, labels).backward()
        optimizer.step()
        torch.tensor([len(labels), *features.shape]).to("cpu")
        features.detach()[labels]
    assert not found
    assert torch.Tensor.cpu is torch._C.TensorBase.cpu
