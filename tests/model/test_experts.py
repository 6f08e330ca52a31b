"""Experts: what a router chooses, what a mixture is where all are chosen, and the reading of their load."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.model.branches.branch import GatedFeedForward
from gradflow.model.branches.experts import MATRICES, Experts, SigmoidRouter, SoftmaxRouter
from gradflow.model.layers.lanes import Then
from gradflow.model.layers.layer import Plus
from gradflow.model.layers.norms import Capped, Clipped

X = jnp.asarray(np.random.default_rng(0).normal(size=(50, 8)))
LOGITS, BALANCE = X @ jnp.ones((8, 12)) + 3 * np.random.default_rng(1).normal(size=(50, 12)), jnp.linspace(-1, 1, 12)
BALANCED = {"balance": BALANCE}


def chosen_slowly(scores, router) -> set[int]:
    """The experts of one token, by sorting."""
    groups = np.split(np.arange(router.experts), router.groups)
    best = sorted(groups, key=lambda g: -np.sort(scores[g])[-2:].sum())[: router.active_groups]
    allowed = sorted(np.concatenate(best), key=lambda e: -scores[e])
    return set(allowed[: router.active])


@pytest.mark.parametrize("router", [SigmoidRouter(12, 3), SigmoidRouter(12, 3, 4, 2), SigmoidRouter(12, 4, 6, 2, 2.5)])
def test_the_chosen_are_the_largest_of_the_best_groups_and_their_weights_sum_to_the_scale(router):
    gates = np.asarray(router(LOGITS, BALANCED))
    scores = 1 / (1 + np.exp(-np.asarray(LOGITS)))
    np.testing.assert_allclose(gates.sum(1), router.scale, rtol=1e-12)
    for token in range(len(gates)):
        chosen = chosen_slowly(scores[token] + np.asarray(BALANCE), router)
        assert set(np.flatnonzero(gates[token])) == chosen
        own = scores[token] * [e in chosen for e in range(12)]
        np.testing.assert_allclose(gates[token], router.scale * own / own.sum(), rtol=1e-12)


def test_the_balance_moves_the_choice_and_has_no_gradient():
    router = SigmoidRouter(12, 3)
    favoured = router(LOGITS, {"balance": BALANCE.at[5].set(100.0)})
    assert (favoured[:, 5] > 0).all()
    assert not (router(LOGITS, BALANCED)[:, 5] > 0).all()
    assert not jax.grad(lambda b: jnp.sum(router(LOGITS, {"balance": b}) ** 2))(BALANCE).any()


def test_one_expert_that_all_tokens_have_is_a_feed_forward_network():
    layer = Experts(SigmoidRouter(1, 1), shared=0, ratio=2)
    params = cases.float64(layer.init(jax.random.key(0), 8))
    alone = jax.tree.map(lambda a: a[0], params["routed"])
    np.testing.assert_allclose(layer(params, X), GatedFeedForward(2)(alone, X), rtol=1e-6, atol=1e-6)
    assert "shared" not in params


BOUNDED = {"on_gate": Capped(0.7), "on_up": Then((Clipped(0.7), Plus(1.0)))}


def test_bounded_experts_with_biases_are_those_of_gpt_oss_written_out():
    """`(clip(u) + 1) g σ(1.702 g)` of bounded gates g, a softmax of the largest logits, biases of every matrix."""
    layer = Experts(SoftmaxRouter(5, 2), 0, 2, "gelu_sigmoid", bias=True, **BOUNDED)
    params = jax.tree.map(lambda a: a + 0.4 * cases.normal(*a.shape), cases.float64(layer.init(jax.random.key(0), 8)))
    at = lambda of, e: [np.asarray(array[...])[e] for array in (of.kernel, of.bias)]
    affine = lambda x, weights: x @ weights[0] + weights[1]
    expected = np.zeros_like(X)
    for token, x in enumerate(np.asarray(X)):
        logits = affine(x, at(params["router"], slice(None)))
        chosen = np.argsort(-logits)[:2]
        weights = np.exp(logits[chosen]) / np.exp(logits[chosen]).sum()
        for weight, e in zip(weights, chosen, strict=True):
            gate, up = (affine(x, at(params["routed"][name], e)) for name in ("gate", "up"))
            gate, up = np.minimum(gate, 0.7), np.clip(up, -0.7, 0.7)
            hidden = (up + 1) * gate / (1 + np.exp(-1.702 * gate))
            expected[token] += weight * affine(hidden, at(params["routed"]["down"], e))
    np.testing.assert_allclose(cases.jit(layer)(params, X), expected, rtol=1e-10, atol=1e-10)


def test_a_bias_is_that_of_a_matrix_that_it_names():
    def names(bias) -> set[str]:
        params = Experts(bias=bias).init(jax.random.key(0), 8)
        return {
            name for name, own in ({**params, **params["routed"]}).items() if name in MATRICES and own.bias is not None
        }

    assert [names(bias) for bias in (False, True, ("router", "down"))] == [set(), {*MATRICES}, {"router", "down"}]
    with pytest.raises(ValueError, match="no matrix, whose bias is asked for: 'gates': did you mean 'gate'"):
        Experts(bias=("gates",)).init(jax.random.key(0), 8)


def test_experts_are_drawn_apart_and_more_of_them_change_none():
    few, many = (Experts(SigmoidRouter(n, 2), ratio=2).init(jax.random.key(0), 8) for n in (3, 5))
    kernels = many["routed"]["up"].kernel[...]
    assert kernels.shape == (5, 8, 16)
    assert (kernels[0] != kernels[1]).all()
    assert (few["routed"]["up"].kernel[...] == kernels[:3]).all()
    assert few["shared"]["up"].kernel.shape == (8, 16)


def test_the_load_is_nothing_where_a_stack_has_no_experts():
    small = gf.transformer("pre", depth=1, width=8, heads=2, context=4)
    tokens = jnp.zeros((2, 4), int)
    node = gf.measure(small, {"inputs": tokens, "targets": tokens}, seeds=1, quantities=["gate_entropy"])["model"]
    assert node["expert_load"].shape == (1, 2, 1)
    assert all(np.isnan(node[name]).all() for name in ("expert_load", "gate_entropy", "load_violation"))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((8, 2, 3), "groups must divide"), ((8, 5, 4, 2), "2 of 4 groups hold 4"), ((8, 2, 2, 3), "3 of 2 groups")],
)
def test_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        SigmoidRouter(*sizes)
