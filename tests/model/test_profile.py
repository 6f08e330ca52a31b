"""The profiling pass of Admin: its numbers by a loop, who profiles, and what stays as it is."""

import json

import cases
import jax
import numpy as np
import pytest
import reference

import gradflow as gf
from gradflow.model.parameters.depth import Profiled
from gradflow.model.parameters.keys import at, root
from gradflow.results.configuration import decode, encode

DEPTH = 3


@pytest.fixture(scope="module")
def model():
    return gf.transformer("admin", depth=DEPTH, width=8, heads=2, context=5, vocabulary=cases.VOCABULARY)


def omegas(model) -> np.ndarray:
    """ω of every sublayer, in depth order."""
    values = {sub.kind: sub.wiring.skip.value.values for sub in model.stack.segments[0].block}
    return np.array([values[sub.kind][i // 2] for i, sub in enumerate(model.sublayers)])


def by_hand(model, key) -> np.ndarray:
    """Liu et al. 2020: forward with ω = 1, the variance of every sublayer's output in turn, mean over examples."""
    params = cases.float64(model.init(at(root(key), "seed", 0)))
    variances = []
    for tokens in cases.batch()["inputs"]:
        x, own = reference.embedded(model, params, tokens), []
        for l in range(DEPTH):
            for sub in model.stack.segments[0].block:
                p = jax.tree.map(lambda a, l=l: a[l], params["stack"][0][sub.kind])
                own.append(np.var(reference.apply(sub.branch, p["branch"], x)))
                x = reference.sublayer("post", reference.norm_of(sub.wiring), sub.branch, p, x, DEPTH, l + 1)
        variances.append(own)
    before = np.cumsum(np.mean(variances, 0)) - np.mean(variances, 0)
    return np.sqrt(1 + before)


def test_omega_is_one_plus_the_variances_below(model):
    filled = gf.profiled({"admin": model}, cases.batch(), key=3)["admin"]
    np.testing.assert_allclose(omegas(filled), by_hand(model, 3), rtol=1e-5)
    assert omegas(filled)[0] == 1
    start = filled.init(0)["stack"][0]
    for kind, p in start.items():
        first = next(i for i, sub in enumerate(filled.sublayers) if sub.kind == kind)
        np.testing.assert_allclose(p["skip"]["gain"], np.outer(omegas(filled)[first::2], np.ones(8)), rtol=1e-6)
    assert decode(json.loads(json.dumps(encode(filled)))) == filled


def test_a_stack_of_segments_is_profiled_block_by_block(model):
    two = gf.Transformer(
        gf.Stack((gf.Segment(model.stack.segments[0].block, 1), gf.Segment(model.stack.segments[0].block, 2))),
        8,
        model.embedding,
    )
    one, parts = (gf.profiled({"m": m}, cases.batch())["m"] for m in (model, two))
    kinds = lambda m: [[sub.wiring.skip.value.values for sub in segment.block] for segment in m.stack.segments]
    (whole,), (first, rest) = kinds(one), kinds(parts)
    for kind in range(2):
        np.testing.assert_allclose(first[kind], [whole[kind][0], 1, 1], rtol=1e-6)
        np.testing.assert_allclose(rest[kind], [1, *whole[kind][1:]], rtol=1e-6)


def test_what_needs_no_profile_or_has_one_stays_as_it_is(model):
    filled = gf.profiled({"admin": model}, cases.batch())["admin"]
    pre = gf.transformer("pre", depth=1, width=8, heads=2, context=5)
    again = gf.profiled({"admin": filled, "pre": pre}, cases.batch(seed=1), key=9)
    assert again["admin"] is filled
    assert again["pre"] is pre
    deeper = gf.profiled({"admin": filled.at_depth(5)}, cases.batch())["admin"]
    assert {len(sub.wiring.skip.value.values) for sub in deeper.stack.segments[0].block} == {5}
    assert model.sublayers[0].wiring.skip.value == Profiled()


@pytest.mark.long
def test_measurement_training_and_theory_profile_by_themselves():
    data = gf.data.text(context=8, batch=2)
    models = gf.transformers("admin", depth=2, width=16, heads=2, context=8)
    filled = encode(gf.profiled(models, data, key=1)["admin"])
    _, run = gf.train(models, data, gf.Recipe(), steps=1, record=(0,), seeds=2, key=1, readings="economy")
    for tree in (gf.measure(models, data, seeds=2, key=1), gf.predict(models, data, draws=1, replicas=2, key=1), run):
        assert json.loads(tree["admin"].attrs["configuration"]) == filled
