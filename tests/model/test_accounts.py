"""The budget adds up, at every depth; and every entry of it against a backward pass by dense matrices in numpy."""

from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import over_wirings

from gradflow.instruments.meters.meter import metered
from gradflow.model.equation.budget import METERED, budget, split
from gradflow.model.equation.sublayer import walk
from gradflow.results.quantities import FACTORS, TERMS

EXACT = 1e-10


@cache
def meters(wiring):
    """Per depth: the squared norms that the meters read under the loss `⟨c, x_S⟩`, and ∂loss/∂x_0."""
    model, params, x = cases.deepest(wiring)
    size = max(cases.DEPTHS) * len(cases.branches_of(wiring))
    dials = {name: jnp.zeros(size) for name in ("stream", *METERED)}
    c = cases.normal(*x.shape, seed=3)

    def loss(dials, x, params, top):
        see = lambda x, parts, d: (y := metered(x, parts, d)[0], y)
        streams = walk(model.stack, params, x, see, dials)[1]
        return jnp.vdot(c, streams[top - 1])  # a shallower stack is the bottom of a deeper one

    read = cases.jit(jax.grad(loss, (0, 1)))
    tops = {depth: depth * len(cases.branches_of(wiring)) for depth in cases.DEPTHS}
    found = {depth: jax.device_get(read(dials, x, params["stack"], top)) for depth, top in tops.items()}
    return {depth: ({k: v[: tops[depth]] for k, v in squares.items()}, g) for depth, (squares, g) in found.items()}, c


def read_budget(wiring, depth):
    """`(log-gains [S, factor], shares [S, term], ∂loss/∂x_0, ∂loss/∂x_S)` from the meters."""
    found, c = meters(wiring)
    squares, g = found[depth]
    above = np.append(squares["stream"][1:], np.vdot(c, c))
    return np.asarray(budget(squares, above)), np.asarray(split(squares)), g, np.asarray(c)


@over_wirings
def test_norm_out_and_fork_add_up_to_the_end_to_end_gain(wiring):
    for depth in cases.DEPTHS:
        gains, _, bottom, top = read_budget(wiring, depth)
        total = np.log(np.linalg.norm(bottom) / np.linalg.norm(top))
        on_path = gains[:, [FACTORS.index("norm_out"), FACTORS.index("fork")]]
        assert len(gains) == depth * len(cases.branches_of(wiring))
        assert abs(on_path.sum() - total) < EXACT * max(1, abs(on_path).sum())


def by_matrices(wiring, depth):
    """Log-gains and shares of the same backward pass, sublayer by sublayer, by dense Jacobians of the parts."""
    J = cases.dense(wiring)
    g = np.asarray(meters(wiring)[1]).ravel()
    size = np.linalg.norm
    gains, shares = [], []
    for l in reversed(range(depth * len(cases.branches_of(wiring)))):
        part = {name: J[name][l] for name in J}
        u = part["norm_out"].T @ g
        skip, factors = part["skip"].T @ u, {"norm_out": np.log(size(u) / size(g))}
        arm = u
        for name in ("write", "norm_branch", "branch", "norm_in", "read"):
            before, arm = arm, part[name].T @ arm
            factors[name] = np.log(size(arm) / size(before))
        path = part["gains_term"].T @ u
        below = skip + arm + path
        factors["fork"] = np.log(size(below) / size(u))
        factors["gains"] = np.log(size(path) / size(u)) if path.any() else np.nan
        terms = {"skip": skip @ skip, "branch": arm @ arm, "gains": path @ path}
        terms["interference"] = 2 * (skip @ arm + skip @ path + arm @ path)
        gains.append([factors[name] for name in FACTORS])
        shares.append([terms[name] / (below @ below) for name in TERMS])
        g = below
    return np.array(gains[::-1]), np.array(shares[::-1]), g


@over_wirings
def test_every_log_gain_equals_that_of_dense_jacobians(wiring):
    for depth in cases.DEPTHS:
        gains, _, bottom, _ = read_budget(wiring, depth)
        slow, _, slow_bottom = by_matrices(wiring, depth)
        np.testing.assert_allclose(bottom.ravel(), slow_bottom, rtol=0, atol=EXACT * np.linalg.norm(slow_bottom))
        np.testing.assert_allclose(gains, slow, rtol=0, atol=EXACT)


@over_wirings
def test_the_interference_is_twice_the_inner_products_of_the_arms(wiring):
    for depth in cases.DEPTHS:
        _, shares, _, _ = read_budget(wiring, depth)
        _, slow, _ = by_matrices(wiring, depth)
        np.testing.assert_allclose(shares, slow, rtol=EXACT, atol=EXACT)
        np.testing.assert_allclose(slow.sum(-1), 1, rtol=EXACT)


@over_wirings
def test_what_one_backward_pass_reads_adds_up_under_a_real_loss(wiring):
    """From the embedding to what is read out: the stack's budget plus the gain of the final norm."""
    reading = cases.read(wiring)["reading"]
    on_path = reading["budget"][:, [FACTORS.index("norm_out"), FACTORS.index("fork")]].sum()
    total = np.log(reading["stream_gradient"][0] / reading["readout_gradient"])
    assert on_path + reading["leave_gain"] == pytest.approx(total, abs=EXACT)
    np.testing.assert_allclose(reading["split"].sum(-1), 1, rtol=EXACT)


@pytest.mark.parametrize("name", ["pre", "post"])
def test_an_absent_part_has_no_gain(name):
    reading = cases.read(cases.ALL[name](cases.NORMS["layernorm"]))["reading"]["budget"]
    absent = {"pre": ("norm_out", "write", "norm_branch", "read"), "post": ("write", "norm_branch", "norm_in", "read")}
    columns, gains = [FACTORS.index(factor) for factor in absent[name]], FACTORS.index("gains")
    assert abs(reading[:, columns]).max() < 1e-14
    assert np.isnan(reading[:, gains]).all()
    assert abs(np.delete(reading, [*columns, gains], axis=1)).min() > 1e-6
