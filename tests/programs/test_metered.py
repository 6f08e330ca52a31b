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


# Lanes that are read over depth: a program's trunk passes some of their sublayers by. The two others have none: no residual sum.
OF_ANOTHER_TRUNK = {"denseformer", "muddformer", "nanochat", "unet", "geonorm"}
OF_THEIR_STREAM = [name for name in gf.wirings().index if name not in OF_ANOTHER_TRUNK]
# A program doesn't say whether a gate or a map of the stream belongs to the skip, as the wiring does, or to the branch.
OF_NEITHER = {
    **dict.fromkeys(("highway", "gated_residual", "deep_cross_attention"), ("split",)),
    "laurel": ("branch_rms", "branch_to_skip"),
}


@pytest.mark.parametrize("name", rows(OF_THEIR_STREAM, FEW))
def test_all_readings_of_a_wiring_are_those_of_its_own_meters(name):
    check(gf.transformer(name, depth=2, width=8, heads=2, context=8), OF_NEITHER.get(name, ()))


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


def test_readings_of_an_encoder_and_a_decoder_are_those_of_each_sides_own_meters():
    model = gf.architecture("transformer-base").scaled(depth=1, width=8, heads=2, vocabulary=32).model()
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), jax.jit(model.init)(jax.random.key(0)))
    tokens = jnp.arange(30).reshape(2, 15) * 7 % 32
    batch = {"inputs": {"source": tokens[:, :4], "target": tokens[:, 4:9]}, "targets": tokens[:, 5:10]}

    def loss(params, batch):
        return gradients.bare_loss(model.decoder, model.decoder.arranged(params), batch)

    program = traced(loss, params, batch)

    @jax.jit
    def both(params, batch):
        value, grads, readings = value_gradients_readings(program, params, batch)
        of_sides = [gradients.backward(side, side.arranged(params), batch) for side in model.sides.values()]
        return value, grads, readings, of_sides

    value, grads, readings, of_sides = jax.device_get(both(params, batch))
    for found, (own_gradients, expected), side in zip(readings, of_sides, model.sides.values(), strict=True):
        np.testing.assert_allclose(value, expected["loss"], rtol=1e-15)
        same = jax.tree.leaves(side.arranged(grads))
        for one, other in zip(same, jax.tree.leaves(own_gradients), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)
        for name in set(expected) & set(found) - set(READOUT):
            known = np.isfinite(found[name])
            np.testing.assert_allclose(found[name][known], expected[name][known], rtol=1e-11, atol=1e-13, err_msg=name)
        assert np.isfinite(found["stream_gradient"]).all()
        assert np.isfinite(found["branch_rms"]).all()


@pytest.mark.parametrize("loops", [False, True])
def test_the_rms_of_branches_beside_one_another_is_that_of_their_sum(loops):
    """GPT-J's block: attention and feed-forward in one residual sum; here one of the two is taken off."""
    w = jax.random.normal(jax.random.key(0), (3, 2, 4, 4), jnp.float64) / 2
    x = jax.random.normal(jax.random.key(1), (5, 4), jnp.float64)

    def block(x, w):
        return x + jnp.tanh(x @ w[0]) - jnp.sin(x @ w[1])

    def loss(w, x):
        if loops:
            return jnp.sum(jax.lax.scan(lambda x, w: (block(x, w), None), x, w)[0] ** 2)
        for one in w:
            x = block(x, one)
        return jnp.sum(x**2)

    _, _, reading = gf.metered(loss, w, x)(w, x)
    expected = []
    for one in w:
        branch = jnp.tanh(x @ one[0]) - jnp.sin(x @ one[1])
        expected.append(jnp.sqrt(jnp.mean(branch**2)))
        x = x + branch
    np.testing.assert_allclose(reading["branch_rms"], expected, rtol=1e-12)
