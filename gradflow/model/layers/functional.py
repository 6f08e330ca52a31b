"""The functions that layers are made of: activations and normalization; with own derivatives where that is faster.

A rule here is the derivative written out, with what it needs from the forward pass named once: what a compiler derives by
itself sums more often, and computes again what several readers share.

Axes: x is [tokens, features].
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import erf

from ..numerics.precision import in_float32, with_leading_axes


def gelu(u):
    """Returns `u Φ(u)` (Hendrycks and Gimpel 2016, eq. 1), by erf: erfc is far slower."""
    return u * (1 + erf(u / 2**0.5)) / 2


def gelu_sigmoid(u):
    """Returns `u σ(1.702 u)`, which is near GELU (Hendrycks and Gimpel 2016, section 2)."""
    return u * jax.nn.sigmoid(1.702 * u)


def identity(u):
    """Returns `u`."""
    return u


ACTIVATIONS: dict[str, Callable] = {
    "relu": jax.nn.relu,
    "gelu": gelu,
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "gelu_sigmoid": gelu_sigmoid,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "erf": erf,
    "linear": identity,
}


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def standardized(x, eps: float, centred: bool):
    """Returns `(x − mean)/σ` over features, `σ² = mean((x − mean)²) + eps`, in float32 or better; not centred: mean 0."""
    return _hat_and_scale(x, eps, centred)[0]


@standardized.defjvp
def _(eps, centred, primals, tangents):
    """`dx̂ = (dx − mean(dx) − x̂ mean(x̂ dx))/σ`.

    Backward, the barrier is where a gradient comes out: without it a compiler computes it again for each of its readers.
    """
    (x,), (dx,) = primals, tangents
    hat, scale = _hat_and_scale(x, eps, centred)
    dx = jax.lax.optimization_barrier(dx).astype(hat.dtype)
    change = dx - hat * _mean(hat * dx)
    if centred:
        change = change - _mean(dx)
    return hat, scale * change


def _hat_and_scale(x, eps, centred):
    """Returns `x̂` and `1/σ`."""
    x = in_float32(x)
    if centred:
        x = x - _mean(x)
    scale = jax.lax.rsqrt(_mean(x * x) + eps)
    return x * scale, scale


def affine(x, kernel, bias=None):
    """Returns `x W + b` of tokens x [..., d], W a kernel [d, h], with gradients that the CPU takes fast: `(gᵀ x)ᵀ` and `gᵀ 1`.

    Its products read their left factor by rows: by itself XLA takes `xᵀ g`, at half the speed. And it sums columns entry by
    entry, each computed again. So g is written down once, and both gradients are products with gᵀ.
    """
    last = x.ndim - 1
    y = jax.lax.dot_general(x, written(kernel.T), (((last,), (1,)), ((), ())))
    if bias is not None:
        ones = jnp.ones_like(x, shape=(*x.shape[:last], 1))
        y = y + _outer(ones, bias)
    return written(y)


@jax.custom_jvp
def written(x):
    """Returns `x`, whose gradient is written down, as it stands, before it is read."""
    return x


@written.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return written(x), jax.lax.optimization_barrier(dx)


@jax.custom_jvp
def _outer(column, row):
    """Returns `column ⊗ row` of a column [..., 1] that no gradient goes to, and a row [h], to which goes a product."""
    return column * with_leading_axes(row, column)


@_outer.defjvp
def _(primals, tangents):
    (column, row), (_, change) = primals, tangents
    last = column.ndim - 1
    return _outer(column, row), jax.lax.dot_general(column, change[:, None], (((last,), (1,)), ((), ())))


def largest(values, number: int):
    """Returns 1 at the `number` largest of the last axis, else 0; the first of equal ones."""
    places = jax.lax.top_k(values, number)[1]
    return jnp.put_along_axis(jnp.zeros_like(values), places, 1, axis=-1, inplace=False)


def _mean(x):
    """Returns the mean over features, the axis kept."""
    return jnp.mean(x, axis=-1, keepdims=True)
