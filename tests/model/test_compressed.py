"""Compressed attention: what a token reads, written out token by token; texts padded and packed; what is refused.

Axes: 7 tokens, 8 features; heads of 6, the last 4 of them turned.
"""

from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import streams

from gradflow.instruments.forward import attention
from gradflow.model.branches.compressed import CompressedAttention, Compression, Index
from gradflow.model.branches.entries import windows
from gradflow.model.branches.experts import Experts, HashRouter
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.transformer import Transformer, staged
from gradflow.model.wirings.catalogue import placement

TOKENS, WIDTH = 7, 8
SIZES = {"heads": 4, "head": 6, "query_rank": 5, "rotary_head": 4, "groups": 2, "group_rank": 3, "window": 2}
KINDS = {
    "near": None,
    "heavy": Compression(3),
    "sparse": Compression(2, 2, Index(3, 4, 1)),
    "all chosen": Compression(2, 2, Index(1, 4, 9)),
    "longer than the text": Compression(8),
}
FURTHER = [kind for kind in KINDS if kind != "sparse"]
over_kinds = pytest.mark.parametrize(
    "kind", ["sparse", *(pytest.param(kind, marks=pytest.mark.further) for kind in FURTHER)]
)


@cache
def made(kind: str):
    """The branch, and parameters that are far from their start."""
    layer = CompressedAttention(**SIZES, compression=KINDS[kind])
    start = cases.float64(cases.jit(lambda key: layer.init(key, WIDTH))(jax.random.key(0)))
    return layer, jax.tree.map(lambda a: a + 0.5 * cases.normal(*a.shape), start)


def rms(x, gain=1.0):
    return gain * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def turned(u, position):
    """The last 4 features of one head, as two complex numbers."""
    pairs = (u[2::2] + 1j * u[3::2]) * np.exp(1j * position * 10_000.0 ** (-np.arange(2) / 2))
    return np.concatenate([u[:2], np.stack([pairs.real, pairs.imag], -1).ravel()])


def entry(i: int, size: int, series: int, values, scores, place):
    """Entry i, feature by feature, from the tokens of its window and those before it."""
    width = values.shape[1] // series
    found = np.zeros(width)
    for feature in range(width):
        weights, weighed = [], []
        for back in range(series):
            for j in range(size):
                token, column = (i - back) * size + j, (series - 1 - back) * width + feature
                if token >= 0:
                    weights.append(np.exp(scores[token, column] + place[j, column]))
                    weighed.append(values[token, column])
        found[feature] = np.dot(weights, weighed) / np.sum(weights)
    return found


def slowly(layer, params, x):
    """The output, token by token and head by head."""
    w = {name: np.asarray(own.kernel[...]) for name, own in params.items() if hasattr(own, "kernel")}
    p = {
        name: np.asarray(own)
        for name, own in params.items()
        if not hasattr(own, "kernel") and not name.endswith("norm")
    }
    gain = lambda name: np.asarray(params[name].scale[...])
    x, compression, out = np.asarray(x), layer.compression, []
    latent = rms(x @ w["query_down"], gain("query_latent"))
    keys, far, far_index = rms(x @ w["key"], gain("key_norm")), [], []
    if compression:
        for i in range(len(x) // compression.size):
            own = (i, compression.size, compression.windows)
            one = entry(*own, x @ w["entry"], x @ w["entry_gate"], p["entry_place"])
            far.append(turned(rms(one, gain("entry_norm")), i * compression.size))
            if compression.index:
                one = entry(*own, x @ w["index"], x @ w["index_gate"], p["index_place"])
                index_features = rms(one, gain("index_norm"))
                far_index.append(index_turned(index_features, i * compression.size))
    for t in range(len(x)):
        read = [turned(keys[s], s) for s in range(max(0, t - 1), t + 1)]
        whole = [i for i in range(len(far)) if (i + 1) * compression.size - 1 <= t]
        if compression and compression.index:
            index = compression.index
            queries = (latent[t] @ w["index_query"]).reshape(index.heads, -1)
            met = [[max(0.0, index_turned(q, t) @ far_index[i]) for q in queries] for i in whole]
            order = np.argsort([-np.dot(one, x[t] @ w["index_weight"]) for one in met])
            whole = [whole[place] for place in order[: index.active]]
        read += [far[i] for i in whole]
        heads = []
        for h, q in enumerate((latent[t] @ w["query"]).reshape(layer.heads, -1)):
            scores = np.exp([turned(rms(q), t) @ key / np.sqrt(6) for key in read])
            weights = scores / (scores.sum() + np.exp(p["sink"][h]))
            heads.append(turned(weights @ np.array(read), -t))
        groups = np.concatenate(heads).reshape(layer.groups, -1)
        down = w["out_down"].reshape(-1, layer.groups, layer.group_rank)
        together = [group @ down[:, g] for g, group in enumerate(groups)]
        out.append(np.concatenate(together) @ w["out"])
    return np.array(out)


def index_turned(u, position):
    """All 4 features of an index's head."""
    return turned(np.concatenate([np.zeros(2), u]), position)[2:]


@over_kinds
def test_what_is_read_is_that_written_out_token_by_token(kind):
    layer, params = made(kind)
    x = cases.normal(TOKENS, WIDTH)
    np.testing.assert_allclose(cases.jit(layer)(params, x), slowly(layer, params, x), rtol=1e-10, atol=1e-12)


@over_kinds
def test_a_token_reads_the_past_alone(kind):
    layer, params = made(kind)
    J = np.asarray(cases.jit(jax.jacrev(layer, 1))(params, cases.normal(TOKENS, WIDTH)))
    size = np.abs(J).max(axis=(1, 3))
    assert not size[np.triu_indices(TOKENS, 1)].any()
    reads_first = size[:, 0] > 0
    assert reads_first.all() == (kind in ("heavy", "all chosen"))


@pytest.mark.parametrize("kind", [pytest.param("heavy", marks=pytest.mark.further), "sparse"])
def test_texts_are_read_the_same_alone_packed_and_padded_on_either_side(kind):
    layer, params = made(kind)
    first, second = cases.normal(TOKENS, WIDTH), cases.normal(4, WIDTH, seed=1)
    noise = cases.normal(3, WIDTH, seed=2)
    alone = [cases.jit(layer)(params, x) for x in (first, second)]
    of = lambda texts: {**params, "texts": jnp.asarray(texts)}
    packed = cases.jit(layer)(
        of([-1] * 3 + [0] * 7 + [1] * 4 + [-1] * 3), jnp.concatenate([noise, first, second, noise])
    )
    np.testing.assert_allclose(packed[3:-3], jnp.concatenate(alone), rtol=1e-10, atol=1e-12)
    assert np.isfinite(packed).all()


def test_what_is_read_of_its_heads_is_that_of_the_text_without_padding():
    layer, params = made("sparse")
    x, noise = cases.normal(TOKENS, WIDTH), cases.normal(3, WIDTH, seed=2)
    texts = jnp.asarray([-1] * 3 + [0] * TOKENS)
    heads = lambda params, x, texts: attention.read(layer.scored(params, x), texts)
    alone = cases.jit(heads)(params, x, jnp.zeros(TOKENS, int))
    padded = cases.jit(heads)({**params, "texts": texts}, jnp.concatenate([noise, x]), texts)
    for name, values in alone.items():
        np.testing.assert_allclose(padded[name], values, rtol=1e-10, err_msg=name)


def test_windows_are_counted_from_the_first_token_of_a_text():
    texts = jnp.asarray([-1, 0, 0, 0, 0, 0, 1, 1])
    own = windows(8, 2, texts)
    np.testing.assert_array_equal(own.ends, [2, 4, 7, 8])
    np.testing.assert_array_equal(own.starts[:3], [1, 3, 6])
    np.testing.assert_array_equal(np.asarray(own.seen).sum(0), [4, 2, 1, 0])


def test_no_gradient_goes_through_the_choice():
    layer, params = made("sparse")
    grads = cases.jit(jax.grad(lambda p, x: jnp.sum(layer(p, x) ** 2)))(params, cases.normal(TOKENS, WIDTH))
    none = {name for name, own in grads.items() if not any(np.any(leaf) for leaf in jax.tree.leaves(own))}
    assert none == {"index", "index_gate", "index_place", "index_norm", "index_query", "index_weight", "query_norm"}


def of_hashed_experts() -> Transformer:
    """A block of compressed attention and of experts that tokens choose."""
    experts = Experts(HashRouter(5, 2, scale=1.5, vocabulary=cases.VOCABULARY), ratio=1)
    branches = {"attention": made("sparse")[0], "experts": experts}
    return Transformer(staged(placement("pre"), branches, 1), WIDTH, Embedding(cases.VOCABULARY, None))


def test_a_token_has_the_same_experts_wherever_it_stands():
    router = HashRouter(5, 2, scale=1.5, vocabulary=4)
    table = cases.float64(router.init(jax.random.key(0)))["table"]
    np.testing.assert_array_equal(table.sum(1), 2)
    logits, tokens = cases.normal(6, 5), jnp.asarray([3, 1, 3, 0, 2, 1])
    gates = np.asarray(router(logits, {"table": table, "tokens": tokens}))
    np.testing.assert_array_equal(gates > 0, np.asarray(table)[tokens] > 0)
    scores = np.sqrt(np.log1p(np.exp(logits))) * np.asarray(table)[tokens]
    np.testing.assert_allclose(gates, 1.5 * scores / scores.sum(1, keepdims=True), rtol=1e-10)
    with pytest.raises(ValueError, match="HashRouter chooses by tokens, which a Transformer gives its branches"):
        router(logits, {"table": table})


@pytest.mark.long
def test_the_identities_hold_for_compressed_attention_and_hashed_experts():
    model = of_hashed_experts()
    pairs = np.random.default_rng(0).integers(0, cases.VOCABULARY, (2, 1, TOKENS))
    streams.assert_identities(model, cases.drawn(model), {"inputs": pairs[0], "targets": pairs[1]})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"groups": 5}, "groups = 5 must divide heads · head = 24"),
        ({"rotary_head": 3}, "rotary_head is 3: an even number, at most 6, is expected"),
        (
            {"rotary_head": 6, "compression": Compression(2, 2, Index(3, 4))},
            "rotary_head is 6: an even number, at most 4",
        ),
        ({"window": 0}, "window is 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        CompressedAttention(**{**SIZES, **wrong})


@pytest.mark.parametrize("make", [lambda: Compression(0), lambda: Compression(2, 0), lambda: Index(active=0)])
def test_a_compression_of_nothing_is_refused(make):
    with pytest.raises(ValueError, match="is 0"):
        make()
