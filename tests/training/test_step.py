"""One compiled step: seeds share a program and never a number; learning rates are numbers handed to it."""

from dataclasses import dataclass, replace

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.meters.dropout import Dropout
from gradflow.instruments.seeds import concat_seeds, seed_keys, split_seeds
from gradflow.model.branches.branch import FeedForward
from gradflow.model.layers.layer import Layer
from gradflow.model.parameters.keys import at
from gradflow.model.parameters.names import parameter_names, present
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.stack import Segment, Stack, Sublayer
from gradflow.model.stacks.transformer import Transformer
from gradflow.model.wirings.wiring import none, pre
from gradflow.training.optimizers import Adam
from gradflow.training.recipe import Recipe
from gradflow.training.step import Step, _first_nonfinite

SEEDS, EPS = 8, 1e-3
RATES = (0.1, 0.05, 0.2)
NAMES = ("nonfinite_step", "nonfinite_depth", "nonfinite_quantity")
pytestmark = pytest.mark.usefixtures("quickly_compiled")

MODEL = Transformer(Stack((Segment((Sublayer("mlp", pre(), FeedForward(2)),), 3),)), 4, Embedding(256, 8))
KEYS = seed_keys(0, SEEDS)
STEP = Step(MODEL, Recipe(Adam(eps=EPS)).direction(), gradients.economy, eps=EPS)


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


def run(step, state, data, keys=KEYS, rates=RATES):
    """States before each step and after the last, and readings."""
    states, readings = [state], []
    for i, rate in enumerate(rates):
        state, reading = step(states[-1], data.batches(keys, i), keys, jnp.float32(rate), jnp.asarray(i))
        states.append(state)
        readings.append(reading)
    return jax.device_get((states, readings))


@pytest.fixture(scope="module")
def ran(quickly_compiled, data):
    """What came out, and how many programs were compiled for it."""
    before = Step.__call__.programs()
    found = run(STEP, STEP.start(KEYS), data)
    return *found, Step.__call__.programs() - before


# ---- one program --------------------------------------------------------------------------------------------


def test_eight_seeds_and_all_steps_are_one_program(ran):
    states, readings, programs = ran
    assert programs == 1
    assert readings[0]["loss"].shape == (SEEDS,)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(states[-1])} == {SEEDS}


def test_recipes_that_differ_in_their_rates_compile_nothing_more(ran, data):
    before = Step.__call__.programs()
    for other in (Recipe(Adam(eps=EPS), lr=0.5), Recipe(Adam(eps=EPS), lr=1e-4, warmup=2, schedule="cosine")):
        again = Step(MODEL, other.direction(), gradients.economy, eps=other.eps)
        run(again, again.start(KEYS), data, rates=other.rates(2))
    assert Step.__call__.programs() == before


def test_every_seed_is_the_run_of_that_seed_alone(ran, data):
    states, readings, _ = ran
    for seed in (0, 5):
        key = KEYS[seed : seed + 1]
        alone, read = run(STEP, STEP.start(key), data, key)
        for a, b in zip(jax.tree.leaves(alone[-1]), jax.tree.leaves(states[-1]), strict=True):
            np.testing.assert_allclose(a[0], b[seed], rtol=1e-4, atol=1e-5)
        for one, all_seeds in zip(read, readings, strict=True):
            for name, values in one.items():
                if name != "learning_rate":
                    np.testing.assert_allclose(values[0], all_seeds[name][seed], rtol=1e-3, atol=1e-6, err_msg=name)


def test_seeds_in_groups_are_the_seeds_all_at_once(ran, data):
    states, readings, _ = ran
    groups = split_seeds(jax.tree.map(jnp.asarray, states[0]))
    for a, b in zip(jax.tree.leaves(concat_seeds(groups)), jax.tree.leaves(states[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    afters, read = STEP.over_groups(groups, data.batches(KEYS, 0), KEYS, np.float32(RATES[0]), 0)
    for a, b in zip(jax.tree.leaves(concat_seeds(afters)), jax.tree.leaves(states[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for name, values in concat_seeds(read).items():
        np.testing.assert_allclose(values, readings[0][name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_seeds_differ_in_weights_and_batches(ran):
    assert len(set(ran[1][0]["loss"].tolist())) == SEEDS


# ---- the update ---------------------------------------------------------------------------------------------


def test_an_update_is_the_rate_times_the_direction_of_the_gradient(ran, data):
    """With Adam's first step: `W' = W − rate · g/(|g| + eps)`."""
    states = ran[0]
    grad = cases.jit(jax.vmap(lambda p, b: jax.grad(gradients.bare_loss, argnums=1)(MODEL, p, b)))
    grads = jax.device_get(grad(states[0]["params"], data.batches(KEYS, 0)))
    expected = jax.tree.map(lambda p, g: p - RATES[0] * g / (np.abs(g) + EPS), states[0]["params"], grads)
    for a, b in zip(jax.tree.leaves(states[1]["params"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_at_rate_zero_the_weights_stay_and_the_rate_is_recorded(ran, data):
    states, readings = run(STEP, STEP.start(KEYS), data, rates=(0.0,))
    for a, b in zip(*(jax.tree.leaves(state["params"]) for state in states), strict=True):
        np.testing.assert_array_equal(a, b)
    assert readings[0]["learning_rate"].tolist() == [0.0] * SEEDS
    assert ran[1][1]["learning_rate"].tolist() == [np.float32(RATES[1])] * SEEDS


def test_the_gradient_in_epsilons_is_its_rms_in_units_of_adams(ran):
    states, readings, _ = ran
    stack = states[0]["params"]["stack"]
    sizes = {"up": 4 * 8, "up.bias": 8, "down": 8 * 4, "down.bias": 4, "norm_in.scale": 4, "norm_in.bias": 4}
    of = np.array([sizes[name] for name in parameter_names(MODEL.stack, stack)])
    expected = readings[0]["parameter_gradient"] / np.sqrt(of) / EPS
    np.testing.assert_allclose(readings[0]["gradient_in_epsilons"], expected, rtol=1e-5)


def test_a_rule_without_epsilon_has_no_gradient_in_its_units():
    step = Step(MODEL, optax.sgd(0.1), gradients.economy)
    state = jax.eval_shape(step.start, KEYS)
    batch = {name: jax.ShapeDtypeStruct((SEEDS, 2, 8), jnp.int32) for name in ("inputs", "targets")}
    number = jax.ShapeDtypeStruct((), jnp.float32)
    one = jax.vmap(step._step, (0, 0, 0, None, None))
    reading = jax.eval_shape(one, state, batch, KEYS, number, jax.ShapeDtypeStruct((), jnp.int32))[1]
    assert "gradient_in_epsilons" not in reading
    assert "learning_rate" in reading


# ---- seeds apart --------------------------------------------------------------------------------------------


def spoiled(state, seed: int, layer: int, value=np.nan):
    """One weight of one seed that is not finite."""
    kernel = lambda p: p["stack"][0]["mlp"]["branch"]["up"].kernel
    state = jax.tree.map(jnp.asarray, state)
    own = kernel(state["params"])
    own[...] = own[...].at[seed, layer, 0, 0].set(value)
    return state


@pytest.mark.parametrize(("seed", "layer", "value"), [(3, 1, np.nan), (7, 0, np.inf)])
def test_a_seed_that_is_not_finite_leaves_all_others_bit_equal(seed, layer, value, ran, data):
    states, readings, _ = ran
    bad_states, bad_readings = run(STEP, spoiled(states[0], seed, layer, value), data)
    others = np.arange(SEEDS) != seed
    for good, bad in zip(states + readings, bad_states + bad_readings, strict=True):
        for a, b in zip(jax.tree.leaves(good), jax.tree.leaves(bad), strict=True):
            np.testing.assert_array_equal(a[others], b[others])
    for reading in bad_readings:  # the first place is kept: the stream above that layer, at step 0
        assert [int(reading[name][seed]) for name in NAMES] == [0, layer + 1, 0]
        assert not np.isfinite(reading["loss"][seed])
        assert all((reading[name][others] == -1).all() for name in NAMES)


# ---- dropout ------------------------------------------------------------------------------------------------


def test_dropouts_masks_are_of_the_seed_and_the_step_and_its_gradients_train(ran, data):
    """One step of plain descent moves the weights by the gradient under the mask of that key and step."""
    step = Step(MODEL, optax.sgd(1.0), gradients.economy, dropout=0.5)
    state = step.start(KEYS)
    state = {**state, "params": jax.tree.map(jnp.asarray, ran[0][0]["params"])}
    batch = data.batches(KEYS, 0)
    losses = []
    for i in (0, 1, 0):
        after, reading = step(state, batch, KEYS, jnp.float32(0.1), jnp.asarray(i))
        losses.append(np.asarray(reading["loss"]))
    np.testing.assert_array_equal(losses[0], losses[2])
    assert (losses[0] != losses[1]).all()
    assert (losses[0] != ran[1][0]["loss"]).all()

    def masked(params, batch, key):
        zero = gradients.dials(MODEL, params, batch, scope=gradients.STREAM)
        how = {"scope": gradients.STREAM, "dropout": Dropout(0.5, at(key, "dropout", 0))}
        return jax.value_and_grad(lambda p: gradients.metered_loss(MODEL, p, zero, batch, **how)[0])(params)

    loss, grads = cases.jit(jax.vmap(masked))(state["params"], batch, KEYS)
    np.testing.assert_allclose(losses[0], loss, rtol=1e-5)
    moved = jax.tree.map(lambda b, a: (a - b) / 0.1, after["params"], state["params"])
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=5e-6)


# ---- what is not finite -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Doubled(Layer):
    """A branch without parameters."""

    def init(self, key, width):
        return {}

    def __call__(self, params, x):
        return 2 * x


def test_what_parameters_a_sublayer_has_is_known_before_anything_is_compiled():
    plain = none()
    block = (Sublayer("doubled", plain, Doubled()), Sublayer("mlp", plain, FeedForward(2, bias=False)))
    model = replace(MODEL, stack=Stack((Segment(block, 2),)) + MODEL.stack)
    stack = jax.eval_shape(model.init, jax.random.key(0))["stack"]
    of = {"doubled": set(), "mlp": {"up", "down"}, "pre": {"up", "up.bias", "down", "down.bias"}}
    of["pre"] |= {"norm_in.scale", "norm_in.bias"}
    names, there = parameter_names(model.stack, stack), present(model.stack, stack)
    for row, kind in zip(there, ["doubled", "mlp"] * 2 + ["pre"] * 3, strict=True):
        assert {name for name, has in zip(names, row, strict=True) if has} == of[kind]


def test_a_parameter_that_is_not_there_is_not_one_that_is_not_finite():
    """Its reading is NaN; so is that of a gradient that is not finite, which may be one of several."""
    there = np.array([[True, True], [False, False], [True, False]])
    fine = {"stream_rms": jnp.ones(4), "stream_gradient": jnp.ones(4), "loss": jnp.float32(1)}
    never = dict.fromkeys(NAMES, jnp.int32(-1))
    healthy = jnp.where(there, 1.0, jnp.nan)
    bad = {(-1, -1, -1): healthy, (7, 2, 3): healthy.at[2, 0].set(jnp.nan), (7, 0, 3): healthy.at[0, 1].set(jnp.nan)}
    for place, parameters in bad.items():
        found = _first_nonfinite(never, {**fine, "parameter_gradient": parameters}, there, 7)
        assert tuple(int(found[name]) for name in NAMES) == place
