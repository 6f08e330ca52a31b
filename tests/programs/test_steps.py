"""Jacobians through programs: those of gradflow's own models, of steps written by hand, and the identities of a chain."""

from dataclasses import replace
from functools import cache, partial

import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from programs.models import PROGRAMS
from programs.models.lm1b_like import PreBlock
from programs.models.plain_scan import attention_alone, block

from gradflow.instruments.backward.gradients import bare_loss
from gradflow.instruments.jacobians import chain, jacobians, spectrum
from gradflow.instruments.meters.visits import at_bottom, first, reporting_inputs
from gradflow.model.equation.sublayer import walk
from gradflow.model.layers.norms import DyT, LayerNorm, RMSNorm
from gradflow.model.zoo import ZOO
from gradflow.programs.jacobians import held
from gradflow.programs.jacobians.steps import FACTORS, stacks
from gradflow.programs.trace.pieces import pushable

jit = jax.jit
READINGS = {
    "partial_jacobian": partial(chain.partial_jacobian, probes=2),
    "lyapunov": partial(chain.lyapunov, leading=2),
    "alignment": partial(chain.alignment, leading=2),
    "end_to_end": partial(chain.end_to_end, starts=(0, 1), leading=3),
    "spectrum": partial(spectrum.spectrum, factors=FACTORS),
}
further = pytest.mark.further


def rows(usual, *others):
    """Values of a parameter, of which all but the first are tried in full runs alone."""
    return [usual, *(pytest.param(value, marks=further) for value in others)]


# ---- gradflow's own models, as programs -------------------------------------------------------------------------


def check_reading(model, params, name):
    """A reading of the model is that of its loss as anybody's program; the error of an estimate may be rounding alone."""
    batch = cases.batch()
    (of,), examples = stacks(partial(bare_loss, model), params, batch)
    reading = READINGS[name]
    expected = jit(partial(reading, model))(params, batch)
    found = jit(partial(reading, of))(params, examples)
    for quantity, array in expected.items():
        scale = np.nanmax(np.abs(array), initial=1e-30)
        if quantity.endswith("_sem"):
            scale = max(scale, 1.0)
        np.testing.assert_allclose(found[quantity], array, rtol=0, atol=1e-10 * scale, err_msg=quantity)


@pytest.mark.parametrize("name", rows("lyapunov", "partial_jacobian", "alignment", "end_to_end", "spectrum"))
@pytest.mark.parametrize("wiring", rows("post", "pre", "everything", "keel", "rezero", "dynamic"))
def test_a_reading_of_a_models_program_is_that_of_the_model(wiring, name):
    own = cases.ALL[wiring](*([] if wiring == "rezero" else [LayerNorm()]))
    model = cases.model(own, 2, cases.TWO)
    check_reading(model, cases.drawn(model), name)


@further
@pytest.mark.parametrize("name", ["gpt2", "llama2-7b"])
def test_a_reading_of_a_small_architectures_program_is_that_of_its_model(name):
    small = replace(ZOO[name], width=8, heads=2, depth=2, hidden=16, vocabulary=cases.VOCABULARY, context=cases.TOKENS)
    model = small.model()
    params = cases.drawn(model)
    for reading in READINGS:
        check_reading(model, params, reading)


# ---- steps written by hand --------------------------------------------------------------------------------------


@cache
def prepared(name):
    """A program in float64, its one trunk as a model, and the batch as instruments read it."""
    program = PROGRAMS[name]()
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), program.params)
    (of,), examples = stacks(program.loss, params, program.batch)
    return program, params, of, examples


def layer(stacked, number):
    """One layer's arrays, of all layers' stacked."""
    return jax.tree.map(lambda leaf: leaf[number], stacked)


def of_scan_attention_alone(params, x):
    return attention_alone(x[None], layer(params["layers"], 1))[0][0]


def of_scan_blocks(params, x):
    return block(x[None], layer(params["layers"], 1))[0][0]


def of_equinox_loop(params, x):
    static = PROGRAMS["equinox_loop"]().module
    return eqx.combine(params, static).blocks[1](x)


def of_gpt2(state, x):
    definition, _ = nnx.split(PROGRAMS["gpt2"]().module)
    mask = nnx.make_causal_mask(jnp.zeros((1, len(x))))
    return nnx.merge(definition, state).blocks[1](x[None], mask, None)[0]


def of_lm1b_pre(params, x):
    return PreBlock().apply({"params": layer(params["blocks"], 1)}, x[None])[0][0]


# The second block, how many sublayers it has, and the rounding: NNX's embedding and what is made of it stay in float32.
BY_HAND = {
    "scan_attention_alone": (of_scan_attention_alone, 1, 1e-10),
    "scan_blocks": (of_scan_blocks, 2, 1e-10),
    "equinox_loop": (of_equinox_loop, 2, 1e-10),
    "gpt2": (of_gpt2, 2, 1e-6),
    "lm1b_pre": (of_lm1b_pre, 2, 1e-10),
}


@pytest.mark.parametrize("name", rows(*BY_HAND))
def test_steps_have_the_jacobian_of_the_users_own_block(name):
    """At the stream that the program itself has there: the product of its steps' matrices is the block's."""
    _, params, of, examples = prepared(name)
    by_hand, sublayers, rounding = BY_HAND[name]

    @jit
    def both(params, inputs):
        used, bottom = at_bottom(of, params, inputs)
        _, streams = walk(of.stack, used["stack"], bottom, reporting_inputs)
        below, above = streams[sublayers], streams[2 * sublayers]
        product = jnp.eye(below.size)
        for position in range(sublayers, 2 * sublayers):
            product = jacobians.at_sublayer(of, params, inputs, position)["sublayer"] @ product
        own = partial(by_hand, params)
        return product, jax.jacobian(own)(below).reshape(product.shape), above, own(below)

    found, expected, above, own_above = both(params, first(examples["inputs"]))
    np.testing.assert_allclose(above, own_above, rtol=0, atol=rounding * np.abs(own_above).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding * np.abs(expected).max())


# ---- identities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", rows("scan_attention_alone", "scan_two_blocks", "plain_custom_vjp", "lanes", "resnet"))
def test_steps_one_after_the_other_are_the_program(name):
    """The loss of one example, and the gradient at the bottom that reverse mode and forward mode take through all steps."""
    program, params, of, examples = prepared(name)

    @jit
    def run(params, inputs):
        used, bottom = at_bottom(of, params, inputs)

        def loss(x):
            top, _ = walk(of.stack, used["stack"], x)
            return of.loss(used, top, None)

        tangent = jax.random.normal(jax.random.key(0), bottom.shape)
        _, pushed = jax.jvp(loss, (bottom,), (tangent,))
        return loss(bottom), pushed, jnp.vdot(tangent, jax.grad(loss)(bottom))

    found, pushed, pulled = run(params, first(examples["inputs"]))
    expected = program.loss(params, of.batch.first(program.batch))
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # the programs' cross-entropy is in float32
    np.testing.assert_allclose(pushed, pulled, rtol=1e-5)


def test_turns_of_a_loop_are_one_sublayer_that_repeats():
    _, _, of, _ = prepared("scan_attention_alone")
    assert [(len(segment.block), segment.repeats) for segment in of.stack.segments] == [(1, 4)]


@further
@pytest.mark.parametrize(
    ("name", "runs"),
    [("plain_loop", [(2, 3)]), ("scan_two_blocks", [(2, 4)]), ("lm1b_dropout", [(2, 3)]), ("gptj", [(1, 3)])],
)
def test_layers_that_read_alike_are_compiled_once(name, runs):
    _, _, of, _ = prepared(name)
    assert [(len(segment.block), segment.repeats) for segment in of.stack.segments] == runs


# ---- what is seen of a part -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "coupled"),
    [
        (jnp.tanh, False),
        (partial(jnp.cumsum, axis=0), True),
        (lambda x: x.at[3].add(x[0]), True),
        (jnp.zeros_like, False),
    ],
)
def test_a_part_couples_tokens_where_one_moves_another(function, coupled):
    x = cases.normal(5, 4)
    _, push = jax.linearize(function, x)
    assert bool(held.couples_tokens(push, x)) == coupled


@pytest.mark.parametrize(
    ("norm", "expected"), [(LayerNorm(), (True, False)), (RMSNorm(), (False, True)), (DyT(), (False, False))]
)
def test_a_norm_is_known_by_what_it_does(norm, expected):
    x = cases.normal(5, 8)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.arange(1.0, 1.0 + leaf.size).reshape(leaf.shape), norm.init(0, 8)
    )
    assert tuple(map(bool, held.norms(partial(norm, params), x))) == expected


def test_a_derivative_given_as_a_pull_is_pushed_as_its_transpose():
    """Here one that is not the function's own: twice the derivative of a sine."""

    @jax.custom_vjp
    def f(w, x):
        return jnp.sin(w @ x)

    f.defvjp(lambda w, x: (f(w, x), (w, x)), lambda kept, g: (None, 2 * kept[0].T @ (g * jnp.cos(kept[0] @ kept[1]))))
    w, x, v = cases.normal(3, 4), cases.normal(4, seed=1), cases.normal(4, seed=2)
    y, pushed = jax.jvp(pushable(partial(f, w)), (x,), (v,))
    np.testing.assert_allclose(y, np.sin(w @ x))
    np.testing.assert_allclose(pushed, 2 * np.cos(w @ x) * (w @ v))
    np.testing.assert_allclose(jax.jacrev(pushable(partial(f, w)))(x) @ v, pushed)


# ---- one example ------------------------------------------------------------------------------------------------


def residual_loss(normalize):
    """Two residual layers of vectors around a normalization, for a batch of them."""

    def loss(params, batch):
        x = batch["inputs"] @ params["in"]
        for w in params["layers"]:
            x = x + jnp.tanh(normalize(x) @ w)
        return jnp.mean((x - batch["targets"]) ** 2)

    params = {"in": cases.normal(4, 6), "layers": [cases.normal(6, 6, seed=seed) for seed in (1, 2)]}
    return loss, params


def over(axes):
    return lambda x: (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)


def test_examples_that_interact_are_refused():
    loss, params = residual_loss(over((0, 1)))
    batch = {"inputs": cases.normal(3, 5, 4), "targets": cases.normal(3, 5, 6)}
    with pytest.raises(ValueError, match="examples interact"):
        stacks(loss, params, batch)
    (of,), examples = stacks(loss, params, jax.tree.map(lambda leaf: leaf[:1], batch))
    assert of.enter(params, first(examples["inputs"])).shape == (5, 6)


def test_rows_that_interact_are_the_tokens_of_one_example():
    loss, params = residual_loss(over(0))
    batch = {"inputs": cases.normal(5, 4), "targets": cases.normal(5, 6)}
    (of,), examples = stacks(loss, params, batch)
    assert of.enter(params, first(examples["inputs"])).shape == (5, 6)


def test_rows_that_do_not_are_examples():
    loss, params = residual_loss(over(-1))
    batch = {"inputs": cases.normal(5, 4), "targets": cases.normal(5, 6)}
    (of,), examples = stacks(loss, params, batch)
    assert of.enter(params, first(examples["inputs"])).shape == (6,)
    gains = jit(partial(chain.partial_jacobian, of))(params, examples)["partial_jacobian"]
    assert gains.shape == (3, 2)


@further
def test_a_norm_over_the_batch_is_refused():
    program = PROGRAMS["resnet_stages"]()
    with pytest.raises(ValueError, match="examples interact"):
        stacks(program.loss, program.params, program.batch)
