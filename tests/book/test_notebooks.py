"""The notebooks as they are stored: clean, repeatable, and comparable by nbval."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")

pytestmark = pytest.mark.parametrize(
    "notebook",
    [pytest.param(path, id=path.stem) for path in NOTEBOOKS],
)


def read(notebook: Path) -> nbformat.NotebookNode:
    return nbformat.read(notebook, as_version=4)


def code_cells(notebook: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(notebook).cells if cell.cell_type == "code"]


def tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def has_figure(cell: nbformat.NotebookNode) -> bool:
    return any(
        kind in output.get("data", {}) for output in cell.outputs for kind in IMAGES
    )


def has_text(cell: nbformat.NotebookNode) -> bool:
    for output in cell.outputs:
        if output.output_type == "stream" and output.text.strip():
            return True
        text = output.get("data", {}).get("text/plain", "")
        if text and not text.startswith("<Figure"):
            return True
    return False


def test_it_is_valid_and_runs_on_the_kernel_of_the_environment(notebook):
    stored = read(notebook)
    nbformat.validate(stored)
    assert stored.metadata.kernelspec.name == "python3"


def test_every_code_cell_was_executed_in_order_without_an_error(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    failed = [
        cell.id
        for cell in cells
        if "raises-exception" not in tags(cell)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert failed == []


def test_cell_ids_are_names_and_not_random(notebook):
    # A tool that makes ids at random would change every cell of the file at each save.
    ids = [cell.id for cell in read(notebook).cells]
    assert len(ids) == len(set(ids))
    named = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
    chance = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]+)?")
    assert [i for i in ids if not named.fullmatch(i) or chance.fullmatch(i)] == []


def test_it_names_no_folder_of_the_machine_it_was_executed_on(notebook):
    text = notebook.read_text(encoding="utf-8")
    assert re.findall(r"/(?:root|home|work|tmp|Users)/[\w.-]+", text) == []


def test_no_line_of_its_text_is_a_comment(notebook):
    # MyST leaves out a line that begins with a per cent sign.
    text = [cell.source for cell in read(notebook).cells if cell.cell_type != "code"]
    assert re.findall(r"^%.*", "\n".join(text), re.MULTILINE) == []


def test_it_stores_no_times_widgets_or_error_stream(notebook):
    assert "widgets" not in read(notebook).metadata
    for cell in code_cells(notebook):
        assert "execution" not in cell.metadata, f"{cell.id}: execution times"
        for output in cell.outputs:
            assert "application/vnd.jupyter.widget-view+json" not in output.get(
                "data", {}
            ), f"{cell.id}: a widget needs scripts from the network"
            assert output.get("name") != "stderr", f"{cell.id}: {output.text[:200]}"


def test_the_numbers_behind_every_figure_are_compared(notebook):
    # nbval does not look at pixels: what a figure shows must be printed by its cell or
    # by one of its neighbours, in an output that nbval does not ignore.
    cells = code_cells(notebook)
    bare = []
    for index, cell in enumerate(cells):
        near = cells[max(index - 1, 0) : index + 2]
        if has_figure(cell) and not any(
            has_text(other) and "nbval-ignore-output" not in tags(other)
            for other in near
        ):
            bare.append(cell.id)
    assert bare == []


def test_every_figure_has_its_alternative_text(notebook):
    silent = []
    for cell in code_cells(notebook):
        image = cell.metadata.get("mystnb", {}).get("image", {})
        if has_figure(cell) and len(image.get("alt", "")) < 20:
            silent.append(cell.id)
    assert silent == [], (
        'cell metadata: {"mystnb": {"image": {"alt": "what it shows"}}}'
    )


def test_most_cells_are_compared(notebook):
    # A live training run cannot be compared digit by digit between machines; the cell
    # is then tagged, and its claim is asserted in the notebook itself.
    cells = code_cells(notebook)
    ignored = [
        cell.id
        for cell in cells
        if tags(cell) & {"nbval-ignore-output", "nbval-skip"} or "NBVAL_" in cell.source
    ]
    assert len(ignored) <= len(cells) / 2


def test_no_cell_ends_in_a_semicolon(notebook):
    # nbval's kernel shows the value that the semicolon hides, and the comparison fails:
    # a figure cell ends in plt.show() instead.
    ending = [
        cell.id for cell in code_cells(notebook) if cell.source.rstrip().endswith(";")
    ]
    assert ending == []


def test_it_has_a_question_with_three_choices_and_one_right_answer(notebook):
    text = "\n".join(
        c.source for c in read(notebook).cells if c.cell_type == "markdown"
    )
    questions = text.split("**Check yourself.**")[1:]
    assert questions
    for question in questions:
        choices = re.findall(
            # A line with a backtick in its title opens no fence, and no box.
            r"^```\{dropdown\} ([ABC])\. [^`\n]*\n(Right|Wrong)\. ",
            question,
            re.M,
        )
        assert [letter for letter, _ in choices] == ["A", "B", "C"]
        assert sorted(judged for _, judged in choices) == ["Right", "Wrong", "Wrong"]


def test_it_has_a_number_to_predict_that_is_folded_and_stable(notebook):
    cells = read(notebook).cells
    asked = [
        i for i, c in enumerate(cells) if c.source.startswith("**Predict first.**")
    ]
    folded = [i for i, cell in enumerate(cells) if "hide-output" in tags(cell)]
    assert asked
    assert folded == [i + 1 for i in asked]
    for i in folded:
        assert "nbval-ignore-output" not in tags(cells[i])
        printed = "".join(output.get("text", "") for output in cells[i].outputs)
        assert re.search(r"\d", printed)


def test_it_teaches_and_does_not_implement_the_library_again(notebook):
    classes = []
    for cell in code_cells(notebook):
        source = TransformerManager().transform_cell(cell.source)
        for node in ast.walk(ast.parse(source)):
            lines = getattr(node, "end_lineno", 0) - getattr(node, "lineno", 0)
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and lines > 30:
                classes.append(f"{cell.id}: {node.name}")
    assert classes == []


HIDDEN = {"hide-input", "remove-input", "remove-cell", "hide-cell"}
TWO_METHODS = ("from_features_to_pseudo_labels", "soft_biometrics")


def test_it_is_short_enough_to_be_finished(notebook):
    """Words before the exercises, code cells, and the code that a reader sees."""
    code = code_cells(notebook)
    assert len(code) <= 25
    visible = [
        line
        for cell in code
        if not HIDDEN & set(tags(cell))
        for line in cell.source.split("\n")
        if line.strip()
    ]
    assert len(visible) <= 200
    assert [line for line in visible if len(line) > 76] == []
    most = 4000 if notebook.stem in TWO_METHODS else 2500
    assert len(words_of(notebook)) <= most


def words_of(notebook: Path) -> list[str]:
    """Return the words of the prose: no formula, directive, table or reference."""
    text = "\n".join(
        cell.source for cell in read(notebook).cells if cell.cell_type == "markdown"
    ).partition("## Exercises")[0]
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"^(```|:|\||\().*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\{[\w:]+\}`[^`]*`", " ", text)
    return re.findall(r"[^\W\d_][\w'’-]*", text)
