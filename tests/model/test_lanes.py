"""Layers of a stream of several lanes. That wirings made of them equal their papers' formulas is shown in test_equation.py."""

import json

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.model.branches.attention import Attention
from gradflow.model.equation.sublayer import bind
from gradflow.model.layers.lane_mixing import DynamicGains, ManifoldGains, sinkhorn
from gradflow.model.layers.lanes import LaneGains, Lanes, PerLane, Then, gathered, mixed, spread
from gradflow.model.layers.layer import ALL, FEATURES, Gain, Identity
from gradflow.model.layers.norms import LayerNorm
from gradflow.model.parameters.depth import OfLayer, at_layer
from gradflow.results.configuration import decode, encode

MATRIX = np.array([[0.5, 2.0, 0.0], [1.0, -1.0, 3.0], [0.0, 0.25, 1.0]])
ROWS = tuple(map(tuple, MATRIX.tolist()))
BETWEEN = {
    "mix": (mixed, ROWS, lambda x: np.stack([sum(MATRIX[i, j] * x[j] for j in range(3)) for i in range(3)])),
    "gather": (gathered, ROWS[1], lambda x: sum(ROWS[1][j] * x[j] for j in range(3))),
    "spread": (spread, ROWS[1], lambda x: np.stack([w * x[0] for w in ROWS[1]])),
}


@pytest.mark.parametrize("kind", [Lanes, LaneGains])
@pytest.mark.parametrize("route", BETWEEN)
def test_a_matrix_acts_on_lanes_and_on_nothing_else(route, kind):
    make, numbers, slow = BETWEEN[route]
    layer, x = make(*numbers, kind=kind), cases.normal(3, 4, 5)
    given = x[0] if route == "spread" else x
    params = cases.float64(layer.init(None, 5))
    assert cases.distance(layer(params, given), slow(np.asarray(x))) < 1e-15
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == ([np.shape(numbers)] if kind is LaneGains else [])
    assert decode(json.loads(json.dumps(encode(layer)))) == layer


def test_a_number_of_the_layer_is_filled_in():
    layer = at_layer(gathered(1.0, OfLayer(2.0, -1.0)), 4)
    assert layer == gathered(1.0, 0.125)
    assert at_layer(layer, 5) is layer


def test_each_lane_has_a_layer_of_its_own():
    layer, x = PerLane((LayerNorm(), Identity(), Gain(3.0))), cases.normal(3, 4, 5)
    params = cases.float64(layer.init(jax.random.key(0), 5))
    expected = [LayerNorm()(params["1"], x[0]), x[1], 3.0 * x[2]]
    np.testing.assert_array_equal(layer(params, x), jnp.stack(expected))
    with pytest.raises(ValueError, match="a stream of 2 lanes, but 3 layers: give one a lane"):
        layer(params, x[:2])


def test_what_lanes_couple_is_what_their_widest_layer_does():
    assert PerLane((Identity(), Identity())).couples == FEATURES
    assert PerLane((Identity(), Attention(1, causal=False))).couples == ALL
    assert Then((Gain(1.0), Attention(1, causal=False))).couples == ALL


@pytest.mark.parametrize(
    ("route", "matrix", "remedy"),
    [
        ("mixx", (1.0,), "no route 'mixx' between lanes: did you mean 'mix'"),
        ("mix", ((1.0, 2.0),), "needs a row of as many numbers for each lane"),
        ("mix", (1.0, 2.0), "needs a row of as many numbers for each lane"),
        ("gather", ((1.0, 2.0),), "needs one number a lane"),
        ("spread", (), "needs one number a lane"),
    ],
)
def test_a_matrix_of_the_wrong_shape_is_refused(route, matrix, remedy):
    with pytest.raises(ValueError, match=remedy):
        Lanes(route, matrix)


# ---- gains that read the stream -----------------------------------------------------------------------------


def test_where_they_start_they_are_the_static_ones():
    x, u = cases.normal(3, 4, 5), cases.normal(4, 5, seed=1)
    matrix = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7]])
    rows, numbers = tuple(map(tuple, matrix.tolist())), (0.5, 0.3, 0.2)
    for kind in (DynamicGains, ManifoldGains):
        for make, given, on in ((mixed, rows, x), (gathered, numbers, x), (spread, numbers, u)):
            layer = make(*given, kind=kind)
            params = cases.float64(layer.init(jax.random.key(0), 5))
            np.testing.assert_allclose(layer.at_stream(params, x)(on), make(*given)({}, on), rtol=1e-6)
            assert decode(json.loads(json.dumps(encode(layer)))) == layer


def test_a_manifold_is_doubly_stochastic_wherever_the_stream_is():
    layer = mixed(*(tuple(row) for row in (np.full((4, 4), 0.1) + 0.6 * np.eye(4)).tolist()), kind=ManifoldGains)
    params = jax.tree.map(lambda a: a + cases.normal(*a.shape), cases.float64(layer.init(None, 5)))
    found = layer.by_token(params, cases.normal(4, 7, 5, seed=3))
    assert np.ptp(np.asarray(found), axis=0).min() > 1e-3  # each token has its own
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(found.sum(-2), 1, atol=1e-2)  # after 20 rounds
    np.testing.assert_allclose(sinkhorn(jnp.log(found), rounds=2000).sum(-2), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "numbers", "remedy"),
    [
        (gathered, (0.5, 1.0), "needs numbers between 0 and 1"),
        (spread, (2.0, 1.0), "needs numbers between 0 and 2"),
        (mixed, ((1.0, 0.0), (0.0, 1.0)), "needs doubly stochastic"),
        (mixed, ((0.9, 0.1), (0.2, 0.8)), "needs doubly stochastic"),
    ],
)
def test_a_start_off_the_manifold_is_refused(make, numbers, remedy):
    with pytest.raises(ValueError, match=remedy):
        make(*numbers, kind=ManifoldGains)


def test_a_gain_that_reads_the_stream_says_where_it_can_stand():
    layer = spread(1.0, 1.0, kind=DynamicGains)
    params = layer.init(jax.random.key(0), 5)
    with pytest.raises(TypeError, match="can stand only in `write`"):
        layer(params, cases.normal(4, 5))
    parts = bind({"write": layer}, {"write": params})
    with pytest.raises(TypeError, match=r"use `residual\(x, parts\)`"):
        parts["write"](cases.normal(4, 5))
