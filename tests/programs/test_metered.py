"""A program's stream, found in it: on gradflow's own models its positions are those that `walk` visits, and all readings agree.

A model's plain loss, `bare_loss(params, batch)`, is a program like anybody's; what `gradients.backward` reads of the model by its
own meters is the reference, in float64.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.model.parameters.names import named
from gradflow.programs.metered import traced, value_gradients_readings
from gradflow.programs.trunk.coordinates import coordinates
from gradflow.programs.trunk.parameters import columns, gradient_norms, owned

BATCH = {"inputs": np.arange(16).reshape(2, 8) * 7 % 256, "targets": np.arange(1, 17).reshape(2, 8) * 7 % 256}
FEW = ("post", "mhc")
# One architecture a family and generation: those of other sizes are the same program at the size of this test.
FAMILIES = (
    "bert-base",
    "gpt1",
    "gpt2",
    "gpt3-small",
    "opt-125m",
    "opt-350m",
    "llama-7b",
    "llama2-70b",
    "llama3-8b",
    "mistral-7b",
)
FAMILIES += ("gemma-2b", "gemma2-2b", "gemma3-1b", "olmo2-7b", "qwen3-0.6b", "deepseek-v3")


def rows(names, few):
    return [pytest.param(name, marks=() if name in few else pytest.mark.further) for name in names]


@cache
def read(model) -> tuple[dict, dict, object]:
    """The reference's reading, the program's, and its trunk, from one compiled call."""
    params = jax.jit(model.init)(jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
    batch = jax.tree.map(jnp.asarray, BATCH)
    program = traced(lambda params, batch: gradients.bare_loss(model, params, batch), params, batch)
    (trunk,) = program.trunks
    names = list(named(params))

    @jax.jit
    def both(params, batch):
        of_model = gradients.backward(model, params, batch)
        loss, grads, (reading,) = value_gradients_readings(program, params, batch)
        own = owned(trunk, len(names))
        inside = gradient_norms(trunk, own, columns(own, names), jax.tree.leaves(grads))
        return of_model, (grads, {"loss": loss, "parameters": inside, **reading})

    of_model, of_program = jax.device_get(both(params, batch))
    return of_model, of_program, coordinates(trunk, names)


READOUT = ("readout_gradient", "leave_gain")
# A head of several layers belongs to the loss of these models, and to the program's way to its last product with weights.
HEADS = ("bert-base", "opt-350m")


def check(model, without=()):
    (grads, expected), (same, found), _ = read(model)
    assert found["loss"] == expected["loss"]
    for one, other in zip(jax.tree.leaves(same), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    for name in set(expected) & set(found) - set(without):
        known = np.isfinite(found[name])
        assert found[name].shape == expected[name].shape, name
        np.testing.assert_allclose(found[name][known], expected[name][known], rtol=1e-11, atol=1e-13, err_msg=name)
    for name in ("stream_gradient", "stream_rms", "readout_gradient", "leave_gain"):
        assert np.isfinite(found[name]).all(), name
    assert np.isfinite(found["budget"][:, :2]).all()


@pytest.mark.parametrize("name", rows(gf.wirings().index, FEW))
def test_all_readings_of_a_wiring_are_those_of_its_own_meters(name):
    check(gf.transformer(name, depth=2, width=8, heads=2, context=8))


@pytest.mark.parametrize("name", rows(FAMILIES, ("gpt2",)))
def test_all_readings_of_an_architecture_are_those_of_its_own_meters(name):
    check(gf.architecture(name).scaled(depth=2, width=16).model(), READOUT if name in HEADS else ())


@pytest.mark.parametrize("name", ["pre", "post"])
def test_parameters_belong_to_the_sublayer_that_the_model_has_them_in(name):
    model = gf.transformer(name, depth=2, width=8, heads=2, context=8)
    (_, expected), (_, found), coords = read(model)
    by_model = expected["parameter_gradient"]
    there = np.isfinite(by_model)
    assert np.isfinite(found["parameters"]).sum() == there.sum()
    np.testing.assert_allclose(
        np.sort(found["parameters"][np.isfinite(found["parameters"])]), np.sort(by_model[there]), rtol=1e-12
    )
    assert not any("stack" in outer for outer in coords["outer"][1])
