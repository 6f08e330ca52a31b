"""What every layer does to Gram matrices, against finite networks by Monte Carlo, in units of standard error."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import theories
from compiling import as_users

from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward, GatedFeedForward
from gradflow.model.branches.rotary import Interpolated, Rotary
from gradflow.model.layers import layer as layers
from gradflow.model.layers import norms
from gradflow.model.parameters.initializers import FanIn, Scaled, WidthScaled
from gradflow.model.parameters.names import named
from gradflow.theory import gram
from gradflow.theory.gram import TheoryContext, response

TOKENS, WIDTH, DRAWS = 6, 256, 128
BETA = Scaled(FanIn(), (("value", 0.5), ("out", 0.8), ("up", 0.7), ("down", 0.6)))
LAYERS = {
    "relu": FeedForward(2, "relu"),
    "gelu": FeedForward(2, "gelu", BETA),
    "tanh": FeedForward(1, "tanh", WidthScaled(0.06)),
    "gated": GatedFeedForward(2, "silu", bias=True),
    "causal": Attention(8, bias=True),
    "bidirectional": Attention(8, causal=False, weights=BETA),
    "rotary": Attention(8, rotary=Rotary(10.0)),
    "grouped": Attention(8, kv_heads=2, causal=False, rotary=Rotary(10.0), bias=True),
    "inner layernorm": FeedForward(2, "gelu", inner=norms.LayerNorm()),
    "gated inner": GatedFeedForward(2, "silu", inner=norms.ScaledNorm(norms.LayerNorm(), 0.5)),
    "query and key norms": Attention(8, rotary=Rotary(10.0), query_norm=norms.RMSNorm(), key_norm=norms.LayerNorm()),
    "head gains": Attention(8, head_gain=layers.FeatureGain(1.5), inner=norms.LayerNorm(bias=False)),
    "windows": Attention(8, head=48, window=3, scale=0.1, rotary=Rotary(10.0, Interpolated(2.0))),
    "sinks": Attention(8, window=2, first=1, sink=0.5),
    "both sides": Attention(8, causal=False, window=2, bias=("query", "value")),
    "user's": theories.UniformAttention(),
}
UNPREDICTED = {"head gains": {"head_gain.gain"}, "sinks": {"sink"}}
over_layers = pytest.mark.parametrize("name", list(LAYERS))


def gram_matrices():
    """Gram matrices of the stream, of a tangent and of a cotangent: nothing is independent or equal."""
    make = lambda seed, shared: np.cov(np.random.default_rng(seed).normal(size=(TOKENS, 9)) + shared)
    return [make(seed, shared) + 0.3 * np.eye(TOKENS) for seed, shared in ((0, 0.0), (1, 0.5), (2, 0.2))]


def exact(matrices):
    """Arrays [T, d], one for each Gram matrix, with exactly these, orthogonal to each other and of mean zero."""
    rows = np.random.default_rng(3).normal(size=(WIDTH, len(matrices) * TOKENS))
    basis = WIDTH**0.5 * np.linalg.qr(rows - rows.mean(0))[0].T.reshape(len(matrices), TOKENS, WIDTH)
    return [jnp.asarray(np.linalg.cholesky(s) @ b) for s, b in zip(matrices, basis, strict=True)]


def finite(layer) -> dict:
    """Gram matrices of output, tangent and pulled-back cotangent, and squares of weight gradients; each [draw, …]."""
    x, dx, g = exact(gram_matrices())
    inner = lambda a: a @ a.T / WIDTH

    def one(key):
        params = layer.init(key, WIDTH)
        y, push = jax.linearize(lambda x: layer(params, x), x)
        _, pull = jax.vjp(lambda p, x: layer(p, x), params, x)
        weights, back = pull(g)
        squares = {name: jnp.sum(leaf**2) for name, leaf in named(weights).items()}
        return {"value": inner(y), "push": inner(push(dx)), "pull": inner(back), **squares}

    keys = jax.random.split(jax.random.key(0), DRAWS)
    return jax.device_get(as_users(lambda keys: jax.lax.map(one, keys, batch_size=8))(keys))


def predicted(layer, draws: int = 512) -> dict:
    """The same of the theory, mean over keys, and its scatter [key, …]."""
    sigma, k, delta = map(jnp.asarray, gram_matrices())

    def one(key):
        made = response(layer, sigma, TheoryContext(WIDTH, TOKENS, draws, key))
        back = jax.linear_transpose(made.push, k)(delta)[0]
        squares = {name: jnp.vdot(WIDTH * delta, source) for name, source in made.sources.items()}
        return {"value": made.value, "push": made.push(k), "pull": back, **squares}

    return jax.device_get(jax.jit(lambda: jax.lax.map(one, jax.random.split(jax.random.key(1), 8)))())


@pytest.mark.long
@over_layers
def test_theory_is_the_mean_over_draws_of_a_finite_layer(name):
    """Output, tangent, cotangent and every weight's squared gradient; width 256 may be off by 4/width of the largest entry."""
    measured, theory = finite(LAYERS[name]), predicted(LAYERS[name])
    assert set(measured) - set(theory) == UNPREDICTED.get(name, set())
    for what, told in theory.items():
        seen = measured[what]
        sem = np.hypot(seen.std(0, ddof=1) / len(seen) ** 0.5, told.std(0, ddof=1) / len(told) ** 0.5)
        largest = max(np.abs(told.mean(0)).max(), 1e-9)  # a key's bias changes nothing without rotary positions
        assert (sem < 0.05 * largest).all(), f"{what}: too few draws"
        off = np.abs(seen.mean(0) - told.mean(0))
        assert (off < 4 * sem + 4 / WIDTH * largest).all(), f"{what}: off by {(off / sem).max():.1f} standard errors"


@pytest.mark.parametrize(
    "norm",
    [norms.LayerNorm(), norms.RMSNorm(), norms.RMSNorm(scale="one_plus"), norms.LayerNorm(scale="none", bias=False)],
)
def test_a_norms_response_is_exact_for_what_is_orthogonal_to_its_input(norm):
    x, dx, g = exact(gram_matrices())
    params = norm.init(None, WIDTH)

    @jax.jit
    def measured(params, x, dx, g):
        y, pushed = jax.jvp(lambda x: norm(params, x), (x,), (dx,))
        weights, back = jax.vjp(lambda p, x: norm(p, x), params, x)[1](g)
        return [a @ a.T / WIDTH for a in (y, pushed, back)], weights

    @jax.jit
    def predicted(sigma, k, delta):
        made = response(norm, sigma, TheoryContext(WIDTH, TOKENS, 1, None))
        return [made.value, made.push(k), made.push(delta)], made.sources

    seen, weights = measured(params, x, dx, g)
    told, sources = predicted(*gram_matrices())
    for found, expected in zip(seen, told, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert set(named(weights)) == set(sources)


@pytest.mark.parametrize("layer", [norms.DyT(0.8), norms.Derf(0.8)], ids=repr)
def test_a_squash_acts_on_gaussian_features_by_its_kernel(layer):
    """Output, tangent and every parameter's tangent, means over 200,000 features in units of their standard errors."""
    features = 200_000
    sigma, k, _ = gram_matrices()
    noise = np.random.default_rng(0).normal(size=(2, TOKENS, features))
    x, dx = np.linalg.cholesky(sigma) @ noise[0], np.linalg.cholesky(k) @ noise[1]
    params = cases.float64(layer.init(None, features))

    @jax.jit
    def both(params, x, dx, sigma, k):
        made = response(layer, sigma, TheoryContext(WIDTH, TOKENS, 1, None))
        y, push = jax.linearize(layer, params, x)
        still = jax.tree.map(jnp.zeros_like, params)
        moved = lambda name: push({**still, name: jnp.ones_like(params[name])}, jnp.zeros_like(x))
        seen = {"value": (made.value, y), "push": (made.push(k), push(still, dx))}
        return seen | {name: (made.sources[name], moved(name)) for name in params}

    for name, (told, found) in both(params, x, dx, sigma, k).items():
        products = np.asarray(found)[:, None] * np.asarray(found)[None]
        sem = products.std(-1) / features**0.5
        assert (np.abs(products.mean(-1) - told) < 4.5 * sem + 1e-4).all(), name


@pytest.mark.parametrize(
    ("layer", "square"),
    [
        (layers.Identity(), 1.0),
        (layers.Zero(), 0.0),
        (layers.Gain(0.5), 0.25),
        (layers.ScalarGain(0.5), 0.25),
        (layers.FeatureGain(0.1), 0.01),
        (layers.Shift(), 1.0),
    ],
)
def test_a_gain_acts_as_its_square(layer, square):
    sigma, k, _ = map(jnp.asarray, gram_matrices())
    made = response(layer, sigma, TheoryContext(WIDTH, TOKENS, 1, None))
    np.testing.assert_allclose(made.value, square * sigma, rtol=1e-6)
    np.testing.assert_allclose(made.push(k), square * k, rtol=1e-6)
    assert set(made.sources) == set(named(layer.init(None, WIDTH)))


@pytest.mark.parametrize("layer", [layers.ScalarGain(0.5), layers.FeatureGain(0.1)])
def test_a_gains_squared_gradient_is_the_contraction(layer):
    """Mean over cotangents that know nothing of the input, drawn on the Gram matrix."""
    sigma, _, delta = map(jnp.asarray, gram_matrices())
    x, params = exact([sigma])[0], layer.init(None, WIDTH)
    noise = np.random.default_rng(0).normal(size=(2000, TOKENS, WIDTH))
    g = np.linalg.cholesky(delta) @ noise
    square = lambda g: jnp.sum(jax.vjp(lambda p: layer(p, x), params)[1](g)[0]["gain"] ** 2)
    squares = np.asarray(jax.jit(jax.vmap(square))(g))
    expected = jnp.vdot(WIDTH * delta, response(layer, sigma, TheoryContext(WIDTH, TOKENS, 1, None)).sources["gain"])
    assert abs(squares.mean() - expected) < 4 * squares.std() / len(squares) ** 0.5


def test_equal_tokens_have_a_factor():
    ones = jnp.ones((50, 50), jnp.float32)
    root = gram.factor(ones)
    assert np.isfinite(root).all()
    np.testing.assert_allclose(root @ root.T, ones, atol=1e-3)


def test_examples_of_a_batch_mix_their_own_tokens_alone():
    """Two examples in one Gram matrix: the blocks on the diagonal are those of one example."""
    both = np.kron(np.ones((2, 2)), gram_matrices()[0]) + np.eye(2 * TOKENS)
    place = TheoryContext(WIDTH, TOKENS, 4096, jax.random.key(0))
    value = jax.jit(lambda sigma: response(Attention(4), sigma, place).value)
    made, one = value(both), value(both[:TOKENS, :TOKENS])
    np.testing.assert_allclose(made[:TOKENS, :TOKENS], one, atol=0.05)
    np.testing.assert_allclose(made[:TOKENS, :TOKENS], made[TOKENS:, TOKENS:], atol=0.05)


def test_a_layer_without_a_theory_says_how_to_give_it_one():
    with pytest.raises(NotImplementedError, match=r"no theory for int: .* gf.gram.response.register"):
        response(3, jnp.eye(2), TheoryContext(WIDTH, 2, 1, None))


def test_what_acts_between_matrices_multiplies_rows_or_is_refused():
    sigma, place = jnp.asarray(gram_matrices()[0]), TheoryContext(WIDTH, TOKENS, 1, jax.random.key(0))
    with pytest.raises(NotImplementedError, match="no theory for DyT inside a branch: gains and norms have one"):
        response(FeedForward(inner=norms.DyT()), sigma, place)
    with pytest.raises(NotImplementedError, match="no theory for a norm on the values of heads of finite width"):
        response(Attention(8, value_norm=norms.RMSNorm()), sigma, place)
    with pytest.raises(NotImplementedError, match="no theory for Capped in front of a gated product: measure it"):
        response(GatedFeedForward(on_gate=norms.Capped(1.0)), sigma, place)
