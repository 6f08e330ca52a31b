"""The scatter of what tells tokens apart: query and key gradients of few features, by Monte Carlo, in units of standard error."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.rotary import Rotary
from gradflow.model.layers import norms
from gradflow.model.parameters.names import named
from gradflow.theory import features
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


# ---- at every sublayer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [WIDTH, TOKENS // 2])
def test_features_that_are_there_have_the_gram_matrix_they_are_of(width):
    """Of more tokens than features too, where it has their rank."""
    tokens = np.random.default_rng(1).normal(size=(TOKENS, width))
    sigma = tokens @ tokens.T / width
    found = features.exact(jnp.asarray(sigma), width)
    assert found.shape == (TOKENS, width)
    np.testing.assert_allclose(found @ found.T, sigma, atol=1e-12)


def test_a_branch_that_adds_nothing_leaves_the_gram_matrix():
    sigma, nothing = grams()[0], jnp.zeros((TOKENS, TOKENS))
    np.testing.assert_allclose(features.of_sum(jax.random.key(0), sigma, nothing, WIDTH), sigma, atol=1e-12)


def test_the_gram_matrix_of_a_sum_has_the_mean_and_the_scatter_of_features():
    """Skip and branch of 32 features, the skip's as they are: against tokens that are drawn and added."""
    skip, branch = grams()
    there, mixes = (np.linalg.cholesky(sigma) for sigma in (skip, branch))
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0][:TOKENS] * WIDTH**0.5

    def added(key):
        total = there @ rotation + mixes @ jax.random.normal(key, (TOKENS, WIDTH))
        return total @ total.T / WIDTH

    keys = jax.random.split(jax.random.key(1), DRAWS)
    run = jax.jit(
        lambda: (jax.vmap(added)(keys), jax.vmap(lambda key: features.of_sum(key, skip, branch, WIDTH))(keys))
    )
    by_tokens, drawn = jax.device_get(run())
    spread = by_tokens.std(0, ddof=1)
    assert abs(drawn.mean(0) - (skip + branch)).max() < 5 * spread.max() / DRAWS**0.5
    np.testing.assert_allclose(drawn.std(0, ddof=1), spread, rtol=5 / (2 * DRAWS) ** 0.5 * 2)


@pytest.mark.long
def test_query_and_key_gradients_of_a_stack_have_the_scatter_of_all_sublayers():
    """Post-norm, where it adds up: the limit is short of them, and what scatters at every sublayer is not."""
    model = gf.transformer("post", depth=4, width=WIDTH, heads=4, context=TOKENS)
    batch = gf.data.text(context=TOKENS, batch=1).batch(jax.random.key(0), 0)
    read = jax.jit(lambda key: gradients.reading(model, model.init(key), batch)["parameter_gradient"] ** 2)
    found = np.asarray(jax.lax.map(read, jax.random.split(jax.random.key(0), 512)), float)
    mean, sem = found.mean(0), found.std(0, ddof=1) / len(found) ** 0.5
    z = {}
    for how in ("none", "stream"):
        told = gf.predict(model, batch, draws=4, replicas=256, scatter=how)["model"].to_dataset()
        columns = [told["parameter"].values.tolist().index(name) for name in ("query", "key")]
        root, error = (told[f"parameter_gradient{suffix}"].values[::2][:, columns] for suffix in ("", "_sem"))
        ours, own_error = mean[::2][:, columns], sem[::2][:, columns]
        z[how] = (ours - root**2) / np.hypot(own_error, 2 * root * error)
    assert abs(z["stream"]).max() < 4
    assert z["none"][-1].min() > 4


@pytest.mark.long
def test_a_stack_whose_branches_begin_as_nothing_is_predicted():
    told = gf.predict(cases.model(cases.ALL["rezero"](), 1, cases.TWO), cases.batch(), replicas=2, scatter="stream")
    assert np.isfinite(told["model"]["stream_gradient"]).all()


def test_an_unknown_scatter_and_features_of_padded_texts_are_refused():
    model = cases.model(cases.ALL["rezero"](), 1, cases.TWO)
    with pytest.raises(ValueError, match=r"no scatter 'steam': did you mean 'stream'\? known: none, place, stream"):
        gf.predict(model, cases.batch(), scatter="steam")
    padded = {**cases.batch(), "attention_mask": np.arange(cases.TOKENS)[None].repeat(2, 0) > 0}
    with pytest.raises(ValueError, match="features are drawn for examples of tokens alone, and the batch says"):
        gf.predict(model, padded, scatter="stream")
