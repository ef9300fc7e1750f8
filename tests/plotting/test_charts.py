"""Charts: the numbers, names and colours behind the artists."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb

from reidlib.errors import ReIDError
from reidlib.evaluation import trade_off
from reidlib.plotting import (
    COLOURS,
    MARKERS,
    plot_bars,
    plot_cmc,
    plot_curves,
    plot_distributions,
    plot_embedding,
    plot_trade_off,
)
from reidlib.plotting.style import INK, PAPER, QUIET


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in to_rgb(colour)]  # fmt: skip
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one: str, other: str) -> float:
    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def legend(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_style_is_opaque_and_its_text_and_colours_stand_out_on_it():
    assert mpl.rcParams["figure.facecolor"] == PAPER
    assert mpl.rcParams["savefig.facecolor"] == PAPER
    assert contrast(INK, PAPER) > 7
    # Graphical objects: sky and orange are the lightest of the palette.
    assert min(contrast(colour, PAPER) for colour in COLOURS) > 1.9
    assert len(set(COLOURS)) == len(set(MARKERS)) == len(COLOURS) == len(MARKERS)


def test_cmc_is_drawn_in_percent_over_sorted_ranks():
    ax = plot_cmc({"direct": {5: 0.5, 1: 0.25}, "trained": {1: 0.5, 5: 1.0}})
    assert ax.lines[0].get_xdata().tolist() == [1, 5]
    assert ax.lines[0].get_ydata().tolist() == [25, 50]
    assert ax.lines[1].get_ydata().tolist() == [50, 100]
    assert legend(ax) == ["direct", "trained"]
    assert len({line.get_marker() for line in ax.lines}) == 2


def test_embedding_gives_each_class_its_points_colour_and_marker():
    points = np.arange(12.0).reshape(6, 2)
    by = torch.tensor([3, 1, 3, 1, 2, 3])
    ax = plot_embedding(torch.from_numpy(points).bfloat16(), by, name="cam")
    assert legend(ax) == ["cam 1", "cam 2", "cam 3"]
    for i, value in enumerate([1, 2, 3]):
        dots = ax.collections[i]
        assert (dots.get_offsets() == points[by.numpy() == value]).all()
        assert to_hex(dots.get_facecolor()[0]).upper() == COLOURS[i]


def test_embedding_greys_out_the_classes_that_are_not_asked_for():
    points, by = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 20
    ax = plot_embedding(points, by, only=[4, 2], name="id")
    assert legend(ax) == ["others", "id 4", "id 2"]
    assert [len(dots.get_offsets()) for dots in ax.collections] == [36, 2, 2]
    assert to_hex(ax.collections[0].get_facecolor()[0]).upper() == QUIET
    with pytest.raises(ReIDError, match="20 classes for 8 colours"):
        plot_embedding(points, by)


def test_bars_are_means_with_the_sample_deviation_of_the_seeds():
    ax = plot_bars(
        {
            "Rank-1": {"direct": [30.0], "baseline": [60.0, 66.0, 63.0]},
            "mAP": {"baseline": torch.tensor([40.0, 44.0])},
        },
        level=1.5,
    )
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
    assert heights == [[30], [63, 42]]
    written = {text.get_text(): text.xy for text in ax.texts}
    assert list(written) == ["30.0", "63.0 ± 3.0", "42.0 ± 2.8"]
    assert written["63.0 ± 3.0"][1] == pytest.approx(66)
    # A number stands over its own bar.
    bar = ax.containers[1][1]
    middle = bar.get_x() + bar.get_width() / 2
    assert written["42.0 ± 2.8"][0] == pytest.approx(middle)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Rank-1", "mAP"]
    assert legend(ax) == ["direct", "baseline", "chance"]
    assert set(ax.lines[-1].get_ydata()) == {1.5}


def test_distributions_have_common_bins_area_one_and_their_median():
    generator = np.random.default_rng(0)
    same, other = generator.normal(1, 1, 501), generator.normal(-1, 1, 5001)
    ax = plot_distributions({"same": same, "other": other}, xlabel="cosine", bins=20)
    assert legend(ax) == ["same (501)", "other (5,001)"]
    for patch, line, values in zip(ax.patches, ax.lines, (same, other)):
        x, y = patch.get_xy().T
        # Shoelace formula: the polygon's area is the histogram's.
        area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
        assert area == pytest.approx(1)
        assert line.get_xdata()[0] == np.median(values)
    one, two = (set(patch.get_xy()[:, 0]) for patch in ax.patches)
    assert one == two
    assert len(one) == 21


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_cmc({}), "curves: got none"),
        (lambda: plot_cmc({"a": {}}), "at least one value"),
        (lambda: plot_cmc({"a": {1: 33.9}}), "not percent"),
        (lambda: plot_embedding(np.zeros((3, 3)), [0, 0, 0]), r"\(N, 2\)"),
        (lambda: plot_embedding(np.zeros((3, 2)), [0, 0]), r"\(N, 2\)"),
        (lambda: plot_embedding([[0.0, np.nan]], [0]), "not finite"),
        (lambda: plot_bars({}), "values: got none"),
        (lambda: plot_bars({"mAP": {"a": [np.nan]}}), "not finite"),
        (lambda: plot_bars({"m": {str(i): [1.0] for i in range(9)}}), "9 series"),
        (lambda: plot_distributions({}, xlabel="x"), "from 1 to 8"),
        (lambda: plot_distributions({"a": []}, xlabel="x"), "at least one value"),
    ],
)
def test_what_cannot_be_drawn_is_named_in_one_line(call, message):
    with pytest.raises(ReIDError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_each_curve_is_a_line_with_its_name_colour_and_marker():
    curves = {"Rank-1": [1.0, 3.0, 2.0], "camera": [9.0, 8.0, 7.0]}
    ax = plot_curves(["stem", "2", "3"], curves, xlabel="stage", ylabel="%")
    assert [line.get_ydata().tolist() for line in ax.lines] == list(curves.values())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(curves)
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == 2
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("stage", "%")


def test_one_curve_needs_no_legend():
    ax = plot_curves([1, 2], {"mAP": [0.0, 1.0]}, xlabel="p", ylabel="mAP")
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "got 0"),
        ({f"{i}": [1.0, 2.0] for i in range(9)}, "got 9"),
        ({"a": [1.0]}, "2 places"),
        ({"a": [1.0, np.nan]}, "not finite"),
    ],
)
def test_curves_that_cannot_be_drawn_are_an_error(curves, message):
    with pytest.raises(ReIDError, match=message):
        plot_curves([1, 2], curves, xlabel="p", ylabel="%")


def test_a_trade_off_is_drawn_in_percent_over_a_log_axis():
    rng = np.random.default_rng(0)
    curve = trade_off(rng.normal(0, 1, 30), rng.normal(1, 1, 200))
    fpr, tpr, _ = curve.curve()
    point = {"in use": curve.rates(curve.threshold_at(0.1))}
    ax = plot_trade_off({"model": (fpr, tpr)}, points=point)
    line, mark = ax.lines
    assert ax.get_xscale() == "log"
    assert line.get_xdata() == pytest.approx(100 * fpr[fpr > 0])
    assert line.get_ydata() == pytest.approx(100 * tpr[fpr > 0])
    assert line.get_drawstyle() == "steps-post"
    assert mark.get_xdata()[0] <= 10
    assert mark.get_ydata()[0] == pytest.approx(100 * curve.tpr_at(0.1))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["model", "in use"]


def test_curves_differ_in_more_than_colour():
    curve = ([0.01, 1.0], [0.5, 1.0])
    ax = plot_trade_off({name: curve for name in "abcd"})
    assert len({line.get_linestyle() for line in ax.lines}) == 4
    assert len({line.get_color() for line in ax.lines}) == 4


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "curves: got 0"),
        ({"a": ([0.1], [0.1, 0.2])}, "two of one length"),
        ({"a": ([0.5, 0.1], [0.1, 0.2])}, "the former ascending"),
        ({"a": ([0.1, 50.0], [0.1, 80.0])}, "not percent"),
        ({"a": ([0.1], [np.nan])}, "1 of them not finite"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(curves, message):
    with pytest.raises(ReIDError, match=message):
        plot_trade_off(curves)


def test_points_are_checked_as_curves_are():
    with pytest.raises(ReIDError, match=r"'bad': rates from .* to 20; give shares"):
        plot_trade_off({"a": ([0.1], [0.2])}, points={"bad": (0.5, 20.0)})
