"""One seed has no interval: on screen, in figures, tables and LaTeX; nor have two of which one is not finite."""

import made
import numpy as np
import pandas as pd
import pytest

import gradflow as gf
from gradflow.report import plot, tables
from gradflow.report.tables import fits, jacobians, theory
from gradflow.report.text import captions, findings, summary

ALONE = {"one": {"seeds": 1}, "two, one lost": {"seeds": 2, "spoil": made.without(1)}}


@pytest.fixture(scope="module", params=["one", pytest.param("two, one lost", marks=pytest.mark.further)])
def folder(request, tmp_path_factory):
    options = ALONE[request.param]
    tree, swept = made.tree(jacobians=True, **options), made.sweep(depths=(1, 2, 4, 8, 12, 16), **options)
    return gf.report.write(tree, tmp_path_factory.mktemp("alone") / "out", sweep=swept)


def test_nothing_that_is_written_has_an_interval(folder):
    told = (folder / "tables" / "summary.txt").read_text(encoding="utf-8")
    tex = (folder / "body.tex").read_text(encoding="utf-8").replace(r"5 to 95\%", "")  # quantiles, not intervals
    for words in ("±", "95%", "[", "1 seeds"):
        assert words not in told
    for words in (r"\pm", r"95\%", "bands:", "two standard errors"):
        assert words not in tex
    assert "no intervals" in told
    assert "Of one seed: there are no intervals" in tex
    for path in folder.rglob("*.csv"):
        frame = pd.read_csv(path, comment="#" if path.parent.name == "figures" else None)
        for column in {"low", "high"} & set(frame):
            assert frame[column].isna().all(), path.name
        assert not frame.map(str).map(lambda cell: "±" in cell or " [" in cell).to_numpy().any(), path.name


DRAWINGS = {
    "profile": lambda tree, swept: plot.profile(tree),
    "laws": lambda tree, swept: plot.profile(tree, relative_to="top", laws=fits.law_curves(fits.law_choices(tree))),
    "budget": lambda tree, swept: plot.budget(tree["post"]),
    "totals": lambda tree, swept: plot.budget_totals(tree),
    "bands": lambda tree, swept: plot.spectrum_bands(tree["post"]),
    "factors": lambda tree, swept: plot.factors(tree["post"]),
    "exponents": lambda tree, swept: plot.exponents(tree),
    "alignment": lambda tree, swept: plot.alignment(tree),
    "depth": lambda tree, swept: plot.total_depth(swept, laws=fits.law_curves(fits.total_depth_laws(swept))),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_caption_promises_a_band(name):
    tree, swept = made.tree(seeds=1, jacobians=True), made.sweep(seeds=1, depths=(1, 2, 4, 8, 12, 16))
    caption = DRAWINGS[name](tree, swept).get_label()
    assert captions.ALONE in caption
    for words in ("95%", "bands", "interval of its exponent", "two standard errors", "means over seeds"):
        assert words not in caption.replace(captions.ALONE, "").replace("5 to 95%", "")


def test_exponents_have_the_scatter_along_the_stack_beside_them_and_no_band_of_it():
    table = jacobians.exponents(made.tree(seeds=1, jacobians=True))
    assert table[["low", "high"]].isna().all(axis=None)
    assert (table["sem"] > 0).all()


def test_one_seed_is_in_the_singular():
    assert captions.short(made.tree(seeds=1)).startswith("1 seed,")
    assert captions.short(made.tree(seeds=2)).startswith("2 seeds,")
    assert summary.lines(made.tree(seeds=1))[-1] == "no intervals, 1 seed, float64; geometric means"


def test_one_seed_has_no_variance_over_seeds():
    widths = {n: made.tree(("pre",), seeds=1) for n in (8, 16)}
    nodes = {f"pre/width_{n}": tree["pre"].to_dataset().assign_attrs(width=n) for n, tree in widths.items()}
    table = theory.variance(type(widths[8]).from_dict(nodes))
    assert table[["mean", "low", "high", "law"]].isna().all(axis=None)


def test_a_difference_of_one_seed_is_told_and_said_to_be_no_more():
    from gradflow.results.tree import Readings, label, side_by_side

    def run(loss):
        return label(
            {"pre": Readings({"heldout_loss": np.array([[5.5], [loss]])}, {})}, leading={"step": [0, 9], "seed": [0]}
        )

    tree = side_by_side("recipe", {"a": run(3.0), "b": run(2.8)}, lr=[1e-3] * 2, warmup=[0.0, 9.0])
    (told,) = findings.warmup(tree)
    assert "changes the loss by −0.20 nat (with minus without); one seed says no more" in told
    assert tables.interval({"mean": np.nan, "low": np.nan, "high": np.nan}) == "not finite"
