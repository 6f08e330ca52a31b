"""What forward passes show, against loops that are written out: attention by head, massive activations, layers removed.

Axes: 2 examples, 5 tokens, 8 features; S sublayers, H heads.
"""

import dataclasses
from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import gradflow as gf
from gradflow.instruments.forward import activations, attention, removal
from gradflow.instruments.readings import READINGS
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward
from gradflow.model.branches.latent import LatentAttention
from gradflow.model.branches.rotary import Rotary
from gradflow.model.equation.sublayer import walk
from gradflow.model.layers.attention import Mask, scored
from gradflow.model.layers.norms import RMSNorm

NORMED = {"query_norm": RMSNorm(), "key_norm": RMSNorm()}
KINDS = {
    "grouped": Attention(4, kv_heads=2, causal=False, rotary=Rotary(), bias=True),
    "windowed": Attention(2, head=6, window=3, scale=0.7, softcap=0.8, rotary=Rotary(), **NORMED),
    "latent": LatentAttention(2, query_rank=6, key_value_rank=4, head=4, rotary_head=2, value_head=3),
}
X = cases.normal(cases.TOKENS, cases.WIDTH)


@cache
def scores_of(name: str) -> dict:
    """What one attention reads with, what it returns, and its queries, keys and values."""
    branch = KINDS[name]
    noise = np.random.default_rng(1)
    weights = jax.tree.map(
        lambda a: a + 0.3 * noise.normal(size=a.shape), cases.float64(branch.init(jax.random.key(0), cases.WIDTH))
    )

    def everything(params, x):
        return {
            "scored": branch.scored(params, x),
            "made of": branch.queries_keys_values(params, x),
            "output": branch(params, x),
            "out": params["out"](jnp.eye(params["out"].kernel.shape[0], dtype=x.dtype)),
            "read": attention.read(branch.scored(params, x)),
            "zero": params["out"](jnp.zeros((1, params["out"].kernel.shape[0]))),
        }

    return jax.device_get(cases.jit(everything)(weights, X))


def seen_by(branch) -> np.ndarray:
    """Which keys a query sees [T, S], by comparing positions."""
    behind = np.arange(cases.TOKENS)[:, None] - np.arange(cases.TOKENS)[None]
    if not branch.causal:
        return np.ones_like(behind, bool)
    return (behind >= 0) & (behind < (branch.mask.window or cases.TOKENS))


def softmax_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and scores [H, T, S] of one attention, head by head."""
    branch, (q, k, _) = KINDS[name], scores_of(name)["made of"]
    scores = []
    for head in range(branch.heads):
        scores.append(q[:, head] @ k[:, head * k.shape[1] // branch.heads].T * (branch.scale or q.shape[-1] ** -0.5))
    scores = np.array(scores)
    softcap = getattr(branch, "softcap", None)
    capped = softcap * np.tanh(scores / softcap) if softcap else scores
    weights = np.exp(capped) * seen_by(branch)
    return weights / weights.sum(-1, keepdims=True), scores


@pytest.mark.parametrize("name", KINDS)
def test_the_probabilities_are_a_softmax_written_out_and_weigh_the_values(name):
    found, (p, scores) = scores_of(name), softmax_of(name)
    np.testing.assert_allclose(found["scored"].probabilities, p, rtol=1e-12)
    np.testing.assert_allclose(found["scored"].scores, scores, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(found["scored"].seen, seen_by(KINDS[name]))
    values = found["made of"][2]
    groups = len(p) // values.shape[1]
    read = np.concatenate([p[head] @ values[:, head // groups] for head in range(len(p))], -1)
    matrix = found["out"] - found["zero"]
    np.testing.assert_allclose(read @ matrix + found["zero"], found["output"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_entropy_first_token_and_largest_logit_are_those_of_the_softmax(name):
    found, (p, scores), seen = scores_of(name)["read"], softmax_of(name), seen_by(KINDS[name])
    keys = seen.sum(-1)
    for head in range(len(p)):
        entropies = np.array([-sum(w * np.log(w) for w in row if w > 0) for row in p[head]])
        assert found["attention_entropy"][head] == pytest.approx(entropies.mean(), rel=1e-12)
        shares = [entropy / np.log(n) for entropy, n in zip(entropies, keys, strict=True) if n > 1]
        assert found["attention_entropy_share"][head] == pytest.approx(np.mean(shares), rel=1e-12)
        assert found["attention_first_token"][head] == pytest.approx(p[head, :, 0].mean(), rel=1e-12)
        assert found["attention_largest_logit"][head] == pytest.approx(scores[head][seen].max(), rel=1e-12)


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 2), (True, 1)])
def test_uniform_attention_has_the_log_of_what_is_seen_as_its_entropy(causal, window):
    q = jnp.zeros((cases.TOKENS, 2, 4))
    found = jax.device_get(attention.read(scored(q, q, Mask(causal, window))))
    keys = np.minimum(np.arange(1, 6), window or 5) if causal else np.full(5, 5)
    np.testing.assert_allclose(found["attention_entropy"], np.log(keys).mean(), rtol=1e-12)
    np.testing.assert_allclose(found["attention_entropy_share"], 1.0 if keys.max() > 1 else np.nan, rtol=1e-12)
    first = [1 / n if not window or t < window else 0 for t, n in enumerate(keys)]
    np.testing.assert_allclose(found["attention_first_token"], np.mean(first), rtol=1e-12)
    np.testing.assert_array_equal(found["attention_largest_logit"], 0)


# ---- of models ----------------------------------------------------------------------------------------------


@cache
def read(wiring: str) -> dict:
    """A model of two blocks with two kinds of attention, of 4 and 2 heads, and its three readings."""
    branches = {"wide": KINDS["grouped"], "narrow": Attention(2), "mlp": FeedForward(2)}
    model = cases.model(cases.placement(wiring), 2, branches)
    params, batch = cases.drawn(model), cases.batch()

    def everything(params, batch):
        return {name: READINGS[name](model, params, batch) for name in ("attention", "activations", "layer_removal")}

    found = jax.device_get(cases.jit(everything)(params, batch))
    return {"model": model, "params": params, "batch": batch, **found}


@cache
def streams(wiring: str) -> np.ndarray:
    """The streams [B, S + 1, T, d], by loops."""
    own = read(wiring)
    run = cases.jit(lambda p, tokens: reference.stream(own["model"], p, reference.embedded(own["model"], p, tokens)))
    return np.array([np.stack(jax.device_get(run(own["params"], tokens))) for tokens in own["batch"]["inputs"]])


def test_a_models_heads_are_those_of_its_sublayers_and_nan_elsewhere():
    own, found = read("post"), read("post")["attention"]
    assert {values.shape for values in found.values()} == {(6, 4)}
    for name, values in found.items():
        assert np.isfinite(values[[0, 3]]).all(), name
        assert np.isfinite(values[[1, 4], :2]).all(), name
        assert np.isnan(values[[1, 4], 2:]).all(), name
        assert np.isnan(values[[2, 5]]).all(), name
    branch, parts = own["model"].stack.sublayers[3].branch, own["params"]["stack"][0]["wide"]["branch"]
    upper = jax.tree.map(lambda a: a[1], parts)
    one = cases.jit(lambda p, x: attention.read(branch.scored(p, x)))
    of_examples = [jax.device_get(one(upper, x[3])) for x in streams("post")]  # a post-norm branch reads the stream
    for name in attention.AVERAGED:
        np.testing.assert_allclose(found[name][3], np.mean([of[name] for of in of_examples], 0), rtol=1e-9)
    largest = np.max([of[attention.LARGEST] for of in of_examples], 0)
    np.testing.assert_allclose(found[attention.LARGEST][3], largest, rtol=1e-9)


def test_massive_activations_are_the_largest_of_the_stream_over_its_median():
    found, size = read("pre")["activations"], abs(streams("pre"))
    ratios = size / np.median(size, axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(found["largest_activation"], size.max((0, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(found["massive_activation"], ratios.max((0, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(found["massive_activation_by_token"], ratios.max((0, 3)), rtol=1e-10)
    np.testing.assert_allclose(found["massive_activation_by_feature"], ratios.max((0, 2)), rtol=1e-10)
    for by, place in (
        ("massive_activation_by_token", "massive_token"),
        ("massive_activation_by_feature", "massive_feature"),
    ):
        np.testing.assert_array_equal(found[by].max(-1), found["massive_activation"])
        np.testing.assert_array_equal(found[by].argmax(-1), found[place])


def test_one_large_entry_is_found_at_its_token_and_feature_in_whichever_lane():
    lanes = np.array(cases.normal(3, cases.TOKENS, cases.WIDTH))
    lanes[2] = 0  # an empty lane has no part in the median
    lanes[1, 3, 6] = -500
    found = jax.device_get(activations._of_stream(jnp.asarray(lanes)))
    median = np.median(abs(lanes[:2]))
    assert found["largest_activation"] == 500
    assert found["massive_activation_by_token"].argmax() == 3
    assert found["massive_activation_by_feature"].argmax() == 6
    assert found["massive_activation_by_token"].max() == pytest.approx(500 / median, rel=1e-12)


def test_a_stream_that_is_not_finite_has_no_place():
    assert activations._place(jnp.array([[1.0, jnp.nan], [2.0, 1.0]])).tolist() == [-1, 0]


# ---- removal ------------------------------------------------------------------------------------------------


def losses_without(model, params, batch, removed: set[int]) -> np.ndarray:
    """The loss of each example where the sublayers at these positions are `N_out(A x)`, one after the other."""

    def example(inputs, targets):
        x = model.enter(params, inputs)
        for position in range(model.stack.size):
            parts = model.stack.parts_at(params["stack"], position)
            y = parts["norm_out"](parts["skip"](x))
            x = y if position in removed else walk_one(model, params, position, x)
        return model.loss(params, model.leave(params, x), targets)

    return np.array(jax.device_get(cases.jit(jax.vmap(example))(batch["inputs"], batch["targets"])))


def walk_one(model, params, position: int, x):
    """One sublayer, by the package's own parts."""
    parts = model.stack.parts_at(params["stack"], position)
    term = parts["write"](parts["norm_branch"](parts["branch"](parts["norm_in"](parts["read"](x)))))
    return parts["norm_out"](parts["skip"](x) + term)


@pytest.mark.parametrize("wiring", ["pre", pytest.param("deepnorm", marks=pytest.mark.further)])
def test_a_layer_that_is_removed_leaves_its_skip_and_the_norm_on_the_path(wiring):
    own = read(wiring)
    model, params, batch, found = own["model"], own["params"], own["batch"], own["layer_removal"]
    whole = losses_without(model, params, batch, set())
    for position, removed in ((4, {4}), (0, {0})):
        growth = losses_without(model, params, batch, removed) - whole
        assert found["sublayer_removal"][position] == pytest.approx(growth.mean(), rel=1e-9)
        assert found["sublayer_removal_sem"][position] == pytest.approx(growth.std(ddof=1) / 2**0.5, rel=1e-9)
    growth = losses_without(model, params, batch, {3, 4, 5}) - whole
    assert found["block_removal"][1] == pytest.approx(growth.mean(), rel=1e-9)
    assert found["block_removal_sem"][1] == pytest.approx(growth.std(ddof=1) / 2**0.5, rel=1e-9)


def test_a_pre_norm_stack_without_a_block_is_the_stack_that_never_had_it():
    own = read("pre")
    model, params, batch = own["model"], own["params"], own["batch"]
    loss = cases.jit(lambda p, b, m: removal.mean_and_error(m, _losses(m, p, b), b)[0], static_argnums=2)
    small = dataclasses.replace(model, stack=model.stack.at_depth(1))
    whole = loss(params, batch, model)
    for block in range(2):
        others = jax.tree.map(lambda a, block=block: a[1 - block : 2 - block], params["stack"])
        without = loss({**params, "stack": others}, batch, small)
        assert own["layer_removal"]["block_removal"][block] == pytest.approx(float(without - whole), rel=1e-9)


def _losses(model, params, batch):
    """The losses of the examples."""

    def example(inputs, targets):
        top, _ = walk(model.stack, params["stack"], model.enter(params, inputs))
        return model.loss(params, model.leave(params, top), targets)

    return jax.vmap(example)(batch["inputs"], batch["targets"])


@pytest.mark.parametrize(
    "wiring", [pytest.param(name, marks=pytest.mark.further) for name in ("mhc", "b2t", "parallel")]
)
def test_on_lanes_a_removed_layer_is_one_whose_output_matrix_is_zero(wiring):
    model = cases.model(cases.ALL[wiring](RMSNorm()), 2, cases.TWO)
    params, batch = cases.drawn(model), cases.batch()
    found = jax.device_get(cases.jit(lambda p, b: removal.removal(model, p, b))(params, batch))
    run = cases.jit(lambda p: _losses(model, p, batch).mean())
    for position, (kind, matrix, block) in enumerate(
        (k, m, b) for b in (0, 1) for k, m in (("causal", "out"), ("gated", "down"))
    ):
        branch = params["stack"][0][kind]["branch"]
        silent = jax.tree.map(lambda a, block=block: a.at[block].set(0), branch[matrix])
        stack = ({**params["stack"][0], kind: {**params["stack"][0][kind], "branch": {**branch, matrix: silent}}},)
        growth = run({**params, "stack": stack}) - run(params)
        assert found["sublayer_removal"][position] == pytest.approx(float(growth), rel=1e-9, abs=1e-12)


# ---- sides, labels ------------------------------------------------------------------------------------------


@pytest.mark.long
def test_both_sides_of_an_encoder_and_decoder_have_their_heads_and_layers():
    original = gf.architecture("transformer-base").scaled(depth=1, width=8, heads=2, vocabulary=cases.VOCABULARY)
    draw = np.random.default_rng(0)
    tokens = {n: jnp.asarray(draw.integers(0, cases.VOCABULARY, (2, n))) for n in (4, 5)}
    batch = {"inputs": {"source": tokens[4], "target": tokens[5]}, "targets": tokens[5]}
    names = ("economy", "attention", "activations", "layer_removal")
    tree = gf.measure(original.model(), batch, seeds=1, quantities=names)
    encoder, decoder = tree["encoder"], tree["decoder"]
    assert decoder["kind"].values.tolist() == ["attention", "cross", "mlp"]
    assert np.isfinite(decoder["attention_entropy"][0, :2]).all()
    assert (decoder["attention_entropy"][0, 1] <= np.log(4)).all()
    assert encoder["massive_activation_by_token"].dims == ("seed", "depth", "token")
    assert encoder.sizes["token"] == 4
    assert decoder.sizes["token"] == 5
    for side in (encoder, decoder):
        assert side["block"].values.tolist() == [1]
        assert np.isfinite(side["sublayer_removal"]).all()
        assert side["attention_entropy"].dims == ("seed", "sublayer", "head")
        assert side["stream_gradient"].sizes["depth"] == side.sizes["sublayer"] + 1
