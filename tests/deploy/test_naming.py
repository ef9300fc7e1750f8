"""The page on which people are named: in a real browser, up to a score."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from reidlib.cli import main
from reidlib.data import open_dataset
from reidlib.data.table import ImageTable
from reidlib.deploy import Embeddings, naming, naming_page, save_embeddings
from reidlib.errors import ReIDError
from reidlib.evaluation import evaluate, nearest_features


def embedded(folder, people=6, cameras=3, *, noise=0.3, seed=0):
    """Features of each person under each camera, with image files of odd names."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(people), cameras)
    camids = np.tile(np.arange(cameras), people)
    features = rng.normal(size=(people, 8))[pids]
    features += noise * rng.normal(size=features.shape)
    folder.mkdir(exist_ok=True)
    names = [f'a, "b" <{n}>.png' for n in range(len(pids))]
    for number, name in enumerate(names):
        Image.new("RGB", (4, 8), (10 * number % 256, 0, 200)).save(folder / name)
    table = ImageTable(
        folder,
        tuple(names),
        np.full(len(pids), -2),
        camids,
    )
    features = torch.nn.functional.normalize(torch.from_numpy(features).float())
    return Embeddings(features, table, "f" * 64), pids


def content(file):
    text = file.read_text("utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def test_each_question_shows_the_nearest_of_other_cameras_of_every_network(tmp_path):
    (one, _), (two, _) = (embedded(tmp_path / "crops", seed=s) for s in (0, 1))
    file = naming_page([one, two], tmp_path / "name.html", people=9, candidates=8)
    found, table = content(file), one.table
    rows = [table.paths.index(image["path"]) for image in found["images"]]
    cameras = [image["camera"] for image in found["images"]]
    assert cameras == (table.camids[rows] + 1).tolist()  # as in index.csv
    assert len(found["questions"]) == 9
    asked = [rows[question["query"]] for question in found["questions"]]
    assert np.bincount(table.camids[asked]).tolist() == [3, 3, 3]
    for row, question in zip(asked, found["questions"], strict=True):
        others = np.flatnonzero(table.camids != table.camids[row])
        wanted = set()
        for features in (one.features, two.features):
            near = nearest_features(features[[row]], features[others], 4)[0][0]
            wanted |= set(others[near].tolist())
        assert {rows[image] for image in question["candidates"]} == wanted
    again = naming_page([one, two], tmp_path / "b.html", people=9, candidates=8)
    assert again.read_bytes() == file.read_bytes()


def test_the_pictures_are_the_crops(tmp_path):
    one, _ = embedded(tmp_path / "crops", people=2)
    found = content(naming_page(one, tmp_path / "name.html"))
    for image in found["images"]:
        head, picture = image["picture"].split(",")
        assert head == "data:image/jpeg;base64"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
        with Image.open(one.table.root / image["path"]) as stored:
            colour = np.asarray(stored)[0, 0].astype(int)
        assert shown.shape == (192, 96, 3)
        assert np.abs(shown.mean(axis=(0, 1)) - colour).max() < 4


def answer(browser, file, pids, names, *, leave_out=(), only=None):
    """Answer all questions by the truth, in a browser, and return the saved file."""
    found = content(file)
    truth = [pids[names.index(image["path"])] for image in found["images"]]

    async def look(page):
        for number, question in enumerate(found["questions"]):
            if only is not None and number not in only:
                continue
            section = page.locator("section").nth(number)
            if number in leave_out:
                await section.get_by_text("leave it out").click()
                continue
            tiles = section.locator(".tiles button")
            for place, image in enumerate(question["candidates"]):
                if truth[image] == truth[question["query"]]:
                    await tiles.nth(place).focus()
                    await page.keyboard.press("Enter")
            await section.get_by_role("button", name="Done").click()
        told = await page.locator("#progress").text_content()
        async with page.expect_download() as waiting:
            await page.locator("#save").click()
        saved = await (await waiting.value).path()
        return told, saved.read_text("utf-8")

    return browser.visit(file, True, look)


def test_what_a_person_marks_becomes_a_data_set_with_the_right_score(browser, tmp_path):
    one, pids = embedded(tmp_path / "crops", noise=0.8)
    # Enough candidates to show every image of another camera: the score is exact.
    file = naming_page(one, tmp_path / "name.html", people=18, candidates=20)
    names = list(one.table.paths)
    told, text = answer(browser, file, pids, names)
    assert told == "18 of 18 done."
    named = tmp_path / "crops" / "named.csv"
    named.write_text(text, "utf-8")
    dataset = open_dataset("csv", named)
    assert len(dataset.query) == len(dataset.gallery) == 18
    order = [names.index(path) for path in dataset.query.paths]
    # One number for each person, whatever it is.
    pairs = set(zip(dataset.query.pids.tolist(), pids[order].tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) == 6
    assert (dataset.query.camids == one.table.camids[order]).all()
    theirs = [names.index(path) for path in dataset.gallery.paths]
    score = evaluate(
        one.features[order],
        one.features[theirs],
        dataset.query,
        dataset.gallery,
        other_cameras=True,
    )
    table = ImageTable(one.table.root, one.table.paths, pids + 1, one.table.camids)
    wanted = evaluate(one.features, one.features, table, table, other_cameras=True)
    assert score.mAP == pytest.approx(wanted.mAP)
    assert 0.3 < score.mAP < 0.99


def test_crops_that_nobody_marked_are_somebody_else(browser, tmp_path):
    one, pids = embedded(tmp_path / "crops")
    file = naming_page(one, tmp_path / "name.html", people=4, candidates=20)
    names = list(one.table.paths)
    told, text = answer(browser, file, pids, names, leave_out=(1,), only=(0, 1))
    assert told == "2 of 4 done."
    (tmp_path / "crops" / "named.csv").write_text(text, "utf-8")
    dataset = open_dataset("csv", tmp_path / "crops" / "named.csv")
    question, refused = content(file)["questions"][:2]
    paths = [image["path"] for image in content(file)["images"]]
    assert dataset.query.paths == (paths[question["query"]],)
    person = pids[names.index(paths[question["query"]])]
    for path, pid in zip(dataset.gallery.paths, dataset.gallery.pids, strict=True):
        assert (pid > 0) == (pids[names.index(path)] == person)
        assert path != paths[refused["query"]]  # it shows no person


def test_who_is_marked_but_shows_no_single_person_joins_nobody(browser, tmp_path):
    one, pids = embedded(tmp_path / "crops", people=2, cameras=3)
    file = naming_page(one, tmp_path / "name.html", people=6, candidates=9)
    found = content(file)
    questions, paths = found["questions"], [i["path"] for i in found["images"]]
    truth = [pids[one.table.paths.index(path)] for path in paths]
    first = questions[0]
    bad = next(c for c in first["candidates"] if truth[c] == truth[first["query"]])

    async def look(page):
        for number, question in enumerate(questions):
            section = page.locator("section").nth(number)
            if question["query"] == bad:  # a crop that shows two people
                await section.get_by_text("leave it out").click()
                continue
            if bad in question["candidates"]:  # and both were marked on it
                place = question["candidates"].index(bad)
                await section.locator(".tiles button").nth(place).click()
            await section.get_by_role("button", name="Done").click()
        async with page.expect_download() as waiting:
            await page.locator("#save").click()
        saved = await (await waiting.value).path()
        return paths[bad], saved.read_text("utf-8")

    bad_path, text = browser.visit(file, True, look)
    named = tmp_path / "crops" / "named.csv"
    named.write_text(text, "utf-8")
    dataset = open_dataset("csv", named)
    assert bad_path not in {*dataset.query.paths, *dataset.gallery.paths}
    assert len(set(dataset.query.pids.tolist())) == len(dataset.query) == 5


def test_answers_that_contradict_each_other_are_said(browser, tmp_path):
    one, pids = embedded(tmp_path / "crops", people=2, cameras=3)
    file = naming_page(one, tmp_path / "name.html", people=6, candidates=9)
    found = content(file)
    questions = found["questions"]
    truth = [pids[one.table.paths.index(i["path"])] for i in found["images"]]
    same = [n for n, q in enumerate(questions) if truth[q["query"]] == truth[0]]

    async def look(page):
        told = []
        assert await page.locator("#save").is_disabled()
        for number in same:
            section, question = page.locator("section").nth(number), questions[number]
            for place, image in enumerate(question["candidates"]):
                # Of its two others the first question leaves one out.
                if truth[image] == truth[0] and not (number == same[0] and told):
                    await section.locator(".tiles button").nth(place).click()
                    told += [await page.locator("#progress").text_content()]
            await section.get_by_role("button", name="Done").click()
        assert await page.locator("#save").is_enabled()
        return told[0], await page.locator("#progress").text_content()

    first, last = browser.visit(file, True, look)
    assert first == "0 of 6 done. 1 with marks and without “Done”."
    assert f"Look again at {same[0] + 1}: other answers say" in last


def test_marks_survive_a_page_that_is_closed(browser, tmp_path):
    one, _ = embedded(tmp_path / "crops")
    file = naming_page(one, tmp_path / "name.html", people=3, candidates=4)

    async def look(page):
        await page.locator(".tiles button").first.click()
        await page.get_by_role("button", name="Done").first.click()
        await page.reload()
        pressed = page.locator(".tiles button[aria-pressed=true]")
        return await pressed.count(), await page.locator("#progress").text_content()

    assert browser.visit(file, True, look) == (1, "1 of 3 done.")


def test_what_cannot_be_asked_is_refused(tmp_path, monkeypatch):
    one, _ = embedded(tmp_path / "crops")
    other, _ = embedded(tmp_path / "others")
    with pytest.raises(ReIDError, match="are of different images"):
        naming_page([one, other], tmp_path / "name.html")
    single, _ = embedded(tmp_path / "one", cameras=1)
    one_each = np.ones(len(one.table), np.int64)
    nameless = ImageTable(one.table.root, one.table.paths, one.table.pids, -one_each)
    for found in (single, Embeddings(one.features, nameless, one.fingerprint)):
        with pytest.raises(ReIDError, match="each crop needs a camera"):
            naming_page(found, tmp_path / "name.html")
    with pytest.raises(ReIDError, match=r"does not end in \.html"):
        naming_page(one, tmp_path / "name.txt")
    monkeypatch.setattr(naming, "_MOST", 3)
    with pytest.raises(ReIDError, match="18 crops are more than a browser shows"):
        naming_page(one, tmp_path / "name.html")
    monkeypatch.undo()
    with pytest.raises(ReIDError, match="cannot write"):
        naming_page(one, tmp_path / "no" / "where" / "name.html")
    with pytest.raises(ReIDError, match="no features"):
        naming_page([], tmp_path / "name.html")
    for seed in (-1, 1.5, "x", None):
        with pytest.raises(ReIDError, match=r"seed is .*; give a whole number from 0"):
            naming_page(one, tmp_path / "name.html", seed=seed)


def test_the_command_writes_the_page_and_says_what_comes_next(tmp_path, capsys):
    one, _ = embedded(tmp_path / "crops")
    for name in ("before.npz", "after.npz"):
        save_embeddings(tmp_path / name, one.features, one.table, one.fingerprint)
    words = [str(tmp_path / name) for name in ("before.npz", "after.npz")]
    page = tmp_path / "name.html"
    command = ["name", *words, "--out", str(page), "--people", "4", "--quiet"]
    assert main([*command, "--candidates", "6"]) == 0
    assert len(content(page)["questions"]) == 4
    told = capsys.readouterr().out
    assert str(tmp_path / "crops" / "named.csv") in told
    assert "--other-cameras" in told
    assert main(["name", words[0], "--out", str(tmp_path / "name.txt")]) == 2
    assert "does not end in .html" in capsys.readouterr().err
