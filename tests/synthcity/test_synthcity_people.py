from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from reidlib.synthcity import ATTRIBUTES, Dials
from reidlib.synthcity.body import KNOTS, Tube, View, pose
from reidlib.synthcity.identities import draw_colour, draw_identity
from reidlib.synthcity.renderer import extent, paint_tube, reduce
from reidlib.synthcity.textures import Texture, make_wardrobe

UPPER = ("black", "white", "red", "purple", "yellow", "gray", "blue", "green")


@pytest.fixture(scope="module")
def crowd():
    dials = Dials()
    return [draw_identity(i, np.random.default_rng(i), dials) for i in range(400)]


def image_of(texture: Texture) -> np.ndarray:
    return texture.flat.T.reshape(texture.height, texture.width, 3)


def test_there_are_27_attributes_in_their_ranges(crowd):
    assert len(ATTRIBUTES) == 27
    for person in crowd:
        values = person.attributes
        assert tuple(values) == ATTRIBUTES
        assert values["age"] in (1, 2, 3, 4)
        assert all(v in (1, 2) for name, v in values.items() if name != "age")


def test_one_colour_at_most_is_marked_and_sometimes_none(crowd):
    for part in ("up", "down"):
        names = [name for name in ATTRIBUTES if name.startswith(part) and name != part]
        marked = Counter(
            sum(person.attributes[name] == 2 for name in names) for person in crowd
        )
        assert set(marked) == {0, 1}
        assert marked[0] < 0.25 * len(crowd)


def test_black_white_and_grey_dominate(crowd):
    upper = Counter(person.upper.name for person in crowd)
    lower = Counter(person.lower.name for person in crowd)
    for count in (upper, lower):
        assert count["black"] + count["white"] + count["gray"] > 0.5 * len(crowd)


def test_named_colours_look_like_their_name():
    rng = np.random.default_rng(0)
    for _ in range(50):
        black, white = draw_colour("black", rng), draw_colour("white", rng)
        assert max(black) < 60 < 200 < min(white)
        red, green, blue = draw_colour("green", rng)
        assert green > red
        assert green > blue
        red, green, blue = draw_colour("yellow", rng)
        assert min(red, green) > 1.3 * blue


def test_pictures_show_what_the_attributes_say(crowd):
    for person in crowd[:150]:
        values, clothes = person.attributes, make_wardrobe(person)
        # Short sleeves show skin below the elbow.
        arm = image_of(clothes.arm)
        wrist = np.abs(arm[int(0.8 * len(arm))] - person.skin).sum(axis=1)
        assert (wrist.max() < 1.0) == (values["up"] == 2)
        tubes = pose(person, clothes, View(yaw=0.7))
        worn = {id(tube.texture) for tube in tubes}
        for name in ("hat", "backpack", "handbag", "bag"):
            assert (id(getattr(clothes, name)) in worn) == (values[name] == 2)
        assert (id(clothes.skirt) in worn) == (values["clothes"] == 1)
        shin = image_of(clothes.leg)[int(0.8 * clothes.leg.height)]
        bare = np.abs(shin - person.skin).sum(axis=1).max() < 1.0
        if not person.skirt:
            assert bare == (values["down"] == 2)


def test_a_plain_shirt_has_the_marked_colour(crowd):
    plain = [
        person
        for person in crowd
        if person.upper.pattern == "plain" and person.upper.name in UPPER
    ]
    assert len(plain) > 30
    for person in plain:
        garment = person.upper
        assert person.attributes[f"up{garment.name}"] == 2
        torso = image_of(make_wardrobe(replace(person, inner=None)).torso)
        middle = np.median(torso[40:70].reshape(-1, 3), axis=0)
        assert np.abs(middle - np.clip(garment.colours[0], 0, 255)).max() < 25


def test_a_print_on_the_back_is_seen_from_behind_only(crowd):
    person = replace(crowd[0], front_print="none", back_print="disc", inner=None)
    person = replace(person, backpack=None, bag=None, print_colour=(255.0, 0.0, 255.0))
    clothes = make_wardrobe(person)
    torso = image_of(clothes.torso)
    magenta = (torso == (255.0, 0.0, 255.0)).all(axis=2)
    columns = np.flatnonzero(magenta.any(axis=0)) / clothes.torso.width
    assert len(columns) > 0
    assert ((columns < 0.25) | (columns > 0.75)).all()


def tube(start, end, width, texture, turn=0.0):
    widths = np.full(KNOTS, width, np.float32)
    return Tube(start, end, widths, texture, (0.0, 1.0), turn, 0.0)


def paint(part, scale=50.0, shape=(160, 160)):
    canvas = np.zeros((3, *shape), np.float32)
    paint_tube(canvas, part, (80.0, 120.0), scale, np.ones(96, np.float32))
    return canvas


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.0, 2.5])
def test_a_straight_tube_covers_its_area(angle):
    white = Texture.from_image(np.full((8, 8, 3), 200.0))
    end = (np.sin(angle) * 1.0, np.cos(angle) * 1.0)
    canvas = paint(tube((0.0, 0.5), (end[0], 0.5 + end[1]), 0.2, white))
    area = canvas[0].sum() / 200.0
    # 1 m x 0.4 m at 50 pixels a metre.
    assert area == pytest.approx(50 * 20, rel=0.06)


def test_a_tube_shows_the_side_that_faces_the_camera():
    front_red = np.zeros((4, 64, 3))
    front_red[:, 28:36, 0] = 200.0
    front_red[:, :4, 1] = front_red[:, -4:, 1] = 200.0
    texture = Texture.from_image(front_red)
    centre = (slice(None), 95, 80)
    for yaw, expected in ((0.0, (200, 0, 0)), (np.pi, (0, 200, 0))):
        canvas = paint(tube((0.0, 1.0), (0.0, 0.0), 0.2, texture, -yaw))
        assert np.allclose(canvas[centre], expected, atol=1.0)
    # After a quarter turn to the right of the picture, the front is at its edge.
    canvas = paint(tube((0.0, 1.0), (0.0, 0.0), 0.4, texture, -np.pi / 2))
    row = canvas[0, 95]
    assert row[80] == 0.0
    assert np.flatnonzero(row > 100).min() > 90


def test_people_are_narrower_from_the_side_and_stand_on_the_ground(crowd):
    person = replace(crowd[1], stoop=0.0, backpack=None, bag=None, handbag=None)
    clothes = make_wardrobe(person)
    still = {"phase": 0.0, "stride": 0.0, "pitch": 0.0}
    front = extent(pose(person, clothes, View(yaw=0.0, **still)))
    side = extent(pose(person, clothes, View(yaw=np.pi / 2, **still)))
    assert side[2] - side[0] < front[2] - front[0]
    for box in (front, side):
        assert abs(box[1]) < 0.03
        assert box[3] - box[1] == pytest.approx(person.height, rel=0.08)


def test_the_painted_pixels_lie_within_the_extent(crowd):
    for i in range(6):
        person = crowd[i]
        tubes = pose(person, make_wardrobe(person), View(yaw=i, phase=2.0 * i))
        canvas = np.full((3, 400, 400), -1.0, np.float32)
        scale = 150.0
        for part in tubes:
            paint_tube(canvas, part, (200.0, 350.0), scale, np.ones(96, np.float32))
        rows, columns = np.nonzero((canvas > -0.5).any(axis=0))
        left, low, right, high = extent(tubes)
        assert columns.min() == pytest.approx(200 + left * scale, abs=3)
        assert columns.max() == pytest.approx(200 + right * scale, abs=3)
        assert rows.min() == pytest.approx(350 - high * scale, abs=4)
        assert rows.max() == pytest.approx(350 - low * scale, abs=4)


def test_parts_outside_the_canvas_are_skipped():
    white = Texture.from_image(np.full((8, 8, 3), 200.0))
    assert paint(tube((9.0, 9.0), (9.0, 8.0), 0.2, white)).max() == 0.0


def test_reduce_averages_blocks():
    canvas = 255 * np.random.default_rng(0).random((3, 8, 6)).astype(np.float32)
    expected = canvas.reshape(3, 4, 2, 3, 2).mean(axis=(2, 4))
    assert np.allclose(reduce(canvas, (4, 3)), expected, atol=1.6)
