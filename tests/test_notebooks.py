"""Notebooks: committed with their outputs, short, and run again at toy size."""

import ast
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from compiling import let_go_if_crowded

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
TOY = """
DEPTH, WIDTH, HEADS, CONTEXT, BATCH = 2, 8, 2, 8, 2
STEPS, SEEDS, SWEEP = 2, 2, (1, 2)
OUT = "out"
"""
DRAWING = re.compile(r"\bgf\.plot\.[a-z]")  # a function of figures; gf.plot.STYLE draws nothing
over_notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict]:
    """The code cells of a notebook, their source as one string."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells if cell["cell_type"] == "code"]


def prose(path: Path) -> list[str]:
    """The text of the cells that are not code."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def names_set(source: str) -> set[str]:
    """Names that a cell assigns."""
    return {
        node.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def mimes(cell: dict) -> set[str]:
    """Kinds of data among a cell's outputs."""
    return {mime for output in cell["outputs"] for mime in output.get("data", {})}


def test_there_are_notebooks():
    assert NOTEBOOKS


@over_notebooks
def test_a_notebook_opens_with_its_question_and_ends_with_what_to_change_next(path):
    first, *_, last = prose(path)
    assert first.startswith("# ")
    assert "**The question.**" in first
    assert "?" in first
    changes = last.partition("## What to change next\n")[2]
    assert 2 <= changes.count("\n- ") <= 4


@over_notebooks
def test_a_notebook_says_how_to_read_what_it_shows(path):
    assert any("**How to read " in cell for cell in prose(path))


@over_notebooks
def test_a_notebook_was_run_from_top_to_bottom_without_an_error(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert "error" not in kinds
    assert {"stream", "display_data"} <= kinds


@over_notebooks
def test_every_cell_that_draws_shows_its_figure(path):
    drawing = [cell for cell in code_cells(path) if DRAWING.search(cell["source"])]
    assert drawing
    assert [cell["source"] for cell in drawing if "image/png" not in mimes(cell)] == []


@over_notebooks
def test_the_outputs_are_clean(path):
    """No warnings, no progress bars, no folder of the machine it ran on."""
    for cell in code_cells(path):
        assert not [output for output in cell["outputs"] if output.get("name") == "stderr"]
        assert "application/vnd.jupyter.widget-view+json" not in mimes(cell)
        text = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell["outputs"]]
        assert not re.search(r"/(home|root|tmp|work|Users)/|site-packages", "".join(map("".join, text)))


@over_notebooks
def test_a_notebook_has_few_lines_of_code(path):
    """Less than 100, but for notebook 06, which makes stand-ins for weights, and 07, with models as their users write them."""
    most = {"06_trained_models": 110, "07_your_model": 145}.get(path.stem, 100)
    assert sum(len(cell["source"].splitlines()) for cell in code_cells(path)) < most


@pytest.mark.long
@over_notebooks
def test_a_notebook_runs_at_toy_size(path, tmp_path, monkeypatch, capsys):
    first, *rest = (cell["source"] for cell in code_cells(path))
    assert names_set(first) == names_set(TOY)
    monkeypatch.chdir(tmp_path)
    figures, namespace = 0, {"__name__": "__main__"}
    try:
        with plt.rc_context():
            for source in (TOY, *rest):
                exec(compile(source, path.name, "exec"), namespace)
                assert plt.get_fignums() or not DRAWING.search(source), f"no figure from\n{source}"
                figures += len(plt.get_fignums())
                plt.close("all")
                let_go_if_crowded()
    finally:
        plt.close("all")
    assert figures
    assert capsys.readouterr().out
    assert (tmp_path / "out" / "manifest.json").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
