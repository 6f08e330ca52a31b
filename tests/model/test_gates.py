"""Gains that are more than numbers. That wirings made of them equal their papers' formulas is shown in test_equation.py."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.model.layers.gates import Geodesic, Preserved, Shrunk, StepGain
from gradflow.model.parameters.depth import AtBlock, Groups, Mirror, Ramp, Steps, Whole, at_layer, resolved
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.transformer import Transformer, staged
from gradflow.model.wirings.catalogue import placement

SHAPE = {"depth": 2, "width": 8, "heads": 2, "context": 6}


def test_a_preserved_gradient_is_that_of_the_identity_and_as_computed_that_of_the_function():
    x, params = cases.normal(4, 5), {"gate": jnp.asarray(0.7)}
    declared, computed = Preserved(), Preserved().as_computed()
    factor = 1 - 0.7 / (1 + np.exp(-0.7))
    assert computed == Shrunk()
    for layer, slope in ((declared, 1.0), (computed, factor)):
        y, push = jax.linearize(lambda u, layer=layer: layer(params, u), x)
        np.testing.assert_allclose(y, factor * x, rtol=1e-14)
        np.testing.assert_allclose(push(x), slope * x, rtol=1e-14)


def test_a_model_as_computed_has_the_same_weights_and_function_and_another_gradient():
    model = staged(placement("gpas"), cases.TWO, 2)
    declared = Transformer(model, cases.WIDTH, Embedding(cases.VOCABULARY, cases.TOKENS))
    computed, params = declared.as_computed(), cases.drawn(declared)
    assert computed.as_computed() == computed != declared
    assert jax.tree.structure(computed.shapes) == jax.tree.structure(declared.shapes)
    tokens = cases.batch()["inputs"][0]
    grads = {}
    for name, one in (("declared", declared), ("computed", computed)):
        loss = jax.jit(jax.value_and_grad(lambda p, one=one: jnp.sum(one(p, tokens) ** 2)))
        value, of_params = loss(params)
        grads[name] = (float(value), np.asarray(of_params["embedding"]["token"].embedding[...]))
    assert grads["declared"][0] == pytest.approx(grads["computed"][0], rel=1e-14)
    assert cases.distance(*(grad for _, grad in grads.values())) > 1e-3


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (500, 0.25), (2000, 1.0), (1e9, 1.0)])
def test_a_branch_is_let_in_over_as_many_turns_as_its_block_says(step, share):
    gain = at_layer(StepGain(Steps(1, 2)), 1)  # two turns
    np.testing.assert_allclose(gain({"step": jnp.asarray(step, float)}, jnp.ones((1, 3))), share)
    assert not gain({}, jnp.ones((1, 3))).any()


@pytest.mark.long
def test_training_says_its_step_and_a_batch_may():
    model = gf.transformer("prores", **SHAPE)
    data = gf.data.WithStep(gf.data.text(context=6, batch=2))
    assert data.batch(jax.random.key(0), 3)["inputs"]["step"].tolist() == [3, 3]
    assert data.description()["step"] == "said with every batch"
    run = gf.train({"model": model}, data, gf.Recipe(lr=1e-2), steps=2, seeds=1, record=(0, 2))[1]
    assert np.isfinite(run["model"]["stream_gradient"]).all()
    plain = data.data.batch(jax.random.key(0), 0)
    late = gf.measure(model, {**plain, "step": 5000}, seeds=1)["model"]["stream_rms"]
    pre = gf.measure(gf.transformer("pre", **SHAPE), plain, seeds=1)["model"]["stream_rms"]
    np.testing.assert_allclose(late, pre, rtol=1e-6)  # all branches are in
    with pytest.raises(
        ValueError, match="theory is of step 0 and a condition of zero, and the batch says its step: leave it out"
    ):
        gf.predict(model, {**plain, "step": 5000})


def test_a_condition_has_as_many_rows_as_there_are_examples():
    plain = gf.data.text(context=6, batch=2).batch(jax.random.key(0), 0)
    with pytest.raises(ValueError, match=r"the condition has shape \(3, 8\): \[B, width\] is expected"):
        gf.measure(gf.transformer("adaln_zero", **SHAPE), {**plain, "condition": np.ones((3, 8))}, seeds=1)


def test_a_geodesic_keeps_the_norm_and_takes_no_step_where_there_is_no_direction():
    x, f = cases.normal(4, 6), cases.normal(4, 6, seed=1)
    layer = Geodesic()
    y = layer({}, jnp.stack([x, f]))
    np.testing.assert_allclose(jnp.linalg.norm(y, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-14)
    np.testing.assert_allclose(layer({}, jnp.stack([x, 3 * x])), x, rtol=1e-12)
    slope = jax.jacobian(lambda f: layer({}, jnp.stack([x, f])))(3 * x)
    assert np.isfinite(slope).all()


def test_numbers_of_blocks_and_of_lanes():
    blocks = np.arange(1, 7)
    assert [resolved(Whole(0.5, more=1), depth) for depth in (1, 2, 5)] == [1, 2, 3]
    assert [Groups(8)(depth) for depth in (2, 4, 8, 12)] == [5, 9, 9, 9]
    assert [int(Steps(2, -1, 3, more=2)(l)) for l in blocks] == [1, 2, 3, 3, 4, 5]
    assert [int(Steps(1, 1, most=4)(l)) for l in blocks] == [1, 2, 3, 4, 4, 4]
    assert [int(Mirror(3)(l)) for l in blocks] == [0, 0, 0, 3, 2, 1]
    assert [float(AtBlock(2)(l)) for l in (1, 2, 3)] == [0, 1, 0]
    np.testing.assert_allclose([Ramp(1.0, 2.0, 5)(l) for l in (1, 3, 5)], [1, 1.5, 2])
