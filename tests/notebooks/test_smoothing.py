"""The toy problem of soft labels, and its figures."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from figures.smoothing import (
    CAMERAS,
    PEOPLE,
    RATES,
    SMOOTHINGS,
    learn,
    make_toy,
    planted_noise,
    plot_noise,
    plot_planted_noise,
    plot_regions,
    plot_reliability,
    plot_soft_labels,
    soft_labels,
    sweep,
)
from reidlib.errors import ReIDError
from reidlib.evaluation import reliability
from reidlib.experiments import Data, plans
from reidlib.experiments.results import Job
from reidlib.labels import ConfusionMatrix, neighbor_agreement
from reidlib.recipes import cals


def test_noise_is_as_asked_for_and_moves_no_image():
    clean, random, camera = make_toy(), make_toy(0.25), make_toy(0.4, "camera")
    assert not clean.wrong.any()
    assert random.wrong.float().mean() == 0.25
    assert torch.equal(random.whole, clean.whole)
    assert not torch.equal(make_toy(seed=1).whole, clean.whole)
    groups = camera.labels.reshape(PEOPLE * CAMERAS, 10)
    assert (groups == groups[:, :1]).all()
    assert camera.wrong.float().mean() == pytest.approx(0.4, abs=10 / 180)


def test_neighbours_are_the_nearest_images_but_for_the_image_itself():
    toy = make_toy()
    for view, near in zip((toy.whole, toy.part), toy.neighbors, strict=True):
        row = min(range(1, 180), key=lambda i: float((view[i] - view[0]).norm()))
        assert near[0, 0] == row


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_soft_labels_are_those_of_the_recipe(smoothing):
    toy = make_toy(0.3)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 180, PEOPLE, generator=generator)
    matrix = ConfusionMatrix(PEOPLE)
    matrix.update(logits[0].argmax(dim=1), toy.labels)
    matrix.end_epoch()
    near = toy.neighbors
    of_whole, of_part = (toy.labels[rows] for rows in near)
    batch = cals.Labels(toy.labels, neighbor_agreement(*near), of_whole, of_part)
    config = cals.Config(smoothing=smoothing, alpha=0.4, dcls_alpha=0.4, bands=1)
    descriptors = torch.stack([toy.whole, toy.part], dim=1)
    expected = cals.soft_labels(
        config, batch, logits.transpose(0, 1), descriptors, matrix
    )
    found = soft_labels(smoothing, 0.4, toy, logits, matrix)
    torch.testing.assert_close(found, torch.stack(expected))


def test_toy_problems_are_learned_each_for_itself():
    toys = [make_toy(0.2), make_toy(0.4, seed=1)]
    for smoothing in ("predictions", "confusion"):
        together = learn(smoothing, 0.4, toys)
        for toy, one in zip(toys, together, strict=True):
            (alone,) = learn(smoothing, 0.4, [toy])
            torch.testing.assert_close(one.weights, alone.weights, atol=0.01, rtol=0.01)


def test_random_errors_are_outvoted_and_errors_of_a_camera_are_learned():
    toys = [make_toy(), make_toy(0.4), make_toy(0.4, "camera")]
    clean, random, camera = (
        one.predict(toy.whole, toy.part)
        for toy, one in zip(toys, learn("hard", 0.0, toys), strict=True)
    )
    assert (clean[1] == toys[0].people).float().mean() > 0.98
    assert (random[1] == toys[1].people).float().mean() > 0.75
    assert (camera[1] == toys[2].people).float().mean() < 0.65
    assert (camera[1] == toys[2].labels).float().mean() > 0.95
    assert random[0].mean() < camera[0].mean() < clean[0].mean()


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """A small sweep."""
    return sweep(("hard", "uniform"), (0.2, 0.4), ("random",), (0, 1))


def test_a_sweep_has_a_line_for_each_training(frame):
    assert len(frame) == 2 * 2 * len(RATES) * 2
    runs = frame.set_index(["smoothing", "alpha", "noise", "seed"])
    toy = make_toy(0.4, seed=1)
    (one,) = learn("uniform", 0.2, [toy])
    confidence, predicted = one.predict(toy.whole, toy.part)
    right = predicted == toy.people
    found = runs.loc[("uniform", 0.2, 0.4, 1)]
    assert found["accuracy"] == pytest.approx(100 * float(right.float().mean()), abs=1)
    error = 100 * reliability(confidence, right).error
    assert found["calibration_error"] == pytest.approx(error, abs=1)
    measures = ["accuracy", "calibration_error", "confidence"]
    hard = runs.loc["hard", measures]
    assert hard.loc[0.2].equals(hard.loc[0.4])
    mean = runs.groupby(["smoothing", "alpha"])["confidence"].mean()
    assert mean["hard", 0.4] > mean["uniform", 0.2] > mean["uniform", 0.4]


def test_noise_is_drawn_with_mean_and_spread(frame):
    part = frame[frame["alpha"] == 0.4]
    twice = pd.concat([part, part.assign(kind="camera")])
    fig = plot_noise(twice, {"accuracy": "accuracy (%)", "confidence": "sure (%)"})
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles == ["random noise"] * 2 + ["camera noise"] * 2
    assert [ax.get_ylabel() for ax in fig.axes[:2]] == ["accuracy (%)", "sure (%)"]
    hard, uniform = fig.axes[0].containers
    runs = part[part["smoothing"] == "uniform"].groupby("noise")["accuracy"]
    assert uniform.lines[0].get_ydata() == pytest.approx(runs.mean().to_numpy())
    (bars,) = uniform.lines[2]
    half = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
    assert half == pytest.approx(runs.std(ddof=1).to_numpy())
    assert [hard.get_label(), uniform.get_label()] == ["hard", "uniform"]
    assert len(fig.legends[0].get_texts()) == 2


def invented(job: Job) -> dict:
    """A result of the shape that the recipe writes, with figures that tell it."""
    config = job.config
    place = SMOOTHINGS.index(config.smoothing)
    right = 0.9 - config.noise / 2 + 0.01 * place + 0.001 * job.seed
    scores = {"cmc": {"1": 0.5}, "mAP": right / 2, "mINP": 0.1}
    told = {"identity_accuracy": right, "identity_calibration_error": 1 - right}
    return {
        **job.inputs(),
        "metrics": {
            **{**scores, "num_queries": 10, "num_unmatched": 0},
            "classifier": {**told, "accuracy": 1.0, "calibration_error": 0.1},
        },
        "seconds": 60.0,
    }


@pytest.fixture
def results(tmp_path, monkeypatch) -> list[Job]:
    """Invented results of all runs of CALS-NOISE with two seeds."""
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path))
    rows = plans()["CALS-NOISE"].rows
    jobs = [
        Job("CALS-NOISE", row, "ablation", Data.of("CALS-NOISE"), seed)
        for row in rows
        for seed in (0, 1)
    ]
    for job in jobs:
        job.file.parent.mkdir(parents=True, exist_ok=True)
        job.file.write_text(json.dumps(invented(job)))
    return jobs


def test_planted_noise_is_read_from_its_results(results):
    frame = planted_noise()
    kinds, runs = 5, frame.set_index(["smoothing", "kind", "noise", "seed"])
    assert len(frame) == kinds * 2 * len(RATES) * 2
    assert runs.index.is_unique
    dcls = runs.loc[("dcls", "camera", 0.4, 1)]
    assert dcls["identity_accuracy"] == pytest.approx(72.1)
    assert dcls["mAP"] == pytest.approx(36.05)
    assert dcls["identity_calibration_error"] == pytest.approx(27.9)
    clean = [runs.loc[("hard", kind, 0.0, 0)] for kind in ("random", "camera")]
    assert clean[0].equals(clean[1])


def test_planted_noise_is_drawn_in_three_panels_for_each_kind(results):
    fig = plot_planted_noise()
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles == ["random noise"] * 3 + ["camera noise"] * 3
    for ax in fig.axes:
        assert len(ax.containers) == 5
    hard = fig.axes[0].containers[0].lines[0]
    expected = [100 * (0.9005 - noise / 2) for noise in RATES]
    assert hard.get_ydata() == pytest.approx(expected)


def test_missing_and_broken_runs_are_named_or_left_out(results):
    broken, missing = results[0], results[2:4]
    broken.file.write_text(json.dumps({**broken.inputs(), "error": "collapsed"}))
    for job in missing:
        job.file.unlink()
    with pytest.raises(ReIDError, match="reidlib reproduce CALS-NOISE"):
        planted_noise()
    frame = planted_noise(partial=True)
    assert len(frame) == 5 * 2 * len(RATES) * 2 - 2 - 4


def test_regions_show_every_image_and_which_labels_are_wrong():
    toys = {"clean": make_toy(), "noisy": make_toy(0.2)}
    learned = learn("hard", 0.0, list(toys.values()))
    fig = plot_regions(dict(zip(toys, learned, strict=True)))
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["clean", "noisy"]
    for ax, wrong in zip(fig.axes, (0, 36), strict=True):
        assert [len(dots.get_offsets()) for dots in ax.collections] == [
            180 - wrong,
            wrong,
        ]
        assert [text.get_text() for text in ax.texts] == list("012345")


def test_a_soft_label_is_a_full_bar():
    soft = {"hard": torch.eye(PEOPLE)[1], "even": torch.full((PEOPLE,), 1 / PEOPLE)}
    ax = plot_soft_labels(soft)
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(2)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["hard", "even"]
    numbers = [text.get_text() for text in ax.texts if text.get_text()]
    assert sorted(numbers) == ["0.17"] * 6 + ["1.00"]


def test_a_reliability_diagram_leaves_empty_bins_out():
    confidence = torch.tensor([0.9, 0.9, 0.5])
    found = reliability(confidence, torch.tensor([True, False, True]))
    fig = plot_reliability({"one": {"against labels": found}, "two": {"b": found}})
    diagonal, curve = fig.axes[0].lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert curve.get_xdata() == pytest.approx([0.5, 0.9])
    assert curve.get_ydata() == pytest.approx([1.0, 0.5])
    assert fig.legends[0].get_texts()[0].get_text() == "against labels"
