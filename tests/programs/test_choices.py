"""Stochastic depth by `lax.cond`: a sublayer that may be left out is one, whose branch is zero where it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf

KEEP = jnp.array([True, False, True])


def block(x, w):
    return x + jnp.tanh(x @ w)


def unrolled(w, batch):
    x = batch["x"] @ w[0]
    for one, keep in zip(w[1:], batch["keep"], strict=True):
        x = jax.lax.cond(keep, block, lambda x, w: x, x, one)
    return jnp.sum(x**2)


def scanned(w, batch):
    def body(x, at_depth):
        keep, one = at_depth
        return jax.checkpoint(lambda x: jax.lax.cond(keep, block, lambda x, w: x, x, one))(x), None

    x, _ = jax.lax.scan(body, batch["x"] @ w[0], (batch["keep"], w[1:]))
    return jnp.sum(x**2)


def by_product(w, batch):
    """The same function without a `cond`."""
    x = batch["x"] @ w[0]
    for one, keep in zip(w[1:], batch["keep"], strict=True):
        x = x + keep * jnp.tanh(x @ one)
    return jnp.sum(x**2)


@pytest.mark.parametrize("loss", [unrolled, scanned])
def test_readings_are_those_of_a_branch_times_zero_or_one(loss):
    w = jax.random.normal(jax.random.key(0), (4, 4, 4), jnp.float64) / 2
    batch = {"x": jax.random.normal(jax.random.key(1), (5, 4), jnp.float64), "keep": KEEP}
    value, found, reading = gf.metered(loss, w, batch)(w, batch)
    same, gradient, expected = gf.metered(by_product, w, batch)(w, batch)
    np.testing.assert_allclose(value, same, rtol=1e-15)
    np.testing.assert_allclose(found, gradient, rtol=1e-13, atol=1e-15)
    for name in ("stream_gradient", "split", "stream_rms", "branch_rms", "skip_rms"):
        np.testing.assert_allclose(reading[name], expected[name], rtol=1e-12, atol=1e-15, err_msg=name)
    assert reading["branch_rms"][1] == 0
    np.testing.assert_allclose(reading["stream_gradient"][1], reading["stream_gradient"][2], rtol=1e-15)
