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
