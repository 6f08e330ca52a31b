"""Delta nets, attention behind a gate and to chosen tokens, memories of n-grams: against loops, alone, padded and packed.

Axes: 7 tokens, 8 features; two lanes.
"""

from dataclasses import replace
from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.instruments.backward import gradients
from gradflow.instruments.jacobians import jacobians, spectrum
from gradflow.model.branches.delta_net import GatedDeltaNet
from gradflow.model.branches.experts import SoftmaxRouter
from gradflow.model.branches.gated_attention import GatedAttention, IndexedAttention
from gradflow.model.branches.gated_experts import GatedShareExperts
from gradflow.model.branches.ngram_memory import NGramMemory
from gradflow.model.branches.rotary import Rotary
from gradflow.model.equation.sublayer import residual, walk
from gradflow.model.inputs.batch import checked
from gradflow.model.inputs.ngrams import NGrams
from gradflow.model.numerics.settings import usual_settings
from gradflow.model.stacks.transformer import transformer
from gradflow.model.zoo.hybrids import FULL, LINEAR, Qwen3Next, Qwen4
from gradflow.theory.predict import predict

T, WIDTH, EXACT = 7, 8, 1e-12
NET = GatedDeltaNet(4, 2, 3, 5, 3)
INDEXED = IndexedAttention(2, 1, rotary=Rotary(features=2), index_heads=5, index_head=4, block=2, blocks=1)
GRAMS = NGrams(11, 3, 2, 7, end=4, layer=1, multiple=4)
SMALL = {"depth": 3, "width": WIDTH, "heads": 2, "hidden": 6, "vocabulary": 11, "context": 32, "shared_hidden": 5}
SMALL |= {
    "linear_heads": 2,
    "linear_key_heads": 1,
    "linear_head": 3,
    "linear_value_head": 4,
    "router": SoftmaxRouter(3, 2),
}
SMALL |= {"turn": (LINEAR, FULL, LINEAR)}
OURS = Qwen4(
    **SMALL,
    lanes=2,
    rank=3,
    index_heads=3,
    index_head=4,
    index_block=2,
    index_blocks=1,
    memories=(1,),
    memory_features=12,
    ngrams=replace(GRAMS, layer=0),
)


def drawn(layer, seed: int = 0):
    """Its parameters in float64, moved by 0.3 · normal."""
    noise = np.random.default_rng(seed)
    return jax.tree.map(
        lambda a: jnp.asarray(np.asarray(a) + 0.3 * noise.normal(size=a.shape)), layer.init(jax.random.key(seed), WIDTH)
    )


# ---- n-grams ------------------------------------------------------------------------------------------------


def rows_slowly(grams: NGrams, tokens) -> np.ndarray:
    """The rows, in whole numbers of any length."""
    found = []
    for t in range(len(tokens)):
        text = [int(tokens[t])]
        for before in tokens[:t][::-1]:
            text.append(grams.end if grams.end == before or (len(text) > 1 and text[-1] == grams.end) else int(before))
        text += [grams.end] * grams.longest
        hashed, below = text[0] * grams.multipliers[0], 0
        found.append([])
        for back in range(1, grams.longest):
            hashed ^= text[back] * grams.multipliers[back]
            for size in grams.sizes[(back - 1) * grams.heads : back * grams.heads]:
                found[-1].append(below + hashed % size)
                below += size
    return np.array(found)


@pytest.mark.parametrize("grams", [GRAMS, NGrams(248_320, 4, 2, 20_000_000, end=4)], ids=["small", "large"])
def test_rows_of_n_grams_are_those_in_whole_numbers_of_any_length(grams):
    tokens = np.random.default_rng(0).integers(0, grams.vocabulary, 20).astype(np.int32)
    tokens[[5, 6, 12]] = grams.end
    np.testing.assert_array_equal(cases.jit(grams)(tokens), rows_slowly(grams, tokens))
    assert len(set(grams.sizes)) == grams.total
    assert all(size >= grams.least for size in grams.sizes)
    assert grams.rows % grams.multiple == 0


def test_layers_have_tables_of_different_primes_and_other_multipliers():
    below = replace(GRAMS, layer=0)
    assert not set(below.sizes) & set(GRAMS.sizes)
    assert not set(below.multipliers) & set(GRAMS.multipliers)


# ---- branches against loops ---------------------------------------------------------------------------------


def convolved_slowly(x, kernel):
    """`Σ_j w_{K−1−j} x_{t−j}`, then SiLU."""
    y = np.zeros_like(x)
    for t in range(len(x)):
        for j in range(min(t + 1, len(kernel))):
            y[t] += kernel[len(kernel) - 1 - j, 0] * x[t - j]
    return y / (1 + np.exp(-y))


def test_a_delta_net_is_its_recurrence_with_the_matrices_written_out():
    params, x = drawn(NET), np.asarray(cases.normal(T, WIDTH))
    p = jax.tree.map(np.asarray, params)
    maps = {name: x @ p[name].kernel[...] for name in ("query", "key", "value", "gate", "keep", "write")}
    q, k, v = (
        convolved_slowly(maps[name], p["convolution"][name]).reshape(T, heads, -1)
        for name, heads in (("query", 2), ("key", 2), ("value", 4))
    )
    unit = lambda u: u / np.sqrt((u**2).sum() + 1e-6)
    a = np.exp(-np.exp(p["log_rate"]) * np.log1p(np.exp(maps["keep"] + p["step"])))
    b = 1 / (1 + np.exp(-maps["write"]))
    read = np.zeros((T, 4, 5))
    for head in range(4):
        state = np.zeros((5, 3))
        for t in range(T):
            key = unit(k[t, head // 2])
            state = a[t, head] * state @ (np.eye(3) - b[t, head] * np.outer(key, key))
            state += b[t, head] * np.outer(v[t, head], key)
            read[t, head] = state @ unit(q[t, head // 2]) / 3**0.5
    normed = p["read_norm"].scale[...] * read / np.sqrt((read**2).mean(-1, keepdims=True) + 1e-6)
    gate = maps["gate"] / (1 + np.exp(-maps["gate"]))
    expected = (normed.reshape(T, -1) * gate) @ p["out"].kernel[...]
    np.testing.assert_allclose(cases.jit(NET)(params, x), expected, rtol=1e-10, atol=1e-12)


def chosen_slowly(layer, params, x) -> np.ndarray:
    """Which tokens each query sees, block by block."""
    q, k = (np.asarray(a) for a in layer.indexed(params, x))
    seen = np.zeros((len(x), len(x)), bool)
    for t in range(len(x)):
        blocks = (t + 1) // layer.block
        scores = [np.maximum(q[t] @ k[i * layer.block], 0).sum() for i in range(blocks)]
        for i in np.argsort(scores)[::-1][: layer.blocks]:
            seen[t, i * layer.block : (i + 1) * layer.block] = True
        seen[t, blocks * layer.block : t + 1] = True
    return seen


def test_the_indexer_chooses_the_blocks_of_the_highest_scores_and_the_rest_has_no_weight():
    params, x = drawn(INDEXED), cases.normal(T, WIDTH)
    expected = chosen_slowly(INDEXED, params, x)
    assert expected.sum() < T * (T + 1) / 2
    found = cases.jit(INDEXED.scored)(params, x)
    np.testing.assert_array_equal(found.seen, expected)
    assert (np.asarray(found.probabilities)[:, ~expected] == 0).all()
    np.testing.assert_allclose(found.probabilities.sum(-1), 1, rtol=1e-12)


def test_an_indexer_that_chooses_all_is_none_and_is_not_trained():
    whole = replace(INDEXED, blocks=4)
    params, x = drawn(whole), cases.normal(T, WIDTH)
    plain = GatedAttention(2, 1, rotary=Rotary(features=2))

    def both(params):
        return jnp.sin(whole(params, x)).sum(), jnp.sin(plain(params, x)).sum()

    (own, other), grads = cases.jit(lambda p: (both(p), jax.grad(lambda q: both(q)[0])(p)))(params)
    assert float(own) == pytest.approx(float(other), rel=1e-13)
    assert not any(
        np.asarray(leaf).any() for name in ("index_query", "index_key") for leaf in jax.tree.leaves(grads[name])
    )
    assert np.asarray(grads["gate"].kernel[...]).any()


def test_a_gated_share_is_experts_with_a_sigmoid_on_what_all_share():
    layer = GatedShareExperts(SoftmaxRouter(3, 2), ratio=0.5, shared_ratio=0.75)
    params, x = drawn(layer), cases.normal(T, WIDTH)
    alone = layer.always()(params["shared"], x)
    without = replace(layer, shared=0)(params, x)
    share = jax.nn.sigmoid(x @ params["share"].kernel[...])
    np.testing.assert_allclose(layer(params, x), without + share * alone, rtol=1e-12)
    assert params["shared"]["up"].kernel.shape == (8, 6)


# ---- the whole ----------------------------------------------------------------------------------------------


@cache
def made():
    """The model and its weights."""
    model = OURS.model()
    return model, cases.drawn(model)


def texts(side: str) -> dict:
    """Texts of 7 and 5 tokens, by themselves or padded with tokens that are not all alike."""
    draw = np.random.default_rng(3)
    batch = {name: np.tile(np.arange(9) % 3, (2, 1)) for name in ("inputs", "targets")}
    batch["attention_mask"] = np.zeros((2, 9), int)
    for row, length in enumerate((7, 5)):
        real = slice(9 - length, None) if side == "left" else slice(length)
        for name in ("inputs", "targets"):
            batch[name][row, real] = draw.integers(0, 11, length)
        batch["attention_mask"][row, real] = 1
    return batch


def packed(batch: dict) -> dict:
    """Both texts in one example, without padding."""
    real = batch["attention_mask"] == 1
    whole = {name: batch[name][real][None] for name in ("inputs", "targets")}
    return {**whole, "segments": np.repeat([0, 1], real.sum(1))[None]}


@pytest.mark.long
def test_texts_have_the_same_numbers_padded_left_right_or_packed():
    model, params = made()
    backward = cases.jit(lambda batch: gradients.backward(model, params, batch))
    read = {}
    for name, batch in {"left": texts("left"), "right": texts("right"), "packed": packed(texts("left"))}.items():
        grads, reading = backward(checked(batch, {"m": model}))
        read[name] = grads, float(reading["loss"])
    left, loss = read.pop("left")
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(left))
    for grads, other in read.values():
        assert other == pytest.approx(loss, rel=1e-13)
        for one, two in zip(jax.tree.leaves(grads), jax.tree.leaves(left), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-13 * scale)


@pytest.mark.long
@usual_settings()
def test_spectra_of_its_sublayers_are_those_of_dense_matrices():
    model, params = made()
    batch = checked({name: texts("right")[name][:1, :T] for name in ("inputs", "targets")}, {"m": model})
    used = model.with_context(params, batch["inputs"][0])

    def visit(x, parts, _):
        return residual(x, parts), jax.tree.map(
            lambda m: jnp.linalg.norm(m, 2), jacobians.matrices(parts, x)["sublayer"]
        )

    _, largest = cases.jit(lambda p: walk(model.stack, p["stack"], model.enter(p, batch["inputs"][0]), visit))(used)
    found = cases.jit(lambda p, b: spectrum.spectrum(model, p, b))(params, batch)
    np.testing.assert_allclose(found["singular_values"][:, -1, 0], largest, rtol=1e-9)


def test_theory_says_in_a_line_what_it_has_none_for():
    batch = dict.fromkeys(("inputs", "targets"), np.arange(T)[None] % 11)
    gated = transformer("pre", depth=1, width=WIDTH, attention=GatedAttention(2), vocabulary=11)
    indexed = transformer("pre", depth=1, width=WIDTH, attention=INDEXED, vocabulary=11)
    models = {"GatedRead": OURS.model(), "GatedDeltaNet": Qwen3Next(**SMALL).model()}
    models |= {"GatedAttention": gated, "IndexedAttention": indexed}
    for name, model in models.items():
        with pytest.raises(NotImplementedError, match=f"no theory for {name}: say what it does") as error:
            predict(model, batch)
        assert "\n" not in str(error.value)


def test_an_architecture_scales_with_its_turn():
    small = OURS.scaled(depth=5, width=16)
    assert [sub.kind for sub in small.model().stack.sublayers][:3] == ["memory", "linear_attention", "experts"]
    assert small.model().depth == 5
    assert (small.heads, small.linear_heads, small.shared_hidden) == (4, 4, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GatedDeltaNet(4, 3), "key_heads = 3 must divide heads = 4"),
        (lambda: GatedDeltaNet(gate_activation="relu"), "no activation 'relu': "),
        (lambda: IndexedAttention(2, causal=False), "indexed attention is causal, without a window or a value_mix"),
        (lambda: IndexedAttention(2, window=3), "indexed attention is causal, without a window or a value_mix"),
        (lambda: IndexedAttention(2, rotary=Rotary(), index_head=2).init(None, 8), "index_head is 2: positions turn 4"),
        (lambda: NGrams(longest=1), "longest is 1: at least 2 is needed"),
        (lambda: NGrams(heads=8, least=2**28), "fewer than 2.31 are needed"),
        (lambda: NGramMemory(GRAMS, features=10), "features = 10 is no multiple of the 4 heads of n-grams"),
        (lambda: NGramMemory(GRAMS, features=12)({}, jnp.zeros((T, WIDTH))), "a memory of n-grams without tokens"),
        (lambda: GatedShareExperts(shared_ratio=0.0), "shared_ratio is 0.0"),
        (
            lambda: Qwen3Next(**{**SMALL, "turn": ("linaer",)}),
            "no kind of attention in turn 'linaer': did you mean 'linear'",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")) as error:
        make()
    assert "\n" not in str(error.value)
