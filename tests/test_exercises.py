"""The exercises: right answers pass, and usual mistakes get the fitting hint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reidlib.cli import main
from reidlib.errors import ReIDError
from reidlib.exercises import EXERCISES, check_exercise, check_file

ROOT = Path(__file__).parents[1]


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.strength * gradient, None


def average_precision(matches):
    ranks = np.flatnonzero(matches) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def reciprocal_neighbours(neighbours):
    lists = [set(row) for row in neighbours.tolist()]
    return [{j for j in row if i in lists[j]} for i, row in enumerate(lists)]


def update(bank, features, labels, momentum):
    bank = bank.clone()
    for feature, label in zip(features, labels, strict=True):
        moved = momentum * bank[label] + (1 - momentum) * feature
        bank[label] = moved / moved.norm()
    return bank


def info_nce(features, bank, labels, temperature):
    return F.cross_entropy(features @ bank.T / temperature, labels)


def hardest(features, labels, bank):
    found = []
    for label in labels:
        similar = features @ bank[label]
        similar[labels != label] = 9
        found.append(similar.argmin())
    return torch.stack(found)


def soft_cross_entropy(logits, targets):
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()


def bands(maps, count):
    parts, top, height = [], 0, maps.shape[2]
    for band in range(count):
        size = height // count + (band < height % count)
        parts.append(maps[:, :, top : top + size].mean(dim=(2, 3)))
        top += size
    return torch.stack(parts, dim=1)


def identifiability(views):
    return torch.pdist(views).mean()


def overlap(a, b):
    wide = max(min(a[2], b[2]) - max(a[0], b[0]), torch.tensor(0.0))
    high = max(min(a[3], b[3]) - max(a[1], b[1]), torch.tensor(0.0))
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def ranks_of_matches(distance, is_match):
    found = []
    for row, hit in zip(distance, is_match, strict=True):
        own = np.sort(row[hit])
        others = (row[~hit] <= own[:, None]).sum(axis=1)
        found.append(others + 1 + np.arange(len(own)))
    return found


RIGHT = {
    "average-precision": average_precision,
    "reciprocal-neighbours": reciprocal_neighbours,
    "memory-update": update,
    "info-nce": info_nce,
    "gradient-reversal": Reversed.apply,
    "hardest-instance": hardest,
    "soft-cross-entropy": soft_cross_entropy,
    "bands": bands,
    "identifiability": identifiability,
    "overlap": overlap,
    "ranks": ranks_of_matches,
}


@pytest.mark.parametrize("name", EXERCISES)
def test_a_right_answer_passes(name):
    answer = check_exercise(name, RIGHT[name])
    assert answer.failed == {}
    assert answer.total >= 3


@pytest.mark.parametrize("name", EXERCISES)
def test_an_empty_answer_fails_every_test(name):
    answer = check_exercise(name, lambda *_: None)
    assert len(answer.failed) == answer.total


def at_once(bank, features, labels, momentum):
    bank = bank.clone()
    for label in labels.unique():
        mean = features[labels == label].mean(dim=0)
        bank[label] = F.normalize(momentum * bank[label] + (1 - momentum) * mean, dim=0)
    return bank


@pytest.mark.parametrize(
    ("name", "mistake", "hint"),
    [
        ("average-precision", lambda m: m.mean(), "A match at rank 1 alone"),
        (
            "average-precision",
            lambda m: np.sum(np.cumsum(m) / np.arange(1, len(m) + 1) * m) / len(m),
            "Average over the ranks of matches",
        ),
        (
            "reciprocal-neighbours",
            lambda n: [set(row) for row in n.tolist()],
            "If j is in the set of i",
        ),
        ("memory-update", at_once, "Images of one label come one after the other"),
        (
            "memory-update",
            lambda b, f, y, m: update(b, f, y, 1 - m),
            "A momentum of 1 changes nothing",
        ),
        (
            "info-nce",
            lambda f, b, y, t: (
                -((f @ b.T / t).exp() / (f @ b.T / t).exp().sum(dim=1, keepdim=True))
                .log()[range(len(y)), y]
                .mean()
            ),
            "exp() of 100 and more overflows",
        ),
        ("gradient-reversal", lambda x, strength: -x, "Forwards nothing changes"),
        (
            "hardest-instance",
            lambda f, y, b: torch.stack([(f @ b[k]).argmin() for k in y]),
            "The answer of an image has the image's label",
        ),
        (
            "soft-cross-entropy",
            lambda x, t: -(t * x.softmax(dim=1).log()).sum(dim=1).mean(),
            "Large logits must not overflow",
        ),
        (
            "bands",
            lambda m, n: F.adaptive_avg_pool2d(m, (n, 1))[..., 0].transpose(1, 2),
            "Of 10 rows and 4 bands",
        ),
        (
            "identifiability",
            lambda v: torch.cdist(v, v).mean(),
            "Each pair counts once",
        ),
        (
            "overlap",
            lambda a, b: (
                (min(a[2], b[2]) - max(a[0], b[0]))
                * (min(a[3], b[3]) - max(a[1], b[1]))
                / 16
            ),
            "Of a union the common part counts once",
        ),
        (
            "ranks",
            lambda d, m: [
                np.sort([1 + (r < r[i]).sum() for i in np.flatnonzero(h)])
                for r, h in zip(d, m, strict=True)
            ],
            "At equal distances other people come first",
        ),
        (
            "ranks",
            lambda d, m: [
                np.sort([1 + (r[~h] <= r[i]).sum() for i in np.flatnonzero(h)])
                for r, h in zip(d, m, strict=True)
            ],
            "Count the images that are nearer, matches among them",
        ),
    ],
)
def test_a_mistake_gets_its_hint(name, mistake, hint):
    failed = check_exercise(name, mistake).failed
    assert any(told.startswith(hint) for told in failed), failed


def test_every_chapter_that_asks_names_its_exercise():
    for name, exercise in EXERCISES.items():
        notebook = ROOT / "notebooks" / f"{exercise.chapter}.ipynb"
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        text = "".join("".join(cell["source"]) for cell in cells)
        assert f"reidlib check {name} " in text
        assert f"def {exercise.signature}" in text


def test_a_file_is_checked_from_the_command_line(tmp_path, capsys):
    file = tmp_path / "answer.py"
    file.write_text("def reverse(x, strength):\n    return x\n")
    assert main(["check", "gradient-reversal", str(file)]) == 2
    told = capsys.readouterr()
    assert "gradient-reversal: 1 of 3 tests pass" in told.out
    assert "Backwards the sign is turned round." in told.out
    assert "2 of 3 tests fail" in told.err
    file.write_text(
        "import torch\ndef identifiability(v):\n    return torch.pdist(v).mean()\n"
    )
    assert main(["check", "identifiability", str(file)]) == 0
    assert main(["check"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in EXERCISES)


def test_what_cannot_be_checked_is_said(tmp_path):
    file = tmp_path / "answer.py"
    with pytest.raises(ReIDError, match=r"there is no file .*write overlap into one"):
        check_file("overlap", file)
    file.write_text("def other(): pass")
    with pytest.raises(ReIDError, match="has no function overlap; write overlap"):
        check_file("overlap", file)
    file.write_text("\n1 / 0\n")
    with pytest.raises(ReIDError, match="line 2: ZeroDivisionError"):
        check_file("overlap", file)
    file.write_text("import sys\ndef overlap(a, b): sys.exit(0)")
    assert len(check_file("overlap", file).failed) == 3
    file.write_text("def broken(:")
    with pytest.raises(ReIDError, match=r"cannot be executed .*SyntaxError"):
        check_file("overlap", file)
    with pytest.raises(ReIDError, match="exercise is 'magic'; choose from"):
        check_file("magic", file)
