"""Camera alignment: which point has which colour, and the numbers of the curves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from figures.alignment import plot_beta_sweep, plot_camera_losses, plot_domains
from reidlib.losses import camera_loss
from reidlib.plotting import COLOURS, MARKERS

NAN = float("nan")


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


def test_beta_is_measured_against_none_seed_by_seed():
    sweep = {1.0: [32, 45, NAN], 0.0: [30, 40, 50], 0.5: [NAN, 42, 51], 2.0: [NAN] * 3}
    ax = plot_beta_sweep({"ours": sweep, "theirs": {0: 84.4, 1: 84.5}})
    ours, theirs = (line for line in curves(ax) if line.get_marker() in MARKERS)
    assert ours.get_xdata().tolist() == [0, 0.5, 1]
    assert ours.get_ydata().tolist() == [0, 1.5, 3.5]
    deviation = np.std([2, 5], ddof=1)
    bars, none = (bars.lines[2][0].get_segments() for bars in ax.containers)
    assert bars[2][:, 1] == pytest.approx([3.5 - deviation, 3.5 + deviation])
    assert not any(map(len, none))  # one number has no deviation
    assert theirs.get_ydata() == pytest.approx([0, 0.1])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["ours", "theirs"]
    assert "mAP" in ax.get_ylabel()
