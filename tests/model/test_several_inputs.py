"""Branches of several inputs, whose queries, keys and values are read apart: what the table of wirings does not ask.

The identities, and the published formulas by loops, are tried by the rows of that table.
"""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import gradflow as gf
from gradflow.instruments.jacobians import jacobians
from gradflow.instruments.jacobians.matrices import singular_values
from gradflow.instruments.jacobians.operators import operators
from gradflow.instruments.jacobians.spaces import everything
from gradflow.instruments.meters.visits import with_params
from gradflow.model.equation.sublayer import bind, walk
from gradflow.model.layers.norms import RMSNorm
from gradflow.model.wirings.catalogue import PLACEMENTS
from gradflow.results.quantities import JACOBIANS

STATIC = "value_residual"  # whose gains don't read the stream
NAMES = [STATIC, *(pytest.param(name, marks=pytest.mark.further) for name in ("muddformer", "deep_cross_attention"))]


def made(name: str):
    """A model of three blocks, and its weights, none at its start."""
    small = cases.model(PLACEMENTS[name](RMSNorm(1e-13)), 3, cases.TWO)  # eps → 0: what a norm takes is gone
    return small, cases.drawn(small)


def between(matrix, op):
    """A dense matrix from the domain of an operator to its range."""

    def within(columns, shape, space):
        return jax.vmap(lambda column: space.project(column.reshape(shape)).ravel(), 1, 1)(columns)

    onto_domain = within(jnp.eye(op.size), op.like.shape, op.domain)
    return within(matrix @ onto_domain, jax.eval_shape(op.push, op.like).shape, op.range)


@pytest.mark.parametrize("name", NAMES)
def test_spectra_of_all_factors_are_those_of_dense_matrices(name):
    """Of attention, whose norm and branch have several inputs, and of the feed-forward part, on the spaces where they act."""
    model, params = made(name)
    x = model.enter(params, cases.batch()["inputs"][0])

    def spectrum(values):
        ordered = jnp.sort(values.ravel(), descending=True)
        return jnp.pad(ordered, (0, x.size))[: x.size]

    def visit(carry, own, _):
        y, space, ops = operators(*own, *carry)
        found = {factor: spectrum(values) for factor, values in singular_values(ops).items()}
        dense = jacobians.matrices(bind(*own), carry[0])
        exact = {}
        for factor, op in ops.items():
            exact[factor] = spectrum(jnp.linalg.svd(between(dense[factor], op), compute_uv=False))
        return (y, space), (found, exact, {factor: jnp.asarray(op.rank) for factor, op in ops.items()})

    run = cases.jit(lambda p, x: walk(model.stack, p, (x, everything(x)), visit, bind=with_params)[1])
    found, exact, ranks = jax.device_get(run(params["stack"], x))
    for factor in JACOBIANS:
        np.testing.assert_allclose(found[factor], exact[factor], rtol=1e-9, atol=1e-9 * exact[factor].max())
        assert (found[factor][:, ranks[factor].max() :] < 1e-9).all()
    free, normed = cases.TOKENS * cases.WIDTH, cases.TOKENS * (cases.WIDTH - 1)
    of_attention = normed + free if name == STATIC else 3 * normed  # a norm of each input, or of the first of two
    assert ranks["norm_in"][2:4].tolist() == [of_attention, normed]


@pytest.mark.further
def test_values_of_the_first_block_reach_all_later_ones():
    """They stay on their lane, and a change of them changes what every later attention reads."""
    model, params = made(STATIC)
    x = model.enter(params, cases.batch()["inputs"][0])
    streams = reference.stream(model, params, x)
    for later in streams[2:]:
        np.testing.assert_array_equal(later[1], streams[1][1])
    assert not np.asarray(x[1]).any()
    attention = model.stack.parts_at(params["stack"], 2)["branch"]
    moved = attention(streams[2].at[1].add(0.1))[0] - attention(streams[2])[0]
    assert np.abs(moved).max() > 1e-3


def test_values_that_do_not_fit_on_a_lane_are_refused_and_so_is_their_theory():
    with pytest.raises(ValueError, match="values of 16 features don't fit on a lane of 8: take fewer kv_heads"):
        gf.transformer(STATIC, depth=1, width=8, attention=gf.branches.Attention(2, head=8))
    with pytest.raises(NotImplementedError, match="no theory for values that are mixed with those of another block"):
        gf.predict({"m": made(STATIC)[0]}, cases.batch())


def test_theory_of_inputs_that_are_read_apart_is_refused():
    with pytest.raises(
        NotImplementedError, match="no theory for a branch whose queries, keys and values are read apart"
    ):
        gf.predict({"m": made("muddformer")[0]}, cases.batch())
