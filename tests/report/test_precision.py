"""Errors of rounding in tables, figures and sentences: they are those of the numbers, and the first position is on the way."""

import made
import matplotlib.pyplot as plt
import numpy as np
import pytest

import gradflow as gf
from gradflow.report import gallery, plot
from gradflow.report.tables import precision
from gradflow.report.text import summary
from gradflow.results.quantities import LOST, ROUNDED


def spoiled(models):
    """In bfloat16 the stream passes 1% from position 3 on, its gradient up to position 2; an eighth of the scores is lost."""
    own = models["pre"]
    errors = own["rounding_error"]
    errors[..., 0, :, :] = 1e-4
    errors[..., 0, ROUNDED.index("stream"), 3:] = 0.05
    errors[..., 0, ROUNDED.index("gradient"), :3] = 0.02
    errors[..., 0, ROUNDED.index("budget"), 0] = np.nan
    own["lost_share"][..., 0, LOST.index("scores"), 2] = 0.125


def test_the_first_position_past_a_bound_is_on_the_way_up_of_the_stream_and_on_the_way_down_of_its_gradient():
    table = precision.passes(made.tree(("pre",), layers=True, spoil=spoiled)).set_index(["precision", "rounded"])
    assert table.loc[("bfloat16", "stream"), ["first", "at"]].tolist() == [3, 3]
    assert table.loc[("bfloat16", "gradient"), ["first", "at"]].tolist() == [2, 0]
    assert np.isnan(table.loc[("bfloat16", "budget"), "first"])
    assert table.loc["float32", "first"].isna().all()
    further = precision.passes(made.tree(("pre",), layers=True, spoil=spoiled), bound=0.04)
    assert further["first"].count() == 1


def test_the_sentence_says_how_far_where_and_what_is_lost():
    short, long = gf.findings.precision(made.tree(("pre",), steps=(0, 9), layers=True, spoil=spoiled))[:2]
    assert short == (
        "pre: bfloat16 against float64 at step 0: stream off by at most 0.05 (position 3), gradient off by at most 0.02 "
        "(position 0); first past 0.01: stream at 3, gradient at 2; lost: 12.50% in scores"
    )
    assert "float32 against float64 at step 0" in long
    assert long.endswith("no reading passes 0.01; nothing is lost")
    told = "\n".join(summary.lines(made.tree(("pre",), layers=True, spoil=spoiled)))
    assert "pre: bfloat16 against float64: stream off by at most 0.05" in told
    assert gf.findings.precision(made.tree(("pre",))) == []


def test_the_figure_has_a_row_a_precision_a_panel_an_array_and_comes_with_the_folder():
    tree = made.tree(steps=(0, 9), layers=True, spoil=spoiled)
    figure = plot.precision(tree)
    titles = [ax.get_title(loc="left").split("  ")[1] for ax in figure.axes]
    assert titles == ["stream, bfloat16", "gradient, bfloat16", "stream, float32", "gradient, float32"]
    assert {ax.get_yscale() for ax in figure.axes} == {"log"}
    curve = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(curve.get_ydata(), [1e-4, 1e-4, 1e-4, 0.05, 0.05])
    rounded = set()
    for name, _, table in gallery.figures(tree):
        plt.close("all")
        if name == "precision":
            rounded |= set(table["rounded"])
    assert rounded == set(ROUNDED)
    with pytest.raises(ValueError, match=r"bound is 0: a finite number above 0 is needed"):
        plot.precision(tree, bound=0)
    with pytest.raises(KeyError, match="no 'rounding_error' here"):
        plot.precision(made.tree())
