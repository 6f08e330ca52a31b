"""Branches of several inputs, whose queries, keys and values are read apart: identities, and the published formulas by loops.

Parts of different sublayers have different shapes, so that they are looked at one by one, and not in the one table of wirings.
"""

import cases
import jax
import numpy as np
import pytest
import reference

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.model.equation.sublayer import gains_map, linearized, residual, terms, walk
from gradflow.model.layers.norms import RMSNorm
from gradflow.model.wirings.catalogue import PLACEMENTS
from gradflow.results.quantities import FACTORS

STATIC = "value_residual"  # whose gains don't read the stream
NAMES = ["muddformer", *(pytest.param(name, marks=pytest.mark.further) for name in ("deep_cross_attention", STATIC))]
EXACT = 1e-12
over_names = pytest.mark.parametrize("name", NAMES)


def made(name: str):
    """A model of three blocks, and its weights, none at its start."""
    small = cases.model(PLACEMENTS[name](RMSNorm()), 3, cases.TWO)
    return small, cases.drawn(small)


@over_names
def test_the_walk_equals_the_published_formulas_and_terms_the_jvp(name):
    model, params = made(name)
    x = model.enter(params, cases.batch()["inputs"][0])
    slow = reference.stream(model, params, reference.embedded(model, params, cases.batch()["inputs"][0]))
    np.testing.assert_allclose(walk(model.stack, params["stack"], x)[0], slow[-1], rtol=1e-11, atol=1e-13)
    position = 2  # attention of the second block
    parts, dx = model.stack.parts_at(params["stack"], position), cases.normal(*x.shape, seed=1)

    @cases.jit
    def first_order(x):
        y, maps = linearized(parts, x)
        three = terms(maps, gains_map(parts, x), dx)
        return y, three, jax.jvp(lambda x: residual(x, parts), (x,), (dx,))

    y, (skip, branch, gains), (value, jvp) = first_order(slow[position])
    assert cases.distance(y, slow[position + 1]) < EXACT
    assert cases.distance(value, y) < EXACT
    assert cases.distance(skip + branch + gains, jvp) < EXACT
    there = (skip, branch) if name == STATIC else (skip, branch, gains)
    assert min(np.linalg.norm(term) for term in there) > 1e-6


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
    with pytest.raises(NotImplementedError, match="value_residual|values that are mixed|no theory"):
        gf.predict({"m": made(STATIC)[0]}, cases.batch())


@over_names
def test_the_backward_pass_is_that_of_loops_and_the_budget_adds_up(name):
    model, params = made(name)
    batch = cases.batch()
    grads, read = jax.device_get(cases.jit(lambda p, b: gradients.backward(model, p, b))(params, batch))
    slow = reference.backward(model, params, batch)
    assert read["loss"] == pytest.approx(np.mean([loss for loss, _ in slow]), rel=EXACT)
    mean = jax.tree.map(lambda *a: sum(a) / len(a), *[own for _, (own, _, _) in slow])
    errors = cases.distances(grads, mean)
    zero = {path for path, leaf in jax.tree_util.tree_leaves_with_path(mean) if np.linalg.norm(leaf) < 1e-14}
    assert {path for path, error in errors.items() if not error < 1e-11} <= {jax.tree_util.keystr(p) for p in zero}
    on_path = read["budget"][:, [FACTORS.index("norm_out"), FACTORS.index("fork")]].sum()
    total = np.log(read["stream_gradient"][0] / read["readout_gradient"])
    assert on_path + read["leave_gain"] == pytest.approx(total, abs=1e-10)
    np.testing.assert_allclose(read["split"].sum(-1), 1, rtol=1e-10)
