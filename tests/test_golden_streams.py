"""Published numbers: how fast a stream grows, and when its tokens become alike; by theory, and measured at small width.

Expected mean squares of the stream hold at any width, so they are met to within standard errors; every key is 0. What is
published of lanes is in `instruments/test_composite.py`.

Axes: seeds first; l sublayers, or blocks where a block has two.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import theories
from montecarlo import assert_mean

import gradflow as gf
from gradflow.instruments.seeds import seed_keys
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward
from gradflow.model.layers.layer import Gain
from gradflow.model.layers.norms import RMSNorm
from gradflow.model.parameters.depth import OfDepth
from gradflow.model.parameters.initializers import FanIn
from gradflow.model.wirings.residual_scaling import admin, depth_scaled, layernorm_scaling
from gradflow.model.wirings.wiring import post, pre, sandwich

pytestmark = pytest.mark.long  # of theory and numbers: no matter of an interpreter
RELU = {"mlp": FeedForward(1, "relu", bias=False)}


def stream(node):
    """The stream's mean square, [S+1] or [seed, S+1]."""
    return node["stream_rms"].values ** 2


def exponent(square, start: int) -> float:
    """Log-log slope of a mean square against l, from `start` on."""
    l = np.arange(len(square))
    return np.polyfit(np.log(l[start:]), np.log(square[start:]), 1)[0]


# ---- LayerNorm-Scaling --------------------------------------------------------------------------------------


def harmonic(depth: int):
    """`1 + H_l/2`, `H_l = Σ_(k ≤ l) 1/k`: a ReLU network adds half of its input's mean square, 1/l behind the scaled norm."""
    return 1 + np.cumsum([0.0, *(1 / np.arange(1, depth + 1))]) / 2


def test_with_layernorm_scaling_a_relu_stack_grows_as_the_harmonic_sum():
    """Sun et al. 2025: `Θ(L) ≤ σ²_L ≤ Θ(e^L)` for pre-norm, at most `Θ(L^(2−ε))` with the scaling; here 1 + L/2 and log L.

    Fresh weights stand at the lower bound of pre-norm: 513 against 4.75 after 1024 sublayers.
    """
    depth, data = 1024, theories.different_tokens(2)
    models = {wiring.name: theories.stack(wiring, RELU, depth, 64) for wiring in (pre(), layernorm_scaling())}
    told = {name: stream(node) for name, node in gf.predict(models, data, replicas=2).children.items()}
    np.testing.assert_allclose(told["layernorm_scaling"], harmonic(depth), rtol=1e-5)
    np.testing.assert_allclose(told["pre"], 1 + np.arange(depth + 1) / 2, rtol=1e-5)
    assert exponent(told["pre"], 512) == pytest.approx(1, abs=0.01)
    assert exponent(told["layernorm_scaling"], 512) < 0.12


def test_the_harmonic_sum_is_measured():
    depth = 32
    model = theories.stack(layernorm_scaling(), RELU, depth, 32)
    node = gf.measure(model, theories.different_tokens(16), seeds=64, quantities=("economy",))["model"]
    assert_mean(stream(node)[:, 1:], harmonic(depth)[1:], resolution=0.02, allowance=1e-4)


def test_a_transformer_keeps_to_the_bounds_of_the_curse_of_depth():
    """With attention: exponents over blocks 16 to 64 of 1.02 and 0.19, where the bounds are at least 1 and at most 2."""
    models = gf.transformers("pre", "layernorm_scaling", depth=64, width=64, context=None)
    told = gf.predict(models, theories.different_tokens(4), draws=2, replicas=2)
    above, below = (exponent(stream(told[name])[::2], 16) for name in models)
    assert 1 <= above < 1.1
    assert 0 < below < 0.25


# ---- Peri-LN ------------------------------------------------------------------------------------------------


def test_the_peri_norm_stream_grows_by_one_a_sublayer_whatever_the_weights():
    """Kim et al. 2025: `Var x_(l+1) ≈ Var x_l + const`; const the norm's gain squared. Pre-norm grows by the weights."""
    gain = 3.0
    attention, mlp = Attention(4, weights=FanIn(gain)), FeedForward(4, weights=FanIn(gain))
    models = gf.transformers("sandwich", "pre", depth=6, width=64, context=None, attention=attention, mlp=mlp)
    told = gf.predict(models, theories.different_tokens(8), draws=2, replicas=2)
    np.testing.assert_allclose(np.diff(stream(told["sandwich"])), 1, atol=1e-4)
    of_mlp = np.diff(stream(told["pre"]))[1::2]
    assert (0.42 * gain**4 < of_mlp).all()
    assert (of_mlp < 0.5 * gain**4).all()


def test_the_growth_of_peri_norm_is_measured():
    model = theories.stack(sandwich(), {"attention": Attention(2), "mlp": FeedForward(2)}, 6, 64)
    node = gf.measure(model, theories.different_tokens(16), seeds=64, quantities=("economy",))["model"]
    assert_mean(stream(node)[:, 1:], 1 + np.arange(1, 13), resolution=0.03, allowance=1e-3)


# ---- Noci et al. 2022: rank collapse ------------------------------------------------------------------------

TOKENS = 8


def without_norms(*write, depth: int):
    """Uniform attention and a linear feed-forward network, the `write` gains on their outputs."""
    wirings = tuple(gf.Wiring(f"branch_{i}", write=gain) for i, gain in enumerate(write))
    branches = {"attention": theories.UniformAttention(), "mlp": FeedForward(1, "linear", bias=False)}
    return gf.transformer(gf.Placement("noci", (gf.Stage(wirings),)), depth=depth, width=64, context=None, **branches)


def scaled(a: float) -> Gain:
    """`a/√L`."""
    return Gain(OfDepth(a**-2, -0.5))


def together_and_alike(model):
    """`Σ_tt' E⟨x_t, x_t'⟩` at the top over that at the bottom, and the cosine of two tokens at the top."""
    node = gf.predict(model, theories.different_tokens(TOKENS), draws=1, replicas=2)["model"]
    cosine = node["token_cosine"].values
    both = stream(node) * (1 + (TOKENS - 1) * cosine)
    return both[-1] / both[0], cosine[-1]


@pytest.mark.parametrize(("a1", "a2"), [(1.0, 1.0), (0.5, 1.5)])
def test_the_sum_over_pairs_of_tokens_grows_to_the_published_limit(a1, a2):
    """`(1 + a₁²/L)^L (1 + a₂²/L)^L → exp(a₁² + a₂²)`; 7.17 at L = 32 and a = 1, against 7.39."""
    at_32, _ = together_and_alike(without_norms(scaled(a1), scaled(a2), depth=32))
    assert at_32 == pytest.approx((1 + a1**2 / 32) ** 32 * (1 + a2**2 / 32) ** 32, rel=1e-6)
    assert (a1, a2) != (1.0, 1.0) or round(at_32, 2) == 7.17
    deep, _ = together_and_alike(without_norms(scaled(a1), scaled(a2), depth=1024))
    assert deep == pytest.approx(np.exp(a1**2 + a2**2), rel=0.003)


def test_the_sum_over_pairs_is_measured():
    """7.17 at L = 32 and any width; an earlier measurement had 6.98."""
    model = without_norms(scaled(1.0), scaled(1.0), depth=32)
    inputs = theories.different_tokens(TOKENS, examples=16)["inputs"]
    together = lambda x: jnp.sum(x.sum(-2) ** 2)

    def ratio(key):
        params = model.init(key)
        x = jax.vmap(model.enter, (None, 0))(params, inputs)
        top = jax.vmap(lambda x: gf.walk(model.stack, params["stack"], x)[0])(x)
        return together(top) / together(x)

    assert_mean(jax.jit(jax.vmap(ratio))(seed_keys(0, 64)), (1 + 1 / 32) ** 64, resolution=0.02)


def test_tokens_become_alike_without_the_scaling_and_stay_apart_with_it():
    """Rank collapse. With a/√L the cosine has a limit in L: `(n e/(n + e − 1) − 1)/(n − 1)`, `e = exp a₁²`, of n tokens."""
    e = np.exp(1.0)
    limit = (TOKENS * e / (TOKENS + e - 1) - 1) / (TOKENS - 1)
    _, apart = together_and_alike(without_norms(scaled(1.0), scaled(1.0), depth=1024))
    assert apart == pytest.approx(limit, rel=1e-3)
    _, alike = together_and_alike(without_norms(Gain(1.0), Gain(1.0), depth=32))
    assert alike > 1 - 1e-7


BRANCHES = {"attention": Attention(4, causal=False), **RELU}


def query_and_key(node):
    """Gradients of queries and keys over those of values, root mean squares over seeds [attention sublayer, matrix]."""
    gradient = (node["parameter_gradient"] ** 2).mean("seed").isel(sublayer=slice(None, None, 2)) ** 0.5
    matrices = [gradient.sel(parameter=name) for name in ("query", "key")]
    return np.stack([matrix / gradient.sel(parameter="value") for matrix in matrices], axis=-1)


@pytest.mark.parametrize("wiring", [pre(), post()], ids=["pre", "post"])
def test_queries_and_keys_of_tokens_that_are_alike_have_no_gradient(wiring):
    """Noci et al. 2022: at rank collapse; values have theirs."""
    alike = {name: jnp.full((1, TOKENS), i, jnp.int32) for i, name in enumerate(("inputs", "targets"))}
    node = gf.measure(theories.stack(wiring, BRANCHES, 2, 32), alike, seeds=4, quantities=("economy",))["model"]
    assert (query_and_key(node) < 1e-5).all()


def test_gradients_of_queries_and_keys_vanish_with_the_collapse_and_the_scaling_cures_it():
    """Noci et al. 2022: residual scale 1/√L. Seen here at 24 blocks: cosines of 1.0000 and 0.2, ratios of 4e-7 and 0.5."""
    models = {wiring.name: theories.stack(wiring, BRANCHES, 24, 64) for wiring in (post(), depth_scaled())}
    tree = gf.measure(models, theories.different_tokens(TOKENS), seeds=8)
    cosine = {name: float(node["token_cosine"].isel(depth=-1).mean("seed")) for name, node in tree.children.items()}
    assert cosine["post"] > 0.9999
    assert cosine["depth_scaled"] < 0.3
    ratios = {name: query_and_key(node) for name, node in tree.children.items()}
    assert (ratios["post"][0] > 0.3).all()
    assert (ratios["post"][-1] < 1e-3).all()
    assert (ratios["depth_scaled"] > 0.3).all()


# ---- Liu et al. 2020: how far a small change of all weights moves the output ------------------------------------


def moved(wiring, depth: int):
    """`E‖d out‖²/d` [seed] per token where every weight of the stack moves by noise as large as itself, to first order."""
    data = theories.different_tokens(8)
    model = theories.stack(wiring, RELU, depth, 128)
    model = gf.profiled({"model": model}, data)["model"]

    def one(key):
        params, noise = model.init(key), model.init(jax.random.fold_in(key, 1))
        still = jax.tree.map(jnp.zeros_like, noise)
        stack = tuple(
            {kind: {**still["stack"][0][kind], "branch": p["branch"]} for kind, p in s.items()} for s in noise["stack"]
        )
        out = lambda p: model.leave(p, gf.walk(model.stack, p["stack"], model.enter(p, data["inputs"][0]))[0])
        _, change = jax.jvp(out, (params,), ({**still, "stack": stack},))
        return jnp.mean(change**2)

    return jax.jit(jax.vmap(one))(seed_keys(0, 64))


@pytest.mark.parametrize("depth", [4, 12])
def test_the_output_of_post_norm_moves_with_the_depth_and_of_pre_norm_and_admin_with_its_logarithm(depth):
    """Liu et al. 2020: O(N) under post-norm, O(log N) under pre-norm, to which Admin brings post-norm.

    For ReLU networks, to first order: `2N/3`, and `Σ_{i ≤ N} 1/(1 + i/2)` for the two others, the same in both.
    """
    harmonic = np.sum(1 / (1 + np.arange(1, depth + 1) / 2))
    for wiring, expected in ((post, 2 * depth / 3), (pre, harmonic), (admin, harmonic)):
        assert_mean(moved(wiring(RMSNorm()), depth) / expected, 1.0, resolution=0.05, allowance=3 / 128)
