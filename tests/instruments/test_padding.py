"""Every reading of what is behind padding, or in front of it, is that of the texts without any."""

from functools import cache, partial

import cases
import jax
import numpy as np
import pytest

from gradflow.instruments import composite, rounding
from gradflow.instruments.jacobians import chain, jacobians, spectrum
from gradflow.instruments.jacobians.krylov import Krylov
from gradflow.instruments.readings import READINGS
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import GatedFeedForward
from gradflow.model.branches.rotary import Rotary
from gradflow.model.inputs.batch import checked
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.transformer import Transformer, staged
from gradflow.model.wirings.catalogue import placement

LENGTH, T = 5, 8
SIDES = {"left": slice(T - LENGTH, None), "right": slice(LENGTH), "both": slice(1, 1 + LENGTH)}
ATTENTION = {
    "learned": (Attention(2), 12),
    "rotary": (Attention(2, kv_heads=1, rotary=Rotary(), window=3), None),
    "bidirectional": (Attention(2, causal=False), 12),
}
ESTIMATE = Krylov(probes=3, iterations=8, solves=8)
OF_JACOBIANS = {
    "spectrum": spectrum.spectrum,
    "spectrum_window": partial(spectrum.window, tokens=3),
    "lyapunov": chain.lyapunov,
    "alignment": chain.alignment,
    "end_to_end": partial(chain.end_to_end, leading=4, iterations=8),
    "partial_jacobian": chain.partial_jacobian,
    "composite_gain": composite.gain,
}


def batches() -> dict:
    """Two texts, of one length, by themselves and with padding on a side or on both, of tokens that are not all alike."""
    inputs, targets = np.random.default_rng(0).integers(0, cases.VOCABULARY, (2, 2, LENGTH))
    found = {"alone": {"inputs": inputs, "targets": targets}}
    for side, real in SIDES.items():
        batch = {"inputs": np.tile(np.arange(T) % 3, (2, 1)), "targets": np.ones((2, T), int)}
        batch["attention_mask"] = np.zeros((2, T), int)
        for name, values in (("inputs", inputs), ("targets", targets), ("attention_mask", 1)):
            batch[name][:, real] = values
        found[side] = batch
    return found


def packed(batch: dict) -> dict:
    """The same with two texts in each example: the first of two tokens."""
    mask = batch.get("attention_mask", np.ones_like(batch["inputs"]))
    return {**batch, "segments": (np.cumsum(mask, axis=1) > 2).astype(int)}


@cache
def made(kind: str, wiring: str):
    attention, context = ATTENTION[kind]
    stack = staged(placement(wiring), {"attention": attention, "mlp": GatedFeedForward(2)}, 2)
    model = Transformer(stack, cases.WIDTH, Embedding(cases.VOCABULARY, context))
    return model, cases.drawn(model)


def read_all(kind: str, wiring: str, readings: dict, change=dict) -> dict:
    """`{side: {quantity: array}}`; padding of all sides goes through one program."""
    model, params = made(kind, wiring)

    @cases.jit
    def read(batch):
        found = {}
        for reading in readings.values():
            found |= reading(model, params, batch)
        return found

    return {side: jax.device_get(read(checked(change(batch), {"m": model}))) for side, batch in batches().items()}


def assert_alike(by_side: dict, rtol: float = 1e-8, atol: float = 1e-10):
    """To rounding, all that is a number, and NaN where the texts alone have it; more entries are of nothing."""
    alone = by_side.pop("alone")
    for side, found in by_side.items():
        for name, values in found.items():
            expected = alone[name]
            if name == "singular_values":  # listed up to as many as entries
                assert np.isnan(values[..., expected.shape[-1] :]).all()
                values = values[..., : expected.shape[-1]]
            np.testing.assert_allclose(values, expected, rtol=rtol, atol=atol, err_msg=f"{name}, {side}")


def test_tangents_and_probes_are_those_of_the_real_tokens():
    some = {name: OF_JACOBIANS[name] for name in ("lyapunov", "partial_jacobian")}
    assert_alike(read_all("learned", "post", some))


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "wiring", "change"),
    [
        ("learned", "post", dict),
        *(
            pytest.param(*row, marks=pytest.mark.further)
            for row in (("rotary", "mhc", dict), ("bidirectional", "sandwich", dict), ("rotary", "pre", packed))
        ),
    ],
)
def test_jacobians_are_those_of_the_real_tokens_padded_left_right_or_not_at_all(kind, wiring, change):
    assert_alike(read_all(kind, wiring, OF_JACOBIANS, change))


@pytest.mark.long
@pytest.mark.parametrize(("kind", "wiring"), [("learned", "post"), ("bidirectional", "pre")])
def test_estimated_spectra_are_too(kind, wiring):
    """Volumes and smallest singular values by substitution among them; bases of a Krylov space feel rounding more.

    Quantiles depend on the order of nodes that probes have in common, to rounding.
    """

    def estimated(model, params, batch):
        found = spectrum.spectrum(
            model, params, batch, dense=0, krylov=ESTIMATE, factors=("branch", "fork", "sublayer")
        )
        return {name: values for name, values in found.items() if "quantiles" not in name}

    assert_alike(read_all(kind, wiring, {"spectrum": estimated}), rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_what_stands_on_padding_is_counted_nowhere_where_rounding_is_read():
    model, params = made("learned", "post")
    read = cases.jit(partial(rounding.rounding, model, params))
    batch = batches()["left"]
    other = {**batch, "inputs": np.where(batch["attention_mask"] == 1, batch["inputs"], 7)}
    found, changed = (jax.device_get(read(checked(one, {"m": model}))) for one in (batch, other))
    for name, values in found.items():
        np.testing.assert_array_equal(changed[name], values, err_msg=name)


def test_a_dense_jacobian_has_no_rows_and_no_columns_of_padding():
    model, params = made("learned", "post")
    inputs = {side: checked(batch, {"m": model})["inputs"] for side, batch in batches().items()}
    first = {side: jax.tree.map(lambda a: a[0], one) for side, one in inputs.items()}
    alone = jacobians.at_sublayer(model, params, first["alone"], 0)
    padded = jacobians.at_sublayer(model, params, first["left"], 0)
    for name, matrix in alone.items():
        by_token = np.asarray(padded[name]).reshape(T, cases.WIDTH, T, cases.WIDTH).copy()
        real = by_token[SIDES["left"], :, SIDES["left"]].reshape(matrix.shape)
        np.testing.assert_allclose(real, matrix, rtol=1e-10, atol=1e-13, err_msg=name)
        by_token[SIDES["left"], :, SIDES["left"]] = 0
        assert not by_token.any()


def test_every_reading_is_compared_here_or_among_those_of_a_pass():
    """Those of a pass, and of what their arrays are made of, are in `model/test_texts.py`."""
    of_passes = {"backward", "economy", "rematerialized", "parameter_gradient_per_example", "heldout_loss"}
    of_passes |= {"expert_load", "similarity", "attention", "activations", "layer_removal"}
    assert set(READINGS) == of_passes | set(OF_JACOBIANS) | {"rounding"}
