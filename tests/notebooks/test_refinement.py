"""Refinement: what is picked, what a pivot does, and the numbers behind lines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from PIL import Image

from figures.refinement import (
    Pictures,
    judge_pivots,
    pick_clusters,
    pick_pivots,
    plot_arrows,
    plot_judges,
)


class Files:
    """A table with one file."""

    def __init__(self, path):
        self.path = path

    def file(self, row):
        assert row == 3
        return self.path


def test_an_image_is_read_in_the_size_that_is_drawn(tmp_path):
    Image.new("RGB", (10, 30), (255, 0, 0)).save(tmp_path / "one.png")
    image = Pictures(Files(tmp_path / "one.png"), (8, 4))[3]
    assert np.asarray(image).shape == (8, 4, 3)


def test_a_crowd_has_many_people_under_one_camera_and_a_person_many_cameras():
    clusters = torch.tensor([0] * 4 + [1] * 4 + [2] * 4 + [3] * 2 + [-1])
    pids = torch.tensor([1, 2, 3, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 8, 9])
    camids = torch.tensor([0, 0, 0, 1, 0, 1, 2, 3, 0, 0, 1, 1, 0, 0, 0])
    assert pick_clusters(clusters, pids, camids, least=3) == [0, 1]
    # Those that are too small are not looked at.
    assert pick_clusters(clusters, pids, camids, least=2, most=3) == [3, 3]


def test_a_pivot_is_judged_by_what_it_alone_discards():
    clusters = torch.tensor([0, 0, 0, 0, 0, 1])
    local = torch.tensor([0, 0, 1, 1, 2, 0])
    pids = torch.tensor([1, 2, 1, 3, 1, 4])
    camids = torch.tensor([0, 0, 0, 0, 1, 0])
    cases = judge_pivots(torch.tensor([0, 4]), clusters, local, pids, camids)
    # Its camera has three mates, two of them strangers; its local cluster keeps one
    # of these and loses an image of its own person.
    assert cases.loc[0].tolist() == [5, 3, 2, 2, 1]
    assert cases.loc[4].tolist() == [5, 0, 0, 0, 0]


def test_the_examples_fit_into_a_figure():
    columns = ["cluster", "judged", "strangers", "out", "rightly"]
    lines = {
        1: [30, 20, 20, 20, 20],  # too large
        2: [20, 10, 9, 9, 9],
        3: [20, 10, 9, 6, 2],
        4: [20, 10, 2, 1, 1],
    }
    cases = pd.DataFrame(lines, index=columns).T
    assert pick_pivots(cases) == (2, 3)


def test_judges_are_lines_and_marks_are_texts():
    judges = {"a": {1: (0.6, 0.2), 2: (0.5, 0.4)}, "b": {9: (0.1, 0.3)}}
    ax = plot_judges(judges, {"here": (0.5, 0.4)})
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0.6, 0.5], [0.1]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    (mark,) = ax.texts
    assert mark.get_text() == "here"
    assert mark.xy == (0.5, 0.4)


def test_an_arrow_leads_from_clusters_to_refined_ones():
    ax = plot_arrows({4: (0.2, 0.5), 6: (0.3, 0.4)}, {4: (0.1, 0.6), 6: (0.2, 0.5)})
    curve, refined = ax.lines
    assert curve.get_xdata().tolist() == [0.2, 0.3]
    assert refined.get_ydata().tolist() == [0.6, 0.5]
    assert refined.get_linestyle() == "None"
    arrows = [text for text in ax.texts if not text.get_text()]
    assert [arrow.xy for arrow in arrows] == [(0.1, 0.6), (0.2, 0.5)]
    assert [text.get_text() for text in ax.texts if text.get_text()] == [
        "k = 4",
        "k = 6",
    ]
