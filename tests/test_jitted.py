"""Functions compiled for as long as their programs run: which way follows from the operations; the numbers are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow import compiler
from gradflow.compiling.jitted import WRITTEN, for_few_calls, for_many_calls, runs_once
from gradflow.compiling.operations import Operations, decomposes_stacks
from gradflow.model.numerics.threads import side_by_side

X = jnp.linspace(-1.0, 1.0, 24).reshape(4, 6)


def normed(power: int, x):
    """A norm's and a product's sums, whose rounding depends on how they are compiled."""
    return (x / jnp.sqrt(jnp.mean(x**power, -1, keepdims=True))) @ x.T


@pytest.fixture
def undecided(monkeypatch):
    """As a user has it: nobody decided how programs are compiled."""
    monkeypatch.setenv("XLA_FLAGS", "")


def test_a_small_program_is_compiled_to_run_once_and_a_large_one_to_run_often():
    assert runs_once(Operations(1e12, 0.9 * WRITTEN, 1))
    assert not runs_once(Operations(0.0, 1.1 * WRITTEN, 1))


@pytest.mark.parametrize("kind", [for_few_calls, for_many_calls])
def test_numbers_are_those_of_jax_to_rounding(kind, undecided):
    found = kind(0)(lambda power, x: normed(power, x))
    np.testing.assert_allclose(found(2, X), normed(2, X), rtol=1e-14)
    assert found.programs() == 1
    found(2, X + 1)
    assert found.programs() == 1
    found(4, X)
    assert found.programs() == 2


@pytest.mark.parametrize("kind", [for_few_calls, for_many_calls])
def test_inside_of_another_program_it_is_part_of_that_one(kind, undecided):
    found = kind(0)(lambda power, x: normed(power, x))  # of its own: jits of one function share their programs
    outside = jax.jit(lambda x: found(2, x).sum())
    np.testing.assert_allclose(outside(X), normed(2, X).sum(), rtol=1e-14)
    assert jax.eval_shape(lambda x: found(2, x), X).shape == (4, 4)
    assert found.programs() == 0


def test_what_is_lowered_ahead_is_what_a_call_runs(undecided):
    few = for_few_calls(0)(normed)
    ahead = few.lower(2, jax.ShapeDtypeStruct(X.shape, X.dtype)).compile()
    np.testing.assert_array_equal(ahead(X), few(2, X))


def test_a_method_is_bound_to_its_object():
    class Scale:
        factor = 3.0

        @for_many_calls(0)
        def __call__(self, x):
            return self.factor * x

    np.testing.assert_array_equal(Scale()(X), 3 * X)


def test_sums_without_optimization_are_the_tree_of_the_rewriter():
    """One after the other they would lose digits that the other programs have."""
    assert "xla_disable_hlo_passes" not in compiler.ONCE


# ---- several threads ----------------------------------------------------------------------------------------

STACK = jnp.eye(6) + jnp.linspace(0.0, 0.1, 36).reshape(6, 6)
DECOMPOSE = {
    "stacks": lambda x: jax.vmap(jnp.linalg.solve)(x, x),
    "stacks, in a loop": lambda x: jax.lax.scan(lambda y, _: (jnp.linalg.cholesky(y @ y.mT), None), x, None, 2)[0],
    "one matrix": lambda x: jax.lax.map(jnp.linalg.inv, x),
    "nothing": lambda x: x @ x,
}


@pytest.mark.parametrize("what", DECOMPOSE)
def test_programs_that_decompose_stacks_of_matrices_are_known(what):
    traced = jax.jit(DECOMPOSE[what]).trace(jnp.stack([STACK, STACK]))
    assert decomposes_stacks(traced.jaxpr) == ("stacks" in what)


def test_two_threads_decompose_stacks_one_after_the_other():
    """Side by side they never end, as of jaxlib 0.10.2."""
    solved = for_many_calls()(DECOMPOSE["stacks"])
    stack = jnp.broadcast_to(STACK, (2048, 6, 6))
    for found in side_by_side(None, solved, [stack] * 8):
        np.testing.assert_allclose(found, jnp.broadcast_to(jnp.eye(6), stack.shape), atol=1e-12)
