"""The scatter of what tells tokens apart: query and key gradients of few features, by Monte Carlo, in units of standard error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.model.branches.attention import Attention
from gradflow.model.branches.rotary import Rotary
from gradflow.model.layers import norms
from gradflow.model.parameters.names import named
from gradflow.theory.gram import TheoryContext, response

TOKENS, WIDTH, DRAWS = 16, 32, 4096
LAYERS = {
    "causal": Attention(4),
    "both ways": Attention(4, kv_heads=2, causal=False, rotary=Rotary(10.0), bias=True),
    "normed": Attention(4, query_norm=norms.RMSNorm()),
}
SCORES = ("query", "key", "query.bias", "key.bias")


def grams():
    """Gram matrices of tokens that have something in common, of length 1, and of a cotangent."""
    tokens = 0.3 + 0.7 * np.eye(TOKENS)
    noise = np.random.default_rng(0).normal(size=(TOKENS, 40))
    return jnp.asarray(tokens), jnp.asarray(noise @ noise.T / 40 + 0.2)


def measured(layer) -> dict:
    """Squares of the gradients of weights [draw]: tokens, cotangents and weights are drawn, tokens to their lengths."""
    sigma, delta = map(np.linalg.cholesky, grams())

    def one(key):
        of_tokens, of_cotangent, of_weights = jax.random.split(key, 3)
        x = sigma @ jax.random.normal(of_tokens, (TOKENS, WIDTH))
        x = x / jnp.linalg.norm(x, axis=-1, keepdims=True) * WIDTH**0.5
        g = delta @ jax.random.normal(of_cotangent, (TOKENS, WIDTH))
        params = layer.init(of_weights, WIDTH)
        (weights,) = jax.vjp(lambda p: layer(p, x), params)[1](g)
        return {name: jnp.sum(leaf**2) for name, leaf in named(weights).items()}

    keys = jax.random.split(jax.random.key(0), DRAWS)
    return jax.device_get(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=64))(keys))


def predicted(layer, features: float) -> dict:
    """The same of the theory [key]."""
    sigma, delta = grams()

    def one(key):
        made = response(layer, sigma, TheoryContext(WIDTH, TOKENS, 256, key, features=features))
        return {name: jnp.vdot(WIDTH * delta, source) for name, source in made.sources.items()}

    return jax.device_get(jax.jit(lambda: jax.lax.map(one, jax.random.split(jax.random.key(1), 16)))())


@pytest.mark.long
@pytest.mark.parametrize("name", list(LAYERS))
def test_query_and_key_gradients_have_the_scatter_of_their_tokens(name):
    """Sixteen tokens of 32 features: under a causal mask the limit of infinite width is a tenth short, or more."""
    found, told, limit = measured(LAYERS[name]), predicted(LAYERS[name], WIDTH), predicted(LAYERS[name], np.inf)
    asked = [which for which in SCORES if which in told]
    assert {"query", "key"} <= set(asked)
    for which in asked:
        seen = found[which]
        sem = np.hypot(seen.std(ddof=1) / len(seen) ** 0.5, told[which].std(ddof=1) / len(told[which]) ** 0.5)
        largest = max(told[which].mean(), 1e-9)  # a key's bias changes nothing without rotary positions
        assert sem < 0.03 * largest, f"{which}: too few draws"
        assert abs(seen.mean() - told[which].mean()) < 4 * sem, which
    for which in ("query", "key"):
        assert not LAYERS[name].causal or found[which].mean() > 1.1 * limit[which].mean()


def test_where_gram_matrices_are_exact_nothing_scatters():
    """Infinitely many features: the numbers of before, and other weights never change."""
    layer = LAYERS["causal"]
    sigma, _ = grams()
    place = TheoryContext(WIDTH, TOKENS, 4, jax.random.key(0))
    exact, scattered = (response(layer, sigma, p) for p in (place, place._replace(features=WIDTH)))
    np.testing.assert_array_equal(exact.value, scattered.value)
    for name in ("value", "out"):
        np.testing.assert_array_equal(exact.sources[name], scattered.sources[name])
    assert (jnp.abs(exact.sources["query"] - scattered.sources["query"]) > 0).any()
