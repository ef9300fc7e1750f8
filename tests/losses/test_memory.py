from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from reidlib.errors import ReIDError
from reidlib.losses import (
    ClusterMemory,
    class_means,
    cluster_centroids,
    hardest_instances,
    info_nce,
)

MODES = ("sequential", "batch_mean", "hard")


def batch(num=24, clusters=6, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(num, dim, generator=generator), dim=1)
    labels = torch.randint(clusters - 1, (num,), generator=generator)
    bank = F.normalize(torch.randn(clusters, dim, generator=generator), dim=1)
    return features, labels, bank


def memory_of(bank, **settings):
    memory = ClusterMemory(*bank.shape, **settings)
    memory.initialise(bank)
    return memory


def at_angles(*degrees):
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def naive_loss(features, labels, bank, temperature):
    total = 0.0
    for feature, label in zip(features, labels, strict=True):
        scores = [math.exp(float(feature @ c) / temperature) for c in bank]
        total -= math.log(scores[label] / sum(scores))
    return total / len(features)


def naive_update(features, labels, bank, momentum, mode):
    bank = bank.clone()

    def move(label, feature):
        mixed = momentum * bank[label] + (1 - momentum) * feature
        bank[label] = mixed / mixed.norm()

    if mode == "sequential":
        for feature, label in zip(features, labels, strict=True):
            move(label, feature)
        return bank
    for label in labels.unique():
        members = features[labels == label]
        if mode == "batch_mean":
            move(label, members.mean(dim=0))
        else:
            move(label, members[(members @ bank[label]).argmin()])
    return bank


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_loss_equals_a_loop_over_equation_1(temperature):
    features, labels, bank = batch()
    memory = memory_of(bank, temperature=temperature)
    expected = naive_loss(features, labels, bank, temperature)
    assert memory(features, labels).item() == pytest.approx(expected, rel=1e-5)
    # The length of a feature does not matter.
    torch.testing.assert_close(memory(3 * features, labels), memory(features, labels))


def test_loss_at_chosen_angles():
    bank = at_angles(0, 90)
    loss = memory_of(bank, temperature=0.5)(at_angles(30), torch.tensor([0]))
    near, far = math.cos(math.radians(30)) / 0.5, math.sin(math.radians(30)) / 0.5
    assert loss.item() == pytest.approx(math.log(1 + math.exp(far - near)), rel=1e-5)
    # On the line between all centroids nothing is known: ln C.
    loss = memory_of(torch.eye(5))(torch.ones(1, 5), torch.tensor([3]))
    assert loss.item() == pytest.approx(math.log(5), rel=1e-5)


def test_gradient_goes_to_the_features_alone_and_is_that_of_the_formula():
    features, labels, bank = batch()
    memory = memory_of(bank, temperature=0.1)
    features.requires_grad_()
    memory(features, labels).backward()
    assert not list(memory.parameters())
    assert torch.equal(memory.bank, F.normalize(bank, dim=1))
    # d/dx of the loss is (softmax - one_hot) C / t / B, less what lies along x, which
    # the normalisation takes out.
    with torch.no_grad():
        error = (features @ bank.T / 0.1).softmax(1) - F.one_hot(labels, len(bank))
        slope = error @ bank / 0.1 / len(features)
        slope -= (slope * features).sum(1, keepdim=True) * features
    torch.testing.assert_close(features.grad, slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.9])
def test_update_equals_a_loop_over_equation_2(mode, momentum):
    features, labels, bank = batch(seed=1)
    memory = memory_of(bank, momentum=momentum, update=mode)
    bank = memory.bank.clone()
    memory.update(features, labels)
    expected = naive_update(features, labels, bank, momentum, mode)
    torch.testing.assert_close(memory.bank, expected)
    torch.testing.assert_close(memory.bank.norm(dim=1), torch.ones(len(bank)))
    absent = torch.ones(len(bank), dtype=torch.bool)
    absent[labels] = False
    assert absent.any()
    assert torch.equal(memory.bank[absent], bank[absent])


def runs(clusters, num_labels, instances, dim=8, seed=0):
    """A batch of PKSampler: runs of one label; too few labels take turns."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(clusters, generator=generator) for _ in range(4)])
    labels = order[:num_labels].repeat_interleave(instances)
    return torch.randn(len(labels), dim, generator=generator), labels


@pytest.mark.parametrize("clusters", [1, 2, 3, 5, 6, 20])
@pytest.mark.parametrize("instances", [1, 4])
def test_known_runs_give_the_same_update(clusters, instances):
    features, labels = runs(clusters, num_labels=5, instances=instances)
    bank = torch.randn(clusters, 8, generator=torch.Generator().manual_seed(1))
    known = memory_of(bank, num_instances=instances)
    unknown = memory_of(bank)
    known.update(features, labels)
    unknown.update(features, labels)
    assert torch.equal(known.bank, unknown.bank)
    start, unit = F.normalize(bank, dim=1), F.normalize(features, dim=1)
    expected = naive_update(unit, labels, start, 0.1, "sequential")
    torch.testing.assert_close(known.bank, expected)


@pytest.mark.parametrize(
    ("labels", "instances", "message"),
    [
        ([0, 0, 0, 1], 2, "2 classes with up to 3 instances, and num_instances is 2"),
        ([0, 1, 2, 3], 2, "4 classes with up to 1 instances, and num_instances is 2"),
        ([0, 0, 1, 1], 3, "a batch of 4 has no runs of 3 instances"),
    ],
)
def test_a_batch_without_the_runs_that_were_promised_is_refused(
    labels, instances, message
):
    memory = memory_of(torch.eye(8), num_instances=instances)
    with pytest.raises(ReIDError, match=f"{message}; give the sampler's"):
        memory.update(torch.ones(4, 8), torch.tensor(labels))
    assert torch.equal(memory.bank, torch.eye(8))


@pytest.mark.parametrize("against", [0, 1])
def test_the_hard_instance_is_the_least_similar_of_its_class(against):
    features, labels, bank = batch(seed=against)
    rows = hardest_instances(3 * features, labels, bank)
    assert rows.shape == labels.shape
    for label in labels.unique():
        members = (labels == label).nonzero().flatten().tolist()
        wanted = min(members, key=lambda row: float(features[row] @ bank[label]))
        assert rows[labels == label].unique().tolist() == [wanted]


def test_of_equally_hard_instances_the_first_counts():
    features = at_angles(30, 60, -60, 60, 10)
    rows = hardest_instances(features, torch.tensor([0, 0, 0, 0, 0]), at_angles(0))
    assert rows.tolist() == [1] * 5


def test_class_means_are_those_of_a_loop_and_have_their_gradient():
    features, labels, _ = batch()
    features.requires_grad_()
    means = class_means(features, labels)
    for row, label in enumerate(labels):
        wanted = features[labels == label].mean(dim=0)
        torch.testing.assert_close(means[row], wanted)
    (gradient,) = torch.autograd.grad(means.sum(), features)
    torch.testing.assert_close(gradient, torch.ones_like(features))


@pytest.mark.parametrize("normalise", ["batch", "weights"])
def test_a_memory_weighs_the_clusters(normalise):
    features, labels, bank = batch()
    weights = torch.linspace(0, 1, len(bank))
    memory = memory_of(bank, weights=weights, normalise=normalise)
    wanted = info_nce(features, bank, labels, 0.05, weights, normalise)
    torch.testing.assert_close(memory(features, labels), wanted)
    other = ClusterMemory(*bank.shape, weights=torch.ones(6), normalise=normalise)
    other.load_state_dict(memory.state_dict())
    assert other(features, labels) == memory(features, labels)


@pytest.mark.parametrize("mode", MODES)
def test_only_the_sequential_update_depends_on_the_order(mode):
    features, labels, bank = batch(seed=2)
    one, two = (memory_of(bank, update=mode) for _ in range(2))
    one.update(features, labels)
    two.update(features.flip(0), labels.flip(0))
    assert torch.allclose(one.bank, two.bank, atol=1e-6) == (mode != "sequential")


@pytest.mark.parametrize("mode", MODES)
def test_order_of_the_classes_never_matters(mode):
    features, labels, bank = batch(seed=3)
    order = labels.argsort(stable=True)
    one, two = (memory_of(bank, update=mode) for _ in range(2))
    one.update(features, labels)
    two.update(features[order], labels[order])
    torch.testing.assert_close(one.bank, two.bank)


def test_hard_update_takes_the_farthest_instance_and_half_way_is_half_the_angle():
    memory = memory_of(at_angles(0, 180), momentum=0.5, update="hard")
    memory.update(at_angles(10, 60, -20), torch.tensor([0, 0, 0]))
    torch.testing.assert_close(memory.bank, at_angles(30, 180))


def test_sequential_centroid_is_nearly_the_last_instance():
    memory = memory_of(at_angles(0), momentum=0.1)
    memory.update(at_angles(90, 40, -70), torch.tensor([0, 0, 0]))
    assert (memory.bank @ at_angles(-70).T).item() > 0.99


@pytest.mark.parametrize("mode", MODES)
def test_momentum_of_one_keeps_the_bank(mode):
    features, labels, bank = batch()
    memory = memory_of(bank, momentum=1.0, update=mode)
    memory.update(features, labels)
    torch.testing.assert_close(memory.bank, bank)


def test_update_neither_records_a_graph_nor_happens_in_backward():
    features, labels, bank = batch()
    features.requires_grad_()
    memory = memory_of(bank)
    before = memory.bank.clone()
    loss = memory(features, labels)
    loss.backward(retain_graph=True)
    loss.backward()
    assert torch.equal(memory.bank, before)
    memory.update(features, labels)
    assert not memory.bank.requires_grad


def test_update_between_forward_and_backward_does_not_change_the_gradient():
    features, labels, bank = batch()
    one, two = (features.clone().requires_grad_() for _ in range(2))
    memory_of(bank)(one, labels).backward()
    memory = memory_of(bank)
    loss = memory(two, labels)
    memory.update(two, labels)
    loss.backward()
    assert torch.equal(one.grad, two.grad)


def test_arithmetic_is_float32_under_autocast():
    features, labels, bank = batch()
    memory, other = memory_of(bank), memory_of(bank)
    half = features.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = memory(half, labels)
        memory.update(half, labels)
    assert loss.dtype == memory.bank.dtype == torch.float32
    torch.testing.assert_close(loss, other(half.float(), labels))
    other.update(half.float(), labels)
    torch.testing.assert_close(memory.bank, other.bank)


def test_bank_travels_in_the_state_dict():
    features, labels, bank = batch()
    memory = memory_of(bank)
    other = ClusterMemory(*bank.shape)
    other.load_state_dict(memory.state_dict())
    assert list(memory.state_dict()) == ["bank"]
    assert other(features, labels) == memory(features, labels)


def test_centroids_equal_a_loop_and_leave_outliers_out():
    features, labels, _ = batch()
    labels = labels.clone()
    labels[::5] = -1
    centroids = cluster_centroids(features, labels)
    assert len(centroids) == labels.max() + 1
    for label, centroid in enumerate(centroids):
        mean = features[labels == label].mean(dim=0)
        torch.testing.assert_close(centroid, mean / mean.norm())
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        cluster_centroids(features[order], labels[order]), centroids
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_clusters": 0}, "memory of 0 clusters"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"update": "median"}, "update is 'median'"),
        ({"normalise": "sum"}, "normalise is 'sum'"),
        ({"num_instances": 0}, "num_instances is 0"),
        ({"weights": torch.ones(3)}, r"shape \(3,\) for 2 clusters"),
        ({"weights": -torch.ones(2)}, "weights are 0 or more"),
        ({"weights": torch.full((2,), math.nan)}, "weights are 0 or more"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ReIDError, match=message):
        ClusterMemory(**{"num_clusters": 2, "num_features": 3, **settings})


def test_bad_batches_are_refused():
    features, labels, bank = batch()
    empty = ClusterMemory(*bank.shape)
    memory = memory_of(bank)
    for act in (empty.forward, empty.update):
        with pytest.raises(ReIDError, match="memory is empty; call initialise"):
            act(features, labels)
    acts = [memory.forward]
    acts += [memory_of(bank, update=mode).update for mode in MODES]
    for act in acts:
        with pytest.raises(ReIDError, match="labels go from -1 to"):
            act(features, labels.where(labels > 0, torch.tensor(-1)))
        with pytest.raises(ReIDError, match="to 6; they must be in 0 to 5"):
            act(features, labels + 6 - labels.max())
        with pytest.raises(ReIDError, match=r"labels of shape \(23,\)"):
            act(features, labels[1:])
        with pytest.raises(ReIDError, match=r"features have|queries have"):
            act(features[:, 1:], labels)
        with pytest.raises(ReIDError, match="B > 0"):
            act(features[:0], labels[:0])


def test_bad_centroids_are_refused():
    features, labels, bank = batch()
    memory = ClusterMemory(*bank.shape)
    with pytest.raises(ReIDError, match=r"shape \(5, 8\); this memory holds \(6, 8\)"):
        memory.initialise(bank[1:])
    for value in (0.0, math.nan):
        broken = bank.clone()
        broken[2] = value
        with pytest.raises(ReIDError, match=r"1 of 6 centroids .* first is row 2"):
            memory.initialise(broken)
    with pytest.raises(ReIDError, match="all 24 images are outliers"):
        cluster_centroids(features, torch.full_like(labels, -1))
    with pytest.raises(ReIDError, match="1 clusters are empty, the first is 1"):
        cluster_centroids(features, labels.where(labels != 1, torch.tensor(0)))
    # Long ids need no memory for all numbers up to them.
    with pytest.raises(ReIDError, match="clusters are empty, the first is 0"):
        cluster_centroids(features, labels + 2**62)
