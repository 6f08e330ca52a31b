"""Dropout against masks drawn by hand: what is dropped, where, and that gradients are those of what was kept."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.meters.dropout import Dropout, dropped, with_dropout
from gradflow.interop.functions import FunctionStack
from gradflow.model.equation.sublayer import forward, sublayer, walk
from gradflow.model.layers.attention import attend
from gradflow.model.parameters import keys
from gradflow.model.parameters.names import parameter_names
from gradflow.model.wirings.wiring import sandwich

EXACT = 1e-10
RATE = 0.3
KEY = jax.random.key(5)
MODEL = cases.model(sandwich(), 2, cases.TWO)  # a norm behind the branch: it sees what was kept
SUBLAYERS, EXAMPLES = 4, 2


# ---- of one array -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_mean_over_keys_is_what_was_there(rate):
    x, draws = cases.normal(5, 8), 4000
    found = jax.vmap(lambda key: dropped(x, rate, key))(jax.random.split(KEY, draws))
    sem = np.abs(x) * (rate / (1 - rate) / draws) ** 0.5  # of x · Bernoulli/(1 − rate)
    z = (found.mean(0) - x) / sem
    assert np.abs(z).max() < 4.5  # of 40 entries
    assert abs(np.mean(z)) < 4 / 40**0.5


def test_an_entry_is_zero_or_scaled_and_zero_with_that_probability():
    x = cases.normal(100, 400)
    found = np.asarray(dropped(x, RATE, KEY))
    kept = found != 0
    np.testing.assert_allclose(found[kept], np.asarray(x)[kept] / (1 - RATE), rtol=1e-15)
    assert abs(1 - kept.mean() - RATE) < 4 * (RATE * (1 - RATE) / x.size) ** 0.5


def test_what_is_dropped_is_dropped_whatever_it_is_and_the_type_stays():
    x = jnp.full((4, 50), jnp.nan, jnp.bfloat16)
    found = dropped(x, 0.5, KEY)
    assert found.dtype == jnp.bfloat16
    assert 0 < int((found == 0).sum()) < x.size


# ---- in a stack ---------------------------------------------------------------------------------------------


def masks(key, tokens: int = cases.TOKENS):
    """`1/(1 − rate)` where an entry is kept, at the embedding and behind every branch, of one example's key."""
    draw = lambda k: jax.random.bernoulli(k, jnp.float32(1 - RATE), (tokens, cases.WIDTH)) / (1 - RATE)
    return [draw(k) for k in jax.random.split(key, SUBLAYERS + 1)]


def loss_by_hand(params, example, key, nudges):
    """`x + N(m ⊙ F(N x))` from `m_0 ⊙ embedding`, sublayer by sublayer; `nudges` [S + 1] are added to the stream."""
    apply, kept = reference.apply, masks(key)
    x = kept[0] * reference.embedded(MODEL, params, example["inputs"]) + nudges[0]
    for at in range(SUBLAYERS):
        sub = MODEL.stack.segments[0].block[at % 2]
        own = jax.tree.map(lambda a, l=at // 2: a[l], params["stack"][0][sub.kind])
        y = apply(sub.branch, own["branch"], apply(sub.wiring.norm_in, own["norm_in"], x))
        x = x + apply(sub.wiring.norm_branch, own["norm_branch"], kept[at + 1] * y) + nudges[at + 1]
    return reference.cross_entropy(
        reference.linear(params["readout"], reference.leave(MODEL, params, x)), example["targets"]
    )


@pytest.fixture(scope="module")
def read():
    params, batch = cases.drawn(MODEL), cases.batch(EXAMPLES)
    how = {"dropout": Dropout(RATE, KEY)}
    grads, reading = jax.device_get(cases.jit(lambda p, b: gradients.backward(MODEL, p, b, **how))(params, batch))
    return params, batch, grads, reading


@pytest.fixture(scope="module")
def slow(read):
    """Mean loss and gradients over the examples, by hand."""
    params, batch, *_ = read
    zeros = jnp.zeros((SUBLAYERS + 1, cases.TOKENS, cases.WIDTH))
    pairs = list(zip(reference.examples(batch), jax.random.split(KEY, EXAMPLES), strict=True))
    pull = jax.value_and_grad(loss_by_hand, (0, 3))
    each = jax.device_get(cases.jit(lambda p: [pull(p, *pair, zeros) for pair in pairs])(params))
    losses, grads = zip(*each, strict=True)
    parameters, streams = zip(*grads, strict=True)
    return np.mean(losses), jax.tree.map(lambda *g: np.mean(g, axis=0), *parameters), np.stack(streams) / EXAMPLES


def test_a_backward_pass_under_dropout_is_the_one_by_hand_with_the_same_masks(read, slow):
    _, _, grads, reading = read
    loss, parameters, streams = slow
    assert reading["loss"] == pytest.approx(loss, rel=EXACT)
    by_hand = np.sqrt((streams**2).sum((0, 2, 3)))
    np.testing.assert_allclose(reading["stream_gradient"], by_hand, rtol=EXACT)
    errors = cases.distances(grads, parameters)
    assert max(errors.values()) < EXACT


def test_norms_of_parameters_are_those_of_the_gradients_under_dropout(read, slow):
    _, _, _, reading = read
    names = parameter_names(MODEL.stack, slow[1]["stack"])
    own = slow[1]["stack"][0]["gated"]["branch"]["down"].kernel[...][1]
    found = reading["parameter_gradient"][3, names.index("down")]
    assert found == pytest.approx(np.linalg.norm(own), rel=EXACT)


def test_the_budget_adds_up_and_the_split_sums_to_one_under_dropout(read):
    reading = read[3]
    total = np.log(reading["stream_gradient"][:-1] / reading["stream_gradient"][1:])
    np.testing.assert_allclose(reading["budget"][:, [0, 1]].sum(1), total, rtol=EXACT, atol=EXACT)
    np.testing.assert_allclose(reading["split"].sum(1), 1, rtol=EXACT)


def test_with_nothing_dropped_no_number_changes(read):
    params, batch, _, under = read
    zero = {"dropout": Dropout(0.0, KEY)}
    a, b = (
        jax.device_get(cases.jit(lambda p, b, how=how: gradients.backward(MODEL, p, b, **how))(params, batch))
        for how in (zero, {})
    )
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-13, err_msg=jax.tree_util.keystr(path))
    assert under["loss"] != b[1]["loss"]


# ---- masks --------------------------------------------------------------------------------------------------


@cases.jit
def dropped_places(x, key):
    """What was dropped [B, position, T, d] of a stack whose stream is the masks themselves: every layer gives ones."""
    ones = FunctionStack(lambda w, x: w + 0 * x, SUBLAYERS, lambda params, x, y: jnp.sum(x))
    params = ones.params(jnp.ones((SUBLAYERS, 1)))
    seen = lambda x, parts, _: (y := sublayer(x, **parts), y)

    def example(x, key):
        bottom, *inside = jax.random.split(key, SUBLAYERS + 1)
        below = dropped(x, RATE, bottom)
        _, above = walk(ones.stack, params["stack"], below, with_dropout(seen, RATE), (None, jnp.stack(inside)))
        return jnp.concatenate([below[None], above])

    return jax.vmap(example)(x, jax.random.split(key, len(x))) == 0


def drops(key):
    return np.asarray(dropped_places(jnp.ones((3, 12, 60)), key))


def test_a_mask_is_of_its_own_for_every_example_position_token_and_feature():
    """Any two of their rows agree as often as independent ones do: `rate² + (1 − rate)²`."""
    gone = drops(KEY)
    assert gone.shape == (3, SUBLAYERS + 1, 12, 60)
    expected, spread = RATE**2 + (1 - RATE) ** 2, 5  # standard errors
    for axis in range(4):
        first, rest = gone.take([0], axis), gone.take(range(1, gone.shape[axis]), axis)
        for i in range(rest.shape[axis]):
            other = rest.take([i], axis)
            assert abs((first == other).mean() - expected) < spread * (expected * (1 - expected) / first.size) ** 0.5


def test_masks_follow_the_key_alone():
    np.testing.assert_array_equal(drops(KEY), drops(KEY))
    assert (drops(KEY) != drops(jax.random.key(6))).mean() > 0.3


def test_the_visit_inside_gets_its_own_extra():
    """What a visit is handed besides, dials or positions, comes through beside the key."""
    inside = lambda x, parts, extra: (forward(x, parts, None)[0], extra)
    params, x = cases.drawn(MODEL), cases.normal(cases.TOKENS, cases.WIDTH)
    extra = (jnp.arange(SUBLAYERS), jax.random.split(KEY, SUBLAYERS))
    _, seen = walk(MODEL.stack, params["stack"], x, with_dropout(inside, RATE), extra)
    assert seen.tolist() == list(range(SUBLAYERS))


# ---- probabilities of attention -----------------------------------------------------------------------------


def test_probabilities_of_attention_are_dropped_by_a_mask_for_every_example_and_sublayer():
    """A backward pass beside the stack by hand, whose attention has the masks that the keys say."""
    model = gf.transformer("pre", depth=2, width=8, heads=2, vocabulary=11, context=cases.TOKENS)
    attention = model.stack.different[0].branch
    params = cases.float64(model.init(jax.random.key(0)))
    inputs, targets = np.random.default_rng(0).integers(0, 11, (2, EXAMPLES, cases.TOKENS))
    batch = {"inputs": jnp.asarray(inputs), "targets": jnp.asarray(targets)}
    dropout = Dropout(0.0, KEY, RATE)

    def attended(params, u, key):
        q, k, v = attention.queries_keys_values(params, u)
        kept = jax.random.bernoulli(key, jnp.float32(1 - RATE), (2, len(u), len(u))) / jnp.float32(1 - RATE)
        return params["out"](attend(q, k, v, kept=kept))

    def loss_by_hand(params, inputs, targets, key):
        x = model.enter(params, inputs)
        for position, own in enumerate(jax.random.split(keys.at(key, "attention"), SUBLAYERS)):
            parts = model.stack.parts_at(params["stack"], position)
            if position % 2 == 0:
                block = jax.tree.map(lambda a, l=position // 2: a[l], params["stack"][0]["attention"]["branch"])
                parts["branch"] = lambda u, block=block, own=own: attended(block, u, own)
            x = sublayer(x, **parts)
        return model.loss(params, model.leave(params, x), targets)

    def by_hand(params):
        return jax.vmap(loss_by_hand, (None, 0, 0, 0))(params, inputs, targets, jax.random.split(KEY, EXAMPLES)).mean()

    read = lambda p: gradients.backward(model, p, batch, dropout=dropout)
    grads, reading = jax.device_get(cases.jit(read)(params))
    loss, expected = jax.device_get(cases.jit(jax.value_and_grad(by_hand))(params))
    assert reading["loss"] == pytest.approx(loss, rel=1e-7)  # the rate is a number of float32
    assert max(cases.distances(grads, expected).values()) < 1e-6
    assert reading["loss"] != pytest.approx(float(gradients.bare_loss(model, params, batch)), rel=1e-3)


def test_what_has_no_attention_cannot_drop_its_probabilities():
    data = gf.data.text(context=4, batch=2)
    recipe = gf.Recipe(attention_dropout=0.1)
    plain = gf.transformer("pre", depth=1, width=8, attention=gf.branches.FeedForward())
    with pytest.raises(ValueError, match="model has no attention whose probabilities could be dropped"):
        gf.train({"model": plain}, data, recipe, steps=1, seeds=1)
    with pytest.raises(ValueError, match=r"attention_dropout is 1.0: a finite number from 0 below 1"):
        gf.Recipe(attention_dropout=1.0)
