"""A real street, from the video to clusters of its people."""

from __future__ import annotations

import csv
import gzip
import importlib
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reidlib.clustering import dbscan, jaccard_distance
from reidlib.data import (
    TestTransform,
    contact_sheet,
    open_dataset,
    open_images,
    sequential_batches,
)
from reidlib.deploy import Detections, crop_people
from reidlib.deploy.video import _frames
from reidlib.errors import ReIDError
from reidlib.models import ReIDNet
from reidlib.synthcity import draw_frame, plan_world

VIDEO = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")


def refused(message):
    return pytest.raises(ReIDError, match=message)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("video")
    video = VIDEO
    packed = VIDEO.with_name(f"{VIDEO.name}.gz")
    if packed.exists():
        video = folder / VIDEO.name
        with gzip.open(packed) as source, video.open("wb") as target:
            shutil.copyfileobj(source, target)
    if not video.exists():
        pytest.skip(f"there is no {VIDEO}; Debian's package opencv-doc has it")
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    return crop_people(video, folder / "crops", every=30)


def test_people_are_cut_out_into_a_folder_with_an_index(index):
    dataset = open_dataset("auto", index.parent)
    assert dataset.name == "csv"
    table = dataset.train
    assert len(table) >= 50
    assert not table.has_identities
    assert table.num_cams == 1
    frames = table.attributes["frame"]
    assert (frames % 30 == 0).all()
    assert len(np.unique(frames)) >= 20
    for row in range(0, len(table), 10):
        with Image.open(table.file(row)) as image:
            size = (table.attributes["width"][row], table.attributes["height"][row])
            assert image.size == size
            assert 1.5 < image.height / image.width < 3.0


def test_people_are_clustered_and_each_cluster_gets_a_sheet(index, tmp_path):
    table = open_dataset("csv", index).train
    images = open_images(table, (128, 64))
    model = ReIDNet("efficientnet_lite0").eval()
    prepare = TestTransform()
    with torch.no_grad():
        batches = images.batches(sequential_batches(len(table), 32))
        features = torch.cat([model(prepare(batch)) for batch in batches])
    labels = dbscan(jaccard_distance(features, k1=8, k2=3), 0.5, min_samples=3)

    assert labels.max() + 1 >= 6
    assert (labels == -1).float().mean() < 0.5
    # No person is in two places at once: two crops of one frame are two people.
    frames = torch.as_tensor(table.attributes["frame"])
    pairs = torch.combinations(torch.nonzero(labels >= 0).flatten())
    together = (labels[pairs[:, 0]] == labels[pairs[:, 1]]).float()
    one_frame = frames[pairs[:, 0]] == frames[pairs[:, 1]]
    assert one_frame.sum() > 20
    assert together[one_frame].mean() < 0.8 * together[~one_frame].mean()

    for cluster in range(int(labels.max()) + 1):
        rows = torch.nonzero(labels == cluster).flatten().numpy()
        captions = [f"frame {frame}" for frame in table.attributes["frame"][rows]]
        sheet = contact_sheet(table, rows, captions=captions, title=f"{cluster}")
        sheet.save(tmp_path / f"cluster_{cluster:02d}.png")
    assert len(list(tmp_path.glob("cluster_*.png"))) == labels.max() + 1


def test_the_how_to_runs_on_the_street(index, tiny_root, tmp_path, monkeypatch):
    pytest.importorskip("lancedb", reason="the extra gallery is not installed")
    scripts = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(scripts)
    how_to = importlib.import_module("real_video")
    shutil.copytree(index.parent, tmp_path / "crops")
    monkeypatch.chdir(tmp_path)
    run = how_to.Commands()
    small = "--preset quick --backbone tiny --frozen-stages 0 --height 64 --width 32 "
    small += "--clustering kmeans --num-clusters 6 --num-labels 6 --epochs 1"
    small += " --iterations 2"
    run(
        f"train baseline {small} --weights random --data synthcity --root {tiny_root} "
        "--out elsewhere --device cpu"
    )
    found = how_to.go(run, Path("elsewhere"), small, 20)
    table = open_dataset("csv", tmp_path / "crops" / "tuesday.csv").train
    who = how_to.named(table)
    assert (table.attributes["frame"] >= how_to.NOON).all()
    sides = {(person, side) for person, side in zip(who, table.camids) if person}
    assert len(sides) >= 10  # of eight people and two sides
    # No person is in two places at once, however the crops were found again.
    places = list(zip(table.attributes["frame"][who > 0], who[who > 0]))
    assert len(places) - len(set(places)) <= 1
    assert found["gallery"]["people"] == len(table)
    assert 0 < found["named"]["scored"] <= 20
    for one in found["scores"].values():
        assert 0.05 < one["mAP"] < 1
    said = {row["command"].split(" ")[0]: row["said"] for row in found["commands"]}
    assert "people forgotten" in said["gallery"][-1]
    assert (tmp_path / "answers.png").stat().st_size > 1000


def test_an_index_is_never_overwritten(index):
    with refused("index.csv already exists; give another fold"):
        crop_people(index, index.parent)


def written(file, frames, rate=10):
    cv2 = pytest.importorskip("cv2")
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), rate, size)
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return file


def test_videos_without_frames_or_people_are_refused(tmp_path):
    text = tmp_path / "text.avi"
    text.write_text("no video")
    with refused("text.avi is not a video that OpenCV can de"):
        crop_people(text, tmp_path / "crops")
    with refused("there is no video gone.avi; correct the path"):
        crop_people("gone.avi", tmp_path)
    for setting, value in (
        *(("every", wrong) for wrong in (0, 1.5, None)),
        *(("min_score", wrong) for wrong in (-0.1, 1.1, float("nan"), "high")),
        *(("camid", wrong) for wrong in (-1, "door")),
    ):
        with refused(f"crop_people: {setting} is {value!r}; give a"):
            crop_people(text, tmp_path, **{setting: value})
    with refused("there are 2 camera ids for 1 sources; give one for each"):
        crop_people(text, tmp_path, camid=[1, 2])
    for arguments in (("caf\udce9.avi", tmp_path), (text, tmp_path / "caf\udce9")):
        with refused(r"the name b'.*caf\\xe9.*' is not UTF-8; rename it"):
            crop_people(*arguments)
    grey = [np.full((160, 160, 3), 128, np.uint8)] * 3
    empty = written(tmp_path / "empty.avi", grey)
    with refused("the folder .*empty.avi/crops cannot be made .*; give another one"):
        crop_people(empty, empty / "crops")
    with refused("no person was found in 1 frames of .*empty.avi"):
        crop_people(empty, tmp_path / "nobody")
    assert [file.name for file in (tmp_path / "nobody").iterdir()] == [".lock"]


def test_sources_that_would_wait_for_ever_or_count_twice_are_refused(tmp_path):
    folder = tmp_path / "hall"
    folder.mkdir()
    Image.new("RGB", (160, 160)).save(folder / "a.jpg")
    os.mkfifo(tmp_path / "live.avi")
    with refused("live.avi is a pipe or a device; give a file or a folder"):
        crop_people(tmp_path / "live.avi", tmp_path / "crops")
    (tmp_path / "again").symlink_to(folder)
    with refused("a source is given twice, and its people would be seen by two cam"):
        crop_people([folder, tmp_path / "again"], tmp_path / "crops")
    with refused("again holds the pictures; give another for the crops"):
        crop_people(folder, tmp_path / "again")
    assert [file.name for file in folder.iterdir()] == ["a.jpg"]
    assert not (tmp_path / "crops").exists()


@pytest.fixture(scope="module")
def streets():
    """Two drawn frames with four people each."""
    world = plan_world("tiny")
    people = [[world.identity(n) for n in range(k, k + 4)] for k in (1, 7)]
    return [draw_frame(world.cameras[n], people[n], seed=3)[0] for n in (0, 1)]


def rows_of(index):
    with index.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_several_sources_are_several_cameras(streets, tmp_path):
    video = written(tmp_path / "gate.avi", [streets[0]] * 3)
    folder = tmp_path / "hall"
    folder.mkdir()
    # As a phone held upright stores it: turned, with a tag that says so.
    tag = Image.Exif()
    tag[0x0112] = 6
    turned = Image.fromarray(streets[1]).transpose(Image.Transpose.ROTATE_90)
    turned.save(folder / "a.jpg", exif=tag, quality=95)
    (folder / "b.jpg").write_bytes(b"no picture")
    settings = {"every": 2, "min_score": 0.2}
    with pytest.warns(UserWarning, match="1 of 2 pictures of hall cannot be read"):
        index = crop_people(
            [video, folder], tmp_path / "crops", camid=[4, 2], **settings
        )
    rows = rows_of(index)
    seen = {(row["camid"], row["source"], row["frame"], row["time"]) for row in rows}
    expected = {("5", "gate.avi", "0", "0.0"), ("5", "gate.avi", "2", "0.2")}
    assert seen == expected | {("3", "hall", "0", "")}
    assert sum(row["source"] == "hall" for row in rows) >= 3
    for row in rows:
        with Image.open(index.parent / row["path"]) as crop:
            assert crop.size == (int(row["width"]), int(row["height"]))
    surest = max((r for r in rows if r["source"] == "hall"), key=lambda r: r["score"])
    assert int(surest["height"]) > 1.5 * int(surest["width"])  # upright
    assert set(open_dataset("csv", index).train.camids) == {2, 4}
    assert index.stat().st_mode & 0o777 == 0o644


def test_a_camera_that_is_not_the_first_keeps_its_id(streets, tmp_path):
    source = picture(streets[0], tmp_path)
    index = crop_people(source, tmp_path / "one", camid=1)
    assert set(open_dataset("csv", index).train.camids) == {1}
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no picture")
    with refused("no picture of damaged.png can be read"):
        crop_people(damaged, tmp_path / "none")


def test_who_stands_at_the_border_is_marked(streets, tmp_path):
    whole = rows_of(crop_people(picture(streets[0], tmp_path), tmp_path / "a"))
    assert {row["border"] for row in whole} == {"0"}
    person = max(whole, key=lambda row: float(row["score"]))
    left = int(person["x"]) + int(person["width"]) // 3
    part = streets[0][:, left:]
    cut = rows_of(crop_people(picture(part, tmp_path), tmp_path / "b", min_score=0.2))
    assert any(row["border"] == "1" and int(row["x"]) == 0 for row in cut)


def picture(pixels, folder):
    file = folder / f"{pixels.shape[1]}.png"
    Image.fromarray(np.ascontiguousarray(pixels)).save(file)
    return file


class Stopped(Exception):
    pass


class Counting:
    """A detector that counts its frames, and may be stopped at one of them."""

    name = "counting"

    def __init__(self, stop_at=None):
        self.stop_at, self.frames = stop_at, 0

    def __call__(self, frame):
        if self.frames == self.stop_at:
            raise Stopped
        self.frames += 1
        box = np.array([[10, 10, 20, 40]], np.float32)
        return Detections(box, np.array([0.9], np.float32))


def test_a_stopped_search_goes_on_where_it_was(streets, tmp_path):
    video = written(tmp_path / "long.avi", [streets[0]] * 12)
    settings = {"every": 2}
    expected = crop_people(video, tmp_path / "once", detector=Counting(), **settings)
    with pytest.raises(Stopped):
        crop_people(video, tmp_path / "twice", detector=Counting(4), **settings)
    journal = tmp_path / "twice" / "unfinished.jsonl"
    with journal.open("a") as lines:
        lines.write('{"source": 0, "fra')  # as a killed process may leave it
    with refused(r"unfinished search with other settings \(every: 2\)"):
        crop_people(video, tmp_path / "twice", detector=Counting(), every=3)
    rest = Counting()
    index = crop_people(video, tmp_path / "twice", detector=rest, **settings)
    assert rest.frames == 2
    assert index.read_bytes() == expected.read_bytes()
    assert not journal.exists()

    with pytest.raises(Stopped):
        crop_people(video, tmp_path / "third", detector=Counting(4), **settings)
    written(video, [streets[1]] * 12)
    with refused("unfinished search with other settings .sources"):
        crop_people(video, tmp_path / "third", detector=Counting(), **settings)
    for damage in ("[1]\n", "5\n", '{"sources": 1}\n', "{\n"):
        (tmp_path / "third" / "unfinished.jsonl").write_text(damage)
        with refused("unfinished.jsonl is damaged .* remove the folder"):
            crop_people(video, tmp_path / "third", detector=Counting(), **settings)
    with refused("the detector has its own min_score and longest"):
        crop_people(video, tmp_path / "x", detector=Counting(), min_score=0.5)


@pytest.fixture
def walk(tiny, tmp_path):
    """A video of 90 frames through which people walk."""
    cv2 = pytest.importorskip("cv2")
    file = tmp_path / "walk.avi"
    form = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(file), form, 10, (384, 288))
    for number in range(90):
        person = cv2.imread(str(tiny.query.file(number // 10)))
        frame = np.full((288, 384, 3), 200, np.uint8)
        left = 20 + 2 * number
        frame[60:220, left : left + 80] = cv2.resize(person, (80, 160))
        writer.write(frame)
    writer.release()
    return file


def test_damaged_frames_are_counted_and_the_others_searched(walk, tmp_path):
    whole = walk.read_bytes()
    hole = bytearray(whole)
    hole[len(whole) // 2 : len(whole) // 2 + 4000] = bytes(4000)
    (tmp_path / "hole.avi").write_bytes(hole)
    settings = {"every": 20, "min_score": 0.1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = crop_people(walk, tmp_path / "whole", **settings)
    expected = open_dataset("csv", index).train.attributes["frame"]
    assert max(expected) > 50
    with pytest.warns(
        UserWarning, match=r"8\d of the 90 frames that the header of .*h"
    ):
        index = crop_people(tmp_path / "hole.avi", tmp_path / "hole", **settings)
    found = open_dataset("csv", index).train.attributes["frame"]
    assert set(found) == set(expected)


class Damaged:
    """A capture of which some frames cannot be read."""

    def __init__(self, told, good):
        self.told, self.good, self.number = told, good, -1

    def get(self, _):
        return self.told

    def grab(self):
        self.number += 1
        return self.number in self.good

    def retrieve(self):
        return True, self.number


@pytest.mark.parametrize(
    ("told", "good", "expected"),
    [
        (9, range(9), [0, 4, 8]),
        (0, range(9), [0, 4, 8]),  # a header without a number of frames
        (5, range(9), [0, 4, 8]),
        (12, {0, 1, 6, 7, 8, 9}, [0, 6, 8]),
        (10**15, {0, 4}, [0, 4]),
    ],
)
@pytest.mark.filterwarnings("ignore:.* of the .* frames")
def test_a_frame_in_every_four_is_searched(told, good, expected):
    frames = _frames(Damaged(told, set(good)), 4, "walk.avi")
    assert [number for number, _ in frames] == expected


def test_the_index_lists_every_crop_once(index):
    with index.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    crops = {crop.name for crop in index.parent.glob("*.jpg")}
    assert {row["path"] for row in rows} == crops
    assert len(rows) == len(crops)
    assert all(float(row["score"]) >= 0.45 for row in rows)


def test_it_is_also_found_where_it_was_first():
    from reidlib import data

    assert data.crop_people is crop_people
    with pytest.raises(AttributeError, match="no attribute 'crop_persons'"):
        _ = data.crop_persons
