"""The exercises: right answers pass, and usual mistakes get the fitting hint."""

from __future__ import annotations

import ast
import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reidlib.cli import main
from reidlib.errors import ReIDError
from reidlib.exercises import EXERCISES, check_exercise, check_file

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ASKED = re.compile(r"^(`{3,})\{exercise\}.*?\n:label: (\S+)\n\n(.*?)\n", re.M)
GRADE = re.compile(r"(★{1,3}) · (\d+) minutes(?: · `reidlib check (\S+) answer\.py`)?")
FOLDED = re.compile(
    r"^`{4}\{solution\} (\S+)\n:class: dropdown\n(.*?)^`{4}$", re.M | re.S
)
OPENED = re.compile(r"^`{4}\{solution-start\} (\S+)$", re.M)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
# What the set-up cell of a chapter imports, for solutions that are cells.
SETUP = "import numpy as np\nimport torch\nimport torch.nn.functional as F\n\n\n"


def cells_of(chapter: Path) -> list[tuple[str, str]]:
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def text_of(chapter: Path) -> str:
    return "\n\n".join(text for kind, text in cells_of(chapter) if kind == "markdown")


@functools.cache
def grades() -> dict[str, tuple[str, str]]:
    """Chapter and first line of each exercise of the book, by label."""
    return {
        label: (chapter.stem, line)
        for chapter in CHAPTERS
        for _, label, line in ASKED.findall(text_of(chapter))
    }


def definitions(code: str) -> str:
    """The functions of a cell, without what it then does with them."""
    body = ast.parse(code).body
    kept = [ast.unparse(node) for node in body if isinstance(node, ast.FunctionDef)]
    return SETUP + "\n\n\n".join(kept)


@functools.cache
def solutions() -> dict[str, str]:
    """The code of each folded solution of a chapter that has a function, by label."""
    found = {}
    for chapter in CHAPTERS:
        opened = None
        for kind, text in cells_of(chapter):
            if kind == "code" and opened and "def " in text:
                found[opened] = definitions(text)
            if kind == "markdown":
                for label, content in FOLDED.findall(text):
                    found[label] = "\n\n".join(BLOCK.findall(content))
                starts = OPENED.findall(text)
                opened = starts[-1] if starts else None
    return found


@functools.cache
def label_of(name: str) -> str:
    """The exercise of a chapter that asks for a function."""
    (label,) = (
        label
        for label, (_, line) in grades().items()
        if f"`reidlib check {name} " in line
    )
    return label


@functools.cache
def right(name: str):
    """The function of the chapter's solution."""
    space: dict[str, object] = {}
    exec(solutions()[label_of(name)], space)
    return space[EXERCISES[name].function]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_in_the_chapter_passes(name, tmp_path):
    file = tmp_path / "answer.py"
    file.write_text(solutions()[label_of(name)], encoding="utf-8")
    answer = check_file(name, file)
    assert answer.failed == {}
    assert answer.total >= 3


@pytest.mark.parametrize("name", EXERCISES)
def test_an_empty_answer_fails_every_test(name):
    answer = check_exercise(name, lambda *_: None)
    assert len(answer.failed) == answer.total


def test_every_exercise_says_how_hard_and_how_long_it_is():
    written = sum(text_of(chapter).count("{exercise}") for chapter in CHAPTERS)
    assert len(grades()) == written
    unclear = {
        k: line for k, (_, line) in grades().items() if not GRADE.fullmatch(line)
    }
    assert unclear == {}


def test_every_chapter_has_an_exercise_that_is_checked():
    asked = {exercise.chapter for exercise in EXERCISES.values()}
    assert asked == {chapter.stem for chapter in CHAPTERS}


def test_every_chapter_that_asks_names_its_exercise():
    for name, exercise in EXERCISES.items():
        chapter, line = grades()[label_of(name)]
        assert chapter == exercise.chapter
        assert line == f"{exercise.grade} · `reidlib check {name} answer.py`"
        text = text_of(ROOT / "notebooks" / f"{chapter}.ipynb")
        assert f"    def {exercise.signature}:\n        ..." in text
        assert f"It returns {exercise.asks}." in " ".join(text.split())


def at_once(bank, features, labels, momentum):
    bank = bank.clone()
    for label in labels.unique():
        mean = features[labels == label].mean(dim=0)
        bank[label] = F.normalize(momentum * bank[label] + (1 - momentum) * mean, dim=0)
    return bank


def not_of_length_one(bank, features, labels, momentum):
    bank = bank.clone()
    for feature, label in zip(features, labels, strict=True):
        bank[label] = momentum * bank[label] + (1 - momentum) * feature
    return bank


def in_order_of_the_gallery(distance, is_match):
    found = []
    for row, match in zip(distance, is_match, strict=True):
        ranks = np.empty(len(row), dtype=int)
        ranks[np.lexsort((match, row))] = np.arange(1, len(row) + 1)
        found.append(ranks[match])
    return found


def nearest(features, k, *, largest=True, itself=False):
    similarity = features @ features.T
    if not itself:
        similarity = similarity.fill_diagonal_(-9.0 if largest else 9.0)
    return similarity.topk(k, largest=largest).indices.numpy()


def shared(camids, rows):
    return camids[rows] == camids[:, None]


def refine(clusters, local, camids, pivots, *, cameras=True, same=True, in_turn=True):
    refined = clusters.clone()
    for pivot in pivots.tolist():
        if in_turn and refined[pivot] < 0:
            continue
        judged = torch.ones_like(clusters, dtype=torch.bool)
        if same:
            judged &= clusters == clusters[pivot]
        if cameras:
            judged &= camids == camids[pivot]
        refined[judged & (local != local[pivot])] = -1
    return refined


def refine_in_place(clusters, local, camids, pivots):
    clusters[:] = refine(clusters, local, camids, pivots)
    return clusters


def empty_the_camera(clusters, local, camids, pivots):
    pivot = pivots[0]
    mine = (clusters == clusters[pivot]) & (camids == camids[pivot])
    return torch.where(mine, -1, clusters)


def attend(
    x, first, second, kernel, *, maxima=True, relu=True, swapped=False, late=True, pad=3
):
    def layers(value):
        hidden = value @ first.T
        return (hidden.relu() if relu else hidden) @ second.T

    told = layers(x.mean(dim=(2, 3)))
    told = told + layers(x.amax(dim=(2, 3))) if maxima else told
    weighed = x * told.sigmoid()[:, :, None, None]
    of = weighed if late else x
    grids = torch.stack([of.amax(dim=1), of.mean(dim=1)], dim=1)
    grids = grids.flip(1) if swapped else grids
    return weighed * F.conv2d(grids, kernel[None], padding=pad).sigmoid()


def number(sources, clusters, *, start=lambda x: int(x.max()) + 1, outliers=True):
    numbered, first = [], 0
    for labels in (*sources, clusters):
        moved = labels + first
        numbered.append(torch.where(labels < 0, -1, moved) if outliers else moved)
        first += start(labels)
    return torch.cat(numbered)


def renumber(sources, clusters):
    labels = torch.cat([*sources, clusters])
    return torch.where(labels < 0, -1, torch.arange(len(labels)))


def heads(logits, classes, *, log=lambda x: x.log_softmax(dim=1), known=True):
    total = torch.zeros(len(classes))
    for head, truth in zip(logits, classes.T, strict=True):
        each = -log(head).gather(1, truth[:, None] % head.shape[1])[:, 0]
        total = total + torch.where((truth >= 0) | (not known), each, 0.0)
    return total


def at(distances, rate, *, place=0, small=1e-9):
    ordered = np.sort(distances)
    allowed = int(rate * len(ordered) + small) + place
    if allowed >= len(ordered):
        return np.inf
    return np.nextafter(ordered[allowed], -np.inf)


def last_allowed(distances, rate):
    return np.sort(distances)[round(rate * len(distances)) - 1]


def last_allowed_if_any(distances, rate):
    t = at(distances, rate)
    return t if rate else np.sort(distances)[-1]


def bootstrap(gains, people, draws, *, rows=None, ends=(2.5, 97.5), scored=True):
    if scored:
        people, gains = people[~np.isnan(gains)], gains[~np.isnan(gains)]
    each = [gains[people == person] for person in np.unique(people)]
    rows = rows or (lambda draw: np.concatenate([each[i] for i in draw]))
    return np.percentile([rows(draw).mean() for draw in draws], ends)


def of_means(gains, people, draws):
    means = np.array([gains[people == person].mean() for person in np.unique(people)])
    return np.percentile(means[draws].mean(axis=1), [2.5, 97.5])


def of_sets(gains, people, draws):
    known = np.unique(people)
    return bootstrap(
        gains, people, draws, rows=lambda draw: gains[np.isin(people, known[draw])]
    )


# Mistakes, and how the first hint begins that each of them gets.
MISTAKES = {
    "average-precision": [
        (lambda m: m.mean(), "A match at rank 1 alone"),
        (lambda m: float(m.any()), "A match at rank 4 alone"),
        (lambda m: 1 / (m.argmax() + 1), "Average over the ranks of matches"),
        (
            lambda m: right("average-precision")(m[:10]) if m[:10].any() else 0.0,
            "Compare long rankings",
        ),
    ],
    "reciprocal-neighbours": [
        (
            lambda n: [
                s - {i} for i, s in enumerate(right("reciprocal-neighbours")(n))
            ],
            "An image is its own neighbour",
        ),
        (
            lambda n: [
                {j for j, row in enumerate(n) if i in row} for i in range(len(n))
            ],
            "A set holds neighbours alone",
        ),
        (lambda n: [set(row) for row in n.tolist()], "If j is in the set of i"),
        (lambda n: [{i} for i in range(len(n))], "Compare with two loops"),
    ],
    "memory-update": [
        (
            lambda b, f, y, m: F.normalize(m * b + (1 - m) * f.mean(dim=0), dim=1),
            "Rows whose label is not in the batch",
        ),
        (not_of_length_one, "Every row has length 1"),
        (
            lambda b, f, y, m: right("memory-update")(b, f, y, 1 - m),
            "A momentum of 1 changes nothing",
        ),
        (at_once, "Images of one label come one after the other"),
    ],
    "info-nce": [
        (
            lambda f, b, y, t: F.cross_entropy(f @ b.T / t, y, reduction="none"),
            "The loss is one number",
        ),
        (lambda f, b, y, t: F.cross_entropy(f @ b.T, y), "Similarities are divided"),
        (
            lambda f, b, y, t: (
                -((f @ b.T / t).exp() / (f @ b.T / t).exp().sum(dim=1, keepdim=True))
                .log()[range(len(y)), y]
                .mean()
            ),
            "exp() of 100 and more overflows",
        ),
    ],
    "gradient-reversal": [
        (lambda x, strength: -x, "Forwards nothing changes"),
        (lambda x, strength: x, "Backwards the sign is turned round"),
        (
            lambda x, strength: right("gradient-reversal")(x, 1.0),
            "Backwards the strength is a factor",
        ),
    ],
    "hardest-instance": [
        (
            lambda f, y, b: torch.stack([(f @ b[k]).argmin() for k in y]),
            "The answer of an image has the image's label",
        ),
        (lambda f, y, b: torch.arange(len(y)), "Images of one label have one answer"),
        (
            lambda f, y, b: right("hardest-instance")(f, y, -b),
            "Least similar is the smallest cosine",
        ),
    ],
    "soft-cross-entropy": [
        (
            lambda x, t: -(t * x.log_softmax(dim=1)).mean(),
            "With hard labels it is the usual cross-entropy",
        ),
        (
            lambda x, t: F.cross_entropy(x, t.argmax(dim=1)),
            "A target is a distribution",
        ),
        (
            lambda x, t: -(t * x.softmax(dim=1).log()).sum(dim=1).mean(),
            "Large logits must not overflow",
        ),
    ],
    "bands": [
        (lambda m, n: right("bands")(m, n).flip(1), "Of 8 rows and 4 bands"),
        (lambda m, n: right("bands")(m, 4), "One band is the mean"),
        (
            lambda m, n: F.adaptive_avg_pool2d(m, (n, 1))[..., 0].transpose(1, 2),
            "Of 10 rows and 4 bands",
        ),
    ],
    "identifiability": [
        (lambda v: (v @ v.T).mean(), "Equal views have a distance of 0"),
        (lambda v: torch.cdist(v, v).mean(), "Of 0, 1 and 3 on a line it is 2"),
        (lambda v: torch.pdist(v, 1).mean(), "In many dimensions"),
    ],
    "overlap": [
        (
            lambda a, b: right("overlap")(a, b) * (a[2] - a[0]),
            "A box overlaps with itself",
        ),
        (
            lambda a, b: (
                (min(a[2], b[2]) - max(a[0], b[0]))
                * (min(a[3], b[3]) - max(a[1], b[1]))
                / 16
            ),
            "Boxes that lie apart",
        ),
        (
            lambda a, b: (
                max(min(a[2], b[2]) - max(a[0], b[0]), 0)
                * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
                / 16
            ),
            "Of a union the common part counts once",
        ),
    ],
    "ranks": [
        (
            lambda d, m: [found - 1 for found in right("ranks")(d, m)],
            "The nearest image has rank 1",
        ),
        (
            lambda d, m: [
                np.sort([1 + (r[~h] <= r[i]).sum() for i in np.flatnonzero(h)])
                for r, h in zip(d, m, strict=True)
            ],
            "Count the images that are nearer, matches among them",
        ),
        (
            lambda d, m: [
                np.sort([1 + (r < r[i]).sum() for i in np.flatnonzero(h)])
                for r, h in zip(d, m, strict=True)
            ],
            "At equal distances other people come first",
        ),
        (
            lambda d, m: [
                np.sort([(r <= r[i]).sum() for i in np.flatnonzero(h)])
                for r, h in zip(d, m, strict=True)
            ],
            "Matches at equal distances have ranks of their own",
        ),
        (in_order_of_the_gallery, "Compare with a sort by distance"),
    ],
    "same-camera": [
        (lambda x, c, k: shared(c, nearest(x, k)).sum() / len(c), "It is one number"),
        (
            lambda x, c, k: shared(c, nearest(x, k, itself=True)).mean(),
            "An image is not",
        ),
        (
            lambda x, c, k: shared(c, nearest(x, k, largest=False)).mean(),
            "Near means a large cosine",
        ),
        (
            lambda x, c, k: shared(c, nearest(x, k)).any(axis=1).mean(),
            "Each of the k neighbours counts",
        ),
    ],
    "gem": [
        (
            lambda m, p: m.clamp(min=1e-6).pow(p).mean().pow(1 / p),
            "Each channel of each",
        ),
        (lambda m, p: m.clamp(min=1e-6).amax(dim=(2, 3)), "At p = 1 it is the mean"),
        (
            lambda m, p: m.clamp(min=1e-6).pow(p).mean(dim=(2, 3)),
            "A channel that is 3 everywhere",
        ),
        (
            lambda m, p: m.clamp(min=1e-6).mean(dim=(2, 3)).pow(p).pow(1 / p),
            "One place with 32",
        ),
        (lambda m, p: m.pow(p).mean(dim=(2, 3)).pow(1 / p), "Negative answers"),
    ],
    "refinement": [
        (refine_in_place, "The clusters that are handed in stay"),
        (functools.partial(refine, cameras=False), "Images of other cameras stay"),
        (functools.partial(refine, same=False), "Images of other clusters stay"),
        (empty_the_camera, "The pivot stays"),
        (lambda clusters, *_: clusters.clone(), "Of the pivot's cluster and camera"),
        (functools.partial(refine, in_turn=False), "A pivot that was discarded"),
    ],
    "attention": [
        (functools.partial(attend, pad=0), "The result has the shape of the map"),
        (lambda x, *w: x + attend(x, *w), "With all weights 0"),
        (functools.partial(attend, maxima=False), "Maxima and means of the channels"),
        (functools.partial(attend, relu=False), "Two matrices in a row"),
        (functools.partial(attend, swapped=True), "The kernel has two layers"),
        (functools.partial(attend, late=False), "Of which map are the two grids"),
    ],
    "shared-labels": [
        (lambda s, c: torch.cat([number([c], x) for x in s]), "The first city comes"),
        (functools.partial(number, start=lambda _: 0), "A label of one city occurs"),
        (renumber, "Images of one cluster still share"),
        (functools.partial(number, outliers=False), "An outlier is no member"),
        (functools.partial(number, start=len), "A city begins after the largest label"),
    ],
    "attribute-loss": [
        (lambda x, c: heads(x, c).mean(), "Each image has a loss of its own"),
        (lambda x, c: heads(x, c) / len(x), "A second head that is the same"),
        (functools.partial(heads, known=False), "An unknown class costs nothing"),
        (
            functools.partial(
                heads, log=lambda x: (x.exp() / x.exp().sum(1)[:, None]).log()
            ),
            "Large logits must not overflow",
        ),
    ],
    "threshold": [
        (lambda d, r: np.sort(d)[int(r * len(d))], "No more pass than the rate allows"),
        (functools.partial(at, place=-1), "The rate is to be used up"),
        (last_allowed, "Equal distances pass together"),
        (last_allowed_if_any, "At a rate of 0 none passes"),
        (
            lambda d, r: np.nextafter(np.sort(d)[int(r * len(d) + 1e-9)], -np.inf),
            "At a rate of 1 all pass",
        ),
        (functools.partial(at, small=0.0), "In Python 0.29 * 100"),
    ],
    "interval": [
        (lambda g, p, d: np.ptp(right("interval")(g, p, d)), "Equal gains have"),
        (
            lambda g, p, d: np.percentile(g[d].mean(axis=1), [2.5, 97.5]),
            "A draw names people",
        ),
        (of_means, "The mean is one over queries"),
        (of_sets, "A person who is drawn twice"),
        (functools.partial(bootstrap, ends=(5, 95)), "Of the draws 2.5 % lie below"),
        (functools.partial(bootstrap, scored=False), "A query that was not scored"),
    ],
}


@pytest.mark.parametrize(
    ("name", "mistake", "hint"),
    [
        pytest.param(name, mistake, hint, id=f"{name}: {hint}")
        for name, mistakes in MISTAKES.items()
        for mistake, hint in mistakes
    ],
)
def test_a_mistake_gets_its_hint_first(name, mistake, hint):
    failed = check_exercise(name, mistake).failed
    assert next(iter(failed), "none").startswith(hint), failed


@pytest.mark.parametrize("name", EXERCISES)
def test_every_hint_has_its_mistake(name):
    starts = [hint for _, hint in MISTAKES[name]]
    bare = [h for h in EXERCISES[name].tests if not h.startswith(tuple(starts))]
    assert bare == []
    assert len(starts) == len(EXERCISES[name].tests)


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
