"""Names: one way into a file's name, into LaTeX and into a legend, whatever is in them."""

import re
import shutil
import subprocess

import made
import matplotlib.pyplot as plt
import pandas as pd
import pytest

import gradflow as gf
from gradflow.report import plot, tables
from gradflow.report.paper.latex import latex, quoted
from gradflow.report.plot import canvas
from gradflow.report.plot.canvas import legend
from gradflow.report.tables import atlas_page
from gradflow.results import settings
from gradflow.results.naming import check_names, stem
from gradflow.results.sweeps import families
from gradflow.results.tree import Readings, label, nodes

ODD = (
    "Llama-3.2-1B",
    "lr-0.1",
    "lr-0.3",
    "a%b#c",
    "back\\slash",
    "x/y",
    "_x",
    "$a$ for $",
    "[q]",
    "*s",
    "&~^{}`",
    "模型",
    "é",
    "--p",
)
ODD += ('say "hi"', "a|b", "training", "stream_gradient", "\\end{verbatim}", "x, y")


SOME = ("a%b#c", "back\\slash", "x/y", "$a$ for $", "模型", "\\end{verbatim}")


@pytest.fixture(scope="module", params=[SOME, pytest.param(ODD, marks=pytest.mark.further)], ids=["some", "all"])
def odd(request):
    """Names that are hard to write down."""
    return request.param


@pytest.fixture(scope="module")
def folder(odd, tmp_path_factory):
    out = tmp_path_factory.mktemp("odd") / "out"
    data = {**made.TEXT, "name": "a_text%.txt"}
    command = r"gradflow measure --name \end{verbatim} \input{x} 模 " + "long " * 40
    tree = made.tree(odd, data=data, provenance={"command": command, "commit": None, "versions": {}})
    return gf.report.write(tree, out)


def test_every_model_has_a_figure_of_its_own(folder, odd):
    drawn = {path.name for path in (folder / "figures").glob("*.pdf")}
    expected = {f"{stem(f'budget_{name}')}.pdf" for name in odd}
    assert len(expected) == len(odd)
    assert expected <= drawn
    for name in odd:
        rows = pd.read_csv(folder / "figures" / f"{stem(f'budget_{name}')}.csv", comment="#")
        assert set(rows["model"]) == {name}


def test_tables_hold_every_name_as_it_is(folder, odd):
    assert list(dict.fromkeys(pd.read_csv(folder / "tables" / "results.csv")["model"])) == list(odd)
    assert set(nodes(gf.results.load(folder / "results.nc"))) == set(odd)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_appendix_compiles_whatever_a_model_is_called(folder):
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "appendix.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode("latin-1")[-2000:]


@pytest.mark.further
def test_a_bundle_is_in_order_whatever_a_model_is_called(folder):
    assert gf.report.verify(folder).in_order


def test_what_the_appendix_includes_is_there(folder, odd):
    text = (folder / "body.tex").read_text(encoding="utf-8")
    included = re.findall(r"\\includegraphics\[.*?\]\{\\gradflowpath/(.*?)\.pdf\}", text)
    assert len(included) > len(odd)
    assert all((folder / f"{name}.pdf").exists() for name in included)


@pytest.mark.parametrize("name", ["lr-0.1", "Llama-3.2-1B", "plain", "a.tar"])
def test_a_dot_in_a_name_is_no_ending(name, tmp_path):
    table = pd.DataFrame({"mean": [1.0]})
    for path in (tmp_path / name, tmp_path / f"{name}.pdf", tmp_path / f"{name}.csv"):
        files = plot.save(plt.figure(), path, table)
        assert [file.name for file in files] == [f"{name}.pdf", f"{name}.png", f"{name}.csv"]
        assert all(file.exists() for file in files)


def test_a_caption_of_several_lines_is_one_in_the_csv(tmp_path):
    drawn = plt.figure()
    drawn.set_label("one\ntwo\r\nthree")
    written = plot.save(drawn, tmp_path / "x", pd.DataFrame({"model": ['q"\n,'], "mean": [1.0]}))[2]
    assert written.read_text(encoding="utf-8").startswith("# one two three\n")
    assert pd.read_csv(written, comment="#")["model"].tolist() == ['q"\n,']


# ---- LaTeX --------------------------------------------------------------------------------------------------

SET = {
    "50% of x_l": r"50\% of x\_l",
    "a\\b": r"a\textbackslash{}b",
    "~^": r"\textasciitilde{}\textasciicircum{}",
    "#&$_{}": r"\#\&\$\_\{\}",
    "[a]*": "{[}a{]}{*}",
    "---": "-{}-{}-",
    "``": r"\textasciigrave{}\textasciigrave{}",
    "‖g‖²": r"$\|$g$\|$$^2$",
    "漢": "U+6F22",
    "é": "é",
    "Þ": "U+00DE",
    "a\n\nb\tc": "a b c",
    "\x00\x7f": "U+0000U+007F",
}


@pytest.mark.parametrize("text", SET)
def test_text_for_latex(text):
    assert latex(text) == SET[text]


def test_quoted_text_is_escaped_and_its_lines_can_end_anywhere():
    shown = quoted("a \\end{verbatim} {x}\n漢\x01\n\nz")
    assert r"\end" not in shown
    assert shown.startswith(r"{\raggedright")
    assert shown.endswith(r"\par}")
    shown = shown.replace(r"\hspace{0pt}", "")
    assert r"\textbackslash{}u6f22\textbackslash{}x01" in shown
    assert r"a\ \textbackslash{}end\{verbatim\}" in shown
    assert shown.isascii()
    assert quoted("") == quoted("\n") == ""


# ---- legends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ODD, "$", "$$", "\\$a$", "$\\frac{", "new\nline", "\ttab"])
def test_a_legend_shows_the_name_and_no_mathematics(name):
    ax = plt.subplots()[1]
    ax.plot([0, 1], label=legend(name))
    ax.legend()
    ax.set_title(legend(name))
    ax.figure.canvas.draw()
    (text,) = ax.get_legend().get_texts()
    assert text.get_text().strip("\u2009") == legend(name).strip("\u2009")
    shown, is_math = text._preprocess_math(text.get_text())
    assert not is_math
    if name.isascii():
        assert shown.strip("\u2009") == " ".join(name.split())


def test_every_model_is_in_the_legend_of_a_figure():
    ax = plot.profile(made.tree(ODD))
    assert len(ax.get_legend().get_texts()) == len(ODD) + len(("attention", "mlp"))
    ax.figure.canvas.draw()


def test_a_figure_grows_with_a_legend_of_many_models():
    few, many = (plot.variance_growth(made.tree(names)).figure for names in (ODD[:2], ODD))
    many.canvas.draw()  # an error where the axes are left no room
    assert many.get_figwidth() == few.get_figwidth()
    assert few.get_figheight() < many.get_figheight() < 3 * few.get_figheight()


def test_the_legend_of_an_alignment_has_every_model_and_every_kind_of_line_once():
    ax = plot.alignment(made.tree(ODD, jacobians=True))
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert shown == [*map(legend, ODD), "token mean", "cotangent"]


def test_figures_do_not_hang_on_the_callers_latex(monkeypatch, tmp_path):
    """With `text.usetex` every text would go through LaTeX, which knows neither `‖` nor a bare `_`."""

    def called(*_, **__):
        raise AssertionError("LaTeX was called")

    for reader in ("get_text_width_height_descent", "make_dvi", "make_png"):
        monkeypatch.setattr(f"matplotlib.texmanager.TexManager.{reader}", called)
    monkeypatch.setitem(plt.rcParams, "text.usetex", True)
    run, swept = made.tree(steps=(0, 3)), made.sweep(depths=(1, 2, 4))
    given = plt.subplots()[1]
    drawn = [plot.comparison(run, swept), plot.profile(run, ax=given), plot.heatmap(run["pre"])]
    assert plt.rcParams["text.usetex"] is True
    for one in drawn:
        whole = one if isinstance(one, plt.Figure) else one.figure
        whole.draw_without_rendering()
        plot.save(one, tmp_path / "x", pd.DataFrame())


# ---- names in a tree ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/../b", "/a", "a/", "a//b", " ", "a\nb", "\x00", "\ud800", 3])
def test_a_name_that_is_no_path_is_refused(name):
    with pytest.raises(ValueError, match=r"a model is named .*: a text of .* with names on both sides of a '/'"):
        check_names({name: None})


@pytest.mark.parametrize("name", ["seed", "step", "seed/x"])
def test_a_name_of_a_dimension_is_refused(name):
    with pytest.raises(ValueError, match=r"a model is named .*, as a coordinate of results is: give it another name"):
        label({name: Readings({}, {})}, leading={"step": [0], "seed": [0]})


def test_a_model_inside_another_is_refused():
    with pytest.raises(ValueError, match="'a/b' lies inside 'a'"):
        check_names({"a": None, "a/b": None})


@pytest.mark.further
def test_nested_models_are_models_by_their_paths(tmp_path):
    tree = made.tree(("t5/encoder", "t5/decoder", "pre"))
    assert list(nodes(tree)) == ["t5/encoder", "t5/decoder", "pre"]
    assert list(nodes(tree["t5"])) == ["encoder", "decoder"]
    assert tables.called(tree["t5/encoder"]) == "t5/encoder"
    ax = plot.profile(tree)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "t5/encoder",
        "t5/decoder",
        "pre",
        "attention",
        "mlp",
    ]
    assert plot.budget(tree["t5/decoder"]).get_title(loc="left") == "t5/decoder"
    out = gf.report.write(tree, tmp_path / "out", sweep=made.sweep(("t5/encoder", "pre"), depths=(1, 2, 3)))
    told = (out / "tables" / "summary.txt").read_text(encoding="utf-8")
    assert "t5/encoder: the gradient at the bottom" in told
    (slopes,) = [line for line in told.splitlines() if "exponent in the number of blocks" in line]
    assert "t5/encoder " in slopes
    kept = gf.results.load(out / "results.nc")
    assert list(nodes(kept["training"])) == ["t5/encoder", "t5/decoder", "pre"]
    assert settings(kept["training/t5/encoder"])["data"] == made.TEXT


def test_the_size_of_a_sweep_is_no_part_of_a_models_name():
    family = lambda *paths: families(
        type(made.tree()).from_dict(
            {path: made.tree()["pre"].to_dataset().assign_attrs(total_depth=6) for path in paths}
        ),
        "total_depth",
    )
    assert list(family("pre/depth_6", "t5/depth_6/encoder", "t5/decoder/depth_6")) == [
        "pre",
        "t5/encoder",
        "t5/decoder",
    ]
    assert list(family("depth_6/depth_6")) == ["depth_6"]
    with pytest.raises(ValueError, match="pre is of no sweep over width: give what `gf.sweep` returned"):
        families(made.tree(), "width")


# ---- cells --------------------------------------------------------------------------------------------------


def test_a_markdown_cell_is_one_cell_in_one_line():
    names = ["a|b", "c\\", "d\\|e", "f\ng", "<script>", "`h`"]
    told = atlas_page.markdown(pd.DataFrame({"wiring": names, "failed": ["x|\ny"] * len(names)})).splitlines()
    assert len(told) == 2 + len(names)
    bars = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in told}
    assert len(bars) == 1
    page = atlas_page.page(pd.DataFrame({"wiring": names}), "a caption")
    assert "<script>`" not in page
    assert page.count("<td") == len(names) * page.count("<th>")


def test_all_that_is_drawn_is_under_one_style():
    assert canvas.STYLE["text.usetex"] is False
