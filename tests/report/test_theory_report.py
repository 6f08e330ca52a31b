"""Figures, tables and captions of theory beside measurement."""

import numpy as np
import optax
import pytest

import gradflow as gf
from gradflow.report import bundle, plot, tables
from gradflow.report.tables import theory as theory_tables
from gradflow.results.agreement import expectation


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


@pytest.fixture(scope="module")
def models():
    return gf.transformers("pre", "post", depth=2, width=8, heads=2, context=8)


@pytest.fixture(scope="module")
def measured(models, data):
    return gf.measure(models, data, seeds=3, quantities=("backward", "partial_jacobian"))


@pytest.fixture(scope="module")
def theory(models, data):
    return gf.predict(models, data, quantities=("backward", "partial_jacobian"), replicas=2)


@pytest.fixture(scope="module")
def widths(models, data):
    sizes = {"width": (8, 16)}
    return gf.sweep(models, data, seeds=3, **sizes), gf.sweep(models, data, take=gf.predict, replicas=2, **sizes)


def lines(ax, style: str):
    """Lines of a figure drawn in that style."""
    return [line for line in ax.get_lines() if line.get_linestyle() == style and len(line.get_xdata()) > 2]


def test_theory_is_dotted_over_the_root_mean_square(measured, theory):
    ax = plot.profile(measured, relative_to="readout", theory=theory)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["pre", "post", "theory", "attention", "mlp"]
    solid = {line.get_label(): line for line in (*lines(ax, "-"), *lines(ax, "--"))}
    for name in ("pre", "post"):
        ratio = (measured[name]["stream_gradient"] / measured[name]["readout_gradient"]).rename("stream_gradient")
        np.testing.assert_allclose(solid[name].get_ydata(), expectation(ratio)["mean"], rtol=1e-6)
    for name, line in zip(("pre", "post"), lines(ax, ":"), strict=True):
        told = theory[name]["stream_gradient"] / theory[name]["readout_gradient"]
        np.testing.assert_allclose(line.get_ydata(), told, rtol=1e-6)


def test_the_caption_says_what_is_drawn_and_what_the_theory_assumes(measured, theory):
    caption = plot.profile(measured, theory=theory).get_label()
    for words in (
        "root mean squares over seeds",
        "dotted: theory",
        "infinite width",
        "8 attention heads",
        "Monte Carlo",
    ):
        assert words in caption
    assert "geometric" not in caption
    assert "Lines: means over seeds" in plot.profile(measured, "token_cosine", theory=theory).get_label()


def test_the_table_behind_the_figure_has_the_prediction(measured, theory):
    table = tables.profile(measured, "parameter_gradient", theory=theory, parameter="down")
    rows = table[table["model"] == "post"]
    expected = theory["post"]["parameter_gradient"].sel(parameter="down").dropna("sublayer")
    np.testing.assert_allclose(rows["theory"], expected, rtol=1e-6)


def test_partial_jacobians_are_drawn_over_their_mean(measured, theory):
    where = {"probe": "isotropic"}
    table = tables.profile(measured, "partial_jacobian", theory=theory, **where)
    mean = measured["post"]["partial_jacobian"].sel(where).mean("seed")
    np.testing.assert_allclose(table[table["model"] == "post"]["mean"], mean, rtol=1e-6)


def test_a_prediction_alone_is_drawn_without_a_band(theory):
    ax = plot.profile(theory, relative_to="readout")
    assert [line.get_label() for line in (*lines(ax, "-"), *lines(ax, "--"))] == ["pre", "post"]
    plot.budget(theory["post"])
    assert "seeds" not in ax.get_label()


def test_of_a_run_the_start_is_drawn(models, data, theory):
    _, run = gf.train(
        {"pre": models["pre"]}, data, optax.adam(1e-3), steps=2, record=(0, 2), seeds=2, readings="economy"
    )
    assert set(tables.profile(run, "stream_gradient", theory=theory)) >= {"theory", "mean"}
    assert "step" not in tables.profile(run, "stream_gradient", theory=theory)


def test_a_model_without_a_prediction_is_named(measured, theory):
    with pytest.raises(ValueError, match="no theory of 'post': predict pre, post"):
        plot.profile(measured, theory={"pre": theory["pre"]})


@pytest.mark.long
def test_agreement_against_the_width_is_the_ratio_with_its_interval(widths):
    seen, told = widths
    table = theory_tables.agreement(seen, told)
    assert list(table[table["model"] == "pre"]["width"]) == [8, 16]
    squares = seen["post/width_16"]["stream_gradient"].isel(depth=0) ** 2
    ratio = float(squares.mean() / told["post/width_16"]["stream_gradient"][0] ** 2)
    row = table[(table["model"] == "post") & (table["width"] == 16)].iloc[0]
    assert row["mean"] == pytest.approx(ratio, rel=1e-6)
    assert row["low"] < row["mean"] < row["high"]
    ax = plot.agreement(seen, told)
    assert ax.get_xlabel() == "width"
    assert "Monte Carlo error at most" in ax.get_label()


@pytest.mark.long
def test_the_variance_over_seeds_has_a_1_over_width_beside_it(widths):
    seen, _ = widths
    table = theory_tables.variance(seen)
    rows = table[table["model"] == "post"]
    np.testing.assert_allclose(rows["law"] * rows["width"], (rows["law"] * rows["width"]).iloc[0])
    assert (rows["low"] < rows["mean"]).all()
    assert (rows["mean"] < rows["high"]).all()
    gain = np.log(seen["post/width_8"]["stream_gradient"].isel(depth=0) / seen["post/width_8"]["readout_gradient"])
    assert rows["mean"].iloc[0] == pytest.approx(float(gain.var(ddof=1)), rel=1e-5)
    assert plot.variance(seen).get_yscale() == "log"


@pytest.mark.long
def test_rates_are_a_row_a_model(models, data):
    deep = gf.sweep(models, data, depth=(1, 3), take=gf.predict, draws=1, replicas=2)
    table = theory_tables.rates(deep)
    assert list(table.columns) == ["model", "L = 1", "L = 3", "per log L", "last gradient"]
    node = deep["post/depth_3"]["stream_gradient"]
    gain = float(np.log(node[0] / node[-1]))
    assert table["L = 3"].iloc[1] == tables.signed(gain, 2)


@pytest.mark.long
def test_the_folder_holds_the_figure_of_theory_and_its_data(measured, theory, tmp_path):
    out = bundle.write(measured, tmp_path / "out", theory=theory)
    assert {path.suffix for path in (out / "figures").glob("theory.*")} == {".pdf", ".png", ".csv"}
    tree = gf.results.load(out / "results.nc")
    assert list(tree.children) == ["training", "theory"]
    assert "infinite width" in (out / "body.tex").read_text(encoding="utf-8")
