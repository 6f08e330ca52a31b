"""What an update does, against numpy on the weights of both sides and against two forward passes."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from gradflow.instruments.backward import updates
from gradflow.instruments.backward.updates import UPDATES
from gradflow.interop.functions import FunctionStack
from gradflow.model.parameters.names import named, outer_names, parameter_names
from gradflow.model.wirings.wiring import post

EXACT = 1e-10
MODEL = cases.model(post(), 2, cases.TWO)


@pytest.fixture(scope="module")
def weights():
    """Before and after: every entry moved, the output matrices zeroed in the first layer and the gate's by the update."""
    before = cases.drawn(MODEL)
    noise = np.random.default_rng(1)
    after = jax.tree.map(lambda a: a + 0.1 * noise.normal(size=a.shape), before)
    for tree, kind, name in ((before, "causal", "out"), (after, "gated", "gate")):
        kernel = tree["stack"][0][kind]["branch"][name].kernel
        kernel[...] = kernel[...].at[0].set(0.0)
    return before, after


@pytest.fixture(scope="module")
def read(weights):
    read_all = lambda w, b: {**UPDATES["update"](MODEL, w, b), **UPDATES["change"](MODEL, w, b)}
    return jax.device_get(cases.jit(read_all)(weights, cases.batch()))


def by_hand(a, b) -> dict:
    """Norm, ratio and angle of one weight's update; the angle from its cosine, exact where it is not small."""
    a, b = np.ravel(a), np.ravel(b)
    sizes = np.linalg.norm(a), np.linalg.norm(b)
    with np.errstate(invalid="ignore"):
        cosine = np.clip(a @ b / sizes[0] / sizes[1], -1, 1)
    ratio = np.linalg.norm(b - a) / sizes[0] if sizes[0] else np.nan
    return {
        "update_norm": np.linalg.norm(b - a),
        "update_to_weight": ratio,
        "update_angle": np.arccos(cosine) if all(sizes) else np.nan,
    }


def test_the_size_of_every_update_in_the_stack_is_numpys(weights, read):
    names = parameter_names(MODEL.stack, weights[0]["stack"])
    for sublayer in range(4):
        layer, kind = sublayer // 2, list(cases.TWO)[sublayer % 2]
        a, b = (named(jax.tree.map(lambda x, l=layer: x[l], w["stack"][0][kind])) for w in weights)
        for p, name in enumerate(names):
            for quantity, expected in (by_hand(a[name], b[name]) if name in a else {}).items():
                found = read[quantity][sublayer, p]
                np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=f"{quantity} {sublayer} {name}")
            if name not in a:
                assert all(np.isnan(read[quantity][sublayer, p]) for quantity in by_hand([1.0], [1.0]))


def test_the_size_of_every_update_outside_the_stack_is_numpys(weights, read):
    a, b = (named({k: v for k, v in w.items() if k != "stack"}) for w in weights)
    assert list(a) == outer_names(weights[0])
    for i, name in enumerate(a):
        for quantity, expected in by_hand(a[name], b[name]).items():
            assert read[f"outer_{quantity}"][i] == pytest.approx(expected, rel=1e-9), (quantity, name)


def test_where_a_weight_is_zero_there_is_a_norm_and_no_ratio_or_angle(weights, read):
    names = parameter_names(MODEL.stack, weights[0]["stack"])
    out, gate = (0, names.index("out")), (1, names.index("gate"))
    assert read["update_norm"][out] > 0
    assert np.isnan(read["update_to_weight"][out])
    assert np.isnan(read["update_angle"][out])
    assert read["update_to_weight"][gate] == pytest.approx(1, rel=EXACT)
    assert np.isnan(read["update_angle"][gate])  # what it became points nowhere


# ---- angles -------------------------------------------------------------------------------------------------


def angle(a, b):
    return float(updates._angle(jnp.stack([a, b])))


def turned(v, by, dtype):
    """A vector and itself turned by an angle in the plane with a second one, and made 3 times as long."""
    w = cases.normal(*v.shape, seed=1)
    w = w - v * jnp.sum(v * w) / jnp.sum(v * v)
    w = w * jnp.linalg.norm(v) / jnp.linalg.norm(w)
    return v.astype(dtype), (jnp.cos(by) * v + jnp.sin(by) * w).astype(dtype)


@pytest.mark.parametrize("by", [1e-9, 1e-6, 1e-3, 1.0, np.pi / 2, 2.0, 3.0])
@pytest.mark.parametrize("length", [1e-3, 1.0, 3.0])
def test_an_angle_is_that_by_which_a_weight_was_turned(by, length):
    a, b = turned(cases.normal(4, 16), by, jnp.float64)
    assert angle(a, length * b) == pytest.approx(by, rel=1e-8, abs=1e-13)


@pytest.mark.parametrize("by", [1e-6, 1e-4, 1e-2, 1.0, 3.0])
def test_a_small_angle_is_resolved_in_float32(by):
    """Far below the rounding of a cosine: that of the rounded weights, which float64 knows, to six digits."""
    a, b = turned(cases.normal(4, 16), by, jnp.float32)
    assert angle(a, b) == pytest.approx(angle(a.astype(jnp.float64), b.astype(jnp.float64)), rel=2e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_scaling_turns_by_nothing_and_a_change_of_sign_by_half_a_turn(dtype):
    v = cases.normal(4, 16).astype(dtype)
    assert angle(v, v) == 0
    assert angle(v, 2 * v) < 1e-6
    assert angle(v, -v) == pytest.approx(np.pi)
    assert angle(jnp.ones((), dtype), -jnp.ones((), dtype)) == pytest.approx(np.pi)


# ---- what it changes ----------------------------------------------------------------------------------------


def test_the_change_of_stream_and_output_is_that_between_two_forward_passes(weights, read):
    batch = cases.batch()
    forward = cases.jit(lambda p, x: (xs := reference.stream(MODEL, p, x), reference.leave(MODEL, p, xs[-1])))
    squares = []
    for tokens in batch["inputs"]:
        (xs, out), (ys, moved) = (forward(w, reference.embedded(MODEL, w, tokens)) for w in weights)
        squares.append([*(np.mean((y - x) ** 2) for x, y in zip(xs, ys, strict=True)), np.mean((moved - out) ** 2)])
    *stream, out = np.sqrt(np.mean(squares, axis=0))
    np.testing.assert_allclose(read["stream_change"], stream, rtol=EXACT)
    assert read["output_change"] == pytest.approx(out, rel=EXACT)


def test_no_update_changes_nothing(weights):
    before = weights[0]
    read = cases.jit(lambda w, b: UPDATES["change"](MODEL, w, b))((before, before), cases.batch())
    assert all((value == 0).all() for value in read.values())


def test_a_pure_functions_update_is_read_too():
    """To first order `J_W ΔW` of a linear layer: y = x W, Δy = x ΔW."""
    stack = FunctionStack(lambda w, x: x @ w, 1, lambda params, x, y: jnp.mean((x - y) ** 2))
    before, change, x = cases.normal(1, 3, 3), 0.01 * cases.normal(1, 3, 3, seed=1), cases.normal(4, 5, 3, seed=2)
    sides = stack.params(before), stack.params(before + change)
    batch = {"inputs": x, "targets": x}
    read = UPDATES["change"](stack, sides, batch)
    moved = np.sqrt(np.mean(np.asarray(x @ change[0]) ** 2))
    np.testing.assert_allclose(read["stream_change"], [0, moved], rtol=EXACT)
    assert read["output_change"] == pytest.approx(moved, rel=EXACT)
    sizes = UPDATES["update"](stack, sides, batch)
    assert sizes["update_norm"][0, 0] == pytest.approx(np.linalg.norm(change), rel=EXACT)
    assert sizes["outer_update_norm"].shape == (0,)
