"""Signal: rms and token cosine against brute force, and what a sublayer reports against the unrolled stack."""

from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from gradflow.instruments.meters import signal


def rms(x):
    return np.sqrt(np.mean(np.square(np.asarray(x))))


def test_the_token_cosine_is_the_mean_over_pairs_of_different_tokens():
    x = cases.normal(7, 4) + 0.5
    assert signal.token_cosine(x) == pytest.approx(reference.token_cosine(x), rel=1e-12)
    two = jnp.stack([x, -3 * x + 1])
    by_example = [reference.token_cosine(row) for row in two]
    assert signal.token_cosine(two) == pytest.approx(np.mean(by_example), rel=1e-12)


def test_collapsed_tokens_have_cosine_one_and_orthogonal_ones_zero():
    v = cases.normal(6)
    scales = jnp.array([1.0, 2.0, 5.0])[:, None]
    assert signal.token_cosine(scales * v) == pytest.approx(1, rel=1e-12)
    assert signal.token_cosine(3 * jnp.eye(4)) == pytest.approx(0, abs=1e-15)
    assert signal.token_cosine(jnp.stack([v, -v])) == pytest.approx(-1, rel=1e-12)


def test_zero_tokens_count_as_orthogonal():
    x = cases.normal(4, 6).at[1].set(0)
    others = [t for t in range(4) if t != 1]
    by_pairs = 3 * 2 * reference.token_cosine(np.asarray(x)[others]) / (4 * 3)
    assert signal.token_cosine(x) == pytest.approx(by_pairs, rel=1e-12)


def test_a_single_token_has_no_cosine():
    assert np.isnan(signal.token_cosine(cases.normal(1, 4)))
    assert np.isnan(signal.token_cosine(cases.normal(4)))


def test_the_mean_square_is_taken_in_float32_or_better():
    assert signal.mean_square(jnp.full(1000, 300.0, jnp.float16)) == pytest.approx(90_000)  # beyond float16's range
    assert signal.mean_square(jnp.full(3, 2.0, jnp.float64)).dtype == jnp.float64


@cache
def streams(wiring) -> list:
    """`[x_0, …, x_S]` of each example of `cases.read`, by loops."""
    read = cases.read(wiring)
    model = read["model"]

    @cases.jit
    def run(params, inputs):
        used = model.with_context(params, inputs)
        return reference.stream(model, used, reference.embedded(model, used, inputs))

    return [jax.device_get(run(read["params"], example["inputs"])) for example in reference.examples(read["batch"])]


@cases.over_wirings
def test_stream_rms_and_token_cosine_equal_the_unrolled_ones(wiring):
    read = cases.read(wiring)
    reading = read["reading"]
    by_depth = [np.stack(pair) for pair in zip(*streams(wiring), strict=True)]
    np.testing.assert_allclose(reading["stream_rms"], [rms(x) for x in by_depth], rtol=1e-10)
    lanes = [x.reshape(-1, *x.shape[-2:]) for x in by_depth]
    cosines = [np.mean([reference.token_cosine(lane) for lane in x if lane.any()]) for x in lanes]
    np.testing.assert_allclose(reading["token_cosine"], cosines, rtol=1e-10, atol=1e-12)


SKIP = {"pre": lambda x: x, "post": lambda x: x, "deepnorm": lambda x: 6**0.25 * x}
ARM = {
    "pre": lambda F, norm, p, x: F(reference.apply(norm, p["norm_in"], x)),
    "post": lambda F, norm, p, x: F(x),
    "deepnorm": lambda F, norm, p, x: F(x),
}


@pytest.mark.parametrize("name", SKIP)
def test_skip_and_branch_rms_are_those_of_the_two_terms(name):
    wiring = cases.ALL[name](cases.NORMS["layernorm"])
    read = cases.read(wiring)
    model, params, reading = read["model"], read["params"], read["reading"]
    for position, sub in enumerate(model.sublayers):
        own = jax.tree.map(lambda a, l=position // 2: a[l], params["stack"][0][sub.kind])
        F = lambda u, own=own, sub=sub: reference.apply(sub.branch, own["branch"], u)
        branch = [ARM[name](F, cases.NORMS["layernorm"], own, x[position]) for x in streams(wiring)]
        skip = [SKIP[name](x[position]) for x in streams(wiring)]
        assert reading["skip_rms"][position] == pytest.approx(rms(np.stack(skip)), rel=1e-10)
        assert reading["branch_rms"][position] == pytest.approx(rms(np.stack(branch)), rel=1e-10)
    np.testing.assert_allclose(reading["branch_to_skip"], reading["branch_rms"] / reading["skip_rms"], rtol=1e-12)
