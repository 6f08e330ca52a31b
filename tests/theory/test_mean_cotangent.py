"""The mean of the cotangent: exact where a loss is a function of the Gram matrix, by Monte Carlo through fresh weights."""

from functools import partial

import jax
import jax.numpy as jnp
import montecarlo
import numpy as np
import pytest
import theories
from compiling import as_users

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.seeds import seed_keys
from gradflow.model.layers.layer import Gain, Identity
from gradflow.model.layers.norms import RMSNorm, ScaledNorm
from gradflow.theory import mean_cotangent
from gradflow.theory.gram import TheoryContext
from gradflow.theory.mean_cotangent import GramPair

KEY = jax.random.key(0)
TOKENS, WIDTH = 6, 256
NORM = RMSNorm(scale="none")
PLACE = TheoryContext(WIDTH, TOKENS, 1, KEY)


def gram(x):
    """`⟨x_t, x_s⟩/d`."""
    return x @ x.T / x.shape[-1]


def loss(d):
    """A loss that is a function of the Gram matrix: `Σ_ts D_ts Σ_ts + sin` of the first entries."""
    return lambda sigma: jnp.vdot(d, sigma) + jnp.sin(sigma[0, 0] * sigma[0, 1])


def stream(d: int = WIDTH):
    """Tokens with some direction in common, and D of the loss."""
    noise = np.random.default_rng(0)
    x = 0.7 * noise.normal(size=(TOKENS, d)) + noise.normal(size=d)
    return jnp.asarray(x), jnp.asarray(noise.normal(size=(TOKENS, TOKENS)) / TOKENS)


def below(through, sigma, cotangent: GramPair) -> GramPair:
    """(D, Δ) below a function of `GramPair`."""
    (read,) = jax.vjp(through, GramPair(sigma, jnp.zeros_like(sigma)))[1](cotangent)
    return read


def at_the_top(loss, sigma) -> GramPair:
    """(D, Δ) where nothing but the loss is above: all of Δ is the mean_cotangent."""
    d = jax.grad(loss)(sigma)
    return GramPair(d, mean_cotangent.energy(d, sigma, WIDTH))


@pytest.mark.parametrize("layer", [NORM, ScaledNorm(NORM, 0.5), Gain(1.7), Identity()])
def test_behind_a_layer_without_weights_all_is_exact(layer):
    """`g gᵀ` of automatic differentiation through the features themselves is Δ, of Gram matrices alone."""
    x, d = stream()

    @jax.jit
    def both(x, d):
        through = lambda u: mean_cotangent.passed(layer, u, PLACE)[0]
        read = below(through, gram(x), at_the_top(loss(d), gram(layer({}, x))))
        return jax.grad(lambda x: loss(d)(gram(layer({}, x))))(x), read

    g, read = jax.device_get(both(x, d))
    x = np.asarray(x)
    np.testing.assert_allclose(read.tangent, g @ g.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(g, (read.stream + read.stream.T) @ x / WIDTH, rtol=1e-9, atol=1e-12)


def test_where_two_ways_down_meet_their_means_add_up():
    """A norm on one way, nothing on the other, two losses: the energy of the sum of both gradients."""
    x, d = stream()
    other = np.random.default_rng(1).normal(size=(TOKENS, TOKENS))

    def through(u):
        one, two = mean_cotangent.shared(u, WIDTH)
        return mean_cotangent.passed(NORM, one, PLACE)[0], two

    @jax.jit
    def both(x, d, other):
        ends = at_the_top(loss(d), gram(NORM({}, x))), at_the_top(loss(other), gram(x))
        g = jax.grad(lambda x: loss(d)(gram(NORM({}, x))) + loss(other)(gram(x)))(x)
        return g, below(through, gram(x), ends)

    g, read = jax.device_get(both(x, d, other))
    np.testing.assert_allclose(read.tangent, g @ g.T, rtol=1e-9, atol=1e-12)


def test_fresh_weights_bring_the_mean_anew():
    """Values that are averaged over tokens, 400 draws: half of Δ is what they scatter, half the mean that they make."""
    x, d = stream()
    layer, linear = theories.UniformAttention(bias=False), partial(jnp.vdot, d)

    def one(key):
        params = layer.init(key, WIDTH)
        g = jax.grad(lambda x: linear(gram(layer(params, x))))(x)
        return g @ g.T

    seen = np.asarray(jax.jit(lambda: jax.lax.map(one, jax.random.split(KEY, 400)))())

    @jax.jit
    def predicted(x):
        value = mean_cotangent.passed(layer, GramPair(gram(x), gram(x)), PLACE)[0].stream
        through = lambda u: mean_cotangent.passed(layer, u, PLACE, fresh=True)[0]
        return below(through, gram(x), at_the_top(linear, value))

    read = predicted(x)
    montecarlo.assert_mean(seen[:, 0, 1] / float(read.tangent[0, 1]), 1, resolution=0.02, allowance=0.02)
    own = mean_cotangent.energy(read.stream, gram(x), WIDTH)
    np.testing.assert_allclose(own, read.tangent / 2, rtol=1e-9)


@pytest.mark.long
def test_without_norms_the_gradient_grows_with_the_mean():
    """`none` with even attention, whose scores stay zero, by Monte Carlo over seeds, at the bottom and half way up."""
    data = gf.data.text(context=32, batch=1)
    model = {"none": gf.transformer("none", depth=4, width=256, heads=8, context=32, init="xiong")}
    batch = jax.tree.map(jnp.asarray, dict(data.batch(0, 0)))
    gradient = lambda key: gradients.economy(model["none"], model["none"].init(key), batch)["stream_gradient"]
    measured = as_users(lambda keys: jax.lax.map(gradient, keys, batch_size=8))(seed_keys(0, 96))
    theory = gf.predict(model, data, draws=32)["none"]["stream_gradient"]
    for position in (0, 4):
        ratio = np.asarray(measured[:, position] / float(theory[position])) ** 2
        montecarlo.assert_mean(ratio, 1, resolution=0.1, allowance=0.03)
