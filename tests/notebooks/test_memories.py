"""Memories: which key is drawn where, and that the plane shows true angles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from figures.memories import (
    degrees_of,
    on_circle,
    plot_memories,
    plot_memory_plane,
    plot_query,
    query_memory,
)
from reidlib.plotting import COLOURS

POINTS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
LABELS = torch.tensor([1, 0, 1])
MEANS = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
HARDS = torch.tensor([[0.8, -0.6], [1.0, 0.0]])


def places(lines):
    return [np.transpose(line.get_data()).tolist() for line in lines]


def test_clusters_have_their_images_and_both_keys():
    given = POINTS, LABELS, MEANS, HARDS
    ax = plot_memories(*given, query=[0, -1], ax=plt.subplots()[1])
    drawn = [
        (to_hex(dots.get_facecolor()[0][:3]).upper(), len(dots.get_offsets()))
        for dots in ax.collections
    ]
    assert drawn == [(COLOURS[0], 1), (COLOURS[1], 2)]
    offsets = np.asarray(ax.collections[0].get_offsets())
    assert offsets == pytest.approx(POINTS[1:2].numpy())
    keys = ax.lines[1:6]  # after the circle, before the legend's own
    expected = [MEANS[:1], HARDS[:1], MEANS[1:], HARDS[1:], torch.tensor([[0.0, -1]])]
    for line, place in zip(keys, expected, strict=True):
        assert np.transpose(line.get_data()) == pytest.approx(place.numpy())
    assert [line.get_marker() for line in keys] == ["*", "D", "*", "D", "o"]
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["cluster A", "cluster B", "query", "mean key", "hard key"]
    ax = plot_memories(*given, query=[0, -1], legend=False, ax=plt.subplots()[1])
    assert ax.get_legend() is None
    # The part of the circle that holds something, with a margin.
    assert ax.get_xlim() == pytest.approx((-0.15, 1.15))
    assert ax.get_ylim() == pytest.approx((-1.15, 1.15))


def test_the_plane_keeps_similarities_and_the_angle_between_the_keys():
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(9, 6, generator=generator), dim=1).double()
    mean, hard, images, others = features[0], features[1], features[2:5], features[5:]
    ax = plot_memory_plane(
        3 * mean, hard / 2, {"old": images}, others=others, ax=plt.gca()
    )
    grey, own = ax.collections
    for dots, rows in ((grey, others), (own, images)):
        u, v = torch.tensor(np.asarray(dots.get_offsets())).T
        assert torch.allclose(u, rows @ mean)
        # What lies in the plane gives the similarity to the hard key as well.
        cosine = mean @ hard
        assert torch.allclose(u * cosine + v * (1 - cosine**2).sqrt(), rows @ hard)
        assert (u**2 + v**2 <= 1).all()
    (_, drawn_mean, drawn_hard) = ax.lines
    (x, y) = np.transpose(drawn_hard.get_data())[0]
    assert np.transpose(drawn_mean.get_data())[0] == pytest.approx([1, 0], abs=1e-9)
    assert (x, x**2 + y**2) == pytest.approx((float(mean @ hard), 1))
    assert y > 0
    texts = ax.get_legend_handles_labels()[1]
    degrees = np.degrees(np.arccos(float(mean @ hard)))
    assert texts[2:] == ["mean key", f"hard key ({degrees:.0f}° away)"]
    assert texts[:2] == ["other clusters", "old"]


def test_moved_keys_start_at_the_old_ones():
    moved = [3, 4, 0], [0, 0, 1]
    ax = plot_memory_plane(
        [1, 0, 0], [0, 1, 0], {"new": [[0, 0.6, 0.8]]}, moved=moved, ax=plt.gca()
    )
    assert len(ax.collections) == 1
    first, second = places(ax.lines[3:])
    assert first == [[1, 0], [0.6, 0.8]]
    assert second == [[0, 1], [0, 0]]  # turned out of the plane
    texts = ax.get_legend_handles_labels()[1]
    assert texts[-2:] == ["mean key after the update", "hard key after the update"]


def test_every_image_is_inside_the_limits():
    ax = plot_memory_plane(
        [1, 0], [0, 1], {"a": [[-0.6, -0.8]]}, others=[[-0.8, 0.6]], ax=plt.gca()
    )
    assert ax.get_xlim()[0] < -0.8
    assert ax.get_ylim()[0] < -0.8


def test_degrees_come_back_from_the_circle():
    angles = [-60.0, 0.0, 45.0]
    assert degrees_of(on_circle(angles)) == pytest.approx(angles, abs=1e-4)


def test_the_curves_of_a_query_are_the_losses_of_the_memory(capsys):
    plot_query(40, 45, 0.05)
    keys, curves = plt.gcf().axes
    memory, own = query_memory(45, 0.05), torch.tensor([0])
    for line, name in zip(curves.lines, ("mean", "hard")):
        at = dict(zip(line.get_xdata(), line.get_ydata()))
        for place in (-40.0, 0.0, 40.0):
            terms = memory.losses(on_circle([place]), own)
            assert at[place] == pytest.approx(float(getattr(terms, name)), abs=1e-5)
    # A query on its hard key: the mean is as far as a rival's mean.
    terms = memory.losses(on_circle([40.0]), own)
    assert float(terms.mean) == pytest.approx(np.log(2), abs=1e-3)
    assert f"mean {terms.mean:.2f}, hard {terms.hard:.2f}" in capsys.readouterr().out
    assert degrees_of(memory.hard.bank[0]) == pytest.approx(45, abs=1e-4)
    assert len(keys.collections) == 3
