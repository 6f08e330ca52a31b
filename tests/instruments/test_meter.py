"""The meter: passes value and cotangent on unchanged, and reads squared norms under every transform."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import as_users

from gradflow.instruments.backward import gradients
from gradflow.instruments.meters.meter import FLOOR, GAIN, meter, metered, norm, squared_norm, unread
from gradflow.model.equation.sublayer import forward, walk
from gradflow.model.wirings.wiring import post, pre


def reads(function, dial=0.0):
    """The dial's reading under the loss `function(dial)`."""
    return jax.grad(function)(dial)


# ---- alone --------------------------------------------------------------------------------------------------


def test_the_value_passes_unchanged():
    x = cases.normal(3, 4)
    np.testing.assert_array_equal(meter(x, 0.0), x)
    np.testing.assert_array_equal(jax.jit(meter)(x, jnp.zeros(3)), x)


@pytest.mark.parametrize("dial", [0.0, 24.0, np.full(3, 24.0), np.nan])
def test_the_cotangent_passes_unchanged_whatever_the_dial(dial):
    x, g = cases.normal(3, 4), cases.normal(3, 4, seed=1)
    _, pull = jax.vjp(lambda x: meter(x, jnp.asarray(dial)), x)
    np.testing.assert_array_equal(pull(g)[0], g)


@pytest.mark.parametrize(
    ("shape", "dial", "axes"),
    [
        ((), (), None),
        ((4,), (), None),
        ((3, 4), (), None),
        ((3, 4), (3,), 1),
        ((2, 3, 4), (3,), (0, 2)),
        ((2, 3, 4), (2, 3), 2),
    ],
)
def test_a_dial_reads_the_squared_norm_over_what_it_does_not_name(shape, dial, axes):
    x, g = cases.normal(*shape), cases.normal(*shape, seed=1)
    read = reads(lambda d: jnp.vdot(g, meter(x, d)), jnp.zeros(dial))
    np.testing.assert_allclose(read, np.sum(np.asarray(g) ** 2, axis=axes), rtol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_gain_in_powers_of_two_is_exact(dtype):
    g = cases.normal(5, 7).astype(dtype)
    plain, scaled = (squared_norm(g, jnp.asarray(gain, dtype)) for gain in (0.0, GAIN))
    np.testing.assert_allclose(norm(scaled), jnp.linalg.norm(g), rtol=1e-6)
    assert scaled == plain * 2.0 ** (2 * GAIN)


def test_the_gain_keeps_small_gradients_from_underflow():
    """Norm 1e-23 in float32: its square, 1e-46, is no float32 number."""
    g = jnp.full(4, 0.5e-23, jnp.float32)
    read = lambda gain: reads(lambda d: jnp.vdot(g, meter(jnp.ones(4, jnp.float32), d)), jnp.float32(gain))
    assert norm(read(GAIN)) == pytest.approx(1e-23, rel=1e-6)
    assert norm(read(0.0), 0.0) > 1e-20


def test_what_underflows_all_the_same_reads_the_floor_and_zero_reads_zero():
    read = lambda size: norm(squared_norm(jnp.full(4, size, jnp.float32), jnp.float32(GAIN)))
    assert read(1e-32) == pytest.approx(FLOOR, rel=1e-6)
    assert 1e-27 < FLOOR < 1e-24
    assert read(0.0) == 0.0


def test_large_gradients_in_short_types_are_summed_in_float32():
    g = jnp.full((4096,), 3.0, jnp.bfloat16)
    read = squared_norm(g, jnp.float32(0.0))
    assert read.dtype == jnp.float32
    assert read == 9 * 4096  # beyond bfloat16's 8 bits, and float16's range


def test_a_nan_dial_tells_unread_from_zero():
    x = cases.normal(3)
    loss = lambda d: (
        jnp.sum(x) + 0 * jnp.sum(meter(x, d["zero"])) + jnp.sum(jax.lax.stop_gradient(meter(x, d["silent"][1])))
    )
    dials = {"zero": jnp.array(0.0), "silent": jnp.zeros(2)}
    assert reads(loss, dials)["zero"] == 0
    nan = jax.tree.map(lambda d: jnp.full_like(d, jnp.nan), dials)
    assert unread(reads(loss, nan)) == ["silent[0]", "silent[1]"]


def test_one_entry_of_a_dial_can_be_unread_alone():
    x = cases.normal(3)
    loss = lambda d: jnp.sum(meter(x, d["a"][0]) + meter(x, d["a"][2]))
    assert unread(reads(loss, {"a": jnp.full(3, jnp.nan), "b": jnp.array(jnp.nan)})) == ["a[1]", "b"]


# ---- under transforms ---------------------------------------------------------------------------------------


def chain(x, dials, layer):
    """Five layers in a scan, a meter before each."""
    return jnp.sum(jax.lax.scan(lambda x, d: (layer(meter(x, d)), None), x, dials)[0] ** 2)


def expected(x):
    """Squared norm of the gradient before each of five tanh layers, by hand."""
    streams = [x]
    for _ in range(5):
        streams.append(np.tanh(1.1 * streams[-1]))
    g, found = 2 * streams[-1], []
    for top in streams[:0:-1]:
        g = 1.1 * (1 - top**2) * g
        found.append(np.sum(g**2))
    return np.array(found[::-1])


LAYER = lambda x: jnp.tanh(1.1 * x)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.checkpoint, lambda f: jax.jit(jax.checkpoint(f))])
@pytest.mark.parametrize("inner", [LAYER, jax.checkpoint(LAYER), jax.jit(LAYER)])
def test_meters_read_under_scan_remat_and_jit(transform, inner):
    x = np.asarray(cases.normal(4))
    read = reads(transform(lambda d: chain(x, d, inner)), jnp.zeros(5))
    np.testing.assert_allclose(read, expected(x), rtol=1e-13)


def test_a_meter_inside_the_remat_is_read_once():
    x = np.asarray(cases.normal(4))
    step = jax.checkpoint(lambda x, d: (LAYER(meter(x, d)), None))
    read = reads(lambda d: jnp.sum(jax.lax.scan(step, x, d)[0] ** 2), jnp.zeros(5))
    np.testing.assert_allclose(read, expected(x), rtol=1e-13)


def test_a_shared_dial_under_vmap_reads_the_sum_over_examples():
    x = np.asarray(cases.normal(3, 4))
    shared = reads(lambda d: jax.vmap(chain, (0, None, None))(x, d, LAYER).sum(), jnp.zeros(5))
    np.testing.assert_allclose(shared, sum(expected(row) for row in x), rtol=1e-13)
    each = jax.vmap(lambda row: reads(lambda d: chain(row, d, LAYER), jnp.zeros(5)))(x)
    np.testing.assert_allclose(each, [expected(row) for row in x], rtol=1e-13)


def test_a_dial_used_twice_reads_the_sum_of_its_uses():
    x, (a, b) = cases.normal(3), cases.normal(2, 3, seed=1)
    read = reads(lambda d: jnp.vdot(a, meter(x, d)) + jnp.vdot(b, meter(2 * x, d)))
    np.testing.assert_allclose(read, jnp.vdot(a, a) + jnp.vdot(b, b), rtol=1e-14)


# ---- on whole models ----------------------------------------------------------------------------------------


SOME = [
    ("pre", "rmsnorm"),
    ("post", "layernorm"),
    ("everything", "layernorm"),
    ("hyper", "rmsnorm"),
]


@pytest.mark.parametrize("wiring", [cases.row(*names) for names in SOME])
def test_with_all_meters_the_loss_is_bit_equal_and_gradients_are_equal_to_rounding(wiring):
    model = cases.model(wiring, 3, cases.TWO)
    params, batch = cases.drawn(model), cases.batch()
    loss, grads = as_users(jax.value_and_grad(lambda p, b: gradients.bare_loss(model, p, b)))(params, batch)
    metered_grads, reading = as_users(lambda p, b: gradients.backward(model, p, b))(params, batch)
    assert np.isfinite(loss)
    assert reading["loss"] == loss
    errors = cases.distances(metered_grads, grads)
    assert len(errors) > 10
    assert max(errors.values()) < 1e-13


@pytest.mark.parametrize(
    ("wiring", "dtype"),
    [
        pytest.param(pre(), jnp.float32, id="pre-float32"),
        pytest.param(pre(), jnp.float64, id="pre-float64", marks=pytest.mark.further),
        pytest.param(post(), jnp.float32, id="post-float32", marks=pytest.mark.further),
        pytest.param(cases.hyper(cases.NORMS["rmsnorm"]), jnp.float32, id="hyper-float32", marks=pytest.mark.further),
    ],
)
def test_gradients_with_meters_on_the_stream_alone_are_bit_equal(wiring, dtype):
    model = cases.model(wiring, 3, cases.TWO)
    params = jax.tree.map(lambda a: a.astype(dtype), cases.drawn(model))
    x = model.enter(params, cases.batch()["inputs"][0])
    c = cases.normal(*x.shape).astype(dtype)
    dials = {"stream": jnp.full((6, cases.TOKENS), GAIN, dtype)}

    def loss(params, x, dials, visit):
        return jnp.vdot(c, walk(model.stack, params["stack"], x, visit, dials)[0])

    grad = as_users(jax.value_and_grad(loss, (0, 1)), static_argnums=3)
    plain, seen = (grad(params, x, dials, visit) for visit in (forward, metered))
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), plain, seen)
    assert all(jax.tree.leaves(equal))
    assert jax.tree.leaves(plain)[0].dtype == dtype
