"""Operators between tangent spaces: against bases made by hand, what layers say they couple, and sums of log-volumes."""

from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.instruments.jacobians import jacobians
from gradflow.instruments.jacobians.matrices import blocks, singular_values
from gradflow.instruments.jacobians.operators import operators
from gradflow.instruments.jacobians.spaces import (
    NORMALS,
    Space,
    by_token,
    everything,
    from_tokens,
    orthonormal,
    without,
)
from gradflow.instruments.meters.visits import with_params
from gradflow.model.equation.sublayer import bind, sublayer, walk
from gradflow.model.layers.layer import ALL, COUPLINGS, FEATURES, NOTHING, PAST, Gain, Identity, coupling
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.results.quantities import JACOBIANS

TOKENS, WIDTH = cases.TOKENS, cases.WIDTH
SHARP = {"layernorm": LayerNorm(1e-13), "rmsnorm": RMSNorm(1e-13)}  # eps → 0: what a norm takes is gone
LANES = ("residual", "siamese")  # those whose norms act on the stream
ROWS = [
    pytest.param(cases.ALL[name](SHARP[norm]), id=f"{name}-{norm}")
    for name, norm in cases.NAMES
    if name in LANES or name not in (*cases.LANES, *cases.SIMILAR)
]
over_rows = pytest.mark.parametrize("wiring", ROWS)


@cache
def read(wiring):
    """Of every sublayer: all singular values of every operator with its rank, and the plain dense matrices; numpy."""
    model = cases.model(wiring, 2, cases.TWO)
    params = cases.drawn(model)
    x = model.enter(params, cases.batch()["inputs"][0])

    def visit(carry, own, _):
        y, space, found = operators(*own, *carry)
        every = singular_values(found)
        values = {name: (jnp.sort(every[name].ravel(), descending=True), op.rank) for name, op in found.items()}
        dense = jacobians.matrices(bind(*own), carry[0])
        order = by_token(jnp.arange(y.size).reshape(y.shape)).ravel()
        seen = {"space": carry[1].normals, "above": space.normals, "dense": dense["sublayer"][order][:, order]}
        return (y, space), {"values": values, **seen}

    run = cases.jit(lambda p, x: walk(model.stack, p, (x, everything(x)), visit, bind=with_params)[1])
    return model, jax.device_get(run(params["stack"], x))


def basis(normals):
    """Orthonormal basis [n, dimension] of the space with these normals, by numpy's complete QR, token by token."""
    blocks = []
    for columns in normals:
        kept = columns[:, np.linalg.norm(columns, axis=0) > 0.5]
        blocks.append(np.linalg.qr(kept, mode="complete")[0][:, kept.shape[1] :])
    whole = np.zeros((sum(b.shape[0] for b in blocks), sum(b.shape[1] for b in blocks)))
    row = column = 0
    for b in blocks:
        whole[row : row + b.shape[0], column : column + b.shape[1]] = b
        row, column = row + b.shape[0], column + b.shape[1]
    return whole


def taken(layer) -> int:
    """Directions that a norm, or one in a lane, takes from each token."""
    inner = getattr(layer, "layers", ())
    return sum(map(taken, inner)) if inner else {"LayerNorm": 2, "RMSNorm": 1}.get(type(layer).__name__, 0)


def log_volume(found, name, l):
    values, rank = found["values"][name]
    return np.log(values[l][: rank[l]]).sum()


@pytest.mark.long
@over_rows
def test_norms_take_what_they_must_and_nothing_else_is_missing(wiring):
    """LayerNorm takes two directions a token, RMSNorm one; the singular values beyond the rank are zero to rounding."""
    _, found = read(wiring)
    for name in JACOBIANS:
        values, rank = found["values"][name]
        for l in range(4):
            assert rank[l] == values.shape[1] or values[l][rank[l]] < 1e-12 * values[l][0]
            assert values[l][rank[l] - 1] > 1e-7 * values[l][0]
    whole = {"norm_out": found["dense"].shape[-1] // TOKENS, "norm_in": WIDTH, "norm_branch": WIDTH}
    for name, size in whole.items():
        rank = TOKENS * (size - taken(getattr(wiring, name)))
        if name == "norm_out" or taken(getattr(wiring, name)):
            assert (found["values"][name][1] == rank).all()
        if name == "norm_out":
            assert (found["values"]["sublayer"][1] == rank).all()


@pytest.mark.long
@over_rows
def test_singular_values_are_those_of_the_matrix_between_bases(wiring):
    _, found = read(wiring)
    for l in range(1, 4):
        below, above = basis(found["space"][l]), basis(found["above"][l])
        exact = np.linalg.svd(above.T @ found["dense"][l] @ below, compute_uv=False)
        values, rank = found["values"]["sublayer"]
        np.testing.assert_allclose(values[l][: rank[l]], exact[: rank[l]], rtol=1e-9, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize(
    "wiring", [row for row in ROWS if row.values[0].name != "geonorm"]
)  # whose step is not one to one
def test_log_volumes_of_factors_sum_to_those_of_products(wiring):
    _, found = read(wiring)
    for l in range(1, 4):
        fork_and_norm = log_volume(found, "fork", l) + log_volume(found, "norm_out", l)
        assert log_volume(found, "sublayer", l) == pytest.approx(fork_and_norm, abs=1e-7)
        inner = sum(log_volume(found, name, l) for name in ("norm_in", "branch", "norm_branch"))
        if wiring.name in ("pre", "post", "res_post", "sandwich", "deepnorm", "none"):
            assert log_volume(found, "branch_term", l) == pytest.approx(inner, abs=1e-7)


@pytest.mark.long
@over_rows
def test_log_volumes_of_sublayers_sum_to_that_of_the_chain(wiring):
    """And each is the log-determinant of the matrix between bases."""
    _, found = read(wiring)
    product = np.linalg.multi_dot([found["dense"][l] for l in (3, 2, 1)])
    between = basis(found["above"][3]).T @ product @ basis(found["space"][1])
    sizes, logs = np.linalg.slogdet(between)
    assert abs(sizes) == 1
    assert sum(log_volume(found, "sublayer", l) for l in (1, 2, 3)) == pytest.approx(logs, abs=1e-6)


@pytest.mark.long
@over_rows
def test_the_space_of_the_stream_is_where_the_norm_can_move_it(wiring):
    """By hand: a LayerNorm's output y is orthogonal, in what it can do, to 1/γ and (y − β)/γ²."""
    model, found = read(wiring)
    if not isinstance(wiring.norm_out, LayerNorm | RMSNorm):
        assert found["above"].any() == bool(
            taken(wiring.norm_out)
        )  # of several lanes `basis` and the ranks say the rest
        return
    params = cases.drawn(model)
    x = model.enter(params, cases.batch()["inputs"][0])
    _, streams = walk(model.stack, params["stack"], x, lambda x, parts, _: (sublayer(x, **parts),) * 2)
    y, norm = np.asarray(streams[0]), params["stack"][0]["causal"]["norm_out"]
    gain = np.asarray(norm.scale[...])[0]
    if isinstance(wiring.norm_out, LayerNorm):
        normals = np.stack([np.broadcast_to(1 / gain, y.shape), (y - np.asarray(norm.bias[...])[0]) / gain**2], -1)
    else:
        normals = (y / gain**2)[..., None]
    for rows, given in zip(normals, found["above"][0], strict=True):
        q = np.linalg.qr(rows)[0]
        np.testing.assert_allclose(q @ q.T, given @ given.T, atol=1e-8)


# ---- what layers say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [*cases.BRANCHES.values(), *cases.NORMS.values(), Gain(2.0), Identity()])
def test_a_change_reaches_what_the_layer_says_it_couples_and_no_more(layer):
    x = cases.normal(TOKENS, WIDTH)
    params = cases.float64(layer.init(jax.random.key(0), WIDTH))
    J = np.abs(np.asarray(cases.jit(jax.jacfwd(layer, 1))(params, x))).sum((1, 3))  # [to, from] tokens
    reached = {"nothing": np.eye(TOKENS), FEATURES: np.eye(TOKENS), PAST: np.tril(np.ones((TOKENS, TOKENS)))}
    np.testing.assert_array_equal(J > 0, reached.get(coupling(layer), np.ones((TOKENS, TOKENS))) > 0)


def test_what_does_not_say_couples_all_tokens_and_the_widest_wins():
    assert coupling(lambda params, x: x) == ALL
    assert coupling(Identity(), Gain(2.0), cases.BRANCHES["relu"]) == FEATURES
    assert coupling(cases.BRANCHES["causal"], cases.NORMS["layernorm"]) == PAST
    assert coupling(cases.BRANCHES["causal"], cases.BRANCHES["bidirectional"]) == ALL
    assert coupling() == NOTHING == COUPLINGS[0]


# ---- spaces -------------------------------------------------------------------------------------------------


def test_orthonormal_columns_span_what_is_given_and_drop_what_adds_nothing():
    a, b = cases.normal(3, 9, 2), cases.normal(3, 9, 1, seed=1)
    found = orthonormal(a, a @ jnp.array([[1.0], [2.0]]), b, jnp.zeros((3, 9, 1)), jnp.full((3, 9, 1), jnp.inf))
    assert found.shape == (3, 9, NORMALS)
    assert Space(found).dimension == 3 * (9 - 3)
    for columns, given in zip(np.asarray(found), np.asarray(jnp.concatenate([a, b], -1)), strict=True):
        q = np.linalg.qr(given)[0]
        np.testing.assert_allclose(columns @ columns.T, q @ q.T, atol=1e-12)


def test_projection_keeps_the_space_and_takes_its_normals():
    x = cases.normal(2, 3, 4)  # lanes, tokens, features
    assert by_token(x).shape == (3, 8)
    np.testing.assert_array_equal(from_tokens(by_token(x), x), x)
    normals = orthonormal(cases.normal(3, 8, 2, seed=1))
    once = Space(normals).project(x)
    np.testing.assert_allclose(Space(normals).project(once), once, atol=1e-14)
    np.testing.assert_allclose(jnp.einsum("tck,tc->tk", normals, by_token(once)), 0, atol=1e-14)
    np.testing.assert_array_equal(everything(x).project(x), x)


def test_a_kernel_outside_the_space_costs_nothing():
    """What a norm would take is taken already where the stream comes from the same norm."""
    kernel = orthonormal(cases.normal(3, 9, 2))
    assert Space(without(jnp.zeros_like(kernel), kernel)).dimension == 3 * 7
    assert Space(without(kernel, kernel)).dimension == 3 * 7
    tilted = orthonormal(kernel[..., :2] + 0.05 * cases.normal(3, 9, 2, seed=1))
    assert Space(without(tilted, kernel)).dimension == 3 * 7


@pytest.mark.long
def test_token_blocks_are_the_diagonal_of_the_dense_matrix():
    model = cases.model(cases.ALL["everything"](cases.NORMS["layernorm"]), 1, {"gelu": cases.BRANCHES["gelu"]})
    params = cases.drawn(model)
    x = model.enter(params, cases.batch()["inputs"][0])
    own = model.stack.sublayers[0].layers, jax.tree.map(lambda a: a[0], params["stack"][0]["gelu"])
    _, _, found = operators(*own, x, everything(x))
    for op in found.values():
        apart, whole = blocks(op), blocks(op._replace(couples=ALL))[0]
        assert apart.shape == (TOKENS, WIDTH, WIDTH)
        assert whole.shape == (TOKENS * WIDTH, TOKENS * WIDTH)
        placed = jax.scipy.linalg.block_diag(*apart)
        np.testing.assert_allclose(placed, whole, atol=1e-13)
        np.testing.assert_allclose(blocks(op, memory=1), apart, atol=1e-13)
