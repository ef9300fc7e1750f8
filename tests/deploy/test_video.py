"""A real street, from the video to clusters of its people."""

from __future__ import annotations

import csv
import gzip
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
from reidlib.deploy import crop_people
from reidlib.deploy.video import _frames
from reidlib.errors import ReIDError
from reidlib.models import ReIDNet

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
    assert together[one_frame].mean() < 0.7 * together[~one_frame].mean()

    for cluster in range(int(labels.max()) + 1):
        rows = torch.nonzero(labels == cluster).flatten().numpy()
        captions = [f"frame {frame}" for frame in table.attributes["frame"][rows]]
        sheet = contact_sheet(table, rows, captions=captions, title=f"{cluster}")
        sheet.save(tmp_path / f"cluster_{cluster:02d}.png")
    assert len(list(tmp_path.glob("cluster_*.png"))) == labels.max() + 1


def test_an_index_is_never_overwritten(index):
    with refused("index.csv already exists; give another fold"):
        crop_people(index, index.parent)


def test_videos_without_frames_or_people_are_refused(index, tmp_path):
    import cv2

    with refused("index.csv is not a video that OpenCV can de"):
        crop_people(index, tmp_path)
    with refused("there is no video gone.avi; correct the path"):
        crop_people("gone.avi", tmp_path)
    for setting, value in (
        *(("every", wrong) for wrong in (0, 1.5, None)),
        *(("min_score", wrong) for wrong in (-0.1, float("nan"), "high")),
        *(("camid", wrong) for wrong in (-1, "door")),
    ):
        with refused(f"crop_people: {setting} is {value!r}; give a"):
            crop_people(index, tmp_path, **{setting: value})
    for arguments in (("caf\udce9.avi", tmp_path), (index, tmp_path / "caf\udce9")):
        with refused(r"the name b'.*caf\\xe9.*' is not UTF-8; rename it"):
            crop_people(*arguments)
    with refused("the folder .*index.csv/crops cannot be made .*; give another one"):
        crop_people(index, index / "crops")
    empty = tmp_path / "empty.avi"
    writer = cv2.VideoWriter(
        str(empty), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 160)
    )
    for _ in range(3):
        writer.write(np.full((160, 160, 3), 128, np.uint8))
    writer.release()
    with refused("no person was found in 1 frames of .*empty.avi"):
        crop_people(empty, tmp_path / "nobody")


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
    settings = {"every": 20, "min_score": 0}
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


def test_a_video_smaller_than_a_person_is_refused(tmp_path):
    cv2 = pytest.importorskip("cv2")
    for size in ((300, 100), (48, 200)):
        file = tmp_path / f"{size[0]}.avi"
        form = cv2.VideoWriter_fourcc(*"MJPG")
        writer = cv2.VideoWriter(str(file), form, 10, size)
        writer.write(np.zeros((size[1], size[0], 3), np.uint8))
        writer.release()
        with refused("needs 64 x 128 at least"):
            crop_people(file, tmp_path / f"crops{size[0]}")


def test_the_index_lists_every_crop_once(index):
    with index.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    crops = {crop.name for crop in index.parent.glob("*.jpg")}
    assert {row["path"] for row in rows} == crops
    assert len(rows) == len(crops)
    assert all(float(row["score"]) >= 0.5 for row in rows)


def test_it_is_also_found_where_it_was_first():
    from reidlib import data

    assert data.crop_people is crop_people
    with pytest.raises(AttributeError, match="no attribute 'crop_persons'"):
        _ = data.crop_persons
