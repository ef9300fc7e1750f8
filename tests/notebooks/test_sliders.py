"""The figure with sliders: in a real browser, from a file, without JavaScript."""

from __future__ import annotations

import pytest

from figures.sliders import Measure, slider_figure


def numbers(noise: int, alpha: float) -> dict[str, list[float]]:
    return {
        "hard": [100.0 - noise, noise / 100],
        "soft & even": [100.0 - noise / 2, float("nan") if alpha else 0.25],
    }


def figure():
    return slider_figure(
        numbers,
        {
            "noise": ("Wrong labels", [0, 20, 40]),
            "alpha": ("alpha", [0.0, 0.5]),
        },
        [Measure("Accuracy", 100, "%"), Measure("Calibration error", 1, digits=3)],
        caption="What noise does </script><b>.",
        start={"noise": 20, "alpha": 0.0},
        show=lambda value: f"{value:g}",
    )


@pytest.fixture
def page(tmp_path):
    file = tmp_path / "page.html"
    body = figure().data
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{body}", "utf-8")
    return file


def test_moving_a_slider_shows_the_numbers_of_its_setting(page, browser):
    async def look(page):
        async def shown():
            texts = await page.locator("figure .live-number").all_text_contents()
            return [text.replace("\u202f", " ") for text in texts]

        async def widths():
            bars = await page.locator("figure .live-track > span").all()
            return [await bar.evaluate("bar => bar.offsetWidth") for bar in bars]

        found = [(await shown(), await widths())]
        await page.get_by_label("Wrong labels").press("ArrowRight")
        found.append((await shown(), await widths()))
        await page.get_by_label("alpha").fill("1")
        found.append((await shown(), await widths()))
        static = await page.locator(".live-static").is_visible()
        return found, static, await page.locator("figcaption").inner_text()

    found, static, caption = browser.visit(page, True, look)
    texts = [texts for texts, _ in found]
    assert texts[0] == ["80.0 %", "90.0 %", "0.200", "0.250"]
    assert texts[1] == ["60.0 %", "80.0 %", "0.400", "0.250"]
    assert texts[2] == ["60.0 %", "80.0 %", "0.400", "–"]
    before, after = found[0][1], found[1][1]
    assert after[0] / before[0] == pytest.approx(60 / 80, abs=0.02)
    assert after[2] / before[2] == pytest.approx(2, abs=0.05)
    assert found[2][1][3] == 0
    assert not static
    assert caption == "What noise does </script><b>."


def test_without_javascript_the_table_is_shown(page, browser):
    async def look(page):
        return await page.locator(".live-static").inner_text()

    text = browser.visit(page, False, look)
    assert "Wrong labels: 20, alpha: 0" in text
    assert "80.0 %" in text
    assert "soft & even" in text


def test_figures_that_cannot_be_drawn_are_refused():
    one = {"noise": ("Noise", [0, 1])}
    measures = [Measure("Accuracy", 100)]
    with pytest.raises(ValueError, match="noise starts at 2"):
        slider_figure(
            lambda noise: {"a": [1]}, one, measures, caption="", start={"noise": 2}
        )
    with pytest.raises(ValueError, match="categories differ"):
        slider_figure(
            lambda noise: {str(noise): [1]},
            one,
            measures,
            caption="",
            start={"noise": 0},
        )
    with pytest.raises(ValueError, match="needs 1 numbers"):
        slider_figure(
            lambda noise: {"a": [1, 2]}, one, measures, caption="", start={"noise": 0}
        )


def test_the_table_has_a_dash_where_a_figure_is_not_defined():
    shown = slider_figure(
        lambda noise: {"a": [float("nan")]},
        {"noise": ("Noise", [0])},
        [Measure("Accuracy", 100, "%")],
        caption="",
        start={"noise": 0},
    )
    assert "<td>–</td>" in shown.data
