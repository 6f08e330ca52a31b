"""Where random numbers come from: pairing bit by bit, and the standard deviation that each initialization promises."""

import dataclasses
import math

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import as_users

from gradflow.instruments.seeds import seed_keys
from gradflow.model.branches.branch import GatedFeedForward
from gradflow.model.parameters.depth import OfDepth, resolved
from gradflow.model.parameters.initializers import (
    INITIALIZATIONS,
    FanIn,
    Matrix,
    Normal,
    Scaled,
    WidthScaled,
    Xavier,
    draw,
    initialization,
)
from gradflow.model.parameters.keys import at, root
from gradflow.model.stacks.stack import Segment, Stack, Sublayer
from gradflow.model.stacks.transformer import Transformer, transformer, transformers
from gradflow.model.wirings.catalogue import WIRINGS
from gradflow.model.wirings.wiring import post, pre

SHAPE = {"width": 8, "heads": 2, "context": 5, "vocabulary": 11}


def flat(tree) -> dict:
    """Arrays by path."""
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def assert_bit_equal(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


def initial(model, key):
    """Its parameters, drawn in one compiled call, as a measurement draws them."""
    return as_users(model.init)(root(key))


@pytest.mark.parametrize("name", [name for name, make in WIRINGS.items() if name != "pre" and not make().init_scales])
def test_two_wirings_with_one_seed_share_every_common_draw_bit_by_bit(name):
    models = transformers("pre", name, depth=2, **SHAPE)
    ours, theirs = (flat(model.init(3)) for model in models.values())
    drawn = {path for path, leaf in ours.items() if leaf.std() > 0}
    assert len(drawn) == 2 + 4 + 2 + 1  # two embeddings, four projections, two of the feed-forward, the readout
    assert drawn <= theirs.keys()
    for path in ours.keys() & theirs.keys():
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)


def test_deepnorm_shares_every_draw_up_to_beta():
    """Wang et al. 2022, figure 2: β multiplies value, output and feed-forward projections, not query and key."""
    depth = 3
    ours, theirs = (
        model.init(3)["stack"][0] for model in transformers("pre", "deepnorm", depth=depth, **SHAPE).values()
    )
    beta = (8 * depth) ** -0.25
    for kind, scale in {
        "attention": {"query": 1, "key": 1, "value": beta, "out": beta},
        "mlp": {"up": beta, "down": beta},
    }.items():
        for name, factor in scale.items():
            kernels = (np.asarray(side[kind]["branch"][name].kernel) for side in (theirs, ours))
            scaled, bare = kernels
            np.testing.assert_allclose(scaled, factor * bare, rtol=0 if factor == 1 else 3e-7)


def test_adding_a_sublayer_to_a_block_shifts_nothing():
    sublayers = [Sublayer(kind, pre(), branch) for kind, branch in cases.TWO.items()]
    more = [sublayers[0], Sublayer("third", pre(), GatedFeedForward(1)), sublayers[1]]
    small, large = (Transformer(Stack((Segment(tuple(block), 2),)), 8).init(0) for block in (sublayers, more))
    kept = {kind: params for kind, params in large["stack"][0].items() if kind != "third"}
    assert_bit_equal(small, {**large, "stack": (kept,)})
    third, gated = (large["stack"][0][kind]["branch"]["up"].kernel for kind in ("third", "gated"))
    assert not np.isin(np.asarray(third), np.asarray(gated)).any()


def test_a_deeper_stack_begins_with_the_layers_of_a_shallower_one():
    shallow, deep = (initial(transformer("post", depth=depth, **SHAPE), 1) for depth in (2, 5))
    assert_bit_equal(shallow, {**deep, "stack": jax.tree.map(lambda a: a[:2], deep["stack"])})


@pytest.mark.further
def test_a_stack_of_two_segments_draws_as_a_stack_of_one():
    """Mix-LN, post-norm first and pre-norm after, has the weights of the pure stacks."""
    block = lambda wiring: tuple(Sublayer(kind, wiring, branch) for kind, branch in cases.TWO.items())
    mixed = initial(Transformer(Stack((Segment(block(post()), 2), Segment(block(pre()), 3))), 8), 0)
    whole = initial(Transformer(Stack((Segment(block(pre()), 5),)), 8), 0)
    for kind in cases.TWO:
        first, second = (segment[kind]["branch"] for segment in mixed["stack"])
        assert_bit_equal(
            jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second), whole["stack"][0][kind]["branch"]
        )


@pytest.mark.long
def test_seeds_by_vmap_are_bit_equal_to_single_draws():
    model = transformer("deepnorm", depth=2, **SHAPE)
    keys = seed_keys(5, 3)
    together = as_users(jax.vmap(model.init))(keys)
    for i in range(3):
        assert_bit_equal(jax.tree.map(lambda a, i=i: a[i], together), initial(model, keys[i]))


def test_the_key_of_a_seed_does_not_depend_on_how_many_there_are():
    few, many = (jax.random.key_data(seed_keys(5, n)) for n in (2, 7))
    np.testing.assert_array_equal(few, many[:2])
    assert len(np.unique(many, axis=0)) == 7


def test_no_two_weights_share_a_draw():
    params = flat(transformer("pre", depth=3, **SHAPE).init(0))
    drawn = {path: leaf for path, leaf in params.items() if leaf.std() > 0}
    normals = np.concatenate([(leaf / leaf.std()).ravel() for leaf in drawn.values()])
    raw = np.concatenate([leaf.ravel() for leaf in drawn.values()])
    assert len(np.unique(raw)) == len(raw)
    assert abs(normals.mean()) < 4 * len(normals) ** -0.5


def test_the_key_of_a_place_depends_on_every_step_of_its_path():
    key = root(0)
    paths = [(), ("a",), ("b",), ("a", 0), ("a", 1), (0, "a"), ("a", "b"), ("b", "a"), ("ab",)]
    data = [tuple(jax.random.key_data(at(key, *path)).tolist()) for path in paths]
    assert len(set(data)) == len(paths)


def test_the_key_of_a_place_takes_traced_numbers():
    key = root(0)
    mapped = jax.vmap(lambda i: jax.random.key_data(at(key, "seed", i)))(jnp.arange(3))
    np.testing.assert_array_equal(mapped, [jax.random.key_data(at(key, "seed", i)) for i in range(3)])


def test_the_key_of_a_known_place_is_a_constant_of_a_program():
    program = jax.make_jaxpr(lambda x: jax.random.normal(at(root(0), "probe", 3), x.shape) + x)(jnp.zeros(2))
    names = {equation.primitive.name for equation in program.eqns}
    assert "random_bits" in str(program)
    assert not names & {"random_seed", "random_fold_in", "random_wrap"}


def test_an_integer_is_the_seed_of_a_key():
    assert (root(7) == jax.random.key(7)).all()
    assert (root(jax.random.key(7)) == jax.random.key(7)).all()


# ---- standard deviations ------------------------------------------------------------------------------------

SIDES = Matrix("value", 96, 200, 128)


@pytest.mark.parametrize("name", [name for name in INITIALIZATIONS if name != "xiong"] + [FanIn(2**0.5)], ids=str)
def test_weights_have_the_standard_deviation_they_promise(name):
    weights = resolved(initialization(name), 12)
    sample = np.asarray(draw(weights, jax.random.key(0), SIDES), float)
    promised = weights.std(SIDES)
    assert sample.shape == (96, 200)
    assert abs(sample.std() / promised - 1) < 4 / math.sqrt(2 * sample.size)
    assert abs(sample.mean()) < 4 * promised / math.sqrt(sample.size)


def test_the_named_standard_deviations_are_the_published_ones():
    at_768 = Matrix("up", 768, 3072, 768)
    assert FanIn().std(at_768) == pytest.approx(768**-0.5)
    assert FanIn(2**0.5).std(at_768) == pytest.approx((2 / 768) ** 0.5)  # He et al. 2015, eq. 10
    assert Xavier().std(at_768) == pytest.approx((2 / (768 + 3072)) ** 0.5)  # Glorot and Bengio 2010, eq. 12
    assert initialization("bert").std(at_768) == pytest.approx(0.02)
    assert initialization("bert").std(at_768._replace(width=192)) == pytest.approx(0.04)
    assert initialization("bert_literal").std(at_768._replace(width=192)) == 0.02


def test_xiong_sets_query_and_key_to_zero():
    weights = initialization("xiong")
    for name in ("query", "key", "value", "out", "up", "down"):
        sides = SIDES._replace(name=name)
        assert weights.std(sides) == (0 if name in ("query", "key") else Xavier().std(sides))


def test_gpt2_scales_the_residual_outputs_by_the_number_of_residual_layers():
    weights = resolved(initialization("gpt2"), 48)
    for name in ("query", "key", "value", "up"):
        assert weights.std(SIDES._replace(name=name)) == 0.02
    for name in ("out", "down"):
        assert weights.std(SIDES._replace(name=name)) == pytest.approx(0.02 / math.sqrt(2 * 48))


def test_numbers_of_depth_are_filled_in_wherever_they_sit():
    nested = Scaled(Scaled(WidthScaled(), (("up", OfDepth(8, -0.25)),)), (("up", OfDepth(2, 0.25)), ("out", 3.0)))
    found = resolved(((nested, "text"), None), 2)
    assert found == ((Scaled(Scaled(WidthScaled(), (("up", 0.5),)), (("up", 2**0.5), ("out", 3.0))), "text"), None)
    unchanged = Normal(0.1)
    assert resolved(unchanged, 3) is unchanged


def test_a_number_of_depth_that_was_not_filled_in_is_an_error():
    with pytest.raises(AssertionError, match="resolved"):
        Scaled(Normal(), (("value", OfDepth(2, -0.5)),)).std(SIDES)


def test_an_unknown_initialization_lists_the_nearest():
    with pytest.raises(
        ValueError, match=r"no initialization 'xavir': did you mean 'xavier'\? known: fan_in, xavier"
    ) as error:
        initialization("xavir")
    assert "\n" not in str(error.value)


def test_an_initialization_given_as_a_value_passes_through():
    assert initialization(Normal(0.3)) == Normal(0.3)
    assert dataclasses.asdict(Normal(0.3)) == {"sigma": 0.3}
