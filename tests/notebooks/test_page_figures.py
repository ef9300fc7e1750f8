"""Figures of the chapters that a reader can work with: in a browser, from a file.

Each is opened with JavaScript, and once without: then its static form must be there.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pytest
import torch

from figures.alignment import PASSING, make_toy, play
from figures.circle import circle_figure, losses_and_pulls
from figures.film import film_figure
from figures.memories import on_circle, query_memory
from figures.page import page_figure
from figures.precision import precision_figure
from figures.radius import radius_figure
from figures.resorting import fusion_figure
from figures.stepper import stepper_figure
from figures.threshold import threshold_figure
from reidlib.clustering import (
    cluster_quality,
    cluster_within_cameras,
    dbscan,
    jaccard_distance,
)
from reidlib.data import ImageTable, read_image
from reidlib.evaluation import (
    evaluate,
    expected_alarms,
    pair_distances,
    rates_by_cameras,
    top_matches,
)
from reidlib.labels import PIVOT_RULES, pivot_scores, refine_labels, select_pivots


@pytest.fixture(scope="module")
def city(tiny):
    return tiny


def features_of(table: ImageTable, every: int = 1) -> torch.Tensor:
    """Colours of the images, coarse: real features that need no network."""
    rows = [
        read_image(table.file(i), (8, 4)).astype("f4").ravel()
        for i in range(0, len(table), every)
    ]
    return torch.nn.functional.normalize(
        torch.from_numpy(np.stack(rows) - np.mean(rows, axis=0)), dim=1
    )


@pytest.fixture(scope="module")
def searched(city):
    return features_of(city.query), features_of(city.gallery)


@pytest.fixture
def see(browser, tmp_path):
    """What a look at a page finds that holds nothing but a figure."""

    def see(figure, look, javascript: bool = True):
        file = tmp_path / "page.html"
        head = "<!doctype html><meta charset=utf-8>"
        head += "<meta name=viewport content='width=device-width'>"
        file.write_text(f"{head}<body>{figure.data}", encoding="utf-8")
        return browser.visit(file, javascript, look)

    return see


async def text_of(page) -> str:
    return await page.locator("figure").inner_text()


async def numbers_of(page) -> list[str]:
    """The texts behind the bars."""
    return await page.locator(".live-number").all_inner_texts()


def is_small(figure) -> bool:
    return len(figure.data.encode()) < 165_000  # 150 kB, and the scripts


def percent(share: float, digits: int) -> str:
    """The share as a browser writes it, which rounds a half up."""
    step = Decimal(1).scaleb(-digits)
    return f"{(100 * Decimal(repr(float(share)))).quantize(step, ROUND_HALF_UP)}\u202f%"


# --- what they share ---


def test_numbers_stay_inside_of_the_page_and_out_of_its_markup():
    figure = page_figure("sliders", {"controls": []}, "<p>static</p>", "A </script><b>")
    assert figure.data.count("</script>") == 2
    with pytest.raises(ValueError, match="JSON"):
        page_figure("sliders", {"a": float("nan")}, "", "")


def test_on_a_telephone_in_the_dark_and_in_print(precision, circle, see):
    async def look(page):
        await page.set_viewport_size({"width": 390, "height": 700})
        wide = await page.evaluate("document.documentElement.scrollWidth")
        await page.add_style_tag(content="body { background: #14181e; color: #ced6dd }")
        # Ink is that of the page around the figure.
        inks = await page.evaluate(
            "[...document.querySelectorAll('.live-button, .live-told, text')]"
            ".map(one => getComputedStyle(one).color)"
        )
        sizes = await page.evaluate(
            "[...document.querySelectorAll('.live-live *')]"
            ".filter(one => one.childNodes.length && one.getClientRects().length)"
            ".map(one => parseFloat(getComputedStyle(one).fontSize))"
        )
        live = page.locator(".live-live"), page.locator(".live-static")
        seen = [await part.is_visible() for part in live]
        await page.emulate_media(media="print")
        printed = [await part.is_visible() for part in live]
        return wide, set(inks), min(sizes), seen, printed

    for figure in (precision, circle):
        wide, inks, smallest, seen, printed = see(figure, look)
        assert wide == 390
        assert inks == {"rgb(206, 214, 221)"}
        assert smallest >= 12
        assert seen == [True, False]
        assert printed == [False, True]


# --- average precision by clicking ---


@pytest.fixture(scope="module")
def precision(searched, city):
    return precision_figure(*searched, city, 3, caption="Early hits count.")


def score(hits: list[bool]):
    """What the library says of a ranking with these hits."""
    angle = np.linspace(0.1, 1, len(hits))
    found = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    paths = tuple(str(i) for i in range(len(hits)))
    pids, camids = np.where(hits, 7, 3), np.ones(len(hits), int)
    return evaluate(
        torch.tensor([[1.0, 0.0]]),
        torch.from_numpy(found).float(),
        ImageTable(Path(), ("query",), [7], [0]),
        ImageTable(Path(), paths, pids, camids),
    )


def test_clicked_hits_have_the_average_precision_of_the_library(precision, see):
    tries = [1, 2], [0], [11], [0, 3, 4, 10]

    async def look(page):
        found = []
        for clicked in tries:
            await page.get_by_text("Clear").click()
            for place in clicked:
                # From the keyboard, as a click needs no test of ours.
                await page.locator(".precision-place button").nth(place).press("Space")
            found.append(await page.locator(".live-told").all_inner_texts())
        return found

    found = see(precision, look)
    for clicked, (_, formula, others) in zip(tries, found, strict=True):
        expected = score([place in clicked for place in range(12)])
        assert formula.endswith(f"= {expected.mAP:.3f}")
        assert f"Rank-1 = {expected.cmc[1]:.0f}" in others
        assert others.endswith(f"{expected.mINP:.3f}")


def test_the_right_answer_is_that_of_the_ranking(precision, see, searched, city):
    async def look(page):
        buttons = page.locator(".precision-place button")
        named = [await b.get_attribute("aria-label") for b in await buttons.all()]
        await page.get_by_text("Show the right answer").click()
        states = [await b.get_attribute("aria-pressed") for b in await buttons.all()]
        scores = [(await page.locator(".precision-ap").inner_text())[-5:]]
        for name in ("Same hits, all first", "Same hits, all last"):
            await page.get_by_text(name).click()
            scores.append((await page.locator(".precision-ap").inner_text())[-5:])
        return named, states, scores

    named, states, scores = see(precision, look)
    static = see(precision, text_of, javascript=False)
    assert len(set(named)) == 12
    hits = [state == "true" for state in states]
    assert 0 < sum(hits) < 12
    rankings = hits, sorted(hits, reverse=True), sorted(hits)
    assert scores == [f"{score(ranking).mAP:.3f}" for ranking in rankings]
    assert scores[1] == "1.000"
    assert f"AP = {scores[0]}" in static
    assert is_small(precision)


# --- a query on a circle ---


@pytest.fixture(scope="module")
def circle():
    return circle_figure(
        (20, 45), (0.05, 1.0), (40, 45, 0.05), [(-40, 45, 0.05)], caption="One end."
    )


def test_a_query_has_the_losses_of_the_memory_wherever_it_is(circle, see):
    async def look(page):
        found = [await numbers_of(page)]
        for label, key in (("Query", "Home"), ("Temperature", "End")):
            await page.get_by_role("slider", name=label).press(key)
            found.append(await numbers_of(page))
        await page.get_by_role("slider", name="Spread").press("ArrowLeft")
        found.append(await numbers_of(page))
        return found, await page.locator(".live-spoken").text_content()

    found, spoken = see(circle, look)
    settings = (40, 45, 0.05), (-70, 45, 0.05), (-70, 45, 1.0), (-70, 20, 1.0)
    for texts, (query, spread, temperature) in zip(found, settings, strict=True):
        memory = query_memory(spread, temperature)
        at = memory.losses(on_circle([float(query)]), torch.tensor([0]))
        expected = [float(at.mean), float(at.hard)]
        assert [float(text) for text in texts] == pytest.approx(expected, abs=0.006)
    assert spoken == f"mean contrast {found[-1][0]}, hard contrast {found[-1][1]}"
    static = see(circle, text_of, javascript=False)
    assert "query -40°, spread 45°, temperature 0.05" in static
    assert is_small(circle)


def test_a_pull_is_the_slope_of_the_loss():
    _, pulls = losses_and_pulls([30.0], 45, 0.2)
    losses, _ = losses_and_pulls([29.0, 31.0], 45, 0.2)
    for (pull,), (before, after) in zip(pulls, losses, strict=True):
        assert pull == pytest.approx((before - after) / np.radians(2), abs=0.06)


# --- refinement pivot by pivot ---


@pytest.fixture(scope="module")
def grouped(city):
    features = features_of(city.train)
    clusters = dbscan(jaccard_distance(features, k1=15, k2=4), 0.6)
    pids, camids = map(torch.from_numpy, (city.train.pids, city.train.camids))
    local = cluster_within_cameras(features, camids)
    return clusters, local, pivot_scores(features, 15, 0.0), pids, camids


def test_each_pivot_leaves_what_the_library_leaves(grouped, city, see):
    clusters, local, scores, pids, camids = grouped
    sizes = torch.bincount(clusters[clusters >= 0])
    fits = torch.where(sizes <= 24, sizes, 0)
    cluster = int(fits.argmax())
    pictures = [read_image(city.train.file(i), (32, 16)) for i in range(len(clusters))]
    named = {"one": cluster, "another": int(fits.argsort()[-2])}
    figure = stepper_figure(pictures, named, *grouped, caption="Pivots disagree.")

    async def look(page):
        found = []
        for rule in PIVOT_RULES:
            await page.get_by_label(rule, exact=True).check()
            back = page.get_by_text("Back")
            assert await back.is_disabled()
            forward, steps = page.get_by_text("Next pivot"), 0
            while await forward.is_enabled():
                await forward.click()
                steps += 1
            gone = await page.locator(".stepper-gone").count()
            found.append((steps, gone, await numbers_of(page)))
            assert await back.is_enabled()
        text = await page.locator(".stepper-told").inner_text()
        assert await page.locator(".stepper-person").count() == 0
        await page.get_by_text("Show who it is").press("Enter")
        people = await page.locator(".stepper-person").all_inner_texts()
        return found, text, people

    found, text, people = see(figure, look)
    members = clusters == cluster
    assert sorted(people) == sorted(f"id {pid}" for pid in pids[members].tolist())
    lost = 0
    for rule, (steps, gone, numbers) in zip(PIVOT_RULES, found, strict=True):
        pivots = select_pivots(scores, clusters, camids, rule)
        pivots = pivots[members[pivots]]
        refined = refine_labels(clusters, local, camids, pivots)
        out = refined.discarded[members]
        # A pivot that another one discarded keeps its own frame while it judges.
        assert steps == len(pivots)
        assert gone in (int(out.sum()), int(out.sum()) - 1)
        lost += int(out.sum())
        left = torch.where(out, -1, 0)
        quality = cluster_quality(left, pids[members], camids[members])
        shares = quality.pairwise_precision, quality.pairwise_recall
        for number, share in zip(numbers, shares, strict=True):
            if np.isnan(share):
                assert number == "–"
            else:  # rounded twice
                assert float(number) == pytest.approx(share, abs=0.0056)
    assert lost > 0
    assert f" of {int(members.sum())} are left." in text
    static = see(figure, text_of, javascript=False)
    assert "another, ordered" in static
    assert is_small(figure)


# --- alpha sorts a ranking again ---


def test_alpha_sorts_a_ranking_as_the_library_does(searched, city, see):
    query, gallery = searched
    cut = query.shape[1] // 2
    alphas, rows = (0.0, 0.5, 1.0), {"first": 3, "second": 90}

    def features_at(alpha):
        weight = torch.ones(query.shape[1])
        weight[:cut], weight[cut:] = 1 - alpha, alpha
        return (
            torch.nn.functional.normalize(x * weight, dim=1) for x in (query, gallery)
        )

    ap = np.stack(
        [evaluate(*features_at(a), city.query, city.gallery).ap for a in alphas]
    )
    figure = fusion_figure(
        features_at, alphas, ap, rows, city, start=0.5, caption="Alpha sorts."
    )

    async def look(page):
        await page.get_by_label("second").check()
        found = []
        for key in ("Home", "ArrowRight", "ArrowRight"):
            await page.get_by_role("slider", name="Weight").press(key)
            marks = await page.locator(".stepper-cell span:nth-child(2)").all()
            texts = [await mark.inner_text() for mark in marks]
            moves = await page.locator(".stepper-cell span:nth-child(3)").all()
            was = [await move.inner_text() for move in moves]
            found.append((texts, was, await numbers_of(page)))
        return found

    found = see(figure, look)
    first = None
    for alpha, scores, (texts, was, numbers) in zip(alphas, ap, found, strict=True):
        q, g = features_at(alpha)
        one = city.query[[90]]
        nearest, hits = top_matches(q[[90]], g, one, city.gallery, k=10)
        first = nearest[0].tolist() if first is None else first
        expected = [f"{'✓' if hit else '✗'} {i}" for i, hit in enumerate(hits[0], 1)]
        assert texts == expected
        places = [first.index(i) + 1 if i in first else 0 for i in nearest[0]]
        assert was == [f"was {place}" if place else "new" for place in places]
        # Both are rounded twice.
        shown = [float(number.split("\u202f")[0]) for number in numbers]
        assert shown == pytest.approx([100 * scores[90], 100 * scores.mean()], abs=0.06)
    assert found[0][1] != found[2][1]
    static = see(figure, text_of, javascript=False)
    assert f"{100 * ap[1].mean():.1f}" in static
    assert is_small(figure)


# --- a threshold, camera pairs and alarms ---


def test_a_threshold_has_the_rates_and_alarms_of_the_library(searched, city, see):
    pairs = {
        "coarse": pair_distances(*searched, city.query, city.gallery),
        "coarser": pair_distances(
            *(torch.nn.functional.normalize(x[:, ::5], dim=1) for x in searched),
            city.query,
            city.gallery,
        ),
    }
    thresholds = [0.2, 0.4, 0.6]
    figure = threshold_figure(
        pairs, thresholds, ("coarser", 0.4), caption="Many rates."
    )

    async def look(page):
        found = []
        for model in pairs:
            await page.get_by_label(model, exact=True).check()
            await page.get_by_role("slider", name="Threshold").press("End")
            cells = await page.locator(".threshold-grid td").all_inner_texts()
            told = await page.locator(".threshold-alarms").inner_text()
            found.append((await numbers_of(page), cells, told))
        await page.get_by_label("100,000").check()
        return found, await page.locator(".threshold-alarms").inner_text()

    found, many = see(figure, look)
    for table, (numbers, cells, told) in zip(pairs.values(), found, strict=True):
        fpr = (table.negatives <= 0.6).mean()
        tpr = (table.positives <= 0.6).mean()
        assert numbers == [percent(x, 2 if x < 0.0995 else 0) for x in (fpr, tpr)]
        rates = rates_by_cameras(table, 0.6).fpr
        inside = rates[np.tril_indices(6)]
        assert [float(cell) for cell in cells] == pytest.approx(100 * inside, abs=0.51)
        alarms = expected_alarms(fpr, tpr, 10_000, 4)
        said = [float(x) for x in told.replace(":", ".").split() if _is_decimal(x)]
        assert said[0] == pytest.approx(alarms.false, abs=0.06)
        assert said[1] == pytest.approx(alarms.true, abs=0.06)
        assert f"{100 * alarms.precision:.0f} of 100" in told
    assert many.startswith("An hour with 100,000 images")
    static = see(figure, text_of, javascript=False)
    assert "threshold 0.40" in static
    assert is_small(figure)


def _is_decimal(text: str) -> bool:
    whole, _, part = text.partition(".")
    return whole.isdigit() and part.isdigit()


# --- radius and neighbourhood ---


def test_radius_and_neighbourhood_give_the_clusters_of_the_library(city, see):
    table = city.train
    features = features_of(table)
    pixels = [read_image(table.file(i), (16, 8)) for i in range(len(table))]
    radii = [0.4, 0.5, 0.6]
    figure = radius_figure(
        features, table, pixels, [8, 15], radii, (15, 0.5), caption="F peaks."
    )

    async def look(page):
        async def shown():
            told = await page.locator(".radius-told").inner_text()
            rows = []
            for row in await page.locator(".radius-row").all():
                cells = row.locator("[role=img]")
                rows.append(
                    await cells.evaluate_all("all => all.map(x => x.ariaLabel)")
                )
            return told, await numbers_of(page), rows

        found = [await shown()]
        await page.get_by_role("slider", name="Radius").press("ArrowRight")
        found.append(await shown())
        await page.get_by_role("slider", name="Neighbours").press("ArrowLeft")
        found.append(await shown())
        return found

    found = see(figure, look)
    settings = (15, 0.5), (15, 0.6), (8, 0.6)
    for (told, numbers, rows), (k1, eps) in zip(found, settings, strict=True):
        labels = dbscan(jaccard_distance(features, k1=k1, k2=4), eps)
        quality = cluster_quality(labels, table.pids, table.camids)
        assert told.startswith(f"{quality.clusters} clusters")
        shares = quality.pairwise_precision, quality.pairwise_recall, quality.pairwise_f
        assert [float(x) for x in numbers] == pytest.approx(shares, abs=0.0056)
        largest = int(labels[labels >= 0].bincount().argmax())
        members = np.flatnonzero(labels.numpy() == largest)
        own = {f"person {table.pids[i]}, camera {table.camids[i]}" for i in members}
        assert set(rows[0]) <= own
        assert len(rows[0]) == min(12, len(members))
    static = see(figure, text_of, javascript=False)
    assert "eps, at k1 = 15" in static
    assert is_small(figure)


# --- the film of a game ---


def test_the_film_shows_the_steps_of_the_game(see):
    figure = film_figure((0.0, 3.0), ("two and two", 0.0), caption="A game.", frames=3)

    async def look(page):
        places = "svg.film-plane path"
        await page.get_by_role("slider", name="Strength").press("End")
        await page.get_by_role("slider", name="Step").press("ArrowRight")
        found = [await numbers_of(page)]
        drawn = await page.locator(places).evaluate_all(
            "all => all.map(x => x.getAttribute('transform'))"
        )
        await page.get_by_text("Play").press("Enter")
        await page.get_by_text("Stop").wait_for()
        await page.get_by_text("Play").wait_for()  # it stops at its end
        found.append(await numbers_of(page))
        return found, drawn, await page.get_by_role("slider", name="Step").input_value()

    found, drawn, last = see(figure, look)
    film = play("two and two", 3.0)
    for numbers, step in zip(found, (100, 200), strict=True):
        assert numbers[0] == percent(round(film[step][1], 3), 0)
    assert last == "2"
    # Points are where the encoder put them, on one scale.
    places = np.array([[float(x) for x in t[10:-1].split(",")] for t in drawn])
    features = film[100][0].numpy()
    scale = 148 / np.abs(features).max()
    centred = (places - 160) * [1, -1]
    assert np.abs(centred - scale * features).max() < 2
    assert len(places) == len(make_toy("two and two")[0])
    static = see(figure, text_of, javascript=False)
    assert all(f"{passing}, λ = 3" in static for passing in PASSING)
    assert is_small(figure)
