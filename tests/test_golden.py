"""Published numbers, by Monte Carlo in units of standard error; every key is 0, chosen before looking.

What a paper says of infinite width is met at finite width up to a stated multiple of 1/width.

Axes: N draws of the weights first; S sublayers, L blocks.
"""

import math
from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import theories
import xarray as xr
from montecarlo import UNLIKELY, assert_mean, error
from scipy import integrate, stats

import gradflow as gf
from gradflow.instruments.seeds import seed_keys
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward, GatedFeedForward
from gradflow.model.equation.sublayer import bind, recorded, sublayer, walk
from gradflow.model.layers.functional import ACTIVATIONS
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.stacks.transformer import Transformer
from gradflow.model.wirings.residual_scaling import deepnorm
from gradflow.model.wirings.wiring import post, pre
from gradflow.published.stacks import feed_forward


def slope(profile, law, number: str = "k", over: str = "depth"):
    """`(estimate, standard error)` of one of a law's numbers."""
    fitted = gf.laws.fit(profile, law, over=over).sel(number=number)
    half = float(fitted["high"] - fitted["estimate"])
    return float(fitted["estimate"]), half / stats.t.ppf(0.975, profile.sizes["seed"] - 1)


# ---- norms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("norm", [LayerNorm(), RMSNorm()])
def test_a_norms_jacobian_is_the_published_matrix(norm, scale):
    """`(1/σ)(I − 11ᵀ/d − x̂x̂ᵀ/d)`, Xiong et al. 2020, proof of lemma 3; RMSNorm has no `11ᵀ`."""
    d = 12
    x = scale * cases.normal(d) + 0.3
    ones = np.ones((d, d)) / d if isinstance(norm, LayerNorm) else np.zeros((d, d))
    centred = np.eye(d) - ones
    sigma = np.sqrt(np.mean((centred @ x) ** 2) + norm.eps)
    hat = centred @ x / sigma
    published = (centred - np.outer(hat, hat) / d) / sigma
    params = norm.init(None, d)
    assert cases.distance(jax.jacobian(lambda x: norm(params, x))(x), published) < 1e-12


@pytest.mark.parametrize("norm", [LayerNorm(eps=0.0), RMSNorm(eps=0.0)])
def test_the_spectral_norm_of_a_norms_jacobian_is_root_d_over_the_input(norm):
    """Xiong et al. 2020, lemma 3: `‖J_N(x)‖₂ = O(√d/‖x‖₂)`; with x centred, and always for RMSNorm, equal."""
    d, params = 32, norm.init(None, 32)
    jacobian = jax.jit(jax.jacobian(lambda x: norm(params, x)))
    for scale in (0.01, 1.0, 100.0):
        x = scale * cases.normal(d)
        spectral = np.linalg.norm(jacobian(x), 2)
        length = np.linalg.norm(x - x.mean() if isinstance(norm, LayerNorm) else x)
        assert spectral == pytest.approx(d**0.5 / length, rel=1e-10)


# ---- Xiong et al. 2020 --------------------------------------------------------------------------------------


def test_relu_halves_the_expected_square():
    """Xiong et al. 2020, lemma 1: `X ~ N(0, s²I_d)` has `E‖ReLU X‖² = s²d/2`."""
    s, d = 1.7, 64
    squares = jnp.sum(ACTIVATIONS["relu"](s * cases.normal(4000, d)) ** 2, axis=1)
    assert_mean(squares, s**2 * d / 2, resolution=0.005)


WIDTH, BLOCKS, TOKENS, DRAWS = 32, 6, 8, 400


def xiong(placement: str, depth: int, width: int) -> Transformer:
    """The setting of their lemmas: Xavier, W^Q = W^K = 0, one head, all matrices d×d, ReLU."""
    attention, mlp = Attention(1, causal=False), FeedForward(1, "relu", bias=False)
    return gf.transformer(placement, depth=depth, width=width, context=None, init="xiong", attention=attention, mlp=mlp)


@cache
def squares_in_xiongs_setting(placement: str):
    """`E_t‖·‖²/d` at the input of every sublayer's skip and last norm [N, S], and at the top [N]; x_0 is Gaussian."""
    model = xiong(placement, BLOCKS, WIDTH)
    mean_square = lambda u: jnp.mean(u**2)
    visit = lambda x, parts, _: recorded(parts, x, at=lambda part, u: (part(u), mean_square(u)))

    def draw(key):
        x = jax.random.normal(jax.random.fold_in(key, 1), (TOKENS, WIDTH))
        top, seen = walk(model.stack, model.init(key)["stack"], x, visit)
        return {"stream": jnp.append(seen["skip"], mean_square(top)), "sums": seen["norm_out"]}

    return jax.device_get(jax.jit(jax.vmap(draw))(seed_keys(0, DRAWS)))


def test_the_last_norm_of_a_post_norm_block_sees_three_halves():
    """Xiong et al. 2020, lemma 2: post-norm, `E‖x‖² = 3d/2` at the input of the last norm, in every block."""
    of_feed_forward = squares_in_xiongs_setting("post")["sums"][:, 1::2]
    assert of_feed_forward.shape == (DRAWS, BLOCKS)
    assert_mean(of_feed_forward, np.full(BLOCKS, 1.5), resolution=0.02)


def test_the_pre_norm_stream_lies_between_the_published_bounds():
    """Xiong et al. 2020, lemma 2: pre-norm, `(1 + l/2)d ≤ E‖x_l‖² ≤ (1 + 3l/2)d` after l blocks.

    Of which the feed-forward sublayer adds d/2 exactly, and attention between 0 and d.
    """
    squares = squares_in_xiongs_setting("pre")["stream"]
    stream, l = squares[:, ::2], np.arange(BLOCKS + 1)
    sem = error(stream)
    assert (sem < 0.02 * stream.mean(0)).all()
    assert (stream.mean(0)[1:] > (1 + l / 2 + UNLIKELY * sem)[1:]).all()
    assert (stream.mean(0)[1:] < (1 + 3 * l / 2 - UNLIKELY * sem)[1:]).all()
    gained = np.diff(squares, axis=1)
    assert_mean(gained[:, 1::2], np.full(BLOCKS, 0.5), resolution=0.06)
    attention = gained[:, ::2]
    assert (attention.mean(0) > UNLIKELY * error(attention)).all()
    assert (attention.mean(0) < 1 - UNLIKELY * error(attention)).all()


@cache
def last_feed_forward_gradients(placement: str) -> xr.DataArray:
    """`‖∂L/∂W_down‖_F` [seed, depth] of the last block, for stacks of 1 … 24 blocks.

    A stack of l blocks is the bottom of a deeper one, and its last matrix sees only what comes after it: so one walk
    gives them all, the loss taken in turn at the top of every block.
    """
    deepest, examples, tokens = 24, 8, 16
    model = xiong(placement, deepest, 64)
    inputs, targets = np.random.default_rng(0).integers(0, 256, (2, examples, tokens))
    layers = model.sublayers[-1].layers
    see = lambda x, parts, _: (sublayer(x, **parts), x)

    def draw(key):
        params = model.init(key)

        def gradient(own, x, targets):
            def loss(down):
                parts = bind(layers, {**own, "branch": {**own["branch"], "down": down}})
                return model.loss(params, model.leave(params, sublayer(x, **parts)), targets)

            return jax.grad(loss)(own["branch"]["down"]).kernel[...]

        def example(inputs, targets):
            _, stream = walk(model.stack, params["stack"], model.enter(params, inputs), see)
            return jax.vmap(gradient, (0, 0, None))(params["stack"][0]["mlp"], stream[1::2], targets)

        return jnp.linalg.norm(jax.vmap(example)(inputs, targets).mean(0), axis=(1, 2))

    norms = jax.jit(jax.vmap(draw))(seed_keys(0, 32))
    return xr.DataArray(norms, dims=("seed", "depth"), coords={"depth": np.arange(1, deepest + 1)}, name="down")


@pytest.mark.parametrize(("placement", "published"), [("pre", -0.5), ("post", 0.0)])
def test_the_last_gradient_against_depth_has_the_slope_of_theorem_1(placement, published):
    """Xiong et al. 2020, theorem 1: `O(d √(ln d / L))` pre-norm, `O(d √ln d)` post-norm; the depths of their figure.

    Seen here: −0.52 ± 0.03 and 0.01 ± 0.03.
    """
    k, sem = slope(last_feed_forward_gradients(placement).sel(depth=[6, 8, 10, 12, 14]), gf.laws.monomial)
    assert sem < 0.05
    assert abs(k - published) < UNLIKELY * sem


def test_the_last_gradient_falls_under_pre_norm_and_stays_under_post_norm_up_to_24_blocks():
    """Earlier measurement in this setting, 6 to 24 blocks: −0.52 pre-norm, +0.04 post-norm."""
    for placement, earlier in (("pre", -0.52), ("post", 0.04)):
        k, sem = slope(last_feed_forward_gradients(placement).sel(depth=[6, 12, 24]), gf.laws.monomial)
        assert sem < 0.04
        assert abs(k - earlier) < UNLIKELY * sem


# ---- stacks of feed-forward networks ------------------------------------------------------------------------


def gaussian_mean(f) -> float:
    """`E f(z)`, `z ~ N(0, 1)`."""
    value, _ = integrate.quad(lambda z: f(z) * stats.norm.pdf(z), -10, 10, points=[0])
    return value


PHI = {
    "relu": (lambda z: max(z, 0.0), lambda z: float(z > 0)),
    "gelu": (
        lambda z: z * stats.norm.cdf(z),
        lambda z: stats.norm.cdf(z) + z * stats.norm.pdf(z),
    ),
    "tanh": (math.tanh, lambda z: 1 - math.tanh(z) ** 2),
}


@pytest.mark.long
@pytest.mark.parametrize(("activation", "published"), [("gelu", 1.0215), ("relu", 1.0), ("tanh", 1.050)])
def test_a_post_norm_feed_forward_sublayer_has_the_published_gain(activation, published):
    """Mean-square gain `χ = (1 + E φ'²)/(1 + E φ²)` a sublayer, unit pre-activations; 1 exactly for ReLU.

    Doshi, He and Gromov 2023 (partial Jacobians), with a post-norm: the ratio of what skip and branch do to a cotangent
    and what they do to the stream's variance, which the norm divides out. Width 256 is off by less than 1/width.
    """
    value, derivative = PHI[activation]
    exact = (1 + gaussian_mean(lambda z: derivative(z) ** 2)) / (1 + gaussian_mean(lambda z: value(z) ** 2))
    assert exact == pytest.approx(published, abs=5e-4)
    width, depth = 256, 32
    model = feed_forward(post(), depth, width, activation)
    run = gf.measure(model, theories.different_tokens(16), seeds=16, quantities=("partial_jacobian",))
    profile = run["model"]["partial_jacobian"].sel(probe="isotropic")
    gain = np.exp(np.log(profile.isel(depth=0) / profile.isel(depth=-1)) / depth)
    assert_mean(gain, exact, resolution=0.004, allowance=1 / width)


SUBLAYERS, NARROW = 48, 128


@cache
def pre_norm_relu() -> xr.Dataset:
    """Readings of a pre-norm ReLU stack, 48 draws; q₀ = 1 and C = 1/2, so that l₀ = q₀/C = 2."""
    model = feed_forward(pre(), SUBLAYERS, NARROW)
    quantities = ("backward", "partial_jacobian")
    return gf.measure(model, theories.different_tokens(32), seeds=48, quantities=quantities)["model"].to_dataset()


L0 = 2.0


def along_the_law(profile):
    """The profile over `1 + l/l₀` in the place of l: there the law is a power without an offset."""
    return profile.assign_coords(depth=1 + profile["depth"].values / L0)


@pytest.mark.long
def test_the_pre_norm_streams_variance_grows_linearly():
    """Kedia et al. 2024 (DeepScaleLM): variance ∝ l + 1; in general `q₀ (1 + l/l₀)`, exactly in the mean at any width."""
    q = pre_norm_relu()["stream_rms"].transpose("seed", "depth") ** 2
    assert_mean(q, 1 + np.arange(SUBLAYERS + 1) / L0, resolution=0.02)


@pytest.mark.long
def test_the_pre_norm_stream_gradient_falls_as_the_root_of_the_variance():
    """`‖∂L/∂x_l‖ ∝ (1 + l/l₀)^(−1/2)` at infinite width; at width 128 an earlier measurement of the slope had −0.508.

    Seen here: −0.510 ± 0.003.
    """
    gradient = pre_norm_relu()["stream_gradient"]
    k, sem = slope(along_the_law(gradient), gf.laws.monomial)
    assert sem < 0.005
    assert abs(k + 0.508) < UNLIKELY * sem
    assert abs(k + 0.5) < UNLIKELY * sem + 2 / NARROW


@pytest.mark.long
def test_a_power_law_fit_finds_the_exponent_and_the_offset_by_itself():
    gradient = pre_norm_relu()["stream_gradient"]
    for number, expected in (("k", -0.508), ("log_l0", math.log(L0))):
        estimate, sem = slope(gradient, gf.laws.power, number)
        assert sem < 0.1
        assert abs(estimate - expected) < UNLIKELY * sem


@pytest.mark.long
def test_the_partial_jacobian_of_a_pre_norm_relu_stack_is_the_ratio_of_the_variances():
    """`(L + l₀)/(l + l₀)`: Doshi, He and Gromov 2023 have `(L/l)^ζ` for large l, and ζ = 1 for a ReLU network.

    Width 128 is off by less than 3/width in ζ.
    """
    profile = pre_norm_relu()["partial_jacobian"].sel(probe="isotropic", drop=True)
    np.testing.assert_allclose(profile.isel(depth=-1), 1.0, rtol=1e-6)
    minus_zeta, sem = slope(along_the_law(profile), gf.laws.monomial)
    assert sem < 0.01
    assert abs(minus_zeta + 1) < UNLIKELY * sem + 3 / NARROW
    exact = (SUBLAYERS + L0) / (np.arange(SUBLAYERS) + L0)
    measured = np.log(profile.transpose("seed", "depth").values[:, :-1]) / np.log(exact)
    assert_mean(measured, np.ones(SUBLAYERS), resolution=0.1, allowance=3 / NARROW)


# ---- DeepNorm -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 12, 100])
@pytest.mark.parametrize("mlp", [FeedForward(2), GatedFeedForward(2)])
def test_deepnorm_has_the_published_constants(depth, mlp):
    """Wang et al. 2022 (DeepNet), figure 2: `α = (2N)^(1/4)`; `β = (8N)^(−1/4)` on value, output and feed-forward alone."""
    shape = {"depth": depth, "width": 8, "attention": Attention(2), "mlp": mlp}
    scaled, plain = gf.transformer(deepnorm(), **shape), gf.transformer("post", **shape)
    assert {sub.layers["skip"].value for sub in scaled.sublayers} == {(2 * depth) ** (1 / 4)}
    beta = (8 * depth) ** (-1 / 4)
    key = jax.random.key(0)
    for one, other in zip(scaled.sublayers[:2], plain.sublayers[:2], strict=True):
        drawn = (sub.layers["branch"].init(key, 8) for sub in (one, other))
        ratios = jax.tree.map(lambda a, b: a / b, *({n: p.kernel[...] for n, p in d.items()} for d in drawn))
        for name, ratio in ratios.items():
            np.testing.assert_allclose(ratio, 1 if name in ("query", "key") else beta, rtol=1e-6, err_msg=name)
