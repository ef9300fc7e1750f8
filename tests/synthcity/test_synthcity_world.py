from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from reidlib.errors import ReIDError
from reidlib.quality import sharpness
from reidlib.synthcity import (
    SIZES,
    Dials,
    Size,
    dial_grid,
    draw_frame,
    draw_person,
    draw_shot,
    people_grid,
    plan_world,
    split_sizes,
    turning_grid,
)
from reidlib.synthcity.world import draw_track, generator, shot_camera, shot_strength

SMALL = Size(6, 6, 6, 36, 72, 36, 72, 2, 4)


def shots_of(world, folder):
    return [shot for shot in world.shots if shot.folder == folder]


@pytest.mark.parametrize("name", ["tiny", "course", "market"])
def test_counts_of_a_size_are_exact(name):
    size = SIZES[name]
    world = plan_world(name, 3)
    train = shots_of(world, "bounding_box_train")
    query = shots_of(world, "query")
    gallery = shots_of(world, "bounding_box_test")
    assert len(train) == size.train_images
    assert len(query) == size.queries
    by_pid = Counter(min(shot.pid, 1) for shot in gallery)
    assert by_pid == {-1: size.junk, 0: size.distractors, 1: size.gallery_images}
    assert {shot.pid for shot in train} == set(world.train_pids)
    assert {shot.pid for shot in query} == set(world.test_pids)
    assert not set(world.train_pids) & set(world.test_pids)
    assert {shot.camera for shot in world.shots} == set(range(size.cameras))


def test_market_has_the_official_numbers():
    world = plan_world("market")
    assert len(world.train_pids) == 751
    assert len(world.test_pids) == 750
    assert sorted(world.train_pids + world.test_pids) == list(range(1, 1502))
    assert len(shots_of(world, "bounding_box_train")) == 12936
    assert len(shots_of(world, "query")) == 3368
    gallery = shots_of(world, "bounding_box_test")
    assert len(gallery) == 19732
    assert sum(shot.pid == -1 for shot in gallery) == 3819
    assert sum(shot.pid == 0 for shot in gallery) == 2798


@pytest.mark.parametrize("name", ["tiny", "course", "market"])
def test_every_query_has_a_match_in_another_camera(name):
    world = plan_world(name, 1)
    cameras = defaultdict(set)
    for shot in shots_of(world, "bounding_box_test"):
        cameras[shot.pid].add(shot.camera)
    for shot in shots_of(world, "query"):
        assert cameras[shot.pid] - {shot.camera}


def test_names_are_market_names_and_unique():
    world = plan_world("market")
    pattern = re.compile(r"(-1|\d{4})_c([1-6])s[1-6]_\d{6}_\d{2}\.jpg")
    seen = set()
    for shot in world.shots:
        match = pattern.fullmatch(shot.name)
        assert match
        assert int(match[1]) == shot.pid
        assert int(match[2]) == shot.camera + 1
        seen.add((shot.folder, shot.name))
    assert len(seen) == len(world.shots)


def test_pictures_do_not_depend_on_the_order_of_drawing():
    world = plan_world(SMALL, 5)
    chosen = world.shots[::25]
    there = [draw_shot(world, shot) for shot in chosen]
    back = [draw_shot(world, shot) for shot in chosen[::-1]][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(there, back))
    other = plan_world(SMALL, 6)
    assert not np.array_equal(there[0], draw_shot(other, other.shots[0]))


def test_images_of_a_track_differ():
    world = plan_world("tiny")
    tracks = defaultdict(list)
    for shot in shots_of(world, "bounding_box_train"):
        tracks[shot.pid, shot.camera, shot.track].append(shot)
    track = next(shots for shots in tracks.values() if len(shots) >= 3)
    pictures = {draw_shot(world, shot).tobytes() for shot in track}
    assert len(pictures) == len(track)


@pytest.mark.parametrize("factor", [0.25, 1.0, 2.2])
def test_the_sizes_of_splits_are_known_before_they_are_planned(factor):
    dials = Dials(images_per_camera=factor)
    shots = plan_world("tiny", 0, dials).shots
    folders = {
        "train": "bounding_box_train",
        "query": "query",
        "gallery": "bounding_box_test",
    }
    assert split_sizes("tiny", dials) == {
        split: sum(shot.folder == folder and shot.pid != -1 for shot in shots)
        for split, folder in folders.items()
    }


def test_images_per_camera_multiplies_the_images():
    usual = plan_world("tiny")
    double = plan_world("tiny", 0, Dials(images_per_camera=2.0))
    count = SIZES["tiny"].train_images
    assert len(shots_of(usual, "bounding_box_train")) == count
    assert len(shots_of(double, "bounding_box_train")) == 2 * count
    assert len(shots_of(double, "query")) == len(shots_of(usual, "query"))


def camera_spread(shift):
    """Variance of the mean colour between cameras, with the same people in each."""
    dials = Dials(camera_shift=shift, occlusion=0.0, lighting=0.0)
    world = plan_world(SMALL, 2, dials)
    colours = defaultdict(list)
    for shot in shots_of(world, "bounding_box_train"):
        colours[shot.camera].append(draw_shot(world, shot).mean(axis=(0, 1)))
    means = [np.mean(values, axis=0) for values in colours.values()]
    return float(np.var(means, axis=0).sum())


def test_camera_shift_moves_the_cameras_apart():
    none, some, full = (camera_spread(shift) for shift in (0.0, 0.5, 1.0))
    assert none < 0.5 * some < 0.5 * full


def test_identity_similarity_makes_people_alike():
    def looks(similarity):
        dials = Dials(identity_similarity=similarity)
        world = plan_world("course", 0, dials)
        people = [world.identity(pid) for pid in range(1, 301)]
        colours = {(one.upper.name, one.lower.name) for one in people}
        plain = sum(one.upper.pattern == "plain" for one in people)
        heights = np.std([one.height for one in people])
        return len(colours), -plain, heights

    low, middle, high = looks(0.0), looks(0.4), looks(1.0)
    for i in range(3):
        assert low[i] > middle[i] > high[i]


def test_lighting_and_occlusion_scale_what_a_track_gets():
    camera = plan_world("tiny").cameras[0]

    def tracks(**dials):
        made = [
            draw_track(camera, generator(0, 9, i), Dials(**dials)) for i in range(200)
        ]
        gains = np.std([track.light.gain for track in made])
        hidden = np.mean([bool(track.occluder or track.companion) for track in made])
        return gains, hidden

    assert tracks(lighting=0.0)[0] == 0.0
    assert tracks(lighting=0.3)[0] < tracks(lighting=0.9)[0]
    assert tracks(occlusion=0.0)[1] == 0.0
    assert tracks(occlusion=0.3)[1] < tracks(occlusion=0.9)[1]


def test_image_quality_and_misalignment_show():
    def pictures(**dials):
        usual = {"camera_shift": 0.0, "occlusion": 0.0, "lighting": 0.0, **dials}
        world = plan_world(SMALL, 2, Dials(**usual))
        shots = shots_of(world, "bounding_box_train")[:24]
        return np.stack([draw_shot(world, shot) for shot in shots]).astype(float)

    # Noise makes neighbouring pixels of the flat upper left corner differ.
    grain = [
        np.abs(np.diff(pictures(image_quality=q)[:, :4, :20], axis=2)).mean()
        for q in (0.0, 1.0)
    ]
    assert grain[0] > 1.3 * grain[1]
    sharp = {"image_quality": 1.0}
    aligned = pictures(misalignment=0.0, **sharp).std(axis=0).mean()
    askew = pictures(misalignment=1.0, **sharp).std(axis=0).mean()
    assert askew > aligned


def train_pictures(spread, **dials):
    """Pictures of a city with a spread of quality, and the strength of each."""
    world = plan_world(SMALL, 2, Dials(quality_spread=spread, **dials))
    shots = shots_of(world, "bounding_box_train")
    pictures = np.stack([draw_shot(world, shot) for shot in shots])
    return pictures, np.array([shot_strength(world, shot) for shot in shots])


def test_a_spread_of_quality_gives_each_image_a_strength_of_its_own():
    world = plan_world("tiny", 0, Dials(quality_spread=0.6))
    strengths = np.array([shot_strength(world, shot) for shot in world.shots])
    assert len(set(strengths)) == len(world.shots)
    assert strengths.min() >= 0
    assert strengths.max() < 0.6
    assert abs(strengths.mean() - 0.3) < 0.02
    # Neither of a camera nor of a track: images of one differ as much as all do.
    groups = defaultdict(list)
    for shot, strength in zip(world.shots, strengths):
        groups[shot.camera].append(strength)
        groups[shot.identity, shot.camera, shot.track].append(strength)
    within = [np.var(one, ddof=1) for one in groups.values() if len(one) > 1]
    assert abs(np.mean(within) / strengths.var() - 1) < 0.1


def test_a_spread_of_quality_degrades_each_image_by_its_strength():
    usual, none = train_pictures(0.0)
    mixed, strengths = train_pictures(1.0)
    assert not none.any()
    world = plan_world(SMALL, 2, Dials(quality_spread=1.0))
    for shot in world.shots[::9]:
        own, camera = shot_camera(world, shot), world.cameras[shot.camera]
        assert own.noise > camera.noise
        assert own.resolution < camera.resolution
        assert own.jpeg <= camera.jpeg
        assert own.curve().tolist() == camera.curve().tolist()
    # What is in a picture stays: those that are hardly degraded are hardly changed.
    changed = np.abs(mixed.astype(float) - usual).mean(axis=(1, 2, 3))
    assert spearmanr(changed, strengths).statistic > 0.8
    assert changed[strengths < 0.1].max() < changed[strengths > 0.7].min()

    def spread_of(pictures):
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        logs = sharpness(pixels).log()
        return float(logs.std())

    assert spread_of(mixed) > 1.3 * spread_of(usual)


def test_draw_person_obeys_size_and_yaw():
    world = plan_world("tiny")
    someone, camera = world.identity(1), world.cameras[0]
    front = draw_person(someone, camera, yaw=0.0, phase=0.0, size=(64, 32))
    behind = draw_person(someone, camera, yaw=np.pi, phase=0.0, size=(64, 32))
    assert front.shape == (64, 32, 3)
    assert front.dtype == np.uint8
    assert not np.array_equal(front, behind)


def test_boxes_of_a_frame_hold_their_person():
    dials = Dials(lighting=0.0, image_quality=1.0)
    world = plan_world("tiny", 0, replace(dials, camera_shift=0.3))
    camera = world.cameras[2]
    person = world.identity(4)
    image, boxes = draw_frame(camera, [person], dials=dials)
    again, _ = draw_frame(camera, [], dials=dials)
    assert image.shape == (540, 960, 3)
    assert boxes[0, 4] == 4
    changed = np.abs(image.astype(int) - again.astype(int)).max(axis=2) > 25
    x, y, wide, tall = boxes[0, :4]
    # The shadow on the ground reaches beyond the person, sideways and downwards only.
    assert not changed[: y - 2].any()
    above_feet = changed[: y + int(0.9 * tall)]
    inside = above_feet[:, max(x - 2, 0) : x + wide + 2].sum()
    assert inside == above_feet.sum()
    box = changed[y : y + tall, x : x + wide]
    assert box.mean() > 0.3
    assert box[: max(tall // 12, 3)].any()
    assert box[:, : max(wide // 6, 3)].any()
    assert box[:, -max(wide // 6, 3) :].any()


def test_frame_lists_everybody_inside_the_picture():
    world = plan_world("tiny")
    people = [world.identity(pid) for pid in (5, 9, 2)]
    _, boxes = draw_frame(world.cameras[1], people, seed=4)
    assert boxes[:, 4].tolist() == [5, 9, 2]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 960).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 540).all()
    assert (boxes[:, 2:4] > 0).all()


def test_grids_have_one_row_per_setting_and_person():
    world = plan_world("tiny")
    assert people_grid(world, [3], size=(32, 16)).shape == (1, 6, 32, 16, 3)
    assert turning_grid(world, [3, 4], 3, (32, 16)).shape == (2, 3, 32, 16, 3)
    grid, values = dial_grid("occlusion", people=3, size=(32, 16))
    assert values == (0.0, Dials().occlusion, 1.0)
    assert grid.shape == (3, 3, 32, 16, 3)
    assert not np.array_equal(grid[0], grid[2])


@pytest.mark.parametrize(
    ("dial", "value"),
    [
        ("camera_shift", -0.1),
        ("occlusion", 1.5),
        ("lighting", float("nan")),
        ("images_per_camera", 0.0),
        ("misalignment", "much"),
        ("image_quality", True),
        ("quality_spread", 1.1),
    ],
)
def test_a_dial_out_of_range_is_named(dial, value):
    with pytest.raises(ReIDError, match=f"dial {dial}=.*give a number from"):
        Dials(**{dial: value})


def test_wrong_plans_are_refused():
    with pytest.raises(ReIDError, match="no size 'huge': choose one of tiny"):
        plan_world("huge")
    for seed in (-1, 1.5, True):
        with pytest.raises(ReIDError, match="not negative"):
            plan_world("tiny", seed)
    with pytest.raises(ReIDError, match="from two to all of the cameras"):
        plan_world(replace(SMALL, train_pairs=7))
    with pytest.raises(ReIDError, match="at least one image to each pair"):
        plan_world(replace(SMALL, gallery_images=20))
    with pytest.raises(ReIDError, match="not negative"):
        plan_world(replace(SMALL, junk=-1))
    with pytest.raises(ReIDError, match="no dial 'weather': choose one of"):
        dial_grid("weather")
