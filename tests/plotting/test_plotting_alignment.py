"""Camera alignment: which point has which colour, and the numbers of the curves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from reidlib.errors import ReIDError
from reidlib.losses import camera_loss
from reidlib.plotting import (
    COLOURS,
    plot_beta_sweep,
    plot_camera_losses,
    plot_domains,
)

NAN = float("nan")


def test_a_domain_has_its_colour_and_a_person_its_points():
    points = torch.arange(10.0).view(5, 2)
    people, camids = torch.tensor([4, 9, 4, 9, 4]), torch.tensor([1, 1, 0, 1, 1])
    ax = plot_domains(points, people, camids, title="two")
    drawn = [
        (to_hex(dots.get_facecolor()[0][:3]).upper(), dots.get_offsets().tolist())
        for dots in ax.collections
    ]
    assert drawn == [
        (COLOURS[0], [[4, 5]]),
        (COLOURS[1], [[0, 1], [8, 9]]),
        (COLOURS[1], [[2, 3], [6, 7]]),
    ]
    paths = [dots.get_paths()[0].vertices for dots in ax.collections]
    assert np.array_equal(paths[0], paths[1])
    assert not np.array_equal(paths[1], paths[2])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["camera 0", "camera 1", "person A", "person B"]
    assert ax.get_title("left") == "two"
    assert plot_domains(points, people, camids, legend=False).get_legend() is None


@pytest.mark.parametrize(
    ("points", "people", "camids", "message"),
    [
        (np.zeros((3, 3)), [0, 0, 0], [0, 0, 0], r"got shape \(3, 3\)"),
        (np.zeros((3, 2)), [0, 0], [0, 0, 0], r"people of shape \(2,\)"),
        (np.zeros((9, 2)), range(9), [0] * 9, "got 9 under 1 cameras"),
        (np.zeros((9, 2)), [0] * 9, range(9), "got 1 under 9 cameras"),
        ([[0, NAN]], [0], [0], "1 of them not finite"),
    ],
)
def test_domains_that_cannot_be_drawn(points, people, camids, message):
    with pytest.raises(ReIDError, match=message):
        plot_domains(points, np.asarray(people), np.asarray(camids))


def test_camera_losses_are_drawn_as_given_with_chance_as_a_level():
    margins = torch.linspace(-4, 4, 5)
    logits = torch.zeros(5, 6)
    logits[:, 0] = margins
    right = torch.zeros(1, dtype=torch.long)
    losses = {
        form: [float(camera_loss(row[None], right, form)) for row in logits]
        for form in ("cross_entropy", "double_softmax")
    }
    pulls = {form: np.abs(np.gradient(values)) for form, values in losses.items()}
    first, second = plot_camera_losses(margins, losses, pulls, chance=np.log(6))
    assert [line.get_label() for line in first.lines] == [*losses, "knows nothing"]
    for line, values in zip(first.lines, losses.values()):
        assert line.get_ydata().tolist() == values
    assert first.lines[2].get_ydata()[0] == np.log(6)
    assert first.lines[0].get_ydata()[2] == pytest.approx(np.log(6))  # knows nothing
    for line, values in zip(second.lines, pulls.values()):
        assert line.get_ydata().tolist() == values.tolist()
    assert first.get_ylim()[0] == second.get_ylim()[0] == 0


@pytest.mark.parametrize(
    ("losses", "gradients", "message"),
    [
        ({}, {}, "got none, and gradients of none"),
        ({"a": [1, 2]}, {"b": [1, 2]}, "got a, and gradients of b"),
        ({"a": [1, 2, 3]}, {"a": [1, 2]}, r"a: got shape \(3,\) for margins"),
        ({"a": [1, 2]}, {"a": [1, NAN]}, "1 of them not finite"),
    ],
)
def test_camera_losses_that_cannot_be_drawn(losses, gradients, message):
    with pytest.raises(ReIDError, match=message):
        plot_camera_losses([0, 1], losses, gradients)


def test_beta_is_measured_against_none_seed_by_seed():
    sweep = {1.0: [32, 45, NAN], 0.0: [30, 40, 50], 0.5: [NAN, 42, 51], 2.0: [NAN] * 3}
    ax = plot_beta_sweep({"ours": sweep, "theirs": {0: 84.4, 1: 84.5}}, title="t")
    ours, theirs = ax.containers
    assert ours.lines[0].get_xdata().tolist() == [0, 0.5, 1]
    assert ours.lines[0].get_ydata().tolist() == [0, 1.5, 3.5]
    deviation = np.std([2, 5], ddof=1)
    (low, high) = ours.lines[2][0].get_segments()[2][:, 1]
    assert (low, high) == pytest.approx((3.5 - deviation, 3.5 + deviation))
    assert theirs.lines[0].get_ydata() == pytest.approx([0, 0.1])
    assert theirs.lines[2] == ()  # one figure has no deviation
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["ours", "theirs"]
    assert "mAP" in ax.get_ylabel()


@pytest.mark.parametrize(
    ("sweeps", "message"),
    [
        ({}, "got 0"),
        ({"ours": {0.5: 1, 1: 2}}, "sweep 'ours': got beta 0.5, 1 with"),
        ({"ours": {0: [1, 2], 1: [2]}}, r"figures of shape \(1,\) or \(2,\)"),
    ],
)
def test_a_sweep_that_cannot_be_drawn(sweeps, message):
    with pytest.raises(ReIDError, match=message):
        plot_beta_sweep(sweeps)
