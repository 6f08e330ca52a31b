"""`predict`: the schema of a measurement, its errors, what it refuses; and theory beside measurement as labelled data."""

from dataclasses import dataclass

import jax
import numpy as np
import optax
import pytest
import xarray as xr

import gradflow as gf
from gradflow.interop.functions import FunctionStack
from gradflow.model.layers.layer import Layer
from gradflow.results.agreement import against_theory, expectation
from gradflow.results.stored import load, save
from gradflow.results.tree import settings


@pytest.fixture(scope="module")
def models():
    return gf.transformers("pre", "post", depth=2, width=16, heads=2, context=8)


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


@pytest.fixture(scope="module")
def measured(models, data):
    return gf.measure(models, data, seeds=4, quantities=("backward", "parameter_gradient_per_example"))


@pytest.fixture(scope="module")
def theory(models, data):
    return gf.predict(models, data)


# ---- labelled data ------------------------------------------------------------------------------------------


def test_a_prediction_has_the_schema_of_a_measurement_without_seeds(measured, theory):
    for name, node in measured.children.items():
        own = theory[name]
        expected = {quantity for quantity in node.data_vars if not str(quantity).endswith("_sem")}
        expected -= {"gradient_variance", "gradient_noise_scale"}  # of which there is no theory
        assert expected == {quantity for quantity in own.data_vars if not str(quantity).endswith("_sem")}
        for quantity in expected:
            one = node[quantity].isel(seed=0, drop=True)
            assert own[quantity].dims == one.dims
            assert own[quantity].attrs == one.attrs
            for coordinate in one.coords:
                assert (own[quantity][coordinate] == one[coordinate]).all()
        assert own.attrs["configuration"] == node.attrs["configuration"]


def test_every_predicted_quantity_has_its_monte_carlo_error(theory):
    for node in theory.children.values():
        for name, values in node.data_vars.items():
            if not str(name).endswith("_sem"):
                error = node[f"{name}_sem"]
                assert error.dims == values.dims
                assert (error.isnull() == values.isnull()).all()
                assert error.attrs["long_name"].startswith("standard error of the ")
        assert 0 < float((node["stream_gradient_sem"] / node["stream_gradient"]).max()) < 0.1


def test_without_attention_nothing_is_drawn_below_the_readout(data):
    """The Monte Carlo error of rms and budget is rounding."""
    model = gf.transformer("pre", depth=2, width=16, context=8, attention=gf.branches.FeedForward(2))
    node = gf.predict(model, data)["model"]
    assert float(node["stream_rms_sem"].max()) < 1e-6


def test_the_root_says_what_was_assumed_and_how_many_heads_were_drawn(theory):
    told = settings(theory)["theory"]
    assert told["heads drawn"] == 32
    assert any("infinite width" in words for words in told["assumptions"])
    assert settings(theory)["data"]["context"] == 8
    assert "provenance" in theory.attrs


def test_a_prediction_is_a_function_of_its_key(models, data, theory):
    again, other = gf.predict(models, data), gf.predict(models, data, key=1)
    name = "stream_gradient"
    np.testing.assert_array_equal(again["post"][name], theory["post"][name])
    assert (other["post"][name] != theory["post"][name]).any()


def test_a_prediction_is_saved_and_read_back(theory, tmp_path):
    save(theory, tmp_path / "theory.nc")
    assert load(tmp_path / "theory.nc").identical(theory)


@pytest.mark.long
def test_a_name_of_what_a_reading_yields_is_that_reading(models, data):
    tree = gf.predict(models["pre"], data, quantities=("partial_jacobian",), draws=1, replicas=2)
    assert set(tree["model"].data_vars) == {"partial_jacobian", "partial_jacobian_sem"}


# ---- what is refused ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Swish(Layer):
    """A layer of a user's without a theory, with the mean that an activation leaves."""

    centred = False

    def init(self, key, width):
        return {}

    def __call__(self, params, x):
        return jax.nn.swish(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params": {}}, "theory is of initialization and takes no params: measure trained weights"),
        ({"quantities": ("spectrum",)}, "no theory of 'spectrum': .*known: backward, stream, partial_jacobian"),
        ({"draws": 0}, "draws is 0: at least 1 is needed"),
        ({"replicas": 1}, "replicas is 1: at least 2 is needed"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(options, message, models, data):
    with pytest.raises(ValueError, match=message) as refused:
        gf.predict(models, data, **options)
    assert "\n" not in str(refused.value)


def test_a_model_that_is_no_transformer_of_ours_is_refused(data):
    stack = FunctionStack(lambda w, x: x, 3, lambda params, x, y: 0.0)
    with pytest.raises(ValueError, match="mine: theory covers a Transformer .* not a FunctionStack: measure it"):
        gf.predict({"mine": stack}, data)


def test_a_tied_readout_is_refused(models, data):
    tied = models["pre"]
    object.__setattr__(tied := type(tied)(tied.stack, tied.width, tied.embedding), "readout", "the embedding")
    with pytest.raises(ValueError, match="tied to the embedding, or your own"):
        gf.predict(tied, data)


def test_a_layer_without_a_theory_is_named(data):
    with pytest.raises(NotImplementedError, match=r"mine: no theory for Swish: .*gf.gram.response.register"):
        gf.predict({"mine": gf.transformer("pre", depth=1, width=16, heads=2, context=8, mlp=Swish())}, data)


@dataclass(frozen=True)
class Known(Swish):
    """The same with a theory."""


@gf.gram.response.register
def _(layer: Known, sigma, place):
    value, slope = gf.gram.kernel("silu", sigma)
    return gf.gram.Response(value, lambda k: slope * k)


@pytest.mark.long
def test_a_layer_norm_after_features_whose_mean_is_not_zero_is_refused(data):
    shape = {"depth": 1, "width": 16, "heads": 2, "context": 8, "mlp": Known()}
    with pytest.raises(NotImplementedError, match="LayerNorm subtracts a mean .* Known .*: use RMSNorm, or measure it"):
        gf.predict(gf.transformer("post", **shape), data)
    node = gf.predict(gf.transformer("post", norm=gf.norms.RMSNorm(), **shape), data)["model"]
    assert np.isfinite(node["stream_gradient"]).all()


# ---- beside measurement -------------------------------------------------------------------------------------


def test_the_ratio_is_of_mean_squares_with_the_errors_of_both(measured, theory):
    found = against_theory(measured, theory)["post"]
    squares, told = measured["post"]["stream_gradient"] ** 2, theory["post"]["stream_gradient"] ** 2
    np.testing.assert_allclose(found["ratio"], squares.mean("seed") / told, rtol=1e-6)
    scatter = squares.std("seed", ddof=1) / 2 / told
    drawn = 2 * theory["post"]["stream_gradient_sem"] / theory["post"]["stream_gradient"]
    np.testing.assert_allclose(found["ratio_sem"], np.hypot(scatter, drawn), rtol=1e-6)
    np.testing.assert_allclose(found["z"], (found["ratio"] - 1) / found["ratio_sem"], rtol=1e-6)


def test_other_quantities_are_compared_by_their_means(measured, theory):
    found = against_theory(measured, theory, "loss")["pre"]
    assert float(found["ratio"]) == pytest.approx(float(measured["pre"]["loss"].mean() / theory["pre"]["loss"]))


def test_the_expectation_of_a_norm_is_a_root_mean_square_inside_its_interval(measured):
    values = measured["post"]["stream_gradient"]
    shown = expectation(values)
    np.testing.assert_allclose(shown["mean"], np.sqrt((values**2).mean("seed")), rtol=1e-6)
    assert (shown["low"] < shown["mean"]).all()
    assert (shown["mean"] < shown["high"]).all()
    cosine = expectation(measured["post"]["token_cosine"])
    np.testing.assert_allclose(cosine["mean"], measured["post"]["token_cosine"].mean("seed"), rtol=1e-6)


def test_of_a_run_the_start_is_compared(models, data, theory):
    _, run = gf.train({"pre": models["pre"]}, data, optax.adam(1e-3), steps=2, record=(0, 2), seeds=3)
    of_pre = xr.DataTree.from_dict({"pre": theory["pre"].to_dataset()})
    node = against_theory(run, of_pre)["pre"]
    assert "step" not in node["ratio"].dims
    with pytest.raises(ValueError, match="step 0 was not recorded: add it to `record`"):
        against_theory(run.sel(step=[2]), of_pre)


def test_trees_of_other_models_and_single_seeds_are_refused(measured, theory):
    with pytest.raises(ValueError, match="measured are /pre, /post, predicted /pre: predict the same models"):
        against_theory(measured, xr.DataTree.from_dict({"pre": theory["pre"].to_dataset()}))
    with pytest.raises(ValueError, match="one seed has no standard error: measure at least 2"):
        against_theory(measured.isel(seed=[0]), theory)


@pytest.mark.further
def test_a_sweep_over_width_is_of_measurement_or_of_theory(models, data):
    sizes = {"width": (16, 32)}
    seen = gf.sweep({"pre": models["pre"]}, data, seeds=3, **sizes)
    told = gf.sweep({"pre": models["pre"]}, data, take=gf.predict, draws=1, replicas=2, **sizes)
    found = against_theory(seen, told)
    assert [node.path for node in found.leaves] == ["/pre/width_16", "/pre/width_32"]
    assert [node.attrs["width"] for node in told["pre"].children.values()] == [16, 32]
