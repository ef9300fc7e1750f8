"""A gallery on disk: searched exactly, forgotten really, and never half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support import full_disk

from reidlib.data.table import ImageTable
from reidlib.deploy import (
    Embeddings,
    Gallery,
    load_embeddings,
    naming_page,
    save_embeddings,
)
from reidlib.deploy.gallery import answer_sheet
from reidlib.errors import DamagedError, ReIDError
from reidlib.evaluation import camera_thresholds, nearest_features, pair_distances
from reidlib.paths import lock_folder

pytest.importorskip("lancedb", reason="the extra gallery is not installed")

START = datetime(2026, 5, 1, 23, tzinfo=UTC)


def embedded(folder, count, *, seed=0, width=16, fingerprint="f" * 64, **columns):
    """Features of some people under three cameras, an image file each."""
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(size=(count, width)).astype(np.float32))
    features = torch.nn.functional.normalize(features)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{seed}_{number:03d}.png" for number in range(count)]
    for number, name in enumerate(names):
        Image.new("RGB", (2, 4), (number % 256, number // 256, seed)).save(
            folder / name
        )
    numbers = np.arange(count)
    own = {
        "frame": numbers,
        "time": 600.0 * numbers,
        "person": np.array([f"person {number % 5}" for number in numbers]),
        **columns,
    }
    table = ImageTable(folder, tuple(names), numbers % 5 + 1, numbers % 3, own)
    return Embeddings(features, table, fingerprint, "runs/x")


@pytest.fixture
def people(tmp_path):
    return embedded(tmp_path / "crops", 30)


@pytest.fixture
def gallery(tmp_path, people):
    made = Gallery.create(tmp_path / "seen", people)
    assert made.add(people, start=START) == 30
    return made


def test_a_search_is_that_of_all_distances(gallery, people):
    queries = embedded(gallery.folder.parent / "more", 4, seed=1).features
    answers = gallery.search(queries, k=7)
    rows, distance = nearest_features(queries, people.features, 7)
    assert len(answers) == 28
    for number in range(4):
        own = answers[answers["query"] == number]
        assert own["rank"].tolist() == list(range(1, 8))
        assert own["frame"].tolist() == rows[number].tolist()
        np.testing.assert_allclose(own["distance"], distance[number], atol=1e-5)
    assert answers["known"].isna().all()
    for file in answers["crop"]:
        assert Image.open(file).size == (2, 4)


def test_many_queries_find_what_each_finds_alone(gallery, people, monkeypatch):
    monkeypatch.setattr("reidlib.deploy.gallery._BATCH", 7)  # several parts
    queries = embedded(gallery.folder.parent / "more", 6, seed=1).features
    filters = ({}, {"cameras": [1]}, {"after": START + timedelta(hours=4)})
    for some in (*filters, {"cameras": [7]}):
        for k in (3, 25):
            many = gallery.search(queries, k=k, **some)
            alone = [gallery.search(one[None], k=k, **some) for one in queries]
            assert (
                many["query"].tolist()
                == np.repeat(range(6), [len(one) for one in alone]).tolist()
            )
            alone = pd.concat(alone, ignore_index=True)
            np.testing.assert_allclose(many["distance"], alone["distance"], atol=1e-5)
            rest = ["rank", "known", "person", "camera", "seen", "frame", "crop", "id"]
            pd.testing.assert_frame_equal(many[rest], alone[rest], check_dtype=False)
    same = gallery.search(people.features[:5], k=1)
    assert same["frame"].tolist() == list(range(5))
    assert (same["distance"] >= 0).all()


def test_cameras_and_times_are_filters(gallery, people):
    query = people.features[:1]
    answers = gallery.search(query, k=30, cameras=[1])
    assert set(answers["frame"]) == set(range(1, 30, 3))
    midnight = START + timedelta(hours=1)  # ten minutes a frame
    late = gallery.search(query, k=30, after=midnight)
    assert set(late["frame"]) == set(range(6, 30))
    early = gallery.search(query, k=30, before=midnight, cameras=[0, 2])
    assert set(early["frame"]) == {0, 2, 3, 5}
    assert not len(gallery.search(query, cameras=[]))
    with pytest.raises(ReIDError, match="has no time zone; give one"):
        gallery.search(query, after=datetime(2026, 5, 1))


def test_the_threshold_is_that_of_the_camera_pair(gallery, people):
    pairs = pair_distances(people.features, people.features, people.table, people.table)
    chosen = camera_thresholds(pairs, 0.2, min_negatives=20)
    gallery.calibrate(chosen)
    again = Gallery(gallery.folder)  # it is kept
    answers = again.search(people.features[:3], k=30, query_cameras=[0, 1, 2])
    for _, one in answers.iterrows():
        least = chosen.threshold[one["query"], one["camera"]]
        assert one["known"] == (one["distance"] <= least)
    assert answers["known"].nunique() == 2
    again.calibrate(0.5)
    answers = again.search(people.features[:1], k=30)
    assert (answers["known"] == (answers["distance"] <= 0.5)).all()
    with pytest.raises(ReIDError, match="threshold is 3; give a number"):
        again.calibrate(3)


def bytes_of(folder):
    return b"".join(f.read_bytes() for f in folder.rglob("*") if f.is_file())


def test_who_is_forgotten_is_gone_from_the_disk(tmp_path):
    marks = np.array([f"zebra{number:04d}" for number in range(40)])
    people = embedded(tmp_path / "crops", 40, person=marks)
    gallery = Gallery.create(tmp_path / "seen", people)
    gallery.add(people, start=START)
    crops = {one["person"]: one["crop"] for _, one in rows_of(gallery).iterrows()}
    vector = people.features[3].numpy().tobytes()
    content = bytes_of(gallery.folder)
    assert b"zebra0003" in content
    assert vector in content
    assert gallery.forget(person="zebra0003") == 1
    content = bytes_of(gallery.folder)
    assert b"zebra0003" not in content
    assert vector not in content
    assert b"zebra0004" in content
    assert not os.path.exists(crops["zebra0003"])
    assert os.path.exists(crops["zebra0004"])
    assert len(Gallery(gallery.folder)) == 39
    assert gallery.forget(person="zebra0003") == 0


def rows_of(gallery):
    return gallery.search(np.eye(16, dtype=np.float32)[:1], k=len(gallery))


def test_a_camera_a_day_and_what_is_old_are_forgotten(gallery):
    assert gallery.forget(camera=1, day=date(2026, 5, 1)) == 2  # frames 1 and 4
    assert set(rows_of(gallery)["frame"]) == set(range(30)) - {1, 4}
    assert gallery.forget(day=date(2026, 5, 1)) == 4
    assert gallery.forget(camera=2) == 8
    assert gallery.forget(before=START + timedelta(hours=3)) > 0
    assert rows_of(gallery)["frame"].min() == 18
    with pytest.raises(ReIDError, match="nothing is named"):
        gallery.forget()
    with pytest.raises(ReIDError, match="the name of the person is empty"):
        gallery.forget(person="")
    with pytest.raises(ReIDError, match="keeps everything"):
        gallery.expire()


def test_what_is_older_than_the_days_that_are_kept_expires(tmp_path, people):
    gallery = Gallery.create(tmp_path / "days", people, keep_days=1)
    gallery.add(people, start=START)
    assert gallery.expire(START + timedelta(days=1, minutes=100)) == 10
    assert set(rows_of(gallery)["frame"]) == set(range(10, 30))
    # Where nobody knows when it was seen, the time at which it was added counts.
    more = embedded(tmp_path / "more", 3, seed=2)
    gallery.add(more)
    assert gallery.expire(datetime.now(UTC) + timedelta(days=2)) == 23


def test_adding_again_adds_nothing(gallery, people):
    assert gallery.add(people, start=START) == 0
    assert gallery.add(embedded(people.table.root, 5, seed=1), start=START) == 5
    assert gallery.info()["people"] == 35
    assert gallery.info()["cameras"] == [0, 1, 2]
    assert gallery.info()["first"].startswith("2026-05-01 23:00")


def test_another_network_is_refused(gallery, tmp_path):
    other = embedded(tmp_path / "other", 3, fingerprint="e" * 64)
    with pytest.raises(ReIDError, match="the features are of another network"):
        gallery.add(other)
    with pytest.raises(ReIDError, match="the features are of another network"):
        gallery.search(other.features, fingerprint="e" * 64)
    wide = embedded(tmp_path / "wide", 3, width=8)
    with pytest.raises(ReIDError, match=r"\(ffffffffff, 8 numbers\)"):
        gallery.search(wide.features)


def test_one_process_writes_at_a_time(gallery, people):
    lock = lock_folder(gallery.folder)
    try:
        for write in (
            lambda: gallery.add(people),
            lambda: gallery.forget(camera=1),
            lambda: gallery.calibrate(0.5),
        ):
            with pytest.raises(ReIDError, match="another process is working in"):
                write()
        assert len(gallery.search(people.features[:1])) == 10  # reading goes on
    finally:
        lock.release()


def test_a_forgetting_that_was_stopped_is_finished(tmp_path, monkeypatch):
    people = embedded(tmp_path / "crops", 30)
    gallery = Gallery.create(tmp_path / "seen", people)
    gallery.add(people, start=START)
    crops = list(rows_of(gallery).query("camera == 1")["crop"])
    vector = people.features[1].numpy().tobytes()

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "_rewrite", killed)
        with pytest.raises(KeyboardInterrupt):
            gallery.forget(camera=1)
    assert vector in bytes_of(gallery.folder)
    assert Gallery(gallery.folder).forget(camera=1) == 0  # they are no rows any more
    assert vector not in bytes_of(gallery.folder)
    assert not any(map(os.path.exists, crops))


def test_what_another_process_wrote_is_seen(gallery, people):
    other = Gallery(gallery.folder)
    more = embedded(people.table.root, 5, seed=1)
    assert other.add(more, start=START) == 5
    assert len(gallery) == 35
    assert gallery.add(more, start=START) == 0
    other.forget(camera=1)
    assert set(gallery.search(people.features[:1], k=40)["camera"]) == {0, 2}
    other.calibrate(0.5)
    assert gallery.search(people.features[:1])["known"].notna().all()


def test_crops_are_copied_for_new_people_alone(tmp_path, people):
    gallery = Gallery.create(tmp_path / "bare", people)
    gallery.add(people, crops=False)
    assert gallery.add(people) == 0
    assert not list(gallery.folder.glob("crops/*/*"))
    with pytest.raises(ReIDError, match="keeps no crops"):
        answer_sheet(people.table[:1], rows_of(gallery), tmp_path / "a.png")


def test_a_gallery_that_lost_its_description_is_not_overwritten(gallery, people):
    (gallery.folder / "gallery.json").unlink()
    with pytest.raises(ReIDError, match=r"holds people and no gallery\.json; restore"):
        Gallery.create(gallery.folder, people)


def test_the_change_of_the_clock_is_no_hour(tmp_path):
    people = embedded(tmp_path / "crops", 2, time=np.array([0.0, 7200.0]))
    gallery = Gallery.create(tmp_path / "seen", people)
    berlin = ZoneInfo("Europe/Berlin")
    gallery.add(people, start=datetime(2026, 10, 25, 1, 30, tzinfo=berlin))
    assert gallery.info()["last"].startswith("2026-10-25 01:30")


def test_wrong_columns_are_named_before_anything_is_written(tmp_path):
    for name, value in (("frame", "f1"), ("time", "00:01"), ("time", float("nan"))):
        people = embedded(tmp_path / "crops", 2, **{name: np.array([value, value])})
        gallery = Gallery.create(tmp_path / f"{name}{value}"[:9], people)
        with pytest.raises(ReIDError, match=f"the column {name} holds"):
            gallery.add(people, start=START)
        assert not len(gallery)


def test_a_killed_add_keeps_what_was_added_and_goes_on(tmp_path):
    code = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
from test_gallery import START, embedded
from reidlib.deploy import Gallery, gallery
gallery._BATCH = 5
people = embedded(Path({crops!r}), 200)
made = Gallery.create({seen!r}, people)
whole, done = Gallery._add_batch, []
def some(self, *arguments):
    if len(done) == 3:
        print("ready", flush=True)
        time.sleep(600)
    done.append(whole(self, *arguments))
Gallery._add_batch = some
made.add(people, start=START)
"""
    here = os.path.dirname(__file__)
    words = {"tests": os.path.dirname(here), "here": here}
    paths = {"crops": str(tmp_path / "crops"), "seen": str(tmp_path / "seen")}
    child = subprocess.Popen(
        [sys.executable, "-c", code.format(**words, **paths)], stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
    gallery = Gallery(tmp_path / "seen")
    kept = len(gallery)
    assert kept == 15
    people = embedded(tmp_path / "crops", 200)
    assert gallery.add(people, start=START) == 200 - kept
    assert len(list((tmp_path / "seen").glob("crops/*/*"))) == 200
    assert not (tmp_path / "seen" / "adding.json").exists()


def test_crops_of_a_batch_that_was_not_added_are_removed(gallery, people):
    places = ["zz/nobody.png", rows_of(gallery)["crop"].iloc[0]]
    places[1] = os.path.relpath(places[1], gallery.folder / "crops")
    (gallery.folder / "crops/zz").mkdir()
    (gallery.folder / "crops/zz/nobody.png").write_bytes(b"x")
    (gallery.folder / "adding.json").write_text(str(places).replace("'", '"'))
    gallery.add(people, start=START)
    assert not (gallery.folder / "crops/zz/nobody.png").exists()
    assert (gallery.folder / "crops" / places[1]).exists()


def test_beyond_the_exact_size_an_index_searches(tmp_path):
    people = embedded(tmp_path / "crops", 600)
    gallery = Gallery.create(tmp_path / "seen", people, exact_up_to=256)
    gallery.add(people)
    exact = gallery.search(people.features[:20], k=10, exact=True)
    rows, _ = nearest_features(people.features[:20], people.features, 10)
    assert exact["frame"].tolist() == rows.ravel().tolist()
    quick = gallery.search(people.features[:20], k=10)
    assert (quick[quick["rank"] == 1]["frame"] == np.arange(20)).all()
    shared = [
        len(set(a["frame"]) & set(b["frame"]))
        for (_, a), (_, b) in zip(exact.groupby("query"), quick.groupby("query"))
    ]
    # Features without any order are the hardest: nearly all lists must be looked at.
    assert np.mean(shared) > 9.5
    assert gallery.info()["recall of the index"] >= 0.99
    gallery.forget(camera=1)
    assert Gallery(gallery.folder).info()["recall of the index"] >= 0.99
    assert len(gallery.search(people.features[:1], k=10)) == 10
    # A condition is met by few: the lists of the index would miss them.
    some = gallery.search(people.features[:1], k=10, cameras=[0, 2])
    rest = people.table.camids != 1
    rows, _ = nearest_features(people.features[:1], people.features[rest], 10)
    assert some["frame"].tolist() == np.flatnonzero(rest)[rows[0]].tolist()
    gallery.forget(camera=0)  # now it is small enough for an exact search
    assert gallery.info()["recall of the index"] is None


def test_what_is_no_gallery_is_said(tmp_path, people, gallery):
    with pytest.raises(ReIDError, match="there is no gallery in"):
        Gallery(tmp_path / "none")
    with pytest.raises(ReIDError, match="already holds a gallery"):
        Gallery.create(gallery.folder, people)
    (gallery.folder / "gallery.json").write_text("{")
    with pytest.raises(DamagedError, match=r"gallery\.json is damaged"):
        Gallery(gallery.folder)
    gone = embedded(tmp_path / "gone", 3)
    made = Gallery.create(tmp_path / "empty", gone)
    assert made.search(gone.features).empty
    (gone.table.root / gone.table.paths[1]).unlink()
    with pytest.raises(ReIDError, match="cannot be read"):
        made.add(gone)
    assert len(made) == 0


# Too little for the list of the crops, and too little for the rows.
@pytest.mark.parametrize("limit", [20_000, 40_000])
def test_a_full_disk_ends_an_add_and_nothing_is_lost(tmp_path, people, gallery, limit):
    more = embedded(tmp_path / "more", 400, seed=3, width=16)
    with full_disk(limit), pytest.raises(ReIDError, match="free some space"):
        gallery.add(more)
    again = Gallery(gallery.folder)
    kept = len(again)
    assert kept >= 30
    found = again.search(people.features[:3], k=1)
    assert found["frame"].tolist() == [0, 1, 2]
    assert again.add(more) == 400 - (kept - 30)
    assert len(again) == 430
    crops = [file for file in (gallery.folder / "crops").rglob("*") if file.is_file()]
    assert len(crops) == 430


def test_times_at_the_ends_of_the_calendar(gallery, people):
    query = people.features[:1]
    assert len(gallery.search(query, after=datetime(1, 1, 1, tzinfo=UTC))) == 10
    assert not len(gallery.search(query, before=datetime(900, 1, 1, tzinfo=UTC)))
    assert gallery.forget(day=date.max) == gallery.forget(day=date.min) == 0
    with pytest.raises(ReIDError, match="2026-05-01 has no time zone"):
        gallery.search(query, after=date(2026, 5, 1))


@pytest.mark.parametrize(
    "moment",
    [
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
    ],
)
def test_times_beyond_the_calendar_are_refused(gallery, people, moment):
    for use in (
        lambda: gallery.search(people.features[:1], before=moment),
        lambda: gallery.forget(before=moment),
        lambda: gallery.add(people, start=moment),
    ):
        with pytest.raises(ReIDError, match="beyond the years 1 to 9999 in UTC"):
            use()


def test_a_day_ends_before_the_next(tmp_path):
    seconds = np.array([0.0, 3599.999999, 3600.0])
    people = embedded(tmp_path / "crops", 3, time=seconds)
    gallery = Gallery.create(tmp_path / "seen", people)
    gallery.add(people, start=START)
    assert gallery.forget(day=date(2026, 5, 1)) == 2
    assert rows_of(gallery)["frame"].tolist() == [2]


@pytest.mark.parametrize("time", ["1_0", "٣", "1e300", "-1e12", "nan", "inf", " "])
def test_times_are_seconds_as_they_are_written(tmp_path, people, time):
    wrong = embedded(tmp_path / "crops", 2, time=np.array(["", time]))
    gallery = Gallery.create(tmp_path / "seen", people)
    with pytest.raises(ReIDError, match=f"time holds '{time}' in row 1; give seconds"):
        gallery.add(wrong, start=START)


def test_numbers_beyond_those_of_a_column(gallery, people, tmp_path):
    assert len(gallery.search(people.features[:1], k=2**70)) == 30
    for number in (2**63, 2**70):
        with pytest.raises(ReIDError, match=f"camera is {number}; numbers go up to"):
            gallery.search(people.features[:1], cameras=[number])
        with pytest.raises(ReIDError, match=f"camera is {number}; numbers go up to"):
            gallery.forget(camera=number)
    frames = np.array([1, 2**63 + 5], np.uint64)
    with pytest.raises(ReIDError, match=r"column frame are of type uint64 and go up"):
        gallery.add(embedded(tmp_path / "more", 2, frame=frames))


@pytest.mark.parametrize(
    "damage",
    [
        {"keep_days": "x"},
        {"keep_days": 10**300},
        {"keep_days": -5},
        {"exact_up_to": "x"},
        {"index": 5},
        {"index": {"lists": "x"}},
        {"thresholds": "x"},
        {"thresholds": {}},
        {"thresholds": {"default": None, "cameras": [], "threshold": []}},
        {"thresholds": {"default": 1, "cameras": [0, 1], "threshold": [[0.5]]}},
    ],
)
def test_a_damaged_description_is_named(gallery, damage):
    file = gallery.folder / "gallery.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
    with pytest.raises(DamagedError, match=r"gallery\.json is damaged .*; restore it"):
        Gallery(gallery.folder)


@pytest.mark.parametrize("content", ['[5, ["a"], null]', "5", '{"a": 1}', "["])
def test_a_damaged_list_of_crops_is_left_out(gallery, people, content):
    (gallery.folder / "adding.json").write_text(content)
    assert gallery.add(people, start=START) == 0
    assert len(list(gallery.folder.glob("crops/*/*"))) == 30


@pytest.mark.parametrize("leads", ["{precious}", "../../{precious.name}", "../../x", 7])
def test_no_journal_removes_what_is_no_crop(gallery, people, tmp_path, leads):
    precious = tmp_path / "precious"
    precious.write_text("x")
    place = leads.format(precious=precious) if isinstance(leads, str) else leads
    (gallery.folder / "adding.json").write_text(json.dumps([place]))
    assert gallery.add(people, start=START) == 0
    todo = {"ids": ["a"], "crops": [place]}
    (gallery.folder / "forgetting.json").write_text(json.dumps(todo))
    with pytest.raises(DamagedError, match=r"forgetting\.json is damaged"):
        gallery.forget(camera=1)
    assert precious.exists()
    assert len(gallery) == 30


def test_no_crop_stands_beside_the_features_of_another(gallery, people, tmp_path):
    file = save_embeddings(
        tmp_path / "x.npz", people.features, people.table, people.fingerprint
    )
    found = load_embeddings(file)
    assert gallery.add(found, start=START) == 0
    Image.new("RGB", (2, 4), "red").save(people.table.file(3))  # of another person
    for use in (
        lambda: gallery.add(found),
        lambda: gallery.add(found, crops=False),
        lambda: naming_page(found, tmp_path / "page.html"),
    ):
        with pytest.raises(ReIDError, match="were changed since their features were"):
            use()
    people.table.file(4).unlink()  # of features alone the images may be gone
    Gallery.create(tmp_path / "bare", found).add(found, crops=False)
