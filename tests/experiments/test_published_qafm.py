"""What the page on QAFM says about published results, asked of the result files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reidlib.experiments import by_seed, load_results, plan, report, verdicts
from reidlib.experiments.results import results_dir
from reidlib.papers import load_table

ACTIVATION = "batch norm and ReLU behind the last layer"


def metrics() -> list[dict[str, Any]]:
    """Return the figures of the three cities of Table 4."""
    frame = load_results("QAFM-T4")
    found = [one["metrics"] for one in frame.loc[frame["row"] == "learned", "result"]]
    assert len(found) == 3
    return found


def test_every_row_of_the_paper_is_read_from_one_training_a_city():
    rows = plan("QAFM-T4").rows
    assert {row.name for row in rows} == set(load_table("QAFM-T4").to_frame().index)
    assert all(rows[0].shares_run(row) for row in rows)
    scores = by_seed("QAFM-T4", [row.name for row in rows])
    for seed, found in enumerate(metrics()):
        assert scores.loc["learned", seed] == 100 * found["mAP"]
        for row in rows[1:]:
            (alpha,) = row.reads[1:]
            of_alpha = found["fixed_alpha"][alpha]["mAP"]
            assert scores.loc[row.name, seed] == 100 * of_alpha
            printed = load_table("QAFM-T4").to_frame().loc[row.name, "alpha"]
            assert float(alpha) == printed


def test_the_report_has_every_measure_of_the_papers_table():
    table = report("QAFM-T4")
    columns = [c.name for c in load_table("QAFM-T4").columns if c.unit == "%"]
    assert list(table.header[1:-1]) == [f"{name} (%)" for name in columns]
    ours = 100 * np.array([found["cmc"]["5"] for found in metrics()])
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert cells["Rank-5 (%)"].startswith(f"{ours.mean():.1f}\xa0")
    printed = load_table("QAFM-T4").to_frame().loc["learned"]
    figures = " / ".join(f"{printed[name]:g}" for name in columns)
    assert f"Market-1501: {figures} (" in table.rows[0][-1]


def test_scores_of_one_training_are_judged_by_the_deviation_between_cities():
    for one in verdicts("QAFM-T4"):
        assert one.shared
        cities = np.array(list(one.here.values()))
        assert one.noise == pytest.approx(cities.std(ddof=1) / 3**0.5)
    notes = " ".join(report("QAFM-T4").differences.notes)
    assert "the deviation between cities moves the mean" in notes
    assert "Seed variance" not in notes


def test_fusing_helps_and_learning_the_weight_does_not():
    found = {one.row: one for one in verdicts("QAFM-T4")}
    assert found["learned"].sign == "✕"
    assert {found[f"fixed 0.{n}"].sign for n in range(2, 8)} == {"●"}


def test_both_branches_are_far_ahead_of_either():
    for found in metrics():
        fixed = {alpha: one["mAP"] for alpha, one in found["fixed_alpha"].items()}
        assert max(fixed["0.0"], fixed["1.0"]) < 0.75 * fixed["0.5"]


def test_the_learned_weight_is_below_equal_weights():
    for found in metrics():
        assert found["mAP"] < found["fixed_alpha"]["0.5"]["mAP"]


def test_the_learned_weight_hardly_moves_and_follows_no_quality():
    alphas = [found["alpha"] for found in metrics()]
    assert max(one["std"] for one in alphas) < 0.06
    signs = sorted(one["correlation"] > 0 for one in alphas)
    assert signs == [False, False, True]


def test_a_weight_that_knows_the_answer_gains_four_to_five_points():
    for found in metrics():
        best = max(one["mAP"] for one in found["fixed_alpha"].values())
        assert 0.04 < found["alpha"]["oracle_mAP"] - best < 0.05


def readings(row: str) -> list[dict[str, Any]]:
    """Return the figures of a reading in three cities."""
    frame = load_results("QAFM-READINGS", partial=True)
    found = [one["metrics"] for one in frame.loc[frame["row"] == row, "result"]]
    assert len(found) == 3
    return found


def test_accumulated_gradients_gain_and_the_published_code_loses_appearance():
    frame = load_results("QAFM-READINGS", partial=True)

    def of(row: str) -> dict[int, dict[str, Any]]:
        part = frame[frame["row"] == row]
        return {int(seed): r["metrics"] for seed, r in zip(part.seed, part.result)}

    base, summed, code = map(
        of, ("QAFM", "accumulated gradients", "the published code")
    )
    assert set(base) == set(summed) == set(code) == {0, 1, 2}
    for seed in base:
        alone = {
            end: [100 * one[seed]["fixed_alpha"][end]["mAP"] for one in (base, summed)]
            for end in ("0.0", "1.0")
        }
        gains = {end: after - before for end, (before, after) in alone.items()}
        assert summed[seed]["mAP"] > base[seed]["mAP"] + 0.05
        assert gains["1.0"] > 1 > gains["0.0"]
        assert code[seed]["mAP"] < summed[seed]["mAP"]
        assert code[seed]["fixed_alpha"]["0.0"]["mAP"] < 0.04


def test_what_the_other_readings_change():
    base = readings("QAFM")

    def gains(row: str, of: Callable[[dict[str, Any]], float]) -> list[float]:
        return [
            100 * (of(one) - of(other))
            for one, other in zip(readings(row), base, strict=True)
        ]

    def learned(found: dict[str, Any]) -> float:
        return found["mAP"]

    def appearance(found: dict[str, Any]) -> float:
        return found["fixed_alpha"]["0.0"]["mAP"]

    def attributes(found: dict[str, Any]) -> float:
        return found["fixed_alpha"]["1.0"]["mAP"]

    # One encoder: the attribute branch loses, the appearance branch stays.
    assert max(gains("one encoder", learned)) < -5
    assert max(gains("one encoder", attributes)) < -4
    assert abs(np.mean(gains("one encoder", appearance))) < 1
    # One channel: the appearance branch finds hardly anybody, as in the published code.
    assert max(gains("decoder with one channel", learned)) < -5
    for row in ("decoder with one channel", "the published code"):
        assert max(appearance(found) for found in readings(row)) < 0.04
    assert abs(np.mean(gains("decoder with one channel", attributes))) < 1
    # One step of the ConvLSTM: the same searches, better predictions of attributes.
    assert max(abs(gain) for gain in gains("ConvLSTM of one step", learned)) < 0.5
    told = gains(
        "ConvLSTM of one step", lambda one: one["attributes"]["balanced_accuracy"]
    )
    assert all(1.5 < gain < 2.5 for gain in told)
    # Batch norm and ReLU: behind in each city, by less than a point.
    assert all(-1 < gain < 0 for gain in gains(ACTIVATION, learned))
    # Local attention: ahead in each city, by less than a point in two.
    ahead = sorted(gains("local attention", learned))
    assert 0 < ahead[0] < ahead[1] < 1 < 4 < ahead[2]


def test_no_other_way_to_measure_the_score_helps():
    trained, augmented = "score by a trained network", "score of augmented views"
    for row in (trained, augmented):
        for found, base in zip(readings(row), readings("QAFM"), strict=True):
            assert abs(found["mAP"] - base["mAP"]) < 0.01
            assert found["mAP"] < found["fixed_alpha"]["0.5"]["mAP"]
            area = found["failure"]["areas"]["pairs"][0]
            assert area < 0.49 if row == trained else abs(area - 0.5) < 0.045


def test_a_gallery_without_distractors_flatters():
    def gains(runs: list[dict[str, Any]]) -> list[float]:
        return [100 * (one["without_distractors"]["mAP"] - one["mAP"]) for one in runs]

    usual = gains(readings("score by a trained network"))
    assert all(0.75 < gain < 1.25 for gain in usual)
    assert all(0.25 < gain < 0.4 for gain in gains(mixed()))


def test_attributes_must_be_right():
    rows = ("QAFM", "attributes of another person", "no attributes")
    for right, other, none in zip(*map(readings, rows), strict=True):
        half = [one["fixed_alpha"]["0.5"]["mAP"] for one in (right, other, none)]
        assert half[0] > half[1] + 0.06
        assert 0.025 < half[1] - half[2] < 0.035
        alone = [one["fixed_alpha"]["1.0"]["mAP"] for one in (right, other, none)]
        assert 0.45 < alone[1] / alone[0] < 0.55
        learned = [right["mAP"], other["mAP"], none["mAP"]]
        assert learned[0] > learned[1] + 0.08
        assert 0 < learned[1] - learned[2] < 0.01
        # Without attributes the branch is a constant: every head is at chance exactly.
        assert alone[2] < 0.01
        for chance in none["attributes"]["balanced"].values():
            assert abs(1 / chance - round(1 / chance)) < 1e-9
        balanced = [one["attributes"]["balanced_accuracy"] for one in (other, none)]
        assert abs(balanced[0] - balanced[1]) < 0.005


def test_what_the_heads_predict_of_people_they_have_not_seen():
    for found in metrics():
        balanced = found["attributes"]["balanced"]
        two = ("gender", "hair", "up", "clothes", "hat", "backpack", "bag", "handbag")
        assert abs(balanced["hat"] - 1 / 2) < 0.03
        assert abs(balanced["age"] - 1 / 4) < 0.04
        assert 1.9 < 9 * balanced["downcolour"] < 3.2
        assert 1.9 < 8 * balanced["upcolour"] < 3.2
        best = sorted((*two, "down"), key=lambda group: balanced[group])[-2:]
        assert set(best) == {"down", "clothes"}


def test_the_attribute_branch_is_ahead_of_the_appearance_branch():
    for found in metrics():
        fixed = {alpha: one["mAP"] for alpha, one in found["fixed_alpha"].items()}
        assert fixed["1.0"] > fixed["0.0"] + 0.008


def qualities() -> dict[str, list[dict[str, Any]]]:
    """Return the figures of three cities at each setting of the dial of quality."""
    frame = load_results("QAFM-QUALITY")
    found = {
        row: [one["metrics"] for one in part["result"]]
        for row, part in frame.groupby("row")
    }
    assert set(found) == {"sharp", "usual", "poor", "mixed"}
    assert all(len(one) == 3 for one in found.values())
    return {row: one for row, one in found.items() if row != "mixed"}


def mixed() -> list[dict[str, Any]]:
    """Return the figures of three cities whose images differ in quality."""
    frame = load_results("QAFM-QUALITY")
    return [one["metrics"] for one in frame[frame["row"] == "mixed"]["result"]]


def test_a_score_of_wide_range_changes_nothing():
    for one in mixed():
        assert 0.1 < one["cmc"]["1"] < 0.125
        rivals = one["rivals"]
        own = rivals[name("ratio")]["mAP"]
        assert abs(own - rivals[name("ratio", score="random")]["mAP"]) < 0.001
        assert abs(own - rivals[name("ratio", score="shuffled")]["mAP"]) < 0.003
        for rival in rivals.values():
            assert rival["mAP"] < max(rival["fixed_mAP"].values()) + 0.001


def test_in_a_mixed_city_the_score_calls_failures_identifiable():
    for one in mixed():
        areas = {score: area[0] for score, area in one["failure"]["areas"].items()}
        assert 0.3 < areas["pairs"] < 0.4
        assert abs(areas["pairs"] - areas["anchor"]) < 0.02
        assert areas["contrast"] > max(0.55, areas["distance"])
        assert 0.45 < areas["distance"] < 0.6


def name(loss: str, weighs: str = "attributes", score: str = "pairs") -> str:
    """Return the name of a rival."""
    return f"{loss}, {weighs}, {score}"


def test_alpha_follows_no_score_at_any_setting_of_the_dial():
    for loss in ("ratio", "linear"):
        signs = {
            one["rivals"][name(loss)]["correlation"] > 0
            for found in qualities().values()
            for one in found
        }
        assert signs == {True, False}


def test_scores_that_know_nothing_are_as_good():
    for found in qualities().values():
        for one in found:
            rivals = one["rivals"]
            own = rivals[name("ratio")]["mAP"]
            for score in ("shuffled", "random"):
                other = rivals[name("ratio", score=score)]["mAP"]
                assert abs(own - other) < 0.005


def loss_of(one: dict[str, Any], loss: str, weighs: str = "attributes") -> float:
    """Return by how much a learned weight is behind the best fixed one, in points."""
    rival = one["rivals"][name(loss, weighs)]
    return 100 * (max(rival["fixed_mAP"].values()) - rival["mAP"])


def test_no_loss_beats_the_best_fixed_weight():
    every = [one for found in qualities().values() for one in found]
    for one in every:
        for weighs in ("attributes", "appearance"):
            nearest = loss_of(one, "identity", weighs)
            assert nearest < 1.2
            for loss in ("ratio", "linear"):
                assert max(nearest, 0.4) < loss_of(one, loss, weighs) < 4.8
        for rival in one["rivals"].values():
            assert rival["mAP"] < max(rival["fixed_mAP"].values()) + 0.003


def test_what_an_own_weight_is_worth():
    for found in qualities().values():
        for one in found:
            best = max(fixed["mAP"] for fixed in one["fixed_alpha"].values())
            assert 0.038 < one["alpha"]["oracle_mAP"] - best < 0.052


@pytest.mark.parametrize("quality", ["sharp", "usual", "poor"])
def test_a_weight_that_is_chosen_in_other_cameras_gains_nothing(quality):
    gains = [100 * one["alpha"]["held_out_gain"] for one in qualities()[quality]]
    if quality == "poor":
        assert max(abs(gain) for gain in gains) < 0.2
    else:
        assert max(gains) < -0.1


def test_the_distance_ranks_failures_and_the_scores_do_not():
    for row, found in qualities().items():
        for one in found:
            areas = {score: area[0] for score, area in one["failure"]["areas"].items()}
            assert 0.48 < areas["pairs"] < 0.58
            assert abs(areas["pairs"] - areas["anchor"]) < 0.03
            others = max(area for score, area in areas.items() if score != "distance")
            assert areas["distance"] > others + 0.05
            if row == "poor":
                assert areas["sharpness"] > areas["pairs"] + 0.02


def test_identifiability_hardly_notices_blur():
    rows = json.loads((results_dir() / "quality_range.json").read_text())["rows"]
    found = {(row["city"], row["seed"]): row["scores"] for row in rows}
    theirs = load_table("QAFM-DATA").to_frame().loc[("all images", "all")]
    share = theirs["deviation"] / theirs["mean"]
    for seed in (0, 1, 2):
        sharp, poor = found["sharp", seed], found["poor", seed]
        ratio = sharp["sharpness"]["mean"] / poor["sharpness"]["mean"]
        assert 8.5 < ratio < 10
        for city in (sharp, poor):
            assert 0.5 < city["sharpness"]["std"] / city["sharpness"]["mean"] < 0.7
        for size in ("64 x 32", "128 x 64"):
            name = f"identifiability, {size}"
            one, other = (city[name] for city in (sharp, poor))
            assert 0.95 < other["mean"] / one["mean"] < 1
            for score in (one, other):
                assert share < score["std"] / score["mean"] < 0.085


def test_in_a_mixed_city_the_score_varies_more_and_calls_ruined_images_good():
    rows = json.loads((results_dir() / "quality_range.json").read_text())["rows"]
    found = {(row["city"], row["seed"]): row["scores"] for row in rows}
    others = ("sharp", "usual", "poor")
    small, whole = (f"identifiability, {size}" for size in ("64 x 32", "128 x 64"))

    def spread(city: str, seed: int, name: str) -> float:
        score = found[city, seed][name]
        return score["std"] / score["mean"]

    for seed in (0, 1, 2):
        most = {n: max(spread(c, seed, n) for c in others) for n in (small, whole)}
        assert 1.35 < spread("mixed", seed, whole) / most[whole] < 1.65
        assert spread("mixed", seed, small) < 1.05 * most[small]
        mixed = found["mixed", seed]
        assert mixed[whole]["follows"] < -0.6
        assert mixed["sharpness"]["follows"] > 0.7
        assert mixed["contrast"]["follows"] < -0.4
