"""Equation (1) on arrays and on linear maps, the walk over depth, and the budget, in float64.

The budget adds up at every depth; and every entry of it is compared with a backward pass by dense matrices in numpy.
"""

import re
from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import distance, over_wirings

from gradflow.instruments.meters.meter import metered
from gradflow.model.equation.budget import METERED, budget, split
from gradflow.model.equation.sublayer import (
    PARTS,
    bind,
    decorated,
    forked,
    forward,
    gains_map,
    linearized,
    products,
    recorded,
    residual,
    sublayer,
    terms,
    walk,
)
from gradflow.model.stacks.stack import Segment, Stack, Sublayer
from gradflow.model.wirings.wiring import post, pre
from gradflow.results.quantities import FACTORS, TERMS

EXACT = 1e-12
ADDS_UP = 1e-10  # logs of norms, summed over a stack


@cache
def first_order(wiring):
    """What equation (1) makes of arrays and of linear maps, at every sublayer of the deepest stack; each [S, …]."""
    model, params, x = cases.deepest(wiring)
    dx, w = cases.normal(*x.shape, seed=1), cases.normal(*x.shape, seed=2)

    def visit(x, parts, _):
        y, maps = linearized(parts, x)
        gains = gains_map(parts, x)
        jvp = jax.jvp(lambda x: residual(x, parts), (x,), (dx,))
        fork = forked(parts, maps, x)
        (adjoint,) = jax.linear_transpose(lambda t: maps["norm_out"](fork(t)), x)(w)
        three = dict(zip(("skip", "branch", "gains"), terms(maps, gains, dx), strict=True))
        return y, {"y": y, "jvp": jvp, **three, "adjoint": adjoint, "dx": dx, "w": w}

    return jax.device_get(cases.jit(lambda p, x: walk(model.stack, p, x, visit)[1])(params["stack"], x))


def per_sublayer(a, b):
    """`distance` at each sublayer [S]."""
    return np.array([distance(*pair) for pair in zip(a, b, strict=True)])


@over_wirings
def test_skip_plus_branch_plus_gains_equals_the_jvp(wiring):
    found = first_order(wiring)
    value, jvp = found["jvp"]
    errors = per_sublayer(found["skip"] + found["branch"] + found["gains"], jvp)
    assert errors.shape == (max(cases.DEPTHS) * len(cases.branches_of(wiring)),)
    assert errors.max() < EXACT
    assert per_sublayer(found["y"], value).max() < EXACT


@over_wirings
def test_each_term_is_the_path_through_its_own_parts(wiring):
    found, J = first_order(wiring), cases.dense(wiring)
    push = lambda matrix: np.einsum("sij,sj->si", matrix, found["dx"].reshape(len(matrix), -1))
    flat = lambda term: term.reshape(len(term), -1)
    assert per_sublayer(push(J["norm_out"] @ J["skip"]), flat(found["skip"])).max() < EXACT
    through = J["norm_out"] @ J["write"] @ J["norm_branch"] @ J["branch"] @ J["norm_in"] @ J["read"]
    assert per_sublayer(push(through), flat(found["branch"])).max() < EXACT
    gains, size = push(J["norm_out"] @ J["gains_term"]), np.linalg.norm(found["gains"])
    np.testing.assert_allclose(gains, flat(found["gains"]), rtol=0, atol=EXACT * size)


@over_wirings
def test_the_transposed_maps_are_the_adjoint(wiring):
    found = first_order(wiring)
    inner = lambda a, b: np.array([np.vdot(*pair) for pair in zip(a, b, strict=True)])
    norms = lambda a: np.sqrt(inner(a, a))
    _, jvp = found["jvp"]
    left, right = inner(jvp, found["w"]), inner(found["dx"], found["adjoint"])
    assert (abs(left - right) < EXACT * norms(jvp) * norms(found["w"])).all()


@over_wirings
def test_the_product_of_sublayer_jacobians_is_the_jacobian_of_the_stack(wiring):
    model, params, x = cases.deepest(wiring)
    tops = np.array(cases.DEPTHS) * len(cases.branches_of(wiring))
    see = lambda x, parts, _: (y := residual(x, parts), y)
    streams = lambda x, p: walk(model.stack, p, x, see)[1][tops - 1]  # a shallower stack is the bottom of a deeper one
    wholes = np.asarray(cases.jit(jax.jacrev(streams))(x, params["stack"])).reshape(-1, x.size, x.size)
    product = np.eye(x.size)
    for position, matrix in enumerate(cases.dense(wiring)["sublayer"], start=1):
        product = matrix @ product
        if position in tops:
            assert distance(product, wholes[list(tops).index(position)]) < EXACT


def eye_like(matrix):
    return np.eye(matrix.shape[-1])


FORMULAS = {
    "pre": lambda J: eye_like(J["norm_in"]) + J["branch"] @ J["norm_in"],
    "post": lambda J: J["norm_out"] @ (eye_like(J["branch"]) + J["branch"]),
    "res_post": lambda J: eye_like(J["branch"]) + J["norm_branch"] @ J["branch"],
    "sandwich": lambda J: eye_like(J["branch"]) + J["norm_branch"] @ J["branch"] @ J["norm_in"],
    "none": lambda J: eye_like(J["branch"]) + J["branch"],
    "keel": lambda J: J["norm_out"] @ (2 * max(cases.DEPTHS) * eye_like(J["branch"]) + J["branch"] @ J["norm_in"]),
    "deepnorm": lambda J: J["norm_out"] @ ((2 * max(cases.DEPTHS)) ** 0.25 * eye_like(J["branch"]) + J["branch"]),
}


@over_wirings
def test_a_sublayer_jacobian_has_the_form_of_its_wiring(wiring):
    J = cases.dense(wiring)
    through = J["write"] @ J["norm_branch"] @ J["branch"] @ J["norm_in"] @ J["read"]
    assert distance(through, J["branch_term"]) < EXACT
    assert distance(J["skip"], J["skip_term"]) < EXACT
    assert distance(J["skip"] + through + J["gains_term"], J["fork"]) < EXACT
    assert distance(J["norm_out"] @ J["fork"], J["sublayer"]) < EXACT
    assert J["gains_term"].any() == (wiring.name in cases.READING)
    if wiring.name in FORMULAS:
        assert distance(FORMULAS[wiring.name](J), J["sublayer"]) < EXACT


def test_the_block_matrix_of_residual_is_the_published_one():
    """ResiDual: [[J_N (I + J_F), 0], [J_F, I]] with the gains at their start, on the lanes (x₁, x₂)."""
    wiring = cases.ALL["residual"](cases.NORMS["layernorm"])
    model, params, x = cases.deepest(wiring)
    sub, own = model.sublayers[1], jax.tree.map(lambda a: a[0], params["stack"][0]["gated"])
    gains = {name: getattr(wiring, name).init(None, cases.WIDTH) for name in ("skip", "read", "write")}
    parts = bind(sub.layers, {**own, **jax.tree.map(lambda a: a.astype(float), gains)})
    one = x[0].size
    J = cases.jit(jax.jacobian(lambda x: sublayer(x, **parts)))(x).reshape(2, one, 2, one)
    branch = cases.jit(jax.jacobian(parts["branch"]))(x[0]).reshape(one, one)
    of_norm = jax.jacobian(lambda u: sub.wiring.norm_out.layers[0](own["norm_out"]["1"], u))
    norm = cases.jit(lambda x: of_norm(x + parts["branch"](x)))(x[0]).reshape(one, one)
    zero, eye = np.zeros((one, one)), np.eye(one)
    published = np.block([[norm @ (eye + branch), zero], [branch, eye]])
    assert distance(J.reshape(2 * one, 2 * one), published) < EXACT


@over_wirings
def test_the_walk_equals_python_loops_over_the_published_formulas(wiring):
    model, params, x = cases.deepest(wiring)
    slow = reference.stream(model, params, x)[1:]
    assert per_sublayer(first_order(wiring)["y"], np.stack(slow)).max() < EXACT


def counting(parts):
    """Parts that note the order in which (1) calls them."""
    called = []
    return decorated(parts, lambda name, part: lambda u: (called.append(name), part(u))[1]), called


def test_equation_one_calls_each_part_once_and_adds_once():
    double = {name: (lambda u, n=i: (n + 2) * u) for i, name in enumerate(PARTS)}
    parts, called = counting(double)
    skip, read, norm_in, branch, norm_branch, write, norm_out = (i + 2 for i in range(7))
    assert sublayer(1.0, **parts) == norm_out * (skip + write * norm_branch * branch * norm_in * read)
    assert sorted(called) == sorted(PARTS)


def test_absent_parts_cost_nothing():
    nothing = {name: lambda u: u for name in PARTS}
    equations = jax.make_jaxpr(lambda x: sublayer(x, **nothing))(jnp.ones(3)).eqns
    assert [e.primitive.name for e in equations] == ["add"]


def test_equation_one_acts_on_whatever_its_parts_act_on():
    parts = {name: lambda text: text for name in PARTS} | {
        "branch": lambda text: f"F({text})",
        "norm_out": "N({})".format,
    }
    assert sublayer("x", **parts) == "N(xF(x))"


def test_recorded_looks_at_each_part_where_the_equation_calls_it():
    parts = {name: lambda u: u + 1 for name in PARTS}
    y, seen = recorded(parts, 0.0, at=lambda part, u: (part(u), u))
    assert y == sublayer(0.0, **parts)
    assert seen == {"skip": 0, "read": 0, "norm_in": 1, "branch": 2, "norm_branch": 3, "write": 4, "norm_out": 6}


# ---- the walk -----------------------------------------------------------------------------------------------


def two_segments():
    """A stack whose first two blocks are post-norm and whose last three are pre-norm with one sublayer a block."""
    branches = cases.TWO
    first = Segment(tuple(Sublayer(kind, post(), branch) for kind, branch in branches.items()), 2)
    second = Segment((Sublayer("gated", pre(), branches["gated"]),), 3)
    stack = Stack((first, second))
    params = stack.init_sublayers(jax.random.key(0), cases.WIDTH)
    return stack, cases.float64(params)


def test_reports_and_extras_come_in_depth_order_over_several_segments():
    stack, params = two_segments()
    x = cases.normal(cases.TOKENS, cases.WIDTH)
    visit = lambda x, parts, extra: (sublayer(x, **parts), {"x": x, "extra": extra})
    extras = {"number": np.arange(7), "pair": np.arange(14).reshape(7, 2)}
    top, report = cases.jit(lambda params, x, extras: walk(stack, params, x, visit, extras))(params, x, extras)
    np.testing.assert_array_equal(report["extra"]["number"], np.arange(7))
    np.testing.assert_array_equal(report["extra"]["pair"], np.arange(14).reshape(7, 2))
    order = [(0, l, kind) for l in range(2) for kind in cases.TWO] + [(1, l, "gated") for l in range(3)]
    parts = {(i, sub.kind): sub.layers for i, segment in enumerate(stack.segments) for sub in segment.block}
    alone = {
        place: cases.jit(lambda p, x, layers=layers: sublayer(x, **bind(layers, p))) for place, layers in parts.items()
    }
    for position, (segment, l, kind) in enumerate(order):
        np.testing.assert_allclose(report["x"][position], x, rtol=1e-12, atol=1e-12)
        x = alone[segment, kind](jax.tree.map(lambda a, l=l: np.asarray(a)[l], params[segment][kind]), x)
    np.testing.assert_allclose(top, x, rtol=1e-12, atol=1e-12)


def test_the_forward_visit_reports_nothing():
    stack, params = two_segments()
    x = cases.normal(cases.TOKENS, cases.WIDTH)
    assert walk(stack, params, x)[1] is None
    assert forward(x, {name: lambda u: u for name in PARTS}, None)[1] is None


def test_the_program_does_not_grow_with_depth():
    def program(depth):
        model = cases.model(pre(), depth, cases.TWO)
        params = jax.eval_shape(model.init, jax.random.key(0))
        x = jax.ShapeDtypeStruct((cases.TOKENS, cases.WIDTH), jnp.float32)
        text = str(jax.make_jaxpr(lambda p, x: walk(model.stack, p, x)[0])(params["stack"], x))
        return re.sub(r"\s+", "", text.replace(str(depth), "depth"))

    assert program(771) == program(773)


def test_a_walk_with_too_few_parameters_is_an_error():
    stack, params = two_segments()
    with pytest.raises(ValueError, match="shorter"):
        walk(stack, params[:1], cases.normal(cases.TOKENS, cases.WIDTH))


@pytest.mark.parametrize(("backend", "hidden"), [("cpu", False), ("gpu", True)])
def test_products_with_weights_are_kept_and_on_the_cpu_none_wider_than_its_input(backend, hidden, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    over = lambda size, hidden: [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((5, size), (size, hidden))]
    product = {"dimension_numbers": (((1,), (0,)), ((), ()))}
    kept = lambda *sizes: products(jax.lax.dot_general_p, *over(*sizes), **product)
    assert kept(8, 8)
    assert kept(32, 8)
    assert kept(8, 32) == hidden
    scores = {"dimension_numbers": (((2,), (2,)), ((0,), (0,)))}
    assert not products(jax.lax.dot_general_p, *[jax.ShapeDtypeStruct((2, 5, 8), jnp.float32)] * 2, **scores)
    assert not products(jax.lax.sin_p, jax.ShapeDtypeStruct((5, 8), jnp.float32))


# ---- the budget ---------------------------------------------------------------------------------------------


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
        assert abs(on_path.sum() - total) < ADDS_UP * max(1, abs(on_path).sum())


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
        np.testing.assert_allclose(bottom.ravel(), slow_bottom, rtol=0, atol=ADDS_UP * np.linalg.norm(slow_bottom))
        np.testing.assert_allclose(gains, slow, rtol=0, atol=ADDS_UP)


@over_wirings
def test_the_interference_is_twice_the_inner_products_of_the_arms(wiring):
    for depth in cases.DEPTHS:
        _, shares, _, _ = read_budget(wiring, depth)
        _, slow, _ = by_matrices(wiring, depth)
        np.testing.assert_allclose(shares, slow, rtol=ADDS_UP, atol=ADDS_UP)
        np.testing.assert_allclose(slow.sum(-1), 1, rtol=ADDS_UP)


@over_wirings
def test_what_one_backward_pass_reads_adds_up_under_a_real_loss(wiring):
    """From the embedding to what is read out: the stack's budget plus the gain of the final norm."""
    reading = cases.read(wiring)["reading"]
    on_path = reading["budget"][:, [FACTORS.index("norm_out"), FACTORS.index("fork")]].sum()
    total = np.log(reading["stream_gradient"][0] / reading["readout_gradient"])
    assert on_path + reading["leave_gain"] == pytest.approx(total, abs=ADDS_UP)
    np.testing.assert_allclose(reading["split"].sum(-1), 1, rtol=ADDS_UP)


@pytest.mark.parametrize("name", ["pre", "post"])
def test_an_absent_part_has_no_gain(name):
    reading = cases.read(cases.ALL[name](cases.NORMS["layernorm"]))["reading"]["budget"]
    absent = {"pre": ("norm_out", "write", "norm_branch", "read"), "post": ("write", "norm_branch", "norm_in", "read")}
    columns, gains = [FACTORS.index(factor) for factor in absent[name]], FACTORS.index("gains")
    assert abs(reading[:, columns]).max() < 1e-14
    assert np.isnan(reading[:, gains]).all()
    assert abs(np.delete(reading, [*columns, gains], axis=1)).min() > 1e-6
