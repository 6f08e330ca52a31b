"""Stacks and the Transformer around one: against the reference, segments, depth, and errors that name the remedy."""

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import distance

from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward
from gradflow.model.equation.sublayer import PARTS, sublayer, walk
from gradflow.model.layers.layer import Gain, Identity, Layer
from gradflow.model.layers.norms import RMSNorm
from gradflow.model.parameters.depth import OfDepth
from gradflow.model.parameters.initializers import Normal, Scaled, Xavier
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.stack import Segment, Stack, Sublayer, plain, plain_params
from gradflow.model.stacks.transformer import Transformer, transformer, transformers
from gradflow.model.wirings.residual_scaling import deepnorm
from gradflow.model.wirings.wiring import Wiring, none, post, pre

EXACT = 1e-12
SMALL = {"width": 8, "heads": 2, "context": 5, "vocabulary": 11}


@pytest.mark.parametrize("name", ["sandwich", "post", "residual", "hyper"])
def test_logits_and_loss_equal_the_reference(name):
    """The loss of every row of the table is compared in instruments/test_gradients.py."""
    wiring = cases.ALL[name](cases.NORMS["rmsnorm"])
    model = cases.model(wiring, 2, cases.TWO)
    params, example = cases.drawn(model), reference.examples(cases.batch())[0]

    @cases.jit
    def ours(params, example):
        x, _ = walk(model.stack, params["stack"], model.enter(params, example["inputs"]))
        return model(params, example["inputs"]), model.loss(params, model.leave(params, x), example["targets"])

    @cases.jit
    def slow(params):
        top = reference.stream(model, params, reference.embedded(model, params, example["inputs"]))[-1]
        logits = reference.linear(params["readout"], reference.leave(model, params, top))
        return logits, reference.loss(model, params, example)

    for own, expected in zip(ours(params, example), slow(params), strict=True):
        assert distance(own, expected) < EXACT


def test_a_token_without_a_target_is_left_out_of_the_mean():
    model = cases.model(pre(), 1, cases.TWO)
    params, example = cases.drawn(model), reference.examples(cases.batch())[0]
    loss = lambda keep, out: model.loss(params, out[keep], example["targets"][keep])
    keep, every = np.arange(cases.TOKENS) % 2 == 1, np.ones(cases.TOKENS, bool)
    x, _ = walk(model.stack, params["stack"], model.enter(params, example["inputs"]))
    out, some = model.leave(params, x), jnp.where(keep, example["targets"], -1)
    assert distance(model.loss(params, out, some), loss(keep, out)) < EXACT
    gradient = jax.grad(lambda out: model.loss(params, out, some))(out)
    assert distance(gradient[keep], jax.grad(lambda out: loss(keep, out))(out)[keep]) < EXACT
    assert not np.asarray(gradient[~keep]).any()
    assert distance(model.loss(params, out, example["targets"]), loss(every, out)) < EXACT


@pytest.mark.parametrize("kind", ["causal", "bidirectional"])
def test_a_logit_depends_on_later_tokens_only_where_attention_is_bidirectional(kind):
    model = cases.model(pre(), 2, {kind: cases.BRANCHES[kind], "gelu": cases.BRANCHES["gelu"]})
    params = cases.drawn(model)
    x = model.enter(params, cases.batch()["inputs"][0])
    logits = lambda x: params["readout"](model.leave(params, walk(model.stack, params["stack"], x)[0]))
    size = np.abs(np.asarray(jax.jit(jax.jacrev(logits))(x))).max(axis=(1, 3))
    later = np.triu(np.ones((cases.TOKENS, cases.TOKENS), bool), 1)
    assert (size[~later] > 0).all()
    assert (size[later] == 0).all() if kind == "causal" else (size[later] > 0).all()


# ---- segments and depth -------------------------------------------------------------------------------------


def test_sublayers_and_their_parts_come_in_depth_order():
    block = tuple(Sublayer(kind, post(), branch) for kind, branch in cases.TWO.items())
    model = Transformer(Stack((Segment(block, 2), Segment(block[1:], 3))), 8)
    assert [sub.kind for sub in model.sublayers] == ["causal", "gated"] * 2 + ["gated"] * 3
    assert model.depth == 5
    params = cases.float64(model.init(0))["stack"]
    x = cases.normal(cases.TOKENS, 8)
    see = lambda x, parts, _: (sublayer(x, **parts), x)
    _, streams = walk(model.stack, params, x, see)
    for position in (0, 1, 3, 4, -1):
        parts = model.stack.parts_at(params, position)
        assert parts.keys() == set(PARTS)
        following = walk(model.stack, params, x)[0] if position == -1 else streams[position + 1]
        assert distance(sublayer(streams[position], **parts), following) < EXACT


def test_numbers_of_depth_follow_the_whole_stack():
    alpha = lambda model: [segment.block[0].layers["skip"].value for segment in model.stack.resolved]
    model = cases.model(deepnorm(), 8)
    assert alpha(model) == [(2 * 8) ** 0.25]
    assert alpha(model.at_depth(2)) == [(2 * 2) ** 0.25]
    two = Transformer(Stack((model.stack.segments[0], dataclasses.replace(model.stack.segments[0], repeats=24))), 8)
    assert alpha(two) == [(2 * 32) ** 0.25] * 2


def test_at_depth_keeps_the_shares_of_the_segments():
    block = tuple(Sublayer(kind, pre(), branch) for kind, branch in cases.TWO.items())
    model = Transformer(Stack((Segment(block, 2), Segment(block, 4))), 8)
    assert [segment.repeats for segment in model.at_depth(12).stack.segments] == [4, 8]
    assert [segment.repeats for segment in model.at_depth(3).stack.segments] == [1, 2]
    assert [segment.repeats for segment in model.at_depth(4).stack.segments] == [1, 3]  # to whole blocks
    assert [segment.repeats for segment in model.at_depth(1).stack.segments] == [1]
    with pytest.raises(ValueError, match="depth is 0: at least 1 is needed"):
        model.at_depth(0)


def test_the_scales_of_a_wiring_reach_the_branch():
    sub = Sublayer("mlp", Wiring("w", init_scales=(("up", 0.5),)), FeedForward(weights=Xavier()))
    assert sub.layers["branch"].weights == Scaled(Xavier(), (("up", 0.5),))


# ---- embedding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [None, 64])
def test_each_entry_of_the_embedding_has_the_rms_it_says(context):
    embedding = Embedding(512, context, rms=0.3)
    params = embedding.init(jax.random.key(0), 256)
    x = np.asarray(embedding(params, jnp.arange(64)), float)
    assert x.shape == (64, 256)
    assert abs(x.std() / 0.3 - 1) < 4 / np.sqrt(2 * x.size)
    assert ("position" in params) == (context is not None)


def test_more_tokens_than_positions_are_an_error_that_names_the_remedy():
    model = transformer("pre", depth=1, **SMALL)
    with pytest.raises(ValueError, match=r"9 tokens, but .* 5 positions: give it context=9"):
        model(model.init(0), jnp.zeros(9, int))


def test_tokens_must_be_integers():
    """The shapes and types at public boundaries are checked by the import hook of conftest.py."""
    model = transformer("pre", depth=1, **SMALL)
    with pytest.raises(TypeError, match="tokens"):
        model(model.init(0), jnp.zeros(5))


def test_a_model_cast_to_float64_computes_in_float64():
    model = transformer("pre", depth=1, **SMALL)
    params = cases.float64(model.init(0))
    assert jax.eval_shape(model.enter, params, np.arange(5)).dtype == jnp.float64
    assert jax.eval_shape(model, params, np.arange(5)).dtype == jnp.float64


def test_a_float32_model_stays_float32_where_float64_is_enabled():
    model = transformer("layerscale", depth=2, **SMALL)
    params = model.init(0)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert jax.eval_shape(model, params, np.arange(5)).dtype == jnp.float32


def test_a_tuple_of_segments_is_no_stack():
    with pytest.raises(TypeError, match=r"the stack of a Transformer is \(\): a Stack is needed"):
        Transformer((), 8)


# ---- a pure function ----------------------------------------------------------------------------------------


def test_a_pure_function_with_stacked_parameters_is_a_stack():
    function = lambda params, x: jnp.tanh(x @ params["w"] + params["b"][None])
    params = {"w": cases.normal(3, 4, 4, seed=1), "b": cases.normal(3, 4, seed=2)}
    x = cases.normal(5, 4)
    top, _ = walk(plain(function, 3), plain_params(params), x)
    for l in range(3):
        x = np.tanh(np.asarray(x @ params["w"][l]) + np.asarray(params["b"][l]))
    assert distance(top, x) < EXACT


# ---- a transformer by its words -----------------------------------------------------------------------------


def test_a_transformer_is_attention_then_feed_forward():
    model = transformer("sandwich", depth=3, init="bert", norm=RMSNorm(), attention=Attention(4, 2), **SMALL)
    (segment,) = model.stack.segments
    assert [sub.kind for sub in segment.block] == ["attention", "mlp"]
    assert segment.repeats == 3
    assert segment.block[0].branch == Attention(4, 2, weights=model.readout)
    assert segment.block[1].branch == FeedForward(weights=model.readout)
    assert {sub.wiring.norm_branch for sub in segment.block} == {RMSNorm()}
    logits = model(model.init(0), jnp.arange(5))
    assert logits.shape == (5, 11)


def test_transformers_differ_in_their_wiring_alone():
    models = transformers("pre", "post", depth=2, **SMALL)
    bare = [str(model).replace(str(model.stack.segments[0].block[0].wiring), "") for model in models.values()]
    assert list(models) == ["pre", "post"]
    assert bare[0] == bare[1]


def test_a_wiring_of_ones_own_is_named_after_itself():
    mine = Wiring("mine", norm_in=RMSNorm(), write=Gain(0.5))
    assert list(transformers("pre", mine, depth=1, **SMALL)) == ["pre", "mine"]


@dataclasses.dataclass(frozen=True)
class Unweighted(Layer):
    """A branch without an initialization."""

    def init(self, key, width):
        return {}

    def __call__(self, params, x):
        return x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transformer("pre", depth=0), "depth is 0: at least 1 is needed"),
        (lambda: transformer("pre", width=0), "width is 0: at least 1 is needed"),
        (
            lambda: transformer("pre", width=30, heads=4),
            "width = 30 is not a multiple of heads = 4: change one of them",
        ),
        (lambda: transformer("pre", heads=0), "heads is 0: at least 1 is needed"),
        (lambda: transformer("prenorm"), "no wiring 'prenorm'"),
        (lambda: transformer("pre", init="he"), "no initialization 'he'"),
        (lambda: transformers(), "name at least one wiring, for example transformers"),
        (lambda: transformers("pre", pre()), "the wirings need different names"),
        (lambda: Stack(()), "a stack needs at least one segment"),
        (lambda: Segment((), 1), "need different kinds"),
        (lambda: Segment((Sublayer("a", none(), Identity()),) * 2, 1), r"need different kinds, not \['a', 'a'\]"),
        (lambda: Sublayer("a", deepnorm(), Unweighted()).layers, "has no `weights` to scale"),
    ],
)
def test_wrong_stacks_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_numbers_of_depth_in_the_readout_are_filled_in_too():
    weights = Scaled(Normal(0.1), (("readout", OfDepth(1, -0.5)),))
    models = [transformer("pre", depth=depth, init=weights, **SMALL) for depth in (1, 4)]
    one, four = (np.asarray(model.init(0)["readout"].kernel) for model in models)
    np.testing.assert_allclose(one, 2 * four, rtol=1e-6)


def test_a_wiring_that_sets_what_a_branch_does_not_have_is_refused_in_one_line():
    mine = Wiring("mine", inner_layers=(("head_gain", Gain(2.0)),))
    with pytest.raises(ValueError, match="the wiring sets 'head_gain' inside the branch, which FeedForward") as error:
        transformer(mine, depth=1, width=8, heads=2)
    assert "\n" not in str(error.value)
