"""The composite gain of skip matrices, against products written out."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments import composite
from gradflow.model.layers.lanes import mixed
from gradflow.model.layers.norms import RMSNorm
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.transformer import Transformer, staged
from gradflow.model.wirings.catalogue import placement
from gradflow.model.wirings.multi_lane import hyper_connections, residual
from gradflow.model.wirings.wiring import Wiring

gain, skips, products = (
    jax.jit(function, static_argnums=0) for function in (composite.gain, composite.matrices, composite.products)
)


def stack(where, depth: int = 3) -> Transformer:
    """A small transformer in one placement."""
    return Transformer(staged(where, cases.TWO, depth), cases.WIDTH, Embedding(cases.VOCABULARY, cases.TOKENS))


@pytest.fixture(scope="module")
def small():
    return stack(hyper_connections(RMSNorm()))


def with_matrices(model, noise, seed: int = 0):
    """Parameters in float64 whose skip matrices are `noise(shape)`, and those matrices in depth order [S, n, n]."""
    params = cases.float64(model.init(seed))
    stacked = dict(params["stack"][0])
    drawn = {kind: noise(stacked[kind]["skip"]["matrix"].shape) for kind in stacked}
    stacked = {kind: {**own, "skip": {"matrix": jnp.asarray(drawn[kind])}} for kind, own in stacked.items()}
    in_order = np.stack([drawn[kind] for kind in drawn], axis=1)
    return {**params, "stack": (stacked,)}, in_order.reshape(-1, *in_order.shape[2:])


def composites(matrices):
    """`A_S … A_(l+1)` for l = 0 … S."""
    made = [np.eye(matrices.shape[-1])]
    for a in matrices[::-1]:
        made.append(made[-1] @ a)
    return np.stack(made[::-1])


def two_sided(matrices):
    """[S+1, side]."""
    return np.stack([np.abs(np.log(np.abs(matrices.sum(axis)))).max(-1) for axis in (-1, -2)], axis=-1)


def moved(shape):
    """Identities, moved at random."""
    return np.eye(shape[-1]) + 0.4 * np.random.default_rng(shape[0]).normal(size=shape)


def test_the_products_are_those_of_the_matrices_sublayer_by_sublayer(small):
    """Attention and feed-forward are positions of their own."""
    params, matrices = with_matrices(small, moved)
    inputs = cases.batch()["inputs"][0]
    found = skips(small, params, inputs)
    assert found.shape == (6, cases.TOKENS, 4, 4)
    assert np.abs(np.asarray(found) - matrices[:, None]).max() < 1e-14
    made = products(small, params, inputs)
    assert cases.distance(made, np.broadcast_to(composites(matrices)[:, None], made.shape)) < 1e-13


def test_the_gain_is_the_largest_log_of_the_sums_of_rows_and_of_columns(small):
    params, matrices = with_matrices(small, moved)
    found = gain(small, params, cases.batch())["composite_gain"]
    expected = two_sided(composites(matrices))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (np.asarray(found)[:-1] > 0.1).all()
    assert (np.asarray(found)[-1] == 0).all()


def test_the_backward_sums_are_what_the_skips_do_to_a_cotangent_that_is_the_same_in_all_lanes(small):
    """By the transpose that the backward pass takes: the branches are silenced, so that the stream is its skips alone."""
    params, _ = with_matrices(small, moved)
    silent = jax.tree_util.tree_map_with_path(
        lambda path, a: jnp.zeros_like(a) if "'write'" in jax.tree_util.keystr(path) else a, params["stack"]
    )
    through = jax.jit(lambda x: gf.walk(small.stack, silent, x)[0])
    x = cases.normal(4, cases.TOKENS, cases.WIDTH)
    top, pull = jax.vjp(through, x)
    pulled = pull(jnp.ones_like(top))[0]
    found = gain(small, params, cases.batch())["composite_gain"][0]
    assert float(jnp.abs(jnp.log(jnp.abs(pulled[:, 0, 0]))).max()) == pytest.approx(float(found[1]), rel=1e-12)
    pushed = through(jnp.ones_like(x))
    assert float(jnp.abs(jnp.log(jnp.abs(pushed[:, 0, 0]))).max()) == pytest.approx(float(found[0]), rel=1e-12)


def test_no_depth_underflows():
    """400 sublayers that halve one lane and double another: 2^±400 is beyond float32."""
    halves = Wiring("halves", skip=mixed((0.5, 0.0), (0.0, 2.0)), read=residual().read, write=residual().write)
    deep = stack(gf.Placement("halves", (gf.Stage((halves,)),)), 200)
    batch = {"inputs": jnp.ones((1, 2, 4, cases.WIDTH), jnp.float32)}
    found = gain(EntersAsItIs(deep), deep.init(0), batch)["composite_gain"]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found[0], 400 * np.log(2), rtol=1e-5)


class EntersAsItIs:
    """A stack whose inputs are its stream."""

    def __init__(self, model):
        self.stack = model.stack

    def enter(self, params, inputs):
        return inputs


def test_a_lane_that_receives_nothing_is_infinitely_attenuated(small):
    def drop(shape):
        return np.broadcast_to(np.diag([1.0, 1.0, 1.0, 0.0]), shape)

    params, _ = with_matrices(small, drop)
    found = np.asarray(gain(small, params, cases.batch())["composite_gain"])
    assert np.isinf(found[:-1]).all()
    assert (found[-1] == 0).all()


def test_lanes_that_keep_to_themselves_have_a_gain_of_zero():
    """ResiDual's, and those of hyper-connections at the start."""
    for where in (placement("residual"), hyper_connections(RMSNorm())):
        model = stack(where)
        found = gain(model, model.init(0), cases.batch())["composite_gain"]
        assert found.shape == (7, 2)
        assert (found == 0).all()


def test_it_is_measured_by_its_name(small):
    """A stream of one lane beside it reads NaN."""
    tree = gf.measure(
        {"hyper": small, "one": stack(placement("pre"))}, cases.batch(), seeds=2, quantities=("composite_gain",)
    )
    for name, node in tree.children.items():
        values = node["composite_gain"]
        assert values.dims == ("seed", "depth", "side")
        assert values["side"].values.tolist() == ["forward", "backward"]
        assert (values.isnull() if name == "one" else values == 0).all()
    frame = gf.report.tables.profile(tree, "composite_gain", side="forward").dropna(subset=["mean"])
    assert frame["model"].tolist() == ["hyper"] * 7
    assert frame["mean"].tolist() == [0] * 7


# ---- Xie et al. 2025 (mHC) ----------------------------------------------------------------------------------


def test_a_one_sided_maximum_misses_a_lane_that_is_lost(small):
    """The largest |sum| of section 3.1 stays 1 while one lane is halved by every sublayer; the two-sided gain sees 2⁻⁶."""
    params, matrices = with_matrices(small, lambda shape: np.broadcast_to(np.diag([1.0, 1.0, 1.0, 0.5]), shape))
    one_sided = [np.abs(composites(matrices)[0].sum(axis)).max() for axis in (-1, -2)]
    assert one_sided == [1.0, 1.0]
    found = gain(small, params, cases.batch())["composite_gain"]
    np.testing.assert_allclose(found[0], 6 * np.log(2), rtol=1e-14)


def test_the_gain_of_doubly_stochastic_matrices_is_zero_at_any_depth():
    """Section 4.1: rows and columns that sum to 1 are closed under products; lanes mix all the same."""
    deep = stack(hyper_connections(RMSNorm()), 24)

    def doubly_stochastic(shape):
        random = np.random.default_rng(0)
        permutations = np.eye(shape[-1])[[random.permutation(shape[-1]) for _ in range(3 * shape[0])]]
        return np.einsum("m,lmij->lij", (0.6, 0.3, 0.1), permutations.reshape(-1, 3, *shape[1:]))

    params, _ = with_matrices(deep, doubly_stochastic)
    found = gain(deep, params, cases.batch())["composite_gain"]
    np.testing.assert_allclose(found, 0.0, atol=1e-13)
    across = products(deep, params, cases.batch()["inputs"][0])[0]
    np.testing.assert_allclose(across, 0.25, atol=1e-3)


def test_attenuation_forward_and_backward_are_told_apart(small):
    """A lane that is copied over the others: rows sum to 1, all cotangents fall to that lane."""

    def copied(shape):
        return np.broadcast_to(0.1 * np.eye(4) + 0.9 * np.eye(4)[0], shape)

    params, _ = with_matrices(small, copied)
    forward, backward = np.asarray(gain(small, params, cases.batch())["composite_gain"][0])
    assert forward < 1e-14
    assert backward == pytest.approx(6 * np.log(10), rel=1e-12)
