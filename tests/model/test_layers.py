"""Layers against their formulas: norms in closed form, attention by loops, causality through gradients."""

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import distance

from gradflow.model.branches import attention
from gradflow.model.branches import branch as branches
from gradflow.model.branches.attention import Attention, Joint
from gradflow.model.branches.branch import FeedForward, GatedFeedForward
from gradflow.model.branches.cross_attention import CrossAttention
from gradflow.model.branches.rotary import ByWavelength, Interpolated, Rotary
from gradflow.model.layers import layer as layers
from gradflow.model.layers import norms
from gradflow.model.layers.attention import Mask, attend
from gradflow.model.layers.functional import ACTIVATIONS, affine, standardized
from gradflow.model.layers.layer import Complement, FeatureGain, Gain, Identity, ScalarGain, Shift, Zero
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.parameters.depth import ByBlock, at_layer

EXACT = 1e-12


def drawn(layer, width: int = cases.WIDTH, seed: int = 0):
    """Its parameters in float64, moved by 0.05 · normal."""
    noise = np.random.default_rng(seed)
    params = layer.init(jax.random.key(seed), width)
    moved = jax.tree.map(lambda a: np.asarray(a, float) + 0.05 * noise.normal(size=a.shape), params)
    return jax.device_put(moved)


def with_formula(layer, params, x):
    """`(layer(params, x), its formula written again)`, as one program."""
    return cases.jit(lambda p, x: (layer(p, x), reference.apply(layer, p, x)))(params, x)


# ---- norms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("norm", cases.NORMS.values(), ids=cases.NORMS)
def test_a_norm_jacobian_is_the_closed_form(norm, scale):
    """`(1/σ)(I − 11ᵀ/d − x̂x̂ᵀ/d)`, σ² = var + eps; RMSNorm without the 11ᵀ and with σ² = mean(x²) + eps.

    Xiong et al. 2020, appendix; exact at every size of x, also where eps is not small.
    """
    x = scale * (0.3 + np.asarray(cases.normal(12, seed=5)))
    params = cases.float64(norm.init(None, 12))
    closed = reference.norm_jacobian(x, norm.eps, centre=isinstance(norm, LayerNorm))
    assert distance(cases.jit(jax.jacrev(lambda x: norm(params, x)))(x), closed) < EXACT


@pytest.mark.parametrize("norm", cases.NORMS.values(), ids=cases.NORMS)
def test_a_norm_acts_on_each_token_alone(norm):
    x, params = cases.normal(3, 4), drawn(norm, 4)
    J = np.asarray(cases.jit(jax.jacobian(lambda x: norm(params, x)))(x))
    assert np.abs(J[0, :, 1:]).max() == 0
    assert distance(*with_formula(norm, params, x)) < EXACT


def test_layernorm_takes_its_variance_from_centred_values():
    """In float32 the mean of squares minus the square of the mean would lose everything here."""
    x = (1e4 + jnp.arange(8.0)).astype(jnp.float32)
    params = LayerNorm().init(None, 8)
    assert np.std(LayerNorm()(params, x)) == pytest.approx(1.0, rel=1e-3)


# ---- branches -----------------------------------------------------------------------------------------------

MORE = {"linear": FeedForward(1.5, "linear", bias=False), "biased": Attention(4, kv_heads=1, bias=True)}


@pytest.mark.parametrize("branch", [*cases.BRANCHES.values(), MORE["biased"]], ids=[*cases.BRANCHES, "biased"])
def test_a_branch_equals_its_formula(branch):
    params, x = drawn(branch), cases.normal(cases.TOKENS, cases.WIDTH)
    assert distance(*with_formula(branch, params, x)) < EXACT


INNER = {
    "feed-forward": (FeedForward(2, inner=LayerNorm()), ("inner",)),
    "gated": (
        GatedFeedForward(2, inner=RMSNorm(), on_gate=LayerNorm(), on_up=RMSNorm()),
        ("inner", "on_gate", "on_up"),
    ),
    "heads": (Attention(2, head_gain=FeatureGain(1.0), inner=LayerNorm()), ("inner",)),
    "queries": (
        Attention(4, kv_heads=2, rotary=Rotary(), **dict.fromkeys(("query_norm", "key_norm", "value_norm"), RMSNorm())),
        ("query_norm", "key_norm", "value_norm"),
    ),
}


@pytest.mark.parametrize(("branch", "places"), INNER.values(), ids=INNER)
def test_layers_inside_a_branch_act_where_their_papers_have_them(branch, places):
    params, x = drawn(branch), cases.normal(cases.TOKENS, cases.WIDTH)

    @cases.jit
    def both(params, x):
        act = lambda place: lambda u: reference.apply(getattr(branch, place), params[place], u)
        inside = {place.removesuffix("_norm"): act(place) for place in places}
        inside |= {"heads": params["head_gain"]["gain"]} if "head_gain" in params else {}
        return branch(params, x), reference.apply(branch, params, x, **inside)

    assert distance(*both(params, x)) < EXACT


def test_a_branch_without_layers_inside_has_the_parameters_of_its_matrices_alone():
    assert set(Attention(2).init(jax.random.key(0), 8)) == {"query", "key", "value", "out"}
    assert shapes(Attention(2, query_norm=RMSNorm()))["query_norm.scale"] == (4,)
    assert shapes(FeedForward(2, inner=LayerNorm()))["inner.bias"] == (16,)


@pytest.mark.parametrize(
    "branch", [b for b in cases.BRANCHES.values() if isinstance(b, Attention)], ids=["causal", "bidirectional"]
)
def test_attention_sees_the_past_alone_where_it_is_causal(branch):
    params, x = drawn(branch), cases.normal(cases.TOKENS, cases.WIDTH)
    J = np.asarray(cases.jit(jax.jacrev(lambda x: branch(params, x)))(x))
    size = np.abs(J).max(axis=(1, 3))
    later = np.triu(np.ones((cases.TOKENS, cases.TOKENS), bool), 1)
    assert (size[~later] > 0).all()
    assert (size[later] == 0).all() if branch.causal else (size[later] > 0).all()


def test_grouped_keys_equal_repeated_heads():
    q, k, v = (cases.normal(cases.TOKENS, heads, 3, seed=heads) for heads in (6, 2, 2))
    repeat = lambda a: np.repeat(a, 3, axis=1)
    attended = cases.jit(lambda q, k, v: attend(q, k, v, Mask()))
    np.testing.assert_allclose(attended(q, k, v), attended(q, repeat(k), repeat(v)), rtol=1e-12)


def test_attention_keeps_the_type_of_its_input():
    for dtype in (jnp.float32, jnp.float64):
        q = jax.ShapeDtypeStruct((4, 2, 3), dtype)
        assert jax.eval_shape(lambda q: attend(q, q, q, Mask()), q).dtype == dtype


@pytest.mark.parametrize(
    "branch",
    [
        Attention(2, head=3),
        Attention(4, kv_heads=2, head=6, rotary=Rotary()),
        Attention(2, window=2, scale=0.7, softcap=0.4),
    ],
    ids=["narrow heads", "wide heads", "window, scale and cap"],
)
def test_attention_of_any_head_window_scale_and_cap_is_the_plain_one(branch):
    params, x = drawn(branch), cases.normal(cases.TOKENS, cases.WIDTH)
    assert distance(*with_formula(branch, params, x)) < EXACT


def test_a_norm_of_all_heads_sees_their_concatenation():
    x, norm = cases.normal(5, 3, 4), Joint(RMSNorm(), 3)
    params = drawn(norm, 4)
    assert params.scale.shape == (12,)
    np.testing.assert_allclose(norm(params, x).reshape(5, 12), RMSNorm()(params, x.reshape(5, 12)), rtol=EXACT)
    inside = Attention(4, kv_heads=2, query_norm=Joint(RMSNorm(), 4), key_norm=Joint(RMSNorm(), 2))
    assert shapes(inside)["query_norm.scale"] == (8,)
    assert shapes(inside)["key_norm.scale"] == (4,)


def test_a_window_that_depends_on_the_block_is_the_windows_number_there():
    x, heads = cases.normal(cases.TOKENS, cases.WIDTH), cases.BRANCHES["causal"]
    turning = dataclasses.replace(heads, window=ByBlock((2, None)))
    params = drawn(heads)
    found = jax.jit(lambda n: at_layer(turning, n)(params, x))
    of_window = {window: cases.jit(dataclasses.replace(heads, window=window))(params, x) for window in (2, None)}
    for block, window in ((1, 2), (2, None), (3, 2)):
        assert distance(found(block), of_window[window]) < EXACT


def test_scaled_rotary_frequencies_are_those_of_the_longer_context():
    """Frequencies from the angle at token 1; waves in the old context: 8192 f/2π."""
    x = jnp.zeros((2, 1, 16)).at[:, :, :8].set(1)
    frequency = lambda rotary: np.arccos(np.asarray(rotary(x)[1, 0, :8]))
    plain = frequency(Rotary(5e5))
    np.testing.assert_allclose(frequency(Rotary(5e5, Interpolated(4.0))), plain / 4, rtol=1e-6, atol=1e-8)
    scaled = frequency(Rotary(5e5, ByWavelength())) / plain
    waves = 8192 * plain / (2 * np.pi)
    assert (abs(scaled[waves > 4.1] - 1) < 1e-6).all()
    assert (abs(scaled[waves < 0.9] - 1 / 8) < 1e-2).all()


def test_attention_scores_with_rotary_depend_on_the_distance_alone():
    q, k = (jnp.broadcast_to(cases.normal(6, seed=seed), (9, 1, 6)) for seed in (1, 2))
    scores = jnp.einsum("thf,shf->ts", Rotary()(q), Rotary()(k))
    for offset in (-3, 0, 2):
        diagonal = np.diagonal(scores, offset)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-12)
    assert abs(scores[0, 1] - scores[0, 0]) > 1e-3


def test_rotary_keeps_lengths_and_the_first_token():
    x = cases.normal(7, 2, 6)
    turned = Rotary()(x)
    np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-12)
    np.testing.assert_array_equal(turned[0], x[0])


def test_activations_are_the_published_functions():
    u = np.linspace(-4, 4, 41)
    cdf = 0.5 * (1 + jax.scipy.special.erf(u / np.sqrt(2)))
    tanh = 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
    known = {"relu": np.maximum(u, 0), "gelu": u * cdf, "gelu_tanh": u * tanh, "silu": u / (1 + np.exp(-u))}
    known |= {
        "gelu_sigmoid": u / (1 + np.exp(-1.702 * u)),
        "tanh": np.tanh(u),
        "erf": jax.scipy.special.erf(u),
        "linear": u,
    }
    assert known.keys() == ACTIVATIONS.keys()
    for name, values in known.items():
        np.testing.assert_allclose(ACTIVATIONS[name](u), values, rtol=1e-12, atol=1e-14, err_msg=name)


def shapes(layer, width=8):
    """Shape of every array, by path."""
    params = layer.init(jax.random.key(0), width)
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
    return {name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def test_branches_have_the_weights_they_say():
    assert shapes(FeedForward(2.5, bias=False)) == {"up.kernel": (8, 20), "down.kernel": (20, 8)}
    assert shapes(FeedForward(2))["down.bias"] == (8,)
    assert shapes(GatedFeedForward()) == {"gate.kernel": (8, 21), "up.kernel": (8, 21), "down.kernel": (21, 8)}
    grouped = shapes(Attention(4, kv_heads=2))
    assert grouped == {"query.kernel": (8, 8), "key.kernel": (8, 4), "value.kernel": (8, 4), "out.kernel": (8, 8)}
    assert shapes(Attention(2, bias=True))["key.bias"] == (8,)


def test_biases_start_at_zero_and_gains_at_one():
    params = FeedForward().init(jax.random.key(0), 8)
    assert not params["up"].bias[...].any()
    norm = LayerNorm().init(None, 8)
    assert (norm.scale[...] == 1).all()
    assert not norm.bias[...].any()
    assert (RMSNorm().init(None, 8).scale[...] == 1).all()


# ---- gains --------------------------------------------------------------------------------------------------


@pytest.mark.promotes
def test_gains_multiply():
    x = cases.normal(3, 4)
    value = {"gain": jnp.arange(4.0)}
    np.testing.assert_array_equal(Identity()({}, x), x)
    np.testing.assert_array_equal(Zero()({}, x), 0 * x)
    np.testing.assert_array_equal(Gain(3.0)({}, x), 3 * x)
    np.testing.assert_array_equal(FeatureGain(3.0)(value, x), np.arange(4.0) * x)
    np.testing.assert_array_equal(ScalarGain(3.0)({"gain": jnp.array(2.0)}, x), 2 * x)
    np.testing.assert_array_equal(Complement("write", 3.0)(value, x), (1 - np.arange(4.0)) * x)
    np.testing.assert_array_equal(Shift()({"shift": jnp.array(2.0)}, x), x + 2)


def test_trained_gains_start_at_their_value():
    assert shapes(ScalarGain(0.5)) == {"gain": ()}
    np.testing.assert_array_equal(ScalarGain(0.5).init(None, 4)["gain"], 0.5)
    np.testing.assert_array_equal(FeatureGain(0.25).init(None, 4)["gain"], np.full(4, 0.25))
    assert jax.tree.leaves([layer.init(None, 4) for layer in (Identity(), Zero(), Gain(2.0))]) == []


# ---- tangents by our own rules ------------------------------------------------------------------------------


def plain_attention(causal, window=None, scale=None, softcap=None):
    """Attention as it is written in the paper, one head after the other, differentiated by JAX."""

    def head(q, k, v):
        scores = q @ k.T * (scale or q.shape[-1] ** -0.5)
        scores = softcap * jnp.tanh(scores / softcap) if softcap else scores
        scores = jnp.where(jnp.tri(*scores.shape, dtype=bool), scores, -jnp.inf) if causal else scores
        scores = jnp.where(~jnp.tri(*scores.shape, -window, dtype=bool), scores, -jnp.inf) if window else scores
        return jax.nn.softmax(scores) @ v

    def attention(q, k, v):
        k, v = (jnp.repeat(a, q.shape[1] // a.shape[1], axis=1) for a in (k, v))
        return jax.vmap(head, 1, 1)(q, k, v).reshape(len(q), -1)

    return attention


def masked_attention(seen, kept=1.0):
    """Attention to what is seen [T, S], a logit beside the scores of each head; `kept` [H, T, S] multiplies its probabilities."""

    def attention(q, k, v, sink):
        k, v = (jnp.repeat(a, q.shape[1] // a.shape[1], axis=1) for a in (k, v))
        weights = seen[None] * jnp.exp(jnp.einsum("thi,shi->hts", q, k) * q.shape[-1] ** -0.5)
        p = weights / (weights.sum(-1, keepdims=True) + jnp.exp(sink)[:, None, None])
        return jnp.einsum("hts,shi->thi", kept * p, v).reshape(len(q), -1)

    return attention


def plain_norm(centred):
    """A norm from `jnp.mean` and `jnp.var`, differentiated by JAX."""
    mean = lambda x: x.mean(-1, keepdims=True) if centred else 0.0
    return lambda x: (x - mean(x)) / jnp.sqrt(jnp.mean((x - mean(x)) ** 2, -1, keepdims=True) + 1e-3)


gelu = lambda u: u * jax.scipy.stats.norm.cdf(u)
HEADS = (cases.normal(5, 4, 3, seed=1), cases.normal(5, 2, 3, seed=2), cases.normal(5, 2, 3, seed=3))
OTHER = (HEADS[0], cases.normal(3, 2, 3, seed=4), cases.normal(3, 2, 6, seed=5))  # other tokens, wider values
SINKS = (*HEADS, cases.normal(4, seed=6))
BOTH_SIDES = 1.0 * (np.abs(np.subtract.outer(np.arange(5), np.arange(5))) < 2)
KEPT = 1.25 * (np.random.default_rng(0).random((4, 5, 5)) < 0.8)
RULES = {
    "sinks": (lambda q, k, v, a: attend(q, k, v, sink=a), masked_attention(np.tri(5)), SINKS),
    "sinks, both sides, dropped": (
        lambda q, k, v, a: attend(q, k, v, Mask(False, 2), sink=a, kept=KEPT),
        masked_attention(BOTH_SIDES, KEPT),
        SINKS,
    ),
    "causal": (lambda q, k, v: attend(q, k, v, Mask()), plain_attention(True), HEADS),
    "bidirectional": (lambda q, k, v: attend(q, k, v, Mask(causal=False)), plain_attention(False), HEADS),
    "window": (lambda q, k, v: attend(q, k, v, Mask(window=2), 0.3), plain_attention(True, 2, 0.3), HEADS),
    "capped": (lambda q, k, v: attend(q, k, v, softcap=0.7), plain_attention(True, softcap=0.7), HEADS),
    "other": (lambda q, k, v: attend(q, k, v, Mask(causal=False)), plain_attention(False), OTHER),
    "centred": (lambda x: standardized(x, 1e-3, True), plain_norm(True), HEADS[:1]),
    "not centred": (lambda x: standardized(x, 1e-3, False), plain_norm(False), HEADS[:1]),
    "gelu": (ACTIVATIONS["gelu"], gelu, HEADS[:1]),
    "affine": (
        affine,
        lambda x, w, b: x @ w + b[None],
        (cases.normal(5, 3), cases.normal(3, 4, seed=1), cases.normal(4, seed=2)),
    ),
}
over_rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def loss_of(function):
    """A scalar of the value whose derivative differs from entry to entry."""
    return lambda *xs: jnp.sum(jnp.sin(jnp.arange(1.0, 1 + (y := function(*xs)).size).reshape(y.shape) * y))


def assert_equal_trees(ours, theirs, close):
    for own, plain in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(own, plain, rtol=0, atol=close * abs(plain).max())


@over_rules
def test_a_rule_has_the_value_the_push_and_the_pull_of_the_plain_function(rule):
    ours, plain, xs = rule
    which = tuple(range(len(xs)))
    tangents = tuple(cases.normal(*x.shape, seed=9 + i) for i, x in enumerate(xs))

    @cases.jit
    def first_order(xs, tangents):
        return {
            "pushed": (jax.jvp(ours, xs, tangents), jax.jvp(plain, xs, tangents)),
            "linear": (jax.linearize(ours, *xs)[1](*tangents), jax.jvp(plain, xs, tangents)[1]),
            "pulled": (jax.grad(loss_of(ours), which)(*xs), jax.grad(loss_of(plain), which)(*xs)),
        }

    for own, other in first_order(xs, tangents).values():
        assert_equal_trees(own, other, EXACT)


@over_rules
def test_a_rule_has_the_second_derivatives_of_the_plain_function(rule):
    ours, plain, xs = rule
    along = tuple(cases.normal(*x.shape, seed=9 + i) for i, x in enumerate(xs))
    slope = lambda f: lambda *xs: jax.jvp(loss_of(f), xs, along)[1]
    forward_reverse = lambda f: jax.grad(slope(f), tuple(range(len(xs))))
    forward_forward = lambda f: lambda *xs: jax.jvp(slope(f), xs, along)[1]
    pulled = lambda f: lambda *xs: sum(jnp.sum(g**2) for g in jax.grad(loss_of(f), tuple(range(len(xs))))(*xs))
    reverse_reverse = lambda f: jax.grad(pulled(f), tuple(range(len(xs))))
    derivatives = (forward_reverse, forward_forward, reverse_reverse)
    second_order = cases.jit(lambda xs: [(derivative(ours)(*xs), derivative(plain)(*xs)) for derivative in derivatives])
    for own, other in second_order(xs):
        assert_equal_trees(own, other, 1e-10)


@over_rules
def test_a_rule_holds_under_vmap_scan_jit_and_remat(rule):
    ours, _, xs = rule
    stacked = tuple(np.stack([x, 2 * np.asarray(x)]) for x in xs)
    pull = cases.jit(jax.grad(loss_of(ours)))
    each = np.stack([pull(*(x[i] for x in stacked)) for i in range(2)])
    scanned = jax.grad(lambda s: jax.lax.scan(lambda c, x: (c + loss_of(ours)(*x), None), 0.0, (s, *stacked[1:]))[0])
    found = (
        jax.jit(jax.vmap(jax.grad(loss_of(ours))))(*stacked),
        jax.jit(scanned)(stacked[0]),
        jax.jit(jax.vmap(jax.grad(jax.checkpoint(loss_of(ours)))))(*stacked),
    )
    for grads in found:
        assert_equal_trees(grads, each, EXACT)


@pytest.mark.promotes
@pytest.mark.parametrize("norm", [LayerNorm(), RMSNorm()], ids=repr)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_a_norm_is_flaxs(norm, dtype):
    params = jax.tree.map(lambda a: a.astype(dtype), drawn(norm))
    x = 3 + cases.normal(5, cases.WIDTH).astype(dtype)
    ours, theirs = norm(params, x), params(x)
    assert ours.dtype == theirs.dtype
    close = 1e-2 if dtype == jnp.bfloat16 else 8 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=close, atol=close)


# ---- descriptions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [*cases.BRANCHES.values(), *cases.NORMS.values(), Gain(2.0)], ids=repr)
def test_a_layer_is_a_value_whose_repr_rebuilds_it(layer):
    names = {**vars(layers), **vars(norms), **vars(branches), **vars(attention)}
    assert eval(repr(layer), names) == layer
    assert hash(eval(repr(layer), names)) == hash(layer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attention(0), "heads is 0: at least 1 is needed"),
        (lambda: Attention(4, window=0), "window is 0: a token sees at least 1, itself"),
        (lambda: CrossAttention(4, window=2), "cross-attention sees all of its memory: leave out its window of 2"),
        (lambda: Attention(4, kv_heads=3), "kv_heads = 3 must divide heads = 4"),
        (lambda: Attention(3).init(None, 8), "width = 8 is not a multiple of heads = 3: change one of them"),
        (lambda: Attention(2, rotary=Rotary()).init(None, 6), "rotary positions need an even width a head, not 6/2"),
        (lambda: FeedForward(activation="gelo"), "no activation 'gelo': did you mean 'gelu'"),
        (lambda: GatedFeedForward(activation="sliu"), "no activation 'sliu': did you mean 'silu'"),
    ],
)
def test_wrong_layers_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")) as error:
        make()
    assert "\n" not in str(error.value)


# ---- which keys are seen ------------------------------------------------------------------------------------


def test_the_first_tokens_of_a_text_are_seen_beyond_the_window():
    """Of the text that a token is of, and in the sight of its mask."""
    texts = np.array([-1, 0, 0, 0, 0, 1, 1, 1, 1])
    place = np.array([0, 0, 1, 2, 3, 0, 1, 2, 3])
    behind = np.subtract.outer(np.arange(9), np.arange(9))
    expected = (behind >= 0) & ((behind < 2) | (place < 1)) & (texts[:, None] == texts)
    np.testing.assert_array_equal(Mask(True, 2, 1, texts).seen((9, 9)), expected)
    both = (np.abs(behind) < 2) | (np.arange(9) < 3)
    np.testing.assert_array_equal(Mask(False, 2, 3).seen((9, 9)), both)


def test_a_sink_takes_what_it_takes_and_one_far_below_nothing():
    q, k, v = HEADS
    everything = np.asarray(attend(q, k, v))
    np.testing.assert_allclose(attend(q, k, v, sink=np.full(4, -1e3)), everything, rtol=1e-12, atol=1e-12)
    scores = np.asarray(jnp.einsum("thi,shi->hts", q, jnp.repeat(k, 2, 1)) * 3**-0.5)
    level = np.log(np.exp(scores[:, 0, 0]))  # as much as the only key of the first token
    np.testing.assert_allclose(attend(q, k, v, sink=level)[0], everything[0] / 2, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 2}, "first is 2: without a window all tokens are seen"),
        ({"first": -1, "window": 3}, "first is -1: at least 0 is needed"),
        ({"bias": ("query", "values")}, r"no matrix, whose bias is asked for: 'values': did you mean 'value'"),
    ],
)
def test_what_attention_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Attention(2, **options).init(jax.random.key(0), 8)


def test_biases_are_those_of_the_matrices_that_are_named():
    params = Attention(2, bias=("query", "value")).init(jax.random.key(0), 8)
    assert [name for name, layer in params.items() if layer.bias is not None] == ["query", "value"]
