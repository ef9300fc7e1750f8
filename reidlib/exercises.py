"""Exercises in which the core of a method is written, and the tests that check it.

``reidlib check`` lists them, and ``reidlib check NAME FILE`` runs the tests of one on a
function of yours. Each test that fails says what to look at, and not what to write.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import Tensor

from reidlib.checks import check_choice
from reidlib.errors import ReIDError
from reidlib.evaluation import box_overlaps
from reidlib.losses import ClusterMemory, hardest_instances, soft_cross_entropy
from reidlib.paths import user_path
from reidlib.quality import identifiability

Function: TypeAlias = Callable[..., Any]
Test: TypeAlias = Callable[[Function], bool]


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    Attributes:
        chapter: Name of the notebook that asks for it.
        signature: The function, with its arguments.
        asks: What it returns.
        tests: For each hint a test that holds for a right function.
    """

    chapter: str
    signature: str
    asks: str
    tests: dict[str, Test]

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


EXERCISES: dict[str, Exercise] = {
    "average-precision": Exercise(
        "task_and_metrics",
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
        "hardest(features, labels, bank)",
        "for each image of a batch the row of the image of its label that is least "
        "similar to the label's centroid, (B,) int64",
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
        "soft_cross_entropy(logits, targets)",
        "the mean cross-entropy of (B, C) logits with (B, C) distributions",
        {
            "With hard labels it is the usual cross-entropy.": lambda f: _close(
                f(_LOGITS, F.one_hot(torch.arange(7) % 5, 5).float()),
                F.cross_entropy(_LOGITS, torch.arange(7) % 5),
            ),
            "Sum over classes, and average over images.": lambda f: _close(
                f(_LOGITS, _TARGETS), soft_cross_entropy(_LOGITS, _TARGETS)
            ),
            "Large logits must not overflow: use log_softmax.": lambda f: bool(
                torch.isfinite(torch.as_tensor(f(1000 * _LOGITS, _TARGETS)))
            ),
        },
    ),
    "bands": Exercise(
        "the_cals_system",
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
        "identifiability(views)",
        "the mean Euclidean distance of all pairs of the (N, D) features of an image",
        {
            "Equal views have a distance of 0.": lambda f: _close(
                f(torch.ones(4, 3)), 0.0, 1e-3
            ),
            "Each pair counts once, and none with itself.": lambda f: _close(
                f(torch.tensor([[0.0], [1.0], [3.0]])), 2.0
            ),
            "Compare with two loops; distances are not squared.": lambda f: all(
                _close(
                    f(_random(9, 4, seed=s)),
                    identifiability(_random(1, 9, 4, seed=s))[0],
                )
                for s in range(5)
            ),
        },
    ),
    "overlap": Exercise(
        "from_a_camera_to_an_answer",
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
