"""Kernels of activations against plain integration over the plane, and the identities between them."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.model.layers.functional import ACTIVATIONS
from gradflow.theory import kernels
from gradflow.theory.kernels import CLOSED, expanded

# Variances and correlation of a pair.
PAIRS = [(1.0, 1.0, 0.3), (1.0, 1.0, 0.95), (2.0, 0.5, 0.7), (1.0, 3.0, -0.6), (4.0, 4.0, 0.0)]
kernel = jax.jit(kernels.kernel, static_argnums=0)
over_activations = pytest.mark.parametrize("name", list(ACTIVATIONS))


def integral(function, a: float, b: float, rho: float) -> float:
    """`E f(u)f(v)` by the trapezoidal rule in two independent normal variables."""
    z = np.linspace(-9, 9, 1501)
    weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    function = jax.jit(function)
    u = jnp.asarray(a**0.5 * z)
    v = jnp.asarray(b**0.5 * (rho * z[:, None] + (1 - rho**2) ** 0.5 * z[None, :]))
    return float(weight @ (np.asarray(function(u))[:, None] * np.asarray(function(v))) @ weight)


def covariance(a: float, b: float, rho: float):
    """The covariance matrix [2, 2] of a pair."""
    return np.array([[a, rho * (a * b) ** 0.5], [rho * (a * b) ** 0.5, b]])


@cache
def elementwise_derivative(function):
    """φ' of an array of any shape."""
    return lambda u: jax.vmap(jax.grad(function))(u.ravel()).reshape(u.shape)


@pytest.mark.parametrize("pair", PAIRS)
@over_activations
def test_the_value_is_the_mean_of_the_product(name, pair):
    value = kernel(name, covariance(*pair)).value[0, 1]
    kink = 1e-4 if name == "relu" else 2e-5  # of the rule, and of the expansion at large variance
    assert abs(value - integral(ACTIVATIONS[name], *pair)) < kink


@pytest.mark.parametrize("pair", PAIRS)
@over_activations
def test_the_slope_is_the_mean_of_the_product_of_the_derivatives(name, pair):
    slope = kernel(name, covariance(*pair)).slope[0, 1]
    jump = 6e-3 if name == "relu" else 1e-4
    assert abs(slope - integral(elementwise_derivative(ACTIVATIONS[name]), *pair)) < jump


@pytest.mark.parametrize("name", list(CLOSED))
def test_the_slope_is_the_derivative_by_the_covariance(name):
    """Price 1958."""
    for a, b, rho in PAIRS:
        c = rho * (a * b) ** 0.5
        _, change = jax.jvp(lambda c, a=a, b=b: CLOSED[name](a, b, c).value, (c,), (1.0,))
        np.testing.assert_allclose(change, CLOSED[name](a, b, c).slope, rtol=1e-12)


@over_activations
def test_it_has_derivatives_where_tokens_are_alike(name):
    """By their covariance the slope (Price 1958), by what they share that of the mean square; none where there is nothing."""
    alike, apart = jnp.full((2, 2), 1.3), jnp.array([[0.0, 1.0], [1.0, 0.0]])
    changed = lambda sigma, by: jax.jvp(lambda s: kernel(name, s).value, (sigma,), (by,))[1]
    np.testing.assert_allclose(changed(alike, apart)[0, 1], kernel(name, alike).slope[0, 1], rtol=1e-5)
    z = jnp.linspace(-9, 9, 1501)
    weight = jnp.exp(-(z**2) / 2) / jnp.exp(-(z**2) / 2).sum()
    expected = jax.grad(lambda v: jnp.sum(weight * ACTIVATIONS[name](v**0.5 * z) ** 2))(1.3)
    np.testing.assert_allclose(changed(alike, jnp.ones((2, 2))), jnp.full((2, 2), expected), rtol=1e-6)
    assert jnp.isfinite(changed(jnp.zeros((2, 2)), apart)).all()


@pytest.mark.parametrize("name", ["gelu", "linear"])
def test_the_expansion_is_the_closed_form(name):
    """At unit variance, where it is used; the closed form of GELU stands for the smooth ones."""
    for rho in (0.0, 0.5, 0.9, 0.99):
        matrix = covariance(1.0, 1.0, rho)
        for series, closed in zip(expanded(ACTIVATIONS[name], matrix), kernel(name, matrix), strict=True):
            np.testing.assert_allclose(series, closed, atol=1e-6)


@over_activations
def test_on_the_diagonal_the_value_is_the_second_moment(name):
    """Also at variances where the series converges slowly: what it leaves out is added."""
    for variance in (0.01, 1.0, 25.0):
        exact = integral(ACTIVATIONS[name], variance, variance, 1.0)
        np.testing.assert_allclose(kernel(name, jnp.full((1, 1), variance)).value[0, 0], exact, rtol=2e-3)


@over_activations
def test_the_kernel_of_a_gram_matrix_is_one(name):
    x = np.random.default_rng(0).normal(size=(6, 40))
    for matrix in kernel(name, jnp.asarray(x @ x.T / 40)):
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
        assert np.linalg.eigvalsh(matrix).min() > -1e-10


@over_activations
def test_a_token_that_is_zero_gives_a_finite_kernel(name):
    for matrix in kernel(name, jnp.array([[0.0, 0.0], [0.0, 1.0]])):
        assert np.isfinite(matrix).all()
