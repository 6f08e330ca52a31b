"""What a layer is asked, and who answers: the class a user's own inherits from, and the lifting of a pure function."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.model.layers.layer import ALL, FEATURES, Function, coupling
from gradflow.model.parameters.depth import OfDepth
from gradflow.results.configuration import encode

SHAPE = {"depth": 1, "width": 8, "heads": 2, "context": 4, "vocabulary": 16}


def halved(params, x):
    """A pure function without parameters."""
    return x / 2


@dataclass(frozen=True)
class Halved(gf.layers.Layer):
    """The same function as a layer of a user's own, which says what it couples."""

    couples = FEATURES

    def init(self, key, width):
        return {}

    def __call__(self, params, x):
        return x / 2


class Draws:
    """What draws parameters and inherits from nothing."""

    def init(self, key, width):
        return {}

    def __call__(self, params, x):
        return x


def test_a_pure_function_becomes_a_layer_once():
    layer = gf.layers.as_layer(halved)
    assert layer == Function(halved)
    assert gf.layers.as_layer(layer) is layer
    assert layer.init(jax.random.key(0), 8) == {}
    np.testing.assert_array_equal(layer({}, jnp.ones(3)), jnp.full(3, 0.5))


def test_a_layer_that_says_nothing_has_the_widest_answers():
    layer = gf.layers.as_layer(halved)
    assert layer.couples == ALL
    assert layer.centred
    assert layer.null_directions({}, jnp.ones((2, 3))) is None
    assert layer.output_normals({}, jnp.ones((2, 3)), None) is None
    assert layer.params_from("write") == "write"


def test_a_layer_answers_for_itself_where_it_knows_better():
    assert coupling(Halved()) == FEATURES
    assert coupling(Halved(), halved) == ALL


def test_a_function_and_a_layer_of_ones_own_stand_where_a_gain_does():
    gain, function, layer = (
        gf.transformer(gf.Wiring("mine", write=write), **SHAPE) for write in (gf.layers.Gain(0.5), halved, Halved())
    )
    params, tokens = gain.init(0), jnp.arange(4)
    for model in (function, layer):
        assert jax.tree.structure(model.init(0)) == jax.tree.structure(params)
        np.testing.assert_array_equal(model(params, tokens), gain(params, tokens))


@pytest.mark.parametrize(
    "make",
    [
        lambda: gf.Wiring("mine", write=Draws()),
        lambda: gf.Sublayer("mlp", gf.Wiring("mine"), Draws()),
    ],
    ids=["wiring", "branch"],
)
def test_what_draws_parameters_and_is_no_layer_is_refused_with_the_remedy(make):
    with pytest.raises(
        TypeError, match="has an init and is no layer: let its class inherit from gf.layers.Layer"
    ) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_layer_without_its_two_methods_cannot_be_made():
    class Empty(gf.layers.Layer):
        """Neither init nor a call."""

    with pytest.raises(TypeError, match="abstract"):
        Empty()


@dataclass(frozen=True, slots=True)
class Slotted(gf.layers.Layer):
    """A layer of a user's own whose fields are slots, one of them a number that depends on the depth."""

    value: float | OfDepth

    def init(self, key, width):
        return {}

    def __call__(self, params, x):
        return self.value * x


class Plain(gf.layers.Layer):
    """A layer of a user's own that is no dataclass."""

    def init(self, key, width):
        return {}

    def __call__(self, params, x):
        return x


def test_fields_that_are_slots_are_fields():
    model = gf.transformer(gf.Wiring("mine", write=Slotted(OfDepth(4, -0.5))), **SHAPE)
    half = gf.transformer(gf.Wiring("mine", write=gf.layers.Gain(0.5)), **SHAPE)
    params, tokens = half.init(0), jnp.arange(4)
    np.testing.assert_array_equal(model(params, tokens), half(params, tokens))
    assert encode(Slotted(2.0)) == {"type": "Slotted", "value": 2.0}


def test_the_theory_refuses_a_layer_that_is_no_dataclass_in_one_line():
    model = gf.transformer(gf.Wiring("mine", norm_in=Plain()), **SHAPE)
    batch = {"inputs": np.zeros((1, 4), int), "targets": np.zeros((1, 4), int)}
    with pytest.raises(NotImplementedError, match="model: no theory for Plain: say what it does"):
        gf.predict(model, batch)
