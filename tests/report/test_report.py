"""Tables, figures, captions and the folder, from one small run."""

import hashlib
import json
import shutil
import subprocess

import jax
import made
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import pytest
import xarray as xr

import gradflow as gf
from gradflow.report import bundle, plot, tables
from gradflow.report.paper.latex import latex
from gradflow.report.plot.canvas import darker
from gradflow.report.tables import fits
from gradflow.report.text import captions, summary
from gradflow.results import folder
from gradflow.results.tree import Readings, label


@pytest.fixture(scope="module")
def shape():
    return {"depth": 2, "width": 8, "heads": 2, "context": 8}


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


@pytest.fixture(scope="module")
def run(shape, data):
    return gf.train(
        gf.transformers("pre", "post", **shape), data, optax.adam(1e-3), steps=3, record=(0, 1, 3), seeds=3
    )[1]


@pytest.fixture(scope="module")
def sweep(shape, data):
    models = gf.transformers("pre", "post", **shape)
    return gf.sweep(models, data, depth=(1, 2, 4), seeds=3, quantities="economy")


def measured_start(shape, data):
    quantities = ("backward", "partial_jacobian", "spectrum", "lyapunov", "alignment")
    return gf.measure(gf.transformers("pre", "post", **shape), data, seeds=3, quantities=quantities)


@pytest.fixture(scope="module", params=["made up", pytest.param("measured", marks=pytest.mark.long)])
def start(shape, data, request):
    """A measurement at initialization with all that is read of Jacobians, most of whose time is the compiler's."""
    return made.tree(jacobians=True) if request.param == "made up" else measured_start(shape, data)


@pytest.fixture(scope="module")
def paper(run, sweep, tmp_path_factory):
    """The folder of a run with its sweep."""
    return gf.report.write(run, tmp_path_factory.mktemp("paper") / "out", sweep=sweep)


@pytest.fixture(scope="module")
def started(start, tmp_path_factory):
    """The folder of a measurement."""
    return gf.report.write(start, tmp_path_factory.mktemp("start") / "out")


def test_a_profile_table_holds_the_geometric_mean_of_the_ratio_to_the_readout(run):
    table = tables.profile(run, "stream_gradient", relative_to="readout", steps=(1,))
    node = run["post"].sel(step=1)
    ratio = node["stream_gradient"] / node["readout_gradient"]
    expected = np.exp(np.log(ratio).mean("seed"))
    np.testing.assert_allclose(table[table["model"] == "post"]["mean"], expected, rtol=1e-6)


def test_the_net_budget_and_the_final_norm_add_up_to_the_attenuation_to_the_readout(run):
    for node in run.children.values():
        net = tables.net_budget(node).sel(part="net") + node["leave_gain"]
        ratio = np.log(node["stream_gradient"].isel(depth=0) / node["readout_gradient"])
        np.testing.assert_allclose(net, ratio, atol=1e-5)


def test_the_budget_summed_from_the_top_is_the_log_of_the_profile(run):
    node = run["post"].sel(step=3)
    table = tables.budget_from_top(run["post"], steps=(3,))
    net = table[table["part"] == "net"].sort_values("depth")["mean"]
    profile = np.log(node["stream_gradient"] / node["stream_gradient"].isel(depth=-1)).mean("seed")
    np.testing.assert_allclose(net, profile, atol=1e-5)


def test_a_quantity_with_a_further_dimension_asks_for_an_entry(run):
    with pytest.raises(ValueError, match="parameter"):
        tables.profile(run, "parameter_gradient")
    with pytest.raises(KeyError, match="stream_gradient"):
        tables.profile(run, "stream_gradiant")
    with pytest.raises(ValueError, match="readout"):
        tables.profile(run, "stream_gradient", relative_to="redout")


def test_a_step_that_was_not_recorded_is_refused_and_one_beyond_the_last_means_the_last(run):
    with pytest.raises(ValueError, match="step 2 was not recorded; recorded: 0, 1, 3"):
        tables.budget_totals(run, steps=(2,))
    assert set(tables.budget_totals(run, steps=(0, 100))["step"]) == {0, 3}


def test_positions_are_marked_by_the_sublayer_below_them(run):
    table = tables.profile(run, "stream_gradient", steps=(0,))
    kinds = table[table["model"] == "pre"].sort_values("depth")["kind"].tolist()
    assert kinds == ["embedding", "attention", "mlp", "attention", "mlp"]


DRAWINGS = {
    "profile": lambda run, sweep, start, ax: plot.profile(run, relative_to="readout", steps=(0, 3), ax=ax),
    "parameters": lambda run, sweep, start, ax: plot.profile(run, "parameter_gradient", parameter="query", ax=ax),
    "partial": lambda run, sweep, start, ax: plot.profile(start, "partial_jacobian", probe="isotropic", ax=ax),
    "cosine": lambda run, sweep, start, ax: plot.profile(start, "token_cosine", ax=ax),
    "budget": lambda run, sweep, start, ax: plot.budget(run["post"], steps=(0, 3), ax=ax),
    "totals": lambda run, sweep, start, ax: plot.budget_totals(run, steps=(0, 3), ax=ax),
    "totals_now": lambda run, sweep, start, ax: plot.budget_totals(start, ax=ax),
    "heatmap": lambda run, sweep, start, ax: plot.heatmap(run["post"], ax=ax),
    "spectrum": lambda run, sweep, start, ax: plot.spectrum(start["post"], sublayer=2, ax=ax),
    "bands": lambda run, sweep, start, ax: plot.spectrum_bands(start["pre"], jacobian="branch", ax=ax),
    "density": lambda run, sweep, start, ax: plot.spectral_density(start["post"], ax=ax),
    "factors": lambda run, sweep, start, ax: plot.factors(start["post"], "log_volume", ax=ax),
    "exponents": lambda run, sweep, start, ax: plot.exponents(start, ax=ax),
    "alignment": lambda run, sweep, start, ax: plot.alignment(start, ax=ax),
    "total_depth": lambda run, sweep, start, ax: plot.total_depth(sweep, ax=ax),
    "laws": lambda run, sweep, start, ax: plot.profile(
        start, relative_to="top", laws=fits.law_curves(fits.law_choices(start)), ax=ax
    ),
    "depth_laws": lambda run, sweep, start, ax: plot.total_depth(
        sweep, laws=fits.law_curves(fits.total_depth_laws(sweep)), ax=ax
    ),
    "training": lambda run, sweep, start, ax: plot.training(run, "loss", ax=ax),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_takes_an_axes_and_returns_it_labelled_and_drawn(name, run, sweep, start):
    ax = plt.subplots()[1]
    assert DRAWINGS[name](run, sweep, start, ax) is ax
    assert ax.get_xlabel() or name in ("totals", "totals_now")
    assert ax.get_ylabel()
    assert ax.lines or ax.patches or ax.collections
    assert "probe" in ax.get_label() or "exact" in ax.get_label()
    assert "seeds: 3" in ax.get_label()
    ax.figure.canvas.draw()


def test_a_curve_in_the_picture_is_the_column_in_the_table(run):
    ax = plot.profile(run, relative_to="readout", steps=(3,))
    table = tables.profile(run, "stream_gradient", relative_to="readout", steps=(3,))
    drawn = next(line for line in ax.lines if line.get_label().startswith("post"))
    np.testing.assert_allclose(drawn.get_ydata(), table[table["model"] == "post"]["mean"])


# ---- laws ---------------------------------------------------------------------------------------------------


def profiles(*names: str, steps=None) -> xr.DataTree:
    """A tree whose stream gradients are e^{−0.1 l} and flat, up to a little noise, at 30 positions and 5 seeds."""
    draw, l = np.random.default_rng(0).normal, np.arange(30)
    shape = () if steps is None else (len(steps),)
    leading = ({} if steps is None else {"step": list(steps)}) | {"seed": range(5)}
    slopes = {"falling": -0.1, "flat": 0.0}
    models = {}
    for name in names:
        values = np.exp(slopes[name] * l + 0.01 * draw(size=(*shape, 5, 30)))
        arrays = {"stream_gradient": values, "readout_gradient": np.ones((*shape, 5))}
        models[name] = Readings(arrays, {"depth": l})
    return label(models, leading=leading)


def test_a_table_of_laws_lists_every_candidate_with_its_score_and_one_is_chosen():
    table = fits.law_rows(fits.law_choices(profiles("falling", "flat")))
    assert len(table) == 2 * 4
    chosen = table[table["verdict"] == "chosen"].set_index("model")
    assert chosen["law"].to_dict() == {"falling": "exponential", "flat": "constant"}
    assert chosen.loc["falling", "sentence"].startswith(("e^((−0.10", "e^((−0.09"))
    assert chosen.loc["falling", "low"] < -0.1 + 1e-3
    assert np.isnan(chosen.loc["flat", "estimate"])
    assert (table["behind"] >= 0).all()
    assert table["scored_by"].str.contains("left out").all()


def test_laws_are_chosen_at_every_step_or_at_those_asked_for():
    tree = profiles("falling", "flat", steps=(0, 10, 100))
    assert set(fits.law_choices(tree)) == {(name, step) for name in ("falling", "flat") for step in (0, 10, 100)}
    assert set(fits.law_choices(tree, steps=(0,))) == {("falling", 0), ("flat", 0)}


def test_the_reference_of_a_profile_moves_its_level_and_not_its_law():
    tree = profiles("falling", "flat")
    top, absolute = (fits.law_rows(fits.law_choices(tree, relative_to=to)) for to in ("top", None))
    pd.testing.assert_frame_equal(top[["law", "verdict"]], absolute[["law", "verdict"]])
    sure = top["law"] != "power"  # where it is not identified, its numbers are any
    np.testing.assert_allclose(top["estimate"][sure], absolute["estimate"][sure], atol=1e-6)


def test_a_profile_without_logarithms_or_seeds_enough_has_no_law():
    tree = profiles("falling", "flat")
    holes = tree.map_over_datasets(lambda node: node.where(node["depth"] != 3) if "depth" in node.dims else node)
    assert fits.law_choices(holes) == {}
    assert fits.law_rows({}).empty
    short = tree.map_over_datasets(lambda node: node.isel(depth=slice(4)) if "depth" in node.dims else node)
    assert set(fits.law_choices(short, relative_to=None)) == {("falling", None), ("flat", None)}
    alone = xr.DataTree.from_dict({name: node.to_dataset().isel(seed=[0]) for name, node in short.children.items()})
    assert fits.law_choices(alone, relative_to=None) == {}


def test_the_gradient_of_a_parameter_has_its_law_over_sublayers(start):
    choices = fits.law_choices(start, "parameter_gradient", relative_to=None, parameter="down")
    assert choices == {}  # attention has none: not finite at every sublayer
    choices = fits.law_choices(start, "branch_rms", relative_to=None)
    assert {choice.attrs["over"] for choice in choices.values()} == {"sublayer"}


def test_the_legend_tells_the_chosen_law_and_draws_it_dotted():
    tree = profiles("falling", "flat")
    choices = fits.law_choices(tree)
    ax = plot.profile(tree, relative_to="top", laws=fits.law_curves(choices))
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [f"{name}: {gf.laws.to_text(choices[name, None])}" for name in ("falling", "flat")]
    assert texts[1] == "flat: constant"
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    expected = choices["falling", None]["curve"].sel(law="exponential")
    np.testing.assert_allclose(dotted[0].get_ydata(), expected)
    solid = next(line for line in ax.lines if line.get_label() == texts[0])
    assert dotted[0].get_color() == darker(solid.get_color())
    assert "dotted: the law chosen" in ax.get_label()


def test_a_long_legend_lies_within_a_columns_width():
    tree = profiles("falling", "flat")
    curves = fits.law_curves(fits.law_choices(tree))
    told = "exp((−0.316 ± 0.111) l^0.5) (or exponential, power)"
    ax = plot.profile(tree, relative_to="top", laws=curves.assign(told=told))
    ax.figure.canvas.draw()
    legend, whole = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert whole.x0 <= legend.x0
    assert legend.x1 <= whole.x1
    assert ax.figure.get_figwidth() == plot.WIDTHS["icml-column"]


def test_laws_of_something_else_are_refused():
    tree = profiles("falling", "flat")
    laws = fits.law_curves(fits.law_choices(tree, relative_to="top"))
    with pytest.raises(ValueError, match="laws are of stream_gradient relative to top, the figure of .* to readout"):
        plot.profile(tree, relative_to="readout", laws=laws)


def test_laws_against_the_total_depth_are_those_of_the_sweep(sweep):
    choices = fits.total_depth_laws(sweep)
    assert set(choices) == {("pre", None), ("post", None)}
    assert all(tuple(c["law"].values) == ("constant", "monomial", "exponential") for c in choices.values())
    table = fits.law_curves(choices)
    assert set(table["total_depth"]) == {1, 2, 4}
    drawn = plot.total_depth(sweep, laws=table)
    assert drawn.get_legend().get_texts()[0].get_text() == f"pre: {gf.laws.to_text(choices['pre', None])}"


def test_the_summary_tells_the_law_at_initialization_and_no_other(run, sweep):
    told = "\n".join(summary.lines(run, sweep))
    for (name, _), choice in fits.law_choices(run, steps=(0,)).items():
        law = choice.sel(law=choice.attrs["chosen"])
        line = f"{name}: stream gradient over positions l at initialization: {gf.laws.to_text(choice)}"
        assert (line in told) == bool(law["identified"])
    assert "law in the number of blocks L: pre " in told
    late = run.isel(step=slice(1, None))
    assert "at initialization: " not in "\n".join(summary.lines(late))


def test_the_comparison_has_four_lettered_panels_at_the_venues_width(run, sweep):
    whole = plot.comparison(run, sweep, width="neurips")
    titles = " ".join(ax.get_title(loc="left") for ax in whole.axes)
    assert all(f"bf{{{letter}}}" in titles for letter in "abcd")
    assert whole.get_figwidth() == plot.WIDTHS["neurips"]


def test_results_have_the_number_of_parameters_of_one_seed(shape, run, sweep):
    for name, model in gf.transformers("pre", "post", **shape).items():
        weights = jax.eval_shape(model.init, jax.random.key(0))
        number = sum(leaf.size for leaf in jax.tree.leaves(weights))
        for trained_or_measured in (run[name], sweep[f"{name}/depth_2"]):
            assert json.loads(trained_or_measured.attrs["description"])["parameters"] == number


def test_a_caption_names_every_confound(run):
    caption = captions.caption(run, "Stream gradient", "stream_gradient")
    for words in (
        "‖∂loss/∂x_l‖",
        "probe",
        "causal mask",
        "context 8",
        "batch 2",
        "mean over all targets",
        "FanIn(gain=1)",
    ):
        assert words in caption
    for words in ("rms 1", "seeds: 3", "float32", "95% t-intervals", "2 blocks of attention, mlp", "LayerNorm"):
        assert words in caption


def test_a_saved_figure_is_pdf_png_and_the_csv_behind_it(run, tmp_path):
    table = tables.profile(run, "stream_gradient", steps=(0,))
    files = plot.save(plot.profile(run, steps=(0,)), tmp_path / "profile", table)
    assert [file.suffix for file in files] == [".pdf", ".png", ".csv"]
    assert files[0].read_bytes()[:4] == b"%PDF"
    assert files[1].read_bytes()[1:4] == b"PNG"
    assert files[2].read_text().startswith("# Stream gradient over depth.")
    read = pd.read_csv(files[2], comment="#")
    np.testing.assert_allclose(read["mean"], table["mean"])


def test_the_summary_says_what_the_numbers_say(run, sweep):
    told = "\n".join(summary.lines(run, sweep))
    ends = tables.ends(run["post"])
    assert tables.interval(ends["bottom"].sel(step=3)) in told
    assert "post: the gradient at the bottom" in told
    assert "exponent in the number of blocks" in told
    assert "3 seeds" in told


def test_a_report_has_the_summary_that_is_computed_by_itself(paper, run, sweep):
    written = (paper / "tables" / "summary.txt").read_text(encoding="utf-8")
    assert written.splitlines() == summary.lines(run, sweep)


def test_a_single_seed_has_no_interval_and_says_so_by_leaving_it_out(start):
    told = "\n".join(summary.lines(start.isel(seed=[0])))
    assert "nan" not in told


def test_a_divergence_is_told_with_seed_step_and_position(shape, data):
    models = gf.transformers("none", **shape)
    _, run = gf.train(models, data, optax.sgd(1e20), steps=4, seeds=2, readings="economy")
    told = [line for line in summary.lines(run) if "not finite from" in line]
    assert len(told) == 2
    assert "seed 0: not finite from step" in told[0]


def test_numbers_are_written_for_people():
    shown = {2.84: "2.8", 0.00123: "0.0012", 13.42: "13.4", -6.08: "−6.1", 3.1e-13: "3.1e-13", 0: "0", 250.0: "2.5e+02"}
    assert {value: tables.digits(value) for value in shown} == shown
    assert [tables.signed(x) for x in (1.66, -13.44, 1e-6)] == ["+1.7", "−13.4", "0.0"]


def test_latex_is_ascii_with_its_special_characters_escaped():
    text = latex("50% of ‖g‖² & x_l {α} \\ ≠ 漢")
    assert text.isascii()
    assert text == r"50\% of $\|$g$\|$$^2$ \& x\_l \{$\alpha$\} \textbackslash{} $\neq$ U+6F22"


def test_the_folder_is_complete_and_its_sums_hold(run, paper):
    manifest = json.loads((paper / "manifest.json").read_text())
    written = {str(path.relative_to(paper)) for path in paper.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(manifest["outputs"]) == written
    for name, digest in manifest["outputs"].items():
        assert hashlib.sha256((paper / name).read_bytes()).hexdigest() == digest
    for name in ("results.nc", "appendix.tex", "tables/summary.txt", "tables/results.csv", "figures/comparison.pdf"):
        assert name in written
    saved = gf.results.load(paper / "results.nc")
    xr.testing.assert_identical(saved["training/post"].to_dataset(inherit=False), run["post"].to_dataset(inherit=False))
    assert set(saved["sweep/pre"].children) == {"depth_1", "depth_2", "depth_4"}


def test_a_measurement_without_training_has_its_folder_too(started, tmp_path):
    assert (started / "figures" / "stream_gradient.pdf").exists()
    assert "bottom / readout" in (started / "body.tex").read_text(encoding="utf-8")
    again = gf.report.write(gf.results.load(started / "results.nc"), tmp_path / "again")
    assert {path.name for path in again.iterdir()} == {path.name for path in started.iterdir()}


def test_what_was_read_of_jacobians_is_in_the_folder_and_told(start, started):
    drawn = {path.stem for path in (started / "figures").glob("*.pdf")}
    assert {f"{what}_{name}" for what in ("spectrum_bands", "factors") for name in ("pre", "post")} <= drawn
    assert {"exponents", "alignment"} <= drawn
    told = (started / "tables" / "summary.txt").read_text(encoding="utf-8")
    volume = start["post"]["log_volume"].sel(jacobian="sublayer").sum("sublayer").mean("seed")
    assert f"whole {tables.signed(float(volume))} [" in told
    exponent = start["pre"]["lyapunov_exponent"].isel(direction=0).mean("seed")
    assert f"pre: leading Lyapunov exponent {tables.signed(float(exponent), 3)} [" in told
    assert "U+" not in (started / "body.tex").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_appendix_compiles(paper, tmp_path):
    copy = shutil.copytree(paper, tmp_path / "paper")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "appendix.tex"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def test_results_without_a_backward_pass_are_refused_before_anything_is_written(start, tmp_path):
    jacobians = start.map_over_datasets(lambda node: node.drop_vars("stream_gradient", errors="ignore"))
    with pytest.raises(
        ValueError, match=r"pre has no stream gradient to report: measure it with quantities=\('backward'"
    ):
        gf.report.write(jacobians, tmp_path / "paper")
    assert not (tmp_path / "paper").exists()


def test_a_folder_with_somebodys_content_is_refused_and_left_alone(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="another folder"):
        gf.report.write(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_earlier_result_is_replaced_only_by_the_same_configuration(tmp_path):
    folder.prepare(tmp_path / "out", {"depth": 2}, {})
    folder.prepare(tmp_path / "out", {"depth": 2}, {})
    with pytest.raises(FileExistsError, match="another configuration: depth was 2, now 3"):
        folder.prepare(tmp_path / "out", {"depth": 3}, {})


@pytest.mark.long
def test_a_failure_while_writing_leaves_no_half_written_file(run, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(bundle.files.body, "document", broken)
    with pytest.raises(OSError, match="disk is full"):
        gf.report.write(run, tmp_path / "paper")
    assert [path.name for path in (tmp_path / "paper").iterdir()] == ["manifest.json"]
