"""A real street, from the video to clusters of its people."""

from __future__ import annotations

import csv
import gzip
import shutil
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
    with refused("every=0: expected a number of frames from 1"):
        crop_people(index, tmp_path, every=0)
    with refused("the folder .*index.csv/crops cannot be made .*; give another one"):
        crop_people(index, index / "crops")
    empty = tmp_path / "empty.avi"
    writer = cv2.VideoWriter(
        str(empty), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 160)
    )
    for _ in range(3):
        writer.write(np.full((160, 160, 3), 128, np.uint8))
    writer.release()
    with refused("no person was found in 3 frames of .*empty.avi"):
        crop_people(empty, tmp_path / "nobody")


def test_the_index_lists_every_crop_once(index):
    with index.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    crops = {crop.name for crop in index.parent.glob("*.jpg")}
    assert {row["path"] for row in rows} == crops
    assert len(rows) == len(crops)
    assert all(float(row["score"]) >= 0.5 for row in rows)
