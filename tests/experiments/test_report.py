"""Reports: read from result files alone, honest about what is stale or not there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reidlib.errors import ReIDError
from reidlib.experiments import Report, load_results, paired_differences, report
from reidlib.experiments.plans import Plan, Row, plans
from reidlib.experiments.results import Data, Job
from reidlib.papers import list_tables, load_table

TINY = Data("tiny")
SMALL = {"height": 64, "width": 32}
ROWS = (
    Row("small", "direct", SMALL, ("CALR-T3", "Baseline")),
    Row("other", "direct", {**SMALL, "pooling": "gem"}),
)


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """A plan with two rows; ``trial(row, seed, mAP)`` writes a result for it."""
    monkeypatch.setenv("REIDLIB_RESULTS", str(tmp_path))
    monkeypatch.setitem(plans(), "trial", Plan("trial", "A trial", ROWS))

    def write(row: int, seed: int, score: float | None, **changes) -> None:
        job = Job("trial", ROWS[row], "quick", TINY, seed)
        result = {**job.inputs(), "commit": "1234567890", "seconds": 1.0, **changes}
        if score is None:
            result["error"] = "found 0 clusters"
        else:
            kmeans = {"nmi_pid": 0.5, "nmi_cam": 0.25}
            diagnosis = {"kmeans": kmeans, "same_camera_share": 0.4}
            metrics = {"cmc": {"1": 0.5}, "mAP": score, "diagnosis": diagnosis}
            metrics |= {"mINP": 0.1, "num_queries": 10, "num_unmatched": 0}
            result["metrics"] = metrics
        job.file.parent.mkdir(parents=True, exist_ok=True)
        job.file.write_text(json.dumps(result))

    return write


def cells(row: str) -> dict[str, str]:
    table = report("trial", preset="quick", data=TINY)
    (found,) = [line for line in table.rows if line[0] == row]
    return dict(zip(table.header, found, strict=True))


def test_cells_are_mean_and_deviation_over_seeds_with_the_data_set(trial):
    scores = [0.1, 0.25, 0.35]
    for seed, score in enumerate(scores):
        trial(0, seed, score)
    mean, deviation = 100 * np.mean(scores), 100 * np.std(scores, ddof=1)
    told = cells("small")
    assert told["mAP (%)"] == f"{mean:.1f}\xa0±\xa0{deviation:.1f}"
    assert told["Rank-1 (%)"] == "50.0\xa0±\xa00.0"
    title = report("trial", preset="quick", data=TINY).title
    assert "SynthCity tiny" in title
    assert "seeds 0, 1, 2" in title


def test_the_papers_figures_stand_beside_ours_with_data_set_and_source(trial):
    trial(0, 0, 0.2)
    frame = load_table("CALR-T3").to_frame()
    expected = "; ".join(
        f"{name}: {frame.loc['Baseline', (name, 'Rank-1')]} / "
        f"{frame.loc['Baseline', (name, 'mAP')]}"
        for name in ("Market-1501", "DukeMTMC-reID", "MSMT17")
    )
    column = "the paper's Rank-1 / mAP (%)"
    assert cells("small")[column] == f"{expected} (CALR-T3, Baseline)"
    assert cells("other")[column] == "none"


def test_a_missing_result_names_the_command_and_no_cell_is_empty(trial):
    trial(0, 0, 0.2)
    table = report("trial", preset="quick", data=TINY)
    assert all(cell.strip() for line in table.rows for cell in line)
    command = "`reidlib reproduce trial --preset quick --size tiny`"
    assert cells("other")["mAP (%)"] == f"missing: {command}"
    with pytest.raises(ReIDError, match=r"no result of 'other' .*--preset quick"):
        load_results("trial", preset="quick", data=TINY)
    partial = load_results("trial", preset="quick", data=TINY, partial=True)
    assert partial["row"].tolist() == ["small"]
    empty = load_results("trial", preset="paper", partial=True)
    assert len(empty) == 0


def test_a_stale_result_is_marked_with_what_changed(trial):
    trial(0, 0, 0.2, version=0)
    trial(1, 0, 0.3)
    assert cells("small")["mAP (%)"] == "20.0 †"
    assert "†" not in cells("other")["mAP (%)"]
    note, time, made = report("trial", preset="quick", data=TINY).notes
    assert made == "Made at commit 1234567."
    assert time == "A run took 1 s in the median."
    assert note.startswith("† stale (small): made with other method than here now")


def test_a_breakdown_is_shown_as_one(trial):
    trial(0, 0, None)
    trial(1, 0, 0.3)
    trial(1, 1, None)
    assert cells("small")["mAP (%)"] == "broke down ‡"
    assert cells("other")["mAP (%)"] == "30.0 ‡"
    notes = report("trial", preset="quick", data=TINY).notes
    assert "‡ small: 1 of 1 runs broke down (found 0 clusters)." in notes
    assert "‡ other: 1 of 2 runs broke down (found 0 clusters)." in notes


def test_data_without_queries_are_reported_without_a_ranking(trial):
    trial(0, 0, None)
    job = Job("trial", ROWS[0], "quick", TINY, 0)
    result = json.loads(job.file.read_text())
    del result["error"]
    result["metrics"] = {"diagnosis": {"kmeans": {"nmi_pid": 0.5}}}
    job.file.write_text(json.dumps(result))
    told = cells("small")
    assert told["mAP (%)"] == told["Rank-1 (%)"] == "not measured"
    assert told["NMI identity"] == "0.50"


def test_a_copy_of_a_result_is_no_result(trial):
    trial(0, 0, 0.2)
    file = Job("trial", ROWS[0], "quick", TINY, 0).file
    file.with_name(f"{file.stem} copy.json").write_text("{")
    frame = load_results("trial", preset="quick", data=TINY, partial=True)
    assert frame["seed"].tolist() == [0]


def test_the_command_makes_every_seed_again(trial):
    for seed in range(5):
        trial(0, seed, 0.2, version=0)
    note, time, made = report("trial", preset="quick", data=TINY).notes
    assert made == "Made at commit 1234567."
    assert time == "A run took 1 s in the median."
    assert note.endswith("--size tiny --seeds 5` makes it again.")


def test_a_preset_that_is_none_is_refused(trial):
    with pytest.raises(ReIDError, match="no preset 'long'"):
        report("trial", preset="long", data=TINY)


def test_rows_with_other_seeds_are_named(trial):
    for seed in (0, 1, 2):
        trial(0, seed, 0.2)
    trial(1, 1, 0.3)
    assert (
        "only over seeds 1: other." in report("trial", preset="quick", data=TINY).notes
    )


def test_html_is_escaped_and_says_what_markdown_says(trial):
    trial(0, 0, 0.2)
    table = report("trial", preset="quick", data=TINY)
    html = table.html()
    assert html.count("<tr>") == 1 + len(table.rows)
    assert "<code>reidlib reproduce trial --preset quick --size tiny</code>" in html
    assert str(table).count("\n|") == 2 + len(table.rows)  # and the line below the head
    named = Report("a < b", ("x",), (("1 & 2",),), ())
    assert "a &lt; b" in named.html()
    assert "1 &amp; 2" in named.html()


def test_a_table_that_is_not_made_yet_shows_the_papers_figures():
    waiting = sorted(set(list_tables()) - set(plans()))
    assert waiting
    for name in waiting:
        table, published = report(name), load_table(name)
        assert len(table.rows) == len(published.rows)
        for line, row in zip(table.rows, published.rows, strict=True):
            given = [cell for cell in row if cell == cell and cell != ""]
            assert [cell for cell in line if cell != "not given"] == list(
                map(str, given)
            )
        assert "Not reproduced here yet" in table.notes[0]
    with pytest.raises(ReIDError, match=r"no table 'T99'; there is AFF-F4, "):
        report("T99")


def test_what_stands_beside_ours_is_not_said_again():
    assert not any("78.8" in note for note in report("AFF-T4").notes)
    assert any("AFF-T5" in note for note in report("AFF-T4").notes)  # its own notes


def test_what_a_paper_states_about_a_figure_is_quoted():
    notes = " ".join(report("AFF-F4", preset="quick").notes)
    assert "Market-1501: eps 0.65" in notes


def test_the_pattern_that_the_city_must_show_holds_in_the_kept_results():
    frame = load_results("baseline")
    assert frame.groupby("row")["seed"].apply(sorted).tolist() == [[0, 1, 2]] * 3
    scores = frame.pivot(index="seed", columns="row", values="mAP")
    assert (scores["baseline"] - scores["direct"] >= 15).all()
    assert (scores["supervised"] > scores["baseline"]).all()
    bias = frame.groupby("row")["NMI camera"].mean()
    assert bias["baseline"] < bias["direct"]


def test_rows_are_compared_city_by_city(trial):
    for seed, (first, second) in enumerate(((0.2, 0.3), (0.5, 0.55), (0.1, 0.25))):
        trial(0, seed, first)
        trial(1, seed, second)
    pairs = {"GeM": ("other", "small"), "none": ("small", "small")}
    told = paired_differences("trial", pairs, preset="quick", data=TINY)
    assert told.index.tolist() == ["GeM", "none"]
    assert told.loc["GeM", [0, 1, 2]].tolist() == pytest.approx([10, 5, 15])
    assert told.loc["GeM", "mean"] == pytest.approx(10)
    assert told.loc["GeM", "std"] == pytest.approx(5)
    assert (told.loc["none"] == 0).all()
    camera = paired_differences(
        "trial", pairs, measure="NMI camera", preset="quick", data=TINY
    )
    assert (camera == 0).all(axis=None)


def test_a_data_set_that_the_papers_row_names_is_named_once():
    cells = {line[0]: line[-1] for line in report("CALS-T5").rows}
    assert cells["CALS"] == "91.8 / 85.7 (CALS-T5, Market-1501 / CALS)"
    cells = {line[0]: line[-1] for line in report("CALR-T4").rows}
    assert cells["cosine"].startswith("Market-1501: ")


def test_a_run_without_its_partner_is_not_compared(trial):
    trial(0, 0, 0.2)
    trial(0, 1, 0.3)
    trial(1, 1, 0.5)
    trial(1, 2, None)
    pairs = {"GeM": ("other", "small")}
    told = paired_differences("trial", pairs, preset="quick", data=TINY).loc["GeM"]
    assert told[[0, 1, 2]].isna().tolist() == [True, False, True]
    assert told["mean"] == pytest.approx(20)
    assert np.isnan(told["std"])
    none = paired_differences("trial", pairs, preset="paper", data=TINY)
    assert none.columns.tolist() == ["mean", "std"]
    assert none.loc["GeM"].isna().all()


def test_rows_and_measures_to_compare_must_exist(trial):
    trial(0, 0, 0.2)
    with pytest.raises(ReIDError, match=r"no row 'large', but \['other', 'small'\]"):
        paired_differences(
            "trial", {"x": ("large", "small")}, preset="quick", data=TINY
        )
    with pytest.raises(ReIDError, match="no measure 'rank'"):
        paired_differences(
            "trial",
            {"x": ("other", "small")},
            measure="rank",
            preset="quick",
            data=TINY,
        )


def test_a_report_says_at_which_commit_a_method_was_verified(trial, tmp_path):
    trial(0, 0, 0.2)
    record = {"direct": {"version": 1, "commit": "abcdef0123"}}
    (tmp_path / "verified.json").write_text(json.dumps(record))
    told = report("trial", preset="quick", data=TINY).notes[-1]
    assert told == "Made at commit 1234567; direct verified at commit abcdef0."
    record["direct"]["version"] = 0  # of a method that is no longer
    (tmp_path / "verified.json").write_text(json.dumps(record))
    told = report("trial", preset="quick", data=TINY).notes[-1]
    assert told == "Made at commit 1234567."


def test_a_row_without_cameras_says_so(trial):
    trial(0, 0, 0.5)
    assert "have no camera" not in str(report("trial", preset="quick", data=TINY))
    job = Job("trial", ROWS[0], "quick", TINY, 0)
    result = json.loads(job.file.read_text())
    result["metrics"]["num_without_camera"] = 7
    job.file.write_text(json.dumps(result))
    notes = report("trial", preset="quick", data=TINY).notes
    assert any(note.startswith("small: 7 images of query and") for note in notes)
