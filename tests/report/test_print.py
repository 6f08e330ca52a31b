"""Figures survive print: models, parts and kinds are told without colour, axes have ticks, legends lie beside the curves."""

import made
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.legend import Legend

import gradflow as gf
from gradflow.report import gallery, plot, tables
from gradflow.report.plot import looks, setting
from gradflow.report.tables import coordinates, growth


@pytest.fixture(scope="module")
def run():
    return made.tree(steps=(0, 1, 3, 10, 100), jacobians=True, layers=True)


@pytest.fixture(scope="module")
def drawn(run):
    """Every figure of a run, by name, a column wide."""
    with setting.drawn_at(3.25):
        found = {}
        for name, figure, _ in gallery.figures(run, made.sweep()):
            found[name] = figure
            whole(figure).draw_without_rendering()
            plt.close(whole(figure))
    return found


def whole(figure):
    return figure if isinstance(figure, plt.Figure) else figure.figure


def axes_of(drawn):
    for name, figure in drawn.items():
        for ax in whole(figure).axes:
            if ax.get_label() != "<colorbar>":
                yield name, ax


def test_no_two_of_many_models_share_line_style_and_marker_or_colour():
    found = [looks.numbered(i) for i in range(35)]
    assert len({(look.colour, str(look.dash)) for look in found}) == 35
    assert len({(str(look.dash), look.marker) for look in found}) == 35
    assert all(look.dash != looks.GUIDE for look in found)


def test_models_are_told_without_colour_and_kinds_by_their_filling():
    ax = plot.profile(made.tree(("pre", "post", "none")))
    curves = [line for line in ax.get_lines() if line.get_label() in ("pre", "post", "none")]
    assert len({(str(line.get_linestyle()), line.get_marker()) for line in curves}) == 3
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["pre", "post", "none", "attention", "mlp"]
    assert [line.get_markevery() for line in curves] == [[1, 3]] * 3  # attention, of the embedding and four sublayers


def test_bars_have_hatches():
    ax = plot.budget_totals(made.tree())
    assert {bar.get_hatch() or "" for bar in ax.patches} == {"////", "....", ""}


@pytest.mark.long
def test_every_axis_has_two_ticks_with_labels(drawn):
    for name, ax in axes_of(drawn):
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = [t.label1.get_text() for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            if any(labels):  # panels that share an axis have the labels once
                assert len(list(filter(None, labels))) >= 2, name


@pytest.mark.parametrize(("low", "high"), [(1.1, 1.3), (2.1, 6.5), (3.1, 9.2), (0.9, 40), (1e-3, 3e3)])
def test_a_log_axis_of_less_than_a_decade_has_two_ticks(low, high):
    def spoil(models):
        models["pre"]["stream_rms"][:] = np.geomspace(low, high, made.S + 1)

    ax = plot.profile(made.tree(("pre",), spoil=spoil), "stream_rms")
    ax.figure.draw_without_rendering()
    bottom, top = ax.get_ylim()
    ticks = [t for t in ax.yaxis.get_major_ticks() if bottom <= t.get_loc() <= top and t.label1.get_text()]
    assert len(ticks) >= 2


@pytest.mark.long
def test_legends_lie_above_the_axes_and_within_the_figure(drawn):
    for name, ax in axes_of(drawn):
        legend = ax.get_legend()
        if not isinstance(legend, Legend) or not legend.get_texts():
            continue
        box, figure = legend.get_window_extent(), ax.figure.bbox
        assert box.y0 >= ax.bbox.y1 - 1, name
        assert box.x0 >= figure.x0 - 1, name
        assert box.x1 <= figure.x1 + 1, name


def test_a_title_that_is_set_later_stands_above_the_legend(run):
    _, axes = plt.subplots(1, 2, figsize=(5.5, 2.2), layout="constrained")
    for ax, name in zip(axes, run.children, strict=True):
        title = gf.plot.budget(run[name].isel(step=0), ax=ax).set_title(name, loc="left")
        gf.plot.budget(run[name].isel(step=0), ax=ax)  # a second legend takes the place of the first
        ax.figure.draw_without_rendering()
        assert title.get_window_extent().y0 >= ax.get_legend().get_window_extent().y1 - 1
        assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1


def test_a_line_for_unchanged_is_drawn_only_between_the_data():
    ax = plot.profile(made.tree(), "token_cosine")  # near ½: 0 is no place of it
    assert not [line for line in ax.get_lines() if line.get_gid() == plot.scales.REFERENCE]
    ax = plot.profile(made.tree(), "branch_to_skip")
    assert [line.get_ydata()[0] for line in ax.get_lines() if line.get_gid() == plot.scales.REFERENCE] == [1.0]


@pytest.mark.long
def test_heat_maps_of_a_bundle_are_rasterized_and_on_one_scale(drawn, run):
    meshes = [whole(drawn[f"heatmap_{name}"]).axes[0].collections[0] for name in ("pre", "post")]
    assert all(mesh.get_rasterized() for mesh in meshes)
    limits = np.log10(tables.heat_limits(run))
    for mesh in meshes:
        np.testing.assert_allclose(mesh.get_clim(), limits)


def test_an_empty_figure_is_an_error_in_one_line_and_no_figure_of_a_bundle():
    lost = made.tree(("pre",), spoil=made.without(0, 1, 2), steps=(0, 3), jacobians=True)
    before = plt.get_fignums()
    for draw in (plot.profile, plot.budget_totals, plot.exponents, lambda tree: plot.heatmap(tree["pre"])):
        with pytest.raises(ValueError, match=r"^nothing to draw of .*$"):
            draw(lost)
    assert plt.get_fignums() == before
    assert list(gallery.figures(lost)) == []


@pytest.mark.long
def test_all_figures_of_a_bundle_are_of_the_same_steps(run, drawn):
    assert tables.shown_steps(run) == (0, 10, 100)
    for name, figure, table in gallery.figures(run, made.sweep()):
        plt.close(whole(figure))
        if "step" in table and not name.startswith(("heatmap", "training", "comparison")):
            assert set(table["step"]) <= {0, 10, 100}, name
    for name in ("spectrum_bands_pre_step_100", "partial_jacobian_pre", "parameter_gradient_post", "variance_growth"):
        assert name in drawn


def test_updates_are_drawn_at_the_last_step_that_has_one():
    def add_updates(node):
        change = node["stream_rms"].copy()
        change[-1] = np.nan  # no update follows the last step
        return node.assign(stream_change=change)

    names = {}
    for name, figure, table in gallery.figures(changed(made.tree(steps=(0, 1, 3)), add_updates)):
        plt.close(whole(figure))
        names[name] = table
    assert set(names["stream_change"]["step"]) == {0, 1}
    assert set(names["stream_rms"]["step"]) == {0, 1, 3}


def test_the_callers_settings_win_but_not_in_a_bundle():
    with plt.rc_context({"legend.fontsize": 11}):
        assert plot.profile(made.tree()).get_legend().get_texts()[0].get_size() == 11
        with setting.drawn_at():
            assert plot.profile(made.tree()).get_legend().get_texts()[0].get_size() == 7


def test_labels_colours_scale_kinds_and_layers():
    tree = made.tree()
    nodes = {"a": tree["pre"], "b": tree["post"]}
    ax = plot.profile(nodes, "branch_rms", labels={"a": "mine"}, colours={"b": "red"}, kinds="mlp", scale="linear")
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["mine"].get_xdata().tolist() == [2, 4]
    assert lines["b"].get_color() == pytest.approx((1.0, 0.0, 0.0))
    assert ax.get_yscale() == "linear"
    with pytest.raises(ValueError, match="did you mean 'a'"):
        plot.profile(nodes, labels={"aa": "x"})
    with pytest.raises(ValueError, match="no scale 'logg'"):
        plot.profile(nodes, scale="logg")
    with pytest.raises(ValueError, match="pre has no layers"):
        plot.profile(tree, x="layer")


def changed(tree, change):
    """The tree with every model's dataset changed."""
    nodes = {"/": tree.to_dataset()}
    for name, node in tree.children.items():
        nodes[name] = change(node.to_dataset(inherit=False))
    return xr.DataTree.from_dict(nodes)


def test_the_stream_over_layers_is_that_above_whole_layers_and_several_parameters_share_a_panel():
    layers = ("sublayer", [1, 1, 2, 2])
    tree = changed(made.tree(("pre",)), lambda node: node.assign_coords(layer=layers))
    table = tables.profile(tree, "stream_rms", x="layer")
    assert table["depth"].tolist() == [0, 2, 4]
    assert table["layer"].tolist() == [0, 1, 2]
    ax = plot.profile(tree, "parameter_gradient", parameter=("query", "down"), x="layer")
    curves = {line.get_label(): list(line.get_xdata()) for line in ax.get_lines()}
    assert curves["query"] == curves["down"] == [1, 2]
    assert ax.get_title(loc="left") == "pre"
    assert ax.get_xlabel().startswith("layer")


def test_a_second_call_on_the_same_axes_has_other_looks_and_keeps_both_captions():
    tree = made.tree(("pre",))
    ax = plot.profile(tree, "stream_rms")
    plot.profile(tree, "branch_rms", ax=ax, labels={"pre": "branch"})
    marks = {line.get_gid() for line in ax.get_lines() if str(line.get_gid()).startswith(looks.DRAWN)}
    assert len(marks) == 2
    assert "Stream rms over depth" in ax.get_label()
    assert "Branch rms over depth" in ax.get_label()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["pre", "attention", "mlp", "branch"]


def test_the_variance_of_a_stream_that_grows_as_a_power_has_that_power():
    def spoil(models):
        models["pre"]["stream_rms"][:, 1:] = np.sqrt(3.0 * np.arange(1, made.S + 1) ** 1.5)

    tree = made.tree(("pre",), spoil=spoil)
    table = growth.variance(tree)
    np.testing.assert_allclose(table["mean"], 3 * table["depth"] ** 1.5)
    np.testing.assert_allclose(table["law"], table["mean"])
    assert "1.5" in table["text"].iloc[0]
    ax = plot.variance_growth(tree)
    assert ax.get_xscale() == ax.get_yscale() == "log"


def checked(width_power: float, depth_power: float) -> xr.DataTree:
    """A coordinate check whose stream and update are exact powers of both sizes."""
    nodes = {"/": made.tree(("pre",)).to_dataset()}
    for width in (8, 16, 32):
        for depth in (1, 2, 4):
            node = made.tree(("pre",))["pre"].to_dataset(inherit=False)
            size = float(width) ** width_power * float(depth) ** depth_power
            node["stream_rms"] = xr.full_like(node["stream_rms"], size)
            node["stream_change"] = xr.full_like(node["stream_rms"], size)
            nodes[f"pre/width_{width}/depth_{depth}"] = node.assign_attrs(total_depth=depth, width=width)
    return xr.DataTree.from_dict(nodes)


def test_a_coordinate_check_finds_both_exponents():
    tree = checked(0.5, 1.0)
    table = coordinates.exponents(tree)
    rows = table[table["quantity"] == "stream_change"]
    np.testing.assert_allclose(rows[rows["axis"] == "width"]["estimate"], 0.5)
    np.testing.assert_allclose(rows[rows["axis"] == "total_depth"]["estimate"], 1.0)
    assert len(coordinates.sizes(tree)) == 3 * 9
    figure = plot.coordinate_check(tree, width=3.25)
    assert len(figure.axes) == 6
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts[0].startswith("blocks 1: 0.5")


def test_how_alike_positions_are_is_drawn_on_one_scale():
    tree = made.tree()
    angles = np.abs(np.subtract.outer(np.arange(made.S + 1), np.arange(made.S + 1))) / 10
    positions = ("seed", "depth", "other_depth")
    variables = {"stream_angle": (positions, np.stack([angles] * 3)), "other_depth": np.arange(made.S + 1)}
    with_angle = changed(tree, lambda node: node.assign(variables))
    found = {name: figure for name, figure, _ in gallery.figures(with_angle) if name.startswith("similarity")}
    assert set(found) == {"similarity_pre", "similarity_post"}
    mesh = found["similarity_pre"].collections[0]
    np.testing.assert_allclose(mesh.get_array(), angles)
    assert mesh.get_clim() == pytest.approx((0, 0.4))


def read_in_little(arrays):
    """Leaves what the reading "economy" has not."""
    for own in arrays.values():
        for name in ("budget", "split", "token_cosine"):
            own.pop(name, None)


@pytest.mark.further
def test_a_run_that_was_read_in_little_has_a_report_without_the_comparison(tmp_path):
    run, swept = made.tree(steps=(0, 3), spoil=read_in_little), made.sweep(depths=(1, 2, 4))
    assert plot.budget_totals(run).get_legend_handles_labels()[1] == ["net"]
    drawn = {path.stem for path in gf.report.write(run, tmp_path / "out", sweep=swept).rglob("*.pdf")}
    assert {"stream_gradient", "total_depth"} <= drawn
    assert "comparison" not in drawn
