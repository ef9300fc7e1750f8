"""Exercises in which the core of a method is written, and the tests that check it.

``reidlib check`` lists them, and ``reidlib check NAME FILE`` runs the tests of one on a
function of yours. Each test that fails says what to look at, and not what to write. The
first one that fails is the one to begin with.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import Tensor

from reidlib.checks import check_choice
from reidlib.errors import ReIDError
from reidlib.evaluation import box_overlaps, trade_off
from reidlib.labels import refine_labels, select_pivots
from reidlib.losses import ClusterMemory, hardest_instances, soft_cross_entropy
from reidlib.models import ChannelSpatialAttention, GeM, attribute_loss
from reidlib.neighbors import nearest_neighbors
from reidlib.paths import user_path
from reidlib.quality import identifiability

Function: TypeAlias = Callable[..., Any]
Test: TypeAlias = Callable[[Function], bool]


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    Attributes:
        chapter: Name of the notebook that asks for it.
        stars: How hard it is, from 1 to 3.
        minutes: How long it takes.
        signature: The function, with its arguments.
        asks: What it returns.
        tests: For each hint a test that holds for a right function.
    """

    chapter: str
    stars: int
    minutes: int
    signature: str
    asks: str
    tests: dict[str, Test]

    @property
    def grade(self) -> str:
        """Stars and minutes, as the chapter prints them."""
        return f"{'★' * self.stars} · {self.minutes} minutes"

    @property
    def function(self) -> str:
        """Name of the function."""
        return self.signature.partition("(")[0]


@dataclass(frozen=True)
class Answer:
    """What became of the tests of an exercise.

    Attributes:
        name: The exercise.
        failed: Hint of each test that failed, with the error that was raised, if any.
        total: Number of tests.
    """

    name: str
    failed: dict[str, str]
    total: int

    def __str__(self) -> str:
        passed = self.total - len(self.failed)
        lines = [f"{self.name}: {passed} of {self.total} tests pass"]
        for hint, error in self.failed.items():
            lines.append(f"✗ {hint}" + (f" ({error})" if error else ""))
        return "\n".join(lines)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _close(a: Any, b: Any, least: float = 1e-5) -> bool:
    one, two = np.asarray(torch.as_tensor(a)), np.asarray(torch.as_tensor(b))
    return one.shape == two.shape and bool(np.allclose(one, two, atol=least))


def _unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(_random(*shape, seed=seed), dim=1)


def _ranking(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(50) < 0.2


def _area(matches: np.ndarray) -> float:
    return float(average_precision_score(matches, -np.arange(len(matches))))


def _neighbours(seed: int, images: int = 30, k: int = 6) -> np.ndarray:
    x = _unit(images, 4, seed=seed)
    return (x @ x.T).topk(k).indices.numpy()


def _reciprocal(lists: np.ndarray) -> list[set[int]]:
    return [{int(j) for j in row if i in lists[j]} for i, row in enumerate(lists)]


_BATCH = (_unit(6, 5, seed=1), torch.tensor([0, 0, 2, 2, 2, 0]))


def _updated(momentum: float) -> Tensor:
    memory = ClusterMemory(4, 5, momentum=momentum, update="sequential")
    memory.initialise(_unit(4, 5))
    memory.update(*_BATCH)
    return memory.bank


def _loss(temperature: float) -> Tensor:
    logits = _BATCH[0] @ _unit(4, 5).T / temperature
    return F.cross_entropy(logits, _BATCH[1])


def _gradient(function: Function, strength: float) -> Tensor:
    x = _random(3, 2).requires_grad_()
    (function(x, strength) * torch.arange(6.0).reshape(3, 2)).sum().backward()
    return torch.zeros(3, 2) if x.grad is None else x.grad


_LOGITS, _TARGETS = _random(7, 5, seed=2), _random(7, 5, seed=3).softmax(dim=1)
_BOXES = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [4, 0, 8, 4], [1, 1, 2, 2]])


def _retrievals(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 12, (5, 40)) / 10, rng.random((5, 40)) < 0.2


def _ranks(distance: np.ndarray, is_match: np.ndarray) -> list[np.ndarray]:
    pairs = zip(distance, is_match, strict=True)
    return [np.flatnonzero(m[np.lexsort((m, d))]) + 1 for d, m in pairs]


def _split(maps: Tensor, count: int) -> Tensor:
    parts = maps.tensor_split(count, dim=2)
    return torch.stack([part.mean(dim=(2, 3)) for part in parts], dim=1)


def _weighed(x: Tensor, first: Tensor, second: Tensor, kernel: Tensor) -> Tensor:
    module = ChannelSpatialAttention(x.shape[1], reduction=2).requires_grad_(False)
    weights = {  # of convolutions
        "channel.perceptron.0.weight": first[:, :, None, None],
        "channel.perceptron.2.weight": second[:, :, None, None],
        "spatial.conv.weight": kernel[None],
    }
    module.load_state_dict(weights)
    return cast(Tensor, module(x))


_LAYERS = (_random(2, 4, seed=4), _random(4, 2, seed=5))
_KERNEL, _NO_KERNEL = _random(2, 7, 7, seed=6) / 20, torch.zeros(2, 7, 7)
_NO_LAYERS = (torch.zeros(2, 4), torch.zeros(4, 2))
_OPEN = (torch.ones(2, 4), 100 * torch.ones(4, 2))  # every channel has the weight 1


def _attends(
    function: Function, x: Tensor, layers: tuple[Tensor, Tensor], kernel: Tensor
) -> bool:
    return _close(function(x, *layers, kernel), _weighed(x, *layers, kernel))


def _same_camera(features: Tensor, camids: np.ndarray, k: int) -> float:
    nearest = nearest_neighbors(features, k)[1].numpy()
    return float((camids[nearest] == camids[:, None]).mean())


_AXES = torch.eye(3)


def _seen(seed: int) -> tuple[Tensor, np.ndarray]:
    camids = np.random.default_rng(seed).integers(0, 4, 40)
    return _unit(40, 6, seed=seed), camids


_CITIES = (torch.tensor([0, 1, 1]), torch.tensor([0, 0, 2]))


def _pooled(maps: Tensor, p: float) -> Tensor:
    return cast(Tensor, GeM(p, learnable=False)(maps))


_LAMP = torch.zeros(1, 1, 8, 4)
_LAMP[0, 0, 2, 1] = 32.0

# Clusters, local clusters and cameras of seven images.
_CLUSTER = (
    torch.tensor([0, 0, 0, 0, 0, 0, 1]),
    torch.tensor([0, 0, 1, 1, 2, 3, 4]),
    torch.tensor([0, 0, 0, 0, 1, 1, 0]),
)


def _refined(function: Function, *pivots: int) -> Tensor:
    clusters, local, camids = (column.clone() for column in _CLUSTER)
    return torch.as_tensor(function(clusters, local, camids, torch.tensor(pivots)))


def _changes_its_own(function: Function) -> bool:
    clusters = _CLUSTER[0].clone()
    found = function(clusters, *_CLUSTER[1:], torch.tensor([0]))
    return len(found) == len(clusters) and torch.equal(clusters, _CLUSTER[0])


def _refines(function: Function, seed: int) -> bool:
    rng = np.random.default_rng(seed)
    clusters, camids = (torch.from_numpy(rng.integers(low, 3, 60)) for low in (-1, 0))
    local = 4 * camids + torch.from_numpy(rng.integers(0, 4, 60))
    scores = rng.random(60)
    # All pivots by falling score, and those that no pivot before them discards.
    every = select_pivots(scores, clusters, camids, "every")
    first = select_pivots(scores, clusters, camids, "ordered")
    gone = refine_labels(clusters, local, camids, first).discarded
    found = function(clusters.clone(), local, camids, every)
    return _close(found, torch.where(gone, -1, clusters))


_HEADS = [_random(6, k, seed=k) for k in (2, 3, 5)]
_CLASSES = torch.stack([torch.arange(6) % k for k in (2, 3, 5)], dim=1)
_SOME = torch.where(_random(6, 3, seed=8) > 0, _CLASSES, -1)

_DISTANCES = np.array([0.8, 0.5, 0.2, 0.7, 0.3, 0.6, 0.4, 0.9, 0.1, 1.0])
_TIED = np.array([0.1, 0.2, 0.2, 0.2, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def _accepts(function: Function, distances: np.ndarray, rate: float) -> int:
    return int((distances <= float(function(distances.copy(), rate))).sum())


def _thresholds(function: Function, seed: int) -> bool:
    distances = np.random.default_rng(seed).integers(0, 60, 100) / 60
    curve = trade_off(np.zeros(1), distances)
    return all(
        _accepts(function, distances, rate)
        == (distances <= curve.threshold_at(rate, min_errors=1)).sum()
        for rate in (0.05, 0.29, 0.5, 0.9)
    )


_GAINS, _ASKED = np.array([0.0, 0.0, 3.0, 6.0]), np.array([4, 4, 4, 9])


def _interval(
    gains: np.ndarray, people: np.ndarray, draws: np.ndarray
) -> tuple[float, float]:
    each = [gains[people == person] for person in np.unique(people)]
    means = [np.concatenate([each[i] for i in draw]).mean() for draw in draws]
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def _named(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(2, 9, 30), np.arange(30) % 8, rng.integers(0, 8, (300, 8))


EXERCISES: dict[str, Exercise] = {
    "average-precision": Exercise(
        "task_and_metrics",
        1,
        10,
        "average_precision(matches)",
        "the average precision of one query, from (G,) booleans, nearest first",
        {
            "A match at rank 1 alone has an average precision of 1.": lambda f: _close(
                f(np.array([True, False, False])), 1.0
            ),
            "A match at rank 4 alone has 1/4: divide by the rank.": lambda f: _close(
                f(np.array([False, False, False, True])), 0.25
            ),
            "Average over the ranks of matches, and over no others.": lambda f: _close(
                f(np.array([True, False, True, False])), (1 + 2 / 3) / 2
            ),
            "Compare long rankings with scikit-learn's average_precision_score.": (
                lambda f: all(
                    _close(f(_ranking(seed)), _area(_ranking(seed)))
                    for seed in range(20)
                )
            ),
        },
    ),
    "reciprocal-neighbours": Exercise(
        "from_features_to_pseudo_labels",
        2,
        15,
        "reciprocal_neighbours(neighbours)",
        "for each image the set of its neighbours that have it among theirs; "
        "neighbours is (N, k) int64, row i those of image i, itself first",
        {
            "An image is its own neighbour, so it is in its set.": lambda f: all(
                i in found for i, found in enumerate(f(_neighbours(0)))
            ),
            "A set holds neighbours alone.": lambda f: all(
                set(map(int, found)) <= set(row.tolist())
                for found, row in zip(f(_neighbours(1)), _neighbours(1), strict=True)
            ),
            "If j is in the set of i, then i is in the set of j.": lambda f: all(
                i in f(_neighbours(2))[j]
                for i, found in enumerate(f(_neighbours(2)))
                for j in found
            ),
            "Compare with two loops over all pairs.": lambda f: all(
                [set(map(int, s)) for s in f(_neighbours(seed))]
                == _reciprocal(_neighbours(seed))
                for seed in range(5)
            ),
        },
    ),
    "memory-update": Exercise(
        "cluster_memory_and_contrast",
        2,
        15,
        "update(bank, features, labels, momentum)",
        "the (C, D) bank after each image of a batch, in turn, has moved the row of "
        "its label to momentum * row + (1 - momentum) * feature, of length 1 again",
        {
            "Rows whose label is not in the batch stay as they are.": lambda f: _close(
                f(_unit(4, 5), *_BATCH, 0.2)[[1, 3]], _unit(4, 5)[[1, 3]]
            ),
            "Every row has length 1 afterwards.": lambda f: _close(
                f(_unit(4, 5), *_BATCH, 0.2).norm(dim=1), torch.ones(4)
            ),
            "A momentum of 1 changes nothing; check which part it weighs.": (
                lambda f: _close(f(_unit(4, 5), *_BATCH, 1.0), _unit(4, 5))
            ),
            "Images of one label come one after the other: the second moves what the "
            "first has left, of length 1.": lambda f: all(
                _close(f(_unit(4, 5), *_BATCH, m), _updated(m)) for m in (0.1, 0.5, 0.9)
            ),
        },
    ),
    "info-nce": Exercise(
        "cluster_memory_and_contrast",
        2,
        15,
        "info_nce(features, bank, labels, temperature)",
        "the mean contrastive loss of (B, D) features, of length 1, and a (C, D) bank",
        {
            "The loss is one number, the mean over the batch.": lambda f: (
                torch.as_tensor(f(_BATCH[0], _unit(4, 5), _BATCH[1], 0.05)).ndim == 0
            ),
            "Similarities are divided by the temperature.": lambda f: all(
                _close(f(_BATCH[0], _unit(4, 5), _BATCH[1], t), _loss(t), 1e-4)
                for t in (0.05, 0.5, 1.0)
            ),
            "exp() of 100 and more overflows: use logsumexp or cross_entropy.": (
                lambda f: _close(
                    f(_BATCH[0], _unit(4, 5), _BATCH[1], 0.001), _loss(0.001), 1e-2
                )
            ),
        },
    ),
    "gradient-reversal": Exercise(
        "camera_alignment",
        2,
        20,
        "reverse(x, strength)",
        "x, with a gradient that is turned round and multiplied by strength",
        {
            "Forwards nothing changes.": lambda f: _close(
                f(_random(3, 2), 0.7), _random(3, 2)
            ),
            "Backwards the sign is turned round.": lambda f: _close(
                _gradient(f, 1.0), -torch.arange(6.0).reshape(3, 2)
            ),
            "Backwards the strength is a factor.": lambda f: _close(
                _gradient(f, 0.3), -0.3 * torch.arange(6.0).reshape(3, 2)
            ),
        },
    ),
    "hardest-instance": Exercise(
        "symmetric_contrast",
        2,
        15,
        "hardest(features, labels, bank)",
        "for each image of a batch the row of the image of its label that is least "
        "similar to the mean key of that label, (B,) int64",
        {
            "The answer of an image has the image's label.": lambda f: _close(
                _BATCH[1][torch.as_tensor(f(*_BATCH, _unit(4, 5)))], _BATCH[1]
            ),
            "Images of one label have one answer.": lambda f: (
                len(set(torch.as_tensor(f(*_BATCH, _unit(4, 5))).tolist())) == 2
            ),
            "Least similar is the smallest cosine with the row of the label.": (
                lambda f: all(
                    _close(
                        f(_unit(6, 5, seed=s), _BATCH[1], _unit(4, 5)),
                        hardest_instances(_unit(6, 5, seed=s), _BATCH[1], _unit(4, 5)),
                    )
                    for s in range(8)
                )
            ),
        },
    ),
    "soft-cross-entropy": Exercise(
        "label_smoothing",
        1,
        10,
        "soft_cross_entropy(logits, targets)",
        "the mean cross-entropy of (B, C) logits with (B, C) distributions",
        {
            "With hard labels it is the usual cross-entropy: the sum over classes, and "
            "the mean over images.": lambda f: _close(
                f(_LOGITS, F.one_hot(torch.arange(7) % 5, 5).float()),
                F.cross_entropy(_LOGITS, torch.arange(7) % 5),
            ),
            "A target is a distribution: all of its classes have a part.": lambda f: (
                _close(f(_LOGITS, _TARGETS), soft_cross_entropy(_LOGITS, _TARGETS))
            ),
            "Large logits must not overflow: use log_softmax.": lambda f: bool(
                torch.isfinite(torch.as_tensor(f(1000 * _LOGITS, _TARGETS)))
            ),
        },
    ),
    "bands": Exercise(
        "the_cals_system",
        1,
        10,
        "bands(maps, count)",
        "the (B, count, C) means of the bands into which (B, C, H, W) maps are cut, "
        "from top to bottom; upper bands take the rows that are left over",
        {
            "Of 8 rows and 4 bands each has two.": lambda f: _close(
                f(_random(2, 3, 8, 4), 4), _split(_random(2, 3, 8, 4), 4)
            ),
            "One band is the mean over the whole map.": lambda f: _close(
                f(_random(2, 3, 7, 4), 1)[:, 0], _random(2, 3, 7, 4).mean(dim=(2, 3))
            ),
            "Of 10 rows and 4 bands the upper two have three.": lambda f: all(
                _close(f(_random(1, 2, h, 3), 4), _split(_random(1, 2, h, 3), 4))
                for h in (9, 10, 11, 13)
            ),
        },
    ),
    "identifiability": Exercise(
        "image_quality_and_fusion",
        1,
        10,
        "identifiability(views)",
        "the mean Euclidean distance of all pairs of the (N, D) features of an image",
        {
            "Equal views have a distance of 0.": lambda f: _close(
                f(torch.ones(4, 3)), 0.0, 1e-3
            ),
            "Of 0, 1 and 3 on a line it is 2: each pair counts once, none with itself, "
            "and nothing is squared.": lambda f: _close(
                f(torch.tensor([[0.0], [1.0], [3.0]])), 2.0
            ),
            "In many dimensions the distance is Euclidean: compare with two loops.": (
                lambda f: all(
                    _close(
                        f(_random(9, 4, seed=s)),
                        identifiability(_random(1, 9, 4, seed=s))[0],
                    )
                    for s in range(5)
                )
            ),
        },
    ),
    "overlap": Exercise(
        "from_a_camera_to_an_answer",
        1,
        10,
        "overlap(a, b)",
        "intersection over union of two boxes (left, top, right, bottom)",
        {
            "A box overlaps with itself completely.": lambda f: _close(
                f(_BOXES[0], _BOXES[0]), 1.0
            ),
            "Boxes that lie apart have 0, and two negative sides make no area.": (
                lambda f: _close(f(_BOXES[2], _BOXES[3]), 0.0)
            ),
            "Of a union the common part counts once.": lambda f: all(
                _close(f(a, b), box_overlaps(a[None].numpy(), b[None].numpy())[0, 0])
                for a in _BOXES
                for b in _BOXES
            ),
        },
    ),
    "ranks": Exercise(
        "what_an_epoch_waits_for",
        2,
        15,
        "ranks_of_matches(distance, is_match)",
        "for each query the rising ranks of its matches, from (Q, G) distances and "
        "booleans; an image of another person at the same distance comes first",
        {
            "The nearest image has rank 1.": lambda f: _close(
                f(np.array([[0.1, 0.3, 0.2]]), np.array([[True, False, False]]))[0], [1]
            ),
            "Count the images that are nearer, matches among them.": lambda f: _close(
                f(np.array([[0.1, 0.3, 0.2]]), np.array([[True, True, False]]))[0],
                [1, 3],
            ),
            "At equal distances other people come first.": lambda f: _close(
                f(np.array([[0.2, 0.2, 0.2]]), np.array([[True, False, False]]))[0], [3]
            ),
            "Matches at equal distances have ranks of their own.": lambda f: _close(
                f(np.array([[0.2, 0.2, 0.9]]), np.array([[True, True, False]]))[0],
                [1, 2],
            ),
            "Compare with a sort by distance, other people before matches.": (
                lambda f: all(
                    _close(found, ranks)
                    for seed in range(8)
                    for found, ranks in zip(
                        f(*_retrievals(seed)), _ranks(*_retrievals(seed)), strict=True
                    )
                )
            ),
        },
    ),
    "same-camera": Exercise(
        "data_and_camera_bias",
        1,
        10,
        "same_camera_share(features, camids, k)",
        "which share of the k nearest other images comes from an image's own camera, "
        "over all images; features are (N, D), of length 1, camids (N,) integers",
        {
            "It is one number from 0 to 1: a mean over all images and all k.": (
                lambda f: (
                    np.ndim(f(*_seen(0), 20)) == 0 and 0 <= float(f(*_seen(0), 20)) <= 1
                )
            ),
            "An image is not its own neighbour.": lambda f: _close(
                f(_AXES[[0, 0]], np.array([0, 1]), 1), 0.0
            ),
            "Near means a large cosine.": lambda f: _close(
                f(_AXES[[0, 0, 1, 1]], np.array([0, 0, 1, 1]), 1), 1.0
            ),
            "Each of the k neighbours counts: compare with a loop over images.": (
                lambda f: all(
                    _close(f(*_seen(seed), k), _same_camera(*_seen(seed), k))
                    for seed in range(4)
                    for k in (1, 3, 10)
                )
            ),
        },
    ),
    "gem": Exercise(
        "features_and_backbones",
        1,
        10,
        "gem(maps, p)",
        "the (B, C) generalised means of (B, C, h, w) maps; values below 1e-6 are "
        "taken for 1e-6",
        {
            "Each channel of each image becomes one number, (B, C).": lambda f: (
                torch.as_tensor(f(_random(2, 3, 8, 4).abs(), 3.0)).shape == (2, 3)
            ),
            "At p = 1 it is the mean over the places.": lambda f: _close(
                f(_random(2, 3, 8, 4).abs(), 1.0),
                _random(2, 3, 8, 4).abs().mean(dim=(2, 3)),
            ),
            "A channel that is 3 everywhere stays 3, whatever p is.": lambda f: all(
                _close(f(torch.full((1, 2, 8, 4), 3.0), p), torch.full((1, 2), 3.0))
                for p in (2.0, 3.0, 6.0)
            ),
            "One place with 32 and 31 with 0 give 10.08 at p = 3. Which comes first, "
            "the power or the mean?": lambda f: _close(
                f(_LAMP, 3.0), _pooled(_LAMP, 3.0), 1e-3
            ),
            "Negative answers have no power of 2.5, and squaring makes them positive: "
            "raise everything below 1e-6 to 1e-6 first.": lambda f: all(
                _close(f(_random(2, 3, 8, 4), p), _pooled(_random(2, 3, 8, 4), p), 1e-4)
                for p in (2.0, 2.5, 3.0)
            ),
        },
    ),
    "refinement": Exercise(
        "label_refinement",
        2,
        20,
        "refine(clusters, local, camids, pivots)",
        "the (N,) clusters after each pivot, in turn, has discarded (-1) the images of "
        "its cluster and camera that are in another local cluster than itself; a pivot "
        "that was discarded no longer judges",
        {
            "The clusters that are handed in stay as they are.": _changes_its_own,
            "Images of other cameras stay: local clusters say nothing about them.": (
                lambda f: _close(_refined(f, 0)[[4, 5]], torch.zeros(2))
            ),
            "Images of other clusters stay.": lambda f: _close(_refined(f, 0)[6], 1),
            "The pivot stays, and so do those of its local cluster.": lambda f: _close(
                _refined(f, 0)[[0, 1]], torch.zeros(2)
            ),
            "Of the pivot's cluster and camera the other local clusters go.": (
                lambda f: _close(_refined(f, 0)[[2, 3]], -torch.ones(2))
            ),
            "A pivot that was discarded no longer judges.": lambda f: (
                _close(_refined(f, 0, 2, 4), torch.tensor([0, 0, -1, -1, 0, -1, 1]))
                and all(_refines(f, seed) for seed in range(6))
            ),
        },
    ),
    "attention": Exercise(
        "attention",
        2,
        20,
        "casam(x, first, second, kernel)",
        "the map (B, C, h, w) after the weights of its channels and then of its "
        "places; first is (C / r, C), second (C, C / r), kernel (2, 7, 7)",
        {
            "The result has the shape of the map: what does the kernel see outside?": (
                lambda f: (
                    torch.as_tensor(
                        f(_random(2, 4, 8, 4).abs(), *_LAYERS, _KERNEL)
                    ).shape
                    == (2, 4, 8, 4)
                )
            ),
            "With all weights 0 either attention is 1/2, and nothing is added.": (
                lambda f: _attends(f, _random(2, 4, 8, 4).abs(), _NO_LAYERS, _NO_KERNEL)
            ),
            "Maxima and means of the channels pass the same two layers, and one "
            "sigmoid takes their sum.": lambda f: _attends(
                f,
                _random(2, 4, 8, 4).abs(),
                (_LAYERS[0].abs(), _LAYERS[1].abs() / 9),
                _NO_KERNEL,
            ),
            "Two matrices in a row are one: what stands between them?": lambda f: (
                _attends(f, _random(2, 4, 8, 4), _LAYERS, _NO_KERNEL)
            ),
            "The kernel has two layers: maxima over the channels, then means.": (
                lambda f: _attends(f, _random(2, 4, 8, 4).abs(), _OPEN, _KERNEL)
            ),
            "Of which map are the two grids taken?": lambda f: _attends(
                f, _random(2, 4, 8, 4), _LAYERS, _KERNEL
            ),
        },
    ),
    "shared-labels": Exercise(
        "domain_adaptation",
        2,
        15,
        "shared_labels(sources, clusters)",
        "one (N,) vector of the labels of all images, first those of a list of "
        "labelled cities, then those of the target's clusters, -1 for its outliers",
        {
            "The first city comes first, and keeps its labels.": lambda f: _close(
                f([torch.tensor([0, 1, 2])], torch.tensor([1, 0]))[:3], [0, 1, 2]
            ),
            "A label of one city occurs in no other.": lambda f: set(
                f([torch.tensor([0, 1, 2])], torch.tensor([1, 0]))[:3].tolist()
            ).isdisjoint(
                f([torch.tensor([0, 1, 2])], torch.tensor([1, 0]))[3:].tolist()
            ),
            "Images of one cluster still share a label.": lambda f: (
                len(set(f([_CITIES[0]], torch.tensor([0, 0, 1]))[3:].tolist())) == 2
            ),
            "An outlier is no member of any cluster, and stays -1.": lambda f: _close(
                f([_CITIES[0]], torch.tensor([0, -1, 0]))[4], -1
            ),
            "A city begins after the largest label of the one before. Is that its "
            "number of images?": lambda f: _close(
                f(list(_CITIES), torch.tensor([1, -1, 0])),
                [0, 1, 1, 2, 2, 4, 6, -1, 5],
            ),
        },
    ),
    "attribute-loss": Exercise(
        "soft_biometrics",
        2,
        15,
        "attribute_loss(logits, classes)",
        "the (B,) losses of the images, summed over the heads; logits is a list of one "
        "(B, classes) tensor for each head, classes is (B, heads), -1 where unknown",
        {
            "Each image has a loss of its own, (B,).": lambda f: (
                torch.as_tensor(f(_HEADS, _CLASSES)).shape == (6,)
            ),
            "A second head that is the same doubles the loss.": lambda f: _close(
                f([_HEADS[0]] * 2, _CLASSES[:, [0, 0]]),
                2 * F.cross_entropy(_HEADS[0], _CLASSES[:, 0], reduction="none"),
            ),
            "An unknown class costs nothing; as an index -1 is the last class.": (
                lambda f: _close(f(_HEADS, _SOME), attribute_loss(_HEADS, _SOME))
            ),
            "Large logits must not overflow: use log_softmax or cross_entropy.": (
                lambda f: bool(
                    torch.isfinite(f([1000 * x for x in _HEADS], _CLASSES)).all()
                )
            ),
        },
    ),
    "threshold": Exercise(
        "what_a_distance_means",
        2,
        15,
        "threshold(negatives, rate)",
        "a t such that as many of the (n,) distances of different people as possible "
        "are at or below it, and no more than the share `rate` of them",
        {
            "No more pass than the rate allows: of ten distances at 0.3, three.": (
                lambda f: 0 <= _accepts(f, _DISTANCES, 0.3) <= 3
            ),
            "The rate is to be used up: of ten distances at 0.3, three.": lambda f: (
                _accepts(f, _DISTANCES, 0.3) == 3
            ),
            "Equal distances pass together, or not at all.": lambda f: (
                _accepts(f, _TIED, 0.3) == 1
            ),
            "At a rate of 0 none passes. Which element has the index -1?": lambda f: (
                _accepts(f, _DISTANCES, 0.0) == 0
            ),
            "At a rate of 1 all pass.": lambda f: _accepts(f, _DISTANCES, 1.0) == 10,
            "In Python 0.29 * 100 is a little less than 29.": lambda f: (
                (_accepts(f, np.arange(100) / 100, 0.29) == 29)
                and all(_thresholds(f, seed) for seed in range(6))
            ),
        },
    ),
    "interval": Exercise(
        "your_cameras_in_an_hour",
        2,
        20,
        "interval(gains, people, draws)",
        "the interval (low, high) of the mean gain over queries that leaves out one "
        "draw in forty at each end; gains is (N,), "
        "NaN where a query was not scored, people (N,); a row of draws, (R, P), holds "
        "P numbers from 0 of the people, in rising order, who were drawn",
        {
            "Equal gains have an interval of no width, (low, high).": lambda f: _close(
                f(np.full(4, 2.0), _ASKED, np.array([[0, 1], [1, 1]])), [2.0, 2.0]
            ),
            "A draw names people, and each brings all of their queries.": lambda f: (
                _close(f(_GAINS, _ASKED, np.array([[0, 0]])), [1.0, 1.0])
            ),
            "The mean is one over queries: a person with three counts three times.": (
                lambda f: _close(f(_GAINS, _ASKED, np.array([[0, 1]])), [2.25, 2.25])
            ),
            "A person who is drawn twice counts twice.": lambda f: _close(
                f(_GAINS, _ASKED, np.array([[0, 1, 1]])), [3.0, 3.0]
            ),
            "Of the draws 2.5 % lie below the interval, and 2.5 % above.": lambda f: (
                all(
                    _close(f(*_named(seed)), _interval(*_named(seed)))
                    for seed in range(3)
                )
            ),
            "A query that was not scored has no part.": lambda f: _close(
                f(
                    np.array([1.0, np.nan, 3.0]),
                    np.array([0, 0, 1]),
                    np.array([[0, 1]]),
                ),
                [2.0, 2.0],
            ),
        },
    ),
}
"""The exercises by name."""


def check_exercise(name: str, function: Function) -> Answer:
    """Run the tests of an exercise on a function.

    Args:
        name: One of `EXERCISES`.
        function: What was written.

    Raises:
        ReIDError: If there is no such exercise.

    Example:
        >>> print(check_exercise("gradient-reversal", lambda x, strength: x))
        gradient-reversal: 1 of 3 tests pass
        ✗ Backwards the sign is turned round.
        ✗ Backwards the strength is a factor.
    """
    check_choice(name, "exercise", "check_exercise", EXERCISES)
    failed = {}
    for hint, test in EXERCISES[name].tests.items():
        try:
            if not test(function):
                failed[hint] = ""
        except (Exception, SystemExit) as raised:  # whatever a first attempt raises
            reason = str(raised).partition("\n")[0]
            failed[hint] = f"{type(raised).__name__}: {reason:.120}"
    return Answer(name, failed, len(EXERCISES[name].tests))


def check_file(name: str, path: str | Path) -> Answer:
    """Run the tests of an exercise on a function of a Python file.

    Args:
        name: One of `EXERCISES`.
        path: The file; it is executed.

    Raises:
        ReIDError: If there is no such exercise or file, the file cannot be executed,
            or it has no such function.
    """
    check_choice(name, "exercise", "check_file", EXERCISES)
    file, wanted = user_path(path), EXERCISES[name].function
    if not file.is_file():
        raise ReIDError(f"there is no file {file}; write {wanted} into one")
    spec = importlib.util.spec_from_file_location("answer", file)
    if spec is None or spec.loader is None:
        raise ReIDError(f"{file} is no Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"line {place.lineno}" if place.filename == str(file) else "it"
        raise ReIDError(
            f"{file} cannot be executed ({where}: {type(error).__name__}: {error})"
        ) from error
    function = getattr(module, wanted, None)
    if not callable(function):
        raise ReIDError(
            f"{file} has no function {wanted}; write {EXERCISES[name].signature}"
        )
    return check_exercise(name, function)
