"""What the page on QAFM says about published results, asked of the result files."""

from __future__ import annotations

from typing import Any

from reidlib.experiments import load_results


def metrics() -> list[dict[str, Any]]:
    """Return the figures of the three cities of Table 4."""
    found = [result["metrics"] for result in load_results("QAFM-T4")["result"]]
    assert len(found) == 3
    return found


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
