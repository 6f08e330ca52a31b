"""Norms with a gain that is not trained, and what stands in a norm's place. LayerNorm and RMSNorm are in test_layers.py."""

import json

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import scipy

import gradflow as gf
from gradflow.instruments.jacobians.spaces import orthonormal
from gradflow.model.layers.norms import Derf, DyT, LayerNorm, RMSNorm, ScaledNorm
from gradflow.model.parameters import names
from gradflow.results.configuration import decode, encode


def params_of(norm, width: int = 8):
    """Its parameters, moved from their start."""
    start = cases.float64(norm.init(jax.random.key(0), width))
    return jax.tree.map(lambda a: a + 0.1 * jnp.arange(1.0, a.size + 1).reshape(a.shape), start)


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_a_norm_has_a_gain_from_one_or_one_plus_what_is_trained_from_zero_or_none(norm):
    """1 + w is Gemma's (Gemma Team 2024): the same function, another parameter."""
    x = cases.normal(5, 8)
    scales = {name: cases.float64(norm(scale=name).init(None, 8)) for name in ("gain", "one_plus", "none")}
    values = [norm(scale=name)(params, x) for name, params in scales.items()]
    np.testing.assert_array_equal(values[1], values[0])
    np.testing.assert_array_equal(values[2], values[0])
    assert not scales["one_plus"].scale[...].any()
    assert len(jax.tree.leaves(scales["none"])) == (norm is LayerNorm)  # β alone
    moved = params_of(norm(scale="one_plus"))
    expected = reference.apply(norm(scale="one_plus"), moved, x)
    assert cases.distance(norm(scale="one_plus")(moved, x), expected) < 1e-14


def test_layernorm_without_a_bias_is_its_reference():
    x, params = cases.normal(5, 8), params_of(LayerNorm(bias=False))
    assert set(names.named(params)) == {"scale"}
    assert cases.distance(LayerNorm(bias=False)(params, x), reference.apply(LayerNorm(bias=False), params, x)) < 1e-14


def test_a_scale_that_is_none_of_the_three_is_refused_in_one_line():
    with pytest.raises(ValueError, match="no scale 'one_pls' of a norm: did you mean 'one_plus'"):
        RMSNorm(scale="one_pls")


def test_dynamic_erf_is_the_published_formula():
    """Chen et al. 2025: `γ erf(α x + s) + β`."""
    x, params = cases.normal(5, 8), params_of(Derf(0.7))
    p = {name: np.asarray(leaf) for name, leaf in params.items()}
    expected = p["scale"] * scipy.special.erf(p["alpha"] * np.asarray(x) + p["shift"]) + p["bias"]
    np.testing.assert_allclose(Derf(0.7)(params, x), expected, rtol=1e-13)
    assert set(p) == {"alpha", "shift", "scale", "bias"}
    assert float(Derf().init(None, 8)["alpha"]) == 0.5
    assert float(Derf().init(None, 8)["shift"]) == 0.0


def test_dynamic_tanh_is_the_published_formula_and_trains_its_three_parameters():
    x, params = cases.normal(5, 8), params_of(DyT(0.7))
    expected = np.asarray(params["scale"]) * np.tanh(float(params["alpha"]) * np.asarray(x)) + np.asarray(
        params["bias"]
    )
    np.testing.assert_allclose(DyT(0.7)(params, x), expected, rtol=1e-14)
    start = DyT(0.7).init(None, 8)
    assert {name: leaf.shape for name, leaf in start.items()} == {"alpha": (), "scale": (8,), "bias": (8,)}
    assert float(start["alpha"]) == pytest.approx(0.7)


@pytest.mark.parametrize(
    "norm", [LayerNorm(1e-13), RMSNorm(1e-13, "one_plus"), LayerNorm(1e-13, "none", False), DyT(), Derf()], ids=repr
)
def test_a_scaled_norm_takes_what_its_norm_takes_and_can_move_as_far(norm):
    """Its Jacobian is the norm's times the number, without the directions that it names."""
    scaled, x, params = ScaledNorm(norm, 0.25), cases.normal(1, 8), params_of(norm)
    J = jax.jacobian(lambda u: scaled(params, u))(x).reshape(8, 8)
    assert cases.distance(J, 0.25 * jax.jacobian(lambda u: norm(params, u))(x).reshape(8, 8)) < 1e-14
    taken = orthonormal(scaled.null_directions(params, x))[0]
    left = orthonormal(scaled.output_normals(params, scaled(params, x), None))[0]
    assert np.abs(J @ taken).max() < 1e-9
    assert np.abs(J.T @ left).max() < 1e-9
    assert 8 - np.linalg.matrix_rank(J, tol=1e-6) == round(float((taken**2).sum())) == round(float((left**2).sum()))


def test_norms_are_written_and_read_back():
    for norm in (DyT(0.3), Derf(0.3), LayerNorm(scale="one_plus", bias=False), ScaledNorm(RMSNorm(), 0.5)):
        assert decode(json.loads(json.dumps(encode(norm)))) == norm


def test_theory_refuses_a_squash_on_one_of_several_lanes():
    data = cases.batch()
    with pytest.raises(NotImplementedError, match="no theory for DyT on one of several lanes: .*; measure it"):
        gf.predict(gf.transformer("b2t", depth=1, width=16, context=5, norm=DyT()), data)


@pytest.mark.parametrize(
    ("norm", "missing"), [pytest.param(DyT(), 0, marks=pytest.mark.further), (LayerNorm(), 2)], ids=repr
)
def test_a_scaled_norm_takes_from_a_stack_what_its_norm_does(norm, missing):
    """LayerNorm two directions of each of the 5 tokens, dynamic tanh none."""
    model = gf.transformer("layernorm_scaling", depth=1, width=8, heads=2, context=5, norm=norm)
    found = gf.measure(model, cases.batch(), seeds=1, quantities=("spectrum",))["model"]
    assert (found["rank_deficit"].sel(jacobian="norm_in") == 5 * missing).all()
    assert (found["rank_deficit"].sel(jacobian="sublayer") == 0).all()
    assert np.isfinite(found["log_volume"].sel(jacobian="norm_in")).all()
