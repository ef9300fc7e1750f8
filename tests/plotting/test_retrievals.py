"""Retrievals: which gallery images stand beside which query."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from reidlib.data import UNKNOWN, read_image
from reidlib.plotting import plot_retrievals


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_the_nearest_images_of_other_cameras_stand_beside_each_query(tiny):
    generator = torch.Generator().manual_seed(0)
    query, gallery = (
        torch.nn.functional.normalize(torch.randn(len(t), 16, generator=generator))
        for t in (tiny.query, tiny.gallery)
    )
    rows = [3, 40]
    ax = plot_retrievals(query, gallery, tiny, rows, k=4)
    table, expected, marks = tiny.gallery, [], []
    for row in rows:
        pid, camid = tiny.query.pids[row], tiny.query.camids[row]
        order = (-(gallery @ query[row])).argsort().tolist()
        # The protocol removes junk and the person's images under the query's camera.
        kept = [
            i
            for i in order
            if table.pids[i] >= 0
            and not (table.pids[i] == pid and table.camids[i] == camid)
        ][:4]
        files = [tiny.query.file(row), *(table.file(i) for i in kept)]
        expected += [read_image(file, (128, 64)) for file in files]
        marks += ["✓" if table.pids[i] == pid else "✗" for i in kept]
    drawn = [np.asarray(image.get_array()) for image in ax.images]
    np.testing.assert_array_equal(drawn, expected)
    assert [word for word in words(ax) if word in "✓✗"] == marks


def test_where_the_protocol_leaves_too_few_images_a_tile_is_white(tiny):
    pid, camid = tiny.query.pids[0], tiny.query.camids[0]
    table = tiny.gallery
    same = np.flatnonzero((table.pids == pid) & (table.camids == camid))[:1]
    other = np.flatnonzero((table.pids == pid) & (table.camids != camid))[:1]
    few = replace(tiny, gallery=table[[*same, *other]])
    ax = plot_retrievals(torch.ones(len(tiny.query), 2), torch.ones(2, 2), few, [0])
    assert len(ax.images) == 3
    assert (ax.images[2].get_array() == 255).all()
    assert "id ?\ncam ?" in words(ax)


def test_matches_of_a_query_without_identity_are_neither_right_nor_wrong(tiny):
    unknown = np.full(len(tiny.query), UNKNOWN)
    looked_for = replace(tiny, query=replace(tiny.query, pids=unknown))
    features = (torch.ones(len(t), 2) for t in (tiny.query, tiny.gallery))
    ax = plot_retrievals(*features, looked_for, [0], k=3)
    assert len(ax.images) == 4
    assert "query\nid ?" in "".join(words(ax))
    assert not [word for word in words(ax) if word in "✓✗"]
