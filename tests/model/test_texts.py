"""Padding and packed texts: a text has the same numbers by itself, padded left or right, or packed with another."""

from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.instruments.backward import gradients
from gradflow.instruments.forward import activations, attention, experts, similarity
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import GatedFeedForward
from gradflow.model.branches.experts import Experts, SoftmaxRouter
from gradflow.model.branches.rotary import Rotary
from gradflow.model.inputs.batch import checked
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.transformer import Transformer, staged
from gradflow.model.wirings.catalogue import placement

LENGTHS, T = (4, 6), 8


def further(*rows):
    """Rows that are not among the default tests."""
    return [pytest.param(*row, marks=pytest.mark.further) for row in rows]


ATTENTION = {
    "learned": (Attention(2), 12),
    "rotary": (Attention(2, kv_heads=1, rotary=Rotary(), window=3), None),
    "bidirectional": (Attention(2, causal=False), 12),
}


@cache
def made(kind: str, wiring: str = "pre"):
    """A model of two blocks and its weights, and a function of a batch that reads its backward pass."""
    attention, context = ATTENTION[kind]
    stack = staged(placement(wiring), {"attention": attention, "mlp": GatedFeedForward(2)}, 2)
    model = Transformer(stack, cases.WIDTH, Embedding(cases.VOCABULARY, context))
    params = cases.drawn(model)
    return model, params, cases.jit(lambda batch: gradients.backward(model, params, batch))


def rows(seed: int = 0) -> list[tuple]:
    """Tokens and targets of texts of different lengths."""
    draw = np.random.default_rng(seed)
    return [tuple(draw.integers(0, cases.VOCABULARY, (2, n))) for n in LENGTHS]


def padded(side: str) -> dict:
    """Both texts in one batch, padded on a side with tokens that are not all alike, and with targets there."""
    batch = {name: [] for name in ("inputs", "targets", "attention_mask")}
    for tokens, targets in rows():
        more = T - len(tokens)
        filler, ones, zeros = np.arange(more) % 3, np.ones(len(tokens), int), np.zeros(more, int)
        for name, text, rest in (
            ("inputs", tokens, filler),
            ("targets", targets, filler),
            ("attention_mask", ones, zeros),
        ):
            parts = (rest, text) if side == "left" else (text, rest)
            batch[name].append(np.concatenate(parts))
    return {name: np.array(values) for name, values in batch.items()}


def read(kind: str, batch: dict, wiring: str = "pre"):
    model, _, backward = made(kind, wiring)
    return jax.device_get(backward(checked(batch, {"m": model})))


ROWS = [("learned", "post"), *further(("rotary", "mhc"), ("bidirectional", "pre"))]


@pytest.mark.parametrize(("kind", "wiring"), ROWS)
def test_texts_have_the_same_numbers_padded_left_right_or_not_at_all(kind, wiring):
    alone = [read(kind, {"inputs": a[None], "targets": b[None]}, wiring) for a, b in rows()]
    n = np.array(LENGTHS)
    expected = sum(length * loss["loss"] for length, (_, loss) in zip(n, alone, strict=True)) / n.sum()
    grads, left = read(kind, padded("left"), wiring)
    other, right = read(kind, padded("right"), wiring)
    assert left["loss"] == pytest.approx(expected, rel=1e-12)
    of_texts = [jax.tree.map(lambda a, k=k: k * a / n.sum(), own) for k, (own, _) in zip(n, alone, strict=True)]
    mean = jax.tree.map(lambda *a: sum(a), *of_texts)
    assert max(cases.distances(grads, other).values()) < 1e-11
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(mean))
    for one, slow in zip(jax.tree.leaves(grads), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(one, slow, rtol=1e-9, atol=1e-12 * scale)
    for name in set(left) - {"stream_gradient_by_token"}:
        np.testing.assert_allclose(left[name], right[name], rtol=1e-10, atol=1e-13, err_msg=name)
    squares = np.mean([own["stream_rms"] ** 2 for _, own in alone], axis=0)
    np.testing.assert_allclose(left["stream_rms"], np.sqrt(squares), rtol=1e-12)
    cosines = np.mean([own["token_cosine"] for _, own in alone], axis=0)
    np.testing.assert_allclose(left["token_cosine"], cosines, rtol=1e-10, atol=1e-13)


FORWARD = (attention.by_head, activations.massive, similarity.between_positions, experts.load)
BY_TOKEN = ("massive_activation_by_token", "massive_token")


@cache
def forward(kind: str, experts: bool = False):
    """What is read of a batch in a forward pass, by a model of one attention, and experts where these are asked for."""
    attention, context = ATTENTION[kind]
    mlp = Experts(SoftmaxRouter(4, 2)) if experts else GatedFeedForward(2)
    model = Transformer(
        staged(placement("pre"), {"attention": attention, "mlp": mlp}, 1),
        cases.WIDTH,
        Embedding(cases.VOCABULARY, context),
    )
    params = cases.drawn(model)

    def reading(batch):
        found = {}
        for one in FORWARD:
            found |= one(model, params, batch)
        return found

    return model, cases.jit(reading)


@pytest.mark.parametrize(
    ("kind", "experts"), [("learned", True), *further(("rotary", False), ("bidirectional", False))]
)
def test_what_is_read_in_a_forward_pass_is_that_of_the_texts_alone(kind, experts):
    """Means over texts, the largest of them; and of padding nothing."""
    model, reading = forward(kind, experts)
    found = {side: jax.device_get(reading(checked(padded(side), {"m": model}))) for side in ("left", "right")}
    alone = []
    for tokens, targets in rows():
        batch = {"inputs": tokens[None], "targets": targets[None]}
        alone.append(jax.device_get(reading(checked(batch, {"m": model}))))
    for name, values in found["left"].items():
        if name in BY_TOKEN:
            continue
        np.testing.assert_allclose(values, found["right"][name], rtol=1e-10, atol=1e-13, err_msg=name)
        each = [own[name] for own in alone]
        if name not in ("load_violation", "massive_feature"):  # of the mean, and of the largest
            together = np.max if "largest" in name or name.startswith("massive") else np.mean
            np.testing.assert_allclose(values, together(each, axis=0), rtol=1e-10, atol=1e-13, err_msg=name)
    for side, padding in (("left", slice(0, T - max(LENGTHS))), ("right", slice(max(LENGTHS), None))):
        assert not found[side]["massive_activation_by_token"][:, padding].any()
    assert (found["left"]["massive_token"] != found["right"]["massive_token"]).all()


def test_padding_has_no_gradient_and_is_seen_by_nobody():
    _, right = read("learned", padded("right"), "post")
    _, left = read("learned", padded("left"), "post")
    assert not right["stream_gradient_by_token"][:, max(LENGTHS) :].any()
    assert not left["stream_gradient_by_token"][:, : T - max(LENGTHS)].any()
    changed = padded("right")
    changed["inputs"] = np.where(changed["attention_mask"] == 1, changed["inputs"], 7)
    _, other = read("learned", changed, "post")
    for name in right:
        np.testing.assert_array_equal(other[name], right[name], err_msg=name)


@pytest.mark.parametrize("kind", ["learned", pytest.param("rotary", marks=pytest.mark.further)])
def test_packed_texts_are_what_they_are_alone(kind):
    model, params, _ = made(kind)
    (a, first), (b, second) = rows()
    packed = {"inputs": np.concatenate([a, b])[None], "targets": np.concatenate([first, second])[None]}
    packed["segments"] = np.repeat([0, 1], LENGTHS)[None]
    inputs = jax.tree.map(lambda leaf: leaf[0], checked(packed, {"m": model})["inputs"])
    together = model(params, inputs)
    for place, tokens in ((slice(None, LENGTHS[0]), a), (slice(LENGTHS[0], None), b)):
        np.testing.assert_allclose(together[place], model(params, jnp.asarray(tokens)), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"attention_mask": np.array([[1] * 8, [0] * 8])}, "example 1 is padding alone"),
        ({"attention_mask": np.array([[1] * 8, [1, 1, 0, 1, 1, 1, 1, 1]])}, "example 1 has a text in pieces"),
        ({"attention_mask": np.full((2, 8), 2)}, "attention_mask has more than 0 and 1"),
        ({"attention_mask": np.ones((2, 7), int)}, r"attention_mask has shape \(2, 7\)"),
        ({"segments": np.full((2, 8), -1)}, "texts are counted from 0"),
        ({"targets": np.where(padded("right")["attention_mask"] == 1, -1, 3)}, "example 0 has no target"),
    ],
)
def test_impossible_padding_is_refused_in_a_line(change, remedy):
    with pytest.raises(ValueError, match=remedy) as error:
        checked({**padded("right"), **change}, {"m": made("learned")[0]})
    assert "\n" not in str(error.value)
