"""Encoder and decoder: two sides of one function, whose Jacobians are those of their own streams, the memory held.

The original Transformer at toy size: one encoder block, two decoder blocks, width 8; 4 tokens of the source, 5 of the target.
"""

from dataclasses import replace
from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import streams

import gradflow as gf
from gradflow.instruments.backward import gradients, updates
from gradflow.instruments.jacobians import chain
from gradflow.instruments.readings import READINGS
from gradflow.model.branches.cross_attention import CrossAttention
from gradflow.model.branches.rotary import Rotary
from gradflow.model.equation.sublayer import with_context
from gradflow.model.parameters.names import parameter_names
from gradflow.model.stacks.encoder_decoder import EncoderDecoder
from gradflow.report.text import captions
from gradflow.results.configuration import dumps, loads
from gradflow.results.quantities import row

ORIGINAL = gf.architecture("transformer-base").scaled(depth=1, width=8, heads=2, vocabulary=cases.VOCABULARY)
SIDES = ("encoder", "decoder")


@cache
def toy() -> EncoderDecoder:
    """The model, with a decoder of two blocks."""
    whole = ORIGINAL.model()
    return replace(whole, decoder_stack=ORIGINAL.scaled(depth=2).model().decoder_stack)


def batch() -> dict:
    """Random tokens."""
    draw = np.random.default_rng(0)
    tokens = lambda n: jnp.asarray(draw.integers(0, cases.VOCABULARY, (2, n)))
    return {"inputs": {"source": tokens(4), "target": tokens(5)}, "targets": tokens(5)}


@cache
def read() -> dict:
    """Of each side: what its backward pass reads, and what the Jacobians of its stream are, both ways."""
    whole, data = toy(), batch()
    noise = np.random.default_rng(1)
    weights = jax.tree.map(lambda a: jnp.asarray(a + 0.1 * noise.normal(size=a.shape)), cases.float64(whole.init(0)))

    def everything():
        side, own = whole.decoder, whole.decoder.arranged(weights)
        jacobians = {
            "dense": streams.dense(side, own, jax.tree.map(lambda a: a[0], data["inputs"])),
            **chain.end_to_end(side, own, data, leading=12, iterations=20),
        }
        backward = {n: gradients.backward(side, side.arranged(weights), data) for n, side in whole.sides.items()}
        return {**backward, "jacobians": jacobians}

    return {"params": weights, **jax.device_get(cases.jit(everything)())}


@pytest.mark.long
def test_both_sides_have_the_loss_and_the_gradients_of_the_whole():
    encoder, decoder = (read()[side] for side in SIDES)
    assert encoder[1]["loss"] == pytest.approx(decoder[1]["loss"], rel=1e-13)
    for name in ("embedding", "encoder", "decoder"):
        part = lambda grads, side, name=name: (
            {n: grads[n] for n in ("enter", "stack", "leave")} if name == side else grads[name]
        )
        for a, b in zip(*(jax.tree.leaves(part(read()[s][0], s)) for s in SIDES), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * abs(b).max())
            assert np.any(b)


@pytest.mark.long
def test_the_singular_values_end_to_end_are_those_of_the_product_of_dense_jacobians():
    own = read()["jacobians"]
    whole = np.linalg.multi_dot(own["dense"]["sublayer"][::-1])
    expected = np.log(np.linalg.svd(whole, compute_uv=False)[:12])
    np.testing.assert_allclose(own["log_singular_values"][0], expected, atol=1e-8)


@pytest.mark.promotes
@pytest.mark.parametrize("side", [pytest.param("encoder", marks=pytest.mark.further), "decoder"])
@pytest.mark.parametrize("name", [name for name in READINGS if name != "rounding"])  # of whole models alone
def test_every_reading_is_of_the_sides_own_stream(side, name):
    """Traced, not computed."""
    own, size = toy().sides[side], {"encoder": 2, "decoder": 6}[side]
    params = jax.eval_shape(own.init, jax.random.key(0))
    read = jax.eval_shape(lambda p: READINGS[name](own, p, batch()), params)
    lengths = {"sublayer": size, "depth": size + 1}
    for quantity, array in read.items():
        dims = row(quantity).dims
        assert len(dims) == array.ndim
        assert all(array.shape[dims.index(dim)] == n for dim, n in lengths.items() if dim in dims)
    change = jax.eval_shape(lambda p: updates.change(own, (p, p), batch()), params)
    assert change["stream_change"].shape == (size + 1,)


def test_cross_attention_couples_no_tokens_of_the_stream():
    side, own = toy().decoder, toy().decoder.arranged(read()["params"])
    kinds = [sub.kind for sub in side.stack.sublayers]
    for kind, matrix in zip(kinds, read()["jacobians"]["dense"]["branch"], strict=True):
        across = abs(matrix.reshape(5, 8, 5, 8)).max((1, 3))
        assert (across[~np.eye(5, dtype=bool)] > 0).any() == (kind == "attention")
    inside = with_context(side, own, jax.tree.map(lambda a: a[0], batch()["inputs"]))["stack"]
    assert inside[0]["cross"]["branch"]["memory"].shape == (2, 4, 8)
    assert "memory" not in parameter_names(side.stack, own["stack"])


def test_the_whole_is_measured_as_a_node_for_each_side():
    whole = replace(toy(), smoothing=0.0)
    given = jax.vmap(whole.init)(jax.random.split(jax.random.key(1), 3))
    tree = gf.measure(whole, batch(), params=given, quantities=["economy"])
    assert set(tree.children) == set(SIDES)
    assert (tree["encoder"].sizes["sublayer"], tree["decoder"].sizes["sublayer"]) == (2, 6)
    assert tree["decoder"]["kind"].values.tolist() == ["attention", "cross", "mlp"] * 2
    np.testing.assert_allclose(tree["encoder"]["loss"], tree["decoder"]["loss"], rtol=1e-5)
    assert {"token", "decoder.stack.0.cross.branch.query"} <= set(tree["encoder"]["outer"].values)
    assert loads(tree["encoder"].attrs["configuration"]) == whole.encoder
    told = captions.setting(tree)
    assert told["stack"] == "1 block of attention, mlp; width 8 / 2 blocks of attention, cross, mlp; width 8"
    assert told["attention"] == "2 heads, bidirectional mask / 2 heads, causal mask"
    assert tree["decoder"].sizes["seed"] == 3


@pytest.mark.long
def test_either_side_trains_the_whole_by_the_original_recipe():
    whole = replace(ORIGINAL, vocabulary=256).model()
    data = gf.data.Halves(gf.data.text(context=8, batch=4))
    params, run = gf.train(
        whole.sides, data, gf.Recipe.original(8, 4, dropout=0.0), steps=3, record=(0, 3), seeds=1, readings="economy"
    )
    np.testing.assert_allclose(run["encoder"]["loss"], run["decoder"]["loss"], rtol=1e-5)
    moved = jax.tree.map(lambda a, b: bool((a[0] != b).any()), params["decoder"], whole.decoder.init(0))
    assert all(jax.tree.leaves([moved["encoder"], moved["stack"]]))


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_both_streams_and_the_memory_are_in_the_precision(precision):
    whole, inputs = ORIGINAL.model(precision), jax.tree.map(lambda a: a[0], batch()["inputs"])
    params = jax.eval_shape(whole.init, jax.random.key(0))
    for side in whole.sides.values():
        assert jax.eval_shape(side.enter, side.arranged(params), inputs).dtype == precision
    held = jax.eval_shape(whole.decoder.with_context, whole.decoder.arranged(params), inputs)["stack"]
    assert held[0]["cross"]["branch"]["memory"].dtype == precision
    better = "float32" if precision == "bfloat16" else "float64"
    assert jax.eval_shape(whole, params, inputs).dtype == better
    assert {str(a.dtype) for a in jax.tree.leaves(params)} == {better}


def test_a_size_is_given_to_both_stacks_and_a_file_holds_the_whole():
    deeper = toy().decoder.at_depth(3)
    assert (deeper.depth, deeper.whole.encoder.depth, deeper.width) == (3, 3, 8)
    assert loads(dumps(toy())) == toy()
    assert loads(dumps(ORIGINAL)) == ORIGINAL


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="it belongs in the decoder of an EncoderDecoder"):
        gf.transformer("post", depth=1, width=8, context=4, attention=CrossAttention(2))(
            gf.transformer("post", depth=1, width=8, context=4, attention=CrossAttention(2)).init(0), jnp.arange(4)
        )
    with pytest.raises(ValueError, match="no causal mask and no rotary positions"):
        CrossAttention(2, rotary=Rotary())
    with pytest.raises(ValueError, match="smoothing is 1: a share from 0 to below 1"):
        replace(toy(), smoothing=1)
    with pytest.raises(ValueError, match="no precision 'float16'"):
        ORIGINAL.model("float16")
    with pytest.raises(ValueError, match="theory covers a Transformer"):
        gf.predict({"decoder": toy().decoder}, batch())
    alone = gf.transformer("post", depth=1, width=8, context=4, attention=CrossAttention(2))
    with pytest.raises(NotImplementedError, match="no theory for CrossAttention"):
        gf.predict({"alone": alone}, {"inputs": jnp.zeros((1, 4), int), "targets": jnp.zeros((1, 4), int)})
