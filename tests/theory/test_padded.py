"""Theory of padded and packed texts: real tokens have what they have by themselves, and a measurement's mean squares."""

import cases
import jax
import numpy as np
import pytest

import gradflow as gf
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import GatedFeedForward
from gradflow.model.inputs.batch import checked
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.transformer import Transformer, staged
from gradflow.model.wirings.catalogue import placement
from gradflow.theory import descent
from gradflow.theory.gram import TheoryContext, response

LENGTH, T = 5, 8
SIDES = {"left": slice(T - LENGTH, None), "right": slice(LENGTH), "both": slice(1, 1 + LENGTH)}
KEY = jax.random.key(0)


def made(wiring: str, causal: bool, width: int = 16) -> Transformer:
    stack = staged(placement(wiring), {"attention": Attention(2, causal=causal), "mlp": GatedFeedForward(2)}, 2)
    return Transformer(stack, width, Embedding(cases.VOCABULARY, 12))


def padded(inputs, targets, real: slice) -> dict:
    """A batch of one length, with padding around it."""
    batch = {"inputs": np.tile(np.arange(T) % 3, (2, 1)), "targets": np.ones((2, T), int)}
    batch["attention_mask"] = np.zeros((2, T), int)
    for name, values in (("inputs", inputs), ("targets", targets), ("attention_mask", 1)):
        batch[name][:, real] = values
    return batch


def read(model):
    """Both readings of one replica, compiled once for each shape of a batch."""

    @jax.jit
    def found(batch):
        width, tokens = model.width, jax.tree.leaves(batch["targets"])[0].shape[1]
        place = TheoryContext(width, tokens, 4, KEY, 2, width)
        return {**descent.backward(model, batch, place), **descent.partial_jacobian(model, batch, place)}

    return lambda batch: jax.device_get(found(checked(batch, {"m": model})))


def test_attention_of_real_rows_is_that_of_their_gram_matrix_alone():
    """Draws too: those of a token are of its place among the real ones."""
    layer, real = Attention(2), np.arange(T)[SIDES["both"]]
    noise = np.random.default_rng(0).normal(size=(T, 24))
    sigma = noise @ noise.T / 24
    texts = np.full((1, T), -1)
    texts[:, real] = 0
    place = TheoryContext(16, LENGTH, 4, KEY)
    alone = jax.jit(lambda sigma: response(layer, sigma, place).value)(sigma[np.ix_(real, real)])
    among = place._replace(tokens=T, texts=jax.numpy.asarray(texts))
    found = jax.jit(lambda sigma: response(layer, sigma, among).value)(sigma)
    np.testing.assert_allclose(found[np.ix_(real, real)], alone, rtol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize(("wiring", "causal"), [("post", True), ("residual", False)])
def test_theory_of_real_tokens_is_the_same_padded_left_right_or_not_at_all(wiring, causal):
    inputs, targets = np.random.default_rng(0).integers(0, cases.VOCABULARY, (2, 2, LENGTH))
    theory = read(made(wiring, causal))
    alone = theory({"inputs": inputs, "targets": targets})
    for real in SIDES.values():
        found = theory(padded(inputs, targets, real))
        by_token = found.pop("stream_gradient_by_token")
        np.testing.assert_allclose(by_token[:, real], alone["stream_gradient_by_token"], rtol=1e-7)
        assert not np.delete(by_token, np.arange(T)[real], axis=1).any()
        for name, values in found.items():
            np.testing.assert_allclose(values, alone[name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.long
def test_texts_packed_into_one_example_are_a_batch_of_two():
    """All but the noise over examples: gradients of the mean loss, and the stream."""
    model = made("pre", True)
    inputs, targets = np.random.default_rng(0).integers(0, cases.VOCABULARY, (2, 2, LENGTH))
    apart = {"inputs": inputs, "targets": targets}
    packed = {name: values.reshape(1, -1) for name, values in apart.items()}
    packed["segments"] = np.repeat([0, 1], LENGTH)[None]
    told = gf.predict(model, {**packed}, draws=64)["model"], gf.predict(model, apart, draws=64)["model"]
    for name in ("stream_gradient", "stream_rms", "parameter_gradient", "loss"):
        one, other = (node[name].values for node in told)
        sem = np.hypot(*(node[f"{name}_sem"].values for node in told))
        assert (np.isnan(one) | (np.abs(one - other) < 5 * sem + 1e-6)).all(), name


@pytest.mark.long
@pytest.mark.parametrize("side", ["left", "right"])
def test_mean_squares_of_texts_of_different_lengths_are_those_measured(side):
    """Means over examples of means over their tokens; gradients to the errors of 64 seeds and a few percent of width 64."""
    model = gf.transformer("post", depth=2, width=64, heads=4, context=T, vocabulary=cases.VOCABULARY)
    mask = (np.arange(T) < np.array([[3], [T]])).astype(int)
    mask = mask if side == "right" else mask[:, ::-1]
    inputs, targets = np.random.default_rng(0).integers(0, cases.VOCABULARY, (2, 2, T))
    batch = {"inputs": inputs, "targets": targets, "attention_mask": mask}
    quantities = ("backward", "partial_jacobian")
    measured = gf.measure(model, batch, seeds=64, quantities=quantities)["model"]
    told = gf.predict(model, batch, quantities=quantities, draws=16)["model"]
    for name in ("stream_gradient", "stream_rms", "readout_gradient"):
        squares = measured[name].transpose("seed", ...).values ** 2
        sem = squares.std(0, ddof=1) / 8
        off = np.abs(squares.mean(0) - told[name].values ** 2)
        assert (off < 4.5 * sem + 0.06 * told[name].values ** 2).all(), name
    for name in ("token_cosine", "partial_jacobian", "loss"):
        values = measured[name].transpose("seed", ...).values
        sem = values.std(0, ddof=1) / 8
        assert (np.abs(values.mean(0) - told[name].values) < 4.5 * sem + 0.06 * np.abs(told[name].values)).all(), name


def test_a_condition_is_refused_in_a_line():
    batch = {**cases.batch(), "condition": np.zeros((2, 16))}
    with pytest.raises(ValueError, match="theory is of step 0 and a condition of zero, .* its condition: leave it out"):
        gf.predict(made("pre", True), batch)
