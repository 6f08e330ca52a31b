"""Tables and figures of Jacobians, from numbers that are known: what is in them, what is left out, what is refused."""

import numpy as np
import pytest
import xarray as xr

from gradflow.report import plot
from gradflow.report.tables import jacobians
from gradflow.report.text import captions
from gradflow.results.quantities import JACOBIANS, LOG_SIGMA, QUANTILES
from gradflow.results.tree import Readings, label

SEEDS, SUBLAYERS, SIZE = 3, 4, 6
VALUES = np.geomspace(2, 0.5, SIZE)  # of the whole sublayer


def tree(values=VALUES, seeds=SEEDS):
    """A post-norm-like model: norm_in and norm_branch do nothing, branch_term is branch; seed s scales all by e^s."""
    scale = np.exp(np.arange(seeds))[:, None, None, None]
    shape = (seeds, SUBLAYERS, len(JACOBIANS))
    singular = np.broadcast_to(values, (*shape, SIZE)) * scale
    own = {"branch": 0.5, "branch_term": 0.5, "fork": 2.0, "norm_out": 0.25, "sublayer": 1.0}
    singular = singular * np.array([own.get(name, np.nan) for name in JACOBIANS])[:, None]
    idle = [JACOBIANS.index(name) for name in ("norm_in", "norm_branch")]
    singular[:, :, idle] = 1
    shares = np.zeros((*shape, len(LOG_SIGMA)))
    shares[..., LOG_SIGMA.index(0.0)] = 1
    exponents = np.broadcast_to([0.1, -0.2], (seeds, 2)) * np.arange(1, seeds + 1)[:, None]
    cotangent = np.full((seeds, SUBLAYERS + 1, 2), 0.3) + np.array([0.0, 0.3, 0.6])[:seeds, None, None] / 2
    arrays = {
        "singular_values": singular,
        "largest_singular_value": singular[..., 0],
        "smallest_singular_value": singular[..., -1],
        "singular_value_quantiles": np.quantile(singular, QUANTILES, axis=-1).transpose(1, 2, 3, 0),
        "jacobian_gain": (singular**2).mean(-1),
        "log_volume": np.log(singular).sum(-1),
        "schatten_norm": np.ones((*shape, 3)),
        "spectral_density": shares,
        "spectrum_probes": np.zeros(shape, int),
        "lyapunov_exponent": exponents,
        "lyapunov_exponent_sem": np.full((seeds, 2), 0.05),
        "cotangent_share": cotangent,
        "token_mean_share": np.full((seeds, SUBLAYERS + 1, 2), 0.7),
    }
    coordinates = {
        "depth": np.arange(SUBLAYERS + 1),
        "sublayer": np.arange(1, SUBLAYERS + 1),
        "kind": ("sublayer", ["attention", "mlp"] * 2),
    }
    return label({"post": Readings(arrays, coordinates)}, leading={"seed": np.arange(seeds)})


def test_only_factors_that_do_something_are_shown_and_each_map_once():
    assert jacobians.active_factors(tree()["post"]) == ["branch", "fork", "norm_out", "sublayer"]


def test_a_spectrum_is_that_of_one_seed_in_order():
    table = jacobians.spectrum(tree()["post"], sublayer=2, seed=1)
    whole = table[table["jacobian"] == "sublayer"]
    np.testing.assert_allclose(whole["singular_value"], VALUES * np.e)
    np.testing.assert_allclose(whole["relative_index"], (np.arange(SIZE) + 0.5) / SIZE)


def test_bands_are_geometric_means_over_seeds_of_the_quantiles():
    table = jacobians.bands(tree()["post"])
    assert table["kind"].tolist() == ["attention", "mlp"] * 2
    middle = np.exp(np.mean(np.arange(SEEDS)))
    np.testing.assert_allclose(table["0.5"], np.median(VALUES) * middle)
    np.testing.assert_allclose(table["largest"], 2 * middle)
    np.testing.assert_allclose(table["smallest"], 0.5 * middle)


def test_a_density_is_of_the_first_and_last_sublayer_of_each_kind_unless_told():
    table = jacobians.density(tree()["post"])
    assert sorted(set(table["sublayer"])) == [1, 2, 3, 4]
    one = jacobians.density(tree()["post"], sublayers=(2,))
    assert one["mean"].sum() == pytest.approx(1)
    assert one.loc[one["mean"].idxmax(), "sigma"] == pytest.approx(1)


def test_factors_multiply_to_the_sublayer_in_volume():
    table = jacobians.factors(tree(seeds=1)["post"], "log_volume").set_index(["jacobian", "sublayer"])["mean"]
    expected = SIZE * np.log([2, 0.25, 1.0]) + np.log(VALUES).sum()
    np.testing.assert_allclose(table.unstack().loc[["fork", "norm_out", "sublayer"], 1], expected)


def test_exponents_have_a_band_over_seeds_and_one_seed_has_none():
    many, one = (jacobians.exponents(tree(seeds=seeds)) for seeds in (3, 1))
    assert many["direction"].tolist() == [1, 2]
    np.testing.assert_allclose(many["mean"], [0.2, -0.4])
    assert one["high"].isna().all()
    np.testing.assert_allclose(one["sem"], 0.05)
    assert captions.ALONE in plot.exponents(tree(seeds=1)).get_label()
    assert captions.BANDS in plot.exponents(tree()).get_label()


def test_alignment_sums_the_directions_and_its_bands_are_shares():
    table = jacobians.alignment(tree())
    cotangent = table[table["quantity"] == "cotangent_share"]
    np.testing.assert_allclose(cotangent["mean"], 0.9)
    assert cotangent["high"].max() == 1
    np.testing.assert_allclose(table[table["quantity"] == "token_mean_share"]["mean"], 0.7)


def test_a_caption_says_no_band_where_none_is_drawn():
    node = tree()["post"]
    for draw in (plot.spectrum_bands, plot.spectral_density):
        assert captions.LINES in draw(node).get_label()
    assert "bands" not in plot.spectrum(node, sublayer=1).get_label()
    assert captions.BANDS in plot.factors(node).get_label()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda node: jacobians.spectrum(node, sublayer=5), "no sublayer 5: they are counted from 1 to 4"),
        (lambda node: jacobians.density(node, sublayers=(0,)), "no sublayer 0"),
        (lambda node: jacobians.factors(node, "schatten_norm"), "schatten_norm has the dimension p too"),
    ],
)
def test_what_is_not_there_is_refused_in_words(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(tree()["post"])


def test_an_estimated_spectrum_has_no_single_values_to_draw():
    node = tree()["post"]
    node["singular_values"] = node["singular_values"] * np.nan
    with pytest.raises(ValueError, match="is an estimate: .* draw `spectrum_bands` or `spectral_density`"):
        plot.spectrum(node, sublayer=1)


def counted(lost, missing):
    """The model of `tree` with these numbers of directions at each sublayer."""
    node = tree(seeds=1)["post"].to_dataset()
    rows = lambda numbers: node["log_volume"] * 0 + xr.DataArray(numbers, dims="sublayer")
    return node.assign(lost_directions=rows(lost), rank_deficit=rows(missing))


@pytest.mark.parametrize(
    ("lost", "missing", "told"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], True),
        ([6, 0, 0, 0], [6, 6, 6, 6], True),  # a norm on the stream, whose first sublayer alone takes anything
        ([3, 0, 0, 0], [9, 6, 6, 6], False),  # the first loses more than that
        ([0, 3, 0, 0], [0, 3, 0, 0], False),
        ([6, 6, 6, 6], [6, 6, 6, 6], False),  # each loses directions of its own
        ([0, -1, 0, 0], [0, -1, 0, 0], False),
        ([-1, 0, 0, 0], [-1, 0, 0, 0], False),
    ],
)
def test_log_volumes_are_summed_where_the_sum_is_that_of_the_stack(lost, missing, told):
    node = counted(lost, missing)
    total = jacobians.stack_volumes(node).sel(jacobian="sublayer")
    assert np.isnan(total).item() != told
    if told:
        assert float(total[0]) == pytest.approx(float(node["log_volume"].sel(jacobian="sublayer").sum()))
