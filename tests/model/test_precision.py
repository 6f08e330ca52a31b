"""Precision: that of the stream decides that of every product; weights, gradients, sums and readings stay long."""

import json
from dataclasses import replace

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.jacobians import chain, jacobians, spectrum
from gradflow.model.branches.branch import FeedForward
from gradflow.model.branches.rotary import Rotary
from gradflow.model.equation.sublayer import residual, walk
from gradflow.model.layers.attention import Mask, attend
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.numerics.precision import in_precision_of
from gradflow.model.stacks.transformer import PRECISIONS
from gradflow.model.wirings.wiring import post, pre
from gradflow.training.recipe import Recipe
from gradflow.training.step import Step

BF16 = float(jnp.finfo(jnp.bfloat16).eps)  # 2^−7: the spacing of numbers at 1
SHORT = jnp.dtype(jnp.bfloat16)
ROWS = [cases.row(*n) for n in cases.NAMES if n[1] == "layernorm" and n[0] not in cases.SIMILAR]
over_placements = pytest.mark.parametrize("wiring", ROWS)


def drawn(model, dtype=jnp.float32):
    return jax.tree.map(lambda a: a.astype(dtype), cases.drawn(model))


def dtypes(tree) -> set:
    return {leaf.dtype for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)}


def streams(model, params, tokens):
    """The stream at every position, and the logits."""
    seen = lambda x, parts, _: (residual(x, parts), x)
    x, below = walk(model.stack, params["stack"], model.enter(params, tokens), seen)
    return jnp.concatenate([below, x[None]]), model.logits(params, model.leave(params, x))


# ---- types --------------------------------------------------------------------------------------------------


@over_placements
def test_in_bfloat16_the_stream_is_short_and_weights_gradients_loss_and_readings_are_long(wiring):
    model = replace(cases.model(wiring, 1, cases.TWO), precision="bfloat16")
    params, batch = jax.eval_shape(model.init, jax.random.key(0)), cases.batch()
    assert dtypes(params) == {jnp.dtype(jnp.float32)}
    stream, logits = jax.eval_shape(lambda p: streams(model, p, batch["inputs"][0]), params)
    assert stream.dtype == SHORT
    assert logits.dtype == jnp.float32
    grads, reading = jax.eval_shape(lambda p: gradients.backward(model, p, batch), params)
    assert dtypes(grads) == dtypes(reading) == {jnp.dtype(jnp.float32)}


@pytest.mark.promotes
@pytest.mark.parametrize("optimizer", ["adam", "lion"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_of_training_keeps_the_type_of_the_weights(precision, optimizer):
    model = replace(cases.model(post(), 1, {"relu": FeedForward(2, "relu")}), precision=precision)
    step, keys = Step(model, Recipe(optimizer).direction(), gradients.economy), jax.random.split(jax.random.key(0), 2)
    state = jax.eval_shape(step.start, keys)
    batch = {name: jnp.stack([a, a]) for name, a in cases.batch().items()}
    one = jax.vmap(lambda s, b, k: step._step(s, b, k, jnp.float32(0.1), jnp.asarray(0)))
    after, _ = jax.eval_shape(one, state, batch, keys)
    assert [a.dtype for a in jax.tree.leaves(after)] == [a.dtype for a in jax.tree.leaves(state)]
    assert dtypes(state["params"]) == {jnp.dtype("float64" if precision == "float64" else "float32")}


def test_parameters_follow_a_floating_array_and_nothing_else():
    params = {"w": jnp.ones(3, jnp.float32), "index": jnp.arange(3)}
    short = in_precision_of(jnp.ones(2, jnp.bfloat16), params)
    assert (short["w"].dtype, short["index"].dtype) == (SHORT, params["index"].dtype)
    for x in (jnp.arange(2), (jnp.ones(2, jnp.bfloat16),), object()):
        assert in_precision_of(x, params) is params


# ---- bfloat16 beside float32 --------------------------------------------------------------------------------


@over_placements
def test_in_bfloat16_the_stream_and_the_logits_are_float32s_to_its_rounding(wiring):
    model = cases.model(wiring, 1, cases.TWO)
    params, tokens = drawn(model), cases.batch()["inputs"][0]
    run = lambda precision: cases.jit(lambda p: streams(replace(model, precision=precision), p, tokens))(params)
    (short, logits), (long, expected) = run("bfloat16"), run(None)
    assert long.dtype == jnp.float32
    assert cases.distance(np.float64(short), np.float64(long)) < 2 * BF16
    assert cases.distance(logits, expected) < 3 * BF16
    assert cases.distance(logits, expected) > BF16 / 50  # it was rounded


def test_in_bfloat16_every_kind_of_sublayer_reads_as_in_float32():
    model = cases.model(post(RMSNorm()), 1)
    params, batch = drawn(model), cases.batch()
    read = lambda model: jax.device_get(cases.jit(lambda p, b: gradients.economy(model, p, b))(params, batch))
    short, long = read(replace(model, precision="bfloat16")), read(model)
    assert short["loss"] == pytest.approx(long["loss"], rel=2 * BF16)
    for name in ("stream_rms", "stream_gradient", "stream_gradient_by_token", "outer_gradient"):
        np.testing.assert_allclose(short[name], long[name], rtol=8 * BF16, err_msg=name)
    there = ~np.isnan(long["parameter_gradient"])
    assert (there == ~np.isnan(short["parameter_gradient"])).all()
    size = np.nanmax(long["parameter_gradient"], axis=1, keepdims=True)  # a key's bias has a gradient of rounding alone
    assert (np.abs(short["parameter_gradient"] - long["parameter_gradient"]) / size)[there].max() < 8 * BF16


# ---- what is summed -----------------------------------------------------------------------------------------


def test_products_are_summed_in_float32():
    """4096 ones: a sum in bfloat16 gets no further than 256, where the next number is 258."""
    n, ones = 4096, FeedForward(1024, "linear", bias=False)
    params = jax.tree.map(jnp.ones_like, ones.init(jax.random.key(0), 4))  # 4 to 4096 to 4
    x = jnp.full((2, 4), 0.25, jnp.bfloat16)
    assert ones(in_precision_of(x, params), x).tolist() == [[n] * 4] * 2
    loss = lambda w: (jnp.ones((n, 1), jnp.bfloat16) @ w.astype(jnp.bfloat16)).sum()
    assert jax.grad(loss)(jnp.ones((1, 1))).tolist() == [[n]]  # over tokens, backward


def test_scores_are_float32s_and_so_is_the_sum_over_tokens():
    """Scores of 256 and 257, which bfloat16 can't tell apart; and 1024 equal probabilities."""
    q, k = (
        jnp.array([[[32.0, 2, 0, 0]]] * 2, jnp.bfloat16),
        jnp.array([[[16.0, 0, 0, 0]], [[16, 1, 0, 0]]], jnp.bfloat16),
    )
    v = jnp.array([[[0.0] * 4], [[1.0] * 4]], jnp.bfloat16)
    found = attend(q, k, v, Mask(causal=False))
    assert found.dtype == SHORT
    np.testing.assert_allclose(np.float64(found), np.e / (1 + np.e), rtol=BF16)
    zero, one = jnp.zeros((1024, 1, 4), jnp.bfloat16), jnp.ones((1024, 1, 4), jnp.bfloat16)
    assert (attend(zero, zero, one, Mask(causal=False)) == 1).all()


@pytest.mark.parametrize("norm", [LayerNorm(), RMSNorm()], ids=["layernorm", "rmsnorm"])
def test_a_norm_takes_its_moments_in_float32(norm):
    x = (cases.normal(3, 2048) + 8).astype(jnp.bfloat16)  # a sum of 16384, and squares far above it
    params = norm.init(jax.random.key(0), 2048)
    short = norm(in_precision_of(x, params), x)
    long = norm(params, x.astype(jnp.float32))
    assert short.dtype == SHORT
    np.testing.assert_allclose(np.float64(short), long, rtol=BF16, atol=1e-6)


def test_rotary_angles_are_of_whole_positions():
    """Position 599 is not a number of bfloat16: 600 would turn the fastest pair by one radian more."""
    x = cases.normal(600, 2, 4).astype(jnp.bfloat16)
    short, long = Rotary()(x), Rotary()(x.astype(jnp.float32))
    assert short.dtype == SHORT
    np.testing.assert_allclose(np.float64(short), long, atol=6 * BF16)


# ---- an independent library ---------------------------------------------------------------------------------


def test_a_feed_forward_network_in_bfloat16_is_torchs():
    """Both round where they like between products: they are as near to each other as each is to float64."""
    torch = pytest.importorskip("torch", reason="the oracle is torch: pip install -e '.[oracle]'")
    layer, width = FeedForward(4, "gelu"), 64
    params = layer.init(jax.random.key(0), width)
    params = jax.tree.map(lambda a: a + 0.1 * cases.normal(*a.shape, seed=a.size).astype(a.dtype), params)
    x = cases.normal(16, width).astype(jnp.bfloat16)
    found = layer(in_precision_of(x, params), x)
    exact = layer(cases.float64(in_precision_of(x, params)), x.astype(jnp.float64))

    tensor = lambda a: torch.tensor(np.asarray(a, np.float32)).to(torch.bfloat16)
    side = lambda name: (tensor(params[name].kernel[...]).T, tensor(params[name].bias[...]))
    linear = torch.nn.functional.linear
    hidden = torch.nn.functional.gelu(linear(tensor(x), *side("up")))
    theirs = linear(hidden, *side("down")).to(torch.float64).numpy()
    assert cases.distance(theirs, np.asarray(exact)) < BF16
    assert cases.distance(np.float64(found), np.asarray(exact)) < BF16
    assert cases.distance(np.float64(found), theirs) < BF16

    product = (x @ params["up"].kernel[...].astype(jnp.bfloat16)).astype(jnp.float64)  # one product: to one rounding
    np.testing.assert_allclose(product, (tensor(x) @ side("up")[0].T).to(torch.float64).numpy(), rtol=BF16, atol=1e-3)


# ---- Jacobians ----------------------------------------------------------------------------------------------


def test_jacobians_of_a_model_in_bfloat16_are_those_of_its_weights_in_float32():
    """A function that rounds at every step has no derivative: from the embedding, rounded, on they are taken in float32."""
    long = cases.model(pre(), 1, {"relu": FeedForward(2, "relu")})
    short = replace(long, precision="bfloat16")
    params, tokens = drawn(long), cases.batch()["inputs"][0]
    dense = lambda model: cases.jit(lambda p: jacobians.at_sublayer(model, p, tokens, 0))(params)
    found, expected = dense(short), dense(long)
    for name, matrix in found.items():
        assert matrix.dtype == jnp.float32
        np.testing.assert_allclose(matrix, expected[name], atol=10 * BF16, err_msg=name)


@pytest.mark.promotes
@pytest.mark.parametrize("read", [spectrum.spectrum, chain.lyapunov, chain.alignment, chain.end_to_end])
def test_what_is_read_of_jacobians_in_bfloat16_is_long(read):
    model = replace(cases.model(post(), 1, cases.TWO), precision="bfloat16")
    params = jax.eval_shape(model.init, jax.random.key(0))
    found = jax.eval_shape(lambda p: read(model, p, cases.batch()), params)
    assert dtypes(found) <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.float64)}


# ---- float64 ------------------------------------------------------------------------------------------------


def test_a_model_in_float64_is_the_one_whose_weights_were_cast():
    """To the last bit: the same draws, the same program."""
    cast = cases.model(pre(), 1, {"relu": FeedForward(2, "relu")})
    long, batch = replace(cast, precision="float64"), cases.batch()
    params = long.init(0)
    assert dtypes(params) == {jnp.dtype(jnp.float64)}
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(cases.float64(cast.init(0))), strict=True):
        np.testing.assert_array_equal(a, b)
    run = lambda model: cases.jit(jax.value_and_grad(lambda p: gradients.bare_loss(model, p, batch)))(params)
    for a, b in zip(jax.tree.leaves(run(long)), jax.tree.leaves(run(cast)), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_array_equal(a, b)


def test_float64_is_refused_where_jax_would_not_keep_it():
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"float64 needs .*jax_enable_x64.*JAX_ENABLE_X64=1"):
        gf.transformer("pre", depth=1, width=8, heads=2, precision="float64")


# ---- a value ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [None, *PRECISIONS])
def test_a_precision_is_part_of_the_model(precision):
    model = gf.transformer("pre", depth=1, width=8, heads=2, precision=precision)
    assert gf.results.configuration.decode(json.loads(gf.results.configuration.dumps(model))) == model
    assert gf.transformers("pre", depth=1, width=8, heads=2, precision=precision)["pre"] == model


@pytest.mark.parametrize("precision", ["bf16", "float16", "Float32"])
def test_an_unknown_precision_is_refused_with_those_there_are(precision):
    with pytest.raises(ValueError, match=f"no precision '{precision}': .*known: bfloat16, float32, float64"):
        gf.transformer("pre", depth=1, width=8, heads=2, precision=precision)
