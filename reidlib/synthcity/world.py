"""The world: the plan of all pictures, and the drawing of each.

Planning and drawing are separate. :func:`plan_world` lists every picture of a data set
without drawing it, with exactly the counts of the chosen :class:`Size`;
:func:`draw_shot` draws one picture. Random generators are seeded by the world's seed
and the numbers of the picture (identity, camera, track, image), never by the order of
drawing: any number of worker processes writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from reidlib.errors import ReIDError
from reidlib.synthcity.body import View, pose
from reidlib.synthcity.cameras import GROUND_ROW, SCENE, Camera, draw_cameras
from reidlib.synthcity.dials import Dials
from reidlib.synthcity.identities import Identity, draw_identity
from reidlib.synthcity.renderer import (
    OCCLUDERS,
    SUPERSAMPLING,
    Box,
    Figure,
    Light,
    cut_scene,
    develop,
    extent,
    paint_figure,
    paint_occluder,
    reduce,
)
from reidlib.synthcity.textures import Wardrobe, make_wardrobe

IMAGE_SIZE = (128, 64)
"""Height and width of a crop in pixels, as in Market-1501."""
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"

# The purposes of random generators; the first number of a generator's key.
_PLAN, _IDENTITY, _CAMERAS, _TRACK, _IMAGE, _FRAME, _QUALITY = range(7)
_PASSERS = 100_000  # first identity of a companion
_STRANGERS = 200_000  # first identity of a person among the distractors
_NUM_PASSERS = 40
_RUINED_BLUR = 14.0  # pixels of motion blur of an image of 64 columns


@dataclass(frozen=True)
class Size:
    """The counts of a world.

    Attributes:
        train_ids: Identities of the training split.
        test_ids: Identities of query and gallery.
        cameras: Number of cameras.
        train_pairs: Pairs of identity and camera in the training split.
        train_images: Images of the training split.
        queries: Query images: one per pair of test identity and camera.
        gallery_images: Gallery images of the test identities.
        junk: Gallery images with person id -1.
        distractors: Gallery images with person id 0.
    """

    train_ids: int
    test_ids: int
    cameras: int
    train_pairs: int
    train_images: int
    queries: int
    gallery_images: int
    junk: int
    distractors: int


SIZES: dict[str, Size] = {
    "tiny": Size(40, 40, 6, 160, 480, 160, 320, 30, 30),
    "course": Size(150, 150, 6, 675, 2700, 675, 2025, 200, 200),
    "market": Size(751, 750, 6, 3262, 12936, 3368, 13115, 3819, 2798),
}
"""``tiny`` for tests, ``course`` for a CPU, ``market`` with Market-1501's counts."""


@dataclass(frozen=True)
class Shot:
    """One planned picture.

    Attributes:
        folder: ``"bounding_box_train"``, ``"query"`` or ``"bounding_box_test"``.
        name: File name, Market-1501 style.
        pid: Person id in the file name; -1 junk, 0 distractor.
        identity: Number of the person shown; 0 if there is no person.
        camera: Camera id from 0.
        track: Walk past the camera, from 0.
        index: Moment within the track.
        key: Number of the picture within its identity, camera and track.
    """

    folder: str
    name: str
    pid: int
    identity: int
    camera: int
    track: int
    index: int
    key: int


@dataclass(frozen=True)
class World:
    """A planned city.

    Attributes:
        size: Its counts.
        seed: Seed of everything.
        dials: Its difficulty.
        cameras: The cameras, by id.
        train_pids: ``(train_ids,)`` person ids of the training split, ascending.
        test_pids: ``(test_ids,)`` person ids of the test split, ascending.
        shots: All pictures.
    """

    size: Size
    seed: int
    dials: Dials
    cameras: tuple[Camera, ...]
    train_pids: tuple[int, ...]
    test_pids: tuple[int, ...]
    shots: tuple[Shot, ...]

    def identity(self, number: int) -> Identity:
        """Return a person by number."""
        return _identity(self.seed, number, self.dials)


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the generator that belongs to a seed and a key.

    Args:
        seed: The world's seed.
        *key: Non-negative numbers that identify its purpose.

    Returns:
        A generator that is independent of those of all other keys.

    Example:
        >>> float(generator(0, 1).random()) == float(generator(0, 1).random())
        True
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@lru_cache(maxsize=4096)
def _identity(seed: int, number: int, dials: Dials) -> Identity:
    return draw_identity(number, generator(seed, _IDENTITY, number), dials)


@lru_cache(maxsize=96)
def _wardrobe(person: Identity) -> Wardrobe:
    return make_wardrobe(person)


def _split(
    total: int, cells: int, low: int, high: int, rng: np.random.Generator
) -> np.ndarray:
    """Return ``(cells,)`` counts in ``[low, high]`` that add up to ``total``."""
    counts = np.full(cells, low)
    weight = rng.gamma(4.0, 1.0, cells)
    while (rest := total - counts.sum()) > 0:
        room = counts < high
        share = np.where(room, weight, 0.0)
        counts += rng.multinomial(rest, share / share.sum())
        counts = np.minimum(counts, high)
    return counts


def find_size(size: str | Size) -> Size:
    """Return a size by name.

    Raises:
        ReIDError: If the name is unknown.
    """
    if isinstance(size, Size):
        return size
    if size not in SIZES:
        raise ReIDError(
            f"SynthCity has no size {size!r}: choose one of {', '.join(SIZES)}"
        )
    return SIZES[size]


@lru_cache(maxsize=8)
def plan_world(
    size: str | Size = "course", seed: int = 0, dials: Dials | None = None
) -> World:
    """Plan a data set without drawing it.

    Args:
        size: A name of :data:`SIZES`, or counts of your own.
        seed: Seed of people, cameras and pictures.
        dials: The difficulty; the default :class:`Dials` if not given.

    Returns:
        The world with its list of pictures. Every query's person is also in the
        gallery under another camera.

    Raises:
        ReIDError: If the size is unknown, its counts cannot be met, or the seed is not
            a non-negative integer.

    Example:
        >>> len(plan_world("market").train_pids)
        751
    """
    counts = find_size(size)
    dials = dials or Dials()
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ReIDError(f"seed {seed!r}: give an integer that is not negative")
    _check_size(counts)
    rng = generator(seed, _PLAN)
    total = counts.train_ids + counts.test_ids
    order = 1 + rng.permutation(total)
    train_pids = tuple(sorted(int(pid) for pid in order[: counts.train_ids]))
    test_pids = tuple(sorted(int(pid) for pid in order[counts.train_ids :]))
    shots: list[Shot] = []
    for pids, pairs, images, folder in (
        (train_pids, counts.train_pairs, counts.train_images, TRAIN),
        (test_pids, counts.queries, counts.gallery_images, GALLERY),
    ):
        cameras_each = _split(pairs, len(pids), 2, counts.cameras, rng)
        images = _turned(images, pairs, dials)
        images_each = iter(_split(images, pairs, 1, images, rng).tolist())
        for pid, num_cameras in zip(pids, cameras_each.tolist()):
            for camera in sorted(rng.permutation(counts.cameras)[:num_cameras]):
                shots += _plan_pair(pid, int(camera), next(images_each), folder, rng)
    for pid, number in ((-1, counts.junk), (0, counts.distractors)):
        for i in range(number):
            camera = int(rng.integers(counts.cameras))
            if pid == -1:
                identity = int(rng.choice(test_pids))
            else:
                identity = _STRANGERS + i if rng.random() < 0.6 else 0
            # Separate tracks: the other tracks of the identity start at 0.
            track = 1000 + i
            name = f"{'-1' if pid < 0 else '0000'}_c{camera + 1}s{1 + i % 6}"
            name += f"_{26 + 25 * i:06d}_{1 + i % 5:02d}.jpg"
            shots.append(Shot(GALLERY, name, pid, identity, camera, track, 0, 0))
    cameras = draw_cameras(counts.cameras, generator(seed, _CAMERAS), dials)
    return World(counts, seed, dials, cameras, train_pids, test_pids, tuple(shots))


def split_sizes(size: str | Size, dials: Dials) -> dict[str, int]:
    """Return how many images the splits of a data set have, junk left out.

    Args:
        size: A name of :data:`SIZES`, or counts of your own.
        dials: The difficulty.

    Example:
        >>> split_sizes("tiny", Dials())
        {'train': 480, 'query': 160, 'gallery': 350}
    """
    counts = find_size(size)
    train = _turned(counts.train_images, counts.train_pairs, dials)
    gallery = _turned(counts.gallery_images, counts.queries, dials) + counts.distractors
    return {"train": train, "query": counts.queries, "gallery": gallery}


def _turned(images: int, pairs: int, dials: Dials) -> int:
    return max(pairs, round(dials.images_per_camera * images))


def _check_size(size: Size) -> None:
    for ids, pairs, images, what in (
        (size.train_ids, size.train_pairs, size.train_images, "train"),
        (size.test_ids, size.queries, size.gallery_images, "test"),
    ):
        if ids < 1 or size.cameras < 2 or not 2 * ids <= pairs <= size.cameras * ids:
            raise ReIDError(
                f"{what} split of {ids} identities, {size.cameras} cameras and {pairs} "
                "pairs of them: give each identity from two to all of the cameras"
            )
        if images < pairs:
            raise ReIDError(
                f"{what} split of {images} images for {pairs} pairs of identity and "
                "camera: give at least one image to each pair"
            )
    if size.junk < 0 or size.distractors < 0:
        raise ReIDError(
            f"{size.junk} junk images and {size.distractors} distractors: give numbers "
            "that are not negative"
        )


def _plan_pair(
    pid: int, camera: int, images: int, folder: str, rng: np.random.Generator
) -> list[Shot]:
    """Plan one identity under one camera: tracks of up to six images, one query."""
    tracks = 1 + (images - 1) // 6
    if tracks == 1 and images > 2 and rng.random() < 0.5:
        tracks = 2
    start = 1 + int(rng.integers(0, 4000))
    shots = []
    moments = [(i * tracks // images, i) for i in range(images)]
    for track, key in moments:
        frame = start + 1000 * (track % 6) + 5 * key
        name = f"{pid:04d}_c{camera + 1}s{1 + track % 6}_{frame:06d}_01.jpg"
        shots.append(Shot(folder, name, pid, pid, camera, track, key, key))
    if folder == GALLERY:
        track = int(rng.integers(tracks))
        frame = start + 1000 * (track % 6) + 5 * images + 2
        name = f"{pid:04d}_c{camera + 1}s{1 + track % 6}_{frame:06d}_00.jpg"
        shots.append(Shot(QUERY, name, pid, pid, camera, track, images, images))
    return shots


@dataclass(frozen=True)
class Track:
    """One walk of a person past a camera, and the properties that its images share.

    Attributes:
        yaw: Direction of walking, radians, 0 towards the camera.
        phase: Walking phase at the first image, radians.
        stride: 0 standing to 1 walking.
        column: Foot point of the first image in the scene, pixels.
        row: The same, downwards.
        light: The light at that time.
        sharpness: Factor on the camera's resolution.
        occluder: Kind of the object in front of the person, or ``""``.
        companion: Number of another person close by, or 0.
        offset: Offset of the companion to the right and towards the camera, metres.
    """

    yaw: float
    phase: float
    stride: float
    column: float
    row: float
    light: Light
    sharpness: float
    occluder: str
    companion: int
    offset: tuple[float, float]


def draw_track(camera: Camera, rng: np.random.Generator, dials: Dials) -> Track:
    """Draw a random walk past a camera.

    Args:
        camera: The camera, whose viewpoint prior is used.
        rng: Source of randomness.
        dials: ``lighting``, ``occlusion`` and ``image_quality`` apply.

    Returns:
        The track.
    """
    yaw = camera.yaw + rng.normal(0.0, camera.yaw_spread)
    if rng.random() < 0.25 * (1.0 - 0.5 * dials.camera_shift):
        yaw = rng.uniform(-np.pi, np.pi)
    strength = dials.lighting
    bright = rng.normal(0.0, 0.34)
    warm = rng.normal(0.0, 0.10) * np.array([1.0, 0.0, -1.0])
    tint = np.exp(strength * (bright + warm + rng.normal(0.0, 0.07, 3)))
    gain = np.exp(strength * (rng.normal(0.0, 0.14) + rng.normal(0.0, 0.06, 3)))
    shadow = rng.random() < 0.4 * strength
    light = Light(
        gamma=(float(tint[0]), float(tint[1]), float(tint[2])),
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        slope=(
            float(strength * rng.normal(0.0, 0.2)),
            float(strength * rng.normal(0.0, 0.2)),
        ),
        edge=float(rng.uniform(-0.8, 0.8)) if shadow else 9.0,
        angle=float(rng.uniform(-np.pi, np.pi)),
    )
    poor = 1.0 - dials.image_quality
    return Track(
        yaw=float(yaw),
        phase=float(rng.uniform(0.0, 2.0 * np.pi)),
        stride=float(rng.uniform(0.75, 1.0) if rng.random() < 0.85 else 0.0),
        column=float(rng.uniform(0.08, 0.92) * SCENE[1]),
        row=float(rng.uniform(GROUND_ROW + 70.0, SCENE[0] - 45.0)),
        light=light,
        sharpness=float(np.exp(-poor * 0.5 * rng.random())),
        occluder=(
            str(rng.choice(OCCLUDERS)) if rng.random() < 0.6 * dials.occlusion else ""
        ),
        companion=(
            _PASSERS + int(rng.integers(_NUM_PASSERS))
            if rng.random() < 0.8 * dials.occlusion
            else 0
        ),
        offset=(
            float(rng.choice((-1.0, 1.0)) * rng.uniform(0.38, 0.8)),
            float(rng.uniform(-0.9, 0.35)),
        ),
    )


def _figure(person: Identity, view: View, column: float, row: float) -> Figure:
    return Figure(pose(person, _wardrobe(person), view), column, row)


def _person_box(figure: Figure) -> Box:
    """Return left, top, right, bottom of a figure in scene pixels."""
    left, low, right, high = extent(figure.tubes)
    scale = figure.scale
    return (
        figure.column + left * scale,
        figure.row - high * scale,
        figure.column + right * scale,
        figure.row - low * scale,
    )


def _crop_box(
    figure: Figure, rng: np.random.Generator, error: float, size: tuple[int, int]
) -> Box:
    """Return a detector's box of a figure: the exact box with random errors."""
    left, top, right, bottom = _person_box(figure)
    tall = (bottom - top) * 1.08 * np.exp(error * rng.normal(0.03, 0.16))
    # Detectors' boxes are narrower than 1:2; resizing to the file's size widens them.
    wide = 0.80 * tall * size[1] / size[0] * np.exp(error * rng.normal(0.0, 0.08))
    x = 0.5 * (left + right) + error * rng.normal(0.0, 0.16) * wide
    y = 0.5 * (top + bottom) + error * rng.normal(0.0, 0.085) * tall
    return (x - 0.5 * wide, y - 0.5 * tall, x + 0.5 * wide, y + 0.5 * tall)


def _draw_crop(
    camera: Camera,
    scenery: Camera,
    people: Sequence[Figure],
    box: Box,
    track: Track,
    rng: np.random.Generator,
    occluder_seed: np.random.Generator,
    blur: float,
    size: tuple[int, int],
) -> np.ndarray:
    """Draw a box of the street with people, ``(H, W, 3)`` uint8."""
    tall = size[0] * SUPERSAMPLING
    inner = (tall, round(tall * (box[2] - box[0]) / (box[3] - box[1])))
    canvas = cut_scene(scenery, box, inner)
    zoom = inner[0] / (box[3] - box[1])
    for figure in sorted(people, key=lambda one: one.row):
        origin = ((figure.column - box[0]) * zoom, (figure.row - box[1]) * zoom)
        paint_figure(canvas, figure.tubes, origin, figure.scale * zoom, camera.light)
    if track.occluder:
        paint_occluder(canvas, track.occluder, occluder_seed)
    return develop(
        reduce(canvas, size),
        camera,
        track.light,
        int(rng.integers(2**30)),
        blur,
        track.sharpness,
    )


def own_strength(dials: Dials, rng: np.random.Generator) -> float:
    """Draw how much worse an image is than the dial of quality says.

    Args:
        dials: ``quality_spread`` applies.
        rng: Of the image.

    Returns:
        Uniform from 0 to ``quality_spread``.

    Example:
        >>> own_strength(Dials(), generator(0, 1))
        0.0
    """
    return float(dials.quality_spread * rng.random())


def shot_strength(world: World, shot: Shot) -> float:
    """Return how much worse a picture is than the dial of quality says, 0 to 1.

    Args:
        world: The planned world.
        shot: One of its pictures.

    Example:
        >>> world = plan_world("tiny")
        >>> shot_strength(world, world.shots[0])
        0.0
    """
    key = (shot.identity, shot.camera, shot.track, _number(shot))
    return own_strength(world.dials, generator(world.seed, _QUALITY, *key))


def _number(shot: Shot) -> int:
    """Return the number of a picture in its track, apart for junk."""
    return shot.key + (500 if shot.pid < 0 else 0)


def shot_camera(world: World, shot: Shot) -> Camera:
    """Return the camera of a shot as the picture shows it, with its own quality.

    Args:
        world: The planned world.
        shot: One of its pictures.

    Example:
        >>> world = plan_world("tiny")
        >>> shot_camera(world, world.shots[0]) == world.cameras[world.shots[0].camera]
        True
    """
    return world.cameras[shot.camera].worse(shot_strength(world, shot))


def draw_shot(
    world: World, shot: Shot, size: tuple[int, int] = IMAGE_SIZE
) -> np.ndarray:
    """Draw one planned picture.

    Args:
        world: The planned world.
        shot: One of its pictures.
        size: Height and width in pixels.

    Returns:
        ``(H, W, 3)`` uint8.

    Example:
        >>> world = plan_world("tiny")
        >>> draw_shot(world, world.shots[0]).shape
        (128, 64, 3)
    """
    dials, seed = world.dials, world.seed
    camera = world.cameras[shot.camera]
    place = (shot.identity, shot.camera, shot.track)
    track = draw_track(camera, generator(seed, _TRACK, *place), dials)
    rng = generator(seed, _IMAGE, *place, _number(shot))
    scenery = camera
    # With a low camera_shift, the background may come from any camera.
    if rng.random() > 2.0 * dials.camera_shift:
        scenery = world.cameras[int(rng.integers(len(world.cameras)))]
    # People walk on between the images of a track.
    step = 0.28 * shot.index * track.stride
    column = track.column + 26.0 * step * np.sin(track.yaw)
    row = track.row + 9.0 * step * np.cos(track.yaw)
    row = float(np.clip(row, GROUND_ROW + 55.0, SCENE[0] - 25.0))
    view = View(
        yaw=track.yaw + rng.normal(0.0, 0.12),
        pitch=camera.pitch,
        phase=track.phase + 1.1 * shot.index + rng.normal(0.0, 0.3),
        stride=track.stride,
    )
    poor = 1.0 - dials.image_quality
    blur = float(rng.uniform(2.0, 5.0)) if rng.random() < 0.35 * poor else 0.0
    own = shot_strength(world, shot)
    blur += _RUINED_BLUR * own
    if shot.identity == 0:
        people: list[Figure] = []
        tall = rng.uniform(0.7, 1.5) * 190.0
        wide = tall * size[1] / size[0]
        box = (
            column - 0.5 * wide,
            track.row - tall,
            column + 0.5 * wide,
            track.row,
        )
    else:
        figure = _figure(world.identity(shot.identity), view, column, row)
        people = [figure]
        error = dials.misalignment if shot.pid >= 0 else 1.6 + dials.misalignment
        box = _crop_box(figure, rng, error, size)
    if track.companion:
        beside = View(view.yaw, view.pitch, view.phase + 2.0, view.stride)
        people.append(
            _figure(
                world.identity(track.companion),
                beside,
                column + track.offset[0] * 95.0,
                row + track.offset[1] * 30.0,
            )
        )
    return _draw_crop(
        camera.worse(own),
        scenery,
        people,
        box,
        track,
        rng,
        generator(seed, _TRACK, *place, 7),
        blur,
        size,
    )


def draw_person(
    identity: Identity,
    camera: Camera,
    *,
    yaw: float | None = None,
    phase: float | None = None,
    seed: int = 0,
    dials: Dials | None = None,
    size: tuple[int, int] = IMAGE_SIZE,
) -> np.ndarray:
    """Draw one picture of a person under a camera.

    Args:
        identity: The person, for instance ``world.identity(3)``.
        camera: The camera, for instance ``world.cameras[0]``.
        yaw: Direction of walking in radians, 0 towards the camera; the camera's prior
            if not given.
        phase: Walking phase in radians; random if not given.
        seed: Seed of track and image.
        dials: Occlusion, lighting, misalignment and image quality.
        size: Height and width in pixels.

    Returns:
        ``(H, W, 3)`` uint8.

    Example:
        >>> world = plan_world("tiny")
        >>> draw_person(world.identity(3), world.cameras[0], yaw=0.0).dtype
        dtype('uint8')
    """
    dials = dials or Dials()
    rng = generator(seed, _FRAME, identity.pid, camera.index)
    track = draw_track(camera, rng, dials)
    view = View(
        yaw=track.yaw if yaw is None else yaw,
        pitch=camera.pitch,
        phase=track.phase if phase is None else phase,
        stride=track.stride if phase is None else 1.0,
    )
    figure = _figure(identity, view, track.column, track.row)
    people = [figure]
    if track.companion:
        passer = _identity(seed, track.companion, dials)
        people.append(
            _figure(
                passer,
                view,
                track.column + track.offset[0] * 95.0,
                track.row + track.offset[1] * 30.0,
            )
        )
    box = _crop_box(figure, rng, dials.misalignment, size)
    own = own_strength(dials, generator(seed, _QUALITY, identity.pid, camera.index))
    return _draw_crop(
        camera.worse(own),
        camera,
        people,
        box,
        track,
        *(rng, rng, _RUINED_BLUR * own, size),
    )


def draw_frame(
    camera: Camera,
    identities: Sequence[Identity],
    *,
    seed: int = 0,
    dials: Dials | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a whole frame of a camera, with a box for each person.

    Args:
        camera: The camera.
        identities: The people in the frame.
        seed: Seed of positions, directions and light.
        dials: Lighting and image quality apply; a frame is as good as its camera.

    Returns:
        The ``(540, 960, 3)`` uint8 picture, and ``(N, 5)`` int64 boxes: left, top,
        width, height in pixels and the person's id, in the order of ``identities``.

    Example:
        >>> world = plan_world("tiny")
        >>> image, boxes = draw_frame(world.cameras[0], [world.identity(1)])
        >>> image.shape, boxes.shape
        ((540, 960, 3), (1, 5))
    """
    dials = dials or Dials()
    rng = generator(seed, _FRAME, camera.index, len(identities))
    people = []
    boxes = np.zeros((len(identities), 5), np.int64)
    places = (rng.permutation(len(identities)) + 0.5) / max(len(identities), 1)
    track = draw_track(camera, rng, dials)
    for i, person in enumerate(identities):
        own = draw_track(camera, rng, dials)
        column = float((0.06 + 0.88 * places[i]) * SCENE[1])
        view = View(own.yaw, camera.pitch, own.phase, own.stride)
        figure = _figure(person, view, column, own.row)
        people.append(figure)
        left, top, right, bottom = _person_box(figure)
        left, right = max(left, 0.0), min(right, float(SCENE[1]))
        top, bottom = max(top, 0.0), min(bottom, float(SCENE[0]))
        x, y = int(np.floor(left)), int(np.floor(top))
        boxes[i] = (
            x,
            y,
            int(np.ceil(right)) - x,
            int(np.ceil(bottom)) - y,
            person.pid,
        )
    whole = (0.0, 0.0, float(SCENE[1]), float(SCENE[0]))
    street = Track(
        **{**track.__dict__, "occluder": "", "companion": 0, "sharpness": 1.0}
    )
    image = _draw_crop(camera, camera, people, whole, street, rng, rng, 0.0, SCENE)
    return image, boxes
