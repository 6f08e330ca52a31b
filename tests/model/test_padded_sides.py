"""Padding of a source and of a target: both sides have the numbers of the sequences without any, wherever it is.

Axes: 2 examples; 4 tokens of the source and 3 of the target, padded to 6 and 5; 8 features.
"""

from functools import cache, partial

import cases
import jax
import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.forward import activations, attention, similarity
from gradflow.instruments.jacobians import chain, spectrum
from gradflow.model.equation.sublayer import with_context
from gradflow.model.inputs.batch import checked

S, T = (4, 6), (3, 5)  # tokens, and with padding
SIDES = {"source": S, "target": T}
SMALL = {"depth": 1, "width": 8, "heads": 2, "vocabulary": cases.VOCABULARY}
KINDS = {"original": gf.architecture("transformer-base").scaled(**SMALL)}
KINDS["t5"] = gf.architecture("t5-small").scaled(**SMALL, head=4, buckets=8, farthest=10)
FORWARD = (attention.by_head, activations.massive, similarity.between_positions)
OF_TOKENS = ("stream_gradient_by_token", "massive_activation_by_token", "massive_token")


@cache
def made(kind: str):
    """The model and its weights."""
    whole = KINDS[kind].model()
    noise = np.random.default_rng(1)
    return whole, jax.tree.map(lambda a: a + 0.1 * noise.normal(size=a.shape), cases.float64(whole.init(0)))


def batches(lengths=((4, 4), (3, 3))) -> dict:
    """The sequences by themselves, where they are of one length, and with padding that is not all alike on either side."""
    draw = np.random.default_rng(2)
    rows = {}
    for (side, (_, room)), own in zip(SIDES.items(), lengths, strict=True):
        rows[side] = [draw.integers(0, cases.VOCABULARY, n) for n in own], room
    asked = [draw.integers(0, cases.VOCABULARY, n) for n in lengths[1]]
    found = {}
    for where in ("left", "right"):
        inputs = {side: filled(own, room, where, 2) for side, (own, room) in rows.items()}
        masks = {side: filled([np.ones_like(one) for one in own], room, where, 0) for side, (own, room) in rows.items()}
        found[where] = {"inputs": inputs, "targets": filled(asked, T[1], where, 1), "attention_mask": masks}
    if all(len(set(own)) == 1 for own in lengths):
        found["alone"] = {
            "inputs": {side: np.array(own) for side, (own, _) in rows.items()},
            "targets": np.array(asked),
        }
    return found


def filled(rows, room: int, where: str, filler: int) -> np.ndarray:
    """The rows with so much room, padded on a side."""
    whole = np.full((len(rows), room), filler)
    for row, own in zip(whole, rows, strict=True):
        row[slice(room - len(own), None) if where == "left" else slice(len(own))] = own
    return whole


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_sequences_alone(kind):
    whole, params = made(kind)
    logits = cases.jit(jax.vmap(whole, (None, 0)))
    found = {
        where: np.asarray(logits(params, checked(b, {"m": whole.decoder})["inputs"])) for where, b in batches().items()
    }
    alone = found["alone"]
    for where, real in (("left", slice(T[1] - T[0], None)), ("right", slice(T[0]))):
        np.testing.assert_allclose(found[where][:, real], alone, rtol=0, atol=4e-15 * np.abs(alone).max())


def read(kind: str, side: str, readings, batch: dict) -> dict:
    """What is read of a side, `{quantity: array}`."""
    whole, params = made(kind)
    own = whole.sides[side]
    inputs = checked(batch, {"m": own})

    def everything(params, batch):
        found = {}
        for reading in readings:
            found |= reading(own, own.arranged(params), batch)
        return found

    return jax.device_get(cases.jit(everything)(params, inputs))


@pytest.mark.long
@pytest.mark.promotes
@pytest.mark.parametrize(
    ("kind", "side"),
    [
        ("t5", "decoder"),
        *(pytest.param(*row, marks=pytest.mark.further) for row in (("original", "encoder"), ("t5", "encoder"))),
    ],
)
def test_what_is_read_of_either_side_is_that_of_the_sequences_alone(kind, side):
    economy = lambda own, p, b: gradients.backward(own, p, b)[1]
    found = {where: read(kind, side, (economy, *FORWARD), batch) for where, batch in batches().items()}
    for where in ("left", "right"):
        for name, expected in found["alone"].items():
            if name not in OF_TOKENS:
                np.testing.assert_allclose(
                    found[where][name], expected, rtol=1e-9, atol=1e-12, err_msg=f"{name}, {where}"
                )


def test_gradients_are_the_same_padded_left_or_right_where_lengths_differ():
    """Of sequences of 4 and 2, and 3 and 1 tokens: their mean over targets, of the sequences alone."""
    whole, params = made("t5")
    own = whole.decoder
    backward = cases.jit(lambda p, b: gradients.backward(own, own.arranged(p), b))
    by_side = {where: backward(params, checked(b, {"m": own})) for where, b in batches(((4, 2), (3, 1))).items()}
    (left, here), (right, there) = by_side["left"], by_side["right"]
    assert float(here["loss"]) == pytest.approx(float(there["loss"]), rel=1e-14)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(left))
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14 * scale)


@pytest.mark.long
@pytest.mark.promotes
@pytest.mark.parametrize("side", [pytest.param("encoder", marks=pytest.mark.further), "decoder"])
def test_jacobians_of_either_side_are_those_of_the_sequences_alone(side):
    few = partial(chain.end_to_end, leading=4, iterations=8)  # steps of fewer than the entries there are
    readings = (spectrum.spectrum, spectrum.window, chain.lyapunov, chain.partial_jacobian, few)
    found = {where: read("t5", side, readings, batch) for where, batch in batches().items()}
    alone = found.pop("alone")
    for where, own in found.items():
        for name, expected in alone.items():
            values = own[name]
            if name == "singular_values":
                values = values[..., : expected.shape[-1]]
            np.testing.assert_allclose(values, expected, rtol=1e-8, atol=1e-9, err_msg=f"{name}, {where}")


def test_padding_of_the_source_reaches_no_token_of_the_target():
    whole, params = made("t5")
    side = whole.decoder
    batch = jax.tree.map(lambda a: a[0], checked(batches()["left"], {"m": side}))
    used = with_context(side, side.arranged(params), batch["inputs"])
    cross = side.stack.sublayers[1].branch
    own = jax.tree.map(lambda a: a[0], used["stack"][0]["cross"]["branch"])
    scored = cross.scored(own, side.enter(used, batch["inputs"]))
    padding = S[1] - S[0]
    assert (np.asarray(scored.probabilities)[..., :padding] == 0).all()
    assert np.asarray(scored.seen)[0].tolist() == [False] * padding + [True] * S[0]
    assert np.asarray(scored.first)[0].tolist() == [False] * padding + [True] + [False] * (S[0] - 1)


def test_a_batch_that_is_checked_is_checked_again_as_it_is():
    whole, _ = made("t5")
    once = checked(batches()["left"], {"m": whole.encoder})
    again = checked(once, {"m": whole.encoder})
    assert jax.tree.structure(once) == jax.tree.structure(again)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True))
    assert (np.asarray(once["targets"])[:, : T[1] - T[0]] == -1).all()


ONES = np.ones((2, 6), int)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"attention_mask": ONES},
            "attention_mask has shape (2, 6): an encoder and decoder reads one of each, {'source'",
        ),
        ({"attention_mask": {"sauce": ONES}}, "no side of an attention_mask 'sauce': did you mean 'source'"),
        (
            {"attention_mask": {"source": ONES[:, :5]}},
            "source: attention_mask has shape (2, 5): that of the inputs, (2, 6)",
        ),
        (
            {"attention_mask": {"source": 0 * ONES}},
            "source: example 0 is padding alone (attention_mask 0): leave it out",
        ),
        ({"attention_mask": {"target": 3 * ONES[:, :5]}}, "target: attention_mask has more than 0 and 1"),
        ({"segments": ONES}, "the batch has 'segments': an encoder and decoder reads one source and one target"),
        ({"step": 3}, "the batch has 'step', which an encoder and decoder does not read: leave it out"),
        ({"decoder_attention_mask": ONES}, "the batch has 'decoder_attention_mask': give an encoder and decoder"),
    ],
)
def test_masks_that_cannot_be_are_refused_in_one_line(changed, message):
    whole, _ = made("t5")
    with pytest.raises(ValueError) as error:
        checked({**batches()["left"], **changed}, {"m": whole.encoder})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
