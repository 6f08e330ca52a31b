"""What is not finite is told by model, seed and place; the rest is averaged, drawn and written."""

import made
import numpy as np
import pandas as pd
import pytest

import gradflow as gf
from gradflow.report import plot, tables
from gradflow.report.tables import experiments, fits, jacobians, nonfinite
from gradflow.report.text import captions, summary
from gradflow.results import band
from gradflow.results.agreement import against_theory, expectation
from gradflow.results.statistics import paired_log_ratio


@pytest.fixture(scope="module")
def one_lost():
    return made.tree(spoil=made.without(1, of="post"), jacobians=True)


def only(tree, *seeds: int):
    return tree.isel(seed=list(seeds))


def test_one_seed_of_three_that_is_not_finite_leaves_the_other_two(one_lost):
    table = tables.profile(one_lost, "stream_gradient", relative_to="readout")
    kept = tables.profile(only(one_lost, 0, 2), "stream_gradient", relative_to="readout")
    post = lambda rows: rows[rows["model"] == "post"]
    pd.testing.assert_frame_equal(post(table), post(kept))
    assert table.groupby("model")["n"].unique().map(list).to_dict() == {"post": [2], "pre": [3]}


def test_the_figure_has_both_models_and_its_caption_names_the_seed(one_lost):
    ax = plot.profile(one_lost, relative_to="readout")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["pre", "post", "attention", "mlp"]
    assert all(np.isfinite(line.get_ydata()).all() for line in ax.lines)
    assert "not finite: post, seed 1, left out of the means" in ax.get_label()


def test_the_summary_names_model_seed_and_place_and_says_what_means_are_of(one_lost):
    told = summary.lines(one_lost)
    assert "post, seed 1: not finite, first the stream rms at stream position 0" in told
    assert "post: where it is not finite, means are over the other 2 of 3 seeds" in told
    kept = summary.lines(only(one_lost, 0, 2))
    line = next(line for line in told if line.startswith("post: the gradient at the bottom"))
    assert line in kept
    assert not any("nan" in line or "inf" in line for line in told)


def test_a_pair_is_of_the_seeds_that_both_have(one_lost):
    (told,) = [line for line in summary.lines(one_lost) if line.startswith("post against pre")]
    assert "paired over 2 of 3 seeds" in told
    bottom = [
        (node["stream_gradient"] / node["readout_gradient"]).isel(depth=0) for node in only(one_lost, 0, 2).leaves
    ]
    assert tables.digits(float(np.exp(paired_log_ratio(bottom[1], bottom[0])["mean"]))) in told


PLACES = {
    "on the way forward the lowest position": ("stream_rms", np.s_[1, 2:], np.nan, "stream rms at stream position 2"),
    "the loss has no position": ("loss", np.s_[1], np.inf, "loss"),
    "on the way back the highest position": (
        "stream_gradient",
        np.s_[1, :3],
        np.inf,
        "stream gradient at stream position 2",
    ),
    "the readout": ("readout_gradient", np.s_[1], np.nan, "gradient at the readout"),
    "a weight": ("parameter_gradient", np.s_[1, 1, 1], np.inf, "parameter gradient at sublayer 2"),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_first_place_is_told(place):
    quantity, where, value, words = PLACES[place]

    def spoil(models):
        models["pre"][quantity][where] = value

    found = nonfinite.lines(tables.nodes(made.tree(spoil=spoil)))
    assert found[0] == f"pre, seed 1: not finite, first the {words}"


def test_weights_that_a_sublayer_does_not_have_are_no_fault():
    assert nonfinite.lines(tables.nodes(made.tree())) == []
    assert tables.profile(made.tree(), "parameter_gradient", parameter="down")["sublayer"].tolist() == [2, 4] * 2


def test_positions_lost_for_some_seeds_are_counted_place_by_place():
    def spoil(models):
        models["pre"]["stream_gradient"][:2, 0] = np.inf

    tree = made.tree(("pre",), spoil=spoil)
    table = tables.profile(tree, "stream_gradient")
    assert table["n"].tolist() == [1, 3, 3, 3, 3]
    assert table["mean"][0] == pytest.approx(float(tree["pre"]["stream_gradient"][2, 0]))
    assert np.isnan(table["low"][0])


def test_the_parts_of_a_budget_are_of_the_same_seeds_so_that_they_add_up():
    def spoil(models):
        models["pre"]["budget"][1, 2, 0] = np.nan

    means = band(tables.net_budget(made.tree(spoil=spoil)["pre"]))
    assert means["n"].values.tolist() == [2, 2, 2]
    assert float(means["mean"].sel(part="net")) == pytest.approx(float(means["mean"].sel(part=["norm", "fork"]).sum()))


@pytest.mark.parametrize("steps", [None, pytest.param((0, 3), marks=pytest.mark.further)])
def test_a_model_that_is_finite_nowhere_stays_and_its_legend_says_so(steps, tmp_path):
    tree = made.tree(spoil=made.without(0, 1, 2, of="post"), steps=steps, jacobians=True)
    out = gf.report.write(
        tree, tmp_path / "out", sweep=made.sweep(depths=(1, 2, 3), spoil=made.without(0, 1, 2, of="post"))
    )
    *texts, _, _ = [text.get_text() for text in plot.profile(tree).get_legend().get_texts()]
    assert [text.endswith(": not finite") for text in texts] == [text.startswith("post") for text in texts]
    assert {text[:3] for text in texts} == {"pre", "pos"}
    rows = pd.read_csv(out / "figures" / "stream_gradient.csv", comment="#")
    lost = rows[rows["model"] == "post"]
    assert len(lost) == len(rows) / 2
    assert (lost["n"] == 0).all()
    assert lost["mean"].isna().all()
    told = (out / "tables" / "summary.txt").read_text(encoding="utf-8")
    assert "post, seed 2: not finite" in told
    assert "means are over none of its seeds" in told
    for word in ("nan", "inf "):
        assert word not in told
        assert word not in (out / "body.tex").read_text(encoding="utf-8").replace("infinite", "")
    results = pd.read_csv(out / "tables" / "results.csv")
    assert results[results["model"] == "post"]["mean"].isna().all()
    assert "& not finite" in (out / "body.tex").read_text(encoding="utf-8")
    assert set(gf.results.load(out / "results.nc")["training"].children) == {"pre", "post"}


def test_a_divergence_in_training_leaves_earlier_steps_as_they_were():
    def spoil(models):
        made.without(1, of="post", from_step=1)(models)
        for what, value in {"step": 3, "depth": 2, "quantity": 0}.items():
            models["post"][f"nonfinite_{what}"][1:, 1] = value

    tree = made.tree(steps=(0, 3), spoil=spoil)
    table = tables.profile(tree, "stream_gradient")
    assert table[table["model"] == "post"].groupby("step")["n"].max().tolist() == [3, 2]
    assert "post, seed 1: not finite from step 3 on, first the stream at stream position 2" in summary.lines(tree)


def test_laws_are_of_the_seeds_that_are_finite(one_lost):
    found, kept = (fits.law_rows(fits.law_choices(tree)) for tree in (one_lost, only(one_lost, 0, 2)))
    post = lambda rows: rows[rows["model"] == "post"].reset_index(drop=True)
    pd.testing.assert_frame_equal(post(found), post(kept))
    assert set(post(found)["n"]) == {2}
    swept = made.sweep(spoil=made.without(1))
    assert {fitted.attrs["seeds"] for fitted in fits.total_depth_slopes(swept).values()} == {2}


def test_no_law_at_all_is_a_table_with_its_columns(tmp_path):
    empty = fits.law_rows(fits.law_choices(made.tree(spoil=made.without(0, 1, 2))))
    assert empty.empty
    empty.to_csv(tmp_path / "laws.csv", index=False)
    assert pd.read_csv(tmp_path / "laws.csv").columns.tolist() == list(fits.LAW_COLUMNS)


def test_spectra_are_of_the_finite_seeds_and_where_one_did_not_converge_there_is_no_mean(one_lost):
    bands = jacobians.bands(one_lost["post"])
    kept = jacobians.bands(only(one_lost, 0, 2)["post"])
    pd.testing.assert_frame_equal(bands, kept)
    assert jacobians.active_factors(one_lost["post"]) == jacobians.active_factors(only(one_lost, 0, 2)["post"])

    def spoil(models):
        models["pre"]["smallest_singular_value"][0, 1] = np.nan

    missing = jacobians.bands(made.tree(spoil=spoil, jacobians=True)["pre"])["smallest"]
    assert missing.isna().tolist() == [False, True, False, False]


def test_a_seed_that_is_not_finite_has_no_spectrum_and_the_line_says_why(one_lost):
    with pytest.raises(ValueError, match="sublayer 2 has no spectrum: post, seed 1: not finite"):
        plot.spectrum(one_lost["post"], sublayer=2, seed=1)


def test_theory_is_compared_with_the_seeds_that_are_finite():
    measured = made.tree(seeds=4, spoil=made.without(3))
    theory = made.tree(seeds=1).isel(seed=0, drop=True)
    for node in theory.leaves:
        node["stream_gradient_sem"] = 0.01 * node["stream_gradient"]
    found, kept = against_theory(measured, theory)["pre"], against_theory(only(measured, 0, 1, 2), theory)["pre"]
    for what in ("ratio", "ratio_sem", "z"):
        np.testing.assert_allclose(found[what], kept[what])
    assert set(found["n"].values) == {3}
    mean = expectation(measured["pre"]["stream_gradient"])
    np.testing.assert_allclose(mean["high"], expectation(only(measured, 0, 1, 2)["pre"]["stream_gradient"])["high"])
    assert set(mean["n"].values) == {3}


def test_many_seeds_are_not_told_one_by_one():
    tree = made.tree(("pre",), seeds=20, spoil=made.without(*range(15)))
    assert len(nonfinite.lines(tables.nodes(tree))) == nonfinite.TOLD + 2
    assert "seeds 0, 1, 2, 3, 4, 5, 6, 7 and 7 more" in captions.setting(tree)["not finite"]


def test_outcomes_are_of_the_runs_that_are_finite_and_count_those_that_diverged():
    tree = made.tree(("pre",), steps=(0, 3), spoil=made.without(2, from_step=1))
    tree["pre"]["heldout_loss"][0] = 9.0
    recipes = tree.to_dataset(), tree["pre"].to_dataset(inherit=False).expand_dims(recipe=["a"])
    run = type(tree).from_dict({"/": recipes[0], "pre": recipes[1]})
    (row,) = experiments.outcomes(run).to_dict("records")
    assert (row["diverged"], row["n"], row["seeds"]) == (1, 2, 3)
    assert np.isfinite(row["mean"])
