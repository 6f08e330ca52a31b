"""The programs and mutants in which a trunk is looked for: each runs, can be differentiated, and is what it says it is."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs.models import MISTAKES, MUTANTS, PROGRAMS, RIGHT, Program, fresh, marked_lines

CHANGED = 5  # the place of the token that is changed to see which logits it moves
FEW = {"lm1b_post", "nnx_scan", "equinox_scan"}
FEW_MUTANTS = {"plain/no_causal_mask/layer_1"}


def rows(names, few):
    return [pytest.param(name, marks=() if name in few else pytest.mark.further) for name in names]


def changed(batch):
    """The batch with one input changed, in every row, to the next token."""
    tokens = batch["inputs"].at[:, CHANGED].add(1) % 32
    return batch | {"inputs": tokens}


def moved_by_one_token(program: Program, logits, others) -> list[int]:
    """The places at which the logits of the first row are not the same."""
    moved = np.abs(np.asarray(logits - others))[0].max(axis=-1) > 0
    return np.flatnonzero(moved).tolist()


def check_causality(program: Program, logits, others):
    """A token moves the logits of its own place, and of later ones alone where the program is causal."""
    moved = moved_by_one_token(program, logits, others)
    assert CHANGED in moved
    assert (min(moved) == CHANGED) == program.causal


def unused(gradients) -> list[str]:
    """Names of parameters whose gradient is zero throughout."""
    named = jax.tree_util.tree_leaves_with_path(gradients)
    return [jax.tree_util.keystr(path) for path, leaf in named if not np.any(leaf)]


def lines_of(jaxpr) -> set[tuple[str, int]]:
    """Every line of code that an equation of the program, or of programs within it, was traced from."""
    found = set()
    for eqn in jaxpr.eqns:
        found.update((frame.file_name, frame.line_num) for frame in eqn.source_info.traceback.frames)
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=has_equations):
            if has_equations(inner):
                found |= lines_of(getattr(inner, "jaxpr", inner))
    return found


def has_equations(value) -> bool:
    return hasattr(value, "eqns")


@pytest.mark.parametrize("name", rows(PROGRAMS, FEW))
def test_a_program_runs_and_is_as_causal_as_it_says(name):
    program = PROGRAMS[name]()
    assert program.name == name

    @jax.jit
    def run(params, batch):
        loss, gradients = jax.value_and_grad(program.loss)(params, batch)
        logits = program.logits(params, batch)
        others = program.logits(params, changed(batch)) if program.causal is not None else logits
        return loss, gradients, logits, others

    loss, gradients, logits, others = run(program.params, program.batch)
    assert loss.shape == ()
    assert loss.dtype == logits.dtype == jnp.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, gradients, logits)))
    if name != "rezero_start":
        assert unused(gradients) == []
    if program.causal is not None:
        assert logits.shape == (*program.batch["inputs"].shape, 32)
        check_causality(program, logits, others)


@pytest.mark.parametrize("name", rows(PROGRAMS, FEW))
def test_marked_lines_are_lines_of_the_traced_program(name):
    program = PROGRAMS[name]()
    marked = marked_lines(*program.source)
    assert bool(marked) == (program.wiring is not None)
    traced = lines_of(jax.make_jaxpr(program.loss)(program.params, program.batch).jaxpr)
    assert set(marked) <= traced


@cache
def right_logits(framework):
    program = RIGHT[framework]()
    logits = jax.jit(program.logits)
    return logits(program.params, program.batch), logits(program.params, changed(program.batch))


@pytest.mark.parametrize("framework", ["plain", *rows(["linen", "nnx", "equinox"], set())])
def test_the_right_decoders_are_causal(framework):
    check_causality(RIGHT[framework](), *right_logits(framework))


@pytest.mark.parametrize("name", rows(MUTANTS, FEW_MUTANTS))
def test_a_mutant_is_not_the_right_program_and_its_mistake_is_marked(name):
    framework, mistake, *_ = name.split("/")
    mutant = MUTANTS[name]()
    program = mutant.program
    assert (program.name, mutant.mistake) == (name, mistake)
    traced = lines_of(jax.make_jaxpr(program.loss)(program.params, program.batch).jaxpr)
    assert mutant.lines
    assert set(mutant.lines) | set(marked_lines(*program.source)) <= traced

    loss, gradients = jax.eval_shape(jax.value_and_grad(program.loss), program.params, program.batch)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, program.params)
    logits = jax.jit(program.logits)
    found, others = logits(program.params, program.batch), logits(program.params, changed(program.batch))
    assert np.isfinite(found).all()
    assert loss.dtype == found.dtype == jnp.float32
    check_causality(program, found, others)
    assert np.any(found != right_logits(framework)[0])
    if mistake == "heads_for_tokens" and mutant.only_layer is None:
        assert moved_by_one_token(program, found, others) == [CHANGED]


def test_every_mistake_is_made_in_every_framework():
    """In all layers, and in one of them where the mistake is a layer's."""
    for framework in RIGHT:
        for mistake in MISTAKES:
            assert f"{framework}/{mistake}" in MUTANTS
            assert (f"{framework}/{mistake}/layer_1" in MUTANTS) == (mistake != "no_final_norm")


def test_fresh_parameters_have_gains_of_one_and_no_biases():
    layer = fresh(PROGRAMS["plain_loop"]().params)["layers"][0]
    assert np.all(layer["norm1"]["scale"] == 1)
    assert np.all(layer["norm1"]["bias"] == 0)
    assert np.all(layer["up_bias"] == 0)
    np.testing.assert_array_equal(layer["up"], PROGRAMS["plain_loop"]().params["layers"][0]["up"])
