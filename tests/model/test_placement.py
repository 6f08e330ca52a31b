"""Placements of whole stacks: stages, blocks whose sublayers differ, and the table of all names."""

import json

import cases
import jax
import numpy as np
import pytest
import reference

from gradflow.instruments.backward import gradients
from gradflow.model.equation.sublayer import walk
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.transformer import Transformer, staged, transformer
from gradflow.model.wirings.catalogue import FAMILIES, PLACEMENTS, placement, wirings
from gradflow.model.wirings.multi_lane import b2t, hyper_connections
from gradflow.model.wirings.placement import Placement, Stage, hybrid_norm_star, keel, mix_ln
from gradflow.model.wirings.wiring import Wiring, post, pre
from gradflow.results.configuration import decode, encode

EXACT = 1e-12
BLOCK = {"attention": cases.BRANCHES["causal"], "mlp": cases.BRANCHES["gated"]}


def model(place, depth: int) -> Transformer:
    return Transformer(staged(place, BLOCK, depth), cases.WIDTH, Embedding(cases.VOCABULARY, cases.TOKENS))


# ---- stages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "counts"), [(1, (0, 1)), (4, (1, 3)), (6, (2, 4)), (12, (3, 9)), (48, (12, 36))])
def test_mix_ln_is_post_norm_in_its_first_quarter(depth, counts):
    assert mix_ln().counts(depth) == counts
    names = [sub.wiring.name for sub in model(mix_ln(), depth).sublayers]
    assert names == ["post"] * 2 * counts[0] + ["pre"] * 2 * counts[1]


def test_mix_ln_has_the_final_norm_of_pre_norm():
    assert model(mix_ln(RMSNorm()), 4).sublayers[-1].wiring.leave == RMSNorm()


@pytest.mark.parametrize("place", [keel, hybrid_norm_star])
def test_a_stage_of_a_number_of_blocks_has_them_at_every_depth(place):
    assert [place().counts(depth) for depth in (1, 2, 9)] == [(1, 0), (1, 1), (1, 8)]
    small = model(place(), 3)
    assert [small.at_depth(depth).stack for depth in (2, 9)] == [model(place(), depth).stack for depth in (2, 9)]
    assert [segment.repeats for segment in small.at_depth(1).stack.segments] == [1]
    with pytest.raises(
        ValueError, match="depth is 4: all parts of the stack have a fixed number of blocks, 1 together"
    ):
        small.at_depth(1).at_depth(4)
    assert [segment.repeats for segment in model(place(), 1).at_depth(4).stack.segments] == [4]


def test_the_other_stages_share_what_is_left():
    three = Placement("three", (Stage((post(),), blocks=2), Stage((pre(),), 0.25), Stage((post(),), 0.75)))
    assert [three.counts(depth) for depth in (1, 2, 3, 10)] == [(1, 0, 0), (2, 0, 0), (2, 0, 1), (2, 2, 6)]


def test_a_wiring_stands_everywhere():
    mine = Wiring("mine", norm_in=RMSNorm())
    assert {sub.wiring for sub in model(placement(mine), 3).sublayers} == {mine}
    assert len(model(placement(mine), 3).stack.segments) == 1
    assert placement(mix_ln()) == mix_ln()
    assert placement("peri", RMSNorm()).stages == placement("sandwich", RMSNorm()).stages


# ---- against the papers' formulas ---------------------------------------------------------------------------


def with_gradients(function, params, x, cotangent):
    """`function(params, x)`, and what its transpose makes of the cotangent: gradients of params and of x."""

    @cases.jit
    def both(params, x, cotangent):
        value, pull = jax.vjp(function, params, x)
        return value, pull(cotangent)

    return jax.device_get(both(params, x, cotangent))


def by_hand(small, params, x, norm):
    """Takase et al. 2023, block by block."""
    for l in range(small.depth):
        own = jax.tree.map(lambda a, l=l: a[l], params["stack"][0])
        attention, mlp = own["attention"], own["mlp"]
        y = reference.apply(
            norm, attention["norm_out"]["1"], x + reference.apply(BLOCK["attention"], attention["branch"], x)
        )
        x = reference.apply(norm, mlp["norm_out"]["1"], y + reference.apply(BLOCK["mlp"], mlp["branch"], y) + x)
    return x


@pytest.mark.parametrize("norm", cases.NORMS.values(), ids=cases.NORMS)
def test_b2t_adds_the_blocks_input_before_its_last_norm(norm):
    """Values and gradients, of the stream's bottom and of every weight."""
    small = model(b2t(norm), 3)
    params = cases.drawn(small)
    x = cases.normal(cases.TOKENS, cases.WIDTH)

    def ours(p, x):
        top, _ = walk(small.stack, p["stack"], small.stack.sublayers[0].wiring.enter({}, x))
        return small.leave(p, top)

    pulled = cases.normal(cases.TOKENS, cases.WIDTH, seed=1)
    found, grads = with_gradients(ours, params, x, pulled)
    expected, slow_grads = with_gradients(lambda p, x: by_hand(small, p, x, norm), params, x, pulled)
    assert cases.distance(found, expected) < EXACT
    distances = cases.distances(*({"params": of_params["stack"], "x": of_x} for of_params, of_x in (grads, slow_grads)))
    assert max(d for d in distances.values() if not np.isnan(d)) < EXACT


@pytest.mark.parametrize(("place", "norm"), [(keel, RMSNorm()), (hybrid_norm_star, LayerNorm())])
def test_a_first_block_of_its_own_is_wired_as_its_paper_has_it(place, norm):
    """Chen and Wei 2026, eq. 8 and section 3.1; Zhuo et al. 2025: values and gradients, of the bottom and of every weight."""
    small = model(place(norm), 3)
    params = cases.drawn(small)
    names = [[sub.wiring.name for sub in segment.block] for segment in small.stack.segments]
    assert (
        names
        == {
            keel: [["pre", "keel_first"], ["keel", "keel"]],
            hybrid_norm_star: [["hybrid_norm_first", "pre"], ["hybrid_norm_attention", "hybrid_norm_mlp"]],
        }[place]
    )
    x, pulled = (cases.normal(cases.TOKENS, cases.WIDTH, seed=seed) for seed in (0, 1))
    found, grads = with_gradients(lambda p, x: walk(small.stack, p["stack"], x)[0], params, x, pulled)
    expected, slow_grads = with_gradients(lambda p, x: reference.stream(small, p, x)[-1], params, x, pulled)
    assert cases.distance(found, expected) < EXACT
    # All of them as one vector: a shift of all keys alike has no gradient, but for rounding.
    flat = lambda grads: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves((grads[0]["stack"], grads[1]))])
    assert cases.distance(flat(grads), flat(slow_grads)) < EXACT


@pytest.mark.parametrize("norm", cases.NORMS.values(), ids=cases.NORMS)
def test_hyper_connections_begin_as_pre_norm(norm):
    """Zhu et al. 2024: all lanes are pre-norm's stream. Gradients of the branches' weights are the same, too."""
    hyper, single = model(hyper_connections(norm), 3), model(placement("pre", norm), 3)
    data = cases.batch()
    found, expected = (cases.float64(one.init(0)) for one in (hyper, single))
    losses = [
        cases.jit(jax.value_and_grad(lambda p, one=one: gradients.bare_loss(one, p, data)))(p)
        for one, p in ((hyper, found), (single, expected))
    ]
    (loss, grads), (loss_of_pre, grads_of_pre) = losses
    eps = 1e-5  # the final norm sees the sum of four equal lanes, to which its eps is smaller
    assert abs(loss - loss_of_pre) < eps
    for kind in BLOCK:
        both = (g["stack"][0][kind]["branch"] for g in (grads, grads_of_pre))
        assert max(cases.distances(*both).values()) < 10 * eps


def test_hyper_connections_are_the_published_matrices():
    """Against the sums written out, with matrices that were moved; each sublayer reads the lane whose turn it is."""
    small = model(hyper_connections(RMSNorm()), 3)
    start, params = small.init(0)["stack"][0], cases.drawn(small)
    turns = [np.argmax(np.asarray(start[kind]["read"]["matrix"])[l]) for l in range(3) for kind in BLOCK]
    assert turns == [0, 1, 2, 3, 0, 1]
    x = slow = small.enter(params, cases.batch()["inputs"][0])
    for l in range(3):
        for sub in small.stack.segments[0].block:
            own = jax.tree.map(lambda a, l=l: a[l], params["stack"][0][sub.kind])
            slow = reference.sublayer("hyper", RMSNorm(), sub.branch, own, slow, 3, l + 1)
    assert cases.distance(walk(small.stack, params["stack"], x)[0], slow) < EXACT
    out = reference.apply(RMSNorm(), params["leave"]["2"], slow.sum(0))
    assert cases.distance(small.leave(params, slow), out) < EXACT


# ---- the table ----------------------------------------------------------------------------------------------


def test_the_table_has_every_name_and_ones_own():
    mine = Wiring("mine", norm_in=RMSNorm(), equation="x + F(R x)", source="this test")
    table = wirings(mine)
    assert table.index.is_unique
    assert set(table.index) == {*PLACEMENTS, "mine"} - {"peri", "skipinit"}
    assert list(table.columns) == ["equation", "jacobian", "source", "family"]
    named = table.drop("mine").groupby("family", sort=False)
    assert {title: set(rows.index) for title, rows in named} == {title: set(names) for title, names in FAMILIES.items()}
    assert table.loc["mine", "family"] == "one's own"
    assert (table != "").all(axis=None)
    assert table.loc["mine", "equation"] == "x + F(R x)"


@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_name_makes_a_stack_that_is_written_and_read_back(name):
    made = transformer(name, depth=4, width=8, heads=2, context=5)
    assert made.depth == 4
    assert decode(json.loads(json.dumps(encode(made)))) == made
    assert decode(json.loads(json.dumps(encode(placement(name))))) == placement(name)


# ---- errors -------------------------------------------------------------------------------------------------


def test_an_unknown_wiring_lists_the_nearest():
    with pytest.raises(ValueError, match=r"no wiring 'pst': did you mean 'post'.*known: pre, post") as error:
        placement("pst")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 0.6), (1.5, -0.5)])
def test_shares_must_sum_to_one(shares):
    with pytest.raises(ValueError, match="shares of the stages must be positive and sum to 1"):
        Placement("mine", tuple(Stage((pre(),), share) for share in shares))


def test_a_stage_of_a_number_of_blocks_has_at_least_one_and_leaves_some_to_the_others():
    with pytest.raises(ValueError, match="mine: a stage of 0 blocks"):
        Placement("mine", (Stage((pre(),), blocks=0), Stage((post(),))))
    with pytest.raises(ValueError, match="shares of the stages must be positive and sum to 1"):
        Placement("mine", (Stage((pre(),), blocks=2),))


def test_a_stage_has_one_wiring_or_one_a_sublayer():
    three = Placement("three", (Stage((pre(), post(), pre())),))
    with pytest.raises(ValueError, match="three has 3 wirings for a block of 2 sublayers: give 1 or 2"):
        model(three, 2)
    with pytest.raises(ValueError, match="depth is 0: at least 1 is needed"):
        model(placement("post", LayerNorm()), 0)
