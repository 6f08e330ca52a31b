"""Errors of rounding: against arrays and readings computed apart in each precision, and what is lost against counts by hand."""

from dataclasses import replace

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import gradflow as gf
from gradflow.instruments import rounding
from gradflow.instruments.backward import gradients
from gradflow.instruments.readings import readings
from gradflow.model.layers.layer import Gain
from gradflow.model.wirings.wiring import Wiring, pre
from gradflow.results.quantities import LOST, ROUNDED, ROUNDINGS

MODEL = cases.model(pre(), 2, cases.TWO)
BATCH = cases.batch()


def float32(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float32), tree)


def read(model, params) -> dict:
    return jax.device_get(cases.jit(lambda p, b: rounding.rounding(model, p, b))(params, BATCH))


def of(table, name: str, precision: str):
    names = ROUNDED if table.shape[-2] == len(ROUNDED) else LOST
    return table[ROUNDINGS.index(precision), names.index(name)]


@pytest.mark.long
def test_errors_are_those_of_readings_and_arrays_in_each_precision_against_float64():
    params = float32(cases.drawn(MODEL))
    errors = read(MODEL, params)["rounding_error"]
    exact = cases.float64(params)
    expected = jax.device_get(cases.jit(lambda p, b: gradients.reading(MODEL, p, b))(exact, BATCH))
    _, grads = zip(*reference.backward(MODEL, exact, BATCH), strict=True)
    streams = [reference.stream(MODEL, exact, reference.embedded(MODEL, exact, i)) for i in BATCH["inputs"]]
    for precision in ROUNDINGS:
        short = replace(MODEL, precision=precision)
        found = jax.device_get(cases.jit(lambda p, b, m=short: gradients.reading(m, p, b))(params, BATCH))
        by_token = cases.distances(list(found["stream_gradient_by_token"]), list(expected["stream_gradient_by_token"]))
        np.testing.assert_allclose(
            of(errors, "stream_gradient_by_token", precision), list(by_token.values()), rtol=1e-3
        )
        budget = cases.distances(list(np.nan_to_num(found["budget"])), list(np.nan_to_num(expected["budget"])))
        np.testing.assert_allclose(of(errors, "budget", precision)[1:], list(budget.values()), rtol=1e-3)
        assert np.isnan(of(errors, "budget", precision)[0])
        seen, cotangents, _ = cases.jit(lambda p, b, m=short: rounding._arrays(m, p, b))(params, BATCH)
        for l in range(5):
            below = np.stack([s[l] for s in streams])
            assert of(errors, "stream", precision)[l] == pytest.approx(
                cases.distance(np.float64(seen[l]), below), rel=1e-3
            )
            g = np.stack([of_example[1][l] for of_example in grads]) / len(grads)
            assert of(errors, "gradient", precision)[l] == pytest.approx(
                cases.distance(np.float64(cotangents[l]), g), rel=1e-3
            )
    assert (of(errors, "stream", "bfloat16") > 1e4 * of(errors, "stream", "float32")).all()


@pytest.mark.long
def test_of_an_exact_model_there_is_no_error_and_nothing_is_lost():
    """Zero branches: the stream is its embedding, whose rows are numbers of bfloat16."""
    silent = cases.model(Wiring("silent", write=Gain(0.0)), 1, cases.TWO)
    params = float32(cases.drawn(silent))
    table = params["embedding"]
    params["embedding"] = jax.tree.map(lambda a: np.round(8 * a) / 8, table)
    found = read(silent, params)
    assert (of(found["rounding_error"], "stream", "bfloat16") == 0).all()
    assert (of(found["rounding_error"], "stream_rms", "float32") < 1e-7).all()
    assert np.nanmax(found["lost_share"]) == 0


@pytest.mark.long
def test_what_is_lost_is_counted_where_it_is():
    """A branch of 1e-4 of the stream is not felt by a sum of 8 bits; scores a thousand times larger leave keys without weight."""
    small = cases.model(Wiring("small", norm_in=pre().norm_in, write=Gain(1e-4)), 1, cases.TWO)
    params = float32(cases.drawn(small))
    lost = read(small, params)["lost_share"]
    assert (of(lost, "sum", "bfloat16")[1:] > 0.9).all()
    assert (of(lost, "sum", "float32")[1:] < 0.1).all()
    assert np.isnan(of(lost, "scores", "float32")[[0, 2]]).all()
    assert of(lost, "scores", "float32")[1] == 0
    branch = params["stack"][0]["causal"]["branch"]
    branch["query"] = jax.tree.map(lambda a: 1e4 * a, branch["query"])
    assert 0.1 < of(read(small, params)["lost_share"], "scores", "float32")[1] < 0.9


def test_a_stream_below_the_smallest_number_is_lost_and_so_are_the_sums_of_norms_before_it():
    tiny = jnp.full((1, 2, 3), 1e-40)
    assert rounding._flushed(tiny.astype(jnp.float32), tiny, "float32").tolist() == [1.0]
    assert rounding._flushed(tiny, tiny, "float64").tolist() == [0.0]
    u = jnp.full((2, 4), 1e-25, jnp.float32).at[1].set(1.0)
    layers = {
        part: pre().norm_in if part == "norm_in" else Gain(1.0) for part in ("norm_in", "norm_branch", "norm_out")
    }
    params = {part: layer.init(jax.random.key(0), 4) for part, layer in layers.items()}
    assert rounding._of_norms(layers, params, dict.fromkeys(layers, (u, u)), None) == 0.5


def test_it_is_refused_without_float64_and_of_what_is_no_transformer():
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"^float64 needs jax.config.update"):
        readings("rounding")
    with pytest.raises(TypeError, match="model, whose precision is audited, is 'pre': a Transformer is needed"):
        gf.precision("pre", gf.data.text(context=8, batch=2))
    with pytest.raises(TypeError, match="precision has no option 'record'"):
        gf.precision(MODEL, gf.data.text(context=8, batch=2), record=(0,))


@pytest.mark.long
def test_an_audit_has_both_ends_of_a_training_that_it_does_not_change():
    model = gf.transformer("pre", depth=1, width=8, heads=2, context=8)
    data = gf.data.text(context=8, batch=2)
    tree = gf.precision(model, data, steps=2, seeds=2)
    errors = tree["model"]["rounding_error"]
    assert errors.dims == ("step", "seed", "precision", "rounded", "depth")
    assert errors["step"].values.tolist() == [0, 2]
    _, plain = gf.train({"model": model}, data, gf.Recipe(), steps=2, record=(0, 2), readings="economy", seeds=2)
    np.testing.assert_array_equal(tree["model"]["loss"], plain["model"]["loss"])
