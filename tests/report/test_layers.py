"""Attention by head, massive activations and layers removed: their tables, figures and sentences are those of the numbers."""

import made
import matplotlib.pyplot as plt
import numpy as np
import pytest

import gradflow as gf
from gradflow.report import gallery, plot, tables
from gradflow.report.tables import activations, attention, extremes, removal
from gradflow.report.text import summary

FIGURES = ("attention_pre", "attention_post", "massive_pre", "massive_post", "removal", "massive_activation")


def set_to(quantity: str, values, name: str = "pre"):
    """Spoils one quantity of one model: what it is set to is broadcast over seeds."""

    def spoil(models):
        models[name][quantity][:] = values

    return spoil


def drawn(tree) -> dict:
    """The figures of a gallery by name, those of this file."""
    found = {}
    for name, figure, _ in gallery.figures(tree):
        if name in FIGURES:
            found[name] = figure
        plt.close(figure if isinstance(figure, plt.Figure) else figure.figure)
    return found


def maps(figure) -> list:
    """The maps of a figure: its rasterized collections."""
    return [mesh for ax in figure.axes for mesh in ax.collections if mesh.get_rasterized() and mesh.norm is not None]


def test_a_head_has_a_row_where_it_is_and_its_column_reaches_to_the_next_sublayer_with_heads():
    values = np.full((made.S, 2), np.nan)
    values[0], values[2] = (0.1, 0.2), (0.3, 0.4)
    table = attention.heads(
        made.tree(layers=True, spoil=set_to("attention_entropy", values))["pre"], "attention_entropy"
    )
    places = table[["sublayer", "head", "start", "stop"]].to_numpy()
    assert places.tolist() == [[1, 0, 0, 2], [1, 1, 0, 2], [3, 0, 2, 4], [3, 1, 2, 4]]
    np.testing.assert_allclose(table["mean"], [0.1, 0.2, 0.3, 0.4])


def test_the_tokens_and_features_that_are_largest_anywhere_have_rows():
    table = activations.largest(made.tree(layers=True)["pre"], rows=3)
    assert table.groupby("axis")["index"].nunique().tolist() == [3, 3]
    largest = table.loc[table.groupby("axis")["mean"].idxmax()].set_index("axis")
    assert largest.loc["token", "index"] == 0
    assert largest.loc["feature", "index"] == 5
    assert len(table) == 2 * 3 * (made.S + 1)


def test_of_a_single_seed_bounds_are_standard_errors_over_examples():
    one, several = made.tree(seeds=1, layers=True), made.tree(layers=True)
    table = removal.removal(one)
    rows = table[(table["model"] == "post") & (table["removed"] == "block")]
    node = one["post"].isel(seed=0)
    np.testing.assert_allclose(rows["mean"] - rows["low"], node["block_removal_sem"], rtol=1e-6)
    np.testing.assert_allclose(rows["high"] - rows["mean"], node["block_removal_sem"], rtol=1e-6)
    assert removal.removal(several)["n"].unique().tolist() == [3]
    assert table["layer"].tolist()[:6] == [1, 1, 2, 2, 1, 2]
    assert "one standard error over examples" in plot.removal(one).get_label()
    assert "one standard error" not in plot.removal(several).get_label()


def test_the_largest_is_that_of_the_mean_over_seeds_at_its_place():
    values = np.zeros((2, 3, made.S, 2))
    values[0, :, 2, 1], values[1, :, 0, 0] = (0.7, 0.8, 0.9), 0.6
    values[1, 0, 2, 0] = 1.0  # of one seed alone
    tree = made.tree(("pre",), steps=(0, 3), layers=True, spoil=set_to("attention_first_token", values))
    found = extremes.largest(tree["pre"]["attention_first_token"])
    np.testing.assert_allclose(found["mean"], [0.8, 0.6])
    assert found["sublayer"].values.tolist() == [3, 1]
    assert found["head"].values.tolist() == [1, 0]
    assert found["n"].values.tolist() == [3, 3]


def test_the_summary_says_what_is_largest_and_where():
    def spoil(models):
        own = models["pre"]
        own["attention_first_token"][:, 2, 1] = 0.9
        own["attention_largest_logit"][:, 0, 0] = 40
        own["sublayer_removal"][:, 3], own["block_removal"][:, 1] = 0.75, 1.5

    lines = [line for line in summary.lines(made.tree(layers=True, spoil=spoil)) if line.startswith("pre: ")]
    told = "\n".join(lines)
    assert (
        "first token at most 0.9 [0.9, 0.9] (sublayer 3, head 1); logit at most 40.0 [40.0, 40.0] (sublayer 1, head 0)"
        in told
    )
    assert "token 0, feature 5)" in told
    assert (
        "+0.750 [+0.750, +0.750] nat without one sublayer (sublayer 4, mlp), +1.500 [+1.500, +1.500] without one block (block 2)"
        in told
    )
    without = "\n".join(summary.lines(made.tree()))
    assert "attention: entropy" not in without
    assert "growth of the loss" not in without


def test_maps_of_all_models_are_on_one_scale_and_below_the_gradient():
    tree = made.tree(layers=True)
    found = drawn(tree)
    assert set(found) == set(FIGURES)
    scales = attention.limits(tree)
    for name in ("attention_pre", "attention_post"):
        gradient, *below = [ax for ax in found[name].axes if ax.get_label() != "<colorbar>"]
        assert gradient.get_ylabel().startswith("stream gradient")
        assert all(gradient.get_shared_x_axes().joined(gradient, ax) for ax in below)
        for ax, quantity in zip(below, attention.QUANTITIES, strict=True):
            (mesh,) = ax.collections
            assert mesh.get_clim() == pytest.approx(scales[quantity])
            assert mesh.get_rasterized()
            means = tree[name.removeprefix("attention_")][quantity].mean("seed").values
            np.testing.assert_allclose(mesh.get_array(), means[0::2].T, rtol=1e-6)
    ends = {mesh.get_clim() for name in ("massive_pre", "massive_post") for mesh in maps(found[name])}
    assert len(ends) == 1


def test_layers_removed_have_a_panel_a_kind_and_their_scale_shows_both_small_and_large():
    figure = plot.removal(made.tree(layers=True))
    assert [ax.get_title(loc="left").split("  ")[1] for ax in figure.axes] == [
        "without one attention",
        "without one mlp",
        "without one block",
    ]
    assert {ax.get_yscale() for ax in figure.axes} == {"linear"}
    curve = figure.axes[1].get_lines()[0]
    assert curve.get_xdata().tolist() == [1, 2]
    far = plot.removal(made.tree(layers=True, spoil=set_to("block_removal", 30.0)))
    assert {ax.get_yscale() for ax in far.axes} == {"symlog"}
    assert {ax.get_yscale() for ax in plot.removal(made.tree(layers=True), scale="symlog").axes} == {"symlog"}

    def silent(models):
        for own in models.values():
            own["sublayer_removal"][:] = own["block_removal"][:] = 0.0

    nothing = made.tree(layers=True, spoil=silent)
    assert removal.middle(removal.removal(nothing)) == 1
    assert {ax.get_yscale() for ax in plot.removal(nothing).axes} == {"linear"}
    with pytest.raises(ValueError, match="no scale 'logg'"):
        plot.removal(made.tree(layers=True), scale="logg")


def test_what_has_no_number_is_no_figure_and_an_error_in_one_line():
    def lose(models):
        for own in models.values():
            for name, array in own.items():
                if (
                    name.startswith(("attention", "massive", "largest_a", "sublayer_r", "block_r"))
                    and array.dtype.kind == "f"
                ):
                    array[:] = np.nan

    lost = made.tree(("pre",), layers=True, spoil=lose)
    assert drawn(lost) == {}
    before = plt.get_fignums()
    for draw in (plot.attention, plot.heads, plot.massive, plot.removal):
        with pytest.raises(ValueError, match=r"^nothing to draw of .*$"):
            draw(lost if draw is plot.removal else lost["pre"])
    assert plt.get_fignums() == before
    with pytest.raises(KeyError, match="no 'attention_entropy' here"):
        plot.attention(made.tree()["pre"])
    with pytest.raises(ValueError, match="no quantity by head 'loss'"):
        plot.heads(made.tree(layers=True)["pre"], "loss")


@pytest.mark.further
def test_a_bundle_with_them_is_rebuilt_from_its_results(tmp_path):
    folder = gf.report.write(made.tree(("pre",), seeds=1, layers=True), tmp_path / "out")
    assert {f"{name}.pdf" for name in ("attention_pre", "massive_pre", "removal")} <= {
        p.name for p in folder.rglob("*.pdf")
    }
    assert gf.report.verify(folder, level=1).in_order
    numbers = (folder / "tables" / "results.csv").read_text()
    for words in (extremes.ENTROPY, *extremes.LARGEST.values()):
        assert words in numbers


def test_a_step_by_itself_is_drawn_with_its_gradient():
    tree = made.tree(("pre",), steps=(0, 3), layers=True)
    figure = plot.attention(tree["pre"])
    assert len([line for line in figure.axes[0].get_lines() if str(line.get_gid()).startswith(plot.looks.DRAWN)]) == 1
    assert plot.massive(tree["pre"], step=0).axes[0].get_title(loc="left") == "pre, step 0"
    assert tables.at_step(tree["pre"]["loss"]).dims == ("seed",)
