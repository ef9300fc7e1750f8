"""Soft labels: distributions, their limits, and naive loops from the equations."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from torch import Tensor

from reidlib.errors import ReIDError
from reidlib.labels import (
    ConfusionMatrix,
    descriptor_similarity,
    literal_targets,
    neighbor_agreement,
    neighbor_targets,
    prediction_targets,
    strength_targets,
    uniform_targets,
)

B, C, K, D = 12, 5, 6, 8


class Given:
    """Everything that a kind of smoothing may want, at random."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(C, (B,), generator=self.generator)
        self.predictions = [self.rand(B, C).softmax(dim=1) for _ in range(2)]
        self.whole, self.bands = self.randn(B, D), self.randn(B, 4, D)
        self.agreement = self.rand(B)
        self.neighbors = torch.randint(-1, C, (B, K), generator=self.generator)
        self.matrix = ConfusionMatrix(C)
        seen = torch.randint(C, (200,), generator=self.generator)
        taken = torch.randint(C, (200,), generator=self.generator)
        self.matrix.update(torch.where(taken > 2, seen, taken), seen)
        self.matrix.end_epoch()

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    @property
    def similarity(self) -> Tensor:
        return descriptor_similarity(self.whole, self.bands)

    def permuted(self, order: Tensor) -> Given:
        """The same, with class c called ``order[c]``."""
        other = Given.__new__(Given)
        vars(other).update(vars(self))
        other.labels = order[self.labels]
        inverse = order.argsort()
        other.predictions = [p[:, inverse] for p in self.predictions]
        known = self.neighbors >= 0
        other.neighbors = torch.where(known, order[self.neighbors.clamp(0)], -1)
        other.matrix = ConfusionMatrix(C)
        other.matrix.counts.copy_(self.matrix.counts[inverse][:, inverse])
        return other


KINDS = {
    "uniform": lambda g, a: uniform_targets(g.labels, C, a),
    "dcls": lambda g, a: neighbor_targets(g.labels, g.agreement, g.neighbors, C, a),
    "predictions": lambda g, a: prediction_targets(g.labels, *g.predictions, a),
    "strength": lambda g, a: strength_targets(g.labels, g.similarity, C, a),
    "literal": lambda g, a: literal_targets(g.labels, g.similarity, C, a),
    "confusion": lambda g, a: g.matrix.targets(g.labels, a),
}
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0, 1))
def test_each_row_is_a_distribution(kind, seed, alpha):
    soft = KINDS[kind](Given(seed), alpha)
    assert soft.shape == (B, C)
    assert soft.dtype == torch.float32
    assert (soft >= 0).all()
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(B))


@kinds
def test_alpha_0_is_the_hard_label(kind):
    given = Given(1)
    hard = F.one_hot(given.labels, C).float()
    assert torch.equal(KINDS[kind](given, 0.0), hard)


def test_alpha_1_is_the_limit_of_each_kind():
    given = Given(2)
    hard = F.one_hot(given.labels, C).float()
    even = torch.full((B, C), 1 / C)
    torch.testing.assert_close(KINDS["uniform"](given, 1.0), even)
    mean = sum(given.predictions) / 2
    torch.testing.assert_close(KINDS["predictions"](given, 1.0), mean)
    agree = given.similarity.clamp(min=0)[:, None]
    strength = agree * hard + (1 - agree) * even
    torch.testing.assert_close(KINDS["strength"](given, 1.0), strength)
    literal = torch.where(given.similarity[:, None] > 0, even, hard)
    torch.testing.assert_close(KINDS["literal"](given, 1.0), literal)
    given.agreement.zero_()
    histogram = KINDS["dcls"](given, 1.0)
    for row, neighbors in zip(histogram, given.neighbors.tolist(), strict=True):
        known = Counter(n for n in neighbors if n >= 0)
        for label in range(C):
            assert row[label] == pytest.approx(known[label] / known.total())


@kinds
def test_names_of_classes_do_not_matter(kind):
    given, order = Given(3), torch.tensor([2, 0, 4, 1, 3])
    soft = KINDS[kind](given, 0.6)
    renamed = KINDS[kind](given.permuted(order), 0.6)
    torch.testing.assert_close(renamed[:, order], soft)


@kinds
@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), None])
def test_alpha_out_of_range_is_refused(kind, alpha):
    with pytest.raises(ReIDError, match=r"alpha is .*give a number in \[0, 1\]"):
        KINDS[kind](Given(4), alpha)


@kinds
def test_nothing_flows_back_through_a_target(kind):
    given = Given(5)
    logits = given.randn(B, C).requires_grad_()
    given.predictions = [logits.softmax(dim=1)] * 2
    given.whole.requires_grad_()
    assert not KINDS[kind](given, 0.5).requires_grad


def test_agreement_is_that_of_python_sets():
    generator = torch.Generator().manual_seed(0)
    first, second = (
        torch.stack([torch.randperm(12, generator=generator)[:K] for _ in range(30)])
        for _ in range(2)
    )
    for one, two, found in zip(
        first.tolist(), second.tolist(), neighbor_agreement(first, second), strict=True
    ):
        share = len(set(one) & set(two)) / len(set(one) | set(two))
        assert found == pytest.approx(share)
    assert torch.equal(neighbor_agreement(first, first.flip(1)), torch.ones(30))


def test_neighbours_without_a_label_leave_the_label_hard():
    labels, outliers = torch.tensor([1]), torch.full((1, K), -1)
    soft = neighbor_targets(labels, torch.zeros(1), outliers, C)
    assert torch.equal(soft, F.one_hot(labels, C).float())


def test_similarity_is_a_loop_of_cosines_and_0_without_a_direction():
    given = Given(6)
    given.whole[0] = 0
    given.bands[1, 2] = 0
    for row in range(B):
        cosines = []
        for band in given.bands[row]:
            lengths = float(given.whole[row].norm() * band.norm())
            product = float((given.whole[row] * band).sum())
            cosines.append(product / lengths if lengths else 0.0)
        assert given.similarity[row] == pytest.approx(sum(cosines) / 4, abs=1e-6)
    assert given.similarity[0] == 0


def test_the_literal_reading_by_hand():
    labels = torch.tensor([0, 0, 0])
    s = torch.tensor([1.0, -0.5, -1.0])
    # 0.5 y + 0.5 s: (1, .5, .5), (.25, -.25, -.25), and nothing above 0 at all
    wanted = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0, 0], [1.0, 0, 0]])
    torch.testing.assert_close(literal_targets(labels, s, 3, 0.5), wanted)


def test_confusions_are_those_of_scikit_learn_and_of_a_dictionary():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(C, (300,), generator=generator)
    predicted = torch.randint(C, (300,), generator=generator)
    predicted[labels == 3] = 3  # a class without an error
    matrix = ConfusionMatrix(C)
    for rows in torch.arange(300).split(64):
        matrix.update(predicted[rows], labels[rows])
    # Within the first epoch nothing is known of the last one.
    assert torch.equal(
        matrix.targets(labels[:4], 1.0), F.one_hot(labels[:4], C).float()
    )
    matrix.end_epoch()
    wanted = confusion_matrix(labels, predicted, labels=range(C))
    assert matrix.counts.tolist() == wanted.tolist()

    counts = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    soft = matrix.targets(torch.arange(C), 0.7)
    for label in range(C):
        seen = sum(counts[label, c] for c in range(C))
        wrong = seen - counts[label, label]
        for c in range(C):
            share = 0.7 * wrong / seen
            mass = 1 - share if c == label else share * counts[label, c] / max(wrong, 1)
            assert soft[label, c] == pytest.approx(mass)
    assert torch.equal(soft[3], F.one_hot(torch.tensor(3), C).float())
    matrix.end_epoch()  # an epoch in which nothing was counted
    assert torch.equal(matrix.targets(torch.tensor([0]), 1.0)[0], torch.eye(C)[0])


def test_shapes_that_do_not_fit_are_refused():
    labels = torch.tensor([0, 1])
    with pytest.raises(ReIDError, match="neighbours of shape"):
        neighbor_agreement(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ReIDError, match="one number for each image"):
        neighbor_targets(labels, torch.zeros(3), torch.zeros(2, 4, dtype=int), 3)
    with pytest.raises(ReIDError, match=r"predictions have shape \(2, 4\)"):
        prediction_targets(labels, torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ReIDError, match=r"give \(B, D\) and \(B, bands, D\)"):
        descriptor_similarity(torch.zeros(2, 3), torch.zeros(2, 4, 5))
    with pytest.raises(ReIDError, match=r"labels have shape \(0,\)"):
        uniform_targets(labels[:0], 3)
    with pytest.raises(ReIDError, match="num_classes is 0"):
        ConfusionMatrix(0)


LABELS = torch.tensor([0, 2, 1])


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.numpy(),
        [0, 2, 1],
        LABELS.to(torch.uint8),
        LABELS.float(),
        LABELS[:, None],
        LABELS[:0],
        LABELS - 1,
        LABELS + 1,
    ],
    ids=["NumPy", "list", "uint8", "float", "(B, 1)", "empty", "-1", "too large"],
)
def test_labels_that_are_none(labels):
    half, matrix = torch.full((3,), 0.5), ConfusionMatrix(3)
    thirds, neighbors = torch.full((3, 3), 1 / 3), torch.zeros(3, 2, dtype=torch.int64)
    for attempt in (
        lambda: uniform_targets(labels, 3),
        lambda: neighbor_targets(labels, half, neighbors, 3),
        lambda: prediction_targets(labels, thirds, thirds),
        lambda: strength_targets(labels, half, 3),
        lambda: literal_targets(labels, half, 3),
        lambda: matrix.targets(labels),
        lambda: matrix.update(labels, LABELS),
        lambda: matrix.update(LABELS, labels),
    ):
        with pytest.raises(ReIDError, match="labels"):
            attempt()


def test_one_number_for_each_image_is_not_a_column_of_them():
    column = torch.full((3, 1), 0.5)
    neighbors = torch.zeros(3, 2, dtype=torch.int64)
    for attempt in (
        lambda: strength_targets(LABELS, column, 3),
        lambda: literal_targets(LABELS, column, 3),
        lambda: literal_targets(LABELS, column[:2, 0], 3),
        lambda: neighbor_targets(LABELS, column, neighbors, 3),
        lambda: strength_targets(LABELS, column[:, 0].numpy(), 3),
    ):
        with pytest.raises(ReIDError, match="one number for each image"):
            attempt()
    with pytest.raises(ReIDError, match="a row for each image"):
        neighbor_targets(LABELS, column[:, 0], neighbors[0], 3)
    with pytest.raises(ReIDError, match=r"give \(B, D\) and \(B, bands, D\)"):
        descriptor_similarity(torch.ones(2, 4), torch.ones(2, 0, 4))
    for count in (0, -1, 2.0, None):
        with pytest.raises(ReIDError, match="num_classes is"):
            uniform_targets(LABELS, count)
