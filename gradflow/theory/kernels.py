"""Kernels of activations: `E φ(u)φ(v)` and `E φ'(u)φ'(v)` for a Gaussian pair, from its covariance.

The first is what a hidden layer does to the Gram matrix of its input, the second what it does to that of a tangent and, by
transposition, of a cotangent. By Price's theorem (1958) the second is the derivative of the first with respect to the
covariance c of u and v. ReLU and GELU have closed forms; any other φ is expanded in Hermite polynomials.

Axes: the covariance is [N, N] over tokens; a and b are the variances of u and v.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..model.layers.functional import ACTIVATIONS

DEGREE = 32  # of the expansion
# Of the trapezoidal rule, which on what falls as a Gaussian errs as exp(-2π d/h): d to the nearest pole.
REACH = 16
NODES = 401


class Kernel(NamedTuple):
    """`value = E φ(u)φ(v)` and `slope = E φ'(u)φ'(v)`, each [N, N]."""

    value: Float[Array, "token token"]
    slope: Float[Array, "token token"]


def kernel(activation: str, covariance: Float[Array, "token token"]) -> Kernel:
    """Returns the kernels of an activation (a name in `ACTIVATIONS`) for Gaussian pre-activations of mean zero.

    Cost: O(N²). Closed forms are exact to rounding; the others to 1e-4 at unit variance, and exactly on the diagonal.

    >>> import jax.numpy as jnp
    >>> [round(float(k[0, 0]), 4) for k in kernel("relu", jnp.ones((1, 1)))]
    [0.5, 0.5]
    """
    if activation in CLOSED:
        variance = jnp.diag(covariance)
        a = variance[:, None]
        b = variance[None, :]
        return CLOSED[activation](a, b, covariance)
    return expanded(ACTIVATIONS[activation], covariance)


def linear(a, b, c) -> Kernel:
    """Returns the kernels of φ(u) = u."""
    return Kernel(c, jnp.ones_like(c))


def relu(a, b, c) -> Kernel:
    """Returns the arc-cosine kernels of degree 1 and 0 (Cho and Saul 2009, eq. 3 and 6)."""
    scale = _root(a * b)
    cosine = _cosine(c, scale)
    sine = _root(1 - cosine**2)
    angle = jnp.arctan2(sine, cosine)
    remainder = jnp.pi - angle
    value = scale * (sine + remainder * cosine)
    circle = 2 * jnp.pi
    return Kernel(value / circle, remainder / circle)


def _root(square):
    """Returns `√x`, with derivative 0 where x is not positive: what it multiplies in a kernel is 0 there."""
    positive = square > 0
    inside = jnp.where(positive, square, 1)
    return jnp.where(positive, jnp.sqrt(inside), 0)


def _cosine(c, scale):
    """Returns `c/scale`, 0 where there is nothing, between −1 and 1; rounding beyond them does not stop a derivative."""
    divisor = jnp.where(scale > 0, scale, 1)
    cosine = c / divisor
    clipped = jnp.clip(cosine, -1, 1)
    rounding = clipped - cosine
    return cosine + jax.lax.stop_gradient(rounding)


def gelu(a, b, c) -> Kernel:
    """Returns the kernels of φ(u) = u Φ(u).

    By integration by parts (Tsuchida et al. 2021, proposition 2 has the same kernel).
    """
    p = 1 + a
    q = 1 + b
    slack = p * q - c**2
    sine = c / jnp.sqrt(p * q)
    angle = jnp.arcsin(sine)
    both = 1 / 4 + angle / (2 * jnp.pi)  # E Φ(u)Φ(v)
    peak = 1 / (2 * jnp.pi * jnp.sqrt(slack))  # E Φ'(u)Φ'(v)
    inverses = 1 / p + 1 / q - 1
    cross = a * b + c**2 * inverses
    value = c * both + peak * cross
    slope_of_cross = c + c * cross / slack + 2 * c * inverses
    slope = both + peak * slope_of_cross
    return Kernel(value, slope)


def erf(a, b, c) -> Kernel:
    """Returns the kernels of φ(u) = erf u: the arcsine kernel (Williams 1997, eq. 11), and its derivative."""
    p = 1 + 2 * a
    q = 1 + 2 * b
    slack = p * q
    sine = 2 * c / jnp.sqrt(slack)
    value = 2 / jnp.pi * jnp.arcsin(sine)
    root = jnp.sqrt(slack - 4 * c**2)
    slope = 4 / jnp.pi / root
    return Kernel(value, slope)


CLOSED: dict[str, Callable[..., Kernel]] = {"linear": linear, "relu": relu, "gelu": gelu, "erf": erf}


def mean(activation: str, variance):
    """Returns `E φ(u)` for Gaussian u of mean zero and each variance; by quadrature where there is no closed form here.

    >>> round(float(mean("relu", jnp.ones(()))), 4)
    0.3989
    """
    if activation == "relu":
        return jnp.sqrt(variance / (2 * jnp.pi))
    if activation == "gelu":
        square = 2 * jnp.pi * (1 + variance)
        return variance / jnp.sqrt(square)
    nodes, weights, _ = _hermite(variance.dtype)
    std = jnp.sqrt(variance)
    u = jnp.multiply.outer(std, nodes)
    values = ACTIVATIONS[activation](u)
    return values @ weights


# ---- every other activation ---------------------------------------------------------------------------------


def expanded(function: Callable, covariance: Float[Array, "token token"]) -> Kernel:
    """Returns both kernels by Hermite expansion: `E φ(u)φ(v) = Σ_k φ_k(a) φ_k(b) ρ^k`, ρ the correlation.

    (Daniely et al. 2016, eq. 8.) Coefficients by the trapezoidal rule. What is left of `E φ²` beyond the last degree is taken at
    the next one, so that the diagonal is exact and an error falls as the correlation's power.
    """
    std = _root(jnp.diag(covariance))
    scale = jnp.outer(std, std)
    cosine = _cosine(covariance, scale)
    derivative = jax.vmap(jax.vmap(jax.grad(function)))
    value = _series(function, std, cosine)
    slope = _series(derivative, std, cosine)
    return Kernel(value, slope)


def _series(function: Callable, std, cosine):
    """Returns `Σ_k φ_k(s_t) φ_k(s_s) ρ_ts^k`, by Horner's rule."""
    nodes, weights, polynomials = _hermite(std.dtype)
    u = std[:, None] * nodes[None]
    values = function(u)
    weighted = values * weights[None]
    coefficients = weighted @ polynomials
    square = (values**2) @ weights
    rest = square - jnp.sum(coefficients**2, axis=1)
    at_next_degree = _root(jnp.maximum(rest, 0))
    total = jnp.zeros_like(cosine)
    for term in reversed([*coefficients.T, at_next_degree]):
        square = jnp.outer(term, term)
        total = total * cosine + square
    return total


def _hermite(dtype) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns nodes and weights of `E f(z)`, `z ~ N(0, 1)`, and the orthonormal Hermite polynomials [node, degree] there."""
    nodes = np.linspace(-REACH, REACH, NODES)
    density = np.exp(-(nodes**2) / 2)
    weights = density / density.sum()
    before = np.ones_like(nodes)
    last = nodes
    polynomials = [before, last]
    for k in range(2, DEGREE):
        unscaled = nodes * last - (k - 1) ** 0.5 * before
        before = last
        last = unscaled / k**0.5
        polynomials.append(last)
    matrix = np.stack(polynomials, axis=1)
    return (
        jnp.asarray(nodes, dtype),
        jnp.asarray(weights, dtype),
        jnp.asarray(matrix, dtype),
    )
