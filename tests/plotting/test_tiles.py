"""Grids and rankings: what is written, framed and placed, not how pixels look."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from PIL import Image

from reidlib.errors import ReIDError
from reidlib.plotting import plot_heat_maps, plot_images, plot_ranking
from reidlib.plotting.style import HIT, MISS


def images(*leading: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*leading, 8, 4, 3), np.uint8)


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_each_image_is_a_tile_in_reading_order_with_identity_and_camera_below():
    given = images(5)
    ax = plot_images(given, pids=[7, 0, -1, -2, 3], camids=[2, 0, -1, 1, 5], columns=3)
    assert texts(ax) == [
        "id 7\ncam 2",
        "distractor\ncam 0",
        "junk\ncam ?",
        "id ?\ncam 1",
        "id 3\ncam 5",
    ]
    drawn = [np.asarray(image.get_array()) for image in ax.images]
    assert all((a == b).all() for a, b in zip(drawn, given))
    left, _, bottom, top = np.array([image.get_extent() for image in ax.images]).T
    assert left[0] == left[3] < left[1] == left[4] < left[2]
    assert top[0] == top[2] < bottom[0] < top[3]
    assert ((bottom - top) == 2).all()  # an 8 x 4 image is twice as high as wide
    # Every tile lies inside the axes, whatever imshow did to the limits.
    low, high = ax.get_xlim()
    assert low <= left.min()
    assert left.max() + 1 <= high
    assert ax.get_ylim()[0] >= bottom.max()
    assert ax.get_ylim()[1] <= top.min()


@pytest.mark.parametrize("kind", ["channels first", "torch", "floats", "pil"])
def test_every_kind_of_image_array_gives_the_same_tiles(kind):
    given = images(2)
    first = given.transpose(0, 3, 1, 2)
    other = {
        "channels first": first,
        "torch": torch.from_numpy(first.copy()),
        "floats": given / 255,
        "pil": [Image.fromarray(image) for image in given],
    }[kind]
    ax = plot_images(other)
    scale = 255 if kind == "floats" else 1
    for image, expected in zip(ax.images, given):
        assert np.allclose(np.asarray(image.get_array()) * scale, expected)
    assert texts(ax) == []


def test_titles_stand_before_identity_and_camera():
    ax = plot_images(images(1), ["dark"], pids=[4], title="Dials")
    assert texts(ax) == ["dark\nid 4"]
    assert ax.get_title(loc="left") == "Dials"


def test_images_are_drawn_into_given_axes():
    _, ax = plt.subplots()
    assert plot_images(images(1), ax=ax) is ax


def test_hits_have_a_green_frame_and_a_tick_misses_a_vermillion_one_and_a_cross():
    hits = np.array([[True, False, True], [False, False, True]])
    ax = plot_ranking(
        images(2),
        images(2, 3),
        hits,
        query_pids=[5, 6],
        query_camids=[0, 1],
        pids=[[5, 6, 5], [0, 5, 6]],
        camids=[[1, 2, 3], [2, 3, 4]],
        title="Direct transfer",
    )
    marks = [text for text in ax.texts if text.get_text() in ("✓", "✗")]
    assert [mark.get_text() == "✓" for mark in marks] == hits.ravel().tolist()
    colours = [HIT if hit else MISS for hit in hits.ravel()]
    assert [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches] == colours
    assert [to_hex(mark.get_color()).upper() for mark in marks] == colours
    captions = [text for text in texts(ax) if text not in ("✓", "✗")]
    assert captions[:4] == [
        "query\nid 5\ncam 0",
        "id 5\ncam 1",
        "id 6\ncam 2",
        "id 5\ncam 3",
    ]
    assert captions[5] == "distractor\ncam 2"
    title = ax.get_title(loc="left")
    assert title.startswith("Direct transfer")
    assert "best match first" in title


def test_the_best_match_stands_next_to_the_query_and_each_query_has_its_row():
    queries, gallery = images(2), images(2, 3)
    ax = plot_ranking(queries, gallery, np.ones((2, 3), bool))
    drawn = [np.asarray(image.get_array()) for image in ax.images]
    rows = np.concatenate([queries[:, None], gallery], axis=1).reshape(8, 8, 4, 3)
    assert (np.stack(drawn) == rows).all()
    extents = np.array([image.get_extent() for image in ax.images]).reshape(2, 4, 4)
    assert (np.diff(extents[:, :, 0], axis=1) > 0).all()
    assert (extents[1, :, 3] > extents[0, :, 2]).all()
    # Frames lie on the matches, not on the queries.
    corners = [patch.get_xy() for patch in ax.patches]
    assert np.allclose(corners, extents[:, 1:][..., [0, 3]].reshape(-1, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_images(images(0)), "at least one"),
        (lambda: plot_images(images(2), columns=0), "one column"),
        (lambda: plot_images(images(2)[0]), "RGB images"),
        (lambda: plot_images(images(2)[..., :1]), "RGB images"),
        (lambda: plot_images(images(2) / 255 - 0.5), "before their normalisation"),
        (lambda: plot_images(np.full((1, 4, 4, 3), np.nan)), r"\[0, 1\]"),
        (lambda: plot_images([images(1)[0], images(1)[0, :4]]), "differ in size"),
        (lambda: plot_images(images(2), pids=[1]), "pids: got shape"),
        (lambda: plot_images(images(2), ["one"]), "titles: got shape"),
        (lambda: plot_ranking(images(2), images(3, 2), [[True]]), "gallery_images"),
        (lambda: plot_ranking(images(1), images(1, 0), [[]]), "gallery_images"),
        (lambda: plot_ranking(images(1), images(1, 2), [[True]]), "hits: got shape"),
        (lambda: plot_ranking(images(1), images(1, 2), [[1, 0]]), "bool"),
        (
            lambda: plot_ranking(images(1), images(1, 1), [[True]], camids=[0]),
            "camids: got shape",
        ),
    ],
)
def test_what_cannot_be_drawn_is_named_in_one_line(call, message):
    with pytest.raises(ReIDError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_heat_map_colours_the_pixels_of_its_cells():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    ax = plot_heat_maps(image, [[[0.0, 2.0], [2.0, 6.0]]], opacity=1.0)
    drawn = np.asarray(ax.images[0].get_array())
    viridis = mpl.colormaps["viridis"]
    for row, column, share in ((0, 0, 0.0), (0, 3, 1 / 3), (3, 0, 1 / 3), (3, 3, 1.0)):
        cell = drawn[2 * (row // 2) :, 2 * (column // 2) :][:2, :2].reshape(-1, 3)
        expected = np.rint(255 * np.array(viridis(share)[:3]))
        assert np.abs(cell - expected).max() <= 1


def test_every_map_has_its_own_scale_and_a_flat_one_is_dark():
    images = np.zeros((3, 2, 1, 3), np.uint8)
    maps = np.array([[[0.0], [1.0]], [[10.0], [50.0]], [[7.0], [7.0]]])
    ax = plot_heat_maps(images, maps, opacity=1.0)
    first, second, flat = (np.asarray(drawn.get_array()) for drawn in ax.images)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(flat[1], first[0])


def test_without_opacity_the_image_is_as_it_was_whatever_its_layout():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 4, 3), np.uint8)
    maps = np.arange(4.0).reshape(2, 2, 1)
    for given in (images, np.moveaxis(images, -1, 1), images / 255):
        ax = plot_heat_maps(given, maps, opacity=0.0)
        np.testing.assert_array_equal(
            [np.asarray(drawn.get_array()) for drawn in ax.images], images
        )


def test_maps_that_do_not_fit_are_an_error():
    image = np.zeros((2, 8, 4, 3), np.uint8)
    with pytest.raises(ReIDError, match="one map"):
        plot_heat_maps(image, np.zeros((1, 2, 2)))
    with pytest.raises(ReIDError, match="opacity"):
        plot_heat_maps(image, np.zeros((2, 2, 2)), opacity=1.5)
