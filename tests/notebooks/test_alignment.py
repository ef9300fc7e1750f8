"""Camera alignment: which point has which colour, and the numbers of the curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from figures.alignment import (
    PASSING,
    draw_game,
    make_toy,
    outcome,
    play,
    plot_camera_losses,
    plot_domains,
    plot_player,
    plot_strengths,
    probe,
)
from reidlib.losses import camera_loss
from reidlib.plotting import COLOURS


def curves(ax) -> list:
    """Lines with points; seaborn adds empty ones for its legend."""
    return [line for line in ax.lines if len(line.get_xdata())]


def test_a_domain_has_its_colour_and_a_person_its_marker():
    points = torch.arange(10.0).view(5, 2)
    people, camids = torch.tensor([4, 9, 4, 9, 4]), torch.tensor([1, 1, 0, 1, 1])
    ax = plot_domains(points, people, camids, title="two")
    (dots,) = ax.collections
    assert dots.get_offsets().tolist() == points.tolist()
    drawn = [to_hex(colour[:3]).upper() for colour in dots.get_facecolor()]
    assert drawn == [COLOURS[camid] for camid in camids]
    first, second, *rest = (path.vertices.tolist() for path in dots.get_paths())
    assert rest == [first, second, first]
    assert first != second
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["camera 0", "camera 1", "person A", "person B"]
    assert ax.get_title("left") == "two"
    assert plot_domains(points, people, camids, legend=False).get_legend() is None


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
    names = [text.get_text() for text in first.get_legend().get_texts()]
    assert names == [*losses, "knows nothing"]
    for line, values in zip(curves(first), losses.values()):
        assert line.get_ydata().tolist() == values
    assert curves(first)[2].get_ydata()[0] == np.log(6)
    assert curves(first)[0].get_ydata()[2] == pytest.approx(np.log(6))  # knows nothing
    for line, values in zip(curves(second), pulls.values()):
        assert line.get_ydata().tolist() == values.tolist()
    assert first.get_ylim()[0] == second.get_ylim()[0] == 0


def test_the_toy_has_twenty_images_of_each_person_and_camera_that_meet():
    for passing, names in PASSING.items():
        points, people, cameras = make_toy(passing)
        for camera, seen in enumerate(names):
            here = people[cameras == camera]
            assert sorted({"ABCD"[person] for person in here}) == list(seen)
            assert len(here) == 20 * len(seen)
        # The cameras lie apart, so a probe finds them all.
        assert probe(points, cameras) == 1
        assert points[cameras == 1][:, 0].mean() > points[cameras == 0][:, 0].mean()


def test_a_game_starts_with_the_points_and_learns_people():
    film = play("all four", 0.0, steps=60)
    points, people, _ = make_toy("all four")
    assert torch.equal(film[0][0], points)
    assert len(film) == 61
    assert film[-1][1] > max(film[0][1], 0.9)
    assert probe(film[-1][0], people) > 0.9


def test_a_probe_is_a_classifier_by_nine_neighbours():
    features, _, _ = play("all four", 1.0, steps=30)[-1]
    _, people, cameras = make_toy("all four")
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    nearest = KNeighborsClassifier(9)
    for classes in (people, cameras):
        expected = cross_val_score(nearest, features, classes, cv=folds).mean()
        assert probe(features, classes) == pytest.approx(expected)


def test_a_reversal_of_zero_leaves_the_features_to_the_people():
    # beta moves the camera classifier alone, and with Adam not even that.
    one = play("all four", 0.0, steps=10)[-1][0]
    two = play("all four", 0.0, beta=3.0, steps=10)[-1][0]
    assert torch.allclose(one, two, atol=1e-6)


def test_an_outcome_is_a_mean_of_two_trainings(monkeypatch):
    def film(passing, strength, seed):
        points = make_toy(passing)[0]
        return [(points, 0.0, 0.0)] * 10 + [(points, 0.5 + seed / 4, 0.0)] * 50

    monkeypatch.setattr("figures.alignment.play", film)
    assert outcome("two and two", 1.0) == (0.625, 1.0)


def test_a_step_is_drawn_with_its_numbers(capsys):
    draw_game("two and two", 0.0, 0)
    told = capsys.readouterr().out
    assert "100% by a probe" in told


def test_strengths_and_probes_are_drawn_in_percent():
    table = pd.DataFrame({"a": {0.0: 1.0, 3.0: 0.5}, "b": {0.0: 0.9, 3.0: 0.4}})
    left, right = plot_strengths(table, table / 2)
    assert [line.get_ydata().tolist() for line in left.lines] == [[100, 50], [90, 40]]
    assert right.lines[1].get_ydata().tolist() == [45, 20]
    assert [text.get_text() for text in left.get_xticklabels()] == ["0", "3"]
    ax = plot_player([0.2, 0.25], {"one": 0.6, "two": 0.7}, 1 / 6)
    assert ax.lines[0].get_ydata().tolist() == [20, 25]
    assert [line.get_ydata()[0] for line in ax.lines[1:3]] == [60, 70]
    assert ax.lines[3].get_ydata()[0] == pytest.approx(100 / 6)
